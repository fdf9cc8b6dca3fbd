"Passages that other tests have no place for: text without blanks, in any language setting, and identifiers in every kind of bracket"
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rerankers import Reranker
from rerankers.errors import InputError
from rerankers.llm.parsing import parse_order
from rerankers.llm.passages import LONGEST_WORD, PassageText, fit
from rerankers.text import estimate_tokens
from rerankers.llm.recipes import LISTWISE

SENTENCES = {"Chinese": "莎士比亚于1600年前后写了《哈姆雷特》，这是一部悲剧。", "Japanese": "シェイクスピアは1600年ごろに『ハムレット』を書いた。",
             "Thai": "เชกสเปียร์เขียนแฮมเล็ตราวปีค.ศ.1600", "Khmer": "សេកស្ពៀរបានសរសេរហាំឡេតនៅប្រហែលឆ្នាំ១៦០០"}


@pytest.mark.parametrize("name", SENTENCES)
def test_text_without_blanks_is_cut_whatever_the_language_setting(name):
    text = SENTENCES[name] * 5000
    assert PassageText(300).shorten(text) == (text[:300], True)
    assert PassageText(300).shorten("Hamlet: " + text) == ("Hamlet: " + text[:299], True)
    assert PassageText(300).shorten(SENTENCES[name]) == (SENTENCES[name], False)


@pytest.mark.parametrize("passages", [PassageText(), PassageText(None), PassageText(4), PassageText(16, by="characters")], ids=str)
def test_an_empty_title_is_left_out_and_takes_no_room(passages):
    "As the authors' data sets write it"
    for text in ("Hamlet is a play", "Hamlet is a play about a prince"):
        assert passages.shorten(f"Title: Content: {text}") == passages.shorten(text)
    assert passages.shorten("Title: Content: Hamlet is a play") == ("Hamlet is a play", False)


def test_a_foreign_name_is_one_word():
    text = " ".join(["word"] * 299 + ["《哈姆雷特》", "more"])
    assert PassageText(300).shorten(text) == (text.removesuffix(" more"), True)


def test_korean_has_words():
    text = " ".join(["셰익스피어가햄릿을썼다고전해진다그러나확실하지않다"] * 301)
    assert PassageText(300).shorten(text) == (" ".join(text.split()[:300]), True)


@given(st.text(alphabet="a [1]\n字かก가-x", max_size=200), st.integers(1, 30))
def test_only_long_runs_are_cut_inside(text, most):
    shown, cut = PassageText(most, hide="").shorten(text)
    words = text.split()
    if all(sum(c in "字かก" for c in w) <= LONGEST_WORD for w in words): assert (shown, cut) == (" ".join(words[:most]), len(words) > most)
    else: assert " ".join(words).startswith(shown) and cut == (shown != " ".join(words))


@pytest.mark.parametrize("text", ["字" * 5000, "x" * 20_000, *(sentence * 200 for sentence in SENTENCES.values())], ids=["字", "x", *SENTENCES])
@pytest.mark.parametrize("passages", [PassageText(), PassageText(None), PassageText(1)], ids=["300", "all", "1"])
def test_text_without_blanks_fits(text, passages):
    found = fit(" ".join, [text] * 19 + ["Hamlet is a play."], passages=passages, budget=1500)
    assert 750 < estimate_tokens(found.prompt) <= 1500 or passages.most == 1
    assert found.cut[:19] == [True] * 19
    with pytest.raises(InputError, match="20 passages of one character each"): fit(" ".join, [text] * 20, passages=passages, budget=5)


def test_a_ranker_with_a_small_context_takes_chinese_in_its_default_language():
    docs = [f"{i}" + SENTENCES["Chinese"] * 1000 for i in range(20)]
    asked = []

    def answer(messages): return asked.append(messages) or "[2] > [1]"
    results = Reranker("rank_zephyr", client=answer, context=4096).rank("谁写了《哈姆雷特》？", docs)
    assert [r.truncated for r in results] == [True] * 20
    assert 2000 < estimate_tokens(asked[0]) <= 4096


@pytest.mark.parametrize("lang", ["zh_CN", "zh_TW", "ja_JP", "TH_th", "zh-Hant-TW", "zh_Hans_CN"])
def test_locales_are_languages(lang):
    assert PassageText(3).for_language(lang).by == "characters"
    assert PassageText(3).for_language("en_US").by == "words"


@pytest.mark.parametrize("written", ["[12]", "[ 12 ]", "［12］", "【12】", "[１２]", "［ 12]", "【\t12 】"])
def test_whatever_the_parser_takes_for_an_identifier_is_hidden(written):
    hidden = PassageText().plain(f"as {written} says")
    assert parse_order(f"as {written} says", 20).values[0] == 11, "the parser reads it"
    assert hidden in ("as (12) says", "as (１２) says")
    letters = PassageText(hide="letters").plain(written.replace("12", "B").replace("１２", "B"))
    assert letters == "(B)"


def test_an_identifier_in_fullwidth_brackets_does_not_reach_the_prompt():
    shown = LISTWISE["rankgpt"].messages("who?", ["as 【2】 and [ 3 ] say"])[3]["content"]
    assert shown == "[1] as (2) and (3) say"
    assert replace(LISTWISE["rankgpt"], passages=PassageText(hide="")).messages("who?", ["as 【2】"])[3]["content"] == "[1] as 【2】"
