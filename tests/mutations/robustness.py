"Faults of comparisons, of saved scores and of robustness cards"
from mutations import Mutation

COMPARISON, PAIRS, COSTS, CARD, ONCE = (f"rerankers/evaluation/{name}.py" for name in ("comparison", "pairs", "costs", "robustness", "once"))
OF_COMPARISON, OF_PAIRS, OF_CARD, OF_ONCE = (f"tests/test_{name}.py" for name in ("compare", "pairs", "robustness", "once"))

MUTATIONS = [
    Mutation(COSTS, "    except Exception: pass      #", "    except KeyError: pass      #", OF_COMPARISON + " -k first_query", "a first query that fails drops the ranker"),
    Mutation(COSTS, "    except HOPELESS: raise\n", "", OF_COMPARISON + " -k no_other_query", "a wrong key is tried for every query"),
    Mutation(COMPARISON, "while name in used: name", "if False: name", OF_COMPARISON + " -k no_column", "a ranker's name overwrites a column"),
    Mutation(COMPARISON, "encode()[:120]", "encode()[:400]", OF_COMPARISON + " -k is_a_file", "names that no file can have"),
    Mutation(COMPARISON, 'unicodedata.normalize("NFC", name).lower()', "name", OF_COMPARISON + " -k is_a_file", "two rankers share a file where case does not count"),
    Mutation(COMPARISON, "self.runs.get(name, [self.measured[name]])]", "[self.measured[name]]]", OF_COMPARISON + " -k of_the_runs", "intervals know nothing of the runs"),
    Mutation(COMPARISON, "for i in range(len(runs))] for who", "for i in range(1)] for who", OF_COMPARISON + " -k several_runs", "depths of the first run alone"),
    Mutation(COMPARISON, "if least > 0.05: return", "if False: return", OF_COMPARISON + " -k too_few", "five queries seem to show a difference"),
    Mutation(PAIRS, 'key=lambda pair: pair["place"])', 'key=lambda pair: pair["document"])', OF_PAIRS + " -k form", "the first stage's order is lost"),
    Mutation(CARD, "if first.same(a, b) and second.same(a, b): continue", "", OF_CARD + " -k equal_scores", "ties look like another order"),
    Mutation(CARD, "noise * min(1.0, spread))", "noise)", OF_CARD + " -k unit_of", "fused ranks are all equal"),
    Mutation(CARD, "min(good or case.documents,", "min(case.documents,", OF_CARD + " -k about_the_relevant", "the answer is whatever was first"),
    Mutation(CARD, 'random.Random(f"{before.case.id} long")', "rng", OF_CARD + " -k same_for_every_place", "the long texts differ by more than the place"),
    Mutation(CARD, "barred = {*case.documents, *relevant(data, case.id)}", "barred = set(case.documents)", OF_CARD + " -k something_else",
             "the filler answers the query"),
    Mutation(CARD, "return len(self.values) > 1 and not", "return not", OF_CARD + " -k one_query", "one query is clear"),
    Mutation(ONCE, "(str(ranker.spec), ranker.instruction, ranker.fields)", "str(ranker.spec)", OF_ONCE + " -k instruction",
             "a ranker with another instruction is quoted"),
    Mutation(ONCE, "None if is_limited(call) else self.known(task)", "self.known(task)", OF_ONCE + " -k limited", "a budget is not spent"),
    Mutation(ONCE, "if (shown := self.ranker.view(doc)) not in self.rows}", "if (shown := self.ranker.view(doc))}", OF_ONCE + " -k encoded_once",
             "documents are encoded for every part of the queries"),
    Mutation(COMPARISON, "if alone and not isinstance", "if not isinstance", OF_ONCE + " -k draw_anew", "several runs of a combination are one"),
    Mutation(PAIRS, "if patience.over: return", "if False: return", OF_COMPARISON + " -k not_asked_about_every", "a server that is down is asked about every query"),
    Mutation(PAIRS, "error is None or isinstance(error, OF_A_QUERY)", "error is None", OF_COMPARISON + " -k errors_about", "odd queries end a comparison"),
]
