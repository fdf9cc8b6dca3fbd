"Faults of test sets, of the files they come from, and of candidates"
from mutations import Mutation

DATA, RUNS, TABLES, FIRST = (f"rerankers/evaluation/{name}.py" for name in ("data", "runs", "tables", "first_stage"))
TESTS, COMMAND = "tests/test_evaluation_data.py", "tests/test_cli_evaluation.py"

MUTATIONS = [
    Mutation(RUNS, "return int(number)", "return int(number > 0)", TESTS + " -k 'beir or trec'", "grades become yes and no"),
    Mutation(RUNS, "[^ \\t\\v\\f]+", "\\S+", TESTS + " -k no_break", "a no-break space ends an id"),
    Mutation(RUNS, "    if key not in table: table[key] = value\n", "    if True: table[key] = value\n", TESTS + " -k read_twice", "the last one stays"),
    Mutation(RUNS, "key=lambda row: (-row.score, row.place))", "key=lambda row: row.place)", TESTS + " -k scores_decide", "places win over scores"),
    Mutation(RUNS, "score if single(score) < above else step_below(above)", "score", TESTS + " -k our_order", "trec_eval sorts ties by name"),
    Mutation(RUNS, "score if single(score) < above", "score if score < above", TESTS + " -k our_order", "ties in single precision"),
    Mutation(RUNS, "return strictly_falling(known) if falling and", "return strictly_falling(known) if", TESTS + " -k results_are_written", "an order that scores contradict is lost"),
    Mutation(RUNS, 'elif "\\ufeff" in name:', "elif False:", TESTS + " -k do_not_fit", "a mark at the beginning of an id is lost"),
    Mutation(RUNS, 'YAML_WORDS = ("true", "false", "yes", "no",', 'YAML_WORDS = ("true", "false", "yes",', TESTS + " -k header_is_yaml", "the key `no` is false"),
    Mutation(RUNS, 'inside = line.rstrip() == START', "inside = False", TESTS + " -k header_of_a_run", "the header is read as a run"),
    Mutation(RUNS, "for what, n in own.items() if notes is None else ():", "for what, n in ():", TESTS + " -k warn", "what is odd is not told"),
    Mutation(DATA, "known.get(name, NO_TYPE) | {isinstance(ident, str)}", "frozenset({isinstance(ident, str)})", TESTS + " -k one_id", "the last type is remembered"),
    Mutation(DATA, "qrels = {q: judged for q, judged in self.qrels.items() if q in self.queries}", "qrels = self.qrels", TESTS + " -k fit_together",
             "judgements of queries without a text"),
    Mutation(DATA, "if q in data.qrels or not data.qrels]", "]", TESTS + " -k only_judged", "queries that nobody judged are searched for"),
    Mutation(DATA, "if grade > 0}", "if grade >= 0}", TESTS + " -k nothing_answers", "a grade of 0 is relevant"),
    Mutation(DATA, "[d, self.corpus[d].title, self.corpus[d].text]", "[d, self.corpus[d].text]", TESTS + " -k hashes", "titles have no part in the hash"),
    Mutation(TABLES, "label=grade, proposed=False)", "label=grade)", TESTS + " -k positives", "positives are candidates, and come first"),
    Mutation(TABLES, "if self.named.setdefault(kind, has) != has:", "if False:", TESTS + " -k unusable", "numbers among ids"),
    Mutation(TABLES, "if ranked: pairs = sorted((p for p in pairs if p[0] is not None), key=lambda p: p[0] or 0.0)", "", TESTS + " -k ranks", "ranks have no effect"),
    Mutation(FIRST, "found = found[scores[found] >= least]", "found = found[scores[found] > least]", TESTS + " -k index_scores", "the last place stays empty"),
    Mutation(FIRST, "for word in tokenize(readable(query)):", "for word in set(tokenize(readable(query))):", TESTS + " -k index_scores", "a repeated word counts once"),
    Mutation(FIRST, 'random.Random(f"{seed} {q}").shuffle(ids)', "ids.sort()", TESTS + " -k says_nothing", "judged documents in the order of their names"),
    Mutation(FIRST, "depth + len((barred or {}).get(q, ()))", "depth", TESTS + " -k may_not", "what may not be found takes a place"),
    Mutation(FIRST, "if what not in CANDIDATE_NOTES}", "}", TESTS + " -k candidates_from_runs", "notes about candidates that are no longer there"),
    Mutation("rerankers/cli.py", "{d: float(-place) for place, d in enumerate(scores)}", "scores", COMMAND + " -k means", "ties are decided by names"),
]
