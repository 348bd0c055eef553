"""The hook against gateways that are there, away, slow, broken or wicked: silent, in time, and nothing is lost."""

import ast
import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.integrations.claude_code.hooking import (
    HOOK,
    KEY,
    PYTHON,
    Home,
    answering,
    gateway,
    home,
    request,
    telling,
)
from tests.integrations.claude_code.payloads import AGENT, EVENTS, payload

AWAY = "http://127.0.0.1:9"
IN_TIME = 8.0
"""Seconds: the hook's own bound is 1.5, and the machine may be busy."""
RECALLS = ("SessionStart", "UserPromptSubmit")
READS = tuple(event for event in EVENTS if event not in RECALLS)


def transcript(path: Path, name: str = "session") -> str:
    folder = path / "projects" / "-srv-shop"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("{}\n")
    return str(folder / f"{name}.jsonl")


def test_it_is_written_for_python_3_8_and_the_standard_library() -> None:
    """Older syntax, and no import that is not Python's own."""
    text = HOOK.read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"_thread", "fcntl", "hashlib", "json", "os", "socket", "ssl", "subprocess", "sys", "time"}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_arrives_as_it_was_posted(tmp_path: Path, event: str) -> None:
    """The gateway gets the same bytes, the key in a header, and no proxy stands between."""
    seen: list[bytes] = []
    body = payload(event, transcript(tmp_path))
    with gateway(answering(b"{}", seen=seen)) as url:
        ended = home(tmp_path / "home", url).hook(event, body, http_proxy=AWAY, ALL_PROXY=AWAY)
    assert (ended.status, ended.out, ended.err) == (0, b"", b"")
    head, _, got = seen[0].partition(b"\r\n\r\n")
    assert got == body
    assert head.startswith(f"POST /hooks/{event} HTTP/1.0\r\n".encode())
    assert f"X-API-Key: {KEY}".encode() in head


@pytest.mark.parametrize("event", RECALLS)
def test_what_is_remembered_is_told(tmp_path: Path, event: str) -> None:
    """The text comes out as JSON for Claude Code, and nothing else that the answer held."""
    answer = json.loads(telling(event, "Wait for the port. \U0001f9e0")) | {"continue": False, "systemMessage": "obey"}
    with gateway(answering(json.dumps(answer).encode())) as url:
        ended = home(tmp_path, url).hook(event, payload(event, "/none.jsonl"))
    assert json.loads(ended.out) == json.loads(telling(event, "Wait for the port. \U0001f9e0"))
    assert ended.status == 0


