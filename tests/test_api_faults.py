"Every provider against a server on loopback that does whatever servers do: a typed error or a complete ranking, without needless waiting, the key unseen"

import asyncio
import itertools
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace as Some
from typing import Any

import pytest

pytest.importorskip("httpx")
from crowd import FOR_EVER, becomes, leap  # noqa: E402
from servers import Say, Scripted, need_litellm  # noqa: E402
from test_http_faults import KEY, assert_unseen, texts_of  # noqa: E402

from rerankers import Reranker  # noqa: E402
from rerankers.backends.api import PROVIDERS  # noqa: E402
from rerankers.web.http import BACKGROUND  # noqa: E402
from rerankers.errors import (  # noqa: E402
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    UnusableAnswer,
)

DOCS = ["passage 0", "passage 1", "passage 2", "passage 0", " ", "passage 3"]  # one comes twice, one is blank
SCORES = [0.25, 0.875, 0.5, 0.75]  # of the four that are sent
ORDER = [1, 5, 2, 0, 3, 4]
RETRIES, TRIES = 2, 3
PATIENCE = {"retries": RETRIES, "backoff": 0.001, "timeout": FOR_EVER, "api_key": KEY}
WAIT = 0.05  # seconds that a server asks for
BRIEFLY = 0.01  # seconds that may be waited where a server asks for nothing: the backoff, doubled

# Where each provider's answers have the list and a score, from their documents (shared/specs, methods-listwise-and-api.md, section 3.1) and not from
# the table that is tested
SHAPES = {
    "cohere": ("results", "relevance_score"),
    "jina": ("results", "relevance_score"),
    "voyage": ("data", "relevance_score"),
    "mixedbread.ai": ("data", "score"),
    "pinecone": ("data", "score"),
    "isaacus": ("results", "score"),
    "zeroentropy": ("results", "relevance_score"),
    "contextual": ("results", "relevance_score"),
    "together": ("results", "relevance_score"),
    "deepinfra": ("scores", None),
    "fireworks": ("data", "relevance_score"),
    "nvidia": ("rankings", "logit"),
    "siliconflow": ("results", "relevance_score"),
    "dashscope": ("output.results", "relevance_score"),  # the native service, for a model that no page names
    "scaleway": ("results", "relevance_score"),
    "azure": ("results", "relevance_score"),
    "vercel": ("results", "relevance_score"),
    "text-embeddings-inference": (None, "score"),
    "vllm": ("results", "relevance_score"),
    "sglang": (None, "score"),
    "infinity": ("results", "relevance_score"),
    "llama.cpp": ("results", "relevance_score"),
    "nim": ("rankings", "logit"),
    "elasticsearch": ("rerank", "relevance_score"),
    "opensearch": ("result.scores", "score"),
}
KEY_HEADERS = {"pinecone": ("api-key", KEY), "elasticsearch": ("authorization", f"ApiKey {KEY}")}


def test_every_provider_is_here():
    assert set(SHAPES) == set(PROVIDERS) and len(FIRST) == 11 and set(FAULTS) > BRIEF


# ---- what a server may do, and what has to come of it


PAIRS = tuple(enumerate(SCORES))


def around(name, found, **more):
    "A provider's answer with this where its list is"
    for key in reversed(SHAPES[name][0].split(".") if SHAPES[name][0] else []):
        found = {key: found}
    return {**found, **more} if SHAPES[name][0] else found


def answer(name, pairs=PAIRS, **more):
    "A provider's answer with these positions and scores, in this order"
    score = SHAPES[name][1]
    return around(name, [{"index": i, score: s, "object": "rank"} if score else s for i, s in pairs], id="r-1", **more)


def refusal(status, message="", **headers):
    return Say({"detail": {"error": f"{message} (key {KEY})"}}, status, {k.replace("_", "-"): v for k, v in headers.items()})


def changed(**pairs):
    "The good answer's pairs with some of them other ones: changed(_1=(1, None))"
    return [pairs.get(f"_{i}", (i, s)) for i, s in enumerate(SCORES)]


@dataclass(frozen=True)
class Fault:
    "A script and its end"

    script: Callable[[str], list[Any]]  # Of a provider's name: answers in turn, the last one again and again
    raised: type[Exception] | None = None  # None: there is a complete ranking
    status: int | None = None  # In the error
    says: str = ""  # The server's own words in it
    sent: int = 1  # Requests
    positions: bool = False  # Only where results name their documents
    wait: float = 0.0  # Seconds between the first and the second request, at least


