"""
Run everything on this machine, as processes: Kafka, its topics, the bridge, the consumers, simulated calls.

Start: (1) check the settings, and that the ports are free, (2) create the credential, (3) start Kafka, (4) apply the topics, (5) start the bridge and wait
until it is ready, (6) start the consumers and the board and wait until they are ready, (7) write `run.json`, (8) start the simulator and the reader that
waits for the first timeline.
Stop: the simulator, then the services all at once, then Kafka. Events that Kafka does not have by then stay in the spool. If a process
exits by itself, the end of its log is printed, everything else is stopped, and the exit code is 1.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from rich.console import Console

from bridge import settings
from bridge.auth import manage
from consumers import settings as consumer_settings
from sandbox.broker import LocalKafka, Progress
from sandbox.plan import BOOTSTRAP_VARIABLE, Plan
from sandbox.processes import Child, ProcessExited, last_lines, with_parent_death_signal
from voipex.errors import PortInUse, SettingsInvalid
from voipex.kafka.topics import apply_topics, check_topics
from voipex.service import health
from voipex.service.ports import bind_error
from voipex.topics import AGENT_STATUS, CALL_EVENTS, CALL_TIMELINES, TopicSpec, topic_name

_USER: Final = "demo"
_READY_TIMEOUT_S: Final = 30.0
_SERVICES_STOP_S: Final = 9.0  # with the simulator and Kafka below the 20 s that Ctrl-C may take
_BRIDGE_DRAIN_S: Final = 5
_SIMULATOR_STOP_S: Final = 3.0

_DOCUMENTED_EVENT: Final = {
    "EventName": "Ringing",
    "From": "777888999",
    "To": "222333444",
    "Line": "444",
    "Email": "petr.novak@jehofirma.cz",
    "Login": "petr.novak",
    "UniqueId": "1412256225.1941",
}


@dataclass(slots=True)
class Running:
    """The processes that were started. `first_timeline` ends when it has read a timeline."""

    broker: LocalKafka | None = None
    services: list[Child] = field(default_factory=list)
    simulator: Child | None = None
    first_timeline: Child | None = None

    @property
    def required(self) -> list[Child]:
        """The processes that must not exit."""
        return [*self.services, *([self.simulator] if self.simulator is not None else [])]


def up(plan: Plan) -> int:
    """
    Run until Ctrl-C or SIGTERM (return 0), or until a process exits by itself (return 1).

    Raises:
        BridgeError: the start failed; nothing is left running.
    """
    console = Console(highlight=False, soft_wrap=True)
    plan = replace(
        plan, folder=plan.folder.absolute()
    )  # run.json names its files to commands in other folders
    running = Running()
    signal.signal(signal.SIGINT, _interrupt)  # also if the parent shell ignores it
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)  # the terminal was closed
    try:
        password = _start(plan, running, console)
        print_instructions(plan, password, console)
        _watch(running, console)
    except KeyboardInterrupt:
        console.print("\nStopping. Events that are not in Kafka yet stay in the spool.")
        return 0
    except ProcessExited as error:
        console.print(f"\n{error}", style="red", markup=False)
        return 1
    finally:
        _stop(plan, running)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# -------------------------------------------------------------------- start


def _start(plan: Plan, running: Running, console: Console) -> str:
    """Start everything; return the password of the credential. The numbers are those of the module."""
    _require_valid_settings(plan)  # 1
    _require_free_ports(plan)
    for folder in (plan.folder, plan.folder / "logs"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = _ensure_credential(plan.folder)  # 2
    if plan.starts_kafka:
        running.broker = _start_kafka(plan, console)  # 3
    with _step(console, _topics_step(plan)):
        _prepare_topics(plan)  # 4
    with _step(console, f"bridge on port {plan.port}"):
        running.services.append(_start_bridge(plan))
        _await_ready(running.services, plan)  # 5
    with _step(console, f"consumers: {', '.join(plan.consumer_ports)}"):
        running.services += [_start_consumer(name, port, plan) for name, port in plan.consumer_ports.items()]
        _await_ready(running.services, plan)  # 6
    with _step(console, f"board on port {plan.board_port}"):
        running.services.append(_spawn("board", "consumers", ["board"], plan, _board_variables(plan)))
        _await_ready(running.services, plan)
    (plan.folder / "demo-url").write_text(plan.ingress_url + "\n", encoding="utf-8")
    _write_run_file(plan, running, password)  # 7
    if plan.simulate:
        running.simulator = _start_simulator(plan, password)  # 8
    running.first_timeline = _start_reader(plan)
    return password


@contextlib.contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Show on a terminal that *what* is being started, and print it with its duration once it is."""
    started_s = time.monotonic()
    with console.status(f"starting {what}"):
        yield
    console.print(f"{what} ({time.monotonic() - started_s:.1f} s)")


