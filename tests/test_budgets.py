"What may be spent is not exceeded, whatever is asked, whatever fails, and whoever asks at the same time"
import asyncio
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import Cascade, Fallback, Fusion, InputError, ProviderError, Reranker, ServerError, Spec
from rerankers.calls import Call, Stop, check_wanted
from rerankers.combine import Budget
from rerankers.rankers import PointwiseRanker
from rerankers.results import Usage
from rerankers.spending import Limits, Prices, Purse, paying
from rerankers.testing import CHECKS
from servers import Say, Scripted, chat

QUERY, DOCS = "which passage comes first?", [f"passage {i} of a long list" for i in range(60)]
def order(results): return [r.doc_id for r in results]


class Sorter:
    "A chat model that puts the passages in their order, and counts what it is asked"
    def __init__(self): self.asked, self.lock = 0, threading.Lock()

    def __call__(self, messages):
        with self.lock: self.asked += 1
        n = sum(m["content"].startswith("[") for m in messages)
        return " > ".join(f"[{i}]" for i in range(1, n + 1))


def rankgpt(model=None): return Reranker("rankgpt", client=model or Sorter())


def scores_of(seen):
    "A TEI server: a longer text is better"
    return Say([{"index": i, "score": len(text) / 1000} for i, text in enumerate(seen.json["texts"])])


def tei(server, **options): return Reranker("tei", url=f"{server.url}/rerank", **{"retries": 0, "backoff": 0, **options})


@given(st.integers(0, 12), st.integers(1, 60), st.integers(1, 3))
def test_calls_are_never_exceeded(calls, n, queries):
    model = Sorter()
    found = Budget(rankgpt(model), calls=calls).rank_many([QUERY] * queries, DOCS[:n])
    whole = rankgpt().rank(QUERY, DOCS[:n]).usage.calls
    assert model.asked == sum(r.usage.calls for r in found) and all(r.usage.calls == min(calls, whole) for r in found)
    assert all(sorted(order(r)) == list(range(n)) for r in found)
    assert all((r.status == "complete") == (whole <= calls) for r in found)
    if whole > calls: assert all(f"the budget of {calls} calls is used up" in r.status for r in found)


@given(st.integers(0, 5_000))
def test_tokens_are_never_exceeded_as_far_as_estimates_are_right(tokens):
    results = Budget(rankgpt(), tokens=tokens).rank(QUERY, DOCS)
    assert results.status == "complete" or " tokens" in results.status
    # a function reports no tokens, so the estimate of what was read and written counts
    spender = Budget(rankgpt(), life={"tokens": tokens})
    spender.rank_many([QUERY] * 3, DOCS)
    assert spender.spent["tokens"] <= tokens


@given(st.floats(0, 0.02))
def test_money_is_never_exceeded(money):
    model = Sorter()
    spender = Budget(rankgpt(model), life={"money": money}, prices={"call": 0.001})
    for _ in range(4): spender.rank(QUERY, DOCS)
    assert model.asked == min(int(money / 0.001 * (1 + 1e-9)), 4 * 5) and spender.spent["money"] == pytest.approx(0.001 * model.asked)


def test_threads_share_a_life():
    model = Sorter()
    spender = Budget(rankgpt(model), life={"calls": 23})
    with ThreadPoolExecutor(16) as pool: found = list(pool.map(lambda _: spender.rank(QUERY, DOCS), range(16)))
    assert model.asked == 23 == sum(r.usage.calls for r in found) == spender.spent["calls"]
    assert all(sorted(order(r)) == list(range(60)) for r in found)


def test_async_and_many_queries():
    async def many(ranker): return await asyncio.gather(*(ranker.rank_async(QUERY, DOCS) for _ in range(8)))
    model = Sorter()
    found = asyncio.run(many(Budget(rankgpt(model), calls=2, life={"calls": 9})))
    assert model.asked == 9 == sum(r.usage.calls for r in found) and max(r.usage.calls for r in found) == 2


def test_retries_are_paid_for():
    with Scripted([Say(status=503)] * 9) as server:
        with pytest.raises(ServerError): Budget(tei(server, retries=8), calls=3).rank(QUERY, DOCS[:5])
        assert len(server.seen) == 3, "the second retry is the last that there is money for"


