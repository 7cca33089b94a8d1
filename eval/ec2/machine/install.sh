#!/bin/sh
# Makes the release in the folder of this script the one that runs. As root, on a machine that user-data.yaml prepared:
#
#   tar -xz -C /opt/bazaar.new < release.tar.gz && /opt/bazaar.new/eval/ec2/machine/install.sh
#
# The data of an earlier release stays. DESTDIR stands before every path, for a trial elsewhere.
set -eu
new=$(cd "$(dirname "$0")/../../.." && pwd)
release=${DESTDIR:-}/opt/bazaar
data=${DESTDIR:-}/var/lib/bazaar
units=${DESTDIR:-}/etc/systemd/system

if [ -e "$units/bazaar.target" ]; then systemctl stop bazaar.target 'bazaar-*.service'; fi
rm -rf "$release"
mv "$new" "$release"
make -C "$release" install
"$release/.venv/bin/python" -m compileall -q "$release/services" # the services may not write there

mkdir -p "$data" "$units"
chmod 700 "$data"
chown bazaar: "$data"
cd "$release"
runuser -u bazaar -- "$release/.venv/bin/python" -m eval.ec2.cluster_file "$data"

cp "$release"/eval/ec2/machine/units/* "$units/"
systemctl daemon-reload
systemctl enable --now bazaar.target
