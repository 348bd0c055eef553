"""What can be set about running the services on one machine."""

from pydantic import Field, PositiveFloat, PositiveInt

from anamnesis.kit.settings import Settings


class LocalSettings(Settings):
    """Where the services go and how patient the supervisor is."""

    gateway_port: int = Field(default=3010, ge=1, le=65535)
    """Port of the gateway, the one address for people and programs."""
    memory_port: int = Field(default=3012, ge=1, le=65535)
    """Port of the memory service."""
    ingest_port: int = Field(default=3013, ge=1, le=65535)
    """Port of the ingest service."""
    local_start_within: PositiveFloat = 300.0
    """Seconds that a service may take, when first started, to be ready or to tell of progress (of a download)."""
    local_stop_within: PositiveFloat = 90.0
    """Seconds that a service may take to stop before it is killed."""
    local_log_bytes: PositiveInt = 5_000_000
    """Bytes of a service's log file; the two before it are kept too."""
