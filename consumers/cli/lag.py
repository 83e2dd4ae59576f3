"""`voipex-consumers lag`."""

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from consumers import settings
from consumers.cli.output import PIPED_WIDTH, print_json
from consumers.cli.settings import load_settings
from consumers.engine.records import TopicPartition

if TYPE_CHECKING:
    from consumers.engine.lag import PartitionLag

# The Kafka client takes 30 MB and half a second, so only a command that runs imports it.


def lag(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """
    Show how far the services have read: committed offset, end and lag of each partition. Exit 1: Kafka is unreachable, or a service has
    never committed an offset although there are records.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the errors of the commands name the cause
    from consumers.engine.access import group_of  # noqa: PLC0415
    from consumers.service import SERVICES  # noqa: PLC0415

    loaded = load_settings("timelines")
    found = {name: asyncio.run(_lag(name, loaded)) for name in SERVICES}
    if as_json:
        print_json(_lag_json(found))
    else:
        _print_lag(found)
    idle = [
        name
        for name, lag in found.items()
        if _total(lag) and all(each.committed is None for each in lag.values())
    ]
    for name in idle:
        typer.echo(
            f"the group {group_of(name)} has committed nothing, and there are records for it: "
            f"start `voipex-consumers {name}`, or check that brokers and PBXs are the intended ones",
            err=True,
        )
    if idle:
        raise typer.Exit(1)


Lag = dict[TopicPartition, "PartitionLag"]


async def _lag(name: str, loaded: settings.Settings) -> Lag:
    from consumers.engine.access import group_of  # noqa: PLC0415
    from consumers.engine.lag import read_lag  # noqa: PLC0415
    from consumers.service import SERVICES  # noqa: PLC0415

    inputs = set(SERVICES[name](loaded).inputs)
    topics = [topic for topic in loaded.topics() if topic.kind in inputs]
    return await read_lag(loaded, group_of(name), topics)


def _total(lag: Lag) -> int:
    return sum(each.lag for each in lag.values())


def _lag_json(found: dict[str, Lag]) -> dict[str, object]:
    from consumers.engine.access import group_of  # noqa: PLC0415

    return {
        "lag": sum(map(_total, found.values())),
        "services": [
            {
                "service": name,
                "group": group_of(name),
                "lag": _total(lag),
                "partitions": [
                    {"topic": topic, "partition": number, **each._asdict()}
                    for (topic, number), each in lag.items()
                ],
            }
            for name, lag in found.items()
        ],
    }


def _print_lag(found: dict[str, Lag]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table("service", "topic", box=None, pad_edge=False)
    for column in ("partition", "committed", "end", "lag"):
        table.add_column(column, justify="right")
    for name, lag in found.items():
        for (topic, number), each in lag.items():
            committed = "never" if each.committed is None else str(each.committed)
            table.add_row(name, topic, str(number), committed, str(each.end), str(each.lag))
    console.print(table)
    totals = ", ".join(f"{name} {_total(lag)}" for name, lag in found.items())
    console.print(f"lag {sum(map(_total, found.values()))} ({totals})")
