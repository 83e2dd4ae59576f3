"""Live, ready and metrics on a port of their own, the same in every service."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Readiness(NamedTuple):
    """Whether traffic should come here, and what a person wants to know about it."""

    ready: bool
    details: Mapping[str, Any]


def build_management(readiness: Callable[[], Readiness], registry: CollectorRegistry) -> Starlette:
    """
    `/live` 200 while the event loop turns; `/ready` 200 or 503 with details; `/metrics` in Prometheus text format.
    """

    async def live(_: Request) -> Response:
        return _json(200, {"live": True})

    async def ready(_: Request) -> Response:
        state = readiness()
        return _json(200 if state.ready else 503, {"ready": state.ready, **state.details})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", metrics)])


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
