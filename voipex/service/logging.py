"""
One JSON object per line on standard output, for the log events of this project and of the libraries alike.

Levels: INFO started, stopped; WARNING the service recovers by itself and nothing is lost; ERROR something is lost, or an operator must act.
Fields are names and counts, never a body, a secret, a phone number or an e-mail address.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

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
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_line),
        ]
    else:
        # Plain tracebacks: pretty ones show local variables, which may hold a body.
        rendered = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
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
    # It repeats a failure several times a second; the services log it once a minute.
    logging.getLogger("aiokafka").setLevel("CRITICAL")


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
