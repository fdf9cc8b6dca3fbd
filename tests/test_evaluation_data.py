"Test sets from every form, what is odd in them, runs and judgements as trec_eval reads them, and candidates"
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rerankers import Document, InputError, Reranker, RerankersError
from rerankers.evaluation.data import Builder, TestSet, checked, from_dicts, from_ir_datasets, read_beir, read_trec
from rerankers.evaluation.first_stage import BM25Index, retrieve, with_candidates
from rerankers.evaluation.runs import (
    END, START, grade_of, header_lines, id_text, parse_qrels, parse_run, read_qrels, read_run, run_text, write_qrels, write_run)
from rerankers.evaluation.tables import from_columns, read_columns, to_frame, write_columns

ROOT = Path(__file__).resolve().parents[1]
CORPUS = {"d1": "Hamlet is a play by Shakespeare.", "d2": "Goethe wrote Faust.", "d3": "The weather is fine today."}
QUERIES = {"q1": "who wrote Faust?", "q2": "Hamlet"}
QRELS = {"q1": {"d2": 2, "d1": 0}, "q2": {"d1": 1}}


def texts_of(data):
    return {d: document.content for d, document in data.corpus.items()}


def same(one, other):
    "The same test set, whatever it is called and whatever was noted"
    assert (one.queries, texts_of(one), one.qrels, one.candidates) == (other.queries, texts_of(other), other.qrels, other.candidates)
    return True


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def beir(tmp_path):
    "Write a data set in the layout of BEIR, with some of its rows replaced"
    def write(corpus=None, queries=None, qrels="q1\td2\t2\nq1\td1\t0\nq2\td1\t1\n"):
        (tmp_path / "qrels").mkdir(exist_ok=True)
        jsonl(tmp_path / "corpus.jsonl", corpus or [{"_id": d, "text": t} for d, t in CORPUS.items()])
        jsonl(tmp_path / "queries.jsonl", queries or [{"_id": q, "text": t} for q, t in QUERIES.items()])
        (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels, encoding="utf-8")
        return tmp_path
    return write


# Files

def test_beir(beir):
    data = read_beir(beir())
    assert same(data, from_dicts(QUERIES, CORPUS, QRELS)) and data.notes == {} and data.candidates is None

def test_packed_files(beir):
    folder = beir()
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert same(read_beir(folder), from_dicts(QUERIES, CORPUS, QRELS))
    (folder / "corpus.jsonl.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz, broken gzip"): read_beir(folder)

@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_of_beir(beir, missing):
    folder = beir()
    (folder / missing).unlink()
    with pytest.raises(InputError, match="is not there: a data set in the layout of BEIR"): read_beir(folder)

@pytest.mark.parametrize("head", ["query-id\tcorpus-id\tscore", "score\tcorpus-id\tquery-id", "qid,docid,relevance", "Query_ID;Doc_ID;Label"])
def test_the_header_says_which_column_is_which(tmp_path, head):
    sep = next(c for c in "\t,;" if c in head)
    row = {"q": "q1", "d": "d2", "c": "d2", "s": "2", "r": "2", "l": "2"}
    path = tmp_path / "qrels"
    path.write_text(f"{head}\n{sep.join(row[name[0].lower()] for name in head.split(sep))}\n")
    assert read_qrels(path) == {"q1": {"d2": 2}}

@pytest.mark.parametrize("line", ["q1 0 d2 2", "q1\t0\td2\t2", "q1   Q0  d2\t2  ", "q1 0 d2 2.0"])
def test_judgements_of_trec(tmp_path, line):
    path = tmp_path / "qrels"
    path.write_bytes(f"\ufeff{line}\r\n\r\n".encode())
    assert read_qrels(path) == {"q1": {"d2": 2}}

def test_a_no_break_space_is_part_of_an_id():
    assert parse_qrels("q\u00a01 0 d\u20282 1\n", Counter()) == {"q\u00a01": {"d\u20282": 1}}

@pytest.mark.parametrize(("text", "said"), [
    ("q1 0 d1 1\n\nq1 0 d2\n", "line 3 has 3 columns"), ("q1 0 the play 1\n", "line 1 has 5 columns"), ("q1 0 d1 high\n", "line 1: the relevance 'high'"),
    ("q1 0 d1 0.5\n", "line 1: the relevance '0.5' is not a whole"), ("q1 0 d1 nan\n", "line 1: the relevance 'nan'"),
    ("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\n", "line 3 has 2 fields"), ("query-id\tcorpus-id\tscore\nq1\td1\t\n", "line 2: there is no relevance"),
    ("query-id\tcorpus-id\tscore\n\td1\t1\n", "line 2: an id is missing"), ("query-id corpus-id score\nq1 d1 1\n", "line 1 has 3 columns")])
def test_broken_judgements(tmp_path, text, said):
    path = tmp_path / "judged"
    path.write_text(text)
    with pytest.raises(InputError, match=f"judged, {said}"): read_qrels(path)

@pytest.mark.parametrize(("text", "said"), [
    ("q Q0 d 1 2.5 t\nq Q0 d2 2 t\n", "line 2 has 5 columns"),
    ("q Q0 my d 1 2.5 t\n", "line 1 has 7 columns"), ("q Q0 d first 2.5 t\n", "line 1 has the place"),
    ("q Q0 d 1 high t\n", "line 1 has the place '1' and the score 'high'"), ("q Q0 d 1 nan t\n", "line 1 has the score nan"),
    ("q Q0 d 1 inf t\n", "line 1 has the score inf"), (f"{START}\n# tag: t\n", "the header has no end"), ("# a remark\n", "line 1 has 3 columns")])
