"What a server says of itself: the numbers at /metrics as Prometheus' own parser reads them, and the page at / as a browser does"
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

for package in ("starlette", "uvicorn", "httpx", "prometheus_client"): pytest.importorskip(package)
import httpx
from prometheus_client.parser import text_string_to_metric_families

from rerankers import Reranker
from rerankers.backends.bm25 import BM25Ranker
from rerankers.serve.app import Service, Settings, serving
from rerankers.serve.queue import Batch, Seen
from rerankers.serve.status import BARS, Times, Watch, picture, status_page, watched

ASK = {"query": "who wrote Hamlet?", "documents": ["Goethe wrote Faust.", "Shakespeare wrote Hamlet."]}
NAME = "<i>words</i>"       # of a model; whoever starts a server may call it so


class Broken(BM25Ranker):
    "Fails"
    def rankings(self, tasks, call): raise RuntimeError("boom")


def numbers(text):
    "(name, labels) -> value, for every sample"
    return {(s.name, frozenset(s.labels.items())): s.value for family in text_string_to_metric_families(text) for s in family.samples}


def total(found, name, **labels): return sum(v for (n, own), v in found.items() if n == name and set(labels.items()) <= own)


@pytest.fixture(scope="module")
def said():
    "The pages of a server after five rankings, of which three succeeded, and three other requests"
    service = Service({NAME: Reranker("bm25"), "broken": Broken()}, Settings(access_log=False, keys=["k"]), **watched())
    with serving(service) as url, httpx.Client(base_url=url, headers={"authorization": "Bearer k"}) as client:
        assert [client.post("/v2/rerank", json=ASK).status_code for _ in range(2)] == [200, 200]
        assert client.post("/rerank", json={"query": "who?", "texts": ["he"]}).status_code == 200
        assert client.post("/v2/rerank", json={**ASK, "model": "broken"}).status_code == 500
        assert client.post("/v2/rerank", json={"query": "who?"}).status_code == 400
        assert client.post("/v2/rerank", json={**ASK, "model": "unknown"}).status_code == 404
        assert client.post("/v2/rerank", json=ASK, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/health").status_code == 200
        yield [httpx.get(url + path) for path in ("/metrics", "/")]     # without a key


def test_requests_are_counted_by_how_they_ended(said):
    found = numbers(said[0].text)
    assert said[0].headers["content-type"].startswith("text/plain; version=0.0.4")
    assert total(found, "rerankers_requests_total", outcome="ok", model=NAME) == 3 == total(found, "te_request_success")
    assert {kind: total(found, "rerankers_requests_total", outcome=kind) for kind in ("model", "validation", "unknown", "key")} == \
        {"model": 1, "validation": 1, "unknown": 1, "key": 1}
    assert total(found, "te_request_count") == 7 and total(found, "te_request_failure") == 4
    assert total(found, "te_request_failure", err="inference") == total(found, "te_request_failure", err="model_type") == 1
    assert total(found, "rerankers_documents_total") == 5


def test_time_is_told_by_stage_and_batches_by_size(said):
    found = numbers(said[0].text)
    for stage in ("read", "queue", "model", "total"):
        assert total(found, "rerankers_request_seconds_count", stage=stage, model=NAME) == 3
    assert total(found, "rerankers_request_seconds_sum", stage="total") >= total(found, "rerankers_request_seconds_sum", stage="model") > 0
    assert total(found, "rerankers_batch_pairs_sum", model=NAME) == 5 and total(found, "rerankers_batch_tokens_sum", model=NAME) > 5
    assert 0 <= total(found, "rerankers_batch_padding_sum", model=NAME) < total(found, "rerankers_batch_padding_count", model=NAME)
    assert total(found, "rerankers_queue_pairs") == total(found, "te_queue_size") == 0
    theirs = {name for name, _ in found if name.startswith("te_")}
    assert {f"te_request_{stage}duration_bucket" for stage in ("", "tokenization_", "queue_", "inference_")} <= theirs
    assert {"te_batch_next_size_count", "te_batch_next_tokens_sum", "te_request_input_length_sum"} <= theirs


class Page(HTMLParser):
    "Tags and texts of a page"
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "line"): self.open.append(tag)

    def handle_startendtag(self, tag, attrs): self.tags.append((tag, dict(attrs)))
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.texts.append(data)


def test_the_page_is_whole_and_escaped(said):
    page = Page(said[1].text)
    assert said[1].headers["content-type"].startswith("text/html") and "default-src 'none'" in said[1].headers["content-security-policy"]
    assert page.open == [] and NAME in page.texts and "broken" in page.texts
    assert not {tag for tag, _ in page.tags} & {"script", "i-words", "img", "link", "iframe"}
    assert ("i", {}) not in page.tags and sum(tag == "svg" for tag, _ in page.tags) == 1    # one model has no success to draw
    assert "No request so far." in page.texts and "is ready" in said[1].text


def test_the_picture_holds_the_last_requests_and_odd_times():
    watch = Watch(["m"])
    for i in range(BARS + 30):
        watch.batch(Batch("m", 1, 2, 10, 5, 0.5))
        watch.answered(Seen(str(i), "POST", "/rerank", 200, "tei", "m", documents=2, seconds={"total": 10.0 ** (i % 7 - 4), "queue": 9.0, "model": 0.0}))
    watch.answered(Seen("last", "POST", "/rerank", 422, "tei", "m", "validation", seconds={"total": 1e9}))
    drawn = ElementTree.fromstring(picture(watch.of("m").times))
    assert len(drawn.findall("g")) == BARS and watch.of("m").speed == 4.0
    for rect in drawn.iter("rect"): assert all(float(rect.get(side)) >= 0 for side in ("x", "y", "width", "height"))
    page = status_page(watch, {"m": "a model"}, version="1", running=7200, stopping=True)
    assert "is stopping" in page and "2 h 0 min" in page and "failed" in page
    for times in ([], [Times(0.0)], [Times(1e-9, 1.0, 1.0)]): ElementTree.fromstring(picture(times))
