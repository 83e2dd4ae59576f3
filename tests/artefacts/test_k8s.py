"""
The manifests of deploy/k8s, checked by kustomize, the schemas of Kubernetes and dry runs of a real API server; the ACLs of their users are
checked by a real broker.

Any API server works, a kind cluster too, with the definitions of KEDA (keda.sh) and the Prometheus operator (monitoring.coreos.com).
KUBECONFIG must name it, so that nothing is sent to the current cluster by accident.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from bridge import settings
from consumers.engine.lag import read_lag
from consumers.settings import Settings as ConsumerSettings
from sandbox.broker import LocalKafka
from tests import factories
from tests.artefacts.tools import BUILD, ROOT, passes, run
from tests.processes import BridgeProcess, ConsumerProcess, free_port
from tests.waiting import WITHIN_S, async_eventually, eventually
from voipex.errors import SettingsInvalid
from voipex.kafka.admin import admin_client
from voipex.kafka.settings import KafkaSettings
from voipex.kafka.topics import apply_topics
from voipex.service import settings as environment
from voipex.topics import CALL_EVENTS, topic_name, topics_for

pytestmark = pytest.mark.artefacts

K8S: Final = ROOT / "deploy" / "k8s"
OVERLAYS: Final = sorted(path.name for path in (K8S / "overlays").iterdir())
KUBERNETES: Final = "1.35"
WITHOUT_SCHEMA: Final = ("keda.sh/", "monitoring.coreos.com/", "kafka.strimzi.io/")
"""API groups of other projects: the API server checks the first two, `STRIMZI` the last."""

Json = Mapping[str, Any]


def built(overlay: str) -> str:
    return passes("kubectl", "kustomize", K8S / "overlays" / overlay)


def documents(text: str) -> list[Json]:
    return [each for each in yaml.safe_load_all(text) if each is not None]


def written(name: str, text: str) -> Path:
    path = BUILD / "k8s" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def kustomization(name: str, text: str) -> Path:
    """Write an overlay; `{k8s}` in *text* is the path to deploy/k8s."""
    path = written(f"{name}/kustomization.yaml", "")
    path.write_text(text.format(k8s=os.path.relpath(K8S, path.parent)), encoding="utf-8")
    return path.parent


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"{old!r} is not there: the planted fault would be none"
    return text.replace(old, new)


# ---------------------------------------------------------------------------------------------------- kustomize


def test_there_are_overlays() -> None:
    assert OVERLAYS == ["dev", "prod"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_the_overlay(overlay: str) -> None:
    """Standard error must be empty: kustomize reports unused and deprecated fields there."""
    done = run("kubectl", "kustomize", K8S / "overlays" / overlay)

    assert (done.returncode, done.stderr) == (0, "")
    assert {"voipex-bridge", "voipex-timelines", "voipex-agents"} <= {
        each["metadata"]["name"] for each in documents(done.stdout)
    }


@pytest.mark.parametrize(
    "text",
    [
        "resources: ['{k8s}/base', missing.yaml]\n",
        "resources: ['{k8s}/base']\ncomponents: ['{k8s}/components/none']\n",
        "resources: ['{k8s}/base']\npatches: [{{patch: 'kind: Job\\napiVersion: batch/v1\\nmetadata: {{name: none}}'}}]\n",
        "resources: ['{k8s}/base']\nrescources: []\n",
    ],
    ids=["a missing file", "a missing component", "a patch of nothing", "an unknown field"],
)
def test_a_fault_in_an_overlay_is_found(text: str) -> None:
    assert run("kubectl", "kustomize", kustomization("planted", text)).returncode != 0


def test_without_strimzi_the_topics_job_has_its_own_user() -> None:
    """A combination of components that no overlay has."""
    folder = kustomization(
        "no-strimzi",
        "resources: ['{k8s}/base']\ncomponents: ['{k8s}/components/topics', '{k8s}/components/kafka-access']\n",
    )
    job = next(each for each in documents(passes("kubectl", "kustomize", folder)) if each["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]

    assert [each["secret"]["secretName"] for each in pod["volumes"]] == [
        "voipex-topics",
        "kafka-cluster-ca-cert",
    ]
    assert {"name": "VOIPEX_KAFKA_SASL_USERNAME", "value": "voipex-topics"} in pod["containers"][0]["env"]


# ---------------------------------------------------------------------------------------------------- settings


def variables_of(container: Json, found: list[Json]) -> dict[str, str]:
    maps = {each["metadata"]["name"]: each["data"] for each in found if each["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        variables |= maps[source["configMapRef"]["name"]]
    return variables | {each["name"]: each["value"] for each in container.get("env", [])}


def loaded(workload: Json, found: list[Json], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the settings of a service from the environment and secret files of its pod."""
    pod = workload["spec"]["template"]["spec"]
    container = pod["containers"][0]
    for name in [each for each in os.environ if each.startswith("VOIPEX_")]:
        monkeypatch.delenv(name)
    for name, value in variables_of(container, found).items():
        monkeypatch.setenv(name, value)
    for volume in pod.get("volumes", []):
        for item in volume.get("secret", {}).get("items", []):
            (folder / item["path"]).write_text("a-secret-from-a-file\n")
    monkeypatch.setenv("VOIPEX_SECRETS_DIR", str(folder))
    kind = settings.Settings if container["command"][0] == "voipex-bridge" else ConsumerSettings
    return environment.load(kind)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", ["voipex-bridge", "voipex-timelines", "voipex-agents"])
