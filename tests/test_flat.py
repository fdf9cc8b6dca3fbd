"Batches without padding: the model's own numbers for every family, and padded batches where that does not hold"
import dataclasses
import pickle
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
T = pytest.importorskip("transformers")

from rerankers.engine.answers import SharedPrefix, call_decoder, read_last
from rerankers.engine.batching import computed, make_batch, run_rows
from rerankers.engine.flat import CURRENT, FLAT, flat_row, running
from rerankers.engine.pytorch import TorchRuntime, call_marked, compile_layers, read_logits
from rerankers.errors import RerankersError

SMALL = dict(vocab_size=120, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
             max_position_embeddings=400, num_labels=1, initializer_range=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=0)
SHARED_HEADS = dict(num_key_value_heads=2, head_dim=8)
FAMILIES = {
    "bert": ("Bert", "ForSequenceClassification", {}),
    "bert states": ("Bert", "Model", {}),
    "bert words": ("Bert", "ForMaskedLM", {}),
    "roberta": ("Roberta", "ForSequenceClassification", dict(pad_token_id=1)),
    "xlm-roberta": ("XLMRoberta", "ForSequenceClassification", dict(pad_token_id=1)),
    "xlm-roberta states": ("XLMRoberta", "Model", dict(pad_token_id=1)),
    "camembert": ("Camembert", "ForSequenceClassification", dict(pad_token_id=1)),
    "electra": ("Electra", "ForSequenceClassification", dict(embedding_size=32)),
    "albert": ("Albert", "ForSequenceClassification", dict(embedding_size=32)),
    "distilbert": ("DistilBert", "ForSequenceClassification", dict(dim=32, n_layers=3, n_heads=4, hidden_dim=64)),
    "modernbert": ("ModernBert", "ForSequenceClassification", dict(local_attention=16, global_attn_every_n_layers=2)),
    "modernbert mean": ("ModernBert", "ForSequenceClassification", dict(local_attention=16, classifier_pooling="mean")),
    "modernbert states": ("ModernBert", "Model", dict(local_attention=16)),
    "eurobert": ("EuroBert", "ForSequenceClassification", {}),
    "nomicbert": ("NomicBert", "ForSequenceClassification", {}),
    "qwen2": ("Qwen2", "ForSequenceClassification", dict(num_key_value_heads=2)),
    "qwen3": ("Qwen3", "ForSequenceClassification", SHARED_HEADS),
    "qwen3 answers": ("Qwen3", "ForCausalLM", SHARED_HEADS),
    "llama": ("Llama", "ForSequenceClassification", {}),
    "mistral": ("Mistral", "ForSequenceClassification", dict(sliding_window=8, num_key_value_heads=2)),
    "gemma2": ("Gemma2", "ForSequenceClassification", {**SHARED_HEADS, "sliding_window": 8}),
    "gemma3": ("Gemma3Text", "ForSequenceClassification", {**SHARED_HEADS, "sliding_window": 8}),
    "gpt2": ("GPT2", "ForSequenceClassification", dict(n_embd=32, n_layer=2, n_head=4, n_positions=400)),
    "phi3": ("Phi3", "ForSequenceClassification", {}),
}
DECODERS = {"qwen2", "qwen3", "qwen3 answers", "llama", "mistral", "gemma2", "gemma3", "phi3"}
PADDED = {     # no interface for attention, an own mask
    "deberta-v2": ("DebertaV2", "ForSequenceClassification", {}),
    "mpnet": ("MPNet", "ForSequenceClassification", {}),
    "esm": ("Esm", "ForSequenceClassification", dict(pad_token_id=1)),
}


def built(family, ending, more):
    if not hasattr(T, f"{family}{ending}"): pytest.skip(f"this transformers has no {family}{ending}")
    torch.manual_seed(0)
    return getattr(T, f"{family}{ending}")._from_config(getattr(T, f"{family}Config")(**{**SMALL, **more})).eval()


def states(output, inputs): return output.last_hidden_state


def runtime_of(family, ending, more, flat=True):
    model = built(family, ending, more)
    read = {"Model": states, "ForCausalLM": read_last}.get(ending, read_logits)
    return TorchRuntime(model, read, ask=call_decoder if ending == "ForCausalLM" else call_marked, flat=flat)


def texts(lengths=(25, 25, 9, 40, 1, 3), seed=3):
    rng = np.random.default_rng(seed)
    return {"input_ids": [rng.integers(5, 120, n).tolist() for n in lengths]}


