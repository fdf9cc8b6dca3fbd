"Hosted rerankers: every row of the table against its recorded exchange, and what holds for all of them"
import asyncio
import gc
import json
import pickle
import re
import warnings
import weakref
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

httpx = pytest.importorskip("httpx")

from crowd import Crowd, becomes
from servers import Say, need_litellm
from servers import Scripted as Loopback

from rerankers import Document, InputError, Reranker, UnknownModel, UnusableAnswer
from rerankers.backends.api import BY_WORD, LITELLM_ROW, PROVIDERS, APIRanker, evenly
from rerankers.web.providers import LOWEST, Provider, address_of, joined_paths, read_scores, request_body
from rerankers.web.services import find_key, same_owner
from rerankers.errors import AuthenticationError, ProviderError
from rerankers.claims import BACKENDS
from rerankers.registry import choose, load_backends

ROOT = Path(__file__).resolve().parents[1]
EXCHANGES = {e["provider"]: e for e in json.loads((ROOT / "nbs" / "backends" / "hosted_exchanges.json").read_text(encoding="utf-8"))}
QUERY, DOCS, KEY = "who wrote Hamlet?", ["Goethe wrote Faust.", "Shakespeare wrote Hamlet.", "Racine wrote Phèdre."], "key-123456789"
NAMES = list(PROVIDERS)
ROWS = {name: row.for_model("my-model") for name, row in PROVIDERS.items()}     # as they are for the model of these tests
AZURE = "https://mine.services.ai.azure.com"
load_backends()


@pytest.fixture(autouse=True, scope="module")
def no_keys():
    "Whatever keys the machine has are not there"
    with pytest.MonkeyPatch.context() as patch:
        for name in {n for row in PROVIDERS.values() for n in row.keys}: patch.delenv(name, raising=False)
        yield


class Scripted(httpx.AsyncBaseTransport):
    "Answers with what a function makes of a request's JSON; counts, and notes how many are under way at once, of which so many wait for one another"

    def __init__(self, answer, together=0): self.answer, self.crowd, self.requests = answer, Crowd(together), []

    async def handle_async_request(self, request):
        self.requests.append(request)
        async with self.crowd: pass
        return httpx.Response(200, json=self.answer(json.loads(request.content)))

    @property
    def bodies(self): return [json.loads(r.content) for r in self.requests]


def texts_of(row, body):
    "The documents of a request, found by the row's own template"
    def walk(template, part):
        if isinstance(template, list) and "{text}" in json.dumps(template): return [p if isinstance(p, str) else item(template[0], p) for p in part]
        if isinstance(template, dict): return next((t for k in template if k in part and (t := walk(template[k], part[k])) is not None), None)
        return None
    def item(template, part): return next(part[k] for k, v in template.items() if v == "{text}")
    return walk(dict(row.request), body)


def answer_of(row, scores, order=None):
    "An answer in the row's form; results in the order of the documents, or another"
    found = [{row.index: i, row.score: scores[i]} for i in (order or range(len(scores)))] if row.index else scores
    return nested(row, found)


def nested(row, found):
    "Results where the row's answers have them"
    for name in reversed(row.results.split(".") if row.results else []): found = {name: found}
    return found


def long_is_good(row, order=None):
    "A server of the row's form that prefers long texts"
    def answer(body):
        scores = [1 - 1 / (1 + len(t)) for t in texts_of(row, body)]
        return answer_of(row, scores, order and order(len(scores)))
    return answer


def ranker(name, answer=None, model="my-model", **options):
    "A ranker of one row with a scripted server"
    row = PROVIDERS[name].for_model(model)
    transport = options.pop("transport", None) or Scripted(answer or long_is_good(row))
    where = {} if row.base_url or "base_url" in options or "url" in options else {"base_url": AZURE}
    return Reranker(model, model_type=name, api_key=KEY, transport=transport, **where, **options), transport


# ---- each row

def test_every_row_has_an_exchange(): assert list(EXCHANGES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_request_is_the_recorded_one(name):
    "Address, headers and body, to the last field"
    e = EXCHANGES[name]
    found, server = ranker(name, lambda body: e["response"], e["model"] or name)
    results = found.rank(e["query"], e["documents"])
    (request,) = server.requests
    assert (request.method, str(request.url), json.loads(request.content)) == ("POST", e["url"], e["request"])
    assert {h: request.headers[h] for h in e["headers"]} == {h: v.replace("key-1", KEY) for h, v in e["headers"].items()}
    assert [r.score for r in sorted(results, key=lambda r: r.doc_id)] == e["scores"] and results[0].doc_id == 1
    assert {k: getattr(results.usage, k) for k in e["usage"]} == e["usage"] and results.has_scores


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_back_and_nothing_cut(name):
    "No field asks for the documents or for fewer results than there are documents"
    body = EXCHANGES[name]["request"]
    assert not any(body.get(k) for k in ("return_documents", "return_input", "return_text"))
    assert {body[k] for k in ("top_n", "top_k", "topN") if k in body} <= {len(EXCHANGES[name]["documents"])}


@pytest.mark.parametrize("name", NAMES)
def test_the_servers_order_is_not_trusted(name):
    orders = [lambda n: list(range(n)), lambda n: list(range(n))[::-1], lambda n: [*range(1, n), 0]]
    for order in orders if PROVIDERS[name].index else orders[:1]:
        found, _ = ranker(name, long_is_good(ROWS[name], order))
        results = found.rank(QUERY, DOCS)
        assert [r.doc_id for r in results] == [1, 2, 0]
        assert [r.score for r in results] == pytest.approx([1 - 1 / (1 + len(DOCS[i])) for i in (1, 2, 0)])


@pytest.mark.parametrize("name", NAMES)
def test_documents_above_the_limit_go_out_in_chunks_at_once(name):
    "Two and a half times the limit: all come back, once, with their own scores"
    limit = min(PROVIDERS[name].limit or 20, 20)
    docs = [f"{'x' * i} {i}" for i in range(limit * 5 // 2)]
    server = Scripted(long_is_good(ROWS[name]), together=3)
    found, _ = ranker(name, transport=server, chunk_size=limit)
    results = found.rank(QUERY, docs)
    assert [r.doc_id for r in results] == list(range(len(docs)))[::-1]
    assert [r.score for r in results] == [1 - 1 / (1 + len(r.text)) for r in results]
    sent = [texts_of(ROWS[name], b) for b in server.bodies]
    assert sorted(t for part in sent for t in part) == sorted(docs) and max(map(len, sent)) <= limit and len(sent) == 3
    assert server.crowd.most == 3 and results.usage.calls == 3


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].limit])
def test_the_rows_limit_is_the_default(name):
    row = PROVIDERS[name]
    found, server = ranker(name)
    assert len(found.rank(QUERY, [f"number {i}" for i in range(row.limit + 1)])) == row.limit + 1
    assert found.chunk_size == row.limit and len(server.requests) == 2