def test_a_broken_run(tmp_path, text, said):
    path = tmp_path / "my.run"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"my\.run, {said}"): read_run(path)
    data = from_dicts(QUERIES, CORPUS)
    with pytest.raises(InputError, match=rf"my\.run, {said}"): with_candidates(data, path)

@pytest.mark.parametrize(("which", "text", "said"), [
    ("queries", "q1\twho\tis\tit?\n", "line 1 has 4 columns"), ("queries", '{"qid": 1}', "entry 1|line 1: a query needs a text"),
    ("queries", '{"qid": "a", "query": "x"}\n{"qid": "b", "query": null}', "line 2: the query 'b' has no text"),
    ("queries", '{"qid": \n', "line 1 is not JSON"),
    ("corpus", "d1\tHamlet\nd2\n", "line 2 has 1 column:"), ("corpus", '{"_id": "d1", "title": "Hamlet"}\n', "line 1: a dictionary without text"),
    ("corpus", '{"_id": "", "text": "Hamlet"}\n', "line 1: an id is missing")])
def test_broken_texts(tmp_path, which, text, said):
    files = {"queries": tmp_path / "queries", "corpus": tmp_path / "corpus"}
    files["queries"].write_text("q1\twho?\n")
    files["corpus"].write_text("d1\tHamlet\n")
    files[which].write_text(text)
    with pytest.raises(InputError, match=f"{which}, ({said})"): read_trec(**files)

def test_another_encoding(tmp_path):
    (tmp_path / "queries").write_bytes("q1\tPhèdre\n".encode("latin-1"))
    (tmp_path / "corpus").write_bytes("d1\tPhèdre de Racine\n".encode("latin-1"))
    files = {name: tmp_path / name for name in ("queries", "corpus")}
    assert read_trec(**files, encoding="latin-1").queries == {"q1": "Phèdre"}
    with pytest.raises(InputError, match="queries, line 1 is not utf-8"): read_trec(**files)

TOPICS = {
    "topics.tsv": "q1\twho wrote Faust?\nq2\tHamlet\n", "topics.txt": "q1\twho wrote Faust?\nq2\tHamlet\n",
    "head.tsv": "qid\tquery\nq1\twho wrote Faust?\nq2\tHamlet\n",
    "topics.csv": "id,question\nq1,who wrote Faust?\nq2,Hamlet\n",
    "topics.jsonl": '{"qid": "q1", "query": "who wrote Faust?"}\n{"qid": "q2", "query": "Hamlet"}\n',
    "topics.json": '[{"_id": "q1", "text": "who wrote Faust?"}, {"_id": "q2", "text": "Hamlet"}]'}

@pytest.mark.parametrize("name", TOPICS)
def test_queries_of_trec(tmp_path, name):
    (tmp_path / name).write_text(TOPICS[name])
    (tmp_path / "docs.tsv").write_text("".join(f"{d}\t{t}\n" for d, t in CORPUS.items()))
    (tmp_path / "qrels").write_text("q1 0 d2 2\nq1 0 d1 0\nq2 0 d1 1\n")
    (tmp_path / "run").write_text("q1 Q0 d3 1 2.0 t\nq1 Q0 d2 2 1.0 t\n")
    data = read_trec(queries=tmp_path / name, corpus=tmp_path / "docs.tsv", qrels=tmp_path / "qrels", run=tmp_path / "run")
    assert same(data, from_dicts(QUERIES, CORPUS, QRELS, {"q1": ["d3", "d2"]})) and data.notes == {"queries without candidates": 1}

