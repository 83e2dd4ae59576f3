"""The command line `voipex-bridge`."""
