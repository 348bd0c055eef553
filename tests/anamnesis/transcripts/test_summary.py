"""What an exchange comes down to in a few lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.redact import redact
from anamnesis.transcripts.records import ToolUse
from anamnesis.transcripts.summary import MAX_ASKED, MAX_DONE, MAX_OUTCOME, prose, summarise
from anamnesis.transcripts.tools import Done, condense
from tests.anamnesis.timing import assert_linear
from tests.anamnesis.transcripts.writing import Line

CWD = "/home/me/shop"


def did(name: str, given: Line, failure: str | None = None) -> Done:
    return condense(ToolUse("t", name, given), CWD, finished=True, failure=failure, safe=lambda text: redact(text).text)


def test_a_summary_says_what_was_asked_done_and_found() -> None:
    """Request, deeds and outcome, a line each, in the words of those who were there."""
    summary = summarise(
        ["Great! Fix the flaky upload test. It fails at night."],
        [
            did("Read", {"file_path": f"{CWD}/tests/test_upload.py"}),
            did("Bash", {"command": "cd /home/me/shop && pytest -q"}, failure="1 failed"),
            did("Edit", {"file_path": f"{CWD}/upload.py"}),
            did("Edit", {"file_path": f"{CWD}/upload.py"}),
            did("Bash", {"command": "pytest -q"}),
            did("Task", {"subagent_type": "Explore", "description": "find other sleeps"}),
        ],
        ["Let me look.", "Perfect! The test slept for a fixed time.\n\n```python\nx = 1\n```\n\n- It now **waits**\n"],
        interrupted=False,
    )
    assert summary.splitlines() == [
        "Asked: Fix the flaky upload test. It fails at night.",
        "Did: edited upload.py; ran `pytest -q`; delegated find other sleeps; read tests/test_upload.py",
        "Outcome: The test slept for a fixed time. It now waits",
    ]


def test_a_command_that_failed_last_says_so() -> None:
    """What counts is how a command ended the last time it ran."""
    done = [did("Bash", {"command": "make"}), did("Bash", {"command": "make"}, failure="boom")]
    assert "Did: ran `make` (failed)" in summarise(["build"], done, [], interrupted=False)


def test_an_interruption_is_told() -> None:
    """An exchange that the user stopped does not look finished."""
    assert summarise(["go"], [], [], interrupted=True).endswith("The user interrupted before an answer.")


@given(st.lists(st.text(max_size=3000), max_size=4), st.lists(st.text(max_size=3000), max_size=4), st.booleans())
def test_summaries_are_bounded(asked: list[str], said: list[str], interrupted: bool) -> None:
    """However much was said, a summary stays short."""
    deeds = [did("Bash", {"command": text}) for text in said]
    summary = summarise(asked, deeds, said, interrupted)
    assert len(summary) <= MAX_ASKED * 2 + MAX_DONE + MAX_OUTCOME * 2 + 120
    assert summary or not any(text.strip() for text in asked)


@pytest.mark.parametrize(
    ("name", "given", "failure", "line"),
    [
        ("Read", {"file_path": f"{CWD}/a.py"}, None, "Read a.py"),
        ("Read", {"file_path": "/etc/hosts"}, "no\nsuch file", "Read /etc/hosts (failed: such file)"),
        ("Write", {"file_path": f"{CWD}/a.py", "content": "x"}, None, "Write a.py"),
        ("NotebookEdit", {"notebook_path": f"{CWD}/a.ipynb"}, None, "Edit a.ipynb"),
        ("Bash", {"command": "# look\ngit status\nls"}, None, "Bash: git status (ok)"),
        ("Grep", {"pattern": "TODO", "path": f"{CWD}/src"}, None, 'Grep "TODO" in src'),
        ("WebFetch", {"url": "https://example.org", "prompt": "p"}, None, "WebFetch https://example.org"),
        ("Task", {"subagent_type": "Plan", "description": "think"}, None, "Task Plan: think"),
        ("Task", {"prompt": "do <private>" + "not tell " * 99 + "</private>it"}, None, "Task: do it"),
        ("mcp__github__get_issue", {"query": "12"}, None, "github get_issue 12"),
        ("Unknown", {}, "<tool_use_error>bad input</tool_use_error>", "Unknown (failed: bad input)"),
        (
            "TodoWrite",
            {"todos": [{"content": "a", "status": "completed"}, {"content": "b", "status": "in_progress"}, "broken"]},
            None,
            "Todos: 1 of 2 done; now: b",
        ),
        ("Edit", {"file_path": 7}, None, "Edit"),
    ],
)
def test_tool_calls_are_one_line(name: str, given: Line, failure: str | None, line: str) -> None:
    """A call says what was done to what, and that it failed if it did."""
    assert did(name, given, failure).line == line


@pytest.mark.parametrize("piece", ["**a ", "__a", "** ", "```", "\n~~~", "* ", "#", "|", ". ", "'. ", "1. ", "\n  "])
def test_mark_up_costs_no_more_than_its_length(piece: str) -> None:
    """Marks that are never closed are not looked for over and over."""
    assert_linear(prose, lambda size: piece * (size // len(piece)), 5_000)
