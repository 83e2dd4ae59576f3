"""The readers of docs/reading.md that need a tool of their own: kcat, as printed, beside `make run` on moved ports."""

from pathlib import Path

import pytest

from tests.artefacts.tools import tool
from tests.documented import Clone, blocks
from tests.waiting import eventually

pytestmark = pytest.mark.artefacts


def test_kcat_reads_the_topics_as_the_page_says(tmp_path: Path) -> None:
    tool("kcat")
    commands = [
        command for block in blocks("docs/reading.md") for command in block.commands if "kcat" in command
    ]
    [post] = [command for block in blocks("README.md") for command in block.commands if "Ringing" in command]
    with Clone(tmp_path) as clone:
        clone.start("SIM=0")
        assert clone.run(post).code == 0

        def read() -> list[str] | None:
            moved = [
                command.replace(":9092", f":{clone.ports['KAFKA_PORT']}") + " -e -q" for command in commands
            ]
            printed = [clone.run(command).out for command in moved]
            return printed if all(printed) else None

        timelines, events = eventually(read)

    assert len(commands) == 2
    assert timelines.startswith('1412256225.1941 {"')
    assert "ce_type=voipex.call.ringing.v1" in events
