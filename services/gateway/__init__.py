"""The front door: one address and one origin for everything that Anamnesis does."""
