# shellcheck shell=bash
# Sourced by check.sh and .ci/run: runs commands, goes on after a failure, adds up what they count.
#   gate NAME COMMAND...   a gate whose output has "N passed, N failed" counts for what the last
#                          such line says, any other for one
#   gates_end              prints "N passed, N failed"; false if anything failed
# GATE_SHOW=1 shows all output as it comes. Otherwise it is shown when the gate fails.
# Everything is kept in build/log/NAME.log.
gates_passed=0 gates_failed=0 gates_bad=''
mkdir -p build/log

gate() {
    gate_name=$1; shift
    gate_log=build/log/$gate_name.log gate_start=$(date +%s)
    if [ -n "${GATE_SHOW:-}" ]; then
        echo "== $gate_name: $*"
        timeout --kill-after=30 "${GATE_SECONDS:-1800}" "$@" </dev/null 2>&1 | tee "$gate_log"
        gate_status=${PIPESTATUS[0]}
    else
        timeout --kill-after=30 "${GATE_SECONDS:-1800}" "$@" </dev/null >"$gate_log" 2>&1
        gate_status=$?
    fi
    read -r gate_p gate_f <<<"$(awk '/^[0-9]+ passed, [0-9]+ failed/ { p = $1; f = $3; seen = 1 }
        END { if (seen) print p, f; else print "none none" }' "$gate_log")"
    if [ "$gate_p" = none ]; then
        gate_p=$((gate_status == 0)) gate_f=$((gate_status != 0))
    elif [ "$gate_status" -ne 0 ] && [ "$gate_f" -eq 0 ]; then
        gate_f=1 # it counted no failure, but broke all the same
    fi
    gates_passed=$((gates_passed + gate_p)) gates_failed=$((gates_failed + gate_f))
    gate_verdict=ok; [ "$gate_f" -eq 0 ] || { gate_verdict=FAILED; gates_bad="$gates_bad $gate_name"; }
    [ $gate_verdict = ok ] || [ -n "${GATE_SHOW:-}" ] || tail -40 "$gate_log" | sed 's/^/    /'
    gate_why=; [ "$gate_status" -ne 124 ] || gate_why=" (not finished after ${GATE_SECONDS:-1800} s)"
    printf '%-6s %-16s %5d passed %4d failed %5d s%s\n' $gate_verdict "$gate_name" "$gate_p" "$gate_f" \
        $(($(date +%s) - gate_start)) "$gate_why"
}

gates_end() {
    [ -z "$gates_bad" ] || echo "failed:$gates_bad (whole output: build/log/)"
    echo "$gates_passed passed, $gates_failed failed"
    [ "$gates_failed" -eq 0 ] && [ "$gates_passed" -gt 0 ]
}
