"""Generators of what the repository keeps beside the code: reference pages, the contract, Kubernetes manifests."""
