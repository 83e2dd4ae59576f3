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
from voipex.service.logging import get_logger, place_of, set_up
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
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_log_line_has_an_e_mail_address(log_format: str) -> None:
    """Keys of agents, logins and names of users may be addresses, and a library may repeat them in its messages."""
    done = subprocess.run(
        [sys.executable, "-c", LOGS, log_format], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.count("***@***") == 6
    assert not re.search(
        r"(?i)novak|jan@|eva|pavel|olga@|ivan@x|jehofirma|x\.cz", done.stdout.replace(LOGS, "")
    )
    assert "KeyError" in done.stdout
    assert "ValueError" in done.stdout
    assert "777888999 wrote" not in done.stdout
    assert "127.0.0.1:8080" in done.stdout
