"""How errors look on the wire: one envelope, one place that renders it."""

import math

from starlette.responses import Response

from anamnesis.kit.errors import AnamnesisError, Busy, Unauthorized


def error_response(error: AnamnesisError) -> Response:
    """`{"error": {"code", "message", "detail"}}` with the error's status and the headers that go with it."""
    headers: dict[str, str] = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        error.envelope().model_dump_json(), status_code=error.status, media_type="application/json", headers=headers
    )
