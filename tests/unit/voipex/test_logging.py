"""Log lines: no address in them; throttled, one per key and interval, with a count of those in between."""

import re
import subprocess
import sys

import pytest

from voipex.service.logging import LogThrottle


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_line_per_key_and_interval_passes() -> None:
    clock = Clock()
    throttle = LogThrottle(1.0, clock)

    first = [throttle.admit("a"), throttle.admit("a"), throttle.admit("b"), throttle.admit("a")]
    clock.now_s = 1.0
    second = [throttle.admit("a"), throttle.admit("a"), throttle.admit("b")]

    assert first == [0, None, 0, None]
    assert second == [2, None, 0]


def test_reset_lets_the_next_line_pass() -> None:
    throttle = LogThrottle(60.0, Clock())
    throttle.admit("a")
    throttle.admit("a")

    throttle.reset()

    assert throttle.admit("a") == 0


LOGS = """
import logging, sys
from voipex.service.logging import cause_of, get_logger, place_of, set_up
set_up("info", sys.argv[1])
log = get_logger("task")
log.error("task halted", reason="the state of key 'email:Petr.Novak+x@jehofirma.cz' cannot be read", keys=("jan@x.cz",))
log.error("wrong password", user="eva@x.cz", more={"pavel@x.cz": 1}, peer="127.0.0.1:8080")
logging.getLogger("library").warning("no such key: %s", "olga@x.cz")
try:
    {}["ivan@x.cz"]
except KeyError as error:
    log.error("failed", exc_info=error)
try:
    raise ValueError("777888999 wrote: ahoj")
except ValueError as error:
    log.error("rules failed", traceback=place_of(error))
    log.error("task restarted", cause=cause_of(error))
try:
    try:
        {}["777888991"]
    except KeyError as error:
        raise LookupError("777888992") from error
except LookupError as error:
    log.error("library failed", exc_info=error)
    logging.getLogger("library").error("failed", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved\\nfuture: %r" % error, exc_info=error)
try:
    open("/no/such/file")
except OSError as error:
    log.error("disk failed", cause=cause_of(error))
raise KeyError("777888993")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_log_line_has_an_address_or_what_an_exception_repeats(log_format: str) -> None:
    """Logins and names of users may be addresses, and libraries may repeat any value in their messages."""
    done = subprocess.run(
        [sys.executable, "-c", LOGS, log_format], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout.count("***@***") == 5
    assert not re.search(
        r"(?i)novak|jan@|eva|pavel|olga@|ivan@x|jehofirma|x\.cz", done.stdout.replace(LOGS, "")
    )
    assert "KeyError" in done.stdout
    assert "ValueError" in done.stdout
    assert "127.0.0.1:8080" in done.stdout
    assert not re.search(r"77788899", done.stdout + done.stderr)
    assert re.search(r"ValueError at <string>:\d+", done.stdout)
    assert "No such file or directory: '/no/such/file'" in done.stdout
    assert done.stdout.count("never retrieved") == 1
    assert done.stdout.count("LookupError") == 3
    assert (done.returncode, "process failed" in done.stdout) == (1, True)
