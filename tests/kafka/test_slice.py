"""From one authenticated POST to a record on a real broker, read back by clients that are not ours."""

import json
from pathlib import Path

import pytest

from bridge.local_kafka import LocalKafka
from bridge.partition import partition_of
from tests.kafka.conftest import console_consumer, console_producer
from tests.processes import BridgeProcess
