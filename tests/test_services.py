"Services and the lines to them: one table of keys, how many results are wanted, too much for one request, proxies, certificates, what passes"
import asyncio
import json
import logging
import math
import shutil
import ssl
import subprocess
import warnings

import pytest

httpx = pytest.importorskip("httpx")
from hypothesis import given
from hypothesis import strategies as st
from servers import Say, Scripted, chat, need_litellm

from rerankers import InputError, Reranker, UnusableAnswer
from rerankers.backends.api import PROVIDERS, too_much
from rerankers.web.http import WebOptions, error_in_200, status_error, worth_it
from rerankers.web.lines import checked_address, excepts, is_loopback, new_line, proxy_for
from rerankers.web.services import SERVICES, find_key
from rerankers.errors import (AuthenticationError, BadRequestError, CertificateError, MissingDependency, NotFoundError, ProviderError, RateLimitError,
                              ServerError)
from rerankers.llm.openai import ENDPOINTS

QUERY, DOCS = "which number?", [f"number {i}" for i in range(25)]
KINDS = ["ranker", "chat"]


@pytest.fixture(autouse=True, scope="module")
def bare_environment():
    "No keys, proxies or certificates of this machine"
    keys = {n for row in SERVICES.values() for n in (*row.keys, *row.key_files, row.base_variable) if n}
    proxies = [variable for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for variable in (name, name.upper())]
    with pytest.MonkeyPatch.context() as patch:
        for name in (*keys, *proxies, "SSL_CERT_FILE", "SSL_CERT_DIR"): patch.delenv(name, raising=False)
        yield


def make(kind, url, **options):
    options = {"api_key": "sk-12345678", "backoff": 0.001, "timeout": 60} | options
    if kind == "ranker": return Reranker("m-1", model_type="cohere", base_url=url.removesuffix("/v1"), **options)
    return Reranker("m-1", model_type="rankgpt", base_url=url, **options)


def good(kind): return {"results": [{"index": i, "relevance_score": (i + 1) / 2} for i in range(2)]} if kind == "ranker" else chat("[2] > [1]")


# ---- one table

BOTH = sorted(PROVIDERS.keys() & ENDPOINTS.keys())


def test_who_ranks_and_chats(): assert {"azure", "deepinfra", "fireworks", "llama.cpp", "sglang", "together", "vllm"} <= set(BOTH)


@pytest.mark.parametrize("name", SERVICES)
def test_every_row_is_built_on_its_service(name):
    service, rows = SERVICES[name], [table[name] for table in (PROVIDERS, ENDPOINTS) if name in table]
    assert rows
    for row in rows:
        assert (row.keys, row.key_files, row.domains, row.elsewhere, row.base_variable) == (service.keys, service.key_files, service.domains,
                                                                                          service.elsewhere, service.base_variable)
        assert row.base_url.startswith(service.base_url)


@pytest.mark.parametrize("name", BOTH)
@given(data=st.data())
def test_the_same_environment_holds_the_same_key_for_both(name, data):
    "Whichever variables are set, at whatever address"
    row = SERVICES[name]
    held = {variable: data.draw(st.sampled_from(["", " ", f"key-of-{variable}"])) for variable in row.keys}
    hosts = [None, "https://mine.services.ai.azure.com", "https://mine.openai.azure.com", "http://127.0.0.1:9/v1"]
    if row.base_url: hosts.append(row.base_url + "/v1")
    address = data.draw(st.sampled_from(hosts))
    with pytest.MonkeyPatch.context() as patch:
        for variable, text in held.items(): patch.setenv(variable, text)
        found = []
        for table in (PROVIDERS, ENDPOINTS):
            try: found.append(find_key(table[name], None, address))
            except AuthenticationError: found.append("missing")
    assert found[0] == found[1]
    if any(text.strip() for text in held.values()) and address is None: assert found[0] in held.values()


def addresses(row):
    "Of a service, as a caller may name them: its own, one below it, one in each further domain"
    own = [a for a in (row.base_url, *(base for _, base in row.elsewhere)) if a]
    return [*own, *(a.replace("https://", "https://eu.") for a in own), *(f"https://api.{domain}" for domain in row.domains)]


@pytest.mark.parametrize("name", [name for name, row in SERVICES.items() if row.keys])
def test_a_chat_at_an_address_of_the_service_has_its_key(name, monkeypatch):
    "Whether or not the service is in the table of those that chat"
    row = SERVICES[name]
    monkeypatch.setenv(row.keys[0], "key-12345678")
    def held(address): return Reranker("m", model_type="rankgpt", base_url=address + "/v1").client.server.key.value
    assert {address: held(address) for address in addresses(row)} == dict.fromkeys(addresses(row), "key-12345678")
    others = ["https://example.org",
              *(a + ".example.org" for a in addresses(row)), *(a.replace("https://", "https://not-") for a in addresses(row)[:1] if row.base_url)]
    assert {address: held(address) for address in others} == dict.fromkeys(others, "")


