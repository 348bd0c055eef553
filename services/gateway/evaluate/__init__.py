"""Evaluation: labelled questions put to one's own store under several configurations, and what came of them."""
