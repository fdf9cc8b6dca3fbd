"Cascades, fusions and fallbacks: what must hold for any parts, any documents and any failures"
import asyncio
import copy
import math
import pickle
import random
import sys
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rerankers import (AuthenticationError, BadRequestError, Cascade, Document, Fallback, Fusion, InputError, ProviderError, ProviderTimeoutError,
                       RateLimitError, Reranker, ServerError, Spec, UnusableAnswer)
from rerankers.combine.adaptive import Adaptive
from rerankers.combine.budgets import Budget
from rerankers.combine.cascades import Depth, entropy_of, margin_of
from rerankers.combine.diversity import Diverse, mmr, xquad
from rerankers.combine.fallbacks import Breaker
from rerankers.combine.fusion import FUSIONS, NORMALISERS, fitted, places_of
from rerankers.combine.long_documents import PASSAGE_AGGREGATES, UNITS, LongDocuments, split_spans, word_spans
from rerankers.combine.signals import RECENCIES, Blend, Fields, Recency, learned, moment
from rerankers.rankers import PointwiseRanker, Ranking, SetwiseRanker
from rerankers.results import Usage
from rerankers.strategies.kinds import ListwiseRanker
from rerankers.testing import CHECKS

TEXTS = ["a b c", "b c d", "", "a", "c c c", "a b", "d", "x y z a", "b", "a b c"]
QUERY = "a b c"


class Points(PointwiseRanker):
    "Scores by a table of texts"
    words = ("points",)
    def __init__(self, salt=0, levels=1000): self.salt, self.levels, self.seen = salt, levels, []
    def score_pairs(self, pairs, call):
        self.seen.append([text for _, text in pairs])
        return Ranking([float(random.Random(f"{self.salt} {text}").randrange(self.levels)) for _, text in pairs], usage=Usage(calls=1))


class Backwards(ListwiseRanker):
    "An order without scores"
    order_free = False
    def order_windows(self, windows, call): return [list(range(len(w.texts)))[::-1] for w in windows]


class Faulty(PointwiseRanker):
    "Fails as it is told, call by call"
    def __init__(self, *outcomes): self.outcomes, self.calls = list(outcomes), 0
    def score_pairs(self, pairs, call):
        outcome = self.outcomes[self.calls % len(self.outcomes)] if self.outcomes else None
        self.calls += 1
        if outcome is not None: raise outcome
        return [float(len(text)) for _, text in pairs]


DOCS = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=25)
def order(results): return [r.doc_id for r in results]
def scores(results): return [r.score for r in results]


# ---------- every combination is a ranker

WHOLE = {"cascade": lambda: Cascade("bm25", Reranker("bm25", k1=0.5)), "cut cascade": lambda: Cascade(("bm25", 3), ("bm25", 2), Reranker("bm25", b=0.1)),
         "share": lambda: Cascade(("bm25", 0.5), "bm25"), "gate": lambda: Cascade(("bm25", {"margin": 0.5}), "bm25"),
         "patience": lambda: Cascade(("bm25", {"misses": 3, "step": 2}), "bm25"), "listwise": lambda: Cascade(("bm25", 5), Backwards()),
         "fusion": lambda: Fusion("bm25", Reranker("bm25", b=0.1)), "weighted": lambda: Fusion("bm25", "bm25", method="combsum", weights=[2, 1]),
         "fallback": lambda: Fallback("bm25", "bm25"), "kept": lambda: Fallback("bm25", keep=True),
         "long": lambda: LongDocuments("bm25", size=5, overlap=2), "long listwise": lambda: LongDocuments(Backwards(), size=3),
         "passages in stages": lambda: Cascade(("bm25", 5), LongDocuments("bm25", size=4)),
         "diverse": lambda: Diverse("bm25", weight=0.5), "only diverse": lambda: Diverse("bm25", weight=0, copies=0.5),
         "recency": lambda: Recency("bm25", now="2026-11-27"),
         "fields": lambda: Fields("bm25", boosts={"source": {"wiki": 2.0}}),
         "blend": lambda: Blend("bm25", "bm25"), "adaptive": lambda: Adaptive("bm25", neighbours={}),
         "budget of adaptive": lambda: Budget(Adaptive("bm25", neighbours={}, method="slidegar"), seconds=600),
         "nested": lambda: Fallback(Cascade(("bm25", 4), Fusion("bm25", "bm25")), "bm25")}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", WHOLE)
def test_the_contract(name, check): check(WHOLE[name]())


@pytest.mark.parametrize("name", WHOLE)
@given(docs=DOCS)
def test_every_document_once(name, docs):
    results = WHOLE[name]().rank(QUERY, docs)
    assert sorted(order(results)) == list(range(len(docs))) and [r.rank for r in results] == list(range(1, len(docs) + 1))


