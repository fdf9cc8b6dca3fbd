"`rerankers serve`: real servers on loopback, real clients, and whatever clients do to a server"
import asyncio
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager

import pytest

for package in ("starlette", "uvicorn", "httpx", "hypothesis"): pytest.importorskip(package)
import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from rerankers import Reranker
from rerankers.rankers import BaseRanker, PointwiseRanker, Ranking, make_tasks
from rerankers.errors import InputError
from rerankers.serve.app import Service, Settings, built, plan_of, serving
from rerankers.serve.dialects import ALL, DIALECTS, ERRORS, PATHS, Reading, Refused, asked, dialect_of
from rerankers.serve.queue import Lane, Limits, Observer, Work
from rerankers.backends.bm25 import BM25Ranker

PLAYS = ["Goethe wrote Faust.", "Shakespeare wrote Hamlet.", "The play is on at nine."]
QUERY = "who wrote Hamlet?"
ASK = {"query": QUERY, "documents": PLAYS}


class Gate(BM25Ranker):
    "Words counted, once the gate is open"

    def __init__(self):
        super().__init__()
        self.go, self.entered, self.queries = threading.Event(), threading.Semaphore(0), []

    def rankings(self, tasks, call):
        self.queries += [t.query for t in tasks]
        self.entered.release()
        assert self.go.wait(60)
        return super().rankings(tasks, call)


class Broken(BM25Ranker):
    "Fails on a word"

    def rankings(self, tasks, call):
        if any("boom" in t.query for t in tasks): raise RuntimeError(f"a secret: {tasks[0].query}")
        if any("exit" in t.query for t in tasks): raise SystemExit(3)
        if any("stop" in t.query for t in tasks): raise StopIteration
        if any("few" in t.query for t in tasks): return []
        return super().rankings(tasks, call)


class InOrder(BaseRanker):
    "An order without scores"
    def answer(self, tasks, call): return [Ranking(order=range(len(t.documents))) for t in tasks]


class Sees(BaseRanker):
    "The larger picture first"
    sees = sees_queries = True
    def answer(self, tasks, call): return [Ranking([float(sum(len(p.base64 or "") for p in d.pictures)) for d in t.documents]) for t in tasks]


class Counts(Observer):
    "What a server told"

    def __init__(self): self.batches, self.left, self.seen, self.more = [], 0, [], threading.Condition()

    def _note(self):
        with self.more: self.more.notify_all()

    def batch(self, done):
        self.batches.append(done)
        self._note()

    def dropped(self, model, requests):
        self.left += requests
        self._note()

    def answered(self, seen):
        self.seen.append(seen)
        self._note()

    def wait(self, true):
        with self.more: assert self.more.wait_for(true, 60)


def told_settings(**more): return Settings(access_log=False, **more)


@contextmanager
def running(rankers, observer=None, aliases=None, **more):
    "A client of a server"
    service = Service(rankers, told_settings(**more), observer=observer, aliases=aliases)
    with serving(service) as url, httpx.Client(base_url=url, timeout=60) as client: yield client


@pytest.fixture(scope="module")
def offline(): return Reranker("offline")


@pytest.fixture(scope="module")
def words():
    with running({"words": Reranker("bm25"), "order": InOrder()}, aliases={"rerank-v3.5": "words"}) as client: yield client


# ---- dialects


def test_our_own_hosted_rankers_get_the_scores_of_rank(offline):
    docs = [*PLAYS, "Hamlet is a prince of Denmark.", "Hamlet was written by Shakespeare about 1600.", "Weather: rain."]
    here = {r.doc_id: r.score for r in offline.rank(QUERY, docs)}
    with running({"minilm": offline}, keys=["k"]) as client:
        url = str(client.base_url)
        for provider in ("cohere", "jina", "voyage", "mixedbread", "tei", "vllm", "infinity", "llama.cpp"):
            base = url + "/infinity" if provider == "infinity" else url
            hosted = Reranker("minilm", model_type=provider, base_url=base, api_key="k", retries=0)
            there = {r.doc_id: r.score for r in hosted.rank(QUERY, docs)}
            assert there == pytest.approx(here, abs=offline.score_noise), provider


def shaped(answer, template):
    "Has an answer the fields of its template?"
    if isinstance(template, list): return isinstance(answer, list) and all(shaped(one, template[0]) for one in answer)
    if not isinstance(template, dict): return True
    may_miss = {"document", "text", "input", "warnings"}
    return isinstance(answer, dict) and template.keys() - may_miss <= answer.keys() and all(shaped(answer[k], template[k]) for k in answer)


