"""What redaction finds of planted secrets, what it wrongly takes for one, and how fast it is.

Run: `python -m bench.redaction [--each 8] [--seeds 5]`. The planted ones (tests/anamnesis/redact/planted.py) are made
up in the formats that independent scanners publish rules for. They were a test that nobody had prepared for once: then
89.0 % were found; what was missed has been learned since, so the figure below says that nothing was lost again. False
positives are counted over lines that look like secrets and are none, and over the source of Python's own standard
library, whose tests hold made-up passwords. Speed stands beside one `bytes.translate` over the same text, the least
that any scan of it costs.
"""

import argparse
import sysconfig
import time
from collections import Counter
from pathlib import Path

from anamnesis.redact import redact
from tests.anamnesis.redact.planted import BY_FORMAT, NAMED, friends, planted
from tests.anamnesis.redact.test_planted import survives

_SAME = bytes(range(256))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=8, help="ways in which each secret is written")
    parser.add_argument("--seeds", type=int, default=5, help="draws of all of them")
    args = parser.parse_args()
    missed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for seed in range(args.seeds):
        for one in planted(seed, args.each):
            total[one.rule] += 1
            missed[one.rule] += survives(one.value, redact(one.text).text)
    print("| planted | of them | found |\n|---|---|---|")
    for name, rules in (("by a format", BY_FORMAT), ("by a name alone", NAMED)):
        count, lost = sum(total[rule] for rule in rules), sum(missed[rule] for rule in rules)
        print(f"| known {name}: {len(rules)} kinds | {count:,} | {(count - lost) / count:.2%} |")
    print(f"| all | {total.total():,} | {1 - missed.total() / total.total():.2%} |")
    print(f"\nmissed most: {', '.join(f'{rule} {count}/{total[rule]}' for rule, count in missed.most_common(4))}")
    lines = [line for seed in range(args.seeds) for line in friends(seed)]
    wrong = sum(redact(line).text != line for line in lines)
    print(f"\nfalse friends touched: {wrong} of {len(lines):,}")
    library = Path(sysconfig.get_path("stdlib"))
    texts = [
        path.read_text("utf-8", "replace")
        for path in sorted(library.rglob("*.py"))
        if "site-packages" not in path.parts
    ]
    size = sum(map(len, texts)) / 1e6
    kinds: Counter[str] = Counter()
    begun = time.process_time()
    for text in texts:
        kinds.update(redact(text).counts)
    taken = time.process_time() - begun
    begun = time.process_time()
    for text in texts:
        text.encode("ascii", "replace").translate(_SAME)
    least = time.process_time() - begun
    print(
        f"\nstandard library: {len(texts):,} files, {size:.1f} MB, {kinds.total()} replacements "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}); "
        f"{size / taken:.0f} MB/s, {taken / least:.1f} x one translate"
    )


if __name__ == "__main__":
    main()
