"""`python -m eval.crash` is `bazaar evaluate crash`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate", "crash"]
    main()
