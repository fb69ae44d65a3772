"""Laws of pictures and sounds in requests, and of pictures that are fetched from the web."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from localspec import load
from localspec.errors import InputError
from localspec.media.source import Image
from localspec.serve.dialects.job import Ask
from localspec.serve.problem import RequestError
from localspec.serve.remote import Fetcher, fetched, is_public
from tests.helpers.media_files import png, wav
from tests.helpers.projectors import write_projector
from tests.helpers.server import HELLO, Running, engine_of, replying, serving

PICTURE = base64.b64encode(png(1)).decode()
URL = f"data:image/png;base64,{PICTURE}"
SOUND = base64.b64encode(wav()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = write_projector(tmp_path_factory.mktemp("projector") / "mmproj.gguf")
    with serving(load("tiny", "none", mmproj=path, device="none")) as running:
        yield running


def chat(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], "temperature": 0, "max_tokens": 12}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


TEXT = {"type": "text", "text": "What is it?"}


def test_every_interface_shows_the_same_picture(server: Running) -> None:
    """And counts its tokens; so does a stream."""
    found = server.ask("/v1/chat/completions", chat(image(URL), TEXT)).json()
    said, tokens = found["choices"][0]["message"]["content"], found["usage"]["prompt_tokens"]
    assert tokens > 80
    part = [{"type": "input_image", "image_url": URL}, {"type": "input_text", "text": "What is it?"}]
    body = {"input": [{"role": "user", "content": part}], "temperature": 0, "max_output_tokens": 12}
    found = server.ask("/v1/responses", body).json()
    assert (found["output"][0]["content"][0]["text"], found["usage"]["input_tokens"]) == (said, tokens)
    blocks = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}, TEXT]
    messages = [{"role": "user", "content": blocks}]
    found = server.ask("/v1/messages", {"messages": messages, "temperature": 0, "max_tokens": 12}).json()
    assert found["content"][0]["text"] == said
    assert server.ask("/v1/messages/count_tokens", {"messages": messages}).json() == {"input_tokens": tokens}
    streamed = server.ask("/v1/chat/completions", {**chat(image(URL), TEXT), "stream": True})
    texts = [
        data["choices"][0]["delta"].get("content") or ""
        for _, data in streamed.events
        if data != "[DONE]" and data["choices"]
    ]
    assert "".join(texts) == said


def test_sounds_and_pictures_of_tools(server: Running) -> None:
    """A result of a tool may be a picture."""
    sound = {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}
    assert server.ask("/v1/chat/completions", chat(sound, TEXT)).json()["usage"]["prompt_tokens"] > 20
    result = {
        "type": "tool_result",
        "tool_use_id": "c",
        "content": [{"type": "image", "source": {"type": "base64", "data": PICTURE}}],
    }
    call = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
    messages = [
        {"role": "user", "content": "Look!"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    assert server.ask("/v1/messages/count_tokens", {"messages": messages}).json()["input_tokens"] > 80


def test_the_model_tells_what_it_reads(server: Running) -> None:
    """The page offers files by that."""
    assert server.ask("/props").json()["modalities"] == {"vision": True, "audio": True}
    with serving(engine_of(replying("x"))) as blind:
        assert blind.ask("/props").json()["modalities"] == {"vision": False, "audio": False}
        answer = blind.ask("/v1/chat/completions", chat(image(URL), TEXT))
        assert answer.status == 400
        assert "reads no pictures" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (image("https://pictures.example/a.png"), "send it as a data URL"),
        (image("file:///etc/passwd"), "data URL"),
        (image("/etc/passwd"), "data URL"),
        (image("data:image/png;base64,AAAA"), "no known format"),
        (image("data:image/gif;base64," + base64.b64encode(b"GIF89a" + b"0" * 40).decode()), "a GIF file"),
        (image(URL[:90]), "damaged"),
        ({"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}}, "a PNG file; give WAV"),
        ({"type": "video_url", "video_url": {"url": URL}}, "only text is"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request(server: Running, part: Any, says: str) -> None:
    """With a sentence, before a stream begins."""
    answer = server.ask("/v1/chat/completions", {**chat(part, TEXT), "stream": True})
    assert answer.status == 400
    assert says in answer.json()["error"]["message"]


@pytest.fixture
def web() -> Iterator[Callable[[str], str]]:
    """A web server with a picture at ``/a.png``, redirects, a long file and a slow one; returns addresses there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = {
                "/moved": "/a.png",
                "/circle": "/circle",
                "/inside": "http://127.0.0.1:1/a.png",
                "/file": "file:///x",
            }
            self.send_response(302 if self.path in moved else 200 if self.path != "/gone" else 404)
            if self.path in moved:
                self.send_header("Location", moved[self.path])
            self.end_headers()
            if self.path == "/a.png":
                self.wfile.write(png(1))
            elif self.path == "/long":
                self.wfile.write(png(1) + b"\0" * 9999)
            elif self.path == "/text":
                self.wfile.write(b"<html>")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield lambda path: f"http://pictures.example:{server.server_port}{path}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher(**options: Any) -> Fetcher:
    """One for which the address of the test's server is public, and no other."""
    names = {"pictures.example": ["127.0.0.1"]}
    places = {"resolve": lambda host, port: names.get(host, [host]), "allowed": lambda address: address == "127.0.0.1"}
    return Fetcher(**{**places, "most": 9000, **options})


