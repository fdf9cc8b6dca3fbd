"An answer of any length, packed in any way: what is read of it is bounded, by bytes and not by the timeout"
import asyncio
import gzip
import json
import tracemalloc
import zlib
from functools import cache

import pytest

pytest.importorskip("httpx")
from servers import Say, Scripted, chat

from rerankers import InputError, Reranker, UnusableAnswer
from rerankers.web.http import LARGEST_REFUSAL, WebOptions
from rerankers.errors import BadRequestError, ServerError

DOCS = ["Goethe wrote Faust.", "Shakespeare wrote Hamlet."]
MOST = 100_000
SOCKETS = 2**24     # bytes that the system may hold between two ends of a connection
RANKING = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
KINDS = ["ranker", "chat"]


def make(kind, server, **options):
    "A ranker of either kind that asks this server; it would wait for an hour"
    options = {"api_key": "sk-12345678", "timeout": 3600, "retries": 3, "backoff": 0.001, "largest_answer": MOST} | options
    if kind == "ranker": return Reranker("m-1", model_type="cohere", base_url=server.url, **options)
    return Reranker("m-1", model_type="rankgpt", base_url=server.url, **options)


def good(kind, filled=0):
    "A sound answer with so many bytes in it that nobody reads"
    return json.dumps({**(RANKING if kind == "ranker" else chat("[2] > [1]")), "id": "0" * filled}).encode()


def raw_deflate(content):
    "Without the two bytes at the beginning, as some servers send it"
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def twice(content): return gzip.compress(gzip.compress(content))


def mixed(content): return zlib.compress(gzip.compress(content))


PACKED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress, "deflate, raw": raw_deflate,
          "gzip, deflate": mixed, "gzip, gzip": twice, "identity": bytes}


def packed(way, content, status=200, **more):
    return Say(PACKED[way](content), status, {"Content-Type": "application/json", "Content-Encoding": way.removesuffix(", raw")}, **more)


def ranked(ranker, how):
    return ranker.rank("who wrote Hamlet?", DOCS) if how == "sync" else asyncio.run(ranker.rank_async("who wrote Hamlet?", DOCS))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_without_an_end_ends_at_the_bound(kind, how):
    with Scripted([Say(b"0" * 10_000, forever=True)]) as server:
        with pytest.raises(UnusableAnswer, match=r"answers with more than 100,000 bytes; largest_answer= allows more"): ranked(make(kind, server), how)
        assert server.wait(lambda: server.under_way == 0), "the connection is still open"
        assert len(server.seen) == 1 and server.sent < MOST + SOCKETS, "and nothing is asked again"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_page_without_an_end_is_the_error_that_it_is(kind):
    with Scripted([Say(b"<p>down for repairs</p>" + b" " * 10_000, status=503, forever=True)]) as server:
        with pytest.raises(ServerError, match="answered 503: down for repairs"): make(kind, server, retries=1, largest_answer=2**30).rank("which?", DOCS)
        assert server.wait(lambda: server.under_way == 0) and len(server.seen) == 2 and server.sent < 2 * (LARGEST_REFUSAL + SOCKETS)


