"""W3C Trace Context: `traceparent` is copied from the request into the record; no spans are created."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,128})?"
)


def traceparent_of(header: bytes | None) -> str | None:
    """Return the header if it is well formed, else None: a malformed one must not be propagated."""
    if header is None or _TRACEPARENT.fullmatch(header) is None:
        return None
    return header.decode("ascii")
