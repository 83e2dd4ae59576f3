"""
Errors of all packages. `bridge.http.problems` has the table of responses, `bridge.http.errors` the errors of an HTTP request itself.

    BridgeError
    ├── Unauthorized                 no or wrong credentials
    │   └── TokenInvalid             a Bearer token that is invalid or has expired
    ├── OAuthError                   of POST /token, as RFC 6749 defines them
    │   ├── InvalidTokenRequest
    │   ├── UnsupportedGrantType
    │   └── InvalidClient
    ├── InvalidWebhook               the body is stored as a dead letter
    │   ├── InvalidJson
    │   └── InvalidEvent
    ├── ServiceUnavailable           a temporary fault of the bridge: try again later
    │   ├── SpoolFull
    │   │   └── SpoolShareFull       of one PBX
    │   ├── SpoolFailed              the process must stop
    │   ├── KafkaTooSlow             ack=kafka: it may still arrive
    │   └── ShuttingDown
    ├── SettingsInvalid              exit 2, before any port opens
    ├── CredentialsInvalid           exit 2
    ├── PortInUse                    exit 1, names the setting
    ├── SpoolFormat                  exit 1 (segments): written by another version
    ├── TopicMismatch                exit 1: with other partitions, or too small a max.message.bytes
    │   └── TopicsMissing            a service waits for them; exit 1 of a command
    └── KafkaUnavailable
        ├── KafkaUnreachable         no broker answered in time
        └── KafkaAccessDenied        a broker denied access, or the certificate files cannot be used
"""

from collections.abc import Sequence
from typing import ClassVar


class BridgeError(Exception):
    """Base of all errors below. A message never contains a body, a phone number, an e-mail address or a secret."""


class Unauthorized(BridgeError):
    """Credentials are missing or wrong; they are checked before the body is read. Operator: compare the PBX's user and password with `voipex-bridge credentials list`."""

    def __init__(self, message: str = "", *, user: str | None = None) -> None:
        """*user*: whose password was wrong, as a log may show it."""
        super().__init__(message)
        self.user = user


class TokenInvalid(Unauthorized):
    """The Bearer token was changed, has expired, or belongs to a revoked secret: fetch a new one from /token."""


class OAuthError(BridgeError):
    """`POST /token` issued no token; `error` is the code of RFC 6749 for the reason."""

    error: ClassVar[str] = "invalid_request"


class InvalidTokenRequest(OAuthError):
    """Not a form or JSON object with `grant_type`, `client_id` and `client_secret`, or the client is given in two places. Operator: compare the body that VOIPEX is configured to send."""


class UnsupportedGrantType(OAuthError):
    """`grant_type` is not `client_credentials`."""

    error = "unsupported_grant_type"


class InvalidClient(OAuthError):
    """The client is missing or unknown, or its secret is wrong. Operator: compare `client_id` and `client_secret` with `voipex-bridge credentials list`."""

    error = "invalid_client"

    def __init__(self, message: str = "", *, user: str | None = None) -> None:
        """*user*: whose secret was wrong, as a log may show it."""
        super().__init__(message)
        self.user = user


class InvalidWebhook(BridgeError):
    """The body was authenticated and read but is not an event; it is stored as a dead letter with this error's class and message."""


class InvalidJson(InvalidWebhook):
    """Neither JSON nor the relaxed notation, in UTF-8 (also with broken bytes) or windows-1250."""


class InvalidEvent(InvalidWebhook):
    """JSON, but not an object, without EventName, without a key, nested too deeply, or with a number out of range. Operator: check the key names of this credential."""


class ServiceUnavailable(BridgeError):
    """A temporary fault of the bridge: the PBX may send again after Retry-After."""


class SpoolFull(ServiceUnavailable):
    """More than `VOIPEX_SPOOL_LIMIT_BYTES` wait for Kafka, or the disk is full. Operator: restore Kafka, or free disk space."""


class SpoolShareFull(SpoolFull):
    """Events of this PBX that wait for Kafka fill its share of `VOIPEX_SPOOL_LIMIT_BYTES`; those of other PBXs are accepted. Operator: restore Kafka; see why this PBX sends so many."""


class SpoolFailed(ServiceUnavailable):
    """The disk refused a write or a sync, or the spool's files were removed. The process must stop, since a retry that succeeds proves nothing. Operator: check the disk."""


class KafkaTooSlow(ServiceUnavailable):
    """`ack=kafka`: the in-sync replicas did not all acknowledge in time. **The event may still arrive**: what the PBX sends again is a second event."""


class ShuttingDown(ServiceUnavailable):
    """The bridge is stopping."""


class SettingsInvalid(BridgeError):
    """Every fault of the settings at once, each with its variable, its value (masked if secret) and the meaning of the setting."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class CredentialsInvalid(BridgeError):
    """The credentials file cannot be used as it is."""


class PortInUse(BridgeError):
    """An address to listen on is in use."""


class TopicMismatch(BridgeError):
    """Topics are missing, have another number of partitions, or reject records that the bridge may write. Operator: `voipex-bridge topics apply`."""


class TopicsMissing(TopicMismatch):
    """Topics do not exist, or not yet. Operator: `voipex-bridge topics apply`."""


class KafkaUnavailable(BridgeError):
    """Kafka cannot be used now."""


class KafkaUnreachable(KafkaUnavailable):
    """No broker answered in time. Operator: check the addresses, TLS and SASL settings."""


class KafkaAccessDenied(KafkaUnavailable):
    """A broker denies access to this user, or the certificate files cannot be used: retrying does not help. The message names the setting or the ACL."""
