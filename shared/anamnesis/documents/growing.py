"""A document as it is read: sections below the headings that stand above them, until there is enough."""

from anamnesis.documents.document import Section
from anamnesis.documents.text import tidy

MAX_HEADING = 500  # characters


class Growing:
    """Collects text. `full` once no more is taken."""

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._headings: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._page: int | None = None
        self._bare = False
        """Whether nothing stands below the last heading yet."""
        self.sections: list[Section] = []
        self.full = False

    @property
    def first_heading(self) -> str:
        return next((one.headings[0] for one in self.sections if one.headings), "")

    def heading(self, level: int, text: str) -> None:
        """`level` from 1; those of the same level and below it end here."""
        text = " ".join(tidy(text).split())
        if not text:
            return
        self.end()
        if self._bare and self._headings[-1][0] >= level:
            self._tell_heading()
        short = text[:MAX_HEADING]
        self._headings = [*((own, name) for own, name in self._headings if own < level), (level, short)]
        self._bare = True
        if len(short) < len(text):
            self.add(text)  # a heading that nobody closed: its text is a text

    def path(self, headings: list[tuple[int, str]]) -> None:
        """All headings at once, where a document tells them apart from its text."""
        self.end()
        self._headings = headings
        self._bare = False

    def page(self, number: int) -> None:
        self.end()
        self._page = number

    def add(self, text: str) -> None:
        text = tidy(text)
        if self.full or not text.strip():
            return
        if len(text) >= self._left:
            text, self.full = text[: self._left], True
        self._left -= len(text)
        self._lines.append(text.rstrip())
        self._bare = False

    def end(self) -> None:
        """What was added so far is a section."""
        if self._lines:
            names = tuple(name for _, name in self._headings)
            self.sections.append(Section("\n".join(self._lines), names, self._page))
            self._lines = []

    def close(self) -> None:
        """The document is over."""
        self.end()
        if self._bare:
            self._tell_heading()

    def _tell_heading(self) -> None:
        """What is only a heading is told as a text, or it would be lost."""
        self.add(self._headings[-1][1])
        self.end()
