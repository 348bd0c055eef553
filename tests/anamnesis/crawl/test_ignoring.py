"""What is ignored is what Git itself would ignore."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, Source, SourceKind
from anamnesis.crawl.ignoring import repository
from anamnesis.crawl.scan import scan

_GIT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "XDG_CONFIG_HOME": "/nonexistent",
}


def git(where: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=where, env=_GIT, capture_output=True, check=True, timeout=60).stdout


def of_git(top: Path) -> set[str]:
    """What Git would list, but for its own files of patterns."""
    listed = git(top, "ls-files", "-co", "--exclude-standard", "-z").split(b"\0")
    return {os.fsdecode(one) for one in listed if one and not one.endswith(b".gitignore")}


def of_scan(root: Path, top: Path) -> set[str]:
    everything = Source(name="all", kind=SourceKind.NAMED, globs=("**", ".*", "**/.*"), extensions=(".md", ".py"))
    config = CrawlerConfig(machine_roots=(MachineRoot(instance="here", path=str(root)),), sources=(everything,))
    found = scan(config, [top], "here", never=())
    assert found.whole == ("all",)
    return {os.path.relpath(file.path, top) for file in found.files}


def tree(top: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        file = top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


NAMES = ("a", "b", "ab", "foo", "a b", "é", "x1")
FILES = tuple(f"{name}{ending}" for name in NAMES for ending in (".md", ".py"))
DIRECTORY = st.lists(st.sampled_from(NAMES), max_size=3).map("/".join)
PATHS = st.builds(lambda where, name: f"{where}/{name}".lstrip("/"), DIRECTORY, st.sampled_from(FILES))
PART = st.one_of(
    st.sampled_from((*NAMES, *FILES)),
    st.sampled_from(
        ("*", "**", "***", "?", "a*", "*b", "*.md", "*.p?", "[ab]", "[!a]*", "[^b].md", "[a-f]oo", "[[:alpha:]]")
    ),
    st.sampled_from(
        (
            "[",
            "[a",
            "[]a]*",
            "a\\*",
            "\\a",
            "a\\",
            "[b-a]",
            "[[:digit:]x]*",
            "*[\\]a].md",
            "x[0-9].*",
            "[[:no:]]",
            "[/[a-f]oo",
            "a\\/b",
            "[/a",
            "*\\/*",
        )
    ),
)
PATTERN = st.builds(
    lambda bang, slash, parts, end: bang + slash + "/".join(parts) + end,
    st.sampled_from(("", "", "", "!")),
    st.sampled_from(("", "", "/")),
    st.lists(PART, min_size=1, max_size=3),
    st.sampled_from(("", "", "", "/", " ", "\\ ", "/**", "\r", "\t")),
)
LINES = st.lists(st.one_of(PATTERN, st.sampled_from(("", "#a", "\\#a", "\\!a.md", "  ", "/", "!"))), max_size=6)
IGNORES = st.dictionaries(DIRECTORY, LINES, max_size=3)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=14), IGNORES, LINES)
@example(["foo/a.md", "foo/b/a.md", "foo/b/b.py"], {"": ["foo/*", "!foo/b"]}, [])
@example(["foo/a.md", "foo/b.md"], {"": ["foo/**", "!foo/a.md"]}, [])
@example(["foo/a.md", "b/foo/a.md"], {"": ["/foo/"], "b": ["!foo"]}, ["foo"])
@example(["a.md", "b/a.md"], {"": ["*", "!*/", "!*.md"]}, [])
@example(["b/a.md", "a/a.md"], {}, ["[b-a]"])
@example(["foo/a.md"], {}, ["[/[a-f]oo"])
@example(["a/b/a.md", "b/a.md"], {}, ["a\\/b"])
def test_that_is_found_which_git_lists(paths: list[str], ignores: dict[str, list[str]], excluded: list[str]) -> None:
    """Over any files and any patterns, nested and negated ones, the files found are those of `git ls-files`."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(os.path.realpath(directory)) / "top"
        top.mkdir()
        git(top, "init", "-q")
        files = dict.fromkeys(paths, b"x")
        files = {path: b"x" for path in files if not any(other.startswith(path + "/") for other in files)}
        tree(top, files)
        for where, lines in ignores.items():
            if (top / where).is_dir():
                (top / where / ".gitignore").write_bytes("\n".join(lines).encode())
        (top / ".git" / "info" / "exclude").write_bytes("\n".join(excluded).encode())
        assert of_scan(top, top) == of_git(top)


