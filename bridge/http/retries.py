"""
Whether a sender repeats what was refused, and the probe that finds out.

A hash of each refused body, with the key of the process, is remembered for an hour, at most 1,000 of them for each PBX; the same bytes again are a
repeat. While nothing is remembered and no probe runs, `watching` is False, and a request costs one look at it. Strangers can make it True (401), so
what it costs then is small as well.

Only NewCall, CDR and transfers happen once in a call. A phone that a queue rings again sends the bytes of its earlier events once more, after
5 s at the earliest, and agents pause every day: such repeats are counted as uncertain.

A probe answers 503 to a few events that are stored like all others, so nothing is lost whatever the PBX does. It ends by itself. A repeat is
stored as a further event: to drop it could lose one that only looks like it.
"""

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

WINDOW_S: Final = 3600.0
MAX_PROBE_S: Final = 60.0
MAX_PROBE_REQUESTS: Final = 100
_MAX_REMEMBERED: Final = (
    1000  # per PBX; the first ones, so that a long outage shows its whole schedule of repeats
)
_MAX_NTH: Final = 20
_AGAIN_S: Final = 5.0
_ANSWERS_PER_REQUEST: Final = 10  # a sender that repeats without a pause ends the probe
_ONCE: Final = re.compile(rb"NewCall|CDR|AttendedTransfer")
_NOT_PROBED: Final = re.compile(rb"Ringing|Agent(?:Log|Paused|UnPaused)")
"""Their repeats would be uncertain."""

EndOfProbe = Literal["time", "answers", "stopped"]


def rounded_s(seconds: float) -> str:
    """`0.3`, `2.5`, `61`: at most two significant digits below 100 s, so that there are few values to count."""
    return f"{max(0.0, seconds):.1f}".removesuffix(".0") if seconds < 10 else f"{seconds:.0f}"


@dataclass(slots=True)
class Probe:
    """A probe of one PBX. `refused`: different requests that got its 503; `answers`: all of its 503s, those to repeats included."""

    pbx: str
    requests: int
    until_s: float
    refused: int = 0
    answers: int = 0
    ended: EndOfProbe | None = None

    def to_json(self, now_s: float) -> dict[str, Any]:
        return {
            "pbx": self.pbx,
            "requests": self.requests,
            "refused": self.refused,
            "answers": self.answers,
            "ended": self.ended,
            "ends_in_s": round(max(0.0, self.until_s - now_s), 1) if self.ended is None else 0,
        }


@dataclass(slots=True)
class _Refused:
    """A body that is remembered."""

    status: int
    first_s: float
    last_s: float
    once: bool
    probed: bool
    repeats: int = 0


@dataclass(slots=True)
class _Counts:
    """Of one PBX and status. Keys of `repeats`: which repeat of its body it is, and the seconds since the request before it."""

    requests: int = 0
    watched: int = 0
    repeats: Counter[tuple[int, str]] = field(default_factory=Counter)
    uncertain: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)
    """Seconds that a body was watched for without a repeat -> bodies."""


