#!/bin/sh
# No log of the tests may hold a secret of theirs: whatever is printed there has been through a log,
# an error text or a trace. The secrets stand in secrets.txt beside this file, one a line.
# Usage: secrets.sh LOGDIR    silent if there is none
set -u
list=$(dirname "$0")/secrets.txt
[ -s "$list" ] || { echo "secrets: no list" >&2; exit 2; }
set -- "$1"/*.log
[ -r "$1" ] || { echo "secrets: no logs to search" >&2; exit 2; }
grep -n -F -f "$list" -- "$@" | cut -c1-200
if grep -q -F -f "$list" -- "$@"; then
    echo "FAILED secrets: a log has a secret in it (above)"
    exit 1
fi
