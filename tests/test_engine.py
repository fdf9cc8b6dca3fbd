"Batches, tokens and the two runtimes: exact, bounded, safe with files from strangers, and never in each other's way"
import asyncio
import json
import math
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import product
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from closeness import near  # noqa: E402
from rerankers import InputError, ModelLoadError, Reranker, RerankersError, UnusableAnswer  # noqa: E402
from rerankers.engine.batching import make_batch, padded, run_rows, token_batches  # noqa: E402
from rerankers.engine.onnx import GRAPH_FILES, OnnxRuntime, find_onnx  # noqa: E402
from rerankers.engine.tokens import TextEncoder, from_folder, from_transformers, usable_length  # noqa: E402
from rerankers.tiny_models import VOCABULARY, tiny_checkpoint, tiny_tokenizer  # noqa: E402


ROOT = Path(__file__).resolve().parents[1]
QUERY, LONG = "who wrote the play hamlet ?", "hamlet " * 2000
DOCS = ["hamlet was written by william shakespeare", "goethe wrote faust", "", "the first city in london " * 20, "a"]


# ---- batches

COUNTS = st.none() | st.integers(1, 12)
BUDGETS = st.none() | st.integers(1, 60)    # small numbers, so that batches often fill their budget to the last slot


def slots(lengths): return len(lengths) * max(max(lengths), 1)


@given(lengths=st.lists(st.integers(0, 20), max_size=24), max_tokens=BUDGETS, max_items=COUNTS)
def test_batches_hold_every_item_once_within_their_budgets(lengths, max_tokens, max_items):
    "Longest first; over the budget only an item that is alone; closed only where one more would not fit"
    batches = token_batches(lengths, max_tokens=max_tokens, max_items=max_items)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    there = [[lengths[i] for i in batch] for batch in batches]
    assert [n for row in there for n in row] == sorted(lengths, reverse=True)
    def fits(row): return (max_tokens is None or slots(row) <= max_tokens) and (max_items is None or len(row) <= max_items)
    assert all(row and (len(row) == 1 or fits(row)) for row in there)
    assert not any(fits([*row, following[0]]) for row, following in zip(there, there[1:], strict=False))


def price(batches, overhead):
    "Of batches of lengths: their slots, and the overhead of each"
    return sum(len(row) * max(row) + overhead for row in batches)


def every_cut(items):
    "All ways to cut a list into runs"
    yield from [[items]] if items else [[]]
    for n in range(1, len(items)):
        for following in every_cut(items[n:]): yield [items[:n], *following]


def cheapest_of_all(lengths, max_tokens, max_items, overhead):
    "The slow and plain way: every cut of the sorted lengths whose batches are within their bounds"
    def fits(row): return len(row) == 1 or ((max_tokens is None or slots(row) <= max_tokens) and (max_items is None or len(row) <= max_items))
    allowed = [cut for cut in every_cut(sorted(lengths, reverse=True)) if all(map(fits, cut))]
    return min(allowed, key=lambda cut: price(cut, overhead))


@given(lengths=st.lists(st.integers(0, 20), max_size=9), max_tokens=BUDGETS, max_items=COUNTS, overhead=st.integers(0, 40))
def test_no_cut_is_cheaper(lengths, max_tokens, max_items, overhead):
    "Every item once, longest first, within the bounds, and at the least price of all cuts"
    batches = token_batches(lengths, max_tokens=max_tokens, max_items=max_items, overhead=overhead)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    there = [[lengths[i] for i in batch] for batch in batches]
    assert [n for row in there for n in row] == sorted(lengths, reverse=True)
    for row in there:
        assert len(row) == 1 or (max_tokens is None or slots(row) <= max_tokens) and (max_items is None or len(row) <= max_items)
    assert price(there, overhead) == price(cheapest_of_all(lengths, max_tokens, max_items, overhead), overhead)
    if not overhead: assert all(len(set(row)) == 1 for row in there)


def test_short_texts_are_not_padded_to_a_long_one():
    "Thirteen documents of mixed lengths: what one call a length would cost beside one padded batch"
    lengths = [16, 20, 22, 25, 30, 31, 33, 40, 44, 52, 60, 75, 190]
    seen = []
    def step(batch):
        seen.append(batch["input_ids"].size)
        return np.zeros((len(batch["input_ids"]), 1))
    for overhead in (8, 32):
        seen.clear()
        run_rows(step, {"input_ids": [[1] * n for n in lengths]}, pad={}, max_tokens=1024, overhead=overhead)
        assert sum(seen) < 1.15 * sum(lengths) and len(seen) < 9


ROWS = st.lists(st.lists(st.integers(1, 9), max_size=8), max_size=12)


@given(rows=ROWS, value=st.integers(-3, 0), side=st.sampled_from(["left", "right"]))
def test_padding_stands_on_one_side_only(rows, value, side):
    out = padded(rows, value, side)
    width = max(map(len, rows), default=0)
    fill = [[value] * (width - len(row)) for row in rows]
    assert out.dtype == np.int64 and out.shape == (len(rows), width)
    assert out.tolist() == [extra + row if side == "left" else row + extra for row, extra in zip(rows, fill, strict=True)]


