/*
 * pusher.h - a Pusher Channels client for programs that own their loop. C99, one file, MIT licence.
 *
 * DO THIS
 *     In ONE C or C++ file, before other headers:
 *
 *         #define PUSHER_IMPLEMENTATION
 *         #define PUSHER_SOCKETS          // ready-made sockets, clock and randomness (POSIX)
 *         #include "pusher.h"
 *
 *     Link wslay and mbedTLS' crypto: -lwslay -lmbedcrypto. Have jsmn.h on the include path.
 *     (Debian: apt-get install libwslay-dev libjsmn-dev libmbedtls-dev.)
 *     Everywhere else just #include "pusher.h".
 *
 * THE SMALLEST PROGRAM
 *
 *         static void on_message(pusher_client *client, const pusher_event *event, void *user) {
 *             printf("%s %s %s\n", event->channel_name, event->name, event->data);
 *         }
 *
 *         pusher_options options = {0};
 *         options.key = "app-key";
 *         options.host = "127.0.0.1";
 *         options.port = 6001;
 *         pusher_client *client = pusher_create(&options, NULL);
 *         pusher_channel chat = pusher_subscribe(client, "chat");
 *         pusher_bind(client, chat, "message", on_message, NULL);
 *         pusher_connect(client);
 *         while (running) {
 *             pusher_poll(client, pusher_sockets_now_ms());   // never blocks: once a frame
 *             draw_a_frame();
 *         }
 *         pusher_destroy(client);
 *
 * THE LOOP
 *     pusher_poll() is the only function that does input or output and the only one that runs your
 *     callbacks, on the thread that calls it. It never blocks, and one call reads and writes at
 *     most options.max_poll_bytes each way. All other functions only note what you want; the next
 *     poll does it. A game calls it once a frame. A program that sleeps asks pusher_next_poll_ms(),
 *     pusher_wants() and pusher_fd(), or simply calls pusher_sockets_wait() between two polls.
 *     Time is an argument: any millisecond clock that does not run backwards will do. If it jumps
 *     forward (a laptop slept), that time did not pass for the client's deadlines; it checks at
 *     once whether the connection is alive. If it jumps back, no time has passed.
 *
 * CONNECTION STATES, named as in pusher-js
 *     initialized   before the first pusher_connect()
 *     connecting    an attempt is under way, or the wait before the next one
 *     connected     events flow; pusher_socket_id() is set
 *     unavailable   not connected for options.unavailable_timeout_ms; attempts go on underneath
 *     failed        the server refused for good (codes 4000-4099), or max_attempts is used up:
 *                   nothing more happens before the next pusher_connect()
 *     disconnected  after pusher_disconnect()
 *     A lost connection comes back by itself: after a random wait of up to reconnect_base_ms, which
 *     doubles with each failure up to reconnect_cap_ms (so that a thousand clients do not return
 *     in step), for ever unless max_attempts is set. Each wait is announced to options.retry_fn.
 *     All channels are subscribed again in their order, and all bindings stay.
 *
 * CHANNELS AND REFERENCES
 *     pusher_subscribe() twice is one subscription and two references; pusher_unsubscribe() gives
 *     one back, and the server hears of the first and the last only. With the last reference the
 *     channel's bindings go and its handle becomes stale. You may subscribe and bind before
 *     connecting. Handles are small values; a stale one is detected and does nothing but say so.
 *
 * EVENTS
 *     For each event the handlers run in this order: the channel's bind_all handlers, the channel's
 *     handlers of that event, then the same two for PUSHER_ALL; in each group as they were bound.
 *     A handler bound during an event fires from the next event on; one that was unbound does not
 *     fire any more. The protocol's own events arrive under pusher-js' names:
 *         pusher:subscription_succeeded   the channel is live (again, after a reconnect)
 *         pusher:subscription_error       refused, or not answered within subscribe_timeout_ms
 *         pusher:subscription_count       the channel's number of subscribers has changed
 *         pusher:cache_miss               a cache channel has nothing to give
 *     Everything may be called from a callback, pusher_destroy() included: the client then ends
 *     when the callback has returned.
 *
 * ERRORS
 *     A call that fails returns a pusher_result, and pusher_last_error() has a sentence about it.
 *     What goes wrong later is told to options.error_fn with code, the server's own code, the
 *     channel and a sentence that a person can act on. Nothing is printed.
 *
 * WITHOUT PUSHER_SOCKETS
 *     Fill in options.transport (five functions: a non-blocking byte stream) and options.random,
 *     and give pusher_poll() your clock. The rest needs libc's string.h and stdlib.h, wslay's
 *     frame layer, jsmn and mbedTLS' crypto. examples/own_transport.c is a porting guide in code.
 *
 * MEMORY
 *     Taken at create, at subscribe and bind, and when a message is larger than any before; an
 *     event in the steady state allocates nothing. All of it comes from options.allocator, but for
 *     one block of about 4 KiB a connection that wslay takes from malloc. Every limit is an option.
 *
 * SWITCHES, to be defined before the implementation
 *     PUSHER_SOCKETS      ready-made transport, resolver thread, clock and randomness (-lpthread)
 *     PUSHER_STATIC       all functions static: the library is private to this one file
 *     PUSHER_ASSERT(x)    default assert(x); checks our own invariants, never network input
 *
 * NOT IN THIS VERSION
 *     TLS, private, presence and encrypted channels, client events, sign-in, Windows sockets.
 */
#ifndef PUSHER_H
#define PUSHER_H

#if defined(PUSHER_IMPLEMENTATION) && defined(PUSHER_SOCKETS) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* strict -std=c99 hides POSIX otherwise */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUSHER_VERSION_MAJOR 0
#define PUSHER_VERSION_MINOR 1
#define PUSHER_VERSION_PATCH 0
#define PUSHER_VERSION "0.1.0"

#if defined(PUSHER_STATIC) && defined(__GNUC__)
#define PUSHER_DEF static __attribute__((unused)) /* nobody calls all of them */
#elif defined(PUSHER_STATIC)
#define PUSHER_DEF static
#else
#define PUSHER_DEF extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- handles ------------------------------------------------------------------------------- */

typedef struct pusher_client pusher_client; /* one connection with its channels                 */

/* Value handles. All zero is "none"; a handle whose thing has gone is stale, for ever. */
typedef struct pusher_channel { uint32_t id, generation; } pusher_channel;
typedef struct pusher_binding { uint32_t id, generation; } pusher_binding;

/* A pseudo channel for pusher_bind() and pusher_unbind_where(): the events of all channels. */
#define PUSHER_ALL (pusher_pseudo_channel(UINT32_MAX))

static inline pusher_channel pusher_pseudo_channel(uint32_t id)
{
    pusher_channel channel;
    channel.id = id;
    channel.generation = 0;
    return channel;
}

/* ---- results, states, errors --------------------------------------------------------------- */

typedef enum pusher_result {
    PUSHER_OK = 0,
    PUSHER_ERR_ARGUMENT,       /* a NULL, or an option that cannot be                           */
    PUSHER_ERR_MEMORY,         /* the allocator gave nothing, or a configured limit is reached  */
    PUSHER_ERR_STALE,          /* the handle's channel or binding has gone                      */
    PUSHER_ERR_NAME,           /* not a channel or event name the protocol allows               */
    PUSHER_ERR_NOT_SUBSCRIBED, /* no such channel: subscribe first                              */
    PUSHER_ERR_UNSUPPORTED,    /* not in this version or build                                  */
    PUSHER_ERR_TOO_BIG,        /* a message over max_message_bytes                              */
    PUSHER_ERR_RANDOM,         /* the random source failed                                      */
    PUSHER_ERR_RESOLVE,        /* the host name has no address                                  */
    PUSHER_ERR_IO,             /* the connection could not be made, or was lost                 */
    PUSHER_ERR_HTTP,           /* the server did not answer 101 to the WebSocket upgrade        */
    PUSHER_ERR_PROTOCOL,       /* bytes that RFC 6455 or the Pusher protocol forbids            */
    PUSHER_ERR_PARSE,          /* a message that is not JSON, or lacks what it must have        */
    PUSHER_ERR_TIMEOUT,        /* no answer within a deadline                                   */
    PUSHER_ERR_SERVER          /* the server said so: see server_code                           */
} pusher_result;

typedef enum pusher_state {
    PUSHER_INITIALIZED = 0,
    PUSHER_CONNECTING,
    PUSHER_CONNECTED,
    PUSHER_UNAVAILABLE,
    PUSHER_FAILED,
    PUSHER_DISCONNECTED
} pusher_state;

typedef enum pusher_subscription {
    PUSHER_NOT_SUBSCRIBED = 0, /* a stale or empty handle                                       */
    PUSHER_PENDING,            /* waiting for the connection or for the server's answer         */
    PUSHER_SUBSCRIBED,
    PUSHER_REFUSED             /* refused or unanswered; tried again after a reconnect          */
} pusher_subscription;

/* Pointers live until the callback returns (error_fn), or until the client's next call
   (pusher_last_error). */
typedef struct pusher_error {
    pusher_result code;
    int server_code;          /* Pusher or WebSocket close code, or HTTP status; 0 = none       */
    pusher_channel channel;   /* the channel concerned, or none                                 */
    const char *channel_name; /* its name, or NULL                                              */
    const char *message;      /* one sentence, UTF-8, never NULL                                */
} pusher_error;

PUSHER_DEF const char *pusher_result_name(pusher_result result);    /* "PUSHER_OK" ...          */
PUSHER_DEF const char *pusher_state_name(pusher_state state);       /* "connected" ...          */

/* ---- events -------------------------------------------------------------------------------- */

/* Valid during the callback only; copy what you keep. Text is UTF-8 and NUL-terminated. data may
   hold NUL bytes of its own (\u0000 in JSON): data_len counts them. */
typedef struct pusher_event {
    pusher_channel channel;   /* none if the event has no channel, or one not subscribed here   */
    const char *channel_name; /* "" when the event has no channel                               */
    const char *name;
    const char *data;         /* payload: JSON or plain text, one level of quoting undone; or "" */
    size_t data_len;          /* bytes                                                          */
    bool data_was_string;     /* true: a JSON string on the wire; false: other JSON, or missing */
    const char *raw;          /* the payload exactly as on the wire; NOT NUL-terminated         */
    size_t raw_len;           /* bytes; 0 = the message had no data                             */
    const char *user_id;      /* sender of a client event on a presence channel, else NULL      */
} pusher_event;

typedef void (*pusher_event_fn)(pusher_client *client, const pusher_event *event, void *user_data);

/* ---- hooks --------------------------------------------------------------------------------- */

/* What transport functions return besides a positive count. */
enum {
    PUSHER_IO_EOF = 0,            /* recv: the other side has closed                            */
    PUSHER_IO_WANT_READ = -1,     /* nothing now; again when readable                           */
    PUSHER_IO_WANT_WRITE = -2,    /* nothing now; again when writable                           */
    PUSHER_IO_ERROR = -3,         /* failed for good                                            */
    PUSHER_IO_ERROR_RESOLVE = -4  /* ready_fn: the host name has no address                     */
};

/* A non-blocking byte stream. No function may block. Called from pusher_poll(), but for close_fn,
   which pusher_destroy() calls too. */
typedef struct pusher_transport {
    /* Start connecting to host (name or numeric address, no brackets) and port. NULL: failed.
       The host text lives as long as the client. */
    void *(*open_fn)(const char *host, uint16_t port, void *user_data);
    int (*ready_fn)(void *stream);                       /* > 0: connected; else PUSHER_IO_...   */
    int (*recv_fn)(void *stream, void *buf, size_t len); /* > 0: bytes read; else PUSHER_IO_...  */
    /* > 0: bytes taken, may be fewer than len; else PUSHER_IO_WANT_... or _ERROR. After WANT the
       next call repeats buf and len. */
    int (*send_fn)(void *stream, const void *buf, size_t len);
    void (*close_fn)(void *stream);                      /* exactly once per stream opened       */
    /* Optional. Why the stream failed, for error messages; valid until close_fn. */
    const char *(*error_fn)(void *stream);
    /* Optional. What an event loop waits on (a file descriptor), or -1 when there is none yet. */
    intptr_t (*fd_fn)(void *stream);
    void *user_data;                                     /* given to open_fn                     */
} pusher_transport;

/* Fill buf with len unpredictable bytes (hash seed, WebSocket masks and key, jitter). Return false
   on failure: a client cannot be created, or its connection ends. */
typedef struct pusher_random {
    bool (*fill_fn)(void *buf, size_t len, void *user_data);
    void *user_data;
} pusher_random;

/* Both or neither. Default: malloc and free. alloc_fn returns NULL when it has nothing. */
typedef struct pusher_allocator {
    void *(*alloc_fn)(size_t size, void *user_data);
    void (*free_fn)(void *memory, void *user_data);
    void *user_data;
} pusher_allocator;

/* One line for each step of the connection, for debugging. Silent unless given. */
typedef struct pusher_logger {
    void (*log_fn)(const char *message, void *user_data);
    void *user_data;
} pusher_logger;

typedef enum pusher_tls_mode {
    PUSHER_TLS_DEFAULT = 0, /* TLS where it is compiled in: not in this version, so plain        */
    PUSHER_TLS_OFF,
    PUSHER_TLS_ON           /* refused by pusher_create() in this version                        */
} pusher_tls_mode;

typedef struct pusher_tls_options {
    pusher_tls_mode mode;
} pusher_tls_options;

/* ---- options ------------------------------------------------------------------------------- */

typedef void (*pusher_state_fn)(pusher_client *client, pusher_state now, pusher_state before,
                                void *user_data);
typedef void (*pusher_error_fn)(pusher_client *client, const pusher_error *error, void *user_data);
/* The next attempt starts in delay_ms; attempt counts from 1 since the last stable connection. */
typedef void (*pusher_retry_fn)(pusher_client *client, uint32_t delay_ms, uint32_t attempt,
                                void *user_data);

/* Zero means default everywhere. Copied by pusher_create(), strings included. */
typedef struct pusher_options {
    const char *key;     /* the app's key; required                                             */
    const char *cluster; /* pusher.com: "eu", "mt1" ... makes the host ws-CLUSTER.pusher.com    */
    const char *host;    /* own server: name or address, without ws:// or port; over cluster    */
    uint32_t port;       /* default 80 (443 with TLS)                                           */
    const char *path;    /* put in front of /app/KEY; starts with '/'                           */
    const char *origin;  /* sent as Origin header when given                                    */

    pusher_tls_options tls;
    pusher_transport transport; /* default with PUSHER_SOCKETS: pusher_sockets_transport()      */
    pusher_random random;       /* default with PUSHER_SOCKETS: pusher_sockets_random()         */
    pusher_allocator allocator;
    pusher_logger logger;

    pusher_state_fn state_fn;
    pusher_error_fn error_fn;
    pusher_retry_fn retry_fn;
    void *user_data;                 /* for the three above                                     */

    uint32_t activity_timeout_ms;    /* 120000: ping after so long without traffic; the server's
                                        own value counts if it is shorter                       */
    uint32_t pong_timeout_ms;        /* 30000: wait for its answer                              */
    uint32_t unavailable_timeout_ms; /* 10000: until "connecting" is called "unavailable"       */
    uint32_t connect_timeout_ms;     /* 15000: from look-up to connection_established           */
    uint32_t subscribe_timeout_ms;   /* 10000: for the answer to a subscription                 */
    uint32_t reconnect_base_ms;      /* 1000                                                    */
    uint32_t reconnect_cap_ms;       /* 30000; also how long a connection must last before the
                                        count of failures starts again                          */
    uint32_t max_attempts;           /* failures in a row before "failed"; default: no limit    */

    uint32_t max_message_bytes;      /* 65536: largest message taken; at least 512              */
    uint32_t max_output_bytes;       /* 12288: bytes waiting to be sent; at least 1024          */
    uint32_t max_poll_bytes;         /* 65536: read, and written, in one poll; at least 512     */
    uint32_t max_channels;           /* 1048576; at most 16777216                               */
} pusher_options;

/* ---- a client's life ----------------------------------------------------------------------- */

/* A client in state initialized; nothing is sent yet. NULL on bad options, no memory or no
   randomness, and then *error (may be NULL) says why: code and a constant message. */
PUSHER_DEF pusher_client *pusher_create(const pusher_options *options, pusher_error *error);

/* Closes the stream and frees everything, at once; no callback runs any more. Inside a callback:
   as soon as it has returned. For a goodbye to the server: pusher_disconnect() and one poll
   before. NULL is allowed. */
PUSHER_DEF void pusher_destroy(pusher_client *client);

/* Connect at the next poll, and stay connected. Harmless when it already is so. Leaves the states
   failed and disconnected. */
PUSHER_DEF pusher_result pusher_connect(pusher_client *client);

/* Close cleanly at the next poll (close code 1000). Channels, references and bindings stay for the
   next pusher_connect(). */
PUSHER_DEF void pusher_disconnect(pusher_client *client);

/* Do not wait for the retry timer: attempt now. For a program that knows the network is back.
   Nothing else is changed; while connected it checks that the connection is alive. */
PUSHER_DEF void pusher_reconnect_now(pusher_client *client);

/* All work happens here; see THE LOOP. Returns the number of events given to handlers. Called
   from a callback it does nothing and returns 0. */
PUSHER_DEF int pusher_poll(pusher_client *client, uint64_t now_ms);

/* The time, on the clock given to pusher_poll(), by which it must be called again even if the
   stream stays silent. UINT64_MAX: not before you ask for something. */
PUSHER_DEF uint64_t pusher_next_poll_ms(const pusher_client *client);

/* What the stream is waited for: bits. 0 while there is no stream. */
enum { PUSHER_WANTS_READ = 1, PUSHER_WANTS_WRITE = 2 };
PUSHER_DEF int pusher_wants(const pusher_client *client);

/* The stream's descriptor (transport.fd_fn) for epoll and its like, or -1 when there is none. */
PUSHER_DEF intptr_t pusher_fd(const pusher_client *client);

PUSHER_DEF pusher_state pusher_get_state(const pusher_client *client);

/* This connection's socket id while connected, else NULL. Lives until the next poll. */
PUSHER_DEF const char *pusher_socket_id(const pusher_client *client);

/* About the last call on this client that failed; code PUSHER_OK if none has. Never NULL. */
PUSHER_DEF const pusher_error *pusher_last_error(const pusher_client *client);

/* ---- channels ------------------------------------------------------------------------------ */

/* One more reference to the channel; the first one subscribes. Names: 1 to 200 characters of
   A-Z a-z 0-9 _ - = @ , . ; : # and no # in front (the server's own channels).
   None on failure: PUSHER_ERR_NAME, _UNSUPPORTED (private-, presence-), _MEMORY, _ARGUMENT. */
PUSHER_DEF pusher_channel pusher_subscribe(pusher_client *client, const char *channel_name);

/* One reference fewer; with the last one the subscription ends, its bindings go, and the handle
   becomes stale. PUSHER_ERR_STALE: it was so already; harmless. */
PUSHER_DEF pusher_result pusher_unsubscribe(pusher_client *client, pusher_channel channel);

/* The channel of this name if it is subscribed or on its way, else none. Takes no reference. */
PUSHER_DEF pusher_channel pusher_find_channel(const pusher_client *client,
                                              const char *channel_name);

/* Walks the channels in the order of subscription: pass none for the first; none after the last. */
PUSHER_DEF pusher_channel pusher_next_channel(const pusher_client *client,
                                              pusher_channel previous);

/* NULL, 0 or PUSHER_NOT_SUBSCRIBED on a stale handle. The name lives as long as the channel. */
PUSHER_DEF const char *pusher_channel_name(const pusher_client *client, pusher_channel channel);
PUSHER_DEF uint32_t pusher_channel_references(const pusher_client *client, pusher_channel channel);
PUSHER_DEF pusher_subscription pusher_channel_state(const pusher_client *client,
                                                    pusher_channel channel);
/* As last told by the server, which does so only if the app has it switched on; else 0. */
PUSHER_DEF uint32_t pusher_channel_subscription_count(const pusher_client *client,
                                                      pusher_channel channel);

/* ---- bindings ------------------------------------------------------------------------------ */

/* Call fn for each event of this name on the channel, or on all channels with PUSHER_ALL. The same
   fn bound twice fires twice. The name is copied; any text up to 200 bytes. None on failure:
   PUSHER_ERR_NOT_SUBSCRIBED (an empty handle), _STALE, _NAME, _ARGUMENT (fn is NULL), _MEMORY. */
PUSHER_DEF pusher_binding pusher_bind(pusher_client *client, pusher_channel channel,
                                      const char *event_name, pusher_event_fn fn, void *user_data);

/* The same for every event, whatever its name. */
PUSHER_DEF pusher_binding pusher_bind_all(pusher_client *client, pusher_channel channel,
                                          pusher_event_fn fn, void *user_data);

/* Never fires again, not even for the event being delivered. PUSHER_ERR_STALE: gone already. */
PUSHER_DEF pusher_result pusher_unbind(pusher_client *client, pusher_binding binding);

/* Unbinds every binding of the channel (or of PUSHER_ALL) that matches all that is given; NULL
   matches anything, so three NULLs unbind all. Returns how many went. */
PUSHER_DEF uint32_t pusher_unbind_where(pusher_client *client, pusher_channel channel,
                                        const char *event_name, pusher_event_fn fn,
                                        const void *user_data);

/* ---- reading JSON payloads ----------------------------------------------------------------- */

/* For event->data that holds JSON, or any other JSON text. Nothing is allocated, copied or changed,
   and no client is needed. RFC 8259 to the letter, nesting up to 128 levels.

       pusher_json data = pusher_json_find(event->data, event->data_len, "");
       char name[64];
       if (pusher_json_string(pusher_json_get(data, "/user/name"), name, sizeof name, NULL)) ... */

typedef enum pusher_json_type {
    PUSHER_JSON_NONE = 0, /* there is no such value                                             */
    PUSHER_JSON_BAD,      /* the text is not JSON, or the path is none                          */
    PUSHER_JSON_NULL,
    PUSHER_JSON_BOOL,
    PUSHER_JSON_NUMBER,
    PUSHER_JSON_STRING,
    PUSHER_JSON_ARRAY,
    PUSHER_JSON_OBJECT
} pusher_json_type;

/* A value in somebody's text: valid as long as that text is, and passed by value. Only what the
   functions below have given may be passed to them. */
typedef struct pusher_json {
    pusher_json_type type;
    const char *raw; /* as in the text: a string with its quotes; NULL for NONE and BAD; NOT
                        NUL-terminated                                                          */
    size_t raw_len;  /* bytes                                                                   */
} pusher_json;

/* The value at a path in a text of len bytes. The path is a JSON Pointer (RFC 6901): "/user/name",
   "/items/0", "" for the whole; in a key "~1" is a slash and "~0" a tilde. Of two members of one
   name the last counts, as in JSON.parse. Each call checks the whole text first, so its cost grows
   with len: to read more than one value, find "" once and use pusher_json_get().
   NONE: valid JSON without such a value. BAD: not JSON, no path, or a NULL. */
PUSHER_DEF pusher_json pusher_json_find(const char *json, size_t len, const char *path);

/* The same from a value on, whose text is known to be JSON. BAD: no path, a NULL, or value is BAD;
   NONE: no such value, or value is NONE. */
PUSHER_DEF pusher_json pusher_json_get(pusher_json value, const char *path);

/* Walks an array or object in the order of its text: set *position to 0, then call until it returns
   false. key is a STRING in an object and NONE in an array; key and value may be NULL, and are NONE
   when it returns false. False at once for values that are no container. Linear in total. */
PUSHER_DEF bool pusher_json_each(pusher_json container, size_t *position, pusher_json *key,
                                 pusher_json *value);

/* A string's text, its escapes undone, NUL-terminated, in UTF-8. *len, if len is not NULL, is its
   whole length in bytes, the final NUL not counted; 0 if value is no string. False: value is no
   string (out is then ""), or it was cut, at the end of a character, to cap bytes with the NUL;
   with cap 0 nothing is written and out may be NULL. \u0000 gives a NUL byte inside; half a
   surrogate pair gives U+FFFD. */
PUSHER_DEF bool pusher_json_string(pusher_json value, char *out, size_t cap, size_t *len);

/* A number. Exact for whole numbers up to 2^53; rounded correctly with up to 15 digits and powers
   of ten up to 22; else at most one unit of the last place away. What is too large is infinite, as
   in JSON.parse. False: value is no number, or out is NULL; *out is then left alone. */
PUSHER_DEF bool pusher_json_number(pusher_json value, double *out);

/* A whole number, exactly: 12, 12.0 and 1.2e1 are one. False: value is no number, has a fraction,
   is beyond 64 bits, or out is NULL; *out is then left alone. */
PUSHER_DEF bool pusher_json_integer(pusher_json value, int64_t *out);

/* True or false. False is returned if value is neither, or out is NULL; *out is then left alone. */
PUSHER_DEF bool pusher_json_bool(pusher_json value, bool *out);

/* ---- counters ------------------------------------------------------------------------------ */

typedef struct pusher_stats {
    uint64_t bytes_received, bytes_sent;
    uint64_t messages_received;   /* WebSocket text messages                                    */
    uint64_t messages_sent;
    uint64_t events;              /* given to at least one handler                              */
    uint64_t events_unbound;      /* nobody had bound them                                      */
    uint64_t messages_bad;        /* reported as PUSHER_ERR_PARSE or ignored as binary          */
    uint32_t attempts;            /* connections tried                                          */
    uint32_t connections;         /* connections that reached "connected"                       */
    uint32_t round_trip_ms;       /* of the last ping; 0 before the first                       */
} pusher_stats;

PUSHER_DEF void pusher_get_stats(const pusher_client *client, pusher_stats *stats);

/* ---- ready-made parts: need PUSHER_SOCKETS where PUSHER_IMPLEMENTATION is -------------------- */

#if defined(PUSHER_SOCKETS) || !defined(PUSHER_STATIC)
/* TCP over IPv4 and IPv6. Names are looked up on a short-lived thread of its own. */
PUSHER_DEF pusher_transport pusher_sockets_transport(void);
/* The operating system's random source. */
PUSHER_DEF pusher_random pusher_sockets_random(void);
/* A monotonic clock for pusher_poll(). */
PUSHER_DEF uint64_t pusher_sockets_now_ms(void);
/* Sleep until the client has something to do, but at most max_ms. For programs whose loop has
   nothing better to do; a game does not need it. */
PUSHER_DEF void pusher_sockets_wait(const pusher_client *client, uint32_t max_ms);
#endif

#ifdef __cplusplus
}
#endif

#endif /* PUSHER_H */

/* ============================================================================================ */
#if defined(PUSHER_IMPLEMENTATION) && !defined(PUSHER_IMPLEMENTATION_DONE)
#define PUSHER_IMPLEMENTATION_DONE

// >>prelude
/* Order of the rooms is the layering: a room uses only what stands above it. */

#include <stdlib.h>
#include <string.h>

#include <mbedtls/base64.h>
#include <mbedtls/md.h>
#include <wslay/wslay.h>

#if !defined(JSMN_H)
#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS /* without them 10 000 siblings cost quadratic time */
#include <jsmn.h>
#endif

#if !defined(PUSHER_ASSERT)
#include <assert.h>
#define PUSHER_ASSERT(x) assert(x)
#endif

#define PSH_NEVER UINT64_MAX
#define PSH_NONE UINT32_MAX

// >>env
/* The user's allocator, logger and randomness; memory that grows within bounds. */

struct psh_env {
    pusher_allocator allocator;
    pusher_random random;
    pusher_logger logger;
};

static void *psh_env_malloc(size_t size, void *user_data)
{
    (void)user_data;
    return malloc(size);
}

static void psh_env_mfree(void *memory, void *user_data)
{
    (void)user_data;
    free(memory);
}

static void psh_env_init(struct psh_env *env, const pusher_options *options)
{
    PUSHER_ASSERT(env && options);
    env->allocator = options->allocator;
    env->random = options->random;
    env->logger = options->logger;
    if (!env->allocator.alloc_fn) {
        env->allocator.alloc_fn = psh_env_malloc;
        env->allocator.free_fn = psh_env_mfree;
    }
}

static void *psh_env_alloc(const struct psh_env *env, size_t size)
{
    PUSHER_ASSERT(size > 0);
    return env->allocator.alloc_fn(size, env->allocator.user_data);
}

