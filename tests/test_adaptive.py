"Adaptive re-ranking: the authors' lists and calls, nothing lost, never more than the budget, and what is wrong is said before anything is paid for"
import asyncio
import itertools
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rerankers.calls as calls
from official import fingerprint, gar, walks
from rerankers import Cascade, Document, Fallback, Fusion, InputError, RankedResults, Reranker, ServerError, Spec
from rerankers.combine import Adaptive, Blend, Budget, Diverse, Fields, LongDocuments, Recency, nearest
from rerankers.combine.combined import Ask, CombinedRanker
from rerankers.rankers import PointwiseRanker, Ranking
from rerankers.results import Usage
from rerankers.strategies.kinds import ListwiseRanker
from rerankers.testing import CHECKS
from rerankers.tiny_models import tiny_checkpoint, tiny_late

SLIDE_GAR = "7c4ae26c9e5db882"      # written by tests/official.py

def order(results): return [r.doc_id for r in results]
def shown(ranker): return [text for batch in ranker.batches for text in batch]


class Table(PointwiseRanker):
    "Scores by a table, or else by the text's length; keeps what it was shown"
    words = ("table",)
    def __init__(self, score=None): self.score, self.batches = score or {}, []
    def score_pairs(self, pairs, call):
        self.batches.append([text for _, text in pairs])
        return Ranking([self.score.get(t, float(len(t))) for _, t in pairs], truncated=[len(t) > 5 for _, t in pairs], notes=[f"read {t}" for _, t in pairs],
                       usage=Usage(calls=1, input_tokens=len(pairs)), explain=lambda i: pairs[i][1])


class Order(ListwiseRanker):
    "The same as an order without scores"
    def __init__(self, score=None): self.score, self.batches = score or {}, []
    def order_windows(self, windows, call):
        self.batches += [list(w.texts) for w in windows]
        return [sorted(range(len(w.texts)), key=lambda i: -self.score.get(w.texts[i], len(w.texts[i]))) for w in windows]


GRAPH = {"a": ["b", "x", "yy"], "b": ["zzz"], "zzz": ["wwww", "a"], "x": ["b"]}
OTHERS = {"x": "x", "yy": {"text": "yy", "year": 1999}, "zzz": Document("zzz", title=None), "wwww": "wwww", "a": "a", "b": "b"}
def by_letter(doc_id): return GRAPH.get(doc_id, ())
def adaptive(part=None, **options): return Adaptive(part or Table(), **{"neighbours": GRAPH, "documents": OTHERS, "batch": 1, "budget": 9, **options})


# ---------- the authors' code

def test_the_lists_and_calls_of_pyterrier_adaptive():
    theirs = gar()
    for walk in walks():
        part = Table(walk.score)
        results = Adaptive(part, neighbours=walk.graph, documents={d: d for d in walk.graph}, budget=walk.budget,
                           batch=walk.batch).rank("q", walk.listed, walk.listed)
        batches, ids, scores = theirs(walk)
        assert part.batches == batches
        assert order(results)[:len(ids)] == ids, "theirs end at the budget; ours go on with the candidates that were not scored"
        known = [r.score for r in results if r.score is not None]
        assert known == scores[:len(known)] and len(known) == min(walk.budget, len(known))


def test_the_lists_and_calls_of_the_slidegar_authors():
    "Their code is not on PyPI, so what it does on these graphs is recorded"
    found = []
    for walk in walks():
        part = Order(walk.score)
        results = Adaptive(part, neighbours=walk.graph, documents={d: d for d in walk.graph}, budget=walk.budget,
                           window=walk.window, step=walk.step).rank("q", walk.listed, walk.listed)
        found.append([part.batches, order(results)[:walk.budget]])
    assert fingerprint(found) == SLIDE_GAR


# ---------- a ranker like any other

