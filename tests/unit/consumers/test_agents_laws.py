"""Laws of the agent fold, over any traffic that hypothesis makes."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.agents.memory import AgentMemory
from consumers.agents.status import AgentStatus
from tests.unit.consumers.agent_reference import reference
from tests.unit.consumers.agent_traffic import DAY, HOUR, LONG_STEPS, MONDAY, PRAGUE, Record, folded, traffic

Json = dict[str, Any]

AFTER = st.one_of(st.sampled_from([0, 1, HOUR, DAY, 90 * DAY]), st.integers(0, 3 * DAY))


def shown(state: AgentMemory, as_of_us: int) -> Json | None:
    """The document as of a moment, without what counts the changes of one run; None where there is none."""
    state = PRAGUE.decode(PRAGUE.encode(state))._replace(digest=0)
    _, documents = PRAGUE.produce(state, as_of_us)
    if not documents or documents[0].value is None:
        return None
    told: Json = orjson.loads(documents[0].value)
    AgentStatus.model_validate_json(documents[0].value)
    del told["revision"], told["updated_at"]
    return told


def end_of(records: list[Record]) -> int:
    return max([MONDAY, *(record.at_us for record in records)])


@given(traffic(), AFTER)
@settings(max_examples=100, deadline=None)
def test_the_fold_agrees_with_brute_force(records: list[Record], after_us: int) -> None:
    as_of_us = end_of(records) + after_us

    assert shown(folded(*records), as_of_us) == reference(records, as_of_us)


@given(traffic(steps=LONG_STEPS), st.data())
@settings(max_examples=100, deadline=None)
def test_incremental_is_batch_over_any_time(records: list[Record], data: st.DataObject) -> None:
    """Documents in between, settling, forgetting old days and the changelog's encoding change nothing; timers neither."""
    state = PRAGUE.start("voipex", "janecek")
    for number, record in enumerate(records):
        state = PRAGUE.fold(state, record.kind, record.value)
        as_of_us = record.at_us
        if data.draw(st.booleans()):
            if data.draw(st.booleans()):
                state = PRAGUE.decode(PRAGUE.encode(state))
            state, _ = PRAGUE.produce(state, as_of_us)
            due_us = PRAGUE.due(state)
            if due_us is not None and number + 1 < len(records) and due_us < records[number + 1].at_us:
                state, _ = PRAGUE.produce(state, due_us)
                as_of_us = due_us
        assert shown(state, as_of_us) == reference(records[: number + 1], as_of_us)


@given(traffic(), st.data())
@settings(max_examples=100, deadline=None)
def test_order_and_repetition_do_not_matter(records: list[Record], data: st.DataObject) -> None:
    """Within the days that are kept: any order of the two topics and of each, any copies, documents produced in between."""
    as_of_us = end_of(records) + data.draw(AFTER)
    shuffled = data.draw(st.permutations(records + records[: data.draw(st.integers(0, 5))]))
    state = PRAGUE.start("voipex", "janecek")
    for record in shuffled:
        state = PRAGUE.fold(state, record.kind, record.value)
        if data.draw(st.booleans()):
            state, _ = PRAGUE.produce(state, min(record.at_us + data.draw(STEPS_BETWEEN), as_of_us))
            if data.draw(st.booleans()):
                state = PRAGUE.decode(PRAGUE.encode(state))

    assert shown(state, as_of_us) == reference(records, as_of_us)


STEPS_BETWEEN = st.sampled_from([0, 60 * 1_000_000, HOUR, DAY])
