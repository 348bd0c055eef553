"""`python -m tests.mongo_peer`: mongod and the proxy in one process tree, for a container or a terminal.

With MONGODB_INITDB_ROOT_USERNAME and MONGODB_INITDB_ROOT_PASSWORD (or their `_FILE` forms) set, the server
asks for that user, as the Atlas Local image does; without them there is no authentication.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.mongo_peer import mongod
from tests.mongo_peer.proxy import Proxy


def _secret(name: str) -> str | None:
    file = os.environ.get(f"{name}_FILE")
    return Path(file).read_text().strip() if file else os.environ.get(name) or None


async def serve(arguments: argparse.Namespace) -> int:
    binary = await asyncio.to_thread(mongod.fetch)
    server = mongod.Mongod(
        binary,
        arguments.dbpath,
        cache_gb=arguments.cache_gb,
        username=_secret("MONGODB_INITDB_ROOT_USERNAME"),
        password=_secret("MONGODB_INITDB_ROOT_PASSWORD"),
    )
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await asyncio.to_thread(server.start)
    proxy = Proxy(
        server.port,
        arguments.dbpath / "peer-search-indexes.json",
        pending_seconds=arguments.pending_ms / 1000,
        lag_seconds=arguments.lag_ms / 1000,
        text=arguments.text,
    )
    await proxy.start(arguments.host, arguments.port)
    print(f"ready on {arguments.host}:{proxy.port}", flush=True)
    status = 0
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), 0.2)
        except TimeoutError:
            if server.process is None or server.process.poll() is not None:
                print("mongod has ended", file=sys.stderr, flush=True)
                status = 1
                break
    await proxy.stop()
    await asyncio.to_thread(server.stop)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mongo_peer", description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="fetch and check mongod, print its path, and end")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=27017)
    parser.add_argument("--dbpath", type=Path, default=Path("/data/db"))
    parser.add_argument("--cache-gb", type=float, default=0.25)
    parser.add_argument("--pending-ms", type=int, default=200, help="how long a search index takes to be queryable")
    parser.add_argument("--lag-ms", type=int, default=0, help="how long a write stays hidden from searches")
    parser.add_argument("--text", action="store_true", help="answer $search too")
    arguments = parser.parse_args()
    try:
        if arguments.fetch:
            print(mongod.fetch())
            return 0
        return asyncio.run(serve(arguments))
    except mongod.Missing as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
