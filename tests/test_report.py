"The report can be read by everybody: in the dark, on paper, on a telephone, by those who do not see colours or do not see"
import html
import itertools
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_compare import Knows, a_set, plain

from rerankers import InputError, Reranker
from rerankers.evaluation.comparison import compare
from rerankers.evaluation.measures import FIRST
from rerankers.evaluation.report import COLOURS, IN_THE_DARK, STYLE, as_svg, depth_plot, quality_plot, quality_section, report_html, spread, table_html
from rerankers.rankers import PointwiseRanker, Ranking
from rerankers.results import Usage

LONG = "offline-biencoder:20 > offline"


@pytest.fixture(scope="module")
def found(): return compare({"good": Knows(1.0), "fair": Knows(0.3, 1), LONG: Knows(0.9, 2), "chance": Knows(0.0, 3)}, a_set(), timed=1, repeats=1)

@pytest.fixture(scope="module")
def page(found):
    seen = Tags()
    seen.feed(report_html(found))
    return seen


class Tags(HTMLParser):
    "All tags with their attributes, in order"
    def __init__(self):
        super().__init__()
        self.all = []
    def handle_starttag(self, tag, attrs): self.all.append((tag, dict(attrs)))
    def of(self, tag): return [attrs for name, attrs in self.all if name == tag]


# ---- who cannot see it

def test_headings_lead_through_the_page(page):
    levels = [int(tag[1]) for tag, _ in page.all if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1 and levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.of("html")[0]["lang"] == "en" and len(page.of("main")) == len(page.of("title")) == 1


def test_pictures_and_tables_say_what_they_are(page):
    assert len(page.of("svg")) == 8 and all(svg["role"] == "img" and svg["aria-label"] for svg in page.of("svg"))
    assert page.of("th") and all(th["scope"] in ("col", "row") for th in page.of("th"))
    regions = [div for div in page.of("div") if div.get("class") == "scroll"]
    assert len(regions) == len(page.of("table")) and all(div["role"] == "region" and div["aria-label"] and "tabindex" in div for div in regions)


def test_no_two_things_have_one_id(page):
    ids = [attrs["id"] for _, attrs in page.all if "id" in attrs]
    assert ids and len(ids) == len(set(ids))
    links = {attrs["xlink:href"][1:] for attrs in page.of("use")}
    assert links <= set(ids), "a shape that is used and not there"


def test_only_numbers_can_be_sorted_by():
    text = table_html({"a": {"name": "x", "points": 1.0}})
    assert text.count("<button>") == 1 and "<button>points</button>" in text


def test_rankers_may_be_called_as_columns_are():
    found = compare({"low": Knows(1.0), "high": Knows(0.2)}, a_set(5), timed=0)
    heads = re.findall(r"<th scope=col[^>]*>(?:<button>)?([^<]*)", report_html(found))
    assert "low" in heads and "high" not in heads, "the best one's own column; the interval has a cell of its own"
    assert heads.count("95 % interval") == 2


@pytest.mark.parametrize("name", ["id", "query", "overlap", "best of three", "difference"])
def test_no_name_of_a_ranker_breaks_the_page(name):
    assert f">{name}<" in report_html(compare({name: Knows(1.0), "other": Knows(0.2)}, a_set(4), timed=0))


def test_what_each_puts_first_is_shown(found):
    text = report_html(found).partition("Where the best two disagree")[2]
    first, second = [name for name in found.pairs.names if name != FIRST][:2]
    shown = found.disagreements(10)
    assert text.count("<h3>") == 10 and all(f"<h3>{query}</h3>" in text for query in shown["query"])
    for query in shown.index:
        for name in (first, second):
            best = found.data.corpus[found.tables[name].run()[query][0]].content
            assert f"{100 * found.values[name][query]:.1f} points<ol><li>{best} <span" in text

def test_what_nobody_judged_is_said():
    data = a_set(4)
    for row in data.qrels.values(): row.pop(next(d for d, grade in row.items() if not grade))
    pool = {q: [d for d in data.corpus if d.startswith(f"{q}d")] for q in data.queries}
    text = report_html(compare({"turned": Knows(-1.0), "chance": Knows(0.0)}, data, candidates=pool, timed=0))
    assert "(not judged)" in text and "(judged 0)" in text and "(judged None)" not in text


# ---- who sees it badly

def light(colour):
    "Relative luminance (WCAG 2.2)"
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    return sum(w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for w, c in zip((0.2126, 0.7152, 0.0722), channels))

def contrast(a, b):
    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)