static void psh_env_free(const struct psh_env *env, void *memory)
{
    PUSHER_ASSERT(env && env->allocator.free_fn);
    if (memory) env->allocator.free_fn(memory, env->allocator.user_data);
}

static bool psh_env_random(const struct psh_env *env, void *buf, size_t len)
{
    PUSHER_ASSERT(buf && len > 0);
    return env->random.fill_fn(buf, len, env->random.user_data);
}

static void psh_env_log(const struct psh_env *env, const char *message)
{
    PUSHER_ASSERT(message);
    if (env->logger.log_fn) env->logger.log_fn(message, env->logger.user_data);
}

static char *psh_env_copy(const struct psh_env *env, const char *text, size_t len)
{
    PUSHER_ASSERT(text && len < SIZE_MAX);
    char *copy = (char *)psh_env_alloc(env, len + 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

/* A byte buffer that grows by doubling, never over its max. */
struct psh_buf {
    unsigned char *data;
    size_t len, cap, max;
};

static bool psh_env_reserve(const struct psh_env *env, struct psh_buf *buf, size_t more)
{
    PUSHER_ASSERT(buf->len <= buf->cap && buf->cap <= buf->max);
    if (more <= buf->cap - buf->len) return true;
    if (more > buf->max - buf->len) return false;
    size_t cap = buf->cap > buf->max / 2 ? buf->max : buf->cap * 2;
    if (cap < buf->len + more) cap = buf->len + more;
    unsigned char *data = (unsigned char *)psh_env_alloc(env, cap);
    if (!data) return false;
    if (buf->len > 0) memcpy(data, buf->data, buf->len);
    psh_env_free(env, buf->data);
    buf->data = data;
    buf->cap = cap;
    return true;
}

static void psh_env_release(const struct psh_env *env, struct psh_buf *buf)
{
    PUSHER_ASSERT(buf && buf->len <= buf->cap);
    psh_env_free(env, buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

/* Text written into a fixed place: always terminated, and cut at the end of it. */
struct psh_text {
    char *at;
    size_t len, cap;
    bool cut;
};

static void psh_env_text(struct psh_text *text, char *at, size_t cap)
{
    PUSHER_ASSERT(at && cap > 0);
    text->at = at;
    text->len = 0;
    text->cap = cap;
    text->cut = false;
    at[0] = '\0';
}

/* Takes an unfinished UTF-8 character off the end. */
static void psh_env_trim(struct psh_text *text)
{
    PUSHER_ASSERT(text->len < text->cap);
    size_t tail = 0;
    while (tail < 3 && tail < text->len &&
           ((unsigned char)text->at[text->len - 1 - tail] & 0xC0) == 0x80)
        tail++;
    if (tail == text->len) return;
    unsigned char lead = (unsigned char)text->at[text->len - 1 - tail];
    size_t need = lead < 0xC0 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    if (need > tail) text->len -= tail + 1;
}

static void psh_env_add_bytes(struct psh_text *text, const char *bytes, size_t len)
{
    PUSHER_ASSERT(text->len < text->cap);
    if (text->cut) return; /* trimming may have made room for half a character more */
    size_t room = text->cap - 1 - text->len;
    bool cut = len > room;
    if (cut) len = room;
    if (len > 0) memcpy(text->at + text->len, bytes, len);
    text->len += len;
    if (cut) psh_env_trim(text);
    if (cut) text->cut = true;
    text->at[text->len] = '\0';
}

static void psh_env_add(struct psh_text *text, const char *string)
{
    PUSHER_ASSERT(text && string);
    psh_env_add_bytes(text, string, strlen(string));
}

static void psh_env_add_uint(struct psh_text *text, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + (char)(value % 10));
        value /= 10;
    } while (value > 0);
    psh_env_add_bytes(text, digits + at, sizeof digits - at);
}

/* Somebody else's words in our sentence: no control characters, for it may end on a terminal. */
static void psh_env_add_foreign(struct psh_text *text, const char *bytes, size_t len)
{
    PUSHER_ASSERT(bytes || len == 0);
    size_t from = text->len;
    psh_env_add_bytes(text, bytes, len);
    for (size_t i = from; i < text->len; i++) {
        unsigned char byte = (unsigned char)text->at[i];
        if (byte < 0x20 || byte == 0x7F) text->at[i] = '?';
    }
}

/* Items of one size in pages: their addresses never change, and a page is never moved or copied.
   A generation is odd while its item is in use, and grows with each change of hands. */
enum { PSH_PAGE = 8 };

struct psh_slot { /* first member of every item */
    uint32_t generation;
    uint32_t next_free; /* index + 1 of the next free item */
};

struct psh_pool {
    const struct psh_env *env;
    void **pages;
    size_t item_size;
    uint32_t page_count, page_cap;
    uint32_t used;            /* items ever handed out */
    uint32_t free_first;      /* index + 1 */
};

static void psh_env_pool_init(struct psh_pool *pool, const struct psh_env *env, size_t item_size)
{
    PUSHER_ASSERT(item_size >= sizeof(struct psh_slot) && item_size % sizeof(void *) == 0);
    memset(pool, 0, sizeof *pool);
    pool->env = env;
    pool->item_size = item_size;
}

static void *psh_env_pool_at(const struct psh_pool *pool, uint32_t index)
{
    PUSHER_ASSERT(index < pool->used);
    return (char *)pool->pages[index / PSH_PAGE] + (index % PSH_PAGE) * pool->item_size;
}

static bool psh_env_pool_add_page(struct psh_pool *pool)
{
    PUSHER_ASSERT(pool->page_count <= pool->page_cap);
    if (pool->page_count == pool->page_cap) {
        uint32_t cap = pool->page_cap ? pool->page_cap * 2 : 4;
        void **pages = (void **)psh_env_alloc(pool->env, cap * sizeof *pages);
        if (!pages) return false;
        if (pool->page_count) memcpy(pages, pool->pages, pool->page_count * sizeof *pages);
        psh_env_free(pool->env, pool->pages);
        pool->pages = pages;
        pool->page_cap = cap;
    }
    void *page = psh_env_alloc(pool->env, PSH_PAGE * pool->item_size);
    if (!page) return false;
    memset(page, 0, PSH_PAGE * pool->item_size);
    pool->pages[pool->page_count++] = page;
    return true;
}

/* A zeroed item with an odd generation, or NULL. */
static void *psh_env_pool_take(struct psh_pool *pool, uint32_t *index)
{
    if (pool->free_first) {
        *index = pool->free_first - 1;
        pool->free_first = ((struct psh_slot *)psh_env_pool_at(pool, *index))->next_free;
    } else {
        if (pool->used == pool->page_count * PSH_PAGE && !psh_env_pool_add_page(pool)) return NULL;
        *index = pool->used++;
    }
    struct psh_slot *slot = (struct psh_slot *)psh_env_pool_at(pool, *index);
    uint32_t generation = slot->generation + 1;
    PUSHER_ASSERT(generation & 1);
    memset(slot, 0, pool->item_size);
    slot->generation = generation;
    return slot;
}

static void psh_env_pool_give(struct psh_pool *pool, uint32_t index)
{
    struct psh_slot *slot = (struct psh_slot *)psh_env_pool_at(pool, index);
    PUSHER_ASSERT(slot->generation & 1);
    slot->generation++;
    slot->next_free = pool->free_first;
    pool->free_first = index + 1;
}

/* The item of a handle, or NULL when that is stale. */
static void *psh_env_pool_get(const struct psh_pool *pool, uint32_t id, uint32_t generation)
{
    PUSHER_ASSERT(pool->used <= pool->page_count * PSH_PAGE);
    if (id == 0 || id > pool->used || !(generation & 1)) return NULL;
    struct psh_slot *slot = (struct psh_slot *)psh_env_pool_at(pool, id - 1);
    return slot->generation == generation ? slot : NULL;
}

static void psh_env_pool_free(struct psh_pool *pool)
{
    for (uint32_t i = 0; i < pool->page_count; i++) psh_env_free(pool->env, pool->pages[i]);
    psh_env_free(pool->env, pool->pages);
    pool->pages = NULL;
    pool->page_count = pool->page_cap = pool->used = pool->free_first = 0;
}

// >>codec
/* Hashes, base64 and UTF-8. The only room that calls mbedTLS' crypto. */

enum { PSH_SHA1_BYTES = 20 };

static bool psh_codec_sha1(const void *bytes, size_t len, unsigned char digest[PSH_SHA1_BYTES])
{
    PUSHER_ASSERT(bytes && digest);
    const mbedtls_md_info_t *sha1 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA1);
    return sha1 && mbedtls_md(sha1, (const unsigned char *)bytes, len, digest) == 0;
}

/* out is terminated; cap must be at least 4 * ceil(len / 3) + 1. */
static bool psh_codec_base64(const unsigned char *bytes, size_t len, char *out, size_t cap)
{
    PUSHER_ASSERT(cap > (len + 2) / 3 * 4);
    size_t written = 0;
    out[0] = '\0'; /* of nothing it writes nothing */
    return mbedtls_base64_encode((unsigned char *)out, cap, &written, bytes, len) == 0;
}

static uint64_t psh_codec_load64(const unsigned char *at)
{
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 |
           (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 |
           (uint64_t)at[7] << 56;
}

#define PSH_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

#define PSH_SIPROUND(a, b, c, d)                                                                   \
    do {                                                                                           \
        (a) += (b), (b) = PSH_ROTATE(b, 13) ^ (a), (a) = PSH_ROTATE(a, 32);                        \
        (c) += (d), (d) = PSH_ROTATE(d, 16) ^ (c);                                                 \
        (a) += (d), (d) = PSH_ROTATE(d, 21) ^ (a);                                                 \
        (c) += (b), (b) = PSH_ROTATE(b, 17) ^ (c), (c) = PSH_ROTATE(c, 32);                        \
    } while (0)

/* The last 0 to 7 bytes, and the length's low byte on top. */
static uint64_t psh_codec_siptail(const unsigned char *at, size_t left, size_t len)
{
    PUSHER_ASSERT(left < 8 && left <= len);
    uint64_t word = (uint64_t)len << 56;
    if (left > 0 && len >= 8) return word | psh_codec_load64(at + left - 8) >> (64 - 8 * left);
    for (size_t i = 0; i < left; i++) word |= (uint64_t)at[i] << (8 * i);
    return word;
}

/* SipHash-1-3 (Aumasson, Bernstein): names may come from strangers, so the hash is keyed. */
static uint64_t psh_codec_hash(const uint64_t key[2], const char *text, size_t len)
{
    PUSHER_ASSERT(key && (text || len == 0));
    const unsigned char *at = (const unsigned char *)text;
    uint64_t a = key[0] ^ UINT64_C(0x736f6d6570736575), b = key[1] ^ UINT64_C(0x646f72616e646f6d);
    uint64_t c = key[0] ^ UINT64_C(0x6c7967656e657261), d = key[1] ^ UINT64_C(0x7465646279746573);
    uint64_t word;
    size_t left = len;
    for (; left >= 8; left -= 8, at += 8) {
        word = psh_codec_load64(at);
        d ^= word;
        PSH_SIPROUND(a, b, c, d);
        a ^= word;
    }
    word = psh_codec_siptail(at, left, len);
    d ^= word;
    PSH_SIPROUND(a, b, c, d);
    a ^= word;
    c ^= 0xFF;
    PSH_SIPROUND(a, b, c, d);
    PSH_SIPROUND(a, b, c, d);
    PSH_SIPROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

/* UTF-8 (RFC 3629) byte by byte: no overlong forms, no surrogates, nothing over U+10FFFF.
   Zeroed = ready. */
struct psh_codec_utf8_state {
    unsigned char need;      /* continuation bytes still to come */
    unsigned char low, high; /* bounds of the next one */
};

static bool psh_codec_utf8_lead(struct psh_codec_utf8_state *state, unsigned char byte)
{
    PUSHER_ASSERT(state->need == 0);
    if (byte < 0x80) return true;
    if (byte < 0xC2 || byte > 0xF4) return false;
    state->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    state->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    state->need = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    return true;
}

static bool psh_codec_utf8_step(struct psh_codec_utf8_state *state, unsigned char byte)
{
    PUSHER_ASSERT(state->need <= 3);
    if (state->need == 0) return psh_codec_utf8_lead(state, byte);
    if (byte < state->low || byte > state->high) return false;
    state->low = 0x80;
    state->high = 0xBF;
    state->need--;
    return true;
}

/* The next len bytes. The text is whole when state->need is 0 afterwards. */
static bool psh_codec_utf8(struct psh_codec_utf8_state *state, const void *bytes, size_t len)
{
    PUSHER_ASSERT(bytes || len == 0);
    const unsigned char *at = (const unsigned char *)bytes;
    size_t i = 0;
    while (i < len) {
        while (state->need == 0 && len - i >= 8) { /* plain ASCII, eight at a time */
            uint64_t word;
            memcpy(&word, at + i, 8);
            if (word & UINT64_C(0x8080808080808080)) break;
            i += 8;
        }
        if (i < len && !psh_codec_utf8_step(state, at[i++])) return false;
    }
    return true;
}

// >>json
/* jsmn is called here only, and only on text that the byte-wise check has accepted: jsmn alone
   takes most invalid texts for valid ones. The outer object of a message is read by hand, which
   costs less than tokenising it. */

enum { PSH_JSON_DEPTH = 128 };

enum psh_json_state {
    PSH_JSON_VALUE = 0,   /* a value must come */
    PSH_JSON_FIRST_VALUE, /* after '[': a value or ']' */
    PSH_JSON_FIRST_KEY,   /* after '{': a key or '}' */
    PSH_JSON_KEY,         /* after ',' in an object */
    PSH_JSON_COLON,
    PSH_JSON_AFTER,       /* after a value: ',' or a closing bracket, or the end */
    PSH_JSON_STRING,
    PSH_JSON_ESCAPE,
    PSH_JSON_HEX,
    PSH_JSON_WORD,        /* in true, false or null */
    PSH_JSON_MINUS,
    PSH_JSON_ZERO,
    PSH_JSON_INT,
    PSH_JSON_DOT,
    PSH_JSON_FRACTION,
    PSH_JSON_EXP,
    PSH_JSON_EXP_SIGN,
    PSH_JSON_EXP_INT
};

/* One RFC 8259 text, byte by byte. Zeroed = ready. */
struct psh_json_check {
    unsigned char state;     /* enum psh_json_state */
    unsigned char hex;       /* digits of \uXXXX still to come */
    unsigned char depth;     /* open brackets */
    bool key;                /* the string is a key */
    const char *word;        /* what is left of a literal */
    unsigned char objects[PSH_JSON_DEPTH / 8]; /* a bit for each level: is it an object? */
    struct psh_codec_utf8_state utf8;
};

static bool psh_json_space(unsigned char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static bool psh_json_digit(unsigned char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool psh_json_in_object(const struct psh_json_check *check)
{
    PUSHER_ASSERT(check->depth > 0);
    unsigned level = check->depth - 1u;
    return check->objects[level / 8] >> (level % 8) & 1;
}

static bool psh_json_open(struct psh_json_check *check, bool object)
{
    PUSHER_ASSERT(check->depth <= PSH_JSON_DEPTH);
    if (check->depth == PSH_JSON_DEPTH) return false;
    unsigned level = check->depth++;
    unsigned char bit = (unsigned char)(1u << (level % 8));
    unsigned char others = (unsigned char)(check->objects[level / 8] & ~bit);
    check->objects[level / 8] = (unsigned char)(object ? others | bit : others);
    check->state = object ? PSH_JSON_FIRST_KEY : PSH_JSON_FIRST_VALUE;
    return true;
}

static bool psh_json_close(struct psh_json_check *check, unsigned char byte)
{
    PUSHER_ASSERT(byte == '}' || byte == ']');
    if (check->depth == 0 || (byte == '}') != psh_json_in_object(check)) return false;
    check->depth--;
    check->state = PSH_JSON_AFTER;
    return true;
}

static bool psh_json_begin(struct psh_json_check *check, unsigned char byte)
{
    check->key = false;
    switch (byte) {
    case '{': return psh_json_open(check, true);
    case '[': return psh_json_open(check, false);
    case '"': check->state = PSH_JSON_STRING; return true;
    case '-': check->state = PSH_JSON_MINUS; return true;
    case '0': check->state = PSH_JSON_ZERO; return true;
    case 't': check->word = "rue"; break;
    case 'f': check->word = "alse"; break;
    case 'n': check->word = "ull"; break;
    default: check->state = PSH_JSON_INT; return psh_json_digit(byte);
    }
    check->state = PSH_JSON_WORD;
    return true;
}

static bool psh_json_after(struct psh_json_check *check, unsigned char byte)
{
    PUSHER_ASSERT(check->state == PSH_JSON_AFTER);
    if (psh_json_space(byte)) return true;
    if (byte == '}' || byte == ']') return psh_json_close(check, byte);
    if (byte != ',' || check->depth == 0) return false;
    check->state = psh_json_in_object(check) ? PSH_JSON_KEY : PSH_JSON_VALUE;
    return true;
}

/* Between tokens. */
static bool psh_json_structure(struct psh_json_check *check, unsigned char byte)
{
    PUSHER_ASSERT(check->state <= PSH_JSON_AFTER);
    if (check->state == PSH_JSON_AFTER) return psh_json_after(check, byte);
    if (psh_json_space(byte)) return true;
    switch (check->state) {
    case PSH_JSON_FIRST_VALUE:
        return byte == ']' ? psh_json_close(check, byte) : psh_json_begin(check, byte);
    case PSH_JSON_FIRST_KEY:
        if (byte == '}') return psh_json_close(check, byte);
        /* fall through */
    case PSH_JSON_KEY:
        check->state = PSH_JSON_STRING;
        check->key = true;
        return byte == '"';
    case PSH_JSON_COLON: check->state = PSH_JSON_VALUE; return byte == ':';
    default: return psh_json_begin(check, byte);
    }
}

static bool psh_json_hex(unsigned char byte)
{
    return psh_json_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* In a string or a literal. */
static bool psh_json_inside(struct psh_json_check *check, unsigned char byte)
{
    switch (check->state) {
    case PSH_JSON_STRING:
        if (!psh_codec_utf8_step(&check->utf8, byte) || byte < 0x20) return false;
        if (byte == '\\') check->state = PSH_JSON_ESCAPE;
        if (byte == '"') check->state = check->key ? PSH_JSON_COLON : PSH_JSON_AFTER;
        return true;
    case PSH_JSON_ESCAPE:
        check->state = byte == 'u' ? PSH_JSON_HEX : PSH_JSON_STRING;
        check->hex = 4;
        return byte != '\0' && strchr("\"\\/bfnrtu", byte) != NULL;
    case PSH_JSON_HEX:
        PUSHER_ASSERT(check->hex > 0);
        if (--check->hex == 0) check->state = PSH_JSON_STRING;
        return psh_json_hex(byte);
    default:
        PUSHER_ASSERT(check->state == PSH_JSON_WORD && *check->word != '\0');
        if (byte != (unsigned char)*check->word++) return false;
        if (*check->word == '\0') check->state = PSH_JSON_AFTER;
        return true;
    }
}

static bool psh_json_number_ends(unsigned char state)
{
    return state == PSH_JSON_ZERO || state == PSH_JSON_INT || state == PSH_JSON_FRACTION ||
           state == PSH_JSON_EXP_INT;
}

static bool psh_json_number(struct psh_json_check *check, unsigned char byte)
{
    unsigned char state = check->state;
    PUSHER_ASSERT(state >= PSH_JSON_MINUS && state <= PSH_JSON_EXP_INT);
    if (psh_json_digit(byte)) {
        if (state == PSH_JSON_ZERO) return false;
        if (state == PSH_JSON_MINUS) check->state = byte == '0' ? PSH_JSON_ZERO : PSH_JSON_INT;
        if (state == PSH_JSON_DOT) check->state = PSH_JSON_FRACTION;
        if (state == PSH_JSON_EXP || state == PSH_JSON_EXP_SIGN) check->state = PSH_JSON_EXP_INT;
        return true;
    }
    if (state == PSH_JSON_EXP && (byte == '+' || byte == '-')) {
        check->state = PSH_JSON_EXP_SIGN;
        return true;
    }
    if (!psh_json_number_ends(state)) return false;
    if (byte == '.' && (state == PSH_JSON_ZERO || state == PSH_JSON_INT)) {
        check->state = PSH_JSON_DOT;
        return true;
    }
    if ((byte == 'e' || byte == 'E') && state != PSH_JSON_EXP_INT) {
        check->state = PSH_JSON_EXP;
        return true;
    }
    check->state = PSH_JSON_AFTER;
    return psh_json_after(check, byte);
}

/* False: no JSON text begins with the bytes given so far. */
static bool psh_json_step(struct psh_json_check *check, unsigned char byte)
{
    PUSHER_ASSERT(check->depth <= PSH_JSON_DEPTH);
    if (check->state <= PSH_JSON_AFTER) return psh_json_structure(check, byte);
    if (check->state <= PSH_JSON_WORD) return psh_json_inside(check, byte);
    return psh_json_number(check, byte);
}

#define PSH_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))
#define PSH_HAS_ZERO(word) (((word) - PSH_EACH(0x01)) & ~(word) & PSH_EACH(0x80))

/* Bytes of the eight at `at` before the first quote, backslash or control character. */
static size_t psh_json_plain8(const char *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    uint64_t special = PSH_HAS_ZERO(word ^ PSH_EACH('"')) | PSH_HAS_ZERO(word ^ PSH_EACH('\\')) |
                       ((word - PSH_EACH(0x20)) & ~word & PSH_EACH(0x80));
    if (!special) return 8;
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (size_t)__builtin_ctzll(special) / 8;
#else
    size_t plain = 0;
    while (at[plain] != '"' && at[plain] != '\\' && (unsigned char)at[plain] >= 0x20) plain++;
    return plain;
#endif
}

/* Bytes inside a string that need no look at each: plain ASCII, eight at a time. */
static size_t psh_json_ascii(const char *at, size_t len)
{
    size_t ascii = 0, more = 8;
    while (more == 8 && len - ascii >= 8) {
        uint64_t word;
        memcpy(&word, at + ascii, 8);
        if (word & PSH_EACH(0x80)) break;
        more = psh_json_plain8(at + ascii);
        ascii += more;
    }
    PUSHER_ASSERT(ascii <= len);
    return ascii;
}

static bool psh_json_valid(const char *text, size_t len)
{
    PUSHER_ASSERT(text || len == 0);
    struct psh_json_check check;
    memset(&check, 0, sizeof check);
    for (size_t i = 0; i < len; i++) {
        if (check.state == PSH_JSON_STRING && check.utf8.need == 0) {
            i += psh_json_ascii(text + i, len - i);
            if (i == len) return false; /* no closing quote */
        }
        if (!psh_json_step(&check, (unsigned char)text[i])) return false;
    }
    if (check.depth > 0) return false;
    return check.state == PSH_JSON_AFTER || psh_json_number_ends(check.state);
}

static uint32_t psh_json_hex4(const char *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)at[i];
        uint32_t digit = c <= '9' ? c - (uint32_t)'0' : (c | 0x20u) - (uint32_t)'a' + 10u;
        PUSHER_ASSERT(digit < 16);
        value = value << 4 | digit;
    }
    return value;
}

static char *psh_json_put_utf8(char *out, uint32_t code)
{
    PUSHER_ASSERT(code <= 0x10FFFF);
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

static bool psh_json_is_hex4(const char *at, const char *end)
{
    PUSHER_ASSERT(at <= end);
    if (end - at < 4) return false;
    for (int i = 0; i < 4; i++)
        if (!psh_json_hex((unsigned char)at[i])) return false;
    return true;
}

/* at stands behind "\u". A surrogate without its other half becomes U+FFFD. */
static const char *psh_json_unicode(const char *at, const char *end, char **out)
{
    if (!psh_json_is_hex4(at, end)) return NULL;
    uint32_t code = psh_json_hex4(at);
    at += 4;
    if (code >= 0xD800 && code <= 0xDFFF) {
        uint32_t low = 0;
        if (code < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u' &&
            psh_json_is_hex4(at + 2, end))
            low = psh_json_hex4(at + 2);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        } else {
            code = 0xFFFD;
        }
    }
    *out = psh_json_put_utf8(*out, code);
    return at;
}

/* at stands behind the backslash. */
static const char *psh_json_escape(const char *at, const char *end, char **out)
{
    PUSHER_ASSERT(at <= end && *out);
    if (at == end) return NULL;
    char byte = *at++;
    switch (byte) {
    case '"':
    case '\\':
    case '/': break;
    case 'b': byte = '\b'; break;
    case 'f': byte = '\f'; break;
    case 'n': byte = '\n'; break;
    case 'r': byte = '\r'; break;
    case 't': byte = '\t'; break;
    case 'u': return psh_json_unicode(at, end, out);
    default: return NULL;
    }
    *(*out)++ = byte;
    return at;
}

/* Copies the string behind the opening quote to out, escapes undone, and terminates it. Returns
   the place behind the closing quote, or NULL when this is no JSON string. out needs room for the
   bytes read and eight more, for it is written in eights. The text must be valid UTF-8. */
static const char *psh_json_string(const char *at, const char *end, char *out, size_t *out_len)
{
    PUSHER_ASSERT(at && at <= end && out);
    char *first = out;
    for (;;) {
        while (end - at >= 8) {
            size_t plain = psh_json_plain8(at);
            memcpy(out, at, 8);
            at += plain;
            out += plain;
            if (plain < 8) break;
        }
        if (at == end) return NULL;
        char byte = *at++;
        if (byte == '"') break;
        if (byte == '\\' && at < end && (*at == '"' || *at == '\\' || *at == '/')) {
            *out++ = *at++; /* nearly all escapes there are */
        } else if (byte == '\\') {
            at = psh_json_escape(at, end, &out);
            if (!at) return NULL;
        } else if ((unsigned char)byte < 0x20) {
            return NULL;
        } else {
            *out++ = byte;
        }
    }
    *out = '\0';
    *out_len = (size_t)(out - first);
    return at;
}

static const char *psh_json_skip_space(const char *at, const char *end)
{
    while (at < end && psh_json_space((unsigned char)*at)) at++;
    return at;
}

/* Behind the member's value that starts at `at` and is no string; NULL when it is none. It stands
   in an object, which counts as a level. */
static const char *psh_json_skip_value(const char *at, const char *end)
{
    PUSHER_ASSERT(at < end && *at != '"');
    struct psh_json_check check;
    memset(&check, 0, sizeof check);
    check.depth = 1;
    check.objects[0] = 1;
    for (; at < end; at++) {
        bool ends = psh_json_number_ends(check.state) && check.depth == 1;
        if (ends && (psh_json_space((unsigned char)*at) || strchr(",}]", *at))) return at;
        if (!psh_json_step(&check, (unsigned char)*at)) return NULL;
        if (check.state == PSH_JSON_AFTER && check.depth == 1) return at + 1;
    }
    return NULL;
}

/* A value as it was read: `at` is its text with one level of quoting undone. */
struct psh_value {
    const char *at, *raw;
    size_t len, raw_len; /* raw_len 0: missing */
    bool string;
};

struct psh_envelope {
    struct psh_value event, channel, data, user_id;
};

/* Reads the value at `at` into *value, its text going to *out. */
static const char *psh_json_read(const char *at, const char *end, char **out,
                                 struct psh_value *value)
{
    PUSHER_ASSERT(at < end && *out && value);
    value->raw = at;
    value->at = *out;
    value->string = *at == '"';
    const char *behind;
    if (value->string) {
        behind = psh_json_string(at + 1, end, *out, &value->len);
        if (!behind) return NULL;
    } else {
        behind = psh_json_skip_value(at, end);
        if (!behind) return NULL;
        value->len = (size_t)(behind - at);
        memcpy(*out, at, value->len);
        (*out)[value->len] = '\0';
    }
    value->raw_len = (size_t)(behind - at);
    *out += value->len + 1;
    return behind;
}

static struct psh_value *psh_json_member(struct psh_envelope *envelope, const char *key, size_t len)
{
    PUSHER_ASSERT(envelope && key);
    if (len == 5 && memcmp(key, "event", 5) == 0) return &envelope->event;
    if (len == 7 && memcmp(key, "channel", 7) == 0) return &envelope->channel;
    if (len == 4 && memcmp(key, "data", 4) == 0) return &envelope->data;
    if (len == 7 && memcmp(key, "user_id", 7) == 0) return &envelope->user_id;
    return NULL;
}

/* One `"key": value`; at stands on the opening quote. */
static const char *psh_json_pair(const char *at, const char *end, char **out,
                                 struct psh_envelope *envelope)
{
    struct psh_value unknown, *value;
    size_t key_len = 0;
    if (at == end || *at != '"') return NULL;
    at = psh_json_string(at + 1, end, *out, &key_len);
    if (!at) return NULL;
    value = psh_json_member(envelope, *out, key_len);
    at = psh_json_skip_space(at, end);
    if (at == end || *at != ':') return NULL;
    at = psh_json_skip_space(at + 1, end);
    if (at == end) return NULL;
    char *keep = *out;
    at = psh_json_read(at, end, out, value ? value : &unknown);
    if (!value) *out = keep;
    return at;
}

/* Room that psh_json_envelope() needs beside the message's own length. */
enum { PSH_JSON_SLACK = 16 };

/* Reads a message's outer object in one pass, every byte of it checked (RFC 8259); of two members
   of one name the last counts, as in JSON.parse. Returns NULL, or what is wrong with it. */
static const char *psh_json_envelope(const char *text, size_t len, char *out,
                                     struct psh_envelope *envelope)
{
    PUSHER_ASSERT(text && out && envelope);
    const char *end = text + len;
    const char *at = psh_json_skip_space(text, end);
    memset(envelope, 0, sizeof *envelope);
    if (at == end || *at != '{') return psh_json_valid(text, len) ? "no object" : "not JSON";
    at = psh_json_skip_space(at + 1, end);
    bool first = true;
    while (at < end && (*at != '}' || !first)) {
        at = psh_json_pair(at, end, &out, envelope);
        if (!at) return "not JSON";
        at = psh_json_skip_space(at, end);
        if (at == end || *at == '}') break;
        if (*at != ',') return "not JSON";
        at = psh_json_skip_space(at + 1, end);
        first = false;
    }
    if (at == end || *at != '}' || psh_json_skip_space(at + 1, end) != end) return "not JSON";
    if (!envelope->event.string) return "without an event name";
    return NULL;
}

/* A small nested object: what the protocol's own messages carry in `data`. */
enum { PSH_JSON_TOKENS = 32 };

struct psh_json_object {
    const char *text;
    int count;
    jsmntok_t tokens[PSH_JSON_TOKENS];
};

static bool psh_json_parse(struct psh_json_object *object, const char *text, size_t len)
{
    PUSHER_ASSERT(text);
    jsmn_parser parser;
    object->text = text;
    object->count = 0;
    if (!psh_json_valid(text, len)) return false;
    jsmn_init(&parser);
    object->count = jsmn_parse(&parser, text, len, object->tokens, PSH_JSON_TOKENS);
    return object->count > 0 && object->tokens[0].type == JSMN_OBJECT;
}

/* Adds the inside of a valid string, its escapes undone. Returns its length, what was cut off
   included. */
static size_t psh_json_add_inside(struct psh_text *text, const char *at, size_t len)
{
    PUSHER_ASSERT(text && at);
    const char *end = at + len;
    size_t total = 0;
    while (at < end) {
        char piece[4];
        char *behind = piece;
        const char *slash = (const char *)memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((slash ? slash : end) - at);
        psh_env_add_bytes(text, at, plain);
        total += plain;
        if (!slash) break;
        at = psh_json_escape(slash + 1, end, &behind);
        PUSHER_ASSERT(at && behind <= piece + sizeof piece);
        psh_env_add_bytes(text, piece, (size_t)(behind - piece));
        total += (size_t)(behind - piece);
    }
    return total;
}

/* The raw text of a member's value, a string's without its quotes; len 0 when there is none. */
static struct psh_value psh_json_get(const struct psh_json_object *object, const char *key)
{
    PUSHER_ASSERT(object->count <= PSH_JSON_TOKENS);
    struct psh_value value;
    memset(&value, 0, sizeof value);
    size_t key_len = strlen(key);
    int i = 1;
    while (i + 1 < object->count) {
        const jsmntok_t *name = &object->tokens[i], *token = &object->tokens[i + 1];
        if ((size_t)(name->end - name->start) == key_len &&
            memcmp(object->text + name->start, key, key_len) == 0) {
            value.at = object->text + token->start;
            value.len = (size_t)(token->end - token->start);
            value.string = token->type == JSMN_STRING;
        }
        for (i += 2; i < object->count && object->tokens[i].start < token->end; i++) continue;
    }
    return value;
}

/* The same, copied with its escapes undone and cut to cap. False when missing or no string. */
static bool psh_json_get_text(const struct psh_json_object *object, const char *key,
                              char *out, size_t cap)
{
    PUSHER_ASSERT(cap > 0);
    struct psh_value value = psh_json_get(object, key);
    struct psh_text text;
    psh_env_text(&text, out, cap);
    if (value.string) (void)psh_json_add_inside(&text, value.at, value.len);
    return value.string;
}

/* An unsigned number, as a number or as the text of one, less its fraction; fallback when it is
   neither, or is written with an exponent. */
static uint32_t psh_json_get_uint(const struct psh_json_object *object, const char *key,
                                  uint32_t fallback)
{
    struct psh_value value = psh_json_get(object, key);
    uint64_t number = 0;
    size_t i = 0;
    if (value.len == 0 || !psh_json_digit((unsigned char)value.at[0])) return fallback;
    for (; i < value.len && psh_json_digit((unsigned char)value.at[i]); i++) {
        number = number * 10 + (uint64_t)(value.at[i] - '0');
        if (number > UINT32_MAX) return fallback;
    }
    if (i < value.len && value.at[i] == '.') i++;
    while (i < value.len && psh_json_digit((unsigned char)value.at[i])) i++;
    return i == value.len ? (uint32_t)number : fallback;
}

/* A walk over text that psh_json_valid() has accepted: it trusts the grammar and copies nothing. */
struct psh_json_walk {
    const char *at, *end; /* at the next member or element, or at the closing bracket */
    bool object;
};

/* Bytes of the eight at `at`, outside strings, before the first quote or bracket. */
static size_t psh_json_flat8(const char *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    word |= PSH_EACH(0x20); /* '[' and '{' differ in this bit, and so do ']' and '}' */
    uint64_t special = PSH_HAS_ZERO(word ^ PSH_EACH('"')) | PSH_HAS_ZERO(word ^ PSH_EACH('{')) |
                       PSH_HAS_ZERO(word ^ PSH_EACH('}'));
    if (!special) return 8;
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (size_t)__builtin_ctzll(special) / 8;
#else
    size_t flat = 0;
    while (at[flat] != '"' && (at[flat] | 0x20) != '{' && (at[flat] | 0x20) != '}') flat++;
    return flat;
#endif
}

/* Behind the string whose opening quote is at `at`. */
static const char *psh_json_walk_string(const char *at, const char *end)
{
    PUSHER_ASSERT(at < end && *at == '"');
    at++;
    while (at < end && *at != '"') {
        size_t plain = end - at >= 8 ? psh_json_plain8(at) : 0;
        at += plain > 0 ? plain : *at == '\\' ? 2 : 1;
    }
    PUSHER_ASSERT(at < end);
    return at + 1;
}

/* Behind the object or array that starts at `at`. */
static const char *psh_json_walk_nested(const char *at, const char *end)
{
    size_t depth = 0;
    do {
        PUSHER_ASSERT(at < end);
        size_t flat = end - at >= 8 ? psh_json_flat8(at) : 0;
        at += flat;
        if (flat == 8) continue;
        if (*at == '"') {
            at = psh_json_walk_string(at, end);
            continue;
        }
        int byte = *at++ | 0x20;
        if (byte == '{') depth++;
        if (byte == '}') depth--;
    } while (depth > 0);
    return at;
}

/* Reads the value at `at` into *value and returns the place behind it. */
static const char *psh_json_walk_value(const char *at, const char *end, struct psh_value *value)
{
    PUSHER_ASSERT(at < end && value);
    const char *first = at;
    value->string = *at == '"';
    if (value->string) {
        at = psh_json_walk_string(at, end);
    } else if (*at == '{' || *at == '[') {
        at = psh_json_walk_nested(at, end);
    } else {
        while (at < end && *at != ',' && *at != '}' && *at != ']' &&
               !psh_json_space((unsigned char)*at))
            at++;
    }
    value->raw = first;
    value->raw_len = (size_t)(at - first);
    value->at = value->string ? first + 1 : first;
    value->len = value->string ? value->raw_len - 2 : value->raw_len;
    return at;
}

/* text: one valid JSON value, with or without space around it. False: no object and no array. */
static bool psh_json_enter(struct psh_json_walk *walk, const char *text, size_t len)
{
    PUSHER_ASSERT(walk && (text || len == 0));
    walk->end = text + len;
    walk->at = psh_json_skip_space(text, walk->end);
    PUSHER_ASSERT(walk->at < walk->end);
    walk->object = *walk->at == '{';
    if (!walk->object && *walk->at != '[') return false;
    walk->at = psh_json_skip_space(walk->at + 1, walk->end);
    return true;
}

/* The next member or element; false at the end, again and again. Values are raw text, a string's
   without its quotes and with its escapes; *key is zeroed in an array. */
static bool psh_json_next(struct psh_json_walk *walk, struct psh_value *key,
                          struct psh_value *value)
{
    const char *at = walk->at, *end = walk->end;
    PUSHER_ASSERT(at < end && key && value);
    if (*at == '}' || *at == ']') return false;
    memset(key, 0, sizeof *key);
    if (walk->object) {
        at = psh_json_skip_space(psh_json_walk_value(at, end, key), end);
        PUSHER_ASSERT(at < end && *at == ':');
        at = psh_json_skip_space(at + 1, end);
    }
    at = psh_json_skip_space(psh_json_walk_value(at, end, value), end);
    PUSHER_ASSERT(at < end);
    walk->at = *at == ',' ? psh_json_skip_space(at + 1, end) : at;
    return true;
}

/* Undoes the escapes of the inside of a valid string, in place: an escape is never shorter than
   what it stands for. Returns the new length; writes no terminator. */
static size_t psh_json_unescape(char *at, size_t len)
{
    if (len == 0) return 0;
    PUSHER_ASSERT(at);
    char *out = at;
    const char *from = at, *end = at + len;
    while (from < end) {
        const char *slash = (const char *)memchr(from, '\\', (size_t)(end - from));
        size_t plain = (size_t)((slash ? slash : end) - from);
        if (out != from) memmove(out, from, plain);
        out += plain;
        if (!slash) break;
        from = psh_json_escape(slash + 1, end, &out);
        PUSHER_ASSERT(from && out < from);
    }
    return (size_t)(out - at);
}

/* Is this the key, its escapes undone? In a token of a path ~1 is a slash and ~0 a tilde. An
   element of an array has no key. */
static bool psh_json_same(const struct psh_value *key, const char *name, size_t name_len,
                          bool token)
{
    PUSHER_ASSERT(key && name);
    if (!key->at) return false;
    const char *at = key->at, *end = key->at + key->len, *name_end = name + name_len;
    while (at < end) {
        char piece[4];
        char *behind = piece;
        if (*at == '\\') at = psh_json_escape(at + 1, end, &behind);
        else *behind++ = *at++;
        PUSHER_ASSERT(at && behind <= piece + sizeof piece);
        for (const char *byte = piece; byte < behind; byte++) {
            if (name == name_end) return false;
            char want = *name++;
            if (token && want == '~') want = *name++ == '0' ? '~' : '/';
            if (*byte != want) return false;
        }
    }
    return name == name_end;
}

static bool psh_json_key_is(const struct psh_value *key, const char *name)
{
    return psh_json_same(key, name, strlen(name), false);
}

/* The value of this key in what is left of the walk, the last one as in JSON.parse; raw_len 0 when
   there is none. */
static struct psh_value psh_json_pick(struct psh_json_walk walk, const char *name)
{
    struct psh_value key, value, found;
    memset(&found, 0, sizeof found);
    while (psh_json_next(&walk, &key, &value))
        if (psh_json_key_is(&key, name)) found = value;
    PUSHER_ASSERT(walk.object || found.raw_len == 0);
    return found;
}

/* ---- for the user's payloads: pusher_json_... ---- */

static pusher_json psh_json_no(pusher_json_type type)
{
    PUSHER_ASSERT(type <= PUSHER_JSON_BAD);
    pusher_json none;
    none.type = type;
    none.raw = NULL;
    none.raw_len = 0;
    return none;
}

static pusher_json psh_json_value(const struct psh_value *value)
{
    if (value->raw_len == 0) return psh_json_no(PUSHER_JSON_NONE);
    pusher_json json;
    json.raw = value->raw;
    json.raw_len = value->raw_len;
    switch (*value->raw) {
    case '{': json.type = PUSHER_JSON_OBJECT; break;
    case '[': json.type = PUSHER_JSON_ARRAY; break;
    case '"': json.type = PUSHER_JSON_STRING; break;
    case 't':
    case 'f': json.type = PUSHER_JSON_BOOL; break;
    case 'n': json.type = PUSHER_JSON_NULL; break;
    default: json.type = PUSHER_JSON_NUMBER; break;
    }
    return json;
}

/* The whole text as a value, without the space around it. */
static pusher_json psh_json_whole(const char *text, size_t len)
{
    struct psh_value value;
    if (!psh_json_valid(text, len)) return psh_json_no(PUSHER_JSON_BAD);
    (void)psh_json_walk_value(psh_json_skip_space(text, text + len), text + len, &value);
    return psh_json_value(&value);
}

/* RFC 6901: "" or "/...", and '~' only in ~0 and ~1. */
static bool psh_json_is_path(const char *path)
{
    PUSHER_ASSERT(path);
    if (*path != '\0' && *path != '/') return false;
    for (; *path; path++)
        if (*path == '~' && path[1] != '0' && path[1] != '1') return false;
    return true;
}

/* "0", or digits without a leading zero. */
static bool psh_json_index(const char *token, size_t len, size_t *index)
{
    *index = 0;
    if (len == 0 || (len > 1 && *token == '0')) return false;
    for (size_t i = 0; i < len; i++) {
        if (!psh_json_digit((unsigned char)token[i]) || *index > (SIZE_MAX - 9) / 10) return false;
        *index = *index * 10 + (size_t)(token[i] - '0');
    }
    return true;
}

/* One step of a path: the member or element that its token names. */
static pusher_json psh_json_child(pusher_json parent, const char *token, size_t len)
{
    struct psh_json_walk walk;
    struct psh_value key, value, found;
    size_t index = 0;
    memset(&found, 0, sizeof found);
    if (parent.raw_len == 0 || !psh_json_enter(&walk, parent.raw, parent.raw_len))
        return psh_json_no(PUSHER_JSON_NONE);
    if (!walk.object && !psh_json_index(token, len, &index)) return psh_json_no(PUSHER_JSON_NONE);
    while (psh_json_next(&walk, &key, &value)) {
        if (walk.object && psh_json_same(&key, token, len, true)) found = value;
        if (walk.object || index-- > 0) continue;
        found = value;
        break;
    }
    return psh_json_value(&found);
}

static pusher_json psh_json_follow(pusher_json value, const char *path)
{
    if (!psh_json_is_path(path)) return psh_json_no(PUSHER_JSON_BAD);
    while (*path && value.raw_len > 0) {
        PUSHER_ASSERT(*path == '/');
        size_t len = strcspn(path + 1, "/");
        value = psh_json_child(value, path + 1, len);
        path += 1 + len;
    }
    return value;
}

static bool psh_json_each(pusher_json container, size_t *position, struct psh_value *key,
                          struct psh_value *value)
{
    struct psh_json_walk walk;
    PUSHER_ASSERT(*position < container.raw_len);
    if (!psh_json_enter(&walk, container.raw, container.raw_len)) return false;
    if (*position > 0) walk.at = container.raw + *position;
    if (!psh_json_next(&walk, key, value)) return false;
    *position = (size_t)(walk.at - container.raw);
    return true;
}

/* The inside of a string: escapes undone, terminated, cut to cap. False: cut. */
static bool psh_json_to_text(const char *at, size_t at_len, char *out, size_t cap, size_t *len)
{
    char nothing[1];
    struct psh_text text;
    if (!out) cap = 0;
    psh_env_text(&text, cap > 0 ? out : nothing, cap > 0 ? cap : 1);
    size_t full = psh_json_add_inside(&text, at, at_len);
    PUSHER_ASSERT(full >= text.len);
    if (len) *len = full;
    return full < cap;
}

/* The number digits * 10^exponent; digits does not end in 0. */
struct psh_json_decimal {
    uint64_t digits;    /* the first 19 at most */
    int64_t exponent;
    bool negative, cut; /* cut: others than zeros came behind them */
};

/* From the "e" of a number on, or from its end. */
static int64_t psh_json_exponent(const char *at, const char *end)
{
    int64_t exponent = 0;
    bool negative = end - at > 1 && at[1] == '-';
    for (; at < end; at++)
        if (psh_json_digit((unsigned char)*at) && exponent < INT64_MAX / 100)
            exponent = exponent * 10 + (*at - '0');
    return negative ? -exponent : exponent;
}

static struct psh_json_decimal psh_json_decimal_of(const char *at, size_t len)
{
    PUSHER_ASSERT(at && len > 0);
    struct psh_json_decimal out;
    const char *end = at + len;
    bool fraction = false;
    memset(&out, 0, sizeof out);
    out.negative = *at == '-';
    for (at += out.negative; at < end && *at != 'e' && *at != 'E'; at++) {
        bool fits = out.digits < UINT64_C(1000000000000000000);
        if (*at == '.') {
            fraction = true;
            continue;
        }
        if (fits) out.digits = out.digits * 10 + (uint64_t)(*at - '0');
        else if (*at != '0') out.cut = true;
        if (fits == fraction) out.exponent += fraction ? -1 : 1;
    }
    out.exponent = out.digits ? out.exponent + psh_json_exponent(at, end) : 0;
    while (out.digits > 0 && out.digits % 10 == 0) {
        out.digits /= 10;
        out.exponent++;
    }
    return out;
}

static bool psh_json_to_int64(const char *at, size_t len, int64_t *out)
{
    struct psh_json_decimal decimal = psh_json_decimal_of(at, len);
    const uint64_t most = (uint64_t)INT64_MAX + decimal.negative;
    if (decimal.cut || decimal.exponent < 0 || decimal.exponent > 18) return false;
    uint64_t value = decimal.digits;
    for (; decimal.exponent > 0; decimal.exponent--) {
        if (value > most / 10) return false;
        value *= 10;
    }
    if (value > most) return false;
    PUSHER_ASSERT(value > 0 || decimal.digits == 0);
    if (!decimal.negative) *out = (int64_t)value;
    else *out = value ? -(int64_t)(value - 1) - 1 : 0;
    return true;
}

/* mantissa * 2^exponent; the mantissa's top bit is set. Eleven bits finer than a double. */
struct psh_json_binary {
    uint64_t mantissa;
    int exponent;
};

static struct psh_json_binary psh_json_times(struct psh_json_binary a, struct psh_json_binary b)
{
    const uint64_t half = UINT32_MAX;
    uint64_t low = (a.mantissa & half) * (b.mantissa & half);
    uint64_t left = (a.mantissa >> 32) * (b.mantissa & half);
    uint64_t right = (a.mantissa & half) * (b.mantissa >> 32);
    uint64_t middle = (low >> 32) + (left & half) + (right & half);
    struct psh_json_binary product;
    product.mantissa = (a.mantissa >> 32) * (b.mantissa >> 32) + (left >> 32) + (right >> 32) +
                       (middle >> 32);
    product.exponent = a.exponent + b.exponent + 64;
    low = middle << 32 | (low & half);
    if (!(product.mantissa >> 63)) {
        product.mantissa = product.mantissa << 1 | low >> 63;
        product.exponent--;
        low <<= 1;
    }
    if (low >> 63 && product.mantissa != UINT64_MAX) product.mantissa++;
    PUSHER_ASSERT(product.mantissa >> 63);
    return product;
}

/* The nearest double, by steps that are exact: no libm, and no layout of doubles is assumed. */
static double psh_json_round(struct psh_json_binary from)
{
    PUSHER_ASSERT(from.mantissa >> 63);
    int drop = from.exponent + 63 < -1022 ? 11 - 1022 - 63 - from.exponent : 11; /* subnormal */
    if (drop > 63) return 0;
    uint64_t kept = from.mantissa >> drop, rest = from.mantissa << (64 - drop);
    if (rest > UINT64_C(1) << 63 || (rest == UINT64_C(1) << 63 && (kept & 1))) kept++;
    double value = (double)kept;
    int exponent = from.exponent + drop;
    for (; exponent >= 32; exponent -= 32) value *= 4294967296.0;
    for (; exponent <= -32; exponent += 32) value /= 4294967296.0;
    if (exponent < 0) return value / (double)(UINT64_C(1) << -exponent);
    return value * (double)(UINT64_C(1) << exponent);
}

/* digits * 10^exponent by repeated squaring of 10 or 1/10; each step is off by less than a unit of
   its 64 bits, all together by less than a fifth of a double's last place. */
static double psh_json_power(uint64_t digits, int exponent)
{
    PUSHER_ASSERT(digits > 0 && exponent >= -512 && exponent <= 512);
    struct psh_json_binary value = {digits, 0};
    struct psh_json_binary power = {UINT64_C(0xA000000000000000), -60};
    if (exponent < 0) {
        power.mantissa = UINT64_C(0xCCCCCCCCCCCCCCCD);
        power.exponent = -67;
        exponent = -exponent;
    }
    for (; !(value.mantissa >> 63); value.exponent--) value.mantissa <<= 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) value = psh_json_times(value, power);
        power = psh_json_times(power, power);
    }
    return psh_json_round(value);
}

static double psh_json_to_double(const char *at, size_t len)
{
    struct psh_json_decimal decimal = psh_json_decimal_of(at, len);
    int64_t places = decimal.exponent < 0 ? -decimal.exponent : decimal.exponent;
    double value = (double)decimal.digits;
    if (decimal.digits > UINT64_C(1) << 53 || places > 22) {
        if (places > 512) places = 512;
        value = psh_json_power(decimal.digits, (int)(decimal.exponent < 0 ? -places : places));
    } else { /* both are exact, so that one step rounds once */
        double power = 1;
        for (; places > 0; places--) power *= 10;
        value = decimal.exponent < 0 ? value / power : value * power;
    }
    return decimal.negative ? -value : value;
}

// >>table
/* Name -> item. Flat open addressing with linear probing and backward-shift removal over pairs of
   hash and index; the items, with generation and reference count, stand in pages that stay put. */

struct psh_entry { /* first member of every item in a table */
    struct psh_slot slot;
    uint32_t references;
    uint32_t hash;
    char *name;
    unsigned char name_len;
    bool indexed;             /* found by its name */
    unsigned char state, mark; /* the owner's */
};

struct psh_bucket {
    uint32_t hash;
    uint32_t id; /* index + 1; 0 = empty */
};

struct psh_table {
    struct psh_pool pool;
    struct psh_bucket *buckets;
    uint32_t mask;  /* number of buckets - 1 */
    uint32_t count; /* entries indexed */
    uint64_t key[2];
};

static void psh_table_init(struct psh_table *table, const struct psh_env *env, size_t item_size,
                           const uint64_t key[2])
{
    PUSHER_ASSERT(item_size >= sizeof(struct psh_entry));
    psh_env_pool_init(&table->pool, env, item_size);
    table->buckets = NULL;
    table->mask = 0;
    table->count = 0;
    table->key[0] = key[0];
    table->key[1] = key[1];
}

static uint32_t psh_table_hash(const struct psh_table *table, const char *name, size_t len)
{
    uint64_t hash = psh_codec_hash(table->key, name, len);
    return (uint32_t)(hash ^ hash >> 32);
}

static struct psh_entry *psh_table_at(const struct psh_table *table, uint32_t index)
{
    PUSHER_ASSERT(index != PSH_NONE);
    return (struct psh_entry *)psh_env_pool_at(&table->pool, index);
}

/* The index of the name's entry, or PSH_NONE. */
static uint32_t psh_table_find(const struct psh_table *table, const char *name, size_t len)
{
    PUSHER_ASSERT(name);
    if (table->count == 0 || len > UINT8_MAX) return PSH_NONE;
    uint32_t hash = psh_table_hash(table, name, len);
    for (uint32_t i = hash & table->mask; table->buckets[i].id; i = (i + 1) & table->mask) {
        if (table->buckets[i].hash != hash) continue;
        const struct psh_entry *entry = psh_table_at(table, table->buckets[i].id - 1);
        if (entry->name_len == len && memcmp(entry->name, name, len) == 0)
            return table->buckets[i].id - 1;
    }
    return PSH_NONE;
}

static void psh_table_place(struct psh_table *table, uint32_t hash, uint32_t id)
{
    PUSHER_ASSERT(id > 0);
    uint32_t i = hash & table->mask;
    while (table->buckets[i].id) i = (i + 1) & table->mask;
    table->buckets[i].hash = hash;
    table->buckets[i].id = id;
}

/* At most three quarters full, so that a probe is short and always ends. */
static bool psh_table_grow(struct psh_table *table)
{
    PUSHER_ASSERT((table->mask & (table->mask + 1)) == 0 && table->count <= table->mask + 1);
    uint32_t old = table->buckets ? table->mask + 1 : 0;
    if (table->count + 1 <= old / 4 * 3) return true;
    if (old > UINT32_MAX / 2) return false;
    uint32_t size = old ? old * 2 : 8;
    const struct psh_env *env = table->pool.env;
    struct psh_bucket *buckets = (struct psh_bucket *)psh_env_alloc(env, size * sizeof *buckets);
    if (!buckets) return false;
    memset(buckets, 0, size * sizeof *buckets);
    struct psh_bucket *before = table->buckets;
    table->buckets = buckets;
    table->mask = size - 1;
    for (uint32_t i = 0; i < old; i++)
        if (before[i].id) psh_table_place(table, before[i].hash, before[i].id);
    psh_env_free(env, before);
    return true;
}

/* A new entry, indexed, without a reference; NULL when there is no memory. */
static struct psh_entry *psh_table_add(struct psh_table *table, const char *name, size_t len,
                                       uint32_t *index)
{
    PUSHER_ASSERT(len <= UINT8_MAX && psh_table_find(table, name, len) == PSH_NONE);
    if (!psh_table_grow(table)) return NULL;
    char *copy = psh_env_copy(table->pool.env, name, len);
    if (!copy) return NULL;
    struct psh_entry *entry = (struct psh_entry *)psh_env_pool_take(&table->pool, index);
    if (!entry) {
        psh_env_free(table->pool.env, copy);
        return NULL;
    }
    entry->name = copy;
    entry->name_len = (unsigned char)len;
    entry->hash = psh_table_hash(table, name, len);
    entry->indexed = true;
    psh_table_place(table, entry->hash, *index + 1);
    table->count++;
    return entry;
}

/* Takes the entry out of the index: its name is free for another. The entry itself stays. */
static void psh_table_unindex(struct psh_table *table, uint32_t index)
{
    struct psh_entry *entry = psh_table_at(table, index);
    if (!entry->indexed) return;
    uint32_t hole = entry->hash & table->mask;
    while (table->buckets[hole].id != index + 1) hole = (hole + 1) & table->mask;
    for (uint32_t i = (hole + 1) & table->mask; table->buckets[i].id; i = (i + 1) & table->mask) {
        uint32_t home = table->buckets[i].hash & table->mask;
        if (((i - home) & table->mask) < ((i - hole) & table->mask)) continue;
        table->buckets[hole] = table->buckets[i]; /* it may stand nearer to its home */
        hole = i;
    }
    table->buckets[hole].id = 0;
    PUSHER_ASSERT(table->count > 0);
    table->count--;
    entry->indexed = false;
}

static void psh_table_remove(struct psh_table *table, uint32_t index)
{
    psh_table_unindex(table, index);
    struct psh_entry *entry = psh_table_at(table, index);
    PUSHER_ASSERT(entry->references == 0);
    psh_env_free(table->pool.env, entry->name);
    entry->name = NULL;
    psh_env_pool_give(&table->pool, index);
}

/* Makes all handles of the entry stale; the entry begins a new life under a new generation. */
static void psh_table_renew(struct psh_table *table, uint32_t index)
{
    struct psh_entry *entry = psh_table_at(table, index);
    PUSHER_ASSERT(entry->slot.generation & 1);
    entry->slot.generation += 2;
}

static void psh_table_free(struct psh_table *table)
{
    for (uint32_t i = 0; i < table->pool.used; i++) {
        struct psh_entry *entry = psh_table_at(table, i);
        if (entry->slot.generation & 1) psh_env_free(table->pool.env, entry->name);
    }
    psh_env_free(table->pool.env, table->buckets);
    table->buckets = NULL;
    table->count = table->mask = 0;
    psh_env_pool_free(&table->pool);
}

// >>bind
/* Bindings and dispatch. A handler removed while events are being given out is marked and skipped,
   and swept afterwards: a list never changes under the loop that walks it. */

struct psh_list { /* of bindings, as ids: index + 1 */
    uint32_t first, last;
};

struct psh_handlers { /* what a channel owns */
    struct psh_list all, named;
};

struct psh_binding {
    struct psh_slot slot;
    uint32_t before, next, next_dead; /* ids */
    struct psh_handlers *owner;
    char *name;         /* NULL: every event */
    size_t name_len;
    pusher_event_fn fn;
    void *user_data;
    uint64_t born;      /* the round in which it was made: it waits for the next one */
    bool dead;
};

struct psh_bind {
    struct psh_pool pool;
    uint64_t round; /* events given out */
    uint32_t dead;  /* id of the first to be swept */
    bool busy;      /* handlers may be running: nothing is unlinked */
};

static void psh_bind_init(struct psh_bind *bind, const struct psh_env *env)
{
    PUSHER_ASSERT(env);
    psh_env_pool_init(&bind->pool, env, sizeof(struct psh_binding));
    bind->round = 0;
    bind->dead = 0;
    bind->busy = false;
}

static struct psh_binding *psh_bind_at(const struct psh_bind *bind, uint32_t id)
{
    PUSHER_ASSERT(id > 0);
    return (struct psh_binding *)psh_env_pool_at(&bind->pool, id - 1);
}

static struct psh_list *psh_bind_list(const struct psh_binding *binding)
{
    PUSHER_ASSERT(binding->owner);
    return binding->name ? &binding->owner->named : &binding->owner->all;
}

/* name NULL: every event. Returns the binding's id, or 0 when there is no memory. */
static uint32_t psh_bind_add(struct psh_bind *bind, struct psh_handlers *owner, const char *name,
                             size_t name_len, pusher_event_fn fn, void *user_data)
{
    PUSHER_ASSERT(owner && fn);
    uint32_t index = 0;
    char *copy = name ? psh_env_copy(bind->pool.env, name, name_len) : NULL;
    if (name && !copy) return 0;
    struct psh_binding *binding = (struct psh_binding *)psh_env_pool_take(&bind->pool, &index);
    if (!binding) {
        psh_env_free(bind->pool.env, copy);
        return 0;
    }
    binding->owner = owner;
    binding->name = copy;
    binding->name_len = name_len;
    binding->fn = fn;
    binding->user_data = user_data;
    binding->born = bind->round;
    struct psh_list *list = psh_bind_list(binding);
    binding->before = list->last;
    if (list->last) psh_bind_at(bind, list->last)->next = index + 1;
    else list->first = index + 1;
    list->last = index + 1;
    return index + 1;
}

static void psh_bind_unlink(struct psh_bind *bind, uint32_t id)
{
    struct psh_binding *binding = psh_bind_at(bind, id);
    struct psh_list *list = psh_bind_list(binding);
    if (binding->before) psh_bind_at(bind, binding->before)->next = binding->next;
    else list->first = binding->next;
    if (binding->next) psh_bind_at(bind, binding->next)->before = binding->before;
    else list->last = binding->before;
    psh_env_free(bind->pool.env, binding->name);
    binding->name = NULL;
    psh_env_pool_give(&bind->pool, id - 1);
}

static void psh_bind_sweep(struct psh_bind *bind)
{
    PUSHER_ASSERT(!bind->busy);
    while (bind->dead) {
        uint32_t id = bind->dead;
        bind->dead = psh_bind_at(bind, id)->next_dead;
        psh_bind_unlink(bind, id);
    }
}

static void psh_bind_kill(struct psh_bind *bind, uint32_t id)
{
    struct psh_binding *binding = psh_bind_at(bind, id);
    PUSHER_ASSERT(!binding->dead);
    binding->dead = true;
    binding->next_dead = bind->dead;
    bind->dead = id;
    if (!bind->busy) psh_bind_sweep(bind);
}

/* A live binding's id, or 0 when the handle is stale. */
static uint32_t psh_bind_get(const struct psh_bind *bind, pusher_binding handle)
{
    const struct psh_binding *binding = (const struct psh_binding *)psh_env_pool_get(
        &bind->pool, handle.id, handle.generation);
    return binding && !binding->dead ? handle.id : 0;
}

static bool psh_bind_matches(const struct psh_binding *binding, const char *name,
                             pusher_event_fn fn, const void *user_data)
{
    if (binding->dead || (fn && fn != binding->fn)) return false;
    if (user_data && user_data != binding->user_data) return false;
    return !name || (binding->name && strcmp(name, binding->name) == 0);
}

static uint32_t psh_bind_kill_list(struct psh_bind *bind, const struct psh_list *list,
                                   const char *name, pusher_event_fn fn, const void *user_data)
{
    uint32_t killed = 0, next;
    for (uint32_t id = list->first; id; id = next) {
        struct psh_binding *binding = psh_bind_at(bind, id);
        next = binding->next; /* a killed one may be swept at once */
        if (!psh_bind_matches(binding, name, fn, user_data)) continue;
        psh_bind_kill(bind, id);
        killed++;
    }
    return killed;
}

/* NULL matches anything. */
static uint32_t psh_bind_kill_where(struct psh_bind *bind, const struct psh_handlers *owner,
                                    const char *name, pusher_event_fn fn, const void *user_data)
{
    PUSHER_ASSERT(owner);
    return psh_bind_kill_list(bind, &owner->all, name, fn, user_data) +
           psh_bind_kill_list(bind, &owner->named, name, fn, user_data);
}

static uint32_t psh_bind_run(struct psh_bind *bind, const struct psh_list *list, size_t name_len,
                             pusher_client *client, const pusher_event *event, const bool *stop)
{
    uint32_t fired = 0;
    for (uint32_t id = list->first; id && !*stop; id = psh_bind_at(bind, id)->next) {
        const struct psh_binding *binding = psh_bind_at(bind, id);
        if (binding->dead || binding->born == bind->round) continue;
        if (binding->name && (binding->name_len != name_len ||
                              memcmp(binding->name, event->name, name_len) != 0))
            continue;
        binding->fn(client, event, binding->user_data);
        fired++;
    }
    return fired;
}

/* Gives the event to a channel's handlers (NULL: none) and to everyone's; returns how many it
   reached. *stop ends it early. */
static uint32_t psh_bind_dispatch(struct psh_bind *bind, const struct psh_handlers *channel,
                                  const struct psh_handlers *everyone, size_t name_len,
                                  pusher_client *client, const pusher_event *event,
                                  const bool *stop)
{
    PUSHER_ASSERT(bind->busy && event->name && event->name[name_len] == '\0');
    const struct psh_list *lists[4] = {NULL, NULL, &everyone->all, &everyone->named};
    uint32_t fired = 0;
    bind->round++;
    if (channel) lists[0] = &channel->all, lists[1] = &channel->named;
    for (int i = channel ? 0 : 2; i < 4; i++)
        if (lists[i]->first) fired += psh_bind_run(bind, lists[i], name_len, client, event, stop);
    return fired;
}

static void psh_bind_free(struct psh_bind *bind)
{
    for (uint32_t i = 0; i < bind->pool.used; i++)
        psh_env_free(bind->pool.env, psh_bind_at(bind, i + 1)->name);
    psh_env_pool_free(&bind->pool);
}

// >>member
/* The members of a presence channel: an array without gaps, and flat open addressing to find one
   by its id. Ids come from strangers, so the hash is keyed. */

enum { PSH_MEMBER_MAX_ID = 255 }; /* bytes; pusher.com allows 128 characters */

enum psh_member_result {
    PSH_MEMBER_ADDED = 0,
    PSH_MEMBER_CHANGED, /* a known id with another info, which has taken the place of the old one */
    PSH_MEMBER_SAME,    /* a known id, and nothing new */
    PSH_MEMBER_FULL,
    PSH_MEMBER_MEMORY,
    PSH_MEMBER_BAD      /* not what the protocol says */
};

/* One allocation; the id and the info (JSON text, "" = none given) stand behind it, terminated. */
struct psh_member {
    uint32_t hash;
    uint32_t id_len, info_len;
    bool seen; /* the owner's */
};

struct psh_members {
    const struct psh_env *env;
    uint64_t key[2];
    struct psh_member **items; /* and the buckets behind them, in one allocation */
    uint32_t *buckets;         /* index + 1; 0 = empty */
    uint32_t mask;             /* number of buckets - 1 */
    uint32_t count, cap, max;
};

static void psh_member_init(struct psh_members *members, const struct psh_env *env,
                            const uint64_t key[2], uint32_t max)
{
    PUSHER_ASSERT(members && env && max > 0);
    memset(members, 0, sizeof *members);
    members->env = env;
    members->key[0] = key[0];
    members->key[1] = key[1];
    members->max = max;
}

/* The list is empty afterwards, and may be filled again. */
static void psh_member_free(struct psh_members *members)
{
    PUSHER_ASSERT(members->count <= members->cap);
    for (uint32_t i = 0; i < members->count; i++) psh_env_free(members->env, members->items[i]);
    psh_env_free(members->env, members->items);
    members->items = NULL;
    members->buckets = NULL;
    members->mask = members->count = members->cap = 0;
}

static char *psh_member_id(struct psh_member *member)
{
    PUSHER_ASSERT(member);
    return (char *)(member + 1);
}

static char *psh_member_info(struct psh_member *member)
{
    return psh_member_id(member) + member->id_len + 1;
}

static uint32_t psh_member_hash(const struct psh_members *members, const char *id, size_t len)
{
    uint64_t hash = psh_codec_hash(members->key, id, len);
    return (uint32_t)(hash ^ hash >> 32);
}

/* The bucket that holds this (index + 1, or 0 for the first empty one). It must be there. */
static uint32_t psh_member_bucket(const struct psh_members *members, uint32_t hash, uint32_t holds)
{
    PUSHER_ASSERT(members->buckets && holds <= members->count);
    uint32_t i = hash & members->mask;
    while (members->buckets[i] != holds) {
        PUSHER_ASSERT(members->buckets[i] != 0);
        i = (i + 1) & members->mask;
    }
    return i;
}

static uint32_t psh_member_look_up(const struct psh_members *members, uint32_t hash,
                                   const char *id, size_t len)
{
    if (members->count == 0) return PSH_NONE;
    for (uint32_t i = hash & members->mask; members->buckets[i]; i = (i + 1) & members->mask) {
        struct psh_member *member = members->items[members->buckets[i] - 1];
        if (member->hash == hash && member->id_len == len &&
            memcmp(psh_member_id(member), id, len) == 0)
            return members->buckets[i] - 1;
    }
    return PSH_NONE;
}

/* The member's index, or PSH_NONE. An index holds until the next take. */
static uint32_t psh_member_find(const struct psh_members *members, const char *id, size_t len)
{
    PUSHER_ASSERT(id || len == 0);
    return psh_member_look_up(members, psh_member_hash(members, id, len), id, len);
}

/* Room for one more. At most three quarters full, so that a probe is short and always ends. */
static bool psh_member_grow(struct psh_members *members)
{
    if (members->count < members->cap) return true;
    if (members->mask > UINT32_MAX / 4) return false;
    uint32_t size = members->buckets ? (members->mask + 1) * 2 : 8, cap = size / 4 * 3;
    size_t unit = sizeof *members->items + sizeof *members->buckets;
    if (size > SIZE_MAX / unit) return false;
    struct psh_member **items =
        (struct psh_member **)psh_env_alloc(members->env, cap * sizeof *items + size * sizeof size);
    if (!items) return false;
    if (members->count) memcpy(items, members->items, members->count * sizeof *items);
    psh_env_free(members->env, members->items);
    members->items = items;
    members->buckets = (uint32_t *)(void *)(items + cap);
    memset(members->buckets, 0, size * sizeof *members->buckets);
    members->mask = size - 1;
    members->cap = cap;
    for (uint32_t i = 0; i < members->count; i++)
        members->buckets[psh_member_bucket(members, items[i]->hash, 0)] = i + 1;
    return true;
}

static struct psh_member *psh_member_make(const struct psh_env *env, const char *id, size_t id_len,
                                          const char *info, size_t info_len)
{
    PUSHER_ASSERT(id_len <= PSH_MEMBER_MAX_ID && info_len <= UINT32_MAX - 1024);
    struct psh_member *member =
        (struct psh_member *)psh_env_alloc(env, sizeof *member + id_len + info_len + 2);
    if (!member) return NULL;
    memset(member, 0, sizeof *member);
    member->id_len = (uint32_t)id_len;
    member->info_len = (uint32_t)info_len;
    if (id_len) memcpy(psh_member_id(member), id, id_len);
    psh_member_id(member)[id_len] = '\0';
    if (info_len) memcpy(psh_member_info(member), info, info_len);
    psh_member_info(member)[info_len] = '\0';
    return member;
}

/* Gives the member at index another info. */
static enum psh_member_result psh_member_change(struct psh_members *members, uint32_t index,
                                                const char *info, size_t info_len)
{
    struct psh_member *old = members->items[index];
    if (!info) return PSH_MEMBER_SAME;
    if (old->info_len == info_len && memcmp(psh_member_info(old), info, info_len) == 0)
        return PSH_MEMBER_SAME;
    struct psh_member *member =
        psh_member_make(members->env, psh_member_id(old), old->id_len, info, info_len);
    if (!member) return PSH_MEMBER_MEMORY;
    member->hash = old->hash;
    member->seen = old->seen;
    members->items[index] = member;
    psh_env_free(members->env, old);
    return PSH_MEMBER_CHANGED;
}

/* Adds a member, or changes the info of a known one; with info NULL a known one keeps what it has.
   BAD: the id is too long. */
static enum psh_member_result psh_member_put(struct psh_members *members, const char *id,
                                             size_t id_len, const char *info, size_t info_len)
{
    PUSHER_ASSERT((id || id_len == 0) && (info || info_len == 0));
    if (id_len > PSH_MEMBER_MAX_ID) return PSH_MEMBER_BAD;
    uint32_t hash = psh_member_hash(members, id, id_len);
    uint32_t index = psh_member_look_up(members, hash, id, id_len);
    if (index != PSH_NONE) return psh_member_change(members, index, info, info_len);
    if (members->count >= members->max) return PSH_MEMBER_FULL;
    if (!psh_member_grow(members)) return PSH_MEMBER_MEMORY;
    struct psh_member *member = psh_member_make(members->env, id, id_len, info, info_len);
    if (!member) return PSH_MEMBER_MEMORY;
    member->hash = hash;
    uint32_t bucket = psh_member_bucket(members, hash, 0);
    members->items[members->count++] = member;
    members->buckets[bucket] = members->count;
    return PSH_MEMBER_ADDED;
}

/* Empties a bucket; those behind it move up where that brings them nearer to their home. */
static void psh_member_empty(struct psh_members *members, uint32_t hole)
{
    uint32_t mask = members->mask;
    for (uint32_t i = (hole + 1) & mask; members->buckets[i]; i = (i + 1) & mask) {
        uint32_t home = members->items[members->buckets[i] - 1]->hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        members->buckets[hole] = members->buckets[i];
        hole = i;
    }
    members->buckets[hole] = 0;
}

/* Takes a member out of the list and hands it over, to be freed with psh_env_free(): who has gone
   can still be shown. The last member moves to its index. */
static struct psh_member *psh_member_take(struct psh_members *members, uint32_t index)
{
    PUSHER_ASSERT(index < members->count);
    struct psh_member *taken = members->items[index];
    uint32_t last = members->count - 1;
    psh_member_empty(members, psh_member_bucket(members, taken->hash, index + 1));
    if (index != last) {
        struct psh_member *moved = members->items[last];
        members->buckets[psh_member_bucket(members, moved->hash, last + 1)] = index + 1;
        members->items[index] = moved;
    }
    members->count = last;
    return taken;
}

/* The text of an id, which some servers send as a number. False: it is no id. */
static bool psh_member_id_text(const struct psh_value *id, struct psh_text *out)
{
    PUSHER_ASSERT(out->len == 0);
    if (id->raw_len == 0) return false;
    if (!id->string && *id->at != '-' && !psh_json_digit((unsigned char)*id->at)) return false;
    if (id->string) (void)psh_json_add_inside(out, id->at, id->len);
    else psh_env_add_bytes(out, id->at, id->len);
    return !out->cut;
}

/* Reads the data of member_added and member_removed: {"user_id":..,"user_info":..}. The id is
   terminated; cap is at most PSH_MEMBER_MAX_ID + 1. info->raw is JSON text; raw_len 0: none. */
static bool psh_member_read(const char *json, size_t len, char *id, size_t cap, size_t *id_len,
                            struct psh_value *info)
{
    PUSHER_ASSERT(cap <= PSH_MEMBER_MAX_ID + 1);
    struct psh_json_walk walk;
    struct psh_text text;
    psh_env_text(&text, id, cap);
    memset(info, 0, sizeof *info);
    *id_len = 0;
    if (!psh_json_valid(json, len) || !psh_json_enter(&walk, json, len)) return false;
    struct psh_value user_id = psh_json_pick(walk, "user_id");
    *info = psh_json_pick(walk, "user_info");
    bool good = psh_member_id_text(&user_id, &text);
    *id_len = text.len;
    return good;
}

struct psh_member_lists {
    struct psh_value ids, hash;
};

static bool psh_member_container(const struct psh_value *value)
{
    return value->raw_len > 0 && (*value->raw == '{' || *value->raw == '[');
}

/* {"presence":{"ids":[..],"hash":{..}}}, of which one of the two may be missing. */
static bool psh_member_lists_of(const char *json, size_t len, struct psh_member_lists *lists)
{
    struct psh_json_walk walk;
    struct psh_value key, value;
    memset(lists, 0, sizeof *lists);
    if (!psh_json_valid(json, len) || !psh_json_enter(&walk, json, len)) return false;
    struct psh_value presence = psh_json_pick(walk, "presence");
    if (!psh_member_container(&presence)) return false;
    (void)psh_json_enter(&walk, presence.raw, presence.raw_len);
    while (psh_json_next(&walk, &key, &value)) {
        if (psh_json_key_is(&key, "ids")) lists->ids = value;
        if (psh_json_key_is(&key, "hash")) lists->hash = value;
    }
    return psh_member_container(&lists->ids) || psh_member_container(&lists->hash);
}

/* One member of a snapshot. What is no id is left out. False: no memory. */
static bool psh_member_fill_one(struct psh_members *members, const struct psh_value *id,
                                const struct psh_value *info, bool *full)
{
    char buffer[PSH_MEMBER_MAX_ID + 1];
    struct psh_text text;
    psh_env_text(&text, buffer, sizeof buffer);
    if (!psh_member_id_text(id, &text)) return true;
    enum psh_member_result result = psh_member_put(members, text.at, text.len, info->raw,
                                                   info->raw_len);
    if (result == PSH_MEMBER_FULL) *full = true;
    return result != PSH_MEMBER_MEMORY;
}

/* hash as an object of id and info; or as the list that PHP makes of the keys 0, 1, 2 ...: its
   infos belong to the ids in their order, and without ids to their own numbers. */
static bool psh_member_fill_hash(struct psh_members *members, const struct psh_member_lists *lists,
                                 bool *full)
{
    struct psh_json_walk walk, ids;
    struct psh_value key, id, info;
    if (!psh_member_container(&lists->hash)) return true;
    (void)psh_json_enter(&walk, lists->hash.raw, lists->hash.raw_len);
    bool named = psh_member_container(&lists->ids);
    if (named) (void)psh_json_enter(&ids, lists->ids.raw, lists->ids.raw_len);
    for (uint32_t i = 0; psh_json_next(&walk, &id, &info); i++) {
        char digits[24];
        struct psh_text number;
        psh_env_text(&number, digits, sizeof digits);
        if (!walk.object && !named) {
            psh_env_add_uint(&number, i);
            id.at = id.raw = digits;
            id.len = id.raw_len = number.len;
        } else if (!walk.object && !psh_json_next(&ids, &key, &id)) {
            return true;
        }
        if (!psh_member_fill_one(members, &id, &info, full)) return false;
    }
    return true;
}

/* Those of ids that hash did not have, too. */
static bool psh_member_fill_ids(struct psh_members *members, const struct psh_value *ids,
                                bool *full)
{
    struct psh_json_walk walk;
    struct psh_value key, id, none;
    memset(&none, 0, sizeof none);
    if (!psh_member_container(ids)) return true;
    (void)psh_json_enter(&walk, ids->raw, ids->raw_len);
    while (psh_json_next(&walk, &key, &id))
        if (!psh_member_fill_one(members, &id, &none, full)) return false;
    return true;
}

/* Fills an empty list from the data of subscription_succeeded. ADDED: done; FULL: done, but there
   are more than max. MEMORY and BAD leave the list empty. */
static enum psh_member_result psh_member_snapshot(struct psh_members *members, const char *json,
                                                  size_t len)
{
    PUSHER_ASSERT(members->count == 0);
    struct psh_member_lists lists;
    bool full = false;
    if (!psh_member_lists_of(json, len, &lists)) return PSH_MEMBER_BAD;
    if (!psh_member_fill_hash(members, &lists, &full) ||
        !psh_member_fill_ids(members, &lists.ids, &full)) {
        psh_member_free(members);
        return PSH_MEMBER_MEMORY;
    }
    return full ? PSH_MEMBER_FULL : PSH_MEMBER_ADDED;
}

// >>http
/* Writes a request; reads a response head byte by byte, a header at a time. */

#define PSH_HTTP_MAX_HEAD 8192

enum psh_http_result { PSH_HTTP_MORE = 0, PSH_HTTP_STATUS, PSH_HTTP_HEADER, PSH_HTTP_END,
                       PSH_HTTP_BAD };

struct psh_http {
    size_t total;
    size_t line_len;
    bool cr, any;          /* the last byte was CR; the status line has been read */
    bool cut;              /* the line did not fit */
    int status;
    char *value;           /* of the header just read; its name is line */
    char line[192];        /* long enough for the headers that matter; others are cut */
};

static void psh_http_init(struct psh_http *http)
{
    memset(http, 0, sizeof *http);
}

static void psh_http_begin(struct psh_text *text, const char *method, const char *path)
{
    PUSHER_ASSERT(method && path && path[0] == '/');
    psh_env_add(text, method);
    psh_env_add(text, " ");
    psh_env_add(text, path);
}

static void psh_http_header(struct psh_text *text, const char *name, const char *value)
{
    PUSHER_ASSERT(name && value);
    psh_env_add(text, name);
    psh_env_add(text, ": ");
    psh_env_add(text, value);
    psh_env_add(text, "\r\n");
}

static char psh_http_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool psh_http_same(const char *a, const char *b)
{
    while (*a && psh_http_lower(*a) == psh_http_lower(*b)) a++, b++;
    return psh_http_lower(*a) == psh_http_lower(*b);
}

/* Is the token one of the comma-separated list's? */
static bool psh_http_lists(const char *list, const char *token)
{
    PUSHER_ASSERT(list && *token);
    size_t len = strlen(token);
    while (*list) {
        while (*list == ' ' || *list == '\t' || *list == ',') list++;
        size_t i = 0;
        while (i < len && psh_http_lower(list[i]) == psh_http_lower(token[i])) i++;
        if (i == len && (list[i] == '\0' || strchr(", \t", list[i]))) return true;
        while (*list && *list != ',') list++;
    }
    return false;
}

/* "HTTP/1.1 101 Switching Protocols": the reason stays in value. */
static enum psh_http_result psh_http_status(struct psh_http *http)
{
    PUSHER_ASSERT(!http->any);
    const char *line = http->line;
    if (strncmp(line, "HTTP/1.", 7) != 0 || http->line_len < 12 || line[8] != ' ')
        return PSH_HTTP_BAD;
    int status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9') return PSH_HTTP_BAD;
        status = status * 10 + (line[i] - '0');
    }
    if (status < 100 || (line[12] != '\0' && line[12] != ' ')) return PSH_HTTP_BAD;
    http->status = status;
    http->value = http->line + (line[12] ? 13 : 12);
    http->any = true;
    return PSH_HTTP_STATUS;
}

static enum psh_http_result psh_http_line(struct psh_http *http)
{
    PUSHER_ASSERT(http->line_len < sizeof http->line);
    http->line[http->line_len] = '\0';
    if (!http->any) return psh_http_status(http);
    if (http->line_len == 0) return PSH_HTTP_END;
    char *colon = strchr(http->line, ':');
    if (!colon || colon == http->line || http->line[0] == ' ') return PSH_HTTP_BAD;
    *colon = '\0';
    http->value = colon + 1 + strspn(colon + 1, " \t");
    size_t len = strlen(http->value);
    while (len > 0 && (http->value[len - 1] == ' ' || http->value[len - 1] == '\t')) len--;
    http->value[len] = '\0';
    return PSH_HTTP_HEADER;
}

/* STATUS and HEADER leave line and value until the next byte; END stands behind the empty line. */
static enum psh_http_result psh_http_step(struct psh_http *http, unsigned char byte)
{
    PUSHER_ASSERT(http->line_len < sizeof http->line);
    if (++http->total > PSH_HTTP_MAX_HEAD || byte == '\0') return PSH_HTTP_BAD;
    if (byte == '\n') {
        enum psh_http_result result = psh_http_line(http);
        http->line_len = 0;
        http->cr = http->cut = false;
        return result;
    }
    if (http->cr) return PSH_HTTP_BAD; /* a CR that no LF follows */
    if (byte == '\r') {
        http->cr = true;
    } else if (http->line_len < sizeof http->line - 1) {
        http->line[http->line_len++] = (char)(byte < 0x80 ? byte : '?');
    } else {
        http->cut = true;
    }
    return PSH_HTTP_MORE;
}

// >>ws
/* WebSocket (RFC 6455) over wslay's frame layer, which frames and masks and allocates once; the
   rules it does not check are checked here, in fixed buffers: reserved bits, masking, opcodes,
   order of continuations, UTF-8, close codes. Bytes in, messages out: no input or output. */

enum { PSH_WS_CONTROL = 125, PSH_WS_FRAME_HEAD = 14, PSH_WS_KEY = 25, PSH_WS_ACCEPT = 29 };

/* Output kept free of data frames, so that a close and an answer to a ping always have room. */
enum { PSH_WS_RESERVE = 2 * (PSH_WS_CONTROL + PSH_WS_FRAME_HEAD) };

enum psh_ws_result {
    PSH_WS_MORE = 0, /* nothing more in the bytes given so far */
    PSH_WS_MESSAGE,  /* a text message: text, text_len, valid until the next call */
    PSH_WS_BINARY,   /* a binary message has been skipped */
    PSH_WS_CLOSED,   /* the server's close frame: close_code (0 = none), close_reason */
    PSH_WS_BROKEN    /* the server broke a rule: fail_code, fail_reason; a close frame is staged */
};

struct psh_ws {
    const struct psh_env *env;
    struct wslay_frame_context *frame;
    struct psh_buf in;         /* received; in.data[in_at .. in.len) is not framed yet */
    size_t in_at;
    struct psh_buf whole;      /* a message in several pieces */
    unsigned char *out;        /* staged: out[out_at .. out_len); never moves while retrying */
    size_t out_at, out_len, out_cap;
    size_t retry;              /* length of the write that must be repeated, or 0 */
    size_t max_message;
    uint64_t left;             /* of the current frame's payload */
    struct psh_codec_utf8_state utf8;
    unsigned char message;     /* opcode of the message under way, or 0 */
    unsigned char opcode;      /* of the current frame */
    bool final, dead, random_failed;
    bool close_sent, close_seen;
    unsigned char control_len, pong_len;
    bool pong_owed;
    unsigned char control[PSH_WS_CONTROL]; /* payload of the control frame under way */
    unsigned char pong[PSH_WS_CONTROL];    /* the newest ping not answered yet */
    const char *text;
    size_t text_len;
    uint16_t close_code, fail_code;
    char close_reason[PSH_WS_CONTROL - 1];
    const char *fail_reason;
    struct psh_http head;      /* of the answer to the upgrade */
    char accept[PSH_WS_ACCEPT];
    bool upgrade_seen, connection_seen, accept_seen;
    uint64_t pings;
};

static ssize_t psh_ws_on_recv(uint8_t *buf, size_t len, int flags, void *user_data)
{
    struct psh_ws *ws = (struct psh_ws *)user_data;
    PUSHER_ASSERT(ws->in_at <= ws->in.len);
    size_t have = ws->in.len - ws->in_at;
    (void)flags;
    if (have == 0) return -1;
    if (len > have) len = have;
    memcpy(buf, ws->in.data + ws->in_at, len);
    ws->in_at += len;
    return (ssize_t)len;
}

static ssize_t psh_ws_on_send(const uint8_t *data, size_t len, int flags, void *user_data)
{
    struct psh_ws *ws = (struct psh_ws *)user_data;
    (void)flags;
    PUSHER_ASSERT(len <= ws->out_cap - ws->out_len); /* psh_ws_stage() has made sure */
    memcpy(ws->out + ws->out_len, data, len);
    ws->out_len += len;
    return (ssize_t)len;
}

static int psh_ws_on_mask(uint8_t *buf, size_t len, void *user_data)
{
    struct psh_ws *ws = (struct psh_ws *)user_data;
    PUSHER_ASSERT(len == 4);
    if (psh_env_random(ws->env, buf, len)) return 0;
    ws->random_failed = true;
    return -1;
}

/* Takes the output buffer; the others grow when they are needed. */
static bool psh_ws_init(struct psh_ws *ws, const struct psh_env *env, size_t max_message,
                        size_t max_input, size_t max_output)
{
    PUSHER_ASSERT(max_output > PSH_WS_RESERVE && max_input > 0);
    memset(ws, 0, sizeof *ws);
    ws->env = env;
    ws->max_message = max_message;
    ws->in.max = max_input;
    ws->whole.max = max_message;
    ws->out_cap = max_output;
    ws->out = (unsigned char *)psh_env_alloc(env, max_output);
    return ws->out != NULL;
}

static void psh_ws_close(struct psh_ws *ws)
{
    if (ws->frame) wslay_frame_context_free(ws->frame);
    ws->frame = NULL;
    ws->in.len = ws->in_at = ws->whole.len = 0;
    ws->out_at = ws->out_len = ws->retry = 0;
}

static void psh_ws_free(struct psh_ws *ws)
{
    psh_ws_close(ws);
    psh_env_release(ws->env, &ws->in);
    psh_env_release(ws->env, &ws->whole);
    psh_env_free(ws->env, ws->out);
    ws->out = NULL;
}

/* Ready for a new connection; the buffers stay. */
static bool psh_ws_open(struct psh_ws *ws)
{
    struct wslay_frame_callbacks callbacks = {psh_ws_on_send, psh_ws_on_recv, psh_ws_on_mask};
    psh_ws_close(ws);
    ws->left = 0;
    ws->message = ws->opcode = ws->control_len = ws->pong_len = 0;
    ws->dead = ws->random_failed = ws->close_sent = ws->close_seen = ws->pong_owed = false;
    ws->upgrade_seen = ws->connection_seen = ws->accept_seen = false;
    ws->close_code = ws->fail_code = 0;
    memset(&ws->utf8, 0, sizeof ws->utf8);
    psh_http_init(&ws->head);
    return wslay_frame_context_init(&ws->frame, &callbacks, ws) == 0;
}

/* Makes room at the end of the output if that can be done without moving a write under way. */
static size_t psh_ws_room(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->out_at <= ws->out_len && ws->out_len <= ws->out_cap);
    if (ws->out_at > 0 && ws->retry == 0) {
        ws->out_len -= ws->out_at;
        memmove(ws->out, ws->out + ws->out_at, ws->out_len);
        ws->out_at = 0;
    }
    return ws->out_cap - ws->out_len;
}

