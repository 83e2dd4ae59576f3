"""`voipex-bridge`: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong usage or settings."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge import service as run
from bridge import settings
from bridge.auth import manage
from bridge.auth.store import CredentialStore
from bridge.ops import dead_letters as replay
from bridge.ops import doctor, tail
from bridge.spool import spool
from voipex.errors import BridgeError, CredentialsInvalid, SettingsInvalid
from voipex.kafka.topics import apply_topics, check_topics
from voipex.service import health
from voipex.service import logging as logs
from voipex.service.settings import unknown_variables

VERSION = installed_version("voipex-bridge")

app = typer.Typer(
    name="voipex-bridge",
    help="""The bridge from a VOIPEX PBX to Kafka.

    Try it: `voipex-sandbox up` starts Kafka, the bridge, the consumers and simulated calls on this machine.
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
letters_app = typer.Typer(
    no_args_is_help=True,
    help="What was kept because it could not be used: see why, and publish it again once that is mended.",
)
app.add_typer(topics_app, name="topics")
app.add_typer(credentials_app, name="credentials")
app.add_typer(spool_app, name="spool")
app.add_typer(letters_app, name="dead-letters")

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
) -> None:
    # It repeats itself on standard error; what it has to say is in our errors.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@app.command()
def serve() -> None:
    """Run the bridge in the foreground, as a service does. SIGTERM drains and exits 0; SIGHUP reads the credentials again."""
    loaded = settings.load()
    logs.set_up(loaded.log_level, loaded.log_format)
    for line in unknown_variables():
        logs.get_logger("settings").warning("unknown variable", detail=line)
    run.run(loaded, VERSION)


