"""Search quality on BEAM-100K: is the evidence among the first hits, and is there silence where nothing is known?

Run: `python -m bench.beam [--data PATH] [--json OUT] [--markdown OUT]`. Uses the service's own text, ranking and
default model; only BM25 and cosine are small references here. Searches stay within a chat, as a project filter
would do; idf is taken over all chats, as in one store. Vectors are kept in a cache directory by content.

A message is its own summary; an exchange gets the summary that the transcript reader makes of it.

Weights and floor are chosen on coarse grids. The honest figure is leave-one-chat-out (LOCO): chosen on the other
chats, measured on the one left out. Recall is the share of a question's evidence episodes among the first k, and
its mean is taken over the questions with evidence.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.beam_data import K1, Asked, B, Bench, Chat, Embedder, Scores, read
from services.memory.search.ranking import DEFAULT, DEFAULT_FLOOR, Weights, rank

ROOT = Path(__file__).resolve().parents[1]
DEPTHS = (5, 10, 20)
ALLOWED_LOSS = 0.02  # of recall at 10
GRID = [
    Weights(
        dense=(1 - lexical) * (1 - opening),
        opening=(1 - lexical) * opening,
        lexical=lexical,
        neighbours=neighbours,
        trust=trust,
    )
    for lexical, opening, neighbours, trust in product(
        (0.2, 0.3, 0.4, 0.5, 0.6), (0.0, 0.25, 0.5, 0.75), (0.0, 0.05, 0.1, 0.2), (0.0, 0.1, 0.2, 0.3, 0.4)
    )
]
FLOORS = [step / 100 for step in range(61)]

Order = Callable[[Asked], list[int]]


def _columns(asked: Asked) -> tuple[Scores, Scores]:
    return (
        np.array([one.dense or 0.0 for one in asked.candidates]),
        np.array([one.lexical or 0.0 for one in asked.candidates]),
    )


def _best_first(scores: Scores) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable")[: max(DEPTHS)].tolist()
    return order


def by_words(asked: Asked) -> list[int]:
    return _best_first(_columns(asked)[1])


def by_meaning(asked: Asked) -> list[int]:
    return _best_first(_columns(asked)[0])


def by_rank_fusion(asked: Asked) -> list[int]:
    return _best_first(np.sum([1 / (61 + np.argsort(np.argsort(-side))) for side in _columns(asked)], axis=0))


def by_halves(asked: Asked) -> list[int]:
    """The mean of both sides, each stretched to 0..1."""
    return _best_first(np.sum([(side - side.min()) / (np.ptp(side) or 1) for side in _columns(asked)], axis=0))


def by(weights: Weights) -> Order:
    """The service's own ranking."""

    def order(asked: Asked) -> list[int]:
        now = max(one.timestamp for one in asked.candidates)
        return [int(one.candidate.episode_id) for one in rank(asked.candidates, now, weights)[: max(DEPTHS)]]

    return order


def recalls(asked: Sequence[Asked], order: Order) -> Scores:
    """(q, 3): evidence recall at each depth, of the questions that have evidence."""
    rows = []
    for one in asked:
        if one.evidence:
            found = order(one)
            rows.append([len(one.evidence & set(found[:depth])) / len(one.evidence) for depth in DEPTHS])
    return np.array(rows)


class Held(NamedTuple):
    """What came out on a chat with weights and floor chosen on the others."""

    chat: str
    weights: Weights
    floor: float
    recalls: Scores
    kept: Scores
    """(q, 3): recalls with silent questions at 0."""
    unanswerable: list[bool]
    """Abstention questions of the chat: was there silence?"""
    foreign: list[bool]
    """The same of questions from other subjects."""


def loco(bench: Bench) -> list[Held]:
    tables = {chat: np.array([recalls(asked, by(weights)) for weights in GRID]) for chat, asked in bench.asked.items()}
    held = []
    for left, asked in bench.asked.items():
        others = [chat for chat in tables if chat != left]
        means = np.concatenate([tables[chat] for chat in others], axis=1).mean(axis=(1, 2))
        best = int(means.argmax())
        weights = GRID[best]
        answerable = np.concatenate([[one.relevance for one in bench.asked[chat] if one.evidence] for chat in others])
        floor = highest_floor(answerable, np.concatenate([tables[chat][best] for chat in others]))
        mine = np.array([one.relevance for one in asked if one.evidence])
        held.append(
            Held(
                left,
                weights,
                floor,
                tables[left][best],
                np.where((mine >= floor)[:, None], tables[left][best], 0.0),
                [one.relevance < floor for one in asked if not one.evidence],
                [one.relevance < floor for one in bench.foreign[left]],
            )
        )
    return held


def highest_floor(relevances: Scores, recall: Scores) -> float:
    """The highest of FLOORS that costs no more than ALLOWED_LOSS of recall at 10."""
    at_ten = recall[:, DEPTHS.index(10)]
    return max(floor for floor in FLOORS if at_ten[relevances < floor].sum() / len(at_ten) <= ALLOWED_LOSS)


class Row(NamedTuple):
    name: str
    recall: list[float]


def _mean(found: Scores) -> list[float]:
    return [round(float(value), 3) for value in found.mean(axis=0)]


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / max(1, len(flags)), 3)


@dataclass(frozen=True)
class Report:
    """All figures of one unit."""

    unit: str
    episodes: int
    windows: int
    rows: list[Row]
    chosen: list[dict[str, float | str]]
    curve: list[dict[str, float]]
    abilities: dict[str, list[float]]
    held: dict[str, float | list[float]]


