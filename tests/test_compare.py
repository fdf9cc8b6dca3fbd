"A comparison says what plain computation says, whatever fails, and its report stands alone"
import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from statistics import mean

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerankers import AuthenticationError, BadRequestError, Cascade, Document, InputError, Reranker, ServerError, Spec, UnusableAnswer
from rerankers.cli import main, steps
from rerankers.evaluation import TestSet
from rerankers.evaluation.comparison import compare, file_name, luck_of, overlap, seeded_runs, thirds
from rerankers.evaluation.measures import FIRST, IDEAL, RANDOM, unjudged_bounds
from rerankers.evaluation.pairs import GIVE_UP, NOT_ASKED
from rerankers.evaluation.statistics import Winner, intervals
from rerankers.evaluation.runs import parse_run
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

def test_the_lowest_third_ends_below_its_limit():
    assert thirds({"a": 1, "b": 2, "c": 3, "d": 4}, "words") == {"a": "below 2 words", "b": "2 to 3 words", "c": "2 to 3 words", "d": "above 3 words"}


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
    assert page.tags.count("svg") == 8 and page.tags.count("script") == 1 and found.verdict.replace("'", "&#x27;") in text
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


def test_a_table_without_anything(): assert table_html({"a": {"x": None, "y": float("nan")}}).count("<th ") == 2, "its corner and the name of its row"


DRAWN = []

class Drawn(Knows):
    words = ("tests.drawn",)
    def __init__(self, seed=0):
        self.skill, self.salt = 0.2, seed
        DRAWN.append(seed)


def test_runs_of_a_line_have_the_next_seeds():
    found = seeded_runs("bm25:5 > tests.drawn(seed=4)", 3)
    assert found[0] == "bm25:5 > tests.drawn(seed=4)" and [str(part.parts[1]) for part in found[1:]] == ["tests.drawn(seed=5)", "tests.drawn(seed=6)"]
    assert seeded_runs("bm25", 3) == ["bm25"] and seeded_runs("m(temperature=0)", 3) == ["m(temperature=0)"]
    assert list(map(str, seeded_runs("m(temperature=0.7)", 2))) == ["m(temperature=0.7)"] * 2


def test_progress_is_told_in_steps_of_all_rankers():
    done = []
    tell = steps(done.append)
    for told in (("a", 3, 6), ("b", 2, 6), ("a", 6, 6), ("b", 6, 6)): tell(*told)
    assert done == [3, 2, 3, 4]


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
    assert re.search("differences of less than about|queries are too few|says the same", said)
    assert main(["compare", str(tmp_path), "--models", "bm25", "--candidates", "judged", "--timed", "0", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 6
    drawn = ["compare", str(tmp_path), "--models", "bm25", "tests.drawn(seed=4)", "--runs", "3", "--candidates", "judged", "--timed", "0", "--json", "-q"]
    assert main(drawn) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert (table["bm25"]["runs"], table["tests.drawn(seed=4)"]["runs"]) == (None, 3) and DRAWN == [4, 5, 6]
    assert main(["compare", str(tmp_path)]) == 2 and "--models" in capsys.readouterr().err


def test_a_table_in_a_file_and_runs_on_the_command_line(tmp_path, capsys):
    data, table = a_set(6, 12), tmp_path / "pairs.jsonl"
    order = {q: sorted(row, key=lambda d: d[::-1]) for q, row in data.qrels.items()}
    rows = [{"query": data.queries[q], "query_id": q, "doc_id": d, "text": data.corpus[d].text, "label": data.qrels[q][d]}
            for q, ids in order.items() for d in ids]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", str(table), "--models", "bm25", "--timed", "0", "--trec", str(tmp_path / "runs"), "--depth", "9", "-q"]) == 0
    assert capsys.readouterr().out.startswith("On 6 queries, ")
    qrels = [ir_measures.Qrel(q, d, g) for q, row in data.qrels.items() for d, g in row.items()]
    for path in (tmp_path / "runs").iterdir():
        assert path.read_text().startswith("# ir_metadata.start") and "reported measures" in path.read_text()
        run = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert len(run) == 6 * 9 and len(list(ir_measures.iter_calc([nDCG], qrels, ir_measures.read_trec_run("\n".join(run))))) == 6
    assert [line.split()[2] for line in (tmp_path / "runs" / f"{file_name(FIRST)}.run").read_text().splitlines() if line.startswith("q0 ")] == order["q0"][:9]
    assert main(["audit", str(table), "-m", "bm25", "--plan"]) == 0 and "6 queries" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "nowhere"), "--models", "bm25"]) == 1 and "nowhere" in capsys.readouterr().err


