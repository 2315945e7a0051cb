"""`python -m zdckeras` is the command `zdckeras`."""

import sys

from zdckeras.cli import main

sys.exit(main())
