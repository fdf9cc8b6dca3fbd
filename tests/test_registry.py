"How a word becomes a ranker: the order of the rules, typos, plug-ins, and what rerankers 0.10 accepted"
import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from rerankers import InputError, Reranker, RerankersError, UnknownModel, claims, registry
from rerankers.rankers import PointwiseRanker
from rerankers.claims import Choice, Claims
from rerankers.registry import Shortcut, choose, register_shortcut

ROOT = Path(__file__).resolve().parents[1]
QUERY, DOCS = "who wrote hamlet?", ["Goethe wrote Faust.", "Shakespeare wrote Hamlet."]
registry.load_backends()


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    "What a test registers is forgotten after it"
    for name in ("BACKENDS", "FAMILIES"):
        kept = getattr(registry, name).copy()
        for module in (claims, registry): monkeypatch.setattr(module, name, kept)
    monkeypatch.setattr(registry, "SHORTCUTS", dict(registry.SHORTCUTS))
    monkeypatch.setattr(registry, "LOADED_MODULES", set(registry.LOADED_MODULES))


def backend(name, module="somebody.module", **declaration):
    "A ranker class as a third party's module would define it"
    score = {"score_pairs": lambda self, pairs, call: [float(len(t)) for _, t in pairs]}
    return type(name, (PointwiseRanker,), {"__module__": module, "__init__": lambda self, model="": None, **score, **declaration})


def word(choice): return choice.backend.words[0]


def folder_with(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items(): (path / f"{name}.json").write_text(json.dumps(content))
    return path


CLASSIFIER = {"config": {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}}
EMBEDDER = {"config": {"architectures": ["BertModel"]}, "config_sentence_transformers": {"model_type": "SentenceTransformer"}}


# ---- rules 1 to 6, each before the next

@pytest.mark.parametrize("asked", ["bm25", "BM25", "biencoder", "bi-encoder", "Cross-Encoder"])
def test_rule_1_the_type_decides(tmp_path, asked):
    "Against what a folder's files, its name and a shortcut say"
    folder = str(folder_with(tmp_path / "cross-encoder-reranker", **CLASSIFIER))
    choice = choose(folder, model_type=asked)
    assert asked.lower() in choice.backend.words and choice.model == folder and "model_type" in choice.reason


@pytest.mark.parametrize("asked", ["bm25", "biencoder"])
def test_rule_1_comes_before_rule_2(asked):
    "A shortcut of another backend is that backend or an error, never a third thing"
    register_shortcut(Shortcut("a-shortcut", "cross-encoder", lambda: ("/its/folder", {}), lambda: True))
    try: assert asked in choose("a-shortcut", model_type=asked).backend.words
    except RerankersError: pass


def test_rule_1_a_shortcut_of_the_same_type_is_itself():
    register_shortcut(Shortcut("a-shortcut", "cross-encoder", lambda: ("/its/folder", {"max_length": 99}), lambda: True))
    choice = choose("a-shortcut", model_type="cross-encoder")
    assert (word(choice), choice.model, choice.options) == ("cross-encoder", "/its/folder", {"max_length": 99})


def test_rule_1_gives_the_default_of_a_word_that_is_its_own():
    assert choose("cross-encoder", model_type="crossencoder").model == choose("cross-encoder").model != ""


def test_rule_2_a_shortcut_comes_before_a_family_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / "bm25", **CLASSIFIER)
    register_shortcut(Shortcut("bm25", "biencoder", lambda: ("/its/folder", {"max_length": 7}), lambda: True, "a model"))
    choice = choose("bm25")
    assert (word(choice), choice.model, choice.options) == ("biencoder", "/its/folder", {"max_length": 7}) and "a model" in choice.reason


@pytest.mark.parametrize("name", ["cross-encoder", "Cross-Encoder", "crossencoder", "biencoder", "bm25"])
def test_rule_3_a_family_comes_before_a_folder(tmp_path, monkeypatch, name):
    "One that is called the same; `./name` is the folder"
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / name, **EMBEDDER)
    choice = choose(name)
    assert name.lower() in choice.backend.words and choice.model == choice.backend.defaults.get("en", "") and "family" in choice.reason
    assert word(choose(f"./{name}")) == "biencoder" and choose(f"./{name}").model == f"./{name}"


