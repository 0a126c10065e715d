#!/bin/sh
# Installs what a make target needs and does not find; says nothing when all is there.
# Usage: deps.sh GROUP...     groups: demo test examples check fuzz coverage interop bench
#                             windows size
# What counts is whether a thing works (a compile, a command), not which package it came from;
# CC, CPPFLAGS and LDFLAGS are respected, so a jsmn.h in a folder of your own is found.
set -u
: "${CC:=cc}" "${CPPFLAGS:=}" "${LDFLAGS:=}"
groups=" $* "
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# group | what it is called | how to test it | apt | dnf | apk | pacman | brew       
# - is not packaged, and a failure; ~ is not packaged, and then done without.
# "c HEADER LIBS" compiles and links; "run COMMAND" is a command that must work.
table='
demo|a C compiler|run command -v $CC|gcc|gcc|gcc|gcc|gcc
demo|stdio.h|c stdio.h|libc6-dev|glibc-devel|musl-dev|glibc|-
demo|wslay/wslay.h|c wslay/wslay.h -lwslay|libwslay-dev|wslay-devel|wslay-dev|wslay|wslay
demo|jsmn.h|c jsmn.h|libjsmn-dev|jsmn-devel|-|-|jsmn
test|mbedtls/ssl.h|c mbedtls/ssl.h -lmbedtls -lmbedx509 -lmbedcrypto|libmbedtls-dev|mbedtls-devel|mbedtls-dev|mbedtls|mbedtls@3
demo|mbedtls/md.h|c mbedtls/md.h -lmbedcrypto|libmbedtls-dev|mbedtls-devel|mbedtls-dev|mbedtls|mbedtls@3
test|cmocka.h|c cmocka.h -lcmocka|libcmocka-dev|libcmocka-devel|cmocka-dev|cmocka|cmocka
test|sodium.h, to compare with|c sodium.h -lsodium|libsodium-dev|libsodium-devel|libsodium-dev|libsodium|libsodium
check|g++|run command -v g++|g++|gcc-c++|g++|gcc|gcc
check|clang|run command -v clang|clang|clang|clang|clang|llvm
check|clang-tidy|run command -v clang-tidy|clang-tidy|clang-tools-extra|clang-extra-tools|clang|llvm
check|cppcheck|run command -v cppcheck|cppcheck|cppcheck|cppcheck|cppcheck|cppcheck
check|valgrind|run command -v valgrind|valgrind|valgrind|valgrind|valgrind|-
check|debug symbols of the C library (valgrind)|run valgrind -q true|libc6-dbg|glibc-debuginfo|musl-dbg|debuginfod|-
fuzz|clang|run command -v clang|clang|clang|clang|clang|llvm
fuzz|libFuzzer|fuzzer|libclang-rt-14-dev|compiler-rt|compiler-rt|compiler-rt|llvm
coverage|gcovr|run command -v gcovr|gcovr|gcovr|gcovr|gcovr|gcovr
examples|mbedtls/ssl.h|c mbedtls/ssl.h -lmbedtls -lmbedx509 -lmbedcrypto|libmbedtls-dev|mbedtls-devel|mbedtls-dev|mbedtls|mbedtls@3
interop|openssl|run command -v openssl|openssl|openssl|openssl|openssl|openssl
interop|stunnel|run command -v stunnel|stunnel4|stunnel|stunnel|stunnel|stunnel
interop|node|run command -v node|nodejs|nodejs|nodejs|nodejs|node
interop|npm|run command -v npm|npm|npm|npm|npm|node
windows|mingw-w64|run command -v x86_64-w64-mingw32-gcc|gcc-mingw-w64-x86-64|mingw64-gcc|mingw-w64-gcc|mingw-w64-gcc|mingw-w64
windows|mingw-w64 for C++|run command -v x86_64-w64-mingw32-g++|g++-mingw-w64-x86-64|mingw64-gcc-c++|mingw-w64-gcc|mingw-w64-gcc|mingw-w64
windows|wine|run command -v wine|wine wine64|wine|wine|wine|-
bench|mbedtls/ssl.h|c mbedtls/ssl.h -lmbedtls -lmbedx509 -lmbedcrypto|libmbedtls-dev|mbedtls-devel|mbedtls-dev|mbedtls|mbedtls@3
bench|cmocka.h|c cmocka.h -lcmocka|libcmocka-dev|libcmocka-devel|cmocka-dev|cmocka|cmocka
bench|g++|run command -v g++|g++|gcc-c++|g++|gcc|gcc
bench|sodium.h, to compare with|c sodium.h -lsodium|libsodium-dev|libsodium-devel|libsodium-dev|libsodium|libsodium
bench|stb_ds.h, to compare with|c stb/stb_ds.h|libstb-dev|stb-devel|~|~|~
bench|khash.h, to compare with|c htslib/khash.h|libhts-dev|~|~|~|~
size|objdump|run command -v objdump|binutils|binutils|binutils|binutils|binutils
size|a compiler for the Cortex-M|run command -v arm-none-eabi-gcc|gcc-arm-none-eabi|arm-none-eabi-gcc-cs|gcc-arm-none-eabi|arm-none-eabi-gcc|-
size|its C library|arm|libnewlib-arm-none-eabi|arm-none-eabi-newlib|newlib-arm-none-eabi|arm-none-eabi-newlib|-
'