@pytest.mark.parametrize("name", NAMES)
def test_instructions(name):
    "In the provider's field, or before the query, or refused; for a call or for good"
    e = EXCHANGES[name]
    found, server = ranker(name, lambda body: e["response"], e["model"] or name)
    if "instructed" not in e:
        assert not found.takes_instruction
        for call in (lambda: found.rank(QUERY, DOCS, instruction="Prefer plays."), lambda: ranker(name, instruction="Prefer plays.")):
            with pytest.raises(InputError, match="follows no instruction"): call()
        return
    found.rank(QUERY, DOCS, instruction="Prefer plays.")
    ranker(name, model=e["model"] or name, transport=server, instruction="Prefer plays.")[0].rank(QUERY, DOCS)
    assert server.bodies == [{**e["request"], **e["instructed"]}] * 2 and found.takes_instruction
    found.rank(QUERY, DOCS)
    assert server.bodies[-1] == e["request"]


@pytest.mark.parametrize("name", NAMES)
def test_rankers_travel(name):
    "A class of the table is found by pickle, the key is not shown"
    found = Reranker(EXCHANGES[name]["model"] or name, model_type=name, api_key=KEY, base_url=PROVIDERS[name].base_url or AZURE)
    twin = pickle.loads(pickle.dumps(found))
    assert type(twin) is type(found) and twin.server.base_url == EXCHANGES[name]["url"] and twin.provider == found.provider
    assert KEY not in repr(found) + repr(vars(found)) + repr(vars(found.server)) and name in repr(found)


# ---- keys

@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].keys])
def test_a_missing_key_is_an_error_at_construction_that_names_the_variables(name):
    with pytest.raises(AuthenticationError, match=f"no key for {re.escape(name)}: .* or set {' or '.join(PROVIDERS[name].keys)}"):
        Reranker("my-model", model_type=name, **({} if PROVIDERS[name].base_url else {"base_url": AZURE}))


@pytest.mark.parametrize(("name", "variable"), [(n, v) for n in NAMES for v in PROVIDERS[n].keys])
def test_keys_of_the_environment(name, variable, monkeypatch):
    monkeypatch.setenv(variable, KEY)
    row, server = PROVIDERS[name], Scripted(long_is_good(ROWS[name]))
    Reranker("my-model", model_type=name, transport=server, **({} if row.base_url else {"base_url": AZURE})).rank(QUERY, DOCS)
    assert server.requests[0].headers[row.auth[0]] == row.auth[1].format(KEY)


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].keys and PROVIDERS[n].base_url])
def test_a_key_of_the_environment_goes_to_its_provider_only(name, monkeypatch):
    for variable in PROVIDERS[name].keys: monkeypatch.setenv(variable, KEY)
    server = Scripted(long_is_good(ROWS[name]))
    Reranker("my-model", model_type=name, base_url="http://127.0.0.1:9", transport=server).rank(QUERY, DOCS)
    assert KEY not in str(server.requests[0].headers.raw)


OF_THEIRS = {"cohere": "https://api.cohere.ai/v1", "together": "https://api.together.xyz/v1", "siliconflow": "https://api.siliconflow.com/v1",
             "mixedbread.ai": "https://api.mixedbread.ai", "voyage": "https://ai.mongodb.com/v1", "jina": "https://eu.api.jina.ai",
             "dashscope": "https://dashscope-intl.aliyuncs.com"}
OF_OTHERS = ["http://api.cohere.com", "https://api.cohere.com.evil.example", "https://notcohere.com", "https://10.0.0.1", "http://gateway.corp/cohere"]


@pytest.mark.parametrize(("name", "address"), OF_THEIRS.items(), ids=OF_THEIRS)
def test_a_key_of_the_environment_goes_to_the_providers_other_domains(name, address, monkeypatch):
    monkeypatch.setenv(PROVIDERS[name].keys[0], KEY)
    assert find_key(PROVIDERS[name], None, address) == KEY


