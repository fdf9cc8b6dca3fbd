"A comparison says what plain computation says, whatever fails, and its report stands alone"
import json
import random
import re
from html.parser import HTMLParser
from statistics import mean

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import Document, InputError, Reranker, ServerError, Spec
from rerankers.cli import main
from rerankers.evaluation import TestSet
from rerankers.evaluation.comparison import compare, overlap, thirds
from rerankers.evaluation.measures import FIRST, IDEAL, RANDOM
from rerankers.evaluation.report import front, quality_plot, report_html, table_html
from rerankers.rankers import PointwiseRanker, Ranking

nDCG = ir_measures.nDCG @ 10


class Knows(PointwiseRanker):
    "Knows the grade of a document, as far as it is told; the rest is chance"
    def __init__(self, skill, salt=0): self.skill, self.salt = skill, salt
    def score_pairs(self, pairs, call):
        chance = [random.Random(f"{self.salt} {q} {text}").random() for q, text in pairs]
        return [self.skill * float(text.split()[-1]) + c for (_, text), c in zip(pairs, chance)]


class Breaks(Knows):
    "Fails for some queries, or for all"
    def __init__(self, when): self.when = when
    def score_pairs(self, pairs, call):
        if any(self.when in q for q, _ in pairs): raise ServerError("no answer")
        return [0.0] * len(pairs)


def a_set(queries=30, size=20, seed=0):
    "Documents whose last word is their grade, in an order that knows nothing"
    rng = random.Random(seed)
    grades = {f"q{i}": [rng.choice([0, 0, 0, 1, 2]) for _ in range(size)] for i in range(queries)}
    for row in grades.values(): row[rng.randrange(size)] = 2
    corpus = {f"{q}d{i}": Document(f"document {i} of {q} {g}", f"{q}d{i}") for q, row in grades.items() for i, g in enumerate(row)}
    qrels = {q: {f"{q}d{i}": g for i, g in enumerate(row)} for q, row in grades.items()}
    return TestSet({q: f"query {q} " + "word " * (i % 7) for i, q in enumerate(grades)}, corpus, qrels)


def plain(run, qrels):
    "nDCG@10 of each query, by ir_measures"
    scored = {q: {d: float(-i) for i, d in enumerate(ids)} for q, ids in run.items()}
    return {row.query_id: row.value for row in ir_measures.iter_calc([nDCG], qrels, scored)}


@pytest.fixture(scope="module")
def data(): return a_set()

@pytest.fixture(scope="module")
def found(data): return compare({"good": Knows(1.0), "fair": Knows(0.3, 1), "chance": Knows(0.0, 2)}, data, timed=0)


def test_the_numbers_are_those_of_plain_computation(data, found):
    for name, table in found.tables.items():
        values = plain(table.run(), data.qrels)
        assert found.values[name] == pytest.approx(values, abs=1e-9)
        assert found.table.loc[name, "nDCG@10"] == pytest.approx(100 * mean(values.values()), abs=1e-6)
        first = plain(found.candidates, data.qrels)
        gains = [values[q] - first[q] for q in first]
        row = found.table.loc[name]
        assert row["difference"] == pytest.approx(100 * mean(gains)) and row["low"] <= row["difference"] <= row["high"]
        assert (row["helped"], row["same"], row["hurt"]) == tuple(sum(test(g) for g in gains) for test in (
            lambda g: g > 1e-9, lambda g: abs(g) <= 1e-9, lambda g: g < -1e-9))
    assert list(found.table.index) == ["good", "fair", "chance", FIRST, RANDOM, IDEAL] and found.table.loc[IDEAL, "nDCG@10"] == pytest.approx(100)
    assert found.table.loc[RANDOM, "nDCG@10"] == pytest.approx(found.table.loc[FIRST, "nDCG@10"], abs=8), "the first stage knows nothing here"


def test_the_verdict_is_right(found):
    points = found.table.loc["good", "difference"]
    said = re.search(r"On 30 queries, good is better than the first stage in nDCG@10 \(\+([\d.]+) points", found.verdict)
    assert said and float(said[1]) == pytest.approx(points, abs=0.05) and "cannot be told" not in found.verdict
    assert found.equals == ["good"]
    nothing = compare({"chance": Knows(0.0, 2), "other": Knows(0.0, 3)}, a_set(8), timed=0)
    best = nothing.differences[nothing.best]
    gained = best.interval.low > 0 and best.p_holm <= 0.05
    assert nothing.verdict.startswith("On 8 queries, no ranker is shown to be better than the first stage") != gained


