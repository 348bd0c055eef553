"""A document as it is read: sections below the headings that stand above them, until there is enough."""

from anamnesis.documents.document import Section
from anamnesis.documents.text import tidy


class Growing:
    """Collects text. `full` once no more is taken."""

    def __init__(self, characters: int) -> None:
        self._left = characters
        self._headings: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._page: int | None = None
        self.sections: list[Section] = []
        self.full = False

    @property
    def first_heading(self) -> str:
        return next((one.headings[0] for one in self.sections if one.headings), "")

    def heading(self, level: int, text: str) -> None:
        """`level` from 1; those of the same level and below it end here."""
        text = " ".join(tidy(text).split())[:500]
        if text:
            self.end()
            self._headings = [*((own, name) for own, name in self._headings if own < level), (level, text)]

    def path(self, headings: list[tuple[int, str]]) -> None:
        """All headings at once, where a document tells them apart from its text."""
        self.end()
        self._headings = headings

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

    def end(self) -> None:
        """What was added so far is a section."""
        if self._lines:
            names = tuple(name for _, name in self._headings)
            self.sections.append(Section("\n".join(self._lines), names, self._page))
            self._lines = []
