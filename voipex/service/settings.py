"""
Settings of every service, read from the environment and from secret files. All faults are reported at once, secrets masked.

Every field is a setting: the variable `VOIPEX_` and its name in capitals, or a file of that name below `VOIPEX_SECRETS_DIR`. The classes of
all services are declared here because one environment may feed them all: each must know the variables of the others to report a typing
error (`unknown_variables`) and nothing else. `bridge.settings` and `consumers.settings` are what the services import.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, PydanticBaseSettingsSource, SecretsSettingsSource

from voipex.errors import SettingsInvalid
from voipex.kafka.settings import CONTRADICTIONS, Contradiction, KafkaSettings
from voipex.service.units import Bytes, Milliseconds, Seconds, format_duration, format_size
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    CALL_EVENTS,
    CALL_STATE,
    CALL_TIMELINES,
    DEAD_LETTERS,
    DEFAULT_PARTITIONS,
    TOPIC_SPECS,
    Topic,
    TopicSpec,
    topic_name,
)

SECRETS_DIR_VARIABLE: Final = "VOIPEX_SECRETS_DIR"
_DEFAULT_SECRETS_DIR: Final = "/run/secrets"
_PBX: Final = re.compile(r"([a-z0-9-]{1,32})(?::([0-9]{1,5}))?")
_MAX_PARTITIONS: Final = 10_000
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - only compared
_WITHOUT_BODY: Final = frozenset({204, 205})  # RFC 9110, 15.3.5 and 15.3.6

RETENTION_SETTINGS: Final = {
    CALL_EVENTS: "call_events_retention_s",
    AGENT_EVENTS: "agent_events_retention_s",
    CALL_TIMELINES: "call_timelines_retention_s",
    CALL_STATE: "call_timelines_retention_s",
    AGENT_ACTIVITY: "agent_activity_retention_s",
    AGENT_LINES: "agent_activity_retention_s",
    DEAD_LETTERS: "dead_letters_retention_s",
}
"""The setting of each topic's retention. A private topic follows the public one that is made of it; the others are compacted only."""


class PbxName(str):
    """Name of a PBX; `partitions` is the number of its topics' partitions if it has one of its own."""

    __slots__ = ("partitions",)

    partitions: int | None


def _kept_s(kind: TopicSpec) -> float:
    return (kind.retention_ms or 0) / 1000


Retention = Annotated[Seconds, Field(ge=_HOUR_S, le=36_500 * _DAY_S)]
Port = Annotated[int, Field(ge=0, le=65535)]


