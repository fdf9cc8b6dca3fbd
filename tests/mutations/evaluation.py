"Faults of measures and statistics"
from mutations import Mutation

MEASURES, STATISTICS = "rerankers/evaluation/measures.py", "rerankers/evaluation/statistics.py"
OF_MEASURES, OF_STATISTICS = "tests/test_measures.py", "tests/test_statistics.py"

MUTATIONS = [
    Mutation(MEASURES, "if other != i:", "if False:", OF_MEASURES, "two documents become one"),
    Mutation(MEASURES, "key=lambda pair: -pair[1])", "key=lambda pair: (-pair[1], pair[0]))", OF_MEASURES, "ties are broken by id"),
    Mutation(MEASURES, "if doc in best: repeated.append(doc)", "if doc in best: pass", OF_MEASURES, "a repeated document is dropped in silence"),
    Mutation(MEASURES, "if max(grades[q].values()) > 0]", "if grades[q]]", OF_MEASURES, "queries without a relevant document lower every mean"),
    Mutation(MEASURES, "orders.get(q, Order([], [])) for q in counted}", "orders[q] for q in counted if q in orders}", OF_MEASURES,
             "queries for which nothing was found are left out of the mean"),
    Mutation(MEASURES, "for q, ids in orders.items() if ids}", "for q, ids in orders.items()}", OF_MEASURES, "an empty list stops the measurement"),
    Mutation(MEASURES, "sample(sorted(ids), len(ids))", "sample(ids, len(ids))", OF_MEASURES, "the random order depends on the first stage"),
    Mutation(MEASURES, "/ len(groups[key]) for key in keys]", "for key in keys]", OF_MEASURES, "every tied document has the gain of all"),
    Mutation(MEASURES, "[unjudged[n:] for n in range(1, len(unjudged))]", "[]", OF_MEASURES, "the lowest value is not found"),
    Mutation(MEASURES, "in ids[:depth] if doc not in grades]", "in ids if doc not in grades]", OF_MEASURES, "documents below the cutoff move the bounds"),
    Mutation(MEASURES, "if ceiling - first > 1e-12 else None", "if ceiling > first else None", OF_MEASURES, "a gain of all that rounding left"),
    Mutation(STATISTICS, "+ n * np.arange(rows)[:, None]", "", OF_STATISTICS, "all resamples are counted in one row"),
    Mutation(STATISTICS, "return (times_drawn(rng, *means.shape) * means).sum(axis=1)", "return means.mean(axis=1)", OF_STATISTICS,
             "the interval knows nothing of the runs"),
    Mutation(STATISTICS, "generator(seed, 1, crc32(name.encode())) for", "generator(seed, 1, len(scores.names), crc32(name.encode())) for", OF_STATISTICS,
             "an interval depends on who else is compared"),
    Mutation(STATISTICS, "[(1 - level) / 2, (1 + level) / 2]", "[1 - level, level]", OF_STATISTICS, "a 90 % interval"),
    Mutation(STATISTICS, "return (1 + at_least) / (1 + flips)", "return at_least / flips", OF_STATISTICS, "p becomes 0"),
    Mutation(STATISTICS, "highest = max(highest, min((len(order) - rank)", "highest = max(0.0, min((len(order) - rank)", OF_STATISTICS,
             "Holm's p falls where p rises"),
    Mutation(STATISTICS, "rounding(differences)).mean())", "0).mean())", OF_STATISTICS, "sums that rounding moved apart are different"),
    Mutation(STATISTICS, "scaled = differences / np.where(spread > 0, spread, 1.0)", "scaled = differences", OF_STATISTICS,
             "a bad system hides the differences of good ones"),
    Mutation(STATISTICS, "float(lost.mean()) / math.sqrt(2)", "float(lost.mean())", OF_STATISTICS, "the inflation of half of the queries"),
    Mutation(STATISTICS, "sorted(as_texts(next(iter(runs.values()))[0], \"the first system\").values())",
             "list(as_texts(next(iter(runs.values()))[0], \"the first system\").values())", OF_STATISTICS, "numbers depend on the order of the queries"),
]