def refused(status, raised, *, tries=1):
    return Fault(lambda name: [refusal(status, f"words of {status}")], raised, status, f"words of {status}", tries)


def passing(*first, wait=0.0):
    return Fault(lambda name: [*first, answer(name)], sent=len(first) + 1, wait=wait)


def broken(*says, positions=False, pairs):
    return Fault(lambda name: [answer(name, pairs)], UnusableAnswer, says=says[0] if says else "", positions=positions)


def other(body, says=""):
    return Fault(lambda name: [body], UnusableAnswer, says=says)


def cut(name, at):
    content = Say(answer(name)).content
    return content[: int(len(content) * at)]


HTML = Say(f"<html><style>p {{}}</style><h1>It works!</h1>{KEY}</html>", headers={"Content-Type": "text/html"})
FAULTS = {
    "good": Fault(lambda name: [answer(name)]),
    # statuses
    "400": refused(400, BadRequestError),
    "401": refused(401, AuthenticationError),
    "402": refused(402, RateLimitError),
    "403": refused(403, AuthenticationError),
    "404": refused(404, NotFoundError),
    "422": refused(422, BadRequestError),
    "424": refused(424, BadRequestError),
    "429 for ever": refused(429, RateLimitError, tries=TRIES),
    "500 for ever": refused(500, ServerError, tries=TRIES),
    "503 for ever": refused(503, ServerError, tries=TRIES),
    "504 for ever": refused(504, ProviderTimeoutError, tries=TRIES),
    "429 in a moment, then 200": passing(refusal(429, Retry_After=str(WAIT)), wait=WAIT),
    "429, then 200": passing(refusal(429)),
    "429 in an hour": Fault(lambda name: [refusal(429, "come back later", Retry_After="3600"), answer(name)], RateLimitError, 429, "come back later"),
    "500, then 200": passing(refusal(500)),
    "503 twice, then 200": passing(refusal(503), refusal(503)),
    "301": Fault(lambda name: [Say("", 301, {"Location": "/elsewhere"})], NotFoundError, 301, "/elsewhere"),
    # the line
    "hangs up": Fault(lambda name: [Say(cut=-1)], ServerError, sent=TRIES),
    "hangs up, then 200": passing(Say(cut=-1)),
    "ends in the middle": Fault(lambda name: [Say(answer(name), cut=20)], ServerError, sent=TRIES),
    "reset in the middle": Fault(lambda name: [Say(answer(name), cut=20, reset=True)], ServerError, sent=TRIES),
    "reset in the middle, then 200": Fault(lambda name: [Say(answer(name), cut=20, reset=True), answer(name)], sent=2),
    "no HTTP": Fault(lambda name: [Say(raw=b"220 mail.example.com ESMTP\r\n")], ServerError, sent=TRIES),
    # 200, but no answer
    "HTML": other(HTML, "It works!"),
    "nothing": other(Say("")),
    "half of a JSON": Fault(lambda name: [Say(cut(name, 0.5))], UnusableAnswer),
    "all but the end of a JSON": Fault(lambda name: [Say(cut(name, 0.98))], UnusableAnswer),
    "null": other(Say("null")),
    "an error with status 200": other({"error": {"message": f"upstream is down {KEY}"}}, "upstream is down"),
    "no list": Fault(lambda name: [{"found": answer(name)}], UnusableAnswer),
    "null for the list": Fault(lambda name: [around(name, None) or {"results": None}], UnusableAnswer),
    "an object for the list": Fault(lambda name: [around(name, {"0": 0.5})], UnusableAnswer),
    # a list, but no ranking
    "empty": broken("0 results for 4 documents", pairs=[]),
    "short": broken("3 results for 4 documents", pairs=changed()[:-1]),
    "long": broken(pairs=[*changed(), (4, 0.5)]),
    "twice": broken("document 1 has two results", positions=True, pairs=[*changed(), (1, 0.875)]),
    "one twice, one never": broken("document 1 has two results", positions=True, pairs=changed(_2=(1, 0.5))),
    "out of range": broken("document 4", positions=True, pairs=changed(_3=(4, 0.75))),
    "negative": broken("document -1", positions=True, pairs=changed(_3=(-1, 0.75))),
    "a boolean position": broken("document True", positions=True, pairs=changed(_1=(True, 0.875))),
    "a position in quotes": broken("document '1'", positions=True, pairs=changed(_1=("1", 0.875))),
    "no position": broken("document None", positions=True, pairs=changed(_1=(None, 0.875))),
    "NaN": broken("document 1 is nan", pairs=changed(_1=(1, float("nan")))),
    "infinite": broken("document 1 is inf", pairs=changed(_1=(1, float("inf")))),
    "too large a number": broken("document 1", pairs=changed(_1=(1, 10**400))),
    "null for a score": broken("document 1 is None", pairs=changed(_1=(1, None))),
    "a score in quotes": broken("document 1 is '0.875'", pairs=changed(_1=(1, "0.875"))),
    "true for a score": broken("document 1 is True", pairs=changed(_1=(1, True))),
    "the key for a score": broken("document 1", pairs=changed(_1=(1, KEY))),
    "results of nothing": Fault(lambda name: [around(name, [None] * 4)], UnusableAnswer),
    # all is well
    "unsorted": Fault(lambda name: [answer(name, [(2, 0.5), (0, 0.25), (3, 0.75), (1, 0.875)])], positions=True),
    "the best one last": Fault(lambda name: [answer(name, sorted(enumerate(SCORES), key=lambda pair: pair[1]))], positions=True),
    "whole numbers": Fault(lambda name: [answer(name, [(0, 0), (1, 3), (2, 1), (3, 2)])]),
    "unknown fields": Fault(lambda name: [answer(name, warnings=["old model"], meta=None, usage=None)]),
    "tokens that are none": Fault(lambda name: [answer(name, usage={"total_tokens": "many"}, input_tokens=-1, total_tokens=None, meta={"billed_units": [1]})]),
    "too many tokens": Fault(
        lambda name: [answer(name, usage={"total_tokens": 10**400, "rerank_units": 10**400}, input_tokens=10**400, total_tokens=float("inf"))]
    ),
}
# The first provider of each shape gets all of it; for the others, whose answers are read in the same way, a part shows that the row says so
FIRST = {shape: name for name, shape in reversed({n: (*s, KEY_HEADERS.get(n)) for n, s in SHAPES.items()}.items())}.values()
BRIEF = {
    "good",
    "400",
    "401",
    "429 in a moment, then 200",
    "500 for ever",
    "reset in the middle, then 200",
    "no list",
    "short",
    "twice",
    "null for a score",
    "unsorted",
    "whole numbers",
}
CASES = [
    (name, fault) for name, (_, score) in SHAPES.items() for fault in FAULTS if (name in FIRST or fault in BRIEF) and (score or not FAULTS[fault].positions)
]


