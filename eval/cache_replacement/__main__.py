"""`python -m eval.cache_replacement` is `bazaar evaluate cache`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate", "cache"]
    main()
