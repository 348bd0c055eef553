"""The `anamnesis` command: a client of the gateway."""
