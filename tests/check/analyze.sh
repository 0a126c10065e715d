#!/bin/bash
# Static analysis of the implementation: bare, with PUSHER_SOCKETS, with PUSHER_TLS.
# Usage: analyze.sh gcc|cppcheck|clang-tidy     any finding is a failure; none is suppressed but by
# clang-tidy.yml and cppcheck.txt, which say why.
set -u
cd "$(dirname "$0")/../.." || exit 1
mkdir -p build/analyze
files=tests/compile/implementation.c here=tests/check
status=0

all() { # all COMMAND...: for the three builds at the same time
    pids=
    for switch in '' -DPUSHER_SOCKETS -DPUSHER_TLS; do
        "$@" $switch >"build/analyze/$tool$switch.log" 2>&1 &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || status=1; done
    cat "build/analyze/$tool.log" "build/analyze/$tool"-D*.log | awk '!seen[$0]++'
}

gcc_analyzer() {
    for opt in -O0 -O2; do
        gcc -std=c99 ${CPPFLAGS:-} -I. -Wall -Wextra -Werror -fanalyzer $opt -c $files -o /dev/null "$@" || return 1
    done
}
run_cppcheck() { # the macros stand for headers of POSIX and mbedTLS, which it does not read
    cppcheck --quiet --std=c99 -I. --library=posix --enable=warning,performance,portability --error-exitcode=1 \
        --suppressions-list=$here/cppcheck.txt -DAI_NUMERICSERV=1 -DCLOCK_MONOTONIC=1 \
        -DMBEDTLS_SSL_CLI_C=1 -DMBEDTLS_X509_CRT_PARSE_C=1 "$@" $files
}
run_clang_tidy() { # pusher.h as the main file: the analyzer skips functions that stand in headers
    clang-tidy --quiet --config-file=$here/clang-tidy.yml pusher.h -- \
        -x c -std=c99 ${CPPFLAGS:-} -DPUSHER_IMPLEMENTATION "$@"
}

tool=$1
case $tool in
gcc) all gcc_analyzer ;;
cppcheck) all run_cppcheck ;;
clang-tidy) all run_clang_tidy ;;
*) echo "usage: analyze.sh gcc|cppcheck|clang-tidy" >&2; exit 2 ;;
esac
[ $status -eq 0 ] && echo "$tool: no findings"
exit $status
