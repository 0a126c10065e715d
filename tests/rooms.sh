#!/bin/sh
# The walls between the rooms of pusher.h. Each room of the implementation begins with a line
# "// >>NAME"; their order is the layering, and the table below says what each may touch.
# Usage: rooms.sh [FILE]     prints each violation as "pusher.h:LINE: sentence", and a summary.
set -u
LC_ALL=C
export LC_ALL
file=${1:-$(dirname "$0")/../pusher.h}
[ -r "$file" ] || { echo "rooms: cannot read $file" >&2; exit 2; }

# room | rooms whose psh_ and PSH_ names it may use | names from outside that are its own
# Everybody may use the prelude. "codec_hash" is only what is called psh_codec_hash...
table='
prelude||
env||memory
codec|env|mbedtls
json|env codec_utf8|jsmn
table|env codec_hash|
bind|env table|
member|env json codec_hash|
http|env|
ws|env codec http|wslay
proto|env json|
sockets|env|system memory hooks
tls|env|mbedtls hooks
auth|env codec json http proto|
client|env codec json table bind member http ws proto sockets tls auth|hooks
api|json client|
'

# group | regular expression of an identifier | what it is.   A "(" at the end: only when called.
outside='
mbedtls|(mbedtls|MBEDTLS)_[A-Za-z0-9_]*|mbedTLS
wslay|(wslay|WSLAY)_[A-Za-z0-9_]*|wslay
jsmn|(jsmn|JSMN_)[A-Za-z0-9_]*|jsmn
memory|(malloc|calloc|realloc|free|aligned_alloc|strdup|alloca)\(|the C allocator
hooks|(open|ready|recv|send|close|fd)_fn|a transport hook
system|(socket|connect|bind|listen|accept|recv|recvfrom|recvmsg|send|sendto|sendmsg|poll|select|setsockopt|getsockopt|getsockname|getpeername|shutdown|fcntl|ioctl|ioctlsocket|closesocket|close|open|read|write)\(|a system call
system|(getaddrinfo|freeaddrinfo|getnameinfo|gethostbyname|gai_strerror|inet_pton|inet_ntop|htons|ntohs)\(|the resolver
system|(clock_gettime|gettimeofday|time|clock|localtime|gmtime|nanosleep|usleep|sleep|Sleep|QueryPerformance[A-Z][a-z]*|GetTickCount64)\(|a clock
system|(getrandom|getentropy|arc4random|arc4random_buf|rand|srand|random|srandom|BCryptGenRandom)\(|a random source
system|(pthread_[a-z_]*|CreateThread|_beginthreadex|[A-Z][a-z]*CriticalSection)|a thread
system|(errno|sockaddr|sockaddr_[a-z0-9]*|pollfd|addrinfo|timespec|timeval|SOCKET|WSA[A-Za-z]*|CRITICAL_SECTION|HANDLE|fd_set)|the operating system
system|(fopen|fputs|puts|putchar|perror|getenv|exit|signal)\(|the operating system
system|(stdin|stdout|stderr|FILE)|standard input and output
'

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# ---- the implementation without comments and the insides of strings: "LINE<tab>ROOM<tab>code" ----

awk '
    /^\/\/ >>[a-z]+/ { room = substr($2, 3); marks = marks " " room }
    room == "" { next }
    {
        code = ""
        n = length($0)
        for (i = 1; i <= n; i++) {
            c = substr($0, i, 1)
            two = substr($0, i, 2)
            if (in_comment) {
                if (two == "*/") { in_comment = 0; i++ }
            } else if (quote != "") {
                if (c == "\\") i++
                else if (c == quote) { code = code c; quote = "" }
            } else if (two == "//") {
                break
            } else if (two == "/*") {
                in_comment = 1; i++
                code = code " "
            } else {
                if (c == "\"" || c == "\047") quote = c
                code = code c
            }
        }
        quote = ""
        sub(/[ \t\r]+$/, "", code)
        print NR "\t" room "\t" code
    }
    END { print substr(marks, 2) > MARKS }
' MARKS="$work/marks" "$file" >"$work/code"

# ---- functions, prototypes, variables: "fn LINE ROOM NAME LENGTH static|public" and complaints ----

awk -F '\t' '
    function complain(line, sentence) { print "bad\t" line "\t" sentence }

    # A declaration outside functions is complete: text ends before ";" or "{", or at an initialiser.
    function declared(text, line, room, last,    name) {
        if (text ~ /^typedef|^extern/) return
        if (text ~ /\)[ ]*$/ && text !~ /=/) {
            name = text
            sub(/[ ]*\(.*/, "", name)
            sub(/.*[ *]/, "", name)
            if (last == "{") {
                fn_name = name; fn_line = line; fn_room = room
                fn_kind = text ~ /^static/ ? "static" : "public"
                for (l in labels) delete labels[l]
            } else if (text ~ /^static/) {
                complain(line, name " is declared ahead of its definition: put it above its callers")
            }
        } else if (text ~ /^static/) {
            variable(text, line)
        }
    }

    function variable(text, line,    head) {
        head = text
        sub(/=.*/, "", head)
        if (head !~ /(^|[^A-Za-z0-9_])const([^A-Za-z0-9_]|$)/ || (head ~ /\*/ && head !~ /\*[ ]*const/))
            complain(line, "a static variable that can change: all state belongs to a client")
    }

    {
        line = $1; room = $2; code = $3
        if (macro || code ~ /^[ \t]*#/) { macro = code ~ /\\$/; next }
        if (depth > 0 && fn_name != "") {
            if (code ~ /^[ \t]+static[ \t]/) variable(code, line)
            if (match(code, /^[ \t]*[A-Za-z_][A-Za-z0-9_]*:([^:]|$)/)) {
                label = substr(code, RSTART, RLENGTH)
                gsub(/[ \t:]|:.*/, "", label)
                if (label != "default") labels[label] = line
            }
            if (match(code, /goto[ ]+[A-Za-z_][A-Za-z0-9_]*/)) {
                label = substr(code, RSTART + 5, RLENGTH - 5)
                gsub(/ /, "", label)
                if (label in labels) complain(line, "goto " label " jumps upward: write a loop")
            }
            body = code
            gsub(/[^A-Za-z0-9_(]+/, " ", body)
            if ((" " body) ~ (" " fn_name "\\(")) complain(line, fn_name " calls itself: the stack must be bounded")
        }
        n = length(code)
        for (i = 1; i <= n; i++) {
            c = substr(code, i, 1)
            if (depth == 0 && text == "" && c ~ /[ \t]/) continue
            if (c == "{") {
                if (depth == 0 && text ~ /^extern ""[ ]*$/) { text = ""; continue }
                if (depth == 0) declared(text, start, room, "{")
                depth++
            } else if (c == "}") {
                if (depth == 0) continue
                depth--
                if (depth == 0) {
                    if (fn_name != "") print "fn\t" fn_line "\t" fn_room "\t" fn_name "\t" line - fn_line + 1 "\t" fn_kind
                    fn_name = text = ""
                }
            } else if (c == ";" && depth == 0) {
                declared(text, start, room, ";")
                text = ""
            } else if (depth == 0) {
                if (text == "") start = line
                text = text c
            }
        }
        if (depth == 0 && text != "") text = text " "
    }
' "$work/code" >"$work/parts"

# ---- the walls ----------------------------------------------------------------------------------

{
    # The rooms are there, in order, and the client is in its room.
    printf '%s\n' "$table" | awk -F '|' 'NF > 1 { want = want " " $1 } END { print substr(want, 2) }' >"$work/want"
    cmp -s "$work/want" "$work/marks" || awk '
        NR == FNR { n = split($0, want, " "); next }
        {
            split($0, have, " ")
            for (i = 1; i <= n && want[i] == have[i]; i++);
            print "1\troom mark " i " should be \"// >>" want[i] "\" and is \"" have[i] "\"; the order is: " all
            if (i > n) print "1\ta room too many: " have[i]
        }' "$work/want" "$work/marks"
    awk -F '\t' '
        $3 ~ /struct[ ]+pusher_client[ ]*(\{|$)/ { n++; if ($2 != "client") print $1 "\tstruct pusher_client stands in room " $2 ", not in client" }
        END { if (n != 1) print "1\tstruct pusher_client is defined " n + 0 " times" }
    ' "$work/code"

    grep '^bad' "$work/parts" | cut -f2-

    # Names of functions say their room; public ones stand where users' calls come in.
    awk -F '\t' '
        $1 != "fn" { next }
        $6 == "static" && index($4, "psh_" $3 "_") != 1 {
            print $2 "\tprivate function " $4 " in room " $3 " must be called psh_" $3 "_..."
        }
        $6 == "public" && ($4 !~ /^pusher_/ || $3 !~ /^(api|sockets|tls)$/) {
            print $2 "\tfunction " $4 " in room " $3 " is not static: public functions are pusher_... in api, sockets or tls"
        }
    ' "$work/parts"

    # Private names: a name belongs to the room where it first appears.
    printf '%s\n' "$table" | awk -F '\t' '
        NR == FNR {
            if (split($0, part, "|") < 2) next
            n = split(part[2], may, " ")
            for (i = 1; i <= n; i++) allowed[part[1], may[i]] = 1
            for (i = 1; i <= n; i++) if (may[i] ~ /_/) only[part[1]] = only[part[1]] " " may[i]
            next
        }
        {
            line = $1; room = $2; code = $3
            while (match(code, /[A-Za-z_][A-Za-z0-9_]*/)) {
                name = substr(code, RSTART, RLENGTH)
                code = substr(code, RSTART + RLENGTH)
                if (name !~ /^(psh|PSH)_/) continue
                if (!(name in owner)) owner[name] = room
                o = owner[name]
                if (o == room || o == "prelude" || (room, o) in allowed) continue
                ok = 0
                n = split(only[room], part, " ")
                for (i = 1; i <= n; i++) if (index(name, "psh_" part[i]) == 1) ok = 1
                if (!ok) print line "\troom " room " uses " name " of room " o ", which it may not touch"
            }
        }
    ' - "$work/code"

    # Names from outside. The prelude includes headers and nothing else.
    { printf '%s\n' "$table" | sed 's/^/T|/'; printf '%s\n' "$outside" | sed 's/^/O|/'; } | awk -F '\t' '
        NR == FNR {
            n = split($0, part, "|")
            if (part[1] == "T" && n >= 4) {
                k = split(part[4], own, " ")
                for (i = 1; i <= k; i++) owns[part[2], own[i]] = 1
            } else if (part[1] == "O" && n >= 4) {
                # A "|" inside the expression was split too: the first is the group, the last the words.
                expression = part[3]
                for (i = 4; i < n; i++) expression = expression "|" part[i]
                call = expression ~ /\\\($/
                sub(/\\\($/, "", expression)
                group[++groups] = part[2]; words[groups] = part[n]; called[groups] = call
                pattern[groups] = "^(" expression ")$"
            }
            next
        }
        $2 == "prelude" && $3 ~ /^[ \t]*#/ { next }
        {
            line = $1; room = $2; code = $3; before = ""
            while (match(code, /[A-Za-z_][A-Za-z0-9_]*/)) {
                name = substr(code, RSTART, RLENGTH)
                before = substr(before code, 1, length(before) + RSTART - 1)
                code = substr(code, RSTART + RLENGTH)
                member = before ~ /(\.|->)[ ]*$/
                for (g = 1; g <= groups; g++) {
                    if (name !~ pattern[g] || (room, group[g]) in owns) continue
                    if (group[g] != "hooks" && member) continue
                    if (called[g] && code !~ /^[ ]*\(/) continue
                    print line "\troom " room " uses " name " (" words[g] ")"
                }
                before = before name
            }
        }
    ' - "$work/code"

    awk -F '\t' '
        $3 ~ /(^|[^A-Za-z0-9_])[a-z]*printf[ ]*\(/ { print $1 "\tprintf and its kind are not for the implementation" }
    ' "$work/code"
    awk '
        length($0) > 100 { print NR "\tthe line has " length($0) " columns, 100 are allowed" }
        /[^\t -~]/ { print NR "\ta byte that is not ASCII" }
    ' "$file"

    # Sizes.
    grep '^fn' "$work/parts" | cut -f2,4,5 | sort -t"$(printf '\t')" -k3,3n >"$work/lengths"
    awk -F '\t' -v asserts="$(cut -f3 "$work/code" | grep -v '^#' | grep -c 'PUSHER_ASSERT(')" \
        -v lines="$(cut -f3 "$work/code" | grep -c '[^ ]')" -v SUMMARY="$work/summary" '
        { at[NR] = $1; name[NR] = $2; size[NR] = $3 }
        END {
            if (NR == 0) { print "1\tthere is no function"; exit }
            median = size[int((NR + 1) / 2)]; most = size[int((NR * 9 + 9) / 10)]
            density = lines ? asserts * 1000 / lines : 0
            for (i = 1; i <= NR; i++) if (size[i] > 110) print at[i] "\t" name[i] " has " size[i] " lines, 110 are allowed"
            if (most > 40) print at[NR] "\tone function in ten has more than " most " lines, 40 is the goal"
            if (median > 12) print at[NR] "\tthe median function has " median " lines, 12 is the goal"
            if (density < 35) print "1\tthere are " int(density) " asserts per 1000 code lines, 35 is the goal"
            printf "%d functions: median %d lines, 90 %% within %d, longest %d (%s); %d code lines, %d asserts per 1000\n",
                NR, median, most, size[NR], name[NR], lines, density > SUMMARY
        }' "$work/lengths"
} | sort -n | sed "s/^\([0-9]*\)	/$(basename "$file"):\1: /" >"$work/bad"

cat "$work/bad"
violations=$(wc -l <"$work/bad")
echo "rooms: $(wc -w <"$work/marks") rooms, $(cat "$work/summary" 2>/dev/null)"
[ "$violations" -eq 0 ] || { echo "rooms: $violations violations"; exit 1; }
