"""`python -m millrace.launchers.processes N`: a worker, whose supervisor is at the other end of the socket N."""

import sys

from .children import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
