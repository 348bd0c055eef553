"""Hooks of an assistant's program: memory before its prompts, what was of use after them, and never in its way."""
