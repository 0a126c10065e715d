#!/bin/sh
# Tests pusher.h against a real server, soketi, and step for step beside pusher-js: the scripts of
# scripts/ run through both, and differences.mjs says where the two may differ.
#
#   make interop                        build the client, then run everything here
#   tests/interop/run.sh [WORD...]      only the tests whose names hold one of the words
#   LISTEN=path    the client program     (default build/examples/listen)
#   DRIVE=path     drive.c, built         (default build/interop-drive)
#   NODE=path      a Node 18 or 20        (default: node on the PATH)
#   SLOW=1         also the tests that take minutes
#   SELF=1         compare pusher-js with itself instead: what differs is a script's own fault
#   VERBOSE=1      print what every client and server said
#
# Everything it installs goes to build/interop and everything it starts listens on 127.0.0.1.
# The last line is "N passed, N failed".
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cd "$here/../.." || exit 1
LISTEN=${LISTEN:-build/examples/listen}
modules=build/interop

give_up() {
    echo "interop: $*" >&2
    echo "0 passed, 1 failed"
    exit 1
}

if [ -n "${NODE:-}" ]; then
    [ -x "$NODE" ] || give_up "NODE=$NODE is not a program."
    PATH=$(cd "$(dirname "$NODE")" && pwd):$PATH
    export PATH
else
    NODE=$(command -v node) || give_up "Node is missing: these tests need Node 18 or 20 (Debian: apt install nodejs npm)."
fi
# soketi's network module is a prebuilt binary, and there is none for any other Node.
case $("$NODE" -p process.versions.node) in
    18.*|20.*) ;;
    *) give_up "this is Node $("$NODE" -p process.versions.node), but soketi runs on Node 18 and 20 only; name one with NODE=/path/to/node." ;;
esac
for program in "${DRIVE:-build/interop-drive}" build/pusher-server; do
    [ -x "$program" ] || give_up "$program is missing: build it with \`make build-interop\`."
done
[ -x "$LISTEN" ] || give_up "the client program $LISTEN is missing: build it with \`make examples\`, or name it with LISTEN=path."

wanted() { cat "$here/package.json" "$here/package-lock.json" "$here/.npmrc"; }
if ! wanted | cmp -s - "$modules/installed"; then
    command -v npm >/dev/null || give_up "npm is missing (Debian: apt install npm)."
    fresh=build/interop.new.$$
    trap 'rm -rf "$fresh"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -p "$fresh" && cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$fresh/" || exit 1
    echo "interop: installing soketi and pusher-js into $modules (once, about 180 MB) ..."
    (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >"$fresh/npm.log" 2>&1 ||
        { cat "$fresh/npm.log" >&2; give_up "npm ci failed, its words are above."; }
    wanted >"$fresh/installed"
    # Whole or not at all: a run that is interrupted leaves nothing half installed.
    rm -rf "$modules" && mv "$fresh" "$modules" || give_up "cannot write $modules."
fi

exec "$NODE" "$here/run.mjs" --client "$LISTEN" --modules "$modules" "$@"
