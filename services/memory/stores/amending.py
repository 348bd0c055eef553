"""What an amendment makes of an episode: its tags and where its file lies. The rule that every store follows."""

from collections.abc import Sequence

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.episodes import MAX_TAGS, Amendment
from anamnesis.kit.errors import Invalid


def tags(present: Sequence[str], amendment: Amendment) -> tuple[str, ...]:
    """What goes is taken out first, then what is new comes last, so that a tag named twice is there.

    Raises `Invalid` where more would be left than an episode may have, unless it had as many before.
    """
    going = set(amendment.remove_tags)
    left = [tag for tag in present if tag not in going]
    amended = tuple(dict.fromkeys((*left, *amendment.add_tags)))
    if len(amended) > max(MAX_TAGS, len(present)):
        raise Invalid(
            f"{amendment.episode_id} would have {len(amended)} tags, and an episode has at most {MAX_TAGS}; "
            "nothing was changed: remove some, or add fewer",
            {"episode_id": amendment.episode_id, "tags": len(amended)},
        )
    return amended


def source(amendment: Amendment) -> JsonObject:
    """The fields of `EpisodeSource` that change, as they are kept."""
    fields: JsonObject = {"path": amendment.path, "line": amendment.line, "last_line": amendment.last_line}
    return {name: value for name, value in fields.items() if value is not None}