def test_collections_with_titles_lines_and_folders(tmp_path):
    (tmp_path / "queries").write_text("Hamlet\nFaust\n")
    (tmp_path / "docs.tsv").write_text('d1\tHamlet\tA "play\nd2\tFaust\tAnother\n')
    data = read_trec(queries=tmp_path / "queries", corpus=tmp_path / "docs.tsv")
    assert data.queries == {"0": "Hamlet", "1": "Faust"} and texts_of(data) == {"d1": 'Hamlet A "play', "d2": "Faust Another"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("Hamlet")
    assert texts_of(read_trec(queries=tmp_path / "queries", corpus=tmp_path / "folder")) == {"a.txt": "Hamlet"}


# What is odd

def test_what_was_read_twice_is_counted(beir):
    rows = [{"_id": "d1", "text": "A"}, {"_id": "d1", "text": "A"}, {"_id": "d1", "text": "B"}, {"_id": "d2", "text": "C"}]
    data = read_beir(beir(corpus=rows, queries=[{"_id": "q1", "text": "A"}, {"_id": "q1", "text": "B"}], qrels="q1\td1\t2\nq1\td1\t2\nq1\td1\t1\n"))
    assert data.notes == {
        "document ids given twice": 1, "document ids given twice with different contents": 1, "query ids given twice with different contents": 1,
        "judgements given twice": 1, "judgements given twice with different contents": 1}
    assert (data.queries, texts_of(data), data.qrels) == ({"q1": "A"}, {"d1": "A", "d2": "C"}, {"q1": {"d1": 2}})

def test_what_does_not_fit_together_is_counted():
    data = from_dicts({**QUERIES, "q3": "weather", "Q1": " "}, {**CORPUS, "D1": "Hamlet"}, {**QRELS, "q3": {"d9": 0, "d1 ": 1, "d8": 0}, "q9": {"d1": 1}},
                      {"q1": ["d1", "d9", "d1", "d9"], "q8": ["d1"], "q2": []})
    assert data.notes == {
        "queries without judgements": 1, "queries without a word": 1, "judged queries without a text": 1, "judged documents missing from the corpus": 3,
        "query ids equal but for case or blanks": 2, "document ids equal but for case or blanks": 3, "queries without candidates": 2,
        "queries of the run without a text": 1, "candidates missing from the corpus": 1, "candidates given twice": 2}
    assert data.candidates == {"q1": ["d1"], "q2": []} and data.qrels["q3"] == {"d9": 0, "d1 ": 1, "d8": 0}
    assert data.pool == {"q1": ["d1"], "q2": [], "q3": []} and data.qrels.keys() == {"q1", "q2", "q3"}

def test_a_query_that_nothing_answers():
    assert from_dicts(QUERIES, CORPUS, {"q1": {"d1": 0}, "q2": {"d1": 1}}).notes == {"queries without a relevant document": 1}

def test_the_number_1_and_the_text_1_are_one_id():
    data = from_dicts({1: "Hamlet", "2": "Faust"}, {1: "Hamlet", "2": "Faust", 3.0: "The weather"}, {"1": {"1": 1}, 2: [2, 3]}, {np.int64(1): [1.0, "3"]})
    assert (data.queries, list(data.corpus)) == ({"1": "Hamlet", "2": "Faust"}, ["1", "2", "3"])
    assert (data.qrels, data.candidates) == ({"1": {"1": 1}, "2": {"2": 1, "3": 1}}, {"1": ["1", "3"]})
    assert data.notes == {"query ids that are a number here and a text there": 2,
                          "document ids that are a number here and a text there": 3, "queries without candidates": 1}
    assert [d.doc_id for d in data.corpus.values()] == ["1", "2", "3"]

def test_two_ids_that_become_one():
    data = from_dicts({1: "Hamlet", "1": "Faust"}, CORPUS)
    assert data.queries == {"1": "Hamlet"} and data.notes["query ids given twice with different contents"] == 1

def test_callers_objects_stay_as_they_are():
    document, qrels = Document("Hamlet", doc_id=1), {"q1": {1: 1}}
    data = from_dicts({"q1": "Hamlet"}, [document], qrels)
    assert data.corpus["1"].doc_id == "1" and document.doc_id == 1 and qrels == {"q1": {1: 1}}
    with_candidates(data, {"q1": ["1", "2"]})
    assert data.candidates is None and data.notes == {}

def test_the_relevant_ones_always_first_is_a_leak():
    queries, corpus = {f"q{i}": "Hamlet" for i in range(6)}, {f"d{i}": f"Hamlet {i}" for i in range(4)}
    qrels, note = {q: {"d2": 1, "d1": 1, "d0": 0} for q in queries}, "queries whose candidates begin with all relevant ones"
    assert from_dicts(queries, corpus, qrels, {q: ["d1", "d2", "d0", "d3"] for q in queries}).notes == {note: 6}
    assert from_dicts(queries, corpus, qrels, {q: ["d1", "d2", "d0"] if q < "q5" else ["d1", "d0", "d2"] for q in queries}).notes == {}

def test_scores_decide_the_order_of_a_run():
    "Places only where scores are equal; lines may stand in any order"
    notes = Counter()
    assert list(parse_run("q Q0 a 2 1.0 t\nq Q0 b 9 1.0 t\nq Q0 c 3 2.0 t\nq Q0 d 1 1.0 t\n", notes)["q"]) == ["c", "d", "a", "b"]
    assert notes == {"documents of a run with the same score as the one before": 2, "places in a run that contradict the scores": 1}

def test_a_run_that_found_nothing_is_a_run(tmp_path):
    (tmp_path / "run").write_text("")
    (tmp_path / "queries").write_text("q1\tHamlet\n")
    for data in (from_dicts({"q1": "Hamlet"}, {"q1": "Hamlet"}, candidates={}),
                 read_trec(queries=tmp_path / "queries", corpus=tmp_path / "queries", run=tmp_path / "run")):
        assert data.candidates == {} and data.pool == {"q1": []} and data.notes["queries without candidates"] == 1

def test_readers_warn_who_does_not_ask(tmp_path):
    (tmp_path / "qrels").write_text("q 0 d 1\nq 0 d 1\n")
    (tmp_path / "run").write_text("q Q0 d 1 1.0 t\nq Q0 d 2 1.0 t\n")
    with pytest.warns(UserWarning, match="qrels: judgements given twice: 1") as caught: read_qrels(tmp_path / "qrels")
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="run: documents of a run") as caught: read_run(tmp_path / "run")
    assert len(caught) == 2
    notes = Counter()
    assert read_run(tmp_path / "run", notes=notes) == {"q": {"d": 1.0}}
    assert notes == {"documents of a run given twice": 1, "documents of a run with the same score as the one before": 1}

