"The chooser: every fact has a source, every name loads, every pick meets what was asked, and nothing is decided in silence"
import csv
import json
import re
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerankers import InputError, Reranker
from rerankers.evaluation.choosing import disagreement, facts, recommend
from rerankers.registry import SHORTCUTS, choose, load_backends

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "rerankers" / "evaluation" / "facts"


def table(name):
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file: return list(csv.DictReader(file))


MODELS, FIGURES, EVIDENCE, SOURCES = map(table, ("models", "figures", "evidence", "sources"))
BY_NAME = {row["name"]: row for row in MODELS}
LOADABLE = [row for row in MODELS if row["word"]]
FACTS = ("parameters", "context", "languages", "licence", "images", "instructions", "released")


def figure(name, key): return next((float(f["value"]) for f in FIGURES if (f["name"], f["evidence"]) == (name, key)), None)


# ---- the tables

@pytest.mark.parametrize("row", LOADABLE, ids=lambda row: row["name"])
def test_every_name_that_may_be_recommended_loads(row):
    "The word in the table is the backend that `Reranker` takes, without a guess"
    load_backends()
    if row["name"] in SHORTCUTS: found = SHORTCUTS[row["name"]].backend      # its package need not be installed
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = choose(row["name"]).backend.words[0]
    assert found == row["word"]


def test_what_cannot_be_loaded_says_why(): assert all(row["word"] or row["note"] for row in MODELS)


def follows(row):
    "Does the backend of a row take an instruction? Said by its prompt, its class, or the request to its provider"
    backend = choose(row["name"]).backend
    if hasattr(backend, "recipe"): return "{instruction}" in backend.recipe.prompt.body + backend.recipe.prompt.query
    return backend.takes_instruction or row["hosted"] == "yes" and Reranker(row["name"], api_key="none").takes_instruction


@pytest.mark.parametrize("row", [row for row in LOADABLE if row["instructions"] == "yes"], ids=lambda row: row["name"])
def test_what_follows_instructions_takes_them_here(row): assert follows(row)


def test_each_fact_has_a_source_and_each_source_a_place_and_a_date():
    sources = {row["source"] for row in SOURCES}
    for row in MODELS:
        said = dict(pair.split("=") for pair in row["sources"].split())
        assert said.keys() == {name for name in FACTS if row[name]}, row["name"]
        assert set(said.values()) <= sources, row["name"]
    assert {f["source"] for f in FIGURES} <= sources
    for row in SOURCES:
        assert row["address"].startswith("https://") and re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", row["date"]) and row["title"]


def test_nothing_is_said_twice_and_nothing_of_what_is_not_there():
    for rows, key in ((MODELS, ("name",)), (FIGURES, ("name", "evidence")), (EVIDENCE, ("evidence",)), (SOURCES, ("source",))):
        keys = [tuple(row[k] for k in key) for row in rows]
        assert len(keys) == len(set(keys))
    assert {f["name"] for f in FIGURES} <= BY_NAME.keys()
    assert {f["evidence"] for f in FIGURES} == {row["evidence"] for row in EVIDENCE}      # no measurement without a figure
    used = {f["source"] for f in FIGURES} | {pair.split("=")[1] for row in MODELS for pair in row["sources"].split()}
    assert used == {row["source"] for row in SOURCES}


def test_values_are_what_their_units_allow():
    top = {"nDCG@10": 1, "mean reciprocal rank": 1}
    for row in EVIDENCE:
        values = [float(f["value"]) for f in FIGURES if f["evidence"] == row["evidence"]]
        assert row["better"] in ("higher", "lower")
        if row["unit"] in top: assert all(0 < v <= 1 for v in values), row
        elif "per cent" in row["unit"]: assert all(1 < v <= 100 for v in values), row
        elif row["unit"].startswith("p-MRR"): assert all(-100 <= v <= 100 for v in values), row
        else: assert all(v > 0 for v in values), row
    for row in MODELS:
        assert not row["parameters"] or row["name"] == "bm25" or 10**6 < int(row["parameters"]) < 10**11
        assert not row["context"] or 100 < int(row["context"]) < 10**6
        assert all(row[name] in ("yes", "no", "") for name in ("images", "instructions")) and row["hosted"] in ("yes", "no")