def _require_valid_settings(plan: Plan) -> None:
    """Raises SettingsInvalid with every fault of the options and of the variables that the services will read."""
    faults = list(plan.contradictions())
    for load, service in ((settings.load, "bridge"), (consumer_settings.load, "timelines")):
        given = _variables_of_services(plan)[service]
        try:
            load({name.removeprefix("VOIPEX_").lower(): value for name, value in given.items()})
        except SettingsInvalid as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise SettingsInvalid(faults)


def _require_free_ports(plan: Plan) -> None:
    """Raises PortInUse with every port in use and the option that changes it."""
    in_use = [
        f"port {port} is in use; choose another one with --{option} (make run {option.upper().replace('-', '_')}=…)"
        for option, ports in plan.ports.items()
        for port in ports
        if bind_error("127.0.0.1", port) is not None
    ]
    if in_use:
        raise PortInUse("\n".join(in_use))


def _pbx() -> str:
    return settings.load().pbxs[0]


def _ensure_credential(folder: Path) -> str:
    """Return the password of the demo credential, created on the first run: a PBX that was configured with it keeps working."""
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
    with _step(console, f"Apache Kafka {broker.version} on {broker.bootstrap_servers}"):
        broker.start()
        try:
            broker.wait_ready()
        except BaseException:
            broker.stop()
            raise
    return broker


def prepare_kafka(broker: LocalKafka, console: Console) -> None:
    """Have the broker's jars; print the progress of the download, which the first run needs."""
    broker.prepare(show_progress(console))


def show_progress(console: Console) -> Callable[[Progress], None]:
    """Return what prints the progress of the download: on a terminal in one line, else a line for each ten files."""

    def show(progress: Progress) -> None:
        complete = progress.jars_done == progress.jars_total
        if console.is_terminal or complete or progress.jars_done % 10 == 0:
            console.print(
                f"downloading Kafka (first run only): {progress.jars_done} of {progress.jars_total} files, "
                f"{progress.bytes_done / 1e6:.0f} MB",
                end="\r" if console.is_terminal and not complete else "\n",
            )

    return show


def _topics_step(plan: Plan) -> str:
    loaded = settings.load({"kafka_bootstrap_servers": plan.bootstrap_servers})
    return f"{len(loaded.topics())} topics for {', '.join(loaded.pbxs)}"


def _prepare_topics(plan: Plan) -> None:
    """Apply the topics on the local broker, or check those of an external cluster. Raises TopicMismatch, KafkaUnreachable."""
    loaded = settings.load({"kafka_bootstrap_servers": plan.bootstrap_servers})
    if plan.starts_kafka:
        asyncio.run(apply_topics(loaded, loaded.topics(), replication=1, min_insync=1))
    else:
        asyncio.run(check_topics(loaded, loaded.topics()))


def _start_bridge(plan: Plan) -> Child:
    return _spawn("bridge", "bridge", ["serve"], plan, _bridge_variables(plan))


