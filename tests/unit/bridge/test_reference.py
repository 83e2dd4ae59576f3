"""The generated pages say what the code says, and cover all of it."""

from pathlib import Path

from bridge import reference
from bridge.metrics import Metrics
from bridge.settings import Settings
from voipex import errors
from voipex.service.settings import variable_of

DOCS = Path(__file__).parents[3] / "docs"


def test_the_pages_in_the_repository_are_current() -> None:
    assert reference.drifted() == []


def test_drift_is_noticed(tmp_path: Path) -> None:
    reference.write(tmp_path)
    (tmp_path / "settings.md").write_text("old")

    assert reference.drifted(tmp_path) == ["settings.md"]


def test_every_setting_is_described() -> None:
    page = reference.PAGES["settings.md"]()

    assert all(
        variable_of(name) in page and field.description for name, field in Settings.model_fields.items()
    )


def test_every_answer_stands_in_the_table_with_a_cause() -> None:
    page = reference.answers_page()

    def leaves(error: type[errors.IngressError]) -> list[type[errors.IngressError]]:
        return (
            [error]
            if not error.__subclasses__()
            else [x for each in error.__subclasses__() for x in leaves(each)]
        )

    assert all(
        f"| {error.status} | `{error.__name__}` |" in page and error.__doc__
        for error in leaves(errors.IngressError)
    )


def test_every_metric_is_documented() -> None:
    documented = (DOCS / "metrics.md").read_text(encoding="utf-8")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics("test").registry.collect()
    }

    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
