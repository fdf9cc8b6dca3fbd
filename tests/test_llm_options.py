"What a caller writes around a chat model: words and calls of rerankers 0.10, and options that the chosen client has no use for"
import asyncio
import copy
import re
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from official import Some, pulled, wheel
from crowd import FOR_EVER, Crowd
from servers import Say, Scripted

from rerankers import Document, Reranker
from rerankers.errors import InputError, RateLimitError
from rerankers.llm.chat import FunctionClient
from rerankers.strategies.plans import PLANS, plan, rehearse
from rerankers.registry import choose

SHOWN = re.compile(r"\[(\d+)\] (\d+)$")


def by_number(messages):
    "RankGPT's model: the passages are numbers, the greatest is best"
    shown = [SHOWN.match(m["content"]).groups() for m in messages if m["role"] == "user" and SHOWN.match(m["content"])]
    return " > ".join(f"[{i}]" for i, _ in sorted(shown, key=lambda s: -int(s[1])))


# ---- a part of the list

def old_rank(docs, start, end):
    "What 0.10's `rank(query, docs, rank_start=…, rank_end=…)` makes of documents that all differ"
    them = pulled(wheel("rerankers==0.10.0")/"rerankers/models/rankgpt_rankers.py", "get_prefix_prompt", "get_post_prompt", "create_permutation_instruction",
                  "clean_response", "remove_duplicate", "receive_permutation", "make_item", "RankGPTRanker.rank", copy=copy, vprint=lambda *a: None,
                  prep_docs=lambda docs, *a: [Document(d) for d in docs], List=list, Dict=dict, Optional=Some, Union=dict,
                  Result=lambda document, rank: document.text, RankedResults=lambda results, **kwargs: results, Document=Document)
    model = Some(model="gpt-4", lang="en", verbose=0, _query_llm=by_number)
    return them.rank(model, "which?", docs, rank_start=start, rank_end=end)


@pytest.mark.parametrize("start, end", [(0, 8), (0, 3), (2, 6), (5, 8), (3, 4), (0, 100)])
def test_the_call_that_worked_in_0_10(start, end):
    docs = [str(n) for n in (3, 1, 4, 15, 9, 2, 6, 5)]
    results = Reranker("rankgpt", client=by_number).rank("which?", docs, rank_start=start, rank_end=end)
    assert [r.text for r in results] == old_rank(docs, start, end)
    assert [r.rank for r in results] == list(range(1, 9))


@pytest.mark.parametrize("word", ["rankgpt", "lrl", "rankllm", "rankzephyr", "first", "gpt-4o"])
def test_who_takes_a_part(word):
    asked = []

    def silent(messages): return asked.append(messages[-1]["content"]) or "nothing"
    results = Reranker(word, client=silent, on_error="keep").rank("which?", [f"<{i}>" for i in range(9)], rank_start=2, rank_end=5)
    assert [r.doc_id for r in results] == list(range(9)) and results.usage.calls == 1
    assert "<1>" not in asked[0] and "<5>" not in asked[0]


@pytest.mark.parametrize("strategy", [word for word in PLANS if word != "pairs-sliding"])
def test_any_strategy_on_a_part(strategy):
    docs = [str(n) for n in (3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 93, 23, 84)]
    ranker = Reranker("rankgpt", client=by_number, strategy=strategy)
    results = ranker.rank("which?", docs, rank_start=1, rank_end=12)
    assert [r.text for r in results][0] == "3" and [r.text for r in results][12:] == ["23", "84"]
    assert results[1].text == "97" and sorted(r.doc_id for r in results) == list(range(14))
    again = asyncio.run(ranker.rank_async("which?", docs, rank_start=1, rank_end=12))
    assert [r.doc_id for r in again] == [r.doc_id for r in results]


