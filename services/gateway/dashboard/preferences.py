"""The pages of settings: who comes in and answers, which files and transcripts are read, and what the night does.

They hold no data: their modules ask the API with the reader's own key, and looking writes nothing. A key that may not
change settings sees them all the same.
"""

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anamnesis.contracts.crawler import DOCUMENTS, SourceKind
from anamnesis.contracts.keys import Scope
from services.gateway.dashboard.callers import may
from services.gateway.dashboard.crawling import BACKENDS
from services.gateway.dashboard.shell import Shell


class Page(NamedTuple):
    key: str
    title: str
    path: str


class Kind(NamedTuple):
    """A kind of source, as a person chooses one; `globs`: what is read while none is given."""

    key: SourceKind
    title: str
    about: str
    globs: str


class Preset(NamedTuple):
    """Fills the form of a new source, and nothing else."""

    title: str
    about: str
    name: str
    kind: SourceKind
    globs: str
    """Separated by commas."""
    tags: str
    root: str


class Cost(NamedTuple):
    """Who may write summaries, and what that costs."""

    key: str
    title: str
    about: str


PAGES = (
    Page("general", "Keys and models", "/dashboard/settings"),
    Page("files", "Files", "/dashboard/settings/files"),
    Page("transcripts", "Transcripts", "/dashboard/settings/transcripts"),
    Page("night", "Night", "/dashboard/settings/night"),
)
KINDS = (
    Kind(
        SourceKind.NAMED, "Named files", "Files that you name: CLAUDE.md, handoffs, histories, notes.", "**/CLAUDE.md"
    ),
    Kind(
        SourceKind.DOCKER,
        "Docker projects",
        "Where a Compose file or a Dockerfile lies: CLAUDE.md, README.md, *.py and *.sh beside it.",
        "CLAUDE.md, README.md, *.py, *.sh",
    ),
    Kind(
        SourceKind.DEEP,
        "Whole projects",
        "Directories by their names (0_*), wherever they lie, with all of their files.",
        "0_*",
    ),
    Kind(SourceKind.SCRIPTS, "Scripts", "Scripts directly in a directory, not below it.", "*.sh, *.py"),
    Kind(
        SourceKind.TEACHINGS,
        "Teachings",
        "What you wrote for assistants to follow; it has the trust of your own words.",
        "**/*.md, **/*.txt",
    ),
    Kind(SourceKind.DOCUMENTS, "Documents", "Word, PDF, web pages and text, tagged by patterns.", ", ".join(DOCUMENTS)),
)
PRESETS = (
    Preset("Claude notes", "every CLAUDE.md", "claude-notes", SourceKind.NAMED, "**/CLAUDE.md", "claude", ""),
    Preset(
        "Handoffs, histories, notes",
        "Markdown of these names, at any depth",
        "notes",
        SourceKind.NAMED,
        "**/HANDOFF*.md, **/handoff*.md, **/HISTORY*.md, **/history*.md, **/NOTES*.md, **/notes*.md, **/notes/**/*.md",
        "notes",
        "",
    ),
    Preset("Docker projects", "notes and scripts beside a Compose file", "docker", SourceKind.DOCKER, "", "docker", ""),
    Preset("Numbered projects", "directories called 0_*, with all in them", "projects", SourceKind.DEEP, "0_*", "", ""),
    Preset("Scripts", "those directly in bin", "scripts", SourceKind.SCRIPTS, "", "script", "bin"),
    Preset("Teachings", "what you wrote for assistants", "teachings", SourceKind.TEACHINGS, "", "", "teachings"),
    Preset("A documents folder", "Word, PDF, HTML, text", "documents", SourceKind.DOCUMENTS, "", "", "Documents"),
)
_TITLES = {
    "extractive": "No model and no cost: the telling sentences of an exchange itself. Always written first.",
    "anamnesis-gpt": "A model of your own trainer: no money, its time on the GPU.",
    "openai": "Whatever ANAMNESIS_OPENAI_URLS names: a local server costs nothing, a hosted one bills each request.",
    "ollama": "A model on a machine of yours: no money, its time on that machine.",
    "claude": "Billed by Anthropic for each request, on your API key.",
    "claude-cli": "Counts against the limits of your Claude subscription.",
}
COSTS = tuple(Cost(key, title, _TITLES[key]) for key, title in BACKENDS.items())


def routes(shell: Shell) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for one in PAGES:
        _open(router, shell, one)
    return router


def _open(router: APIRouter, shell: Shell, page: Page) -> None:
    @router.get(page.path)
    async def shown(request: Request) -> Response:
        context = {
            "pages": PAGES,
            "page": page,
            "may_edit": may(request, Scope.ADMIN),
            "kinds": KINDS,
            "presets": PRESETS,
            "costs": COSTS,
        }
        return shell.page(request, f"settings_{page.key}.html", "settings", context)
