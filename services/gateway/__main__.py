"""`python -m services.gateway`: run the gateway."""

from anamnesis.kit import logs
from anamnesis.kit.server import serve
from anamnesis.kit.settings import load
from services.gateway.app import build
from services.gateway.settings import GatewaySettings

CONNECTIONS = 8192  # pages that listen to events hold one each, and cost little
STOP_WITHIN = 8  # seconds that answers under way may take to end by themselves; what is kept of a chat comes after it


def main() -> None:
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level, settings.log_json)
    serve(build(settings), settings.host, settings.gateway_port, STOP_WITHIN, CONNECTIONS)


if __name__ == "__main__":
    main()
