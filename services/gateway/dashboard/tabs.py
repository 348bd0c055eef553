"""What the navigation of the pages shows, in its order."""

from typing import NamedTuple


class Tab(NamedTuple):
    """A page of the navigation; `icon` names a macro of `icons.html`."""

    key: str
    title: str
    path: str
    icon: str


class Group(NamedTuple):
    title: str
    tabs: tuple[Tab, ...]


TABS = (
    Group(
        "Memory",
        (
            Tab("overview", "Overview", "/dashboard", "overview"),
            Tab("chat", "Chat", "/chat", "chat"),
            Tab("episodes", "Episodes", "/dashboard/episodes", "episodes"),
            Tab("search", "Search", "/dashboard/search", "search"),
            Tab("map", "Map", "/dashboard/map", "map"),
            Tab("evaluate", "Evaluate", "/dashboard/evaluate", "evaluate"),
        ),
    ),
    Group(
        "Work",
        (
            Tab("ingest", "Ingest", "/dashboard/ingest", "ingest"),
            Tab("embedding", "Embedding", "/dashboard/embedding", "embedding"),
        ),
    ),
    Group(
        "Learning",
        (
            Tab("models", "Models", "/dashboard/models", "models"),
            Tab("gpus", "GPUs", "/dashboard/gpus", "gpus"),
            Tab("training", "Training", "/dashboard/training", "training"),
        ),
    ),
    Group("This place", (Tab("settings", "Settings", "/dashboard/settings", "settings"),)),
)
