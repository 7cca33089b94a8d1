"""The `bazaar` command: starts, supervises, shows and breaks the services, and checks the result."""
