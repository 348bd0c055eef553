"""Where the requests of all surfaces come in: who is asked for the name that they give, and what is recalled."""

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from anamnesis.contracts.base import Name
from anamnesis.contracts.keys import Identity
from anamnesis.kit.errors import BadRequest
from services.gateway.answering import Answering
from services.gateway.backends.base import Backend, Dialect
from services.gateway.recall import MemoryScope
from services.gateway.streaming import Watched
from services.gateway.surfaces.asked import Asked, bounded
from services.gateway.surfaces.catalogue import Catalogue
from services.gateway.surfaces.exchange import Exchange, Order, Patience
from services.gateway.surfaces.naming import ANYONE, candidates
from services.gateway.surfaces.telling import Telling

PROJECT, INSTANCE, MEMORY = "X-Anamnesis-Project", "X-Anamnesis-Instance", "X-Anamnesis-Memory"

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_SWITCH = {"off": False, "false": False, "0": False, "": True, "on": True, "true": True, "1": True}


class Desk:
    """Takes requests that a surface has understood."""

    def __init__(
        self,
        answering: Answering,
        backends: Sequence[Backend],
        order: Sequence[str],
        catalogue: Catalogue,
        patience: Patience | None = None,
    ) -> None:
        """`order` names the backends that are asked by default."""
        self._answering = answering
        self._backends = {backend.name: backend for backend in backends}
        self._order = order
        self._patience = patience or Patience()
        self.catalogue = catalogue

    def answer(self, request: Request, asked: Asked, names: Sequence[str], telling: Telling) -> Watched:
        """A response that answers. Raises `BadRequest`."""
        identity: Identity = request.state.identity
        wanted = asked.memory and switched_on(request.headers)
        scope = scope_of(request.headers) if wanted else None
        able = self._able(asked, names, telling.dialect)
        order = Order(able, scope, identity.key_id)
        exchange = Exchange(self._answering, asked, order, telling, self._patience.keep_alive)
        return Watched(exchange.write, timeout=self._patience.send)

    async def names(self, model: str) -> list[str]:
        """The backends that a name means, in order; see `naming`."""
        plain = model in ANYONE or model.partition(":")[0] in self._backends
        listed = {} if plain else await self.catalogue.listed()
        return candidates(model, self._order, tuple(self._backends), listed)

    def configured(self, names: Sequence[str]) -> list[str]:
        """Those of the names whose backend can be used."""
        return [name for name in names if (one := self._backend(name)) is not None and one.missing is None]

    def _able(self, asked: Asked, names: Sequence[str], dialect: Dialect) -> Sequence[str]:
        """Those to whom nothing would be lost of what a request says."""
        if not asked.untranslated:
            return names
        able = [name for name in names if (one := self._backend(name)) is not None and one.dialect is dialect]
        if not self.configured(able):
            raise BadRequest(
                f"this needs a backend that speaks the dialect of {dialect} itself, and none of those asked is "
                f"configured and does: {bounded(asked.untranslated)}. Leave it out, or name another backend as model"
            )
        return able

    def _backend(self, name: str) -> Backend | None:
        return self._backends.get(name.partition(":")[0])


def scope_of(headers: Mapping[str, str]) -> MemoryScope:
    """Where to recall from, by the headers. Raises `BadRequest`."""
    return MemoryScope(project=_name_in(headers, PROJECT), instance=_name_in(headers, INSTANCE))


def switched_on(headers: Mapping[str, str]) -> bool:
    """Whether the headers leave memory on. Raises `BadRequest`."""
    switch = _SWITCH.get(headers.get(MEMORY, "").strip().lower())
    if switch is None:
        raise BadRequest(f"{MEMORY} must be 'on' or 'off'")
    return switch


def _name_in(headers: Mapping[str, str], header: str) -> str | None:
    """A name, in UTF-8 or with percent-encoding, as headers hold no other letters than those of English."""
    value = headers.get(header)
    if value is None or not value.strip():
        return None
    try:
        return _NAME.validate_python(unquote(value.encode("latin-1").decode(), errors="strict"))
    except (UnicodeDecodeError, ValidationError):
        raise BadRequest(f"{header} must be a name of at most 200 characters, in UTF-8 or percent-encoded") from None
