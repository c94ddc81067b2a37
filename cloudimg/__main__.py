"""``python -m cloudimg``."""

import sys

from cloudimg.cli import main

if __name__ == "__main__":
    sys.exit(main())
