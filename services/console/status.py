"""`anamnesis status`: what runs, what it holds, and what it is doing."""

import asyncio
import json
from typing import TypeVar

from pydantic import BaseModel, JsonValue

from anamnesis.contracts.embedding import EmbeddingConfig, ReembedStatus
from anamnesis.contracts.episodes import Blocklist, CountBy, EpisodeStats
from anamnesis.contracts.ingest import IngestStatus
from anamnesis.kit.client import Query, ServiceClient
from anamnesis.kit.errors import AnamnesisError, Unavailable
from services.console import output
from services.console.embedding import described

SHOWN = 12  # projects and instances listed


M = TypeVar("M", bound=BaseModel)


async def status(client: ServiceClient, as_json: bool) -> None:
    """Every part is asked by itself, so that one that is away hides no other. Raises when one is."""
    stats, config, reembed, blocked, ingest = await asyncio.gather(
        _ask(client, "/api/episodes/stats", EpisodeStats),
        _ask(client, "/api/embedding/config", EmbeddingConfig),
        _ask(client, "/api/episodes/reembed/status", ReembedStatus),
        _ask(client, "/api/blocklist", Blocklist, {"limit": 1}),
        _ask(client, "/api/jsonl/status", IngestStatus),
    )
    answers = {"episodes": stats, "embedding": config, "reembed": reembed, "blocklist": blocked, "ingest": ingest}
    away = [f"{name}: {answer.message}" for name, answer in answers.items() if isinstance(answer, AnamnesisError)]
    if as_json:
        report = {
            name: answer.envelope().model_dump(mode="json") if isinstance(answer, AnamnesisError) else dump(answer)
            for name, answer in answers.items()
        }
        output.lines([json.dumps({"address": client.base_url, **report}, indent=2)])
    else:
        pairs = [("gateway", client.base_url)]
        if isinstance(stats, EpisodeStats):
            pairs += [("episodes", _episodes(stats)), ("on disk", output.size(stats.bytes_on_disk))]
            if stats.without_vectors:
                pairs.append(("not embedded yet", str(stats.without_vectors)))
        if isinstance(blocked, Blocklist):
            pairs.append(("deleted for good", f"{blocked.total} on the blocklist"))
        if isinstance(config, EmbeddingConfig):
            model = config.active
            workers = f"{config.workers} {'worker' if config.workers == 1 else 'workers'}"
            pairs.append(("embedding", f"{model.name} ({model.dimension} d), {workers}"))
        if isinstance(reembed, ReembedStatus):
            pairs += described(reembed)
        if isinstance(ingest, IngestStatus):
            pairs.append(("ingest", _ingest(ingest)))
        output.fields(pairs)
        if isinstance(stats, EpisodeStats):
            for title, counts in (("PROJECT", stats.projects), ("INSTANCE", stats.instances)):
                if counts:
                    output.say()
                    _counts(title, counts)
    if away:
        raise Unavailable("; ".join(away))


async def _ask(client: ServiceClient, path: str, answer: type[M], query: Query | None = None) -> M | AnamnesisError:
    try:
        return await client.request("GET", path, answer, query=query, deadline=10.0)
    except AnamnesisError as error:
        return error


def dump(answer: BaseModel) -> dict[str, JsonValue]:
    dumped: dict[str, JsonValue] = answer.model_dump(mode="json")
    return dumped


def _episodes(stats: EpisodeStats) -> str:
    if stats.earliest is None or stats.latest is None:
        return "none yet; 'anamnesis ingest ~/.claude/projects' reads your transcripts"
    superseded = f", {stats.superseded} superseded" if stats.superseded else ""
    return f"{stats.episodes} from {output.when(stats.earliest)} to {output.when(stats.latest)}{superseded}"


def _ingest(status: IngestStatus) -> str:
    if not status.roots:
        return "reads nothing by itself; 'anamnesis ingest' does"
    run = status.current or status.last
    how = f"{run.files_done} of {run.files_changed} files, {run.created} new episodes" if run else "not begun yet"
    why = f" ({run.error})" if run is not None and run.error else ""
    return f"{status.state.value}: {', '.join(root.path for root in status.roots)}; {how}{why}"


def _counts(title: str, counts: tuple[CountBy, ...]) -> None:
    most = sorted(counts, key=lambda count: -count.episodes)
    output.table(
        [output.Column(title), output.Column("EPISODES", right=True), output.Column("LATEST")],
        [(count.name, str(count.episodes), output.when(count.latest)) for count in most[:SHOWN]],
    )
    if len(most) > SHOWN:
        output.note(f"and {len(most) - SHOWN} more")
