"""`python -m tjit` is the command `tjit`."""

from __future__ import annotations

import sys

from tjit.cli import main

if __name__ == "__main__":
    sys.exit(main())