def variables(text): return dict(re.findall(r"--(\w+): (#[0-9a-fA-F]{3,6})", text))

def schemes():
    "Variables on white, on black, and on paper even where the screen is dark"
    on_white = variables(STYLE[:STYLE.index("@media")])
    on_black = on_white | variables(STYLE[STYLE.index("@media (prefers"):STYLE.index("body {")])
    return {"white": on_white, "black": on_black, "paper": on_black | variables(STYLE[STYLE.index("@media print"):])}


@pytest.mark.parametrize("scheme", ["white", "black", "paper"])
def test_everything_stands_out(scheme):
    found = schemes()[scheme]
    for surface in ("page", "soft") if scheme != "paper" else ("page",):
        assert all(contrast(found[text], found[surface]) >= 4.5 for text in ("text", "quiet"))
    assert all(contrast(found[f"c{i}"], found["page"]) >= 3 for i in range(len(COLOURS)))
    assert [found[f"c{i}"] for i in range(len(COLOURS))] == list(IN_THE_DARK if scheme == "black" else COLOURS)


def test_nothing_is_told_by_colour_alone(found):
    for narrow in (False, True):
        axes = quality_plot(found, narrow).axes[0]
        shapes = [line.get_marker() for line in axes.lines if line.get_marker() not in ("None", "", "_", "|", 2, 3)]
        assert len(set(shapes)) == len(found.tables)
        drawn = as_svg(depth_plot(found.depth(), found.measure, narrow), "depth")
        dashes = {path for path in re.findall(r"stroke-dasharray: ([\d., ]+)", drawn)}
        assert len(dashes) >= len(found.depth().means) - 1, "one is a solid line"


def test_a_ranker_looks_the_same_in_every_picture(found):
    curves, names = found.depth(), list(found.tables)
    curves.means.pop(names[0])
    lines = depth_plot(curves, found.measure, names=names).axes[0].lines
    assert [line.get_color() for line in lines if len(line.get_xdata()) > 2] == list(COLOURS[1:len(names)])


def test_a_small_p_is_not_zero():
    text = table_html({"a": {"p": 0.0001}, "b": {"p": 0.0}})
    assert "&lt; 0.001" in text and ">0.0<" in text


# ---- on a telephone and on paper

def test_every_ranker_has_its_name_in_both_sizes(found):
    for narrow in (False, True):
        for made in (quality_plot(found, narrow), depth_plot(found.depth(), found.measure, narrow)):
            assert {*found.tables, FIRST} <= {text.get_text().replace("\n", " ").replace("- ", "-") for text in made.axes[0].texts}


def test_names_do_not_cover_each_other(found):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    for narrow in (False, True):
        made = quality_plot(found, narrow)
        FigureCanvasAgg(made).draw()
        boxes = sorted((Text.get_window_extent(name) for name in made.axes[0].texts), key=lambda box: box.y0)     # without the line to the point
        assert len(boxes) == 6 and all(below.y1 <= above.y0 + 2 for below, above in itertools.pairwise(boxes))
        assert boxes[-1].y1 <= made.bbox.y1 and min(box.y0 for box in boxes) >= 0, "and none is cut off"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.5, 20)), min_size=1, max_size=12))
