"""A conversation as one text, for who takes nothing but text: said by whom, and nothing in it that acts."""

import re

from services.gateway.backends.base import Ask, Message

OPENING = "This is our conversation so far, the oldest first. Answer the last message, as the assistant."
MARK = "\u2060"
"""Word joiner: not seen, and read over; keeps a sign from meaning something to the program."""

_TURN = re.compile(r"<(?=/?turn\b)", re.IGNORECASE)
# For a program in JavaScript a byte order mark is a blank.
_MENTION = re.compile("(?<![^\\s\ufeff\"'(\\[{<,;:])@(?=\\S)")
_COMMAND = re.compile("^(?=[\\s\ufeff]*[/!#])")


def spoken(ask: Ask) -> str:
    """What the user says, or the whole conversation where more has been said before.

    Text of a conversation may look like a mark of ours, a command of the program's (`/clear`), or the mention of a
    file (`@/etc/passwd`), which the program would read; all three are made to mean nothing.
    """
    said = [_words(message, ask.memory if index == ask.memory_at else "") for index, message in enumerate(ask.messages)]
    if len(said) == 1:
        text = said[0]
    else:
        turns = [
            f'<turn role="{message.role}">\n{_TURN.sub("&lt;", words)}\n</turn>'
            for message, words in zip(ask.messages, said, strict=True)
        ]
        text = "\n\n".join((OPENING, *turns))
    return _COMMAND.sub(MARK, _MENTION.sub(f"@{MARK}", text))


def _words(message: Message, memory: str) -> str:
    return "\n\n".join(text for text in (memory, message.text) if text)