WITHIN = {"doc-10": ["doc-11"], "doc-11": ["doc-10", "doc-8"], ("tuple", 12): ["doc-11"]}
ONES = {"no neighbours": lambda: Adaptive(Table(), neighbours={}), "small batches": lambda: Adaptive(Table(), neighbours={}, batch=2),
        "a graph of candidates": lambda: Adaptive(Table(), neighbours=WITHIN, batch=3),
        "a function": lambda: Adaptive("bm25", neighbours=by_letter), "an order": lambda: Adaptive(Order(), neighbours={}, window=6, step=2),
        "slidegar": lambda: Adaptive("bm25", neighbours={}, method="slidegar", window=8, step=3),
        "first": lambda: Cascade(Adaptive("bm25", neighbours={}), "bm25"),
        "last": lambda: Cascade(("bm25", 5), Adaptive("bm25", neighbours={})), "spare": lambda: Fallback(Adaptive("bm25", neighbours={}), "bm25")}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ONES)
def test_the_contract(name, check): check(ONES[name]())


@given(st.lists(st.text("abc", max_size=4), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 9))
def test_without_neighbours_it_is_its_part(docs, batch, salt):
    part = Table({t: float(random.Random(f"{salt} {t}").randrange(9)) for t in docs})
    alone, whole = part.rank("q", docs), Adaptive(part, neighbours={}, batch=batch).rank("q", docs)
    assert [(r.doc_id, r.score, r.text) for r in whole] == [(r.doc_id, r.score, r.text) for r in alone]
    window = Order(part.score)
    assert order(Adaptive(window, neighbours={}, window=40).rank("q", docs)) == order(window.rank("q", docs)), "as long as one window holds all"


IDS = st.lists(st.integers(0, 30), max_size=12)


@settings(max_examples=300)
@given(st.data(), IDS, st.integers(1, 40), st.integers(1, 6), st.sampled_from(["gar", "slidegar"]))
def test_every_document_once_and_never_more_than_the_budget(data, listed, budget, size, method):
    "Whatever the graph: loops, repeated neighbours, repeated candidates, islands"
    graph = data.draw(st.dictionaries(st.integers(0, 30), st.lists(st.integers(0, 30), max_size=5)))
    part = Table({str(i): float(i * 7 % 31) for i in range(31)})
    results = Adaptive(part, neighbours=graph, documents={i: str(i) for i in range(31)}, budget=budget, batch=size,
                       window=2 * size, step=size, method=method).rank("q", [str(i) for i in listed], listed)
    own, new = [r for r in results if r.neighbour_of is None], [r for r in results if r.neighbour_of is not None]
    assert sorted(order(own)) == sorted(listed), "the caller's documents, each once"
    assert len({*order(new)}) == len(new) and not {*order(new)} & {*listed}, "and others, each once"
    assert all(r.doc_id in graph[r.neighbour_of] and r.text == str(r.doc_id) and r.rank == i for i, r in enumerate(results, 1) if r in new)
    scored = [r for r in results if r.scores]
    assert len(scored) == min(budget, len(scored)) and all(r.scores for r in new) and [r.rank for r in results] == list(range(1, len(results) + 1))
    if method == "gar": assert sum(s.documents for s in results.stages) == len(scored), "nothing is scored twice"
    else: assert all(s.documents <= 2 * size for s in results.stages)
    assert [r for r in results if not r.scores] == results[len(scored):].results
    left = [listed.index(r.doc_id) for r in results[len(scored):]]
    assert len(set(listed)) < len(listed) or left == sorted(left), "what was not scored keeps its order"


def test_where_a_document_comes_from():
    results = adaptive().rank("q", ["a", "b"], ["a", "b"])
    assert {r.doc_id: (r.text, r.neighbour_of) for r in results} == {
        "a": ("a", None), "b": ("b", None), "x": ("x", "a"), "yy": ("yy", "a"), "zzz": ("zzz", "b"), "wwww": ("wwww", "zzz")}
    assert order(results)[:3] == ["wwww", "zzz", "yy"] and results[2].metadata == results[2].document.metadata == {"year": 1999}
    assert RankedResults.from_dict(results.to_dict()) == results and pickle.loads(pickle.dumps(results)) == results
    assert [row.get("neighbour_of") for row in results.to_dict()["results"]] == [r.neighbour_of for r in results]
    assert results.to_dataframe()["neighbour_of"].dropna().tolist() == ["zzz", "b", "a", "a"]
    assert "wwww" in results._repr_html_() and results.to_trec().startswith("1 Q0 wwww 1 4.0")