/* One whole masked frame into the output, or nothing at all. */
static bool psh_ws_stage(struct psh_ws *ws, uint8_t opcode, const void *payload, size_t len,
                         size_t reserve)
{
    PUSHER_ASSERT(ws->frame && reserve <= ws->out_cap);
    struct wslay_frame_iocb frame;
    size_t room = psh_ws_room(ws);
    if (ws->close_sent || room < reserve || room - reserve < PSH_WS_FRAME_HEAD ||
        len > room - reserve - PSH_WS_FRAME_HEAD)
        return false;
    memset(&frame, 0, sizeof frame);
    frame.fin = 1;
    frame.opcode = opcode;
    frame.mask = 1;
    frame.payload_length = frame.data_length = len;
    frame.data = (const uint8_t *)payload;
    return wslay_frame_send(ws->frame, &frame) == (ssize_t)len;
}

static bool psh_ws_send_text(struct psh_ws *ws, const char *text, size_t len)
{
    PUSHER_ASSERT(text && len > 0);
    return psh_ws_stage(ws, WSLAY_TEXT_FRAME, text, len, PSH_WS_RESERVE);
}

/* code 0: a close frame without one. */
static void psh_ws_send_close(struct psh_ws *ws, uint16_t code)
{
    PUSHER_ASSERT(code == 0 || code >= 1000);
    unsigned char payload[2] = {(unsigned char)(code >> 8), (unsigned char)(code & 0xFF)};
    if (ws->close_sent) return;
    psh_ws_stage(ws, WSLAY_CONNECTION_CLOSE, payload, code ? 2 : 0, 0);
    ws->close_sent = true;
}

