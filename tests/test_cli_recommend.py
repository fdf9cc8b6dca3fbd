"`rerankers recommend` as a shell sees it"
import json

import pytest

from rerankers.cli import main
from rerankers.evaluation.choosing import recommend


@pytest.fixture
def cli(capsys, monkeypatch):
    "Exit code, standard output, standard error"
    monkeypatch.setenv("COLUMNS", "100")
    def call(*argv): return main(["recommend", *argv]), *capsys.readouterr()
    return call


def test_the_table_and_its_notes(cli):
    code, out, err = cli("--languages", "de", "--licence", "commercial")
    found, lines = recommend(languages="de", licence="commercial"), out.splitlines()
    assert (code, err) == (0, "") and lines[0].split() == ["name", "size", found.evidence.key, "why"]
    assert [line.split()[0] for line in lines[1:lines.index("")] if not line.startswith(" ")] == found.names
    for note in found.notes: assert note in " ".join(lines[lines.index("") + 1:])


@pytest.mark.parametrize(("argv", "asked"), [
    (["--no-hosted", "--max-parameters", "600M", "--context", "4096"], {"hosted": False, "max_parameters": "600M", "context": 4096}),
    (["--hosted", "--latency", "0.5"], {"hosted": True, "latency": 0.5}), (["--instructions", "--top", "2"], {"instructions": True, "top": 2}),
    (["--hardware", "cpu", "--no-images", "--by", "hakari_en"], {"hardware": "cpu", "images": False, "by": "hakari_en"}), ([], {})], ids=str)
def test_each_option_is_an_argument(cli, argv, asked):
    code, out, err = cli(*argv, "--json")
    assert (code, err, json.loads(out)) == (0, "", json.loads(json.dumps(recommend(**asked).to_dict())))


@pytest.mark.parametrize(("argv", "said"), [(["--licence", "comercial"], "Did you mean 'commercial'"), (["--images"], "excludes"),
                                            (["--latency", "1"], "on which machine")], ids=str)
def test_a_mistake_is_one_line(cli, argv, said):
    code, out, err = cli(*argv)
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith("rerankers: error: ") and said in err


def test_it_is_listed(capsys):
    assert main(["--help"]) == 0 and "recommend" in capsys.readouterr().out