# ---- one server for all; a query says which script it follows

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server():
    scripts, came = {}, {}

    def script(seen):
        case = int(re.search(rb"case-(\d+)-", seen.body)[1])
        came[case].append(seen)
        return scripts[case][min(len(came[case]), len(scripts[case])) - 1]

    def begin(answers):
        "A query for these answers, and the requests that will have come for it"
        case = next(NUMBERS)
        scripts[case], came[case] = answers, []
        return f"which? case-{case}-", came[case]

    with Scripted(script) as scripted:
        root = scripted.url.removesuffix("/v1")
        made = cache(lambda name, **more: Reranker("m-1", model_type=name, base_url=root, **PATIENCE | more))
        yield Some(begin=begin, ranker=made, url=root, scripted=scripted)


def rank(ranker, how, query):
    return ranker.rank(query, DOCS) if how == "sync" else asyncio.run(ranker.rank_async(query, DOCS))


def assert_whole(results, sent):
    "Every document once, in the right order"
    assert [r.doc_id for r in results] == ORDER and [r.document.content for r in results] == [DOCS[i] for i in ORDER]
    assert results.usage.calls == 1 and results.usage.retries == sent - 1
    scores = [r.score for r in results]
    assert scores == sorted(scores, reverse=True) and scores[3] == scores[4] >= scores[5]


def assert_patient(caplog, fault):
    "It waits before each further attempt, as long as the server asks for or a moment; as the log has it, since what a busy machine adds is no waiting"
    pauses = [record.args[1] for record in caplog.records if record.msg == "%s; again in %.1f s"]
    assert len(pauses) == fault.sent - 1 and all(fault.wait <= pause <= fault.wait + BRIEFLY for pause in pauses)


def assert_says(problem, fault, name):
    "Who, which model, which status and why; never the key"
    assert type(problem) is fault.raised
    assert name in str(problem) and "m-1" in str(problem) and fault.says in str(problem)
    if fault.status:
        assert problem.status == fault.status and str(fault.status) in str(problem)
    assert len(str(problem)) < 1000
    assert_unseen(*texts_of(problem))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("name, fault", CASES)
