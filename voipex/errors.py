"""
Everything that can go wrong, with what the caller is told.

    BridgeError
    ├── IngressError                       an answer to the PBX: status, retriable
    │   ├── Unauthorized                   401  no or wrong credentials
    │   │   └── TokenInvalid               401  a Bearer token that is not good, or no longer
    │   ├── OAuthError                     of POST /token, in the words of RFC 6749
    │   │   ├── InvalidTokenRequest        400
    │   │   ├── UnsupportedGrantType       400
    │   │   └── InvalidClient              401
    │   ├── ContentTooLarge                413
    │   ├── UnsupportedContentEncoding     415  a Content-Encoding
    │   ├── IncompleteRequest              400  the connection ended before the body
    │   ├── MalformedRequest               400  no HTTP, or ambiguous; then a close
    │   ├── RequestTimeout                 408
    │   ├── HeadersTooLarge                431
    │   ├── NotFound                       404
    │   ├── MethodNotAllowed               405
    │   ├── InvalidWebhook                 the body is kept as a dead letter
    │   │   ├── InvalidJson                400
    │   │   └── InvalidEvent               422
    │   └── ServiceUnavailable             503  ours to mend: try again later
    │       ├── SpoolFull
    │       ├── SpoolFailed                the process must stop
    │       ├── TooManyConnections
    │       ├── KafkaTooSlow               ack=kafka: it may still arrive
    │       └── ShuttingDown
    ├── SettingsInvalid                    exit 2, before any port opens
    ├── CredentialsInvalid                 exit 2
    ├── PortInUse                          exit 1, names the setting
    ├── SpoolFormat                        exit 1 (segments): written by another version
    ├── TopicMismatch                      exit 1: missing, with other partitions, or too small a max.message.bytes
    └── KafkaUnavailable
        ├── KafkaUnreachable               no broker answered within its time
        └── KafkaAccessDenied              it answered and does not let us in, or our certificate files cannot be used
"""

from collections.abc import Sequence
from typing import ClassVar, Final


class BridgeError(Exception):
    """Base of all our errors. Messages never carry a body, a number, an e-mail or a secret."""


class IngressError(BridgeError):
    """Becomes an HTTP answer in one place (`ingress`)."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retriable: ClassVar[bool] = True


class Unauthorized(IngressError):
    """No credentials, or wrong ones; before the body is read. Operator: compare the PBX's user and password with `voipex-bridge credentials list`."""

    status = 401
    title = "Unauthorized"
    retriable = False


class TokenInvalid(Unauthorized):
    """A Bearer token that is changed, expired, or of a secret that was revoked: fetch a new one from /token."""

    title = "Invalid token"
    retriable = True


class OAuthError(IngressError):
    """`POST /token` gave no token; `error` is RFC 6749's word for the reason."""

    error: ClassVar[str] = "invalid_request"
    status = 400
    title = "No token"
    retriable = False


class InvalidTokenRequest(OAuthError):
    """No form or JSON object with `grant_type`, `client_id` and `client_secret`, or the client in two places. Operator: compare the body that VOIPEX is told to send."""


class UnsupportedGrantType(OAuthError):
    """`grant_type` is not `client_credentials`."""

    error = "unsupported_grant_type"


class InvalidClient(OAuthError):
    """No client, an unknown one, or a wrong secret. Operator: compare `client_id` and `client_secret` with `voipex-bridge credentials list`."""

    error = "invalid_client"
    status = 401


class IncompleteRequest(IngressError):
    """The connection ended before the body did. It was not read, so nothing is kept; most often nobody hears this answer."""

    status = 400
    title = "Incomplete request"
    retriable = True


class MalformedRequest(IngressError):
    """No HTTP, a method that HTTP does not know, or HTTP that two servers could read in two ways (two lengths, a length beside chunks, bad chunk sizes). Then the connection is closed."""

    status = 400
    title = "Malformed request"
    retriable = False


