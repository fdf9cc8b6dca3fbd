"A picture in any form is opened in one way, or refused with an error that names the document; texts are never taken for pictures"
import asyncio
import base64
import copy
import importlib.util
import json
import os
import pickle
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image")
from hypothesis import HealthCheck, example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from rerankers import Cascade, Document, Fusion, InputError, RankedResults, Reranker, UnusablePicture  # noqa: E402
from rerankers import pictures as library  # noqa: E402
from rerankers.documents import Content, pictures_in, to_document, to_documents  # noqa: E402
from rerankers.pictures import Picture, as_picture, data_url, measured, opened, rgb  # noqa: E402
from rerankers.rankers import PointwiseRanker  # noqa: E402


class Eye(PointwiseRanker):
    "Scores a picture by its mean brightness and a text by its length"
    sees = sees_queries = True
    texts_only = False

    def score_pairs(self, pairs, call): return [sum(map(self.bright, pictures_in(text))) + len(text) for _, text in pairs]

    def bright(self, picture):
        shown = rgb(picture).convert("L")
        return sum(shown.tobytes()) / len(shown.tobytes())


class Reader(PointwiseRanker):
    def score_pairs(self, pairs, call): return [float(len(text)) for _, text in pairs]


def file_of(image, kind="PNG", **how):
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


GREY = file_of(Image.new("RGB", (8, 6), (90, 90, 90)))
WHITE = file_of(Image.new("RGB", (8, 6), (255, 255, 255)))
FORMATS = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P"), "BMP": ("1", "L", "RGB"),
           "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "F", "I"), "WEBP": ("RGB", "RGBA")}
ROTATED = {"PNG", "JPEG", "TIFF", "WEBP"}      # formats that carry EXIF


@st.composite
def files(draw):
    "The bytes of a picture, its upright size, and whether it is whole"
    kind = draw(st.sampled_from(sorted(FORMATS)))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.sampled_from([(1, 4000), (4000, 1), (1, 200), (201, 1), (1, 1), (20, 4000)]))
    image = Image.new(draw(st.sampled_from(FORMATS[kind])), size)
    turn = draw(st.sampled_from([None, *range(1, 9), 77])) if kind in ROTATED else None
    exif = Image.Exif()
    if turn: exif[0x0112] = turn
    data = file_of(image, kind, **({"exif": exif} if turn else {}))
    cut = draw(st.none() | st.integers(0, len(data) - 1))
    return data if cut is None else data[:cut], size[::-1] if turn in (5, 6, 7, 8) else size, cut is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files())
@example((b"", (1, 1), False))
@example((b"\x89PNG\r\n\x1a\n", (1, 1), False))
@example((b"II*\0" + b"\xff" * 40, (1, 1), False))
def test_a_picture_is_opened_upright_with_eight_bits_or_refused(made):
    data, size, whole = made
    picture = as_picture(data)
    if whole and max(size) > 200 * min(size):
        with pytest.raises(UnusablePicture, match="too thin"): opened(picture)
    elif whole: assert opened(picture).size == measured(picture) == size and rgb(picture).mode == "RGB" and opened(picture).mode not in ("I", "F", "I;16")
    else:
        try: assert rgb(picture).mode == "RGB"      # a file may lack nothing but its end
        except UnusablePicture as error: assert error.picture == picture and isinstance(error, InputError)


@cache
def tiny(word):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from rerankers import tiny_models
    return Reranker(getattr(tiny_models, word)(), device="cpu")


