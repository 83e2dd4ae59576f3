"""The package as other teams install it: exported models, types, and an import that stays cheap."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import voipex
from voipex import AgentActivity, AgentStatus, CallTimeline, Event

ROOT = Path(__file__).parents[3]
PACKAGES = ("voipex", "bridge", "consumers", "sandbox")


def test_models_are_exported() -> None:
    exported = (AgentActivity, AgentStatus, CallTimeline, Event)

    assert sorted(model.__name__ for model in exported) == voipex.__all__
    assert Event.__module__ == "voipex.events"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'voipex' has no attribute 'Nonsense'"):
        voipex.Nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_health_check_does_not_load_pydantic() -> None:
    """Containers run it twice a minute; pydantic would take most of its time."""
    code = "import sys, voipex.service.health; print('pydantic' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed == "False\n"


def test_the_wheel_has_all_packages_with_their_types() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = {each.distribution_path for each in WheelBuilder(str(ROOT)).recurse_included_files()}

    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert {f"{name}/py.typed" for name in PACKAGES} <= shipped
    assert {path.split("/", maxsplit=1)[0] for path in shipped} == set(PACKAGES)
