"""Settings of all services in one environment."""

import os

import pytest

from voipex.service.settings import (
    SECRETS_DIR_VARIABLE,
    SETTING_NAMES,
    BridgeSettings,
    ConsumerSettings,
    ServiceSettings,
    unknown_variables,
    variable_of,
)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VOIPEX_")]:
        monkeypatch.delenv(name)


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
    assert subclasses(ServiceSettings) == {ServiceSettings, BridgeSettings, ConsumerSettings}


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