@given(rows=ROWS.filter(bool), side=st.sampled_from(["left", "right"]), data=st.data())
def test_a_batch_masks_its_padding_and_nothing_else(rows, side, data):
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, max_size=5, unique=True))
    batch = make_batch({"input_ids": rows, "token_type_ids": [[1] * len(row) for row in rows]}, chosen, {"input_ids": 99}, side)
    for n, i in enumerate(chosen):
        real = batch["attention_mask"][n].astype(bool)
        assert batch["input_ids"][n][real].tolist() == rows[i] and set(batch["input_ids"][n][~real].tolist()) <= {99}
        assert batch["token_type_ids"][n].tolist() == real.astype(int).tolist()
        assert batch["attention_mask"][n].tolist() == sorted(real.astype(int).tolist(), reverse=side == "right")


@given(rows=ROWS, side=st.sampled_from(["left", "right"]), max_tokens=BUDGETS, batch_size=COUNTS)
def test_rows_come_back_in_the_order_of_the_items(rows, side, max_tokens, batch_size):
    "Whatever the batches were; each item goes through the model once"
    seen = []
    def step(batch):
        ids, mask = batch["input_ids"], batch["attention_mask"]
        seen.append(len(ids))
        return np.stack([(ids * mask).sum(1), mask.sum(1)], axis=1)
    out = run_rows(step, {"input_ids": rows}, pad={"input_ids": 7}, side=side, max_tokens=max_tokens, batch_size=batch_size)
    assert [row.tolist() for row in out] == [[sum(row), len(row)] for row in rows]
    assert sum(seen) == len(rows) and (batch_size is None or all(n == batch_size for n in seen[:-1]))


@given(rows=ROWS.filter(bool), batch_size=st.integers(1, 8), overhead=st.sampled_from([0, 3, math.inf]))
def test_a_batch_size_decides_alone(rows, batch_size, overhead):
    "However small the budget in tokens; without padding a batch still holds one length only"
    seen = []
    def step(batch):
        seen.append(batch["attention_mask"].sum(1).tolist())
        return np.zeros((len(seen[-1]), 1))
    run_rows(step, {"input_ids": rows}, pad={}, max_tokens=1, batch_size=batch_size, overhead=overhead)
    lengths = sorted(map(len, rows), reverse=True)
    if overhead == math.inf: assert seen == [lengths[i:i + batch_size] for i in range(0, len(rows), batch_size)]
    elif overhead: assert price(seen, overhead) == price(cheapest_of_all(lengths, None, batch_size, overhead), overhead)
    else: assert all(len(set(batch)) == 1 and len(batch) <= batch_size for batch in seen) and len(seen) == sum(
        -(-lengths.count(n) // batch_size) for n in set(lengths))


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_model_with_too_many_or_too_few_rows_is_unusable(extra):
    with pytest.raises(UnusableAnswer): run_rows(lambda b: np.zeros((len(b["input_ids"]) + extra, 1)), {"input_ids": [[1], [2]]}, pad={})


# ---- tokens

TEXTS = st.lists(st.sampled_from([*VOCABULARY, "zebra", "哈", "🎭", "\n"]), max_size=24).map(" ".join)
SHARED = st.tuples(st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=3))     # queries that share documents
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4) | SHARED.map(lambda both: list(product(*both)))


@cache
def slow_tokenizer():
    "One that exists in Python only, and needs no files"
    return transformers.CanineTokenizer()


TOKENIZERS = {"fast": tiny_tokenizer, "slow": slow_tokenizer}


@pytest.fixture(scope="session", params=TOKENIZERS)
def official(request): return TOKENIZERS[request.param]()


def same(ours, theirs): return all(ours[name] == theirs[name] for name in ("input_ids", "token_type_ids"))


@given(pairs=PAIRS, length=st.none() | st.integers(5, 40))
def test_pairs_are_cut_as_transformers_cuts_them(official, pairs, length):
    queries, texts = map(list, zip(*pairs, strict=True))
    theirs = official(queries, texts, truncation="longest_first" if length else False, max_length=length)
    assert same(TextEncoder(from_transformers(official), length).pairs(pairs), theirs)


@given(texts=st.lists(TEXTS, min_size=1, max_size=4), length=st.none() | st.integers(3, 40))
def test_single_texts_are_cut_as_transformers_cuts_them(official, texts, length):
    theirs = official(texts, truncation=length is not None, max_length=length)
    assert same(TextEncoder(from_transformers(official), length).texts(texts), theirs)


@given(pairs=PAIRS, length=st.none() | st.integers(16, 40), cap=st.none() | st.integers(1, 12))
@example(pairs=[("who wrote the play hamlet ?", "faust " * 24), ("who", "faust " * 24)], length=20, cap=None)
def test_only_second_is_the_plain_rule(pairs, length, cap):
    "The query capped, then the document cut to what is left: FlagEmbedding's `prepare_for_model`, written out"
    tokenizer = tiny_tokenizer()
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    ours = TextEncoder(from_transformers(tokenizer), length, truncation="only_second", query_length=cap).pairs(pairs)
    for n, (query, text) in enumerate(pairs):
        q, d = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (query, text))
        q = q if cap is None else q[:cap]
        if length is not None and len(q) + 3 > length: continue     # no room for the query itself: tested below
        d = d if length is None else d[:length - len(q) - 3]
        assert ours["input_ids"][n] == [cls, *q, sep, *d, sep]
        assert ours["token_type_ids"][n] == [0] * (len(q) + 2) + [1] * (len(d) + 1)


