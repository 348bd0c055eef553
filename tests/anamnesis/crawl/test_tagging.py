"""Tags by patterns: what they find, and that none of them can hang anybody."""

import pytest

from anamnesis.contracts.crawler import TagPattern, TagPatterns
from anamnesis.crawl.tagging import PATIENCE, Tagger, check
from anamnesis.kit.errors import Invalid

ENDLESS = TagPattern(pattern="(a+)+$", syntax="regex", tags=("endless",))
TRAP = "a" * 40 + "!"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (TagPattern(pattern="RECHNUNG", tags=("t",)), True),
        (TagPattern(pattern="größe", where="content", tags=("t",)), True),
        (TagPattern(pattern="größe", where="name", tags=("t",)), False),
        (TagPattern(pattern="a.c", tags=("t",)), False),
        (TagPattern(pattern=r"nr\.\s*\d{4}", syntax="regex", tags=("t",)), True),
        (TagPattern(pattern=r"^rechnung.*\.docx$", syntax="regex", where="name", tags=("t",)), True),
        (TagPattern(pattern=r"^rechnung", syntax="regex", where="content", tags=("t",)), False),
        (TagPattern(pattern="(unclosed", syntax="regex", tags=("t",)), False),
    ],
)
def test_a_pattern_finds_what_it_says(pattern: TagPattern, found: bool) -> None:
    """Plain text or an expression, in the name, the content or either; letters count the same in both cases."""
    with Tagger(TagPatterns(patterns=(pattern,))) as tagger:
        assert tagger.tags("Rechnung.docx", "Die GRÖSSE, die Größe: Nr. 2041\nabc").tags == (("t",) if found else ())


def test_an_endless_search_is_ended() -> None:
    """Its pattern is named and the others go on; after a few documents it is set aside."""
    after = TagPattern(pattern="a!", syntax="regex", tags=("after",))
    with Tagger(TagPatterns(patterns=(ENDLESS, after)), seconds=1) as tagger:
        for _ in range(PATIENCE):
            found = tagger.tags("x.docx", TRAP)
            assert (found.tags, found.slow) == (("after",), ("(a+)+$",))
        found = tagger.tags("x.docx", TRAP)
        assert (found.tags, found.slow) == (("after",), ())


def test_nothing_is_left_running() -> None:
    """The process of a tagger ends with it."""
    tagger = Tagger(TagPatterns(patterns=(TagPattern(pattern="a", syntax="regex", tags=("t",)),)))
    tagger.tags("a", "a")
    process = tagger._process
    assert process is not None
    tagger.close()
    assert process.poll() is not None


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "*", "(" * 249 + ")" * 248])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    """With what is wrong about it; plain text may be anything."""
    with pytest.raises(Invalid, match="no regular expression"):
        check(TagPatterns(patterns=(TagPattern(pattern=pattern, syntax="regex", tags=("t",)),)))
    check(TagPatterns(patterns=(TagPattern(pattern=pattern, tags=("t",)), ENDLESS)))
