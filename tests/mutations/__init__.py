"Deliberate faults, and the tests that must notice them: `python tests/mutations/run.py` (slow, not part of CI)"
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    "One fault: in the module `where`, `old`, which stands there once, becomes `new`; one of `tests` must then fail"
    where: str      # Module, as "rerankers/engine/tokens.py"
    old: str        # Text that stands in it exactly once
    new: str        # What it becomes
    tests: str      # What pytest is given, as "tests/test_engine.py -k truncation"
    why: str        # What would go wrong for a user
