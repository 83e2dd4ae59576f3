"""`voipex-bridge topics`: create, compare and list the declared topics."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from bridge.cli.output import Json, console, load_settings, print_json
from voipex.kafka.topics import apply_topics, check_topics
from voipex.service.units import format_duration

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
    as_json: Json = False,
) -> None:
    """
    Create missing topics and set the declared configuration.

    Never changes the number of partitions: keys would move to other partitions.
    """
    options = {"topic_replication": replication, "topic_min_insync": min_insync}
    loaded = load_settings({name: value for name, value in options.items() if value is not None})
    outcomes = asyncio.run(
        apply_topics(
            loaded,
            loaded.topics(),
            replication=loaded.topic_replication,
            min_insync=loaded.topic_min_insync,
        )
    )
    if as_json:
        print_json(outcomes)
        return
    for name, outcome in outcomes.items():
        typer.echo(f"{outcome:10} {name}")


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