def test_a_part_keeps_the_rest_of_the_call():
    docs = [str(n) for n in (3, 1, 4, 15)]
    ranker = Reranker("rankgpt", client=by_number)
    results = ranker.rank("which?", docs, ["a", "b", "c", "d"], [{"n": n} for n in range(4)], top_k=3, rank_start=1)
    assert [(r.doc_id, r.metadata["n"]) for r in results] == [("a", 0), ("d", 3), ("c", 2)]
    assert [r.text for r in ranker.rank("which?", docs)] == ["15", "4", "3", "1"], "the ranker itself is as it was"
    assert [r.text for r in ranker.rank("which?", docs, rank_start=7)] == docs
    assert ranker.rank("which?", [], rank_end=3).results == []
    long = Reranker("rankgpt", client=by_number, max_words=1).rank("which?", ["1", "2 words", "3"], rank_start=1)
    assert [r.truncated for r in long] == [False, False, True]


@pytest.mark.parametrize("part, said", [({"rank_start": -1}, "rank_start=-1"), ({"rank_end": "50"}, "rank_end='50'"), ({"rank_end": True}, "rank_end=True"),
                                        ({"rank_start": 5, "rank_end": 2}, "rank_end=2 is before rank_start=5")])
def test_no_part(part, said):
    with pytest.raises(InputError, match=said): Reranker("rankgpt", client=by_number).rank("which?", ["1", "2"], **part)


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
def test_what_is_outside_stays(n, start, end):
    from rerankers.backends.rankgpt import within_part
    end = end and max(start, end)
    strategy = within_part(plan("sliding", window=6, stride=3), slice(start, end or None))
    order = rehearse(strategy(n), lambda request: list(reversed(range(len(request))))).ranking.order
    assert sorted(order) == list(range(n))
    assert all(order[i] == i for i in range(n) if i < start or i >= (end or n))


# ---- the words of 0.10

def test_the_default_of_rankllm_is_a_gpt():
    old = pulled(wheel("rerankers==0.10.0")/"rerankers/reranker.py", "DEFAULTS").DEFAULTS["rankllm"]
    assert old == {"en": "gpt-4o", "other": "gpt-4o"}
    for lang in ("en", "fr"):
        ranker = Reranker("rankllm", lang=lang, api_key="sk-mine")
        assert (ranker.model, type(ranker.client).__name__, ranker.recipe.prompt.received[:8]) == ("gpt-4.1", "OpenAIClient", "Received")


@pytest.mark.parametrize("word", ["rankzephyr", "zephyr", "rankvicuna", "vicuna", "first", "reasonrank", "rank-k"])
def test_open_models_stay_here(word):
    choice = choose(word)
    assert "/" in choice.model and next(iter(choice.backend.requires)) == "transformers"
    assert next(iter(choose("rankllm").backend.requires)) == "api"


# ---- options without a use

nobody = httpx.MockTransport(lambda request: httpx.Response(500))
ASKED = {"api_key": "sk-secret", "prices": (1.0, 1.0), "timeout": 0.5, "connect_timeout": 1.0, "retries": 0, "backoff": 0.1, "longest_wait": 1.0,
         "concurrency": 2, "headers": {"a": "b"}, "extra_body": {"reasoning_effort": "low"}, "transport": nobody}
LOADED = {"chat_template": "{{ messages }}", "template_kwargs": {"enable_thinking": False}, "model_kwargs": {"num_labels": 1},
          "tokenizer_kwargs": {}, "trust_remote_code": True, "revision": "main", "token": "hf-secret", "cache_dir": "/tmp", "pack_weights": False}


@pytest.fixture(scope="module")
def tiny():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from rerankers.tiny_models import tiny_language_model
    return tiny_language_model("llama")


@pytest.mark.parametrize("option", ASKED)
def test_a_local_model_has_no_use_for_a_servers_options(tiny, option):
    with pytest.raises(InputError, match=f"no use for {option}=") as error: Reranker(tiny, model_type="rankgpt", device="cpu", **{option: ASKED[option]})
    assert "secret" not in str(error.value) and "base_url=" in str(error.value)


@pytest.mark.parametrize("option", LOADED)
def test_a_server_has_no_use_for_a_local_models_options(option):
    with pytest.raises(InputError, match=f"no use for {option}=") as error: Reranker("gpt-4o", api_key="sk-mine", **{option: LOADED[option]})
    assert "secret" not in str(error.value) and "client='local'" in str(error.value)