@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False).filter(float.is_integer)))
def test_whole_numbers_are_one_id_in_every_type(number):
    assert id_text(number) == id_text(str(int(number))) == str(int(number)) and grade_of(int(number)) == int(float(number))

@pytest.mark.parametrize("value", [None, "", float("nan"), pd.NA, pd.NaT])
def test_nothing_is_no_id_and_no_grade(value):
    with pytest.raises(InputError, match="an id is missing"): id_text(value)
    assert grade_of(value) is None


# Runs and judgements, written and read again

IDS = st.text(max_size=4)
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, st.floats(-1e4, 1e4), min_size=1, max_size=4), min_size=1, max_size=3)

def fits(name):
    "May a file of TREC have this id?"
    return name.split() == [name] and "\ufeff" not in name and name.encode("utf-8", "replace").decode() == name

def by_score(scores):
    return sorted(scores, key=lambda d: -scores[d])

@settings(deadline=None)
@given(run=RUNS)
def test_a_written_run_is_the_same_run(run, tmp_path_factory):
    path, ids = tmp_path_factory.mktemp("runs") / "a.run", [i for q, scores in run.items() for i in (q, *scores)]
    if all(map(fits, ids)):
        write_run(run, path)
        assert {q: list(s) for q, s in read_run(path).items()} == {q: by_score(s) for q, s in run.items()}
    else:
        with pytest.raises(InputError) as error: write_run(run, path)
        assert any(repr(i) in str(error.value) or not i and "an id is missing" in str(error.value) for i in ids if not fits(i)) and not path.exists()

@settings(deadline=None)
@given(qrels=st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-3, 9), min_size=1, max_size=4), min_size=1, max_size=3))
def test_written_judgements_are_the_same(qrels, tmp_path_factory):
    path, ids = tmp_path_factory.mktemp("qrels") / "qrels", [i for q, judged in qrels.items() for i in (q, *judged)]
    if all(map(fits, ids)):
        write_qrels(qrels, path)
        assert read_qrels(path) == qrels
    else:
        with pytest.raises(InputError) as error: write_qrels(qrels, path)
        assert any(repr(i) in str(error.value) or not i and "an id is missing" in str(error.value) for i in ids if not fits(i)) and not path.exists()

@pytest.mark.parametrize(("name", "why"), [("the play", "white space"), ("a\u00a0b", "white space"), ("\ud800", "surrogate"), ("\ufeffq", "byte order mark")])
def test_ids_that_do_not_fit_are_named(name, why):
    for run in ({name: ["d1"]}, {"q1": [name]}):
        with pytest.raises(InputError) as error: run_text(run)
        assert repr(name) in str(error.value) and why in str(error.value)

@pytest.mark.parametrize(("run", "said"), [
    ({"q": {"d1": float("nan")}}, "the score of 'd1' is nan"), ({"q": {"d1": float("-inf")}}, "is -inf"), ({"q": ["d1", "d1"]}, "'d1' occurs more than once"),
    ({"q": [1, "1"]}, "'1' occurs more than once"), ({1: ["d1"], "1": ["d2"]}, "'1' occurs more than once")])
def test_runs_that_cannot_be_written(run, said):
    with pytest.raises(InputError, match=said): run_text(run)

def test_judgements_of_one_id_in_two_types_cannot_be_written(tmp_path):
    for qrels in ({1: {"d": 1}, "1": {"d": 0}}, {"q": {1: 1, "1": 0}}):
        with pytest.raises(InputError, match="'1' occurs more than once"): write_qrels(qrels, tmp_path / "qrels")

SCORES = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, -0.0, 1.0, 1 + 1e-9, 1 - 1e-9, 1e-45, -1e-45, 3e38, 1e39, -1e39, 1e300]))

@settings(deadline=None)
@given(scores=st.lists(SCORES, min_size=2, max_size=8), grades=st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_trec_eval_sees_our_order(scores, grades):
    "Also of equal scores, and of those that are equal in single precision"
    documents = [f"d{i}" for i in range(len(scores))]       # trec_eval takes equal scores from the last name to the first
    run = {"q": dict(zip(documents, scores))}
    ours = by_score(run["q"])
    read = parse_run(run_text(run), Counter())
    assert list(read["q"]) == ours
    qrels = {"q": dict(zip(documents, grades))}
    for measure in (ir_measures.nDCG @ 3, ir_measures.RR, ir_measures.P @ 1):
        by_places = {"q": {d: float(-place) for place, d in enumerate(ours)}}
        assert ir_measures.calc_aggregate([measure], qrels, read) == ir_measures.calc_aggregate([measure], qrels, by_places)

def test_scores_are_kept_where_they_can_be():
    assert parse_run(run_text({"q": {"a": 2.5, "b": 0.1, "c": 0.1, "d": -3}}), Counter())["q"].items() >= {"a": 2.5, "b": 0.1, "d": -3.0}.items()

def test_results_are_written_in_their_order():
    ranked = Reranker("bm25").rank("Hamlet", CORPUS.values(), doc_ids=list(CORPUS))
    assert parse_run(run_text({"q": ranked}), Counter())["q"]["d1"] == ranked[0].score
    for results in (ranked, ranked[::-1]):      # the second contradicts its scores
        assert list(parse_run(run_text({"q": results}), Counter())["q"]) == [r.doc_id for r in results]
    assert list(parse_run(run_text({"q": ranked[::-1]}), Counter())["q"].values()) == [-1.0, -2.0, -3.0]
    assert parse_run(run_text({"q": ["b", "a"]}), Counter()) == {"q": {"b": -1.0, "a": -2.0}}

FACTS = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
                     lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)), max_leaves=8)

