"Statistics: each fast form equals a slow plain one, t and Tukey equal scipy's, and what must not matter does not"
import math
import sys
from itertools import combinations, permutations, product

import pytest

np = pytest.importorskip("numpy")
from hypothesis import given, strategies as st  # noqa: E402

from rerankers import InputError  # noqa: E402
from rerankers.evaluation.statistics import (  # noqa: E402
    BLOCK, AllPairs, Interval, against, all_pairs, as_scores, blocks, holm, intervals, resampled_means, sign_flip_test, studentized_range_p, t_test,
    tukey_hsd, tukey_p, winner)

# Sixteenths are exact in binary, and so are their sums
SIXTEENTHS = st.integers(0, 16).map(lambda i: i / 16)
def tables(systems=(2, 4), queries=(1, 9)):
    return st.integers(*queries).flatmap(lambda n: st.lists(st.lists(SIXTEENTHS, min_size=n, max_size=n), min_size=systems[0], max_size=systems[1]))
def named(table): return {f"s{i}": {f"q{j}": value for j, value in enumerate(row)} for i, row in enumerate(table)}
def drawn(*shape, seed=0): return np.random.default_rng(seed).random(shape)
def same(a, b, eps=1e-9): return np.allclose(a, b, rtol=eps, atol=eps)


# What goes in

def test_values_come_in_any_of_their_shapes():
    table = drawn(3, 5)
    as_mapping, as_array = as_scores(named(table)), as_scores(table.tolist())
    assert same(as_mapping.table, table) and same(as_array.table, table) and as_array.names == ("0", "1", "2")
    assert as_scores(as_array) is as_array
    runs = as_scores({"a": [{"x": 1, "y": 0}, {"y": 1, "x": 0}], "b": {"x": 2, "y": 3}})
    assert runs.table.tolist() == [[0.5, 0.5], [2, 3]] and as_scores(np.zeros((2, 3, 4))).runs[0].shape == (3, 4)
    assert as_scores({"a": {1: 0.5}, "b": {"1": 0.25}}).queries == ("1",)


@pytest.mark.parametrize("values, said", [
    ({"a": {"q1": 1.0, "q2": float("nan")}}, "system 'a': the value of query 'q2' is nan"), ({"a": {"q1": math.inf}}, "query 'q1' is inf"),
    ({"a": [{"q1": 1}, {"q1": float("nan")}]}, "query 'q1' is nan"), ([[0.5, float("nan")]], "system '0': the value of query '1' is nan"),
    ({"a": {"q1": 1}, "b": {"q2": 1}}, "system 'b': query 'q1'"), ({"a": [{"q1": 1}, {"q2": 1}]}, "system 'a': query 'q1'"),
    ({"a": {1: 1, "1": 1}}, "both 1 and '1'"), ({}, "no system"), ({"a": {}}, "'a' has no values"), ({"a": []}, "'a' has no values"),
    ({"a": [0.5, 0.25]}, "system 'a': give a dictionary"), ({"a": 0.5}, "give a dictionary"), ({"a": np.ones((2, 2))}, "give a dictionary"),
    ({"a": {"q1": None}}, "query 'q1' is None"), ({"a": {"q1": "1"}}, "query 'q1' is '1'"), ([[0.5], [0.5, 1]], "no table of values"), (["ab"], "no table"),
     ([0.5, 0.25], "no table of values"), ([[]], "no table of values")])
@pytest.mark.parametrize("use", [intervals, lambda v: against(v, "a"), all_pairs, winner, resampled_means],
                         ids=["intervals", "against", "pairs", "winner", "means"])
def test_values_that_are_none_are_refused(values, said, use):
    with pytest.raises(InputError, match=said): use(values)


def test_arguments_that_are_none_are_refused():
    table = drawn(2, 4)
    for wrong in (lambda: against(table, "x"), lambda: intervals(table, level=95), lambda: intervals(table, resamples=0), lambda: intervals(table, seed=-1),
                  lambda: all_pairs(table, alpha=0),
                  lambda: all_pairs(table, method="tuckey"), lambda: winner(table, splits=-1), lambda: winner(table[:, :1]), lambda: tukey_hsd(table[:1]),
                  lambda: tukey_hsd(table[:, :1]), lambda: sign_flip_test([0.1, float("nan")]), lambda: t_test([float("nan")]),
                  lambda: sign_flip_test([0.1], flips=0), lambda: intervals(table, seed=0.5), lambda: Interval(0, -1, 1, 4).queries_for(-1)):
        with pytest.raises(InputError): wrong()


