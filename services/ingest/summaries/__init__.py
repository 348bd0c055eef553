"""Summaries by a model: the extractive ones are there at once, and those that profit are replaced later.

`asking` says what a model is asked and whether its answer is one, `writers` ask it through the gateway, `cache` keeps
what was written, `marking` sees to what is pushed, and `passes` go through what waits.
"""