@settings(deadline=None)
@given(facts=st.dictionaries(st.text(max_size=6) | st.sampled_from(["no", "yes", "null", "score ties", "tag", "y"]), FACTS, max_size=4))
def test_a_header_is_yaml(facts):
    "As repro_eval reads it: without the marks, the rest is one document"
    text = header_lines(facts)
    first, *body, last = text.split("\n")[:-1]
    assert (first, last) == (START, END) and all(line.startswith("# ") for line in body)
    assert yaml.safe_load("\n".join(line[2:] for line in body) or "{}") == facts

def test_the_header_of_a_run():
    text = run_text({"q": ["d1"]}, tag="mine", header={"actor": {"team": "us"}})
    facts = yaml.safe_load("".join(line.strip("#") for line in text.split(END)[0].splitlines(keepends=True)[1:]))
    assert (facts["tag"], facts["actor"]) == ("mine", {"team": "us"})
    assert facts["platform"].keys() == {"hardware", "operating system", "software"} and facts["platform"]["hardware"]["cpu"]["number of cores"] >= 1
    assert parse_run(text, Counter()) == {"q": {"d1": -1.0}}
    assert run_text({"q": ["d1"]}, tag="mine", header=False) == "q Q0 d1 1 -1.0 mine\n"


# Tables

PAIRS = [{"query": "who wrote Faust?", "qid": "q1", "document": CORPUS["d2"], "doc_id": "d2", "label": 2},
         {"query": "who wrote Faust?", "qid": "q1", "document": CORPUS["d1"], "doc_id": "d1", "label": 0},
         {"query": "Hamlet", "qid": "q2", "document": CORPUS["d1"], "doc_id": "d1", "label": 1},
         {"query": "Hamlet", "qid": "q2", "document": CORPUS["d3"], "doc_id": "d3", "label": None}]
EXPECTED = from_dicts(QUERIES, CORPUS, QRELS, {"q1": ["d2", "d1"], "q2": ["d1", "d3"]})
FORMS = {
    "dictionaries": lambda rows: rows,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]}, "pandas": pd.DataFrame, "polars": pl.DataFrame,
    "lazy polars": lambda rows: pl.DataFrame(rows).lazy(), "Arrow": pa.Table.from_pylist, "a generator": lambda rows: (dict(row) for row in rows),
    "polars columns": lambda rows: dict(pl.DataFrame(rows).to_dict())}

@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_table(form):
    data = from_columns(FORMS[form](PAIRS))
    assert same(data, EXPECTED) and data.notes == {}

def test_rows_of_lists_are_rows_of_pairs():
    rows = [{"query": q, "query_id": i, "documents": [CORPUS[d] for d in ids], "doc_ids": ids, "labels": [QRELS[i].get(d) for d in ids]}
            for i, q in QUERIES.items() for ids in [EXPECTED.candidates[i]]]
    for table in (rows, pd.DataFrame(rows), pl.DataFrame(rows), pa.Table.from_pylist(rows)): assert same(from_columns(table), EXPECTED)

def test_texts_without_ids_are_numbered():
    rows = [{key: row[key] for key in ("query", "document", "label")} for row in PAIRS]
    data = from_columns(rows)
    assert (data.queries, data.qrels) == ({"0": "who wrote Faust?", "1": "Hamlet"}, {"0": {"0": 2, "1": 0}, "1": {"1": 1}})
    assert data.candidates == {"0": ["0", "1"], "1": ["1", "2"]} and data.notes == {}

def test_dictionaries_as_documents():
    rows = [{"question": "Hamlet", "passages": [{"_id": "d1", "title": "Hamlet", "text": "A play"}, {"_id": "d2", "text": "Faust"}], "relevance": [1, 0]}]
    data = from_columns(rows)
    assert texts_of(data) == {"d1": "Hamlet A play", "d2": "Faust"} and data.qrels == {"0": {"d1": 1, "d2": 0}}

def test_positives_and_negatives_have_no_order():
    data = from_columns([{"query": "Hamlet", "positive": ["a play", "a prince"], "negative": ["the weather"]}])
    assert data.qrels == {"0": {"0": 1, "1": 1, "2": 0}} and data.candidates is None
    data = from_columns([{"query": "Hamlet", "positive": ["a play"], "documents": ["the weather", "a play"]}])
    assert data.qrels == {"0": {"0": 1}} and data.candidates == {"0": ["1", "0"]}

def test_ranks_decide_the_order():
    data = from_columns([{**row, "rank": rank} for row, rank in zip(PAIRS, (2, 1, None, 7))])
    assert data.candidates == {"q1": ["d1", "d2"], "q2": ["d3"]}
    assert from_columns([{**row, "rank": None} for row in PAIRS]).candidates is from_columns(PAIRS, ordered=False).candidates is None

def test_columns_by_other_names():
    table = pd.DataFrame(PAIRS).rename(columns={"query": "anchor", "label": "stars"})
    assert same(from_columns(table, query="anchor", label="stars"), EXPECTED)

