"Whatever a model says becomes a permutation, a label, a score or a verdict, and nothing raises"
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from official import pulled, wheel

from rerankers.errors import InputError
from rerankers.llm.parsing import (
    MOST_CHARACTERS, STYLES, Verdict, after_thought, answer_in, parse_label, parse_order, parse_score, parse_selection, parse_verdicts, parse_yes_no)
from rerankers.strategies.basics import repair

PIECES = ["[1]", "[2]", "[40]", "[0]", " > ", " = ", "3", "1.5", "99999", "\n", "1. ", "2) ", "A", "[b]", "PASSAGE2", "PASSAGE 1", "<think>", "</think>",
          "<answer>", "</answer>", '{"ranking": [2, 1]}', '{"ranking":', "{", "[", "]", "²", "⓪", "３", "Document 2, ", "...", "<document id=0>", "</document>",
          "RELEVANT", "NOT_RELEVANT", "<explanation>", "yes", "no", "score: ", "final score", "/10", "\ud800", "\x00", "-", "passage B", "`", "**",
          "：", "I cannot help with that.", ">", ",", " and ", "Rank 1: ", "1st: 4, ", "| 1 | 2 |\n", "(score 8)", "Passage ", "◁think▷",
          "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "answer: ", "7/10", "7,5", "3 of 4", "＞", "Ｂ", "**NOT_",
          '{"ranking": [{"rank": 1, "id": 2}]}']
ANYTHING = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.none(), st.integers(), st.binary(max_size=5))


def read(text, n, style="numbers"):
    "The order of an answer, and its status"
    said = parse_order(text, n, style=style)
    return said.values, said.status


# ---------- any text

@pytest.mark.parametrize("style", STYLES)
@given(ANYTHING, st.integers(0, 30))
@example("9" * 5000, 3)
@example('{"ranking": [' + "9" * 5000 + ", 1e999, NaN, -0.0, true, null, [[]], {}]}", 3)
@example('{"a":' * 3000, 3)
@example("[" * 100_000, 3)
def test_an_order_is_a_permutation(style, text, n):
    order, status = read(text, n, style=style)
    assert sorted(order) == list(range(n))
    assert status in ("ok", "missing", "repetition", "out_of_range", "wrong_format", "empty")
    if status in ("empty", "wrong_format"): assert order == list(range(n))


@given(ANYTHING, st.integers(0, 30), st.integers(0, 30))
@example("9" * 5000, 3, 3)
@example("score: " + "9" * 400, 3, 3)
@example('{"score": ' + "9" * 5000 + "}", 3, 3)
@example('{"score": ' + "9" * 400 + "}", 3, 3)
def test_the_other_parsers_take_any_text(text, n, most):
    for style in ("letters", "numbers"): assert parse_label(text, n, style=style) in (None, *range(n))
    found = parse_selection(text, n, most)
    assert len(found) == len(set(found)) <= most
    assert set(found) <= set(range(n))
    assert parse_yes_no(text) in (None, 0.0, 1.0)
    for top in (3, 10):
        score = parse_score(text, most=top)
        assert score is None or 0 <= score <= top
    verdicts = parse_verdicts(text, n)
    assert len(verdicts) == n
    assert all(v is None or isinstance(v, Verdict) for v in verdicts)
    assert isinstance(answer_in(after_thought(text) or ""), str)


@pytest.mark.parametrize("hostile", ["<answer>" * 20_000, "[" * 50_000 + " " * 50_000, "{" * 50_000, "<document id=1>" * 10_000, "1. " * 50_000,
                                     "score " * 20_000 + "-" * 50_000, "<explanation>" * 10_000, "Document " * 20_000, "passage" + " " * 50_000,
                                     "\n" * 100_000, " \n" * 50_000 + "1.", "9" * 100_000, "]" * 100_000, ">" * 100_000, "1>" * 50_000,
                                     "[1] > " * 16_000 + "x", "1 = " * 25_000, "1 (a) > (" * 11_000, "1, " * 33_000, "1\n" * 50_000, "1" + "\n" * 99_999 + "x",
                                     "rank 1: " * 12_000, "1: 2, " * 16_000, "Passage 1 " * 10_000, "<think>\n" * 12_000, " \t" * 50_000,
                                     "</answer>" * 11_000 + "<document ",
                                     "<document id=1><explanation>" * 3_500, "<document id=1><answer>NOT" + "_*" * 40_000,
                                     "answer: " * 12_000, "1 of 2 " * 14_000,
                                     "(" * 100_000, "(ab" * 33_000, "passage (" * 11_000, "not " * 25_000, "kann " * 20_000, "least to " * 11_000,
                                     '{"a": [' * 15_000, '[{"a": 1}, ' * 9_000, '{"a": "' + "x" * 99_000, "|-|\n" * 12_000,
                                     "[1] - " * 8_000, "[1]: 3\n" * 7_000,
                                     "1. [1] " * 14_000, "<p " * 33_000, "<doc id='1' " * 8_000, "e.g. [1] > [2] " * 6_000, "passage 1 followed " * 5_000,
                                     "Passage A is less relevant than x. " * 3_000, "I " * 50_000, "1=" * 50_000, "=1" * 50_000, ":1" * 50_000])
