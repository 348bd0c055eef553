"""`python -m services.gateway`: run the gateway."""

from anamnesis.kit import logs
from anamnesis.kit.server import serve
from anamnesis.kit.settings import load
from services.gateway.app import build
from services.gateway.settings import GatewaySettings


def main() -> None:
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level, settings.log_json)
    # Every open page holds one connection for its events, so there may be more than any service behind is asked by.
    serve(build(settings), settings.host, settings.gateway_port, connections=12_000)


if __name__ == "__main__":
    main()
