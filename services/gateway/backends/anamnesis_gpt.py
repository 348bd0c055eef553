"""AnamnesisGPT: the trainers of this platform, which serve their base model and its adapters as OpenAI's dialect."""

from services.gateway.backends.base import Ask, Text
from services.gateway.backends.endpoints import endpoints
from services.gateway.backends.openai import OpenAICompatible
from services.gateway.settings import GatewaySettings

NAME = "anamnesis-gpt"


def anamnesis_gpt(settings: GatewaySettings) -> OpenAICompatible:
    """The backend `anamnesis-gpt`. A trainer knows the key between services, and lists its base model first."""
    return OpenAICompatible(
        NAME,
        endpoints(settings.trainer_urls, "/v1"),
        key=settings.service_key,
        model="",
        connect=settings.chat_connect,
        unset="set TRAINER_URLS to a trainer, such as http://host:3011",
        refuses=_refuses,
    )


def _refuses(ask: Ask) -> str | None:
    """What a trainer generates from is text alone (`contracts.generate`)."""
    if ask.tools:
        return "AnamnesisGPT takes no tools"
    if not all(isinstance(part, Text) for message in ask.messages for part in message.parts):
        return "AnamnesisGPT takes text alone, no images and nothing of tools"
    return None
