"""
The part of the management port that `voipex-bridge survey` uses.

`GET /survey`: counts of `senders`. `POST /probe-retry` with a JSON body starts a probe, `DELETE /probe-retry` ends it. Only JSON is taken, so
that no page in an operator's browser can start one.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.http.retries import MAX_PROBE_REQUESTS, MAX_PROBE_S, Retries
from voipex.service.logging import get_logger

SURVEY_PATH: Final = "/survey"
PROBE_PATH: Final = "/probe-retry"
_MAX_BODY_BYTES: Final = 1024

log = get_logger("survey")


class ProbeOrder(BaseModel):
    """Body of `POST /probe-retry`: `requests` different events of `pbx` are answered with 503, for at most `seconds`."""

    model_config = ConfigDict(extra="forbid")

    pbx: str
    seconds: float = Field(MAX_PROBE_S, gt=0, le=MAX_PROBE_S)
    requests: int = Field(10, ge=1, le=MAX_PROBE_REQUESTS)


def survey_routes(
    retries: Retries, pbxs: Collection[str], survey: Callable[[], Mapping[str, Any]]
) -> list[Route]:
    """Make the routes. *survey* returns the body of `GET /survey`."""

    async def get_survey(_: Request) -> Response:
        return _json(200, survey())

    async def start_probe(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _json(415, {"error": "send application/json"})
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            return _json(413, {"error": f"send Content-Length, at most {_MAX_BODY_BYTES}"})
        try:
            order = ProbeOrder.model_validate_json(await request.body())
        except ValidationError:
            return _json(
                422,
                {
                    "error": f'send {{"pbx": NAME, "seconds": at most {MAX_PROBE_S:g}, "requests": at most {MAX_PROBE_REQUESTS}}}'
                },
            )
        if order.pbx not in pbxs:
            return _json(422, {"error": "no such PBX"})
        if not retries.start_probe(order.pbx, order.seconds, order.requests):
            return _json(409, {"error": "a probe runs already"})
        log.warning(
            "retry probe started",
            pbx=order.pbx,
            seconds=order.seconds,
            requests=order.requests,
            effect="stored events are answered with 503",
        )
        return _json(200, {"probe": retries.describe_probe()})

    async def stop_probe(_: Request) -> Response:
        retries.stop_probe()
        return _json(200, {"probe": retries.describe_probe()})

    return [
        Route(SURVEY_PATH, get_survey, methods=["GET"]),
        Route(PROBE_PATH, start_probe, methods=["POST"]),
        Route(PROBE_PATH, stop_probe, methods=["DELETE"]),
    ]


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
