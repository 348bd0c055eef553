"""Dialects: pure translation between the neutral conversation and the JSON of OpenAI and Anthropic; no connection."""
