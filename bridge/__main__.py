"""`python -m bridge` is `voipex-bridge`."""

from bridge.cli import main

main()
