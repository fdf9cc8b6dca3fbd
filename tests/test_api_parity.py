"Hosted re-rankers: our requests and scores against the providers' own SDKs, and against litellm where it knows them"
import json
from pathlib import Path

import pytest

pytest.importorskip("httpx")
from servers import Scripted, need_litellm  # noqa: E402

from rerankers import Reranker  # noqa: E402

HERE = Path(__file__).resolve().parent
EXCHANGES = {row["provider"]: row for row in json.loads((HERE.parent / "nbs" / "backends" / "hosted_exchanges.json").read_text(encoding="utf-8"))}
SDKS = json.loads((HERE / "golden_sdk_requests.json").read_text(encoding="utf-8"))      # made by sdk_requests.py, which names the versions

# What one side sends and the other does not, each with its reason
OURS = {
    "return_documents": False,      # we never ask for documents back; SDKs leave a default of false out
    "truncate": "END",              # a long passage is cut instead of refused
    "truncation": True, "top_k": None,      # Voyage's SDK writes its defaults out
    "top_n": 3, "max_chunks_per_doc": 1024, "overlap_tokens": 80,   # LlamaIndex's own defaults for SiliconFlow; we want all documents
    "parameters": {"truncate": "END"},      # Pinecone: the same for its bge models, whose default refuses
}


def asked(provider):
    "What we send to a server at this place, and what we read of its answer"
    row = EXCHANGES[provider]
    with Scripted([row["response"]]) as server:
        ranker = Reranker(row["model"] or provider, model_type=provider, base_url=server.url.removesuffix("/v1"), api_key="key-1", retries=0)
        results = ranker.rank(row["query"], row["documents"])
    return server.seen[0], [results.get_score_by_docid(i) for i in range(len(row["documents"]))]


def differences(ours, theirs):
    "Fields that are not the same"
    pairs = {name: (ours.get(name, "absent"), theirs.get(name, "absent")) for name in ours.keys() | theirs.keys()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def allowed(found):
    "Is every difference a field of `OURS` with its value on the one side, and nothing or a null on the other?"
    return all(name in OURS and {json.dumps(value, sort_keys=True) for value in pair} <= {json.dumps(OURS[name], sort_keys=True), '"absent"', "null"}
               for name, pair in found.items())


@pytest.mark.parametrize("provider", SDKS)
def test_the_same_request_and_scores_as_the_providers_sdk(provider):
    seen, scores = asked(provider)
    golden = SDKS[provider]
    assert (seen.path, scores) == (golden["path"], golden["scores"])
    assert {name: seen.headers.get(name) for name in golden["headers"]} == golden["headers"]
    assert allowed(differences(seen.json, golden["request"])), differences(seen.json, golden["request"])


# provider -> litellm's prefix, what stands at the end of the address it is given, and the fields in which it differs, each for a reason of its own
LITELLM = {
    "cohere": ("cohere", "", {"return_documents"}),         # which Cohere's v2 does not define
    "jina": ("jina_ai", "", set()),
    "voyage": ("voyage", "/v1", {"return_documents"}),      # false is the default
    "together": ("together_ai", "/v1", set()),
    "deepinfra": ("deepinfra", "/v1", {"queries"}),         # once, or once a document: the server takes both
    "fireworks": ("fireworks_ai", "", {"model"}),           # litellm puts a prefix before a whole name
    "dashscope": ("dashscope", "/compatible-api/v1", {"return_documents"}),     # false is the default
    "scaleway": ("scaleway", "/v1", set()),
    "azure": ("azure_ai", "/providers/cohere/v2/rerank", {"return_documents"}),     # Cohere's v2 again
    "vllm": ("hosted_vllm", "/v1", {"return_documents"}),   # vLLM does not know the field
    "infinity": ("infinity", "", set()),
    "llama.cpp": ("hosted_vllm", "/v1", {"return_documents"}),     # which speaks vLLM's language
    "text-embeddings-inference": ("huggingface", "", {"return_text", "raw_scores", "truncation_direction", "truncate"}),     # defaults, but truncate:
    "nvidia": ("nvidia_nim", "", {"truncate"}),             # the same; in the path NVIDIA's own client writes the model with _ for dots, litellm does not
    "nim": ("nvidia_nim/ranking", "", {"truncate"}),        # we have a long passage cut instead of refused
}


@pytest.mark.parametrize("provider", LITELLM)
def test_the_same_request_and_scores_as_litellm(provider):
    litellm = need_litellm()
    row, (prefix, tail, differ) = EXCHANGES[provider], LITELLM[provider]
    seen, scores = asked(provider)
    with Scripted([row["response"]]) as server:
        found = litellm.rerank(model=f"{prefix}/{row['model'] or 'tei'}", query=row["query"], documents=row["documents"], api_key="key-1",
                                        return_documents=False, api_base=server.url.removesuffix("/v1") + tail)
    assert server.seen[0].path.replace(".", "_") == seen.path.replace(".", "_")
    assert set(differences(seen.json, server.seen[0].json)) == differ
    assert {r["index"]: r["relevance_score"] for r in found.results} == dict(enumerate(scores))
