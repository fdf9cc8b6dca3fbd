"The component under a name that Haystack loads from saved pipelines without being told to trust it"
from rerankers.integrations.haystack import RerankersRanker

__all__ = ["RerankersRanker"]
