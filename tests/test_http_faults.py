"Real HTTP on loopback: whatever a server does ends in a typed error or in the kept order, in time, with nothing lost and the key unseen"

import asyncio
import gc
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")
from crowd import FOR_EVER, Crowd, becomes, leap  # noqa: E402
from servers import Say, Scripted, chat  # noqa: E402

from rerankers import Reranker  # noqa: E402
from rerankers.web.http import BACKGROUND  # noqa: E402
from rerankers.errors import (  # noqa: E402
    AuthenticationError,
    BadRequestError,
    InputError,
    NotFoundError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    UnusableAnswer,
)

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-live-7Qz3Xw9Kd2Lm5Rt8"
N = 6
DOCS = [f"passage number {i}" for i in range(N - 1)] + ["passage number 0"]  # two have the same text
ORDER = " > ".join(f"[{i}]" for i in range(N, 0, -1))
GOOD = chat(ORDER)
RETRIES = 2
PATIENCE = {"timeout": 60.0, "retries": RETRIES, "backoff": 0.01}  # by a clock that the server moves on: see crowd.leap
INF = math.inf


def make(server, client=None, **options):
    "A listwise ranker that asks this server, over httpx or through litellm"
    url = server if isinstance(server, str) else server.url
    model = "openai/test" if client == "litellm" else "test"
    return Reranker(model, model_type="rankgpt", client=client, base_url=url, **({"api_key": KEY} | PATIENCE | options))


def rank(ranker, how, query="which?", docs=DOCS):
    "One query, by either way"
    return ranker.rank(query, docs) if how == "sync" else asyncio.run(ranker.rank_async(query, docs))


# ---- what a server may do, and what has to come of it


def error(status, message="", **more):
    "A refusal that repeats the key, as OpenAI's do"
    headers = more.pop("headers", {})
    return Say({"error": {"message": f"{message} (key {KEY})", **more}}, status=status, headers=headers)


@dataclass(frozen=True)
class Case:
    "A script and its end"

    script: list[Any]  # Answers in turn, the last one again and again
    raised: type[Exception] | None = None  # With on_error="raise"; None: there is a ranking
    kept: str | None = "failed"  # With on_error="keep": what `results.faults` counts; None where the error is raised all the same
    sent: int = 1  # Requests
    says: str = ""  # Part of the message
    order: tuple[int, ...] = tuple(reversed(range(N)))  # Where there is a ranking
    litellm: Any = True  # The same through litellm? A dictionary says what differs


TRIES = RETRIES + 1
HTML = f"<html><head><style>b {{}}</style></head><body><h1>It works!</h1>{KEY}</body></html>"
SAME, KEPT = tuple(range(N)), None
FAILED = {"raised": ServerError, "sent": TRIES, "says": ""}  # litellm: whatever is no chat completion is its "internal server error", which passes
STRADDLE = "x" * (300 - len("(key ") - 12)  # where a message of 300 characters would end in the middle of the key

