"""Crawling: files that people work with, found below roots, read safely, remembered, and kept up to date.

Used by the ingest service for what is mounted there, and by `anamnesis push` on any other machine.
"""
