"""The management port of every service: liveness, readiness and metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Readiness(NamedTuple):
    """Whether the service is ready, and details for the operator."""

    ready: bool
    details: Mapping[str, Any]


def build_management(
    readiness: Callable[[], Readiness],
    registry: CollectorRegistry,
    stalled_because: Callable[[], str | None] = lambda: None,
    more_routes: Sequence[Route] = (),
) -> Starlette:
    """
    Build the application of the management port.

    `/live`: 200 as long as the event loop runs and nothing has stalled, else 503 with the reason. `/ready`: 200 or 503, with details. `/metrics`: Prometheus text format.
    *more_routes*: of this service alone.
    """

    async def live(_: Request) -> Response:
        reason = stalled_because()
        return _json(200, {"live": True}) if reason is None else _json(503, {"live": False, "reason": reason})

    async def ready(_: Request) -> Response:
        state = readiness()
        return _json(200 if state.ready else 503, {"ready": state.ready, **state.details})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", metrics), *more_routes]
    )


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
