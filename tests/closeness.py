"""How near two computations of one score must be: one rule for all tests.

Processors add in different orders, and float32 rounds each sum to one part in 2**24 at the most. What follows from that is a part of the number, so that
a sum of a thousand terms may be off by more than a probability; a bound in plain units fails on the next processor or hides a fault.

- `STEPS`: a score may be off by so many steps of float32. A choice, from how errors of a few layers add; the kits were held to it with AVX2 and with
  torch's plain kernels (`ATEN_CPU_CAPABILITY=default`), not on other processors. Dropping one token of two hundred moves a sum by forty thousand.
- `FLOOR`: a score near zero is the difference of larger numbers, and has their steps: logits of the kits and of the tiny models go up to ten.
- `PROBABILITY`: a sigmoid rises by a quarter of what its logit does, and what is between 0 and 1 has no larger numbers behind it.
"""
import pytest

STEP = 2.0 ** -23       # from one float32 number to the next, as a part of it
STEPS = 8
FLOOR = 1e-5            # eight steps of ten
PROBABILITY = FLOOR / 4


def near(expected, *, steps=STEPS, floor=FLOOR):
    "Equal but for rounding: numbers, lists and dictionaries, as `pytest.approx` takes them"
    return pytest.approx(expected, rel=steps * STEP, abs=floor)


def distance(ours, official, *, steps=STEPS, floor=FLOOR):
    "The largest difference of two lists of scores, as a part of what rounding explains: 1 is the bound"
    assert len(ours) == len(official)
    parts = (abs(a - b) / (floor + steps * STEP * abs(b)) for a, b in zip(ours, official))
    return max(parts, key=lambda part: (part != part, part), default=0.0)     # NaN, which `max` alone may pass over, is within no bound
