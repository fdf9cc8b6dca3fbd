"RankGPT, RankLLM's family and the package rank-llm: which word leads where, and what reaches the model and comes back"
import asyncio
import json
import math
import re
import shutil
import warnings
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

httpx = pytest.importorskip("httpx")
from crowd import Crowd  # noqa: E402
from servers import need_litellm  # noqa: E402

from rerankers import InputError, Reranker  # noqa: E402
from rerankers.backends import rank_llm_package  # noqa: E402
from rerankers.backends.rankllm import MISTRAL, CLIENT_SETTINGS, VICUNA, ZEPHYR  # noqa: E402
from rerankers.errors import AuthenticationError, MissingDependency, NotFoundError, ServerError, UnusableAnswer, installed  # noqa: E402
from rerankers.llm.chat import ChatClient, Reply  # noqa: E402
from rerankers.strategies.kinds import Window  # noqa: E402
from rerankers.llm.recipes import LISTWISE  # noqa: E402
from rerankers.registry import choose  # noqa: E402
from rerankers.results import Usage  # noqa: E402
from rerankers.testing import CHECKS  # noqa: E402

QUERY = "which is worth most?"


# ---- words

ZEPHYR_7B, VICUNA_7B = "castorini/rank_zephyr_7b_v1_full", "castorini/rank_vicuna_7b_v1"
WORDS = [   # what a user writes, model_type, the backend, the model, the recipe it is asked with, who answers
    ("rankgpt", None, "rankgpt", "gpt-4.1-mini", "rankgpt", "OpenAIClient"),
    ("gpt", None, "rankgpt", "gpt-4.1-mini", "rankgpt", "OpenAIClient"),
    ("listwise", None, "rankgpt", "gpt-4.1-mini", "rankgpt", "OpenAIClient"),
    ("rankgpt3", None, "rankgpt", "gpt-4o-mini", "rankgpt", "OpenAIClient"),
    ("rankgpt4", None, "rankgpt", "gpt-4.1", "rankgpt", "OpenAIClient"),
    ("rankgpt4", "rankgpt", "rankgpt", "gpt-4.1", "rankgpt", "OpenAIClient"),
    ("gpt-4-turbo-preview", None, "rankgpt", "gpt-4-turbo-preview", "rankgpt", "OpenAIClient"),
    ("GPT-4o", None, "rankgpt", "GPT-4o", "rankgpt", "OpenAIClient"),
    ("ft:gpt-4o-mini:acme::7p4lURx", None, "rankgpt", "ft:gpt-4o-mini:acme::7p4lURx", "rankgpt", "OpenAIClient"),
    ("claude-haiku-4-5", None, "rankgpt", "claude-haiku-4-5", "rankgpt", "OpenAIClient"),
    ("gemini-3-flash", None, "rankgpt", "gemini-3-flash", "rankgpt", "OpenAIClient"),
    ("o4-mini", None, "rankgpt", "o4-mini", "rankgpt", "OpenAIClient"),
    ("openai/gpt-4o-mini", "rankgpt", "rankgpt", "openai/gpt-4o-mini", "rankgpt", "LiteLLMClient"),
    ("openai/gpt-4o-mini", None, "rankgpt", "openai/gpt-4o-mini", "rankgpt", "LiteLLMClient"),
    ("anthropic/claude-haiku-4-5", None, "rankgpt", "anthropic/claude-haiku-4-5", "rankgpt", "LiteLLMClient"),
    ("bedrock/us.anthropic.claude-haiku-4-5", None, "rankgpt", "bedrock/us.anthropic.claude-haiku-4-5", "rankgpt", "LiteLLMClient"),
    ("my-model", "rankgpt", "rankgpt", "my-model", "rankgpt", "OpenAIClient"),
    ("lrl", None, "lrl", "gpt-4.1-mini", "lrl", "OpenAIClient"),
    ("gpt-4o", "rankllm", "rankllm", "gpt-4o", "rankgpt", "OpenAIClient"),
    ("openai/gpt-4o", "rankllm", "rankllm", "openai/gpt-4o", "rankgpt", "LiteLLMClient"),
    ("rankllm", None, "rankllm", "gpt-4.1", "rankgpt", "OpenAIClient"),
    ("rank_zephyr", None, "rankzephyr", ZEPHYR_7B, "rankzephyr", None),
    ("rank_vicuna", None, "rankvicuna", VICUNA_7B, "rankvicuna", None),
    ("rank_zephyr", "rankllm", "rankllm", ZEPHYR_7B, "rankzephyr", None),
    ("rank_vicuna", "rankllm", "rankllm", VICUNA_7B, "rankvicuna", None),
    (ZEPHYR_7B, None, "rankzephyr", ZEPHYR_7B, "rankzephyr", None),
    (VICUNA_7B, None, "rankvicuna", VICUNA_7B, "rankvicuna", None),
    (VICUNA_7B, "rankllm", "rankllm", VICUNA_7B, "rankvicuna", None),
    ("lmsys/vicuna-7b-v1.5", None, "rankvicuna", "lmsys/vicuna-7b-v1.5", "rankvicuna", None),
    ("me/another-zephyr", None, "rankzephyr", "me/another-zephyr", "rankzephyr", None),
    ("first", None, "first", "castorini/first_mistral", "first", None),
    ("rryisthebest/First_Model", None, "first", "rryisthebest/First_Model", "first", None),
    ("castorini/first_qwen3_0.6b", None, "first", "castorini/first_qwen3_0.6b", "first", None),
    ("castorini/first_qwen3_14b", "rankllm", "rankllm", "castorini/first_qwen3_14b", "first", None),
    ("rankmistral", None, "rankmistral", "liuwenhan/RankMistral100", "rankmistral", None),
    ("liuwenhan/RankMistral100", None, "rankmistral", "liuwenhan/RankMistral100", "rankmistral", None),
    ("liuwenhan/RankMistral100", "rankllm", "rankllm", "liuwenhan/RankMistral100", "rankmistral", None),
    ("rearank", None, "rearank", "le723z/Rearank-7B", "rearank", None),
    ("le723z/Rearank-7B", None, "rearank", "le723z/Rearank-7B", "rearank", None),
    ("le723z/Rearank-7B", "rankllm", "rankllm", "le723z/Rearank-7B", "rearank", None),
    ("reasonrank", None, "reasonrank", "liuwenhan/reasonrank-7B", "reasonrank", None),
    ("liuwenhan/reasonrank-8B", None, "reasonrank", "liuwenhan/reasonrank-8B", "reasonrank-qwen3", None),
    ("rank-k", None, "rank-k", "hltcoe/Rank-K-32B", "rank-k", None),
    ("hltcoe/Rank-K-32B", "rankllm", "rankllm", "hltcoe/Rank-K-32B", "rank-k", None),
    ("rank-llm", None, "rank-llm", "rank_zephyr", None, None),
]


