"""`voipex-sandbox`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, NoReturn, TextIO

import orjson
import typer
from rich.console import Console

from sandbox.broker import LocalKafka
from sandbox.kafka_tools import tool_command
from sandbox.plan import Plan
from sandbox.player import Player, SimulationReport, Target
from sandbox.simulator import SimulationPlan, events
from sandbox.up import prepare_kafka, show_progress, up
from voipex.errors import BridgeError, CredentialsInvalid, SettingsInvalid
from voipex.service.running_sandbox import find_sandbox

_DEFAULT_URL: Final = "http://127.0.0.1:8080/voipex"

app = typer.Typer(
    name="voipex-sandbox",
    help="""Run everything on one machine, to try it out: Kafka, the bridge, the consumers and a simulated PBX.

    `voipex-sandbox up` starts all of it. Not for production.
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would print secrets
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run the command line; the console script."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its causes are in the errors of the commands
    try:
        app()
    except (SettingsInvalid, CredentialsInvalid) as error:
        _fail(str(error), 2)
    except BridgeError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"voipex-sandbox: {line}", err=True)
    sys.exit(code)


@app.command(name="up")
def up_command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the bridge for webhooks.")] = 8080,
    management_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the bridge for /live, /ready and /metrics.")
    ] = 8081,
    kafka_port: Annotated[
        int, typer.Option(min=1, max=65534, help="Port of the local Kafka; its controller uses the next one.")
    ] = 9092,
    timelines_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Management port of the timelines service.")
    ] = 8082,
    agents_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Management port of the agents service.")
    ] = 8083,
    board_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the board's pages.")] = 8084,
    folder: Annotated[
        Path, typer.Option(help="Folder for Kafka's data, spool, credentials and logs; kept between runs.")
    ] = Path("build"),
    sim: Annotated[bool, typer.Option(help="Send simulated calls.")] = True,
    rate: Annotated[float, typer.Option(help="Simulated calls per second.", min=0.01, max=500)] = 0.5,
) -> None:
    """
    Start Kafka, the bridge, the consumers and simulated calls; Ctrl-C stops them.

    If VOIPEX_KAFKA_BOOTSTRAP_SERVERS is set, that cluster is used; create its topics before, by `voipex-bridge topics apply`.
    """
    plan = Plan(
        folder=folder,
        port=port,
        management_port=management_port,
        kafka_port=kafka_port,
        timelines_port=timelines_port,
        agents_port=agents_port,
        board_port=board_port,
        simulate=sim,
        calls_per_s=rate,
    )
    sys.exit(up(plan))


@app.command(name="kafka")
def kafka_command(
    port: Annotated[
        int, typer.Option(min=1, max=65534, help="Port of the broker; its controller uses the next one.")
    ] = 9092,
    folder: Annotated[Path, typer.Option(help="Folder for its data and log.")] = Path("build"),
) -> None:
    """Run only Kafka: one broker, without replication. Ctrl-C stops it."""
    console = Console(highlight=False, soft_wrap=True)
    broker = LocalKafka(folder / "kafka", folder / "kafka-jars", port=port)
    prepare_kafka(broker, console)
    broker.start()
    try:
        broker.wait_ready()
        console.print(
            f"Apache Kafka {broker.version} on {broker.bootstrap_servers}. Press Ctrl-C to stop it."
        )
        broker.wait_ended()
    except KeyboardInterrupt:
        console.print("Stopping.")
    else:
        _fail(f"Kafka exited; its last lines:\n{broker.last_lines()}", 1)
    finally:
        broker.stop()


@app.command(
    name="kafka-tool",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def kafka_tool_command(
    context: typer.Context,
    tool: Annotated[str, typer.Argument(help="Name of the script, such as kafka-topics or kafka-topics.sh.")],
) -> None:
    """
    Run one of Apache Kafka's own tools, from the jars that the sandbox fetched; no Java is needed.

    Without `--bootstrap-server` it asks the Kafka of the sandbox that runs here, or VOIPEX_KAFKA_BOOTSTRAP_SERVERS.
    Example: `voipex-sandbox kafka-tool kafka-topics --list`
    """
    sandbox = find_sandbox()
    servers = Plan(Path("build")).bootstrap_servers if sandbox is None else sandbox.bootstrap_servers
    folder = Path("build") if sandbox is None else sandbox.run_file.parent
    progress = show_progress(Console(stderr=True, highlight=False))
    command = tool_command(tool, context.args, folder, servers, progress)
    os.execv(command[0], command)  # noqa: S606 - the tool takes over: its output, its exit code, Ctrl-C


@app.command(name="simulate")
def simulate_command(
    url: Annotated[
        str | None, typer.Option(help="URL of the bridge. Default: that of the sandbox that runs here.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(envvar="VOIPEX_SIMULATE_USER", help="User of Basic authentication.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="VOIPEX_SIMULATE_PASSWORD",
            help="Password; better set in the environment, where `ps` does not show it.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Calls per second.", min=0.01, max=500)] = 0.5,
    agents: Annotated[int, typer.Option(help="Number of agents.", min=1, max=10_000)] = 8,
    queues: Annotated[int, typer.Option(help="Number of queues.", min=1, max=100)] = 2,
    duration: Annotated[
        float | None, typer.Option(help="Seconds to run. Default: until Ctrl-C.", min=0.1)
    ] = None,
    pbx: Annotated[
        str | None, typer.Option(help="Name of the PBX in the recording. Default: the sandbox's, or voipex.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same calls.")] = 1,
    record: Annotated[
        Path | None,
        typer.Option(help="File for the accepted events, which `voipex-consumers explain` reads."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """
    Simulate a PBX: queue calls, transfers, pauses, missed and outgoing calls, sent as VOIPEX sends them.

    Exit 1 if an event was not accepted. Example: `voipex-sandbox simulate --rate 2 --duration 60 --record trace.jsonl`
    """
    sandbox = find_sandbox() if url is None else None
    if sandbox is not None:
        typer.echo(f"voipex-sandbox: {sandbox}", err=True)
        url, user, password = sandbox.ingress_url, user or sandbox.user, password or sandbox.password
    try:
        target = Target.parse(url or _DEFAULT_URL, user or "demo", password or "")
    except ValueError as error:
        _fail(f"--url: {error}", 2)
    cause = target.connection_error()
    if cause is not None:
        _fail(f"{cause} by {target.url}. Start a bridge there, or name another one with --url", 1)
    plan = SimulationPlan(
        seed=seed, agents=agents, queues=queues, calls_per_s=rate, started_at_s=int(time.time())
    )
    with _open(record) as file:
        name = pbx or ("voipex" if sandbox is None else sandbox.pbx)
        player = Player(events(plan), target, pbx=name, duration_s=duration, record=file)
        with contextlib.suppress(KeyboardInterrupt):
            player.run()
    report = player.report()
    if as_json:
        answers = {str(status): count for status, count in report.answers.items()}
        typer.echo(orjson.dumps({**asdict(report), "answers": answers}).decode())
    else:
        typer.echo(_summary(report))
    if report.given_up or not report.accepted:
        sys.exit(1)


@contextlib.contextmanager
def _open(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:
        yield file


def _summary(report: SimulationReport) -> str:
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(report.answers.items()))
    broken = f", broken connections {report.broken_connections}" if report.broken_connections else ""
    return f"sent {report.sent}, accepted {report.accepted}, given up {report.given_up}; answers: {answers or 'none'}{broken}"