class ServiceSettings(KafkaSettings):
    """Settings that every service has: Kafka, the PBXs and their topics, logging."""

    pbxs: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Names of the PBXs, comma-separated, `[a-z0-9-]{1,32}`. Each PBX has its own topics; `brno:1` gives those of `brno` "
            "1 partition, others have `VOIPEX_TOPIC_PARTITIONS`.",
            min_length=1,
        ),
    ] = ("voipex",)
    topic_partitions: Annotated[
        int,
        Field(
            description="Partitions of every topic. Never change it once there are events.",
            ge=1,
            le=_MAX_PARTITIONS,
        ),
    ] = DEFAULT_PARTITIONS
    call_events_retention_s: Annotated[
        Retention, Field(description="How long `<pbx>.call.events.v1` keeps an event.")
    ] = _kept_s(CALL_EVENTS)
    agent_events_retention_s: Annotated[
        Retention, Field(description="How long `<pbx>.agent.events.v1` keeps an event.")
    ] = _kept_s(AGENT_EVENTS)
    call_timelines_retention_s: Annotated[
        Retention,
        Field(
            description="How long `<pbx>.call.timelines.v1`, and the private `<pbx>.call.state.v1`, keep a call after its last change."
        ),
    ] = _kept_s(CALL_TIMELINES)
    agent_activity_retention_s: Annotated[
        Retention,
        Field(
            description="How long `<pbx>.agent.activity.v1`, and the private `<pbx>.agent.lines.v1`, keep a record."
        ),
    ] = _kept_s(AGENT_ACTIVITY)
    dead_letters_retention_s: Annotated[
        Retention, Field(description="How long `<pbx>.dead-letters.v1` keeps a dead letter.")
    ] = _kept_s(DEAD_LETTERS)
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
    def _valid_names(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        names = []
        for entry in entries:
            match = _PBX.fullmatch(entry)
            if match is None:
                raise ValueError(
                    f"a PBX name is 1 to 32 of a-z, 0-9 and -, with :1 for 1 partition, not {entry!r}"
                )
            name = PbxName(match[1])
            name.partitions = getattr(entry, "partitions", None) if match[2] is None else int(match[2])
            if name.partitions is not None and not 1 <= name.partitions <= _MAX_PARTITIONS:
                raise ValueError(f"{entry!r}: a topic has 1 to {_MAX_PARTITIONS} partitions")
            names.append(name)
        if len(set(names)) != len(names):
            raise ValueError("a PBX is named twice")
        return tuple(names)

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
        return tuple(
            Topic(topic_name(pbx, kind), kind, self.partitions_of(pbx), self._retention_ms(kind))
            for pbx in self.pbxs
            for kind in TOPIC_SPECS
        )

    def partitions_of(self, pbx: str) -> int:
        """Partitions of each topic of *pbx*, which need not be one of these PBXs."""
        return self._partitions.get(pbx, self.topic_partitions)

    @cached_property
    def _partitions(self) -> Mapping[str, int]:
        return {
            pbx: pbx.partitions
            for pbx in self.pbxs
            if isinstance(pbx, PbxName) and pbx.partitions is not None
        }

    def _retention_ms(self, kind: TopicSpec) -> int | None:
        name = RETENTION_SETTINGS.get(kind)
        return None if name is None else round(getattr(self, name) * 1000)


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
        Port,
        Field(
            description="Port of `/live`, `/ready`, `/metrics`, and of what `survey` asks. Keep it inside your network."
        ),
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
        Seconds,
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
        Bytes,
        Field(
            description="Maximum spool size; beyond it requests get 503. Keep it well below the size of the disk.",
            ge=1024 * 1024,
        ),
    ] = 1024**3
    max_body_bytes: Annotated[
        Bytes,
        Field(
            description="Maximum size of a body; a larger one gets 413. VOIPEX events are below 1 KiB.",
            ge=1024,
            le=128 * 1024,
        ),
    ] = 64 * 1024
    request_timeout_s: Annotated[
        Seconds,
        Field(
            description="Maximum time from the first byte of a request to the end of its body; then 408, and the connection is closed.",
            gt=0,
        ),
    ] = 10.0
    idle_timeout_s: Annotated[
        Seconds,
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
    trusted_proxies: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(
            description="Addresses or networks of proxies in front of the bridge, comma-separated, such as `10.0.0.0/8`: their `X-Forwarded-For` names "
            "the client whose wrong passwords are throttled and logged."
        ),
    ] = ()
    accepted_status: Annotated[
        int, Field(description="Status of the response to an accepted event.", ge=200, le=299)
    ] = 200
    accepted_body: Annotated[str, Field(description="Body of that response (text/plain).")] = ""
    drain_s: Annotated[
        Seconds,
        Field(
            description="Maximum time between SIGTERM and exit for responding on open connections and publishing what waits for Kafka.",
            ge=0,
        ),
    ] = 20.0
    topic_replication: Annotated[
        int, Field(description="Replication factor of the topics that `topics apply` creates.", ge=1)
    ] = 3
    topic_min_insync: Annotated[
        int, Field(description="`min.insync.replicas` of the topics that `topics apply` creates.", ge=1)
    ] = 2

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _valid_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield the settings of the bridge that contradict each other."""
        yield from super().contradictions()
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            yield Contradiction(
                ("tls_cert_file", "tls_key_file"),
                "VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong together: set both or none",
            )
        hosts = {self.host, self.management_host or self.host}
        if self.port == self.management_port != 0 and (len(hosts) == 1 or hosts & _ANY_ADDRESS):
            yield Contradiction(
                ("port", "management_port", "host", "management_host"),
                f"VOIPEX_PORT and VOIPEX_MANAGEMENT_PORT are both {self.port}: set one of them to another port",
            )
        if self.topic_min_insync > self.topic_replication:
            yield Contradiction(
                ("topic_min_insync", "topic_replication"),
                f"VOIPEX_TOPIC_MIN_INSYNC={self.topic_min_insync} is more than VOIPEX_TOPIC_REPLICATION={self.topic_replication}: "
                "Kafka would refuse every record",
            )
        if self.accepted_body and self.accepted_status in _WITHOUT_BODY:
            yield Contradiction(
                ("accepted_status", "accepted_body"),
                f"VOIPEX_ACCEPTED_STATUS={self.accepted_status} has no body: leave VOIPEX_ACCEPTED_BODY empty, or set another status",
            )


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
        Seconds, Field(description="Time without events after which a ringing call is stale.", gt=0)
    ] = 180.0
    waiting_limit_s: Annotated[
        Seconds,
        Field(
            description="Time without events after which a new call, or one waiting in a queue, is stale.",
            gt=0,
        ),
    ] = 3600.0
    talking_limit_s: Annotated[
        Seconds, Field(description="Time without events after which a connected call is stale.", gt=0)
    ] = 14400.0
    commit_interval_ms: Annotated[
        Milliseconds,
        Field(
            description="Time from the first record of a transaction to its commit. Longer: fewer transactions, later documents.",
            ge=5,
            le=5000,
        ),
    ] = 60
    transaction_timeout_s: Annotated[
        Seconds,
        Field(
            description="Time after which brokers abort an open transaction. A killed instance delays `read_committed` readers of its partitions by "
            "this and up to 10 s more, unless it restarts sooner; when brokers stall for longer, transactions fail and are repeated.",
            ge=1,
            le=60,
        ),
    ] = 15.0
    session_timeout_s: Annotated[
        Seconds,
        Field(
            description="Time after which the partitions of a killed instance go to the others.", ge=1, le=300
        ),
    ] = 30.0

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _existing_time_zone(name)

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield the settings of the consumers that contradict each other."""
        yield from super().contradictions()
        if self.commit_interval_ms >= self.transaction_timeout_s * 1000:
            yield Contradiction(
                ("commit_interval_ms", "transaction_timeout_s"),
                f"VOIPEX_COMMIT_INTERVAL_MS is {self.commit_interval_ms} ms and VOIPEX_TRANSACTION_TIMEOUT_S "
                f"{self.transaction_timeout_s:g} s: brokers would abort each transaction before its commit",
            )
        for name in ("ringing_limit_s", "waiting_limit_s", "talking_limit_s"):
            limit_s = getattr(self, name)
            if limit_s >= self.call_timelines_retention_s:
                yield Contradiction(
                    (name, "call_timelines_retention_s"),
                    f"{variable_of(name)} is {format_duration(limit_s)} and VOIPEX_CALL_TIMELINES_RETENTION_S "
                    f"{format_duration(self.call_timelines_retention_s)}: Kafka would delete an open call before it is stale",
                )


