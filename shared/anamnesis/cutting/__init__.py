"""Cutting: texts into parts that say one thing each, code at definitions and Markdown at headings."""

from anamnesis.cutting.cut import cut
from anamnesis.cutting.piece import Piece

__all__ = ["Piece", "cut"]
