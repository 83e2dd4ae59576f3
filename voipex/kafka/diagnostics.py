"""Why Kafka cannot be reached: probe every broker and name the setting to look at."""

import asyncio
import ssl
from typing import Any, Final, NamedTuple

import aiokafka
import aiokafka.admin
import aiokafka.admin.config_resource
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
    """Find the cause of *error*: `KafkaAccessDenied` when it is ours to mend."""
    named: set[str] = set()
    answers = await _probe(settings, named=named, client_id=client_id)
    causes = [
        _Cause(f"{address} {cause.message}", cause.access) for address, cause in answers.items() if cause
    ]
    others = sorted(named.difference(answers))
    if not causes and others:
        causes = [
            _Cause(f"{address}, which a broker advertises as its own address, {cause.message}", cause.access)
            for address, cause in (await _probe(settings, ",".join(others), client_id=client_id)).items()
            if cause is not None
        ]
    if causes:
        why = "; ".join(cause.message for cause in causes)
    elif isinstance(error, TimeoutError):
        why = str(error) or "connections are taken, but what was asked was not answered in time"
    else:
        why = f"{type(error).__name__} {error}".strip()
    if any(cause.access for cause in causes):
        return KafkaAccessDenied(f"Kafka does not let us in at {settings.kafka_bootstrap_servers}: {why}")
    return KafkaUnreachable(f"Kafka does not answer at {settings.kafka_bootstrap_servers}: {why}")


async def probe_brokers(settings: KafkaSettings, addresses: str | None = None) -> dict[str, str | None]:
    """
    Connect to each of *addresses* (`host:port,…`, by default those of the settings), TLS and SASL included: what is wrong there, or None.

    Raises:
        KafkaAccessDenied: the certificate files cannot be used.
    """
    causes = await _probe(settings, addresses)
    return {address: None if cause is None else cause.message for address, cause in causes.items()}


class _Cause(NamedTuple):
    """Why an address cannot be used."""

    message: str
    access: bool
    """Credentials, certificates, settings: trying again does not help."""


async def _probe(
    settings: KafkaSettings,
    addresses: str | None = None,
    named: set[str] | None = None,
    *,
    client_id: str = "voipex-bridge",
) -> dict[str, _Cause | None]:
    """Connect to each address and say what is wrong, which aiokafka only logs; adds to *named* the addresses that brokers name."""
    arguments = client_arguments(settings)
    servers = arguments.pop("bootstrap_servers")
    hosts = _collect_hosts(addresses or servers, randomize=False)

    async def cause(host: str, port: int) -> _Cause | None:
        connection: Any = None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                connection = await _create_conn(host, port, client_id=client_id, **arguments)
                # A listener that wants SASL ends the connection only here.
                metadata = await connection.send(MetadataRequest([]))
        except TimeoutError:
            return _Cause(f"no answer within {_PROBE_TIMEOUT_S:.0f} s", access=False)
        except (OSError, KafkaError) as error:
            return _cause(settings, error)
        finally:
            if connection is not None:
                connection.close()
        if named is not None:
            named.update(f"{broker[1]}:{broker[2]}" for broker in metadata.brokers)
        return None

    found = await asyncio.gather(*(cause(host, port) for host, port, _ in hosts))
    return {f"{host}:{port}": why for (host, port, _), why in zip(hosts, found, strict=True)}


def _cause(settings: KafkaSettings, error: OSError | KafkaError) -> _Cause:
    """Say why a connection failed. Of one that ended aiokafka says only that; what it ended with stands behind."""
    found = error.__cause__ if isinstance(error.__cause__, OSError | EOFError) else error
    reason = found.strerror if isinstance(found, OSError) and found.strerror else str(found)
    advice = _advice(settings, found)
    if advice is not None:
        return _Cause(f"{type(found).__name__}: {advice} ({reason.strip().rstrip('.')})", access=True)
    if isinstance(found, EOFError | ConnectionResetError):
        return _Cause(
            f"{type(error).__name__}: it ends the connection without an answer. Does it speak "
            f"VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?",
            access=False,
        )
    return _Cause(f"{type(found).__name__}: {reason}", access=False)


def _advice(settings: KafkaSettings, error: BaseException) -> str | None:
    """What to do about a refusal that nobody but a person can end; None: it is something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_advice(settings, error)
    if isinstance(error, ssl.SSLError):
        if "ALERT" not in (error.reason or ""):
            return (
                f"TLS fails. Does it speak VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}?"
            )
        if settings.kafka_ssl_cert_file is None:
            return "the broker requires a client certificate. Set VOIPEX_KAFKA_SSL_CERT_FILE and VOIPEX_KAFKA_SSL_KEY_FILE"
        return (
            f"the broker rejects the certificate VOIPEX_KAFKA_SSL_CERT_FILE={settings.kafka_ssl_cert_file}. "
            "It must be valid, and signed by an authority of the brokers' trust store"
        )
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
            f"it does not take VOIPEX_KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}",
        ),
        (
            errors.IllegalSaslStateError,
            f"it wants no SASL. Check VOIPEX_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}",
        ),
    ):
        if isinstance(error, kind):
            return advice
    return None


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
            f"VOIPEX_KAFKA_SSL_CA_FILE ({'not set: the system decides' if file is None else file})"
        )
    return "the broker's certificate is not good. Has it expired, or is our clock wrong?"


_OTHER_NAME: Final = frozenset(
    {62, 63, 64}
)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH, _IP_ADDRESS_MISMATCH
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})  # no issuer, self-signed, not trusted
