"""Marks: what is written down is read again, in documents of a bounded size."""

from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.state import Documents
from anamnesis.crawl.marks import FILES, FORMAT, NEVER, Held, Mark, Marks, Stamp, episode_id, pack, unpack

parts = st.lists(
    st.builds(
        Held,
        st.sampled_from(["", "ep_x", episode_id("f" * 24, 0), episode_id("f" * 24, 7)]),
        st.sampled_from(["", "0a1b2c3d"]),
        st.integers(1, 99),
        st.integers(1, 99),
    )
)


def mark(path: str, held: str = "", past: str = "", identity: str = "") -> Mark:
    return Mark(path, "notes", "laptop", "shop", Stamp(1, 2, 3, 4), identity, held, past, 5)


@given(parts)
def test_parts_are_unpacked_as_they_were(given: list[Held]) -> None:
    """Those of the file's own content, whose names are left out, as well."""
    assert unpack(pack(given, "f" * 24), "f" * 24) == given
    assert unpack(pack(given), "") == given


@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name)), max_size=8))
def test_any_name_is_kept(names: list[bytes]) -> None:
    """Also what is no UTF-8, and what looks like its own escape."""
    paths = {"/d/" + name.decode("utf-8", "surrogateescape") for name in [*names, b"%2F", b"caf\xe9 %e9"]}
    marks = Marks()
    for path in paths:
        marks.put(mark(path, pack([Held("ep_x", "", 1, 2)]), "ep_y,,1,2"))
    documents, empty = marks.changes()
    Documents.model_validate({"documents": documents})
    read = Marks(documents.values())
    assert {one.path for one in read} == paths
    assert not empty
    assert all((one.stamp, one.parts, one.read_at) == (Stamp(1, 2, 3, 4), [Held("ep_x", "", 1, 2)], 5) for one in read)
    assert len(read.unsettled()) == len(paths)


def test_a_large_directory_has_several_documents() -> None:
    """Each is written only when one of its own files changes, and goes when none is left."""
    marks = Marks()
    for number in range(2 * FILES + 1):
        marks.put(mark(f"/d/{number}"))
    documents, _ = marks.changes()
    assert len(documents) == 3
    marks.put(mark("/d/300", past="ep_y,,1,2"))
    assert len(marks.changes()[0]) == 1
    marks.remove(f"/d/{2 * FILES}")
    assert [len(one) for one in marks.changes()] == [0, 1]
    marks.put(mark("/d/new"))
    assert len(marks.changes()[0]) == 1
    assert len(marks) == 2 * FILES + 1


def test_a_document_stays_small_enough_to_be_kept() -> None:
    """However many parts its files have."""
    marks = Marks()
    long = pack([Held(f"ep_{number:030}", "0a1b2c3d", number, number) for number in range(1, 5000)])
    for number in range(40):
        marks.put(mark(f"/d/{number}", long))
    assert all(len(str(one)) < 2 << 20 for one in marks.changes()[0].values())


def test_who_holds_an_episode_is_known() -> None:
    """By files of its own content and by those that took it over, until they let it go."""
    own = "a" * 24
    marks = Marks()
    marks.put(mark("/d/one", pack([Held(episode_id(own, 0), "", 1, 2)], own), identity=own))
    marks.put(mark("/d/two", pack([Held(episode_id(own, 0), "", 1, 2)], "b" * 24), identity="b" * 24))
    assert [one.path for one in marks.holding(episode_id(own, 0))] == ["/d/one", "/d/two"]
    assert not marks.holding(episode_id(own, 1))
    found = marks.with_identity(own)
    assert found is not None
    assert found.path == "/d/one"
    marks.remove("/d/one")
    assert marks.with_identity(own) is None
    marks.put(mark("/d/two"))
    assert not marks.holding(episode_id(own, 0))


def test_files_are_read_again_when_the_format_has_changed() -> None:
    """What they hold is still known, so that it can be replaced; what is no document is as good as none."""
    marks = Marks()
    marks.put(mark("/d/one", "ep_x,,1,2"))
    (document,) = marks.changes()[0].values()
    (old,) = Marks([{**document, "format": FORMAT + 1}])
    assert (old.stamp, old.parts) == (NEVER, [Held("ep_x", "", 1, 2)])
    assert not list(Marks([{}, {"files": 3}, {"files": {"a": []}}, {**document, "files": {"a": ["x"]}}]))


def test_a_mark_that_was_being_moved_is_not_lost() -> None:
    """Where the write of two documents ended between them the newer one counts, with what both had to let go."""
    first, second = Marks(), Marks()
    first.put(mark("/d/one", past="ep_x,,1,2"))
    second.put(mark("/d/one", past="ep_y,,1,2"))
    (older,), (newer,) = first.changes()[0].values(), second.changes()[0].values()
    (one,) = Marks([older, {**newer, "number": 1}])
    assert {part.episode_id for part in one.leaving} == {"ep_x", "ep_y"}
