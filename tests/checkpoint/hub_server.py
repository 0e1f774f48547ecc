"""A hub on this machine: enough of the HTTP interface for the real client to download from it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Hub:
    """Repositories by id, each a list of commits; every request is noted.

    Attributes:
        repositories: Id to {commit: {file name: contents}}; the last commit is ``main``.
        gated: Ids whose conditions were not accepted.
        failing: Status to answer with, by the kind of request ("info", "tree", "head", "get").
        lies: Sizes listed wrongly, by file name.
        requests: Method and path of every request.
        authorizations: Every Authorization header received.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.failing: dict[str, int] = {}
        self.lies: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorizations: list[str] = []
        self.endpoint = ""

    def add(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit; returns its hash."""
        commits = self.repositories.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository}{len(commits)}".encode()).hexdigest()
        commits[commit] = files
        return commit

    def fetched(self) -> set[str]:
        """Names of the files whose contents were sent."""
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

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes, str]:
        """Status, headers, body and kind of request for a path."""
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
            value = _listing(repository, commit, files, self.lies, kind)
            return 200, {"Content-Type": "application/json"}, json.dumps(value).encode(), kind
        body = files.get("/".join(rest[2:]))
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b"", kind
        etag = hashlib.sha256(body).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, body, kind


def _listing(
    repository: str, commit: str, files: dict[str, bytes], lies: dict[str, int], kind: str
) -> Any:
    sizes = {name: lies.get(name, len(body)) for name, body in files.items()}
    if kind == "tree":
        return [
            {
                "type": "file",
                "path": name,
                "size": size,
                "oid": hashlib.sha1(name.encode()).hexdigest(),
            }
            for name, size in sizes.items()
        ]
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
        "siblings": [{"rfilename": name, "size": size} for name, size in sizes.items()],
    }


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            path = urlsplit(self.path).path
            hub.requests.append((self.command, path))
            if "Authorization" in self.headers:
                hub.authorizations.append(self.headers["Authorization"])
            status, headers, body, kind = hub.answer(path)
            if kind == "file" and self.command.lower() in hub.failing:
                status, body = hub.failing[self.command.lower()], b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = respond
        do_HEAD = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
