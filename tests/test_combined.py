"Rankers made of rankers inherit what their parts can do, without saying so"
import asyncio
import copy
import itertools
import pickle
import threading

import pytest

from rerankers import Document, Fusion, InputError, RankedResults, Reranker
from rerankers.calls import Call
from rerankers.combine.combined import Ask, CombinedRanker
from rerankers.rankers import PointwiseRanker, Ranking, Task
from rerankers.results import Usage
from rerankers.spending import Limits, Purse
from rerankers.testing import CHECKS

QUERY, DOCS = "which is longest?", ["x" * n for n in (3, 9, 1, 7, 5, 8)]


class Length(PointwiseRanker):
    "Longer is better; counts its calls"
    def __init__(self, sign=1.0): self.sign, self.calls = sign, []
    def score_pairs(self, pairs, call):
        self.calls.append(len(pairs))
        return Ranking([self.sign * len(t) for _, t in pairs], truncated=[len(t) > 8 for _, t in pairs], notes=[f"{len(t)} long" for _, t in pairs],
                       usage=Usage(calls=1, input_tokens=len(pairs)), faults={"odd": 1}, sets={"twice": [2.0 * len(t) for _, t in pairs]},
                       explain=lambda i: pairs[i][1])


class Cascade(CombinedRanker):
    def __init__(self, first, second, depth=3): self.rankers, self.depth = {"first": first, "second": second}, depth
    def combine(self, task, call):
        [rough] = yield [Ask("first", range(len(task.documents)))]
        best = rough.best_first()[:self.depth]
        [fine] = yield [Ask("second", best)]
        return fine.above(best, rough)


class Sum(CombinedRanker):
    def __init__(self, *rankers): self.rankers = {str(i): r for i, r in enumerate(rankers)}
    def combine(self, task, call):
        everything = range(len(task.documents))
        found = yield [Ask(name, everything) for name in self.rankers]
        return Ranking([sum(scores) for scores in zip(*(f.scores for f in found))])


class Pieces(CombinedRanker):
    "Every character of a document by itself; the best one counts"
    def __init__(self, ranker): self.rankers = {"ranker": ranker}
    def combine(self, task, call):
        pieces = [(i, piece) for i, doc in enumerate(task.documents) for piece in (doc.text or "").split() or [""]]
        shown = type(task)(task.query, [Document(piece) for _, piece in pieces])
        [found] = yield [Ask("ranker", [i for i, _ in pieces], shown)]
        return found.merged([[k for k, (i, _) in enumerate(pieces) if i == n] for n in range(len(task.documents))])


def test_the_second_stage_looks_at_the_best_of_the_first():
    first, second = Length(), Length(-1.0)
    results = Cascade(first, second).rank(QUERY, DOCS)
    assert [r.doc_id for r in results] == [3, 5, 1, 4, 0, 2] and (first.calls, second.calls) == ([6], [3])
    assert [r.score for r in results] == [-7.0, -8.0, -9.0, None, None, None] and results.has_scores
    assert [r.stage for r in results] == ["second"] * 3 + ["first"] * 3


def test_everything_that_parts_say_is_handed_on():
    results = Cascade(Length(), Length(-1.0)).rank(QUERY, DOCS)
    assert results[2].scores == {"first": 9.0, "first: twice": 18.0, "second": -9.0, "second: twice": 18.0}
    assert results[5].scores == {"first": 1.0, "first: twice": 2.0}
    assert [r.truncated for r in results] == [False, False, True, False, False, False]
    assert results[0].note == "7 long" and results[0].explain() == results[0].text
    assert results.usage == Usage(calls=2, input_tokens=9) and results.faults == {"odd": 2} and results.status == "complete"
    assert [(s.name, s.documents, s.usage.input_tokens) for s in results.stages] == [("first", 6, 6), ("second", 3, 3)]
    assert RankedResults.from_dict(results.to_dict()) == results == pickle.loads(pickle.dumps(results)) == copy.deepcopy(results)
    assert [s.seconds >= 0 for s in RankedResults.from_dict(results.to_dict()).stages] == [True, True]


def test_what_one_stage_cut_stays_cut():
    class Whole(Length):
        def score_pairs(self, pairs, call): return [float(len(t)) for _, t in pairs]
    assert [r.truncated for r in Cascade(Length(), Whole()).rank(QUERY, DOCS)] == [True, False, False, False, False, False]


def test_queries_share_calls():
    first, second = Length(), Length()
    found = Cascade(first, second).rank_many([QUERY, "which?", "what?"], DOCS)
    assert (first.calls, second.calls) == ([18], [9]) and [r.doc_id for r in found[2]][:3] == [1, 5, 3]
    assert sum(r.usage.input_tokens for r in found) == 27


