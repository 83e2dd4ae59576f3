"""The ingress as an ASGI application: for any ASGI server, and for tests. `bridge serve` uses `protocol`, with more limits and less work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from bridge.http.errors import ContentTooLarge, IncompleteRequest
from bridge.http.messages import Application, Handler, Response, joined

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def asgi_application(application: Application) -> Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]:
    """Make the ASGI application. It has no lifespan: what *application* needs is started before, and outlives the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"no {scope['type']} here")
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = joined(name, value) if name in headers else value
        peer = (scope.get("client") or ("",))[0]
        opened = application.open(scope["method"].encode(), scope["path"].encode(), headers, peer)
        response = opened if isinstance(opened, Response) else await _handled(opened, receive)
        start = {"type": "http.response.start", "status": response.status, "headers": list(response.headers)}
        await send(start)
        await send({"type": "http.response.body", "body": response.body})

    return app


async def _handled(handler: Handler, receive: Receive) -> Response:
    try:
        body = await _read_body(receive, handler.max_body_bytes)
    except (ContentTooLarge, IncompleteRequest) as error:
        return handler.reject(error)
    responded: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def respond(response: Response) -> None:
        if not responded.done():  # cancelled: the client is gone
            responded.set_result(response)

    handler(body, respond)
    return await responded


async def _read_body(receive: Receive, max_body_bytes: int) -> bytes:
    """Read the whole body. Raises ContentTooLarge as soon as it is too long, IncompleteRequest when the client leaves before its end."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise IncompleteRequest("the connection ended before the body")
        body += message.get("body", b"")
        if len(body) > max_body_bytes:
            raise ContentTooLarge(f"more than {max_body_bytes} bytes")
        more = message.get("more_body", False)
    return body
