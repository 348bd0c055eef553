"""Summaries that models have written, by the exchange, so that reading all anew costs no new question.

A summary is sealed with its exchange: only who has that can read it. So nothing is left to be read once an exchange has
been forgotten, though the cache knows of no episode.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping

from pydantic import Field, ValidationError

from anamnesis.contracts.base import Contract, JsonObject
from anamnesis.contracts.episodes import Changed
from anamnesis.contracts.state import AllDocuments, Documents, Keys
from anamnesis.contracts.summaries import Summarising
from anamnesis.kit.client import ServiceClient
from services.ingest.summaries.asking import VERSION
from services.ingest.summaries.writers import name_of

PATH = "/api/state/offsets/summaries"
WITHIN = 30.0  # seconds
_NONCE, _CHECK = 16, 8  # bytes


class Known(Contract):
    """What is known of an exchange: its summary, or how often there was none."""

    sealed: str | None = None
    nonce: str = ""
    failed: int = Field(default=0, ge=0)


class Cache:
    """Keeps them in memory's documents."""

    def __init__(self, memory: ServiceClient) -> None:
        self._memory = memory

    async def read(self, by: Summarising, exchanges: Collection[str]) -> Mapping[str, "Known"]:
        """What is known of these exchanges, by exchange. Raises what the client raises."""
        keys = {key(by, raw): raw for raw in exchanges}
        if not keys:
            return {}
        body = Keys(keys=tuple(keys))
        found = await self._memory.request("POST", f"{PATH}/read", AllDocuments, body=body, deadline=WITHIN)
        return {keys[name]: known for name, value in found.documents.items() if (known := _known(value)) is not None}

    async def write(self, by: Summarising, entries: Mapping[str, "Known"]) -> None:
        """By exchange. Raises what the client raises."""
        documents: dict[str, JsonObject] = {
            key(by, raw): known.model_dump(mode="json", exclude_defaults=True) for raw, known in entries.items()
        }
        if documents:
            body = Documents(documents=documents)
            await self._memory.request("PUT", PATH, Changed, body=body, deadline=WITHIN, repeatable=True)


def key(by: Summarising, raw: str) -> str:
    """Names an exchange, the model that is asked about it, and the question."""
    return hashlib.sha256(f"{VERSION}\x00{name_of(by)}\x00{raw}".encode()).hexdigest()[:40]


def seal(summary: str, raw: str) -> Known:
    nonce = os.urandom(_NONCE)
    content = summary.encode()
    content += hashlib.sha256(content).digest()[:_CHECK]
    return Known(sealed=b64encode(_mixed(content, nonce, raw)).decode(), nonce=b64encode(nonce).decode())


def opened(known: Known, raw: str) -> str | None:
    """The summary; none where there is none, or it is another exchange's."""
    if known.sealed is None:
        return None
    try:
        content = _mixed(b64decode(known.sealed, validate=True), b64decode(known.nonce, validate=True), raw)
        text, check = content[:-_CHECK], content[-_CHECK:]
        return text.decode() if hashlib.sha256(text).digest()[:_CHECK] == check else None
    except ValueError:
        return None


def _mixed(content: bytes, nonce: bytes, raw: str) -> bytes:
    stream = hashlib.shake_256(b"anamnesis summary\x00" + nonce + raw.encode()).digest(len(content))
    return bytes(one ^ other for one, other in zip(content, stream, strict=True))


def _known(value: JsonObject) -> Known | None:
    try:
        return Known.model_validate(value)
    except ValidationError:
        return None
