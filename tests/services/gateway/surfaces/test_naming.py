"""Which backends a name means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.surfaces.naming import candidates, model_ids

KNOWN = ("anamnesis-gpt", "openai", "ollama", "claude", "claude-cli")
ORDER = ("anamnesis-gpt", "ollama:llama3.2", "claude-cli", "openai", "claude")
LISTED = {"openai": ("gpt-4o", "qwen:7b"), "ollama": ("qwen:7b", "llama3.2"), "claude": ("claude-a-1",)}


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("", ORDER),
        ("auto", ORDER),
        ("default", ORDER),
        ("openai", ("openai",)),
        ("openai:gpt-4o", ("openai:gpt-4o",)),
        ("anamnesis-gpt:poet", ("anamnesis-gpt:poet",)),
        ("claude", ("claude",)),
        ("claude-cli", ("claude-cli",)),
        ("gpt-4o", ("openai:gpt-4o",)),
        ("qwen:7b", ("ollama:qwen:7b", "openai:qwen:7b")),
        ("gpt-9", ORDER),
        (
            "claude-b-2",
            ("claude-cli:claude-b-2", "claude:claude-b-2", "anamnesis-gpt", "ollama:llama3.2", "openai"),
        ),
    ],
)
def test_a_name(model: str, asked: tuple[str, ...]) -> None:
    """Each rule of the docstring, over one configuration."""
    assert tuple(candidates(model, ORDER, KNOWN, LISTED)) == asked


def test_a_claude_name_without_claude() -> None:
    """Where Claude is not in the order, whoever is answers for it by its own model."""
    assert candidates("claude-b-2", ("ollama", "openai"), KNOWN, {}) == ["ollama", "openai"]


@given(st.text(max_size=30), st.lists(st.sampled_from(KNOWN), unique=True, min_size=1))
def test_nobody_is_asked_twice_and_nobody_unknown(model: str, order: list[str]) -> None:
    """Whatever the name, some known backend is asked, and none twice."""
    asked = candidates(model, order, KNOWN, LISTED)
    assert asked
    assert len({one.partition(":")[0] for one in asked}) == len(asked)
    assert {one.partition(":")[0] for one in asked} <= set(KNOWN)


@given(st.sampled_from(KNOWN), st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True))
def test_what_is_listed_can_be_asked_for(backend: str, models: list[str]) -> None:
    """The id of a listed model means that backend, and it alone."""
    ids = model_ids(backend, models)
    assert len(ids) == len(models)
    for id in ids:
        asked = candidates(id, ORDER, KNOWN, {backend: models})
        assert [one.partition(":")[0] for one in asked] == [backend]
