"""The tables of docs/sizing.md."""

from pathlib import Path

import pytest

from benchmarks.__main__ import sizing_page
from benchmarks.sizing_tables import SERVICES, sizing_tables
from tools.generated import replace_part

PAGE = Path(__file__).parents[3] / "docs/sizing.md"


def test_the_page_has_the_tables_of_the_last_result() -> None:
    assert sizing_page() == PAGE.read_text(encoding="utf-8")


def test_more_pbxs_lie_on_the_line_of_the_measured_ones() -> None:
    rows = [
        {
            "pbxs": pbxs,
            "partitions": 1,
            "service": service,
            "rss_mib": 60 + 2 * pbxs,
            "connections": 2 + 2 * pbxs,
            "descriptors": 20 + 6 * pbxs,
            "cpu_s_per_minute": 0.5 + 0.01 * pbxs,
            "all_ready_s": 3.0,
        }
        for pbxs in (1, 11)
        for service in SERVICES
    ]

    lines = sizing_tables(rows, 1.0).splitlines()

    assert "| 11 | 1 |" + " 82; 24; 86; 0.61 |" * 4 in lines
    assert "| each further | 1 |" + " +2; +2; +6; +0.01 |" * 4 in lines
    assert "| 1,000 | 1 |" + " 2,060; 2,002; 6,020; 10.50 |" * 4 in lines


def test_only_the_part_of_the_command_is_replaced() -> None:
    page = "a\n<!-- make x writes from here -->\nold\n<!-- to here -->\nb\n"

    replaced = replace_part(page, "make x", "new")

    assert replaced == "a\n<!-- make x writes from here -->\n\nnew\n\n<!-- to here -->\nb\n"
    with pytest.raises(ValueError, match="unpack"):
        replace_part(page, "make y", "new")
