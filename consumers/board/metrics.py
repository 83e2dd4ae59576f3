"""Metrics of a board, each read on a scrape."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.board.access import Access
from consumers.board.board import Board
from consumers.board.stream import Stream

_PREFIX: Final = "voipex_board_"


@dataclass(frozen=True, slots=True)
class BoardMetrics(Collector):
    """`lag`: records that the board has not read yet."""

    board: Board
    stream: Stream
    access: Access
    lag: Callable[[], int]
    version: str

    def collect(self) -> Iterator[Metric]:
        window = self.board.window
        for name, text, value in (
            ("calls", "Calls that the board holds.", len(window.calls)),
            ("agents", "Agents that the board holds.", len(window.agents)),
            ("readers", "Open streams.", self.stream.readers),
            ("broken_documents", "Records that are no documents.", len(window.broken)),
            ("lag_records", "Records to the ends of the topics.", self.lag()),
            (
                "kafka_age_seconds",
                "Age of the last proof that the topics are read to their ends.",
                kafka_age_s(self.board),
            ),
        ):
            yield GaugeMetricFamily(_PREFIX + name, text, value=value)
        for name, text, count in (
            (
                "crowded_out_calls",
                "Calls dropped before their time, because there were too many.",
                window.crowded_out,
            ),
            ("stalled_streams", "Streams cut because their reader took nothing.", self.stream.stalled),
        ):
            yield CounterMetricFamily(_PREFIX + name, text, value=count)
        sign_ins = CounterMetricFamily(_PREFIX + "sign_ins", "Passwords checked.", labels=["outcome"])
        for outcome, count in self.access.sign_ins.items():
            sign_ins.add_metric([outcome], count)
        yield sign_ins
        build = GaugeMetricFamily(_PREFIX + "build_info", "1, labelled with the version.", labels=["version"])
        build.add_metric([self.version], 1)
        yield build


def board_registry(
    board: Board, stream: Stream, access: Access, lag: Callable[[], int], version: str
) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(BoardMetrics(board, stream, access, lag, version))
    return registry


def kafka_age_s(board: Board) -> float:
    """Return how long ago the board knew that it had read everything; infinite before the first time."""
    at_us = board.freshness.kafka_at_us
    return float("inf") if at_us is None else max(0.0, (board.now_us() - at_us) / 1e6)
