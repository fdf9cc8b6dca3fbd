"What ONNX graphs want and give: other names, other numbers, positions, fixed sizes, several outputs; what cannot be made is refused by name"
import json
import shutil
import warnings
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from closeness import near  # noqa: E402
from rerankers import InputError, ModelLoadError, Reranker, RerankersError, UnusableAnswer  # noqa: E402
from rerankers.engine.batching import run_rows  # noqa: E402
from rerankers.engine.graphs import NUMPY_TYPES, as_rows, positions  # noqa: E402
from rerankers.engine.onnx import OnnxRuntime  # noqa: E402
from rerankers.tiny_models import tiny_checkpoint  # noqa: E402

QUERY, DOCS = "who wrote the play hamlet?", ["Hamlet was written by William Shakespeare.", "Goethe wrote Faust.", "", "a " * 300]
TYPES = {kind: getattr(onnx.TensorProto, kind.upper().replace("FLOAT32", "FLOAT").replace("FLOAT64", "DOUBLE")) for kind in NUMPY_TYPES.values()}
FACTORS = {"input_ids": 1.0, "token_type_ids": 100.0, "position_ids": 0.01}     # what a token of the toy graph adds to the score
make = onnx.helper


def graph(path, inputs, *, outputs=None, masked=True):
    "A graph that adds up FACTORS over the tokens that count; `inputs`: role -> (name, kind of number, shape); `outputs`: name -> (kind, shape)"
    outputs = outputs or {"logits": ("float32", ["items", 1])}
    nodes, constants, parts = [], [], []
    for role, (name, _, _) in inputs.items():
        nodes.append(make.make_node("Cast", [name], [f"{role}-cast"], to=onnx.TensorProto.FLOAT))
        if role not in FACTORS: continue
        constants.append(make.make_tensor(f"{role}-factor", onnx.TensorProto.FLOAT, [], [FACTORS[role]]))
        nodes.append(make.make_node("Mul", [f"{role}-cast", f"{role}-factor"], [f"{role}-part"]))
        parts.append(f"{role}-part")
    nodes.append(make.make_node("Sum", parts, ["each"]))
    nodes.append(make.make_node("Mul", ["each", "attention_mask-cast"], ["counted"]) if masked else make.make_node("Identity", ["each"], ["counted"]))
    constants.append(make.make_tensor("axis", onnx.TensorProto.INT64, [1], [1]))
    nodes.append(make.make_node("ReduceSum", ["counted", "axis"], ["summed"], keepdims=1))
    for i, (name, (kind, shape)) in enumerate(outputs.items()):
        if "tokens" in shape:       # hidden states
            constants.append(make.make_tensor(f"shape-{i}", onnx.TensorProto.INT64, [1], [2]))
            nodes.append(make.make_node("Unsqueeze", ["counted", f"shape-{i}"], [name]))
            continue
        constants.append(make.make_tensor(f"shape-{i}", onnx.TensorProto.INT64, [len(shape)], [-1, *[1] * (len(shape) - 1)]))
        nodes += [make.make_node("Reshape", ["summed", f"shape-{i}"], [f"shaped-{i}"]), make.make_node("Cast", [f"shaped-{i}"], [name], to=TYPES[kind])]
    taken = [make.make_tensor_value_info(name, TYPES[kind], shape) for name, kind, shape in inputs.values()]
    given = [make.make_tensor_value_info(name, TYPES[kind], shape) for name, (kind, shape) in outputs.items()]
    built = make.make_model(make.make_graph(nodes, "toy", taken, given, constants), opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    onnx.save(built, str(path))
    return path


def inputs(*roles, items="items", tokens="tokens", kind="int64", **named):
    "Inputs by role, under the usual names unless `named` says otherwise: a name, or a name and a kind of number"
    def one(role):
        name, its = named.get(role, role), kind
        if isinstance(name, tuple): name, its = name
        return name, its, [items, tokens]
    return {role: one(role) for role in roles or ("input_ids", "attention_mask", "token_type_ids")}


def expected(roles, rows, types, first=0):
    "What the toy graph gives, computed by hand"
    def score(ids, kinds):
        parts = {"input_ids": sum(ids), "token_type_ids": sum(kinds), "position_ids": sum(first + i for i in range(len(ids)))}
        return sum(FACTORS[role] * parts[role] for role in roles if role in FACTORS)
    return [score(*pair) for pair in zip(rows, types)]


def config(folder, **said):
    (folder / "config.json").write_text(json.dumps(said))


# ---- names and numbers

NAMES = {"input_ids": ["input_ids", "input_ids.1", "ids", "input.1", "input_ids:0", "inputIds", "serving_default_input_ids:0", "input_word_ids", "tokens"],
         "attention_mask": ["attention_mask", "mask", "input_mask", "attention_mask.1", "attn_mask", "input_mask:0"],
         "token_type_ids": ["token_type_ids", "segment_ids", "token_type_ids.1", "input_type_ids", "type_ids", "segment_ids:0"],
         "position_ids": ["position_ids", "positions", "position_ids.1", "pos_ids"]}
KINDS = {"input_ids": ["int64", "int32", "float32"], "attention_mask": ["int64", "int32", "float32", "float16", "float64", "bool", "uint8"],
         "token_type_ids": ["int64", "int32", "int8"], "position_ids": ["int64", "int32", "float32"]}


@st.composite
def graphs(draw):
    "Roles with a name and a kind of number each, and sizes that may be fixed"
    roles = ["input_ids", "attention_mask", *draw(st.sets(st.sampled_from(["token_type_ids", "position_ids"])))]
    items, tokens = draw(st.sampled_from(["items", 1, 3])), draw(st.sampled_from(["tokens", 9]))
    return {role: (draw(st.sampled_from(NAMES[role])), draw(st.sampled_from(KINDS[role])), [items, tokens]) for role in roles}


@settings(max_examples=40)
@given(graphs(), st.lists(st.lists(st.integers(1, 200), min_size=1, max_size=9), min_size=1, max_size=7), st.sampled_from(["right", "left"]))
def test_whatever_the_graph_is_like_the_scores_are_the_same(tmp_path_factory, wanted, rows, side):
    folder = tmp_path_factory.mktemp("graph")
    config(folder, model_type="bert", pad_token_id=7)
    runtime, types = OnnxRuntime(graph(folder / "model.onnx", wanted), side=side), [[i % 2 for i in range(len(row))] for row in rows]
    found = np.stack(run_rows(runtime, {"input_ids": rows, "token_type_ids": types}, pad={"input_ids": 7}, side=side, max_tokens=64))
    assert found[:, 0].tolist() == pytest.approx(expected(wanted, rows, types), rel=1e-4)


@pytest.mark.parametrize("given", [n for names in NAMES.values() for n in names if n not in NAMES])
def test_usual_names_are_known(tmp_path, given):
    role = next(role for role, names in NAMES.items() if given in names)
    roles = ["input_ids", "attention_mask", *([role] if role not in ("input_ids", "attention_mask") else [])]
    config(tmp_path, model_type="bert")
    runtime = OnnxRuntime(graph(tmp_path / "model.onnx", inputs(*roles, **{role: given})))
    batch = {"input_ids": np.array([[5, 6, 9]]), "attention_mask": np.array([[1, 1, 0]]), "token_type_ids": np.array([[0, 1, 1]])}
    assert runtime(batch)[0, 0] == pytest.approx(expected(roles, [[5, 6]], [[0, 1]])[0], rel=1e-5)


def test_a_tokenizer_without_segments(tmp_path):
    runtime = OnnxRuntime(graph(tmp_path / "model.onnx", inputs()))
    assert runtime({"input_ids": np.array([[5, 6]])}).tolist() == [[11.0]]


def test_a_model_with_one_kind_of_segment_gets_no_other(tmp_path):
    config(tmp_path, model_type="xlm-roberta", type_vocab_size=1)
    runtime = OnnxRuntime(graph(tmp_path / "model.onnx", inputs()))
    assert runtime({"input_ids": np.array([[5, 6]]), "token_type_ids": np.array([[0, 1]])}).tolist() == [[11.0]]


@pytest.mark.parametrize(("kind", "number"), [("uint8", 256), ("int16", 40_000), ("float16", 2049), ("bool", 2)])
def test_ids_that_the_graphs_numbers_cannot_hold_are_an_error(tmp_path, kind, number):
    "A silent overflow would be another word"
    runtime = OnnxRuntime(graph(tmp_path / "model.onnx", inputs(input_ids=("input_ids", kind))))
    with pytest.raises(ModelLoadError, match=f"input_ids as {kind}, which cannot hold {number}"): runtime({"input_ids": np.array([[1, number]])})
    assert runtime({"input_ids": np.array([[1, 1]])}).shape == (1, 1)


# ---- refusals

def listed(**more): return inputs() | {name: (name, *rest) for name, rest in more.items()}


ODD = {
    "labels": listed(labels=("int64", ["items"])), "padding_mask": listed(padding_mask=("int64", ["items", "tokens"])),
    "past_key_values.0.key": listed() | {"past": ("past_key_values.0.key", "float32", ["items", 2, "past", 8])},
    "decoder_input_ids": listed(decoder_input_ids=("int64", ["items", "steps"])), "use_cache_branch": listed(use_cache_branch=("bool", [1])),
    "global_attention_mask": listed(global_attention_mask=("int64", ["items", "tokens"])),
    "onnx::Gather_0": listed() | {"x": ("onnx::Gather_0", "int64", ["items", "tokens"])},
    "inputs_embeds": listed(inputs_embeds=("float32", ["items", "tokens", 32])), "pixel_values": listed(pixel_values=("float32", ["items", 3, 8, 8])),
    "head_mask": listed(head_mask=("float32", [2, 2]))}


@pytest.mark.parametrize("name", ODD)
def test_what_the_encoder_does_not_make_is_refused_by_name(tmp_path, name):
    with pytest.raises(ModelLoadError) as caught: OnnxRuntime(graph(tmp_path / "model.onnx", ODD[name]))
    said = str(caught.value)
    assert f"wants {name}, which is not made here" in said and "input_ids tensor(int64) ['items', 'tokens']" in said and "backend='torch'" in said


UNCLEAR = {
    "two that may be the ids": (inputs() | {"more": ("input_ids.1", "int64", ["items", "tokens"])}, "wants input_ids and input_ids.1, and it is not clear"),
    "the same word thrice": ({role: (f"input.{i}", "int64", ["items", "tokens"]) for i, role in enumerate(inputs())}, "it is not clear which"),
    "no ids": (inputs("attention_mask", "token_type_ids"), "takes no token ids"),
    "a mask of four dimensions": (inputs() | {"attention_mask": ("attention_mask", "float32", ["items", 1, 1, "tokens"])}, "in another shape than items"),
    "a single item without a batch": (inputs() | {"input_ids": ("input_ids", "int64", ["tokens"])}, "in another shape than items by tokens"),
    "sizes that disagree": (inputs() | {"input_ids": ("input_ids", "int64", ["items", 8]), "attention_mask": ("attention_mask", "int64", ["items", 1])},
                            r"different sizes, \[1, 8\] tokens"),
    "positions of nobody knows whom": (inputs("input_ids", "attention_mask", "position_ids"), "no config.json beside it")}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_clear_is_refused(tmp_path, name):
    wanted, said = UNCLEAR[name]
    with pytest.raises(ModelLoadError, match=said): OnnxRuntime(graph(tmp_path / "model.onnx", wanted))


def test_texts_as_input_are_refused(tmp_path):
    "A graph with its tokenizer inside"
    node = make.make_node("Shape", ["input"], ["logits"])
    ends = [make.make_tensor_value_info("input", onnx.TensorProto.STRING, ["items", 1])], [make.make_tensor_value_info("logits", onnx.TensorProto.INT64, [2])]
    model = make.make_model(make.make_graph([node], "texts", *ends), opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ModelLoadError, match=r"wants input as something else than numbers.*tensor\(string\)"): OnnxRuntime(tmp_path / "model.onnx")


# ---- positions

FAMILIES = ["bert", "electra", "deberta", "roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "roberta-prelayernorm",
            "nystromformer", "xmod", "ibert", "esm", "longformer", "luke", "yoso"]


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_those_that_transformers_makes(family):
    "A model that is given ours says what it says when it makes its own"
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
    more = {"xmod": {"languages": ["en_XX"], "default_language": "en_XX"}, "nystromformer": {"segment_means_seq_len": 32, "num_landmarks": 32},
            "esm": {"position_embedding_type": "absolute"}, "electra": {"embedding_size": 16},
            "longformer": {"attention_window": [8]}, "luke": {"entity_vocab_size": 4, "entity_emb_size": 8}}.get(family, {})
    made = transformers.AutoConfig.for_model(family, pad_token_id=1, initializer_range=1.0, **shape, **more)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModel.from_config(made).eval()
    ids, mask = torch.tensor([[5, 6, 7, 8, 9], [8, 9, 5, 1, 1]]), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ours = torch.from_numpy(positions(mask.numpy(), made.to_dict()))
    with torch.inference_mode():
        theirs, given = (model(input_ids=ids, attention_mask=mask, **more).last_hidden_state for more in ({}, {"position_ids": ours}))
        shifted = model(input_ids=ids, attention_mask=mask, position_ids=ours.flip(1)).last_hidden_state
    real = mask.bool()
    assert torch.equal(theirs[real], given[real])
    if family != "deberta": assert not torch.allclose(theirs[real], shifted[real])     # its positions are between words, `position_biased_input` aside


def exported(folder, model, names):
    "The model as a graph that takes these inputs: its own argument -> the graph's name and kind of number"
    torch = pytest.importorskip("torch")
    example = tuple(torch.ones(2, 8, dtype=getattr(torch, kind)) for _, kind in names.values())

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model
        def forward(self, *given): return self.model(**dict(zip(names, given))).logits

    called = [name for name, _ in names.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Logits().eval(), example, str(folder / "model.onnx"), input_names=called, output_names=["logits"], dynamo=False,
                          dynamic_axes={name: {0: "items", 1: "tokens"} for name in called} | {"logits": {0: "items"}})


def scores(ranker): return [ranker.rank(QUERY, DOCS).get_score_by_docid(i) for i in range(len(DOCS))]


@pytest.fixture(scope="session")
def renamed(tmp_path_factory):
    "A tiny BERT as a graph with four inputs, two of them int32, under other names"
    pytest.importorskip("transformers")
    from transformers import AutoModelForSequenceClassification
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path_factory.mktemp("renamed") / "bert"))
    exported(folder, AutoModelForSequenceClassification.from_pretrained(folder),
             {"input_ids": ("input_ids.1", "int32"), "attention_mask": ("mask", "float32"), "token_type_ids": ("segment_ids", "int64"),
              "position_ids": ("position_ids", "int32")})
    return folder