def test_places_that_are_spread(pairs):
    wanted, rooms = [w for w, _ in pairs], [r for _, r in pairs]
    found = spread(wanted, rooms)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for i, j in itertools.pairwise(order): assert found[j] - found[i] >= (rooms[i] + rooms[j]) / 2 - 1e-6
    assert mean(found) == pytest.approx(mean(wanted), abs=1e-6), "as a whole they stay where they are"
    far = [w * 1e4 for w in range(len(wanted))]
    assert spread(far, rooms) == pytest.approx(far)
    needed = sum((rooms[i] + rooms[j]) / 2 for i, j in itertools.pairwise(order))
    bounded = spread(wanted, rooms, 0.0, needed + 1.0)
    assert min(bounded) >= -1e-6 and max(bounded) <= needed + 1 + 1e-6


def test_paper_shows_everything():
    paper = STYLE[STYLE.index("@media print"):]
    assert ".scroll { overflow: visible }" in paper and "position: static" in paper and ".narrow { display: none }" in paper
    assert "white-space: pre-wrap" in STYLE, "long lines are not cut"
    assert "tr.best th::before" in paper, "shades are not printed"


def test_a_large_comparison_is_a_small_page():
    large = compare({name: Knows(skill, name) for name, skill in (("a", 1.0), ("b", 0.5), ("c", 0.2))}, a_set(225, 30), timed=0)
    assert len(report_html(large)) < 500_000


# ---- what it says

