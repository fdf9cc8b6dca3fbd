"Pictures that leave the machine: what each service and chat model is sent, and what none is"
import asyncio
import json
from base64 import b64encode

import pytest

httpx = pytest.importorskip("httpx")

from servers import Scripted, chat, need_litellm  # noqa: E402

from rerankers import Cascade, Document, InputError, Reranker, UnusablePicture  # noqa: E402
from rerankers.backends.api import PROVIDERS  # noqa: E402
from rerankers.web.providers import Sight  # noqa: E402

PNG, JPEG = b"\x89PNG\r\n\x1a\n of a page", b"\xff\xd8\xff of a photograph"
BARE = b64encode(PNG).decode()
URL, WEB = f"data:image/png;base64,{BARE}", "https://example.org/2.png"


def part(address): return {"type": "image_url", "image_url": {"url": address}}


def elastic(kind, form, value): return {"type": kind, "format": form, "value": value}


QWEN, TEXT = "Qwen/Qwen3-VL-Reranker-2B", {"type": "text", "text": "a text"}
# row -> model, the list in its answer, and what is sent of a text, of a file, of an address, and of a picture as a query (None: refused)
SHAPES = {
    "jina": ("jina-reranker-m0", "results", {"text": "a text"}, {"image": BARE}, {"image": WEB}, {"image": BARE}),
    "vllm": (QWEN, "results", {"content": [TEXT]}, *({"content": [part(sent)]} for sent in (URL, WEB, URL))),
    "sglang": (QWEN, "", [TEXT], [part(URL)], [part(WEB)], [part(URL)]),
    "nim": ("nvidia/llama-nemotron-rerank-vl-1b-v2", "rankings", {"text": "a text"}, {"image": URL}, {"image": WEB}, None),
    "nvidia": ("nvidia/llama-nemotron-rerank-vl-1b-v2", "rankings", {"text": "a text"}, {"image": URL}, {"image": WEB}, None),
    "elasticsearch": ("my-vl-endpoint", "rerank", elastic("text", "text", "a text"), elastic("image", "base64", URL),
                      elastic("image", "url", WEB), elastic("image", "base64", URL)),
    "opensearch": ("ops-mm-reranker-001", "result.scores", {"text": "a text"}, {"image": BARE}, {"image": WEB}, {"image": BARE})}
LISTS = ("documents", "passages", "input", "docs")
SEES = [name for name, row in PROVIDERS.items() if row.sight]


def listed(body): return next(body[name] for name in LISTS if name in body)


def server_of(where):
    "A server on loopback that likes the last document best"
    def answer(seen):
        found = [{"index": i, **dict.fromkeys(("relevance_score", "score", "logit"), i / 10)} for i in range(len(listed(seen.json)))]
        for name in reversed(where.split(".") if where else []): found = {name: found}
        return found
    return Scripted(answer)


def test_every_row_that_sees_is_here(): assert set(SEES) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_each_service_is_sent_its_own_shape(name, tmp_path):
    model, where, text, file, web, query = SHAPES[name]
    (tmp_path / "secret name.png").write_bytes(PNG)
    docs = ["a text", Document(image=tmp_path / "secret name.png"), Document(image=WEB), Document(image=tmp_path / "secret name.png", doc_id="again"), ""]
    with server_of(where) as server:
        ranker = Reranker(model, model_type=name, api_key="key-1", base_url=server.url)
        found = [ranker.rank("a sunset", docs), asyncio.run(ranker.rank_async("a sunset", docs))]
        assert [r.doc_id for r in found[0]] == [2, 1, "again", 0, 4] and found[0].usage.calls == 1
        assert listed(server.seen[0].json) == listed(server.seen[1].json) == [text, file, web]
        assert not any(b"secret" in seen.body for seen in server.seen)
        if query is None:
            with pytest.raises(InputError, match="queries in words"): ranker.rank(Document(image=PNG), docs)
            return
        ranker.rank(Document(image=PNG), docs)
        assert server.seen[-1].json["query"] == query


