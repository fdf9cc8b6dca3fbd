"""Time a re-ranker of pages against the plain transformers loop, for a model of Qwen2-VL-2B's shape with random weights, and print one table.

    PYTHONPATH=. python tests/benchmarks/gpu_pages.py                           # on a graphics card, under three minutes
    PYTHONPATH=. python tests/benchmarks/gpu_pages.py --device cpu --tiny       # the same code in seconds, to see that it works

Weights do not matter for time, so no checkpoint is needed: the model is made from its configuration and saved to a temporary
folder (4.4 GB), which both sides load. A page is a PNG file that becomes 1,024 tokens. Both sides open the same files with the
same image processor of transformers on Pillow, ask the same question, and read the same two logits. Rates are pairs of a query
and a page a second, from files to scores, medians of the rounds, with the systems in turns; each round has new pages.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw

from rerankers import Document, Reranker
from rerankers.tiny_models import SIGHTS, seeing_config, tiny_bytes

ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
TEXT = dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, vocab_size=151_936,
            max_position_embeddings=32_768, rope_parameters=ROPE, tie_word_embeddings=True)
TOWER = dict(depth=32, embed_dim=1280, hidden_size=1536, mlp_ratio=4, num_heads=16, patch_size=14)
QUESTION = "Is it about {query}? "  # short, since the stand-in for Qwen's tokenizer takes a token for each byte
QUERIES = ["revenue by region", "a pump's wiring", "who signed it", "night trams", "the warranty", "a chart of costs", "an invoice", "a map"]


def config_of(tiny: bool) -> Any:
    """Make the configuration of the published 2B model, or of one that fits a test."""
    if tiny:
        return seeing_config("qwen2_vl")
    ids = dict(zip(("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"), map(tiny_bytes().convert_tokens_to_ids, SIGHTS)))
    return transformers.Qwen2VLConfig(text_config=TEXT, vision_config=TOWER, tie_word_embeddings=True, **ids)


def write_model(folder: Path, device: torch.device, dtype: torch.dtype, tiny: bool, pixels: int) -> None:
    """Save a model with random weights as a checkpoint."""
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.Qwen2VLForConditionalGeneration._from_config(config_of(tiny), dtype=dtype).eval()
    model.save_pretrained(folder)
    tiny_bytes().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2,
        "size": {"shortest_edge": 3136, "longest_edge": pixels}}))


def write_pages(folder: Path, count: int, side: int, seed: int) -> list[Path]:
    """Draw pages with lines of words."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        page = Image.new("RGB", (side, side), "white")
        pen = ImageDraw.Draw(page)
        for y in range(4, side - 12, 16):
            pen.text((6, y), " ".join(rng.choice(["the", "pump", "costs", "of", "region", "and", "table"], side // 40 + 1)), fill="black")
        found.append(folder / f"{seed}-{number}.png")
        page.save(found[-1])
    return found


@dataclass
class Plain:
    """What the model card shows: transformers' own model, a prompt a pair, no picture shared."""

    model: Any
    tokenizer: Any
    reader: Any

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> Plain:
        """Load the checkpoint as it is."""
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).to(device).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return cls(model, tokenizer, transformers.AutoImageProcessor.from_pretrained(folder, backend="pil"))

    def ids(self, query: str, tokens: int) -> list[int]:
        """Return the prompt's token ids."""
        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(query=query)}]
        text = self.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * tokens))["input_ids"]

    def inputs(self, pairs: Sequence[tuple[str, Path]]) -> dict[str, Any]:
        """Open the pages of a batch and make its tensors."""
        seen = self.reader(images=[Image.open(page).convert("RGB") for _, page in pairs], return_tensors="pt")
        rows = [self.ids(query, int(grid.prod()) // 4) for (query, _), grid in zip(pairs, seen["image_grid_thw"])]
        made = self.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        kinds = (made["input_ids"] == self.model.config.image_token_id).int()
        return {**{name: made[name] for name in ("input_ids", "attention_mask")}, **seen, "mm_token_type_ids": kinds}

    def __call__(self, pairs: Sequence[tuple[str, Path]], size: int) -> list[float]:
        """Score pairs, `size` a batch."""
        answers, found = self.tokenizer.convert_tokens_to_ids(["True", "False"]), []
        for start in range(0, len(pairs), size):
            batch = {name: tensor.to(self.model.device) for name, tensor in self.inputs(pairs[start : start + size]).items()}
            with torch.inference_mode():
                logits = self.model(**batch, use_cache=False, logits_to_keep=1).logits[:, -1, answers].float()
            found += (logits[:, 0] - logits[:, 1]).tolist()
        return found


def ours(ranker: Any, queries: Sequence[str], pages: Sequence[Path]) -> list[list[float]]:
    """Score every page for every query, in one call."""
    docs = [Document(image=page) for page in pages]
    return [[results.get_score_by_docid(i) for i in range(len(pages))] for results in ranker.rank_many(list(queries), docs, progress=False)]


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Time one run to its very end."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


System = tuple[int, Callable[[Sequence[Path]], Any]]  # queries, and what scores pages for them


def systems_of(ranker: Any, plain: Plain) -> dict[str, System]:
    """Name what is compared."""
    def looped(pages: Sequence[Path], size: int) -> list[float]:
        return plain([(QUERIES[0], page) for page in pages], size)

    return {
        "pages made ready, and nothing else": (1, lambda pages: [plain.reader(images=[Image.open(page).convert("RGB")]) for page in pages]),
        "plain loop, one page at a time": (1, partial(looped, size=1)),
        "plain loop, 8 pages a batch": (1, partial(looped, size=8)),
        "this library, 1 query": (1, partial(ours, ranker, QUERIES[:1])),
        "this library, 8 queries pooled": (8, partial(ours, ranker, QUERIES)),
    }


def rates(systems: dict[str, System], draws: list[list[Path]], device: torch.device) -> dict[str, float]:
    """Warm each system up on the first draw, then time all on each of the others, in turns: medians in pairs a second."""
    for _, system in systems.values():
        system(draws[0])
    found: dict[str, list[float]] = {name: [] for name in systems}
    for pages in draws[1:]:
        for name, (queries, system) in systems.items():
            found[name].append(queries * len(pages) / seconds(partial(system, pages), device))
    return {name: statistics.median(values) for name, values in found.items()}


def measured(folder: Path, device: torch.device, dtype: torch.dtype, args: argparse.Namespace) -> None:
    """Make the model and the pages, and print the table."""
    side = 112 if args.tiny else 896
    write_model(folder, device, dtype, args.tiny, side * side)
    ranker = Reranker(str(folder), model_type="monovlm", device=device, dtype=dtype, prompt=QUESTION, activation="identity")
    plain = Plain.load(folder, device, dtype)
    draws = [write_pages(folder, 8 if seed == 0 else args.pages, side, seed) for seed in range(args.rounds + 1)]
    want, got = plain([(QUERIES[0], page) for page in draws[0]], 1), ours(ranker, QUERIES[:1], draws[0])[0]
    found = rates(systems_of(ranker, plain), draws, device)
    loop = found["plain loop, one page at a time"]
    print("| system | pairs a second | ÷ one page at a time |\n|---|---|---|")
    for name, rate in found.items():
        print(f"| {name} | {rate:,.1f} | {rate / loop:.1f}× |")
    tokens = ranker.prompts.images.tokens(Document(image=draws[0][0]).pictures[0])
    print(f"\nA page has {tokens:,} tokens. Largest difference of log-odds from the plain loop: {np.abs(np.subtract(want, got)).max():.1e}, "
          f"their standard deviation over pages: {np.std(want):.1e}.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small model and few small pages, to see that it works")
    parser.add_argument("--pages", type=int, default=48, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.pages = min(args.pages, 9) if args.tiny else args.pages
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{card}, {dtype}, torch {torch.__version__}, transformers {transformers.__version__}, {date.today()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measured(Path(folder), device, dtype, args)


if __name__ == "__main__":
    main()
