"""
The published models as JSON Schemas (2020-12), with examples that validate: `docs/contract/schemas` and `docs/contract/examples`.

    python -m consumers.documents write     after a model or a fold changed
    python -m consumers.documents check     exit 1, naming the files, when they are not what the code says

Examples are not written by hand: `examples/trace.jsonl` is a recorded trace, and the examples are what `explain` makes of it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from bridge.events import Event
from consumers.activity import AgentActivity
from consumers.agents.status import AgentStatus
from consumers.calls.timeline import CallTimeline
from consumers.explain.replay import explain
from consumers.explain.trace import read_trace

DEFAULT_FOLDER: Final = Path(__file__).parents[1] / "docs" / "contract"
TRACE: Final = "examples/trace.jsonl"

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "event": Event,
    "call-timeline": CallTimeline,
    "agent-activity": AgentActivity,
    "agent-status": AgentStatus,
}
"""Name of the files -> what the records of a topic hold."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_of(name: str) -> dict[str, Any]:
    """The schema of what is written, by the names that are written: every field is there, also when it is null."""
    model = MODELS[name]
    schema = model.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": DIALECT, "$id": f"{name}.json", **schema}


def examples_of(trace: bytes) -> dict[str, Any]:
    """One document of each model: the first call's, and what it did to the agent who answered it."""
    read = read_trace(trace.splitlines())
    explanation = explain(read)
    event = next(each.event for each in read.received if each.event.unique_id is not None)
    timeline = explanation.timelines[0]
    agent = explanation.activities[-1]["agent"]
    return {
        "event": event.model_dump(mode="json", by_alias=True),
        "call-timeline": timeline,
        "agent-activity": next(
            each for each in reversed(explanation.activities) if each["answered_at"] is not None
        ),
        "agent-status": next(each for each in explanation.agents if each["agent"] == agent),
    }


def documents(trace: bytes) -> dict[str, str]:
    """Every generated file, by its name below the folder of the contract."""
    files = {f"schemas/{name}.json": _text(schema_of(name)) for name in MODELS}
    return files | {f"examples/{name}.json": _text(example) for name, example in examples_of(trace).items()}


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


def _text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m consumers.documents", description="JSON Schemas and examples."
    )
    parser.add_argument("action", choices=["write", "check"])
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
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
