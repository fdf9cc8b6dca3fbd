"""Time batches without padding against padded ones, for models of published shapes with random weights, and print one table.

    bash tests/benchmarks/gpu.sh                            # on a graphics card, under five minutes
    python tests/benchmarks/gpu.py --device cpu --tiny      # the same code in seconds, to see that it works

Weights do not matter for time, so no checkpoint is needed: models are made from their configurations. Rows of token ids go
through the library's own batches and runtimes; texts and tokenizers are left out, so this measures what the card does. All
systems get the same lengths, and each round new ones, as users do: a padded batch nearly always has a shape that the card has
not seen. Rates are pairs a second, medians of the rounds, with the systems in turns. Late interaction is timed with its MaxSim: every
hundred documents are compared with a query of 32 tokens. "Changes" are the largest differences to the same weights in float32 on
the processor, in standard deviations of the numbers; bfloat16 alone makes them, and flat ones should be no larger.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers

from rerankers.engine.answers import call_decoder, keep_answers, read_last
from rerankers.engine.batching import make_batch, run_rows
from rerankers.engine.maxsim import TokenVectors, maxsim
from rerankers.engine.pytorch import TorchRuntime, call_marked, compile_layers, read_logits

PUBLISHED = {"ettin-17m": "7,517", "ettin-150m": "3,237"}  # pairs a second on an H100, from the checkpoints' model cards
Rows = dict[str, list[list[int]]]  # token ids of pairs, as the library's batches take them


@dataclass(frozen=True)
class Shape:
    """A model's family and its sizes, as in the config.json of the checkpoint that it stands for."""

    family: str
    sizes: dict[str, int]
    kind: str = "classifier"  # or "answers" (a language model's yes and no) or "tokens" (a vector for each token)


ETTIN = dict(vocab_size=50368)
BERT = dict(vocab_size=30522)
QWEN = dict(num_key_value_heads=8, head_dim=128, vocab_size=151936)
SHAPES = {
    "ettin-17m": Shape("ModernBert", dict(hidden_size=256, num_hidden_layers=7, num_attention_heads=4, intermediate_size=384, **ETTIN)),
    "ettin-150m": Shape("ModernBert", dict(hidden_size=768, num_hidden_layers=22, num_attention_heads=12, intermediate_size=1152, **ETTIN)),
    "bert-large": Shape("Bert", dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, **BERT)),
    "qwen3-0.6b yes/no": Shape("Qwen3", dict(hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, intermediate_size=3072, **QWEN), "answers"),
    "colbert bert-base": Shape("Bert", dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, **BERT), "tokens"),
}
TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=500)
TINY_HEADS = dict(num_key_value_heads=2, head_dim=8)
IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
ENDINGS = {"classifier": "ForSequenceClassification", "answers": "ForCausalLM", "tokens": "Model"}


def read_tokens(projection: Any, output: Any, inputs: dict[str, Any]) -> Any:
    """Return a vector of 128 numbers for each token, as ColBERT does."""
    return torch.nn.functional.normalize(projection(output.last_hidden_state), dim=-1)  # (texts, tokens, 128)


def built(shape: Shape, device: torch.device, dtype: torch.dtype, tiny: bool) -> Any:
    """Make the model with random weights, the same each time."""
    small = {**TINY, **(TINY_HEADS if shape.kind == "answers" else {})} if tiny else {}
    config = getattr(transformers, f"{shape.family}Config")(**{**shape.sizes, **small}, **IDS, num_labels=1, initializer_range=0.04)
    torch.manual_seed(0)
    with torch.device(device):
        return getattr(transformers, shape.family + ENDINGS[shape.kind])._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def runtime_of(shape: Shape, device: torch.device, dtype: torch.dtype, tiny: bool) -> TorchRuntime:
    """Make the runtime that the library would make for a checkpoint of this shape."""
    model = built(shape, device, dtype, tiny)
    if shape.kind == "answers":
        keep_answers(model, [10, 11])
        return TorchRuntime(model, read_last, ask=call_decoder, flat=True)
    if shape.kind == "tokens":
        projection = torch.nn.Linear(model.config.hidden_size, 128, bias=False, device=device, dtype=dtype)
        return TorchRuntime(model, partial(read_tokens, projection), flat=True)
    return TorchRuntime(model, read_logits, ask=call_marked, flat=True)


