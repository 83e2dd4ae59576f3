"""Run all checks: settings, then this host, then Kafka."""

import asyncio
from collections.abc import Iterator

from bridge.ops.doctor import host, kafka
from bridge.ops.doctor.report import SETTINGS_CHECK, Check, Report, skipped
from bridge.settings import load
from voipex.errors import SettingsInvalid
from voipex.service.running_sandbox import find_sandbox
from voipex.service.settings import unknown_variables


def examine(*, offline: bool, now_us: int) -> Report:
    """
    Run every check, those of Kafka unless `offline`. Blocks for some seconds at most, longest when brokers do not answer.

    Beside a running sandbox its settings are checked, and its spool may be on any disk.
    """
    sandbox = find_sandbox()
    try:
        settings = load(sandbox=None if sandbox is None else sandbox.variables["bridge"])
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
    checks = [
        *(() if sandbox is None else (Check("sandbox", "ok", str(sandbox)),)),
        *_unknown_settings(),
        *host.check_host(settings, now_us, any_disk=sandbox is not None),
    ]
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
