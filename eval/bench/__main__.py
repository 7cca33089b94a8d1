"""`python -m eval.bench` is `bazaar bench`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    main()