def test_a_server_that_takes_less_at_once_is_asked_in_halves_as_far_as_the_budget_goes():
    def picky(seen): return scores_of(seen) if len(seen.json["texts"]) <= 2 else Say({"error": "batch size exceeds the maximum"}, status=413)
    with Scripted(picky) as server:
        results = Budget(tei(server, chunk_size=8), calls=3).rank(QUERY, DOCS[:8])
        assert len(server.seen) == 3 and sorted(order(results)) == list(range(8))
        assert sum(r.score is not None for r in results) == 2 and "3 calls" in results.status


def test_what_the_server_reports_replaces_the_estimate():
    with Scripted(lambda seen: chat("[1] > [2]", tokens=(1000, 50))) as server:
        ranker = Reranker("gpt-x", model_type="rankgpt", base_url=server.url, api_key="none", max_tokens=100)
        spender = Budget(ranker, life={"tokens": 10_000, "money": 1.0}, prices={"input": 1.0, "output": 10.0})
        spender.rank(QUERY, DOCS[:2])
        assert spender.spent["tokens"] == 1050 and spender.spent["money"] == pytest.approx(0.0015)
        refused = Budget(ranker, tokens=50).rank(QUERY, DOCS[:2])
        assert len(server.seen) == 1 and "has 50 tokens left, and the next request needs about" in refused.status


def test_an_inner_and_an_outer_budget():
    model = Sorter()
    both = Budget(Cascade(("bm25", 40), Budget(rankgpt(model), calls=2)), life={"calls": 3})
    first, second = both.rank(QUERY, DOCS), both.rank(QUERY, DOCS)
    assert (first.usage.calls, second.usage.calls, model.asked) == (2, 1, 3)
    assert "2 calls" in first.status and "3 calls" in second.status
    assert [s.name for s in first.stages] == ["cascade"] and order(second)


def test_parts_side_by_side_share_the_budget():
    first, second = Sorter(), Sorter()
    results = Budget(Fusion(rankgpt(first), rankgpt(second)), calls=5).rank(QUERY, DOCS)
    assert first.asked + second.asked == 5 and sorted(order(results)) == list(range(60))


def test_a_fallback_takes_over():
    results = Fallback(Budget(rankgpt(), calls=0), "bm25").rank(QUERY, DOCS)
    assert results.status.startswith("bm25 answered; budget: ") and "0 calls" in results.status


def test_seconds_are_a_deadline():
    class Slow(Sorter):
        def __call__(self, messages):
            if self.asked: hold.wait(30)
            return super().__call__(messages)
    hold = threading.Event()
    try: results = Budget(rankgpt(Slow()), seconds=0.3).rank(QUERY, DOCS)
    finally: hold.set()
    assert "the deadline passed" in results.status and sorted(order(results)) == list(range(60))
    spender = Budget("bm25", life={"seconds": 1e-9})
    assert spender.rank(QUERY, DOCS).status == "60 of 60 documents were not judged: the budget of 1e-09 seconds is used up"


@pytest.mark.parametrize(("wrong", "word"), [
    ({}, "without a limit"), ({"calls": -1}, "calls=-1"), ({"calls": "many"}, "calls='many'"), ({"calls": True}, "calls=True"),
    ({"tokens": float("nan")}, "tokens=nan"), ({"money": 1.0}, "needs prices="), ({"life": {"money": 1.0}}, "needs prices="),
    ({"life": {"call": 3}}, "Did you mean 'calls'"), ({"life": 3}, "life=3"), ({"calls": 3, "prices": {"inputs": 1}}, "Did you mean 'input'"),
    ({"calls": 10**400}, "calls=1000"), ({"seconds": 10**400}, "seconds=1000"), ({"life": Limits(calls=-1)}, "calls=-1"),
    ({"money": 1.0, "prices": Prices(call=-1)}, "call=-1"),
    ({"calls": 3, "prices": {"input": -1}}, "input=-1"), ({"seconds": float("inf")}, "seconds=inf"), ({"life": {}}, "without a limit")])
def test_odd_budgets(wrong, word):
    model = Sorter()
    with pytest.raises(InputError, match=word.replace("(", r"\(")): Budget(rankgpt(model), **wrong)
    assert model.asked == 0


@pytest.mark.parametrize("wrong", [{"calls": 3}, {"tokens": 3}, {"life": {"calls": 3}}])
def test_a_limit_that_limits_nothing_is_refused(wrong):
    with pytest.raises(InputError, match="sends no requests"): Budget("bm25", **wrong)
    with pytest.raises(InputError, match="sends no requests"): Budget(Cascade("bm25", "bm25"), **wrong)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_contract(check): check(Budget("bm25", seconds=600, life={"seconds": 6000}))


