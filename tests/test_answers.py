"What chat models answer, read as somebody who knows the question reads it; the answers are in answers.py"
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import answers

from rerankers import Reranker
from rerankers.errors import UnusableAnswer
from rerankers.llm.identifiers import NOUNS
from rerankers.llm.parsing import parse_label, parse_order, parse_score, parse_selection, parse_yes_no
from rerankers.strategies.basics import repair


def position(label): return int(label) - 1 if label.isdigit() else ord(label) - ord("A")


def meant(labels, n):
    "The whole order that a string of labels means, or None"
    return None if labels is None else list(repair(map(position, labels.split()), n))


def read(text, n, style="numbers"):
    "The order of an answer, or None where it cannot be used"
    said = parse_order(text, n, style=style)
    assert sorted(said) == list(range(n))
    return None if said.status in ("empty", "wrong_format") else said.values


def cases(rows): return [pytest.param(*row, id=str(i)) for i, row in enumerate(rows)]


# ---------- the table

def test_the_table_is_large_and_half_of_it_is_no_ranking():
    rankings, refusals = answers.RANKINGS + answers.MORE_RANKINGS + answers.LATER_RANKINGS, answers.REFUSALS + answers.MORE_REFUSALS
    assert len(rankings) > 200 and len(refusals) > 200


@pytest.mark.parametrize("style", ["numbers", "ties", "json"])
def test_a_ranking_is_read_as_it_was_meant(style):
    "Every row of the table, and what is wrong with all that are read otherwise: a test a row would take longer to set up than to run"
    rows = answers.RANKINGS + answers.MORE_RANKINGS + answers.LATER_RANKINGS
    assert not [(text, found, meant(labels, n)) for text, n, labels in rows if (found := read(text, n, style)) != meant(labels, n)]


@pytest.mark.parametrize("style", ["numbers", "ties", "json"])
def test_what_is_no_ranking_is_not_taken_for_one(style):
    rows = answers.REFUSALS + answers.MORE_REFUSALS + answers.LATER_REFUSALS
    assert not [(text, found) for text, n in rows if (found := read(text, n, style)) is not None]


@pytest.mark.parametrize(("style", "text", "n", "labels"), [pytest.param(style, *row, id=f"{style}-{i}") for style, rows in (
    ("letters", answers.LETTERS), ("words", answers.WORDS), ("ties", answers.TIES)) for i, row in enumerate(rows)])
def test_other_styles(style, text, n, labels): assert read(text, n, style) == meant(labels, n), text


@pytest.mark.parametrize(("style", "text", "n", "label"), [pytest.param(style, *row, id=f"{style}-{i}") for style, rows in (
    ("letters", answers.CHOICES), ("numbers", answers.NUMBER_CHOICES)) for i, row in enumerate(rows)])
def test_a_choice(style, text, n, label): assert parse_label(text, n, style=style) == (label and position(label)), text


@pytest.mark.parametrize(("text", "n", "most", "labels"), cases(answers.SELECTIONS))
def test_a_selection(text, n, most, labels): assert parse_selection(text, n, most) == [position(label) for label in (labels or "").split()], text


@pytest.mark.parametrize(("text", "most", "score"), cases(answers.SCORES))
def test_a_score(text, most, score): assert parse_score(text, most=most) == score, text


@pytest.mark.parametrize(("text", "answer"), cases(answers.YES_NO))
def test_yes_or_no(text, answer): assert parse_yes_no(text) == answer, text


# ---------- whatever the order, the form and the remarks

