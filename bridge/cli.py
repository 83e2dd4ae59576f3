"""`voipex-bridge`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from bridge import credentials as credentials_file
from bridge import kafka, logs, run, settings, simulate, spool, tail, up
from bridge.errors import BridgeError, CredentialsInvalid, SettingsInvalid
from bridge.local_kafka import LocalKafka

VERSION = installed_version("voipex-bridge")

app = typer.Typer(
    name="voipex-bridge",
    help="""The bridge from a VOIPEX PBX to Kafka.

    Try it: `voipex-bridge up` starts a real Kafka, the bridge and simulated calls on this machine.
    Run it: `voipex-bridge topics apply`, `voipex-bridge credentials create NAME`, `voipex-bridge serve`.
    Settings are environment variables (docs/settings.md).
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # tracebacks with local variables would show bodies and secrets
    rich_markup_mode="markdown",
)
topics_app = typer.Typer(
    no_args_is_help=True, help="The topics that the settings need: make them, check them, list them."
)
credentials_app = typer.Typer(
    no_args_is_help=True, help="Who may POST. Secrets are made here, shown once, and stored as digests."
)
spool_app = typer.Typer(no_args_is_help=True, help="What was accepted and waits for Kafka.")
app.add_typer(topics_app, name="topics")
app.add_typer(credentials_app, name="credentials")
app.add_typer(spool_app, name="spool")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
out = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """The console script."""
    with _errors_said():
        app()


