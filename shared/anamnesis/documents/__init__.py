"""Documents: the text of .docx, .pdf, .html, .md and .txt, read in a process of its own with limits."""

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused, Section, kind_of
from anamnesis.documents.extract import extract
from anamnesis.documents.limits import Limits
from anamnesis.documents.parts import pieces

__all__ = ["Document", "DocumentKind", "DocumentRefused", "Limits", "Section", "extract", "kind_of", "pieces"]
