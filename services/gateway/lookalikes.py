"""What could pass for a tag of ours in the eyes of a model, however it is written: found, and taken out.

A model reads through what a parser would stumble over: letters of other scripts that look the same, full-width signs,
entities, marks that nobody sees between two letters. So a tag is told by what its letters look like.
"""

import html
import re
import unicodedata

LONGEST = 200  # characters within which a name may be spread out
MARK = "[tag]"

_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""What shows nothing and joins nothing: it hides words from people, and names from who looks for them."""
_LESS = (
    "(?:[<\u02c2\u1438\u2039\u2329\u276e\u2770\u27e8\u27ea\u3008\u300a\ufe64\uff1c\u00ab]"
    r"|&(?:amp;)*(?:lt|#0*60|#x0*3c)\b;?|\\u003c|\\x3c|%3c)"
)
_OPENING = re.compile(rf"{_LESS}(?:\s{{0,9}}{_LESS})*", re.IGNORECASE)
"""What looks like `<`, or becomes it where somebody decodes it."""
_REST = re.compile(
    "(?:[^<>\n]{0,200}?(?:[>\u02c3\u1433\u203a\u232a\u276f\u2771\u27e9\u27eb\u3009\u300b\ufe65\uff1e\u00bb]"
    r"|&(?:amp;)*(?:gt|#0*62|#x0*3e)\b;?|\\u003e|\\x3e|%3e))?",
    re.IGNORECASE,
)
"""What follows a name up to the end of its tag, where it has one."""
_SIGN = re.compile(r"&(?:amp;)*#?\w{1,8};|.", re.DOTALL)
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u0430\u03b1\u0251\u1d00", "a"),
        **dict.fromkeys("\u0435\u03b5\u1d07\u0454\u0117", "e"),
        **dict.fromkeys("\u0456\u03b9\u0131\u026a\u0269\u04cf", "i"),
        **dict.fromkeys("\u043c\u1d0d\u03bc", "m"),
        **dict.fromkeys("\u0578\u03b7\u0274\u043f\u057c", "n"),
        **dict.fromkeys("\u043e\u03bf\u0585\u1d0f\u0966", "o"),
        **dict.fromkeys("\u0433\u0280\u1d26", "r"),
        **dict.fromkeys("\u0455\ua731\u03c3\u03c2", "s"),
        **dict.fromkeys("\u0443\u03b3\u028f\u04af\u03c5", "y"),
    }
)
"""Letters of other scripts (in lower case) that look like those of Latin."""


def without_tags(text: str, name: str) -> str:
    """A text without what nobody sees, and with a mark in place of every tag that looks like `name`."""
    text = _INVISIBLE.sub("", text)
    wanted = "".join(filter(str.isalpha, name.lower()))
    pieces: list[str] = []
    done = 0
    for opening in _OPENING.finditer(text):
        if opening.start() < done or (end := _end_of(wanted, text, opening.end())) is None:
            continue
        pieces += (text[done : opening.start()], MARK)
        rest = _REST.match(text, end)
        assert rest is not None, "nothing at all fits too"
        done = rest.end()
    return "".join((*pieces, text[done:]))


def _end_of(wanted: str, text: str, start: int) -> int | None:
    """Where a name ends that looks like the wanted one and begins here, signs and blanks left out; none = no such."""
    seen = ""
    for sign in _SIGN.finditer(text, start, start + LONGEST):
        if _OPENING.match(sign.group()):
            return None  # another tag, which is looked at by itself
        looks = _looks(sign.group())
        seen += "".join(filter(str.isalnum, looks))
        if not wanted.startswith(seen):
            return None
        if seen == wanted:
            return sign.end()
    return None


def _looks(sign: str) -> str:
    """What a character, or an entity, looks like in plain Latin."""
    if sign.isascii() and len(sign) == 1:
        return sign.lower()
    plain = unicodedata.normalize("NFKD", html.unescape(html.unescape(sign))).casefold()
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).translate(_ALIKE)
