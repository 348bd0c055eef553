"""Runs an app: one uvicorn worker, bounded, quiet, and gone within seconds when told to stop."""

import uvicorn
from fastapi import FastAPI


def serve(app: FastAPI, host: str, port: int, stop_within: int = 20, connections: int = 512) -> None:
    """Serve until SIGTERM or SIGINT; requests under way get `stop_within` seconds to finish."""
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
        h11_max_incomplete_event_size=64 << 10,
    )