TRUNCATIONS = ["longest_first", "only_second"]


@given(pairs=PAIRS, length=st.integers(5, 40), cap=st.none() | st.integers(1, 40), truncation=st.sampled_from(TRUNCATIONS))
@example(pairs=[("hamlet " * 24, "faust")], length=8, cap=None, truncation="only_second")
@example(pairs=[("hamlet " * 24, "faust")], length=8, cap=12, truncation="only_second")
@example(pairs=[("hamlet " * 24, "")], length=8, cap=None, truncation="longest_first")
def test_no_pair_is_longer_than_max_length(pairs, length, cap, truncation):
    "However long the query is: a model has no room for more"
    encoder = TextEncoder(from_transformers(tiny_tokenizer()), length, truncation=truncation, query_length=cap)
    assert max(map(len, encoder.pairs(pairs)["input_ids"])) <= length


@given(pairs=PAIRS, length=st.integers(5, 40), cap=st.none() | st.integers(1, 40), truncation=st.sampled_from(TRUNCATIONS))
def test_what_was_cut_is_known(official, pairs, length, cap, truncation):
    "A pair is said to be cut when its tokens are not those of the whole pair"
    if not getattr(official, "is_fast", False): truncation, cap = TRUNCATIONS[0], None
    found = TextEncoder(from_transformers(official), length, truncation=truncation, query_length=cap if truncation == "only_second" else None).pairs(pairs)
    whole = TextEncoder(from_transformers(official), None).pairs(pairs)
    assert found.cut == [ours != all_ids for ours, all_ids in zip(found["input_ids"], whole["input_ids"])]
    assert not any(whole.cut)


@pytest.mark.parametrize("name", ["bert", "chain", "biencoder"])
def test_results_say_what_was_cut(name):
    for ranker in [load(name)] + ([load(name, truncation="only_second", query_length=64)] if name == "bert" else []):
        assert {r.doc_id: r.truncated for r in ranker.rank(QUERY, ["hamlet", LONG])} == {0: False, 1: True}
        assert ranker.rank(LONG, ["hamlet"])[0].truncated


def test_folder_and_transformers_give_the_same_vocabulary():
    "What is read without transformers is what is read with it"
    folder = Path(tiny_checkpoint("bert"))
    bare, full = from_folder(folder), from_transformers(transformers.AutoTokenizer.from_pretrained(folder))
    assert (bare.inputs, bare.side, bare.limit, bare.fast) == (full.inputs, full.side, full.limit, full.fast)
    assert bare.pad["input_ids"] == full.pad["input_ids"]
    pairs = [(QUERY, d) for d in DOCS]
    assert same(TextEncoder(bare, 32).pairs(pairs), TextEncoder(full, 32).pairs(pairs))


@pytest.mark.parametrize("length", [1])
def test_no_room_for_special_tokens_is_an_error(length):
    "The tokenizers library would ignore such a limit"
    with pytest.raises(InputError, match="special tokens"): TextEncoder(from_transformers(tiny_tokenizer()), length)
    with pytest.raises(InputError, match="special tokens"): load("biencoder", max_length=length)


def test_two_encoders_of_one_vocabulary_do_not_disturb_each_other():
    vocabulary = from_transformers(tiny_tokenizer())
    whole, short = TextEncoder(vocabulary, None), TextEncoder(vocabulary, 8)
    capped = TextEncoder(vocabulary, 30, truncation="only_second")
    text = "hamlet " * 50
    assert [len(e.pairs([("who", text)])["input_ids"][0]) for e in (whole, short, capped)] == [54, 8, 30]


def test_the_callers_tokenizer_is_not_changed():
    tokenizer, pair = tiny_tokenizer(), (QUERY, "hamlet " * 50)
    before = tokenizer(*pair)
    TextEncoder(from_transformers(tokenizer), 8).pairs([pair])
    assert tokenizer(*pair) == before


@pytest.mark.parametrize(("official", "truncation"), [("fast", TRUNCATIONS[0]), ("fast", TRUNCATIONS[1]), ("slow", TRUNCATIONS[0])],
                         indirect=["official"])
def test_encoding_from_many_threads(official, truncation):
    "No 'Already borrowed', and each thread gets its own answer"
    encoder = TextEncoder(from_transformers(official), 24, truncation=truncation)
    jobs = [[(f"who wrote {a} ?", "hamlet " * n) for n in range(1, 12)] for a in VOCABULARY[:24]]
    alone = [encoder.pairs(job) for job in jobs]
    with ThreadPoolExecutor(6) as pool: assert list(pool.map(encoder.pairs, jobs * 4)) == alone * 4


