"FlashRank's models: their official scores, where their files are found, and which words lead to them"
import json
import os
import shutil
import subprocess
import sys
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import pytest

pytest.importorskip("onnxruntime")
from closeness import distance  # noqa: E402
from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends import flashrank as ours  # noqa: E402
from rerankers.errors import ModelLoadError, UnknownModel  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import QUERY, SAMPLE_TEXTS, check_ranker  # noqa: E402
from tiny_gguf import write_gguf  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT.parent / "shared" / "parity"
KITS = ["flashrank_onnx", "flashrank_onnx_2out"]
READABLE = [t for t in SAMPLE_TEXTS if "\ud800" not in t]      # the official library cannot read half a character
needs_kits = pytest.mark.usefixtures("shared_dir")


def cases(kit):
    return json.loads((PARITY / kit / "cases.json").read_text())["cases"]


def model_folder(kit):
    return PARITY / kit / "model" / cases(kit)[0]["kwargs"]["model_name"]


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


def worst(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def live(folder, max_length=512):
    "FlashRank itself on a folder in its layout: a function from query and documents to scores"
    official = pytest.importorskip("flashrank")
    ranker = official.Ranker(folder.name, cache_dir=str(folder.parent), max_length=max_length, log_level="ERROR")

    def scores(query, docs):
        made = [{"id": i, "text": d} for i, d in enumerate(docs)]
        ranker.rerank(official.RerankRequest(query=query, passages=made))
        return [float(p["score"]) for p in sorted(made, key=lambda p: p["id"])]
    return scores


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    "No test reads or fills the caches of whoever runs it"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ours, "FLASHRANK_HOME", tmp_path / "flashrank-tmp")


def copy_model(kit, home, name=None):
    "A kit's model as a folder below `home`"
    source = model_folder(kit)
    return Path(shutil.copytree(source, Path(home) / (name or source.name), copy_function=shutil.copyfile))


# ---- official scores

@needs_kits
@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("kit", KITS)
def test_each_case(kit, batch_size):
    for case in cases(kit):
        ranker = Reranker(case["kwargs"]["model_name"], model_type="flashrank", cache_dir=str(PARITY / kit / "model"), max_length=case["kwargs"]["max_length"])
        results = ranker.rank(case["query"], case["docs"], batch_size=batch_size)
        assert distance(by_position(results), case["scores"]) <= 1, case["name"]
        assert all(type(r.score) is float for r in results)


@needs_kits
@pytest.mark.parametrize("kit", KITS)
def test_pooled_queries(kit):
    for length in (96, 512):
        group = [c for c in cases(kit) if c["kwargs"]["max_length"] == length]
        ranker = Reranker(str(model_folder(kit)), max_length=length)
        for case, results in zip(group, ranker.rank_many([c["query"] for c in group], [c["docs"] for c in group])):
            assert distance(by_position(results), case["scores"]) <= 1, case["name"]


@needs_kits
@pytest.mark.parametrize("kit", KITS)
def test_live(kit):
    scores, ranker = live(model_folder(kit)), Reranker(str(model_folder(kit)))
    for case in cases(kit): assert distance(by_position(ranker.rank(case["query"], case["docs"])), scores(case["query"], case["docs"])) <= 1, case["name"]
    assert distance(by_position(ranker.rank(QUERY, READABLE)), scores(QUERY, READABLE)) <= 1


@needs_kits
def test_tokens_of_the_special_tokens_map_count(tmp_path):
    "A literal token that only special_tokens_map.json knows is one token, written as text or as a dictionary"
    folder = copy_model(KITS[0], tmp_path)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    word = next(w for w in vocabulary if w.isalpha() and len(w) == 2)      # a word that would be a part of others
    docs = [f"x{word}x {word}{word} and more", f"{word}", "[SEP] in the [MASK] middle"]
    before = by_position(Reranker(str(folder)).rank(QUERY, docs))
    known = json.loads((folder / "special_tokens_map.json").read_text())
    entry = {"content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for token in (word, entry):
        (folder / "special_tokens_map.json").write_text(json.dumps({**known, "extra": token}))
        found = by_position(Reranker(str(folder)).rank(QUERY, docs))
        assert worst(found, before) > 1e-4
        assert distance(found, live(folder)(QUERY, docs)) <= 1


# ---- graphs of other shapes

def export(model, folder, inputs, file):
    "A torch module as an ONNX graph with free batch and length"
    import torch
    free = {name: {0: "batch", 1: "tokens"} for name in inputs}
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # tracing warns of what it always does
        torch.onnx.export(model.eval(), example, str(folder / file), input_names=list(inputs), output_names=["logits"],
                          dynamic_axes={**free, "logits": {0: "batch"}}, dynamo=False)


def write_companions(tokenizer, folder, **config):
    "The small files of a FlashRank folder"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": tokenizer.pad_token_id, **config}))
    names = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def rank_t5(tmp_path_factory):
    "rank-T5-flan in small: a T5 encoder whose first position gives one number, with two inputs"
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("onnx")
    from rerankers.tiny_models import tiny_pieces
    folder, tokenizer = tmp_path_factory.mktemp("t5") / "rank-T5-flan", tiny_pieces("$A </s>")
    folder.mkdir()
    torch.manual_seed(2)
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
                                   initializer_factor=3.0)

    class Ranker(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = transformers.T5EncoderModel(config), torch.nn.Linear(32, 1)
        def forward(self, ids, mask): return self.head(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])

    model = Ranker()
    export(model, folder, ("input_ids", "attention_mask"), "flashrank-rankt5_Q.onnx")
    write_companions(tokenizer, folder)
    return folder, model, tokenizer


