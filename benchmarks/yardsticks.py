"""
What the bridge is measured against, as ASGI applications: `echo`, the least that uvicorn can do with a body, and `plain`, the handler that
one would write in an afternoon (FastAPI and `send_and_wait`, no spool).
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from fastapi import FastAPI, Request

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def echo(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    del scope
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _with_producer(app: FastAPI) -> AsyncIterator[None]:
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=os.environ["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"], acks="all"
    )
    await producer.start()
    app.state.producer = producer
    yield
    await producer.stop()


plain = FastAPI(lifespan=_with_producer)


@plain.post("/voipex")
async def take(request: Request) -> dict[str, bool]:
    event = await request.json()
    await request.app.state.producer.send_and_wait(
        "voipex.call.events.v1", await request.body(), key=event["UniqueId"].encode()
    )
    return {"ok": True}