class OneAtATime:
    "A slow tokenizer that cannot do two things at once, as those with state cannot"
    busy = False
    def __getattr__(self, name): return getattr(slow_tokenizer(), name)
    def __call__(self, *args, **kwargs):
        assert not self.busy, "called from two threads at once"
        self.busy = True
        time.sleep(0.005)
        try: return slow_tokenizer()(*args, **kwargs)
        finally: self.busy = False


def test_a_slow_tokenizer_is_called_by_one_thread_at_a_time():
    encoder = TextEncoder(from_transformers(OneAtATime()), 24)
    with ThreadPoolExecutor(4) as pool: assert len(list(pool.map(encoder.pairs, [[(QUERY, d)] for d in DOCS * 4]))) == 4 * len(DOCS)


def test_an_encoder_survives_pickling(official):
    encoder = TextEncoder(from_transformers(official), 12)
    assert pickle.loads(pickle.dumps(encoder)).pairs([(QUERY, LONG)]) == encoder.pairs([(QUERY, LONG)])


def test_truncation_is_no_news(official):
    "A tokenizer that cuts a text says nothing: transformers' log goes to the error stream"
    said = []
    class Listen(logging.Handler):
        def emit(self, record): said.append(record.getMessage())
    handler = Listen(logging.WARNING)
    logging.getLogger("transformers").addHandler(handler)
    try: TextEncoder(from_transformers(official), 12).pairs([(QUERY, LONG), (LONG, QUERY)])
    finally: logging.getLogger("transformers").removeHandler(handler)
    assert said == []


def test_only_second_needs_a_fast_tokenizer():
    encoder = TextEncoder(from_transformers(slow_tokenizer()), 12, truncation="only_second")
    with pytest.raises(ModelLoadError, match="only_second"): encoder.pairs([(QUERY, "hamlet")])


# ---- models to try things on

def onnx_checkpoint():
    pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # of torch's exporter
        return tiny_checkpoint("bert", onnx=True)


TORCH = ["bert", "chain", "biencoder"]
CHECKPOINTS = {kind: partial(tiny_checkpoint, kind) for kind in TORCH} | {"onnx": onnx_checkpoint}


def load(name, folder=None, **options):
    "A ranker on a tiny checkpoint, or on a changed copy of it"
    return Reranker(folder or CHECKPOINTS[name](), **({"backend": "onnx"} if name == "onnx" else {}), **({"device": "cpu"} | options))


@pytest.fixture
def copied(tmp_path):
    "Makes a copy of a tiny checkpoint that may be damaged"
    def make(name): return Path(shutil.copytree(CHECKPOINTS[name](), tmp_path / name))
    return make


@pytest.fixture(scope="session")
def rankers():
    return {}


def shared(rankers, name):
    if name not in rankers: rankers[name] = load(name)
    return rankers[name]


def edit(file, **changes): file.write_text(json.dumps(json.loads(file.read_text()) | changes))
def scores(ranker, docs=DOCS): return [ranker.rank(QUERY, docs).get_score_by_docid(i) for i in range(len(docs))]


# ---- options

@pytest.mark.parametrize("device", ["gpu", "cpuu", "", 42, "xpu"])
@pytest.mark.parametrize("name", ["bert", "onnx"])
def test_a_device_that_is_none_or_not_here_is_an_input_error(name, device):
    "For either runtime: a typo must not mean the CPU in silence"
    if device == "xpu" and torch.xpu.is_available(): pytest.skip("there is one here")
    with pytest.raises(InputError, match="device"): load(name, device=device)


@pytest.mark.parametrize("name", ["bert", "onnx"])
def test_cuda_without_a_card_is_an_input_error(name):
    if torch.cuda.is_available(): pytest.skip("there is one here")
    with pytest.raises(InputError): load(name, device="cuda:0")


@pytest.mark.parametrize("name", ["bert", "onnx"])
@pytest.mark.parametrize("device", ["cpu", None, "auto", torch.device("cpu")], ids=str)
def test_devices_that_are_here(name, device): assert load(name, device=device).rank(QUERY, DOCS)[0].rank == 1


@pytest.mark.parametrize("dtype", ["flaot32", "int4", "", "float8_e4m3fn", torch.int32, 7, "randn", "nn"], ids=str)
def test_a_wrong_dtype_is_an_input_error(dtype):
    with pytest.raises(InputError, match="dtype"): load("bert", dtype=dtype)


HALVES = {"bfloat16": torch.bfloat16, "bf16": torch.bfloat16, torch.bfloat16: torch.bfloat16,
          "float16": torch.float16, "fp16": torch.float16, "half": torch.float16}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", TORCH)
def test_half_precision_is_obeyed(rankers, name, dtype):
    half = load(name, dtype=dtype)
    assert half.runtime.model.dtype is HALVES[dtype] and shared(rankers, name).runtime.model.dtype is torch.float32
    assert scores(half) != scores(shared(rankers, name))