texts = st.one_of(st.text(max_size=20), st.sampled_from(["Hamlet", " ", "\ud800", "\x00"]))
odd = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), texts, st.lists(texts, max_size=3), st.dictionaries(texts, texts, max_size=2))
document = st.one_of(texts, st.builds(lambda t: {"text": t}, texts), st.builds(lambda t: {"content": [{"type": "text", "text": t}]}, texts), odd)
documents = st.lists(document, max_size=5)
NAMES = sorted({name for row in DIALECTS for name in (*row.query, *row.documents, *row.top, *row.echo, *row.least, "model", "rank_fields", "instruction")})


@st.composite
def requests(draw):
    "A request of any dialect, right in most of its fields"
    path = draw(st.sampled_from(PATHS))
    row = draw(st.sampled_from([row for row in DIALECTS if path in row.paths]))
    body = {row.query[0]: draw(texts), row.documents[0]: draw(documents), **dict.fromkeys(row.told_by[:1], "x")}
    body[row.documents[0]] = draw(documents)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)): body[name] = draw(odd)
    return path, body


@settings(max_examples=25)
@given(requests())
def test_every_request_has_an_answer_or_an_error_of_its_dialect(words, request):
    path, body = request
    content = json.dumps(body).encode()
    answer = words.post(path, content=content)
    try: row = dialect_of(path, json.loads(content, parse_constant=lambda word: 1 / 0))
    except ZeroDivisionError: row = dialect_of(path)
    if answer.status_code == 200: assert shaped(answer.json(), row.answer)
    else:
        assert answer.status_code in (400, 404, 422), answer.text
        assert shaped(answer.json(), ERRORS[row.errors])
        assert answer.json().keys() == ERRORS[row.errors].keys()


def test_the_clients_of_each_service_find_their_fields(words):
    def ask(path, **body): return words.post(path, json={"query": QUERY, **body}).json()
    for path, name in (("/rerank", "vllm"), ("/v1/rerank", "cohere-v1"), ("/v2/rerank", "cohere-v2")):
        found = ask(path, documents=PLAYS, top_n=1, return_documents=True)
        assert (len(found["results"]), found["results"][0]["index"], found["results"][0]["document"]) == (1, 1, {"text": PLAYS[1]}), name
        assert found["data"][0]["document"] == PLAYS[1] and shaped(found, ALL)      # Voyage's client reads a string
    assert "document" not in ask("/v1/rerank", documents=PLAYS)["results"][0]
    assert ask("/v1/rerank", documents=PLAYS, truncate_prompt_tokens=9)["results"][0]["document"] == {"text": PLAYS[1]}
    assert ask("/v2/rerank", documents=PLAYS, relevant_spans={"mode": "x"})["meta"]["warnings"] == ["relevant_spans has no effect here"]
    assert [row.keys() for row in ask("/rerank", texts=PLAYS)] == [{"index", "score"}] * 3
    mixed = ask("/v1/reranking", input=[{"title": "Hamlet", "text": "a play"}, "nothing"], rank_fields=["title"], top_k=1, return_input=True)
    assert (mixed["data"][0]["index"], mixed["data"][0]["input"], mixed["top_k"]) == (0, {"title": "Hamlet", "text": "a play"}, 1)
    assert [row["document"] for row in ask("/infinity/rerank", documents=PLAYS, return_documents=True)["results"]][0] == PLAYS[1]
    assert [row["document"] for row in ask("/weaviate/rerank", documents=PLAYS)["scores"]] == PLAYS
    assert ask("/reranking", documents=PLAYS, top_n=0)["results"] == [] and len(ask("/rerank", documents=PLAYS, top_n=0)["results"]) == 3


def test_pairs_are_scored_in_their_order(words):
    here = Reranker("bm25")
    each = words.post("/v1/score", json={"text_1": ["who wrote Faust?", QUERY], "text_2": PLAYS[:2]}).json()["data"]
    assert [row["score"] for row in each] == pytest.approx([here.score("who wrote Faust?", PLAYS[0]), here.score(QUERY, PLAYS[1])])
    one = words.post("/score", json={"queries": QUERY, "documents": PLAYS}).json()["data"]
    scores = {r.doc_id: r.score for r in here.rank(QUERY, PLAYS)}
    assert [row["index"] for row in one] == [0, 1, 2] and [row["score"] for row in one] == pytest.approx([scores[i] for i in range(3)])
    assert words.post("/score", json={"text_1": ["a", "b"], "text_2": PLAYS}).json()["error"]["param"] == "text_1"