@pytest.mark.parametrize(("rows", "columns", "said"), [
    ([{"anchor": "x", "text": "y"}], {}, r"none of the columns \['anchor', 'text'\] is the query: name it, as in query="),
    ([{"query": "x", "body": "y"}], {}, "is the document: name it"),
    ([{"query": "x", "text": "y"}], {"labels": "z"}, "no role is called 'labels'. Did you mean 'label'"),
    ([{"query": "x", "text": "y"}], {"label": "txt"}, "no column 'txt'. Did you mean 'text'"),
    ([{"query": "x", "text": "y"}, {"query": None, "text": "y"}], {}, "row 1: the query is no text"),
    ([{"query": "x", "texts": ["y", "z"], "labels": [1, 0, 1]}], {}, "row 0: labels has 3 entries for 2"),
    ([{"query": "x", "text": "y", "label": "good"}], {}, "row 0: the relevance 'good'"),
    ([{"query": "x", "text": "y", "qid": "q"}, {"query": "z", "text": "y", "qid": None}], {}, "row 1: some query ids are missing"),
    ([{"query": "x", "text": None}], {}, "row 0: a document has neither a text nor an id"),
    ([{"query": "x", "text": "y", "rank": "top"}], {}, "row 0: the rank 'top' is no number"),
    ([{"query": "x", "text": 7}], {}, "row 0: int is no kind of document"),
    (["x"], {}, "a row of a table is a dictionary"), ({"query": ["x"], "text": ["y", "z"]}, {}, "differ in length")])
def test_unusable_tables(rows, columns, said):
    with pytest.raises(InputError, match=said): from_columns(rows, **columns)

def test_a_judged_document_without_a_text_stays_judged():
    data = from_columns([*PAIRS, {"query": "Hamlet", "qid": "q2", "document": None, "doc_id": "d9", "label": 3}])
    assert data.qrels["q2"] == {"d1": 1, "d9": 3} and data.candidates == EXPECTED.candidates
    assert data.notes == {"documents of the table without a text": 1, "judged documents missing from the corpus": 1}

@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.jsonl", '{"query": "x", "text": "y"}\n\n{"query": "x", "text": "y", "label": 0.5}\n', "line 3: the relevance 0.5"),
    ("a.jsonl", '"x"\n', "line 1 is no dictionary"),
    ("a.csv", "query,text,label\nx,y,1\nx,z,much\n", "line 3: the relevance 'much'"),
    ("a.json", '[{"query": "x"}]', "none of the columns .* is the document: name it"),
    ("a.csv", "query,text,label\n", "there are no rows"), ("a.jsonl", "", "there are no rows"), ("a.parquet", "nothing", "no Parquet")])
def test_broken_tables_in_files(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}, {said}"): read_columns(tmp_path / name)

NAMES = st.text("abAB1 é🎭", min_size=1, max_size=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)

@st.composite
def data_sets(draw):
    corpus = {d: Document(draw(TEXTS), title=draw(st.none() | TEXTS)) for d in draw(st.lists(NAMES, unique=True, max_size=4))}
    ids = st.sampled_from([*corpus, "elsewhere"])
    queries = draw(st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3))
    qrels = {q: draw(st.dictionaries(ids, st.integers(-1, 3), max_size=3)) for q in queries}
    proposed = {q: draw(st.lists(st.sampled_from(list(corpus)), unique=True, max_size=4)) for q in queries} if corpus else None
    return from_dicts(queries, corpus, {q: judged for q, judged in qrels.items() if judged}, proposed if proposed and any(proposed.values()) else None)

@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_written_table_is_the_same_test_set(suffix, tmp_path_factory):
    @settings(deadline=None, max_examples=30)
    @given(data=data_sets())
    def holds(data):
        path = tmp_path_factory.mktemp("sets") / f"a.{suffix}"
        write_columns(data, path)
        again = read_columns(path)
        assert (again.queries, again.qrels, again.candidates, again.hashes) == (data.queries, data.qrels, data.candidates, data.hashes)
        assert len(to_frame(data)) == len(data.queries)
    holds()

def test_other_suffixes_and_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match="ends in .jsonl or .parquet"): write_columns(EXPECTED, tmp_path / "a.txt")
    picture = from_dicts({"q": "Hamlet"}, {"d": Document(None, image_path="page.png")}, {"q": ["d"]})
    with pytest.raises(InputError, match="'d' is a picture"): write_columns(picture, tmp_path / "a.jsonl")


# ir_datasets

