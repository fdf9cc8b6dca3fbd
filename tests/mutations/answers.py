"Faults of results, rankers, stopping"
from mutations import Mutation

ANSWERS, STOPPING = "tests/test_answers_of_rankers.py", "tests/test_stopping.py"
MUTATIONS = [
    Mutation("rerankers/rankers.py", "if doc.pictures and not self.finds_text(doc):", "if doc.text is None:", ANSWERS,
             "a picture with an empty text is ranked as nothing"),
    Mutation("rerankers/backends/bm25.py", "[tokenize(t) for t in while_wanted(texts)]", "[tokenize(t) for t in texts]", f"{STOPPING} -k 'loop_of and bm25'",
             "BM25 counts words for nobody"),
    Mutation("rerankers/rankers.py", "else s,\n            reverse=True,", "else s,",
             "tests/test_documents_results.py", "the worst document comes first"),
    Mutation("rerankers/rankers.py", "return found.shared([[place[p] for p in row] for row in pairs])", "return [found.pick([place[p] for p in row]) for row in pairs]",
             ANSWERS, "each of several queries is charged for all"),
    Mutation("rerankers/rankers.py", "and not math.isfinite(value):", "and math.isnan(value):", ANSWERS, "an infinite score ranks"),
    Mutation("rerankers/rankers.py", "self.ocr is not None or self.sees and not self.texts_only", "self.ocr is not None or self.sees", ANSWERS, "pictures are ranked as empty texts"),
    Mutation("rerankers/results.py", "return [total * b // whole - total * a // whole for a, b in zip(ends, ends[1:])]",
             "return [total * size // whole for size in sizes]", ANSWERS, "shares no longer sum to the whole"),
    Mutation("rerankers/results.py", "if u.calls or u.cost is not None]", "if u.calls]", ANSWERS, "the cost of a share without a call is lost"),
    Mutation("rerankers/results.py", 'return value if isfinite(value) else None', 'return value', ANSWERS, "NaN in JSON is an error for the caller"),
    Mutation("rerankers/results.py", "for i, n in Counter(ids).items() if n > 1)", "for i in ids if ids.count(i) > 1)", ANSWERS, "quadratic again (and a wrong loop)"),
    Mutation("rerankers/calls.py", "any(owner.wanted for owner in self.owners)", "all(owner.wanted for owner in self.owners)",
             f"{STOPPING} -k share", "who shares a model with one who leaves gets no answer"),
    Mutation("rerankers/calls.py", "    except BaseException:\n        stop.ask()\n        raise", "    except BaseException:\n        raise",
             f"{STOPPING} -k 'next_step and cross'", "a cancelled call goes on computing"),
    Mutation("rerankers/progress.py", "        yield lambda n: check_wanted()", "        yield lambda n: None",
             f"{STOPPING} -k 'next_step and biencoder'", "batches go on after a cancellation"),
    Mutation("rerankers/llm/local.py", "            stop.ask()\n            raise", "            raise", f"{STOPPING} -k 'next_step and writing'", "a chat model goes on writing for nobody"),
    Mutation("rerankers/llm/local.py", "stopping_criteria=[each_token],", "", f"{STOPPING} -k interrupt", "an answer is written to its end for nobody"),
]