def test_a_renamed_bert_with_positions_is_the_bert(renamed):
    found = scores(Reranker(str(renamed), backend="onnx"))
    assert found == near(scores(Reranker(str(renamed), backend="torch", device="cpu"))) and len(set(found)) == len(DOCS)


def test_a_roberta_with_positions_is_the_roberta(tmp_path):
    pytest.importorskip("torch")
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification
    folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "roberta"))
    for file in folder.glob("*.safetensors"): file.unlink()
    made = RobertaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=130,
                         type_vocab_size=1, pad_token_id=0, num_labels=1, initializer_range=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = RobertaForSequenceClassification(made).eval()
    model.save_pretrained(folder)
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"model_input_names": ["input_ids", "attention_mask"]}))
    exported(folder, model, {"input_ids": ("input_ids", "int64"), "attention_mask": ("attention_mask", "int64"), "position_ids": ("position_ids", "int64")})
    assert scores(Reranker(str(folder), backend="onnx")) == near(scores(Reranker(str(folder), backend="torch", device="cpu")))


# ---- fixed sizes, no mask

@pytest.fixture
def toy(tmp_path):
    "Makes a checkpoint whose graph is a toy"
    def made(wanted, **how):
        folder = Path(shutil.copytree(tiny_checkpoint("bert"), tmp_path / "toy"))
        for file in folder.glob("*.safetensors"): file.unlink()
        graph(folder / "model.onnx", wanted, **how)
        return str(folder)
    return made


