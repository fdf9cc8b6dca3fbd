"A real language model behind real HTTP, without a network: SmolLM2-135M from PyPI, served with plain transformers, ranks a part of NovelEval"

import asyncio
import csv
import json
import math
from importlib.util import find_spec

import pytest

for module in ("torch", "transformers", "gguf", "accelerate", "httpx"):
    pytest.importorskip(module)
from servers import Model, Scripted  # noqa: E402

from rerankers import Document, Reranker  # noqa: E402
from rerankers.errors import NotFoundError  # noqa: E402
from rerankers.llm.chat import ChatRequest  # noqa: E402
from rerankers.llm.local import LocalClient  # noqa: E402
from rerankers.llm.openai import OpenAIClient  # noqa: E402

WORDS = 12  # of a passage: one core has to read it
ALL = {"extra_body": {"top_logprobs": 400}}  # as vLLM's --max-logprobs allows: among the usual 20 the rarer spellings of yes and no are missing
pytestmark = pytest.mark.usefixtures("shared_dir")
needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")  # importing it here would have it fetch its prices
CLIENTS = ["http", pytest.param("litellm", marks=needs_litellm)]


@pytest.fixture(scope="module")
def local(smollm2_folder):
    "The same weights in a client of ours"
    return LocalClient(str(smollm2_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def said():
    "What the model has written: the same is asked through several clients"
    return {}


@pytest.fixture
def server(smollm2, said):
    with Scripted(Model(*smollm2, said)) as running:
        yield running


@pytest.fixture(scope="module")
def novel(shared_dir):
    "Query number -> the query, eight of its passages, and how relevant each is"
    home = shared_dir / "data" / "novel-eval"
    read = lambda name: {row["_id"]: row["text"] for row in map(json.loads, (home / name).read_text(encoding="utf-8").splitlines())}
    queries, corpus = read("queries.jsonl"), read("corpus.jsonl")
    with (home / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        judged = [(row["query-id"], row["corpus-id"], int(row["score"])) for row in csv.DictReader(file, delimiter="\t")]

    def get(number):
        grades = {doc: grade for query, doc, grade in judged if query == str(number)}
        chosen = list(grades)[:8]
        return queries[str(number)], [Document(corpus[doc], doc_id=doc) for doc in chosen], grades

    return get


def ndcg(results, grades):
    "Of all that was ranked, with the grade as gain"
    gains = [grades[r.doc_id] for r in results]
    dcg = lambda g: sum(x / math.log2(i + 2) for i, x in enumerate(g))
    return dcg(gains) / best if (best := dcg(sorted(gains, reverse=True))) else 1.0


def check(results, docs, server, record_property, grades, name):
    "Nothing is lost, and what was used is what the server counted"
    assert sorted(r.doc_id for r in results) == sorted(d.doc_id for d in docs)
    counted = server.script.counted
    assert (results.usage.calls, results.usage.input_tokens, results.usage.output_tokens) == (len(counted), *map(sum, zip(*counted)))
    record_property(f"nDCG {name}", ndcg(results, grades))
    print(f"{name}: nDCG {ndcg(results, grades):.3f}, {results.usage}, {results.faults}")


def ask(word, client, server, **options):
    "A ranker that asks the model through httpx or litellm"
    model = {"http": "smollm2", "litellm": "hosted_vllm/smollm2"}[client]
    return Reranker(
        model, model_type=word, client=client, base_url=server.url, api_key="sk-any", max_words=WORDS, timeout=300, retries=0, concurrency=2, **options
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_it_ranks_lists(server, novel, record_property, client):
    "Windows of four over eight passages: three conversations, one after the other"
    query, docs, grades = novel(0)
    results = ask("rankgpt", client, server, recipe="rankgpt-single", window_size=4, on_error="keep", max_tokens=24).rank(query, docs)
    assert results.usage.calls == 3
    assert all((body["max_tokens"], body["temperature"], len(body["messages"])) == (24, 0, 2) for body in server.bodies)
    check(results, docs, server, record_property, grades, f"listwise, {client}")


def test_queries_side_by_side_are_counted_apart(server, novel, record_property):
    queries, lists, grades = zip(novel(1), novel(2))
    found = ask("rankgpt", "http", server, recipe="rankgpt-single", on_error="keep", max_tokens=16).rank_many(queries, lists)
    assert [sorted(r.doc_id for r in results) for results in found] == [sorted(d.doc_id for d in docs) for docs in lists]
    assert sorted((r.usage.calls, r.usage.input_tokens, r.usage.output_tokens) for r in found) == sorted((1, *counts) for counts in server.script.counted)
    for results, known in zip(found, grades):
        print(f"listwise, one window: nDCG {ndcg(results, known):.3f}")


@needs_litellm
def test_it_grades_the_same_over_http_through_litellm_and_here(local, server, novel, record_property):
    "Chances of a yes: what a server lists is what a model in this process computes"
    query, docs, grades = novel(0)
    docs = docs[:5]
    here = Reranker("smollm2", model_type="llm-yes-no", client=local, max_words=WORDS).rank(query, docs)
    expected, found = {r.doc_id: r.score for r in here}, {}
    for client in ("http", "litellm"):
        server.script.counted.clear()
        results = ask("llm-yes-no", client, server, **ALL).rank(query, docs)
        check(results, docs, server, record_property, grades, f"pointwise, {client}")
        assert results.faults == {} and results.usage.output_tokens == len(docs) and results.usage.input_tokens == here.usage.input_tokens
        found[client] = {r.doc_id: r.score for r in results}
    assert found["http"] == pytest.approx(found["litellm"], abs=1e-9)
    assert found["http"] == pytest.approx(expected, abs=1e-4)
    assert len(set(expected.values())) == len(docs), "the model tells the passages apart"


TEXT = ({"role": "user", "content": "Once upon a time there was a king. He"},)
PROMPT = ({"role": "user", "content": "Mars is called the red planet. Is Mars red? Answer yes or no.\nAnswer:"},)


def test_a_plain_completion_and_what_ends_it_are_the_same_here(local, server):
    "The prompt without a chat format; a text that ends the answer"
    client = OpenAIClient("smollm2", base_url=server.url)
    answers = lambda request: [asyncio.run(c.reply(request)) for c in (client, local)]
    for stop in ((), (".",)):
        theirs, ours = answers(ChatRequest(TEXT, max_tokens=24, raw=True, stop=stop))
        assert (theirs.text, theirs.finish) == (ours.text, ours.finish) and theirs.text
        assert stop or theirs.usage == ours.usage  # the server writes on after a stop and cuts
    assert "." not in theirs.text
    theirs, ours = answers(ChatRequest(PROMPT, choices=("yes", "no"), raw=True))
    assert [path.path for path in server.seen] == ["/v1/completions"] * 3
    assert {c: math.exp(p) for c, p in theirs.logprobs.items()} == pytest.approx({c: math.exp(p) for c, p in ours.logprobs.items()}, abs=5e-3)  # 20 are listed


def test_a_server_without_the_path_is_said_to_be_one(server):
    with pytest.raises(NotFoundError, match="no /v1/v1/chat/completions here"):
        Reranker("smollm2", model_type="rankgpt", base_url=server.url + "/v1").rank("?", ["a", "b"])