@pytest.mark.parametrize("word", ["tiny_clip", "tiny_colqwen"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=st.lists(files(), min_size=2, max_size=4), size=st.sampled_from([1, 3, None]))
def test_a_picture_has_its_own_score_in_any_company(word, made, size):
    "Or is refused; never does it get the score of another"
    docs, alone = [Document(image=data) for data, *_ in made], []
    for doc in docs:
        try: alone.append(tiny(word).score("who wrote the play ?", doc))
        except UnusablePicture: alone.append(None)
    good = [(doc, score) for doc, score in zip(docs, alone) if score is not None]
    together = tiny(word).rank("who wrote the play ?", [doc for doc, _ in good], batch_size=size)
    assert [together.get_score_by_docid(i) for i in range(len(good))] == pytest.approx([score for _, score in good], abs=1e-4)
    if None in alone:
        bad = "|".join(str(i) for i, score in enumerate(alone) if score is None)
        with pytest.raises(UnusablePicture, match=f"^document ({bad}): "): tiny(word).rank("who wrote the play ?", docs)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.text(max_size=60))
def test_what_is_no_picture_is_refused(data, text):
    for given_ in (data, text, base64.b64encode(data).decode() + "AAAA"):
        try: rgb(as_picture(given_))
        except InputError: continue
        raise AssertionError(given_)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "I;16B"])
def test_a_picture_of_pillow_keeps_its_pixels(mode):
    image = Image.new("RGB", (4, 3), (200, 100, 30)).convert("L" if mode.startswith("I") else "RGB")
    try: image = image.convert(mode)
    except ValueError: image = image.convert("RGBA").convert(mode) if mode in ("La", "RGBa") else Image.new(mode, (4, 3))
    again = opened(as_picture(image))
    kept = mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
    assert again.size == (4, 3) and (not kept or again.mode == mode and again.tobytes() == image.tobytes())


def test_sixteen_bits_are_scaled():
    "Pillow would cut them off at 255"
    deep = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32896, 65535)): deep.putpixel((x, 0), value)
    assert list(opened(as_picture(file_of(deep))).tobytes()) == [0, 128, 255]


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    moving = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert rgb(as_picture(moving)).getpixel((0, 0)) == (255, 0, 0)


def test_the_guard_against_bombs_is_on(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UnusablePicture, match="too many pixels"): opened(as_picture(file_of(Image.new("L", (7, 7)))))


def test_a_picture_may_have_the_wrong_name(tmp_path):
    (tmp_path / "page.jpg").write_bytes(GREY)
    assert opened(as_picture(tmp_path / "page.jpg")).size == (8, 6)
    assert data_url(as_picture(tmp_path / "page.jpg")).startswith("data:image/png;base64,")


@pytest.mark.parametrize(("bad", "why"), [
    ("no such file.png", "No such file"), (b"I am text", "no known type"), (b"%PDF-1.7", r"pages\('file.pdf'\)"), (GREY[:50], "cannot be opened"),
    (file_of(Image.new("L", (1, 500))), "too thin: 1 by 500"), ("https://example.org/a.png", r"rerankers.web.downloads.download\(url\)"), (".", "is a folder")])
def test_an_error_names_the_document(bad, why):
    with pytest.raises(UnusablePicture, match=f"^document 2: .*{why}"): Eye().rank("how bright?", ["a text", Document(image=GREY), Document(image=bad)])
    with pytest.raises(UnusablePicture, match="^document 'p7': "): Eye().rank("how bright?", [Document("caption", "p7", image=bad)])
    with pytest.raises(UnusablePicture, match=f"^the query: .*{why}"):
        class Other(Eye):
            def score_pairs(self, pairs, call): return [self.bright(pictures_in(query)[0]) for query, _ in pairs]
        Other().rank(Document(image=bad), ["a text"])


def test_rankers_made_of_rankers_name_it_once():
    class Other(Eye):
        def score_pairs(self, pairs, call): return [float(len(text)) for _, text in pairs]
    for ranker in (Cascade(Other(), Eye()), Fusion(Eye(), Other()), Cascade(Other(), Fusion(Eye(), Other()))):
        with pytest.raises(UnusablePicture, match="^document 'p7': the picture 'no.png' cannot be read"):
            ranker.rank("how bright?", [Document(image=GREY), Document(None, "p7", image="no.png")])
        assert ranker.sees and ranker.sees_queries and len(ranker.rank(Document(image=GREY), [Document(image=GREY), "a text"])) == 2


