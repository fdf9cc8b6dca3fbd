"What is read from a model's head: which label, where a text ends, what is pooled, and what becomes of the number"
import json
import math
import pickle
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closeness import distance
from rerankers import Reranker
from rerankers.engine.labels import label_names, pick_label
from rerankers.errors import InputError, ModelLoadError

torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
from rerankers.engine import activations  # noqa: E402
from rerankers.engine.activations import ACTIVATIONS, OVER_LABELS, activation_named  # noqa: E402
from rerankers.engine.batching import make_batch  # noqa: E402
from rerankers.engine.hub import LoadOptions  # noqa: E402
from rerankers.engine.modules import POOLINGS, activation_layer  # noqa: E402
from rerankers.engine.pytorch import (  # noqa: E402
    PackedLinear, TorchRuntime, can_pack, load_classifier, load_config, load_model, pack_linears,
)
from rerankers.tiny_models import tiny_bert, tiny_checkpoint, tiny_language_model, tiny_tokenizer, write_chain  # noqa: E402

QUERY = "who wrote hamlet ?"
DOCS = ["faust was written by goethe", "hamlet was written by william shakespeare in london", "the play"]
CPU = {"device": "cpu", "dtype": "float32"}


def by_position(results): return [results.get_score_by_docid(i) for i in range(len(results))]


def worst(ours, theirs, **how):
    "The largest difference as a part of what rounding explains: 1 is the bound"
    ours, theirs = (np.asarray(values, dtype=float).ravel() for values in (ours, theirs))
    return distance(ours, theirs, **how)


def apart(ours, theirs): return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


def copied(source, folder, **config):
    "A checkpoint's folder with other entries in its config.json; None takes one out"
    shutil.copytree(source, folder)
    said = json.loads((folder / "config.json").read_text())
    said = {k: v for k, v in (said | config).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(said))
    return folder


def logits_of(folder, docs=DOCS):
    "A classifier's logits for each document, alone, in plain transformers"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode(): return np.array([model(**tokenizer(QUERY, d, return_tensors="pt")).logits[0].numpy() for d in docs], dtype="float64")


def log_softmax(logits): return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.fixture
def padded(monkeypatch):
    "Batches as a graphics card has them: of different lengths, padded"
    monkeypatch.setattr(TorchRuntime, "overhead", math.inf)


# ---------- two labels, by their names

FIRST = [("entailment", "not_entailment"), ("ENTAILMENT", "CONTRADICTION"), ("entailment", "neutral"), ("relevant", "irrelevant"), ("Relevant", "Non-Relevant"),
         ("relevant", "not_relevant"), ("relevant", "not relevant"), ("RELEVANT", "NOT-RELEVANT"), ("isRelevant", "isNotRelevant"), ("related", "unrelated"),
         ("yes", "no"), ("Y", "N"), ("True", "False"), ("true", "FALSE"), ("positive", "negative"), ("POS", "NEG"), ("1", "0"), (1, 0), (True, False),
         ("1.0", "0.0"), ("1", "-1"), ("match", "mismatch"), ("match", "no match"), ("match", "not a match"), ("matched", "unmatched"),
         ("duplicate", "not_duplicate"), ("is_duplicate", "not_duplicate"), ("duplicate", "isn't a duplicate"), ("similar", "dissimilar"),
         ("paraphrase", "not_paraphrase"), ("equivalent", "not_equivalent"), ("correct", "incorrect"), ("supported", "refuted"), ("SUPPORTS", "REFUTES"),
         ("good", "bad"), ("same", "different"), ("answerable", "unanswerable"), ("relevant document", "irrelevant document"), ("helpful", "unhelpful"),
         ("not irrelevant", "irrelevant"), ("relevant", "other"), ("LABEL_1", "LABEL_0"), ("class-1", "class-0"), ("on-topic", "off topic"), ("相关", "不相关"),
         ("sí", "no"), ("relevante", "irrelevante"), ("关联", "无关"), ("相關", "無關"), ("grounded", "ungrounded"), ("relevant_0", "irrelevant_1"),
         ("Relevante", "No relevante"), ("oui", "non"), ("sim", "não"), ("sì", "no"), ("関連", "無関係"), ("有关", "无关"), ("relevant_1", "irrelevant_0"),
         ("0_relevant", "1_irrelevant"), ("pertinente", "non pertinente"), ("si\u0301", "no")]
UNREAD = [("foo", "bar"), ("relevant", "very relevant"), ("entailment", "foo"), ("irrelevant", "foo"), ("relevant", "relevant"), ("yes", "true"),
          ("contradiction", "neutral"), ("A", "B"), ("LABEL_0", "LABEL_0"), ("", ""), ("relevant", "LABEL_1"), ("not", "a")]


@pytest.mark.parametrize(("relevant", "other"), FIRST)
def test_names_say_which_label_is_relevant(relevant, other):
    for pair, column in (((relevant, other), 0), ((other, relevant), 1)):
        names = label_names({"id2label": dict(enumerate(pair))}, 2)
        assert pick_label(None, names, "m") == column


@pytest.mark.parametrize("pair", UNREAD)
def test_names_that_do_not_say_it_ask_the_caller(pair):
    for names in (pair, pair[::-1]):
        with pytest.raises(InputError, match=r"m has 2 labels.*pass label="): pick_label(None, list(names), "m")
        assert pick_label(1, list(names), "m") == 1


def test_made_up_names_say_nothing_and_the_second_label_is_read():
    for config in ({}, {"id2label": None}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, {"label2id": {"LABEL_0": 0, "LABEL_1": 1}}):
        assert pick_label(None, label_names(config, 2), "m") == 1


