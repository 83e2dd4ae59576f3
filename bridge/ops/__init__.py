"""Commands for operators: check the installation, inspect and replay dead letters, read a topic."""
