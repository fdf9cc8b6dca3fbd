"Measures: the numbers of TREC's own program, ties and unjudged documents against all possibilities, and nothing left out in silence"
import math
import random
from itertools import permutations, product

import pytest

pytest.importorskip("ir_measures")
pytest.importorskip("pytrec_eval")
import ir_measures  # noqa: E402
import pytrec_eval  # noqa: E402
from hypothesis import given, strategies as st  # noqa: E402

from rerankers import Document, InputError, RankedResults, Reranker  # noqa: E402
from rerankers.evaluation.measures import (  # noqa: E402
    calculate, parse_measure,
    as_texts, changes, judged_apart, measure_run, ndcg_with_ties, order_of, references, share_of_gain, side_by_side, unjudged_bounds)
from rerankers.results import Result  # noqa: E402

QRELS = {"q1": {"d1": 2, "d2": 1, "d3": 0}, "q2": {"d4": 1, "d5": 0}}
IDS = [f"d{i}" for i in range(8)]
GRADES = st.dictionaries(st.sampled_from(IDS), st.integers(-2, 3), min_size=1).filter(lambda g: max(g.values()) > 0)
ORDERS = st.lists(st.sampled_from(IDS), unique=True, min_size=1)
COARSE = st.dictionaries(st.sampled_from(IDS), st.integers(0, 2), min_size=1)


def close(a, b): return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


@pytest.mark.parametrize("measure, name", [
    ("nDCG@10", "ndcg_cut_10"), ("nDCG@3", "ndcg_cut_3"), ("nDCG", "ndcg"), ("AP", "map"), ("RR", "recip_rank"), ("P@5", "P_5"), ("R@5", "recall_5"),
    ("R@100", "recall_100"), ("Bpref", "bpref"), ("Rprec", "Rprec"), ("Success@1", "success_1")])
def test_the_numbers_are_those_of_trec_on_the_written_run(tmp_path, measure, name):
    rng = random.Random(7)
    qrels = {f"q{i}": {f"d{j}": rng.choice([0, 0, 0, 1, 2, 3]) for j in rng.sample(range(60), 25)} | {"d60": 1} for i in range(30)}
    run = {q: {f"d{j}": rng.choice([0.1, 0.2, 0.30000001, 0.3, rng.random()]) for j in rng.sample(range(61), 40)} for q in qrels}
    measured = measure_run(run, qrels, [measure])
    found = side_by_side(run, qrels).ids
    (tmp_path / "run").write_text("".join(f"{q} Q0 {d} {i} {len(ids) - i} us\n" for q, ids in found.items() for i, d in enumerate(ids)))
    (tmp_path / "qrels").write_text("".join(f"{q} 0 {d} {grade}\n" for q, judged in qrels.items() for d, grade in judged.items()))
    with (tmp_path / "run").open() as lines: written = pytrec_eval.parse_run(lines)
    with (tmp_path / "qrels").open() as lines: judged = pytrec_eval.parse_qrel(lines)
    official = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.3,10", "ndcg", "map", "recip_rank", "P.5", "recall.5,100", "bpref", "Rprec", "success.1"})
    expected = {q: row[name] for q, row in official.evaluate(written).items()}
    assert measured.values[measure].keys() == expected.keys()
    assert all(close(measured.values[measure][q], expected[q]) for q in expected)
    assert close(measured.mean[measure], sum(expected.values()) / len(expected))


def test_equal_scores_keep_the_order_in_which_they_came():
    "TREC's program would sort them by their ids"
    for first, second in ("d1", "d3"), ("d3", "d1"):
        assert order_of({first: 1.0, second: 1.0}, "q").ids == [first, second]
    assert measure_run({"q1": {"d3": 1.0, "d1": 1.0}}, QRELS, ["RR"], queries=["q1"]).mean["RR"] == 0.5


def test_scores_too_near_for_trec_still_make_an_order():
    run = {"q1": {"d3": 1.0, "d1": 1.0 + 1e-12}}
    assert measure_run(run, QRELS, ["RR"], queries=["q1"]).mean["RR"] == 1.0


