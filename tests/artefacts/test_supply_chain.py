"""
SBOM (build/artefacts/sbom.cdx.json, CycloneDX) and licences (build/artefacts/licences.md) of the packages that are really in the image.
"""

import json
import re
import shutil
import sys
import venv
from pathlib import Path
from typing import Any, Final

import pytest

from tests.artefacts.tools import BUILD, ROOT, fails, image, passes

pytestmark = pytest.mark.artefacts

SBOM: Final = BUILD / "sbom.cdx.json"
LICENCES: Final = BUILD / "licences.md"

ALLOWED: Final = (
    *(
        "Apache",
        "BSD",
        "MIT",
        "PSF",
        "Python Software Foundation",
        "ISC",
        "MPL",
        "Mozilla",
    ),  # in any of their spellings
)
"""Licences that do not require the source of a combined work (MPL requires only that of its own files, unchanged here)."""


@pytest.fixture(scope="module")
def packages() -> Path:
    """A local environment with exactly the packages of the image. Nothing in it is executed."""
    folder = BUILD / "image-env"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    place = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    container = passes("docker", "create", image()).strip()
    try:
        passes("docker", "cp", f"{container}:/opt/voipex/lib/python3.13/site-packages/.", place)
    finally:
        passes("docker", "rm", "--volumes", container)
    return folder


@pytest.fixture(scope="module")
def sbom(packages: Path) -> Any:
    """The SBOM, validated by the tool that writes it."""
    passes(
        *("cyclonedx-py", "environment", packages, "--pyproject", "pyproject.toml", "--validate"),
        *("--output-reproducible", "--sv", "1.6", "--of", "JSON", "-o", SBOM),
    )
    return json.loads(SBOM.read_text())


def installed() -> dict[str, str]:
    """Name and version of every distribution, read with the image's Python."""
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(passes("docker", "run", "--rm", "--network", "none", image(), "python", "-c", script))
    return {_normal(name): version for name, version in found.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_sbom_lists_exactly_the_packages_of_the_image(sbom: Any) -> None:
    listed = {_normal(each["name"]): each["version"] for each in sbom["components"]}
    component = sbom["metadata"]["component"]
    assert component["name"] == "voipex-bridge"
    assert {**listed, "voipex-bridge": component["version"]} == installed()
    assert len(listed) > 20
    assert all(
        each["purl"].startswith("pkg:pypi/")
        for each in sbom["components"]
        if each["name"] != component["name"]
    )


def test_the_image_has_the_locked_versions() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    locked = dict(
        line.split(" ", 1)[0].split(";")[0].split("==")
        for line in lines
        if "==" in line and line[0].isalnum()
    )
    found = installed()
    del found["voipex-bridge"]
    assert {name: locked.get(name) for name in found} == found


def test_the_validation_of_sboms_finds_a_planted_fault(sbom: Any, tmp_path: Path) -> None:
    """Validates with the library that the tool uses."""
    planted = tmp_path / "planted.json"
    planted.write_text(json.dumps({**sbom, "components": [{"type": "library"}]}))
    script = (
        "import sys; from cyclonedx.validation.json import JsonStrictValidator; from cyclonedx.schema import SchemaVersion; "
        "fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); sys.exit(fault and str(fault))"
    )
    passes("python", "-c", script, SBOM)
    assert "name" in fails("python", "-c", script, planted)


def licences(packages: Path, *options: str | Path) -> tuple[str | Path, ...]:
    return ("pip-licenses", "--python", packages / "bin" / "python", "--from=mixed", *options)


def test_every_licence_is_allowed(packages: Path) -> None:
    command = licences(packages, "--with-system", "--partial-match", "--allow-only", ";".join(ALLOWED))
    passes(str(command[0]), *command[1:])
    table = licences(packages, "--with-system", "--with-urls", "--format=markdown", "--output-file", LICENCES)
    passes(str(table[0]), *table[1:])
    rows = [line.split("|")[1].strip() for line in LICENCES.read_text().splitlines()[2:]]
    assert {_normal(row) for row in rows} == installed().keys()
    assert "GPL" not in LICENCES.read_text(), "in no combination either"


def test_a_licence_that_is_not_allowed_is_found(packages: Path) -> None:
    command = licences(packages, "--with-system", "--partial-match", "--allow-only", "MIT")
    assert "not in allow-only" in fails(str(command[0]), *command[1:])