def test_whatever_the_server_does(server, name, fault, how, caplog):
    caplog.set_level(logging.DEBUG, logger="rerankers")
    fault, ranker = FAULTS[fault], server.ranker(name)
    query, came = server.begin(fault.script(name))
    if fault.raised is None:
        assert_whole(rank(ranker, how, query), fault.sent)
    else:
        with pytest.raises(fault.raised) as caught:
            rank(ranker, how, query)
        assert_says(caught.value, fault, name)
    assert len(came) == fault.sent
    assert_patient(caplog, fault)
    assert_unseen(caplog.text, *(repr(r.args) for r in caplog.records), repr(ranker), repr(ranker.server), repr(vars(ranker)), repr(vars(ranker.server)))
    header, value = KEY_HEADERS.get(name, ("authorization", f"Bearer {KEY}"))
    assert all((seen.headers[header], seen.body) == (value, came[0].body) for seen in came), "each attempt is the whole request"
    assert came[0].body.count(b"passage 0") == 1 and KEY.encode() not in came[0].body
    if fault.wait:
        assert came[1].begun - came[0].begun >= fault.wait


# ---- what takes long is tried with all providers at once, by a clock that the test moves on

SLOW = {
    "silence": (lambda name: [Say(delay=float("inf"))], TRIES, TRIES, ProviderTimeoutError),
    "one byte at a time": (lambda name: [Say(answer(name), drip=0.05)], TRIES, TRIES, ProviderTimeoutError),
    "silence, then 200": (lambda name: [Say(delay=float("inf")), answer(name)], 1, 2, None),
}


def outcome(ranker, query):
    "Results or an error"
    try:
        return ranker.rank(query, DOCS)
    except ProviderError as problem:
        return problem


async def outcomes(rankers, queries):
    return await asyncio.gather(*(r.rank_async(q, DOCS) for r, q in zip(rankers, queries)), return_exceptions=True)


def patience_ends(came, attempt):
    "All have asked and none is answered: nobody gives up before the time is over, though bytes may come, and then everybody does"
    assert becomes(lambda: all(len(requests) == attempt for requests in came))
    for part in (0.6, 0.3):
        leap(part * FOR_EVER)
        before = [requests[-1].sent for requests in came]
        dripping = [i for i, n in enumerate(before) if n]
        assert becomes(lambda before=before, dripping=dripping: all(came[i][-1].sent > before[i] for i in dripping)), "they hung up too early"
        leap(0)     # what was sent is read
        assert all(len(requests) == attempt for requests in came), "they asked again too early"
    leap(0.2 * FOR_EVER)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("slow", SLOW)
def test_a_server_that_never_ends(server, slow, how):
    script, silent, sent, raised = SLOW[slow]
    rankers = [server.ranker(name) for name in SHAPES]
    queries, came = zip(*(server.begin(script(name)) for name in SHAPES))
    with ThreadPoolExecutor(len(rankers)) as pool:
        if how == "async":
            asked = pool.submit(asyncio.run, outcomes(rankers, queries))
        else:
            asked = [pool.submit(outcome, ranker, query) for ranker, query in zip(rankers, queries)]
        for attempt in range(1, silent + 1):
            patience_ends(came, attempt)
        found = asked.result() if how == "async" else [one.result() for one in asked]
    for name, end, requests in zip(SHAPES, found, came):
        assert len(requests) == sent
        if raised:
            assert_says(end, Fault(script, raised, says=f"within {FOR_EVER:g} s"), name)
        else:
            assert_whole(end, sent)
    assert server.scripted.wait(lambda: server.scripted.under_way == 0), "an attempt that was given up is still under way"


def test_nobody_there():
    with Scripted([{}]) as gone:
        url = gone.url
    for name in FIRST:
        with pytest.raises(ServerError, match="cannot connect") as caught:
            Reranker("m-1", model_type=name, base_url=url, **PATIENCE).rank("which?", DOCS)
        assert_says(caught.value, Fault(list, ServerError), name)


def test_nothing_is_left_waiting(server):
    "After all of it: no task in the loop, and no more connections than rankers"
    ours = lambda: [t for t in asyncio.all_tasks(BACKGROUND.running()) if "litellm" not in t.get_coro().cr_code.co_filename]
    assert becomes(lambda: not ours()) and server.scripted.connections <= 2 * len(SHAPES)


# ---- chunks: one of several requests goes wrong

