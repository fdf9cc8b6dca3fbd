"What a newcomer tried and found: each case is an error that says what to do, or simply works"
import os
from pathlib import Path

import pytest

from rerankers import Document, InputError, ModelLoadError, RankedResults, Reranker, RerankersError, Result, registry
from rerankers.rankers import PointwiseRanker, SetwiseRanker
from rerankers.registry import Claims, Shortcut, register_shortcut


def said(error, call):
    "What an error of ours says, where it is the kind that is expected and no foreign one"
    with pytest.raises(error) as caught: call()
    assert isinstance(caught.value, RerankersError)
    return str(caught.value)


@pytest.fixture(scope="session")
def tiny():
    "A tiny classifier's folder"
    pytest.importorskip("torch")
    from rerankers.testing import tiny_checkpoint
    return tiny_checkpoint()


@pytest.fixture(scope="session")
def graph(tmp_path_factory):
    "The same with an ONNX graph and no other weights"
    for module in ("torch", "onnx", "onnxruntime"): pytest.importorskip(module)
    import shutil
    from rerankers.testing import tiny_checkpoint
    folder = tmp_path_factory.mktemp("newcomer") / "graph"
    shutil.copytree(tiny_checkpoint(onnx=True), folder)
    (folder / "model.safetensors").unlink()
    return str(folder)


@pytest.fixture
def tables(monkeypatch):
    "Backends may be registered, and are forgotten again"
    registry.load_backends()
    for name in ("FAMILIES", "BACKENDS", "SHORTCUTS"): monkeypatch.setattr(registry, name, type(getattr(registry, name))(getattr(registry, name)))


# ---- methods without a model

@pytest.mark.parametrize("model", ["any/path", "BAAI/bge-reranker-base", "offline-model"])
def test_a_method_without_a_model_says_so(model):
    assert f"'bm25' takes no model: leave {model!r} out" in said(InputError, lambda: Reranker(model, model_type="bm25"))
    assert "takes no model" in said(InputError, lambda: Reranker(model, model_type="BM25Ranker", k1=1.0))
    assert Reranker("bm25", model_type="bm25").model == ""


def test_a_method_of_somebody_else_without_a_model_says_so(tables):
    type("Counts", (SetwiseRanker,), {"words": ("newcomer-counts",), "__init__": lambda self, *, k=1: None, "score_documents": lambda *a: []})
    assert "'newcomer-counts' takes no model" in said(InputError, lambda: Reranker("x/y", model_type="newcomer-counts"))


def test_a_method_that_needs_a_model_and_has_no_default_says_so(tables):
    type("Wants", (SetwiseRanker,), {"words": ("newcomer-wants",), "__init__": lambda self, model: None, "score_documents": lambda *a: []})
    assert "'newcomer-wants' needs a model" in said(InputError, lambda: Reranker("newcomer-wants"))
