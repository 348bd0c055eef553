"""What hooks are answered by a real gateway: memory before a prompt, measured after it, and never in anybody's way."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import aiohttp
import httpx
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.contracts.ingest import IngestRoot, IngestRun, IngestStarted, IngestState, IngestStatus
from anamnesis.contracts.keys import Scope
from anamnesis.contracts.usefulness import Verdict
from anamnesis.kit.auth import new_key
from anamnesis.transcripts.wrappers import clean
from services.gateway.hooks.answers import MAX_CONTEXT
from services.gateway.hooks.endpoints import AT_ONCE, MAX_BODY
from services.gateway.settings import GatewaySettings

from ..conftest import caller, gateway, settings_for
from ..remembering import KEYS, START, Remembering, episode, remembering

PORT = "The upload test waits for port 9100 now."
SHOP = {"session_id": "s9", "cwd": "/home/ada/shop", "transcript_path": "/x.jsonl", "permission_mode": "default"}
BOUND = 1.5  # seconds, the default
LATE = 4.0  # seconds that no answer may take on the slowest machine


class Answer(NamedTuple):
    status: int
    body: dict[str, dict[str, str]]
    outcome: str

    @property
    def context(self) -> str:
        return self.body["hookSpecificOutput"]["additionalContext"]


class Assistant:
    """Posts as Claude Code does."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(
        self, event: str, more: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self.raw(event, json.dumps({**SHOP, "hook_event_name": event, **(more or {})}).encode(), headers)

    async def raw(self, event: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with self._session.post(f"/hooks/{event}", data=body, headers=sent) as answer:
            return Answer(answer.status, await answer.json(), answer.headers.get("X-Anamnesis-Outcome", ""))

    async def ask(self, prompt: str, **more: object) -> Answer:
        return await self.post("UserPromptSubmit", {"prompt": prompt, **more})


def patient(url: str) -> GatewaySettings:
    """For tests that are not about the bound: a loaded machine may take longer than a person should wait."""
    return settings_for(url).model_copy(update={"hook_wait": 30.0})


@pytest.fixture
async def memory() -> AsyncIterator[Remembering]:
    async with remembering() as one:
        one.keep(
            episode(1, "We chose SQLite for the store."),
            episode(2, PORT, raw="The port was taken by tests/uploads/test_retry.py."),
            episode(3, "Lunch is at noon.", project="home"),
        )
        yield one


@pytest.fixture
async def assistant(memory: Remembering) -> AsyncIterator[Assistant]:
    async with gateway(patient(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        yield Assistant(session)


async def test_a_prompt_is_told_what_is_remembered(assistant: Assistant, memory: Remembering) -> None:
    """Episodes of the prompt's project come as a block that readers of transcripts take out again."""
    answer = await assistant.ask("why does the upload fail")
    assert (answer.status, answer.outcome) == (200, "recalled")
    assert answer.body["hookSpecificOutput"]["hookEventName"] == "UserPromptSubmit"
    assert answer.context.startswith("<anamnesis-memory>\n")
    assert PORT in answer.context
    assert clean(f"{answer.context}\nwhy?") == "why?"
    (asked,) = memory.searches
    assert (asked.query_text, asked.project_filter, asked.floor) == ("why does the upload fail", "shop", None)


async def test_silence_is_an_empty_answer(assistant: Assistant) -> None:
    """Where nothing relevant is remembered, the prompt goes on as it is."""
    answer = await assistant.ask("Peru?")
    assert answer == Answer(200, {}, "silent")


async def test_headers_say_where_to_look(assistant: Assistant, memory: Remembering) -> None:
    """The caller's headers choose project and instance instead of the directory."""
    await assistant.post(
        "UserPromptSubmit",
        {"prompt": "lunch"},
        {"X-Anamnesis-Project": "home", "X-Anamnesis-Instance": "laptop"},
    )
    assert (memory.searches[0].project_filter, memory.searches[0].instance_filter) == ("home", "laptop")


async def test_a_session_keeps_its_project(assistant: Assistant, memory: Remembering) -> None:
    """A prompt from a directory below belongs to the project that the session began in."""
    await assistant.ask("one upload")
    await assistant.ask("two upload", cwd="/home/ada/shop/src")
    assert [one.project_filter for one in memory.searches] == ["shop", "shop"]


@pytest.mark.parametrize("prompt", ["", "   ", "/compact", "! ls", "<system-reminder>upload</system-reminder>"])
async def test_what_is_no_question_is_not_searched(assistant: Assistant, memory: Remembering, prompt: str) -> None:
    """Commands and empty prompts are not searched with."""
    assert await assistant.ask(prompt) == Answer(200, {}, "nothing-asked")
    assert memory.searches == []


async def test_a_subagent_is_told_nothing(assistant: Assistant, memory: Remembering) -> None:
    """What happens inside a subagent recalls nothing."""
    for event in ("UserPromptSubmit", "SessionStart"):
        assert await assistant.post(event, {"prompt": "upload", "agent_id": "a1"}) == Answer(200, {}, "subagent")
    assert memory.seen == []


async def test_nothing_is_told_twice(assistant: Assistant) -> None:
    """An episode that is in the conversation is not put there again, until the conversation is compacted."""
    assert PORT in (await assistant.ask("the upload")).context
    assert await assistant.ask("upload again") == Answer(200, {}, "known-already")
    await assistant.post("PreCompact", {"trigger": "auto"})
    assert PORT in (await assistant.ask("upload once more")).context


async def test_the_same_event_gets_the_same_answer(assistant: Assistant) -> None:
    """A prompt that is posted again, because its answer was lost, is told the same."""
    assert await assistant.ask("the upload") == await assistant.ask("the upload")


async def test_a_session_is_not_told_of_itself(assistant: Assistant, memory: Remembering) -> None:
    """Episodes of the very session are in its conversation already; after compaction they are news."""
    mine = {"session_id": "s1"}
    assert await assistant.post("UserPromptSubmit", {"prompt": "upload", **mine}) == Answer(200, {}, "known-already")
    await assistant.post("PreCompact", mine)
    assert PORT in (await assistant.post("UserPromptSubmit", {"prompt": "upload?! upload", **mine})).context


async def test_a_session_begins_with_the_latest_of_its_project(assistant: Assistant, memory: Remembering) -> None:
    """At its start, without a question, the newest episodes of the project are told, in few words, newest first."""
    memory.keep(*(episode(number, f"Number {number}. " + "More of it. " * 200) for number in range(4, 12)))
    answer = await assistant.post("session-start", {"source": "startup"})
    assert answer.outcome == "recalled"
    assert answer.body["hookSpecificOutput"]["hookEventName"] == "SessionStart"
    numbers = [line.split()[1] for line in answer.context.splitlines() if line.startswith("  Number")]
    assert numbers == ["11.", "10.", "9.", "8.", "7."]
    assert len(answer.context) < 5 * 600 + 500
    assert await assistant.post("SessionStart", {"cwd": "", "session_id": "other"}) == Answer(200, {}, "no-project")


async def test_a_block_fits_into_what_the_program_takes(memory: Remembering) -> None:
    """However many and long episodes are, the block stays below what Claude Code takes from a hook."""
    many = patient(memory.url).model_copy(update={"recall_top_k": 20, "recall_tokens": 50_000})
    for number in range(20):
        long = episode(20 + number, f"upload {number} " + "words " * 50, raw="upload\n\n" * 500)
        source = long.source.model_copy(update={"path": "p" * 4_000})
        memory.keep(long.model_copy(update={"source": source}))
    async with gateway(many) as url, caller(url, KEYS[Scope.WRITE]) as session:
        answer = await Assistant(session).ask("upload")
    assert 1_000 < len(answer.context) <= MAX_CONTEXT
    assert answer.context.endswith("</anamnesis-memory>")


async def test_what_was_used_is_reported(assistant: Assistant, memory: Remembering) -> None:
    """At Stop the answer says which of the told episodes were of use."""
    memory.keep(episode(4, "The upload of invoices is done by the accountant on Fridays."))
    await assistant.ask("why does the upload fail")
    answer = {"last_assistant_message": "Because port 9100 was taken; test_retry.py waits for it now."}
    assert (await assistant.post("Stop", answer)).body == {}
    await asyncio.wait_for(memory.reported.wait(), 10)
    assert memory.verdicts == {"ep_2": [Verdict.USED]}


async def test_what_is_of_no_use_for_long_is_reported_so(assistant: Assistant, memory: Remembering) -> None:
    """An episode has a few answers' time to be of use, or until the session ends; the same answer counts once."""
    await assistant.ask("upload trouble")
    for number in (1, 1, 1, 2):
        await assistant.post("Stop", {"last_assistant_message": f"I do not know, friend number {number}."})
    assert memory.verdicts == {}
    await assistant.post("SessionEnd", {"reason": "other"})
    await asyncio.wait_for(memory.reported.wait(), 10)
    assert memory.verdicts == {"ep_2": [Verdict.UNUSED]}


def seen_roots(memory: Remembering, exists: bool, started: list[bool]) -> asyncio.Event:
    """Ingest as it stands: whether its roots exist, and whether each request starts a run."""
    done = asyncio.Event()
    before = memory.answer

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/jsonl/status":
            roots = (IngestRoot(path="/transcripts", exists=exists),)
            status = IngestStatus(state=IngestState.IDLE, instance="laptop", poll_seconds=0, roots=roots)
            return web.json_response(text=status.model_dump_json())
        if request.path == "/api/jsonl/ingest":
            memory.ingests += 1
            run = IngestRun(run_id="r1", state="running", trigger="request", started_at=START)
            begun = started.pop(0)
            if begun:
                done.set()
            return web.json_response(text=IngestStarted(run=run, started=begun).model_dump_json())
        return await before(request)

    memory.answer = answer
    return done


@pytest.mark.parametrize("event", ["Stop", "SubagentStop", "PreCompact", "SessionEnd"])
async def test_ingest_is_asked_when_something_was_said(assistant: Assistant, memory: Remembering, event: str) -> None:
    """After an answer, before a compaction, and at the end, ingest is asked to read, with the key between services."""
    done = seen_roots(memory, True, [True])
    assert await assistant.post(event) == Answer(200, {}, "asking-ingest")
    await asyncio.wait_for(done.wait(), 10)
    assert memory.ingests == 1


async def test_an_ingest_that_sees_nothing_is_said(assistant: Assistant, memory: Remembering) -> None:
    """Where ingest has no transcripts on its disk it is not asked, and hooks say so."""
    seen_roots(memory, False, [])
    outcome = ""
    async with asyncio.timeout(20):
        while outcome != "nothing-to-read":
            outcome = (await assistant.post("Stop")).outcome
    assert memory.ingests == 0


async def test_unknown_events_are_answered(assistant: Assistant, memory: Remembering) -> None:
    """Events that mean nothing to us get an empty answer, whatever they post."""
    assert await assistant.raw("PreToolUse", b"not even JSON") == Answer(200, {}, "unknown-event")
    assert memory.seen == []


async def test_a_body_has_a_bound(assistant: Assistant) -> None:
    """More than 1 MB is 413; what is no object is 400."""
    assert (await assistant.raw("Stop", b" " * (MAX_BODY + 1))).status == 413
    assert (await assistant.raw("Stop", b"[]")).status == 400


async def test_strangers_are_refused(memory: Remembering) -> None:
    """Without a key, with a wrong one, and with one that may only read, nothing is told."""
    async with gateway(settings_for(memory.url)) as url:
        for key, status in ((None, 401), (new_key(), 401), (KEYS[Scope.READ], 403)):
            async with caller(url, key) as session:
                assert (await Assistant(session).ask("upload")).status == status
    assert memory.searches == []


@pytest.mark.parametrize("keys", [False, True], ids=["memory hangs", "the door hangs too"])
@pytest.mark.parametrize("event", ["UserPromptSubmit", "SessionStart", "Stop"])
async def test_a_memory_that_hangs_holds_nobody(memory: Remembering, event: str, keys: bool) -> None:
    """Within its bound a hook is answered, empty, with the reason, also when nobody can tell whose key it is."""
    memory.pause, memory.pause_keys = asyncio.Event(), keys
    async with gateway(settings_for(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        began = time.monotonic()
        answer = await Assistant(session).post(event, {"prompt": "upload", "last_assistant_message": "x"})
        assert time.monotonic() - began < LATE
        memory.pause.set()
    assert (answer.status, answer.body) == (200, {})
    assert answer.outcome == ("late" if keys else "asking-ingest" if event == "Stop" else answer.outcome)
    assert answer.outcome in ("late", "unavailable", "deadline-exceeded", "asking-ingest")


async def test_a_bound_can_be_set(memory: Remembering) -> None:
    """The bound is the one that is set, not a fixed one."""
    memory.pause = asyncio.Event()
    short = settings_for(memory.url).model_copy(update={"hook_wait": 0.2})
    async with gateway(short) as url, caller(url, KEYS[Scope.WRITE]) as session:
        began = time.monotonic()
        assert (await Assistant(session).ask("upload")).body == {}
        assert time.monotonic() - began < BOUND
        memory.pause.set()


async def test_a_memory_that_answers_is_not_waited_for(assistant: Assistant) -> None:
    """An answer comes when it is there, not when the bound (here of half a minute) is over."""
    began = time.monotonic()
    assert (await assistant.ask("the upload")).outcome == "recalled"
    assert time.monotonic() - began < LATE


@pytest.mark.parametrize("event", ["UserPromptSubmit", "SessionStart", "Stop"])
async def test_a_memory_that_is_away_breaks_nothing(memory: Remembering, event: str) -> None:
    """With memory gone, a hook is answered empty and in time, whether its key is known already or not."""
    async with gateway(settings_for(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        await Assistant(session).post("SubagentStop")
        await memory.stop()
        began = time.monotonic()
        known = await Assistant(session).post(event, {"prompt": "upload"})
        async with caller(url, KEYS[Scope.ADMIN]) as other:
            unknown = await Assistant(other).post(event, {"prompt": "upload"})
        assert time.monotonic() - began < 2 * LATE
    assert (known.status, known.body) == (200, {})
    assert (unknown.status, unknown.body) == (200, {})
    assert unknown.outcome in ("failed", "late")


@pytest.mark.parametrize("status", [200, 404, 429, 500, 507])
async def test_a_memory_that_fails_breaks_nothing(memory: Remembering, status: int) -> None:
    """Whatever memory answers, nonsense included, the prompt goes on."""

    async def nonsense(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="<html>")

    memory.answer = nonsense
    async with gateway(settings_for(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        for event in ("UserPromptSubmit", "SessionStart"):
            answer = await Assistant(session).post(event, {"prompt": "upload"})
            assert (answer.status, answer.body) == (200, {})
            assert answer.outcome


async def test_a_body_that_does_not_come_is_not_waited_for(memory: Remembering) -> None:
    """A caller that sends half a body is answered within the bound too."""
    async with gateway(settings_for(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        stuck = asyncio.Event()

        async def half() -> AsyncIterator[bytes]:
            yield b'{"prompt":'
            await stuck.wait()

        began = time.monotonic()
        async with session.post("/hooks/stop", data=half()) as answer:
            assert await answer.json() == {}
            assert answer.headers["X-Anamnesis-Outcome"] == "late"
        assert time.monotonic() - began < LATE
        stuck.set()


async def test_too_many_at_once_get_the_empty_answer(memory: Remembering) -> None:
    """Beyond so many at the same time, hooks are answered at once; the others as usual."""
    async with gateway(patient(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        assistant = Assistant(session)
        await assistant.post("PreToolUse")  # the key is known from here on
        memory.pause = asyncio.Event()
        asking = [asyncio.create_task(assistant.ask("upload", session_id=f"n{n}")) for n in range(AT_ONCE + 4)]
        first = [await one for one in itertools.islice(asyncio.as_completed(asking, timeout=20), 4)]
        assert [answer.outcome for answer in first] == ["busy"] * 4
        memory.pause.set()
        outcomes = [answer.outcome for answer in await asyncio.gather(*asking)]
    assert outcomes.count("recalled") == AT_ONCE


async def test_outcomes_are_counted(memory: Remembering) -> None:
    """What became of hooks can be seen in the metrics, by event and outcome, and nothing of what they said."""
    async with gateway(patient(memory.url)) as url, caller(url, KEYS[Scope.WRITE]) as session:
        assistant = Assistant(session)
        await assistant.ask("the upload")
        await assistant.post("secret-name")
        async with session.get("/metrics") as answer:
            metrics = await answer.text()
    assert 'anamnesis_hooks_total{event="UserPromptSubmit",outcome="recalled"} 1.0' in metrics
    assert 'anamnesis_hooks_total{event="other",outcome="unknown-event"} 1.0' in metrics
    assert "secret-name" not in metrics


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from([*SHOP, "prompt", "source", "agent_id", "last_assistant_message"]), JSON)


EVENTS = ["SessionStart", "user-prompt-submit", "Stop", "pre_compact", "SessionEnd", "%2e%2e", "x"]
BODIES = FIELDS.map(json.dumps).map(str.encode) | JSON.map(json.dumps).map(str.encode) | st.binary(max_size=50)


async def test_any_body_gets_an_answer(memory: Remembering) -> None:
    """Whatever is posted to whatever event, the answer is 200 or a refusal, never an error of ours."""
    async with gateway(settings_for(memory.url)) as url:
        headers = {"X-API-Key": KEYS[Scope.WRITE]}
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:

            @settings(max_examples=80)
            @given(event=st.sampled_from(EVENTS), body=BODIES)
            def post(event: str, body: bytes) -> None:
                answer = client.post(f"/hooks/{event}", content=body)
                assert answer.status_code < 500
                if answer.status_code == 200:
                    assert answer.headers["X-Anamnesis-Outcome"] not in ("failed", "late")

            await asyncio.to_thread(post)
