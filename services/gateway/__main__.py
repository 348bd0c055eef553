"""`python -m services.gateway`: run the gateway."""

import resource

from anamnesis.kit import logs
from anamnesis.kit.server import serve
from anamnesis.kit.settings import load
from services.gateway.app import build
from services.gateway.settings import GatewaySettings

CONNECTIONS = 12_000
"""Every open page holds one for its events, so there may be more than requests that any service behind is asked."""


def allow(connections: int) -> None:
    """Let the process open as many files as that takes, as far as the machine lets it; the usual bound is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1_000
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    settings = load(GatewaySettings)
    logs.configure("gateway", settings.log_level, settings.log_json)
    allow(CONNECTIONS)
    serve(build(settings), settings.host, settings.gateway_port, connections=CONNECTIONS)


if __name__ == "__main__":
    main()
