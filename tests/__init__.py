"""Tests mirror the tree; `contract/` runs one body over all stores, `e2e/` all services on loopback."""
