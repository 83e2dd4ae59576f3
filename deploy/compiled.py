"""
Build hook of the wheel: compiles the modules on an event's way to C, from the same source, with mypyc (ADR 9).

    HATCH_BUILD_HOOKS_ENABLE=1 python -m hatchling build -t wheel

Without that variable the wheel is Python throughout. Which modules, pyproject.toml says. What lies beside a compiled module is its
source, for tracebacks; the interpreter loads the compiled one. Needs a C compiler and Python's headers; run as a script it says what of
it is missing.
"""

import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext


def missing() -> str | None:
    """What keeps modules from being compiled here."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(shlex.split(compiler)[0]) is None:
        return f"no C compiler ({compiler})"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return None if headers.exists() else f"no headers of Python ({headers}; Debian: python3-dev)"


class CompiledBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # its modules are the ones being edited
            return
        self._scratch = Path(tempfile.mkdtemp(prefix="compiled-"))
        built = self._scratch / "built"
        compile_modules(self.config["modules"], built, self._scratch)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(
            {str(each): str(each.relative_to(built)) for each in built.rglob("*.so")}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if not build_data["pure_python"]:
            shutil.rmtree(self._scratch)


def compile_modules(modules: list[str], to: Path, scratch: Path) -> None:
    """One library, `voipex__mypyc`, and beside each module's source one that stands for it."""
    arguments = ["--config-file", "pyproject.toml", "--cache-dir", os.devnull, *modules]
    extensions = mypycify(
        arguments, opt_level="3", debug_level="0", group_name="voipex", target_dir=str(scratch)
    )
    command = build_ext(Distribution({"name": "voipex", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(to), str(scratch)
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    reason = missing()
    if reason is not None:
        sys.exit(f"the services run as Python, slower, not compiled: {reason}")
