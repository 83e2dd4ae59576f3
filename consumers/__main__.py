"""`python -m consumers` is `voipex-consumers`."""

from consumers.cli.main import main

main()
