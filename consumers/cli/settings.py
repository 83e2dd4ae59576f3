"""The settings of a command."""

import typer

from consumers import settings
from voipex.service.running_sandbox import find_sandbox


def load_settings(service: str) -> settings.Settings:
    """Read the settings of a command: beside a running sandbox those of its *service*, which a line on standard error says."""
    sandbox = find_sandbox()
    if sandbox is not None and sandbox.chosen:
        typer.echo(f"voipex-consumers: {sandbox}", err=True)
    return settings.load(sandbox=None if sandbox is None else sandbox.variables[service])