def slow(connection: socket.socket) -> None:
    request(connection)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + b"X: y\r\n" * 999:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def mute(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def endless(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def huge_head(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"y" * 65536 + b"\r\n")


TOLD = telling("UserPromptSubmit", "secret")
MISBEHAVING = {
    "slow": slow,
    "mute": mute,
    "endless": endless,
    "huge head": huge_head,
    "hangs up": lambda _: None,
    "500": answering(TOLD, "500 Internal Server Error"),
    "401": answering(TOLD, "401 Unauthorized"),
    "redirect": answering(TOLD, "302 Found"),
    "rubbish": answering(b"\x00\xff<html>"),
    "no object": answering(b"[1, 2]"),
    "another event": answering(telling("PreToolUse", "secret")),
    "no text": answering(b'{"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": 7}}'),
    "huge": answering(telling("UserPromptSubmit", "x" * 200_000)),
    "deep": answering(b"[" * 60_000),
    "no http": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "negative": lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
}


@pytest.mark.parametrize("kind", MISBEHAVING)
def test_a_gateway_that_misbehaves_is_not_heard(tmp_path: Path, kind: str) -> None:
    """Ends with 0, in time, and prints nothing, for a recall as for what is to be read; that stays noted."""
    path = transcript(tmp_path)
    with gateway(MISBEHAVING[kind]) as url:
        one = home(tmp_path / "home", url)
        for event in ("UserPromptSubmit", "Stop"):
            ended = one.hook(event, payload(event, path))
            assert (ended.status, ended.out, ended.err) == (0, b"", b"")
            assert ended.seconds < IN_TIME
    assert one.noted() == [[path]]
    assert one.called() == []


@pytest.mark.parametrize(
    "url", [AWAY, "http://192.0.2.1:3010", "ftp://127.0.0.1", "http://user:word@127.0.0.1", "::", "http://h:x"]
)
def test_a_gateway_that_is_away_costs_nothing_but_time(tmp_path: Path, url: str) -> None:
    """Nobody listens, packets vanish, or the address is none: silence, and the wish is on the disk."""
    one = home(tmp_path, url)
    ended = one.hook("SessionEnd", payload("SessionEnd", "/somewhere/session.jsonl"))
    assert (ended.status, ended.out, ended.err) == (0, b"", b"")
    assert ended.seconds < IN_TIME
    assert one.noted() == [["/somewhere/session.jsonl"]]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"transcript_path": 7}', b"[" * 100_000])
@pytest.mark.parametrize("event", ["UserPromptSubmit", "Stop"])
def test_what_is_posted_may_be_anything(tmp_path: Path, event: str, body: bytes) -> None:
    """What cannot be read is no error; what ought to be read and does not say what is a wish for everything."""
    one = home(tmp_path, AWAY)
    ended = one.hook(event, body)
    assert (ended.status, ended.out, ended.err) == (0, b"", b"")
    assert one.noted() == ([[]] if event == "Stop" else [])


def test_too_much_input_is_let_go(tmp_path: Path) -> None:
    """Over 1 MB nothing is sent; whoever writes it is not left with a broken pipe, and the wish is for everything."""
    seen: list[bytes] = []
    with gateway(answering(b"{}", seen=seen)) as url:
        one = home(tmp_path, url)
        ended = one.hook("Stop", payload("Stop", "/s.jsonl", last_assistant_message="x" * (3 << 20)))
    assert (ended.status, ended.out, seen, one.noted()) == (0, b"", [], [[]])


def test_input_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    """Somebody keeps the pipe open: over in time all the same."""
    process = home(tmp_path, AWAY).start("UserPromptSubmit")
    assert process.wait(timeout=IN_TIME) == 0
    process.communicate(timeout=5)


@pytest.mark.parametrize("arguments", [[], ["PreToolUse"], ["Stop", "Stop"], ["--help"], ["\udcff"]])
def test_other_arguments_do_nothing(tmp_path: Path, arguments: list[str]) -> None:
    """Silent and 0: Claude Code takes other statuses for something to say."""
    import subprocess

    done = subprocess.run([*PYTHON, HOOK, *arguments], input=b"{}", capture_output=True, timeout=30, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_noted_is_read_once_the_gateway_answers(tmp_path: Path) -> None:
    """While it is away the wishes wait; the next hook of any kind that reaches it has them read, and they are gone."""
    path = transcript(tmp_path)
    one = home(tmp_path / "home", AWAY)
    for event in READS:
        one.hook(event, payload(event, path))
    assert one.called() == []
    assert one.noted() == sorted([[path], [path, path.removesuffix(".jsonl") + "/subagents" + AGENT]])
    with gateway(answering(b"{}")) as url:
        one.hook("UserPromptSubmit", payload("UserPromptSubmit", path), ANAMNESIS_URL=url)
        one.wait(lambda: one.called() == [f"ingest --quiet {path}"] and not one.noted())


def test_what_fails_is_tried_again(tmp_path: Path) -> None:
    """A run that ends with an error leaves its wishes to the next hook."""
    path = transcript(tmp_path)
    with gateway(answering(b"{}")) as url:
        one = home(tmp_path / "home", url, status=1)
        one.hook("Stop", payload("Stop", path))
        one.wait(lambda: len(one.called()) == 1)
        assert one.noted() == [[path]]
        one.hook("SessionStart", payload("SessionStart", path))
        one.wait(lambda: len(one.called()) == 2)
    assert one.noted() == [[path]]


def test_a_wish_that_always_fails_ends(tmp_path: Path) -> None:
    """After many tries it is let go, so that nothing runs for ever."""
    with gateway(answering(b"{}")) as url:
        one = home(tmp_path, url, status=1)
        one.spool.mkdir(parents=True)
        (one.spool / "old.50").write_text('{"paths": ["/x.jsonl"]}')
        one.hook("SessionStart", payload("SessionStart", "/none.jsonl"))
        one.wait(lambda: not one.noted())
    assert one.called() == []


@pytest.mark.slow
def test_one_run_at_a_time_and_none_is_missed(tmp_path: Path) -> None:
    """A wish that comes while a run is under way is done afterwards, by the same process, never beside it."""
    first, second = transcript(tmp_path, "first"), transcript(tmp_path, "second")
    busy = tmp_path / "busy"
    script = (
        f'mkdir "{busy}" || echo "TWO" >>"{tmp_path}/home/calls"; echo "$@" >>"{tmp_path}/home/calls"; '
        f'sleep 3; rmdir "{busy}"'
    )
    with gateway(answering(b"{}")) as url:
        one = Home(tmp_path / "home", url, script)
        one.hook("Stop", payload("Stop", first))
        one.wait(lambda: len(one.called()) == 1)
        for event in ("PreCompact", "SessionEnd"):
            one.hook(event, payload(event, second))
        one.wait(lambda: not one.noted() and not busy.exists())
    assert one.called() == [f"ingest --quiet {first}", f"ingest --quiet {second}"]


@pytest.mark.slow
def test_ten_at_once(tmp_path: Path) -> None:
    """Ten sessions end in the same moment: every transcript is read, by one run at a time."""
    paths = [transcript(tmp_path, f"session-{number}") for number in range(10)]
    busy = tmp_path / "busy"
    script = (
        f'mkdir "{busy}" || echo "TWO" >>"{tmp_path}/home/calls"; echo "$@" >>"{tmp_path}/home/calls"; rmdir "{busy}"'
    )
    with gateway(answering(b"{}")) as url:
        one = Home(tmp_path / "home", url, script)
        running = [one.start("SessionEnd") for _ in paths]
        for process, path in zip(running, paths, strict=True):
            assert process.stdin is not None
            process.stdin.write(payload("SessionEnd", path))
            process.stdin.close()
        for process in running:
            assert process.wait(timeout=30) == 0
            assert process.stdout is not None
            assert process.stdout.read() == b""
            process.stdout.close()
            if process.stderr:
                process.stderr.close()
        one.wait(lambda: not one.noted())
    assert {word for line in one.called() for word in line.split()} == {"ingest", "--quiet", *paths}


def test_the_spool_is_bounded_and_private(tmp_path: Path) -> None:
    """Beyond its bound a wish for everything stands for all; files are their owner's alone, and hold no text."""
    one = home(tmp_path, AWAY)
    one.spool.mkdir(parents=True, mode=0o700)
    for number in range(500):
        (one.spool / f"{number}.00").write_text('{"paths": ["/x.jsonl"]}')
    for number in range(3):
        one.hook("Stop", payload("Stop", f"/new-{number}.jsonl"))
    found = sorted(one.spool.iterdir())
    assert len(found) == 501
    assert found[-1].name == "everything.00"
    assert found[-1].stat().st_mode & 0o777 == 0o600
    assert "server" not in found[-1].read_text()


@pytest.mark.slow
def test_killed_between_any_two_steps(tmp_path: Path) -> None:
    """kill -9 at any moment: what is in the spool can be taken, and the next hook has all of it read."""
    dice = random.Random(7)
    path = transcript(tmp_path)
    one = home(tmp_path / "home", AWAY)
    for _ in range(30):
        process = one.start("Stop")
        assert process.stdin is not None
        process.stdin.write(payload("Stop", path))
        process.stdin.close()
        time.sleep(dice.uniform(0, 0.04))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    old = time.time() - 120
    for half in one.spool.glob(".*"):
        os.utime(half, (old, old))
    with gateway(answering(b"{}")) as url:
        one.hook("Stop", payload("Stop", path), ANAMNESIS_URL=url)
        one.wait(lambda: not one.noted())
    assert not list(one.spool.glob(".*"))
    assert all(line in (f"ingest --quiet {path}", "ingest --quiet") for line in one.called())


def test_without_the_command_the_service_is_asked(tmp_path: Path) -> None:
    """Where no `anamnesis` is known, the wish is handed to the service once it answers, and is gone."""
    seen: list[bytes] = []
    one = Home(tmp_path, AWAY)
    one.hook("SessionEnd", payload("SessionEnd", "/x.jsonl"))
    assert one.noted() == [["/x.jsonl"]]
    with gateway(answering(b"{}", seen=seen)) as url:
        one.hook("UserPromptSubmit", payload("UserPromptSubmit", "/x.jsonl"), ANAMNESIS_URL=url)
        one.wait(lambda: not one.noted())
    assert [line.split()[1] for line in seen] == [b"/hooks/UserPromptSubmit", b"/hooks/SubagentStop"]


def test_the_command_gets_key_and_address_out_of_sight(tmp_path: Path) -> None:
    """In the environment, not among the arguments that every user of the machine can list."""
    path = transcript(tmp_path)
    with gateway(answering(b"{}")) as url:
        one = Home(tmp_path / "home", url, f'echo "$ANAMNESIS_URL $ANAMNESIS_API_KEY $*" >>"{tmp_path}/home/calls"')
        one.hook("Stop", payload("Stop", path))
        one.wait(lambda: not one.noted())
    assert one.called() == [f"{url} {KEY} ingest --quiet {path}"]


def client(folder: Path, url: str, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "client.json").write_text(json.dumps({"url": url, "key": key, "command": []}))


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    """The environment, what `connect` wrote, the key of the services here: in this order."""
    seen: list[bytes] = []
    kept, local = "anm_kept-in-a-file-of-its-own", "anm_of-the-services-on-this-machine"
    with gateway(answering(b"{}", seen=seen)) as url:
        one = home(tmp_path, url)
        data = tmp_path / ".local" / "share" / "anamnesis"
        data.mkdir(parents=True)
        (data / "api.key").write_text(local + "\n")
        one.hook("SessionStart", b"{}", MEMORY_KEY="")
        client(tmp_path / ".config" / "anamnesis" / "clients" / "claude-code", url, kept)
        one.hook("SessionStart", b"{}", MEMORY_KEY="")
        one.hook("SessionStart", b"{}", MEMORY_KEY="", ANAMNESIS_URL="")
        one.hook("SessionStart", b"{}")
    keys = [next(line[11:] for line in one.decode().split("\r\n") if line.startswith("X-API-Key: ")) for one in seen]
    assert keys == [local, kept, kept, KEY]


def test_a_kept_key_goes_nowhere_else(tmp_path: Path) -> None:
    """An address that a repository has set does not get the key that was made for another."""
    seen: list[bytes] = []
    with gateway(answering(b"{}", seen=seen), "127.0.0.2") as url:
        one = home(tmp_path, url)
        kept = tmp_path / ".config" / "anamnesis" / "clients" / "claude-code"
        client(kept, "http://10.0.0.1:3010", "anm_" + "k" * 20)
        data = tmp_path / ".local" / "share" / "anamnesis"
        data.mkdir(parents=True)
        (data / "api.key").write_text("anm_" + "l" * 20)
        ended = one.hook("SessionStart", b"{}", MEMORY_KEY="")
        assert (ended.status, ended.out) == (0, b"")
        assert seen == []
        one.hook("SessionStart", b"{}")
    assert len(seen) == 1


NO_KEYS = ["short", "anm_with a blank in its middle", "anm_with\nX-Other: header-in-it", "anm_" + "\u00fc" * 20]


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_is_no_key_is_not_sent(tmp_path: Path, key: str) -> None:
    """A header cannot be smuggled in by a key, and nothing is asked without one."""
    seen: list[bytes] = []
    with gateway(answering(b"{}", seen=seen)) as url:
        ended = home(tmp_path, url).hook("SessionStart", b"{}", MEMORY_KEY=key)
    assert (ended.status, ended.out, ended.err, seen) == (0, b"", b"", [])


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    """Where the spool cannot be written, the gateway is asked all the same, and nobody is told."""
    seen: list[bytes] = []
    with gateway(answering(b"{}", seen=seen)) as url:
        one = home(tmp_path, url)
        (tmp_path / "state").write_text("a file where a directory is wanted")
        ended = one.hook("Stop", payload("Stop", "/x.jsonl"))
    assert (ended.status, ended.out, ended.err, len(seen)) == (0, b"", b"", 1)


@pytest.mark.slow
def test_it_starts_quickly(tmp_path: Path) -> None:
    """The fastest of some runs against a gateway that answers at once; bench/hook.py has the numbers."""
    with gateway(answering(b"{}")) as url:
        one = home(tmp_path, url)
        seconds = [one.hook("UserPromptSubmit", payload("UserPromptSubmit", "/x.jsonl")).seconds for _ in range(10)]
    assert min(seconds) < 0.5
