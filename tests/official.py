"""The authors' own prompt code, run without what it depends on: single functions are taken out of their files.

Two kinds of origin. Wheels from PyPI, in `<sys.prefix>/official/<name>` (`.ci/run` puts them there): compared live.
GitHub repositories, which CI cannot reach: `python tests/official.py FOLDER` runs their code on `CASES` and prints the
hashes that test_prompts.py holds ours against. FOLDER has a checkout of each as `owner+name`, at the commits of `COMMITS`.
"""
import __future__
import ast
import hashlib
import json
import os
import random
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from enum import Enum
from pathlib import Path
from string import Formatter
from types import SimpleNamespace as Some

COMMITS = {
    "sunnweiwei+RankGPT": "0d62bc3855c7c118048a7c47c18e719b938e291a", "ielab+llm-rankers": "b36517bf17a3956dc56c4c967f972d02390b1cdd",
    "chenyiqun+TourRank": "bab7db3510eb9a0b7c78112ce7fe002a36144ea8", "hltcoe+rank-k": "ecdf232f239e2d7baa1671aab123abc9c484b7f3",
    "orionw+rank1": "30585c2f3166b3df03e3b8f2d496d6dc5db68a9b", "8421BCD+ReasonRank": "06721fd6ef3766c0e00d59a87d2696a0b4b0c17a",
    "castorini+umbrela": "e2c4e4126bf7b568d9230008b465a58445cabc30", "gangiswag+llm-reranker": "2d7cba423ad555064bdfc719313570b5f9525887",
    "lezhang7+Rearank": "abb4bd024b1ec65567f2a86195a62c3573d90d54", "8421BCD+fullrank": "3a5327006609a5b2d7b27869e84c22d783333172",
    "AnswerDotAI+rerankers": "7bb252179daaf1968eb9d49629c9cf48b0f9b5f2", "Mandeep-Rathee+llmgar": "aa5c3a68b6cf1e7ad71905e8e27275ada420a123",
}

# ---------- what is asked

QUERIES = ("who wrote Hamlet?", 'braces {query} {0} {{x}} "and" \\n', "谁写了《哈姆雷特》？")
TEXTS = ("Hamlet is a tragedy by Shakespeare.", "", "one", " ".join(f"word{i}" for i in range(500)), "a citation [12], [3] and {text} {label} {}",
         "  blanks \n\n and\ttabs  ",
         "莎士比亚写了《哈姆雷特》。", 'he said "no" </document> <b>', "café naïve 🎭 Ünïcödé", "Title: Content: Faust is by Goethe.")

def cases(sizes):
    "Every query with the first documents of several shuffles"
    shuffled = [random.Random(n).sample(TEXTS * 2, n) for n in sizes]
    return [(query, texts) for query in QUERIES for texts in shuffled]

SIZES = {"pairwise": (2, 2), "pointwise": (1,) * len(TEXTS), "setwise": (1, 2, 5), "listwise": (1, 2, 9, 20), "select": (2, 20), "filter": (1, 9)}

def fingerprint(conversations):
    "One hash for many lists of messages"
    return hashlib.sha256(json.dumps(conversations, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]

# ---------- taking functions out of files

def pulled(path, *names, **given):
    "Functions, classes and constants of a file as attributes; `Class.method` takes a method out as a function. Nothing else of the file runs"
    found = []
    for node in ast.parse(Path(path).read_text()).body:
        inner = [(f"{node.name}.", child) for child in node.body] if isinstance(node, ast.ClassDef) else []
        for prefix, child in [("", node), *inner]:
            called = child.targets[0].id if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) else getattr(child, "name", None)
            if f"{prefix}{called}" in names:
                if prefix: child.decorator_list = []
                found.append(child)
    assert len(found) >= len(names), f"{path} lacks some of {names}"
    space = {"re": re, "ABC": ABC, "abstractmethod": abstractmethod, "Enum": Enum, "Counter": Counter, "Formatter": Formatter,
             "fix_text": lambda text: text} | given
    exec(compile(ast.Module(found, []), str(path), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True), space)
    return Some(**space)