@pytest.mark.parametrize("word, model_type, backend, model, recipe, client", WORDS, ids=[f"{row[0]}:{row[1]}" for row in WORDS])
def test_where_a_word_leads(word, model_type, backend, model, recipe, client):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose(word, model_type=model_type)
    assert choice.backend.words[0] == backend
    if client == "LiteLLMClient": need_litellm()
    if recipe is None:
        assert choice.model == model
        return
    ranker = Reranker(word, model_type=model_type, **({"api_key": "sk-mine"} if client else {"client": str}))     # without a client's name: a local model
    assert ranker.model == model
    assert ranker.recipe == choice.backend.recipes[recipe]
    if client: assert type(ranker.client).__name__ == client


FOLDERS = [("rank_zephyr_mine", "MistralForCausalLM", "rankzephyr"), ("vicuna-tuned", "LlamaForCausalLM", "rankvicuna"),
           ("first_mistral", "MistralForCausalLM", "first"), ("first_qwen3_4b", "Qwen3ForCausalLM", "first"),
           ("RankMistral100-tuned", "MistralForCausalLM", "rankmistral"), ("Rearank-7B", "Qwen2ForCausalLM", "rearank"),
           ("my-gpt", "BertForSequenceClassification", "cross-encoder"), ("zephyr-classifier", "MistralForSequenceClassification", "cross-encoder"),
           ("some-gpt", "GPT2LMHeadModel", "rankgpt"), ("plain", "MistralForCausalLM", "llm-pointwise")]


@pytest.mark.parametrize("name, architecture, backend", FOLDERS, ids=[row[0] for row in FOLDERS])
def test_a_folder_is_known_by_its_name_and_architecture(tmp_path, name, architecture, backend):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert choose(str(tmp_path / name)).backend is choose(backend).backend


# ---- a model that knows

LABELLED = {"numbers": r"^\[(\d+)\] (.*)$", "letters": r"^\[([A-Z])\] (.*)$", "words": r'^(PASSAGE\d+) = "(.*)"$'}
FORMS = {"numbers": ("[{}]", " > ", "{}"), "letters": ("[{}]", " > ", "{}"), "words": ("{}", ", ", "[{}]"), "json": ("{}", ", ", '{{"ranking": [{}]}}'),
         "tagged": ("[{}]", " > ", "<think>[1] seems good. [3] as well.</think>\n<answer>{}</answer>"), "ties": ("[{}]", " > ", "Let me think about [1].\n{}")}


def worth(text):
    "What a passage is worth: it says so, or it is as good as its length"
    found = re.search(r"worth (\d+)", text)
    return float(found[1]) if found else len(text) / 1e6


