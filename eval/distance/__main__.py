"""`python -m eval.distance` is `bazaar evaluate distance`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate", "distance"]
    main()
