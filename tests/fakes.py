"""Fakes of the ingress's collaborators, and an ASGI client."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.auth.authenticate import Principal
from bridge.http.asgi import asgi_application
from bridge.http.ingress import WEBHOOK_PATHS, Ingress, WebhookEndpoint
from bridge.http.receipts import ReceiptClock
from bridge.metrics import Metrics
from voipex.errors import Unauthorized
from voipex.records import Record
from voipex.webhook import DOCUMENTED_KEYS

PRINCIPAL = Principal("demo", "voipex", "CZ", DOCUMENTED_KEYS)


@dataclass
class FakeSpool:
    """A spool that stores records in a list, or fails each append with `fault`."""

    records: list[Record] = field(default_factory=list)
    fault: Exception | None = None

    def append(self, records: Sequence[Record], on_durable: Callable[[Any], None]) -> None:
        if self.fault is None:
            self.records.extend(records)
        on_durable(self.fault)


def allow_good(header: bytes | None) -> Principal:
    """Authenticate the header `Basic good`."""
    if header != b"Basic good":
        raise Unauthorized("not good")
    return PRINCIPAL


def webhook_ingress(
    spool: FakeSpool,
    metrics: Metrics | None = None,
    authenticate: Callable[[bytes | None], Principal] = allow_good,
    *,
    max_body_bytes: int = 1024,
    accepted: tuple[int, bytes] = (200, b""),
    log_requests: bool = False,
) -> Ingress:
    """An ingress with the webhook endpoint only."""
    metrics = metrics or Metrics("test")
    endpoint = WebhookEndpoint(
        spool,
        authenticate,
        ReceiptClock(),
        metrics,
        partitions_of=lambda _: 12,
        max_body_bytes=max_body_bytes,
        accepted=accepted,
    )
    return Ingress(dict.fromkeys(WEBHOOK_PATHS, endpoint), metrics, log_requests=log_requests)


@dataclass
class AsgiResponse:
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    reads: int


async def asgi_request(
    app: Ingress,
    *chunks: bytes,
    path: str = "/voipex",
    method: str = "POST",
    headers: Sequence[tuple[bytes, bytes]] = ((b"authorization", b"Basic good"),),
    ends: bool = True,
) -> AsgiResponse:
    """
    Send one request to the ASGI application.

    With `ends=False` the client disconnects after its chunks. `AsgiResponse.reads`: how often the application called `receive`.
    """
    waiting = list(chunks or (b"",))
    sent: list[Any] = []
    reads = 0

    async def receive() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        if waiting:
            chunk = waiting.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(waiting) or not ends}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": list(headers),
        "client": ("192.0.2.1", 4711),
    }
    await asgi_application(app)(scope, receive, send)
    start = sent[0]
    joined: dict[bytes, bytes] = {}
    for name, value in start["headers"]:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return AsgiResponse(start["status"], joined, b"".join(part.get("body", b"") for part in sent[1:]), reads)
