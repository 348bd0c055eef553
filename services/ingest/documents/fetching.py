"""Fetches one document from an address: pinned to what its name was resolved to, without redirects, bounded in all."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from anamnesis.documents import kind_of
from anamnesis.kit.errors import AnamnesisError, BadRequest, DeadlineExceeded, TooLarge, Unavailable, UpstreamFailed
from anamnesis.transcripts.episodes import storable
from services.ingest.documents.addresses import Policy, Resolve, Target, addresses

MAX_BYTES = 20 << 20
SECONDS = 30.0
"""For all of one document."""
CONNECT = 5.0
_ENDINGS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/plain": ".txt",
}
_UNTOLD = ("application/octet-stream", "binary/octet-stream", "")
"""Types that say nothing: then the address's own ending counts."""


class Fetched(NamedTuple):
    data: bytes
    name: str
    url: str


class Fetcher:
    """Fetches what the policy allows. `verify` says whose certificates are believed."""

    def __init__(
        self, policy: Policy, resolve: Resolve, verify: ssl.SSLContext | None = None, seconds: float = SECONDS
    ) -> None:
        """`seconds` for all of one document."""
        self._policy = policy
        self._resolve = resolve
        self._verify = verify
        self._seconds = seconds

    async def fetch(self, url: str) -> Fetched:
        """Raises `Forbidden`, `BadRequest`, `TooLarge`, `Unavailable`, `DeadlineExceeded` and `UpstreamFailed`."""
        target = self._policy.check(url)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._from_any(target, await addresses(target, self._resolve))
        except TimeoutError:
            raise DeadlineExceeded(
                f"{target.host} did not give the document within {self._seconds:g} seconds"
            ) from None

    async def _from_any(self, target: Target, found: Sequence[str]) -> Fetched:
        """From the first of the addresses that can be reached."""
        verify: ssl.SSLContext | bool = True if self._verify is None else self._verify
        async with httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._seconds, connect=CONNECT),
        ) as client:
            for address in found:
                try:
                    return await self._once(client, target, address)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
                except httpx.HTTPError as error:
                    raise UpstreamFailed(f"{target.host} broke off ({type(error).__name__})") from None
        raise Unavailable(f"{target.host} cannot be reached, or its certificate is not valid")

    async def _once(self, client: httpx.AsyncClient, target: Target, address: str) -> Fetched:
        request = client.build_request(
            "GET",
            target.url.copy_with(host=address, fragment=None),
            headers={
                "Host": target.url.netloc.decode("ascii"),
                "User-Agent": "Anamnesis",
                "Accept": ", ".join(_ENDINGS),
                "Accept-Encoding": "identity",
            },
            extensions={"sni_hostname": target.host},
        )
        response = await client.send(request, stream=True)
        try:
            name = _checked(target, response)
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > MAX_BYTES:
                    raise _too_large()
            return Fetched(bytes(data), name, str(target.url.copy_with(fragment=None)))
        finally:
            await response.aclose()


def _checked(target: Target, response: httpx.Response) -> str:
    """What the document is called, by its address and its type."""
    headers = response.headers
    if response.is_redirect:
        place = headers.get("location", "")[:300]
        raise BadRequest(f"{target.host} points elsewhere; hand that address in if it is meant: {place}")
    if response.status_code != httpx.codes.OK:
        raise _failed(f"{target.host} answered with {response.status_code}")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise _failed(f"{target.host} compresses what it was asked to give plainly; upload the document instead")
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise _too_large()
    last = storable(target.url.path).rstrip("/").rpartition("/")[2][-150:] or target.host
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    ending = _ENDINGS.get(kind)
    if ending is None:
        if kind in _UNTOLD and kind_of(last) is not None:
            return last
        raise BadRequest(f"{target.host} gave {kind or 'something without a type'}, which is no document to be read")
    same = kind_of(last) is not None and kind_of(last) == kind_of(ending)
    return last if same else last + ending


def _too_large() -> AnamnesisError:
    return TooLarge(f"a document that is fetched may hold at most {MAX_BYTES >> 20} MB")


def _failed(message: str) -> AnamnesisError:
    return UpstreamFailed(message)
