"""
Kafka as platform engineers run it: TLS, client certificates, SASL, an authorizer. One broker of its own, with a listener for each.

After each test its output is searched: no log line (level debug), error or traceback may contain a secret.
"""

import asyncio
import gc
import os
import re
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import aiokafka
import orjson
import pytest
import trustme
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from bridge import settings
from consumers.engine.metrics import Metrics
from consumers.engine.worker import Worker
from consumers.service import SERVICES
from consumers.settings import Settings as ConsumerSettings
from sandbox.broker import LocalKafka
from tests import factories
from tests.commands import CommandResult, run_in_process, voipex_bridge
from tests.document_oracle import call_differences, read
from tests.kafka import engine
from tests.kafka.conftest import JARS, bring_up, read_all, settings_of
from tests.kafka.test_lag import lag as lag_of
from tests.processes import BridgeProcess, free_port
from tests.traffic import Traffic
from tests.waiting import WITHIN_S, async_eventually, eventually
from voipex.errors import KafkaAccessDenied
from voipex.kafka.admin import admin_client, describe_cluster
from voipex.kafka.permissions import OPERATIONS_BY_BIT
from voipex.kafka.topics import apply_topics
from voipex.topics import (
    AGENT_ACTIVITY,
    AGENT_EVENTS,
    AGENT_LINES,
    AGENT_STATUS,
    CALL_EVENTS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    TOPIC_SPECS,
    TopicSpec,
    topic_name,
    topics_for,
)

KEY_PASSWORD = "secret-of-the-key"
WRONG_PASSWORD = "secret-that-is-wrong"
_Consumer: Any = aiokafka.AIOKafkaConsumer  # it ships no types
SCRAM_USER = "scram-user"
FORGETFUL_USER, FORGOTTEN_PASSWORD = "forgetful", "secret-that-was-forgotten"
PLAIN_USERS = (
    "plain-user",
    "writer",
    "newcomer",
    "maker",
    "looker",
    "reader",
    "replayer",
    "loser",
    "timelines",
    "agents",
    "watcher",
)
CERTIFICATE_USER = "certificate-user"

RINGING = factories.body()
AGENT_LOGIN = b'{"EventName":"AgentLogin","Login":"Janecek","Queue":"NOC"}'
NO_EVENT = b'{"event":"Ringing"}'


def password_of(user: str) -> str:
    """That the broker knows."""
    return f"secret-of-{user}"


SECRETS = (
    KEY_PASSWORD,
    WRONG_PASSWORD,
    password_of(SCRAM_USER),
    FORGOTTEN_PASSWORD,
    *(password_of(user) for user in PLAIN_USERS),
)

output: list[str] = []
"""Everything that the current test printed or raised."""


@dataclass(frozen=True)
class SecureKafka:
    """The broker. A client of `administration` may do everything; others need ACLs."""

    broker: LocalKafka
    folder: Path
    tls: str
    sasl: str
    misled: str
    """The certificate is valid for this address, but the broker advertises another one."""

    @property
    def administration(self) -> str:
        return self.broker.bootstrap_servers

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def by_certificate(self, **changes: str) -> dict[str, str]:
        return {
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": self.tls,
            "VOIPEX_KAFKA_SECURITY_PROTOCOL": "SSL",
            "VOIPEX_KAFKA_SSL_CA_FILE": self.file("ca.pem"),
            "VOIPEX_KAFKA_SSL_CERT_FILE": self.file("client.pem"),
            "VOIPEX_KAFKA_SSL_KEY_FILE": self.file("client.key"),
            "VOIPEX_KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
            **changes,
        }

    def by_password(self, mechanism: str, user: str, **changes: str) -> dict[str, str]:
        return {
            "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": self.sasl,
            "VOIPEX_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "VOIPEX_KAFKA_SSL_CA_FILE": self.file("ca.pem"),
            "VOIPEX_KAFKA_SASL_MECHANISM": mechanism,
            "VOIPEX_KAFKA_SASL_USERNAME": user,
            "VOIPEX_KAFKA_SASL_PASSWORD": password_of(user),
            **changes,
        }

    def make_topics(self, pbx: str) -> None:
        asyncio.run(apply_topics(settings_of(self.administration), topics_for([pbx], partitions=1), 1, 1))

    def give(self, user: str, right: "Right") -> None:
        """Add an ACL, and return when it is in force."""
        asyncio.run(self._set(right.acl(user), given=True))

    def take(self, user: str, right: "Right") -> None:
        asyncio.run(self._set(right.acl(user), given=False))

    def allow(self, user: str, right: str, *topics: str, prefixed: bool = False) -> None:
        """Allow an operation on topics, and return when the ACLs are in force."""
        pattern = 4 if prefixed else 3
        for topic in topics:
            asyncio.run(self._set((2, topic, pattern, f"User:{user}", "*", OPERATIONS[right], 3), given=True))

    def take_away(self, user: str, right: str, topic: str) -> None:
        asyncio.run(self._set((2, topic, 3, f"User:{user}", "*", OPERATIONS[right], 3), given=False))

    async def _set(self, acl: tuple[int, str, int, str, str, int, int], *, given: bool) -> None:
        async with admin_client(settings_of(self.administration), 20) as admin:
            await admin._send_request((CreateAclsRequest if given else DeleteAclsRequest)(*acl))

            async def is_set() -> bool:
                return bool((await admin._send_request(DescribeAclsRequest(*acl))).resources) is given

            await async_eventually(is_set)

    def tool(self, name: str, *arguments: str) -> None:
        """Run one of Apache's command-line tools."""
        command = self.broker.command_line(name, "--bootstrap-server", self.administration, *arguments)
        done = subprocess.run(command, capture_output=True, check=False, timeout=WITHIN_S)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


