"""GroupConsumer.open_transactions: what leaders say of transactions, with the real request and answer and no network."""

from collections.abc import Mapping
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors

from consumers.engine.group import GroupConsumer
from consumers.engine.records import TopicPartition
from voipex.errors import KafkaUnreachable
from voipex.kafka.describe_producers import DescribeProducersRequest, DescribeProducersResponse
from voipex.kafka.settings import KafkaSettings

pytestmark = pytest.mark.anyio

LINES, LETTERS, LOST = (
    TopicPartition("voipex.agent.lines.v1", 2),
    TopicPartition("voipex.dead-letters.v1", 0),
    TopicPartition("voipex.agent.lines.v1", 3),
)
LEADERS = {LINES: 1, LETTERS: 2, LOST: -1}
DENIED = errors.TopicAuthorizationFailedError.errno


def answer(partition: TopicPartition, error_code: int, begins: Mapping[int, int]) -> Any:
    """An answer as it comes from the network; `begins`: of the transaction of each producer."""
    tags: dict[int, bytes] = {}
    producers = [(producer, 0, 5, 1_772_438_400_000, 0, begin, tags) for producer, begin in begins.items()]
    partitions = [(partition.partition, error_code, None, producers, tags)]
    encoded = DescribeProducersResponse(0, [(partition.topic, partitions, tags)], tags).encode()
    return DescribeProducersResponse.decode(BytesIO(encoded))


async def found(answers: Mapping[int, Any]) -> Mapping[TopicPartition, Mapping[int, int]]:
    async def send(leader: int, request: DescribeProducersRequest) -> Any:
        asked = request.prepare({61: (0, 0)}).to_object()["topics"]
        assert [(each["name"], each["partition_indexes"]) for each in asked] == [
            (topic, [number]) for (topic, number), known in LEADERS.items() if known == leader
        ]
        if isinstance(answers[leader], Exception):
            raise answers[leader]
        return answers[leader]

    cluster = SimpleNamespace(leader_for_partition=lambda each: LEADERS[TopicPartition(*each)])
    consumer = GroupConsumer(KafkaSettings(), "g", session_timeout_ms=1, max_batch_records=1)
    consumer._client = SimpleNamespace(_client=SimpleNamespace(cluster=cluster, send=send))
    return await consumer.open_transactions(list(LEADERS))


async def test_leaders_name_the_producers_of_open_transactions() -> None:
    """Nothing is open of a producer whose transaction begins at -1. The partition without a leader is missing, as is a denied one."""
    answers = {1: answer(LINES, 0, {7: 12, 8: -1}), 2: answer(LETTERS, DENIED, {})}

    assert await found(answers) == {LINES: {7: 12}}


async def test_a_broker_that_cannot_be_asked_says_nothing() -> None:
    answers = {1: errors.IncompatibleBrokerVersion("unknown"), 2: answer(LETTERS, 0, {})}

    assert await found(answers) == {}


async def test_a_lost_connection_is_no_answer() -> None:
    with pytest.raises(KafkaUnreachable):
        await found({1: errors.KafkaConnectionError("gone")})
