"Milvus' client, which calls text-embeddings-inference"
from pymilvus.model.reranker import TEIRerankFunction
from same import QUERY, TEXTS, TOP, URL, check

# It takes up to five results, whatever top_k says
check(text_embeddings_inference=lambda: [(r.index, r.score) for r in TEIRerankFunction(api_url=URL)(QUERY, TEXTS, top_k=TOP)][:TOP])
