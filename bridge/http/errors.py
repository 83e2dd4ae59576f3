"""
Errors of an HTTP request itself. `problems` says how each is answered, and so are those of the packages behind the ingress.

    BridgeError
    ├── RequestError
    │   ├── MalformedRequest            not HTTP, or ambiguous
    │   ├── IncompleteRequest           the connection ended before the body
    │   ├── RequestTimeout
    │   ├── LengthRequired
    │   ├── HeadersTooLarge
    │   ├── ContentTooLarge
    │   ├── UnsupportedContentEncoding
    │   ├── TooManyAttempts
    │   ├── NotFound
    │   └── MethodNotAllowed
    └── ServiceUnavailable
        ├── TooManyConnections
        └── RetryProbe
"""

from voipex.errors import BridgeError, ServiceUnavailable


class RequestError(BridgeError):
    """The client's request cannot be served."""


class IncompleteRequest(RequestError):
    """The connection ended before the body was complete; nothing is stored. The client is usually gone."""


class MalformedRequest(RequestError):
    """Not HTTP, an unknown method, or a request that two servers could read differently (two lengths, a length beside chunks, invalid chunk sizes), no HTTP version, or not exactly one Host in HTTP/1.1. The connection is closed."""


class RequestTimeout(RequestError):
    """Not complete within `VOIPEX_REQUEST_TIMEOUT_S` of its first byte; nothing is stored. The connection is closed."""


class LengthRequired(RequestError):
    """A POST with neither Content-Length nor chunks, so with no body; nothing is stored."""


class HeadersTooLarge(RequestError):
    """Request line and headers exceed 32 KiB. The connection is closed."""


class TooManyAttempts(RequestError):
    """Too many wrong passwords from this address: one in two seconds gets 401. A right one is accepted from there all the same. The connection is closed. Operator: the log names user and address; behind a proxy set `VOIPEX_TRUSTED_PROXIES`."""


class NotFound(RequestError):
    """No such path. Operator: the URL in VOIPEX must end in /voipex."""


class MethodNotAllowed(RequestError):
    """Only POST is allowed."""


class ContentTooLarge(RequestError):
    """The body exceeds `VOIPEX_MAX_BODY_BYTES`; the rest is not read. Operator: VOIPEX events are below 1 KiB; find out what sends this."""


class UnsupportedContentEncoding(RequestError):
    """A Content-Encoding other than identity; VOIPEX does not compress."""


class TooManyConnections(ServiceUnavailable):
    """More than `VOIPEX_MAX_CONNECTIONS` connections; sent before a request is read. Operator: find out what connects; a PBX needs a few dozen."""


class RetryProbe(ServiceUnavailable):
    """The event is stored; a probe answers 503 all the same, to see whether the PBX sends it again. It ends by itself within a minute. Operator: `voipex-bridge survey --probe-retry` was started; Ctrl-C there ends it early."""
