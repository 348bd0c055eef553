"""What the pages of settings offer to begin with."""

import itertools
from pathlib import Path

from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, Source, SourceKind
from anamnesis.crawl.scan import scan
from services.gateway.dashboard.preferences import PRESETS


def test_presets_find_what_they_promise(tmp_path: Path) -> None:
    """There is one for each kind of source, and each finds its files below a machine root as it is."""
    meant = {
        "claude-notes": ["shop/CLAUDE.md"],
        "notes": ["shop/HANDOFF-3.md", "shop/notes/a/ideas.md", "history.md"],
        "docker": ["shop/main.py"],
        "projects": ["src/0_bridge/lib/span.cpp"],
        "scripts": ["bin/backup.sh"],
        "teachings": ["teachings/style.md"],
        "documents": ["Documents/lease.docx"],
    }
    for path in (*itertools.chain(*meant.values()), "shop/compose.yml", "shop/other.cpp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"# {path}")
    sources = tuple(
        Source(
            name=one.name, kind=one.kind, root=one.root or None, globs=tuple(one.globs.split(", ")) if one.globs else ()
        )
        for one in PRESETS
    )
    assert {one.kind for one in sources} == set(SourceKind)
    for source in sources:
        root = MachineRoot(instance="laptop", path=str(tmp_path))
        found = scan(CrawlerConfig(machine_roots=(root,), sources=(source,)), [tmp_path], "laptop", never=())
        assert found.problems == {}
        paths = {str(Path(file.path).relative_to(tmp_path)) for file in found.files}
        assert set(meant[source.name]) <= paths, source.name
        assert "shop/other.cpp" not in paths
