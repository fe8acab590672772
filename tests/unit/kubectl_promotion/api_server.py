"""A small API server over real sockets: lists, watches and patches ModelPromotions, and shows other objects.

It keeps what the plugin depends on from a real one: resource versions that only grow, watches that continue from one,
410 for those that are too old, 409 for a patch of an object that has changed, and Status documents for errors.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Document = dict[str, Any]
GROUP = "/apis/creditrisk.io/v1alpha1"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
            500: "InternalError", 503: "ServiceUnavailable"}  # fmt: skip


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the server
    """An answer other than 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Store:
    """What the server knows; every change of a ModelPromotion gets the next resource version."""

    version: int = 100
    oldest: int = 0
    promotions: dict[tuple[str, str], Document] = field(default_factory=dict)
    changes: list[tuple[int, str, Document]] = field(default_factory=list)
    # Any other object by its path; lists by the path of the collection and the label selector.
    objects: dict[str, Document] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    # What the operator does about a patch.
    on_patch: Callable[[Document], None] | None = None
    # What becomes of a new object, by the path of its collection.
    on_create: dict[str, Callable[[Document], Document]] = field(default_factory=dict)
    # As whom objects were created: user and groups.
    impersonated: list[tuple[str, list[str]]] = field(default_factory=list)
    # What happens just before the next patch is applied.
    before_patch: Callable[[], object] | None = None
    # Answers every request, or those of one method, with this code.
    refuse: dict[str, int] = field(default_factory=dict)
    has_definition: bool = True
    # Grow when open watches are cut off, or end.
    cut: int = 0
    ended: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)

    def put(self, document: Document, kind: str = "MODIFIED") -> Document:
        """Create or replace a ModelPromotion."""
        with self.changed:
            self.version += 1
            document = copy.deepcopy(document)
            document["metadata"]["resourceVersion"] = str(self.version)
            key = document["metadata"]["namespace"], document["metadata"]["name"]
            known = key in self.promotions
            self.promotions[key] = document
            self.changes.append((self.version, kind if known else "ADDED", document))
            self.changed.notify_all()
            return document

    def set_status(self, name: str, namespace: str = "bank", **changes: Any) -> None:
        """Change a ModelPromotion's status, as the operator does."""
        document = copy.deepcopy(self.promotions[namespace, name])
        document["status"] = {**document.get("status", {}), **changes}
        self.put(document)

    def delete(self, name: str, namespace: str = "bank") -> None:
        """Delete a ModelPromotion."""
        with self.changed:
            self.version += 1
            self.changes.append((self.version, "DELETED", self.promotions.pop((namespace, name))))
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget all changes: watches from before get 410."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.changes.clear()

    def wait_for_watch(self) -> None:
        """Wait until a client watches."""
        with self.changed:
            assert self.changed.wait_for(lambda: any("watch=" in path for _, path in self.requests), 60), (
                "nobody watches"
            )

    def expire_watches(self) -> None:
        """End every open watch in good order, as after timeoutSeconds."""
        with self.changed:
            self.ended += 1
            self.changed.notify_all()

    def cut_watches(self) -> None:
        """Close every open watch, as a restarted load balancer does."""
        with self.changed:
            self.cut += 1
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_POST(self) -> None:
        self._answer(self._create)

    def _answer(self, answer: Callable[[str, dict[str, str]], Document | None]) -> None:
        where = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(where.query).items()}
        with self.store.changed:
            self.store.requests.append((self.command, self.path))
            self.store.changed.notify_all()
        try:
            self._check_access(where.path)
            if (document := answer(where.path, query)) is not None:
                self._send(200, document)
        except Refusal as refusal:
            self._send(refusal.code, status(refusal.code, str(refusal)))
        except BrokenPipeError:
            self.close_connection = True

    def _check_access(self, path: str) -> None:
        if code := self.store.refuse.get(self.command) or self.store.refuse.get(path):
            raise Refusal(code, f'modelpromotions.creditrisk.io is refused: User "jane" cannot {self.command}')

    def _send(self, code: int, document: Document) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _get(self, path: str, query: dict[str, str]) -> Document | None:
        if (found := self._discovery(path)) is not None:
            return found
        key = f"{path}?{query['labelSelector']}" if "labelSelector" in query else path
        if key in self.store.objects:
            return self.store.objects[key]
        if not path.startswith(GROUP) or not self.store.has_definition:
            raise Refusal(404, "the server could not find the requested resource" if "modelpromotions" in path else
                          f'{path.split("/")[-2]} "{path.rsplit("/", maxsplit=1)[-1]}" not found')  # fmt: skip
        parts = path.removeprefix(GROUP).strip("/").split("/")
        namespace = parts[1] if parts[0] == "namespaces" else None
        if parts[-1] == "modelpromotions":
            if query.get("watch") in {"1", "true"}:
                self._watch(namespace, query)
                return None
            return self._list(namespace, query)
        return self._one(str(namespace), parts[-1])

    def _one(self, namespace: str, name: str) -> Document:
        if (found := self.store.promotions.get((namespace, name))) is None:
            raise Refusal(404, f'modelpromotions.creditrisk.io "{name}" not found')
        return found

    def _list(self, namespace: str | None, query: dict[str, str]) -> Document:
        with self.store.changed:
            items = [document for key, document in self.store.promotions.items() if selected(key, namespace, query)]
            return {"apiVersion": "creditrisk.io/v1alpha1", "kind": "ModelPromotionList", "items": items,
                    "metadata": {"resourceVersion": str(self.store.version)}}  # fmt: skip

    def _watch(self, namespace: str | None, query: dict[str, str]) -> None:
        since, cut, ended = int(query["resourceVersion"]), self.store.cut, self.store.ended
        if since < self.store.oldest:
            raise Refusal(410, f"too old resource version: {since} ({self.store.oldest})")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        ends = time.monotonic() + float(query.get("timeoutSeconds", "600"))
        while (self.store.cut, self.store.ended) == (cut, ended) and time.monotonic() < ends:
            with self.store.changed:
                fresh = [change for change in self.store.changes if change[0] > since]
                if not fresh:
                    self.store.changed.wait(0.2)
            for version, kind, document in fresh:
                since = version
                key = document["metadata"]["namespace"], document["metadata"]["name"]
                if selected(key, namespace, query):
                    self._chunk({"type": kind, "object": document})
        if self.store.cut == cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _chunk(self, document: Document) -> None:
        body = json.dumps(document).encode() + b"\n"
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()

    def _patch(self, path: str, query: dict[str, str]) -> Document:
        assert self.headers["Content-Type"] == "application/merge-patch+json"
        changes = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = path.removeprefix(GROUP).strip("/").split("/")
        if (intervene := self.store.before_patch) is not None:
            self.store.before_patch = None
            intervene()
        before = self._one(parts[1], parts[-1])
        expected = changes.get("metadata", {}).pop("resourceVersion", None)
        if expected not in {None, before["metadata"]["resourceVersion"]}:
            raise Refusal(409, f'Operation cannot be fulfilled on modelpromotions.creditrisk.io "{parts[-1]}": the '
                               "object has been modified")  # fmt: skip
        patched = self.store.put(merged(before, changes))
        if self.store.on_patch:
            threading.Timer(0.05, self.store.on_patch, (patched,)).start()
        return patched

    def _create(self, path: str, query: dict[str, str]) -> Document:
        document = json.loads(b"".join(self._chunks()))
        if user := self.headers["Impersonate-User"]:
            self.store.impersonated.append((user, self.headers.get_all("Impersonate-Group") or []))
        if path not in self.store.on_create:
            raise Refusal(404, "the server could not find the requested resource")
        return self.store.on_create[path](document)

    def _chunks(self) -> Iterator[bytes]:
        """Yield the body as kubectl streams it from its standard input."""
        assert self.headers["Transfer-Encoding"] == "chunked"
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _discovery(self, path: str) -> Document | None:
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            version = {"groupVersion": "creditrisk.io/v1alpha1", "version": "v1alpha1"}
            group = {"name": "creditrisk.io", "versions": [version], "preferredVersion": version}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group] if self.store.has_definition else []}
        if path == "/api/v1":
            services = {"name": "services", "singularName": "service", "namespaced": True, "kind": "Service",
                        "verbs": ["get", "list"]}  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [services]}
        if path == GROUP and self.store.has_definition:
            resource = {"name": "modelpromotions", "singularName": "modelpromotion", "namespaced": True,
                        "kind": "ModelPromotion", "verbs": ["get", "list", "patch", "watch"]}  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": "creditrisk.io/v1alpha1", "resources": [resource]}
        return None


