"""The local broker, with a pause: connections stay open and nothing answers."""

import contextlib
import signal
from pathlib import Path

from sandbox import broker
from tests.waiting import eventually


class LocalKafka(broker.LocalKafka):
    """A broker that a test can pause and resume."""

    def pause(self) -> None:
        """Send SIGSTOP. On Linux, return when every thread has stopped: they do not stop all at once."""
        self.send_signal(signal.SIGSTOP)
        eventually(lambda: not self._has_running_thread(), "the broker does not stop", every_s=0.005)

    def resume(self) -> None:
        """Send SIGCONT."""
        self.send_signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 20) -> None:
        """Stop the broker, also a paused one, which would not handle SIGTERM."""
        self.resume()
        super().stop(timeout_s)

    def _has_running_thread(self) -> bool:
        for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if stat.read_text().rpartition(")")[2].split()[0] != "T":
                    return True
        return False
