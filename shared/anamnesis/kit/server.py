"""Runs an app: one uvicorn worker, bounded, quiet, and gone within seconds when told to stop."""

import contextlib
import resource

import uvicorn
from fastapi import FastAPI

from anamnesis.kit.wire import BoundedHttp

SPARE_FILES = 256  # file descriptors beside those of connections


def serve(app: FastAPI, host: str, port: int, stop_within: int = 20, connections: int = 512) -> None:
    """Serve until SIGTERM or SIGINT; requests under way get `stop_within` seconds to finish.

    At most so many `connections` at once; the next one gets 503.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + SPARE_FILES  # a request that is passed on has a connection on either side
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # what the system does not give stays its own bound
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        backlog=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=stop_within,
        http=BoundedHttp,
        ws="none",
    )
