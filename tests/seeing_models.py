"Tiny checkpoints of models that see, in the layouts in which their authors publish them, and plain references for their scores"
import json
import shutil
from functools import cache
from pathlib import Path

import torch
import transformers
from PIL import Image
from rerankers.tiny_models import SIGHTS, TINY_SHAPES, TOWERS, seeing_config, tiny_bytes, tiny_pieces
from safetensors.torch import load_file, save_file

FILLING = 10
MARKS = ("<bos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
         *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)))
SMALL_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TILED = {"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}, "resample": 1,
         "do_image_splitting": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARE = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 28, "width": 28}, "resample": 3, "image_seq_length": 4,
          "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
QWEN = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 3136, "max_pixels": 31360}


@cache
def reader():
    "A tokenizer of single bytes with the tokens of all families"
    made = tiny_bytes()
    made.add_special_tokens({"additional_special_tokens": [*made.extra_special_tokens, *MARKS], "bos_token": "<bos>"})
    return made


def text_config(**more):
    return {**TINY_SHAPES[""], "vocab_size": len(reader()), "max_position_embeddings": 4096, "pad_token_id": reader().pad_token_id, **more}


def trunk_config(kind):
    ids = {"image_token_id": reader().convert_tokens_to_ids("<image>"), "image_token_index": reader().convert_tokens_to_ids("<image>")}
    if kind in TOWERS: return seeing_config(kind)
    if kind == "idefics3":
        return transformers.Idefics3Config(text_config=text_config(model_type="llama"), scale_factor=2, image_token_id=ids["image_token_id"],
                                           vision_config={**SMALL_TOWER, "image_size": 64, "patch_size": 16}, pad_token_id=reader().pad_token_id)
    if kind == "modernvbert":
        return transformers.ModernVBertConfig(
            text_config=text_config(model_type="modernbert", global_attn_every_n_layers=1, local_attention=4096), pixel_shuffle_factor=2,
            vision_config={**SMALL_TOWER, "model_type": "siglip_vision_model", "image_size": 64, "patch_size": 16}, image_token_id=ids["image_token_id"])
    return transformers.PaliGemmaConfig(
        text_config=text_config(model_type="gemma"),
        vision_config={**SMALL_TOWER, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, "projection_dim": 32},
        projection_dim=32, hidden_size=32, image_token_index=ids["image_token_index"])


@cache
def trunk(kind):
    "A backbone with random weights and a projection"
    with torch.random.fork_rng():
        torch.manual_seed(19)
        model = transformers.AutoModel.from_config(trunk_config(kind)).eval()
        for weight in model.parameters(): weight.data += 0.05 * torch.randn_like(weight)
        return model, torch.nn.Linear(32, 16)


def renamed(name, rules):
    for start, new in rules:
        if name.startswith(start): return new + name.removeprefix(start)
    return name


# the engine's class, the kind of its backbone, its image processor, names of weights (in transformers' backbone -> in the file), name of the projection
ENGINE = {
    "colqwen2.5": ("ColQwen2_5", "qwen2_5_vl", QWEN, (), "custom_text_proj"),
    "colqwen2.5, older": ("ColQwen2_5", "qwen2_5_vl", QWEN, (("language_model.", "model."),), "custom_text_proj"),
    "colpali": ("ColPali", "paligemma", SQUARE, (("", "model.model."),), "custom_text_proj"),
    "colpali, older": ("ColPali", "paligemma", SQUARE, (
        ("language_model.", "model.language_model.model."), ("vision_tower.", "model.vision_tower.vision_model."), ("", "model.")), "custom_text_proj"),
    "colsmol": ("ColIdefics3", "idefics3", TILED, (("", "model."),), "linear"),
    "colmodernvbert": ("ColModernVBert", "modernvbert", TILED, (("", "model."),), "custom_text_proj"),
}


@cache
def engine_folder(name, place):
    "A checkpoint as colpali-engine saves it"
    built, kind, pictures, rules, last = ENGINE[name]
    model, projection = trunk(kind)
    folder = Path(place) / name.replace(", ", "-")
    folder.mkdir()
    model.config.save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "architectures": [built]}))
    weights = {renamed(key, rules): weight.clone() for key, weight in model.state_dict().items()}
    weights |= {f"{last}.{key}": weight.clone() for key, weight in projection.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    reader().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return str(folder)


@cache
def hf_folder(place):
    "ColQwen2.5 in transformers' layout, with the weights of the engine's"
    model, projection = trunk("qwen2_5_vl")
    folder = Path(place) / "colqwen2.5-hf"
    whole = transformers.ColQwen2ForRetrieval(transformers.ColQwen2Config(vlm_config=model.config.to_dict(), embedding_dim=16)).eval()
    whole.vlm.load_state_dict(model.state_dict())
    whole.embedding_proj_layer.load_state_dict(projection.state_dict())
    whole.save_pretrained(folder)
    reader().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(QWEN))
    return str(folder)


