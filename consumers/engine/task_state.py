"""The states of a task and the transitions between them (pure)."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from consumers.engine.errors import IllegalTransition


class TaskState(Enum):
    """
    Where a task is between the assignment of its partitions and their revocation. Compare `Task.State` of Kafka Streams, which has no
    HALTED: there, lost offsets end the whole instance.

              assigned
                  │
            ┌─────▼─────┐
            │  CREATED  │
            └─────┬─────┘
                  │
            ┌─────▼─────┐  failed   ┌───────────┐
            │           ├──────────►│           │
            │ RESTORING │           │ SUSPENDED │
            │           │◄──────────┤           │
            └─────┬─────┘  backoff  └─────▲─────┘
                  │ caught up             │
            ┌─────▼─────┐  failed         │
            │  RUNNING  ├─────────────────┘
            └───────────┘

        from each of these four:

              no retry helps ► HALTED ──revoked──┐
              revoked ───────────────────────────┴──► CLOSED

    The values are the label `state` of `voipex_consumer_partitions` and keys in `/ready`.
    """

    CREATED = "created"
    """Assigned. Nothing is open; its partitions are paused, as until RUNNING."""
    RESTORING = "restoring"
    """Fences earlier producers and rolls the state store forward."""
    RUNNING = "running"
    """Folds records and fires timers."""
    SUSPENDED = "suspended"
    """Failed: fenced, store corrupted, Kafka unreachable, or a bug. Everything is closed; it restores again after a backoff."""
    HALTED = "halted"
    """A person must act. Works on nothing until its partitions are revoked."""
    CLOSED = "closed"
    """Its partitions belong to another member now."""


TRANSITIONS: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    TaskState.CREATED: frozenset({TaskState.RESTORING, TaskState.HALTED, TaskState.CLOSED}),
    TaskState.RESTORING: frozenset(
        {TaskState.RUNNING, TaskState.SUSPENDED, TaskState.HALTED, TaskState.CLOSED}
    ),
    TaskState.RUNNING: frozenset({TaskState.SUSPENDED, TaskState.HALTED, TaskState.CLOSED}),
    TaskState.SUSPENDED: frozenset({TaskState.RESTORING, TaskState.HALTED, TaskState.CLOSED}),
    TaskState.HALTED: frozenset({TaskState.CLOSED}),
    TaskState.CLOSED: frozenset(),
}


def transition(current: TaskState, following: TaskState) -> TaskState:
    """Return *following*. Raises IllegalTransition when the diagram has no such arrow."""
    if following not in TRANSITIONS[current]:
        raise IllegalTransition(f"a task cannot go from {current.name} to {following.name}")
    return following
