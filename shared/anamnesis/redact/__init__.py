"""Redaction: secrets out of text before it is stored, embedded, logged or sent to a model.

`redact` is pure and linear in the length of the text. It knows the formats of provider keys
(`formats`), private keys (`pem`), passwords in URLs (`urls`), headers and command lines
(`headers`), and values assigned to telling names (`assignments`); `entropy` is an option.
`<private>` blocks are dropped whole. It never logs, and it decides nothing about storage.
"""

from anamnesis.redact.redactor import MARKER, Redacted, redact

__all__ = ["MARKER", "Redacted", "redact"]
