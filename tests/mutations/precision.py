"Faults of number formats, of the choice between ways to compute, and of what is kept"
from mutations import Mutation

INT8, PRECISION, KEPT, OPENVINO, REGISTRY, PYPI = (
    f"rerankers/{name}.py" for name in ("engine/int8", "engine/precision", "engine/kept", "engine/openvino", "registry", "backends/pypi"))
TESTS = "tests/test_precision.py"

MUTATIONS = [
    Mutation(INT8, "((top - low) / 2).clamp_min_(1e-30)", "((top - low) / 2).amax().clamp_min_(1e-30)", TESTS + " -k 'neighbours or rounded'", "one scale for a whole batch"),
    Mutation(INT8, "self.bias, middle, self.sums)", "self.bias, middle, 0 * self.sums)", TESTS + " -k rounded", "what the middle took away stays away"),
    Mutation(INT8, "(heaviest_pair, 127)", "(largest, 127)", TESTS + " -k overflows", "weights add up to more than sixteen bits hold"),
    Mutation(INT8, "if name not in SLOW or name in SAID: return", "if name not in SLOW: return", TESTS + " -k slow_format", "said for each model"),
    Mutation(PRECISION, "if trial.speed >= FASTER else", "if True else", TESTS + " -k not_faster", "picked without being faster"),
    Mutation(PRECISION, "<= HEADROOM * bound:", "<= 9e9 * bound:", TESTS + " -k measured_or_refused", "any change of scores is accepted"),
    Mutation(PRECISION, "sha256(repr(sorted(given.items())).encode()).hexdigest()", "repr(given)", TESTS + " -k no_token", "a token is written down"),
    Mutation(KEPT, 'found.get("key") == json.loads(json.dumps(key))', "True", TESTS + " -k damaged_file", "a fact of another key is believed"),
    Mutation(OPENVINO, "if (home / GRAPH).is_file(): return home / GRAPH", "", TESTS + " -k scores_of_torch", "exported at each start"),
    Mutation(REGISTRY, "    if new: in_order()", "    pass", "tests/test_registry.py -k alone", "what was imported first decides between equal claims"),
    Mutation(PYPI, "if size != str(facts.st_size) or", "if False and", "tests/test_offline_models.py -k recorded", "a record is believed of any file"),
]