def test_one_label_is_read_unless_its_name_says_the_opposite():
    for name in ("LABEL_0", "0", "score", "relevant", "foo", "not irrelevant"): assert pick_label(None, [name], "m") == 0
    for name in ("irrelevant", "not_relevant", "contradiction", "No"):
        with pytest.raises(InputError, match="m has 1 label, .*pass label="): pick_label(None, [name], "m")
        assert pick_label(0, [name], "m") == 0


@pytest.mark.parametrize("names", [["contradiction", "entailment", "neutral"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["no", "no", "yes"]])
def test_three_labels_are_never_guessed(names):
    with pytest.raises(InputError, match="m has 3 labels"): pick_label(None, names, "m")
    assert pick_label(np.int64(2), names, "m") == 2


@pytest.mark.parametrize(("label", "names", "said"), [
    ("Entailment", ["entailment", "neutral"], "Did you mean 'entailment'"), ("not relevant", ["relevant", "not_relevant"], "Did you mean 'not_relevant'"),
    ("1", ["no", "yes"], "label=1"), ("yes", ["yes", "yes"], "its position"), ("maybe", ["no", "yes"], "has the labels"), (2, ["no", "yes"], "has the labels"),
    (-1, ["no", "yes"], "has the labels"), (True, ["no", "yes"], "has the labels"), (1.0, ["no", "yes"], "has the labels")])
def test_a_label_that_is_not_there(label, names, said):
    with pytest.raises(InputError, match=said): pick_label(label, names, "m")


def test_names_of_another_number_of_columns_are_not_believed():
    three = {"id2label": {"0": "contradiction", "1": "entailment", "2": "neutral"}}
    with pytest.raises(InputError, match="pass label="): pick_label(None, label_names(three, 2), "m")
    assert pick_label(0, label_names(three, 2), "m") == 0
    assert label_names({"id2label": {"0": "irrelevant", "1": "relevant"}}, 1) == ["LABEL_0"]
    assert label_names({"id2label": {"1": "relevant"}}, 2) == ["LABEL_0", "relevant"]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.one_of(st.none(), st.integers(-2, 5), st.text(max_size=3)))
def test_any_names_give_a_column_or_an_error_of_ours(names, label):
    try: column = pick_label(label, names, "m")
    except InputError: return
    assert 0 <= column < len(names)
    if len(names) == 2 and label is None: assert pick_label(None, names[::-1], "m") == 1 - column


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory):
    "A classifier with two columns whose first is the relevant one, by its names; in torch and as a graph"
    folder = copied(tiny_checkpoint(labels=2, onnx=True), tmp_path_factory.mktemp("two") / "named",
                    id2label={"0": "entailment", "1": "not_entailment"}, label2id={"entailment": 0, "not_entailment": 1})
    return folder, log_softmax(logits_of(folder))


@pytest.mark.parametrize("option", [{"backend": "torch"}, {"backend": "onnx"}], ids=["torch", "onnx"])
def test_the_named_column_ranks(two_labels, option):
    folder, official = two_labels
    ranker = Reranker(str(folder), model_type="cross-encoder", device="cpu", **option)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), official[:, 0]) <= 1
    assert [r.doc_id for r in ranker.rank(QUERY, DOCS)] == np.argsort(-official[:, 0]).tolist()
    other = Reranker(str(folder), model_type="cross-encoder", device="cpu", label="not_entailment", **option)
    assert worst(by_position(other.rank(QUERY, DOCS)), official[:, 1]) <= 1


@pytest.mark.parametrize("option", [{"backend": "torch"}, {"backend": "onnx"}], ids=["torch", "onnx"])
def test_names_nobody_can_read_are_refused(two_labels, tmp_path, option):
    folder = copied(two_labels[0], tmp_path / "odd", id2label={"0": "foo", "1": "bar"}, label2id={"foo": 0, "bar": 1})
    with pytest.raises(InputError, match="pass label="): Reranker(str(folder), model_type="cross-encoder", device="cpu", **option)
    ranker = Reranker(str(folder), model_type="cross-encoder", device="cpu", label="foo", **option)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), two_labels[1][:, 0]) <= 1


def test_names_that_stand_in_label2id_alone(two_labels, tmp_path):
    for backend in ("torch", "onnx"):
        folder = copied(two_labels[0], tmp_path / backend, id2label=None)
        ranker = Reranker(str(folder), model_type="cross-encoder", backend=backend, device="cpu")
        assert worst(by_position(ranker.rank(QUERY, DOCS)), two_labels[1][:, 0]) <= 1


def test_a_family_with_a_recipe_believes_the_names_too(two_labels, tmp_path):
    folder = tmp_path / "monoelectra-base"
    folder.symlink_to(two_labels[0])
    logits = logits_of(two_labels[0])
    assert worst(by_position(Reranker(str(folder), model_type="cross-encoder", **CPU).rank(QUERY, DOCS)), logits[:, 0]) <= 1


def flash_folder(two_labels, folder, **config):
    "The graph in a folder of FlashRank's"
    copied(two_labels[0], folder, **config)
    shutil.move(folder / "onnx" / "model.onnx", folder / "flashrank-TinyBERT-L-2-v2.onnx")
    return str(folder)


def test_flashrank_reads_the_named_output(two_labels, tmp_path):
    shares = np.exp(two_labels[1])
    named = Reranker(flash_folder(two_labels, tmp_path / "named"), model_type="flashrank")
    assert worst(by_position(named.rank(QUERY, DOCS)), shares[:, 0]) <= 1
    plain = flash_folder(two_labels, tmp_path / "plain", id2label=None, label2id=None)
    assert worst(by_position(Reranker(plain, model_type="flashrank").rank(QUERY, DOCS)), shares[:, 1]) <= 1
    odd = flash_folder(two_labels, tmp_path / "odd", id2label={"0": "foo", "1": "bar"}, label2id=None)
    with pytest.raises(InputError, match="pass label="): Reranker(odd, model_type="flashrank")
    assert worst(by_position(Reranker(odd, model_type="flashrank", label=0).rank(QUERY, DOCS)), shares[:, 0]) <= 1


