#!/bin/bash
# How large pusher.h is: bytes of code for each room, on a Cortex-M4 and on this machine at -Os,
# the structs that live in RAM, and the largest stack frames. Code that the compiler moved into
# another function counts for the room that wrote it: the debug lines tell. jsmn, wslay and mbedTLS
# are not pusher.h; jsmn is compiled with it and listed apart.
# Prints whether the core keeps its goal on the Cortex-M4; fails if the table does not add up. Last line: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
out=build/size
rm -rf $out && mkdir -p $out/include
goal=32768

# The headers of this machine serve the other target too: they hold declarations, not code.
for header in wslay/wslay.h mbedtls/md.h jsmn.h; do
    path=$(echo "#include <$header>" | ${CC:-cc} ${CPPFLAGS:-} -M -x c - | tr ' \\' '\n\n' | grep -m1 "/$header\$")
    [ -n "$path" ] || { echo "size: no $header" >&2; exit 1; }
    case $header in */*) path=${path%/*} ;; esac
    ln -sfn "$path" "$out/include/$(basename "$path")"
done

targets="cortex-m4|arm-none-eabi-|arm-none-eabi-gcc -mthumb -mcpu=cortex-m4
here||${CC:-cc}"

build() { # build NAME COMPILER FLAGS...
    local object=$out/$1.o; shift
    "$@" -std=c99 -Os -g -fstack-usage -fno-asynchronous-unwind-tables -I$out/include \
        -DPUSHER_IMPLEMENTATION -x c -c pusher.h -o "$object"
}

rooms_of() { # rooms_of OBJDUMP OBJECT: "ROOM bytes" in the order of the rooms, jsmn last
    "$1" --dwarf=decodedline "$2" | awk '
        FNR == NR { if (/^\/\/ >>[a-z]+/) { at[++n] = FNR; room[n] = substr($2, 3) } next }
        NF < 3 || $1 !~ /\.h$/ || $2 !~ /^([0-9]+|-)$/ { next }
        {
            address = $3 ~ /^0x/ ? hex($3) : $3 + 0
            if (open) bytes[which] += address - last
            open = $2 != "-"
            last = address
            which = $1 == "pusher.h" ? place($2) : $1
            sub(/\.h$/, "", which)
        }
        END {
            for (i = 1; i <= n; i++) if (room[i] in bytes) print room[i], bytes[room[i]]
            for (i = 1; i <= n; i++) delete bytes[room[i]]
            for (other in bytes) print other, bytes[other]
        }
        function place(line,   i) { for (i = n; i > 1 && line < at[i]; i--) { } return room[i] }
        function hex(text,   i, value) {
            for (i = 3; i <= length(text); i++)
                value = value * 16 + index("123456789abcdef", substr(text, i, 1))
            return value
        }' pusher.h -
}

section() { # section SIZE OBJECT PATTERN: bytes of the sections of that name
    "$1" -A "$2" | awk -v like="$3" '$1 ~ like { sum += $2 } END { print sum + 0 }'
}

while IFS='|' read -r name prefix compiler; do
    # shellcheck disable=SC2086 # words
    build "$name" $compiler -DNDEBUG && build "$name-asserts" $compiler || exit 1
    for kind in "$name" "$name-asserts"; do
        {
            rooms_of "${prefix}objdump" "$out/$kind.o"
            echo code "$(section "${prefix}size" "$out/$kind.o" '^[.]text')"
            echo constants "$(section "${prefix}size" "$out/$kind.o" '^[.](rodata|data[.]rel[.]ro)')"
            echo variables "$(section "${prefix}size" "$out/$kind.o" '^[.](data$|bss)')"
        } >"$out/$kind.txt"
    done
    cat >"$out/structs.c" <<'END'
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
char SIZE_client[sizeof(struct pusher_client)], SIZE_channel[sizeof(struct psh_channel)];
char SIZE_binding[sizeof(struct psh_binding)], SIZE_bucket[sizeof(struct psh_bucket)];
END
    # shellcheck disable=SC2086
    $compiler -std=c99 -Os -w -fno-common -I. -I$out/include -c $out/structs.c -o $out/structs.o || exit 1
    "${prefix}nm" -S -t d $out/structs.o | awk '$4 ~ /^SIZE_/ { print substr($4, 6), $2 + 0 }' \
        >"$out/$name-structs.txt"
    sort -t "$(printf '\t')" -k2,2nr "$out/$name.su" | awk -F '\t' '{ sub(/.*:/, "", $1); print $1, $2 }' \
        >"$out/$name-frames.txt"
done <<<"$targets"

value() { awk -v what="$2" '$1 == what { print $2 }' "$out/$1.txt"; }

table() { # table WHAT...: one row for each, from the four files
    for what; do
        printf '  %-12s %12s %12s %14s %14s\n' "$what" "$(value cortex-m4 "$what")" \
            "$(value cortex-m4-asserts "$what")" "$(value here "$what")" "$(value here-asserts "$what")"
    done
}

core() { # all but jsmn: code and constants
    awk '{ v[$1] = $2 } END { print v["code"] + v["constants"] - v["jsmn"] }' "$out/$1.txt"
}

machine=$(uname -m)
printf 'bytes of code    Cortex-M4    asserts on   %12s     asserts on\n' "$machine"
# shellcheck disable=SC2046 # words
table $(awk '$1 !~ /^(code|constants|variables)$/ { print $1 }' $out/cortex-m4.txt)
table code constants variables
printf '  %-12s %12s %12s %14s %14s   (code and constants without jsmn)\n' core "$(core cortex-m4)" \
    "$(core cortex-m4-asserts)" "$(core here)" "$(core here-asserts)"

printf '\nbytes of RAM     Cortex-M4  %12s\n' "$machine"
for what in client channel binding bucket; do
    printf '  %-12s %10s %14s\n' $what "$(value cortex-m4-structs $what)" "$(value here-structs $what)"
done
echo '  A channel takes at least a bucket besides, and its name; a client its buffers and wslay its 4 KiB.'

printf '\nlargest stack frames, asserts off\n'
paste -d' ' <(head -5 $out/cortex-m4-frames.txt) <(head -5 $out/here-frames.txt) |
    awk -v m="$machine" '{ printf "  %-28s %5d   Cortex-M4    %-28s %5d   %s\n", $1, $2, $3, $4, m }'

echo
size=$(core cortex-m4) failed=0
# The rooms must add up to the code, or the table lies.
sum=$(awk '$1 !~ /^(code|constants|variables)$/ { sum += $2 } END { print sum }' $out/cortex-m4.txt)
[ "$sum" -eq "$(value cortex-m4 code)" ] ||
    { failed=1; echo "size: the rooms add up to $sum, the code is $(value cortex-m4 code) bytes"; }
# A goal, printed as the benchmarks print theirs: what it costs to reach it is a decision.
if [ "$size" -gt $goal ]; then
    echo "size: the core is $size bytes on a Cortex-M4; goal: at most $goal, MISSED by $((size - goal))"
else
    echo "size: the core is $size bytes on a Cortex-M4; goal: at most $goal"
fi
echo "$((1 - failed)) passed, $failed failed"
[ $failed -eq 0 ]
