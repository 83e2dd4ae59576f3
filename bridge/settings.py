"""Settings of the bridge. `voipex.service.settings` declares them, beside those of the services that may share its environment."""

from collections.abc import Mapping
from typing import Any

from voipex.service import settings
from voipex.service.settings import BridgeSettings

Settings = BridgeSettings


def load(overrides: Mapping[str, Any] | None = None, sandbox: Mapping[str, str] | None = None) -> Settings:
    """Read the bridge's settings; see `voipex.service.settings.load`."""
    return settings.load(Settings, overrides, sandbox)
