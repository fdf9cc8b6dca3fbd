"What the chat clients make of servers that want it another way, over HTTP, through litellm and in this process"

import asyncio
import os
import pickle
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("httpx")
from nb_plugin import NURSERY  # noqa: E402
from servers import Say, Scripted, chat, need_litellm  # noqa: E402

from rerankers import Reranker  # noqa: E402
from rerankers.errors import AuthenticationError, BadRequestError, InputError, ModelLoadError, ServerError, installed  # noqa: E402
from rerankers.web.services import find_key  # noqa: E402
from rerankers.llm.chat import ChatRequest  # noqa: E402
from rerankers.llm.openai import LENGTHS, OpenAIClient, base_of, endpoint_at, endpoint_named, fewer_listed  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DOCS = [f"passage number {i}" for i in range(4)]
GOOD = chat("[4] > [3] > [2] > [1]")
LAST = [3, 2, 1, 0]
litellm_too = ["http", pytest.param("litellm", marks=pytest.mark.skipif(not installed("litellm"), reason="litellm is not installed"))]


def ranker(server, method="rankgpt", client="http", **options):
    "A method that asks this server, over httpx or through litellm"
    model = "hosted_vllm/test" if client == "litellm" else "test"
    return Reranker(model, model_type=method, client=client, base_url=server.url, **({"api_key": "sk-1", "timeout": 30, "retries": 0} | options))


def order(results):
    return [r.doc_id for r in results]


def refusal(message, status=400, **more):
    return Say({"error": {"message": message, **more}}, status=status)


# ---- fields that a server refuses

YES = {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.4}]}]}
DEPRECATED = "`temperature` is deprecated for this model."
REFUSALS = [  # the field, the refusal
    ("temperature", refusal(DEPRECATED, type="invalid_request_error", param=None)),
    ("temperature", refusal("Temperature is not supported.", 422)),
    ("max_tokens", refusal("Unsupported parameter: 'max_tokens' is not supported with this model.", param="max_tokens")),
    ("max_tokens", refusal("Unsupported parameter: 'max_tokens' is not supported with this model.", param=["max_tokens"])),
    ("logprobs", Say([{"error": {"code": 400, "message": "Logprobs is not enabled for models/gemini-2.5-flash", "status": "INVALID_ARGUMENT"}}], 400)),
    ("logprobs", refusal("You are not allowed to request logprobs from this model", 403, param=None)),
    ("logprobs", refusal("Requested sample logprobs of 20, which is greater than max allowed: 0")),
]


@pytest.mark.parametrize("client", litellm_too)
@pytest.mark.parametrize(("field", "said"), REFUSALS, ids=lambda x: x if isinstance(x, str) else f"{x.status}")
def test_a_refused_field_is_left_out_from_then_on(field, said, client):
    script = lambda seen: said if field in seen.json else Say(chat("Yes"))
    with Scripted(script) as server:
        asking = ranker(server, "llm-yes-no", client, concurrency=1)
        assert order(asking.rank("which?", DOCS)) == [0, 1, 2, 3]
        before = len(server.seen)
        asking.rank("again?", DOCS)
        assert len(server.seen) == before + len(DOCS) and not any(field in body for body in server.bodies[before:])


@pytest.mark.parametrize("client", litellm_too)
def test_fewer_tokens_are_listed_where_the_server_says_so(client):
    def five(seen):
        if seen.json.get("top_logprobs", 0) > 5:
            return refusal("Requested sample logprobs of 20, which is greater than max allowed: 5", code=400)
        return chat("Yes", logprobs=YES)

    with Scripted(five) as server:
        asking = ranker(server, "llm-yes-no", client, concurrency=1)
        results = asking.rank("which?", DOCS)
        assert [body["top_logprobs"] for body in server.bodies] == [20, 5, 5, 5, 5] and results.has_scores and not results.faults
        assert pickle.loads(pickle.dumps(asking)).client.listed == 5


