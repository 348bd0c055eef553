"""Text to vectors: the known models, the pool of worker processes, and the move from one model to another.

The service's own process never imports torch: models live in workers (`worker`), which `pool` feeds.
"""
