"""How hooks are read: names in any spelling, bodies of any version, and projects by their directory's name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.contracts.base import MAX_NAME
from anamnesis.kit.errors import BadRequest
from services.gateway.hooks.events import HookEvent, named, parse, project_of

FIELDS = ("session_id", "cwd", "prompt", "source", "last_assistant_message", "agent_id")


@pytest.mark.parametrize("event", HookEvent)
def test_names_are_known_in_any_spelling(event: HookEvent) -> None:
    """An event is the same written together, with dashes, with underscores, and in any case."""
    words = [""]
    for char in event.value:
        words = [*words, char] if char.isupper() else [*words[:-1], words[-1] + char]
    dashed = "-".join(word.lower() for word in words if word)
    for name in (event.value, dashed, dashed.replace("-", "_").upper(), event.value.lower()):
        assert named(name) is event


@pytest.mark.parametrize("name", ["PreToolUse", "", "stop!", "x" * 10_000])
def test_other_names_are_none(name: str) -> None:
    """What is no event of ours is not taken for one."""
    assert named(name) is None


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["x", *FIELDS]), st.none() | NUMBERS | st.text() | st.lists(st.text())))
def test_any_object_is_read(value: dict[str, object]) -> None:
    """Whatever fields an object has, of whatever kinds, it is a hook's; what is no text counts as missing."""
    told = parse(json.dumps(value).encode())
    for name in FIELDS:
        assert isinstance(getattr(told, name), str)
        getattr(told, name).encode()


def test_half_a_character_is_read_too() -> None:
    """A text that was cut within a character, as programs write it, does not spoil the rest."""
    assert parse(rb'{"prompt": "upload \ud83d", "session_id": "s1"}').prompt == "upload \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b'["\\u0000' + b"[" * 99_999]
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Anything but a JSON object is a bad request that says what to post."""
    with pytest.raises(BadRequest, match="hook"):
        parse(body)


@pytest.mark.parametrize(
    ("cwd", "project"),
    [
        ("/home/ada/shop", "shop"),
        ("/home/ada/shop/", "shop"),
        ("C:\\Users\\ada\\shop", "shop"),
        ("/home/ada/shop/.claude/worktrees/fix-upload/src", "shop"),
        ("/", None),
        ("", None),
        ("   ", None),
        ("/x/" + "y" * 300, "y" * MAX_NAME),
    ],
)
def test_a_directory_names_its_project(cwd: str, project: str | None) -> None:
    """The name of the directory, of the repository for a worktree below it, without a look at any disk."""
    assert project_of(cwd) == project


@given(st.text())
def test_any_directory_gives_a_name_or_none(cwd: str) -> None:
    """Whatever the directory is called, there is a name that can be searched by, or none."""
    project = project_of(cwd)
    assert project is None or 0 < len(project) <= MAX_NAME
