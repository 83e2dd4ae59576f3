"""`python -m consumers` is `voipex-consumers`."""

from consumers.cli import main

main()
