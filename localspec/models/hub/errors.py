"""What went wrong with a request, whether it may pass, and the sentence for it. Pure.

Errors are told apart by the names of their classes: ``huggingface_hub`` uses httpx or its successor, by version.
"""

from __future__ import annotations

import email.utils
import re
import time

GOES_ON = "then run the same command: it goes on where it stopped"
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class EndedEarlyError(Exception):
    """Fewer bytes came than the file has, without a word."""


def refusal(what: str, trouble: Exception, endpoint: str) -> str:
    """What the Hub's refusal to send ``what`` (user/repo, or a file there) means, and the next step."""
    repo, kinds, status = "/".join(what.split("/")[:2]), _kinds(trouble), status_of(trouble)
    login = "log in with `hf auth login`" if status == 401 else "make sure that `hf auth whoami` is you"
    sentences = (
        (
            "GatedRepoError" in kinds,
            f"{repo} is for those who accept its licence: accept it at {endpoint}/{repo}, {login}, {GOES_ON}.",
        ),
        ("DisabledRepoError" in kinds, f"the Hub has disabled {repo}; choose another repository."),
        (
            status == 401 and "credentials" in str(trouble).lower(),
            "the Hub does not accept your token; log in again with `hf auth login`.",
        ),
        (
            "RepositoryNotFoundError" in kinds or status == 401,
            f"the Hub has no model {repo} that you may see; check the name, or log in with `hf auth login` if it is "
            "private.",
        ),
        (status == 404, f"{what} is not on the Hub (any more); run the command again, and look at {endpoint}/{repo}."),
        ("HFValidationError" in kinds, f"{repo!r} cannot be the name of a repository; names look like user/repo."),
        (status is not None, f"the Hub refused {what} ({reason(trouble)}); look at {endpoint}/{repo}."),
        (True, f"{endpoint} did not answer as the Hub does ({reason(trouble)}); check HF_ENDPOINT."),
    )
    return next(text for applies, text in sentences if applies)


def is_trouble(error: Exception) -> bool:
    """Whether an error comes from the request or its answer. The HTTP library is httpx or its successor, by version."""
    names = _kinds(error)
    known = {"TransportError", "HTTPError", "HfHubHTTPError", "InvalidURL", "TooManyRedirects", "OfflineModeIsEnabled"}
    return isinstance(error, (ValueError, EndedEarlyError)) or bool(names & known)


def may_pass(trouble: BaseException, endpoint: str) -> bool:
    """Whether another attempt may succeed."""
    names = _kinds(trouble)
    if "UnsupportedProtocol" in names or "LocalProtocolError" in names:
        return False
    status = status_of(trouble)
    if status is None:
        return "TransportError" in names or "EndedEarlyError" in names
    # A storage host refuses an address that has expired: the next attempt asks the Hub for a new one.
    elsewhere = not str(getattr(trouble, "response", None) and trouble.response.url).startswith(f"{endpoint}/")  # type: ignore[attr-defined]
    return status in _AGAIN or (status == 403 and elsewhere)


def _kinds(trouble: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(trouble).__mro__}


def status_of(trouble: BaseException) -> int | None:
    """The status of the answer that is the trouble, if it is one."""
    code = getattr(getattr(trouble, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def asked_wait(trouble: BaseException) -> float | None:
    """Seconds of ``Retry-After`` (a number or a date), or of the Hub's ``RateLimit``."""
    headers = getattr(getattr(trouble, "response", None), "headers", None) or {}
    text = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
        return max(0.0, when.timestamp() - time.time())
    except (TypeError, ValueError):
        pass
    limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit") or "")
    return float(limit[1]) if limit and status_of(trouble) == 429 else None


def reason(trouble: BaseException) -> str:
    """A few words of what went wrong."""
    status = status_of(trouble)
    if status is not None:
        return {429: "it answers 429, too many requests"}.get(status, f"it answers {status}")
    name = type(trouble).__name__
    words = {
        "ConnectTimeout": "no connection within the time limit",
        "ReadTimeout": "nothing came within the time limit",
        "RemoteProtocolError": "the connection was cut",
        "ReadError": "the connection was cut",
        "EndedEarlyError": "the connection was cut",
    }
    return words.get(name) or " ".join(str(trouble).split()) or name
