"""Documents: the text of .docx, .pdf, .html, .md and .txt, read in a process of its own with limits."""

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused, Section, kind_of

__all__ = ["Document", "DocumentKind", "DocumentRefused", "Section", "kind_of"]