@pytest.mark.parametrize("address", OF_OTHERS)
def test_whoever_gets_no_key_is_told_so(address, monkeypatch):
    monkeypatch.setenv("CO_API_KEY", KEY)
    seen = []
    def refuse(request):
        seen.append(request)
        return httpx.Response(401, json={"message": "no api key supplied"})
    with pytest.raises(AuthenticationError, match="no api key supplied; no key was sent, api_key= passes one"):
        Reranker("cohere", base_url=address, transport=httpx.MockTransport(refuse)).rank(QUERY, DOCS)
    assert "authorization" not in seen[0].headers


def test_numbers_and_suffixes_are_no_common_domain():
    mine = Provider("mine", "https://api.foo.co.uk", keys=("MINE",))
    assert not same_owner("https://evil.co.uk", mine.base_url) and same_owner("https://eu.foo.co.uk", mine.base_url)
    assert not same_owner("http://8.8.0.1", "http://10.9.0.1") and same_owner("http://10.9.0.1:8000", "http://10.9.0.1")


def test_a_blank_key_is_none(monkeypatch):
    for name in PROVIDERS["cohere"].keys: monkeypatch.setenv(name, " \n")
    for blank in (None, "", "  "):
        with pytest.raises(AuthenticationError, match="no key for cohere"): Reranker("cohere", api_key=blank)


def test_keys_of_other_types():
    class Hidden:
        "As pydantic's SecretStr"
        def get_secret_value(self): return KEY
    server = Scripted(long_is_good(ROWS["cohere"]))
    Reranker("cohere", api_key=Hidden(), transport=server).rank(QUERY, DOCS)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(InputError, match="the key is a int"): Reranker("cohere", api_key=123)


def test_voyages_key_may_be_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("VOYAGE_API_KEY", "another")
    monkeypatch.setenv("VOYAGE_API_KEY_PATH", str(tmp_path / "key"))
    assert find_key(PROVIDERS["voyage"]) == KEY, "the file wins, as in voyageai"
    monkeypatch.setenv("VOYAGE_API_KEY_PATH", str(tmp_path / "keys"))
    with pytest.raises(AuthenticationError, match="VOYAGE_API_KEY_PATH"): Reranker("voyage")


@pytest.mark.parametrize(("name", "variable"), [("cohere", "CO_API_URL"), ("mixedbread.ai", "MIXEDBREAD_BASE_URL"), ("isaacus", "ISAACUS_BASE_URL")])
def test_the_address_may_be_in_the_environment(name, variable, monkeypatch):
    monkeypatch.setenv(variable, "https://proxy.example")
    assert Reranker(name, api_key=KEY).server.base_url == "https://proxy.example" + PROVIDERS[name].path
    assert Reranker(name, api_key=KEY, base_url="https://mine.example").server.base_url == "https://mine.example" + PROVIDERS[name].path


ECHOES = {"escaped as JSON may be": (r'{"message": "bad key %s"}', lambda key: key.replace("/", r"\/").replace("+", r"\u002B")),
          "as HTML": ("<p>bad key %s</p>", lambda key: key.replace("+", "&#43;").replace("/", "&#x2F;")), "quoted": ('{"message": "%s"}', quote),
          "in a list": ('{"detail": [{"loc": ["header"], "msg": "bad %s"}]}', str)}


@pytest.mark.parametrize(("said", "written"), ECHOES.values(), ids=ECHOES)
def test_a_key_that_comes_back_in_other_letters_is_not_shown(said, written):
    key = "sk/abc+DEF/123456=="
    transport = httpx.MockTransport(lambda request: httpx.Response(401, text=said % written(key)))
    with pytest.raises(AuthenticationError, match=r"\*\*\*") as error: Reranker("cohere", api_key=key, transport=transport).rank(QUERY, DOCS)
    assert not [part for part in (key, quote(key), "abc+DEF", "abc%2BDEF") if part in str(error.value) + repr(error.value.body)]


def test_a_key_in_a_new_address_or_a_further_header_is_not_shown():
    moved = httpx.MockTransport(lambda request: httpx.Response(302, headers={"location": f"https://login.example/?key={KEY}"}, text="bad gateway-key-1"))
    with pytest.raises(ProviderError, match=r"moved to https://login.example/\?key=\*\*\*") as error:
        Reranker("cohere", api_key=KEY, headers={"X-Gateway-Key": "gateway-key-1"}, transport=moved).rank(QUERY, DOCS)
    assert KEY not in str(error.value) and "gateway-key-1" not in str(error.value)


def test_an_address_with_a_password_is_not_shown():
    found = Reranker("cohere", api_key=KEY, url="http://bob:hunter22@127.0.0.1:9/rank?team=secret1", retries=0)
    with pytest.raises(ProviderError) as error: found.rank(QUERY, DOCS)
    for shown in (str(error.value), repr(found.server)): assert "127.0.0.1:9/rank" in shown and "hunter22" not in shown and "secret1" not in shown


def test_no_error_of_httpx_with_the_key_stands_behind_ours():
    found = Reranker("pinecone", api_key=KEY, base_url="http://127.0.0.1:9", retries=0)    # httpx masks its own header's value, not Pinecone's
    with pytest.raises(ProviderError) as error: found.rank(QUERY, DOCS)
    behind = [error.value]
    while behind[-1].__cause__ or behind[-1].__context__: behind.append(behind[-1].__cause__ or behind[-1].__context__)
    assert [type(e).__module__ for e in behind] == ["rerankers.errors"] * len(behind)


def test_a_server_of_ones_own_needs_no_key(): assert [find_key(PROVIDERS[n]) for n in NAMES if not PROVIDERS[n].keys] == [None] * 6


def test_voyages_keys_of_mongodb_go_to_mongodb():
    assert Reranker("voyage", api_key="al-1").server.base_url == "https://ai.mongodb.com/v1/rerank"
    assert Reranker("voyage", api_key="pa-1").server.base_url == "https://api.voyageai.com/v1/rerank"