/* Only the newest ping is answered when the output is full (RFC 6455, 5.5.3): a flood costs
   nothing. */
static void psh_ws_pay_pong(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->pong_len <= PSH_WS_CONTROL);
    if (!ws->pong_owed || ws->close_sent) return;
    if (psh_ws_stage(ws, WSLAY_PONG, ws->pong, ws->pong_len, PSH_WS_RESERVE / 2))
        ws->pong_owed = false;
}

static enum psh_ws_result psh_ws_break(struct psh_ws *ws, uint16_t code, const char *reason)
{
    PUSHER_ASSERT(reason && !ws->dead);
    ws->fail_code = code;
    ws->fail_reason = reason;
    ws->dead = true;
    psh_ws_send_close(ws, code);
    return PSH_WS_BROKEN;
}

/* Where the next bytes from the stream may be put; *room may be 0 when memory is short. */
static unsigned char *psh_ws_space(struct psh_ws *ws, size_t *room)
{
    PUSHER_ASSERT(ws->in_at <= ws->in.len);
    if (ws->in_at == ws->in.len) ws->in.len = ws->in_at = 0;
    if (ws->in.cap == 0) {
        size_t first = ws->in.max < 4096 ? ws->in.max : 4096;
        (void)psh_env_reserve(ws->env, &ws->in, first);
    }
    *room = ws->in.cap - ws->in.len;
    return *room > 0 ? ws->in.data + ws->in.len : NULL;
}

