"""Which remembered episodes an answer made use of, measured by the words that it can only have from them.

A pure measure over strings, fast enough to run beside every answer; who asks, and who is told, belongs to others. It
weighs what stands in the answer and in an episode, but not in the conversation itself: an answer that only repeats the
question owes memory nothing. Identifiers, paths, numbers and names weigh most, then pairs of neighbouring words, then
single words by their length; words that everybody uses weigh nothing. What several episodes say is shared among them.

What was taken over stands together, and what is shared by chance is spread out: so evidence is added up within a
passage of the answer, and the best passage counts. An episode was used when it passes `ENOUGH` + `CHANCE` x
ln(1 + passages), or when a short answer has most of what is new in it from there.

What it cannot see: an answer in other words or another language than the episode (counts as unused), a memory that
only kept the model from a mistake (unused), and a model that knew the same by itself (used). It is a measure over
many answers, not a proof for one.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

MAX_ANSWER = 20_000
"""Characters of an answer that are read; of a longer one its beginning and its end."""
MAX_EPISODE = 6_000
MAX_PROMPT = 40_000

PASSAGE = 24
"""Words of an answer within which evidence is added up."""
ENOUGH = 1.75
"""Evidence that the shortest answer needs in one passage."""
CHANCE = 0.75
"""Evidence that the best passage of an answer shares with any text on its subject, a unit of ln(1 + passages)."""
MOSTLY = 0.5
"""Share of what is new in a short answer; where an episode has that much of it, little evidence is enough."""
SHORT = 12
"""Words of an answer that is called short."""
LITTLE = 0.5

_IDENTIFIER = 2.0
_NAME = 1.5
_PAIR = 1.0
_ACRONYM = 0.8
_LETTER = 0.08  # what a word weighs for each of its letters
_LONG_WORD = 10  # letters from which on a word weighs no more
_CHARACTERS = 0.4  # two neighbouring characters of a script without spaces
_DIGITS = (0.0, 0.4, 1.0, 2.0)  # numbers of one to four digits
_YEAR_WEIGHT = 0.5
_MOST_CAPITALS = 0.3  # share of capitalised words above which they are no names (titles, German)
_MOST_CHARACTERS = 100  # of a token; a longer one is told by its beginning
_APART = 20  # characters between two neighbouring words

_TOKEN = re.compile(r"\w+(?:(?:::|->|[-./:\\@])\w+)*")
_PARTS = re.compile(r"\w+")
_PLACES = re.compile(r"::|->|[/\\@]")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HUMP = re.compile(r"[a-z0-9][A-Z]")
_YEAR = re.compile(r"(?:19|20)\d\d")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
_COMMON = frozenset(
    """
    able about above across actually add added adding after again against ago all almost along already also although
    always am among an and and/or another answer any anything apply approach are aren around as ask asked at available
    away back based basic be because become been before being below best better between big both bring but by call
    called came can case cause certain change changed changes check clear code come comes common complete consider
    could couldn create created current currently data day days did didn different do does doesn doing don done down
    each earlier easily easy effective either else end enough ensure etc even every everything example expect feel few
    file files final find fine first fix follow following follows for found from full further general get gets getting
    give given gives go goes going good got great had happen has have haven having he hello help helpful helps her here
    hi him his hope how however i idea if important in include included including information instead into is isn issue
    issues it item items its itself just keep key kind know known last later learn least less let like line list little
    ll look looking lot made main make makes making many may maybe me mean means mention mentioned might mind more most
    much must my name need needed needs never new next nice no none nor not note nothing now number of off often ok
    okay old on once one only open or order other others our out over own part people perhaps place plan please point
    possible previous previously probably problem process provide provided put question quite rather re read ready
    really reason recent recently remember result results right run running s said same saw say says see seem seems
    seen set several she should show shown simple since small so some something soon specific start started step steps
    still such sure t take taken takes task tell than thank thanks that the their them then there these they thing
    things think this those though through time times to today together told too took total towards tried true try
    trying two type under until up update updated us use used useful user uses using usually various ve very want was
    wasn way ways we week well were weren what when where whether which while who whole whom whose why will with within
    without won word words work working works would wouldn write yes yet you your yours
    """.split()  # noqa: SIM905 -- one word a line is no easier to read
)


Feature = tuple[str, float]
"""What can be shared, and how much it says; a feature with a blank is a pair of words."""


class _Text(NamedTuple):
    """The features of a text with their weights, where each stands (in words), and how many words it has."""

    weights: dict[str, float]
    places: dict[str, list[int]]
    words: int


def used(answer: str, episodes: Sequence[str], prompt: str) -> list[bool]:
    """For each episode (the text that was put before the model) whether the answer made use of it.

    `prompt` is what the model was told besides: the question, and the conversation before it where there is one.
    Deterministic; an empty answer used nothing.
    """
    said = _read(ends(answer, MAX_ANSWER))
    known = _read(ends(prompt, MAX_PROMPT)).weights
    new = {feature: weight for feature, weight in said.weights.items() if feature not in known}
    shared = [_shared(new, _read(text[:MAX_EPISODE]).weights) for text in episodes]
    holders = Counter(feature for one in shared for feature in one)
    needed = ENOUGH + CHANCE * math.log1p(said.words / PASSAGE)
    verdicts: list[bool] = []
    for one in shared:
        own = {feature: weight / math.sqrt(holders[feature]) for feature, weight in one.items()}
        evidence = _densest(own, said.places)
        short = said.words <= SHORT and evidence >= LITTLE and _single(one) >= MOSTLY * _single(new)
        verdicts.append(short or evidence >= needed)
    return verdicts


def _shared(new: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return {feature: max(weight, new[feature]) for feature, weight in weights.items() if feature in new}


def _single(weights: Mapping[str, float]) -> float:
    """The weight of all features but pairs."""
    return sum(weight for feature, weight in weights.items() if " " not in feature)


def _densest(weights: Mapping[str, float], places: Mapping[str, Sequence[int]]) -> float:
    """The most that a passage of the answer holds of these features."""
    halves: dict[int, set[str]] = {}
    for feature in weights:
        for place in places[feature]:
            halves.setdefault(2 * place // PASSAGE, set()).add(feature)
    none: set[str] = set()
    passages = (held | halves.get(half + 1, none) for half, held in halves.items())
    # Sorted, for a sum of floats depends on its order, and the order of a set on the process.
    return max((sum(weights[feature] for feature in sorted(held)) for held in passages), default=0.0)


def ends(text: str, length: int) -> str:
    """A text within so many characters and a line's end: of a longer one its beginning and its end."""
    return text if len(text) <= length else f"{text[: length // 2]}\n{text[-length // 2 :]}"


