"""Settings of all services in one environment."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from voipex.errors import SettingsInvalid
from voipex.kafka.settings import KafkaSettings
from voipex.service.settings import (
    SECRETS_DIR_VARIABLE,
    SETTING_NAMES,
    BoardSettings,
    BridgeSettings,
    ConsumerSettings,
    ServiceSettings,
    load,
    unknown_variables,
    variable_of,
)
from voipex.topics import CALL_STATE, CALL_TIMELINES


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("VOIPEX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))


def faults_of(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings], variables: Mapping[str, str]
) -> list[str]:
    """The faults of settings that consist of these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(f"VOIPEX_{name}", value)
    try:
        load(kind)
    except SettingsInvalid as error:
        return list(error.faults)
    return []


def test_one_environment_may_feed_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spool_dir", "state_dir", "kafka_sasl_password", "log_level"):
        monkeypatch.setenv(variable_of(name), "x")
    for variable in (SECRETS_DIR_VARIABLE, "VOIPEX_SIMULATE_USER"):
        monkeypatch.setenv(variable, "x")

    assert list(unknown_variables()) == []


def test_no_settings_class_is_left_out() -> None:
    def subclasses(kind: type[ServiceSettings]) -> set[type[ServiceSettings]]:
        return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))

    assert {name for each in subclasses(ServiceSettings) for name in each.model_fields} == SETTING_NAMES
    assert subclasses(ServiceSettings) == {ServiceSettings, BridgeSettings, ConsumerSettings, BoardSettings}


@pytest.mark.parametrize(
    ("variable", "warning"),
    [
        ("VOIPEX_STATEDIR", "VOIPEX_STATEDIR is not a setting; did you mean VOIPEX_STATE_DIR?"),
        ("VOIPEX_QQQ", "VOIPEX_QQQ is not a setting"),
    ],
)
def test_unknown_variable_is_reported_with_the_nearest_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, warning: str
) -> None:
    monkeypatch.setenv(variable, "x")
    monkeypatch.setenv("OTHER_STATEDIR", "x")

    assert list(unknown_variables()) == [warning]


# ---------------------------------------------------------------- contradictions

CONTRADICTING = [
    (BridgeSettings, {"PORT": "9000", "MANAGEMENT_PORT": "9000"}, "are both 9000"),
    (
        BridgeSettings,
        {"PORT": "9000", "MANAGEMENT_PORT": "9000", "MANAGEMENT_HOST": "0.0.0.0"},  # noqa: S104
        "are both 9000",
    ),
    (BridgeSettings, {"TLS_CERT_FILE": "x.pem"}, "VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong"),
    (BridgeSettings, {"TLS_KEY_FILE": "x.pem"}, "VOIPEX_TLS_CERT_FILE and VOIPEX_TLS_KEY_FILE belong"),
    (BridgeSettings, {"TOPIC_REPLICATION": "1"}, "VOIPEX_TOPIC_MIN_INSYNC=2 is more than"),
    (BridgeSettings, {"ACCEPTED_STATUS": "204", "ACCEPTED_BODY": "ok"}, "VOIPEX_ACCEPTED_STATUS=204 has no"),
    (ConsumerSettings, {"COMMIT_INTERVAL_MS": "2s", "TRANSACTION_TIMEOUT_S": "2"}, "abort each transaction"),
    (ConsumerSettings, {"TALKING_LIMIT_S": "31d"}, "VOIPEX_TALKING_LIMIT_S is 31d and"),
    (ConsumerSettings, {"WAITING_LIMIT_S": "6h", "CALL_TIMELINES_RETENTION_S": "5h"}, "delete an open call"),
    *(
        (kind, variables, message)
        for kind in (BridgeSettings, ConsumerSettings)
        for variables, message in (
            ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "both are needed"),
            (
                {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "u"},
                "both are needed",
            ),
            ({"KAFKA_SSL_KEY_FILE": "k.pem"}, "VOIPEX_KAFKA_SSL_CERT_FILE is not"),
            ({"KAFKA_SSL_KEY_PASSWORD": "secret"}, "VOIPEX_KAFKA_SSL_CERT_FILE is not"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "variables", "message"), CONTRADICTING)
def test_a_contradiction_is_reported_as_the_only_fault(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings], variables: dict[str, str], message: str
) -> None:
    [fault] = faults_of(monkeypatch, kind, variables)

    assert message in fault
    assert "VOIPEX_" in fault
    assert "secret" not in fault


