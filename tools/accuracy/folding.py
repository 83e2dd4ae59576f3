"""Let the folds make their documents from delivered webhooks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from consumers.explain.replay import snapshots
from consumers.explain.trace import Received, Trace, made_up_id
from tools.accuracy.deliveries import Arrival
from voipex.normalize import Receipt, normalize
from voipex.timestamps import rfc3339
from voipex.webhook import parse

Json = dict[str, Any]

_PBX: Final = "voipex"


@dataclass(frozen=True, slots=True)
class Documents:
    """What the services show at a moment, by call_id and by agent."""

    at_us: int
    timelines: dict[str, Json]
    agents: dict[str, Json]


def documents(arrivals: Sequence[Arrival], moments_us: Sequence[int]) -> Iterator[Documents]:
    """Yield the documents as of each moment; the moments ascend."""
    trace = Trace(tuple(_received(arrival, place) for place, arrival in enumerate(arrivals)), ())
    for at_us, shown in zip(moments_us, snapshots(trace, moments_us), strict=True):
        yield Documents(
            at_us,
            {each["call_id"]: each for each in shown.timelines},
            {each["agent"]: each for each in shown.agents},
        )


def _received(arrival: Arrival, place: int) -> Received:
    receipt = Receipt(arrival.at_us, rfc3339(arrival.at_us), made_up_id(arrival.at_us, place))
    return Received(arrival.at_us, normalize(parse(orjson.dumps(arrival.body)), _PBX, receipt))
