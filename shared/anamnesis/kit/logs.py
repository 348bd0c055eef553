"""Structured logs on standard error: events with fields, never a secret or the text of an episode."""

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import TextIO

import orjson
import structlog

FORBIDDEN = frozenset(
    {"text", "summary", "raw_exchange", "query", "query_text", "key", "token", "authorization", "body"}
)
"""Field names that would carry content; a log call that uses one is a bug and loses the field."""
LONGEST = 500  # characters of what a library says
_CALL = re.compile(r"\(| <")


def _without_content(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    for name in FORBIDDEN & event.keys():
        event[name] = "(withheld)"
    return event


class _Lines:
    """Writes lines; a full disk behind standard error costs the line, never the request that it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(message + "\n")
            self._stream.flush()

    log = debug = info = warning = warn = error = critical = exception = fatal = msg


class _Libraries(logging.Formatter):
    """Lines of the libraries, in our form; of an error its type and place alone, as its message may quote content."""

    def __init__(self, service: str, json: bool) -> None:
        super().__init__()
        self._service = service
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "event": _said(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "service": self._service,
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            event["error"] = where(error)
        if self._json:
            return orjson.dumps(event).decode()
        return " ".join(f"{name}={value!r}" if name != "event" else str(value) for name, value in event.items())


def _said(record: logging.LogRecord) -> str:
    """What a library says, in one line and without what it shows of others' data.

    asyncio shows whole calls and errors of tasks, and MCP's server what its clients have sent.
    """
    library = record.name.partition(".")[0]
    message = str(record.msg) if library == "mcp" else record.getMessage()
    line = message.partition("\n")[0][:LONGEST]
    return _CALL.split(line, maxsplit=1)[0].rstrip() if library == "asyncio" else line


def configure(service: str, level: str = "info", json: bool = False) -> None:
    """Set up logging of this process; called once, by the service's entry point."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_content,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Libraries(service, json))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def logger() -> structlog.typing.FilteringBoundLogger:
    """The logger that all modules use."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound


def where(error: BaseException) -> str:
    """Type and place of an error, without its message: messages may quote what was being processed."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" at {code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