class Right(NamedTuple):
    """An ACL, as docs/operations.md lists them."""

    operation: str
    resource: Literal["topic", "group", "transactional-id"]
    name: str
    prefixed: bool = False

    def acl(self, user: str) -> tuple[int, str, int, str, str, int, int]:
        kind = {"topic": 2, "group": 3, "transactional-id": 5}[self.resource]
        return (
            kind,
            self.name,
            4 if self.prefixed else 3,
            f"User:{user}",
            "*",
            OPERATIONS[self.operation],
            3,
        )


OPERATIONS = {"All": 2, **{name: bit for bit, name in OPERATIONS_BY_BIT.items()}}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    folder = tmp_path_factory.mktemp("secure")
    _make_certificates(folder)
    plain, tls, sasl, misled, controller = (free_port() for _ in range(5))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl},MISLED://127.0.0.1:{misled}"
    users = " ".join(f'user_{user}="{password_of(user)}"' for user in PLAIN_USERS)
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    broker = LocalKafka(
        folder / "kafka",
        JARS,
        port=plain,
        controller_port=controller,
        properties={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            # The certificate is valid for this name only: clients that connect by address reject it.
            "advertised.listeners": listeners.replace("SL://127.0.0.1", "SL://localhost"),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,MISLED:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(folder / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(folder / "ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
            ),
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "group.initial.rebalance.delay.ms": "0",
        },
        format_arguments=[
            argument
            for user, password in (
                (SCRAM_USER, password_of(SCRAM_USER)),
                (FORGETFUL_USER, FORGOTTEN_PASSWORD),
            )
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
        ],
    )
    broker.prepare()
    bring_up(broker)
    yield SecureKafka(broker, folder, *(f"localhost:{port}" for port in (tls, sasl, misled)))
    broker.stop()


def _make_certificates(folder: Path) -> None:
    trusted, untrusted = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(folder / "ca.pem")
    untrusted.cert_pem.write_to_path(folder / "other-ca.pem")
    broker = trusted.issue_cert("localhost")
    (folder / "broker.pem").write_bytes(_key(broker) + _chain(broker))
    for name, authority, encryption in (
        ("client", trusted, BestAvailableEncryption(KEY_PASSWORD.encode())),
        ("stranger", untrusted, NoEncryption()),
    ):
        certificate = authority.issue_cert("client@example.org", common_name=CERTIFICATE_USER)
        (folder / f"{name}.pem").write_bytes(_chain(certificate))
        (folder / f"{name}.key").write_bytes(_key(certificate, encryption))


def _key(certificate: trustme.LeafCert, encryption: KeySerializationEncryption | None = None) -> bytes:
    """The private key in PKCS #8: the form that Java reads, and that encryption needs."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def _chain(certificate: trustme.LeafCert) -> bytes:
    return b"".join(each.bytes() for each in certificate.cert_chain_pems)


@pytest.fixture
def pbx() -> str:
    """A name of which no other name is a prefix, so that prefixed ACLs of one test do not cover another test's topics."""
    return f"secure-{next(_numbers):03}"


_numbers = count(1)


@pytest.fixture(autouse=True)
def no_secret_in_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Check everything that the test printed, logged or raised."""
    output.clear()

    yield

    logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
    texts = [*output, *logs, *capfd.readouterr()]
    assert [secret for secret in SECRETS if any(secret in text for text in texts)] == []


def run_command(environment: Mapping[str, str], *arguments: str) -> CommandResult:
    done = run_in_process(environment, *arguments)
    if done.code != 0:
        # A connection that the broker refused is closed in TLS, which takes an answer; the command may end, and its loop, before that.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed (transport|<socket)", ResourceWarning)
            gc.collect()
    output.extend((done.out, done.err))
    return done


def run_as_process(environment: Mapping[str, str], *arguments: str) -> CommandResult:
    done = voipex_bridge(environment, *arguments)
    output.extend((done.out, done.err))
    return done


def bridge_of(folder: Path, pbx: str, way: Mapping[str, str], **changes: str) -> BridgeProcess:
    """A bridge at log level debug, not started yet."""
    given = {"VOIPEX_TOPIC_PARTITIONS": "1", "VOIPEX_TOPIC_REPLICATION": "1", "VOIPEX_TOPIC_MIN_INSYNC": "1"}
    given |= {"VOIPEX_LOG_LEVEL": "debug", **way, **changes}
    return BridgeProcess(folder, given["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"], pbx, **given)


def errors_of(bridge: BridgeProcess) -> list[str]:
    """The events that the bridge logged at level error."""
    lines = [orjson.loads(line) for line in bridge.log().splitlines()]
    return [line["event"] for line in lines if line["level"] == "error"]


def written(pbx: str) -> tuple[str, str, str]:
    return topic_name(pbx, CALL_EVENTS), topic_name(pbx, AGENT_EVENTS), topic_name(pbx, DEAD_LETTERS)


def records(secure: SecureKafka, topics: Iterable[str]) -> list[int]:
    return [len(read_all(secure.administration, topic)) for topic in topics]


def checks(done: CommandResult) -> dict[str, list[tuple[str, str, str | None]]]:
    """Verdict, message and remedy of each result of `doctor --json`, by check."""
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for each in done.json["checks"]:
        found.setdefault(each["check"], []).append((each["verdict"], each["message"], each["remedy"]))
    return found


def secret_files(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Move user and secrets to files, as a container platform mounts them."""
    folder.mkdir()
    moved = {name for name in environment if name.endswith(("_PASSWORD", "_USERNAME"))}
    for name in moved:
        (folder / name).write_text(f"{environment[name]}\n")
    rest = {name: value for name, value in environment.items() if name not in moved}
    return {**rest, "VOIPEX_SECRETS_DIR": str(folder)}


# ---------------------------------------------------------------------------------------------------- connections

WAYS: dict[str, tuple[str, Callable[[SecureKafka], dict[str, str]]]] = {
    "a client certificate": (CERTIFICATE_USER, SecureKafka.by_certificate),
    "PLAIN": ("plain-user", lambda secure: secure.by_password("PLAIN", "plain-user")),
    "SCRAM-SHA-256": (SCRAM_USER, lambda secure: secure.by_password("SCRAM-SHA-256", SCRAM_USER)),
    "SCRAM-SHA-512": (SCRAM_USER, lambda secure: secure.by_password("SCRAM-SHA-512", SCRAM_USER)),
}


@pytest.mark.parametrize(
    ("way", "source"),
    [
        ("a client certificate", "environment"),
        ("a client certificate", "secret files"),
        ("PLAIN", "environment"),
        ("SCRAM-SHA-256", "secret files"),
        ("SCRAM-SHA-512", "environment"),
        ("SCRAM-SHA-512", "secret files"),
    ],
)
def test_a_posted_event_arrives_over(
    way: str, source: str, secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    user, environment_of = WAYS[way]
    environment, run = environment_of(secure), run_command
    if source == "secret files":
        environment, run = secret_files(tmp_path / "secrets", environment), run_as_process
    secure.allow(user, "All", pbx, prefixed=True)
    bridge = bridge_of(tmp_path, pbx, environment)

    applied = run(bridge.environment, "topics", "apply")
    with bridge.start():
        assert bridge.post(RINGING)[0] == 200
        bridge.await_drained()
    shown = run(
        bridge.environment, "tail", f"{pbx}.call.events.v1", "--from-beginning", "--limit", "1", "--no-follow"
    )
    compared = run(bridge.environment, "topics", "check")
    looked = run(bridge.environment, "doctor", "--json")

    assert (applied.code, len(applied.out.splitlines())) == (0, len(TOPIC_SPECS))
    assert (shown.code, shown.json["value"]["unique_id"]) == (0, "1412256225.1941")
    assert (compared.code, compared.out) == (0, f"{len(TOPIC_SPECS)} topics are as declared\n")
    assert [
        found[0] for check in ("kafka", "cluster", "rights", "topics") for found in checks(looked)[check]
    ] == ["ok"] * 4
    assert '"level":"error"' not in bridge.log()
    assert '"level":"warning"' not in bridge.log()


# ---------------------------------------------------------------------------------------------------- failing connections


Mistake = Callable[[SecureKafka], dict[str, str]]


def wrong_password(secure: SecureKafka) -> dict[str, str]:
    return secure.by_password("SCRAM-SHA-512", SCRAM_USER, VOIPEX_KAFKA_SASL_PASSWORD=WRONG_PASSWORD)


def user_of_another_mechanism(secure: SecureKafka) -> dict[str, str]:
    return secure.by_password("PLAIN", SCRAM_USER)


def unknown_authority(secure: SecureKafka) -> dict[str, str]:
    return secure.by_password("PLAIN", "plain-user", VOIPEX_KAFKA_SSL_CA_FILE=secure.file("other-ca.pem"))


def the_systems_authorities(secure: SecureKafka) -> dict[str, str]:
    return secure.by_password("PLAIN", "plain-user", VOIPEX_KAFKA_SSL_CA_FILE="")


def no_client_certificate(secure: SecureKafka) -> dict[str, str]:
    return secure.by_certificate(
        VOIPEX_KAFKA_SSL_CERT_FILE="", VOIPEX_KAFKA_SSL_KEY_FILE="", VOIPEX_KAFKA_SSL_KEY_PASSWORD=""
    )


def a_strangers_certificate(secure: SecureKafka) -> dict[str, str]:
    return secure.by_certificate(
        VOIPEX_KAFKA_SSL_CERT_FILE=secure.file("stranger.pem"),
        VOIPEX_KAFKA_SSL_KEY_FILE=secure.file("stranger.key"),
    )


def another_name(secure: SecureKafka) -> dict[str, str]:
    address = secure.tls.replace("localhost", "127.0.0.1")
    return secure.by_certificate(VOIPEX_KAFKA_BOOTSTRAP_SERVERS=address)


def no_key_password(secure: SecureKafka) -> dict[str, str]:
    return secure.by_certificate(VOIPEX_KAFKA_SSL_KEY_PASSWORD="")


REFUSALS: dict[Mistake, str] = {
    wrong_password: "wrong user or password. Check VOIPEX_KAFKA_SASL_USERNAME=scram-user, VOIPEX_KAFKA_SASL_PASSWORD, "
    "and that this user has SCRAM-SHA-512 credentials",
    user_of_another_mechanism: "wrong user or password. Check VOIPEX_KAFKA_SASL_USERNAME=scram-user, "
    "VOIPEX_KAFKA_SASL_PASSWORD, and that this user has PLAIN credentials",
    unknown_authority: "the broker's certificate is signed by an unknown authority. "
    "Put that authority's certificate into VOIPEX_KAFKA_SSL_CA_FILE",
    the_systems_authorities: "VOIPEX_KAFKA_SSL_CA_FILE (not set: the authorities of the system)",
    no_client_certificate: "the broker requires a client certificate. Set VOIPEX_KAFKA_SSL_CERT_FILE and VOIPEX_KAFKA_SSL_KEY_FILE",
    a_strangers_certificate: "the broker rejects the certificate VOIPEX_KAFKA_SSL_CERT_FILE",
    another_name: "the broker's certificate is not valid for this name. Use one of its names in VOIPEX_KAFKA_BOOTSTRAP_SERVERS",
    no_key_password: "client.key: it is encrypted: set VOIPEX_KAFKA_SSL_KEY_PASSWORD",
}


@pytest.mark.parametrize("mistake", REFUSALS, ids=lambda mistake: mistake.__name__)
def test_commands_name_the_setting_that_is_wrong(
    mistake: Mistake, secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    bridge = bridge_of(tmp_path, pbx, mistake(secure))

    compared = run_command(bridge.environment, "topics", "check")
    applied = run_command(bridge.environment, "topics", "apply")
    shown = run_command(bridge.environment, "tail", f"{pbx}.call.events.v1")
    looked = run_command(bridge.environment, "doctor", "--json")

    for done in (compared, applied, shown):
        assert (done.code, done.out) == (1, "")
        assert REFUSALS[mistake] in done.err
        assert "Traceback" not in done.err
    assert looked.code == 1
    [(verdict, found, _)] = checks(looked)["kafka"]
    assert verdict == "error"
    assert REFUSALS[mistake] in found


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ({"VOIPEX_KAFKA_SECURITY_PROTOCOL": "SSL"}, "VOIPEX_KAFKA_SECURITY_PROTOCOL=SSL?"),
        ({"VOIPEX_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "VOIPEX_KAFKA_SECURITY_PROTOCOL=PLAINTEXT?"),
        (
            {"VOIPEX_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
            "VOIPEX_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT?",
        ),
    ],
)
def test_a_port_of_another_protocol_is_suspected(
    way: dict[str, str], words: str, secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    """A broker that cannot parse a request only closes the connection."""
    bridge = bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "plain-user", **way))

    compared = run_command(bridge.environment, "topics", "check")

    assert compared.code == 1
    assert words in compared.err


@pytest.mark.parametrize(
    "mistake", [another_name, no_client_certificate, no_key_password], ids=lambda mistake: mistake.__name__
)
def test_events_accepted_with_wrong_settings_are_published_later(
    mistake: Mistake, secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    """Among the mistakes is an encrypted key without its password: OpenSSL would prompt for it at the terminal, and block."""
    secure.make_topics(pbx)
    secure.allow(CERTIFICATE_USER, "Write", *written(pbx))
    bridge = bridge_of(tmp_path, pbx, mistake(secure))

    with bridge.start():
        answered = bridge.post(RINGING)[0]
        eventually(lambda: REFUSALS[mistake] in bridge.log(), bridge.log)
        waiting = bridge.waiting()
    bridge.environment |= secure.by_certificate()
    with bridge.start():
        bridge.await_drained()

    assert (answered, waiting) == (200, 1)
    assert records(secure, written(pbx)) == [1, 0, 0]
    assert errors_of(bridge) == ["kafka access failed"]


def test_repaired_certificate_files_are_used_without_a_restart(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    secure.allow(CERTIFICATE_USER, "Write", *written(pbx))
    files = tmp_path / "certificates"
    files.mkdir()

    def put(name: str, of: str) -> None:
        (files / name).write_bytes(Path(secure.file(of)).read_bytes())

    put("ca.pem", "other-ca.pem")
    put("client.pem", "stranger.pem")
    put("client.key", "stranger.key")
    own = {f"VOIPEX_KAFKA_SSL_{name.upper()}_FILE": str(files / file) for name, file in
           (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))}  # fmt: skip

    with bridge_of(tmp_path, pbx, secure.by_certificate(**own)).start() as bridge:
        assert bridge.post(RINGING)[0] == 200
        eventually(lambda: REFUSALS[unknown_authority] in bridge.log(), bridge.log)
        put("ca.pem", "ca.pem")
        eventually(lambda: REFUSALS[a_strangers_certificate] in bridge.log(), bridge.log)
        put("client.pem", "client.pem")
        eventually(lambda: "client.key: it is not the key of the certificate" in bridge.log(), bridge.log)
        put("client.key", "client.key")
        bridge.await_drained()

    assert records(secure, written(pbx)) == [1, 0, 0]
    # One error per cause, not per attempt; an attempt between two writes may find a fourth cause.
    assert 3 <= len(errors_of(bridge)) <= 5


def test_setting_the_password_on_the_broker_drains_the_spool(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    secure.allow(FORGETFUL_USER, "Write", *written(pbx))
    way = secure.by_password("SCRAM-SHA-512", FORGETFUL_USER, VOIPEX_KAFKA_SASL_PASSWORD=WRONG_PASSWORD)

    with bridge_of(tmp_path, pbx, way).start() as bridge:
        assert bridge.post(RINGING)[0] == 200
        eventually(lambda: "wrong user or password" in bridge.log(), bridge.log)
        secure.tool(
            "kafka.admin.ConfigCommand", "--alter", "--entity-type", "users", "--entity-name", FORGETFUL_USER,
            "--add-config", f"SCRAM-SHA-512=[password={WRONG_PASSWORD}]",
        )  # fmt: skip
        bridge.await_drained()

    assert records(secure, written(pbx)) == [1, 0, 0]
    assert errors_of(bridge) == ["kafka access failed"]


def test_a_wrong_certificate_of_an_advertised_address_is_named(secure: SecureKafka) -> None:
    """The first connection succeeds; the following ones go to `advertised.listeners`."""
    environment = secure.by_certificate(VOIPEX_KAFKA_BOOTSTRAP_SERVERS=secure.misled)
    with mock.patch.dict(os.environ, environment):
        loaded = settings.load()

    with pytest.raises(KafkaAccessDenied) as refused:
        asyncio.run(describe_cluster(loaded, timeout_s=1))

    address = secure.misled.replace("localhost", "127.0.0.1")
    assert f"{address}, which a broker advertises as its own address" in str(refused.value)
    assert "certificate is not valid for this name" in str(refused.value)


# ---------------------------------------------------------------------------------------------------- rights


def test_the_bridge_needs_write_on_three_topics_and_nothing_else(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    secure.allow("writer", "Write", *written(pbx))

    with bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "writer")).start() as bridge:
        answers = [bridge.post(body)[0] for body in (RINGING, AGENT_LOGIN, NO_EVENT)]
        bridge.await_drained()
        looked = run_command(bridge.environment, "doctor", "--json")

    assert answers == [200, 200, 422]
    assert records(secure, written(pbx)) == [1, 1, 1]
    assert errors_of(bridge) == []
    assert looked.code == 0
    [(verdict, found, _)] = checks(looked)["rights"]
    assert verdict == "warning"
    assert "the bridge does not need that" in found
    assert {found[0] for found in checks(looked)["topics"]} == {"skipped"}


def test_missing_acls_are_named_and_events_wait_until_granted(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    calls, agents, dead_letters = written(pbx)
    way = secure.by_password("PLAIN", "newcomer")

    with bridge_of(tmp_path, pbx, way).start() as bridge:
        answers = [bridge.post(body)[0] for body in (RINGING, AGENT_LOGIN, NO_EVENT)]
        eventually(lambda: "denies Describe" in bridge.log(), bridge.log)
        secure.allow("newcomer", "Describe", calls, agents, dead_letters)
        eventually(lambda: "denies Write on any topic" in bridge.log(), bridge.log)
        secure.allow("newcomer", "Write", calls)
        eventually(
            lambda: all(f'"topic":"{topic}"' in bridge.log() for topic in (agents, dead_letters)), bridge.log
        )
        partly = records(secure, (calls, agents, dead_letters))
        looked = run_command(bridge.environment, "doctor", "--json")
        secure.allow("newcomer", "Write", agents, dead_letters)
        bridge.await_drained()

    assert answers == [200, 200, 422]
    assert partly == [1, 0, 0]
    assert records(secure, (calls, agents, dead_letters)) == [1, 1, 1]
    assert (
        f"Kafka denies Describe on topics {calls}, {agents}, {dead_letters} (Read or Write would include it). Add the ACL: kafka-acls.sh --add "
        f"--allow-principal User:newcomer --operation Describe --topic {calls} --topic {agents} --topic {dead_letters}"
        in bridge.log()
    )
    assert (
        f"kafka-acls.sh --add --allow-principal User:NAME --operation Write --topic {agents}" in bridge.log()
    )
    [(verdict, found, remedy)] = checks(looked)["rights"]
    assert (looked.code, verdict) == (1, "error")
    assert f"Write on {agents}, {dead_letters}" in found
    assert (remedy or "").startswith(
        f"kafka-acls.sh --add --allow-principal User:newcomer --operation Write --topic {agents} --topic {dead_letters};"
    )


def test_a_revoked_acl_is_named_and_no_event_is_lost(secure: SecureKafka, pbx: str, tmp_path: Path) -> None:
    secure.make_topics(pbx)
    calls, agents, _ = written(pbx)
    secure.allow("loser", "Write", *written(pbx))

    with bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "loser")).start() as bridge:
        assert bridge.post(RINGING)[0] == 200
        bridge.await_drained()
        secure.take_away("loser", "Write", calls)
        assert bridge.post(RINGING)[0] == 200
        eventually(lambda: "write not authorized" in bridge.log(), bridge.log)
        [line] = [line for line in bridge.log().splitlines() if "write not authorized" in line]
        secure.allow("loser", "Write", calls)
        bridge.await_drained()

    assert records(secure, (calls, agents)) == [2, 0]
    assert f'"topic":"{calls}"' in line
    assert '"operation":"Write"' in line
    assert '"level":"error"' in line


def test_topics_apply_prints_the_command_for_each_missing_acl(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    bridge = bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "maker"))
    ladder: list[str] = []

    def apply_and_obey() -> CommandResult:
        while True:
            done = run_command(bridge.environment, "topics", "apply")
            right = re.search(
                r"denies (\w+) on topics? ([\w., -]+?)(?: \(.*?\))?\. Add the ACL: kafka-acls\.sh (.*) \(docs/",
                done.err,
            )
            if right is None:
                return done
            assert done.code == 1
            ladder.append(f"{right[1]} on {len(right[2].split(', '))}")
            if len(ladder) == 1:
                secure.tool("org.apache.kafka.tools.AclCommand", *right[3].split())  # as it is printed
            secure.allow("maker", right[1], *right[2].split(", "))

    made = apply_and_obey()
    drifted = topic_name(pbx, DEAD_LETTERS)
    secure.tool(
        "kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", drifted,
        "--add-config", "retention.ms=1000",
    )  # fmt: skip
    mended = apply_and_obey()

    assert (made.code, set(made.out.split()[::2])) == (
        0,
        {"unchanged"},
    )  # they were made while a right was missing
    assert (mended.code, mended.out.count("changed "), f"changed    {drifted}" in mended.out) == (
        0,
        len(TOPIC_SPECS),
        True,
    )
    topics = len(TOPIC_SPECS)
    assert ladder == [
        f"Describe on {topics}",
        f"Create on {topics}",
        f"DescribeConfigs on {topics}",
        "AlterConfigs on 1",
    ]


def test_topics_check_names_topics_without_describe(secure: SecureKafka, pbx: str, tmp_path: Path) -> None:
    secure.make_topics(pbx)
    state, events = f"{pbx}.call.state.v1", written(pbx)
    bridge = bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "looker"))

    nothing = run_command(bridge.environment, "topics", "check")
    secure.allow("looker", "Describe", *events)
    some = run_command(bridge.environment, "topics", "check")
    other = run_command({**bridge.environment, "VOIPEX_TOPIC_PARTITIONS": "2"}, "topics", "check")

    assert nothing.code == 1
    assert f"denies Describe on topics {', '.join(events)} (Read or Write would include it)" in nothing.err
    assert some.code == 0
    assert f"topic {state}: not checked, the ACL for Describe is missing" in some.out
    assert (
        f"topic {events[0]}: its configuration is not compared, the ACL for DescribeConfigs is missing"
        in some.out
    )
    assert other.code == 1
    assert f"{events[0]} has 1 partitions, not 2" in other.err