@pytest.mark.parametrize("name", [n for n in WHOLE if "listwise" not in n])
def test_written_down_and_made_again(name):
    whole = WHOLE[name]()
    spec = whole.spec
    for again in (Spec.parse(str(spec)), Spec.from_json(spec.to_json()), pickle.loads(pickle.dumps(spec))):
        assert again == spec and Reranker(again).spec == spec
    assert order(Reranker(spec).rank(QUERY, TEXTS)) == order(whole.rank(QUERY, TEXTS))
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))): assert order(twin.rank(QUERY, TEXTS)) == order(whole.rank(QUERY, TEXTS))


# ---------- cascades

@given(DOCS, st.integers(1, 40), st.integers(1, 5))
def test_a_cascade_of_full_depth_is_its_last_stage(docs, levels, salt):
    last = Points(salt, levels)
    whole, alone = Cascade(Points(), last).rank(QUERY, docs), last.rank(QUERY, docs)
    assert (order(whole), scores(whole)) == (order(alone), scores(alone))


@given(DOCS, st.integers(1, 12), st.integers(1, 12))
def test_each_stage_sees_the_best_of_the_one_before(docs, first, second):
    stages = [Points(i) for i in range(3)]
    results = Cascade((stages[0], first), (stages[1], second), stages[2]).rank(QUERY, docs)
    counts = [s.documents for s in results.stages]
    assert counts == [len(docs), min(first, len(docs)), min(first, second, len(docs))]
    cheap = order(Points(0).rank(QUERY, docs))
    assert {r.doc_id for r in results[:counts[1]]} == set(cheap[:counts[1]]) and order(results)[counts[1]:] == cheap[counts[1]:]
    assert [r.stage for r in results] == ["points#3"] * counts[2] + ["points#2"] * (counts[1] - counts[2]) + ["points"] * (len(docs) - counts[1])
    assert all(("points#3" in r.scores) == (r.stage == "points#3") for r in results) and all("points" in r.scores for r in results)


def test_usage_and_time_by_stage():
    results = Cascade((Points(), 4), Points(1)).rank(QUERY, TEXTS)
    assert results.usage.calls == 2 and [s.usage.calls for s in results.stages] == [1, 1] and all(s.seconds > 0 for s in results.stages)


@pytest.mark.parametrize(("depth", "n", "expected"), [(3, 10, 3), (30, 10, 10), (0.25, 10, 3), (0.01, 10, 1), (None, 10, 10)])
def test_depth_by_number_and_share(depth, n, expected): assert Depth.of(depth).count(n) == expected


def test_depth_by_score():
    cheap = Points(levels=10)
    known = dict(zip(range(len(TEXTS)), [cheap.rank(QUERY, [t])[0].score for t in TEXTS]))
    results = Cascade((cheap, {"above": 5}), Points(1)).rank(QUERY, TEXTS)
    assert {r.doc_id for r in results if r.stage == "points#2"} == {i for i, s in known.items() if s >= 5}
    nobody = Cascade((cheap, {"above": 1e9}), Points(1)).rank(QUERY, TEXTS)
    assert [s.name for s in nobody.stages] == ["points"] and order(nobody) == order(cheap.rank(QUERY, TEXTS))


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20), st.floats(0.1, 9), st.floats(-9, 9))
def test_what_the_gates_read(values, scale, shift):
    assert 0 <= margin_of(values) <= 1 and -1e-9 <= entropy_of(values) <= 1 + 1e-9
    assert margin_of([v * scale + shift for v in values]) == pytest.approx(margin_of(values), abs=1e-6), "the unit of scores does not matter"
    assert entropy_of([v + shift for v in values]) == pytest.approx(entropy_of(values), abs=1e-6)
    assert entropy_of([values[0]] * len(values)) == pytest.approx(1) and margin_of([values[0]] * len(values)) == 0


@pytest.mark.parametrize(("misses", "looked"), [(3, 6), (100, 60)])
def test_patience_ends_when_nothing_is_found(misses, looked):
    "The cheap stage is right, so after the best three every document misses"
    class Length(PointwiseRanker):
        words = ("length",)
        def score_pairs(self, pairs, call): return [float(len(t)) for _, t in pairs]
    docs = ["x" * (60 - i) for i in range(60)]
    results = Cascade((Length(), {"misses": misses, "top": 3, "step": 3}), Length()).rank(QUERY, docs)
    assert sum(s.documents for s in results.stages if s.name == "length#2") == min(looked, 60) and order(results) == list(range(60))


def test_a_rule_for_scores_refuses_an_order():
    for rule in ({"above": 1}, {"margin": 0.5}, {"entropy": 0.5}):
        with pytest.raises(InputError, match="order without scores"): Cascade((Backwards(), rule), "bm25").rank(QUERY, TEXTS)
    with pytest.raises(InputError, match="order without scores"): Cascade(("bm25", {"misses": 2}), Backwards()).rank(QUERY, TEXTS)


