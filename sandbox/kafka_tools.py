"""Apache's command-line tools, run from the jars that the sandbox fetched: `voipex-sandbox kafka-tool`."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sandbox.broker import LocalKafka, LocalKafkaError, Progress

_PACKAGE: Final = "org.apache.kafka.tools"
TOOLS: Final = {
    "kafka-acls": f"{_PACKAGE}.AclCommand",
    "kafka-broker-api-versions": f"{_PACKAGE}.BrokerApiVersionsCommand",
    "kafka-cluster": f"{_PACKAGE}.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": f"{_PACKAGE}.consumer.ConsoleConsumer",
    "kafka-console-producer": f"{_PACKAGE}.ConsoleProducer",
    "kafka-consumer-groups": f"{_PACKAGE}.consumer.group.ConsumerGroupCommand",
    "kafka-delete-records": f"{_PACKAGE}.DeleteRecordsCommand",
    "kafka-get-offsets": f"{_PACKAGE}.GetOffsetShell",
    "kafka-groups": f"{_PACKAGE}.GroupsCommand",
    "kafka-leader-election": f"{_PACKAGE}.LeaderElectionCommand",
    "kafka-log-dirs": f"{_PACKAGE}.LogDirsCommand",
    "kafka-metadata-quorum": f"{_PACKAGE}.MetadataQuorumCommand",
    "kafka-reassign-partitions": f"{_PACKAGE}.reassign.ReassignPartitionsCommand",
    "kafka-topics": f"{_PACKAGE}.TopicCommand",
    "kafka-transactions": f"{_PACKAGE}.TransactionsCommand",
}
"""The main class of each tool, by the name of its script without `.sh`."""

_CONNECT_TIMEOUT_S: Final = 3.0
_BOOTSTRAP: Final = "--bootstrap-server"
_NO_COMMANDS: Final = ("--version", "--help")


def tool_command(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    bootstrap_servers: str,
    on_progress: Callable[[Progress], None],
) -> list[str]:
    """
    Return the command that runs a tool, with `--bootstrap-server` unless it is among the *arguments*. Fetches the jars that are missing.

    Raises:
        LocalKafkaError: there is no such tool, the jars cannot be fetched, or no broker answers (the tools would try for a minute).
    """
    main_class = TOOLS.get(name.removesuffix(".sh"))
    if main_class is None:
        raise LocalKafkaError(f"there is no tool {name}; there are {', '.join(TOOLS)}")
    broker = LocalKafka(folder / "kafka-tools", folder / "kafka-jars")
    broker.prepare(on_progress)
    given = list(arguments)
    if not any(each.split("=")[0] in (_BOOTSTRAP, *_NO_COMMANDS) for each in given):
        _require_answer(bootstrap_servers)
        given += [_BOOTSTRAP, bootstrap_servers]
    return broker.command_line(main_class, *given)


def _require_answer(bootstrap_servers: str) -> None:
    cause = ""
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            cause = str(error)
        else:
            return
    raise LocalKafkaError(
        f"Kafka does not answer at {bootstrap_servers}: {cause}. "
        f"Start the sandbox, or name other brokers: {_BOOTSTRAP} or VOIPEX_KAFKA_BOOTSTRAP_SERVERS"
    )
