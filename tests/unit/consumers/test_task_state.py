"""Task states: the diagram is complete, and every other transition is refused."""

from itertools import product

import pytest

from consumers.engine.errors import IllegalTransition
from consumers.engine.task_state import TRANSITIONS, TaskState, transition

CREATED, RESTORING, RUNNING, SUSPENDED, HALTED, CLOSED = TaskState
ALLOWED = {
    (CREATED, RESTORING),
    (RESTORING, RUNNING),
    (RESTORING, SUSPENDED),
    (RUNNING, SUSPENDED),
    (SUSPENDED, RESTORING),
    *((state, HALTED) for state in (CREATED, RESTORING, RUNNING, SUSPENDED)),
    *((state, CLOSED) for state in (CREATED, RESTORING, RUNNING, SUSPENDED, HALTED)),
}


@pytest.mark.parametrize(("current", "following"), list(product(TaskState, repeat=2)))
def test_only_drawn_transitions_are_allowed(current: TaskState, following: TaskState) -> None:
    if (current, following) in ALLOWED:
        assert transition(current, following) is following
    else:
        with pytest.raises(IllegalTransition, match=f"from {current.name} to {following.name}"):
            transition(current, following)


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(TaskState)


def test_values_are_stable_metric_labels() -> None:
    assert [state.value for state in TaskState] == [
        "created",
        "restoring",
        "running",
        "suspended",
        "halted",
        "closed",
    ]
