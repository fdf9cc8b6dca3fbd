"What happens without a usable answer: an error, or the documents stay; for hosted rankers, chat models and functions of the caller's"
import asyncio
import json
import os
import subprocess
import sys

import pytest

httpx = pytest.importorskip("httpx")
from servers import Scripted, need_litellm

from rerankers import InputError, Reranker, UnusableAnswer
from rerankers.errors import AuthenticationError, BadRequestError, NotFoundError, ProviderError, RateLimitError, ServerError
from rerankers.llm.chat import ChatClient, Reply

DOCS = [f"number {i}" for i in range(12)]
REFUSING = [(500, ServerError), (400, BadRequestError), (429, RateLimitError), (200, UnusableAnswer)]
HOPELESS = [(401, AuthenticationError), (403, AuthenticationError), (404, NotFoundError), (402, RateLimitError)]


class LibraryError(Exception):
    "Of a library that ours has never heard of"


def hosted(refused, status=500, model="m-1", **options):
    "A ranker whose server refuses requests that have one of these numbers in them, for whichever query"
    seen = []

    def answer(request):
        seen.append(body := json.loads(request.content))
        numbers = [int(text.split()[-1]) for text in body["documents"]]
        if (set(numbers) & set(refused) or body["query"] in refused): return httpx.Response(status, json={"message": "no"})
        return httpx.Response(200, json={"results": [{"index": i, "relevance_score": float(n)} for i, n in enumerate(numbers)], "usage": {"total_tokens": 5}})
    options = {"api_key": "k", "chunk_size": 4, "retries": 0, "transport": httpx.MockTransport(answer)} | options
    return Reranker(model, model_type="jina", **options), seen


def rank(ranker, how, *args, **kwargs):
    return ranker.rank(*args, **kwargs) if how == "sync" else asyncio.run(ranker.rank_async(*args, **kwargs))


def order(results): return [r.doc_id for r in results]


# ---- hosted rankers

@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(("status", "raised"), REFUSING)
def test_documents_of_a_failed_request_stay_behind_the_others(status, raised, how):
    ranker, seen = hosted([5], status, on_error="keep")
    results = rank(ranker, how, "which?", DOCS)
    assert order(results) == [11, 10, 9, 8, 3, 2, 1, 0, 4, 5, 6, 7] and not results.has_scores and {r.score for r in results} == {None}
    assert (results.faults, results.usage.calls, results.usage.input_tokens, len(seen)) == ({"failed": 1}, 2, 10, 3)
    strict, _ = hosted([5], status)
    with pytest.raises(raised): rank(strict, how, "which?", DOCS)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_where_all_requests_fail_the_order_is_the_callers(how):
    ranker, _ = hosted(range(12), on_error="keep")
    results = rank(ranker, how, "which?", ["number 3", " ", "number 1"])
    assert order(results) == [0, 2, 1] and results.faults == {"failed": 1} and results.usage.calls == 0


def test_one_query_of_many_fails_and_the_others_keep_their_scores():
    ranker, _ = hosted(["query 1"], on_error="keep")
    for many in (ranker.rank_many([f"query {i}" for i in range(3)], DOCS), asyncio.run(ranker.rank_many_async([f"query {i}" for i in range(3)], DOCS))):
        assert [results.has_scores for results in many] == [True, False, True] and [results.faults for results in many] == [{}, {"failed": 3}, {}]
        assert [order(results) for results in many] == [list(range(11, -1, -1)), list(range(12)), list(range(11, -1, -1))]


def test_equal_and_blank_documents_and_the_best_few():
    ranker, _ = hosted([5], on_error="keep", chunk_size=2)
    docs = ["number 1", " ", "number 5", "number 1", "number 9", "number 5"]
    assert order(ranker.rank("which?", docs)) == [0, 3, 2, 4, 5, 1], "number 9 went out beside number 5"
    for k in range(1, 7): assert order(ranker.rank("which?", docs, top_k=k)) == order(ranker.rank("which?", docs))[:k]


def test_halves_that_were_answered_are_kept():
    ranker, seen = hosted([7], 413, on_error="keep", chunk_size=8)
    results = ranker.rank("which?", DOCS[:8])
    assert order(results) == [6, 5, 4, 3, 2, 1, 0, 7] and results.faults == {"failed": 1} and results.usage.calls == 3 and len(seen) == 7


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(("status", "raised"), HOPELESS)
def test_what_no_other_request_would_do_better_is_an_error_all_the_same(status, raised, how):
    ranker, _ = hosted([5], status, on_error="keep")
    with pytest.raises(raised): rank(ranker, how, "which?", DOCS)


def test_one_document_has_no_place_to_keep():
    ranker, _ = hosted([5], on_error="keep")
    with pytest.raises(ServerError): ranker.score("which?", "number 5")
    assert ranker.score("which?", "number 4") == 4.0 and ranker.on_error == "keep"


def test_litellm_has_the_same_choice():
    need_litellm()

    def answer(seen):
        numbers = [int(text.split()[-1]) for text in seen.json["documents"]]
        return {"message": "no list"} if 5 in numbers else {"results": [{"index": i, "relevance_score": float(n)} for i, n in enumerate(numbers)]}
    with Scripted(answer) as server:
        options = {"base_url": server.url.removesuffix("/v1"), "api_key": "k", "chunk_size": 6, "timeout": 60, "retries": 0}
        results = Reranker("litellm/cohere/m-1", on_error="keep", **options).rank("which?", DOCS)
        assert order(results) == [11, 10, 9, 8, 7, 6, 0, 1, 2, 3, 4, 5] and results.faults == {"failed": 1}
        with pytest.raises((ProviderError, UnusableAnswer)): Reranker("litellm/cohere/m-1", **options).rank("which?", DOCS)