def test_tail_without_read_names_the_acl(secure: SecureKafka, pbx: str, tmp_path: Path) -> None:
    secure.make_topics(pbx)
    topic = topic_name(pbx, CALL_EVENTS)
    bridge = bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "reader"))
    ended = ("tail", topic, "--from-beginning", "--no-follow")

    hidden = run_command(bridge.environment, *ended)
    secure.allow("reader", "Describe", topic)
    described = run_as_process(bridge.environment, "tail", topic)
    secure.allow("reader", "Read", topic)
    read = run_command(bridge.environment, *ended)

    for done, right in ((hidden, "Describe"), (described, "Read")):
        assert done.code == 1
        assert f"Kafka denies {right} on topic {topic}" in done.err
        assert f"--allow-principal User:reader --operation {right} --topic {topic}" in done.err
        assert "Traceback" not in done.err
    assert read == CommandResult(0, "", f"nothing in {topic}\n")


def test_replay_needs_read_on_dead_letters_and_write_on_targets(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    secure.allow("writer", "Write", *written(pbx))
    calls, _, dead_letters = written(pbx)
    with bridge_of(tmp_path, pbx, secure.by_password("PLAIN", "writer")).start() as bridge:
        assert bridge.post(b'{"event":"Ringing","call_id":"1412256225.1941"}')[0] == 422
        bridge.await_drained()
    path = bridge.folder / "credentials.json"
    path.write_text(
        path.read_text().replace('"key_names":{}', '"key_names":{"EventName":"event","UniqueId":"call_id"}')
        .replace('"key_names": {}', '"key_names": {"EventName":"event","UniqueId":"call_id"}')
    )  # fmt: skip
    bridge.environment |= secure.by_password("PLAIN", "replayer")

    def replay(*given: tuple[str, str]) -> CommandResult:
        for right, topic in given:
            secure.allow("replayer", right, topic)
        return run_command(bridge.environment, "dead-letters", "replay", "--json")

    unread = replay(("Describe", dead_letters))
    unwritten = replay(("Read", dead_letters))
    elsewhere = replay(("Write", dead_letters))
    replayed = replay(("Write", calls))

    assert (unread.code, f"denies Read on topic {dead_letters}" in unread.err) == (1, True)
    assert (unwritten.code, "denies Write on any topic" in unwritten.err) == (1, True)
    assert (elsewhere.code, elsewhere.json["refused"]) == (1, 1)
    assert elsewhere.json["dead_letters"][0]["topic"] == calls
    assert "the ACL for Write on its topic is missing" in elsewhere.json["dead_letters"][0]["why"]
    assert (replayed.code, replayed.json["replayed"]) == (0, 1)
    assert records(secure, (calls,)) == [1]


# ---------------------------------------------------------------------------------------------------- rights of the consumers


def documented_rights(service: str, pbx: str) -> list[Right]:
    """The ACLs that docs/operations.md gives a service, read from its commands."""
    page = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()
    commands = page.split("### Rights for the consumers")[1].split("```sh\n")[1].split("```")[0]
    rights = []
    for command in commands.replace("\\\n", " ").splitlines():
        words = command.replace("voipex.", f"{pbx}.").split()
        if f"User:{service}" not in words:
            continue
        operation = words[words.index("--operation") + 1]
        for option, name in pairwise(words):
            if option in {"--topic", "--group", "--transactional-id"}:
                rights.append(Right(operation, option[2:], name, "prefixed" in words))  # type: ignore[arg-type]
    return rights


def service_of(secure: SecureKafka, name: str, pbx: str, folder: Path) -> Worker[Any]:
    """A service that connects as the user of its own name."""
    way = secure.by_password("PLAIN", name)
    given: dict[str, Any] = {key.removeprefix("VOIPEX_").lower(): value for key, value in way.items()}
    settings = ConsumerSettings(
        **given,
        pbxs=(pbx,),
        topic_partitions=1,
        state_dir=folder,
        commit_interval_ms=20,
        transaction_timeout_s=5,
    )
    return Worker(SERVICES[name](settings), settings, Metrics("test"))


def has_errors(logs: Sequence[Mapping[str, Any]]) -> bool:
    return any(each["log_level"] == "error" for each in logs)


async def run_until(worker: Worker[Any], what: Callable[[], object]) -> None:
    async with engine.running(worker):
        await async_eventually(what)


def visible(secure: SecureKafka, topic: str) -> list[int]:
    """Count the committed records. Waits for the commit markers, which the broker writes after it confirms the commit."""
    eventually(lambda: len(set(asyncio.run(_ends(secure.administration, topic)))) == 1)
    return records(secure, [topic])


async def _ends(bootstrap_servers: str, topic: str) -> list[int]:
    """Last stable offset and high watermark of the only partition; they differ while a transaction is open."""
    partition = aiokafka.TopicPartition(topic, 0)
    ends = []
    for level in ("read_committed", "read_uncommitted"):
        client: Any = _Consumer(bootstrap_servers=bootstrap_servers, isolation_level=level)
        await client.start()
        try:
            ends.append((await client.end_offsets([partition]))[partition])
        finally:
            await client.stop()
    return ends


@pytest.mark.parametrize(("service", "kind"), [("timelines", CALL_TIMELINES), ("agents", AGENT_STATUS)])
def test_a_consumer_names_each_documented_acl_it_lacks(
    secure: SecureKafka, pbx: str, tmp_path: Path, service: str, kind: TopicSpec
) -> None:
    secure.make_topics(pbx)
    Traffic(secure.administration, pbx, 1).publish(50)
    rights = documented_rights(service, pbx)
    for right in rights:
        secure.give(service, right)
    worker = service_of(secure, service, pbx, tmp_path / "state")
    topic = topic_name(pbx, kind)

    asyncio.run(run_until(worker, lambda: worker.snapshot().keys))
    documents = visible(secure, topic)
    for number, right in enumerate(rights):
        secure.take(service, right)
        with capture_logs() as logs:
            refused = service_of(secure, service, pbx, tmp_path / f"{number}")
            asyncio.run(run_until(refused, partial(has_errors, logs)))
        secure.give(service, right)

        message = next(each["cause"] for each in logs if each["log_level"] == "error")
        name = f"transactional id {right.name}" if right.prefixed else f"{right.resource} {right.name}"
        assert f"Kafka denies {right.operation} on {name}" in message
        assert f"--allow-principal User:{service} --operation {right.operation} " in message
        assert f"--{right.resource} {right.name}" in message

    assert len(rights) == {"timelines": 9, "agents": 10}[service]
    assert documents[0] > 0
    assert records(secure, [topic]) == documents


def test_lag_needs_read_on_inputs_and_describe_on_groups(secure: SecureKafka, pbx: str) -> None:
    secure.make_topics(pbx)
    Traffic(secure.administration, pbx, 1).publish(50)
    way = secure.by_password("PLAIN", "watcher", VOIPEX_PBXS=pbx, VOIPEX_TOPIC_PARTITIONS="1")

    def lag() -> CommandResult:
        done = lag_of({**os.environ, **way})
        output.extend((done.stdout, done.stderr))
        return CommandResult(done.returncode, done.stdout, done.stderr)

    for kind in (CALL_EVENTS, AGENT_EVENTS, AGENT_ACTIVITY, AGENT_LINES):
        secure.give("watcher", Right("Read", "topic", topic_name(pbx, kind)))
    refused = lag()
    for group in ("voipex-timelines", "voipex-agents"):
        secure.give("watcher", Right("Describe", "group", group))
    shown = lag()

    assert refused.code == 1
    assert "Kafka denies Read on group voipex-timelines" in refused.err
    assert shown.json["lag"] == 50


def test_an_acl_revoked_at_run_time_is_named_and_loses_nothing(
    secure: SecureKafka, pbx: str, tmp_path: Path
) -> None:
    secure.make_topics(pbx)
    rights = documented_rights("timelines", pbx)
    for right in rights:
        secure.give("timelines", right)
    worker = service_of(secure, "timelines", pbx, tmp_path)
    documents = next(right for right in rights if right.name == topic_name(pbx, CALL_TIMELINES))

    with capture_logs() as logs:
        asyncio.run(_lose_a_right(secure, worker, documents, pbx, logs))

    messages = [each["cause"] for each in logs if each["log_level"] == "error"]
    assert any(f"denies Write on topic {documents.name}" in each for each in messages)


async def _lose_a_right(
    secure: SecureKafka, worker: Worker[Any], right: Right, pbx: str, logs: Sequence[Mapping[str, Any]]
) -> None:
    traffic = Traffic(secure.administration, pbx, 1)

    async def is_published() -> bool:
        found = await asyncio.to_thread(read, secure.administration, pbx, CALL_EVENTS, CALL_TIMELINES)
        return not list(call_differences(pbx, found))

    async with engine.running(worker):
        await asyncio.to_thread(traffic.publish, 50)
        await async_eventually(is_published)
        await asyncio.to_thread(secure.take, "timelines", right)
        await asyncio.to_thread(traffic.publish, 50)
        await async_eventually(partial(has_errors, logs))
        await asyncio.to_thread(secure.give, "timelines", right)
        await async_eventually(is_published)


# ---------------------------------------------------------------------------------------------------- secrets


def test_settings_show_no_secret_in_words_faults_or_tracebacks(
    secure: SecureKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        **secure.by_certificate(VOIPEX_KAFKA_SSL_KEY_PASSWORD=WRONG_PASSWORD),
        "VOIPEX_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "VOIPEX_KAFKA_SASL_USERNAME": SCRAM_USER,
        "VOIPEX_KAFKA_SASL_PASSWORD": password_of(SCRAM_USER),
    }.items():
        monkeypatch.setenv(name, value)

    loaded = settings.load()
    output.extend((repr(loaded), str(loaded), loaded.model_dump_json(), str(loaded.model_dump())))
    with pytest.raises(
        KafkaAccessDenied, match="VOIPEX_KAFKA_SSL_KEY_PASSWORD is not its password"
    ) as refused:
        asyncio.run(describe_cluster(loaded))
    output.extend(traceback.format_exception(refused.value))

    assert loaded.kafka_sasl_password is not None
    assert loaded.kafka_sasl_password.get_secret_value() == password_of(SCRAM_USER)


def test_errors_in_settings_are_reported_without_secrets(secure: SecureKafka) -> None:
    incomplete = secure.by_password("PLAIN", "plain-user", VOIPEX_KAFKA_SASL_USERNAME="")
    misspelt = secure.by_password("PLAIN", "plain-user", VOIPEX_KAFKA_SASL_PASWORD=WRONG_PASSWORD)

    unusable = run_as_process(incomplete, "serve")
    looked = run_command(misspelt, "doctor", "--json")

    assert unusable.code == 2
    assert "VOIPEX_KAFKA_SASL_USERNAME and VOIPEX_KAFKA_SASL_PASSWORD: both are needed" in unusable.err
    assert "did you mean VOIPEX_KAFKA_SASL_PASSWORD" in checks(looked)["settings"][0][1]


@pytest.mark.parametrize(
    ("setting", "file", "words"),
    [
        ("CA", "nothing.pem", "nothing.pem: No such file or directory"),
        ("CA", "client.key", "client.key: it contains no certificate (PEM)"),
        ("CERT", "nothing.pem", "nothing.pem: No such file or directory"),
        ("CERT", "client.key", "client.key: it contains no certificate (PEM)"),
        ("KEY", "nothing.key", "nothing.key: No such file or directory"),
        ("KEY", "ca.pem", "ca.pem: it contains no private key (PEM)"),
        (
            "KEY",
            "stranger.key",
            "stranger.key: it is not the key of the certificate in VOIPEX_KAFKA_SSL_CERT_FILE",
        ),
    ],
)
def test_an_unusable_certificate_file_is_named_with_its_setting(
    setting: str, file: str, words: str, secure: SecureKafka
) -> None:
    variable = f"VOIPEX_KAFKA_SSL_{setting}_FILE"

    compared = run_command(secure.by_certificate(**{variable: secure.file(file)}), "topics", "check")

    assert compared.code == 1
    assert f"the certificate files cannot be used: {variable}=" in compared.err
    assert words in compared.err
