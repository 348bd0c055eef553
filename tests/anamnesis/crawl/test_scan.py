"""Which files sources mean, and what a scan knows of what it could not see."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, PreviewRequest, Source, SourceKind
from anamnesis.contracts.episodes import Trust
from anamnesis.crawl.preview import preview
from anamnesis.crawl.scan import MAX_DEPTH, Scan, scan
from anamnesis.kit.errors import Invalid
from tests.anamnesis.crawl.trees import configured, looked, names, one, write

NAMED = Source(name="notes", kind=SourceKind.NAMED, globs=("CLAUDE.md", "handoffs/*.md"), tags=("note",))
DOCKER = Source(name="docker", kind=SourceKind.DOCKER)
DEEP = Source(name="deep", kind=SourceKind.DEEP, globs=("0_*",))
SCRIPTS = Source(name="scripts", kind=SourceKind.SCRIPTS, root="bin")
TEACHINGS = Source(name="teachings", kind=SourceKind.TEACHINGS, root="teachings")
DOCUMENTS = Source(name="documents", kind=SourceKind.DOCUMENTS)


def test_named_files(tmp_path: Path) -> None:
    """A name at any depth, a path from the root; with the source's tags and the trust of a user's words."""
    write(
        tmp_path,
        "CLAUDE.md",
        "shop/CLAUDE.md",
        "shop/other.md",
        "handoffs/a.md",
        "shop/handoffs/b.md",
        "handoffs/c.txt",
    )
    found = looked(tmp_path, NAMED)
    assert names(found, tmp_path) == {"CLAUDE.md", "shop/CLAUDE.md", "handoffs/a.md"}
    assert {(file.tags, file.trust, file.instance) for file in found.files} == {(("note",), Trust.USER, "box")}
    assert found.whole == ("notes",)


def test_a_glob_that_spells_a_name_needs_no_extension(tmp_path: Path) -> None:
    """What a glob spells to its end is meant; one that ends in a star follows the configuration's extensions."""
    write(tmp_path, "notes/a.txt", "notes/HISTORY", "notes/b.md", "notes/c.unknown")
    spelled = Source(name="n", kind=SourceKind.NAMED, globs=("*.txt", "HISTORY"))
    assert names(looked(tmp_path, spelled), tmp_path) == {"notes/a.txt", "notes/HISTORY"}
    loose = Source(name="n", kind=SourceKind.NAMED, globs=("notes/*",))
    assert names(looked(tmp_path, loose), tmp_path) == {"notes/b.md"}
    narrowed = spelled.model_copy(update={"extensions": (".txt",)})
    assert names(looked(tmp_path, narrowed), tmp_path) == {"notes/a.txt"}


def test_docker_projects(tmp_path: Path) -> None:
    """Some files directly beside a Compose file or a Dockerfile, and nothing elsewhere."""
    for project, mark in (
        ("a", "docker-compose.yml"),
        ("b", "compose.yaml"),
        ("c/d", "Dockerfile"),
        ("e", "other.yml"),
    ):
        write(tmp_path, f"{project}/{mark}", f"{project}/README.md", f"{project}/run.py", f"{project}/notes.md")
        write(tmp_path, f"{project}/src/deep.py")
    found = looked(tmp_path, DOCKER)
    assert names(found, tmp_path) == {f"{one}/{name}" for one in ("a", "b", "c/d") for name in ("README.md", "run.py")}
    assert {(file.project, file.relative) for file in found.files if file.path.endswith(".md")} == {
        ("a", "README.md"),
        ("b", "README.md"),
        ("d", "README.md"),
    }


def test_deep_projects(tmp_path: Path) -> None:
    """All files with a fitting extension below directories of a name, wherever those lie."""
    write(tmp_path, "x/y/0_shop/a.py", "x/y/0_shop/src/lib/b.cpp", "x/y/0_shop/c.bin", "x/y/z.py", "1_other/a.py")
    write(tmp_path, "x/y/0_shop/.hidden/d.py", "x/y/0_shop/0_inner/e.py")
    found = looked(tmp_path, DEEP)
    assert {(file.project, file.relative) for file in found.files} == {
        ("0_shop", "a.py"),
        ("0_shop", "src/lib/b.cpp"),
        ("0_shop", "0_inner/e.py"),
    }
    assert one(found, "a.py").trust is Trust.TOOL


