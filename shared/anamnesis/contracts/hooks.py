"""Hooks: what an assistant's program posts at points of its life, and what it is told back.

The names are those of Claude Code. What it posts has fields that differ between its versions: unknown ones are
ignored, and one of another kind than expected counts as missing.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from anamnesis.contracts.base import Contract


def _text(value: object) -> object:
    """The text without what cannot be passed on: NUL characters and lone surrogates; anything else as nothing."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").strip()


Told = Annotated[str, BeforeValidator(_text)]


class HookInput(BaseModel):
    """What is read of an event; empty where it says nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session_id: Told = ""
    cwd: Told = ""
    prompt: Told = ""
    """UserPromptSubmit: the user's words."""
    source: Told = ""
    """SessionStart: startup, resume, clear, compact or fork."""
    last_assistant_message: Told = ""
    """Stop: the answer."""
    agent_id: Told = ""
    """Set where it happens in a subagent."""


class HookContext(Contract):
    """Text that is put before the model."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    hook_event_name: str
    additional_context: str


class HookOutput(Contract):
    """Empty where there is nothing to tell."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    hook_specific_output: HookContext | None = None