def test_runs_are_what_was_ranked(tmp_path, data):
    found = compare({"good": [Knows(1.0), Knows(0.5, 1)], "cascade": Cascade((Knows(0.3), 5), Knows(1.0))}, data, timed=0)
    paths = found.save_runs(tmp_path / "new" / "folder")
    assert len(paths) == len(set(paths)) == 4
    for path, run in zip(paths, [found.candidates, *(table.run() for name in found.tables for table in found.tables_of(name))]):
        read = parse_run(path.read_text(), Counter())
        assert {q: list(scores) for q, scores in read.items()} == run


def test_what_nobody_judged_has_bounds_and_ties_are_counted(data):
    partly = TestSet(data.queries, data.corpus, {q: dict(list(row.items())[:12]) for q, row in data.qrels.items()})
    pool = {q: list(row)[::-1] for q, row in data.qrels.items()}
    found = compare({"good": Knows(1.0), "equal": Breaks("?")}, partly, candidates=pool, timed=0)
    for name, run in (("good", found.tables["good"].run()), (FIRST, pool)):
        low, high = (side.mean["nDCG@10"] for side in unjudged_bounds(run, partly.qrels))
        row = found.table.loc[name]
        assert row["at least"] == pytest.approx(100 * low) and row["at most"] == pytest.approx(100 * high) and low <= row["nDCG@10"] / 100 + 1e-9 < high
    assert found.table.loc["equal", "tied pairs"] == 30 * 190 and found.table.loc["good", "tied pairs"] == 0
    assert "at most" not in compare({"good": Knows(1.0)}, data, timed=0).table, "all are judged"


def test_one_query_proves_nothing():
    verdict = compare({"good": Knows(1.0)}, a_set(1), timed=0).verdict
    assert verdict.startswith("On 1 query, no ranker is shown to be better than the first stage")


class Odd(Knows):
    "Fails with any exception, for the queries of a kind or for the first ones it is asked"
    def __init__(self, error, when="", times=10**9): self.skill, self.salt, self.error, self.when, self.times = 1.0, 0, error, when, times
    def score_pairs(self, pairs, call):
        if any(self.when in q for q, _ in pairs) and self.times:
            self.times -= 1
            raise self.error
        return super().score_pairs(pairs, call)


def test_any_exception_is_recorded_and_loses_nobody_else(data):
    rankers = {"good": Knows(1.0), "bug": Odd(TypeError("no\nnumber")), "part": Odd(KeyError("gone"), "q7"), "broken": Reranker("bm25")}
    rankers["broken"].answer = None     # calling it is a TypeError of Python's own
    found = compare(rankers, data, timed=2, repeats=1)
    assert set(found.tables) == {"good", "part"} and found.failed["bug"] == "TypeError: no number" and found.failed["broken"].startswith("TypeError: ")
    assert found.tables["part"].failures == {"q7": "KeyError: 'gone'"} and found.costs["part"].latency is not None
    with pytest.raises(InputError, match="bug: TypeError: no number"): compare({"bug": Odd(TypeError("no number"))}, data, timed=0)


def test_loading_may_fail_in_any_way(monkeypatch, data):
    from rerankers.evaluation import costs
    load = costs.as_ranker
    def loads(part): return 1 / 0 if part == "broken" else load(part)
    monkeypatch.setattr(costs, "as_ranker", loads)
    assert compare(["bm25", "broken"], a_set(3), timed=0).failed == {"broken": "ZeroDivisionError: division by zero"}


def test_who_stops_the_process_stops_it(data):
    for stop in (KeyboardInterrupt, SystemExit):
        with pytest.raises(stop): compare({"good": Knows(1.0), "stop": Odd(stop())}, data, timed=0)


