"""What running bridges counted of the requests of one PBX -> answers, findings and rows of the report (pure)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_MAX_LISTED: Final = 3
_SAME_S: Final = 0.5
_SAME: Final = 0.25
"""Pauses that differ by less, or by such a share, are one step of a sender's schedule."""

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9 .,_/+-]{1,60}$")]
"""Nothing else is printed, whatever answers at the port that was named."""
Counts = dict[Word, int]


class Refused(BaseModel):
    """Requests that were refused with one status; `retries.Retries` says what the counts are."""

    requests: int = 0
    watched: int = 0
    repeats: dict[Word, Counts] = {}
    uncertain: Counts = {}
    silent: Counts = {}


class _Pbx(BaseModel):
    connections: int = 0
    addresses: int = 0
    habits: dict[Word, Counts] = {}
    requests_per_connection: Counts = {}
    ends: Counts = {}
    idle_s: Counts = {}
    left_s: Counts = {}
    refused: dict[Word, Refused] = {}


class _Strangers(BaseModel):
    connections: int = 0
    refused: dict[Word, Refused] = {}


class ProbeState(BaseModel):
    """The probe that runs, or the last one."""

    pbx: str
    refused: int
    answers: int
    ended: Word | None


class BridgeSurvey(BaseModel):
    """The body of `/survey` of one bridge."""

    since: Annotated[str, Field(pattern=r"^[0-9TZ:.-]{20,40}$")]
    answers: Counts
    slowest_answer_s: Word | None
    pbxs: dict[str, _Pbx]
    before_authentication: _Strangers
    probe: ProbeState | None


class Sender(_Pbx):
    """One PBX as all bridges that were asked saw it."""

    bridges: int
    since: str
    """The latest of their starts."""
    answers: Counts
    slowest_answer_s: str | None
    before_authentication: _Strangers
    probed: int
    """Different events that a probe refused."""
    probe_answers: int


def sender_of(surveys: Sequence[BridgeSurvey], pbx: str) -> Sender:
    """Add up what each bridge says of *pbx*, and of requests that could not be authenticated."""
    merged: dict[str, Any] = {}
    for each in surveys:
        counted = each.pbxs.get(pbx, _Pbx())
        probe = each.probe if each.probe is not None and each.probe.pbx == pbx else None
        merged = _sum(
            merged,
            {
                "bridges": 1,
                "answers": each.answers,
                "before_authentication": each.before_authentication.model_dump(),
                "probed": 0 if probe is None else probe.refused,
                "probe_answers": 0 if probe is None else probe.answers,
                **counted.model_dump(),
            },
        )
    slowest = [each.slowest_answer_s for each in surveys if each.slowest_answer_s is not None]
    return Sender(
        since=max(each.since for each in surveys),
        slowest_answer_s=max(slowest, key=lambda text: float(text.removeprefix("+")), default=None),
        **merged,
    )


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    added = dict(one)
    for key, value in other.items():
        known = added.get(key)
        if isinstance(value, Mapping):
            added[key] = _sum(known or {}, value)
        else:
            added[key] = (known or 0) + value
    return added


# ---------------------------------------------------------------- answers


def answers(sender: Sender | None) -> Iterator[tuple[str, str]]:
    """Yield the questions that only HTTP answers, each with what was seen."""
    asked = "Are refused requests sent again?"
    if sender is None:
        yield asked, _NOT_ASKED
        yield "How long does the PBX wait for an answer?", _NOT_ASKED
        yield "Does it keep its connections open?", _NOT_ASKED
        return
    yield (
        asked,
        "; ".join(f"{status}: {text}" for status, text in refusals(sender))
        or "not seen: no request was refused. `--probe-retry` finds out",
    )
    yield "How long does the PBX wait for an answer?", _patience(sender)
    yield "Does it keep its connections open?", _keeping(sender)


_NOT_ASKED: Final = "not seen: no bridge was asked, `--bridge` names one"


def refusals(sender: Sender) -> Iterator[tuple[str, str]]:
    """Yield each status with what happened after it: `repeats after 2 s, 3 times`, `never within a minute, 3 events`."""
    for status, refused in sorted(sender.refused.items()):
        yield status, _after_refusal(refused)
    for status, refused in sorted(sender.before_authentication.refused.items()):
        yield f"{status} before authentication", _after_refusal(refused)


def _after_refusal(refused: Refused) -> str:
    if not refused.watched:
        return f"unknown, {_times(refused.requests)}; a body that was not read cannot be recognized"
    parts = []
    if refused.repeats:
        parts.append(_schedule(refused.repeats))
    waited = {float(seconds): count for seconds, count in refused.silent.items()}
    long = [seconds for seconds in waited if seconds >= _MINUTE_S]
    if long:
        events = sum(waited[seconds] for seconds in long)
        parts.append(f"never within {_at_least(min(long))}, {_events(events)}")
    if recent := sum(count for seconds, count in waited.items() if seconds < _MINUTE_S):
        parts.append(f"not yet, {_events(recent)} refused less than a minute ago")
    if refused.uncertain:
        parts.append(
            f"the same content after {_seconds(refused.uncertain)}, {_times(sum(refused.uncertain.values()))}, perhaps as a new event"
        )
    return ", ".join(parts)