def selected(key: tuple[str, str], namespace: str | None, query: dict[str, str]) -> bool:
    """Return whether a request asks for an object."""
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return namespace in {None, key[0]} and name in {"", key[1]}


def merged(before: Any, changes: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(changes, dict):
        return changes
    kept = dict(before) if isinstance(before, dict) else {}
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value)
    return kept


def status(code: int, message: str) -> Document:
    """Return an error as an API server writes it."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": _REASONS[code], "code": code,
            "message": message}  # fmt: skip


@dataclass
class ApiServer:
    """A running server; it can be stopped and started again on the same port."""

    store: Store
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen."""
        handler = type("BoundHandler", (Handler,), {"store": self.store})
        server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        server.daemon_threads = True
        self._server, self.port = server, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and every watch."""
        if self._server:
            self.store.cut_watches()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def write_kubeconfig(self, path: Path, namespace: str = "bank") -> Path:
        """Write a kubeconfig of this server."""
        context = {"cluster": "test", "user": "jane", "namespace": namespace}
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "jane", "user": {"token": "a-token"}}],
            "contexts": [{"name": "test", "context": context},
                         {"name": "other", "context": {**context, "namespace": "other"}}],
        }))  # fmt: skip
        return path


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Run a server for the duration of the block."""
    server = ApiServer(Store())
    server.start()
    try:
        yield server
    finally:
        server.stop()
