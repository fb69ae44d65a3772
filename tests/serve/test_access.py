"""Laws of access: pages of elsewhere, names that are not ours and wrong keys are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localspec.errors import UsageError
from localspec.serve.access import Access, check_exposure, is_loopback
from localspec.serve.problem import without_folders
from tests.helpers.server import Running, engine_of, replying, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    access = Access(keys=("first-key", "ключ"), origins=("http://page.example",), hosts=("my.box",))
    with serving(engine_of(replying("x")), access) as running:
        yield running


KEY = {"Authorization": "Bearer first-key"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic first-key"}, 401),
        ({"Authorization": "Bearer first-key2"}, 401),
        (KEY, 200),
        ({"Authorization": "bearer first-key"}, 200),
        ({"x-api-key": "first-key"}, 200),
        ({"x-api-key": "ключ".encode().decode("latin-1")}, 200),
    ],
)
def test_a_key_is_needed(server: Running, headers: dict[str, str], status: int) -> None:
    """In either header, whole."""
    answer = server.ask("/v1/models", **headers)
    assert answer.status == status
    assert status == 200 or answer.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(server: Running) -> None:
    """A service manager has none."""
    assert server.ask("/health").status == 200


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "192.168.1.7", "MY.BOX:80", "localhost."]
)
def test_own_names_and_addresses_are_hosts(server: Running, host: str) -> None:
    """With any port."""
    assert server.ask("/v1/models", Host=host, **KEY).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "a b"])
def test_other_names_are_refused(server: Running, host: str) -> None:
    """A page whose name points here (DNS rebinding) sends its own name."""
    assert server.ask("/v1/models", Host=host, **KEY).status in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://page.example.evil", "file://", "http://["])
def test_pages_of_elsewhere_are_refused(server: Running, origin: str) -> None:
    """Whatever else they send, and without a header that would let them read the answer."""
    answer = server.ask("/v1/models", Origin=origin, **KEY)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_given_pages_may_ask(server: Running) -> None:
    """The browser's question before it included; so may the server's own pages."""
    answer = server.ask("/v1/models", Origin="http://page.example", **KEY)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "http://page.example")
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    before = server.ask("/v1/chat/completions", method="OPTIONS", Origin="http://page.example", **asked)
    assert before.status == 200
    assert "authorization" in before.headers["access-control-allow-headers"]
    own = f"127.0.0.1:{server.port}"
    assert server.ask("/v1/models", Origin=f"http://{own}", **KEY).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.com"])
def test_other_addresses_need_a_key(host: str) -> None:
    """Unless the user wants it otherwise."""
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="--api-key-file"):
        check_exposure(host, (), insecure=False)
    check_exposure(host, ("key",), insecure=False)
    check_exposure(host, (), insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_none(host: str) -> None:
    """Only programs of this machine reach it."""
    check_exposure(host, (), insecure=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/models/big.gguf is damaged.", "big.gguf is damaged."),
        ("cannot read ~/models/big.gguf: no", "cannot read big.gguf: no"),
        (r"C:\Users\me\big.gguf is damaged.", "big.gguf is damaged."),
        ("user/repo:Q4_0 is not on disk", "user/repo:Q4_0 is not on disk"),
        ('it must be {"type": ...} or </think>', 'it must be {"type": ...} or </think>'),
    ],
)
def test_messages_hold_no_paths(text: str, shown: str) -> None:
    """Names of files and of models stay."""
    assert without_folders(text) == shown
