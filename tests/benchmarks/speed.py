"""Time our cross-encoder ranker against `rerankers` 0.10 and sentence-transformers on the same model and passages.

    python tests/benchmarks/speed.py --peer-python PEERS/bin/python

Both we and the peer are called `rerankers`, so the peers live in an environment of their own (PEERS), made with
`pip install "rerankers[transformers]==0.10.0" sentence-transformers`. Each ranker runs in its own process, which loads the
model once and then ranks when told to; the rankers take turns, so that a noisy machine disturbs all of them alike.
The model has random weights and the words are invented: the time depends on the sizes only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY_SIZE = 30522  # BERT's
MAX_LENGTH = 512
SHORTEST, LONGEST = 10, 400  # words in a passage

RankCall = Callable[[], list[float]]


def invented_words(count: int, seed: int) -> list[str]:
    """Return `count` different words, pronounceable enough to be split as English is."""
    rng = random.Random(seed)
    words: dict[str, None] = {}  # a dict keeps the order, so that the seed decides everything
    while len(words) < count:
        syllables = rng.choices((1, 2, 3, 4), weights=(2, 5, 4, 1))[0]
        words["".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") + rng.choice(("", "n", "r", "s")) for _ in range(syllables))] = None
    return list(words)


def invented_passages(count: int, words: list[str], seed: int) -> list[str]:
    """Return passages of mixed lengths."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(SHORTEST, LONGEST))) for _ in range(count)]


def vocabulary(words: list[str]) -> dict[str, int]:
    """Return a WordPiece vocabulary: special tokens, letters, and as many of the words as fit."""
    pieces = [*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces += [f"##{a}{b}" for a in LETTERS for b in LETTERS]  # what the words outside the vocabulary are made of
    pieces += [word for word in words if len(word) > 1]
    return {piece: i for i, piece in enumerate(pieces[:VOCABULARY_SIZE])}


def save_tokenizer(folder: Path, words: list[str]) -> None:
    """Save a BERT tokenizer that knows most of the words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordPiece(vocabulary(words), unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=MAX_LENGTH, model_input_names=inputs, **names).save_pretrained(folder)


def save_model(folder: Path, layers: int) -> None:
    """Save a MiniLM cross-encoder of `layers` layers with random weights."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = dict(hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536)
    # Larger weights than the default 0.02, so that the scores differ between passages and a wrong one shows.
    config = BertConfig(vocab_size=VOCABULARY_SIZE, max_position_embeddings=MAX_LENGTH, num_labels=1, initializer_range=0.05, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)


def build(folder: Path, layers: int, passages: int) -> None:
    """Write the model, its tokenizer and the texts to rank into `folder`."""
    words = invented_words(12_000, seed=1)
    save_model(folder, layers)
    save_tokenizer(folder, words[:9_000])  # a quarter of the words is split into pieces
    texts = {"query": " ".join(words[:10]), "passages": invented_passages(passages, words, seed=2)}
    (folder / "texts.json").write_text(json.dumps(texts))


def load_ours(folder: str, query: str, passages: list[str]) -> RankCall:
    """Return a call that ranks with this library."""
    from rerankers import Reranker

    ranker = Reranker(folder, model_type="cross-encoder", device="cpu", dtype="float32", activation="identity")
    return lambda: by_position((r.doc_id, r.score) for r in ranker.rank(query, passages).results)


def load_rerankers(folder: str, query: str, passages: list[str]) -> RankCall:
    """Return a call that ranks with `rerankers` 0.10."""
    import torch
    from rerankers import Reranker

    ranker = Reranker(folder, model_type="cross-encoder", device="cpu", dtype=torch.float32, verbose=0)
    return lambda: by_position((r.document.doc_id, r.score) for r in ranker.rank(query, passages).results)


def load_sentence_transformers(folder: str, query: str, passages: list[str]) -> RankCall:
    """Return a call that ranks with sentence-transformers."""
    import torch
    from sentence_transformers import CrossEncoder

    ranker = CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Identity())
    return lambda: by_position((r["corpus_id"], r["score"]) for r in ranker.rank(query, passages))


