"""An ordered list of backends: where the line is, what is told when all fail, and that nothing is left behind."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.chat import StopReason, Usage
from anamnesis.kit.errors import (
    AnamnesisError,
    BadRequest,
    Busy,
    Conflict,
    DeadlineExceeded,
    Invalid,
    NotFound,
    TooLarge,
    Unavailable,
    UpstreamFailed,
)
from services.gateway.backends.base import (
    BackendFailure,
    Endpoint,
    Finish,
    Piece,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolBegin,
)
from services.gateway.failover.breaker import State
from services.gateway.failover.chain import Chain
from services.gateway.failover.pool import Pool
from services.gateway.failover.walk import MAX_HELD, MAX_STREAMED_BYTES, Begun, Deadlines

from .fakes import ASK, END, PING, ROLE, STARTED, Fake, Stall, Step, failure, one, words

PATIENT = Deadlines(first=10.0, idle=10.0, total=20.0)
HASTY = Deadlines(first=0.05, idle=0.05, total=10.0)


def chain(*backends: Fake, deadlines: Deadlines = PATIENT) -> Chain:
    return Chain(backends, deadlines, chance=random.Random(7))


def good() -> Fake:
    return one("good", ROLE, STARTED, *words("yes", "!"), END)


async def said(begun: Begun) -> str:
    return "".join([piece.delta.text async for piece in begun.pieces if isinstance(piece.delta, TextDelta)])


async def collect(begun: Begun, into: list[Piece]) -> None:
    async for piece in begun.pieces:
        into.append(piece)


async def refusal(asking: Chain, names: Sequence[str]) -> AnamnesisError:
    with pytest.raises(AnamnesisError) as caught:
        await asking.begin(ASK, names)
    return caught.value


def errors(error: AnamnesisError) -> list[tuple[str, str]]:
    assert isinstance(error.detail, list)
    return [(str(one["endpoint"]), str(one["error"])) for one in error.detail if isinstance(one, dict)]


async def test_the_first_that_speaks_answers() -> None:
    """What came before the content is given out with it, in order; nobody else is asked."""
    first, second = one("a", ROLE, STARTED, PING, *words("yes", "!"), END, Piece(None, b"done")), good()
    begun = await chain(first, second).begin(ASK, ["a", "good"])
    assert (begun.backend, begun.endpoint, begun.model, begun.tries) == ("a", "a-0", "m-1", 1)
    assert [one.error for one in begun.attempts] == [None]
    pieces = [piece async for piece in begun.pieces]
    assert pieces == [ROLE, STARTED, PING, *words("yes", "!"), END, Piece(None, b"done")]
    assert (first.under_way, second.asks) == (0, [])


MOVES_ON: dict[str, tuple[Step, ...]] = {
    "unreachable": (failure(),),
    "busy": (failure(429, retry_after=3),),
    "broken": (failure(500),),
    "broken after its role": (ROLE, PING, failure(500)),
    "ended without a word": (ROLE,),
    "an empty stop": (ROLE, END),
    "an empty stop after empty words": (*words("", ""), END),
    "too long without usage": (Piece(Finish(StopReason.LENGTH)),),
    "silent": (Stall(),),
    "silent after its role": (ROLE, STARTED, Stall()),
}


@pytest.mark.parametrize("how", MOVES_ON)
@pytest.mark.parametrize("whole", [False, True])
async def test_before_the_content_the_next_is_asked(how: str, whole: bool) -> None:
    """Whatever goes wrong before the first content, nobody sees it but in the attempts, and it is closed."""
    bad, other = one("bad", *MOVES_ON[how]), good()
    asking = chain(bad, other, deadlines=HASTY)
    begun = await asking.begin(ASK, ["bad", "good"], whole=whole)
    assert bad.under_way == 0
    assert (begun.backend, begun.tries) == ("good", 2)
    assert [(one.endpoint, one.error is None) for one in begun.attempts] == [("bad-0", False), ("good-0", True)]
    assert await said(begun) == "yes!"
    assert [one.error is None for one in (*asking.pool("bad").status(), *asking.pool("good").status())] == [False, True]


@pytest.mark.parametrize(
    "content", [Piece(TextDelta("x")), Piece(ThinkingDelta("x")), Piece(ToolBegin("1", "f"))], ids=str
)
@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ((failure(500),), "answered 500"),
        ((), "broke off before its answer was whole"),
        ((Stall(),), "no piece within 0.05 s"),
        ((failure(429),), "answered 429"),
    ],
    ids=["fails", "ends", "stalls", "is busy"],
)
async def test_after_the_content_nobody_else_is_asked(content: Piece, then: Sequence[Step], reason: str) -> None:
    """An answer that breaks off raises after what it gave, counts against its endpoint, and is closed."""
    bad, other = one("bad", content, *then), good()
    asking = chain(bad, other, deadlines=HASTY)
    begun = await asking.begin(ASK, ["bad", "good"])
    seen: list[Piece] = []
    with pytest.raises(BackendFailure, match=reason):
        await collect(begun, seen)
    assert seen == [content]
    assert (other.asks, bad.under_way) == ([], 0)
    (status,) = asking.pool("bad").status()
    assert (status.in_flight, status.error) == (0, reason)


async def test_what_is_not_streamed_moves_on_until_it_is_whole() -> None:
    """With `whole`, an answer that breaks off half-way was given to nobody, so the next is asked."""
    bad = one("bad", *words("half"), failure(500))
    begun = await chain(bad, good()).begin(ASK, ["bad", "good"], whole=True)
    assert await said(begun) == "yes!"
    assert begun.attempts[0].error == "answered 500"


@pytest.mark.parametrize(
    "end",
    [Finish(StopReason.LENGTH, Usage(output_tokens=5)), Finish(StopReason.TOOL, Usage()), Finish(StopReason.REFUSED)],
)
async def test_an_end_that_is_meant_is_an_answer(end: Finish) -> None:
    """A refusal, and an answer that spent its tokens unseen, are answers though they hold no content."""
    mute = one("mute", ROLE, Piece(end))
    begun = await chain(mute, good()).begin(ASK, ["mute", "good"])
    assert [piece async for piece in begun.pieces] == [ROLE, Piece(end)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, BadRequest), (404, NotFound), (413, TooLarge), (422, Invalid), (401, UpstreamFailed), (403, UpstreamFailed)],
)
async def test_a_bad_request_does_not_move_on(status: int, expected: type[AnamnesisError]) -> None:
    """What is bad everywhere ends the walk with its own status; a key of ours that is refused is 502, never 401."""
    bad, other = one("bad", failure(status, moves_on=False)), good()
    asking = chain(bad, other)
    error = await refusal(asking, ["bad", "good"])
    assert type(error) is expected
    assert "bad" in error.message
    assert errors(error) == [("bad-0", f"answered {status}")]
    assert other.asks == []
    assert asking.pool("bad").status()[0].failures == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (failure(429, retry_after=9), failure(429, retry_after=4), Busy),
        (failure(), failure(503), Unavailable),
        (failure(429), failure(), Unavailable),
        (failure(500), failure(429), UpstreamFailed),
        (failure(404), failure(404), NotFound),
        (failure(409), failure(409), Conflict),
        (failure(404), failure(500), UpstreamFailed),
        (failure(504), Stall(), DeadlineExceeded),
        (Stall(), failure(500), UpstreamFailed),
        (END, END, UpstreamFailed),
    ],
)
async def test_when_all_fail_every_reason_is_told(first: Step, second: Step, expected: type[AnamnesisError]) -> None:
    """One error with the status that fits all, and one line for each try."""
    error = await refusal(chain(one("a", first), one("b", second), deadlines=HASTY), ["a", "b"])
    assert type(error) is expected
    assert [endpoint for endpoint, _ in errors(error)] == ["a-0", "b-0"]
    assert all(reason for _, reason in errors(error))
    if isinstance(error, Busy):
        assert error.retry_after == 4


REFUSED = failure(400, moves_on=False)
STEPS = st.sampled_from([ROLE, PING, *words("", "x"), END, Piece(Finish(StopReason.REFUSED)), failure(500), REFUSED])


def speaks(script: Sequence[Step]) -> bool | None:
    """The reference: whether a script says something, says nothing, or (none) is refused for good."""
    for step in script:
        if isinstance(step, BackendFailure):
            return False if step.moves_on else None
        if isinstance(step, Piece) and (step.commits or isinstance(step.delta, Finish)):
            return step != END
    return False


@given(st.lists(st.lists(STEPS, max_size=5), min_size=1, max_size=5))
def test_the_first_that_speaks_is_found(scripts: list[list[Step]]) -> None:
    """Over any backends that do anything, the first that says something answers, and nothing is left under way."""
    backends = [one(f"b{at}", *script) for at, script in enumerate(scripts)]
    kinds = [speaks(script) for script in scripts]
    first = next((at for at, kind in enumerate(kinds) if kind is not False), None)

    async def run() -> None:
        asking = chain(*backends)
        try:
            begun = await asking.begin(ASK, [backend.name for backend in backends])
        except AnamnesisError:
            assert first is None or kinds[first] is None
        else:
            assert first is not None
            assert begun.backend == f"b{first}"
            with contextlib.suppress(BackendFailure):
                await said(begun)
            await begun.pieces.aclose()
        last = len(scripts) - 1 if first is None else first
        assert [bool(backend.asks) for backend in backends] == [at <= last for at in range(len(scripts))]
        for backend in backends:
            assert (backend.under_way, asking.pool(backend.name).status()[0].in_flight) == (0, 0)

    asyncio.run(run())


async def test_one_deadline_is_over_all_tries() -> None:
    """Tries share one total: when it is over nobody else is asked, whatever each try might still take."""
    stops = [one(name, Stall()) for name in "abcdef"]
    asking = chain(*stops, deadlines=Deadlines(first=0.5, idle=5.0, total=1.25))
    started = asyncio.get_running_loop().time()
    error = await refusal(asking, list("abcdef"))
    assert isinstance(error, DeadlineExceeded)
    assert asyncio.get_running_loop().time() - started >= 1.2
    asked = [one for one in stops if one.asks]
    assert 2 <= len(asked) <= 3
    assert sum(one.under_way for one in stops) == 0
    # The last one was cut short by what the others had taken: that says nothing against it.
    assert [asking.pool(one.name).status()[0].failures for one in asked[:2]] == [1, 1]
    assert all(asking.pool(one.name).status()[0].failures == 0 for one in asked[2:])


async def test_the_total_deadline_holds_within_an_answer() -> None:
    """An answer that never ends is ended, however lively it is."""
    endless = one("endless", *words("x"), *[Piece(TextDelta("y"))] * 3, Stall())
    begun = await chain(endless, deadlines=Deadlines(first=5, idle=5, total=0.3)).begin(ASK, ["endless"])
    with pytest.raises(BackendFailure, match=r"out of time after 0[.]3 s in all"):
        await said(begun)


async def test_endpoints_of_a_backend_come_before_the_next_backend() -> None:
    """All endpoints are tried, each once, before the next backend is."""
    many = Fake("many", [[[failure(500)]]] * 3)
    begun = await chain(many, good()).begin(ASK, ["many", "good"])
    assert [one.endpoint for one in begun.attempts] == ["many-0", "many-1", "many-2", "good-0"]


async def test_a_lonely_endpoint_gets_a_second_try() -> None:
    """Where nobody else could be asked, a broken connection is tried once more, and only once."""
    lonely = Fake("lonely", [[[failure()], [*words("yes"), END]]])
    begun = await chain(lonely).begin(ASK, ["lonely"])
    assert [one.error is None for one in begun.attempts] == [False, True]
    assert await said(begun) == "yes"
    error = await refusal(chain(one("dead", failure())), ["dead"])
    assert len(errors(error)) == 2


@pytest.mark.parametrize("step", [failure(500), failure(429), END, Stall()])
async def test_what_would_fail_again_is_not_tried_again(step: Step) -> None:
    """Busy, broken, empty and late endpoints get no second try at once."""
    lonely = one("lonely", step)
    await refusal(chain(lonely, deadlines=HASTY), ["lonely"])
    assert len(lonely.asks) == 1


async def test_when_all_are_left_alone_one_is_asked_anyway() -> None:
    """With every breaker open the endpoint that is let in first is asked, and what it says is the answer."""
    a, b = one("a", *words("a"), END), one("b", *words("b"), END)
    asking = chain(a, b)
    for name in ("b", "a"):
        for _ in range(5):
            asking.pool(name).insist(f"{name}-0").failed(failure(500))
    begun = await asking.begin(ASK, ["a", "b"])
    assert (begun.backend, await said(begun)) == ("b", "b")
    assert [asking.pool(name).status()[0].state for name in ("a", "b")] == [State.OPEN, State.HALF_OPEN]


async def test_one_that_is_left_alone_comes_after_all_others() -> None:
    """An open breaker sends a request to the next backend; when that one fails, it comes back to the first."""
    a, b = one("a", *words("a"), END), one("b", failure(500))
    asking = chain(a, b)
    for _ in range(5):
        asking.pool("a").insist("a-0").failed(failure(500))
    begun = await asking.begin(ASK, ["a", "b"])
    assert [one.endpoint for one in begun.attempts] == ["b-0", "a-0"]
    assert await said(begun) == "a"


async def test_a_pool_can_be_shared() -> None:
    """Who shares a pool shares its breakers, and each has its endpoints at their own address."""
    a = good()
    pool = Pool([Endpoint("good-0", "http://elsewhere")])
    asking = Chain([a], PATIENT, pools={"good": pool})
    begun = await asking.begin(ASK, ["good"])
    assert [one.in_flight for one in pool.status()] == [1]
    await begun.pieces.aclose()
    assert [one.in_flight for one in pool.status()] == [0]


async def test_names_say_which_model() -> None:
    """`backend:model` asks for that model, also where its name has colons; the same name twice is one."""
    bad, other = one("bad", failure(500)), good()
    begun = await chain(bad, other).begin(ASK, ["bad:llama3.2:latest", "bad:llama3.2:latest", "good"])
    assert (bad.asks, other.asks) == ([("bad-0", "llama3.2:latest")], [("good-0", None)])
    await begun.pieces.aclose()
    plain = one("plain", *words("x"), END)
    begun = await chain(plain).begin(ASK, ["plain:m-2"])
    assert begun.model == "m-2"
    await begun.pieces.aclose()


async def test_two_models_of_one_endpoint_are_two_tries() -> None:
    """A second model of the same backend is asked although the first one failed there."""
    both = Fake("both", [[[failure(404)], [*words("yes"), END]]])
    begun = await chain(both).begin(ASK, ["both:x", "both:y"])
    assert both.asks == [("both-0", "x"), ("both-0", "y")]
    await begun.pieces.aclose()


async def test_unknown_names_are_refused_with_the_known_ones() -> None:
    """A name that nobody has is 400 before anybody is asked."""
    known = good()
    error = await refusal(chain(known), ["good", "elsewhere:x"])
    assert (type(error), known.asks) == (BadRequest, [])
    assert "'elsewhere'" in error.message
    assert "good" in error.message
    assert isinstance(await refusal(chain(known), []), BadRequest)


async def test_those_that_cannot_are_passed_over() -> None:
    """What is not configured, or cannot take the request, is in the attempts with its reason, and not asked."""
    missing, unable = good(), good()
    missing.name, missing.missing = "missing", "set MISSING_KEY"
    unable.name, unable.refuses = "unable", "takes no images"
    begun = await chain(missing, unable, good()).begin(ASK, ["missing", "unable", "good"])
    assert [(one.backend, one.endpoint, one.error) for one in begun.attempts] == [
        ("missing", "", "set MISSING_KEY"),
        ("unable", "", "takes no images"),
        ("good", "good-0", None),
    ]
    assert begun.tries == 1
    await begun.pieces.aclose()
    error = await refusal(chain(missing, unable), ["missing", "unable"])
    assert isinstance(error, BadRequest)
    assert "takes no images" in error.message
    error = await refusal(chain(missing), ["missing"])
    assert isinstance(error, Unavailable)
    assert "set MISSING_KEY" in error.message
    assert missing.asks == unable.asks == []


async def test_a_caller_that_leaves_before_the_content_ends_the_work() -> None:
    """Cancelling `begin` closes the backend's generator, and is neither success nor failure of its endpoint."""
    slow = one("slow", ROLE, Stall())
    asking = chain(slow)
    beginning = asyncio.create_task(asking.begin(ASK, ["slow"]))
    await asyncio.wait_for(slow.reached.wait(), 15)
    assert asking.pool("slow").status()[0].in_flight == 1
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    (status,) = asking.pool("slow").status()
    assert (slow.under_way, status.in_flight, status.failures, status.error) == (0, 0, 0, None)


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_caller_that_leaves_within_the_answer_ends_the_work(taken: int) -> None:
    """Closing the pieces, even before the first was taken, closes the generator; the endpoint is not blamed."""
    slow = one("slow", ROLE, *words("x"), Stall())
    asking = chain(slow)
    begun = await asking.begin(ASK, ["slow"])
    for _ in range(taken):
        await anext(begun.pieces)
    await begun.pieces.aclose()
    (status,) = asking.pool("slow").status()
    assert (slow.under_way, status.in_flight, status.failures, status.error) == (0, 0, 0, None)


