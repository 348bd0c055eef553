"""The crawler of the ingest service: its configuration in memory's settings, its scans, and what it answers."""
