"""Combinations with services among their parts, over real HTTP on loopback: the contract, hundreds of calls with faults, threads, ways to leave, deadlines.

Every service of this file is one server's; the path says which one is asked. What happens to a request follows from the service and the query.
"""
import asyncio
import math
import os
import pickle
import random
import re
import signal
import sys
import threading
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("httpx")
from crowd import FOR_EVER, Crowd, becomes, leap  # noqa: E402
from servers import Say, Scripted, chat  # noqa: E402

import rerankers.calls as calls  # noqa: E402
from rerankers import AuthenticationError, Cascade, Fallback, Fusion, InputError, Reranker, Spec  # noqa: E402
from rerankers.calls import check_wanted  # noqa: E402
from rerankers.combine.diversity import Diverse, copies_of, jaccard, shingles  # noqa: E402
from rerankers.combine.fallbacks import Breaker  # noqa: E402
from rerankers.combine.fusion import fitted  # noqa: E402
from rerankers.combine.long_documents import LongDocuments, split_spans  # noqa: E402
from rerankers.combine.signals import Blend, Fields, Recency, learned  # noqa: E402
from rerankers.rankers import PointwiseRanker, Ranking, SetwiseRanker  # noqa: E402
from rerankers.testing import CHECKS  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint  # noqa: E402

KEY, QUERY = "key-of-the-combination", "who wrote Hamlet"
DOCS = [f"passage {i} about the prince of Denmark. It has two sentences." for i in range(10)]
PATIENCE = {"retries": 0, "backoff": 0.0, "timeout": FOR_EVER, "connect_timeout": FOR_EVER}


def order(results): return [r.doc_id for r in results]


# ---------- the services

def score(service, query, text):
    "A number from 0 to 1 that both sides can work out"
    return zlib.crc32(f"{service} {query} {text}".encode()) / 2 ** 32


def ranked(service, query, texts):
    found = [score(service, query, text) for text in texts]
    return [{"index": i, "score": s, "relevance_score": s} for i, s in enumerate(found)]


def answer(service, body):
    "What a service says when all is well: a chat model, Cohere, or text-embeddings-inference"
    if "messages" in body:
        found = re.findall(r"^\[(\d+)\] (.*)", "\n".join(m["content"] for m in body["messages"]), re.M)
        best = sorted(found, key=lambda pair: -score(service, "", pair[1]))
        return chat(" > ".join(f"[{label}]" for label, _ in best))
    found = ranked(service, body["query"], body.get("documents", body.get("texts")))
    return {"results": found, "meta": {"billed_units": {"search_units": 1}}} if "documents" in body else found


class Services:
    "A script for `Scripted`: answers as `answer` does, unless `fate(service, query)` gives something else, which may have to be waited for"

    def __init__(self, fate=lambda service, query: None): self.fate, self.asked = fate, Counter()

    async def __call__(self, seen):
        service, body = seen.path.split("/")[1], seen.json
        self.asked[service, body.get("query")] += 1
        found = self.fate(service, body.get("query"))
        if asyncio.iscoroutine(found): found = await found
        return answer(service, body) if found is None else found(service, body) if callable(found) else found


@contextmanager
def services(fate=lambda service, query: None, **options):
    "A server, and a function that makes the ranker of one of its services"
    with Scripted(Services(fate), **options) as server:
        base = server.url.removesuffix("/v1")
        yield server, lambda service, **more: Reranker("tei", url=f"{base}/{service}/rerank", **{**PATIENCE, **more})


# ---------- the contract, with parts of every kind

def listwise(base): return Reranker("m", model_type="rankgpt", base_url=f"{base}/chat/v1", api_key=KEY)
def local(): return Reranker(tiny_checkpoint("bert"), device="cpu")
def own(word, **options): return Spec(word, (), {**PATIENCE, **options})


WHOLE = {"cascade": lambda s, base: Cascade(("bm25", 4), (s("one"), 3), listwise(base)), "whole cascade": lambda s, base: Cascade("bm25", s("one")),
         "patience": lambda s, base: Cascade(("bm25", {"misses": 2, "step": 2}), s("one")),
         "gate": lambda s, base: Cascade((s("one"), {"entropy": 0.1}), local()),
         "fusion": lambda s, base: Fusion(s("one"), "bm25"), "fusion of services": lambda s, base: Fusion(s("one"), s("two"), listwise(base)),
         "fallback": lambda s, base: Fallback(s("down"), s("two"), keep=True), "kept": lambda s, base: Fallback(s("down"), keep=True),
         "long": lambda s, base: LongDocuments(s("one"), size=3), "diverse": lambda s, base: Diverse(s("one"), weight=0.5),
         "aspects": lambda s, base: Diverse(s("one"), aspects=aspects), "blend": lambda s, base: Blend(s("one"), "bm25"),
         "recency": lambda s, base: Recency(s("one"), now="2026-11-27"), "fields": lambda s, base: Fields(s("one"), boosts={"n": {1: 2.0}}),
         "nested": lambda s, base: Fallback(s("down"), Cascade(("bm25", 4), Fusion(s("one"), LongDocuments(s("two"), size=3))))}


def aspects(query): return [f"{query}, the play", f"{query}, the town"]