def test_the_services_accept_their_settings(
    overlay: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = documents(built(overlay))
    workload = next(
        each for each in found if each["metadata"]["name"] == name and "template" in each.get("spec", {})
    )

    mine = loaded(workload, found, tmp_path, monkeypatch)

    assert (mine.host, mine.management_port) == ("0.0.0.0", 8081)  # noqa: S104 - in a pod
    if mine.kafka_security_protocol != "PLAINTEXT":
        assert mine.kafka_sasl_username == name
        assert mine.kafka_sasl_password.get_secret_value() == "a-secret-from-a-file"
    assert list(environment.unknown_variables()) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_spool_fits_on_its_volume(overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full spool is answered with 503, but a full disk is a failure."""
    found = documents(built(overlay))
    bridge = next(each for each in found if each["kind"] == "StatefulSet")
    claim = bridge["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    number, unit = claim[:-2], {"Mi": 2**20, "Gi": 2**30}[claim[-2:]]

    limit = loaded(bridge, found, tmp_path, monkeypatch).spool_limit_bytes

    assert int(number) * unit >= 1.2 * limit


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('VOIPEX_MANAGEMENT_PORT: "8081"', "VOIPEX_MANAGEMENT_PORT: 80a81"),
        ("path: VOIPEX_KAFKA_SASL_PASSWORD", "path: password"),
        ("VOIPEX_KAFKA_SECURITY_PROTOCOL: SASL_SSL", "VOIPEX_KAFKA_SECURITY_PROTOCOL: SASL_TLS"),
    ],
)
def test_an_invalid_setting_is_found(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = documents(replaced(built("prod"), old, new))
    bridge = next(each for each in found if each["kind"] == "StatefulSet")

    with pytest.raises(SettingsInvalid):
        loaded(bridge, found, tmp_path, monkeypatch)


# ---------------------------------------------------------------------------------------------------- network


def selected(text: str) -> dict[str, set[str]]:
    """The pods that each NetworkPolicy selects, by name of the policy."""
    found = documents(text)
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in found
        if "template" in each.get("spec", {})
    }
    return {
        policy["metadata"]["name"]: {
            name
            for name, labels in pods.items()
            if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        }
        for policy in found
        if policy["kind"] == "NetworkPolicy"
    }


EVERYONE: Final = {"voipex-bridge", "voipex-timelines", "voipex-agents"}


def test_each_network_policy_selects_its_pods() -> None:
    """No tool finds a label that does not match, which leaves a pod open or cut off."""
    assert selected(built("prod")) == {
        "voipex-deny": EVERYONE,
        "voipex-from-pbx": {"voipex-bridge"},
        "voipex-from-prometheus": EVERYONE,
        "voipex-to-kafka": EVERYONE,
        "voipex-to-dns": EVERYONE,
    }


def test_a_pod_without_its_label_is_found() -> None:
    text = replaced(
        built("prod"),
        "        app.kubernetes.io/name: voipex-agents\n        app.kubernetes.io/part-of: voipex\n    spec:",
        "        app.kubernetes.io/name: voipex-agents\n    spec:",
    )

    assert "voipex-agents" not in selected(text)["voipex-deny"]


# ---------------------------------------------------------------------------------------------------- schemas


def complaints(text: str, name: str = "judged.yaml") -> list[str]:
    """
    Return the faults that kubernetes-validate finds. An unknown kind, for which it only warns, counts as a fault unless its group is another
    project's.
    """
    done = run("kubernetes-validate", "--strict", "-k", KUBERNETES, written(name, text))
    lines = (done.stdout + done.stderr).splitlines()
    passed = [line for line in lines if line.startswith("INFO ") and " passed for resource " in line]
    foreign = [
        line
        for line in lines
        if line.startswith("WARN ") and any(f"with api version {group}" in line for group in WITHOUT_SCHEMA)
    ]
    faults = [line for line in lines if line not in passed and line not in foreign and line.strip()]
    assert len(passed) + len(foreign) + len(faults) >= len(documents(text)), lines
    return faults if faults or done.returncode == 0 else [f"exit code {done.returncode}"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid_by_the_schemas_of_kubernetes(overlay: str) -> None:
    assert complaints(built(overlay), f"{overlay}.yaml") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  podManagementPolicy:", "  podManagmentPolicy:"),
        ("runAsUser: 10001", "runAsUser: voipex"),
        ("apiVersion: apps/v1\nkind: StatefulSet", "apiVersion: apps/v1beta9\nkind: StatefulSet"),
        ("kind: PodDisruptionBudget", "kind: PodDisruptionBuget"),
    ],
)
def test_a_violation_of_the_schemas_is_found(old: str, new: str) -> None:
    assert complaints(replaced(built("dev"), old, new), "planted.yaml") != []


# ---------------------------------------------------------------------------------------------------- a real API server

NO_SERVER: Final = (
    "an API server is needed: let KUBECONFIG name one that has the definitions of KEDA and of the Prometheus operator, "
    "such as `kind create cluster` with both installed (docs/deploying-kubernetes.md). A dry run changes nothing there."
)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace with Pod Security "restricted", which dry runs need; deleted afterwards."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail(NO_SERVER, pytrace=False)
    asked = run("kubectl", "version", "--request-timeout", "10s")
    assert asked.returncode == 0, f"{NO_SERVER}\n{asked.stderr}"
    name = f"voipex-artefacts-{secrets.token_hex(3)}"
    passes("kubectl", "create", "namespace", name)
    try:
        labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        passes("kubectl", "label", "namespace", name, *labels)
        yield name
    finally:
        passes("kubectl", "delete", "namespace", name, "--wait=false")


def objections(text: str, namespace: str) -> str:
    """Return errors and warnings of the API server, which only warns of a workload whose pods it would reject."""
    manifests = [
        dict(each) for each in documents(text) if not each["apiVersion"].startswith("kafka.strimzi.io/")
    ]
    for each in manifests:
        each["metadata"] = {**each["metadata"], "namespace": namespace}
    done = run(
        "kubectl",
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        text=yaml.safe_dump_all(manifests),
    )
    judged = [line for line in done.stdout.splitlines() if line.endswith("(server dry run)")]
    if done.returncode == 0 and "Warning" not in done.stderr:
        assert len(judged) == len(manifests), done.stdout
        return ""
    return done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_accepts_the_overlay(overlay: str, namespace: str) -> None:
    assert objections(built(overlay), namespace) == ""


@pytest.mark.parametrize(
    ("overlay", "old", "new", "message"),
    [
        ("dev", "runAsNonRoot: true", "runAsNonRoot: false", "would violate PodSecurity"),
        ("dev", "type: RuntimeDefault", "type: Unconfined", "would violate PodSecurity"),
        (
            "dev",
            "            memory: 128Mi",
            "            memory: 1Gi",
            "must be less than or equal to memory limit",
        ),
        ("dev", "containerPort: 8081", "containerPort: 80810", "must be between 1 and 65535"),
        ("prod", "  minReplicaCount:", "  minReplicas:", "unknown field"),
        ("prod", "  podMetricsEndpoints:", "  podMetricEndpoints:", "unknown field"),
        ("prod", "kind: PrometheusRule", "kind: PrometheusRules", "no matches for kind"),
    ],
)
def test_manifests_that_the_api_server_rejects_are_found(
    overlay: str, old: str, new: str, message: str, namespace: str
) -> None:
    assert message in objections(replaced(built(overlay), old, new), namespace) != ""


# ---------------------------------------------------------------------------------------------------- Strimzi

_METADATA: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "required": ["strimzi.io/cluster"]},
    },
    "required": ["name", "labels"],
    "additionalProperties": False,
}


def _resource(kind: str, spec: Json) -> Json:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "kafka.strimzi.io/v1"},
            "kind": {"const": kind},
            "metadata": _METADATA,
            "spec": spec,
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
    }


def _object(**properties: Json) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRIMZI: Final[Mapping[str, Json]] = {
    "KafkaTopic": _resource(
        "KafkaTopic",
        _object(
            partitions={"type": "integer", "minimum": 1},
            replicas={"type": "integer", "minimum": 1, "maximum": 32767},
            config={
                "type": "object",
                "additionalProperties": {"type": ["string", "integer", "boolean", "number"]},
            },
        ),
    ),
    "KafkaUser": _resource(
        "KafkaUser",
        _object(
            authentication=_object(type={"enum": ["tls", "tls-external", "scram-sha-512"]}),
            authorization=_object(
                type={"const": "simple"},
                acls={
                    "type": "array",
                    "minItems": 1,
                    "items": _object(
                        resource=_object(
                            type={"enum": ["topic", "group", "transactionalId"]},
                            name={"type": "string", "minLength": 1},
                            patternType={"enum": ["literal", "prefix"]},
                        ),
                        operations={
                            "type": "array",
                            "minItems": 1,
                            "uniqueItems": True,
                            "items": {
                                "enum": [
                                    *(
                                        "Read",
                                        "Write",
                                        "Create",
                                        "Delete",
                                        "Alter",
                                        "Describe",
                                        "ClusterAction",
                                    ),
                                    *("AlterConfigs", "DescribeConfigs", "IdempotentWrite", "All"),
                                ]
                            },
                        },
                    ),
                },
            ),
        ),
    ),
}
"""The part of Strimzi's API (v1) that is used here, by its reference; the complete definitions are too large to commit."""


def strimzi_faults(found: list[Json]) -> list[str]:
    """Return the faults of all Strimzi resources."""
    return [
        f"{each['metadata']['name']}: {error.json_path} {error.message}"
        for each in found
        if "strimzi" in each["apiVersion"]
        for error in jsonschema.Draft202012Validator(STRIMZI[each["kind"]]).iter_errors(each)
    ]


def test_topics_and_users_are_valid_by_strimzis_api() -> None:
    found = documents(built("prod"))
    topics = [each["metadata"]["name"] for each in found if each["kind"] == "KafkaTopic"]

    assert sorted(topics) == sorted(topic.name for topic in topics_for(["voipex"]))
    assert len([each for each in found if each["kind"] == "KafkaUser"]) == 4
    assert strimzi_faults(found) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  partitions: 12", "  partitions: twelve"),
        ("  partitions: 12", "  partitons: 12"),
        ("patternType: prefix", "patternType: prefixed"),
        ("      - Write\n", "      - Wriite\n"),
        ("    - operations:", "    - operation:"),
        ("kafka.strimzi.io/v1", "kafka.strimzi.io/v1beta2"),
        ("type: scram-sha-512", "type: scram-sha-256"),
    ],
)
def test_a_fault_in_a_topic_or_user_is_found(old: str, new: str) -> None:
    assert strimzi_faults(documents(replaced(built("prod"), old, new))) != []


