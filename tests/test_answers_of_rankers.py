"What a method says of its documents arrives whole: usage, faults, numbers that others can read; what it cannot see is refused"
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rerankers
from rerankers import Document, InputError, RankedResults, Result, UnusableAnswer, Usage, errors
from rerankers.documents import to_documents
from rerankers.strategies.basics import Answer
from rerankers.strategies.kinds import ComparisonRanker, ListwiseRanker
from rerankers.rankers import PointwiseRanker, Ranking, SetwiseRanker, Task, to_results


class Billed(PointwiseRanker):
    "A pointwise method that counts what it used"
    usage, faults = Usage(calls=3, input_tokens=101, output_tokens=7, units=1.5, cost=0.03), {"missing": 5}
    def score_pairs(self, pairs, call):
        return Ranking([float(len(text)) for _, text in pairs], usage=self.usage, faults=self.faults, notes=[text for _, text in pairs])


def test_usage_and_faults_of_a_pointwise_method_are_kept():
    results = Billed().rank("q", ["a", "bb", "a"])
    assert (results.usage, results.faults, results[0].note) == (Billed.usage, Billed.faults, "bb")


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))
def test_shares_of_several_queries_sum_to_the_whole(sizes):
    many = Billed().rank_many([f"query {i}" for i in range(len(sizes))], [[f"{j}" for j in range(n)] for n in sizes])
    total = sum((r.usage for r in many if r.usage), Usage())
    for name in ("calls", "input_tokens", "output_tokens"): assert getattr(total, name) == getattr(Billed.usage, name)
    assert (total.units, total.cost) == (pytest.approx(1.5), pytest.approx(0.03))
    assert sum(r.faults.get("missing", 0) for r in many) == 5
    assert all(not r.faults and not r.usage for r, n in zip(many, sizes) if n == 0)


def test_an_unknown_cost_stays_unknown():
    class Free(Billed):
        usage = Usage(calls=2)
    assert [r.usage.cost for r in Free().rank_many(["a", "b"], ["x", "y"])] == [None, None]


def test_picked_rankings_keep_what_is_said_of_all():
    whole = Ranking([0.1, 0.2], usage=Usage(calls=1), faults={"odd": 1}, sets={"raw": [1, 2]}, explain=lambda i: i, truncated=[True, False])
    part = whole.pick([1])
    assert (part.usage, part.faults, part.scores, part.sets, part.explain(0), part.truncated) == (Usage(calls=1), {"odd": 1}, [0.2], {"raw": [2]}, 1, [False])


@pytest.mark.parametrize("deadline", [None, 600])
def test_a_status_that_is_not_about_missing_scores_is_kept(deadline):
    class Cached(PointwiseRanker):
        def score_pairs(self, pairs, call): return Ranking([float(len(t)) for _, t in pairs], status="from a cache of yesterday")
    for results in Cached().rank_many(["q", "p"], ["a", "bb"], deadline=deadline):
        assert results.status == "from a cache of yesterday" and [r.score for r in results] == [2.0, 1.0]


@pytest.mark.parametrize("deadline", [None, 600])
def test_scores_that_are_missing_without_a_word_are_no_answer(deadline):
    "Not a ranking whose status blames a deadline that nobody set"
    class Forgets(PointwiseRanker):
        def score_pairs(self, pairs, call): return [None if t == "a" else 1.0 for _, t in pairs]
    with pytest.raises(UnusableAnswer, match="not one number for each document"): Forgets().rank("q", ["a", "bb"], deadline=deadline)


@pytest.mark.parametrize("found", [None, 1.0, {}, ["x", "y"], [None, None], [[1.0], [2.0]], [{}, {}], iter], ids=str)
@pytest.mark.parametrize("kind", ["pairs", "documents"])
def test_what_are_no_scores_is_an_error_of_ours(kind, found):
    "As where a `return` is forgotten"
    if found is iter: found = iter([1.0, 2.0])
    class Pairs(PointwiseRanker):
        def score_pairs(self, pairs, call): return found
    class Sets(SetwiseRanker):
        def score_documents(self, query, texts, call): return found
    with pytest.raises(UnusableAnswer): (Pairs if kind == "pairs" else Sets)().rank("q", ["a", "bb"])