def test_licences_are_in_the_bucket_that_their_name_says():
    for row in MODELS:
        if "-nc" in row["licence"] and " or " not in row["licence"]: assert row["use"] == "non-commercial", row["name"]
        if not row["licence"] or " or " in row["licence"] or " and " in row["licence"]: assert row["use"] == "unclear", row["name"]
        if row["use"] == "commercial": assert row["licence"] in ("apache-2.0", "mit", "openmdw-1.1", "provider's terms"), row["name"]


def test_the_tables_are_installed(tmp_path):
    "What `pip install` copies"
    pytest.importorskip("setuptools")
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)],
                          cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    copied = {path.name for path in (tmp_path / "rerankers" / "evaluation" / "facts").glob("*.csv")}
    assert copied == {path.name for path in FOLDER.glob("*.csv")} and len(copied) == 4


def test_the_module_needs_nothing_that_is_not_in_python():
    code = "import rerankers.evaluation.choosing as r, sys; r.recommend(); print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert not {"numpy", "pandas", "ir_measures", "torch", "rerankers.backends"} & set(loaded)


# ---- what is asked for

def meets(row, asked):
    "The needs once more, from the cells of the table alone"
    languages = set(row["languages"].split())
    return all({
        "languages": lambda v: "multilingual" in languages or set(v) <= languages,
        "licence": lambda v: row["use"] in ALLOWED[v] if v in ALLOWED else row["licence"] == v,
        "max_parameters": lambda v: row["parameters"] != "" and int(row["parameters"]) <= v,
        "context": lambda v: row["context"] != "" and int(row["context"]) >= v,
        "images": lambda v: row["images"] == ("yes" if v else "no"),
        "instructions": lambda v: row["instructions"] == ("yes" if v else "no"),
        "hosted": lambda v: row["hosted"] == ("yes" if v else "no"),
        "hardware": lambda v: row["hosted"] == "no" and (v == "gpu" or row["parameters"] != "" and int(row["parameters"]) <= ROOM[v]),
        "latency": lambda v: within(row, v, asked.get("hardware")),
    }[name](value) for name, value in asked.items())


ALLOWED = {"commercial": ["commercial"], "non-commercial": ["commercial", "non-commercial"]}
ROOM = {"cpu": 160e6, "8GB": 3.2e9, "24GB": 9.6e9}


def within(row, most, hardware):
    key = "hosted_seconds" if row["hosted"] == "yes" else {"cpu": "cpu_pairs", "gpu": "h100_pairs"}.get(hardware, "rtx3090_pairs")
    found = figure(row["name"], key)
    return found is not None and (found if row["hosted"] == "yes" else 100 / found) <= most


ASKED = st.fixed_dictionaries({}, optional={
    "languages": st.lists(st.sampled_from(["en", "de", "zh", "ja", "ko", "ru", "sw"]), min_size=1, max_size=2, unique=True),
    "licence": st.sampled_from(["commercial", "non-commercial", "mit", "cc-by-nc-4.0"]),
    "max_parameters": st.sampled_from([20_000_000, 160_000_000, 600_000_000, 5_000_000_000]),
    "context": st.sampled_from([256, 512, 4096, 8192, 32768]),
    "images": st.booleans(), "instructions": st.booleans(), "hosted": st.booleans(),
    "hardware": st.sampled_from(["cpu", "gpu", "8GB", "24GB"]),
    "latency": st.sampled_from([0.05, 0.5, 2.0, 60.0]),
})


@settings(max_examples=300, deadline=None)
@given(ASKED)
def test_the_list_is_what_meets_the_needs(asked):
    "All that load and meet every need, and no other; or an error that says how many each need excludes"
    if "latency" in asked and "hardware" not in asked and asked.get("hosted") is not True: asked["hardware"] = "gpu"
    wanted = {row["name"] for row in LOADABLE if meets(row, asked)}
    if not wanted:
        with pytest.raises(InputError, match="no re-ranker meets all of this") as raised: recommend(**asked)
        for name, value in asked.items():
            kept = [row for row in LOADABLE if (within(row, value, asked.get("hardware")) if name == "latency" else meets(row, {name: value}))]
            gone = len(LOADABLE) - len(kept)
            assert re.search(rf"\b{name}=\S+ excludes {gone} of {len(LOADABLE)}", str(raised.value)), (name, gone)
        return
    found = recommend(**asked, top=1000)
    assert set(found.names) == wanted and len(found) == len(wanted) and not found.others
    assert len(found.excluded) == len(asked) and all(len(pick.reasons) >= bool(asked) for pick in found)
    short = recommend(**asked, top=2)
    assert [*short.names, *short.others] == found.names


