"""Classify errors of requests to the Hub, and word the message.

Errors are recognised by the names of their classes: ``huggingface_hub`` uses httpx or its successor, by version.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

#: End of messages about a download that was interrupted.
CONTINUES = "then run the same command: it goes on where it stopped"
#: HTTP statuses after which a later attempt may succeed.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
#: OpenSSL's word for a certificate that it does not accept.
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
#: Classes of errors that a request raises.
_REQUEST_ERRORS = {
    "TransportError", "HTTPError", "HfHubHTTPError", "InvalidURL", "TooManyRedirects", "OfflineModeIsEnabled",
}  # fmt: skip


class EndedEarlyError(Exception):
    """The connection was closed before the whole file came."""


def describe_failure(what: str, error: Exception, endpoint: str) -> str:
    """The reason why the Hub did not send ``what`` (user/repo, or a file there), and the next step."""
    repo, kinds, status = "/".join(what.split("/")[:2]), _class_names(error), status_of(error)
    login = "log in with `hf auth login`" if status == 401 else "make sure that `hf auth whoami` is you"
    sentences = (
        (
            "GatedRepoError" in kinds,
            f"{repo} is for those who accept its licence: accept it at {endpoint}/{repo}, {login}, {CONTINUES}.",
        ),
        ("DisabledRepoError" in kinds, f"the Hub has disabled {repo}; choose another repository."),
        (
            status == 401 and "credentials" in str(error).lower(),
            "the Hub does not accept your token; log in again with `hf auth login`.",
        ),
        (
            "RepositoryNotFoundError" in kinds or status == 401,
            f"the Hub has no model {repo} that you may see; check the name, or log in with `hf auth login` if it is "
            "private.",
        ),
        (status == 404, f"{what} is not on the Hub (any more); run the command again, and look at {endpoint}/{repo}."),
        ("HFValidationError" in kinds, f"{repo!r} cannot be the name of a repository; names look like user/repo."),
        (status is not None, f"the Hub refused {what} ({short_reason(error)}); look at {endpoint}/{repo}."),
        (_CERTIFICATE in str(error), _about_certificate(str(error), endpoint)),
        (True, f"{endpoint} did not answer as the Hub does ({short_reason(error)}); check HF_ENDPOINT."),
    )
    return next(text for applies, text in sentences if applies)


def _about_certificate(error: str, endpoint: str) -> str:
    """A sentence about a certificate that OpenSSL refuses with ``error``."""
    if re.search("not yet valid|has expired", error):
        today = time.strftime("%Y-%m-%d")
        return (
            f"the certificate of {endpoint} is not valid on {today}, the date of this machine; check its clock, "
            f"{CONTINUES}."
        )
    reason = error.partition(f"{_CERTIFICATE}] ")[2].partition(" (_ssl")[0]
    return (
        f"this machine does not trust the certificate of {endpoint} ({reason}); where a proxy signs connections, name "
        f"the file of its certificate in SSL_CERT_FILE, {CONTINUES}."
    )


def is_request_error(error: Exception) -> bool:
    """True if ``error`` comes from a request or its answer."""
    return isinstance(error, (ValueError, EndedEarlyError)) or bool(_class_names(error) & _REQUEST_ERRORS)


def is_temporary(error: BaseException, endpoint: str) -> bool:
    """True if a later attempt may succeed."""
    names = _class_names(error)
    if names & {"UnsupportedProtocol", "LocalProtocolError"} or _CERTIFICATE in str(error):
        return False
    status = status_of(error)
    if status is None:
        return "TransportError" in names or "EndedEarlyError" in names
    # A storage host answers 403 to an address that has expired. The next attempt gets a new address from the Hub.
    response = getattr(error, "response", None)
    from_storage = not str(response and response.url).startswith(f"{endpoint}/")
    return status in _TEMPORARY or (status == 403 and from_storage)


def status_of(error: BaseException) -> int | None:
    """HTTP status of the answer that caused the error, if there was an answer."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def requested_wait(error: BaseException) -> float | None:
    """Seconds in the header ``Retry-After`` (a number or a date), or in the Hub's ``RateLimit``."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
        return max(0.0, when - _now(headers))
    except (TypeError, ValueError):
        pass
    limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit") or "")
    return float(limit[1]) if limit and status_of(error) == 429 else None


def _now(headers: Mapping[str, str]) -> float:
    """The server's time, because this machine's clock may be wrong; its own where the server does not tell."""
    try:
        return email.utils.parsedate_to_datetime(headers.get("Date") or "").timestamp()
    except (TypeError, ValueError):
        return time.time()


def short_reason(error: BaseException) -> str:
    """The reason in a few words."""
    status = status_of(error)
    if status is not None:
        return {429: "it answers 429, too many requests"}.get(status, f"it answers {status}")
    name = type(error).__name__
    texts = {
        "ConnectTimeout": "no connection within the time limit",
        "ReadTimeout": "nothing came within the time limit",
        "RemoteProtocolError": "the connection was cut",
        "ReadError": "the connection was cut",
        "EndedEarlyError": "the connection was cut",
    }
    return texts.get(name) or " ".join(str(error).split()) or name


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
