"""`anamnesis connect` and `disconnect`: the difference first, then a key of its own, then the files, each whole or not.

The record is written before the files, so that whatever is interrupted can be undone or done again.
"""

import difflib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from pydantic import SecretStr

from anamnesis.contracts.keys import KeyCreate, KeyCreated, KeysRevoked, Scope, Session
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from anamnesis.kit.files import replace
from anamnesis.kit.settings import presentable
from services.console import output
from services.console.connect import clients, jsontext, tomltext
from services.console.connect.client import Client
from services.console.connect.clients import HOOK, Setup, Where
from services.console.connect.edits import Edit, done, read, undone
from services.console.connect.record import NAME, Record, Written, digest, keep, load, save

Confirm = Callable[[str], None]
"""Asks, and raises where the answer is no."""


class Change(NamedTuple):
    """A configuration file, before and after; none = it is not there."""

    path: Path
    kind: str
    before: str | None
    after: str | None
    edits: tuple[Edit, ...]


class Wish(NamedTuple):
    client: Client
    key: SecretStr | None
    """Handed in; none = one is made."""
    dry: bool


async def connect(gateway: ServiceClient, where: Where, wish: Wish, confirm: Confirm) -> None:
    known = load(where.folder)
    setup = clients.setup(wish.client, where)
    changes = _changes(setup, known)
    shown = _show(changes)
    kept = _kept_key(where.folder) if known is not None and known.url == where.url else None
    fresh = wish.key is None and (kept is None or not (wish.dry or await _opens(gateway, kept)))
    stale = kept is None or any(read(path) != text for path, text in _own_files(setup, where, kept).items())
    if not shown and not stale and not fresh and wish.key is None:
        output.say(f"{wish.client} is connected; there is nothing to change")
        return _tell(setup, where)
    if fresh:
        output.note(f"A key of its own with the scope 'write' is made, and kept in {where.folder} (mode 600).")
    if wish.dry:
        return _tell(setup, where)
    confirm("Write this?" if shown else "Go on?")
    key, key_id = kept, known.key_id if known is not None else None
    if wish.key is not None:
        key, key_id = await _checked(gateway, wish.key), None
    elif fresh:
        key, key_id = await _made(gateway, wish.client)
    assert key is not None
    where.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = tuple(_written(change, known, where.folder) for change in changes)
    save(where.folder, Record(client=wish.client.value, url=where.url, key_id=key_id, files=files))
    for path, text in _own_files(setup, where, key).items():
        replace(path, text)
    for change in changes:
        _write(change)
    if known is not None and known.key_id not in (None, key_id):
        await _revoke(gateway, known)
    output.say(f"{wish.client} is connected to {where.url}")
    _tell(setup, where)


async def disconnect(gateway: ServiceClient, where: Where, wish: Wish, confirm: Confirm) -> None:
    known = load(where.folder)
    if known is None:
        raise NotFound(f"{wish.client} is not connected here; there is no {where.folder / NAME}")
    changes = [_back(one, where.folder) for one in known.files]
    _show(changes)
    if wish.dry:
        return
    confirm("Take this out?")
    for change in changes:
        _write(change)
    if known.key_id is not None:
        # Without the files the key is of no use; what is left to do is kept until it is done.
        save(where.folder, known.model_copy(update={"files": ()}))
        await _revoke(gateway, known)
    shutil.rmtree(where.folder)
    output.say(f"{wish.client} is disconnected")


def _changes(setup: Setup, known: Record | None) -> list[Change]:
    written = {one.path: one for one in known.files} if known is not None else {}
    changes = []
    for path, kind, edits in setup.wanted:
        before = read(path)
        was = written.pop(str(path), None)
        empty = "{}" if kind == "json" else ""
        text = before if before is not None and before.strip() else empty
        try:
            after, made = done(text, kind, edits, was.edits if was is not None else ())
        except (jsontext.NotJson, tomltext.NotToml) as error:
            raise _unreadable(path, kind, error) from None
        except Conflict as error:
            raise Conflict(f"{path} {error.message}") from None
        after = after if after == before or after.endswith("\n") or before else after + "\n"
        changes.append(Change(path, kind, before, after, made))
    return changes


def _back(written: Written, folder: Path) -> Change:
    """The file as it was, where nobody has changed it since; else as it is, without what was written."""
    path = Path(written.path)
    before = read(path)
    if before is None:
        return Change(path, written.kind, None, None, ())
    if digest(before) == written.sha256:
        kept = read(folder / written.backup) if written.backup is not None else None
        if kept is not None or written.created:
            return Change(path, written.kind, before, kept, ())
    try:
        after = undone(before, written.kind, written.edits)
    except (jsontext.NotJson, tomltext.NotToml) as error:
        raise _unreadable(path, written.kind, error) from None
    gone = written.created and after.strip() in ("", "{}")
    return Change(path, written.kind, before, None if gone else after, ())


