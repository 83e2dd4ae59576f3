"""No number, name, e-mail address or body in the logs, metrics, health reports and surveys of the services, whatever they are sent."""

import json
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.factories import body
from tests.kafka.conftest import Broker, apply_topics, console_producer, read_all
from tests.kafka.test_lost_offsets import await_halted
from tests.processes import BridgeProcess, ConsumerProcess, ServiceProcess
from tests.waiting import eventually
from voipex.partitioner import partition_for_key

NUMBER, EMAIL, LOGIN, OTHER = "777123456", "jana@tajne.example", "jana.tajna", "Rodné číslo"
PERSONAL = (NUMBER, EMAIL, LOGIN, OTHER)
CALL = {"From": NUMBER, "To": "222333444", "Line": "444", "Email": EMAIL, "Login": LOGIN, "Note": OTHER}


def shown(service: ServiceProcess) -> str:
    """The log of a service, its metrics, its health report, and what `survey` asks a bridge."""
    reports = []
    for path in ("metrics", "survey") if isinstance(service, BridgeProcess) else ("metrics",):
        with urllib.request.urlopen(
            f"http://127.0.0.1:{service.management_port}/{path}", timeout=30
        ) as answer:
            reports.append(answer.read().decode())
    return "\n".join((service.log(), *reports, service.ready()[1].decode()))


def test_logs_metrics_and_health_hold_no_personal_data(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """
    With the log at its most verbose: events of every kind, bodies that are none, wrong passwords, records that no fold can read, and states of
    parties whose key is a number or an address, which halt their partitions.
    """
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    bridge = BridgeProcess(
        tmp_path,
        kafka.bootstrap_servers,
        pbx,
        VOIPEX_TOPIC_PARTITIONS="3",
        VOIPEX_DRAIN_S="0",
        VOIPEX_LOG_LEVEL="debug",
    )
    consumers = [
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx, VOIPEX_LOG_LEVEL="debug")
        for name in ("timelines", "agents")
    ]
    names = ("NewCall", "Ringing", "Answered", "AttendedTransfer", "Hangup", "CDR", "Parked")
    events = [body(EventName=name, UniqueId="1.1", **CALL) for name in names]
    events += [
        body(EventName=name, UniqueId="", Queue="NOC", **who)
        for name in ("AgentLogin", "AgentPaused", "AgentUnPaused", "AgentLogout")
        for who in (
            {"Login": LOGIN},
            {"Login": "", "Line": "", "Email": EMAIL},
            {"Login": "", "Line": NUMBER},
        )
    ]
    invalid = [f"{{{NUMBER} {OTHER}".encode(), json.dumps(CALL).encode(), json.dumps([CALL]).encode()]
    foreign = [(NUMBER, json.dumps(CALL)), (EMAIL, "{"), (LOGIN, "[]")]

    with ExitStack() as running:
        for service in (bridge, *consumers):
            running.enter_context(service)
            service.launch(*service.command)
        bridge.await_ready()
        headers = {
            "User-Agent": LOGIN,
            "Content-Type": f"text/{LOGIN}",
            "X-Forwarded-For": NUMBER,
            NUMBER: EMAIL,
        }
        accepted = [bridge.post(each, headers)[0] for each in events]
        rejected = [bridge.post(each)[0] for each in invalid]
        guessed = bridge.post(events[0], {"Authorization": "Basic x" + NUMBER})[0]
        console_producer(kafka.bootstrap_servers, f"{pbx}.call.events.v1", foreign)
        dead_letters = len(invalid) + len(foreign)
        for topic, number in (("dead-letters", dead_letters), ("call.timelines", 1), ("agent.status", 1)):
            eventually(
                lambda topic=topic, number=number: (  # type: ignore[misc]
                    len(read_all(kafka.bootstrap_servers, f"{pbx}.{topic}.v1")) >= number
                ),
                every_s=0.3,
            )
        agents = consumers[1]
        agents.stop()
        unreadable = [(f"line:{NUMBER}", "{"), (f"email:{EMAIL}", "[]"), (LOGIN, OTHER)]
        console_producer(kafka.bootstrap_servers, f"{pbx}.agent.state.v1", unreadable)
        agents.launch(*agents.command)
        await_halted(agents, len({partition_for_key(key.encode(), 3) for key, _ in unreadable}))
        found = {each.command[-1]: shown(each) for each in (bridge, *consumers)}

    assert set(accepted) == {200}
    assert set(rejected) <= {400, 422}
    assert guessed == 401
    assert "has a record at offset" in found["agents"]
    leaks = [(name, word) for name, text in found.items() for word in PERSONAL if word in text]
    assert leaks == []
    record_property("bodies and records", len(events) + dead_letters + len(unreadable))
    record_property("lines searched", sum(text.count("\n") for text in found.values()))
    record_property("leaks", len(leaks))
