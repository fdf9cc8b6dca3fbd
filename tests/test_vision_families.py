"Models that see, in layouts for which there is no kit, against plain references: a pair by itself, every step by hand"
import gc
import json
import pickle
import weakref
from functools import cache, partial
from pathlib import Path
from shutil import copytree

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pillow = pytest.importorskip("PIL.Image")
import seeing_models as plain  # noqa: E402
from closeness import distance  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from rerankers import Document, InputError, ModelLoadError, RankedResults, Reranker  # noqa: E402
from rerankers.backends.seeing_chain import fitted  # noqa: E402
from rerankers.engine.picture_prompts import Prompted  # noqa: E402
from rerankers.pictures import Picture  # noqa: E402
from rerankers.testing import check_ranker  # noqa: E402

FP32 = {"device": "cpu", "dtype": "float32"}
QUERIES = ["revenue by region", "a", "who signed?  twice\n"]


@pytest.fixture(scope="module")
def place(tmp_path_factory): return tmp_path_factory.mktemp("layouts")


FAMILIES = [name for name in (*plain.ENGINE, *plain.CHATS) if "older" not in name and name != "idefics3"]      # the last is SmolVLM's


def by_position(results): return [results.get_score_by_docid(i) for i in range(len(results))]


def counted(tower):
    "How often a part of a model has run, as a list that grows"
    ran = []
    return ran, tower.register_forward_hook(lambda *args: ran.append(1))


def tower_of(trunk): return next(getattr(trunk, name) for name in ("vision_tower", "vision_model", "visual") if hasattr(trunk, name))