@pytest.mark.parametrize("lang", ["en", "de", "other"])
@pytest.mark.parametrize("family", ["cross-encoder", "biencoder"])
def test_rule_3_the_default_is_that_of_the_language(family, lang):
    choice = choose(family, lang=lang)
    assert choice.model == choice.backend.defaults["en" if lang == "en" else "other"]


def test_rule_3_a_language_without_a_default_is_named():
    backend("OnlyEnglish", words=("only-english",), defaults={"en": "some/model"})
    assert choose("only-english").model == "some/model"
    with pytest.raises(UnknownModel, match="'de'.*'en'"): choose("only-english", lang="de")


@pytest.mark.parametrize(("files", "expected"), [(CLASSIFIER, "cross-encoder"), (EMBEDDER, "biencoder")], ids=["classifier", "embedder"])
@pytest.mark.parametrize("name", ["my-cross-encoder-reranker", "my-embedder", "bm25-like", "übung mit leerzeichen"])
def test_rule_4_files_come_before_names(tmp_path, files, expected, name):
    choice = choose(str(folder_with(tmp_path / name, **files)))
    assert word(choice) == expected and "name" not in choice.reason


def test_rule_4_the_more_particular_evidence_wins(tmp_path):
    "A format's own file, then the type of sentence-transformers, its modules, the architecture, the name"
    patterns = {"files": "special.bin", "st_types": "Special", "modules": "SpecialModule", "architectures": "SpecialModel",
                "names": "*special*"}
    for kind, pattern in patterns.items(): backend(f"By{kind}", words=(f"by-{kind}",), claims=Claims(**{kind: (pattern,)}))
    folder = folder_with(tmp_path / "special", config={"architectures": ["SpecialModel"]}, modules=[{"type": "x.SpecialModule"}],
                         config_sentence_transformers={"model_type": "Special"})
    (folder / "special.bin").touch()
    for kind, file in zip(patterns, ["special.bin", "config_sentence_transformers.json", "modules.json", "config.json", None], strict=True):
        assert word(choose(str(folder))) == f"by-{kind}"
        if file: (folder / file).unlink()


