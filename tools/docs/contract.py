"""
docs/contract: JSON Schemas (2020-12), examples that validate, AsyncAPI and one page per document, generated from the models, the declared
topics and a recorded trace (`examples/trace.jsonl`): the examples are the records that the bridge and the folds produce for that trace.
"""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any, Final

from consumers.board.openapi import description as board_openapi
from tools.docs import doubts
from tools.docs.asyncapi import asyncapi
from tools.docs.examples import examples_of
from tools.docs.messages import MODELS
from tools.docs.pages import pages
from tools.docs.walkthrough import CALL_PICTURE, call_picture, walkthrough

FOLDER: Final = Path("docs/contract")  # of the repository, where this is run
PROJECT: Final = Path("pyproject.toml")
TRACE: Final = "examples/trace.jsonl"

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(name: str) -> dict[str, Any]:
    """The schema of what is written, by the names that are written: every field is there, also when it is null."""
    model = MODELS[name]
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": DIALECT, "$id": f"{name}.json", **schema}


def documents(trace: bytes) -> dict[str, str]:
    """Return every generated file of docs/contract: relative name -> text."""
    examples = examples_of(trace)
    schemas = {name: schema_of(name) for name in MODELS}
    return {
        **{f"schemas/{name}.json": _text(schema) for name, schema in schemas.items()},
        **{f"examples/{name}.json": _text(example) for name, example in examples.documents.items()},
        "asyncapi.json": _text(asyncapi(examples.records)),
        "board-openapi.json": _text(board_openapi()),
        **pages(schemas, examples.records),
        "example-call.md": walkthrough(trace, examples),
        CALL_PICTURE: call_picture(examples),
        "example-doubts.md": doubts.page(),
        doubts.PICTURE: doubts.doubt_picture(),
    }


def release(folder: Path, version: str, *, again: bool = False) -> Path | None:
    """Keep schemas and examples as *version* publishes them. Return None, and do nothing, if they are kept already and not *again*."""
    kept = folder / "releases" / version
    if kept.exists() and not again:
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
