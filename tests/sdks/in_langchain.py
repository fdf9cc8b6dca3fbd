"LangChain's compressors for Cohere and Voyage"
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_voyageai import VoyageAIRerank
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check, position

DOCUMENTS = [Document(page_content=text) for text in TEXTS]


def by(compressor): return [(position(d.page_content), d.metadata["relevance_score"]) for d in compressor.compress_documents(DOCUMENTS, QUERY)]


check(cohere=lambda: by(CohereRerank(base_url=URL, cohere_api_key=KEY, model=MODEL, top_n=TOP)),
      voyage=lambda: by(VoyageAIRerank(base_url=f"{URL}/v1", voyage_api_key=KEY, model=MODEL, top_k=TOP)))
