"LlamaIndex's postprocessors for Cohere, Jina and text-embeddings-inference"
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check, position


def by(postprocessor):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    return [(position(n.node.get_content()), n.score) for n in postprocessor.postprocess_nodes(nodes, query_str=QUERY)]


check(cohere=lambda: by(CohereRerank(base_url=URL, api_key=KEY, model=MODEL, top_n=TOP)),
      jina=lambda: by(JinaRerank(base_url=f"{URL}/v1", api_key=KEY, model=MODEL, top_n=TOP)),
      text_embeddings_inference=lambda: by(TextEmbeddingInference(base_url=URL, auth_token=f"Bearer {KEY}", model_name=MODEL, top_n=TOP)))
