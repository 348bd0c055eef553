"""The chat: turns that are answered with memory, kept by the memory service, and remembered as episodes."""