def numbers(runtime, tokens, **how):
    "Each text's numbers, those for padding left out"
    pad = {"input_ids": getattr(runtime.model.config, "pad_token_id", None) or 0}
    rows = run_rows(runtime, tokens, pad=pad, max_tokens=runtime.max_tokens, progress=False, **how)
    return [row[:len(ids)] if row.ndim == 2 else row for row, ids in zip(rows, tokens["input_ids"])]


def check_equal(found, wanted):
    size = max(1.0, *(float(np.abs(w).max()) for w in wanted))
    for f, w in zip(found, wanted): np.testing.assert_allclose(f, w, atol=1e-5 * size, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_in_a_row_scores_as_each_text_alone(name):
    flat, alone = runtime_of(*FAMILIES[name]), runtime_of(*FAMILIES[name], flat=False)
    assert flat.flat and flat.model.config._attn_implementation.startswith(FLAT)
    wanted = [numbers(alone, {"input_ids": [ids]})[0] for ids in texts()["input_ids"]]
    # Encoders are never padded on the left: their first token is read, and alone it has another place
    for how in ({}, {"batch_size": 1}, {"batch_size": 4}, *([{"side": "left"}] if name in DECODERS else [])):
        check_equal(numbers(flat, texts(), **how), wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_that_is_padded_all_the_same_is_right(name):
    "Whoever runs the prepared model in the usual way gets the usual numbers"
    flat, plain = runtime_of(*FAMILIES[name]), runtime_of(*FAMILIES[name], flat=False)
    assert flat.flat
    batch = make_batch(texts(), [3, 0, 1, 2], {"input_ids": SMALL["pad_token_id"] if FAMILIES[name][2].get("pad_token_id") is None else 1})
    def run(runtime):
        with torch.inference_mode(): return runtime._numbers(batch).numpy()
    check_equal([run(flat)], [run(plain)])


@pytest.mark.parametrize("name", PADDED)
def test_what_does_not_bear_a_row_stays_as_it_was(name):
    runtime, plain = runtime_of(*PADDED[name]), runtime_of(*PADDED[name], flat=False)
    assert not runtime.flat
    assert runtime.model.config._attn_implementation == plain.model.config._attn_implementation
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in runtime.model.modules())
    check_equal(numbers(runtime, texts()), numbers(plain, texts()))


def test_the_paddings_id_in_a_text_is_counted_as_the_model_does():
    "RoBERTa gives such a token the padding's position, and counts on without it"
    flat, alone = runtime_of(*FAMILIES["roberta"]), runtime_of(*FAMILIES["roberta"], flat=False)
    tokens = {"input_ids": [[7, 1, 9, 1, 1, 8], [1, 5, 6, 7], [9, 1], [4, 4, 4]]}
    check_equal(numbers(flat, tokens), [numbers(alone, {"input_ids": [ids]})[0] for ids in tokens["input_ids"]])


def test_an_attention_that_was_asked_for_stays():
    torch.manual_seed(0)
    config = T.BertConfig(**SMALL)
    model = T.BertForSequenceClassification._from_config(config, attn_implementation="eager").eval()
    assert not TorchRuntime(model, read_logits, ask=call_marked, flat=True).flat
    assert model.config._attn_implementation == "eager"


def test_token_types_travel_in_the_row():
    flat, plain = runtime_of(*FAMILIES["bert"]), runtime_of(*FAMILIES["bert"], flat=False)
    tokens = texts() | {"token_type_ids": [[int(i > 3) for i in range(len(ids))] for ids in texts()["input_ids"]]}
    check_equal(numbers(flat, tokens), numbers(plain, tokens))
    assert np.abs(np.concatenate(numbers(flat, tokens)) - np.concatenate(numbers(flat, texts()))).max() > 1e-3


class Meddling(torch.nn.Module):
    "Attention aside, a layer whose texts see each other"
    def forward(self, states): return states + states.mean((0, 1), keepdim=True)


def test_a_model_whose_texts_see_each_other_is_found_out():
    model = built(*FAMILIES["bert"])
    model.bert.encoder.layer[1].output.dense = torch.nn.Sequential(model.bert.encoder.layer[1].output.dense, Meddling())
    assert not TorchRuntime(model, read_logits, ask=call_marked, flat=True).flat


def test_wrong_positions_are_found_out(monkeypatch):
    from rerankers.engine import flat
    monkeypatch.setattr(flat, "FOUND", {})
    monkeypatch.setattr(flat, "marked_position", lambda body: None)     # RoBERTa counts from two
    assert not runtime_of(*FAMILIES["roberta"]).flat


def test_a_window_that_is_off_by_one_is_found_out(monkeypatch):
    from rerankers.engine import flat
    right = flat.attend_in_runs
    monkeypatch.setattr(flat, "FOUND", {})
    monkeypatch.setattr(flat, "attend_in_runs", lambda *args, window=None, **how: right(*args, window=window and window + 1, **how))
    assert not runtime_of(*FAMILIES["mistral"]).flat


def test_two_threads_do_not_see_each_others_rows():
    "One runs flat while the other runs the same model padded, at the same time"
    runtime = runtime_of(*FAMILIES["modernbert"])
    assert runtime.flat
    wanted, row, both = numbers(runtime, texts()), flat_row(make_batch(texts(), [0, 2], {}), torch.device("cpu")), threading.Barrier(2)
    seen, errors = [], []
    def other():
        try:
            both.wait(30)
            seen.append(CURRENT.get())
            check_equal(numbers(runtime, texts()), wanted)
            both.wait(30)
        except Exception as error: errors.append(error)
    thread = threading.Thread(target=other)
    thread.start()
    with running(row):
        both.wait(30)
        both.wait(30)
        assert CURRENT.get() is row
    thread.join()
    assert seen == [None] and not errors and CURRENT.get() is None


def test_several_runtimes_of_one_model_prepare_it_once():
    model, found = built(*FAMILIES["bert"]), []
    threads = [threading.Thread(target=lambda: found.append(TorchRuntime(model, read_logits, ask=call_marked, flat=True).flat)) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert found == [True] * 8
    assert len(model.bert._forward_pre_hooks) == 1


def passes(model):
    "Counts forward passes of a model"
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_models_that_differ_in_weights_are_tried_once():
    runtime_of(*FAMILIES["electra"])
    model, other = built(*FAMILIES["electra"]), built("Electra", "ForSequenceClassification", {**FAMILIES["electra"][2], "num_hidden_layers": 2})
    seen, fresh = passes(model), passes(other)
    assert TorchRuntime(model, read_logits, ask=call_marked, flat=True).flat and TorchRuntime(other, read_logits, ask=call_marked, flat=True).flat
    assert not seen and fresh
    with torch.no_grad(): model.electra.encoder.layer[0].output.dense.weight.mul_(2)
    check_equal(numbers(TorchRuntime(model, read_logits, ask=call_marked, flat=True), texts()),
                [numbers(TorchRuntime(model, read_logits, ask=call_marked), {"input_ids": [ids]})[0] for ids in texts()["input_ids"]])


def test_nothing_is_tried_while_ranking():
    runtime = runtime_of(*FAMILIES["bert"])
    seen = passes(runtime.model)
    numbers(runtime, texts())
    assert len(seen) == 1


def test_a_pickled_runtime_goes_on_flat():
    runtime = runtime_of(*FAMILIES["qwen3"])
    wanted = numbers(runtime, texts())
    again = pickle.loads(pickle.dumps(runtime))
    assert again.flat
    check_equal(numbers(again, texts()), wanted)


def test_a_row_computes_no_padding():
    "Counted: the tokens that a linear layer of the model is given"
    runtime, given = runtime_of(*FAMILIES["bert"]), []
    assert runtime.flat
    runtime.model.bert.encoder.layer[0].attention.self.query.register_forward_pre_hook(lambda m, args: given.append(args[0].shape[:-1].numel()))
    numbers(runtime, texts((30, 7, 7, 2)))
    assert given == [46]


@pytest.mark.parametrize(("name", "rows"), [("bert", 3), ("xlm-roberta", 3), ("electra", 3), ("bert states", 23), ("distilbert", 23), ("modernbert mean", 23)])
def test_the_last_layer_ends_with_first_tokens_where_nothing_else_is_read(name, rows):
    runtime, given = runtime_of(*FAMILIES[name]), []
    stack = max((m for m in runtime.model.modules() if isinstance(m, torch.nn.ModuleList)), key=lambda m: sum(p.numel() for p in m.parameters()))
    linear = [m for m in stack[-1].modules() if isinstance(m, torch.nn.Linear)][-1]
    linear.register_forward_hook(lambda m, args, output: given.append(args[0].shape[:-1].numel()))
    numbers(runtime, texts((11, 7, 5)))
    assert given == [rows]


@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "electra"])
def test_the_last_layer_is_asked_for_first_tokens_where_nothing_else_is_read(name):
    "Queries of first tokens, keys and values of all; and the same numbers, also after a copy and for a padded batch"
    runtime, given = runtime_of(*FAMILIES[name]), {}
    attention = getattr(runtime.model, runtime.model.base_model_prefix).encoder.layer[-1].attention
    for part in ("query", "key", "value"):
        getattr(attention.self, part).register_forward_hook(lambda m, args, output, part=part: given.update({part: args[0].shape[1]}))
    attention.output.dense.register_forward_hook(lambda m, args, output: given.update(output=args[0].shape[1]))
    wanted = numbers(runtime, texts((11, 7, 7, 5)))
    assert given == {"query": 4, "key": 30, "value": 30, "output": 4}
    attention.output.dense._forward_hooks.clear()
    for part in ("query", "key", "value"): getattr(attention.self, part)._forward_hooks.clear()
    check_equal(numbers(pickle.loads(pickle.dumps(runtime)), texts((11, 7, 7, 5))), wanted)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("family", ["Qwen3", "Llama", "Phi3"])