@pytest.mark.parametrize("name", SHAPES)
def test_a_text_with_a_picture_goes_to_those_that_take_both(name):
    model, where, *_ = SHAPES[name]
    with server_of(where) as server:
        ranker = Reranker(model, model_type=name, api_key="key-1", base_url=server.url)
        both = Document("a caption", image=PNG, doc_id="both")
        if PROVIDERS[name].sight.whole == "{part}":
            with pytest.raises(UnusablePicture, match="document 'both': .*takes a text, or one picture"): ranker.rank("q", [both])
            assert not server.seen
            ranker = Reranker(model, model_type=name, api_key="key-1", base_url=server.url, images=False)
        ranker.rank("q", [both])
        assert "a caption" in json.dumps(server.seen[-1].json) and (BARE in server.seen[-1].body.decode()) == ranker.sees


def test_a_service_of_texts_refuses_before_any_request():
    for name in set(PROVIDERS) - set(SEES):
        with server_of("results") as server:
            where = dict(model_type=name, api_key="key-1", base_url=server.url)
            with pytest.raises(InputError, match="takes texts only"): Reranker("my-model", **where, images=True)
            ranker = Reranker("my-vl-model", **where)
            for docs in ([Document(image=PNG)], ["a", Document(image=WEB)]):
                with pytest.raises(InputError, match="only reads"): ranker.rank("q", docs)
            with pytest.raises(InputError, match="queries in words"): ranker.rank(Document(image=PNG), ["a"])
            assert not server.seen
    with pytest.raises(InputError, match="only reads"): Reranker("bge-reranker-v2-m3", model_type="vllm").rank("q", [Document(image=PNG)])


def test_texts_alone_are_sent_as_ever():
    with server_of("results") as server:
        Reranker("Qwen/Qwen3-VL-Reranker-2B", model_type="vllm", base_url=server.url).rank("q", ["a", "b"])
        assert server.seen[0].json["documents"] == ["a", "b"]


def test_requests_stay_below_the_bytes_of_a_service():
    row = PROVIDERS["vllm"]
    small = type(row)(**{**vars(row), "sight": Sight(**{**vars(row.sight), "bytes": 400})})
    pages = [Document(image=b"\x89PNG\r\n\x1a\n" + bytes([i]) * 90, doc_id=i) for i in range(7)]
    with server_of("results") as server:
        ranker = Reranker("a-vl-model", api_provider=small, base_url=server.url)
        results = ranker.rank("q", [*pages, "a text"])
        assert len(results) == 8 and sorted(len(seen.json["documents"]) for seen in server.seen) == [2, 3, 3]
        with pytest.raises(UnusablePicture, match="document 'large': .*larger than the 400 bytes"):
            ranker.rank("q", [*pages, Document(image=b"GIF8" + b"0" * 400, doc_id="large")])


def test_what_is_no_picture_is_not_sent(tmp_path):
    (tmp_path / "keys.txt").write_text("a password")
    with server_of("results") as server:
        ranker = Reranker("a-vl-model", model_type="vllm", base_url=server.url)
        for bad in (tmp_path / "keys.txt", b"%PDF-1.7", "no such file.png", tmp_path):
            with pytest.raises(UnusablePicture, match="document 'odd'"): ranker.rank("q", ["a", Document(image=bad, doc_id="odd")])
        assert not server.seen


# ---- chat models

SAYS = {"rankgpt": "[3] > [2] > [1]", "setwise": "B", "prp": "A", "llm-graded": "2", "llm-yes-no": "yes",
        "llm-relevance-filter": "".join(f"<document id={i}><explanation>w</explanation><answer>{v}</answer></document>"
                                        for i, v in enumerate(("NOT_RELEVANT", "RELEVANT", "RELEVANT")))}
PAGES = ["a text about [3] cats", Document(image=PNG, doc_id="page"), Document("a caption", image=[WEB, JPEG], doc_id="both")]


def shown(server):
    "All parts that are pictures, in the order in which they were sent"
    contents = [m["content"] for seen in server.seen for m in seen.json["messages"]]
    return [p["image_url"]["url"] for content in contents if isinstance(content, list) for p in content if p["type"] == "image_url"]