def lengths_like(kind: str, count: int, seed: int = 0) -> list[int]:
    """Draw lengths of pairs in tokens: `passages` like MS MARCO's, `mixed` like a company's documents."""
    rng = np.random.default_rng(seed)
    drawn = rng.lognormal(4.6, 0.35, count) if kind == "passages" else rng.lognormal(4.7, 0.9, count)
    return [int(n) for n in drawn.clip(12, 512)]


def rows_of(lengths: list[int], vocabulary: int) -> Rows:
    """Draw token ids for texts of these lengths."""
    rng = np.random.default_rng(8)
    return {"input_ids": [rng.integers(20, vocabulary, n).tolist() for n in lengths]}


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time one run to its very end."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def matrix_limit(device: torch.device, dtype: torch.dtype, tiny: bool) -> float:
    """Measure the operations a second of one large matrix product."""
    side = 512 if tiny else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(8)][3:]
    return 2 * side**3 / statistics.median(times)


@contextmanager
def running_flat(runtime: TorchRuntime, flat: bool) -> Iterator[None]:
    """Run batches flat, or padded, inside this context."""
    known, runtime.flat = runtime.flat, flat and runtime.flat
    try:
        yield
    finally:
        runtime.flat = known


def compared(rows: list[np.ndarray], tokens: Rows, device: torch.device, few: int = 100) -> None:
    """Compare token vectors with queries, as late interaction does: one query for every hundred texts."""
    query = np.random.default_rng(0).standard_normal((32, 128)).astype(np.float32)
    kept = [row[: len(ids)] for row, ids in zip(rows, tokens["input_ids"], strict=True)]
    for start in range(0, len(kept), few):
        maxsim(query, TokenVectors.of(kept[start : start + few]), device=device)


def in_batches(runtime: TorchRuntime, tokens: Rows, *, flat: bool, budget: int, late: bool) -> int:
    """Run all pairs as the library does: sorted by length, cut by a budget of tokens. Return how many."""
    with running_flat(runtime, flat):
        rows = run_rows(runtime, tokens, pad={}, max_tokens=budget, progress=False)
    if late:
        compared(rows, tokens, runtime.device)
    return len(rows)


def as_they_came(runtime: TorchRuntime, tokens: Rows, *, late: bool, size: int = 32, most: int = 512) -> int:
    """Run the first `most` pairs in the plain loop: `size` pairs a batch in their own order, padded. Return how many."""
    some = {name: ids[:most] for name, ids in tokens.items()}
    count, rows = len(some["input_ids"]), list[np.ndarray]()
    with running_flat(runtime, False):
        for start in range(0, count, size):
            rows += list(runtime(make_batch(some, list(range(start, min(start + size, count))), {})))
    if late:
        compared(rows, some, runtime.device)
    return count


System = Callable[[Rows], int]  # pairs -> how many it ran


def rates(systems: dict[str, System], draws: list[Rows], device: torch.device) -> dict[str, float]:
    """Warm each system up on the first draw, then time all of them on each of the others, in turns: medians in pairs a second."""
    for system in systems.values():
        system(draws[0])
    found: dict[str, list[float]] = {name: [] for name in systems}
    for tokens in draws[1:]:
        for name, system in systems.items():
            count: list[int] = []
            spent = seconds(lambda system=system, tokens=tokens, count=count: count.append(system(tokens)), device)
            found[name].append(count[0] / spent)
    return {name: statistics.median(values) for name, values in found.items()}


def systems_of(runtime: TorchRuntime, shape: Shape, tiny: bool) -> dict[str, System]:
    """Name what is compared; padded batches are given their better budget of two, flat ones what `settle` finds."""
    small, large, late = *((512, 1024) if tiny else (16_384, 65_536)), shape.kind == "tokens"
    runtime.settle()
    return {
        "as they came": partial(as_they_came, runtime, late=late),
        "padded, small": partial(in_batches, runtime, flat=False, budget=small, late=late),
        "padded, large": partial(in_batches, runtime, flat=False, budget=large, late=late),
        "flat": partial(in_batches, runtime, flat=True, budget=runtime.max_tokens, late=late),
    }


def numbers(runtime: TorchRuntime, tokens: Rows) -> np.ndarray:
    """Return all numbers of the real tokens, one after the other."""
    rows = run_rows(runtime, tokens, pad={}, max_tokens=4096, progress=False)
    return np.concatenate([row[: len(ids)].ravel() for row, ids in zip(rows, tokens["input_ids"])])