@pytest.mark.parametrize("wrong", [("bm25",), (("bm25", 0), "bm25"), (("bm25", -1), "bm25"), (("bm25", True), "bm25"), (("bm25", "many"), "bm25"),
                                   (("bm25", {"depth": 3}), "bm25"), (("bm25", {"misses": 0}), "bm25"), (("bm25", {"above": float("nan")}), "bm25"),
                                   (("bm25", 1, 2), "bm25"), (42, "bm25"), (None, "bm25")])
def test_what_is_no_cascade(wrong):
    with pytest.raises(InputError): Cascade(*wrong)


LINES = {"bm25:100 > offline": ("bm25", "offline", [100]), "bm25:0.5 > bm25:2 > offline": ("bm25", "bm25", "offline", [0.5, 2]),
         'bm25(k1=0.9):20 > bm25': ("bm25(k1=0.9)", "bm25", [20]), '"ollama/llama3:8b" > bm25': ('ollama/llama3:8b', "bm25", None),
         'bm25:{"margin": 0.2} > bm25': ("bm25", "bm25", [{"margin": 0.2}]),
         "bm25:20>bm25": ("bm25", "bm25", [20]), "bm25>bm25(k1=0.9)>offline": ("bm25", "bm25(k1=0.9)", "offline", None)}


@pytest.mark.parametrize("line", LINES)
def test_cascades_on_one_line(line):
    *parts, depths = LINES[line]
    spec = Spec.parse(line)
    assert spec.name == "cascade" and list(spec.parts) == [Spec.parse(p) if "(" in p else Spec(p) for p in parts]
    assert spec.options.get("depths") == depths and Spec.parse(str(spec)) == spec


@pytest.mark.parametrize("line", ["bm25:3 >", "> bm25 > bm25", "bm25:3 > > bm25", "bm25(k1=1):3", "bm25 > bm25 bm25"])
def test_a_broken_line_shows_the_place(line):
    with pytest.raises(InputError, match="is no description of a ranker"): Spec.parse(line)


@pytest.mark.parametrize(("line", "place"), [("bm25 >", "the end"), ("> bm25", "'> bm25'"), ("bm25:3> ", "the end")])
def test_a_broken_cascade_is_no_name(line, place):
    with pytest.raises(InputError, match=f"is no description of a ranker: a name or a value is missing at {place}"): Reranker(line)


def test_a_cascade_on_one_line_is_a_part():
    spec = Spec.parse("fallback(bm25:3 > bm25(k1=0.5) , fusion(bm25, bm25:2>bm25), keep=true)")
    cascade, fusion = spec.parts
    assert cascade == Spec.parse("bm25:3 > bm25(k1=0.5)") and fusion == Spec("fusion", ("bm25", Spec.parse("bm25:2 > bm25"))) and spec.options == {"keep": True}
    assert Spec.parse(str(spec)) == spec == Reranker(spec).spec


def test_a_name_with_an_arrow_is_quoted(): assert Spec.parse(str(Spec("a>b", (), {"x": "c>d"}))) == Spec("a>b", (), {"x": "c>d"})


def test_a_name_with_a_colon_alone_is_a_name(): assert Spec.parse("ollama/llama3:8b") == Spec("ollama/llama3:8b") and Spec.of("x:20") == Spec("x:20")


# ---------- fusion

@pytest.mark.parametrize("method", FUSIONS)
@given(docs=DOCS, levels=st.integers(1, 30))
def test_a_fusion_of_one_is_that_one(method, docs, levels):
    alone = Points(levels=levels)
    assert order(Fusion(alone, method=method).rank(QUERY, docs)) == order(alone.rank(QUERY, docs))


def test_a_fusion_of_one_order_is_that_order(): assert order(Fusion(Backwards()).rank(QUERY, TEXTS)) == list(range(len(TEXTS)))[::-1]


@pytest.mark.parametrize("method", FUSIONS)
@given(docs=DOCS)
def test_the_order_of_parts_and_of_documents_does_not_matter(method, docs):
    a, b = Points(1, 9), Points(2, 9)
    def by_text(results): return sorted((r.text, round(r.score, 9)) for r in results)
    one = Fusion(a, b, method=method).rank(QUERY, docs)
    assert by_text(one) == by_text(Fusion(b, a, method=method).rank(QUERY, docs)) == by_text(Fusion(a, b, method=method).rank(QUERY, docs[::-1]))


@given(st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=12))
def test_places(values):
    found = places_of(Ranking(values))
    for value, place in zip(values, found): assert place == (None if value is None else 1 + sum(other is not None and other > value for other in values))


@pytest.mark.parametrize("name", NORMALISERS)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_normalisers_keep_the_order(name, values):
    found = NORMALISERS[name](values)
    for i, _ in enumerate(values):
        for j, _ in enumerate(values): assert not (values[i] > values[j] and found[i] < found[j])


def test_rrf_by_hand():
    results = Fusion(Points(1), Backwards(), k=10).rank(QUERY, TEXTS[:4])
    places = {r.doc_id: (r.scores["points: rank"], r.scores["Backwards: rank"]) for r in results}
    assert [p[1] for _, p in sorted(places.items())] == [4, 3, 2, 1]
    for r in results: assert r.score == pytest.approx(sum(1 / (10 + p) for p in places[r.doc_id]))