def test_patterns_above_a_root_count(tmp_path: Path) -> None:
    """A root within a repository follows the patterns of all directories up to the repository's own."""
    git(tmp_path, "init", "-q")
    tree(
        tmp_path,
        {
            ".gitignore": b"*.log.md\n/docs/private/\n",
            "docs/.gitignore": b"draft*\n",
            "docs/more/a.md": b"x",
            "docs/more/b.log.md": b"x",
            "docs/more/draft.md": b"x",
            "docs/private/c.md": b"x",
        },
    )
    assert of_scan(tmp_path / "docs", tmp_path) == {"docs/more/a.md"}
    assert of_scan(tmp_path / "docs" / "more", tmp_path) == {"docs/more/a.md"}


def test_a_repository_within_another_begins_anew(tmp_path: Path) -> None:
    """The outer patterns do not reach into an inner repository."""
    git(tmp_path, "init", "-q")
    tree(tmp_path, {".gitignore": b"*.py\n", "a.py": b"x", "inner/a.py": b"x", "inner/b.md": b"x"})
    git(tmp_path / "inner", "init", "-q")
    assert of_scan(tmp_path, tmp_path) == {"inner/a.py", "inner/b.md"}


def test_patterns_count_without_a_repository(tmp_path: Path) -> None:
    """Where a project was copied without its `.git`, what it ignores is still ignored."""
    tree(tmp_path, {"p/.gitignore": b"*.py\n", "p/a.py": b"x", "p/b.md": b"x"})
    assert of_scan(tmp_path, tmp_path) == {"p/b.md"}


def test_a_worktree_is_its_repository(tmp_path: Path) -> None:
    """A linked worktree has the name of the repository it was taken from, and its excludes."""
    main, linked = tmp_path / "shop", tmp_path / "elsewhere"
    main.mkdir()
    git(main, "init", "-q")
    git(main, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x")
    git(main, "worktree", "add", "-q", "--detach", str(linked))
    (main / ".git" / "info" / "exclude").write_text("no.md\n")
    tree(linked, {"no.md": b"x", "yes.md": b"x"})
    found = repository(str(linked), str(tmp_path))
    assert found is not None
    assert found.name == "shop"
    assert of_scan(linked, linked) == {"no.md", "yes.md"}, "the repository may not be read"
    assert of_scan(linked, tmp_path) == {"elsewhere/yes.md"}
    assert of_git(linked) == {"yes.md"}


@pytest.mark.parametrize("pointed", ["gitdir: /etc/x/.git/worktrees/y", "gitdir: \0", "nonsense", ""])
def test_a_pointer_leads_nowhere_outside(tmp_path: Path, pointed: str) -> None:
    """Whatever a file `.git` says, nothing outside the permitted directory is read, and nothing fails."""
    tree(tmp_path, {"p/.git": pointed.encode(), "p/a.md": b"x"})
    assert of_scan(tmp_path, tmp_path) == {"p/a.md"}


def test_a_link_is_no_file_of_patterns(tmp_path: Path) -> None:
    """A `.gitignore` that is a symbolic link is not followed, as by Git."""
    git(tmp_path, "init", "-q")
    tree(tmp_path, {"patterns": b"*.md\n", "a.md": b"x"})
    (tmp_path / ".gitignore").symlink_to("patterns")
    assert of_scan(tmp_path, tmp_path) == {"a.md"}
