"The clients of Cohere (both versions of its interface, blocking and not), Voyage and Mixedbread"
import asyncio

import cohere
import voyageai
from mixedbread import Mixedbread
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check


def pairs(results): return [(r.index, r.relevance_score) for r in results]


def cohere_with(client): return lambda: pairs(client(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=TOP).results)


def cohere_async(client):
    async def ask(): return await client(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=TOP)
    return lambda: pairs(asyncio.run(ask()).results)


def mixedbread():
    found = Mixedbread(api_key=KEY, base_url=URL).rerank(model=MODEL, query=QUERY, input=TEXTS, top_k=TOP)
    return [(r.index, r.score) for r in found.data]


check(cohere_v1=cohere_with(cohere.Client), cohere_v2=cohere_with(cohere.ClientV2), cohere_v1_async=cohere_async(cohere.AsyncClient),
      cohere_v2_async=cohere_async(cohere.AsyncClientV2), mixedbread=mixedbread,
      voyage=lambda: pairs(voyageai.Client(api_key=KEY, base_url=f"{URL}/v1").rerank(QUERY, TEXTS, model=MODEL, top_k=TOP).results))
