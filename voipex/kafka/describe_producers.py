"""
DescribeProducers (KIP-664), which aiokafka lacks: the leader of a partition tells which producers write to it. Needs Read on the topic.
"""

from collections.abc import Mapping, Sequence

from aiokafka.protocol import api, types


class DescribeProducersResponse(api.Response):
    """Of a producer without an open transaction in the partition, `current_txn_start_offset` is -1."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "topics",
            types.CompactArray(
                ("name", types.CompactString("utf-8")),
                (
                    "partitions",
                    types.CompactArray(
                        ("partition_index", types.Int32),
                        ("error_code", types.Int16),
                        ("error_message", types.CompactString("utf-8")),
                        (
                            "active_producers",
                            types.CompactArray(
                                ("producer_id", types.Int64),
                                ("producer_epoch", types.Int32),
                                ("last_sequence", types.Int32),
                                ("last_timestamp", types.Int64),
                                ("coordinator_epoch", types.Int32),
                                ("current_txn_start_offset", types.Int64),
                                ("tags", types.TaggedFields),
                            ),
                        ),
                        ("tags", types.TaggedFields),
                    ),
                ),
                ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )


class _DescribeProducersStruct(api.RequestStruct):
    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = types.Schema(
        (
            "topics",
            types.CompactArray(
                ("name", types.CompactString("utf-8")),
                ("partition_indexes", types.CompactArray(types.Int32)),
                ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )


class DescribeProducersRequest(api.Request[_DescribeProducersStruct]):
    """Ask the leader of these partitions, by topic."""

    API_KEY = 61

    def __init__(self, partitions: Mapping[str, Sequence[int]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[_DescribeProducersStruct]) -> _DescribeProducersStruct:
        no_tags: dict[int, bytes] = {}
        topics = [(topic, list(numbers), no_tags) for topic, numbers in self._partitions.items()]
        return request_struct_class(topics, no_tags)
