"""What an official scorer says of a tiny checkpoint and of each PNG file of another folder, as JSON: `python tests/vision_official.py NAME CHECKPOINT PAGES`

In a process of its own: with torchvision in it, transformers would make pictures ready in another way for all other tests."""
import base64
import contextlib
import importlib.util
import json
import re
import sys
from pathlib import Path

QUERIES = ["revenue by region", "a", "who signed?  twice"]
ENGINE = {      # a family in `seeing_models.ENGINE` -> colpali-engine's classes of model and processor
    "colpali": ("ColPali", "ColPaliProcessor"), "colsmol": ("ColIdefics3", "ColIdefics3Processor"), "colqwen2.5": ("ColQwen2_5", "ColQwen2_5_Processor"),
    "colqwen2": ("ColQwen2", "ColQwen2Processor"), "colmodernvbert": ("ColModernVBert", "ColModernVBertProcessor")}


def declare_operators():
    "A torchvision built for another torch cannot be imported, since its operators are missing; nothing here calls them, so it is enough to name them"
    import torch
    source = (Path(importlib.util.find_spec("torchvision").submodule_search_locations[0]) / "_meta_registrations.py").read_text(encoding="utf-8")
    names = {"nms", *re.findall(r"torchvision::(\w+)", source), *re.findall(r'register_meta\("(\w+)"', source)}
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(names): library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor" if "nms" in name else f"{name}(Tensor a) -> Tensor")
    return library


def prepare():
    "Import torchvision, whichever build it is; what keeps its operators declared"
    from torch import ops
    kept = None
    try: import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]: del sys.modules[name]
        kept = declare_operators()
        import torchvision  # noqa: F401
    return ops, kept


def pieces(folder):
    "Image processor (Pillow), tokenizer"
    import transformers
    return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil"), transformers.AutoTokenizer.from_pretrained(folder)


def engine(name, folder, pages):
    "colpali-engine: MaxSim of each query and page"
    import colpali_engine.models
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    model_class, processor_class = (getattr(colpali_engine.models, part) for part in ENGINE[name])
    model = model_class.from_pretrained(folder, ignore_mismatched_sizes=True).eval()      # their projection has 128 numbers whatever the file says
    projection = model.linear if hasattr(model, "linear") else model.custom_text_proj
    saved = {key.split(".")[-1]: tensor for key, tensor in load_file(f"{folder}/model.safetensors").items() if key.startswith(("linear.", "custom_text_proj."))}
    projection.weight.data, projection.bias.data = saved["weight"], saved["bias"]
    images, tokenizer = pieces(folder)
    if name == "colpali": tokenizer.image_token, tokenizer.image_token_id = "<image>", tokenizer.convert_tokens_to_ids("<image>")
    more = {"image_seq_len": 4} if name in ("colsmol", "colmodernvbert") else {"video_processor": Qwen2VLVideoProcessor()} if "qwen" in name else {}
    processor = processor_class(image_processor=images, tokenizer=tokenizer, **more)
    with torch.no_grad():
        asked = [model(**processor.process_queries([query]))[0] for query in QUERIES]
        told = [model(**processor.process_images([Image.open(page)]))[0] for page in pages]
    return [[float((a @ b.T).max(-1).values.sum()) for b in told] for a in asked]


def mono(name, folder, pages):
    "rerankers 0.10's MonoVLMRanker: P(True) of each query and page"
    from rerankers.documents import Document
    from rerankers.models.monovlm_ranker import MonoVLMRanker
    ranker = MonoVLMRanker(folder, processor_name=folder, dtype="float32", device="cpu", verbose=0, attention_implementation="sdpa")
    ranker.processor.image_processor = pieces(folder)[0]
    docs = [Document(document_type="image", base64=base64.b64encode(page.read_bytes()).decode()) for page in pages]
    return [ranker._get_scores(query, docs) for query in QUERIES]


if __name__ == "__main__":
    name, checkpoint, place = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        kept = prepare()
        found = (mono if name == "mono" else engine)(name, checkpoint, sorted(Path(place).glob("*.png")))
    print(json.dumps(found))
