"""`Idempotency-Key`: the same request, sent twice, is done once, and answered twice with the same bytes.

A key belongs to who sent it (the API key's id) and to a path. What happens to a second request with it:

    the first is still under way        409, to be sent again later; it is never done twice at once
    it ended well                       its answer again, with `Idempotency-Replayed: true`
    it failed, or its client left       forgotten: the second is done as if it were the first
    the second has another body         422

Waiting for the first instead of 409 would hold a connection for as long as an answer may take, and clients know 409:
those of OpenAI and Anthropic try again by themselves. Answers are kept in memory, bounded in age, number and size;
one that is too large to keep is forgotten as if it had failed.
"""

import contextlib
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from anamnesis.kit.errors import BadRequest, Busy, Conflict, Invalid

HEADER = "Idempotency-Key"
REPLAYED = (b"idempotency-replayed", b"true")
TTL = 24 * 3600.0  # seconds that an answer is kept
MAX_ANSWERS = 1_000
MAX_BYTES = 64 << 20  # of all answers
MAX_ANSWER = 8 << 20  # bytes of one
OVERHEAD = 200  # bytes that an entry costs beside its frames, about

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Header = tuple[bytes, bytes]
Id = tuple[str, str, str]


class Kept(NamedTuple):
    """An answer as it was sent: a stream as its frames, anything else as one."""

    status: int
    headers: tuple[Header, ...]
    frames: tuple[bytes, ...]

    def response(self) -> Response:
        """It again. In one piece: it is all there, and nobody has to wait for the next."""
        response = Response(b"".join(self.frames), status_code=self.status)
        sized = [one for one in response.raw_headers if one[0] == b"content-length"]
        response.raw_headers = [*self.headers, *sized, REPLAYED]
        return response


@dataclass(eq=False)
class _Entry:
    body: bytes
    """Digest of the request."""
    began: float
    kept: Kept | None = None
    size: int = 0


@dataclass(eq=False)
class Claim:
    """The right to do a request, until `keep` or `drop`; one that is lost, because its request was, is dropped."""

    _store: "Idempotency"
    _id: Id
    _entry: _Entry
    _frames: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, frame: bytes) -> None:
        """A piece of the answer that was sent."""
        self._size += len(frame)
        if self._size <= MAX_ANSWER:
            self._frames.append(frame)
        else:
            self._frames.clear()

    def keep(self, status: int, headers: Sequence[Header]) -> None:
        """The answer ended well."""
        if self._size > MAX_ANSWER:
            return self.drop()
        self._store._keep(self._id, self._entry, Kept(status, tuple(headers), tuple(self._frames)))

    def drop(self) -> None:
        """It did not, or not known to be: the next request with this key is the first. After `keep` it does nothing."""
        self._store._drop(self._id, self._entry)

    def __del__(self) -> None:
        self.drop()


class Idempotency:
    """The answers that are kept, of all paths."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        ttl: float = TTL,
        answers: int = MAX_ANSWERS,
        size: int = MAX_BYTES,
    ) -> None:
        self._clock = clock
        self._ttl = ttl
        self._answers = answers
        self._limit = size
        self._entries: OrderedDict[Id, _Entry] = OrderedDict()
        self._size = 0

    def begin(self, request: Request, body: bytes) -> Claim | Kept | None:
        """None where the request has no key; its answer where it was done already; else the right to do it now.

        `body`: what is asked, in a form that is the same whenever the same is asked. Raises `BadRequest` for a key that
        is none, `Conflict` while it is being done, `Invalid` where the key stands for something else.
        """
        keys = request.headers.getlist(HEADER)
        if not keys:
            return None
        if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
            raise BadRequest(
                f"send one {HEADER} of 1 to 255 printable ASCII characters without blanks, a UUID for instance"
            )
        return self.claim((request.state.identity.key_id, request.url.path, keys[0]), body)

    def claim(self, id: Id, body: bytes) -> Claim | Kept:
        """As `begin`; `id` is the owner's key id, the path and the key."""
        self._forget_old()
        digest = hashlib.sha256(body).digest()
        entry = self._entries.get(id)
        if entry is not None:
            if entry.body != digest:
                raise Invalid(f"this {HEADER} was sent with another request; use a new one for each request")
            if entry.kept is None:
                raise Conflict(f"the request with this {HEADER} is still under way; send it again in a moment")
            return entry.kept
        if len(self._entries) >= self._answers and not self._evict():
            raise Busy(f"too many requests with an {HEADER} are under way; send it again in a moment")
        entry = self._entries[id] = _Entry(digest, self._clock())
        return Claim(self, id, entry)

    def _keep(self, id: Id, entry: _Entry, kept: Kept) -> None:
        if self._entries.get(id) is not entry or entry.kept is not None:
            return
        entry.kept = kept
        entry.size = OVERHEAD + sum(len(name) + len(value) for name, value in kept.headers) + sum(map(len, kept.frames))
        entry.began = self._clock()
        self._entries.move_to_end(id)
        self._size += entry.size
        while self._size > self._limit and self._evict():
            pass

    def _drop(self, id: Id, entry: _Entry) -> None:
        if self._entries.get(id) is entry and entry.kept is None:
            del self._entries[id]

    def _forget_old(self) -> None:
        """Kept answers stand in the order of their ends, so the first that is young enough ends the search."""
        old = self._clock() - self._ttl
        while (first := self._oldest()) is not None and self._entries[first].began <= old:
            self._remove(first)

    def _evict(self) -> bool:
        """Make room by the oldest answer; what is under way is never given up."""
        first = self._oldest()
        if first is not None:
            self._remove(first)
        return first is not None

    def _oldest(self) -> Id | None:
        return next((id for id, entry in self._entries.items() if entry.kept is not None), None)

    def _remove(self, id: Id) -> None:
        self._size -= self._entries.pop(id).size


@contextlib.contextmanager
def claimed(claim: Claim | None) -> Iterator[None]:
    """Gives the right to do a request back, unless its answer has been kept by the end."""
    try:
        yield
    finally:
        if claim is not None:
            claim.drop()
