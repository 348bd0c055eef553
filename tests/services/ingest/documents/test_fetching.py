"""Fetching from real servers on loopback: pinned to what was resolved once, without redirects, bounded in all."""

import asyncio
import datetime
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from anamnesis.contracts.documents import DocumentIngested
from anamnesis.contracts.episodes import Trust
from anamnesis.kit.errors import (
    AnamnesisError,
    BadRequest,
    DeadlineExceeded,
    Forbidden,
    TooLarge,
    Unavailable,
    UpstreamFailed,
)
from services.ingest.documents import fetching
from services.ingest.documents.addresses import Policy, resolve
from services.ingest.documents.fetching import Fetched, Fetcher
from tests.services.ingest.conftest import MemoryPeer
from tests.services.ingest.documents.conftest import Answer, Site, ingest, page

TOKEN = "ghp_" + "a1B2c3D4" * 5


class Names:
    """A resolver that gives one answer after the other, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def fetched(answer: bytes | Answer, path: str = "/page", seconds: float = 20.0) -> Fetched:
    async with Site(answer).open() as site:
        fetcher = Fetcher(Policy(("http",), (f"127.0.0.1:{site.port}",)), resolve, seconds=seconds)
        return await fetcher.fetch(f"http://127.0.0.1:{site.port}{path}")


async def test_a_page_is_fetched_and_remembered_as_of_the_web(peer: MemoryPeer) -> None:
    """Over the service: its episodes have the trust `web` and the address; again, they are the same."""
    async with (
        Site(page()).open() as site,
        ingest(peer, url_hosts=(f"127.0.0.1:{site.port}",), url_schemes=("http",)) as http,
    ):
        place = f"http://127.0.0.1:{site.port}/a"
        wish = {"url": f"{place}?b=c#there", "project": "shop", "tags": ["x"]}
        answers = [await http.post("/api/ingest-url", json=wish) for _ in range(2)]
        secret = await http.post("/api/ingest-url", json={**wish, "url": f"{place}?token={TOKEN}"})
    assert [one.status_code for one in answers] == [201, 201], answers[0].text
    one, two = (DocumentIngested.model_validate_json(answer.content) for answer in answers)
    assert (one.name, one.kind, one.title, one.created, two.created) == ("a.html", "html", "T", 1, 0)
    assert one.episodes == two.episodes
    kept = peer.memory.episodes[one.episodes[0]]
    assert (kept.trust, kept.tags) == (Trust.WEB, ("doc", "x"))
    assert kept.source is not None
    assert (kept.source.url, kept.source.path) == (f"http://127.0.0.1:{site.port}/a?b=c", None)
    assert "#" not in site.asked[0].splitlines()[0]
    assert TOKEN not in secret.text + "".join(one.model_dump_json() for one in peer.memory.episodes.values())


async def test_nothing_is_fetched_by_default(peer: MemoryPeer) -> None:
    """Not from anywhere; a wish that is none is refused too."""
    async with Site(page()).open() as site, ingest(peer) as http:
        for url in (f"http://127.0.0.1:{site.port}/", "https://example.org/"):
            answer = await http.post("/api/ingest-url", json={"url": url, "project": "p"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        for body in ({"project": "p"}, {"url": "https://a/"}, {"url": "x" * 2001, "project": "p"}):
            assert (await http.post("/api/ingest-url", json=body)).status_code == 422
        assert not site.asked


async def test_any_host_does_not_open_this_machine(peer: MemoryPeer) -> None:
    """`*` is any public one."""
    async with Site(page()).open() as site:
        async with ingest(peer, url_hosts=("*", "*.test", "localhost"), url_schemes=("http", "https")) as http:
            for host in ("127.0.0.1", "127.0.0.1:80", f"127.0.0.1:{site.port}", f"localhost:{site.port}", "2130706433"):
                answer = await http.post("/api/ingest-url", json={"url": f"http://{host}/", "project": "p"})
                assert answer.status_code == 403, host
        assert not site.asked


async def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that stands for another address a moment later changes nothing: it is not asked again."""
    async with Site(page()).open() as site, Site(page(b"<p>another")).open() as other:
        names = Names(("127.0.0.1",), ("127.0.0.2",))
        fetcher = Fetcher(Policy(("http",), (f"rebinding.test:{site.port}",)), names)
        found = await fetcher.fetch(f"http://rebinding.test:{site.port}/x")
        assert names.asked == [("rebinding.test", site.port)]
        assert found.url == f"http://rebinding.test:{site.port}/x"
        head = site.asked[0].lower()
        assert f"host: rebinding.test:{site.port}\r\n" in head
        assert "accept-encoding: identity\r\n" in head
        assert "authorization" not in head
        assert "cookie" not in head
        with pytest.raises(Forbidden):
            await Fetcher(Policy(("http",), ("*",)), Names(("127.0.0.1",))).fetch("http://rebinding.test/")
        assert not other.asked