CASES = {
    # statuses
    "401": Case([error(401, "Incorrect API key")], AuthenticationError, KEPT, says="Incorrect API key"),
    "403": Case([error(403, "not allowed")], AuthenticationError, KEPT),
    "404": Case([error(404, "no such model")], NotFoundError, KEPT, says="no such model"),
    "302": Case([Say("", 302, {"Location": "/v1/elsewhere"})], NotFoundError, KEPT, says="moved to /v1/elsewhere", litellm=False),  # it follows
    "400": Case([error(400, "too long")], BadRequestError, says="too long"),
    "413": Case([error(413, "too large")], BadRequestError),
    "422": Case([Say({"detail": [{"loc": ["body"], "msg": f"bad field {KEY}"}]}, 422)], BadRequestError, says="bad field"),
    "402": Case([error(402, "no money")], RateLimitError, KEPT),  # no other window would fare better
    "429 in a moment, then 200": Case([error(429, headers={"Retry-After": "0.2"}), GOOD], sent=2),
    "429 in milliseconds, then 200": Case([error(429, headers={"Retry-After-Ms": "50"}), GOOD], sent=2),
    "429 in an hour": Case([error(429, "daily limit", headers={"Retry-After": "3600"})], RateLimitError, says="daily limit"),
    "429 without money": Case([error(429, "You exceeded your current quota", code="insufficient_quota")], RateLimitError, KEPT, says="quota"),
    "429 for ever": Case([error(429, "slow down")], RateLimitError, sent=TRIES),
    "500 for ever": Case([error(500, "boom")], ServerError, sent=TRIES, says="boom"),
    "500, then 200": Case([error(500), GOOD], sent=2),
    "500 twice, then 200": Case([error(500), error(500), GOOD], sent=3),
    "503": Case([error(503, "overloaded")], ServerError, sent=TRIES),
    "529": Case([error(529, "overloaded")], ServerError, sent=TRIES),
    "501": Case([error(501, "never heard of it")], ServerError),
    "a key where the message is cut": Case([error(401, STRADDLE)], AuthenticationError, KEPT),
    "502 in HTML": Case([Say(HTML.replace("It works!", "502 Bad Gateway"), 502)], ServerError, sent=TRIES, says="502 Bad Gateway"),
    # the line
    "silence": Case([Say(GOOD, delay=INF)], ProviderTimeoutError, sent=TRIES),
    "silence, then 200": Case([Say(GOOD, delay=INF), GOOD], sent=2),
    "one byte at a time": Case([Say(GOOD, drip=25.0)], ProviderTimeoutError, sent=TRIES),
    "hangs up": Case([Say(cut=-1)], ServerError, sent=TRIES),
    "hangs up in the middle": Case([Say(GOOD, cut=40)], ServerError, sent=TRIES),
    "hangs up, then 200": Case([Say(GOOD, cut=40), GOOD], sent=2),
    "less than was said": Case([Say(GOOD, length=100_000)], ServerError, sent=TRIES),
    "more than was said": Case([Say(GOOD, length=60)], UnusableAnswer, litellm=FAILED),
    "no HTTP": Case([Say(raw=b"SSH-2.0-OpenSSH_9.6\r\n")], ServerError, sent=TRIES),
    "not zipped": Case([Say(GOOD, headers={"Content-Encoding": "gzip"})], ServerError, sent=TRIES, litellm=False),
    # 200, but no chat completion
    "HTML": Case([Say(HTML, headers={"Content-Type": "text/html"})], UnusableAnswer, says="It works!", litellm=FAILED),
    "nothing": Case([Say("")], UnusableAnswer, litellm=FAILED),
    "204": Case([Say("", 204)], UnusableAnswer, litellm=FAILED),
    "half of a JSON": Case([Say(Say(GOOD).content[:60])], UnusableAnswer, litellm=FAILED),
    "a stream of events": Case([Say(b"data: " + Say(GOOD).content + b"\n\ndata: [DONE]\n\n")], UnusableAnswer, litellm=FAILED),
    "another alphabet": Case([Say(b"\xff\xfe\x00{")], UnusableAnswer, litellm=FAILED),
    "ten thousand brackets": Case([Say("[" * 100_000)], UnusableAnswer, litellm=False),
    "an error behind nine hundred names": Case([Say('{"error": ' * 900 + "1" + "}" * 900, 400)], BadRequestError, litellm=False),
    "a success like that": Case([Say('{"error": ' * 600 + "1" + "}" * 600)], (ServerError, UnusableAnswer), litellm=False),
    "null": Case([Say("null")], UnusableAnswer, litellm=FAILED),
    "a number": Case([Say("7")], UnusableAnswer, litellm=FAILED),
    "no choices": Case([{"id": "1", "usage": {}}], UnusableAnswer, says="no chat completion", litellm=FAILED),
    "empty choices": Case([GOOD | {"choices": []}], UnusableAnswer),
    "choices of nothing": Case([GOOD | {"choices": [None]}], UnusableAnswer, litellm=FAILED),
    "an error with status 200": Case([{"error": {"message": f"upstream is down (key {KEY})", "code": 502}}], ServerError, sent=TRIES, says="upstream is down"),
    "an error with status 200, then none": Case([{"error": {"message": "slow down", "code": 429}}, GOOD], sent=2),
    "a wrong key with status 200": Case([{"error": {"message": f"no user of {KEY}", "code": "401"}}], AuthenticationError, KEPT, litellm=False),
    "no money with status 200": Case([{"error": {"message": "pay", "code": 429, "type": "insufficient_quota"}}], RateLimitError, KEPT, litellm=False),
    "an error in the choice": Case(
        [chat("[2] > [1", finish_reason="error", error={"code": 502, "message": f"died of {KEY}"})], ServerError, sent=TRIES, says="died of", litellm=False
    ),
    "an error with status 200 and empty choices": Case(
        [{"choices": None, "error": {"message": f"upstream is down {KEY}"}}], ServerError, litellm={"raised": BadRequestError}
    ),
    "the key in something else": Case([{"you": KEY}], UnusableAnswer, litellm=FAILED),
    # a chat completion, but no ranking
    "empty content": Case([chat("")], UnusableAnswer, "empty"),
    "None": Case([chat(None)], UnusableAnswer, "empty"),
    "a refusal": Case([chat("I'm sorry, but I can't help with that.")], UnusableAnswer, "wrong_format", says="it answered \"I'm sorry"),
    "a refusal in its field": Case(
        [chat(None, message={"role": "assistant", "content": None, "refusal": "No."})], UnusableAnswer, "wrong_format", says="'No.'", litellm=False
    ),
    "only others": Case([chat("[77] > [88]")], UnusableAnswer, "wrong_format"),
    # a ranking with faults
    "repeated": Case([chat("[3] > [3] > [1] > [3] > [2] > [4] > [5] > [6]")], None, "repetition", order=(2, 0, 1, 3, 4, 5)),
    "out of range": Case([chat("[3] > [99] > [0] > [1]")], None, "out_of_range", order=(2, 0, 1, 3, 4, 5)),
    "a few": Case([chat("[6] > [2]")], None, "missing", order=(5, 1, 0, 2, 3, 4)),
    "without usage": Case([{k: v for k, v in GOOD.items() if k != "usage"}], None, None),
    "tokens that are no number": Case([GOOD | {"usage": {"prompt_tokens": "many"}}], None, None, litellm=False),
    "endless tokens": Case([GOOD | {"usage": {"prompt_tokens": INF}}], None, None, litellm=False),
    "usage that is a word": Case([GOOD | {"usage": "x"}], None, None, litellm=False),
    "parts": Case([chat([{"type": "text", "text": ORDER}])], None, None, litellm=False),
    "twice the whole": Case([chat(ORDER + "\n" + ORDER)], None, None),  # one of them is the answer
}


