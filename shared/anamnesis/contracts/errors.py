"""The one shape of an error on the wire."""

from pydantic import BaseModel, JsonValue


class ErrorBody(BaseModel):
    code: str
    message: str
    """What went wrong and what to do about it."""
    detail: JsonValue = None


class ErrorEnvelope(BaseModel):
    error: ErrorBody