def test_ir_datasets(tmp_path):
    ir_datasets = pytest.importorskip("ir_datasets")
    (tmp_path / "docs.tsv").write_text("".join(f"{d}\t{t}\n" for d, t in CORPUS.items()))
    (tmp_path / "queries.tsv").write_text("".join(f"{q}\t{t}\n" for q, t in QUERIES.items()))
    (tmp_path / "qrels").write_text("q1 0 d2 2\nq1 0 d1 0\nq2 0 d1 1\n")
    made = ir_datasets.create_dataset(docs_tsv=str(tmp_path / "docs.tsv"), queries_tsv=str(tmp_path / "queries.tsv"), qrels_trec=str(tmp_path / "qrels"))
    assert same(from_ir_datasets(made, whole=True), from_dicts(QUERIES, CORPUS, QRELS))
    judged = from_ir_datasets(made)
    assert list(judged.corpus) == ["d1", "d2"] and judged.notes == {"documents of the collection that were not read": 1}
    (tmp_path / "run").write_text("q1 0 d1 1 1.5 t\nq1 0 d3 2 2.5 t\nq2 0 d3 1 0.5 t\n")
    scored = ir_datasets.Dataset(made, ir_datasets.formats.TrecScoredDocs(ir_datasets.util.LocalDownload(str(tmp_path / "run"))))
    assert same(from_ir_datasets(scored), from_dicts(QUERIES, CORPUS, QRELS, {"q1": ["d3", "d1"], "q2": ["d3"]}))
    with pytest.raises(InputError, match="knows no data set 'vaswanni'. Did you mean 'vaswani'"): from_ir_datasets("vaswanni")


@pytest.mark.parametrize("error", [RuntimeError("All download sources failed", ["a.example"]), ConnectionError("no route"), ImportError("needs ijson")])
def test_what_ir_datasets_cannot_get_is_told_with_its_name(error):
    class Gone:
        def queries_iter(self): raise error
        def __repr__(self): return "Dataset('gone')"
    with pytest.raises(RerankersError, match=r"ir_datasets cannot give the data set Dataset\('gone'\): \w+: \W*(All down|no route|needs ijson)") as told:
        from_ir_datasets(Gone())
    assert told.value.__cause__ is error


# Candidates

WORDS = st.lists(st.sampled_from(["hamlet", "faust", "play", "a", "of", "london"]), max_size=8).map(" ".join)

@settings(deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=8), query=WORDS, depth=st.integers(1, 9), k1=st.sampled_from([0, 0.9, 1.2]), b=st.sampled_from([0, 0.4, 1]))
def test_the_index_scores_as_the_ranker(texts, query, depth, k1, b):
    index, ranker = BM25Index(texts, k1=k1, b=b), Reranker("bm25", corpus=texts, k1=k1, b=b)
    expected, scores = [0.0] * len(texts), index.scores(query)
    for r in ranker.rank(query, texts) if query else (): expected[r.doc_id] = r.score
    assert scores.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    best_first = sorted((i for i in range(len(texts)) if scores[i] > 0), key=lambda i: (-scores[i], i))
    assert index.search(query, depth) == [(i, scores[i]) for i in best_first[:depth]]

def test_candidates_by_bm25_are_those_of_the_ranker(beir):
    data = with_candidates(read_beir(beir()), "bm25", depth=2)
    for q, ids in data.candidates.items():
        ranked = [r for r in Reranker("bm25").rank(QUERIES[q], CORPUS.values(), doc_ids=list(CORPUS)) if r.score]
        assert ids == [r.doc_id for r in ranked][:2] != []
    assert data.notes == {"queries with fewer candidates than asked for": 2} and data.pool is not data.candidates
    assert retrieve(data, 1).keys() == QUERIES.keys()

def test_only_judged_queries_are_searched_for():
    data = from_dicts({**QUERIES, "q3": "Hamlet"}, CORPUS, QRELS)
    assert with_candidates(data, "bm25").candidates.keys() == QRELS.keys()
    assert with_candidates(from_dicts(QUERIES, CORPUS), "bm25").candidates.keys() == QUERIES.keys()

def test_candidates_from_runs(tmp_path):
    data, path = from_dicts(QUERIES, CORPUS, QRELS), tmp_path / "a.run"
    scores = {"q1": {"d1": 1.0, "d3": 2.0, "d9": 3.0}, "q7": {"d1": 1.0}}
    write_run(scores, path)
    for source in (path, str(path), scores, {"q1": ["d9", "d3", "d1"], "q7": ["d1"]}):
        found = with_candidates(data, source)
        assert found.candidates == {"q1": ["d3", "d1"]}
        assert found.notes == {"candidates missing from the corpus": 1, "queries of the run without a text": 1, "queries without candidates": 1}
    assert with_candidates(found, path, depth=1).candidates == {"q1": ["d3"]}
    assert with_candidates(found, "bm25").notes == {"queries with fewer candidates than asked for": 2}      # what the run lacked is forgotten
    ranked = Reranker("bm25").rank("Hamlet", CORPUS.values(), doc_ids=list(CORPUS))
    assert with_candidates(data, {"q2": ranked}).candidates == {"q2": [r.doc_id for r in ranked]}

def test_the_order_of_judged_documents_says_nothing():
    ids = [f"d{i}" for i in range(40)]
    data = from_dicts({"q1": "Hamlet", "q2": "Faust"}, {d: f"text {d}" for d in ids}, {q: {d: int(i < 20) for i, d in enumerate(ids)} for q in ("q1", "q2")})
    one, other = (with_candidates(data, "judged").candidates for _ in range(2))
    assert one == other and all(sorted(one[q]) == sorted(ids) != one[q] for q in one) and one["q1"] != one["q2"]
    assert with_candidates(data, "judged", seed=1).candidates != one
    assert 5 < sum(d in ids[:20] for d in one["q1"][:20]) < 15

