"The documentation site's own rules, without building it: what an API entry says, which words become links, which tables are broken"
import sys
from pathlib import Path

import pytest

pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))
import docs  # noqa: E402
import entries  # noqa: E402


@pytest.mark.parametrize("module, name, line", [
    ("web.providers", "Provider", "    base_url: str = '',  # '' where each account has its own"),                   # a field
    ("web.http", "Posted", "    retries: int = 0,  # Attempts before the one that worked"),                              # of a named tuple
    ("strategies.plans", "plan", "    **options: Any,  # Of that strategy"),                                                   # on the line before the value
    ("engine.batching", "run_rows", "    *,"),                                                                          # what must be named
    ("backends.t5", "T5Ranker", "    revision: str | None = None,  # Branch, tag or commit of a hub repository"),       # delegated to a dataclass
    ("backends.rankgpt", "LRLRanker", "class LRLRanker(RankGPTRanker)"),                                       # made as its base class is
    ("engine.local", "Runtime", "class Runtime(Protocol)"),
    ("web.http", "Background", "def Background.running() -> asyncio.AbstractEventLoop"),                             # a method
    ("web.providers", "Provider", "Provider.takes_instruction: bool"),
])
def test_an_entry_says_what_the_source_says(module, name, line):
    assert line in entries.markdown(f"rerankers.{module}", name).splitlines()


def test_a_backend_repeats_nothing_of_the_contract():
    assert ".encode(" not in entries.markdown("rerankers.backends.t5", "T5Ranker")
    assert "\ndef LocalRanker.encode(" in entries.markdown("rerankers.engine.local", "LocalRanker")


@pytest.mark.parametrize("word, page, target", [
    ("first", "index", None), ("tourrank", "index", None), ("words", "registry", None), ("model_name", "reranker", None),  # a model's word, an argument
    ("side_by_side", "strategies/comparisons", "strategies/comparisons"), ("gathered", "web/remote", "web/remote"),
    ("check_ranker", "tutorials/add_a_backend", None), ("check_ranker()", "tutorials/add_a_backend", "testing"),
    ("RankedResults", "index", "results"), ("RankedResults.top_k", "index", "results"),
])
def test_which_words_are_links(word, page, target):
    found = docs.place_of(word, page)
    assert (found and found[0]) == target


def test_a_name_of_two_modules_is_a_link_on_their_pages_only(monkeypatch):
    monkeypatch.setattr(docs, "symbols", lambda: {"Thing": [("a", "thing"), ("b", "thing")]})
    assert [docs.place_of("Thing", page) for page in ("a", "b", "c")] == [("a", "thing"), ("b", "thing"), None]


def test_tables_that_show_as_text_are_found(tmp_path):
    for name, body in {"good": "<p>a | b</p>", "bad": "<p>x</p>\n<p>| a | b |\n|---|---|</p>"}.items():
        (tmp_path / f"{name}.html").write_text(f"<p>|</p><article role='main'>{body}</article>", encoding="utf-8")
    assert docs.raw_tables(tmp_path) == ["bad.html"]


def test_a_picture_has_words_for_those_who_cannot_see_it():
    cell = {"cell_type": "code", "source": "#| fig-alt: Heat map\nplot()", "outputs": []}
    found = docs.code_cell(cell, docs.directives(cell["source"]))
    assert (found["source"], found["metadata"]["mystnb"]["image"]["alt"]) == ("plot()", "Heat map")
