"Folders of sentence-transformers, written by the library itself and scored by both: settings, order and names of modules, chat templates"
import json
import shutil
from itertools import cycle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
st = pytest.importorskip("sentence_transformers")
if int(st.__version__.split(".")[0]) < 6: pytest.skip("the reference is sentence-transformers 6", allow_module_level=True)

from hypothesis import given, settings as profile, strategies  # noqa: E402
from sentence_transformers.base.modules import Dense, Normalize, Transformer  # noqa: E402
from sentence_transformers.cross_encoder.modules import LogitScore  # noqa: E402
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask  # noqa: E402
from sentence_transformers.sentence_transformer.modules import (CNN, Dropout, LayerNorm, Pooling, WeightedLayerPooling,  # noqa: E402
                                                                WordWeights)
from sentence_transformers.sparse_encoder.modules import SpladePooling  # noqa: E402

from rerankers import InputError, ModelLoadError, Reranker  # noqa: E402
from rerankers.engine.messages import MessageEncoder, common_end  # noqa: E402
from rerankers.engine.pytorch import TorchRuntime  # noqa: E402
from rerankers.engine.settings import TextSettings, text_settings  # noqa: E402
from rerankers.claims import read_modules  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.tiny_models import tiny_bert, tiny_checkpoint, tiny_language_model, tiny_late, tiny_pieces, tiny_tokenizer  # noqa: E402

QUERY = "who wrote the play Hamlet ?"
DOCS = ["Hamlet was written by William SHAKESPEARE .", "Goethe wrote faust , a play in the new year", "london", "", "the city of london is not a question " * 9,
        "in [SEP] London , other people - and many times - wrote of Hamlet", "哈姆雷特 hamlet 2 3 🎭"]
TOLERANCE = 1e-5
SIZES = [1, 3, None]


# ---------- trunks

def saved(model, tokenizer, folder):
    for part in (model, tokenizer): part.save_pretrained(folder)
    return str(folder)

def cased_tokenizer():
    "Knows small letters alone, and leaves capitals as they are"
    from tokenizers.normalizers import BertNormalizer
    made = tiny_tokenizer()
    made.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    return made

TEMPLATE = ("{%- for m in messages %}{%- if m.role == 'system' %}{{ m.content }} : {%- elif m.role == 'query' %}query {{ m.content }}"
            "{%- elif m.role == 'document' %} document {{ m.content }}{%- elif m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>"
            "{%- endif %}{%- endfor %} relevant ? yes or no")
STRUCTURED = TEMPLATE.replace("m.content", "m.content[0].text")

@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    "Folders of tiny transformers"
    root = tmp_path_factory.mktemp("trunks")
    found = {"bert": saved(tiny_bert(1, True), tiny_tokenizer(), root / "bert"), "cased": saved(tiny_bert(1, True), cased_tokenizer(), root / "cased"),
             "classifier": saved(tiny_bert(1, False), cased_tokenizer(), root / "classifier")}
    layered = tiny_bert(1, True)
    layered.config.output_hidden_states = True
    found["layered"] = saved(layered, tiny_tokenizer(), root / "layered")
    masked = transformers.BertForMaskedLM(transformers.BertConfig(**{**tiny_bert(1, True).config.to_dict(), "architectures": None}))
    found["masked"] = saved(masked.eval(), cased_tokenizer(), root / "masked")
    found["decoder"] = tiny_language_model("qwen3")
    for name, template in (("flat", TEMPLATE), ("structured", STRUCTURED)):
        tokenizer = tiny_pieces()
        tokenizer.chat_template = template
        shutil.copytree(found["decoder"], root / name)
        tokenizer.save_pretrained(root / name)
        found[name] = str(root / name)
    t5 = transformers.AutoModel.from_pretrained(tiny_language_model("t5")).get_encoder()
    found["t5"] = saved(t5, tiny_pieces("$A </s>"), root / "t5")
    return found


# ---------- layers

def seeded(make, *args, seed=3, scale=1.0, **kwargs):
    "A module with weights that are large enough to matter, the same each time"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make(*args, **kwargs)
        for p in module.parameters(): torch.nn.init.normal_(p, std=scale * 0.3)
    return module.eval()

def dense(given, made, act=None, seed=3, **names):
    return seeded(Dense, given, made, activation_function=act or torch.nn.Tanh(), seed=seed, **names)

def on_tokens(given, made, **more): return dense(given, made, module_input_name="token_embeddings", **more)
def to_scores(given, labels=1, **more): return dense(given, labels, act=torch.nn.Identity(), module_output_name="scores", seed=5, **more)

def weights(**more):
    vocabulary = list(dict(sorted(tiny_tokenizer().get_vocab().items(), key=lambda e: e[1])))
    return WordWeights(vocab=vocabulary, word_weights={"hamlet": 3.5, "wrote": 0.25, "[SEP]": 0.5, "play": 2.0}, **more)

# name -> (trunk, modules between the transformer and the end, width before the end)
SHAPES = {
    **{f"pooling {mode}": ("bert", lambda mode=mode: [Pooling(32, mode)], 32) for mode in Pooling.POOLING_MODES},
    "poolings joined": ("bert", lambda: [Pooling(32, ("max", "mean", "weightedmean"))], 96),
    "two poolings": ("bert", lambda: [Pooling(32, "max"), Pooling(32, "mean")], 32),
    "dense before pooling": ("bert", lambda: [on_tokens(32, 24), Pooling(24, "mean")], 24),
    "dense before and after": ("bert", lambda: [on_tokens(32, 24), Pooling(24, "mean"), dense(24, 16, torch.nn.GELU())], 16),
    "dense between two poolings": ("bert", lambda: [Pooling(32, "cls"), on_tokens(32, 8), Pooling(8, "max")], 8),
    "two dense on tokens": ("bert", lambda: [on_tokens(32, 24), on_tokens(24, 12, seed=8), Pooling(12, "lasttoken")], 12),
    "residual": ("bert", lambda: [Pooling(32, "mean"), dense(32, 32, use_residual=True), dense(32, 20, use_residual=True)], 20),
    "residual on tokens": ("bert", lambda: [on_tokens(32, 16, use_residual=True), Pooling(16, "mean")], 16),
    "by way of another name": ("bert", lambda: [Pooling(32, "mean"), dense(32, 8, module_output_name="aside"), dense(8, 16, module_input_name="aside",
                               module_output_name="sentence_embedding")], 16),
    "aside, and not used": ("bert", lambda: [Pooling(32, "mean"), dense(32, 8, module_output_name="aside")], 32),
    "layer norm": ("bert", lambda: [Pooling(32, "mean"), seeded(LayerNorm, 32)], 32),
    "dropout": ("bert", lambda: [Pooling(32, "mean"), Dropout(0.5), dense(32, 16)], 16),
    "normalised": ("bert", lambda: [Pooling(32, "mean"), Normalize(), dense(32, 16)], 16),
    "tokens normalised": ("bert", lambda: [Normalize("token_embeddings"), Pooling(32, "mean")], 32),
    "normalised too early": ("bert", lambda: [Normalize(), Pooling(32, "mean")], 32),
    "normalised aside": ("bert", lambda: [Pooling(32, "mean"), Normalize(module_output_name="aside")], 32),
    **{f"word weights, {mode}": ("bert", lambda mode=mode: [weights(), Pooling(32, mode)], 32) for mode in Pooling.POOLING_MODES},
    "word weights after dense": ("bert", lambda: [on_tokens(32, 8), weights(unknown_word_weight=0.1), Pooling(8, "mean")], 8),
    "convolutions": ("bert", lambda: [seeded(CNN, 32, out_channels=6, kernel_sizes=[1, 3, 5]), Pooling(18, "max")], 18),
    "layers": ("layered", lambda: [seeded(WeightedLayerPooling, 32, num_hidden_layers=2, layer_start=1), Pooling(32, "mean")], 32),
    "layers that are not put out": ("bert", lambda: [seeded(WeightedLayerPooling, 32, num_hidden_layers=2, layer_start=1), Pooling(32, "mean")], 32),
    "encoder of an encoder-decoder": ("t5", lambda: [Pooling(32, "mean")], 32),
    "decoder": ("decoder", lambda: [Pooling(32, "lasttoken")], 32),
    "decoder, weighted": ("decoder", lambda: [Pooling(32, "weightedmean"), dense(32, 12)], 12),
}

