// Where pusher.h does not do as pusher-js does, and why. Nothing else may differ.
//
// A rule takes out of what pusher-js left (theirs) or pusher.h left (ours) what the other does not
// have. seen: what the program observes; sent: what the server got; asked: the forms of requests for
// authorization. "always" rules hold in every script; the others only where a script names them, and
// there they must be needed: a difference that has gone is an error, too.

const without = test => list => list.filter((one, i) => !test(one, i));
// changed(...).and(changed(...)): one after the other
const chain = run => Object.assign(run, { then: undefined, and: next => chain(list => next(run(list))) });
const changed = change => chain(list => list.map(one => change(one)));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

const state = (name, from) => one => one.state === name && (from === undefined || one.from === from);
const event = name => one => one.event === name;
const onMembers = (one, change) => {
  const all = value => ({ ...value, list: value.list.map(change).filter(Boolean), ...(value.me ? { me: change(value.me) } : {}) });
  if (one.member) return { ...one, member: change(one.member) };
  if (one.list) return all(one);
  return one.members?.list ? { ...one, members: all(one.members) } : one;
};
// The handler "all" after those that got the same event.
const allLast = list => {
  const result = [...list];
  for (let i = 0; i + 1 < result.length; i++)
    for (let k = i; result[k].handler === 'all' && result[k + 1] && result[k + 1].handler !== 'all' && result[k].event === result[k + 1].event && same(result[k].data, result[k + 1].data); k++)
      [result[k], result[k + 1]] = [result[k + 1], result[k]];
  return result;
};
const isLive = event('pusher:subscription_succeeded');
const cleanCodes = [1000, 1001];
const untilUnusable = list => list.slice(0, list.findIndex(one => one.error || one.thrown || one.event === 'pusher:signin_error'));
const ownWords = one => one.data?.type === 'AuthError' ? { ...one, data: { ...one.data, error: '' } } : one;

// pusher-js tells of one end twice or more, in different words.
export const isRepeat = (list, i) => list[i].error !== undefined && i > 0 &&
  list[i - 1].error === list[i].error && list[i - 1].code === list[i].code && (list[i].again || list[i].error === 'lost');