@pytest.mark.parametrize("error", [ServerError("busy"), ValueError("empty")])
def test_a_first_query_that_fails_drops_nobody(error, data):
    found = compare({"late": Odd(error, "query q0 "), "moody": Odd(error, times=1)}, data, timed=2, repeats=1)
    assert list(found.tables["late"].failures) == ["q0"] and not found.tables["moody"].failures and not found.failed
    assert found.costs["moody"].latency is not None is found.costs["late"].latency
    assert any(line.startswith("late failed while times were measured") and str(error) in line for line in found.warnings)


def test_what_no_other_query_would_mend_is_asked_once(data):
    asked = []
    class Locked(Knows):
        def score_pairs(self, pairs, call):
            asked.append(1)
            raise AuthenticationError("no such key")
    assert compare({"locked": Locked(1.0), "good": Knows(1.0)}, data, timed=0).failed == {"locked": "AuthenticationError: no such key"}
    assert len(asked) == 1


class Down(Knows):
    "A server that goes away after so many answers, and comes back when it is told to; counts the requests"
    def __init__(self, answers, error=ServerError): self.skill, self.salt, self.left, self.error, self.asked = 1.0, 0, answers, error, 0
    def score_pairs(self, pairs, call):
        self.asked += 1
        self.left -= 1
        if self.left < 0: raise self.error("no answer")
        return super().score_pairs(pairs, call)


def test_a_server_that_is_down_is_not_asked_about_every_query(tmp_path):
    data = a_set(60, 6)
    down, good = Down(3), Knows(0.4)        # the first query, and twice eight of them
    found = compare({"down": down, "good": good}, data, folder=tmp_path, timed=0)
    assert down.asked == 3 + 1 + GIVE_UP, "the next eight together, and each alone"
    rows = found.tables["down"].rows.values()
    assert [row.status for row in rows] == ["complete"] * 16 + ["failed"] * GIVE_UP + [NOT_ASKED] * 36 and list(found.tables) == ["down", "good"]
    assert all("not asked, because 8 queries in a row had failed: ServerError: no answer" in row.error for row in list(rows)[24:])
    [said] = [line for line in found.warnings if "given up" in line]
    assert said.startswith("down was given up after 8 failures in a row: 36 queries were not asked") and found.table.loc["down", "failed"] == 44
    down.left, down.asked = 10**9, 0
    again = compare({"down": down, "good": good}, data, folder=tmp_path, timed=0)
    assert down.asked == 1 + 6 and not again.tables["down"].failures
    assert again.values == compare({"down": Knows(1.0), "good": good}, data, timed=0).values
    never = Down(0)
    with pytest.raises(InputError, match="down: ServerError: no answer"): compare({"down": never}, data, timed=0)
    assert never.asked == 1 + 1 + GIVE_UP


@pytest.mark.parametrize("error", [InputError, UnusableAnswer, BadRequestError])
def test_errors_about_queries_say_nothing_about_the_next_one(error):
    odd = Down(1, error)
    with pytest.raises(InputError, match="no answer"): compare({"odd": odd}, a_set(40, 6), timed=0)
    assert odd.asked == 1 + 5 * 9


def test_only_failures_in_a_row_count():
    data = a_set(40, 6)
    class Moody(Knows):
        def score_pairs(self, pairs, call):
            if any(int(q.split()[1][1:]) % GIVE_UP for q, _ in pairs): raise ServerError("busy")
            return super().score_pairs(pairs, call)
    assert len(compare({"moody": Moody(1.0)}, data, timed=0).tables["moody"].failures) == 35


def test_queries_without_candidates_count_for_every_ranker_and_so_it_is_said(data):
    pool = {q: list(row) for q, row in data.qrels.items() if q not in ("q3", "q4")}
    found = compare({"good": Knows(1.0)}, data, candidates=pool, timed=0)
    assert "2 × queries without candidates, which count as 0 for every ranker" in found.warnings
    whole = compare({"good": Knows(1.0)}, data, timed=0)
    expected = sum(v for q, v in whole.values["good"].items() if q in pool) / len(data.qrels)
    assert found.table.loc["good", "nDCG@10"] == pytest.approx(100 * expected) and found.table.loc[IDEAL, "nDCG@10"] == pytest.approx(100 * 28 / 30)
    judged = {q: {d: float(-i) for i, d in enumerate(ids)} for q, ids in found.tables["good"].run().items()}
    assert ir_measures.calc_aggregate([nDCG], data.qrels, judged)[nDCG] == pytest.approx(expected), "as the field's own program does"