def _unreadable(path: Path, kind: str, error: ValueError) -> BadRequest:
    return BadRequest(
        f"{path} cannot be read as {kind.upper()} ({error}), so nothing was changed; mend it, and try again"
    )


def _show(changes: list[Change]) -> bool:
    """Print what changes; whether anything does."""
    shown = False
    for path, _, before, after, _ in changes:
        lines = difflib.unified_diff(
            (before or "").splitlines(),
            (after or "").splitlines(),
            str(path) if before is not None else os.devnull,
            str(path) if after is not None else os.devnull,
            lineterm="",
        )
        for line in lines:
            shown = True
            output.say(line)
    return shown


def _written(change: Change, known: Record | None, folder: Path) -> Written:
    """What is to be known of a file to undo it. A file that is changed again goes back to what it was before it all."""
    was = next((one for one in known.files if one.path == str(change.path)), None) if known is not None else None
    created, backup = change.before is None, None
    if was is not None and change.before is not None:
        # What others have written since stays: then nothing is simply put back.
        same = digest(change.before) == was.sha256
        created, backup = same and was.created, was.backup if same else None
    elif change.before is not None:
        backup = keep(folder, change.path, change.before)
    return Written(
        path=str(change.path),
        kind="toml" if change.kind == "toml" else "json",
        edits=change.edits,
        created=created,
        sha256=digest(change.after or ""),
        backup=backup,
    )


def _write(change: Change) -> None:
    """Whole or not at all, where it really lies, with the rights that it had; never over what was just written."""
    path = change.path.resolve()
    if change.after == change.before:
        return
    if read(path) != change.before:
        raise Conflict(f"{path} has just been changed by somebody else; close the program, and try again")
    if change.after is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode) if change.before is not None else 0o600
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(change.after.encode())
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _own_files(setup: Setup, where: Where, key: SecretStr) -> dict[Path, str]:
    """What is kept beside the record, for its owner alone."""
    secret = key.get_secret_value()
    known = {"url": where.url, "key": secret, "command": clients.command()}
    files = {"client.json": json.dumps(known), "headers.json": json.dumps({"X-API-Key": secret}), "key": secret}
    texts = {where.folder / name: text + "\n" for name, text in files.items()}
    return texts | ({where.folder / HOOK: clients.source()} if setup.hook else {})


def _kept_key(folder: Path) -> SecretStr | None:
    found = (read(folder / "key") or "").strip()
    return SecretStr(found) if presentable(found) else None


async def _opens(gateway: ServiceClient, key: SecretStr) -> bool:
    try:
        await gateway.with_key(key).get("/api/session", Session, deadline=10.0)
    except Unauthorized:
        return False
    return True


async def _checked(gateway: ServiceClient, key: SecretStr) -> SecretStr:
    """The key that was handed in, if it is enough."""
    if not presentable(key.get_secret_value()):
        raise BadRequest("--client-key: a key has 16 to 200 printable characters without blanks")
    try:
        found = await gateway.with_key(key).get("/api/session", Session, deadline=10.0)
    except Unauthorized:
        raise Unauthorized("--client-key: the gateway does not know this key") from None
    if found.identity.scope is Scope.READ:
        raise Forbidden("--client-key: this key may only read; a client needs one of the scope 'write'")
    return key


async def _made(gateway: ServiceClient, client: Client) -> tuple[SecretStr, str]:
    wish = KeyCreate(name=f"{client} on {socket.gethostname() or 'this machine'}"[:200], scope=Scope.WRITE)
    try:
        made = await gateway.request("POST", "/api/keys", KeyCreated, body=wish)
    except (Forbidden, Unauthorized) as error:
        raise type(error)(
            f"{error.message}; a key for a program is made with a key of the scope 'admin' (--key), "
            "or hand one in that is made already: --client-key -"
        ) from None
    return SecretStr(made.key), made.key_id


async def _revoke(gateway: ServiceClient, known: Record) -> None:
    assert known.key_id is not None
    by_hand = f"anamnesis --url {known.url} keys revoke {known.key_id}"
    if known.url != gateway.base_url:
        raise BadRequest(f"all is done, but {known.key_id} still opens {known.url}; end it with: {by_hand}")
    try:
        await gateway.request("DELETE", "/api/keys/" + quote(known.key_id, safe=""), KeysRevoked)
    except NotFound:
        return  # it opens nothing already
    except AnamnesisError as error:
        raise type(error)(
            f"all else is done, but {known.key_id} could not be revoked: {error.message}; "
            f"try again, or end it with: {by_hand}"
        ) from None


def _tell(setup: Setup, where: Where) -> None:
    if setup.say:
        output.say(setup.say)
    if setup.variable is not None:
        output.note(
            f"No key is written there. It is taken from {setup.variable}; put this into your shell's profile:\n"
            f"  export {setup.variable}=\"$(cat '{where.folder / 'key'}')\""
        )
