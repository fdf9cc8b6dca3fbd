"Faults of calls in a hurry, of what a model is shown, of specs and of rankers made of rankers"
from mutations import Mutation

CALLS, RANKERS, KINDS, SPECS = "rerankers/calls.py", "rerankers/rankers.py", "rerankers/strategies/kinds.py", "rerankers/specs.py"
COMBINED, REMOTE, CHAT, DOCUMENTS = "rerankers/combine/combined.py", "rerankers/web/remote.py", "rerankers/llm/chat.py", "rerankers/documents.py"
LATE, WHOLE, LINE, VIEW = "tests/test_deadline.py", "tests/test_combined.py", "tests/test_specs.py", "tests/test_view.py"

TOGETHER = "tests/test_combinations.py -k "
WALK = "tests/test_adaptive.py -k "

MUTATIONS = [
    Mutation(CALLS, "if stop.left == 0: raise OutOfTime", "if False: raise OutOfTime", LATE, "work goes on after the deadline"),
    Mutation(CALLS, "while at < n and call.stop.left != 0:", "while at < n:", LATE, "a window is judged after the deadline"),
    Mutation(CALLS, "if None in times or not times else max(", "if not times else min(", "nbs/02_calls.ipynb", "a shared batch ends with the first of its calls"),
    Mutation(CALLS, "else min(self._due, shared)", "else shared", "nbs/02_calls.ipynb", "a part's own time does not count"),
    Mutation(CALLS, "or deadline < 0\n", "or False\n", LATE, "a time before now is accepted"),
    Mutation(RANKERS, "rows = zip_longest(*pairs) if call.hurried else pairs", "rows = pairs", LATE, "the first query takes all the time"),
    Mutation(RANKERS, "return [*found, *[empty] * (n - len(found))]", "return [*[empty] * (n - len(found)), *found]", LATE, "scores at other documents"),
    Mutation(RANKERS, "status=unfinished(n - done, n),", "status=COMPLETE,", LATE, "what is missing is not said"),
    Mutation(RANKERS, "except LimitReached as end: return Ranking.unreached(len(task.documents), end.why)", "except ZeroDivisionError: return Ranking.unreached(1)", LATE,
             "one late set takes the others' scores"),
    Mutation(RANKERS, "known = [[s for i in group if (s := self.scores[i]) is not None] for group in groups]",
             "known = [[s for i in group[:1] if (s := self.scores[i]) is not None] for group in groups]", WHOLE, "of a document's pieces only the first counts"),
    Mutation(RANKERS, "*(i for i in rest.best_first() if i not in there)]", "*(i for i in range(len(rest.best_first())) if i not in there)]", WHOLE,
             "who was left behind loses the order of the first stage"),
    Mutation(RANKERS, "shown_fields(document, self.fields)", "document.content", VIEW, "fields= changes nothing"),
    Mutation(RANKERS, "pictures = document.pictures if self.sees and not", "pictures = document.pictures if False and not", VIEW, "a method that sees is shown no picture"),
    Mutation(DOCUMENTS, "and self.pictures == pictures_in(other)", "", VIEW, "two pages with one text are one"),
    Mutation(KINDS, "late.update(i for i, _ in asked[len(answers):])", "pass", LATE, "a strategy that ended early calls itself complete"),
    Mutation(REMOTE, "with suppress(OutOfTime): done(n)", "done(n)", LATE, "an answer in time is lost with one that was late"),
    Mutation(CHAT, "if len(request) == 1: self.unjudged.update(request)", "pass", LATE, "a document without a judgement has a score"),
    Mutation(SPECS, "found = {k: writable(v) for k, v in self.options.items() if k not in SECRETS}", "found = {k: writable(v) for k, v in self.options.items()}", LINE,
             "a key is written down"),
    Mutation(SPECS, "return text if BARE_WORD.fullmatch(text) and bare_value(text) == text else", "return text if BARE_WORD.fullmatch(text) else", LINE, "the text 10 comes back as a number"),
    Mutation(SPECS, "if reader.at < len(text): raise", "if False: raise", LINE, "what follows a description is ignored"),
    Mutation(COMBINED, "self.cut[position] = self.cut[position] or bool(", "self.cut[position] = bool(", WHOLE, "the last stage alone says what was cut"),
    Mutation(COMBINED, "self.faults.update(ranking.faults)", "pass", WHOLE, "faults of parts are forgotten"),
    Mutation(COMBINED, "r.instructed(instruction) if r.takes_instruction else r", "r", WHOLE, "an instruction does not reach the parts"),
    Mutation(COMBINED, "(question[2].name, question[2].top_k, question[2].seconds, question[2].purses, question[2].failures),", "(question[2].name, id(question)),",
             WHOLE, "each query is a call of its own"),
    Mutation(COMBINED, "for s in self.stages if s.status != COMPLETE)", "for s in self.stages[:0])", WHOLE, "a late stage is not said"),
    Mutation("rerankers/combine/fusion.py", "lambda place: 1 / (k + place)", "lambda place: 1 / (k - place)", TOGETHER + "rrf",
             "later places count for more"),
    Mutation("rerankers/combine/cascades.py", "order[:depth.count(len(left))]", "order[:depth.count(len(left)) - 1]", TOGETHER + "sees_the_best",
             "one document fewer goes on"),
    Mutation("rerankers/combine/diversity.py", "(1 - weight) * nearest[i]", "weight * nearest[i]", TOGETHER + "formula",
             "the weight of relevance is that of difference too"),
    Mutation("rerankers/combine/adaptive.py", "self.bring(parent, 1 / place)", "self.bring(parent, place)", WALK + "slidegar_authors",
             "SlideGAR prefers the neighbours of the worst of the best"),
    Mutation("rerankers/combine/adaptive.py", "if 2 * self.step > self.window", "if 3 * self.step > self.window", WALK + "slidegar_authors",
             "windows that are large enough are refused"),
    Mutation("rerankers/combine/adaptive.py", "take(min(self.batch, left))", "take(self.batch)", WALK + "never_more_than_the_budget",
             "the last batch of GAR exceeds the budget"),
    Mutation("rerankers/combine/combined.py", "self.added[position - self.own] = added ", "pass ", WALK + "incomplete_part",
             "a document comes from where a part that failed found it"),
    Mutation(REMOTE, "return Ranking(order=range(len(task.documents)), error=error)", "raise", "tests/test_combinations_remote.py -k only_the_failed",
             "one failing query of many lets all be asked twice"),
    Mutation("rerankers/spending.py", "+= now - self.since", "+= (now - self.since) * self.waiting", "tests/test_budgets.py -k for_the_same",
             "a budget's seconds count once for each query that waits"),
    Mutation("rerankers/combine/fusion.py", "list(order) == Ranking(scores).best_first()", "False", TOGETHER + "within_another",
             "scores of a combination within another do not count"),
]
