"Setwise, pairwise and TourRank through a chat model: prompts that a perfect reader can answer, answers that nobody can read, chances, pooling"
import asyncio
import importlib.util
import json
import math
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closeness import FLOOR, STEP, STEPS, near
from crowd import Crowd
from rerankers import InputError, Reranker, UnusableAnswer
from rerankers.backends.pairwise import PairwiseLLMRanker
from rerankers.backends.setwise import ALONE, RankR1Ranker, SetwiseLLMRanker
from rerankers.backends.tourrank import TourRankRanker
from rerankers.errors import ServerError
from rerankers.llm.chat import ChatClient, Reply
from rerankers.strategies.plans import PLANS, plan, rehearse
from rerankers.llm.recipes import PAIRWISE, SETWISE
from rerankers.strategies.basics import Oracle
from rerankers.rankers import Ranking
from rerankers.results import Usage
from rerankers.testing import CHECKS

QUERY = "which report is the latest?"
WORDS = ("setwise", "rank-r1", "prp", "tourrank")


def reports(n, seed=0):
    "Documents with a year each, in any order, and their positions from the latest"
    years = random.Random(seed).sample(range(1000, 3000), n)
    return [f"A report\non the bridge \"Elbe\", written in {y}." for y in years], sorted(range(n), key=lambda i: -years[i])


def year(text):
    return max(map(int, re.findall(r"\b\d{4}\b", text)), default=0)


# ---------- how warm the model is

@pytest.mark.parametrize("word, warmth", [("tourrank", None), ("setwise", 0.0), ("prp", 0.0), ("rank-r1", 0.0)])
def test_a_method_whose_authors_leave_the_temperature_to_the_server_does_so(word, warmth):
    httpx = pytest.importorskip("httpx")
    bodies = []

    def server(request):
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"choices": [{"message": {"content": perfect(bodies[-1]["messages"])}}]})
    for chosen in (None, 0.7, 0.0):
        bodies.clear()
        Reranker("gpt-4.1-mini", model_type=word, api_key="k", transport=httpx.MockTransport(server), temperature=chosen, scoring="generation").rank(
            QUERY, reports(6)[0])
        wanted = warmth if chosen is None else chosen
        assert bodies and all(("temperature" in body) == (wanted is not None) and body.get("temperature") == wanted for body in bodies)


# ---------- a perfect reader for every prompt: it knows nothing but the messages


def shown(messages):
    "The method that asks, and labels and texts of the documents"
    last = messages[-1]["content"]
    if found := re.findall(r'Passage ([A-Z]): "(.*?)"\n\n', last, re.S): return "letter", found
    if turns := [m.groups() for x in messages[3:-1:2] if (m := re.fullmatch(r"Document (\d+): (.*)", x["content"], re.S))]: return "document", turns
    return "number", re.findall(r"^\[(\d+)\]:? (.*?)(?=\n\[|\n\nAfter|\nAfter|\Z)", last, re.S | re.M)


def perfect(messages):
    "The right answer in the form that the prompt wants; of equal documents the first"
    method, documents = shown(messages)
    best = sorted(documents, key=lambda d: -year(d[1]))
    if method == "letter": return f"Passage {best[0][0]}"
    if method == "number": return f"<think>[1], or [2]? no</think>\n<answer>[{best[0][0]}]</answer>"
    most = int(re.search(r"top (\d+) documents", messages[-1]["content"])[1])
    return ", ".join(f"Document {label}" for label, _ in best[:most])


def first_always(messages):
    "Likes the first place, whatever is there"
    method, documents = shown(messages)
    return {"letter": "Passage A", "number": "<answer>[1]</answer>", "document": "Document 1"}[method]


class Counting(ChatClient):
    "The perfect reader as a client: takes its time, counts tokens, tells chances"
    model = "counting"

    def __init__(self, together=0, sure=20.0, supports_prefill=False):
        self.crowd, self.sure, self.supports_prefill, self.requests = Crowd(together), sure, supports_prefill, []

    @property
    def most(self): return self.crowd.most

    async def reply(self, request):
        async with self.crowd: self.requests.append(request)
        said = perfect([dict(m) for m in request.messages])
        usage = Usage(1, sum(len(m["content"]) for m in request.messages), len(said))
        return Reply(said, {c: 0.0 if said.endswith(c) else -self.sure for c in request.choices}, usage)


