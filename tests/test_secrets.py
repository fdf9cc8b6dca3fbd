"Keys, passwords, headers and queries: sent to the server, seen by nobody else"
import copy
import html
import json
import logging
import multiprocessing
import os
import pickle
import string
from base64 import b64encode
from concurrent.futures import ProcessPoolExecutor
from urllib.parse import quote

import pytest

httpx = pytest.importorskip("httpx")
from hypothesis import given
from hypothesis import strategies as st
from servers import Say, Scripted, chat, need_litellm

from rerankers import InputError, Reranker
from rerankers.web.http import Server, WebOptions
from rerankers.web.secrets import LOGGERS, Discreet, FromEnvironment, HiddenHeaders, Secret
from rerankers.errors import AuthenticationError, BadRequestError, ProviderError

DOCS = ["Goethe wrote Faust.", "Shakespeare wrote Hamlet."]
RANKING = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
SECRETS = {"key": "sk-key-1234", "password": "pass-word-5678", "query": "query-key-9012", "header": "header-key-3456"}
KINDS = ["ranker", "chat", "litellm", "litellm chat"]


def good(seen):
    return RANKING if "rerank" in seen.path else chat("[2] > [1]")


def make(kind, url):
    "A ranker of each kind, with a secret wherever one may be; below litellm a key and a login exclude each other"
    if kind.startswith("litellm"): need_litellm()
    where = url.replace("//", f"//bob:{SECRETS['password']}@")
    options = {"api_key": SECRETS["key"], "headers": {"X-Gateway-Key": SECRETS["header"]}, "retries": 0, "timeout": 60}
    query = f"?team-key={SECRETS['query']}"
    if kind == "ranker": return Reranker("m-1", model_type="cohere", base_url=where.removesuffix("/v1") + query, **options)
    if kind == "chat": return Reranker("m-1", model_type="rankgpt", base_url=where + query, **options)
    if kind == "litellm": return Reranker("litellm/cohere/m-1", base_url=url.removesuffix("/v1"), **options)
    return Reranker("hosted_vllm/m-1", model_type="rankgpt", client="litellm", base_url=url, **options)


def everything(thing, depth=6, seen=None):
    "Whatever `repr` and `vars` show of an object and of what it is made of"
    seen = set() if seen is None else seen
    if id(thing) in seen or not depth: return
    seen.add(id(thing))
    yield repr(thing)
    parts = vars(thing).values() if hasattr(thing, "__dict__") and not isinstance(thing, type) else ()
    if isinstance(thing, dict): parts = [*parts, *thing.values(), *thing]
    if isinstance(thing, (list, tuple, set)): parts = [*parts, *thing]
    if type(thing).__module__.startswith(("httpx", "asyncio", "weakref")): return     # a live connection
    for part in parts: yield from everything(part, depth - 1, seen)


def assert_unseen(*texts):
    for text in texts:
        for name, secret in SECRETS.items(): assert secret not in text, f"{name} is in {text[:300]!r}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [200, 400, 302])
def test_nobody_sees_them(kind, status, caplog):
    "In objects, errors and the logs of all libraries, where the server repeats them too"
    given = ["key", "header"] if kind.startswith("litellm") else [*SECRETS]
    echo = " ".join(SECRETS[name] for name in given)
    script = good if status == 200 else lambda seen: Say({"message": f"no {echo}"}, status, {"Location": f"/there?key={SECRETS[given[-2]]}", "X-Echo": echo})
    for name in (None, "httpx", "httpcore", *LOGGERS): caplog.set_level(logging.DEBUG, logger=name)      # litellm turns some of them off
    with Scripted(script) as server:
        ranker = make(kind, server.url)
        if status == 200: assert ranker.rank("who wrote Hamlet?", DOCS)[0].doc_id == 1
        else:
            with pytest.raises(ProviderError) as error: ranker.rank("who wrote Hamlet?", DOCS)
            assert_unseen(str(error.value), repr(error.value), repr(error.value.body))
        assert server.seen, "and the server has them"
        if not kind.startswith("litellm"):
            assert SECRETS["query"] in server.seen[0].path and server.seen[0].headers["x-gateway-key"] == SECRETS["header"]
            assert server.seen[0].headers["authorization"].startswith("Basic ")
    assert_unseen(*everything(ranker), *everything(copy.deepcopy(ranker)), *everything(pickle.loads(pickle.dumps(ranker))))
    said = [text for r in caplog.records for text in (r.getMessage(), repr(r.args), repr(r.msg))]
    assert_unseen(*said)
    if not kind.startswith("litellm"): assert [r for r in caplog.records if r.name == "httpx"], "httpx did log the request"


