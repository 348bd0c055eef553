"""The whole stack in a real engine: it starts, remembers, keeps to its rights, and loses nothing when it is killed.

The database's image is replaced by one that holds a real mongod behind a proxy (tests/mongo_peer); everything else
is what `./deploy.sh up` starts.
"""

import asyncio
import json
import re
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import httpx2
import pymongo
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pymongo.errors import OperationFailure

from tests.compose.engine import NoEngine, find
from tests.compose.stack import KEYS, Stack
from tests.compose.visitor import events, log_in, opened
from tests.compose.writer import Writer, ids_of

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1500)]

OURS = ("memory", "ingest", "gateway")
SESSION = "6f1c2c7e-52d1-4b8e-9a34-2f8d5c1b7a90"


def write_transcript(directory: Path) -> None:
    """One small session, as Claude Code keeps it."""
    said = [
        ("user", "The nightly upload test is flaky again: it times out on the second chunk. Can you find out why?"),
        ("assistant", "The uploader reused a socket that the server had closed. I made it open a new connection."),
        ("user", "Which header does the billing webhook sign?"),
        ("assistant", "It signs X-Billing-Signature with HMAC-SHA256 over the raw body."),
    ]
    lines = []
    for number, (role, text) in enumerate(said):
        lines.append(
            {
                "type": role,
                "uuid": f"00000000-0000-4000-8000-{number:012d}",
                "parentUuid": f"00000000-0000-4000-8000-{number - 1:012d}" if number else None,
                "sessionId": SESSION,
                "timestamp": f"2026-03-0{number + 1}T10:00:00Z",
                "cwd": "/home/dev/shop",
                "isSidechain": False,
                "userType": "external",
                "version": "2.0.0",
                "message": {"role": role, "content": [{"type": "text", "text": text}]}
                | ({"id": f"msg_{number}", "type": "message", "model": "m"} if role == "assistant" else {}),
            }
        )
    project = directory / "-home-dev-shop"
    project.mkdir(parents=True)
    (project / f"{SESSION}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (directory, project):
        path.chmod(0o755)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, built and started; afterwards nothing of it runs or remains but the images."""
    try:
        engine = find()
    except NoEngine as reason:
        pytest.skip(f"the stack cannot be started here: {reason}")
    transcripts = tmp_path_factory.mktemp("transcripts") / "projects"
    write_transcript(transcripts)
    for parent in list(transcripts.parents)[:3]:
        parent.chmod(0o755)  # ingest reads it as nobody in particular
    stack = Stack(engine, tmp_path_factory.mktemp("stack"))
    try:
        engine.build_mode()
        stack.prepare(transcripts)
        stack.build()
        engine.run_mode()
        stack.remove()
        stack.started = stack.deploy("up")
        yield stack
    finally:
        stack.remove()
        engine.stop()


def test_up_says_where_it_is(stack: Stack) -> None:
    """`up` returns when everything is ready and says where; keys stand in .env alone, which is mode 600.

    The API key is shown once.
    """
    assert "Anamnesis is ready." in stack.started
    address = f"http://127.0.0.1:{stack.environment['ANAMNESIS_GATEWAY_PORT']}"
    assert f"\nOpen {address}/login?token=" in stack.started
    assert stat.S_IMODE((stack.directory / ".env").stat().st_mode) == 0o600
    assert stack.started.count(stack.setting("ANAMNESIS_API_KEY")) == 1
    for name in KEYS:
        assert name == "ANAMNESIS_API_KEY" or stack.setting(name) not in stack.started
        assert stack.setting(name) not in stack.logs()
    status = stack.deploy("status")
    assert all(f"{name}" in status for name in ("mongo", *OURS))
    assert status.count("(healthy)") == 4


def test_needs_a_key(stack: Stack) -> None:
    """Without a key, or with a wrong one, the published port tells nothing but that it is alive."""

    def probe(client: httpx.Client) -> list[int]:
        del client.headers["Authorization"]
        open_paths = [client.get(path).status_code for path in ("/health", "/ready")]
        closed = [client.get(path).status_code for path in ("/api/episodes", "/metrics", "/nowhere")]
        wrong = client.get("/api/episodes", headers={"Authorization": "Bearer anm_wrong"}).status_code
        return [*open_paths, *closed, wrong]

    assert stack.talk(probe) == [200, 200, 401, 401, 401, 401]


def read_in(client: httpx.Client) -> None:
    """Have the mounted transcripts read, and wait until both exchanges are kept."""
    started = client.post("/api/jsonl/ingest", json={})
    assert started.status_code < 300, started.text
    deadline = time.monotonic() + 300
    while client.get("/api/episodes", params={"project": "shop"}).json()["total"] < 2:
        assert time.monotonic() < deadline, client.get("/api/jsonl/status").text
        time.sleep(0.5)


def test_transcripts_come_back_as_answers(stack: Stack) -> None:
    """What lies in the mounted transcripts is found by asking the gateway, with its event time and project."""

    def ask(client: httpx.Client) -> list[dict[str, str]]:
        read_in(client)
        question = {"query_text": "why was the upload test flaky?", "floor": 0, "top_k": 2}
        answer = client.post("/api/episodes/search", json=question)
        assert answer.status_code == 200, answer.text
        results: list[dict[str, str]] = answer.json()["results"]
        return results

    best = stack.talk(ask)[0]
    assert "upload" in best["summary"]
    assert best["timestamp"].startswith("2026-03-01T10:00:00")
    assert best["project"] == "shop"


@pytest.fixture(scope="module")
def cookie(stack: Stack) -> str:
    """The session of a browser that came in by the link that `up` printed."""
    link = re.search(r"^Open (\S+)$", stack.started, re.MULTILINE)
    assert link, stack.started

    def enter(client: httpx.Client) -> str:
        del client.headers["Authorization"]
        came = log_in(client, link[1])
        assert (came.status_code, came.headers["location"]) == (303, "/dashboard"), came.text
        session = client.cookies["anamnesis_session"]
        client.cookies.clear()
        assert log_in(client, link[1]).status_code == 401, "the link works twice"
        return session

    return stack.talk(enter)


def test_the_printed_link_leads_to_the_pages(stack: Stack, cookie: str) -> None:
    """The link that `up` ends with lets one browser in, which sees dashboard and chat with every file they name."""

    def look(client: httpx.Client) -> None:
        for path in ("/dashboard", "/chat"):
            files = " ".join(opened(client, path))
            assert "app.css" in files
            assert "htmx.min.js" in files

    stack.browse(cookie, look)


def test_pages_are_told_what_happens(stack: Stack, cookie: str) -> None:
    """The pages' stream comes through the published port as it is written: an event arrives while it stays open."""

    def listen(client: httpx.Client) -> str:
        with client.stream("GET", "/api/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            return next(events(stream.iter_lines())).name

    assert stack.browse(cookie, listen) in {"stats", "embedding", "reembed", "ingest", "latency"}


def test_a_chat_remembers(stack: Stack, cookie: str) -> None:
    """A turn from the page is answered by a model in another container, which was shown what the transcripts hold; the
    page is told what that was, and the exchange becomes an episode."""
    question = {"message": "Which header does the billing webhook sign?", "project": "shop"}

    def converse(client: httpx.Client) -> None:
        client.headers["X-CSRF-Token"] = client.get("/api/session").json()["csrf_token"]
        read_in(client)
        with client.stream("POST", "/api/chat/stream", json=question) as stream:
            assert stream.status_code == 200, stream.read()
            told = list(events(stream.iter_lines()))
        assert [one.name for one in told] == ["session", "recalled", "backend", "delta", "delta", "done"], told
        begun, recalled, backend, *deltas, done = (json.loads(json.dumps(one.data)) for one in told)
        assert "billing webhook" in recalled["episodes"][0]["summary"]
        assert (backend["backend"], backend["model"]) == ("openai", "scripted-1")
        assert "X-Billing-Signature" in "".join(delta["text"] for delta in deltas)
        assert done["turn"]["state"] == "complete"
        deadline = time.monotonic() + 60
        while not client.get(f"/api/chat/sessions/{begun['session_id']}").json()["turns"][0]["episode_id"]:
            assert time.monotonic() < deadline, "the exchange was not remembered"
            time.sleep(0.2)

    with stack.model():
        stack.browse(cookie, converse)


def test_assistants_find_their_tools(stack: Stack) -> None:
    """A real MCP client that reaches the published port with a key lists the tools."""

    async def listed() -> list[str]:
        key = {"Authorization": f"Bearer {stack.setting('ANAMNESIS_API_KEY')}"}
        url = f"http://127.0.0.1:{stack.environment['ANAMNESIS_GATEWAY_PORT']}/mcp"
        async with (
            httpx2.AsyncClient(headers=key, timeout=30, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return sorted(tool.name for tool in (await client.list_tools()).tools)

    names = stack.engine.inside(lambda: asyncio.run(listed()))
    assert names == ["add", "feedback", "forget", "get", "search", "timeline"]


def test_hooks_are_told_what_is_remembered(stack: Stack) -> None:
    """What Claude Code posts for a prompt is answered with what bears on it."""
    posted = {"session_id": "another", "cwd": "/home/dev/shop", "prompt": "Which header does the billing webhook sign?"}

    def submit(client: httpx.Client) -> httpx.Response:
        read_in(client)
        return client.post("/hooks/UserPromptSubmit", json=posted, timeout=60)

    answer = stack.talk(submit)
    assert (answer.status_code, answer.headers["x-anamnesis-outcome"]) == (200, "recalled")
    assert "X-Billing-Signature" in answer.json()["hookSpecificOutput"]["additionalContext"]


def test_without_ssh_nothing_is_handed_over(stack: Stack) -> None:
    """Where no host for `claude` is named, its secrets are empty, and the image has no SSH client."""
    probe = """
import os, pathlib, shutil
secrets = sorted(pathlib.Path("/run/secrets").iterdir())
print(*(f"{path.name}={path.read_bytes()!r}" for path in secrets))
print(repr(os.environ["ANAMNESIS_CLAUDE_SSH_KEY"]), shutil.which("ssh"))
"""
    assert stack.python("gateway", probe).splitlines() == ["claude_ssh_key=b'' claude_ssh_known_hosts=b''", "'' None"]


def test_with_ssh_the_gateway_can_use_it(stack: Stack) -> None:
    """Where one is named, the gateway's own image has a client, which its user can run with the key that is mounted."""
    probe = """
import subprocess
from anamnesis.kit.settings import load
from services.gateway.backends.ssh import Remote
from services.gateway.settings import GatewaySettings
remote = Remote.of(load(GatewaySettings))
print(remote.missing(None), remote.key.read_text().strip())
tried = subprocess.run(remote.arguments("claude", [], {}, 0), capture_output=True, text=True, timeout=20)
print(tried.stderr.strip())
"""
    once = ("docker", "compose", "run", "--rm", "--no-deps", "-T", "gateway", "python", "-c", probe)
    *_, found, tried = stack.run(*once, limit=120, **stack.ssh).splitlines()
    assert found == "None not a real one"
    assert tried.endswith("Connection refused"), tried


def test_the_gateway_stays_small(stack: Stack) -> None:
    """With many pages open and requests under way, the gateway takes less than half of the memory that it may have."""
    probe = """
import pathlib, re
statuses = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/status")]
peaks = [int(kilobytes) for status in statuses for kilobytes in re.findall("VmHWM: *\\t* *([0-9]+)", status)]
print(max(peaks) * 1024)
"""
    idle = int(stack.python("gateway", probe))

    def press(client: httpx.Client) -> None:
        def ask(number: int) -> int:
            if number % 2:
                return client.get("/dashboard/episodes").status_code
            question = {"query_text": f"the upload test, number {number}", "top_k": 5}
            return client.post("/api/episodes/search", json=question).status_code

        with ExitStack() as pages, ThreadPoolExecutor(16) as pool:
            for _ in range(80):
                pages.enter_context(client.stream("GET", "/api/events"))
            assert set(pool.map(ask, range(300))) == {200}

    stack.talk(press)
    loaded, allowed = int(stack.python("gateway", probe)), int(stack.inspect("gateway", "{{.HostConfig.Memory}}"))
    print(f"the gateway took {idle >> 20} MB before and {loaded >> 20} MB at most of {allowed >> 20} MB")
    assert loaded < allowed / 2


def test_database_is_reached_on_loopback_alone(stack: Stack) -> None:
    """The database answers on 127.0.0.1 with its password, and neither elsewhere nor to other services."""
    port = int(stack.environment["ANAMNESIS_MONGODB_PORT"])

    def ping(password: str | None) -> bool:
        user = "anamnesis" if password else None
        with pymongo.MongoClient[dict[str, object]](
            "127.0.0.1", port, username=user, password=password, directConnection=True, timeoutMS=5_000
        ) as client:
            return bool(client["anamnesis"].list_collection_names())

    assert stack.engine.inside(lambda: ping(stack.setting("ANAMNESIS_MONGODB_PASSWORD")))
    with pytest.raises(OperationFailure):
        stack.engine.inside(lambda: ping(None))
    addresses = stack.inspect("mongo", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()
    gateways = stack.inspect("mongo", "{{range .NetworkSettings.Networks}}{{.Gateway}} {{end}}").split()
    assert len(addresses) == 2
    places = [*((address, 27017) for address in addresses), *((gateway, port) for gateway in gateways)]
    probe = f"""
import socket
for place in {places!r}:
    try:
        socket.create_connection(place, 0.7).close()
        print("reached", place)
    except OSError:
        pass
"""
    assert stack.python("gateway", probe) == ""
    assert stack.python("ingest", probe) == ""
    reached = stack.python("memory", probe).splitlines()
    assert len(reached) == 1, "memory reaches it on the network that they share, and on that alone"


@pytest.mark.parametrize("service", OURS)
def test_rights(stack: Stack, service: str) -> None:
    """A service runs as nobody in particular, with no capability, on a file system that it cannot write."""
    probe = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
for path in ("/app/x", "/usr/x", "/x", "/sources/claude/x"):
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
open("/tmp/x", "w").close()
os.remove("/tmp/x")
print(os.getuid() != 0, *(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")), status["NoNewPrivs"])
"""
    assert stack.python(service, probe).split() == ["True", "0", "0", "0", "1"]
    limits = stack.inspect(service, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}")
    assert all(int(limit) > 0 for limit in limits.split())


def test_kill_loses_nothing(stack: Stack) -> None:
    """With writes under way, kill -9 of memory's and then of the database's processes: all that was acknowledged
    is there afterwards, once, and everything comes back by itself."""
    with Writer(stack) as writer:
        for service in ("memory", "mongo"):
            writer.wait_for(20)
            before = stack.inspect(service, "{{.RestartCount}}")
            stack.run("docker", "compose", "exec", "-T", service, "sh", "-c", "kill -9 -1 || true")
            deadline = time.monotonic() + 300
            while stack.inspect(service, "{{.RestartCount}}") == before:
                assert time.monotonic() < deadline, f"{service} was not started again"
                time.sleep(0.2)
            print(f"{service} was ready {stack.wait_ready():.1f} s after it had been killed")
        writer.wait_for(8)
    assert writer.failed > 0, "nothing was under way when the processes were killed"
    kept = stack.talk(lambda client: ids_of(client, "kill"))
    assert len(kept) == len(set(kept)), "an episode is there twice"
    assert set(writer.acknowledged) <= set(kept)


def test_stop_and_start_keep_everything(stack: Stack) -> None:
    """`stop` lets every service end by itself, also while a page listens; `down` and `start` make new containers that
    hold the same episodes."""
    before = stack.talk(lambda client: client.get("/api/episodes").json()["total"])
    listening = threading.Event()

    def listen(client: httpx.Client) -> None:
        with client.stream("GET", "/api/events") as stream:
            for _ in events(stream.iter_lines()):
                listening.set()

    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(stack.talk, listen)
        assert listening.wait(60)
        started = time.monotonic()
        stack.deploy("stop")
        print(f"stopped in {time.monotonic() - started:.1f} s")
        page.result(60)  # its stream has come to an end, and was not cut off
    for service in OURS:
        assert stack.inspect(service, "{{.State.ExitCode}} {{.State.OOMKilled}}") in ("0 false", "143 false"), service
    assert "embedding worker ready" in stack.deploy("logs", "memory")  # it follows to the end, which is there
    logged = stack.run("docker", "compose", "logs", "--no-color", "gateway")
    assert '"event": "request"' in logged
    assert not [line for line in logged.splitlines() if re.search(r'"level": ?"(error|critical)"', line)]
    stack.deploy("down")
    again = stack.deploy("start")
    assert "Made in .env" not in again
    assert stack.talk(lambda client: client.get("/api/episodes").json()["total"]) == before


def test_values_reach_containers_unchanged(stack: Stack) -> None:
    """Compose reads from .env what `env pull` writes to it, whatever the value is."""
    from deploy.envfile import merge

    values = {
        f"ANAMNESIS_V{number}": value
        for number, value in enumerate(
            ["plain", "a b", "$HOME ${X} $$", "it's", 'say "hi"', "back\\slash", "#no", "`x`"]
        )
    }
    directory = stack.directory / "values"
    directory.mkdir()
    (directory / ".env").write_text(merge("", values)[0])
    environment = {name: f"${{{name}}}" for name in values}
    (directory / "compose.json").write_text(json.dumps({"services": {"a": {"image": "x", "environment": environment}}}))
    shown = stack.run(
        "docker",
        "compose",
        "--project-directory",
        str(directory),
        "-f",
        str(directory / "compose.json"),
        "config",
        "--format",
        "json",
    )
    got = json.loads(shown)["services"]["a"]["environment"]
    assert {name: value.replace("$$", "$") for name, value in got.items()} == values