# ---------- exact, for the calls that are promised

EXACT = [   # word, options, the plan and its options, about as many calls for n = 100 and the ten best
    ("setwise", {"window_size": 3}, ("setwise", {"children": 2}), (126, 145)), ("setwise", {}, ("setwise", {"children": 3}), (75, 90)),
    ("setwise", {"window_size": 10}, ("setwise", {"children": 9}), (28, 33)), ("setwise", {"window_size": 20}, ("setwise", {"children": 19}), (20, 25)),
    ("setwise", {"strategy_options": {"children": 9}}, ("setwise", {"children": 9}), (28, 33)),
    ("setwise", {"strategy": "setwise-bubble", "window_size": 3}, ("setwise-bubble", {"children": 2}), (300, 474)),
    ("rank-r1", {}, ("setwise", {"children": 19}), (20, 25)),
    ("rank-r1", {"recipe": "rank-r1-v0.2", "window_size": 10}, ("setwise", {"children": 9}), (28, 33)),
    ("prp", {}, ("pairs-sliding", {}), (1500, 1861)), ("prp", {"passes": 3}, ("pairs-sliding", {"passes": 3}), (500, 588)),
    ("prp", {"strategy": "pairs-sorting"}, ("pairs-sorting", {}), (508, 553)), ("prp", {"strategy": "pairs"}, ("pairs", {}), (9900, 9900))]


@pytest.mark.parametrize(("word", "options", "same", "calls"), EXACT, ids=[f"{word} {options}" for word, options, _, _ in EXACT])
def test_a_perfect_reader_finds_the_ten_best_of_a_hundred(word, options, same, calls):
    "With exactly the calls that the strategy takes with a judge who needs no prompt; on average about as many as the spec says"
    used = []
    for seed in range(1 if same[0] == "pairs" else 3):
        docs, best = reports(100, seed)
        client, top = Counting(), options.get("passes", 10)
        results = Reranker(word, client=client, **options).rank(QUERY, docs)
        assert [r.doc_id for r in results][:top] == best[:top] and sorted(r.doc_id for r in results) == list(range(100)) and not results.faults
        judged = rehearse(plan(same[0], **same[1])(100), Oracle([year(d) for d in docs]).prefer)
        assert results.usage.calls == len(client.requests) == judged.calls
        used.append(judged.calls)
    assert calls[0] <= mean(used) <= calls[1]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 11, 21])
@pytest.mark.parametrize("word", WORDS)
def test_any_number_of_documents(word, n):
    docs, best = reports(n)
    results = Reranker(word, client=perfect).rank(QUERY, docs)
    assert sorted(r.doc_id for r in results) == list(range(n))
    if word != "tourrank": assert [r.doc_id for r in results][:10] == best[:10]
    elif n > 2: assert {r.doc_id for r in results[:2]} == set(best[:2])


@pytest.mark.parametrize("rounds", [1, 3])
def test_tourrank_takes_thirteen_calls_and_five_steps_a_round(rounds):
    docs, best = reports(100)
    client = Counting(together=5 * rounds)
    results = Reranker("tourrank", client=client, strategy_options={"rounds": rounds}).rank(QUERY, docs)
    assert results.usage.calls == 13 * rounds and client.most == 5 * rounds
    assert {r.doc_id for r in results[:2]} == set(best[:2]) and results[0].score == 5.0 * rounds
    assert Counter(len(shown(r.messages)[1]) for r in client.requests) == {20: 6 * rounds, 10: 6 * rounds, 5: rounds}


def test_documents_shown_at_once_are_what_the_caller_says():
    docs, _ = reports(60)
    bubble, sliding = {"strategy": "setwise-bubble"}, {"strategy": "sliding"}
    for word, options in (("setwise", {}), ("setwise", bubble), ("setwise", sliding), ("rank-r1", {}), ("tourrank", {})):
        client = Counting()
        Reranker(word, client=client, window_size=7, **options).rank(QUERY, docs)
        most = max(len(shown(r.messages)[1]) for r in client.requests)
        assert most == 7 or word == "tourrank" and most == 6       # equal groups
    with pytest.raises(InputError, match="no option 'window'"): Reranker("prp", client=perfect, window_size=7)
    with pytest.raises(InputError, match="children=0"): Reranker("setwise", client=perfect, window_size=1)
    with pytest.raises(InputError, match="group"): Reranker("tourrank", client=perfect, window_size=2)


