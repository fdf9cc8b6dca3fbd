"The rooms of the library: nothing imports upwards, and nothing in a circle, not even inside a function or for types"
import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rerankers"
# From the ground up; a room may use itself and those before it
ROOMS = ("core", "engine", "web", "strategies", "llm", "backends", "combine", "evaluation", "integrations", "serve", "testing", "cli")
FRONT = {"rerankers", "rerankers.models"}       # what users import; nothing inside needs it
OWN_ROOM = {"testing": "testing", "tiny_models": "testing", "cli": "cli", "utils": "integrations"}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "_modidx.py" and "models" not in p.parts and p != PACKAGE / "__init__.py"}


def room(module):
    parts = module.split(".")[1:]
    return parts[0] if len(parts) > 1 or parts[0] in ROOMS and parts[0] not in OWN_ROOM else OWN_ROOM.get(parts[0], "core")


def named(node, module):
    "Modules that an import names"
    if isinstance(node, ast.Import): return [alias.name for alias in node.names]
    base = module.split(".")[:-node.level] if node.level else []
    where = ".".join([*base, *([node.module] if node.module else [])])
    return [where, *(f"{where}.{alias.name}" for alias in node.names)]


@cache
def imports():
    "Module -> the modules of ours that it imports, wherever it does"
    found = {}
    for module, path in MODULES.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, (ast.Import, ast.ImportFrom))]
        found[module] = sorted({name for node in nodes for name in named(node, module) if name in MODULES and name != module})
    return found


def test_every_module_has_a_room(): assert {room(m) for m in MODULES} <= set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_upwards(module):
    above = [other for other in imports()[module] if ROOMS.index(room(other)) > ROOMS.index(room(module))]
    assert not above, f"{module} is in {room(module)!r}"


def test_there_are_no_circles():
    try: tuple(TopologicalSorter(imports()).static_order())
    except CycleError as error: pytest.fail(" -> ".join(error.args[1]))


def test_a_module_is_named_as_its_notebook():
    for path in MODULES.values():
        first = path.read_text(encoding="utf-8")
        if "File to edit: " not in first: continue
        book = first.split("File to edit: ")[1].split(".ipynb")[0].rsplit("/", 1)[-1]
        assert book.split("_", 1)[-1] == path.stem if book[:2].isdigit() else book == path.stem
