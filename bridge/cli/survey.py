"""`voipex-bridge survey`: what the PBX really sends, without personal data."""

import asyncio
import http.client
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson
import typer
from pydantic import ValidationError

from bridge.cli.dead_letters import parse_time_us
from bridge.cli.output import Json, fail, load_settings, now_us, print_json
from bridge.http.retries import MAX_PROBE_S
from bridge.http.survey_routes import PROBE_PATH, SURVEY_PATH
from bridge.ops.survey import report, sources
from bridge.ops.survey.observe import observe
from bridge.ops.survey.sender import BridgeSurvey, ProbeState, Sender, sender_of
from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from voipex.service.health import fetch

_TIMEOUT_S: Final = 5.0
_PROBE_REQUESTS: Final = 10
_POLL_S: Final = 1.0
_WATCHED_S: Final = 60.0

_WARNING: Final = f"""For at most {MAX_PROBE_S:.0f} s the bridge at {{bridges}} answers 503 to {_PROBE_REQUESTS} events of the PBX {{pbx}} and to their repeats.
It stores each of them before, so none is lost. A repeat is stored as a further event; timelines cope with it.
Choose a quiet moment with a few calls: nobody knows yet whether the PBX holds back its other events meanwhile, or reports an error to its administrator.
The probe ends by itself; Ctrl-C ends it at once. Its begin and end are in the log, and `doctor` and /ready say that it runs."""

survey_app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class _Address(NamedTuple):
    """A management port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@survey_app.command()
def survey(
    recording: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="A recording, as `voipex-consumers explain` reads it; - is standard input."
        ),
    ] = None,
    pbx: Annotated[
        str | None, typer.Option("--pbx", help="Which PBX of VOIPEX_PBXS. Default: the first.")
    ] = None,
    since: Annotated[
        str, typer.Option(help="Received at or after this time: 2026-03-02T08:00:00Z, or 30m, 2h, 7d ago.")
    ] = "1d",
    bridge: Annotated[
        list[str] | None,
        typer.Option(
            "--bridge",
            metavar="URL",
            help="Management port of a bridge to ask how the PBX uses HTTP, such as `http://bridge-0:8081`; repeat it for each bridge. "
            "Default: the bridge on this host, if one runs; none with FILE.",
        ),
    ] = None,
    probe_retry: Annotated[
        bool,
        typer.Option(
            "--probe-retry",
            help="First find out whether the PBX repeats what is refused: for a minute a few events are stored and answered with 503 all the same. "
            "Asks before it starts; takes two minutes.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start the probe without asking.")] = False,
    as_json: Json = False,
) -> None:
    """
    Report what a PBX really sends, without personal data: safe to mail to a stranger.

    Reads the event topics of a PBX, or a recording, and asks running bridges how the PBX uses HTTP. Prints Markdown: events and their fields, keys
    that are not mapped, repeats, order, reasons without a class, the quality of the documents, whether refused requests are sent again, and an answer
    to each question that the documentation of VOIPEX leaves open. Numbers, e-mails, logins, queues and pauses become kinds and counts.

    Example: `voipex-bridge survey --since 2h > survey.md`
    """
    addresses = [_address(url) for url in bridge or ()]
    if recording is not None:
        if probe_retry and not (addresses and pbx):
            fail("--probe-retry with FILE needs --bridge and --pbx", 2)
        name = pbx
        source = None
    else:
        loaded = load_settings()
        name = pbx or loaded.pbxs[0]
        if name not in loaded.pbxs:
            fail(f"--pbx {name!r} is not in VOIPEX_PBXS", 2)
        addresses = addresses or [_Address(loaded.management_host or loaded.host, loaded.management_port)]
    try:
        since_us = parse_time_us(since, now_us())
    except ValueError as error:
        fail(f"--since: {error}", 2)
    if probe_retry:
        assert name is not None  # noqa: S101 - checked above
        _probe(addresses, name, yes=yes)
    if recording is not None:
        source = _recorded(recording)
        name = name or next((event.pbx for event in sources.distinct(source.trace)), None)
    else:
        source = asyncio.run(sources.read_topics(loaded, str(name), since_us))
    sender = _ask(addresses, name, is_required=bool(bridge))
    if source.unusable:
        typer.echo(f"{source.unusable} lines or records are no events and are left out", err=True)
    seen = observe(sources.distinct(source.trace))
    folded = explain(source.trace, for_drawing=True)
    documents = report.count_documents(folded.timelines, folded.agents)
    result = report.to_json(seen, documents, source.dead_letters, sender)
    if as_json:
        print_json(result)
    else:
        sys.stdout.write(report.to_markdown(result))


def _recorded(path: Path) -> sources.Source:
    try:
        lines = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        fail(f"{path}: {error.strerror}", 2)
    with lines:
        trace = read_trace(lines)
    return sources.Source(trace, len(trace.rejected), Counter())


# ---------------------------------------------------------------- bridges


def _address(url: str) -> _Address:
    """Read `http://HOST:PORT` or `HOST:PORT`. What is wrong is not repeated: it may hold a password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme != "http" or "@" in parts.netloc:
        fail("--bridge: say http://HOST:PORT of a management port, without a user", 2)
    return _Address(host, port)


