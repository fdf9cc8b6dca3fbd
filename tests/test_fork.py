"Rankers in forked processes: what was only loaded ranks there, what cannot says so at once, and nothing waits for threads that are not there"
import json
import os
import pickle
import signal
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest

import every_kind
from nb_plugin import NURSERY
from rerankers.engine import forks
from rerankers.engine.forks import PAST, computes, leave_behind, loads
from rerankers.locks import Lock
from rerankers.errors import ForkedError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")
if not hasattr(os, "fork"): pytest.skip("no fork on this system", allow_module_level=True)

TESTS = Path(__file__).resolve().parent
LONGEST = 800   # seconds, of a busy machine; what hangs, hangs for ever


def told(modes):
    "What the driver says, mode -> sources and threads; it has several of torch's threads, whatever the machine that runs this has"
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false",
                   "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    code = (TESTS / "fork_driver.py").read_text(encoding="utf-8")
    status, out, err = NURSERY.script(code, json.dumps(modes), env=environment, timeout=LONGEST)
    assert status == 0, f"{status}, {-signal.SIGALRM} where it waits for ever: {err[-3000:]}"
    return json.loads(out)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    place = tmp_path_factory.mktemp("kinds")
    return {name: every_kind.write(name, place) for name in every_kind.EVERY}


@pytest.fixture(scope="module")
def driven(sources):
    one = {"cross-encoder": sources["cross-encoder"]}
    return told({"every": (sources, 2), "usual": (one, 2), "single": (one, 1)})


@pytest.fixture(scope="module")
def found(driven): return driven["every"]


def same(said, expected): return said == {name: pytest.approx(score, rel=1e-4, abs=1e-4) for name, score in expected.items()}
def refused(said): return said.startswith("ForkedError: ") and "'spawn' or 'forkserver'" in said and "torch.set_num_threads(1)" in said


# ---- every kind, loaded and forked

@pytest.mark.parametrize("name", every_kind.EVERY)
def test_what_was_only_loaded_ranks_in_a_child(found, name):
    expected = found["meanwhile"][name]["parent"]
    assert isinstance(expected, dict) and same(found["loaded"][name]["child"], expected)


@pytest.mark.parametrize("name", every_kind.EVERY)
def test_parent_and_child_rank_at_the_same_time(found, name):
    assert same(found["meanwhile"][name]["child"], found["meanwhile"][name]["parent"])


@pytest.mark.parametrize("name", ["cross-encoder", "first", "onnx"])
@pytest.mark.parametrize("what", ["grandchild", "child and its child", "child loads", "fork in a thread"])
def test_other_ways_to_fork(found, name, what):
    assert same(found["loaded"][name][what], found["meanwhile"][name]["parent"])


@pytest.mark.parametrize("what", ["a child", "a child that ranks", "a child of one that ranked"])
def test_a_child_ends(found, what):
    "A session of onnxruntime that was carried along waits for its threads when it is taken down, also in a child that never ranked"
    assert found["ends"][what] == 0


# ---- after the parent has ranked

@pytest.mark.parametrize("name", every_kind.EVERY)
def test_a_child_of_a_thread_that_ranked_is_told_at_once_or_ranks(found, name):
    "Torch's threads are gone; what computes without them, or in a thread of its own, goes on"
    said, expected = found["ranked"][name]["child"], found["ranked"][name]["parent"]
    assert same(expected, found["meanwhile"][name]["parent"]) and (refused(said) if name in every_kind.TORCH else same(said, expected))


@pytest.mark.parametrize("what", ["child loads", "grandchild"])
def test_neither_loading_nor_another_fork_helps(found, what):
    assert refused(found["ranked"]["cross-encoder"][what])
    assert same(found["ranked"]["onnx"][what], found["ranked"]["onnx"]["parent"])


@pytest.mark.parametrize("name", ["cross-encoder", "first", "onnx"])
@pytest.mark.parametrize("what", ["child with one thread", "child, async", "fork in a thread"])
def test_what_helps(found, name, what):
    "One thread of torch's, or a thread that never computed: a worker of the child, or the one that forked"
    assert same(found["ranked"][name][what], found["ranked"][name]["parent"])


# ---- as servers do it

@pytest.fixture(scope="module")
def served(driven): return driven["usual"]


POOLS = [f"{pool}, {how}" for pool in ("Pool", "executor") for how in ("carried", "sent")]


@pytest.mark.parametrize("how", POOLS)
def test_pools_of_forked_processes(served, how):
    assert same(served[f"loaded: {how}"], served["expected"])
    assert refused(served[f"ranked: {how}"])


def test_what_others_computed_does_not_matter(served):
    assert same(served["own torch in the parent"], served["expected"])


def test_loading_leaves_no_threads_of_torchs(served):
    "So that other code can compute in the child, too"
    assert served["own torch in the child"] == pytest.approx(1500 ** 3)