@pytest.mark.parametrize("host, variable", [("integrate.api.nvidia.com", "NVIDIA_API_KEY"), ("dashscope-intl.aliyuncs.com", "DASHSCOPE_API_KEY"),
                                            ("api.siliconflow.com", "SILICONFLOW_API_KEY"), ("api.cohere.ai", "CO_API_KEY"),
                                            ("eu.api.openai.com", "OPENAI_API_KEY")])
def test_hosts_that_only_chat(host, variable, monkeypatch):
    monkeypatch.setenv(variable, "key-12345678")
    server = Reranker("m", model_type="rankgpt", base_url=f"https://{host}/v1").client.server
    assert server.key.value == "key-12345678"
    assert Reranker("m", model_type="rankgpt", base_url="https://us-central1-aiplatform.googleapis.com/v1").client.server.key.value == ""


@pytest.mark.parametrize("variable", SERVICES["fireworks"].keys)
def test_either_variable_of_fireworks_serves_both(variable, monkeypatch):
    monkeypatch.setenv(variable, "fw-12345678")
    assert Reranker("fireworks").server.key.value == Reranker("m", model_type="rankgpt", client="fireworks").client.server.key.value == "fw-12345678"


def test_togethers_host_is_one(monkeypatch):
    hosts = {httpx.URL(row.base_url).host for row in (PROVIDERS["together"], ENDPOINTS["together"])}
    monkeypatch.setenv("TOGETHER_API_KEY", "tg-12345678")
    old = Reranker("m", model_type="rankgpt", base_url="https://api.together.xyz/v1").client
    assert hosts == {"api.together.ai"} and (old.listed, old.server.key.value) == (5, "tg-12345678")


# ---- each server's own answer, read by its own row

RAW = {
    "text-embeddings-inference": [{"index": 1, "score": 0.99}, {"index": 0, "score": 0.01}],
    "sglang": [{"score": 0.99, "document": "b", "index": 1, "meta_info": None}, {"score": 0.01, "document": None, "index": 0}],
    "vllm": {"id": "rerank-1", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9},
             "results": [{"index": 1, "document": {"text": "b", "multi_modal": None}, "relevance_score": 0.99},
                         {"index": 0, "document": {"text": "a"}, "relevance_score": 0.01}]},
    "infinity": {"object": "rerank", "id": "1", "model": "m", "created": 1, "usage": {"prompt_tokens": 9, "total_tokens": 9},
                 "results": [{"relevance_score": 0.99, "index": 1, "document": "b"}, {"relevance_score": 0.01, "index": 0, "document": None}]},
}
PATHS = {"text-embeddings-inference": "/rerank", "sglang": "/v1/rerank", "vllm": "/v1/rerank", "infinity": "/rerank"}


@pytest.mark.parametrize("name", RAW)
def test_a_server_of_ones_own_is_read_by_its_row(name):
    with Scripted([RAW[name]]) as server:
        found = Reranker("m", model_type=name, base_url=server.url.removesuffix("/v1"), instruction=None).rank("which?", ["a", "b"])
        assert ([r.doc_id for r in found], [r.score for r in found], server.seen[0].path) == ([1, 0], [0.99, 0.01], PATHS[name])


# ---- how many results

COUNTS = {"top_n": "cohere jina pinecone isaacus zeroentropy contextual together fireworks siliconflow dashscope scaleway azure vercel vllm sglang "
                   "infinity llama.cpp",
          "top_k": "voyage mixedbread.ai",
          "": "deepinfra nvidia nim text-embeddings-inference elasticsearch opensearch"}    # by their documents, not by the table
NAMES = {name: field for field, names in COUNTS.items() for name in names.split()}


def counted(body): return body.get("parameters", body) | {k: v for k, v in body.items() if k != "parameters"}


def serving(name, most=math.inf):
    "A server of this row that gives as many results as it is asked for, ten where nobody says, and none above a bound of its own"
    row = PROVIDERS[name].for_model("m-1")

    def answer(request):
        body = json.loads(request.content)
        asked.append(body)
        flat = counted(body)
        where = body.get("input", body) if isinstance(body.get("input", body), dict) else body
        texts = next(where[field] for field in ("documents", "docs", "texts", "passages", "input") if field in where)
        scores = [float(str(t["text"] if isinstance(t, dict) else t).split()[-1]) for t in texts]
        if not row.index: return httpx.Response(200, json={row.results: scores})
        best = sorted(enumerate(scores), key=lambda pair: -pair[1])
        if NAMES[name]: best = best[:min(flat.get(NAMES[name], 10), most)]
        found = [{row.index: i, row.score: score} for i, score in best]
        for part in reversed(row.results.split(".") if row.results else []): found = {part: found}
        return httpx.Response(200, json=found)

    asked = []
    return httpx.MockTransport(answer), asked