# Fast and slow

def plain_means(scores, resamples):
    "One resample at a time"
    rng, n = np.random.default_rng([0]), len(scores.queries)
    return np.array([[row[queries].mean() for row in scores.table] for queries in (rng.integers(0, n, n) for _ in range(resamples))])


@pytest.mark.parametrize("n, resamples", [(1, 50), (2, 50), (21, 500), (500, 10_000)])
def test_resampled_means_are_those_of_one_resample_at_a_time(n, resamples):
    assert (n * resamples > BLOCK) == (n == 500)    # the last case is drawn in more than one block
    scores = as_scores(drawn(3, n))
    fast, slow = resampled_means(scores, resamples=resamples), plain_means(scores, resamples)
    assert same(fast, slow)
    for name, i in intervals(scores, resamples=resamples).items():
        assert same((i.low, i.high), np.percentile(slow[:, int(name)], [2.5, 97.5]))


def test_the_interval_of_a_difference_is_that_of_resampled_differences():
    scores = as_scores(named(drawn(3, 30)))
    slow = plain_means(scores, 10_000)
    for name, d in against(scores, "s1").items():
        i = scores.place(name)
        assert same((d.interval.low, d.interval.high), np.percentile(slow[:, i] - slow[:, 1], [2.5, 97.5]))
        assert same(d.interval.mean, (scores.table[i] - scores.table[1]).mean())


def test_runs_are_drawn_as_well():
    "A system whose queries are all alike is uncertain by its runs alone, as in drawing three of three numbers"
    runs = np.array([0.2, 0.5, 0.8])
    values = {"random": [{f"q{j}": float(r) for j in range(40)} for r in runs], "steady": {f"q{j}": 0.5 for j in range(40)}}
    means = resampled_means(values, resamples=20_000)
    every = [np.mean(chosen) for chosen in product(runs, repeat=3)]
    assert same(means[:, 1], 0.5)
    for value in set(np.round(every, 9)):
        assert abs(np.isclose(means[:, 0], value).mean() - np.isclose(every, value).mean()) < 0.02     # over 5 standard errors
    found = against(values, "steady", resamples=20_000)["random"].interval
    assert (found.low, found.mean, found.high) == pytest.approx((-0.3, 0, 0.3))     # three of a kind: 1 of 27, more than 2.5 %


def test_a_systems_numbers_do_not_depend_on_who_else_is_there():
    table = named(drawn(3, 12))
    table["s0"] = [table["s0"], {q: v / 2 for q, v in table["s0"].items()}]
    alone = against({name: table[name] for name in ("s0", "s1")}, "s1")["s0"]
    assert against(table, "s1")["s0"].interval == alone.interval
    assert intervals(table)["s0"] == intervals({"s0": table["s0"]})["s0"]


def plain_signs(differences):
    "Every combination of signs"
    sums = [abs(math.fsum(s * d for s, d in zip(signs, differences))) for signs in product((1, -1), repeat=len(differences))]
    return sum(s >= abs(math.fsum(differences)) - 1e-12 for s in sums) / len(sums)


@given(st.lists(st.integers(-8, 8).map(lambda i: i / 10), min_size=1, max_size=9))
def test_few_queries_are_tested_exactly(differences):
    assert same(sign_flip_test(differences), plain_signs(differences))
    # zeros have no sign, and the exact test of twenty others is still exact
    assert sign_flip_test([*differences, *[0.0] * 30]) == sign_flip_test(differences)


def test_twenty_are_exact_and_more_are_drawn():
    assert sign_flip_test([0.1] * 20) == 2 / 2**20
    assert sign_flip_test([0.1] * 21, flips=99) == 1 / 100
    several = [[0.1] * 30, [0.1, *[0.0] * 29], [0.1, -0.1] * 15]
    assert sign_flip_test(several, flips=99).tolist() == [1 / 100, 1.0, 1.0]


