"""What both dialects' requests come to: a conversation, and what of the request it could not hold."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from anamnesis.contracts.base import JsonObject
from anamnesis.kit.errors import BadRequest
from services.gateway.backends.base import Ask

M = TypeVar("M", bound=BaseModel)

MAX_LEFT_OUT = 20  # names that a header or a message lists


class Foreign(BaseModel):
    """A shape of another house: what we translate is typed, what else it holds is kept to be named."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def others(self, *harmless: str) -> list[str]:
        """Fields beyond the typed ones that say something; `harmless` ones excepted."""
        return [name for name, value in (self.model_extra or {}).items() if value is not None and name not in harmless]


Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""What names a call of a tool; servers choose it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a surface, understood."""

    ask: Ask
    model: str
    """The name that it gives; see `naming`."""
    stream: bool
    memory: bool
    untranslated: tuple[str, ...] = ()
    """What only a backend of the same dialect can be asked: its answer would be another one without."""
    left_out: tuple[str, ...] = ()
    """What a backend of another dialect does without, and whose answer is of the same kind: effort, caching, labels."""


class Leftovers:
    """Gathers what the neutral form cannot hold while a request is translated."""

    def __init__(self) -> None:
        self._untranslated: dict[str, None] = {}
        self._left_out: dict[str, None] = {}

    def refuse(self, what: str) -> None:
        self._untranslated[what] = None

    def leave(self, what: str) -> None:
        self._left_out[what] = None

    @property
    def untranslated(self) -> tuple[str, ...]:
        return tuple(self._untranslated)

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(self._left_out)


def body_of(content: bytes) -> JsonObject:
    """The JSON object of a request's body. Raises `BadRequest`."""
    try:
        value: JsonValue = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def read(shape: type[M], body: JsonObject) -> M:
    """A body as its shape. Raises `BadRequest` that says where it does not fit, and never quotes it."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        why = problem["msg"].removeprefix("Value error, ")
        raise BadRequest(f"{_path(problem['loc'])}: {why}{more}") from None


def _path(loc: tuple[int | str, ...]) -> str:
    """`messages[2].content[0].text`; the names that tell variants apart (`type=text`) are left out."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif "=" not in step:
            path += f".{step}" if path else step
    return path or "the body"


def told_apart(field: str, *kinds: str) -> Discriminator:
    """Variants by a field: tagged `<field>=<kind>`, those that we do not know `<field>=other`."""

    def tag(value: Any) -> str:
        kind = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return f"{field}={kind if kind in kinds else 'other'}"

    return Discriminator(tag)


def _as_parts(value: Any) -> Any:
    if value is None:
        return []
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


AsParts = BeforeValidator(_as_parts)
"""Content that may be a plain string, or nothing: always a list of parts."""


def one_or_many(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def arguments_of(text: str) -> JsonObject | None:
    """The arguments of a tool call; none where the model wrote no JSON object."""
    try:
        value: JsonValue = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def bounded(names: tuple[str, ...]) -> str:
    """Names for a message or a header, comma-separated."""
    return ", ".join(names[:MAX_LEFT_OUT]) + (", …" if len(names) > MAX_LEFT_OUT else "")