# ---------- answers that say nothing

async def refuses(messages): return "Sorry, but this cannot be answered."


def both_ways(messages):
    "The right order, choice or selection, in the form that the prompt wants"
    method, documents = shown(messages)
    if method != "number" or "<answer>" in str(messages): return perfect(messages)
    return " > ".join(f"[{label}]" for label, _ in sorted(documents, key=lambda d: -year(d[1])))


ASKED = [("rankgpt", {"recipe": "rankgpt-single"}), ("setwise", {}), ("rank-r1", {}), ("prp", {}), ("tourrank", {}), ("llm-yes-no", {})]
REFUSED = {("prp", "tourrank"): "give at least 3", ("prp", "tournament"): "at most half", ("prp", "single"): "about two",
           **{("llm-yes-no", name): "each document alone" for name in PLANS}}


def combinations():
    return [pytest.param(word, options, name, id=f"{word} {name}") for word, options in ASKED for name in PLANS]


@pytest.mark.parametrize(("word", "options", "name"), combinations())
def test_every_method_with_every_strategy_works_or_is_refused_at_once(word, options, name):
    if (word, name) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[word, name]): Reranker(word, client=both_ways, strategy=name, **options)
        return
    for n in (1, 2, 25):
        docs, best = reports(n)
        results = Reranker(word, client=both_ways, strategy=name, **options).rank(QUERY, docs)
        assert sorted(r.doc_id for r in results) == list(range(n))
        if name == "tourrank": assert word == "setwise" or results[0].doc_id in best[:2]     # the best of four in a stage is a point, no more
        else: assert results[0].doc_id == best[0]


@pytest.mark.parametrize("how", ["a refusal", "a broken server"])
@pytest.mark.parametrize(("word", "options", "name"), [c for c in combinations() if c.values[::2] not in REFUSED] + [("llm-yes-no", {}, None)])
def test_a_model_that_always_fails_leaves_the_order(word, options, name, how):
    class Broken(ChatClient):
        model = "broken"
        async def reply(self, request): raise ServerError("boom", status=500)
    client = refuses if how == "a refusal" else Broken()
    for n in (2, 20, 23 if name in ("single", "pairs") else 41):    # 26 letters; n(n - 1) calls
        results = Reranker(word, client=client, strategy=name, on_error="keep", **options).rank(QUERY, reports(n)[0])
        assert [r.doc_id for r in results] == sorted(r.doc_id for r in results)
        assert set(results.faults) == {"wrong_format" if how == "a refusal" else "failed"} and sum(results.faults.values()) >= 1


def test_only_selected_documents_get_points():
    def best_alone(messages): return perfect(messages).partition(",")[0]
    docs, best = reports(20)
    results = Reranker("tourrank", client=best_alone).rank(QUERY, docs)
    assert (results[0].doc_id, results[0].score, results.faults) == (best[0], 3.0, {"missing": 3})
    assert [r.doc_id for r in results[1:]] == [i for i in range(20) if i != best[0]] and {r.score for r in results[1:]} == {0.0}
    ordering = Reranker("rankgpt", client=lambda m: both_ways(m).partition(" >")[0], recipe="rankgpt-single", strategy="tourrank").rank(QUERY, docs)
    assert [(r.doc_id, r.score) for r in ordering] == [(r.doc_id, r.score) for r in results]


def test_what_is_selected_without_a_number_is_the_better_half_or_the_best():
    for name, most in (("sliding", 10), ("setwise", 1)):
        client = Counting()
        Reranker("tourrank", client=client, strategy=name).rank(QUERY, reports(20)[0])
        assert f"top {most} documents" in client.requests[0].messages[-1]["content"]


