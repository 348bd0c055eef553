"""`anamnesis ingest`: transcripts of this machine, read and redacted here, pushed through the gateway."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, Progress, TextColumn

from anamnesis.destination import HttpDestination, namespace
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import BadRequest, UpstreamFailed
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.files import default_roots
from anamnesis.transcripts.progress import Progress as Counts
from anamnesis.transcripts.projects import Projects
from anamnesis.transcripts.settings import ReadingSettings
from anamnesis.transcripts.significance import Rules
from anamnesis.transcripts.sync import Sync
from services.console import output
from services.console.spool import Noted, taken, usual

EVERYTHING = Rules(min_said=0, min_unanswered=0, nods=False, commands=False)
_WORDS = {
    "nod": "nothing but 'ok', 'thanks' and the like",
    "command": "commands without an answer",
    "unanswered": "short and unanswered",
    "too-short": "too little said",
    "warm-up": "warm-ups of subagents",
    "sidechain": "subagents",
    "empty": "empty",
    "unfit": "not to be written down",
    "project-excluded": "excluded projects",
}


class Wishes(NamedTuple):
    """What was asked for beside the paths."""

    instance: str
    exclude: tuple[str, ...]
    everything: bool
    anew: bool
    as_json: bool
    quiet: bool = False


async def ingest(client: ServiceClient, settings: ReadingSettings, given: Sequence[Path], wishes: Wishes) -> None:
    """Read what lies at the `given` paths; with none, what Claude Code has kept for this user.

    What hooks have noted meanwhile is read too, unless it is a hook that calls (`quiet`).
    """
    with nullcontext(Noted()) if wishes.quiet else taken(usual()) as noted:
        await _read(client, settings, given, noted, wishes)


async def _read(
    client: ServiceClient, settings: ReadingSettings, given: Sequence[Path], noted: Noted, wishes: Wishes
) -> None:
    roots = default_roots(os.environ, Path.home()) if not given or noted.everything else ()
    all_of_it = (*given, *roots, *noted.paths)
    paths = await asyncio.to_thread(lambda: [path for path in all_of_it if path.expanduser().exists()])
    if missing := [str(path) for path in given if path not in paths]:
        raise BadRequest(f"there is nothing at {', '.join(missing)}")
    if not paths:
        raise BadRequest(f"there are no transcripts at {' or '.join(map(str, roots))}; say where they are")
    rules = EVERYTHING if wishes.everything else settings.rules
    rules = rules._replace(exclude_projects=settings.ingest_exclude_projects + wishes.exclude)
    maker = Maker(Projects(), rules, settings.ingest_max_raw, settings.redact_entropy)
    seen = Counts()
    told = False
    with _bar(wishes.quiet) as bar:
        task = bar.add_task("looking", total=None, counts="")

        def show(counts: Counts) -> None:
            nonlocal seen, told
            if counts.stopping and not told:
                told = True
                bar.stop()
                output.note(f"Stopping, waiting for {counts.under_way} sent episodes ...")
            seen = counts
            if counts.files_changed:
                all_read = counts.files_done == counts.files_changed
                eta = "embedding the last" if all_read else f"{output.duration(counts.eta)} left" if counts.eta else ""
                bar.update(
                    task,
                    description=f"{counts.files_done}/{counts.files_changed} files",
                    total=max(counts.bytes, counts.bytes_done),
                    completed=counts.bytes_done,
                    counts=f"{counts.episodes} episodes, {counts.duplicate} duplicates, "
                    f"{counts.redactions.total()} redactions{', ' if eta else ''}{eta}",
                )

        destination = HttpDestination(
            client,
            namespace("console", wishes.instance),
            lambda: bar.update(task, counts="waiting for the gateway ..."),
        )
        sync = Sync(destination, maker, paths, wishes.instance, show)
        try:
            # By other rules than before everything must be judged again, also what was read before.
            counts = await sync.run(anew=wishes.anew or wishes.everything)
        except asyncio.CancelledError:
            bar.stop()
            output.note(
                f"Stopped. {seen.created + seen.updated} episodes are safe; the same command goes on where this ended."
            )
            raise
    if wishes.as_json:
        output.lines([json.dumps(report(counts), indent=2)])
    elif not wishes.quiet:
        _summary(counts)
    wrong = []
    if counts.refused:
        named = _named([f"{name} ({code})" for name, code in counts.refusals.items()], counts.refused)
        wrong.append(f"memory would not take {counts.refused} episodes: {named}")
    if counts.errors:
        what = ", ".join(
            f"{count} {reason} ({_named(counts.examples[reason], count)})"
            for reason, count in sorted(counts.errors.items())
        )
        wrong.append(f"some files could not be read: {what}")
    if wrong:
        raise UpstreamFailed("; ".join(wrong))


def report(counts: Counts) -> dict[str, object]:
    """The outcome for programs."""
    return {
        "files": counts.files,
        "files_changed": counts.files_changed,
        "bytes": counts.bytes_done,
        "created": counts.created,
        "updated": counts.updated,
        "duplicates": counts.duplicate,
        "blocked": counts.blocked,
        "refused": counts.refused,
        "refusals": counts.refusals,
        "redactions": dict(counts.redactions),
        "decisions": dict(counts.decisions),
        "unreadable_lines": counts.unreadable,
        "repeated_lines": counts.replayed,
        "errors": dict(counts.errors),
        "examples": counts.examples,
        "seconds": round(counts.seconds, 3),
    }


def _bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[counts]}"),
        console=output.errors,
        disable=quiet or not output.errors.is_terminal,
        transient=True,
    )


def _summary(counts: Counts) -> None:
    if not counts.files:
        output.note("There are no transcripts there.")
        return
    pairs = [
        (
            "files",
            f"{counts.files}, of which {counts.files_changed} with something new ({output.size(counts.bytes_done)})",
        ),
        ("new episodes", str(counts.created)),
        ("grown episodes", str(counts.updated)),
        ("duplicates", str(counts.duplicate)),
        ("kept away by the blocklist", str(counts.blocked)),
        ("redacted secrets", _counted(counts.redactions) or "0"),
        ("unreadable lines", str(counts.unreadable)),
        ("repeated lines", str(counts.replayed)),
        ("refused episodes", str(counts.refused)),
        ("time", output.duration(counts.seconds)),
    ]
    always = ("files", "new episodes", "duplicates", "redacted secrets", "time")
    output.fields([(name, value) for name, value in pairs if name in always or value != "0"])
    left_out = {reason: count for reason, count in counts.decisions.items() if reason != "kept"}
    if counts.decisions:
        output.say()
        output.table(
            [output.Column("EXCHANGES", right=True), output.Column("JUDGED", wide=True)],
            [
                (str(counts.decisions["kept"]), "worth remembering"),
                *(
                    (str(count), f"left out: {_WORDS.get(reason, reason)}")
                    for reason, count in sorted(left_out.items(), key=lambda item: -item[1])
                ),
            ],
        )
    if left_out:
        output.note("--everything reads all again and keeps what was left out.")


def _named(names: Sequence[str], count: int) -> str:
    """The names that are known of so many things."""
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")


def _counted(counts: Counter[str]) -> str:
    if not counts:
        return ""
    return f"{counts.total()} ({', '.join(f'{count} {kind}' for kind, count in counts.most_common(8))})"