export const differences = [

  // ---- everywhere ----

  { id: 'empty-auth', always: true,
    why: 'pusher-js sends auth:"" with the subscription of a public channel; the protocol asks for none.',
    theirs: { sent: changed(one => {
      const data = one.sent?.event === 'pusher:subscribe' && one.sent.data;
      if (!data || data.auth !== '') return one;
      const { auth, ...rest } = data;
      return { ...one, sent: { ...one.sent, data: rest } };
    }) } },

  { id: 'error-twice', always: true,
    why: 'pusher-js tells of one end twice: as the error of the socket or of the close frame, and as the reason of what it does about it. pusher.h tells of it once.',
    theirs: { seen: list => list.filter((_, i) => !isRepeat(list, i)).map(({ again, ...one }) => one) } },

  { id: 'channel-errors',
    why: 'What goes wrong with one channel or user is told to options.error_fn, too; in pusher-js it is an event of the channel and perhaps a line on the console.',
    ours: { seen: without(one => one.error && (one.channel !== undefined || one.error === 'AUTH' || one.error === 'TIMEOUT')) } },

  { id: 'error-names-channel', always: true,
    why: 'pusher.h says which channel an error is about.',
    ours: { seen: changed(one => {
      if (!one.error) return one;
      const { channel, ...rest } = one;
      return rest;
    }) } },

  // ---- the connection ----

  { id: 'clean-close-is-told',
    why: 'The server ends the connection with 1000, 1001 or no code at all: pusher-js reconnects without a word, pusher.h says why the connection was lost.',
    ours: { seen: without(one => one.error === 'server' && (one.code === undefined || cleanCodes.includes(one.code))) } },

  { id: 'empty-close',
    why: 'A close frame without a code is answered in kind (RFC 6455, 5.5.1: the answer typically echoes the code). The WebSocket library of pusher-js answers 1000.',
    theirs: { sent: changed(one => one.closed === 1000 ? { ...one, closed: 'empty' } : one) },
    ours: { sent: changed(one => one.closed === 1005 || one.closed === 1000 ? { ...one, closed: 'empty' } : one) } },

  { id: 'failed',
    why: 'Refused for good: pusher-js says "disconnected", as if the program had asked for it; pusher.h says "failed".',
    theirs: { seen: changed(one => one.state === 'disconnected' ? { ...one, state: 'failed' } : one) } },

  { id: 'codes-from-4300',
    why: 'The protocol gives the codes from 4300 no meaning, and an error instead of connection_established may have none. pusher-js stops for good, without a word why; pusher.h takes it for a lost connection and comes back.',
    theirs: { seen: without(state('disconnected')) },
    ours: { seen: list => list.slice(0, list.findIndex(one => one.error) + 1), sent: without(one => one.connection > 1) } },

  { id: 'goodbye-when-refused', sometimes: true,
    why: 'Both end a connection that was refused before connection_established; pusher.h does not wait for its close frame to be sent when it is to come back at once, or when the server has hung up.',
    theirs: { sent: without(one => one.closed && one.connection === 1) },
    ours: { sent: without(one => one.closed && one.connection === 1) } },

  { id: 'down-meanwhile', sometimes: true,
    why: 'While the server is down, the one or the other may try once more.',
    theirs: { seen: without((one, i) => one.error === 'lost' && i > 3) },
    ours: { seen: without((one, i) => one.error === 'lost' && i > 3) } },

  { id: 'timeouts-are-told',
    why: 'No pong in time: pusher-js reconnects without a word and says goodbye into the dead connection; pusher.h says why and just drops it.',
    theirs: { sent: without(one => one.closed && one.connection === 1) },
    ours: { seen: without(one => one.error === 'TIMEOUT') } },

  { id: 'refused-upgrade',
    why: 'The upgrade was answered with something else than 101: pusher-js waits out the attempt of 15 seconds without a word, pusher.h says so and retries like after any failure.',
    ours: { seen: without(one => one.error === 'HTTP') } },

  { id: 'activity-timeout-missing',
    why: 'A server that does not say its activity timeout can be used: pusher.h takes its own, pusher-js gives the connection up and hangs.',
    theirs: { seen: without(one => one.error === 'HANDSHAKE') },
    ours: { seen: without(state('connected')) } },

  { id: 'first-message',
    why: 'What comes before connection_established: pusher-js gives the connection up whatever it is, and hangs; pusher.h goes on waiting for it, and gives up a connection_established that cannot be used only.',
    theirs: { seen: without(one => one.error === 'HANDSHAKE'), sent: without(one => one.closed) },
    ours: { seen: without(one => one.error === 'PARSE' || one.state === 'connected'), sent: without(one => one.closed || one.sent?.event === 'pusher:pong') } },

  { id: 'socket-id-missing',
    why: 'A connection without a socket_id can authorize nothing: pusher.h gives it up and says so; to pusher-js it is connected.',
    theirs: { seen: without(state('connected')), sent: without(one => one.closed) },
    ours: { seen: without(one => one.error === 'PARSE'), sent: without(one => one.closed) } },

  { id: 'pongs-together',
    why: 'Several pings at once are answered by one pong: a server that floods cannot make pusher.h queue answers.',
    theirs: { sent: list => list.filter((one, i) => !(i > 0 && one.sent?.event === 'pusher:pong' && same(one, list[i - 1]))) },
    ours: { sent: list => list.filter((one, i) => !(i > 0 && one.sent?.event === 'pusher:pong' && same(one, list[i - 1]))) } },

  // ---- messages ----

  { id: 'error-code-text',
    why: 'A code that came as a string is a number in pusher.h.',
    theirs: { seen: changed(one => one.error && typeof one.code === 'string' ? { ...one, code: Number(one.code) } : one) } },

  { id: 'error-is-no-event',
    why: 'pusher-js gives a pusher:error that names a channel also to the handlers of that channel; in pusher.h it goes to options.error_fn and the client-wide handlers.',
    theirs: { seen: without(event('pusher:error')) } },

  { id: 'nameless-messages',
    why: 'JSON without an event name: pusher-js throws a TypeError inside the program; pusher.h reports it like any message that cannot be read.',
    theirs: { seen: changed(one => one.thrown ? { error: 'PARSE' } : one) } },

  { id: 'binary-messages',
    why: 'The protocol has text messages only. pusher-js in Node reads binary ones all the same; pusher.h reports them.',
    theirs: { seen: without(one => one.event === 'e' && one.data === 'binary') },
    ours: { seen: without(one => one.error === 'PROTOCOL') } },

  { id: 'internals-to-all',
    why: 'The client-wide handlers of pusher.h hear what happens to the subscriptions, too; in pusher-js only the channel\'s own handlers do.',
    ours: { seen: without(one => /^all/.test(one.handler) && /^pusher:subscription_(succeeded|count)$/.test(one.event)) } },

  { id: 'pings-are-no-events',
    why: 'pusher:ping, pusher:pong, and a second connection_established are between the client and the server; pusher-js gives them to the client-wide handlers, and to those of a channel they name.',
    theirs: { seen: without(one => /^pusher:(ping|pong|connection_established)$/.test(one.event)) } },

  // ---- channels and handlers ----

  { id: 'second-acknowledgement',
    why: 'A second acknowledgement of one subscription is news to pusher-js only, which takes its list of members, too.',
    theirs: { seen: list => list.filter((one, i) => !(isLive(one) && list.slice(0, i).some(other => isLive(other) && other.handler === one.handler))) } },

  { id: 'refused-when-live',
    why: 'A channel that the server refuses after all has to be subscribed again, and subscribing once more does that; pusher-js tells the handlers and takes it to be subscribed still.',
    ours: { seen: without(one => one.error === 'server'), sent: list => list.filter((one, i) => !(one.sent && list.slice(0, i).some(other => same(other, one)))) } },

  { id: 'internal-refusals',
    why: 'pusher_internal:subscription_error (pusher-fake, old servers) is a refusal; pusher-js does not know it, and the channel stays pending for ever.',
    ours: { seen: without(event('pusher:subscription_error')) } },

  { id: 'bound-from-next',
    why: 'A handler bound during an event fires from the next event on; in pusher-js at once, if it comes later in the list.',
    theirs: { seen: list => list.filter((one, i) => !(one.handler === 'late' && i === list.findIndex(other => other.handler === 'late'))) } },

  { id: 'unbound-at-once',
    why: 'A handler that was unbound never fires again; in pusher-js it still does for the event being delivered.',
    theirs: { seen: list => list.filter((one, i) => !(one.handler === 'c' && i === list.findIndex(other => other.handler === 'c'))) } },

  { id: 'references',
    why: 'Subscriptions are counted: what was subscribed twice has to be unsubscribed twice. In pusher-js the first one ends it for everybody.',
    theirs: { sent: without(one => one.sent?.event === 'pusher:unsubscribe') },
    ours: { seen: without(event('e')) } },

  { id: 'cancelled-bindings',
    why: 'Unsubscribing ends the bindings, even while the subscription is pending and even when it is taken back at once; pusher-js revives the old channel object with them.',
    theirs: { seen: without(one => one.channel === 'ch') } },

  { id: 'cancelled-comes-back',
    why: 'A channel that was cancelled while pending stays cancelled over a reconnect; pusher-js subscribes it again and forgets that nobody wants it.',
    theirs: { seen: without(one => one.channel === 'ch'), sent: without(one => one.connection === 2 && one.sent?.data.channel === 'ch') } },

  { id: 'names-are-checked',
    why: 'pusher.h refuses names that no server takes before it sends anything; pusher-js leaves that to the server.',
    theirs: { seen: without(one => one.error), sent: without(one => one.sent?.data.channel !== 'fence' && one.sent) },
    ours: { seen: list => list.filter((one, i) => !(one.refused && i > list.findIndex(other => other.refused))) } },

  // ---- authorization ----

  { id: 'refusal-words',
    why: 'The sentence of a refused authorization is of each library\'s own making.',
    theirs: { seen: changed(ownWords) },
    ours: { seen: changed(ownWords) } },

  { id: 'redirects',
    why: 'The XMLHttpRequest of pusher-js in Node follows redirects, and fails at this one without a status; pusher.h follows none: it would send the headers with their secrets elsewhere.',
    theirs: { seen: changed(one => one.data?.status === 0 ? { ...one, data: { ...one.data, status: 302 } } : one) } },

  { id: 'unusable-answers',
    why: 'An answer of the endpoint that authorizes nothing (no JSON, no auth, no or a wrong shared_secret): pusher-js subscribes without authorization, throws, or says so; with pusher.h it is always a refusal, and nothing is sent.',
    theirs: { seen: changed(one => one.thrown || one.error === 'server' || (/^private-/.test(one.channel) && /^pusher:subscription_/.test(one.event)) ? { unusable: true } : one),
      sent: without(one => /^private-/.test(one.sent?.data.channel)) },
    ours: { seen: changed(one => /^private-/.test(one.channel) && one.event === 'pusher:subscription_error' ? { unusable: true } : one) } },

  { id: 'asked-again',
    why: 'The endpoint is busy or broken for the moment, 429 or 5xx: pusher.h asks up to three times before it takes that for a no; for pusher-js it is one at once.',
    ours: { asked: list => list.filter((one, i) => i === 0 || !same(one, list[i - 1])) } },

  { id: 'signature-refused',
    why: 'The server\'s no to a signature is an error without a channel. pusher.h finds out which subscription is meant and tells its handlers; in pusher-js the channel stays pending for ever.',
    theirs: { seen: without(event('pusher:error')) },
    ours: { seen: without(event('pusher:subscription_error')) } },

  { id: 'late-answers',
    why: 'An authorization is for one connection. pusher-js sends the answer to an earlier one over the present one, where the server refuses it; pusher.h drops it.',
    theirs: { seen: without(one => one.error === 'server' && one.code !== 4200), sent: list => list.filter((one, i) => !(one.sent && list.slice(0, i).some(other => same(other, one)))) } },

  // ---- client events ----

  { id: 'client-events-public',
    why: 'pusher.h refuses a client event for a public channel at once; pusher-js lets the server do it.',
    theirs: { seen: changed(one => one.error === 'server' && one.code === 4301 ? { refused: 'trigger' } : one), sent: without(one => one.sent?.event === 'client-e') } },

  { id: 'client-events-early',
    why: 'A client event before the subscription is confirmed would be dropped by most servers: pusher.h refuses it, pusher-js sends it with a warning.',
    theirs: { sent: without(one => one.sent?.event === 'client-early') },
    ours: { seen: without(one => one.refused === 'trigger') } },

  { id: 'client-event-limits',
    why: 'What the server refuses or throttles, pusher.h refuses before it is sent, and with it names that would have to be escaped; pusher-js sends it all.',
    theirs: { seen: without(one => one.error === 'server' && one.code === 4301), sent: without(one => /^client-(?!good)/.test(one.sent?.event)) },
    ours: { seen: without(one => one.refused === 'trigger') } },

  // ---- encrypted channels ----

  { id: 'decryption-errors',
    why: 'An encrypted event that cannot be read: pusher-js drops it with a line on the console (or throws, if it is not base64); pusher.h reports it and tells the channel\'s handlers.',
    theirs: { seen: without(one => one.thrown) },
    ours: { seen: without(one => one.error === 'DECRYPT' || one.event === 'pusher:decryption_error') } },

  { id: 'lenient-base64',
    why: 'Base64 that ends in the middle is no base64 to pusher.h; pusher-js decodes what it can and asks for a new key.',
    theirs: { asked: list => list.filter((one, i) => i === 0 || !same(one, list[i - 1])) } },

  { id: 'encrypted-in-order',
    why: 'While a new key is fetched the events wait for it, in order. pusher-js asks the endpoint once for each of them.',
    theirs: { asked: list => list.filter((one, i) => i === 0 || !same(one, list[i - 1])) },
    ours: { asked: list => list.filter((one, i) => i === 0 || !same(one, list[i - 1])) } },

  // ---- presence ----

  { id: 'ids-are-text',
    why: 'A user id that is a number on the wire is given as its text; pusher-js gives it as it came, but lists it as text, too.',
    theirs: { seen: changed(one => onMembers(one, member => ({ ...member, id: String(member.id) }))).and(changed(one => 'user' in one ? { ...one, user: String(one.user) } : one)) },
    ours: {} },

  { id: 'user-id-falsy',
    why: 'The user id 0 or "" of a client event is passed on; pusher-js takes it for none.',
    ours: { seen: changed(({ user, ...one }) => user === undefined || user === '' || user === '0' ? one : { ...one, user }) } },

  { id: 'members-are-counted',
    why: 'The number of members is the number of those listed; pusher-js believes the count that the server sends, which with some servers counts connections.',
    theirs: { seen: changed(one => one.list ? { ...one, count: one.list.length } : one.members?.list ? { ...one, members: { ...one.members, count: one.members.list.length } } : one) } },

  { id: 'ids-are-members',
    why: 'soketi leaves members without info out of the hash: to pusher.h they are there, by the list of ids; pusher-js does not list them.',
    ours: { seen: changed(one => onMembers(one, member => member.id === 'bob' ? undefined : member)) } },

  { id: 'hash-as-list',
    why: 'PHP makes a list of a hash whose keys are 0, 1 ...: the ids are then those of the list of ids. To pusher-js they are 0, 1 ..., and this client is nobody.',
    theirs: { seen: changed(one => onMembers(one, member => ({ ...member, id: ['ann', 'bob'][member.id] }))).and(changed(one => {
      const list = one.members?.list ?? one.list;
      return !list ? one : one.members?.list ? { ...one, members: { ...one.members, me: list[0] } } : { ...one, me: list[0] };
    })) } },

  { id: 'snapshots-missing',
    why: 'An acknowledgement without a list of members: pusher-js throws inside the program; pusher.h reports it, and the channel is live with nobody in it.',
    theirs: { seen: changed(one => one.thrown ? { nobody: true } : one) },
    ours: { seen: changed(one => one.members?.count === 0 && !one.members.me ? { nobody: true } : one).and(without(one => one.error === 'PARSE')) } },

  { id: 'members-without-id',
    why: 'Somebody without an id is nobody: pusher.h reports the message; pusher-js throws, or announces a member called "undefined", "null" or "1".',
    theirs: { seen: without(one => one.thrown || one.event === 'pusher:member_added') },
    ours: { seen: without(one => one.error === 'PARSE') } },

  { id: 'members-while-away',
    why: 'While the connection is lost the members stay as they were; pusher-js forgets them at once.',
    theirs: { seen: without(one => one.members === 'presence-room') },
    ours: { seen: without(one => one.members === 'presence-room') } },

  { id: 'member-difference',
    why: 'After a reconnect pusher.h tells who has come and gone meanwhile.',
    ours: { seen: without(event('pusher:member_removed')) } },

  { id: 'members-before-the-list',
    why: 'A member who comes before the channel is confirmed is in the list that comes with it; pusher-js announces him in a channel that it has not announced yet.',
    theirs: { seen: list => list.filter((one, i) => !(one.event === 'pusher:member_added' && i < list.findIndex(isLive))) } },

  { id: 'me-is-a-member',
    why: 'This client\'s own member is looked up in the list when it is asked for; pusher-js keeps what it found when the channel was confirmed.',
    theirs: { seen: changed(({ me, ...one }) => one.members === undefined || one.event ? { ...one, ...(me ? { me } : {}) } : one) },
    ours: { seen: changed(({ me, ...one }) => one.members === undefined || one.event ? { ...one, ...(me ? { me } : {}) } : one) } },

  { id: 'channel-data-checked',
    why: 'channel_data without a user_id cannot be right: pusher.h refuses it before the server does; pusher-js throws if it is not JSON, and sends it otherwise.',
    theirs: { seen: changed(one => one.thrown || one.error === 'server' || one.event === 'pusher:subscription_error' ? { unusable: true } : one), sent: without(one => one.sent?.data.channel === 'presence-room') },
    ours: { seen: changed(one => one.event === 'pusher:subscription_error' ? { unusable: true } : one) } },

  // ---- the user ----

  { id: 'signin-to-user',
    why: 'The handlers of PUSHER_USER hear pusher:signin_success and whatever else of that kind comes for the user; in pusher-js only the client-wide ones do.',
    ours: { seen: without(one => one.handler === 'user' && /^pusher:(?!signin_error)/.test(one.event)) } },

  { id: 'user-before-all',
    why: 'As everywhere the client-wide handlers come last; in pusher-js they come before those of the user.',
    theirs: { seen: allLast },
    ours: { seen: allLast } },

  { id: 'watchlist-of-sockudo',
    why: 'Sockudo sends "online" and "offline" as events without a channel; pusher-js does not know them for watchlist events.',
    ours: { seen: without(one => one.handler === 'watch') } },

  { id: 'signin-unusable',
    why: 'A signin_success that names no user: pusher-js ignores it, with a line on the console; pusher.h reports it and tells the handlers of PUSHER_USER that the sign-in failed.',
    ours: { seen: without(one => one.error === 'PARSE' || one.event === 'pusher:signin_error') } },

  { id: 'signin-refused',
    why: 'A sign-in that the server refuses with an error: pusher.h tells the handlers of PUSHER_USER, as for one that the backend refuses; pusher-js tells of the error only.',
    ours: { seen: without(event('pusher:signin_error')) } },

  { id: 'signin-again',
    why: 'After a refusal another pusher_signin() asks again; pusher-js has signed in once and for all, and does so only on the next connection.',
    ours: { seen: without(event('pusher:signin_success')), sent: without(one => one.sent?.event === 'pusher:signin' || one.sent?.data.channel === '#server-to-user-ann'), asked: list => list.slice(1) } },

  { id: 'signed-in-unasked',
    why: 'Nobody is signed in who did not ask for it; pusher-js tells the client-wide handlers, then throws.',
    theirs: { seen: without(one => one.thrown || one.event === 'pusher:signin_success') } },

  { id: 'signed-in-twice',
    why: 'A second signin_success on one connection is no news; pusher-js subscribes to the user\'s channel once more, which the server may take for an error.',
    theirs: { seen: without(one => one.error === 'server'), sent: list => list.filter((one, i) => !(one.sent && list.slice(0, i).some(other => same(other, one)))) } },

  { id: 'unusable-signins',
    why: 'An answer of the endpoint that names no user (no JSON, no auth, no user_data): pusher-js signs in without authorization and is thrown out by the server, throws, or says so; with pusher.h it is always a refusal, and nothing is sent.',
    theirs: { seen: untilUnusable, sent: () => [] },
    ours: { seen: untilUnusable, sent: () => [] } },

  { id: 'numeric-user',
    why: 'A user whose id is a number is a user; to pusher-js only texts are.',
    ours: { seen: without(event('pusher:signin_success')), sent: without(one => one.sent?.data.channel === '#server-to-user-5') } },

  { id: 'falsy-data',
    why: 'A handler of one event for the user gets no data in pusher-js where the data is "", 0, false or null.',
    ours: { seen: changed(({ data, ...one }) => one.handler === 'hello' && !data ? one : { ...one, ...(data === undefined ? {} : { data }) }) } },

];