def test_hostile_texts_take_no_time(hostile):
    "Four times the text takes about four times the work, where a pattern that tries again from each letter takes sixteen; as much work on any machine"
    def read(size):
        text, began = hostile[:size // 2] + hostile[-size // 2:], time.process_time()
        for style in ("numbers", "letters"): parse_order(text, 20, style=style)     # the other styles read like numbers
        parse_label(text, 20), parse_label(text, 20, style="numbers"), parse_selection(text, 20, 10)
        parse_yes_no(text), parse_score(text), parse_verdicts(text, 20)
        return time.process_time() - began
    most = 9 * min(read(MOST_CHARACTERS // 32) for _ in range(2)) + 0.1
    assert read(MOST_CHARACTERS // 8) < most or read(MOST_CHARACTERS // 8) < most


# ---------- canonical texts

def written(order, style):
    "What a model should write"
    return {"numbers": " > ".join(f"[{i + 1}]" for i in order), "ties": "Here.\n" + " = ".join(f"[{i + 1}]" for i in order),
            "letters": " > ".join(f"[{chr(65 + i)}]" for i in order), "words": "[" + ", ".join(f"PASSAGE{i + 1}" for i in order) + "]",
            "json": '{"ranking": [' + ", ".join(str(i + 1) for i in order) + "]}"}[style]


@pytest.mark.parametrize("style", STYLES)
@given(st.integers(1, 26).flatmap(lambda n: st.permutations(range(n))))
def test_what_is_written_as_it_should_be_is_read_as_it_was_meant(style, order):
    for text in (written(order, style), f"<think>[1] > [2], A, PASSAGE1</think>\n{written(order, style)}\n", f"<answer>{written(order, style)}</answer>"):
        assert read(text, len(order), style=style) == (list(order), "ok")


@given(st.integers(1, 20).flatmap(lambda n: st.permutations(range(n))))
def test_lists_are_read_as_they_were_meant(order):
    n = len(order)
    for line in ("{}. [{}]", "{}) [{}]", "{}. **[{}]** (score 0.95)") + (("{}. Passage {}", "{}) {}") if n > 1 else ()):
        assert read("\n".join(line.format(k + 1, i + 1) for k, i in enumerate(order)), n) == (list(order), "ok"), line


# ---------- the authors' parsers

IDS = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, 15), max_size=14)))   # partial, repeated, out of range


@given(IDS, st.sampled_from([" > ", ", ", " ", "\n"]), st.sampled_from(["[{}]", "{}"]), st.sampled_from(["", "Sure, here it is: ", "<think>maybe [3]</think>"]))
def test_numbers_are_what_rank_llm_reads(ids, between, form, before):
    n, named = ids
    clean = pulled(wheel("rank-llm==0.26.0")/"rank_llm/rerank/listwise/response_utils.py", "clean_ranking_response").clean_ranking_response
    text = before + between.join(form.format(i) for i in named)
    theirs = [int(i) - 1 for i in clean(text).split()]
    assert parse_order(text, n).values == repair(theirs, n).values


@given(IDS, st.sampled_from([" > ", ", ", " "]), st.sampled_from(["[{}]", "{}"]))
def test_letters_are_what_rank_llm_reads(ids, between, form):
    n, named = ids
    clean = pulled(wheel("rank-llm==0.26.0")/"rank_llm/rerank/listwise/response_utils.py", "clean_ranking_response").clean_ranking_response
    text = between.join(form.format(chr(65 + i)) for i in named)
    assert parse_order(text, n, style="letters").values == repair([int(i) - 1 for i in clean(text, use_alpha=True).split()], n).values