def test_drawn_signs_are_those_of_one_combination_at_a_time():
    differences = drawn(3, 60, seed=3) - 0.45
    rng = np.random.default_rng([0, 2])
    signs = [2.0 * rng.integers(0, 2, 60) - 1 for _ in range(2000)]
    slow = [(1 + sum(abs((s * row).sum()) >= abs(row.sum()) for s in signs)) / 2001 for row in differences]
    assert same(sign_flip_test(differences, flips=2000), slow)


def test_drawn_signs_come_near_the_exact_test():
    few = drawn(1, 18, seed=4)[0] - 0.4
    exact, sampled = sign_flip_test(few), sign_flip_test([*few, 1e-15, -1e-15, 1e-15], flips=20_000)    # 21 differences
    assert abs(exact - sampled) < 5 * math.sqrt(exact * (1 - exact) / 20_000)


def test_holm_is_that_of_its_definition():
    p = [0.001, 0.04, 0.03, 0.005, 0.5, 0.03]
    order = np.argsort(p, kind="stable")
    plain = {int(i): min(1, max((len(p) - r) * p[order[r]] for r in range(rank + 1))) for rank, i in enumerate(order)}
    assert same(holm(p), [plain[i] for i in range(len(p))])
    assert holm([]) == [] and holm([0.7]) == [0.7] and holm([0.7, 0.8]) == [1.0, 1.0]


def test_tukey_is_that_of_one_deal_at_a_time():
    table, times = drawn(4, 15, seed=2) + [[0], [0.1], [0.2], [0.6]], 400
    rng = np.random.default_rng([0, 3])
    sorted_table = table[np.argsort(-table.mean(axis=1))]
    ranges = [np.ptp(np.mean([rng.permuted(column) for column in sorted_table.T], axis=0)) for _ in range(times)]
    found = all_pairs(table, method="tukey", resamples=times)
    for i, j in product(range(4), repeat=2):
        distance = abs(found.means[i] - found.means[j])
        assert found.p[i, j] == (1 + sum(r >= distance - 1e-12 for r in ranges)) / (1 + times)


def test_max_t_is_that_of_one_flip_at_a_time():
    table, times = drawn(4, 15, seed=2) + [[0], [0.1], [0.2], [0.6]], 400
    table[3] = table[2]     # two that are equal
    rng = np.random.default_rng([0, 2])
    def t(row): return abs(row.sum()) / math.sqrt((row**2).sum()) if row.any() else 0.0
    names = all_pairs(table, resamples=times).names
    ordered = table[list(map(int, names))]
    pairs = {(i, j): ordered[i] - ordered[j] for i in range(4) for j in range(i)}
    largest = [max(t(signs * row) for row in pairs.values()) for signs in (2 * rng.integers(0, 2, 15) - 1 for _ in range(times))]
    found = all_pairs(table, resamples=times)
    for (i, j), row in pairs.items(): assert found.p[i, j] == found.p[j, i] == (1 + sum(x >= t(row) - 1e-12 for x in largest)) / (1 + times)


def test_two_systems_have_the_p_of_the_pair():
    table = drawn(2, 40, seed=1) + [[0.1], [0.0]]
    assert all_pairs(table).p[0, 1] == sign_flip_test(table[0] - table[1])


def test_a_bad_system_hides_no_difference_between_good_ones():
    table = np.random.default_rng(3).normal([[0.80], [0.75], [0.1]], 0.1, (3, 60))
    table[1] = table[0] - np.random.default_rng(4).normal(0.05, 0.05, 60)
    assert all_pairs(table).groups() == [["0"], ["1"], ["2"]]
    assert all_pairs(table, method="tukey").groups() == [["0", "1"], ["2"]]     # why it is not the default


def test_tukey_of_all_deals():
    "Two queries and three systems have few enough deals to list them all"
    table = np.array([[0.1, 0.3], [0.5, 0.2], [0.9, 0.8]])
    every = [np.ptp(np.mean(deal, axis=0)) for deal in product(*(permutations(column) for column in table.T))]
    found, gap = all_pairs(table, method="tukey", resamples=20_000), table[2].mean() - table[0].mean()
    assert abs(found.p[0, 2] - np.mean(np.array(every) >= gap - 1e-12)) < 0.02