def changes_of(shape: Shape, runtime: TorchRuntime, tiny: bool) -> tuple[float, float]:
    """Return how far padded and flat numbers in this format are from the same weights in float32 on the processor, in deviations."""
    tokens = rows_of([40, 31, 31, 22, 15, 12], runtime.model.config.vocab_size)
    exact = runtime_of(shape, torch.device("cpu"), torch.float32, tiny)
    exact.model.load_state_dict({k: v.float().cpu() for k, v in runtime.model.state_dict().items()})
    if shape.kind == "tokens":
        exact.read.args[0].load_state_dict({k: v.float().cpu() for k, v in runtime.read.args[0].state_dict().items()})
    exact.flat = False
    want, flat = numbers(exact, tokens), numbers(runtime, tokens)
    with running_flat(runtime, False):
        padded = numbers(runtime, tokens)
    far_padded, far = (float(np.abs(found - want).max() / want.std()) for found in (padded, flat))
    return far_padded, far


Changes = tuple[float, float]


def line(name: str, mix: str, runtime: TorchRuntime, mean: float, found: dict[str, float], limit: float, changes: Changes) -> str:
    """Write one line of the table. Operations are those of the linear layers; attention's own are left out."""
    plain, flat, compiled = found["as they came"], found["flat"], found.get("flat, compiled", float("nan"))
    padded = max(found["padded, small"], found["padded, large"])
    weights = sum(m.weight.numel() for m in runtime.model.modules() if isinstance(m, torch.nn.Linear))
    share = 2.0 * weights * mean * np.nanmax([flat, compiled]) / limit
    cells = [
        *(name, f"{mix}, {mean:.0f} tokens", f"{plain:,.0f}", f"{padded:,.0f}", f"{flat:,.0f}", f"{compiled:,.0f}"),
        *(f"{flat / plain:.1f}×", f"{flat / padded:.2f}×", f"{compiled / padded:.2f}×", f"{runtime.max_tokens:,}", f"{share:.0%}"),
        *(PUBLISHED.get(name, "–"), *(f"{change:.1e}" for change in changes)),
    ]
    return f"| {' | '.join(cells)} |".replace("nan×", "–").replace("nan", "–")


RATES = ("32 as they came", "sorted, padded", "flat", "flat, compiled", "flat ÷ as they came", "flat ÷ padded", "compiled ÷ padded")
COLUMNS = ("shape", "pairs", *RATES, "tokens a batch", "share of the product", "published", "changes, padded", "flat")
HEAD = f"| {' | '.join(COLUMNS)} |"


def measured(name: str, device: torch.device, dtype: torch.dtype, args: argparse.Namespace, limit: float) -> None:
    """Print the lines of one shape."""
    shape = SHAPES[name]
    runtime = runtime_of(shape, device, dtype, args.tiny)
    if not runtime.flat:
        print(f"| {name} | not flat |", flush=True)
        return
    vocabulary = runtime.model.config.vocab_size
    draws = {mix: [rows_of(lengths_like(mix, args.pairs, seed), vocabulary) for seed in range(args.rounds + 1)] for mix in ("passages", "mixed")}
    found = {mix: rates(systems_of(runtime, shape, args.tiny), rows, device) for mix, rows in draws.items()}
    changes = changes_of(shape, runtime, args.tiny)
    in_time = time.perf_counter() < args.until  # compiling takes half a minute
    if in_time and not args.tiny:
        compile_layers(runtime.model)
    for mix, rows in draws.items():
        if in_time:
            found[mix] |= rates({"flat, compiled": systems_of(runtime, shape, args.tiny)["flat"]}, rows, device)
        mean = statistics.mean(len(ids) for tokens in rows[1:] for ids in tokens["input_ids"])
        print(line(name, mix, runtime, mean, found[mix], limit, changes), flush=True)


def main() -> None:
    """Measure all shapes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and few pairs, nothing compiled, to see that it works")
    parser.add_argument("--only", nargs="*", default=list(SHAPES), help="some of the shapes")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=240, help="when they are over, no further shape is compiled")
    args = parser.parse_args()
    args.until = time.perf_counter() + args.seconds
    args.pairs = min(args.pairs, 40) if args.tiny else args.pairs
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    limit = matrix_limit(device, dtype, args.tiny)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{card}, {dtype}, {versions}, {date.today()}; one matrix product runs at {limit / 1e12:,.3g} TFLOP/s\n", flush=True)
    print(HEAD + "\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for name in args.only:
        measured(name, device, dtype, args, limit)


if __name__ == "__main__":
    main()