def test_every_provider_is_here(): assert NAMES.keys() == PROVIDERS.keys()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_results_goes_along_under_its_own_name(name, how):
    transport, asked = serving(name)
    ranker = Reranker("m-1", model_type=name, api_key="k", transport=transport, base_url=None if PROVIDERS[name].base_url else "https://mine.services.ai.azure.com")
    for top_k, wanted in ((None, 25), (3, 3), (100, 25)):
        asked.clear()
        results = ranker.rank(QUERY, DOCS, top_k=top_k) if how == "sync" else asyncio.run(ranker.rank_async(QUERY, DOCS, top_k=top_k))
        assert [r.doc_id for r in results] == list(range(24, 24 - wanted, -1)) and [r.score for r in results] == [float(r.doc_id) for r in results]
        sent = [counted(body) for body in asked]
        assert [{f: body[f] for f in ("top_n", "top_k") if f in body} for body in sent] == [{NAMES[name]: wanted} if NAMES[name] else {}] * len(asked)


@given(values=st.lists(st.integers(0, 30), min_size=1, max_size=40), top_k=st.integers(1, 50), chunk=st.integers(1, 9), blanks=st.sets(st.integers(0, 39)))
def test_the_best_of_some_requests_are_the_best_of_all(values, top_k, chunk, blanks):
    "Whatever is cut off, repeated or blank"
    docs = [" " if i in blanks else f"number {value}" for i, value in enumerate(values)]
    transport, asked = serving("cohere")
    options = {"api_key": "k", "transport": transport, "chunk_size": chunk}
    best, everything = (Reranker("cohere", **options).rank(QUERY, docs, top_k=k) for k in (top_k, None))
    assert [(r.doc_id, r.score) for r in best] == [(r.doc_id, r.score) for r in everything][:top_k]


def test_a_server_that_gives_ten_at_the_most_is_an_error_with_a_remedy_that_works():
    transport, _ = serving("cohere", most=10)
    with pytest.raises(UnusableAnswer, match="10 results for 25 documents; .*chunk_size=10"):
        Reranker("cohere", api_key="k", transport=transport).rank(QUERY, DOCS)
    assert [r.doc_id for r in Reranker("cohere", api_key="k", transport=transport, chunk_size=10).rank(QUERY, DOCS)] == list(range(24, -1, -1))
    with pytest.raises(UnusableAnswer, match="10 results for 25 documents, 20 of them asked for"):
        Reranker("cohere", api_key="k", transport=transport).rank(QUERY, DOCS, top_k=20)


def test_litellm_is_told_as_well():
    need_litellm()

    def answer(seen): return {"results": [{"index": i, "relevance_score": float(i)} for i in range(len(seen.json["documents"]))][-seen.json["top_n"]:]}
    with Scripted(answer) as server:
        ranker = Reranker("litellm/cohere/m-1", base_url=server.url.removesuffix("/v1"), api_key="k", timeout=60)
        assert [r.doc_id for r in ranker.rank(QUERY, DOCS, top_k=2)] == [24, 23] and len(ranker.rank(QUERY, DOCS)) == 25
        assert [body["top_n"] for body in server.bodies] == [2, 25]


# ---- too much for one request

REFUSED = [(413, ""), (413, "<html>413 Request Entity Too Large</html>"), (400, '{"message": "too many documents, the limit is 4"}'),
           (422, '{"error": "batch size 25 > maximum allowed batch size 4", "error_type": "Validation"}'),
           (422, '{"detail": [{"loc": ["body", "documents"], "msg": "List should have at most 4 items, not 25"}]}'),
           (400, '{"detail": "The max allowed tokens per submitted batch is 120000. Your batch has 500000 tokens"}'),
           (200, '{"error": {"code": 413, "message": "payload"}}'),
           (400, '{"message": "Number of documents should be less than 10"}'), (400, '{"message": "documents length must be in range [1, 10]"}'),
           (422, '{"message": "documents: must contain between 1 and 10 items"}'),
           (424, '{"message": "batch too large"}'), (507, '{"message": "input too large"}'),
           (503, '{"message": "batch size too large"}')]


def narrow(most, status, said, times=math.inf):
    "A server that takes so many documents at once"
    sizes = []

    def answer(request):
        texts = json.loads(request.content)["documents"]
        sizes.append(len(texts))
        if len(texts) > most: return httpx.Response(status, text=said)
        results = [{"index": i, "relevance_score": float(t.split()[-1])} for i, t in enumerate(texts)]
        return httpx.Response(200, json={"results": results, "meta": {"billed_units": {"search_units": 1}}})
    return httpx.MockTransport(answer), sizes


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(("status", "said"), REFUSED)
def test_what_is_too_much_is_asked_in_halves(status, said, how):
    transport, sizes = narrow(4, status, said)
    ranker = Reranker("cohere", api_key="k", transport=transport)
    results = ranker.rank(QUERY, DOCS) if how == "sync" else asyncio.run(ranker.rank_async(QUERY, DOCS))
    assert [r.doc_id for r in results] == list(range(24, -1, -1)) and results.has_scores and not results.faults
    served = [size for size in sizes if size <= 4]
    assert sum(served) == 25 and results.usage.calls == results.usage.units == len(served) and results.usage.retries == len(sizes) - len(served) < len(served)


