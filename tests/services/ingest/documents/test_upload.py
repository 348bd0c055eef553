"""Uploads: what becomes of a document, what is refused and how, and that nothing of one stays behind."""

import asyncio
import tempfile
from pathlib import Path

import httpx
import pytest

from anamnesis.contracts.documents import MAX_UPLOAD, DocumentIngested
from anamnesis.contracts.episodes import BatchResult, EpisodeBatch, Trust
from services.ingest.documents.desk import AT_ONCE, WAITING
from tests.anamnesis.documents import making
from tests.anamnesis.transcripts.destination import Memory
from tests.services.ingest.conftest import READER_KEY, MemoryPeer
from tests.services.ingest.documents.conftest import ingest

UPLOAD = "/api/episodes/upload"
TOKEN = "ghp_" + "a1B2c3D4" * 5
PAGE = b"<title>Handbook</title><h1>Backups</h1><p>At two in the night."


async def sent(http: httpx.AsyncClient, data: bytes, name: str = "a.html", **fields: object) -> httpx.Response:
    form = {"project": "shop", **fields}
    return await http.post(UPLOAD, files={"file": (name, data)}, data=form)


def reason(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["message"]
    return answer.status_code, (error.get("detail") or {}).get("reason", "")


async def test_a_document_is_remembered_once(peer: MemoryPeer) -> None:
    """Its parts are episodes of the project; handing it in again gives the same ids and changes nothing."""
    data = making.pdf("One", "Two " * 200, outline=[("Start", 1), ("More", 2)], title="Letters")
    async with ingest(peer) as http:
        first = await sent(http, data, "dir\\letters.PDF", tags="a, b")
        again = await sent(http, data, "letters.pdf")
        other = await sent(http, data, "letters.pdf", project="else")
    assert (first.status_code, again.status_code) == (201, 201)
    one, two = (DocumentIngested.model_validate_json(answer.content) for answer in (first, again))
    assert (one.name, one.kind, one.title, one.pages, one.truncated) == ("letters.PDF", "pdf", "Letters", 2, False)
    assert (one.created, one.duplicate, two.created, two.duplicate) == (len(one.episodes), 0, 0, len(one.episodes))
    assert one.episodes == two.episodes
    assert set(other.json()["episodes"]).isdisjoint(one.episodes)
    kept = peer.memory.episodes[one.episodes[0]]
    assert (kept.project, kept.instance, kept.trust, kept.tags) == ("shop", "laptop", Trust.TOOL, ("doc", "a", "b"))
    assert kept.summary.startswith("Letters: Start\nOne")
    assert kept.source is not None
    assert (kept.source.kind, kept.source.path, kept.source.url) == ("document", "letters.PDF", None)
    assert (kept.source.page, kept.source.section, kept.source.line) == (1, "Start", 1)


@pytest.mark.parametrize("name", ["a.docx", "a.txt", "a.md"])
async def test_every_kind_is_taken(peer: MemoryPeer, name: str) -> None:
    """Word and plain text, as PDFs and pages."""
    data = making.docx(lambda one: one.add_paragraph("At two.")) if name == "a.docx" else b"At two."
    async with ingest(peer) as http:
        answer = await sent(http, data, name)
    assert answer.status_code == 201, answer.text
    assert [one.raw_exchange for one in peer.memory.episodes.values()] == ["At two."]


async def test_secrets_never_leave(peer: MemoryPeer) -> None:
    """They are taken out of the text, the title, the headings and the name of the file."""
    page = f"<title>T {TOKEN}</title><h1>Key {TOKEN}</h1><p>It is {TOKEN}, keep it.<p>password=hunter2hunter2"
    async with ingest(peer) as http:
        answer = await sent(http, page.encode(), f"{TOKEN}.html")
        named = await sent(http, b"text", f"{TOKEN}.txt")
    assert answer.status_code == named.status_code == 201, answer.text
    assert answer.json()["redactions"] >= 5
    assert named.json()["redactions"] == 1
    everything = answer.text + named.text + "".join(one.model_dump_json() for one in peer.memory.episodes.values())
    assert TOKEN not in everything
    assert "hunter2hunter2" not in everything
    assert "[REDACTED:github-token]" in everything


async def test_tags_come_in_one_field_or_in_many(peer: MemoryPeer) -> None:
    """Separated by commas, or one a field; empty ones are none."""
    async with ingest(peer) as http:
        assert (await sent(http, PAGE, tags=["a,b", "", " c ", "a"])).status_code == 201
        assert reason(await sent(http, PAGE, tags=",".join(f"t{number}" for number in range(64)))) == (422, "")
        assert reason(await sent(http, PAGE, tags="x" * 101)) == (422, "")
    assert [one.tags for one in peer.memory.episodes.values()] == [("doc", "a", "b", "c")]


async def test_what_is_too_large_is_refused(peer: MemoryPeer) -> None:
    """By the byte, and before it is read where it announces itself."""
    async with ingest(peer) as http:
        assert reason(await sent(http, bytes(MAX_UPLOAD + 1), "a.txt")) == (413, "")
        assert reason(await sent(http, bytes(MAX_UPLOAD), "a.txt")) == (422, "binary")
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(60 << 20)}
        assert (await http.post(UPLOAD, headers=headers, content=bytes(60 << 20))).status_code == 413


