"""The table of responses: each error has a row, the page in docs shows all rows, and each is answered as its row says."""

import json

import pytest

from bridge.http import errors as http
from bridge.http.problems import PROBLEMS, known, problem_response
from tools.docs.http_responses import responses_page
from voipex import errors

GROUPS = {http.RequestError, errors.InvalidWebhook, errors.OAuthError}
"""Base classes, which are never raised."""


def tree(error: type[Exception]) -> list[type[Exception]]:
    return [error, *(each for child in error.__subclasses__() for each in tree(child))]


def test_every_error_of_a_request_is_in_the_table() -> None:
    roots: list[type[Exception]] = [*GROUPS, errors.Unauthorized, errors.ServiceUnavailable]
    answered = {error for root in roots for error in tree(root)} - GROUPS

    assert set(PROBLEMS) == answered


@pytest.mark.parametrize("error", PROBLEMS, ids=lambda error: error.__name__)
def test_each_row_is_answered_and_documented(error: type[Exception]) -> None:
    problem = PROBLEMS[error]

    response = problem_response(error("what happened"))

    assert response.status == problem.status
    assert json.loads(response.body) == {
        "type": f"urn:voipex-bridge:problem:{error.__name__}",
        "title": problem.title,
        "status": problem.status,
        "detail": "what happened",
    }
    assert set(problem.headers) <= set(response.headers)
    assert f"| {problem.status} | `{error.__name__}` |" in responses_page()
    assert error.__doc__


@pytest.mark.parametrize("error", tree(errors.ServiceUnavailable), ids=lambda error: error.__name__)
def test_service_unavailable_may_be_tried_again_later(error: type[Exception]) -> None:
    problem = PROBLEMS[error]

    assert (problem.status, problem.retriable) == (503, True)
    assert (b"retry-after", b"2") in problem.headers


def test_an_error_without_a_row_becomes_service_unavailable() -> None:
    answered = known(RuntimeError("+420777888999"))

    assert type(answered) is errors.ServiceUnavailable
    assert "777888999" not in str(answered)