@contextlib.contextmanager
def _errors_said() -> Iterator[None]:
    """Errors that a person can mend are said in words, without a traceback."""
    try:
        yield
    except (SettingsInvalid, CredentialsInvalid) as error:
        _fail(str(error), 2)
    except BridgeError as error:
        _fail(f"{error}", 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"voipex-bridge: {line}", err=True)
    sys.exit(code)


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, default=str).decode())


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voipex-bridge {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command(name="up")
def up_command(
    port: Annotated[int, typer.Option(help="Port of the front door.")] = 8080,
    management_port: Annotated[int, typer.Option(help="Port of /live, /ready, /metrics.")] = 8081,
    kafka_port: Annotated[
        int, typer.Option(help="Port of the local Kafka; its controller takes the next one.")
    ] = 9092,
    folder: Annotated[
        Path, typer.Option(help="Data of this run: Kafka, spool, credentials, logs; kept between runs.")
    ] = Path("build"),
    sim: Annotated[bool, typer.Option(help="Play simulated calls through the front door.")] = True,
    rate: Annotated[float, typer.Option(help="Simulated calls per second.", min=0.01, max=500)] = 0.5,
) -> None:
    """
    Start everything on this machine: a real Kafka, its topics, the bridge, simulated calls; until Ctrl-C.

    With `VOIPEX_KAFKA_BOOTSTRAP_SERVERS` set it uses that cluster, whose topics must be as declared (`topics apply`).
    """
    plan = up.Plan(
        folder=folder,
        port=port,
        management_port=management_port,
        kafka_port=kafka_port,
        simulate=sim,
        rate=rate,
    )
    sys.exit(up.up(plan))


@app.command()
def serve() -> None:
    """Run the bridge in the foreground, as a service does. SIGTERM drains and exits 0; SIGHUP reads the credentials again."""
    loaded = settings.load()
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in settings.unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
    run.run(loaded, VERSION)


@app.command(name="kafka")
def kafka_command(
    port: Annotated[int, typer.Option(help="Port of the broker; its controller takes the next one.")] = 9092,
    folder: Annotated[Path, typer.Option(help="Where its data and log lie.")] = Path("build"),
) -> None:
    """Run the local Kafka alone, until Ctrl-C. For a laptop and for tests: one node, no replication."""
    broker = LocalKafka(folder / "kafka", folder / "kafka-jars", port=port)
    up.prepare_kafka(broker, out)
    broker.start()
    try:
        broker.wait_ready()
        out.print(f"Apache Kafka {broker.version} on {broker.bootstrap_servers}; Ctrl-C stops it")
        broker.wait_ended()
    except KeyboardInterrupt:
        out.print("stopping")
    else:
        _fail(f"Kafka ended by itself; its last lines:\n{broker.last_lines()}", 1)
    finally:
        broker.stop()


# -------------------------------------------------------------------- topics


@topics_app.command("apply")
def topics_apply(
    replication: Annotated[
        int | None, typer.Option(help="Replicas; default VOIPEX_TOPIC_REPLICATION.")
    ] = None,
    min_insync: Annotated[
        int | None, typer.Option(help="min.insync.replicas; default VOIPEX_TOPIC_MIN_INSYNC.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create what is missing and set our configuration. Never changes the number of partitions: keys would move."""
    loaded = settings.load()
    report = asyncio.run(
        kafka.apply_topics(
            loaded,
            loaded.topics(),
            replication=replication or loaded.topic_replication,
            min_insync=min_insync or loaded.topic_min_insync,
        )
    )
    if as_json:
        _print_json(report)
        return
    for name, outcome in report.items():
        typer.echo(f"{outcome:10} {name}")


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Compare the cluster with the declared topics; exit 1 when one is missing or has another number of partitions."""
    loaded = settings.load()
    warnings = asyncio.run(kafka.check_topics(loaded, loaded.topics()))
    if as_json:
        _print_json({"ok": True, "warnings": warnings})
        return
    for line in warnings:
        typer.echo(f"warning: {line}")
    typer.echo(f"{len(loaded.topics())} topics are as declared")


@topics_app.command("list")
def topics_list(as_json: Json = False) -> None:
    """The declared topics: what lies in them, for how long. Needs no Kafka."""
    topics = settings.load().topics()
    if as_json:
        _print_json(
            [
                {
                    "name": topic.name,
                    "key": topic.kind.key,
                    "value": topic.kind.value,
                    "partitions": topic.partitions,
                    "public": topic.kind.public,
                    "config": topic.config,
                }
                for topic in topics
            ]
        )
        return
    table = Table("topic", "key", "value", "partitions", "cleanup", "kept")
    for topic in topics:
        days = topic.kind.retention_ms and f"{topic.kind.retention_ms // 86_400_000} d"
        value = topic.kind.value if topic.kind.public else "(private)"
        table.add_row(
            topic.name, topic.kind.key, value, str(topic.partitions), topic.kind.cleanup, days or ""
        )
    out.print(table)


# -------------------------------------------------------------------- credentials


@credentials_app.command("create")
def credentials_create(
    name: Annotated[
        str, typer.Argument(help="Who it is for, such as `pbx-site-7`; the user name of Basic auth.")
    ],
    pbx: Annotated[
        str | None, typer.Option(help="The PBX whose topics it writes to; default: the first of VOIPEX_PBXS.")
    ] = None,
    region: Annotated[str, typer.Option(help="Region of numbers without a country code.")] = "CZ",
    key: Annotated[
        list[str] | None,
        typer.Option(help="A renamed key, `UniqueId=call_id`: documented name, then what this PBX sends."),
    ] = None,
    secret_from_stdin: Annotated[
        bool, typer.Option(help="Read the secret (at least 20 characters) from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a credential and show its secret, once."""
    names: dict[str, str] = {}
    for pair in key or []:
        documented, equals, sent = pair.partition("=")
        if not equals or not sent:
            _fail(f"--key {pair!r}: write it as UniqueId=call_id", 2)
        names[documented] = sent
    given = sys.stdin.readline().strip() if secret_from_stdin else None
    loaded = settings.load()
    issued = credentials_file.create(
        loaded.credentials_file,
        name,
        pbx or loaded.pbxs[0],
        pbxs=loaded.pbxs,
        now_us=_now_us(),
        region=region,
        key_names=names,
        secret=given,
    )
    _show_secret(issued, as_json=as_json)


@credentials_app.command("list")
def credentials_list(as_json: Json = False) -> None:
    """Names, PBXs and ages of secrets; no secrets."""
    rows = credentials_file.listed(_credentials_path())
    if as_json:
        _print_json([{**row._asdict(), "secrets": [each._asdict() for each in row.secrets]} for row in rows])
        return
    table = Table("name", "pbx", "region", "renamed keys", "secrets made at")
    for row in rows:
        renamed = ", ".join(f"{name}={sent}" for name, sent in row.key_names.items())
        table.add_row(
            row.name, row.pbx, row.region, renamed, "\n".join(each.created_at for each in row.secrets)
        )
    out.print(table)


@credentials_app.command("rotate")
def credentials_rotate(name: str, as_json: Json = False) -> None:
    """Add a new secret; the one before stays valid until `revoke --old`. A running bridge takes it within a second or two."""
    _show_secret(credentials_file.rotate(_credentials_path(), name, now_us=_now_us()), as_json=as_json)


@credentials_app.command("revoke")
def credentials_revoke(
    name: str, old: Annotated[bool, typer.Option("--old", help="Only the older of its two secrets.")] = False
) -> None:
    """End a credential, or with --old the older secret after a rotation."""
    revoked = credentials_file.revoke(_credentials_path(), name, old=old)
    typer.echo(f"revoked {name}" if revoked.whole else f"revoked the older secret of {name}")


def _credentials_path() -> Path:
    return settings.load().credentials_file


def _now_us() -> int:
    return time.time_ns() // 1000


def _show_secret(issued: credentials_file.Issued, *, as_json: bool) -> None:
    if as_json:
        _print_json({"user": issued.name, "password": issued.secret, "pbx": issued.pbx})
        return
    typer.echo(
        f"user      {issued.name}\npassword  {issued.secret}\nIt is stored as a digest only and not shown again."
    )


# -------------------------------------------------------------------- tools


@app.command(name="simulate")
def simulate_command(
    url: Annotated[str, typer.Option(help="The front door.")] = "http://127.0.0.1:8080/voipex",
    user: Annotated[str, typer.Option(envvar="VOIPEX_SIMULATE_USER", help="User of Basic auth.")] = "demo",
    password: Annotated[
        str,
        typer.Option(
            envvar="VOIPEX_SIMULATE_PASSWORD",
            help="Its password; better in the environment.",
            show_default=False,
        ),
    ] = "",
    rate: Annotated[float, typer.Option(help="Calls per second.", min=0.01, max=500)] = 0.5,
    agents: Annotated[int, typer.Option(min=1, max=10_000)] = 8,
    queues: Annotated[int, typer.Option(min=1, max=100)] = 2,
    duration: Annotated[float | None, typer.Option(help="Seconds; default: until Ctrl-C.", min=0.1)] = None,
    pbx: Annotated[
        str, typer.Option(help="The PBX that the credential belongs to, for --record.")
    ] = "voipex",
    seed: Annotated[int, typer.Option(help="The same seed plays the same calls.")] = 1,
    record: Annotated[
        Path | None, typer.Option(help="Write what was sent, as `voipex-consumers explain` reads it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A PBX that is not there: ring-all queues, re-rings, transfers, pauses, missed and outgoing calls, sent as VOIPEX sends them."""
    plan = simulate.SimulationPlan(seed=seed, agents=agents, queues=queues, calls_per_s=rate, pbx=pbx)
    reports: deque[simulate.SimulationReport] = deque(maxlen=1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            simulate.play(
                plan, url, user, password, duration_s=duration, record_to=record, on_progress=reports.append
            )
        )
    report = reports[-1]
    if as_json:
        _print_json(asdict(report))
    else:
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(report.answers.items()))
        typer.echo(
            f"sent {report.sent}, accepted {report.accepted}, given up {report.given_up}; answers: {answers or 'none'}"
        )
    if report.given_up or not report.accepted:
        sys.exit(1)


@app.command(name="tail")
def tail_command(
    topic: str,
    key: Annotated[str | None, typer.Option(help="Only this key; reads its partition alone.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Everything that is there first.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many records.", min=1)] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more, or stop at the end.")] = True,
) -> None:
    """Print a topic as JSON lines, committed records only."""

    async def lines() -> None:
        async for line in tail.tail(
            settings.load(), topic, key=key, from_beginning=from_beginning, limit=limit, follow=follow
        ):
            typer.echo(line)

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(lines())


@spool_app.command("status")
def spool_status(as_json: Json = False) -> None:
    """What waits for Kafka on this machine. Only looks; a running bridge is not disturbed."""
    rows = spool.inspect(settings.load().spool_dir)
    if as_json:
        _print_json([row._asdict() for row in rows])
        return
    if not rows:
        typer.echo("no spool here")
    for row in rows:
        age = "" if row.oldest_age_s is None else f", oldest {row.oldest_age_s:.0f} s"
        typer.echo(
            f"{row.spool_id}  {'in use' if row.in_use else 'idle'}  {row.waiting_records} waiting, "
            f"{row.bytes} bytes in {row.segments} segments{age}"
        )