def test_written_down_and_made_again():
    made = Budget("bm25", seconds=5, life={"seconds": 60})
    for again in (Reranker(Spec.parse(str(made.spec))), Reranker(Spec.from_json(made.spec.to_json())), pickle.loads(pickle.dumps(made))):
        assert again.spec == made.spec and order(again.rank(QUERY, DOCS)) == order(made.rank(QUERY, DOCS))
    priced = Budget(Reranker("tei", url="http://127.0.0.1:9/rerank"), money=0.5, prices={"call": 0.001})
    assert json.loads(priced.spec.to_json()) and Reranker(priced.spec).spec == priced.spec


def test_limits_and_prices_as_objects_and_prices_left_open():
    made = Budget(Reranker("tei", url="http://127.0.0.1:9/rerank"), life=Limits(money=1.0), prices=Prices(call=0.25))
    assert Reranker(made.spec).spec == made.spec and Reranker(made.spec).life.left == {"money": 1.0}
    spender = Budget(rankgpt(), life={"money": 1.0}, prices={"call": 0.25, "input": None})
    assert spender.rank(QUERY, DOCS[:3]).status == "complete" and spender.spent["money"] == 0.25


# ---------- around a request

class Interrupted(BaseException): "As a cancelled task raises"

@pytest.mark.parametrize(("error", "tokens"), [(ProviderError("busy"), 0), (Interrupted(), 120), (ValueError(), 120)])
def test_a_refused_request_costs_a_call_and_a_lost_answer_its_estimate(error, tokens):
    purse = Purse(Limits(calls=5))
    with Call(stop=Stop(purses=[purse])).running(), pytest.raises(type(error)), paying(lambda: Usage(1, 100, 20)): raise error
    assert (purse.used["calls"], purse.used["tokens"], purse.held) == (1, tokens, [])


def test_what_one_purse_refuses_no_other_pays_for():
    rich, poor = Purse(Limits(calls=5)), Purse(Limits(calls=0))
    with Call(stop=Stop(Stop(purses=[rich]), purses=[poor])).running(), pytest.raises(Exception, match="0 calls"), paying(lambda: Usage(1)): pass
    assert rich.used["calls"] == 0 and not rich.held


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), st.integers(0, 500))
def test_a_purse_holds_what_it_says(requests, tokens):
    purse = Purse(Limits(tokens=tokens), Prices())
    for estimate, used in requests:
        try: held = purse.hold(Usage(1, estimate))
        except Exception: continue
        purse.pay(held, Usage(1, min(used, estimate)))
        assert purse.used["tokens"] <= tokens and not purse.held
    assert purse.left == {"tokens": tokens - purse.used["tokens"]}


# ---------- hedged requests, over a real connection

def test_a_slow_request_gets_a_second_one():
    with Scripted(lambda request: Say(delay=float("inf")) if len(server.seen) == 21 else scores_of(request)) as server:
        ranker = tei(server, hedge=0.95)
        found = [ranker.rank(QUERY, DOCS[:3]) for _ in range(21)]
        assert all(len(r) == 3 and r.status == "complete" and r.usage.calls == 1 for r in found)
        assert [r.usage.hedges for r in found] == [0] * 20 + [1], "nothing is known about the first twenty; the last was never answered"
        assert len(server.seen) == 22


def test_no_hedge_without_the_money_for_it():
    with Scripted(lambda request: Say(scores_of(request).body, delay=0.5 * (len(server.seen) == 21))) as server:
        ranker = tei(server, hedge=0.95)
        for _ in range(20): ranker.rank(QUERY, DOCS[:3])
        results = Budget(ranker, calls=1).rank(QUERY, DOCS[:3])
        assert (results.usage.hedges, results.usage.calls, len(server.seen), results.status) == (0, 1, 21, "complete")


@pytest.mark.parametrize("wrong", [1, 0.0, 1.0, "p95", True, -0.5])
def test_odd_hedges(wrong):
    with pytest.raises(InputError, match="hedge="): Reranker("tei", url="http://127.0.0.1:9", hedge=wrong)


@pytest.fixture
def clock(monkeypatch):
    "A clock that a test moves itself"
    import rerankers.calls
    import rerankers.spending
    now = [0.0]
    for module in (rerankers.calls, rerankers.spending): monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