ADAPTED = ("custom_text_proj.weight", "linear.weight", "self_attn.q_proj.weight", "attn.proj.weight", "attn.Wqkv.weight")


def adapter_of(base, place):
    "A LoRA adapter in the names of a folder's weights; the same folder with the changes made; the adapter's last two matrices"
    adapter, whole = Path(place) / "adapter", Path(place) / "whole"
    shutil.copytree(base, whole)
    weights, changes, seed = load_file(Path(base) / "model.safetensors"), {}, torch.Generator().manual_seed(4)
    names = [name for name in weights if name.endswith(ADAPTED)]
    assert len(names) >= 3
    for name in names:
        outputs, inputs = weights[name].shape
        down, up = (torch.randn(shape, generator=seed) * 0.3 for shape in ((2, inputs), (outputs, 2)))
        changes |= {f"base_model.model.{name.removesuffix('.weight')}.lora_{which}.weight": matrix for which, matrix in (("A", down), ("B", up))}
        weights[name] = weights[name] + 6 / 2 * up @ down
    save_file(weights, whole / "model.safetensors", metadata={"format": "pt"})
    adapter.mkdir()
    save_file(changes, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "base_model_name_or_path": str(base), "task_type": "FEATURE_EXTRACTION"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return adapter, whole, (down, up)


def ids(text): return reader()(text, add_special_tokens=False)["input_ids"]


def unit(hidden, projection):
    found = projection(hidden)[0]
    return found / found.norm(dim=-1, keepdim=True)


def processor(folder): return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


def tile_prompt(rows, columns, size):
    "What stands for a page that was cut into tiles"
    fake, tile = "<fake_token_around_image>", "<image>" * size
    if not rows: return f"{fake}<global-img>{tile}{fake}"
    lines = ["".join(f"{fake}<row_{r}_col_{c}>{tile}" for c in range(1, columns + 1)) + "\n" for r in range(1, rows + 1)]
    return "".join(lines) + f"\n{fake}<global-img>{tile}{fake}"


TURNS = {"idefics3": "<|im_start|>", "modernvbert": "<|begin_of_text|>"}     # families of tiles, and how their prompts begin


def page_inputs(kind, folder, picture):
    "One page as its family reads it"
    made = processor(folder)([picture.convert("RGB")], return_tensors="pt", **({"return_row_col_info": True} if kind in TURNS else {}))
    if kind == "paligemma": text = "<image>" * 4 + "<bos><bos>Describe the image.\n"
    elif kind in TURNS:
        shown = tile_prompt(int(made.pop("rows")[0][0]), int(made.pop("cols")[0][0]), 4)
        text = f"{TURNS[kind]}User:{shown}Describe the image.<end_of_utterance>\nAssistant:"
    else:
        tokens = "<|image_pad|>" * (int(made["image_grid_thw"].prod()) // 4)
        text = f"<|im_start|>user\n<|vision_start|>{tokens}<|vision_end|>Describe the image.<|im_end|><|endoftext|>"
    tokens = torch.tensor([ids(text)])
    if kind == "paligemma": made["token_type_ids"] = torch.zeros_like(tokens)
    if kind in TOWERS: made["mm_token_type_ids"] = (tokens == trunk_config(kind).image_token_id).int()
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **made}


def query_text(kind, query):
    return {"paligemma": f"<bos>{query}" + "<|endoftext|>" * FILLING, **dict.fromkeys(TURNS, query + "<end_of_utterance>" * FILLING)}.get(
        kind, query + "<|endoftext|>" * FILLING)


@torch.no_grad()
def engine_score(name, folder, query, picture):
    "MaxSim of one query and one page, each run by itself"
    kind = ENGINE[name][1]
    model, projection = trunk(kind)
    tokens = torch.tensor([ids(query_text(kind, query))])
    more = {"mm_token_type_ids": torch.zeros_like(tokens).int()} if kind in TOWERS else {}
    asked = unit(model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).last_hidden_state, projection)
    told = unit(model(**page_inputs(kind, folder, picture)).last_hidden_state, projection)
    return float((asked @ told.T).max(-1).values.sum())