@pytest.mark.parametrize(
    ("said", "fewer"),
    [
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
        ("Invalid 'top_logprobs': integer above maximum value. Expected a value <= 8, but got 20 instead.", 8),
        ("Invalid top_logprobs value, the valid range of top_logprobs is [0, 10]", 10),
        ("logprobs of gpt-4.1-mini: at most 5.", 5),
        ("logprobs must be within 0-15", 15),
        ("logprobs is not supported with gpt-5", None),
        ("max_tokens is greater than 5", None),
        ("top_logprobs exceeds the maximum", None),
    ],
)
def test_the_number_that_a_server_lists(said, fewer):
    assert fewer_listed(BadRequestError(said, status=400), {"logprobs": True, "top_logprobs": 20}) == fewer
    assert fewer_listed(BadRequestError(said, status=400), {"logprobs": 20}) == fewer, "the older path"


def test_a_server_that_never_has_enough_is_asked_a_bounded_number_of_times():
    def less(seen):
        n = seen.json.get("top_logprobs", 1)
        return refusal(f"logprobs: at most {n - 1}")

    with Scripted(less) as server:
        with pytest.raises(BadRequestError, match="at most"):
            ranker(server, "llm-yes-no").rank("which?", DOCS[:1])
        assert len(server.seen) <= 13


def test_what_a_key_may_not_do_stays_an_error():
    with Scripted([refusal("You are not allowed to use this project", 403)]) as server:
        with pytest.raises(AuthenticationError):
            ranker(server).rank("which?", DOCS)
        assert len(server.seen) == 1


# ---- the caller's own fields


@pytest.mark.parametrize("name", sorted(LENGTHS))
@pytest.mark.parametrize("client", litellm_too)
@pytest.mark.parametrize("method", ["rankgpt", "llm-yes-no"])
def test_the_callers_length_of_an_answer_counts(name, client, method):
    with Scripted([GOOD if method == "rankgpt" else chat("Yes")]) as server:
        ranker(server, method, client, extra_body={name: 4000}).rank("which?", DOCS)
        assert all([body[n] for n in LENGTHS & body.keys()] == [4000] for body in server.bodies)


def test_the_callers_length_survives_the_other_name():
    def renamed(seen):
        return refusal("Unsupported parameter: 'max_tokens' is not supported.", param="max_tokens") if "max_tokens" in seen.json else GOOD

    with Scripted(renamed) as server:
        ranker(server, extra_body={"max_tokens": 4000}).rank("which?", DOCS)
        assert server.bodies[-1]["max_completion_tokens"] == 4000


@pytest.mark.parametrize("client", litellm_too)
def test_a_field_can_be_left_out(client):
    with Scripted([GOOD]) as server:
        ranker(server, client=client, extra_body={"temperature": None, "max_tokens": None}).rank("which?", DOCS)
        assert not {"temperature", *LENGTHS} & server.bodies[0].keys()


def test_a_refusal_of_the_callers_field_is_said():
    "Not dropped behind their back"
    with Scripted(lambda seen: refusal(DEPRECATED) if "temperature" in seen.json else GOOD) as server:
        with pytest.raises(BadRequestError, match="deprecated"):
            ranker(server, extra_body={"temperature": 0.3}).rank("which?", DOCS)
    with Scripted([refusal("top_logprobs: at most 20")]) as server, pytest.raises(BadRequestError):
        ranker(server, "llm-yes-no", extra_body={"top_logprobs": 400}).rank("which?", DOCS)


# ---- usage, prices, parts


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "cost": {"input_tokens_cost": 0.0, "total_cost": 0.006}}, (10, 5, 0.006)),
        ({"prompt_tokens": "n/a", "completion_tokens": 5}, (0, 5, None)),
        ({"prompt_tokens": 10.0, "completion_tokens": True}, (10, 0, None)),
        ({"prompt_tokens": -5, "completion_tokens": 2, "cost": -1}, (0, 2, None)),
        ({"prompt_tokens": 10**400, "cost": 10**400}, (0, 0, None)),
        ({"cost": "free"}, (0, 0, None)),
        ({"cost": {"total_cost": "free"}}, (0, 0, None)),
        ([], (0, 0, None)),
        ("x", (0, 0, None)),
    ],
)
def test_a_sound_ranking_survives_odd_bookkeeping(told, found):
    with Scripted([GOOD | {"usage": told}]) as server:
        results = ranker(server).rank("which?", DOCS)
    assert (order(results), (results.usage.input_tokens, results.usage.output_tokens, results.usage.cost)) == (LAST, found)