def test_the_winner_is_chosen_on_each_half():
    table = drawn(3, 9, seed=6)
    rng, size, lost, chosen = np.random.default_rng([0, 4]), 4, [], []
    for _ in range(50):
        half = rng.random(9).argsort()[:size]
        rest = [i for i in range(9) if i not in half]
        for here, there in ((half, rest), (rest, half)):
            best = int(table[:, here].mean(axis=1).argmax())
            chosen.append(best)
            lost.append(table[best, here].mean() - table[best, there].mean())
    found = winner(table, splits=50)
    assert same(found.inflation, np.mean(lost) / math.sqrt(2)) and same(found.expected, found.mean - found.inflation)
    assert found.chosen == {str(i): pytest.approx(chosen.count(i) / 100) for i in range(3)}
    assert found.name == str(table.mean(axis=1).argmax()) and same(found.mean, table.mean(axis=1).max())


def test_the_winners_inflation_is_about_what_it_is():
    "Ten systems of one worth, many collections of queries: the estimate, on average, is what choosing added"
    added, estimated = [], []
    for seed in range(60):
        found = winner(np.random.default_rng(seed).normal(0, 1, (10, 40)), splits=100)
        added.append(found.mean)            # all are worth 0
        estimated.append(found.inflation)
    assert np.mean(estimated) == pytest.approx(np.mean(added), rel=0.15)


def test_a_clear_winner_is_not_inflated():
    found = winner([drawn(20) * 0.1, drawn(20) * 0.1 + 0.8])
    assert same(found.inflation, 0) and found.chosen == {"0": 0.0, "1": 1.0}


# The numbers of scipy

@pytest.mark.parametrize("n", [2, 3, 10, 50, 400])
def test_t_is_scipys(n):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    a, b = drawn(2, n, seed=n) + [[0.1], [0.0]]
    expected = stats.ttest_rel(a, b)
    assert same(t_test(a - b), (expected.statistic, expected.pvalue), eps=1e-10)
    far = stats.ttest_rel(a + 3, b)         # far below what 1 - x can hold
    assert t_test(a + 3 - b)[1] == pytest.approx(far.pvalue, rel=1e-8)


@pytest.mark.parametrize("k, df", [(2, 1), (2, 4), (3, 2), (3, 20), (10, 9), (10, 2016), (40, 500)])
def test_the_studentized_range_is_scipys(k, df):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    for q in (0.1, 1.0, 3.0, 4.5, 8.0): assert studentized_range_p(q, k, df) == pytest.approx(stats.studentized_range.sf(q, k, df), abs=1e-7)


def test_tukeys_test_is_scipys():
    "scipy's has no queries: its variance is that within the systems"
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    table = drawn(4, 25, seed=9) + [[0], [0.1], [0.2], [0.3]]
    expected, variance = stats.tukey_hsd(*table).pvalue, table.var(axis=1, ddof=1).mean()
    for i, j in product(range(4), repeat=2):
        if i != j: assert tukey_p(abs(table[i].mean() - table[j].mean()), variance, 25, 4, 96) == pytest.approx(expected[i, j], abs=1e-6)


def test_tukeys_test_of_two_systems_is_the_paired_t_test():
    table = drawn(2, 12, seed=8) + [[0.2], [0.0]]
    assert tukey_hsd(table)[0, 1] == pytest.approx(t_test(table[0] - table[1])[1], abs=1e-7)


def test_tukey_by_chance_comes_near_tukey_by_formula():
    table = np.random.default_rng(5).normal([[0.5], [0.51], [0.52], [0.53]], 0.1, (4, 200))
    found = all_pairs(table, method="tukey", resamples=20_000)
    back = [found.names.index(str(i)) for i in range(4)]
    assert np.abs(found.p[np.ix_(back, back)] - tukey_hsd(table)).max() < 0.03


# What must not matter