@pytest.fixture(scope="module")
def up():
    with services(lambda service, query: Say({"error": "down"}, 500) if service == "down" else None) as (server, hosted):
        yield lambda name: WHOLE[name](hosted, server.url.removesuffix("/v1"))


@pytest.mark.parametrize("name", WHOLE)
def test_the_contract(name, up):
    if name == "gate": pytest.importorskip("torch")
    ranker = up(name)
    for check in CHECKS: check(ranker)


SPECS = {"cascade": lambda: Cascade(("bm25", 3), own("cohere")), "fusion": lambda: Fusion("bm25", own("cohere"), method="combsum", weights=[1, 2]),
         "fallback": lambda: Fallback(own("cohere"), "bm25", keep=True, timeout=FOR_EVER), "long": lambda: LongDocuments(own("cohere"), size=4, overlap=1),
         "diverse": lambda: Diverse(own("cohere"), weight=0.5), "recency": lambda: Recency(own("cohere"), now="2026-11-27"),
         "fields": lambda: Fields(own("cohere"), boosts={"n": {"1": 2.0}}), "blend": lambda: Blend(own("cohere"), "bm25", weights=[1, -2], bias=0.5)}


@pytest.mark.parametrize("name", SPECS)
def test_written_down_and_made_again_with_the_key_of_the_environment(name, monkeypatch):
    with services() as (server, _):
        monkeypatch.setenv("CO_API_KEY", KEY)
        monkeypatch.setenv("CO_API_URL", server.url.removesuffix("/v1") + "/own")
        whole = SPECS[name]()
        expected = whole.rank(QUERY, DOCS)
        for again in (Spec.parse(str(whole.spec)), Spec.from_json(whole.spec.to_json()), pickle.loads(pickle.dumps(whole.spec)), whole.spec):
            assert again == whole.spec and KEY not in repr(again) + again.to_json() and Reranker(again).rank(QUERY, DOCS) == expected
        for twin in (pickle.loads(pickle.dumps(whole)), pickle.loads(pickle.dumps(Reranker(whole.spec)))): assert twin.rank(QUERY, DOCS) == expected
        assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"} and len(server.seen) >= 7


# ---------- sixteen threads on one combination

CROWDED = {"cascade": lambda s: Cascade(("bm25", 5), s("one"), local()), "fusion": lambda s: Fusion(s("one"), "bm25", s("two"), local()),
           "fallback": lambda s: Fallback(s("moody"), s("two"), local(), failures=10_000)}


@pytest.mark.parametrize("name", CROWDED)
def test_sixteen_threads_get_what_one_gets(name):
    pytest.importorskip("torch")
    crowd = None
    async def fate(service, query):
        if crowd is None: return moods(service, query)
        async with crowd: return moods(service, query)
    def moods(service, query): return Say({"error": "moody"}, 500) if service == "moody" and query[-1] in "13579" else None
    queries = [f"query {i}" for i in range(48)]
    def facts(results):
        return (results.query, order(results), [r.score for r in results], results.status, results.usage, [r.stage for r in results],
                [(s.name, s.documents, s.usage, s.status) for s in results.stages])
    with services(fate) as (server, hosted):
        ranker = CROWDED[name](hosted)
        alone = [ranker.rank(q, DOCS) for q in queries]
        crowd = Crowd(wanted=8)
        with ThreadPoolExecutor(16) as pool: together = list(pool.map(lambda q: ranker.rank(q, DOCS), queries))
        assert server.most >= 8, "the threads did not meet"
    assert [facts(r) for r in together] == [facts(r) for r in alone]
    assert all(r.usage.calls == {"cascade": 1, "fusion": 2, "fallback": 1}[name] for r in together)
    if name == "fallback": assert [r.status == "complete" for r in together] == [q[-1] in "02468" for q in queries]


# ---------- ways to leave

SILENT = Say(delay=float("inf"))
HELD = {"cascade": (lambda s: Cascade(("bm25", 5), (s("silent"), 3), s("after")), 1), "fusion": (lambda s: Fusion(s("silent"), "bm25", s("silent")), 2),
        "fallback": (lambda s: Fallback(s("silent"), s("after"), keep=True), 1), "long": (lambda s: LongDocuments(s("silent", chunk_size=4), size=5), 3),
        "diverse": (lambda s: Diverse(s("silent"), aspects=aspects), 3), "blend": (lambda s: Blend(s("silent"), s("silent")), 2),
        "fallbacks side by side": (lambda s: Fusion(Fallback(s("silent"), s("after")), Cascade("bm25", s("silent"), s("after"))), 2)}


