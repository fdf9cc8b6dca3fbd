"""Memory and speed of `rank_stream`: `python tests/benchmarks/streams.py [--many 2000] [--few 100] [--documents 100]`

Memory: a tiny model ranks many queries, and few, in a process each; what is compared is the most memory that each ever had.
Speed: a MiniLM with random weights ranks short lists, as a stream and in a loop of `rank`, in turns.
"""
import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time

from rerankers import Reranker
from rerankers.evaluation.benchmark import Case, invented_words, random_checkpoint, texts_of
from rerankers.evaluation.peers import peak_memory

WORDS = invented_words(2_000, seed=1)


def queries(count: int, documents: int, tokens: int = 20):
    "So many queries with new documents each, made when they are asked for"
    rng = random.Random(0)
    def text() -> str: return " ".join(rng.choices(WORDS, k=tokens))
    for _ in range(count): yield text(), [text() for _ in range(documents)]


def rank_all(shape: str, count: int, documents: int) -> None:
    "Rank a stream in this process and print the most memory it had, and how many queries were read before the first result"
    read = 0
    def counted():
        nonlocal read
        for item in queries(count, documents):
            read += 1
            yield item
    with tempfile.TemporaryDirectory() as folder:
        ranker, first = Reranker(random_checkpoint(shape, folder), device="cpu"), None
        for _ in ranker.rank_stream(counted(), progress=False): first = first or read
    print(peak_memory(), first)


def in_own_process(count: int, documents: int) -> tuple[float, int]:
    "The MiB of a process that ranks so many queries, and what it had read before the first result"
    command = [sys.executable, __file__, "--only", str(count), "--documents", str(documents)]
    memory, first = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:])
    return memory / 2**20, first


def pooled_speed(rounds: int, case: Case, count: int = 20) -> float:
    "How many times as fast as a loop a stream is, in processor time"
    with tempfile.TemporaryDirectory() as folder:
        ranker = Reranker(random_checkpoint("minilm-l6", folder), device="cpu")
    asked, ratios = [tuple(texts_of(case, WORDS, seed).values()) for seed in range(count)], list[float]()
    def spent(work) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start
    for i in range(rounds + 1):
        loop = spent(lambda: [ranker.rank(*item, progress=False) for item in asked])
        stream = spent(lambda: list(ranker.rank_stream(asked, progress=False)))
        if i: ratios.append(loop / stream)
    return statistics.median(ratios)


def main() -> None:
    "Print three lines"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("many", 2_000), ("few", 100), ("documents", 100), ("rounds", 5)): parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only: return rank_all("tiny", args.only, args.documents)
    (few, first), (many, _) = (in_own_process(count, args.documents) for count in (args.few, args.many))
    print(f"{args.few:,} queries × {args.documents} documents: {few:,.0f} MiB; {args.many:,}: {many:,.0f} MiB, {many - few:+,.0f} MiB")
    print(f"queries read before the first result: {first}")
    for least, most in ((17, 25), (40, 46)):
        for documents in (2, 5, 10):
            times = pooled_speed(args.rounds, Case(documents, least, most))
            print(f"lists of {documents}, pairs of {least} to {most} tokens: a stream is {times:.2f}× as fast as a loop")


if __name__ == "__main__": main()