async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would resolve the name once more, and elsewhere."""
    async with Site(page(b"<p>proxied")).open() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert b"proxied" not in (await fetched(page())).data
        assert not proxy.asked


async def test_the_next_address_is_tried() -> None:
    """Where the first cannot be reached; where none can, that is said."""
    async with Site(page()).open() as site:
        policy = Policy(("http",), (f"a.test:{site.port}",))
        url = f"http://a.test:{site.port}/"
        assert (await Fetcher(policy, Names(("127.0.0.9", "127.0.0.1"))).fetch(url)).name == "a.test.html"
        with pytest.raises(Unavailable):
            await Fetcher(policy, Names(("127.0.0.9",))).fetch(url)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_told_not_followed(status: str) -> None:
    """Where it leads is for whoever asked to decide."""
    async with Site(page()).open() as other:
        place = f"http://127.0.0.1:{other.port}/secret"
        with pytest.raises(BadRequest) as caught:
            await fetched(page(b"", status, location=place))
        assert place in caught.value.message
        assert not other.asked


async def _chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100000\r\n" + b"a" * (1 << 20) + b"\r\n")
        await writer.drain()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Name: " + b"a" * 1000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (page(content_length=str(fetching.MAX_BYTES + 1)), TooLarge),
        (_chunks, TooLarge),
        (page(status="404 Not Found"), UpstreamFailed),
        (page(status="500 Oh"), UpstreamFailed),
        (page(status="204 No Content"), UpstreamFailed),
        (page(content_encoding="gzip"), UpstreamFailed),
        (page(content_encoding="br"), UpstreamFailed),
        (page(content_type="image/png"), BadRequest),
        (page(content_type="application/zip"), BadRequest),
        (page(content_type=""), BadRequest),
        (page(content_length="1000"), UpstreamFailed),
        (b"SSH-2.0-OpenSSH_9.0\r\n", UpstreamFailed),
        (b"", UpstreamFailed),
        (_heads, UpstreamFailed),
    ],
)
async def test_an_answer_that_is_not_taken(answer: bytes | Answer, error: type[AnamnesisError]) -> None:
    """Too large, failed, compressed, of another type, broken off, or none of HTTP."""
    with pytest.raises(error) as caught:
        await fetched(answer)
    assert caught.value.message


@pytest.mark.parametrize("answer", [_drip, _silent])
async def test_all_of_it_has_one_limit_of_time(answer: Answer) -> None:
    """A byte now and then does not make it longer."""
    begun = time.monotonic()
    with pytest.raises((DeadlineExceeded, UpstreamFailed)):
        await fetched(answer, seconds=0.5)
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("/", "text/html", "127.0.0.1.html"),
        ("/a/page.htm?x=.pdf", "text/html", "page.htm"),
        ("/a", "application/pdf", "a.pdf"),
        ("/a.exe", "text/plain; charset=utf-8", "a.exe.txt"),
        ("/a.docx", "application/octet-stream", "a.docx"),
        ("/a.md", "", "a.md"),
        ("/README.md", "text/plain", "README.md.txt"),
        ("/a%2Fb%00%0ac.txt", "text/plain", "b\nc.txt"),
        ("/" + "n" * 300 + ".txt", "text/plain", "n" * 146 + ".txt"),
        ("/gr%C3%B6%C3%9Fe%FF.txt", "text/plain", "größe\ufffd.txt"),
    ],
)
async def test_the_type_says_what_it_is_and_the_address_its_name(path: str, kind: str, name: str) -> None:
    """The address's own ending counts only where the type says nothing."""
    assert (await fetched(page(content_type=kind), path)).name == name


async def test_a_long_address_of_many_letters_is_kept(peer: MemoryPeer) -> None:
    """Encoded it is longer than a place may be; what fits is kept."""
    async with (
        Site(page()).open() as site,
        ingest(peer, url_hosts=(f"127.0.0.1:{site.port}",), url_schemes=("http",)) as http,
    ):
        url = f"http://127.0.0.1:{site.port}/?q=" + "ö" * 1900
        answer = await http.post("/api/ingest-url", json={"url": url, "project": "p"})
    assert answer.status_code == 201, answer.text


def _certificate(tmp_path: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of this name shows, and what believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown = certificate.public_bytes(serialization.Encoding.PEM)
    file = tmp_path / "both.pem"
    file.write_bytes(
        shown
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=shown.decode())


async def test_a_certificate_is_of_the_name_not_of_the_address(tmp_path: Path) -> None:
    """The host's own name is checked though its address is connected to; another name, or nobody's word, fails."""
    server, believing = _certificate(tmp_path, "right.test")
    async with Site(page()).open(tls=server) as site:
        hosts = (f"right.test:{site.port}", f"wrong.test:{site.port}", f"127.0.0.1:{site.port}")
        trusting = Fetcher(Policy(("https",), hosts), Names(("127.0.0.1",)), believing)
        assert (await trusting.fetch(f"https://right.test:{site.port}/a")).name == "a.html"
        for host in hosts[1:]:
            with pytest.raises(Unavailable):
                await trusting.fetch(f"https://{host}/a")
        with pytest.raises(Unavailable):
            await Fetcher(Policy(("https",), hosts), Names(("127.0.0.1",))).fetch(f"https://{hosts[0]}/a")
        assert len(site.asked) == 1
