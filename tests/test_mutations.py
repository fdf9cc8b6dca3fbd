"The table of deliberate faults still fits the modules: each names text that stands there once, and changes it"
from pathlib import Path

import pytest
from mutations.run import areas

root = Path(__file__).resolve().parents[1]
AREAS = areas()


def misfit(fault):
    "What is wrong with a row, if anything"
    if (count := (root/fault.where).read_text(encoding="utf-8").count(fault.old)) != 1: return f"{fault.where} holds it {count} times"
    if fault.new == fault.old: return "it changes nothing"
    if not (root/fault.tests.split()[0]).is_file(): return f"there is no {fault.tests.split()[0]}"


@pytest.mark.parametrize("area", AREAS)
def test_a_fault_stands_in_its_module(area):
    assert not {f"{area}-{i}": f"{fault.old!r}: {wrong}" for i, fault in enumerate(AREAS[area]) if (wrong := misfit(fault))}
