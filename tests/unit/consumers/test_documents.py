"""The generated schemas and examples: they are what the code says, and fit each other."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from consumers.documents import DEFAULT_FOLDER, MODELS, documents, drifted, main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copytree(DEFAULT_FOLDER, tmp_path / "contract")


def test_what_is_checked_in_is_what_the_code_says() -> None:
    """Else: `python -m consumers.documents write`."""
    assert drifted(DEFAULT_FOLDER) == []
    assert main(["check"]) == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_example_validates_against_its_schema(name: str) -> None:
    schema = json.loads((DEFAULT_FOLDER / f"schemas/{name}.json").read_text(encoding="utf-8"))
    example = json.loads((DEFAULT_FOLDER / f"examples/{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(Draft202012Validator(schema).iter_errors(example)) == []
    assert set(schema["properties"]) == set(example)


@pytest.mark.parametrize("name", ["call-timeline", "agent-status"])
def test_documents_have_all_their_fields_also_when_they_are_null(name: str) -> None:
    schema = json.loads((DEFAULT_FOLDER / f"schemas/{name}.json").read_text(encoding="utf-8"))

    for described in (schema, *schema["$defs"].values()):
        assert set(described.get("required", ())) == set(described.get("properties", ()))


@pytest.mark.parametrize("name", MODELS)
def test_a_schema_refuses_what_is_no_document(name: str) -> None:
    schema = json.loads((DEFAULT_FOLDER / f"schemas/{name}.json").read_text(encoding="utf-8"))

    assert not Draft202012Validator(schema).is_valid({})


def test_readers_may_meet_new_fields() -> None:
    """Changes within v1 are additive: a schema does not refuse what it does not know."""
    for text in documents((DEFAULT_FOLDER / "examples/trace.jsonl").read_bytes()).values():
        assert '"additionalProperties": false' not in text


def test_drift_fails_the_check_and_is_mended_by_write(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "schemas/event.json").write_text("{}", encoding="utf-8")
    (folder / "examples/agent-status.json").unlink()

    assert main(["check", "--folder", str(folder)]) == 1
    told = capsys.readouterr().err
    assert "schemas/event.json is not what the code says" in told
    assert "examples/agent-status.json is not what the code says" in told
    assert main(["write", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out == "wrote schemas/event.json\nwrote examples/agent-status.json\n"
    assert main(["check", "--folder", str(folder)]) == 0


def test_without_a_trace_it_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--folder", str(tmp_path)])

    assert ended.value.code == 2


def test_generating_twice_gives_the_same_bytes() -> None:
    trace = (DEFAULT_FOLDER / "examples/trace.jsonl").read_bytes()

    assert documents(trace) == documents(trace)
