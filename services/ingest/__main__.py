"""`python -m services.ingest`: run the ingest service."""

from anamnesis.kit import logs
from anamnesis.kit.server import serve
from anamnesis.kit.settings import load
from services.ingest.app import build
from services.ingest.settings import IngestSettings


def main() -> None:
    settings = load(IngestSettings)
    logs.configure("ingest", settings.log_level, settings.log_json)
    serve(build(settings), settings.host, settings.ingest_port)


if __name__ == "__main__":
    main()