def _ask(addresses: list[_Address], pbx: str | None, *, is_required: bool) -> Sender | None:
    """Ask each bridge; one that does not answer is left out, or ends the command if it is required."""
    surveys = []
    for each in addresses:
        try:
            surveys.append(_fetch(each))
        except _NoSurvey as error:
            if is_required:
                fail(f"--bridge {each}: {error}", 1)
    return sender_of(surveys, pbx) if surveys and pbx is not None else None


class _NoSurvey(Exception):
    """The cause, in words."""


def _fetch(address: _Address) -> BridgeSurvey:
    try:
        status, body = fetch(address.host, address.port, SURVEY_PATH, _TIMEOUT_S)
        return BridgeSurvey.model_validate_json(body if status == http.client.OK else "")
    except (OSError, http.client.HTTPException) as error:
        raise _NoSurvey(str(error) or type(error).__name__) from None
    except ValidationError:
        raise _NoSurvey("what answers there is no bridge of this version") from None


# ---------------------------------------------------------------- probe


def _probe(addresses: list[_Address], pbx: str, *, yes: bool) -> None:
    """Run the probe on each bridge, and watch for a minute whether its last event comes again. Exit 1 if none starts."""
    typer.echo(_WARNING.format(bridges=" and ".join(map(str, addresses)), pbx=pbx), err=True)
    if not yes and not (sys.stdin.isatty() and typer.confirm("Start the probe?", err=True)):
        fail("not started; --yes starts it without asking", 1)
    order = {"pbx": pbx, "seconds": MAX_PROBE_S, "requests": _PROBE_REQUESTS}
    concerned: list[_Address] = []
    try:
        for each in addresses:
            # Before the order: it may reach the bridge although its answer never comes.
            concerned.append(each)
            try:
                _order(each, "POST", order)
            except (_Refused, ConnectionRefusedError) as refusal:
                concerned.remove(each)
                fail(f"{each}: {refusal}", 1)
        _follow(concerned)
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        fail(f"{concerned[-1]}: {str(error) or type(error).__name__}", 1)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
    finally:
        for each in concerned:
            _end(each)


class _Refused(Exception):
    """The bridge does not do what it was ordered, for the reason in words."""


def _end(address: _Address) -> None:
    """End the probe of a bridge. What prevents it is printed, and the next bridge is asked."""
    try:
        _order(address, "DELETE")
    except (_Refused, OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        cause = str(error) or type(error).__name__
        typer.echo(f"{address}: not ended: {cause}. It ends by itself within {MAX_PROBE_S:g} s", err=True)


def _order(address: _Address, method: str, order: dict[str, Any] | None = None) -> None:
    """Start or end the probe of a bridge. Raises _Refused, and what http.client and orjson raise."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
    headers = {} if order is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, PROBE_PATH, None if order is None else orjson.dumps(order), headers)
        response = connection.getresponse()
        body = orjson.loads(response.read())
    finally:
        connection.close()
    if response.status != http.client.OK:
        error = body.get("error") if isinstance(body, dict) else None
        raise _Refused(str(error or f"it answers {response.status}, as no bridge of this version does"))


def _follow(addresses: list[_Address]) -> None:
    """Wait until all probes have ended, and the last event that one refused was watched for a minute."""
    refused = None
    since_s = time.monotonic()
    while True:
        probes = [_describe(each) for each in addresses]
        now_refused = sum(each.refused for each in probes)
        if now_refused != refused:
            refused, since_s = now_refused, time.monotonic()
            typer.echo(f"{refused} events refused, {sum(each.answers for each in probes)} times", err=True)
        has_ended = all(each.ended for each in probes)
        if has_ended and (not refused or time.monotonic() - since_s > _WATCHED_S + _POLL_S):
            break
        time.sleep(_POLL_S)
    if not refused:
        typer.echo("no event came that could be refused: make a call during the probe", err=True)


def _describe(address: _Address) -> ProbeState:
    try:
        probe = _fetch(address).probe
    except _NoSurvey as error:
        fail(f"{address}: {error}", 1)
    if probe is None:
        fail(f"{address}: the bridge was restarted, which ended the probe", 1)
    return probe