class Knows(ChatClient):
    "Reads the passages out of a prompt and answers in the form that was asked for; counts what is under way"
    model, supports_prefill = "knows", True

    def __init__(self, labels="numbers", form=None, together=0):
        self.labels, self.form, self.crowd, self.requests = labels, form or labels, Crowd(together), []

    @property
    def most(self): return self.crowd.most

    async def reply(self, request):
        async with self.crowd: self.requests.append(request)
        shown = re.findall(LABELLED[self.labels], "\n".join(m["content"] for m in request.messages if m["role"] == "user"), re.M)
        best = [label for label, text in sorted(shown, key=lambda p: -worth(p[1]))]
        if request.choices: return Reply("", {label: -float(best.index(label)) for label in request.choices}, Usage(1, 100, 1))
        each, between, whole = FORMS[self.form]
        return Reply(whole.format(between.join(map(each.format, best))), usage=Usage(1, 100, 10))


DOCS = [f"passage {i}, worth {w}" for i, w in enumerate([3, 9, 4, 12, 7, 1, 15, 8, 2, 14, 6, 11, 5, 13, 10])]
BEST = sorted(range(15), key=lambda i: -worth(DOCS[i]))
ORACLES = {     # the ranker's word, its options, how passages are labelled, the form of the answer
    "rankgpt": ("rankgpt", {}, "numbers", None),
    "rankgpt-small-windows": ("rankgpt", {"window_size": 6, "stride": 3, "passes": 5}, "numbers", None),
    "single-turn": ("rankgpt", {"recipe": "rankgpt-single"}, "numbers", None),
    "completion": ("rankgpt", {"recipe": "rankgpt-completion"}, "numbers", None),
    "apeer": ("rankgpt", {"recipe": "rankgpt-apeer"}, "numbers", None),
    "structured": ("rankgpt", {"recipe": "structured"}, "numbers", "json"),
    "lrl": ("lrl", {}, "words", None),
    "rankzephyr": ("rankzephyr", {}, "numbers", None),
    "rankzephyr-blitz": ("rankzephyr", {"strategy": "blitz", "window_size": 6}, "numbers", None),
    "letters": ("rankllm", {"use_alpha": True}, "letters", None),
    "letters-likelihood": ("rankzephyr", {"recipe": "rankzephyr-letters", "scoring": "likelihood"}, "letters", None),
    "first": ("first", {}, "letters", None),
    "rankvicuna": ("rankvicuna", {}, "numbers", None),
    "reasonrank": ("reasonrank", {}, "numbers", "tagged"),
    "rank-k": ("rank-k", {}, "numbers", "ties"),
}


def oracle(name):
    word, options, labels, form = ORACLES[name]
    return Reranker(word, client=Knows(labels, form), **options)


@pytest.mark.parametrize("name", ORACLES)
def test_a_model_that_knows_gives_the_order(name):
    results = oracle(name).rank(QUERY, DOCS)
    assert [r.doc_id for r in results][:10] == BEST[:10]
    assert sorted(r.doc_id for r in results) == list(range(15)) and not results.faults and not results.has_scores


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["rankgpt", "single-turn", "structured", "lrl", "rankzephyr-blitz", "letters-likelihood", "first", "reasonrank", "rank-k"])
def test_contract(name, check): check(oracle(name))


@pytest.mark.parametrize("n, calls", [(1, 0), (2, 1), (19, 1), (20, 1), (21, 2), (25, 2), (95, 9), (100, 9), (101, 10), (250, 24)])
@pytest.mark.parametrize("word", ["rankgpt", "rankzephyr"])
def test_calls_and_the_exact_ten(word, n, calls):
    "As many windows as rank-llm 0.26, the first of which may be a partial one; the original code left the top of such lists alone"
    docs = [f"passage {i}, worth {(i * 7919) % 1009}" for i in range(n)]
    results = Reranker(word, client=Knows()).rank(QUERY, docs)
    best = sorted(range(n), key=lambda i: -worth(docs[i]))
    assert [r.doc_id for r in results][:10] == best[:10] and sorted(r.doc_id for r in results) == list(range(n))
    assert (results.usage.calls, results.usage.input_tokens, results.usage.output_tokens) == (calls, 100 * calls, 10 * calls)


@pytest.mark.parametrize("n, calls", [(20, 1), (21, 1), (100, 1), (101, 2), (150, 2), (200, 3)])
def test_rankmistral_reads_a_hundred_at_once(n, calls):
    client, docs = Knows(), [f"worth {i * 7 % n}" for i in range(n)]
    results = Reranker("liuwenhan/RankMistral100", client=client).rank(QUERY, docs)
    assert results.usage.calls == calls
    assert [worth(r.text) for r in results][:50] == sorted(map(worth, docs), reverse=True)[:50]
    assert client.requests[0].max_tokens >= 6 * min(n, 100)      # `[100] > ` is six tokens


def test_rearank_is_shown_400_characters_and_thinks():
    client = Knows(form="tagged")
    Reranker("rearank", client=client).rank(QUERY, ["a  b\n" * 200 + "worth 2", "worth 3"])
    request = client.requests[0]
    assert [m["content"] for m in request.messages if m["content"].startswith("[1]")] == [f"[1] {'a b ' * 100}".rstrip(" ") + " "]
    assert request.max_tokens > 2000 and request.temperature == 0.0


