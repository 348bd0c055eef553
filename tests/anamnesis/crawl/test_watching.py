"""What the file system tells, and what it cannot."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from anamnesis.contracts.crawler import CrawlerConfig, Source, SourceKind
from anamnesis.crawl import watching
from anamnesis.crawl.watching import Changes, Watcher
from tests.anamnesis.crawl.trees import configured, write

TEACHINGS = Source(name="t", kind=SourceKind.TEACHINGS)
DOCKER = Source(name="d", kind=SourceKind.DOCKER)
PATIENCE = 30.0  # seconds


class Told:
    """What a watcher has told so far."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.all: list[Changes] = []

    async def follow(self, changes: AsyncGenerator[Changes, None]) -> None:
        async with aclosing(changes):
            async for one in changes:
                self.all.append(one)

    def paths(self) -> set[str]:
        return {path for one in self.all for path in one.paths}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 -- the condition is about a watcher that tells of nothing else
                await asyncio.sleep(0.02)


@asynccontextmanager
async def watched(watcher: Watcher) -> AsyncIterator[Told]:
    told = Told(watcher)
    following = asyncio.create_task(told.follow(watcher.changes()))
    try:
        await told.until(lambda: watcher.watching or watcher.reason is not None)
        yield told
        assert not following.done()
    finally:
        following.cancel()
        await asyncio.wait((following,), timeout=PATIENCE)
        assert following.done()
        assert not watcher.watching


def watching_of(config: Callable[[], CrawlerConfig], root: Path, most: int = 1000) -> Watcher:
    return Watcher(config, [root], "home", never=(), most=most, renew=0.05, retry=0.2)


