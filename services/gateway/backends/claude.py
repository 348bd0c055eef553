"""The Claude API: Anthropic's messages, streamed, with its own dialect passed through as it came."""

from collections.abc import AsyncGenerator, Mapping, Sequence

from anamnesis.contracts.base import JsonObject
from services.gateway.backends.base import Ask, BackendFailure, Dialect, Endpoint, Image, Native, Piece
from services.gateway.backends.dialects.anthropic import AnthropicReader, to_anthropic, with_memory
from services.gateway.backends.dialects.frames import Events
from services.gateway.backends.dialects.values import objects_in
from services.gateway.backends.endpoints import endpoints
from services.gateway.backends.listing import Listing
from services.gateway.backends.upstream import Upstream, names
from services.gateway.settings import GatewaySettings

VERSION = "2023-06-01"
COUNT_WAIT = 30.0  # seconds that counting tokens may take
_PASSED = ("anthropic-version", "anthropic-beta")


class Claude:
    """The backend `claude`."""

    name = "claude"
    dialect = Dialect.ANTHROPIC

    def __init__(self, settings: GatewaySettings) -> None:
        key = settings.claude_api_key
        self.endpoints = endpoints([str(settings.claude_url)])
        self.missing = None if key else "set ANAMNESIS_CLAUDE_API_KEY to a key of the Claude API"
        self._model = settings.claude_model
        self._upstream = Upstream(settings.chat_connect, {"x-api-key": key.get_secret_value()} if key else {})
        self._listing = Listing(self._fetch)

    async def open(self) -> None:
        await self._upstream.open()

    async def close(self) -> None:
        await self._upstream.close()

    def cannot(self, ask: Ask) -> str | None:
        if self._travels(ask):
            return None
        if ask.seed is not None:
            return "the Claude API takes no seed"
        if ask.temperature is not None and ask.temperature > 1:
            return "the Claude API takes no temperature above 1"
        if any(isinstance(part, Image) for one in ask.messages if one.role == "assistant" for part in one.parts):
            return "the Claude API takes no images of the assistant"
        return None

    async def models(self) -> Sequence[str]:
        listed = await self._listing.all(self.endpoints)
        return tuple(dict.fromkeys((self._model, *listed))) if self._model else listed

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        model = ask.model or self._model or await self._listing.first(endpoint)
        native = ask.native if self._travels(ask) else None
        body = with_memory(native, ask) if native is not None else to_anthropic(ask)
        body |= {"model": model, "stream": True}
        pieces = self._upstream.stream(
            f"{endpoint.url}/v1/messages",
            body,
            Events(),
            AnthropicReader(raw=native is not None),
            media="text/event-stream",
            headers=_headers(native),
        )
        try:
            async for piece in pieces:
                yield piece
        except BackendFailure as failure:
            if failure.status == 404:
                self._listing.forget(endpoint)
            raise
        finally:
            await pieces.aclose()

    async def count_tokens(self, native: Native, model: str | None = None) -> JsonObject:
        """What the API answers to `count_tokens`, asked as the client asked. Raises `BackendFailure`.

        `model`: the one to count for; none = the default one.
        """
        (endpoint,) = self.endpoints
        body = native.body | {"model": model or self._model or await self._listing.first(endpoint)}
        url = f"{endpoint.url}/v1/messages/count_tokens"
        return await self._upstream.fetch(url, body, headers=_headers(native), wait=COUNT_WAIT)

    def _travels(self, ask: Ask) -> bool:
        return ask.native is not None and ask.native.dialect is self.dialect

    async def _fetch(self, endpoint: Endpoint, wait: float) -> tuple[str, ...]:
        """The API lists the newest first."""
        listed = await self._upstream.fetch(f"{endpoint.url}/v1/models?limit=100", headers=_headers(None), wait=wait)
        try:
            return names(objects_in(listed, "data"), "id")
        except ValueError:
            raise BackendFailure("answered something else than a list of models") from None


def _headers(native: Native | None) -> Mapping[str, str]:
    """The version of the API and its betas: the client's own where its request travels as it came."""
    given = {name.lower(): value for name, value in (native.headers if native else {}).items()}
    return {"anthropic-version": VERSION} | {name: given[name] for name in _PASSED if name in given}