class Padded(TorchRuntime):
    "Batches as on an accelerator: texts of different lengths together"
    padding = True

def padded(ranker):
    ranker.runtime.__class__ = Padded
    return ranker

def by_position(results): return [results.get_score_by_docid(i) for i in range(len(results))]

def close(ours, official): assert ours == pytest.approx([float(x) for x in official], abs=TOLERANCE, rel=TOLERANCE)

def edit(file, **entries):
    "Entries of a JSON file; None takes one out"
    said = json.loads(Path(file).read_text()) if Path(file).exists() else {}
    Path(file).write_text(json.dumps({k: v for k, v in (said | entries).items() if v is not None}))


# ---------- cross-encoders

def cross_folder(modules, folder, **more):
    model = st.CrossEncoder(modules=modules, device="cpu", **{"activation_fn": torch.nn.Identity(), **more})
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)

def cross_scores(folder, query=QUERY, docs=DOCS, **more):
    model = st.CrossEncoder(str(folder), device="cpu", **more)
    return model.predict([(query, d) for d in docs], batch_size=1).reshape(len(docs), -1)[:, 0].tolist()

def hold_against(folder, official, docs=DOCS, **options):
    "Every batch size, with padding and without, gives the official scores"
    ranker = Reranker(str(folder), device="cpu", **options)
    for size in SIZES: close(by_position(ranker.rank(QUERY, docs, batch_size=size)), official)
    close(by_position(padded(ranker).rank(QUERY, docs)), official)
    return ranker

@pytest.mark.parametrize("shape", SHAPES)
def test_a_cross_encoder_of_any_shape(shape, trunks, tmp_path):
    trunk, middle, width = SHAPES[shape]
    folder = cross_folder([Transformer(trunks[trunk]), *middle(), to_scores(width)], tmp_path / "m")
    official = cross_scores(folder)
    assert len({round(s, 3) for s in official}) > 3         # else the comparison says nothing
    hold_against(folder, official)

@pytest.mark.parametrize("shape", SHAPES)
def test_an_embedding_model_of_any_shape(shape, trunks, tmp_path):
    trunk, middle, width = SHAPES[shape]
    folder = embedding_folder([Transformer(trunks[trunk]), *middle()], tmp_path / "m")
    hold_against(folder, embedding_scores(folder))

def embedding_folder(modules, folder, **more):
    model = st.SentenceTransformer(modules=modules, device="cpu", prompts={"query": "question : ", "document": "text : "}, **more)
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)

def embedding_scores(folder, query=QUERY, docs=DOCS, **more):
    model = st.SentenceTransformer(str(folder), device="cpu", **more)
    vectors = torch.stack([torch.tensor(model.encode_document([d], batch_size=1)[0]) for d in docs])
    return torch.nn.functional.cosine_similarity(torch.tensor(model.encode_query([query])), vectors).tolist()

def test_labels_are_columns_of_what_is_called_scores(trunks, tmp_path):
    folder = cross_folder([Transformer(trunks["bert"]), Pooling(32, "mean"), to_scores(32, labels=3)], tmp_path / "m")
    official = st.CrossEncoder(folder, device="cpu").predict([(QUERY, d) for d in DOCS])
    for label in range(3): close(by_position(Reranker(folder, device="cpu", label=label).rank(QUERY, DOCS)), official[:, label])

def test_scores_may_be_rescaled(trunks, tmp_path):
    "A Dense from scores to scores"
    last = dense(1, 1, torch.nn.Identity(), module_input_name="scores", module_output_name="scores", seed=7)
    folder = cross_folder([Transformer(trunks["bert"]), Pooling(32, "mean"), to_scores(32), last], tmp_path / "m")
    hold_against(folder, cross_scores(folder))

@pytest.mark.parametrize("place", ["0_Transformer", "deep/inside"])
def test_a_transformer_in_a_folder_of_its_own(place, trunks, tmp_path):
    folder = Path(cross_folder([Transformer(trunks["bert"]), Pooling(32, "mean"), to_scores(32)], tmp_path / "m"))
    moved(folder, place)
    hold_against(folder, cross_scores(folder))

