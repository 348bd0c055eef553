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
    transcript_roots: StrList = ()
    """Directories whose Claude Code transcripts are read (comma-separated); none = only `anamnesis ingest` reads."""
    ingest_poll: NonNegativeFloat = 60.0
    """Seconds between two looks at the transcripts; 0 = only on request."""
