"""The generated schemas, examples and pages match the code and each other, and are compatible with those of releases."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from tests.unit.consumers.traces import lines_of, scenario, scenario_names
from tools import generated
from tools.docs import contract as module
from tools.docs.__main__ import main, pages
from tools.docs.contract import documents, project_version
from tools.docs.messages import MODELS

Json = dict[str, Any]

DEFAULT_FOLDER = Path("docs/contract")
RELEASES = sorted(path for path in (DEFAULT_FOLDER / "releases").iterdir() if path.is_dir())


def read(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return copytree("docs", tmp_path / "docs")


def test_committed_files_are_those_that_the_code_generates() -> None:
    """If it fails: `make contract`."""
    assert generated.drifted(Path("docs"), pages()) == []
    assert main(["check"]) == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_example_validates_against_its_schema(name: str) -> None:
    schema = read(DEFAULT_FOLDER / f"schemas/{name}.json")
    example = read(DEFAULT_FOLDER / f"examples/{name}.json")
    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(Draft202012Validator(schema).iter_errors(example)) == []
    assert set(schema["properties"]) == set(example)


@pytest.mark.parametrize("name", ["call-timeline", "agent-status"])
def test_documents_have_all_their_fields_also_when_they_are_null(name: str) -> None:
    schema = read(DEFAULT_FOLDER / f"schemas/{name}.json")

    for described in (schema, *schema["$defs"].values()):
        assert set(described.get("required", ())) == set(described.get("properties", ()))


@pytest.mark.parametrize("name", MODELS)
def test_a_schema_rejects_an_empty_object(name: str) -> None:
    schema = read(DEFAULT_FOLDER / f"schemas/{name}.json")

    assert not Draft202012Validator(schema).is_valid({})


def test_schemas_allow_further_fields() -> None:
    """Changes within v1 are additive, so a schema must not reject unknown fields."""
    for text in documents((DEFAULT_FOLDER / "examples/trace.jsonl").read_bytes()).values():
        assert '"additionalProperties": false' not in text


def test_drift_fails_the_check_and_is_repaired_by_write(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (docs / "contract/schemas/event.json").write_text("{}", encoding="utf-8")
    (docs / "contract/examples/agent-status.json").unlink()

    assert main(["check", "--docs", str(docs)]) == 1
    errors = capsys.readouterr().err
    assert "contract/schemas/event.json differs from the code" in errors
    assert "contract/examples/agent-status.json differs from the code" in errors
    assert main(["write", "--docs", str(docs)]) == 0
    assert (
        capsys.readouterr().out
        == f"wrote {docs}/contract/schemas/event.json\nwrote {docs}/contract/examples/agent-status.json\n"
    )
    assert main(["check", "--docs", str(docs)]) == 0


def test_a_missing_trace_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--docs", str(tmp_path)])

    assert ended.value.code == 2


def test_generating_twice_gives_the_same_bytes() -> None:
    trace = (DEFAULT_FOLDER / "examples/trace.jsonl").read_bytes()

    assert documents(trace) == documents(trace)


# ---------------------------------------------------------------- documents of the folds


def published(name: str) -> Iterator[tuple[str, Json]]:
    """Yield every document of a scenario with the name of its schema."""
    trace = read_trace(lines_of(scenario(name)))
    explanation = explain(trace)
    yield from (("event", each.event.model_dump(mode="json", by_alias=True)) for each in trace.received)
    yield from (("call-timeline", each) for each in explanation.timelines)
    yield from (("agent-activity", each) for each in explanation.activities)
    yield from (("agent-status", each) for each in explanation.agents)


def open_enumerations(schema: Any) -> Any:
    """Return the schema without its enumerations, as readers have to accept new values."""
    if isinstance(schema, dict):
        return {name: open_enumerations(value) for name, value in schema.items() if name != "enum"}
    return [open_enumerations(each) for each in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", scenario_names())
def test_documents_validate_against_the_schemas_of_all_releases(
    name: str,
) -> None:
    validators = {
        (folder, each): Draft202012Validator(
            schema if folder == DEFAULT_FOLDER else open_enumerations(schema)
        )
        for folder in (DEFAULT_FOLDER, *RELEASES)
        for each in MODELS
        for schema in [read(folder / f"schemas/{each}.json")]
    }

    faults = [
        f"{folder.name}, {each}: {fault.json_path} {fault.message}"
        for each, document in published(name)
        for folder in (DEFAULT_FOLDER, *RELEASES)
        for fault in validators[folder, each].iter_errors(document)
    ]

    assert faults == []


# ---------------------------------------------------------------- releases


def test_there_is_a_release_to_compare_with() -> None:
    assert RELEASES != []
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", each.name) for each in RELEASES)


@pytest.mark.parametrize("release", RELEASES, ids=lambda each: each.name)
@pytest.mark.parametrize("name", MODELS)
def test_todays_examples_validate_with_the_schemas_of_a_release(name: str, release: Path) -> None:
    """Only new fields and enumeration values are allowed."""
    schema = read(release / f"schemas/{name}.json")
    example = read(DEFAULT_FOLDER / f"examples/{name}.json")

    assert '"additionalProperties": false' not in json.dumps(schema)
    assert list(Draft202012Validator(open_enumerations(schema)).iter_errors(example)) == []


@pytest.mark.parametrize("release", RELEASES, ids=lambda each: each.name)
@pytest.mark.parametrize("name", MODELS)
def test_examples_of_a_release_validate_with_todays_schemas(name: str, release: Path) -> None:
    """Old records stay in the topics for their retention time."""
    today = read(DEFAULT_FOLDER / f"schemas/{name}.json")
    schema = without_newer_required_fields(today, read(release / f"schemas/{name}.json"))

    assert list(Draft202012Validator(schema).iter_errors(read(release / f"examples/{name}.json"))) == []


def without_newer_required_fields(today: Json, then: Json) -> Json:
    """Return today's schema, with fields newer than the release not required."""
    known = {path: set(part.get("properties", ())) for path, part in objects_of(then)}
    for path, part in objects_of(today):
        if "required" in part:
            part["required"] = [each for each in part["required"] if each in known.get(path, set())]
    return today


