"""Reads what people work with and pushes it to memory: Claude Code transcripts, and files of configured sources."""
