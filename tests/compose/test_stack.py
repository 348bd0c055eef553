"""The whole stack in a real engine: it starts, remembers, keeps to its rights, and loses nothing when it is killed.

The database's image is replaced by one that holds a real mongod behind a proxy (tests/mongo_peer); everything else
is what `./deploy.sh up` starts.
"""

import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.compose.engine import NoEngine, find
from tests.compose.stack import KEYS, Stack

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


def test_transcripts_come_back_as_answers(stack: Stack) -> None:
    """What lies in the mounted transcripts is found by asking the gateway, with its event time and project."""

    def ask(client: httpx.Client) -> list[dict[str, str]]:
        started = client.post("/api/jsonl/ingest", json={})
        assert started.status_code < 300, started.text
        deadline = time.monotonic() + 300
        while client.get("/api/episodes").json()["total"] < 2:
            assert time.monotonic() < deadline, client.get("/api/jsonl/status").text
            time.sleep(0.5)
        question = {"query_text": "why was the upload test flaky?", "floor": 0, "top_k": 2}
        answer = client.post("/api/episodes/search", json=question)
        assert answer.status_code == 200, answer.text
        results: list[dict[str, str]] = answer.json()["results"]
        return results

    best = stack.talk(ask)[0]
    assert "upload" in best["summary"]
    assert best["timestamp"].startswith("2026-03-01T10:00:00")
    assert best["project"] == "shop"


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


class Writer:
    """Writes episodes through the gateway until told to stop, and remembers what was acknowledged."""

    def __init__(self, stack: Stack) -> None:
        self.acknowledged: list[str] = []
        self.failed = 0
        self._stack = stack
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: stack.talk(self._write), name="writer")

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _write(self, client: httpx.Client) -> None:
        number = 0
        while not self._end.is_set():
            ids = [f"ep_20260401_tester_kill_{number + offset:08x}" for offset in range(4)]
            number += len(ids)
            episodes = [
                {"episode_id": id, "instance": "tester", "project": "kill", "summary": f"Episode {id} was written."}
                for id in ids
            ]
            try:
                answer = client.post("/api/episodes/batch", json={"episodes": episodes}, timeout=20)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 300:
                self.acknowledged += [r["episode_id"] for r in answer.json()["results"] if r["status"] == "created"]
            else:
                self.failed += 1
                time.sleep(0.2)

    def wait_for(self, more: int, limit: float = 300) -> None:
        """Wait until so many more episodes are acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + limit
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {wanted}: {self._stack.logs()}"
            time.sleep(0.1)


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


def ids_of(client: httpx.Client, project: str) -> list[str]:
    """The ids of a project's episodes, page by page."""
    ids: list[str] = []
    while True:
        query: dict[str, str | int] = {"project": project, "skip": len(ids), "limit": 100}
        page = client.get("/api/episodes", params=query)
        assert page.status_code == 200, page.text
        ids += [episode["episode_id"] for episode in page.json()["episodes"]]
        if not page.json()["episodes"]:
            return ids


def test_stop_and_start_keep_everything(stack: Stack) -> None:
    """`stop` lets every service end by itself; `down` and `start` make new containers that hold the same episodes."""
    before = stack.talk(lambda client: client.get("/api/episodes").json()["total"])
    started = time.monotonic()
    stack.deploy("stop")
    print(f"stopped in {time.monotonic() - started:.1f} s")
    for service in OURS:
        assert stack.inspect(service, "{{.State.ExitCode}} {{.State.OOMKilled}}") in ("0 false", "143 false"), service
    assert "embedding worker ready" in stack.deploy("logs", "memory")  # it follows to the end, which is there
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