@pytest.mark.parametrize("name", ["file:///etc/passwd", "/etc/passwd", "scans/page.png"])
def test_an_address_names_no_file_of_this_machine(name):
    "A service would be told the path"
    for picture in (as_picture({"url": name}), Picture(url=name)):
        with pytest.raises(UnusablePicture, match="no web address"): data_url(picture)
        page = {"text": "a caption", "image": picture.to_dict()}
        with pytest.raises(UnusablePicture, match="document 0: .*no web address"): Eye().rank("how bright?", [page])


def test_addresses_that_nobody_fetches_are_refused(tmp_path):
    for name in ((tmp_path / "page.png").as_uri(), "s3://bucket/page.png"):
        with pytest.raises(UnusablePicture, match="^document 0: .*another kind than http.*path"): Eye().rank("how bright?", [Document("a text", image=name)])
    text = base64.b64encode(GREY).decode()
    for part in (text, f"{text[:9]}\n{text[9:]}"): assert as_picture({"url": f"data:image/png;base64,{part}"}) == as_picture(GREY)


def test_sixteen_bits_are_scaled_in_any_order_of_bytes():
    "Pillow opens TIFF files of most scanners with the larger byte first"
    small = Image.frombytes("I;16", (3, 1), bytes([0, 0, 128, 128, 255, 255]))
    for mode in ("I;16", "I;16B", "I;16L"):
        assert list(opened(as_picture(Image.frombytes(mode, (3, 1), small.tobytes()))).tobytes()) == [0, 128, 255], mode


def test_what_is_no_file_is_not_read(tmp_path):
    "A pipe would be waited for, and some devices never end"
    if not hasattr(os, "mkfifo"): pytest.skip("pipes have no names here")
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UnusablePicture, match="is no file"): opened(as_picture(name))


def test_errors_are_short_and_say_what_is_wrong():
    for given_, why in ((b"", "a picture of 0 bytes is empty"), (GREY[:8], "a picture of 9 bytes cannot be opened: Pillow does not know it, or it is damaged")):
        with pytest.raises(UnusablePicture, match=f"^{why}$"): opened(as_picture(given_))
    with pytest.raises(UnusablePicture) as caught: opened(as_picture("x" * 100_000))
    assert len(str(caught.value)) < 1000


def test_numbers_below_zero_are_stretched():
    deep = Image.new("F", (3, 1))
    for x in range(3): deep.putpixel((x, 0), x - 1)
    assert list(opened(as_picture(deep)).tobytes()) == [0, 128, 255]


def test_a_short_name_is_a_path():
    "Even one that would stand for the beginning of a picture"
    assert as_picture("Qk1hcA") == Picture("Qk1hcA")


@pytest.mark.parametrize("text", [None, float("nan")])
def test_a_picture_without_a_text_may_come_from_a_table(text):
    "Data frames write NaN for a missing text"
    for ranker in (Eye(), Reranker("bm25", ocr=lambda image: "bright")):
        (found,) = ranker.rank("bright", [{"id": "p7", "text": text, "image": GREY}])
        assert found.document.text is None and found.score
    with pytest.raises(InputError, match="document 0: no text .*5"): Eye().rank("q", [{"text": 5, "image": GREY}])


@pytest.mark.parametrize("bad", [{"base64": "data:text/plain;base64,aGk="}, {"base64": 5}, {"image_path": 5}])
def test_old_fields_are_checked_like_the_new_one(bad):
    "Whether the method looks at pictures or not"
    for ranker in (Eye(), Reader()):
        with pytest.raises(InputError, match="^document 1: .*(no picture|is a int)"): ranker.rank("q", ["a", Document("a text", **bad)])
    empty = [Document("a text", base64=float("nan")), Document("a text", image_path=float("nan"))]
    assert len(Eye().rank("q", empty)) == 2


