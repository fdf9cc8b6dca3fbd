"Hosted re-rankers: our requests and scores against the providers' own SDKs, and against litellm where it knows them"
import json
from pathlib import Path

import pytest

pytest.importorskip("httpx")
from sdk_requests import exchanges  # noqa: E402
from servers import Scripted, need_litellm  # noqa: E402

from rerankers import Reranker  # noqa: E402

HERE = Path(__file__).resolve().parent
EXCHANGES = exchanges()
SDKS = json.loads((HERE / "golden_sdk_requests.json").read_text(encoding="utf-8"))      # made by sdk_requests.py, which names the versions

# What one side sends and the other does not, each with its reason
OURS = {
    "return_documents": False,      # we never ask for documents back; SDKs leave a default of false out
    "truncate": "END",              # a long passage is cut instead of refused, by Pinecone's bge models too
    "truncation": True, "max_chunks_per_doc": 1024, "overlap_tokens": 80,    # defaults that Voyage's SDK and LlamaIndex write out
    "top_n": 3, "top_k": 3,                 # we always say how many results are wanted; an SDK leaves out what its caller does not say
}


def asked(provider):
    "What we send to a server at this place, and what we read of its answer"
    row, provider = EXCHANGES[provider], provider.partition(":")[0]
    with Scripted([row["response"]]) as server:
        ranker = Reranker(row["model"] or provider, model_type=provider, base_url=server.url.removesuffix("/v1"), api_key="key-1", retries=0)
        results = ranker.rank(row["query"], row["documents"])
    return server.seen[0], [results.get_score_by_docid(i) for i in range(len(row["documents"]))]


def differences(ours, theirs):
    "Fields that are not the same, those among the parameters too"
    ours, theirs = ({**body, **body.get("parameters", {})} for body in (ours, theirs))
    for body in (ours, theirs): body.pop("parameters", None)
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


BACK = ("absent", False)
FIREWORKS = EXCHANGES["fireworks"]["model"]
QUERY = EXCHANGES["deepinfra"]["query"]

# provider -> litellm's prefix, what stands at the end of the address it is given, and the fields in which it differs: ours, litellm's, and the reason
LITELLM = {
    "cohere": ("cohere", "", {"return_documents": BACK}),       # which Cohere's v2 does not define
    "jina": ("jina_ai", "", {}),
    "voyage": ("voyage", "/v1", {"return_documents": BACK}),    # false is the default
    "together": ("together_ai", "/v1", {}),
    "deepinfra": ("deepinfra", "/v1", {"queries": ([QUERY], [QUERY] * 3)}),     # once, or once a document: the server takes both
    "fireworks": ("fireworks_ai", "", {"model": (FIREWORKS, f"fireworks/{FIREWORKS}")}),    # litellm puts a prefix before a whole name
    "dashscope": ("dashscope", "/compatible-api/v1", {"return_documents": BACK}),   # false is the default
    "scaleway": ("scaleway", "/v1", {}),
    "azure": ("azure_ai", "/providers/cohere/v2/rerank", {"return_documents": BACK}),   # Cohere's v2 again
    "vllm": ("hosted_vllm", "/v1", {"return_documents": BACK}),     # vLLM does not know the field
    "infinity": ("infinity", "", {}),
    "llama.cpp": ("hosted_vllm", "/v1", {"return_documents": BACK}),    # which speaks vLLM's language
    # litellm writes defaults out, and a field that TEI does not know, and lets the server refuse a long passage that we have cut
    "text-embeddings-inference": ("huggingface", "", {
        "top_n": ("absent", 3), "return_text": BACK, "raw_scores": BACK, "truncation_direction": ("absent", "Right"), "truncate": (True, "absent")}),
    # the same, and a top_k, which NVIDIA refuses; in the path NVIDIA's own client writes the model with _ for dots
    "nvidia": ("nvidia_nim", "", {"truncate": ("END", "absent"), "top_k": ("absent", 3)}),
    "nim": ("nvidia_nim/ranking", "", {"truncate": ("END", "absent")}),
}


@pytest.mark.parametrize("provider", LITELLM)
def test_the_same_request_and_scores_as_litellm(provider):
    litellm = need_litellm()
    row, (prefix, tail, differ) = EXCHANGES[provider], LITELLM[provider]
    seen, scores = asked(provider)
    with Scripted([row["response"]]) as server:
        found = litellm.rerank(model=f"{prefix}/{row['model'] or 'tei'}", query=row["query"], documents=row["documents"], api_key="key-1",
                                        top_n=len(row["documents"]), return_documents=False, api_base=server.url.removesuffix("/v1") + tail)
    assert server.seen[0].path.replace(".", "_") == seen.path.replace(".", "_")
    assert differences(seen.json, server.seen[0].json) == differ
    assert {r["index"]: r["relevance_score"] for r in found.results} == dict(enumerate(scores))
