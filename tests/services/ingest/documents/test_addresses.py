"""Which addresses may be fetched: nothing unless it is named, and no private network unless it is named literally."""

import asyncio
from collections.abc import Sequence

import pytest

from anamnesis.kit.errors import BadRequest, Forbidden, Unavailable
from services.ingest.documents import addresses
from services.ingest.documents.addresses import Policy, Target, is_public


def policy(*hosts: str, schemes: tuple[str, ...] = ("https",)) -> Policy:
    return Policy(schemes, hosts)


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        ((), "https://example.org/", False),
        (("example.org",), "https://example.org/", True),
        (("example.org",), "https://EXAMPLE.org./a", True),
        (("Example.ORG",), "https://example.org/", True),
        (("example.org",), "https://www.example.org/", False),
        (("example.org",), "https://notexample.org/", False),
        (("example.org",), "https://example.org.evil.test/", False),
        (("*.example.org",), "https://a.b.example.org/", True),
        (("*.example.org",), "https://example.org/", False),
        (("*.example.org",), "https://notexample.org/", False),
        (("*",), "https://anything.test/", True),
        (("*",), "http://anything.test/", False),
        (("example.org",), "https://example.org:443/", True),
        (("example.org",), "https://example.org:8443/", False),
        (("*",), "https://example.org:8443/", False),
        (("*",), "https://example.org:0/", False),
        (("example.org:8443",), "https://example.org:8443/", True),
        (("example.org:8443",), "https://example.org/", False),
        (("[::1]:8443",), "https://[::1]:8443/", True),
        (("::1",), "https://[::1]/", True),
        (("xn--gre-6ka8i.example",), "https://größe.example/", True),
        (("ex*mple.org",), "https://example.org/", False),
        (("*example.org",), "https://notexample.org/", False),
    ],
)
def test_a_host_is_allowed_by_name(hosts: tuple[str, ...], url: str, allowed: bool) -> None:
    """Exactly, below a name, or any; a port that is not the scheme's has to be named with its host."""
    if allowed:
        assert policy(*hosts).check(url).host
    else:
        with pytest.raises(Forbidden) as caught:
            policy(*hosts).check(url)
        assert "ANAMNESIS_URL_" in caught.value.message


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "gopher", "data", "javascript", ""])
def test_only_the_named_schemes_are_fetched(scheme: str) -> None:
    """Of those, only the two that there are."""
    with pytest.raises(Forbidden):
        policy("*").check(f"{scheme}://example.org/")
    wide = policy("*", schemes=("http", "ftp", "file"))
    if scheme == "http":
        assert wide.check("http://example.org/").port == 80
    else:
        with pytest.raises(Forbidden):
            wide.check(f"{scheme}://example.org/")


@pytest.mark.parametrize(
    "url",
    [
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://:password@example.org/",
        "https://example.org\\@evil.test/",
        "https:///path",
        "https://[::1/",
        "https://example.org:port/",
        "https://exa\x00mple.org/",
    ],
)
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    """Names and passwords within it, and what nobody can read in one way."""
    with pytest.raises(BadRequest):
        policy("*", "example.org").check(url)


@pytest.mark.parametrize(
    "address",
    """
    127.0.0.1 127.255.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1
    240.0.0.1 192.0.0.192 192.0.2.1 198.18.0.1 192.88.99.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1
    fec0::1 2001:db8::1 3fff::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1
    64:ff9b::808:808 64:ff9b:1::1 2002:7f00:1:: 2001:0:53aa:64c:: 100::1 nonsense 1.2.3 2130706433
    """.split(),  # noqa: SIM905 -- one word a line is no easier to read
)
def test_what_is_not_public(address: str) -> None:
    """This machine, private and shared networks, and IPv6 that carries IPv4."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_public(address: str) -> None:
    """The open Internet."""
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f000001", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    """As the operating system understands them, whatever that is."""
    with pytest.raises((BadRequest, Forbidden, Unavailable)):
        await addresses.addresses(policy("*").check(f"https://{host}/"), addresses.resolve)


def target(*hosts: str) -> Target:
    return policy(*hosts).check("https://example.org/")


async def test_one_private_address_is_enough_to_refuse() -> None:
    """A name that stands for several is refused whole; a name that is meant literally is not."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ("1.1.1.1", "10.0.0.1")

    for hosts in (("*",), ("*.org",)):
        with pytest.raises(Forbidden) as caught:
            await addresses.addresses(target(*hosts), resolve)
        assert "10.0.0.1" not in caught.value.message
    assert await addresses.addresses(target("example.org"), resolve) == ("1.1.1.1", "10.0.0.1")


async def test_a_name_that_stands_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or whose resolution fails, or does not end."""

    async def nothing(host: str, port: int) -> Sequence[str]:
        return ()

    async def failing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def odd(host: str, port: int) -> Sequence[str]:
        raise UnicodeError("label too long")

    async def endless(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr(addresses, "RESOLVE", 0.05)
    for resolve in (nothing, failing, odd, endless):
        with pytest.raises(Unavailable):
            await addresses.addresses(target("*"), resolve)
