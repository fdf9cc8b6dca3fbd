"DSPy's side: whatever a retriever gives comes back in a new order, and copies of a program share one ranker"
import asyncio

import pytest

dspy = pytest.importorskip("dspy")
from watched import Adds, Async, Backwards  # noqa: E402

from rerankers import InputError, Reranker  # noqa: E402
from rerankers.integrations.dspy import RerankedRetrieve  # noqa: E402

QUERY = "who wrote Hamlet?"
TEXTS = ["Goethe wrote Faust.", "Shakespeare wrote Hamlet.", "", "Shakespeare wrote Hamlet."]
BM25 = Reranker("bm25")


class Shelf(dspy.Module):
    "A retriever that is a module"
    def forward(self, query): return dspy.Prediction(passages=TEXTS)
    async def aforward(self, query): return dspy.Prediction(passages=TEXTS, by="the event loop")


GIVEN = {"a list": TEXTS, "a tuple": tuple(TEXTS), "a prediction": dspy.Prediction(passages=TEXTS), "a module": None,
         "examples": [dspy.Example(long_text=text, pid=i) for i, text in enumerate(TEXTS)], "dictionaries": [{"long_text": text} for text in TEXTS]}


def both(search, query=QUERY, **options):
    "Both kinds of call, which must agree"
    found = search(query, **options)
    later = asyncio.run(search.acall(query, **options))
    assert (later.passages, later.scores) == (found.passages, found.scores)
    return found


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("k", [1, 9, None])
def test_passages_come_back_whole(given, k):
    found = both(RerankedRetrieve(Shelf() if given == "a module" else lambda query: GIVEN[given], BM25, k=k))
    passages = TEXTS if given in ("a module", "a prediction") else GIVEN[given]
    by_hand = BM25.rank(QUERY, TEXTS)
    assert found.passages == [passages[i] for i in (1, 3, 0, 2)][:k] and found.scores == [r.score for r in by_hand][:k]
    assert all(any(p is q for q in passages) for p in found.passages)


def test_what_was_said_about_each_passage_goes_along():
    said = dspy.Prediction(passages=TEXTS, indices=[9, 8, 7, 6], distances=(0.1, 0.2, 0.3, 0.4), source="shelf", scores=[4, 3, 2, 1])
    search = RerankedRetrieve(lambda query: said, "bm25", k=2)
    found = both(search)
    assert (found.indices, found.distances, found.source) == ([8, 6], [0.2, 0.4], "shelf")
    assert found.scores == [r.score for r in BM25.rank(QUERY, TEXTS)][:2]
    assert len(both(search, k=4).indices) == 4 and both(search, query="Faust").indices[0] == 9


def test_without_passages():
    found = both(RerankedRetrieve(lambda query: [], "bm25"))
    assert (found.passages, found.scores) == ([], [])


def test_async_is_awaited():
    ranker = Async()
    found = asyncio.run(RerankedRetrieve(Shelf(), ranker, k=1).acall(QUERY))
    assert (found.passages, found.by, ranker.called) == (TEXTS[:1], "the event loop", [1])


def test_an_order_alone_has_no_score():
    found = both(RerankedRetrieve(lambda query: TEXTS, Backwards(), k=2))
    assert (found.passages, found.scores) == (TEXTS[:1:-1], [None, None])


def test_errors_are_ours():
    for bad in ("Faust", None, dspy.Prediction(answer="Faust"), dspy.Prediction(passages="Faust")):
        with pytest.raises(InputError, match="list of passages"): both(RerankedRetrieve(lambda query, bad=bad: bad, "bm25"))
    with pytest.raises(InputError, match="k="): RerankedRetrieve(Shelf(), "bm25", k=0)
    with pytest.raises(InputError, match="no ranker"): RerankedRetrieve(Shelf(), 17)
    with pytest.raises(InputError, match="by the ids"): both(RerankedRetrieve(Shelf(), Adds()))
    with pytest.raises(InputError, match="batch_size"): both(RerankedRetrieve(Shelf(), "bm25", rank_options={"batch_size": 0}))


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.search, self.answer = RerankedRetrieve(Shelf(), BM25, k=1), dspy.Predict("passages, question -> answer")


def test_a_program_with_it_is_copied_and_saved(tmp_path):
    program = Program()
    for copied in (program.deepcopy(), program.reset_copy()):
        assert copied.search._box.ranker is BM25 and copied.search is not program.search
    program.save(tmp_path / "program.json")
    again = Program()
    again.load(tmp_path / "program.json")
    assert list(program.dump_state()) == ["answer"] and again.search(QUERY).passages == [TEXTS[1]]