def test_an_answer_that_quotes_the_key_is_quoted_without_it():
    found, _ = ranker("cohere", lambda body: {"echo": KEY})
    with pytest.raises(UnusableAnswer, match=r"cohere: my-model: no list of results at 'results'.*\*\*\*") as error: found.rank(QUERY, DOCS)
    assert KEY not in str(error.value)


# ---- answers

BROKEN = {"1 results for 3 documents; none for 0, 2": [(1, 0.5)], "document 1 has two results": [(0, 1), (1, 1), (1, 1), (2, 1)],
          "a result for document 3": [(3, 1)], "a result for document -1": [(-1, 1)], "a result for document None": [(None, 1)],
          "a result for document '0'": [("0", 1)], "the score of document 1 is None": [(1, None)],
          "the score of document 0 is nan": [(0, float("nan"))], "the score of document 0 is inf": [(0, float("inf"))],
          "the score of document 0 is '0.5'": [(0, "0.5")], "the score of document 0 is True": [(0, True)]}


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].index])
@pytest.mark.parametrize(("said", "listed"), BROKEN.items(), ids=BROKEN)
def test_an_answer_with_a_hole_is_an_error(name, said, listed):
    row = PROVIDERS[name]
    items = [{row.index: i, row.score: score} for i, score in listed]
    with pytest.raises(UnusableAnswer, match=f"me: .*{re.escape(said)}"): read_scores(row, nested(row, items), 3, "me")


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5, 0.5, 0.5], [0.5, None, 0.5], [0.5, "x", 0.5]], ids=str)
def test_a_bare_list_of_scores_is_as_long_as_the_documents(scores):
    with pytest.raises(UnusableAnswer): read_scores(PROVIDERS["deepinfra"], {"scores": scores}, 3, "me")


def test_an_unusable_answer_is_not_paid_for_twice():
    found, server = ranker("cohere", lambda body: {"results": []})
    with pytest.raises(UnusableAnswer, match="cohere: my-model: 0 results for 3 documents"): found.rank(QUERY, DOCS)
    assert len(server.requests) == 1


# ---- documents

@pytest.mark.parametrize("name", NAMES)
def test_equal_texts_travel_once_and_blank_ones_stay_here(name):
    found, server = ranker(name)
    results = found.rank(QUERY, ["Hamlet", "", "Faust I", "Hamlet", " \n"])
    assert texts_of(ROWS[name], server.bodies[0]) == ["Hamlet", "Faust I"] and [r.doc_id for r in results] == [2, 0, 3, 1, 4]
    assert results[-1].score == results[-2].score == LOWEST[PROVIDERS[name].scale]


def test_blank_documents_are_last_whatever_the_scale_was_said_to_be():
    found, _ = ranker("cohere", lambda body: answer_of(ROWS["cohere"], [-3.5]))
    assert [(r.doc_id, r.score) for r in found.rank(QUERY, ["Hamlet", ""])] == [(0, -3.5), (1, -3.5)]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_not_ranked_as_an_empty_text(name):
    found, server = ranker(name)
    with pytest.raises(InputError, match="document 1 is a picture without a text, and .* only reads"):
        found.rank(QUERY, ["Hamlet", Document(document_type="image", image_path="page.png")])
    assert not server.requests


@pytest.mark.parametrize("docs", [[], ["", " "]], ids=["none", "blank"])
def test_nothing_to_send_is_no_request(docs):
    found, server = ranker("cohere")
    assert len(found.rank(QUERY, docs)) == len(docs) and not server.requests


def test_words_in_braces_are_text():
    found, server = ranker("cohere")
    found.rank("{text} {query}", ["{text}", "{model}", "{instruction}"])
    assert server.bodies == [{"model": "my-model", "query": "{text} {query}", "documents": ["{text}", "{model}", "{instruction}"], "top_n": 3}]


def test_any_unicode_is_sent():
    found, server = ranker("cohere")
    found.rank("Wo liegt Köln? 🎭", ["哈姆雷特", "lone \ud800 surrogate"])
    assert server.bodies[0]["documents"][0] == "哈姆雷特" and "Köln? 🎭" in server.bodies[0]["query"]


@pytest.mark.parametrize(("n", "most", "sizes"), [(0, 5, []), (1, 5, [1]), (5, 5, [5]), (6, 5, [3, 3]), (11, 5, [3, 4, 4]), (7, None, [7]), (3, 1, [1, 1, 1])])
def test_pieces(n, most, sizes): assert list(map(len, evenly([str(i) for i in range(n)], most))) == sizes


LONG = {"voyage": 600_000, "dashscope": 120_000}    # tokens of a request, the query once a document, as their documents say


@pytest.mark.parametrize(("name", "most"), LONG.items(), ids=LONG)
@pytest.mark.parametrize("text", ["passage " * 2000, "一" * 3000], ids=["words", "Chinese"])
def test_a_request_stays_below_the_providers_tokens(name, most, text):
    "By the estimate of others: four letters or one Chinese character a token"
    found, server = ranker(name, model=PROVIDERS[name].defaults["other"], transport=Scripted(long_is_good(PROVIDERS[name])))
    docs = [f"{i} {text}" for i in range(200)]
    results = found.rank(QUERY, docs)
    sent = [texts_of(PROVIDERS[name], body) for body in server.bodies]
    assert sorted(t for texts in sent for t in texts) == sorted(docs) == sorted(r.text for r in results) and len(sent) > 1
    size = 3000 if text[0] == "一" else len(text) / 4
    assert all(len(texts) * (size + len(QUERY) / 4) < most for texts in sent)


