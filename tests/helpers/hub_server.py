"""A Hub on this machine with the protocol of ``huggingface_hub``, and faults on request.

Two servers on two ports, as the real one has two hosts: one answers the API and ``resolve``, the other is the "CDN"
that large files are redirected to. Nothing is stored; a repository is a table of names and bytes. ``python
hub_server.py DIR`` serves every ``DIR/user/repo/file`` until it is interrupted, for scripts and for a look at the
screens.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

_PIECE = 16 * 1024


@dataclass(frozen=True)
class Fault:
    """A fault of one request. ``where``: the part of the protocol, ``listing``, ``resolve`` or ``cdn``."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the connection is closed."""
    content: bytes | None = None
    """Sent in place of the file."""
    delay_s: float = 0.0
    """Before the answer."""
    ignores_range: bool = False


@dataclass(frozen=True)
class Request:
    """A received request: ``where`` it went, the file or repository, and the headers that matter."""

    where: str
    name: str
    method: str
    range: str | None
    token: str | None
    agent: str
    at: float


@dataclass
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """Git's name for the bytes."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass
class Repository:
    files: dict[str, Blob] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    tags: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        text = "".join(f"{name} {blob.oid}\n" for name, blob in sorted(self.files.items()))
        return hashlib.sha1(text.encode()).hexdigest()


class HubServer:
    """``with HubServer() as hub: hub.add("user/repo", "m.gguf", b"..."); hub.endpoint``."""

    def __init__(self, rate: float | None = None) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.accepted: set[str] = set()
        """Tokens whose owner has accepted every licence."""
        self.tokens: set[str] = set()
        """Tokens that are valid."""
        self.requests: list[Request] = []
        self.rate = rate
        """Bytes per second of each file, if limited."""
        self._faults: dict[tuple[str, str], list[Fault]] = defaultdict(list)
        self._forever: dict[tuple[str, str], Fault] = {}
        self._lock = Lock()
        self._hub, self._cdn = self._serve(_Hub), self._serve(_Cdn)

    def _serve(self, handler: type[_Handler]) -> ThreadingHTTPServer:
        server = _Server(("127.0.0.1", 0), type(handler.__name__, (handler,), {"owner": self}))
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://localhost:{self._cdn.server_address[1]}"

    def add(self, repo: str, path: str, content: bytes, lfs: bool = True) -> Blob:
        blob = Blob(content, lfs)
        self.repositories.setdefault(repo, Repository()).files[path] = blob
        return blob

    def script(self, where: str, name: str, *faults: Fault) -> None:
        """The next requests for ``name`` (a path, or a repository for ``listing``) go wrong in this order."""
        self._faults[where, name] += faults

    def always(self, where: str, name: str, fault: Fault | None) -> None:
        if fault is None:
            self._forever.pop((where, name), None)
        else:
            self._forever[where, name] = fault

    def fault(self, where: str, name: str) -> Fault:
        with self._lock:
            waiting = self._faults[where, name]
            if waiting:
                return waiting.pop(0)
        return self._forever.get((where, name), Fault())

    def seen(self, where: str, name: str | None = None, method: str = "GET") -> list[Request]:
        """Requests of a kind so far."""
        return [
            r for r in self.requests if r.where == where and r.method == method and (name is None or r.name == name)
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def note(self, where: str, name: str) -> Fault:
        """Remember the request; what is to go wrong with it."""
        self.owner.requests.append(
            Request(
                where, name, self.command, self.headers.get("Range"), self.token,
                self.headers.get("User-Agent") or "", time.monotonic(),
            )
        )  # fmt: skip
        fault = self.owner.fault(where, name)
        if fault.delay_s:
            time.sleep(fault.delay_s)
        return fault

    def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(status, json.dumps({"error": message}).encode(), headers)

    def cut(self) -> None:
        """Hang up."""
        self.close_connection = True
        self.connection.close()

    def send(self, content: bytes, fault: Fault, headers: Mapping[str, str]) -> None:
        """Send a file, or the requested part of it."""
        content = fault.content if fault.content is not None else content
        asked = self.headers.get("Range")
        start, end = _range(asked, len(content)) if asked and not fault.ignores_range else (0, len(content))
        if start >= len(content) and asked and not fault.ignores_range:
            self.reply(416, headers={"Content-Range": f"bytes */{len(content)}"})
            return
        partial = (start, end) != (0, len(content)) or (asked and not fault.ignores_range)
        self.send_response(206 if partial else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command != "HEAD":
            self._send_slowly(memoryview(content)[start:end], fault)

    def _send_slowly(self, content: memoryview, fault: Fault) -> None:
        began, sent = time.monotonic(), 0
        most = len(content) if fault.cut_after is None else min(len(content), fault.cut_after)
        while sent < most:
            piece = content[sent : min(sent + _PIECE, most)]
            self.wfile.write(piece)
            sent += len(piece)
            if self.owner.rate:
                time.sleep(max(0.0, began + sent / self.owner.rate - time.monotonic()))
        if sent < len(content):
            self.cut()


def _range(asked: str, size: int) -> tuple[int, int]:
    start, _, end = asked.removeprefix("bytes=").partition("-")
    return int(start), min(int(end) + 1 if end else size, size)


class _Hub(_Handler):
    """``/api/models/...`` and ``/{repo}/resolve/{revision}/{path}``."""

    def answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api(f"{parts[2]}/{parts[3]}", parts[4:])
        elif parts[:3] == ["api", "resolve-cache", "models"] and len(parts) >= 7:
            self._small(f"{parts[3]}/{parts[4]}", parts[5], "/".join(parts[6:]))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve(f"{parts[0]}/{parts[1]}", parts[3], "/".join(parts[4:]))
        else:
            self.note("elsewhere", self.path)
            self.refuse(404, None, "Not found")

    def _repository(self, name: str) -> Repository | None:
        found = self.owner.repositories.get(name)
        if found is None or (found.private and self.token not in self.owner.accepted):
            # The real one does not tell strangers what exists.
            if self.token in self.owner.tokens:
                self.refuse(404, "RepoNotFound", "Repository not found")
            else:
                self.refuse(401, None, "Invalid username or password.")
            return None
        return found

    def _moved(self, name: str) -> bool:
        new = self.owner.renamed.get(name)
        if new is not None:
            self.reply(307, headers={"Location": self.path.replace(name, new, 1)})
        return new is not None

    def _scripted(self, fault: Fault) -> bool:
        if fault.cut_after is not None:
            self.cut()
        elif fault.status is not None:
            self.reply(fault.status, b'{"error":"scripted"}', fault.headers)
        return fault.cut_after is not None or fault.status is not None

    def _api(self, name: str, rest: list[str]) -> None:
        fault = self.note("listing", name)
        if self._scripted(fault) or self._moved(name):
            return
        repository = self._repository(name)
        if repository is None:
            return
        if len(rest) >= 2 and not self._known(repository, rest[1]):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        elif not rest or rest[0] == "revision":
            self._json(self._info(name, repository))
        elif rest[0] == "tree":
            self._json([_entry(path, blob) for path, blob in repository.files.items()])
        elif rest[0] == "paths-info":
            wanted = _paths(self.body)
            self._json([_entry(path, blob) for path, blob in repository.files.items() if path in wanted])
        else:
            self.refuse(404, None, "Not found")

    def _known(self, repository: Repository, revision: str) -> bool:
        return revision in ("main", repository.commit)

    def _json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _info(self, name: str, repository: Repository) -> dict[str, Any]:
        blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = []
        for path, blob in repository.files.items():
            entry: dict[str, Any] = {"rfilename": path}
            if blobs:
                entry |= {"size": len(blob.content), "blobId": blob.oid}
            if blobs and blob.lfs:
                entry["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": 134}
            siblings.append(entry)
        return {
            "_id": "0", "id": name, "modelId": name, "author": name.partition("/")[0], "sha": repository.commit,
            "private": repository.private, "gated": "manual" if repository.gated else False, "disabled": False,
            "tags": list(repository.tags), "downloads": 0, "likes": 0, "siblings": siblings,
        }  # fmt: skip

    def _file(self, name: str, revision: str, path: str) -> tuple[Repository, Blob] | None:
        repository = self._repository(name)
        if repository is None:
            return None
        if repository.gated and self.token not in self.owner.accepted:
            status = 403 if self.token in self.owner.tokens else 401
            self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
        elif not self._known(repository, revision):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif path not in repository.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            return repository, repository.files[path]
        return None

    def _resolve(self, name: str, revision: str, path: str) -> None:
        fault = self.note("resolve", path)
        if self._scripted(fault) or self._moved(name):
            return
        found = self._file(name, revision, path)
        if found is None:
            return
        repository, blob = found
        headers = {"X-Repo-Commit": repository.commit}
        if blob.lfs:
            where = f"{self.owner.cdn}/{quote(name)}/{blob.sha256}/{quote(path)}?signature=x"
            linked = {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content)), "Location": where}
            self.reply(302, headers=headers | linked)
        else:
            where = f"/api/resolve-cache/models/{quote(name)}/{repository.commit}/{quote(path)}"
            self.reply(307, headers=headers | {"Location": where, "ETag": f'"{blob.etag}"'})

    def _small(self, name: str, revision: str, path: str) -> None:
        fault = self.note("small", path)
        found = None if self._scripted(fault) else self._file(name, revision, path)
        if found is not None:
            repository, blob = found
            self.send(blob.content, fault, {"X-Repo-Commit": repository.commit, "ETag": f'"{blob.etag}"'})


class _Cdn(_Handler):
    """``/{repo}/{sha256}/{path}``; a request with a token is an error."""

    def answer(self) -> None:
        user, repo, sha256, *path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        name = "/".join(path)
        fault = self.note("cdn", name)
        if fault.status is not None:
            self.reply(fault.status, b"scripted", fault.headers)
            return
        blob = self.owner.repositories[f"{user}/{repo}"].files.get(name)
        if blob is None or blob.sha256 != sha256:
            self.reply(403, b"<Error>expired</Error>")
            return
        self.send(blob.content, fault, {"ETag": f'"{blob.sha256}"'})


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
    return entry


def _paths(body: bytes) -> list[str]:
    try:
        found = json.loads(body)["paths"]
    except ValueError:
        found = parse_qs(body.decode())["paths"]
    return [found] if isinstance(found, str) else list(found)


@contextmanager
def serving(folder: Path, rate: float | None = None) -> Iterator[HubServer]:
    """A Hub of the files ``folder/user/repo/...``."""
    with HubServer(rate) as hub:
        for path in sorted(folder.glob("*/*/**/*")):
            user, repo, *rest = path.relative_to(folder).parts
            if path.is_file():
                hub.add(f"{user}/{repo}", "/".join(rest), path.read_bytes(), path.suffix != ".json")
        yield hub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, help="Bytes per second of each file.")
    options = parser.parse_args()
    with serving(options.folder, options.rate) as hub:
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