@pytest.mark.parametrize("word", ["cohere", "rankgpt"])
@pytest.mark.parametrize("value", ["kep", "", None, True])
def test_the_choice_is_one_of_two(word, value):
    with pytest.raises(InputError, match="on_error="): Reranker(word, api_key="k", on_error=value)


# ---- functions of the caller's

METHODS = ["rankgpt", "prp", "setwise", "llm-yes-no", "umbrela", "tourrank"]


def failing(kind, error, first=0):
    "A function that names the first passage, and fails from a certain call on"
    calls = []

    def plain(messages):
        calls.append(messages)
        if len(calls) > first: raise error
        return "[2] > [1]"

    async def coroutine(messages): return plain(messages)

    class Client(ChatClient):
        model = "of the caller's"

        async def reply(self, request): return Reply(plain(request.messages))
    return {"plain": plain, "coroutine": coroutine, "client": Client()}[kind], calls


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "client"])
@pytest.mark.parametrize("error", [LibraryError("down"), TimeoutError("slow"), ServerError("down"), UnusableAnswer("odd"), OSError(5, "no"), RuntimeError()])
def test_whatever_a_function_raises_is_no_answer_or_the_callers_own_error(kind, error, how):
    function, calls = failing(kind, error)
    results = rank(Reranker("rankgpt", client=function, on_error="keep"), how, "which?", DOCS)
    assert order(results) == list(range(12)) and results.faults == {"failed": len(calls)} and results.usage.calls == 0 and len(calls) == 1
    with pytest.raises(type(error)) as caught: rank(Reranker("rankgpt", client=function), how, "which?", DOCS)
    assert caught.value is error or str(caught.value) == str(error)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on(method):
    function, calls = failing("plain", LibraryError("down"))
    results = Reranker(method, client=function, on_error="keep").rank("which?", DOCS[:6])
    assert sorted(order(results)) == list(range(6)) and results.faults["failed"] > 0


def test_one_window_of_several_fails():
    function, calls = failing("plain", LibraryError("down"), first=2)
    results = Reranker("rankgpt", client=function, on_error="keep", concurrency=1).rank("which?", [f"number {i}" for i in range(50)])
    assert results.faults["failed"] == len(calls) - 2 and results.usage.calls == 2 and sorted(order(results)) == list(range(50))


@pytest.mark.parametrize("error", [AuthenticationError("no key"), NotFoundError("no model"), InputError("no such thing")])
def test_a_function_that_says_it_is_hopeless_is_believed(error):
    function, calls = failing("plain", error)
    with pytest.raises(type(error)): Reranker("rankgpt", client=function, on_error="keep").rank("which?", DOCS)
    assert len(calls) == 1


def test_a_mistake_in_a_client_of_ours_is_no_missing_answer(monkeypatch):
    from rerankers.llm.openai import OpenAIClient
    ranker = Reranker("m", model_type="rankgpt", base_url="http://127.0.0.1:9/v1", on_error="keep")

    async def broken(self, request): raise KeyError("a mistake")
    monkeypatch.setattr(OpenAIClient, "reply", broken)
    with pytest.raises(KeyError, match="a mistake"): ranker.rank("which?", DOCS)


ENDS = """
import asyncio, os, sys
from rerankers import Reranker
import rerankers.rankers, rerankers.llm.rankers
while sys.argv[3:] and os.fork():     # a child a case
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if status: sys.exit(status)
    del sys.argv[1:3]
    print("--", flush=True)
END = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit, "StopIteration": StopIteration, "CancelledError": asyncio.CancelledError}[sys.argv[1]]
def plain(messages): raise END("now")
async def coroutine(messages): raise END("now")
for client in (plain, coroutine):
    for how in ("sync", "async"):
        ranker = Reranker("rankgpt", client=client, on_error=sys.argv[2])
        try: results = ranker.rank("q", ["a", "b"]) if how == "sync" else asyncio.run(ranker.rank_async("q", ["a", "b"]))
        except BaseException as error: print(type(error).__name__)
        else: print(results.faults)
        assert Reranker("rankgpt", client=lambda messages: "[2] > [1]").rank("q", ["a", "b"])[0].doc_id == 1, "and the next call is served"
"""


CASES = [(end, on_error) for end in ("KeyboardInterrupt", "SystemExit", "StopIteration", "CancelledError") for on_error in ("raise", "keep")]


@pytest.fixture(scope="module")
def heard():
    "What each case prints, in a process of its own, since what is tried would end the loop that all calls share; forked from one that has imported us"
    found = {}
    for cases in [CASES] if hasattr(os, "fork") else [[case] for case in CASES]:
        done = subprocess.run([sys.executable, "-c", ENDS, *(word for case in cases for word in case)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        found |= zip(cases, done.stdout.split("--\n"), strict=True)
    return found


@pytest.mark.parametrize(("end", "on_error"), CASES)
def test_an_end_of_a_function_is_heard_and_nothing_hangs(heard, end, on_error):
    expected = "RuntimeError" if end == "StopIteration" else end
    if end == "StopIteration" and on_error == "keep": expected = "{'failed': 1}"
    assert heard[end, on_error].split("\n")[:-1] == [expected] * 4