@pytest.mark.parametrize("wrong", [dict(weights=[1]), dict(weights="ab"), dict(weights=[1, float("nan")]), dict(weights={"bm26": 1}), dict(weights=[1, "2"]),
                                   dict(method="sum"), dict(normalise="max"), dict(k=0)])
def test_what_is_no_fusion(wrong):
    with pytest.raises(InputError): Fusion("bm25", "bm25", **wrong)
    with pytest.raises(InputError): Fusion()


def test_fitted_weights_find_the_part_that_knows():
    pytest.importorskip("ir_measures")
    class Knows(PointwiseRanker):
        words = ("knows",)
        def score_pairs(self, pairs, call): return [float(text.endswith(query)) for query, text in pairs]
    queries, docs = ["0", "1", "2", "3"], [f"document {i}" for i in range(20)]
    judged = [{int(q): 1} for q in queries]
    best = fitted(Fusion(Points(3), Knows(), method="combsum"), queries, docs, judged)
    assert all(best.rank(q, docs)[0].doc_id == int(q) for q in queries) and best.weights[1] > best.weights[0]


# ---------- fallbacks

NINE = [ServerError("500"), RateLimitError("429"), ProviderTimeoutError("slow"), AuthenticationError("401"), BadRequestError("400"),
        UnusableAnswer("an order of other documents"), ProviderError("a broken line"), ServerError("503"), RateLimitError("quota")]


@pytest.mark.parametrize("error", NINE, ids=lambda e: f"{type(e).__name__}-{e}")
def test_after_an_error_the_next_one_answers(error):
    results = Fallback(Faulty(error), "bm25").rank(QUERY, TEXTS)
    assert order(results) == order(Reranker("bm25").rank(QUERY, TEXTS)) and results.status == f"bm25 answered; Faulty: {type(error).__name__}: {error}"
    assert [s.name for s in results.stages] == ["Faulty", "bm25"]


def test_a_first_that_works_is_all():
    second = Faulty()
    results = Fallback(Points(), second).rank(QUERY, TEXTS)
    assert (order(results), scores(results)) == (order(Points().rank(QUERY, TEXTS)), scores(Points().rank(QUERY, TEXTS)))
    assert results.status == "complete" and second.calls == 0


def test_a_mistake_of_the_caller_is_no_failure():
    with pytest.raises(InputError, match="empty"): Fallback("bm25", keep=True).rank(" ", TEXTS)
    class Foreign(Exception): pass
    with pytest.raises(Foreign): Fallback(Faulty(Foreign()), "bm25").rank(QUERY, TEXTS)
    assert Fallback(Faulty(Foreign("mine")), "bm25", on=(Foreign,)).rank(QUERY, TEXTS).status == "bm25 answered; Faulty: Foreign: mine"


def test_a_thousand_calls_with_faults_lose_nothing():
    random_ = random.Random(7)
    first, second = ([random_.choice(NINE) if random_.random() < 0.3 else None for _ in range(1000)] for _ in range(2))
    ranker = Fallback(Faulty(*first), Faulty(*second), keep=True, failures=1_000)
    seen, used = Counter(), 0
    for call in range(1000):
        results = ranker.rank(QUERY, TEXTS)
        assert sorted(order(results)) == list(range(len(TEXTS)))
        broken, worse = first[call] is not None, first[call] is not None and second[used % 1000] is not None
        used += broken
        assert (results.status == "complete", results.status.startswith("Faulty#2 answered"), results.status.startswith("nobody")) == (
            not broken, broken and not worse, worse)
        seen[results.status.split()[0]] += 1
    assert len(seen) == 3 and seen["complete"] > 600


def test_one_query_of_many_fails_alone():
    class Picky(PointwiseRanker):
        words = ("picky",)
        def score_pairs(self, pairs, call):
            if any(query == "bad" for query, _ in pairs): raise ServerError("not this one")
            return [float(len(t)) for _, t in pairs]
    ranker = Fallback(Picky(), "bm25")
    expected = ["complete", "bm25 answered; picky: ServerError: not this one", "complete"]
    assert [r.status for r in ranker.rank_many(["good", "bad", "fine"], TEXTS)] == expected
    assert [r.status for r in asyncio.run(ranker.rank_many_async(["good", "bad", "fine"], TEXTS))] == expected


