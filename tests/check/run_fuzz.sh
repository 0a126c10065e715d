#!/bin/sh
# Runs each fuzz target for FUZZ_SECONDS (60). Usage: run_fuzz.sh NAME...
# Starts from tests/fuzz/corpus/NAME and tests/fuzz/NAME.dict where they exist; what it finds new
# stays in build/fuzz/corpus/NAME, what breaks the target in build/fuzz/NAME-crash-...
set -u
[ $# -gt 0 ] || { echo "fuzz: there are no targets in tests/fuzz yet"; exit 0; }
passed=0 failed=0
for name; do
    found=build/fuzz/corpus/$name seeds=tests/fuzz/corpus/$name dict=tests/fuzz/$name.dict
    mkdir -p "$found" build/log
    [ -d "$seeds" ] || seeds=
    [ -f "$dict" ] && dict=-dict=$dict || dict=
    # shellcheck disable=SC2086 # no seeds, no word
    if "build/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$name-" $dict "$found" $seeds >"build/log/fuzz_$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok     $name: $(awk '/number_of_executed_units/ { print $2 }' "build/log/fuzz_$name.log") inputs"
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        grep -E 'ERROR|SUMMARY|Test unit written' "build/log/fuzz_$name.log" | sed 's/^/         /'
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