def test_equals_are_named():
    twins = compare({"one": Knows(1.0), "two": Knows(1.0)}, a_set(10), timed=1, repeats=1)
    assert set(twins.equals) == {"one", "two"} and " cannot be told from it. The fastest of these, " in twins.verdict


def test_worse_than_the_first_stage():
    data = a_set(40)
    pool = {q: sorted(row, key=lambda d: -row[d]) for q, row in data.qrels.items()}
    assert "it may well do harm" in compare({"chance": Knows(0.0)}, data, candidates=pool, timed=0).verdict


def test_one_that_fails_does_not_lose_the_others(data):
    rankers = {"good": Knows(1.0), "some": Breaks("q7"), "none": Breaks("query"), "there is no such": "no-such-model-anywhere/x"}
    found = compare(rankers, data, timed=2, repeats=1)
    assert set(found.tables) == {"good", "some"} and set(found.failed) == {"none", "there is no such"}
    assert found.table.loc["some", "failed"] == 1 and found.values["some"]["q7"] == pytest.approx(found.values[FIRST]["q7"])
    assert any("some failed for 1 queries" in line for line in found.warnings) and sum("could not be compared" in line for line in found.warnings) == 2
    with pytest.raises(InputError, match="none of the rankers could be compared"): compare([Breaks("query")], data, timed=0)


def test_interrupted_and_taken_up_again(data, tmp_path):
    class Interrupted(Exception): pass
    rankers = {"good": Knows(1.0), "a/b": Knows(0.3, 1), "a-b": Knows(0.2, 1)}
    def stop(name, done, whole):
        if name == "a/b" and done >= 300: raise Interrupted
    with pytest.raises(Interrupted): compare(rankers, data, folder=tmp_path / "new", timed=0, progress=stop)
    seen = []
    again = compare(rankers, data, folder=tmp_path / "new", timed=0, progress=lambda name, done, whole: seen.append(name))
    assert "good" not in seen and set(seen) == {"a/b", "a-b"} and len(list((tmp_path / "new").iterdir())) == 3
    assert again.values == compare(rankers, data, timed=0).values


def test_queries_that_do_not_count_are_counted(data):
    corpus, qrels = dict(data.corpus), dict(data.qrels)
    odd = TestSet({**data.queries, "u": "nobody judged this", "z": "no relevant document"}, corpus, {**qrels, "z": {"q0d0": 0}, "gone": {"q0d1": 1}})
    pool = {**{q: list(row) for q, row in qrels.items() if q != "q3"}, "u": ["q0d0"], "z": ["q0d0"]}
    found = compare({"good": Knows(1.0)}, odd, candidates=pool, timed=0)
    text = " ".join(found.warnings)
    assert "1 × queries without a relevant document" in text and "1 × queries without candidates" in text
    assert len(found.values["good"]) == 30 and found.values["good"]["q3"] == 0 == found.values[FIRST]["q3"]
    assert found.depth([20]).means["good"][0] == pytest.approx(mean(found.values["good"].values())), "a query without candidates counts as 0 there too"


def test_depths(data, found):
    curves = found.depth()
    assert curves.depths == list(range(1, 21)) and curves.means["good"][-1] == pytest.approx(found.table.loc["good", "nDCG@10"] / 100)
    gains = [m - curves.first for m in curves.means["good"]]
    assert gains[curves.enough("good") - 1] >= 0.9 * max(gains) > gains[curves.enough("good") - 2]
    assert curves.peak("good") == (20, 0.0) and curves.left_out == []
    mixed = compare({"good": Knows(1.0), "words": Reranker("bm25")}, a_set(5), timed=0)
    assert mixed.depth().left_out == ["words"]
    with pytest.raises(InputError, match="depth curves"): compare({"good": Knows(1.0)}, a_set(5), measures=["RR"], timed=0).depth()


