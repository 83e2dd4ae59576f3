"""Settings of the consumers. `voipex.service.settings` says where they are read from; docs/settings-consumers.md is generated from this."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from voipex.service import settings as environment
from voipex.service.settings import Port, ServiceSettings

MANAGEMENT_PORTS = {"timelines": 8082, "agents": 8083, "all": 8082}


class Settings(ServiceSettings):
    """Settings of the consumers."""

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


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Read the settings: `overrides` win over the environment, the environment over secret files.

    Raises:
        SettingsInvalid: lists every invalid value. Exit with 2, before anything is opened.
    """
    return environment.load(Settings, overrides)