def test_a_t5_encoder_with_two_inputs(rank_t5):
    import torch
    folder, model, tokenizer = rank_t5
    ranker = Reranker("rank-T5-flan", cache_dir=str(folder.parent))
    assert ranker.runtime.inputs == ["input_ids", "attention_mask"]
    made = tokenizer([QUERY] * len(READABLE), READABLE, truncation=True, max_length=512, padding=True, return_tensors="pt")
    with torch.no_grad(): expected = torch.sigmoid(model(made["input_ids"], made["attention_mask"]))[:, 0].tolist()
    assert len(set(expected)) > 5
    for size in (1, 7, None): assert distance(by_position(ranker.rank(QUERY, READABLE, batch_size=size)), expected) <= 1
    check_ranker(ranker)


def test_a_t5_encoder_live(rank_t5):
    folder = rank_t5[0]
    ranker = Reranker(folder)
    assert distance(by_position(ranker.rank(QUERY, READABLE)), live(folder)(QUERY, READABLE)) <= 1


@pytest.mark.parametrize("labels", [1, 2])
def test_segments_that_are_all_zero(tmp_path, labels):
    "A tokenizer without segments: FlashRank leaves them out, and a graph that has no such input scores as the one that gets zeros"
    torch = pytest.importorskip("torch")
    for module in ("transformers", "onnx"): pytest.importorskip(module)
    from tokenizers import processors
    from rerankers.tiny_models import tiny_bert, tiny_tokenizer
    model, tokenizer = tiny_bert(labels, False), tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
                                                                               special_tokens=[("[CLS]", 2), ("[SEP]", 3)])

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
        def forward(self, ids, mask): return self.model(input_ids=ids, attention_mask=mask).logits

    class Three(Two):
        def forward(self, ids, mask, segments): return self.model(input_ids=ids, attention_mask=mask, token_type_ids=segments).logits

    found = []
    for name, wrapped, inputs in (("two", Two(), ("input_ids", "attention_mask")), ("three", Three(), ("input_ids", "attention_mask", "token_type_ids"))):
        folder = tmp_path / name / "ms-marco-TinyBERT-L-2-v2"
        folder.mkdir(parents=True)
        export(wrapped, folder, inputs, "flashrank-TinyBERT-L-2-v2.onnx")
        write_companions(tokenizer, folder)
        found.append(by_position(Reranker(folder).rank(QUERY, READABLE)))
    assert distance(*found) <= 1
    assert distance(found[0], live(tmp_path / "two" / "ms-marco-TinyBERT-L-2-v2")(QUERY, READABLE)) <= 1


@needs_kits
def test_eight_bits(tmp_path, caplog):
    "FlashRank's numbers when the batch is FlashRank's, within the declared noise otherwise"
    pytest.importorskip("onnx")
    from onnxruntime.quantization import quantize_dynamic
    folder = copy_model(KITS[0], tmp_path)
    graph = folder / "flashrank-TinyBERT-L-2-v2.onnx"
    caplog.set_level("ERROR")
    quantize_dynamic(str(graph), str(folder / "8.onnx"))
    (folder / "8.onnx").replace(graph)
    ranker, scores = Reranker(folder), live(folder)
    assert ranker.runtime.quantised and not ranker.pool_queries and ranker.score_noise == 0.5
    for case in cases(KITS[0]):
        expected = scores(case["query"], case["docs"])
        assert distance(by_position(ranker.rank(case["query"], case["docs"], batch_size=1000)), expected) <= 1, case["name"]
        assert worst(by_position(ranker.rank(case["query"], case["docs"])), expected) <= ranker.score_noise, case["name"]
    check_ranker(ranker)


