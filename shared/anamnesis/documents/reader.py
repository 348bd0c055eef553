"""`python -m anamnesis.documents.reader KIND LIMITS...`: one document from standard input, its text as JSON out.

Takes its limits before it looks at the document. Where a system has no such limit (macOS has none on memory) the clock
of whoever started it remains.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable

from anamnesis.documents.document import Document, DocumentKind, DocumentRefused
from anamnesis.documents.limits import Limits


def main() -> None:
    kind = DocumentKind(sys.argv[1])
    seconds, *numbers = sys.argv[2:]
    limits = Limits(float(seconds), *map(int, numbers))
    restrict(limits)
    told: dict[str, object]
    try:
        document = reader(kind)(sys.stdin.buffer.read(), limits)
        told = {
            "title": document.title,
            "sections": document.sections,
            "pages": document.pages,
            "truncated": document.truncated,
        }
    except DocumentRefused as refused:
        told = {"refused": (refused.reason, refused.message)}
    except MemoryError:
        told = {"refused": ("memory", "reading this document takes more memory than it may; split it")}
    except Exception:  # noqa: BLE001 -- parsers of foreign formats fail in every way there is
        told = {"refused": ("broken", "this document is damaged; open it in its program and save it again")}
    sys.stdout.write(json.dumps(told))


def restrict(limits: Limits) -> None:
    """From here on this process writes no file, opens few, and has only so much memory and time."""
    seconds = int(limits.seconds) + 1
    for name, most in (
        ("RLIMIT_AS", limits.memory_bytes),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 64),
    ):
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):
            continue
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def reader(kind: DocumentKind) -> Callable[[bytes, Limits], Document]:
    """Imports one parser alone: a start should be quick."""
    match kind:
        case DocumentKind.DOCX:
            from anamnesis.documents import docx

            return docx.read
        case DocumentKind.PDF:
            from anamnesis.documents import pdf

            return pdf.read
        case _:
            from anamnesis.documents import html

            return html.read


if __name__ == "__main__":
    main()
