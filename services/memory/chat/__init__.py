"""Conversations: kept turn by turn, searched and exported."""