# ---- words and folders

def test_names_of_the_hub_are_not_taken():
    "rerankers 0.10 gives cross-encoder/ms-marco-MiniLM-L-12-v2 to FlashRank"
    for model in ours.GRAPHS:
        assert choose(model.name).backend is ours.FlashRankRanker
        assert choose(f"cross-encoder/{model.name}").backend.words[0] == "cross-encoder"
        assert choose(f"/no/such/folder/cross-encoder/{model.name}").backend.words[0] == "cross-encoder"


def test_default_per_language():
    assert choose("flashrank").model == "ms-marco-MiniLM-L-12-v2"
    assert {choose("flashrank", lang=lang).model for lang in ("de", "zh", "ar")} == {"ms-marco-MultiBERT-L-12"}
    assert all(ours.model_named(name) in ours.GRAPHS for name in ours.FlashRankRanker.defaults.values())


def test_the_table_is_flashranks_own():
    config = pytest.importorskip("flashrank.Config")
    assert {m.name: m.file for m in ours.FLASH_MODELS} == config.model_file_map
    assert config.model_url == f"https://huggingface.co/{ours.REPOSITORY}/resolve/main/{{}}.zip"
    assert {m.name for m in ours.FLASH_MODELS} - {m.name for m in ours.GRAPHS} == set(config.listwise_rankers)


@pytest.mark.parametrize(("name", "error", "said"), [
    ("ms-marco-MiniLM-L-6-v2", UnknownModel, "Did you mean 'ms-marco-MiniLM-L-12-v2'"),
    ("rank-T5-flan", ModelLoadError, r"rank-T5-flan.zip could not be had from https://huggingface.co/prithivida/flashrank")])
def test_what_cannot_be_loaded(name, error, said, tmp_path, monkeypatch):
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=said): Reranker(name, model_type="flashrank", cache_dir=str(tmp_path))


def test_with_a_cache_dir_no_other_folder_is_looked_into(tmp_path, monkeypatch):
    name, here, elsewhere = "ms-marco-MiniLM-L-12-v2", tmp_path / "given", tmp_path / "cache" / "rerankers" / "flashrank"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (elsewhere / name).mkdir(parents=True)
    assert ours.find_folder(name, str(here)) is None and ours.find_folder(name) == elsewhere / name
    (here / name).mkdir(parents=True)
    assert ours.find_folder(name, str(here)) == here / name and ours.find_folder(name) == elsewhere / name


def test_the_gguf_model_is_a_shortcut_to_the_listwise_backend():
    with pytest.raises(ModelLoadError, match="runs it with a listwise backend"): ours.FlashRankRanker("rank_zephyr_7b_v1_full")
    with pytest.raises(ModelLoadError, match="rank_zephyr_7b_v1_full.zip could not be had"): choose("rank_zephyr_7b_v1_full")


def test_a_gguf_in_flashranks_folder_is_run():
    "A GGUF under RankZephyr's name: found, unpacked, asked in Zephyr's format, and no document lost"
    for module in ("gguf", "accelerate", "torch", "transformers"): pytest.importorskip(module)
    folder = ours.user_home() / "rank_zephyr_7b_v1_full"
    folder.mkdir(parents=True)
    write_gguf(folder / ours.RANKZEPHYR.file, context=4096)
    assert ours.gguf_ready()
    ranker = Reranker("rank_zephyr_7b_v1_full", device="cpu", on_error="keep")
    assert type(ranker.client).__name__ == "LocalClient" and ranker.choice.backend.words[0] == "rankzephyr"
    results = ranker.rank("who wrote hamlet?", ["goethe wrote faust", "shakespeare wrote hamlet"])
    assert sorted(r.doc_id for r in results) == [0, 1] and results.usage.calls == 1 and results.usage.output_tokens > 0


@pytest.mark.parametrize("option", [{"max_length": 0}, {"batch_size": 0}, {"threads": -1}, {"max_tokens": "many"}])
@needs_kits
def test_options_out_of_range(option):
    with pytest.raises(InputError): Reranker(str(model_folder(KITS[0])), **option)


