#!/bin/bash
# Do the walls of tests/rooms.sh hold? Breaks copies of pusher.h in build/rooms, one wall each, and
# sees that rooms.sh names the breach; breaks nothing, and sees that it stays silent.
# Last line: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
out=build/rooms
rm -rf "$out" && mkdir -p "$out"
copy=$out/pusher.h
passed=0 failed=0
tests/rooms.sh pusher.h | sed 's/^pusher\.h:[0-9]*: //' | sort >"$out/before"

fresh() { cp pusher.h "$copy"; }
put() { # put ROOM CODE: at the head of a room
    awk -v mark="// >>$1" -v code="$2" '{ print } $0 ~ "^" mark "( |$)" { print code }' "$copy" >"$copy.new" &&
        mv "$copy.new" "$copy"
}
new_complaints() { tests/rooms.sh "$copy" | grep '^pusher\.h:' | sed 's/^pusher\.h:[0-9]*: //' | sort | comm -13 "$out/before" -; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED $1"; }

refuses() { # refuses WHAT SENTENCE: the copy as it is now is refused with this sentence (a regular expression)
    if new_complaints | grep -Eq -- "$2"; then pass; else fail "not refused: $1"; fi
    fresh
}
accepts() { # accepts WHAT: the copy is as good as the original
    complaints=$(new_complaints)
    if [ -z "$complaints" ]; then pass; else fail "refused, though harmless: $1: $complaints"; fi
    fresh
}
room_refuses() { put "$1" "$2"; refuses "$2, in $1" "$3"; }
room_accepts() { put "$1" "$2"; accepts "$2, in $1"; }
function_in() { printf 'static int psh_%s_selftest(int x)\n{\n    PUSHER_ASSERT(x);\n%s\n    return x;\n}' "$1" "$2"; }
body_refused() { room_refuses "$1" "$(function_in "$1" "$2")" "$3"; }
body_accepted() { room_accepts "$1" "$(function_in "$1" "$2")"; }

fresh
accepts 'pusher.h itself'

# Rooms
grep -v '^// >>tls' "$copy" >"$copy.new" && mv "$copy.new" "$copy"; refuses 'a room missing' 'should be "// >>tls"'
sed -i 's,^// >>json,// >>X,; s,^// >>codec,// >>json,; s,^// >>X,// >>codec,' "$copy"; refuses 'two rooms swapped' 'should be "// >>codec"'
sed -i 's,^// >>http,// >>cellar,' "$copy"; refuses 'an unknown room' 'is "cellar"'
printf '// >>attic\n' >>"$copy"; refuses 'a room at the end' 'room too many: attic'
sed -i 's/^struct pusher_client {/struct psh_client_moved {/' "$copy"; refuses 'no struct pusher_client' 'defined 0 times'
room_refuses proto 'struct pusher_client {
    int x;
};' 'stands in room proto'

# Names
room_refuses ws "$(function_in json '')" 'must be called psh_ws_'
room_refuses ws "$(function_in ws '' | sed 's/^static //')" 'is not static'
room_refuses table 'static int psh_table_later(int x);' 'declared ahead'
room_refuses table 'static int psh_table_later(int x,
                           int y);' 'declared ahead'

# Who may touch whom: a name of its own is planted in one room and used in another.
touch() { # touch ROOM NAME USER refuses|accepts
    put "$1" "enum { $2 = 1 };"
    put "$3" "$(function_in "$3" "    x += $2;")"
    if [ "$4" = refuses ]; then refuses "$3 uses $2 of $1" "room $3 uses $2 of room $1"; else accepts "$3 uses $2 of $1"; fi
}
touch env PSH_ENV_PLANT json accepts
touch prelude PSH_PLANT proto accepts
touch codec psh_codec_hash_plant table accepts
touch codec psh_codec_base64_plant table refuses
touch codec psh_codec_plant bind refuses
touch json psh_json_plant table refuses
touch json psh_json_plant ws refuses
touch json psh_json_plant proto accepts
touch table psh_table_plant proto refuses
touch ws psh_ws_plant proto refuses
touch ws psh_ws_plant sockets refuses
touch sockets psh_sockets_plant client accepts
touch bind psh_bind_plant client accepts
touch codec psh_codec_plant api refuses