def test_a_slow_part_is_left_for_the_next(monkeypatch):
    class Slow(SetwiseRanker):
        words = ("dawdling",)
        def score_documents(self, query, texts, call):
            from rerankers.calls import check_wanted
            while True: check_wanted()
    results = Fallback(Slow(), "bm25", timeout=1.0).rank(QUERY, TEXTS)
    assert order(results) == order(Reranker("bm25").rank(QUERY, TEXTS)) and results.status.startswith("bm25 answered; dawdling: ")
    assert sorted(order(Fallback(Slow(), timeout=0.05).rank(QUERY, TEXTS))) == list(range(len(TEXTS)))


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=40), st.integers(1, 4))
def test_a_breaker_is_open_after_failures_in_a_row_and_until_its_rest_is_over(events, failures):
    now, row, last = [0.0], 0, 0.0
    breaker = Breaker(failures, rest=10, clock=lambda: now[0])
    for later, good in events:
        now[0] += later
        expected = "closed" if row < failures else "half-open" if now[0] - last >= 10 else "open"
        assert breaker.state == expected
        if not breaker.allows():
            assert expected == "open"
            continue
        if expected == "half-open": assert not breaker.allows(), "one call may try"
        breaker.tell(good)
        row, last = (0, last) if good else (row + 1, now[0])


def test_a_part_that_is_down_is_not_asked():
    down, now = Faulty(ServerError("down")), [0.0]
    ranker = Fallback(down, "bm25", failures=3, rest=10, clock=lambda: now[0])
    for _ in range(10): assert ranker.rank(QUERY, TEXTS).status.startswith("bm25 answered")
    assert down.calls == 3
    now[0] = 10.0
    for _ in range(5): ranker.rank(QUERY, TEXTS)
    assert down.calls == 4
    assert pickle.loads(pickle.dumps(Fallback("bm25", "bm25"))).breakers["bm25"].state == "closed"


def test_nobody_is_left():
    with pytest.raises(ServerError, match="down"): Fallback(Faulty(ServerError("down")), Faulty(ServerError("down"))).rank(QUERY, TEXTS)
    ranker = Fallback(Faulty(ServerError("down")), failures=1)
    with pytest.raises(ServerError): ranker.rank(QUERY, TEXTS)
    with pytest.raises(ProviderError, match="left alone after its failures"): ranker.rank(QUERY, TEXTS)
    kept = Fallback(Faulty(ServerError("down")), keep=True).rank(QUERY, [Document(t, i + 5) for i, t in enumerate(TEXTS)])
    assert order(kept) == list(range(5, 5 + len(TEXTS))) and not kept.has_scores and kept.status.startswith("nobody answered")


# ---------- long documents

PIECES = ["To be. ", "or not", "to be! ", "\n\n", "\n# Act I\n", "生存还是毁灭。", "that", "is", " ", "the question? ", "e.g. this", "\t"]
PROSE = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@pytest.mark.parametrize("unit", UNITS)
@given(text=PROSE, size=st.integers(1, 12), overlap=st.integers(0, 11))
@example(text="生存还是毁灭。To be. ", size=1, overlap=0)
def test_passages_have_every_word_and_no_more_than_fit(unit, text, size, overlap):
    overlap = min(overlap, size - 1)
    spans = split_spans(text, unit=unit, size=size, overlap=overlap)
    words = word_spans(text, (0, len(text)))
    assert spans and all(0 <= a <= b <= len(text) for a, b in spans)
    assert all(any(a <= start and end <= b for a, b in spans) for start, end in words), "a word is lost or cut in two"
    assert all(len(word_spans(text, span)) <= size for span in spans) and spans == sorted(set(spans))
    if overlap == 0: assert sum(len(word_spans(text, span)) for span in spans) == len(words)


@given(DOCS, st.sampled_from(sorted(PASSAGE_AGGREGATES)))
def test_short_documents_are_ranked_as_ever(docs, aggregate):
    plain, same = Points().rank(QUERY, docs), LongDocuments(Points(), size=50, aggregate=aggregate).rank(QUERY, docs)
    assert order(same) == order(plain) and all(r.passage is None for r in same)
    if aggregate != "ranks": assert scores(same) == scores(plain)


@pytest.mark.parametrize("how", PASSAGE_AGGREGATES)
def test_the_best_passage_is_named_and_its_score_is_the_documents(how):
    docs = ["one two three. a b c. four five six.", "nothing here at all. seven eight nine.", "short"]
    ranker = LongDocuments("bm25", size=3, aggregate=how)
    results = ranker.rank("a b c", docs)
    best = results.get_result_by_docid(0)
    assert best.rank == 1 or how in ("first", "mean")
    assert docs[0][slice(*best.passage)] == "a b c." and results.get_result_by_docid(2).passage is None
    again = type(results).from_dict(results.to_dict())
    assert again == results and again.get_result_by_docid(0).passage == best.passage


def test_an_order_of_passages_is_an_order_of_documents():
    results = LongDocuments(Backwards(), size=3).rank(QUERY, ["a b c. d e f. g h i.", "x", "y z."])
    assert order(results) == [2, 1, 0] and not results.has_scores


