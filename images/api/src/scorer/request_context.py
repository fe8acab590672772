"""What access control knows about the current request, for the parts that need it later in the same task."""

from __future__ import annotations

from contextvars import ContextVar

# The headers with the client's credential. A stable pod passes them on, so that the canary admits the same request.
credentials: ContextVar[dict[str, str]] = ContextVar("credentials")
# The client's name as access control knows it; empty if access is open.
client: ContextVar[str] = ContextVar("client", default="")
