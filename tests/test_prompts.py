"Passages and prompts: byte for byte what the methods' authors send, and nothing breaks on odd documents"
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from official import COMMITS, GITHUB, SIZES, TEXTS, cases, fingerprint, ours, pulled, rank_llm_0_20, rank_llm_template, rows, wheel

from rerankers.errors import InputError
from rerankers.llm.passages import LOOKALIKES, PassageText, fit
from rerankers.text import estimate_tokens
from rerankers.llm.prompts import ChatPrompt
from rerankers.llm.recipes import FILTER, LISTWISE, PAIRWISE, POINTWISE, SELECT, SETWISE, insertrank

# What the authors' code sends for official.cases, by `python tests/official.py FOLDER` at official.COMMITS
GOLDEN = {
    "rankgpt": "7b8cf1e3a0168e47", "rankgpt-completion": "7d5f0435fc79a21b", "first": "d5c56109ccfabde4", "reasonrank": "cd47803b86907e28",
    "reasonrank-qwen3": "3cd50be8f157e17f", "rank-k": "095ecd46276ab779", "setwise": "466baaf9ff09f94f", "setwise-openai": "2f96edf5b853b062",
    "rank-r1": "b20a270104d7f9c2", "rank-r1-v0.2": "b7fadd57e050c28d", "prp": "4dc4cf4bd032e81f", "prp-openai": "6deb6dfac03c2995",
    "tourrank": "11f713ab1dfbc0c5", "yes-no": "0a211dc627e048dc", "umbrela": "e52a9634cadf572d", "umbrela-basic": "8154e0dfb71a9842",
    "rearank": "d6379a32a3050a35", "rankmistral": "ec653dac01884dc1",
    "rank1": "0b2949162ebf3830", "relevance-filter": "56ea4caa2fee48b7",
}
ROWS = rows()
READABLE = [text for text in TEXTS if not text.startswith("Title: ")]    # rank-llm keeps an empty title that RankGPT drops


# ---------- prompts against their authors'

@pytest.mark.parametrize("name", GOLDEN)
def test_a_row_is_what_the_authors_send(name):
    assert fingerprint(ours(ROWS[name], GITHUB[name][0])) == GOLDEN[name], f"differs from the code at {COMMITS}"


def test_every_row_is_held_against_something():
    live = {"rankvicuna", "rankzephyr", "rankzephyr-letters", "rankzephyr-2026", "rankzephyr-letters-2026", "lrl", "rankgpt-apeer", "insertrank"}
    own_words = {"rankgpt-single", "structured", "graded-4", "rating-10"}
    assert set(ROWS) == set(GOLDEN) | live | own_words


@pytest.mark.parametrize(("row", "template", "letters"), [
    ("rankzephyr-2026", "rank_zephyr", False), ("rankzephyr-letters-2026", "rank_zephyr_alpha", True), ("lrl", "rank_lrl", False),
    ("rankgpt-apeer", "rank_gpt_apeer", False)])
@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_rank_llm_0_26_live(row, template, letters, n):
    ask = rank_llm_template(template)
    for query, texts in [("who [3] wrote {Hamlet}?", (READABLE * 3)[i:i + n]) for i in range(len(READABLE))]:
        assert LISTWISE[row].messages(query, texts) == ask(query, texts, letters)


def test_rank_llm_0_26_rows_that_differ_by_a_blank():
    "RankGPT without the blank before its line breaks; ReasonRank without the empty line it was trained with"
    ask = rank_llm_template("rank_gpt")
    for query, texts in [(query, READABLE[:n]) for query, n in (("who?", 1), ("{x} [2]", 9))]:
        mine = [m | {"content": m["content"].replace(" \nRank the", "\nRank the")} for m in LISTWISE["rankgpt"].messages(query, texts)]
        assert mine == ask(query, texts)
    [system, mine] = replace(LISTWISE["reasonrank"], passages=PassageText()).messages("who?", READABLE)
    assert [system, mine | {"content": mine["content"].replace("who?.\n\n[1]", "who?.\n[1]", 1)}] == rank_llm_template("reasonrank")("who?", READABLE)


def test_insertrank_live():
    scores = [float(i) / 7 for i in range(len(READABLE))]
    mine = insertrank.messages("who?", READABLE, score=[f"{s:.3f}" for s in scores])
    assert mine == rank_llm_template("insert_rank")("who?", READABLE, scores=scores)


@pytest.mark.parametrize(("row", "letters", "variable", "system"), [("rankvicuna", False, False, False), ("rankzephyr", False, True, True),
    ("rankzephyr-letters", True, True, True)])
def test_rank_llm_0_20_live(row, letters, variable, system):
    texts = (READABLE * 3)[:20]      # at other numbers its limit is 6000 words shared by all
    mine = LISTWISE[row].messages("who [3] wrote {Hamlet}?", texts)
    assert mine == rank_llm_0_20("who [3] wrote {Hamlet}?", texts, letters, variable, LISTWISE[row].prompt.system)
    assert (mine[0]["role"] == "system") == system


