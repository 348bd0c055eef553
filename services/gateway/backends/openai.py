"""Any endpoint that speaks OpenAI's chat completions: vLLM, llama.cpp, hosted ones."""

from collections.abc import AsyncGenerator, Callable, Sequence

from pydantic import SecretStr
from yarl import URL

from anamnesis.contracts.base import JsonObject
from services.gateway.backends.base import Ask, BackendFailure, Dialect, Endpoint, Image, Piece, ToolResult
from services.gateway.backends.dialects.frames import Events
from services.gateway.backends.dialects.openai import OpenAIReader, to_openai, usage_asked, with_memory
from services.gateway.backends.dialects.values import objects_in
from services.gateway.backends.endpoints import endpoints
from services.gateway.backends.listing import Listing
from services.gateway.backends.upstream import Upstream, names
from services.gateway.settings import GatewaySettings


def openai(settings: GatewaySettings) -> "OpenAICompatible":
    """The backend `openai`: the endpoints that are set, copies of one another."""
    return OpenAICompatible(
        "openai",
        endpoints(settings.openai_urls),
        key=settings.openai_api_key,
        model=settings.openai_model,
        connect=settings.chat_connect,
        unset="set ANAMNESIS_OPENAI_URLS to an OpenAI-compatible endpoint, such as http://host:8000/v1",
    )


def _refuses_nothing(_: Ask) -> str | None:
    return None


class OpenAICompatible:
    """Endpoints of one kind that all speak this dialect."""

    dialect = Dialect.OPENAI

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        *,
        key: SecretStr | None,
        model: str,
        connect: float,
        unset: str,
        refuses: Callable[[Ask], str | None] = _refuses_nothing,
    ) -> None:
        """`model`: the default one, or empty for the first that is listed; `unset`: what to set where there is no
        endpoint; `refuses`: what these endpoints cannot take although the dialect can hold it."""
        self.name = name
        self.endpoints = endpoints
        self.missing = None if endpoints else unset
        self._model = model
        self._refuses = refuses
        self._upstream = Upstream(connect, {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})
        self._listing = Listing(self._fetch)

    async def open(self) -> None:
        await self._upstream.open()

    async def close(self) -> None:
        await self._upstream.close()

    def cannot(self, ask: Ask) -> str | None:
        if refused := self._refuses(ask):
            return refused
        if self._travels(ask):
            return None
        for message in ask.messages:
            for part in message.parts:
                if isinstance(part, Image) and message.role == "assistant":
                    return f"{self.name} takes no images of the assistant"
                if isinstance(part, ToolResult) and any(isinstance(one, Image) for one in part.parts):
                    return f"{self.name} takes no images in what a tool gave back"
        return None

    async def models(self) -> Sequence[str]:
        listed = await self._listing.all(self.endpoints)
        return tuple(dict.fromkeys((self._model, *listed))) if self._model else listed

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        model = ask.model or self._model or await self._listing.first(endpoint)
        native = ask.native if self._travels(ask) else None
        body = with_memory(native, ask) if native is not None else _fitted(to_openai(ask), endpoint)
        reader = OpenAIReader(raw=native is not None, usage=native is None or usage_asked(body))
        options = body.get("stream_options")
        body |= {
            "model": model,
            "stream": True,
            "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True},
        }
        pieces = self._upstream.stream(
            f"{endpoint.url}/chat/completions", body, Events(), reader, media="text/event-stream", headers={}
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

    def _travels(self, ask: Ask) -> bool:
        return ask.native is not None and ask.native.dialect is self.dialect

    async def _fetch(self, endpoint: Endpoint, wait: float) -> tuple[str, ...]:
        listed = await self._upstream.fetch(f"{endpoint.url}/models", wait=wait)
        return names(_data(listed), "id")


def _data(listed: JsonObject) -> list[JsonObject]:
    try:
        return objects_in(listed, "data")
    except ValueError:
        raise BackendFailure("answered something else than a list of models") from None


def _fitted(body: JsonObject, endpoint: Endpoint) -> JsonObject:
    """OpenAI itself wants the bound of an answer under a newer name, which not all of the others know."""
    if "max_tokens" in body and (URL(endpoint.url).host or "").endswith("openai.com"):
        body["max_completion_tokens"] = body.pop("max_tokens")
    return body
