"How long the statistics of a comparison take: `python tests/benchmarks/significance.py [--queries 225] [--systems 10] [--resamples 10000]`"
import argparse
from time import perf_counter

import numpy as np

from rerankers.evaluation.statistics import BLOCK, against, all_pairs, blocks, winner


def main():
    "Print the seconds of each step, what is drawn for it, and in how many blocks"
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("queries", 225), ("systems", 10), ("resamples", 10_000)): parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    n, m, times = args.queries, args.systems, args.resamples
    table = np.random.default_rng(0).random((m, n))
    steps = {
        "against a baseline": (lambda: against(table, "0", resamples=times), 2 * n, BLOCK),
        "all pairs by signs": (lambda: all_pairs(table, resamples=times), max(n, m * (m - 1) // 2), BLOCK),
        "all pairs by Tukey": (lambda: all_pairs(table, method="tukey", resamples=times), m * n, BLOCK // 4),
        "winner": (lambda: winner(table, splits=times), n, BLOCK)}
    total = 0.0
    for name, (step, size, limit) in steps.items():
        start = perf_counter()
        step()
        total += (took := perf_counter() - start)
        print(f"{name:20} {took:6.2f} s   {times * size / 1e6:6.1f} million numbers in {len(list(blocks(times, size, limit)))} blocks")
    print(f"{'together':20} {total:6.2f} s")


if __name__ == "__main__": main()