def test_rankgpt_live_as_blitzrank_has_it():
    them = pulled(wheel("blitzrank==0.1.0")/"blitzrank/engine/comparer/listwise_rank_gpt.py",
                  "get_prefix_prompt", "get_post_prompt", "create_permutation_instruction")
    as_they_are = replace(LISTWISE["rankgpt"], passages=PassageText(hide=""))
    for query, texts in [("who?", []), *cases(SIZES["listwise"])]:
        assert as_they_are.messages(query, texts) == them.create_permutation_instruction(query, [as_they_are.passages.shorten(t)[0] for t in texts])


# ---------- nothing breaks

ANY = st.text(max_size=40) | st.sampled_from(["{query}", "{text}", "{0}", "{", "}}", "%s", "[1]", "</document>", "\\1", "\ud800"])


@pytest.mark.parametrize("name", ROWS)
@given(ANY, st.lists(ANY, max_size=4))
def test_documents_and_queries_are_shown_and_never_read_as_templates(name, query, texts):
    row = ROWS[name]
    texts = {**dict.fromkeys(POINTWISE, texts[:1] or [""]), **dict.fromkeys(PAIRWISE, (texts + ["", ""])[:2])}.get(name, texts)
    messages = row.messages(query, texts, **({"most": 1} if name in SELECT else {"score": ["1"] * len(texts)} if name == "insertrank" else {}))
    said = "\0".join(m["content"] for m in messages)
    assert row.passages.plain(query) in said
    assert all(row.passages.shorten(text)[0] in said for text in texts)
    assert [m["role"] for m in messages][-1] == "user"
    assert {m["role"] for m in messages} <= {"system", "user", "assistant"}


@given(ANY, st.lists(ANY, max_size=4))
def test_no_document_looks_like_an_identifier(query, texts):
    for name in ("rankgpt", "rankzephyr", "reasonrank"):
        shown = " ".join(m["content"] for m in LISTWISE[name].messages("who?", [f"{text} [7]" for text in texts]))
        assert "[7]" not in shown
    block = FILTER["relevance-filter"].messages(query, texts)[0]["content"].split("</instructions>")[1]
    assert block.lower().count("</document>") == len(texts)


def test_rows_are_pickled_and_replaced():
    for name, row in ROWS.items():
        again = pickle.loads(pickle.dumps(row))
        assert again.prompt == row.prompt, name
        assert again.max_tokens(20) == row.max_tokens(20) >= 1
    assert all(table for table in (LISTWISE, SETWISE, PAIRWISE, SELECT, POINTWISE, FILTER))


def test_letters_end_at_z():
    assert LISTWISE["first"].messages("who?", ["x"] * 26)[-1]["content"].count("[Z] x") == 1
    with pytest.raises(InputError, match="26 letters"): LISTWISE["first"].messages("who?", ["x"] * 27)


