"""Near-duplicates become one episode; nothing is deleted, and it can be undone."""
