"""`python -m bridge` is `voipex-bridge`."""

from bridge.cli.main import main

main()
