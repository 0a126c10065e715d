#!/bin/bash
# What the compiled implementation asks for and what it shows, seen by nm.
#   - without PUSHER_SOCKETS it needs libc's string and stdlib, wslay's frame layer, mbedTLS' crypto;
#     with PUSHER_TLS also mbedTLS' TLS and X.509
#   - all it shows begins with pusher_; with PUSHER_STATIC it shows nothing
#   - it has no variables: nothing writable, in any build
# Prints one line for each symbol that breaks this and, last, "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
out=build/compile
mkdir -p "$out"

libc='mem(cpy|move|set|cmp|chr)|str(len|cmp|ncmp|chr|rchr|str|spn|cspn|pbrk)|malloc|calloc|realloc|free|abort'
wslay='wslay_frame_[a-z_]+'
mbedtls='mbedtls_(md|base64|sha1|sha256|poly1305|platform_zeroize)[a-z0-9_]*'
tls='mbedtls_(ssl|x509_crt)_[a-z0-9_]+|psa_crypto_init'
# What compilers add by themselves.
# bcmp is clang's memcmp.
compiler='bcmp|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__gxx_personality_v0'

passed=0 failed=0
verdict() { # verdict WHAT SYMBOLS
    if [ -z "$2" ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    for symbol in $2; do echo "symbols: $1: $symbol"; done
}

# look TITLE ALLOWED SHOWN FILE COMPILER FLAGS...    ALLOWED may be needed, SHOWN may be defined
look() {
    title=$1 allowed=$2 shown=$3 file=$4; shift 4
    # Position-independent code keeps constant tables of pointers in a section that nm calls data.
    if ! "$@" ${CPPFLAGS:-} -I. -fno-pie -c "tests/compile/$file" -o "$out/symbols.o" 2>"$out/symbols.log"; then
        failed=$((failed + 1))
        echo "symbols: $title does not compile: $(grep -m1 error "$out/symbols.log")"
        return
    fi
    [ -z "$allowed" ] || verdict "$title needs" \
        "$(nm -u "$out/symbols.o" | awk '{ print $2 }' | grep -Evx "$allowed")"
    verdict "$title shows" "$(nm -g --defined-only "$out/symbols.o" | awk '{ print $3 }' | grep -Evx "$shown")"
    verdict "$title has a variable" \
        "$(nm --defined-only "$out/symbols.o" | awk '$2 ~ /^[dDbBCsSgGuv]$/ { print $3 }')"
}

core="$libc|$wslay|$mbedtls|$compiler"
public='pusher_[a-z0-9_]+'
for cc in gcc clang g++ clang++; do
    command -v $cc >/dev/null || continue
    case $cc in *++) language='-x c++ -std=c++11' ;; *) language='-x c -std=c99' ;; esac
    for opt in -O0 -O2; do
        # shellcheck disable=SC2086 # words
        {
            look "$cc $opt" "$core|__assert_fail" "$public" implementation.c $cc $language $opt
            look "$cc $opt -DNDEBUG" "$core" "$public" implementation.c $cc $language $opt -DNDEBUG
            look "$cc $opt PUSHER_STATIC" "$core|__assert_fail" main static.c $cc $language $opt -w
            look "$cc $opt PUSHER_TLS" "$core|$tls|__assert_fail" "$public" \
                implementation.c $cc $language $opt -DPUSHER_TLS
            look "$cc $opt PUSHER_SOCKETS" '' "$public" implementation.c $cc $language $opt -DPUSHER_SOCKETS
            look "$cc $opt PUSHER_STATIC, PUSHER_SOCKETS" '' main static.c \
                $cc $language $opt -w -DPUSHER_SOCKETS
        }
    done
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