# The outside world
for room in env json ws client api; do body_refused $room '    x = mbedtls_md_get_size(0);' "room $room uses mbedtls_md_get_size"; done
for room in env codec json http proto client; do body_refused $room '    wslay_frame_context_free(0);' "room $room uses wslay_"; done
for room in codec table proto client; do body_refused $room '    jsmn_init(0);' "room $room uses jsmn_init"; done
body_refused proto '    x = JSMN_STRING;' 'room proto uses JSMN_STRING'
for room in codec json ws client api; do body_refused $room '    free(malloc(1));' "room $room uses malloc"; done
body_refused client '    free (0);' 'room client uses free'
for call in 'socket(1, 2, 3)' 'getaddrinfo(0, 0, 0, 0)' 'clock_gettime(0, 0)' 'time(0)' 'recv(0, 0, 0, 0)' 'rand()' 'close(1)'; do
    body_refused client "    x = $call;" "room client uses ${call%%(*}"
    body_accepted sockets "    x = $call;"
done
body_refused ws '    pthread_create(0, 0, 0, 0);' 'a thread'
body_refused http '    x = errno;' 'room http uses errno'
body_refused env '    fputs("", stderr);' 'standard input and output'
for room in env ws auth; do body_refused $room '    x = t->recv_fn(0, 0, 0);' "room $room uses recv_fn"; done
body_accepted client '    x = t->recv_fn(0, 0, 0);'
body_accepted client '    x = t->free(0) + t.malloc(0);'
body_accepted client '    /* free() and errno */ x = *"malloc(1) mbedtls_md"; // socket()'
body_accepted client '    /* malloc(1)
       free(0) */ x = *"\\"free(0)\\"";'

# State, jumps, output
room_refuses bind 'static int psh_bind_counter;' 'static variable'
room_refuses bind 'static int psh_bind_counters[2] = {1, 2};' 'static variable'
room_refuses bind 'static const char *psh_bind_words[2];' 'static variable'
room_accepts bind 'static const char *const psh_bind_words[] = {"a"};'
room_accepts bind 'static const int psh_bind_numbers[] = {
    1, 2,
};'
body_refused bind '    static int calls;' 'static variable'
body_refused ws '
again:
    if (x) goto again;' 'jumps upward'
body_accepted ws '    if (x) goto end;
end:'
body_refused json '    x = psh_json_selftest(x);' 'calls itself'
body_refused env '    snprintf(0, 0, "x");' 'printf'

# Letters and sizes
room_refuses env "/* $(printf '%0100d' 0) */" '106 columns'
room_refuses env "$(printf '/* one \342\200\224 two */')" 'not ASCII'
body_refused env "$(yes '    x++;' | head -106)" 'psh_env_selftest has 111 lines'
body_accepted env "$(yes '    x++;' | head -105)" # exactly 110
many() { # many COUNT LINES: so many functions of so many lines
    awk -v n="$1" -v lines="$2" 'BEGIN {
        for (i = 0; i < n; i++) {
            print "static int psh_api_many" i "(int x)\n{\n    PUSHER_ASSERT(x);"
            for (j = 5; j < lines; j++) print "    x++;"
            print "    return x;\n}"
        }
    }'
}
put api "$(many 600 20)"; refuses 'functions that are too long in the middle' 'median function'
put api "$(many 200 50)"; refuses 'too many long functions' 'one function in ten'
sed -i 's/PUSHER_ASSERT(/(void)(/' "$copy"; refuses 'no asserts' 'asserts per 1000'

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
