"""`anamnesis recall`: a question to the store, and how its answers are shown."""

from anamnesis.contracts.episodes import SearchHit, SearchRequest, SearchResponse
from anamnesis.kit.client import ServiceClient
from services.console import output

SHOWN = 280  # characters of a summary in the table


async def recall(client: ServiceClient, request: SearchRequest, as_json: bool) -> None:
    answer = await client.request("POST", "/api/episodes/search", SearchResponse, body=request, deadline=30.0)
    if as_json:
        output.lines([answer.model_dump_json(indent=2, exclude_none=True)])
        return
    if answer.results:
        output.story(
            [output.Column("SCORE", right=True), output.Column("WHEN"), output.Column("PROJECT")],
            [
                (
                    (f"{hit.score:.3f}", output.when(hit.timestamp), hit.project),
                    output.shortened(hit.summary, SHOWN),
                    hit.episode_id,
                )
                for hit in answer.results
            ],
        )
    else:
        output.note(
            "Nothing relevant is remembered."
            + ("" if request.floor == 0 else " --floor 0 shows the nearest all the same.")
        )
    if request.explain:
        _explain(answer)


def _explain(answer: SearchResponse) -> None:
    for hit in answer.results:
        output.say()
        output.say(f"{hit.episode_id}  {hit.score:.3f} =")
        _reasons(hit)
    if answer.explanation is not None:
        told = answer.explanation
        output.say()
        output.fields(
            [
                ("embedding model", told.model),
                ("by words", told.lexical),
                ("relevance", f"{told.relevance:.3f} (floor {told.floor:.3f})"),
                ("candidates ranked", str(told.considered)),
                ("left out by the token budget", str(told.dropped_by_budget)),
            ]
        )


def _reasons(hit: SearchHit) -> None:
    for reason in hit.reasons or ():
        output.say(f"  {reason.contribution:+.3f}  {reason.term} {reason.value:.3f} x {reason.weight:.3f}")
