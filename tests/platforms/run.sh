#!/bin/bash
# `make platforms`: the tests on every processor and C library of list.txt, emulated where this
# machine is another; and one hash of all traces that has to be the same everywhere.
# Usage: run.sh [NAME...]     only these lines of list.txt (and native, to compare with)
#   ZIG=path   also compiles and links for macOS (else only if there is a zig to be found)
# The libraries are built for each platform from the distribution's own sources, fetched with apt
# into build/platforms and kept there. Installs the compilers and emulators that are missing.
# What cannot be had with apt-get here counts as failed; without apt-get it is left out, and said.
# Ends with a table and "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
here=tests/platforms out=build/platforms root=$PWD
mkdir -p $out
passed=0 failed=0
say() { echo "platforms: $*"; }
bad() { failed=$((failed + 1)); say "FAILED: $*"; }

# ---- what to run -------------------------------------------------------------------------------

lines() { grep -v '^#' $here/list.txt | sed 's/ *| */|/g'; }
known=" $(lines | cut -d'|' -f1 | tr '\n' ' ')cxx macos windows "
wanted=" native $* "
[ $# -gt 0 ] || wanted=$known
for name in $wanted; do
    case $known in *" $name "*) ;; *) echo "platforms: no $name in list.txt; there are:$known" >&2; exit 2 ;; esac
done
is_wanted() { case $wanted in *" $1 "*) true ;; *) false ;; esac; }

# ---- compilers and emulators ---------------------------------------------------------------------

works() { # works COMPILER RUNNER: they are there, with a C library
    local cc=() run=() words=()
    read -ra cc <<<"$1"
    read -ra run <<<"$2"
    words=("${run[0]:-true}")
    case ${words[0]} in */board/run.sh) words=(qemu-system-arm) ;; esac
    command -v "${cc[0]}" >/dev/null && command -v "${words[0]}" >/dev/null &&
        echo '#include <stdio.h>' | "${cc[@]}" -E -x c - >/dev/null 2>&1
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

install() { # install PACKAGE...: false if one of them is not to be had
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
        >$out/install.txt 2>&1
}

missing=() names=() left_out=()
while IFS='|' read -r name _ packages compiler runner; do
    is_wanted "$name" || continue
    names+=("$name")
    # shellcheck disable=SC2206 # words
    works "$compiler" "$runner" || missing+=($packages)
done < <(lines)
if is_wanted cxx && ! command -v g++ >/dev/null; then missing+=(g++); fi
command -v xz >/dev/null || missing+=(xz-utils)
if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    say "installing ${missing[*]}"
    install "${missing[@]}" || { as_root apt-get update >/dev/null 2>&1; install "${missing[@]}"; } || {
        say "not all at once: $(grep -m1 '^E:' $out/install.txt); one by one"
        for package in "${missing[@]}"; do
            install "$package" || say "no $package: $(grep -m1 '^E:' $out/install.txt)"
        done
    }
fi

ready=()
while IFS='|' read -r name _ packages compiler runner; do
    is_wanted "$name" || continue
    if works "$compiler" "$runner"; then ready+=("$name")
    elif command -v apt-get >/dev/null; then bad "$name: the packages $packages did not bring ${compiler%% *}"
    else left_out+=("$name: no ${compiler%% *} here, and no apt-get to install it"); fi
done < <(lines)

# ---- sources of wslay, mbedTLS and cmocka -------------------------------------------------------

# apt with lists of its own: those of the system seldom have the sources switched on.
private_apt() {
    apt-get -o Dir::Etc::sourcelist="$root/$out/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$root/$out/apt/lists" -o Dir::Cache="$root/$out/apt/cache" "$@"
}

fetch() { # fetch PACKAGE PATTERN: the upstream archive; prints its name
    (cd $out/src && private_apt source --download-only "$1" >>../apt/log.txt 2>&1)
    find $out/src -maxdepth 1 -name "$2" | grep -m1 .
}