async def test_a_reader_that_is_cancelled_within_the_answer_ends_the_work() -> None:
    """The same where the reader's task is cancelled while it waits for the next piece."""
    slow = one("slow", *words("x"), Stall())
    asking = chain(slow)
    begun = await asking.begin(ASK, ["slow"])
    reading = asyncio.create_task(said(begun))
    await asyncio.wait_for(slow.reached.wait(), 15)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (slow.under_way, asking.pool("slow").status()[0].in_flight) == (0, 0)


async def test_each_try_is_told_once() -> None:
    """An answer that is whole is one success, also when it is closed afterwards; one that breaks off is one failure."""
    first = Fake("a", [[[failure(500)]] * 4 + [[*words("x"), END, failure(500)]]])
    asking = chain(first)
    for _ in range(4):
        await refusal(asking, ["a"])
    assert asking.pool("a").status()[0].failures == 4
    begun = await asking.begin(ASK, ["a"])
    assert await said(begun) == "x"
    await begun.pieces.aclose()
    (status,) = asking.pool("a").status()
    assert (status.failures, status.in_flight, status.state) == (0, 0, State.CLOSED)


async def test_what_hangs_after_the_end_is_not_waited_for() -> None:
    """An answer that is whole ends soon, although its backend keeps the connection open."""
    lingering = one("lingering", *words("x"), END, Stall())
    begun = await chain(lingering, deadlines=Deadlines(60, 60, 60)).begin(ASK, ["lingering"])
    async with asyncio.timeout(15):
        assert await said(begun) == "x"
    assert lingering.under_way == 0