/* len bytes have been put there. A read that filled the place gets a larger one next time. */
static void psh_ws_received(struct psh_ws *ws, size_t len)
{
    PUSHER_ASSERT(len <= ws->in.cap - ws->in.len);
    ws->in.len += len;
    if (ws->in.len == ws->in.cap && ws->in.cap < ws->in.max)
        (void)psh_env_reserve(ws->env, &ws->in, 1); /* without memory it goes on as it is */
}

/* What has arrived is of no interest any more. */
static void psh_ws_discard(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->in_at <= ws->in.len);
    ws->in.len = ws->in_at = 0;
}

/* What is to be sent next; a write that was refused comes again as it was. */
static const unsigned char *psh_ws_output(const struct psh_ws *ws, size_t *len)
{
    PUSHER_ASSERT(ws->retry <= ws->out_len - ws->out_at);
    *len = ws->retry ? ws->retry : ws->out_len - ws->out_at;
    return ws->out + ws->out_at;
}

static void psh_ws_sent(struct psh_ws *ws, size_t len)
{
    PUSHER_ASSERT(len <= ws->out_len - ws->out_at);
    ws->out_at += len;
    ws->retry = 0;
    if (ws->out_at == ws->out_len) ws->out_at = ws->out_len = 0;
}

static void psh_ws_blocked(struct psh_ws *ws, size_t len)
{
    PUSHER_ASSERT(len <= ws->out_len - ws->out_at);
    ws->retry = len;
}

/* The request, staged as it is. False: it does not fit, or there is no randomness. */
static bool psh_ws_send_upgrade(struct psh_ws *ws, const char *path, const char *host,
                                const char *origin)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    unsigned char nonce[16], digest[PSH_SHA1_BYTES];
    char key[PSH_WS_KEY + sizeof guid];
    struct psh_text text;
    PUSHER_ASSERT(ws->out_len == 0);
    ws->random_failed = !psh_env_random(ws->env, nonce, sizeof nonce);
    if (ws->random_failed || !psh_codec_base64(nonce, sizeof nonce, key, PSH_WS_KEY)) return false;
    psh_env_text(&text, (char *)ws->out, ws->out_cap);
    psh_http_begin(&text, "GET", path);
    psh_env_add(&text, "?protocol=7&client=c-pusher.h&version=" PUSHER_VERSION " HTTP/1.1\r\n");
    psh_http_header(&text, "Host", host);
    psh_http_header(&text, "Upgrade", "websocket");
    psh_http_header(&text, "Connection", "Upgrade");
    psh_http_header(&text, "Sec-WebSocket-Key", key);
    psh_http_header(&text, "Sec-WebSocket-Version", "13");
    if (origin) psh_http_header(&text, "Origin", origin);
    psh_env_add(&text, "\r\n");
    ws->out_len = text.len;
    memcpy(key + PSH_WS_KEY - 1, guid, sizeof guid);
    return !text.cut && psh_codec_sha1(key, strlen(key), digest) &&
           psh_codec_base64(digest, sizeof digest, ws->accept, sizeof ws->accept);
}

static enum psh_ws_result psh_ws_refuse(struct psh_ws *ws, const char *reason)
{
    PUSHER_ASSERT(reason && !ws->dead);
    ws->fail_code = 0;
    ws->fail_reason = reason;
    ws->dead = true;
    return PSH_WS_BROKEN;
}

static enum psh_ws_result psh_ws_upgrade_header(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->head.value);
    const char *name = ws->head.line, *value = ws->head.value;
    if (psh_http_same(name, "upgrade")) ws->upgrade_seen = psh_http_lists(value, "websocket");
    if (psh_http_same(name, "connection")) ws->connection_seen = psh_http_lists(value, "upgrade");
    if (psh_http_same(name, "sec-websocket-accept"))
        ws->accept_seen = strcmp(value, ws->accept) == 0;
    if (psh_http_same(name, "sec-websocket-extensions") && *value)
        return psh_ws_refuse(ws, "an extension that was not asked for");
    if (psh_http_same(name, "sec-websocket-protocol") && *value)
        return psh_ws_refuse(ws, "a subprotocol that was not asked for");
    return PSH_WS_MORE;
}

static enum psh_ws_result psh_ws_upgrade_end(struct psh_ws *ws)
{
    if (!ws->upgrade_seen || !ws->connection_seen)
        return psh_ws_refuse(ws, "a 101 without the headers Upgrade and Connection");
    if (!ws->accept_seen) return psh_ws_refuse(ws, "a wrong Sec-WebSocket-Accept");
    return PSH_WS_MESSAGE;
}

/* Reads the answer to the upgrade: MESSAGE when it is accepted, and what came glued to it stays
   for psh_ws_next(). BROKEN: head.status is the HTTP status, if one was read at all. */
static enum psh_ws_result psh_ws_upgrade(struct psh_ws *ws)
{
    PUSHER_ASSERT(!ws->dead);
    while (ws->in_at < ws->in.len) {
        enum psh_ws_result result = PSH_WS_MORE;
        switch (psh_http_step(&ws->head, ws->in.data[ws->in_at++])) {
        case PSH_HTTP_MORE: break;
        case PSH_HTTP_STATUS:
            if (ws->head.status != 101) return psh_ws_refuse(ws, ws->head.value);
            break;
        case PSH_HTTP_HEADER: result = psh_ws_upgrade_header(ws); break;
        case PSH_HTTP_END: return psh_ws_upgrade_end(ws);
        default:
            if (ws->head.total > PSH_HTTP_MAX_HEAD)
                return psh_ws_refuse(ws, "a header block over 8192 bytes");
            return psh_ws_refuse(ws, "something that is not HTTP/1.1");
        }
        if (result != PSH_WS_MORE) return result;
    }
    return PSH_WS_MORE;
}

/* The rules for a frame's head, of which the first piece of payload has arrived. NULL: good. */
static const char *psh_ws_check_head(struct psh_ws *ws, const struct wslay_frame_iocb *frame)
{
    PUSHER_ASSERT(ws->left == 0);
    if (frame->rsv) return "a frame with reserved bits set";
    if (frame->mask) return "a masked frame from a server";
    switch (frame->opcode) {
    case WSLAY_CONTINUATION_FRAME:
        return ws->message ? NULL : "a continuation of nothing";
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME:
        if (ws->message) return "a new message within another";
        ws->message = frame->opcode;
        memset(&ws->utf8, 0, sizeof ws->utf8);
        return NULL;
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG: ws->control_len = 0; return NULL;
    default: return "an unknown opcode";
    }
}

static bool psh_ws_code_allowed(uint16_t code)
{
    if (code >= 3000 && code <= 4999) return true;
    return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

static enum psh_ws_result psh_ws_on_close(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->control_len <= PSH_WS_CONTROL && !ws->close_seen);
    struct psh_codec_utf8_state utf8;
    struct psh_text reason;
    memset(&utf8, 0, sizeof utf8);
    ws->close_seen = true;
    psh_env_text(&reason, ws->close_reason, sizeof ws->close_reason);
    if (ws->control_len == 1) return psh_ws_break(ws, 1002, "half a close code");
    if (ws->control_len >= 2) {
        ws->close_code = (uint16_t)(ws->control[0] << 8 | ws->control[1]);
        if (!psh_ws_code_allowed(ws->close_code))
            return psh_ws_break(ws, 1002, "a close code that may not be sent");
        size_t len = ws->control_len - 2u;
        if (!psh_codec_utf8(&utf8, ws->control + 2, len) || utf8.need)
            return psh_ws_break(ws, 1007, "a close reason that is not UTF-8");
        psh_env_add_foreign(&reason, (const char *)ws->control + 2, len);
    }
    psh_ws_send_close(ws, ws->close_code);
    ws->dead = true;
    return PSH_WS_CLOSED;
}

static enum psh_ws_result psh_ws_control(struct psh_ws *ws, const struct wslay_frame_iocb *frame)
{
    PUSHER_ASSERT(frame->data_length <= sizeof ws->control - ws->control_len);
    if (frame->data_length > 0)
        memcpy(ws->control + ws->control_len, frame->data, frame->data_length);
    ws->control_len = (unsigned char)(ws->control_len + frame->data_length);
    if (ws->left > 0) return PSH_WS_MORE;
    if (frame->opcode == WSLAY_CONNECTION_CLOSE) return psh_ws_on_close(ws);
    if (frame->opcode == WSLAY_PING) {
        ws->pings++;
        memcpy(ws->pong, ws->control, ws->control_len);
        ws->pong_len = ws->control_len;
        ws->pong_owed = true;
        psh_ws_pay_pong(ws);
    }
    return PSH_WS_MORE;
}

/* A piece of a text message. A message that lies in one piece is never copied. */
static enum psh_ws_result psh_ws_text(struct psh_ws *ws, const struct wslay_frame_iocb *frame)
{
    PUSHER_ASSERT(ws->message == WSLAY_TEXT_FRAME);
    size_t len = frame->data_length;
    if (!psh_codec_utf8(&ws->utf8, frame->data, len))
        return psh_ws_break(ws, 1007, "a message that is not UTF-8");
    bool end = ws->left == 0 && ws->final;
    if (!end || ws->whole.len > 0) {
        if (!psh_env_reserve(ws->env, &ws->whole, len))
            return psh_ws_break(ws, 1011, "a message, and there was no memory for it");
        if (len > 0) memcpy(ws->whole.data + ws->whole.len, frame->data, len);
        ws->whole.len += len;
    }
    if (!end) return PSH_WS_MORE;
    if (ws->utf8.need) return psh_ws_break(ws, 1007, "a message that is not UTF-8");
    ws->message = 0;
    ws->text = ws->whole.len > 0 ? (const char *)ws->whole.data : (const char *)frame->data;
    ws->text_len = ws->whole.len > 0 ? ws->whole.len : len;
    ws->whole.len = 0; /* the bytes stay until the next call */
    return PSH_WS_MESSAGE;
}

static enum psh_ws_result psh_ws_piece(struct psh_ws *ws, const struct wslay_frame_iocb *frame)
{
    if (frame->opcode >= WSLAY_CONNECTION_CLOSE) return psh_ws_control(ws, frame);
    if (ws->message == WSLAY_TEXT_FRAME) return psh_ws_text(ws, frame);
    if (ws->left > 0 || !ws->final) return PSH_WS_MORE;
    ws->message = 0;
    return PSH_WS_BINARY;
}

/* The next message, or the end, of the bytes received. */
static enum psh_ws_result psh_ws_next(struct psh_ws *ws)
{
    PUSHER_ASSERT(ws->frame);
    enum psh_ws_result result = PSH_WS_MORE;
    psh_ws_pay_pong(ws);
    while (result == PSH_WS_MORE && !ws->dead) {
        struct wslay_frame_iocb frame;
        memset(&frame, 0, sizeof frame);
        ssize_t got = wslay_frame_recv(ws->frame, &frame);
        if (got == WSLAY_ERR_WANT_READ) return PSH_WS_MORE;
        if (got < 0)
            return psh_ws_break(ws, 1002, "a frame length that RFC 6455 forbids");
        if (ws->left == 0) {
            const char *wrong = psh_ws_check_head(ws, &frame);
            if (wrong) return psh_ws_break(ws, 1002, wrong);
            ws->left = frame.payload_length;
            if (frame.opcode < WSLAY_CONNECTION_CLOSE) {
                ws->final = frame.fin;
                if (ws->left > ws->max_message - ws->whole.len)
                    return psh_ws_break(ws, 1009, "a message over max_message_bytes");
            }
        }
        ws->left -= frame.data_length;
        result = psh_ws_piece(ws, &frame);
    }
    return result;
}

// >>proto
/* Pusher messages <-> structs. Pure: no state, no time. */

enum psh_kind {
    PSH_KIND_EVENT = 0, /* the application's, or one we need not know */
    PSH_KIND_ESTABLISHED,
    PSH_KIND_ERROR,
    PSH_KIND_PING,
    PSH_KIND_PONG,
    PSH_KIND_SUBSCRIBED,
    PSH_KIND_REFUSED,
    PSH_KIND_COUNT,
    PSH_KIND_INTERNAL   /* pusher_internal: and not known: nobody is told */
};

static bool psh_proto_is(const struct psh_value *name, size_t skip, const char *rest)
{
    size_t len = strlen(rest);
    return name->len == skip + len && memcmp(name->at + skip, rest, len) == 0;
}

static enum psh_kind psh_proto_kind(const struct psh_value *name)
{
    static const char outer[] = "pusher:", inner[] = "pusher_internal:";
    const size_t outer_len = sizeof outer - 1, inner_len = sizeof inner - 1;
    PUSHER_ASSERT(name->at);
    if (name->len > outer_len && memcmp(name->at, outer, outer_len) == 0) {
        if (psh_proto_is(name, outer_len, "connection_established")) return PSH_KIND_ESTABLISHED;
        if (psh_proto_is(name, outer_len, "error")) return PSH_KIND_ERROR;
        if (psh_proto_is(name, outer_len, "ping")) return PSH_KIND_PING;
        if (psh_proto_is(name, outer_len, "pong")) return PSH_KIND_PONG;
        if (psh_proto_is(name, outer_len, "subscription_error")) return PSH_KIND_REFUSED;
        return PSH_KIND_EVENT;
    }
    if (name->len < inner_len || memcmp(name->at, inner, inner_len) != 0) return PSH_KIND_EVENT;
    if (psh_proto_is(name, inner_len, "subscription_succeeded")) return PSH_KIND_SUBSCRIBED;
    if (psh_proto_is(name, inner_len, "subscription_error")) return PSH_KIND_REFUSED;
    if (psh_proto_is(name, inner_len, "subscription_count")) return PSH_KIND_COUNT;
    return PSH_KIND_INTERNAL;
}

/* The name under which the event is given to handlers: pusher-js' where that differs. */
static const char *psh_proto_public_name(enum psh_kind kind, const char *name)
{
    switch (kind) {
    case PSH_KIND_SUBSCRIBED: return "pusher:subscription_succeeded";
    case PSH_KIND_REFUSED: return "pusher:subscription_error";
    case PSH_KIND_COUNT: return "pusher:subscription_count";
    default: return name;
    }
}

enum { PSH_SOCKET_ID = 64, PSH_SERVER_TEXT = 160 };

struct psh_established {
    char socket_id[PSH_SOCKET_ID];
    uint32_t activity_timeout_ms; /* 0: not said */
};

/* data may be an object or a string that holds one; both look alike here. */
static bool psh_proto_established(const struct psh_value *data, struct psh_established *out)
{
    PUSHER_ASSERT(data && out);
    struct psh_json_object object;
    uint32_t seconds;
    memset(out, 0, sizeof *out);
    if (data->raw_len == 0 || !psh_json_parse(&object, data->at, data->len)) return false;
    if (!psh_json_get_text(&object, "socket_id", out->socket_id, sizeof out->socket_id))
        return false;
    seconds = psh_json_get_uint(&object, "activity_timeout", 0);
    out->activity_timeout_ms = seconds > UINT32_MAX / 1000 ? 0 : seconds * 1000;
    return out->socket_id[0] != '\0';
}

struct psh_server_error {
    uint32_t code; /* 0: none */
    char message[PSH_SERVER_TEXT];
};

/* Every shape seen: object or string of one, message or error, code or status, or plain text. */
static void psh_proto_error(const struct psh_value *data, struct psh_server_error *out)
{
    PUSHER_ASSERT(data && out);
    struct psh_json_object object;
    struct psh_text plain;
    memset(out, 0, sizeof *out);
    if (data->raw_len == 0) return;
    if (psh_json_parse(&object, data->at, data->len)) {
        out->code = psh_json_get_uint(&object, "code", 0);
        if (!out->code) out->code = psh_json_get_uint(&object, "status", 0);
        if (!psh_json_get_text(&object, "message", out->message, sizeof out->message))
            (void)psh_json_get_text(&object, "error", out->message, sizeof out->message);
    } else {
        psh_env_text(&plain, out->message, sizeof out->message);
        psh_env_add_bytes(&plain, data->at, data->len);
    }
}

static bool psh_proto_count(const struct psh_value *data, uint32_t *count)
{
    struct psh_json_object object;
    if (data->raw_len == 0 || !psh_json_parse(&object, data->at, data->len)) return false;
    *count = psh_json_get_uint(&object, "subscription_count", *count);
    return true;
}

static bool psh_proto_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_-=@,.;:#", c) != NULL);
}

/* pusher.com allows 164 characters, its server libraries and the others 200; ':' and '#' are
   Sockudo's. NULL, or what is wrong. None of these characters needs quoting in JSON. */
static const char *psh_proto_bad_channel(const char *name)
{
    size_t len = strlen(name);
    if (len == 0) return "a channel name is empty";
    if (len > 200) return "a channel name is longer than 200 characters";
    if (name[0] == '#') return "channel names that begin with # are the server's own";
    for (size_t i = 0; i < len; i++)
        if (!psh_proto_name_char(name[i]))
            return "a channel name has a character other than A-Z a-z 0-9 _ - = @ , . ; : #";
    return NULL;
}

static bool psh_proto_needs_auth(const char *name)
{
    return strncmp(name, "private-", 8) == 0 || strncmp(name, "presence-", 9) == 0;
}

/* data is always an object: one server dies of a string. */
static void psh_proto_subscribe(struct psh_text *text, const char *channel, bool subscribe)
{
    PUSHER_ASSERT(!psh_proto_bad_channel(channel));
    psh_env_add(text, "{\"event\":\"pusher:");
    psh_env_add(text, subscribe ? "subscribe" : "unsubscribe");
    psh_env_add(text, "\",\"data\":{\"channel\":\"");
    psh_env_add(text, channel);
    psh_env_add(text, "\"}}");
}

#define PSH_PROTO_PING "{\"event\":\"pusher:ping\",\"data\":{}}"
#define PSH_PROTO_PONG "{\"event\":\"pusher:pong\",\"data\":{}}"

/* "... <socket_id>:<channel>..." in an error without a channel, as pusher.com writes it: the
   channel's name, and its length in *len, or NULL. */
static const char *psh_proto_channel_in(const char *message, const char *socket_id, size_t *len)
{
    PUSHER_ASSERT(socket_id[0]);
    const char *at = strstr(message, socket_id);
    if (!at || at[strlen(socket_id)] != ':') return NULL;
    at += strlen(socket_id) + 1;
    for (*len = 0; at[*len] != ':' && psh_proto_name_char(at[*len]);) ++*len;
    return *len > 0 ? at : NULL;
}

// >>sockets
/* POSIX sockets, a resolver thread, the monotonic clock and the system's randomness. */
#if defined(PUSHER_SOCKETS)

#if defined(_WIN32)
#error "pusher.h: PUSHER_SOCKETS has no Winsock yet; give options.transport and options.random"
#endif

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if !defined(AI_NUMERICSERV) || !defined(CLOCK_MONOTONIC)
#error "pusher.h: PUSHER_SOCKETS needs POSIX: include pusher.h first or define _DEFAULT_SOURCE"
#endif

/* One look-up. The thread and the socket both hold it; who leaves last frees it, so that nobody
   ever waits for getaddrinfo(). */
struct psh_lookup {
    pthread_mutex_t lock;
    int holders;
    bool done;
    int error;               /* getaddrinfo's */
    struct addrinfo *list;
    char host[256], port[8];
};

struct psh_socket {
    int fd;
    struct psh_lookup *lookup;
    const struct addrinfo *next; /* the address to try next */
    const char *error;
};

static const char *psh_sockets_reason(int error)
{
    switch (error) {
    case ECONNREFUSED: return "connection refused";
    case ECONNRESET: return "connection reset";
    case ETIMEDOUT: return "timed out";
    case EHOSTUNREACH: return "no route to the host";
    case ENETUNREACH: return "network unreachable";
    case EPIPE: return "connection closed by the other side";
    case EMFILE:
    case ENFILE: return "out of file descriptors";
    case EACCES:
    case EPERM: return "not permitted";
    default: return "socket error";
    }
}

static void psh_sockets_leave(struct psh_lookup *lookup)
{
    pthread_mutex_lock(&lookup->lock);
    PUSHER_ASSERT(lookup->holders > 0);
    bool last = --lookup->holders == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (!last) return;
    if (lookup->list) freeaddrinfo(lookup->list);
    pthread_mutex_destroy(&lookup->lock);
    free(lookup);
}

static void psh_sockets_resolve(struct psh_lookup *lookup, int flags)
{
    struct addrinfo hints, *list = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    int error = getaddrinfo(lookup->host, lookup->port, &hints, &list);
    pthread_mutex_lock(&lookup->lock);
    lookup->list = error ? NULL : list;
    lookup->error = error;
    lookup->done = !error || !(flags & AI_NUMERICHOST);
    pthread_mutex_unlock(&lookup->lock);
}

static void *psh_sockets_thread(void *argument)
{
    struct psh_lookup *lookup = (struct psh_lookup *)argument;
    psh_sockets_resolve(lookup, 0);
    psh_sockets_leave(lookup);
    return NULL;
}

static struct psh_lookup *psh_sockets_lookup(const char *host, uint16_t port)
{
    struct psh_text text;
    struct psh_lookup *lookup = (struct psh_lookup *)malloc(sizeof *lookup);
    if (!lookup) return NULL;
    memset(lookup, 0, sizeof *lookup);
    if (pthread_mutex_init(&lookup->lock, NULL) != 0) {
        free(lookup);
        return NULL;
    }
    lookup->holders = 1;
    psh_env_text(&text, lookup->host, sizeof lookup->host);
    psh_env_add(&text, host);
    psh_env_text(&text, lookup->port, sizeof lookup->port);
    psh_env_add_uint(&text, port);
    return lookup;
}

