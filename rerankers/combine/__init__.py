"Rankers made of rankers: each takes words, specs or rankers, and is a ranker like any other"
from rerankers.combine.cascades import Cascade, Depth

__all__ = ["Cascade", "Depth"]
