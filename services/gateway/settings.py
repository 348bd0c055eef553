"""What can be set about the gateway."""

from pydantic import Field, HttpUrl, PositiveFloat

from anamnesis.kit.settings import Settings


class GatewaySettings(Settings):
    """The gateway's own settings beside the common ones."""

    gateway_port: int = Field(default=3010, ge=0, le=65535)
    """Port of the gateway, the one address for people and programs."""
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