def test_what_the_part_says_of_an_added_document_is_kept():
    results = adaptive(Table({"wwww": 9.0, "zzz": 8.0}), documents={**OTHERS, "yy": "yy-long"}).rank("q", ["a", "b"], ["a", "b"])
    assert [(r.note, r.explain(), r.stage) for r in results] == [(f"read {r.text}", r.text, "table") for r in results]
    assert [r.truncated for r in results] == [len(r.text) > 5 for r in results] and any(r.truncated for r in results)
    assert results.usage.calls == 6 == results.usage.input_tokens and [s.name for s in results.stages] == ["table"] * 6
    assert all(r.scores == {"table": r.score} for r in results)


def test_top_k_many_queries_and_async():
    ranker = adaptive()
    alone = [ranker.rank(q, docs, docs) for q, docs in (("q", ["a", "b"]), ("p", ["b"]))]
    assert [list(map(str, r)) for r in ranker.rank_many(["q", "p"], [["a", "b"], ["b"]], [["a", "b"], ["b"]])] == [list(map(str, r)) for r in alone]
    assert alone[0] != alone[1] and order(ranker.rank("q", ["a", "b"], ["a", "b"], top_k=2)) == order(alone[0])[:2]
    async def both(): return await asyncio.gather(*(ranker.rank_async(r.query, d, d) for r, d in zip(alone, (["a", "b"], ["b"]))))
    assert asyncio.run(both()) == alone
    assert order(ranker.rank("q", [])) == []


def test_the_score_of_one_document_is_its_own(): assert adaptive().score("q", Document("a", "a")) == 1.0


def test_sixteen_threads():
    ranker, docs = adaptive(batch=2), [["a", "b"], ["b"], ["b", "a"], ["a"]] * 8
    alone = [ranker.rank("q", d, d) for d in docs]
    with ThreadPoolExecutor(16) as pool: assert list(pool.map(lambda d: ranker.rank("q", d, d), docs)) == alone


def test_cancelled_in_the_middle():
    reached, go = threading.Event(), threading.Event()
    class Waiting(Table):
        def score_pairs(self, pairs, call):
            found = super().score_pairs(pairs, call)
            reached.set()
            go.wait(20)
            return found
    part = Waiting()
    async def main():
        task = asyncio.ensure_future(adaptive(part).rank_async("q", ["a", "b"], ["a", "b"]))
        await asyncio.to_thread(reached.wait, 20)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        go.set()
    asyncio.run(main())
    assert part.batches == [["a"]]


@pytest.mark.parametrize("method", ["gar", "slidegar"])
@pytest.mark.parametrize("seconds", [0, 3, 5, 99])
def test_a_deadline(monkeypatch, method, seconds):
    "What was not scored keeps its place after the others; neighbours that were not scored do not appear"
    now = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: now[0])
    class Slow(Table):
        def score_pairs(self, pairs, call):
            now[0] += len(pairs)
            calls.check_wanted()
            return super().score_pairs(pairs, call)
    part, ids = Slow({"x": 9.0, "yy": 8.0}), ["b", "a", "c", "d", "e", "f"]
    results = adaptive(part, method=method, batch=1, window=2, step=1).rank("q", ids, ids, deadline=seconds)
    seen = {*shown(part)}
    assert len(shown(part)) <= seconds and {*order(results)} == {*ids, *seen} and (results.status == "complete") == (seconds == 99)
    if seconds != 99: assert "were not judged: the deadline passed" in results.status
    after = [d for d in order(results) if d not in seen]
    assert order(results)[len(results) - len(after):] == after == [d for d in ids if d not in seen]


# ---------- what neighbours and documents may be

