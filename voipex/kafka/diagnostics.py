"""Find out why Kafka cannot be reached: probe every broker, and name the setting to check."""

import asyncio
import ssl
from typing import Any, Final, NamedTuple

import aiokafka.conn
from aiokafka import errors
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from voipex.errors import KafkaAccessDenied, KafkaUnavailable, KafkaUnreachable
from voipex.kafka.clients import client_arguments
from voipex.kafka.settings import KafkaSettings

_collect_hosts: Any = aiokafka.conn.collect_hosts
_create_conn: Any = aiokafka.conn.create_conn
_PROBE_TIMEOUT_S: Final = 3.0


async def diagnose(
    settings: KafkaSettings, error: BaseException, *, client_id: str = "voipex-bridge"
) -> KafkaUnavailable:
    """Find the cause of *error* and return the error that names it: `KafkaAccessDenied` if only an operator can remove it."""
    advertised: set[str] = set()
    results = await _probe(settings, advertised=advertised, client_id=client_id)
    causes = [
        _Cause(f"{address} {cause.message}", cause.access) for address, cause in results.items() if cause
    ]
    others = sorted(advertised.difference(results))
    if not causes and others:
        causes = [
            _Cause(f"{address}, which a broker advertises as its own address, {cause.message}", cause.access)
            for address, cause in (await _probe(settings, ",".join(others), client_id=client_id)).items()
            if cause is not None
        ]
    if causes:
        why = "; ".join(cause.message for cause in causes)
    elif isinstance(error, TimeoutError):
        why = str(error) or "connections are accepted, but a request was not answered in time"
    else:
        why = f"{type(error).__name__} {error}".strip()
    if any(cause.access for cause in causes):
        return KafkaAccessDenied(f"Kafka denies access at {settings.kafka_bootstrap_servers}: {why}")
    return KafkaUnreachable(
        f"Kafka does not answer at {settings.kafka_bootstrap_servers}: {why}. "
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS sets its addresses"
    )


async def probe_brokers(settings: KafkaSettings, addresses: str | None = None) -> dict[str, str | None]:
    """
    Connect to each of *addresses* (`host:port,…`, by default those of the settings), with TLS and SASL.

    Returns what is wrong at each address, or None.

    Raises:
        KafkaAccessDenied: the certificate files cannot be used.
    """
    causes = await _probe(settings, addresses)
    return {address: None if cause is None else cause.message for address, cause in causes.items()}


class _Cause(NamedTuple):
    """The reason why an address cannot be used."""

    message: str
    access: bool
    """Credentials, certificates or settings are wrong: retrying does not help."""


async def _probe(
    settings: KafkaSettings,
    addresses: str | None = None,
    advertised: set[str] | None = None,
    *,
    client_id: str = "voipex-bridge",
) -> dict[str, _Cause | None]:
    """Connect to each address and find out what is wrong, which aiokafka only logs. Adds the addresses of all brokers to *advertised*."""
    arguments = client_arguments(settings)
    servers = arguments.pop("bootstrap_servers")
    hosts = _collect_hosts(addresses or servers, randomize=False)

    async def cause(host: str, port: int) -> _Cause | None:
        connection: Any = None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                connection = await _create_conn(host, port, client_id=client_id, **arguments)
                # A listener that expects SASL closes the connection only now.
                metadata = await connection.send(MetadataRequest([]))
        except TimeoutError:
            return _Cause(f"no answer within {_PROBE_TIMEOUT_S:.0f} s", access=False)
        except (OSError, KafkaError) as error:
            return _cause(settings, error)
        finally:
            if connection is not None:
                connection.close()
        if advertised is not None:
            advertised.update(f"{broker[1]}:{broker[2]}" for broker in metadata.brokers)
        return None

    causes = await asyncio.gather(*(cause(host, port) for host, port, _ in hosts))
    return {f"{host}:{port}": why for (host, port, _), why in zip(hosts, causes, strict=True)}


def _cause(settings: KafkaSettings, error: OSError | KafkaError) -> _Cause:
    """Explain why a connection failed. If the broker closed it, aiokafka reports only that, and the reason is its cause."""
    reason = error.__cause__ if isinstance(error.__cause__, OSError | EOFError) else error
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    advice = _advice(settings, reason)
    if advice is not None:
        return _Cause(f"{type(reason).__name__}: {advice} ({text.strip().rstrip('.')})", access=True)
    if isinstance(reason, EOFError | ConnectionResetError):
        return _Cause(
            f"{type(error).__name__}: the broker closed the connection without an answer. Does it speak "
            f"VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?",
            access=False,
        )
    return _Cause(f"{type(reason).__name__}: {text}", access=False)


def _advice(settings: KafkaSettings, error: BaseException) -> str | None:
    """Return what an operator must do about an error that retrying does not remove; None for other errors."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_advice(settings, error)
    if isinstance(error, ssl.SSLError):
        return _tls_advice(settings, error)
    for kind, advice in (
        (
            errors.SaslAuthenticationFailed,
            (
                f"wrong user or password. Check VOIPEX_KAFKA_SASL_USERNAME={settings.kafka_sasl_username}, "
                f"VOIPEX_KAFKA_SASL_PASSWORD, and that this user has {settings.kafka_sasl_mechanism} credentials"
            ),
        ),
        (
            errors.UnsupportedSaslMechanismError,
            f"the broker does not support VOIPEX_KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}",
        ),
        (
            errors.IllegalSaslStateError,
            f"the broker expects no SASL. Check VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}",
        ),
    ):
        if isinstance(error, kind):
            return advice
    return None


def _tls_advice(settings: KafkaSettings, error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _NO_TLS:
        return f"TLS failed. Does the broker speak VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?"
    if "ALERT" not in reason:
        return f"TLS failed, and OpenSSL names the reason: {reason.replace('_', ' ').lower() or 'none'}"
    if settings.kafka_ssl_cert_file is None:
        return "the broker requires a client certificate. Set VOIPEX_KAFKA_SSL_CERT_FILE and VOIPEX_KAFKA_SSL_KEY_FILE"
    return (
        f"the broker rejects the certificate VOIPEX_KAFKA_SSL_CERT_FILE={settings.kafka_ssl_cert_file}. "
        "It must be valid, and signed by an authority in the brokers' trust store"
    )


def _certificate_advice(settings: KafkaSettings, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return (
            "the broker's certificate is not valid for this name. Use one of its names in VOIPEX_KAFKA_BOOTSTRAP_SERVERS "
            "and in the brokers' advertised.listeners"
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        file = settings.kafka_ssl_ca_file
        return (
            "the broker's certificate is signed by an unknown authority. Put that authority's certificate into "
            f"VOIPEX_KAFKA_SSL_CA_FILE ({'not set: the authorities of the system' if file is None else file})"
        )
    if error.verify_code in _TIME:
        return f"{_at_time(error)}. Renew it, or correct the clock of this host"
    return f"OpenSSL rejects the broker's certificate, or that of its authority: {error.verify_message}. Issue it anew without that fault"


def _at_time(error: ssl.SSLCertVerificationError) -> str:
    state = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
    return f"the certificate of the broker, or of its authority, {state} by the clock of this host"


_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"}
)
_OTHER_NAME: Final = frozenset(
    {62, 63, 64}
)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH, _IP_ADDRESS_MISMATCH
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_TIME: Final = frozenset({_NOT_YET_VALID, _EXPIRED})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer, self-signed, not trusted