def test_flashrank_does_not_guess_among_three_outputs(tmp_path):
    folder = tmp_path / "three"
    shutil.copytree(tiny_checkpoint(labels=3, onnx=True), folder)
    shutil.move(folder / "onnx" / "model.onnx", folder / "flashrank-TinyBERT-L-2-v2.onnx")
    with pytest.raises(InputError, match="3 labels"): Reranker(str(folder), model_type="flashrank")


def test_a_language_model_with_two_labels_is_read_as_relevant_minus_other(tmp_path):
    plain = tiny_language_model("qwen3", labels=2)
    named = copied(plain, tmp_path / "named", id2label={"0": "yes", "1": "no"}, label2id={"yes": 0, "no": 1})
    odd = copied(plain, tmp_path / "odd", id2label={"0": "foo", "1": "bar"}, label2id={"foo": 0, "bar": 1})
    second, first = (by_position(Reranker(str(f), model_type="qwen3-reranker", **CPU).rank(QUERY, DOCS)) for f in (plain, named))
    assert worst(np.negative(second), first, floor=1e-6) <= 1 and apart(first, 0) > 1e-3
    ranker = Reranker(str(named), model_type="qwen3-reranker", **CPU)
    with torch.inference_mode(): alone = [ranker.runtime.model(torch.tensor([ids])).logits[0] for ids in ranker.encode([(QUERY, d) for d in DOCS])["input_ids"]]
    assert worst(first, [float(row[0] - row[1]) for row in alone]) <= 1
    for folder in (odd, tiny_language_model("qwen3", labels=3)):
        with pytest.raises(ModelLoadError, match="model_type='cross-encoder'"): Reranker(str(folder), model_type="qwen3-reranker", **CPU)


# ---------- where a decoder's text ends

END, PLACE = "<end>", 30        # a special token that texts may hold, and where it stands


def wordy_tokenizer(**special):
    "Words, \"!\" with id 0, and no padding token unless one is given"
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    words = ["!", *"who wrote hamlet ? faust was written by goethe shakespeare the play in london a b c".split()]
    words += [f"w{i}" for i in range(PLACE - len(words))] + [END, "<unk>"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens([END])
    made.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", model_max_length=40,
                                                model_input_names=["input_ids", "attention_mask"], **special)


SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "max_position_embeddings": 64, "vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "d_model": 32, "n_layers": 2,
         "n_heads": 4, "num_layers": 2, "num_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32, "rotary_dim": 4, "dff": 48, "initializer_range": 0.3,
         "attention_types": [[["global", "local"], 1]], "bos_token_id": 31, "eos_token_id": PLACE, "max_seq_len": 64, "d_inner": 48, "d_ff": 48, "d_kv": 8,
         "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
         "decoder_start_token_id": PLACE}
READERS = ["gpt2", "gpt_neo", "gptj", "gpt_neox", "gpt_bigcode", "openai-gpt", "ctrl", "biogpt", "opt", "bloom", "falcon", "mpt", "llama", "mistral", "gemma",
           "gemma3_text", "qwen2", "qwen3", "phi", "starcoder2", "stablelm", "xlnet", "bert"]
ENDINGS = ["who wrote !", "the play ! !", "!", "faust was written by goethe in london", f"the play {END}", f"a b c {END} {END}", f"{END} a", "hamlet"]


def decoder(folder, architecture="gpt2", *, side="right", tokenizer=None, labels=2, **config):
    "A tiny classifier with a tokenizer of words"
    known = transformers.AutoConfig.for_model(architecture).to_dict()
    shape = {k: v for k, v in SHAPE.items() if k in known}
    made = transformers.AutoConfig.for_model(architecture, **{**shape, "pad_token_id": None, "num_labels": labels, **config})
    torch.manual_seed(4)
    model = transformers.AutoModelForSequenceClassification.from_config(made).eval()
    for weight in model.parameters():
        if weight.ndim > 1: torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    wordy_tokenizer(padding_side=side, **(tokenizer or {})).save_pretrained(folder)
    return str(folder)


def alone(folder, texts=ENDINGS):
    "Logits of each text by itself, in plain transformers, with its configuration as it is"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode(): return [model(**tokenizer(QUERY, t, return_tensors="pt")).logits[0, 1].item() for t in texts]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", READERS)
def test_a_text_ends_where_it_ends(tmp_path, padded, architecture, side):
    "No padding token, texts that end in token 0 or in a special token, batches of different lengths"
    folder = decoder(tmp_path, architecture, side=side)
    official = alone(folder)
    assert len({round(s, 3) for s in official}) > 5
    ranker = Reranker(folder, model_type="cross-encoder", label=1, activation="identity", **CPU)
    for size in (None, 1, 3): assert worst(by_position(ranker.rank(QUERY, ENDINGS, batch_size=size)), official) <= 1
    assert worst(by_position(pickle.loads(pickle.dumps(ranker)).rank(QUERY, ENDINGS)), official) <= 1


PADS = {    # what the configuration and the tokenizer say of padding
    "only the tokenizer, a real word": ({}, {"pad_token": "!"}), "only the tokenizer, a special token": ({}, {"pad_token": END}),
    "both the same": ({"pad_token_id": PLACE}, {"pad_token": END}), "both, a real word": ({"pad_token_id": 0}, {"pad_token": "!"}),
    "only the configuration": ({"pad_token_id": 5}, {}), "they differ": ({"pad_token_id": PLACE}, {"pad_token": "!"}),
    "no token at all": ({"pad_token_id": -1}, {}), "beyond the vocabulary": ({"pad_token_id": 40}, {}),
    "beyond the vocabulary, and another": ({"pad_token_id": 40}, {"pad_token": "!"})}


