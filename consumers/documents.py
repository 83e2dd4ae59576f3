"""
The contract in docs/contract, made from the models, the list of topics and a recorded trace: JSON Schemas (2020-12), examples that
validate, AsyncAPI, and pages for people.

    python -m consumers.documents write      after a model, a topic or a fold changed
    python -m consumers.documents check      exit 1, naming the files, when they are not what the code says
    python -m consumers.documents release    keep today's schemas and examples as those of this version

Examples are not written by hand: `examples/trace.jsonl` is a recorded trace, and the examples are what the bridge and the folds make of it.
"""

import argparse
import json
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from consumers.contract.asyncapi import asyncapi
from consumers.contract.examples import examples_of
from consumers.contract.messages import MODELS
from consumers.contract.pages import pages
from consumers.contract.walkthrough import walkthrough

DEFAULT_FOLDER: Final = Path("docs/contract")  # of the repository, where this is run
PROJECT: Final = Path("pyproject.toml")
TRACE: Final = "examples/trace.jsonl"

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(name: str) -> dict[str, Any]:
    """The schema of what is written, by the names that are written: every field is there, also when it is null."""
    model = MODELS[name]
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": DIALECT, "$id": f"{name}.json", **schema}


def documents(trace: bytes) -> dict[str, str]:
    """Every generated file, by its name below the folder of the contract."""
    examples = examples_of(trace)
    schemas = {name: schema_of(name) for name in MODELS}
    return {
        **{f"schemas/{name}.json": _text(schema) for name, schema in schemas.items()},
        **{f"examples/{name}.json": _text(example) for name, example in examples.documents.items()},
        "asyncapi.json": _text(asyncapi(examples.records)),
        **pages(schemas, examples.records),
        "example-call.md": walkthrough(trace, examples),
    }


def drifted(folder: Path) -> list[str]:
    """Generated files that are missing, or differ from what the code says."""
    return [
        name
        for name, text in documents((folder / TRACE).read_bytes()).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def write(folder: Path) -> list[str]:
    """Write what drifted; returns the names."""
    files = documents((folder / TRACE).read_bytes())
    changed = drifted(folder)
    for name in changed:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name], encoding="utf-8", newline="\n")
    return changed


def release(folder: Path, version: str) -> Path | None:
    """Keep schemas and examples as *version* publishes them; None, and nothing done, when that version was kept before."""
    kept = folder / "releases" / version
    if kept.exists():
        return None
    for name in MODELS:
        for part in ("schemas", "examples"):
            (kept / part).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / part / f"{name}.json", kept / part / f"{name}.json")
    return kept


def project_version() -> str:
    """Of the source tree, not of what is installed: a release has just changed it."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def _text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m consumers.documents", description="The contract's files."
    )
    parser.add_argument("action", choices=["write", "check", "release"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of the contract (docs/contract)")
    options = parser.parse_args(arguments)
    if not (options.folder / TRACE).is_file():
        parser.error(f"there is no {options.folder / TRACE}")
    if options.action == "write":
        for name in write(options.folder):
            sys.stdout.write(f"wrote {name}\n")
        return 0
    names = drifted(options.folder)
    for name in names:
        sys.stderr.write(f"{name} is not what the code says: run `python -m consumers.documents write`\n")
    if names:
        return 1
    return _release(options.folder) if options.action == "release" else 0


def _release(folder: Path) -> int:
    version = project_version()
    kept = release(folder, version)
    if kept is None:
        sys.stderr.write(
            f"releases/{version} is there already: set the new version in pyproject.toml first\n"
        )
        return 1
    sys.stdout.write(f"kept releases/{version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
