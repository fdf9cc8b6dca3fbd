"`rank_stream`: any number of queries in the memory of a window, in order, for every kind of ranker"
import asyncio
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import Reranker
from rerankers.combine import Cascade, Fusion
from rerankers.errors import InputError
from rerankers.rankers import BaseRanker, Ranking
from rerankers.results import RankedResults

TEXTS = ["Shakespeare wrote Hamlet", "Goethe wrote Faust", "it rains in Elsinore", "Hamlet is a prince"]
QUERIES = ["who wrote Hamlet", "who wrote Faust", "weather in Elsinore", "Hamlet"] * 3
KINDS = {
    "pointwise": lambda: Reranker("bm25"), "offline": lambda: Reranker("offline"), "two towers": lambda: Reranker("offline-biencoder"),
    "cascade": lambda: Cascade(("bm25", 2), "offline"), "fusion": lambda: Fusion("bm25", "offline"),
}


class Order(BaseRanker):
    "Gives an order, longest first, and notes how many queries came together"
    def __init__(self): self.model, self.together = "", []
    def answer(self, tasks, call):
        self.together.append(len(tasks))
        return [Ranking(order=sorted(range(len(t.documents)), key=lambda i: -len(t.documents[i].text))) for t in tasks]


class Old(BaseRanker):
    "As written for rerankers 0.10"
    def __init__(self): self.model = ""
    def rank(self, query, docs, doc_ids=None): return Order().rank(query, docs, doc_ids=doc_ids)
    def score(self, query, doc): return 1.0


def seen(found): return [[(r.doc_id, r.score, r.rank) for r in one] for one in found]


@pytest.mark.parametrize("kind", [*KINDS, "order", "old"])
@pytest.mark.parametrize("window", [1, 6, 500])
def test_a_stream_gives_what_rank_many_gives(kind, window):
    ranker = {**KINDS, "order": Order, "old": Old}[kind]()
    wanted = ranker.rank_many(QUERIES, [TEXTS] * len(QUERIES))
    found = list(ranker.rank_stream(((q, TEXTS) for q in QUERIES), window=window))
    assert [r.query for r in found] == QUERIES
    for one, other in zip(found, wanted):
        assert sorted(r.doc_id for r in one) == sorted(r.doc_id for r in other)
        assert [r.score for r in one] == pytest.approx([r.score for r in other], abs=2 * ranker.score_noise) or one[0].score is None


@given(st.lists(st.integers(0, 7), max_size=25), st.integers(1, 20))
def test_every_query_once_in_order_and_no_window_longer_than_needed(sizes, window):
    ranker = Order()
    found = list(ranker.rank_stream(((f"q{i}", ["text"] * n) for i, n in enumerate(sizes)), window=window))
    assert [(r.query, len(r)) for r in found] == [(f"q{i}", n) for i, n in enumerate(sizes)]
    assert sum(ranker.together) == sum(n > 0 for n in sizes)    # a query without documents needs no ranker
    assert all(n <= window for n in ranker.together)


def test_nothing_is_read_before_it_is_wanted_and_little_ahead():
    read = []
    def items():
        for i in range(10_000):
            read.append(i)
            yield f"q{i}", TEXTS
    stream = Order().rank_stream(items(), window=20)
    assert not read
    for i in range(50):
        next(stream)
        assert len(read) <= i + 5       # a window of twenty documents is five queries
    stream.close()
    assert len(read) <= 55


def test_the_first_result_comes_before_the_tenth_query_is_read():
    read = []
    def items():
        for i in range(100):
            read.append(i)
            yield f"q{i}", TEXTS * 25
    next(Order().rank_stream(items()))
    assert len(read) < 10


class Text(str): pass


def test_what_was_yielded_is_not_kept():
    alive = []
    def items():
        for i in range(400):
            text = Text(f"document {i}")
            alive.append(weakref.ref(text))
            yield f"q{i}", [text] * 2
    most = 0
    for i, _ in enumerate(Order().rank_stream(items(), window=20)):
        if i % 20 == 7: gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
    assert most <= 2 * 20


