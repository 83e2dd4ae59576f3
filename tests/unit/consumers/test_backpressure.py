"""How many records wait in memory to be folded."""

from consumers.engine.records import TaskId
from consumers.engine.session import MAX_BUFFERED_RECORDS, full_tasks

FIRST, SECOND, THIRD = (TaskId("voipex", partition) for partition in range(3))


def test_a_task_with_a_batch_is_full() -> None:
    assert full_tasks({FIRST: 999, SECOND: 1_000, THIRD: 0}, 1_000) == {SECOND}


def test_many_tasks_share_one_limit() -> None:
    third = MAX_BUFFERED_RECORDS // 3 + 1

    assert full_tasks({FIRST: third, SECOND: third, THIRD: third}, MAX_BUFFERED_RECORDS) == {
        FIRST,
        SECOND,
        THIRD,
    }


def test_a_task_without_records_gets_some_beyond_the_limit() -> None:
    buffered = {FIRST: MAX_BUFFERED_RECORDS, SECOND: 1, THIRD: 0}

    assert full_tasks(buffered, MAX_BUFFERED_RECORDS + 1) == {FIRST, SECOND}
