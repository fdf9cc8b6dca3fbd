"Does re-ranking help here, and which one? Data, measures, statistics, costs, and a comparison of all of them"
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerankers.evaluation.choosing import recommend
    from rerankers.evaluation.comparison import Comparison, compare
    from rerankers.evaluation.data import TestSet, from_dicts, from_ir_datasets, read_beir, read_trec
    from rerankers.evaluation.first_stage import with_candidates
    from rerankers.evaluation.robustness import audit
    from rerankers.evaluation.runs import write_run
    from rerankers.evaluation.tables import from_columns

__all__ = ["Comparison", "TestSet", "audit", "compare", "from_columns", "from_dicts", "from_ir_datasets", "read_beir", "read_trec",
           "recommend", "with_candidates", "write_run"]

# name -> its module, which is loaded by whoever uses the name
HOMES = {"Comparison": "comparison", "compare": "comparison", "TestSet": "data", "from_dicts": "data", "from_ir_datasets": "data",
         "read_beir": "data", "read_trec": "data", "recommend": "choosing", "with_candidates": "first_stage", "audit": "robustness",
         "write_run": "runs", "from_columns": "tables"}

def __getattr__(name: str) -> Any:
    if name not in HOMES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rerankers.evaluation.{HOMES[name]}"), name)