def bootstrap(gains, draws=10_000):
    "The interval, drawn with another generator"
    rng = random.Random(3)
    means = sorted(mean(rng.choices(gains, k=len(gains))) for _ in range(draws))
    return means[draws // 40], means[-draws // 40 - 1]

def chance(gains):
    "p by all combinations of signs"
    seen = abs(sum(gains)) - 1e-9
    return mean(abs(sum(s * g for s, g in zip(signs, gains))) >= seen for signs in itertools.product((1, -1), repeat=len(gains)))


def test_the_verdict_by_another_way():
    data, rankers = a_set(11), {"good": Knows(1.0), "twin": Knows(1.0, 5), "chance": Knows(0.0, 2)}
    said = compare(rankers, data, timed=0)
    values = {name: plain(table.run(), data.qrels) for name, table in said.tables.items()} | {FIRST: plain(said.candidates, data.qrels)}
    best = max(rankers, key=lambda name: mean(values[name].values()))
    gains = [100 * (values[best][q] - values[FIRST][q]) for q in values[FIRST]]
    ps = sorted(chance([values[name][q] - values[FIRST][q] for q in values[FIRST]]) for name in rankers)
    assert 3 * ps[0] < 0.05 and chance(gains) == ps[0], "by Holm, the smallest of three counts threefold"
    words = re.fullmatch(r"On 11 queries, (\w+) is better than the first stage in nDCG@10 "
                         r"\((\+[\d.]+) points, 95 % interval (\+[\d.]+) to (\+[\d.]+)\)\.(?: (\w+) cannot be told from it\.)?", said.verdict)
    low, high = bootstrap(gains)
    assert words[1] == best and float(words[2]) == pytest.approx(mean(gains), abs=0.051)
    assert float(words[3]) == pytest.approx(low, abs=1) and float(words[4]) == pytest.approx(high, abs=1)
    close = [name for name in rankers if name != best and chance([values[best][q] - values[name][q] for q in values[best]]) > 0.2]
    assert [words[5]] == close == [{"good": "twin", "twin": "good"}[best]], "and the difference to chance is clear"


# ---- what a report says besides the numbers

class Sure(PointwiseRanker):
    "Scores from 0 to 1, which are true; long texts are cut"
    def score_pairs(self, pairs, call):
        scores = [min(0.99, int(text.split()[-1]) / 2 + random.Random(f"{q} {text}").random() / 3) for q, text in pairs]
        return Ranking(scores, truncated=["document 3 " in text for _, text in pairs], usage=Usage(len(pairs), 50 * len(pairs), 10 * len(pairs)))


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    return compare({"sure": Sure(), "bm25": Reranker("bm25")}, a_set(12), timed=2, repeats=1, folder=tmp_path_factory.mktemp("scores"), seed=7)


@pytest.fixture(scope="module")
def sure_page(sure): return report_html(sure)


def test_scores_that_are_probabilities_have_their_section(sure, sure_page):
    text = sure_page
    assert "Scores as probabilities" in text and "threshold for 90 %" in text
    assert "Scores as probabilities" not in report_html(compare({"good": Knows(1.0)}, a_set(3), timed=0))
    told = sure.calibration("sure")
    assert f"{told.threshold:.3f}</td>" in text and f"{told.low:.3f} to {told.high:.3f}</td>" in text and f"{told.auc:.3f}</td>" in text
    row = told.row()
    pairs = [(s, sure.data.qrels[q][d] > 0) for q, r in sure.tables["sure"].rows.items() for d, s in zip(r.ids, r.scores)]
    assert row["judged pairs"] == len(pairs) and told.brier == pytest.approx(sum((s - good) ** 2 for s, good in pairs) / len(pairs))
    good, bad = [s for s, g in pairs if g], [s for s, g in pairs if not g]
    assert told.auc == pytest.approx(sum((a > b) + (a == b) / 2 for a in good for b in bad) / len(good) / len(bad))
    reach = [g for s, g in pairs if s >= told.threshold]
    assert sum(reach) / len(reach) >= 0.9 and all(
        sum(g for s, g in pairs if s >= least) / sum(s >= least for s, _ in pairs) < 0.9 for least, _ in pairs if least < told.threshold)
    assert told.low <= told.threshold and told.kept == pytest.approx(sum(s >= told.threshold for s in good) / len(good))
    for name, word in (("bm25", "no probabilities"), ("first stage", "without scores"), ("sur", "no ranker is called")):
        with pytest.raises(InputError, match=word): sure.calibration(name)


def test_costs_have_calls_and_a_limit_is_drawn(sure, sure_page):
    assert sure.table.loc["sure", "calls a query"] == 20 and sure.table.loc["sure", "tokens a query"] == 1200
    assert "calls a query" in sure_page and "Dotted: the limit of 250 ms." in quality_section(sure, 250) and "Dotted" not in sure_page
    assert len(sure.plot(limit=250).axes[0].lines) == len(sure.plot().axes[0].lines) + 1
    for odd in (0, -1, "fast", float("inf"), True):
        with pytest.raises(InputError, match="limit="): report_html(sure, limit=odd)


def test_what_one_needs_to_do_it_again(sure, sure_page):
    page = sure_page
    facts = yaml.safe_load(html.unescape(re.search("Doing it again</h2><pre>(.*?)</pre>", page, re.S)[1]))
    assert facts["method"]["seed"] == 7 and facts["method"]["rankers"]["bm25"] == "bm25" and facts["data"]["pairs"] == 12 * 20
    assert {name: facts["data"]["test collection"][name] for name in sure.data.hashes} == sure.data.hashes
    assert [Path(sure.folder, Path(file).name).is_file() for file in facts["data"]["scores"]] == [True, True]
    assert any(line.startswith("rerankers ") for line in facts["platform"]["software"]["libraries"]["python"])


def test_documents_that_were_cut_are_marked_and_make_a_group(sure, sure_page):
    assert re.search(r"document 3 of .*?\(judged \d, cut\)", sure_page)
    assert not re.search(r"document [^3]\d* of [^<]*<span class=grade>\(judged \d, cut\)", sure_page)
    groups = sure.groups("sure").loc["text"]
    assert list(groups.index) == ["some was cut"] and list(sure.groups("bm25").loc["text"].index) == ["read whole"]


def test_a_licence_is_shown_where_it_is_known(sure):
    ranker = Sure()
    ranker.model = "BAAI/bge-reranker-v2-m3"
    assert compare({"known": ranker}, a_set(3), timed=0).table.loc["known", "licence"] == "apache-2.0" and sure.licences == {}