def _bridge_variables(plan: Plan) -> dict[str, str]:
    one_replica = {"VOIPEX_TOPIC_REPLICATION": "1", "VOIPEX_TOPIC_MIN_INSYNC": "1"}
    return {
        "VOIPEX_HOST": "127.0.0.1",
        "VOIPEX_PORT": str(plan.port),
        "VOIPEX_MANAGEMENT_PORT": str(plan.management_port),
        "VOIPEX_CREDENTIALS_FILE": str(plan.folder / "credentials.json"),
        "VOIPEX_SPOOL_DIR": str(plan.folder / "spool"),
        "VOIPEX_DRAIN_S": str(_BRIDGE_DRAIN_S),
        **(one_replica if plan.starts_kafka else {}),
    }


def _start_consumer(name: str, port: int, plan: Plan) -> Child:
    return _spawn(name, "consumers", [name], plan, _consumer_variables(port, plan))


def _consumer_variables(port: int, plan: Plan) -> dict[str, str]:
    return {
        "VOIPEX_HOST": "127.0.0.1",
        "VOIPEX_MANAGEMENT_PORT": str(port),
        "VOIPEX_STATE_DIR": str(plan.folder / "state"),
    }


def _board_variables(plan: Plan) -> dict[str, str]:
    return {"VOIPEX_HOST": "127.0.0.1", "VOIPEX_PORT": str(plan.board_port)}


def _variables_of_services(plan: Plan) -> dict[str, dict[str, str]]:
    """Every `VOIPEX_` variable of each service but the secrets, for the commands that are run beside them."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("VOIPEX_") and "PASSWORD" not in name
    }
    own = {
        "bridge": _bridge_variables(plan),
        **{name: _consumer_variables(port, plan) for name, port in plan.consumer_ports.items()},
        "board": _board_variables(plan),
    }
    return {
        service: {**inherited, BOOTSTRAP_VARIABLE: plan.bootstrap_servers, **variables}
        for service, variables in own.items()
    }


def _start_simulator(plan: Plan, password: str) -> Child:
    return _spawn(
        "simulator",
        "sandbox",
        ["simulate", "--url", plan.ingress_url, "--rate", str(plan.calls_per_s)],
        plan,
        {"VOIPEX_SIMULATE_USER": _USER, "VOIPEX_SIMULATE_PASSWORD": password},
    )


def _start_reader(plan: Plan) -> Child:
    """Start a process that exits once it has read a timeline that is written from now on."""
    arguments = ["tail", topic_name(_pbx(), CALL_TIMELINES), "--limit", "1"]
    return _spawn("first-timeline", "bridge", arguments, plan, {}, log_stdout=False)


def _spawn(
    name: str,
    package: str,
    arguments: Sequence[str],
    plan: Plan,
    environment: Mapping[str, str],
    *,
    log_stdout: bool = True,
) -> Child:
    """Run `python -m PACKAGE ARGUMENTS` with its output in `logs/NAME.log`."""
    log_path = plan.folder / "logs" / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter and fixed arguments
            with_parent_death_signal([sys.executable, "-m", package, *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=log if log_stdout else subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, BOOTSTRAP_VARIABLE: plan.bootstrap_servers, **environment},
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
        )
    return Child(name, process, log_path)


def _await_ready(services: Sequence[Child], plan: Plan) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    for child in services:
        address = urlsplit(plan.management_urls[child.name])
        while not health.probe(str(address.hostname), address.port or 0, timeout_s=1).ok:
            if child.has_exited():
                raise ProcessExited(child.exit_message())
            if time.monotonic() > deadline:
                raise ProcessExited(
                    f"{child.name} was not ready within {_READY_TIMEOUT_S:.0f} s; {last_lines(child.log_path)}"
                )
            time.sleep(0.05)


def _write_run_file(plan: Plan, running: Running, password: str) -> None:
    pids = {child.name: child.process.pid for child in running.services}
    if running.broker is not None and running.broker.pid is not None:
        pids["broker"] = running.broker.pid
    content = {
        "ingress_url": plan.ingress_url,
        "board_url": plan.board_url,
        "management_url": plan.management_urls["bridge"],
        "user": _USER,
        "password": password,
        "bootstrap_servers": plan.bootstrap_servers,
        "pbx": _pbx(),
        "pids": pids,
        "variables": _variables_of_services(plan),
    }
    _write_private(_run_file(plan), json.dumps(content, indent=1))


def _run_file(plan: Plan) -> Path:
    return plan.folder / "run.json"


def _write_private(path: Path, text: str) -> None:
    """Write *text* to a file that only its owner can read, atomically."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    new.replace(path)


