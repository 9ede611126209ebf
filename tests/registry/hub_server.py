"""A hub on 127.0.0.1 that speaks as much of the protocol as huggingface_hub uses to pull."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LFS_BYTES = 1024
"""Files of at least this size are kept as the hub keeps large ones: by their sha256."""


@dataclass
class Repo:
    """One repository: the files of each commit, and what its branches point to."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    licence: str | None = None
    gated: bool = False


@dataclass
class Hub:
    """The server's state; tests change it while it runs."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range) of every request."""
    cut: dict[str, int] = field(default_factory=dict)
    """Name -> bytes after which the next download of it is dropped."""
    damaged: set[str] = field(default_factory=set)
    """Files that are sent with one bit flipped."""
    status: int | None = None
    """Answer every request with this."""

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> str:
        """Add a commit to a repository's main branch and return it."""
        commit = sha1(repr(sorted(files.items())).encode()).hexdigest()
        repo = self.repos.setdefault(name, Repo({}, {}))
        repo.commits[commit] = files
        repo.branches["main"] = commit
        for key, content in more.items():
            setattr(repo, key, content)
        return commit

    def downloads(self, name: str) -> list[str | None]:
        """The Range of each GET of a file called `name`."""
        return [
            span for method, path, span in self.requests if method == "GET" and path.endswith(name)
        ]


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Describe a file."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a listing or a file."""
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append((self.command, path, self.headers.get("Range")))
        if self.state.status is not None:
            self._refuse(self.state.status, None)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._describe(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send_file(match[1], match[2], match[3])
        else:
            self._refuse(404, None)

    def _find(self, name: str, revision: str) -> tuple[Repo, str] | None:
        repo = self.state.repos.get(name)
        if repo is None:
            self._refuse(401, "RepoNotFound")
        elif repo.gated and self.headers.get("Authorization") != "Bearer hf_good":
            self._refuse(403, "GatedRepo")
        elif (commit := repo.branches.get(revision, revision)) not in repo.commits:
            self._refuse(404, "RevisionNotFound")
        else:
            return repo, commit
        return None

    def _describe(self, name: str, revision: str) -> None:
        if (found := self._find(name, revision)) is None:
            return
        repo, commit = found
        siblings = []
        for file, content in repo.commits[commit].items():
            entry: dict[str, Any] = {
                "rfilename": file, "size": len(content), "blobId": sha1(content).hexdigest(),
            }  # fmt: skip
            if len(content) >= LFS_BYTES:
                digest = sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        document = {
            "_id": "0", "id": name, "modelId": name, "sha": commit, "private": False,
            "gated": repo.gated, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings,
            "cardData": {"license": repo.licence} if repo.licence else {},
        }  # fmt: skip
        body = json.dumps(document).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_file(self, name: str, revision: str, file: str) -> None:
        if (found := self._find(name, revision)) is None:
            return
        repo, commit = found
        content = repo.commits[commit].get(file)
        if content is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        large = len(content) >= LFS_BYTES
        etag = (sha256 if large else sha1)(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if file in self.state.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, start = 200, 0
        if span := self.headers.get("Range"):
            start = int(span.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = 206
        self._head(status, headers | {"Content-Length": str(len(content) - start)})
        if self.command == "HEAD":
            return
        if (cut := self.state.cut.pop(file, None)) is not None:
            self.wfile.write(content[start : start + cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(content[start:])

    def _refuse(self, status: int, code: str | None, more: dict[str, str] | None = None) -> None:
        headers = {"Content-Length": "0", **(more or {})}
        if code is not None:
            headers |= {"X-Error-Code": code, "X-Error-Message": code}
        self._head(status, headers)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, content in headers.items():
            self.send_header(key, content)
        self.end_headers()