@pytest.mark.parametrize(("word", "options"), [("setwise", {}), ("setwise", {"strategy": "setwise-bubble"}), ("rank-r1", {}), ("prp", {}),
                                               ("prp", {"strategy": "pairs-sorting"}), ("rankgpt", {"recipe": "rankgpt-single", "strategy": "blitz"})])
def test_twenty_results_are_the_twenty_best(word, options):
    docs, best = reports(50)
    ranker = Reranker(word, client=both_ways, **options)
    assert [r.doc_id for r in ranker.rank(QUERY, docs, top_k=20)] == best[:20]
    assert [[r.doc_id for r in results] for results in ranker.rank_many([QUERY] * 2, docs, top_k=12)] == [best[:12]] * 2
    assert [r.doc_id for r in asyncio.run(ranker.rank_async(QUERY, docs, top_k=15))] == best[:15]
    assert ranker.rank(QUERY, docs, top_k=3).usage == ranker.rank(QUERY, docs).usage
    chosen = Reranker(word, client=both_ways, top=3, **options)
    assert chosen.rank(QUERY, docs, top_k=20).usage == chosen.rank(QUERY, docs).usage       # a number that the caller has chosen is kept


STRATEGIES = [("setwise", "setwise"), ("setwise", "setwise-bubble"), ("rank-r1", "setwise"), ("prp", "pairs"), ("prp", "pairs-sorting"),
              ("prp", "pairs-sliding"), ("tourrank", "tourrank")]
TWICE = ["the same text"] * 4 + ["", "another", "the same text", "x " * 900]


@pytest.mark.parametrize(("word", "strategy"), STRATEGIES)
def test_a_model_that_likes_the_first_place_loses_nobody(word, strategy):
    for docs in (reports(30)[0], TWICE):
        results = Reranker(word, client=first_always, strategy=strategy, on_error="keep").rank(QUERY, docs)
        assert [results.get_result_by_docid(i).text for i in range(len(docs))] == docs and len(results) == len(docs)
        if strategy in ("pairs", "pairs-sliding", "pairs-sorting"): assert [r.doc_id for r in results] == list(range(len(docs)))   # both orders cancel it


USELESS = ["", "none of them", "I'm sorry, but I can't help with that.", "<think>[2] or Document 3 or Passage B, let me see"]


@pytest.mark.parametrize("said", [*USELESS, None])
@pytest.mark.parametrize("word", WORDS)
def test_a_useless_answer_raises_or_is_kept_and_counted(word, said):
    def client(messages): return said
    docs, _ = reports(12)
    with pytest.raises(UnusableAnswer): Reranker(word, client=client).rank(QUERY, docs)
    kept = Reranker(word, client=client, on_error="keep").rank(QUERY, docs)
    assert [r.doc_id for r in kept] == list(range(12))
    asked = sum(kept.faults.values())
    assert asked > 0 and kept.usage.calls in (0, asked)     # a function that gives no text has no reply to count


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": "  "}]])
@pytest.mark.parametrize("word", WORDS)
def test_a_server_that_sends_no_content(word, content):
    httpx = pytest.importorskip("httpx")
    body = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}
    options = {"api_key": "sk-very-secret", "transport": httpx.MockTransport(lambda request: httpx.Response(200, json=body))}
    docs, _ = reports(6)
    with pytest.raises(UnusableAnswer) as error: Reranker("gpt-4.1-mini", model_type=word, **options).rank(QUERY, docs)
    assert "secret" not in str(error.value)
    kept = Reranker("gpt-4.1-mini", model_type=word, on_error="keep", **options).rank(QUERY, docs)
    assert [r.doc_id for r in kept] == list(range(6)) and kept.faults == {"wrong_format": kept.usage.calls}
    assert kept.usage.input_tokens == 7 * kept.usage.calls


MEANT = ["Passage B", "Passage Z", "A", "Document 2, Document 99", "<answer>[3]</answer>", "[0]"]


@pytest.mark.parametrize("word", WORDS)
@settings(max_examples=25)
@given(said=st.lists(st.one_of(st.text(max_size=30), st.sampled_from(MEANT)), min_size=1, max_size=4))
def test_whatever_is_said_the_result_is_a_permutation(word, said):
    left = iter(said * 10_000)
    results = Reranker(word, client=lambda messages: next(left), on_error="keep").rank(QUERY, reports(9)[0])
    assert sorted(r.doc_id for r in results) == list(range(9))