@pytest.mark.parametrize("word", SAYS)
def test_chat_models_that_see_are_shown_pictures(word):
    with Scripted(lambda seen: chat(SAYS[word], tokens=(1000, 10))) as server:
        ranker = Reranker("gpt-4.1-mini", model_type=word, api_key="key-1", base_url=server.url, prices=(1.0, 2.0))
        results = ranker.rank("which is it?", PAGES)
        assert len(results) == 3 and set(shown(server)) == {URL, WEB, f"data:image/jpeg;base64,{b64encode(JPEG).decode()}"}
        assert results.usage.calls == len(server.seen) and results.usage.cost == pytest.approx(len(server.seen) * 1020 / 1e6)
        contents = [m["content"] for seen in server.seen for m in seen.json["messages"]]
        assert all(isinstance(content, str) or all(set(p) == {"type", p["type"]} for p in content) for content in contents)
        assert "\ue000" not in json.dumps([seen.json for seen in server.seen], ensure_ascii=False)


def test_a_picture_stands_where_its_document_is():
    with Scripted(lambda seen: chat("[2] > [1] > [3]")) as server:
        Reranker("gpt-4.1", model_type="rankgpt", recipe="rankgpt-single", api_key="key-1", base_url=server.url).rank("which?", PAGES)
        parts = server.seen[0].json["messages"][-1]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url", "text", "image_url", "image_url", "text"]
    assert parts[0]["text"].endswith("[1] a text about (3) cats\n[2] ") and parts[2]["text"] == "\n[3] " and parts[5]["text"].startswith(" a caption\n")


def test_characters_of_texts_stay_what_they_are():
    odd = "\ue000 and \ue001"
    with Scripted(lambda seen: chat("2")) as server:
        Reranker("gpt-4.1", model_type="llm-graded", api_key="key-1", base_url=server.url).rank(odd, [odd, Document(image=PNG)])
        said = [json.dumps(seen.json, ensure_ascii=False) for seen in server.seen]
    assert sorted(text.count(odd) for text in said) == [1, 2] and shown(server) == [URL]


def test_a_chat_model_that_reads_refuses():
    with Scripted(lambda seen: chat("[1]")) as server:
        where = dict(model_type="rankgpt", api_key="key-1", base_url=server.url)
        for options in ({}, {"images": False}):
            with pytest.raises(InputError, match="document 1 is a picture without a text, and .* only reads"):
                Reranker("deepseek-chat" if not options else "gpt-4.1", **where, **options).rank("q", PAGES)
        assert not server.seen
        with pytest.raises(InputError, match="one text"): Reranker("gpt-4.1", model_type="rank1", api_key="key-1", base_url=server.url, images=True)
        with pytest.raises(InputError, match="the query is a picture, and .* takes queries in words: .* such as 'clip'"):
            Reranker("gpt-4.1", **where).rank(Document("like this?", image=PNG), PAGES)
        assert not server.seen
        Reranker("gpt-4.1", **where, images=False, ocr=lambda image: "words").rank("q", ["a", "b"])
        with pytest.raises(UnusablePicture, match="document 'odd'"): Reranker("gpt-4.1", **where).rank("q", ["a", Document(image=b"text", doc_id="odd")])
    asked = []
    def answer(messages): return asked.append(messages) or "[2] > [1]"
    assert Reranker("mine", model_type="rankgpt", client=answer, images=True).rank("q", PAGES[:2])[0].doc_id == "page"
    assert any(part(URL) in m["content"] for m in asked[0] if isinstance(m["content"], list))


def test_litellm_passes_pictures_on():
    need_litellm()
    with Scripted(lambda seen: chat("[2] > [1]")) as server:
        ranker = Reranker("openai/gpt-4.1-mini", model_type="rankgpt", client="litellm", api_key="key-1", base_url=f"{server.url}/v1")
        assert ranker.sees and ranker.rank("q", PAGES[:2])[0].doc_id == "page" and shown(server) == [URL]


def test_readers_and_seers_work_together():
    pytest.importorskip("PIL.Image")
    from PIL import Image
    with server_of("results") as server:
        eye = Reranker("a-vl-model", model_type="vllm", base_url=server.url)
        results = Cascade(Reranker("bm25", ocr=lambda image: "ferry" if image.size == (9, 9) else "tram"), eye).rank(
            "ferry", [Document(image=Image.new("L", (9, 8))), Document(image=Image.new("L", (9, 9)))])
        assert [r.document.words for r in results] == ["ferry", "tram"]     # the server likes the last one best
        (seen,) = server.seen
        assert [len(d["content"]) for d in seen.json["documents"]] == [1, 1] and "ferry" not in json.dumps(seen.json["documents"])