class RequestTimeout(IngressError):
    """Not complete within `VOIPEX_REQUEST_TIMEOUT_S` of its first byte; nothing is kept. Then the connection is closed."""

    status = 408
    title = "Request too slow"
    retriable = True


class HeadersTooLarge(IngressError):
    """Request line and headers of more than 32 KiB. Then the connection is closed."""

    status = 431
    title = "Headers too large"
    retriable = False


class NotFound(IngressError):
    """No such path. Operator: the URL to give to VOIPEX ends in /voipex."""

    status = 404
    title = "Not found"
    retriable = False


class MethodNotAllowed(IngressError):
    """Only POST."""

    status = 405
    title = "Method not allowed"
    retriable = False


class ContentTooLarge(IngressError):
    """More than `VOIPEX_MAX_BODY_BYTES`; the rest is not read. Operator: VOIPEX events are below 1 KiB; look who sends this."""

    status = 413
    title = "Body too large"
    retriable = False


class UnsupportedContentEncoding(IngressError):
    """A Content-Encoding other than identity; VOIPEX does not compress."""

    status = 415
    title = "Compressed bodies are not accepted"
    retriable = False


class InvalidWebhook(IngressError):
    """The body was authenticated and read but is no event: kept as a dead letter with this error's class and message."""

    retriable = False


class InvalidJson(InvalidWebhook):
    """Neither JSON nor the relaxed notation, in UTF-8 or windows-1250."""

    status = 400
    title = "Not JSON"


class InvalidEvent(InvalidWebhook):
    """JSON, but no object, without EventName, without a key, nested too deeply, or with a number out of range. Operator: the key names of this credential may be wrong."""

    status = 422
    title = "Not an event"


RETRY_AFTER_S: Final = 2
"""With every 503: about one reconnect of ours; at least 1, or clients come back at once."""


class ServiceUnavailable(IngressError):
    """A fault of ours that passes: the PBX may send again after Retry-After."""

    status = 503
    title = "Temporarily unavailable"
    retriable = True


class SpoolFull(ServiceUnavailable):
    """More than `VOIPEX_SPOOL_LIMIT_BYTES` wait for Kafka, or the disk is full. Operator: bring Kafka back, or give room."""

    title = "Spool full"


class SpoolFailed(ServiceUnavailable):
    """The disk refused a write or a sync. The process must stop: a retry that succeeds proves nothing. Operator: check the disk."""

    title = "Spool broken"


class TooManyConnections(ServiceUnavailable):
    """More than `VOIPEX_MAX_CONNECTIONS` at once; said before a request is read. Operator: look who connects; a PBX needs a few dozen."""

    title = "Too many connections"


class KafkaTooSlow(ServiceUnavailable):
    """`ack=kafka`: no acknowledgement by all in-sync replicas in time. **The event may still arrive**: what the PBX sends again is a second event."""

    title = "Kafka did not answer in time"


class ShuttingDown(ServiceUnavailable):
    """The bridge is stopping."""

    title = "Shutting down"


def problem_details(error: IngressError) -> dict[str, str | int]:
    """The answer's body (RFC 9457)."""
    return {
        "type": f"urn:voipex-bridge:problem:{type(error).__name__}",
        "title": error.title,
        "status": error.status,
        "detail": str(error) or error.title,
    }


class SettingsInvalid(BridgeError):
    """All faults of the settings at once, each with its name, masked value and remedy."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class CredentialsInvalid(BridgeError):
    """The credentials file cannot be used as it is."""


class PortInUse(BridgeError):
    """An address that we should listen on is taken."""


class TopicMismatch(BridgeError):
    """Topics are missing, have another number of partitions, or reject records that the bridge may write. Operator: `voipex-bridge topics apply`."""


class KafkaUnavailable(BridgeError):
    """Kafka cannot be used now."""


class KafkaUnreachable(KafkaUnavailable):
    """No broker answered in time. Operator: check the addresses, TLS and SASL settings."""


class KafkaAccessDenied(KafkaUnavailable):
    """Our certificate files, user or rights do not let us in, and only a person can change that. The message names the setting or the right."""
