"""`python -m roamroute`."""

import sys

from roamroute.cli import main

sys.exit(main())
