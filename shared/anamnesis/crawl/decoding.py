"""Text out of bytes whose encoding nobody has noted down, or the finding that they are no text."""

import codecs

_UTF16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"
_MOST_CONTROLS = 0.002
"""Share of control characters that text may have: a stray form of them is met in logs."""
_MOST_HIGH = 0.3
"""Share of bytes beyond ASCII that text in a Western encoding may have."""


def decode(data: bytes) -> str | None:
    """The text of a file; none where it is binary. Line ends stay as they are."""
    for mark, name in _UTF16:
        if data.startswith(mark) and not data.startswith(_UTF32):
            return _utf16(data[2:], name)
    if b"\0" in data:
        return None
    data = data.removeprefix(codecs.BOM_UTF8)
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > len(data) * _MOST_CONTROLS and controls > 1:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _western(data)


def _utf16(data: bytes, name: str) -> str | None:
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _western(data: bytes) -> str | None:
    """Windows-1252 where it is defined, else Latin-1."""
    high = len(data) - len(data.translate(None, bytes(range(128, 256))))
    if high > len(data) * _MOST_HIGH:
        return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")