def pictures():
    "Pages of several shapes; one has a colour under what is transparent"
    found = [Image.linear_gradient("L").resize(size).convert("RGB") for size in ((60, 90), (150, 40), (33, 130), (128, 128), (5, 5))]
    clear = found[0].convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 60))
    return [*found, clear, found[0].rotate(180)]


MIDDLE = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, "resample": 3,
          "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARES = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 28, "width": 28}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SMOL_CHAT = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}")
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}<start_of_image>"
    "{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")


LLAVA_CHAT = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }} {% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}")


@cache
def gemma_reader():
    "As Gemma's: its turns are special tokens by the list of added tokens alone"
    from tokenizers import AddedToken
    made = tiny_bytes()
    made.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": [*made.extra_special_tokens, "<start_of_image>", "<end_of_image>", "<image>"]})
    made.backend_tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<start_of_turn>", "<end_of_turn>")])
    made.chat_template = GEMMA_CHAT
    return made


def smol_reader(chat=SMOL_CHAT):
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=reader().backend_tokenizer, pad_token="<|endoftext|>", bos_token="<bos>", eos_token="<|im_end|>",
        additional_special_tokens=[*SIGHTS, *MARKS], padding_side="left")
    made.chat_template = chat
    return made


def chat_config(kind):
    if kind == "qwen3_5":
        ids = dict(zip(("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"), map(reader().convert_tokens_to_ids, SIGHTS)))
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.25, "mrope_interleaved": True}
        return transformers.Qwen3_5Config(
            **ids, vision_config={"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "num_position_embeddings": 64},
            text_config=text_config(layer_types=["linear_attention", "full_attention"], head_dim=32, linear_num_key_heads=2, linear_num_value_heads=2,
                                    linear_key_head_dim=8, linear_value_head_dim=8, rope_parameters=rope))
    if kind == "paligemma": return trunk_config(kind)
    if kind == "llava":
        return transformers.LlavaConfig(
            text_config=text_config(model_type="llama"), image_token_index=reader().convert_tokens_to_ids("<image>"),
            vision_config={**SMALL_TOWER, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "projection_dim": 32})
    if kind != "gemma3":
        return getattr(transformers, {"idefics3": "Idefics3Config", "smolvlm": "SmolVLMConfig"}[kind])(
            scale_factor=2, image_token_id=reader().convert_tokens_to_ids("<image>"), pad_token_id=reader().pad_token_id,
            text_config=text_config(model_type="llama"), vision_config={**SMALL_TOWER, "image_size": 64, "patch_size": 16})
    token = gemma_reader().convert_tokens_to_ids
    return transformers.Gemma3Config(
        text_config=text_config(model_type="gemma3_text", vocab_size=len(gemma_reader()) + 2, query_pre_attn_scalar=8, sliding_window=32,
                                layer_types=["sliding_attention", "full_attention"]),
        vision_config={**SMALL_TOWER, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7}, mm_tokens_per_image=4,
        boi_token_index=token("<start_of_image>"), eoi_token_index=token("<end_of_image>"), image_token_index=token("<image>"))


CHATS = {"qwen3_5": {**QWEN, "patch_size": 16}, "idefics3": TILED, "smolvlm": {**TILED, "image_processor_type": "SmolVLMImageProcessor"}, "gemma3": SQUARES,
         "llava": MIDDLE, "paligemma": SQUARE}


@cache
def chat_folder(kind, place):
    "A language model that sees and chats"
    folder = Path(place) / kind
    with torch.random.fork_rng():
        torch.manual_seed(23)
        model = transformers.AutoModelForImageTextToText.from_config(chat_config(kind)).eval()
        for weight in model.parameters(): weight.data += 0.05 * torch.randn_like(weight)
        model.save_pretrained(folder)
    readers = {"gemma3": gemma_reader, "qwen3_5": reader, "llava": lambda: smol_reader(LLAVA_CHAT), "paligemma": lambda: smol_reader(None)}
    readers.get(kind, smol_reader)().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CHATS[kind]))
    return str(folder)


QUESTION = "Assert the relevance of the previous image document to the following query, answer True or False. The query is: {query}"


@cache
def chat_model(kind, folder):
    return (transformers.AutoModelForImageTextToText.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder), processor(folder))


