"""``python -m cloudimg``."""

import sys

from cloudimg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