def test_scripts_and_teachings(tmp_path: Path) -> None:
    """Scripts lie directly in a directory; teachings anywhere below, as a user's words."""
    write(
        tmp_path,
        "bin/a.sh",
        "bin/b.py",
        "bin/c.md",
        "bin/sub/d.sh",
        "teachings/x/e.txt",
        "teachings/f.md",
        "teachings/g.py",
    )
    found = looked(tmp_path, SCRIPTS, TEACHINGS)
    assert names(found, tmp_path) == {"bin/a.sh", "bin/b.py", "teachings/x/e.txt", "teachings/f.md"}
    assert one(found, "e.txt").trust is Trust.USER
    assert one(found, "a.sh").trust is Trust.TOOL


def test_documents(tmp_path: Path) -> None:
    """Documents are marked as such and may be longer than text."""
    write(tmp_path, "a.docx", "b.PDF", "c.py")
    write(tmp_path, "d.html", "d.py", text="x" * 100_000)
    found = looked(tmp_path, DOCUMENTS)
    assert names(found, tmp_path) == {"a.docx", "b.PDF", "d.html"}
    assert all(file.document for file in found.files)


def test_the_first_source_has_a_file(tmp_path: Path) -> None:
    """Of several sources that mean a file the first in order counts, also where their roots lie in each other."""
    write(tmp_path, "0_p/CLAUDE.md", "0_p/bin/a.py")
    inner = Source(name="inner", kind=SourceKind.SCRIPTS, root=str(tmp_path / "0_p" / "bin"))
    for sources, expected in (
        ((NAMED, DEEP, inner), {"CLAUDE.md": "notes", "a.py": "deep"}),
        ((inner, DEEP, NAMED), {"CLAUDE.md": "deep", "a.py": "inner"}),
    ):
        found = looked(tmp_path, *sources)
        assert {os.path.basename(file.path): file.source for file in found.files} == expected
    off = DEEP.model_copy(update={"enabled": False})
    assert {file.source for file in looked(tmp_path, off, NAMED).files} == {"notes"}


def test_where_one_source_leaves_a_file_out_another_may_have_it(tmp_path: Path) -> None:
    """A limit, an exclude and `.gitignore` are a source's own."""
    write(tmp_path, "p/long.md", text="x" * 70_000)
    write(tmp_path, "p/ignored.md", "p/excluded.md")
    write(tmp_path, "p/.gitignore", text="ignored.md\n")
    first = Source(name="first", kind=SourceKind.TEACHINGS, excludes=("excluded.md",))
    second = Source(name="second", kind=SourceKind.TEACHINGS, gitignore=False, max_bytes=100_000)
    both = looked(tmp_path, first, second)
    assert {file.source for file in both.files} == {"second"}
    assert len(both.files) == 3
    assert not both.left_out
    alone = looked(tmp_path, first)
    assert alone.files == []
    assert alone.left_out == {"too-large": 1, "ignored": 1, "excluded": 1}


def test_a_project_is_a_repository_else_a_directory(tmp_path: Path) -> None:
    """The source's word, else the Git repository's directory, else the first directory below the root."""
    source = Source(name="t", kind=SourceKind.TEACHINGS)
    write(tmp_path, "code/shop/.git/HEAD", "code/shop/docs/a.md", "code/b.md", "c.md")
    found = looked(tmp_path, source)
    assert [(file.project, file.relative) for file in found.files] == [
        (tmp_path.name, "c.md"),
        ("code", "b.md"),
        ("shop", "docs/a.md"),
    ]
    named = looked(tmp_path, source.model_copy(update={"project": "mine"}))
    assert [(file.project, file.relative) for file in named.files][2] == ("mine", "code/shop/docs/a.md")
    within = looked(tmp_path, source.model_copy(update={"root": "code/shop/docs"}))
    assert [(file.project, file.relative) for file in within.files] == [("shop", "docs/a.md")]


