"""The tree in `README.md`: every tracked file with a phrase, most of them in its own words."""

import ast
import inspect
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- tree: made by `python -m docs.generate` -->"
END = "<!-- end of tree -->"

PHRASES = {
    ".ci/run": "What continuous integration runs: the test command",
    ".dockerignore": "What stays out of the images",
    ".env.example": "Every variable, one line of meaning each",
    ".gitignore": "What stays out of the repository",
    "Dockerfile": "One pattern for all images",
    "LICENSE": "Apache-2.0",
    "README.md": "This page",
    "deploy.sh": "The one door for people: local, up, down, status, logs, test",
    "docker-compose.yml": "The whole under Docker: database, memory, ingest, gateway",
    "pyproject.toml": "One distribution, an extra a service; lint, types and import contracts are set here",
    "requirements-dev.lock": "Packages with hashes, for the tests",
    "requirements-light.lock": "Packages with hashes, for the images of ingest and gateway",
    "requirements.lock": "Packages with hashes, for running everything",
    "deploy/compose.sh": "The verbs of deploy.sh that use Docker Compose",
    "deploy/envfile.sh": "Reads `.env` for deploy.sh, and never runs it",
    "docs/": "More to read",
    "docs/decisions/": "One page a decision: context, decision, consequences",
    "docs/pictures/": "The pictures of this page",
    "bench/": "What is measured, against whom, and the recorded results",
    "shared/": "Library code; on the import path",
    "tests/": "They mirror the tree",
    "tests/anamnesis/": "The library: contracts' limits, kit, redaction, transcripts",
    "tests/compose/": "The stack in a real container engine",
    "tests/contract/": "One body of tests over every store",
    "tests/deploy/": "What deploy.sh calls",
    "tests/e2e/": "All services on loopback: doors, hostile input, kill -9",
    "tests/mongo_peer/": "A real mongod behind a small proxy that answers Atlas Search",
    "tests/services/": "Each service",
}
"""What files say that cannot say it themselves. A directory without others here below it stands for all in it."""


def readme() -> str:
    """`README.md` with its tree made anew."""
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```\n{tree()}```\n{END}{after}" if rest else text


def tree() -> str:
    """Every tracked file or, where a phrase stands for a directory, that directory, each with a phrase."""
    lines: list[tuple[int, str, str]] = []
    open_folders: tuple[str, ...] = ()
    for path in entries():
        *folders, name = path.rstrip("/").split("/")
        shared = 0
        while shared < min(len(folders), len(open_folders)) and folders[shared] == open_folders[shared]:
            shared += 1
        for depth in range(shared, len(folders)):
            folder = "/".join(folders[: depth + 1])
            lines.append((depth, folders[depth] + "/", _folder_phrase(folder)))
        open_folders = tuple(folders)
        lines.append((len(folders), name + ("/" if path.endswith("/") else ""), phrase(path)))
    width = max(2 * depth + len(name) for depth, name, _ in lines) + 2
    return "".join(f"{'  ' * depth + name:<{width}}{words}".rstrip() + "\n" for depth, name, words in lines)


def entries() -> list[str]:
    """What the tree lists: files, and directories that one phrase stands for."""
    named = [path for path in PHRASES if path.endswith("/")]
    folders = [path for path in named if not any(other != path and other.startswith(path) for other in named)]
    found: set[str] = set()
    for path in tracked():
        if path.endswith("__init__.py"):
            continue  # speaks for its directory
        found.add(next((folder for folder in folders if path.startswith(folder)), path))
    return sorted(found, key=lambda path: [(part.startswith("."), part) for part in path.rstrip("/").split("/")])


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30)  # noqa: S607
    return [path for path in listed.stdout.decode().split("\0") if path and (ROOT / path).exists()]


def phrase(path: str) -> str:
    """What a file is for: as listed here, else the first sentence of its own docstring."""
    return PHRASES.get(path) or _own_words(ROOT / path)


def _folder_phrase(folder: str) -> str:
    return PHRASES.get(folder + "/") or _own_words(ROOT / folder / "__init__.py")


def _own_words(path: Path) -> str:
    """The first sentence of a module's docstring, or the title of a page."""
    if path.suffix == ".md":
        return path.read_text().partition("\n")[0].lstrip("# ")
    if path.suffix != ".py" or not path.exists():
        return ""
    return _sentence(ast.get_docstring(ast.parse(path.read_text())) or "")


def _sentence(text: str) -> str:
    first = first_paragraph(text)
    return re.split(r"(?<=[^.])\.(?:\s|$)|;\s", first, maxsplit=1)[0]


def first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