def test_titles_and_metadata_stay_with_passages():
    seen = []
    class Sees(PointwiseRanker):
        words = ("sees-views",)
        def score_pairs(self, pairs, call):
            seen.extend(text for _, text in pairs)
            return [0.0] * len(pairs)
    doc = {"title": "Hamlet", "text": "a b c. d e f.", "year": 1603}
    LongDocuments(Sees(), size=3).rank(QUERY, [doc])
    assert seen == ["Hamlet a b c.", "Hamlet d e f."] or seen == ["Hamlet\na b c.", "Hamlet\nd e f."]
    seen.clear()
    results = LongDocuments(Sees(), size=3, titles=False).rank(QUERY, [doc])
    assert seen == ["a b c.", "d e f."] and results[0].document.text == doc["text"] and results[0].metadata["year"] == 1603


@pytest.mark.parametrize("split", [lambda text: [], lambda text: ["elsewhere"], lambda text: [(0, 10 ** 6)], lambda text: [(3, 1)]])
def test_a_splitter_that_is_wrong_is_an_error(split):
    with pytest.raises(InputError, match="split="): LongDocuments("bm25", split=split).rank(QUERY, ["a b c d e f"])


@pytest.mark.parametrize("wrong", [dict(size=0), dict(overlap=-1), dict(size=5, overlap=5), dict(aggregate="best"), dict(split="lines"), dict(split="tokens")])
def test_what_is_no_split(wrong):
    with pytest.raises(InputError): LongDocuments("bm25", **wrong)


# ---------- diversity

def rows(n): return st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=n, max_size=n)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.lists(st.floats(0, 1), min_size=n, max_size=n), rows(n))))
def test_mmr_with_a_weight_of_one_changes_nothing_and_always_has_all(made):
    relevance, alike = made
    assert mmr(relevance, alike, 1) == sorted(range(len(relevance)), key=lambda i: -relevance[i]) == xquad(relevance, alike, 1)
    for weight in (0.0, 0.3, 0.9):
        assert sorted(mmr(relevance, alike, weight)) == sorted(xquad(relevance, alike, weight)) == list(range(len(relevance)))


@given(DOCS)
def test_diversity_switched_off_is_the_ranker(docs):
    plain, same = Points().rank(QUERY, docs), Diverse(Points(), weight=1, copies=False).rank(QUERY, docs)
    assert (order(same), scores(same)) == (order(plain), scores(plain)) and not any(r.note for r in same)


def slow_mmr(relevance, alike, weight):
    "The formula as it is printed"
    left, chosen = list(range(len(relevance))), []
    while left:
        def value(i): return weight * relevance[i] - (1 - weight) * max((alike[j][i] for j in chosen), default=0.0)
        best = max(value(i) for i in left)
        pick = min((i for i in left if value(i) == best), key=lambda i: (-relevance[i], i))
        left.remove(pick)
        chosen.append(pick)
    return chosen


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.lists(st.integers(0, 4).map(lambda v: v / 4), min_size=n, max_size=n), rows(n))))
def test_mmr_is_the_printed_formula(made):
    for weight in (0.0, 0.3, 0.5, 0.9): assert mmr(*made, weight) == slow_mmr(*made, weight), weight


def test_copies_follow_at_the_end_with_a_note():
    long = "the pump of the waterworks failed on monday after a power cut"
    results = Diverse(Points(), weight=1).rank(QUERY, [long, "something else", long.upper(), long + " again", "a third thing"])
    at_end = [r for r in results if r.note]
    assert len(results) == 5 and {r.doc_id for r in at_end} < {0, 2, 3} and len(at_end) == 2 and list(results[-2:]) == at_end
    kept = next(r.doc_id for r in results if r.doc_id in (0, 2, 3))
    assert {r.note for r in at_end} == {f"a copy of {kept}"}


@pytest.mark.parametrize("wrong", [dict(weight=1.5), dict(weight=True), dict(copies=-1), dict(similarity="bm25"), dict(aspects="what it means")])
def test_what_is_no_diversity(wrong):
    with pytest.raises(InputError): Diverse("bm25", **wrong)


# ---------- other signals

DATED = st.lists(st.tuples(st.sampled_from(TEXTS), st.one_of(st.none(), st.integers(0, 2_000_000_000))), min_size=1, max_size=12)


BY_HAND = {"half-life": lambda r, age, w: r * (1 - w + w * 0.5 ** (age / 30)), "exponential": lambda r, age, w: r + w * math.e ** (-age / 30),
           "linear": lambda r, age, w: r * (1 - w * min(age / 30, 1))}


@pytest.mark.parametrize("kind", RECENCIES)
@given(docs=DATED, weight=st.sampled_from([0.0, 0.15, 1.0]))
def test_recency_weighs_as_it_is_written(kind, docs, weight):
    items = [{"text": text, **({} if when is None else {"date": when})} for text, when in docs]
    results = Recency(Points(), kind=kind, weight=weight, days=30, now=1_700_000_000).rank(QUERY, items)
    assert sorted(order(results)) == list(range(len(docs)))
    for r in results:
        relevance, when = r.scores["relevance"], docs[r.doc_id][1]
        age = None if when is None else max(1_700_000_000 - when, 0) / 86_400
        assert r.scores.get("age in days") == (None if age is None else pytest.approx(age))
        assert r.score == pytest.approx(relevance if age is None else BY_HAND[kind](relevance, age, weight))
    if weight == 0: assert order(results) == order(Points().rank(QUERY, [text for text, _ in docs]))


