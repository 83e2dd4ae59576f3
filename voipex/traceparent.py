"""W3C Trace Context: `traceparent` is passed through by hand, from the request into the record. No spans of our own."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,128})?"
)


def traceparent_of(header: bytes | None) -> str | None:
    """The header when it is well formed, else None: a broken one is not handed on."""
    if header is None or _TRACEPARENT.fullmatch(header) is None:
        return None
    return header.decode("ascii")
