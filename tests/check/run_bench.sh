#!/bin/sh
# Runs the benchmark programs one after the other. Usage: run_bench.sh PROGRAM...
# A time never fails here: each row prints its own goal. A program that breaks does.
set -u
mkdir -p build/log
[ $# -gt 0 ] || { echo "bench: no benchmarks in tests/bench yet"; exit 0; }
bad=0
for program; do
    "$program" || { echo "bench: $program ended with status $?" >&2; bad=$((bad + 1)); }
done
[ $bad -eq 0 ]