def test_examples_come_between_system_and_question():
    row = replace(LISTWISE["rankzephyr"].prompt, examples=(("Rank [1]", "[1]"), ("Rank [1] [2]", "[2] > [1]")))
    assert [m["role"] for m in row.messages("who?", ["a"])] == ["system", "user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(("template", "lack"), [("Rank {passages}", "query"), ("Rank for {query}", "documents"), ("", "query")])
def test_a_template_must_say_where_things_go(template, lack):
    with pytest.raises(InputError, match=lack): ChatPrompt.of(template)


@pytest.mark.parametrize("place", ["passages", "documents", "docs", "docu_inputs"])
def test_a_template_of_ones_own(place):
    mine = LISTWISE["rankgpt"].with_template('{"json": "{query}"} {' + place + '} {"ranking": [1]} %s {}')
    assert mine.messages("{passages}?", ["a [1]", "b"]) == [{"role": "user", "content": '{"json": "{passages}?"} [1] a (1)\n[2] b {"ranking": [1]} %s {}'}]
    found = mine.read("[2] > [1]", 2)
    assert (found.values, found.status) == ([1, 0], "ok")


def test_a_template_for_one_document():
    mine = POINTWISE["yes-no"].with_template("Is {document} about {query}? {", system="You judge.")
    assert mine.messages("{text}", ["a {query}"]) == [{"role": "system", "content": "You judge."}, {"role": "user", "content": "Is a {query} about {text}? {"}]
    with pytest.raises(InputError, match="passages"): LISTWISE["lrl"].with_template("Is {text} about {query}?")


def test_a_template_keeps_the_names_of_documents():
    for name, shown in [("rankzephyr", "[1] a\n[2] b"), ("lrl", 'PASSAGE1 = "a"\nPASSAGE2 = "b"'), ("first", "[A] a\n[B] b")]:
        assert LISTWISE[name].with_template("{query}:{passages}.").messages("who?", ["a", "b"])[0]["content"] == f"who?:{shown}."
    old = FILTER["relevance-filter"].with_template("{query} {docu_inputs}")
    assert old.messages("who?", ["a"])[0]["content"] == "who? <document id=0>\na\n</document>"


# ---------- passages

def rank_llm_shorten(words, **doc):
    "What rank-llm 0.26 shows of a document, but for ftfy, which mends broken encodings there and is not ours to use"
    names = ("_convert_doc_to_prompt_content", "_replace_number")
    them = pulled(wheel("rank-llm==0.26.0")/"rank_llm/rerank/inference_handler.py", *(f"BaseInferenceHandler.{name}" for name in names))
    self = type("Them", (), {name: getattr(them, name) for name in names})()
    return self._convert_doc_to_prompt_content(doc, words)


@given(st.text() | st.lists(st.sampled_from(["[12]", "a", "b\n", "  ", "[x]", "（"])).map(" ".join), st.integers(1, 20))
def test_shortening_is_rank_llm_s(text, words):
    assert PassageText(words).shorten(text)[0] == rank_llm_shorten(words, text=text)


@given(st.text() | st.lists(st.sampled_from(["word", " \n", "\t", "é", "  ", "Title: Content: "])).map("".join).map(lambda text: text * 90))
def test_shortening_is_rearank_s(text):
    "rank_gpt.py: `content.replace('Title: Content: ', '').strip()`, single blanks, the first 400 characters"
    theirs = " ".join(text.replace("Title: Content: ", "").strip().split())
    row = LISTWISE["rearank"].passages
    assert replace(row, hide="").shorten(text) == (theirs[:400], len(theirs) > 400)
    assert row.for_language("zh").shorten(text) == row.shorten(text)


def test_titles_as_rank_llm_shows_them():
    for title in ("Hamlet", ""):
        text = f"Title: {title} Content: a play [1]" if title else "a play [1]"
        assert PassageText().shorten(text)[0] == rank_llm_shorten(300, text="a play [1]", title=title)


@given(st.text(), st.none() | st.integers(1, 9), st.sampled_from(["words", "characters"]), st.sampled_from(list(LOOKALIKES)))
def test_shortening_says_what_it_cut(text, most, by, hide):
    shown, cut = PassageText(most, by, hide).shorten(text)
    kept = text.replace("Title: Content: ", "").strip()
    units = kept.split() if by == "words" else kept
    assert cut == (most is not None and len(units) > most)
    assert isinstance(shown, str)
    if not hide: assert (shown.split() if by == "words" else shown) == units[:most]


def test_the_lookalike_patterns_leave_nothing():
    assert PassageText().plain("[1] [22] [x] [1, 2] [[3]]") == "(1) (22) [x] [1, 2] [(3)]"
    assert PassageText(hide="letters").plain("[A] [ab] [1]") == "(A) (ab) [1]"
    assert PassageText(hide="tags").plain("<document id=3> </Answer> <b>") == "&lt;document id=3> &lt;/Answer> <b>"


@pytest.mark.parametrize("lang", ["zh", "ja", "zh-CN", "th", "JA"])
def test_languages_without_spaces_count_characters(lang):
    assert PassageText(3).for_language(lang).shorten("哈姆雷特") == ("哈姆雷", True)
    assert PassageText(3).for_language("en").shorten("one two three four") == ("one two three", True)


# ---------- shrink to fit

def rank_llm_loop(texts, budget, count):
    "The loop of rank-llm 0.26 (listwise_rankllm.py and others), from 300 words"
    words = 300
    while True:
        prompt = " ".join(" ".join(text.split()[:words]) for text in texts)
        if (tokens := count(prompt)) <= budget: return prompt
        words -= max(1, (tokens - budget) // (4 * len(texts)))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(10, 300))
def test_the_loop_is_rank_llm_s(lengths, budget):
    texts = [" ".join(["word"] * n) for n in lengths]
    found = fit(" ".join, texts, budget=budget, count=lambda p: len(p.split()))
    assert len(found.prompt.split()) <= budget
    assert found.prompt == rank_llm_loop(texts, budget, lambda p: len(p.split()))
    assert found.cut == [n > found.most for n in lengths]


@given(st.lists(st.text(max_size=60), max_size=5), st.none() | st.integers(0, 60), st.none() | st.integers(1, 9), st.sampled_from(["words", "characters"]))
def test_fit_fits_or_says_why_not(texts, budget, most, by):
    try: found = fit(lambda shown: "prompt " + " ".join(shown), texts, budget=budget, passages=PassageText(most, by))
    except InputError as error:
        assert "smaller window" in str(error)
        assert estimate_tokens("prompt " + " ".join(PassageText(1, by).shorten(t)[0] for t in texts)) > budget
    else:
        assert budget is None or estimate_tokens(found.prompt) <= budget
        assert len(found.cut) == len(texts)


def test_a_recipe_that_must_fit_says_what_it_cut():
    texts = ["word " * 300, "short"]
    found = LISTWISE["rankgpt"].fitted("who?", texts, budget=400)
    assert found.cut == [True, False]
    assert estimate_tokens(found.prompt) <= 400 < estimate_tokens(LISTWISE["rankgpt"].messages("who?", texts))
    with pytest.raises(InputError, match="smaller window"): LISTWISE["rankgpt"].fitted("who?", texts, budget=100)