@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_a_document_that_is_too_large_by_itself_costs_few_requests(n):
    transport, sizes = narrow(0, 413, "payload too large")
    with pytest.raises(BadRequestError, match="payload too large") as error:
        Reranker("cohere", api_key="k", transport=transport).rank(QUERY, [f"number {i}" for i in range(n)])
    assert error.value.status == 413 and len(sizes) <= math.ceil(math.log2(n)) + 1


OTHERS = [(400, "no such model"), (422, "documents: field required"), (401, "too many documents"), (404, "too large a text"), (429, "too many tokens")]


@pytest.mark.parametrize(("status", "said"), OTHERS)
def test_other_refusals_are_not_halved(status, said):
    transport, sizes = narrow(0, status, json.dumps({"message": said}))
    with pytest.raises(ProviderError): Reranker("cohere", api_key="k", transport=transport, retries=0).rank(QUERY, DOCS)
    assert sizes == [25] and not too_much(BadRequestError("x", status=400))


@pytest.mark.parametrize("how", ["sync", "async"])
def test_halves_of_a_model_that_reads_documents_together_are_warned_of_where_the_caller_stands(how):
    transport, _ = narrow(4, 413, "")
    ranker = Reranker("jina", api_key="k", transport=transport)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if how == "sync": ranker.rank(QUERY, DOCS)
        else:
            async def here(): return await ranker.rank_async(QUERY, DOCS)
            asyncio.run(here())
    assert [(w.filename, "roughly comparable" in str(w.message)) for w in said] == [(__file__, True)]


def test_litellms_refusals_are_halved_too():
    need_litellm()

    def answer(seen):
        texts = seen.json["documents"]
        if len(texts) > 10: return Say({"message": "too many documents, the limit is 10"}, 413)
        return {"results": [{"index": i, "relevance_score": float(t.split()[-1])} for i, t in enumerate(texts)]}
    with Scripted(answer) as server:
        results = Reranker("litellm/cohere/m-1", base_url=server.url.removesuffix("/v1"), api_key="k", timeout=60).rank(QUERY, DOCS)
        assert [r.doc_id for r in results] == list(range(24, -1, -1)) and results.usage.calls == 4


# ---- what passes

PASSES = [408, 409, 425, 429, 500, 502, 503, 504, 507, 521, 529]
STAYS = [300, 301, 308, 400, 401, 402, 403, 404, 405, 406, 407, 410, 413, 418, 422, 424, 451, 501, 505]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "passes"), [*((s, True) for s in PASSES), *((s, False) for s in STAYS if s != 413)])     # see halves
def test_which_statuses_are_tried_again(kind, status, passes):
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(status, json={"message": "no"}) if len(seen) == 1 else httpx.Response(200, json=good(kind))
    ranker = make(kind, "http://h", transport=httpx.MockTransport(answer))
    if passes: assert ranker.rank("which?", ["a", "b"])[0].doc_id == 1 and len(seen) == 2
    else:
        with pytest.raises(ProviderError): ranker.rank("which?", ["a", "b"])
        assert len(seen) == 1


LONG = ["input is too large to process. increase the physical batch size", "input (1030 tokens) is too large to process (current batch size: 512)",
        "the input length exceeds the context length", "input is larger than the max context size. skipped",
        "the request exceeds the available context size", "Context size has been exceeded.", "The prompt is too long"]
SHORT = ["context deadline exceeded", "the queue is too long", "too many requests", "rate limit exceeded", "CUDA out of memory", "",
         "request timed out, it took too long", "the request exceeds your rate limit", "input timeout exceeded"]


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("said", "raised"), [*((s, BadRequestError) for s in LONG), *((s, ServerError) for s in SHORT[:4])])
def test_an_input_that_is_too_long_is_no_passing_fault(kind, said, raised, status):
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(status, json={"error": {"code": 500, "message": said, "type": "server_error"}})
    ranker = make(kind, "http://h", transport=httpx.MockTransport(answer), retries=2)
    with pytest.raises(raised) as error: ranker.rank("which?", ["a", "b"])
    assert said in str(error.value) and len(seen) == (1 if raised is BadRequestError else 3) and error.value.status == 500


@pytest.mark.parametrize("said", SHORT)
def test_what_a_server_says_of_itself_is_its_own_fault(said): assert status_error(500, said) is status_error(503, said) is ServerError


# ---- an error in the clothes of a success

