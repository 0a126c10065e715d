#!/bin/bash
# Runs cmocka programs and sums their counts.
# Usage: run_tests.sh LOGDIR PROGRAM...
#   RUN_UNDER=command   in front of each program (valgrind ...)
#   TEST_SECONDS=300    time limit for each program
#   TEST_JOBS=1         programs at a time. One: some tests measure real time.
# One line for each program, with the "N schedules" it counted, the tests that failed below it, last
# "N passed, N failed". A program that crashes, hangs or runs no test is one failure.
set -u
logs=$1; shift
export logs RUN_UNDER=${RUN_UNDER:-} TEST_SECONDS=${TEST_SECONDS:-300}
mkdir -p "$logs" && rm -f "$logs"/*.log "$logs"/*.count
# A leak or an overflow ends the program at once and says where.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

run_one() {
    program=$1 name=$(basename "$1") log=$logs/$(basename "$1").log
    start=$(date +%s%N)
    # shellcheck disable=SC2086 # RUN_UNDER is words
    { timeout --kill-after=10 "$TEST_SECONDS" $RUN_UNDER "$program" >"$log" 2>&1 </dev/null; } 2>/dev/null
    status=$?
    tenths=$((($(date +%s%N) - start) / 100000000))
    passed=$(awk '/\[  PASSED  \] [0-9]+ test/ { n += $4 } END { print n + 0 }' "$log")
    failed=$(awk '/\[  FAILED  \].* [0-9]+ test\(s\), listed below/ {
                      sub(/ test\(s\).*/, ""); n += $NF } END { print n + 0 }' "$log")
    why=
    if [ $status -eq 124 ] || [ $status -eq 137 ]; then why="not finished after $TEST_SECONDS s"
    elif [ $status -eq 99 ] && [ -n "$RUN_UNDER" ]; then why="error found by ${RUN_UNDER%% *}"
    elif grep -q '[a-z]Sanitizer: \|runtime error: ' "$log"; then why='error found by a sanitizer'
    elif [ $status -ge 128 ]; then why="killed by signal $((status - 128))"
    elif [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then why="ended with status $status"
    elif [ $((passed + failed)) -eq 0 ]; then why='ran no tests'
    fi
    [ -z "$why" ] || failed=$((failed + 1))
    echo "$passed $failed" >"$logs/$name.count"
    note=$(grep '^[0-9][0-9]* schedules' "$log" | tail -1)
    verdict=ok; [ "$failed" -eq 0 ] || verdict=FAILED
    printf '%-6s %4d passed %3d failed %6d.%d s  %s%s\n' $verdict "$passed" "$failed" \
        $((tenths / 10)) $((tenths % 10)) "$name" "${note:+, $note}${why:+: $why}"
    [ "$failed" -eq 0 ] && return
    grep -E '\[  FAILED  \] [^ ]+$|: error: |runtime error|ERROR: .*Sanitizer|SUMMARY|^==[0-9]+== [A-Z]|Assertion' "$log" |
        awk '!seen[$0]++' | head -20 | sed 's/^/         /'
    echo "         all of it: $log"
}
export -f run_one

[ $# -gt 0 ] && printf '%s\0' "$@" | xargs -0 -n 1 -P "${TEST_JOBS:-1}" bash -c 'run_one "$1"' _
cat "$logs"/*.count 2>/dev/null |
    awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }'
