"""Settings for access to Kafka, the same in every service; `client_arguments` makes aiokafka's arguments of them."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

CONTRADICTIONS: Final = "contradictions"
"""Type of the validation error that holds all contradictions, as `ctx["found"]`."""

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]]+)(:[0-9]{1,5})?")


class Contradiction(NamedTuple):
    """Settings that are valid each and cannot be meant together, by their fields, and the sentence for the operator."""

    fields: tuple[str, ...]
    message: str


class KafkaSettings(BaseSettings):
    """Addresses, TLS and SASL: the settings that begin with `VOIPEX_KAFKA_`."""

    model_config = SettingsConfigDict(
        env_prefix="VOIPEX_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    kafka_bootstrap_servers: Annotated[
        str, Field(description="Comma-separated `host:port` of some brokers.", min_length=1)
    ] = "127.0.0.1:9092"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Field(
            description="Security protocol, as Kafka names it. TLS and SASL settings apply only with a protocol that uses them."
        ),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Field(description="SASL mechanism.")
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str | None, Field(description="SASL user name.")] = None
    kafka_sasl_password: Annotated[SecretStr | None, Field(description="SASL password.")] = None
    kafka_ssl_ca_file: Annotated[
        Path | None,
        Field(
            description="PEM file of the authority that signed the brokers' certificates; default: the system's authorities."
        ),
    ] = None
    kafka_ssl_cert_file: Annotated[Path | None, Field(description="PEM file of the client certificate.")] = (
        None
    )
    kafka_ssl_key_file: Annotated[Path | None, Field(description="PEM file of its private key.")] = None
    kafka_ssl_key_password: Annotated[SecretStr | None, Field(description="Password of that key.")] = None
    kafka_client_rack: Annotated[
        str | None,
        Field(
            description="Rack or zone of this host, as the brokers' `broker.rack` has it: consumers read from a replica there "
            "if the brokers' `replica.selector.class` allows it."
        ),
    ] = None

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            if not _ADDRESS.fullmatch(address.strip()):
                raise ValueError(f"{address.strip()!r} is not an address, such as kafka-1:9092")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = tuple(self.contradictions())
        if found:
            why = "; ".join(each.message for each in found)
            raise PydanticCustomError(CONTRADICTIONS, "{why}", {"why": why, "found": found})
        return self

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield the settings that contradict each other. Subclasses add theirs."""
        if self.kafka_security_protocol.startswith("SASL") and (
            self.kafka_sasl_username is None or self.kafka_sasl_password is None
        ):
            yield Contradiction(
                ("kafka_security_protocol", "kafka_sasl_username", "kafka_sasl_password"),
                "VOIPEX_KAFKA_SASL_USERNAME and VOIPEX_KAFKA_SASL_PASSWORD: both are needed with "
                f"VOIPEX_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}",
            )
        if self.kafka_ssl_cert_file is None:
            for name in ("kafka_ssl_key_file", "kafka_ssl_key_password"):
                if getattr(self, name) is not None:
                    yield Contradiction(
                        ("kafka_ssl_cert_file", name),
                        f"VOIPEX_{name.upper()} is set and VOIPEX_KAFKA_SSL_CERT_FILE is not: set both or none of them",
                    )

    def client_arguments(self) -> dict[str, Any]:
        """Return the arguments of every aiokafka client; the files are read each time. Raises OSError that names a setting and its file."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap_servers,
            "security_protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.endswith("SSL"):
            arguments["ssl_context"] = self._tls()
        if self.kafka_security_protocol.startswith("SASL") and self.kafka_sasl_password is not None:
            arguments["sasl_mechanism"] = self.kafka_sasl_mechanism
            arguments["sasl_plain_username"] = self.kafka_sasl_username
            arguments["sasl_plain_password"] = self.kafka_sasl_password.get_secret_value()
        return arguments

    def _tls(self) -> ssl.SSLContext:
        with _naming("VOIPEX_KAFKA_SSL_CA_FILE", self.kafka_ssl_ca_file):
            context = ssl.create_default_context(cafile=self.kafka_ssl_ca_file)
        certificate, key = self.kafka_ssl_cert_file, self.kafka_ssl_key_file or self.kafka_ssl_cert_file
        if certificate is not None and key is not None:
            with _naming("VOIPEX_KAFKA_SSL_CERT_FILE", certificate):
                _expect(certificate, "CERTIFICATE")
            with _naming("VOIPEX_KAFKA_SSL_KEY_FILE", key):
                _expect(key, "PRIVATE KEY")
                context.load_cert_chain(certificate, key, self._key_password)
        return context

    def _key_password(self) -> str:
        """Return the password, if OpenSSL asks for it because the key is encrypted; by default it would ask at the terminal, and wait."""
        if self.kafka_ssl_key_password is None:
            raise OSError("it is encrypted: set VOIPEX_KAFKA_SSL_KEY_PASSWORD")
        return self.kafka_ssl_key_password.get_secret_value()


@contextlib.contextmanager
def _naming(setting: str, file: Path | None) -> Iterator[None]:
    """Raise errors of a certificate file as OSErrors that name the setting, the file and the cause."""
    try:
        yield
    except ssl.SSLError as error:
        why = _MESSAGES.get(
            error.reason or "",
            f"it is damaged, or VOIPEX_KAFKA_SSL_KEY_PASSWORD is not its password ({error.strerror})",
        )
        raise OSError(f"{setting}={file}: {why}") from error
    except OSError as error:
        raise OSError(f"{setting}={file}: {error.strerror or error}") from error


_MESSAGES: Final = {
    "KEY_VALUES_MISMATCH": "it is not the key of the certificate in VOIPEX_KAFKA_SSL_CERT_FILE",
    "NO_CERTIFICATE_OR_CRL_FOUND": "it contains no certificate (PEM)",
}


def _expect(file: Path, what: str) -> None:
    """Check the kind of a PEM file: for a certificate and its key, ssl reports neither the file nor the cause."""
    if f"{what}-----".encode() not in file.read_bytes():
        raise OSError(f"it contains no {what.lower()} (PEM)")