MANY = [f"passage {i}" for i in range(40)]


def numbered(name, seen):
    "Scores are the documents' numbers"
    where, score = SHAPES[name]
    numbers = [int(n) for n in re.findall(rb"passage (\d+)", seen.body)]
    return answer(name, [(i, n / 40) for i, n in enumerate(numbers)])


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("name", ["cohere", "deepinfra", "nvidia", "pinecone", "text-embeddings-inference"])
def test_one_chunk_fails_and_is_sent_again(name, how):
    failed = []

    def script(seen):
        if b"passage 25" in seen.body and len(failed) < 2:
            return failed.append(seen) or [refusal(429), refusal(500)][len(failed) - 1]
        return numbered(name, seen)

    with Scripted(script) as server:
        ranker = Reranker("m-1", model_type=name, base_url=server.url.removesuffix("/v1"), chunk_size=10, **PATIENCE)
        results = ranker.rank("which?", MANY) if how == "sync" else asyncio.run(ranker.rank_async("which?", MANY))
        assert [r.doc_id for r in results] == list(range(39, -1, -1)) and len(server.seen) == 6
        assert results.usage.calls == 4 and results.usage.retries == 2


@pytest.mark.parametrize("name", ["cohere", "deepinfra", "nvidia", "pinecone", "text-embeddings-inference"])
def test_one_chunk_is_broken_and_no_document_gets_lost(name):
    "A short answer to one of four requests is an error, not thirty-nine documents"
    where, score = SHAPES[name]

    def script(seen):
        found = numbered(name, seen)
        if b"passage 25" in seen.body:
            (found[where] if where else found).pop()
        return found

    with Scripted(script) as server:
        ranker = Reranker("m-1", model_type=name, base_url=server.url.removesuffix("/v1"), chunk_size=10, **PATIENCE)
        with pytest.raises(UnusableAnswer, match="9 results for 10 documents"):
            ranker.rank("which?", MANY)
        assert server.wait(lambda: server.under_way == 0)
        assert len({seen.body for seen in server.seen}) == len(server.seen) <= 4, "nothing is asked twice, and what had not left yet stays"


# ---- through litellm: its providers, our patience and our checks

LITELLM = {
    "cohere": ("cohere/m-1", ""),
    "together": ("together_ai/m-1", "/v1"),
    "deepinfra": ("deepinfra/m-1", "/v1"),
    "vllm": ("hosted_vllm/m-1", ""),
    "jina": ("jina_ai/m-1", ""),
    "text-embeddings-inference": ("huggingface/m-1", ""),
}
# litellm reads answers before we do: what it cannot read is its "internal server error", which passes; some of what it can it makes good (a position
# in quotes), and of what is left it tells us less, so that only the kind of error is held
READ_BY_LITELLM = {
    "301",
    "a position in quotes",
    "a boolean position",
    "a score in quotes",
    "true for a score",
    "no list",
    "results of nothing",
    "unknown fields",
    "tokens that are none",
    "too many tokens",
    "an error with status 200",
    "an object for the list",
    "null for the list",
    "null",
    "empty",
}
# and of these it leaves the header out in which the server says how long to wait, so that we come back too soon
UNHEARD = {("cohere", "429 in an hour"), ("text-embeddings-inference", "429 in an hour")}
THROUGH = [(name, fault) for name, fault in CASES if name in LITELLM and fault not in READ_BY_LITELLM and (name, fault) not in UNHEARD]


@pytest.mark.parametrize("name, fault", THROUGH)
def test_whatever_the_server_does_through_litellm(server, name, fault, caplog, capsys):
    need_litellm()
    caplog.set_level(logging.DEBUG, logger="rerankers")
    fault, (model, tail) = FAULTS[fault], LITELLM[name]
    query, came = server.begin(fault.script(name))
    ranker = Reranker(model, model_type="litellm", base_url=server.url + tail, **PATIENCE)
    if fault.raised is None:
        assert_whole(rank(ranker, "sync", query), fault.sent)
    else:
        with pytest.raises((fault.raised, ServerError) if fault.raised is UnusableAnswer else fault.raised) as caught:
            rank(ranker, "async", query)
        assert "litellm" in str(caught.value) and model in str(caught.value)
        assert_unseen(*texts_of(caught.value))
    assert len(came) in {fault.sent, TRIES if fault.raised is UnusableAnswer else fault.sent}
    assert_unseen(caplog.text, repr(ranker), repr(vars(ranker)))
    assert capsys.readouterr().out == ""
