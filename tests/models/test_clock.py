"""Laws of a machine whose clock is wrong, and of certificates that it does not trust."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from localspec.models.hub.errors import describe_failure, is_temporary, requested_wait

HUB = "https://hub.example"
REFUSED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {} (_ssl.c:1000)"


class TransportError(Exception):
    """As the classes of httpx: errors are known by the names of their classes."""


class ConnectError(TransportError):
    """Raised where no connection is made."""


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("certificate is not yet valid", time.strftime("not valid on %Y-%m-%d")),
        ("certificate has expired", "check its clock"),
        ("self-signed certificate", "(certificate verify failed: self-signed certificate)"),
        ("unable to get local issuer certificate", "SSL_CERT_FILE"),
    ],
)
def test_a_certificate_that_is_refused_is_one_sentence(reason: str, words: str) -> None:
    """At once: another attempt would end in the same way. A connection that fails is tried again as before."""
    error = ConnectError(REFUSED.format(reason))
    assert not is_temporary(error, HUB)
    assert words in describe_failure("user/repo", error, HUB)
    assert is_temporary(ConnectError("connection refused"), HUB)


@pytest.mark.parametrize("year", ["1999", "2155"])
def test_a_wait_is_counted_by_the_clock_of_the_server(year: str) -> None:
    """Where it tells the time."""
    error = ConnectError("429")
    headers = {"Retry-After": f"Fri, 01 Jan {year} 00:00:30 GMT", "Date": f"Fri, 01 Jan {year} 00:00:10 GMT"}
    error.response = SimpleNamespace(headers=headers, status_code=429)  # type: ignore[attr-defined]
    assert requested_wait(error) == 20.0