@pytest.mark.parametrize("query", ["key={}", "{}", "a=b&key={}", "a&{}", "key=x/{}", "key=x%2F{}"])
def test_no_form_of_a_query_is_seen(query, caplog):
    caplog.set_level(logging.DEBUG, logger="httpx")
    with Scripted([Say({"message": f"no {query.format(SECRETS['query'])}"}, 400)]) as server:
        ranker = Reranker("cohere", api_key="k", url=f"{server.url}/rank?{query.format(SECRETS['query'])}")
        with pytest.raises(BadRequestError) as error: ranker.rank("which?", DOCS)
        assert server.seen[0].path == f"/v1/rank?{query.format(SECRETS['query'])}"
    assert [r for r in caplog.records if r.name == "httpx"]
    assert_unseen(str(error.value), repr(error.value.body), repr(vars(ranker.server)), caplog.text)


def test_a_line_of_a_log_that_holds_no_secret_stays_as_it_is():
    keep, discreet = Secret("sk-1234567"), Discreet()
    lines = {("%s asked %d times", ("somebody", 3)): None, ("%s has sk-1234567", ("somebody",)): ("somebody has ***", ()), ("%d", ("no number",)): None}
    for (text, args), changed in lines.items():
        record = logging.LogRecord("httpx", logging.INFO, __file__, 1, text, args, None)
        assert discreet.filter(record) and (record.msg, record.args) == (changed or (text, args))
    assert keep.value


ODD = ["http://bob:{}@h:99999/v1?key={}", "ftp://bob:{}@h?key={}", "bob:{}@h/v1?key={}", "http://bob:{}@/?key={}", "http://bob:{}@h h?key={}"]


@pytest.mark.parametrize("address", ODD)
@pytest.mark.parametrize("word", ["cohere", "rankgpt"])
def test_an_address_that_is_none_is_shown_without_them(word, address):
    with pytest.raises(InputError, match="base_url=") as error: Reranker(word, api_key="k", base_url=address.format(SECRETS["password"], SECRETS["query"]))
    assert_unseen(str(error.value))


def test_a_login_becomes_its_header():
    "Encoded letters are those that they stand for, and the other headers stay"
    seen = []
    served = httpx.MockTransport(lambda request: seen.append(request) or httpx.Response(200, json=RANKING))
    Reranker("pinecone", api_key="k-1", base_url="http://bob%40corp:p%3Aw@h/x", transport=served, headers={"x-team": "a", "Accept-Encoding": "identity"},
             on_error="keep").rank("which?", DOCS)
    (request,) = seen
    assert request.headers["authorization"] == f"Basic {b64encode(b'bob@corp:p:w').decode()}"
    assert (request.headers["api-key"], request.headers["x-team"], request.headers["accept-encoding"], request.url.userinfo) == ("k-1", "a", "identity", b"")


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION"])
def test_a_header_of_the_callers_is_sent_once_in_any_case(name):
    seen = []
    served = httpx.MockTransport(lambda request: seen.append(request) or httpx.Response(200, json=RANKING))
    Reranker("cohere", api_key="k-1", transport=served, headers={name: "Token t-1"}).rank("which?", DOCS)
    assert [text for header, text in seen[0].headers.multi_items() if header.lower() == "authorization"] == ["Token t-1"]


@pytest.mark.parametrize("headers", [{"X-Key": "a\nb"}, {"X-Key": 7}, {"X Key": "a"}, {"": "a"}, {"X-Key": "ä"}, {7: "a"}])
def test_headers_that_cannot_be_sent(headers):
    with pytest.raises(InputError, match="headers=") as error: WebOptions(headers=headers)
    assert "a\nb" not in str(error.value)


# ---- pickles

@pytest.fixture()
def environment(monkeypatch):
    for name in ("CO_API_KEY", "OPENAI_API_KEY", "GATEWAY_KEY"): monkeypatch.setenv(name, f"parent-of-{name}")
    return monkeypatch


WHOSE = {"ranker": ("cohere", {}, "CO_API_KEY"), "chat": ("rankgpt", {"model_type": "rankgpt"}, "OPENAI_API_KEY")}