def test_equal_texts_keep_their_ids():
    "0.10 gave both the first one's"
    results = Reranker("rankgpt", client=Knows()).rank(QUERY, ["worth 1", "worth 5", "worth 1"], doc_ids=["a", "b", "c"])
    assert [r.doc_id for r in results] == ["b", "a", "c"]


# ---- requests

def test_the_answer_has_room_and_no_warmth():
    client = Knows()
    Reranker("rankgpt", client=client).rank(QUERY, DOCS)
    assert (client.requests[0].temperature, client.requests[0].max_tokens) == (0.0, 16 + 6 * 15)
    thinks = Knows(form="tagged")
    Reranker("reasonrank", client=thinks).rank(QUERY, DOCS)
    assert thinks.requests[0].max_tokens > 3000
    chosen = Knows()
    Reranker("rankgpt", client=chosen, temperature=0.5, max_tokens=4000).rank(QUERY, DOCS)
    assert (chosen.requests[0].temperature, chosen.requests[0].max_tokens) == (0.5, 4000)


def test_first_asks_for_letters_after_a_bracket():
    client = Knows("letters")
    Reranker("first", client=client).rank(QUERY, DOCS[:4])
    assert (client.requests[0].choices, client.requests[0].prefill, client.requests[0].max_tokens) == (("A", "B", "C", "D"), "[", 1)


def test_a_server_that_lets_nobody_begin_its_answer_is_not_asked_for_first():
    nobody = httpx.MockTransport(lambda request: httpx.Response(500))
    ranker = Reranker("castorini/first_mistral", base_url="http://127.0.0.1:8000/v1", transport=nobody)
    with pytest.raises(InputError, match="lets nobody begin the model's answer"): ranker.rank(QUERY, DOCS)


def test_structured_asks_for_a_schema():
    client = Knows(form="json")
    Reranker("rankgpt", recipe="structured", client=client).rank(QUERY, DOCS)
    assert client.requests[0].options["response_format"]["json_schema"]["schema"]["required"] == ["ranking"]


def test_a_template_of_ones_own():
    client = Knows()
    results = Reranker("rankgpt", client=client, template="For {query}:\n{passages}\nBest first, as [2] > [1].").rank(QUERY, DOCS[:2])
    assert client.requests[0].messages == ({"role": "user", "content": f"For {QUERY}:\n[1] {DOCS[0]}\n[2] {DOCS[1]}\nBest first, as [2] > [1]."},)
    assert [r.doc_id for r in results] == [1, 0]
    with pytest.raises(InputError, match="{passages}"): Reranker("rankgpt", client=client, template="For {query}")


# ---- thoughts without an end

CUT = "Okay, let me see. Passage [2] is about dogs, so not relevant. Passage [1] is about cats. Passage [4] is"
ENDED = "Okay, [2] is about dogs.\n</think>\n<answer>[2] > [1"


class Cut(ChatClient):
    "The chat format ends with <think>, so the text has no tag that begins a thought"
    model = "cut"
    def __init__(self, text, finish="length"): self.text, self.finish = text, finish
    async def reply(self, request): return Reply(self.text, usage=Usage(1, 1, 1), finish=self.finish)


@pytest.mark.parametrize("word, options", [("rank-k", {}), ("reasonrank", {}), ("liuwenhan/reasonrank-8B", {"model_type": "reasonrank"}), ("rank-r1", {}),
                                           ("rankgpt", {"recipe": "rank-k"})])
def test_a_thought_that_was_cut_off_is_no_answer(word, options):
    docs = ["cats", "dogs", "Hamlet is by Shakespeare", "plays"]
    with pytest.raises(UnusableAnswer, match="cut off at .* tokens, max_tokens= allows more"): Reranker(word, client=Cut(CUT), **options).rank(QUERY, docs)
    kept = Reranker(word, client=Cut(CUT), on_error="keep", **options).rank(QUERY, docs)
    assert [r.doc_id for r in kept] == [0, 1, 2, 3] and kept.faults == {"wrong_format": kept.usage.calls}
    assert Reranker(word, client=Cut(ENDED), **options).rank(QUERY, docs)[0].doc_id == 1        # the thought ended, its answer was cut: what is there counts


def test_an_answer_without_a_thought_may_be_cut():
    kept = Reranker("rankgpt", client=Cut("[4] > [2] > [1")).rank(QUERY, ["a", "b", "c", "d"])
    assert [r.doc_id for r in kept] == [3, 1, 0, 2] and kept.faults == {"missing": 1}


# ---- 0.10

