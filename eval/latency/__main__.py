"""`python -m eval.latency` is `bazaar evaluate latency`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate", "latency"]
    main()