def test_an_order_without_scores_falls_evenly(words):
    found = words.post("/v1/rerank", json={**ASK, "model": "order", "min_score": 0.5}).json()["results"]
    assert [(row["index"], row["relevance_score"]) for row in found] == [(0, 1.0), (1, pytest.approx(2 / 3))]


def test_models_are_found_by_name_alias_and_default(words):
    def status(**more): return words.post("/v2/rerank", json={**ASK, **more}).status_code
    assert [status(), status(model="words"), status(model="rerank-v3.5"), status(model="word"), status(model=3)] == [200, 200, 200, 404, 400]
    assert words.post("/v2/rerank", json={**ASK, "model": "order"}).json()["model"] == "order"
    with running({"words": Reranker("bm25")}, any_model=True) as client: assert client.post("/rerank", json={**ASK, "model": "gpt"}).status_code == 200


def test_paths_that_rank_nothing(words):
    for path in ("/health", "/ping", "/info", "/v1/models", "/openapi.json", "/weaviate/meta"): assert words.get(path).status_code == 200, path
    assert [words.get(f"/weaviate/.well-known/{name}").status_code for name in ("ready", "live")] == [204, 204]
    assert (words.get("/v1/rerank").status_code, words.post("/nowhere").status_code, words.delete("/health").status_code) == (405, 404, 405)
    assert (words.get("/v1/rerank").headers["allow"], words.delete("/health").headers["allow"]) == ("POST", "GET")


# ---- safety


def test_keys():
    with running({"words": Reranker("bm25")}, keys=["one", "two"]) as client:
        def status(path, key=None):
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            return (client.get if path == "/health" else client.post)(path, headers=headers, **({} if path == "/health" else {"json": ASK})).status_code
        assert [status("/v2/rerank", key) for key in ("one", "two", "three", "on", None)] == [200, 200, 401, 401, 401]
        assert client.post("/v2/rerank", json=ASK, headers={"Authorization": "one"}).status_code == 401
        assert client.post("/v2/rerank", json=ASK, headers={"Authorization": "Basic one"}).status_code == 401
        assert status("/health") == 200
        assert client.get("/v1/models").status_code == 401
        for path in ("/v1/models", "/v2/rerank"):       # old versions of Starlette join the path to what the client calls the host
            assert client.request("POST", path, json=ASK, headers={"Host": "x/health?"}).status_code == 401, path
    with pytest.raises(InputError, match="ASCII"): Settings(keys=["schl\u00fcssel"])
    assert Settings(keys=iter(["one"])).lets_in("Bearer one") and not Settings(keys=iter(["one"])).lets_in(None)


def test_a_body_that_is_compressed_or_nested_too_deep_is_the_clients_mistake(words):
    squeezed = words.post("/v2/rerank", content=gzip.compress(json.dumps(ASK).encode()), headers={"Content-Encoding": "gzip"})
    assert squeezed.status_code == 400 and "gzip" in squeezed.json()["message"]
    deep = '{"query": "a", "rank_fields": ["x"], "documents": [{"x": ' + "[" * 500 + "]" * 500 + "}]}"
    refused = words.post("/v1/rerank", content=deep)
    assert refused.status_code == 400 and "documents[0]" in refused.json()["message"]


def test_a_large_body_is_refused_while_it_comes(words):
    with running({"words": Reranker("bm25")}, max_body=100_000) as client:
        def chunks():
            for _ in range(1000): yield b"x" * 1000
        assert client.post("/rerank", content=b"x" * 100_001).status_code == 413
        try: assert client.post("/rerank", content=chunks()).status_code == 413
        except (httpx.WriteError, httpx.ReadError): pass     # the server hangs up while the client still writes
        assert client.post("/rerank", json=ASK).status_code == 200
    assert words.post("/v2/rerank", json={**ASK, "documents": ["x" * 10_000_001]}).status_code == 413


