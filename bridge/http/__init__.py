"""The HTTP side of the bridge."""
