"""PBXs that share a bridge, while one of them sends on many connections at once."""

import asyncio
import contextlib
import signal
import socket
from base64 import b64encode
from pathlib import Path
from typing import Any

from bridge.auth import manage
from bridge.spool.spool import Spool
from tests.factories import body
from tests.processes import BridgeProcess, free_port
from tests.spool_fixtures import EVERYTHING, LIMIT_BYTES
from tests.waiting import WITHIN_S
from voipex.records import Record

PBXS = ("voipex", "brno")
CONNECTIONS = 400
ROUNDS = 5


def test_a_flood_of_one_pbx_does_not_queue_up_the_other(tmp_path: Path, record_property: Any) -> None:
    """
    400 requests of one PBX have arrived when one of the other does. It is on disk, and so answered, before nearly all of them.

    The bridge stands still while they arrive, so the outcome does not depend on how busy the machine is. `make bench` has the times.
    """
    bridge = BridgeProcess(
        tmp_path, f"127.0.0.1:{free_port()}", VOIPEX_PBXS=",".join(PBXS), VOIPEX_DRAIN_S="0"
    )
    secret = manage.create(tmp_path / "credentials.json", "brno-1", "brno", pbxs=PBXS, now_us=1).secret
    crowd_user = bridge.authorization()["Authorization"]
    quiet_user = "Basic " + b64encode(f"brno-1:{secret}".encode()).decode()

    with bridge.start(), contextlib.ExitStack() as opened:
        crowd = [opened.enter_context(connected(bridge)) for _ in range(CONNECTIONS)]
        quiet = opened.enter_context(connected(bridge))
        for connection in (*crowd, quiet):  # what is not accepted yet is nobody's
            connection.sendall(request(crowd_user, "1.0"))
            assert status_line(connection) == b"HTTP/1.1 200 OK"
        for number in range(1, ROUNDS + 1):
            bridge.send_signal(signal.SIGSTOP)
            for connection in crowd:
                connection.sendall(request(crowd_user, f"1.{number}"))
            quiet.sendall(request(quiet_user, f"2.{number}"))
            bridge.send_signal(signal.SIGCONT)
            heads = [status_line(connection) for connection in (*crowd, quiet)]
            assert set(heads) == {b"HTTP/1.1 200 OK"}
        bridge.stop()

    records = asyncio.run(spooled(tmp_path / "spool"))
    del records[: CONNECTIONS + 1]
    rounds = [records[n : n + CONNECTIONS + 1] for n in range(0, len(records), CONNECTIONS + 1)]
    in_front = [[each.topic.partition(".")[0] for each in each_round].index("brno") for each_round in rounds]
    record_property("requests of the other PBX at once", CONNECTIONS)
    record_property("of them in front (most)", max(in_front))
    assert len(in_front) == ROUNDS
    assert max(in_front) < CONNECTIONS / 10


def connected(bridge: BridgeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", bridge.port), timeout=WITHIN_S)


def request(authorization: str, call_id: str) -> bytes:
    content = body(UniqueId=call_id)
    head = f"POST /voipex HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def status_line(connection: socket.socket) -> bytes:
    """Read a response without a body; return its first line."""
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += connection.recv(4096)
    return response.partition(b"\r\n")[0]


async def spooled(directory: Path) -> list[Record]:
    """The records of a bridge that has stopped, in their order on disk."""
    spool = Spool.open(directory, limit_bytes=LIMIT_BYTES)
    spool.seal()
    records: list[Record] = []
    while taken := await spool.take(*EVERYTHING):
        records += [each.record for each in taken]
    await spool.close()
    return records