WAYS = {"a mapping": (GRAPH, OTHERS), "functions": (by_letter, OTHERS.__getitem__), "pairs": ([*GRAPH.items()], OTHERS),
        "generators": (lambda d: (n for n in by_letter(d)), OTHERS.get), "whole documents": (lambda d: [Document(OTHERS.get(n, n), n) if isinstance(
            OTHERS.get(n, n), str) else {"id": n, "text": n, **({"year": 1999} if n == "yy" else {})} for n in by_letter(d)], None),
        "a list of documents": (GRAPH, [{"id": "x", "text": "x"}, {"id": "yy", "text": "yy", "year": 1999}, Document("zzz", "zzz"), ("wwww", "wwww")]),
        "ids and documents": (lambda d: [n if n in OTHERS else Document(n, n) for n in by_letter(d)], OTHERS)}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_graph_in_many_forms(way):
    neighbours, documents = WAYS[way]
    assert adaptive(neighbours=neighbours, documents=documents).rank("q", ["a", "b"], ["a", "b"]) == adaptive().rank("q", ["a", "b"], ["a", "b"])


def test_ids_of_numpy():
    np = pytest.importorskip("numpy")
    results = Adaptive(Table(), neighbours=lambda i: np.array([1, 2, i]), documents={1: "one", 2: "two"}, batch=1, budget=9).rank("q", ["zero"])
    assert [(r.doc_id, type(r.doc_id), r.neighbour_of) for r in results] == [(0, int, None), (1, int, 0), (2, int, 0)]


@pytest.mark.parametrize("method", ["gar", "slidegar"])
def test_a_graph_without_an_end(method):
    taken = []
    def more(doc_id):
        for i in itertools.count():
            taken.append(doc_id)
            yield Document("t", f"{doc_id}.{i}")
    results = Adaptive(Table(), neighbours=more, k=3, budget=12, batch=2, method=method).rank("q", ["t", "t"])
    assert sum(bool(r.scores) for r in results) == 12 == len(results) and all(taken.count(d) <= 3 for d in taken), "k of each, and each is asked once"


def test_a_document_is_looked_up_once_and_only_to_be_scored():
    asked = []
    def fetch(doc_id): return asked.append(doc_id) or OTHERS[doc_id]
    adaptive(documents=fetch, budget=4).rank("q", ["a", "b"], ["a", "b"])
    assert sorted(asked) == sorted({*asked}) and len(asked) == 2
    adaptive(documents=fetch, budget=1).rank("q", ["a", "b"], ["a", "b"])
    assert len(asked) == 2


def test_candidates_win_over_documents_of_the_same_id():
    results = Adaptive(Table(), neighbours={"a": ["b", "c"]}, documents={"b": "other", "c": "c"}, batch=1, budget=3).rank("q", ["a", "own"], ["a", "b"])
    assert {r.doc_id: (r.text, r.neighbour_of) for r in results} == {"a": ("a", None), "b": ("own", None), "c": ("c", "a")}


def test_nothing_of_the_callers_is_changed():
    graph, documents = {"a": ["x"]}, {"x": {"text": "x", "tags": ["t"]}}
    results = Adaptive(Table(), neighbours=graph, documents=documents, batch=1, budget=2).rank("q", ["a"], ["a"])
    results[1].metadata["new"] = 1
    assert (graph, documents) == ({"a": ["x"]}, {"x": {"text": "x", "tags": ["t"]}})


BAD = {"not known": ({"a": ["nowhere"]}, {}, "'nowhere', a neighbour of 'a', is neither a candidate nor in documents="),
       "of the last candidate": ({"b": ["nowhere"]}, {}, "'nowhere', a neighbour of 'b'"),
       "not known to the function": (lambda d: ["nowhere"], {}, "'nowhere', a neighbour of 'a'"),
       "nothing": (lambda d: None, {}, "gives None for the document 'a'"), "a number": ({"a": 7}, {}, "gives 7 for the document 'a'"),
       "a string": ({"a": "xyz"}, {}, "gives 'xyz' for the document 'a': give a list of ids"),
       "one document": ({"a": {"text": "x"}}, {}, "for the document 'a'"),
       "a spent iterator": ({"a": iter("x")}, OTHERS, "for the document 'a'"), "no ids": ({"a": [None]}, {}, "neighbour of 'a', which is no id"),
       "lists": ({"a": [["x"]]}, OTHERS, r"\['x'\] as a neighbour of 'a'"), "not a number": ({"a": [float("nan")]}, {}, "nan as a neighbour of 'a'"),
       "documents without ids": ({"a": [{"text": "x"}]}, {}, "has no id")}


