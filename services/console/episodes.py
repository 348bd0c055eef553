"""`anamnesis episodes list|show|delete` and `anamnesis forget`."""

from collections.abc import Sequence

from anamnesis.contracts.episodes import Changed, Episode, EpisodeFilter, EpisodePage, ForgetReceipt
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import NotFound
from services.console import output

SHOWN = 160  # characters of a summary in the table


async def list_(client: ServiceClient, where: EpisodeFilter, skip: int, limit: int, as_json: bool) -> None:
    page = await client.get(
        "/api/episodes",
        EpisodePage,
        {
            "project": where.project_filter,
            "instance": where.instance_filter,
            "tag": list(where.tag_filter),
            "since": where.since.isoformat() if where.since else None,
            "until": where.until.isoformat() if where.until else None,
            "skip": skip,
            "limit": limit,
        },
    )
    if as_json:
        output.lines([page.model_dump_json(indent=2, exclude_none=True)])
        return
    output.story(
        [output.Column("WHEN"), output.Column("PROJECT")],
        [
            ((output.when(one.timestamp), one.project), output.shortened(one.summary, SHOWN), one.episode_id)
            for one in page.episodes
        ],
    )
    shown = skip + len(page.episodes)
    if shown < page.total:
        output.note(f"{len(page.episodes)} of {page.total}; --skip {shown} shows the next")


async def show(client: ServiceClient, episode_id: str, as_json: bool) -> None:
    episode = await client.get(f"/api/episodes/{episode_id}", Episode)
    if as_json:
        output.lines([episode.model_dump_json(indent=2, exclude_none=True)])
        return
    source = episode.source
    pairs = [
        ("episode", episode.episode_id),
        ("when", f"{output.when(episode.timestamp)} (kept since {output.when(episode.ingested_at)})"),
        ("project", episode.project),
        ("instance", episode.instance),
        ("tags", ", ".join(episode.tags)),
        ("from", " ".join(part for part in (source.kind, source.path or source.url or "") if part)),
        ("session", source.session or ""),
        ("trust", episode.trust.value),
        ("recalled", f"{episode.retrieval_count} times" + _last(episode)),
        ("embedded by", episode.embedding_model or "nothing yet"),
        ("superseded by", episode.superseded_by or ""),
        ("made from", ", ".join(episode.consolidated_from)),
    ]
    output.fields([(name, value) for name, value in pairs if value])
    output.say()
    output.say(episode.summary)
    if episode.raw_exchange:
        output.say()
        output.say("-" * 8)
        output.say(episode.raw_exchange)


async def delete(client: ServiceClient, episode_ids: Sequence[str], may_return: bool) -> None:
    missing: list[str] = []
    for episode_id in episode_ids:
        try:
            await client.request("DELETE", f"/api/episodes/{episode_id}", Changed, query={"block": not may_return})
        except NotFound:
            missing.append(episode_id)
        else:
            output.say(f"deleted {episode_id}")
    if missing:
        raise NotFound(f"there is no episode {', '.join(missing)}")


async def forget(client: ServiceClient, episode_id: str, as_json: bool) -> None:
    receipt = await client.request("POST", f"/api/episodes/{episode_id}/forget", ForgetReceipt)
    if as_json:
        output.lines([receipt.model_dump_json(indent=2)])
        return
    proof = receipt.proof
    output.fields(
        [
            ("forgotten", f"{receipt.episode_id} at {output.when(receipt.forgotten_at)}"),
            ("episodes removed", ", ".join(receipt.episodes)),
            ("vectors removed", str(receipt.vectors)),
            ("kept from coming back by", ", ".join(receipt.blocked)),
            ("content hash", receipt.content_hash),
            (
                "found afterwards",
                f"{proof.by_id} by id, {proof.by_content} by content, {proof.vectors} vectors, "
                f"{proof.index} in the search index",
            ),
            ("blocks stored", f"{proof.blocklist} of {len(receipt.blocked)}"),
        ]
    )


def _last(episode: Episode) -> str:
    return f", last {output.when(episode.last_retrieved)}" if episode.last_retrieved else ""
