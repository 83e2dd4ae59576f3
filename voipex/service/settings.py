"""
Environment and secret files -> settings, the same way in every service. All faults are reported at once, secrets masked.

Every field is a setting: `VOIPEX_` and its name in capitals, or a file of that name below `VOIPEX_SECRETS_DIR`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, PydanticBaseSettingsSource, SecretsSettingsSource

from voipex.errors import SettingsInvalid
from voipex.kafka.settings import KafkaSettings
from voipex.topics import DEFAULT_PARTITIONS, Topic, topics_for

_PBX_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
SECRETS_DIR_VARIABLE: Final = "VOIPEX_SECRETS_DIR"
_DEFAULT_SECRETS_DIR: Final = "/run/secrets"

Port = Annotated[int, Field(ge=0, le=65535)]

SETTING_NAMES: Final = frozenset(
    {
        *KafkaSettings.model_fields,
        *(
            "pbxs",
            "topic_partitions",
            "log_level",
            "log_format",
            "host",
            "management_host",
            "management_port",
        ),
        # of the bridge
        *("port", "tls_cert_file", "tls_key_file", "credentials_file", "ack", "ack_timeout_s", "spool_dir"),
        *("spool_limit_bytes", "max_body_bytes", "request_timeout_s", "idle_timeout_s", "max_connections"),
        *("accepted_status", "accepted_body", "drain_s", "topic_replication", "topic_min_insync"),
        # of the consumers
        *("state_dir", "time_zone", "ringing_limit_s", "waiting_limit_s", "talking_limit_s"),
        *("commit_interval_ms", "transaction_timeout_s", "session_timeout_s"),
    }
)
"""Every setting of every service (a test holds this to the classes)."""


class ServiceSettings(KafkaSettings):
    """What every service must know: Kafka, the PBXs and their topics, how to log."""

    pbxs: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Names of the PBXs, comma-separated, `[a-z0-9-]{1,32}`; each has its own topics.",
            min_length=1,
        ),
    ] = ("voipex",)
    topic_partitions: Annotated[
        int, Field(description="Partitions of every topic; frozen once events are there.", ge=1, le=10_000)
    ] = DEFAULT_PARTITIONS
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


AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def load(kind: type[AnySettings], overrides: Mapping[str, Any] | None = None) -> AnySettings:
    """
    Read the settings; `overrides` (from the command line) win over the environment, it over secret files.

    Raises:
        SettingsInvalid: with every fault. Exit 2, before any port opens.
    """
    try:
        return kind(**(overrides or {}))
    except ValidationError as error:
        raise SettingsInvalid(
            [_fault(kind, dict(each), overrides or {}) for each in error.errors()]
        ) from None


def _fault(kind: type[ServiceSettings], error: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """`VOIPEX_PORT='80a0': Input should be a valid integer. Port of the front door …`."""
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
    """A line for each `VOIPEX_` variable that no service reads: most likely a typing error. One environment may feed them all."""
    known = {variable_of(name) for name in SETTING_NAMES} | {
        SECRETS_DIR_VARIABLE,
        "VOIPEX_SIMULATE_USER",
        "VOIPEX_SIMULATE_PASSWORD",
    }
    for variable in sorted(os.environ):
        if variable.startswith("VOIPEX_") and variable not in known:
            near = get_close_matches(variable, known, n=1)
            yield f"{variable} is no setting of ours" + (f"; did you mean {near[0]}?" if near else "")