class BoardSettings(ServiceSettings):
    """Settings of the board; docs/settings-board.md is generated from this class."""

    host: Annotated[
        str,
        Field(description="Address of the pages. Beyond this host `VOIPEX_BOARD_USERS_FILE` is required."),
    ] = "127.0.0.1"
    port: Annotated[
        Port, Field(description="Port of the pages, of `/api`, and of `/live`, `/ready` and `/metrics`.")
    ] = 8084
    time_zone: Annotated[
        str, Field(description="Time zone of days and of the times on the pages. That of the agents service.")
    ] = "Europe/Prague"
    board_users_file: Annotated[
        Path | None,
        Field(
            description="Who may look, made by `voipex-consumers board-users add`. Without it everybody on this host."
        ),
    ] = None
    board_window_s: Annotated[
        Seconds,
        Field(
            description="Calls changed within this time are shown; over a weekend it takes 3 days.",
            ge=_HOUR_S,
            le=7 * _DAY_S,
        ),
    ] = 3 * _DAY_S
    board_max_calls: Annotated[
        int,
        Field(
            description="Most calls in memory; the least recently changed ones go first.",
            ge=100,
            le=1_000_000,
        ),
    ] = 50_000
    board_target_s: Annotated[
        Seconds, Field(description="Wait within which a call should be answered: the service level.", gt=0)
    ] = 20.0

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _existing_time_zone(name)

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield the settings of the board that contradict each other."""
        yield from super().contradictions()
        if self.board_users_file is None and not is_loopback(self.host):
            yield Contradiction(
                ("host", "board_users_file"),
                f"VOIPEX_HOST={self.host}: beyond this host the board needs VOIPEX_BOARD_USERS_FILE. "
                "To make one: voipex-consumers board-users add NAME",
            )


def is_loopback(host: str) -> bool:
    """Whether only this host reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _existing_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("no such time zone; Europe/Prague is one") from error
    return name


