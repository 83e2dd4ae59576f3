"""`voipex-consumers verify`."""

import asyncio
import logging
from typing import Annotated

import orjson
import typer

from consumers.cli.output import StatusLine, print_json
from consumers.cli.settings import load_settings
from consumers.explain.verify import Verdict


def verify(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """
    Fold the event topics anew and compare with the published timelines, activity and agent status, field by field, each as of its own
    moment.

    Run it with the settings of the services. Documents whose events have left their topic, or wait to be folded, are counted and not compared.
    Exit 1: a document differs or is missing, or Kafka is unreachable.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the errors of the commands name the cause
    loaded = load_settings("timelines")
    from consumers.explain import published  # noqa: PLC0415 - the Kafka client takes half a second

    with StatusLine() as status:
        verdict = asyncio.run(published.verify(loaded, status))
    if as_json:
        print_json(verdict.to_json())
    else:
        _print_verdict(verdict)
    if verdict.different:
        raise typer.Exit(1)


def _print_verdict(verdict: Verdict) -> None:
    for each in verdict.differences:
        typer.echo(f"{each.pbx} {each.what} {each.key}:")
        for one in each.fields:
            typer.echo(
                f"    {one.path or 'document'} is {_text(one.published)}, should be {_text(one.expected)}"
            )
    more = verdict.different.total() - len(verdict.differences)
    if more > 0:
        typer.echo(f"and {more} more")
    for what, counts in verdict.to_json().items():
        if what != "differences":
            reasons = counts["not_comparable"]
            parts = [f"{counts['equal']} equal", f"{counts['different']} different"]
            parts += [f"{number} not compared: {reason}" for reason, number in reasons.items()]
            typer.echo(f"{what}: {', '.join(parts)}")


def _text(value: object) -> str:
    return "missing" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