@pytest.mark.parametrize("way", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_what_unpacks_to_more_is_given_up_and_what_fits_is_read(kind, way):
    with Scripted([packed(way, good(kind, MOST)), packed(way, good(kind, MOST // 2))]) as server:
        ranker = make(kind, server)
        with pytest.raises(UnusableAnswer, match="more than 100,000 bytes"): ranker.rank("which?", DOCS)
        assert ranker.rank("which?", DOCS)[0].doc_id == 1
        assert {seen.headers["accept-encoding"] for seen in server.seen} == {"gzip, deflate"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_sharp(kind):
    for way in ("identity", "gzip"):
        content = good(kind, 1000)
        with Scripted([packed(way, content)]) as server:
            assert make(kind, server, largest_answer=len(content)).rank("which?", DOCS)[0].doc_id == 1
            with pytest.raises(UnusableAnswer, match="largest_answer="): make(kind, server, largest_answer=len(content) - 1).rank("which?", DOCS)


@cache
def bomb(way, status):
    return packed(way, b"0" * 2**26, status)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("way", ["gzip", "deflate", "gzip, gzip"])
def test_memory_stays_with_the_bound(way, status):
    "A small page that unpacks to sixty-four megabytes"
    with Scripted([bomb(way, status)]) as server:
        ranker = make("ranker", server, retries=0, largest_answer=2**20)
        tracemalloc.start()
        try:
            with pytest.raises((UnusableAnswer, BadRequestError, ServerError)): ranker.rank("which?", DOCS)
            assert tracemalloc.get_traced_memory()[1] < 2**25
        finally: tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_error_page_is_read_as_far_as_the_bound_goes(kind):
    with Scripted([packed("gzip", b"<p>no such team</p>" + b" " * 2**22, 400)]) as server:
        with pytest.raises(BadRequestError, match="answered 400: no such team"): make(kind, server).rank("which?", DOCS)


@pytest.mark.parametrize("way", ["br", "zstd", "gzip, br", "compress", ", ".join(["gzip"] * 4), "x" * 500])
@pytest.mark.parametrize("kind", KINDS)
def test_a_packing_that_nobody_asked_for_is_named(kind, way):
    with Scripted([Say(good(kind), headers={"Content-Encoding": way})]) as server:
        with pytest.raises(UnusableAnswer, match="packed as .* and gzip, deflate was asked for") as error: make(kind, server).rank("which?", DOCS)
        assert len(server.seen) == 1 and len(str(error.value)) < 300
    with Scripted([Say(b"no", 400, {"Content-Encoding": way})]) as server:
        with pytest.raises(BadRequestError, match="answered 400 without a word"): make(kind, server).rank("which?", DOCS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_packed_as_it_says_is_a_broken_line(kind):
    with Scripted([Say(b"plain" * 100, headers={"Content-Encoding": "gzip"}), good(kind)]) as server:
        assert make(kind, server).rank("which?", DOCS)[0].doc_id == 1 and len(server.seen) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_body_in_small_pieces_is_read_the_same(size):
    import httpx

    class Pieces(httpx.AsyncByteStream):
        def __init__(self, content): self.content = content

        async def __aiter__(self):
            for i in range(0, len(self.content), size): yield self.content[i:i + size]

    for way in PACKED:
        content = PACKED[way](good("ranker"))
        served = httpx.MockTransport(lambda request: httpx.Response(200, stream=Pieces(content), headers={"Content-Encoding": way.removesuffix(", raw")}))  # noqa: B023
        found = Reranker("cohere", api_key="k", transport=served).rank("which?", DOCS)
        assert found[0].doc_id == 1, way


def test_a_kept_window_says_that_its_answer_was_too_long():
    with Scripted([Say(b"0" * 10_000, forever=True)]) as server:
        for kind in KINDS:
            results = make(kind, server, on_error="keep").rank("which?", DOCS)
            assert ([r.doc_id for r in results], results.faults) == ([0, 1], {"failed": 1})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "64", None, float("inf"), float("nan")])
def test_a_bound_is_a_whole_number(value):
    with pytest.raises(InputError, match="largest_answer="): WebOptions(largest_answer=value)
    for word, options in {"cohere": {"api_key": "k"}, "rankgpt": {"base_url": "http://127.0.0.1:9/v1"}}.items():
        if value is not None:
            with pytest.raises(InputError, match="largest_answer="): Reranker(word, largest_answer=value, **options)


def test_litellm_reads_by_itself_and_says_so():
    from rerankers.errors import installed
    if not installed("litellm"): pytest.skip("litellm is not installed")
    with pytest.raises(InputError, match="litellm asks for the answers and has no use for largest_answer="):
        Reranker("openai/gpt-4o", api_key="k", largest_answer=10)
