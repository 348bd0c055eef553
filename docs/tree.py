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
    "services/gateway/dashboard/static/": "What browsers load: style sheets, and a small ES module for each page",
    "services/gateway/dashboard/static/vendor/": "Files of others, with their licences and hashes",
    "services/gateway/dashboard/templates/": "What pages are rendered from; parts of them in `parts/`",
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
    ".claude-plugin/marketplace.json": "Lists the plugin for Claude Code: the repository is its own marketplace",
    "integrations/": "What runs in the programs of others",
    "integrations/claude-code/": "The plugin for Claude Code",
    "integrations/claude-code/.claude-plugin/plugin.json": "Its name and what it is",
    "integrations/claude-code/.mcp.json": "The gateway's tools",
    "integrations/claude-code/README.md": "How it is installed, and what it does",
    "integrations/claude-code/commands/forget.md": "`/forget`: for good, after a yes",
    "integrations/claude-code/commands/recall.md": "`/recall`: ask what is remembered",
    "integrations/claude-code/commands/remember.md": "`/remember`: something, now",
    "integrations/claude-code/hooks/hooks.json": "Which events start the hook",
    "requirements-dev.lock": "Packages with hashes, for the tests",
    "requirements-light.lock": "Packages with hashes, for the images of ingest and gateway",
    "requirements.lock": "Packages with hashes, for running everything",
    "deploy/compose.sh": "The verbs of deploy.sh that use Docker Compose",
    "deploy/envfile.sh": "Reads `.env` for deploy.sh, and never runs it",
    "docs/": "More to read",
    "docs/decisions/": "One page a decision: context, decision, consequences",
    "docs/pictures/": "The pictures of this page",
    "bench/": "What is measured, against whom, and the recorded results",
    "bench/results/": "What was measured: tables to read, and the numbers behind them",
    "shared/": "Library code; on the import path",
    "tests/": "They mirror the tree",
    "tests/anamnesis/": "The library: contracts' limits, kit, redaction, transcripts",
    "tests/compose/": "The stack in a real container engine",
    "tests/compose/Dockerfile.mongo": "The image in the database's place: a mongod and the proxy of tests/mongo_peer",
    "tests/compose/peer.yml": "Builds that image, for the tests",
    "tests/compose/runner": "What that image answers to `runner healthcheck`",
    "tests/contract/": "One body of tests over every store",
    "tests/deploy/": "What deploy.sh calls",
    "tests/e2e/": "All services on loopback: doors, hostile input, kill -9",
    "tests/integrations/": "The plugin's shape, and the hook against gateways that misbehave",
    "tests/mongo_peer/": "A real mongod behind a small proxy that answers Atlas Search",
    "tests/services/": "Each service",
}
"""What files and directories are for that cannot say it themselves."""

WHOLE = (
    "bench/results/",
    "docs/decisions/",
    "docs/pictures/",
    "services/gateway/dashboard/static/vendor/",
    "services/gateway/dashboard/static/",
    "services/gateway/dashboard/templates/",
)
"""Directories that stand for everything in them."""


def readme() -> str:
    """`README.md` with its tree made anew."""
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n```\n{tree()}```\n{END}{after}" if rest else text


def tree() -> str:
    """Every tracked file or the directory that stands for it, each with a phrase."""
    lines: list[tuple[int, str, str]] = []
    open_folders: tuple[str, ...] = ()
    for path in entries():
        *folders, name = path.split("/")
        shared = 0
        while shared < min(len(folders), len(open_folders)) and folders[shared] == open_folders[shared]:
            shared += 1
        for depth in range(shared, len(folders)):
            folder = "/".join(folders[: depth + 1])
            lines.append((depth, folders[depth] + "/", phrase(folder + "/")))
        open_folders = tuple(folders)
        if name:
            lines.append((len(folders), name, phrase(path)))
    width = max(2 * depth + len(name) for depth, name, _ in lines) + 2
    return "".join(f"{'  ' * depth + name:<{width}}{words}".rstrip() + "\n" for depth, name, words in lines)


def entries() -> list[str]:
    """What the tree lists, a directory (with a slash) before what is in it."""
    found = {entry(path) for path in tracked()}
    return sorted(found, key=lambda path: [(part.startswith("."), part) for part in path.split("/")])


def entry(path: str) -> str:
    """What stands for a file in the tree: itself, or a directory."""
    folder, _, name = path.rpartition("/")
    if whole := next((whole for whole in WHOLE if path.startswith(whole)), None):
        return whole
    if name == "__init__.py":  # speaks for its directory
        return folder + "/"
    if folder.startswith("tests/") and name.startswith("test_"):  # says what it tests by its name
        return "/".join(folder.split("/")[:2]) + "/"
    return path


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30)  # noqa: S607
    return [path for path in listed.stdout.decode().split("\0") if path and (ROOT / path).exists()]


def phrase(path: str) -> str:
    """What a file or directory is for: as listed here, else the first sentence of its own docstring."""
    return PHRASES.get(path) or _own_words(ROOT / path / "__init__.py" if path.endswith("/") else ROOT / path)


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
