"""The search indexes of the peer: their definitions, and the time they take to become queryable.

A new index is PENDING, then BUILDING, then READY. An updated one goes on answering by its old definition
until the new one is ready, as Atlas does. The catalog lives in one JSON file beside the database.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from tests.mongo_peer.errors import CommandError, bad_value
from tests.mongo_peer.wire import Document

SIMILARITIES = {"cosine", "euclidean", "dotProduct"}
MAX_DIMENSIONS = 8192


@dataclass(frozen=True)
class SearchIndex:
    id: str
    namespace: str
    """`database.collection`."""
    name: str
    type: str
    """`vectorSearch` or `search`."""
    definition: Document
    """The latest one."""
    version: int
    defined_at: float
    """Seconds since the epoch at which the latest definition came."""
    active: Document | None
    """The definition that answers while a later one is built."""


class Catalog:
    """All indexes; `pending_seconds` is how long each definition takes to become queryable."""

    def __init__(self, path: Path, pending_seconds: float = 0.2) -> None:
        self.pending_seconds = pending_seconds
        self._path = path
        self._indexes: dict[tuple[str, str], SearchIndex] = {}
        if path.exists():
            for entry in json.loads(path.read_text()):
                index = SearchIndex(**entry)
                self._indexes[index.namespace, index.name] = index

    def create(self, namespace: str, specification: Document) -> SearchIndex:
        name = str(specification.get("name") or "default")
        kind = str(specification.get("type") or "search")
        if (namespace, name) in self._indexes:
            raise CommandError(68, "IndexAlreadyExists", "Duplicate Index")
        definition = _plain(specification.get("definition"))
        _validate(kind, definition)
        index = SearchIndex(secrets.token_hex(12), namespace, name, kind, definition, 0, time.time(), None)
        self._keep(index)
        return index

    def update(self, namespace: str, name: str, definition: object) -> None:
        index = self.find(namespace, name)
        if index is None:
            raise CommandError(27, "IndexNotFound", f"Index '{name}' not found on '{namespace}'")
        later = _plain(definition)
        _validate(index.type, later)
        active = index.definition if self.queryable(index) else index.active
        later_index = replace(index, definition=later, version=index.version + 1, defined_at=time.time(), active=active)
        self._keep(later_index)

    def drop(self, namespace: str, name: str) -> None:
        if self._indexes.pop((namespace, name), None) is None:
            raise CommandError(27, "IndexNotFound", f"Index '{name}' not found on '{namespace}'")
        self._save()

    def forget(self, prefix: str) -> None:
        """Drop the indexes of a collection (`db.coll`) or of a whole database (`db.`)."""
        gone = [
            key for key in self._indexes if key[0] == prefix or (prefix.endswith(".") and key[0].startswith(prefix))
        ]
        for key in gone:
            del self._indexes[key]
        if gone:
            self._save()

    def find(self, namespace: str, name: str) -> SearchIndex | None:
        return self._indexes.get((namespace, name))

    def by_id(self, namespace: str, index_id: str) -> SearchIndex | None:
        return next((index for index in self.of(namespace) if index.id == index_id), None)

    def of(self, namespace: str) -> list[SearchIndex]:
        return [index for (place, _), index in sorted(self._indexes.items()) if place == namespace]

    def status(self, index: SearchIndex) -> str:
        age = time.time() - index.defined_at
        if age >= self.pending_seconds:
            return "READY"
        return "PENDING" if age < self.pending_seconds / 2 else "BUILDING"

    def queryable(self, index: SearchIndex) -> bool:
        return self.serving(index) is not None

    def serving(self, index: SearchIndex) -> Document | None:
        """The definition that answers now; none while the first one is built."""
        return index.definition if self.status(index) == "READY" else index.active

    def describe(self, index: SearchIndex) -> Document:
        """One document of `$listSearchIndexes`."""
        status, queryable = self.status(index), self.queryable(index)
        definition = dict(index.definition)
        detail: Document = {
            "status": status,
            "queryable": queryable,
            "definitionVersion": {"version": index.version, "createdAt": _moment(index.defined_at)},
            "definition": definition,
        }
        return {
            "id": index.id,
            "name": index.name,
            "type": index.type,
            "status": status,
            "queryable": queryable,
            "latestDefinitionVersion": {"version": index.version, "createdAt": _moment(index.defined_at)},
            "latestDefinition": definition,
            "statusDetail": [{"hostname": "peer", "status": status, "queryable": queryable, "mainIndex": detail}],
        }

    def _keep(self, index: SearchIndex) -> None:
        self._indexes[index.namespace, index.name] = index
        self._save()

    def _save(self) -> None:
        whole = self._path.with_suffix(".new")
        whole.write_text(json.dumps([asdict(index) for index in self._indexes.values()]))
        whole.replace(self._path)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _plain(definition: object) -> Document:
    if not isinstance(definition, Mapping):
        raise bad_value('"definition" is required')
    return cast(Document, json.loads(json.dumps(definition)))


def vector_fields(definition: Document) -> dict[str, int]:
    """Path -> dimensions."""
    return {
        str(entry["path"]): int(cast(int, entry["numDimensions"]))
        for entry in cast(list[Document], definition.get("fields", []))
        if entry.get("type") == "vector"
    }


def filter_paths(definition: Document) -> set[str]:
    entries = cast(list[Document], definition.get("fields", []))
    return {str(entry["path"]) for entry in entries if entry.get("type") == "filter"}


def _validate(kind: str, definition: Document) -> None:
    if kind == "search":
        if not isinstance(definition.get("mappings"), Mapping):
            raise bad_value('"mappings" is required')
        return
    if kind != "vectorSearch":
        raise bad_value(f'"type" must be one of [search, vectorSearch], found "{kind}"')
    fields = definition.get("fields")
    if not isinstance(fields, list) or not fields:
        raise bad_value('"fields" cannot be empty')
    for position, entry in enumerate(fields):
        place = f"fields[{position}]"
        if not isinstance(entry, Mapping) or not entry.get("path"):
            raise bad_value(f'"{place}.path" is required')
        if entry.get("type") == "vector":
            dimensions = entry.get("numDimensions")
            if not isinstance(dimensions, int) or not 1 <= dimensions <= MAX_DIMENSIONS:
                raise bad_value(f'"{place}.numDimensions" must be within bounds [1, {MAX_DIMENSIONS}]')
            if entry.get("similarity") not in SIMILARITIES:
                raise bad_value(f'"{place}.similarity" must be one of [cosine, dotProduct, euclidean]')
        elif entry.get("type") != "filter":
            raise bad_value(f'"{place}.type" must be one of [filter, vector]')
    if not vector_fields(definition):
        raise bad_value('"fields" must contain at least one vector field')
