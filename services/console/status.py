"""`anamnesis status`: what runs, what it holds, and what it is doing."""

import json

from pydantic import BaseModel, JsonValue

from anamnesis.contracts.embedding import EmbeddingConfig
from anamnesis.contracts.episodes import Blocklist, CountBy, EpisodeStats
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError
from services.console import output
from services.console.embedding import status_line

SHOWN = 12  # projects and instances listed


class _Ready(BaseModel):
    status: str


class _IngestStatus(BaseModel):
    """Whatever the ingest service tells of itself."""

    model_config = {"extra": "allow"}


async def status(client: ServiceClient, as_json: bool) -> None:
    """Every part is asked by itself, so that one that is away hides no other."""
    ready = await client.get("/ready", _Ready, deadline=5.0)
    stats = await client.get("/api/episodes/stats", EpisodeStats)
    config = await client.get("/api/embedding/config", EmbeddingConfig)
    blocked = await client.get("/api/blocklist", Blocklist, {"limit": 1})
    ingest = await _ingest(client)
    if as_json:
        report: dict[str, JsonValue] = {
            "address": client.base_url,
            "gateway": ready.status,
            "episodes": stats.model_dump(mode="json"),
            "embedding": config.model_dump(mode="json"),
            "blocked": blocked.total,
            "ingest": ingest,
        }
        output.lines([json.dumps(report, indent=2)])
        return
    output.fields(
        [
            ("gateway", f"{client.base_url} ({ready.status})"),
            ("episodes", _episodes(stats)),
            ("on disk", output.size(stats.bytes_on_disk)),
            ("deleted for good", f"{blocked.total} on the blocklist"),
            ("embedding", f"{config.active.name} ({config.active.dimension} d), {config.workers} workers"),
            *([("without vectors", str(stats.without_vectors))] if stats.without_vectors else []),
            *await status_line(client),
            ("ingest", "; ".join(f"{name} {value}" for name, value in ingest.items()) or "ready"),
        ]
    )
    for title, counts in (("PROJECT", stats.projects), ("INSTANCE", stats.instances)):
        if counts:
            output.say()
            _counts(title, counts)


async def _ingest(client: ServiceClient) -> dict[str, JsonValue]:
    try:
        found = await client.get("/api/jsonl/status", _IngestStatus, deadline=5.0)
    except AnamnesisError as error:
        return {"state": error.message}
    return {name: value for name, value in (found.model_extra or {}).items() if isinstance(value, str | int | float)}


def _episodes(stats: EpisodeStats) -> str:
    if stats.earliest is None or stats.latest is None:
        return "none yet; 'anamnesis ingest ~/.claude/projects' reads your transcripts"
    superseded = f", {stats.superseded} superseded" if stats.superseded else ""
    return f"{stats.episodes} from {output.when(stats.earliest)} to {output.when(stats.latest)}{superseded}"


def _counts(title: str, counts: tuple[CountBy, ...]) -> None:
    most = sorted(counts, key=lambda count: -count.episodes)
    output.table(
        [output.Column(title), output.Column("EPISODES", right=True), output.Column("LATEST")],
        [(count.name, str(count.episodes), output.when(count.latest)) for count in most[:SHOWN]],
    )
    if len(most) > SHOWN:
        output.note(f"and {len(most) - SHOWN} more")
