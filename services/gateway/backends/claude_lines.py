"""What the lines mean that `claude -p --output-format stream-json` writes: events of the API, then a result."""

from collections.abc import Sequence

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import StopReason, Usage
from services.gateway.backends import failures
from services.gateway.backends.base import BackendFailure, Finish, Piece, Started, TextDelta
from services.gateway.backends.dialects.anthropic import AnthropicReader
from services.gateway.backends.dialects.frames import Frame
from services.gateway.backends.dialects.values import count_in, object_in, parsed, text_in


class ClaudeLines:
    """Reads the lines of one answer. It is whole when a line of type `result` says that it succeeded."""

    def __init__(self) -> None:
        self._events = AnthropicReader(raw=False)
        self._finish: Finish | None = None
        self._started = False
        self._spoke = False
        self._trouble = ""
        self.whole = False

    def read(self, frame: Frame) -> Sequence[Piece]:
        try:
            return self._pieces(parsed(frame.data))
        except ValueError:
            raise failures.bad_chunk() from None

    def _pieces(self, line: JsonObject) -> Sequence[Piece]:
        match text_in(line, "type"):
            case "stream_event":
                return [self._event(object_in(line, "event"))]
            case "system" if line.get("subtype") == "init" and (line.get("tools") or line.get("mcp_servers")):
                raise BackendFailure("was ended: told to have no tools, it has some; update it")
            case "assistant":
                # A message of its own in place of the model's, such as that nobody is logged in.
                self._trouble = failures.kind_of({"type": line.get("error")}) or self._trouble
            case "result":
                return self._result(line)
        return [Piece(None)]

    def _event(self, event: JsonObject) -> Piece:
        delta = self._events.delta(event)
        match delta:
            case Finish():
                # A message ends; the answer ends with the result, which also knows how it went.
                self._finish = delta
                return Piece(None)
            case Started() if self._started:
                return Piece(None)
            case Started():
                self._started = True
            case TextDelta():
                self._spoke = True
        return Piece(delta)

    def _result(self, line: JsonObject) -> Sequence[Piece]:
        if line.get("is_error") or text_in(line, "subtype") != "success":
            raise self._failed(line)
        self.whole = True
        usage = object_in(line, "usage")
        counted = Usage(
            input_tokens=_sum(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
            output_tokens=count_in(usage, "output_tokens"),
        )
        reason = self._finish.reason if self._finish else StopReason.END
        end = Piece(Finish(reason, counted if usage else self._finish.usage if self._finish else None))
        whole = text_in(line, "result")
        # A binary that writes no partial messages still says all of it here.
        return [end] if self._spoke or not whole else [Piece(TextDelta(whole)), end]

    def _failed(self, line: JsonObject) -> BackendFailure:
        status = count_in(line, "api_error_status")
        known = status if status is not None and 400 <= status <= 599 else None
        kind = self._trouble or failures.kind_of({"type": line.get("subtype")})
        if self._trouble == "authentication_failed" or known == 401:
            return BackendFailure("is not logged in: run `claude` there once", status=401, moves_on=False)
        if known is None and self._trouble == "rate_limit":
            known = 429
        told = " ".join(filter(None, (str(known or ""), f"({kind})" if kind and kind != "success" else "")))
        return BackendFailure(f"reported an error {told}".rstrip(), status=known, moves_on=known not in failures.STAYS)


def _sum(usage: JsonObject, *keys: str) -> int | None:
    counts = [count for key in keys if (count := count_in(usage, key)) is not None]
    return sum(counts) if counts else None