def generated(kind, folder, query, picture):
    "P(True) of one pair as transformers itself asks and answers: its processor, then `generate`"
    model, tokenizer, read = chat_model(kind, folder)
    asked = QUESTION.format(query=query)
    if kind == "paligemma": inputs = transformers.PaliGemmaProcessor(read, tokenizer)(images=[picture], text=f"<image>{asked}", return_tensors="pt")
    else:
        text = tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}], tokenize=False,
                                             add_generation_prompt=True)
        inputs = transformers.LlavaProcessor(read, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1)(
            images=[picture], text=text, return_tensors="pt")
    inputs.pop("labels", None)
    found = model.generate(**inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True).logits[0][0]
    return float(found[tokenizer.convert_tokens_to_ids(["True", "False"])].softmax(0)[0])


@torch.no_grad()
def chat_score(kind, folder, query, picture):
    "P(True) of one pair by itself, with the prompt written out"
    if kind in ("llava", "paligemma"): return generated(kind, folder, query, picture)
    model, tokenizer, read = chat_model(kind, folder)
    made = read([picture.convert("RGB")], return_tensors="pt", **({"return_row_col_info": True} if kind in ("idefics3", "smolvlm") else {}))
    asked = QUESTION.format(query=query)
    if kind == "gemma3":
        made.pop("num_crops", None)
        text = f"<bos><start_of_turn>user\n\n\n<start_of_image>{'<image>' * 4}<end_of_image>\n\n{asked}<end_of_turn>\n<start_of_turn>model\n"
    elif kind == "qwen3_5":
        shown = "<|vision_start|>" + "<|image_pad|>" * (int(made["image_grid_thw"].prod()) // 4) + "<|vision_end|>"
        text = f"<|im_start|>user\n{shown}{asked}<|im_end|>\n<|im_start|>assistant\n"
    else:
        shown = tile_prompt(int(made.pop("rows")[0][0]), int(made.pop("cols")[0][0]), 4)
        text = f"<|im_start|>User:{shown}{asked}<end_of_utterance>\nAssistant:"
    tokens = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    if kind != "gemma3" and "image_grid_thw" in made: made["mm_token_type_ids"] = (tokens == model.config.image_token_id).int()
    if kind == "gemma3": made["token_type_ids"] = (tokens == model.config.image_token_id).int()
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **made).logits[0, -1]
    return float(logits[tokenizer.convert_tokens_to_ids(["True", "False"])].softmax(0)[0])


@cache
def naflex_folder(place):
    "SigLIP 2 that keeps a picture's shape"
    folder = Path(place) / "naflex"
    tokenizer = tiny_pieces("<s> $A </s>")
    tokenizer.model_max_length = 64
    text = {**SMALL_TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32, "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": 3, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.Siglip2Config(text_config=text, vision_config={**SMALL_TOWER, "num_patches": 16, "patch_size": 8})
    with torch.random.fork_rng():
        torch.manual_seed(29)
        model = transformers.AutoModel.from_config(config).eval()
        for weight in model.parameters(): weight.data += 0.05 * torch.randn_like(weight)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 20}))
    return str(folder)


@torch.no_grad()
def naflex_score(folder, query, picture):
    model, tokenizer = transformers.AutoModel.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(query.lower())["input_ids"][:64]
    asked = model.get_text_features(input_ids=torch.tensor([ids + [tokenizer.pad_token_id] * (64 - len(ids))])).pooler_output
    told = model.get_image_features(**processor(folder)([picture], return_tensors="pt")).pooler_output
    return float(torch.nn.functional.cosine_similarity(asked, told)[0])


ROLES_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}")


@cache
def any_to_any(place):
    "What sentence-transformers itself saves for a model that sees, and its own object"
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore
    source, folder = Path(chat_folder("idefics3", place)), Path(place) / "any-to-any"
    tokenizer = smol_reader()
    tokenizer.chat_template = ROLES_CHAT
    tokenizer.save_pretrained(source.parent / "roles")
    read = processor(str(source))
    transformers.Idefics3Processor(read, tokenizer, image_seq_len=4, chat_template=ROLES_CHAT).save_pretrained(source.parent / "roles")
    transformers.AutoModelForImageTextToText.from_pretrained(source).save_pretrained(source.parent / "roles")
    trunk = Transformer(str(source.parent / "roles"), transformer_task="any-to-any", processing_kwargs={"chat_template": {"add_generation_prompt": True}})
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    official = CrossEncoder(modules=[trunk, LogitScore(yes, no)], device="cpu", prompts={"judge": "Judge the page."}, default_prompt_name="judge")
    official.save_pretrained(str(folder))
    return official, str(folder)
