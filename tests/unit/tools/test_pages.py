"""The generated pages cover every setting, every response and every metric."""

from pathlib import Path

import pytest

from bridge.metrics import Metrics
from bridge.settings import Settings as BridgeSettings
from consumers.settings import Settings as ConsumerSettings
from tools.docs.__main__ import pages
from tools.docs.http_responses import answers_page
from voipex import errors
from voipex.service.settings import ServiceSettings, variable_of

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("page", "kind"), [("settings.md", BridgeSettings), ("settings-consumers.md", ConsumerSettings)]
)
def test_page_describes_every_setting(page: str, kind: type[ServiceSettings]) -> None:
    text = pages()[page]

    assert [
        name
        for name, field in kind.model_fields.items()
        if f"| `{variable_of(name)}` |" not in text or not field.description
    ] == []


def test_every_response_has_a_row_with_its_cause() -> None:
    page = answers_page()

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


def test_every_bridge_metric_is_documented() -> None:
    documented = (DOCS / "metrics.md").read_text(encoding="utf-8")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics("test").registry.collect()
    }

    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
