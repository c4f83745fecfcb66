"""`python -m roamroute.lab`: the same as `roamroute lab`."""

from __future__ import annotations

import argparse
import sys

from roamroute.lab.cli import add_arguments, main

if __name__ == "__main__":
    argument_parser = argparse.ArgumentParser(prog="roamroute lab")
    add_arguments(argument_parser)
    sys.exit(main(argument_parser.parse_args()))