def test_contradictions_and_invalid_values_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = faults_of(
        monkeypatch,
        BridgeSettings,
        {
            "PORT": "9000",
            "MANAGEMENT_PORT": "9000",
            "TLS_KEY_FILE": "x.pem",
            "DRAIN_S": "soon",
            "TOPIC_REPLICATION": "0",  # contradicts the other setting only by its default
        },
    )

    assert [fault.split("=")[0].split(" ")[0] for fault in faults] == [
        "VOIPEX_DRAIN_S",
        "VOIPEX_TOPIC_REPLICATION",
        "VOIPEX_TLS_CERT_FILE",
        "VOIPEX_PORT",
    ]


def test_equal_ports_on_two_addresses_are_no_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"PORT": "9000", "MANAGEMENT_PORT": "9000", "MANAGEMENT_HOST": "127.0.0.2"}

    assert faults_of(monkeypatch, BridgeSettings, variables) == []


def test_ports_chosen_by_the_system_are_no_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults_of(monkeypatch, BridgeSettings, {"PORT": "0", "MANAGEMENT_PORT": "0"}) == []


# ---------------------------------------------------------------- words of the faults

_VALUES = ("x", "-1", "99999999999999999999", "1.5", "nan", "inf", "x y", "a:b:c", "1e3", "\n")


@pytest.mark.parametrize("kind", [BridgeSettings, ConsumerSettings])
def test_no_fault_has_the_words_of_pydantic(
    monkeypatch: pytest.MonkeyPatch, kind: type[ServiceSettings]
) -> None:
    found = []
    for name, value in itertools.product(kind.model_fields, _VALUES):
        with monkeypatch.context() as patch:
            found += faults_of(patch, kind, {name.upper(): value})

    assert len(found) > 50
    assert [fault for fault in found if "Input" in fault or "should" in fault.partition("Meaning")[0]] == []
    assert all(fault.startswith("VOIPEX_") for fault in found)


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("PORT", "80a0", "VOIPEX_PORT='80a0': not a whole number."),
        ("PORT", "70000", "VOIPEX_PORT='70000': must be at most 65535."),
        ("SPOOL_LIMIT_BYTES", "1K", "VOIPEX_SPOOL_LIMIT_BYTES='1K': must be at least 1M."),
        ("SPOOL_LIMIT_BYTES", "much", "VOIPEX_SPOOL_LIMIT_BYTES='much': not a size, such as 67108864, 64M or 1G."),
        ("DRAIN_S", "30 x", "VOIPEX_DRAIN_S='30 x': not a duration, such as 30, 500ms, 5m, 2h or 30d."),
        ("CALL_EVENTS_RETENTION_S", "1s", "VOIPEX_CALL_EVENTS_RETENTION_S='1s': must be at least 1h."),
        ("ACK", "no", "VOIPEX_ACK='no': must be 'spool' or 'kafka'."),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:b", "VOIPEX_KAFKA_BOOTSTRAP_SERVERS='a:b': 'a:b' is not an address,"),
        ("PBXS", "brno:0", "VOIPEX_PBXS='brno:0': 'brno:0': a topic has 1 to 10000 partitions."),
    ],
)  # fmt: skip
def test_a_fault_says_what_is_wrong_with_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, fault: str
) -> None:
    [found] = faults_of(monkeypatch, BridgeSettings, {variable: value})

    assert found.startswith(fault)
    assert ". Meaning: " in found


# ---------------------------------------------------------------- partitions and retention of topics


def test_a_pbx_may_have_its_own_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_PBXS", "voipex, brno:1")

    loaded = load(BridgeSettings)

    assert loaded.pbxs == ("voipex", "brno")
    assert [loaded.partitions_of(pbx) for pbx in ("voipex", "brno", "other")] == [12, 1, 12]
    assert {(topic.name.partition(".")[0], topic.partitions) for topic in loaded.topics()} == {
        ("voipex", 12),
        ("brno", 1),
    }


def test_a_private_topic_keeps_as_long_as_its_public_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_CALL_TIMELINES_RETENTION_S", "60 d")

    topics = {topic.kind: topic for topic in load(ConsumerSettings).topics()}

    assert topics[CALL_TIMELINES].config["retention.ms"] == str(60 * 86_400_000)
    assert topics[CALL_STATE].config == topics[CALL_TIMELINES].config


@pytest.mark.parametrize("address", ["kafka", "kafka:9092", "a:1, b:2", "[::1]:9092", "10.0.0.1:9092"])
def test_addresses_of_brokers_are_accepted(address: str) -> None:
    assert KafkaSettings(kafka_bootstrap_servers=address).kafka_bootstrap_servers == address
