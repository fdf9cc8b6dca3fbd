"""What long texts cost: time as a multiple of a short ranking, and memory, for each way that texts reach a tokenizer.

    python tests/benchmarks/long_text.py [WORD ...] [--before PATH]

Each case runs in a process of its own, so that memory is its own; WORD chooses cases by a part of their name. PATH is a checkout of an
earlier commit, which is measured beside this one, within the same limit of time and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = "who wrote the play about the prince of denmark and "
LIMIT_SECONDS, LIMIT_BYTES = 120, 8 << 30
ROOT = Path(__file__).resolve().parents[2]


def tiny(name: str, **options: Any) -> Any:
    """Return a ranker on a tiny model: what is measured is the work on the texts."""
    from rerankers import Reranker
    from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_late

    make = {"bert": tiny_checkpoint, "biencoder": tiny_checkpoint, "chain": tiny_checkpoint, "pylate": tiny_late}.get(name, tiny_language_model)
    return Reranker(make(name), device="cpu", **options)


def offline() -> Any:
    """Return the ranker of the issue, a real model."""
    from rerankers import Reranker

    return Reranker("offline")


RANKERS: dict[str, Callable[[], Any]] = {
    "offline": offline,
    "pairs": lambda: tiny("bert"),
    "only_second": lambda: tiny("bert", truncation="only_second", query_length=60),
    "single texts": lambda: tiny("biencoder"),
    "colbert": lambda: tiny("pylate"),
    "t5": lambda: tiny("t5", model_type="t5", max_length=200),
    "duot5": lambda: tiny("t5", model_type="duot5", max_length=200),
    "fid": lambda: tiny("t5", model_type="listt5", max_length=100),
    "prompts": lambda: tiny("llama", model_type="llm-pointwise", max_length=200),
    "prompts, end cut": lambda: tiny("gemma", model_type="bge-gemma", max_length=200),
}

# query and documents; the short ranking that times are compared with fills the model's room already, so that its work is the same
SHAPES: dict[str, tuple[str, list[str]]] = {
    "full": (WORDS * 2, [WORDS * 80 + str(i) for i in range(20)]),
    "long both": (WORDS * 500, [WORDS * 1000 + str(i) for i in range(20)]),
    "longer query": (WORDS * 2000, [WORDS * 1000 + str(i) for i in range(20)]),
    "5 MB": (WORDS * 2, [WORDS * 100_000]),
    "5 MB word": (WORDS * 2, ["a" * 5_000_000]),
    "5 MB Chinese": (WORDS * 2, ["莎士比亚写了哈姆雷特" * 500_000]),
    "5 MB blanks": (WORDS * 2, [" " * 5_000_000 + "x"]),
}


def measured(ranker: Any, shape: str) -> tuple[float, int]:
    """Return seconds and growth of memory in MB."""
    query, docs = SHAPES[shape]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    ranker.rank(query, docs)
    return time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def work(name: str, shape: str) -> None:
    """Measure one case after a warm-up and print it."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    ranker = RANKERS[name]()
    for _ in range(2):
        full, _ = measured(ranker, "full")
    seconds, grown = measured(ranker, shape)
    print(json.dumps([seconds / full, grown]))


def run(name: str, shape: str, tree: Path) -> str:
    """Run one case on one tree in a process of its own."""
    command = [sys.executable, __file__, "--case", name, shape]
    try:
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"over {LIMIT_SECONDS} s"
    if done.returncode:
        return "out of memory" if "MemoryError" in done.stderr or done.returncode < 0 else done.stderr.strip().splitlines()[-1][:40]
    ratio, grown = json.loads(done.stdout.splitlines()[-1])
    return f"{ratio:.2f}x +{grown} MB"


def main() -> None:
    """Print a table, a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        return work(*args.case)
    trees = [ROOT, *([args.before.resolve()] if args.before else [])]
    print(f"{'':34}{'now':>20}{'before' if args.before else '':>20}")
    for name in RANKERS:
        for shape in [s for s in SHAPES if s != "full"]:
            label = f"{name}: {shape}"
            if not args.words or any(word in label for word in args.words):
                print(f"{label:34}" + "".join(f"{run(name, shape, tree):>20}" for tree in trees), flush=True)


if __name__ == "__main__":
    main()
