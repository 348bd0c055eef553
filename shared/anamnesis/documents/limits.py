"""What reading one document may cost."""

from typing import NamedTuple


class Limits(NamedTuple):
    seconds: float = 60.0
    """Of wall time; of processor time as many."""
    memory_bytes: int = 512 << 20
    """Of address space, Python and its libraries included."""
    characters: int = 5_000_000
    """Of text; what comes after them is left out, and the document is called truncated."""
    pages: int = 5_000
    entries: int = 2_000
    """Files within a .docx."""
    unpacked_bytes: int = 200 << 20
    """Of a .docx, counted while it is unpacked."""
    ratio: int = 200
    """Bytes unpacked for each packed one, where there are more than some megabytes."""
