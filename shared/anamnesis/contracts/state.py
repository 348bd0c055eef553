"""Small state that other services keep in the store: documents of a kind and namespace, and leases."""

from typing import Annotated

from pydantic import Field, StringConstraints

from anamnesis.contracts.base import Contract, JsonObject, Moment, Name, Storable, StorableJson

MAX_DOCUMENTS = 5_000  # documents in one request
Key = Annotated[str, StringConstraints(min_length=1, max_length=4096), Storable]


class Documents(Contract):
    """Documents by key."""

    documents: dict[Key, StorableJson] = Field(max_length=MAX_DOCUMENTS)


class AllDocuments(Contract):
    """An answer: every document of a namespace."""

    documents: dict[str, JsonObject]


class Keys(Contract):
    keys: tuple[Key, ...] = Field(min_length=1, max_length=MAX_DOCUMENTS)


class LeaseRequest(Contract):
    """Take or renew a lease; it lapses `seconds` after the last renewal."""

    holder: Name
    seconds: float = Field(gt=0, le=86_400)


class Lease(Contract):
    name: str
    holder: str
    until: Moment


class Setting(Contract):
    """A named setting and its version, which grows with every write."""

    name: str
    value: JsonObject
    version: int
