"""Bodies for property tests: any bytes, and JSON that is nearly what VOIPEX sends."""

import json
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from voipex.events import Event
from voipex.webhook import DOCUMENTED_KEYS

RECORDED = Path(__file__).parents[2] / "webhooks"


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def as_read(event: Event) -> Event:
    """The event as its readers find it: numbers of `extra` that Python would write otherwise are numbers to them."""
    return event.model_copy(update={"extra": json.loads(orjson.dumps(event.extra))})


_ODD_NUMBERS = st.sampled_from(
    ["1412256225.1940", "-0", "1E5", "1e-400", "1e400", "18446744073709551616", "9" * 400, "9" * 5000]
)
_NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _ODD_NUMBERS.map(orjson.Fragment)
)
_WORDS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "20", "+420777888999", "1412256225.1941", "outgoing", "Oběd", "User busy", "\x00"]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["Ringing", "Hangup", "CDR", "AgentLogin", "AgentPaused", "Neznámá", " Answered ", ""]
)
_DOCUMENTS = st.fixed_dictionaries(
    {"EventName": _NAMES, "UniqueId": _WORDS | _NUMBERS},
    optional={key: _WORDS | _VALUES for key in DOCUMENTED_KEYS if key not in ("EventName", "UniqueId")},
).flatmap(
    lambda known: st.dictionaries(st.text(max_size=6), _VALUES, max_size=2).map(
        lambda more: {**more, **known}
    )
)


def _in_windows_1250(body: bytes) -> bytes:
    return body.decode().encode("cp1250", errors="replace")


def _relaxed(body: bytes) -> bytes:
    return body.replace(b'"', b"")


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    body = draw(event_bodies)
    cut = draw(st.integers(0, len(body)))
    return body[:cut] + draw(st.binary(max_size=3)) + body[cut + draw(st.integers(0, 3)) :]


event_bodies: st.SearchStrategy[bytes] = _DOCUMENTS.map(orjson.dumps)
bodies: st.SearchStrategy[bytes] = (
    event_bodies
    | _broken()
    | event_bodies.map(_in_windows_1250)
    | event_bodies.map(_relaxed)
    | st.binary(max_size=40)
)