def by_hand(ranker, **how):
    "Scores of DOCS by the toy's own rule, for the tokens that the ranker makes"
    tokens = ranker.encode([(QUERY, d) for d in DOCS])
    return [-value for value in sorted(-s for s in expected(["input_ids", "token_type_ids"], tokens["input_ids"], tokens["token_type_ids"]))]


@pytest.mark.parametrize("items", ["items", 1, 3, 8])
@pytest.mark.parametrize("tokens", ["tokens", 24])
@pytest.mark.parametrize("batch_size", [None, 2, 100])
def test_fixed_sizes_are_kept(toy, items, tokens, batch_size):
    ranker = Reranker(toy(inputs(items=items, tokens=tokens)), activation="identity")
    results = ranker.rank(QUERY, DOCS, batch_size=batch_size)
    assert [r.score for r in results] == pytest.approx(by_hand(ranker), rel=1e-5)
    assert ranker.max_length == (24 if tokens == 24 else 128)
    assert [r.truncated for r in sorted(results, key=lambda r: r.doc_id)] == [False, False, False, True]


def test_more_than_the_graph_takes_is_an_input_error(toy):
    folder = toy(inputs(tokens=24))
    with pytest.raises(InputError, match="max_length=25: the graph takes exactly 24"): Reranker(folder, max_length=25)
    assert Reranker(folder, max_length=20).max_length == 20
    runtime, long = Reranker(folder).runtime, np.ones((1, 25), dtype=np.int64)
    with pytest.raises(InputError, match="takes exactly 24 tokens, and a text has 25"): runtime({"input_ids": long})