def test_a_processor_computes_in_float32_whatever_is_stored(copied):
    folder = copied("bert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert load("bert", str(folder)).runtime.model.dtype is torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_each_precision_is_that_of_transformers(dtype):
    "One pair at a time, so that nothing is padded: the same arithmetic, whatever the format"
    folder = tiny_checkpoint("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).to(getattr(torch, dtype)).eval()
    with torch.inference_mode():
        official = [model(**tokenizer([QUERY], [d], truncation=True, return_tensors="pt")).logits.float().item() for d in DOCS]
    assert scores(load("bert", dtype=dtype, activation="identity", batch_size=1)) == near(official)


@pytest.mark.parametrize("kit", ["cross_encoder_bert", "cross_encoder_xlmr", "cross_encoder_modernbert", "ettin_chain", "biencoder"])
def test_bfloat16_is_near_float32(shared_dir, kit):
    "With 8 significant bits, no score moves by more than a twentieth of the scores' range"
    case = max(json.loads((shared_dir / "parity" / kit / "cases.json").read_text())["cases"][:12], key=lambda c: len(c["docs"]))
    folder = str(shared_dir / "parity" / kit / "model")
    full, half = (load(kit, folder, dtype=dtype).rank(case["query"], case["docs"]) for dtype in ("float32", "bfloat16"))
    worst = max(abs(r.score - half.get_score_by_docid(r.doc_id)) for r in full)
    assert 0 < worst < 0.05 * (full[0].score - full[-1].score)


SIZES = [{"max_length": 0}, {"max_length": -5}, {"max_length": 2.5}, {"max_length": "12"}, {"max_length": 100_000},
         {"max_tokens": 0}, {"max_tokens": -1}, {"batch_size": 0}]


@pytest.mark.parametrize("name", ["bert", "biencoder"])
@pytest.mark.parametrize("options", SIZES, ids=str)
def test_lengths_and_sizes_that_cannot_be_are_input_errors(name, options):
    "When loading, or at the latest when ranking a text that is too long"
    with pytest.raises(InputError): load(name, **options).rank(QUERY, [LONG])


NO_WORDS = [{"truncation": "longest"}, {"activation": "sigmiod"}, {"label": 5}, {"label": "relevant"}, {"backend": "tensorrt"},
            {"query_length": 0, "truncation": "only_second"}]


@pytest.mark.parametrize("options", NO_WORDS, ids=str)
def test_words_that_mean_nothing_are_input_errors(options):
    with pytest.raises(InputError): load("bert", **options)


ONLY_SECOND = {"truncation": "only_second"}


@pytest.mark.parametrize("options", [{}, {"max_length": 5}, ONLY_SECOND, ONLY_SECOND | {"query_length": 500}], ids=str)
def test_a_query_longer_than_the_model(options):
    "Is cut, or refused with an error of ours"
    ranker = load("bert", **options)
    try: results = ranker.rank(LONG, DOCS)
    except RerankersError: return
    assert len(results) == len(DOCS)


# ---- heads and files

def test_a_model_without_a_head_is_refused_and_can_be_forced():
    folder = tiny_checkpoint("bert", headless=True)
    with pytest.raises(ModelLoadError, match="RANDOM.*biencoder.*random_head"): load("bert", folder, model_type="cross-encoder")
    assert len(load("bert", folder, model_type="cross-encoder", random_head=True).rank(QUERY, DOCS)) == len(DOCS)


@pytest.mark.parametrize("prefix", ["classifier", "bert.encoder.layer.1", "bert.embeddings.word_embeddings"])
def test_weights_that_are_missing_are_an_error(copied, prefix):
    "Of the head or of any layer: they would be random"
    from safetensors.torch import load_file, save_file
    folder = copied("bert")
    kept = {name: t for name, t in load_file(folder / "model.safetensors").items() if not name.startswith(prefix)}
    assert len(kept) < len(load_file(folder / "model.safetensors"))
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="RANDOM"): load("bert", str(folder))


def cut(file): file.write_bytes(file.read_bytes()[:3000])
def no_tokenizer(folder): return [file.unlink() for file in folder.glob("tokenizer*")]
def swap(folder): shutil.copy(folder / "3_LayerNorm" / "model.safetensors", folder / "2_Dense" / "model.safetensors")


DAMAGES = {     # what -> checkpoint, how
    "configuration that is no JSON": ("bert", lambda f: (f / "config.json").write_text("{")),
    "configuration that is a list": ("bert", lambda f: (f / "config.json").write_text("[]")),
    "configuration missing": ("bert", lambda f: (f / "config.json").unlink()),
    "architecture unknown": ("bert", lambda f: edit(f / "config.json", model_type="nothing")),
    "tokenizer missing": ("bert", no_tokenizer),
    "tokenizer of an embedding model missing": ("biencoder", no_tokenizer),
    "tokenizer garbled": ("bert", lambda f: (f / "tokenizer.json").write_text("{}")),
    "tokenizer of a graph missing": ("onnx", no_tokenizer),
    "tokenizer of a graph garbled": ("onnx", lambda f: (f / "tokenizer.json").write_text("{}")),
    "weights missing": ("bert", lambda f: (f / "model.safetensors").unlink()),
    "weights cut off": ("bert", lambda f: cut(f / "model.safetensors")),
    "weights empty": ("bert", lambda f: (f / "model.safetensors").write_bytes(b"")),
    "labels too many": ("bert", lambda f: edit(f / "config.json", id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})),
    "vocabulary of another size": ("bert", lambda f: edit(f / "config.json", vocab_size=7)),
    "layer's weights missing": ("chain", lambda f: (f / "2_Dense" / "model.safetensors").unlink()),
    "layer's weights garbled": ("chain", lambda f: (f / "2_Dense" / "model.safetensors").write_bytes(b"?")),
    "layer's weights swapped": ("chain", swap),
    "modules garbled": ("chain", lambda f: (f / "modules.json").write_text('[{"idx": 0}]')),
    "graph cut off": ("onnx", lambda f: cut(f / "onnx" / "model.onnx")),
    "graph missing": ("onnx", lambda f: (f / "onnx" / "model.onnx").unlink()),
}


