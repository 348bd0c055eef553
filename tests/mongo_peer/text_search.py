"""A little of `$search`: compound of text, equals, in and range, scored by BM25 as Lucene does.

Enough to run a client's lexical path; Lucene's analyzers, fuzziness and score options are not imitated.
A text over a path that the index does not map finds nothing, as with Atlas.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from tests.mongo_peer.errors import executor
from tests.mongo_peer.vector_search import value_at
from tests.mongo_peer.wire import Document

K1, B = 1.2, 0.75
CLAUSES = ("must", "should", "filter", "mustNot")
TYPES = {"string": "token", "boolean": "boolean", "number": "number", "date": "date"}
WHITESPACE = "lucene.whitespace"


@dataclass(frozen=True)
class Text:
    path: str
    query: str


@dataclass(frozen=True)
class Condition:
    path: str
    operator: str
    """`equals`, `in` or `range`."""
    operand: Document


@dataclass(frozen=True)
class TextQuery:
    index: str
    scoring: tuple[Text, ...]
    required: bool
    """At least one scoring clause must match (there is no other positive clause to stand on)."""
    conditions: tuple[Condition, ...]
    refused: tuple[Condition, ...]

    def paths(self) -> list[str]:
        conditions = [condition.path for condition in (*self.conditions, *self.refused)]
        return sorted({*conditions, *(text.path for text in self.scoring)})


def parse(stage: object, namespace: str) -> TextQuery:
    if not isinstance(stage, Mapping):
        raise executor(namespace, '"$search" must be a document')
    index = str(stage.get("index") or "default")
    compound = stage.get("compound")
    if not isinstance(compound, Mapping):
        compound = {"must": [{name: stage[name]} for name in ("text", "equals", "in", "range") if name in stage]}
    unknown = sorted(set(compound) - {*CLAUSES, "minimumShouldMatch"})
    if unknown:
        raise executor(namespace, f'"compound" unrecognized field "{unknown[0]}"')
    texts: list[Text] = []
    conditions: list[Condition] = []
    refused: list[Condition] = []
    for clause in CLAUSES:
        operators = compound.get(clause, [])
        for operator in operators if isinstance(operators, list) else [operators]:
            name, operand = next(iter(cast(Mapping[str, Document], operator).items()))
            if name == "text" and clause in {"must", "should"}:
                texts.append(Text(str(operand["path"]), str(operand["query"])))
            elif name in {"equals", "in", "range"}:
                (refused if clause == "mustNot" else conditions).append(Condition(str(operand["path"]), name, operand))
            else:
                raise executor(namespace, f'"compound.{clause}" unrecognized field "{name}"')
    if not texts and not conditions:
        raise executor(namespace, '"compound" must have at least one clause')
    return TextQuery(index, tuple(texts), bool(texts), tuple(conditions), tuple(refused))


def check(query: TextQuery, definition: Document, namespace: str) -> None:
    """Conditions need a path mapped by the type of their value."""
    for condition in (*query.conditions, *query.refused):
        for value in _values(condition):
            needed = TYPES[_type_name(value)]
            if needed not in _mapped(definition, condition.path):
                raise executor(namespace, f"Path '{condition.path}' needs to be indexed as {needed}")


def _values(condition: Condition) -> list[object]:
    if condition.operator == "range":
        return [condition.operand[name] for name in ("gt", "gte", "lt", "lte") if name in condition.operand]
    value = condition.operand["value"]
    return value if isinstance(value, list) else [value]


def _type_name(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, datetime):
        return "date"
    return "number" if isinstance(value, int | float) else "string"


def _mapped(definition: Document, path: str) -> dict[str, Document]:
    """Type -> mapping of a path."""
    fields = cast(Document, cast(Document, definition["mappings"]).get("fields", {}))
    entry = fields.get(path, [])
    entries = cast(list[Document], entry if isinstance(entry, list) else [entry])
    return {str(mapping["type"]): mapping for mapping in entries}


def best(query: TextQuery, documents: Sequence[Document]) -> list[tuple[object, float]]:
    """(id, score) of all that match, best first."""
    scores: Counter[int] = Counter()
    for text in query.scoring:
        scores.update(_bm25(text, documents))
    hits = []
    for place, document in enumerate(documents):
        if query.required and place not in scores:
            continue
        if not all(_holds(condition, document) for condition in query.conditions):
            continue
        if any(_holds(condition, document) for condition in query.refused):
            continue
        hits.append((document["_id"], float(scores[place])))
    return sorted(hits, key=lambda hit: -hit[1])


def _words(value: object) -> list[str]:
    return re.findall(r"\S+", value) if isinstance(value, str) else []


def _bm25(text: Text, documents: Sequence[Document]) -> dict[int, float]:
    bags = [Counter(_words(value_at(document, text.path))) for document in documents]
    lengths = [sum(bag.values()) for bag in bags]
    indexed = sum(1 for length in lengths if length)
    average = sum(lengths) / indexed if indexed else 1.0
    scores: dict[int, float] = {}
    for word in _words(text.query):
        holders = [place for place, bag in enumerate(bags) if word in bag]
        idf = math.log(1 + (indexed - len(holders) + 0.5) / (len(holders) + 0.5))
        for place in holders:
            tf = bags[place][word]
            saturation = tf / (tf + K1 * (1 - B + B * lengths[place] / average))
            scores[place] = scores.get(place, 0.0) + idf * saturation
    return scores


def _holds(condition: Condition, document: Document) -> bool:
    value = value_at(document, condition.path)
    present = value if isinstance(value, list) else [value]
    if condition.operator in {"equals", "in"}:
        wanted = _values(condition)
        return any(item in wanted for item in present if item is not None)
    return any(_within(item, condition.operand) for item in present if item is not None)


def _within(value: object, bounds: Document) -> bool:
    comparable = cast(float, value)
    return not (
        ("gt" in bounds and not comparable > cast(float, bounds["gt"]))
        or ("gte" in bounds and not comparable >= cast(float, bounds["gte"]))
        or ("lt" in bounds and not comparable < cast(float, bounds["lt"]))
        or ("lte" in bounds and not comparable <= cast(float, bounds["lte"]))
    )