@pytest.mark.parametrize(("architecture", "case"), [(a, c) for a in ("gpt2", "qwen3", "bert") for c in PADS if a == "gpt2" or "beyond" not in c])
def test_whatever_is_said_of_padding(tmp_path, padded, architecture, case):
    config, tokenizer = PADS[case]
    folder = decoder(tmp_path, architecture, tokenizer=tokenizer, **config)
    official = alone(folder)
    ranker = Reranker(folder, model_type="cross-encoder", label=1, activation="identity", **CPU)
    assert worst(by_position(ranker.rank(QUERY, ENDINGS)), official) <= 1


def test_a_padding_id_that_no_such_model_can_have_is_an_error_of_ours(tmp_path):
    folder = copied(decoder(tmp_path / "m", "qwen3"), tmp_path / "beyond", pad_token_id=40)
    with pytest.raises(ModelLoadError, match="adding_idx"): Reranker(str(folder), model_type="cross-encoder", label=1, **CPU)


@pytest.fixture(scope="module")
def open_ended(tmp_path_factory):
    "A classifier without a padding token: what runs it here, and its plain model"
    folder, options = decoder(tmp_path_factory.mktemp("gpt2"), labels=1), LoadOptions(**CPU)
    return load_classifier(folder, options, load_config(folder, options), 0), transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 31), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 31))
def test_any_ids_padded_with_any_id_score_as_alone(open_ended, rows, pad):
    ours, plain = open_ended
    with torch.inference_mode(): official = [plain(torch.tensor([ids])).logits[0].numpy() for ids in rows]
    assert worst(ours(make_batch({"input_ids": rows}, list(range(len(rows))), {"input_ids": pad})), official) <= 1


@pytest.mark.parametrize("architecture", ["bart", "mbart", "mvp", "umt5"])
def test_texts_with_several_ends_share_a_batch(tmp_path, padded, architecture):
    "Encoder-decoders read the last end-of-text token, and transformers wants equally many in each text of a batch"
    from tokenizers import processors
    folder = decoder(tmp_path, architecture, labels=3, pad_token_id=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", pair=f"$A $B {END}", special_tokens=[(END, PLACE)])
    tokenizer.save_pretrained(folder)
    official = alone(folder)
    ranker = Reranker(folder, model_type="cross-encoder", label=1, activation="identity", **CPU)
    assert worst(by_position(ranker.rank(QUERY, ENDINGS)), official) <= 1


def test_a_classifier_made_of_a_language_model_reads_its_prompts_to_the_end(tmp_path, padded):
    "Even where the prompt's own end is the padding token"
    folder = decoder(tmp_path, "qwen3", labels=1, tokenizer={"pad_token": END, "eos_token": END})
    ranker = Reranker(folder, model_type="qwen3-reranker", **CPU)
    ids = [row + [PLACE] for row in ranker.encode([(QUERY, d) for d in DOCS])["input_ids"]]
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode(): official = [plain(torch.tensor([row])).logits[0].numpy() for row in ids]
    assert worst(ranker.run({"input_ids": ids}), official) <= 1


def test_a_graph_without_a_padding_id_reads_the_last_position(tmp_path):
    "Exported from a decoder without one; so its batches are of one length"
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    class Last(torch.nn.Module):
        "Adds what came before to the last position"
        def __init__(self):
            super().__init__()
            self.words, self.score = torch.nn.Embedding(32, 8), torch.nn.Linear(8, 1)
        def forward(self, ids, mask):
            words = self.words(ids)
            return self.score(torch.tanh((words * mask.unsqueeze(-1)).cumsum(1) + words))[:, -1]

    torch.manual_seed(1)
    model, free = Last().eval(), {"input_ids": {0: "batch", 1: "tokens"}, "attention_mask": {0: "batch", 1: "tokens"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # tracing warns of what it always does
        torch.onnx.export(model, (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long)), str(tmp_path / "model.onnx"),
                          input_names=["input_ids", "attention_mask"], output_names=["logits"], dynamic_axes=free, dynamo=False)
    tokenizer = wordy_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}))
    def official(text):
        ids = torch.tensor([tokenizer(QUERY, text)["input_ids"]])
        with torch.inference_mode(): return model(ids, torch.ones_like(ids)).item()

    ranker = Reranker(str(tmp_path), model_type="cross-encoder", backend="onnx", activation="identity")
    assert worst(by_position(ranker.rank(QUERY, ENDINGS)), [official(t) for t in ENDINGS]) <= 1
    assert worst(by_position(pickle.loads(pickle.dumps(ranker)).rank(QUERY, ENDINGS)), [official(t) for t in ENDINGS]) <= 1


def sided(folder, side):
    "The folder, with a tokenizer that is used to another side of padding"
    words = folder / "tokenizer_config.json"
    words.write_text(json.dumps(json.loads(words.read_text()) | {"padding_side": side}))
    return str(folder)


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_encoders_first_token_is_never_padding(two_labels, tmp_path, padded, side):
    "A tokenizer that was used to the left, on every path: graphs are padded on any device"
    official = two_labels[1][:, 0]
    folder = sided(copied(two_labels[0], tmp_path / "m"), side)
    for backend in ("torch", "onnx"):
        ranker = Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu")
        assert worst(by_position(ranker.rank(QUERY, DOCS)), official) <= 1
    flash = flash_folder(two_labels, tmp_path / "f")
    sided(tmp_path / "f", side)
    assert worst(by_position(Reranker(flash, model_type="flashrank").rank(QUERY, DOCS)), np.exp(official)) <= 1


# ---------- activations

TORCH = sorted(name for name in dir(torch.nn) if activation_named(f"torch.nn.{name}"))
ASKED = {"Tanh", "ReLU", "LogSigmoid", "LogSoftmax", "Softplus", "Hardtanh", "Identity", "Sigmoid", "Softmax", "GELU", "SiLU", "LeakyReLU", "ELU"}


