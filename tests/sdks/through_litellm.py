"litellm, which speaks to the same server as to seven providers"
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"     # nothing is fetched
import litellm  # noqa: E402
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check  # noqa: E402

BASES = {"cohere": URL, "jina_ai": URL, "hosted_vllm": URL, "infinity": f"{URL}/infinity", "huggingface": URL, "voyage": URL, "litellm_proxy": URL}


def asked(provider, base):
    def ask():
        found = litellm.rerank(model=f"{provider}/{MODEL}", query=QUERY, documents=TEXTS, top_n=TOP, api_base=base, api_key=KEY)
        return [(r["index"], r["relevance_score"]) for r in found.results][:TOP]      # TEI has no top_n, so litellm gives all
    return ask


check(**{provider: asked(provider, base) for provider, base in BASES.items()})