def test_a_picture_is_fetched(web: Callable[[str], str]) -> None:
    """Also behind a redirect; the request then holds it."""
    for path in ("/a.png", "/moved"):
        assert fetcher()(web(path)).data == png(1)
    ask = Ask(([{"role": "user", "content": [image(web("/a.png")), TEXT]}, *HELLO], "a text"), {})
    found = fetched(ask, fetcher()).prompts
    assert isinstance(found[0][0]["content"][0], Image)  # type: ignore[index]
    assert found[0][1:] == HELLO
    assert found[1] == "a text"
    with pytest.raises(RequestError, match="data URL"):
        fetched(ask, None)


@pytest.mark.parametrize(
    ("path", "says"),
    [("/gone", "answers 404"), ("/circle", "redirects more than 3 times"), ("/file", "must begin with https"),
     ("/long", "more than 9000 bytes"), ("/text", "no known format")],
)  # fmt: skip
def test_what_is_no_picture_is_refused(web: Callable[[str], str], path: str, says: str) -> None:
    """By its address."""
    with pytest.raises(InputError, match=says):
        fetcher()(web(path))


def test_private_addresses_are_never_reached(web: Callable[[str], str]) -> None:
    """Neither by a name that stands for one among others, nor behind a redirect."""
    inside = fetcher(resolve=lambda host, port: ["127.0.0.1"] if host == "pictures.example" else ["10.0.0.1"])
    with pytest.raises(InputError, match="not at a public address"):
        inside(web("/inside"))
    for found in (["127.0.0.1", "10.0.0.1"], ["10.0.0.1"], []):
        with pytest.raises(InputError, match="not at a public address"):
            fetcher(resolve=lambda host, port, found=found: found)(web("/a.png"))
    for url in (
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://127.0.0.1/",
        "http://0x7f000001/",
        "http://2130706433/",
    ):
        with pytest.raises(InputError, match=r"public|cannot be fetched"):
            Fetcher()(url)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.9", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1", "ff02::1", "::"],
)  # fmt: skip
def test_special_addresses_are_private(address: str) -> None:
    """Of this machine, of private networks, and those that stand for them."""
    assert not is_public(address)
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


def test_logged_prompts_hold_no_pictures(server: Running) -> None:
    """Their kinds stand for them."""
    from localspec.serve.log import line

    server.ask("/v1/chat/completions", chat(image(URL), TEXT))
    job, problem = server.jobs[-1]
    assert "(image_url)" in str(line(job, problem, texts=True))
    assert PICTURE not in str(line(job, problem, texts=True))
