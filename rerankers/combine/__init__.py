"Rankers made of rankers: each takes words, specs or rankers, and is a ranker like any other"
from rerankers.combine.adaptive import Adaptive, nearest
from rerankers.combine.budgets import Budget
from rerankers.combine.cascades import Cascade, Depth
from rerankers.combine.diversity import Diverse
from rerankers.combine.fallbacks import Fallback
from rerankers.combine.fusion import Fusion, fitted
from rerankers.combine.long_documents import LongDocuments
from rerankers.combine.signals import Blend, Fields, Recency, learned

__all__ = ["Adaptive", "Blend", "Budget", "Cascade", "Depth", "Diverse", "Fallback", "Fields", "Fusion", "LongDocuments", "Recency",
           "fitted", "learned", "nearest"]
