"""Every strategy against a perfect judge, against any answers whatever, and against the official implementations

Golden values come from running the official code: rank-llm 0.26.0 (PyPI), ielab/llm-rankers b36517bf with `compare` replaced by a judge,
chenyiqun/TourRank bab7db38 with `get_response` replaced, blitzrank 0.1.0 (PyPI), permsc 0.0.6 (PyPI).
"""
import copy
import importlib
import math
import random
import sys
import types
from fractions import Fraction
from functools import partial
from itertools import accumulate, chain, pairwise, permutations, repeat
from statistics import mean
from types import SimpleNamespace as Some

import pytest
from official import pulled, wheel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerankers.errors import InputError
from rerankers.strategies.comparisons import levels, pairwise_sliding, pairwise_sorting, setwise_bubble, setwise_heap
from rerankers.strategies.consensus import EXACT, borda, count_pairs, disagreement, improve, kemeny, rrf, self_consistency, solve, undisputed, votes
from rerankers.strategies.kinds import ComparisonRanker, ListwiseRanker
from rerankers.strategies.plans import PLANS, adapt, as_order, as_shares, best_first, plan, rehearse
from rerankers.strategies.basics import Answer, Oracle, Request, all_pairs, lockstep, play, repair, sliding_window, spans, started
from rerankers.strategies.tournaments import Standings, blitz, next_window, partition, stages, tourrank
from rerankers.rankers import Ranking
from rerankers.testing import check_ranker


def worth_of(n, seed=None):
    return random.Random(n if seed is None else seed).sample(range(10 * n + 1), n)


def rehearsed(name, n, seed=0, **options):
    "A perfect judge plays; what came out, and the truth"
    oracle = Oracle(worth_of(n, seed))
    found = rehearse(plan(name, **options)(n), oracle.order if PLANS[name].answers == "order" else oracle.prefer)
    return found, best_first(found.ranking), oracle.ranking()


# ---------- what each promises, with a perfect judge

PROMISES = [name for name in PLANS if name != "tourrank"]


@pytest.mark.parametrize("name", PROMISES)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 11, 21, 40])
def test_the_top_ten_is_exact(name, n):
    for seed in range(3):
        _, order, truth = rehearsed(name, n, seed)
        assert sorted(order) == list(range(n))
        assert order[:10] == truth[:10]


# spec: n = 100, ten best. Calls, steps; a range over first stages
CALLS = [("sliding", {}, (9, 9), (9, 9)), ("sliding", {"passes": 3}, (27, 27), (27, 27)), ("single", {}, (1, 1), (1, 1)),
         ("consistency", {}, (45, 45), (9, 9)), ("consistency", {"window": None, "samples": 7}, (7, 7), (1, 1)),
         ("tourrank", {}, (13, 13), (5, 5)), ("tourrank", {"rounds": 4}, (52, 52), (5, 5)),
         ("blitz", {}, (6, 7), (6, 7)), ("blitz", {"window": 10}, (12, 15), (12, 15)), ("partition", {}, (6, 11), (2, 6)),
         ("setwise", {"children": 2}, (126, 145), (60, 90)), ("setwise", {"children": 9}, (26, 36), (17, 29)),
         ("setwise", {"children": 19}, (18, 27), (14, 23)),
         ("setwise-bubble", {"children": 2}, (300, 474), (50, 70)), ("pairs", {}, (9900, 9900), (1, 1)),
         ("pairs-sorting", {}, (470, 565), (110, 150)), ("pairs-sliding", {}, (1500, 1861), (100, 118))]


@pytest.mark.parametrize(("name", "options", "calls", "steps"), CALLS, ids=[f"{name} {options}" for name, options, _, _ in CALLS])
def test_calls_for_a_hundred_documents(name, options, calls, steps):
    for seed in range(2 if name == "pairs" else 8):
        found, order, truth = rehearsed(name, 100, seed, **options)
        assert calls[0] <= found.calls <= calls[1] and steps[0] <= found.steps <= steps[1]
        assert name == "tourrank" or order[:10] == truth[:10]


def test_partition_from_a_good_first_stage_needs_seven_calls_at_the_most():
    for seed in range(30):
        r = random.Random(seed)
        oracle = Oracle(sorted(r.sample(range(1000), 100), key=lambda w: -w + r.gauss(0, 80)))
        found = rehearse(partition(100), oracle.order)
        assert found.calls in (6, 7) and found.steps in (2, 3) and found.at_once == 5
        assert found.ranking.order[:10] == oracle.ranking()[:10]


@pytest.mark.parametrize("options", [{"window": 2, "cutoff": 1}, {"window": 5, "cutoff": 4}, {"window": 20, "cutoff": 1}])
def test_partition_is_exact_down_to_its_cutoff(options):
    for n in range(60):
        _, order, truth = rehearsed("partition", n, n, **options)
        assert order[:options["cutoff"]] == truth[:options["cutoff"]]


