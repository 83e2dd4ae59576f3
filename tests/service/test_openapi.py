"""The OpenAPI description of the ingress is valid, and the real process follows it, also for unusual requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.processes import BridgeProcess, free_port

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "contract" / "openapi.yaml").read_text(encoding="utf-8")
)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    process = BridgeProcess(tmp_path_factory.mktemp("bridge"), f"127.0.0.1:{free_port()}", VOIPEX_DRAIN_S="0")
    with process.start():
        yield process


def test_the_description_is_valid() -> None:
    validate(DOCUMENT)


def test_every_example_in_it_is_valid() -> None:
    import jsonschema  # type: ignore[import-untyped]  # it ships none

    schemas = DOCUMENT["components"]["schemas"]

    for schema in schemas.values():
        for example in schema.get("examples", ()):
            jsonschema.validate(example, schema)
    assert schemas["Webhook"]["examples"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", ["/voipex", "/token"])
@pytest.mark.parametrize("authorized", [True, False])
def test_the_ingress_answers_as_described(
    bridge: BridgeProcess, path: str, mode: GenerationMode, authorized: bool
) -> None:
    headers = bridge.authorization() if authorized else {}

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def answers(data: Any) -> None:
        case = data.draw(SCHEMA[path]["POST"].as_strategy(generation_mode=mode))
        case.headers.pop("Authorization", None)
        response = case.call(base_url=f"http://127.0.0.1:{bridge.port}", headers=headers)
        case.validate_response(response, checks=CHECKS)
        assert authorized or path == "/token" or response.status_code in (401, 408, 431)

    answers()


@pytest.mark.parametrize("path", ["/voipex", "/token"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_405(bridge: BridgeProcess, path: str, method: str) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", bridge.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    answer.read()
    connection.close()

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
