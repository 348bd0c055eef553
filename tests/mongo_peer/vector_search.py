"""`$vectorSearch` by exact cosine: what it accepts, and how it scores.

The rules are those of Atlas's documentation: `limit` <= `numCandidates` <= 10,000, or `exact` without
`numCandidates`; a filter may only touch declared paths and a dozen operators; score = (1 + cosine) / 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary
from numpy.typing import NDArray

from tests.mongo_peer.catalog import filter_paths, vector_fields
from tests.mongo_peer.errors import CommandError, executor
from tests.mongo_peer.wire import Document

Vector = NDArray[np.float32]
MAX_CANDIDATES = 10_000
COMPARISONS = {"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not"}
JUNCTIONS = {"$and", "$or", "$nor"}
FIELDS = {"index", "path", "queryVector", "limit", "numCandidates", "exact", "filter"}
_FLOAT32 = 0x27


@dataclass(frozen=True)
class VectorQuery:
    index: str
    path: str
    vector: Vector
    """(d)"""
    limit: int
    filter: Document


def parse(stage: object, namespace: str) -> VectorQuery:
    """A stage that is well formed in itself. Raises `CommandError` in Atlas's words."""
    if not isinstance(stage, Mapping):
        raise CommandError(9, "FailedToParse", "$vectorSearch must be an object")
    unknown = sorted(set(stage) - FIELDS)
    if unknown:
        raise executor(namespace, f'unrecognized field "{unknown[0]}"')
    for name in ("index", "path"):
        if not isinstance(stage.get(name), str) or not stage[name]:
            raise executor(namespace, f'"{name}" is required')
    limit, candidates, exact = stage.get("limit"), stage.get("numCandidates"), stage.get("exact", False)
    if limit is None:
        raise executor(namespace, '"limit" is required')
    if not _whole(limit) or limit < 1:
        raise executor(namespace, '"limit" must be positive')
    if exact:
        if candidates is not None:
            raise executor(namespace, '"numCandidates" must be omitted when "exact" is set to true')
    elif candidates is None:
        raise executor(namespace, "numCandidates is required for approximate vector search")
    elif not _whole(candidates) or not 1 <= candidates <= MAX_CANDIDATES:
        raise executor(namespace, f'"numCandidates" must be within bounds [1, {MAX_CANDIDATES}]')
    elif limit > candidates:
        raise executor(namespace, "limit should be less than or equal to numCandidates")
    vector = as_vector(stage.get("queryVector"))
    if vector is None:
        raise executor(namespace, '"queryVector" is required')
    if not np.isfinite(vector).all():
        raise executor(namespace, '"queryVector" non-finite value')
    filter_ = stage.get("filter", {})
    if not isinstance(filter_, Mapping):
        raise executor(namespace, "filter must be a document")
    return VectorQuery(stage["index"], stage["path"], vector, int(limit), dict(filter_))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check(query: VectorQuery, definition: Document, namespace: str) -> None:
    """Hold a query to the index that answers it."""
    dimensions = vector_fields(definition).get(query.path)
    if dimensions is None:
        raise executor(namespace, f"{query.path} is not indexed as vector")
    if dimensions != len(query.vector):
        found = len(query.vector)
        raise executor(namespace, f"vector field is indexed with {dimensions} dimensions but queried with {found}")
    _check_clause(query.filter, filter_paths(definition), namespace, "filter")


def _check_clause(clause: Mapping[str, object], paths: set[str], namespace: str, at: str) -> None:
    for key, value in clause.items():
        if key in JUNCTIONS:
            if not isinstance(value, list) or not value:
                raise executor(namespace, f'"{at}.{key}" cannot be empty')
            for position, part in enumerate(value):
                if not isinstance(part, Mapping):
                    raise executor(namespace, f'"{at}.{key}[{position}]" must be a document')
                _check_clause(part, paths, namespace, f"{at}.{key}[{position}]")
        elif key.startswith("$"):
            raise executor(namespace, f'"{at}" unrecognized field "{key}"')
        else:
            _check_operators(value, namespace, f"{at}.{key}")
            if key not in paths:
                raise executor(namespace, f"Path '{key}' needs to be indexed as filter")


def _check_operators(value: object, namespace: str, at: str) -> None:
    if not isinstance(value, Mapping):
        _check_value(value, namespace, at)
        return
    if not value:
        raise executor(namespace, f'"{at}" cannot be empty')
    for operator, operand in value.items():
        place = f"{at}.{operator}"
        if operator not in COMPARISONS:
            raise executor(namespace, f'"{at}" unrecognized field "{operator}"')
        if operator in {"$in", "$nin"}:
            if not isinstance(operand, list) or not operand:
                raise executor(namespace, f'"{place}" cannot be empty')
            for item in operand:
                _check_value(item, namespace, place)
        elif operator == "$not":
            _check_operators(operand, namespace, place)
        elif operator == "$exists":
            if not isinstance(operand, bool):
                raise executor(namespace, f'"{place}" must be a boolean')
        else:
            _check_value(operand, namespace, place)


def _check_value(value: object, namespace: str, at: str) -> None:
    if isinstance(value, list | Mapping):
        raise executor(namespace, f'"{at}" must be a boolean, objectId, number, string, date, uuid, or null')


def as_vector(value: object) -> Vector | None:
    """(d): from a list of numbers or a packed float32 vector; none where it is neither."""
    if isinstance(value, Binary) and value.subtype == VECTOR_SUBTYPE:
        if len(value) < 6 or value[0] != _FLOAT32:
            return None
        return np.frombuffer(value, dtype="<f4", offset=2).astype(np.float32)
    if isinstance(value, list) and value and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value):
        return np.asarray(value, dtype=np.float32)
    return None


def best(query: VectorQuery, documents: Sequence[Document]) -> list[tuple[object, float]]:
    """(id, score) of the `limit` nearest, best first; documents without a fitting vector are not indexed."""
    ids: list[object] = []
    rows: list[Vector] = []
    for document in documents:
        vector = as_vector(value_at(document, query.path))
        if vector is not None and vector.shape == query.vector.shape and np.linalg.norm(vector) > 0:
            ids.append(document["_id"])
            rows.append(vector)
    norm = float(np.linalg.norm(query.vector))
    if not rows or norm == 0:
        return []
    matrix = np.stack(rows)
    cosine = (matrix @ query.vector) / (np.linalg.norm(matrix, axis=1) * norm)
    scores = (1 + np.clip(cosine, -1, 1)) / 2
    order = np.argsort(-scores, kind="stable")[: query.limit]
    return [(ids[int(i)], float(scores[int(i)])) for i in order]


def value_at(document: Document, path: str) -> object:
    value: object = document
    for name in path.split("."):
        value = cast(Document, value).get(name) if isinstance(value, Mapping) else None
    return value