def test_a_machine_names_its_files(tmp_path: Path) -> None:
    """What lies below a machine root is of that machine; what lies elsewhere is of this one."""
    write(tmp_path, "laptop/n/a.md", "desk/n/b.md", "own/n/c.md")
    config = CrawlerConfig(
        machine_roots=tuple(MachineRoot(instance=name, path=str(tmp_path / name)) for name in ("laptop", "desk")),
        sources=(
            Source(name="relative", kind=SourceKind.TEACHINGS, root="n"),
            Source(name="absolute", kind=SourceKind.TEACHINGS, root=str(tmp_path / "own")),
        ),
    )
    found = scan(config, [tmp_path], "home", never=())
    assert {(file.relative, file.instance) for file in found.files} == {
        ("a.md", "laptop"),
        ("b.md", "desk"),
        ("c.md", "home"),
    }


@pytest.mark.parametrize("root", ["/", "../beside", "link", ".ssh", "own"])
def test_nothing_outside_is_looked_at(tmp_path: Path, root: str) -> None:
    """A root that lies or leads elsewhere, or holds what is never read, is refused, and told what to do."""
    inside, beside = tmp_path / "inside", tmp_path / "beside"
    write(inside, "a.md", ".ssh/b.md", "own/c.md")
    write(beside, "d.md")
    (inside / "link").symlink_to(beside)
    source = Source(name="s", kind=SourceKind.TEACHINGS, root=root)
    found = scan(configured(inside, source), [inside], "home", never=[inside / "own"])
    assert found.files == []
    assert found.whole == ()
    assert set(found.problems) == {"s"}
    if root in ("/", "link"):
        assert "ANAMNESIS_SOURCES" in found.problems["s"]
    machine = CrawlerConfig(
        machine_roots=(MachineRoot(instance="b", path=str(beside)),),
        sources=(source.model_copy(update={"root": None}),),
    )
    refused = scan(machine, [inside], "home", never=())
    assert (refused.files, refused.whole) == ([], ())
    assert "ANAMNESIS_SOURCES" in refused.problems["s"]


def test_a_source_without_a_place_says_so(tmp_path: Path) -> None:
    """No machine root, or no globs where they are needed, is a problem of that source alone."""
    nothing = CrawlerConfig(sources=(TEACHINGS,))
    assert "machine root" in scan(nothing, [tmp_path], "home", never=()).problems["teachings"]
    write(tmp_path, "a/b.md")
    empty = Source(name="e", kind=SourceKind.DEEP)
    broken = Source(name="b", kind=SourceKind.NAMED, globs=("a[",))
    excluding = Source(name="x", kind=SourceKind.TEACHINGS, excludes=("a[",))
    found = looked(tmp_path, empty, broken, excluding, Source(name="t", kind=SourceKind.TEACHINGS))
    assert set(found.problems) == {"e", "b", "x"}
    assert found.whole == ("t",)


SECRET = """
    .env .env.production prod.env server.pem private.key id_rsa id_ed25519.old deploy_id_rsa .netrc .pgpass .npmrc
    .git-credentials credentials credentials.json .credentials.json aws-credentials.md secrets.yml secret.md
    store.jks vault.kdbx cert.p12 .htpasswd kubeconfig terraform.tfvars auth.json service-account-x.json token.json
    backup.gpg ID_RSA Secrets.YML passwords.txt api_keys.txt recovery-codes.txt .claude.json
    .env~ #.env# server.key.old cert.pem.txt id_rsa~ env.local private_key.txt arduino_secrets.h credentials.h
    secrets.py secrets.prod.yml creds.json my-passwords-2024.md github_token.txt netrc wg0.conf
    x-firebase-adminsdk-1.json key4.db
""".split()  # noqa: SIM905 -- one name a line is no easier to read


@pytest.mark.parametrize("name", SECRET)
def test_credentials_are_never_read(tmp_path: Path, name: str) -> None:
    """Whatever a glob says, a file that by its name holds credentials is counted and left alone."""
    write(tmp_path, f"p/{name}")
    for glob in (name, f"p/{name}", "p/*", "**/.*", "**/*.*"):
        extension = os.path.splitext(name)[1]
        extensions = (extension,) if extension.lstrip(".").isalnum() and extension.isascii() else None
        source = Source(name="s", kind=SourceKind.NAMED, globs=(glob,), extensions=extensions, gitignore=False)
        assert looked(tmp_path, source).files == []
    spelled = looked(tmp_path, Source(name="s", kind=SourceKind.NAMED, globs=(f"p/{name}",)))
    assert spelled.left_out == {"credentials": 1}


