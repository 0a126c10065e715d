#!/bin/sh
# Runs the benchmarks in the order of what they tell. BENCH_QUICK=1 makes all of it short.
# Usage: run.sh [DIRECTORY OF PROGRAMS]
set -eu
programs=${1:-build/bench}

printf 'bench: %s, %s processors, load %s\n' "$(uname -sm)" "$(getconf _NPROCESSORS_ONLN)" \
    "$(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown)"
for name in pipeline floor loopback idle channels lookup growth poll hostile allocations; do
    "$programs/$name"
done