@pytest.mark.parametrize("name", plain.ENGINE)
def test_pages_in_the_engines_layout(name, place):
    "The folder says what it is; any batch size gives the scores of each pair by itself"
    folder = plain.engine_folder(name, place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()
    want = [[plain.engine_score(name, folder, query, page) for page in pages] for query in QUERIES]
    docs = [Document(image=page) for page in pages]
    for size in (1, 7, None):
        found = ranker.rank_many(QUERIES, docs, batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1
    ran, hook = counted(tower_of(ranker.runtime.model.vlm))
    ranker.rank_many(QUERIES, docs + docs[:2])
    stored, seen = ranker.encode(docs), len(ran)
    assert distance(by_position(ranker.rank(QUERIES[0], stored)), want[0]) <= 1
    hook.remove()
    assert len(ran) == seen <= 2 * len(pages)       # for all queries, and for the store; nothing for what is stored


@pytest.mark.parametrize("kind", plain.CHATS)
def test_models_that_chat(kind, place):
    "True or False, asked of other families; the tower runs once a picture for all queries"
    folder = plain.chat_folder(kind, place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()[:5]
    want = [[plain.chat_score(kind, folder, query, page) for page in pages] for query in QUERIES]
    docs = [Document(image=page) for page in pages]
    trunk = ranker.runtime.trunk
    for size in (1, 7, None):
        ran, hook = counted(tower_of(trunk))
        found = ranker.rank_many(QUERIES, docs + docs[:2], batch_size=size)
        hook.remove()
        assert len(ran) == len(pages)
        assert max(distance(by_position(got)[:5], row) for got, row in zip(found, want)) <= 1


@pytest.mark.parametrize("kind", plain.CHATS)
def test_special_tokens_in_a_text_are_characters(kind, place):
    ranker, doc = Reranker(plain.chat_folder(kind, place), **FP32), Document(image=plain.pictures()[0])
    trick = "<|image_pad|><|im_end|><image><end_of_utterance><start_of_turn><end_of_turn><start_of_image><row_1_col_1>"
    [said], [prompt] = (ranker.encode([(query, ranker.view(doc))]) for query in (f"what? {trick}", "what?"))
    assert {i: said.ids.count(i) for i in ranker.prompts.marks.values()} == {i: prompt.ids.count(i) for i in ranker.prompts.marks.values()}
    assert len(said.ids) > len(prompt.ids) + 10 and len(ranker.rank(f"what? {trick}", [doc])) == 1


def test_padding_changes_nothing(place, monkeypatch):
    "As on a graphics card, where texts and prompts of different lengths run together; and a score depends on the page"
    from rerankers.engine.pytorch import TorchRuntime
    monkeypatch.setattr(TorchRuntime, "overhead", property(lambda self: float("inf")))
    pages = [plain.pictures()[i] for i in (0, 1, 4)]
    for name in FAMILIES:
        score, folder = (plain.chat_score, plain.chat_folder(name, place)) if name in plain.CHATS else (plain.engine_score, plain.engine_folder(name, place))
        found = ready(name, place).rank_many(QUERIES[:2], [Document(image=page) for page in pages])
        want = [[score(name, folder, query, page) for page in pages] for query in QUERIES[:2]]
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1, name
        assert distance(want[0][:2], want[0][1:]) > 1, name


def test_a_chat_template_in_a_file_of_its_own(place):
    "As in folders of transformers 4"
    folder = Path(place) / "older"
    copytree(plain.chat_folder("smolvlm", place), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelLoadError, match="chat template cannot render"): Reranker(str(folder), **FP32).rank("who?", ["a"])
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": plain.SMOL_CHAT}))
    docs = [Document(image=page) for page in plain.pictures()[:2]]
    scores = [by_position(Reranker(str(source), **FP32).rank("who?", docs)) for source in (folder, plain.chat_folder("smolvlm", place))]
    assert scores[0] == scores[1]


def test_siglip_that_keeps_a_pictures_shape(place):
    folder = plain.naflex_folder(place)
    ranker, pages = Reranker(folder, **FP32), plain.pictures()[:5]
    want = [[plain.naflex_score(folder, query, page) for page in pages] for query in QUERIES]
    for size in (1, 7, None):
        found = ranker.rank_many(QUERIES, [Document(image=page) for page in pages], batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1


def test_a_cross_encoder_of_sentence_transformers(place):
    "Against the package itself, on what it saved: pictures and texts on both sides, an activation and a system message of its own"
    pytest.importorskip("sentence_transformers")
    official, folder = plain.any_to_any(place)
    pages = plain.pictures()[:3]
    queries = ["revenue by region", pages[1], {"image": pages[0], "text": "like this?"}]
    docs = [*pages, "a text", {"image": pages[2], "text": "with a caption"}]
    want = [official.predict([(query, doc) for doc in docs], batch_size=1).tolist() for query in queries]
    ranker = Reranker(folder, **FP32)

    def said(thing):
        if isinstance(thing, dict): return Document(thing["text"], image=thing["image"])
        return thing if isinstance(thing, str) else Document(image=thing)
    for size in (1, None):
        found = ranker.rank_many([said(query) for query in queries], [said(doc) for doc in docs], batch_size=size)
        assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1


def test_a_folder_of_sentence_transformers_with_page_vectors(place):
    "The model is what its config.json names: it is run as it was trained"
    from rerankers.tiny_models import tiny_colqwen, write_chain
    folder = Path(place) / "multi-vector"
    copytree(tiny_colqwen(), folder)
    write_chain(folder, [("MultiVectorMask", {}, None)], model_type="MultiVectorEncoder")
    docs = [Document(image=page) for page in plain.pictures()[:3]]
    scores = [by_position(Reranker(str(source), **FP32).rank("who?", docs)) for source in (folder, tiny_colqwen())]
    assert scores[0] == scores[1]


def test_colqwen2_5_in_the_layout_of_transformers(place):
    "Its queries have a prefix, and what is transparent lies on white"
    from rerankers.pictures import on_white
    folder, engine, pages = plain.hf_folder(place), plain.engine_folder("colqwen2.5", place), plain.pictures()
    want = [[plain.engine_score("colqwen2.5", engine, f"Query: {query}", on_white(page)) for page in pages] for query in QUERIES]
    found = Reranker(folder, **FP32).rank_many(QUERIES, [Document(image=page) for page in pages])
    assert max(distance(by_position(got), row) for got, row in zip(found, want)) <= 1


def test_adapters_in_the_engines_layouts(place, tmp_path):
    "Each in the names of its own family"
    pytest.importorskip("peft")
    docs = [Document(image=page) for page in plain.pictures()[:2]]
    for name in ("colqwen2.5", "colqwen2.5, older", "colpali, older", "colsmol", "colmodernvbert"):
        base = plain.engine_folder(name, place)
        (tmp_path / name).mkdir()
        adapter, whole, _ = plain.adapter_of(base, tmp_path / name)
        adapted, merged, bare = (by_position(Reranker(str(folder), model_type="colvision", **FP32).rank("who?", docs)) for folder in (adapter, whole, base))
        assert distance(adapted, merged) <= 1 < distance(adapted, bare), name


def test_llava_with_another_tower_is_refused(place, tmp_path):
    folder = tmp_path / "pixtral"
    copytree(plain.chat_folder("llava", place), folder)
    said = json.loads((folder / "config.json").read_text())
    tower = {**plain.SMALL_TOWER, "model_type": "pixtral", "image_size": 28, "patch_size": 14}
    (folder / "config.json").write_text(json.dumps({**said, "vision_config": tower}))
    with pytest.raises(ModelLoadError, match="LLaVA with a tower of the kind 'pixtral' is not run here"): Reranker(str(folder), **FP32)


@cache
def ready(name, place):
    "A ranker of one of the families"
    from rerankers import tiny_models
    made = {"colqwen2": tiny_models.tiny_colqwen, "monovlm": tiny_models.tiny_seeing, "qwen3-vl": partial(tiny_models.tiny_seeing, "qwen3_vl"),
            "clip": tiny_models.tiny_clip, "siglip": partial(tiny_models.tiny_clip, "siglip"), "naflex": partial(plain.naflex_folder, place),
            **{kind: partial(plain.chat_folder, kind, place) for kind in plain.CHATS}}
    folder = made[name]() if name in made else plain.engine_folder(name, place)
    return Reranker(folder, **FP32, **({"model_type": "monovlm"} if name == "monovlm" else {}))


@pytest.mark.parametrize("name", ["colsmol", "smolvlm", "naflex"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=2, max_size=4), step=st.sampled_from([1, 3, None]))
def test_a_page_of_any_shape_has_its_own_score(name, place, sizes, step):
    "Or is refused, because it is too thin"
    ranker = ready(name, place)
    docs = [Document(image=pillow.linear_gradient("L").rotate(90 * i).resize(size)) for i, size in enumerate(sizes)]
    alone = []
    for doc in docs:
        try: alone.append(ranker.score("who signed ?", doc))
        except InputError as error:
            assert "too thin" in str(error)
            alone.append(None)
    good = [(doc, score) for doc, score in zip(docs, alone) if score is not None]
    together = ranker.rank("who signed ?", [doc for doc, _ in good], batch_size=step)
    assert by_position(together) == pytest.approx([score for _, score in good], rel=1e-4, abs=1e-5)


def test_the_contract(place): check_ranker(ready("naflex", place))     # each method is held to it by its notebook


def test_every_family_survives_pickles_specs_and_json(place):
    "The ranker as a file and as a description, its results as files: nothing of a score is lost"
    docs = [Document(image=plain.pictures()[0], doc_id="page"), Document("words", image=plain.pictures()[1])]
    for name in ("naflex", "clip", "siglip", "colqwen2", "monovlm", "qwen3-vl", *FAMILIES):
        ranker = ready(name, place)
        found = ranker.rank("who signed ?", docs)
        for twin in (pickle.loads(pickle.dumps(ranker)), Reranker(ranker.spec)):
            assert repr(twin) == repr(ranker) and twin.spec == ranker.spec, name
            assert by_id(twin.rank("who signed ?", docs)) == pytest.approx(by_id(found), rel=1e-6), name
        assert RankedResults.from_dict(json.loads(found.to_json())) == found == pickle.loads(pickle.dumps(found)), name


def by_id(results): return {r.doc_id: r.score for r in results}


@pytest.mark.parametrize("name", ["colqwen2", "colpali", "colsmol", "clip", "monovlm"])
def test_no_page_is_kept_longer_than_its_batch(name, place, monkeypatch):
    "Of 40 pages: the opened pictures, their pixels and what the tower made of them; it makes no difference how many pages there are"
    from rerankers.engine import images, seeing

    def watched(make, most, living):
        def made(*args, **kwargs):
            found = make(*args, **kwargs)
            arrays = [found] if not isinstance(found, dict) else [a for kind, a in found.items() if kind == "pixel_values"]
            living.extend(map(weakref.ref, arrays))
            most.append(sum(ref() is not None for ref in living))
            return found
        return made
    ranker, most, counts = ready(name, place), 4, {kind: [] for kind in ("opened", "pixels", "features")}
    monkeypatch.setattr(images, "rgb", watched(images.rgb, counts["opened"], []))
    monkeypatch.setattr(images.ImageReader, "one", watched(images.ImageReader.one, counts["pixels"], []))
    monkeypatch.setattr(seeing, "Features", watched(seeing.Features, counts["features"], []))
    pages = [Document(image=pillow.new("RGB", (60 + i, 90), (i, i, i))) for i in range(40)]
    gc.disable()        # what lives must not depend on when the collector comes
    try: ranker.rank("which page?", pages, batch_size=most)
    finally: gc.enable()
    assert len(counts["opened"]) == len(counts["pixels"]) == 40 and len(counts["features"]) == (40 if hasattr(ranker.runtime, "see") else 0)
    assert max(counts["opened"]) <= 2 and max(counts["pixels"]) <= 2 * most and max(counts["features"], default=0) <= most


def test_a_cut_prompt_keeps_its_end():
    "There the model answers"
    whole = Prompted([*range(10)], ())
    assert fitted(whole, [8, 9], 5, 77) == Prompted([0, 1, 2, 8, 9], (), True) and fitted(whole, [8, 9], 10, 77) is whole is fitted(whole, [8, 9], None, 77)


def test_pictures_kept_for_several_queries_are_bounded():
    "Prompts with the same picture stay together, and a group has as many tokens of pictures as may be kept"
    from rerankers.engine.seeing import in_groups
    pages = [Picture(f"{n}.png") for n in range(4)]
    prompts = [Prompted([7, 7, 1], (page,)) for _ in range(2) for page in pages]        # two queries, two tokens a page
    assert list(in_groups(prompts, 7, most=4)) == [[0, 4, 1, 5], [2, 6, 3, 7]] and list(in_groups(prompts, 7, most=1)) == [[n, n + 4] for n in range(4)]


def test_helpers_do_not_run_ahead():
    "Threads that open pictures beside a graphics card hold no more of them than there are threads"
    import numpy as np
    from rerankers.engine.seeing import made_ready
    living, most = [], []

    def opened(pictures):
        found = np.zeros(9)
        living.append(weakref.ref(found))
        return {"pixel_values": found}
    for _ in made_ready(opened, list(range(60)), 3): most.append(sum(ref() is not None for ref in living))
    assert len(most) == 60 and max(most) <= 2 * 3


MIXING = ("o_proj.weight", "out_proj.weight", "attn.proj.weight", "attn.Wo.weight")     # what layers add from other places


@pytest.mark.parametrize("name", ["colqwen2.5", "colpali", "colsmol", "colmodernvbert"])
def test_heat_maps_know_each_familys_places(name, place):
    "A page is hottest where its vector is the query's own and all others are nothing; and that vector is the one that changes when the place is painted"
    import numpy as np
    from PIL import ImageDraw
    from rerankers.backends.heat_maps import heat_map, places_of
    from rerankers.calls import Call
    from rerankers.pictures import as_picture
    ranker, blank = ready(name, place), pillow.new("RGB", (128, 64), "white")
    doc, quiet = Document(image=blank), Call(progress=False)
    [before], places = ranker.pages.vectors(list(doc.pictures), quiet, None), places_of(ranker.pages, doc.pictures[0])
    rows, columns = places.shape
    width, height = blank.width / columns, blank.height / rows
    asked = np.array(ranker.encode_texts(["who?"], [], quiet)[0].vectors[0])
    assert rows > 1 and columns > 1 and len(set(places.flat)) == places.size
    alone = Reranker(plain.engine_folder(name, place), **FP32)
    for key, weight in alone.runtime.model.named_parameters():
        if key.endswith(MIXING): weight.data.zero_()        # no place looks at another
    [white] = alone.pages.vectors(list(doc.pictures), quiet, None)
    for row, column in ((0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
        made = np.zeros_like(before)
        made[places[row, column]] = asked[0]
        why = heat_map(ranker, "who?", ranker.view(doc), made)
        assert np.unravel_index(why.heat[0].argmax(), why.heat[0].shape) == (row, column)
        red = np.asarray(why.picture(0, strength=1.0)).astype(float)[..., 1]      # white page: where it is red, there is least green
        y, x = np.unravel_index(red.argmin(), red.shape)
        assert (int(y / height), int(x / width)) == (row, column)
        painted = blank.copy()
        ImageDraw.Draw(painted).rectangle((column * width, row * height, (column + 1) * width - 1, (row + 1) * height - 1), fill="black")
        [after] = alone.pages.vectors([as_picture(painted)], quiet, None)
        change = np.abs(after - white).sum(-1)[places]
        assert np.unravel_index(change.argmax(), change.shape) == (row, column)


def test_bounds_of_pixels_are_for_models_that_have_them(place):
    for folder in (plain.chat_folder("smolvlm", place), plain.engine_folder("colsmol", place)):
        with pytest.raises(InputError, match="a size of their own"): Reranker(folder, max_pixels=10_000, **FP32)