class Caught(Exception):
    "Carries what would have been sent"

def caught(call):
    "What `call` tried to send"
    try: call()
    except Caught as sent: return sent.args[0]
    raise AssertionError("nothing was sent")

def send(messages=None, *args, **kwargs): raise Caught(kwargs.get("messages", messages))

def send_options(**options): raise Caught(options)

def user(text): return [{"role": "user", "content": text}]

def docs_of(texts): return [Some(text=text) for text in texts]

# ---------- the wheels from PyPI

def wheel(name):
    "The unpacked wheel, for tests: may be missing on a laptop, never in CI"
    import pytest
    folder = Path(sys.prefix)/"official"/name
    if folder.is_dir(): return folder
    if os.environ.get("CI") == "true": pytest.fail(f"{folder} is missing")
    pytest.skip(f"no {folder}: pip install --no-deps --ignore-requires-python --target {folder} {name}")

def rank_llm_template(name):
    "How rank-llm 0.26 fills one of its YAML templates: (query, texts, letters, scores) -> messages"
    import yaml
    folder = wheel("rank-llm==0.26.0")/"rank_llm/rerank"
    template = yaml.safe_load((folder/f"prompt_templates/{name}_template.yaml").read_text())
    base = pulled(folder/"inference_handler.py", "BaseInferenceHandler")
    listwise = pulled(folder/"listwise/listwise_inference_handler.py", "ListwiseInferenceHandler", BaseInferenceHandler=base.BaseInferenceHandler)
    kind, cls = {"multiturn_listwise": ("multiturn", "MultiTurnListwiseInferenceHandler"),
                 "singleturn_listwise": ("singleturn", "SingleTurnListwiseInferenceHandler")}[template["method"]]
    them = pulled(folder/f"listwise/{kind}_listwise_inference_handler.py", cls, ListwiseInferenceHandler=listwise.ListwiseInferenceHandler)
    handler = object.__new__(getattr(them, cls))      # without its constructor, which checks the template and prints
    handler.template, handler._formatter = template, Formatter()
    def ask(query, texts, letters=False, scores=None):
        shown = [Some(doc={"text": text}, score=score) for text, score in zip(texts, scores or [0.0] * len(texts))]
        return handler.generate_prompt(Some(query=Some(text=query), candidates=shown), rank_start=0, rank_end=len(texts), max_length=300, use_alpha=letters)
    return ask

def rank_llm_0_20(query, texts, letters=False, variable_passages=True, system=None):
    "The prompt that RankVicuna's and RankZephyr's checkpoints were trained with, as rank-llm 0.20.3 makes it for twenty documents"
    folder = wheel("rank-llm==0.20.3")/"rank_llm/rerank/listwise"
    prompts = pulled(folder/"rank_listwise_os_llm.py", *(f"RankListwiseOSLLM.{name}" for name in ("create_prompt", "_add_prefix_prompt", "_add_post_prompt")),
                     ALPH_START_IDX=ord("A") - 1)
    shorten = pulled(folder/"listwise_rankllm.py", "ListwiseRankLLM._replace_number", "ListwiseRankLLM.convert_doc_to_prompt_content")
    them = type("Them", (), {name: value for name, value in (vars(prompts) | vars(shorten)).items() if callable(value) and not isinstance(value, type)})()
    vars(them).update(_vllm_batched=True, _system_message=system, _use_alpha=letters, _variable_passages=variable_passages, _tokenizer=WordTokenizer(),
                      _add_few_shot_examples_messages=lambda messages: messages)
    return caught(lambda: them.create_prompt(Some(query=Some(text=query), candidates=candidates(texts)), 0, len(texts)))

# ---------- the repositories on GitHub: (folder) -> (query, texts) -> messages

def rankgpt(root):
    them = pulled(root/"sunnweiwei+RankGPT/rank_gpt.py", "get_prefix_prompt", "get_post_prompt", "create_permutation_instruction")
    return lambda query, texts: them.create_permutation_instruction({"query": query, "hits": [{"content": t} for t in texts]})