@pytest.mark.parametrize("prices", [0.5, (1,), (1, 2, 3), ("a", "b"), "ab", (1, -1), (float("nan"), 1), (None, 1), {1: 2, 3: 4}])
def test_prices_are_two_numbers(prices):
    with pytest.raises(InputError, match="prices="):
        OpenAIClient("m", base_url="http://127.0.0.1:9/v1", prices=prices)


def test_free_is_a_price():
    with Scripted([GOOD]) as server:
        assert ranker(server, prices=[0, 0]).rank("which?", DOCS).usage.cost == 0


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "reasoning", "text": "[1] is best"},
        {"type": "thinking", "text": "[1] is best"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "[1]"}]},
    ],
)
@pytest.mark.parametrize("kind", [{"type": "text"}, {"type": "output_text"}, {}])
def test_thoughts_are_not_the_answer(thought, kind):
    with Scripted([chat([thought, {**kind, "text": "[4] > [3] > [2] > [1]"}])]) as server:
        assert order(ranker(server).rank("which?", DOCS)) == LAST


def test_an_error_without_a_code_is_not_asked_again():
    with Scripted([{"error": "upstream is down"}, GOOD]) as server:
        with pytest.raises(ServerError, match="upstream is down"):
            ranker(server, retries=3).rank("which?", DOCS)
        assert len(server.seen) == 1


# ---- addresses and keys


@pytest.mark.parametrize("host", ["openai.azure.com", "OPENAI.Azure.com", "openai.azure.us", "cognitiveservices.azure.com", "services.ai.azure.com"])
def test_azure_has_a_header_of_its_own(host):
    assert endpoint_at(f"https://me.{host}/openai/v1").auth == ("api-key", "{}")


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/", "/completions"])
def test_a_pasted_address(tail):
    assert base_of(f"https://example.org/v1{tail}") == "https://example.org/v1"
    with Scripted([GOOD]) as server:
        Reranker("m", model_type="rankgpt", base_url=server.url + tail).rank("which?", DOCS)
        assert server.seen[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("tail", ["", "/chat/completions"])
def test_an_address_of_azure_keeps_its_version(tail):
    with Scripted([GOOD]) as server:
        base = server.url.removesuffix("/v1") + "/openai/deployments/gpt-4o"
        Reranker("gpt-4o", model_type="rankgpt", client="azure", api_key="k", base_url=f"{base}{tail}?api-version=2024-10-21").rank("which?", DOCS)
        assert server.seen[0].path == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"


def test_a_key_from_the_environment_goes_to_its_own_provider_only(monkeypatch):
    for name in ("DEEPSEEK_API_KEY", "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, f"sk-of-{name}")
    with Scripted([GOOD]) as server:
        for client in ("deepseek", "openai"):
            Reranker("m", model_type="rankgpt", client=client, base_url=server.url).rank("which?", DOCS)
            assert "authorization" not in server.seen[-1].headers
        Reranker("m", model_type="rankgpt", client="deepseek", base_url=server.url, api_key="sk-mine").rank("which?", DOCS)
        assert server.seen[-1].headers["authorization"] == "Bearer sk-mine"
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)  # the environment's key for the environment's address
        Reranker("gpt-4.1-mini", model_type="rankgpt").rank("which?", DOCS)
        assert server.seen[-1].headers["authorization"] == "Bearer sk-of-OPENAI_API_KEY"
    assert find_key(endpoint_named("deepseek"), None, "https://eu.deepseek.com/v1") == "sk-of-DEEPSEEK_API_KEY"
    assert find_key(endpoint_named("azure"), None, "https://me.openai.azure.com/openai/v1") == "sk-of-AZURE_OPENAI_API_KEY"


def test_a_password_in_an_address_is_no_part_of_the_servers_name():
    assert OpenAIClient("m", base_url="http://bob:hunter22@127.0.0.1:9/v1").who == "127.0.0.1:9: m"


def test_a_server_of_ones_own_can_be_said_to_let_its_answers_be_begun():
    address = "http://127.0.0.1:9/v1"
    with pytest.raises(InputError, match="client='vllm'"):
        Reranker("castorini/first_mistral", base_url=address).rank("which?", DOCS)
    assert Reranker("castorini/first_mistral", base_url=address, client="vllm").client.supports_prefill


# ---- litellm


def test_through_litellm_chances_are_read_only_where_their_number_is_passed_on():
    "litellm takes logprobs for Gemini and drops top_logprobs: the one token that is left says nothing of the others"
    need_litellm()

    def gemini(seen):
        asked, text = seen.json.get("generationConfig", {}), "Yes" if "number 2" in seen.body.decode() else "No"
        assert "responseLogprobs" not in asked
        answer = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        return {"candidates": [answer], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11}}

    with Scripted(gemini) as server:
        options = {"client": "litellm", "api_key": "k", "base_url": server.url, "timeout": 30, "retries": 0}
        results = Reranker("gemini/gemini-2.0-flash", model_type="llm-yes-no", **options).rank("which?", DOCS)
    assert order(results)[0] == 2 and len(server.seen) == len(DOCS)


