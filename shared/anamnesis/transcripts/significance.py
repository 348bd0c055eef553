"""Which exchanges are worth remembering: a pure decision with its reason, so that it can be counted and shown.

Once an exchange is worth remembering, growing cannot make it less so; reading in pieces therefore
ends with the same episodes as reading whole.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from anamnesis.contracts.summaries import Significance

_NOD = re.compile(
    r"(?i)[\W_]*(?:y|yes|yep|yeah|no|nope|ok|okay|k|sure|thanks?|thank you|thx|ty|great|good|nice|cool|perfect|awesome"
    r"|continue|go on|go ahead|proceed|next|do it|please|please do|please continue|done|stop|wait|hi|hello|hey|test"
    r"|ping)[\W_]*"
)
_WARM_UP = frozenset(("warmup", "warm up", "ping"))


class Rules(NamedTuple):
    """What is left out. Lengths in characters of what was said."""

    min_said: int = 60
    """Exchanges in which less was said in all, and nothing was done, are left out."""
    min_unanswered: int = 40
    """A turn without an answer is kept from this length on."""
    nods: bool = True
    """Leave out 'ok', 'thanks' and the like when little was answered and nothing was done."""
    commands: bool = True
    """Leave out slash commands and shell lines that nothing was answered to."""
    sidechains: bool = False
    """Leave out what subagents did."""
    exclude_projects: tuple[str, ...] = ()
    """Projects to leave out, as shell patterns."""


class Decision(NamedTuple):
    keep: bool
    reason: str
    """`kept`, or why not; one of a small set, fit for a counter."""


class ProjectRules(NamedTuple):
    """Rules for the projects that a shell pattern fits."""

    pattern: str
    rules: Rules


def tuned(rules: Rules, significance: Sequence[Significance]) -> tuple[ProjectRules, ...]:
    """What is configured per project; what it leaves open is as in `rules`."""
    return tuple(
        ProjectRules(
            one.project,
            Rules(
                min_said=rules.min_said if one.min_said is None else one.min_said,
                min_unanswered=rules.min_unanswered if one.min_unanswered is None else one.min_unanswered,
                nods=rules.nods if one.nods is None else not one.nods,
                commands=rules.commands if one.commands is None else not one.commands,
                sidechains=rules.sidechains if one.sidechains is None else not one.sidechains,
                exclude_projects=("*",) if one.exclude else rules.exclude_projects,
            ),
        )
        for one in significance
    )


def rules_of(project: str, by_project: Sequence[ProjectRules], others: Rules) -> Rules:
    """The first rules whose pattern fits; `others` where none does."""
    return next((one.rules for one in by_project if fnmatchcase(project, one.pattern)), others)


def decide(
    asked: Sequence[str], said: Sequence[str], deeds: int, *, command: bool, sidechain: bool, project: str, rules: Rules
) -> Decision:
    """Whether an exchange is worth remembering. `deeds` counts tool calls, `command` = only a command was given."""
    if any(fnmatchcase(project, pattern) for pattern in rules.exclude_projects):
        return Decision(False, "project-excluded")
    if sidechain and rules.sidechains:
        return Decision(False, "sidechain")
    request = sum(map(len, asked))
    answer = sum(map(len, said))
    if sidechain and deeds == 0 and " ".join(asked).strip().lower() in _WARM_UP:
        return Decision(False, "warm-up")
    if rules.commands and command and answer == 0 and deeds == 0:
        return Decision(False, "command")
    if deeds == 0 and answer == 0 and request < rules.min_unanswered:
        return Decision(False, "unanswered")
    if rules.nods and deeds == 0 and answer < 200 and asked and all(_NOD.fullmatch(text.strip()) for text in asked):
        return Decision(False, "nod")
    if deeds == 0 and request + answer < rules.min_said:
        return Decision(False, "too-short")
    return Decision(True, "kept")