@pytest.mark.parametrize("name", [".ssh", ".gnupg", ".aws", ".kube", ".config/gcloud", ".config/gh", "secrets", ".SSH"])
def test_directories_of_credentials_are_never_entered(tmp_path: Path, name: str) -> None:
    """Whatever a glob says, they are passed by."""
    write(tmp_path, f"{name}/a.md", f"{name}/b/c.md")
    for glob in (f"{name}/*.md", f"**/{name}/**", "**/.*/**", "**"):
        assert looked(tmp_path, Source(name="s", kind=SourceKind.NAMED, globs=(glob,))).files == []


def test_what_mentions_a_secret_is_read(tmp_path: Path) -> None:
    """Names that only resemble those of credentials are files like any other."""
    good = (
        "environment.md",
        "keys.md",
        "secretary.md",
        "tokenizer.py",
        "credentials.py",
        "secrets.ts",
        "token.py",
        "reset-password.md",
        "secret-rotation.md",
        "credits.md",
        "key.h",
        "CHANGES.old.md",
        "monkey.md",
        "env.py",
    )
    write(tmp_path, *(f"0_p/{name}" for name in good))
    assert len(looked(tmp_path, DEEP).files) == len(good)


def test_own_data_is_never_read(tmp_path: Path) -> None:
    """The directory that Anamnesis keeps its data in is not entered, by whatever path it is named."""
    write(tmp_path, "data/a.md", "b.md")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")
    config = configured(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS))
    assert names(scan(config, [tmp_path], "home", never=[tmp_path / "elsewhere"]), tmp_path) == {"b.md"}


def test_noise_is_left_out(tmp_path: Path) -> None:
    """Packages, builds, caches and archives are not entered; what is generated is counted by reason."""
    for one_of_them in (
        "node_modules",
        "vendor",
        "build",
        "__pycache__",
        "archive",
        ".git",
        "dist",
        "x.egg-info",
        ".venv",
    ):
        write(tmp_path, f"0_p/{one_of_them}/a.py", f"0_p/{one_of_them}/b/a.md")
    write(tmp_path, "0_p/env/pyvenv.cfg", "0_p/env/lib/a.py", "0_p/c/CACHEDIR.TAG", "0_p/c/a.py")
    write(tmp_path, "0_p/a.min.js", "0_p/pnpm-lock.yml", "0_p/x_pb2.py", "0_p/ok.js")
    (tmp_path / "0_p" / "empty.py").touch()
    found = looked(tmp_path, DEEP)
    assert names(found, tmp_path) == {"0_p/ok.js"}
    assert found.left_out == {"minified": 1, "lock-file": 1, "generated": 1, "empty": 1}
    assert found.examples["minified"] == [str(tmp_path / "0_p/a.min.js")]


def test_a_root_may_be_what_is_passed_by_elsewhere(tmp_path: Path) -> None:
    """Who names an archive as root wants it read."""
    write(tmp_path, "archive/a.md")
    assert names(looked(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS, root="archive")), tmp_path) == {
        "archive/a.md"
    }


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Symbolic links to files and directories are passed by, cycles end, and hard links count once."""
    inside = tmp_path / "inside"
    write(tmp_path, "outside/a.md")
    write(inside, "b.md")
    (inside / "dir").symlink_to(tmp_path / "outside")
    (inside / "file.md").symlink_to(tmp_path / "outside/a.md")
    (inside / "cycle").symlink_to(inside)
    (inside / "a-link.md").hardlink_to(inside / "b.md")
    found = looked(inside, Source(name="t", kind=SourceKind.TEACHINGS))
    assert names(found, inside) == {"a-link.md"}
    assert found.left_out == {"symbolic-link": 1}


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    """A FIFO and a directory of a file's name are not files."""
    os.mkfifo(tmp_path / "a.md")
    (tmp_path / "b.md").mkdir()
    found = looked(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS))
    assert found.files == []
    assert found.left_out == {"not-regular": 1}


def test_names_of_any_bytes(tmp_path: Path) -> None:
    """Names that are no UTF-8 are found; what people read of them can be stored."""
    directory = os.fsencode(tmp_path) + b"/p\xff"
    os.mkdir(directory)
    for name in (b"caf\xe9.md", "é\n.md".encode(), b"\xf0\x9f\x98\x80.md"):
        with open(directory + b"/" + name, "wb") as file:
            file.write(b"x")
    found = looked(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS))
    assert {file.relative for file in found.files} == {"caf\\xe9.md", "é\n.md", "\U0001f600.md"}
    assert {file.project for file in found.files} == {"p\\xff"}
    assert all(os.path.exists(file.path) for file in found.files)


