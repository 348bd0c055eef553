"""Whether a configuration of the crawler can be meant: what is wrong is said by source, with what to do about it.

The rules are those of the scan itself, which is asked for its plan. Nothing is looked through.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from anamnesis.contracts.crawler import CrawlerConfig, MachineRoot, Source, SourceKind
from anamnesis.crawl.globs import Globs, InvalidGlob, segments
from anamnesis.crawl.targets import plan
from anamnesis.kit.errors import Invalid

MOST_WILDCARDS = 4
"""`*` within one part of a glob: with each more of them a long name takes hundreds of times as long to be compared."""
MOST_DEPTHS = 4
"""`**` in one glob, for the same reason."""


class Reach(NamedTuple):
    """What this service may read, and on whose behalf."""

    allowed: tuple[Path, ...]
    instance: str
    """Whose files those are that lie below no machine root."""
    never: tuple[Path, ...] = ()
    """Directories that are not entered: Anamnesis' own data."""


def check(config: CrawlerConfig, reach: Reach) -> tuple[str, ...]:
    """What a person should know about a configuration that can be meant. Raises `Invalid` for any other.

    Asks the file system for real paths: not for the event loop.
    """
    problems = list(_problems(config, reach))
    if problems:
        detail: list[JsonValue] = [{"where": where, "why": why} for where, why in problems]
        where, why = problems[0]
        more = f" (and {len(problems) - 1} more; see detail)" if len(problems) > 1 else ""
        raise Invalid(f"{where}: {why}{more}", detail)
    return tuple(_warnings(config))


def _problems(config: CrawlerConfig, reach: Reach) -> Iterator[tuple[str, str]]:
    """Where and why, in the order of the configuration."""
    good: list[MachineRoot] = []
    seen: dict[str, str] = {}
    for root in config.machine_roots:
        where = f"machine root {root.path!r}"
        probe = Source(name="probe", kind=SourceKind.SCRIPTS)
        problem = _problem(config, (root,), probe, reach)
        real = os.path.realpath(os.path.expanduser(root.path))
        if problem is not None:
            yield where, problem
        elif real in seen:
            yield where, f"it is the same directory as {seen[real]!r}; keep one of them"
        else:
            good.append(root)
            seen[real] = root.path
    for glob in config.excludes:
        if (why := _bad_glob(glob)) is not None:
            yield "excludes", why
    names = Counter(source.name for source in config.sources)
    for name, count in names.items():
        if count > 1:
            yield f"source {name!r}", f"{count} sources have this name; give each a name of its own"
    for source in config.sources:
        yield from ((f"source {source.name!r}", why) for why in _wrong(config, good, source, reach))


def _wrong(config: CrawlerConfig, roots: Sequence[MachineRoot], source: Source, reach: Reach) -> Iterator[str]:
    negated = [glob for glob in source.globs if glob.startswith("!")]
    globs = [f"the glob {glob!r} would leave something out; put it in excludes without '!'" for glob in negated]
    globs += [why for glob in (*source.globs, *source.excludes) if (why := _bad_glob(glob)) is not None]
    yield from globs
    if not source.enabled or globs:
        return  # one that is switched off may name what is not there at present
    # Where no machine root is set yet, any directory that may be read shows whether the rest is right.
    roots = roots or [MachineRoot(instance=reach.instance, path=str(one.expanduser())) for one in reach.allowed[:1]]
    problem = _problem(config, roots, source, reach)
    if problem is not None:
        yield problem


def _problem(config: CrawlerConfig, roots: Sequence[MachineRoot], source: Source, reach: Reach) -> str | None:
    """What the scan would say of one source below some roots."""
    alone = config.model_copy(update={"machine_roots": tuple(roots), "sources": (source,), "excludes": ()})
    return plan(alone, reach.allowed, reach.instance, reach.never).problems.get(source.name)


def _bad_glob(glob: str) -> str | None:
    if not glob.isprintable():
        return f"the glob {glob!r} holds a character that cannot be seen; write it anew"
    parts = segments(glob.removeprefix("!").strip("/"))
    if any(part in ("", ".", "..") for part in parts):
        return f"the glob {glob!r} has an empty part, '.' or '..'; write it relative to the source's root"
    if parts.count("**") > MOST_DEPTHS or any(part.count("*") > MOST_WILDCARDS for part in parts):
        return f"the glob {glob!r} holds too many '*' (at most {MOST_WILDCARDS} in one name); write several globs"
    try:
        Globs((glob.removeprefix("!"),))
    except InvalidGlob as error:
        return str(error)
    return None


def _warnings(config: CrawlerConfig) -> Iterator[str]:
    machines = [os.path.expanduser(root.path) for root in config.machine_roots]
    for path in machines:
        if not os.path.isdir(path):
            yield f"machine root {path!r}: there is no such directory at present; make it, or mount it"
    for source in config.sources:
        if not source.enabled:
            continue
        root = os.path.expanduser(source.root or ".")
        places = [root] if os.path.isabs(root) else [os.path.join(machine, root) for machine in machines]
        if not places:
            yield f"source {source.name!r}: no machine root is set, so it finds nothing; add one, or give it a root"
        elif not any(os.path.isdir(place) for place in places):
            yield f"source {source.name!r}: its root {root!r} does not exist at present; make it, or mount it"
