"""`voipex-bridge survey`: what the PBX really sends, without personal data."""

import asyncio
import http.client
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import typer

from bridge.cli.dead_letters import parse_time_us
from bridge.cli.output import Json, fail, load_settings, now_us, print_json
from bridge.ops.survey import report, sources
from bridge.ops.survey.observe import observe
from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from voipex.service.health import fetch

_METRICS_TIMEOUT_S: Final = 2.0

survey_app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


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
    as_json: Json = False,
) -> None:
    """
    Report what a PBX really sends, without personal data: safe to mail to a stranger.

    Reads the event topics of a PBX, or a recording. Prints Markdown: events and their fields, keys that are not mapped, repeats, order,
    reasons without a class, the quality of the documents, and an answer to each question that the documentation of VOIPEX leaves open.
    Numbers, e-mails, logins, queues and pauses become kinds and counts.

    Example: `voipex-bridge survey --since 2h > survey.md`
    """
    sender = None
    if recording is not None:
        source = _recorded(recording)
    else:
        loaded = load_settings()
        name = pbx or loaded.pbxs[0]
        if name not in loaded.pbxs:
            fail(f"--pbx {name!r} is not in VOIPEX_PBXS", 2)
        try:
            since_us = parse_time_us(since, now_us())
        except ValueError as error:
            fail(f"--since: {error}", 2)
        source = asyncio.run(sources.read_topics(loaded, name, since_us))
        metrics = _metrics(loaded.management_host or loaded.host, loaded.management_port)
        sender = None if metrics is None else sources.sender_habits(metrics)
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


def _metrics(host: str, port: int) -> str | None:
    """Return `/metrics` of the bridge on this host, None if none runs."""
    try:
        return fetch(host, port, "/metrics", _METRICS_TIMEOUT_S)[1]
    except (OSError, http.client.HTTPException):
        return None
