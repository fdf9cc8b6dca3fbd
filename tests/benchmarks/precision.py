"""Each way to compute a cross-encoder on this machine: how fast it is, and what it does to scores and to nDCG@10.

    OMP_NUM_THREADS=1 python tests/benchmarks/precision.py MODEL [--novel 21] [--cranfield 10] [--rounds 5]

MODEL is a folder with float weights, or a name on the hub. Speeds are ratios to the exact way: processor time, the rankers take turns, and of several
rounds the least counts. Scores and nDCG@10 are those of the questions of NovelEval (20 judged passages each) and of Cranfield (BM25's best 20). The last
lines say what `precision="fast"` picks, and whether that keeps what is promised of it: its bound, and half a point of nDCG@10.
"""
import argparse
import random
from pathlib import Path
from time import process_time

from rerankers import InputError, MissingDependency, ModelLoadError, Reranker
from rerankers.engine.precision import SENTENCES, ways
from rerankers.evaluation import read_beir
from rerankers.evaluation.beir import measure, rerank
from rerankers.evaluation.first_stage import with_candidates
from rerankers.reranker import options_of

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HOW = {"model_type": "cross-encoder", "activation": "identity", "device": "cpu"}
MAX_POINTS = 0.5


def lists():
    "Name -> documents of a list: ten sentences, thirty passages of 50 to 190 tokens, thirty of mixed length"
    rng, sentences = random.Random(0), [s for found in SENTENCES.values() for s in found]
    def passages(n, least, most): return [" ".join(rng.choices(sentences, k=rng.randint(least, most))) for _ in range(n)]
    return {"short": sentences[:10], "passages": passages(30, 3, 8), "mixed": passages(30, 1, 20)}


def opened(model):
    "Name -> ranker, of the ways that fast mode tries on this machine"
    found = {"exact": Reranker(model, **HOW)}
    for way in ways(found["exact"], model, options_of(type(found["exact"]))):
        try: found |= {} if way.obstacle else {way.name: Reranker(model, **HOW | way.options)}
        except (MissingDependency, ModelLoadError, InputError) as error: print(f"{way.name}: {error}")
        if way.obstacle: print(f"{way.name}: {way.obstacle}")
    return found


def least_times(rankers, docs, rounds):
    "Name -> seconds of the processor"
    least = dict.fromkeys(rankers, float("inf"))
    for _ in range(rounds):
        for name, ranker in rankers.items():
            start = process_time()
            ranker.rank("how do I fix a flat tyre?", docs, progress=False)
            least[name] = min(least[name], process_time() - start)
    return least


def judged(novel, cranfield):
    "Name -> (test set, candidates by query)"
    found = {}
    if novel:
        data = read_beir(DATA / "novel-eval")
        found["NovelEval"] = data, {q: list(data.qrels[q]) for q in list(data.qrels)[:novel]}
    if cranfield:
        data = with_candidates(read_beir(DATA / "cranfield"), "bm25", depth=20)
        found["Cranfield"] = data, dict(list(data.pool.items())[:cranfield])
    return found


def quality(ranker, sets):
    "Test set -> (nDCG@10 in points, scores in a fixed order)"
    found = {}
    for name, (data, candidates) in sets.items():
        rankings = rerank(ranker, data, candidates)
        qrels = {q: data.qrels[q] for q in candidates}
        found[name] = (100 * measure(rankings, qrels, ["nDCG@10"])["nDCG@10"],
                       [rankings[q].get_score_by_docid(d) for q, ids in candidates.items() for d in ids])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--novel", type=int, default=21)
    parser.add_argument("--cranfield", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rankers, sets = opened(args.model), judged(args.novel, args.cranfield)
    exact, changes, points = quality(rankers["exact"], sets), {"exact": 0.0}, {"exact": 0.0}
    times = {kind: least_times(rankers, docs, args.rounds) for kind, docs in lists().items()}
    for name, ranker in rankers.items():
        found, cells = exact if name == "exact" else quality(ranker, sets), [f"{kind} {took['exact'] / took[name]:.2f}×" for kind, took in times.items()]
        for data, (ndcg, scores) in found.items():
            gaps = [abs(a - b) for a, b in zip(scores, exact[data][1], strict=True)]
            changes[name], points[name] = max(changes.get(name, 0.0), *gaps), max(points.get(name, 0.0), abs(ndcg - exact[data][0]))
            cells.append(f"{data} {ndcg:.2f} ({ndcg - exact[data][0]:+.2f}), change {max(gaps):.2g} / {sum(gaps) / len(gaps):.2g}")
        print(f"{name}: {'; '.join(cells)}")
    report = Reranker(args.model, **HOW, precision="fast").precision_report
    print(report)
    if sets: assert changes[report.picked] <= report.bound and points[report.picked] <= MAX_POINTS, (changes, points)


if __name__ == "__main__": main()
