#!/bin/bash
# `make check`: everything about pusher.h that can be seen without a test of its behaviour, and the
# tests once more under valgrind. One line for each part, then "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/check/gate.sh
gate compile tests/compile/matrix.sh
gate symbols tests/compile/symbols.sh
gate rooms tests/rooms.sh
gate gcc-analyzer tests/check/analyze.sh gcc
gate cppcheck tests/check/analyze.sh cppcheck
gate clang-tidy tests/check/analyze.sh clang-tidy
gate valgrind "${MAKE:-make}" --no-print-directory valgrind
gates_end