def test_flashrank_keeps_to_a_fixed_length(toy):
    ranker = Reranker(toy(inputs(tokens=24, items=2)), model_type="flashrank")
    assert ranker.max_length == 24 and len(ranker.rank(QUERY, DOCS)) == len(DOCS)


def test_without_a_mask_nothing_is_padded(toy):
    ranker = Reranker(toy(inputs("input_ids", "token_type_ids"), masked=False), activation="identity")
    assert ranker.runtime.overhead == 0 and [r.score for r in ranker.rank(QUERY, DOCS)] == pytest.approx(by_hand(ranker), rel=1e-5)


class Counting:
    "A session that counts the slots of its calls"
    def __init__(self, session): self.session, self.slots = session, []
    def __getattr__(self, name): return getattr(self.session, name)
    def run(self, names, arrays):
        self.slots.append(arrays["input_ids"].size)
        return self.session.run(names, arrays)


@pytest.mark.parametrize(("fixed", "calls"), [({}, 4), ({"items": 4}, 1), ({"tokens": 24}, 1), ({"items": 2, "tokens": 24}, 2)], ids=str)
def test_short_texts_are_padded_only_where_the_graph_wants_it(toy, fixed, calls):
    "Four lengths far apart: one call each; a graph that fills up what is not there gets full batches"
    runtime, lengths = Reranker(toy(inputs(**fixed))).runtime, [3, 24, 13, 8] if fixed else [30, 240, 130, 80]
    runtime.opened = counting = Counting(runtime.session)
    run_rows(runtime, {"input_ids": [[5] * n for n in lengths]}, pad={}, max_tokens=runtime.max_tokens, overhead=runtime.overhead)
    assert len(counting.slots) == calls and (fixed or sum(counting.slots) == sum(lengths))


