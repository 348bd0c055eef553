"""The trainers as a whole: who is asked, who is left alone, how they are shown, and what is sent twice."""

import asyncio
import json
import random

import pytest
from pydantic import SecretStr

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.generate import GenerateRequest
from services.gateway.backends.base import BackendFailure
from services.gateway.backends.endpoints import endpoints
from services.gateway.failover.pool import Pool
from services.gateway.failover.walk import Deadlines
from services.gateway.trainers.client import TrainerClient
from services.gateway.trainers.fleet import Fleet

from ..conftest import SERVICE_KEY, Behind, caller, gateway, settings_for
from ..upstreams import Reset, Stall, Until, refusing, respond, sse, stream
from .fleet import ASK, DONE, FINISH, GENERATE, GOOD, HELLO, SECOND, STATUS, WHOLE, ask, before, states, trainers

KEY = {"Idempotency-Key": "5d1f0e4a"}
SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


async def test_without_trainers_it_says_what_to_set(behind: Behind) -> None:
    """With none configured, generation is 503 and names the setting, and so does the status."""
    async with before(behind, []) as door:
        told = await ask(door)
        assert (told.status, told.error["code"]) == (503, "unavailable")
        assert "TRAINER_URLS" in str(told.error["message"])
        async with door.get(STATUS) as answer:
            status = await answer.json()
        assert status["trainers"] == []
        assert "TRAINER_URLS" in status["reason"]
        async with door.get("/api/config/trainers") as answer:
            assert await answer.json() == {"trainers": []}


