"""Generates docs/settings*.md, docs/http-responses.md and docs/contract from the code: `python -m tools.docs write|check|release`."""