/* A numeric address needs no thread, for it does not block. */
static bool psh_sockets_start(struct psh_lookup *lookup)
{
    pthread_t thread;
    pthread_attr_t detached;
    psh_sockets_resolve(lookup, AI_NUMERICHOST);
    if (lookup->done) return true;
    if (pthread_attr_init(&detached) != 0) return false;
    lookup->holders = 2;
    int failed = pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) != 0 ||
                 pthread_create(&thread, &detached, psh_sockets_thread, lookup) != 0;
    pthread_attr_destroy(&detached);
    if (failed) lookup->holders = 1;
    return !failed;
}

static void *psh_sockets_open(const char *host, uint16_t port, void *user_data)
{
    (void)user_data;
    PUSHER_ASSERT(host && port > 0);
    struct psh_socket *s = (struct psh_socket *)malloc(sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->fd = -1;
    s->lookup = psh_sockets_lookup(host, port);
    if (s->lookup && psh_sockets_start(s->lookup)) return s;
    if (s->lookup) psh_sockets_leave(s->lookup);
    free(s);
    return NULL;
}

/* The next address that a connection can be started to; false: none is left. */
static bool psh_sockets_try_next(struct psh_socket *s)
{
    PUSHER_ASSERT(s->lookup);
    while (s->next) {
        const struct addrinfo *a = s->next;
        int on = 1;
        s->next = a->ai_next;
        if (s->fd >= 0) close(s->fd);
        s->fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (s->fd < 0) {
            s->error = psh_sockets_reason(errno);
            continue;
        }
        (void)fcntl(s->fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
        (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#if defined(SO_NOSIGPIPE)
        (void)setsockopt(s->fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
        if (connect(s->fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS ||
            errno == EINTR)
            return true;
        s->error = psh_sockets_reason(errno);
    }
    return false;
}

/* > 0: the look-up has an answer and the first connection is started. */
static int psh_sockets_resolved(struct psh_socket *s)
{
    PUSHER_ASSERT(s->fd < 0);
    pthread_mutex_lock(&s->lookup->lock);
    bool done = s->lookup->done;
    int error = s->lookup->error;
    s->next = s->lookup->list;
    pthread_mutex_unlock(&s->lookup->lock);
    if (!done) return PUSHER_IO_WANT_READ;
    if (error || !s->next) {
        s->error = error == EAI_AGAIN ? "the name server does not answer" : "unknown host";
        return PUSHER_IO_ERROR_RESOLVE;
    }
    return psh_sockets_try_next(s) ? 1 : PUSHER_IO_ERROR;
}

static int psh_sockets_ready(void *stream)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    if (s->fd < 0) {
        int resolved = psh_sockets_resolved(s);
        if (resolved <= 0) return resolved;
    }
    for (;;) {
        struct pollfd wait;
        int error = 0;
        socklen_t len = sizeof error;
        wait.fd = s->fd;
        wait.events = POLLOUT;
        wait.revents = 0;
        if (poll(&wait, 1, 0) <= 0) return PUSHER_IO_WANT_WRITE;
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0) return 1;
        s->error = psh_sockets_reason(error);
        if (!psh_sockets_try_next(s)) return PUSHER_IO_ERROR;
    }
}

static int psh_sockets_failed(struct psh_socket *s, int want)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return want;
    s->error = psh_sockets_reason(errno);
    return PUSHER_IO_ERROR;
}

static int psh_sockets_recv(void *stream, void *buf, size_t len)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    PUSHER_ASSERT(len > 0 && len <= INT32_MAX);
    ssize_t got = recv(s->fd, buf, len, 0);
    return got >= 0 ? (int)got : psh_sockets_failed(s, PUSHER_IO_WANT_READ);
}

static int psh_sockets_send(void *stream, const void *buf, size_t len)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    PUSHER_ASSERT(len > 0 && len <= INT32_MAX);
#if defined(MSG_NOSIGNAL)
    ssize_t put = send(s->fd, buf, len, MSG_NOSIGNAL);
#else
    ssize_t put = send(s->fd, buf, len, 0);
#endif
    return put >= 0 ? (int)put : psh_sockets_failed(s, PUSHER_IO_WANT_WRITE);
}

static void psh_sockets_close(void *stream)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    if (s->fd >= 0) close(s->fd);
    psh_sockets_leave(s->lookup);
    free(s);
}

static const char *psh_sockets_error(void *stream)
{
    return ((struct psh_socket *)stream)->error;
}

static intptr_t psh_sockets_fd(void *stream)
{
    return ((struct psh_socket *)stream)->fd;
}

static bool psh_sockets_random(void *buf, size_t len, void *user_data)
{
    (void)user_data;
    PUSHER_ASSERT(len <= 256); /* getentropy's limit */
    return getentropy(buf, len) == 0;
}

static void psh_sockets_wait(intptr_t fd, int wants, int timeout_ms)
{
    struct pollfd wait;
    PUSHER_ASSERT(timeout_ms >= 0);
    wait.fd = (int)fd;
    wait.events = 0;
    if (wants & PUSHER_WANTS_READ) wait.events = (short)(wait.events | POLLIN);
    if (wants & PUSHER_WANTS_WRITE) wait.events = (short)(wait.events | POLLOUT);
    wait.revents = 0;
    (void)poll(&wait, fd >= 0 ? 1 : 0, timeout_ms);
}

PUSHER_DEF pusher_transport pusher_sockets_transport(void)
{
    pusher_transport transport;
    transport.open_fn = psh_sockets_open;
    transport.ready_fn = psh_sockets_ready;
    transport.recv_fn = psh_sockets_recv;
    transport.send_fn = psh_sockets_send;
    transport.close_fn = psh_sockets_close;
    transport.error_fn = psh_sockets_error;
    transport.fd_fn = psh_sockets_fd;
    transport.user_data = NULL;
    return transport;
}

PUSHER_DEF pusher_random pusher_sockets_random(void)
{
    pusher_random random;
    random.fill_fn = psh_sockets_random;
    random.user_data = NULL;
    return random;
}

PUSHER_DEF uint64_t pusher_sockets_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif /* PUSHER_SOCKETS */

// >>tls
/* A transport made from a transport comes with PUSHER_TLS. */

// >>auth
/* Tickets, endpoint requests and local signing come with private channels. */

// >>client
/* The connection's and the channels' state machines, timers, dispatch. */

enum psh_phase {
    PSH_IDLE = 0,  /* nothing to do until pusher_connect() */
    PSH_OPENING,   /* the stream is connecting */
    PSH_UPGRADING, /* the HTTP request is out */
    PSH_GREETING,  /* waiting for connection_established */
    PSH_ONLINE,
    PSH_CLOSING,   /* our close frame is out; then wait for the next attempt */
    PSH_LEAVING,   /* our close frame is out; then idle */
    PSH_WAITING,   /* for the time of the next attempt */
    PSH_PHASES
};

enum psh_signal {
    PSH_UP = 0, /* pusher_connect() */
    PSH_DOWN,   /* pusher_disconnect() */
    PSH_NOW,    /* pusher_reconnect_now(), or a clock that jumped */
    PSH_READY,  /* the stream is connected */
    PSH_UPGRADED,
    PSH_GREETED,
    PSH_LOST,   /* the stream is of no use any more */
    PSH_QUIT,   /* the stream works, but we must leave: say so first */
    PSH_STOP,   /* refused for good */
    PSH_ENDED,  /* the other side has closed after our close frame */
    PSH_TIMER,
    PSH_SIGNALS
};

enum psh_action {
    PSH_DO_OPEN = 1,
    PSH_DO_UPGRADE = 2,
    PSH_DO_WELCOME = 4,
    PSH_DO_CHECK = 8,  /* is the connection alive? */
    PSH_DO_BYE = 16,
    PSH_DO_DROP = 32,  /* close the stream */
    PSH_DO_RETRY = 64, /* set and announce the time of the next attempt */
    PSH_DO_RESET = 128 /* the channels are not subscribed any more */
};

struct psh_move {
    enum psh_phase phase;
    unsigned actions;
};

static struct psh_move psh_client_to(enum psh_phase phase, unsigned actions)
{
    struct psh_move move;
    PUSHER_ASSERT(phase < PSH_PHASES);
    move.phase = phase;
    move.actions = actions;
    return move;
}

#define PSH_AT(phase, signal) ((int)(phase) * (int)PSH_SIGNALS + (int)(signal))

/* The connection's state machine. What is not listed changes nothing. */
static struct psh_move psh_client_move(enum psh_phase phase, enum psh_signal signal)
{
    PUSHER_ASSERT(phase < PSH_PHASES && signal < PSH_SIGNALS);
    switch (PSH_AT(phase, signal)) {
    case PSH_AT(PSH_IDLE, PSH_UP):
    case PSH_AT(PSH_WAITING, PSH_NOW):
    case PSH_AT(PSH_WAITING, PSH_TIMER): return psh_client_to(PSH_OPENING, PSH_DO_OPEN);
    case PSH_AT(PSH_LEAVING, PSH_UP):
    case PSH_AT(PSH_CLOSING, PSH_NOW):
        return psh_client_to(PSH_OPENING, PSH_DO_DROP | PSH_DO_OPEN);

    case PSH_AT(PSH_OPENING, PSH_READY): return psh_client_to(PSH_UPGRADING, PSH_DO_UPGRADE);
    case PSH_AT(PSH_UPGRADING, PSH_UPGRADED): return psh_client_to(PSH_GREETING, 0);
    case PSH_AT(PSH_GREETING, PSH_GREETED): return psh_client_to(PSH_ONLINE, PSH_DO_WELCOME);
    case PSH_AT(PSH_ONLINE, PSH_NOW): return psh_client_to(PSH_ONLINE, PSH_DO_CHECK);

    case PSH_AT(PSH_OPENING, PSH_LOST):
    case PSH_AT(PSH_OPENING, PSH_QUIT):
    case PSH_AT(PSH_UPGRADING, PSH_LOST):
    case PSH_AT(PSH_UPGRADING, PSH_QUIT):
    case PSH_AT(PSH_GREETING, PSH_LOST):
        return psh_client_to(PSH_WAITING, PSH_DO_DROP | PSH_DO_RETRY);
    case PSH_AT(PSH_ONLINE, PSH_LOST):
        return psh_client_to(PSH_WAITING, PSH_DO_RESET | PSH_DO_DROP | PSH_DO_RETRY);
    case PSH_AT(PSH_GREETING, PSH_QUIT):
        return psh_client_to(PSH_CLOSING, PSH_DO_BYE | PSH_DO_RETRY);
    case PSH_AT(PSH_ONLINE, PSH_QUIT):
        return psh_client_to(PSH_CLOSING, PSH_DO_BYE | PSH_DO_RESET | PSH_DO_RETRY);

    case PSH_AT(PSH_OPENING, PSH_STOP):
    case PSH_AT(PSH_OPENING, PSH_DOWN):
    case PSH_AT(PSH_UPGRADING, PSH_STOP):
    case PSH_AT(PSH_UPGRADING, PSH_DOWN): return psh_client_to(PSH_IDLE, PSH_DO_DROP);
    case PSH_AT(PSH_GREETING, PSH_STOP):
    case PSH_AT(PSH_GREETING, PSH_DOWN): return psh_client_to(PSH_LEAVING, PSH_DO_BYE);
    case PSH_AT(PSH_ONLINE, PSH_STOP):
    case PSH_AT(PSH_ONLINE, PSH_DOWN):
        return psh_client_to(PSH_LEAVING, PSH_DO_BYE | PSH_DO_RESET);
    case PSH_AT(PSH_WAITING, PSH_DOWN): return psh_client_to(PSH_IDLE, 0);
    case PSH_AT(PSH_CLOSING, PSH_DOWN): return psh_client_to(PSH_LEAVING, 0);

    case PSH_AT(PSH_CLOSING, PSH_ENDED):
    case PSH_AT(PSH_CLOSING, PSH_LOST):
    case PSH_AT(PSH_CLOSING, PSH_TIMER): return psh_client_to(PSH_WAITING, PSH_DO_DROP);
    case PSH_AT(PSH_LEAVING, PSH_ENDED):
    case PSH_AT(PSH_LEAVING, PSH_LOST):
    case PSH_AT(PSH_LEAVING, PSH_TIMER): return psh_client_to(PSH_IDLE, PSH_DO_DROP);
    default: return psh_client_to(phase, 0);
    }
}

enum psh_sub {
    PSH_SUB_IDLE = 0,   /* to be subscribed: in the queue */
    PSH_SUB_PENDING,    /* asked for; waiting for the answer */
    PSH_SUB_LIVE,
    PSH_SUB_REFUSED,
    PSH_SUB_UNANSWERED, /* no answer in time; it may still come */
    PSH_SUB_CANCELLED,  /* given up while pending: waiting for the answer all the same */
    PSH_SUB_LEAVING,    /* to be unsubscribed: in the queue, and without its name */
    PSH_SUB_GONE,
    PSH_SUBS
};

enum psh_sub_signal {
    PSH_SUB_SEND = 0, /* its turn in the queue, and the frame is staged */
    PSH_SUB_ACK,
    PSH_SUB_NAK,
    PSH_SUB_LATE,     /* the deadline of the answer has passed */
    PSH_SUB_DROP,     /* the last reference was given back */
    PSH_SUB_AGAIN,    /* the first reference anew */
    PSH_SUB_LOST,     /* the connection has gone */
    PSH_SUB_SIGNALS
};

enum psh_sub_action {
    PSH_SUB_QUEUE = 1,
    PSH_SUB_WAIT = 2, /* for the answer, until a deadline */
    PSH_SUB_REMOVE = 4,
    PSH_SUB_TELL = 8  /* the handlers are told */
};

struct psh_sub_move {
    enum psh_sub state;
    unsigned actions;
};

static struct psh_sub_move psh_client_sub_to(enum psh_sub state, unsigned actions)
{
    struct psh_sub_move move;
    PUSHER_ASSERT(state < PSH_SUBS);
    move.state = state;
    move.actions = actions;
    return move;
}

#define PSH_SUB_AT(state, signal) ((int)(state) * (int)PSH_SUB_SIGNALS + (int)(signal))

/* A channel's state machine. What is not listed changes nothing. */
static struct psh_sub_move psh_client_sub_move(enum psh_sub state, enum psh_sub_signal signal)
{
    PUSHER_ASSERT(state < PSH_SUBS && signal < PSH_SUB_SIGNALS);
    switch (PSH_SUB_AT(state, signal)) {
    case PSH_SUB_AT(PSH_SUB_IDLE, PSH_SUB_SEND):
        return psh_client_sub_to(PSH_SUB_PENDING, PSH_SUB_WAIT);
    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_ACK):
    case PSH_SUB_AT(PSH_SUB_UNANSWERED, PSH_SUB_ACK):
        return psh_client_sub_to(PSH_SUB_LIVE, PSH_SUB_TELL);
    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_NAK):
    case PSH_SUB_AT(PSH_SUB_LIVE, PSH_SUB_NAK):
        return psh_client_sub_to(PSH_SUB_REFUSED, PSH_SUB_TELL);
    case PSH_SUB_AT(PSH_SUB_UNANSWERED, PSH_SUB_NAK):
        return psh_client_sub_to(PSH_SUB_REFUSED, 0); /* they have been told */
    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_LATE):
        return psh_client_sub_to(PSH_SUB_UNANSWERED, PSH_SUB_TELL);

    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_DROP):
        return psh_client_sub_to(PSH_SUB_CANCELLED, PSH_SUB_WAIT);
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_AGAIN):
        return psh_client_sub_to(PSH_SUB_PENDING, PSH_SUB_WAIT);
    case PSH_SUB_AT(PSH_SUB_LIVE, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_UNANSWERED, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_ACK):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_LATE):
        return psh_client_sub_to(PSH_SUB_LEAVING, PSH_SUB_QUEUE);

    case PSH_SUB_AT(PSH_SUB_IDLE, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_LIVE, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_REFUSED, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_UNANSWERED, PSH_SUB_LOST):
        return psh_client_sub_to(PSH_SUB_IDLE, PSH_SUB_QUEUE);

    case PSH_SUB_AT(PSH_SUB_IDLE, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_REFUSED, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_NAK):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_LEAVING, PSH_SUB_SEND):
    case PSH_SUB_AT(PSH_SUB_LEAVING, PSH_SUB_LOST):
        return psh_client_sub_to(PSH_SUB_GONE, PSH_SUB_REMOVE);
    default: return psh_client_sub_to(state, 0);
    }
}

/* Two lists run through the channels: the order of subscription, and the work: the queue, those
   that wait for an answer, or those to be freed. */
enum { PSH_BY_ORDER = 0, PSH_BY_WORK = 1, PSH_LINKS = 2 };

struct psh_link {
    uint32_t before, next; /* ids: index + 1 */
};

struct psh_channel {
    struct psh_entry entry;
    struct psh_handlers handlers;
    struct psh_link link[PSH_LINKS];
    uint32_t deadline;     /* of the answer; low bits of the client's time */
    uint32_t count;        /* of subscribers, as the server says */
};

enum psh_work { PSH_WORK_NONE = 0, PSH_WORK_QUEUE, PSH_WORK_WAIT, PSH_WORK_FREE, PSH_WORKS };

enum psh_wish { PSH_WISH_NONE = 0, PSH_WISH_UP, PSH_WISH_DOWN, PSH_WISH_RESTART };

/* How a failure wants the next attempt. */
enum psh_urge { PSH_URGE_SOON = 0, PSH_URGE_LATER, PSH_URGE_NOW, PSH_URGE_STOP };

enum {
    PSH_LINGER_MS = 1000, /* for the other side to end the stream after our close frame */
    PSH_JUMP_MS = 5000,   /* a poll as late as this means that the clock, or the program, slept */
    PSH_LOOKUP_MS = 10,   /* how often a look-up is asked for its answer */
    PSH_ERROR_MS = 2000,  /* a close without a code this soon after an error event has its code */
    PSH_LATE_BATCH = 256  /* unanswered subscriptions reported in one poll */
};

struct pusher_client {
    struct psh_env env;
    pusher_transport transport;
    pusher_state_fn state_fn;
    pusher_error_fn error_fn;
    pusher_retry_fn retry_fn;
    void *user_data;
    char *host, *authority, *path, *origin;
    uint16_t port;
    uint32_t activity_timeout_ms, pong_timeout_ms, unavailable_timeout_ms, connect_timeout_ms;
    uint32_t subscribe_timeout_ms, reconnect_base_ms, reconnect_cap_ms, max_attempts;
    uint32_t max_poll_bytes, max_channels;

    bool polling, doomed, more, now_wanted, pong_owed, started, jumped, instant_used;
    unsigned char wish;            /* enum psh_wish */
    unsigned char urge;            /* enum psh_urge, of the last failure */
    enum psh_phase phase;
    pusher_state state;
    void *stream;
    int want_recv, want_send;      /* PUSHER_IO_WANT_..., or 0 */

    uint64_t now, offset;          /* our time; ours minus the caller's */
    uint64_t deadline;             /* of the phase */
    uint64_t retry_at, unavailable_at, pong_by;
    uint64_t last_received, last_sent, connected_at, pinged_at, error_at;
    uint32_t activity_ms;          /* of this connection */
    uint32_t failures;             /* in a row */
    uint32_t error_code;           /* of the last message, when that was an error */
    int dispatched;

    struct psh_ws ws;
    struct psh_buf scratch;        /* a message's texts */
    struct psh_table table;
    struct psh_bind bind;
    struct psh_handlers everyone;  /* PUSHER_ALL */
    struct psh_list order, work[PSH_WORKS];
    pusher_stats stats;
    pusher_error last;
    char socket_id[PSH_SOCKET_ID];
    struct psh_text say;           /* the sentence being made */
    char words[320];
};

/* -- channels and lists -- */

static struct psh_channel *psh_client_at(const pusher_client *client, uint32_t index)
{
    return (struct psh_channel *)psh_env_pool_at(&client->table.pool, index);
}

/* The index of a channel somebody holds, or PSH_NONE when the handle is stale. */
static uint32_t psh_client_index(const pusher_client *client, pusher_channel handle)
{
    PUSHER_ASSERT(client);
    const struct psh_channel *channel = (const struct psh_channel *)psh_env_pool_get(
        &client->table.pool, handle.id, handle.generation);
    return channel && channel->entry.references > 0 ? handle.id - 1 : PSH_NONE;
}

static pusher_channel psh_client_handle(const pusher_client *client, uint32_t index)
{
    pusher_channel handle = {0, 0};
    if (index == PSH_NONE || psh_client_at(client, index)->entry.references == 0) return handle;
    handle.id = index + 1;
    handle.generation = psh_client_at(client, index)->entry.slot.generation;
    return handle;
}

/* The index of the entry with this name, cancelled ones included. */
static uint32_t psh_client_find(const pusher_client *client, const char *name, size_t len)
{
    return psh_table_find(&client->table, name, len);
}

static void psh_client_push(pusher_client *client, struct psh_list *list, int by, uint32_t index)
{
    struct psh_link *link = &psh_client_at(client, index)->link[by];
    PUSHER_ASSERT(!link->before && !link->next && list->first != index + 1);
    link->before = list->last;
    if (list->last) psh_client_at(client, list->last - 1)->link[by].next = index + 1;
    else list->first = index + 1;
    list->last = index + 1;
}

static void psh_client_pull(pusher_client *client, struct psh_list *list, int by, uint32_t index)
{
    PUSHER_ASSERT(list->first && list->last);
    struct psh_link *link = &psh_client_at(client, index)->link[by];
    if (link->before) psh_client_at(client, link->before - 1)->link[by].next = link->next;
    else list->first = link->next;
    if (link->next) psh_client_at(client, link->next - 1)->link[by].before = link->before;
    else list->last = link->before;
    link->before = link->next = 0;
}

static void psh_client_set_work(pusher_client *client, uint32_t index, enum psh_work work)
{
    struct psh_channel *channel = psh_client_at(client, index);
    PUSHER_ASSERT(channel->entry.mark < PSH_WORKS);
    if (channel->entry.mark)
        psh_client_pull(client, &client->work[channel->entry.mark], PSH_BY_WORK, index);
    channel->entry.mark = (unsigned char)work;
    if (work) psh_client_push(client, &client->work[work], PSH_BY_WORK, index);
}

static void psh_client_free_gone(pusher_client *client)
{
    PUSHER_ASSERT(!client->polling);
    while (client->work[PSH_WORK_FREE].first) {
        uint32_t index = client->work[PSH_WORK_FREE].first - 1;
        psh_client_set_work(client, index, PSH_WORK_NONE);
        psh_table_remove(&client->table, index);
    }
}

/* Moves the channel; true when its handlers are to be told. A channel that is gone is freed when
   the poll is over, for a callback further up may be about it. */
static bool psh_client_sub(pusher_client *client, uint32_t index, enum psh_sub_signal signal)
{
    PUSHER_ASSERT(signal < PSH_SUB_SIGNALS);
    struct psh_channel *channel = psh_client_at(client, index);
    struct psh_sub_move move =
        psh_client_sub_move((enum psh_sub)channel->entry.state, signal);
    enum psh_work work = PSH_WORK_NONE;
    if (move.state == (enum psh_sub)channel->entry.state && !move.actions) return false;
    if (move.actions & PSH_SUB_QUEUE) work = PSH_WORK_QUEUE;
    if (move.actions & PSH_SUB_WAIT) work = PSH_WORK_WAIT;
    if (move.actions & PSH_SUB_REMOVE) work = PSH_WORK_FREE;
    channel->entry.state = (unsigned char)move.state;
    psh_client_set_work(client, index, work);
    if (work == PSH_WORK_WAIT)
        channel->deadline = (uint32_t)client->now + client->subscribe_timeout_ms;
    if (move.state == PSH_SUB_LEAVING || move.state == PSH_SUB_GONE)
        psh_table_unindex(&client->table, index);
    if (work == PSH_WORK_FREE && !client->polling) psh_client_free_gone(client);
    return (move.actions & PSH_SUB_TELL) != 0;
}

/* The connection has gone: those somebody holds queue up again in the order of subscription, and
   the rest has nothing left to wait for. */
static void psh_client_reset_channels(pusher_client *client)
{
    struct psh_list *queue = &client->work[PSH_WORK_QUEUE], *wait = &client->work[PSH_WORK_WAIT];
    for (uint32_t id = client->order.first; id;) {
        uint32_t index = id - 1;
        id = psh_client_at(client, index)->link[PSH_BY_ORDER].next;
        (void)psh_client_sub(client, index, PSH_SUB_LOST);
        PUSHER_ASSERT(psh_client_at(client, index)->entry.state == PSH_SUB_IDLE);
    }
    while (wait->first) (void)psh_client_sub(client, wait->first - 1, PSH_SUB_LOST);
    while (queue->first && psh_client_at(client, queue->first - 1)->entry.state == PSH_SUB_LEAVING)
        (void)psh_client_sub(client, queue->first - 1, PSH_SUB_LOST);
}

/* -- telling the user -- */

static struct psh_text *psh_client_say(pusher_client *client)
{
    psh_env_text(&client->say, client->words, sizeof client->words);
    return &client->say;
}

/* Begins a sentence: where it happened, and in which step. */
static struct psh_text *psh_client_say_where(pusher_client *client)
{
    static const char *const steps[PSH_PHASES] = {
        "idle", "connecting", "upgrading to WebSocket", "waiting for connection_established",
        "while connected", "closing", "closing", "waiting"};
    struct psh_text *say = psh_client_say(client);
    psh_env_add(say, client->authority);
    psh_env_add(say, client->port == 80 ? ":80: " : ": ");
    psh_env_add(say, steps[client->phase]);
    psh_env_add(say, ": ");
    return say;
}

/* Tells error_fn what client->words says. */
static void psh_client_report(pusher_client *client, pusher_result code, uint32_t server_code,
                              uint32_t index)
{
    PUSHER_ASSERT(client->polling && code != PUSHER_OK);
    pusher_error error;
    if (client->doomed) return;
    error.code = code;
    error.server_code = (int)server_code;
    error.channel = psh_client_handle(client, index);
    error.channel_name = index == PSH_NONE ? NULL : psh_client_at(client, index)->entry.name;
    error.message = client->words;
    psh_env_log(&client->env, client->words);
    if (client->error_fn) client->error_fn(client, &error, client->user_data);
}

static void psh_client_set_state(pusher_client *client, pusher_state state)
{
    pusher_state before = client->state;
    PUSHER_ASSERT(client->polling);
    if (state == before || client->doomed) return;
    client->state = state;
    client->unavailable_at = state == PUSHER_CONNECTING
                                 ? client->now + client->unavailable_timeout_ms
                                 : PSH_NEVER;
    psh_env_log(&client->env, pusher_state_name(state));
    if (client->state_fn) client->state_fn(client, state, before, client->user_data);
}

/* index PSH_NONE: an event of no channel, or of one that is not ours: PUSHER_ALL hears it. */
static void psh_client_emit(pusher_client *client, uint32_t index, enum psh_kind kind,
                            const struct psh_envelope *envelope)
{
    PUSHER_ASSERT(client->polling && envelope->event.at);
    pusher_event event;
    const struct psh_value *data = &envelope->data, *user = &envelope->user_id;
    if (client->doomed) return;
    event.channel = psh_client_handle(client, index);
    event.channel_name = envelope->channel.string ? envelope->channel.at : "";
    event.name = psh_proto_public_name(kind, envelope->event.at);
    event.data = data->raw_len ? data->at : "";
    event.data_len = data->len;
    event.data_was_string = data->string;
    event.raw = data->raw_len ? data->raw : "";
    event.raw_len = data->raw_len;
    event.user_id = user->string || (user->raw_len && *user->at != 'n') ? user->at : NULL;
    size_t len = event.name == envelope->event.at ? envelope->event.len : strlen(event.name);
    const struct psh_handlers *handlers =
        event.channel.id ? &psh_client_at(client, index)->handlers : NULL;
    uint32_t fired = psh_bind_dispatch(&client->bind, handlers, &client->everyone, len, client,
                                       &event, &client->doomed);
    if (fired) client->dispatched++, client->stats.events++;
    else client->stats.events_unbound++;
}

/* -- the connection -- */

static void psh_client_drop(pusher_client *client)
{
    PUSHER_ASSERT(client->phase != PSH_ONLINE || client->doomed || !client->polling);
    if (client->stream) client->transport.close_fn(client->stream);
    client->stream = NULL;
    client->want_recv = client->want_send = 0;
    client->socket_id[0] = '\0';
    client->pong_owed = false;
    client->pong_by = client->pinged_at = PSH_NEVER;
    psh_ws_close(&client->ws);
}

