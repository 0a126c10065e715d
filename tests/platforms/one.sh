#!/bin/bash
# Builds and runs everything for one line of list.txt. Usage: one.sh NAME
# In build/platforms/NAME: the libraries, the programs, log/ with what each printed, trace.txt, and
# "row": PASSED FAILED HASH SECONDS. Its output tells only what failed.
set -u
cd "$(dirname "$0")/../.." || exit 1
name=$1
IFS='|' read -r _ _ _ compiler runner < <(grep "^$name  *|" tests/platforms/list.txt)
read -ra cc <<<"$compiler"
read -ra run <<<"$runner"
out=build/platforms/$name src=build/platforms/src
mkdir -p "$out/log" "$out/obj"
rm -f "$out"/row "$out"/trace.txt "$out"/log/*
start=$(date +%s)
log=$out/log/build.txt
flags=(-std=c99 -D_DEFAULT_SOURCE -O1 -g -I. -Itests -isystem build/platforms/include)
bare=no; [ "$name" = cortex-m3 ] && bare=yes
static=$bare; case " $compiler " in *' -static '*) static=yes ;; esac
passed=0 failed=0 hash=-

bad() { # bad SENTENCE [LOG]
    failed=$((failed + 1))
    echo "  FAILED $name: $1"
    [ -z "${2:-}" ] || { grep -m4 -E 'error|undefined|cannot' "$2" || tail -3 "$2"; } | sed 's/^/         /'
}

end() {
    echo "$passed $failed $hash $(($(date +%s) - start))" >"$out/row"
    exit $((failed > 0))
}

# ---- the libraries, from their sources; kept from one run to the next ------------------------------

libraries() {
    local ar wslay=() pic=(-fPIC) file
    ar=$("${cc[@]}" -print-prog-name=ar)
    rm -f "$out"/lib*
    echo | "${cc[@]}" -dM -E - | grep -q '__BYTE_ORDER__ __ORDER_BIG' && wslay+=(-DWORDS_BIGENDIAN)
    if [ $bare = yes ]; then # newlib has no <arpa/inet.h>
        pic=()
        wslay+=('-Dhtons=__builtin_bswap16' '-Dntohs=__builtin_bswap16' '-Dntohl=__builtin_bswap32')
    else
        wslay+=(-DHAVE_ARPA_INET_H)
    fi
    # Of mbedTLS, whatever compiles: without an operating system its sockets and clocks do not.
    for file in "$src"/mbedtls/library/*.c; do
        "${cc[@]}" -O1 -w "${pic[@]}" -I"$src/mbedtls/include" -c "$file" \
            -o "$out/obj/$(basename "$file" .c).o" 2>>"$log" || rm -f "$out/obj/$(basename "$file" .c).o"
    done
    "${cc[@]}" -O1 -w "${pic[@]}" -DHAVE_INTTYPES_H -DHAVE_SIGNAL_H -DHAVE_STRINGS_H -I"$src/cmocka/include" \
        -c "$src/cmocka/src/cmocka.c" -o "$out/obj/cmocka.o" 2>>"$log" || return 1
    "$ar" rcs "$out/libs.a" "$out"/obj/*.o || return 1
    rm -f "$out"/obj/*.o
    for file in "$src"/wslay/lib/*.c; do
        "${cc[@]}" -O1 -w "${pic[@]}" "${wslay[@]}" -I"$src/wslay/lib/includes" -Ibuild/platforms/include \
            -c "$file" -o "$out/obj/$(basename "$file" .c).o" 2>>"$log" || return 1
    done
    # A shared library where there are such things: one test puts itself before a function of it.
    if [ $static = yes ]; then "$ar" rcs "$out/libwslay.a" "$out"/obj/*.o
    else "${cc[@]}" -shared "$out"/obj/*.o -o "$out/libwslay.so" 2>>"$log"; fi || return 1
    rm -f "$out"/obj/*.o
}

stamp="$(cat "$src/versions") $("${cc[@]}" --version | head -1) $compiler $(declare -f libraries | cksum)"
if [ "$stamp" != "$(cat "$out/stamp" 2>/dev/null)" ]; then
    libraries 2>>"$log" || { bad 'the libraries do not compile' "$log"; end; }
    echo "$stamp" >"$out/stamp"
    echo "  $name: libraries built, $(($(date +%s) - start)) s"
fi

# ---- the programs ------------------------------------------------------------------------------

board=() sockets=-DPUSHER_SOCKETS
if [ $bare = yes ]; then
    sockets=''
    flags+=(-include sys/types.h) # newlib's <inttypes.h> leaves out what is for 64 bits without it
    "${cc[@]}" "${flags[@]}" -c tests/platforms/board/start.c -o "$out/obj/start.o" 2>>"$log" ||
        { bad 'the start code does not compile' "$log"; end; }
    board=("$out/obj/start.o" -nostartfiles -T tests/platforms/board/board.ld
        -Wl,--wrap=printf -Wl,--wrap=vprintf -Wl,--wrap=snprintf -Wl,--wrap=vsnprintf)
fi
libs=("$out/libs.a" -L"$out" -lwslay "-Wl,-rpath,$PWD/$out" -lm)
[ $bare = yes ] || libs+=(-lpthread -ldl)

object() { # object NAME FLAGS... FILE
    local to=$out/obj/$1.o; shift
    "${cc[@]}" "${flags[@]}" "$@" -o "$to" 2>"$log"
}

# Nobody else compiles it for this target, so warnings are errors here, as on the usual ones.
warnings=(-Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror)
# shellcheck disable=SC2086 # no word when empty
object pusher "${warnings[@]}" -DPUSHER_IMPLEMENTATION $sockets -x c -c pusher.h ||
    { bad 'pusher.h does not compile' "$log"; end; }
helpers=("$out/obj/pusher.o")
if [ $bare = no ]; then
    for file in tests/server/*.c; do
        part=$(basename "$file" .c)
        case $part in main | selftest) continue ;; esac
        object "server_$part" -c "$file" || bad "$file does not compile" "$log"
        helpers+=("$out/obj/server_$part.o")
    done
fi
rm -f "$out/libtest.a"
"$("${cc[@]}" -print-prog-name=ar)" rcs "$out/libtest.a" "${helpers[@]}"

link() { # link OBJECT PROGRAM
    "${cc[@]}" "$1" ${board[@]+"${board[@]}"} "$out/libtest.a" "${libs[@]}" -o "$2" 2>>"$log"
}

if object trace -c tests/platforms/trace.c && link "$out/obj/trace.o" "$out/trace"; then
    if timeout 300 ${run[@]+"${run[@]}"} "$out/trace" >"$out/trace.txt" 2>&1 </dev/null; then
        passed=$((passed + 1))
        hash=$(awk '$1 == "trace" { print $2 }' "$out/trace.txt")
    else
        bad "the trace ended with $?"
        grep -E 'FAILED|qemu|ssert' "$out/trace.txt" | head -3 | sed 's/^/         /'
    fi
else
    bad 'the trace does not build' "$log"
fi

# Without an operating system only what needs none. Where nothing is shared, nobody can stand before
# a function of wslay. The two that try every cut and every failing call take minutes on an emulated
# processor and ask nothing of it that the trace does not; natively, `make test` runs the cuts. Of
# the random schedules a few will do.
wanted() {
    # Floods need more memory than the board has, and mbedTLS reads certificates with a file system
    # and a calendar.
    case $bare$1 in yestests/api/websocket.c | yestests/*/tls.c) return 1 ;; esac
    case $1 in
    */splits.c) [ -z "$runner" ] && [ "$name" != native ] || return 1 ;;
    */hooks.c) [ -z "$runner" ] || return 1 ;;
    */simulate.c) [ $bare = no ] || return 1 ;;
    */simulate_many.c | */two_cuts.c) return 1 ;;
    esac
    # There is no libsodium to compare with.
    ! grep -q '#include <sodium.h>' "$1" || return 1
    [ $static = no ] || ! grep -q '#include <dlfcn.h>' "$1" || return 1
    [ $bare = no ] || ! grep -qE '#include (<(pthread|poll|fcntl|netdb)\.h>|<(sys|netinet|arpa)/|"server)' "$1"
}

programs=()
for file in tests/unit/*.c tests/api/*.c tests/anomaly/*.c tests/server/selftest.c; do
    wanted "$file" || continue
    test=${file#tests/} test=${test//\//_} test=${test%.c}
    if object "$test" -c "$file" && link "$out/obj/$test.o" "$out/$test"; then
        programs+=("$out/$test")
    else
        bad "$file does not build" "$log"
    fi
    rm -f "$out/obj/$test.o"
done
echo "  $name: ${#programs[@]} test programs built, $(($(date +%s) - start)) s"
SIMULATE_SEEDS=300 RUN_UNDER="$runner" tests/check/run_tests.sh "$out/log" "${programs[@]}" >"$out/tests.txt" 2>&1
awk '/^FAILED/ || (shown && /^ /); { shown = /^FAILED/ || (shown && /^ /) }' "$out/tests.txt" | sed "s/^/  $name: /"
read -r p f < <(awk '/^[0-9]+ passed, [0-9]+ failed/ { print $1, $3 }' "$out/tests.txt")
passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
end
