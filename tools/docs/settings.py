"""docs/settings.md and docs/settings-consumers.md: every setting of a service, from its settings class."""

from typing import Any, get_args

from pydantic_core import PydanticUndefined

from voipex.service.settings import SECRETS_DIR_VARIABLE, ServiceSettings, format_value, variable_of


def settings_page(kind: type[ServiceSettings], title: str, source: str) -> str:
    """Return the page of all settings of *kind*. `source` is the file with the class."""
    lines = [
        f"# {title}",
        "",
        f"Generated from `{source}` by `make contract`.",
        "",
        "Each is an environment variable, or a file of the same name (any letter case) in the directory that",
        f"`{SECRETS_DIR_VARIABLE}` names (default `/run/secrets`); the environment wins. An empty variable counts as not set.",
        "Invalid values, and settings that contradict each other, end the start with exit code 2 before any port opens; all are",
        "reported at once. Sizes are bytes, or `64K`, `512M`, `1G` (powers of 1024); durations are `500ms`, `30s`, `5m`, `2h`, `30d`, without",
        "a unit that of the name (`_S`: seconds, `_MS`: milliseconds).",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in kind.model_fields.items():
        lines.append(
            f"| `{variable_of(name)}` | {_default(name, field.default)} | {field.description}{_choices(field.annotation)} |"
        )
    return "\n".join(lines) + "\n"


def _default(name: str, value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    value = ",".join(value) if isinstance(value, tuple) else format_value(name, value)
    return f"`{value}`" if str(value) else "(empty)"


def _choices(annotation: Any) -> str:
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
