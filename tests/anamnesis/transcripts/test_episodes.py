"""Exchanges as episodes: names, bounds, and text that every store takes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.episodes import EpisodeCreate
from anamnesis.transcripts.episodes import Maker, Origin, shorten, storable
from anamnesis.transcripts.exchanges import Cutter, Exchange
from anamnesis.transcripts.lines import lines
from anamnesis.transcripts.projects import Projects, basename
from anamnesis.transcripts.wrappers import clean
from tests.anamnesis.timing import assert_linear
from tests.anamnesis.transcripts.writing import Script, encoded

DATA = Path(__file__).parents[4] / "shared" / "data" / "transcripts"
ASKED = "What do we do about the flaky upload test that fails every other night?"


def exchanges(data: bytes) -> list[Exchange]:
    cutter = Cutter()
    return [one for line in lines([data]) for one in cutter.feed(line)] + cutter.open()


def episodes(data: bytes, maker: Maker | None = None) -> list[EpisodeCreate]:
    maker = maker or Maker(Projects(look=False))
    origin = Origin("/t/s.jsonl", "laptop", datetime(2026, 1, 2, tzinfo=UTC))
    return [made.episode for one in exchanges(data) if (made := maker.make(one, origin)).episode is not None]


def test_copies_in_other_sessions_have_the_same_id() -> None:
    """The id comes from the first record alone."""
    script = Script(session="s1")
    script.exchange(ASKED, "So.")
    copy = encoded(*({**record, "sessionId": "s2"} for record in script.records))
    assert [one.episode_id for one in episodes(script.data)] == [one.episode_id for one in episodes(copy)]


def test_made_up_ids_of_different_sessions_do_not_collide() -> None:
    """Short ids ("1", "2") are told apart by their session."""
    script = Script(session="s1")
    script.exchange(ASKED, "So.")
    names = [
        episodes(
            encoded(*({**record, "sessionId": session, "uuid": str(n)} for n, record in enumerate(script.records)))
        )
        for session in ("s1", "s2")
    ]
    assert names[0][0].episode_id != names[1][0].episode_id


@pytest.mark.parametrize("missing", ["timestamp", "sessionId"])
def test_what_is_filled_in_later_does_not_change_the_id(missing: str) -> None:
    """An exchange whose first record says less than the next one keeps its id when it grows."""
    script = Script()
    script.user(ASKED, uuid="u1", **{missing: None})
    before = episodes(script.data)
    script.says("So.")
    after = episodes(script.data)
    assert [one.episode_id for one in before] == [one.episode_id for one in after]
    if missing == "timestamp":
        assert after[0].timestamp == datetime(2026, 3, 1, 9, 0, 2, tzinfo=UTC)


def test_a_turn_without_an_answer_is_the_users_own_word() -> None:
    """Trust is the lowest of the parts: an answer makes it the assistant's."""
    script = Script()
    script.user(ASKED)
    assert episodes(script.data)[0].trust == "user"
    script.says("So.")
    assert episodes(script.data)[0].trust == "assistant"


def test_records_without_time_get_the_files() -> None:
    """Where no record says when, the file's own time stands in; never the time of reading."""
    script = Script()
    script.exchange(ASKED, "So.")
    (one,) = episodes(encoded(*({**record, "timestamp": None} for record in script.records)))
    assert one.timestamp == datetime(2026, 1, 2, tzinfo=UTC)


def test_long_exchanges_lose_their_middle_and_say_so() -> None:
    """The raw exchange is bounded; its beginning and its end stay."""
    script = Script()
    script.exchange(ASKED, "start " + "x" * 5000 + " finish")
    (one,) = episodes(script.data, Maker(Projects(look=False), max_raw=1000))
    raw = one.raw_exchange or ""
    assert len(raw) <= 1000
    assert raw.startswith("User: What")
    assert raw.endswith("finish")
    assert "characters left out" in raw


SECRETS = {
    "postgres://bob:hunter2hunter2@db.internal/shop": "hunter2hunter2",
    "AIza" + "SyD3x7Qm9Zk2Lp5Vw8Rt1Ub4Nc6Ef0Gh3Jk": "D3x7Qm9Zk2Lp5Vw8Rt1Ub4Nc6Ef0",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
}
"""What is written, and the part of it that nobody may see."""


@pytest.mark.parametrize(
    ("cut", "filler"), [(90, "echo "), (160, "echo "), (240, "echo "), (600, "#x\n"), (2000, "#x\n")]
)
@pytest.mark.parametrize("written", SECRETS)
def test_no_cut_uncovers_a_secret(written: str, cut: int, filler: str) -> None:
    """Wherever a text is cut off, no part of a secret that stood there is kept, in commands and in failures."""
    for before in range(cut - len(written) - 4, cut + 1, 3):
        text = (filler * before)[: before - 1] + filler[-1] + written + " and on"
        script = Script()
        script.user(ASKED)
        script.uses("Bash", {"command": text}, "t1")
        script.result("t1", text, failed=True)
        (one,) = episodes(script.data)
        shown = one.model_dump_json()
        hidden = SECRETS[written]
        assert [hidden[at : at + 6] for at in range(len(hidden) - 5) if hidden[at : at + 6] in shown] == []


