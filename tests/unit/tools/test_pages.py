"""The generated pages cover every setting and every metric."""

from pathlib import Path

import pytest

from bridge.metrics import Metrics
from bridge.settings import Settings as BridgeSettings
from consumers.settings import Settings as ConsumerSettings
from tools.docs.__main__ import pages
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


def test_every_bridge_metric_is_documented() -> None:
    documented = (DOCS / "metrics.md").read_text(encoding="utf-8")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics("test").registry.collect()
    }

    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
