#!/bin/sh
# Writes a tar to standard output: the logs of all services, what the machine is, and what `bazaar verify` says.
# DESTDIR: as in install.sh.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/logs"

for name in bazaar-catalog bazaar-order@1 bazaar-order@2 bazaar-order@3 bazaar-front-end; do
  journalctl --no-pager --output=cat "_SYSTEMD_UNIT=$name.service" > "$folder/logs/$name.log"
  # What systemd says of it: every start, every end.
  journalctl --no-pager --output=short-iso-precise "UNIT=$name.service" > "$folder/logs/$name.systemd.log"
done
cp "${DESTDIR:-}/var/log/cloud-init-output.log" "$folder/logs/" || true
{ uname -a; lscpu; free -h; df -h /; } > "$folder/machine.txt"

cd "${DESTDIR:-}/opt/bazaar"
runuser -u bazaar -- .venv/bin/bazaar verify --json --data-dir "${DESTDIR:-}/var/lib/bazaar" > "$folder/verify.json" || true
tar -c -C "$folder" .