def of(case, on_error):
    "What has to come of a case: an error or None, a fault or None, an order"
    if case.raised is None:
        return None, case.kept if case.kept != "failed" else None, case.order
    return (None, case.kept, SAME) if on_error == "keep" and case.kept is not None else (case.raised, None, SAME)


def texts_of(problem):
    "All that an error says, and those behind it"
    chain, seen = [problem], set()
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from (str(one), repr(one), repr(getattr(one, "body", "")), repr(getattr(one, "args", "")))
        chain += [one.__cause__, one.__context__]
    yield "".join(traceback.format_exception(problem))


def assert_unseen(*texts):
    "Neither the key nor a good part of it"
    pieces = [KEY[i : i + 10] for i in range(len(KEY) - 9)]
    for text in texts:
        assert not any(p in text for p in pieces), f"the key is in {text!r}"


def check(case, ranker, server, on_error, how, caplog):
    caplog.set_level(logging.DEBUG, logger="rerankers")
    raised, fault, order = of(case, on_error)
    problem = None
    if raised is None:
        results = rank(ranker, how)
    else:
        with pytest.raises(raised, match=None) as caught:
            rank(ranker, how)
        problem = caught.value
    assert len(server.seen) == case.sent
    if problem is not None:
        assert case.says in str(problem) and "test" in str(problem)
        assert_unseen(*texts_of(problem))
    else:
        assert tuple(r.doc_id for r in results) == order
        assert results.faults == ({fault: 1} if fault else {})
        assert results.usage.calls == (fault != "failed")
        if fault != "failed":
            assert results.usage.retries == case.sent - 1
        assert_unseen(repr(results), repr(results.usage), repr(results.to_dict()) if hasattr(results, "to_dict") else "")
    records = [r for r in caplog.records if r.name.startswith("rerankers")]
    assert_unseen(repr(ranker), repr(ranker.client), repr(vars(ranker.client)), caplog.text, *(repr(r.args) for r in records))
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" and seen.json == server.seen[0].json for seen in server.seen), (
        "each attempt is the whole request"
    )


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("on_error", ["raise", "keep"])
@pytest.mark.parametrize("name", CASES)
def test_whatever_the_server_does(name, on_error, how, caplog):
    case = CASES[name]
    with Scripted(case.script, leap=leap) as server:
        check(case, make(server, on_error=on_error), server, on_error, how, caplog)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_nobody_there(on_error, how, caplog):
    with Scripted([GOOD]) as server:
        url = server.url  # closed when the block ends
    check(Case([], ServerError, sent=0, says="cannot connect"), make(url, on_error=on_error), server, on_error, how, caplog)