FORMS = {       # how an order may be written: one item, what stands between, the whole
    "chain": ("[{}]", " > ", "{}"), "bare chain": ("{}", " > ", "{}"), "named chain": ("Passage {}", " > ", "{}"), "arrows": ("[{}]", " → ", "{}"),
    "list": ("[{}]", ", ", "{}"), "bare list": ("{}", ", ", "{}"), "array": ("{}", ", ", "[{}]"), "lines": ("[{}]", "\n", "{}"),
    "bullets": ("- [{}]", "\n", "{}"),
    "bold": ("**[{}]**", " > ", "{}"), "fence": ("[{}]", " > ", "```\n{}\n```"), "JSON": ("{}", ", ", '{{"ranking": [{}]}}'),
    "tags": ("<passage>{}</passage>", "", "<ranking>{}</ranking>"), "full width": ("［{}］", "＞", "{}")}
NUMBERED = {"numbered": "{place}. [{id}]", "numbered, named": "{place}. Passage {id} - it answers in {n} words", "places": "Rank {place}: [{id}]",
            "table": "| {place} | {id} |", "ordinals": "{place}) **[{id}]** (score 0.5)"}
BEFORE = ["", "Sure! Here is the ranking of the {n} passages:\n\n", "I compared all {n} passages, written between 1602 and 1999.\n\nFinal ranking:\n",
          "<think>Passage [1] is about Faust; 3 of 4 are not.</think>\n", "I'm sorry for the delay of 20 s. Ranking:\n", "Hier ist die Rangfolge:\n",
          "排序结果：\n"]
AFTER = ["", "\n\nThe first 2 are close.", "\n\nNote: written in 1602, with 95% certainty.", "\n\nLet me know if you need the other 3 aspects!"]
ORDERS = st.integers(3, 15).flatmap(lambda n: st.permutations(range(1, n + 1)))


def written(order, form):
    "An order of identifiers as a text"
    if form in NUMBERED: return "\n".join(NUMBERED[form].format(place=k, id=i, n=len(order)) for k, i in enumerate(order, start=1))
    item, between, whole = FORMS[form]
    return whole.format(between.join(map(item.format, order)))


@pytest.mark.parametrize("form", [*FORMS, *NUMBERED])
@given(ORDERS, st.sampled_from(BEFORE), st.sampled_from(AFTER))
def test_an_order_is_read_back_from_every_form(form, order, before, after):
    text = before.format(n=len(order)) + written(order, form) + after
    said = parse_order(text, len(order))
    assert (said.values, said.status) == ([i - 1 for i in order], "ok"), text


@pytest.mark.parametrize("form", ["chain", "bare chain", "list", "bare list", "lines", "numbered", "places"])
@pytest.mark.parametrize("header", ["Worst to best:\n", "From least to most relevant:\n", "Least relevant first:\n", "In ascending order of relevance:\n",
                                    "Aufsteigend:\n", "从低到高：\n"])
@given(ORDERS)
def test_an_order_from_worst_to_best_is_turned_round(form, header, order):
    assert parse_order(header + written(order, form), len(order)).values == [i - 1 for i in reversed(order)]


@given(ORDERS, st.sampled_from(["rank", "place", "position"]), st.sampled_from(["passage", "document", "id", "passage_id", "doc"]), st.randoms())
def test_objects_are_read_by_their_place_wherever_they_stand(order, place, ident, random):
    import json
    objects = [{place: k, ident: i} for k, i in enumerate(order, start=1)]
    random.shuffle(objects)
    for text in (json.dumps(objects), json.dumps({"ranking": objects}), f"```json\n{json.dumps(objects, indent=2)}\n```", "\n".join(map(json.dumps, objects))):
        assert parse_order(text, len(order)).values == [i - 1 for i in order], text


@given(ORDERS, st.sampled_from(["score", "relevance", "relevance_score", "rating"]), st.randoms())
def test_objects_with_scores_are_ordered_by_them(order, key, random):
    import json
    objects = [{"passage": i, key: 9.5 - k / 2} for k, i in enumerate(order)]
    random.shuffle(objects)
    lines = "\n".join(f"Passage {each['passage']}: {each[key]}/10" for each in objects)
    for text in (json.dumps(objects), lines): assert parse_order(text, len(order)).values == [i - 1 for i in order], text


