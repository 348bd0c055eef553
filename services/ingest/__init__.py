"""Reads what is mounted for it and pushes it to memory: Claude Code transcripts."""
