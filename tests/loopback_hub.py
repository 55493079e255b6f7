"""A read-only Hugging Face Hub on the loopback interface, for the real client to talk to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Commit = dict[str, bytes]  # path -> content


class LoopbackHub:
    """Serves repositories from memory; ``requests`` logs what was asked for."""

    def __init__(self) -> None:
        self.commits: dict[tuple[str, str], Commit] = {}  # (repository, sha)
        self.refs: dict[tuple[str, str], str] = {}  # (repository, branch or tag) -> sha
        self.gated: set[str] = set()
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repository: str, folder: Path, ref: str = "main") -> str:
        """Publish the files of a folder; the repository is ``models/user/name`` or ``datasets/user/name``."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[repository, sha] = files
        self.refs[repository, ref] = sha
        return sha


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        recursive = "recursive=true" in self.path.lower()
        self.hub.requests.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            repository, what, revision, under = match.groups()
            if found := self._find(repository, revision or "main"):
                self._json(
                    self._tree(found[1], under, recursive) if what == "tree" else self._info(repository, *found)
                )
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = match.groups()
            if found := self._find(f"{'datasets' if kind else 'models'}/{name}", revision):
                sha, files = found
                if file in files:
                    headers = {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', "X-Repo-Commit": sha}
                    self._answer(200, files[file], headers)
                else:
                    self._error(404, "EntryNotFound", {"X-Repo-Commit": sha})
        else:
            self._error(404, "")

    def _find(self, repository: str, revision: str) -> tuple[str, Commit] | None:
        """The commit that is asked for; without one, the answer has been sent."""
        if repository in self.hub.gated:
            return self._error(403, "GatedRepo")
        if not any(name == repository for name, _ in self.hub.commits):
            return self._error(404, "RepoNotFound")
        sha = self.hub.refs.get((repository, revision), revision)
        if (repository, sha) not in self.hub.commits:
            return self._error(404, "RevisionNotFound")
        return sha, self.hub.commits[repository, sha]

    @staticmethod
    def _info(repository: str, sha: str, files: Commit) -> dict:
        siblings = [{"rfilename": path} for path in files]
        date = "2026-01-01T00:00:00.000Z"
        name = repository.split("/", 1)[1]
        return {
            "id": name, "modelId": name, "sha": sha, "siblings": siblings, "private": False, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "lastModified": date, "createdAt": date,
        }  # fmt: skip

    @staticmethod
    def _tree(files: Commit, under: str | None, recursive: bool) -> list[dict]:
        start = f"{(under or '').strip('/')}/".lstrip("/")
        rows = {}
        for path, content in files.items():
            if path.startswith(start):
                if recursive or "/" not in path[len(start) :]:
                    row = {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
                else:
                    path = start + path[len(start) :].split("/")[0]
                    row = {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
                rows[path] = {**row, "path": path}
        return list(rows.values())

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
