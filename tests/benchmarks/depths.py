"How long all depths of all rankers and all cascades of two take: `python tests/benchmarks/depths.py [--queries 225] [--candidates 100] [--rankers 5]`"
import argparse
import random
from time import perf_counter

from rerankers.evaluation.pairs import Grid, QueryRow, ScoreTable


def random_table(name, queries, size):
    "Scores that mean nothing, of documents d0, d1 …"
    rng, rows = random.Random(name), {}
    for query in queries:
        scores = [rng.random() for _ in range(size)]
        rows[query] = QueryRow(query, [f"d{i}" for i in range(size)], sorted(range(size), key=lambda i: -scores[i]), scores, [False] * size, 0.0)
    return ScoreTable(name, True, True, "", rows)


def main():
    "Print the seconds of each step"
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("queries", 225), ("candidates", 100), ("rankers", 5)): parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    queries, depths = [f"q{i}" for i in range(args.queries)], range(1, args.candidates + 1)
    tables = {f"r{i}": random_table(f"r{i}", queries, args.candidates) for i in range(args.rankers)}
    qrels = {q: {f"d{i}": random.Random(f"{q} {i}").choice([0, 0, 0, 1, 2]) for i in depths} for q in queries}
    start = perf_counter()
    grid = Grid(tables, qrels)
    made = perf_counter() - start
    for second in tables: grid.curve(second, depths)
    alone = perf_counter() - start - made
    for first in tables:
        for second in tables: grid.curve(second, depths, first)
    cascades = perf_counter() - start - made - alone
    for what, took in (("arrays", made), (f"{len(tables)} × {len(depths)} depths", alone), (f"{len(tables) ** 2} cascades × {len(depths)} depths", cascades)):
        print(f"{what:30} {took:6.2f} s")


if __name__ == "__main__": main()