def test_a_thousand_documents_fit_and_the_bound_is_named(words):
    many = [f"document {i}" for i in range(10_001)]
    assert len(words.post("/rerank", json={"query": "document 7", "documents": many[:1000]}).json()["results"]) == 1000
    refused = words.post("/v2/rerank", json={"query": "document 7", "documents": many})
    assert refused.status_code == 400 and "documents" in refused.json()["message"]


def test_a_body_that_does_not_come_is_given_up():
    with running({"words": Reranker("bm25")}, body_seconds=0.2) as client:
        url = httpx.URL(client.base_url)
        with socket.create_connection((url.host, url.port)) as line:
            line.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert line.recv(1000).startswith(b"HTTP/1.1 408")
        assert client.post("/rerank", json=ASK).status_code == 200


def test_garbage_hurts_nobody(words):
    url = httpx.URL(words.base_url)
    for said in (b"\x00\xff\x16\x03\x01", b"GET\r\n\r\n", b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection((url.host, url.port)) as line:
            line.sendall(said)
            assert line.recv(1000).startswith(b"HTTP/1.1 400")
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"query": NaN}', b'{"a": ' + b"9" * 5000 + b"}"):
        assert words.post("/rerank", content=content).status_code == 400, content[:9]


def test_pictures_are_shown_and_files_are_not_opened(tmp_path):
    secret = tmp_path/"secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 99)
    red = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    shapes = [{"image": red}, {"content": [{"type": "image_url", "image_url": {"url": red}}]}, {"image": red.partition(",")[2]}]
    forbidden = [str(secret), f"file://{secret}", "http://127.0.0.1:1/a.png", {"path": str(secret)}, "data:image/png;base64"]
    with running({"sees": Sees(), "words": Reranker("bm25")}) as client:
        def ask(*documents, **more): return client.post("/v1/rerank", json={"query": "red", "documents": ["x", *documents], **more})
        for shape in shapes: assert ask(shape).json()["results"][0]["index"] == 1
        for form in ("image", "image_url"):
            for given in forbidden: assert ask({form: given}).status_code == 400, given
        assert ask({"text": "x", "image_path": str(secret)}).json()["results"][0]["relevance_score"] == 0     # not a field for clients
        assert client.post("/rerank", json={"query": {"image": red}, "documents": ["x"]}).status_code == 200
        refused = ask({"image": red}, model="words")
        assert refused.status_code == 400 and "only reads" in refused.json()["message"]


def test_the_log_has_neither_texts_nor_keys(caplog):
    caplog.set_level(logging.INFO, "rerankers")
    service = Service({"broken": Broken()}, Settings(keys=["sesame"]))
    with serving(service) as url, httpx.Client(base_url=url, headers={"Authorization": "Bearer sesame"}) as client:
        for query in ("privately", "boom privately"): client.post("/rerank?key=sesame", json={"query": query, "documents": ["classified"]})
    assert "privately" not in caplog.text and "classified" not in caplog.text and "sesame" not in caplog.text
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "rerankers.serve"]
    assert [line["status"] for line in lines if "status" in line] == [200, 500]
    assert {"id", "path", "model", "documents", "seconds", "dialect"} <= lines[1].keys()
    assert any("RuntimeError" in r.getMessage() and "test_serve.py" in r.getMessage() for r in caplog.records)


# ---- queue


def test_what_arrives_while_a_model_works_is_ranked_together_and_who_left_is_dropped():
    gate, counts = Gate(), Counts()
    with running({"gate": gate}, counts, batch_seconds=1e9) as client:
        url = httpx.URL(client.base_url)

        async def clients():
            async with httpx.AsyncClient(base_url=url, timeout=60) as several:
                def ask(i): return asyncio.ensure_future(several.post("/rerank", json={**ASK, "query": f"who wrote Hamlet {i}?"}))
                first = ask(0)
                await asyncio.to_thread(gate.entered.acquire)
                rest = [ask(i) for i in range(1, 20)]
                lane_full = asyncio.to_thread(counts.wait, lambda: waiting() == 19)
                await lane_full
                for one in rest[:9]: one.cancel()
                await asyncio.to_thread(counts.wait, lambda: sum(s.failure == "gone" for s in counts.seen) == 9)
                gate.go.set()
                return await asyncio.gather(first, *rest[9:])

        counts.queued = lambda model, requests, pairs: (counts.__dict__.update(now=requests), counts._note())
        def waiting(): return counts.__dict__.get("now", 0)
        answers = asyncio.run(clients())
    assert [a.status_code for a in answers] == [200] * 11
    assert [b.requests for b in counts.batches] == [1, 10] and counts.left == 9
    assert len(gate.queries) == 11      # nobody's work was done for nobody


