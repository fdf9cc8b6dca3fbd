"One interface to every way of re-ranking documents"
__version__ = "0.11.0"

from rerankers.documents import Document
from rerankers.errors import (InputError, MissingDependency, ModelLoadError, RerankersError, UnknownDocument, UnknownModel,
                              UnusableAnswer)
from rerankers.rankers import BaseRanker
from rerankers.reranker import Reranker
from rerankers.results import RankedResults, Result

__all__ = ["BaseRanker", "Document", "InputError", "MissingDependency", "ModelLoadError", "RankedResults", "RerankersError", "Reranker",
           "Result", "UnknownDocument", "UnknownModel", "UnusableAnswer"]