COLUMNS = ["id", "query", "difference", "overlap", "queries", "group", "cut by", "low", "high", "best of good", "p (Holm)", "nDCG@10"]

@pytest.mark.parametrize("name", COLUMNS)
def test_a_name_is_no_column(name):
    def told(name):
        found = compare({name: Knows(1.0), "good": Knows(0.3, 1)}, a_set(6), timed=0)
        frames = [found.wins(name), found.wins("good", over=name), found.groups(name), found.disagreements(3), found.table]
        return [frame.reset_index().to_numpy().tolist() for frame in frames], [len(set(frame.columns)) == len(frame.columns) for frame in frames]
    assert json.dumps(told(name)).replace(name, "?") == json.dumps(told("plain")).replace(name, "?").replace("plain", "?")


@pytest.mark.parametrize("name", ["語" * 100, "𠀀" * 80, "a" * 300, "é" * 90, "..", ".", "", "a/b\\c:d*e?f\"g<h>i|j\nk\0l", "~", "-rf", " "])
def test_every_name_is_a_file(name, tmp_path):
    rankers = {name: Knows(1.0), name + "x": Knows(0.3, 1), name.upper() + "X": Knows(0.2)}
    found = compare(rankers, a_set(3), folder=tmp_path, timed=0)
    assert set(found.tables) == set(rankers) and not found.failed
    files = list(tmp_path.iterdir())
    assert len({f.name.casefold() for f in files}) == len(rankers) and all(len(f.name.encode()) <= 200 for f in files)
    assert compare(rankers, a_set(3), folder=tmp_path, timed=0).values == found.values


def test_a_name_of_half_a_character():
    with pytest.raises(InputError, match="half a character"): compare({"a\ud800": Knows(1.0)}, a_set(3))


def test_several_runs_of_one_that_draws(data, tmp_path):
    seeds = {"drawn": [Knows(0.2, salt) for salt in range(4)], "good": Knows(1.0)}
    found = compare(seeds, data, folder=tmp_path, timed=1, repeats=1)
    alone = {f"{salt}": compare({"one": Knows(0.2, salt)}, data, timed=0) for salt in range(4)}
    means = [one.table.loc["one", "nDCG@10"] for one in alone.values()]
    row = found.table.loc["drawn"]
    assert row["nDCG@10"] == pytest.approx(mean(means)) and row["runs"] == 4
    assert (row["lowest run"], row["highest run"]) == (pytest.approx(min(means)), pytest.approx(max(means)))
    for q in data.queries: assert found.values["drawn"][q] == pytest.approx(mean(one.values["one"][q] for one in alone.values()))
    depths = found.depth([5, 20]).means["drawn"]
    assert depths == pytest.approx([mean(one.depth([5, 20]).means["one"][i] for one in alone.values()) for i in (0, 1)])
    [said] = [line for line in found.caveats if "was run" in line]
    assert said.startswith(f"drawn was run 4 times, with {min(means):.1f} to {max(means):.1f} points")
    assert json.loads(found.to_json())["caveats"] == found.caveats and said in report_html(found)
    assert len(list(tmp_path.iterdir())) == 5 and "runs" not in compare({"good": Knows(1.0)}, data, timed=0).table


def test_the_interval_knows_of_the_runs(data):
    def width(runs): return compare({"drawn": runs}, data, timed=0).differences["drawn"].interval.half_width
    few, many = width([Knows(0.2, 0), Knows(0.2, 1)]), width([Knows(0.2, 0)])
    queries_alone = width([Knows(0.2, 0)] * 2)
    assert queries_alone == pytest.approx(many) and few != pytest.approx(many), "the same run twice adds nothing, other runs do"
    apart = compare({"drawn": [Knows(1.0), Knows(0.0, 1)]}, data, timed=0)
    gains = {q: value - apart.values[FIRST][q] for q, value in apart.values["drawn"].items()}
    means_alone = intervals({"gain": gains}, seed=apart.seed)["gain"].half_width
    assert apart.differences["drawn"].interval.half_width > 1.5 * means_alone, "runs that are far apart say how far others could be"


