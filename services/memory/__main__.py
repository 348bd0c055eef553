"""`python -m services.memory`: run the memory service until it is told to stop."""

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from anamnesis.kit.logs import configure
from anamnesis.kit.server import serve
from anamnesis.kit.settings import load
from services.memory.app import build
from services.memory.settings import MemorySettings


def main() -> None:
    settings = load(MemorySettings)
    configure("memory", settings.log_level, settings.log_json)
    # Two threads for one product on cores that others share are slower than one.
    threadpool_limits(1, user_api="blas")
    serve(build(settings), settings.host, settings.memory_port)


if __name__ == "__main__":
    main()
