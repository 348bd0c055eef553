"""`anamnesis reembed`: moving the store to another embedding model, and how far that is."""

import asyncio

from rich.progress import TextColumn

from anamnesis.contracts.embedding import ModelChoice, ReembedState, ReembedStatus
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import UpstreamFailed
from services.console import output

POLL = 1.0  # seconds between two looks


async def reembed(client: ServiceClient, action: str, checkpoint_every: int | None, wait: bool) -> None:
    """`action` is status, pause, resume, or the name of the model to move to."""
    if action in ("pause", "resume"):
        status = await client.request("POST", f"/api/episodes/reembed/{action}", ReembedStatus)
    elif action == "status":
        status = await _status(client)
    else:
        choice = ModelChoice(name=action, checkpoint_every=checkpoint_every)
        # Fetching and loading a model that is not here yet takes its time.
        status = await client.request("POST", "/api/embedding/model", ReembedStatus, body=choice, deadline=280.0)
    if wait and status.state is ReembedState.RUNNING:
        status = await _follow(client, status)
    output.fields(described(status))
    if status.state is ReembedState.FAILED:
        raise UpstreamFailed(f"the re-embedding has failed: {status.error}; 'anamnesis reembed resume' tries again")


def described(status: ReembedStatus) -> list[tuple[str, str]]:
    """Its state in words, for a table of fields."""
    if status.state is ReembedState.IDLE and status.model is None:
        return [("re-embedding", "none")]
    pairs = [
        (
            "re-embedding",
            status.state.value if status.finished_at is None else f"done at {output.when(status.finished_at)}",
        ),
        ("to model", status.model or ""),
        ("episodes", f"{status.done} of {status.total}"),
    ]
    if status.state is ReembedState.RUNNING:
        rate = f"{status.episodes_per_second:.1f} a second" if status.episodes_per_second else "unknown"
        pairs += [("rate", rate), ("time left", output.duration(status.eta_seconds))]
    return pairs


async def _follow(client: ServiceClient, status: ReembedStatus) -> ReembedStatus:
    """Show a bar until it ends. It goes on by itself when nobody looks."""
    try:
        with output.progress(None, TextColumn("{task.fields[rate]}")) as progress:
            task = progress.add_task(f"embedding by {status.model}", total=status.total, rate="")
            while status.state is ReembedState.RUNNING:
                rate = f"{status.episodes_per_second:.1f}/s" if status.episodes_per_second else ""
                progress.update(task, completed=status.done, total=status.total, rate=rate)
                await asyncio.sleep(POLL)
                status = await _status(client)
    except asyncio.CancelledError:
        output.note("It goes on without you; 'anamnesis reembed status' shows it, 'anamnesis reembed pause' holds it.")
        raise
    return status


async def _status(client: ServiceClient) -> ReembedStatus:
    return await client.get("/api/episodes/reembed/status", ReembedStatus)