@pytest.mark.parametrize("name", TORCH)
def test_the_table_computes_what_torch_computes(name):
    ours = activation_named(f"torch.nn.modules.activation.{name}")
    x = np.concatenate([np.linspace(-30, 30, 200), [0.5, -0.5, 1, -1, 6, 0]]).reshape(-1, 2)
    layer = getattr(torch.nn, name)(**({"dim": -1} if ours in OVER_LABELS else {}))
    assert np.allclose(ACTIVATIONS[ours](x), layer(torch.tensor(x)).numpy(), rtol=1e-7, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # a softmax that is not told over what guesses, and says so
        found = activation_layer(f"torch.nn.modules.activation.{name}")(torch.tensor(x))
    assert np.allclose(found.numpy(), layer(torch.tensor(x)).numpy())


def test_the_table_has_what_checkpoints_use():
    assert set(TORCH) >= ASKED
    assert {activation_named(f"torch.nn.{name}") for name in TORCH} == set(ACTIVATIONS)


def saying(folder, where, path):
    "A classifier with one label whose files name an activation, in one of the three places"
    copied(tiny_checkpoint(onnx=True), folder)
    entries = {"new": ("config_sentence_transformers.json", {"model_type": "CrossEncoder", "activation_fn": path}),
               "inner": ("config.json", {"sentence_transformers": {"activation_fn": path}}),
               "old": ("config.json", {"sbert_ce_default_activation_function": path})}
    name, said = entries[where]
    file = folder / name
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | said))
    return str(folder)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("where", ["new", "inner", "old"])
@pytest.mark.parametrize("name", ["Tanh", "ReLU", "LogSigmoid", "Softplus", "Hardtanh"])
def test_a_saved_activation(tmp_path, where, name, backend):
    folder = saying(tmp_path / "m", where, f"torch.nn.modules.activation.{name}")
    logits = torch.tensor(logits_of(folder)[:, 0])
    ranker = Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu")
    assert worst(by_position(ranker.rank(QUERY, DOCS)), getattr(torch.nn, name)()(logits)) <= 1


UNKNOWN = ["my.code.Act", "my.code.Sigmoid", "torch.nn.modules.activation.PReLU", "torch.nn.modules.linear.Linear", "Sigmoid"]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("where", ["new", "inner", "old"])
@pytest.mark.parametrize("path", [*UNKNOWN, "torch.nn.modules.activation.Softmax", "torch.nn.modules.activation.LogSoftmax"])
def test_a_saved_activation_that_is_no_use_can_be_replaced(tmp_path, where, path, backend):
    folder = saying(tmp_path / "m", where, path)
    with pytest.raises(ModelLoadError, match="pass activation="): Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu")
    logits = logits_of(folder)[:, 0]
    ways = [("tanh", np.tanh(logits)), ("identity", logits), (lambda x: x * 2, logits * 2), ("torch.nn.Tanh", np.tanh(logits))]
    for own, official in ways if path == UNKNOWN[0] else ways[:1]:      # what replaces it does not depend on what it was
        ranker = Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu", activation=own)
        assert worst(by_position(ranker.rank(QUERY, DOCS)), official) <= 1


LOADS = {   # what reads one number a document
    "cross-encoder": (lambda: tiny_checkpoint(), {}), "graph": (lambda: tiny_checkpoint(onnx=True), {"backend": "onnx"}),
    "chain": (lambda: tiny_checkpoint("chain"), {}), "t5": (lambda: tiny_language_model("t5"), {"model_type": "t5"}),
    "llm": (lambda: tiny_language_model("qwen3"), {"model_type": "qwen3-reranker"})}


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("activation", [*OVER_LABELS, activations.softmax, "torch.nn.Softmax"],
                         ids=lambda a: getattr(a, "__name__", a) + " itself" * callable(a))
def test_a_softmax_of_one_label_is_refused(kind, activation):
    "It makes all scores 1, or 0; over one number a document it would run over the documents"
    folder, option = LOADS[kind][0](), LOADS[kind][1]
    with pytest.raises(InputError, match="every score would be the same"): Reranker(folder, **{"model_type": "cross-encoder", "device": "cpu", **option},
                                                                                   activation=activation)


def test_a_softmax_of_two_labels_is_not(two_labels):
    ranker = Reranker(str(two_labels[0]), model_type="cross-encoder", activation="softmax", **CPU)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), np.exp(two_labels[1][:, 0])) <= 1


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("own", [torch.nn.Sigmoid(), torch.sigmoid, torch.nn.functional.sigmoid,
                                 lambda x: torch.sigmoid(x), torch.nn.Sequential(torch.nn.Sigmoid())],
                         ids=["module", "function", "functional", "lambda", "chain"])
def test_an_activation_of_torch_is_taken_as_it_is(own, backend):
    folder = tiny_checkpoint(onnx=backend == "onnx")
    ranker = Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu", activation=own)
    expected = Reranker(folder, model_type="cross-encoder", backend=backend, device="cpu", activation="sigmoid")
    assert worst(by_position(ranker.rank(QUERY, DOCS)), by_position(expected.rank(QUERY, DOCS)), floor=1e-6) <= 1


@pytest.mark.parametrize("own", [torch.nn.Softmax(-1), torch.nn.LogSoftmax(1), torch.nn.Softmin(-1)], ids=str)
def test_a_softmax_of_torch_over_one_label_is_refused(own):
    with pytest.raises(InputError, match="every score would be the same"): Reranker(tiny_checkpoint(), activation=own, **CPU)


@pytest.mark.parametrize("wrong", [torch.nn.PReLU, torch.nn.Sigmoid, lambda: 1, lambda a, b: a, torch.nn.Linear(7, 2)],
                         ids=["PReLU", "a class", "none", "two", "layer"])
