"One interface to every way of re-ranking documents"
__version__ = "0.11.0"

from rerankers import models, utils  # as attributes they were there in 0.10 too
from rerankers.combine import Cascade, Fallback, Fusion
from rerankers.documents import Document
from rerankers.errors import (AuthenticationError, BadRequestError, CertificateError, ForkedError, InputError, MissingDependency, ModelLoadError,
                              NotFoundError, OutOfTime, ProviderError, ProviderTimeoutError, RateLimitError, RerankersError, ServerError, Stopped,
                              UnknownDocument, UnknownModel, UnknownToken, UnusableAnswer)
from rerankers.rankers import BaseRanker
from rerankers.reranker import Reranker
from rerankers.results import RankedResults, Result, Stage, Usage
from rerankers.specs import Spec

__all__ = ["AuthenticationError", "BadRequestError", "BaseRanker", "Cascade", "CertificateError", "Document", "Fallback", "ForkedError",
           "Fusion", "InputError", "MissingDependency", "ModelLoadError", "NotFoundError", "OutOfTime", "ProviderError",
           "ProviderTimeoutError", "RankedResults", "RateLimitError", "Reranker", "RerankersError", "Result", "ServerError", "Spec",
           "Stage", "Stopped", "UnknownDocument", "UnknownModel", "UnknownToken", "UnusableAnswer", "Usage"]
