"""
What can go wrong, without a word about how it is answered: `bridge.http.problems` has the table of responses, `bridge.http.errors` the
errors of an HTTP request itself.

    BridgeError
    ├── Unauthorized                 no or wrong credentials
    │   └── TokenInvalid             a Bearer token that is not good, or no longer
    ├── OAuthError                   of POST /token, in the words of RFC 6749
    │   ├── InvalidTokenRequest
    │   ├── UnsupportedGrantType
    │   └── InvalidClient
    ├── InvalidWebhook               the body is kept as a dead letter
    │   ├── InvalidJson
    │   └── InvalidEvent
    ├── ServiceUnavailable           ours to mend: try again later
    │   ├── SpoolFull
    │   ├── SpoolFailed              the process must stop
    │   ├── KafkaTooSlow             ack=kafka: it may still arrive
    │   └── ShuttingDown
    ├── SettingsInvalid              exit 2, before any port opens
    ├── CredentialsInvalid           exit 2
    ├── PortInUse                    exit 1, names the setting
    ├── SpoolFormat                  exit 1 (segments): written by another version
    ├── TopicMismatch                exit 1: missing, with other partitions, or too small a max.message.bytes
    └── KafkaUnavailable
        ├── KafkaUnreachable         no broker answered within its time
        └── KafkaAccessDenied        it answered and does not let us in, or our certificate files cannot be used
"""

from collections.abc import Sequence
from typing import ClassVar


class BridgeError(Exception):
    """Base of all our errors. Messages never carry a body, a number, an e-mail or a secret."""


class Unauthorized(BridgeError):
    """No credentials, or wrong ones; before the body is read. Operator: compare the PBX's user and password with `voipex-bridge credentials list`."""


class TokenInvalid(Unauthorized):
    """A Bearer token that is changed, expired, or of a secret that was revoked: fetch a new one from /token."""


class OAuthError(BridgeError):
    """`POST /token` gave no token; `error` is RFC 6749's word for the reason."""

    error: ClassVar[str] = "invalid_request"


class InvalidTokenRequest(OAuthError):
    """No form or JSON object with `grant_type`, `client_id` and `client_secret`, or the client in two places. Operator: compare the body that VOIPEX is told to send."""


class UnsupportedGrantType(OAuthError):
    """`grant_type` is not `client_credentials`."""

    error = "unsupported_grant_type"


class InvalidClient(OAuthError):
    """No client, an unknown one, or a wrong secret. Operator: compare `client_id` and `client_secret` with `voipex-bridge credentials list`."""

    error = "invalid_client"


class InvalidWebhook(BridgeError):
    """The body was authenticated and read but is no event: kept as a dead letter with this error's class and message."""


class InvalidJson(InvalidWebhook):
    """Neither JSON nor the relaxed notation, in UTF-8 or windows-1250."""


class InvalidEvent(InvalidWebhook):
    """JSON, but no object, without EventName, without a key, nested too deeply, or with a number out of range. Operator: the key names of this credential may be wrong."""


class ServiceUnavailable(BridgeError):
    """A fault of ours that passes: the PBX may send again after Retry-After."""


class SpoolFull(ServiceUnavailable):
    """More than `VOIPEX_SPOOL_LIMIT_BYTES` wait for Kafka, or the disk is full. Operator: bring Kafka back, or give room."""


class SpoolFailed(ServiceUnavailable):
    """The disk refused a write or a sync. The process must stop: a retry that succeeds proves nothing. Operator: check the disk."""


class KafkaTooSlow(ServiceUnavailable):
    """`ack=kafka`: no acknowledgement by all in-sync replicas in time. **The event may still arrive**: what the PBX sends again is a second event."""


class ShuttingDown(ServiceUnavailable):
    """The bridge is stopping."""


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
