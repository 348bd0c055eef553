"""Which exchanges are worth remembering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.summaries import Significance
from anamnesis.transcripts.settings import ReadingSettings
from anamnesis.transcripts.significance import Rules, decide, rules_of, tuned

LONG = "a sentence that is long enough to be worth keeping in memory for some time to come"
TEXTS = st.lists(st.sampled_from(["ok", "thanks!", "/clear", "go on", LONG, "why?"]), max_size=3)


@pytest.mark.parametrize(
    ("asked", "said", "deeds", "reason"),
    [
        ([LONG], [LONG], 0, "kept"),
        (["ok"], [LONG], 0, "nod"),
        (["Danke, ok"], ["gern"], 0, "too-short"),
        (["continue"], ["Done."], 3, "kept"),
        (["continue"], [LONG * 5], 0, "kept"),
        (["why?"], [], 0, "unanswered"),
        ([LONG], [], 0, "kept"),
        (["why?"], ["because"], 0, "too-short"),
        ([], [LONG], 0, "kept"),
    ],
)
def test_the_reason_is_named(asked: list[str], said: list[str], deeds: int, reason: str) -> None:
    """Every decision has its reason."""
    decision = decide(asked, said, deeds, command=False, sidechain=False, project="p", rules=Rules())
    assert (decision.reason, decision.keep) == (reason, reason == "kept")


def test_rules_can_be_set() -> None:
    """Projects and subagents are left out on request, commands and nods kept."""
    off = Rules(min_said=0, min_unanswered=0, nods=False, commands=False)
    assert decide(["ok"], [], 0, command=True, sidechain=False, project="p", rules=off).keep
    excluded = Rules(exclude_projects=("client-*",))
    assert decide([LONG], [], 0, command=False, sidechain=False, project="client-x", rules=excluded).reason == (
        "project-excluded"
    )
    assert decide(
        [LONG], [LONG], 1, command=False, sidechain=True, project="p", rules=Rules(sidechains=True)
    ).reason == ("sidechain")
    assert decide(["Warmup"], [LONG], 0, command=False, sidechain=True, project="p", rules=Rules()).reason == "warm-up"


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_growing_never_makes_an_exchange_less_worth(
    asked: list[str], said: list[str], more: list[str], deeds: int, later: int, command: bool
) -> None:
    """What is kept stays kept however the answer goes on, so that reading in pieces ends like reading whole."""
    before = decide(asked, said, deeds, command=command, sidechain=False, project="p", rules=Rules())
    after = decide(asked, said + more, deeds + later, command=command, sidechain=False, project="p", rules=Rules())
    assert after.keep or not before.keep


def test_every_rule_can_be_set() -> None:
    """What is left out by default can be kept, and the other way round, by the settings of every reader."""
    assert ReadingSettings().rules == Rules()
    settings = ReadingSettings(
        ingest_min_said=1,
        ingest_min_unanswered=2,
        ingest_nods=True,
        ingest_commands=True,
        ingest_sidechains=False,
        ingest_exclude_projects=("secret-*",),
    )
    assert settings.rules == Rules(1, 2, False, False, True, ("secret-*",))


def test_projects_have_rules_of_their_own() -> None:
    """The first pattern that fits counts; what it leaves open, and every other project, follows the settings."""
    settings = Rules(min_said=10, commands=False)
    by_project = tuned(
        settings,
        (
            Significance(project="client-*", exclude=True),
            Significance(project="notes", min_said=500, nods=True, sidechains=False),
            Significance(project="*", min_unanswered=7),
        ),
    )
    assert rules_of("client-x", by_project, settings).exclude_projects == ("*",)
    assert rules_of("notes", by_project, settings) == settings._replace(min_said=500, nods=False, sidechains=True)
    assert rules_of("shop", by_project, settings) == settings._replace(min_unanswered=7)
    assert rules_of("shop", by_project[:2], settings) == settings
    judged = decide([LONG], [LONG], 1, command=False, sidechain=False, project="client-x", rules=by_project[0].rules)
    assert judged.reason == "project-excluded"
