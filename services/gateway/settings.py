"""What can be set about the gateway."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, HttpUrl, PositiveFloat, SecretStr
from pydantic_settings import NoDecode

from anamnesis.kit.settings import Settings, StrList, split
from services.gateway.backends.endpoints import endpoint

BackendKind = Literal["anamnesis-gpt", "openai", "ollama", "claude", "claude-cli"]


def _each_once(kinds: tuple[BackendKind, ...]) -> tuple[BackendKind, ...]:
    if len(set(kinds)) < len(kinds):
        raise ValueError("name each backend once")
    return kinds


def _addresses(given: tuple[str, ...]) -> tuple[str, ...]:
    for one in given:
        endpoint(one)
    return given


BackendKinds = Annotated[tuple[BackendKind, ...], NoDecode, BeforeValidator(split), AfterValidator(_each_once)]
Addresses = Annotated[StrList, AfterValidator(_addresses)]
"""Where something answers: `http://host:port` or `label=http://host:port`, separated by commas."""

OWN = ("api", "chat", "dashboard", "health", "hooks", "login", "logout", "mcp", "metrics", "ready", "static", "v1")
"""What the gateway's own paths begin with."""


def _apart(path: str) -> str:
    """With a proxy's path that looks like one of ours, nobody could tell whether the proxy has cut it off."""
    if path.split("/")[1:2] in [[own] for own in OWN]:
        raise ValueError(f"the path may not begin with one of the gateway's own: {', '.join(OWN)}")
    return path


class GatewaySettings(Settings):
    """The gateway's own settings beside the common ones."""

    gateway_port: int = Field(default=3010, ge=0, le=65535)
    """Port of the gateway, the one address for people and programs."""
    gateway_path: Annotated[str, AfterValidator(_apart)] = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """Path under which a reverse proxy shows the gateway, for instance `/anamnesis`; none = at the root of its name."""
    memory_url: HttpUrl = HttpUrl("http://127.0.0.1:3012")
    """Where the memory service answers."""
    ingest_url: HttpUrl = HttpUrl("http://127.0.0.1:3013")
    """Where the ingest service answers."""
    gateway_wait: PositiveFloat = 600.0
    """Seconds that a service may take until its answer begins; embedding a batch on a slow machine takes minutes."""
    gateway_read_wait: PositiveFloat = 60.0
    """The same for what only reads: a GET, a search, the beginning of an export."""
    gateway_idle: PositiveFloat = 60.0
    """Seconds without a byte after which an answer that has begun is given up."""
    gateway_total: PositiveFloat = 900.0
    """Seconds that a request may take in all; export and import have no such bound."""
    gateway_rate: str = Field(default="6000/minute", pattern=r"^\d{1,9}/(second|minute|hour)$")
    """Requests that one API key may make: `6000/minute`; the key between services is exempt."""
    login_days: PositiveFloat = 30.0
    """Days after which a browser has to log in again."""

    trainer_urls: Addresses = Field(
        default=(), validation_alias=AliasChoices("TRAINER_URLS", "NANOGPT_URLS", "ANAMNESIS_TRAINER_URLS")
    )
    """Trainers that serve AnamnesisGPT, as `http://host:3011` or `label=http://host:3011` (comma-separated).

    `NANOGPT_URLS`, the old name, is read too.
    """

    chat_backends: BackendKinds = ("anamnesis-gpt", "openai", "ollama", "claude", "claude-cli")
    """Who is asked in a chat, in order (comma-separated); those that are not configured are passed over."""
    chat_connect: PositiveFloat = 5.0
    """Seconds to reach a backend."""
    chat_first: PositiveFloat = 60.0
    """Seconds until the first piece of an answer, per endpoint."""
    chat_idle: PositiveFloat = 60.0
    """Seconds between two pieces of an answer."""
    chat_total: PositiveFloat = 900.0
    """Seconds that an answer may take in all, failover included."""
    chat_history: int = Field(default=4_000, ge=0, le=1_000_000)
    """Tokens of a session's earlier turns that a model is shown again."""
    recall_top_k: int = Field(default=5, ge=1, le=20)
    """Episodes that may be put before a model."""
    recall_tokens: int = Field(default=1_500, ge=100, le=100_000)
    """Tokens that they may take."""
    recall_wait: PositiveFloat = 3.0
    """Seconds that a turn waits for memory; past it, it goes on without."""
    hook_wait: PositiveFloat = Field(default=1.5, le=30.0)
    """Seconds within which a hook of an assistant is answered, whatever happens."""

    openai_urls: Addresses = ()
    """OpenAI-compatible endpoints with their version: `http://host:8000/v1` (comma-separated)."""
    openai_api_key: SecretStr | None = None
    """The key that they want."""
    openai_model: str = ""
    """The model to ask for; none = the first that they list."""
    ollama_url: HttpUrl | None = None
    """Where Ollama answers, for instance http://127.0.0.1:11434."""
    ollama_model: str = ""
    """The model to ask for; none = the first that it lists."""
    claude_api_key: SecretStr | None = None
    """A key of the Claude API."""
    claude_url: HttpUrl = HttpUrl("https://api.anthropic.com")
    """Where the Claude API answers."""
    claude_model: str = ""
    """The model to ask for; none = the newest that it lists."""
    claude_cli: str = ""
    """The `claude` binary for chats over its subscription: a path, or `claude` to find it on PATH; none = not used."""
    claude_cli_model: str = ""
    """The model that it is told to use; none = its own default."""
    claude_ssh: str = Field(default="", pattern=r"^([A-Za-z0-9._-]+@[A-Za-z0-9.:_-]+)?$")
    """`user@host` where the binary is run through SSH; none = on this machine."""
    claude_ssh_key: Path | None = None
    """The private key for it; only this service needs to read it."""
    claude_ssh_known_hosts: Path | None = None
    """A known_hosts file that pins the host's key; without one the host is not spoken to."""