unpack() { # unpack ARCHIVE FOLDER [PART]: PART of what is in it becomes FOLDER
    rm -rf "$out/src/unpack" "${out:?}/src/$2"
    mkdir -p $out/src/unpack
    tar -xf "$1" -C $out/src/unpack && set -- "$2" $out/src/unpack/*/"${3:-}" && mv "$2" "$out/src/$1"
}

sources() {
    local archive
    [ -s $out/src/versions ] && return
    command -v apt-get >/dev/null || return
    say 'fetching the sources of mbedTLS, wslay and cmocka'
    mkdir -p $out/apt/lists/partial $out/apt/cache/archives/partial $out/src
    apt-get indextargets --format '$(ORIGIN) deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^\(Debian\|Ubuntu\) //p' | sort -u >$out/apt/sources.list
    private_apt update >$out/apt/log.txt 2>&1
    : >$out/src/found
    archive=$(fetch mbedtls 'mbedtls_*.orig.tar.*[xg]z') && unpack "$archive" mbedtls && echo "$archive" >>$out/src/found &&
        archive=$(fetch cmocka 'cmocka_*.orig.tar.*[xg]z') && unpack "$archive" cmocka && echo "$archive" >>$out/src/found ||
        return
    # aria2 brings wslay with it, in its newest state: where the package itself is not to be had.
    { archive=$(fetch wslay 'wslay_*.orig.tar.*[xg]z') && unpack "$archive" wslay; } ||
        { archive=$(fetch aria2 'aria2_*.orig.tar.*[xg]z') && unpack "$archive" wslay deps/wslay; } || return
    # Its build makes this file of a template.
    echo '#define WSLAY_VERSION "from source"' >$out/src/wslay/lib/includes/wslay/wslayver.h
    echo "$archive" >>$out/src/found
    sed 's,.*/,,' $out/src/found | paste -s -d' ' >$out/src/versions
}

sources
if [ ! -s $out/src/versions ]; then
    if command -v apt-get >/dev/null; then
        bad 'the sources of mbedTLS, wslay or cmocka could not be fetched:'
        grep -m3 -E '^[EW]:' $out/apt/log.txt
    else
        left_out+=('everything: the sources come with apt-get, which is not here')
    fi
    for line in ${left_out[@]+"${left_out[@]}"}; do say "left out: $line"; done
    echo "$passed passed, $failed failed"
    exit 1
fi
say "built from $(cat $out/src/versions)"

rm -rf $out/include && mkdir -p $out/include
ln -s ../src/mbedtls/include/mbedtls ../src/mbedtls/include/psa ../src/wslay/lib/includes/wslay \
    ../src/cmocka/include/cmocka.h $out/include/
jsmn=$(echo '#include <jsmn.h>' | ${CC:-cc} ${CPPFLAGS:-} -M -x c - | tr ' \\' '\n\n' | grep -m1 '/jsmn.h$')
ln -s "$(realpath "${jsmn:-/no/jsmn.h}")" $out/include/jsmn.h

# ---- run ----------------------------------------------------------------------------------------