def test_an_order_scores_and_results_are_judged_alike():
    results = RankedResults([Result(Document("a", doc_id="d3"), None, 1), Result(Document("b", doc_id="d1"), None, 2)], "q", has_scores=False)
    ways = [["d3", "d1"], ("d3", "d1"), {"d1": 1, "d3": 2.5}, results]
    [value] = {measure_run({"q1": way}, QRELS, queries=["q1"]).mean["nDCG@10"] for way in ways}
    assert close(value, 2 / math.log2(3) / (2 + 1 / math.log2(3)))
    ranked = Reranker("bm25").rank("pump", ["pump", "pump", "rain"], doc_ids=["d1", "d2", "d3"])
    assert measure_run({"q1": ranked}, QRELS, queries=["q1"]).notes == {"tied pairs": 1}


@pytest.mark.parametrize("run, said", [
    ({"q1": {"d1": float("nan")}}, "query 'q1': the score of document 'd1' is nan"), ({"q1": {"d1": None}}, "is None"), ({"q1": {"d1": "0.5"}}, "'0.5'"),
    ({"q1": "d1"}, "str is no ranking"), ({"q1": {"d1", "d2"}}, "set is no ranking"), ({"q1": 3}, "int is no ranking"),
    ({"q1": [1, "1"]}, "both 1 and '1'"), ({1: ["d1"], "1": ["d1"]}, "the run has both"), ({"Q1": ["d1"]}, "no query in common"), ({}, "no query in common")])
def test_a_run_that_is_none(run, said):
    with pytest.raises(InputError, match=said): measure_run(run, QRELS)


@pytest.mark.parametrize("qrels, said", [
    ({"q1": {"d1": 0.5}}, "query 'q1': document 'd1' has the grade 0.5"), ({"q1": {"d1": "1"}}, "grade '1'"), ({"q1": {"d1": float("nan")}}, "grade nan"),
    ({"q1": {1: 1, "1": 0}}, "query 'q1' has both"), ({1: {"d1": 1}, "1": {"d1": 1}}, "the judgements has|the judgements have|judgements"),
    ({}, "none of the queries has a relevant document"), ({"q1": {"d1": 0}}, "none of the queries has a relevant document")])
def test_judgements_that_are_none(qrels, said):
    with pytest.raises(InputError, match=said): measure_run({"q1": ["d1"]}, qrels)


def test_whole_grades_of_any_type_are_grades():
    np = pytest.importorskip("numpy")
    for one in 1, 1.0, True, np.int64(1), np.float32(1): assert measure_run({"q1": ["d1"]}, {"q1": {"d1": one}}).mean["nDCG@10"] == 1


@pytest.mark.parametrize("measures, said", [(["nDCC@10"], "Did you mean 'nDCG'"), (["nDCG@"], "is no measure"), ([7], "is no measure"),
                                            (["RBP(p=0.8)"], "cannot compute RBP")])
def test_measures_that_are_none(measures, said):
    with pytest.raises(InputError, match=said): measure_run({"q1": ["d1"]}, QRELS, measures)


def test_every_ndcg_has_its_judged():
    found = measure_run({"q1": ["d1", "x"]}, QRELS, ["RR", "nDCG@1", ir_measures.nDCG @ 2, "nDCG"], queries=["q1"])
    ndcg = 2 / (2 + 1 / math.log2(3))
    assert list(found.mean) == ["RR", "nDCG@1", "Judged@1", "nDCG@2", "Judged@2", "nDCG"]
    assert all(map(close, found.mean.values(), [1.0, 1.0, 1.0, ndcg, 0.5, ndcg]))
    assert list(measure_run({"q1": ["d1"]}, QRELS, "nDCG@1").values) == ["nDCG@1", "Judged@1"]


def test_nothing_is_left_out_in_silence():
    qrels = {"good": {"d1": 1}, "none": {"d1": 0, "d2": -1}, "bare": {}, "missed": {"d1": 1}, "empty": {"d1": 1}}
    run = {"good": ["d1"], "none": ["d1"], "bare": ["d1"], "unknown": ["d1"], "empty": []}
    found = measure_run(run, qrels)
    assert found.values["nDCG@10"] == {"good": 1.0, "missed": 0.0, "empty": 0.0} and close(found.mean["nDCG@10"], 1 / 3)
    assert found.odd == {"queries without judgements": ["bare", "unknown"], "queries without a relevant document": ["none"],
                         "queries without candidates": ["missed", "empty"]}
    assert measure_run(run, qrels, queries=["good", "asked"]).odd == {"queries without judgements": ["asked"]}