@given(IDS)
def test_numbers_are_what_rankgpt_reads(ids):
    n, named = ids
    them = pulled(wheel("blitzrank==0.1.0")/"blitzrank/engine/comparer/listwise_rank_gpt.py", "parse_permutation")
    text = " > ".join(f"[{i}]" for i in named)
    assert parse_order(text, n).values == them.parse_permutation(text, n)[0]


# ---------- where it differs on purpose

@pytest.mark.parametrize(("text", "order", "status"), [
    ("1. [4]\n2. [3]\n3. [2]\n4. [1]", [4, 3, 2, 1], "ok"),
    ("Ranking of the 4 passages: [2] > [1]", [2, 1, 3, 4], "missing"),
    ("[3] (score 2.0) > [1]", [3, 1, 2, 4], "missing"),
    ("3 (score 2.0) > 1", [3, 1, 2, 4], "missing"),
    ("[2]² > [1] ⓪", [2, 1, 3, 4], "missing"),
    ("［３］ > ［１］", [3, 1, 2, 4], "missing"),
    ("[3] > [3] > [1]", [3, 1, 2, 4], "repetition"),
    ("[3] > [9]", [3, 1, 2, 4], "out_of_range"),
    ("[0] > [1]", [1, 2, 3, 4], "out_of_range"),
    ("[9] > [8]", [1, 2, 3, 4], "wrong_format"),
    ("<think>[4] > [3]", [1, 2, 3, 4], "wrong_format"),
    ("<think>no</think>", [1, 2, 3, 4], "empty"),
    ("thought</think><answer>[4] > [3]", [4, 3, 1, 2], "missing"),
    ("<think>a</think>[4]\n<think>[3] again", [1, 2, 3, 4], "wrong_format"),
    ("<think>a</think>[4]<think>[3] again", [4, 3, 1, 2], "missing"),
    ("[2] > [1], since [2] explains what `<think>` does", [2, 1, 3, 4], "missing"),
    ("◁think▷[1]◁/think▷[4] > [3]", [4, 3, 1, 2], "missing"),
    ("◁think▷[4] > [3]", [1, 2, 3, 4], "wrong_format"),
    ("<seed:think>[1]</seed:think>[4] > [3]", [4, 3, 1, 2], "missing"),
    ("<|START_THINKING|>[1]<|END_THINKING|><|START_RESPONSE|>[4] > [3]<|END_RESPONSE|>", [4, 3, 1, 2], "missing"),
    ("<|channel|>analysis<|message|>[1]<|end|><|start|>assistant<|channel|>final<|message|>[4] > [3]<|return|>", [4, 3, 1, 2], "missing"),
    ("<|channel|>analysis<|message|>[1] or [2]?", [1, 2, 3, 4], "wrong_format"),
    ("<|start|>assistant<|channel|>commentary<|message|>[1]", [1, 2, 3, 4], "wrong_format"),
    ("I'm sorry, I can't.", [1, 2, 3, 4], "wrong_format"),
    ("  \n", [1, 2, 3, 4], "empty"),
    (None, [1, 2, 3, 4], "empty"),
])
def test_orders(text, order, status):
    assert read(text, 4) == ([i - 1 for i in order], status)