def objects_of(schema: Json) -> Iterator[tuple[str, Json]]:
    """Yield the schema and its definitions, by name."""
    yield "", schema
    yield from schema.get("$defs", {}).items()


@pytest.mark.parametrize("release", RELEASES, ids=lambda each: each.name)
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_removed_within_v1(name: str, release: Path) -> None:
    """Every field of a release is still there, with its type and presence, and so is every enumeration value."""
    then, now = read(release / f"schemas/{name}.json"), read(DEFAULT_FOLDER / f"schemas/{name}.json")

    assert removals(then, now) == []


def removals(then: Json, now: Json) -> list[str]:
    parts = dict(objects_of(now))
    faults = []
    for path, part in objects_of(then):
        today = parts.get(path)
        if today is None:
            faults.append(f"{path} is gone")
            continue
        faults += [f"{path} lost the value {each}" for each in missing(part, today, "enum")]
        faults += [f"{path}.{each} may be missing" for each in missing(part, today, "required")]
        for name, field in part.get("properties", {}).items():
            if name not in today["properties"]:
                faults.append(f"{path}.{name} is gone")
            elif shape_of(field) != shape_of(today["properties"][name]):
                faults.append(f"{path}.{name} has another type")
    return faults


def missing(then: Json, now: Json, name: str) -> list[str]:
    return [each for each in then.get(name, ()) if each not in now.get(name, ())]


def shape_of(field: Json) -> Json:
    """Return the schema of a field without its texts."""
    return {name: value for name, value in field.items() if name not in ("description", "title", "default")}


def test_removals_are_found() -> None:
    then = read(DEFAULT_FOLDER / "schemas/call-timeline.json")
    now = read(DEFAULT_FOLDER / "schemas/call-timeline.json")
    del now["properties"]["wait_s"]
    now["required"].remove("ring_s")
    now["properties"]["talk_s"] = {"type": "string"}
    now["$defs"]["Outcome"]["enum"].remove("busy")
    del now["$defs"]["Link"]

    assert sorted(removals(then, now)) == [
        ".ring_s may be missing",
        ".talk_s has another type",
        ".wait_s is gone",
        "Link is gone",
        "Outcome lost the value busy",
    ]


def test_release_copies_schemas_and_never_overwrites(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "project_version", lambda: "9.0.0")

    assert main(["release", "--docs", str(docs)]) == 0
    release = docs / "contract/releases/9.0.0"
    assert sorted(str(each.relative_to(release)) for each in release.rglob("*.json")) == sorted(
        f"{part}/{name}.json" for part in ("examples", "schemas") for name in MODELS
    )
    assert read(release / "schemas/event.json") == read(docs / "contract/schemas/event.json")
    assert main(["release", "--docs", str(docs)]) == 1
    assert "releases/9.0.0 exists" in capsys.readouterr().err


def test_a_version_in_preparation_can_be_written_again(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "project_version", lambda: "9.0.0")
    assert main(["release", "--docs", str(docs)]) == 0
    schema = docs / "contract/releases/9.0.0/schemas/event.json"
    schema.write_text("{}", encoding="utf-8")

    assert main(["release", "--again", "--docs", str(docs)]) == 0
    assert read(schema) == read(docs / "contract/schemas/event.json")


def test_drifted_files_are_not_released(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "project_version", lambda: "9.0.0")
    (docs / "contract/schemas/event.json").write_text("{}", encoding="utf-8")

    assert main(["release", "--docs", str(docs)]) == 1
    assert not (docs / "contract/releases/9.0.0").exists()


def test_the_project_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", project_version())
