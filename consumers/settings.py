"""Settings of the consumers. `voipex.service.settings` declares them, beside those of the services that may share their environment."""

from collections.abc import Mapping
from typing import Any

from voipex.service import settings
from voipex.service.settings import ConsumerSettings

MANAGEMENT_PORTS = {"timelines": 8082, "agents": 8083, "all": 8082}

Settings = ConsumerSettings


def load(overrides: Mapping[str, Any] | None = None, sandbox: Mapping[str, str] | None = None) -> Settings:
    """Read the consumers' settings; see `voipex.service.settings.load`."""
    return settings.load(Settings, overrides, sandbox)
