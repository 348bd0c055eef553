"""What can be set about the `anamnesis` command, and where it finds the gateway and a key by itself."""

from pathlib import Path

from pydantic import HttpUrl, SecretStr

from anamnesis import installation
from anamnesis.kit.errors import Unauthorized
from anamnesis.transcripts.settings import ReadingSettings

DEFAULT_URL = "http://127.0.0.1:3010"


class ConsoleSettings(ReadingSettings):
    """Where the command finds the gateway, and how it reads transcripts."""

    url: HttpUrl | None = None
    """Address of the gateway; none = that of the services on this machine, else http://127.0.0.1:3010."""
    api_key: SecretStr | None = None
    """The API key; none = the one in `api.key` of the data directory."""


def gateway(settings: ConsoleSettings) -> str:
    """As set, else as the services on this machine have written it down, else the usual address."""
    if settings.url is not None:
        return str(settings.url)
    return (_line(settings.data / "address") if installation.held(settings.data) else "") or DEFAULT_URL


def key(settings: ConsoleSettings) -> SecretStr:
    """As set, else as memory has left it for its owner, or as `./deploy.sh up` has put it in `.env` here.

    Of the two, that of what runs comes first: `api.key` stays when the services on this machine have stopped.
    Nothing but the key is taken from an `.env`: a directory that one happens to be in must not say where it is sent.
    """
    if settings.api_key is not None:
        return settings.api_key
    kept, here = _line(settings.data / "api.key"), _from_env_file(Path(".env"))
    found = (kept or here) if installation.held(settings.data) else (here or kept)
    if not found:
        raise Unauthorized(
            f"no API key: there is none in {settings.data / 'api.key'}. Start Anamnesis on this machine first "
            "(./deploy.sh local), or give the key as --key or ANAMNESIS_API_KEY"
        )
    return SecretStr(found)


def _line(path: Path) -> str:
    try:
        return path.read_text()[:1000].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _from_env_file(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    values = [line.partition("=")[2].strip() for line in lines if line.startswith("ANAMNESIS_API_KEY=")]
    return values[-1].strip("'\"") if values else ""