def test_a_row_goes_on_from_what_all_texts_begin_with(family, flat):
    runtime, given = runtime_of(family, "ForCausalLM", SHARED_HEADS if family == "Qwen3" else {}, flat=flat), []
    begin, rest = texts((7,), seed=4)["input_ids"][0], texts((9, 9, 4, 1, 30))["input_ids"]
    wanted = numbers(runtime, {"input_ids": [begin + ids for ids in rest]})
    shared = runtime.asking(SharedPrefix(runtime.model, begin))
    runtime.model.model.layers[0].input_layernorm.register_forward_hook(lambda m, args, output: given.append(args[0].shape[:-1].numel()))
    check_equal(numbers(shared, {"input_ids": rest}), wanted)
    assert shared.flat == flat and sum(given) == (sum(map(len, rest)) if flat else 5 * 30)      # neither padding nor what is shared


def test_what_all_texts_begin_with_is_written_before_each():
    "For the kernel that wants all keys in one row"
    row = flat_row(make_batch(texts((3, 1, 2)), [0, 1, 2], {}), torch.device("cpu"))
    shared, own = torch.randn(1, 2, 4, 5), torch.randn(6, 2, 5)
    row = dataclasses.replace(row, before=[(shared, shared)])
    start, parts = shared[0].transpose(0, 1), torch.split(own, [3, 1, 2])
    assert torch.equal(row.whole(own, shared), torch.cat([t for part in parts for t in (start, part)]))
    assert row.ends.tolist() == [0, 7, 12, 18] and row.starts.tolist() == [0, 3, 4, 6]