def test_keywords_of_0_10():
    client = Knows("letters")
    ranker = Reranker("rankllm", lang="en", verbose=0, client=client, window_size=5, stride=2, use_alpha=True)
    assert ranker.progress is False
    assert ranker.rank(QUERY, DOCS).usage.calls == 1 + math.ceil((15 - 5) / 2)
    assert {len(re.findall(r"^\[[A-Z]\]", r.messages[-1]["content"], re.M)) for r in client.requests} == {5}
    logits = Knows("letters")
    Reranker("rankllm", client=logits, use_logits=True, use_alpha=True).rank(QUERY, DOCS)
    assert logits.requests[0].prefill == "["


def test_context_size_is_the_context():
    assert Reranker("gpt-4o", model_type="rankllm", api_key="sk-mine", context_size=3000).client.context == 3000
    assert Reranker("gpt-4o", model_type="rankllm", api_key="sk-mine").client.context is None
    served = Reranker("rank_zephyr", base_url="http://127.0.0.1:8000/v1")
    assert (served.client.context, served.client.model) == (CLIENT_SETTINGS["rankzephyr"]["context"], ZEPHYR_7B) == (4096, ZEPHYR_7B)


@pytest.mark.parametrize("lang, by", [("en", "words"), ("de", "words"), ("ja", "characters"), ("zh", "characters")])
def test_passages_are_cut_by_what_the_language_has(lang, by):
    client = Knows()
    Reranker("rankgpt", lang=lang, client=client).rank(QUERY, ["worth 3 " + "字" * 20 + " x" * 500])
    ranker = Reranker("rankgpt", lang=lang, client=client)
    results = ranker.rank(QUERY, ["worth 3 " + "字" * 20 + " x" * 500, "worth 2"])
    shown = client.requests[0].messages[3]["content"]
    assert ranker.recipe.passages.by == by and [r.truncated for r in results] == [True, False]
    assert len(shown) == 4 + 300 if by == "characters" else len(shown.split()) == 1 + 300


@pytest.mark.parametrize("option", ["prompt_mode", "num_gpus", "use_azure_openai", "rank_end"])
def test_an_option_without_effect_is_refused(option):
    with pytest.raises(InputError, match=f"no option '{option}'"): Reranker("rankllm", client=Knows(), **{option: 1})


# ---- servers

def scripted(answers, seen=None):
    "A transport that gives the answers in turn: a status and a body, or a text"
    left = iter(answers)

    def handle(request):
        if seen is not None: seen.append(request)
        answer = next(left)
        if isinstance(answer, tuple): return httpx.Response(answer[0], json=answer[1])
        return httpx.Response(200, json={"choices": [{"message": {"content": answer}}], "usage": {"prompt_tokens": 50, "completion_tokens": 8}})
    return httpx.MockTransport(handle)


LOOPBACK = {"model_type": "rankgpt", "base_url": "http://127.0.0.1:8000/v1", "api_key": "sk-secret", "backoff": 0.001}


def test_any_server_without_litellm():
    seen = []
    ranker = Reranker("gpt-4o-mini", transport=scripted(["[2] > [3] > [1]"], seen), **LOOPBACK)
    results = ranker.rank(QUERY, DOCS[:3])
    assert [r.doc_id for r in results] == [1, 2, 0]
    assert str(seen[0].url) == "http://127.0.0.1:8000/v1/chat/completions" and seen[0].headers["authorization"] == "Bearer sk-secret"
    body = json.loads(seen[0].content)
    assert body["model"] == "gpt-4o-mini" and body["messages"] == [dict(m) for m in ranker.recipe.messages(QUERY, DOCS[:3])]
    assert (results.usage.calls, results.usage.input_tokens, results.usage.output_tokens) == (1, 50, 8)


@pytest.mark.parametrize("answer, order, faults", [
    ("1. [3]\n2. [2]\n3. [1]", [2, 1, 0], {}), ("Ranking of the 3 passages: [2] > [1]", [1, 0, 2], {"missing": 1}),
    ("[2] > [2] > [9] > [1] > [3]", [1, 0, 2], None)])
def test_answers_that_can_be_understood_are(answer, order, faults):
    results = Reranker("gpt-4o-mini", transport=scripted([answer]), **LOOPBACK).rank(QUERY, DOCS[:3])
    assert [r.doc_id for r in results] == order
    assert results.faults == faults if faults is not None else sum(results.faults.values()) == 1


@pytest.mark.parametrize("answer", ["", None, "I cannot help with that.", (500, {"error": {"message": "boom"}})])
def test_no_answer_is_an_error_or_the_kept_order(answer):
    with pytest.raises((UnusableAnswer, ServerError)) as caught:
        Reranker("gpt-4o-mini", transport=scripted([answer] * 4), **LOOPBACK).rank(QUERY, DOCS[:3])
    assert "sk-secret" not in str(caught.value)
    kept = Reranker("gpt-4o-mini", transport=scripted([answer] * 4), on_error="keep", **LOOPBACK).rank(QUERY, DOCS[:3])
    assert [r.doc_id for r in kept] == [0, 1, 2] and sum(kept.faults.values()) == 1


