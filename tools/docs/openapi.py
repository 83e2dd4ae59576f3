"""The front door in OpenAPI 3.1: docs/contract/openapi.json, made from the errors, the documented keys and the defaults of the settings."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from bridge.auth.tokens import LIFETIME_S
from bridge.settings import Settings
from voipex import errors
from voipex.webhook import DOCUMENTED_KEYS

_TITLE: Final = "VOIPEX bridge, front door"
_WORDS: Final = {"type": ["string", "number", "boolean", "null"]}
# What the connection says of itself, before there is a request to one of the paths; it may precede every answer.
_OF_CONNECTION: Final = (
    errors.MalformedRequest,
    errors.RequestTimeout,
    errors.HeadersTooLarge,
    errors.TooManyConnections,
)
_NOT_OF_WEBHOOK: Final = (errors.NotFound,)


def openapi_page() -> str:
    return orjson.dumps(document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def document() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": _TITLE,
            "version": "1",
            "summary": "Takes the call and agent events of a VOIPEX PBX; 2xx means that the event is safe on disk.",
            "description": "Statuses and what to do about them: docs/answers.md. Within version 1 only additions are made.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "`make run`"}],
        "paths": {"/voipex": {"post": _webhook()}, "/token": {"post": _token()}},
        "components": {
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "User and password of a credential.",
                },
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `POST /token`."},
            },
            "schemas": {
                "Webhook": _webhook_schema(),
                "Problem": _problem_schema(),
                "TokenError": _token_error_schema(),
            },
        },
    }


def _webhook() -> dict[str, Any]:
    status = str(Settings.model_fields["accepted_status"].default)
    return {
        "operationId": "receiveWebhook",
        "summary": "One event of a PBX.",
        "description": "Any Content-Type is taken, no Content-Encoding. One trailing slash may follow the path.",
        "security": [{"basic": []}, {"bearer": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Webhook"}}},
        },
        "responses": {
            status: {
                "description": "The event is safe on disk. Status and body are settings (`VOIPEX_ACCEPTED_STATUS`, `VOIPEX_ACCEPTED_BODY`)."
            },
            **_refusals(_webhook_errors(), "application/problem+json", "Problem"),
        },
    }


def _token() -> dict[str, Any]:
    fields = {
        "type": "object",
        "properties": {
            "grant_type": {"const": "client_credentials"},
            "client_id": {"type": "string", "description": "Name of a credential."},
            "client_secret": {"type": "string", "description": "One of its secrets."},
        },
        "required": ["grant_type"],
    }
    answer = {
        "type": "object",
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "Bearer"},
            "expires_in": {"const": LIFETIME_S, "description": "Seconds."},
        },
        "required": ["access_token", "token_type", "expires_in"],
    }
    answered = (
        *_children(errors.OAuthError),
        errors.IncompleteRequest,
        errors.MethodNotAllowed,
        errors.ContentTooLarge,
        errors.UnsupportedContentEncoding,
        errors.ServiceUnavailable,
        *_OF_CONNECTION,
    )
    return {
        "operationId": "fetchToken",
        "summary": "A Bearer token (RFC 6749, client credentials).",
        "description": "Name and secret in the body or, instead, as HTTP Basic. The token ends with the secret it was fetched with.",
        "security": [{}, {"basic": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {"schema": fields},
                "application/json": {"schema": fields},
            },
        },
        "responses": {
            "200": {"description": "A token.", "content": {"application/json": {"schema": answer}}},
            **_refusals(answered, "application/json", "TokenError"),
        },
    }


def _webhook_errors() -> Iterator[type[errors.IngressError]]:
    for error in _children(errors.IngressError):
        if not issubclass(error, (errors.OAuthError, *_NOT_OF_WEBHOOK)):
            yield error


def _children(error: type[errors.IngressError]) -> Iterator[type[errors.IngressError]]:
    for child in error.__subclasses__():
        yield child
        yield from _children(child)


def _refusals(
    answered: Iterator[type[errors.IngressError]] | tuple[type[errors.IngressError], ...],
    media_type: str,
    schema: str,
) -> dict[str, Any]:
    """One response for each status, with the causes that it may have."""
    by_status: dict[int, list[type[errors.IngressError]]] = defaultdict(list)
    for error in answered:
        if error.__subclasses__() and error in (errors.InvalidWebhook, errors.OAuthError):
            continue
        by_status[error.status].append(error)
    return {
        str(status): _refusal(sorted(causes, key=lambda each: each.__name__), media_type, schema)
        for status, causes in sorted(by_status.items())
    }


def _refusal(causes: list[type[errors.IngressError]], media_type: str, schema: str) -> dict[str, Any]:
    said = "\n".join(f"- {each.__name__}: {' '.join((each.__doc__ or '').split())}" for each in causes)
    content: dict[str, Any] = {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if any(each in _OF_CONNECTION for each in causes):
        content.setdefault("application/problem+json", {"schema": {"$ref": "#/components/schemas/Problem"}})
    response: dict[str, Any] = {"description": said, "content": content}
    headers = _headers(causes[0].status)
    if headers:
        response["headers"] = headers
    return response


def _headers(status: int) -> Mapping[str, Any]:
    text = {"type": "string"}
    if status == errors.Unauthorized.status:
        return {"WWW-Authenticate": {"description": "The schemes that are taken.", "schema": text}}
    if status == errors.MethodNotAllowed.status:
        return {"Allow": {"description": "POST", "schema": text}}
    if status == errors.ServiceUnavailable.status:
        seconds = {"type": "integer", "minimum": 1}
        return {"Retry-After": {"description": "Seconds.", "schema": seconds}}
    return {}


def _webhook_schema() -> dict[str, Any]:
    names = sorted(set(DOCUMENTED_KEYS) - {"EventName"})
    return {
        "type": "object",
        "description": (
            "Keys as documented; a credential may have others for them (`voipex-bridge credentials create --key`). "
            "Values may be text or numbers, blank means not known. An event needs a UniqueId or, of an agent, a Login, Line or Email. "
            "What is refused with 400 or 422 is kept as a dead letter."
        ),
        "properties": {"EventName": {"type": "string"}, **dict.fromkeys(names, _WORDS)},
        "required": ["EventName"],
        "additionalProperties": True,
        "examples": [
            {
                "EventName": "Ringing",
                "From": "777888999",
                "To": "222333444",
                "Line": "444",
                "Email": "petr.novak@jehofirma.cz",
                "Login": "petr.novak",
                "UniqueId": "1412256225.1941",
            }
        ],
    }


def _problem_schema() -> dict[str, Any]:
    names = sorted({each.__name__ for each in _children(errors.IngressError)})
    return {
        "type": "object",
        "description": "RFC 9457. It never repeats the body.",
        "properties": {
            "type": {"enum": [f"urn:voipex-bridge:problem:{name}" for name in names]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
    }


def _token_error_schema() -> dict[str, Any]:
    words = sorted(
        {each.error for each in _children(errors.OAuthError) if issubclass(each, errors.OAuthError)}
    )
    return {
        "type": "object",
        "description": "RFC 6749, section 5.2.",
        "properties": {
            "error": {"enum": [*words, "temporarily_unavailable"]},
            "error_description": {"type": "string"},
        },
        "required": ["error", "error_description"],
    }