def test_depth_is_bounded(tmp_path: Path) -> None:
    """What lies deeper than a bound is counted, not descended into for ever."""
    write(tmp_path, "/".join(["d"] * MAX_DEPTH) + "/in.md", "/".join(["d"] * (MAX_DEPTH + 1)) + "/out.md")
    found = looked(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS))
    assert [os.path.basename(file.path) for file in found.files] == ["in.md"]
    assert found.left_out == {"too-deep": 1}


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="setpriv is missing on this machine")
def test_permission_denied_is_counted(tmp_path: Path) -> None:
    """A directory that may not be read hides what lies in it and nothing else; the source is not whole."""
    write(tmp_path, "a/x.md", "b/y.md")
    (tmp_path / "a").chmod(0)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from tests.anamnesis.crawl.trees import looked; "
        "from anamnesis.contracts.crawler import Source; root = Path(sys.argv[1]); "
        "found = looked(root, Source(name='t', kind='teachings')); "
        "print(len(found.files), found.whole, dict(found.errors), found.gone(str(root / 'a/x.md'), 't'), "
        "found.gone(str(root / 'b/gone.md'), 't'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        (tmp_path / "a").chmod(0o755)
    assert done.stdout.strip() == "1 () {'permission': 1} False True", done.stderr


def test_a_directory_removed_in_mid_scan(tmp_path: Path) -> None:
    """What vanishes during a scan is counted; its source is not whole, and nothing fails."""
    write(tmp_path, *(f"d{number}/a.md" for number in range(10)))
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            for number in range(10):
                shutil.rmtree(tmp_path / f"d{number}", ignore_errors=True)
        return False

    found = scan(
        configured(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS)), [tmp_path], "home", never=(), stop=stop
    )
    assert found.errors == {"vanished": 9}
    assert len(found.files) == 1
    assert found.whole == ()
    seen = os.path.dirname(found.files[0].path)
    gone = {number for number in range(10) if found.gone(str(tmp_path / f"d{number}/a.md"), "t")}
    assert gone == {number for number in range(10) if seen == str(tmp_path / f"d{number}")}


def test_a_missing_or_empty_root_is_not_whole(tmp_path: Path) -> None:
    """A machine whose directory is away or empty is probably not mounted: nothing of it is taken for deleted."""
    source = Source(name="t", kind=SourceKind.TEACHINGS)
    for root in (tmp_path / "absent", tmp_path / "empty"):
        if root.name == "empty":
            root.mkdir()
        found = looked(root, source, allowed=(tmp_path,))
        assert found.whole == ()
        assert sum(found.errors.values()) == 1
        assert not found.gone(str(root / "a.md"), "t")
    relative = source.model_copy(update={"root": "not-here"})
    write(tmp_path, "a.md")
    assert looked(tmp_path, relative).whole == ("t",), "not every machine has every directory"


def test_a_scan_can_be_stopped(tmp_path: Path) -> None:
    """What was found is given; nothing is taken for gone."""
    write(tmp_path, "a/b.md")
    config = configured(tmp_path, Source(name="t", kind=SourceKind.TEACHINGS))
    found = scan(config, [tmp_path], "home", never=(), stop=lambda: True)
    assert (found.files, found.whole, found.stopped) == ([], (), True)
    assert not found.gone(str(tmp_path / "a/x.md"), "t")


def test_only_some_paths(tmp_path: Path) -> None:
    """A look at what changed finds the same files as a scan, looks nowhere else, and knows what is gone there."""
    write(tmp_path, "a/b/c.md", "a/b/d.md", "a/e/f.md", "g/h.md", ".gitignore", text="d.md\n")
    source = Source(name="t", kind=SourceKind.TEACHINGS)
    every = {file.path: file for file in looked(tmp_path, source).files}
    asked = [str(tmp_path / name) for name in ("a/b/c.md", "a/b/d.md", "a/b/gone.md", "g")]
    found = looked(tmp_path, source, only=asked)
    assert [file.path for file in found.files] == [str(tmp_path / "a/b/c.md"), str(tmp_path / "g/h.md")]
    assert all(every[file.path] == file for file in found.files)
    assert set(found.directories) == {str(tmp_path / name) for name in (".", "a", "a/b", "g")}
    assert found.whole == ()
    assert [found.gone(str(tmp_path / name), "t") for name in ("a/b/gone.md", "g/was.md", "a/e/was.md")] == [
        True,
        True,
        False,
    ]