def test_documents_that_may_not_be_found():
    data = from_dicts({1: "who wrote Faust?", 2: "Hamlet"}, {"a": "Who wrote  Faust?", "b": "Goethe wrote Faust", "c": "Hamlet, who wrote it?", "1": "Faust"},
                      {"1": ["b"], "2": ["c"]})
    assert with_candidates(data, "bm25").candidates["1"][0] == "a"
    for options in ({"identical": True}, {"exclude": {1: ["a"], 3: "b"}}):
        found = with_candidates(data, "bm25", depth=2, **options)
        assert "a" not in found.candidates["1"] and len(found.candidates["1"]) == 2 and found.notes["excluded candidates"] == 1
    assert "1" in with_candidates(data, "bm25", identical=True).candidates["1"]     # equal ids mean nothing
    assert with_candidates(data, {"1": ["a", "b"]}, identical=True).candidates == {"1": ["b"]}
    assert with_candidates(data, "judged", exclude={"2": ["c"]}).candidates == {"1": ["b"], "2": []}

@pytest.mark.parametrize(("source", "options", "said"), [
    ("bm52", {}, "'bm52' is neither a file nor one of the words bm25 and judged"), ("bm25", {"depth": 0}, "depth=0"), ("judged", {"depth": -1}, "depth=-1")])
def test_wrong_candidates(source, options, said):
    with pytest.raises(InputError, match=said): with_candidates(EXPECTED, source, **options)

def test_every_text_is_read_once(monkeypatch):
    "However many queries there are"
    from rerankers.evaluation import first_stage
    read = Counter()
    real = first_stage.tokenize
    monkeypatch.setattr(first_stage, "tokenize", lambda text: read.update([text]) or real(text))
    retrieve(from_dicts(QUERIES, CORPUS))
    assert read == Counter([*CORPUS.values(), *QUERIES.values()])


# What a report needs

def test_hashes_change_with_what_they_name():
    def changed(**parts): return {k for k, v in TestSet(**{"queries": QUERIES, "corpus": corpus, "qrels": QRELS, **parts}).hashes.items() if v != base[k]}
    corpus = {d: Document(t, doc_id=d) for d, t in CORPUS.items()}
    base = TestSet(QUERIES, corpus, QRELS).hashes
    assert base.keys() == {"queries", "qrels", "pool"} and all(len(v) == 64 for v in base.values())
    assert changed(queries=dict(reversed(QUERIES.items())), qrels=dict(reversed(QRELS.items()))) == set()
    assert changed(queries={**QUERIES, "q1": "who?"}) == {"queries"}
    assert changed(qrels={**QRELS, "q2": {"d1": 2}}) == {"qrels"}
    assert changed(corpus={**corpus, "d1": Document("Faust")}) == changed(corpus={**corpus, "d1": Document(CORPUS["d1"], title="x")}) == {"pool"}
    assert changed(corpus={**corpus, "d3": Document("not needed")}) == set()
    orders = [TestSet(QUERIES, corpus, QRELS, {"q1": ids}).hashes["pool"] for ids in (["d1", "d2"], ["d2", "d1"])]
    assert orders[0] != orders[1]

def test_a_short_description():
    assert repr(EXPECTED) == "<TestSet: queries 2, documents 3, judgements 3, candidates 4>"

def test_nothing_heavy_is_loaded():
    code = ("import sys; from rerankers.evaluation import beir, data, first_stage, runs, tables\n"
            "print([m for m in ('numpy', 'pandas', 'ir_measures', 'torch', 'tqdm', 'yaml') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120).stdout == "[]\n"

def test_the_same_names_in_the_old_place():
    from rerankers.evaluation import beir, data, runs
    assert (beir.TestSet, beir.read_beir, beir.read_lines, beir.read_qrels) == (data.TestSet, data.read_beir, data.read_lines, runs.read_qrels)

def test_checked_again_is_the_same():
    data = Builder("x").build()
    assert checked(data).notes == data.notes == {} and EXPECTED.pool == EXPECTED.candidates

# What has no place in an order

@pytest.mark.parametrize("odd", [{"d1": None}, {"d1": "0.5"}, {"d1": float("nan"), "d2": 1.0}, "d1", None, 5])
def test_what_is_no_ranking_is_told(odd, tmp_path):
    data = from_dicts(QUERIES, CORPUS, QRELS)
    for take in (lambda run: with_candidates(data, run), lambda run: from_dicts(QUERIES, CORPUS, QRELS, run), lambda run: run_text(run)):
        with pytest.raises(InputError, match="no ranking|no place in a run"): take({"q1": odd})

@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "3", float("nan")])
def test_what_is_no_depth_is_told(depth):
    with pytest.raises(InputError, match="depth="): with_candidates(from_dicts(QUERIES, CORPUS, QRELS), "bm25", depth=depth)

@pytest.mark.parametrize("source", [5, None, ["d1"], b"run"])
def test_what_is_no_run_is_told(source):
    with pytest.raises(InputError, match="is no run"): with_candidates(from_dicts(QUERIES, CORPUS, QRELS), source)

def test_what_may_not_be_found_leaves_its_place_to_the_next():
    data = from_dicts({"q": "Faust"}, {"d1": "Faust", "d2": "Faust by Goethe", "d3": "Faust, as Goethe wrote it"}, {"q": {"d2": 1}})
    found = with_candidates(data, "bm25", depth=2, exclude={"q": ["d1"]})
    assert found.candidates == {"q": ["d2", "d3"]} and "queries with fewer candidates than asked for" not in found.notes