# ---------- chances


@pytest.mark.parametrize("begins", [True, False], ids=["begun", "not begun"])
@pytest.mark.parametrize(("word", "strategy"), [("setwise", "setwise"), ("setwise", "setwise-bubble"), ("prp", "pairs"), ("prp", "pairs-sorting"),
                                                ("prp", "pairs-sliding")])
def test_chances_of_a_confident_model_rank_as_its_words_do(word, strategy, begins):
    docs, best = reports(25)
    found = {}
    for scoring in ("generation", "likelihood"):
        client = Counting(supports_prefill=begins)
        found[scoring] = Reranker(word, client=client, strategy=strategy, scoring=scoring).rank(QUERY, docs)
        asked = client.requests[0]
        assert bool(asked.choices) == (scoring == "likelihood")
        assert (asked.prefill == "Passage") == (bool(asked.choices) and begins)
        assert asked.messages[-1]["content"].endswith(ALONE) == (bool(asked.choices) and not begins)
    assert [r.doc_id for r in found["likelihood"]] == [r.doc_id for r in found["generation"]]
    assert [r.doc_id for r in found["likelihood"]][:10] == best[:10]


def test_shares_are_the_chances_of_the_letters():
    ranker = Reranker("prp", client=Counting(sure=math.log(3)), strategy="pairs", scoring="likelihood")
    results = ranker.rank(QUERY, reports(2)[0])
    assert [r.score for r in results] == pytest.approx([1.5, 0.5])


def test_chances_that_a_server_does_not_tell_are_an_error():
    with pytest.raises(UnusableAnswer, match="on_error='keep'"): Reranker("setwise", client=perfect, scoring="likelihood").rank(QUERY, reports(4)[0])
    for word in ("rank-r1", "setwise"):
        ranker = Reranker(word, client=Counting(), recipe="rank-r1", scoring="likelihood")
        with pytest.raises(InputError, match="thinks first"): ranker.rank(QUERY, reports(4)[0])


# ---------- which prompt

NAMES = [(SetwiseLLMRanker, "gpt-4.1-mini", "setwise-openai"), (SetwiseLLMRanker, "openai/gpt-4.1-mini", "setwise-openai"),
         (SetwiseLLMRanker, "Qwen/Qwen3-8B", "setwise"), (SetwiseLLMRanker, "/models/mine", "setwise"),
         (SetwiseLLMRanker, "ielabgroup/Rank-R1-3B-v0.1", "rank-r1"),
         (RankR1Ranker, "ielabgroup/Rank-R1-14B-v0.2", "rank-r1-v0.2"), (RankR1Ranker, "gpt-4.1", "rank-r1"), (RankR1Ranker, "Qwen/Qwen3-8B", "rank-r1"),
         (PairwiseLLMRanker, "gpt-4.1-mini", "prp-openai"), (PairwiseLLMRanker, "anthropic/claude-haiku-4-5", "prp-openai"),
         (PairwiseLLMRanker, "meta-llama/Llama-3.1-8B-Instruct", "prp")]


@pytest.mark.parametrize(("made", "model", "recipe"), NAMES)
def test_the_prompt_follows_from_the_model(made, model, recipe):
    assert made(model, client=perfect).recipe == (SETWISE | PAIRWISE)[recipe]
    own = replace(SETWISE["setwise"], temperature=0.7)
    assert made(model, client=perfect, recipe=own).recipe == own


def test_the_default_model_has_a_price():
    found = importlib.util.find_spec("litellm")
    if found is None: pytest.skip("no litellm")
    prices = json.loads(Path(found.origin).with_name("model_prices_and_context_window_backup.json").read_text(encoding="utf-8"))
    for made in (SetwiseLLMRanker, PairwiseLLMRanker, TourRankRanker): assert prices[made.defaults["en"]]["input_cost_per_token"] < 1e-6


# ---------- the contract, pooling


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("word", [*WORDS, "pairwise"])
def test_contract(word, check):
    check(Reranker(word, client=perfect))


