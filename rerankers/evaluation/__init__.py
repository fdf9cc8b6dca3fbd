"Does re-ranking help here, and which one? Data, measures, statistics, costs, and a comparison of all of them"
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerankers.evaluation.comparison import Comparison, compare
    from rerankers.evaluation.data import TestSet, read_beir, read_trec
    from rerankers.evaluation.choosing import recommend

__all__ = ["Comparison", "TestSet", "compare", "read_beir", "read_trec", "recommend"]

# name -> its module, which is loaded by whoever uses the name
HOMES = {"Comparison": "comparison", "compare": "comparison", "TestSet": "data", "read_beir": "data", "read_trec": "data",
         "recommend": "choosing"}

def __getattr__(name: str) -> Any:
    if name not in HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rerankers.evaluation.{HOMES[name]}"), name)