KINDS = st.sampled_from((NAMED, DOCKER, DEEP, SCRIPTS, TEACHINGS, DOCUMENTS))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(KINDS, min_size=1, max_size=4, unique=True),
    st.lists(
        st.lists(
            st.sampled_from(("0_a", "bin", "teachings", "CLAUDE.md", "b.py", "Dockerfile", "x.docx", ".git")),
            min_size=1,
            max_size=4,
        ),
        max_size=12,
    ),
)
def test_sources_together_are_sources_alone(
    tmp_path_factory: pytest.TempPathFactory, sources: list[Source], paths: list[list[str]]
) -> None:
    """One look for all sources finds for each what a look for it alone finds, less what an earlier one has."""
    root = tmp_path_factory.mktemp("tree")
    for parts in paths:
        try:
            write(root, "/".join(parts))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a file where a directory was to be
    expected: dict[str, tuple[str, str, str]] = {}
    for source in sources:
        for file in looked(root, source).files:
            expected.setdefault(file.path, (file.source, file.project, file.relative))
    together = looked(root, *sources)
    assert {file.path: (file.source, file.project, file.relative) for file in together.files} == expected
    shutil.rmtree(root)


def test_a_preview_counts(tmp_path: Path) -> None:
    """Files, bytes and reasons of one source, with other machine roots if asked; in the end what time allowed."""
    write(tmp_path, *(f"d{number}/a.md" for number in range(30)), text="12345")
    write(tmp_path, "big.md", text="x" * 70_000)
    config = configured(tmp_path / "d1", DEEP)
    roots = (MachineRoot(instance="x", path=str(tmp_path)),)
    asked = PreviewRequest(source=Source(name="t", kind=SourceKind.TEACHINGS, enabled=False), machine_roots=roots)
    seen = preview(asked, config, [tmp_path], "home", never=())
    assert (seen.files, seen.bytes, seen.left_out, seen.complete) == (30, 150, {"too-large": 1}, True)
    assert len(seen.examples) == 20
    kept = asked.model_copy(update={"machine_roots": None})
    assert preview(kept, config, [tmp_path], "home", never=()).files == 1
    assert not preview(asked, config, [tmp_path], "home", never=(), seconds=-1).complete
    outside = asked.model_copy(update={"source": asked.source.model_copy(update={"root": "/etc"})})
    with pytest.raises(Invalid, match="ANAMNESIS_SOURCES"):
        preview(outside, config, [tmp_path], "home", never=())


def test_an_empty_configuration_is_nothing() -> None:
    """Without sources there is nothing to look at, and nothing wrong."""
    assert scan(CrawlerConfig(), [], "home", never=()) == Scan()


def test_roots_within_each_other_are_watched_for_both(tmp_path: Path) -> None:
    """A directory that several roots hold concerns whatever one of them means there."""
    write(tmp_path, "bin/a.py")
    found = looked(tmp_path, SCRIPTS, TEACHINGS.model_copy(update={"root": None}))
    assert found.concerns(str(tmp_path / "bin/new.sh"))
    assert found.concerns(str(tmp_path / "bin/new.md"))
    assert not found.concerns(str(tmp_path / "bin/new.cpp"))
    assert not found.concerns(str(tmp_path / "nowhere/new.md"))
    assert not found.concerns(str(tmp_path / "bin/secrets.md"))


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    """All of a very large tree are found, once each."""
    for directory in range(500):
        place = tmp_path / f"d{directory % 20}" / f"e{directory}"
        place.mkdir(parents=True)
        for number in range(200):
            descriptor = os.open(place / f"f{number}.py", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"1\n")
            os.close(descriptor)
    found = looked(tmp_path, Source(name="all", kind=SourceKind.NAMED, globs=("**/*",)))
    assert len({file.path for file in found.files}) == len(found.files) == 100_000
    assert found.whole == ("all",)