SETTING_NAMES: Final = (
    frozenset(BridgeSettings.model_fields)
    | ConsumerSettings.model_fields.keys()
    | BoardSettings.model_fields.keys()
)
"""Every setting of every service."""

_OTHER_VARIABLES: Final = (SECRETS_DIR_VARIABLE, "VOIPEX_SIMULATE_USER", "VOIPEX_SIMULATE_PASSWORD")
"""Variables that are read outside of these classes."""

AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def load(
    kind: type[AnySettings],
    overrides: Mapping[str, Any] | None = None,
    sandbox: Mapping[str, str] | None = None,
) -> AnySettings:
    """
    Read the settings: `overrides` (from the command line) win over the environment, the environment over secret files, and these over the
    variables of a running `sandbox`.

    Raises:
        SettingsInvalid: lists every fault. Exit with 2, before any port opens.
    """
    given = {
        **{name: value for name, value in _by_field(kind, sandbox or {}) if not is_set(variable_of(name))},
        **(overrides or {}),
    }
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsInvalid(list(_faults(kind, error, given))) from None


def _by_field(kind: type[ServiceSettings], variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in kind.model_fields:
        if variable_of(name) in variables:
            yield name, variables[variable_of(name)]


def is_set(variable: str) -> bool:
    """Whether the environment or a secret file has this variable."""
    if os.environ.get(variable):
        return True
    folder = Path(os.environ.get(SECRETS_DIR_VARIABLE, _DEFAULT_SECRETS_DIR))
    return folder.is_dir() and any(each.name.lower() == variable.lower() for each in folder.iterdir())


def _faults(kind: type[ServiceSettings], error: ValidationError, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the invalid values, then the contradictions between the others."""
    invalid: dict[str, None] = {}
    for each in error.errors():
        if each["type"] == CONTRADICTIONS:
            yield from (found.message for found in each["ctx"]["found"])
        else:
            name = str(each["loc"][0])
            invalid[name] = None
            yield _fault(kind, name, dict(each), given)
    if invalid:
        yield from _contradictions_between_others(kind, invalid, given)


def _contradictions_between_others(
    kind: type[ServiceSettings], invalid: Iterable[str], given: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the contradictions that do not depend on the `invalid` settings: pydantic looks for none while a value is invalid."""
    try:
        kind(**{**given, **{name: kind.model_fields[name].default for name in invalid}})
    except ValidationError as error:
        for each in error.errors():
            for found in each.get("ctx", {}).get("found", ()):
                if not set(found.fields).intersection(invalid):
                    yield found.message


def _fault(kind: type[ServiceSettings], name: str, error: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """`VOIPEX_PORT='80a0': not a whole number. Meaning: Port of the HTTP endpoint, …`."""
    variable = variable_of(name)
    field = kind.model_fields[name]
    if _is_secret(field.annotation):
        value = "**********"
    else:
        value = (
            repr(str(given[name]))
            if name in given
            else repr(os.environ.get(variable, "(from a secret file)"))
        )
    return f"{variable}={value}: {_message(name, error)}. Meaning: {field.description}"


def _message(name: str, error: Mapping[str, Any]) -> str:
    """Say what is wrong with a value."""
    context = error.get("ctx", {})
    for bound, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"must be {words} {format_value(name, context[bound])}"
    if error["type"] == "literal_error":
        return f"must be {context['expected']}"
    return _MESSAGES.get(error["type"], str(error["msg"]).removeprefix("Value error, "))


_MESSAGES: Final = {
    "int_parsing": "not a whole number",
    "int_parsing_size": "not a whole number of this size",
    "int_from_float": "not a whole number",
    "float_parsing": "not a number",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def format_value(name: str, value: Any) -> str:
    """Return the value of a setting as an operator would write it, by the unit in its name."""
    if name.endswith("_bytes"):
        return format_size(int(value))
    if name.endswith("_ms"):
        return format_duration(value / 1000)
    return format_duration(value) if name.endswith("_s") else str(value)


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
