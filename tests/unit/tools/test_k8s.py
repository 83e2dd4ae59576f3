"""The Kubernetes manifests match the code: topics, ACLs, settings, ports, probes, commands. `make artefacts` has the tests that need tools."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from bridge.cli import main as bridge_cli
from bridge.settings import Settings
from consumers.cli import main as consumers_cli
from tools import generated, k8s
from voipex.service.management import Readiness, build_management
from voipex.service.settings import SECRETS_DIR_VARIABLE, SETTING_NAMES, BoardSettings, variable_of
from voipex.topics import DEFAULT_PARTITIONS, topics_for

K8S: Final = Path(__file__).parents[3] / "deploy" / "k8s"
MANAGEMENT_PORT, HTTP_PORT = 8081, 8080

Json = Mapping[str, Any]


def documents(folder: str = "") -> list[Json]:
    files = [path for path in sorted((K8S / folder).rglob("*.yaml")) if path.name != "kustomization.yaml"]
    found = [
        each for path in files for each in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    ]
    assert found, f"nothing in {folder}"
    return found


def of_kind(kind: str, folder: str = "") -> list[Json]:
    found = [each for each in documents(folder) if each["kind"] == kind]
    assert found, f"no {kind} in {folder}"
    return found


def workloads() -> dict[str, Json]:
    """The workloads of the base, of components/topics and of components/board by name, without patches."""
    return {
        each["metadata"]["name"]: each
        for each in [*documents("base"), *documents("components/topics"), *documents("components/board")]
        if each["kind"] in {"StatefulSet", "Deployment", "Job"}
    }


def pods() -> dict[str, Json]:
    return {name: each["spec"]["template"]["spec"] for name, each in workloads().items()}


def containers() -> dict[str, Json]:
    return {name: pod["containers"][0] for name, pod in pods().items() if len(pod["containers"]) == 1}


def parts(value: Any) -> Iterator[Any]:
    """Yield every value at any depth, keys included."""
    yield value
    for each in [*value.keys(), *value.values()] if isinstance(value, dict) else value or []:
        if isinstance(each, dict | list):
            yield from parts(each)
        else:
            yield each


def variables() -> set[str]:
    """The names of all VOIPEX_ variables in the manifests: set, mounted as a file, or referred to."""
    found: set[str] = set()
    for path in K8S.rglob("*.yaml"):
        for document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            words = (each.partition("=")[0] for each in parts(document) if isinstance(each, str))
            found.update(word for word in words if word.startswith("VOIPEX_") and " " not in word)
    return found


# ---------------------------------------------------------------------------------------------------- generated files


def test_committed_files_are_those_that_are_generated() -> None:
    assert generated.drifted(k8s.COMPONENTS, k8s.files()) == []


@pytest.mark.parametrize(
    "name",
    [
        "strimzi/topics.yaml",
        "strimzi/users.yaml",
        "monitoring/prometheus-rule.yaml",
        "monitoring/dashboard.yaml",
    ],
)
def test_drift_is_found(name: str, tmp_path: Path) -> None:
    generated.write(tmp_path, k8s.files())
    changed = tmp_path / name
    changed.write_text(changed.read_text(encoding="utf-8") + "\n")

    assert generated.drifted(tmp_path, k8s.files()) == [name]


def test_dashboard_and_rules_are_copied_unchanged() -> None:
    """With and without Kubernetes, Prometheus and Grafana get the same."""
    rules, dashboard = of_kind("PrometheusRule"), of_kind("ConfigMap", "components/monitoring")

    assert rules[0]["spec"] == yaml.load(k8s.RULES.read_text(encoding="utf-8"), yaml.CSafeLoader)
    assert dashboard[0]["data"]["voipex.json"] == k8s.DASHBOARD.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- Kafka


def test_strimzi_topics_are_the_declared_topics() -> None:
    settings = Settings.model_fields
    made = {
        each["metadata"]["name"]: (
            each["spec"]["partitions"],
            each["spec"]["replicas"],
            each["spec"]["config"],
        )
        for each in of_kind("KafkaTopic")
    }

    assert made == {
        topic.name: (
            topic.partitions,
            settings["topic_replication"].default,
            {**topic.config, "min.insync.replicas": str(settings["topic_min_insync"].default)},
        )
        for topic in topics_for(["voipex"])
    }


ACLS: Final = {
    "voipex-bridge": {
        "topic voipex.call.events.v1": ["Write"],
        "topic voipex.agent.events.v1": ["Write"],
        "topic voipex.dead-letters.v1": ["Write"],
    },
    "voipex-timelines": {
        "topic voipex.call.events.v1": ["Read"],
        "topic voipex.call.timelines.v1": ["Write"],
        "topic voipex.agent.activity.v1": ["Read", "Write"],
        "topic voipex.call.state.v1": ["Read", "Write"],
        "topic voipex.dead-letters.v1": ["Write"],
        "group voipex-timelines": ["Read"],
        "transactionalId voipex-timelines.*": ["Write"],
    },
    "voipex-agents": {
        "topic voipex.agent.events.v1": ["Read"],
        "topic voipex.agent.activity.v1": ["Read"],
        "topic voipex.agent.status.v1": ["Write"],
        "topic voipex.agent.state.v1": ["Read", "Write"],
        "topic voipex.agent.lines.v1": ["Read", "Write"],
        "topic voipex.dead-letters.v1": ["Write"],
        "group voipex-agents": ["Read"],
        "transactionalId voipex-agents.*": ["Write"],
    },
    "voipex-board": {
        "topic voipex.call.timelines.v1": ["Read"],
        "topic voipex.agent.status.v1": ["Read"],
        "topic voipex.agent.events.v1": ["Read"],
    },
}
"""Spelled out, so that an added ACL shows up in review."""


def test_each_service_has_exactly_the_acls_it_needs() -> None:
    given = {
        user["metadata"]["name"]: {
            f"{acl['resource']['type']} {acl['resource']['name']}"
            + ("*" if acl["resource"]["patternType"] == "prefix" else ""): acl["operations"]
            for acl in user["spec"]["authorization"]["acls"]
        }
        for user in of_kind("KafkaUser")
    }

    assert given == ACLS


def test_topics_and_users_of_several_pbxs_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert k8s.main(["strimzi", "voipex", "brno"]) == 0
    printed = list(yaml.load_all(capsys.readouterr().out, yaml.CSafeLoader))
    names = [each["metadata"]["name"] for each in printed]

    assert names[:-4] == [topic.name for topic in topics_for(["voipex", "brno"])]
    assert names[-4:] == ["voipex-bridge", "voipex-timelines", "voipex-agents", "voipex-board"]
    assert len(printed[-4]["spec"]["authorization"]["acls"]) == 6


def test_each_service_authenticates_as_its_own_user() -> None:
    """SASL user name, password Secret and KEDA's TriggerAuthentication name the KafkaUser of the service."""
    users = {each["metadata"]["name"] for each in of_kind("KafkaUser")}
    patches = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in documents("components/kafka-access")
    }

    assert patches.keys() == users | {"voipex-topics"} == workloads().keys()
    for name, pod in patches.items():
        environment = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"]}
        assert environment["VOIPEX_KAFKA_SASL_USERNAME"] == secrets["kafka-password"] == name
        assert pod["containers"][0]["name"] == containers()[name]["name"]
    for each in of_kind("TriggerAuthentication"):
        assert each["spec"]["secretTargetRef"][0]["name"] == each["metadata"]["name"]
        assert each["metadata"]["name"] in users