def test_queries_share_the_time_of_a_call_by_their_documents(monkeypatch):
    import rerankers.combine.combined as combined
    ticks = itertools.count(0.0, 6.0)
    monkeypatch.setattr(combined, "perf_counter", lambda: next(ticks))
    found = Sum(Length()).rank_many([QUERY, "which?"], [DOCS[:2], DOCS[:4]])
    assert [s.seconds for results in found for s in results.stages] == [2.0, 4.0]


def test_the_shorter_of_two_limits_counts(monkeypatch):
    import rerankers.calls as calls
    monkeypatch.setattr(calls, "monotonic", lambda: 100.0)
    for seconds, purse in ((5.0, 2.0), (2.0, 5.0)):
        assert Ask("a", [0], seconds=seconds, purses=(Purse(Limits(seconds=purse)),)).call(Call()).stop.left == 2.0


def test_async_is_the_same_and_parts_of_a_round_meet():
    "Two models that only answer together"
    meeting = []
    async def both(messages):
        meeting.append(1)
        while len(meeting) < 2: await asyncio.sleep(0)
        return "[2] > [1]"
    parts = [Reranker("m", model_type="rankgpt", client=both) for _ in range(2)]
    class First(CombinedRanker):
        rankers = dict(zip("ab", parts))
        def combine(self, task, call):
            found = yield [Ask("a", [0, 1]), Ask("b", [0, 1])]
            return found[0]
    assert [r.doc_id for r in asyncio.run(First().rank_async(QUERY, ["x", "y"]))] == [1, 0]
    one, other = Cascade(Length(), Length(-1.0)), Cascade(Length(), Length(-1.0))
    assert asyncio.run(one.rank_async(QUERY, DOCS)) == other.rank(QUERY, DOCS)


def test_what_a_combination_says_of_itself_counts():
    class Says(Sum):
        def combine(self, task, call):
            [found] = yield [Ask("0", range(len(task.documents)))]
            return Ranking(found.scores, status="one of two said nothing")
    assert Says(Length()).rank(QUERY, DOCS).status == "one of two said nothing"


def test_the_callers_batch_size_goes_before_the_rankers():
    seen = []
    class Batches(Length):
        batch_size = 5
        def score_pairs(self, pairs, call):
            seen.append(call.batch_size)
            return super().score_pairs(pairs, call)
    for ranker in (Batches(), Sum(Batches())):
        for size in (None, 2): ranker.rank(QUERY, DOCS, batch_size=size)
    assert seen == [5, 2, 5, 2]


def test_pieces_are_merged_into_documents():
    results = Pieces(Length()).rank(QUERY, ["a bb", "cccc d", "", "eee"])
    assert [(r.doc_id, r.score, r.scores["ranker"]) for r in results] == [(1, 4.0, 4.0), (3, 3.0, 3.0), (0, 2.0, 2.0), (2, 0.0, 0.0)]


@pytest.mark.parametrize(("how", "expected"), [("max", [3.0, 5.0]), ("mean", [2.0, 5.0]), ("first", [1.0, 5.0])])
def test_how_pieces_are_merged(how, expected):
    assert Ranking([1.0, 3.0, None, 5.0]).merged([[0, 1, 2], [3]], how).scores == expected


def test_a_merge_without_scores_or_with_another_word_is_an_error():
    with pytest.raises(InputError, match="order without scores"): Ranking(order=[0]).merged([[0]])
    with pytest.raises(InputError, match="how="): Ranking([0.0]).merged([[0]], "median")


def test_what_the_parts_are_the_whole_is():
    class Sees(Length): sees, texts_only = True, False
    class Told(Length): takes_instruction = True
    class Swayed(Length): order_free, score_noise = False, 0.5
    assert Sum(Sees(), Sees()).sees and not Sum(Sees(), Length()).sees
    assert Sum(Length(), Told()).takes_instruction and not Sum(Length()).takes_instruction
    assert not Sum(Length(), Swayed()).order_free and Sum(Length(), Swayed()).score_noise == 0.5
    told = Sum(Length(), Told()).instructed("be kind")
    assert [r.instruction for r in told.rankers.values()] == [None, "be kind"]
    assert repr(Sum(Length(), Length())) == "Sum(Length(), Length())"
    class Waiting(Length): waits, adds, device = True, True, "cuda:1"
    assert Sum(Length(), Waiting()).waits and Sum(Length(), Waiting()).adds and not Sum(Length()).waits and not Sum(Length()).adds
    assert (Sum(Waiting(), Waiting()).device, Sum(Length(), Waiting()).device, Sum(Length()).device) == ("cuda:1", "cuda:1", None)


def test_a_combination_is_a_part_of_another():
    inner = Cascade(Length(), Length(-1.0))
    results = Cascade(Length(), inner, depth=4).rank(QUERY, DOCS)
    assert [r.doc_id for r in results][:3] == [3, 5, 1] and "second: first" in results[0].scores
    assert results.usage.input_tokens == 6 + 4 + 3


