"""YAML below deploy/ (and beside it) and every shell script, checked by yamllint and shellcheck."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artefacts.tools import BUILD, ROOT, run

pytestmark = pytest.mark.artefacts

_NOT_COMMITTED = {".git", ".venv", "build", "node_modules"}


def repository_files() -> Iterator[Path]:
    """Yield every file of the repository."""
    for path in sorted(ROOT.iterdir()):
        if path.name not in _NOT_COMMITTED and not path.name.endswith("_cache"):
            yield from (each for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(100)
    return path.suffix == ".sh" or (first.startswith(b"#!") and first.split()[-1].endswith(b"sh"))


YAML = [path for path in repository_files() if path.suffix in {".yaml", ".yml"}]
SHELL = [path for path in repository_files() if is_shell(path)]


def yamllint(*files: Path) -> str:
    """Return the complaints, warnings included."""
    done = run("yamllint", "--strict", "--format", "parsable", "-c", ROOT / ".yamllint.yml", *files)
    assert done.returncode in {0, 1, 2}, done.stderr
    return done.stdout + done.stderr


def shellcheck(*files: Path) -> str:
    done = run("shellcheck", "--format", "gcc", *files)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout + done.stderr


def planted(name: str, text: str) -> Path:
    path = BUILD / "lint" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_yamllint_finds_no_fault() -> None:
    assert ROOT / "deploy" / "k8s" / "base" / "bridge.yaml" in YAML
    assert yamllint(*YAML) == ""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: 1\nb: 2\na: 3\n", "key-duplicates"),
        ("a:\n  b: 1\n   c: 2\n", "syntax"),
        ("mode: 0o440\n", "octal-values"),
        ("a: yes\n", "truthy"),
    ],
)
def test_a_fault_in_yaml_is_found(text: str, rule: str) -> None:
    assert f"({rule})" in yamllint(planted("planted.yaml", text))


def test_shellcheck_finds_no_fault() -> None:
    assert ROOT / ".ci" / "run" in SHELL
    assert shellcheck(*SHELL) == ""


def test_a_fault_in_a_shell_script_is_found() -> None:
    script = planted("planted.sh", '#!/bin/sh\nfor each in $(ls "$1"); do rm -r $each/*; done\n')

    assert "SC2086" in shellcheck(script)