def server_of(ranker): return ranker.server if hasattr(ranker, "server") else ranker.client.server


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", WHOSE)
def test_a_key_of_the_environment_is_read_again_where_the_pickle_is_loaded(kind, protocol, environment):
    word, options, variable = WHOSE[kind]
    ranker = Reranker("gpt-4.1" if kind == "chat" else word, headers={"X-Gateway-Key": FromEnvironment("GATEWAY_KEY")}, **options)
    text = pickle.dumps(ranker, protocol)
    assert b"parent-of" not in text and variable.encode() in text
    for name in (variable, "GATEWAY_KEY"): environment.setenv(name, f"child-of-{name}")
    again = server_of(pickle.loads(text))
    assert (again.key.value, again.headers["X-Gateway-Key"]) == (f"child-of-{variable}", "child-of-GATEWAY_KEY")
    assert again.key.hide(f"bad child-of-{variable} child-of-GATEWAY_KEY") == "bad *** ***"


@pytest.mark.parametrize("kind", WHOSE)
def test_a_pickle_without_its_variable_loads_and_says_so_when_it_is_asked(kind, environment):
    word, options, variable = WHOSE[kind]
    text = pickle.dumps(Reranker("gpt-4.1" if kind == "chat" else word, **options))
    environment.delenv(variable)
    lost = pickle.loads(text)
    for on_error in ("raise", "keep"):
        lost.on_error = on_error
        with pytest.raises(AuthenticationError, match=f"pickled without its key.*{variable}") as error: lost.rank("which?", DOCS)
        assert error.value.attempts <= 1, "no second attempt brings a key"
    assert repr(server_of(lost).key) == "Secret(***)" and pickle.loads(pickle.dumps(lost))
    environment.setenv(variable, "come-later")
    assert server_of(lost).key.value == "come-later"


@pytest.mark.parametrize("kind", WHOSE)
def test_a_key_by_hand_travels(kind):
    word, options, _ = WHOSE[kind]
    ranker = Reranker("gpt-4.1" if kind == "chat" else word, api_key=SECRETS["key"], headers={"X-Gateway-Key": SECRETS["header"]}, **options)
    for twin in (pickle.loads(pickle.dumps(ranker)), copy.deepcopy(ranker), copy.copy(ranker)):
        assert (server_of(twin).key.value, server_of(twin).headers["X-Gateway-Key"]) == (SECRETS["key"], SECRETS["header"])


def test_a_copy_in_the_same_process_keeps_its_key(environment):
    ranker = Reranker("cohere")
    environment.delenv("CO_API_KEY")
    assert copy.deepcopy(ranker).server.key.value == copy.copy(ranker).server.key.value == "parent-of-CO_API_KEY"


def test_a_key_in_a_file_is_read_again(environment, tmp_path):
    (tmp_path / "key").write_text("first-key\n")
    environment.setenv("VOYAGE_API_KEY_PATH", str(tmp_path / "key"))
    text = pickle.dumps(Reranker("voyage"))
    (tmp_path / "key").write_text("second-key\n")
    assert b"first-key" not in text and pickle.loads(text).server.key.value == "second-key"
    (tmp_path / "key").unlink()
    lost = pickle.loads(text)
    with pytest.raises(AuthenticationError, match="VOYAGE_API_KEY_PATH"): lost.rank("which?", DOCS)


def first_of(ranker):
    "In another process"
    return ranker.rank("who wrote Hamlet?", DOCS)[0].doc_id


@pytest.mark.parametrize("by_hand", [True, False])
def test_spawned_processes_rank_and_a_missing_variable_is_an_error_there_and_no_silence(by_hand, environment):
    spawn = multiprocessing.get_context("spawn")
    with Scripted(good) as server:
        environment.setenv("CO_API_URL", server.url)
        ranker = Reranker("cohere", api_key=SECRETS["key"] if by_hand else None)
        with ProcessPoolExecutor(1, spawn) as pool: assert pool.submit(first_of, ranker).result(120) == 1
        assert server.seen[-1].headers["authorization"] == f"Bearer {SECRETS['key'] if by_hand else 'parent-of-CO_API_KEY'}"
        os.environ.pop("CO_API_KEY")
        with ProcessPoolExecutor(1, spawn) as pool:
            if by_hand: assert pool.submit(first_of, ranker).result(120) == 1
            else:
                with pytest.raises(AuthenticationError, match="CO_API_KEY holds nothing"): pool.submit(first_of, ranker).result(120)