class TakesTime(PointwiseRanker):
    "Needs a second a document"
    def __init__(self, clock): self.clock = clock
    def score_pairs(self, pairs, call):
        for _ in pairs:
            self.clock[0] += 1.0
            check_wanted()
        return [1.0] * len(pairs)


@pytest.mark.parametrize("how", ["many", "one by one"])
def test_the_seconds_of_a_life_are_those_that_passed(how, clock):
    "However queries are asked, ten of three documents take thirty seconds"
    spender = Budget(TakesTime(clock), life={"seconds": 100})
    if how == "many": spender.rank_many([f"query {i}" for i in range(10)], DOCS[:3])
    else: [spender.rank(f"query {i}", DOCS[:3]) for i in range(10)]
    assert spender.spent["seconds"] == clock[0] == 30 and spender.life.left == {"seconds": 70}


@pytest.mark.parametrize("how", ["sync", "async"])
def test_the_seconds_of_a_life_are_kept_to_by_many_queries(how, clock):
    spender = Budget(TakesTime(clock), life={"seconds": 20})
    queries = [f"query {i}" for i in range(10)]
    found = spender.rank_many(queries, DOCS[:4]) if how == "sync" else asyncio.run(spender.rank_many_async(queries[:1], DOCS[:4] * 10))
    assert clock[0] <= 21 and all(len(r) == (4 if how == "sync" else 40) for r in found)
    if how == "async": return
    assert [r.status for r in found[:4]] == ["complete"] * 4 and found[-1].status == "4 of 4 documents were not judged: the budget of 20 seconds is used up"
    assert {r.status for r in spender.rank_many(queries, DOCS[:4])} == {found[-1].status} and clock[0] <= 21


def test_queries_that_wait_side_by_side_wait_for_the_same_seconds(clock):
    waiting = []
    async def slow(messages):
        waiting.append(1)
        while len(waiting) < 3: await asyncio.sleep(0)
        if len(waiting) == 3: clock[0] += 5.0
        waiting.append(1)
        return "[2] > [1]"
    spender = Budget(rankgpt(slow), life={"seconds": 100})
    asyncio.run(spender.rank_many_async([QUERY] * 3, DOCS[:2]))
    assert spender.spent["seconds"] == 5.0


def test_many_queries_of_a_budget_share_a_few_threads():
    enough, seen, lock = threading.Event(), set(), threading.Lock()
    class Hosted(PointwiseRanker):
        waits = True
        def score_pairs(self, pairs, call):
            with lock: seen.add(threading.get_ident())
            if len(seen) >= 32: enough.set()
            assert enough.wait(60)
            return [1.0] * len(pairs)
    found = Budget(Hosted(), calls=5).rank_many([f"query {i}" for i in range(400)], DOCS[:2])
    assert len(seen) == 32 and all(r.status == "complete" for r in found)


def test_a_hedge_of_an_attempt_that_failed_is_counted():
    "The last request and the one beside it are both refused, and a retry is not"
    async def script(request):
        n = len(server.seen)
        if n == 21: await beside.wait()     # until the second one is there
        if n == 22: beside.set()
        return Say(status=503) if n in (21, 22) else scores_of(request)
    beside = asyncio.Event()
    with Scripted(script) as server:
        ranker = tei(server, hedge=0.95, retries=1)
        usage = [ranker.rank(QUERY, DOCS[:3]).usage for _ in range(21)][-1]
        # on a busy machine the retry may get a hedge of its own, which is called off before the server sees it or after
        assert (usage.calls, usage.retries) == (1, 1) and 1 <= len(server.seen) - 22 <= usage.hedges <= 2


def test_hedges_of_a_request_that_was_given_up_are_counted():
    async def script(request):
        n = len(server.seen)
        if n == 21: await beside.wait()
        if n == 22: beside.set()
        return Say(status=503) if n > 20 else scores_of(request)
    beside = asyncio.Event()
    with Scripted(script) as server:
        ranker = tei(server, hedge=0.95)
        for _ in range(20): ranker.rank(QUERY, DOCS[:3])
        results = Fallback(ranker, "bm25").rank(QUERY, DOCS[:3])
        assert [(s.usage.retries, s.usage.hedges) for s in results.stages if s.usage] == [(1, 1)] and results.usage.hedges == 1
