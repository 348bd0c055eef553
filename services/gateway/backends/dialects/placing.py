"""Where what was recalled goes in a request that travels as it came: before the user's words, as data of the user's."""

from collections.abc import Sequence

from pydantic import JsonValue

from services.gateway.backends.base import Ask, Image, Message, Text


def has_words(message: Message) -> bool:
    """Whether the user says something here, and does not only hand on what a tool gave back."""
    return message.role == "user" and any(isinstance(part, Text | Image) for part in message.parts)


def rank_from_end(users: Sequence[int], ask: Ask) -> int | None:
    """Which of the native messages with the user's words (`users`, their indices) `memory_at` means.

    Counted from the end, as that is where dialects agree: one has tool results within the user's messages, the other
    beside them, and the system's among them or not. None = there is none.
    """
    if not users:
        return None
    later = sum(has_words(message) for message in ask.messages[ask.memory_at + 1 :]) if ask.memory_at >= 0 else 0
    return users[max(0, len(users) - 1 - later)]


def before_words(content: JsonValue, memory: str) -> JsonValue:
    """A message's content with a block of text put before its words, and after what tools gave back."""
    if isinstance(content, list):
        first = next((i for i, part in enumerate(content) if not _is_result(part)), len(content))
        return [*content[:first], {"type": "text", "text": memory}, *content[first:]]
    return f"{memory}\n\n{content}" if isinstance(content, str) and content else memory


def _is_result(part: JsonValue) -> bool:
    return isinstance(part, dict) and str(part.get("type", "")).endswith("tool_result")