def test_a_fork_waits_for_threads_that_are_ending(monkeypatch):
    "They would leave a lock of OpenMP's closed in the child: on a busy machine one fork in six, right after loading, hung"
    if not forks.system_threads(): pytest.skip("the system does not count threads")
    release, begun, mine = threading.Event(), threading.Event(), []
    def late():
        mine.append(str(threading.get_native_id()))
        begun.set()
        release.wait(60)

    def load():
        threading.Thread(target=late).start()
        begun.wait(60)

    forks.elsewhere(load)
    monkeypatch.setattr(forks, "sleep", lambda seconds: release.set())
    monkeypatch.setattr(forks, "LONGEST_END", 60)
    child = os.fork()
    if not child: os._exit(0)
    ended = mine[0] not in forks.system_threads()
    release.set()
    assert os.waitpid(child, 0)[1] == 0 and ended and not forks.LEAVING


def test_a_fork_does_not_wait_for_threads_that_stay(monkeypatch):
    "Such as those of a library that was loaded with the model"
    if not forks.system_threads(): pytest.skip("the system does not count threads")
    stay = threading.Event()
    forks.elsewhere(lambda: threading.Thread(target=stay.wait).start())
    monkeypatch.setattr(forks, "LONGEST_END", 0.0)
    child = os.fork()
    if not child: os._exit(0)
    stay.set()
    assert os.waitpid(child, 0)[1] == 0 and not forks.LEAVING


def test_with_one_thread_there_is_nothing_to_lose(driven):
    said = driven["single"]
    assert same(said["child"], said["expected"])


# ---- locks

def test_a_lock_that_another_thread_holds_is_open_in_a_child():
    lock, held, done = Lock(), threading.Event(), threading.Event()
    def hold():
        with lock:
            held.set()
            done.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(60)
        with lock: os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert lock.inner.locked()      # here it is still held
    done.set()
    thread.join()
    assert status == 7


def test_locks_of_the_encoders_are_such_locks():
    "A tokenizer that is written in Python can do one thing at a time; the others need no lock"
    from transformers import CanineTokenizer

    from rerankers.engine.tokens import from_transformers
    assert isinstance(from_transformers(CanineTokenizer()).lock, Lock)
    assert not isinstance(from_transformers(every_kind.tiny_models.tiny_tokenizer()).lock, Lock)


# ---- in a thread that is told what it has been through

@computes
def where(fail=None):
    if fail: raise fail
    return threading.current_thread()


@loads
def loading(fail=None):
    if fail: raise fail
    return threading.current_thread(), SAID.get()


SAID = ContextVar("SAID", default="nothing")


def aside(work, *, threads=2, **past):
    "What a function gives, or raises, in a new thread with a past and so many of torch's threads; also that thread, and what is noted of it"
    def run():
        vars(PAST).update(past)
        try: box.append(work())
        except Exception as error: box.append(error)
        box.extend([threading.current_thread(), dict(vars(PAST))])
    box, before = [], torch.get_num_threads()
    torch.set_num_threads(threads)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    return box


@pytest.mark.parametrize("threads", [1, 2])
def test_without_a_fork_a_thread_computes_itself_and_is_remembered(threads):
    found, own, noted = aside(where, threads=threads)
    assert found is own and noted.get("computed", False) is (threads > 1)


@pytest.mark.parametrize(("spoilt", "threads"), [(False, 1), (False, 2), (True, 1)])
def test_after_a_fork_a_helper_computes(spoilt, threads):
    found, own, noted = aside(lambda: [where(), where()], threads=threads, forked=True, spoilt=spoilt)
    assert found[0] is found[1] is not own and found[0].name.startswith("rerankers-torch") and not noted.get("computed")


@pytest.mark.parametrize("work", [where, loading])
def test_after_ranking_and_a_fork_nothing_computes(work):
    found, *_ = aside(work, forked=True, spoilt=True)
    assert isinstance(found, ForkedError) and refused(f"ForkedError: {found}")


def test_a_card_that_stayed_behind_is_an_error_of_ours():
    lost = RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method")
    with pytest.raises(ForkedError, match="graphics card") as caught: where(lost)
    assert caught.value.__cause__ is lost
    other = RuntimeError("something else")
    with pytest.raises(RuntimeError) as caught: where(other)
    assert caught.value is other


def test_loading_has_a_thread_of_its_own():
    mark = SAID.set("a word")
    thread, said = loading()
    SAID.reset(mark)
    assert thread is not threading.current_thread() and not thread.is_alive() and said == "a word"
    with pytest.raises(KeyError, match="lost"): loading(KeyError("lost"))


def test_what_is_left_behind_never_ends():
    class Stubborn:
        def __del__(self): ended.append(self)
    ended, things = [], [Stubborn(), Stubborn()]
    leave_behind(things[0])
    things.clear()
    assert len(ended) == 1


def test_a_session_that_came_through_a_fork_is_left_and_made_again(sources):
    "And where a graphics card ran it, there is an error"
    ranker = every_kind.load("onnx", sources["onnx"])
    runtime, session = ranker.runtime, ranker.runtime.session
    before = ranker.rank("hamlet", ["hamlet", "faust"])
    runtime.forget()
    runtime.forget()    # before it was used again
    assert ranker.rank("hamlet", ["hamlet", "faust"]) == before and runtime.session is not session
    runtime.provider = "CUDAExecutionProvider"
    runtime.forget()
    with pytest.raises(ForkedError, match="graphics card"): ranker.rank("hamlet", ["hamlet", "faust"])
    assert pickle.loads(pickle.dumps(ranker)).rank("hamlet", ["hamlet", "faust"]) == before      # a process of its own has a card again