@pytest.mark.parametrize("option", [option for option in (*ASKED, *LOADED) if option != "concurrency"])
def test_a_function_has_no_use_for_either(option):
    with pytest.raises(InputError, match=f"no use for {option}="): Reranker("rankgpt", client=by_number, **{option: (ASKED | LOADED)[option]})


def test_a_client_of_ones_own_has_its_own_options():
    client = FunctionClient(by_number)
    for option, value in {"api_key": "sk-mine", "context": 4096, "chat_template": "x"}.items():
        with pytest.raises(InputError, match=f"no use for {option}="): Reranker("rankgpt", client=client, **{option: value})
    assert client.context is None


def test_several_are_named_together():
    with pytest.raises(InputError, match="no use for api_key=, timeout=: "): Reranker("rankgpt", client=by_number, api_key="k", timeout=3)


def test_litellm_takes_prices_and_no_transport():
    assert Reranker("openai/gpt-4o", api_key="k", prices=(1.0, 2.0)).client.prices == (1.0, 2.0)
    with pytest.raises(InputError, match="no use for transport="): Reranker("openai/gpt-4o", api_key="k", transport=nobody)


def test_defaults_and_universal_options_are_no_wishes(tiny):
    "Every method takes device and dtype, as in 0.10"
    Reranker("gpt-4o", api_key="k", device="cuda", dtype="float16", timeout=120.0, chat_template=None, gguf_file=None)
    Reranker(tiny, model_type="rankgpt", device="cpu", timeout=120.0, retries=3, headers=None)


@pytest.mark.parametrize("word", ["rankzephyr", "rankvicuna", "first"])
def test_what_a_backend_knows_of_its_models_is_no_wish(word):
    served = Reranker(word, base_url="http://127.0.0.1:8000/v1", transport=nobody)
    assert served.client.context == 4096
    assert Reranker(word, client=by_number).client.context == 4096
    assert Reranker(word, client=FunctionClient(by_number)).client.context is None


def test_a_function_may_have_a_context():
    asked = []

    def answer(messages): return asked.append(messages[3]["content"]) or "[1]"
    results = Reranker("rankgpt", client=answer, context=500).rank("which?", ["word " * 290, "short"])
    assert [r.truncated for r in results] == [True, False] and len(asked[0].split()) < 250
    with pytest.raises(InputError, match="context=0"): Reranker("rankgpt", client=answer, context=0)


# ---- functions that answer

@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_no_more_calls_of_a_function_than_were_allowed(kind):
    crowd = Crowd(3)

    def plain(messages):
        with crowd: return by_number(messages)

    async def coroutine(messages):
        async with crowd: return by_number(messages)

    found = Reranker("rankgpt", client={"plain": plain, "coroutine": coroutine}[kind], concurrency=3).rank_many([f"query {i}" for i in range(12)], ["1", "2"])
    assert len(found) == 12 and crowd.most == 3


def test_a_coroutine_function_stays_in_the_callers_loop():
    "It may hold a lock or a connection that belongs there"
    async def crowd():
        loop, lock, seen = asyncio.get_running_loop(), asyncio.Lock(), set()

        async def answer(messages):
            seen.add(asyncio.get_running_loop())
            async with lock: await asyncio.sleep(0.001)
            return by_number(messages)

        ranker = Reranker("rankgpt", client=answer)
        waiting = asyncio.gather(*(ranker.rank_async(f"query {i}", ["1", "2"]) for i in range(5)))
        assert all(results[0].text == "2" for results in await asyncio.wait_for(waiting, FOR_EVER)) and seen == {loop}

    asyncio.run(crowd())


# ---- an empty account

REFUSALS = [Say({"error": {"message": "no credit", "code": "insufficient_quota"}}, 429), Say({"error": {"message": "pay first"}}, 402)]

@pytest.mark.parametrize("refusal", REFUSALS, ids=["quota", "402"])
def test_an_empty_account_ends_the_call_also_where_windows_are_kept(refusal):
    "Every other window would cost a request and get the same answer"
    with Scripted([refusal]) as server:
        ranker = Reranker("m", model_type="rankgpt", base_url=server.url, on_error="keep", retries=3, backoff=0.001, concurrency=1)
        with pytest.raises(RateLimitError): ranker.rank("query", [f"passage {i}" for i in range(100)])
    assert len(server.seen) == 1
