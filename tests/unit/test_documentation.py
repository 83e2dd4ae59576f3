"""The hand-written pages: every link leads somewhere, every file they name exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bridge.cli.main import app as bridge_app
from consumers.cli.main import app as consumers_app
from sandbox.cli import app as sandbox_app
from tests.documented import blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
]
_FENCE = re.compile(r"^( *(?:[-*] |\d+\. )?)```.*?^ *```", re.DOTALL | re.MULTILINE)
_INVENTED = {"tests/webhooks/parked.json"}  # of the example in CONTRIBUTING
_PATH = re.compile(r"(?:voipex|bridge|consumers|sandbox|tools|tests|benchmarks|deploy|docs)/[\w./-]+\.\w+")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One, two\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](other.md#one-two) [b](other.md#three) [c](gone.md) [d](#top)\n```\n[e](gone.md)\n```\n"
    )

    assert list(broken_links(page)) == ["other.md#three", "gone.md"]


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/README.md", "docs/architecture.md", "docs/operations.md"]
)
def test_files_that_a_page_names_exist(name: str) -> None:
    named = set(_PATH.findall((ROOT / name).read_text(encoding="utf-8"))) - _INVENTED

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


RUN_BY = {
    r"README\.md|docs/board\.md|docs/connecting\.md": "tests/kafka/test_documented_commands.py",
    r"docs/reading\.md \.venv": "tests/kafka/test_documented_commands.py",
    r"docs/reading\.md kcat": "tests/artefacts/test_readers.py",
    r"docs/runbooks/\S+ (voipex-|timedatectl|date)": "tests/kafka/test_documented_commands.py",
    r"docs/deploying\.md (export|voipex-)": "tests/kafka/test_documented_commands.py",
    r"docs/deploying\.md .*docker compose": "tests/artefacts/test_compose.py",
    r"docs/deploying\.md docker build": "tests/artefacts/test_image.py",
    r"docs/deploying-kubernetes\.md (kubectl|IMAGE)": "tests/cluster/__main__.py",
    r"docs/deploying-kubernetes\.md (kind|KUBECONFIG|export|voipex-|\.venv)": "tests/artefacts/test_k8s.py",
    r"docs/operations\.md (voipex-|\.venv)": "tests/kafka/test_documented_commands.py",
    r"docs/operations\.md kafka-acls\.sh": "tests/kafka/test_secure_kafka.py",
    r"docs/operations\.md kafka-(get-offsets|consumer-groups)\.sh": "tests/kafka/test_lost_offsets.py",
    r"docs/operations\.md (kafka-transactions\.sh|kafka-console-consumer\.sh|printf)": "tests/kafka",
    r"docs/contract/README\.md python -m tools\.docs": "tests/unit/tools/test_contract_files.py",
}
"""What runs the commands of a page, by a pattern of `PAGE COMMAND`."""


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
)
def test_every_command_of_a_page_is_run_by_a_test(page: str) -> None:
    commands = [f"{page} {command}" for block in blocks(page) for command in block.commands]

    assert [each for each in commands if not any(re.match(known, each) for known in RUN_BY)] == []
    assert [file for file in RUN_BY.values() if not (ROOT / file).exists()] == []


_OURS = re.compile(r"(voipex-(?:bridge|consumers|sandbox)) ([a-z][^`|>#;)\n]*(?:\|[a-z]+)*)")
_PROGRAMS = {"voipex-bridge": bridge_app, "voipex-consumers": consumers_app, "voipex-sandbox": sandbox_app}


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield program and words of each command of the project, in code within a sentence or in a block; `topics apply|check` are two."""
    code = [*re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)), *(block[0] for block in _FENCE.finditer(text))]
    for piece in code:
        for program, rest in _OURS.findall(piece.replace("\\\n", " ")):
            words = rest.split()
            for n, word in enumerate(words):
                if "|" in word and not word.startswith("-"):
                    for each in word.split("|"):
                        yield program, [*words[:n], each]
                    break
            else:
                yield program, words


def faults_of(program: str, words: list[str]) -> Iterator[str]:
    """Yield the command or the option that the program does not have."""
    command = typer.main.get_command(_PROGRAMS[program])
    context = typer.Context(command)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            yield f"{program} {words[0]}"
            return
        command, words = found, words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if not command.context_settings.get("ignore_unknown_options"):
        yield from (
            word
            for word in words
            if re.match("--[a-z]", word) and word.partition("=")[0] not in {*known, "--help"}
        )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    faults = [
        f"{' '.join((program, *words))}: {fault}"
        for program, words in commands_in(page.read_text(encoding="utf-8"))
        for fault in faults_of(program, words)
    ]

    assert faults == []


def test_a_command_or_an_option_that_does_not_exist_is_found() -> None:
    text = "`voipex-bridge topics apply|remove` and\n```sh\nvoipex-bridge doctor --deep\nvoipex-consumers lag\n```\n"

    found = [fault for program, words in commands_in(text) for fault in faults_of(program, words)]

    assert found == ["voipex-bridge remove", "--deep"]


def test_every_decision_is_in_the_index_with_its_status() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")

    for page in sorted((ROOT / "docs/adr").glob("0*.md")):
        title, status = re.findall(r"^(?:# \d+\. (.+)|Status: (.+))$", page.read_text(), re.MULTILINE)[:2]
        row = next(line for line in index.splitlines() if page.name in line)
        assert title[0]
        assert row.split("|")[3].strip() == re.sub(r",.*|\[(\d+)\]\(.*\)", r"\1", status[1])
