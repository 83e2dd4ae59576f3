"""Rotation of secrets and tokens of a running bridge under load: valid ones are never rejected, revoked ones always."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import pytest

from bridge.auth import manage
from tests.factories import body
from tests.processes import USER, BridgeProcess, free_port
from tests.waiting import WITHIN_S, eventually


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    with BridgeProcess(tmp_path, f"127.0.0.1:{free_port()}", VOIPEX_DRAIN_S="0").start() as process:
        yield process


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()


def status_with(bridge: BridgeProcess, authorization: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", bridge.port, timeout=WITHIN_S)
    connection.request("POST", "/voipex", body(), {"Authorization": authorization})
    status = connection.getresponse().status
    connection.close()
    return status


def token_of(bridge: BridgeProcess, password: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", bridge.port, timeout=WITHIN_S)
    fields = {"grant_type": "client_credentials", "client_id": USER, "client_secret": password}
    connection.request("POST", "/token", urlencode(fields))
    answer = json.load(connection.getresponse())
    connection.close()
    return f"Bearer {answer['access_token']}"


class Posting:
    """Threads that POST on persistent connections with the current result of `authorization`, and record every status."""

    def __init__(self, bridge: BridgeProcess, *authorizations: Callable[[], str]) -> None:
        self.statuses: dict[int, int] = {}
        self._done = [0] * len(authorizations)
        self._bridge = bridge
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=each, daemon=True) for each in enumerate(authorizations)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WITHIN_S)

    def await_round(self) -> None:
        """Wait until every request that began before this call has ended."""
        wanted = [done + 2 for done in self._done]
        eventually(lambda: all(done >= number for done, number in zip(self._done, wanted, strict=True)))

    def _run(self, number: int, authorization: Callable[[], str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._bridge.port, timeout=WITHIN_S)
        while not self._stop.is_set():
            connection.request("POST", "/voipex", body(), {"Authorization": authorization()})
            answer = connection.getresponse()
            answer.read()
            with self._lock:
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                self._done[number] += 1
        connection.close()


def test_rotation_under_load_rejects_no_valid_secret(bridge: BridgeProcess) -> None:
    path = bridge.folder / "credentials.json"
    good = {"password": bridge.password, "token": token_of(bridge, bridge.password)}
    refused_old = []
    password, token = (lambda: basic(good["password"])), (lambda: good["token"])

    with Posting(bridge, password, password, token, token) as posting:
        for _ in range(3):
            old = good["password"]
            new = manage.rotate(path, USER, now_us=time.time_ns() // 1000).secret
            eventually(lambda new=new: status_with(bridge, basic(new)) == 200)  # type: ignore[misc]
            old_token = good["token"]
            good.update(password=new, token=token_of(bridge, new))
            posting.await_round()  # requests with the old secrets
            manage.revoke(path, USER, old=True)
            eventually(lambda old=old: status_with(bridge, basic(old)) == 401)  # type: ignore[misc]
            refused_old.append(status_with(bridge, old_token))
    log = bridge.log()

    print(f"answers while rotating: {posting.statuses}")
    assert set(posting.statuses) == {200}
    assert refused_old == [401] * 3
    assert good["password"] not in log
    assert good["token"].removeprefix("Bearer ") not in log


def test_a_token_outlives_a_restart_and_ends_with_its_credential(bridge: BridgeProcess) -> None:
    token = token_of(bridge, bridge.password)
    before = status_with(bridge, token)
    bridge.kill()
    bridge.start()
    after_restart = status_with(bridge, token)
    manage.revoke(bridge.folder / "credentials.json", USER)

    eventually(lambda: status_with(bridge, token) == 401)
    assert (before, after_restart) == (200, 200)