async def test_what_is_held_back_is_bounded() -> None:
    """A backend that sends frames without end and no content is given up."""
    chatty = one("chatty", *[PING] * (MAX_HELD + 10), *words("late"), END)
    begun = await chain(chatty, good()).begin(ASK, ["chatty", "good"])
    assert begun.attempts[0].error == "sent too much without content"
    await begun.pieces.aclose()


async def test_a_mistake_of_ours_leaves_nothing_behind() -> None:
    """An error that is no failure of a backend comes through as it is, and what was under way is closed."""
    broken = one("broken", ROLE, KeyError("oops"))
    asking = chain(broken)
    with pytest.raises(KeyError):
        await asking.begin(ASK, ["broken"])
    assert (broken.under_way, asking.pool("broken").status()[0].in_flight) == (0, 0)


async def test_the_model_is_the_one_that_answers() -> None:
    """What the backend says of its model counts more than what was asked for."""
    other = one("a", Piece(Started("m-9")), *words("x"), END)
    begun = await chain(other).begin(ASK, ["a:m-1"])
    assert begun.model == "m-9"
    await begun.pieces.aclose()


async def test_an_answer_that_never_ends_is_ended() -> None:
    """A backend that goes on for ever is let go of, however fast its reader is: what was said has to be held."""
    flood = one("flood", *words("x", *(["y" * (1 << 20)] * 64)), END)
    begun = await chain(flood).begin(ASK, ["flood"])
    got: list[Piece] = []
    with pytest.raises(BackendFailure, match="sent too much without an end"):
        await collect(begun, got)
    assert sum(len(piece.delta.text) for piece in got if isinstance(piece.delta, TextDelta)) <= MAX_STREAMED_BYTES + 1
    assert flood.under_way == 0
