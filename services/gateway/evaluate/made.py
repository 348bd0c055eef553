"""Questions made from episodes, without any language model, and questions that no store of work answers.

What they can tell: whether an episode is found again by something that was said in it and that its summary leaves
out; and whether, of two configurations, one does this better on one's own texts. What they cannot tell: how well
people are answered. Such a question uses the words of the episode itself, so it favours search by words; people ask
in words of their own, often for several episodes at once, and what is said in one episode may stand in another as
well, which then counts as wrong. The unanswerable ones are easy to keep silent about: they share no subject with a
store of work. Compare configurations by them; believe absolute numbers only of questions that people have labelled.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence

from anamnesis.contracts.episodes import Episode
from anamnesis.contracts.evaluate import Question

MOST_WORDS = 24
_LEAST_WORDS = 6
_LONGEST = 600  # characters of a sentence that is looked at
_READ = 20_000  # characters of an episode that are looked at
_SHARED = 0.6
"""Share of a sentence's words that its summary may hold."""
_RARE = 4
"""The rarest words of a sentence count; the others could stand anywhere."""
_COMMON = 0.1
"""A word that stands in more of the episodes than this share tells none of them apart."""

_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_CODE = re.compile(
    r"\w\([^ )]|[=;{}<>|\\]|\*\*|^(?:from|import|def|class|return|raise|const|let|var|public|select|alter|create)\b",
    re.IGNORECASE,
)
_TURN = re.compile(r"^(?=(?:User|Assistant): )", re.MULTILINE)
_OWN = 1.3
"""How much more a user's own sentence counts than one of the assistant's: people remember what they said."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WHO = re.compile(r"^(?:user|assistant|human|system|tool)\s*:\s*", re.IGNORECASE)
_POLITE = re.compile(
    r"^(?:(?:hi|hello|hey|thanks|thank you|okay|ok|great|perfect|sure|so|and|but|now|also|then|please|well)\b[,.!:\s]*"
    r"|(?:could|can|would|will) you (?:please )?(?:help me (?:to )?)?"
    r"|i(?:'d| would) like (?:you )?to |i (?:want|need) (?:you )?to |let me |let's |help me (?:to )?)+",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]{2,}")
_PROSE = re.compile(r"[\w\s,.:!?'\"()/%$€£&+-]")

UNANSWERABLE = tuple(
    Question(question=text)
    for text in (
        "What is the capital of Peru?",
        "How long does it take to hard-boil an egg?",
        "Which planet has the most moons?",
        "Who painted the ceiling of the Sistine Chapel?",
        "How do I get red wine out of a carpet?",
        "What do hedgehogs eat in winter?",
        "Which river flows through Budapest?",
        "How many strings does a cello have?",
        "When did the Berlin Wall come down?",
        "What is the best time of the year to prune roses?",
        "Who wrote Pride and Prejudice?",
        "How high is Mount Kilimanjaro?",
        "What is the national bird of New Zealand?",
        "How do you fold a fitted sheet?",
        "Which muscles does rowing train?",
        "What is the boiling point of ethanol?",
        "How do bees find their way back to the hive?",
        "Which countries border Mongolia?",
        "What does a sommelier do?",
        "How many players are there in a handball team?",
        "Why do leaves turn red in autumn?",
        "What is the difference between a crocodile and an alligator?",
        "Who was the first woman to win a Nobel Prize?",
        "How do I tune a ukulele?",
        "What is the main ingredient of hummus?",
        "When is high tide at Saint-Malo?",
        "How long do elephants live?",
        "Which opera has the aria Nessun dorma?",
        "What is the traditional dress of Scotland called?",
        "How much water does a cactus need?",
    )
)
"""General knowledge, far from what people do with an assistant at work."""


def made(episodes: Sequence[Episode], count: int) -> tuple[Question, ...]:
    """At most so many questions, each from another episode: its most telling sentence that its summary lacks."""
    texts = [_sentences(episode) for episode in episodes]
    spread = Counter(word for sentences in texts for word in {word for one in sentences for word in _words(one)})
    rarity = {word: math.log(1 + len(episodes) / often) for word, often in spread.items()}
    most = max(1, int(len(episodes) * _COMMON))
    common = {word for word, often in spread.items() if often > most}
    questions: list[Question] = []
    for episode, sentences in zip(episodes, texts, strict=True):
        if len(questions) == count:
            break
        summary = _words(episode.summary)
        usable = {one: counts for one, counts in sentences.items() if _is_new(one, summary, common)}
        if usable:
            best = max(usable, key=lambda one: usable[one] * _telling(one, rarity))
            questions.append(Question(question=best, episode_ids=(episode.episode_id,)))
    return tuple(questions)


def unanswerable(beside: int) -> tuple[Question, ...]:
    """Some of the unanswerable questions, to go with so many that have an answer: one to four, and at least eight."""
    return UNANSWERABLE[: max(8, beside // 4)]


def blocks(total: int, size: int, wanted: int) -> list[int]:
    """Where to begin reading so many episodes in pages of `size`: spread by chance, the same for the same store."""
    starts = list(range(0, total, size))
    random.Random(total).shuffle(starts)  # noqa: S311 -- a sample, no secret
    return starts[: math.ceil(wanted / size)]


def asked(sentence: str) -> str:
    """A sentence as a question: without who says it and how politely, and no longer than people ask."""
    bare = _POLITE.sub("", _WHO.sub("", sentence.strip()))
    return " ".join(bare.split()[:MOST_WORDS]).strip(" ,;:-")


def _sentences(episode: Episode) -> dict[str, float]:
    """What was said in it, sentence by sentence, as questions, and how much each counts; code and tools left out."""
    found: dict[str, float] = {}
    for turn in _TURN.split(_FENCE.sub("\n", (episode.raw_exchange or "")[:_READ])):
        counts = _OWN if turn.startswith("User:") else 1.0
        for sentence in _SENTENCE.split(turn):
            bare = asked(sentence)
            if len(sentence) <= _LONGEST and _is_prose(bare) and len(bare.split()) >= _LEAST_WORDS:
                found.setdefault(bare, counts)
    return found


def _is_prose(line: str) -> bool:
    if _CODE.search(line) or not (line[:1].isalnum() or line[:1] in "'\""):
        return False
    return len(_PROSE.findall(line)) >= 0.97 * len(line) and sum(c.isalpha() for c in line) >= 0.7 * len(line)


def _is_new(sentence: str, summary: set[str], common: set[str]) -> bool:
    words = _words(sentence)
    return len(words & summary) <= _SHARED * len(words) and len(words - common - summary) >= 2


def _telling(sentence: str, rarity: dict[str, float]) -> float:
    return sum(sorted((rarity.get(word, 0.0) for word in _words(sentence)), reverse=True)[:_RARE])


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
