#!/bin/bash
# The TLS tests with mbedTLS 3.6 (TLS 1.3), in a Debian 13 of their own beside this Debian 12.
# Usage: mbedtls36.sh [TEST...]    default: unit/tls api/tls; files of tests/ without .c
# Needs root, and a mirror that apt knows. The system (0.7 GB, about a minute to make) is kept in
# MBEDTLS36_ROOT, default: a folder under the temporary directory; to be rid of it, remove that.
# Nothing of this machine is mounted in it but a /proc, which goes with the process that has it.
# Last line "N passed, N failed": "0 passed, 0 failed" after "mbedtls36: left out: ..." where it cannot
# be made.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=${MBEDTLS36_ROOT:-${TMPDIR:-/tmp}/pusher-debian13}
log=build/log/mbedtls36
mkdir -p "$log"
[ $# -gt 0 ] || set -- unit/tls api/tls

leave_out() { echo "mbedtls36: left out: $*"; echo "0 passed, 0 failed"; exit 0; }

inside() { # inside COMMAND: in that system, with a /proc, and with nothing of our environment
    # shellcheck disable=SC2016 # the inner shell expands
    env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        unshare --mount --propagation private sh -c \
        'mount -t proc proc "$1/proc" && exec chroot "$1" sh -c "$2"' _ "$root" "$1"
}

make_root() {
    mirror=$(apt-cache policy 2>/dev/null | sed -n 's#^ *[0-9]* \(https\{0,1\}://[^ ]*\) [a-z]*/main .*#\1#p' | head -1)
    [ -n "$mirror" ] || leave_out "apt knows no mirror"
    if ! command -v debootstrap >/dev/null; then
        echo "mbedtls36: installing debootstrap"
        { apt-get install -y --no-install-recommends debootstrap ||
            { apt-get update && apt-get install -y --no-install-recommends debootstrap; }; } \
            >"$log/debootstrap.log" 2>&1 || leave_out "debootstrap cannot be installed"
    fi
    echo "mbedtls36: making a Debian 13 in $root"
    rm -rf --one-file-system "$root.new"
    debootstrap --variant=minbase \
        --include=gcc,libc6-dev,libmbedtls-dev,libwslay-dev,libjsmn-dev,libcmocka-dev \
        trixie "$root.new" "$mirror" >"$log/debootstrap.log" 2>&1 || {
        tail -3 "$log/debootstrap.log"
        leave_out "debootstrap failed, see $log/debootstrap.log"
    }
    rm -rf "$root.new/var/cache/apt/archives" "$root.new/var/lib/apt/lists"
    mv "$root.new" "$root" # whole, or not at all
}

[ "$(id -u)" -eq 0 ] || leave_out "only root can make another system"
command -v apt-get >/dev/null || leave_out "no apt-get here"
[ -d "$root" ] || make_root
inside true 2>/dev/null || leave_out "chroot does not work here"

work=$(mktemp -d "$root/tmp/pusher-XXXXXX") || exit 1
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM
cp -r pusher.h tests "$work"
here=/tmp/$(basename "$work")
flags='-std=c99 -I. -Itests -D_DEFAULT_SOURCE -Wall -Wextra -pedantic -Wconversion -Wsign-conversion -Wshadow
    -Wcast-qual -Werror -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all'
libs='-lcmocka -lmbedtls -lmbedx509 -lwslay -lmbedcrypto -lpthread'
passed=0 failed=0
for test; do
    name=${test//\//_}
    # shellcheck disable=SC2086 # flags are words
    inside "cd $here && gcc $(echo $flags) tests/$test.c -o $name $libs &&
        timeout --kill-after=10 300 ./$name" >"$log/$name.log" 2>&1 </dev/null
    status=$?
    p=$(awk '/\[  PASSED  \] [0-9]+ test/ { n += $4 } END { print n + 0 }' "$log/$name.log")
    f=$(awk '/\[  FAILED  \].* [0-9]+ test\(s\), listed below/ { sub(/ test\(s\).*/, ""); n += $NF }
        END { print n + 0 }' "$log/$name.log")
    [ $status -eq 0 ] || [ "$f" -gt 0 ] || f=1 # it does not compile, crashed, leaks or hangs
    [ $((p + f)) -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f))
    [ "$f" -eq 0 ] && continue
    echo "FAILED $name"
    grep -E 'error|\[  FAILED  \] [^ ]+$|SUMMARY' "$log/$name.log" | head -10 | sed 's/^/         /'
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
