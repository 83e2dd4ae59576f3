"""What `voipex-sandbox up` starts, and on which ports."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voipex.service.settings import variable_of

BOOTSTRAP_VARIABLE: Final = variable_of("kafka_bootstrap_servers")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. Everything listens on 127.0.0.1; `folder` is kept between runs."""

    folder: Path
    port: int = 8080
    management_port: int = 8081
    kafka_port: int = 9092
    timelines_port: int = 8082
    agents_port: int = 8083
    board_port: int = 8084
    simulate: bool = True
    calls_per_s: float = 0.5

    @property
    def starts_kafka(self) -> bool:
        """Whether to start a local Kafka: not if the environment names a cluster."""
        return not os.environ.get(BOOTSTRAP_VARIABLE)

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of Kafka."""
        return os.environ.get(BOOTSTRAP_VARIABLE) or f"127.0.0.1:{self.kafka_port}"

    @property
    def ingress_url(self) -> str:
        """Where the PBX posts its webhooks."""
        return f"http://127.0.0.1:{self.port}/voipex"

    @property
    def consumer_ports(self) -> dict[str, int]:
        """Management ports of the consumers, by service."""
        return {"timelines": self.timelines_port, "agents": self.agents_port}

    @property
    def board_url(self) -> str:
        """Where to look."""
        return f"http://127.0.0.1:{self.board_port}/"

    @property
    def management_urls(self) -> dict[str, str]:
        """Base URL of `/ready` and `/metrics`, by service."""
        ports = {"bridge": self.management_port, **self.consumer_ports, "board": self.board_port}
        return {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}

    def contradictions(self) -> Iterator[str]:
        """Yield a sentence for each port that two servers would listen on."""
        options: dict[int, list[str]] = {}
        for option, ports in self.ports.items():
            for number, port in enumerate(ports):
                options.setdefault(port, []).append(
                    f"--{option}" + (" + 1 (Kafka's controller)" if number else "")
                )
        for port, named in options.items():
            if len(named) > 1:
                yield f"{' and '.join(named)} are both {port}: set one of them to another port"

    @property
    def ports(self) -> dict[str, tuple[int, ...]]:
        """Every port that must be free, by the option that changes it."""
        ports: dict[str, tuple[int, ...]] = {
            "port": (self.port,),
            "management-port": (self.management_port,),
            "timelines-port": (self.timelines_port,),
            "agents-port": (self.agents_port,),
            "board-port": (self.board_port,),
        }
        if self.starts_kafka:
            ports["kafka-port"] = (self.kafka_port, self.kafka_port + 1)
        return ports
