"""
The published language: webhooks, events, documents, topics and records; and what every service needs (`kafka`, `service`).

Readers of the topics parse their records with the models that are exported here:

    from voipex import CallTimeline
    timeline = CallTimeline.model_validate_json(record.value)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voipex.agent_activity import AgentActivity
    from voipex.agent_status import AgentStatus
    from voipex.call_timeline import CallTimeline
    from voipex.events import Event

__all__ = ["AgentActivity", "AgentStatus", "CallTimeline", "Event"]

if not TYPE_CHECKING:  # a checker that saw __getattr__ would accept any name
    _MODULES = {
        "AgentActivity": "voipex.agent_activity",
        "AgentStatus": "voipex.agent_status",
        "CallTimeline": "voipex.call_timeline",
        "Event": "voipex.events",
    }

    def __getattr__(name: str) -> object:
        """Import a model when it is first asked for: the health checks of containers import this package and must not load pydantic."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