class Retries:
    """
    Remembers refused bodies by their hashes, and runs the probe. For the event loop alone.

    Args:
        on_probe_ended: called once for each probe.
        monotonic: clock, in seconds.
    """

    def __init__(
        self,
        on_probe_ended: Callable[[Probe], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_probe_ended = on_probe_ended
        self._monotonic = monotonic
        self._key = os.urandom(32)
        self._remembered: dict[tuple[str | None, int], _Refused] = {}
        """By PBX (None before authentication) and hash, the oldest first."""
        self._size: Counter[str | None] = Counter()
        self._counts: defaultdict[tuple[str | None, int], _Counts] = defaultdict(_Counts)
        self._probe: Probe | None = None
        self.watching = False
        """Whether `received` must be called."""

    # ---------------------------------------------------------------- requests

    def count(self, pbx: str | None, status: int) -> None:
        """Count a refused request."""
        self._counts[pbx, status].requests += 1

    def refused(self, pbx: str | None, status: int, body: bytes) -> None:
        """Remember a body that was refused, unless it is remembered already."""
        self._remember(pbx, status, body, probed=False)

    def received(self, pbx: str | None, body: bytes) -> bool:
        """Note that a body came, perhaps again. Return whether the probe wants it answered with 503, once it is stored."""
        hashed = hash((self._key, body))
        known_pbx, known = pbx, self._remembered.get((pbx, hashed))
        if known is None:
            known_pbx, known = None, self._remembered.get((None, hashed))
        if known is not None:
            self._count_repeat(known_pbx, known, self._monotonic())
        probe = self._probe
        return probe is not None and probe.ended is None and self._wants(probe, pbx, body, known)

    def _wants(self, probe: Probe, pbx: str | None, body: bytes, known: "_Refused | None") -> bool:
        """Whether the probe wants the event answered with 503."""
        if self._monotonic() >= probe.until_s:
            self._end_probe("time")
            return False
        if probe.pbx != pbx or _NOT_PROBED.search(body):
            return False
        if known is None and probe.refused < probe.requests:
            known = self._remember(pbx, 503, body, probed=True)
            probe.refused += known is not None
        if known is None or not known.probed:
            return False
        probe.answers += 1
        if probe.answers >= probe.requests * _ANSWERS_PER_REQUEST:
            self._end_probe("answers")
        return True

    def _count_repeat(self, pbx: str | None, known: _Refused, now_s: float) -> None:
        counts = self._counts[pbx, known.status]
        gap_s = now_s - known.last_s
        known.last_s = now_s
        if gap_s >= _AGAIN_S and not known.once:
            counts.uncertain[rounded_s(gap_s)] += 1
            return
        known.repeats += 1
        counts.repeats[min(known.repeats, _MAX_NTH), rounded_s(gap_s)] += 1

    def _remember(self, pbx: str | None, status: int, body: bytes, *, probed: bool) -> _Refused | None:
        key = (pbx, hash((self._key, body)))
        known = self._remembered.get(key)
        if known is not None or self._size[pbx] >= _MAX_REMEMBERED:
            return known
        now_s = self._monotonic()
        refused = _Refused(status, now_s, now_s, _ONCE.search(body) is not None, probed)
        self._remembered[key] = refused
        self._size[pbx] += 1
        self._counts[pbx, status].watched += 1
        self.watching = True
        return refused

    def expire(self) -> None:
        """Forget bodies that were refused an hour ago, and end a probe whose time is over. Called once a second."""
        now_s = self._monotonic()
        while self._remembered:
            key, oldest = next(iter(self._remembered.items()))
            if now_s - oldest.first_s < WINDOW_S:
                break
            del self._remembered[key]
            self._size[key[0]] -= 1
            if not oldest.repeats:
                self._counts[key[0], oldest.status].silent[rounded_s(WINDOW_S)] += 1
        if self._probe is not None and now_s >= self._probe.until_s:
            self._end_probe("time")
        self._update_watching()

    # ---------------------------------------------------------------- probe

    @property
    def is_probing(self) -> bool:
        return self._probe is not None and self._probe.ended is None

    def start_probe(self, pbx: str, seconds: float, requests: int) -> bool:
        """Answer 503 to *requests* events of *pbx* and to their repeats, for *seconds*. False: a probe runs already."""
        if self.is_probing:
            return False
        self._probe = Probe(pbx, requests, self._monotonic() + seconds)
        self.watching = True
        return True

    def stop_probe(self) -> None:
        self._end_probe("stopped")
        self._update_watching()

    def describe_probe(self) -> dict[str, Any] | None:
        """Return the probe that runs, or the last one."""
        return None if self._probe is None else self._probe.to_json(self._monotonic())

    def _end_probe(self, end: EndOfProbe) -> None:
        if self._probe is not None and self._probe.ended is None:
            self._probe.ended = end
            self._on_probe_ended(self._probe)

    def _update_watching(self) -> None:
        self.watching = bool(self._remembered) or self.is_probing

    # ---------------------------------------------------------------- report

    def to_json(self) -> dict[str | None, dict[str, Any]]:
        """Return the counts by PBX (None: before authentication) and status."""
        now_s = self._monotonic()
        live: defaultdict[tuple[str | None, int], Counter[str]] = defaultdict(Counter)
        for (pbx, _), each in self._remembered.items():
            if not each.repeats:
                live[pbx, each.status][rounded_s(now_s - each.first_s)] += 1
        found: dict[str | None, dict[str, Any]] = defaultdict(dict)
        for (pbx, status), counts in sorted(
            self._counts.items(), key=lambda item: (item[0][0] or "", item[0][1])
        ):
            repeats: defaultdict[str, dict[str, int]] = defaultdict(dict)
            for (nth, gap), count in sorted(counts.repeats.items()):
                repeats[str(nth)][gap] = count
            found[pbx][str(status)] = {
                "requests": counts.requests,
                "watched": counts.watched,
                "repeats": dict(repeats),
                "uncertain": dict(counts.uncertain),
                "silent": dict(counts.silent + live[pbx, status]),
            }
        return found