def moved(folder, place):
    "The transformer's files into a folder inside"
    (folder / place).mkdir(parents=True)
    kept = ("modules.json", "config_sentence_transformers.json", "README.md")
    for file in [f for f in folder.iterdir() if f.is_file() and f.name not in kept]: shutil.move(file, folder / place / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = place
    (folder / "modules.json").write_text(json.dumps(modules))

def test_a_classifier_in_a_folder_of_its_own(trunks, tmp_path):
    folder = Path(cross_folder([Transformer(trunks["classifier"], transformer_task="sequence-classification")], tmp_path / "m"))
    moved(folder, "0_Transformer")
    edit(folder / "0_Transformer" / "sentence_bert_config.json", max_seq_length=14)
    hold_against(folder, cross_scores(folder))

@pytest.mark.parametrize("places", [["hidden_states", -2], ["hidden_states", 1], "last_hidden_state"])
def test_another_layer_of_the_transformer(places, trunks, tmp_path):
    folder = Path(cross_folder([Transformer(trunks["bert"]), Pooling(32, "mean"), to_scores(32)], tmp_path / "m"))
    edit(folder / "sentence_bert_config.json", modality_config={"text": {"method": "forward", "method_output_name": places}})
    hold_against(folder, cross_scores(folder))

def test_the_name_that_the_transformer_gives_its_output(trunks, tmp_path):
    folder = Path(cross_folder([Transformer(trunks["bert"]), Pooling(32, "mean"), to_scores(32)], tmp_path / "m"))
    edit(folder / "sentence_bert_config.json", module_output_name="aside")
    edit(folder / "1_Pooling" / "config.json")
    with pytest.raises(ModelLoadError, match="1_Pooling.*reads 'token_embeddings', which nothing before it makes.*'aside'"): Reranker(str(folder), device="cpu")

def test_modules_run_in_the_order_of_their_list(trunks, tmp_path):
    "Whatever their numbers say: sentence-transformers does not read these"
    folder = Path(cross_folder([Transformer(trunks["bert"]), on_tokens(32, 32), Pooling(32, "mean"), to_scores(32)], tmp_path / "m"))
    modules = json.loads((folder / "modules.json").read_text())
    for module, number in zip(modules, (3, 0, 2, 1)): module["idx"] = number
    (folder / "modules.json").write_text(json.dumps(modules))
    assert [kind for kind, _ in read_modules(folder)] == ["Transformer", "Dense", "Pooling", "Dense"]
    hold_against(folder, cross_scores(folder))

def test_weights_in_a_pickle(trunks, tmp_path):
    "As folders of old days have them"
    from safetensors.torch import load_file
    folder = Path(cross_folder([Transformer(trunks["bert"]), on_tokens(32, 24), Pooling(24, "mean"), to_scores(24)], tmp_path / "m"))
    official = cross_scores(folder)
    torch.save(load_file(folder / "1_Dense" / "model.safetensors"), folder / "1_Dense" / "pytorch_model.bin")
    (folder / "1_Dense" / "model.safetensors").unlink()
    hold_against(folder, official)


# ---------- what is refused

def chain_of(trunks, tmp_path, *middle, width=32):
    return Path(cross_folder([Transformer(trunks["bert"]), *(middle or [Pooling(32, "mean")]), to_scores(width)], tmp_path / "m"))

def with_module(folder, kind, at=1, **config):
    "modules.json with one more"
    modules = json.loads((folder / "modules.json").read_text())
    where = kind.rsplit(".", 1)[-1]
    modules.insert(at, {"idx": at, "name": f"new {where}", "path": f"9_{where}", "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / f"9_{where}").mkdir()
    for name in ("config.json", "lstm_config.json", "router_config.json"): (folder / f"9_{where}" / name).write_text(json.dumps(config))
    return folder

HOME = "sentence_transformers.sentence_transformer.modules."

@pytest.mark.parametrize("name", ["LSTM", "BoW", "WordEmbeddings", "CLIPModel", "Router", "Asym", "Transformer", "Somebody"])
@pytest.mark.parametrize("word", ["cross-encoder", "biencoder"])
def test_a_module_that_is_not_run_is_named(name, word, trunks, tmp_path):
    folder = with_module(chain_of(trunks, tmp_path), HOME + name)
    with pytest.raises(ModelLoadError, match=f"'{name}' \\(9_{name}\\) is not run here.*a ranker of your own"):
        Reranker(str(folder), model_type=word, device="cpu")

@pytest.mark.parametrize(("name", "word"), [("SpladePooling", "splade"), ("MultiVectorMask", "colbert"), ("StaticEmbedding", "static"),
                                            ("TokenPooling", "colbert")])
def test_a_module_of_another_method_says_which(name, word, trunks, tmp_path):
    folder = with_module(chain_of(trunks, tmp_path), HOME + name)
    with pytest.raises(ModelLoadError, match=f"model_type='{word}'"): Reranker(str(folder), model_type="cross-encoder", device="cpu")

@pytest.mark.parametrize("kind", ["custom_st.Transformer", "modeling.Dense", "their.own.Pooling", "sentence_transformers_fork.Dense"])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("word", ["cross-encoder", "biencoder"])
def test_modules_of_strangers_are_not_taken_for_ours(kind, trusted, word, trunks, tmp_path):
    "Even under a name that we know, and even if their code may run: it is not what would be run"
    folder = chain_of(trunks, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0 if kind.endswith("Transformer") else 1]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelLoadError, match=f"'{kind}'.*code of the folder's own"):
        Reranker(str(folder), model_type=word, device="cpu", trust_remote_code=trusted)

@pytest.mark.parametrize("kind", ["late", "sparse"])
def test_strangers_in_folders_of_other_methods(kind, written, tmp_path):
    folder = again(written, kind, tmp_path, {})
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = f"their.{modules[1]['type'].rsplit('.', 1)[-1]}"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelLoadError, match="'their.*code of the folder's own"): Reranker(str(folder), device="cpu")

@pytest.mark.parametrize(("kind", "part"), [("late", "1_Dense"), ("late", "2_MultiVectorMask"), ("late", "3_Normalize"), ("sparse", "1_SpladePooling")])
def test_settings_of_modules_of_other_methods(kind, part, written, tmp_path):
    folder = again(written, kind, tmp_path, {})
    edit(folder / part / "config.json", temperature=2)
    with pytest.raises(ModelLoadError, match=f"{part}.*'temperature' is not known"): Reranker(str(folder), device="cpu")

@pytest.mark.parametrize("names", [[["a"], "b", "c", "d"], [{}, 1, None, "1"]])
def test_odd_names_of_modules(names, trunks, tmp_path):
    "They name nothing that matters, as long as they differ"
    folder = chain_of(trunks, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    for module, name in zip(modules, names): module["name"] = name
    (folder / "modules.json").write_text(json.dumps(modules))
    assert len(read_modules(folder)) == len(modules) == 3

@pytest.mark.parametrize(("part", "config", "said"), [
    ("1_Pooling", {"pooling_mode": "attention"}, "attention"), ("1_Pooling", {"temperature": 2}, "'temperature'"),
    ("2_Dense", {"scale": 2}, "'scale'"), ("2_Dense", {"in_features": 31}, "in_features=31"), ("2_Dense", {"bias": False}, "bias=False"),
    ("2_Dense", {"module_input_name": "aside"}, "2_Dense.*reads 'aside', which nothing before it makes"),
    ("2_Dense", {"module_output_name": "sentence_embedding"}, "ends in an embedding"), ("2_Dense", {"activation_function": "os.system"}, "os.system")])
def test_settings_of_a_module_that_are_not_known_or_do_not_fit(part, config, said, trunks, tmp_path):
    folder = chain_of(trunks, tmp_path)
    edit(folder / part / "config.json", **config)
    with pytest.raises(ModelLoadError, match=said): Reranker(str(folder), device="cpu")

@pytest.mark.parametrize(("middle", "width", "said"), [
    (lambda: [Pooling(32, "mean"), dense(24, 16)], 16, "2_Dense.*takes 24 numbers, what comes before it gives 32"),
    (lambda: [Pooling(32, ("mean", "max"))], 32, "takes 32 numbers, what comes before it gives 64"),
    (lambda: [Pooling(32, "mean"), seeded(LayerNorm, 24)], 24, "2_LayerNorm.*takes 24 numbers, what comes before it gives 32"),
    (lambda: [on_tokens(16, 32), Pooling(32, "mean")], 32, "1_Dense.*takes 16 numbers, what comes before it gives 32"),
    (lambda: [seeded(CNN, 24, out_channels=32, kernel_sizes=[1]), Pooling(32, "mean")], 32, "1_CNN.*takes 24 numbers"),
    (lambda: [seeded(LayerNorm, 32), Pooling(32, "mean")], 32, "1_LayerNorm.*reads 'sentence_embedding', which nothing before it makes"),
    (lambda: [seeded(CNN, 32, out_channels=32, kernel_sizes=[2]), Pooling(32, "mean")], 32, "odd kernels"),
    (lambda: [seeded(CNN, 32, out_channels=32, kernel_sizes=[3], stride_sizes=[2]), Pooling(32, "mean")], 32, "strides of 1"),
    (lambda: [WordWeights(vocab=["a"], word_weights={}), Pooling(32, "mean")], 32, "1_WordWeights has weights for 1 tokens")])
def test_modules_that_do_not_fit_on_each_other(middle, width, said, trunks, tmp_path):
    "Found when the folder is opened, not by the first question"
    folder = chain_of(trunks, tmp_path, *middle(), width=width)
    with pytest.raises(ModelLoadError, match=said): Reranker(str(folder), device="cpu")

def test_more_layers_than_the_transformer_has(trunks, tmp_path):
    modules = [Transformer(trunks["layered"]), seeded(WeightedLayerPooling, 32, num_hidden_layers=4, layer_start=1), Pooling(32, "mean"), to_scores(32)]
    with pytest.raises(ModelLoadError, match="weighs 4 layers, the model has 2 from 1 on"): Reranker(cross_folder(modules, tmp_path / "m"), device="cpu")

@pytest.mark.parametrize(("change", "said"), [
    (lambda m: m[1].update(path="../outside"), "not inside the folder"), (lambda m: m[1].update(path="/etc"), "not inside the folder"),
    (lambda m: m[2].update(name=m[1]["name"]), "several modules under one name")])
def test_a_list_of_modules_that_cannot_be_followed(change, said, trunks, tmp_path):
    folder = chain_of(trunks, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    change(modules)
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelLoadError, match=said): Reranker(str(folder), device="cpu")


# ---------- settings, in every kind of folder

def classifier_folder(trunks, folder): return cross_folder([Transformer(trunks["classifier"], transformer_task="sequence-classification")], folder)
def chain_folder(trunks, folder): return cross_folder([Transformer(trunks["cased"]), Pooling(32, "mean"), to_scores(32)], folder)
def pooled_folder(trunks, folder): return embedding_folder([Transformer(trunks["cased"]), Pooling(32, "mean")], folder)

def late_folder(trunks, folder):
    parts = [Transformer(trunks["cased"]), on_tokens(32, 16, act=torch.nn.Identity()), MultiVectorMask(skiplist_words=["."]), Normalize("token_embeddings")]
    st.MultiVectorEncoder(modules=parts, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return str(folder)

def sparse_folder(trunks, folder):
    model = st.SparseEncoder(modules=[Transformer(trunks["masked"], transformer_task="fill-mask"), SpladePooling()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)

def late_scores(folder, query=QUERY, docs=DOCS):
    model = st.MultiVectorEncoder(str(folder), device="cpu")
    asked = model.encode_query([query])
    return [float(model.similarity(asked, model.encode_document([d]))[0][0]) for d in docs]

def sparse_scores(folder, query=QUERY, docs=DOCS):
    model = st.SparseEncoder(str(folder), device="cpu")
    q = model.encode_query([query]).to_dense()[0]
    return [float(q @ model.encode_document([d]).to_dense()[0]) for d in docs]

KINDS = {"classifier": (classifier_folder, cross_scores), "chain": (chain_folder, cross_scores), "embeddings": (pooled_folder, embedding_scores),
         "late": (late_folder, late_scores), "sparse": (sparse_folder, sparse_scores)}
LONG = [d for d in DOCS if d]       # late interaction has a score of its own for documents without a token

@pytest.fixture(scope="module")
def written(trunks, tmp_path_factory):
    "A folder of each kind, as the library writes it, and its scores"
    made = {}
    for kind, (make, score) in KINDS.items():
        folder = make(trunks, tmp_path_factory.mktemp(kind) / "m")
        made[kind] = Path(folder), score(folder, docs=LONG)
    return made

SAID = {
    "max_seq_length": {"max_seq_length": 9},
    "max_length of texts": {"processing_kwargs": {"text": {"max_length": 8}}},
    "max_length of everything": {"processing_kwargs": {"common": {"max_length": 7}}},
    "everything's before the texts'": {"processing_kwargs": {"common": {"max_length": 7}, "text": {"max_length": 12}}},
    "at every call before once": {"max_seq_length": 12, "processing_kwargs": {"text": {"max_length": 8}}},
    "a larger one at every call": {"max_seq_length": 8, "processing_kwargs": {"text": {"max_length": 12}}},
    "tokenizer_args": {"tokenizer_args": {"model_max_length": 9}},
    "processor_kwargs": {"processor_kwargs": {"model_max_length": 9}},
    "the tokenizer's before the folder's": {"max_seq_length": 12, "tokenizer_args": {"model_max_length": 9}},
    "do_lower_case": {"do_lower_case": True},
    "both": {"do_lower_case": True, "max_seq_length": 10},
    "query_length": {"query_length": 5},
    "document_length": {"document_length": 6},
    "lengths of both": {"query_length": 5, "document_length": 7, "max_seq_length": 10},
    "at every call before both": {"query_length": 5, "document_length": 7, "processing_kwargs": {"text": {"max_length": 9}}},
    "no token types": {"processing_kwargs": {"text": {"return_token_type_ids": False}}},
    "another number of positions": {"config_args": {"hidden_act": "relu"}},
    "new name of the same": {"config_kwargs": {"hidden_act": "relu"}},
}
SILENT = {
    "loading": {"model_args": {"attn_implementation": "eager", "torch_dtype": "float32", "low_cpu_mem_usage": True}, "unpad_inputs": False},
    "padding": {"processing_kwargs": {"text": {"padding": True, "pad_to_multiple_of": 8, "add_special_tokens": True, "return_attention_mask": True}}},
    "other kinds of input": {"processing_kwargs": {"image": {"size": 3}, "audio": {}, "video": {}}},
    "permissions": {"model_args": {"trust_remote_code": True}, "tokenizer_args": {"trust_remote_code": True}, "config_args": {"trust_remote_code": True}},
    "nulls": {"max_seq_length": None, "query_expansion": None},
    "cached": {"config_args": {"use_cache": False}}, "cut as usual": {"processing_kwargs": {"text": {"truncation": True}}},
}

def again(written, kind, tmp_path, said, name="sentence_bert_config.json"):
    "A copy of a folder whose settings say more, perhaps under another name"
    folder = tmp_path / "m"
    shutil.copytree(written[kind][0], folder)
    if name != "sentence_bert_config.json": (folder / "sentence_bert_config.json").rename(folder / name)
    edit(folder / name, **said)
    return folder

@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_a_folder(kind, said, written, tmp_path):
    "All are honoured by all kinds; scores are the library's"
    folder = again(written, kind, tmp_path, SAID[said])
    official = KINDS[kind][1](folder, docs=LONG)
    lengths = said in ("query_length", "document_length") and kind in ("classifier", "chain")      # of these a pair has neither
    types = said == "no token types" and kind not in ("classifier", "chain")                       # of a single text all are zero
    assert lengths or types or max(abs(a - b) for a, b in zip(official, written[kind][1])) > 1e-3  # it matters
    ranker = Reranker(str(folder), device="cpu")
    for size in SIZES: close(by_position(ranker.rank(QUERY, LONG, batch_size=size)), official)

@pytest.mark.parametrize("said", SILENT)
@pytest.mark.parametrize("kind", ["classifier", "embeddings", "late"])
def test_settings_that_change_nothing(kind, said, written, tmp_path):
    close(by_position(Reranker(str(again(written, kind, tmp_path, SILENT[said])), device="cpu").rank(QUERY, LONG)), written[kind][1])

NAMES = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"]

@pytest.mark.parametrize(("name", "kind"), list(zip([f"sentence_{name}_config.json" for name in NAMES], cycle(KINDS))))
def test_every_name_of_the_file(name, kind, written, tmp_path):
    folder = again(written, kind, tmp_path, {"max_seq_length": 8}, name)
    close(by_position(Reranker(str(folder), device="cpu").rank(QUERY, LONG)), KINDS[kind][1](folder, docs=LONG))

WRONG = {
    "unknown": ({"max_seq_len": 9}, "'max_seq_len' is not known here.*Did you mean 'max_seq_length'"),
    "unknown, of the call": ({"processing_kwargs": {"text": {"maxlength": 9}}}, "'processing_kwargs.text.maxlength'"),
    "unknown, of all calls": ({"processing_kwargs": {"common": {"maxlength": 9}}}, "'processing_kwargs.common.maxlength'"),
    "unknown kind of input": ({"processing_kwargs": {"texts": {"max_length": 9}}}, "'processing_kwargs.texts'"),
    "unknown, of loading": ({"model_args": {"weights_only": False}}, "'model_kwargs.weights_only'"),
    "unknown, of the tokenizer": ({"tokenizer_args": {"lowercase": True}}, "'processor_kwargs.lowercase'"),
    "unknown, of the configuration": ({"config_args": {"hidden_akt": "relu"}}, "has no entry 'hidden_akt'"),
    "unknown, of what is put out": ({"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state", "norm": 1}}}, "text.norm"),
    "unknown modality": ({"modality_config": {"smell": {}}}, "modality_config.smell"),
    "no text": ({"modality_config": {"image": {"method": "forward", "method_output_name": "pooler_output"}}}, "reads image and no text"),
    "another method": ({"modality_config": {"text": {"method": "get_text_features", "method_output_name": "pooler_output"}}}, "get_text_features"),
    "another task": ({"transformer_task": "any-to-any"}, "any-to-any"),
    "no special tokens": ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "add_special_tokens=False"),
    "cut on the first": ({"processing_kwargs": {"text": {"truncation": "only_first"}}}, "only_first"),
    "a negative length": ({"max_seq_length": -1}, "max_seq_length"), "no number": ({"max_seq_length": "9"}, "max_seq_length"),
    "half a token": ({"processing_kwargs": {"text": {"max_length": 9.5}}}, "max_length"), "no length": ({"query_length": 0}, "query_length"),
    "no dictionary": ({"processing_kwargs": [1]}, "processing_kwargs"), "none either": ({"tokenizer_args": "fast"}, "processor_kwargs"),
    "unknown, of filling up": ({"query_expansion": {"strategy": "fixed", "length": 9, "colour": 1}}, "query_expansion.colour"),
}

@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_that_is_not_known_is_an_error_that_names_it(kind, what, written, tmp_path):
    said, message = WRONG[what]
    folder = again(written, kind, tmp_path, said)
    where = "" if "configuration" in what else "sentence_bert_config.json.*"
    with pytest.raises(ModelLoadError, match=where + message): Reranker(str(folder), device="cpu")

VALUES = (strategies.none() | strategies.integers() | strategies.text(max_size=5) | strategies.lists(strategies.integers(), max_size=2) |
          strategies.dictionaries(strategies.text(max_size=5), strategies.booleans()))
ENTRIES = ["max_seq_length", "processing_kwargs", "modality_config", "tokenizer_args", "do_lower_case", "query_expansion", "module_output_name"]

@profile(max_examples=40)
@given(said=strategies.dictionaries(strategies.text(max_size=8), VALUES, max_size=2), known=strategies.sampled_from(ENTRIES), value=VALUES)
def test_whatever_a_file_says_is_read_or_refused(said, known, value, tmp_path_factory):
    "Never an error of somebody else's"
    folder = tmp_path_factory.mktemp("said")
    (folder / "sentence_bert_config.json").write_text(json.dumps({**said, known: value}))
    try: assert isinstance(text_settings(folder), TextSettings) and not said.keys() - {known}
    except ModelLoadError as error: assert "sentence_bert_config.json" in str(error)

@pytest.mark.parametrize("kind", ["classifier", "chain", "embeddings", "sparse"])
def test_the_caller_goes_before_every_setting(kind, written, tmp_path):
    said = {"max_seq_length": 9, "query_length": 5, "document_length": 6, "processing_kwargs": {"text": {"max_length": 8}}}
    folder, plain = again(written, kind, tmp_path, said), written[kind][0]
    close(by_position(Reranker(str(folder), device="cpu", max_length=30).rank(QUERY, LONG)), by_position(Reranker(str(plain), device="cpu", max_length=30)
                                                                                                        .rank(QUERY, LONG)))
    with pytest.raises(InputError, match="has room for 128"): Reranker(str(folder), device="cpu", max_length=129)

def test_the_callers_tokenizer_arguments_go_before_the_files(written, tmp_path):
    folder = again(written, "chain", tmp_path, {"max_seq_length": 20, "tokenizer_args": {"model_max_length": 12}})
    official = cross_scores(folder, docs=LONG, processor_kwargs={"model_max_length": 8})
    close(by_position(Reranker(str(folder), device="cpu", tokenizer_kwargs={"model_max_length": 8}).rank(QUERY, LONG)), official)

def test_the_callers_configuration_goes_before_the_files(written, tmp_path):
    folder = again(written, "chain", tmp_path, {"config_args": {"hidden_act": "relu"}})
    close(by_position(Reranker(str(folder), device="cpu", config_kwargs={"hidden_act": "gelu"}).rank(QUERY, LONG)), written["chain"][1])
    with pytest.raises(ModelLoadError, match="has no entry 'colour'"): Reranker(str(folder), device="cpu", config_kwargs={"colour": 1})

def test_only_the_second_text_is_cut(written, tmp_path):
    folder = again(written, "classifier", tmp_path, {"processing_kwargs": {"text": {"truncation": "only_second", "max_length": 16}}})
    docs = [d for d in LONG if len(d) > 30]     # the library cannot cut what is not there
    close(by_position(Reranker(str(folder), device="cpu").rank(QUERY, docs)), cross_scores(folder, docs=docs))

def test_what_was_cut_is_said(written, tmp_path):
    folder = again(written, "embeddings", tmp_path, {"query_length": 30, "document_length": 7})
    results = Reranker(str(folder), device="cpu", document_prompt="").rank(QUERY, ["hamlet", "the play was first in london , other people wrote it"])
    assert [r.doc_id for r in results if r.truncated] == [1]

def test_a_text_that_is_query_and_document_is_cut_as_each(written, tmp_path):
    folder = again(written, "embeddings", tmp_path, {"query_length": 6})
    text = LONG[0]
    close([Reranker(str(folder), device="cpu", query_prompt="", document_prompt="").score(text, text)], [similar(folder, text)])
    assert similar(folder, text) < 0.999

def similar(folder, text):
    model = st.SentenceTransformer(str(folder), device="cpu")
    return float(torch.nn.functional.cosine_similarity(*(torch.tensor(f([text], prompt="")) for f in (model.encode_query, model.encode_document)))[0])

def test_settings_of_a_graph(written, tmp_path):
    "onnxruntime runs the same folder with the same settings, without transformers"
    pytest.importorskip("onnxruntime")
    from rerankers.tiny_models import export_onnx
    folder = again(written, "classifier", tmp_path, {"max_seq_length": 14, "do_lower_case": True, "processing_kwargs": {"text": {"max_length": 12}}})
    export_onnx(transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval(), folder)
    close(by_position(Reranker(str(folder), backend="onnx").rank(QUERY, LONG)), cross_scores(folder, docs=LONG))
    edit(folder / "sentence_bert_config.json", max_seq_length=14, processing_kwargs={"text": {}})
    close(by_position(Reranker(str(folder), backend="onnx").rank(QUERY, LONG)), cross_scores(folder, docs=LONG))
    for entry in ({"tokenizer_args": {"add_prefix_space": True}}, {"config_args": {"hidden_act": "relu"}}, {"max_seq_len": 9}):
        edit(folder / "sentence_bert_config.json", tokenizer_args=None, config_args=None)
        edit(folder / "sentence_bert_config.json", **entry)
        with pytest.raises(ModelLoadError, match="add_prefix_space needs|hidden_act needs|max_seq_len"): Reranker(str(folder), backend="onnx")

def test_a_prompt_that_is_missing(written, tmp_path):
    "sentence-transformers refuses it, too"
    folder = again(written, "chain", tmp_path, {})
    edit(folder / "config_sentence_transformers.json", default_prompt_name="web", prompts={"query": "query : "})
    with pytest.raises(ModelLoadError, match="default_prompt_name='web' is none of the prompts 'query'"): Reranker(str(folder), device="cpu")
    assert Reranker(str(folder), device="cpu", prompt="").prompt == ""

def test_a_default_prompt(written, tmp_path):
    folder = again(written, "chain", tmp_path, {})
    edit(folder / "config_sentence_transformers.json", default_prompt_name="web", prompts={"web": "query in london : "})
    hold_against(folder, cross_scores(folder))

def test_names_of_models_do_not_overrule_a_folder(trunks, tmp_path):
    "A folder that sentence-transformers wrote is cut as it cuts, whatever it is called"
    folder = classifier_folder(trunks, tmp_path / "my-bge-reranker-base-tuned")
    edit(Path(folder) / "sentence_bert_config.json", max_seq_length=24)
    query = "who wrote the play in the new year and many other times in london ?"
    official = cross_scores(folder, query)
    close(by_position(Reranker(folder, device="cpu").rank(query, DOCS)), official)


# ---------- late interaction

@pytest.mark.parametrize("expansion", [{"strategy": "fixed", "length": 12, "attend": True}, {"strategy": "min", "length": 12, "attend": False},
                                       {"strategy": "min", "length": 4, "attend": True}])
@pytest.mark.parametrize("said", [{}, {"query_length": 14}, {"max_seq_length": 16}, {"processing_kwargs": {"text": {"max_length": 15}}}])
def test_queries_that_are_filled_up(expansion, said, written, tmp_path):
    folder = again(written, "late", tmp_path, {**said, "query_expansion": expansion})
    close(by_position(Reranker(str(folder), device="cpu").rank(QUERY, LONG)), late_scores(folder, docs=LONG))

@pytest.mark.parametrize("names", [{"module_input_name": "sentence_embedding"}, {"module_output_name": "aside"}])
def test_a_late_layer_between_other_names(names, written, tmp_path):
    folder = again(written, "late", tmp_path, {})
    edit(folder / "1_Dense" / "config.json", **names)
    with pytest.raises(ModelLoadError, match="late interaction works on 'token_embeddings'"): Reranker(str(folder), device="cpu")

@pytest.mark.parametrize("kind", ["late", "sparse"])
def test_methods_that_have_no_chat_template(kind, written, tmp_path):
    entry = {"method": "forward", "method_output_name": "logits" if kind == "sparse" else "last_hidden_state"}
    folder = again(written, kind, tmp_path, {"modality_config": {"text": entry, "message": {**entry, "format": "flat"}}})
    with pytest.raises(ModelLoadError, match="chat template"): Reranker(str(folder), device="cpu")

def test_lower_case_of_a_pylate_folder(tmp_path):
    shutil.copytree(tiny_late("pylate"), tmp_path / "m")
    tokenizer = cased_tokenizer()
    tokenizer.add_tokens(["[unused0]", "[unused1]", "[Q] ", "[D] "])
    tokenizer.save_pretrained(tmp_path / "m")
    plain = by_position(Reranker(str(tmp_path / "m"), device="cpu").rank(QUERY, LONG))
    edit(tmp_path / "m" / "sentence_bert_config.json", do_lower_case=True)
    ranker = Reranker(str(tmp_path / "m"), device="cpu")
    assert by_position(ranker.rank(QUERY, LONG)) != plain
    assert by_position(ranker.rank(QUERY, LONG)) == by_position(ranker.rank(QUERY.lower(), [d.lower().replace("[sep]", "[SEP]") for d in LONG]))


# ---------- language models with a LogitScore

def language_folder(trunk, folder, *, score=(7, 9), **more):
    modules = [Transformer(trunk, transformer_task="text-generation", **more.pop("transformer", {})), LogitScore(*score)]
    return cross_folder(modules, folder, **more)

SCORES = {"yes and no": (7, 9), "yes alone": (7, None), "the same twice": (7, 7), "the first token": (0, 9)}

@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("trunk", ["flat", "structured", "decoder"])
def test_a_language_model_by_its_own_chain(trunk, score, trunks, tmp_path):
    "With a chat template, in either of its forms, and without one"
    folder = language_folder(trunks[trunk], tmp_path / "m", score=SCORES[score])
    hold_against(folder, cross_scores(folder))

@pytest.mark.parametrize("name", ["Qwen3-Reranker-0.6B", "my-qwen3-reranker", "mxbai-rerank-base-v2", "zerank-1", "bge-reranker-v2-gemma", "anything"])
@pytest.mark.parametrize("trunk", ["flat", "decoder"])
def test_its_chain_goes_before_its_name(name, trunk, trunks, tmp_path):
    folder = language_folder(trunks[trunk], tmp_path / name)
    assert "cross-encoder" in choose(folder).backend.words and "chain of its own" in choose(folder).reason
    close(by_position(Reranker(folder, device="cpu").rank(QUERY, DOCS)), cross_scores(folder))

def test_without_a_chain_the_name_decides(tmp_path):
    shutil.copytree(tiny_language_model("qwen3"), tmp_path / "Qwen3-Reranker-0.6B")
    assert "qwen3-reranker" in choose(str(tmp_path / "Qwen3-Reranker-0.6B")).backend.words

def test_the_recipe_may_still_be_asked_for(trunks, tmp_path):
    folder = language_folder(trunks["flat"], tmp_path / "Qwen3-Reranker-0.6B")
    assert "qwen3-reranker" in choose(folder, model_type="qwen3-reranker").backend.words

@pytest.mark.parametrize(("name", "word"), {"Qwen/Qwen3-Reranker-8B": "qwen3-reranker", "somebody/Qwen3-Reranker-tuned": "cross-encoder"}.items())
def test_a_chain_on_the_hub(name, word, trunks, tmp_path):
    "The authors' own models have the same recipe whether they are here already or not; a stranger's folder has its chain"
    home = tmp_path / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("a" * 40)
    language_folder(trunks["flat"], home / "snapshots" / ("a" * 40))
    assert word in choose(name, cache_dir=str(tmp_path)).backend.words

@pytest.mark.parametrize("prompt", [None, "a new question", ""])
@pytest.mark.parametrize("trunk", ["flat", "structured", "decoder"])
def test_its_prompt_is_the_systems_message(trunk, prompt, trunks, tmp_path):
    folder = language_folder(trunks[trunk], tmp_path / "m", prompts={"web": "the query of a city"}, default_prompt_name="web")
    model = st.CrossEncoder(folder, device="cpu")
    official = [float(model.predict([(QUERY, d)], prompt=prompt)[0]) for d in DOCS]
    hold_against(folder, official, prompt=prompt)

LENGTHS = {
    "max_seq_length": {"max_seq_length": 40}, "max_length": {"processing_kwargs": {"text": {"max_length": 40}}},
    "the texts' before everything's": {"processing_kwargs": {"text": {"max_length": 40}, "common": {"max_length": 60}}},
    "the template's before the texts'": {"processing_kwargs": {"chat_template": {"max_length": 40}, "text": {"max_length": 60}}},
    "without its end": {"max_seq_length": 40, "processing_kwargs": {"chat_template": {"restore_suffix": False}}},
    "shorter than its end": {"max_seq_length": 5}, "not cut": {"max_seq_length": 40, "processing_kwargs": {"text": {"truncation": False}}},
    "arguments of the template": {"processing_kwargs": {"chat_template": {"add_generation_prompt": True, "unknown_variable": 3}}},
    "lower case": {"do_lower_case": True}, "another template": {"tokenizer_args": {"chat_template": TEMPLATE.replace("relevant", "many other")}},
}

@pytest.mark.parametrize("said", LENGTHS)
@pytest.mark.parametrize("trunk", ["flat", "structured"])
def test_settings_of_a_language_model(trunk, said, trunks, tmp_path):
    folder = Path(language_folder(trunks[trunk], tmp_path / "m"))
    other = {"tokenizer_args": {"chat_template": STRUCTURED.replace("relevant", "many other")}}
    edit(folder / "sentence_bert_config.json", **(other if (trunk, said) == ("structured", "another template") else LENGTHS[said]))
    ranker = hold_against(folder, cross_scores(folder))
    if "max_seq_length" in LENGTHS[said] and said != "not cut": assert {r.doc_id for r in ranker.rank(QUERY, DOCS) if r.truncated} >= {4}

@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_on_which_a_conversation_is_cut(side, trunks, tmp_path):
    folder = Path(language_folder(trunks["flat"], tmp_path / "m"))
    edit(folder / "sentence_bert_config.json", max_seq_length=40, tokenizer_args={"truncation_side": side})
    hold_against(folder, cross_scores(folder))

def test_options_that_a_chat_template_has_no_use_for(trunks, tmp_path):
    folder = language_folder(trunks["flat"], tmp_path / "m")
    for option in ({"truncation": "only_second"}, {"query_length": 9}):
        with pytest.raises(InputError, match="chat template"): Reranker(folder, device="cpu", **option)
    short = Reranker(folder, device="cpu", max_length=40)
    model = st.CrossEncoder(folder, device="cpu", max_length=40)
    close(by_position(short.rank(QUERY, DOCS)), [float(model.predict([(QUERY, d)])[0]) for d in DOCS])

@pytest.mark.parametrize("template", [None, "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
                                      "{{ messages[0].content }}", "{{ raise_exception('no') }}", "{{ messages[0]['content'] }} {% if"])
def test_a_template_that_leaves_a_text_out(template, trunks, tmp_path):
    folder = Path(language_folder(trunks["flat"], tmp_path / "m"))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = tiny_pieces()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelLoadError, match="chat template.*'query' and 'document'"): Reranker(str(folder), device="cpu")

