#!/bin/bash
# Compiles pusher.h in every way a program may: compilers, standards, optimisation, switches.
# Prints the rows that fail, its progress and, last, "N passed, N failed".
# Usage: matrix.sh [WORD...]    only rows that hold one of the words, e.g. matrix.sh c++11 STATIC
# Compilers that are not installed are left out; -m32 needs gcc-multilib.
set -u
cd "$(dirname "$0")/../.." || exit 1
export out=build/compile
rm -rf "$out" && mkdir -p "$out"
export here=tests/compile
export WARNINGS='-Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror'
export LIBS='-lwslay -lmbedtls -lmbedx509 -lmbedcrypto -lpthread'

# A row: ACTION|COMPILER|FLAGS|FILE...   compile: object only. link: and a program. run: and run it.
row() { echo "$1|$2|$3|$4"; }

with() { command -v "$1" >/dev/null; }

# C compilers are asked for C++ by "-x c++"; then the linking is theirs too.
language() { case $1 in c++*) echo '-x c++' ;; *) echo '-x c' ;; esac; }
driver() { case $2 in c++*) case $1 in gcc) echo g++ ;; clang) echo clang++ ;; esac ;; *) echo "$1" ;; esac; }

rows() {
    for family in gcc clang; do
        with $family || { echo "compile: no $family here: its rows are left out" >&2; continue; }
        for std in c99 c11 c17 c++11 c++14 c++17 c++20; do
            cc=$(driver $family $std)
            with "$cc" || { echo "compile: no $cc here: $std is left out" >&2; continue; }
            base="$(language $std) -std=$std"
            for sockets in '' -DPUSHER_SOCKETS; do
                for opt in -O0 -O2; do
                    row compile "$cc" "$base $opt $sockets" implementation.c
                    row link "$cc" "$base $opt $sockets" static.c
                done
                row compile "$cc" "$base -O2 -DNDEBUG $sockets" implementation.c
                row compile "$cc" "$base -O0 $sockets" custom_assert.c
                row run "$cc" "$base -O0 $sockets" "implementation.c user.c"
            done
            row compile "$cc" "$base -O2 -DPUSHER_TLS" implementation.c
            row link "$cc" "$base -O0 -DPUSHER_TLS -DPUSHER_SOCKETS" static.c
            row compile "$cc" "$base -O0 -DPUSHER_TLS" order.c
            # The implementation is not the first include there: strict standards hide POSIX then.
            for sockets in '' '-DPUSHER_SOCKETS -D_DEFAULT_SOURCE'; do
                row compile "$cc" "$base -O0 $sockets" order.c
                row link "$cc" "$base -O0 $sockets" twice.c
            done
        done
        for char in -fsigned-char -funsigned-char; do
            row run $family "-x c -std=c99 -O2 $char -DPUSHER_SOCKETS" "implementation.c user.c"
        done
        row compile $family '-x c -std=c99 -O3 -DPUSHER_SOCKETS' implementation.c
        row compile $family '-x c -std=c99 -Os' implementation.c
        if with "$(driver $family c++)"; then
            row run "$(driver $family c++)" '-O2 -DPUSHER_SOCKETS' 'implementation.c:c++ user.c:c'
            row run "$(driver $family c++)" '-O2 -DPUSHER_SOCKETS' 'implementation.c:c user.c:c++'
            row compile "$(driver $family c++)" '-x c++ -fno-exceptions -fno-rtti' implementation.c
        fi
        if echo 'int main(void) { return 0; }' | $family -m32 -x c - -o "$out/m32" 2>/dev/null; then
            row compile $family '-m32 -x c -std=c99 -O2 -DPUSHER_SOCKETS' implementation.c
            row compile $family '-m32 -x c -std=c99 -O0' implementation.c
        fi
    done
}

compile_row() {
    IFS='|' read -r action cc flags files <<<"$1"
    id=$(printf '%s' "$1" | cksum | cut -d' ' -f1)
    log=$out/$id.log objects='' ok=yes
    for file in $files; do
        language=''
        case $file in *:c) language='-x c -std=c99' ;; *:c++) language='-x c++ -std=c++11' ;; esac
        object=$out/$id.${file%%.c*}.o objects="$objects $object"
        # shellcheck disable=SC2086 # flags are words
        $cc $flags $language ${CPPFLAGS:-} -I. $WARNINGS -c "$here/${file%%:*}" -o "$object" >>"$log" 2>&1 || ok=no
    done
    # shellcheck disable=SC2086
    if [ $ok = yes ] && [ "$action" != compile ]; then
        $cc ${LDFLAGS:-} $objects $LIBS -o "$out/$id.program" >>"$log" 2>&1 || ok=no
    fi
    if [ $ok = yes ] && [ "$action" = run ]; then
        timeout 20 "$out/$id.program" >>"$log" 2>&1 || ok=no
    fi
    rm -f $objects "$out/$id.program"
    echo $ok >"$out/$id.row"
    set -- "$out"/*.row
    [ $(($# % 50)) -ne 0 ] || echo "compile: $# of $total rows"
    [ $ok = yes ] && rm -f "$log" && return
    echo "FAILED $action $files: $cc $flags"
    grep -E 'error|warning|not so|undefined' "$log" | head -4 | sed 's/^/         /'
}
export -f compile_row

pattern=$(IFS='|'; echo "$*" | sed 's/+/\\+/g')
rows >"$out/rows"
grep -E -- "${pattern:-.}" "$out/rows" >"$out/wanted"
total=$(wc -l <"$out/wanted") && export total
tr '\n' '\0' <"$out/wanted" |
    xargs -0 -n 1 -P "${JOBS:-$(nproc)}" bash -c 'compile_row "$1"' _
cat "$out"/*.row 2>/dev/null |
    awk '/yes/ { p++ } /no/ { f++ } END { printf "%d passed, %d failed\n", p, f; exit f > 0 || p == 0 }'
