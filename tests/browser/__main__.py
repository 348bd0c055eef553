"""`python -m tests.browser --fetch`: Chromium for the tests of the pages, installed where that is possible."""

import argparse
import sys

from tests.browser import chromium


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=__doc__)
    parser.add_argument("--fetch", action="store_true", required=True, help="find or install it, and print its path")
    parser.parse_args()
    try:
        print(chromium.fetch())
    except chromium.Missing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