class Small:
    "A model's memory: it holds so many token slots"
    def __init__(self, slots): self.slots, self.seen = slots, []
    def __call__(self, model, inputs):
        self.seen.append(inputs["input_ids"].numel())
        if self.seen[-1] > self.slots: raise torch.OutOfMemoryError("CUDA out of memory")
        return model(**inputs)


def test_a_batch_too_large_for_the_memory_runs_in_halves():
    model, memory = built(*FAMILIES["bert"]), Small(60)
    tight, roomy = TorchRuntime(model, read_logits, ask=memory), TorchRuntime(model, read_logits)
    batch = make_batch(texts((20,) * 9), list(range(9)), {})
    np.testing.assert_allclose(tight(batch), roomy(batch), atol=1e-6)
    assert tight.max_tokens <= 90       # half of the 180 slots that were too many
    tried = len(memory.seen)
    check_equal(numbers(tight, texts((20,) * 9)), numbers(roomy, texts((20,) * 9)))
    assert max(memory.seen[tried:]) <= 90, "the next call starts with what the last one learned"


def test_one_text_too_large_for_the_memory_is_our_error():
    runtime = TorchRuntime(built(*FAMILIES["bert"]), read_logits, ask=Small(10))
    with pytest.raises(RerankersError, match="20 tokens.*max_length"): runtime(make_batch(texts((20,)), [0], {}))


class Device:
    "A step that is begun before it is waited for"
    ahead = 1
    def __init__(self): self.told = []
    def start(self, batch):
        n = len(self.told)
        self.told.append(f"begun {batch}")
        def wait():
            self.told.append(f"fetched {batch}")
            return np.full((1, 1), n)
        return wait


def test_a_device_is_given_the_next_batch_before_the_last_is_fetched():
    device = Device()
    assert len(list(computed(device, "abc"))) == 3
    assert device.told == ["begun a", "begun b", "fetched a", "begun c", "fetched b", "fetched c"]


def test_compiled_layers_give_the_same_numbers():
    "Of both kinds, one that sees all and one that sees near tokens; a compiler takes seconds for each layer"
    family, ending, more = FAMILIES["modernbert"]
    two = (family, ending, more | {"num_hidden_layers": 2})
    runtime, wanted = runtime_of(*two), numbers(runtime_of(*two, flat=False), texts())
    assert runtime.flat and compile_layers(runtime.model) == 2
    try: found = numbers(runtime, texts())
    except torch._dynamo.exc.BackendCompilerFailed as error: pytest.skip(f"no compiler here: {error}".splitlines()[0])
    check_equal(found, wanted)