# What a model says besides its ranking; `2>4>3>1` is what is wanted
@pytest.mark.parametrize(("text", "order"), [
    ("[1] is off topic. [2] is good.\nFinal ranking: [2] > [4] > [3] > [1]", "2431"),
    ("Analysis:\n[1]: a\n[2]: b\n[3]: c\n[4]: d\n\nRanking: [4] > [3] > [2] > [1]", "4321"),
    ("Passage [1] is brief on Hamlet, [3] answers.\n\n3 > 1 > 2 > 4", "3124"),
    ("[1] is off topic. Final: [3] > [2]", "3241"),
    ("[1] is off topic. [2] is good. Final ranking: [2], [4], [3], [1]", "2431"),
    ("[1] is off topic.\n\nRanking:\n[2]\n[4]\n[3]\n[1]", "2431"),
    ("Here is the ranking of the 4 passages: 3 > 4 > 2 > 1", "3421"), ("Here are the 4 passages ranked:\n\n3 > 1 > 2 > 4", "3124"),
    ("Here are the top 3 of 4: [2, 1, 4, 3]", "2143"),
    ("The 4 passages: Passage 3 > Passage 4 > Passage 2 > Passage 1", "3421"),
    ("A draft: [1] > [2] > [3] > [4]. No: [2] > [4] > [3] > [1]", "2431"), ("[2] > [4] > [3] > [1], where [4] > [3] is close", "2431"),
    ("Relevant: [4] > [3]\nLess so: [2] > [1]", "4321"), ("[3] > [1]; the rest ([4], [2]) is irrelevant", "3142"),
    ("[2] answers it. [1], [3] and [4] do not.", "2134"), ("[4] > [3] > ... > [2]", "4321"), ("[4] (score 3.0) > [2] (score 1) = [3] > [1]", "4231"),
    ("[4]\n>\n[3]\n>\n[2]\n>\n[1]", "4321"), ("[4] > 3 > 2 > 1", "4321"), ("0.95 > 0.9: so 4, 3, 2, 1", "4321"), ("４＞３＞２＞１", "4321"),
    ("1: 4\n2: 3\n3: 2\n4: 1", "4321"), ("1 - 4\n2 - 3\n3 - 2\n4 - 1", "4321"),
    ("Rank 1: Passage 4\nRank 2: Passage 3\nRank 3: Passage 2\nRank 4: Passage 1", "4321"),
    ("1st: 4, 2nd: 3, 3rd: 2, 4th: 1", "4321"), ("| Rank | Passage |\n|---|---|\n| 1 | 4 |\n| 2 | 3 |\n| 3 | 2 |\n| 4 | 1 |", "4321"),
])
def test_a_ranking_among_other_words(text, order):
    assert "".join(str(i + 1) for i in parse_order(text, 4).values) == order


@pytest.mark.parametrize(("style", "text", "order"), [
    ("letters", "A possible ranking is B > C > D > A", "BCDA"), ("letters", "［Ｂ］ > ［Ｃ］", "BCAD"), ("letters", "a > b was a draft; d > c > b > a", "DCBA"),
    ("letters", "A ranking: B, C, D, A", "BCDA"), ("letters", "I would rank Passage B > Passage C > Passage D > Passage A", "BCDA"),
    ("words", "PASSAGE1 is weak. PASSAGE3 > PASSAGE2 > PASSAGE1", "CBAD"),
    ("ties", "[3] > [2] > [4] = [1]\n\nNote: passages 1 and 4 tie.", "CBDA"), ("ties", "[3] > [2] >\n[4] = [1]", "CBDA"),
    ("ties", "[3]\n[2]\n[4]\n[1]", "CBDA"),
    ("ties", "1. [3]\n2. [2]\n3. [4]\n4. [1]", "CBDA"), ("ties", "[1] is weak.\n[3] = [2]", "CBAD"),
    ("json", '{"ranking": [{"rank": 1, "id": 3}, {"rank": 2, "id": 2}, {"rank": 3, "id": 4}]}', "CBDA"),
    ("json", '{"ranking": [{"score": 4, "passage_id": 3}, {"score": 1, "passage_id": 2}]}', "CBAD"),
    ("json", '{"ranking": [{"passage": "4 men of 1602", "id": 3}]}', "CABD"), ("json", '{"ranking": [{"position": 1, "p": 3}]}', "CABD"),
    ("json", '{"relevant": [1, 2, 3, 4], "ranking": [3, 2, 4, 1]}', "CBDA"), ("json", '{"documents": [1, 2, 3, 4], "sorted_ids": [3, 2]}', "CBAD"),
    ("json", '{"ranking_reasons": ["good"], "documents": [3, 2]}', "CBAD"),
    ("letters", "[b] > A", "BACD"), ("letters", "d > c", "DCAB"), ("letters", "a ranking: C > B", "CBAD"), ("letters", "AB", "ABCD"),
    ("letters", "I'd say: [D]", "DABC"),
    ("words", "PASSAGE3, PASSAGE 1", "CABD"), ("words", "[3, 1]", "CABD"), ("words", "1. PASSAGE4\n2. PASSAGE2", "DBAC"),
    ("ties", "[1] is weak.\n[3] > [2] = [4] > [1]", "CBDA"), ("ties", "[3] > [2]\n```", "CBAD"), ("ties", "[4] > [1] > [4] > [3]", "DABC"),
    ("json", '{"reason": "1 beats 2", "ranking": ["3", 1]}', "CABD"), ("json", '{"documents": [{"index": 4}, {"index": 2}]}', "DBAC"),
    ("json", "[3, 1]", "CABD"),
    ("json", '```json\n{"ranking": [2.0, 4]}\n```', "BDAC"), ("json", "{oops} [3] > [1]", "CABD"), ("json", '{"ranking": [4, 3', "DCAB"),
])
def test_orders_of_other_styles(style, text, order):
    assert parse_order(text, 4, style=style).values == ["ABCD".index(c) for c in order]


