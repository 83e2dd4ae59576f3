"""
Errors of an HTTP request itself. `problems` says how each is answered, and so are those of the packages behind the ingress.

    BridgeError
    ├── RequestError
    │   ├── MalformedRequest            no HTTP, or ambiguous
    │   ├── IncompleteRequest           the connection ended before the body
    │   ├── RequestTimeout
    │   ├── HeadersTooLarge
    │   ├── ContentTooLarge
    │   ├── UnsupportedContentEncoding
    │   ├── NotFound
    │   └── MethodNotAllowed
    └── ServiceUnavailable
        └── TooManyConnections
"""

from voipex.errors import BridgeError, ServiceUnavailable


class RequestError(BridgeError):
    """The client's request cannot be served."""


class IncompleteRequest(RequestError):
    """The connection ended before the body did. Nothing is kept, and the client is usually gone."""


class MalformedRequest(RequestError):
    """No HTTP, a method that HTTP does not know, or HTTP that two servers could read in two ways (two lengths, a length beside chunks, bad chunk sizes). Then the connection is closed."""


class RequestTimeout(RequestError):
    """Not complete within `VOIPEX_REQUEST_TIMEOUT_S` of its first byte; nothing is kept. Then the connection is closed."""


class HeadersTooLarge(RequestError):
    """Request line and headers of more than 32 KiB. Then the connection is closed."""


class NotFound(RequestError):
    """No such path. Operator: the URL to give to VOIPEX ends in /voipex."""


class MethodNotAllowed(RequestError):
    """Only POST."""


class ContentTooLarge(RequestError):
    """More than `VOIPEX_MAX_BODY_BYTES`; the rest is not read. Operator: VOIPEX events are below 1 KiB; look who sends this."""


class UnsupportedContentEncoding(RequestError):
    """A Content-Encoding other than identity; VOIPEX does not compress."""


class TooManyConnections(ServiceUnavailable):
    """More than `VOIPEX_MAX_CONNECTIONS` at once; said before a request is read. Operator: look who connects; a PBX needs a few dozen."""
