"""`python -m services.cluster` is the `bazaar` command."""

from services.cluster.cli import main

if __name__ == "__main__":
    main()
