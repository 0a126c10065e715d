#!/bin/bash
# pusher.h on Windows: compiled by mingw-w64 without a warning, and the tests run under Wine.
# Usage: windows.sh       everything it makes is in build/windows
# Nobody packages wslay, mbedTLS and cmocka for mingw: their sources come through apt-get source
# (Debian and its kin), to be compiled here. wslay's may also be found in aria2, which carries it.
# Tests that are about POSIX itself are named and left out; the sockets room has its own on
# Windows, tests/windows/sockets.c, with a client that talks to the server on this side.
set -u
cd "$(dirname "$0")/../.." || exit 1
tests/check/deps.sh demo windows || exit 1
root=$PWD/build/windows triple=x86_64-w64-mingw32
mkdir -p "$root/include" "$root/tests"
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}
libs="$root/libdeps.a -lws2_32 -lbcrypt -ladvapi32 -lcrypt32 -lpthread"
warnings='-Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror'

complain() { echo "windows: $*" >&2; exit 1; }

# ---- what it stands on --------------------------------------------------------------------------

# apt-get with the machine's own sources as places of source packages, and lists of its own.
apt() {
    apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$root/parts" \
        -o Dir::State::lists="$root/lists" -o APT::Sandbox::User=root "$@"
}

source_lists() {
    mkdir -p "$root/src" "$root/obj" "$root/lists" "$root/parts"
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$f" ] && sed -n 's/^deb /deb-src /p' "$f" >"$root/parts/$(basename "$f" .list).list"
    done
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -f "$f" ] && sed 's/^Types:.*/Types: deb-src/' "$f" >"$root/parts/$(basename "$f")"
    done
    apt update >"$root/apt.log" 2>&1
}