async def test_what_does_not_fit_reaches_no_trainer(behind: Behind) -> None:
    """A request that breaks the contract is 422 here."""
    bodies: list[JsonObject] = [{}, {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, {"prompt": ""}]
    async with trainers(GOOD) as (first,), before(behind, [first.url]) as door:
        assert [(await ask(door, body)).status for body in bodies] == [422] * 3
    assert first.seen == []


async def test_a_trainer_gets_what_was_asked_and_our_key(behind: Behind) -> None:
    """The request travels whole, with the key between services and never the caller's; a user in a URL has it too."""
    body: JsonObject = {
        "messages": [{"role": "user", "content": "hi"}],
        "adapter": "tales",
        "max_tokens": 7,
        "stop": ["\n"],
        "seed": 3,
        "stream": False,
    }
    async with trainers(GOOD) as (first,):
        with_user = first.url.replace("http://", "http://someone:secret@")
        async with before(behind, [first.url]) as door:
            assert (await ask(door, body)).text == "Hello"
        async with before(behind, [with_user]) as door:
            assert (await ask(door, body)).text == "Hello"
            (shown,) = await states(door)
    plain, other = first.seen
    assert plain.headers["authorization"] == f"Bearer {SERVICE_KEY}"
    assert (plain.method, plain.path) == ("POST", "/generate")
    assert GenerateRequest.model_validate_json(plain.body) == GenerateRequest.model_validate(body | {"stream": True})
    assert other.headers["authorization"].startswith("Basic ")
    assert other.headers["x-api-key"] == SERVICE_KEY
    assert shown["url"] == first.url


async def test_an_answer_that_is_whole_comes_as_one_object(behind: Behind) -> None:
    """Not streamed, the answer is `GenerateAnswer` with its usage and why it ended."""
    length = sse({"finish_reason": "length", "usage": {"input_tokens": 4, "output_tokens": 9}})
    async with trainers(stream([HELLO, length, DONE])) as (first,), before(behind, [first.url]) as door:
        told = await ask(door, WHOLE)
    assert json.loads(told.body) == {
        "text": "Hel",
        "finish_reason": "length",
        "usage": {"input_tokens": 4, "output_tokens": 9},
    }


async def test_the_least_busy_trainer_is_asked(behind: Behind) -> None:
    """While one is at work the other gets all requests; when both are idle they take turns."""
    gate = asyncio.Event()
    slow = (*stream([HELLO], then=()), Until(gate), *stream([FINISH, DONE])[1:])
    async with trainers(slow, SECOND) as (first, second), before(behind, [first.url, second.url]) as door:
        asking = asyncio.create_task(ask(door))
        await first.request()
        assert [(await ask(door)).text for _ in range(3)] == ["second"] * 3
        assert [one["in_flight"] for one in await states(door)] == [1, 0]
        gate.set()
        assert (await asking).text == "Hel"
        await ask(door)
        await ask(door)
        assert (len(first.seen), len(second.seen)) == (2, 4)
        assert [one["in_flight"] for one in await states(door)] == [0, 0]


async def test_a_failing_trainer_is_left_alone(behind: Behind) -> None:
    """After five failures in a row nobody is sent to it, and nobody notices but in the status."""
    async with trainers(respond(500), SECOND) as (first, second), before(behind, [first.url, second.url]) as door:
        tries = [(await ask(door)).headers["X-Anamnesis-Attempts"] for _ in range(20)]
        state, other = await states(door)
    assert len(first.seen) == 5
    assert tries.count("2") == 5
    assert (state["breaker"], state["reachable"], other["breaker"]) == ("open", True, "closed")
    wait = state["wait"]
    assert isinstance(wait, float)
    assert 0 < wait <= 30


async def test_a_busy_trainer_is_left_alone_at_once(behind: Behind) -> None:
    """One 429 sends everybody to the other; when both are busy one of them is asked all the same."""
    full = respond(429, None, {"Retry-After": "120"})
    async with trainers(full, SECOND) as (first, second), before(behind, [first.url, second.url]) as door:
        for _ in range(5):
            assert (await ask(door)).text == "second"
        assert len(first.seen) == 1
        second.play(full)
        told = await ask(door)
        assert (told.status, [endpoint for endpoint, _ in told.attempts]) == (429, ["b", "a"])
        second.play(SECOND)
        first.play(GOOD)
        told = await ask(door)
        assert (told.status, told.text) == (200, "Hello")


async def test_a_lonely_trainer_gets_a_second_try(behind: Behind) -> None:
    """With one trainer a connection that broke is tried once more, as after a restart behind a kept connection."""
    async with trainers(GOOD) as (first,), before(behind, [first.url]) as door:
        first.play((Reset(),), GOOD)
        told = await ask(door)
        assert (told.text, told.headers["X-Anamnesis-Attempts"]) == ("Hello", "2")


async def test_a_probe_brings_a_trainer_back() -> None:
    """A trainer that was away is asked again as soon as it says that it is ready, without waiting for the pause."""
    async with trainers(GOOD) as (first,):
        fleet = Fleet(
            Pool(endpoints([f"a={first.url}"])),
            TrainerClient(SecretStr(SERVICE_KEY), 5.0),
            Deadlines(20, 20, 60),
            chance=random.Random(7),
            probe_every=0.05,
        )
        for _ in range(5):
            fleet.pool.insist("a").failed(BackendFailure("was away"))
        assert fleet.pool.status()[0].state == "open"
        await fleet.open()
        try:
            for _ in range(1_000):
                if fleet.pool.status()[0].state == "half-open":
                    break
                await asyncio.sleep(0.02)
            begun = await fleet.begin(GenerateRequest(prompt="x"))
            assert begun.tries == 1
            async for _ in begun.pieces:
                pass
        finally:
            await fleet.close()
    assert (first.asides[0].path, first.asides[0].headers["authorization"]) == ("/ready", f"Bearer {SERVICE_KEY}")
    assert fleet.pool.status()[0].error is None


async def test_the_status_asks_all_at_once(behind: Behind) -> None:
    """Each trainer is shown with what it says of itself; those that hang, refuse or talk nonsense hold nobody up."""
    with refusing() as nowhere:
        async with trainers(GOOD, GOOD) as (well, hanging):
            hanging.route("GET /inference/status", (Stall(),))
            async with before(behind, [well.url, hanging.url, nowhere]) as door:
                began = asyncio.get_running_loop().time()
                a, b, c = await states(door)
                assert asyncio.get_running_loop().time() - began < 10
                hanging.route(
                    "GET /inference/status", respond(401, {"error": {"code": "unauthorized", "message": "no"}})
                )
                refused = (await states(door))[1]
                hanging.route("GET /inference/status", respond(200, [1]))
                nonsense = (await states(door))[1]
    assert a == {
        "label": "a",
        "url": well.url,
        "reachable": True,
        "error": None,
        "breaker": "closed",
        "in_flight": 0,
        "failures": 0,
        "wait": 0.0,
        "inference": {"loaded": True},
    }
    assert (b["reachable"], b["error"], b["inference"]) == (False, "did not answer within 2 s", None)
    assert (c["reachable"], c["error"]) == (False, "cannot be reached: connection refused")
    assert (refused["reachable"], refused["error"]) == (True, "answered 401: no")
    assert nonsense["error"] == "gave a status that is no JSON object, or a very large one"


async def test_the_trainers_are_listed(behind: Behind) -> None:
    """The configuration shows labels and addresses, as they are set; without a label the host and port."""
    settings = settings_for(behind.url).model_copy(
        update={"trainer_urls": ("gpu=http://one:3011/x", "http://two:3011")}
    )
    async with gateway(settings) as url, caller(url) as door, door.get("/api/config/trainers") as answer:
        assert await answer.json() == {
            "trainers": [
                {"label": "gpu", "url": "http://one:3011/x"},
                {"label": "two:3011", "url": "http://two:3011"},
            ]
        }


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
async def test_what_is_sent_twice_is_done_once(behind: Behind, body: JsonObject) -> None:
    """The second request with a key gets the first one's answer, byte for byte, and is marked; others are new."""
    async with trainers(GOOD) as (first,), before(behind, [first.url]) as door:
        one = await ask(door, body, KEY)
        again = await ask(door, body, KEY)
        assert "Idempotency-Replayed" not in one.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (again.status, again.body) == (200, one.body)
        for name in ("Content-Type", "X-Anamnesis-Endpoint", "X-Anamnesis-Attempts"):
            assert again.headers[name] == one.headers[name]
        assert again.headers["X-Request-ID"] != one.headers["X-Request-ID"]
        assert len(first.seen) == 1
        other = await ask(door, {**body, "seed": 1}, KEY)
        assert (other.status, other.error["code"]) == (422, "invalid")
        assert (await ask(door, body, {"Idempotency-Key": "a b"})).status == 400
        await ask(door, body, {"Idempotency-Key": "another"})
        await ask(door, body)
        assert len(first.seen) == 3


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
async def test_what_is_under_way_is_not_done_twice(behind: Behind, body: JsonObject) -> None:
    """While the first is under way the second is 409; when its caller has left it is done anew."""
    async with trainers(stream([HELLO], then=Stall())) as (first,), before(behind, [first.url]) as door:
        asking = asyncio.create_task(ask(door, body, KEY))
        seen = await first.request()
        told = await ask(door, body, KEY)
        assert (told.status, told.error["code"]) == (409, "conflict")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(seen.left.wait(), 15)
        first.play(GOOD)
        assert (await ask(door, body, KEY)).text == "Hello"


@pytest.mark.parametrize("body", [ASK, WHOLE], ids=["streamed", "whole"])
async def test_what_failed_is_not_kept(behind: Behind, body: JsonObject) -> None:
    """After a failure, before the content or after it, the same key tries again."""
    async with trainers(respond(500)) as (first,), before(behind, [first.url]) as door:
        assert (await ask(door, body, KEY)).status == 502
        first.play(stream([HELLO]))
        assert (await ask(door, body, KEY)).error["code"] in ("upstream_failed", "unavailable")
        first.play(GOOD)
        told = await ask(door, body, KEY)
        assert (told.text, "Idempotency-Replayed" in told.headers) == ("Hello", False)


async def test_many_leave_at_once(behind: Behind) -> None:
    """Fifty callers that leave together leave nothing behind, and the next is answered."""
    async with trainers(stream([HELLO], then=Stall())) as (first,), before(behind, [first.url]) as door:
        asking = [asyncio.create_task(ask(door)) for _ in range(50)]
        await first.request(50)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.gather(*(asyncio.wait_for(one.left.wait(), 15) for one in first.seen))
        first.play(GOOD)
        assert (await ask(door)).text == "Hello"
        assert [(one["in_flight"], one["failures"]) for one in await states(door)] == [(0, 0)]


async def test_a_caller_without_the_scope_is_refused(behind: Behind) -> None:
    """Without a key every path here is 401, and no trainer hears of it."""
    async with trainers(GOOD) as (first,):
        settings = settings_for(behind.url).model_copy(update={"trainer_urls": (first.url,)})
        async with gateway(settings) as url, caller(url, None) as door:
            async with door.post(GENERATE, json=ASK) as answer:
                assert answer.status == 401
            for path in (STATUS, "/api/config/trainers"):
                async with door.get(path) as answer:
                    assert answer.status == 401
    assert first.seen == first.asides == []


@pytest.mark.parametrize("within", [False, True])
async def test_what_a_trainer_says_of_an_error_is_told_and_not_logged(
    behind: Behind, capfd: pytest.CaptureFixture[str], within: bool
) -> None:
    """Its words go to whoever asked, without secrets; a log holds the status alone, whoever answers at that address."""
    said = f"cannot go on from 'my own words' with {SECRET}"
    body: JsonObject = {"error": {"code": "busy", "message": said, "detail": None}}
    script = stream([HELLO, sse(body, name="error")]) if within else respond(503, body)
    async with trainers(script) as (first,), before(behind, [first.url]) as door:
        told = await ask(door)
    assert "my own words" in json.dumps(told.error)
    assert SECRET not in json.dumps(told.error)
    logged = "".join(capfd.readouterr())
    assert ("answer_broken_off" if within else "backend_failed") in logged
    assert "my own words" not in logged
    assert SECRET not in logged