def _schedule(repeats: Mapping[str, Counts]) -> str:
    """Return `repeats after 2 s, then 4 s, 5 times (3 events)`."""
    steps: list[Counter[str]] = []
    for _, gaps in sorted(repeats.items(), key=lambda item: int(item[0])):
        if steps and abs(_median(gaps) - _median(steps[-1])) <= max(_SAME_S, _SAME * _median(steps[-1])):
            steps[-1].update(gaps)
        else:
            steps.append(Counter(gaps))
    times = sum(step.total() for step in steps)
    events = sum(repeats.get("1", {}).values())
    return f"repeats after {', then '.join(map(_seconds, steps))}, {_times(times)} ({_events(events)})"


def _patience(sender: Sender) -> str:
    slowest = sender.slowest_answer_s
    waited = "" if slowest is None else f"; the slowest answer to an accepted event took {_bound(slowest)}"
    if sender.left_s:
        return f"left before the answer after {_seconds(sender.left_s)}, {_times(sum(sender.left_s.values()))}{waited}"
    return f"not seen: it never left before an answer{waited}" if sender.connections else "not seen"


def _keeping(sender: Sender) -> str:
    if not sender.connections:
        return "not seen"
    several = sender.connections - sender.requests_per_connection.get("1", 0)
    asked = sender.habits.get("connection", {}).get("close", 0)
    text = f"{several} of {sender.connections} connections carried more than one request"
    if asked:
        text += f"; {asked} asked for a close"
    if sender.idle_s:
        text += f"; it closed {sum(sender.idle_s.values())} itself, after {_seconds(sender.idle_s)} without a request"
    return text


# ---------------------------------------------------------------- findings and rows


def findings(sender: Sender) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield code, count, total, what and todo."""
    for status, refused in sender.refused.items():
        silent = sum(count for seconds, count in refused.silent.items() if float(seconds) >= _MINUTE_S)
        yield (
            f"not_repeated_after_{status}",
            silent,
            refused.watched,
            f"events that were answered with {status} and not sent again within a minute",
            "lost, but for those that a probe refused: keep room in the spool, and answer its alert",
        )
    yield (
        "left_before_answer",
        sum(sender.left_s.values()),
        sender.connections,
        "connections whose sender left before the answer",
        "the event may be stored; see how long the PBX waits, and why the answer took longer",
    )


_ENDS: Final = {
    "open": "still open",
    "sender_idle": "closed by the sender between requests",
    "sender_before_answer": "closed by the sender before the answer",
    "sender_within_request": "closed by the sender within a request",
    "bridge_idle": "closed by the bridge, idle too long",
    "bridge_after_answer": "closed by the bridge with the answer",
}
_HABITS: Final = {
    "http_version": "HTTP version",
    "connection": "header Connection",
    "framing": "bodies are framed by",
    "content_type": "header Content-Type",
    "charset": "its charset",
    "user_agent": "kind of User-Agent",
    "authentication": "authentication",
    "tls": "TLS at the bridge",
    "expect": "header Expect",
    "proxy": "through a proxy (X-Forwarded-For, Forwarded, Via)",
}


def rows(sender: Sender) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table `How the PBX sends`."""
    yield "bridges asked", f"{sender.bridges}, counting since {sender.since}"
    yield "responses by status, of all PBXs", joined(sender.answers)
    yield (
        "connections",
        f"{sender.connections} from {sender.addresses} address{'es' * (sender.addresses != 1)}",
    )
    yield "requests per connection", joined(sender.requests_per_connection)
    yield "how connections ended", joined({_ENDS.get(end, end): n for end, n in sender.ends.items()})
    for name, what in _HABITS.items():
        yield what, joined(sender.habits.get(name, {}))
    yield "s without a request after which the sender closed", joined(sender.idle_s)
    yield "s after which the sender left before the answer", joined(sender.left_s)
    for status, text in refusals(sender):
        yield f"after {status}", text
    if sender.probed:
        yield (
            "the last probe",
            f"refused {_events(sender.probed)}, {_times(sender.probe_answers)}; each is stored",
        )
    yield (
        "connections without an authenticated request, of any sender",
        str(sender.before_authentication.connections),
    )


def joined(counts: Mapping[str, int]) -> str:
    """`200: 12, 503: 3`, the most frequent first."""
    return ", ".join(f"{name}: {count}" for name, count in Counter(counts).most_common()) or "none"


def proxied(sender: Sender) -> int:
    """Return how many connections came through a proxy, by the headers that it adds."""
    return sender.habits.get("proxy", {}).get("through a proxy", 0)


# ---------------------------------------------------------------- words


def _seconds(gaps: Mapping[str, int]) -> str:
    values = sorted(gaps, key=float)
    if len(values) <= _MAX_LISTED:
        return " or ".join(values) + " s"
    return f"{values[0]} to {values[-1]} s (median {_median(gaps):g} s)"


def _median(gaps: Mapping[str, int]) -> float:
    ordered = sorted(float(each) for each in Counter(gaps).elements())
    return ordered[len(ordered) // 2]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _at_least(seconds: float) -> str:
    if seconds >= _HOUR_S:
        return "an hour"
    minutes = int(seconds // _MINUTE_S)
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def _bound(slowest: str) -> str:
    return "more than 5 s" if slowest == "+Inf" else f"at most {slowest} s"
