"""kubectl as the way to the API server: whatever login, proxy or certificate it knows works here too.

Reads go through `kubectl get --raw`, which asks for one path without discovery and has short errors.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from kubectl_promotion.errors import (
    FAILED,
    NOT_FOUND,
    REFUSED,
    UNREACHABLE,
    USAGE,
    CommandError,
    ConflictError,
    ExpiredError,
)
from promoter.api.resource import GROUP, PLURAL, VERSION

Document = dict[str, Any]
_NO_DEFINITION = "the server could not find the requested resource"
# kubectl's own request timeout; one that is stuck behind a login or a proxy ends a little later.
REQUEST_SECONDS = 15
_STUCK_SECONDS = REQUEST_SECONDS + 45
_IN_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SERVER_ERROR = re.compile(r"^Error from server \((?P<reason>\w+)\): (?P<message>.*)", re.DOTALL)
_LOGIN_ERRORS = ("You must be logged in", "provide credentials", "(Unauthorized)", "getting credentials")
_CODES = {"NotFound": NOT_FOUND, "Forbidden": REFUSED, "Invalid": REFUSED, "BadRequest": REFUSED,
          "MethodNotAllowed": REFUSED}  # fmt: skip
_NO_CONTEXT = "current-context must exist"
_USAGE_ERRORS = (
    "does not exist",
    "cannot locate context",
    _NO_CONTEXT,
    "no such file",
    "unknown flag",
    "invalid configuration",
    "error loading config",
)


@dataclass(frozen=True)
class Kubectl:
    """kubectl, with the flags that choose cluster, user and namespace.

    Attributes:
        flags: Such as `--context=prod`; those that are absent are kubectl's business.
        chosen_namespace: From the command line, None for the context's.
    """

    flags: tuple[str, ...] = ()
    chosen_namespace: str | None = None

    @cached_property
    def namespace(self) -> str:
        """Return the namespace to work in: the chosen one, the context's, the pod's, or `default`."""
        if self.chosen_namespace:
            return self.chosen_namespace
        try:
            found = self.run("config", "view", "--minify", "--output=jsonpath={..namespace}")
        except CommandError as error:
            if _NO_CONTEXT not in str(error):
                raise
            # In a pod there is no context at all, and kubectl uses the pod's ServiceAccount.
            if not _IN_POD_NAMESPACE.exists():
                raise CommandError("no cluster is chosen: set KUBECONFIG, or give --kubeconfig", USAGE) from error
            return _IN_POD_NAMESPACE.read_text("utf-8").strip()
        return found.strip() or "default"

    def get(self, path: str, **query: str) -> Document:
        """Return the document at a path of the API.

        Raises:
            CommandError: there is none, it was refused, or the server cannot be reached.
        """
        text = self.run("get", f"--raw={_with_query(path, query)}", f"--request-timeout={REQUEST_SECONDS}s")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise CommandError(f"the server's answer for {path} is not JSON", UNREACHABLE) from error
        if not isinstance(found, dict):
            raise CommandError(f"the server's answer for {path} is not an object", UNREACHABLE)
        return found

    def patch(self, namespace: str, name: str, changes: Mapping[str, Any]) -> Document:
        """Apply a JSON merge patch to a ModelPromotion and return it.

        Raises:
            ConflictError: `changes` names a resource version, and the object has another one by now.
            CommandError: as of `get`.
        """
        text = self.run("patch", f"{PLURAL}.{VERSION}.{GROUP}", name, f"--namespace={namespace}", "--type=merge",
                        f"--patch={json.dumps(changes)}", "--output=json",
                        f"--request-timeout={REQUEST_SECONDS}s")  # fmt: skip
        found: Document = json.loads(text)
        return found

    def create(self, path: str, document: Document) -> Document:
        """Create an object in a collection, given by its path of the API, and return it as it was stored.

        Raises:
            CommandError: as of `get`.
        """
        text = self.run("create", f"--raw={path}", "--filename=-", f"--request-timeout={REQUEST_SECONDS}s",
                        stdin=json.dumps(document))  # fmt: skip
        found: Document = json.loads(text)
        return found

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run a command to its end and return what it wrote to stdout.

        Raises:
            CommandError: it failed; the message is kubectl's, the exit code says what kind of failure it is.
        """
        try:
            ended = subprocess.run(
                self.command(*arguments), capture_output=True, text=True, encoding="utf-8", errors="replace",
                env=_environment(), input=stdin, timeout=_STUCK_SECONDS,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise _no_kubectl() from error
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"kubectl {arguments[0]} did not end within {_STUCK_SECONDS} s", UNREACHABLE) from error
        if ended.returncode:
            raise failure(ended.stderr)
        return ended.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command for the duration of the block, with pipes for stdout and stderr.

        Raises:
            CommandError: there is no kubectl.
        """
        try:
            process = subprocess.Popen(
                self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                text=True, encoding="utf-8", errors="replace", env=_environment(),
            )  # fmt: skip
        except FileNotFoundError as error:
            raise _no_kubectl() from error
        with process:
            try:
                yield process
            finally:
                process.kill()

    def stream(self, path: str, **query: str) -> tuple[str, ...]:
        """Return the arguments of `running` that stream a path of the API."""
        return "get", f"--raw={_with_query(path, query)}"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for some arguments."""
        return ["kubectl", *arguments, *self.flags]


def failure(stderr: str) -> CommandError:
    """Return what a failed kubectl means, in its words."""
    # Lines such as "E1128 … memcache.go" are its log.
    lines = [line for line in stderr.strip().splitlines() if not re.match(r"[EWI]\d{4} ", line)]
    text = "\n".join(lines).strip() or stderr.strip() or "kubectl failed and did not say why"
    if any(words in text for words in _LOGIN_ERRORS):
        return CommandError(f"not logged in to the cluster: {_plain(text)}", REFUSED)
    if found := _SERVER_ERROR.match(text):
        return _server_error(found["reason"], found["message"])
    if text.startswith("error: ") and any(words in text for words in _USAGE_ERRORS):
        return CommandError(f"kubectl: {_plain(text)}", USAGE)
    if text.startswith("error: "):
        return CommandError(f"kubectl: {_plain(text)}", FAILED)
    return CommandError(f"cannot reach the cluster: {_plain(text)}", UNREACHABLE)


def _server_error(reason: str, message: str) -> CommandError:
    if message.startswith(_NO_DEFINITION):
        return CommandError(
            "this cluster has no ModelPromotions (their CustomResourceDefinition is not installed): install the "
            "operator's chart, or choose another cluster with --context",
            NOT_FOUND,
        )
    if reason in {"Expired", "Gone"}:
        return ExpiredError(message, UNREACHABLE)
    if reason == "Conflict":
        return ConflictError(message, REFUSED)
    if reason == "Forbidden":
        return CommandError(f"no permission: {message}", REFUSED)
    return CommandError(message, _CODES.get(reason, UNREACHABLE))


def _plain(text: str) -> str:
    return text.removeprefix("error: ")


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _no_kubectl() -> CommandError:
    return CommandError("kubectl is not on the PATH; this plugin reaches the cluster through it", USAGE)


def read_all(pipe: IO[str] | None) -> str:
    """Return what is left in a pipe."""
    return pipe.read() if pipe else ""