def test_a_request_that_is_late_is_given_up():
    gate = Gate()
    with running({"gate": gate}) as client:
        late = client.post("/v2/rerank", json=ASK, headers={"X-Request-Timeout": "0.2"})
        tei = client.post("/rerank", json={"query": QUERY, "texts": PLAYS}, headers={"X-Request-Timeout": "0.2"})
        odd = [client.post("/rerank", json=ASK, headers={"X-Request-Timeout": value}).status_code for value in ("soon", "-1", "nan")]
        gate.go.set()
        assert (late.status_code, tei.json()["error_type"], odd) == (504, "Backend", [400, 400, 400])
        assert client.post("/v2/rerank", json=ASK).status_code == 200
    assert gate.queries == [QUERY, QUERY]       # the second one had left the queue before the model was free


def test_a_slow_model_is_given_less_at_once():
    lane = Lane("words", Reranker("bm25"), Limits(tokens=1000, seconds=0.5))
    assert lane.room == 1000
    for spent, room in (((10, 100, 1.0), 50), ((10, 1900, 1.0), 500), ((10, 10**6, 1.0), 1000)):    # of all batches so far
        lane.speed.append(spent)
        assert lane.room == room
    lane.close()


def test_a_full_queue_says_when_to_come_again():
    gate, counts = Gate(), Counts()
    counts.queued = lambda model, requests, pairs: (counts.__dict__.update(now=pairs), counts._note())
    with running({"gate": gate}, counts, max_waiting=5) as client:
        def ask(found): found.append(client.post("/rerank", json=ASK).status_code)
        found, threads = [], []
        for waits in (0, 3):
            threads.append(threading.Thread(target=ask, args=(found,)))
            threads[-1].start()
            gate.entered.acquire() if not waits else counts.wait(lambda: counts.__dict__.get("now") == 3)
        refused = {path: client.post(path, json=body) for path, body in
                   (("/v2/rerank", ASK), ("/rerank", {"query": QUERY, "texts": PLAYS}), ("/v1/rerank", ASK))}
        gate.go.set()
        for thread in threads: thread.join()
    assert [(r.status_code, r.headers["retry-after"]) for r in refused.values()] == [(429, "1")] * 3
    assert refused["/rerank"].json()["error_type"] == "Overloaded" and found == [200, 200]


def test_one_bad_request_does_not_hurt_its_batch_and_one_broken_model_not_the_others():
    batch = [Work([task_of(query)], 10) for query in ("boom", QUERY, "exit", QUERY, "stop", "few")]

    async def together():
        lane, calm = Lane("broken", Broken()), Lane("calm", Reranker("bm25"))
        first = lane.put(Work([task_of(QUERY)], 10))
        found = await asyncio.gather(first, *map(lane.put, batch), calm.put(Work([task_of(QUERY)], 10)), return_exceptions=True)
        again = await lane.put(Work([task_of(QUERY)], 10))
        for one in (lane, calm): one.close()
        return found, again
    found, again = asyncio.run(together())
    assert [type(one).__name__ for one in found] == ["list", "RuntimeError", "list", "RuntimeError", "list", "RuntimeError", "RuntimeError", "list"]
    assert again[0].best_first()[0] == 1
    with running({"broken": Broken(), "calm": Reranker("bm25")}) as client:
        def status(query, model): return client.post("/rerank", json={"query": query, "documents": PLAYS, "model": model}).status_code
        assert [status("boom", "broken"), status("exit", "broken"), status(QUERY, "calm"), status(QUERY, "broken")] == [500, 500, 200, 200]
        assert "secret" not in client.post("/rerank", json={"query": "boom", "texts": PLAYS}).text


def task_of(query):
    return make_tasks([query], [PLAYS])[0]