def test_the_warning_points_at_the_caller():
    found, _ = ranker("jina", model="jina-reranker-v3", chunk_size=2)
    calls = (lambda: found.rank(QUERY, DOCS), lambda: found.rank_many([QUERY] * 2, DOCS), lambda: asyncio.run(await_it(found)))
    async def await_it(found): return await found.rank_async(QUERY, DOCS)
    for call in calls:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            call()
        assert [w.filename for w in said] == [__file__]


LISTWISE = [("jinaai/jina-reranker-v3", {"api_provider": "vllm"}), ("jina_ai/jina-reranker-v3", {"model_type": "jina", "api_key": KEY}),
            ("jinaai/jina-reranker-v3", {"api_provider": "infinity"})]


@pytest.mark.parametrize(("model", "options"), LISTWISE, ids=str)
def test_whoever_serves_it_a_listwise_model_is_one(model, options):
    assert not Reranker(model, **options).order_free


def test_scores_of_a_model_that_reads_its_documents_together_are_warned_of():
    row = PROVIDERS["jina"]
    for model, loud in {"jina-reranker-v3": True, "jina-reranker-v2-base-multilingual": False}.items():
        found, _ = ranker("jina", model=model, chunk_size=2)
        assert found.order_free is not loud
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found.rank(QUERY, DOCS)
            assert [w for w in said if "roughly comparable" in str(w.message)] == said and len(said) == loud
    found, _ = ranker("jina", long_is_good(row), "jina-reranker-v3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.rank(QUERY, DOCS)


def test_many_queries_at_once_share_the_limits():
    server = Scripted(long_is_good(ROWS["cohere"]), together=4)
    found, _ = ranker("cohere", transport=server, concurrency=4)
    many = found.rank_many([f"query {i}" for i in range(20)], DOCS)
    assert [[r.doc_id for r in results] for results in many] == [[1, 2, 0]] * 20 and server.crowd.most == 4
    server.crowd = Crowd(2)
    found.rank_many([f"query {i}" for i in range(6)], DOCS, batch_size=2)
    assert server.crowd.most == 2


def test_async_is_the_same():
    found, server = ranker("voyage")
    assert asyncio.run(found.rank_async(QUERY, DOCS)) == found.rank(QUERY, DOCS)


def test_further_fields_and_headers():
    found, server = ranker("cohere", extra_body={"max_tokens_per_doc": 1000}, headers={"X-Team": "search"})
    found.rank(QUERY, DOCS)
    assert server.bodies[0]["max_tokens_per_doc"] == 1000 and server.requests[0].headers["x-team"] == "search"


# ---- which provider

WORDS = {"cohere": "cohere", "COHERE": "cohere", "mixedbread": "mixedbread.ai", "mixedbread.ai": "mixedbread.ai", "tei": "text-embeddings-inference",
         "llamacpp": "llama.cpp", "azure_ai": "azure", "nvidia-nim": "nim", "contextual-ai": "contextual"}


@pytest.mark.parametrize(("word", "name"), WORDS.items(), ids=WORDS)
def test_words(word, name):
    assert BACKENDS[word.lower()].row is PROVIDERS[name] is BY_WORD[word.lower()]
    assert Reranker("my-model", api_provider=word, api_key=KEY, base_url="http://127.0.0.1:9").provider == ROWS[name]


CLAIMED = {
    "cohere/rerank-v3.5": ("cohere", "rerank-v3.5"), "rerank-english-v3.0": ("cohere", "rerank-english-v3.0"),
    "Cohere/rerank-v4.0-fast": ("cohere", "rerank-v4.0-fast"), "rerank-v4.0-fast": ("cohere", "rerank-v4.0-fast"),
    "jina/jina-reranker-m0": ("jina", "jina-reranker-m0"), "jina-reranker-v2-base-multilingual": ("jina", "jina-reranker-v2-base-multilingual"),
    "voyage/rerank-2.5-lite": ("voyage", "rerank-2.5-lite"), "rerank-2.5": ("voyage", "rerank-2.5"), "rerank-lite-1": ("voyage", "rerank-lite-1"),
    "mixedbread.ai/mixedbread-ai/mxbai-rerank-base-v2": ("mixedbread.ai", "mixedbread-ai/mxbai-rerank-base-v2"),
    "pinecone/bge-reranker-v2-m3": ("pinecone", "bge-reranker-v2-m3"), "pinecone-rerank-v0": ("pinecone", "pinecone-rerank-v0"),
    "isaacus/kanon-2-reranker": ("isaacus", "kanon-2-reranker"), "kanon-universal-classifier": ("isaacus", "kanon-universal-classifier"),
    "zerank-1": ("zeroentropy", "zerank-1"), "ctxl-rerank-v1-instruct": ("contextual", "ctxl-rerank-v1-instruct"),
    "together/mixedbread-ai/Mxbai-Rerank-Large-V2": ("together", "mixedbread-ai/Mxbai-Rerank-Large-V2"),
    "deepinfra/Qwen/Qwen3-Reranker-4B": ("deepinfra", "Qwen/Qwen3-Reranker-4B"), "fireworks/qwen3-reranker-8b": ("fireworks", "fireworks/qwen3-reranker-8b"),
    "fireworks_ai/accounts/fireworks/models/qwen3-reranker-4b": ("fireworks", "accounts/fireworks/models/qwen3-reranker-4b"),
    "dashscope/gte-rerank-v2": ("dashscope", "gte-rerank-v2"), "vllm/BAAI/bge-reranker-v2-m3": ("vllm", "BAAI/bge-reranker-v2-m3"),
    "tei/BAAI/bge-reranker-base": ("text-embeddings-inference", "BAAI/bge-reranker-base"),
}


@pytest.mark.parametrize(("model", "expected"), CLAIMED.items(), ids=CLAIMED)
def test_names_that_say_their_provider(model, expected):
    found = Reranker(model, api_key=KEY)
    assert (found.provider.name, found.model) == expected


LOCAL = {"jinaai/jina-reranker-v2-base-multilingual": "cross-encoder", "mixedbread-ai/mxbai-rerank-base-v1": "cross-encoder",
         "zeroentropy/zerank-2": "zerank", "jinaai/jina-reranker-v3": "jina-v3", "nvidia/llama-3.2-nv-rerankqa-1b-v2": None,
         "pinecone/mpnet-retriever-squad2": None, "isaacus/open-australian-legal-llm": None, "ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b": "ctxl"}


@pytest.mark.filterwarnings("ignore:nothing says what kind of model")
@pytest.mark.parametrize(("model", "expected"), LOCAL.items(), ids=LOCAL)
def test_models_of_the_hub_stay_local(model, expected):
    chosen = choose(model).backend
    assert not issubclass(chosen, APIRanker) and expected in (None, chosen.words[0])


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].defaults])
def test_default_models_for_any_language(name):
    for lang in ("en", "de"): assert Reranker(name, lang, api_key=KEY).model == PROVIDERS[name].defaults["other"]


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].keys and not PROVIDERS[n].defaults])
def test_without_a_default_a_model_must_be_named(name):
    with pytest.raises(InputError, match=f"{name}: name a model"): Reranker(name, api_key=KEY)