def test_what_may_have_been_meant_as_a_picture_is_said_briefly():
    with pytest.raises(InputError, match=r"document 0: bytes .*Document\(image=") as first: Eye().rank("q", [GREY * 1000])
    with pytest.raises(InputError, match=r"the query is a bytes.*Document\(image=") as second: Eye().rank(GREY * 1000, ["a"])
    with pytest.raises(InputError, match=r"the query is a \w+Path.*Document\(image="): Eye().rank(Path("a.png"), ["a"])
    assert max(len(str(caught.value)) for caught in (first, second)) < 1000


def test_a_store_s_record_may_be_a_picture():
    hits = [{"id": 7, "payload": {"image": GREY, "page": 3}}, {"id": 8, "score": 0.5, "metadata": {"base64": base64.b64encode(WHITE)}}]
    first, second = to_documents(hits)
    assert (first.doc_id, first.pictures, first.metadata) == (7, (as_picture(GREY),), {"page": 3}) and second.pictures == (as_picture(WHITE),)
    (own,) = to_documents([{"image": GREY, "payload": {"image": WHITE}}])
    assert own.pictures == (as_picture(GREY),)


def test_a_path_is_no_document_and_the_error_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"document 0: .*Document\(image=.*read_documents"): Reader().rank("q", [tmp_path / "page.png"])


@pytest.mark.parametrize("bad", [42, object(), {"width": 4}, "", "data:text/plain;base64,aGk=", "data:image/png,raw", ["a.png", 3]])
def test_what_has_no_form_of_a_picture_is_refused_at_once(bad):
    with pytest.raises(InputError): Document(image=bad)


def test_each_form_gives_the_same_score(tmp_path):
    (tmp_path / "grey").write_bytes(GREY)
    text = base64.b64encode(GREY).decode()
    forms = [tmp_path / "grey", str(tmp_path / "grey"), GREY, bytearray(GREY), text, text[:30] + "\n" + text[30:], f"data:image/png;base64,{text}",
             Image.open(BytesIO(GREY)), {"bytes": GREY, "path": None}, {"path": str(tmp_path / "grey")}, as_picture(GREY), memoryview(GREY + GREY)[:len(GREY)],
             memoryview(bytes(b for pair in zip(GREY, GREY) for b in pair))[::2], {"base64": text.encode()}, {"base64": text[:30] + "\r\n" + text[30:]},
             text.replace("+", "-").replace("/", "_"), {"base64": text.replace("+", "-").replace("/", "_")}]
    old = [Document(None, base64=base64.encodebytes(GREY).decode()), Document(None, base64=text.encode()), Document(None, base64=text),
           Document(None, image_path=str(tmp_path / "grey")), Document(None, base64=f"data:image/png;base64,{text}")]
    results = Eye().rank("how bright?", [*(Document(image=form) for form in forms), *old])
    assert {r.score for r in results} == {90.0} and len(results) == len(forms) + len(old)


def test_strings_are_texts(tmp_path, monkeypatch):
    "Even where a file of that name exists, or where the string is an address or base64 of a picture"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.png").write_bytes(GREY)
    texts = ["page.png", "https://example.org/page.png", base64.b64encode(GREY).decode(), data_url(as_picture(GREY))]
    assert all(d.text == t and not d.pictures for d, t in zip(to_documents(texts), texts))
    assert {r.score for r in Eye().rank("page.png", texts)} == {float(len(t)) for t in texts}