@given(tables(systems=(2, 2)))
def test_exchanging_two_systems_turns_the_signs(table):
    values = named(table)
    there, back = against(values, "s0", resamples=200)["s1"], against(dict(reversed(values.items())), "s1", resamples=200)["s0"]
    assert same((there.interval.mean, there.interval.low, there.interval.high), (-back.interval.mean, -back.interval.high, -back.interval.low))
    assert same((there.p, there.p_holm), (back.p, back.p_holm))
    (t, p), (u, q) = (t_test(np.subtract(*table)), t_test(np.subtract(*reversed(table))))
    assert (t, p) == (-u, q)


@given(tables(), st.integers(-3, 3))
def test_a_constant_for_all_changes_no_difference(table, constant):
    one, other = (against(named(t), "s0", resamples=200) for t in (table, np.array(table) + constant))
    for name in one:
        assert same((one[name].interval.low, one[name].interval.high), (other[name].interval.low, other[name].interval.high))
        assert (one[name].p, one[name].p_holm) == (other[name].p, other[name].p_holm)
    for method in "signs", "tukey":
        one, other = (all_pairs(t, method=method, resamples=50).groups() for t in (table, np.array(table) + constant))
        assert one == other


@given(tables(queries=(2, 9)), st.randoms())
def test_the_order_of_queries_and_systems_changes_nothing(table, rng):
    values = named(table)
    queries = rng.sample(list(values["s0"]), len(values["s0"]))
    systems = rng.sample(list(values), len(values))
    mixed = {name: {q: values[name][q] for q in queries} for name in systems}
    assert intervals(values, resamples=100) == {name: intervals(mixed, resamples=100)[name] for name in values}
    one, other = against(values, "s0", resamples=100), against(mixed, "s0", resamples=100)
    assert all((one[name].interval, one[name].p, one[name].p_holm) == (other[name].interval, other[name].p, other[name].p_holm) for name in one)
    assert winner(values, splits=20).mean == winner(mixed, splits=20).mean


@given(tables())
def test_p_is_a_part_of_1(table):
    found = against(named(table), "s0", resamples=50)
    every = [*(d.p for d in found.values()), *(d.p_holm for d in found.values()), sign_flip_test(table[0])]
    assert all(0 < p <= 1 for p in every) and all(d.p <= d.p_holm for d in found.values())
    for method in "signs", "tukey":
        p = all_pairs(table, method=method, resamples=50).p
        assert ((0 < p) & (p <= 1)).all() and np.diag(p).tolist() == [1.0] * len(table) and (p == p.T).all()


@given(st.lists(SIXTEENTHS, min_size=1, max_size=10), st.integers(-2, 2))
def test_the_interval_of_symmetric_values_holds_their_middle(values, middle):
    found = intervals([[middle + v for v in values] + [middle - v for v in values]], resamples=500)["0"]
    assert found.low <= middle <= found.high and same(found.mean, middle)


@given(tables(), st.sampled_from(["signs", "tukey"]), st.sampled_from([0.05, 0.5]))
def test_groups_hold_every_system_and_only_equals(table, method, alpha):
    found = all_pairs(table, method=method, alpha=alpha, resamples=50)
    groups, place = found.groups(), {name: i for i, name in enumerate(found.names)}
    assert {name for group in groups for name in group} == set(found.names)
    assert found.equal_to_best() == [name for name in found.names if any({name, found.names[0]} <= {*group} for group in groups)]
    for a, b in product(found.names, repeat=2):
        assert any(a in group and b in group for group in groups) == (found.p[place[a], place[b]] > alpha)
    assert list(found.means) == sorted(found.means, reverse=True)


@given(st.integers(1, 7).flatmap(lambda m: st.lists(st.booleans(), min_size=m * m, max_size=m * m)))
def test_groups_are_as_large_as_possible(bits):
    m = math.isqrt(len(bits))
    p = np.ones((m, m))
    for i, j in combinations(range(m), 2): p[i, j] = p[j, i] = float(bits[i * m + j])
    names = tuple(map(str, range(m)))
    alike = [g for n in range(1, m + 1) for g in combinations(range(m), n) if all(p[i, j] for i, j in combinations(g, 2))]
    expected = sorted(g for g in alike if not any(set(g) < set(h) for h in alike))
    assert AllPairs(names, (0.0,) * m, p, 0.05, None).groups() == [[names[i] for i in g] for g in expected]


