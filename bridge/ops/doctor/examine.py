"""Run all checks: settings, then this host, then Kafka."""

import asyncio
from collections.abc import Iterator

from bridge.ops.doctor import host, kafka
from bridge.ops.doctor.report import SETTINGS_CHECK, Check, Report, skipped
from bridge.settings import load
from voipex.errors import SettingsInvalid
from voipex.service.settings import unknown_variables


def examine(*, offline: bool, now_us: int) -> Report:
    """Run every check, those of Kafka unless `offline`. Blocks for some seconds at most, longest when brokers do not answer."""
    try:
        settings = load()
    except SettingsInvalid as error:
        return Report(
            (
                *(
                    Check(SETTINGS_CHECK, "error", fault, "docs/settings.md lists all settings")
                    for fault in error.faults
                ),
                *skipped((*host.CHECKS, *kafka.CHECKS), "the settings are invalid"),
            )
        )
    checks = [*_unknown_settings(), *host.check_host(settings, now_us)]
    if offline:
        checks += skipped(kafka.CHECKS, "--offline")
    else:
        checks += asyncio.run(kafka.check_kafka(settings))
    return Report(tuple(checks))


def _unknown_settings() -> Iterator[Check]:
    unknown = tuple(unknown_variables())
    if not unknown:
        yield Check(SETTINGS_CHECK, "ok", "all are valid")
    for line in unknown:
        yield Check(SETTINGS_CHECK, "warning", line, "correct the name or remove the variable")