/* A stream that cannot be opened is found missing by psh_client_progress(). */
static void psh_client_open(pusher_client *client)
{
    PUSHER_ASSERT(!client->stream);
    client->stats.attempts++;
    client->error_code = 0;
    client->deadline = client->now + client->connect_timeout_ms;
    if (psh_ws_open(&client->ws))
        client->stream = client->transport.open_fn(client->host, client->port,
                                                   client->transport.user_data);
    psh_client_set_state(client, client->state == PUSHER_UNAVAILABLE ? PUSHER_UNAVAILABLE
                                                                     : PUSHER_CONNECTING);
}

/* Full jitter: anything from 0 to the bound, so that clients do not come back together. */
static uint32_t psh_client_delay(pusher_client *client)
{
    uint64_t bound = client->reconnect_base_ms;
    uint32_t dice = 0, shift = client->failures > 32 ? 32 : client->failures;
    PUSHER_ASSERT(shift > 0);
    bound <<= shift - 1;
    if (bound > client->reconnect_cap_ms) bound = client->reconnect_cap_ms;
    if (client->urge == PSH_URGE_NOW && !client->instant_used) {
        client->instant_used = true;
        return 0;
    }
    if (!psh_env_random(&client->env, &dice, sizeof dice)) dice = UINT32_MAX;
    uint32_t delay = (uint32_t)((bound + 1) * dice >> 32);
    return client->urge == PSH_URGE_LATER && delay < 1000 ? 1000 : delay;
}

static void psh_client_retry(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_WAITING || client->phase == PSH_CLOSING);
    uint32_t delay = psh_client_delay(client);
    client->retry_at = client->now + delay;
    if (client->state != PUSHER_UNAVAILABLE) psh_client_set_state(client, PUSHER_CONNECTING);
    if (client->retry_fn && !client->doomed)
        client->retry_fn(client, delay, client->failures, client->user_data);
}

static void psh_client_ping(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_ONLINE);
    /* Output too full even for a ping is a connection that the pong deadline may well end. */
    if (psh_ws_send_text(&client->ws, PSH_PROTO_PING, sizeof PSH_PROTO_PING - 1))
        client->stats.messages_sent++;
    client->pinged_at = client->now;
    client->pong_by = client->now + client->pong_timeout_ms;
}

static void psh_client_welcome(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_ONLINE && client->socket_id[0]);
    client->stats.connections++;
    client->connected_at = client->last_received = client->last_sent = client->now;
    client->pong_by = PSH_NEVER;
    psh_client_set_state(client, PUSHER_CONNECTED);
}

static void psh_client_act(pusher_client *client, unsigned actions)
{
    if (actions & PSH_DO_BYE) psh_ws_send_close(&client->ws, 1000);
    if (actions & PSH_DO_RESET) psh_client_reset_channels(client);
    if (actions & PSH_DO_DROP) psh_client_drop(client);
    if (actions & PSH_DO_RETRY) psh_client_retry(client);
    if ((actions & PSH_DO_CHECK) && client->pong_by == PSH_NEVER) psh_client_ping(client);
    if (actions & PSH_DO_OPEN) psh_client_open(client);
    if (actions & PSH_DO_WELCOME) psh_client_welcome(client);
    if (client->phase == PSH_WAITING) client->deadline = client->retry_at;
    if (actions & PSH_DO_BYE) client->deadline = client->now + PSH_LINGER_MS;
    if (client->phase == PSH_CLOSING && client->retry_at < client->deadline)
        client->deadline = client->retry_at;
}

static void psh_client_signal(pusher_client *client, enum psh_signal signal)
{
    struct psh_move move = psh_client_move(client->phase, signal);
    client->phase = move.phase;
    psh_client_act(client, move.actions);
}

/* Ends the connection or the attempt, for the reason in client->words. goodbye: the stream still
   works, and our close frame says why. */
static void psh_client_fail(pusher_client *client, pusher_result code, uint32_t server_code,
                            enum psh_urge urge, bool goodbye)
{
    PUSHER_ASSERT(client->phase >= PSH_OPENING && client->phase <= PSH_ONLINE);
    if (client->phase == PSH_ONLINE &&
        client->now - client->connected_at >= client->reconnect_cap_ms) {
        client->failures = 0;
        client->instant_used = false;
    }
    client->failures++;
    client->urge = (unsigned char)urge;
    if (client->max_attempts && client->failures >= client->max_attempts) {
        urge = PSH_URGE_STOP;
        psh_env_add(&client->say, "; giving up after ");
        psh_env_add_uint(&client->say, client->failures);
        psh_env_add(&client->say, client->failures == 1 ? " failure" : " failures in a row");
    }
    psh_client_report(client, code, server_code, PSH_NONE);
    if (urge == PSH_URGE_STOP) {
        psh_client_signal(client, PSH_STOP);
        psh_client_set_state(client, PUSHER_FAILED);
    } else {
        psh_client_signal(client, goodbye ? PSH_QUIT : PSH_LOST);
    }
}

/* Pusher's ranges of close codes. */
static enum psh_urge psh_client_urge(uint32_t code)
{
    if (code >= 4000 && code <= 4099) return PSH_URGE_STOP;
    if (code >= 4100 && code <= 4199) return PSH_URGE_LATER;
    if (code >= 4200 && code <= 4299) return PSH_URGE_NOW;
    return PSH_URGE_SOON;
}

static void psh_client_say_code(struct psh_text *say, uint32_t code, const char *reason)
{
    psh_env_add_uint(say, code);
    if (*reason) psh_env_add(say, " ");
    psh_env_add_foreign(say, reason, strlen(reason));
    if (code == 4000) psh_env_add(say, " (it wants TLS, which this version does not have)");
}

/* A code in an error event counts for a close that comes right behind it without one. */
static uint32_t psh_client_recent_error(const pusher_client *client)
{
    bool recent = client->now - client->error_at <= PSH_ERROR_MS;
    return recent ? client->error_code : 0;
}

/* The stream has ended: got is PUSHER_IO_EOF or an error. */
static void psh_client_broken(pusher_client *client, int got)
{
    PUSHER_ASSERT(got <= 0);
    const char *why = NULL;
    if (client->phase >= PSH_CLOSING) {
        psh_client_signal(client, PSH_ENDED);
        return;
    }
    if (client->stream && client->transport.error_fn && got != PUSHER_IO_EOF)
        why = client->transport.error_fn(client->stream);
    if (!why) why = got == PUSHER_IO_EOF ? "the server ended the connection" : "the stream failed";
    struct psh_text *say = psh_client_say_where(client);
    uint32_t code = psh_client_recent_error(client);
    psh_env_add(say, why);
    if (code) {
        psh_env_add(say, " after error ");
        psh_client_say_code(say, code, "");
    }
    psh_client_fail(client, got == PUSHER_IO_ERROR_RESOLVE ? PUSHER_ERR_RESOLVE : PUSHER_ERR_IO,
                    code, psh_client_urge(code), false);
}

/* -- output -- */

/* Channels that wait for a frame get one each, as long as there is room. */
static void psh_client_pump(pusher_client *client)
{
    struct psh_list *queue = &client->work[PSH_WORK_QUEUE];
    char frame[320];
    struct psh_text text;
    psh_ws_pay_pong(&client->ws);
    if (client->phase != PSH_ONLINE) return;
    if (client->pong_owed &&
        psh_ws_send_text(&client->ws, PSH_PROTO_PONG, sizeof PSH_PROTO_PONG - 1)) {
        client->pong_owed = false;
        client->stats.messages_sent++;
    }
    while (queue->first) {
        uint32_t index = queue->first - 1;
        const struct psh_entry *entry = &psh_client_at(client, index)->entry;
        psh_env_text(&text, frame, sizeof frame);
        psh_proto_subscribe(&text, entry->name, entry->state == PSH_SUB_IDLE);
        PUSHER_ASSERT(!text.cut);
        if (!psh_ws_send_text(&client->ws, text.at, text.len)) return;
        client->stats.messages_sent++;
        (void)psh_client_sub(client, index, PSH_SUB_SEND);
    }
}

/* Sends what is staged, at most *budget bytes. False when the stream takes no more. */
static bool psh_client_flush(pusher_client *client, size_t *budget)
{
    size_t len;
    const unsigned char *bytes = psh_ws_output(&client->ws, &len);
    while (len > 0 && *budget > 0) {
        if (len > *budget && !client->ws.retry) len = *budget;
        int put = client->transport.send_fn(client->stream, bytes, len);
        if (put <= 0) {
            client->want_send = put;
            psh_ws_blocked(&client->ws, len);
            if (put != PUSHER_IO_WANT_READ && put != PUSHER_IO_WANT_WRITE)
                psh_client_broken(client, PUSHER_IO_ERROR);
            return false;
        }
        PUSHER_ASSERT((size_t)put <= len);
        client->want_send = 0;
        client->last_sent = client->now;
        client->stats.bytes_sent += (uint64_t)put;
        *budget -= (size_t)put > *budget ? *budget : (size_t)put;
        psh_ws_sent(&client->ws, (size_t)put);
        bytes = psh_ws_output(&client->ws, &len);
    }
    return true;
}

static bool psh_client_has_stream(const pusher_client *client)
{
    return client->stream && client->phase >= PSH_UPGRADING && client->phase <= PSH_LEAVING;
}

static void psh_client_no_random(pusher_client *client)
{
    psh_env_add(psh_client_say_where(client), "the random source failed");
    psh_client_fail(client, PUSHER_ERR_RANDOM, 0, PSH_URGE_SOON, false);
}

static void psh_client_output(pusher_client *client)
{
    size_t budget = client->max_poll_bytes;
    bool again = true;
    while (again && budget > 0 && psh_client_has_stream(client)) {
        psh_client_pump(client);
        if (client->ws.random_failed && client->phase <= PSH_ONLINE) {
            psh_client_no_random(client);
            return;
        }
        again = psh_client_flush(client, &budget) && client->phase == PSH_ONLINE &&
                client->work[PSH_WORK_QUEUE].first;
    }
}

/* -- input -- */

/* The server's no to a subscription; an error that names no channel is told as the channel's. */
static void psh_client_refused(pusher_client *client, uint32_t index,
                               const struct psh_server_error *error,
                               const struct psh_envelope *envelope)
{
    PUSHER_ASSERT(index != PSH_NONE);
    struct psh_text *say = psh_client_say(client);
    struct psh_envelope told = *envelope;
    if (!psh_client_sub(client, index, PSH_SUB_NAK)) return;
    told.channel.at = psh_client_at(client, index)->entry.name;
    told.channel.string = true;
    psh_env_add(say, told.channel.at);
    psh_env_add(say, ": the server refused the subscription: ");
    psh_client_say_code(say, error->code, error->message);
    psh_client_report(client, PUSHER_ERR_SERVER, error->code, index);
    psh_client_emit(client, index, PSH_KIND_REFUSED, &told);
}

/* Which subscription an error is about, if it is one that waits for its answer. */
static uint32_t psh_client_accused(const pusher_client *client, const char *message,
                                   const struct psh_envelope *envelope)
{
    size_t len = 0;
    uint32_t index = PSH_NONE;
    const char *name = envelope->channel.string ? envelope->channel.at : NULL;
    if (name) len = envelope->channel.len;
    else name = psh_proto_channel_in(message, client->socket_id, &len);
    if (name) index = psh_client_find(client, name, len);
    if (index == PSH_NONE) return PSH_NONE;
    unsigned char state = psh_client_at(client, index)->entry.state;
    return state == PSH_SUB_PENDING || state == PSH_SUB_CANCELLED ? index : PSH_NONE;
}

static void psh_client_on_error(pusher_client *client, const struct psh_envelope *envelope)
{
    struct psh_server_error error;
    psh_proto_error(&envelope->data, &error);
    if (client->phase == PSH_GREETING) {
        psh_client_say_code(psh_client_say_where(client), error.code, error.message);
        psh_client_fail(client, PUSHER_ERR_SERVER, error.code, psh_client_urge(error.code), true);
        return;
    }
    uint32_t index = psh_client_accused(client, error.message, envelope);
    if (index != PSH_NONE) {
        psh_client_refused(client, index, &error, envelope);
        return;
    }
    client->error_code = error.code;
    client->error_at = client->now;
    struct psh_text *say = psh_client_say_where(client);
    psh_env_add(say, "error from the server: ");
    psh_client_say_code(say, error.code, error.message);
    if (envelope->channel.string)
        index = psh_client_find(client, envelope->channel.at, envelope->channel.len);
    psh_client_report(client, PUSHER_ERR_SERVER, error.code, index);
    psh_client_emit(client, PSH_NONE, PSH_KIND_ERROR, envelope);
}

static void psh_client_on_established(pusher_client *client, const struct psh_envelope *envelope)
{
    struct psh_established hello;
    if (client->phase != PSH_GREETING) return;
    if (!psh_proto_established(&envelope->data, &hello)) {
        psh_env_add(psh_client_say_where(client), "connection_established without a socket_id");
        psh_client_fail(client, PUSHER_ERR_PARSE, 0, PSH_URGE_SOON, true);
        return;
    }
    memcpy(client->socket_id, hello.socket_id, sizeof client->socket_id);
    client->activity_ms = client->activity_timeout_ms;
    if (hello.activity_timeout_ms && hello.activity_timeout_ms < client->activity_ms)
        client->activity_ms = hello.activity_timeout_ms;
    psh_client_signal(client, PSH_GREETED);
}

/* The server's answer to a subscription, or its count. */
static void psh_client_on_channel(pusher_client *client, enum psh_kind kind,
                                  const struct psh_envelope *envelope)
{
    struct psh_server_error error;
    uint32_t index = PSH_NONE;
    if (envelope->channel.string)
        index = psh_client_find(client, envelope->channel.at, envelope->channel.len);
    if (index == PSH_NONE) return;
    struct psh_channel *channel = psh_client_at(client, index);
    switch (kind) {
    case PSH_KIND_SUBSCRIBED:
        if (psh_client_sub(client, index, PSH_SUB_ACK))
            psh_client_emit(client, index, kind, envelope);
        break;
    case PSH_KIND_REFUSED:
        psh_proto_error(&envelope->data, &error);
        psh_client_refused(client, index, &error, envelope);
        break;
    default:
        PUSHER_ASSERT(kind == PSH_KIND_COUNT);
        if (psh_proto_count(&envelope->data, &channel->count) && channel->entry.references > 0)
            psh_client_emit(client, index, kind, envelope);
        break;
    }
}

static void psh_client_on_envelope(pusher_client *client, const struct psh_envelope *envelope)
{
    enum psh_kind kind = psh_proto_kind(&envelope->event);
    uint32_t index = PSH_NONE;
    client->error_code = 0;
    switch (kind) {
    case PSH_KIND_ESTABLISHED: psh_client_on_established(client, envelope); break;
    case PSH_KIND_ERROR: psh_client_on_error(client, envelope); break;
    case PSH_KIND_PING: client->pong_owed = true; break;
    case PSH_KIND_PONG:
        if (client->pinged_at != PSH_NEVER)
            client->stats.round_trip_ms = (uint32_t)(client->now - client->pinged_at);
        client->pinged_at = PSH_NEVER;
        break;
    case PSH_KIND_INTERNAL: break;
    case PSH_KIND_EVENT:
        if (envelope->channel.string)
            index = psh_client_find(client, envelope->channel.at, envelope->channel.len);
        if (client->phase == PSH_ONLINE) psh_client_emit(client, index, kind, envelope);
        break;
    default: psh_client_on_channel(client, kind, envelope); break;
    }
}

static void psh_client_on_message(pusher_client *client, const char *text, size_t len)
{
    PUSHER_ASSERT(text && client->phase >= PSH_GREETING);
    struct psh_envelope envelope;
    client->stats.messages_received++;
    if (!psh_env_reserve(&client->env, &client->scratch, len + PSH_JSON_SLACK)) {
        psh_env_add(psh_client_say_where(client), "a message was dropped for want of memory");
        psh_client_report(client, PUSHER_ERR_MEMORY, 0, PSH_NONE);
        return;
    }
    const char *wrong =
        psh_json_envelope(text, len, (char *)client->scratch.data, &envelope);
    if (!wrong) {
        psh_client_on_envelope(client, &envelope);
        return;
    }
    struct psh_text *say = psh_client_say_where(client), excerpt;
    char start[64];
    psh_env_text(&excerpt, start, sizeof start);
    psh_env_add_foreign(&excerpt, text, len);
    client->stats.messages_bad++;
    psh_env_add(say, "a message that is ");
    psh_env_add(say, wrong);
    psh_env_add(say, " was ignored: ");
    psh_env_add(say, start);
    psh_client_report(client, PUSHER_ERR_PARSE, 0, PSH_NONE);
}

static void psh_client_on_close(pusher_client *client)
{
    PUSHER_ASSERT(client->ws.close_seen);
    uint32_t code = client->ws.close_code ? client->ws.close_code : psh_client_recent_error(client);
    size_t budget = client->max_poll_bytes;
    struct psh_text *say = psh_client_say_where(client);
    psh_env_add(say, "the server closed the connection");
    if (code) {
        psh_env_add(say, ": ");
        psh_client_say_code(say, code, client->ws.close_reason);
    }
    /* Our answer to its close frame, before the stream is given up. */
    if (psh_client_urge(code) != PSH_URGE_STOP && !psh_client_flush(client, &budget) &&
        client->phase > PSH_ONLINE)
        return;
    psh_client_fail(client, PUSHER_ERR_SERVER, code, psh_client_urge(code), false);
}

static void psh_client_on_broken_rule(pusher_client *client)
{
    pusher_result code = PUSHER_ERR_PROTOCOL;
    if (client->ws.fail_code == 1009) code = PUSHER_ERR_TOO_BIG;
    if (client->ws.fail_code == 1011) code = PUSHER_ERR_MEMORY;
    struct psh_text *say = psh_client_say_where(client);
    psh_env_add(say, "the server sent ");
    psh_env_add(say, client->ws.fail_reason);
    psh_client_fail(client, code, client->ws.fail_code, PSH_URGE_SOON, true);
}

/* Callbacks have asked for an end: nothing more is given out. */
static bool psh_client_halted(const pusher_client *client)
{
    return client->doomed || client->wish >= PSH_WISH_DOWN;
}

static void psh_client_frames(pusher_client *client)
{
    while ((client->phase == PSH_GREETING || client->phase == PSH_ONLINE) &&
           !psh_client_halted(client)) {
        switch (psh_ws_next(&client->ws)) {
        case PSH_WS_MORE: return;
        case PSH_WS_MESSAGE:
            psh_client_on_message(client, client->ws.text, client->ws.text_len);
            break;
        case PSH_WS_BINARY:
            client->stats.messages_bad++;
            psh_env_add(psh_client_say_where(client), "a binary message was ignored");
            psh_client_report(client, PUSHER_ERR_PROTOCOL, 0, PSH_NONE);
            break;
        case PSH_WS_CLOSED: psh_client_on_close(client); return;
        default: psh_client_on_broken_rule(client); return;
        }
    }
}

static void psh_client_upgrade(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_UPGRADING && client->stream);
    enum psh_ws_result result = psh_ws_upgrade(&client->ws);
    int status = client->ws.head.status;
    if (result == PSH_WS_MESSAGE) psh_client_signal(client, PSH_UPGRADED);
    if (result != PSH_WS_BROKEN) return;
    struct psh_text *say = psh_client_say_where(client);
    bool refused = status != 0 && status != 101;
    psh_env_add(say, "the server answered ");
    if (refused) {
        psh_env_add(say, "HTTP ");
        psh_env_add_uint(say, (uint64_t)status);
        psh_env_add(say, " ");
    }
    psh_env_add_foreign(say, client->ws.fail_reason, strlen(client->ws.fail_reason));
    if (refused) psh_env_add(say, " instead of 101");
    psh_client_fail(client, PUSHER_ERR_HTTP, (uint32_t)status, PSH_URGE_SOON, false);
}

static void psh_client_bytes(pusher_client *client)
{
    PUSHER_ASSERT(client->stream);
    client->last_received = client->now;
    client->pong_by = PSH_NEVER;
    if (client->phase == PSH_UPGRADING) psh_client_upgrade(client);
    if (client->phase == PSH_GREETING || client->phase == PSH_ONLINE) psh_client_frames(client);
    if (client->phase == PSH_CLOSING || client->phase == PSH_LEAVING) psh_ws_discard(&client->ws);
}

static void psh_client_input(pusher_client *client)
{
    size_t budget = client->max_poll_bytes, room;
    while (budget > 0 && psh_client_has_stream(client) && !psh_client_halted(client)) {
        unsigned char *space = psh_ws_space(&client->ws, &room);
        if (room == 0) {
            psh_env_add(psh_client_say_where(client), "no memory for input");
            if (client->phase <= PSH_ONLINE)
                psh_client_fail(client, PUSHER_ERR_MEMORY, 0, PSH_URGE_SOON, false);
            return;
        }
        if (room > budget) room = budget;
        int got = client->transport.recv_fn(client->stream, space, room);
        client->want_recv = got < 0 ? got : 0;
        if (got == PUSHER_IO_WANT_READ || got == PUSHER_IO_WANT_WRITE) return;
        if (got <= 0) {
            psh_client_broken(client, got);
            return;
        }
        PUSHER_ASSERT((size_t)got <= room);
        budget -= (size_t)got;
        client->stats.bytes_received += (uint64_t)got;
        psh_ws_received(&client->ws, (size_t)got);
        psh_client_bytes(client);
    }
    client->more = budget == 0 && psh_client_has_stream(client);
}

/* -- time and wishes -- */

static void psh_client_progress(pusher_client *client)
{
    if (client->phase != PSH_OPENING) return;
    if (!client->stream) {
        bool memory = !client->ws.frame;
        psh_env_add(psh_client_say_where(client), memory ? "no memory" : "no stream could be made");
        psh_client_fail(client, memory ? PUSHER_ERR_MEMORY : PUSHER_ERR_IO, 0, PSH_URGE_SOON,
                        false);
        return;
    }
    int ready = client->transport.ready_fn(client->stream);
    client->want_send = ready < 0 ? ready : 0;
    if (ready == PUSHER_IO_WANT_READ || ready == PUSHER_IO_WANT_WRITE) return;
    if (ready <= 0) {
        psh_client_broken(client, ready);
        return;
    }
    if (psh_ws_send_upgrade(&client->ws, client->path, client->authority, client->origin)) {
        psh_client_signal(client, PSH_READY);
    } else if (client->ws.random_failed) {
        psh_client_no_random(client);
    } else {
        psh_env_add(psh_client_say_where(client), "the key could not be hashed");
        psh_client_fail(client, PUSHER_ERR_MEMORY, 0, PSH_URGE_SOON, false);
    }
}

static void psh_client_timeout(pusher_client *client, const char *what)
{
    PUSHER_ASSERT(what);
    psh_env_add(psh_client_say_where(client), what);
    psh_client_fail(client, PUSHER_ERR_TIMEOUT, 0, PSH_URGE_SOON, false);
}

static uint64_t psh_client_ping_at(const pusher_client *client)
{
    uint64_t idle = client->last_received < client->last_sent ? client->last_received
                                                              : client->last_sent;
    return client->pong_by == PSH_NEVER ? idle + client->activity_ms : PSH_NEVER;
}

/* The time of the first channel's deadline; all have the same time to answer, so the list is in
   the order of deadlines. */
static uint64_t psh_client_answer_at(const pusher_client *client)
{
    uint32_t first = client->work[PSH_WORK_WAIT].first;
    if (!first) return PSH_NEVER;
    uint32_t left = psh_client_at(client, first - 1)->deadline - (uint32_t)client->now;
    return left > UINT32_MAX / 2 ? client->now : client->now + left;
}

/* Tells the handlers in a message of our own making, for the server said nothing. */
static void psh_client_tell_late(pusher_client *client, uint32_t index)
{
    static const char data[] = "{\"type\":\"Timeout\"}";
    struct psh_envelope envelope;
    struct psh_text *say = psh_client_say(client);
    memset(&envelope, 0, sizeof envelope);
    envelope.event.at = "";
    envelope.channel.at = psh_client_at(client, index)->entry.name;
    envelope.channel.string = true;
    envelope.data.at = envelope.data.raw = data;
    envelope.data.len = envelope.data.raw_len = sizeof data - 1;
    psh_env_add(say, envelope.channel.at);
    psh_env_add(say, ": the server has not answered the subscription");
    psh_client_report(client, PUSHER_ERR_TIMEOUT, 0, index);
    psh_client_emit(client, index, PSH_KIND_REFUSED, &envelope);
}

/* Not more than a frame can bear; the rest falls due in the next poll. */
static void psh_client_unanswered(pusher_client *client)
{
    for (int told = 0; told < PSH_LATE_BATCH; told++) {
        if (client->phase != PSH_ONLINE || psh_client_answer_at(client) > client->now) return;
        uint32_t index = client->work[PSH_WORK_WAIT].first - 1;
        if (psh_client_sub(client, index, PSH_SUB_LATE)) psh_client_tell_late(client, index);
    }
}

static void psh_client_timers(pusher_client *client)
{
    if (client->state == PUSHER_CONNECTING && client->now >= client->unavailable_at)
        psh_client_set_state(client, PUSHER_UNAVAILABLE);
    if (client->phase >= PSH_OPENING && client->phase <= PSH_GREETING &&
        client->now >= client->deadline)
        psh_client_timeout(client, "no answer in time");
    if (client->phase == PSH_ONLINE && client->now >= client->pong_by)
        psh_client_timeout(client, "the server does not answer a ping");
    if (client->phase == PSH_ONLINE && client->now >= psh_client_ping_at(client))
        psh_client_ping(client);
    psh_client_unanswered(client);
    if (client->phase >= PSH_CLOSING && client->now >= client->deadline)
        psh_client_signal(client, PSH_TIMER);
}

static uint64_t psh_client_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When something falls due, on our own clock. */
static uint64_t psh_client_due(const pusher_client *client)
{
    uint64_t due = client->unavailable_at;
    if (client->phase == PSH_ONLINE) {
        due = psh_client_min(due, client->pong_by);
        due = psh_client_min(due, psh_client_ping_at(client));
        due = psh_client_min(due, psh_client_answer_at(client));
    } else if (client->phase != PSH_IDLE) {
        due = psh_client_min(due, client->deadline);
    }
    return due;
}

/* Our clock follows the caller's, but does not run back, and a jump forward did not happen. Of two
   in a row the second is a program that polls too seldom: then what was due falls due. */
static void psh_client_clock(pusher_client *client, uint64_t now_ms)
{
    uint64_t now = now_ms + client->offset;
    if (!client->started) {
        client->started = true;
        client->now = now;
        return;
    }
    if (now - client->now > UINT64_MAX / 2) { /* it ran back */
        client->offset += client->now - now;
        return;
    }
    uint64_t due = psh_client_due(client), then = now;
    bool jump = due != PSH_NEVER && now > due && now - due > PSH_JUMP_MS;
    if (jump) {
        then = client->jumped && due > client->now ? due : client->now;
        client->now_wanted = client->now_wanted || !client->jumped;
    }
    client->offset -= now - then;
    client->now = then;
    client->jumped = jump;
}

static void psh_client_wishes(pusher_client *client)
{
    unsigned char wish = client->wish;
    if (client->doomed) return;
    client->wish = PSH_WISH_NONE;
    if (wish >= PSH_WISH_DOWN) {
        psh_client_signal(client, PSH_DOWN);
        psh_client_set_state(client, PUSHER_DISCONNECTED);
    }
    if (wish == PSH_WISH_UP || wish == PSH_WISH_RESTART) {
        if (client->phase == PSH_IDLE || client->phase == PSH_LEAVING) {
            client->failures = 0;
            client->instant_used = false;
        }
        psh_client_signal(client, PSH_UP);
    }
    if (client->now_wanted) psh_client_signal(client, PSH_NOW);
    client->now_wanted = false;
}

static void psh_client_destroy(pusher_client *client)
{
    struct psh_env env = client->env;
    client->polling = client->bind.busy = false;
    psh_client_drop(client);
    psh_ws_free(&client->ws);
    psh_env_release(&env, &client->scratch);
    psh_bind_free(&client->bind);
    psh_table_free(&client->table);
    psh_env_free(&env, client->host);
    psh_env_free(&env, client->authority);
    psh_env_free(&env, client->path);
    psh_env_free(&env, client->origin);
    psh_env_free(&env, client);
}

