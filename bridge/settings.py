"""
The settings of the bridge, in one frozen `Settings`. docs/settings.md is made from this class; `environment` says where they come from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from voipex.service import settings as environment
from voipex.service.settings import Port, ServiceSettings


class Settings(ServiceSettings):
    """Settings of the bridge."""

    host: Annotated[
        str, Field(description="Address that the front door listens on; `0.0.0.0` in a container.")
    ] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port of the front door, `POST /voipex`.")] = 8080
    management_host: Annotated[
        str | None, Field(description="Address of the management port; default: `VOIPEX_HOST`.")
    ] = None
    management_port: Annotated[
        Port, Field(description="Port of `/live`, `/ready`, `/metrics`. Keep it inside your network.")
    ] = 8081
    tls_cert_file: Annotated[
        Path | None,
        Field(
            description="Certificate chain (PEM) of the front door: with it and its key the front door speaks HTTPS. Read again when it changes."
        ),
    ] = None
    tls_key_file: Annotated[
        Path | None, Field(description="Private key (PEM, not encrypted) of that certificate.")
    ] = None
    credentials_file: Annotated[
        Path,
        Field(
            description="Who may POST; made by `voipex-bridge credentials create`. Read again when it changes."
        ),
    ] = Path("credentials.json")
    ack: Annotated[
        Literal["spool", "kafka"],
        Field(
            description="When an event is answered 2xx: `spool`, once it is on our disk; `kafka`, once all in-sync replicas "
            "have it (no disk is needed, and every outage of Kafka is one for the PBX: docs/adr/0001)."
        ),
    ] = "spool"
    ack_timeout_s: Annotated[
        float,
        Field(
            description="With `kafka`: longest wait for the acknowledgement, then 503. Shorter than the PBX's own patience.",
            gt=0,
        ),
    ] = 5.0
    spool_dir: Annotated[
        Path,
        Field(description="Where accepted events wait for Kafka. A disk of its own that survives a restart."),
    ] = Path("spool")
    spool_limit_bytes: Annotated[
        int,
        Field(
            description="Most that may wait for Kafka; above it the answer is 503. Stay well below the disk's size.",
            ge=1024 * 1024,
        ),
    ] = 1024**3
    max_body_bytes: Annotated[
        int,
        Field(
            description="Longest body; above it 413. VOIPEX events are below 1 KiB.", ge=1024, le=128 * 1024
        ),
    ] = 64 * 1024
    request_timeout_s: Annotated[
        float,
        Field(
            description="Longest time from a request's first byte to the end of its body; then 408 and a close.",
            gt=0,
        ),
    ] = 10.0
    idle_timeout_s: Annotated[
        float,
        Field(description="How long a connection may be open without a request before it is closed.", gt=0),
    ] = 60.0
    max_connections: Annotated[
        int,
        Field(
            description="Most connections at once; one more is answered 503 and closed. A PBX needs a few dozen.",
            ge=1,
            le=100_000,
        ),
    ] = 1000
    accepted_status: Annotated[
        int, Field(description="Status of the answer to an accepted event.", ge=200, le=299)
    ] = 200
    accepted_body: Annotated[str, Field(description="Body of that answer (text/plain).")] = ""
    drain_s: Annotated[
        float,
        Field(
            description="Longest time between SIGTERM and exit that is spent on what still waits for Kafka.",
            ge=0,
        ),
    ] = 20.0
    topic_replication: Annotated[
        int, Field(description="Replicas of the topics that `topics apply` creates.", ge=1)
    ] = 3
    topic_min_insync: Annotated[
        int, Field(description="`min.insync.replicas` of the topics that `topics apply` creates.", ge=1)
    ] = 2

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong together: set both or none")
        return self


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Read the settings; `overrides` (from the command line) win over the environment, it over secret files.

    Raises:
        SettingsInvalid: with every fault. Exit 2, before any port opens.
    """
    return environment.load(Settings, overrides)
