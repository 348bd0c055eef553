"""`docs/api.md`: every path of the services and every shape, as the services describe them themselves."""

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple, get_args, get_origin

from fastapi import FastAPI
from pydantic import BaseModel, Field, JsonValue

from anamnesis.contracts.base import Contract
from docs.tree import first_paragraph

CONTRACTS = Path(__file__).parents[1] / "shared" / "anamnesis" / "contracts"


def api() -> str:
    """`docs/api.md`."""
    parts = [
        "# The HTTP interface",
        "Everything is reached at the gateway's address (`http://127.0.0.1:3010` by default), which passes the paths "
        "of memory and ingest on. Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; only `GET /health` "
        'and `GET /ready` need none. Errors have one shape, `{"error": {"code", "message", "detail"}}`; the message '
        "says what to do. Each service describes itself at `/openapi.json`. Made by `python -m docs.generate`.",
    ]
    shapes: dict[str, type[Contract]] = {}
    for name, app in apps().items():
        parts.append(f"## {name.capitalize()}")
        rows = ["| | path | what it does | takes | gives |", "|---|---|---|---|---|"]
        rows += [
            f"| {one.method} | `{one.path}` | {one.what} | {_names(one.takes, one.queries, shapes)} "
            f"| {_names(one.gives, (), shapes)} |"
            for one in operations(app)
        ]
        parts.append("\n".join(rows))
    parts.append("## Shapes")
    parts += [_shape(name, shapes[name]) for name in sorted(shapes)]
    return "\n\n".join(parts) + "\n"


class Operation(NamedTuple):
    """One thing that a service does, as it describes it itself."""

    method: str
    path: str
    what: str
    takes: tuple[str, ...]
    """Names of the shapes of its body."""
    queries: tuple[str, ...]
    gives: tuple[str, ...]
    """Names of the shapes of its answer."""


def operations(app: FastAPI) -> Iterator[Operation]:
    """Everything in an app's own description, in its order."""
    document = _Document.model_validate(app.openapi())
    for path, methods in document.paths.items():
        for method, told in methods.items():
            good = [answer for status, answer in told.responses.items() if status.startswith("2")]
            yield Operation(
                method.upper(),
                path,
                told.description.partition("\n")[0],
                _references(told.requestBody),
                tuple(parameter.name for parameter in told.parameters if parameter.place == "query"),
                _references(good),
            )


class _Parameter(BaseModel):
    name: str
    place: str = Field(alias="in")


class _Operation(BaseModel):
    description: str
    parameters: list[_Parameter] = []
    requestBody: JsonValue = None
    responses: dict[str, JsonValue]


class _Document(BaseModel):
    paths: dict[str, dict[str, _Operation]]


def _references(part: JsonValue) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"#/components/schemas/(\w+)", json.dumps(part))))


def _names(names: Sequence[str], queries: Sequence[str], shapes: dict[str, type[Contract]]) -> str:
    """Names as links; the contracts among them, and those that they mention, are added to `shapes`."""
    known = _contracts()
    for name in names:
        if name in known:
            _gather(known[name], shapes)
    shown = [f"[{name}](#{name.lower()})" if name in known else name for name in names]
    return ", ".join([*shown, *(f"`{query}`" for query in queries)])


def _contracts() -> dict[str, type[Contract]]:
    modules = [import_module(f"anamnesis.contracts.{path.stem}") for path in CONTRACTS.glob("*.py")]
    classes = [one for module in modules for _, one in inspect.getmembers(module, inspect.isclass)]
    return {one.__name__: one for one in classes if issubclass(one, Contract)}


def _gather(model: type[Contract], shapes: dict[str, type[Contract]]) -> None:
    if model.__name__ in shapes:
        return
    shapes[model.__name__] = model
    for field in model.model_fields.values():
        for mentioned in _models(field.annotation):
            _gather(mentioned, shapes)


def apps() -> Mapping[str, FastAPI]:
    """The services' apps; nothing is opened by building them."""
    from services.gateway import app as gateway
    from services.gateway.settings import GatewaySettings
    from services.ingest import app as ingest
    from services.ingest.settings import IngestSettings
    from services.memory import app as memory
    from services.memory.settings import MemorySettings

    return {
        "memory": memory.build(MemorySettings()),
        "ingest": ingest.build(IngestSettings()),
        "gateway": gateway.build(GatewaySettings()),
    }


def _models(annotation: object) -> Iterator[type[Contract]]:
    """The contracts that a type mentions."""
    if inspect.isclass(annotation) and get_origin(annotation) is None:
        if issubclass(annotation, Contract):
            yield annotation
        return
    for part in get_args(annotation):
        yield from _models(part)


def _shape(name: str, model: type[Contract]) -> str:
    meanings = _field_docs(model)
    lines = [f"### {name}", first_paragraph(model.__doc__)] if model.__doc__ else [f"### {name}"]
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field_name, field in model.model_fields.items():
        shown = f"`{_type(field.annotation)}`"
        if not field.is_required():
            default = field.get_default(call_default_factory=True, validated_data={})
            shown += "" if default in (None, (), {}) else f", {default!r} by default"
            shown += ", optional" if default in (None, (), {}) else ""
        rows.append(f"| `{field_name}` | {shown} | {meanings.get(field_name, '')} |".replace(" \\|", " |"))
    return "\n\n".join([*lines, "\n".join(rows)])


def _type(annotation: object) -> str:
    """A type as people read it: `text[]`, `number`, a model's name."""
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    simple = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "datetime": "time"}
    if inspect.isclass(annotation) and get_origin(annotation) is None:
        if issubclass(annotation, str) and annotation is not str:
            return " / ".join(map(str, annotation))  # type: ignore[call-overload]
        return simple.get(annotation.__name__, annotation.__name__)
    if get_origin(annotation) in (tuple, list):
        return _type(get_args(annotation)[0]) + "[]"
    if get_origin(annotation) is dict:
        return "object"
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return (
        " or ".join(dict.fromkeys(_type(part) if not isinstance(part, str) else part for part in parts)) or "any JSON"
    )


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The strings below the fields of a model and of what it derives from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base in (BaseModel, Contract):
            continue
        body = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[statement.target.id] = " ".join(str(following.value.value).split()).replace("|", "\\|")
    return found
