"""`python -m sandbox` is `voipex-sandbox`."""

from sandbox.cli import main

main()