def test_a_listwise_methods_repairs_and_notes_are_told():
    "Whether or not it is a chat model that errs"
    class Errs(ListwiseRanker):
        def order_windows(self, windows, call):
            return [Answer([0, 0] if "x" in w.texts[0] else range(len(w.texts)), cut=[True] * len(w.texts),
                           notes=[f"about {t}" for t in w.texts]) for w in windows]
    first, second = Errs().rank_many(["q", "p"], [["x", "y", "z"], ["a", "b"]])
    assert (first.faults, second.faults) == ({"repetition": 1}, {}) and first.status == second.status == "complete"
    assert [(r.note, r.truncated) for r in (*first, *second)] == [(f"about {r.text}", True) for r in (*first, *second)]


def seeing(base, **functions):
    "A ranker of a kind that says it sees, although its kind is handed texts"
    def never(self, *args, **kwargs): raise AssertionError("a picture reached a method that reads")
    return type("Seeing", (base,), {"sees": True, "client": None, **dict.fromkeys(base.__abstractmethods__, never)})()


@pytest.mark.parametrize("base", [PointwiseRanker, SetwiseRanker, ListwiseRanker, ComparisonRanker])
def test_a_picture_is_refused_where_texts_are_handed_over(base):
    for docs in ([Document(None, image_path="a.png")], ["text", Document(None, base64="aGk=")], [Document("", image_path="a.png")],
                 [Document(" \n", base64="aGk=", title=" ")]):
        with pytest.raises(InputError, match="picture without a text"): seeing(base).rank("q", docs)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error(value):
    for ranking in (Ranking([0.5, value]), Ranking([0.5, 0.1], sets={"raw": [1.0, value]})):
        with pytest.raises(UnusableAnswer, match=f"document 1 is {'NaN' if math.isnan(value) else value}"):
            to_results(Task("q", to_documents(["a", "b"])), ranking, None)


def strictly(text):
    "JSON read by a reader that knows the standard only"
    def refuse(name): raise AssertionError(f"{name} is no JSON")
    return json.loads(text, parse_constant=refuse)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.text() | st.none() | st.booleans()

@given(st.dictionaries(st.text(), st.recursive(numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)))
def test_json_is_json_whatever_the_metadata(metadata):
    results = RankedResults([Result(Document("a", "x", metadata), 0.5, 1), Result(Document("b", "y"), math.nan, 2)], "q")
    row = strictly(results.to_json())
    assert row["results"][1]["score"] is None and set(row["results"][0]["metadata"]) == set(metadata)
    assert len(RankedResults.from_dict(row)) == 2
    assert results[0].metadata is metadata      # the caller's is not changed


def test_what_json_cannot_hold_is_named():
    ring = {}
    ring["itself"] = ring
    for metadata in ({"a": {1, 2}}, ring, {"a": b"bytes"}):
        with pytest.raises(InputError, match="cannot be written as JSON"): RankedResults([Result(Document("a", 1, metadata), 0.5, 1)], "q").to_json()
    assert "bytes" in RankedResults([Result(Document("a", 1, {"a": b"bytes"}), 0.5, 1)], "q").to_json(default=str)


class Name(str):
    "An id that counts how often it is compared"
    compared = 0
    __hash__ = str.__hash__
    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)
    def __str__(self): return self


def test_a_repeated_id_is_found_in_one_pass():
    n, Name.compared = 20_000, 0
    rows = [Result(Document("", Name(f"d{i}")), 0.5, i + 1) for i in range(n)]
    with pytest.raises(InputError, match="'d19999' occurs more than once"):
        RankedResults([*rows, Result(Document("", Name("d19999")), 0.1, n + 1)], "q").to_trec()
    assert Name.compared <= 20 * n


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_run_has_a_score_that_is_no_number(value):
    with pytest.raises(InputError, match="no place in a run"): RankedResults([Result(Document("a", "x"), value, 1)], "q").to_trec()


def test_errors_and_usage_come_from_the_top():
    kinds = {name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, errors.RerankersError)}
    assert kinds | {"Usage"} <= set(rerankers.__all__)
    for name in kinds: assert getattr(rerankers, name) is getattr(errors, name)


LOOP = {}
LOOP["again"] = LOOP


@pytest.mark.parametrize("metadata", [{math.nan: 1}, {math.inf: 1}, {(1, 2): 1}, {"deep": {-math.inf: 1}}, LOOP], ids=["NaN", "inf", "tuple", "deep", "loop"])
def test_the_remedy_for_what_is_no_json_is_one(metadata):
    results = RankedResults([Result(Document("a", 1, metadata), 0.5, 1)], "q")
    for options in ({}, {"default": str}):
        with pytest.raises(InputError, match="keys are texts or finite numbers, and that nothing holds itself"): results.to_json(**options)
