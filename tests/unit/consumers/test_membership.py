"""Ids of instances in their group: the same after a restart, and of one process at a time."""

import re
import stat
from pathlib import Path

from consumers.engine.membership import instance_id

TOPICS = ("voipex.call.events.v1", "voipex.agent.activity.v1")


def test_a_restart_has_the_same_instance_id(tmp_path: Path) -> None:
    with instance_id(tmp_path / "state", TOPICS) as first:
        pass
    with instance_id(tmp_path / "state", tuple(reversed(TOPICS))) as second:
        pass

    assert first == second
    assert first is not None
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", first), "Kafka allows no other"


def test_processes_of_one_folder_have_different_instance_ids(tmp_path: Path) -> None:
    with instance_id(tmp_path, TOPICS) as first, instance_id(tmp_path, TOPICS) as second:
        pass
    with instance_id(tmp_path, TOPICS) as third:
        pass

    assert first != second
    assert third == first


def test_folders_and_topics_make_different_instance_ids(tmp_path: Path) -> None:
    """A group keeps the assignment of an instance that is replaced, although it may subscribe to others now."""
    with (
        instance_id(tmp_path / "one", TOPICS) as one,
        instance_id(tmp_path / "two", TOPICS) as two,
    ):
        pass
    with instance_id(tmp_path / "one", TOPICS[:1]) as fewer:
        pass

    assert len({one, two, fewer}) == 3


def test_a_folder_that_cannot_be_written_gives_no_instance_id(tmp_path: Path) -> None:
    """The instance is a dynamic member then."""
    (tmp_path / "state").write_text("a file")

    with instance_id(tmp_path / "state", TOPICS) as found:
        assert found is None


def test_a_damaged_file_of_an_instance_is_replaced(tmp_path: Path) -> None:
    with instance_id(tmp_path, TOPICS) as first:
        pass
    file = tmp_path / "instance-0.lock"
    file.write_bytes(b"\x00" * 40)
    with instance_id(tmp_path, TOPICS) as second:
        pass

    assert first != second
    assert second is not None
    assert re.fullmatch(rb"[0-9a-f]{16}", file.read_bytes())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
