"""Files and the real memory service: what changes on the disk changes in the store."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from anamnesis.contracts.crawler import CrawlerConfig, Source, SourceKind, TagPatterns
from anamnesis.contracts.episodes import Episode
from anamnesis.crawl.sync import Crawl
from anamnesis.destination import HttpDestination, namespace
from anamnesis.kit.client import ServiceClient
from tests.e2e.conftest import SERVICE_KEY, Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def section(name: str, words: str) -> str:
    return f"# {name}\n\n" + words * 60 + "\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = Path(os.path.realpath(tmp_path)) / "crawled"
    place.mkdir()
    (place / "not meant").touch()  # an empty root would be taken for one that is not mounted
    return place


async def test_the_store_follows_the_files(stack: Stack, root: Path) -> None:
    """Edited, put back, renamed, deleted: what is current is what the files say, by the door's own rules."""
    source = Source(name="notes", kind=SourceKind.NAMED, root=str(root), globs=("**/*.md",), project="crawled-shop")
    config = CrawlerConfig(sources=(source,))

    def all_of_them() -> list[Episode]:
        with stack.client("memory") as http:
            found = http.get("/api/episodes", params={"project": "crawled-shop", "limit": 500}).json()["episodes"]
        return [Episode.model_validate(one) for one in found]

    def said() -> set[str]:
        current = [one for one in all_of_them() if one.superseded_by is None and "deleted" not in one.tags]
        assert all("on:crawler" in one.tags for one in current)
        return {one.raw_exchange or "" for one in current}

    async with ServiceClient(stack.url("memory"), SecretStr(SERVICE_KEY)) as http:

        def crawl() -> Crawl:
            keeper = HttpDestination(http, namespace("crawl", "crawler"))
            return Crawl(keeper, lambda: (config, TagPatterns()), [root], "crawler", lambda counts: None, never=())

        first, second = section("Doors", "They open at nine. "), section("Windows", "They stay shut. ")
        other = section("Doors", "They open at ten. ")
        path = root / "house.md"
        path.write_text(first + second)
        assert (await crawl().run()).created == 2
        assert said() == {first.strip(), second.strip()}
        path.write_text(other + second)
        counts = await crawl().run()
        assert (counts.created, counts.duplicate, counts.superseded) == (1, 1, 1)
        assert said() == {other.strip(), second.strip()}
        path.write_text(first + second)
        assert (await crawl().run()).superseded == 1
        assert said() == {first.strip(), second.strip()}
        new = path.rename(root / "home.md")
        assert (await crawl().run()).renamed == 1
        assert {one.source.path for one in all_of_them() if one.superseded_by is None} == {str(new)}
        new.unlink()
        assert (await crawl().run()).deleted == 1
        assert (said(), len(all_of_them())) == (set(), 3)
        assert (await crawl().run()).files_changed == 0
