"""The hand-written pages: every link leads somewhere, every file they name exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documented import blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
]
_FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
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
    r"README\.md|docs/board\.md|docs/reading\.md|docs/connecting\.md|docs/runbooks/.*": "tests/kafka/test_documented_commands.py",
    r"docs/deploying\.md (export|voipex-)": "tests/kafka/test_documented_commands.py",
    r"docs/deploying\.md .*docker compose": "tests/artefacts/test_compose.py",
    r"docs/deploying\.md docker build": "tests/artefacts/test_image.py",
    r"docs/deploying-kubernetes\.md (kubectl|IMAGE)": "tests/cluster/__main__.py",
    r"docs/deploying-kubernetes\.md (kind|KUBECONFIG|export|voipex-|\.venv)": "tests/artefacts/test_k8s.py",
    r"docs/operations\.md (voipex-|\.venv)": "tests/kafka/test_documented_commands.py",
    r"docs/operations\.md kafka-acls\.sh": "tests/kafka/test_secure_kafka.py",
    r"docs/operations\.md kafka-(get-offsets|consumer-groups)\.sh": "tests/kafka/test_lost_offsets.py",
    r"docs/operations\.md (kafka-transactions\.sh|printf)": "tests/kafka",
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


def test_every_decision_is_in_the_index_with_its_status() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")

    for page in sorted((ROOT / "docs/adr").glob("0*.md")):
        title, status = re.findall(r"^(?:# \d+\. (.+)|Status: (.+))$", page.read_text(), re.MULTILINE)[:2]
        row = next(line for line in index.splitlines() if page.name in line)
        assert title[0]
        assert row.split("|")[3].strip() == re.sub(r",.*|\[(\d+)\]\(.*\)", r"\1", status[1])