@pytest.mark.parametrize("asked", [{}, {"languages": "de"}, {"languages": "zh"}, {"context": 8192}, {"instructions": True}, {"hosted": True},
                                   {"by": "hosted_seconds"}, {"by": "hakari_en", "licence": "commercial"}, {"hardware": "cpu"}], ids=str)
def test_it_is_sorted_by_the_measurement_that_it_names(asked):
    found = recommend(**asked, top=1000)
    values = [figure(pick.name, found.evidence.key) for pick in found]
    known = [v for v in values if v is not None]
    assert values[:len(known)] == known and len(known) > 1
    assert known == sorted(known, reverse=found.evidence.better == "higher")
    assert [pick.figure and pick.figure.value for pick in found] == values
    assert f"[{found.evidence.key}]" in found.notes[0]
    sources = {s["source"]: s for s in SOURCES}
    for f in FIGURES:
        if f["evidence"] == found.evidence.key and f["name"] in found.names: assert sources[f["source"]]["date"] in found.notes[0]


@pytest.mark.parametrize(("asked", "topic"), [
    ({}, "en"), ({"languages": "en"}, "en"), ({"languages": ["en", "fr"]}, "other"), ({"languages": "zh"}, "zh"),
    ({"languages": "zh", "context": 8000}, "long"), ({"instructions": True, "languages": "de"}, "instructions"), ({"context": 512}, "en")], ids=str)
def test_the_measurement_fits_what_was_asked(asked, topic):
    "And is the one that knows most of the models that are left"
    found = recommend(**asked, top=1000)
    assert found.evidence.topic == topic
    def known(key): return sum(figure(name, key) is not None for name in found.names)
    assert known(found.evidence.key) == max(known(row["evidence"]) for row in EVIDENCE if row["topic"] == topic)


def test_a_measurement_that_knows_no_two_of_them_is_not_sorted_by():
    found = recommend(languages="ru", max_parameters="150M", context=8192)
    assert found.evidence is None and "no measurement" in found.notes[0] and all(pick.figure is None for pick in found)

def test_what_nobody_measured_follows_with_the_newest_first():
    released = [pick.model.released for pick in recommend(top=1000) if pick.figure is None]
    assert released == sorted(released, reverse=True) and len(set(released)) > 5


@pytest.mark.parametrize(("key", "other"), list(combinations(["ettin_mteb", "nanobeir", "hakari_en", "qwen_en", "agentset_elo"], 2)))
def test_contradictions_are_counted(key, other):
    "Against a plain count over the tables; every measurement here is better when higher"
    shared = [(figure(name, key), figure(name, other), name) for name in BY_NAME if None not in (figure(name, key), figure(name, other))]
    against = [(a, b) for a, b in combinations(shared, 2) if (a[0] - b[0]) * (a[1] - b[1]) < 0]
    found = disagreement(facts().models, key, other)
    assert (found.reversed if found else 0) == len(against)
    if found:
        assert found.pairs == len(shared) * (len(shared) - 1) // 2
        first, second = found.example
        assert figure(first, key) > figure(second, key) and figure(first, other) < figure(second, other)


def test_contradictions_of_the_topic_stand_below_the_list():
    found = recommend(languages="de", licence="commercial")
    assert found.disagreements and {d.evidence.topic for d in found.disagreements} == {found.evidence.topic}
    assert str(found.disagreements[0]) in found.notes and found.disagreements[0].evidence.key != found.evidence.key
    assert [d.reversed for d in recommend().disagreements] == sorted((d.reversed for d in recommend().disagreements), reverse=True)