CLOTHED = [
    ({"error": {"message": "slow down", "code": 429}}, RateLimitError, True),
    ({"error": {"message": "slow down", "code": "429"}}, RateLimitError, True),
    ({"error": {"message": "slow down", "type": "rate_limit_exceeded"}}, RateLimitError, True),
    ({"error": "Model is overloaded", "error_type": "Overloaded"}, RateLimitError, True),
    ({"code": 503, "message": "warming up"}, ServerError, True),
    ({"status": 502, "error": "Bad Gateway"}, ServerError, True),
    ({"statusCode": 503, "detail": "down"}, ServerError, True),
    ([{"error": {"code": 503, "message": "down", "status": "UNAVAILABLE"}}], ServerError, True),
    ({"error": {"message": "down", "code": 503}, "results": [], "choices": None}, ServerError, True),
    ({"error": {"message": "no key", "code": "invalid_api_key"}}, AuthenticationError, False),
    ({"error": {"message": "who?", "code": 404}}, NotFoundError, False),
    ({"error": {"message": "bad field", "type": "invalid_request_error"}}, BadRequestError, False),
    ({"error": {"message": "pay", "code": 429, "type": "insufficient_quota"}}, RateLimitError, False),
]


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("body", "raised", "passes"), CLOTHED, ids=str)
def test_an_error_with_status_200_is_treated_like_the_status_it_names(kind, body, raised, passes, how):
    with Scripted([body, body, good(kind)]) as server:
        def rank(retries):
            ranker = make(kind, server.url, retries=retries)
            return ranker.rank("which?", ["a", "b"]) if how == "sync" else asyncio.run(ranker.rank_async("which?", ["a", "b"]))
        with pytest.raises(raised): rank(0)
        if not passes:
            with pytest.raises(raised): rank(3)
            assert len(server.seen) == 2
        else: assert rank(3)[0].doc_id == 1 and len(server.seen) == 3


def test_such_an_error_may_ask_to_wait():
    error = error_in_200({"error": {"code": 429, "message": "busy"}}, "me", asked=7.0)
    assert error.retry_after == 7.0 and not worth_it(error, 0, WebOptions(longest_wait=5))
    with Scripted([Say({"error": {"code": 429, "message": "come back"}}, headers={"Retry-After": "3600"})]) as server:
        for kind in KINDS:
            with pytest.raises(RateLimitError, match="come back"): make(kind, server.url).rank("which?", ["a", "b"])
        assert len(server.seen) == 2