SAID = {"": None, "Yes.": 1, "No.": 0}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("around", ["{}? {}", "Answer {}: {}", "The answer is {}? {}", "{}\n{}"])
@pytest.mark.parametrize("question", ["yes or no", "Yes/No", "yes, or no", "YES - or NO", "true or false", "True, or false"])
def test_a_question_that_is_repeated_answers_nothing(question, around, said): assert parse_yes_no(around.format(question, said)) == SAID[said]


@pytest.mark.parametrize("denial", ["I can't give it a {}", "I cannot give it a {}", "It does not deserve a {}", "I would never rate it {}",
                                    "I am unable to assign it a {}", "It isn’t a {}"])
@given(st.integers(0, 10), st.integers(0, 10))
def test_a_score_that_is_denied_is_none(denial, denied, given):
    assert parse_score(denial.format(denied) + ".") is None
    assert parse_score(f"I'd give it a {given}. {denial.format(denied)}.") == parse_score(f"{denial.format(denied)}; I'd give it a {given}.") == given


# ---------- whatever is no ranking

WORDS = st.text(st.characters(categories=["Ll", "Lu", "Lo"]), min_size=2, max_size=9).filter(lambda word: not NOUNS.search(word))


@given(st.text(st.characters(exclude_categories=["Nd", "No", "Cs"]), max_size=200), st.integers(1, 30))
def test_a_text_without_digits_is_no_ranking(text, n): assert read(text, n) is None


@given(st.lists(st.tuples(WORDS, st.integers(1, 30)), min_size=1, max_size=8), WORDS)
def test_bare_numbers_among_words_are_no_ranking(pairs, last):
    text = " ".join(f"{word} {number}" for word, number in pairs) + f" {last}."
    assert read(text, 30) is None
    assert read(text.capitalize(), 30, "ties") is None


ENGLISH = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=2, max_size=8)


@given(st.lists(ENGLISH, min_size=1, max_size=8).map(" ".join), st.sampled_from("aAI"))
def test_words_of_one_letter_are_no_ranking(text, letter):
    if NOUNS.search(text): return
    assert read(f"{letter} {text} {letter} {text}", 26, "letters") is None
    assert parse_label(f"{text} {letter} {text}", 26) is None


# ---------- all the way through

DOCS = [f"passage about thing {i}" for i in range(20)]
REFUSED = "I'm sorry, but I cannot rank these 20 passages"


@pytest.mark.parametrize("text", [REFUSED, "19th century", "Error 12", '{"error": {"code": 3}}', "I cannot choose between Passage A and Passage B."])
@pytest.mark.parametrize("word, options", [("rankgpt", {}), ("rankllm", {"use_alpha": True}), ("lrl", {}), ("reasonrank", {}), ("rank-k", {}),
                                           ("setwise", {}), ("prp", {}), ("tourrank", {}),
                                           ("llm-graded", {}), ("umbrela", {}), ("llm-yes-no", {}), ("llm-relevance-filter", {})])
def test_a_refusal_is_an_error_or_the_kept_order(word, options, text):
    if word in ("llm-graded", "umbrela") and text == REFUSED: text = "I'm sorry, but I cannot rate this 1 passage"
    with pytest.raises(UnusableAnswer): Reranker(word, client=lambda messages: text, **options).rank("q", DOCS)
    kept = Reranker(word, client=lambda messages: text, on_error="keep", **options).rank("q", DOCS)
    assert [r.doc_id for r in kept] == list(range(20))
    assert set(kept.faults) == {"wrong_format"} and sum(kept.faults.values()) == kept.usage.calls or re.search("filter", word)


def test_a_ranking_after_an_apology_counts():
    results = Reranker("rankgpt", client=lambda messages: "I'm sorry for the delay. [3] > [1]").rank("q", DOCS)
    assert [r.doc_id for r in results][:3] == [2, 0, 1]
