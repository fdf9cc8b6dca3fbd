"Our own rankers of hosted services, and the doctor, on our own server"
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check

from rerankers.backends.api import APIRanker
from rerankers.serve.doctor import examine

BASES = {"cohere": URL, "jina": URL, "voyage": URL, "mixedbread.ai": URL, "text-embeddings-inference": URL, "vllm": URL,
         "infinity": f"{URL}/infinity", "llama.cpp": URL}


def by(provider, base):
    def ask():
        ranker = APIRanker(MODEL, api_provider=provider, base_url=base, api_key=KEY)
        return [(r.doc_id, r.score) for r in ranker.rank(QUERY, TEXTS, doc_ids=range(len(TEXTS)), top_k=TOP)]
    return ask


check(**{provider: by(provider, base) for provider, base in BASES.items()})
for provider in ("vllm", "text-embeddings-inference"):
    found = examine(URL, provider=provider, name=MODEL, model=MODEL)
    assert not found.faults, found.rows()
    print(f"  doctor, as {provider}: ok")