async def test_a_form_that_does_not_fit_is_refused(peer: MemoryPeer) -> None:
    """Each with a message that says what is missing."""
    file = {"file": ("a.html", PAGE)}
    async with ingest(peer) as http:
        answers = [
            await http.post(UPLOAD, json={"project": "shop"}),
            await http.post(UPLOAD, data={"project": "shop"}),
            await http.post(UPLOAD, data={"project": "shop"}, files={"other": ("a.html", PAGE)}),
            await http.post(UPLOAD, data={"project": "shop", "file": "text"}, files={"x": ("a.html", PAGE)}),
            await http.post(UPLOAD, data={"project": "shop"}, files=[("file", ("a.html", PAGE))] * 2),
            await http.post(UPLOAD, content=b"x", headers={"Content-Type": "multipart/form-data"}),
            await http.post(UPLOAD, content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=x"}),
            await http.post(UPLOAD, data={f"f{n}": "x" for n in range(200)}, files=file),
        ]
        wrong = [
            await http.post(UPLOAD, files=file),
            await http.post(UPLOAD, data={"project": " "}, files=file),
            await http.post(UPLOAD, data={"project": "x" * 201}, files=file),
            await http.post(UPLOAD, data={"project": "a\0b"}, files=file),
        ]
    assert [one.status_code for one in answers] == [400] * len(answers), [one.text for one in answers]
    assert [one.status_code for one in wrong] == [422] * len(wrong), [one.text for one in wrong]
    assert all(one.json()["error"]["message"] for one in answers + wrong)
    assert not peer.memory.episodes


async def test_what_cannot_be_read_is_one_clear_error_and_the_next_one_works(peer: MemoryPeer) -> None:
    """An unknown kind, a damaged document, one without text; then a good one."""
    async with ingest(peer) as http:
        assert reason(await sent(http, PAGE, "a.exe")) == (422, "kind")
        assert reason(await sent(http, PAGE, "")) in ((422, "kind"), (400, ""))
        assert reason(await sent(http, b"%PDF-1.7 and nothing", "a.pdf")) == (422, "broken")
        assert reason(await sent(http, PAGE, "a.docx")) == (422, "broken")
        assert reason(await sent(http, b"\0\1", "a.txt")) == (422, "binary")
        assert reason(await sent(http, b"<p> </p>", "a.html")) == (422, "empty")
        assert not peer.memory.episodes
        assert (await sent(http, PAGE)).status_code == 201


async def test_a_document_that_takes_too_long_is_refused(peer: MemoryPeer) -> None:
    """By the setting, and the next one works."""
    async with ingest(peer, document_seconds=0.05) as http:
        assert reason(await sent(http, PAGE)) == (422, "too-slow")
        assert (await sent(http, b"plain", "a.txt")).status_code == 201


async def test_odd_names_are_only_names(peer: MemoryPeer) -> None:
    """No name leads anywhere, or is longer than a name may be."""
    async with ingest(peer) as http:
        for number, name in enumerate(("../../etc/passwd.txt", "C:\\x\\y.txt", "n" * 400 + ".txt", "größe.txt")):
            answer = await sent(http, b"text %d" % number, name)
            assert answer.status_code == 201, answer.text
            shown = answer.json()["name"]
            assert "/" not in shown
            assert "\\" not in shown
            assert len(shown) <= 200
    assert len(peer.memory.episodes) == 4


async def test_it_needs_a_key_that_writes(peer: MemoryPeer) -> None:
    """Nobody comes in without one, and reading is not enough."""
    for key, status in ((None, 401), (READER_KEY, 403)):
        async with ingest(peer, key) as http:
            assert (await sent(http, PAGE)).status_code == status
            assert (
                await http.post("/api/ingest-url", json={"url": "https://a.example", "project": "p"})
            ).status_code == status
    assert not peer.memory.episodes


async def test_too_many_at_once_are_told_to_come_again(peer: MemoryPeer) -> None:
    """A few are read, a few wait, and whoever comes then gets 429 with a time; all others are remembered."""
    go_on = asyncio.Event()

    class Waiting(Memory):
        async def push(self, batch: EpisodeBatch) -> BatchResult:
            await go_on.wait()
            return await super().push(batch)

    peer.memory = Waiting()
    many = AT_ONCE + WAITING + 3
    async with ingest(peer) as http:
        tasks = [asyncio.create_task(sent(http, b"text %d" % number, "a.txt")) for number in range(many)]
        async with asyncio.timeout(30):
            while sum(task.done() for task in tasks) < 3:  # noqa: ASYNC110 -- seen from outside
                await asyncio.sleep(0.02)
        refused = [task.result() for task in tasks if task.done()]
        go_on.set()
        answers = await asyncio.gather(*tasks)
    assert [one.status_code for one in refused] == [429] * 3
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert sorted(one.status_code for one in answers) == [201] * (many - 3) + [429] * 3
    assert len(peer.memory.episodes) == many - 3


async def test_an_error_of_memory_is_passed_on_and_gives_the_place_back(peer: MemoryPeer) -> None:
    """More often than there are places."""
    peer.memory.refuse = {f"ep_doc_{'0' * 24}_0"}

    class Refusing(Memory):
        broken = True

        async def push(self, batch: EpisodeBatch) -> BatchResult:
            if self.broken:
                self.refuse = {batch.episodes[0].episode_id or ""}
            return await super().push(batch)

    peer.memory = memory = Refusing()
    async with ingest(peer) as http:
        for _ in range(AT_ONCE + 1):
            assert (await sent(http, b"text", "a.txt")).status_code == 422
        memory.broken, memory.refuse = False, set()
        assert (await sent(http, b"text", "a.txt")).status_code == 201


async def test_nothing_is_left_in_the_temp_directory(
    peer: MemoryPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a good document, nor of a bad one, nor of one whose sender leaves."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = b"word " * (1 << 20)
    async with ingest(peer) as http:
        assert (await sent(http, large, "a.docx")).status_code == 422
        assert (await sent(http, PAGE + b"<p>" + large[: 2 << 20])).status_code == 201
        host, port = http.base_url.host, http.base_url.port
        _, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"POST {UPLOAD} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {http.headers['authorization']}\r\n"
            f"Content-Length: {8 << 20}\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'.encode()
            + large[: 3 << 20]
        )
        await writer.drain()
        writer.close()
        assert (await sent(http, PAGE)).status_code == 201
        async with asyncio.timeout(10):
            while list(tmp_path.iterdir()):  # noqa: ASYNC110, ASYNC240 -- seen from outside
                await asyncio.sleep(0.02)