@pytest.mark.parametrize(("given_", "text", "pictures", "metadata"), [
    ({"image": "a.png"}, None, [Picture("a.png")], {}), ({"image_path": "a.png", "page": 3}, None, [Picture("a.png")], {"page": 3}),
    ({"text": "caption", "image": GREY}, "caption", [as_picture(GREY)], {}),
    ({"text": None, "image": ["a.png", "b.png"]}, None, [Picture("a.png"), Picture("b.png")], {}),
    ({"text": "shoe", "image": "https://shop.example/1.jpg"}, "shoe", [Picture(url="https://shop.example/1.jpg")], {"image": "https://shop.example/1.jpg"}),
    ({"text": "shoe", "image": {"width": 9}}, "shoe", [], {"image": {"width": 9}}),
    ({"text": "shoe", "image": float("nan")}, "shoe", [], {"image": float("nan")}),
    ({"image": "a.png", "metadata": {"title": "Report", "body": "of the year"}}, None, [Picture("a.png")], {"title": "Report", "body": "of the year"}),
    ({"_id": 3, "_source": {"image": {"bytes": GREY, "path": None}, "year": 1}}, None, [as_picture(GREY)], {"year": 1})])
def test_dictionaries_bring_pictures(given_, text, pictures, metadata):
    found = to_document(given_)
    assert (found.text, list(found.pictures)) == (text, pictures) and repr(found.metadata) == repr(metadata)


def test_a_caller_s_dictionary_without_a_picture_is_refused():
    with pytest.raises(InputError, match="document 0: a dict is no picture"): to_documents([{"image": {"width": 9}}])


PAGES = [Document("a page", 7, {"n": 1}, image=GREY), Document(image=[WHITE, "no.png"]), Document(None, image_path="old.png"), Document(image="https://example.org/1.png")]


@pytest.mark.parametrize("doc", PAGES, ids=repr)
def test_documents_survive(doc):
    assert pickle.loads(pickle.dumps(doc)) == doc == copy.deepcopy(doc) and to_document(doc) == doc and len(repr(doc)) < 200
    results = RankedResults.from_dict({"query": "q", "has_scores": True, "results": [{"rank": 1, "score": 1.0, **vars(doc)}]})
    assert results[0].document == doc
    assert RankedResults.from_dict(json.loads(results.to_json())) == results and "<table>" in results._repr_html_()


def test_queries_with_pictures_survive():
    results = Eye().rank({"image": GREY, "text": "how \ud800bright?"}, ["a", Document(image=WHITE)])
    assert results.query == Content("how \ufffdbright?", as_picture(GREY)) and results[0].doc_id == 1
    assert RankedResults.from_dict(json.loads(results.to_json())) == results == pickle.loads(pickle.dumps(results))
    assert "bytes" in Eye().rank(Document(image=GREY), ["a"])._repr_html_()


QUERIES = [Document(image=GREY), {"image": GREY}, as_picture(GREY), Image.open(BytesIO(GREY)), Document("words", image=GREY)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: type(q).__name__)
def test_a_query_may_be_a_picture_where_the_method_takes_it(query):
    one, docs = Eye().rank(query, ["a", "b"]), ["a", "b"]
    stream = [(query, docs), {"query": query, "docs": docs}, ("words", docs)]
    assert len(one) == 2 and len(Eye().rank_many([query, "words"], docs)) == 2
    assert list(Eye().rank_stream(stream)) == [one, one, Eye().rank("words", docs)] == asyncio.run(streamed(Eye(), stream))
    for ranker in (Reader(), Reranker("bm25")):
        with pytest.raises(InputError, match="the query is a picture"): ranker.rank(query, docs)
        with pytest.raises(InputError, match="the query is a picture"): ranker.rank_many(["words", query], docs)
        with pytest.raises(InputError, match="the query is a picture"): list(ranker.rank_stream(stream))


async def streamed(ranker, items): return [found async for found in ranker.rank_stream_async(items)]


@pytest.mark.parametrize("query", [{"text": "a"}, {"image": float("nan")}, {"image": 5}, Document(), Document("words"), 5, None, {}])
def test_other_things_are_no_queries(query):
    with pytest.raises(InputError): Eye().rank(query, ["a"])