def rankgpt_completion(root):
    them = pulled(root/"ielab+llm-rankers/llmrankers/listwise.py", "create_permutation_instruction_complete")
    return lambda query, texts: user(them.create_permutation_instruction_complete(query, docs_of(texts)))

def setwise(root):
    them = pulled(root/"ielab+llm-rankers/llmrankers/setwise.py", "SetwiseLlmRanker.compare", "SetwiseLlmRanker.CHARACTERS")
    self = Some(total_compare=0, num_permutation=1, scoring="generation", config=Some(model_type="t5"), CHARACTERS=them.CHARACTERS,
                tokenizer=lambda text, **kwargs: send(user(text)))
    return lambda query, texts: caught(lambda: them.compare(self, query, docs_of(texts)))

def openai_stub(): return Some(ChatCompletion=Some(create=send), error=Some(**{name: ZeroDivisionError for name in (
    "APIError", "APIConnectionError", "RateLimitError", "InvalidRequestError", "AuthenticationError", "Timeout", "ServiceUnavailableError")}))

def constant(path, cls, name):
    "A text that the constructor of a class gives to an attribute"
    [body] = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.name == cls]
    return next(n.value.value for n in ast.walk(body) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
                and isinstance(n.targets[0], ast.Attribute) and n.targets[0].attr == name)

def setwise_openai(root):
    path = root/"ielab+llm-rankers/llmrankers/setwise.py"
    characters = pulled(path, "SetwiseLlmRanker.CHARACTERS").CHARACTERS
    them = pulled(path, "OpenAiSetwiseLlmRanker.compare", openai=openai_stub(), print=lambda *a: None)
    self = Some(total_compare=0, CHARACTERS=characters, llm="", system_prompt=constant(path, "OpenAiSetwiseLlmRanker", "system_prompt"))
    return lambda query, texts: caught(lambda: them.compare(self, query, docs_of(texts)))

def prp(root):
    prompt = constant(root/"ielab+llm-rankers/llmrankers/pairwise.py", "PairwiseLlmRanker", "prompt")
    return lambda query, texts: user(prompt.format(query=query, doc1=texts[0], doc2=texts[1]))

def prp_openai(root):
    path = root/"ielab+llm-rankers/llmrankers/pairwise.py"
    prompt, system = (constant(path, "OpenAiPairwiseLlmRanker", name) for name in ("prompt", "system_prompt"))
    them = pulled(path, "OpenAiPairwiseLlmRanker._get_response", openai=openai_stub(), print=lambda *a: None)
    self = Some(llm="", system_prompt=system)
    return lambda query, texts: caught(lambda: them._get_response(self, prompt.format(query=query, doc1=texts[0], doc2=texts[1])))

def rank_r1(root, file="llmrankers/setwise.py", cls="RankR1SetwiseLlmRanker", toml="prompt_setwise-R1.toml"):
    import tomllib
    path = root/"ielab+llm-rankers"/file
    them = pulled(path, f"{cls}.compare", print=lambda *a: None,
                  random=Some(sample=lambda items, n: items), LoRARequest=None)
    self = Some(total_compare=0, num_permutation=1, CHARACTERS=[f"[{i + 1}]" for i in range(20)], lora_path=None, sampling_params=None,
                prompt=tomllib.loads((root/"ielab+llm-rankers/Rank-R1/prompts"/toml).read_text()), llm=Some(chat=lambda batch, **kwargs: send(batch[0])))
    return lambda query, texts: caught(lambda: them.compare(self, query, docs_of(texts)))

def rank_r1_v2(root): return rank_r1(root, "Rank-R1/run_setwise.py", "R1SetwiseLlmRanker", "prompt_setwise-R1-v0.2.toml")