DEEP = [{"errors": [{"message": "slow down", "code": 429}]}, {"error": [{"code": 429}]}, {"error": {"error": {"code": 429}}}, {"error": {"http_code": "429"}},
        {"detail": {"code": 429}}, {"Error": {"Code": "429"}}, {"detail": [{"status": 429}]}, {"errors": {"httpStatus": 429}}, {"fault": {"status_code": 429}},
        {"error": {"details": {"code": "RESOURCE_EXHAUSTED"}}}, {"ERROR": {"Type": "TooManyRequests"}}, [{"errors": [{"code": "429"}]}],
        {"error": {"http_status_code": 429, "code": "slow_down"}}, {"detail": {"error": {"message": "busy", "code": 429}}}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", DEEP, ids=str)
def test_an_error_is_read_by_its_status_however_deep_it_stands(kind, body):
    with Scripted([body, body, good(kind)]) as server:
        assert make(kind, server.url).rank("which?", ["a", "b"])[0].doc_id == 1 and len(server.seen) == 3
    with Scripted([body]) as server, pytest.raises(RateLimitError): make(kind, server.url, retries=0).rank("which?", ["a", "b"])


BESIDE = [{"errors": []}, {"detail": {"code": 200}}, {"errors": [{"code": 429}]},
          {"error": None}, {"error": ""}, {"error": {}}, {"error": {"code": 429, "message": "but"}}, {"code": 500}, {"status": "503", "message": "x"}]


@pytest.mark.parametrize("more", BESIDE, ids=str)
def test_a_ranking_is_a_ranking_whatever_stands_beside_it(more):
    with Scripted([{**good("ranker"), **more}]) as server: assert make("ranker", server.url).rank("which?", ["a", "b"])[0].doc_id == 1


FIELDS = st.sampled_from(["error", "code", "status", "message", "choices", "results", "type", "detail"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)


@given(st.recursive(LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(FIELDS, part, max_size=4), max_leaves=12))
def test_any_json_is_an_answer_or_an_error_of_ours(body):
    error = error_in_200(body, "me")
    assert error is None or isinstance(error, ProviderError) and (error.status == 200 or 400 <= error.status < 600)


# ---- addresses

SOUND = [" http://{}/v1", "http://{}/v1\n", "HTTP://{}/v1", "\t http://{}/v1 \r\n", "\ufeffhttp://{}/v1", "Http://{}/v1#top"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written", SOUND)
def test_capitals_and_blanks_in_an_address_mean_nothing(kind, written, monkeypatch):
    with Scripted([good(kind)]) as server:
        url = written.format(f"127.0.0.1:{server.port}")
        assert make(kind, url).rank("which?", ["a", "b"])[0].doc_id == 1
        monkeypatch.setenv("CO_API_URL" if kind == "ranker" else "OPENAI_BASE_URL", url)
        options = {"model_type": "rankgpt"} if kind == "chat" else {}
        named = Reranker("cohere" if kind == "ranker" else "gpt-4.1", api_key="sk-12345678", **options)
        assert named.rank("which?", ["a", "b"])[0].doc_id == 1 and len(server.seen) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_blank_variable_names_no_address(kind, monkeypatch):
    for name in ("CO_API_URL", "OPENAI_BASE_URL"): monkeypatch.setenv(name, " \n")
    found = Reranker("cohere", api_key="k").server if kind == "ranker" else Reranker("gpt-4.1", model_type="rankgpt", api_key="k").client.server
    assert found.base_url == ("https://api.cohere.com/v2/rerank" if kind == "ranker" else "https://api.openai.com/v1")


WRONG = ["", " ", "localhost:8000", "http//h", "http:/h", "http:h", "http://", "http:///v1", "http://:80", "http://u@", "http://h:port",
         "http://h:99999", "http://[::1", "http://::1:80", "http://a b", "http://h/a b", "http://h\n.evil", "ftp://h", "://h",
         "http://a..ü", 7, b"http://h", None]


@pytest.mark.parametrize("address", WRONG, ids=repr)
def test_what_is_no_address(address):
    with pytest.raises(InputError, match="base_url="): checked_address(address)
    if address:
        for word, options in {"cohere": {"api_key": "k"}, "m-1": {"model_type": "rankgpt"}}.items():
            with pytest.raises(InputError, match="base_url="): Reranker(word, base_url=address, **options)


@given(st.text(max_size=40) | st.builds("http://{}".format, st.text(max_size=40)))
def test_any_text_is_an_address_or_an_input_error(text):
    try: found = checked_address(text)
    except InputError: return
    assert checked_address(found) == found and found.startswith(("http://", "https://"))


# ---- proxies and certificates

def test_a_server_at_an_address_of_ipv6():
    try: server = Scripted([good("ranker")], host="::1").__enter__()
    except AssertionError: pytest.skip("no IPv6 here")
    with server: assert make("ranker", server.url).rank("which?", ["a", "b"])[0].doc_id == 1


ODD = ["socks5://127.0.0.1:1", "socks5h://u:p@127.0.0.1:1", "socks4://127.0.0.1:1", "ftp://127.0.0.1:1", "http://", "://", "nonsense://x",
       "http://127.0.0.1:none", "127.0.0.1:1", " ", "[::1]"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize("proxy", ODD)
def test_loopback_never_needs_a_proxy(variable, proxy, monkeypatch):
    monkeypatch.setenv(variable, proxy)
    with Scripted([good("ranker")]) as server: assert make("ranker", server.url).rank("which?", ["a", "b"])[0].doc_id == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxy", ODD)
def test_no_proxy_makes_an_error_that_is_none_of_ours(kind, proxy, monkeypatch):
    "Whatever it is, and the variable is named where it cannot be one"
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "[::1],,*.[,:,/,999.1.1.1/99")
    with pytest.raises((InputError, MissingDependency, ServerError)) as error:
        make(kind, "http://host.invalid/v1", retries=0, timeout=5).rank("which?", ["a", "b"])
    said = str(error.value)
    if not isinstance(error.value, ServerError): assert "ALL_PROXY=" in said and "NO_PROXY" in said and ":p@" not in said


def test_a_proxy_without_its_package_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter22@proxy.corp:1080")
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    for kind in KINDS:
        with pytest.raises(MissingDependency, match=r"ALL_PROXY='socks5://proxy.corp:1080' .*pip install 'httpx\[socks\]'") as error:
            make(kind, "https://api.example.com/v1").rank("which?", ["a", "b"])
        assert "hunter22" not in str(error.value)


def through_litellm(kind, url, **options):
    "A ranker that asks through litellm, which has forgotten what it knew of proxies"
    need_litellm().in_memory_llm_clients_cache.flush_cache()
    options = {"api_key": "sk-12345678", "timeout": 30, "retries": 0} | options
    if kind == "ranker": return Reranker("litellm/cohere/m-1", base_url=url.removesuffix("/v1"), **options)
    return Reranker("hosted_vllm/m-1", model_type="rankgpt", client="litellm", base_url=url, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("variable", "proxy"), [("ALL_PROXY", "socks5://u:hunter22@127.0.0.1:1"), ("HTTP_PROXY", "http://127.0.0.1:1"),
                                                 ("http_proxy", "127.0.0.1:none"), ("all_proxy", "nonsense://x.invalid")])
def test_a_proxy_that_litellm_takes_is_named_with_its_variable_and_a_remedy_that_works(kind, variable, proxy, monkeypatch):
    "litellm goes through it for this machine too, and cannot be told otherwise for one call"
    monkeypatch.setenv(variable, proxy)
    with Scripted([good(kind)]) as server:
        with pytest.raises(ServerError, match=rf"through the proxy {variable}='.*NO_PROXY=127\.0\.0\.1") as error:
            through_litellm(kind, server.url).rank("which?", ["a", "b"])
        assert "hunter22" not in str(error.value) and not server.seen
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert through_litellm(kind, server.url).rank("which?", ["a", "b"])[0].doc_id == 1


@pytest.mark.parametrize("kind", KINDS)
def test_litellms_other_troubles_are_not_laid_to_a_proxy(kind, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Scripted([Say({"error": {"message": "overloaded"}}, 503)]) as server:
        for url in (server.url, "http://127.0.0.1:1/v1"):
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
            with pytest.raises(ServerError) as error: through_litellm(kind, url).rank("which?", ["a", "b"])
            assert "proxy" not in str(error.value).lower()
        assert len(server.seen) == 1
    monkeypatch.delenv("NO_PROXY")
    with Scripted([Say({"error": {"message": "overloaded"}}, 503)]) as proxy:   # it works; who is overloaded is behind it
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ServerError) as error: through_litellm(kind, "http://host.invalid/v1").rank("which?", ["a", "b"])
        assert proxy.seen and "NO_PROXY" not in str(error.value)


def test_a_request_goes_through_the_proxy_that_is_named(monkeypatch):
    with Scripted([good("ranker")]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        assert make("ranker", "http://ranker.invalid/v1").rank("which?", ["a", "b"])[0].doc_id == 1
        assert proxy.seen[0].path == "http://ranker.invalid/v2/rerank"
        monkeypatch.setenv("NO_PROXY", "other, .INVALID")
        with pytest.raises(ServerError, match="cannot connect to http://ranker.invalid"):
            make("ranker", "http://ranker.invalid/v1", retries=0).rank("which?", ["a", "b"])


EXCEPTS = {"*": True, "h.corp": True, ".corp": True, "*.corp": True, "corp": True, "CORP ": True, "http://h.corp": True, "h.corp:8000": True,
           "h.corp:9000": False,
           "x.h.corp": False, "orp": False, "": False, "other": False, "10.0.0.0/8": False}


@pytest.mark.parametrize(("entry", "expected"), EXCEPTS.items())
def test_entries_of_no_proxy(entry, expected): assert excepts(entry, "h.corp", 8000) is expected


NUMBERS = {"10.1.2.3": ("10.0.0.0/8", "10.1.2.3", "10.1.2.3:80"), "fd00::1": ("[fd00::1]", "fd00::1", "[fd00::1]:80", "fd00::/8")}


@pytest.mark.parametrize(("host", "entry"), [(host, entry) for host, entries in NUMBERS.items() for entry in entries])
def test_entries_of_no_proxy_by_number(host, entry):
    assert excepts(entry, host, 80) and not excepts(entry, "11.0.0.1", 80)


@pytest.mark.parametrize("host", ["localhost", "api.localhost", "127.0.0.1", "127.255.1.9", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_what_is_this_machine(host): assert is_loopback(host)


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.evil.com", "10.0.0.1", "127.0.0.1.com", "", "mylocalhost"])
def test_what_is_another(host): assert not is_loopback(host)


@given(st.text(max_size=30), st.text(max_size=30).filter(lambda t: "\0" not in t))
def test_no_entry_fails(entry, host): assert excepts(entry, host, 80) in (True, False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(kind, variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=f"{variable}=.*nowhere.*unset the variable"): make(kind, "https://127.0.0.1:9/v1").rank("which?", ["a", "b"])
    with Scripted([good(kind)]) as server: assert make(kind, server.url).rank("which?", ["a", "b"])[0].doc_id == 1, "an open line needs none"
    (tmp_path / "nowhere").write_text("no certificate")
    if variable == "SSL_CERT_FILE":
        with pytest.raises(InputError, match="holds no certificates"): make(kind, "https://127.0.0.1:9/v1").rank("which?", ["a", "b"])


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    "A certificate that signs itself, for 127.0.0.1"
    if not shutil.which("openssl"): pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


@pytest.mark.parametrize("on_error", ["raise", "keep"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_certificate_is_not_tried_again_and_the_remedy_works(kind, on_error, signed, monkeypatch, caplog):
    certificate, context = signed
    caplog.set_level(logging.INFO, logger="rerankers")
    with Scripted([good(kind)], tls=context) as server:
        with pytest.raises(CertificateError, match="certificate of https://127.0.0.1.* is refused: .*SSL_CERT_FILE.*verify="):
            make(kind, server.url, on_error=on_error).rank("which?", ["a", "b"])
        assert not server.seen and not [r for r in caplog.records if "again in" in r.getMessage()]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert make(kind, server.url).rank("which?", ["a", "b"])[0].doc_id == 1
        monkeypatch.delenv("SSL_CERT_FILE")
        trusting = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=str(certificate)))
        assert make(kind, server.url, transport=trusting).rank("which?", ["a", "b"])[0].doc_id == 1


class APIConnectionError(Exception): "litellm's"


class InternalServerError(Exception): status_code = 500


@pytest.mark.parametrize(("error", "raised"), [
    (APIConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"), CertificateError),
    (InternalServerError("input is too large to process. increase the physical batch size"), BadRequestError), (InternalServerError("boom"), ServerError)])
def test_litellms_errors_are_told_apart_in_the_same_way(error, raised):
    from rerankers.web.secrets import Secret
    from rerankers.llm.litellm import as_ours
    ours = as_ours(error, "me", Secret(None))
    assert type(ours) is raised and worth_it(ours, 0, WebOptions()) is (raised is ServerError)


def test_no_line_is_opened_for_nothing(monkeypatch):
    assert isinstance(new_line("http://127.0.0.1:9", 8), httpx.AsyncHTTPTransport) and proxy_for("http://127.0.0.1:9") is None
    monkeypatch.setenv("https_proxy", "http://proxy.corp:3128")
    assert proxy_for("https://api.cohere.com") == ("https_proxy", "http://proxy.corp:3128") and proxy_for("http://api.cohere.com") is None


# ---- what the caller or the environment gets wrong is said by name

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:99999", "http://:8080", "http://[::1", "127.0.0.1:99999", "ftp://127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_that_is_no_address_is_named_with_its_variable(kind, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(InputError, match="http_proxy="): make(kind, "http://example.org/v1", retries=0).rank("which?", ["a", "b"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_does_not_answer_is_named_with_its_variable(kind, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(ServerError, match=r"through the proxy http_proxy='http://127\.0\.0\.1:9'") as error:
        make(kind, "http://example.org/v1", retries=0).rank("which?", ["a", "b"])
    assert "secret" not in str(error.value)


LONE = "a\ud800b"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base_url", [f"http://127.0.0.1/{LONE}", f"http://{LONE}.org/v1", f"http://127.0.0.1/v1?key={LONE}"])
def test_half_a_character_in_an_address_is_refused(kind, base_url):
    with pytest.raises(InputError, match="base_url="): make(kind, base_url)


ENDLESS = {}
ENDLESS["again"] = ENDLESS
DEEPEST = []
for _ in range(100_000): DEEPEST = [DEEPEST]


def with_body(value): return {"model_type": "rankgpt", "extra_body": {"more": value}}


@pytest.mark.parametrize("model, options", [("m", with_body(LONE)), ("m", with_body(ENDLESS)), ("m", with_body(DEEPEST)), ("m", with_body({1, 2})),
                                            ("m", with_body({("a", "b"): 1})), (LONE, {"model_type": "rankgpt"}), (LONE, {"model_type": "cohere"})],
                         ids=["half", "endless", "deep", "set", "key", "model, chat", "model, ranker"])
def test_a_request_that_cannot_be_written_is_an_input_error(model, options):
    with Scripted([good("chat")]) as server, pytest.raises(InputError, match="request"):
        Reranker(model, base_url=server.url, api_key="sk-12345678", **options).rank("which?", ["a", "b"])
    assert not server.seen


@pytest.mark.parametrize("headers", [[("a", "b")], "a: b", 3, {("a",)}])
def test_headers_are_a_dictionary(headers):
    with pytest.raises(InputError, match="headers="): make("ranker", "http://127.0.0.1:9", headers=headers)


@pytest.mark.parametrize("attempt", [1023, 1024, 1100, 10**9])
def test_a_late_attempt_waits_no_longer(attempt): assert 0.5 * 60 <= WebOptions(retries=10**9).wait(attempt) <= 60


def test_a_file_for_the_keys_of_lines_is_named(monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", "/nope/x")
    with pytest.raises(InputError, match="SSLKEYLOGFILE='/nope/x'") as error: new_line("https://example.org", 1)
    assert "SSL_CERT_FILE" not in str(error.value)


@pytest.mark.parametrize("host", ["127.1", "localhost.", "LOCALHOST.", "0x7f.1", "2130706433", "127.0.0.1.", "api.localhost.", "0"])
def test_this_machine_by_other_names_needs_no_proxy(host, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert proxy_for(f"http://{host}:8000/v1") is None and is_loopback(host.lower())


@pytest.mark.parametrize("host", ["128.1", "localhost.org", "127.0.0.1.org", "notlocalhost", "1.127", "deadbeef", "localhost.."])
def test_other_machines_do(host): assert not is_loopback(host)
