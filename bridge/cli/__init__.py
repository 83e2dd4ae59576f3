"""The command `voipex-bridge`."""