@pytest.mark.parametrize("wrong", ["soon", True, [], "2026-13-01", float("inf"), 1e30])
def test_what_is_no_date(wrong):
    with pytest.raises(InputError, match="no date"): moment(wrong)


def test_a_boost_is_asked_before_anything_is_paid_for():
    part = Points()
    ranker = Fields(part, boosts={"likes": lambda n: -1})
    with pytest.raises(InputError, match="boost of likes"): ranker.rank(QUERY, [{"text": "a", "likes": 3}])
    assert not part.seen


NO_SIGNALS = [lambda: Recency("bm25", kind="quadratic"), lambda: Recency("bm25", days=0), lambda: Recency("bm25", weight=2),
              lambda: Recency("bm25", now="x"), lambda: Fields("bm25", boosts={}), lambda: Fields("bm25", boosts={"a": 3}),
              lambda: Blend("bm25", weights=[1, 2]), lambda: Blend("bm25", normalise="softmax"), lambda: Blend("bm25", model="lightgbm"), lambda: Blend()]


@pytest.mark.parametrize("make", NO_SIGNALS)
def test_what_is_no_signal(make):
    with pytest.raises(InputError): make()


def test_a_blend_believes_whoever_is_right_and_takes_models():
    pytest.importorskip("sklearn")
    class Knows(PointwiseRanker):
        words = ("knows-signals",)
        def score_pairs(self, pairs, call): return [float(text.endswith(query)) for query, text in pairs]
    queries, docs = ["0", "1", "2", "3"], [f"document {i}" for i in range(10)]
    blend = learned(Blend(Points(3), Knows()), queries, docs, [{int(q): 1} for q in queries])
    assert all(blend.rank(q, docs)[0].doc_id == int(q) for q in queries) and blend.weights[1] > abs(blend.weights[0])
    class Second:
        def predict(self, rows): return [row[1] for row in rows]
    assert Blend(Points(3), Knows(), model=Second()).rank("2", docs)[0].doc_id == 2


class Size(PointwiseRanker):
    "The number in a text"
    words = ("size-of-number",)
    def score_pairs(self, pairs, call): return [float(text.split()[-1]) for _, text in pairs]


@pytest.mark.parametrize("module", ["lightgbm.LGBMClassifier", "sklearn.ensemble.GradientBoostingClassifier"])
def test_trees_learn_what_weights_cannot(module):
    "Relevant are numbers in the middle"
    where, name = module.rsplit(".", 1)
    options = {"min_child_samples": 1, "min_data_in_bin": 1, "verbose": -1, "n_jobs": 1} if name == "LGBMClassifier" else {"random_state": 0}
    model = getattr(pytest.importorskip(where), name)(n_estimators=20, **options)
    docs, good = [f"number {i}" for i in range(60)], {i: 1 for i in range(20, 40)}
    blend = Blend(Size(), "bm25", normalise="none")
    def first(ranker): return {r.doc_id for r in ranker.rank("number", docs).top_k(len(good))}
    trees = learned(blend, ["number"], [docs], [good], model=model)
    assert first(trees) == set(good) != first(learned(blend, ["number"], [docs], [good]))
    assert not hasattr(model, "classes_"), "the caller's model is fitted in a copy"


def test_what_is_no_model_to_learn_with():
    with pytest.raises(InputError, match="lacks fit or predict_proba"): learned(Blend("bm25"), ["q"], [["a", "b"]], [{0: 1}], model="lightgbm")


@pytest.mark.parametrize("values", [{2024: 1.5, 2025: 2.0}, {2.5: 1.5}, {True: 2.0, False: 0.5}, {None: 0.5}, {"2024": 1.5, 2024: 2.0}, {"a": 1.5}])
def test_values_of_fields_keep_their_type_when_written(values):
    made = Fields("bm25", boosts={"year": values})
    docs = [Document("a b", metadata={"year": year}) for year in (2024, "2024", 2025, 2.5, True, False, None, "a", "True")]
    written = [Spec.parse(str(made.spec)), Spec.from_json(made.spec.to_json())]
    if None not in values and sys.version_info >= (3, 11): written.append(Spec.from_toml(made.spec.to_toml()))
    for spec in written:
        again = Reranker(spec)
        assert again.spec == made.spec and again.boosts == {"year": values} and again.rank(QUERY, docs) == made.rank(QUERY, docs)
    factors = {i: values.get(d.metadata["year"], 1.0) for i, d in enumerate(docs)}
    assert {r.doc_id: r.scores["boost"] for r in made.rank(QUERY, docs)} == factors


def test_a_value_that_cannot_be_written_is_named():
    made = Fields("bm25", boosts={"when": {(2024, 1): 2.0}})
    assert made.rank(QUERY, [Document("a", metadata={"when": (2024, 1)})])[0].scores["boost"] == 2.0
    with pytest.raises(InputError, match="boosts= of 'fields' is a tuple"): str(made.spec)


