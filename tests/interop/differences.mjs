// Where pusher.h does not do as pusher-js does, and why. Nothing else may differ.
//
// A rule takes out of what pusher-js printed (theirs) or pusher.h printed (ours) what the other does
// not have: seen is what the program observes, sent is what the server got, asked are the forms of
// authorization requests. "always" rules hold in every script; the others only where a script names
// them, and there they must be needed: a difference that has gone is an error.

const without = test => list => list.filter(one => !test(one));
const changed = change => list => list.map(change);

export const differences = [
];