def test_who_brings_an_instruction_has_a_batch_of_his_own():
    heard = []

    class Heeds(BM25Ranker):
        takes_instruction = True

        def rankings(self, tasks, call):
            heard.append((self.instruction, len(tasks)))
            return super().rankings(tasks, call)

    with running({"heeds": Heeds(), "words": Reranker("bm25")}) as client:
        assert client.post("/rerank", json={**ASK, "instruction": "news first"}).status_code == 200
        refused = client.post("/rerank", json={**ASK, "instruction": "news first", "model": "words"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "instruction")

    async def several():
        lane = Lane("heeds", Heeds(), Limits(seconds=1e9))
        works = [Work([task_of(QUERY)], 10, instruction) for instruction in ("x", "a", "b", "a", "b")]
        await asyncio.gather(*map(lane.put, works))
        lane.close()
    asyncio.run(several())
    assert heard[1:] == [("x", 1), ("a", 2), ("b", 2)]


def test_a_large_request_goes_in_pieces_between_which_others_are_served(offline):
    counts, many = Counts(), [f"play {i}: {'words ' * (i % 7)}" for i in range(60)]
    with running({"offline": offline}, counts, batch_tokens=100) as client: answer = client.post("/rerank", json={"query": QUERY, "documents": many})
    here = {r.doc_id: r.score for r in offline.rank(QUERY, many)}
    assert {row["index"]: row["relevance_score"] for row in answer.json()["results"]} == pytest.approx(here, abs=offline.score_noise)
    assert len(counts.batches) > 5 and sum(b.pairs for b in counts.batches) == 60
    pairs = Lane("offline", offline, Limits(tokens=20))

    async def of_many():
        asks = [(f"query {i}", PLAYS[:1 + i % 3]) for i in range(9)]
        work = Work(make_tasks(*zip(*asks)), 500)
        return asks, await pairs.put(work)
    asks, found = asyncio.run(of_many())
    pairs.close()
    for (query, docs), ranking in zip(asks, found):
        assert ranking.scores == pytest.approx([offline.score(query, d) for d in docs], abs=offline.score_noise)


def test_neither_a_large_request_nor_the_small_ones_beside_it_starve():
    heard = []
    class Hears(PointwiseRanker):
        def score_pairs(self, pairs, call):
            heard.append(pairs[0][0])
            return [1.0] * len(pairs)

    async def clients():
        lane = Lane("hears", Hears(), Limits(tokens=40, seconds=1e9))
        def put(query, documents): return lane.put(Work(make_tasks([query], [["some words"] * documents]), 4 * documents))
        large = [put(name, 2000) for name in ("large", "other")]
        for _ in range(30): await put("small", 1)
        assert not any(one.done() for one in large)
        small = [put("small", 1) for _ in range(800)]
        await asyncio.gather(*large, *small)
        lane.close()
    asyncio.run(clients())
    turns = [i for i, query in enumerate(heard) if query == "small"]
    assert max(b - a for a, b in zip(turns, turns[1:])) <= 5        # a piece of each large one, and those that were under way
    among = heard[turns[30]:turns[-1]]
    assert 3 * min(among.count("large"), among.count("other")) > among.count("small")   # they get on while small ones wait


def test_a_queue_holds_what_it_may_hold_and_is_empty_in_the_end():
    go, entered = threading.Event(), threading.Event()
    class Held(PointwiseRanker):
        def score_pairs(self, pairs, call):
            entered.set()
            assert go.wait(60) and pairs[0][0] != "boom"
            return [1.0] * len(pairs)

    async def clients():
        lane = Lane("held", Held(), Limits(waiting=6, tokens=8, seconds=1e9))
        def put(documents, query="who?"): return lane.put(Work(make_tasks([query], [["some words"] * documents]), 4 * documents))
        first = put(1)
        await asyncio.to_thread(entered.wait)
        rest = [put(5)]         # in pieces
        await asyncio.sleep(0)
        rest.append(put(1))
        with pytest.raises(Refused, match="6 pairs"): put(1)
        go.set()
        await asyncio.gather(first, *rest)
        assert lane.pairs == 0
        with pytest.raises(AssertionError): await put(9, "boom")
        assert lane.pairs == 0
        lane.close()
    asyncio.run(clients())


def test_bounds_are_bounds():
    row = dialect_of("/v1/rerank")
    asked(row, {"query": "a", "documents": ["a", "b"]}, Reading(documents=2))
    with pytest.raises(Refused, match="takes 2"): asked(row, {"query": "a", "documents": ["a", "b", "c"]}, Reading(documents=2))
    with running({"order": InOrder()}, max_body=1000) as client:
        least = [len(client.post("/rerank", json={**ASK, "min_score": s}).json()["results"]) for s in (1, 1.01, 0)]
        assert least == [1, 0, 3]
        for size, status in ((1000, 200), (1001, 413)):
            body = json.dumps(ASK).encode().ljust(size)
            assert [client.post("/rerank", content=content).status_code for content in (body, iter([body[:500], body[500:]]))] == [status] * 2
    gate = Gate()
    with running({"gate": gate}, timeout=0.1) as client:
        assert client.post("/rerank", json=ASK, headers={"X-Request-Timeout": "1000"}).status_code == 504
        gate.go.set()


def test_a_server_may_stand_before_another_and_its_failures_are_told(words):
    url = str(words.base_url)
    def hosted(model, **options): return Reranker(model, model_type="cohere", base_url=url, api_key="k", retries=0, **options)
    away = Reranker("x", model_type="tei", base_url="http://127.0.0.1:9", retries=0)
    with running({"words": hosted("words"), "none": hosted("none"), "away": away}) as client:
        found = client.post("/v2/rerank", json=ASK).json()
        assert found["results"] == words.post("/v2/rerank", json=ASK).json()["results"] and found["usage"]["total_tokens"] > 0
        for model in ("none", "away"):
            refused = client.post("/v2/rerank", json={**ASK, "model": model})
            assert refused.status_code == 502 and refused.json()["message"], model


def test_hosted_methods_wait_side_by_side_and_listwise_ones_are_asked_one_by_one(offline):
    with running({"minilm": offline}) as client:
        hosted = Lane("hosted", Reranker("minilm", model_type="cohere", base_url=str(client.base_url), api_key="k"), Limits(concurrency=4))
        assert (hosted.width, hosted.alone) == (4, True)

        async def all_of_them():
            return await asyncio.gather(*(hosted.put(Work([task_of(QUERY)], 10)) for _ in range(9)))
        assert [one[0].best_first()[0] for one in asyncio.run(all_of_them())] == [1] * 9
        hosted.close()
    listwise = Lane("listwise", type("Listwise", (InOrder,), {"order_free": False})())
    assert (listwise.width, listwise.alone) == (1, True)


def test_names_and_types_of_a_plan_are_checked():
    bm25 = Reranker("bm25")
    for aliases in ({"x": "nobody"}, {"b": "a"}):
        with pytest.raises(InputError, match="alias"): Service({"a": bm25, "b": bm25}, aliases=aliases)
    with pytest.raises(InputError, match="host"): Settings(host=5)
    if sys.version_info < (3, 11): pytest.skip("tomllib came with Python 3.11")
    with pytest.raises(InputError, match="models.a.spec"): plan_of("[models.a]\nspec = 5")
    with pytest.raises(InputError, match="file of keys"): built(plan_of("keys_file = 5\n[models]\na = 'bm25'"))


# ---- load


def test_sixty_four_clients_lose_nothing():
    counts, clients, each = Counts(), 64, 3
    here = Reranker("bm25")

    def texts_of(client, i): return [f"play {client} of {i}", f"play {i + 1}", f"the other {client}", "Hamlet"]

    async def all_clients(url):
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=clients)) as several:
            async def one(client):
                found = []
                for i in range(each):
                    answer = await several.post("/v1/rerank", json={"query": f"play {client}", "documents": texts_of(client, i), "return_documents": True})
                    found.append((client, i, answer))
                return found
            return [row for rows in await asyncio.gather(*map(one, range(clients))) for row in rows]

    with running({"words": Reranker("bm25")}, counts, batch_seconds=1e9) as client: answers = asyncio.run(all_clients(client.base_url))
    assert Counter(a.status_code for _, _, a in answers) == {200: clients * each}
    for client, i, answer in answers:
        rows = answer.json()["results"]
        best = here.rank(f"play {client}", texts_of(client, i))
        assert [row["document"]["text"] for row in rows] == [r.text for r in best]
        assert [row["relevance_score"] for row in rows] == pytest.approx([r.score for r in best])
    assert sum(b.requests for b in counts.batches) == clients * each > len(counts.batches)


