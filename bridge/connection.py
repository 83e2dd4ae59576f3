"""How to reach Kafka: addresses, TLS, SASL. The same settings in every service; `client_arguments` is what aiokafka wants to hear."""

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """Settings that begin with `VOIPEX_KAFKA_`."""

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
        Field(description="As Kafka names it; the other TLS and SASL settings count only where it says so."),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Field(description="With SASL_*.")
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str | None, Field(description="With SASL_*.")] = None
    kafka_sasl_password: Annotated[SecretStr | None, Field(description="With SASL_*.")] = None
    kafka_ssl_ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the authority that signed the brokers; default: the system's."),
    ] = None
    kafka_ssl_cert_file: Annotated[Path | None, Field(description="PEM file of our client certificate.")] = (
        None
    )
    kafka_ssl_key_file: Annotated[Path | None, Field(description="PEM file of its key.")] = None
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
        """Arguments that every aiokafka client takes. Raises OSError or ssl.SSLError when a certificate file cannot be used."""
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
        context = ssl.create_default_context(cafile=self.kafka_ssl_ca_file)
        if self.kafka_ssl_cert_file is not None:
            password = self.kafka_ssl_key_password
            context.load_cert_chain(
                self.kafka_ssl_cert_file,
                self.kafka_ssl_key_file,
                None if password is None else password.get_secret_value(),
            )
        return context