def test_wins_groups_and_disagreements(found):
    wins = found.wins()
    assert list(wins["difference"]) == sorted(wins["difference"], reverse=True) and len(wins) == 30
    assert wins["difference"].sum() / 30 == pytest.approx(found.table.loc["good", "difference"])
    groups = found.groups("fair")
    assert all(groups.loc[cut, "queries"].sum() == 30 for cut in groups.index.get_level_values(0).unique())
    whole = (groups["difference"] * groups["queries"]).groupby(level=0).sum() / 30
    assert list(whole) == pytest.approx([found.table.loc["fair", "difference"]] * len(whole))
    most = found.disagreements(5)
    assert len(most) == 5 and list(most["overlap"]) == sorted(most["overlap"])
    for wrong in (lambda: found.wins("godo"), lambda: found.groups("best"), lambda: found.disagreements(first="x")):
        with pytest.raises(InputError, match="no ranker is called"): wrong()


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_overlap(first, second):
    a, b = list(map(str, first)), list(map(str, second))
    assert overlap(a, a) == pytest.approx(1) and overlap(a, b) == pytest.approx(overlap(b, a)) and 0 <= overlap(a, b) <= 1 + 1e-12
    assert (overlap(a, b) > 1 - 1e-9) == (a == b)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9).map(float), min_size=1))
def test_thirds_keep_equals_together(values):
    where = thirds(values, "words")
    assert where.keys() == values.keys() and len(set(where.values())) <= 3
    assert all(where[a] == where[b] for a in values for b in values if values[a] == values[b])


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_the_front_is_beaten_by_nobody(points):
    best = front(points)
    def beats(a, b): return points[a][0] <= points[b][0] and points[a][1] >= points[b][1] and points[a] != points[b]
    assert {points[n] for n in best} == {points[n] for n in points if not any(beats(m, n) for m in points)}


@pytest.mark.parametrize(("rankers", "word"), [([], "no rankers"), ({}, "no rankers"), ({FIRST: "bm25"}, "another name")])
def test_odd_rankers(rankers, word, data):
    with pytest.raises(InputError, match=word): compare(rankers, data)


def test_odd_data(data):
    with pytest.raises(InputError, match="no query has candidates"): compare(["bm25"], data, candidates={"q0": []})
    with pytest.raises(InputError, match="'nowhere' of query 'q0'"): compare(["bm25"], data, candidates={"q0": ["nowhere"]})


@pytest.mark.parametrize(("odd", "word"), [
    ({"measures": []}, "no measures"), ({"measures": ["nDGC@10"]}, "is no measure"), ({"measures": ["nDCG@0"]}, "nDCG@0"),
    ({"measures": ["nDCG@1.5"]}, "nDCG@1.5"), ({"timed": -1}, "timed=-1"), ({"timed": 2.5}, "timed=2.5"), ({"repeats": 0}, "repeats=0"),
    ({"seed": -1}, "seed=-1"), ({"prices": {"godo": {"call": 1}}}, "Did you mean 'good'"), ({"prices": {"good": {"cal": 1}}}, "Did you mean 'call'")])
def test_odd_settings_are_told_before_any_ranker_is_asked(odd, word, data):
    class Unasked(Knows):
        def score_pairs(self, pairs, call): raise AssertionError("asked")
    with pytest.raises(InputError, match=re.escape(word)): compare({"good": Unasked(1.0)}, data, **{"timed": 0, **odd})


def test_one_measure_and_one_ranker_need_no_list():
    assert compare(Spec.parse("bm25"), a_set(3), measures="RR", timed=0).measure == "RR"
    with pytest.raises(InputError, match="None is no list of rankers"): compare(None, a_set(3))


def test_ids_are_texts(data):
    numbers = {i: Document(f"text {i % 3}", i) for i in range(6)}
    texts = {str(i): doc for i, doc in numbers.items()}
    for odd in (TestSet({1: "a"}, numbers, {1: {0: 1}}), TestSet({"1": "a"}, texts, {"1": {0: 1}}), TestSet({"1": "a"}, texts, {1: {"0": 1}})):
        with pytest.raises(InputError, match="is no text"): compare(["bm25"], odd, candidates={q: list(odd.corpus) for q in odd.queries})
    with pytest.raises(InputError, match="'q0d1' of query 'q0' is there twice"): compare(["bm25"], data, candidates={"q0": ["q0d1", "q0d0", "q0d1"]})


class Tires(Knows):
    "Answers so many times, and no more"
    def __init__(self, most): self.skill, self.salt, self.most = 0.5, 0, most
    def score_pairs(self, pairs, call):
        self.most -= 1
        if self.most < 0: raise ServerError("no answer")
        return super().score_pairs(pairs, call)


def test_one_that_fails_while_it_is_timed_has_no_times_and_loses_nobody_else(data):
    for most in (2, 4):     # the first ranking, one part of all candidates, then single queries, then all together
        found = compare({"tires": Tires(most), "good": Knows(1.0)}, a_set(3), timed=2, repeats=1)
        assert set(found.tables) == {"good", "tires"} and found.failed == {}
        assert found.costs["tires"].latency is None is found.costs["tires"].throughput and found.costs["good"].latency is not None
        assert any(line.startswith("tires failed while times were measured") for line in found.warnings)
        assert "tires" not in [text.get_text() for text in quality_plot(found).axes[0].texts], "no place on an axis of times"


