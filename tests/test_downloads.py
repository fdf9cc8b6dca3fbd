"Pictures from the web: fetched when the caller says so, within bounds, and never from where a server should not lead"
import base64

import pytest

httpx = pytest.importorskip("httpx")
from servers import Say, Scripted  # noqa: E402

from rerankers import (  # noqa: E402
    InputError, NotFoundError, ProviderTimeoutError, RerankersError, ServerError, UnusableAnswer, UnusablePicture)
from rerankers.pictures import picture_bytes  # noqa: E402
from rerankers.web.downloads import check_peer, download  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


def test_a_picture_of_the_own_network_needs_a_word():
    with Scripted([Say(PNG)]) as server:
        with pytest.raises(InputError, match="no public address"): download(f"{server.url}/a.png")
        assert not server.seen      # refused before any request
        assert picture_bytes(download(f"{server.url}/a.png", local=True)) == PNG
        assert server.seen[0].method == "GET" and server.seen[0].headers["accept"] == "image/*"


@pytest.mark.parametrize("host", ["localhost", "127.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]",
                                  "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a00:7]", "[64:ff9b:1::a00:7]", "[fec0::1]"])
def test_no_spelling_of_this_machine_is_fetched(host):
    def refuse(request): raise AssertionError("a request was sent")
    with pytest.raises(RerankersError, match="no public address|cannot find the host"): download(f"http://{host}/a.png", transport=httpx.MockTransport(refuse))


def test_no_redirect_leads_to_the_own_network():
    "Not even to the server that the caller named"
    with Scripted([Say(status=302, headers={"Location": "/b.png"}), Say(PNG)]) as server:
        with pytest.raises(InputError, match="no public address"): download(f"{server.url}/a.png", local=True)
        assert len(server.seen) == 1


@pytest.mark.parametrize("there", ["ftp://example.org/a.png", "file:///etc/passwd", "http://", "data:image/png;base64,AAAA"])
def test_a_redirect_must_lead_to_the_web(there):
    with Scripted([Say(status=301, headers={"Location": there})]) as server:
        with pytest.raises(RerankersError): download(f"{server.url}/a.png", local=True)
        assert len(server.seen) == 1


def test_redirects_end():
    turns = httpx.MockTransport(lambda request: httpx.Response(302, headers={"location": "/again"}))
    with pytest.raises(NotFoundError, match="more than 3 redirects"): download("http://93.184.216.34/", transport=turns)


def test_the_other_end_of_the_connection_is_looked_at():
    "A name may have another address when the connection is made than when it was looked up"
    class Line:
        def get_extra_info(self, name): return ("10.0.0.7", 80)
    with pytest.raises(InputError, match="10.0.0.7"): check_peer(httpx.Response(200, extensions={"network_stream": Line()}), "http://93.184.216.34/")


@pytest.mark.parametrize(("say", "error", "words"), [
    (Say("<html>not here"), UnusablePicture, "no known type"), (Say(b"%PDF-1.7"), UnusablePicture, "pages"), (Say(status=404), NotFoundError, "answered 404"),
    (Say(status=503), ServerError, "answered 503"), (Say(PNG * 20, forever=True), UnusableAnswer, "larger than 1,000 bytes"),
    (Say(PNG * 20), UnusableAnswer, "larger than 1,000 bytes"),
    (Say(delay=float("inf")), ProviderTimeoutError, "within 0.3 s"), (Say(PNG, cut=9), ServerError, "cannot be fetched"),
    (Say(b"x", headers={"Content-Encoding": "gzip"}), RerankersError, None)], ids=str)
def test_what_goes_wrong_is_told(say, error, words):
    with Scripted([say]) as server:
        with pytest.raises(error, match=words): download(f"{server.url}/a.png", local=True, largest=1000, timeout=0.3)


def test_a_login_is_not_shown():
    with Scripted([Say(status=404)]) as server:
        with pytest.raises(NotFoundError) as told: download(server.url.replace("http://", "http://me:secret@") + "/a.png", local=True)
        assert "secret" not in repr(told.value) and base64.b64decode(server.seen[0].headers["authorization"].split()[1]) == b"me:secret"