@pytest.mark.parametrize("method", ["gar", "slidegar", None])
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_graph_is_said_before_the_part_is_asked(case, method):
    neighbours, documents, said = BAD[case]
    part = Table()
    ranker = Adaptive(part, neighbours=neighbours, documents=documents, batch=1, budget=9, method=method, window=2, step=1)
    with pytest.raises(InputError, match=said): ranker.rank("q", ["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match=said): asyncio.run(ranker.rank_async("q", ["a", "b"], ["a", "b"]))
    assert part.batches == []


@pytest.mark.parametrize(("documents", "said"), [({"b": None}, "'b', a neighbour, is neither"), (lambda d: None, "'b', a neighbour, is neither"),
                                                 ({}.__getitem__, "'b', a neighbour, is neither"), ({"b": 7}, "documents= for 'b'"),
                                                 ({"b": {"x": 1}}, "documents= for 'b'")])
def test_what_is_wrong_with_a_document(documents, said):
    with pytest.raises(InputError, match=said): Adaptive(Table(), neighbours={"a": ["b"]}, documents=documents, batch=1, budget=9).rank("q", ["a"], ["a"])


def test_an_error_of_the_callers_function_is_the_callers():
    def broken(doc_id): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): Adaptive(Table(), neighbours=broken, batch=1, budget=9).rank("q", ["a"])


@pytest.mark.parametrize("wrong", [{"neighbours": 42}, {"neighbours": None}, {"neighbours": "ab"}, {"neighbours": [1, 2]}, {"budget": 0}, {"budget": -1},
                                   {"budget": True}, {"budget": 2.5}, {"batch": 0}, {"k": 0}, {"window": 0}, {"step": 0}, {"step": 11}, {"method": "gat"},
                                   {"method": ""}, {"documents": 42}, {"documents": [("a", "x"), ("a", "y")]}])
def test_what_is_not_adaptive(wrong):
    with pytest.raises(InputError): Adaptive("bm25", **{"neighbours": {}, **wrong})


def test_a_method_for_scores_refuses_an_order():
    with pytest.raises(InputError, match="use method='slidegar'"): Adaptive(Order(), neighbours={}, method="gar").rank("q", ["a", "b"])


def test_the_method_follows_the_part():
    "By its kind, or else by what its first answer holds"
    def windows(part): return [s.documents for s in Adaptive(part, neighbours={}, window=6, step=2, batch=4).rank("q", [str(i) for i in range(12)]).stages]
    assert windows(Table()) == windows(Fallback(Table())) == [4, 4, 4] and windows(Order()) == [6, 4, 4, 4]
    assert windows(Cascade(("bm25", 3), Table())) == [6, 4, 4, 4], "what depends on the order of its documents is no scale for other batches"
    assert windows(Fallback(Order())) == [4, 4, 4, 4, 4], "the first answer was an order, and its window is as large as a batch"


# ---------- among other rankers

def test_a_cascade_carries_added_documents_on():
    docs = ["a", "b"]
    results = Cascade((adaptive(), 3), Table({"yy": 9.0})).rank("q", docs, docs)
    assert [(r.doc_id, r.stage, r.neighbour_of) for r in results][:3] == [("yy", "table", "a"), ("wwww", "table", "zzz"), ("zzz", "table", "b")]
    assert order(results) == ["yy", "wwww", "zzz", *(d for d in order(adaptive().rank("q", docs, docs)) if d not in ("yy", "wwww", "zzz"))]
    middle = Cascade(("bm25", 2), (adaptive(), 4), Table()).rank("a", ["c", "a", "b"], ["c", "a", "b"])
    assert {*order(middle)} == {"a", "b", "c", "x", "yy", "zzz", "wwww"} and len(middle) == 7 and middle[0].stage == "table"
    last = Cascade(("bm25", 2), adaptive()).rank("a b", ["c", "a", "b"], ["c", "a", "b"])
    assert order(last)[:-1] == order(adaptive().rank("q", docs, docs)) and last[-1].doc_id == "c" and last[-1].stage == "bm25"
    assert RankedResults.from_dict(last.to_dict()) == last


def test_a_neighbour_that_an_earlier_stage_left_behind_is_that_candidate():
    "It is looked up, since the later stage does not see it, but it comes back once and as the caller's"
    docs = [Document("a", "a"), Document("own text", "x", {"of": "caller"}), Document("c", "c")]
    results = Cascade(("bm25", 1), adaptive(Table({"x": 50.0}))).rank("a", docs)
    assert sorted(order(results)).count("x") == 1 and results[0].doc_id == "x" and results[0].score == 50.0
    assert results[0].document == docs[1] and results[0].neighbour_of is None


def test_a_fallback_hands_on_what_the_answering_part_added():
    docs, alone = ["a", "b"], adaptive().rank("q", ["a", "b"], ["a", "b"])
    class Down(Table):
        def score_pairs(self, pairs, call):
            if self.batches: raise ServerError("down")
            return super().score_pairs(pairs, call)
    first = Fallback(adaptive(), "bm25").rank("q", docs, docs)
    assert [(r.doc_id, r.score, r.neighbour_of) for r in first] == [(r.doc_id, r.score, r.neighbour_of) for r in alone]
    spare = Fallback(adaptive(Down()), adaptive(neighbours={"b": ["zzz"]})).rank("q", docs, docs)
    assert order(spare) == ["zzz", "a", "b"] and "adaptive#2 answered" in spare.status
    assert order(Fallback(adaptive(Down()), keep=True).rank("q", docs, docs)) == docs


def test_what_an_incomplete_part_added_is_left_out_when_another_one_answers(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: now[0])
    class Slow(Table):
        def score_pairs(self, pairs, call):
            now[0] += 1
            return super().score_pairs(pairs, call)
    late, docs = adaptive(Slow()), ["a", "b"]
    results = Fallback(late, adaptive(neighbours={"b": ["zzz", "x"]}), timeout=2.5).rank("q", docs, docs)
    assert order(results) == ["zzz", "a", "b", "x"] and [r.neighbour_of for r in results] == ["b", None, None, "b"]
    alone = Fallback(adaptive(Slow()), timeout=2.5).rank("q", docs, docs)
    assert {*order(alone)} == {"a", "b", "x"} and alone.status.startswith("nobody answered")


class Sorter:
    "A chat model that turns every window round, and counts its calls"
    def __init__(self): self.asked, self.lock = 0, threading.Lock()
    def __call__(self, messages):
        with self.lock: self.asked += 1
        n = sum(m["content"].startswith("[") for m in messages)
        return " > ".join(f"[{i}]" for i in range(n, 0, -1))


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_a_budget_ends_the_walk(place):
    "Windows that nobody judged count for nothing: their candidates stay where they were, and their new documents do not appear"
    model, docs = Sorter(), [f"d{i}" for i in range(8)]
    options = {"neighbours": lambda d: [Document(f"near {d}", f"{d}+")], "window": 4, "step": 2, "budget": 12}
    def chat(): return Reranker("rankgpt", client=model)
    ranker = Budget(Adaptive(chat(), **options), calls=2) if place == "outside" else Adaptive(Budget(chat(), life={"calls": 2}), method="slidegar", **options)
    results = ranker.rank("q", docs, docs)
    assert model.asked == 2 and "budget of 2 calls" in results.status
    assert order(results) == ["d2+", "d3+", "d2", "d3", "d1", "d0", "d4", "d5", "d6", "d7"]


ALONE = {"fusion": lambda a: Fusion(a, "bm25"), "diverse": lambda a: Diverse(a), "recency": lambda a: Recency(a), "blend": lambda a: Blend(a, "bm25"),
         "fields": lambda a: Fields(a, boosts={"year": {1999: 2.0}}), "long documents": lambda a: LongDocuments(a),
         "itself": lambda a: Adaptive(a, neighbours={}), "deep": lambda a: Fusion("bm25", Cascade("bm25", Fallback(a)))}


@pytest.mark.parametrize("name", ALONE)
def test_others_refuse_a_part_that_adds_documents(name):
    with pytest.raises(InputError, match="may add others"): ALONE[name](adaptive())


def test_patience_refuses_it_too():
    with pytest.raises(InputError, match="misses= hands 'adaptive' a few documents"): Cascade(("bm25", {"misses": 2}), adaptive())
    Cascade((adaptive(), {"misses": 2}), "bm25").rank("q", ["a", "b"], ["a", "b"])


class Own(CombinedRanker):
    def __init__(self, part): self.rankers = {"part": part}
    def combine(self, task, call):
        [said] = yield [Ask("part", range(len(task.documents))[::-1])]
        return Ranking(said.scores)


def test_a_combination_of_ones_own_refuses_it_before_any_call_unless_it_says_otherwise():
    part = Table()
    for call in (lambda r: r.rank("q", ["a"], ["a"]), lambda r: asyncio.run(r.rank_async("q", ["a"], ["a"]))):
        with pytest.raises(InputError, match="Own ranks the documents that it is given, and 'part' may add others"): call(Own(adaptive(part)))
    assert part.batches == []
    class Carrying(Own):
        carries = True
        def combine(self, task, call):
            asked = range(len(task.documents))[::-1]
            [said] = yield [Ask("part", asked)]
            return said.above(asked, Ranking(order=range(len(task.documents))))
    docs = ["a", "b"]
    assert order(Carrying(adaptive()).rank("q", docs, docs)) == order(adaptive().rank("q", docs[::-1], docs[::-1]))


def test_langchain_is_told_that_ids_are_needed():
    documents = pytest.importorskip("langchain_core.documents")
    part = Table()
    compressor = adaptive(part).as_langchain_compressor()
    with pytest.raises(InputError, match="call its `rank` instead"): compressor.compress_documents([documents.Document(page_content="a")], "q")
    assert part.batches == []


# ---------- written down

@pytest.mark.parametrize("options", [{"neighbours": {}}, {"neighbours": {"a": ["b"], "b": []}, "documents": {"b": "text", "c": {"text": "t", "year": 1}}},
                                     {"neighbours": {0: [1, 2], 1: ["x"]}, "documents": {1: "one", 2: {"text": "two", "title": "T"}, "x": "three"}},
                                     {"neighbours": {"a": ("b",)}, "documents": ["zero", "one"], "budget": 7, "batch": 2, "k": 3, "window": 9, "step": 4,
                                      "method": "slidegar"}])
def test_written_down_and_made_again(options):
    ranker = Adaptive("bm25", **options)
    docs = [["a", "zero"], ["a", 0]]
    for again in (Spec.parse(str(ranker.spec)), Spec.from_json(ranker.spec.to_json())):
        made = Reranker(again)
        assert made.spec == ranker.spec == again
        if "b" not in str(options.get("neighbours")) or "b" in str(options.get("documents")):
            assert list(map(str, made.rank("a", *docs))) == list(map(str, ranker.rank("a", *docs)))
    assert pickle.loads(pickle.dumps(ranker)).spec == ranker.spec


@pytest.mark.parametrize("options", [{"neighbours": by_letter}, {"neighbours": {}, "documents": by_letter}, {"neighbours": {("a", 1): ["b"]}},
                                     {"neighbours": {"a": [("b", 1)]}}, {"neighbours": {"a": (i for i in "ab")}},
                                     {"neighbours": {}, "documents": {"a": Document("a")}}])
def test_what_cannot_be_written_down(options):
    with pytest.raises(InputError, match="cannot be written down"): _ = Adaptive("bm25", **options).spec


def test_a_large_graph_is_neither_read_nor_copied():
    class Large(dict):
        def __iter__(self): raise AssertionError("all of it was read")
        items = keys = values = __iter__
    graph = Large(GRAPH)
    assert order(adaptive(neighbours=graph, documents=Large(OTHERS)).rank("q", ["a", "b"], ["a", "b"])) == order(adaptive().rank("q", ["a", "b"], ["a", "b"]))


# ---------- graphs from encodings

TEXTS = [" ".join(random.Random(i).choices(["hamlet", "was", "written", "by", "a", "man", "of", "stratford", "play", "faust"], k=5)) for i in range(40)]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_neighbours_are_those_of_the_rankers_own_comparison(similarity, precision):
    ranker = Reranker(tiny_checkpoint("biencoder"), model_type="biencoder", similarity=similarity)
    store = ranker.encode(TEXTS, precision=precision)
    found = nearest(ranker, store, k=5)
    assert list(found) == list(range(40))
    for i, near in found.items():
        own = ranker.compare(store.vectors.pick([i]), store.vectors, range(40))
        others = sorted((own[j] for j in range(40) if j != i), reverse=True)[:5]
        assert i not in near and len({*near}) == 5 and [own[j] for j in near] == pytest.approx(others, rel=1e-6, abs=1e-9)


def test_neighbours_by_late_interaction():
    ranker = Reranker(tiny_late("stanford"), model_type="colbert")
    store = ranker.encode(TEXTS[:12])
    for i, near in nearest(ranker, TEXTS[:12], k=3).items():
        own = ranker.compare(store.vectors.pick([i]), store.vectors, range(12))
        assert [own[j] for j in near] == pytest.approx(sorted((own[j] for j in range(12) if j != i), reverse=True)[:3], rel=1e-5)


def test_shapes_of_a_collection():
    ranker = Reranker(tiny_checkpoint("biencoder"), model_type="biencoder")
    named = {f"n{i}": t for i, t in enumerate(TEXTS)}
    graph = nearest(ranker, named, k=3)
    assert graph == nearest(ranker, [Document(t, i) for i, t in named.items()], k=3) == {
        f"n{i}": [f"n{j}" for j in near] for i, near in nearest(ranker, TEXTS, k=3).items()}
    assert nearest(ranker, [], k=3) == {} and nearest(ranker, ["alone"]) == {0: []} and nearest(ranker, ["a b", "b a"]) == {0: [1], 1: [0]}
    assert nearest(ranker, ["hamlet", "faust", "hamlet", "hamlet"], k=2)[0] == [2, 3], "copies in the order of the documents"


def test_what_makes_no_graph():
    ranker = Reranker(tiny_checkpoint("biencoder"), model_type="biencoder")
    with pytest.raises(InputError, match="does not encode documents"): nearest("bm25", TEXTS)
    with pytest.raises(InputError, match="several documents have the id 'a'"): nearest(ranker, [Document("x", "a"), Document("y", "b"), Document("z", "a")])
    with pytest.raises(InputError, match="k=0"): nearest(ranker, TEXTS, k=0)
    with pytest.raises(InputError, match="encoded with"): nearest(ranker, Reranker(tiny_late("stanford"), model_type="colbert").encode(TEXTS[:3]))


def test_three_lines():
    "A graph, the ranker, the call; encoded documents can be looked up as they are"
    ranker = Reranker(tiny_checkpoint("biencoder"), model_type="biencoder")
    store = ranker.encode([Document(t, f"n{i}") for i, t in enumerate(TEXTS)])
    results = Adaptive(ranker, neighbours=nearest(ranker, store, k=4), documents=store, budget=20, batch=4).rank(TEXTS[0], store[:6])
    assert {f"n{i}" for i in range(6)} <= {*order(results)} and len(results) == 20 and results.stages[0].documents == 4
    assert all(r.text == TEXTS[int(r.doc_id[1:])] for r in results)