def test_a_deadline_reaches_the_parts(monkeypatch):
    import rerankers.calls as calls
    clock = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: clock[0])
    class Slow(Length):
        def score_pairs(self, pairs, call):
            for _ in pairs:
                clock[0] += 1.0
                calls.check_wanted()
            return super().score_pairs(pairs, call)
    results = Cascade(Length(), Slow(-1.0)).rank(QUERY, DOCS, deadline=2)
    assert [r.doc_id for r in results] == [1, 5, 3, 4, 0, 2] and results.status == "second: 2 of 3 documents were not judged: the deadline passed"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check): check(Cascade(Reranker("bm25"), Reranker("bm25", k1=0.5), depth=100))


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ not in ("check_order_free",)], ids=lambda check: check.__name__)
def test_the_contract_where_some_have_no_score(check, depth): check(Cascade(Reranker("bm25"), Reranker("bm25", k1=0.5), depth=depth))


class Asks(CombinedRanker):
    "Asks what it is told to"
    def __init__(self, *rounds): self.rankers, self.rounds = {"length": Length()}, rounds
    def combine(self, task, call):
        for k in range(len(self.rounds)): yield self.rounds[k]
        [found] = yield [Ask("length", range(len(task.documents)))]
        return found


@pytest.mark.parametrize("rounds", [([],), ([], ()), ([], [Ask("length", [0])], [])])
def test_a_round_without_questions_is_no_end(rounds):
    "As where the questions depend on the documents, and there is nothing to ask this time"
    assert [r.doc_id for r in Asks(*rounds).rank(QUERY, DOCS)] == [1, 5, 3, 4, 0, 2]
    assert [r.doc_id for r in asyncio.run(Asks(*rounds).rank_async(QUERY, DOCS))] == [1, 5, 3, 4, 0, 2]


@pytest.mark.parametrize(("asked", "said"), [
    ([Ask("lenght", [0])], "Did you mean 'length'"), (Ask("length", [0]), "a list of `Ask`"), (["length"], "a list of `Ask`"),
    ([Ask("length", [0, 6])], "there are 6 documents"), ([Ask("length", [-1])], "there are 6 documents"),
    ([Ask("length", [0, 1], Task(QUERY, [Document("x")]))], "1 documents for 2 positions")])
def test_what_cannot_be_asked_is_an_error_in_words(asked, said):
    with pytest.raises(InputError, match=said): Asks(asked).rank(QUERY, DOCS)


def test_a_combination_without_questions_is_told_how_to_ask_none():
    class Sorted(CombinedRanker):
        rankers = {}
        def combine(self, task, call): return Ranking([len(d.text) for d in task.documents])
    with pytest.raises(InputError, match="`yield \\[\\]` asks none"): Sorted().rank(QUERY, DOCS)


def test_an_empty_list_and_one_document():
    assert len(Cascade(Length(), Length()).rank(QUERY, [])) == 0 and Cascade(Length(), Length()).rank(QUERY, "x")[0].rank == 1


def test_an_error_of_a_part_is_the_callers():
    class Fails(Length):
        def score_pairs(self, pairs, call): raise InputError("not today")
    with pytest.raises(InputError, match="not today"): Sum(Length(), Fails()).rank(QUERY, DOCS)
    with pytest.raises(InputError, match="not today"): asyncio.run(Sum(Length(), Fails()).rank_async(QUERY, DOCS))


def test_whoever_answers_first_the_order_of_the_questions_counts():
    later = threading.Event()
    class Waits(PointwiseRanker):
        "Answers when it may"
        waits = True
        def __init__(self, name, before, after): self.made_from, self.before, self.after = (name, (), {}), before, after
        def score_pairs(self, pairs, call):
            if self.before: assert self.before.wait(60)
            if self.after: self.after.set()
            return [float(len(text)) for _, text in pairs]
    parts = [Waits("first", later, None), Waits("second", None, later)]
    results = Fusion(*parts).rank("q", ["a", "bb"])
    assert [s.name for s in results.stages] == ["first", "second"] and {r.stage for r in results} == {"second"}


def test_a_choice_of_documents_and_parts_put_together_keep_all_that_is_said_of_them():
    whole = Ranking([3.0, 2.0, 1.0], notes=["x", "y", None], stage=["a", "b", "a"], passages=[(0, 1), None, (2, 3)], truncated=[True, False, False])
    some = whole.pick([2, 0])
    assert (some.scores, some.notes, some.stage, some.passages, some.truncated) == ([1.0, 3.0], [None, "x"], ["a", "a"], [(2, 3), (0, 1)], [False, True])
    both = Ranking.joined([some, Ranking([5.0])], [2, 1], 4)
    assert (both.scores, both.stage, both.passages) == ([1.0, 3.0, 5.0, None], ["a", "a", None, None], [(2, 3), (0, 1), None, None])