@pytest.mark.parametrize("wrong", [3, "ab", [1], [[[1], 2.0]], [["a"]], [["a", -1]]])
def test_what_is_no_boost(wrong):
    with pytest.raises(InputError, match="boost"): Fields("bm25", boosts={"year": wrong})


class Shaky(PointwiseRanker):
    "Equally good documents, whose scores move with the others of their batch"
    score_noise = 0.5
    def __init__(self, seed): self.seed = seed
    def score_pairs(self, pairs, call): return [random.Random(f"{self.seed} {text}").uniform(-0.25, 0.25) for _, text in pairs]


@pytest.mark.parametrize("normalise", NORMALISERS)
@pytest.mark.parametrize("method", FUSIONS)
@given(docs=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=25, unique=True), seed=st.integers(0, 99),
       weights=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)))
def test_scores_of_a_fusion_move_as_little_as_it_says(method, normalise, docs, seed, weights):
    "One part's scores move within what it declares: the fusion's move within what that declares"
    steady = Points()
    one, other = (Fusion(steady, Shaky(s), method=method, normalise=normalise, weights=weights) for s in (seed, seed + 100))
    before, after = one.rank(QUERY, docs), other.rank(QUERY, docs)
    moved = max(abs(r.score - after.get_score_by_docid(r.doc_id)) for r in before)
    assert moved <= one.score_noise * (1 + 1e-9) and one.score_noise > 0


def test_rounding_moves_no_place():
    assert Fusion("bm25", "bm25").score_noise == Reranker("bm25").score_noise and Fusion(Shaky(0), "bm25").score_noise == 1 / 61
    assert Fusion(Shaky(0), "bm25", k=9, weights=[3, 5]).score_noise == pytest.approx(0.3) and Fusion(Shaky(0), Shaky(1), method="combmnz").score_noise == 4.0


NOBODY = {"cascade": lambda: Cascade("bm25", "bm25"), "kept": lambda: Fallback(Faulty(ServerError("down")), keep=True),
          "long": lambda: LongDocuments("bm25"),
          "deep": lambda: Fusion(Cascade("bm25", "bm25"), LongDocuments(Fusion("bm25", "bm25"), size=2))}
OVER = {"fusion": lambda a: Fusion(a, a), "combsum": lambda a: Fusion(a, method="combsum"), "blend": lambda a: Blend(a, a),
        "recency": lambda a: Recency(a), "fields": lambda a: Fields(a, boosts={"n": {"1": 2.0}}),
        "long": lambda a: LongDocuments(a, size=2), "ranks": lambda a: LongDocuments(a, size=2, aggregate="ranks"),
        "fallback": lambda a: Fallback(a, keep=True)}


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("name", NOBODY)
def test_what_nobody_judged_has_no_score(name, over):
    "However deep the ranker is that had no time, or did not answer"
    results = OVER[over](NOBODY[name]()).rank(QUERY, TEXTS, deadline=None if name == "kept" else 0)
    assert order(results) == list(range(len(TEXTS))) and set(scores(results)) == {None} and not results.has_scores and results.status != "complete"


@pytest.mark.parametrize("inner", ["fusion", "blend", "fields", "recency", "long"])
def test_the_scores_of_a_combination_within_another_count(inner):
    "As those of any other ranker; only an order that says more than they do takes their place"
    part = {"fusion": lambda: Fusion("bm25", "bm25"), "blend": lambda: Blend("bm25", Reranker("bm25", k1=0.5)), "recency": lambda: Recency("bm25"),
            "fields": lambda: Fields("bm25", boosts={"n": {"1": 2.0}}), "long": lambda: LongDocuments("bm25")}[inner]()
    alone = part.rank(QUERY, TEXTS)
    outer = Fusion(part, method="combsum", normalise="none").rank(QUERY, TEXTS)
    assert (order(outer), scores(outer)) == (order(alone), pytest.approx(scores(alone))) == (order(r := LongDocuments(part).rank(QUERY, TEXTS)), scores(r))


def test_documents_that_a_cascade_left_behind_keep_their_places():
    inner = Cascade((Points(), 3), Points(1))
    places = [r.scores["cascade: rank"] for r in Fusion(inner).rank(QUERY, TEXTS)]
    assert places == list(range(1, len(TEXTS) + 1)) and order(Fusion(inner, method="combsum").rank(QUERY, TEXTS)) == order(inner.rank(QUERY, TEXTS))


@pytest.mark.parametrize("make", [lambda: Fallback("bm25", keep="no"), lambda: Reranker("fallback(bm25, keep=no)"),
                                  lambda: LongDocuments("bm25", titles="no"), lambda: LongDocuments("bm25", titles=0)])
def test_a_word_is_no_truth_value(make):
    with pytest.raises(InputError, match="give True or False"): make()
