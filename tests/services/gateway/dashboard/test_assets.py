"""Static files: compressed once, cached for ever under their own digest and not under another's."""

import gzip
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from services.gateway.dashboard.assets import Assets


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "one.js").write_text("export const one = 1;\n" * 100)
    (tmp_path / "small.css").write_text("a{}")
    return tmp_path


def _client(assets: Assets) -> TestClient:
    app = FastAPI()
    app.include_router(assets.routes())
    return TestClient(app, headers={"Accept-Encoding": "identity"})


def test_a_file_under_its_digest_is_kept_for_ever(directory: Path) -> None:
    """The address changes with the files, so what is behind it never does."""
    assets = Assets(directory)
    answer = _client(assets).get(assets.path("js/one.js"))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.content == (directory / "js" / "one.js").read_bytes()


def test_a_file_under_another_digest_is_not_kept(directory: Path) -> None:
    """A page that was open while the gateway was replaced goes on, and no cache mixes old with new."""
    answer = _client(Assets(directory)).get("/dashboard/static/0123456789abcdef/js/one.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_the_digest_changes_with_any_file(directory: Path) -> None:
    """Names and contents both count."""
    before = Assets(directory).digest
    (directory / "small.css").write_text("b{}")
    changed = Assets(directory).digest
    (directory / "small.css").rename(directory / "other.css")
    assert len({before, changed, Assets(directory).digest}) == 3


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("", False)],
)
def test_compression_is_what_the_caller_takes(directory: Path, accepted: str, compressed: bool) -> None:
    """A large file is compressed for whoever takes that, and only for them."""
    assets = Assets(directory)
    with _client(assets).stream("GET", assets.path("js/one.js"), headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert (gzip.decompress(raw) if compressed else raw) == (directory / "js" / "one.js").read_bytes()


@pytest.mark.parametrize("name", ["../pages.py", "js/none.js", "..%2f..%2fpages.py", "js", "/etc/passwd"])
def test_only_files_of_the_directory_are_given(directory: Path, name: str) -> None:
    """What was not read at the start cannot be asked for."""
    assets = Assets(directory)
    with pytest.raises(Exception, match="no such file"):
        _client(assets).get(f"/dashboard/static/{assets.digest}/{name}")
