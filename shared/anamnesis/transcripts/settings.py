"""How transcripts are read, whoever reads them: the ingest service or the `anamnesis` command."""

import socket

from pydantic import Field, NonNegativeInt

from anamnesis.kit.settings import Settings, StrList
from anamnesis.transcripts.episodes import DEFAULT_RAW
from anamnesis.transcripts.significance import Rules


class ReadingSettings(Settings):
    """What readers of transcripts share."""

    ingest_instance: str = Field(default="", max_length=200)
    """Name of the machine that the transcripts come from, as episodes carry it; none = its host name."""
    ingest_min_said: NonNegativeInt = Rules().min_said
    """Exchanges without a deed in which fewer characters were said are left out."""
    ingest_min_unanswered: NonNegativeInt = Rules().min_unanswered
    """What a user said and nobody answered is kept from so many characters on."""
    ingest_nods: bool = False
    """Keep exchanges of nothing but 'ok', 'thanks' and the like, with a short answer and without a deed."""
    ingest_commands: bool = False
    """Keep slash commands and shell lines that nothing was answered to."""
    ingest_sidechains: bool = True
    """Keep what subagents did as episodes of their own."""
    ingest_exclude_projects: StrList = ()
    """Projects that are not read, as shell patterns (comma-separated)."""
    ingest_max_raw: int = Field(default=DEFAULT_RAW, ge=1_000, le=1_000_000)
    """Characters of an exchange that are kept word for word; of longer ones the middle is left out."""
    redact_entropy: bool = False
    """Also redact words that look random; catches more, and more that is harmless."""

    @property
    def instance(self) -> str:
        return self.ingest_instance.strip() or socket.gethostname() or "localhost"

    @property
    def rules(self) -> Rules:
        return Rules(
            min_said=self.ingest_min_said,
            min_unanswered=self.ingest_min_unanswered,
            nods=not self.ingest_nods,
            commands=not self.ingest_commands,
            sidechains=not self.ingest_sidechains,
            exclude_projects=self.ingest_exclude_projects,
        )