@pytest.mark.parametrize("status, error", [(401, AuthenticationError), (404, NotFoundError)])
def test_what_no_window_would_do_better_ends_the_call(status, error):
    seen = []
    ranker = Reranker("gpt-4o-mini", transport=scripted([(status, {"error": {"message": "no"}})] * 9, seen), on_error="keep", **LOOPBACK)
    with pytest.raises(error): ranker.rank(QUERY, DOCS)
    assert len(seen) == 1


def test_no_key_says_which_variable(monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"): monkeypatch.delenv(name, raising=False)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"): Reranker("rankgpt")
    with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"): Reranker("claude-haiku-4-5")


@pytest.mark.parametrize("model, client", [("openai/gpt-4o-mini", None), ("gpt-4o-mini", "litellm")])
def test_litellm(model, client):
    "litellm's own stand-in answers; the way there and back is litellm's"
    need_litellm()
    mock = {"mock_response": "[3] > [1] > [2]"}
    ranker = Reranker(model, model_type="rankgpt", api_key="sk-secret", extra_body=mock, **({"client": client} if client else {}))
    results = ranker.rank(QUERY, DOCS[:3])
    assert [r.doc_id for r in results] == [2, 0, 1]
    assert results.usage.calls == 1 and results.usage.cost is not None and "secret" not in repr(ranker.client)


# ---- many queries

def test_queries_share_one_client_and_do_not_wait_for_one_another():
    client = Knows(together=12)
    results = Reranker("rankgpt", client=client, window_size=4, stride=2).rank_many([f"question {i}?" for i in range(12)], DOCS)
    calls = 1 + math.ceil((15 - 4) / 2)
    assert [r.usage.calls for r in results] == [calls] * 12 and len(client.requests) == 12 * calls
    assert client.most == 12    # the windows of a query follow one another, those of different queries do not
    assert all(r[0].doc_id == BEST[0] for r in results)


def test_batch_size_bounds_what_is_under_way():
    client = Knows(together=4)
    Reranker("rankgpt", client=client).rank_many([f"question {i}?" for i in range(9)], DOCS, batch_size=4)
    assert client.most == 4


# ---- models that run here

@pytest.fixture(scope="module")
def tiny():
    "A tiny Mistral with random weights: its folder, tokenizer and network"
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from rerankers.tiny_models import tiny_language_model
    folder = tiny_language_model("mistral", max_position_embeddings=8192)
    return folder, transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def first_prompt(query, docs):
    "The text that FIRST's model goes on from"
    listed = "\n".join(f"[{chr(65 + i)}] {doc}" for i, doc in enumerate(docs))
    return ("<|system|>\nYou are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query</s>\n"
            f"<|user|>\nI will provide you with {len(docs)} passages, each indicated by a alphabetical identifier []. Rank the passages based on their "
            f"relevance to the search query: {query}.\n\n{listed}\nSearch Query: {query}.\nRank the {len(docs)} passages above based on their relevance to the "
            "search query. All the passages should be included and listed using identifiers, in descending order of relevance. The output format should be "
            "[] > [], e.g., [B] > [A], Only respond with the ranking results, do not say any word or explain.</s>\n<|assistant|>\n[")