def test_an_unknown_style_is_an_error():
    with pytest.raises(InputError, match="numbers"): parse_order("[1]", 1, style="number")
    with pytest.raises(InputError, match="letters"): parse_label("A", 1, style="letter")


# ---------- labels and selections

@pytest.mark.parametrize(("text", "label"), [
    ("Passage B", 1), ("passage C is the best, then Passage A", 2), ("B", 1), ("b", 1), (" (C) ", 2), ("**A**", 0), ("B.", 1), ("Passage: C", 2),
    ('Passage "B"', 1), ("[C]", 2),
    ("B\n\nPassage A does not mention it.", 1), ("**B**\nPassage A is less relevant.", 1), ("B > C > A", 1), ("Passage Ｂ", 1),
    ("The most relevant passage is B.", 1), ("I think B", 1), ("<think>A?</think> C", 2), ("<answer>B</answer>", 1), ("Passage D", None),
    ("A or B", None), ("Passages", None),
    ("a passage about plays", None), ("none of the passages", None), ("", None), (None, None), ("<think>Passage B", None)])
def test_a_letter(text, label): assert parse_label(text, 3) == label


@pytest.mark.parametrize(("text", "label"), [
    ("<think>[1] no</think> <answer>[3]</answer>", 2), ("<answer>[3]", 2), ("[2]", 1), ("Document 3", 2), ("<answer>3</answer>", 2), ("1 or 2", None),
    ("[4]", None), ("[0]", None), ("[1] is off. [3] is best", None), ("<answer>[3] and [1]</answer>", None), ("[3]\n\n[1] is off.", 2), ("[3] > [1] > [2]", 2),
    ("<think>[1] <answer>[2]</answer>", None), ("", None), (None, None)])
def test_a_number(text, label): assert parse_label(text, 3, style="numbers") == label


# The authors' get_top_M (chenyiqun/TourRank @bab7db3, TourRank_multiprocessing.py) on well-formed answers, executed on 2026-11-23
@pytest.mark.parametrize(("text", "theirs"), [
    ("Document 3, Document 1", [2, 0]), ("Document 5, Document 2, Document 4", [4, 1, 3]),
    ("The top 3 documents are: Document 2, Document 5, Document 1.", [1, 4, 0]),
    ("Here:\nDocument 4, Document 3", [3, 2]), ("Document 1", [0]), ("Documents: 5, 2", [4, 1])])
def test_a_selection_is_what_tourrank_reads(text, theirs): assert parse_selection(text, 5, 3) == theirs


@pytest.mark.parametrize(("text", "selected"), [
    ("Document 3, ..., Document 1", [2, 0]), ("Document 3, Document 9", [2]), ("Document 3, Document 3, Document 1", [2, 0]),
    ("Document 1, Document 2, Document 3, Document 4", [0, 1, 2]),
    ("Document 3\nDocument 1", [2, 0]), ("1. Document 3\n2. Document 1", [2, 0]), ("**Document 3**, **Document 1**", [2, 0]), ("[3], [1]", [2, 0]),
    ("Document 3, 1, 5", [2, 0, 4]), ("Document 3, Document 1\nDocument 2 and Document 4 are not.", [2, 0]),
    ("Document 3, Document 1, Document 5.\nDocument 2 and Document 4 are not.", [2, 0, 4]), ("Document 3, Document 1 and Document 5", [2, 0, 4]),
    ("Document 3, Document 1,\nDocument 5", [2, 0, 4]), ("Document 3 > Document 1 > Document 5", [2, 0, 4]),
    ("Document 2 is weak.\nDocument 3, Document 1", [2, 0]),
    ("Document 3: of 1602, 1603\nDocument 1: x", [2, 0]),
    ("<think>Document 5", []), ("none", []), ("", []), (None, [])])
def test_selections_that_tourrank_s_script_stumbles_over(text, selected): assert parse_selection(text, 5, 3) == selected