def test_a_hundred_equals_are_one_group():
    assert len(AllPairs(tuple(map(str, range(100))), (0.0,) * 100, np.ones((100, 100)), 0.05, None).groups()) == 1


@given(tables(), st.sampled_from([0.01, 0.05, 0.5]))
def test_the_critical_difference_is_where_p_passes_alpha(table, alpha):
    found = all_pairs(table, method="tukey", alpha=alpha, resamples=50)
    for i, j in product(range(len(table)), repeat=2):
        assert (found.p[i, j] <= alpha) == (abs(found.means[i] - found.means[j]) > found.critical + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_systems_that_are_equal(n):
    table = np.repeat(drawn(1, n), 3, axis=0)
    for d in against(table, "0").values(): assert (d.interval.low, d.interval.mean, d.interval.high, d.p, d.p_holm) == (0, 0, 0, 1, 1)
    assert all_pairs(table).groups() == [["0", "1", "2"]] and t_test(table[0] - table[1]) == (0.0, 1.0)
    assert all_pairs(table, method="tukey").groups() == [["0", "1", "2"]]
    assert n == 1 or (tukey_hsd(table) == 1).all() and sum(winner(table).chosen.values()) == pytest.approx(1)


def test_one_query_decides_nothing():
    table = [[0.9], [0.1]]
    [d] = against(table, "1").values()
    assert (d.interval.low, d.interval.high, d.p) == (pytest.approx(0.8), pytest.approx(0.8), 1.0)
    assert all_pairs(table).groups() == [["0", "1"]] and t_test([0.8]) == (0.0, 1.0)


def test_one_system_is_its_own_group():
    assert all_pairs(drawn(1, 5)).groups() == [["0"]] and against(drawn(1, 5), "0") == {} and winner(drawn(1, 5)).chosen == {"0": 1.0}


def test_a_constant_difference_is_certain_for_t_and_counted_by_signs():
    assert t_test([0.25] * 8) == (math.inf, 0.0) and t_test([-0.25] * 8)[0] == -math.inf and sign_flip_test([0.25] * 8) == 2 / 2**8


@pytest.mark.parametrize("method", ["signs", "tukey"])
def test_false_differences_are_as_rare_as_promised(method):
    "Five equal systems, 200 collections: at most 5 % have any pair that differs, with room for chance (4 standard errors)"
    false = sum(len(all_pairs(np.random.default_rng(seed).random((5, 30)), method=method, resamples=300).groups()) > 1 for seed in range(200))
    assert false <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_intervals_hold_the_truth_as_often_as_promised():
    inside = sum(i.low <= 0.5 <= i.high for i in intervals(drawn(300, 60), resamples=500).values())
    assert abs(inside / 300 - 0.95) < 4 * math.sqrt(0.05 * 0.95 / 300)


def test_how_many_queries_are_needed():
    i = Interval(25.0, 16.9, 32.9, 21)
    assert i.half_width == pytest.approx(8.0) and (i.queries_for(8.0), i.queries_for(4.0), i.queries_for(5.6)) == (21, 84, 43)


# Cost

def calls_of(function):
    "Python functions that are called"
    count = [0]
    def seen(frame, event, arg): count[0] += event == "call"
    sys.setprofile(seen)
    try: function()
    finally: sys.setprofile(None)
    return count[0]


@pytest.mark.parametrize("use", [lambda t, n: against(t, "0", resamples=n), lambda t, n: all_pairs(t, resamples=n),
                                 lambda t, n: all_pairs(t, method="tukey", resamples=n), lambda t, n: winner(t, splits=n)],
                         ids=["against", "signs", "tukey", "winner"])
def test_no_loop_over_resamples(use):
    "Ten times the resamples, a few more blocks: nothing of ours runs once a resample"
    table = drawn(10, 225)
    use(table, 10)      # what is imported is imported
    few, many = (calls_of(lambda n=n: use(table, n)) for n in (1_000, 10_000))
    assert many - few < 400


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 10**6))
def test_blocks_are_whole_and_small(rows, size, limit):
    if rows * size > 10**4 * limit: return      # too many to list
    sizes = list(blocks(rows, size, limit))
    assert sum(sizes) == rows and all(n == 1 or n * size <= limit for n in sizes) and min(sizes) > 0
