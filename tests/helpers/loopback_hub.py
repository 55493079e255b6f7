"""A Hugging Face Hub on the loopback interface, for the real client to talk to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Commit = dict[str, bytes]  # path -> content
LFS = (".safetensors", ".png", ".parquet")  # what goes another way than text


class LoopbackHub:
    """Keeps repositories in memory; ``requests`` logs what was asked for.

    Args:
        tokens (dict): token to the user it is of. Those who show none may read what is public.
    """

    def __init__(self, tokens: dict[str, str] | None = None) -> None:
        self.tokens = tokens or {}
        self.commits: dict[tuple[str, str], Commit] = {}  # (repository, sha)
        self.refs: dict[tuple[str, str], str] = {}  # (repository, branch or tag) -> sha
        self.uploads: dict[str, bytes] = {}  # by SHA-256
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.faults: list[tuple[str, Callable[[_Handler, bytes], bytes | int | None]]] = []  # each is used once
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()  # seconds to its end

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repository: str, folder: Path, ref: str = "main") -> str:
        """Publish the files of a folder; the repository is ``models/user/name`` or ``datasets/user/name``."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.put(repository, files, ref)

    def put(self, repository: str, files: Commit, ref: str = "main") -> str:
        """Make files the head of a branch."""
        before = self.refs.get((repository, ref), "")
        sha = hashlib.sha1(repr((before, sorted(files.items()))).encode()).hexdigest()
        self.commits[repository, sha] = files
        self.refs[repository, ref] = sha
        return sha

    def head(self, repository: str, ref: str = "main") -> Commit:
        """Files of a branch."""
        return self.commits[repository, self.refs[repository, ref]]

    def fail(self, request: str, fault: int | Callable[[_Handler, bytes], bytes | int | None], times: int = 1) -> None:
        """Answer the next requests that match a pattern with a status, or with what a function makes of the answer.

        A function that returns None has answered itself.
        """
        action = fault if callable(fault) else lambda *_: fault
        self.faults += [(request, action)] * times


def cut_after(count: int) -> Callable[[_Handler, bytes], bytes]:
    """A connection that ends in the middle of an answer."""

    def cut(handler: _Handler, body: bytes) -> bytes:
        handler.close_connection = True
        return body[:count]

    return cut