@pytest.mark.filterwarnings("ignore:nothing says what kind of model")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_an_error_of_ours(copied, damage):
    "Never a ranking of noise, and never a stack of somebody else's"
    name, harm = DAMAGES[damage]
    folder = copied(name)
    harm(folder)
    with pytest.raises(RerankersError): load(name, str(folder)).rank(QUERY, DOCS)


@pytest.mark.parametrize("word", ["cross-encoder", "biencoder"])
@pytest.mark.parametrize("source", ["empty folder", "no folder", "a file", "never on the hub"])
def test_what_is_no_model_is_a_load_error(tmp_path, word, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    places = {"empty folder": tmp_path / "empty", "no folder": tmp_path / "absent", "a file": tmp_path / "file.txt"}
    with pytest.raises(ModelLoadError, match="folder"):
        Reranker(places.get(source, "nobody/has-this-model-x"), model_type=word, device="cpu")


# ---- strangers' code

CODE = """
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
Path({marker!r}).touch()
class TheirConfig(BertConfig): model_type = "theirs"
class TheirModel(BertForSequenceClassification): config_class = TheirConfig
class TheirTokenizer(PreTrainedTokenizerFast): pass
"""
AUTO = {"AutoConfig": "theirs.TheirConfig", "AutoModel": "theirs.TheirModel", "AutoModelForSequenceClassification": "theirs.TheirModel"}


@pytest.fixture
def marker(tmp_path): return tmp_path / "their-code-ran"


def with_code(folder, marker, model_type):
    "A checkpoint that brings code of its own for configuration, model and tokenizer"
    (folder / "theirs.py").write_text(CODE.format(marker=str(marker)))
    edit(folder / "config.json", auto_map=AUTO, model_type=model_type)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "theirs.TheirTokenizer"]}, tokenizer_class="TheirTokenizer")
    return str(folder)


@pytest.mark.parametrize("name", TORCH)
def test_code_that_a_checkpoint_needs_is_not_run(copied, marker, name):
    "It cannot be loaded without, and the error is ours"
    folder = with_code(copied(name), marker, "theirs")
    with pytest.raises(ModelLoadError): load(name, folder)
    assert not marker.exists()


@pytest.mark.parametrize("name", TORCH)
def test_code_that_a_checkpoint_only_brings_is_not_run(rankers, copied, marker, name):
    "transformers has the architecture itself, and uses its own"
    assert scores(load(name, with_code(copied(name), marker, "bert"))) == near(scores(shared(rankers, name)))
    assert not marker.exists()


def test_code_is_run_when_the_caller_says_so(copied, marker, tmp_path, monkeypatch):
    "Which also shows that the two tests before this one could fail"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert len(load("bert", with_code(copied("bert"), marker, "theirs"), trust_remote_code=True).rank(QUERY, DOCS)) == len(DOCS)
    assert marker.exists()


@pytest.mark.parametrize("where", ["module", "activation"])
def test_code_that_a_chain_names_is_not_imported(copied, marker, monkeypatch, where):
    folder = copied("chain")
    (folder / "theirs.py").write_text(CODE.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(folder))    # it could be imported
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "theirs.TheirModel"
    if where == "module": (folder / "modules.json").write_text(json.dumps(modules))
    else: edit(folder / "2_Dense" / "config.json", activation_function="theirs.TheirModel")
    with pytest.raises(ModelLoadError): load("chain", str(folder))
    assert not marker.exists() and "theirs" not in sys.modules


class Evil:
    "Makes a file when it is unpickled"
    def __init__(self, marker): self.marker = marker
    def __reduce__(self): return Path.touch, (Path(self.marker),)


def as_pickle(thing, file): file.write_bytes(pickle.dumps(thing))


@pytest.fixture(params=[("bert", ""), ("chain", ""), ("chain", "2_Dense"), ("biencoder", "")], ids="-".join)
def poisoned(request, copied, marker):
    "Checkpoint and folder, with a malicious pickle in place of the weights or of one layer's"
    name, part = request.param
    folder = copied(name)
    (folder / part / "model.safetensors").unlink()
    return name, folder, lambda write: write({"linear.weight": Evil(marker)}, folder / part / "pytorch_model.bin")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", [torch.save, as_pickle], ids=["torch.save", "pickle"])
