"`rerankers benchmark`: systems in processes of their own, in turns, whose times are compared turn by turn"
import json
import os
import sys
from pathlib import Path

import pytest

import rerankers
from rerankers.cli import main
from rerankers.errors import InputError, ModelLoadError
from rerankers.evaluation.benchmark import CASES, Speed, Timing, benchmark, texts_of

# Packages as the peers' own environment has them, as far as a worker uses them
OLD = """
__version__ = "0.10.0"
class Result:
    def __init__(self, i, score): self.score, self.document = score, type("D", (), {"doc_id": i})
class Reranker:
    def __init__(self, model, model_type=None, device=None, dtype=None, verbose=1): print("loading", model)
    def rank(self, query, docs): return type("R", (), {"results": [Result(i, float(len(d))) for i, d in enumerate(docs)][::-1]})
"""
SENTENCES = """
class CrossEncoder:
    def __init__(self, model, device=None, activation_fn=None): raise OSError("no such checkpoint")
"""
TORCH = "float32 = 1\nclass nn:\n    class Identity: pass\n"
BM25 = {"device": None, "activation": None}
TEXTS = {"three": {"query": "who wrote hamlet", "docs": ["shakespeare wrote hamlet", "goethe", "who"]}}


def interpreter(folder, packages):
    "A Python that finds the packages of a folder first"
    if os.name == "nt": pytest.skip("a script that starts Python")
    (folder / "python").write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    return str(folder / "python")


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    "The Python of the peers' environment"
    home = tmp_path_factory.mktemp("peers")
    for name, source in {"rerankers": OLD, "sentence_transformers": SENTENCES, "torch": TORCH}.items(): (home / f"{name}.py").write_text(source)
    return interpreter(home, home)


@pytest.fixture(scope="module")
def found(peer): return benchmark("bm25", peer_python=[peer], texts=TEXTS, rounds=2, cold=1, options=BM25)


def test_every_system_has_its_turns_scores_and_costs(found):
    turns = found.timings["three"]
    assert set(turns) == {"ours", "rerankers"} and {len(t.wall) for t in turns.values()} == {8}     # a brief case runs four times as often
    assert turns["rerankers"].scores == [float(len(d)) for d in TEXTS["three"]["docs"]]             # in the order of the documents
    assert turns["ours"].scores[0] > turns["ours"].scores[1] and found.row("three")["scores differ"] > 1
    assert all(row["peak MiB"] > 1 and row["first score, s"] > 0 for row in found.processes().values())


def test_a_peer_that_cannot_load_is_left_out_and_why(found):
    assert found.others == ["rerankers"]
    assert [note for note in found.notes if "sentence-transformers" in note and "no such checkpoint" in note]
    assert "no such checkpoint" in repr(found)


def test_a_ranker_without_a_model_has_no_tokens(found):
    assert found.looks == {} and found.limits == [] and found.row("three")["padding"] is None


def test_the_table_is_json(found):
    told = json.loads(json.dumps(found.to_dict()))
    assert told["cases"]["three"]["÷ rerankers"] == found.rows()["three"]["÷ rerankers"] and "scores" not in json.dumps(told["turns"])
    assert repr(Speed.of(told)) == repr(found) and json.loads(json.dumps(Speed.of(told).to_dict())) == told


def test_a_speed_up_is_the_median_of_ratios_and_not_a_ratio_of_medians():
    speed = Speed("m", {"processor": "p"}, 1, {"ours": "1", "rerankers": "0.10"},
                  timings={"c": {"ours": Timing([1, 2, 9], [1, 1, 1]), "rerankers": Timing([3, 6, 9], [2, 2, 2])}})
    assert speed.faster("c", "rerankers") == 3
    speed.clock = "cpu"
    assert speed.faster("c", "rerankers") == 2


def test_our_own_package_is_no_peer(tmp_path):
    "Both have one name, and an environment may hold ours instead of the peer"
    python = interpreter(tmp_path, Path(rerankers.__file__).parents[1])
    with pytest.raises(InputError, match="the same package"):
        benchmark("bm25", peer_python=[f"rerankers={python}"], texts=TEXTS, options=BM25)


def test_the_version_is_that_of_the_code_that_runs(found):
    "An interpreter may have another version installed than the one that PYTHONPATH leads to, or none"
    assert found.versions == {"ours": rerankers.__version__, "rerankers": "0.10.0"}


def test_workers_keep_the_path_of_their_parent(tmp_path, monkeypatch, peer):
    "What somebody else needs from PYTHONPATH stays on it; a peer alone is not shown our package, whose name it has"
    home, extra, said = Path(rerankers.__file__).parents[1], tmp_path / "extra", tmp_path / "said"
    extra.mkdir()
    (extra / "sitecustomize.py").write_text(f"import os\nopen({str(said)!r}, 'a').write(os.environ['PYTHONPATH'] + '\\n')\n")
    monkeypatch.chdir(tmp_path)     # workers start elsewhere, and a relative path leads to the same folder
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["extra", str(home), ""]))
    Path("python").write_text(Path(peer).read_text().replace('" exec', ':$PYTHONPATH" exec'))
    Path("python").chmod(0o755)
    benchmark("bm25", peer_python=[f"rerankers={tmp_path / 'python'}"], texts=TEXTS, rounds=1, cold=0, options=BM25)
    ours, old = sorted({line.removeprefix(f"{Path(peer).parent}:") for line in said.read_text().splitlines()}, key=len, reverse=True)
    assert (ours, old) == (f"{home}{os.pathsep}{extra}", str(extra))


def test_what_ours_cannot_load_is_an_error():
    with pytest.raises(ModelLoadError, match="ours stopped"): benchmark("bm25", texts=TEXTS, options={"k1": -1})


@pytest.mark.parametrize(("how", "said"), [({"cases": ["ten short"]}, "no case 'ten short'"), ({"clock": "sun"}, "'wall' or 'cpu'"),
                                           ({"peer_python": ["/nowhere/python"]}, "no file"),
                                           ({"peer_python": [f"flashrank={sys.executable}"]}, "no peer")], ids=str)
def test_a_mistake_is_named(how, said):
    with pytest.raises(InputError, match=said): benchmark("bm25", **how)


def test_the_texts_have_the_lengths_that_the_case_says():
    "With the query and three tokens around them"
    words = [f"w{i}" for i in range(50)]
    for case in CASES.values():
        drawn = texts_of(case, words)
        lengths = [len(d.split()) + len(drawn["query"].split()) + 3 for d in drawn["docs"]]
        assert len(lengths) == case.docs and case.shortest <= min(lengths) and max(lengths) <= case.longest


def test_the_command(capsys, tmp_path, monkeypatch, found):
    "As the function, with a picture"
    asked = {}
    def stand_in(model, **how):
        asked.update(how, model=model)
        return found
    monkeypatch.setattr("rerankers.evaluation.benchmark.benchmark", stand_in)
    picture = tmp_path / "speed.svg"
    assert main(["benchmark", "bm25", "--rounds", "2", "--clock", "cpu", "-o", "k1=1.2", "--picture", str(picture)]) == 0
    assert (asked["model"], asked["rounds"], asked["clock"], asked["options"]) == ("bm25", 2, "cpu", {"k1": 1.2})
    assert capsys.readouterr().out == f"{found!r}\n" and picture.stat().st_size > 1000
    assert main(["benchmark", "bm25", "--json"]) == 0 and json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_dict()))