@contextmanager
def nothing_left():
    "No task and no thread of ours is left over, and the server has heard nothing more"
    from rerankers.web.http import BACKGROUND
    loop, before = BACKGROUND.running(), set(threading.enumerate())
    others = asyncio.all_tasks(loop)    # what other tests of this process have left there is not ours
    yield
    assert becomes(lambda: not asyncio.all_tasks(loop) - others), "a task is left over"
    assert becomes(lambda: not [t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio")]), "a thread is left over"


@contextmanager
def held(name):
    make, requests = HELD[name]
    with services(lambda service, query: SILENT if service == "silent" else None) as (server, hosted):
        ranker = make(lambda service, **more: hosted(service, timeout=10 * FOR_EVER, **more))     # nothing here ends by its timeout
        with nothing_left():
            yield ranker, lambda: server.wait(lambda: len(server.seen) >= requests, FOR_EVER), lambda: server.wait(lambda: server.under_way == 0, FOR_EVER)
            assert server.unread() == 0 and len(server.seen) == requests and {s.path for s in server.seen} == {"/silent/rerank"}
            assert server.wait(lambda: server.under_way == 0), "a request is still under way"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", HELD)
def test_a_cancelled_call_sends_nothing_more(name, many):
    with held(name) as (ranker, under_way, _):
        async def main():
            task = asyncio.ensure_future(ranker.rank_many_async([QUERY], DOCS) if many else ranker.rank_async(QUERY, DOCS))
            assert await asyncio.to_thread(under_way)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() and not asyncio.all_tasks() - {asyncio.current_task()}
        asyncio.run(main())


@pytest.fixture
def interruptible():
    "A program that was started in the background may have been told to ignore the signal"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", HELD)
def test_an_interrupted_call_sends_nothing_more(name, interruptible):
    with held(name) as (ranker, under_way, ended):
        def interrupt():
            under_way()
            os.kill(os.getpid(), signal.SIGINT)
            known.append(ended())
        known = []
        helper = threading.Thread(target=interrupt)
        helper.start()
        with pytest.raises(KeyboardInterrupt): ranker.rank(QUERY, DOCS)
        helper.join()
        assert known == [True], "the requests were waited for"


@pytest.mark.parametrize("name", [n for n in HELD if n != "cascade"])     # whose first part is another one's work
def test_a_closed_call_sends_nothing_more(name):
    with held(name) as (ranker, under_way, _):
        async def main():
            waiting = ranker.rank_async(QUERY, DOCS)
            waiting.send(None)
            assert await asyncio.to_thread(under_way)
            waiting.close()
            await asyncio.sleep(0)
        asyncio.run(main())


def test_stages_and_documents_keep_the_order_of_the_parts():
    "Whoever answers first: the first part waits here until the second has answered"
    async def fate(service, query):
        if service == "two": after.set()
        else: await after.wait()
    results = []
    for how in ("sync", "async"):
        after = asyncio.Event()
        with services(fate) as (_, hosted):
            ranker = Fusion(hosted("one"), "bm25", hosted("two"))
            results.append(ranker.rank(QUERY, DOCS) if how == "sync" else asyncio.run(ranker.rank_async(QUERY, DOCS)))
    assert results[0] == results[1] and [s.name for s in results[0].stages] == ["tei", "bm25", "tei#2"] and {r.stage for r in results[0]} == {"tei#2"}


# ---------- a thousand calls of a fallback over services that fail

def refusal(status, **headers): return Say({"error": f"words of {status}"}, status, {k.replace("_", "-"): v for k, v in headers.items()})
def short(service, body): return answer(service, {**body, "texts": body["texts"][1:]})
def mixed_up(service, body): return [*answer(service, body)[1:], {"index": 10 ** 6, "score": 0.5}]


NINE = {"500": (refusal(500), "ServerError: ", "words of 500"), "503 in a moment": (refusal(503, Retry_After="0.01"), "ServerError: ", "words of 503"),
        "429": (refusal(429), "RateLimitError: ", "words of 429"), "401": (refusal(401), "AuthenticationError: ", "words of 401"),
        "half of a JSON": (Say('[{"index": 0, "sco'), "UnusableAnswer: ", "no JSON"), "too few": (short, "UnusableAnswer: ", "4 results for 5 documents"),
        "hangs up": (Say([], cut=-1), "ServerError: ", "broke"), "silent": (SILENT, "ProviderTimeoutError: ", "no answer"),
        "an error in a 200": (Say({"error": "upstream is down"}), "UnusableAnswer: ", "upstream is down"),
        "other documents": (mixed_up, "UnusableAnswer: ", "a result for document 1000000")}
ALONE = [name for name in NINE if name != "silent"]     # `leap` moves the clock of all requests on, so nobody else may wait meanwhile
LEFT = "left alone after its failures"
NAMES = {"one": "tei", "two": "tei#2"}      # service -> its name in the results


class Model:
    "What a fallback over `one` and `two` must say, by the rule that the documentation gives for its breakers"

    def __init__(self, failures, rest): self.failures, self.rest, self.row, self.last = failures, rest, Counter(), Counter()

    def may(self, service, now): return self.row[service] < self.failures or now - self.last[service] >= self.rest

    def told(self, service, good, now):
        self.row[service] = 0 if good else self.row[service] + 1
        if not good: self.last[service] = now

    def statuses(self, fates, now):
        "One list of (service, why it did not answer) a query; a service that answered has no reason"
        said, trying = [[] for _ in fates], Counter()
        def begin(k, services):
            for service in services:
                half = self.row[service] >= self.failures
                if self.may(service, now) and not (half and trying[service]):
                    trying[service] += half
                    return service
                said[k].append((service, LEFT))
            return None
        asked = [begin(k, ["one", "two"]) for k in range(len(fates))]
        while any(asked):
            for k, service in enumerate(asked):
                if service is None: continue
                fault = fates[k][service]
                self.told(service, fault is None, now)
                trying[service] = 0
                said[k].append((service, fault))
                asked[k] = begin(k, ["two"]) if fault and service == "one" else None
        return said


def agrees(status, said):
    "Does a status say what happened?"
    if said[-1][1] is None: first, reasons = ("complete" if len(said) == 1 else f"{NAMES[said[-1][0]]} answered; "), said[:-1]
    else: first, reasons = "nobody answered; ", said
    told = status.removeprefix(first).split("; ") if reasons else []
    return status.startswith(first) and len(told) >= len(reasons) and all(
        f"{NAMES[service]}: {LEFT if why == LEFT else NINE[why][1]}" in status and (why == LEFT or NINE[why][2] in status) for service, why in reasons)


def soak_plan(calls, dice):
    "Kinds of calls with their queries, and what each service does to each query"
    plan, fates = [], {}
    for n in range(calls):
        kind = ["rank", "rank_async", "rank_many", "rank_many_async"][n % 4]
        queries = [f"query {n}-{i}" for i in range(2 if "many" in kind else 1)]
        faults = ALONE if "many" in kind else list(NINE)
        for query in queries: fates[query] = {service: dice.choice(faults) if dice.random() < 0.3 else None for service in NAMES}
        plan.append((kind, queries))
    return plan, fates


def asked_of(ranker, kind, queries, docs):
    "Results of a call of one of the four kinds"
    if "many" not in kind: queries = queries[0]
    found = getattr(ranker, kind)(queries, docs)
    if "async" in kind: found = asyncio.run(awaited(found))
    return found if "many" in kind else [found]


async def awaited(work): return await work


def test_five_hundred_calls_with_nine_kinds_of_faults():
    "Nothing is lost, nothing foreign is raised, every status is what the server did, and an open breaker sends nothing"
    plan, fates = soak_plan(500, random.Random(13))
    docs, now, model, outcomes = DOCS[:5], [0.0], Model(failures=2, rest=5), Counter()
    def fate(service, query): return None if fates[query][service] is None else NINE[fates[query][service]][0]
    with services(fate, leap=leap) as (server, hosted):
        asked, ranker = server.script.asked, Fallback(hosted("one"), hosted("two"), keep=True, failures=2, rest=5, clock=lambda: now[0])
        for kind, queries in plan:
            now[0] += 1
            found = asked_of(ranker, kind, queries, docs)
            for query, results, said in zip(queries, found, model.statuses([fates[q] for q in queries], now[0]), strict=True):
                assert results.query == query and sorted(order(results)) == list(range(5)) and [r.text for r in results] == [docs[r.doc_id] for r in results]
                assert agrees(results.status, said), (kind, results.status, said)
                who = said[-1][0] if said[-1][1] is None else None
                expected = sorted(range(5), key=lambda k: -score(who, query, docs[k])) if who else list(range(5))   # noqa: B023
                assert order(results) == expected and results.has_scores == (who is not None)
                assert {s for s in NAMES if asked[s, query]} == {service for service, why in said if why != LEFT}
                outcomes.update([who, *(why for _, why in said)])
    assert set(outcomes) == {"one", "two", None, LEFT, *NINE} and min(outcomes.values()) > 5


# ---------- deadlines: what begins after one is counted, on a clock that the work itself moves

class Slow(PointwiseRanker):
    "A model that reads one pair a batch, and a hundred in two seconds"
    words, waited = ("slow",), 0.02
    def __init__(self, clock): self.clock, self.begun = clock, []
    def score_pairs(self, pairs, call):
        for _ in pairs:
            check_wanted()
            self.begun.append(self.clock[0])
            self.clock[0] += self.waited
        return [float(zlib.crc32(text.encode())) for _, text in pairs]


class SlowSets(SetwiseRanker):
    "The same, for methods that see a query's documents together"
    words, waited = ("slow-sets",), Slow.waited
    def __init__(self, clock): self.clock, self.begun = clock, []
    def score_documents(self, query, texts, call): return Slow.score_pairs(self, [(query, t) for t in texts], call)


LONG = [f"passage {i} has two sentences. This is the other one." for i in range(100)]
HURRIED = {"cascade": lambda slow, s: Cascade(("bm25", 30), slow), "cascade before a service": lambda slow, s: Cascade((slow, 30), s("after")),
           "patience": lambda slow, s: Cascade(("bm25", {"misses": 100}), slow), "fusion": lambda slow, s: Fusion(slow, "bm25"),
           "fusion the other way round": lambda slow, s: Fusion("bm25", slow, method="combsum"),
           "fusion with a service": lambda slow, s: Fusion(s("beside"), slow),
           "fallback": lambda slow, s: Fallback(slow, s("after"), keep=True), "fallback without": lambda slow, s: Fallback(slow, s("after")),
           "long": lambda slow, s: LongDocuments(slow, size=5),
           "long and kept": lambda slow, s: Fallback(LongDocuments(slow, size=5, aggregate="ranks"), keep=True),
           "diverse": lambda slow, s: Diverse(slow), "recency": lambda slow, s: Recency(slow), "fields": lambda slow, s: Fields(slow, boosts={"n": {1: 2.0}}),
           "blend": lambda slow, s: Blend(slow, "bm25"), "nested": lambda slow, s: Cascade((slow, 30), Fallback(s("after"), s("after"))),
           "sets": lambda slow, s: Cascade("bm25", SlowSets(slow.clock))}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calls, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("name", HURRIED)
def test_a_deadline_gives_what_there_is(name, how, clock):
    with services() as (server, hosted):
        slow = Slow(clock)
        ranker = HURRIED[name](slow, hosted)
        results = ranker.rank(QUERY, LONG, deadline=0.3) if how == "sync" else asyncio.run(ranker.rank_async(QUERY, LONG, deadline=0.3))
        assert sorted(order(results)) == list(range(100)) and [r.rank for r in results] == list(range(1, 101))
        found = [r.score for r in results if r.score is not None]
        assert found == sorted(found, reverse=True) and all(r.score is None for r in results[len(found):])
        assert "the deadline passed" in results.status and any(w in results.status for w in ("slow", "passages"))
        assert sum(at > 0.3 for at in slow.begun) == 0 and clock[0] <= 0.3 + 2 * slow.waited and server.script.asked["after", QUERY] == 0
        if "long" in name: assert "passages were not judged" in results.status
        if name in ("fusion", "recency", "diverse", "fallback", "blend"): assert 0 < sum("slow" in r.scores for r in results) < 100
        in_peace = HURRIED[name](Slow(clock), hosted).rank(QUERY, LONG, deadline=1e6)
        assert in_peace.status == "complete"


def test_no_time_is_no_failure_of_a_part(clock):
    "A part that was never asked, or that had begun to answer when the caller's time was over, is not left alone"
    with services() as (server, hosted):
        slow = Slow(clock)
        late, partial = Fallback(hosted("one"), hosted("two"), failures=2), Fallback(slow, failures=2, keep=True)
        for _ in range(4):
            results = late.rank(QUERY, LONG, deadline=0)
            assert order(results) == list(range(100)) and "the deadline passed" in results.status
            assert 0 < sum(r.score is not None for r in partial.rank(QUERY, LONG, deadline=0.3)) < 100
        assert not server.seen and late.rank(QUERY, LONG).status == "complete" == partial.rank(QUERY, LONG).status


def test_a_part_that_says_nothing_before_the_deadline_has_failed(clock):
    class Silent(Slow):
        words, waited = ("silent",), 1.0
        def score_pairs(self, pairs, call):
            self.clock[0] += 1.0
            check_wanted()
    silent = Silent(clock)
    ranker = Fallback(silent, "bm25", failures=2, clock=lambda: 0.0)
    for _ in range(2): assert "bm25: not asked" in ranker.rank(QUERY, LONG, deadline=0.5).status
    assert ranker.rank(QUERY, LONG, deadline=0.5).status == f"bm25 answered; silent: {LEFT}"


def test_there_is_no_time_to_compare_documents(clock):
    compared = []
    ranker = Diverse(Slow(clock), similarity=lambda a, b: compared.append((a, b)) or 0.5)
    results = ranker.rank(QUERY, LONG, deadline=0.3)
    assert not compared and results.has_scores and results.status.startswith("slow: ") and "documents were not compared" in results.status


# ---------- bad input

BAD = {"a stage that is none": (lambda s: Cascade(s("one"), None), "None is no ranker"), "one stage": (lambda s: Cascade(s("one")), "at least 2 parts"),
       "depth 0": (lambda s: Cascade((s("one"), 0), "bm25"), "depth=0"), "share 0": (lambda s: Cascade((s("one"), 0.0), "bm25"), "depth=0.0"),
       "share 1.5": (lambda s: Cascade((s("one"), 1.5), "bm25"), "depth=1.5"), "share NaN": (lambda s: Cascade((s("one"), math.nan), "bm25"), "depth=nan"),
       "margin in percent": (lambda s: Cascade((s("one"), {"margin": 20}), "bm25"), "margin=20"),
       "negative entropy": (lambda s: Cascade((s("one"), {"entropy": -0.1}), "bm25"), "entropy=-0.1"),
       "a rule of the last stage": (lambda s: Cascade("bm25", (s("one"), {"misses": 3})), "misses= at the last stage"),
       "depths that do not match": (lambda s: Cascade(s("one"), "bm25", depths=[1, 2, 3]), "depths="),
       "weights that do not match": (lambda s: Fusion(s("one"), "bm25", weights=[1]), r"weights=\[1\]"),
       "a negative weight": (lambda s: Fusion(s("one"), "bm25", weights=[1, -1]), "weights=.*at least 0"),
       "no weight": (lambda s: Fusion(s("one"), "bm25", weights=[0, 0]), "weights=.*one above 0"),
       "a weight NaN": (lambda s: Fusion(s("one"), "bm25", weights=[1, math.nan]), "nan is no finite number"),
       "no weight at all": (lambda s: Blend(s("one"), "bm25", weights=[1, None]), "None is no finite number"),
       "an unknown fusion": (lambda s: Fusion(s("one"), method="sum"), "method='sum'"),
       "a list of fusions": (lambda s: Fusion(s("one"), method=["rrf"]), "method="),
       "k=0": (lambda s: Fusion(s("one"), k=0), "k=0"), "unknown range": (lambda s: Fusion(s("one"), normalise={}), "normalise="),
       "no passage": (lambda s: LongDocuments(s("one"), split=lambda text: []), "split= gave no passage"),
       "no list of passages": (lambda s: LongDocuments(s("one"), split=lambda text: None), "split= gave 'None'"),
       "a text as passages": (lambda s: LongDocuments(s("one"), split=lambda text: text), "split= gave .* give a list"),
       "a number as passage": (lambda s: LongDocuments(s("one"), split=lambda text: [3]), "split= gave 3"),
       "offsets that are no numbers": (lambda s: LongDocuments(s("one"), split=lambda text: [(0.0, 1.0)]), r"split= gave \(0.0, 1.0\)"),
       "offsets that are not there": (lambda s: LongDocuments(s("one"), split=lambda text: [(0, 10 ** 6)]), r"split= gave the span \(0, 1000000\)"),
       "half of the offsets": (lambda s: LongDocuments(s("one"), split=lambda text: [(0, 1, 2)]), r"split= gave \(0, 1, 2\)"),
       "a passage of another text": (lambda s: LongDocuments(s("one"), split=lambda text: ["elsewhere"]), "does not stand in the text: 'elsewhere'"),
       "a yes as overlap": (lambda s: LongDocuments(s("one"), overlap=True), "overlap=True"),
       "unknown aggregate": (lambda s: LongDocuments(s("one"), aggregate=["max"]), "aggregate="),
       "half-life 0": (lambda s: Recency(s("one"), days=0), "days=0"), "no half-life": (lambda s: Recency(s("one"), days=math.nan), "days=nan"),
       "unknown decay": (lambda s: Recency(s("one"), kind=[]), "kind="), "a field that is no name": (lambda s: Recency(s("one"), field=3), "field=3"),
       "no date": (lambda s: Recency(s("one"), field="when"), "document 0, when: 'soon' is no date"),
       "a factor that is none": (lambda s: Fields(s("one"), boosts={"n": {1: "2"}}), "boost of n=1"),
       "a field of many values": (lambda s: Fields(s("one"), boosts={"tags": {"a": 2.0}}), r"tags=\['a'\]"),
       "factors too large": (lambda s: Fields(s("one"), boosts={"n": {1: 1e200}, "m": {1: 1e200}}), "inf"),
       "λ of 1.5": (lambda s: Diverse(s("one"), weight=1.5), "weight=1.5"), "λ of -0.1": (lambda s: Diverse(s("one"), weight=-0.1), "weight=-0.1"),
       "λ NaN": (lambda s: Diverse(s("one"), weight=math.nan), "weight=nan"), "more copies than there are": (lambda s: Diverse(s("one"), copies=2), "copies=2"),
       "a text as aspects": (lambda s: Diverse(s("one"), aspects=lambda query: "abc"), "aspects= gave 'abc'"),
       "no aspects": (lambda s: Diverse(s("one"), aspects=lambda query: None), "aspects= gave None"),
       "an empty aspect": (lambda s: Diverse(s("one"), aspects=lambda query: ["fine", " "]), "aspects= .*empty"),
       "a bias NaN": (lambda s: Blend(s("one"), bias=math.nan), "bias=nan"), "a bias in words": (lambda s: Blend(s("one"), bias="low"), "bias='low'"),
       "no timeout": (lambda s: Fallback(s("one"), timeout=0), "timeout=0"), "no failures": (lambda s: Fallback(s("one"), failures=0), "failures=0"),
       "an error in words": (lambda s: Fallback(s("one"), on=["timeout"]), r"on=\['timeout'\]"), "no error": (lambda s: Fallback(s("one"), on=[str]), "on=")}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_before_anything_is_paid_for(name):
    make, says = BAD[name]
    docs = [{"text": "a passage. another one", "when": "soon", "tags": ["a"], "n": 1, "m": 1}, "a passage"]
    with services() as (server, hosted):
        with pytest.raises(InputError, match=says): make(hosted).rank(QUERY, docs)
        with pytest.raises(InputError, match=says): asyncio.run(awaited(make(hosted).rank_many_async([QUERY, "which?"], docs)))
        assert not server.seen


def test_one_kind_of_error_needs_no_list():
    class Foreign(Exception): pass
    class Fails(PointwiseRanker):
        words = ("fails",)
        def score_pairs(self, pairs, call): raise Foreign("mine")
    assert Fallback(Fails(), "bm25", on=Foreign).rank(QUERY, DOCS).status == "bm25 answered; fails: Foreign: mine"


@pytest.mark.parametrize("value", [math.nan, None, "much", True, 7, -0.1])
def test_a_similarity_that_is_none(value):
    with pytest.raises(InputError, match="similarity= gave"): Diverse("bm25", similarity=lambda a, b: value).rank(QUERY, DOCS)


def test_a_trial_that_never_ends_does_not_keep_others_away():
    "An interrupted call may leave its outcome untold for as long as somebody looks at the error"
    now = [0.0]
    breaker = Breaker(failures=1, rest=10, clock=lambda: now[0])
    breaker.tell(False)
    now[0] = 10.0
    assert [breaker.allows() for _ in range(2)] == [True, False]
    now[0] = 20.0
    assert [breaker.allows() for _ in range(2)] == [True, False]


# ---------- words in every script, copies without comparing all pairs, and weights from odd judgements

WORDS = ["one", "two", "three", "four", "生存", "毁灭", "จะอยู่", "หรือ"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=1, max_size=9)


@given(TEXTS, st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 1.0]), st.randoms(use_true_random=False))
def test_copies_are_those_of_all_pairs(texts, least, dice):
    order, sets, kept, found = dice.sample(range(len(texts)), len(texts)), [shingles(t, 3) for t in texts], [], {}
    for i in order:
        same = next((k for k in kept if len(sets[i] & sets[k]) / len(sets[i] | sets[k]) >= least), None)
        if same is None: kept.append(i)
        else: found[i] = same
    assert copies_of(texts, order, least) == found


