"""What is configured: empty at first, kept in memory's settings, checked, and never written over unseen."""

import asyncio
import json
from pathlib import Path

import pytest

from anamnesis.contracts.base import JsonObject
from anamnesis.contracts.crawler import CrawlerConfig, CrawlerConfigured, TagPatternsConfigured
from tests.services.ingest.conftest import READER_KEY, WRITER_KEY, serving
from tests.services.ingest.crawler.conftest import client, config, configured, settings, until
from tests.services.ingest.remembering import Remembering


async def test_at_first_nothing_is_configured(memory: Remembering, tree: Path) -> None:
    """An empty configuration is what one gets, and it is stored; nothing is read and the crawler is off."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        told = CrawlerConfigured.model_validate_json((await http.get("/api/crawler/config")).content)
        patterns = (await http.get("/api/crawler/config/docx-tag-patterns")).json()
        status = await until(http, lambda one: True)
    assert (told.config, told.version, told.allowed) == (CrawlerConfig(), 1, (str(tree),))
    assert patterns == {"patterns": [], "version": 1}
    assert (status.state, status.last, status.sources) == ("off", None, ())
    stored = await memory.store.read("settings", "crawler")
    assert stored is not None
    assert CrawlerConfig.model_validate(stored.value) == CrawlerConfig()


async def test_parts_are_written_over_the_whole(memory: Remembering, tree: Path) -> None:
    """Machine roots and sources can be written apart; the rest stays, and each write is a version."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        first = await configured(http, config(tree, max_bytes=1000))
        other = tree / "shop"
        roots = await http.put(
            "/api/crawler/config/machine-roots", json={"machine_roots": [{"instance": "server", "path": str(other)}]}
        )
        sources = await http.put("/api/crawler/config/sources", json={"sources": []})
    changed = CrawlerConfigured.model_validate_json(sources.content)
    assert roots.status_code == sources.status_code == 200
    assert [root.instance for root in changed.config.machine_roots] == ["server"]
    assert (changed.config.sources, changed.config.max_bytes) == ((), 1000)
    assert changed.version == first.version + 2


async def test_nobody_writes_over_what_they_have_not_seen(memory: Remembering, tree: Path) -> None:
    """A write over an older version is 409, of the whole, of a part and of the patterns; nothing is changed by it."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        seen = (await configured(http, config(tree))).version
        await configured(http, config(tree, max_bytes=2000))
        bodies: list[tuple[str, JsonObject]] = [
            ("", config(tree)),
            ("/machine-roots", {"machine_roots": []}),
            ("/sources", {"sources": []}),
        ]
        for part, body in bodies:
            answer = await http.put(f"/api/crawler/config{part}?version={seen}", json=body)
            assert answer.status_code == 409, part
        now = CrawlerConfigured.model_validate_json((await http.get("/api/crawler/config")).content)
        patterns = {"patterns": [{"pattern": "invoice", "tags": ["money"]}]}
        path = "/api/crawler/config/docx-tag-patterns"
        first = TagPatternsConfigured.model_validate_json((await http.get(path)).content).version
        written = await http.put(f"{path}?version={first}", json=patterns)
        again = await http.put(f"{path}?version={first}", json={"patterns": []})
        kept = TagPatternsConfigured.model_validate_json((await http.get(path)).content)
    assert now.config.max_bytes == 2000
    assert (written.status_code, again.status_code) == (200, 409)
    assert [one.pattern for one in kept.patterns] == ["invoice"]


async def test_two_writers_at_once(memory: Remembering, tree: Path) -> None:
    """Of several who write parts at once none undoes another's without being told."""
    async with serving(settings(memory, tree)) as url, client(url) as http:
        await configured(http, config(tree))
        answers = await asyncio.gather(
            *(
                http.put("/api/crawler/config/sources", json={"sources": [{"name": f"s{n}", "kind": "scripts"}]})
                for n in range(5)
            ),
            http.put("/api/crawler/config/machine-roots", json={"machine_roots": []}),
        )
        now = CrawlerConfigured.model_validate_json((await http.get("/api/crawler/config")).content)
    assert {answer.status_code for answer in answers} <= {200, 409}
    good = [answer.json()["version"] for answer in answers if answer.status_code == 200]
    assert len(set(good)) == len(good)
    assert now.version == max(good)
    assert (now.config.machine_roots == ()) == (answers[-1].status_code == 200)