wanted() { # the lines of the groups asked for, but for what this machine's packages never have
    printf '%s\n' "$table" | awk -F '|' -v groups="$groups" -v column=$((column + 1)) \
        'NF > 1 && index(groups, " " $1 " ") && $column != "~" { sub(/^[a-z]*\|/, ""); print }'
}

# compile HEADERS -- LIBS: does a program with these headers link with these libraries?
compile() {
    printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n' \
        >"$scratch/probe.c"
    while [ "$1" != -- ]; do printf '#include <%s>\n' "$1" >>"$scratch/probe.c"; shift; done
    shift
    echo 'int main(void) { return 0; }' >>"$scratch/probe.c"
    # shellcheck disable=SC2086 # flags are words
    $CC $CPPFLAGS -DJSMN_STATIC "$scratch/probe.c" $LDFLAGS "$@" -o "$scratch/probe" 2>/dev/null
}

works() { # works TEST...
    kind=$1; shift
    case $kind in
    c) header=$1; shift; compile "$header" -- "$@" ;;
    run) eval "$*" >/dev/null 2>&1 ;;
    arm) echo '#include <string.h>' | arm-none-eabi-gcc -E -x c - >/dev/null 2>&1 ;;
    fuzzer) printf 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n)\n{\n    return p && n ? 0 : 0;\n}\n' \
        >"$scratch/f.c" && clang -fsanitize=fuzzer "$scratch/f.c" -o "$scratch/f" 2>/dev/null ;;
    esac
}

# The usual case first, in one compile: everything is there.
everything_there() {
    headers='' libs=''
    while IFS='|' read -r _ test _; do
        # shellcheck disable=SC2086
        set -- $test
        case $1 in
        c) headers="$headers $2"; shift 2; libs="$libs $*" ;;
        *) works "$@" || return 1 ;;
        esac
    done <"$scratch/wanted"
    # shellcheck disable=SC2086
    [ -z "$headers" ] || compile $headers -- $libs
}

find_manager() {
    for m in apt-get dnf apk pacman brew; do command -v $m >/dev/null && { echo $m; return; }; done
}

missing() { # lines "what|package"
    while IFS= read -r line; do
        # shellcheck disable=SC2046
        works $(printf '%s\n' "$line" | cut -d'|' -f2) </dev/null ||
            printf '%s\n' "$line" | cut -d'|' -f1,$column
    done <"$scratch/wanted"
}

install_command() { # install_command MANAGER PACKAGE...
    m=$1; shift
    case $m in
    apt-get) echo "apt-get install -y --no-install-recommends $*" ;;
    dnf) echo "dnf install -y $*" ;;
    apk) echo "apk add $*" ;;
    pacman) echo "pacman -S --noconfirm --needed $*" ;;
    brew) echo "brew install $*" ;;
    esac
}

as_root() { # a package manager's command, with root's rights where it needs them
    if [ "$manager" = brew ] || [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

refresh() {
    case $manager in
    apt-get) as_root env DEBIAN_FRONTEND=noninteractive apt-get update ;;
    apk) as_root apk update ;;
    pacman) as_root pacman -Sy ;;
    esac
}

manager=$(find_manager)
case $manager in apt-get) column=3 ;; dnf) column=4 ;; apk) column=5 ;; pacman) column=6 ;; *) column=7 ;; esac
wanted >"$scratch/wanted"
everything_there && exit 0

missing >"$scratch/missing"
[ -s "$scratch/missing" ] || { # each works alone: then it is the combination, and no package helps
    echo "deps: the parts are there one by one but do not link together; try: $CC ... $LDFLAGS" >&2
    exit 1
}
whats=$(cut -d'|' -f1 "$scratch/missing" | paste -s -d, - | sed 's/,/, /g')
if [ -z "$manager" ]; then
    echo "deps: missing: $whats; no package manager that this script knows: install them by hand" >&2
    exit 1
fi
if grep -q '|-$' "$scratch/missing"; then
    echo "deps: not packaged for $manager: $(grep '|-$' "$scratch/missing" | cut -d'|' -f1 | paste -s -d' ' -)." \
        "jsmn.h is one file, https://github.com/zserge/jsmn: put it on the include path (CPPFLAGS=-Ifolder)" >&2
    exit 1
fi
packages=$(cut -d'|' -f2 "$scratch/missing" | sort -u | paste -s -d' ' -)
# shellcheck disable=SC2086
command=$(install_command "$manager" $packages)
if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    echo "deps: missing: $whats. Run this as root, then again what you ran: $command" >&2
    exit 1
fi
echo "deps: installing $packages with $manager (missing: $whats)"
# A fresh machine has no package lists and an old one has stale ones: then once more with new lists.
# shellcheck disable=SC2086
if ! as_root env DEBIAN_FRONTEND=noninteractive $command >"$scratch/log" 2>&1; then
    { refresh && as_root env DEBIAN_FRONTEND=noninteractive $command; } >>"$scratch/log" 2>&1 || {
        tail -5 "$scratch/log" >&2
        echo "deps: failed: $command" >&2
        exit 1
    }
fi
missing >"$scratch/missing"
[ ! -s "$scratch/missing" ] && exit 0
echo "deps: still missing after the installation: $(cut -d'|' -f1 "$scratch/missing" | paste -s -d' ' -)" >&2
exit 1