def test_one_run_that_fails_loses_no_other(data):
    found = compare({"drawn": [Knows(0.2, 0), Odd(TypeError("no")), Knows(0.2, 1)]}, data, timed=0)
    assert len(found.runs["drawn"]) == 2 and found.failed == {"drawn (run 2)": "TypeError: no"}
    some = compare({"drawn": [Knows(0.2, 0), Odd(TypeError("no"), "q7")]}, data, timed=0)
    assert some.table.loc["drawn", "failed"] == 1 and any(line.startswith("drawn (run 2) failed for 1 queries") for line in some.warnings)
    with pytest.raises(InputError, match="empty list of runs"): compare({"drawn": []}, data)


def test_caveats_are_those_of_plain_computation(data, found):
    half = max(d.interval.half_width for d in found.differences.values())
    assert found.caveats[0] == f"With these 30 queries, differences of less than about {100 * half:.1f} points may be chance."
    rng, lost = random.Random(0), []
    for _ in range(4000):
        half = rng.sample(sorted(data.queries), 15)
        other = [q for q in data.queries if q not in half]
        best = max(found.tables, key=lambda name: sum(found.values[name][q] for q in half))
        lost.append(mean(found.values[best][q] for q in half) - mean(found.values[best][q] for q in other))
    assert found.winner.inflation == pytest.approx(mean(lost) / 2 ** 0.5, abs=0.005)
    assert found.caveats[1] == luck_of(found.winner) and all(line in report_html(found) for line in found.caveats)
    alone = compare({"good": Knows(1.0)}, data, timed=0)
    assert len(alone.caveats) == 1 and compare({"good": Knows(1.0), "x": Knows(0)}, a_set(1), timed=0).caveats == ["One query cannot show any difference."]


def test_luck_in_words():
    assert luck_of(Winner("a", 0.5, 0.02, {"a": 0.6, "b": 0.4})) == (
        "Choosing the best of 2 on the queries that it is then judged by adds about 2.0 points: "
        "expect 48.0 from a on new ones, not 50.0; 60 % of random halves of the queries choose it.")
    assert luck_of(Winner("a", 0.5, -0.001, {"a": 1.0})).endswith("adds next to nothing: 100 % of random halves of the queries choose a.")


def test_too_few_queries_and_queries_that_say_the_same():
    few = compare({"good": Knows(1.0)}, a_set(5), timed=0)
    assert few.differences["good"].p_holm == pytest.approx(0.0625)
    assert few.caveats == ["5 queries are too few: even if a ranker is better on each of them, p is 0.06, and up to 0.05 counts."]
    assert compare({"good": Knows(1.0)}, a_set(6), timed=0).differences["good"].p_holm <= 0.05
    same = compare({"same": Breaks("?")}, a_set(8), timed=0)
    assert same.caveats == ["Each of these 8 queries says the same, so they do not show how large a difference may be chance."]


class Steady(Knows):
    "Knows the grades, but for two documents that are always first"
    def score_pairs(self, pairs, call): return [9.0 if text.split()[1] in ("0", "2") else float(text.split()[-1]) for _, text in pairs]

class Bold(Knows):
    "Knows the grades, and for five queries takes the worst for the best"
    def score_pairs(self, pairs, call):
        return [float(text.split()[-1]) * (-1 if int(text.split()[3][1:]) > 6 else 1) for _, text in pairs]


def test_a_bold_best_does_not_hide_a_steady_one():
    grades = {f"q{i}": [2, *[0] * 11, 1] for i in range(12)}
    corpus = {f"{q}d{i}": Document(f"document {i} of {q} {g}", f"{q}d{i}") for q, row in grades.items() for i, g in enumerate([0, *row])}
    qrels = {q: {d: int(doc.text.split()[-1]) for d, doc in corpus.items() if d.startswith(f"{q}d")} for q in grades}
    data = TestSet(dict.fromkeys(grades, "which"), corpus, qrels)
    pool = {q: [f"{q}d0", *(f"{q}d{i}" for i in (2, 3, 1, *range(4, 14)))] for q in grades}
    found = compare({"bold": Bold(1.0), "steady": Steady(1.0)}, data, candidates=pool, timed=0)
    bold, steady = found.differences["bold"], found.differences["steady"]
    assert found.best == "bold" and bold.p_holm > 0.05 and steady.interval.low > 0 and steady.p_holm < 0.01, (bold, steady)
    assert found.verdict.startswith("On 12 queries, steady is better than the first stage in nDCG@10 (+")
    assert "The mean of bold is higher, but its gain may be chance" in found.verdict


