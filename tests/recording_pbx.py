"""A PBX that records the webhooks which the bridge acknowledged."""

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.processes import BridgeProcess
from tests.waiting import WITHIN_S, eventually


@dataclass
class Obligations:
    """The webhooks `sent`, in order per key, and those answered with 2xx, which must be in Kafka."""

    sent: dict[str, list[int]] = field(default_factory=dict)
    promised: set[tuple[str, int]] = field(default_factory=set)
    statuses: dict[int | str, int] = field(default_factory=dict)


class RecordingPbx:
    """
    Threads that POST, each the events of its own calls, one after the other; every 2xx is recorded here, outside the bridge's process.

    An event whose response never came may be in Kafka or not. It is not sent again, as VOIPEX promises no retries.
    """

    def __init__(self, bridge: BridgeProcess, connections: int = 8, per_call: int = 10) -> None:
        self._bridge = bridge
        self._per_call = per_call
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.obligations = Obligations()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(connections)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WITHIN_S)

    def count(self, status: int) -> int:
        """Count the responses with this status."""
        with self._lock:
            return self.obligations.statuses.get(status, 0)

    def await_more(self, number: int, status: int = 200) -> None:
        """Wait for *number* further responses with this status."""
        wanted = self.count(status) + number
        eventually(lambda: self.count(status) >= wanted, lambda: self.obligations.statuses)

    def _run(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            key, place = f"{1_700_000_000 + number}.{count // self._per_call}", count % self._per_call
            count += 1
            body = json.dumps({"EventName": "Ringing", "UniqueId": key, "Line": str(number), "Place": place})
            with self._lock:
                self.obligations.sent.setdefault(key, []).append(place)
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._bridge.port, timeout=30)
                connection.request("POST", "/voipex", body, self._bridge.authorization())
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self._record(type(error).__name__)
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(random.uniform(0.005, 0.03))
                continue
            if response.status == 200:
                with self._lock:
                    self.obligations.promised.add((key, place))
            self._record(response.status)
        if connection is not None:
            connection.close()

    def _record(self, status: int | str) -> None:
        with self._lock:
            self.obligations.statuses[status] = self.obligations.statuses.get(status, 0) + 1
