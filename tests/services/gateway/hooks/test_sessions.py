"""What is known of an assistant's sessions, and that it stays bounded."""

from services.gateway.hooks.sessions import KEPT_FOR, MAX_PENDING, MAX_SESSIONS, MAX_TEXT, MAX_TOLD, HookSessions


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_belongs_to_who_posts_it() -> None:
    """The same id under another key is another session."""
    sessions = HookSessions()
    sessions.get("ada", "s1").tell("ep_1", "text", "prompt")
    assert "ep_1" in sessions.get("ada", "s1").told
    assert not sessions.get("eve", "s1").told


def test_sessions_are_bounded() -> None:
    """There are never more than so many; those unheard of for longest go first."""
    sessions = HookSessions()
    for number in range(MAX_SESSIONS):
        sessions.get("ada", f"s{number}").project = "shop"
    sessions.get("ada", "s0")
    sessions.get("ada", "one more")
    assert len(sessions) == MAX_SESSIONS
    assert sessions.get("ada", "s0").project == "shop"
    assert sessions.get("ada", "s1").project is None


def test_sessions_are_let_go() -> None:
    """A session without an event for hours is forgotten; one with events stays."""
    clock = Clock()
    sessions = HookSessions(clock=clock)
    sessions.get("ada", "old").project = "shop"
    sessions.get("ada", "live").project = "shop"
    clock.now += KEPT_FOR * 0.9
    sessions.get("ada", "live")
    clock.now += KEPT_FOR * 0.2
    assert sessions.get("ada", "live").project == "shop"
    assert sessions.get("ada", "old").project is None


def test_without_an_id_nothing_is_kept() -> None:
    """Events that name no session share none."""
    sessions = HookSessions()
    sessions.get("ada", "").project = "shop"
    assert sessions.get("ada", "").project is None
    assert len(sessions) == 0


def test_what_was_told_is_bounded() -> None:
    """Of a long session the newest episodes are known, and only so much text of each."""
    session = HookSessions().get("ada", "s1")
    for number in range(MAX_TOLD + 5):
        session.tell(f"ep_{number}", "x" * 100_000, "prompt")
    assert len(session.told) == MAX_TOLD
    assert "ep_4" not in session.told
    assert len(session.pending) == MAX_PENDING
    assert {len(one.text) for one in session.pending.values()} == {MAX_TEXT}