static int psh_client_poll(pusher_client *client, uint64_t now_ms)
{
    PUSHER_ASSERT(!client->polling);
    client->polling = client->bind.busy = true;
    client->more = false;
    client->dispatched = 0;
    psh_client_clock(client, now_ms);
    psh_client_wishes(client);
    if (!client->doomed) psh_client_progress(client);
    if (!client->doomed) psh_client_input(client);
    psh_client_wishes(client);
    if (!client->doomed) psh_client_timers(client);
    if (!client->doomed) psh_client_output(client);
    client->polling = client->bind.busy = false;
    int dispatched = client->dispatched;
    if (client->doomed) {
        psh_client_destroy(client);
        return dispatched;
    }
    psh_bind_sweep(&client->bind);
    psh_client_free_gone(client);
    return dispatched;
}

static uint64_t psh_client_next_poll(const pusher_client *client)
{
    uint64_t due = psh_client_due(client);
    bool queued = client->phase == PSH_ONLINE && client->work[PSH_WORK_QUEUE].first;
    if (client->wish || client->now_wanted || client->more) due = client->now;
    if (queued && client->ws.out_at == client->ws.out_len) due = client->now;
    if (client->phase == PSH_OPENING && client->want_send != PUSHER_IO_WANT_WRITE)
        due = psh_client_min(due, client->stream ? client->now + PSH_LOOKUP_MS : client->now);
    return due == PSH_NEVER ? PSH_NEVER : due - client->offset;
}

static int psh_client_wants(const pusher_client *client)
{
    bool write = client->want_send == PUSHER_IO_WANT_WRITE ||
                 client->want_recv == PUSHER_IO_WANT_WRITE ||
                 (client->want_send == 0 && client->ws.out_at < client->ws.out_len);
    if (!client->stream) return 0;
    if (client->phase == PSH_OPENING) return write ? PUSHER_WANTS_WRITE : 0;
    return PUSHER_WANTS_READ | (write ? PUSHER_WANTS_WRITE : 0);
}

/* -- making a client -- */

static bool psh_client_text_ok(const char *text, const char *forbidden, size_t max)
{
    size_t len = strlen(text);
    if (len == 0 || len > max) return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] == 0x7F || strchr(forbidden, text[i])) return false;
    return true;
}

static const char *psh_client_bad_place(const pusher_options *o)
{
    if (!o->key || !*o->key) return "options.key is missing";
    if (!psh_client_text_ok(o->key, "/?#%&\"\\", 128)) return "options.key is not an app key";
    if (!o->host && !o->cluster) return "options.host or options.cluster is needed";
    const char *colon = o->host ? strchr(o->host, ':') : NULL; /* one alone is no IPv6 address */
    if (o->host && (!psh_client_text_ok(o->host, "/?#@\"\\[]", 253) ||
                    (colon && !strchr(colon + 1, ':'))))
        return "options.host must be a name or an address, without ws://, port, path or brackets";
    if (!o->host && !psh_client_text_ok(o->cluster, "./?#@:\"\\[]", 63))
        return "options.cluster is not a cluster's name";
    if (o->port > 65535) return "options.port is over 65535";
    if (o->path && *o->path && (*o->path != '/' || !psh_client_text_ok(o->path, "?#\"\\", 256)))
        return "options.path must begin with / and have no space, ? or #";
    if (o->origin && !psh_client_text_ok(o->origin, "\"\\", 256))
        return "options.origin is not an origin";
    return NULL;
}

static size_t psh_client_place_len(const pusher_options *o)
{
    return strlen(o->key) + strlen(o->host ? o->host : o->cluster) +
           (o->path ? strlen(o->path) : 0) + (o->origin ? strlen(o->origin) : 0);
}

static const char *psh_client_bad_limits(const pusher_options *o)
{
    if (o->max_message_bytes && o->max_message_bytes < 512)
        return "options.max_message_bytes is under 512";
    if (o->max_message_bytes > INT32_MAX - 1024)
        return "options.max_message_bytes is over 2 GiB";
    if (o->max_output_bytes && o->max_output_bytes < 1024)
        return "options.max_output_bytes is under 1024";
    if (o->max_output_bytes && o->max_output_bytes < 384 + psh_client_place_len(o))
        return "options.max_output_bytes is too small for the upgrade request";
    if (o->max_output_bytes > INT32_MAX) return "options.max_output_bytes is over 2 GiB";
    if (o->max_poll_bytes && o->max_poll_bytes < 512) return "options.max_poll_bytes is under 512";
    if (o->max_channels > 1u << 24) return "options.max_channels is over 16777216";
    return NULL;
}

static const char *psh_client_bad_hooks(const pusher_options *o)
{
    const pusher_transport *t = &o->transport;
    if (o->tls.mode < PUSHER_TLS_DEFAULT || o->tls.mode > PUSHER_TLS_ON)
        return "options.tls.mode is not a pusher_tls_mode";
    if (!t->open_fn)
        return "options.transport is needed: define PUSHER_SOCKETS, or give your own";
    if (!t->ready_fn || !t->recv_fn || !t->send_fn || !t->close_fn)
        return "options.transport lacks a function";
    if (!o->random.fill_fn)
        return "options.random is needed: define PUSHER_SOCKETS, or give your own";
    if (!o->allocator.alloc_fn != !o->allocator.free_fn)
        return "options.allocator has one function of two";
    return NULL;
}

static const char *psh_client_bad_options(const pusher_options *options)
{
    const char *bad = psh_client_bad_place(options);
    if (!bad) bad = psh_client_bad_limits(options);
    return bad ? bad : psh_client_bad_hooks(options);
}

static char *psh_client_join(const struct psh_env *env, const char *a, const char *b, const char *c)
{
    size_t len = strlen(a) + strlen(b) + strlen(c) + 1;
    struct psh_text text;
    char *joined = (char *)psh_env_alloc(env, len);
    if (!joined) return NULL;
    psh_env_text(&text, joined, len);
    psh_env_add(&text, a);
    psh_env_add(&text, b);
    psh_env_add(&text, c);
    PUSHER_ASSERT(!text.cut);
    return joined;
}

/* host, authority ("host:port", as in the Host header and in error texts), path, origin */
static bool psh_client_set_place(pusher_client *client, const pusher_options *o)
{
    PUSHER_ASSERT(o->key && (o->host || o->cluster));
    const struct psh_env *env = &client->env;
    char tail[16];
    struct psh_text text;
    client->port = (uint16_t)(o->port ? o->port : 80);
    client->host = o->host ? psh_client_join(env, o->host, "", "")
                           : psh_client_join(env, "ws-", o->cluster, ".pusher.com");
    /* Servers answer 404 to //app. */
    bool slash = o->path && *o->path && o->path[strlen(o->path) - 1] == '/';
    client->path = psh_client_join(env, o->path ? o->path : "", slash ? "app/" : "/app/", o->key);
    if (o->origin) client->origin = psh_client_join(env, o->origin, "", "");
    if (!client->host || !client->path || (o->origin && !client->origin)) return false;
    bool v6 = strchr(client->host, ':') != NULL;
    psh_env_text(&text, tail, sizeof tail);
    psh_env_add(&text, v6 ? "]" : "");
    if (client->port != 80) {
        psh_env_add(&text, ":");
        psh_env_add_uint(&text, client->port);
    }
    client->authority = psh_client_join(env, v6 ? "[" : "", client->host, tail);
    return client->authority != NULL;
}

static uint32_t psh_client_or(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

static void psh_client_set_numbers(pusher_client *client, const pusher_options *o)
{
    client->activity_timeout_ms = psh_client_or(o->activity_timeout_ms, 120000);
    client->pong_timeout_ms = psh_client_or(o->pong_timeout_ms, 30000);
    client->unavailable_timeout_ms = psh_client_or(o->unavailable_timeout_ms, 10000);
    client->connect_timeout_ms = psh_client_or(o->connect_timeout_ms, 15000);
    client->subscribe_timeout_ms = psh_client_or(o->subscribe_timeout_ms, 10000);
    client->reconnect_base_ms = psh_client_or(o->reconnect_base_ms, 1000);
    client->reconnect_cap_ms = psh_client_or(o->reconnect_cap_ms, 30000);
    client->max_attempts = o->max_attempts;
    client->max_poll_bytes = psh_client_or(o->max_poll_bytes, 65536);
    client->max_channels = psh_client_or(o->max_channels, 1048576);
    if (client->subscribe_timeout_ms > INT32_MAX) client->subscribe_timeout_ms = INT32_MAX;
    client->activity_ms = client->activity_timeout_ms;
    client->unavailable_at = client->deadline = client->retry_at = PSH_NEVER;
    client->pong_by = client->pinged_at = PSH_NEVER;
}

/* Everything but the memory of the client itself. */
static pusher_result psh_client_init(pusher_client *client, const pusher_options *o)
{
    uint64_t key[2];
    uint32_t max_message = psh_client_or(o->max_message_bytes, 65536);
    size_t max_output = psh_client_or(o->max_output_bytes, 12288);
    client->transport = o->transport;
    client->state_fn = o->state_fn;
    client->error_fn = o->error_fn;
    client->retry_fn = o->retry_fn;
    client->user_data = o->user_data;
    client->last.message = "";
    psh_client_set_numbers(client, o);
    client->scratch.max = (size_t)max_message + PSH_JSON_SLACK;
    psh_bind_init(&client->bind, &client->env);
    if (!psh_env_random(&client->env, key, sizeof key)) key[0] = key[1] = 0, client->doomed = true;
    psh_table_init(&client->table, &client->env, sizeof(struct psh_channel), key);
    size_t input = client->max_poll_bytes < 65536 ? client->max_poll_bytes : 65536;
    if (!psh_ws_init(&client->ws, &client->env, max_message, input, max_output) ||
        !psh_client_set_place(client, o))
        return PUSHER_ERR_MEMORY;
    return client->doomed ? PUSHER_ERR_RANDOM : PUSHER_OK;
}

/* A sentence for a result that needs none of its own. */
static const char *psh_client_fault(pusher_result result)
{
    switch (result) {
    case PUSHER_ERR_MEMORY: return "no memory, or a configured limit is reached";
    case PUSHER_ERR_STALE: return "the handle is stale: what it stood for has gone";
    case PUSHER_ERR_NOT_SUBSCRIBED: return "no such channel: subscribe first";
    case PUSHER_ERR_RANDOM: return "options.random failed";
    default: return "an argument is missing";
    }
}

static void psh_client_fill_error(pusher_error *error, pusher_result code, const char *message)
{
    PUSHER_ASSERT(code != PUSHER_OK);
    memset(error, 0, sizeof *error);
    error->code = code;
    error->message = message ? message : psh_client_fault(code);
}

/* A client, or NULL and the reason in *error. */
static pusher_client *psh_client_create(const pusher_options *options, pusher_error *error)
{
    pusher_options o = *options;
    struct psh_env env;
#if defined(PUSHER_SOCKETS)
    const pusher_transport *t = &o.transport;
    if (!t->open_fn && !t->ready_fn && !t->recv_fn && !t->send_fn && !t->close_fn)
        o.transport = pusher_sockets_transport();
    if (!o.random.fill_fn) o.random = pusher_sockets_random();
#endif
    const char *bad = psh_client_bad_options(&o);
    pusher_result result = bad ? PUSHER_ERR_ARGUMENT : PUSHER_ERR_MEMORY;
    if (!bad && o.tls.mode == PUSHER_TLS_ON) {
        bad = "options.tls: no TLS in this version";
        result = PUSHER_ERR_UNSUPPORTED;
    }
    psh_env_init(&env, &o);
    pusher_client *client = bad ? NULL : (pusher_client *)psh_env_alloc(&env, sizeof *client);
    if (client) {
        memset(client, 0, sizeof *client);
        client->env = env;
        result = psh_client_init(client, &o);
    }
    if (result == PUSHER_OK) return client;
    if (client) psh_client_destroy(client);
    psh_client_fill_error(error, result, bad);
    return NULL;
}

/* -- what the public functions call; a failure is noted for pusher_last_error() -- */

static pusher_result psh_client_failed(pusher_client *client, pusher_result result,
                                       const char *message)
{
    psh_client_fill_error(&client->last, result, message);
    return result;
}

static intptr_t psh_client_fd(const pusher_client *client)
{
    if (!client->stream || !client->transport.fd_fn) return -1;
    return client->transport.fd_fn(client->stream);
}

static uint32_t psh_client_add(pusher_client *client, const char *name, size_t len)
{
    uint32_t index = PSH_NONE;
    if (client->table.count >= client->max_channels) return PSH_NONE;
    if (!psh_table_add(&client->table, name, len, &index)) return PSH_NONE;
    psh_client_set_work(client, index, PSH_WORK_QUEUE);
    return index;
}

static pusher_channel psh_client_subscribe(pusher_client *client, const char *name)
{
    pusher_channel none = {0, 0};
    const char *bad = psh_proto_bad_channel(name);
    if (bad) {
        (void)psh_client_failed(client, PUSHER_ERR_NAME, bad);
        return none;
    }
    if (psh_proto_needs_auth(name)) {
        (void)psh_client_failed(client, PUSHER_ERR_UNSUPPORTED,
                                "private and presence channels are not in this version");
        return none;
    }
    uint32_t index = psh_client_find(client, name, strlen(name));
    if (index == PSH_NONE) index = psh_client_add(client, name, strlen(name));
    if (index == PSH_NONE) {
        (void)psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
        return none;
    }
    if (psh_client_at(client, index)->entry.references++ == 0) {
        psh_client_push(client, &client->order, PSH_BY_ORDER, index);
        (void)psh_client_sub(client, index, PSH_SUB_AGAIN);
    }
    return psh_client_handle(client, index);
}

static pusher_result psh_client_unsubscribe(pusher_client *client, pusher_channel handle)
{
    uint32_t index = psh_client_index(client, handle);
    if (index == PSH_NONE) return psh_client_failed(client, PUSHER_ERR_STALE, NULL);
    struct psh_channel *channel = psh_client_at(client, index);
    if (--channel->entry.references > 0) return PUSHER_OK;
    (void)psh_bind_kill_where(&client->bind, &channel->handlers, NULL, NULL, NULL);
    psh_table_renew(&client->table, index);
    psh_client_pull(client, &client->order, PSH_BY_ORDER, index);
    (void)psh_client_sub(client, index, PSH_SUB_DROP);
    return PUSHER_OK;
}

/* The channel after this one in the order of subscription; none: the first. */
static pusher_channel psh_client_after(const pusher_client *client, pusher_channel handle)
{
    uint32_t index = psh_client_index(client, handle), id = client->order.first;
    if (index != PSH_NONE) id = psh_client_at(client, index)->link[PSH_BY_ORDER].next;
    else if (handle.id) id = 0;
    return psh_client_handle(client, id ? id - 1 : PSH_NONE);
}

/* The channel of a handle, or NULL when that is stale. */
static const struct psh_channel *psh_client_channel(const pusher_client *client,
                                                    pusher_channel handle)
{
    uint32_t index = psh_client_index(client, handle);
    return index == PSH_NONE ? NULL : psh_client_at(client, index);
}

static pusher_subscription psh_client_subscription(const struct psh_channel *channel)
{
    switch (channel->entry.state) {
    case PSH_SUB_LIVE: return PUSHER_SUBSCRIBED;
    case PSH_SUB_REFUSED:
    case PSH_SUB_UNANSWERED: return PUSHER_REFUSED;
    default: return PUSHER_PENDING;
    }
}

/* Whose handlers these are, or NULL. */
static struct psh_handlers *psh_client_handlers(pusher_client *client, pusher_channel handle)
{
    if (handle.id == UINT32_MAX) return &client->everyone;
    uint32_t index = psh_client_index(client, handle);
    if (index != PSH_NONE) return &psh_client_at(client, index)->handlers;
    (void)psh_client_failed(client, handle.id ? PUSHER_ERR_STALE : PUSHER_ERR_NOT_SUBSCRIBED,
                            NULL);
    return NULL;
}

/* name NULL: every event. */
static pusher_binding psh_client_bind(pusher_client *client, pusher_channel handle,
                                      const char *name, pusher_event_fn fn, void *user_data)
{
    pusher_binding binding = {0, 0};
    size_t len = name ? strlen(name) : 1;
    if (len == 0 || len > 200) {
        (void)psh_client_failed(client, PUSHER_ERR_NAME,
                                "an event name is empty or longer than 200 bytes");
        return binding;
    }
    struct psh_handlers *owner = psh_client_handlers(client, handle);
    if (!owner) return binding;
    binding.id = psh_bind_add(&client->bind, owner, name, len, fn, user_data);
    if (binding.id) binding.generation = psh_bind_at(&client->bind, binding.id)->slot.generation;
    else (void)psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
    return binding;
}

static pusher_result psh_client_unbind(pusher_client *client, pusher_binding binding)
{
    uint32_t id = psh_bind_get(&client->bind, binding);
    if (!id) return psh_client_failed(client, PUSHER_ERR_STALE, NULL);
    psh_bind_kill(&client->bind, id);
    return PUSHER_OK;
}

static uint32_t psh_client_unbind_where(pusher_client *client, pusher_channel handle,
                                        const char *name, pusher_event_fn fn,
                                        const void *user_data)
{
    struct psh_handlers *owner = psh_client_handlers(client, handle);
    return owner ? psh_bind_kill_where(&client->bind, owner, name, fn, user_data) : 0;
}

#if defined(PUSHER_SOCKETS)
static void psh_client_wait(const pusher_client *client, uint32_t max_ms)
{
    uint64_t now = pusher_sockets_now_ms(), next = psh_client_next_poll(client);
    uint64_t wait = next > now ? next - now : 0;
    if (wait > max_ms) wait = max_ms;
    if (wait > INT32_MAX) wait = INT32_MAX;
    psh_sockets_wait(psh_client_fd(client), psh_client_wants(client), (int)wait);
}
#endif

// >>api
/* Public functions: check the arguments, call one thing. */

PUSHER_DEF pusher_client *pusher_create(const pusher_options *options, pusher_error *error)
{
    pusher_error unwanted;
    if (!error) error = &unwanted;
    if (options) return psh_client_create(options, error);
    psh_client_fill_error(error, PUSHER_ERR_ARGUMENT, "options is NULL");
    return NULL;
}

PUSHER_DEF void pusher_destroy(pusher_client *client)
{
    if (!client) return;
    client->doomed = true;
    if (!client->polling) psh_client_destroy(client);
}

PUSHER_DEF pusher_result pusher_connect(pusher_client *client)
{
    if (!client) return PUSHER_ERR_ARGUMENT;
    client->wish = client->wish >= PSH_WISH_DOWN ? PSH_WISH_RESTART : PSH_WISH_UP;
    return PUSHER_OK;
}

PUSHER_DEF void pusher_disconnect(pusher_client *client)
{
    if (client) client->wish = PSH_WISH_DOWN;
}

PUSHER_DEF void pusher_reconnect_now(pusher_client *client)
{
    if (client) client->now_wanted = true;
}

PUSHER_DEF int pusher_poll(pusher_client *client, uint64_t now_ms)
{
    return client && !client->polling ? psh_client_poll(client, now_ms) : 0;
}

PUSHER_DEF uint64_t pusher_next_poll_ms(const pusher_client *client)
{
    return client ? psh_client_next_poll(client) : PSH_NEVER;
}

PUSHER_DEF int pusher_wants(const pusher_client *client)
{
    return client ? psh_client_wants(client) : 0;
}

PUSHER_DEF intptr_t pusher_fd(const pusher_client *client)
{
    return client ? psh_client_fd(client) : -1;
}

PUSHER_DEF pusher_state pusher_get_state(const pusher_client *client)
{
    return client ? client->state : PUSHER_INITIALIZED;
}

PUSHER_DEF const char *pusher_socket_id(const pusher_client *client)
{
    return client && client->phase == PSH_ONLINE ? client->socket_id : NULL;
}

PUSHER_DEF const pusher_error *pusher_last_error(const pusher_client *client)
{
    static const pusher_error none = {PUSHER_OK, 0, {0, 0}, NULL, ""};
    return client ? &client->last : &none;
}

PUSHER_DEF pusher_channel pusher_subscribe(pusher_client *client, const char *channel_name)
{
    pusher_channel none = {0, 0};
    if (client && channel_name) return psh_client_subscribe(client, channel_name);
    if (client) (void)psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL);
    return none;
}

PUSHER_DEF pusher_result pusher_unsubscribe(pusher_client *client, pusher_channel channel)
{
    return client ? psh_client_unsubscribe(client, channel) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF pusher_channel pusher_find_channel(const pusher_client *client,
                                              const char *channel_name)
{
    uint32_t index = PSH_NONE;
    pusher_channel none = {0, 0};
    if (client && channel_name) index = psh_client_find(client, channel_name, strlen(channel_name));
    return index == PSH_NONE ? none : psh_client_handle(client, index);
}

PUSHER_DEF pusher_channel pusher_next_channel(const pusher_client *client, pusher_channel previous)
{
    pusher_channel none = {0, 0};
    return client ? psh_client_after(client, previous) : none;
}

PUSHER_DEF const char *pusher_channel_name(const pusher_client *client, pusher_channel channel)
{
    const struct psh_channel *at = client ? psh_client_channel(client, channel) : NULL;
    return at ? at->entry.name : NULL;
}

PUSHER_DEF uint32_t pusher_channel_references(const pusher_client *client, pusher_channel channel)
{
    const struct psh_channel *at = client ? psh_client_channel(client, channel) : NULL;
    return at ? at->entry.references : 0;
}

PUSHER_DEF pusher_subscription pusher_channel_state(const pusher_client *client,
                                                    pusher_channel channel)
{
    const struct psh_channel *at = client ? psh_client_channel(client, channel) : NULL;
    return at ? psh_client_subscription(at) : PUSHER_NOT_SUBSCRIBED;
}

PUSHER_DEF uint32_t pusher_channel_subscription_count(const pusher_client *client,
                                                      pusher_channel channel)
{
    const struct psh_channel *at = client ? psh_client_channel(client, channel) : NULL;
    return at ? at->count : 0;
}

PUSHER_DEF pusher_binding pusher_bind(pusher_client *client, pusher_channel channel,
                                      const char *event_name, pusher_event_fn fn, void *user_data)
{
    pusher_binding none = {0, 0};
    if (client && event_name && fn)
        return psh_client_bind(client, channel, event_name, fn, user_data);
    if (client) (void)psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL);
    return none;
}

PUSHER_DEF pusher_binding pusher_bind_all(pusher_client *client, pusher_channel channel,
                                          pusher_event_fn fn, void *user_data)
{
    pusher_binding none = {0, 0};
    if (client && fn) return psh_client_bind(client, channel, NULL, fn, user_data);
    if (client) (void)psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL);
    return none;
}

PUSHER_DEF pusher_result pusher_unbind(pusher_client *client, pusher_binding binding)
{
    return client ? psh_client_unbind(client, binding) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF uint32_t pusher_unbind_where(pusher_client *client, pusher_channel channel,
                                        const char *event_name, pusher_event_fn fn,
                                        const void *user_data)
{
    return client ? psh_client_unbind_where(client, channel, event_name, fn, user_data) : 0;
}

PUSHER_DEF void pusher_get_stats(const pusher_client *client, pusher_stats *stats)
{
    if (stats && client) *stats = client->stats;
    else if (stats) memset(stats, 0, sizeof *stats);
}

PUSHER_DEF const char *pusher_state_name(pusher_state state)
{
    switch (state) {
    case PUSHER_INITIALIZED: return "initialized";
    case PUSHER_CONNECTING: return "connecting";
    case PUSHER_CONNECTED: return "connected";
    case PUSHER_UNAVAILABLE: return "unavailable";
    case PUSHER_FAILED: return "failed";
    case PUSHER_DISCONNECTED: return "disconnected";
    default: return "unknown";
    }
}

PUSHER_DEF const char *pusher_result_name(pusher_result result)
{
    switch (result) {
    case PUSHER_OK: return "PUSHER_OK";
    case PUSHER_ERR_ARGUMENT: return "PUSHER_ERR_ARGUMENT";
    case PUSHER_ERR_MEMORY: return "PUSHER_ERR_MEMORY";
    case PUSHER_ERR_STALE: return "PUSHER_ERR_STALE";
    case PUSHER_ERR_NAME: return "PUSHER_ERR_NAME";
    case PUSHER_ERR_NOT_SUBSCRIBED: return "PUSHER_ERR_NOT_SUBSCRIBED";
    case PUSHER_ERR_UNSUPPORTED: return "PUSHER_ERR_UNSUPPORTED";
    case PUSHER_ERR_TOO_BIG: return "PUSHER_ERR_TOO_BIG";
    case PUSHER_ERR_RANDOM: return "PUSHER_ERR_RANDOM";
    case PUSHER_ERR_RESOLVE: return "PUSHER_ERR_RESOLVE";
    case PUSHER_ERR_IO: return "PUSHER_ERR_IO";
    case PUSHER_ERR_HTTP: return "PUSHER_ERR_HTTP";
    case PUSHER_ERR_PROTOCOL: return "PUSHER_ERR_PROTOCOL";
    case PUSHER_ERR_PARSE: return "PUSHER_ERR_PARSE";
    case PUSHER_ERR_TIMEOUT: return "PUSHER_ERR_TIMEOUT";
    case PUSHER_ERR_SERVER: return "PUSHER_ERR_SERVER";
    default: return "unknown";
    }
}

PUSHER_DEF pusher_json pusher_json_find(const char *json, size_t len, const char *path)
{
    if (!json || !path) return psh_json_no(PUSHER_JSON_BAD);
    return psh_json_follow(psh_json_whole(json, len), path);
}

PUSHER_DEF pusher_json pusher_json_get(pusher_json value, const char *path)
{
    return path ? psh_json_follow(value, path) : psh_json_no(PUSHER_JSON_BAD);
}

PUSHER_DEF bool pusher_json_each(pusher_json container, size_t *position, pusher_json *key,
                                 pusher_json *value)
{
    struct psh_value name, item;
    memset(&name, 0, sizeof name);
    memset(&item, 0, sizeof item);
    bool more = position && *position < container.raw_len &&
                psh_json_each(container, position, &name, &item);
    if (key) *key = psh_json_value(&name);
    if (value) *value = psh_json_value(&item);
    return more;
}

PUSHER_DEF bool pusher_json_string(pusher_json value, char *out, size_t cap, size_t *len)
{
    if (value.type == PUSHER_JSON_STRING)
        return psh_json_to_text(value.raw + 1, value.raw_len - 2, out, cap, len);
    if (out && cap > 0) *out = '\0';
    if (len) *len = 0;
    return false;
}

PUSHER_DEF bool pusher_json_number(pusher_json value, double *out)
{
    if (value.type != PUSHER_JSON_NUMBER || !out) return false;
    *out = psh_json_to_double(value.raw, value.raw_len);
    return true;
}

PUSHER_DEF bool pusher_json_integer(pusher_json value, int64_t *out)
{
    if (value.type != PUSHER_JSON_NUMBER || !out) return false;
    return psh_json_to_int64(value.raw, value.raw_len, out);
}

PUSHER_DEF bool pusher_json_bool(pusher_json value, bool *out)
{
    if (value.type != PUSHER_JSON_BOOL || !out) return false;
    *out = *value.raw == 't';
    return true;
}

#if defined(PUSHER_SOCKETS)
PUSHER_DEF void pusher_sockets_wait(const pusher_client *client, uint32_t max_ms)
{
    if (client) psh_client_wait(client, max_ms);
}
#endif

#endif /* PUSHER_IMPLEMENTATION */

/*
 * HISTORY
 *     0.1.0  public channels over plain TCP: connection, reconnection, references, bindings.
 *
 * LICENCE
 *     MIT. Copyright (c) 2026 the pusher.h authors.
 *
 *     Permission is hereby granted, free of charge, to any person obtaining a copy of this
 *     software and associated documentation files (the "Software"), to deal in the Software
 *     without restriction, including without limitation the rights to use, copy, modify, merge,
 *     publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons
 *     to whom the Software is furnished to do so, subject to the following conditions:
 *
 *     The above copyright notice and this permission notice shall be included in all copies or
 *     substantial portions of the Software.
 *
 *     THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
 *     INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
 *     PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
 *     FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 *     OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
 *     DEALINGS IN THE SOFTWARE.
 */
