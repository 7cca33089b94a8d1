"""Writes cluster.json for services that systemd started, so that `bazaar verify` finds them.

On the machine, as the services' user: `python -m eval.ec2.cluster_file /var/lib/bazaar`.
"""

import sys
from pathlib import Path

from services.cluster.folder import write_cluster
from services.cluster.topology import Cluster, Settings, plan


def cluster() -> Cluster:
    """The services that the units start: those of `bazaar up` with its defaults."""
    return plan(Settings())


if __name__ == "__main__":
    write_cluster(Path(sys.argv[1]), cluster())
