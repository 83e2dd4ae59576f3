"""`voipex-bridge topics`: create, compare and list the declared topics."""

import asyncio
import time
from typing import Annotated, Final

import typer
from rich.table import Table

from bridge.cli.output import Json, console, load_settings, print_json
from bridge.settings import Settings
from voipex.errors import KafkaUnreachable
from voipex.kafka.topics import Outcome, apply_topics, check_topics
from voipex.service.units import format_duration

_TRY_AGAIN_S: Final = 2.0

topics_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Create, check or list the declared topics."
)


@topics_app.command("apply")
def topics_apply(
    replication: Annotated[
        int | None, typer.Option(min=1, help="Replicas. Default: VOIPEX_TOPIC_REPLICATION.")
    ] = None,
    min_insync: Annotated[
        int | None, typer.Option(min=1, help="min.insync.replicas. Default: VOIPEX_TOPIC_MIN_INSYNC.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option("--wait", min=0, help="While Kafka is unreachable, try again for so many seconds."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """
    Create missing topics and set the declared configuration.

    Never changes the number of partitions: keys would move to other partitions.
    """
    options = {"topic_replication": replication, "topic_min_insync": min_insync}
    loaded = load_settings({name: value for name, value in options.items() if value is not None})
    outcomes = asyncio.run(_apply(loaded, wait_s))
    if as_json:
        print_json(outcomes)
        return
    for name, outcome in outcomes.items():
        typer.echo(f"{outcome:10} {name}")


async def _apply(settings: Settings, wait_s: float) -> dict[str, Outcome]:
    """Apply the declared topics. An unreachable Kafka is waited for, and reported once; nothing else is."""
    give_up_at = time.monotonic() + wait_s
    reported = False
    while True:
        try:
            return await apply_topics(
                settings,
                settings.topics(),
                replication=settings.topic_replication,
                min_insync=settings.topic_min_insync,
            )
        except KafkaUnreachable as error:
            if time.monotonic() >= give_up_at:
                raise
            if not reported:
                typer.echo(f"{error}. Trying again for {wait_s:g} s", err=True)
                reported = True
        await asyncio.sleep(_TRY_AGAIN_S)


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Compare the topics with the declaration. Exit 1: one is missing, or its number of partitions differs."""
    loaded = load_settings()
    warnings = asyncio.run(check_topics(loaded, loaded.topics()))
    if as_json:
        print_json({"ok": True, "warnings": warnings})
        return
    for line in warnings:
        typer.echo(f"warning: {line}")
    count = f"{len(loaded.topics())} topics"
    typer.echo(f"{count}: see the warnings" if warnings else f"{count} are as declared")


@topics_app.command("list")
def topics_list(as_json: Json = False) -> None:
    """List the declared topics with key, value and retention. Needs no Kafka."""
    topics = load_settings().topics()
    if as_json:
        print_json(
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
    table = Table()
    table.add_column("topic", no_wrap=True, min_width=max(len(topic.name) for topic in topics))
    for heading in ("key", "value", "partitions", "cleanup", "retention"):
        table.add_column(heading)
    for topic in topics:
        kept = topic.config.get("retention.ms")
        value = topic.kind.value if topic.kind.public else "(private)"
        table.add_row(
            topic.name,
            topic.kind.key,
            value,
            str(topic.partitions),
            topic.kind.cleanup,
            format_duration(int(kept) / 1000) if kept else "",
        )
    console.print(table)
