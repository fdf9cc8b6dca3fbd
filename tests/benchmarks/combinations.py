"Quality against pairs scored: cascades, gates and fusions on NovelEval and Cranfield. `python tests/benchmarks/combinations.py [--queries 60] [--depth 100]`"
import argparse
import random
from pathlib import Path
from statistics import mean

import ir_measures

from rerankers import Cascade, Fusion, Reranker
from rerankers.evaluation.beir import read_beir

SHARED = Path(__file__).resolve().parents[3]/"shared"/"data"
MEASURE = "nDCG@10"


def per_query(rankings, qrels):
    "nDCG@10 of each query"
    run = {q: {str(r.doc_id): float(len(found) - r.rank) for r in found} for q, found in rankings.items()}
    return {row.query_id: 100 * row.value for row in ir_measures.iter_calc([ir_measures.parse_measure(MEASURE)], {q: qrels[q] for q in run}, run)}


def interval(values, draws=2000, seed=0):
    "95 % bootstrap interval of the mean"
    rng = random.Random(seed)
    means = sorted(mean(rng.choices(values, k=len(values))) for _ in range(draws))
    return means[draws // 40], means[-draws // 40 - 1]


def rankers(dear):
    "Name -> ranker; all share the loaded models"
    words, small = Reranker("bm25"), Reranker("offline-biencoder")
    return {
        "bm25": words, "offline-biencoder": small, "offline": dear,
        "rrf(bm25, offline-biencoder)": Fusion(words, small), "combsum(bm25, offline-biencoder)": Fusion(words, small, method="combsum"),
        "bm25:20 > offline": Cascade((words, 20), dear), "offline-biencoder:20 > offline": Cascade((small, 20), dear),
        "bm25:50 > offline-biencoder:20 > offline": Cascade((words, 50), (small, 20), dear),
        "rrf:20 > offline": Cascade((Fusion(words, small), 20), dear),
        "rrf, gate margin .1, 20 > offline": Cascade((Fusion(words, small), {"margin": 0.1, "most": 20}), dear),
        "rrf, misses 20 > offline": Cascade((Fusion(words, small), {"misses": 20}), dear)}


def candidates(data, queries, depth):
    "BM25's best of the whole collection, best first; all judged passages where each query has its own"
    own = len(data.qrels[queries[0]]) * len(data.queries) == len(data.corpus)      # each query brings its own candidates
    if own: return {q: [data.corpus[d] for d in data.qrels[q]] for q in queries}
    found = Reranker("bm25").rank_many([data.queries[q] for q in queries], list(data.corpus.values()), top_k=depth)
    return {q: [r.document for r in ranked] for q, ranked in zip(queries, found)}


def dear_pairs(name, results):
    "Pairs that the cross-encoder scored"
    if name == "offline": return sum(map(len, results.values()))
    return sum(s.documents for r in results.values() for s in r.stages if s.name == "offline")


def table(name, queries, depth):
    "Rows of the data set's table"
    data = read_beir(SHARED/name)
    chosen = list(data.queries)[:queries]
    docs, found, base = candidates(data, chosen, depth), {}, None
    for label, ranker in rankers(Reranker("offline")).items():
        results = dict(zip(chosen, ranker.rank_many([data.queries[q] for q in chosen], [docs[q] for q in chosen], progress=False)))
        found[label] = per_query(results, data.qrels), dear_pairs(label, results)
    base, whole = found["offline"]
    print(f"{name}: {len(chosen)} queries, {sum(map(len, docs.values()))} pairs, {MEASURE}")
    print(f"{'':44}{MEASURE:>8}{'against offline, 95 %':>28}{'dear pairs':>12}")
    for label, (values, pairs) in found.items():
        low, high = interval([values[q] - base[q] for q in base])
        better = f"{mean(values[q] - base[q] for q in base):+12.2f} [{low:+6.2f}, {high:+6.2f}]"
        print(f"{label:44}{mean(values.values()):8.2f}{better}{100 * pairs / whole:11.0f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--depth", type=int, default=100)
    args = parser.parse_args()
    table("novel-eval", 21, args.depth)
    table("cranfield", args.queries, args.depth)
