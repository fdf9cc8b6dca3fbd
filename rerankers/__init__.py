"One interface to every way of re-ranking documents"
__version__ = "0.11.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rerankers import models, utils  # as attributes they were there in 0.10 too
from rerankers.documents import Document
from rerankers.errors import (AuthenticationError, BadRequestError, CertificateError, ForkedError, InputError, LimitReached, MissingDependency, ModelLoadError,
                              NotFoundError, OutOfBudget, OutOfTime, ProviderError, ProviderTimeoutError, RateLimitError, RerankersError, ServerError, Stopped,
                              UnknownDocument, UnknownModel, UnknownToken, UnusableAnswer, UnusablePicture)
from rerankers.rankers import BaseRanker
from rerankers.reranker import Reranker
from rerankers.results import RankedResults, Result, Stage, Usage
from rerankers.specs import Spec
if TYPE_CHECKING: from rerankers.combine import Cascade, Fallback, Fusion

__all__ = ["AuthenticationError", "BadRequestError", "BaseRanker", "Cascade", "CertificateError", "Document", "Fallback", "ForkedError",
           "Fusion", "InputError", "LimitReached", "MissingDependency", "ModelLoadError", "NotFoundError", "OutOfBudget", "OutOfTime", "ProviderError",
           "ProviderTimeoutError", "RankedResults", "RateLimitError", "Reranker", "RerankersError", "Result", "ServerError", "Spec",
           "Stage", "Stopped", "UnknownDocument", "UnknownModel", "UnknownToken", "UnusableAnswer", "UnusablePicture", "Usage"]

COMBINATIONS = ("Cascade", "Fallback", "Fusion")    # loaded by whoever names one: most programs use one ranker

def __getattr__(name: str) -> Any:
    if name not in COMBINATIONS: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("rerankers.combine"), name)