def test_a_fixed_length_without_a_mask_is_refused(toy):
    with pytest.raises(ModelLoadError, match="24 tokens and no mask"): Reranker(toy(inputs("input_ids", "token_type_ids", tokens=24), masked=False))


# ---- outputs

@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
@pytest.mark.parametrize("shape", [["items"], ["items", 1], ["items", 1, 1]], ids=len)
@pytest.mark.parametrize("word", ["cross-encoder", "flashrank"])
def test_single_numbers_in_any_shape(toy, kind, shape, word):
    ranker = Reranker(toy(inputs(), outputs={"logits": (kind, shape)}), model_type=word)
    rows = np.stack(run_rows(ranker.runtime, ranker.encode([(QUERY, d) for d in DOCS]).ids, pad={}, max_tokens=10_000))
    assert (rows.dtype, rows.shape) == (np.float32, (len(DOCS), 1))
    assert sorted(rows[:, 0].tolist(), reverse=True) == pytest.approx(by_hand(ranker), rel=1e-3)


FLAT, DEEP = ["items", 1], ["items", "tokens", 1]


@pytest.mark.parametrize(("outputs", "read"), [
    ({"hidden": ("float32", DEEP), "logits": ("float32", FLAT)}, "logits"), ({"label": ("int64", FLAT), "logits": ("float32", FLAT)}, "logits"),
    ({"other": ("float32", FLAT), "logits.1": ("float32", FLAT)}, "logits.1"), ({"scores": ("float32", FLAT), "pooler_output": ("float32", FLAT)}, "scores"),
    ({"probabilities": ("float32", FLAT), "logits": ("float32", FLAT)}, "logits"), ({"output_0": ("float32", DEEP), "output_1": ("float32", FLAT)}, "output_1"),
    ({"label": ("int64", FLAT), "output": ("float32", FLAT)}, "output"), ({"1234": ("float32", FLAT)}, "1234")], ids=str)
