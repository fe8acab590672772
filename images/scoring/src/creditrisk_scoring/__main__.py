"""`python -m creditrisk_scoring score IN OUT`: what `creditrisk bulk score` runs."""

from __future__ import annotations

import sys

from creditrisk_scoring.command import main

if __name__ == "__main__":
    if sys.argv[1:2] != ["score"]:
        sys.stderr.write("usage: python -m creditrisk_scoring score IN OUT (--model FOLDER | --version N) ...\n")
        sys.exit(2)
    sys.exit(main(sys.argv[2:]))
