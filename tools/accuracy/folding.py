"""Let the folds make their documents from delivered webhooks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from consumers.explain.replay import snapshots
from consumers.explain.trace import read_trace
from tools.accuracy.deliveries import Arrival
from voipex.timestamps import format_rfc3339

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """What the services show at a moment, by call_id and by agent."""

    at_us: int
    timelines: dict[str, Json]
    agents: dict[str, Json]


def documents(arrivals: Sequence[Arrival], moments_us: Sequence[int]) -> Iterator[Documents]:
    """Yield the documents as of each moment; the moments ascend."""
    trace = read_trace(map(_line, arrivals))
    for at_us, shown in zip(moments_us, snapshots(trace, moments_us), strict=True):
        yield Documents(
            at_us,
            {each["call_id"]: each for each in shown.timelines},
            {each["agent"]: each for each in shown.agents},
        )


def _line(arrival: Arrival) -> bytes:
    return orjson.dumps({"received_at": format_rfc3339(arrival.at_us), "body": arrival.body})