@app.command(name="health")
def health_command(
    live: Annotated[
        bool, typer.Option("--live", help="Only whether it lives: for those who would restart it.")
    ] = False,
) -> None:
    """Is the bridge that runs here ready (`/ready` of its management port)? Exit 0 or 1."""
    loaded = settings.load()
    said = health.ask(
        loaded.management_host or loaded.host, loaded.management_port, "live" if live else "ready"
    )
    typer.echo(said.words, err=not said.good)
    sys.exit(0 if said.good else 1)


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
        apply_topics(
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
    warnings = asyncio.run(check_topics(loaded, loaded.topics()))
    if as_json:
        _print_json({"ok": True, "warnings": warnings})
        return
    for line in warnings:
        typer.echo(f"warning: {line}")
    all_topics = f"{len(loaded.topics())} topics"
    typer.echo(f"{all_topics}: see the warnings" if warnings else f"{all_topics} are as declared")


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
    issued = manage.create(
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
    rows = manage.list_all(_credentials_path())
    if as_json:
        _print_json([asdict(row) for row in rows])
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
    _show_secret(manage.rotate(_credentials_path(), name, now_us=_now_us()), as_json=as_json)


@credentials_app.command("revoke")
def credentials_revoke(
    name: str, old: Annotated[bool, typer.Option("--old", help="Only the older of its two secrets.")] = False
) -> None:
    """End a credential, or with --old the older secret after a rotation."""
    revoked = manage.revoke(_credentials_path(), name, old=old)
    typer.echo(f"revoked {name}" if revoked.whole else f"revoked the older secret of {name}")


def _credentials_path() -> Path:
    return settings.load().credentials_file


def _now_us() -> int:
    return time.time_ns() // 1000


def _show_secret(issued: manage.NewSecret, *, as_json: bool) -> None:
    if as_json:
        _print_json({"user": issued.name, "password": issued.secret, "pbx": issued.pbx})
        return
    typer.echo(
        f"user      {issued.name}\npassword  {issued.secret}\nIt is stored as a digest only and not shown again."
    )


# -------------------------------------------------------------------- doctor

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red", "skipped": "dim"}


@app.command(name="doctor")
def doctor_command(
    offline: Annotated[bool, typer.Option("--offline", help="Without Kafka.")] = False,
    as_json: Json = False,
) -> None:
    """
    Look at settings, disk, credentials, clock, ports and Kafka, and say what to do about each fault. Changes nothing.

    Exit 0: no fault; 1: faults; 2: the settings are wrong.
    """
    report = doctor.examine(offline=offline, now_us=_now_us())
    if as_json:
        _print_json({"ok": report.exit_code == 0, "checks": [asdict(finding) for finding in report.findings]})
        sys.exit(report.exit_code)
    width = max(len(finding.check) for finding in report.findings)
    for finding in report.findings:
        verdict, *more = (
            [finding.verdict.ljust(9) + finding.check.ljust(width + 2)],
            *finding.found.splitlines(),
        )
        for line, text in enumerate(more):
            head = verdict[0] if line == 0 else " " * (width + 11)
            out.print(Text(head, style=_STYLES[finding.verdict]) + Text(text, style="default"))
        if finding.remedy is not None:
            out.print(Text(" " * (width + 11)) + Text(f"-> {finding.remedy}", style="default"))
    counts = ((report.count("fault"), "fault"), (report.count("warning"), "warning"))
    out.print("\n" + ", ".join(f"{count or 'no'} {name}{'s' * (count != 1)}" for count, name in counts))
    sys.exit(report.exit_code)


# -------------------------------------------------------------------- dead letters

PbxOption = Annotated[str | None, typer.Option("--pbx", help="Of this PBX; default: all of VOIPEX_PBXS.")]
SinceOption = Annotated[
    str | None, typer.Option(help="Received at or after: 2026-03-02T08:00:00Z, or 30m, 2h, 7d ago.")
]
UntilOption = Annotated[str | None, typer.Option(help="Received before; as --since.")]
ClassOption = Annotated[str | None, typer.Option("--class", help="Only this class, such as InvalidEvent.")]
StageOption = Annotated[str | None, typer.Option(help="Only what became one at: ingress, timelines, agents.")]


@letters_app.command("list")
def letters_list(
    pbx: PbxOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    error_class: ClassOption = None,
    stage: StageOption = None,
    as_json: Json = False,
) -> None:
    """One line each, oldest first: position, time, class, stage, size, credential, message. No bodies."""
    loaded = settings.load()
    pbxs = _pbxs(loaded, pbx)
    found = asyncio.run(replay.listed(loaded, pbxs, _selection(since, until, error_class, stage)))
    if as_json:
        _print_json([letter.described() for letter in found])
        return
    names = [letter.header("bridge-credential") or "" for letter in found]
    for letter, name in zip(found, names, strict=True):
        whose = f"{letter.pbx:<{max(map(len, pbxs))}}  " if len(pbxs) > 1 else ""
        typer.echo(
            f"{whose}{letter.position!s:>9}  {letter.at}  {replay.printable(letter.error_class):<13}  "
            f"{replay.printable(letter.stage):<9}  {letter.size_bytes:>6} B  {replay.printable(name):<{max(map(len, names))}}  {replay.printable(letter.message)}"
        )
    typer.echo(f"{len(found)} dead letter{'s' * (len(found) != 1)}", err=True)


@letters_app.command("show")
def letters_show(
    position: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `list` prints it.")],
    pbx: PbxOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="The body's bytes alone, as they are.")] = False,
    as_json: Json = False,
) -> None:
    """Headers and body of one dead letter. The only one of these commands that shows a body: it may hold numbers, names, e-mails."""
    loaded = settings.load()
    pbxs = _pbxs(loaded, pbx)
    if len(pbxs) > 1:
        _fail(f"--pbx: say of which one, {', '.join(pbxs)}", 2)
    letter = asyncio.run(replay.shown(loaded, pbxs[0], _position(position)))
    body = letter.body or b""
    if raw:
        sys.stdout.buffer.write(body)
    elif as_json:
        shown = {**letter.described(), "key": tail.text(letter.key), "body": tail.text(letter.body)}
        _print_json({**shown, "headers": {name: tail.text(value) for name, value in letter.headers}})
    else:
        for name, value in letter.headers:
            typer.echo(f"{name}: {replay.printable((value or b'').decode(errors='replace'))}")
        key = "(none)" if letter.key is None else replay.printable(letter.key.decode(errors="replace"))
        typer.echo(f"key: {key}")
        typer.echo(f"\n{replay.printable(body.decode(errors='backslashreplace'), keep=(chr(10), chr(9)))}")


