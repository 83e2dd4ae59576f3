"""tools/dialect.py and its list: what it reports, and the English that it leaves alone."""

import subprocess
from pathlib import Path

import pytest

import tools.dialect as module
from tools.dialect import LIST, check, main, parse, tracked

DIALECT = parse(LIST.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("the front door of the bridge", ["front door"]),
        ("def front_door() -> None:", ["front_door"]),
        ("what was told last", ["told"]),
        ("self.told_us = 1", ["told"]),
        ("call._told.append(1)", ["told"]),
        ("self._tell_of_certificate(None)", ["_tell_of_certificate"]),
        ("no file of ours", ["ours"]),
        ("a body kept as a dead letter", ["kept as"]),
        ("from bridge.errors import NotAnEvent, NotJson", ["NotAnEvent", "NotJson"]),
        ("except Unusable as fault:  # Draining, too", ["Draining"]),
        ("raise Unusable('x')", ["Unusable"]),
        ("class KafkaOutbox(Outbox):", ["KafkaOutbox", "Outbox"]),
        ("for letter in letters:", ["letter", "letters"]),
        ("def letters_replay() -> None:", ["letters"]),
        ("Mapping[Place, int]", ["Place"]),
        ("a request that comes whole", ["comes whole"]),
        ("voipex_bridge_producer_generation", ["producer_generation"]),
    ],
)
def test_reports_a_word_of_the_dialect(line: str, words: list[str]) -> None:
    assert [word for word, _ in DIALECT.findings(line)] == words


@pytest.mark.parametrize(
    "line",
    [
        "hours, yours, four",
        "dead letters, dead_letters, dead-letters list, DEAD_LETTERS, a dead letter",
        "a capital letter, letters and digits, letter case, string.ascii_letters",
        "404 Not Found, 503 Service Unavailable",
        "Unusable records become dead letters",
        "class Party(NamedTuple):",
        "an outstanding, long-standing request",
        "In place of it; Place it there",
        "the outdoor line; household",
        "caretaker",
    ],
)
def test_leaves_ordinary_english_alone(line: str) -> None:
    assert list(DIALECT.findings(line)) == []


def test_a_finding_names_file_line_and_replacement(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nraise NotJson\n")
    (tmp_path / "b.bin").write_bytes(b"\xff NotJson")
    (tmp_path / "requirements.txt").write_text("NotJson\n")

    assert list(check(DIALECT, tmp_path, ["a.py", "b.bin", "requirements.txt"])) == [
        "a.py:2: NotJson -> use InvalidJson"
    ]


def test_a_malformed_line_of_the_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 2 is not"):
        parse("# fine\nword -> other\n")


def test_tracked_files_are_read_except_generated_ones(tmp_path: Path) -> None:
    (tmp_path / "docs" / "contract").mkdir(parents=True)
    for name in ("README.md", "docs/contract/event.md", "untracked.md"):
        (tmp_path / name).write_text("text\n")
    for command in (["init", "-q"], ["add", "README.md", "docs"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    assert tracked(tmp_path) == ["README.md", "docs/contract/event.md"]
    assert list(filter(DIALECT.reads, tracked(tmp_path))) == ["README.md"]


def test_the_exit_code_is_1_when_there_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "good.md").write_text("an event\n")
    (tmp_path / "bad.md").write_text("an Outbox\n")

    assert main(["good.md"]) == 0
    assert main(["good.md", "bad.md"]) == 1
    assert capsys.readouterr().out == "bad.md:1: Outbox -> use Spool, MemorySpool\n"