def test_what_cannot_be_called_on_scores_is_refused_at_once(wrong):
    with pytest.raises(InputError, match="activation="): Reranker(tiny_checkpoint(), activation=wrong, **CPU)


def test_a_model_that_hashes_its_letters_loads(tmp_path):
    "CANINE has no table of words, so there is none whose last row padding could take"
    from transformers import CanineConfig, CanineForSequenceClassification, CanineTokenizer
    config = CanineConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=512, num_labels=1,
                          num_hash_buckets=64, num_hash_functions=4)
    torch.manual_seed(0)
    model, tokenizer, docs = CanineForSequenceClassification(config).eval(), CanineTokenizer(), ["hamlet", "faust is a play by goethe"]
    model.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    with torch.no_grad(): official = [model(**tokenizer(QUERY, d, return_tensors="pt")).logits.item() for d in docs]
    ranker = Reranker(str(tmp_path), model_type="cross-encoder", activation="identity", **CPU)
    assert worst(by_position(ranker.rank(QUERY, docs)), official) <= 1


def test_an_unknown_activation_of_the_callers_is_an_error():
    for wrong in ("sigmiod", "", 5):
        with pytest.raises(InputError, match="unknown"): Reranker(tiny_checkpoint(), activation=wrong, **CPU)


@pytest.mark.parametrize("name", ["Tanh", "ReLU", "LogSigmoid", "Softplus", "Hardtanh", "Mish", "Softmax"])
def test_a_dense_layer_of_a_chain_has_the_activation_that_it_names(tmp_path, name):
    "Against sentence-transformers on the same folder"
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tiny_bert(1, True).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    torch.manual_seed(6)
    dense = {"in_features": 32, "out_features": 16, "bias": False, "activation_function": f"torch.nn.modules.activation.{name}"}
    write_chain(tmp_path, [("Pooling", {"pooling_mode": "mean", "embedding_dimension": 32}, None), ("Dense", dense, {"linear.weight": torch.randn(16, 32)})])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # Softmax() warns that it was not told over what
        official = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(DOCS)
    assert worst(Reranker(str(tmp_path), model_type="biencoder", **CPU).embed(DOCS), official) <= 1


# ---------- adapters

def adapter(folder, base, labels, tokenizer, targets, **said):
    "A LoRA adapter for a classifier with so many labels, made live by peft and trained by chance; its official logits"
    peft = pytest.importorskip("peft")
    torch.manual_seed(7)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, ignore_mismatched_sizes=True)
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=targets))
    for name, weight in tuned.named_parameters():
        if "lora_" in name or "modules_to_save" in name: torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    words.save_pretrained(folder)
    if said: (folder / "config.json").write_text(json.dumps(said))
    with torch.inference_mode(): return np.array([tuned.eval()(**words(QUERY, d, return_tensors="pt")).logits[0].numpy() for d in DOCS], dtype="float64")


BASES = {   # the model below: an encoder without a head, with a head of other sizes, one with a head of several layers, a decoder
    "headless": (lambda: tiny_checkpoint(headless=True), ["query"]), "one label": (lambda: tiny_checkpoint(labels=1), ["query"]),
    "three labels": (lambda: tiny_checkpoint(labels=3), ["query"]), "decoder": (lambda: tiny_language_model("llama"), ["q_proj"])}


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("base", BASES)
def test_an_adapter_says_how_many_labels_there_are(tmp_path, base, labels):
    source, targets = BASES[base][0](), BASES[base][1]
    official = adapter(tmp_path / "a", source, labels, source, targets)
    option = {"label": 1} if labels == 3 else {}
    ranker = Reranker(str(tmp_path / "a"), model_type="cross-encoder", activation="identity", **CPU, **option)
    assert len(ranker.labels) == labels
    assert worst(by_position(ranker.rank(QUERY, DOCS)), official[:, min(labels - 1, 1)]) <= 1
    if labels == 3:
        with pytest.raises(InputError, match="3 labels"): Reranker(str(tmp_path / "a"), model_type="cross-encoder", **CPU)


def test_an_adapter_with_a_head_of_several_layers(tmp_path):
    base = decoder(tmp_path / "base", "roberta", labels=3, pad_token_id=1, max_position_embeddings=64)
    official = adapter(tmp_path / "a", base, 2, base, ["query"])
    ranker = Reranker(str(tmp_path / "a"), model_type="cross-encoder", activation="identity", **CPU)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), official[:, 1]) <= 1


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_an_adapters_own_names_are_believed(tmp_path, file):
    names = {"id2label": {"0": "relevant", "1": "irrelevant"}}
    official = adapter(tmp_path / "a", tiny_checkpoint(headless=True), 2, tiny_checkpoint(), ["query"])
    path = tmp_path / "a" / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | names))
    ranker = Reranker(str(tmp_path / "a"), model_type="cross-encoder", **CPU)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), log_softmax(official)[:, 0]) <= 1


@pytest.mark.parametrize("labels", [1, 2])
def test_an_adapter_without_a_head_has_that_of_the_model_below(tmp_path, labels):
    peft = pytest.importorskip("peft")
    torch.manual_seed(7)
    base = tiny_checkpoint(labels=labels)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query"]))      # no task: the head is not trained
    for name, weight in tuned.named_parameters():
        if "lora_" in name: torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(tmp_path)
    words = transformers.AutoTokenizer.from_pretrained(base)
    with torch.inference_mode(): official = [tuned.eval()(**words(QUERY, d, return_tensors="pt")).logits[0, labels - 1].item() for d in DOCS]
    ranker = Reranker(str(tmp_path), model_type="cross-encoder", activation="identity", **CPU)
    assert worst(by_position(ranker.rank(QUERY, DOCS)), official) <= 1