# -------------------------------------------------------------------- run


def print_instructions(plan: Plan, password: str, console: Console) -> None:
    """Print where to look first, the URL and the credentials for the PBX, a curl command, and the commands that show its effect."""
    event = json.dumps(_DOCUMENTED_EVENT, separators=(",", ":"))
    call, agent = _DOCUMENTED_EVENT["UniqueId"], _DOCUMENTED_EVENT["Login"]
    management = "".join(f"  {service:16}{url}\n" for service, url in plan.management_urls.items())
    console.print(
        f"\nLook first at {first_link(plan)}\n"
        f"or follow the calls here: {_command()} tail {topic_name(_pbx(), CALL_TIMELINES)}\n"
        f"\nConfigure VOIPEX with\n"
        f"  URL             {plan.ingress_url}\n"
        f"  user            {_USER}\n"
        f"  password        {password}\n"
        f"\nSend an event:\n"
        f"  curl -u '{_USER}:{password}' {plan.ingress_url} -d '{event}'\n"
        f"\nRead the event, then the timeline of its call, then the status of its agent (a line per change, the last line is current):\n"
        f"{_tail_command(CALL_EVENTS, call)}"
        f"{_tail_command(CALL_TIMELINES, call)}"
        f"{_tail_command(AGENT_STATUS, agent)}"
        f"\n/ready and /metrics of each service:\n"
        f"{management}"
        f"\nLogs are in {os.path.relpath(plan.folder)}/logs. Press Ctrl-C to stop everything.\n",
        markup=False,
    )


def first_link(plan: Plan) -> str:
    """Return the page that shows most at a glance: the board."""
    return plan.board_url


def _command() -> str:
    sandbox = Path(sys.argv[0])
    bridge = sandbox.with_name("voipex-bridge")
    return os.path.relpath(bridge) if sandbox.name == "voipex-sandbox" and bridge.exists() else bridge.name


def _tail_command(kind: TopicSpec, key: str) -> str:
    return f"  {_command()} tail {topic_name(_pbx(), kind)} --key {key} --from-beginning --no-follow\n"


def _watch(running: Running, console: Console) -> NoReturn:
    """Look at every process once a second, and report the first timeline. Raises ProcessExited."""
    while True:
        time.sleep(1)
        for child in running.required:
            if child.has_exited():
                raise ProcessExited(child.exit_message())
        if running.broker is not None and running.broker.pid is None:
            raise ProcessExited(f"Kafka exited; {last_lines(running.broker.log_file)}")
        reader = running.first_timeline
        if reader is not None and reader.has_exited():
            running.first_timeline = None
            if reader.process.returncode == 0:
                console.print(f"Events flow: the first timeline is in {topic_name(_pbx(), CALL_TIMELINES)}")
            else:
                console.print(f"Cannot read timelines: {reader.exit_message()}", style="red", markup=False)


# -------------------------------------------------------------------- stop


def _stop(plan: Plan, running: Running) -> None:
    """Stop every process, in order. Takes at most 20 seconds, so a second Ctrl-C is ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for child in (running.first_timeline, running.simulator):
        if child is not None:
            child.stop(_SIMULATOR_STOP_S)
    deadline = time.monotonic() + _SERVICES_STOP_S
    for child in running.services:
        child.terminate()
    for child in running.services:
        child.stop(deadline - time.monotonic())
    if running.broker is not None:
        running.broker.stop()
    _run_file(plan).unlink(missing_ok=True)