def test_a_secret_in_a_command_counts_once() -> None:
    """However often a command is told, in the exchange and in its summary, its key was taken out once."""
    script = Script()
    script.user(ASKED)
    script.uses("Bash", {"command": "gh auth login --with-token ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"}, "t1")
    made = Maker(Projects(look=False)).make(exchanges(script.data)[0], Origin("/t/s.jsonl", "laptop"))
    assert sum(made.redactions.values()) == 1


@given(st.text(max_size=300), st.integers(100, 250))
def test_shortening_keeps_to_the_bound(text: str, length: int) -> None:
    """Never longer than asked for; what fits stays as it is."""
    assert len(shorten(text, length)) <= length
    assert len(text) > length or shorten(text, length) == text


@given(st.text(alphabet=st.characters(codec=None, categories=None, min_codepoint=0, max_codepoint=0xFFFF)))
def test_any_text_becomes_storable(text: str) -> None:
    """No NUL, no lone surrogate, whatever came in."""
    kept = storable(text)
    kept.encode()
    assert "\x00" not in kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<system-reminder>\nx\n</system-reminder>\nHello", "Hello"),
        ("a<anamnesis-memory hits='2'>old <x> words</anamnesis-memory>b", "ab"),
        ("unclosed <anamnesis-memory>old words", "unclosed"),
        ("<local-command-stdout></local-command-stdout>", ""),
        ("<command-name>model</command-name>\n<command-args></command-args>", "/model"),
        ("<bash-input>ls</bash-input><bash-stdout>a</bash-stdout>", "! ls"),
        ("<command-name>/x</command-name> and <command-name>", "/x"),
        ("<command-name>is not closed", "<command-name>is not closed"),
        ("Lines with <command-name>/x</command-name> stay", "Lines with <command-name>/x</command-name> stay"),
        ("Why is `<system-reminder>` in it? Fix", "Why is `<system-reminder>` in it? Fix"),
        ("`<system-reminder>` to `</system-reminder>`", "`<system-reminder>` to `</system-reminder>`"),
        ("The <ide_selection> block stays", "The <ide_selection> block stays"),
        ("Why <system-reminder>?\n<system-reminder>\nx</system-reminder>", "Why <system-reminder>?"),
        ("<system-reminder>on <system-reminder> tags</system-reminder>Hello", "Hello"),
        ("<system-reminder>on <anamnesis-memory></system-reminder>Hello", "Hello"),
        ("<anamnesis-memory>`</anamnesis-memory>` <private></anamnesis-memory>Hello", "Hello"),
        ("if a < b: <b>keep</b>", "if a < b: <b>keep</b>"),
        ("Caveat: The messages below were generated by the user while running local commands. DO NOT respond", ""),
    ],
)
def test_only_the_users_words_stay(text: str, words: str) -> None:
    """What was wrapped around them is taken off."""
    assert clean(text) == words


@pytest.mark.parametrize("tag", ["bash-input", "command-args", "command-name", "system-reminder", "anamnesis-memory"])
@pytest.mark.parametrize("filler", [" ", "<", "`", "\n", "<command-name>", "<system-reminder>", "\n<ide_selection>"])
def test_tags_cost_no_more_than_their_length(tag: str, filler: str) -> None:
    """A tag without its end, and whatever is repeated behind it, is looked at a few times at most."""
    assert_linear(clean, lambda size: f"<command-name>a</command-name><{tag}>" + filler * (size // len(filler)), 25_000)
    assert_linear(clean, lambda size: f"<{tag}>" + filler * (size // len(filler)), 25_000)


def test_projects_are_named_by_their_repository(tmp_path: Path) -> None:
    """The git root names the project, of a worktree the main one; else the directory does."""
    (tmp_path / "shop" / ".git").mkdir(parents=True)
    deep = tmp_path / "shop" / "src" / "deep"
    deep.mkdir(parents=True)
    tree = tmp_path / "trees" / "fix-1"
    tree.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {tmp_path}/shop/.git/worktrees/fix-1\n")
    projects = Projects()
    assert [projects(str(path)) for path in (deep, tree, tmp_path / "gone" / "x")] == ["shop", "shop", "x"]


@pytest.mark.parametrize(
    ("cwd", "name"), [("", "unknown"), ("/", "unknown"), ("C:\\work\\shop\\", "shop"), ("/a/b/", "b")]
)
def test_a_directory_names_a_project_on_any_system(cwd: str, name: str) -> None:
    """The last part of the path, whichever way its slashes lean."""
    assert basename(cwd) == name


@pytest.mark.skipif(not DATA.is_dir(), reason="the transcripts of shared/data are not on this machine")
def test_real_transcripts_read_well() -> None:
    """Transcripts written elsewhere give the exchanges that a reader would find."""
    found = {path.stem: episodes(path.read_bytes()) for path in sorted(DATA.glob("*.jsonl"))}
    assert {name: len(those) for name, those in found.items()} == {
        "edge_cases": 4,
        "representative_messages": 4,
        "todowrite_examples": 2,
    }
    ran = found["representative_messages"][2]
    assert ran.summary.splitlines()[:2] == [
        "Asked: Can you run that example to show the output?",
        "Did: ran `python /tmp/decorator_example.py`",
    ]
    assert "Outcome: As you can see, the `@repeat(3)` decorator" in ran.summary
    assert "(failed: Error: Tool execution failed" in found["edge_cases"][1].summary
    assert found["edge_cases"][2].summary.startswith("Asked: /test-command --verbose --output /tmp/test.log")
    assert "中文" in found["edge_cases"][3].summary
    assert "now: Implement core functionality" in found["edge_cases"][3].summary
