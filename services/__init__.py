"""The services of the bazaar: catalog, order replicas, front-ends, and the cluster that runs them."""