def test_which_output_is_read(tmp_path, outputs, read):
    assert OnnxRuntime(graph(tmp_path / "model.onnx", inputs(), outputs=outputs)).output == read


@pytest.mark.parametrize(("outputs", "said"), [
    ({"a": ("float32", FLAT), "b": ("float32", FLAT)}, "several outputs that may be scores, a tensor"),
    ({"start_logits": ("float32", FLAT), "end_logits": ("float32", FLAT)}, "several outputs"),
    ({"label": ("int64", FLAT)}, "no output that can be scores, label tensor")], ids=str)
def test_no_output_is_guessed(tmp_path, outputs, said):
    with pytest.raises(ModelLoadError, match=said): OnnxRuntime(graph(tmp_path / "model.onnx", inputs(), outputs=outputs))


# ---- faults while it runs

def test_a_graph_that_fails_on_a_batch_is_an_error_of_ours(renamed):
    runtime = OnnxRuntime(renamed / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"fails on a batch of \{'input_ids.1': \(1, 1\)"): runtime({"input_ids": np.array([[100_000]])})
    with pytest.raises(ModelLoadError, match="fails on a batch"): runtime({"input_ids": np.ones((1, 500), dtype=np.int64)})     # more than it has positions
    assert runtime({"input_ids": np.array([[1]])}).shape == (1, 1)


@pytest.mark.parametrize("text", ["a " * 3000, "\ud800", ""])
def test_through_the_front_door_only_errors_of_ours(renamed, tmp_path, text):
    "A configuration that promises more positions than the graph has"
    folder = Path(shutil.copytree(renamed, tmp_path / "more"))
    said = json.loads((folder / "config.json").read_text())
    config(folder, **said | {"max_position_embeddings": 4096})
    ranker = Reranker(str(folder), backend="onnx", max_length=4096)
    if len(text) > 1000:
        with pytest.raises(RerankersError, match="smaller max_length"): ranker.rank(QUERY, [text])
    else: assert ranker.rank(QUERY, [text])[0].rank == 1


# ---- what is no answer and no configuration

@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2)])
def test_an_output_without_a_row_an_item_is_named(shape):
    with pytest.raises(UnusableAnswer, match="one row an item"): as_rows(np.zeros(shape), 2)


@pytest.mark.parametrize("name", ["vocab_size", "max_position_embeddings", "type_vocab_size"])
@pytest.mark.parametrize("value", ["many", "512", 1.5, [512], True])
def test_a_number_that_is_none_is_named(tmp_path, name, value):
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint(onnx=True), folder)
    said = json.loads((folder / "config.json").read_text()) | {name: value}
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelLoadError, match=f"{name}="): Reranker(str(folder), backend="onnx")
