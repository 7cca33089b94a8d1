"""`python -m eval.demo` is `bazaar demo`."""

import sys

from services.cluster.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["demo"]
    main()