@letters_app.command("replay")
def letters_replay(
    position: Annotated[
        str | None,
        typer.Argument(metavar="PARTITION:OFFSET", help="Only this one; needs --pbx with several."),
    ] = None,
    pbx: PbxOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    error_class: ClassOption = None,
    stage: StageOption = None,
    credential: Annotated[
        str | None,
        typer.Option(help="Read webhooks whose own credential is gone by this one's key names and region."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Publish dead letters again: webhooks by the key names that their credential has now, records as they were. Twice changes nothing.

    Exit 1 when some are not replayed; they stay where they are, as all do.
    """
    loaded = settings.load()
    pbxs = _pbxs(loaded, pbx)
    selection = _selection(since, until, error_class, stage, position)
    if position is not None and len(pbxs) > 1:
        _fail(f"--pbx: say of which one, {', '.join(pbxs)}", 2)
    known = CredentialStore(loaded.credentials_file, loaded.pbxs).credentials
    instead = None if credential is None else known.principal(credential)
    if credential is not None and instead is None:
        _fail(f"--credential {credential!r}: there is none of that name in {loaded.credentials_file}", 2)

    counts = dict.fromkeys(replay.RESULTS, 0)
    rows: list[dict[str, Any]] = []

    async def run_it() -> None:
        outcomes = replay.replay(
            loaded,
            pbxs,
            selection,
            known.principal,
            loaded.topic_partitions,
            instead=instead,
            dry_run=dry_run,
        )
        async with contextlib.aclosing(outcomes):
            async for each in outcomes:
                counts[each.result] += 1
                if as_json:
                    rows.append(
                        {
                            **each.letter.described(),
                            "result": each.result,
                            "topic": each.topic,
                            "why": each.why,
                        }
                    )
                elif each.why is not None or position is not None or dry_run:
                    told = each.why or f"{'would go' if dry_run else 'went'} to {each.topic}"
                    typer.echo(f"{each.result:<9} {each.letter.pbx} {each.letter.position!s:>9}  {told}")

    asyncio.run(run_it())
    if position is not None and not any(counts.values()):
        raise replay.NoSuchLetter(f"no dead letter at {position}, or the other filters leave it out")
    if as_json:
        _print_json({"dry_run": dry_run, **counts, "letters": rows})
    else:
        words = {"unusable": "still unusable", "refused": "refused by Kafka"}
        words |= {"replayed": "would be replayed"} if dry_run else {}
        typer.echo(", ".join(f"{count} {words.get(result, result)}" for result, count in counts.items()))
    if counts["replayed"] != sum(counts.values()):
        sys.exit(1)


def _pbxs(loaded: settings.Settings, pbx: str | None) -> tuple[str, ...]:
    if pbx is not None and pbx not in loaded.pbxs:
        _fail(f"--pbx {pbx!r} is not in VOIPEX_PBXS ({', '.join(loaded.pbxs)})", 2)
    return loaded.pbxs if pbx is None else (pbx,)


def _selection(
    since: str | None,
    until: str | None,
    error_class: str | None,
    stage: str | None,
    position: str | None = None,
) -> replay.Selection:
    moments = {}
    for option, text in (("--since", since), ("--until", until)):
        try:
            moments[option] = None if text is None else replay.moment_of(text, _now_us())
        except ValueError as error:
            _fail(f"{option} {text!r}: {error}", 2)
    return replay.Selection(
        moments["--since"],
        moments["--until"],
        error_class,
        stage,
        None if position is None else _position(position),
    )


def _position(text: str) -> replay.Position:
    try:
        return replay.position_of(text)
    except ValueError as error:
        _fail(f"{text!r}: {error}", 2)


# -------------------------------------------------------------------- tools


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
