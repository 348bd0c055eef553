"""How answers look: tables and colours on a terminal, tab-separated lines anywhere else."""

import sys
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table


class Column:
    """One column of a table."""

    def __init__(self, title: str, *, right: bool = False, wide: bool = False) -> None:
        """`right` aligns numbers; a `wide` column takes the room that is left, the others never wrap."""
        self.title = title
        self.right = right
        self.wide = wide


out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
errors = Console(stderr=True, highlight=False)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: a table on a terminal, one line a row with tabs elsewhere."""
    if not out.is_terminal:
        lines(["\t".join(column.title for column in columns), *("\t".join(map(one_line, row)) for row in rows)])
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.wide else "ellipsis",
            no_wrap=not column.wide,
            ratio=1 if column.wide else None,
        )
    for row in rows:
        shown.add_row(*(escape(visible(cell)) for cell in row))
    out.print(shown)


def story(columns: Sequence[Column], rows: Sequence[tuple[Sequence[str], str, str]]) -> None:
    """Print rows of cells, a summary and an id; on a terminal the id stands below its summary to leave it room."""
    if out.is_terminal:
        table([*columns, Column("SUMMARY", wide=True)], [(*cells, f"{summary}\n{id}") for cells, summary, id in rows])
    else:
        table([*columns, Column("EPISODE"), Column("SUMMARY")], [(*cells, id, summary) for cells, summary, id in rows])


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        say(f"{name:<{width}}  {value}" if out.is_terminal else f"{name}\t{one_line(value)}")


def say(text: str = "") -> None:
    """Print a line as it is, without markup."""
    if out.is_terminal:
        out.print(visible(text), markup=False)
    else:
        lines([visible(text)])


def lines(texts: Sequence[str]) -> None:
    """Print lines for other programs, untouched by the width of a terminal."""
    for text in texts:
        sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Print a remark that is no part of the answer: to standard error."""
    errors.print(visible(text), markup=False, style="dim", soft_wrap=True)


def progress(unit: ProgressColumn | None = None, *extra: ProgressColumn) -> Progress:
    """A bar on standard error; where that is no terminal it shows nothing."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        unit or MofNCompleteColumn(),
        *extra,
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
    )


def when(moment: datetime) -> str:
    """A moment in local time, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def size(count: int | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "unknown"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def visible(text: str) -> str:
    """Text that cannot steer the terminal: what an episode holds was written by others."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def one_line(text: str) -> str:
    return " ".join(visible(text).split())


def shortened(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    whole = one_line(text)
    return whole if len(whole) <= limit else whole[: limit - 1].rstrip() + "…"
