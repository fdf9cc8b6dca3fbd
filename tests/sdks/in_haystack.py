"Haystack's rankers for Cohere and Jina"
import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
from haystack import Document  # noqa: E402
from haystack.utils import Secret  # noqa: E402
from haystack_integrations.components.rankers.cohere import CohereRanker  # noqa: E402
from haystack_integrations.components.rankers.jina import JinaRanker  # noqa: E402
from same import KEY, MODEL, QUERY, TEXTS, TOP, URL, check, position  # noqa: E402

SECRET = Secret.from_token(KEY)


def by(ranker):
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in TEXTS], top_k=TOP)["documents"]
    return [(position(d.content), d.score) for d in found]


check(cohere=lambda: by(CohereRanker(api_base_url=URL, api_key=SECRET, model=MODEL)),
      jina=lambda: by(JinaRanker(base_url=f"{URL}/v1/rerank", api_key=SECRET, model=MODEL)))
