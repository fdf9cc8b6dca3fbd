"Faults of what reads a chat model's answer, of recipes and of tournaments"
from mutations import Mutation

IDS, ROWS, PARSING = "rerankers/llm/identifiers.py", "rerankers/llm/rows.py", "rerankers/llm/parsing.py"
RECIPES, RANKLLM, CUPS = "rerankers/llm/recipes.py", "rerankers/backends/rankllm.py", "rerankers/strategies/tournaments.py"
NO_RANKING = "tests/test_answers.py -k what_is_no_ranking"
RANKING = "tests/test_answers.py -k a_ranking_is_read"

MUTATIONS = [
    Mutation(ROWS, '{"score": "cost", "place": "score"}.get(found, found)', "found", RANKING, "irrelevance is a score"),
    Mutation(ROWS, "rows[::-1] if listed and turned(", "rows[::-1] if False and turned(", RANKING, "a list called worst to best is read as it stands"),
    Mutation(ROWS, "        if last_resort(spaced(key)) or ORIGINAL.search(spaced(key)): continue\n", "",
             "tests/test_answers.py -k 'ranking_is_read or no_ranking'", "a list under irrelevant is a ranking"),
    Mutation(PARSING, "numbers_within(run, p) > 1", "False", RANKING, "documents with a score beside each are a list as they stand"),
    Mutation(PARSING, "SUBJECT.search(said.kinds)))", "True))", NO_RANKING, "a sentence that mentions a document ranks it"),
    Mutation(PARSING, "said.strip()[-MOST_CHARACTERS:]", "said.strip()", "tests/test_parsing.py -k 'endless and Faust'", "an endless answer is read whole"),
    Mutation(PARSING, "    if REFUSAL.search(p.said.text): return []\n    whole", "    whole", NO_RANKING,
             "a refusal that names a passage ranks it first"),
    Mutation(PARSING, "(explicit(r) or len(r.ids) > 2 or alone(r, p.said))]", "True]", NO_RANKING, "a limit in an error message, 15 > 10, is a ranking"),
    Mutation(PARSING, " and not EXAMPLE.search(r.before)", "", NO_RANKING, "the example of the question, echoed, is the answer"),
    Mutation(PARSING, "if PAGE.match(rest.lstrip()) or reports_failure(values): values, rest = [], \"\"", "if PAGE.match(rest.lstrip()): values, rest = [], \"\"",
             NO_RANKING, "the list in a JSON error is a ranking"),
    Mutation(PARSING, "if headed and not whole: return []", "if headed: return []", RANKING, "the numbered explanation goes before the final list"),
    Mutation(PARSING, "return several or p.said.kinds", "return True or p.said.kinds", NO_RANKING, "a lone number on a line is a document"),
    Mutation(PARSING, "if counted_from_zero(found, n):", "if False:", RANKING, "an answer that counts from zero is off by one"),
    Mutation(PARSING, "if i in seen: return list(found[:at + 1])", "if i in seen: return list(found)", "tests/test_parsing.py -k other_styles",
             "Rank-K's repetitions go on"),
    Mutation(PARSING, "yield named.pop() if len(named) == 1 else None", "yield named.pop()", "tests/test_answers.py -k choice",
             "of two passages that are named one is chosen"),
    Mutation(PARSING, "said = BOTH.sub(\" \", said)", "said = said", "tests/test_answers.py -k question_that_is_repeated", "the question 'yes or no' is a no"),
    Mutation(PARSING, "plain = DENIED.sub(\" \", re.sub(", "plain = str(re.sub(", "tests/test_answers.py -k denied", "'I can't give it a 10' is a ten"),
    Mutation(PARSING, "rest = ELSEWHERE.sub(\" \", scaled", "rest = str(scaled", "tests/test_parsing.py -k fraction", "4/5 is a 5 of ten"),
    Mutation(IDS, "if max(up, down) >= 0: return up > down", "if max(up, down) >= 0: return down > up", RANKING, "worst to best is read as best to worst"),
    Mutation(IDS, " or \"<\" in run.kinds and \">\" not in run.kinds", "", RANKING, "[3] < [4] puts 3 first"),
    Mutation(IDS, "kinds = EITHER.sub(\"www\", said.kinds)", "kinds = said.kinds", "tests/test_answers.py", "'none of [1] to [10]' ranks the two"),
    Mutation(ROWS, "sorted(known, key=lambda r: r.place or 0.0)", "known", RANKING, "objects count as they stand and not by their rank"),
    Mutation(ROWS, "sorted(known, key=lambda r: -(r.score or 0.0))", "known", RANKING, "objects count as they stand and not by their score"),
    Mutation(ROWS, "return ids[::-1] if turned(", "return ids if turned(", RANKING, "a numbered list from worst to best is not turned round"),
    Mutation(RECIPES, "passages=PassageText(100), window=100)", "passages=PassageText(100))", "tests/test_rankers_llm.py -k rankmistral_reads",
             "RankMistral100 gets windows of twenty"),
    Mutation(RECIPES, "    temperature=None)\n\nSELECT", "    )\n\nSELECT",
             "tests/test_comparisons_llm.py -k leave_the_temperature", "TourRank's temperature is ours and not the server's"),
    Mutation(RANKLLM, '("*first_qwen3*", "first"),', "",
             "tests/test_rankers_llm.py -k word_leads",
             "FIRST on Qwen3 is asked in RankZephyr's words"),
    Mutation(RANKLLM, ", \"template_kwargs\": {\"enable_thinking\": False}", "", "tests/test_rankers_llm.py -k no_thought",
             "FIRST on Qwen3 begins a thought"),
    Mutation(CUPS, "seen |= standings.tied(i)", "seen |= 1 << i", "tests/test_strategies.py -k ring", "blitz asks about documents that have met"),
    Mutation(CUPS, " or seen >> i & 1", "", "tests/test_strategies.py -k ring", "the same, from the other side"),
    Mutation(CUPS, "return self.above[i] & self.below[i] | 1 << i", "return 1 << i", "tests/test_strategies.py -k ring", "nobody is in a ring"),
]