async def test_changes_are_told(tmp_path: Path) -> None:
    """Files that a source may mean, also new and deleted ones; not what is beside them, nor credentials, nor builds."""
    write(tmp_path, "a/x.md", "a/old.md", "a/node_modules/y.md")
    config = configured(tmp_path, TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        assert told.watcher.reason is None
        write(tmp_path, "a/node_modules/y.md", "a/z.py", "a/secrets.md", "a/.x.md.swp", "a/x.md~")
        write(tmp_path, "a/x.md", "a/new.md", text="changed")
        (tmp_path / "a/old.md").unlink()
        expected = {str(tmp_path / f"a/{name}.md") for name in ("x", "new", "old")}
        await told.until(lambda: told.paths() >= expected)
        assert told.paths() == expected
        assert not any(one.everything for one in told.all)


async def test_a_new_directory_is_watched_too(tmp_path: Path) -> None:
    """After a new directory everything is to be looked at once; then what changes in it is told."""
    write(tmp_path, "a/x.md")
    config = configured(tmp_path, TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        write(tmp_path, "new/deep/y.md")
        await told.until(lambda: any(one.everything for one in told.all))
        write(tmp_path, "new/deep/y.md", text="changed")
        await told.until(lambda: str(tmp_path / "new/deep/y.md") in told.paths())
        shutil.rmtree(tmp_path / "new")
        await told.until(lambda: str(tmp_path / "new") in told.paths())


async def test_what_changes_the_meaning_of_a_directory_tells_of_it(tmp_path: Path) -> None:
    """A new `.gitignore`, Compose file or Dockerfile concerns all files beside it."""
    write(tmp_path, "a/x.py", "b/x.py", "b/c/y.py")
    config = configured(tmp_path, DOCKER)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        write(tmp_path, "a/Dockerfile")
        await told.until(lambda: told.paths() == {str(tmp_path / "a")})
        write(tmp_path, "b/c/.gitignore")
        await told.until(lambda: told.paths() == {str(tmp_path / "a"), str(tmp_path / "b/c")})


async def test_very_many_changes_are_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound nothing is listed: everything is to be looked at."""
    monkeypatch.setattr(watching, "MAX_PATHS", 5)
    write(tmp_path, "a/x.md")
    config = configured(tmp_path, TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        write(tmp_path, *(f"a/{number}.md" for number in range(50)))
        await told.until(lambda: Changes(frozenset(), everything=True) in told.all)


async def test_a_new_configuration_is_followed(tmp_path: Path) -> None:
    """What is watched follows the configuration: off, on again, elsewhere."""
    write(tmp_path, "a/x.md", "b/x.md")
    config = configured(tmp_path, TEACHINGS.model_copy(update={"root": "a"}))
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        config = config.model_copy(update={"watch": False})
        await told.until(lambda: not told.watcher.watching and "switched off" in (told.watcher.reason or ""))
        config = configured(tmp_path, TEACHINGS.model_copy(update={"root": "b"}))
        await told.until(lambda: told.watcher.watching and told.watcher.reason is None)
        write(tmp_path, "a/x.md", "b/x.md", text="changed")
        await told.until(lambda: str(tmp_path / "b/x.md") in told.paths())
        assert str(tmp_path / "a/x.md") not in told.paths()


async def test_of_too_many_directories_the_latest_are_watched(tmp_path: Path) -> None:
    """Beyond a bound those whose files changed last are watched, and it says so."""
    write(tmp_path, *(f"d{number}/x.md" for number in range(9)))
    for number in range(9):
        os.utime(tmp_path / f"d{number}/x.md", (1_000_000 + number, 1_000_000 + number))
    config = configured(tmp_path, TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path, most=3)) as told:
        await told.until(lambda: told.watcher.watching)
        assert "narrow the sources" in (told.watcher.reason or "")
        write(tmp_path, *(f"d{number}/x.md" for number in range(9)), text="changed")
        await told.until(lambda: len(told.paths()) >= 3)
        assert told.paths() == {str(tmp_path / f"d{number}/x.md") for number in (6, 7, 8)}


async def test_nothing_to_watch_is_said(tmp_path: Path) -> None:
    """Without a directory it says why, and begins when there is one."""
    config = configured(tmp_path / "later", TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        assert not told.watcher.watching
        assert "no source" in (told.watcher.reason or "")
        write(tmp_path, "later/x.md")
        await told.until(lambda: told.watcher.watching)
        assert told.watcher.reason is None


async def test_mounts_of_other_machines_are_left_to_the_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is told of what others change, nothing is watched; the kind of the mount is named."""
    write(tmp_path, "far away/x.md", "near/x.md")
    mount = str(tmp_path / "far away").replace(" ", r"\040")
    table = tmp_path / "mountinfo"
    table.write_text(f"22 27 0:21 / /proc rw - proc proc rw\n40 27 0:99 / {mount} rw shared:1 - nfs4 host:/x rw\n")
    monkeypatch.setattr(watching, "MOUNTS", str(table))
    config = configured(tmp_path, TEACHINGS)
    async with watched(watching_of(lambda: config, tmp_path)) as told:
        await told.until(lambda: told.watcher.watching)
        assert "nfs4" in (told.watcher.reason or "")
        write(tmp_path, "far away/x.md", "near/x.md", text="changed")
        await told.until(lambda: str(tmp_path / "near/x.md") in told.paths())
        assert str(tmp_path / "far away/x.md") not in told.paths()
    only = configured(tmp_path / "far away", TEACHINGS)
    async with watched(watching_of(lambda: only, tmp_path)) as told:
        assert not told.watcher.watching
        assert "nfs4" in (told.watcher.reason or "")


LIMITED = """
import asyncio, sys
from pathlib import Path
from anamnesis.contracts.crawler import Source
from anamnesis.crawl.watching import Watcher
from tests.anamnesis.crawl.trees import configured
root = Path(sys.argv[1])
config = configured(root, Source(name="t", kind="teachings"))
async def main():
    watcher = Watcher(lambda: config, [root], "home", never=())
    following = asyncio.create_task(anext(watcher.changes()))
    async with asyncio.timeout(30):
        while watcher.reason is None and not watcher.watching:
            await asyncio.sleep(0.05)
    print(watcher.watching, watcher.reason)
    following.cancel()
    await asyncio.wait((following,), timeout=30)
asyncio.run(main())
"""


@pytest.mark.parametrize(("limit", "most"), [("max_inotify_watches", 5), ("max_inotify_instances", 0)])
def test_the_systems_limit_is_explained(tmp_path: Path, limit: str, most: int) -> None:
    """Where the kernel watches no more, the reason names what to raise."""
    write(tmp_path, *(f"d{number}/x.md" for number in range(20)))
    limited = f'echo {most} > /proc/sys/user/{limit} && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", limited, "sh", sys.executable, "-c", LIMITED, str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Ur", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody make a user namespace, in which the limit could be lowered")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("False "), done.stderr
    assert limit.removeprefix("max_inotify_") in done.stdout
    assert "fs.inotify.max_user_" in done.stdout