def test_a_connection_with_something_left_in_it_is_not_used_again():
    "Bytes after the answer's end would be taken for the next answer"
    with Scripted([Say(Say(GOOD).content + b"HTTP/1.1 200 OK", length=len(Say(GOOD).content)), GOOD]) as server:
        ranker = make(server)
        assert [[r.doc_id for r in ranker.rank("which?", DOCS)] for _ in range(2)] == [list(reversed(range(N)))] * 2


@pytest.mark.parametrize("blank", ["\n", " ", "\r\n"])
def test_a_key_from_a_file_loses_its_new_line(blank):
    with Scripted([GOOD]) as server:
        ranker = make(server, api_key=KEY + blank)
        assert ranker.rank("which?", DOCS)[0].doc_id == N - 1 and server.seen[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("inside", ["\n", "\u00e9", "\u2026", "\0", " "])
def test_what_can_be_no_key_is_an_error_that_does_not_show_it(inside):
    with Scripted([GOOD]) as server:
        with pytest.raises((InputError, AuthenticationError)) as caught:
            make(server, api_key=KEY + inside + KEY).rank("?", DOCS)
        assert_unseen(*texts_of(caught.value))
        assert not server.seen


# ---- litellm

LITELLM = {name: case for name, case in CASES.items() if case.litellm}
needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")  # importing it here would have it fetch its prices
CLIENTS = [None, pytest.param("litellm", marks=needs_litellm)]


@pytest.fixture(scope="module")
def awake():
    "What litellm sets up at its first call would eat up the patience of the first case"
    with Scripted([GOOD]) as server:
        make(server, client="litellm", timeout=30).rank("which?", DOCS)


@needs_litellm
@pytest.mark.usefixtures("awake")
@pytest.mark.parametrize("on_error", ["raise", "keep"])
@pytest.mark.parametrize("name", LITELLM)
def test_whatever_the_server_does_through_litellm(name, on_error, caplog, capsys):
    case = LITELLM[name]
    case = replace(case, **(case.litellm if isinstance(case.litellm, dict) else {}))
    with Scripted(case.script, leap=leap) as server:
        check(case, make(server, client="litellm", on_error=on_error), server, on_error, "async" if on_error == "raise" else "sync", caplog)
    assert capsys.readouterr().out == ""


@needs_litellm
@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_nobody_there_through_litellm(on_error, caplog):
    with Scripted([GOOD]) as server:
        url = server.url
    check(Case([], ServerError, sent=0), make(url, client="litellm", on_error=on_error), server, on_error, "sync", caplog)


# ---- what is under way when something goes wrong

LONG = [f"passage {i}" for i in range(100)]


def silent_from(n):
    "Answers, and from the n-th request on says nothing, so that whatever happens then happens in the middle of a request"
    return [chat("[1]")] * (n - 1) + [Say(chat("[1]"), delay=INF)]


def nothing_waits():
    "No task is left in the loop of requests; litellm keeps one of its own there, for its log"
    return becomes(lambda: not [t for t in asyncio.all_tasks(BACKGROUND.running()) if "litellm" not in t.get_coro().cr_code.co_filename])


def still(server):
    "Is nothing left that could send, and has the server looked at all that was sent?"
    return nothing_waits() and server.wait(lambda: server.under_way == 0) and not server.unread()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_after_an_error_nothing_more_is_sent(client, status):
    "One of twenty queries fails; the others, each in the middle of nine windows, are called back"
    script = lambda seen: error(status) if "query 7" in seen.body.decode() else Say(chat("[1]"), delay=INF)
    with Scripted(script) as server:
        ranker = make(server, client, concurrency=16, retries=0)
        with pytest.raises((BadRequestError, AuthenticationError, ServerError)):
            ranker.rank_many([f"query {i}" for i in range(20)], LONG)
        assert still(server) and len(server.seen) <= 20, "requests are still under way"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cancelled_ranking_stops_sending(client):
    with Scripted(silent_from(4)) as server:
        ranker = make(server, client)
        ranker.rank("warm", DOCS)

        async def impatient():
            task = asyncio.ensure_future(ranker.rank_async("which?", LONG))
            assert await asyncio.to_thread(server.wait, lambda: len(server.seen) == 4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(impatient())
        assert still(server) and len(server.seen) == 4


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"), reason="signals arrive in the main thread")
def test_an_interrupt_stops_sending():
    "Ctrl-C in the middle of a blocking call"

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Scripted(lambda seen: Say(chat("[1]"), delay=INF if len(server.seen) == 4 else 0)) as server:
            ranker = make(server)
            ranker.rank("warm", DOCS)
            hand = threading.Thread(target=lambda: server.wait(lambda: len(server.seen) == 4) and os.kill(os.getpid(), signal.SIGALRM))
            hand.start()
            with pytest.raises(KeyboardInterrupt):
                ranker.rank("which?", LONG)
            hand.join()
            assert still(server) and len(server.seen) == 4
            assert ranker.rank("again", DOCS)[0].doc_id == 0, "and the ranker goes on"
    finally:
        signal.signal(signal.SIGALRM, old)


def test_an_abandoned_attempt_gives_its_place_back():
    "After as many cancelled calls as there are places, the next one is served at once"
    with Scripted(lambda seen: Say(chat("[1]"), delay=INF if "hang" in seen.body.decode() else 0)) as server:
        ranker = make(server, concurrency=2, timeout=FOR_EVER)

        async def give_up():
            for i in range(3):
                task = asyncio.ensure_future(ranker.rank_async("hang", DOCS))
                assert await asyncio.to_thread(server.wait, lambda i=i: len(server.seen) == i + 1), "it waits for a place"
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(give_up())
        ranker.rank("which?", DOCS)
        assert len(server.seen) == 4 and nothing_waits()


# ---- connections


def test_connections_are_kept_and_given_back():
    with Scripted([GOOD]) as server:
        ranker = make(server)
        for _ in range(5):
            ranker.rank("which?", DOCS)
        asyncio.run(ranker.rank_async("which?", DOCS))
        assert (server.opened, server.connections) == (1, 1), "one after the other, they share a connection"
        del ranker
        gc.collect()
        assert server.wait(lambda: server.connections == 0), "the ranker is gone, its connection is not"


@pytest.mark.parametrize("name", ["silence", "hangs up in the middle", "one byte at a time", "401"])
def test_connections_are_given_back_after_failures_too(name):
    with Scripted(CASES[name].script, leap=leap) as server:
        ranker = make(server, retries=1)
        for _ in range(2):
            with pytest.raises(CASES[name].raised):
                ranker.rank("which?", DOCS)
        assert server.connections <= 1, "what broke is not kept"
        del ranker
        gc.collect()
        assert server.wait(lambda: server.connections == 0) and nothing_waits()


# ---- loops, threads, processes


@pytest.mark.parametrize("client", CLIENTS)
def test_from_one_loop_after_the_other(client):
    with Scripted([GOOD]) as server:
        ranker = make(server, client)
        assert [asyncio.run(ranker.rank_async("which?", DOCS))[0].doc_id for _ in range(3)] == [N - 1] * 3
        assert ranker.rank("which?", DOCS)[0].doc_id == N - 1


@pytest.mark.parametrize("client", CLIENTS)
def test_from_many_threads_the_limit_is_one(client):
    crowd = Crowd(3)

    async def together(seen):
        async with crowd:
            return GOOD

    with Scripted(together) as server:
        ranker = make(server, client, concurrency=3)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: ranker.rank(f"query {i}", DOCS) if i % 2 else asyncio.run(ranker.rank_async(f"query {i}", DOCS)), range(24)))
        assert [f.query for f in found] == [f"query {i}" for i in range(24)] and {f[0].doc_id for f in found} == {N - 1}
        assert (server.most, len(server.seen)) == (3, 24)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_pickled_ranker_works(client):
    with Scripted([GOOD]) as server:
        ranker = make(server, client)
        ranker.rank("which?", DOCS)
        again = pickle.loads(pickle.dumps(ranker))
        assert again.rank("which?", DOCS) == ranker.rank("which?", DOCS) and server.seen[-1].headers["authorization"] == f"Bearer {KEY}"