@pytest.mark.parametrize("word", WORDS)
def test_queries_do_not_wait_for_one_another_and_usage_adds_up(word):
    sets = [reports(n, seed=n)[0] for n in (30, 12, 1, 0, 25)]
    client = Counting(together=2)
    alone = [Reranker(word, client=Counting()).rank(QUERY, docs) for docs in sets]
    pooled = Reranker(word, client=client).rank_many([QUERY] * 5, sets)
    assert [[r.doc_id for r in results] for results in pooled] == [[r.doc_id for r in results] for results in alone]
    used = [r.usage for r in pooled if r]
    assert client.most > 1 and used == [r.usage for r in alone if r]
    assert sum(u.calls for u in used) == len(client.requests)
    assert sum(u.input_tokens for u in used) == sum(len(m["content"]) for request in client.requests for m in request.messages)
    limited = Counting(together=3)
    Reranker(word, client=limited).rank_many([QUERY] * 5, sets, batch_size=3)
    assert limited.most == 3


# ---------- models in this process

FORMAT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}<assistant> "
LOCAL = {"chat_template": FORMAT, "device": "cpu"}
DOCS = ["faust was written by goethe", "hamlet was written by william shakespeare", "the play was in london", "", "hamlet " * 20]


def once(n):
    "One question about everything"
    [shares] = yield [tuple(range(n))]
    return Ranking(scores=list(shares))


def letters_of(folder, query, docs):
    "In plain transformers: the softmax over the letters after `Passage`"
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = f"<user> {SETWISE['setwise'].messages(query, docs)[0]['content']}\n<assistant> Passage"
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    labels = tokenizer.convert_tokens_to_ids([chr(65 + i) for i in range(len(docs))])
    with torch.no_grad(): return model(ids).logits[0, -1, labels].softmax(-1).tolist()


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_chances_are_those_of_plain_transformers(architecture):
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_language_model
    folder = tiny_language_model(architecture)
    ranker = Reranker(folder, model_type="setwise", scoring="likelihood", strategy=once, **LOCAL)
    queries, sets = ["who wrote hamlet ?", "the play ?", "faust"], [DOCS, DOCS[::-1][:3], DOCS[1:4]]
    targets = [letters_of(folder, q, docs) for q, docs in zip(queries, sets)]
    for batch_size in (None, 1, 7):
        for q, docs, target, results in zip(queries, sets, targets, ranker.rank_many(queries, sets, batch_size=batch_size)):
            for found in (results, ranker.rank(q, docs, batch_size=batch_size)):
                assert [found.get_score_by_docid(i) for i in range(len(docs))] == near(target)


def test_a_rank_r1_adapter_is_merged_and_known_by_its_name(tmp_path):
    torch, peft, transformers = (pytest.importorskip(name) for name in ("torch", "peft", "transformers"))
    from rerankers.tiny_models import tiny_language_model
    base = tiny_language_model("qwen2", max_position_embeddings=4096)
    torch.manual_seed(3)
    tuned = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"],
                                init_lora_weights=False, task_type="CAUSAL_LM")).eval()
    tuned.save_pretrained(tmp_path / "Rank-R1-tiny-v0.2")
    ranker = Reranker(str(tmp_path / "Rank-R1-tiny-v0.2"), on_error="keep", max_tokens=6, **LOCAL)
    assert type(ranker) is RankR1Ranker and ranker.recipe == SETWISE["rank-r1-v0.2"]
    ids = torch.tensor([ranker.client.tokenizer("who wrote hamlet ?")["input_ids"]])
    with torch.no_grad(): ours, theirs, untuned = ranker.client.net(ids).logits, tuned(ids).logits, None
    with torch.no_grad(), tuned.disable_adapter(): untuned = tuned(ids).logits
    assert torch.allclose(ours, theirs, rtol=STEPS * STEP, atol=FLOOR) and not torch.allclose(ours, untuned, atol=1e-3)
    results = ranker.rank("who wrote hamlet ?", DOCS[:3])      # random weights think nothing that ends
    assert sorted(r.doc_id for r in results) == [0, 1, 2] and results.faults == {"wrong_format": results.usage.calls}
