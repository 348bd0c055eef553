"""What a browser does with the gateway's pages: it logs in by a link, opens a page with its files, listens."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import httpx
from pydantic import JsonValue

FILE = re.compile(r'(?:src|href)="(/[^"#?]+\.(?:js|css|svg)[^"]*)"')


class Told(NamedTuple):
    """An event of a stream."""

    name: str
    data: JsonValue


def log_in(client: httpx.Client, link: str) -> httpx.Response:
    """Open a link and send the form of the page that it shows, as the page's script does."""
    page = client.get(link)
    assert page.status_code == 200, page.text
    token = re.search(r'name="token"[^>]*value="([^"]+)"', page.text)
    assert token, page.text
    return client.post("/login", data={"token": token[1]}, headers={"Origin": str(client.base_url).rstrip("/")})


def opened(client: httpx.Client, path: str) -> list[str]:
    """Open a page; the files that it names, each of which is there."""
    page = client.get(path, headers={"Accept": "text/html"})
    assert page.status_code == 200, page.text
    assert page.headers["content-type"].startswith("text/html")
    files = FILE.findall(page.text)
    for file in files:
        got = client.get(file)
        assert got.status_code == 200, file
        assert got.content, file
    return files


def events(lines: Iterable[str]) -> Iterator[Told]:
    """The events of a stream, as they come; comments are passed over."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield Told(name, json.loads(value))