def test_which_form_a_template_wants_is_found_where_nobody_says(trunks, tmp_path):
    for trunk in ("flat", "structured"):
        folder = Path(language_folder(trunks[trunk], tmp_path / trunk))
        said = json.loads((folder / "sentence_bert_config.json").read_text())
        official = cross_scores(folder)
        del said["modality_config"]["message"]["format"]
        (folder / "sentence_bert_config.json").write_text(json.dumps(said))
        close(by_position(Reranker(str(folder), device="cpu").rank(QUERY, DOCS)), official)

@pytest.mark.parametrize(("config", "said"), [({"true_token_id": 10**6}, "reads token 1000000, the model knows"),
                                              ({"true_token_id": "yes"}, "no ids of tokens"), ({"true_token_id": -1}, "no ids of tokens"),
                                              ({"false_token_id": [1]}, "no ids of tokens"),
                                              ({"module_input_name": "scores"}, "reads 'scores', which nothing before it makes"), ({"scale": 2}, "'scale'")])
def test_answers_that_are_none(config, said, trunks, tmp_path):
    folder = Path(language_folder(trunks["flat"], tmp_path / "m"))
    edit(folder / "1_LogitScore" / "config.json", **config)
    with pytest.raises(ModelLoadError, match=said): Reranker(str(folder), device="cpu")