def test_a_wrong_provider_names_the_nearest():
    with pytest.raises(InputError, match="'cohere'"): Reranker("my-model", api_provider="coher")
    with pytest.raises(InputError, match="which one"): Reranker("my-model", model_type="api")
    with pytest.raises(InputError, match="name or a Provider"): Reranker("my-model", api_provider=3)
    with pytest.raises(InputError, match="'cohere' was chosen"): Reranker("cohere", api_provider="jina", api_key=KEY)
    with pytest.raises(UnknownModel, match="'cohere'"): Reranker("my-model", model_type="coher")


WRONG = {"scale": "percent", "limit": 0, "room": -1, "keys": "MINE_KEY", "prefixes": "mine/", "tokens": "usage", "auth": ("X-Key", "Key"),
         "request": {"q": "{qury}", "documents": ["{text}"]}, "variants": (("*", {"limits": 5}),)}


@pytest.mark.parametrize(("field", "value"), WRONG.items(), ids=WRONG)
def test_a_row_that_could_not_work_is_an_error(field, value):
    with pytest.raises(InputError, match="mine"): Provider("mine", "https://rank.example.com", **{field: value})


@pytest.mark.parametrize("request_", [{"documents": ["{text}"]}, {"query": "{query}"}, {"query": "{query}", "document": "{text}"}], ids=str)
def test_a_request_without_query_or_documents_is_an_error(request_):
    with pytest.raises(InputError, match="in request="): Provider("mine", "https://rank.example.com", request=request_)


def test_words_may_stand_in_a_longer_text():
    row = Provider("mine", "https://rank.example.com", request={"q": "{instruction} Query: {query}", "d": ["Passage: {text}"]})
    server = Scripted(lambda body: answer_of(row, [0.5] * len(body["d"])))
    found = Reranker("my-model", api_provider=row, transport=server)
    found.rank("{text}?", ["{query}"], instruction="Be kind.")
    assert found.takes_instruction and server.bodies == [{"q": "Be kind. Query: {text}?", "d": ["Passage: {query}"]}]


NATIVE = "/api/v1/services/rerank/text-rerank/text-rerank"
DIFFERENT = {"dashscope/qwen3-rerank": ("/compatible-api/v1/reranks", 500, True), "dashscope/gte-rerank-v2": (NATIVE, 500, False),
             "dashscope/qwen3-vl-rerank": (NATIVE, 100, True), "voyage/rerank-2.5-lite": ("/v1/rerank", 1000, True),
             "voyage/rerank-2": ("/v1/rerank", 1000, False), "siliconflow/Qwen/Qwen3-Reranker-0.6B": ("/v1/rerank", None, True),
             "siliconflow/BAAI/bge-reranker-v2-m3": ("/v1/rerank", None, False)}


@pytest.mark.parametrize(("model", "facts"), DIFFERENT.items(), ids=DIFFERENT)
def test_models_of_one_provider_may_differ(model, facts):
    found = Reranker(model, api_key=KEY)
    assert (urlsplit(found.server.base_url).path, found.chunk_size, found.takes_instruction) == facts


def test_an_exchange_of_another_model():
    for e in (v for row in EXCHANGES.values() for v in row.get("variants", ())):
        found, server = ranker(e["provider"], lambda body, e=e: e["response"], e["model"])
        results = found.rank(e["query"], e["documents"])
        assert (str(server.requests[0].url), server.bodies[0]) == (e["url"], e["request"])
        assert [r.score for r in sorted(results, key=lambda r: r.doc_id)] == e["scores"] and results.usage.input_tokens == e["usage"]["input_tokens"]


