"""Shapes that cross a wire between services and clients, and nothing else.

One module a noun: `episodes`, `embedding`, `ingest`, `keys`, `state`. All models refuse unknown
fields, so a misspelt filter is an error and never a silently wider search.
"""
