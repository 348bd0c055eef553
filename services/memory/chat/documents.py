"""How conversations look as documents of a store: their kinds, their keys, and what each key is found by.

    chat-sessions   session                          the session
    chat-order      group, time of last turn, session    the session once more, in the order of pages; the groups are
                                                     all sessions, and those of each project
    chat-turns      session, turn                    a turn
    chat-mentions   episode, session, turn           nothing: which turns hold words of an episode
    chat-going      session                          a session whose turns are being deleted

Pure functions; reading and writing belong to `sessions`.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.chat import ChatSession, ChatTurn, Recalled
from services.memory.stores.base import Document, Edit

SESSIONS, ORDER, TURNS, MENTIONS, GOING = "chat-sessions", "chat-order", "chat-turns", "chat-mentions", "chat-going"
SEPARATOR = "\x1f"  # cannot occur in an id
FORGOTTEN = "(forgotten)"
"""What stands where words were that had to go."""
_EVERYTHING = "all"


class Kept(NamedTuple):
    """A turn as it is stored."""

    turn: ChatTurn
    forgotten: bool = False
    """Its words had to go, and whoever still writes it does not bring them back."""


class Words(NamedTuple):
    """What was said in a turn."""

    turn: int
    text: str


def turn_key(session_id: str, turn: int) -> str:
    return f"{session_id}{SEPARATOR}{turn:08d}"


def mention_key(episode_id: str, session_id: str, turn: int) -> str:
    return f"{episode_id}{SEPARATOR}{turn_key(session_id, turn)}"


def mentioned(mention: Document) -> tuple[str, int]:
    """Session and turn of a mention."""
    _, session_id, turn = mention.key.split(SEPARATOR)
    return session_id, int(turn)


def group(project: str | None) -> str:
    """What the keys of a page's sessions begin with; none = of all sessions."""
    name = _EVERYTHING if project is None else f"of-{hashlib.sha256(project.encode()).hexdigest()[:32]}"
    return name + SEPARATOR


def session(document: Document) -> ChatSession:
    return ChatSession.model_validate(document.value)


def session_edits(session_id: str, new: ChatSession | None, old: ChatSession | None, version: int) -> list[Edit]:
    """What changes with a session, from nothing (version 0) or to nothing."""
    value = None if new is None else new.model_dump(mode="json")
    ordered = set() if new is None else _order_keys(new)
    outdated = (set() if old is None else _order_keys(old)) - ordered
    return [
        Edit(SESSIONS, session_id, value, expect=version),
        *(Edit(ORDER, key, value) for key in sorted(ordered)),
        *(Edit(ORDER, key, None) for key in sorted(outdated)),
    ]


def kept(document: Document) -> Kept:
    value = dict(document.value)
    forgotten = bool(value.pop("forgotten", False))
    return Kept(ChatTurn.model_validate(value), forgotten)


def words(document: Document) -> Words:
    """Without reading the rest of the turn, which a search has no use for."""
    value = document.value
    return Words(int(str(value["turn"])), f"{value['asked']}\n{value['answered']}")


def turn_edits(session_id: str, number: int, new: Kept | None, old: Kept | None) -> list[Edit]:
    """What changes with a turn, and with what it mentions."""
    value: JsonObject | None = None
    if new is not None:
        value = new.turn.model_dump(mode="json") | ({"forgotten": True} if new.forgotten else {})
    after, before = mentions(new), mentions(old)
    return [
        Edit(TURNS, turn_key(session_id, number), value),
        *(Edit(MENTIONS, mention_key(one, session_id, number), {}) for one in sorted(after - before)),
        *(Edit(MENTIONS, mention_key(one, session_id, number), None) for one in sorted(before - after)),
    ]


def mentions(one: Kept | None) -> set[str]:
    """The episodes whose words are in a turn: those that it shows, and the one that it became."""
    if one is None or one.forgotten:
        return set()
    shown = {recalled.episode_id for recalled in one.turn.recalled if recalled.summary != FORGOTTEN}
    return shown | ({one.turn.episode_id} if one.turn.episode_id else set())


def without(one: Kept, episode_ids: Iterable[str]) -> Kept:
    """A turn without the words of these episodes: only their ids stay."""
    gone = set(episode_ids)
    if one.turn.episode_id in gone:
        return blank(one)
    recalled = tuple(_blank_recalled(each) if each.episode_id in gone else each for each in one.turn.recalled)
    return (
        one if recalled == one.turn.recalled else one._replace(turn=one.turn.model_copy(update={"recalled": recalled}))
    )


def blank(one: Kept) -> Kept:
    """A turn without any words."""
    empty = {"asked": FORGOTTEN, "answered": "", "recalled": (), "used": (), "error": None}
    return Kept(one.turn.model_copy(update=empty), forgotten=True)


def title_without(title: str, asked: str) -> str:
    """A title, unless it repeats what was asked, as titles that are made do."""
    words = " ".join(title.rstrip(" .\u2026").split()).casefold()
    return FORGOTTEN if words and words in " ".join(asked.split()).casefold() else title


def _blank_recalled(one: Recalled) -> Recalled:
    return one.model_copy(update={"summary": FORGOTTEN, "project": "", "instance": "", "source": ""})


def _order_keys(one: ChatSession) -> set[str]:
    moment = f"{round(one.updated_at.timestamp() * 1000):015d}"
    groups = [group(None), *([group(one.project)] if one.project is not None else [])]
    return {f"{name}{moment}{SEPARATOR}{one.session_id}" for name in groups}
