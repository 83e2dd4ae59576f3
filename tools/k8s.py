"""
Generates Kubernetes manifests from other parts of the repository: topics, users with their ACLs, alert rules, the dashboard.

    python -m tools.k8s write                   the files of the components, for the PBX `voipex`
    python -m tools.k8s check                   exit 1, naming the files, if they differ from their sources
    python -m tools.k8s strimzi voipex brno     print topics and users of these PBXs, for an overlay of your own

kustomize reads no files outside its folder and cannot put a file into a field of a custom resource, hence these generated copies.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from bridge.settings import Settings
from consumers import settings as consumer_settings
from consumers.service import SERVICES
from tools import generated
from voipex.topics import (
    AGENT_EVENTS,
    AGENT_STATUS,
    CALL_TIMELINES,
    DEAD_LETTERS,
    DEFAULT_PARTITIONS,
    WRITTEN,
    Topic,
    TopicSpec,
    topics_for,
)

_DEPLOY: Final = Path(__file__).parents[1] / "deploy"
COMPONENTS: Final = _DEPLOY / "k8s" / "components"
RULES: Final = _DEPLOY / "prometheus" / "rules.yml"
DASHBOARD: Final = _DEPLOY / "grafana" / "dashboards" / "voipex.json"

STRIMZI: Final = "kafka.strimzi.io/v1"
_CLUSTER: Final = {"strimzi.io/cluster": "kafka", "app.kubernetes.io/part-of": "voipex"}
_PBXS: Final = ("voipex",)

Document = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------------- topics and users


def topics(pbxs: Iterable[str], partitions: int = DEFAULT_PARTITIONS) -> list[Document]:
    """A KafkaTopic for each declared topic, as `topics apply` would make it."""
    return [_topic(each) for each in topics_for(pbxs, partitions)]


def _topic(topic: Topic) -> Document:
    defaults = Settings.model_fields
    return {
        "apiVersion": STRIMZI,
        "kind": "KafkaTopic",
        "metadata": {"name": topic.name, "labels": {**_CLUSTER}},
        "spec": {
            "partitions": topic.partitions,
            "replicas": defaults["topic_replication"].default,
            "config": {
                **topic.config,
                "min.insync.replicas": str(defaults["topic_min_insync"].default),
            },
        },
    }


def users(pbxs: Sequence[str]) -> list[Document]:
    """A KafkaUser for each service, with the rights that it needs and no others."""
    shown = _names(pbxs, (CALL_TIMELINES, AGENT_STATUS, AGENT_EVENTS))
    return [
        _user("voipex-bridge", [_right("topic", name, "Write") for name in _names(pbxs, WRITTEN)]),
        *(_user(f"voipex-{name}", _rights_of(name, pbxs)) for name in SERVICES),
        _user("voipex-board", [_right("topic", name, "Read") for name in shown]),
    ]


def _rights_of(name: str, pbxs: Sequence[str]) -> list[Document]:
    """
    Read and Write include Describe, on groups and transactional ids too. Nothing on the cluster: since Kafka 3.0 a transactional (and so
    idempotent) producer needs Write on its own id only.
    """
    projection = SERVICES[name](consumer_settings.Settings.model_construct(**_defaults()))
    read, written = {*projection.inputs, *projection.repartitioned}, set(projection.outputs)
    only_read, only_written = read - written, written - read
    both = {projection.changelog, *(read & written)}
    return [
        *(_right("topic", each, "Read") for each in _names(pbxs, only_read)),
        *(_right("topic", each, "Write") for each in _names(pbxs, (*only_written, DEAD_LETTERS))),
        *(_right("topic", each, "Read", "Write") for each in _names(pbxs, both)),
        _right("group", f"voipex-{name}", "Read"),
        # One for each partition: voipex-timelines.<pbx>.timelines.<partition>
        _right("transactionalId", f"voipex-{name}.", "Write", pattern="prefix"),
    ]


def _defaults() -> dict[str, Any]:
    return {name: field.default for name, field in consumer_settings.Settings.model_fields.items()}


def _names(pbxs: Iterable[str], kinds: Iterable[TopicSpec]) -> list[str]:
    wanted = set(kinds)
    return [topic.name for topic in topics_for(pbxs) if topic.kind in wanted]


def _right(kind: str, name: str, *operations: str, pattern: str = "literal") -> Document:
    return {
        "resource": {"type": kind, "name": name, "patternType": pattern},
        "operations": list(operations),
    }


def _user(name: str, rights: Sequence[Document]) -> Document:
    return {
        "apiVersion": STRIMZI,
        "kind": "KafkaUser",
        "metadata": {"name": name, "labels": {**_CLUSTER}},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": list(rights)},
        },
    }


# ---------------------------------------------------------------------------------------------------- rules and dashboard


def rules() -> list[Document]:
    """The alert rules as a PrometheusRule."""
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "voipex", "labels": {"app.kubernetes.io/part-of": "voipex"}},
            "spec": yaml.safe_load(RULES.read_text(encoding="utf-8")),
        }
    ]


def dashboard() -> list[Document]:
    """The dashboard, where Grafana's sidecar looks for it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "voipex-dashboard",
                "labels": {"app.kubernetes.io/part-of": "voipex", "grafana_dashboard": "1"},
            },
            "data": {DASHBOARD.name: DASHBOARD.read_text(encoding="utf-8")},
        }
    ]


# ---------------------------------------------------------------------------------------------------- files


class _Dumper(yaml.SafeDumper):
    """Writes shared values in full, long text as a block, lists indented as in the other files."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)  # type: ignore[no-untyped-call]


def _text(dumper: Any, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)  # type: ignore[no-untyped-call]


def rendered(documents: Iterable[Document], sources: str = "") -> str:
    """Return the documents as a file, with a line that names the sources."""
    head = f"# Generated from {sources} by `make contract`.\n" if sources else ""
    text: str = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=10_000, explicit_start=True, allow_unicode=True
    )
    return head + text


def files() -> dict[str, str]:
    """Return every generated file: name relative to deploy/k8s/components -> text."""
    return {
        "strimzi/topics.yaml": rendered(topics(_PBXS), "voipex/topics.py"),
        "strimzi/users.yaml": rendered(users(_PBXS), "voipex/topics.py and the services' inputs and outputs"),
        "monitoring/prometheus-rule.yaml": rendered(rules(), "deploy/prometheus/rules.yml"),
        "monitoring/dashboard.yaml": rendered(dashboard(), "deploy/grafana/dashboards/voipex.json"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.k8s", description="Made manifests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="write the files of the components")
    commands.add_parser("check", help="exit 1 when they are not what their sources say")
    printed = commands.add_parser("strimzi", help="print topics and users of some PBXs")
    printed.add_argument("pbxs", nargs="+", metavar="PBX")
    printed.add_argument("--partitions", type=int, default=DEFAULT_PARTITIONS)
    options = parser.parse_args(arguments)
    if options.command == "write":
        generated.write(COMPONENTS, files())
        return 0
    if options.command == "strimzi":
        sys.stdout.write(rendered([*topics(options.pbxs, options.partitions), *users(options.pbxs)]))
        return 0
    wrong = generated.drifted(COMPONENTS, files())
    for name in wrong:
        sys.stderr.write(f"deploy/k8s/components/{name} is not what its source says: run `make contract`\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
