"""The reader in Python of docs/reading.md, run as printed; test_documented_commands.py has the other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.document_oracle import await_published
from tests.kafka.conftest import Broker, apply_topics
from tests.processes import ConsumerProcess
from tests.traffic import Traffic

PAGE = Path(__file__).parents[2] / "docs" / "reading.md"


def code_block(language: str, beginning: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: str = next(each for each in blocks if beginning in each)
    return found


@pytest.fixture
def published(kafka: Broker, pbx: str, tmp_path: Path) -> str:
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    Traffic(kafka.bootstrap_servers, pbx).publish(100)
    with (
        ConsumerProcess(tmp_path, "timelines", kafka.bootstrap_servers, pbx).start(),
        ConsumerProcess(tmp_path, "agents", kafka.bootstrap_servers, pbx).start(),
    ):
        await_published(kafka.bootstrap_servers, pbx)
    return pbx


def with_addresses(text: str, kafka: Broker, pbx: str) -> str:
    return text.replace("127.0.0.1:9092", kafka.bootstrap_servers).replace("voipex.", f"{pbx}.")


def test_the_reader_in_python_of_the_page_reads(published: str, kafka: Broker) -> None:
    program = with_addresses(code_block("python", "AIOKafkaConsumer"), kafka, published)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        line = reader.stdout.readline()
        reader.kill()

    assert re.match(r"\d+\.\d+ (new|waiting|ringing|talking|ended) ", line)