def test_ids_of_another_type_are_matched_and_reported():
    qrels = {"1": {"7": 1, "d8": 1}, 2: {9: 1}}
    found = measure_run({1: [7, "D8", "x"], 2: [9]}, qrels, ["R@10"])
    assert found.values["R@10"] == {"1": 0.5, "2": 1.0}
    assert found.odd == {"queries matched as text": ["1"], "documents matched as text": ["1 7"], "documents judged under another spelling": ["1 D8"]}
    assert measure_run({"1": ["7"], 2: [9]}, qrels, ["R@10"]).odd == {}
    assert as_texts([7, 7], "x") == {7: "7"}


def test_a_repeated_document_counts_once_where_it_stands_first():
    found = measure_run({"q1": ["d3", "d1", "d1", "d2"]}, QRELS, ["nDCG@10"], queries=["q1"])
    assert found.values == measure_run({"q1": ["d3", "d1", "d2"]}, QRELS, ["nDCG@10"], queries=["q1"]).values
    assert found.odd == {"repeated documents": ["q1 d1"]}


def test_the_callers_things_stay_as_they_are():
    run, qrels = {1: {"d1": 0.5, "d3": 0.5}}, {1: {"d1": 1.0}}
    measure_run(run, qrels), references(run, qrels), unjudged_bounds(run, qrels), ndcg_with_ties(run, qrels)
    assert (run, qrels) == ({1: {"d1": 0.5, "d3": 0.5}}, {1: {"d1": 1.0}})


@given(COARSE, GRADES, st.sampled_from([1, 2, 10]))
def test_ties_by_expectation_are_the_mean_over_all_orders(scores, grades, k):
    orders = [o for o in permutations(scores) if all(scores[a] >= scores[b] for a, b in zip(o, o[1:]))][:6000]
    if len(orders) == 6000: return
    every = measure_run({str(i): o for i, o in enumerate(orders)}, {str(i): grades for i in range(len(orders))}, [f"nDCG@{k}"])
    assert close(ndcg_with_ties({"q": scores}, {"q": grades}, k)["q"], every.mean[f"nDCG@{k}"])


@given(ORDERS, GRADES)
def test_without_ties_the_expectation_is_the_measure(order, grades):
    expected = measure_run({"q": order}, {"q": grades}, ["nDCG@10", "nDCG"]).mean
    for run in order, {doc: -float(i) for i, doc in enumerate(order)}:
        assert close(ndcg_with_ties({"q": run}, {"q": grades})["q"], expected["nDCG@10"])
        assert close(ndcg_with_ties({"q": run}, {"q": grades}, None)["q"], expected["nDCG"])


@given(ORDERS, GRADES, st.sampled_from(["nDCG@3", "nDCG", "RR", "AP", "P@3", "R@3"]))
def test_bounds_are_those_of_all_possible_judgements(order, grades, measure):
    unjudged = [doc for doc in (order[:3] if "@" in measure else order) if doc not in grades]
    best = max(grades.values())
    worlds = [{**grades, **dict(zip(unjudged, chosen))} for chosen in product((0, best), repeat=len(unjudged))]
    every = measure_run({str(i): order for i in range(len(worlds))}, {str(i): w for i, w in enumerate(worlds)}, [measure]).values[measure].values()
    low, high = unjudged_bounds({"q": order}, {"q": grades}, [measure])
    assert close(low.mean[measure], min(every)) and close(high.mean[measure], max(every))
    assert low.mean[measure] <= measure_run({"q": order}, {"q": grades}, [measure]).mean[measure] <= high.mean[measure]


def test_what_stands_below_the_places_that_count_does_not_move_the_bounds():
    for found in unjudged_bounds({"q": ["d0", "d1", "d2", "d3", "d4"]}, {"q": {"d0": 1, "d1": 0, "d2": 0}}, ["R@3", "nDCG@3"]):
        assert found.mean == {"R@3": 1.0, "nDCG@3": 1.0}


def test_bounds_meet_where_everything_is_judged():
    low, high = unjudged_bounds({"q1": ["d3", "d1"], "q2": []}, QRELS, ["nDCG@10", "AP"])
    assert low == high and low.values == {name: measure_run({"q1": ["d3", "d1"]}, QRELS, ["nDCG@10", "AP"]).values[name] for name in ("nDCG@10", "AP")}


