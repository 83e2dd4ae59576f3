"""The contract checked by the tools that other teams use."""

import json
from pathlib import Path

import pytest

from tests.artefacts.tools import NODE_MODULES, ROOT, fails, passes

pytestmark = pytest.mark.artefacts

CONTRACT = ROOT / "docs" / "contract"
SCHEMAS = sorted((CONTRACT / "schemas").glob("*.json"))
CHECK = ROOT / "deploy" / "checks" / "asyncapi.mjs"


def test_the_asyncapi_parser_accepts_the_document() -> None:
    output = passes("node", CHECK, CONTRACT / "asyncapi.json", NODE_PATH=str(NODE_MODULES))

    assert "AsyncAPI 3.1" in output


def test_a_fault_in_asyncapi_is_found(tmp_path: Path) -> None:
    document = json.loads((CONTRACT / "asyncapi.json").read_text(encoding="utf-8"))
    next(iter(document["operations"].values()))["action"] = "listen"
    faulty = tmp_path / "asyncapi.json"
    faulty.write_text(json.dumps(document), encoding="utf-8")

    assert "action" in fails("node", CHECK, faulty, NODE_PATH=str(NODE_MODULES))


def test_schemas_are_valid_json_schemas_2020_12() -> None:
    assert SCHEMAS
    assert all("2020-12" in json.loads(each.read_text(encoding="utf-8"))["$schema"] for each in SCHEMAS)
    passes("check-jsonschema", "--check-metaschema", *SCHEMAS)


def test_a_fault_in_a_schema_is_found(tmp_path: Path) -> None:
    schema = json.loads(SCHEMAS[0].read_text(encoding="utf-8"))
    schema["type"] = "objekt"
    faulty = tmp_path / "schema.json"
    faulty.write_text(json.dumps(schema), encoding="utf-8")

    assert "objekt" in fails("check-jsonschema", "--check-metaschema", faulty)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.stem)
def test_examples_validate_with_their_schemas(schema: Path, tmp_path: Path) -> None:
    example = CONTRACT / "examples" / schema.name
    faulty = tmp_path / "example.json"
    faulty.write_text(
        json.dumps({**json.loads(example.read_text(encoding="utf-8")), "pbx": 1}), encoding="utf-8"
    )

    passes("check-jsonschema", "--schemafile", schema, example)
    assert "pbx" in fails("check-jsonschema", "--schemafile", schema, faulty)