# ---------- scores

# castorini/umbrela @e2c4e41 common_utils.parse_fewshot_response, executed on 2026-11-23
UMBRELA = [
    ('##final score: 2', 2), ('##final score: 0', 0), ('##Final Score: 3.', 3), ('M: 2\nT: 3\nO: 2\n##final score: 2', 2), ('{"M": 2, "T": 1, "O": 1}', 1),
    ('"final score": 3', 3), ('{"final_score": 2}', 2), ('{"overall_score": 1}', 1), ('The final score is 2', 2), ('I would give it a score of 1', 1),
    ('The passage is on topic.\n3', 3), ('2', 2), ('Relevance category: 1', 1), ('The relevance category would be 2', 2), ('it falls into the category 0', 0),
    ('##final score: **2**', 2), ('Explanation: it answers partly.\n\n2\n', 2), ('final score = 1', 1), ('output score is 3', 3), ('O: 3', 3),
]


@pytest.mark.parametrize(("text", "theirs"), UMBRELA)
def test_a_grade_is_what_umbrela_reads(text, theirs): assert parse_score(text, most=3) == theirs


@pytest.mark.parametrize(("text", "score"), [
    ("from 0 to 3, a 1", 1), ("##final score: 7", None), ("no score", None), ("It was written in 1602.", None), ("score: 2.5", 2.5),
    ("<think>3</think>##final score: 1", 1),
    ("For category 3 it would need the exact answer.\n\n1", 1), ("It is not a category 3 passage.\n2", 2), ("The relevance category is not 3.\n\n**1**", 1),
    ("Category 2 requires some answer; the passage gives none.\n0", 0), ("Score: 2\n(0-3)", 2), ("category 3\n-1", None),
    ("<think>score: 3", None), ("", None), (None, None), ("score: -1", None)])
def test_grades_that_umbrela_reads_otherwise(text, score): assert parse_score(text, most=3) == score


@pytest.mark.parametrize(("text", "score"), [
    ("7", 7), ("10", 10), ("0", 0), ("Relevance: 7", 7), ("Score: 7.5/10", 7.5), ("8/10", 8), ("8 / 10", 8), ('{"score": 7}', 7),
    ('```json\n{"reason": "9 of 10 words", "score": "6"}\n```', 6),
    ('{"score": 11}', None), ('{"score": true}', None), ('{"score": null}', None), ("**Rating: 9**", 9), ("11", None), ("I rate it 4 out of 10", 4),
    ("Score (0-10): 7", 7), ('{"score": "7/10"}', 7), ('{"score": "8 out of 10"}', 8), ('{"score": "none"}', None), ("Score: 7,5", 7.5), ("7,5", 7.5),
    ("Score: 7, 5 of them good", 7), ("It has 1,602 words", None), ("The passage gets a 7 because it covers 3 of 4 facts", 7), ("I rate it 4 of 10", 4),
    ("On a scale from 1 to 10, I say 6.", 6), ("[0–10] 3", 3)])
def test_ratings(text, score): assert parse_score(text) == score


@pytest.mark.parametrize(("text", "answer"), [
    ("Yes", 1), ("no", 0), (" YES.", 1), ("true", 1), ("False", 0), ("Answer: no", 0), ("There is no doubt: yes", 1), ("Yes, there is no doubt", 1),
    ("<think>yes</think>\nfalse", 0),
    ("Answer: Yes. It contains no error.", 1), ("Answer: Yes\nReason: there is no doubt", 1), ("The answer: **No**, although yes in part", 0),
    ("It is true that it names Hamlet, but the answer is no", 0), ("The answer 'no' would be wrong. Answer: yes", 1),
    ("thought </think> true", 1), ("**No**", 0), ("nothing", None), ("maybe", None), ("", None), (None, None), ("<think>yes", None)])
def test_yes_or_no(text, answer): assert parse_yes_no(text) == answer


# ---------- verdicts

def block(i, label, why="because", quote=""):
    return f"<document id={quote}{i}{quote}>\n<explanation>\n{why}\n</explanation>\n<answer>\n{label}\n</answer>\n</document>"


def test_verdicts():
    text = "\n".join([block(0, "RELEVANT"), block(1, "NOT_RELEVANT", quote='"'), block(2, "relevant", quote="'"), block(3, "PERHAPS"), block(9, "RELEVANT")])
    assert parse_verdicts(text, 5) == [Verdict(True, "because"), Verdict(False, "because"), Verdict(True, "because"), None, None]


