"""The repository as a whole: its pages tell the truth, its lock files fit, its scripts are sound."""

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.environment import SETTINGS, SHELL, environment, other_names
from docs.generate import MADE
from docs.tree import WHOLE, entry, phrase, tracked

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FROM_GIT = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs git and the repository's history"
)
SCRIPTS = [ROOT / "deploy.sh", *sorted((ROOT / "deploy").glob("*.sh")), ROOT / ".ci" / "run"]


@FROM_GIT
@pytest.mark.parametrize("path", MADE)
def test_made_pages_are_up_to_date(path: str) -> None:
    """Pages made from the code are what `python -m docs.generate` makes now."""
    assert (ROOT / path).read_text() == MADE[path](), f"{path} is stale: run python -m docs.generate"


@FROM_GIT
def test_every_file_has_a_phrase() -> None:
    """Every tracked file stands in the README's tree with what it is for; for tests and pages their directory does."""
    whole = "|".join(map(re.escape, WHOLE))
    by_directory = re.compile(rf".+/__init__\.py|tests/.+/test_\w+\.py|({whole}).+")
    paths = tracked()
    assert [path for path in paths if not phrase(entry(path))] == []
    assert [path for path in paths if entry(path) != path and not by_directory.fullmatch(path)] == []


@FROM_GIT
def test_every_settings_class_is_listed() -> None:
    """No module of settings is left out of `.env.example`."""
    modules = {
        path.removesuffix(".py").removeprefix("shared/").replace("/", ".")
        for path in tracked()
        if path.endswith("settings.py") and not path.startswith("tests/")
    }
    assert modules == set(SETTINGS.values())


def test_every_variable_has_a_meaning_and_stands_once() -> None:
    """Each variable of `.env.example` follows one line of meaning, and no variable stands there twice."""
    lines = environment().splitlines()
    names = []
    for before, line in zip(["", *lines], lines, strict=False):
        if found := re.fullmatch(r"#([A-Z][A-Z0-9_]*)=(.*)", line):
            names.append(found[1])
            assert re.fullmatch(r"# .{5,}[.`]", before), f"{found[1]} has no meaning"
    assert len(names) == len(set(names))


def test_every_variable_of_the_shell_is_listed() -> None:
    """What deploy.sh and Compose read from the environment stands in `.env.example`, and nothing else does."""
    read, set_here = set[str](), {"BASH_SOURCE", "BASH_REMATCH"}
    for path in (*SCRIPTS, ROOT / "docker-compose.yml"):
        text = path.read_text()
        read.update(re.findall(r"\$\{!?([A-Z][A-Z0-9_]*)[-:?+}]", text))
        read.update(re.findall(r"^\s+(ANAMNESIS_[A-Z0-9_]+):\s*$", text, re.MULTILINE))
        set_here.update(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))
    listed = set(re.findall(r"^#([A-Z][A-Z0-9_]*)=", environment(), re.MULTILINE))
    assert read - listed - other_names() - set_here == set()
    assert {name for variables in SHELL.values() for name in variables} - read == set()


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ["local"]),
        ("requirements-dev.lock", ["dev"]),
        ("requirements-light.lock", ["ingest", "gateway"]),
    ],
)
def test_lock_files_fit_the_project(lock: str, extras: list[str]) -> None:
    """Every direct requirement is locked at a version that it allows; every locked package has hashes."""
    text = (ROOT / lock).read_text()
    locked: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE):
        locked.setdefault(canonicalize_name(name), set()).add(version)
    for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block
    for requirement in requirements(extras):
        if requirement.name == "torch":
            continue
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not locked: run ./deploy.sh lock"
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    assert not any(name == "torch" or name.startswith(("nvidia-", "cuda-")) for name in locked)


def requirements(extras: list[str]) -> list[Requirement]:
    """The direct requirements of the project with some extras, those of our own extras resolved."""
    project = PYPROJECT["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    waiting = list(extras)
    while waiting:
        for text in project["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(text)
            if requirement.name == project["name"]:
                waiting.extend(requirement.extras)
            else:
                found.append(requirement)
    return found


def test_torch_has_one_version() -> None:
    """deploy.sh, the Dockerfile and the project pin the same torch."""
    [pinned] = [one for one in requirements(["memory"]) if one.name == "torch"]
    version = str(pinned.specifier).removeprefix("==")
    assert f"\nTORCH={version}\n" in (ROOT / "deploy.sh").read_text()
    assert f"ARG TORCH_VERSION={version}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    """Every shell script is valid, and may be run where it is a program."""
    assert subprocess.run(["bash", "-n", str(script)], check=False, timeout=10).returncode == 0
    assert script.read_text().startswith("#!/usr/bin/env bash\n") == bool(script.stat().st_mode & 0o111)


def test_help_lists_every_verb() -> None:
    """`./deploy.sh help` names every verb that deploy.sh takes."""
    text = (ROOT / "deploy.sh").read_text()
    verbs = re.findall(r"^    ([a-z][a-z |]*)\)", text[text.index("case $verb in") :], re.MULTILINE)
    names = {name for group in verbs for name in group.split(" | ")} - {"help", "pull", "set"}
    shown = subprocess.run([str(ROOT / "deploy.sh"), "help"], capture_output=True, text=True, check=True, timeout=10)
    assert {name for name in names if not re.search(rf"\b{name}\b", shown.stdout)} == set()


COMMON = {"app", "data", "home", "media", "mnt", "opt", "root", "src", "srv", "tmp", "usr", "var", "workspace"}
"""Directories that many machines have: what lies directly in them tells none from the others."""
PUBLIC = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "localhost", "127.0.0.1", "::1"}
"""Hosts that may be named."""


@FROM_GIT
def test_nothing_names_the_place_it_was_made() -> None:
    """No file depends on, or speaks of, the machine that it was written on: where that is this one, it shows here."""
    patterns = [re.compile(rf"(?<![\w.-]){re.escape(word)}(?![\w-])".encode()) for word in of_this_machine()]
    contents = {path: (ROOT / path).read_bytes() for path in tracked()}
    assert [(path, one.pattern) for path, text in contents.items() for one in patterns if one.search(text)] == []


def of_this_machine() -> set[str]:
    """What tells this machine from others: its paths, its name, and where its packages come from."""
    paths = [ROOT, ROOT.parent, Path.home()]
    words = set[str]()
    command = [sys.executable, "-m", "pip", "config", "list"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines():
        setting, _, value = line.partition("=")
        if setting.rpartition(".")[2] not in ("index-url", "extra-index-url", "find-links"):
            continue
        for place in value.strip("'\"").split():
            url = urlsplit(place)
            if url.hostname is None:
                paths.append(Path(url.path))
            elif url.hostname not in PUBLIC:
                words.add(url.hostname)
    for path in paths:
        parts = path.parts[1:]
        if len(parts) > 2 or (parts and parts[0] not in COMMON):
            words.add(str(path))
    name = socket.gethostname()
    return words | ({name} if len(name) > 5 and not name.isalpha() else set())
