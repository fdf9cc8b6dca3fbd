"Layer-wise re-rankers: the official scores of both kits, what is refused, and what happens on the way"
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")
from closeness import STEP, STEPS, distance, near  # noqa: E402
from rerankers import Reranker  # noqa: E402
from rerankers.backends.llm_layerwise import merge_passages  # noqa: E402
from rerankers.engine.pytorch import TorchRuntime  # noqa: E402
from rerankers.errors import InputError, ModelLoadError, UnusableAnswer  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.testing import CHECKS  # noqa: E402
from rerankers.tiny_models import tiny_pieces  # noqa: E402

PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
FP32 = {"device": "cpu", "dtype": "float32"}
KITS = [("bge_minicpm_layerwise", "scores", {}), ("bge_gemma2_lightweight", "scores", {}),
        ("bge_gemma2_lightweight", "scores_eager_attention", {"softcap": True})]
each_kit = pytest.mark.parametrize(("kit", "key", "options"), KITS, ids=[f"{kit}-{key}" for kit, key, _ in KITS])


def cases(kit):
    return json.loads((PARITY / kit / "cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def rankers():
    return {}


def ranker_for(rankers, kit, options, case):
    "One ranker for every case with the same settings"
    wanted = {**options, **{k: v for k, v in case["kwargs"].items() if v is not None}}
    name = json.dumps([kit, wanted])
    if name not in rankers: rankers[name] = Reranker(str(PARITY / kit / "model"), **wanted, **FP32)
    return rankers[name]


def score_sets(results):
    "Scores by position, one list a layer, as the kits have them"
    ordered = [results.get_result_by_docid(i) for i in range(len(results))]
    sets = [[r.scores[name] for r in ordered] for name in ordered[0].scores] or [[r.score for r in ordered]]
    assert sets[-1] == [r.score for r in ordered]      # the deepest layer ranks
    return sets


def worst(results, official, *, steps=STEPS, floor=2e-5):
    "The largest difference, as a part of what rounding explains; the floor is that of the kits' README"
    sets = score_sets(results)
    official = official if isinstance(official[0], list) else [official]
    assert [len(s) for s in sets] == [len(s) for s in official]
    return max(distance(mine, theirs, steps=steps, floor=floor) for mine, theirs in zip(sets, official))


@pytest.mark.usefixtures("shared_dir")
@pytest.mark.parametrize("batch_size", [1, 7, None])
@each_kit
def test_each_case(rankers, kit, key, options, batch_size):
    for case in cases(kit):
        results = ranker_for(rankers, kit, options, case).rank(case["query"], case["docs"], batch_size=batch_size)
        assert worst(results, case[key]) <= 1, case["name"]


@pytest.mark.usefixtures("shared_dir")
@each_kit
def test_pooled_queries(rankers, kit, key, options):
    groups = {}
    for case in cases(kit): groups.setdefault(json.dumps(case["kwargs"]), []).append(case)
    for group in groups.values():
        ranker = ranker_for(rankers, kit, options, group[0])
        for batch_size in (7, None):
            pooled = ranker.rank_many([c["query"] for c in group], [c["docs"] for c in group], batch_size=batch_size)
            for case, results in zip(group, pooled): assert worst(results, case[key]) <= 1, case["name"]


class PaddedRuntime(TorchRuntime):
    "Batches items of different lengths together, as on an accelerator"
    padding = True


@pytest.mark.usefixtures("shared_dir")
@each_kit
def test_padding_is_never_seen(rankers, kit, key, options):
    "Items of different lengths in one batch, compressed and not, score as alone"
    for case in cases(kit):
        ranker = ranker_for(rankers, kit, options, case)
        alone, ranker.runtime = ranker.runtime, PaddedRuntime(ranker.runtime.model, ranker.runtime.read, ask=ranker.runtime.ask)
        try: assert worst(ranker.rank(case["query"], case["docs"], batch_size=7), case[key]) <= 1, case["name"]
        finally: ranker.runtime = alone


@pytest.mark.usefixtures("shared_dir")
@each_kit
def test_half_precision(kit, key, options):
    "In bfloat16 the scores are the official ones but for its noise"
    for case in cases(kit)[:2]:
        wanted = {k: v for k, v in case["kwargs"].items() if v is not None}
        results = Reranker(str(PARITY / kit / "model"), device="cpu", dtype="bfloat16", **wanted, **options).rank(case["query"], case["docs"])
        assert worst(results, case[key], steps=0, floor=0.2) < 1


# From here on: tiny random checkpoints in the layout of the published ones
SHAPE = {"vocab_size": len(tiny_pieces()), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6}
CONFIGS = {
    "minicpm": {**SHAPE, "architectures": ["LayerWiseMiniCPMForCausalLM"], "model_type": "minicpm", "head_type": "simple", "head_multi": True,
                "start_layer": 2, "scale_emb": 12, "scale_depth": 1.4},
    "gemma": {**SHAPE, "architectures": ["CostWiseGemmaForCausalLM"], "model_type": "cost_wise_gemma", "layer_wise": True, "layer_sep": 1, "start_layer": 2,
              "head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 64},
}
OPTIONS = {"minicpm": {}, "gemma": {"compress_ratio": 2, "compress_layers": [2, 4]}}
QUERY, DOCS = "who wrote hamlet ?", ["hamlet was written by william shakespeare", "goethe wrote faust", "", "a play from london " * 20]


def layer_shapes(config):
    "Names and shapes of a checkpoint's weights, written out by hand"
    hidden, inner, name = config["hidden_size"], config["intermediate_size"], "model.layers.{}.".format
    size = config.get("head_dim", hidden // config["num_attention_heads"])
    heads, groups = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    norms = ["input_layernorm", "post_attention_layernorm"]
    if config["model_type"] != "minicpm": norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"{name(i)}self_attn.q_proj.weight": (heads, hidden), f"{name(i)}self_attn.k_proj.weight": (groups, hidden),
                   f"{name(i)}self_attn.v_proj.weight": (groups, hidden), f"{name(i)}self_attn.o_proj.weight": (hidden, heads),
                   f"{name(i)}mlp.gate_proj.weight": (inner, hidden), f"{name(i)}mlp.up_proj.weight": (inner, hidden),
                   f"{name(i)}mlp.down_proj.weight": (hidden, inner), **{f"{name(i)}{norm}.weight": (hidden,) for norm in norms}}
    exits = range(config["start_layer"], config["num_hidden_layers"] + 1)
    return shapes | {f"lm_head.{i}.linear_head.weight": (1, hidden) for i, _ in enumerate(exits)}


def weights_of(config):
    random = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=random) * 0.2 + (name.endswith("norm.weight") and config["model_type"] == "minicpm")
            for name, shape in layer_shapes(config).items()}


def write(folder, kind, change=None, **config):
    "A checkpoint; `change` edits its weights"
    config = {**CONFIGS[kind], **config}
    weights = weights_of({k: CONFIGS[kind].get(k) if v is None else v for k, v in config.items()})
    if change: change(weights)
    safetensors.save_file(weights, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    tiny_pieces().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {kind: write(tmp_path_factory.mktemp(kind), kind) for kind in CONFIGS}
    bare = {f"{kind} without weights": write(tmp_path_factory.mktemp(kind), kind) for kind in CONFIGS}
    for folder in bare.values(): Path(folder, "model.safetensors").unlink()
    return made | bare


def by_position(results):
    return [results.get_score_by_docid(i) for i in range(len(results))]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", CONFIGS)
def test_contract(rankers, folders, check, kind):
    if kind not in rankers: rankers[kind] = Reranker(folders[kind], **OPTIONS[kind], **FP32)
    check(rankers[kind])


@pytest.mark.parametrize("kind", CONFIGS)
def test_score_sets(folders, kind):
    "The deepest layer ranks, in whatever order layers were given; a sigmoid keeps the order"
    results = Reranker(folders[kind], cutoff_layers=[6, 3, 3], **FP32).rank(QUERY, DOCS)
    assert all(list(r.scores) == ["layer 3", "layer 6"] and r.score == r.scores["layer 6"] for r in results)
    squeezed = Reranker(folders[kind], cutoff_layers=[3, 6], normalize=True, **FP32).rank(QUERY, DOCS)
    assert [r.doc_id for r in squeezed] == [r.doc_id for r in results] and all(0 < r.score < 1 for r in squeezed)
    assert not Reranker(folders[kind], cutoff_layers=3, **FP32).rank(QUERY, DOCS)[0].scores


def test_heads(folders):
    "MiniCPM's heads belong to layers, Gemma's to the place among those that are read, as in the official code"
    alone, both = ({kind: Reranker(folders[kind], cutoff_layers=layers, **FP32).rank(QUERY, DOCS) for kind in CONFIGS} for layers in (6, [3, 6]))
    assert by_position(alone["minicpm"]) == near(by_position(both["minicpm"]))
    assert by_position(alone["gemma"]) != pytest.approx(by_position(both["gemma"]), abs=1e-2)


@pytest.mark.parametrize("kind", CONFIGS)
def test_long_texts_are_marked(folders, kind):
    ranker = Reranker(folders[kind], max_length=64, **OPTIONS[kind], **FP32)
    assert [r.truncated for r in sorted(ranker.rank(QUERY, DOCS), key=lambda r: r.doc_id)] == [False, False, False, True]
    assert all(r.truncated for r in ranker.rank(QUERY * 20, DOCS))


@pytest.mark.parametrize("max_length", [16, 40, 64, 512])
def test_ids(folders, max_length):
    "bos, query to three quarters, break, document cut alone, break, question: counted as FlagEmbedding counts"
    ranker, tokenizer = Reranker(folders["gemma"], max_length=max_length, prompt="is it ?", compress_ratio=2, compress_layers=2, **FP32), tiny_pieces()
    def ids(text): return tokenizer(text, add_special_tokens=False)["input_ids"]
    for query in (QUERY, QUERY * 30):
        for doc in (*DOCS, DOCS[3] * 5):
            first, second, end = [3] + ids("A: " + query)[:max_length * 3 // 4], ids("\n") + ids("B: " + doc)[:max_length], ids("\n") + ids("is it ?")
            excess = max(len(first) + len(second) - max_length - len(end), 0)
            tokens = ranker.encode([(query, doc)])
            assert tokens["input_ids"] == [first + second[:len(second) - excess] + end]
            assert tokens["query_tokens"] == [[len(first) + len(ids("\n"))]]


def test_merging_is_what_it_says():
    "Random batches against one item at a time"
    random = torch.Generator().manual_seed(0)
    for ratio in (1, 2, 3, 4, 8):
        lengths, tail = torch.randint(6, 40, (9,), generator=random), 4
        queries = torch.tensor([int(torch.randint(0, int(n) - tail + 1, (1,), generator=random)) for n in lengths])
        hidden = torch.randn(9, int(lengths.max()), 5, generator=random)
        merged, shorter = merge_passages(hidden, lengths, queries, tail, ratio)
        for states, n, q, out, m in zip(hidden, lengths, queries, merged, shorter):
            passage = states[q:n - tail]
            plain = torch.cat([states[:q], *[part.mean(0, keepdim=True) for part in passage.split(ratio) if len(part)], states[n - tail:n]])
            assert len(plain) == m and torch.allclose(out[:m], plain, rtol=0, atol=STEPS * STEP * float(hidden.abs().max()))    # sums of up to eight


def shard(folder, config, first):
    "Split a checkpoint's weights: layers below `first` and what is not a layer in one file, the others in a second; with an index"
    weights = weights_of(config)
    high = {n for n in weights if n.startswith("model.layers.") and int(n.split(".")[2]) >= first}
    files = {"model-00001-of-00002.safetensors": set(weights) - high, "model-00002-of-00002.safetensors": high}
    for file, names in files.items(): safetensors.save_file({n: weights[n] for n in names}, str(folder / file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {n: file for file, names in files.items() for n in names}}))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("kind", CONFIGS)
def test_sharded_weights(folders, tmp_path, kind):
    "The same scores from several files, and of these only the ones that hold a layer that runs"
    write(tmp_path, kind)
    shard(tmp_path, CONFIGS[kind], first=4)
    for layers in (4, 6):
        ours, whole = (by_position(Reranker(str(f), cutoff_layers=layers, **FP32).rank(QUERY, DOCS)) for f in (tmp_path, folders[kind]))
        assert ours == near(whole)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert len(Reranker(str(tmp_path), cutoff_layers=4, **FP32).runtime.model.model.layers) == 4
    with pytest.raises(ModelLoadError, match="00002-of-00002"): Reranker(str(tmp_path), **FP32)


def test_remote_code_never_runs(folders, tmp_path, recwarn):
    "The published folders name classes of their own; loading neither runs nor needs them, and says nothing"
    write(tmp_path, "minicpm", auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}, rope_scaling=None, rope_theta=10000.0)
    (tmp_path / "code.py").write_text("raise SystemExit('remote code ran')")
    assert by_position(Reranker(str(tmp_path), **FP32).rank(QUERY, DOCS)) == by_position(Reranker(folders["minicpm"], **FP32).rank(QUERY, DOCS))
    assert not [str(w.message) for w in recwarn]


def moved(seed):
    "Each weight by one step of float32, up or down at random: what a sum in another order amounts to"
    random = torch.Generator().manual_seed(seed)
    def change(weights):
        for weight in weights.values(): weight.mul_(1 + STEP * (2.0 * torch.randint(0, 2, weight.shape, generator=random) - 1))
    return change


def test_packed_layers(tmp_path_factory):
    """Large layers in oneDNN's layout give what plain ones give, but for rounding. How far rounding goes depends on the weights, and random ones of this
    size carry it far, so it is measured: on the plain layers, with each weight moved by a step"""
    def scores(change=None, packed=False):
        folder = write(tmp_path_factory.mktemp("large"), "gemma", change, hidden_size=256, intermediate_size=512, head_dim=64, num_attention_heads=4)
        return by_position(Reranker(folder, pack_weights=packed, **FP32).rank(QUERY, DOCS))
    def far(ours): return max(abs(a - b) for a, b in zip(ours, plain, strict=True))
    plain = scores()
    explained = 2 * max(far(scores(moved(seed))) for seed in range(4))
    assert far(scores(packed=True)) <= explained < 1e-3


def drop(*names):
    def change(weights):
        for name in names: del weights[name]
    return change


def reshape(weights): weights["model.norm.weight"] = torch.ones(16)
def damage(weights): weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")


BAD_CHECKPOINTS = {
    "other model": ("minicpm", None, {"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM; this backend runs LayerWiseMiniCPMForCausalLM and CostWise"),
    "no architecture": ("minicpm", None, {"architectures": None, "model_type": "bert"}, "is a bert"),
    "other head": ("minicpm", None, {"head_type": "complex"}, "head_type='complex'"),
    "one head": ("minicpm", None, {"head_multi": False}, "one head for all layers"),
    "vocabulary head": ("gemma", None, {"layer_wise": False}, "one head for all layers"),
    "no size": ("minicpm", None, {"num_hidden_layers": None}, "does not say num_hidden_layers"),
    "no head": ("gemma", drop("lm_head.0.linear_head.weight"), {}, "no weights for lm_head.0"),
    "no layer": ("minicpm", drop("model.layers.5.mlp.up_proj.weight", "model.layers.5.mlp.down_proj.weight"), {}, "no weights for model.layers.5.mlp"),
    "other shape": ("minicpm", reshape, {}, r"model.norm.weight is \(16,\) and should be \(32,\)"),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_bad_checkpoints(tmp_path, name):
    kind, change, config, message = BAD_CHECKPOINTS[name]
    with pytest.raises(ModelLoadError, match=message): Reranker(write(tmp_path, kind, change, **config), model_type="llm-layerwise", **FP32)


def test_what_is_above_the_exit_is_not_needed(tmp_path):
    folder = write(tmp_path, "minicpm", drop(*[n for n in layer_shapes(CONFIGS["minicpm"]) if "layers.5" in n or "layers.4" in n]))
    assert len(Reranker(folder, cutoff_layers=4, **FP32).rank(QUERY, DOCS)) == 4
    with pytest.raises(ModelLoadError, match="no weights for model.layers.4"): Reranker(folder, cutoff_layers=5, **FP32)


@pytest.mark.parametrize("left", ["nothing", "rubbish"])
def test_no_weights_at_all(tmp_path, left):
    write(tmp_path, "gemma")
    (tmp_path / "model.safetensors").unlink()
    if left == "rubbish": (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelLoadError, match="holds no model that can be loaded"): Reranker(str(tmp_path), **FP32)


BAD_OPTIONS = [
    ("minicpm", {"cutoff_layers": 1}, "layer 1 has no head; this model has heads after layers 2 to 6"),
    ("gemma", {"cutoff_layers": [4, 7]}, "layer 7 has no head"), ("gemma", {"cutoff_layers": []}, "give a layer"),
    ("gemma", {"cutoff_layers": "4"}, "give a layer"), ("gemma", {"cutoff_layers": [True]}, "give a layer"), ("gemma", {"cutoff_layers": 4.0}, "give a layer"),
    ("minicpm", {"compress_ratio": 2}, "was not trained to be compressed"), ("gemma", {"compress_ratio": 0}, "compress_ratio=0"),
    ("gemma", {"compress_ratio": 2}, "nothing to compress before layer 8"), ("gemma", {"compress_ratio": 2, "compress_layers": [0, 2]}, "before layer 0"),
    ("minicpm", {"softcap": True}, "softcap has no effect"), ("gemma", {"model_kwargs": {"attn_implementation": "eager"}}, "model_kwargs has no effect"),
    ("gemma", {"random_head": True}, "random_head has no effect"), ("gemma", {"max_length": 0}, "max_length=0"),
    ("gemma", {"max_length": 513}, "has room for 512"), ("gemma", {"batch_size": -1}, "batch_size"),
]


@pytest.mark.parametrize(("kind", "options", "message"), BAD_OPTIONS)
def test_bad_options(folders, kind, options, message):
    "Noticed before the large files are read"
    for folder in (folders[kind], folders[f"{kind} without weights"]):
        with pytest.raises(InputError, match=message): Reranker(folder, device="cpu", **options)


def test_heads_at_intervals(tmp_path):
    folder = write(tmp_path, "gemma", layer_sep=2)
    assert Reranker(folder, cutoff_layers=[2, 4], **FP32).layers == (2, 4)
    with pytest.raises(InputError, match="after layers 2 to 6 in steps of 2"): Reranker(folder, cutoff_layers=3, **FP32)


@pytest.mark.parametrize("kind", CONFIGS)
def test_damaged_weights_are_noticed(tmp_path, kind):
    ranker = Reranker(write(tmp_path, kind, damage), **FP32)
    with pytest.raises(UnusableAnswer, match="document 'first' is NaN"): ranker.rank(QUERY, DOCS, doc_ids=["first", "b", "c", "d"])


@pytest.mark.parametrize(("name", "expected"), [
    ("BAAI/bge-reranker-v2-minicpm-layerwise", "llm-layerwise"), ("BAAI/bge-reranker-v2.5-gemma2-lightweight", "llm-layerwise"),
    ("llm-layerwise", "llm-layerwise"), ("someone/lightweight-reranker", "cross-encoder")])
def test_names(name, expected):
    assert choose(name).backend.words[0] == expected


@pytest.mark.parametrize("lang", ["en", "de", "zh"])
def test_default(lang):
    assert choose("llm-layerwise", lang=lang).model == "BAAI/bge-reranker-v2.5-gemma2-lightweight"
