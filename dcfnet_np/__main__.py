"""`python -m dcfnet_np` is the `dcfnet` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
