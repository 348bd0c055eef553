"""Small backends that do what a test says, step by step, and remember how they were used."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends.base import (
    Ask,
    Backend,
    BackendFailure,
    Dialect,
    Endpoint,
    Finish,
    Message,
    Piece,
    Started,
    Text,
    TextDelta,
)

ASK = Ask((Message("user", (Text("hello"),)),))
ROLE = Piece(None, b"role")
PING = Piece(None, b"ping")
STARTED = Piece(Started("m-1"))
END = Piece(Finish(StopReason.END, Usage(input_tokens=1, output_tokens=2)))


def words(*texts: str) -> tuple[Piece, ...]:
    return tuple(Piece(TextDelta(text)) for text in texts)


class Stall:
    """Nothing more comes."""


Step = Piece | Exception | Stall | asyncio.Event
"""A piece, a failure, silence, or silence until a test sets the event."""


@dataclass
class Fake:
    """Endpoint NUMBER plays `plays[NUMBER]`: each time the next script, the last one for ever."""

    name: str
    plays: Sequence[Sequence[Sequence[Step]]]
    missing: str | None = None
    refuses: str | None = None
    dialect: Dialect | None = None
    asks: list[tuple[str, str | None]] = field(default_factory=list)
    """The endpoint and the model, for each time that it was asked."""
    under_way: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a script comes to a step that waits."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return [Endpoint(f"{self.name}-{at}", f"http://{self.name}-{at}") for at in range(len(self.plays))]

    def cannot(self, ask: Ask) -> str | None:
        return self.refuses

    async def models(self) -> Sequence[str]:
        return ["m-1"]

    async def answer(self, ask: Ask, endpoint: Endpoint) -> AsyncGenerator[Piece, None]:
        scripts = self.plays[int(endpoint.name.rsplit("-", 1)[1])]
        times = sum(name == endpoint.name for name, _ in self.asks)
        self.asks.append((endpoint.name, ask.model))
        self.under_way += 1
        try:
            for step in scripts[min(times, len(scripts) - 1)]:
                match step:
                    case Exception():
                        raise step
                    case Stall():
                        self.reached.set()
                        await asyncio.Event().wait()
                    case asyncio.Event():
                        self.reached.set()
                        await step.wait()
                    case _:
                        yield step
        finally:
            self.under_way -= 1

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def one(name: str, *steps: Step) -> Fake:
    """A backend of one endpoint that always does the same."""
    return Fake(name, [[steps]])


def failure(status: int | None = None, *, moves_on: bool = True, retry_after: float | None = None) -> BackendFailure:
    return BackendFailure(f"answered {status}", status=status, moves_on=moves_on, retry_after=retry_after)


def _is_a_backend(fake: Fake) -> Backend:
    return fake