@pytest.mark.parametrize("modules", [lambda t: [Transformer(t["decoder"], transformer_task="text-generation")],
                                     lambda t: [Transformer(t["decoder"], transformer_task="text-generation"),
                                                dense(235, 4, module_input_name="causal_logits"), LogitScore(1, 2)],
                                     lambda t: [Transformer(t["decoder"]), Pooling(32, "mean"), LogitScore(1, 2, module_input_name="sentence_embedding")]])
def test_logits_and_logit_scores_belong_together(modules, trunks, tmp_path):
    folder = cross_folder(modules(trunks), tmp_path / "m")
    with pytest.raises(ModelLoadError, match="LogitScore reads the logits|without a trained head"): Reranker(folder, device="cpu")

def test_two_logit_scores(trunks, tmp_path):
    "The last word is the second's"
    modules = [Transformer(trunks["flat"], transformer_task="text-generation"), LogitScore(3, 5), LogitScore(5, 8)]
    folder = cross_folder(modules, tmp_path / "m")
    hold_against(folder, cross_scores(folder))

def test_a_classifier_with_a_chat_template(trunks, tmp_path):
    "Its pairs go through it, as sentence-transformers sends them"
    source = tiny_language_model("qwen3", labels=1)
    tokenizer = tiny_pieces()
    tokenizer.chat_template = TEMPLATE
    shutil.copytree(source, tmp_path / "trunk")
    tokenizer.save_pretrained(tmp_path / "trunk")
    folder = cross_folder([Transformer(str(tmp_path / "trunk"), transformer_task="sequence-classification")], tmp_path / "qwen3-reranker-seq-cls")
    assert "message" in json.loads((tmp_path / "qwen3-reranker-seq-cls" / "sentence_bert_config.json").read_text())["modality_config"]
    ranker = Reranker(folder, device="cpu")
    close(by_position(ranker.rank(QUERY, DOCS, batch_size=1)), cross_scores(folder))