def tourrank(root):
    them = pulled(root/"chenyiqun+TourRank/TourRank_multiprocessing.py", "get_prefix_role_prompt", "get_post_role_prompt", "group_processing",
                  random=Some(shuffle=lambda items: None), get_response=send)
    return lambda query, texts: caught(lambda: them.group_processing(list(range(len(texts))), query, len(texts), len(texts) // 2, texts, []))

def rank_k(root):
    combine = pulled(root/"hltcoe+rank-k/utils.py", "combine_passages").combine_passages
    them = pulled(root/"hltcoe+rank-k/rerank.py", "rank_k_prompt", "rerank", combine_passages=combine)
    args = Some(model="", temperature=0.7, max_tokens=4000)
    return lambda query, texts: caught(lambda: them.rerank(query, range(len(texts)), texts, Some(chat=Some(completions=Some(create=send))), args))

def rank1(root):
    them = pulled(root/"orionw+rank1/rank1.py", "rank1.return_prompt")
    return lambda query, texts: user(them.return_prompt(None, query, texts[0], None))

def candidates(texts): return [Some(doc={"text": text}, score=0.0) for text in texts]

class WordTokenizer:
    "Words for tokens; what would go into the chat template is the answer"
    tokenize, convert_tokens_to_string = staticmethod(str.split), staticmethod(" ".join)
    def apply_chat_template(self, messages, **kwargs): return send(messages)

def reasonrank(root, mode="rank_GPT_reasoning"):
    import tomllib
    folder = root/"8421BCD+ReasonRank"
    modes = pulled(folder/"rerank/rankllm.py", "PromptMode", "RankLLM._replace_number")
    helpers = pulled(folder/"utils.py", "add_prefix_prompt", "add_post_prompt", "convert_doc_to_prompt_content", "replace_number", PromptMode=modes.PromptMode)
    them = pulled(folder/"rerank/rank_listwise_os_llm.py", "RankListwiseOSLLM.create_prompt", PromptMode=modes.PromptMode,
                  add_prefix_prompt=helpers.add_prefix_prompt, add_post_prompt=helpers.add_post_prompt,
                  convert_doc_to_prompt_content=helpers.convert_doc_to_prompt_content)
    self = Some(prompt_mode=mode, args=Some(prompt_mode=mode), max_passage_length=10**6, _tokenizer=WordTokenizer(),
                _replace_number=lambda text: modes._replace_number(None, text),
                prompt_info=tomllib.loads((folder/"listwise_prompt_r1.toml").read_text()))
    return lambda query, texts: caught(lambda: them.create_prompt(self, Some(query=Some(text=query, qid=0), candidates=candidates(texts)), 0, len(texts)))

def reasonrank_qwen3(root): return reasonrank(root, "rank_GPT_qwen3")

def rearank(root):
    them = pulled(root/"lezhang7+Rearank/rank_gpt.py", "create_permutation_instruction_rearank")
    return lambda query, texts: them.create_permutation_instruction_rearank({"query": query, "hits": [{"content": t} for t in texts]})

def rankmistral(root):
    "The system message is the default of their script; what would go into FastChat's `mistral` is the answer"
    folder = root/"8421BCD+fullrank"
    [system] = [n.value for n in ast.walk(ast.parse((folder/"run_rank_llm.py").read_text()))
                if isinstance(n, ast.Constant) and str(n.value).startswith("You are RankLLM")]
    modes = pulled(folder/"rerank/rankllm.py", "PromptMode", "RankLLM._replace_number")
    helpers = pulled(folder/"utils.py", "add_prefix_prompt", "add_post_prompt", "convert_doc_to_prompt_content", "replace_number", PromptMode=modes.PromptMode)

    class Conversation:
        roles = "user", "assistant"
        def __init__(self, model): self.messages = []
        def set_system_message(self, text): self.messages.append({"role": "system", "content": text})
        def append_message(self, role, text): self.messages += [{"role": role, "content": text}] if text else []
        def get_prompt(self): return send(self.messages)
    them = pulled(folder/"rerank/rank_listwise_os_llm.py", "RankListwiseOSLLM.create_prompt", get_conversation_template=Conversation,
                  add_prefix_prompt=helpers.add_prefix_prompt, add_post_prompt=helpers.add_post_prompt,
                  convert_doc_to_prompt_content=helpers.convert_doc_to_prompt_content)
    self = Some(prompt_mode="rank_GPT", max_passage_length=10**6, _tokenizer=WordTokenizer(), _model="RankMistral100", _system_message=system,
                _variable_passages=True, _replace_number=lambda text: modes._replace_number(None, text))
    return lambda query, texts: caught(lambda: them.create_prompt(self, Some(query=Some(text=query), candidates=candidates(texts)), 0, len(texts)))

def first(root):
    "As their one caller asks: with a system message, and passages variable"
    folder = root/"gangiswag+llm-reranker/scripts/utils"
    names = ("create_prompt", "_add_prefix_prompt", "_add_post_prompt")
    them = pulled(folder/"rank_listwise_os_llm.py", *(f"RankListwiseOSLLM.{name}" for name in names), ALPH_START_IDX=ord("A") - 1)
    replace_number = pulled(folder/"rankllm.py", "RankLLM._replace_number")._replace_number
    caller = pulled(folder/"llm_util.py", "rerank_beir_outputs_llm", RankListwiseOSLLM=send_options, PromptMode=Some(RANK_GPT=None))
    given = caught(lambda: caller.rerank_beir_outputs_llm("", [], True, True, 100, 20, 10, False, 4096))
    self = Some(_rerank_type=given["rerank_type"], _system_message=given["system_message"], system_message_supported=True,
                _add_few_shot_examples_messages=lambda messages: messages,
                _replace_number=lambda *a: replace_number(None, *a), _variable_passages=given["variable_passages"], _tokenizer=WordTokenizer(),
                _add_prefix_prompt=lambda *a: them._add_prefix_prompt(self, *a), _add_post_prompt=lambda *a: them._add_post_prompt(self, *a))
    return lambda query, texts: caught(lambda: them.create_prompt(self, Some(query=query, hits=[{"content": t} for t in texts]), True, 0, len(texts)))

def yes_no(root):
    texts = [n.value for n in ast.walk(ast.parse((root/"ielab+llm-rankers/llmrankers/pointwise.py").read_text())) if isinstance(n, ast.Constant)]
    [prompt] = [text for text in texts if isinstance(text, str) and "Answer 'Yes' or 'No'" in text]
    return lambda query, texts: user(prompt.format(text=texts[0], query=query))

def umbrela(root, name="bing"):
    import yaml
    template = yaml.safe_load((root/f"castorini+umbrela/src/umbrela/prompts/prompt_templates/qrel_zeroshot_{name}.yaml").read_text())
    assert not template["system_message"]
    return lambda query, texts: user(template["prefix_user"].format(query=query, passage=texts[0]))

def umbrela_basic(root): return umbrela(root, "basic")

def relevance_filter(root):
    path = root/"AnswerDotAI+rerankers/rerankers/models/llm_relevance_filter.py"
    them = pulled(path, "DEFAULT_PROMPT_TEMPLATE", "LLMRelevanceFilter._format_doc_inputs")
    return lambda query, texts: user(them.DEFAULT_PROMPT_TEMPLATE.format(query=query, docu_inputs=them._format_doc_inputs(None, texts)))

GITHUB = {      # name of the row -> (kind, what the authors send)
    "rankgpt": ("listwise", rankgpt), "rankgpt-completion": ("listwise", rankgpt_completion), "first": ("listwise", first),
    "reasonrank": ("listwise", reasonrank), "reasonrank-qwen3": ("listwise", reasonrank_qwen3), "rank-k": ("listwise", rank_k),
    "rearank": ("listwise", rearank), "rankmistral": ("listwise", rankmistral),
    "setwise": ("setwise", setwise), "setwise-openai": ("setwise", setwise_openai), "rank-r1": ("setwise", rank_r1), "rank-r1-v0.2": ("setwise", rank_r1_v2),
    "prp": ("pairwise", prp), "prp-openai": ("pairwise", prp_openai), "tourrank": ("select", tourrank), "yes-no": ("pointwise", yes_no),
    "umbrela": ("pointwise", umbrela), "umbrela-basic": ("pointwise", umbrela_basic), "rank1": ("pointwise", rank1),
    "relevance-filter": ("filter", relevance_filter),
}

# ---------- adaptive re-ranking, which asks for no prompt but for documents

def walks(n=60):
    "Random graphs with a first list, distinct scores, a budget and sizes: what both implementations are run on"
    for seed in range(n):
        chance = random.Random(seed)
        ids = [f"d{i:03}" for i in range(chance.choice([30, 90]))]
        step = chance.randint(1, 5)
        window = chance.randint(2 * step, 3 * step)
        yield Some(graph={d: chance.sample(ids, chance.randint(0, 6)) for d in ids}, score=dict(zip(ids, map(float, chance.sample(range(10_000), len(ids))))),
                   listed=chance.sample(ids, chance.randint(window, 28)), budget=window + chance.choice([i for i in range(40) if i != step]),
                   batch=chance.randint(1, 9), window=window, step=step)

class Asked:
    "PyTerrier's scorer: keeps the ids it is shown, and puts them in the order of a table"
    def __init__(self, score): self.score, self.batches = score, []
    def __call__(self, frame):
        self.batches.append(frame.docno.tolist())
        return frame.assign(score=[self.score[d] for d in frame.docno]).sort_values("score", ascending=False)

def walked(make, walk):
    "The batches that an adaptive transformer shows its scorer, and its ranking"
    import pandas as pd
    scorer = Asked(walk.score)
    first = pd.DataFrame({"docno": walk.listed, "score": [-float(i) for i in range(len(walk.listed))], "qid": "1", "query": "q"})
    found = make(scorer, Some(neighbours=lambda d: walk.graph[d]), walk).transform(first)
    return scorer.batches, found.docno.tolist(), found.score.tolist()

def transformer(path, cls):
    "A class of PyTerrier's, without PyTerrier"
    import numpy as np
    import pandas as pd
    return getattr(pulled(path, cls, pt=Some(Transformer=object), np=np, pd=pd, print=lambda *a: None), cls)

def gar():
    "pyterrier-adaptive's GAR: a walk -> batches, ids and scores"
    them = transformer(wheel("pyterrier-adaptive==0.2.1")/"pyterrier_adaptive/gar.py", "GAR")
    return lambda walk: walked(lambda scorer, graph, w: them(scorer, graph, w.budget, w.batch), walk)

def slide_gar(root):
    "The SlideGAR authors' code: a walk -> batches, ids and scores"
    them = transformer(root/"Mandeep-Rathee+llmgar/slide_gar.py", "SlideGAR")
    return lambda walk: walked(lambda scorer, graph, w: them(scorer, graph, w.budget, w.step, w.window), walk)

def said(recipe, kind, ask):
    "What the authors send for every case, given queries and texts as the recipe shows them: shortening is compared elsewhere"
    return [ask(recipe.passages.plain(query), [recipe.passages.shorten(text)[0] for text in texts]) for query, texts in cases(SIZES[kind])]

def ours(recipe, kind):
    "What our row sends for every case"
    more = (lambda texts: {"most": len(texts) // 2}) if kind == "select" else lambda texts: {}
    return [recipe.messages(query, texts, **more(texts)) for query, texts in cases(SIZES[kind])]

def rows():
    "All rows by name"
    from rerankers.llm import recipes
    tables = ("LISTWISE", "SETWISE", "PAIRWISE", "SELECT", "POINTWISE", "FILTER")
    return {"insertrank": recipes.insertrank} | {name: row for table in tables for name, row in getattr(recipes, table).items()}

if __name__ == "__main__":
    root = Path(sys.argv[1])
    print(f'SLIDE_GAR = "{fingerprint([run[:2] for run in map(slide_gar(root), walks())])}"')
    for name, (kind, make) in GITHUB.items():
        theirs, mine = said(rows()[name], kind, make(root)), ours(rows()[name], kind)
        print(f'    "{name}": "{fingerprint(theirs)}",' + ("" if theirs == mine else "   # OURS DIFFERS"))
        if theirs != mine and "-v" in sys.argv: print(next((a, b) for a, b in zip(theirs, mine) if a != b))