def measure(unit: str, chats: list[Chat], embed: Embedder) -> Report:
    bench = Bench(chats, embed)
    every = [one for asked in bench.asked.values() for one in asked]
    foreign = [one for asked in bench.foreign.values() for one in asked]
    held = loco(bench)
    ours = by(DEFAULT)
    shipped = recalls(every, ours)
    rows = [
        Row("BM25 alone", _mean(recalls(every, by_words))),
        Row("dense alone", _mean(recalls(every, by_meaning))),
        Row("reciprocal-rank fusion, equal weights", _mean(recalls(every, by_rank_fusion))),
        Row("half and half of min-max scores", _mean(recalls(every, by_halves))),
        Row("ours, leave-one-chat-out", _mean(np.concatenate([one.recalls for one in held]))),
        Row("ours, shipped weights", _mean(shipped)),
        *(
            Row(f"shipped weights, no {name}", _mean(recalls(every, by(replace(DEFAULT, **{name: 0.0})))))
            for name in ("neighbours", "trust", "recency")
        ),
        Row(
            "shipped weights, no opening",
            _mean(recalls(every, by(replace(DEFAULT, dense=DEFAULT.dense + DEFAULT.opening, opening=0.0)))),
        ),
    ]
    answerable = np.array([one.relevance for one in every if one.evidence])
    unanswerable = np.array([one.relevance for one in every if not one.evidence])
    strangers = np.array([one.relevance for one in foreign])
    curve = []
    for floor in sorted({*FLOORS, DEFAULT_FLOOR}):
        silent = answerable < floor
        quiet = int(silent.sum()), int((unanswerable < floor).sum())
        lost = _mean(np.where(silent[:, None], shipped, 0.0))
        curve.append(
            {
                "floor": floor,
                "abstention questions silenced": _share((unanswerable < floor).tolist()),
                "precision of silence": round(quiet[1] / max(1, sum(quiet)), 3),
                "questions of other subjects silenced": _share((strangers < floor).tolist()),
                **{f"recall@{depth} lost": loss for depth, loss in zip(DEPTHS, lost, strict=True)},
            }
        )
    abilities = [one.ability for chat in chats for one in chat.questions if one.evidence]
    kept = np.concatenate([one.kept for one in held])
    return Report(
        unit,
        sum(len(chat.texts) for chat in chats),
        bench.windows,
        rows,
        [
            {
                "chat": one.chat,
                "dense": round(one.weights.dense, 3),
                "opening": round(one.weights.opening, 3),
                "lexical": one.weights.lexical,
                "neighbours": one.weights.neighbours,
                "trust": one.weights.trust,
                "floor": one.floor,
            }
            for one in held
        ],
        curve,
        {
            name: _mean(shipped[[at for at, ability in enumerate(abilities) if ability == name]])
            for name in dict.fromkeys(abilities)
        },
        {
            "recall lost by the floor": [
                round(before - after, 3) for before, after in zip(rows[4].recall, _mean(kept), strict=True)
            ],
            "abstention questions silenced": _share([flag for one in held for flag in one.unanswerable]),
            "questions of other subjects silenced": _share([flag for one in held for flag in one.foreign]),
        },
    )


def markdown(reports: Sequence[Report], precision: str) -> str:
    """The tables as a page."""
    lines = [
        "# Search quality on BEAM-100K, chats 1 to 8",
        "",
        "Command: `python -m bench.beam --markdown bench/results/beam.md --json bench/results/beam.json`",
        "",
        f"Model all-MiniLM-L6-v2 ({precision}, one thread), BM25 k1 {K1} b {B}, search within a chat, idf over all",
        "chats. Mean share of a question's evidence among the first 5, 10 and 20; 144 questions have evidence, 16 are",
        f"abstention questions. Leave-one-chat-out: the best of {len(GRID)} weightings (mean of the three recalls) and",
        f"the highest floor that costs at most {ALLOWED_LOSS} of recall@10, both chosen on seven chats, used on the",
        "eighth. The shipped weights are one set for both units, chosen with all chats in view.",
    ]
    for report in reports:
        lines += [
            "",
            f"## One episode a{'n' if report.unit == 'exchange' else ''} {report.unit}",
            "",
            f"{report.episodes} episodes, {report.windows} windows.",
            "",
            *_table(
                ("ranking", *(f"@{depth}" for depth in DEPTHS)),
                [(row.name, *(f"{value:.3f}" for value in row.recall)) for row in report.rows],
            ),
            "",
            "By ability, shipped weights:",
            "",
            *_table(
                ("ability", *(f"@{depth}" for depth in DEPTHS)),
                [(name, *(f"{value:.3f}" for value in found)) for name, found in report.abilities.items()],
            ),
            "",
            "Chosen without the chat:",
            "",
            *_table(tuple(report.chosen[0]), [tuple(map(str, one.values())) for one in report.chosen]),
            "",
            "Silence, leave-one-chat-out: " + "; ".join(f"{name} {value}" for name, value in report.held.items()) + ".",
            "",
            f"Floor against silence and loss, shipped weights (the shipped floor is {DEFAULT_FLOOR}):",
            "",
            *_table(
                tuple(report.curve[0]),
                [
                    tuple(str(value) for value in one.values())
                    for one in report.curve
                    if 0.2 <= one["floor"] <= 0.6
                    and (round(one["floor"] * 100) % 5 == 0 or abs(one["floor"] - DEFAULT_FLOOR) < 0.035)
                ],
            ),
        ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "beam-100k")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "anamnesis-beam")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no BEAM chats at {options.data}: give their folder (1/ .. 8/) with --data", file=sys.stderr)
        return 2
    embed = Embedder(options.cache, options.precision)
    reports = [measure(unit, read(options.data, unit), embed) for unit in ("message", "exchange")]
    page = markdown(reports, options.precision)
    print(page)
    if options.markdown:
        options.markdown.write_text(page)
    if options.json:
        options.json.write_text(json.dumps([report.__dict__ for report in reports], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
