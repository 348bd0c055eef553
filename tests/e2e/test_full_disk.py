"""A full disk: a clear error, and everything acknowledged before stays valid and readable."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import running

SIZE = 24 << 20  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path) -> None:
    """Writes end in 507 `storage_full`; reads go on; with room again, writes go on too."""
    with running(small_disk, "memory") as stack, stack.client("memory") as client:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (SIZE // 2))
        acknowledged, refusal = list[str](), None
        for number in range(400):
            body = {
                "episode_id": f"e{number}",
                "instance": "i",
                "project": "p",
                "summary": f"Note {number}",
                "raw_exchange": f"{number}" + " " * 400_000,  # large on disk, one window to embed
            }
            response = client.post("/api/episodes/batch", json={"episodes": [body]})
            if response.status_code != 200:
                refusal = response
                break
            acknowledged.append(f"e{number}")
        assert refusal is not None
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (507, "storage_full")
        assert len(acknowledged) > 3
        for one in acknowledged:
            assert client.get(f"/api/episodes/{one}").status_code == 200
        put = client.put("/api/state/offsets/laptop", json={"documents": {"file": {"offset": 7, "pad": "x" * 200_000}}})
        assert put.status_code in (200, 507)
        ballast.unlink()
        assert client.post("/api/episodes", json={**body, "episode_id": "after", "summary": "after"}).status_code == 201
        assert client.get("/api/episodes").json()["total"] >= len(acknowledged) + 1