def test_pictures_are_compared_by_value():
    grey, white = as_picture(GREY), as_picture(WHITE)
    twins = [Content("page", grey), Content("page", as_picture(bytearray(GREY))), Content("page", grey, white), Content("page", white), "page"]
    assert len(set(twins)) == 4 and twins[0] == twins[1] and twins[0] != twins[2] and hash(twins[0]) == hash(twins[1])


def test_the_caller_s_things_stay_as_they_are():
    image = Image.new("RGBA", (3, 2), (1, 2, 3, 4))
    before, given_ = image.tobytes(), [image, {"image": GREY}]
    Eye().rank(image, given_)
    assert (image.tobytes(), image.mode, given_) == (before, "RGBA", [image, {"image": GREY}])


def test_large_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "LARGEST", 10)
    (tmp_path / "a.png").write_bytes(GREY)
    with pytest.raises(UnusablePicture, match="larger than 10 bytes"): opened(as_picture(tmp_path / "a.png"))


@pytest.mark.skipif(importlib.util.find_spec("pypdfium2") is None, reason="pypdfium2 is not installed")
def test_pages_of_a_pdf(tmp_path):
    file = tmp_path / "report.pdf"
    Image.new("RGB", (120, 60), "red").save(file, "PDF", save_all=True, append_images=[Image.new("RGB", (60, 120), "blue")], resolution=72)
    first, second = library.pages(file, dpi=36)
    assert [measured(p) for p in (first, second)] == [(60, 30), (30, 60)] and rgb(second).getpixel((5, 5))[2] > 250 > rgb(first).getpixel((5, 5))[2]
    assert [len(d.pictures) for d in to_documents(library.pages(file))] == [1, 1]
    with pytest.raises(UnusablePicture, match="is a PDF"): opened(as_picture(file))
    (tmp_path / "no.pdf").write_bytes(b"I am none")
    with pytest.raises(InputError, match="cannot be read"): library.pages(tmp_path / "no.pdf")


@pytest.mark.parametrize("size", [(240, 160), (100, 300)], ids=["wide", "high"])
def test_heat_maps_point_at_the_right_place(size):
    "What is drawn in one place changes the vectors that the map takes for that place most"
    pytest.importorskip("torch")
    import numpy as np
    from PIL import ImageDraw

    from rerankers.backends.heat_maps import places_of
    from rerankers.calls import Call
    ranker, blank = tiny("tiny_colqwen"), Image.new("RGB", size, "white")
    for x, y in ((0.2, 0.8), (0.85, 0.3)):
        marked, (w, h) = blank.copy(), size
        ImageDraw.Draw(marked).rectangle((x * w - w / 14, y * h - h / 14, x * w + w / 14, y * h + h / 14), fill="black")
        one, other = ranker.pages.vectors([as_picture(blank), as_picture(marked)], Call(progress=False), None)
        places = places_of(ranker.pages, as_picture(marked))
        change = np.abs(one - other).sum(-1)[places]
        row, column = np.unravel_index(change.argmax(), change.shape)
        assert abs((row + 0.5) / places.shape[0] - y) < 0.2 and abs((column + 0.5) / places.shape[1] - x) < 0.2


def test_heat_maps_show_the_page():
    results = tiny("tiny_colqwen").rank("who wrote it?", [Document(image=Image.new("RGB", (90, 60), "white"), doc_id="page"), "a text"])
    why = results.get_result_by_docid("page").explain()
    assert why.heat.shape[0] == len(why.tokens) and why.picture(0).size == (90, 60) == why.picture().size
    assert why.picture(0).getextrema()[1][0] < 255 and len(why._repr_html_()) < 16 * 70_000      # some place is redder than white
    with pytest.raises(InputError, match="token=99"): why.picture(99)
    with pytest.raises(InputError, match="is a text"): results.get_result_by_docid(1).explain()
    assert pickle.loads(pickle.dumps(results)) == results
