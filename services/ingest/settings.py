"""What can be set about the ingest service."""

from pydantic import Field, HttpUrl, NonNegativeFloat

from anamnesis.kit.settings import StrList
from anamnesis.transcripts.settings import ReadingSettings


class IngestSettings(ReadingSettings):
    """The ingest service's own settings beside the common ones and those of every reader."""

    ingest_port: int = Field(default=3013, ge=0, le=65535)
    """Port of the ingest service."""
    memory_url: HttpUrl = HttpUrl("http://127.0.0.1:3012")
    """Where the memory service answers."""
    gateway_url: HttpUrl = HttpUrl("http://127.0.0.1:3010")
    """Where the gateway answers: it asks the language models that write summaries."""
    sources: StrList = ("~",)
    """Directories that this service may read (comma-separated); what is configured to be read lies within them."""
    transcript_roots: StrList = ()
    """Directories whose Claude Code transcripts are read (comma-separated), until the dashboard sets others."""
    ingest_poll: NonNegativeFloat = 60.0
    """Seconds between two looks at the transcripts, until the dashboard sets it; 0 = only on request."""
    url_hosts: StrList = ()
    """Hosts that documents may be fetched from (comma-separated); `*.example.com` for all below, `*` for any.
    Private addresses are refused unless they are named here."""
    url_schemes: StrList = ("https",)
    """Schemes of addresses that documents may be fetched from (comma-separated): https, http."""
    document_memory: int = Field(default=512, ge=64, le=16_384)
    """Megabytes that the process which reads one document may take."""
    document_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Seconds that reading one document may take."""
