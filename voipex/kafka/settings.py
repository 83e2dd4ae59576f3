"""Settings for access to Kafka, the same in every service; `client_arguments` makes aiokafka's arguments of them."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and (
            self.kafka_sasl_username is None or self.kafka_sasl_password is None
        ):
            raise ValueError(
                "VOIPEX_KAFKA_SASL_USERNAME and VOIPEX_KAFKA_SASL_PASSWORD: both are needed with "
                f"VOIPEX_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
            )
        return self

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