def test_a_row_of_ones_own():
    row = Provider("mine", "https://rank.example.com/v3", "/rank/{model}", keys=("MINE_KEY",), auth=("X-Key", "Key {}"), headers={"X-Version": "3"},
                   request={"q": {"query": "{query}"}, "p": [{"doc": {"body": "{text}"}}], "flags": [1, "x"], "hint": "{instruction}"},
                   results="a.b", index="id", score="value.raw", scale="logit", limit=2)
    server = Scripted(lambda body: {"a": {"b": [{"id": i, "value": {"raw": len(p["doc"]["body"])}} for i, p in enumerate(body["p"])][::-1]}})
    found = Reranker("my-model", api_provider=row, api_key=KEY, transport=server, instruction="Be kind.")
    assert [r.doc_id for r in found.rank(QUERY, DOCS)] == [1, 2, 0]
    assert found.choice.backend is APIRanker and {str(r.url) for r in server.requests} == {"https://rank.example.com/v3/rank/my-model"}
    assert server.requests[0].headers["x-key"] == f"Key {KEY}" and server.requests[0].headers["x-version"] == "3"
    (first, second) = server.bodies
    assert second["p"] == [{"doc": {"body": text}} for text in DOCS[1:]]
    assert first == {"q": {"query": QUERY}, "p": [{"doc": {"body": DOCS[0]}}], "flags": [1, "x"], "hint": "Be kind."}
    assert pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(AuthenticationError, match="MINE_KEY"): Reranker("my-model", api_provider=row)


# ---- addresses

JOINED = {("http://h", "/rerank"): "http://h/rerank", ("http://h/", "/v1/rerank"): "http://h/v1/rerank", ("http://h/v1", "/v1/rerank"): "http://h/v1/rerank",
          ("http://h/v1/rerank", "/v1/rerank"): "http://h/v1/rerank", ("http://h/a/v1/", "/v1/rerank"): "http://h/a/v1/rerank", ("http://h/a", "/v1/rerank"): "http://h/a/v1/rerank"}


JOINED |= {("http://h/v1", "/v2/rerank"): "http://h/v2/rerank", ("http://h/rerank", "/v1/rerank"): "http://h/rerank",
           ("http://h/v1/rerank/", "/rerank"): "http://h/v1/rerank",
           ("http://h?v=1", "/v1/rerank"): "http://h/v1/rerank?v=1", ("http://h/v1beta?v=1&w", "/v1/rerank"): "http://h/v1/rerank?v=1&w"}


@pytest.mark.parametrize(("parts", "whole"), JOINED.items(), ids=str)
def test_addresses(parts, whole): assert joined_paths(*parts) == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_url_is_taken_as_it_is(name):
    assert address_of(PROVIDERS[name], "my-model", url="https://proxy.example/rank?team=1") == "https://proxy.example/rank?team=1"


def test_a_url_keeps_its_slash_and_one_with_a_version_alone_is_a_base():
    seen = []
    def note(request):
        seen.append(str(request.url))
        return httpx.Response(200, json=long_is_good(ROWS["cohere"])(json.loads(request.content)))
    for url in ("http://h/rank/", "http://h/v1", "http://h/v2?team=1"):
        Reranker("cohere", api_key=KEY, url=url, transport=httpx.MockTransport(note)).rank(QUERY, DOCS)
    assert seen == ["http://h/rank/", "http://h/v2/rerank", "http://h/v2/rerank?team=1"]


def test_azure_needs_an_address():
    with pytest.raises(InputError, match="azure: each account has its own address"): Reranker("my-model", model_type="azure", api_key=KEY)


def test_bad_addresses_are_input_errors():
    with pytest.raises(InputError, match="http"): Reranker("cohere", api_key=KEY, base_url="http://h:99999")
    with pytest.raises(InputError, match="http"): Reranker("cohere", api_key=KEY, base_url="localhost:8000")


# ---- rerankers 0.10

OLD = ["cohere", "jina", "voyage", "mixedbread.ai", "pinecone", "isaacus"]


@pytest.mark.parametrize("name", OLD)
def test_the_words_of_0_10(name):
    "With their own arguments: lang, api_key, verbose, api_provider, url"
    server = Scripted(long_is_good(ROWS[name]))
    for call in ({}, {"verbose": 0}, {"api_provider": name}, {"url": "https://proxy.example/rank"}):
        assert Reranker(name, lang="en", api_key=KEY, transport=server, **call).rank(query=QUERY, docs=DOCS, doc_ids=["a", "b", "c"]).top_k(1)[0].doc_id == "b"
    assert str(server.requests[-1].url) == "https://proxy.example/rank"
    assert Reranker("their-model", model_type=name, api_key=KEY).model == Reranker("their-model", api_provider=name, api_key=KEY).model == "their-model"
    assert Reranker("their-model", model_type="APIRanker", api_provider=name, api_key=KEY).provider.name == name


def test_a_providers_word_stands_for_its_model_as_in_0_10():
    calls = [("cohere", {"model_type": "APIRanker", "api_provider": "cohere"}), ("cohere", {"model_type": "APIRanker"}), ("api", {"api_provider": "cohere"})]
    assert {Reranker(name, api_key=KEY, **options).model for name, options in calls} == {PROVIDERS["cohere"].defaults["other"]}
    assert Reranker("mixedbread", api_key=KEY, model_type="api").provider.name == "mixedbread.ai"


def test_tei_of_0_10():
    server = Scripted(long_is_good(ROWS["text-embeddings-inference"]))
    for call in ({"model_type": "text-embeddings-inference"}, {"api_provider": "text-embeddings-inference"}):
        found = Reranker("BAAI/bge-reranker-base", api_key=KEY, url="http://gpu:8080/rerank", transport=server, **call)
        assert found.rank(QUERY, DOCS)[0].doc_id == 1 and found.score(QUERY, "Hamlet") == 1 - 1 / 7
    assert str(server.requests[0].url) == "http://gpu:8080/rerank"


