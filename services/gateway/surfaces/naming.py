"""Which backends the `model` of a request means."""

from collections.abc import Mapping, Sequence

ANYONE = frozenset({"", "auto", "default"})
CLAUDE = ("claude", "claude-cli")
"""Backends that know Claude's models by name, those too that they do not list."""
TRAINERS = "anamnesis-gpt"


def candidates(
    model: str, order: Sequence[str], known: Sequence[str], listed: Mapping[str, Sequence[str]]
) -> list[str]:
    """The backends to ask, in order, each as `<backend>` or `<backend>:<model>`.

    `order` is the configured one, `known` names all backends, `listed` says which models each of them has.

    1. Nothing, `auto` and `default` mean the configured order.
    2. `<backend>` and `<backend>:<model>` mean that backend alone: who names one wants no other.
    3. `claude...` means Claude by that name where it is in the order, then the others of the order by their own models:
       programs that are made for Claude know no other name to send.
    4. A name that backends list means those that list it, and nobody else.
    5. Any other name means the configured order, each by its own model: clients send names like `gpt-4o` because they
       must send one. The answer says which model it is from.
    """
    backend = model.partition(":")[0]
    if model in ANYONE:
        return list(order)
    if model in known or backend in known:
        return [model]
    ordered = list(dict.fromkeys(name.partition(":")[0] for name in order))
    having = [name for name in ordered if model in listed.get(name, ())]
    if model.startswith("claude"):
        having = [name for name in ordered if name in CLAUDE or name in having]
        named = [f"{name}:{model}" for name in having]
        return [*named, *(name for name in order if name.partition(":")[0] not in having)]
    return [f"{name}:{model}" for name in having] or list(order)


def model_ids(backend: str, models: Sequence[str]) -> list[str]:
    """A backend's models as `/v1/models` lists them: `<backend>:<model>`.

    The trainers list their base model first: that one goes by their own name, and adapters by theirs behind it.
    """
    ids = [f"{backend}:{model}" for model in models]
    return [backend, *ids[1:]] if backend == TRAINERS and ids else ids