@pytest.mark.parametrize(
    ("change", "where", "why"),
    [
        ({"machine_roots": [{"instance": "m", "path": "projects"}]}, "machine root 'projects'", "not absolute"),
        ({"machine_roots": [{"instance": "m", "path": "/etc"}]}, "machine root '/etc'", "ANAMNESIS_SOURCES"),
        ({"machine_roots": [{"instance": "m", "path": "TREE/../../.."}]}, "machine root", "ANAMNESIS_SOURCES"),
        (
            {"machine_roots": [{"instance": "a", "path": "TREE"}, {"instance": "b", "path": "TREE/shop/.."}]},
            "machine root",
            "same directory",
        ),
        ({"machine_roots": [{"instance": "m", "path": "TREE/.ssh"}]}, "machine root", "credentials"),
        ({"machine_roots": [{"instance": "m", "path": "TREE/out"}]}, "machine root", "ANAMNESIS_SOURCES"),
        ({"excludes": ["../x"]}, "excludes", "'..'"),
        ({"excludes": ["[a"]}, "excludes", "not closed"),
        ({"sources": [{"name": "a", "kind": "deep"}]}, "source 'a'", "needs globs"),
        ({"sources": [{"name": "a", "kind": "named"}]}, "source 'a'", "needs globs"),
        ({"sources": [{"name": "a", "kind": "named", "globs": ["[z"]}]}, "source 'a'", "not closed"),
        ({"sources": [{"name": "a", "kind": "named", "globs": ["a/../b"]}]}, "source 'a'", "'..'"),
        ({"sources": [{"name": "a", "kind": "named", "globs": ["*a*b*c*d*e*.md"]}]}, "source 'a'", "too many '*'"),
        ({"sources": [{"name": "a", "kind": "named", "globs": ["a\nb"]}]}, "source 'a'", "cannot be seen"),
        ({"sources": [{"name": "a", "kind": "named", "globs": ["!x.md"]}]}, "source 'a'", "excludes"),
        ({"sources": [{"name": "a", "kind": "scripts", "root": "/etc"}]}, "source 'a'", "ANAMNESIS_SOURCES"),
        ({"sources": [{"name": "a", "kind": "scripts", "root": "../.."}]}, "source 'a'", "leads upwards"),
        (
            {"sources": [{"name": "a", "kind": "scripts"}, {"name": "a", "kind": "teachings"}]},
            "source 'a'",
            "2 sources have this name",
        ),
        ({"machine_roots": [], "sources": [{"name": "a", "kind": "deep"}]}, "source 'a'", "needs globs"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    memory: Remembering, tree: Path, change: JsonObject, where: str, why: str
) -> None:
    """Each mistake is named with its source and what to do, and changes nothing."""
    (tree / "out").symlink_to("/etc")
    body = config(tree)
    body.update(json.loads(json.dumps(change).replace("TREE", str(tree))))
    async with serving(settings(memory, tree)) as url, client(url) as http:
        answer = await http.put("/api/crawler/config", json=body)
        now = (await http.get("/api/crawler/config")).json()
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["message"].startswith(where)
    assert why in error["message"]
    assert error["detail"][0]["why"] in error["message"]
    assert now["config"]["sources"] == []


async def test_what_is_not_there_is_a_warning(memory: Remembering, tree: Path) -> None:
    """Directories may be mounted later, and one that is switched off may be anywhere."""
    body = config(
        tree,
        machine_roots=[{"instance": "m", "path": str(tree / "later")}],
        sources=[
            {"name": "a", "kind": "scripts", "root": "bin"},
            {"name": "b", "kind": "scripts", "root": str(tree / "gone")},
            {"name": "c", "kind": "scripts", "root": "/srv/elsewhere", "enabled": False},
        ],
    )
    async with serving(settings(memory, tree)) as url, client(url) as http:
        told = await configured(http, body)
        bare = await configured(http, config(tree, machine_roots=[]))
    assert [warning.split(":")[0] for warning in told.warnings] == [
        f"machine root '{tree}/later'",
        "source 'a'",
        "source 'b'",
    ]
    assert bare.warnings == ("source 'notes': no machine root is set, so it finds nothing; add one, or give it a root",)


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<x>a)(?P<x>b)", "(?<=a+)b"])
async def test_patterns_are_checked(memory: Remembering, tree: Path, pattern: str) -> None:
    """A regular expression that is none is refused and named; as plain text it may be anything."""
    path = "/api/crawler/config/docx-tag-patterns"
    async with serving(settings(memory, tree)) as url, client(url) as http:
        one = {"pattern": pattern, "syntax": "regex", "tags": ["x"]}
        refused = await http.put(path, json={"patterns": [one]})
        taken = await http.put(path, json={"patterns": [{**one, "syntax": "plain"}]})
    assert refused.status_code == 422
    assert repr(pattern) in refused.json()["error"]["message"]
    assert taken.status_code == 200


async def test_who_may_do_what(memory: Remembering, tree: Path) -> None:
    """Only administrators write the configuration or ask for previews; readers see; strangers get nothing."""
    requests: list[tuple[str, str, JsonObject | None, tuple[int, int]]] = [
        ("GET", "/api/crawler/config", None, (200, 200)),
        ("GET", "/api/crawler/config/docx-tag-patterns", None, (200, 200)),
        ("GET", "/api/crawler/status", None, (200, 200)),
        ("GET", "/api/crawler/files", None, (200, 200)),
        ("PUT", "/api/crawler/config", config(tree), (403, 403)),
        ("PUT", "/api/crawler/config/machine-roots", {"machine_roots": []}, (403, 403)),
        ("PUT", "/api/crawler/config/sources", {"sources": []}, (403, 403)),
        ("PUT", "/api/crawler/config/docx-tag-patterns", {"patterns": []}, (403, 403)),
        ("POST", "/api/crawler/preview", {"source": {"name": "a", "kind": "scripts"}}, (403, 403)),
        ("POST", "/api/crawler/scan", None, (403, 202)),
    ]
    async with (
        serving(settings(memory, tree)) as url,
        client(url, None) as nobody,
        client(url, READER_KEY) as reader,
        client(url, WRITER_KEY) as writer,
    ):
        for method, path, body, (read, write) in requests:
            assert (await nobody.request(method, path, json=body)).status_code == 401, path
            assert (await reader.request(method, path, json=body)).status_code == read, path
            assert (await writer.request(method, path, json=body)).status_code == write, path


async def test_a_setting_that_does_not_fit_is_said(memory: Remembering, tree: Path) -> None:
    """What somebody wrote past the service is not guessed at: it is an error until it is written anew."""
    await memory.store.write("settings", "crawler", {"sources": "all"})
    async with serving(settings(memory, tree)) as url, client(url) as http:
        answer = await http.get("/api/crawler/config")
        status = await until(http, lambda one: one.state == "failed")
        await configured(http, config(tree, scan_seconds=300))
        done = await until(http, lambda one: one.last is not None)
    assert answer.status_code == 422
    assert "write it anew" in answer.json()["error"]["message"]
    assert status.error is not None
    assert done.last is not None
    assert (done.state, done.error, done.last.state) == ("idle", None, "done")
