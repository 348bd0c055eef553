"""The base of every contract, and the limits that several of them share."""

import json
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, StringConstraints

JsonObject = dict[str, JsonValue]


class Contract(BaseModel):
    """A value on the wire: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _in_utc(moment: datetime) -> datetime:
    """Naive moments are taken as UTC; everything is kept in UTC."""
    try:
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the moment lies outside the calendar") from error
    # MongoDB keeps milliseconds; a store must give back what it was given, so all keep milliseconds.
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


Moment = Annotated[datetime, AfterValidator(_in_utc)]


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("NUL characters cannot be stored")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("lone surrogates cannot be stored") from error
    return text


def _storable_json(value: JsonObject) -> JsonObject:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("lone surrogates cannot be stored") from error
    return value


Storable = AfterValidator(_storable)
StorableJson = Annotated[JsonObject, AfterValidator(_storable_json)]
MAX_NAME = 200  # characters
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, strip_whitespace=True), Storable]
MAX_TAG = 100  # characters
Tag = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TAG, strip_whitespace=True), Storable]
EpisodeId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}$")]


def now() -> datetime:
    """The present moment in UTC, at the precision that every store keeps."""
    return _in_utc(datetime.now(UTC))
