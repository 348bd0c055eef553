"""The text and the fields of the episode that stands for several."""

from datetime import UTC, datetime, timedelta

from anamnesis.contracts.episodes import MAX_SUMMARY, MAX_TAGS, Episode, EpisodeSource, Trust
from services.memory.consolidation.made import is_made, made
from services.memory.door import content_hash

BEGAN = datetime(2026, 3, 1, 9, tzinfo=UTC)


def _episode(name: str, day: int = 0, raw: str | None = None, **more: object) -> Episode:
    given = {"summary": f"Saying {name}.", "instance": "laptop", "trust": Trust.USER, **more}
    summary = str(given["summary"])
    return Episode.model_validate(
        {
            "episode_id": name,
            "timestamp": BEGAN + timedelta(days=day),
            "ingested_at": BEGAN,
            "project": "p",
            "raw_exchange": raw,
            "source": EpisodeSource(kind="api"),
            "content_hash": content_hash(summary, raw),
            **given,
        }
    )


def test_it_is_told_by_the_longest_and_says_how_often() -> None:
    """The longest text, of equal ones the newest; the line has the number and the days; the content is its own."""
    short, long, newer = _episode("a", 0, "x"), _episode("b", 3, "xxxx"), _episode("c", 5, "yyyy")
    one = made([short, long, newer], [short, long, newer])
    assert one.summary == "Saying c.\nHappened 3 times from 2026-03-01 to 2026-03-06."
    assert (one.raw_exchange, one.source.uuid) == ("yyyy", "c")
    assert one.content_hash == content_hash(one.summary, "yyyy")
    assert one.content_hash not in {short.content_hash, long.content_hash, newer.content_hash}
    same_day = made([short, _episode("d")], [short, _episode("d")])
    assert same_day.summary.endswith("\nHappened 2 times on 2026-03-01.")
    assert is_made(one)
    assert not is_made(short)


def test_it_has_the_lowest_trust_and_the_earliest_time() -> None:
    """Where words of several hands meet, the least trusted counts, and the text says whose they are."""
    web, user = _episode("a", 4, trust=Trust.WEB, tags=("x", "y")), _episode("b", 2, tags=("y", "z"))
    one = made([user, web], [user, web])
    assert (one.trust, one.timestamp) == (Trust.WEB, user.timestamp)
    assert one.summary.endswith("Told by: user, web.")
    assert one.tags == ("y", "z", "x")
    assert one.consolidated_from == ("b", "a")


def test_it_keeps_a_place_that_all_share() -> None:
    """Of one session it takes the place of the first; of several it has none."""
    first = _episode("a", 0, source=EpisodeSource(kind="x", session="s", position=4, path="/a"))
    second = _episode("b", 1, source=EpisodeSource(kind="x", session="s", position=9, path="/b"))
    one = made([first, second], [first, second])
    assert (one.source.session, one.source.position, one.source.path) == ("s", 4, None)
    other = _episode("c", 2, source=EpisodeSource(kind="x", session="t", position=1))
    assert made([first, other], [first, other]).source.session is None
    assert made([first, other], [first, other]).source.position is None


def test_its_id_follows_from_its_members() -> None:
    """The same members in any order give the same id, another text of one of them gives another."""
    a, b = _episode("a"), _episode("b")
    assert made([a, b], [a, b]).episode_id == made([b, a], [b, a]).episode_id
    changed = _episode("b", summary="Saying something else.")
    assert made([a, b], [a, b]).episode_id != made([a, changed], [a, changed]).episode_id


def test_it_stays_within_the_bounds_of_an_episode() -> None:
    """Full summaries and full tags of its members still make a valid episode, with the line whole."""
    full = [
        _episode(name, summary="word " * (MAX_SUMMARY // 5), tags=tuple(f"{name}{n}" for n in range(MAX_TAGS)))
        for name in "ab"
    ]
    one = Episode.model_validate(made(full, full).model_dump())
    assert len(one.summary) <= MAX_SUMMARY
    assert one.summary.endswith("\nHappened 2 times on 2026-03-01.")
    assert len(one.tags) == MAX_TAGS


def test_what_was_made_before_is_told_by_what_it_was_made_from() -> None:
    """The line counts what happened, not how often it was consolidated, and lines do not pile up."""
    a, b, c = _episode("a", 0), _episode("b", 1, "longest"), _episode("c", 9)
    before = made([a, b], [a, b])
    one = made([before, c], [a, b, c])
    assert one.summary == "Saying b.\nHappened 3 times from 2026-03-01 to 2026-03-10."
    assert one.consolidated_from == ("a", "b", before.episode_id, "c")
