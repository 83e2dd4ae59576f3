"""The settings of the consumers, in one frozen `Settings`; `voipex.service.settings` says where they come from. docs/settings-consumers.md is made from it."""

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
        str | None, Field(description="Address of the management port, should it differ from `VOIPEX_HOST`.")
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
            description="Where the cache of the states lies. Disposable: without it a start reads all of the private changelog topics."
        ),
    ] = Path("state")
    time_zone: Annotated[
        str, Field(description="Where the days of agents begin and end. A change counts from then on.")
    ] = "Europe/Prague"
    ringing_limit_s: Annotated[
        float, Field(description="A call that rings and says nothing for so long is stale.", gt=0)
    ] = 180.0
    waiting_limit_s: Annotated[
        float, Field(description="The same of one that is new or waits in a queue.", gt=0)
    ] = 3600.0
    talking_limit_s: Annotated[float, Field(description="The same of one that is talked in.", gt=0)] = 14400.0
    commit_interval_ms: Annotated[
        int,
        Field(
            description="How long records are gathered for one transaction. Longer: fewer transactions, later documents.",
            ge=5,
            le=5000,
        ),
    ] = 60
    transaction_timeout_s: Annotated[
        float,
        Field(
            description="A killed instance delays `read_committed` readers of its partitions by so long (and up to 10 s), unless it "
            "is back sooner; a broker that stalls for longer breaks transactions, which are then done again.",
            ge=1,
            le=60,
        ),
    ] = 15.0
    session_timeout_s: Annotated[
        float,
        Field(description="A killed instance's partitions go to the others after so long.", ge=1, le=300),
    ] = 30.0

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError) as fault:
            raise ValueError("no such time zone; Europe/Prague is one") from fault
        return name


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """
    Read the settings; `overrides` win over the environment, it over secret files.

    Raises:
        SettingsInvalid: with every fault. Exit 2, before anything is opened.
    """
    return environment.load(Settings, overrides)