def test_a_malicious_pickle_is_not_executed(poisoned, marker, write):
    "Weights in a pickle are read as data"
    name, folder, poison = poisoned
    poison(write)
    with pytest.raises((RerankersError, pickle.UnpicklingError)): load(name, str(folder))
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", [torch.save, as_pickle], ids=["torch.save", "pickle"])
def test_a_malicious_pickle_is_an_error_of_ours(poisoned, write):
    "torch's own advises to load it without care"
    name, folder, poison = poisoned
    poison(write)
    with pytest.raises(ModelLoadError): load(name, str(folder))


def test_the_malicious_pickle_is_malicious(marker):
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()


@pytest.mark.parametrize(("name", "part"), [("bert", ""), ("chain", "2_Dense"), ("biencoder", "")])
def test_honest_weights_in_a_pickle_are_read(rankers, copied, name, part):
    from safetensors.torch import load_file
    folder = copied(name)
    safe = folder / part / "model.safetensors"
    torch.save(load_file(safe), safe.with_name("pytorch_model.bin"))
    safe.unlink()
    assert scores(load(name, str(folder))) == near(scores(shared(rankers, name)))


@pytest.mark.parametrize(("name", "part"), [("bert", ""), ("chain", "2_Dense"), ("biencoder", "")])
def test_safetensors_come_first(rankers, copied, marker, name, part):
    "The pickle beside them is not even opened"
    folder = copied(name)
    as_pickle(Evil(marker), folder / part / "pytorch_model.bin")
    assert scores(load(name, str(folder))) == near(scores(shared(rankers, name)))
    assert not marker.exists()


# ---- much and long

LARGE = ["bert", "biencoder", "onnx"]   # a chain is encoded as a classifier is


@pytest.mark.parametrize("name", LARGE)
def test_a_document_of_a_megabyte(rankers, name):
    "Is cut: it scores as its beginning does, and does not take long"
    ranker, text = shared(rankers, name), "hamlet was written in london " * 36_000
    assert len(text) > 1_000_000
    start = time.process_time()     # of this process: how busy the machine is does not count
    long, short = scores(ranker, [text, text[:3000]])
    assert time.process_time() - start < 10
    assert long == near(short)


@pytest.mark.parametrize("name", LARGE)
def test_ten_thousand_documents(rankers, name):
    "Come back once each, with the scores that they have alone, within seconds on a tiny model"
    ranker, texts = shared(rankers, name), [f"hamlet {i} wrote the play {i % 97}" for i in range(10_000)]
    start = time.process_time()
    results = ranker.rank(QUERY, texts)
    assert time.process_time() - start < 20
    assert sorted(r.doc_id for r in results) == list(range(10_000)) and results[0].score >= results[-1].score
    for i in (0, 4321, 9999): assert results.get_score_by_docid(i) == near(ranker.score(QUERY, texts[i]))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_calls_from_threads_and_tasks_give_what_single_calls_give(rankers, name):
    ranker = shared(rankers, name)
    jobs = [(f"who wrote {word} ?", [f"{word} {n}" for n in range(1, 9)] + DOCS) for word in VOCABULARY[:12]]
    alone = [ranker.rank(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool: threads = list(pool.map(lambda job: ranker.rank(*job), jobs))
    async def together(): return await asyncio.gather(*[ranker.rank_async(*job) for job in jobs])
    for found in (threads, asyncio.run(together())):
        for ours, expected in zip(found, alone, strict=True):
            assert ours.query == expected.query
            for r in expected: assert ours.get_score_by_docid(r.doc_id) == near(r.score)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_pooled_queries_from_a_task_give_what_single_calls_give(rankers, name):
    ranker, queries = shared(rankers, name), ["who wrote hamlet ?", "who wrote faust ?", "which city ?"]
    for found, query in zip(asyncio.run(ranker.rank_many_async(queries, DOCS)), queries, strict=True):
        for r in ranker.rank(query, DOCS): assert found.get_score_by_docid(r.doc_id) == near(r.score)


# ---- ONNX

@pytest.mark.parametrize(("better", "worse"), [
    ("onnx/model.onnx", "model.onnx"), ("model.onnx", "onnx/model_O2.onnx"), ("model.onnx", "onnx/model_int8.onnx"),
    ("onnx/model_O3.onnx", "onnx/model_quantized.onnx"), ("onnx/model_int8.onnx", "onnx/model_fp16.onnx")])
def test_full_precision_comes_before_optimised_before_quantised_before_half(tmp_path, better, worse):
    (tmp_path / "onnx").mkdir()
    for name in (worse, better): (tmp_path / name).touch()
    assert find_onnx(tmp_path) == tmp_path / better


@pytest.mark.parametrize("first", range(len(GRAPH_FILES)), ids=GRAPH_FILES)
def test_the_onnx_file_is_the_first_of_the_usual_names(tmp_path, first):
    (tmp_path / "onnx").mkdir()
    for name in (*GRAPH_FILES[first:], "onnx/other.onnx"): (tmp_path / name).touch()
    assert find_onnx(tmp_path) == tmp_path / GRAPH_FILES[first]


def test_a_named_onnx_file_wins(copied):
    pytest.importorskip("onnxruntime")
    folder = copied("onnx")
    shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / "mine.onnx")
    for name in ("mine.onnx", "onnx/mine.onnx"):
        assert Path(Reranker(str(folder), file_name=name).runtime.path) == folder / "onnx" / "mine.onnx"
    with pytest.raises(ModelLoadError, match=r"onnx/mine\.onnx"): Reranker(str(folder), file_name="theirs.onnx")


@pytest.mark.parametrize(("kept", "expected"), [("both", "TorchRuntime"), ("onnx", "OnnxRuntime")])
def test_torch_runs_what_has_weights_and_onnxruntime_what_has_none(copied, kept, expected):
    pytest.importorskip("onnxruntime")
    folder = copied("onnx")
    if kept == "onnx": (folder / "model.safetensors").unlink()
    assert type(Reranker(str(folder), device="cpu").runtime).__name__ == expected


def test_a_graph_without_a_head_is_refused(tmp_path):
    "Hidden states are no scores"
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "trunk"))
    make, integers, floats = onnx.helper, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    nodes = [make.make_node("Cast", ["input_ids"], ["cast"], to=floats),
             make.make_node("Unsqueeze", ["cast", "axis"], ["last_hidden_state"])]
    ids = make.make_tensor_value_info("input_ids", integers, ["items", "tokens"])
    out = make.make_tensor_value_info("last_hidden_state", floats, ["items", "tokens", 1])
    graph = make.make_graph(nodes, "trunk", [ids], [out], [make.make_tensor("axis", integers, [1], [2])])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), str(folder / "model.onnx"))
    with pytest.raises(ModelLoadError, match="head"): Reranker(str(folder), backend="onnx")


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("1", 1), ("2,4", 2), (" 2 ", 2), ("", 0), ("0", 0), ("many", 0), ("-1", 0), (None, 0)])
def test_onnxruntime_takes_the_threads_that_the_environment_allows(monkeypatch, said, threads):
    "As torch does; 0 is onnxruntime's own choice"
    if said is None: monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else: monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert load("onnx").runtime.session.get_session_options().intra_op_num_threads == threads


