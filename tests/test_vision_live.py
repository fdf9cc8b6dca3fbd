"Official classes that still run, asked here and now about the same weights and pages: no score is kept in a file"
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL.Image")
import seeing_models as plain  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from closeness import distance  # noqa: E402
from rerankers import Document, Reranker  # noqa: E402
from rerankers.tiny_models import tiny_clip, tiny_seeing  # noqa: E402
from vision_official import ENGINE, QUERIES  # noqa: E402

FP32 = {"device": "cpu", "dtype": "float32"}


def ours(folder, pages, **options):
    found = Reranker(str(folder), **FP32, **options).rank_many(QUERIES, [Document(image=page) for page in pages])
    return [[one.get_score_by_docid(i) for i in range(len(pages))] for one in found]


def worst(mine, theirs): return max(distance(a, b) for a, b in zip(mine, theirs))


def with_pillow(folder):
    "transformers' processor, which makes pictures ready with Pillow"
    found = transformers.AutoProcessor.from_pretrained(folder)
    found.image_processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return found


@pytest.mark.parametrize(("kit", "name"), [("colpali_hf", "ColPaliForRetrieval"), ("colmodernvbert_hf", "ColModernVBertForRetrieval")])
@torch.no_grad()
def test_late_interaction_of_transformers(kit, name, shared_dir):
    "Its model, its processor and its own sum; ColQwen2's class is left out, since it does not run the model as it was trained"
    folder, pages = shared_dir / "parity" / kit / "model", plain.pictures()
    model, processor = getattr(transformers, name).from_pretrained(folder).eval(), with_pillow(folder)
    asked = [model(**processor.process_queries([query])).embeddings[0] for query in QUERIES]
    told = [model(**processor.process_images([page])).embeddings[0] for page in pages]
    assert worst(ours(folder, pages), [[float(processor.score_retrieval([a], [b])) for b in told] for a in asked]) <= 1


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_two_towers_of_transformers(kind):
    "The logits of the whole model are the cosine, scaled and shifted"
    folder, pages = tiny_clip(kind), plain.pictures()
    model, tokenizer, images = (transformers.AutoModel.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder),
                                transformers.AutoImageProcessor.from_pretrained(folder, backend="pil"))
    padding = {"padding": "max_length", "truncation": True} if kind == "siglip" else {}
    texts = [tokenizer(query.lower(), return_tensors="pt", **padding) for query in QUERIES]
    asked = [{"input_ids": text["input_ids"], **({} if kind == "siglip" else {"attention_mask": text["attention_mask"]})} for text in texts]
    pixels = [images([page], return_tensors="pt")["pixel_values"] for page in pages]
    logits = [[float(model(**text, pixel_values=page).logits_per_text) for page in pixels] for text in asked]
    scale, shift = float(model.logit_scale.exp()), float(getattr(model, "logit_bias", torch.zeros(1)))
    assert worst(ours(folder, pages), [[(logit - shift) / scale for logit in row] for row in logits]) <= 1


PLACE = Path(os.environ.get("OFFICIAL") or Path(sys.prefix) / "official")      # what is installed here is imported by nobody else


def told_by(name, folder, pages, place, packages):
    "Scores of an official scorer that needs torchvision, from a process of its own"
    for i, page in enumerate(pages): page.save(place / f"{i}.png")
    command = [sys.executable, str(Path(__file__).with_name("vision_official.py")), name, str(folder), str(place)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(PLACE / package) for package in packages)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def needs(*packages):
    "Skips, also in CI, which has no torchvision"
    absent = [package for package in packages if not (PLACE / package).is_dir()]
    return pytest.mark.skipif(bool(absent), reason="; ".join(f"no {PLACE / p}: pip install --no-deps --target {PLACE / p} {p}" for p in absent))


ENGINES, MONO = ("colpali-engine==0.3.18", "torchvision==0.28.0"), ("rerankers==0.10.0", "torchvision==0.28.0")


@needs(*ENGINES)
@pytest.mark.parametrize("name", ENGINE)
def test_colpali_engine(name, tmp_path, shared_dir):
    folder = shared_dir / "parity" / "colqwen2_engine" / "model" if name == "colqwen2" else plain.engine_folder(name, tmp_path)
    (tmp_path / "pages").mkdir()
    assert worst(ours(folder, plain.pictures()), told_by(name, folder, plain.pictures(), tmp_path / "pages", ENGINES)) <= 1


@needs(*MONO)
def test_monovlm_of_rerankers_0_10(tmp_path):
    "Which drops what is transparent, so only pages without it are compared"
    folder, pages = tiny_seeing(), [page for page in plain.pictures() if page.mode == "RGB"]
    assert worst(ours(folder, pages, model_type="monovlm"), told_by("mono", folder, pages, tmp_path, MONO)) <= 1