rm -f $out/*/row
say "running ${ready[*]}"
printf '%s\0' "${ready[@]}" | xargs -0 -n 1 -P "${JOBS:-$(nproc)}" $here/one.sh
reference=$(awk '{ print $3 }' $out/native/row 2>/dev/null)

rows=()
row() { # row NAME WHAT PASSED FAILED HASH SECONDS
    passed=$((passed + $3)) failed=$((failed + $4))
    rows+=("$(printf '  %-13s %-28s %5d passed %3d failed  %-16s %5s s' "$@")")
}

for name in "${ready[@]}"; do
    what=$(lines | awk -F'|' -v name="$name" '$1 == name { print $2 }')
    [ "$name" = native ] && what="$(uname -m), $what"
    if ! read -r p f hash seconds <"$out/$name/row"; then
        row "$name" "$what" 0 1 - 0
        continue
    fi
    if [ "$hash" != "$reference" ] && [ "$hash" != - ]; then
        f=$((f + 1))
        say "FAILED: $name: the trace is $hash and not $reference; first difference:"
        diff $out/native/trace.txt "$out/$name/trace.txt" | head -3 | sed 's/^/    /'
    fi
    row "$name" "$what" "$p" "$f" "$hash" "$seconds"
done

# The library and the trace as C++, with the C libraries of the native platform.
cxx() {
    local std log start hash p f flags
    mkdir -p $out/cxx
    for std in c++11 c++17 c++20; do
        start=$(date +%s) log=$out/cxx/$std.txt p=0 f=0 hash=-
        flags="-x c++ -std=$std -O1 -w -D_DEFAULT_SOURCE -I. -Itests -I$out/include"
        # shellcheck disable=SC2086 # words
        if g++ $flags -DPUSHER_IMPLEMENTATION -DPUSHER_SOCKETS -c pusher.h -o $out/cxx/pusher.o >$log 2>&1 &&
            g++ $flags -c $here/trace.c -o $out/cxx/trace.o >>$log 2>&1 &&
            g++ $out/cxx/pusher.o $out/cxx/trace.o $out/native/libs.a -L$out/native -lwslay \
                -Wl,-rpath,$out/native -lpthread -o $out/cxx/trace >>$log 2>&1 &&
            timeout 300 $out/cxx/trace >>$log 2>&1; then
            hash=$(awk '$1 == "trace" { print $2 }' $log)
        fi
        if [ -n "$reference" ] && [ "$hash" = "$reference" ]; then p=1
        else f=1; say "FAILED: $std: $(grep -m1 -E 'error|undefined|FAILED' $log)"; fi
        row $std 'as C++, native' $p $f "${hash:--}" $(($(date +%s) - start))
    done
}
if is_wanted cxx && command -v g++ >/dev/null; then cxx
elif is_wanted cxx; then left_out+=('cxx: no g++'); fi

# macOS is compiled and linked; nothing here can run it.
macos() {
    local zig=$1 target file start log ok
    for target in aarch64-macos x86_64-macos; do
        start=$(date +%s) log=$out/macos/$target.txt ok=yes
        mkdir -p $out/macos/$target && : >$log
        export ZIG_LOCAL_CACHE_DIR=$PWD/$out/macos/cache ZIG_GLOBAL_CACHE_DIR=$PWD/$out/macos/cache
        compile() { "$zig" cc -target $target -O1 -w -I. -Itests -isystem $out/include "$@" >>$log 2>&1; }
        for file in $out/src/mbedtls/library/*.c $out/src/wslay/lib/*.c; do
            compile -DHAVE_ARPA_INET_H -I$out/src/mbedtls/include -c "$file" \
                -o "$out/macos/$target/$(basename "$file" .c).o" || ok=no
        done
        compile -DHAVE_INTTYPES_H -DHAVE_SIGNAL_H -c $out/src/cmocka/src/cmocka.c -I$out/src/cmocka/include \
            -o $out/macos/$target/cmocka.o || ok=no
        compile -std=c99 -Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Werror \
            -DPUSHER_IMPLEMENTATION -DPUSHER_SOCKETS -DPUSHER_TLS -x c -c - -o $out/macos/$target/pusher.o \
            <<<'#include "pusher.h"' || ok=no
        compile -std=c99 -D_DARWIN_C_SOURCE -c $here/trace.c -o $out/macos/$target/trace.o || ok=no
        compile $out/macos/$target/*.o -o $out/macos/trace-$target || ok=no
        if [ $ok = yes ]; then row $target 'linked only' 1 0 - $(($(date +%s) - start))
        else
            say "FAILED: $target: $(grep -m1 -E 'error|undefined' $log)"
            row $target 'linked only' 0 1 - $(($(date +%s) - start))
        fi
    done
}
zig=${ZIG:-$(command -v zig)}
if is_wanted macos && [ -n "$zig" ]; then macos "$zig"
elif is_wanted macos; then left_out+=('macos: no zig (a 355 MB download): give ZIG=path'); fi

# Windows has a script of its own.
if is_wanted windows && [ -x tests/check/windows.sh ]; then
    start=$(date +%s)
    say 'running windows'
    tests/check/windows.sh >$out/windows.txt 2>&1
    status=$?
    read -r p f < <(awk '/^[0-9]+ passed, [0-9]+ failed/ { p = $1; f = $3 } END { print p + 0, f + 0 }' $out/windows.txt)
    [ $status -eq 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$f" -eq 0 ] || tail -20 $out/windows.txt
    row windows 'under Wine' "$p" "$f" - $(($(date +%s) - start))
elif is_wanted windows; then left_out+=('windows: no tests/check/windows.sh'); fi

# ---- the table -----------------------------------------------------------------------------------

printf '%s\n' "${rows[@]}"
for line in ${left_out[@]+"${left_out[@]}"}; do say "left out: $line"; done
say "the trace of all scenarios: ${reference:-none}"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
