"""What was put before an assistant in each of its sessions: so that nothing is told twice, and use can be measured.

Held in memory, bounded in number and time. After a restart an episode may be told once more, and what was told before
it is not measured.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SESSIONS = 500
KEPT_FOR = 6 * 3600.0  # seconds without an event
MAX_TOLD = 200  # episodes of a session that are known to be told; the oldest are told again
MAX_PENDING = 20  # episodes of a session whose use is still open
MAX_TEXT = 3_000  # characters of each that are kept to measure with
PATIENCE = 3  # answers within which an episode may turn out to be of use


@dataclass
class Pending:
    """An episode whose use is still open."""

    text: str
    prompt: str
    answers: int = 0


@dataclass
class HookSession:
    project: str | None = None
    """Of the first event: later ones may come from a directory below."""
    told: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Ids of the episodes in the conversation, the oldest first."""
    pending: OrderedDict[str, Pending] = field(default_factory=OrderedDict)
    compacted: bool = False
    """Whether the beginning of the conversation is gone, and what is remembered of it is news again."""
    prompt: str = ""
    block: str = ""
    """What was told for `prompt`, the last one: the same event sent again gets the same answer."""
    answer: int = 0
    """Hash of the last answer that was measured."""
    at: float = 0.0

    def tell(self, episode_id: str, text: str, prompt: str) -> None:
        self.told[episode_id] = None
        self.told.move_to_end(episode_id)
        self.pending[episode_id] = Pending(text[:MAX_TEXT], prompt)
        while len(self.told) > MAX_TOLD:
            self.told.popitem(last=False)
        while len(self.pending) > MAX_PENDING:
            self.pending.popitem(last=False)

    def compact(self) -> None:
        """The conversation is about to be cut short: what was told is gone with it."""
        self.compacted = True
        self.told.clear()
        self.prompt = self.block = ""


class HookSessions:
    """Sessions by who posts their events and what they are called; those unheard of for long are let go."""

    def __init__(self, bound: int = MAX_SESSIONS, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound = bound
        self._clock = clock
        self._sessions: OrderedDict[tuple[str, str], HookSession] = OrderedDict()

    def get(self, owner: str, session_id: str) -> HookSession:
        """The session, a new one where it is not known; without an id one that nobody sees again."""
        now = self._clock()
        while self._sessions and now - next(iter(self._sessions.values())).at > KEPT_FOR:
            self._sessions.popitem(last=False)
        if not session_id:
            return HookSession()
        key = owner, session_id[:200]
        session = self._sessions.setdefault(key, HookSession())
        session.at = now
        self._sessions.move_to_end(key)
        while len(self._sessions) > self._bound:
            self._sessions.popitem(last=False)
        return session

    def end(self, owner: str, session_id: str) -> HookSession | None:
        """Let a session go; gives it as it stood."""
        return self._sessions.pop((owner, session_id[:200]), None)

    def __len__(self) -> int:
        return len(self._sessions)