# Providers of litellm's chat that are no prefix here, each with its reason
NO_PREFIX = {
    "hub organisations of that name, whose models run here": "sail tencent",
    "names for a server of one's own, which base_url= reaches without litellm": "custom custom_openai openai_like oobabooga",
    "other names of what is in the table": "ai21_chat anthropic_text azure_text sagemaker_nova vertex_ai_beta watsonx_text",
    "no chat": "fal_ai",
    "the account of another program, not an API": "chatgpt microsoft_365_copilot",
}


def test_every_chat_provider_of_litellm_is_known():
    "A name with another prefix is taken for a model of the hub"
    litellm = need_litellm()
    from rerankers.llm.clients import LITELLM_PREFIXES

    name = lambda provider: str(getattr(provider, "value", provider))
    known = set(map(name, litellm.provider_list))
    priced = {row.get("litellm_provider") for row in litellm.model_cost.values() if row.get("mode") in ("chat", "completion", "responses")}
    chats = (set(map(name, litellm.LITELLM_CHAT_PROVIDERS)) | priced) & known
    left_out = {word for words in NO_PREFIX.values() for word in words.split()}
    assert not chats - LITELLM_PREFIXES - left_out, "add these to the table, or to those left out with a reason"
    assert not LITELLM_PREFIXES & left_out and not LITELLM_PREFIXES - known, "these are left out, or litellm has given them up"


# ---- a model in this process

PLAIN = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}<assistant>"
SILENT = "{% for m in messages if m['role'] != 'system' %}<{{ m['role'] }}> {{ m['content'] | trim }}\n{% endfor %}<assistant>"
TRIMS = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] | trim }}\n{% endfor %}<assistant>"
RAISES = "{{ raise_exception('roles must alternate') }}"


@pytest.fixture(scope="module")
def folder():
    for module in ("torch", "transformers"):
        pytest.importorskip(module)
    from rerankers.tiny_models import tiny_language_model

    return tiny_language_model("llama")


@pytest.fixture
def local(folder):
    from rerankers.llm.local import LocalClient

    return LocalClient(folder, template=PLAIN, device="cpu")


def asking(words, **more):
    return ChatRequest(({"role": "user", "content": words},), **({"max_tokens": 4} | more))


def together(client, *requests):
    async def ask():
        return await asyncio.gather(*map(client.reply, requests), return_exceptions=True)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (asking("hamlet " * 600), "has room for"),
        (asking("hamlet", choices=("somewhat relevant",)), "no single token"),
        (asking("hamlet", options={"seed": 1}), "no use for 'seed'"),
        (asking("hamlet", options={"nonsense": 1}), "no use for 'nonsense'"),
    ],
)
def test_what_cannot_be_answered_here_fails_alone(local, bad, says):
    written, chosen = asking("hamlet"), asking("hamlet", choices=("yes", "no"))
    alone = together(local, written)[0], together(local, chosen)[0]
    first, error, second = together(local, written, bad, chosen)
    assert (first, second) == alone and isinstance(error, InputError) and says in str(error)


def test_what_stops_a_run_reaches_all_of_it_and_nobody_else(local, monkeypatch):
    monkeypatch.setattr(local, "_written", lambda asked: 1 / 0)
    found = together(local, asking("a"), asking("b"), asking("c", choices=("yes", "no")))
    assert [type(f).__name__ for f in found] == ["ZeroDivisionError", "ZeroDivisionError", "Reply"]