def plain_first(tiny, query, docs):
    "Positions by the falling logits of the letters, in plain transformers"
    import torch
    _, tokenizer, net = tiny
    ids = tokenizer(first_prompt(query, docs), add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode(): logits = net(ids).logits[0, -1]
    letters = [float(logits[tokenizer.convert_tokens_to_ids(chr(65 + i))]) for i in range(len(docs))]
    return sorted(range(len(docs)), key=lambda i: -letters[i])


PASSAGES = [f"{who} {how} {what}" for who in ("hamlet", "faust", "the play") for how in ("was written by", "is not")
            for what in ("shakespeare", "goethe", "a question", "london", "of an end")]


@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("n", [2, 9, 20, 26, 30])
def test_first_is_the_order_of_the_letters_logits(tiny, n, batch_size):
    "github.com/gangiswag/llm-reranker: letters, an open bracket, the logits of the letters; windows of 20 that move up by 10"
    docs = PASSAGES[:n]
    ranker = Reranker(tiny[0], model_type="first", chat_template=ZEPHYR, device="cpu")
    order, ends = list(range(n)), [n] if n <= 20 else [n, 20 if n == 30 else 16]
    for end in ends:
        start = max(0, end - 20)
        order[start:end] = [order[start + i] for i in plain_first(tiny, "who wrote hamlet?", [docs[i] for i in order[start:end]])]
    results = ranker.rank("who wrote hamlet?", docs, batch_size=batch_size)
    assert [r.doc_id for r in results] == order
    assert (results.usage.calls, results.usage.output_tokens, results.faults) == (len(ends), len(ends), {})


def test_first_pooled_over_queries(tiny):
    ranker = Reranker(tiny[0], model_type="first", chat_template=ZEPHYR, device="cpu")
    queries = ["who wrote hamlet?", "the play of goethe", "london?"]
    sets = [PASSAGES[:5], PASSAGES[5:18], PASSAGES[3:6]]
    pooled = ranker.rank_many(queries, sets)
    assert [[r.doc_id for r in results] for results in pooled] == [plain_first(tiny, q, d) for q, d in zip(queries, sets)]


THINKS = "{% for m in messages %}{{ m.content }}{% endfor %}<|assistant|>{% if not enable_thinking | default(true) %}<think></think>{% endif %}"


def test_first_is_asked_for_a_letter_and_no_thought(tiny):
    "Qwen3's chat format begins a thought unless it is told not to; a user's own wish goes first"
    asked = {}
    for name, options in (("told", {}), ("wished", {"template_kwargs": {"enable_thinking": True}})):
        ranker = Reranker(tiny[0], model_type="first", chat_template=THINKS, device="cpu", **options)
        asked[name] = tiny[1].decode(ranker.client.prompt(next(ranker.talk(Window("who?", tuple(PASSAGES[:2]))))))
    assert "<think>" in asked["told"] and "<think>" not in asked["wished"]


@pytest.mark.parametrize("turns, expected", [
    ("user: Hello!", "<s>[INST] Hello! [/INST]"), ("system: You rank.|user: Hello!", "<s>[INST] You rank.\nHello! [/INST]"),
    ("user: Hello!|assistant: Hi!|user: How are you?", "<s>[INST] Hello! [/INST] Hi!</s>[INST] How are you? [/INST]")])
def test_mistrals_format(tiny, turns, expected):
    "As fschat 0.2.36's `mistral` has it, with and without a system message"
    chat = [dict(zip(("role", "content"), turn.split(": "))) for turn in turns.split("|")]
    assert tiny[1].apply_chat_template(chat, chat_template=MISTRAL, tokenize=False) == expected


def test_letters_end(tiny):
    ranker = Reranker(tiny[0], model_type="first", chat_template=ZEPHYR, device="cpu", window_size=27)
    with pytest.raises(InputError, match="27 documents and 26 letters"): ranker.rank("who?", PASSAGES)


# `{}` is where the passages go; the texts are those of rank-llm 0.20.3 (rank_listwise_os_llm.py), the chat format of Vicuna what
# `get_conv_template("vicuna_v1.1").get_prompt()` of fschat 0.2.36 gives
ONLY = ", Only respond with the ranking results, do not say any word or explain."
WRITTEN = {
    "rankzephyr": (ZEPHYR, "<|system|>\nYou are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query</s>\n<|user|>\n"
                           "{}[2] > [1]" + ONLY + "</s>\n<|assistant|>\n"),
    "rankvicuna": (None, "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers "
                         "to the user's questions. USER: {}[4] > [2]" + ONLY + " ASSISTANT:")}
ASKED = ("I will provide you with 2 passages, each indicated by a numerical identifier []. Rank the passages based on their relevance to the search query: "
         "who wrote hamlet?.\n\n[1] hamlet was written by shakespeare\n[2] hamlet was written by goethe\nSearch Query: who wrote hamlet?.\n"
         "Rank the 2 passages above based on their relevance to the search query. All the passages should be included and listed using identifiers, in "
         "descending order of relevance. The output format should be [] > [], e.g., ")


@pytest.mark.parametrize("word", WRITTEN)
def test_what_a_local_model_reads_and_writes(tiny, word):
    "The prompt to the letter, and greedy decoding as plain transformers does it"
    import torch
    folder, tokenizer, net = tiny
    template, expected = WRITTEN[word]
    ranker = Reranker(folder, model_type=word, device="cpu", on_error="keep", **({"chat_template": template} if template else {}))
    request = next(ranker.talk(Window("who wrote hamlet?", tuple(PASSAGES[:2]))))
    ids = tokenizer(expected.format(ASKED), add_special_tokens=False, return_tensors="pt").input_ids
    assert ranker.client.prompt(request) == ids[0].tolist()
    with torch.inference_mode(): written = net.generate(ids, max_new_tokens=request.max_tokens, do_sample=False, pad_token_id=0)[0, ids.shape[1]:]
    assert asyncio.run(ranker.client.reply(request)).text == tokenizer.decode(written, skip_special_tokens=True)
    assert ranker.client.context == 4096


@pytest.mark.parametrize("turns, expected", [
    ("user: Hello!|assistant: Hi!|user: How are you?", "polite answers to the user's questions. USER: Hello! ASSISTANT: Hi!</s>USER: How are you? ASSISTANT:"),
    ("system: You rank.|user: Hello!", "<s>You rank. USER: Hello! ASSISTANT:")])
def test_vicunas_format(tiny, turns, expected):
    "As fschat 0.2.36 has it, with and without a system message"
    chat = [dict(zip(("role", "content"), turn.split(": "))) for turn in turns.split("|")]
    assert tiny[1].apply_chat_template(chat, chat_template=VICUNA, tokenize=False).endswith(expected)


def test_passages_shrink_until_they_fit(tiny):
    "Exact tokens of the model: what does not fit is cut, said so, and never past the model's room"
    folder, _, _ = tiny
    docs = [f"passage {i} " + "hamlet was written by william shakespeare " * (6 * i) for i in range(6)]
    for context in (1000, 900, 760):
        results = Reranker(folder, model_type="first", chat_template=ZEPHYR, device="cpu", context=context).rank("who wrote hamlet?", docs)
        cut = {r.doc_id: r.truncated for r in results}
        assert sorted(cut) == list(range(6)) and cut[5] and not cut[0]
        assert results.usage.input_tokens + results.usage.output_tokens <= context
        assert [cut[i] for i in range(6)] == sorted(cut.values())       # the longest ones, and no other
    whole = Reranker(folder, model_type="first", chat_template=ZEPHYR, device="cpu").rank("who wrote hamlet?", docs)
    assert not any(r.truncated for r in whole)
    with pytest.raises(InputError, match="choose a smaller window"):
        Reranker(folder, model_type="first", chat_template=ZEPHYR, device="cpu", context=300).rank("who wrote hamlet?", docs)


@pytest.mark.parametrize("name, recipe", [("my-rank_zephyr", "rankzephyr"), ("vicuna-2", "rankvicuna")])
def test_a_folder_is_asked_as_its_name_says(tiny, tmp_path, name, recipe):
    folder = Path(shutil.copytree(tiny[0], tmp_path / "vicuna-and-zephyr" / name))      # where it lies says nothing
    ranker = Reranker(folder, device="cpu", on_error="keep", **({} if recipe == "rankvicuna" else {"chat_template": ZEPHYR}))
    assert ranker.recipe == ranker.recipes[recipe] and ranker.client.context == 4096
    assert sorted(r.doc_id for r in ranker.rank("who wrote hamlet?", PASSAGES[:3])) == [0, 1, 2]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_a_local_model(tiny, check): check(Reranker(tiny[0], model_type="first", chat_template=ZEPHYR, device="cpu"))


# ---- the package rank-llm

def test_candidates_are_positions():
    expected = [{"docid": i, "score": 3.0 - i, "doc": {"text": text}} for i, text in enumerate(["b", "", "b"])]
    assert rank_llm_package.package_candidates(["b", "", "b"]) == expected


def test_the_packages_history_is_usage():
    call = namedtuple("call", "input_token_count output_token_count")
    assert rank_llm_package.package_usage([call(10, 2), call(20, 3)]) == Usage(2, 30, 5)
    assert rank_llm_package.package_usage([]) == Usage()


@pytest.mark.skipif(installed("rank_llm"), reason="the package rank-llm is installed")
def test_without_the_package_the_error_says_how_to_get_it():
    with pytest.raises(MissingDependency, match=r"pip install 'rerankers\[rank-llm\]'"): Reranker("rank-llm")


def test_the_package_loses_nothing():
    "Its shuffler and its copier, on equal and empty texts and any ids"
    pytest.importorskip("rank_llm", reason="the package rank-llm is not installed (0.26 needs Python 3.12)")
    docs, ids = ["a play", "a play", "", "Faust", " "] * 60, [("id", i) for i in range(300)]
    shuffled = Reranker("rank_random", model_type="rank-llm").rank(QUERY, docs, doc_ids=ids)
    assert sorted((r.doc_id, r.text) for r in shuffled) == sorted(zip(ids, docs)) and [r.doc_id for r in shuffled] != ids
    assert [r.doc_id for r in Reranker("rank_identity", model_type="rank-llm").rank(QUERY, docs, doc_ids=ids)] == ids


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_package(check):
    pytest.importorskip("rank_llm", reason="the package rank-llm is not installed (0.26 needs Python 3.12)")
    check(Reranker("rank_identity", model_type="rank-llm"))


PIECES = ["[1]", "[9]", "B", " > ", "<think>", "</think>", "<answer>", "PASSAGE2", '{"ranking": [', "2, 1", "]}", "=", "\n"]     # that answers are made of


@settings(deadline=None, max_examples=150)
@given(said=st.text(max_size=120) | st.lists(st.sampled_from(PIECES)).map("".join), recipe=st.sampled_from(sorted(LISTWISE)), n=st.integers(0, 7),
       window=st.integers(2, 5))
def test_any_answer_whatever_leaves_a_permutation(said, recipe, n, window):
    docs = [f"passage {i % 3}" for i in range(n)]
    results = Reranker("rankgpt", client=lambda messages: said, recipe=recipe, window_size=window, on_error="keep").rank("which?", docs)
    assert sorted(r.doc_id for r in results) == list(range(n)) and all(r.text == docs[r.doc_id] for r in results)