def _read(text: str) -> _Text:
    text = _GROUPED.sub("", text)
    weights: dict[str, float] = {}
    places: dict[str, list[int]] = {}
    names: list[str] = []
    words = end = 0
    before = ""
    for found in _TOKEN.finditer(text):
        token = found.group()[:_MOST_CHARACTERS]
        words += 1
        features = _features(token)
        if not features:
            continue
        start, first = found.start(), features[0][0]
        if before and start - end <= _APART and before != first:
            features = (*features, (f"{before} {first}", _PAIR))
        for feature, weight in features:
            weights[feature] = weight
            places.setdefault(feature, []).append(words)
        if (
            token[0].isupper()
            and start > 1
            and text[start - 1] == " "
            and (text[start - 2].isalnum() or text[start - 2] == ",")
        ):
            names.append(first)
        before, end = first, found.end()
    if len(names) <= max(2.0, _MOST_CAPITALS * words):
        weights.update((name, max(weights[name], _NAME)) for name in names)
    return _Text(weights, places, words)


@lru_cache(maxsize=20_000)
def _features(token: str) -> tuple[Feature, ...]:
    """The features of a token, the one that stands for it first; none for words that everybody uses."""
    if token.isascii() and token.isalpha():
        return _word(token)
    if token.replace(".", "").isdecimal():
        digits = len(token.replace(".", ""))
        weight = _YEAR_WEIGHT if _YEAR.fullmatch(token) else _DIGITS[min(digits, len(_DIGITS)) - 1]
        return ((token, weight),)
    if len(token) > 1 and _UNSPACED.search(token):
        return tuple((token[at : at + 2], _CHARACTERS) for at in range(len(token) - 1))
    places = [place for place in _PLACES.split(token) if place]
    parts = _PARTS.findall(token)
    if len(places) == 1 and all(part.isalpha() for part in parts):
        return tuple(feature for part in parts for feature in _word(part))  # well-known, or a blank left out.Like here
    deeper = [_features(place) for place in places] if len(places) > 1 else [_word(part) for part in parts]
    return ((token.lower(), _IDENTIFIER), *(feature for features in deeper for feature in features))


def _word(word: str) -> tuple[Feature, ...]:
    lower = word.lower()
    if lower in _COMMON or len(lower) < 2 or not word.isalpha():
        return ()
    if _HUMP.search(word):
        return ((lower, _IDENTIFIER),)
    weight = _LETTER * min(len(lower), _LONG_WORD)
    return ((_stem(lower), max(weight, _ACRONYM) if word.isupper() else weight),)


def _stem(word: str) -> str:
    """A word without the endings that English bends it by; crude, and the same for answer and episode."""
    for ending, instead, least in (("ies", "y", 5), ("ied", "y", 5), ("ing", "", 6), ("ed", "", 5), ("es", "", 5)):
        if word.endswith(ending) and len(word) >= least:
            word = word[: -len(ending)] + instead
            break
    else:
        if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
            word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word
