"""From a question to ranked episodes: text, ranking, recall."""
