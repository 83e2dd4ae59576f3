"""Generates docs/settings*.md, docs/answers.md and docs/contract from the code: `python -m tools.docs write|check|release`."""
