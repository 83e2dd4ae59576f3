"""The GitHub workflow is valid and runs the documented commands."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.artefacts.tools import ROOT, fails, passes

pytestmark = pytest.mark.artefacts

WORKFLOW = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def jobs() -> Any:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]


def steps(job: Any, key: str) -> list[str]:
    return [step[key] for step in job["steps"] if key in step]


def test_the_workflow_is_valid() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("timeout-minutes:", "timeout-minuts:"),
        ("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04"),
        ("needs: [", "needs: [1, "),
    ],
)
def test_a_planted_fault_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    planted = tmp_path / "ci.yml"
    planted.write_text(WORKFLOW.read_text().replace(right, wrong, 1))
    assert planted.read_text() != WORKFLOW.read_text()
    fails("check-jsonschema", "--builtin-schema", "vendor.github-workflows", planted)


def test_workflow_publishes_only_after_the_checks(jobs: Any) -> None:
    assert ".ci/run" in steps(jobs["check"], "run")
    assert any(line.startswith("make artefacts") for line in steps(jobs["artefacts"], "run"))
    assert set(jobs["publish"]["needs"]) == {"check", "artefacts"}
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert all("permissions" not in jobs[name] for name in ("check", "artefacts"))


def test_the_workflow_pulls_the_images_that_are_used(jobs: Any) -> None:
    pulled = " ".join(steps(jobs["artefacts"], "run"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["kafka"]["image"]
    base = (ROOT / "deploy/Dockerfile").read_text().split("FROM ")[-1].split()[0]
    assert f"docker pull {compose}" in pulled
    assert f"docker pull {base}" in pulled
