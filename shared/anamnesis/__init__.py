"""Anamnesis: what its services share. Each package owns one noun; see the README's tree."""

__version__ = "0.1.0"