def test_the_callers_threads_go_before_the_environments(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    runtime = OnnxRuntime(Path(onnx_checkpoint()) / "onnx" / "model.onnx", threads=2)
    assert runtime.session.get_session_options().intra_op_num_threads == 2


def test_onnx_and_torch_agree(rankers):
    in_torch = load("bert", onnx_checkpoint(), backend="torch")
    assert scores(shared(rankers, "onnx")) == near(scores(in_torch))


WITHOUT_TORCH = """
import json, sys
from rerankers import Reranker
ranker = Reranker(sys.argv[1])
results = ranker.rank(*json.loads(sys.argv[2]))
print(json.dumps([type(ranker.runtime).__name__, [results.get_score_by_docid(i) for i in range(len(results))],
                  sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "huggingface_hub"})]))
"""


def test_onnx_needs_no_torch(rankers, tmp_path):
    "In an environment that has the packages of the extra `onnx` and no other"
    import fastcore
    import onnxruntime
    import tokenizers
    for module in (fastcore, np, onnxruntime, tokenizers):
        place = Path(module.__file__).parent
        for there in (place, place.with_name(f"{place.name}.libs")):
            if there.exists(): (tmp_path / there.name).symlink_to(there)
    command = [sys.executable, "-S", "-c", WITHOUT_TORCH, onnx_checkpoint(), json.dumps([QUERY, DOCS])]
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(command, capture_output=True, text=True, env=paths, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    runtime, found, loaded = json.loads(done.stdout)
    assert (runtime, loaded) == ("OnnxRuntime", []) and found == near(scores(shared(rankers, "onnx")))


@pytest.mark.parametrize("option", [{"model_kwargs": {"a": 1}}, {"tokenizer_kwargs": {"a": 1}}, {"random_head": True}], ids=str)
def test_an_option_without_effect_on_a_graph_is_an_input_error(option):
    with pytest.raises(InputError, match="no effect"): Reranker(tiny_checkpoint("bert", onnx=True), backend="onnx", **option)


@pytest.mark.parametrize(("pad", "room"), [(0, 513), (1, 512), (None, 512)])
def test_positions_of_roberta_count_from_its_padding(pad, room):
    assert usable_length({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": pad}, None) == room


def test_a_length_beyond_the_tokenizers_habit_is_taken_where_the_model_has_room(tmp_path):
    "A tokenizer's limit is a default, as in sentence-transformers; the model's positions are a bound"
    shutil.copytree(tiny_checkpoint("bert"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 32}))
    assert Reranker(str(tmp_path), device="cpu").max_length == 32
    ranker = Reranker(str(tmp_path), device="cpu", max_length=100)
    assert len(ranker.encode([(QUERY, LONG)])["input_ids"][0]) == 100
    with pytest.raises(InputError, match="has room for 128"): Reranker(str(tmp_path), device="cpu", max_length=129)
