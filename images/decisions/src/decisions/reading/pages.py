"""Pages of an answer: an opaque cursor says where the next one begins."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from decisions.errors import UsageError


def encode_cursor(last: UUID) -> str:
    """Return the cursor of the page that follows the decision with this id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    """Return the id that a cursor was made of.

    Raises:
        UsageError: It is none of ours.
    """
    try:
        content = base64.b64decode(cursor + "==", altchars=b"-_", validate=True)
        last = UUID(bytes=content)
    except (binascii.Error, ValueError) as error:
        raise UsageError("is not a cursor: take next_cursor of the page before") from error
    if encode_cursor(last) != cursor:
        raise UsageError("is not a cursor: take next_cursor of the page before")
    return last