def by_position(ranked: Any) -> list[float]:
    """Return the scores in the order of the passages."""
    return [float(score) for _, score in sorted(ranked)]


# name of the worker: how it loads, and the distribution whose version the table shows
WORKERS: dict[str, tuple[Callable[[str, str, list[str]], RankCall], str]] = {
    "ours": (load_ours, "rerankers"),
    "rerankers": (load_rerankers, "rerankers"),
    "sentence-transformers": (load_sentence_transformers, "sentence-transformers"),
}


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, or "?" for a bare source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "?"


def work(name: str, folder: str, threads: int) -> None:
    """Serve as a worker: load, warm up, then rank once for every line that comes in."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not get between the replies
    import torch

    torch.set_num_threads(threads)
    load, distribution = WORKERS[name]
    texts = json.loads(Path(folder, "texts.json").read_text())
    rank = load(folder, texts["query"], texts["passages"])
    rank()
    replies.write(json.dumps({"version": installed_version(distribution), "module": sys.modules[distribution.replace("-", "_")].__file__}) + "\n")
    for _ in sys.stdin:
        start = time.perf_counter()
        scores = rank()
        replies.write(json.dumps({"seconds": time.perf_counter() - start, "scores": scores}) + "\n")


@dataclass
class Worker:
    """A ranker in a process of its own, as the driver sees it."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    version: str = ""
    module: str = ""
    seconds: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def reply(self) -> dict[str, Any]:
        """Wait for the worker's next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)

    def go(self) -> None:
        """Let the worker rank once, and keep its time and scores."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self.reply()
        self.seconds.append(answer["seconds"])
        self.scores = answer["scores"]


def start(name: str, python: str, folder: Path, threads: int, stack: ExitStack) -> Worker:
    """Start a worker and wait until it is warm; it ends with `stack`."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    if name != "ours":
        environment.pop("PYTHONPATH", None)  # it may lead to our package, which has the peer's name
    command = [python, str(Path(__file__).resolve()), "--worker", name, "--folder", str(folder), "--threads", str(threads)]
    log = folder / f"{name}.log"
    errors = stack.enter_context(log.open("w"))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    stack.enter_context(process)  # closes the pipes, whose end is the worker's sign to stop, and waits
    worker = Worker(name, process, log)
    ready = worker.reply()
    worker.version, worker.module = ready["version"], ready["module"]
    return worker


def check_distinct(workers: list[Worker]) -> None:
    """Refuse to compare a package with itself: ours and the peer answer to the same name."""
    modules = [worker.module for worker in workers]
    if len(set(modules)) < len(modules):
        raise SystemExit(f"ours and the peer are the same package: {modules[0]}")


def table(workers: list[Worker]) -> str:
    """Return the result as lines of text, one for each worker, compared with ours."""
    ours = workers[0]
    mine = statistics.median(ours.seconds)
    lines = [f"{'':32}{'median':>10}{'fastest':>10}{'ours is':>10}{'scores differ by':>19}"]
    for worker in workers:
        median = statistics.median(worker.seconds)
        gap = max(abs(a - b) for a, b in zip(ours.scores, worker.scores, strict=True))
        label = f"{worker.name} {worker.version}"
        lines.append(f"{label:32}{median:>8.3f} s{min(worker.seconds):>8.3f} s{median / mine:>9.2f}x{gap:>19.1e}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter of the environment with the peers; without it only ours is timed")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run as the driver, or as a worker when the driver started us."""
    options = arguments()
    if options.worker:
        return work(options.worker, options.folder, options.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build(folder, options.layers, options.passages)
        pythons = {"ours": sys.executable}
        if options.peer_python:
            pythons |= {"rerankers": options.peer_python, "sentence-transformers": options.peer_python}
        workers = [start(name, python, folder, options.threads, stack) for name, python in pythons.items()]
        check_distinct(workers)
        for _ in range(options.rounds):
            for worker in workers:
                worker.go()
        print(table(workers))


if __name__ == "__main__":
    main()