def test_a_verdict_of_a_cut_off_answer():
    text = block(0, "RELEVANT") + block(1, "NOT_RELEVANT")
    assert parse_verdicts(text[:-len("</answer>\n</document>")], 2) == [Verdict(True, "because"), Verdict(False, "because")]
    assert parse_verdicts(text[:-len("RELEVANT\n</answer>\n</document>")], 2) == [Verdict(True, "because"), None]


@given(st.lists(st.tuples(st.booleans(), st.text(st.characters(blacklist_characters="<>", blacklist_categories=["Cs"])))))
def test_verdicts_come_back_as_they_were_written(verdicts):
    text = "\n".join(block(i, "RELEVANT" if relevant else "NOT_RELEVANT", why) for i, (relevant, why) in enumerate(verdicts))
    assert parse_verdicts(text, len(verdicts)) == [Verdict(relevant, why.strip()) for relevant, why in verdicts]


def test_an_explanation_may_cite_another_document():
    "Before, the citation took the verdict: document 0 was not relevant and document 1 unknown"
    why = "Says less than <document id=0>, nothing on the author."
    assert parse_verdicts(block(0, "RELEVANT") + block(1, "NOT_RELEVANT", why), 2) == [Verdict(True, "because"), Verdict(False, why)]
    unfinished = block(0, "RELEVANT") + block(1, "NOT_RELEVANT", why).removesuffix("</answer>\n</document>")
    assert parse_verdicts(unfinished, 2) == [Verdict(True, "because"), Verdict(False, why)]


def test_an_explanation_may_quote_an_answer():
    why = "One might say <answer>RELEVANT</answer>, but no."
    assert parse_verdicts(block(0, "NOT_RELEVANT", why), 1) == [Verdict(False, why)]
    assert parse_verdicts(block(0, "PERHAPS", why), 1) == [None]


def test_a_block_that_is_never_closed_ends_where_the_next_begins():
    open_block = block(0, "RELEVANT").removesuffix("</document>")
    assert parse_verdicts(open_block + block(1, "NOT_RELEVANT"), 2) == [Verdict(True, "because"), Verdict(False, "because")]
    assert parse_verdicts(open_block + "<document id=1>No.<answer>NOT_RELEVANT</answer></document>", 2) == [Verdict(True, "because"), Verdict(False, "")]
    assert parse_verdicts("<document id=0><explanation>It is\n" + block(1, "RELEVANT"), 2) == [None, Verdict(True, "because")]


@pytest.mark.parametrize(("label", "relevant"), [
    ("**NOT_RELEVANT**", False), ("NOT\\_RELEVANT", False), ("not relevant.", False), ("IRRELEVANT", False), ("Non-relevant", False),
    ("`RELEVANT`", True), ("Relevant.", True)])
def test_a_verdict_may_be_decorated(label, relevant): assert parse_verdicts(block(0, label), 1) == [Verdict(relevant, "because")]


@pytest.mark.parametrize("label", ["PARTIALLY RELEVANT", "RELEVANT or NOT_RELEVANT", "PERHAPS", ""])
def test_a_verdict_that_is_none(label): assert parse_verdicts(block(0, label), 1) == [None]


# ---------- endless answers

@pytest.mark.parametrize("unit", ["[1] > ", "| 1 | 2 |\n|---|---|\n", "Passage 1 is about Faust. ", '{"a": 1} '])
def test_of_an_endless_answer_the_end_is_read(unit):
    endless = unit * 50_000 + "\n\nFinal ranking:\n[2] > [3] > [1]"
    assert after_thought(endless) == endless[-MOST_CHARACTERS:] and len(after_thought("<think>" + endless + "</think>" + endless)) == MOST_CHARACTERS
    assert parse_order(endless, 3).values == [1, 2, 0] and parse_order(endless, 3) == parse_order(endless[-MOST_CHARACTERS:], 3)
    assert after_thought("<think>" + endless) is None       # a thought that began before what is read


@pytest.mark.parametrize(("text", "score"), [("7 4/5", 7), ("7 1.5/2", 7), ("8, page 1/2", 8), ("4/5", None)])
def test_a_fraction_of_something_else_is_not_the_score(text, score):
    "4/5 is on another scale than 0 to 10; the one number beside it is the score"
    assert parse_score(text) == score
