"""
The reference pages that are made from the code: docs/settings.md from `Settings`, docs/answers.md from `errors`, and the front door in
OpenAPI (`bridge/openapi.py`).

`python -m bridge.reference write` writes them, `check` fails when they are not what the code says. `consumers.reference` does the same with
the consumers' settings.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic_core import PydanticUndefined

from bridge.openapi import openapi_page
from bridge.settings import Settings
from voipex import errors
from voipex.service.settings import SECRETS_DIR_VARIABLE, ServiceSettings, variable_of

_DOCS = Path("docs")  # of the repository, where this is run


def settings_page(kind: type[ServiceSettings], title: str, source: str) -> str:
    """Every setting of *kind*: variable, default, meaning. `source` is the file that the class is in."""
    lines = [
        f"# {title}",
        "",
        f"Made from `{source}` by `make contract`.",
        "",
        "Each is an environment variable, or a file of the same name (any letter case) in the folder that",
        f"`{SECRETS_DIR_VARIABLE}` names (default `/run/secrets`); the environment wins. An empty variable counts as not set.",
        "A wrong value ends the start with exit code 2, before any port opens; all faults are listed at once.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in kind.model_fields.items():
        lines.append(
            f"| `{variable_of(name)}` | {_default(field.default)} | {field.description}{_choices(field.annotation)} |"
        )
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if str(value) else "(empty)"


def _choices(annotation: Any) -> str:
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""


def answers_page() -> str:
    """Every status of the front door: cause, and whether to try again."""
    lines = [
        "# Answers of the front door",
        "",
        "Made from `voipex/errors.py` by `make contract`.",
        "",
        "`POST /voipex` is answered with `VOIPEX_ACCEPTED_STATUS` (200) and `VOIPEX_ACCEPTED_BODY` (empty) once the event is safe on disk.",
        "Every other answer is a problem (RFC 9457, `application/problem+json`) whose `type` ends in the name below. It never repeats the body.",
        "",
        "| status | problem | try again | kept as dead letter | cause |",
        "|---|---|---|---|---|",
    ]
    answered = sorted(_leaves(errors.IngressError), key=lambda each: (each.status, each.__name__))
    for error in answered:
        if issubclass(error, errors.TokenRefused):
            continue
        kept = "yes" if issubclass(error, errors.Unusable) else "no"
        again = (
            "yes, after `Retry-After`"
            if issubclass(error, errors.Unavailable)
            else ("yes" if error.retriable else "no")
        )
        lines.append(f"| {error.status} | `{error.__name__}` | {again} | {kept} | {_cause(error)} |")
    lines += [
        "",
        "`POST /token` is answered 200 with `access_token`, `token_type` and `expires_in`. Its other answers are those of RFC 6749, section 5.2:",
        "JSON with `error` and `error_description`. 405, 413 (here above 4 KiB), 415 and 503 are as above, as `invalid_request` and `temporarily_unavailable`.",
        "",
        "| status | problem | `error` | cause |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {error.status} | `{error.__name__}` | `{error.error}` | {_cause(error)} |"
        for error in answered
        if issubclass(error, errors.TokenRefused)
    ]
    return "\n".join(lines) + "\n"


def _cause(error: type[errors.IngressError]) -> str:
    return " ".join((error.__doc__ or "").split())


def _leaves(error: type[errors.IngressError]) -> Iterator[type[errors.IngressError]]:
    """Errors that are answered: all but those that only group others."""
    if error not in (errors.IngressError, errors.Unusable, errors.TokenRefused):
        yield error
    for child in error.__subclasses__():
        yield from _leaves(child)


Pages = Mapping[str, Callable[[], str]]

PAGES: Final[Pages] = {
    "settings.md": lambda: settings_page(Settings, "Settings", "bridge/settings.py"),
    "answers.md": answers_page,
    "contract/openapi.json": openapi_page,
}


def write(folder: Path = _DOCS, pages: Pages = PAGES) -> None:
    for name, make in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(make(), encoding="utf-8")


def drifted(folder: Path = _DOCS, pages: Pages = PAGES) -> list[str]:
    """Names of the pages that are not what the code says."""
    return [
        name
        for name, make in pages.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != make()
    ]


def main(arguments: list[str], pages: Pages = PAGES) -> int:
    if arguments == ["write"]:
        write(pages=pages)
        return 0
    if arguments == ["check"]:
        wrong = drifted(pages=pages)
        for name in wrong:
            print(f"docs/{name} is not what the code says: run `make contract`", file=sys.stderr)  # noqa: T201
        return 1 if wrong else 0
    print("usage: write|check", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