def test_an_adapter_without_any_head_is_refused(tmp_path):
    peft = pytest.importorskip("peft")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint(headless=True))
    peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query"])).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="RANDOM"): Reranker(str(tmp_path), model_type="cross-encoder", **CPU)


# ---------- pooling

TOKENS = st.integers(1, 6)


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=4), st.integers(0, 3), st.sampled_from(["left", "right"]), st.integers(0, 999), st.sampled_from(sorted(POOLINGS)),
       st.integers(0, 3))
def test_pooling_under_padding_is_pooling_without(lengths, more, side, seed, mode, skipped):
    "On either side, whatever stands there, with or without a prompt that takes no part"
    noise = torch.Generator().manual_seed(seed)
    texts = [torch.randn(n, 5, generator=noise) for n in lengths]
    rows = [torch.tensor([-1] * min(skipped, n - 1) + [1] * (n - min(skipped, n - 1))) for n in lengths]
    width = max(lengths) + more
    def filled(row, fill): return torch.cat([row, fill] if side == "right" else [fill, row])
    hidden = torch.stack([filled(t, 100 * torch.randn(width - len(t), 5, generator=noise)) for t in texts])
    mask = torch.stack([filled(r, torch.zeros(width - len(r), dtype=torch.long)) for r in rows])
    together = POOLINGS[mode](hidden, mask)
    by_itself = torch.cat([POOLINGS[mode](t[None], r[None]) for t, r in zip(texts, rows)])
    assert torch.allclose(together, by_itself, rtol=1e-5, atol=1e-5)


def pooling_folder(folder, mode, side="right", include_prompt=True, **said):
    "An embedding model with a pooling of its own"
    tiny_bert(1, True).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    sided(folder, side)
    config = {"pooling_mode": mode, "embedding_dimension": 32, "include_prompt": include_prompt}
    write_chain(folder, [("Pooling", config, None)], **{"similarity_fn_name": "cosine", **said})
    return str(folder)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", [*sorted(POOLINGS), ["cls", "mean", "max"]], ids=str)
def test_every_pooling_in_a_padded_batch(tmp_path, padded, mode, side):
    "Against sentence-transformers, one text at a time"
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = pooling_folder(tmp_path, mode, side)
    texts = [*DOCS, "", "hamlet", QUERY * 3]
    official = sentence_transformers.SentenceTransformer(folder, device="cpu").encode(texts, batch_size=1)
    ranker = Reranker(folder, model_type="biencoder", **CPU)
    assert worst(ranker.embed(texts), official) <= 1
    assert worst(ranker.embed(texts, batch_size=1), official) <= 1


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_decoder_pools_the_last_token_of_each_text(tmp_path, padded, side):
    "Positions count from the text's first token, wherever its tokenizer would pad"
    transformers.AutoModel.from_pretrained(decoder(tmp_path / "c", "gpt2")).save_pretrained(tmp_path)
    wordy_tokenizer(padding_side=side, pad_token="!").save_pretrained(tmp_path)
    write_chain(tmp_path, [("Pooling", {"pooling_mode": "lasttoken", "embedding_dimension": 32}, None)])
    model, words = transformers.AutoModel.from_pretrained(tmp_path).eval(), transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.inference_mode(): official = [model(**words(t, return_tensors="pt")).last_hidden_state[0, -1].numpy() for t in ENDINGS]
    assert worst(Reranker(str(tmp_path), model_type="biencoder", **CPU).embed(ENDINGS), official) <= 1


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_chain_that_scores_pools_the_last_token_of_each_text(tmp_path, padded, side):
    transformers.AutoModel.from_pretrained(decoder(tmp_path / "c", "gpt2")).save_pretrained(tmp_path)
    wordy_tokenizer(padding_side=side).save_pretrained(tmp_path)
    torch.manual_seed(8)
    weight, linear = torch.randn(1, 32), "torch.nn.modules.linear.Identity"
    write_chain(tmp_path, [("Pooling", {"pooling_mode": "lasttoken", "embedding_dimension": 32}, None),
                           ("Dense", {"in_features": 32, "out_features": 1, "bias": False, "activation_function": linear, "module_output_name": "scores"},
                            {"linear.weight": weight})],
                model_type="CrossEncoder", activation_fn=linear)
    model, words = transformers.AutoModel.from_pretrained(tmp_path).eval(), transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.inference_mode(): official = [float(weight[0] @ model(**words(QUERY, t, return_tensors="pt")).last_hidden_state[0, -1]) for t in ENDINGS]
    assert worst(by_position(Reranker(str(tmp_path), **CPU).rank(QUERY, ENDINGS)), official) <= 1


# ---------- bi-encoders: prompts and cut vectors

PROMPTS = {"query": "who wrote "}


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_a_documents_prompt_under_each_of_its_names(tmp_path, name):
    folder = pooling_folder(tmp_path, "mean", prompts={**PROMPTS, name: "the play "})
    ranker = Reranker(folder, model_type="biencoder", **CPU)
    bare = Reranker(folder, model_type="biencoder", query_prompt="", document_prompt="", **CPU)
    assert by_position(ranker.rank("hamlet", DOCS)) == pytest.approx(by_position(bare.rank("who wrote hamlet", [f"the play {d}" for d in DOCS])), abs=1e-6)
    assert apart(by_position(ranker.rank("hamlet", DOCS)), by_position(bare.rank("who wrote hamlet", DOCS))) > 1e-3