# fetch NAME PACKAGE: unpacks the upstream tar of a source package into src/NAME
fetch() {
    (cd "$root/src" && apt source --download-only "$2") >>"$root/apt.log" 2>&1 || return 1
    mkdir -p "$root/src/$1"
    rm -f "$root"/src/*.asc
    tar -xf "$root"/src/"$2"_*.orig.tar.?z* -C "$root/src/$1" --strip-components=1
}

get_sources() {
    command -v apt-get >/dev/null || complain 'needs the source packages of apt-get'
    source_lists || complain "no lists of source packages: see $root/apt.log"
    for name in mbedtls cmocka; do
        fetch $name $name || complain "no source of $name: see $root/apt.log"
    done
    fetch wslay wslay && return
    fetch aria2 aria2 || complain "no source of wslay: see $root/apt.log"
    rm -rf "$root/src/wslay" && cp -r "$root/src/aria2/deps/wslay" "$root/src/wslay"
}

# compile FLAGS -- FILE...: objects into obj/
compile() {
    flags=
    while [ "$1" != -- ]; do flags="$flags $1"; shift; done
    shift
    printf '%s\n' "$@" | xargs -P "$jobs" -I{} sh -c \
        "$triple-gcc -O1 $flags -c {} -o $root/obj/\$(basename {} .c).o"
}

# wslay's frame layer swaps bytes with Winsock's htonl() and its kin.
build_deps() {
    [ -f "$root/libdeps.a" ] && return
    get_sources
    src=$root/src inc=$root/include
    cp -r "$src/wslay/lib/includes/wslay" "$src/mbedtls/include/mbedtls" "$src/mbedtls/include/psa" \
        "$src"/cmocka/include/*.h "$inc"
    [ -f "$inc/wslay/wslayver.h" ] || cp /usr/include/wslay/wslayver.h "$inc/wslay"
    # shellcheck disable=SC2086 # flags are words
    printf '#include <jsmn.h>\n' | ${CC:-cc} ${CPPFLAGS:-} -DJSMN_HEADER -E - |
        sed -n 's/^# [0-9]* "\(.*jsmn\.h\)".*/\1/p' | head -1 | xargs -I{} cp {} "$inc"
    { # shellcheck disable=SC2046 # no spaces in these names
        compile -I"$inc" -DHAVE_WINSOCK2_H -- "$src"/wslay/lib/*.c &&
        compile -I"$inc" -I"$src/mbedtls/library" -- \
            $(find "$src/mbedtls/library" -name '*.c' ! -name net_sockets.c) &&
        compile -I"$inc" -DHAVE_INTTYPES_H -DHAVE_SIGNAL_H -DHAVE_MALLOC_H -DHAVE_STRUCT_TIMESPEC \
            -DHAVE_GCC_THREAD_LOCAL_STORAGE -- "$src/cmocka/src/cmocka.c"
    } >"$root/deps.log" 2>&1 || complain "the libraries do not compile: see $root/deps.log"
    $triple-ar rcs "$root/libdeps.a" "$root"/obj/*.o && rm -rf "$root/src" "$root/obj"
}

# ---- compiled, in every language ----------------------------------------------------------------

compile_header() { # compile_header COMPILER STANDARD LANGUAGE
    command -v "$1" >/dev/null || { echo "not tried: $1"; return; }
    for switches in '' -DPUSHER_SOCKETS '-DPUSHER_SOCKETS -DPUSHER_TLS -DPUSHER_STATIC'; do
        # shellcheck disable=SC2086 # switches and warnings are words
        "$1" -std="$2" $warnings -I. -isystem "$root/include" -DPUSHER_IMPLEMENTATION $switches \
            -x "$3" -c pusher.h -o "$root/pusher.o" || { failed=$((failed + 1)); return; }
    done
    echo "no warnings: $1 -std=$2"
}

compile_all() {
    for standard in c99 c11 c17; do compile_header $triple-gcc $standard c; done
    for standard in c++11 c++17 c++20; do compile_header $triple-g++ $standard c++; done
    compile_header i686-w64-mingw32-gcc c99 c # other calling conventions
}

# ---- and run ------------------------------------------------------------------------------------

# What is of POSIX, and libsodium, which is not built here.
ELSEWHERE='#include <(dlfcn|poll|pthread|unistd|netdb|sys/[a-z]*|arpa/[a-z]*|sodium)\.h>|"server/server\.h"'

build_one() { # build_one FILE: into tests/, by the name that make gives it
    case $1 in
    tests/unit/*|tests/windows/*|tests/api/tls.c) with= ;; # with an implementation of their own
    *) with=$root/pusher.o ;;
    esac
    name=$(echo "$1" | sed 's/^tests\///; s/\//_/; s/\.c$//')
    # shellcheck disable=SC2086 # with and libs are words
    $triple-gcc -std=c99 -g -O1 -Wall -Wextra -Wno-format -D_DEFAULT_SOURCE -D__USE_MINGW_ANSI_STDIO=1 -I. -Itests \
        -isystem "$root/include" "$1" $with $libs -o "$root/tests/$name.exe" ||
        { echo "does not compile: $1"; return 1; }
}
export -f build_one
export root triple libs

build_tests() {
    rm -f "$root"/tests/*.exe
    $triple-gcc -std=c99 -g -O1 -I. -isystem "$root/include" -DPUSHER_IMPLEMENTATION -DPUSHER_SOCKETS \
        -x c -c pusher.h -o "$root/pusher.o" || complain 'pusher.h does not compile'
    files=
    for f in tests/unit/*.c tests/api/*.c tests/anomaly/*.c; do
        if grep -Eq "$ELSEWHERE" "$f"; then echo "left out, it needs what is not here: $f"; else files="$files $f"; fi
    done
    # shellcheck disable=SC2086
    printf '%s\n' $files tests/windows/*.c | xargs -P "$jobs" -I{} bash -c 'build_one {}' ||
        failed=$((failed + 1))
}

start_server() { # its port in $port, its process in $server
    ${MAKE:-make} -s --no-print-directory build/pusher-server || complain 'no server'
    build/pusher-server --port 0 --ipv6 --quiet --tick chat:message:20 >"$root/server.log" 2>&1 &
    server=$!
    trap 'kill $server 2>/dev/null' EXIT
    for _ in $(seq 100); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$root/server.log" | head -1)
        [ -n "$port" ] && return
        sleep 0.1
    done
    complain 'the server does not start'
}

run_tests() {
    export WINEPREFIX=$root/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml='
    start_server
    # One wineserver for all: a program that starts while one ends would go with it.
    wineserver --wait && wineserver --persistent=10
    timeout 120 wine cmd /c exit >/dev/null 2>&1 # the first start takes long
    export PORT=$port
    RUN_UNDER=wine TEST_SECONDS=200 tests/check/run_tests.sh build/log/windows "$root"/tests/*.exe ||
        failed=$((failed + 1))
}

failed=0
build_deps
compile_all
build_tests
run_tests
[ $failed -eq 0 ] || { echo "windows: failed"; exit 1; }