def test_what_only_this_library_cannot_run_is_named():
    with pytest.raises(InputError, match="does not run what would: Qwen/Qwen3-VL-Reranker-2B"): recommend(images=True, languages="de")


def test_the_need_that_is_too_much_is_named():
    with pytest.raises(InputError) as raised: recommend(max_parameters="20M", instructions=True)
    without = {int(n) for n in re.findall(r"without \S+ (\d+) would", str(raised.value))}
    assert without == {len(recommend(instructions=True, top=1000)), len(recommend(max_parameters="20M", top=1000))}


# ---- how it is asked and shown

@pytest.mark.parametrize(("asked", "said"), [
    ({"licence": "comercial"}, "Did you mean 'commercial'"), ({"languages": "deu"}, "such as 'de'"), ({"languages": " "}, "by their codes"),
    ({"languages": []}, "by their codes"),
    ({"languages": 7}, "by their codes"), ({"hardware": "cpus"}, "Did you mean 'cpu'"), ({"hardware": "0GB"}, "such as '8GB'"),
    ({"by": "hakari_eng"}, "Did you mean 'hakari_en'"), ({"max_parameters": "large"}, "600M"), ({"max_parameters": 0}, "positive"),
    ({"max_parameters": -1}, "positive"),
    ({"max_parameters": 0.4}, "positive"), ({"max_parameters": float("inf")}, "positive"),
    ({"context": True}, "positive"), ({"images": "yes"}, "True or False"), ({"hosted": 1}, "True or False"),
    ({"latency": "fast", "hardware": "cpu"}, "give seconds"), ({"latency": 0, "hardware": "cpu"}, "give seconds"),
    ({"latency": 0.5}, "on which machine"), ({"latency": 0.5, "hosted": False}, "on which machine"), ({"top": 0}, "top=0")], ids=str)
def test_mistakes_are_named(asked, said):
    with pytest.raises(InputError, match=re.escape(said)) as raised: recommend(**asked)
    assert f"{next(iter(asked))}=" in str(raised.value)


@pytest.mark.parametrize(("one", "other"), [
    ({"languages": "de,en"}, {"languages": ["en", "DE"]}), ({"languages": "de en"}, {"languages": ("de", "en")}),
    ({"max_parameters": "0.6B"}, {"max_parameters": 6e8}), ({"max_parameters": "600m"}, {"max_parameters": 600_000_000}),
    ({"context": "8k"}, {"context": 8000}), ({"hardware": "8 gb"}, {"hardware": "8GB"}), ({"licence": "MIT"}, {"licence": "mit"})], ids=str)
def test_the_same_said_in_two_ways(one, other): assert recommend(**one, top=99).names == recommend(**other, top=99).names


def test_the_callers_list_stays_as_it_was():
    languages = ["DE", "DE"]
    recommend(languages=languages)
    assert languages == ["DE", "DE"]


def test_it_is_a_sequence_that_shows_as_a_table():
    found = recommend(languages="de", licence="commercial", top=3)
    assert len(found) == 3 == len(list(found)) and found[0].name == found.names[0] and [p.name for p in found[1:]] == found.names[1:]
    text, html = repr(found), found._repr_html_()
    for word in (*found.names, found.evidence.title, *found.header): assert word in text and word in html
    for note in found.notes: assert note in text
    assert html.count("<tr>") == 4 and html.count("<li>") == len(found.notes)


def test_html_is_escaped(monkeypatch):
    wild = facts().models[0].__class__(**{**vars(facts().models[0]), "note": "<script>alert(1)</script>"})
    known = facts()._replace(models=(wild, *facts().models[1:]))
    monkeypatch.setattr(sys.modules[recommend.__module__], "facts", lambda: known)
    html = recommend(by="ettin_mteb", top=99)._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_it_goes_into_json_and_a_data_frame():
    found = recommend(context=4096, top=4)
    data = json.loads(json.dumps(found.to_dict()))
    assert [p["name"] for p in data["picks"]] == found.names and data["evidence"]["key"] == found.evidence.key and data["notes"] == found.notes
    pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert list(frame["name"]) == found.names and list(frame["context"]) == [pick.model.context for pick in found]