@pytest.mark.parametrize("forced", [False, True], ids=["alone", "padded"])
@pytest.mark.parametrize("lower", [False, True], ids=["as it is", "lower case"])
@pytest.mark.parametrize("mode", [*sorted(POOLINGS), ["weightedmean", "cls"]], ids=str)
def test_a_prompt_that_takes_no_part_in_pooling(tmp_path, monkeypatch, mode, lower, forced):
    "INSTRUCTOR's way, against sentence-transformers"
    sentence_transformers = pytest.importorskip("sentence_transformers")
    if forced: monkeypatch.setattr(TorchRuntime, "overhead", math.inf)
    folder = pooling_folder(tmp_path, mode, include_prompt=False, prompts={"query": "Who wrote ", "document": "the play was "})
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": lower}))
    official = sentence_transformers.SentenceTransformer(folder, device="cpu")
    texts = [*DOCS, "hamlet", "hamlet " * 40]
    ranker = Reranker(folder, model_type="biencoder", **CPU)
    for prompt in ("Who wrote ", "the play was ", ""):
        assert worst(ranker.embed(texts, prompt=prompt), official.encode(texts, prompt=prompt, batch_size=1)) <= 1
    q, d = official.encode_query("hamlet"), official.encode_document(texts, batch_size=1)
    assert worst(by_position(ranker.rank("hamlet", texts)), official.similarity(q, d)[0]) <= 1


def test_without_a_special_token_at_the_end_the_whole_prompt_is_left_out(tmp_path, padded):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    transformers.AutoModel.from_pretrained(decoder(tmp_path / "c", "gpt2")).save_pretrained(tmp_path)
    wordy_tokenizer(pad_token="!").save_pretrained(tmp_path)
    write_chain(tmp_path, [("Pooling", {"pooling_mode": "mean", "embedding_dimension": 32, "include_prompt": False}, None)])
    official = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    texts = ["hamlet", "the play in london", "!", ""]
    ours = Reranker(str(tmp_path), model_type="biencoder", **CPU).embed(texts, prompt="who wrote ")
    assert worst(ours, official.encode(texts, prompt="who wrote ", batch_size=1)) <= 1


@pytest.mark.parametrize("ends", [True, False], ids=["with a token at the end", "without"])
@pytest.mark.parametrize("mode", sorted(POOLINGS))
def test_a_text_that_is_all_prompt_has_a_finite_score(tmp_path, mode, ends):
    "Where no special token stands at the end, no token at all is left to pool"
    folder = pooling_folder(tmp_path, mode, include_prompt=False, prompts={"query": "who wrote " * 40, "document": ""})
    if not ends:
        transformers.AutoModel.from_pretrained(decoder(tmp_path / "c", "gpt2")).save_pretrained(tmp_path)
        wordy_tokenizer(pad_token="!").save_pretrained(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    assert all(map(math.isfinite, by_position(Reranker(folder, model_type="biencoder", **CPU).rank("hamlet", DOCS))))


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("saved", [False, True], ids=["option", "saved"])
def test_vectors_are_cut_as_sentence_transformers_cuts_them(tmp_path, similarity, saved):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    said = {"truncate_dim": 8} if saved else {}
    folder = pooling_folder(tmp_path, "mean", similarity_fn_name=similarity, prompts={**PROMPTS, "document": ""}, **said)
    official = sentence_transformers.SentenceTransformer(folder, device="cpu", **({} if saved else {"truncate_dim": 8}))
    ranker = Reranker(folder, model_type="biencoder", **CPU, **({} if saved else {"truncate_dim": 8}))
    assert ranker.embed(DOCS).shape == (3, 8)
    scores = official.similarity(official.encode_query(QUERY), official.encode_document(DOCS))[0]
    assert worst(by_position(ranker.rank(QUERY, DOCS)), scores) <= 1
    whole = Reranker(folder, model_type="biencoder", **CPU, truncate_dim=100)
    assert whole.embed(DOCS).shape == (3, 32)       # the caller's goes before the folder's


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "8", True])
def test_a_number_of_dimensions_that_cannot_be(wrong):
    with pytest.raises(InputError, match="truncate_dim=.*give a whole number"): Reranker(tiny_checkpoint("biencoder"), truncate_dim=wrong, **CPU)


# ---------- weights that modules share

def test_shared_weights_are_not_packed():
    "An embedding and the head that is tied to it, two layers with one weight, and a layer by itself"
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = torch.nn.Embedding(1000, 64), torch.nn.Linear(64, 1000, bias=False)
            self.up, self.again, self.free = (torch.nn.Linear(64, 1000) for _ in range(3))
            self.head.weight, self.again.weight = self.words.weight, self.up.weight

    torch.manual_seed(3)
    model, x = Tied().eval(), torch.randn(3, 64)
    with torch.inference_mode(): before = [layer(x) for layer in (model.head, model.up, model.again, model.free)]
    pack_linears(model)
    assert model.head.weight is model.words.weight and model.words.weight.shape == (1000, 64)
    assert model.again.weight is model.up.weight and model.up.weight.shape == (1000, 64)
    with torch.inference_mode():
        for layer, said in zip((model.head, model.up, model.again, model.free), before): assert torch.allclose(layer(x), said, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("capability", "wanted", "packed"), [("AVX512", None, True), ("AVX2", None, False), ("AVX2", True, True), ("AVX512", False, False)])
def test_weights_are_packed_where_the_processor_gains_by_it(capability, wanted, packed, monkeypatch):
    if not can_pack() or not torch.backends.mkl.is_available(): pytest.skip("this torch has no choice")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    folder = tiny_language_model("qwen3", hidden_size=320, intermediate_size=256)
    model = load_model(folder, "AutoModelForCausalLM", LoadOptions(device="cpu", pack_weights=wanted))
    assert any(isinstance(vars(m).get("forward"), PackedLinear) for m in model.modules()) == packed


def test_a_tied_language_model_keeps_one_copy_of_its_words():
    folder = tiny_language_model("qwen3", hidden_size=320, tie_word_embeddings=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.lm_head.weight.numel() >= 50_000
    pack_linears(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight and model.lm_head.weight.numel() >= 50_000
