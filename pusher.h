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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUSHER_VERSION_MAJOR 0
#define PUSHER_VERSION_MINOR 1
#define PUSHER_VERSION_PATCH 0
#define PUSHER_VERSION "0.1.0"

#if defined(PUSHER_STATIC)
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

/* Valid during the callback only; copy what you keep. Text is UTF-8 and NUL-terminated; where the
   sender wrote \u0000 it holds that byte too, and the lengths tell. */
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
    uint32_t max_channels;           /* 1048576                                                 */
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
   None on failure: PUSHER_ERR_NAME, _UNSUPPORTED (private-, presence-), _MEMORY. */
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

/* TCP over IPv4 and IPv6. Names are looked up on a short-lived thread of its own. */
PUSHER_DEF pusher_transport pusher_sockets_transport(void);
/* The operating system's random source. */
PUSHER_DEF pusher_random pusher_sockets_random(void);
/* A monotonic clock for pusher_poll(). */
PUSHER_DEF uint64_t pusher_sockets_now_ms(void);
/* Sleep until the client has something to do, but at most max_ms. For programs whose loop has
   nothing better to do; a game does not need it. */
PUSHER_DEF void pusher_sockets_wait(const pusher_client *client, uint32_t max_ms);

#ifdef __cplusplus
}
#endif

#endif /* PUSHER_H */