def test_options_of_other_methods_are_dropped_or_named():
    assert Reranker("cohere", api_key=KEY, device="cpu", dtype="float16").model
    with pytest.raises(InputError, match="'retries'"): Reranker("cohere", api_key=KEY, retrys=1)
    with pytest.raises(InputError, match="chunk_size"): Reranker("cohere", api_key=KEY, chunk_size=0)


# ---- through litellm

def test_litellm_is_one_more_row():
    need_litellm()
    for model, sent in {"litellm/cohere/rerank-v3.5": "cohere/rerank-v3.5", "bedrock/cohere.rerank-v3-5:0": "bedrock/cohere.rerank-v3-5:0"}.items():
        found = Reranker(model, api_key=KEY)
        assert (type(found).words, found.model, found.takes_instruction) == (("litellm",), sent, False) and KEY not in repr(vars(found))
        assert pickle.loads(pickle.dumps(found)).model == sent
    with pytest.raises(InputError, match="with its prefix"): Reranker("litellm")


def test_litellms_answers_are_checked_like_the_others(monkeypatch):
    "Its own function, replaced: what it is given, an unsorted answer, a short one, a failure that passes"
    litellm = need_litellm()
    from litellm.types.rerank import RerankResponse
    calls, script = [], []

    async def arerank(**kwargs):
        calls.append(kwargs)
        step = script.pop(0)
        if isinstance(step, Exception): raise step
        return RerankResponse(id="1", results=[{"index": i, "relevance_score": s} for i, s in step], meta={"tokens": {"input_tokens": 9}})

    monkeypatch.setattr(litellm, "arerank", arerank)
    found = Reranker("litellm/vertex_ai/semantic-ranker-default-004", api_key=KEY, backoff=0.001)
    script[:] = [litellm.RateLimitError("busy", "vertex_ai", "m"), [(2, 0.3), (0, 0.1), (1, 0.9)]]
    results = found.rank(QUERY, DOCS)
    assert [r.doc_id for r in results] == [1, 2, 0] and (results.usage.retries, results.usage.input_tokens) == (1, 9)
    assert calls[0] == {"model": "vertex_ai/semantic-ranker-default-004", "query": QUERY, "documents": DOCS, "top_n": 3, "return_documents": True,
                        "timeout": 60.0, "api_key": KEY}
    script[:] = [[(0, 0.1)]]
    with pytest.raises(UnusableAnswer, match="litellm: vertex_ai/.*: 1 results for 3"): found.rank(QUERY, DOCS)
    script[:] = [litellm.AuthenticationError(f"no {KEY}", "vertex_ai", "m")]
    with pytest.raises(AuthenticationError, match="no \\*\\*\\*"): found.rank(QUERY, DOCS)
    assert "return_documents" not in request_body(LITELLM_ROW, "cohere/rerank-v3.5", QUERY, DOCS)


# ---- the whole contract

@pytest.mark.parametrize("name", ["voyage", "nvidia", "deepinfra", "text-embeddings-inference"])
def test_conformance(name):
    from rerankers.testing import check_ranker
    check_ranker(ranker(name, transport=LongIsGood(name), chunk_size=4)[0])


class LongIsGood(httpx.AsyncBaseTransport):
    "The same server, which pickle can take along"
    def __init__(self, name): self.name = name

    async def handle_async_request(self, request): return httpx.Response(200, json=long_is_good(ROWS[self.name])(json.loads(request.content)))


# ---- what is left behind

@pytest.mark.parametrize("many", [False, True], ids=["one query", "many"])
def test_a_failed_call_keeps_nothing_in_memory(many):
    "An error remembers the frames it went through; none of them may remember the error, or a model would stay until the next collection"
    found, _ = ranker("cohere", transport=httpx.MockTransport(lambda request: httpx.Response(422, json={"message": "no"})))
    alive = weakref.ref(found)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ProviderError): found.rank_many([QUERY] * 2, DOCS) if many else found.rank(QUERY, DOCS)
        del found, _
        assert becomes(lambda: alive() is None)     # the loop lets go of it in its own thread
    finally: gc.enable()


def test_a_key_that_litellm_found_by_itself_is_not_shown(monkeypatch):
    need_litellm()
    monkeypatch.setenv("COHERE_API_KEY", "sk-env/SECRET+123456")
    for status in (400, 401, 429, 500):
        with Loopback(lambda seen, status=status: Say({"message": f"bad token {seen.headers['authorization']}"}, status)) as server:
            with pytest.raises(ProviderError) as error:
                Reranker("litellm/cohere/rerank-v3.5", base_url=server.url.removesuffix("/v1"), retries=0).rank(QUERY, DOCS)
        assert server.seen[0].headers["authorization"].lower() == "bearer sk-env/secret+123456" or "SECRET" in server.seen[0].headers["authorization"]
        assert "SECRET" not in str(error.value) + repr(error.value.body)


def test_a_key_that_litellm_misses_is_asked_for_and_not_again(monkeypatch, caplog):
    need_litellm()
    caplog.set_level("INFO", logger="rerankers")
    for name in ("COHERE_API_KEY", "CO_API_KEY"): monkeypatch.delenv(name, raising=False)
    with pytest.raises(AuthenticationError, match="api_key= passes one") as error: Reranker("litellm/cohere/rerank-v3.5", backoff=5).rank(QUERY, DOCS)
    assert "Traceback" not in str(error.value) and "; again in" not in caplog.text
