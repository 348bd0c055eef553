"""The HTTP surface of the memory service, one module a noun; each has `routes(...) -> APIRouter`."""
