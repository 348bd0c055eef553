"""The errors of the platform, each knowing its HTTP status and its code on the wire.

    AnamnesisError                  500 internal
    ├── BadRequest                  400 bad_request       understood, but cannot be meant
    ├── Unauthorized                401 unauthorized      no key, or an unknown one
    ├── Forbidden                   403 forbidden         a known key without the scope
    ├── NotFound                    404 not_found
    ├── Stalled                     408 stalled           the rest of the request did not come in time
    ├── Conflict                    409 conflict          exists already, or changed meanwhile
    ├── TooLarge                    413 too_large
    ├── Invalid                     422 invalid           does not fit the contract
    ├── Busy                        429 busy              a bounded queue is full; `retry_after` seconds
    ├── UpstreamFailed              502 upstream_failed   another service answered with nonsense
    ├── Unavailable                 503 unavailable       a database or service is away
    ├── DeadlineExceeded            504 deadline_exceeded
    └── StorageFull                 507 storage_full      no room on the disk

Messages say what to do. They never hold a secret or the text of an episode.
"""

from pydantic import BaseModel, JsonValue

from anamnesis.contracts.errors import ErrorBody, ErrorEnvelope

MAX_FOREIGN = 1_000  # characters of a message in another envelope than ours


class AnamnesisError(Exception):
    """The root: what we raise on purpose."""

    status = 500
    code = "internal"

    def __init__(self, message: str, detail: JsonValue = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def envelope(self) -> ErrorEnvelope:
        return ErrorEnvelope(error=ErrorBody(code=self.code, message=self.message, detail=self.detail))


class BadRequest(AnamnesisError):
    status, code = 400, "bad_request"


class Unauthorized(AnamnesisError):
    status, code = 401, "unauthorized"


class Forbidden(AnamnesisError):
    status, code = 403, "forbidden"


class NotFound(AnamnesisError):
    status, code = 404, "not_found"


class Stalled(AnamnesisError):
    status, code = 408, "stalled"


class Conflict(AnamnesisError):
    status, code = 409, "conflict"


class TooLarge(AnamnesisError):
    status, code = 413, "too_large"


class Invalid(AnamnesisError):
    status, code = 422, "invalid"


class Busy(AnamnesisError):
    status, code = 429, "busy"

    def __init__(self, message: str, detail: JsonValue = None, retry_after: float = 1.0) -> None:
        super().__init__(message, detail)
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""


class UpstreamFailed(AnamnesisError):
    status, code = 502, "upstream_failed"


class Unavailable(AnamnesisError):
    status, code = 503, "unavailable"


class DeadlineExceeded(AnamnesisError):
    status, code = 504, "deadline_exceeded"


class StorageFull(AnamnesisError):
    status, code = 507, "storage_full"


_LEAVES: tuple[type[AnamnesisError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    Stalled,
    Conflict,
    TooLarge,
    Invalid,
    Busy,
    UpstreamFailed,
    Unavailable,
    DeadlineExceeded,
    StorageFull,
)
_BY_CODE = {leaf.code: leaf for leaf in _LEAVES}
_BY_STATUS = {leaf.status: leaf for leaf in _LEAVES}


def from_wire(status: int, body: bytes) -> AnamnesisError:
    """The error that another service reported, as the same class that it raised."""
    try:
        error = ErrorEnvelope.model_validate_json(body).error
    except ValueError:
        leaf = _BY_STATUS.get(status, UpstreamFailed)
        return leaf(_said(body) or f"the service answered {status} without saying why")
    leaf = _BY_CODE.get(error.code) or _BY_STATUS.get(status, UpstreamFailed)
    return leaf(error.message, error.detail)


class _Message(BaseModel):
    message: str


class _Foreign(BaseModel):
    """The envelope of others below `/v1`: it holds a message too, and more beside it."""

    error: _Message


def _said(body: bytes) -> str:
    try:
        return _Foreign.model_validate_json(body).error.message[:MAX_FOREIGN]
    except ValueError:
        return ""
