"""What the door lets in, as what, and what it keeps out."""

import asyncio
import json

import pytest

from anamnesis.contracts.episodes import (
    MAX_PLACE,
    MAX_RAW,
    MAX_SUMMARY,
    Amendment,
    Episode,
    EpisodeCreate,
    EpisodePatch,
    EpisodeSource,
    WriteStatus,
)
from anamnesis.kit.errors import Conflict
from services.memory.blocklist import entry
from services.memory.door import Door, create_to_episode
from services.memory.endpoints.transfer import _Importer
from services.memory.stores.base import Filter
from tests.services.memory.conftest import OneVector

LONG = "password=ab12cd "  # its mark is longer than the secret


async def test_what_redaction_lengthens_still_fits(door: Door) -> None:
    """Texts at their bound, full of short secrets, are written and read back within their bounds."""
    create = EpisodeCreate(
        instance="i",
        project="p",
        summary=(LONG * MAX_SUMMARY)[:MAX_SUMMARY],
        raw_exchange=(LONG * MAX_RAW)[: MAX_RAW // 2],
        source=EpisodeSource(kind="api", url=("https://a:ab12cd34@b/ " * MAX_PLACE)[:MAX_PLACE]),
    )
    [written] = await door.write([create])
    assert written.status is WriteStatus.CREATED
    importer = _Importer(door, "skip")
    await importer.take(create_to_episode(create.model_copy(update={"project": "q"})).model_dump_json().encode())
    assert (await importer.finish()).created == 1
    kept, total = await door.store.page(Filter(), 0, 10)
    assert total == len(kept) == 2
    assert all(len(one.summary) <= MAX_SUMMARY and "ab12cd" not in one.summary for one in kept)


@pytest.mark.parametrize("count", [2**63, -1])
async def test_an_import_refuses_counters_that_no_store_keeps(door: Door, count: int) -> None:
    """A hit count out of bounds is a refused line, not an error of the store."""
    whole = create_to_episode(EpisodeCreate(instance="i", project="p", summary="A note."))
    importer = _Importer(door, "skip")
    await importer.take(json.dumps(whole.model_dump(mode="json") | {"retrieval_count": count}).encode())
    result = await importer.finish()
    assert (result.created, result.refused) == (0, 1)
    assert "retrieval_count" in (result.first_refusal or "")


async def test_what_is_forgotten_during_its_embedding_does_not_come_back(door: Door) -> None:
    """A block that arrives between the look at the blocklist and the store still holds."""
    embedder = door.embedder
    assert isinstance(embedder, OneVector)
    embedder.go_on.clear()
    creates = [EpisodeCreate(episode_id=f"e{n}", instance="i", project="p", summary=f"Note {n}.") for n in range(3)]
    writing = asyncio.create_task(door.write(creates))
    await asyncio.wait_for(embedder.asked.wait(), 5)
    door.blocks.add(entry(create_to_episode(creates[1]), "forgotten"))
    embedder.go_on.set()
    results = await asyncio.wait_for(writing, 5)
    assert [one.status for one in results] == [WriteStatus.CREATED, WriteStatus.BLOCKED, WriteStatus.CREATED]
    assert sorted(await door.store.get(["e0", "e1", "e2"])) == ["e0", "e2"]


def _note(episode_id: str, summary: str, project: str = "p") -> EpisodeCreate:
    return EpisodeCreate(episode_id=episode_id, instance="i", project=project, summary=summary)


async def test_a_moved_episode_grows_where_it_is(door: Door) -> None:
    """Its unchanged text is a duplicate and is not embedded again; a text that its project has already is refused."""
    embedder = door.embedder
    assert isinstance(embedder, OneVector)
    await door.write([_note("moved", "One."), _note("there", "Two.", "elsewhere")])
    await door.patch("moved", EpisodePatch(project="elsewhere"))
    embedded = embedder.texts
    [same] = await door.write([_note("moved", "One.")], "update")
    assert (same.status, same.duplicate_of) == (WriteStatus.DUPLICATE, "moved")
    assert embedder.texts == embedded
    [twin] = await door.write([_note("moved", "Two.")], "update")
    assert (twin.status, twin.duplicate_of) == (WriteStatus.DUPLICATE, "there")
    [grown] = await door.write([_note("moved", "One, and more.")], "update")
    assert grown.status is WriteStatus.UPDATED


async def test_two_of_a_batch_do_not_grow_into_one_text(door: Door) -> None:
    """Of two episodes that are updated to the same content in one batch the second is a duplicate."""
    await door.write([_note("a", "One."), _note("b", "Two.")])
    results = await door.write([_note("a", "Three."), _note("b", "Three."), _note("c", "Three.")], "update")
    assert [one.status for one in results] == [WriteStatus.UPDATED, WriteStatus.DUPLICATE, WriteStatus.DUPLICATE]
    assert {one.duplicate_of for one in results[1:]} == {"a"}
    assert await door.store.holding([create_to_episode(_note("a", "Three.")).content_hash]) == ["a"]


async def test_a_patch_does_not_bring_forgotten_text_back(door: Door) -> None:
    """Neither text that was forgotten before nor text that is forgotten meanwhile; other fields may change."""
    embedder = door.embedder
    assert isinstance(embedder, OneVector)
    await door.write([_note("kept", "One.")])
    door.blocks.add(entry(create_to_episode(_note("gone", "Secret.")), "forgotten"))
    with pytest.raises(Conflict):
        await door.patch("kept", EpisodePatch(summary="Secret."))
    embedder.asked.clear()
    embedder.go_on.clear()
    patching = asyncio.create_task(door.patch("kept", EpisodePatch(summary="Later.")))
    await asyncio.wait_for(embedder.asked.wait(), 5)
    door.blocks.add(entry(create_to_episode(_note("later", "Later.")), "forgotten"))
    embedder.go_on.set()
    with pytest.raises(Conflict):
        await asyncio.wait_for(patching, 5)
    door.blocks.add(entry(create_to_episode(_note("copy", "One.")), "deleted"))
    assert (await door.patch("kept", EpisodePatch(tags=("t",)))).tags == ("t",)


async def test_a_patch_may_depend_on_what_an_episode_says(door: Door) -> None:
    """With the hash of the text that it was made for it changes that text, and no other."""
    await door.write([_note("grows", "One.")])
    one = create_to_episode(_note("grows", "One.")).content_hash
    await door.write([_note("grows", "Two.")], "update")
    with pytest.raises(Conflict, match="has changed meanwhile"):
        await door.patch("grows", EpisodePatch(summary="Of one."), one)
    two = create_to_episode(_note("grows", "Two.")).content_hash
    assert (await door.patch("grows", EpisodePatch(summary="Of two."), two)).summary == "Of two."


async def test_what_was_made_from_something_forgotten_is_refused(door: Door) -> None:
    """A derived episode does not come in when the one that it was made from is blocked."""
    root = create_to_episode(_note("root", "One."))
    derived = create_to_episode(_note("derived", "Two.")).model_copy(update={"consolidated_from": ("root",)})
    door.blocks.add(entry(root, "forgotten"))
    assert [one.status for one in await door.restore([derived])] == [WriteStatus.BLOCKED]


async def test_names_hold_no_secrets(door: Door) -> None:
    """A token in a name is redacted before an id is made from it, written or imported or patched."""
    token = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    source = EpisodeSource(kind=token, session=token, uuid=token, parent=token, last_uuid=token)
    create = EpisodeCreate(instance=token, project=token, summary="A note.", source=source)
    [written] = await door.write([create])
    assert written.redactions == 7
    imported = create_to_episode(create).model_copy(update={"episode_id": "imported", "summary": "Another."})
    importer = _Importer(door, "skip")
    await importer.take(imported.model_dump_json().encode())
    assert (await importer.finish()).created == 1
    await door.write([_note("patched", "Third.")])
    await door.patch("patched", EpisodePatch(project=token, instance=token))
    kept, total = await door.store.page(Filter(), 0, 10)
    assert total == 3
    for one in kept:
        assert token[4:].lower() not in one.model_dump_json().lower().replace("-", "")
        assert "ghp" not in one.episode_id


async def test_places_hold_no_secrets(door: Door) -> None:
    """A token in an address, a path or a heading is redacted."""
    token = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    source = EpisodeSource(
        kind="document", url=f"https://a.org/x?t={token}", path=f"/{token}/x.md", section=f"Key {token}"
    )
    [written] = await door.write([_note("e", "One.").model_copy(update={"source": source})])
    assert written.redactions == 3
    assert token not in (await door.store.get(["e"]))["e"].model_dump_json()


async def test_ordinary_names_stay_as_they_are(door: Door) -> None:
    """Ids of sessions and records are no secrets, though they look random."""
    session = "7d31e2f9-d225-4f63-a49f-c05fd9503307"
    source = EpisodeSource(kind="claude-code", session=session, uuid="deadbeef" * 5, parent="agent-a1b2c3d4e5f6")
    await door.write([_note("e", "One.", "-home-ada-src-x").model_copy(update={"source": source})])
    kept = (await door.store.get(["e"]))["e"]
    assert (kept.source, kept.project) == (source, "-home-ada-src-x")


async def test_an_import_leaves_nothing_superseded_by_nothing(door: Door) -> None:
    """Superseded by what comes later in the file, or was there, is kept; by what is nowhere, it is current again."""

    def superseded(episode_id: str, by: str | None) -> Episode:
        one = create_to_episode(_note(episode_id, f"About {episode_id}."))
        return one.model_copy(update={"superseded_by": by})

    await door.write([_note("there", "Already there.")])
    lines = [superseded("a", "later"), superseded("b", "nowhere"), superseded("c", "there"), superseded("later", None)]
    for _ in range(2):  # an import that was interrupted is repeated
        importer = _Importer(door, "skip")
        for line in lines:
            await importer.take(line.model_dump_json().encode())
            await importer._flush()  # as when the file is large
        await importer.finish()
    kept = await door.store.get(["a", "b", "c", "later"])
    assert [kept[name].superseded_by for name in sorted(kept)] == ["later", None, "there", None]


async def test_amendments_pass_the_door(door: Door) -> None:
    """Tags and paths of an amendment hold no secret, and a tag that was redacted is removed by its own name."""
    secret = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    await door.write([EpisodeCreate(episode_id="a", instance="i", project="p", summary="One.")])
    [done] = await door.amend([Amendment(episode_id="a", add_tags=(f"key {secret}", "x"), path=f"/home/{secret}/a.md")])
    kept = (await door.store.get(["a"]))["a"]
    assert done.tags == kept.tags
    assert len(kept.tags) == 2
    assert secret not in kept.model_dump_json()
    [done] = await door.amend([Amendment(episode_id="a", remove_tags=(f"key {secret}",))])
    assert done.tags == ("x",)


async def test_an_amendment_outlives_a_writer_that_was_first(door: Door) -> None:
    """A tag added while an update of the same episode is being embedded is there afterwards."""
    embedder = door.embedder
    assert isinstance(embedder, OneVector)
    create = EpisodeCreate(episode_id="a", instance="i", project="p", summary="One.")
    await door.write([create])
    embedder.asked.clear()
    embedder.go_on.clear()
    writing = asyncio.create_task(door.write([create.model_copy(update={"summary": "One, and more."})], "update"))
    await embedder.asked.wait()
    amending = asyncio.create_task(door.amend([Amendment(episode_id="a", add_tags=("kept",))]))
    await asyncio.sleep(0.05)
    assert not amending.done()
    embedder.go_on.set()
    await asyncio.gather(writing, amending)
    kept = (await door.store.get(["a"]))["a"]
    assert (kept.summary, kept.tags) == ("One, and more.", ("kept",))
