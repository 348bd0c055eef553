"""The memory service: the only owner of a database, and of the embedding model that fills it."""