@given(TEXTS, st.integers(1, 3))
def test_shared_words_are_counted_exactly(texts, n):
    sets = [shingles(t, n) for t in texts]
    assert jaccard(texts, n) == [[len(a & b) / len(a | b) for b in sets] for a in sets]


SCRIPTS = {"Chinese": ("生存还是毁灭，这是一个值得考虑的问题，默然忍受命运的暴虐的毒箭", "今天天气很好，我们去公园散步，然后回家吃饭"),
           "Japanese": ("生きるべきか死ぬべきか、それが問題だ。どちらが男らしい生き方か", "今日は天気がいいので、公園を散歩してから家に帰ります"),
           "Thai": ("จะอยู่หรือจะตายนั่นคือคำถามที่ต้องตอบด้วยใจที่กล้าหาญและมั่นคง", "วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะแล้วกลับบ้านกินข้าว"),
           "English": ("to be or not to be, that is the question: whether it is nobler in the mind to suffer",
                       "the weather is fine today, so we walk in the park")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_copies_and_passages_in_scripts_without_blanks(script):
    text, other = SCRIPTS[script]
    copy = text + "."
    assert copies_of([text, other, copy], [0, 1, 2], 0.8) == {2: 0} and jaccard([text, other])[0][1] < 0.3 < 0.9 < jaccard([text, copy])[0][1]
    results = Diverse("bm25", weight=1, copies=0.8).rank(text[:6], [text, other, copy])
    assert [r.note for r in results if r.note] in (["a copy of 0"], ["a copy of 2"]) and results[-1].note
    spans = split_spans(text * 9, size=20)
    assert len(spans) > 3 and "".join((text * 9)[a:b] for a, b in spans).replace(" ", "") == (text * 9).replace(" ", "")


class Says(PointwiseRanker):
    "A score by text, and how often it was asked"
    words = ("says",)
    def __init__(self, **scores): self.scores, self.asked = scores, 0
    def score_pairs(self, pairs, call):
        self.asked += 1
        return Ranking([self.scores.get(text, 0.0) for _, text in pairs], status=self.status)
    status = "complete"


class Half(Says):
    "Has no score for some documents"
    words, status = ("half",), "the rest was not judged"
    def score_pairs(self, pairs, call): return Ranking([self.scores.get(text) for _, text in pairs], status=self.status)


LETTERS = list("abcdef")
KNOWS = {"a": 0.9, "b": 0.1, "c": 0.2, "d": 0.3, "e": 0.4, "f": 0.5}
FITS = {"fitted": lambda parts, *judged, **o: fitted(Fusion(*parts, method="combsum"), *judged, **o),
        "learned": lambda parts, *judged, **o: learned(Blend(*parts), *judged, **o)}
ODD = {"no query": ([], []), "no label": (["q"], [{}]), "labels of other documents": (["q"], [{"z": 1}]), "all irrelevant": (["q"], [{"a": 0, "b": 0}]),
       "all relevant": (["q"], [dict.fromkeys(LETTERS, 1)]), "fewer labels than queries": (["q", "p"], [{"a": 1}]), "no dictionary": (["q"], [["a"]]),
       "a grade in words": (["q"], [{"a": "good"}]), "half a grade": (["q"], [{"a": 0.5}]), "a grade NaN": (["q"], [{"a": math.nan}]),
       "no grade": (["q"], [{"a": None}])}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("how", FITS)
def test_judgements_of_which_nothing_can_be_learned(how, case):
    pytest.importorskip("ir_measures" if how == "fitted" else "sklearn")
    queries, judged = ODD[case]
    part = Says(**KNOWS)
    with pytest.raises(InputError, match="judged"): FITS[how]([part, "bm25"], queries, [LETTERS] * len(queries), judged, doc_ids=[LETTERS] * len(queries))
    assert not part.asked


@pytest.mark.parametrize("measure", ["nope", "nDCG@", "", None, 3])
def test_a_measure_that_is_none(measure):
    pytest.importorskip("ir_measures")
    part = Says(**KNOWS)
    with pytest.raises(InputError, match="measure="): fitted(Fusion(part, "bm25"), ["q"], LETTERS, [{0: 1}], measure=measure)
    assert not part.asked


@pytest.mark.parametrize("how", FITS)
def test_weights_from_constant_missing_and_tied_scores(how):
    pytest.importorskip("ir_measures" if how == "fitted" else "sklearn")
    parts = [Says(), Half(a=0.9, b=0.1), Says(**KNOWS), Says(**KNOWS)]     # constant, with gaps, and two that always say the same
    def learn(judged, **ids): return FITS[how](parts, ["q", "p"], LETTERS, judged, **ids)
    best, again = learn([{0: 1}, {0: 2, 5: 1}]), learn([{0: 1}, {0: 2, 5: 1}])
    assert best.weights == again.weights and all(map(math.isfinite, best.weights))
    assert best.rank("q", LETTERS)[0].text == "a" and (how == "fitted" or abs(best.weights[0]) < 1e-9), "a constant tells nothing"
    assert learn([{"a": 1}, {"a": 2, "f": 1}], doc_ids=LETTERS).weights == learn([{"0": 1}, {"0": 2, "5": 1}]).weights == best.weights
    assert Reranker(replaced(best).spec).spec == replaced(best).spec


def replaced(best):
    "The same weights for parts that can be written down"
    return type(best)(*["bm25"] * 4, weights=best.weights)


def test_what_is_good_enough_keeps_its_weights():
    "Nothing is better than what there was, so a tie changes nothing"
    pytest.importorskip("ir_measures")
    given = Fusion(Says(**KNOWS), Says(**KNOWS), weights=[3, 2])
    assert fitted(given, ["q"], LETTERS, [{0: 1}]).weights == [3.0, 2.0]


# ---------- one failing query among many

NESTED = {"alone": lambda s: s("one"), "cascade": lambda s: Cascade("bm25", s("one")), "fusion": lambda s: Fusion("bm25", s("one")),
          "deep": lambda s: LongDocuments(Cascade(("bm25", 5), Fusion("bm25", s("one")))), "inner fallback": lambda s: Fallback(s("one"), on=(KeyError,))}


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("name", NESTED)
def test_only_the_failed_queries_go_to_the_next_ranker(name, how):
    queries = [f"query {i}" for i in range(10)]
    def fate(service, query): return refusal(503) if (service, query) == ("one", "query 3") else None
    with services(fate) as (server, hosted):
        ranker = Fallback(NESTED[name](hosted), hosted("two"), failures=100)
        found = ranker.rank_many(queries, DOCS) if how == "sync" else asyncio.run(ranker.rank_many_async(queries, DOCS))
        asked = server.script.asked
    assert {asked["one", q] for q in queries} == {1} and {q: asked["two", q] for q in queries if asked["two", q]} == {"query 3": 1}
    assert [r.status == "complete" for r in found] == [q != "query 3" for q in queries]
    with services() as (_, hosted): expected = NESTED[name](hosted).rank_many(queries, DOCS)
    assert [order(r) for i, r in enumerate(found) if i != 3] == [order(r) for i, r in enumerate(expected) if i != 3]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_without_a_fallback_one_error_ends_the_call(how):
    with services(lambda service, query: refusal(401) if query == "query 3" else None) as (_, hosted):
        ranker, queries = Cascade("bm25", hosted("one")), [f"query {i}" for i in range(10)]
        with pytest.raises(AuthenticationError, match="words of 401"):
            ranker.rank_many(queries, DOCS) if how == "sync" else asyncio.run(ranker.rank_many_async(queries, DOCS))


# ---------- OpenTelemetry

@pytest.fixture
def spans():
    "What is recorded with OpenTelemetry's own SDK, and a tracer"
    if os.environ.get("CI") != "true": pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, provider.get_tracer("test")
    provider.shutdown()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_span_says_who_answered_each_query(how, spans):
    exporter, tracer = spans
    def fate(service, query): return refusal(503) if (service == "one" and query != "fine") or query == "bad" else None
    with services(fate) as (_, hosted):
        ranker = Fallback(hosted("one"), hosted("two"), keep=True, failures=10)
        with tracer.start_as_current_span("search"):
            found = ranker.rank_many(["fine", "poor", "bad"], DOCS) if how == "sync" else asyncio.run(ranker.rank_many_async(["fine", "poor", "bad"], DOCS))
    [span] = exporter.get_finished_spans()
    events = [dict(event.attributes) for event in span.events]
    assert {event.name for event in span.events} == {"rerankers.fallback"}
    assert sorted(e["rerankers.fallback.status"] for e in events) == sorted(r.status for r in found)
    assert sorted(e["rerankers.fallback.answered_by"] for e in events) == ["nobody", "tei", "tei#2"] and dict(span.attributes) in events


def test_a_span_of_a_thread_of_a_fusion(spans):
    "Parts that wait side by side write to the span of their caller"
    exporter, tracer = spans
    with services() as (_, hosted):
        with tracer.start_as_current_span("search"): Fusion(Fallback(hosted("one")), Fallback(hosted("two"))).rank(QUERY, DOCS)
    [span] = exporter.get_finished_spans()
    assert [e.attributes["rerankers.fallback.status"] for e in span.events] == ["complete"] * 2


def test_the_namespace_without_the_interface(tmp_path, monkeypatch):
    "Packages such as opentelemetry-proto bring a folder of that name and no tracing"
    (tmp_path / "opentelemetry" / "proto").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "opentelemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert find_spec("opentelemetry") and Fallback("bm25").rank(QUERY, DOCS).status == "complete"
