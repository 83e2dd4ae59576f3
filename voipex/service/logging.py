"""
One JSON object per line on standard output, for the log events of this project and of the libraries alike.

Levels: INFO started, stopped; WARNING the service recovers by itself and nothing is lost; ERROR something is lost, or an operator must act.
Fields are names and counts, never a body, a key of a record, a secret, a phone number or an e-mail address: a record is named by topic,
partition and offset. A login or the name of a user may be an e-mail address, so addresses are masked in every line. The message of an exception may
repeat the value that it is about (`KeyError('777123456')`), so tracebacks are without it, but for errors that are known not to: see `cause_of`.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Final, Literal

import orjson
import structlog


def set_up(level: str = "info", log_format: Literal["json", "console"] = "json") -> None:
    """Configure structlog and the standard library's logging. Call it once, before anything logs."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        rendered: list[Any] = [
            _TRACEBACK,
            _mask,
            structlog.processors.JSONRenderer(serializer=_line),
        ]
    else:
        rendered = [_TRACEBACK, _mask, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the ingress logs rejected requests itself
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("asyncio").addFilter(_without_details)
    sys.excepthook = lambda _kind, error, _traceback: logging.getLogger("process").critical(
        "process failed", exc_info=error
    )
    # It repeats a failure several times a second; the services log it once a minute.
    logging.getLogger("aiokafka").setLevel("CRITICAL")


_ADDRESS: Final = re.compile(r"[^\s\"'<>()\[\]{}=,;:/\\]+@[^\s\"'<>()\[\]{}=,;:/\\]+")


def _mask(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask e-mail addresses in every field."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub("***@***", value) if "@" in value else value
    if isinstance(value, dict):
        return {_masked(name): _masked(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return value if value is None or isinstance(value, int | float) else _masked(str(value))


def cause_of(error: BaseException) -> str:
    """
    Say in one line what went wrong, for logs and health reports. Of an error of this project, the Kafka client or the operating system with its
    message; of any other, whose message may repeat a value, with the line that raised it.
    """
    name = type(error).__name__
    if _has_harmless_message(error):
        return f"{name} {error}".strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{name} at {frames[-1].filename}:{frames[-1].lineno}" if frames else name


def _has_harmless_message(error: BaseException) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _HARMLESS


_HARMLESS: Final = frozenset({"voipex", "bridge", "consumers", "sandbox", "aiokafka"})
"""Packages whose errors name topics, partitions, offsets, files and addresses of hosts, and no content of a record."""


def place_of(error: BaseException) -> str:
    """Where an error was raised, and those that led to it, as a traceback without messages that may repeat a value."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    last = f"{type(error).__name__}: {error}" if _has_harmless_message(error) else type(error).__name__
    frames = f"{''.join(traceback.format_tb(error.__traceback__))}{last}"
    return frames if before is None else f"{place_of(before)}\n\n{frames}"


def _traceback(exc_info: Any) -> str:
    return place_of(exc_info[1])


_TRACEBACK: Final = structlog.processors.ExceptionRenderer(_traceback)


def _without_details(record: logging.LogRecord) -> bool:
    """asyncio repeats the task and its exception in the lines below."""
    record.msg = str(record.msg).partition("\n")[0]
    return True


def _line(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(component=name)
    return logger


class LogThrottle:
    """Lets one log line per key and interval pass. Keys are few: names of errors, topics."""

    def __init__(self, interval_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._logged_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def admit(self, key: str) -> int | None:
        """Return None if the line of *key* must be suppressed, else how many were suppressed since the last one."""
        now = self._monotonic()
        logged_at = self._logged_at.get(key)
        if logged_at is not None and now - logged_at < self._interval_s:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return None
        self._logged_at[key] = now
        return self._suppressed.pop(key, 0)

    def reset(self) -> None:
        """Let the next line of every key pass."""
        self._logged_at.clear()
        self._suppressed.clear()
