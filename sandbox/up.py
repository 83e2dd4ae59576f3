"""
Everything on one machine, as processes: Kafka, its topics, the bridge, timelines, agents, simulated calls; until Ctrl-C (contract 7).

Order of starting: ports free? -> credential -> Kafka -> topics -> bridge, ready -> timelines and agents, ready -> `run.json` ->
simulated calls.
Stopping is the reverse; what is not in Kafka by then stays in the spool. A process that dies is named with its last log lines, the
others are stopped, and the exit code is 1.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bridge import settings
from bridge.auth import manage
from sandbox.broker import LocalKafka, Progress
from sandbox.processes import dying_with_parent
from voipex.errors import BridgeError, PortInUse
from voipex.kafka.topics import apply_topics, check_topics

_USER: Final = "demo"
_READY_S: Final = 30.0
_SERVICES_STOP_S: Final = 9.0  # together with the simulator and Kafka below the 20 s that Ctrl-C may take
_BRIDGE_DRAIN_S: Final = 5
_SIMULATOR_STOP_S: Final = 3.0
_BOOTSTRAP_VARIABLE: Final = "VOIPEX_KAFKA_BOOTSTRAP_SERVERS"
_PLAIN_LINE_EVERY_S: Final = 5  # without a terminal a line per second only fills logs
_LAG_WORTH_TELLING: Final = 100  # records; below it they are being folded right now

_OPEN_CALLS: Final = ("ringing", "talking", "waiting", "new")
_AGENT_STATES: Final = (
    *(
        "on_call",
        "consulting",
        "monitoring",
        "ringing",
        "available",
        "implicit",
        "partially_paused",
        "paused",
    ),
    *("offline", "unknown"),
)

_DOCUMENTED_EVENT: Final = (
    '{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444","Email":"petr.novak@jehofirma.cz",'
    '"Login":"petr.novak","UniqueId":"1412256225.1941"}'
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. Everything binds 127.0.0.1; `folder` is kept between runs."""

    folder: Path
    port: int = 8080
    management_port: int = 8081
    kafka_port: int = 9092
    timelines_port: int = 8082
    agents_port: int = 8083
    simulate: bool = True
    rate: float = 0.5

    @property
    def own_kafka(self) -> bool:
        return not os.environ.get(_BOOTSTRAP_VARIABLE)

    @property
    def bootstrap_servers(self) -> str:
        return os.environ.get(_BOOTSTRAP_VARIABLE) or f"127.0.0.1:{self.kafka_port}"

    @property
    def ingress_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/voipex"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def consumers(self) -> dict[str, int]:
        """Their management ports, by service."""
        return {"timelines": self.timelines_port, "agents": self.agents_port}

    @property
    def consumer_urls(self) -> dict[str, str]:
        """Where they tell of themselves, by service."""
        return {service: f"http://127.0.0.1:{port}" for service, port in self.consumers.items()}


@dataclass(slots=True)
class Child:
    """A process of ours; its output goes to a log file."""

    name: str
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def died(self) -> bool:
        return self.process.poll() is not None

    def tell_to_stop(self) -> None:
        if not self.died():
            self.process.send_signal(signal.SIGTERM)

    def stop(self, within_s: float) -> None:
        self.tell_to_stop()
        try:
            self.process.wait(max(0.0, within_s))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Running:
    children: list[Child] = field(default_factory=list)
    broker: LocalKafka | None = None


class ServiceDied(BridgeError):
    """A process ended by itself."""


def up(plan: Plan) -> int:
    """Run until Ctrl-C or SIGTERM (0), or until a process dies (1). Raises BridgeError when the start fails; nothing is left running."""
    console = Console(highlight=False, soft_wrap=True)
    running = Running()
    signal.signal(signal.SIGINT, _interrupt)  # also when a shell started us with it ignored
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)  # the terminal was closed
    try:
        password = _start(plan, running, console)
        _introduce(plan, password, console)
        _watch(plan, running, console)
    except KeyboardInterrupt:
        console.print("\nstopping: what is not yet in Kafka stays in the spool")
        return 0
    except ServiceDied as death:
        console.print(f"\n{death}", style="red")
        return 1
    finally:
        _stop(plan, running)
    return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# -------------------------------------------------------------------- start


