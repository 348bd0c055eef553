"""Backends: whoever can answer a conversation, behind one protocol, asked in order until one does."""
