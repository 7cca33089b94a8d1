"""`python -m eval.scaling` is `bazaar evaluate scaling`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate", "scaling"]
    main()