@pytest.mark.parametrize("name", ["relative", "./relative", "absolute", "trailing/"])
def test_rule_4_a_folder_may_be_written_in_any_way(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = folder_with(tmp_path / "a" / "b", **EMBEDDER)
    ways = {"relative": "a/b", "./relative": "./a/b", "absolute": str(folder), "trailing/": f"{folder}/"}
    assert word(choose(ways[name])) == "biencoder"


def cached_repository(cache, name, source):
    "A folder as a hub repository in a cache, as huggingface_hub lays it out"
    home = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, home / "snapshots" / ("a" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)


def test_rule_4_a_cached_checkpoint_is_looked_into(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached_repository(tmp_path, "someone/plain-name", folder_with(tmp_path / "files", **EMBEDDER))
    assert word(choose("someone/plain-name")) == "biencoder"


@pytest.mark.filterwarnings("ignore:nothing says what kind of model")
def test_rule_4_holds_for_the_callers_own_cache(tmp_path):
    "`cache_dir=` says where the checkpoint is; it is found and loaded from there"
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint
    cached_repository(tmp_path, "someone/plain-name", tiny_checkpoint("biencoder"))
    assert word(Reranker("someone/plain-name", cache_dir=str(tmp_path), device="cpu").choice) == "biencoder"


MODELS = {
    "cross-encoder/ms-marco-MiniLM-L-12-v2": "cross-encoder", "BAAI/bge-reranker-v2-m3": "cross-encoder",
    "someone/My-Cross-Encoder": "cross-encoder", "mixedbread-ai/mxbai-rerank-base-v1": "cross-encoder",
    "jinaai/jina-reranker-v2-base-multilingual": "cross-encoder", "BAAI/bge-base-en-v1.5": "biencoder",
    "intfloat/e5-base-v2": "biencoder", "sentence-transformers/all-MiniLM-L6-v2": "biencoder",
}


@pytest.mark.parametrize(("name", "expected"), MODELS.items(), ids=MODELS)
def test_rule_5_names_of_models_that_are_not_here(name, expected):
    choice = choose(name)
    assert word(choice) == expected and choice.model == name and "name" in choice.reason


@pytest.mark.parametrize("first", [True, False])
def test_rule_5_the_longest_pattern_wins(first):
    "In whichever order the backends registered"
    patterns = [("*special*", "short"), ("someone/special-*", "long")][::1 if first else -1]
    for pattern, name in patterns: backend(name.title(), words=(name,), claims=Claims(names=(pattern,)))
    assert word(choose("someone/special-model")) == "long" and word(choose("nobody/special-model")) == "short"


@pytest.mark.parametrize("above", ["special-things", "special-things/v2"])
@pytest.mark.parametrize("trailing", ["", "/", "/."])
def test_a_known_model_in_a_folder_is_known_by_the_folders_own_name(tmp_path, above, trailing):
    "Not by that of one above it, as in /models/rankt5-tries/plain-t5"
    backend("Known", words=("known",), claims=Claims(models=(("*special*", "*ForSequenceClassification"),)))
    assert word(choose(f"{folder_with(tmp_path / above / 'plain', **CLASSIFIER)}{trailing}")) == "cross-encoder"
    assert word(choose(f"{folder_with(tmp_path / above / 'A-Special-One', **CLASSIFIER)}{trailing}")) == "known"


def test_a_services_own_prefix_is_the_strongest_name(tmp_path, monkeypatch):
    "Before longer patterns and known models, but not for a folder that is here"
    backend("Hosted", words=("hosted",), claims=Claims(prefixes=("host/",)))
    backend("Known", words=("known",), claims=Claims(names=("host/very-special-reranker-*",), models=(("*special-reranker*", "*"),)))
    assert word(choose("Host/very-special-reranker-v1")) == "hosted" and word(choose("ghost/very-special-reranker-v1")) == "known"
    folder_with(tmp_path / "host" / "very-special-reranker-v1", **CLASSIFIER)
    monkeypatch.chdir(tmp_path)
    assert word(choose("host/very-special-reranker-v1")) == "known"


def test_an_option_of_one_backend_alone_names_it(tmp_path):
    "After the type, shortcuts and families, before files and names"
    backend("Hosted", words=("hosted",), claims=Claims(options=("their_option",)))
    folder = str(folder_with(tmp_path / "cross-encoder-reranker", **CLASSIFIER))
    for name in ("someone/their-model", "BAAI/bge-reranker-v2-m3", folder):
        choice = choose(name, options=["device", "their_option"])
        assert word(choice) == "hosted" and choice.model == name and "their_option=" in choice.reason
    assert word(choose(folder, options=["device"])) == "cross-encoder" and word(choose("bm25", options=["their_option"])) == "bm25"
    assert word(choose("someone/their-model", model_type="biencoder", options=["their_option"])) == "biencoder"


def test_an_option_that_is_none_is_not_passed():
    backend("Hosted", words=("hosted",), claims=Claims(options=("their_option",)))
    with pytest.raises(InputError, match="'their_option'"): Reranker("bm25", their_option=None)
    with pytest.warns(UserWarning, match="model_type="), pytest.raises(InputError, match="'cross-encoder' has no option 'their_option'"):
        Reranker("someone/their-model", their_option=None)


@pytest.mark.parametrize("name", ["someone/their-model", "zzz-9"])
def test_rule_6_nothing_known_is_a_cross_encoder_and_said(name):
    with pytest.warns(UserWarning, match="model_type="): choice = choose(name)
    assert word(choice) == "cross-encoder" and choice.model == name


def test_rule_6_is_not_said_where_something_is_known(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("bm25", "BAAI/bge-reranker-v2-m3", str(folder_with(tmp_path / "x", **CLASSIFIER))): choose(name)


def test_the_choice_is_on_the_ranker_and_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "rerankers"): ranker = Reranker("bm25")
    assert type(ranker.choice) is Choice and ranker.choice.backend is type(ranker)
    assert ranker.choice.reason in caplog.text


# ---- typos

TYPOS = {"cros-encoder": "cross-encoder", "cross_encoder": "cross-encoder", "bm-25": "bm25", "biencodr": "biencoder", "ofline": "offline",
         "offline-biencodr": "offline-biencoder"}


@pytest.mark.parametrize(("typed", "meant"), TYPOS.items(), ids=TYPOS)
def test_a_word_with_a_typo_names_the_nearest(typed, meant):
    with pytest.raises(UnknownModel, match=f"'{meant}'"): choose(typed)


@pytest.mark.parametrize("typed", ["cros-encoder", "bm-25", "zzz", ""])
def test_an_unknown_type_names_the_nearest_or_all(typed):
    with pytest.raises(UnknownModel, match="'cross-encoder'|'bm25'|bm25, .*cross-encoder"): choose("some/model", model_type=typed)


NO_OPTIONS = [("bm25", "k_1", "k1"), ("cross-encoder", "max_lenght", "max_length"), ("cross-encoder", "activaton", "activation"),
              ("cross-encoder", "devise", "device"), ("biencoder", "query_promt", "query_prompt")]


@pytest.mark.parametrize(("name", "typed", "meant"), NO_OPTIONS)
def test_an_unknown_option_names_the_nearest(name, typed, meant):
    "Before anything is loaded"
    with pytest.raises(InputError, match=f"'{typed}'.*'{meant}'"): Reranker(name, **{typed: 1})


@pytest.mark.parametrize("name", ["", "  ", b"bm25"], ids=repr)
def test_no_name_is_an_input_error(name):
    with pytest.raises(InputError, match="name"): Reranker(name)


# ---- registering

def test_a_class_is_known_by_all_its_words():
    cls = backend("Mine", words=("mine", "my-own"))
    assert choose("mine").backend is choose("my-own").backend is cls and Reranker("MINE").rank(QUERY, DOCS)[0].doc_id == 1


def test_a_word_may_be_declared_with_capitals():
    assert backend("Capital", words=("MyMethod",)) is choose("MyMethod").backend is choose("mymethod").backend


def test_two_classes_with_one_word_are_an_error():
    "Named with both, and the first stays"
    first = backend("First", words=("one-word",))
    with pytest.raises(RerankersError, match="'one-word'.*First.*Second"): backend("Second", words=("other-word", "one-word"))
    assert choose("one-word").backend is first and "other-word" not in registry.BACKENDS


def test_two_classes_of_the_same_name_with_one_word_are_an_error_too():
    "Else somebody's module replaces a backend in silence"
    first = backend("Ranker", "first.module", words=("one-word",))
    with pytest.raises(RerankersError, match="one-word"): backend("Ranker", "second.module", words=("one-word",))
    assert choose("one-word").backend is first


def test_two_classes_of_the_same_name_may_have_words_of_their_own():
    first = backend("Ranker", "first.module", words=("one",), claims=Claims(names=("one/*",)))
    second = backend("Ranker", "second.module", words=("two",), claims=Claims(names=("two/*",)))
    assert (choose("one/model").backend, choose("two/model").backend) == (first, second)


def test_a_module_that_is_reloaded_replaces_its_own_class():
    backend("Again", "a.module", words=("again",))
    second = backend("Again", "a.module", words=("again",))
    assert choose("again").backend is second and [f.__name__ for f in registry.FAMILIES].count("Again") == 1


def test_a_class_of_a_notebook_stands_before_the_packaged_one():
    "In whichever order they are defined"
    packaged = backend("Worked", "package.module", words=("worked-on",))
    assert choose("worked-on").backend is packaged
    mine = backend("Worked", "__main__", words=("worked-on",))
    backend("Worked", "package.module", words=("worked-on",))
    assert choose("worked-on").backend is mine


# ---- plug-ins

PLUGIN = """
from rerankers.rankers import PointwiseRanker
class {cls}(PointwiseRanker):
    "Counts vowels"
    words = {words!r}
    def score_pairs(self, pairs, call): return [float(sum(c in "aeiou" for c in text)) for _, text in pairs]
"""
REPORT = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from rerankers import Reranker
    found = {word: type(Reranker(word)).__module__ for word in sys.argv[1:]}
    first = Reranker(sys.argv[1]).rank("q", ["rhythm", "queueing"])[0].doc_id
print(json.dumps([found, first, [str(w.message) for w in said]]))
"""


@pytest.fixture
def plugin(tmp_path):
    "Writes a package with its metadata, as pip would leave it"
    def write(name, source, entry=None):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rerankers.backends]\n{name} = {entry or name}\n")
    return write


def with_plugins(tmp_path, *words):
    "Where words lead in a fresh Python that has the plug-ins, the best of two documents, and what was warned of"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", REPORT, *words], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_plugin_is_found_by_its_entry_point(tmp_path, plugin):
    plugin("vowels", PLUGIN.format(cls="Vowels", words=("vowels",)))
    assert with_plugins(tmp_path, "vowels", "bm25") == [{"vowels": "vowels", "bm25": "rerankers.backends.bm25"}, 1, []]


LATER = """
import sys, shutil
from rerankers import Reranker, UnknownModel, registry
read, real = [], registry.entry_files
registry.entry_files = lambda place: read.append(place) or real(place)
for _ in range(3): Reranker("bm25")
assert len(read) == len(set(read)), "a folder was read twice"
once = registry.plugins.cache_info().misses
try: Reranker("any", model_type="vowels")
except UnknownModel: pass
else: raise AssertionError("it is not there yet")
shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)
print(once, type(Reranker("vowels")).__module__, registry.plugins.cache_info().misses)
"""


def test_installed_packages_are_asked_again_only_when_one_has_come(tmp_path, plugin):
    "To ask each of some hundred takes as long as a small model's answer; a plug-in that is installed meanwhile is found all the same"
    plugin("vowels", PLUGIN.format(cls="Vowels", words=("vowels",)))
    place = tmp_path.parent / f"{tmp_path.name}-installed"
    place.mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(place)])}
    done = subprocess.run([sys.executable, "-c", LATER, str(tmp_path), str(place)], capture_output=True, text=True, env=env, cwd=place.parent, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "vowels", "2"]


def test_a_plugin_may_be_a_package_of_modules(tmp_path, plugin):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "__init__.py").touch()
    for n in "ab": (tmp_path / "many" / f"{n}.py").write_text(PLUGIN.format(cls=f"Vowels{n}", words=(f"vowels-{n}",)))
    plugin("many_entry", "", entry="many")
    assert with_plugins(tmp_path, "vowels-a", "vowels-b") == [{"vowels-a": "many.a", "vowels-b": "many.b"}, 1, []]


def test_an_entry_may_name_the_class(tmp_path, plugin):
    plugin("vowels", PLUGIN.format(cls="Vowels", words=("vowels",)), entry="vowels:Vowels")
    assert with_plugins(tmp_path, "vowels") == [{"vowels": "vowels"}, 1, []]


BROKEN = {"import error": "import a_package_nobody_has", "syntax error": "def :", "its own error": "raise RuntimeError('no luck')",
          "exit": "raise SystemExit(3)"}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_and_left_out(tmp_path, plugin, source):
    "Once, and the others work"
    plugin("aaa_broken", source)
    plugin("vowels", PLUGIN.format(cls="Vowels", words=("vowels",)))
    found, first, said = with_plugins(tmp_path, "vowels", "bm25")
    assert (found, first) == ({"vowels": "vowels", "bm25": "rerankers.backends.bm25"}, 1)
    assert len(said) == 1 and "aaa_broken" in said[0]


@pytest.mark.parametrize("cls", ["TheirBM25", "BM25Ranker"])
def test_a_plugin_that_claims_a_word_of_another_is_named_and_left_out(tmp_path, plugin, cls):
    "Also one whose class is called as the other's"
    plugin("thief", PLUGIN.format(cls=cls, words=("bm25",)))
    found, _, said = with_plugins(tmp_path, "bm25")
    assert found == {"bm25": "rerankers.backends.bm25"} and len(said) == 1 and "thief" in said[0]


ALONE = """
import sys
from rerankers import registry
for word in sys.argv[1:]: registry.load_alone(word)
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("rerankers.backends.")))
registry.load_backends()
print(*(f.__name__ for f in registry.FAMILIES))
"""


def test_a_word_of_its_own_loads_its_own_backend_alone():
    "And leaves the order of all of them as it is, which decides between equal claims"
    def after(*words):
        done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    alone, order = after("offline", "BM25")
    assert alone.split() == ["bm25", "cross_encoder", "pypi"] and order == after()[1]


def test_the_built_in_backends_come_through_the_same_door():
    "setup.py declares them as a plug-in declares its own"
    assert '"rerankers.backends": ["builtin = rerankers.backends"]' in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert {f.__module__ for f in registry.FAMILIES} >= {f"rerankers.backends.{name}" for name in ("bm25", "cross_encoder", "biencoder")}


# ---- rerankers 0.10

@pytest.fixture(scope="session")
def folder():
    pytest.importorskip("torch")
    from rerankers.tiny_models import tiny_checkpoint
    return tiny_checkpoint("bert")


def test_the_first_arguments_are_those_of_0_10():
    assert list(inspect.signature(Reranker).parameters)[:4] == ["model_name", "lang", "model_type", "verbose"]


OLD_OPTIONS = [{"device": "cpu"}, {"dtype": "float32"}, {"batch_size": 4}, {"verbose": 0}, {"verbose": 1}, {"lang": "de"}]


@pytest.mark.parametrize("options", OLD_OPTIONS, ids=str)
def test_common_options_are_taken_by_every_method(folder, options):
    "So that changing the word is enough to change the method"
    for name in ("bm25", folder): assert Reranker(name, **options).rank(QUERY, DOCS)[0].rank == 1


def test_options_of_loading_arrive(folder):
    ranker = Reranker(Path(folder), model_type="cross-encoder", device="cpu", dtype="float32", batch_size=3,
                      model_kwargs={"attn_implementation": "eager"}, tokenizer_kwargs={"model_max_length": 33})
    assert ranker.runtime.model.config._attn_implementation == "eager" and ranker.max_length == 33 and ranker.batch_size == 3


def test_torch_objects_are_taken_as_names_are(folder):
    import torch
    ranker = Reranker(folder, device=torch.device("cpu"), dtype=torch.float16)
    assert ranker.runtime.model.dtype is torch.float16


UNSET = logging.NOTSET
VERBOSE = [(None, UNSET, None), (0, UNSET, False), (1, UNSET, None), (2, logging.INFO, None), (3, logging.DEBUG, None)]


@pytest.mark.parametrize(("verbose", "level", "progress"), VERBOSE)
def test_verbose_means_progress_bars_and_the_log(verbose, level, progress):
    log = logging.getLogger("rerankers")
    before = log.level
    try:
        log.setLevel(UNSET)
        assert (Reranker("bm25", verbose=verbose).progress, log.level) == (progress, level)
    finally: log.setLevel(before)


@pytest.mark.parametrize("name", ["bm25", "folder"])
def test_methods_take_the_arguments_of_0_10(folder, name):
    ranker = Reranker(folder if name == "folder" else name, "en", None, 0)
    results = ranker.rank(query=QUERY, docs=DOCS, doc_ids=["f", "h"], metadata=[{"n": 0}, {"n": 1}])
    assert ranker.rank(QUERY, DOCS, ["f", "h"], [{"n": 0}, {"n": 1}]) == results
    assert results.results_count() == 2 and results.top_k(1) == [results[0]] and isinstance(ranker.score(query=QUERY, doc=DOCS[0]), float)
    assert results.get_score_by_docid("h") == results.get_result_by_docid("h").score and results.query == QUERY
    assert results[0].text in DOCS and results[0].document.doc_id == results[0].doc_id


def test_rank_async_takes_metadata(folder):
    "Which 0.10's did not"
    import asyncio
    ranker = Reranker(folder, device="cpu")
    call = {"query": QUERY, "docs": DOCS, "doc_ids": [1, 2], "metadata": [{"n": 0}, {"n": 1}]}
    assert asyncio.run(ranker.rank_async(**call)) == ranker.rank(**call)


def test_a_callers_options_come_before_a_shortcuts(monkeypatch):
    from rerankers import Reranker
    monkeypatch.setattr(registry, "SHORTCUTS", dict(registry.SHORTCUTS))
    register_shortcut(Shortcut("my-words", "bm25", lambda: ("", {"k1": 0.4, "b": 0.3}), lambda: True))
    assert [(r.k1, r.b) for r in (Reranker("my-words"), Reranker("my-words", k1=2.0))] == [(0.4, 0.3), (2.0, 0.3)]
