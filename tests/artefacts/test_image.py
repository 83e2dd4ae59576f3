"""The image: its content, and that it runs read-only and unprivileged."""

import base64
import json
import time
import tomllib
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.artefacts import tools
from tests.artefacts.tools import ROOT, fails, image, passes, run
from tests.processes import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.artefacts

LIMIT_BYTES = 120_000_000
"""Limit on the size of the layers added to python:3.13-slim."""
RESTRAINED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def inspected(name: str) -> Any:
    return json.loads(passes("docker", "inspect", name))[0]


def inside(*command: str) -> str:
    """Run a command in a new container without network, capabilities or a writable root."""
    return passes("docker", "run", "--rm", "--network", "none", *RESTRAINED, image(), *command)


# -------------------------------------------------------------------- the file


def test_hadolint_finds_no_fault() -> None:
    passes("hadolint", "deploy/Dockerfile")


def test_hadolint_finds_a_planted_fault() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text().replace("FROM python:3.13-slim\n", "FROM python\n")
    assert "DL3006" in fails("hadolint", "-", text=text)


def test_the_build_context_has_only_files_of_the_image() -> None:
    listing = "FROM python:3.13-slim\nCOPY . /context\nRUN find /context -not -name '*.py' -maxdepth 2 -mindepth 1 > /listing\n"
    name = "voipex-bridge:context"
    built = run("docker", "build", "--quiet", "-t", name, "-f", "-", ".", text=listing)
    assert built.returncode == 0, built.stderr
    listed = set(passes("docker", "run", "--rm", name, "cat", "/listing").split())
    passes("docker", "rmi", name)
    assert {each for each in listed if each.count("/") == 2} == {
        f"/context/{each}"
        for each in (
            *("LICENSE", "README.md", "pyproject.toml", "requirements.txt", "requirements-dev.txt"),
            *("voipex", "bridge", "consumers", "sandbox"),
        )
    }
    assert not [each for each in listed if "cache" in each]


# -------------------------------------------------------------------- what is in it


def test_the_image_has_labels_and_a_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = inspected(image())["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.title"] == "voipex-bridge"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {"org.opencontainers.image.description", "org.opencontainers.image.revision"} <= labels.keys()
    assert inside("voipex-bridge", "--version") == f"voipex-bridge {version}\n"


def test_both_commands_run_as_an_unprivileged_user() -> None:
    assert inspected(image())["Config"]["User"] == "10001:10001"
    assert inside("id", "-u").strip() == "10001"
    assert inside("id", "-G").strip() == "10001"
    assert "timelines" in inside("voipex-consumers", "--help")


def test_the_image_has_no_java_pip_or_compiler() -> None:
    for program in ("java", "pip", "gcc", "cc", "git", "curl"):
        found = run("docker", "run", "--rm", image(), "sh", "-c", f"command -v {program}")
        assert found.returncode != 0, f"{program}: {found.stdout}"
    jars = inside("find", "/opt", "/usr", "-name", "*.jar", "-o", "-name", "libjvm.so")
    assert jars == ""
    assert "No module named pip" in run("docker", "run", "--rm", image(), "python", "-m", "pip").stderr


def test_the_image_is_small() -> None:
    size = inspected(image())["Size"]
    base = inspected("python:3.13-slim")["Size"]
    tools.written("image", {"size_bytes": size, "base_bytes": base, "added_bytes": size - base})
    assert size - base < LIMIT_BYTES


# -------------------------------------------------------------------- how it runs


class Started:
    """A container with the default command and new volumes, without Kafka."""

    def __init__(self, *options: str) -> None:
        self.name = f"voipex-check-{uuid.uuid4().hex[:8]}"
        self.port, self.volumes = free_port(), [f"{self.name}-{each}" for each in ("spool", "credentials")]
        mounts = [f"--volume={volume}:/var/lib/voipex/{volume.rsplit('-', 1)[1]}" for volume in self.volumes]
        made = passes(
            *("docker", "run", "--rm", *RESTRAINED, *mounts, image()),
            *("voipex-bridge", "credentials", "create", "site-7", "--json"),
        )
        self.password = json.loads(made)["password"]
        passes(
            *("docker", "run", "--detach", "--name", self.name, "--publish", f"127.0.0.1:{self.port}:8080"),
            *("--health-start-interval=1s", *options, *mounts, image()),
        )

    def await_healthy(self) -> None:
        def is_healthy() -> bool:
            state = inspected(self.name)["State"]
            assert state["Running"], passes("docker", "logs", self.name)
            return bool(state["Health"]["Status"] == "healthy")

        eventually(is_healthy, lambda: inspected(self.name)["State"]["Health"], every_s=0.3)

    def post(self) -> int:
        token = base64.b64encode(f"site-7:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/voipex",
            b'{"EventName":"Ringing","Line":"444","UniqueId":"1412256225.1941"}',
            {"Authorization": f"Basic {token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
        return status

    def remove(self) -> None:
        run("docker", "rm", "--force", "--volumes", self.name)
        run("docker", "volume", "rm", "--force", *self.volumes)


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Started]:
    bridge = Started(*getattr(request, "param", ()))
    try:
        yield bridge
    finally:
        bridge.remove()


@pytest.mark.parametrize("started", [(*RESTRAINED, "--env=VOIPEX_DRAIN_S=3")], indirect=True)
def test_the_bridge_serves_with_a_read_only_root(started: Started) -> None:
    started.await_healthy()
    assert started.post() == 200
    assert passes("docker", "exec", started.name, "voipex-bridge", "health").strip() == "ready"
    begun = time.monotonic()
    passes("docker", "stop", "--time", "60", started.name)
    state = inspected(started.name)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert time.monotonic() - begun > 3, "it drains for 3 s, since there is no Kafka"
    assert "drain incomplete" in passes("docker", "logs", started.name)


def test_the_bridge_writes_nothing_outside_its_volumes(started: Started) -> None:
    """Here the root is writable."""
    started.await_healthy()
    assert started.post() == 200
    assert passes("docker", "exec", started.name, "voipex-bridge", "spool", "status").count("1 waiting") == 1
    assert passes("docker", "diff", started.name).strip() == ""


def test_the_health_check_fails_without_a_service() -> None:
    check = inspected(image())["Config"]["Healthcheck"]["Test"]
    assert check == ["CMD", "python", "-m", "voipex.service.health", "--live"]
    done = run("docker", "run", "--rm", "--network", "none", image(), *check[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert "no answer on 0.0.0.0:8081" in done.stderr