def test_no_more_instances_than_partitions_are_started() -> None:
    assert {each["spec"]["maxReplicaCount"] for each in of_kind("ScaledObject")} == {DEFAULT_PARTITIONS}
    assert {each["spec"]["scaleTargetRef"]["name"] for each in of_kind("ScaledObject")} == {
        "voipex-timelines",
        "voipex-agents",
    }


# ---------------------------------------------------------------------------------------------------- settings


def test_every_variable_is_a_setting() -> None:
    """A misspelt variable would leave the default in force."""
    known = {variable_of(name) for name in SETTING_NAMES} | {SECRETS_DIR_VARIABLE}

    assert {
        "VOIPEX_SPOOL_DIR",
        "VOIPEX_STATE_DIR",
        "VOIPEX_KAFKA_SASL_PASSWORD",
        "VOIPEX_PBXS",
    } <= variables()
    assert variables() - known == set()


def test_services_add_no_variables_to_the_pods() -> None:
    """A Service called voipex-bridge puts VOIPEX_BRIDGE_PORT=tcp://… into every pod of the namespace, unless disabled."""
    assert {name: pod["enableServiceLinks"] for name, pod in pods().items()} == dict.fromkeys(pods(), False)


def test_no_credential_is_in_the_manifests() -> None:
    assert [each["metadata"]["name"] for each in documents() if each["kind"] == "Secret"] == []
    assert not any("secretGenerator" in path.read_text(encoding="utf-8") for path in K8S.rglob("*.yaml"))


# ---------------------------------------------------------------------------------------------------- pods


