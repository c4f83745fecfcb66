"""`python -m roamroute.lab`: the same as `roamroute lab`."""

from __future__ import annotations

import sys

from roamroute.lab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
