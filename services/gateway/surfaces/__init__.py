"""Surfaces: the dialects that existing clients speak, so that they gain memory by changing a URL."""
