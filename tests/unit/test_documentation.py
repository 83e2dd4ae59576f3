"""The hand-written pages: every link leads somewhere, every file they name exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_every_decision_is_in_the_index_with_its_status() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")

    for page in sorted((ROOT / "docs/adr").glob("0*.md")):
        title, status = re.findall(r"^(?:# \d+\. (.+)|Status: (.+))$", page.read_text(), re.MULTILINE)[:2]
        row = next(line for line in index.splitlines() if page.name in line)
        assert title[0]
        assert row.split("|")[3].strip() == re.sub(r",.*|\[(\d+)\]\(.*\)", r"\1", status[1])
