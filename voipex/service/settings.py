"""
Settings of every service, read from the environment and from secret files. All faults are reported at once, secrets masked.

Every field is a setting: the variable `VOIPEX_` and its name in capitals, or a file of that name below `VOIPEX_SECRETS_DIR`. The classes of
all services are declared here because one environment may feed them all: each must know the variables of the others to report a typing
error (`unknown_variables`) and nothing else. `bridge.settings` and `consumers.settings` are what the services import.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, PydanticBaseSettingsSource, SecretsSettingsSource

from voipex.errors import SettingsInvalid
from voipex.kafka.settings import KafkaSettings
from voipex.topics import DEFAULT_PARTITIONS, Topic, topics_for

SECRETS_DIR_VARIABLE: Final = "VOIPEX_SECRETS_DIR"
_DEFAULT_SECRETS_DIR: Final = "/run/secrets"
_PBX_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")

Port = Annotated[int, Field(ge=0, le=65535)]


class ServiceSettings(KafkaSettings):
    """Settings that every service has: Kafka, the PBXs and their topics, logging."""

    pbxs: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Names of the PBXs, comma-separated, `[a-z0-9-]{1,32}`. Each PBX has its own topics.",
            min_length=1,
        ),
    ] = ("voipex",)
    topic_partitions: Annotated[
        int,
        Field(
            description="Partitions of every topic. Never change it once there are events.", ge=1, le=10_000
        ),
    ] = DEFAULT_PARTITIONS
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Minimum level of the log lines; at `debug` the bridge logs every request."),
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"],
        Field(description="`json`: one object per line; `console`: for reading in a terminal."),
    ] = "json"

    @field_validator("pbxs", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("pbxs")
    @classmethod
    def _valid_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        invalid = [name for name in names if not _PBX_NAME.fullmatch(name)]
        if invalid:
            raise ValueError(f"a PBX name is 1 to 32 of a-z, 0-9 and -, not {', '.join(map(repr, invalid))}")
        if len(set(names)) != len(names):
            raise ValueError("a PBX is named twice")
        return names

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
        """Every topic of these PBXs."""
        return topics_for(self.pbxs, self.topic_partitions)


class BridgeSettings(ServiceSettings):
    """Settings of the bridge; docs/settings.md is generated from this class."""

    host: Annotated[
        str, Field(description="Address that the HTTP endpoint listens on; `0.0.0.0` in a container.")
    ] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port of the HTTP endpoint, `POST /voipex`.")] = 8080
    management_host: Annotated[
        str | None, Field(description="Address of the management port; default: `VOIPEX_HOST`.")
    ] = None
    management_port: Annotated[
        Port, Field(description="Port of `/live`, `/ready` and `/metrics`. Keep it inside your network.")
    ] = 8081
    tls_cert_file: Annotated[
        Path | None,
        Field(
            description="Certificate chain (PEM). With it and its key the HTTP endpoint speaks HTTPS. Reloaded when the file changes."
        ),
    ] = None
    tls_key_file: Annotated[
        Path | None, Field(description="Private key (PEM, not encrypted) of that certificate.")
    ] = None
    credentials_file: Annotated[
        Path,
        Field(
            description="Credentials of the PBXs, created by `voipex-bridge credentials create`. Reloaded when the file changes."
        ),
    ] = Path("credentials.json")
    ack: Annotated[
        Literal["spool", "kafka"],
        Field(
            description="When an event is acknowledged with 2xx. `spool`: once it is on disk. `kafka`: once all in-sync replicas have it, "
            "which needs no disk but makes every outage of Kafka one for the PBX (docs/adr/0001)."
        ),
    ] = "spool"
    ack_timeout_s: Annotated[
        float,
        Field(
            description="With `kafka`: maximum wait for the acknowledgement, then 503. Keep it below the timeout of the PBX.",
            gt=0,
        ),
    ] = 5.0
    spool_dir: Annotated[
        Path,
        Field(
            description="Directory of the events that wait for Kafka. Use a disk of its own that survives a restart."
        ),
    ] = Path("spool")
    spool_limit_bytes: Annotated[
        int,
        Field(
            description="Maximum spool size; beyond it requests get 503. Keep it well below the size of the disk.",
            ge=1024 * 1024,
        ),
    ] = 1024**3
    max_body_bytes: Annotated[
        int,
        Field(
            description="Maximum size of a body; a larger one gets 413. VOIPEX events are below 1 KiB.",
            ge=1024,
            le=128 * 1024,
        ),
    ] = 64 * 1024
    request_timeout_s: Annotated[
        float,
        Field(
            description="Maximum time from the first byte of a request to the end of its body; then 408, and the connection is closed.",
            gt=0,
        ),
    ] = 10.0
    idle_timeout_s: Annotated[
        float,
        Field(description="Time without a request after which an open connection is closed.", gt=0),
    ] = 60.0
    max_connections: Annotated[
        int,
        Field(
            description="Maximum number of connections; one more gets 503 and is closed. A PBX needs a few dozen.",
            ge=1,
            le=100_000,
        ),
    ] = 1000
    accepted_status: Annotated[
        int, Field(description="Status of the response to an accepted event.", ge=200, le=299)
    ] = 200
    accepted_body: Annotated[str, Field(description="Body of that response (text/plain).")] = ""
    drain_s: Annotated[
        float,
        Field(
            description="Maximum time between SIGTERM and exit for publishing what still waits for Kafka.",
            ge=0,
        ),
    ] = 20.0
    topic_replication: Annotated[
        int, Field(description="Replication factor of the topics that `topics apply` creates.", ge=1)
    ] = 3
    topic_min_insync: Annotated[
        int, Field(description="`min.insync.replicas` of the topics that `topics apply` creates.", ge=1)
    ] = 2

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong together: set both or none")
        return self


class ConsumerSettings(ServiceSettings):
    """Settings of the consumers, timelines and agents alike; docs/settings-consumers.md is generated from this class."""

    host: Annotated[str, Field(description="Address of the management port; `0.0.0.0` in a container.")] = (
        "127.0.0.1"
    )
    management_host: Annotated[
        str | None, Field(description="Address of the management port, if not `VOIPEX_HOST`.")
    ] = None
    management_port: Annotated[
        Port | None,
        Field(
            description="Port of `/live`, `/ready`, `/metrics`; default: 8082 (`timelines`, `all`), 8083 (`agents`)."
        ),
    ] = None
    state_dir: Annotated[
        Path,
        Field(
            description="Directory of the state stores, a cache. Without them a start reads the whole private changelog topics."
        ),
    ] = Path("state")
    time_zone: Annotated[
        str, Field(description="Time zone of the agents' days. A change affects later days only.")
    ] = "Europe/Prague"
    ringing_limit_s: Annotated[
        float, Field(description="Time without events after which a ringing call is stale.", gt=0)
    ] = 180.0
    waiting_limit_s: Annotated[
        float,
        Field(
            description="Time without events after which a new call, or one waiting in a queue, is stale.",
            gt=0,
        ),
    ] = 3600.0
    talking_limit_s: Annotated[
        float, Field(description="Time without events after which a connected call is stale.", gt=0)
    ] = 14400.0
    commit_interval_ms: Annotated[
        int,
        Field(
            description="Time from the first record of a transaction to its commit. Longer: fewer transactions, later documents.",
            ge=5,
            le=5000,
        ),
    ] = 60
    transaction_timeout_s: Annotated[
        float,
        Field(
            description="Time after which brokers abort an open transaction. A killed instance delays `read_committed` readers of its partitions by "
            "this and up to 10 s more, unless it restarts sooner; when brokers stall for longer, transactions fail and are repeated.",
            ge=1,
            le=60,
        ),
    ] = 15.0
    session_timeout_s: Annotated[
        float,
        Field(
            description="Time after which the partitions of a killed instance go to the others.", ge=1, le=300
        ),
    ] = 30.0

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("no such time zone; Europe/Prague is one") from error
        return name


SETTING_NAMES: Final = frozenset(BridgeSettings.model_fields) | frozenset(ConsumerSettings.model_fields)
"""Every setting of every service."""

_OTHER_VARIABLES: Final = (SECRETS_DIR_VARIABLE, "VOIPEX_SIMULATE_USER", "VOIPEX_SIMULATE_PASSWORD")
"""Variables that are read outside of these classes."""

AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def load(kind: type[AnySettings], overrides: Mapping[str, Any] | None = None) -> AnySettings:
    """
    Read the settings: `overrides` (from the command line) win over the environment, the environment over secret files.

    Raises:
        SettingsInvalid: lists every fault. Exit with 2, before any port opens.
    """
    try:
        return kind(**(overrides or {}))
    except ValidationError as error:
        raise SettingsInvalid(
            [_fault(kind, dict(each), overrides or {}) for each in error.errors()]
        ) from None


def _fault(kind: type[ServiceSettings], error: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """`VOIPEX_PORT='80a0': Input should be a valid integer. Meaning: Port of the HTTP endpoint, …`."""
    message = str(error["msg"]).removeprefix("Value error, ")
    location = error["loc"]
    if not location:
        return message
    name = str(location[0])
    variable = variable_of(name)
    field = kind.model_fields[name]
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


def unknown_variables() -> Iterator[str]:
    """Yield a warning for each `VOIPEX_` variable that no service reads, most likely a typing error."""
    known = {variable_of(name) for name in SETTING_NAMES}.union(_OTHER_VARIABLES)
    for variable in sorted(os.environ):
        if variable.startswith("VOIPEX_") and variable not in known:
            # Without the prefix, which would make every two variables similar.
            near = get_close_matches(
                variable.removeprefix("VOIPEX_"), [each.removeprefix("VOIPEX_") for each in known], n=1
            )
            yield f"{variable} is not a setting" + (f"; did you mean VOIPEX_{near[0]}?" if near else "")
