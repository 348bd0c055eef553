"""Where transcripts are looked for."""

from pathlib import Path

from anamnesis.transcripts.files import default_roots, walk
from anamnesis.transcripts.marks import Mark


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")


def test_all_layouts_are_found(tmp_path: Path) -> None:
    """Sessions, subagents in both places; not what tools wrote, not notes, not other files. Sessions come first."""
    root = tmp_path / "projects"
    for name in ("p/agent-old.jsonl", "p/s1/subagents/agent-a.jsonl", "p/s1.jsonl", "p/s1/tool-results/x.jsonl"):
        _touch(root / name)
    for name in ("p/memory/notes.jsonl", "p/.hidden/x.jsonl", "p/sessions-index.json", "p/s1/notes.txt"):
        _touch(root / name)
    found = walk((tmp_path,))
    assert [(Path(one.path).name, one.agent) for one in found.files] == [
        ("s1.jsonl", ""),
        ("agent-old.jsonl", "old"),
        ("agent-a.jsonl", "a"),
    ]
    assert found.whole == (str(root),)


def test_a_file_is_found_once(tmp_path: Path) -> None:
    """Roots that overlap, and hard links, show the same file; it is read once."""
    _touch(tmp_path / "p" / "s1.jsonl")
    (tmp_path / "p" / "s2.jsonl").hardlink_to(tmp_path / "p" / "s1.jsonl")
    found = walk((tmp_path, tmp_path / "p", tmp_path / "p" / "s1.jsonl"))
    assert [Path(one.path).name for one in found.files] == ["s1.jsonl"]


def test_the_configuration_directory_may_be_a_list() -> None:
    """`CLAUDE_CONFIG_DIR` names one directory or several."""
    home = Path("/home/me")
    assert default_roots({}, home) == (home / ".claude/projects", home / ".config/claude/projects")
    assert default_roots({"CLAUDE_CONFIG_DIR": "/a, /b"}, home) == (Path("/a/projects"), Path("/b/projects"))


def test_a_mark_survives_its_document() -> None:
    """What is kept is what was meant, also for numbers that JSON readers round; nonsense is no mark."""
    mark = Mark(
        path="/p/s.jsonl",
        device=2**64 - 1,
        inode=2**63 + 1,
        size=10,
        mtime_ns=1_772_000_000_123_456_789,
        offset=5,
        read=9,
        head="h",
        tail="t",
        weights={"a": 3, "b": 1},
        seen=(b"abcdef", b"012345"),
    )
    assert Mark.from_document(mark.to_document()) == mark
    assert Mark.from_document({"path": "x"}) is None
    assert Mark.from_document({**mark.to_document(), "weights": "a=b=c"}) is None
    assert Mark.from_document({**mark.to_document(), "seen": "?"}) is None
