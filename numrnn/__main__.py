"""``python -m numrnn`` is the command ``numrnn``, also where no script of that name is on the path."""

import sys

from numrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