# ---- the program


@contextmanager
def program(*arguments, **environment):
    "`rerankers serve` in a process of its own, its address and its log"
    process = subprocess.Popen([sys.executable, "-m", "rerankers.cli", "serve", *arguments, "--port", "0"], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **environment})
    try: yield process, json.loads(process.stderr.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_server_that_is_told_to_stop_finishes_what_it_has_accepted(tmp_path):
    keys = tmp_path/"keys"
    keys.write_text("# ours\nsesame\n", encoding="utf-8")
    body = json.dumps(ASK).encode()
    head = f"POST /v2/rerank HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with program("words=bm25", "--keys-file", str(keys)) as (process, ready):
        url = httpx.URL(ready["address"])
        with socket.create_connection((url.host, url.port)) as line, httpx.Client(base_url=url) as client:
            line.sendall(head + body[:9])
            assert client.post("/v2/rerank", json=ASK).status_code == 401
            assert client.get("/health").status_code == 200
            process.send_signal(signal.SIGTERM)
            statuses = []
            while 503 not in statuses: statuses.append(client.get("/health").status_code)
            refused = client.post("/v2/rerank", json=ASK, headers={"Authorization": "Bearer sesame"})
            line.sendall(body[9:])
            answer = line.recv(10_000)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "30"
        assert answer.startswith(b"HTTP/1.1 200") and process.wait(60) == 0
        log = process.stderr.read()
        assert "sesame" not in log and "Hamlet" not in log and '"status": 200' in log


def test_nothing_that_was_accepted_is_lost_when_a_server_stops_under_load():
    with program("words=bm25") as (process, ready):
        answers, begun = [], threading.Semaphore(0)

        def client():
            with httpx.Client(base_url=ready["address"], timeout=60) as own:
                while not answers or answers[-1] == 200:
                    try: answers.append(own.post("/v2/rerank", json=ASK).status_code)
                    except httpx.TransportError: return     # nobody listens any more
                    begun.release()

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads: thread.start()
        for _ in range(40): begun.acquire()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        for thread in threads: thread.join()
    told = Counter(json.loads(line)["status"] for line in log.splitlines() if "status" in line)
    assert told[200] == answers.count(200) >= 40 and told[503] == answers.count(503)
    assert set(told) <= {200, 503} and process.returncode == 0


HANGS = """
import sys, threading
from rerankers.backends.bm25 import BM25Ranker
from rerankers.cli import main
rank = BM25Ranker.rankings
def hang(self, tasks, call):
    if any("Hamlet" in t.query for t in tasks): threading.Event().wait()
    return rank(self, tasks, call)
BM25Ranker.rankings = hang
sys.exit(main(["serve", "words=bm25", "--port", "0", "--stop-seconds", "0.5"]))
"""


def test_a_model_that_hangs_holds_up_no_stop():
    process = subprocess.Popen([sys.executable, "-c", HANGS], stderr=subprocess.PIPE, text=True)
    try:
        url, answers = json.loads(process.stderr.readline())["address"], []
        def ask(): answers.append(httpx.post(url + "/rerank", json={"query": QUERY, "texts": PLAYS}, timeout=60))
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads: thread.start()
        while 'rerankers_requests' not in (page := httpx.get(url + "/metrics").text) or 'queue_requests{model="words"} 1.0' not in page: pass
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        for thread in threads: thread.join()
    finally: process.kill()
    assert [(a.status_code, a.json()["error_type"]) for a in answers] == [(503, "Unhealthy")] * 2
    assert process.returncode == 0 and "stopped in the middle" in log and "Traceback" not in log


def test_mistakes_of_who_starts_a_server_are_named(capsys, tmp_path):
    from rerankers.cli import main
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, missing = str(taken.getsockname()[1]), str(tmp_path/"none")
        cases = {"is called": ["bm25", "bm25"], "cannot listen": ["bm25", "--port", port], "file of keys": ["bm25", "--keys-file", missing],
                 "--config": ["--config", missing], "bm26": ["bm26"]}
        for word, arguments in cases.items():
            assert main(["serve", *arguments]) == 1
            said = capsys.readouterr().err
            assert word.replace("is called", "two models are called") in said and said.count("\n") == 1, said


def test_a_file_describes_a_server(tmp_path):
    if sys.version_info < (3, 11): pytest.skip("tomllib came with Python 3.11")
    plan = tmp_path/"server.toml"
    plan.write_text('stop_seconds = 1\n[models]\nwords = "bm25"\n[models.two]\nspec = "bm25:2 > bm25"\naliases = ["rerank-v3.5"]\n', encoding="utf-8")
    with program("--config", str(plan)) as (process, ready):
        assert ready["models"] == ["words", "two"]
        assert httpx.post(ready["address"] + "/v2/rerank", json={**ASK, "model": "rerank-v3.5"}).json()["model"] == "two"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