FORK = """
import os, sys, threading
from test_http_faults import DOCS, N, make
ranker = make(sys.argv[1], timeout=10)
assert ranker.rank("before", DOCS)[0].doc_id == N - 1
child = os.fork()
if not child:
    try:
        assert [r.doc_id for r in ranker.rank("in the child", DOCS)] == list(reversed(range(N)))
        os._exit(0)
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
assert ranker.rank("in the parent", DOCS)[0].doc_id == N - 1     # meanwhile
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ranker.rank("after", DOCS)[0].doc_id == N - 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_ranks_and_so_does_its_parent():
    with Scripted([GOOD]) as server:
        path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert sorted(seen.json["messages"][1]["content"].rpartition(": ")[2] for seen in server.seen) == sorted(
            f"{w}." for w in ("before", "in the child", "in the parent", "after")
        )


# ---- side by side

QUERIES, WINDOWS, PLACES = [f"query {i}" for i in range(20)], 9, 16


class Rounds:
    "Answers when all who may ask are asking: as many as there are places, or as there are queries with windows left. Counts how often"

    def __init__(self):
        self.left, self.waiting, self.rounds, self.turn = dict.fromkeys(QUERIES, WINDOWS), [], 0, asyncio.Condition()

    async def __call__(self, seen):
        query = next((q for q in reversed(QUERIES) if q in seen.body.decode()), None)
        if query is None:
            return chat("[1]")
        async with self.turn:
            self.waiting.append(query)
            mine = self.rounds
            if len(self.waiting) == min(PLACES, sum(n > 0 for n in self.left.values())):
                self.go_on()
            else:
                await asyncio.wait_for(self.turn.wait_for(lambda: self.rounds > mine), FOR_EVER)
        return chat("[1]")

    def go_on(self):
        for query in self.waiting:
            self.left[query] -= 1
        self.rounds, self.waiting = self.rounds + 1, []
        self.turn.notify_all()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_twenty_queries_of_nine_windows_go_side_by_side(how):
    """Each query's nine windows come one after the other, sixteen requests run at once: twelve rounds, some more where they do not come out even. A library
    that let windows wait for one another would never have sixteen under way"""
    script = Rounds()
    with Scripted(script) as server:
        ranker = make(server, concurrency=PLACES, timeout=FOR_EVER, retries=0)
        found = ranker.rank_many(QUERIES, LONG) if how == "sync" else asyncio.run(ranker.rank_many_async(QUERIES, LONG))
        assert all(sorted(r.doc_id for r in f) == list(range(100)) and f.usage.calls == WINDOWS for f in found)
        assert (len(server.seen), server.most) == (len(QUERIES) * WINDOWS, PLACES)
        assert script.rounds <= 1.3 * math.ceil(len(QUERIES) * WINDOWS / PLACES)