def test_an_error_names_its_item_and_what_came_before_is_out():
    def items():
        yield "q", TEXTS
        yield "q", TEXTS
        yield "q", None
    found, stream = [], Order().rank_stream(items(), window=1)
    with pytest.raises(InputError, match="item 2 of the stream"):
        for one in stream: found.append(one)
    assert len(found) == 2


@pytest.mark.parametrize(("items", "why"), [
    ("text", "no stream"), ({"query": "q"}, "no stream"), (7, "no stream"), (["q"], "item 0.*neither"), ([("q",)], "item 0.*neither"),
    ([{"query": "q", "docs": TEXTS, "ids": [1]}], "item 0.*'ids'"), ([{"docs": TEXTS}], "needs 'query'"), ([(b"q", TEXTS)], "item 0.*not a string"),
    ([("  ", TEXTS)], "blank|empty"), ([("q", TEXTS, [1])], "neither"),
])
def test_bad_items_are_refused(items, why):
    with pytest.raises(InputError, match=why): list(Order().rank_stream(items))


def test_queries_without_documents_fill_a_window_too():
    "Else a stream of them would be read to its end before the first result"
    read = []
    def items():
        for i in range(50):
            read.append(i)
            yield f"query {i}", []
    assert len(next(Reranker("bm25").rank_stream(items(), window=3))) == 0 and len(read) <= 4


@pytest.mark.parametrize("window", [0, -1, True, None, 2.5, "10"])
def test_bad_windows_are_refused_at_once(window):
    with pytest.raises(InputError, match="window="): Order().rank_stream([], window=window)


def test_dictionaries_bring_ids_and_metadata_and_options_reach_rank_many():
    item = {"query": "who wrote Hamlet", "docs": TEXTS[:2], "doc_ids": ["h", "f"], "metadata": [{"year": 1603}, {"year": 1808}]}
    found = next(Reranker("bm25").rank_stream([item], top_k=1))
    assert [(r.doc_id, r.document.metadata) for r in found] == [("h", {"year": 1603})]
    fields = next(Reranker("bm25").rank_stream([("Hamlet", [{"title": "Hamlet", "body": "x"}, {"title": "y", "body": "Hamlet"}])], rank_fields=iter(["body"])))
    one = next(Reranker("bm25").rank_stream([("Hamlet", [{"title": "Hamlet", "body": "x"}])], rank_fields="body"))   # one name, as for `rank`
    assert one[0].text == "x"
    assert fields[0].doc_id == 1


@pytest.mark.parametrize(("items", "total", "said"), [(list, None, "/12"), (iter, 12, "/12"), (lambda given: (i for i in given), None, "0query")],
                         ids=["list", "told", "unknown"])
def test_one_bar_shows_the_whole_stream(items, total, said, capsys):
    "And none for each window; without being asked, none where nobody watches"
    pytest.importorskip("tqdm")
    given, offline = [(q, TEXTS) for q in QUERIES], Reranker("offline")
    for ranker in (offline, Fusion("bm25", offline)):
        assert len(list(ranker.rank_stream(items(given), window=8, total=total, progress=True))) == 12
        shown = capsys.readouterr().err
        assert said in shown and "query" in shown and "pair" not in shown
        assert len(list(ranker.rank_stream(items(given), window=8, total=total))) == 12 and capsys.readouterr().err == ""


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["pointwise", "fusion", "cascade"])
def test_the_async_twin_gives_the_same(kind, asynchronous):
    ranker = KINDS[kind]()
    async def items():
        for q in QUERIES: yield q, TEXTS
    async def all_of():
        given = items() if asynchronous else ((q, TEXTS) for q in QUERIES)
        return [found async for found in ranker.rank_stream_async(given, window=9)]
    found = asyncio.run(all_of())
    assert all(isinstance(one, RankedResults) for one in found)
    assert seen(found) == seen(list(ranker.rank_stream(((q, TEXTS) for q in QUERIES), window=9)))


def test_an_async_error_names_its_item():
    async def go(): return [r async for r in Order().rank_stream_async([("q", TEXTS), 5])]
    with pytest.raises(InputError, match="item 1 of the stream"): asyncio.run(go())
