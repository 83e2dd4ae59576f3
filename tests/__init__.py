"""Tests: unit, service (processes), kafka (a real broker), artefacts (images and manifests)."""