def test_answers_that_are_not_complete_are_told(data):
    class Half(Knows):
        def score_pairs(self, pairs, call): return Ranking([1.0] + [None] * (len(pairs) - 1), status="the rest was not judged")
    found = compare({"half": Half(1.0), "good": Knows(1.0)}, a_set(3), timed=0)
    said = [line for line in found.warnings if "did not complete" in line]
    assert len(said) == 1 and said[0].startswith("half did not complete 3 queries: 19 of 20 documents were not judged")


def test_no_gain_is_no_harm(): assert "differs by +0.0" in (said := compare([Breaks("?")], a_set(3), timed=0).verdict) and "harm" not in said


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_odd_numbers_of_disagreements(found, k):
    with pytest.raises(InputError, match="k="): found.disagreements(k)


def test_odd_depths(found):
    for depths in ([], [-1], [2.5]):
        with pytest.raises(InputError, match="depth"): found.depth(depths)


def test_two_of_a_name(data): assert list(compare(["bm25", "bm25", Reranker("bm25")], a_set(3), timed=0).tables) == ["bm25", "bm25#2", "bm25#3"]


def test_json_is_json(found):
    def refuse(word): raise AssertionError(word)
    told = json.loads(found.to_json(), parse_constant=refuse)
    assert told["verdict"] == found.verdict and told["table"]["good"]["difference"] == pytest.approx(found.table.loc["good", "difference"])


class Page(HTMLParser):
    "Which elements are open, and everything that would be fetched"
    void = {"meta", "br", "img", "link", "input", "hr", "use", "path", "rect"}
    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action") and not (v or "").startswith("#")]
        if tag not in self.void: self.open.append(tag)
    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag: pass


def test_the_report_stands_alone(found):
    page, text = Page(), report_html(found)
    page.feed(text)
    assert not page.fetched and "http" not in text.replace("http://www.w3.org/", "") and "@import" not in text and len(text) < 2_000_000
    assert page.tags.count("svg") == 3 and page.tags.count("script") == 1 and found.verdict.replace("'", "&#x27;") in text
    assert "viewport" in text and "prefers-color-scheme" in text or "color-scheme: light dark" in text and "@media print" in text
    assert text == report_html(found), "the same comparison gives the same page"


def test_nothing_of_a_query_is_code():
    data = a_set(3)
    data.queries["q0"] = "<script>alert(1)</script> & <b>\"bold\"</b>"
    found = compare({"<i>good</i>": Knows(1.0)}, data, timed=0)
    text = report_html(found, "a <title>")
    assert "<script>alert" not in text and "<i>good" not in text and "<b>" not in text and "a &lt;title&gt;" in text
    assert "<i>good" not in found._repr_html_()


def test_a_name_is_no_formula():
    assert "a $\\frac$ b" in report_html(compare({"a $\\frac$ b": Knows(1.0)}, a_set(3), timed=0))


def test_a_table_without_anything(): assert table_html({"a": {"x": None, "y": float("nan")}}).count("<th>") == 1


def test_on_the_command_line(tmp_path, capsys):
    data = a_set(6, 12)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"_id": d, "text": doc.content}) + "\n" for d, doc in data.corpus.items()))
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps({"_id": q, "text": text}) + "\n" for q, text in data.queries.items()))
    lines = [f"{q}\t{d}\t{g}\n" for q, row in data.qrels.items() for d, g in row.items()]
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    page = tmp_path / "report.html"
    assert main(["compare", str(tmp_path), "--models", "bm25", "bm25:5 > bm25", "--candidates", "judged", "--timed", "1", "--report", str(page), "-q"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("On 6 queries, ") and "bm25:5 > bm25" in said and FIRST in said and page.read_text().startswith("<!doctype html>")
    assert main(["compare", str(tmp_path), "--models", "bm25", "--candidates", "judged", "--timed", "0", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 6
    assert main(["compare", str(tmp_path)]) == 2 and "--models" in capsys.readouterr().err


def test_one_query_proves_nothing():
    verdict = compare({"good": Knows(1.0)}, a_set(1), timed=0).verdict
    assert verdict.startswith("On 1 query, no ranker is shown to be better than the first stage")
