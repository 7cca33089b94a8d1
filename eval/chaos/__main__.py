"""`python -m eval.chaos` is `bazaar chaos`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "chaos")
    main()