# ---------------------------------------------------------------------------------------------------- rights

USERS: Final = ("voipex-bridge", "voipex-timelines", "voipex-agents", "voipex-board")
_RESOURCES: Final = {"topic": 2, "group": 3, "transactionalId": 5}
_PATTERNS: Final = {"literal": 3, "prefix": 4}
_OPERATIONS: Final = {"Read": 3, "Write": 4}
_ALLOW: Final = 3

Acl = tuple[int, str, int, str, str, int, int]


def acls() -> dict[str, list[Acl]]:
    """The ACLs that Strimzi's User Operator would create, by user."""
    return {
        user["metadata"]["name"]: [
            (
                _RESOURCES[acl["resource"]["type"]],
                acl["resource"]["name"],
                _PATTERNS[acl["resource"]["patternType"]],
                f"User:{user['metadata']['name']}",
                "*",
                _OPERATIONS[operation],
                _ALLOW,
            )
            for acl in user["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        ]
        for user in documents(built("prod"))
        if user["kind"] == "KafkaUser"
    }


class GuardedKafka:
    """A broker with SCRAM for the users of the manifests, which allows only what an ACL grants."""

    def __init__(self, folder: Path) -> None:
        plain, sasl, controller = free_port(), free_port(), free_port()
        listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}"
        self.sasl = f"127.0.0.1:{sasl}"
        self.broker = LocalKafka(
            folder,
            ROOT / "build" / "kafka-jars",
            port=plain,
            controller_port=controller,
            properties={
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": listeners,
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
                "inter.broker.listener.name": "PLAINTEXT",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "group.initial.rebalance.delay.ms": "0",
                "group.min.session.timeout.ms": "1000",
            },
            format_arguments=[
                argument
                for user in USERS
                for argument in ("--add-scram", f"SCRAM-SHA-512=[name={user},password=secret-of-{user}]")
            ],
        )

    def settings_of(self, user: str | None) -> dict[str, str]:
        if user is None:
            return {"kafka_bootstrap_servers": self.broker.bootstrap_servers}
        return {
            "kafka_bootstrap_servers": self.sasl,
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_username": user,
            "kafka_sasl_password": f"secret-of-{user}",
        }

    def environment_of(self, user: str) -> dict[str, str]:
        return {environment.variable_of(name): value for name, value in self.settings_of(user).items()}

    def administration(self) -> KafkaSettings:
        return KafkaSettings.model_validate(self.settings_of(None))

    def allow(self, acl: Acl, *, given: bool = True) -> None:
        async def ask() -> None:
            async with admin_client(self.administration(), 20) as admin:
                await admin._send_request((CreateAclsRequest if given else DeleteAclsRequest)(*acl))

                async def is_set() -> bool:
                    return bool((await admin._send_request(DescribeAclsRequest(*acl))).resources) is given

                await async_eventually(is_set)

        asyncio.run(ask())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    kafka_ = GuardedKafka(tmp_path_factory.mktemp("guarded"))
    kafka_.broker.prepare()
    kafka_.broker.start()
    try:
        kafka_.broker.wait_ready(WITHIN_S)
        asyncio.run(apply_topics(kafka_.administration(), topics_for(["voipex"], 1), 1, 1))
        for rights in acls().values():
            for right in rights:
                kafka_.allow(right)
        yield kafka_
    finally:
        kafka_.broker.stop()


def records_of(guarded: GuardedKafka, topic: str) -> int:
    async def count() -> int:
        mine = ConsumerSettings.model_validate({**guarded.settings_of(None), "topic_partitions": 1})
        found = await read_lag(mine, "nobody", [each for each in mine.topics() if each.name == topic])
        return sum(each.end for each in found.values())

    return asyncio.run(count())


def test_the_acls_of_the_users_are_sufficient(guarded: GuardedKafka, tmp_path: Path) -> None:
    """A webhook becomes a timeline and a status on a broker that allows nothing else; KEDA reads the lag as the user of the service."""
    bridge = BridgeProcess(
        tmp_path, guarded.sasl, VOIPEX_TOPIC_PARTITIONS="1", **guarded.environment_of("voipex-bridge")
    )
    services = [
        ConsumerProcess(tmp_path, name, guarded.sasl, "voipex", 1, **guarded.environment_of(f"voipex-{name}"))
        for name in ("timelines", "agents")
    ]
    with bridge.start(), services[0].start(), services[1].start():
        for body in (
            factories.body(),
            b'{"EventName":"AgentLogin","Login":"petr.novak","Queue":"NOC"}',
            b"not json",
        ):
            bridge.post(body)
        bridge.await_drained()
        for each in services:
            each.await_ready()
        written = ("call.timelines.v1", "agent.activity.v1", "agent.status.v1", "dead-letters.v1")
        eventually(
            lambda: all(records_of(guarded, f"voipex.{name}") for name in written),
            lambda: [bridge.log(), *(each.log() for each in services)],
            every_s=0.2,
        )
        asked = ConsumerSettings.model_validate(
            {**guarded.settings_of("voipex-timelines"), "topic_partitions": 1}
        )
        read = asyncio.run(
            read_lag(
                asked,
                "voipex-timelines",
                [each for each in asked.topics() if each.name == topic_name("voipex", CALL_EVENTS)],
            )
        )
        assert [each.committed is not None for each in read.values()] == [True]
        logs = [bridge.log(), *(each.log() for each in services)]
    assert [line for log in logs for line in log.splitlines() if '"level":"error"' in line] == []


@pytest.mark.parametrize("taken", ["voipex.call.state.v1", "voipex-timelines", "voipex-timelines."])
def test_a_missing_acl_is_found(taken: str, guarded: GuardedKafka, tmp_path: Path) -> None:
    """Without the ACL the service does not become ready, so the test above would fail."""
    rights = [each for each in acls()["voipex-timelines"] if each[1] == taken]
    assert rights
    for right in rights:
        guarded.allow(right, given=False)
    try:
        service = ConsumerProcess(
            tmp_path, "timelines", guarded.sasl, "voipex", 1, **guarded.environment_of("voipex-timelines")
        )
        refused = rf"denies .* {re.escape(taken)}"
        with service.start():
            eventually(lambda: re.search(refused, service.log()), service.log)
            assert service.ready()[0] == 503
    finally:
        for right in rights:
            guarded.allow(right)