def test_candidates_with_scores_are_in_the_order_of_the_scores(data):
    rising = {q: {d: float(i) for i, d in enumerate(row)} for q, row in data.qrels.items()}
    found = compare(["bm25"], data, candidates=rising, timed=0)
    assert found.candidates == {q: [*reversed(row)] for q, row in data.qrels.items()}
    results = {"q0": Reranker("bm25").rank(data.queries["q0"], ["document 2", "document 1"], doc_ids=["q0d2", "q0d1"])}
    assert compare(["bm25"], data, candidates=results, timed=0).candidates == {"q0": [r.doc_id for r in results["q0"]]}


def test_queries_that_are_left_out_are_told(data):
    more = TestSet({**data.queries, "u": "nobody judged this"}, data.corpus, data.qrels)
    found = compare(["bm25"], more, candidates={**{q: list(row) for q, row in data.qrels.items()}, "u": ["q0d0"], "gone": ["q0d0"]}, timed=0)
    assert "1 × queries without judgements, which are left out" in found.warnings
    assert "1 × queries of candidates= without a text, which are left out" in found.warnings and len(found.values["bm25"]) == 30


@pytest.mark.parametrize(("odd", "word"), [
    ({"candidates": ["q0d0"]}, "candidates= is a dictionary"), ({"candidates": {"q0": "q0d0"}}, "'q0d0' is no ranking"),
    ({"candidates": {"q0": {"q0d0": None}}}, "the score of 'q0d0' is None"), ({"data": None}, "None is no test set"),
    ({"data": "folder"}, "'folder' is no test set"), ({"folder": __file__}, "File exists")])
def test_what_is_no_data_is_told(odd, word, data):
    with pytest.raises(InputError, match=re.escape(word)): compare(["bm25"], **{"data": data, "timed": 0, **odd})


def test_files_that_cannot_be_written(found, tmp_path):
    with pytest.raises(InputError, match="No such file"): found.save(tmp_path / "nowhere" / "report.html")
    with pytest.raises(InputError, match="File exists"): found.save_runs(__file__)
    assert found.save(tmp_path / "half.html", title="half \ud800").read_text("utf-8").count("half \ufffd") == 2


class HalfWrong(Knows):
    "As good as `Knows` for even queries, the reverse of it for odd ones"
    def score_pairs(self, pairs, call):
        return [s if int(q.split()[1][1:]) % 2 == 0 else -s for s, (q, _) in zip(super().score_pairs(pairs, call), pairs)]


def test_what_cannot_be_told_from_the_first_stage_is_not_recommended():
    "With few queries a ranker may be equal to the best and to the first stage: it must not be the cheap way out"
    found = compare({"good": Knows(5.0), "odd": HalfWrong(5.0)}, a_set(8), timed=2, repeats=1)
    assert found.equals == ["good", "odd"] and found.differences["odd"].p_holm > 0.05
    assert "odd cannot be told from it. Nor can odd be told from the first stage. It takes " in found.verdict


def test_what_was_odd_about_the_data_is_in_the_warnings_and_in_the_report():
    data = a_set(5)
    data.notes["document ids given twice with different contents"] = 3
    found = compare({"good": Knows(1.0)}, data, timed=0)
    assert "3 × document ids given twice with different contents" in found.warnings
    assert "document ids given twice with different contents" in report_html(found)


@pytest.mark.parametrize(("odd", "says"), [({"measures": None}, "give a list of names"), ({"measures": 10}, "give a list of names"),
                                           ({"prices": [1.0]}, "give a dictionary"), ({"prices": 3}, "give a dictionary")], ids=str)
def test_options_of_another_type_are_input_errors(odd, says):
    with pytest.raises(InputError, match=says): compare({"good": Knows(1.0)}, a_set(3), timed=0, **odd)


def test_a_curve_that_is_not_there_is_an_input_error():
    curves = compare({"good": Knows(1.0)}, a_set(3), timed=0).depth()
    for ask in (curves.enough, curves.peak):
        with pytest.raises(InputError, match="no ranker 'god' here"): ask("god")