def test_every_command_exists() -> None:
    for name, container in containers().items():
        program, *words = container["command"]
        command: Any = typer.main.get_command(
            {"voipex-bridge": bridge_cli.app, "voipex-consumers": consumers_cli.app}[program]
        )
        first_option = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
        for word in words[:first_option]:
            command = command.get_command(None, word)
            assert command is not None, f"{name}: {' '.join(container['command'])}"
        command.make_context(name, words[first_option:])  # raises at an unknown option or value
        assert not hasattr(command, "commands"), f"{name}: a command of {words[-1]} is missing"
    assert containers().keys() == workloads().keys()


def test_probes_and_scrapes_use_paths_of_the_management_port() -> None:
    management = build_management(lambda: Readiness(True, {}), CollectorRegistry())
    answered = {route.path for route in management.routes if isinstance(route, Route)}
    served = {name: each for name, each in containers().items() if name != "voipex-topics"}

    assert len(served) == 4
    for name, container in served.items():
        probes = {
            probe: (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"])
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert probes == {
            "startupProbe": ("/live", "management"),
            "livenessProbe": ("/live", "management"),
            "readinessProbe": ("/ready", "management"),
        }
        port = BoardSettings.model_fields["port"].default if name == "voipex-board" else MANAGEMENT_PORT
        assert {"name": "management", "containerPort": port} in container["ports"]
    scraped = [each for monitor in of_kind("PodMonitor") for each in monitor["spec"]["podMetricsEndpoints"]]
    assert {(each["path"], each["port"]) for each in scraped} == {("/metrics", "management")}
    assert {"/live", "/ready", "/metrics"} <= answered


def test_the_ports_are_those_that_the_services_open() -> None:
    literals = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text(encoding="utf-8"))[
        "configMapGenerator"
    ][0]["literals"]
    bridge = containers()["voipex-bridge"]

    assert f"VOIPEX_MANAGEMENT_PORT={MANAGEMENT_PORT}" in literals
    assert "VOIPEX_HOST=0.0.0.0" in literals
    assert {"name": "VOIPEX_PORT", "value": str(HTTP_PORT)} in bridge["env"]
    assert {"name": "http", "containerPort": HTTP_PORT} in bridge["ports"]
    ports = {service["metadata"]["name"]: service["spec"]["ports"] for service in of_kind("Service")}
    assert ports.pop("voipex-board") == [{"name": "http", "port": 80, "targetPort": "management"}]
    assert ports
    for each in ports.values():
        assert each == [{"name": "http", "port": HTTP_PORT, "targetPort": "http"}]


def test_the_grace_period_covers_a_drain() -> None:
    """preStop counts too. A shorter period loses nothing, but leaves more to the next start."""
    pod, defaults = pods()["voipex-bridge"], Settings.model_fields
    sleep_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest_s = sleep_s + defaults["request_timeout_s"].default + defaults["drain_s"].default

    assert pod["terminationGracePeriodSeconds"] >= longest_s + 5


def test_spool_volume_outlives_pod_scaling_and_statefulset() -> None:
    bridge = workloads()["voipex-bridge"]["spec"]
    claims = [each["metadata"]["name"] for each in bridge["volumeClaimTemplates"]]
    mounts = {each["name"]: each["mountPath"] for each in containers()["voipex-bridge"]["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in containers()["voipex-bridge"]["env"]}

    assert bridge["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert claims == ["spool"]
    assert Path(environment["VOIPEX_SPOOL_DIR"]).is_relative_to(mounts["spool"])
    assert [each for each in documents() if each["kind"] == "HorizontalPodAutoscaler"] == []


def test_state_is_written_to_a_volume() -> None:
    """The root file system is read-only."""
    for name in ("voipex-timelines", "voipex-agents"):
        container = containers()[name]
        environment = {each["name"]: each["value"] for each in container["env"]}

        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert [each["name"] for each in pods()[name]["volumes"]] == ["state"]
        assert Path(environment["VOIPEX_STATE_DIR"]).is_relative_to(container["volumeMounts"][0]["mountPath"])


def test_every_pod_is_restricted() -> None:
    """Pod Security "restricted", and beyond it a numeric user, a read-only root and no token."""
    assert len(pods()) == 5
    for name, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert containers()[name]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_each_service_has_a_disruption_budget_and_is_spread() -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in of_kind("PodDisruptionBudget")}
    served = {name: each for name, each in workloads().items() if name != "voipex-topics"}

    assert budgets.keys() == served.keys()
    for name, each in served.items():
        labels = each["spec"]["selector"]["matchLabels"]
        assert budgets[name]["maxUnavailable"] == 1
        assert budgets[name]["selector"]["matchLabels"] == labels
        spread = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [(one["topologyKey"], one["labelSelector"]["matchLabels"]) for one in spread] == [
            ("topology.kubernetes.io/zone", labels),
            ("kubernetes.io/hostname", labels),
        ]
