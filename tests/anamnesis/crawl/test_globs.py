"""Globs as in `.gitignore`, and which directories they ask to enter."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.crawl.globs import Globs, InvalidGlob, State, path, segment, segments
from tests.anamnesis.timing import assert_linear


def meant(globs: tuple[str, ...], file: str) -> bool:
    """Whether a file is reached, directory by directory, and meant by its whole name."""
    state: State | None = Globs(globs).start
    *directories, name = file.split("/")
    for one in directories:
        assert state is not None
        state = state.enter(one, one.startswith("."))
        if state is None:
            return False
    assert state is not None
    return state.whole or any(one is not None and one.match(name) is not None for one in (state.spelled, state.loose))


@pytest.mark.parametrize(
    ("glob", "file", "expected"),
    [
        ("CLAUDE.md", "CLAUDE.md", True),
        ("CLAUDE.md", "a/b/CLAUDE.md", True),
        ("/CLAUDE.md", "a/CLAUDE.md", False),
        ("notes/*.md", "notes/a.md", True),
        ("notes/*.md", "x/notes/a.md", False),
        ("notes/*.md", "notes/x/a.md", False),
        ("**/notes/*.md", "x/y/notes/a.md", True),
        ("notes/**", "notes/x/y.md", True),
        ("notes/", "x/notes/y/z.md", True),
        ("notes/**/z.md", "notes/z.md", True),
        ("notes/**/z.md", "notes/a/b/z.md", True),
        ("**", "a/b/c.md", True),
        ("**", "a/.b/c.md", False),
        ("*.md", ".b/c.md", False),
        (".claude/*.md", ".claude/c.md", True),
        ("**/.claude/**", "x/.claude/y/c.md", True),
        ("**/.claude/**", "x/.claude/.y/c.md", False),
        ("*/c.md", ".b/c.md", False),
        ("handoff-[0-9]*.md", "a/handoff-7.md", True),
        ("handoff-[!0-9]*.md", "a/handoff-7.md", False),
        ("a[b-c]d", "abd", True),
    ],
)
def test_a_glob_means_what_gitignore_means(glob: str, file: str, expected: bool) -> None:
    """Without a slash at any depth, else from the root; hidden directories only where a part begins with a dot."""
    assert meant((glob,), file) is expected


def test_only_directories_that_lead_somewhere_are_entered() -> None:
    """A glob of fixed depth asks for nothing beside its way."""
    start = Globs(("work/*/notes/*.md", "/README.md")).start
    assert start.enter("home", False) is None
    work = start.enter("work", False)
    assert work is not None
    shop = work.enter("shop", False)
    assert shop is not None
    assert shop.enter("src", False) is None
    assert shop.enter("notes", False) is not None


def test_states_are_few() -> None:
    """However deep a tree is, a place of the same meaning has the same state, worked out once."""
    globs = Globs(("CLAUDE.md", "**/notes/*.md"))
    state: State | None = globs.start
    seen = set()
    for number in range(50):
        assert state is not None
        state = state.enter(f"d{number}", False)
        seen.add(id(state))
    assert len(seen) == 1


@pytest.mark.parametrize("glob", ["a[", "[a-", "a\\", "[[:nothing:]]", "../a", "a//b", "/", "a/../b"])
def test_what_could_never_match_is_refused(glob: str) -> None:
    """A glob that is none says so, instead of meaning nothing for ever."""
    with pytest.raises(InvalidGlob):
        Globs((glob,))


@given(st.text("ab*?.[]!-x", max_size=8), st.text("abx.]-!", min_size=1, max_size=6))
def test_names_match_as_in_a_shell(pattern: str, name: str) -> None:
    """Within one name a pattern means what `fnmatch` takes it for, where both accept it."""
    try:
        expression = segment(pattern)
    except InvalidGlob:
        return
    assert (re.fullmatch(expression, name, re.DOTALL) is not None) == fnmatch.fnmatchcase(name, pattern)


@given(st.lists(st.sampled_from(("a", "b", "*", "**", "a*", "?b")), min_size=1, max_size=5), st.text("ab/", max_size=9))
def test_a_path_matches_as_its_parts_do(parts: list[str], name: str) -> None:
    """The expression of a path agrees with the plain definition, tried out over all ways to match."""
    names = [one for one in name.split("/") if one]
    expected = bool(names) and tried(segments("/".join(parts)), names)
    assert (re.fullmatch(path("/".join(parts)), "/".join(names), re.DOTALL) is not None) == expected or not names


def tried(parts: list[str], names: list[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        if len(parts) == 1:
            return bool(names)
        return any(tried(parts[1:], names[at:]) for at in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and tried(parts[1:], names[1:])


@pytest.mark.parametrize(
    ("pattern", "unit"), [("*a" * 60 + "b", "a"), ("**/a/" * 40 + "b", "a/"), ("**/*a*a*a/" * 20 + "b", "aaaaa/")]
)
def test_no_pattern_takes_long(pattern: str, unit: str) -> None:
    """A pattern made to be tried in ever more ways is decided in time that grows with the square of a name at most."""
    made = re.compile(path(pattern), re.DOTALL)
    assert_linear(made.fullmatch, lambda size: unit * size + "c", 60)
