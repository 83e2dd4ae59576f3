"""The page of the consumers' settings says what the code says, and covers all of it."""

from pathlib import Path

import pytest

from bridge import reference
from consumers.reference import PAGES
from consumers.settings import Settings
from voipex.service.settings import variable_of


def test_the_page_in_the_repository_is_current() -> None:
    assert reference.drifted(pages=PAGES) == []


def test_drift_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference.write(tmp_path, PAGES)
    (tmp_path / "settings-consumers.md").write_text("old")

    assert reference.drifted(tmp_path, PAGES) == ["settings-consumers.md"]
    assert reference.main(["check"], {"settings-consumers.md": lambda: "other"}) == 1
    assert "docs/settings-consumers.md is not what the code says" in capsys.readouterr().err


def test_every_setting_is_described() -> None:
    page = PAGES["settings-consumers.md"]()

    assert all(
        f"| `{variable_of(name)}` |" in page and field.description
        for name, field in Settings.model_fields.items()
    )
