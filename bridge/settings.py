"""
Environment and secret files -> one frozen `Settings`. All faults are reported at once, secrets masked.

Every field is a setting: `VOIPEX_` and its name in capitals, or a file of that name below `VOIPEX_SECRETS_DIR`. docs/settings.md is made
from this class.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, PydanticBaseSettingsSource, SecretsSettingsSource

from bridge.connection import KafkaSettings
from bridge.errors import SettingsInvalid
from bridge.topics import DEFAULT_PARTITIONS, Topic, declared

_PBX_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
SECRETS_DIR_VARIABLE: Final = "VOIPEX_SECRETS_DIR"
_DEFAULT_SECRETS_DIR: Final = "/run/secrets"

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(KafkaSettings):
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
    pbxs: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Names of the PBXs, comma-separated, `[a-z0-9-]{1,32}`; each has its own topics.",
            min_length=1,
        ),
    ] = ("voipex",)
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
    topic_partitions: Annotated[
        int, Field(description="Partitions of every topic; frozen once events are there.", ge=1, le=10_000)
    ] = DEFAULT_PARTITIONS
    topic_replication: Annotated[
        int, Field(description="Replicas of the topics that `topics apply` creates.", ge=1)
    ] = 3
    topic_min_insync: Annotated[
        int, Field(description="`min.insync.replicas` of the topics that `topics apply` creates.", ge=1)
    ] = 2
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="`debug` adds a line per request.")
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"], Field(description="`json`: one object per line; `console`: for people.")
    ] = "json"

    @field_validator("pbxs", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("pbxs")
    @classmethod
    def _named_well(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not _PBX_NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"a PBX name is 1 to 32 of a-z, 0-9 and -, not {', '.join(map(repr, wrong))}")
        if len(set(names)) != len(names):
            raise ValueError("a PBX is named twice")
        return names

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong together: set both or none")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[Any],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        folder = os.environ.get(SECRETS_DIR_VARIABLE, _DEFAULT_SECRETS_DIR)
        secret_files = (
            SecretsSettingsSource(settings_cls, secrets_dir=folder) if Path(folder).is_dir() else None
        )
        return (init_settings, env_settings, *([secret_files] if secret_files is not None else []))

    def topics(self) -> tuple[Topic, ...]:
        """Every topic that these settings need."""
        return declared(self.pbxs, self.topic_partitions)


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Read the settings; `overrides` (from the command line) win over the environment, it over secret files.

    Raises:
        SettingsInvalid: with every fault. Exit 2, before any port opens.
    """
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsInvalid([_fault(dict(each), overrides or {}) for each in error.errors()]) from None


def _fault(error: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """`VOIPEX_PORT='80a0': Input should be a valid integer. Port of the front door …`."""
    message = str(error["msg"]).removeprefix("Value error, ")
    location = error["loc"]
    if not location:
        return message
    name = str(location[0])
    variable = variable_of(name)
    field = Settings.model_fields[name]
    if _is_secret(field.annotation):
        value = "**********"
    else:
        value = (
            repr(str(overrides[name]))
            if name in overrides
            else repr(os.environ.get(variable, "(from a secret file)"))
        )
    return f"{variable}={value}: {message}. Meaning: {field.description}"


def variable_of(name: str) -> str:
    """Environment variable of a setting."""
    return f"VOIPEX_{name.upper()}"


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def unknown_variables(known_elsewhere: frozenset[str] = frozenset()) -> Iterator[str]:
    """A line for each `VOIPEX_` variable that no setting reads: most likely a typing error."""
    known = {variable_of(name) for name in Settings.model_fields} | {SECRETS_DIR_VARIABLE} | known_elsewhere
    for variable in sorted(os.environ):
        if variable.startswith("VOIPEX_") and variable not in known:
            near = get_close_matches(variable, known, n=1)
            yield f"{variable} is no setting of the bridge" + (f"; did you mean {near[0]}?" if near else "")
