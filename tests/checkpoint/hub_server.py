"""A hub on this machine: enough of the HTTP interface for the real client to download from it.

Weights are large objects, as on the real hub: a request for one is sent on to another address, and
its hash is a SHA-256. On command the server misbehaves in the ways that networks do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_CHUNK = 4096


@dataclasses.dataclass
class Fault:
    """What goes wrong when a file's contents are sent, the next ``times`` times.

    Attributes:
        status: Answer with this status instead.
        cut: Close the connection after so many bytes of the body.
        flip: Change the byte at this place of the file.
        grow: Send so many bytes more than there are.
        delay: Wait so many seconds before each 4 KiB, or before that status.
        whole: Ignore the range asked for.
        times: How often; None for always.
    """

    status: int | None = None
    cut: int | None = None
    flip: int | None = None
    grow: int = 0
    delay: float = 0.0
    whole: bool = False
    times: int | None = 1


class Hub:
    """Repositories by id, each a list of commits; every request is noted.

    Attributes:
        repositories: Id to {commit: {file name: contents}}; the last commit is ``main``.
        gated: Ids whose conditions were not accepted.
        failing: Status to answer with, by the kind of request ("info", "tree", "head", "get").
        lies: Sizes listed wrongly, by file name.
        faults: What goes wrong with a file's contents, by file name; "*" is any file.
        hashes: Whether the listings state hashes, as the real hub's do.
        stalled: Set when no more contents are sent, as ``stall`` asked.
        sent: Bytes of contents sent, by file name.
        requests: Method and path of every request.
        authorizations: Every Authorization header received, with the path.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.failing: dict[str, int] = {}
        self.lies: dict[str, int] = {}
        self.faults: dict[str, Fault] = {}
        self.hashes = True
        self.stalled = threading.Event()
        self.sent: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorizations: list[tuple[str, str]] = []
        self.endpoint = ""
        self.cdn = ""
        self._stall_at: int | None = None
        self._lock = threading.Lock()

    def add(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit; returns its hash."""
        commits = self.repositories.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository}{len(commits)}".encode()).hexdigest()
        commits[commit] = files
        return commit

    def fetched(self) -> set[str]:
        """Names of the files whose contents were asked for."""
        return {
            path.rpartition("/")[2]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        }

    def revisions(self) -> set[str]:
        """Revisions that files were asked for at."""
        found = set()
        for _, path in self.requests:
            for mark in ("/resolve/", "/tree/"):
                if mark in path:
                    found.add(path.partition(mark)[2].partition("/")[0])
        return found

    def fault(self, name: str) -> Fault:
        """What goes wrong now with a file."""
        with self._lock:
            for key in (name, "*"):
                found = self.faults.get(key)
                if found is None or found.times == 0:
                    continue
                if found.times is not None:
                    found.times -= 1
                return found
        return Fault()

    def stall(self, after: int | None) -> None:
        """Send contents again; stop after so many bytes from now on, or never."""
        with self._lock:
            self._stall_at = None if after is None else sum(self.sent.values()) + after
            self.stalled.clear()

    def may_send(self, name: str, count: int) -> int:
        """How many of these bytes go out before the server stalls."""
        with self._lock:
            if self._stall_at is not None:
                left = self._stall_at - sum(self.sent.values())
                if left < count:
                    self.stalled.set()
                    count = max(left, 0)
            self.sent[name] = self.sent.get(name, 0) + count
            return count

    def answer(self, path: str, query: str = "") -> tuple[int, dict[str, str], bytes, str]:
        """Status, headers, body and kind of request for a path."""
        if path.startswith("/api/v1/models/"):
            return self._modelscope(path.removeprefix("/api/v1/models/"), dict(parse_qsl(query)))
        if path.startswith("/cdn/"):
            _, _, owner, name, commit, *rest = path.split("/")
            return 200, {}, self.repositories[f"{owner}/{name}"][commit]["/".join(rest)], "file"
        api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        repository = f"{owner}/{name}"
        kind = "file" if not api else "tree" if rest[:1] == ["tree"] else "info"
        if kind in self.failing:
            return self.failing[kind], {}, b"{}", kind
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}", kind
        commits = self.repositories.get(repository)
        if commits is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}", kind
        revision = rest[1] if len(rest) > 1 else "main"
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}", kind
        files = commits[commit]
        if kind != "file":
            value = self._listing(repository, commit, files, kind)
            return 200, {"Content-Type": "application/json"}, json.dumps(value).encode(), kind
        file = "/".join(rest[2:])
        body = files.get(file)
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b"", kind
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_sha1(body)}"'}
        if not is_large(file):
            return 200, headers, body, kind
        linked = {
            "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Linked-Size": str(len(body)),
            "Location": f"{self.cdn}/cdn/{repository}/{commit}/{file}",
        }
        return 302, headers | linked, b"", "redirect"

    def _modelscope(
        self, path: str, query: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes, str]:
        """The same repositories as ModelScope offers them; its main branch is ``master``."""
        owner, name, *rest = path.split("/")
        commits = self.repositories.get(f"{owner}/{name}")
        kind = "file" if rest == ["repo"] else "tree"
        if commits is None or kind in self.failing:
            return self.failing.get(kind, 404), {}, b'{"Code": 404, "Success": false}', kind
        revision = query.get("Revision", "master")
        files = commits[list(commits)[-1] if revision == "master" else revision]
        if kind == "file":
            body = files[query["FilePath"]]
            return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body, kind
        entries = [
            {
                "Path": file,
                "Name": file,
                "Type": "blob",
                "Size": self.lies.get(file, len(body)),
                "Sha256": hashlib.sha256(body).hexdigest(),
            }
            for file, body in files.items()
        ]
        value = {"Code": 200, "Success": True, "Data": {"Files": entries}}
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode(), kind

    def _listing(self, repository: str, commit: str, files: dict[str, bytes], kind: str) -> Any:
        entries = []
        for name, body in files.items():
            size = self.lies.get(name, len(body))
            entry: dict[str, Any] = {"size": size}
            lfs: dict[str, Any] = {"size": size, "pointerSize": 134}
            sha256 = hashlib.sha256(body).hexdigest()
            if kind == "tree":
                entry |= {"type": "file", "path": name, "oid": _git_sha1(body)}
                lfs["oid"] = sha256
            else:
                entry |= {"rfilename": name}
                lfs["sha256"] = sha256
                if self.hashes:
                    entry["blobId"] = _git_sha1(body)
            if is_large(name) and self.hashes:
                entry["lfs"] = lfs
            entries.append(entry)
        if kind == "tree":
            return entries
        return {
            "_id": "1",
            "id": repository,
            "modelId": repository,
            "sha": commit,
            "private": False,
            "disabled": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": entries,
        }


def is_large(name: str) -> bool:
    """Whether a file is kept as a large object."""
    return name.endswith((".safetensors", ".bin", ".h5", ".pt"))


def _git_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            path, query = urlsplit(self.path).path, urlsplit(self.path).query
            asked = dict(parse_qsl(query)).get("FilePath")
            hub.requests.append((self.command, f"{path}/resolve/{asked}" if asked else path))
            if "Authorization" in self.headers:
                hub.authorizations.append((path, self.headers["Authorization"]))
            status, headers, body, kind = hub.answer(path, query)
            if kind in ("file", "redirect") and self.command.lower() in hub.failing:
                status, headers, body = hub.failing[self.command.lower()], {}, b""
            if kind == "file" and self.command == "GET" and status == 200:
                self._contents(asked or path.rpartition("/")[2], headers, body)
                return
            self._head(status, headers | {"Content-Length": str(len(body))})
            if self.command == "GET":
                self.wfile.write(body)

        def _contents(self, name: str, headers: dict[str, str], body: bytes) -> None:
            fault = hub.fault(name)
            if fault.status is not None:
                time.sleep(fault.delay)
                self._head(fault.status, {"Content-Length": "0"})
                return
            if fault.flip is not None:
                changed = bytearray(body)
                changed[fault.flip] ^= 0x40
                body = bytes(changed)
            body += b"\0" * fault.grow
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            status, start, end = 200, 0, len(body)
            if asked and not fault.whole:
                status, start = 206, int(asked[1])
                end = min(end, int(asked[2]) + 1) if asked[2] else end
                headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
            self._head(status, headers | {"Content-Length": str(end - start)})
            left = end - start if fault.cut is None else fault.cut
            for at in range(start, end, _CHUNK):
                time.sleep(fault.delay)
                piece = body[at : min(at + _CHUNK, at + left)]
                self.wfile.write(piece[: hub.may_send(name, len(piece))])
                self.wfile.flush()
                left -= len(piece)
                while hub.stalled.is_set():
                    time.sleep(0.01)
                if left <= 0:
                    break
            if fault.cut is not None:
                self.close_connection = True

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = respond
        do_HEAD = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    hub.cdn = f"http://localhost:{server.server_port}"
    try:
        yield hub
    finally:
        hub.stall(None)
        server.shutdown()
        thread.join(10)
        server.server_close()