def test_callers_of_one_model_do_not_share_their_errors(local):
    "Two threads, one of which asks for what no token writes"
    from rerankers.llm.recipes import yes_no

    sound = Reranker("m", model_type="llm-yes-no", client=local)
    odd = Reranker("m", model_type="llm-yes-no", client=local, recipe=replace(yes_no, grades={"relevant enough": 1.0, "no": 0.0}))
    hit = []

    def use(asked, times):
        for _ in range(times):
            try:
                asked.rank("hamlet", DOCS)
            except InputError as error:
                hit.append((asked, error))

    threads = [Thread(target=use, args=(who, 15)) for who in (sound, odd)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [who for who, _ in hit] == [odd] * 15


FORK = """
import os, sys, warnings
import torch
warnings.simplefilter("ignore", DeprecationWarning)
torch.set_num_threads(1)
from rerankers import Reranker
ranker = Reranker(sys.argv[1], model_type="first", chat_template=sys.argv[2], device="cpu")
order = lambda: [r.doc_id for r in ranker.rank("hamlet?", ["a passage", "another", "a third"])]
before = order()
child = os.fork()
if not child:
    try: os._exit(0 if order() == before else 2)
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
assert order() == before    # meanwhile
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert order() == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_asks_its_own_copy(folder):
    env = os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    assert NURSERY.script(FORK, str(folder), PLAIN, env=env, timeout=60) == (0, "", ""), "a negative status: it waits for ever"


def test_the_tokens_of_a_choice_are_looked_up_once_and_without_the_whole_vocabulary(local, monkeypatch):
    from rerankers.llm import local as module

    looked, vocabulary = [], local.tokenizer.get_vocab()
    monkeypatch.setattr(type(local.tokenizer), "get_vocab", lambda self: pytest.fail("a copy of the vocabulary, for one word"))
    whole = module.choice_ids
    monkeypatch.setattr(module, "choice_ids", lambda *args: looked.append(args[1]) or whole(*args))
    for _ in range(3):
        together(local, *[asking(text, choices=("yes", "no")) for text in ("hamlet", "faust")])
    assert looked == ["yes", "no"]
    assert {vocabulary[piece] for piece in ("▁yes", "▁Yes", "yes", "Yes")} == set(local.spelled["yes", ""])
    assert module.piece_id(local.tokenizer, "▁hamlet and more") is None


def test_a_form_of_the_answer_is_logged_and_left_out(local, caplog):
    caplog.set_level("INFO", logger="rerankers")
    results = Reranker("m", model_type="rankgpt", recipe="structured", client=local, on_error="keep", max_tokens=4, window_size=2).rank("hamlet", DOCS)
    assert len(results) == len(DOCS) and caplog.text.count("writes without response_format") == 1


def test_top_p_counts_where_the_temperature_is_the_models_own(local):
    from rerankers.llm.local import sampled

    assert sampled(asking("x", temperature=None, options={"top_p": 0.5}), local.tokenizer) == {"top_p": 0.5}
    assert sampled(asking("x", options={"top_p": 0.5}), local.tokenizer)["top_p"] is None, "greedy"


@pytest.mark.parametrize(("template", "shown"), [(SILENT, "<user> You rank.\n\nwho?\n<assistant>"), (TRIMS, "<system> You rank.\n<user> who?\n<assistant>")])
def test_a_template_that_leaves_out_the_systems_words_does_not_lose_them(local, template, shown):
    from rerankers.llm.local import in_format

    talk = [{"role": "system", "content": " You rank.\n"}, {"role": "user", "content": "who?"}]
    assert in_format(local.tokenizer, talk, template, {}).replace("You rank.\n\n\n", "You rank.\n\n") == shown
    assert talk[0]["content"] == " You rank.\n", "the caller's own"


def test_the_systems_words_alone_are_the_users():
    from rerankers.llm.local import folded

    assert folded([{"role": "system", "content": "You rank."}]) == [{"role": "user", "content": "You rank."}]


@pytest.mark.parametrize("template", [RAISES, "{% for m in messages %}"])
def test_a_template_that_fails_is_said_to(local, template):
    from rerankers.llm.local import in_format

    with pytest.raises(ModelLoadError, match="tiny: its chat format cannot be used"):
        in_format(local.tokenizer, [{"role": "user", "content": "who?"}], template, {}, "tiny")