# ---- keys in other letters

KEYS = st.text(string.ascii_letters + string.digits + "&<>\"'/+=%#;-_.~\\", min_size=8, max_size=40).filter(lambda key: len(set(key)) > 3)
SPELLINGS = {
    "as it is": str, "in HTML": html.escape, "in HTML, by numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "in HTML, in hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key), "in an address": quote,
    "wholly in an address": lambda key: quote(key, safe=""),
    "in an address, in small letters": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "in JSON": lambda key: json.dumps(key)[1:-1], "in JSON, escaped": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "twice in an address": lambda key: quote(quote(key, safe=""), safe=""), "HTML in an address": lambda key: quote(html.escape(key), safe=""),
}


@pytest.mark.parametrize("way", SPELLINGS)
@given(key=KEYS)
def test_any_key_in_any_spelling_is_taken_out(way, key):
    secret, told = Secret(key), SPELLINGS[way](key)
    for text in (told, f"bad key {told}!", f"<b>{told}</b> {told}"):
        hidden = secret.hide(text)
        assert "***" in hidden and key not in hidden and told not in hidden


@given(st.text(max_size=200))
def test_whatever_holds_no_secret_is_not_touched(text):
    assert Secret("no-such-key-1234", "nor-this-one-5678").hide(text) == text


@given(st.text(string.printable, max_size=300))
def test_hiding_never_fails(text):
    assert isinstance(Secret("&#37;%25\\u0025", "other-secret").hide(text), str)


HTML_KEY = "sk-a&b<c>'d\"/1234"


@pytest.mark.parametrize("written", [html.escape(HTML_KEY), HTML_KEY.replace("&", "&amp;"), "".join(f"&#{ord(c)};" for c in HTML_KEY)])
@pytest.mark.parametrize("body", ['{"message": %s}', '{"detail": [{"loc": ["header"], "msg": %s}]}', '<p>%s</p>'])
@pytest.mark.parametrize("kind", ["ranker", "chat"])
def test_a_key_in_its_html_spelling_is_hidden_in_words_and_in_the_body(kind, body, written):
    "JSON that quotes a page: no reader of HTML comes by"
    told = body % (json.dumps(f"bad key {written}") if "{" in body else f"bad key {written}")
    served = httpx.MockTransport(lambda request: httpx.Response(400, text=told))
    options = {"model_type": "rankgpt", "base_url": "http://127.0.0.1:9"} if kind == "chat" else {"model_type": "cohere"}
    with pytest.raises(BadRequestError, match=r"bad key \*\*\*") as error: Reranker("m-1", api_key=HTML_KEY, transport=served, **options).rank("which?", DOCS)
    for said in (str(error.value), json.dumps(error.value.body)): assert written not in said and html.escape(HTML_KEY) not in said and "1234" not in said


def test_short_words_are_no_secrets():
    assert Secret("abc").hide("abc def") == "abc def" and Secret("abcd").hide("abcd def") == "*** def"


def test_headers_are_compared_and_merged_like_dictionaries():
    one = HiddenHeaders({"a": "1", "b": "2"}, {"b": "3"})
    assert one == {"a": "1", "b": "3"} and dict(one) == {"a": "1", "b": "3"} and len(one) == 2
    assert WebOptions(headers={"a": "1"}) == WebOptions(headers={"a": "1"}) != WebOptions(headers={"a": "2"})


def test_a_server_shows_its_address_without_secrets():
    server = Server(f"HTTPS://bob:{SECRETS['password']}@Ranker.example/v1?key={SECRETS['query']}", name="mine")
    assert (server.base_url, repr(server)) == ("https://ranker.example/v1", "Server('https://ranker.example/v1')")
    assert server.address("/rerank") == f"https://ranker.example/v1/rerank?key={SECRETS['query']}"


@pytest.mark.parametrize("login", ["", "bob:hunter22@", "b@b:h@nter22@"])
@pytest.mark.parametrize("tail", ["/teams/a@b", "/v1?to=a@b", "/a:b@c/v1"])
def test_an_at_sign_behind_the_host_is_part_of_the_address(login, tail):
    server = Server(f"http://{login}ranker.example{tail}", name="mine")
    assert server.address("") == f"http://ranker.example{tail}" and server.base_url == f"http://ranker.example{tail.partition('?')[0]}"
