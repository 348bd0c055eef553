"""Which backends there are: the one place where their names meet their code."""

from collections.abc import Mapping

from services.gateway.backends.anamnesis_gpt import anamnesis_gpt
from services.gateway.backends.base import Backend
from services.gateway.backends.claude import Claude
from services.gateway.backends.claude_cli import ClaudeCli
from services.gateway.backends.ollama import Ollama
from services.gateway.backends.openai import openai
from services.gateway.settings import BackendKind, GatewaySettings


def choose(settings: GatewaySettings, environment: Mapping[str, str]) -> list[Backend]:
    """The backends in the order in which they are asked; those that are not configured say so in `missing`.

    `environment`: that of this process, of which the `claude` binary gets a little.
    """
    return [_backend(kind, settings, environment) for kind in settings.chat_backends]


def _backend(kind: BackendKind, settings: GatewaySettings, environment: Mapping[str, str]) -> Backend:
    match kind:
        case "anamnesis-gpt":
            return anamnesis_gpt(settings)
        case "openai":
            return openai(settings)
        case "ollama":
            return Ollama(settings)
        case "claude":
            return Claude(settings)
        case "claude-cli":
            return ClaudeCli(settings, environment)