@pytest.mark.parametrize("trunk", ["flat", "structured"])
@pytest.mark.parametrize("said", [{}, {"max_seq_length": 20}, {"query_length": 16, "document_length": 20}])
def test_an_embedding_model_with_a_chat_template(trunk, said, trunks, tmp_path):
    folder = Path(embedding_folder([Transformer(trunks[trunk]), Pooling(32, "lasttoken")], tmp_path / "m"))
    edit(folder / "sentence_bert_config.json", **said)
    hold_against(folder, embedding_scores(folder))
    hold_against(folder, [float(torch.nn.functional.cosine_similarity(*(torch.tensor(x) for x in pair))[0]) for pair in bare(folder)],
                 query_prompt="", document_prompt="")

def bare(folder):
    model = st.SentenceTransformer(str(folder), device="cpu")
    return [(model.encode_query([QUERY], prompt=""), model.encode_document([d], prompt="")) for d in DOCS]

def test_the_kit_of_qwen3(shared_dir):
    "Scores written down on another machine, of a folder that brings its chain"
    kit = json.loads((shared_dir / "parity" / "qwen3_reranker" / "cases.json").read_text())
    ranker = Reranker(str(shared_dir / "parity" / "qwen3_reranker" / "model_st"), device="cpu")
    assert "cross-encoder" in ranker.choice.backend.words
    for case in (c for c in kit["cases"] if not any(v is not None for v in c["kwargs"].values())):
        close(by_position(ranker.rank(case["query"], case["docs"])), case["scores"])

