"""Time our cross-encoder ranker against `rerankers` 0.10 and sentence-transformers on one list of mixed lengths.

    python tests/benchmarks/speed.py --peer-python PEERS/bin/python

A short form of `rerankers benchmark`, whose page says how it measures and what PEERS is: a MiniLM of `--layers` layers with
random weights, `--passages` passages of 10 to 400 words, `--rounds` turns, `--threads` threads, and no other cases.
"""
import argparse
import random
import tempfile
from pathlib import Path
from statistics import median

from rerankers.evaluation.benchmark import SHAPES, Speed, benchmark, gap, invented_words, random_checkpoint

SHORTEST, LONGEST = 10, 400  # words in a passage
CASE = "mixed"


def mixed(count: int) -> dict:
    """Return a query and passages of mixed lengths; a quarter of their words is split into pieces."""
    words, rng = invented_words(12_000, seed=1), random.Random(2)
    return {"query": " ".join(words[:10]), "docs": [" ".join(rng.choices(words, k=rng.randint(SHORTEST, LONGEST))) for _ in range(count)]}


def table(speed: Speed) -> str:
    """Return the result as lines of text, one for each system, compared with ours."""
    ours, lines = speed.timings[CASE]["ours"], [f"{'':32}{'median':>10}{'fastest':>10}{'ours is':>10}{'scores differ by':>19}"]
    for name, version in speed.versions.items():
        turns = speed.timings[CASE][name]
        lines.append(f"{name + ' ' + version:32}{median(turns.wall):>8.3f} s{min(turns.wall):>8.3f} s"
                     f"{speed.faster(CASE, name):>9.2f}x{gap(ours.scores, turns.scores):>19.1e}")
    return "\n".join(lines)


def main() -> None:
    """Build the model, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter of the environment with the peers; without it only ours is timed")
    for name, value in (("layers", 6), ("passages", 100), ("rounds", 7), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_checkpoint({**SHAPES["minilm-l6"], "num_hidden_layers": args.layers}, Path(folder))
        print(table(benchmark(model, peer_python=[args.peer_python] if args.peer_python else [], rounds=args.rounds,
                              threads=args.threads, cold=0, texts={CASE: mixed(args.passages)})))


if __name__ == "__main__":
    main()