@needs_kits
def test_any_folder_with_one_graph(tmp_path):
    folder = copy_model(KITS[0], tmp_path, "mine")
    expected = by_position(Reranker(folder).rank(QUERY, READABLE))
    (folder / "flashrank-TinyBERT-L-2-v2.onnx").rename(folder / "other.onnx")
    assert by_position(Reranker(folder, model_type="flashrank").rank(QUERY, READABLE)) == expected
    shutil.copyfile(folder / "other.onnx", folder / "another.onnx")
    with pytest.raises(ModelLoadError, match="another.onnx"): Reranker(folder, model_type="flashrank")
    (folder / "other.onnx").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match="tokenizer.json"): Reranker(folder, model_type="flashrank")


@needs_kits
def test_a_folder_that_flashrank_left_in_tmp(monkeypatch, tmp_path):
    "Used when it is the user's own, and not when it is somebody else's"
    copy_model(KITS[0], ours.FLASHRANK_HOME)
    assert Path(Reranker("ms-marco-TinyBERT-L-2-v2").runtime.path).is_relative_to(ours.FLASHRANK_HOME)
    copy_model(KITS[0], ours.user_home())
    assert Path(Reranker("ms-marco-TinyBERT-L-2-v2").runtime.path).is_relative_to(ours.user_home())
    shutil.rmtree(ours.user_home())
    monkeypatch.setattr(os, "getuid", lambda: -1)
    assert ours.find_folder("ms-marco-TinyBERT-L-2-v2") is None
    assert ours.find_folder("ms-marco-TinyBERT-L-2-v2", str(ours.FLASHRANK_HOME)) is not None


# ---- archives

@needs_kits
def test_an_archive_is_unpacked_whole(tmp_path):
    packed, home = copy_model(KITS[0], tmp_path / "packed"), tmp_path / "home"
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in packed.iterdir(): archive.write(file, f"{packed.name}/{file.name}")
        archive.writestr("__MACOSX/._junk", "junk")
    for _ in range(2):      # a second process that comes later changes nothing
        found = ours.unpack(tmp_path / "a.zip", packed.name, home)
        assert sorted(p.name for p in found.iterdir()) == sorted(p.name for p in packed.iterdir())
        assert [p.name for p in home.iterdir()] == [packed.name]


@pytest.mark.parametrize("member", ["m/../../evil", "m/a/../../../evil", "/etc/evil", "other/evil"])
def test_archives_that_lead_elsewhere(tmp_path, member):
    with ZipFile(tmp_path / "a.zip", "w") as archive: archive.writestr(member, "evil")
    with pytest.raises(ModelLoadError): ours.unpack(tmp_path / "a.zip", "m", tmp_path / "home")
    assert not list((tmp_path / "home").iterdir()) and not list(tmp_path.rglob("evil"))


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<html>")
    with pytest.raises(ModelLoadError, match="cannot be unpacked"): ours.unpack(tmp_path / "a.zip", "m", tmp_path / "home")


class Hub(BaseHTTPRequestHandler):
    "A hub with one file, as huggingface_hub documents the protocol"
    archive, asked = b"", []

    def log_message(self, *args): pass

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path}")
        there = self.path == "/prithivida/flashrank/resolve/main/ms-marco-TinyBERT-L-2-v2.zip"
        self.send_response(200 if there else 404)
        body = self.archive if there else b""
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": "0" * 40, "ETag": '"1"', "X-Error-Code": "EntryNotFound"}.items():
            if there or name != "ETag": self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET": self.wfile.write(body)

    do_HEAD = do_GET


CODE = "from rerankers import Reranker; import json; found = Reranker('ms-marco-TinyBERT-L-2-v2').rank('who wrote hamlet', ['a', 'hamlet'])"
LOAD = CODE + "; print(json.dumps([r.doc_id for r in found]))"


@needs_kits
def test_fetched_once(tmp_path):
    "A model that is not here comes from the hub, is unpacked into the user's cache, and is there the next time without a hub"
    pytest.importorskip("huggingface_hub")
    packed = model_folder(KITS[0])
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in packed.iterdir(): archive.write(file, f"{packed.name}/{file.name}")
    Hub.archive = (tmp_path / "a.zip").read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    kept = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment = {**kept, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT),
                   "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    if Path("/tmp/ms-marco-TinyBERT-L-2-v2").is_dir(): pytest.skip("FlashRank has left the model in /tmp on this machine")
    for more in ({}, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env={**environment, **more}, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        assert sorted(json.loads(done.stdout)) == [0, 1]
    assert sum(a.startswith("GET") for a in Hub.asked) == 1
    assert [p.name for p in (tmp_path / "cache/rerankers/flashrank").iterdir()] == ["ms-marco-TinyBERT-L-2-v2"]
    server.shutdown()