def test_no_order_of_the_candidates_is_above_the_ceiling():
    candidates = {"q1": ["d3", "d2", "x", "d1"], "q2": ["d5"]}
    rows = references(candidates, QRELS, ["nDCG@2", "RR"])
    assert list(rows) == ["first stage", "random order", "ideal order"]
    for order in permutations(candidates["q1"]):
        assert measure_run({"q1": order}, QRELS, ["nDCG@2"]).values["nDCG@2"]["q1"] <= rows["ideal order"].values["nDCG@2"]["q1"]
    assert rows["ideal order"].values["nDCG@2"] == {"q1": 1.0, "q2": 0.0}      # nobody can rank what was not found
    assert rows["first stage"].values == measure_run(candidates, QRELS, ["nDCG@2", "RR"]).values


def test_the_random_order_knows_nothing_of_the_first_stage():
    ways = ["d1", "d2", "d3", "x"], ["x", "d3", "d2", "d1"]
    one, other = (references({"q1": ids}, QRELS, ["RR"], queries=["q1"])["random order"].mean["RR"] for ids in ways)
    assert one == other
    many = references({"q1": ["d1", "d3"]}, {"q1": {"d1": 1}}, ["RR"], seeds=400)["random order"].mean["RR"]
    assert abs(many - 0.75) < 0.05      # first or second, with the same chance: 4 standard errors
    assert len({references({"q1": IDS}, {"q1": {"d1": 1}}, ["RR"], seeds=n)["random order"].mean["RR"] for n in (1, 2, 3, 20)}) > 1


def test_share_of_the_possible_gain():
    assert [share_of_gain(s, 0.5, 1.0) for s in (0.5, 0.75, 1.0, 0.25)] == [0, 0.5, 1, -0.5]
    assert share_of_gain(0.5, 0.5, 0.5) is None and share_of_gain(0.5, 0.5, 0.5 + 1e-16) is None


def test_helped_same_hurt():
    assert changes({"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.3 + 1e-16}, {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.3}) == (1, 2, 1)
    with pytest.raises(InputError, match="query 'b' is in one"): changes({"a": 1.0}, {"a": 1.0, "b": 1.0})


def test_systems_that_differ_in_what_is_judged_get_a_warning():
    old, new = (measure_run({"q1": ids}, QRELS, ["nDCG@2"], queries=["q1"]) for ids in (["d1", "d2"], ["d1", "x"]))
    [said] = judged_apart({"old": old, "new": new})
    assert said.startswith("Judged@2 is 100 % for old and 50 % for new")
    assert judged_apart({"old": old, "new": new}, points=50) == [] and judged_apart({}) == []


ODD = ["nDCG@0", "P@-1", ir_measures.nDCG @ 0, ir_measures.P @ -1, ir_measures.nDCG @ True, "P(rel=0)@5", "RBP(p=2)", "IPrec@2", "AP(rel=99999999999)"]

@pytest.mark.parametrize("odd", ODD, ids=str)
def test_measures_that_would_end_the_process_or_fail_in_it_are_refused(odd):
    run, qrels = {"q": ["a", "b"]}, {"q": {"a": 1}}
    for measure in (lambda: measure_run(run, qrels, [odd]), lambda: references(run, qrels, [odd]), lambda: unjudged_bounds(run, qrels, [odd]),
                    lambda: calculate(run, qrels, {"it": odd if not isinstance(odd, str) else parse_measure(odd)})):
        with pytest.raises(InputError): measure()


@pytest.mark.parametrize("grade", [10**7, 2**31, 2**64, -10**7, float("inf")])
def test_grades_that_no_program_has_the_memory_for_are_refused(grade):
    "10 ** 9 counted as 0 in every measure of its query, without a word"
    with pytest.raises(InputError, match="document 'b' has the grade"): measure_run({"q": ["a", "b"]}, {"q": {"a": 1, "b": grade}}, ["RR"])
    assert measure_run({"q": ["b", "a"]}, {"q": {"a": 1, "b": 10**6}}, ["RR", "nDCG@2"]).mean["nDCG@2"] == 1