@given(st.integers(2, 12), st.integers(1, 60), st.data())
def test_the_pivot_of_a_partition_is_on_the_place_that_cutoff_names(window, more, data):
    "And begins each of the windows that follow the first"
    cutoff, asked, oracle = data.draw(st.integers(1, window - 1)), [], Oracle(worth_of(window + more))

    def judge(request):
        asked.append(tuple(request))
        return oracle.order(request)
    play(partition(window + more, window=window, cutoff=cutoff), judge)
    pivot, chunks = sorted(asked[0], key=lambda i: -oracle.grades[i])[cutoff - 1], -(-more // (window - 1))
    assert asked[0] == tuple(range(window)) and {request[0] for request in asked[1:1 + chunks]} == {pivot}
    assert sorted(i for request in asked[1:1 + chunks] for i in request[1:]) == list(range(window, window + more))


# ---------- whatever is answered

def height(n, children):
    return len(levels(n, children))


def heap_bound(n, children=3, top=10):
    return (-(-max(n - 1, 0) // children) + min(top, n)) * (height(n, children) + 1)


def partition_bound(n, window=20, cutoff=10):
    if n <= window: return 1
    return 1 + -(-(n - window) // (window - 1)) + partition_bound(n - (window - cutoff + 1), window, cutoff)


def window_count(n, window=20, stride=10):
    return (n > 1) if window is None else len(spans(n, window, stride))


BOUNDS = {   # calls that are never exceeded
    "sliding": lambda n, passes=1, **o: passes * window_count(n, **o), "single": lambda n: 1, "tourrank": lambda n, rounds=1, **o: rounds * max(n, 1),
    "partition": partition_bound, "blitz": lambda n, **o: 1 + 3 * n * (n - 1) // 2,
    "consistency": lambda n, samples=5, window=20, stride=10, **o: samples * window_count(n, window, stride), "tournament": lambda n: 15 * 10,
    "setwise": heap_bound, "setwise-bubble": lambda n, children=3, top=10: min(top, n) * -(-max(n - 1, 0) // children), "pairs": lambda n: n * (n - 1),
    "pairs-sorting": lambda n, top=10: 4 * heap_bound(n, 2, top), "pairs-sliding": lambda n, passes=10: 2 * min(passes, n) * max(n - 1, 0)}

small = st.integers(1, 6)
OPTIONS = {   # any that are allowed
    "sliding": st.integers(2, 9).flatmap(lambda w: st.fixed_dictionaries({"window": st.just(w), "stride": st.integers(1, w), "passes": st.integers(1, 3)})),
    "tourrank": st.fixed_dictionaries({"group": st.integers(3, 12), "rounds": st.integers(1, 3), "seed": small}),
    "partition": st.integers(2, 9).flatmap(lambda w: st.fixed_dictionaries({"window": st.just(w), "cutoff": st.integers(1, w - 1)})),
    "blitz": st.fixed_dictionaries({"window": st.integers(2, 12), "top": st.integers(1, 45)}),
    "consistency": st.fixed_dictionaries({"samples": small, "aggregate": st.sampled_from(["kemeny", "borda", "rrf"]), "seed": small,
                                          "window": st.sampled_from([None, 10, 12, 25])}),
    "setwise": st.fixed_dictionaries({"top": st.integers(1, 45), "children": small}),
    "setwise-bubble": st.fixed_dictionaries({"top": small, "children": small}),
    "pairs-sorting": st.fixed_dictionaries({"top": st.integers(1, 45)}), "pairs-sliding": st.fixed_dictionaries({"passes": small})}

JUDGES = {   # request, source of chance -> an order
    "random": lambda request, r: r.sample(range(len(request)), len(request)),
    "as shown": lambda request, r: list(range(len(request))),
    "reversed": lambda request, r: list(range(len(request)))[::-1],
    "in circles": lambda request, r: sorted(range(len(request)), key=lambda i: (request[i] * 7 + sum(request)) % 10),
    "the last first": lambda request, r: sorted(range(len(request)), key=lambda i: -request[i]),
}


def shares_of(order, r):
    "One of: 1 and 0; random numbers, also negative; all the same"
    return r.choice([as_shares(order), [r.uniform(-3, 3) for _ in order], [0.5] * len(order)])


@pytest.mark.parametrize("name", PLANS)
@given(data=st.data())
@settings(max_examples=40)
def test_any_answers_end_in_a_whole_ranking_within_a_bound(name, data):
    n, judge, seed = data.draw(st.integers(0, 40)), JUDGES[data.draw(st.sampled_from(sorted(JUDGES)))], data.draw(st.integers(0, 999))
    options = data.draw(st.one_of(st.just({}), OPTIONS.get(name, st.just({}))))
    r, bound, calls = random.Random(seed), BOUNDS[name](n, **options), []

    def ask(request):
        calls.append(request)
        assert len(calls) <= bound, "it does not end"
        assert isinstance(request, Request) and len(request) > (name != "sliding") and set(request) <= set(range(n))
        assert name == "tournament" or len(set(request)) == len(request), "only ListT5's groups hold a document twice"
        order = Answer(judge(request, r), named=r.choice([0, r.randrange(len(request) + 1), len(request)]))
        return order if PLANS[name].answers == "order" else shares_of(order, r)

    ranking = play(plan(name, **options)(n), ask)
    assert (ranking.order is None) != (ranking.scores is None)
    if ranking.order is not None: assert sorted(ranking.order) == list(range(n))
    else: assert len(ranking.scores) == n and all(map(math.isfinite, ranking.scores))


@pytest.mark.parametrize("name", PLANS)
def test_a_strategy_asks_the_same_again(name):
    "Shuffles come from a seed of their own: neither the global source of chance nor another game changes them"
    def requests(chance):
        random.seed(chance)
        oracle, asked = Oracle(worth_of(30)), []
        play(plan(name)(30), lambda request: asked.append(request) or (oracle.order if PLANS[name].answers == "order" else oracle.prefer)(request))
        return asked
    assert requests(1) == requests(2)


# ---------- rank-llm 0.26.0, `ListwiseRankLLM.sliding_windows` with window 20, stride 10: where its windows go

def upwards(first, last):
    "Windows of twenty, ten apart"
    return [(start, start + 20) for start in range(first, last - 1, -10)]


RANK_LLM = {0: [], 1: [(0, 1)], 2: [(0, 2)], 19: [(0, 19)], 20: [(0, 20)], 21: [(1, 21), (0, 11)], 25: [(5, 25), (0, 15)], 95: [*upwards(75, 5), (0, 15)],
            99: [*upwards(79, 9), (0, 19)], 100: upwards(80, 0), 101: [*upwards(81, 1), (0, 11)], 250: upwards(230, 0)}


@pytest.mark.parametrize("n", RANK_LLM)
def test_windows_are_those_of_rank_llm(n):
    assert spans(n, 20, 10) == ([] if n == 1 else RANK_LLM[n]), "but one document alone is in order already, rank-llm asks about it"


@pytest.mark.parametrize(("window", "stride"), [(20, 10), (20, 5), (10, 7), (4, 1)])
def test_windows_are_those_of_rank_llm_run_here(window, stride):
    theirs = pulled(wheel("rank-llm==0.26.0")/"rank_llm/rerank/listwise/listwise_rankllm.py", "ListwiseRankLLM.sliding_windows", copy=copy, Result=Some)
    for n in (*RANK_LLM, 7, 30, 40, 200):
        asked = []
        them = Some(_window_size=window, _stride=stride, permutation_pipeline=lambda result, a, b, *_, asked=asked, **__: asked.append((a, b)) or result)
        theirs.sliding_windows(them, Some(query="who wrote Hamlet?", candidates=[]), 0, n, n)
        assert spans(n, window, stride) == (asked if n > 1 else [])
        if (window, stride) == (20, 10) and n in RANK_LLM: assert asked == RANK_LLM[n]


# ---------- ielab/llm-rankers: heaps and duels with its `compare` replaced by a judge. (n, children, top) -> different sets that
# it compares, top. Only for (20, 2, 10) are its calls more: 38, one set is compared twice

BEST = [85, 3, 24, 22, 72, 73, 46, 35, 51, 95]      # of worth_of(100)
TWENTY = [2, 0, 1, 5, 6, 19, 9, 18, 12, 13]
SETWISE = {(100, 2, 10): (141, BEST), (100, 3, 10): (80, BEST), (100, 9, 10): (31, BEST), (100, 19, 10): (25, BEST), (20, 2, 10): (37, TWENTY),
           (20, 19, 10): (10, TWENTY), (7, 3, 10): (8, [2, 6, 0, 1, 5, 4, 3]), (33, 5, 4): (14, [15, 2, 9, 23])}


@pytest.mark.parametrize("case", SETWISE)
def test_setwise_heap_is_that_of_llm_rankers_and_asks_nothing_twice(case):
    n, children, top = case
    oracle = Oracle(worth_of(n))
    order = play(setwise_heap(n, top=top, children=children), oracle.prefer).order
    assert (oracle.calls, order[:top]) == SETWISE[case]
    assert order[top:] == sorted(order[top:])


PAIRS = {(100, 10, "oracle"): (560, BEST), (100, 10, "circles"): (466, [93, 83, 73, 63, 96, 53, 23, 14, 4, 5]), (20, 10, "oracle"): (148, TWENTY),
         (20, 10, "circles"): (144, [13, 19, 3, 2, 14, 5, 6, 0, 10, 11]), (7, 10, "oracle"): (38, [2, 6, 0, 1, 5, 4, 3]),
         (7, 10, "circles"): (36, [3, 5, 2, 6, 0, 1, 4]), (33, 4, "oracle"): (156, [15, 2, 9, 23]), (33, 4, "circles"): (132, [23, 4, 1, 14])}


def torn(request):
    "Contradicts itself, but always in the same way"
    a, b = request
    return [1.0, 0.0] if (a * 7 + b * 13 + a * b) % 10 < 6 else [0.0, 1.0]


def turning(request):
    "Says the same in both orders of a pair, but a may beat b, b beat c and c beat a"
    return torn(request) if request[0] < request[1] else torn(request[::-1])[::-1]


def settled(request):
    "As torn, and where that contradicts itself the document that is earlier in the list"
    there, back = torn(request), torn(request[::-1])[::-1]
    return there if there == back else [float(request[0] < request[1]), float(request[0] > request[1])]


@pytest.mark.parametrize("case", PAIRS)
def test_pairwise_sorting_is_that_of_llm_rankers_and_asks_nothing_twice(case):
    n, top, who = case
    judge = turning if who == "circles" else Oracle(worth_of(n)).prefer
    asked = []
    order = play(pairwise_sorting(n, top=top), lambda pair: asked.append(pair) or judge(pair)).order
    assert order[:top] == PAIRS[case][1]
    assert len(asked) == len(set(asked)) <= PAIRS[case][0]


@pytest.mark.parametrize("n", [2, 7, 33, 60])
def test_what_a_duel_leaves_open_the_first_stage_decides(n):
    """In llm-rankers' heap an undecided pair stays as the heap has it, and a heap begins every step with its last leaf at the root: a model that
    always says "A" puts the end of the list on top. Ours differs there, and is the same where pairs are decided (the test above)"""
    assert play(pairwise_sorting(n), torn).order == play(pairwise_sorting(n), settled).order


@pytest.mark.parametrize(("n", "calls"), [(100, 1886), (20, 284)])
def test_pairwise_sliding_needs_fewer_calls_than_llm_rankers(n, calls):
    found, order, truth = rehearsed("pairs-sliding", n, n)
    assert found.calls < calls and order[:10] == truth[:10]


def one_after_the_other(n, passes, step, judge):
    "A bubble without memory and without haste: the plain version"
    order = list(range(n))
    for done in range(min(passes, n)):
        end = n
        while end - done >= 2:
            start = max(end - step - 1, done)
            best = judge(tuple(order[start:end]))
            order[start], order[start + best] = order[start + best], order[start]
            end -= step
    return order


@given(st.integers(0, 30), st.integers(1, 12), st.integers(1, 7), st.integers(0, 999))
def test_bubbles_in_step_are_bubbles_one_after_the_other(n, passes, step, seed):
    def best(request): return request.index(max(request, key=lambda i: random.Random(f"{seed} {i} {sum(request)}").random()))
    plain = one_after_the_other(n, passes, step, best)
    quick = play(setwise_bubble(n, top=passes, children=step), lambda request: [float(i == best(request)) for i in range(len(request))]).order
    assert quick[:passes] == plain[:passes] and quick[passes:] == sorted(quick[passes:])


@given(st.integers(0, 25), st.integers(1, 12))
def test_pairwise_passes_change_neighbours_only_when_both_orders_agree(n, passes):
    def later_wins(pair): return int(torn(pair[::-1])[0] and torn(pair)[1])
    assert play(pairwise_sliding(n, passes=passes), torn).order == one_after_the_other(n, passes, 1, later_wins)


@pytest.mark.parametrize("shares", [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
def test_a_judge_of_places_moves_no_document_in_duels(shares):
    for name in ("pairs-sorting", "pairs-sliding", "pairs"):
        assert best_first(play(plan(name)(40), lambda pair: shares)) == list(range(40))


# ---------- nobody answers, or only in part

def silence(request): return Answer(list(range(len(request))), named=0)


@pytest.mark.parametrize("given", ["order", "shares"])
@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_without_any_answer_the_first_stage_stays(name, given, data):
    n, options = data.draw(st.integers(0, 60)), data.draw(st.one_of(st.just({}), OPTIONS.get(name, st.just({}))))
    nothing = {"order": silence, "shares": lambda request: [1 / len(request)] * len(request)}[given]
    found = rehearse(plan(name, **options)(n), lambda request: adapt(nothing(request), given, PLANS[name].answers))
    assert best_first(found.ranking) == list(range(n))
    assert found.calls <= BOUNDS[name](n, **options)


def noisy(n, seed):
    "The worth of documents in the order of a good first stage"
    r = random.Random(seed)
    return sorted(r.sample(range(10 * n), n), key=lambda w: -w + r.gauss(0, 0.6 * n))


@pytest.mark.parametrize("name", ["sliding", "blitz", "partition", "consistency", "tourrank"])
def test_one_refusal_costs_little(name):
    "How many of the true ten are missing among the first ten when one of the questions gets no answer, against none missing without it"
    missing, asked_more = [], 0
    for seed in range(4):
        oracle = Oracle(noisy(100, seed))
        truth, whole = set(oracle.ranking()[:10]), rehearse(plan(name)(100), oracle.order)
        start = len(truth - set(best_first(whole.ranking)[:10]))
        for refused in range(whole.calls):
            judges = chain([oracle.order] * refused, [silence], repeat(oracle.order))
            found = rehearse(plan(name)(100), lambda request, judges=judges: next(judges)(request))
            missing.append(len(truth - set(best_first(found.ranking)[:10])) - start)
            asked_more = max(asked_more, found.calls - whole.calls)
    assert mean(missing) <= {"blitz": 0.0, "consistency": 0.0}.get(name, 0.4) and asked_more <= 3


def test_blitz_asks_in_halves_when_it_gets_no_answer():
    "A document that silences the judge costs some questions and no other document its place; one that always refuses is believed after a while"
    asked, oracle = [], Oracle(noisy(60, 1))
    play(blitz(60), lambda request: asked.append(tuple(request)) or (silence if len(asked) == 1 else oracle.order)(request))
    assert asked[:3] == [tuple(range(20)), tuple(range(10)), tuple(range(10, 20))]
    for poison in range(60):
        order = play(blitz(60), lambda request, poison=poison: (silence if poison in request else oracle.order)(request)).order
        assert sorted(order) == list(range(60)) and len(set(order[:12]) & set(oracle.ranking()[:10])) >= 8
    assert rehearse(blitz(100), silence).calls <= 9


def test_tourrank_gives_points_to_those_who_are_named():
    "As the authors do; who goes on: by points, of equals the earlier one"
    asked = []
    def names(pick):
        asked.append(sorted(pick))
        return Answer(sorted(range(len(pick)), key=lambda i: -pick[i]), named=1)
    scores = play(tourrank(20), names).scores
    assert scores == [0.0] * 19 + [3.0]
    assert asked == [list(range(20)), [*range(9), 19], [*range(4), 19]]
    assert play(tourrank(20), silence).scores == [3.0] * 2 + [2.0] * 3 + [1.0] * 5 + [0.0] * 10      # no answer at all: as the first stage had it


@given(st.permutations(range(7)), st.lists(st.permutations(range(7)), min_size=1, max_size=4), st.data())
def test_votes_keep_whom_nobody_names_as_they_stood(line, shuffles, data):
    "Not in the order of the first stage, from which earlier windows have moved them"
    answers = [Answer(data.draw(st.permutations(range(7))), named=data.draw(st.integers(1, 7))) for _ in shuffles]
    asking = votes(shuffles, line)
    next(asking)
    with pytest.raises(StopIteration) as end: asking.send(answers)
    named = [[shuffle[place] for place in answer[:answer.named]] for shuffle, answer in zip(shuffles, answers)]
    assert end.value.value == [[*some, *(i for i in line if i not in some)] for some in named]


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 99))
def test_votes_name_some_and_keep_the_others_in_line(n, some, seed):
    "What follows the named ones in an answer is the shuffle's order, and so chance"
    order = play(self_consistency(n, window=None, seed=seed), lambda request: Answer(sorted(range(n), key=lambda i: -request[i]), named=min(some, n))).order
    best = list(range(n))[::-1][:some]
    assert order == [*best, *(i for i in range(n) if i not in best)]


def test_an_answer_knows_whom_it_names():
    assert [Answer.of(answer).named for answer in ([1, 0], [], Answer([1, 0]), Answer([1, 0], named=1), silence((4, 5)))] == [2, 0, 2, 1, 0]
    assert [repair(answer, 3).named for answer in ([2, 0, 1], [2], [2, 2, 9], None)] == [3, 1, 1, 0]
    assert as_shares(silence((4, 5))).values == [0.5, 0.5] and as_shares(Answer([1, 0, 2], named=1)).values == [0.0, 1.0, 0.0]
    assert [as_order(Answer(shares)).named for shares in ([0.5, 0.5], [0.0, 1.0, 0.0], [0.2, 0.5, 0.3], [])] == [0, 1, 2, 0]


# ---------- as many places as are wanted

TOPPED = ["partition", "blitz", "tournament", "setwise", "setwise-bubble", "pairs-sorting", "pairs-sliding"]


@pytest.mark.parametrize("name", TOPPED)
def test_twenty_results_are_twenty_places(name):
    oracle, wide = Oracle(worth_of(60)), {"window": 30} if name == "partition" else {}
    ask = oracle.order if PLANS[name].answers == "order" else oracle.prefer
    truth = oracle.ranking()
    assert best_first(play(started(plan(name, **wide), 60, 20), ask))[:20] == truth[:20]
    for wanted in (None, 3, 10):    # never fewer than without
        oracle.calls = 0
        same = rehearse(started(plan(name, **wide), 60, wanted), ask)
        assert same.calls == rehearse(plan(name, **wide)(60), ask).calls and best_first(same.ranking)[:10] == truth[:10]
    assert rehearse(started(plan(name, top=5), 60, 20), ask).calls == rehearse(plan(name, top=5)(60), ask).calls    # a number that somebody chose stays


def test_all_plans_that_find_some_places_call_them_top():
    from inspect import signature
    assert {name for name, p in PLANS.items() if "top" in signature(p.make).parameters} == set(TOPPED)


def test_a_strategy_of_ones_own_is_told_how_many():
    def mine(n, top=10): yield [(top,)]
    def deaf(n): yield [(n,)]
    assert [next(started(strategy, 5, 20)) for strategy in (mine, plan(mine), plan(mine, top=3), deaf)] == [[(20,)], [(20,)], [(3,)], [(5,)]]


def test_passes_and_cutoff_are_top_by_another_name():
    oracle = Oracle(worth_of(40))
    assert play(plan("pairs-sliding", passes=3)(40), oracle.prefer) == play(plan("pairs-sliding", top=3)(40), oracle.prefer)
    assert play(plan("partition", cutoff=3)(40), oracle.order) == play(plan("partition", top=3)(40), oracle.order)
    assert rehearse(started(plan("pairs-sliding", passes=3), 40, 20), oracle.prefer).calls == rehearse(plan("pairs-sliding", passes=3)(40), oracle.prefer).calls


@pytest.mark.parametrize("window", [2, 3, 5, 10, 11, 20])
def test_partition_finds_what_its_window_allows(window):
    "Ten, or one fewer than are shown: an option that nobody gave is no reason to fail"
    for top in (10, 50):
        oracle = Oracle(worth_of(50))
        assert play(partition(50, window=window, top=top), oracle.order).order[:min(top, window - 1)] == oracle.ranking()[:min(top, window - 1)]


class CutsSometimes(ListwiseRanker):
    "Windows of four that move up by two; whether it cuts a document may differ from window to window"
    strategy = staticmethod(partial(sliding_window, window=4, stride=2))

    def __init__(self, chance): self.chance, self.seen = chance, {}

    def order_windows(self, windows, call):
        return [Answer(range(len(window.texts)), cut=[self.cuts(text) for text in window.texts]) for window in windows]

    def cuts(self, text):
        self.seen.setdefault(text, []).append(self.chance.random() < 0.3)
        return self.seen[text][-1]


@given(st.integers(0, 12), st.randoms(use_true_random=False))
def test_a_document_that_was_cut_in_any_window_is_marked(n, chance):
    ranker = CutsSometimes(chance)
    results = ranker.rank("a query", [f"text {i}" for i in range(n)])
    assert {r.text: r.truncated for r in results} == {f"text {i}": any(ranker.seen.get(f"text {i}", ())) for i in range(n)}


# ---------- strategies that end in something else

def forgetful(n): yield [tuple(range(n))]


def careless(n):
    yield [tuple(range(n))]
    return [0, 1]


@pytest.mark.parametrize("strategy", [forgetful, careless])
def test_a_strategy_without_a_ranking_is_named(strategy):
    class Any(ListwiseRanker):
        def __init__(self, strategy): self.strategy = strategy
        def order_windows(self, windows, call): return [range(len(w.texts)) for w in windows]
    drivers = [lambda: play(strategy(2), lambda request: [0, 1]), lambda: lockstep([strategy(2)], lambda asked: [[0, 1] for _ in asked]),
               lambda: rehearse(strategy(2), lambda request: [0, 1]), lambda: Any(strategy).rank("q", ["a", "b"])]
    for driver in drivers:
        with pytest.raises(InputError, match=f"'{strategy.__name__}' returned"): driver()


def test_what_is_no_generator_is_no_strategy():
    with pytest.raises(InputError, match="a strategy is a generator"): play(Ranking(order=[0]), list)


@pytest.mark.parametrize(("window", "stride"), [(20, 10), (20, 20), (7, 7), (5, 3), (2, 2), (2, 1), (9, 8)])
def test_calls_of_a_sliding_window_are_those_of_the_formula(window, stride):
    for n in range(window + 1, 130):
        alone = int(stride == window and n % window == 1)   # windows that do not overlap leave one document over
        for name, times, options in (("sliding", 3, {"passes": 3}), ("consistency", 2, {"samples": 2})):
            if name == "consistency" and n > 45: continue
            found = rehearse(plan(name, window=window, stride=stride, **options)(n), Oracle(range(n)).order)
            assert found.calls == times * (1 + -(-(n - window) // stride) - alone)


def test_all_pairs_gives_twice_the_points_of_prp():
    n = 25
    points = [0.0] * n
    for i in range(n):
        for j in range(i + 1, n):
            there, back = torn((i, j)), torn((j, i))
            if there[0] and back[1]: points[i] += 1
            elif there[1] and back[0]: points[j] += 1
            else: points[i], points[j] = points[i] + 0.5, points[j] + 0.5
    assert play(all_pairs(n), torn).scores == [2 * p for p in points]


# ---------- TourRank's own script for 100 documents and a perfect judge: one digit a document, its points. Worth: sample(range(1000), 100)

TOURRANK = {0: "2012000501041101003301000100203111130001032001100101040150210010002101211001012004011000001020100021",
            1: "0122200001001010010210011101001501030000110201001400504000000410301110011200103311312100002121012000",
            2: "5241000020111100101011001011210030002520003020021100000000001300130202010141100130101100101000112410"}


@pytest.mark.parametrize("seed", TOURRANK)
@pytest.mark.parametrize("shuffle", [0, 1])
def test_points_are_those_of_tourrank(seed, shuffle):
    oracle, asked = Oracle(random.Random(seed).sample(range(1000), 100)), []
    scores = play(tourrank(100, seed=shuffle), lambda pick: asked.append((len(pick), pick.keep)) or oracle.order(pick)).scores
    assert "".join(str(int(s)) for s in scores) == TOURRANK[seed]
    assert asked == [(20, 10)] * 5 + [(10, 4)] * 5 + [(20, 10), (10, 5), (5, 2)]


def test_rounds_are_added_and_shuffled_apart():
    oracle, picks = Oracle(worth_of(100)), []
    one, three = (play(tourrank(100, rounds=r), lambda pick: picks.append(pick) or oracle.order(pick)).scores for r in (1, 3))
    assert three == [3 * s for s in one]
    first = picks[13:28]        # the three rounds' first stage: the same groups, differently shuffled
    assert {frozenset(p) for p in first} == {frozenset(range(i, 100, 5)) for i in range(5)} and len(set(first)) == 15


@given(st.integers(0, 1000), st.integers(3, 40))
def test_stages_shrink_and_fit(n, group):
    sizes = [n]
    for size, target, groups in stages(n, group):
        assert size == sizes[-1] and groups <= target < size and -(-size // groups) <= group
        sizes.append(target)
    assert sizes[-1] <= 2 or n <= 2


def test_only_selections_count_and_the_first_two_are_right():
    for n in range(2, 60):
        oracle = Oracle(worth_of(n))
        scores = play(tourrank(n), oracle.order).scores
        assert scores[oracle.ranking()[0]] == max(scores) > 0
        if n <= 20: assert set(best_first(play(tourrank(n), oracle.order))[:2]) == set(oracle.ranking()[:2])


def test_a_pick_is_a_request():
    pick = Request((4, 2, 9), keep=2)
    assert tuple(pick) == (4, 2, 9) and pick.keep == 2 and {pick: 1}[Request((4, 2, 9), keep=2)] == 1
    assert Request.of(pick) is pick and Request.of([4, 2, 9]) == Request((4, 2, 9)) != pick


# ---------- BlitzRank: blitzrank 0.1.0's `tournament_graph_sort`. (n, window, top, circles) -> its windows, its top

BLITZ = {(12, 5, 4, False): ([(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11, 0, 6, 2), (4, 6, 1, 10, 8)], [0, 2, 4, 6]),
         (12, 5, 4, True): ([(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11, 0, 6, 4), (8, 4, 10, 3, 5)], [0, 11, 6, 4]),
         (9, 2, 3, True): ([(0, 1), (2, 3), (4, 5), (6, 7), (8, 0), (2, 4), (6, 8), (4, 6), (7, 8), (4, 7), (8, 4)], [6, 7, 8])}


def circles(turn):
    return lambda few: sorted(range(len(few)), key=lambda p: (few[p] * 7 + (sum(few) * 3 if turn else 0) * (few[p] % 3)) % 13)


def blitzed(n, window, top, judge):
    asked = []
    order = play(blitz(n, window=window, top=top), lambda few: asked.append(tuple(few)) or judge(few)).order
    return asked, list(order[:top])


@pytest.mark.parametrize("case", BLITZ)
def test_blitz_asks_and_finds_what_blitzrank_does(case):
    assert blitzed(*case[:3], circles(case[3])) == BLITZ[case]


@pytest.fixture(scope="module")
def blitzrank():
    "Two modules of the wheel, without the __init__ of its packages, which import all it depends on"
    here, name = wheel("blitzrank==0.1.0"), "official"
    pytest.importorskip("networkx")
    for part in ("blitzrank", "engine", "algorithms", "tournament_graph"):
        here, name = here/part, f"{name}.{part}"
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = [str(here)]
    yield importlib.import_module(f"{name}.compare_oracle"), importlib.import_module(f"{name}.tournament_graph_sort")
    for module in [m for m in sys.modules if m.startswith("official.")]: del sys.modules[module]


def test_blitz_equals_blitzrank(blitzrank):
    compare_oracle, sort = blitzrank

    def theirs(n, window, top, judge):
        asked = []

        class Judge(compare_oracle.CompareOracle):
            async def _compare_k_async(self, items):
                asked.append(tuple(item.id for item in items))
                return compare_oracle.OracleResult(edges=compare_oracle.make_edges_from_linear_order([items[p] for p in judge(asked[-1])]))

        config = sort.TournamentGraphSortConfig(max_num_rounds=None)
        found = sort.tournament_graph_sort([compare_oracle.Item(i) for i in range(n)], Judge(min(window, n)), top, config)
        return asked, [item.id for item in found.results]

    for turn in range(60):
        r = random.Random(turn)
        n, window, noise = r.randrange(2, 31), r.randrange(2, 13), 100 * (turn % 3)
        top, worth = r.randrange(1, n + 1), worth_of(n, turn)

        def judge(few, turn=turn, worth=worth, noise=noise):
            chance = random.Random(f"{turn} {tuple(few)}")
            return sorted(range(len(few)), key=lambda p: -worth[few[p]] + chance.gauss(0, noise))
        assert blitzed(n, window, top, judge) == theirs(n, window, top, judge)


@given(st.integers(2, 9), st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=5, unique=True), max_size=8))
def test_standings_know_what_follows(n, orders):
    standings, reach = Standings(n), {(i, j): False for i in range(n) for j in range(n)}
    for order in orders:
        order = [i for i in order if i < n]
        standings.add(order)
        reach.update({pair: True for pair in zip(order, order[1:])})
    for k in range(n):      # Warshall
        for i in range(n):
            for j in range(n): reach[i, j] = reach[i, j] or (reach[i, k] and reach[k, j])
    for i in range(n):
        up, down = {j for j in range(n) if reach[j, i]} - {i}, {j for j in range(n) if reach[i, j]} - {i}
        assert standings.key(i) == (len(up - down), len(down - up))
        assert standings.settled(i) == (len(up | down) == n - 1)


def reached(n, orders):
    "Who is above whom, directly or by conclusion: the plain way, Warshall's"
    reach = {(i, j): False for i in range(n) for j in range(n)}
    for order in orders: reach.update({pair: True for pair in zip(order, order[1:])})
    for k in range(n):
        for i in range(n):
            for j in range(n): reach[i, j] = reach[i, j] or (reach[i, k] and reach[k, j])
    return reach


def ring_of(reach, i): return {j for (k, j), above in reach.items() if k == i and above and reach[j, i]} | {i}


@given(st.integers(4, 10), st.integers(3, 6), st.randoms(use_true_random=False))
def test_blitz_asks_for_one_of_each_ring(n, window, random):
    "A judge who contradicts himself makes rings; whoever is in one has met the others already"
    asked, orders = [], []

    def judge(few):
        reach = reached(n, orders)
        for i in few: assert len(ring_of(reach, i) & set(few)) == 1, f"{few} holds two of a ring after {orders}"
        assert any(not reach[i, j] and not reach[j, i] for i in few for j in few if i != j), "nothing to learn"
        answer = random.sample(range(len(few)), len(few))
        asked.append(few)
        orders.append([few[p] for p in answer])
        return answer
    order = play(blitz(n, window=window, top=n), judge).order
    assert sorted(order) == list(range(n)) and len(asked) <= n * n
    reach = reached(n, orders)
    assert all(reach[i, j] or reach[j, i] for i in range(n) for j in range(n) if i != j)      # all is known in the end
    for place, i in enumerate(order):
        for j in order[place + 1:]: assert not reach[j, i] or reach[i, j], f"{j} beats {i} and stands below"


def test_a_ring_sends_its_first_and_nobody_else():
    standings = Standings(5)
    for order in ([3, 0, 1], [1, 4], [4, 0]): standings.add(order)
    assert {i: bin(standings.tied(i))[2:] for i in (0, 1, 4)} == dict.fromkeys((0, 1, 4), "10011")
    assert next_window(standings, 5, 5) == [2, 3, 0]
    assert next_window(standings, 2, 5) == [2, 3]
    standings.add([2, 3])
    assert next_window(standings, 5, 5) == []


# ---------- consensus

def ranked(orders, items):
    return count_pairs([{d: place for place, d in enumerate(order)} for order in orders], items)


some_orders = st.integers(1, 6).flatmap(lambda n: st.lists(st.permutations(range(n)), min_size=1, max_size=6))


@given(some_orders)
def test_kemeny_disagrees_least(orders):
    n, found = len(orders[0]), kemeny(orders)
    against = ranked(orders, range(n))
    assert sorted(found) == list(range(n))
    assert disagreement(found, against) == min(disagreement(p, against) for p in permutations(range(n)))


@given(some_orders, st.integers(0, 3))
def test_partial_orders_are_welcome(orders, cut):
    short = [order[:len(order) - i % (cut + 1)] for i, order in enumerate(orders)]
    named = {d for order in short for d in order}
    for aggregate in (kemeny, borda, rrf): assert sorted(aggregate(short)) == sorted(named)


def test_borda_and_rrf_by_hand():
    orders = [list("abcd"), list("abdc"), list("bdca")]
    at = {d: [order.index(d) + 1 for order in orders] for d in "abcd"}
    assert borda(orders) == sorted("abcd", key=lambda d: mean(at[d])) == ["b", "a", "d", "c"]
    assert rrf(orders) == sorted("abcd", key=lambda d: -sum(1 / (60 + p) for p in at[d]))
    assert rrf(orders, k=1) == sorted("abcd", key=lambda d: -sum(1 / (1 + p) for p in at[d]))
    assert borda([]) == rrf([]) == kemeny([]) == []


BY_MEAN_PLACE = (borda, lambda places: -Fraction(sum(places), len(places)))
FUSED = {k: (partial(rrf, k=k), lambda places, k=k: sum(Fraction(1, k + place) for place in places)) for k in (0, 1, 2, 60)}


@pytest.mark.parametrize("aggregate, worth", [BY_MEAN_PLACE, *FUSED.values()], ids=["borda", *(f"rrf {k}" for k in FUSED)])
@given(st.lists(st.lists(st.integers(0, 5), unique=True), max_size=6))
@example([[0], *[[1, 2, 3, 4]] * 3]).via("the last of three answers against the first of one")
@example([[0, 1], [1], [1], [1, 0]]).via("one is named more often")
def test_borda_and_rrf_are_their_formulas_where_orders_are_partial(aggregate, worth, orders):
    "With fractions, and places from 1; what differs by less than floats can tell may stand either way"
    places = {d: [order.index(d) + 1 for order in orders if d in order] for order in orders for d in order}
    found = [worth(places[d]) for d in aggregate(orders)]
    assert len(found) == len(places) and all(a > b - Fraction(1, 10 ** 12) for a, b in pairwise(found))


@given(some_orders)
def test_of_the_best_orders_the_one_whose_later_documents_stay_last(orders):
    n = len(orders[0])
    against = ranked(orders, range(n))
    least = min(disagreement(p, against) for p in permutations(range(n)))
    assert solve(range(n), against) == list(max((p for p in permutations(range(n)) if disagreement(p, against) == least), key=lambda p: p[::-1]))


@given(some_orders)
@example([list(range(14)), list(range(14))[::-1]]).via("nothing but ties, which are no dispute")
def test_disputed_parts_are_as_small_as_can_be(orders):
    "Whoever is before a cut beats or ties whoever is after it, and no such cut is left out"
    n = len(orders[0])
    against, groups = ranked(orders, range(n)), undisputed(range(n), ranked(orders, range(n)))
    line = [i for group in groups for i in group]
    fair = {c for c in range(1, n) if all(against[i][j] >= against[j][i] for i in line[:c] for j in line[c:])}
    assert sorted(line) == list(range(n)) and set(accumulate(map(len, groups))) - {n} == fair


def test_answers_are_made_one_by_kemenys_rule_unless_another_is_named():
    def chance(request): return random.Random(str(list(request))).sample(range(len(request)), len(request))
    found = {name: [play(self_consistency(7, seed=seed, **({"aggregate": name} if name else {})), chance).order for seed in range(20)]
             for name in ("", "kemeny", "borda", "rrf")}
    assert found[""] == found["kemeny"] and found["borda"] != found["kemeny"] != found["rrf"] != found["borda"]


def test_equals_keep_the_first_order():
    for aggregate in (kemeny, borda, rrf): assert aggregate([list("abcd"), list("dcba")])[0] in "ad"
    assert borda([list("abc"), list("cba")]) == list("abc")


# permsc 0.0.6 on random.Random(seed): m = 3 + seed % 4 samples of range(3 + seed % 6). Kemeny's least sum of Kendall distances, Borda, RRF (which counts
# places from 0 and takes the mean: the same order as ours with k=59)
PERMSC = [(0, 0, [1, 2, 0], [1, 2, 0]), (1, 6, [0, 1, 2, 3], [0, 1, 2, 3]), (2, 18, [4, 3, 2, 0, 1], [4, 2, 3, 0, 1]),
          (3, 27, [4, 1, 5, 3, 0, 2], [4, 1, 5, 3, 0, 2]), (4, 12, [0, 2, 1, 6, 3, 4, 5], [2, 0, 1, 6, 3, 4, 5]),
          (5, 36, [0, 1, 7, 2, 5, 4, 3, 6], [0, 1, 7, 5, 2, 4, 3, 6]), (6, 4, [1, 0, 2], [1, 0, 2]), (7, 9, [0, 2, 1, 3], [0, 2, 1, 3]),
          (8, 11, [0, 1, 3, 2, 4], [0, 1, 3, 4, 2]), (9, 21, [2, 5, 4, 3, 0, 1], [5, 2, 3, 4, 0, 1]), (10, 36, [3, 2, 0, 6, 1, 4, 5], [3, 2, 0, 6, 1, 4, 5]),
          (11, 57, [7, 5, 1, 4, 0, 3, 6, 2], [5, 7, 1, 4, 0, 3, 6, 2])]


@pytest.mark.parametrize(("seed", "least", "by_borda", "by_rrf"), PERMSC)
def test_aggregates_are_those_of_permsc(seed, least, by_borda, by_rrf):
    r = random.Random(seed)
    n = 3 + seed % 6
    orders = [r.sample(range(n), n) for _ in range(3 + seed % 4)]
    at = {d: [order.index(d) + 1 for order in orders] for d in range(n)}
    assert disagreement(kemeny(orders), ranked(orders, range(n))) == least
    assert [sum(at[d]) for d in borda(orders)] == [sum(at[d]) for d in by_borda], "ties have no order there"
    def fused(d): return math.fsum(1 / (59 + p) for p in at[d])
    assert [fused(d) for d in rrf(orders, k=59)] == [fused(d) for d in by_rrf]


def test_large_disputes_are_improved_from_borda():
    r = random.Random(3)
    for _ in range(10):
        orders = [r.sample(range(20), 20) for _ in range(5)]
        start = borda(orders)
        against = ranked(orders, start)
        assert max(map(len, undisputed(range(20), against))) > EXACT
        found = [start.index(d) for d in kemeny(orders)]
        assert disagreement(found, against) <= disagreement(range(20), against)
        assert disagreement(improve(found, against), against) == disagreement(found, against)


def test_a_consensus_over_one_window_takes_one_step():
    oracle = Oracle(worth_of(30))
    found = rehearse(self_consistency(30, window=None, samples=6), oracle.order)
    assert (found.calls, found.steps, found.at_once) == (6, 1, 6) and found.ranking.order == oracle.ranking()


# ---------- words and options

def test_every_plan_says_what_it_is():
    for name, p in PLANS.items():
        assert p.answers in ("order", "shares") and p.calls and p.at_once and p.about and callable(p.make)
        assert "Calls: " in p.make.__doc__ or name == "pairs" and "Calls: " in all_pairs.__doc__
        assert "at once: " in p.make.__doc__


@pytest.mark.parametrize(("word", "options", "said"), [
    ("slidng", {}, "Did you mean 'sliding'"), ("blitz", {"windows": 3}, "no option 'windows'. Did you mean 'window'"),
    ("single", {"window": 3}, "It has no options"),
    ("sliding", {"stride": 21}, "from 1 to 20"), ("partition", {"cutoff": 20}, "inside the first window"), ("tourrank", {"group": 2}, "at least 3"),
    ("partition", {"top": 0}, "at least 1"), ("pairs-sliding", {"top": 0}, "at least 1"),
    ("tourrank", {"rounds": 0}, "at least 1"), ("setwise", {"children": 0}, "at least 1"), ("consistency", {"aggregate": "borada"}, "Did you mean 'borda'"),
    ("blitz", {"window": 1}, "at least two"), ("pairs-sliding", {"passes": 1.5}, "whole number"), (7, {}, "or a function")])
def test_wrong_words_and_options_are_named_at_once(word, options, said):
    with pytest.raises(InputError, match=said): plan(word, **options)


def test_a_strategy_of_ones_own():
    def mine(n, *, upside_down=True):
        [answer] = yield [tuple(range(n))]
        return play(plan("single")(n), lambda request: answer[::-1] if upside_down else answer)
    assert play(plan(mine)(3), lambda request: [2, 0, 1]).order == [1, 0, 2]
    assert play(plan(mine, upside_down=False)(3), lambda request: [2, 0, 1]).order == [2, 0, 1]
    with pytest.raises(InputError, match="Did you mean 'upside_down'"): plan(mine, upside_dwn=False)


@pytest.mark.parametrize("name", PROMISES)
def test_a_judge_of_the_other_kind_serves(name):
    "Exact where the best of each request is all that counts"
    oracle, wanted = Oracle(worth_of(22)), PLANS[name].answers
    given = "shares" if wanted == "order" else "order"
    judge = oracle.order if given == "order" else lambda request: [float(oracle.grades[i]) for i in request]     # graded shares
    assert best_first(play(plan(name)(22), lambda request: adapt(judge(request), given, wanted)))[:10] == oracle.ranking()[:10]


def test_adapters():
    assert list(as_order([0.1, 0.7, 0.1])) == [1, 0, 2] and list(as_shares([1, 0, 2])) == [0.0, 1.0, 0.0]
    assert as_order([]) == as_shares([]) == Answer([])


# ---------- with a ranker around them

def longest_first(window):
    return sorted(range(len(window.texts)), key=lambda i: (-len(window.texts[i]), window.texts[i]))


class Longest(ListwiseRanker):
    "Puts long texts first"
    def __init__(self, strategy): self.strategy, self.order_free = strategy, strategy.func is not tourrank
    def order_windows(self, windows, call): return list(map(longest_first, windows))


class LongestOfAFew(ComparisonRanker):
    "Prefers the longest text"
    def __init__(self, strategy): self.strategy = strategy
    def compare(self, sets, call): return [as_shares(longest_first(few)) for few in sets]


@pytest.mark.parametrize("name", PLANS)
def test_the_contract_holds_with_every_plan(name):
    "TourRank's points depend on who is in a group, so it alone is not free of the input's order"
    check_ranker((Longest if PLANS[name].answers == "order" else LongestOfAFew)(plan(name)))