def _start(plan: Plan, running: Running, console: Console) -> str:
    _require_free_ports(plan)
    for folder in (plan.folder, plan.folder / "logs"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = _credential(plan.folder)
    if plan.own_kafka:
        running.broker = _start_kafka(plan, console)
    _prepare_topics(plan, console)
    bridge = _spawn(
        "bridge",
        ["serve"],
        plan,
        {
            "VOIPEX_HOST": "127.0.0.1",
            "VOIPEX_PORT": str(plan.port),
            "VOIPEX_MANAGEMENT_PORT": str(plan.management_port),
            "VOIPEX_CREDENTIALS_FILE": str(plan.folder / "credentials.json"),
            "VOIPEX_SPOOL_DIR": str(plan.folder / "spool"),
            "VOIPEX_DRAIN_S": str(_BRIDGE_DRAIN_S),
        },
    )
    running.children.append(bridge)
    _await_ready(bridge, plan.management_url)
    for name, port in plan.consumers.items():
        running.children.append(
            _spawn(
                name,
                [name],
                plan,
                {
                    "VOIPEX_HOST": "127.0.0.1",
                    "VOIPEX_MANAGEMENT_PORT": str(port),
                    "VOIPEX_STATE_DIR": str(plan.folder / "state"),
                },
                package="consumers",
            )
        )
    for consumer in running.children[1:]:
        _await_ready(consumer, plan.consumer_urls[consumer.name])
    _write_run_file(plan, running, password)
    if plan.simulate:
        running.children.append(
            _spawn(
                "simulator",
                ["simulate", "--url", plan.ingress_url, "--rate", str(plan.rate)],
                plan,
                {"VOIPEX_SIMULATE_USER": _USER, "VOIPEX_SIMULATE_PASSWORD": password},
            )
        )
    return password


def _require_free_ports(plan: Plan) -> None:
    """Raises PortInUse that says which port and which option changes it, before anything is started."""
    wanted = [
        (plan.port, "--port (make run PORT=…)"),
        (plan.management_port, "--management-port (make run MANAGEMENT_PORT=…)"),
        (plan.timelines_port, "--timelines-port (make run TIMELINES_PORT=…)"),
        (plan.agents_port, "--agents-port (make run AGENTS_PORT=…)"),
    ]
    if plan.own_kafka:
        option = "--kafka-port (make run KAFKA_PORT=…)"
        wanted += [(plan.kafka_port, option), (plan.kafka_port + 1, option)]
    taken = [(port, option) for port, option in wanted if not _is_free(port)]
    if taken:
        raise PortInUse(
            "\n".join(f"port {port} is in use; choose another one with {option}" for port, option in taken)
        )


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _credential(folder: Path) -> str:
    """The secret of the demo credential: made on the first run, kept beside its digest so that a PBX that was set up goes on working."""
    secret_file = folder / "demo-password"
    path = folder / "credentials.json"
    pbxs = settings.load().pbxs
    known = {row.name: row.pbx for row in manage.list_all(path)} if path.exists() else {}
    if known.get(_USER) == pbxs[0] and secret_file.exists():
        return secret_file.read_text(encoding="utf-8").strip()
    if _USER in known:
        manage.revoke(path, _USER)
    issued = manage.create(path, _USER, pbxs[0], pbxs=pbxs, now_us=time.time_ns() // 1000)
    _write_private(secret_file, issued.secret)
    return issued.secret


def _start_kafka(plan: Plan, console: Console) -> LocalKafka:
    broker = LocalKafka(plan.folder / "kafka", plan.folder / "kafka-jars", port=plan.kafka_port)
    prepare_kafka(broker, console)
    started = time.monotonic()
    broker.start()
    try:
        broker.wait_ready()
    except BaseException:
        broker.stop()
        raise
    console.print(
        f"Apache Kafka {broker.version} on {broker.bootstrap_servers} ({time.monotonic() - started:.1f} s)"
    )
    return broker


def prepare_kafka(broker: LocalKafka, console: Console) -> None:
    """Have the broker's jars; the first time that is a download, whose progress is shown."""

    def show(progress: Progress) -> None:
        if progress.jars_done % 10 == 0 or progress.jars_done == progress.jars_total:
            console.print(
                f"downloading Kafka (the first time only): {progress.jars_done} of {progress.jars_total} files, "
                f"{progress.bytes_done / 1e6:.0f} MB"
            )

    broker.prepare(show)


def _prepare_topics(plan: Plan, console: Console) -> None:
    """Apply the topics on our own broker; on somebody's cluster only check them. Raises TopicMismatch, KafkaUnreachable."""
    loaded = settings.load({"kafka_bootstrap_servers": plan.bootstrap_servers})
    if plan.own_kafka:
        asyncio.run(apply_topics(loaded, loaded.topics(), replication=1, min_insync=1))
    else:
        asyncio.run(check_topics(loaded, loaded.topics()))
    console.print(f"{len(loaded.topics())} topics of {', '.join(loaded.pbxs)} are as declared")


def _spawn(
    name: str, arguments: list[str], plan: Plan, environment: Mapping[str, str], package: str = "bridge"
) -> Child:
    log_path = plan.folder / "logs" / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            dying_with_parent([sys.executable, "-m", package, *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, _BOOTSTRAP_VARIABLE: plan.bootstrap_servers, **environment},
            start_new_session=True,  # Ctrl-C is ours to hand on, in order
        )
    return Child(name, process, log_path)


def _await_ready(child: Child, management_url: str) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if child.died():
            raise ServiceDied(_obituary(child))
        try:
            with urllib.request.urlopen(f"{management_url}/ready", timeout=1):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.05)
    raise ServiceDied(
        f"{child.name} was not ready within {_READY_S:.0f} s; its last lines:\n{_last_lines(child.log_path)}"
    )


def _write_run_file(plan: Plan, running: Running, password: str) -> None:
    pids = {child.name: child.process.pid for child in running.children}
    if running.broker is not None and running.broker.pid is not None:
        pids["broker"] = running.broker.pid
    described = {
        "ingress_url": plan.ingress_url,
        "management_url": plan.management_url,
        "user": _USER,
        "password": password,
        "bootstrap_servers": plan.bootstrap_servers,
        "pbx": settings.load().pbxs[0],
        "pids": pids,
    }
    _write_private(_run_file(plan), json.dumps(described, indent=1))


def _run_file(plan: Plan) -> Path:
    return plan.folder / "run.json"


def _write_private(path: Path, text: str) -> None:
    """0600 and whole, or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    new.replace(path)


# -------------------------------------------------------------------- while it runs


def _introduce(plan: Plan, password: str, console: Console) -> None:
    command = Path(sys.argv[0])
    ours = os.path.relpath(command) if command.name == "voipex-bridge" else "voipex-bridge"
    elsewhere = (
        ""
        if plan.bootstrap_servers == "127.0.0.1:9092"
        else f"{_BOOTSTRAP_VARIABLE}={plan.bootstrap_servers} "
    )
    pbx = settings.load().pbxs[0]

    def tail(topic: str, key: str) -> str:
        return f"  {elsewhere}{ours} tail {pbx}.{topic} --key {key} --from-beginning --no-follow\n"

    consumers = "".join(f"{service:18}{url}\n" for service, url in plan.consumer_urls.items())
    console.print(
        f"\nGive to VOIPEX    {plan.ingress_url}\n"
        f"user              {_USER}\n"
        f"password          {password}\n"
        f"\nSend an event:\n"
        f"  curl -u '{_USER}:{password}' {plan.ingress_url} -d '{_DOCUMENTED_EVENT}'\n"
        f"\nSee it in Kafka, and the call's timeline and the agent's status (each change is a line, the last one is how it stands):\n"
        f"{tail('call.events.v1', '1412256225.1941')}"
        f"{tail('call.timelines.v1', '1412256225.1941')}"
        f"{tail('agent.status.v1', 'petr.novak')}"
        f"\nHealth and metrics, at /ready and /metrics of\n"
        f"{'bridge':18}{plan.management_url}\n"
        f"{consumers}"
        f"\nLogs: {plan.folder}/logs. Ctrl-C stops everything.\n",
        markup=False,
    )


def _watch(plan: Plan, running: Running, console: Console) -> None:
    """Once a second: is everything alive, and what do the metrics say. Raises ServiceDied."""
    status = _Status(plan)
    if console.is_terminal:
        with Live(Text("…"), console=console, auto_refresh=False, transient=True) as live:
            _every_second(running, lambda _: live.update(Text(status.line()), refresh=True))
    else:

        def plainly(second: int) -> None:
            if second % _PLAIN_LINE_EVERY_S == 1:
                console.print(status.line(), markup=False)

        _every_second(running, plainly)


def _every_second(running: Running, show: Callable[[int], None]) -> None:
    second = 0
    while True:
        time.sleep(1)
        second += 1
        for child in running.children:
            if child.died():
                raise ServiceDied(_obituary(child))
        if running.broker is not None and running.broker.pid is None:
            raise ServiceDied(
                f"Kafka ended by itself; its last lines:\n{_last_lines(running.broker.log_file)}"
            )
        show(second)


class _Status:
    """The line that tells whether events flow, and what they come to: from the services' own metrics."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last: tuple[float, float] | None = None

    def line(self) -> str:
        return " · ".join([f"{time.strftime('%H:%M:%S')}  {self._bridge()}", *self._consumers()])

    def _bridge(self) -> str:
        figures = _scrape(self._plan.management_url)
        if figures is None:
            return "the bridge does not answer"
        now, received = time.monotonic(), figures.total("voipex_bridge_events_received_total")
        rate = "" if self._last is None else f" ({(received - self._last[1]) / (now - self._last[0]):.1f}/s)"
        self._last = (now, received)
        waiting = figures.total("voipex_bridge_spool_appended_total") - figures.total(
            "voipex_bridge_spool_acknowledged_total"
        )
        reachable = "in reach" if figures.total("voipex_bridge_kafka_reachable") else "OUT OF REACH"
        return (
            f"events accepted {received:.0f}{rate} · in Kafka "
            f"{figures.total('voipex_bridge_publish_total', outcome='delivered'):.0f} · waiting {waiting:.0f} · refused "
            f"{figures.total('voipex_bridge_events_rejected_total'):.0f} · dead letters "
            f"{figures.total('voipex_bridge_dead_letters_total'):.0f} · Kafka {reachable}"
        )

    def _consumers(self) -> Iterable[str]:
        lag = halted = 0.0
        for service, url in self._plan.consumer_urls.items():
            figures = _scrape(url)
            if figures is None:
                yield f"{service}: no answer"
                continue
            standings = figures.by("voipex_consumer_keys", "standing", service=service)
            yield open_calls(standings) if service == "timelines" else agents_by_state(standings)
            lag += figures.total("voipex_consumer_lag_records")
            halted += figures.total("voipex_consumer_partitions", state="halted")
        if lag >= _LAG_WORTH_TELLING:
            yield f"lag {lag:.0f}"
        if halted:
            yield f"HALTED partitions {halted:.0f}"


def open_calls(standings: Mapping[str, float]) -> str:
    """`calls open 14 (3 ringing, 9 talking, 2 waiting)`."""
    shown = _counts(standings, _OPEN_CALLS)
    return f"calls open {sum(standings.get(each, 0) for each in _OPEN_CALLS):.0f}" + (
        f" ({shown})" if shown else ""
    )


def agents_by_state(standings: Mapping[str, float]) -> str:
    """`agents 3 on_call, 2 available`."""
    return f"agents {_counts(standings, _AGENT_STATES) or 'none yet'}"


def _counts(standings: Mapping[str, float], names: Iterable[str]) -> str:
    return ", ".join(f"{standings[name]:.0f} {name}" for name in names if standings.get(name))


class _Figures:
    """What a service's metrics said."""

    def __init__(self, samples: Iterable[Any]) -> None:
        self._samples = list(samples)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum((float(each.value) for each in self._of(name, labels)), 0.0)

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The same for each value of a label."""
        sums: dict[str, float] = {}
        for each in self._of(name, labels):
            value = each.labels[label]
            sums[value] = sums.get(value, 0.0) + each.value
        return sums

    def _of(self, name: str, labels: Mapping[str, str]) -> Iterable[Any]:
        return (each for each in self._samples if each.name == name and labels.items() <= each.labels.items())


def _scrape(management_url: str) -> _Figures | None:
    """None: no answer."""
    try:
        with urllib.request.urlopen(f"{management_url}/metrics", timeout=2) as answer:  # noqa: S310 - our own address
            text = answer.read().decode()
    except OSError:
        return None
    return _Figures(sample for family in text_string_to_metric_families(text) for sample in family.samples)


def _obituary(child: Child) -> str:
    return f"{child.name} ended by itself (exit {child.process.returncode}); its last lines:\n{_last_lines(child.log_path)}"


def _last_lines(path: Path, count: int = 15) -> str:
    try:
        with path.open("rb") as log:
            _skip_to_end(log, 16384)
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return f"  (no log at {path})"
    return "\n".join(f"  {line}" for line in lines[-count:])


def _skip_to_end(log: IO[bytes], but_bytes: int) -> None:
    log.seek(max(0, log.seek(0, os.SEEK_END) - but_bytes))


# -------------------------------------------------------------------- stop


def _stop(plan: Plan, running: Running) -> None:
    """Simulator, then all services at once (the bridge drains, the others finish their transactions), Kafka; a second Ctrl-C does not hurry this: it is bounded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for child in running.children:
        if child.name == "simulator":
            child.stop(_SIMULATOR_STOP_S)
    deadline = time.monotonic() + _SERVICES_STOP_S
    for child in running.children:
        child.tell_to_stop()
    for child in running.children:
        child.stop(deadline - time.monotonic())
    if running.broker is not None:
        running.broker.stop()
    _run_file(plan).unlink(missing_ok=True)