def flipped(_: _Handler, body: bytes) -> bytes:
    """The right number of wrong bytes."""
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        content = self._body()
        digest = hashlib.sha256(content).hexdigest()
        self.hub.requests.append(f"PUT {urlsplit(self.path).path}")
        if self._fails():
            return
        if self.path != f"/_upload/{digest}":
            return self._error(400, "")
        self.hub.uploads[digest] = content
        self._answer(200, b"", {})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        recursive = "recursive=true" in self.path.lower()
        self.hub.requests.append(f"{self.command} {path}")
        if self._fails():
            return
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            repository, what, revision, under = match.groups()
            if found := self._find(repository, revision or "main"):
                if what != "tree":
                    self._json(self._info(repository, *found))
                elif (rows := self._tree(found[1], under, recursive)) or not under:
                    self._json(rows)
                else:
                    self._error(404, "EntryNotFound")
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = match.groups()
            if found := self._find(f"{'datasets' if kind else 'models'}/{name}", revision):
                sha, files = found
                if file in files:
                    headers = {"ETag": f'"{_oid(file, files[file])}"', "X-Repo-Commit": sha}
                    self._answer(200, files[file], headers)
                else:
                    self._error(404, "EntryNotFound", {"X-Repo-Commit": sha})
        else:
            self._error(404, "")

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.hub.requests.append(f"POST {path}")
        if self._fails():
            return
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self._user() is None:
            return self._error(401, "", {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        match = re.fullmatch(r"/api/((?:models|datasets)/([^/]+)/[^/]+)/(preupload|commit|branch)/(.+)", path)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if match is None:
            return self._error(404, "")
        repository, owner, what, revision = match.groups()
        if owner != self._user():
            return self._error(403, "")
        if what == "branch":
            return self._branch(repository, revision)
        return self._preupload(json.loads(body)) if what == "preupload" else self._commit(repository, revision, body)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or self._user()
        repository = f"{wanted.get('type', 'model')}s/{owner}/{wanted['name']}"
        answer = json.dumps({"url": f"{self.hub.endpoint}/{repository.removeprefix('models/')}"}).encode()
        if owner != self._user():
            return self._error(403, "")
        with self.hub.lock:
            there = any(name == repository for name, _ in self.hub.commits)
            if not there:
                self.hub.put(repository, {".gitattributes": b""})
                if wanted.get("visibility") == "private" or wanted.get("private"):
                    self.hub.private.add(repository)
        self._answer(409 if there else 200, answer, {"Content-Type": "application/json"})

    def _branch(self, repository: str, name: str) -> None:
        if (repository, name) in self.hub.refs:
            return self._error(409, "")
        self.hub.refs[repository, name] = self.hub.refs[repository, "main"]
        self._answer(200, b"", {})

    def _preupload(self, wanted: dict[str, Any]) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in wanted["files"]
        ]
        self._json({"files": modes})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for each in wanted["objects"]:
            href = f"{self.hub.endpoint}/_upload/{each['oid']}"
            there = each["oid"] in self.hub.uploads
            objects.append({**each, **({} if there else {"actions": {"upload": {"href": href}}})})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, branch: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        parent = next(line["value"] for line in lines if line["key"] == "header").get("parentCommit")
        with self.hub.lock:
            head = self.hub.refs.get((repository, branch))
            if head is None:
                return self._error(404, "RevisionNotFound")
            if parent not in (None, head):
                return self._error(412, "", {"X-Error-Message": "A commit has happened since. Please refresh."})
            files = dict(self.hub.commits[repository, head])
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.uploads[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            sha = self.hub.put(repository, files, branch)
        url = f"{self.hub.endpoint}/{repository.removeprefix('models/')}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _user(self) -> str | None:
        """Who asks; None for somebody unknown."""
        return self.hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def _find(self, repository: str, revision: str) -> tuple[str, Commit] | None:
        """The commit that is asked for; without one, the answer has been sent."""
        if repository in self.hub.gated:
            return self._error(403, "GatedRepo")
        if self.headers.get("Authorization") and self._user() is None:
            return self._error(401, "", {"X-Error-Message": "Invalid credentials in Authorization header"})
        hidden = repository in self.hub.private and repository.split("/")[1] != self._user()
        if hidden or not any(name == repository for name, _ in self.hub.commits):
            return self._error(404, "RepoNotFound")
        sha = self.hub.refs.get((repository, revision), revision)
        if (repository, sha) not in self.hub.commits:
            return self._error(404, "RevisionNotFound")
        return sha, self.hub.commits[repository, sha]

    @staticmethod
    def _info(repository: str, sha: str, files: Commit) -> dict:
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
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

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _fault(self) -> Callable[[_Handler, bytes], bytes | int | None] | None:
        """The next fault that is meant for this request."""
        with self.hub.lock:
            for number, (pattern, action) in enumerate(self.hub.faults):
                if re.search(pattern, f"{self.command} {unquote(self.path)}"):
                    del self.hub.faults[number]
                    return action
        return None

    def _fails(self) -> bool:
        """Whether a fault was the answer; one that changes an answer waits for it."""
        action = self._fault()
        if action is None:
            return False
        status = action(self, b"")
        if status is None:
            return True
        if isinstance(status, int):
            self._error(status, "")
            return True
        self._changed = action
        return False

    _changed: Callable[[_Handler, bytes], bytes | int | None] | None = None

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            change, self._changed = self._changed, None
            self.wfile.write(body if change is None else change(self, body))  # type: ignore[arg-type]


def _oid(path: str, content: bytes) -> str:
    """What names a file's content in the client's cache."""
    if path.endswith(LFS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