@given(one=strategies.lists(strategies.integers(0, 3), max_size=6), other=strategies.lists(strategies.integers(0, 3), max_size=6))
def test_the_common_end_is_common_and_as_long_as_can_be(one, other):
    end = common_end(one, other)
    if end: assert one[-len(end):] == other[-len(end):] == end and len(end) < min(len(one), len(other))
    if end: assert one[-len(end) - 1] != other[-len(end) - 1]
    else: assert not one or not other or one[-1] != other[-1] or one[-min(len(one), len(other)):] == other[-min(len(one), len(other)):]

@profile(max_examples=25)
@given(length=strategies.integers(1, 60), query=strategies.text(max_size=30), document=strategies.text(max_size=60))
def test_a_conversation_never_outgrows_its_length(length, query, document):
    tokenizer = tiny_pieces()
    tokenizer.chat_template = TEMPLATE
    whole, short = (MessageEncoder(tokenizer, TextSettings(message="flat"), n) for n in (None, length))
    row, made = whole.pairs([(query, document)])["input_ids"][0], short.pairs([(query, document)])
    assert len(made["input_ids"][0]) == min(len(row), length) and made.cut == [len(row) > length]
    assert made["input_ids"][0][-1] == row[-1]


# ---------- the library's own checkpoints

@pytest.mark.parametrize("kind", ["chain", "biencoder"])
def test_tiny_checkpoints_have_the_contract_of_pickling(kind):
    "A chain travels to another process"
    import pickle
    ranker = Reranker(tiny_checkpoint(kind), device="cpu")
    assert by_position(pickle.loads(pickle.dumps(ranker)).rank(QUERY, DOCS)) == by_position(ranker.rank(QUERY, DOCS))
