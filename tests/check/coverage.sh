#!/bin/sh
# Prints what of pusher.h the tests of build/cov executed; the page per line is build/coverage.html.
# Asserts are compiled out there: their failing branch is not meant to be reached.
set -u
gcovr --root . --filter 'pusher\.h$' --exclude-unreachable-branches --print-summary \
    --html-details build/coverage.html --txt build/coverage.txt build/cov >build/log/coverage.txt 2>&1 ||
    { tail -5 build/log/coverage.txt; exit 1; }
grep -E '^(lines|branches|functions):' build/log/coverage.txt | sed 's/^/pusher.h: /'
echo 'each line: build/coverage.html'
