"""Run all checks: settings, then this host, then Kafka."""

import asyncio
from collections.abc import Iterator

from bridge.ops.doctor import host, kafka
from bridge.ops.doctor.report import SETTINGS_CHECK, Check, Report, skipped
from bridge.ops.doctor.running import BOARD_CHECK, check_board
from bridge.settings import load
from voipex.errors import SettingsInvalid
from voipex.service.running_sandbox import RunningSandbox, find_sandbox
from voipex.service.settings import BoardSettings, unknown_variables, variable_of


def examine(*, offline: bool, now_us: int, board: str | None = None) -> Report:
    """
    Run every check, those of Kafka unless `offline`. `board`: `host:port`, else the usual one. Blocks for some seconds at most, longest when brokers do not answer.

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
                *skipped((*host.CHECKS, BOARD_CHECK, *kafka.CHECKS), "the settings are invalid"),
            )
        )
    checks = [
        *(() if sandbox is None else (Check("sandbox", "ok", str(sandbox)),)),
        *_unknown_settings(),
        *host.check_host(settings, now_us, any_disk=sandbox is not None),
        *check_board(*_board_address(board, sandbox)),
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


def _board_address(given: str | None, sandbox: RunningSandbox | None) -> tuple[str, int]:
    """Return the given address, that of the sandbox, or the default one: VOIPEX_PORT is the bridge's here."""
    if given is not None:
        name, _, port = given.rpartition(":")
        return name, int(port)
    variables = {} if sandbox is None else sandbox.variables.get("board", {})
    fields = BoardSettings.model_fields
    return (
        variables.get(variable_of("host"), fields["host"].default),
        int(variables.get(variable_of("port"), fields["port"].default)),
    )
