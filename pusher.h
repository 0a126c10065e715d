/*
 * pusher.h - a Pusher Channels client for programs that own their loop. C99, one file, MIT licence.
 *
 * DO THIS
 *     In ONE C or C++ file, before other headers:
 *
 *         #define PUSHER_IMPLEMENTATION
 *         #define PUSHER_SOCKETS          // ready-made sockets, clock and randomness
 *         #include "pusher.h"
 *
 *     Link wslay and mbedTLS' crypto: -lwslay -lmbedcrypto. Have jsmn.h on the include path.
 *     (Debian: apt-get install libwslay-dev libjsmn-dev libmbedtls-dev.) With PUSHER_SOCKETS also
 *     -lpthread, on Windows -lws2_32 -lbcrypt. For TLS define PUSHER_TLS, too, and link -lmbedtls
 *     -lmbedx509 before -lmbedcrypto.
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
 *     most options.max_poll_bytes each way (with an authorization endpoint, as much again). All
 *     other functions only note what you want; the next poll does it. A game calls it once a frame.
 *     A program that sleeps asks pusher_next_poll_ms(), pusher_wants() and pusher_fd(), or simply
 *     calls pusher_sockets_wait() between two polls. A client belongs to one thread at a time
 *     (examples/background.c); several clients know nothing of each other.
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
 *     in step), for ever unless max_attempts is set. Close codes 4200-4299 mean at once, the first
 *     time, and 4100-4199 not within a second. Each wait is announced to options.retry_fn.
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
 *         pusher:subscription_error       refused, not authorized, or not answered in time
 *         pusher:subscription_count       the channel's number of subscribers has changed
 *         pusher:cache_miss               a cache channel has nothing to give
 *         pusher:member_added, pusher:member_removed      presence; event->member says who
 *         pusher:decryption_error         an event of an encrypted channel that does not open
 *         pusher:signin_success, pusher:signin_error      to PUSHER_USER
 *         pusher:error                    to PUSHER_ALL; options.error_fn is told, too
 *     Everything may be called from a callback, pusher_destroy() included: the client then ends
 *     when the callback has returned.
 *
 * PRIVATE, PRESENCE AND ENCRYPTED CHANNELS, by the prefix of their names
 *     The server lets nobody in whom the application has not authorized. Say how in options.auth:
 *         endpoint    the application's URL; gets the POST that pusher-js would send, with your
 *                     headers, over the client's own transport, without blocking
 *         request_fn  your own way. It gets a ticket and answers at once or many frames later, with
 *                     the endpoint's answer as it is: pusher_auth_accept(), pusher_auth_reject()
 *         secret      signs here; for development, and for programs that are servers themselves
 *     It is asked anew for each connection, so an expired token heals with the next answer.
 *     "Later", 429, 5xx and silence are asked again with growing waits, auth.max_attempts times in
 *     all; any other no is final and told once, as pusher:subscription_error. pusher_subscribe() on
 *     a channel that was refused asks once more.
 *     presence-           pusher_member_count(), _at(), _find(), _me(); the list outlives a lost
 *                         connection, and the difference is told when it is back
 *     private-encrypted-  events are opened before you see them. If one does not open, the key may
 *                         have changed: the authorizer is asked once, and events wait in order
 *     cache-, private-cache-, presence-cache-, private-encrypted-cache-      the server repeats the
 *                         last event to whoever subscribes: event->from_cache
 *
 * SENDING, AND SIGNING IN
 *     pusher_trigger() sends a client event to the other members of a private or presence channel.
 *     What the server would refuse is refused at once, with a code for each reason.
 *     pusher_signin() tells the server who this is, on every connection from then on. Events for
 *     the user go to the handlers of PUSHER_USER, "online" and "offline" of watched users to those
 *     of PUSHER_WATCHLIST.
 *
 * PAYLOADS
 *     event->data is the text that was published, mostly JSON. pusher_json_find() reads values out
 *     of it by path, without allocating.
 *
 * ERRORS
 *     A call that fails returns a pusher_result, and pusher_last_error() has a sentence about it.
 *     What goes wrong later is told to options.error_fn with code, the server's own code, the
 *     channel and a sentence that a person can act on. Nothing is printed.
 *
 * TLS
 *     With PUSHER_TLS every client speaks TLS unless options.tls.mode says otherwise, over whatever
 *     transport it has. mbedTLS 2.28 and 3.6 are tested, the rest of 3.x and 4.x written for by
 *     their documents; 2.28.10 and 3.6.3 are the first without known holes in how a client
 *     verifies. What is verified cannot be forgotten:
 *         version    TLS 1.2 at least
 *         trust      a chain up to an authority of options.tls.ca_file or .ca; if neither is given,
 *                    of the system's list (the usual files on POSIX, the ROOT store on Windows:
 *                    link -lcrypt32). No list is an error of pusher_create().
 *         host       the name must stand in the certificate, an address must stand in it as an
 *                    address. A wildcard is one whole label, and has two labels behind it.
 *         strength   no MD5, no SHA-1, RSA from 2048 bits on; dates; allowed for servers
 *     A server that fails is reported as PUSHER_ERR_TLS with the reason, gets nothing but our part
 *     of the handshake, and is tried again like any other. So is a stream that ends without TLS'
 *     goodbye: it may have been cut. Revocation is not looked up.
 *     Pinning and client certificates: make an mbedtls_ssl_config of your own and give it as
 *     options.tls.ssl_config. It is used as it is; a verify callback of yours may forgive what it
 *     likes, but an address as host works from mbedTLS 3.5 on only, and a result that is not clean
 *     is refused, as is every server with MBEDTLS_SSL_VERIFY_NONE.
 *     A device without a clock: mbedTLS compares dates with time(). At 1970 every certificate is
 *     "not valid before ..., by this machine's clock": set the clock first. Built without
 *     MBEDTLS_HAVE_TIME_DATE it does not look at dates, and expired certificates pass.
 *     Randomness is options.random's; keys of TLS 1.3, and all in mbedTLS 4, come from PSA's own.
 *     Time: one handshake step a poll, 15 to 17 polls in all; the dearest step takes 1 to 10 ms on
 *     a desktop. A reconnect resumes the session and costs less. mbedTLS can cut the steps smaller
 *     (MBEDTLS_ECP_RESTARTABLE and mbedtls_ecp_set_max_ops()).
 *     Memory: mbedTLS takes about 50 KiB a connection, and 3 KiB for each authority, from its own
 *     allocator (mbedtls_platform_set_calloc_free()), not from options.allocator. The system's list
 *     is some 140 authorities, half a MiB: a small device names the one it needs.
 *
 * WITHOUT PUSHER_SOCKETS
 *     Fill in options.transport (five functions: a non-blocking byte stream) and options.random,
 *     and give pusher_poll() your clock. The rest needs libc's string.h and stdlib.h, wslay's
 *     frame layer, jsmn and mbedTLS' crypto. examples/own_transport.c is a porting guide in code.
 *
 * MEMORY
 *     Taken at create, at subscribe and bind, for authorizations, for members of presence channels,
 *     for what waits in a queue, and when a message is larger than any before; an event in the
 *     steady state allocates nothing. All of it comes from options.allocator, but for a block of
 *     about 4 KiB a connection that wslay takes from malloc, what the ready-made sockets take from
 *     there (under 1 KiB a connection, and the look-up's), and TLS'. Every limit is an option.
 *
 * SWITCHES, to be defined before the implementation
 *     PUSHER_SOCKETS      ready-made transport, resolver thread, clock and randomness
 *                         (POSIX and Windows)
 *     PUSHER_TLS          TLS on mbedTLS over any transport (-lmbedtls -lmbedx509)
 *     PUSHER_STATIC       all functions static: the library is private to this one file
 *     PUSHER_ASSERT(x)    default assert(x); checks our own invariants, never network input
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
#define PUSHER_VERSION_MINOR 2
#define PUSHER_VERSION_PATCH 0
#define PUSHER_VERSION "0.2.0"

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
typedef struct pusher_ticket { uint32_t id, epoch; } pusher_ticket; /* one open authorization    */

/* Pseudo channels for pusher_bind() and pusher_unbind_where(): the events of all channels, those
   sent to the signed-in user, and "online" / "offline" of the users that this one watches. */
#define PUSHER_ALL (pusher_pseudo_channel(UINT32_MAX))
#define PUSHER_USER (pusher_pseudo_channel(UINT32_MAX - 1))
#define PUSHER_WATCHLIST (pusher_pseudo_channel(UINT32_MAX - 2))

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
    PUSHER_ERR_STALE,          /* the handle's channel, binding or ticket has gone              */
    PUSHER_ERR_NAME,           /* not a channel or event name the protocol allows               */
    PUSHER_ERR_NOT_CONNECTED,  /* nothing can be sent now                                       */
    PUSHER_ERR_NOT_SUBSCRIBED, /* no such channel, or the server has not confirmed it yet       */
    PUSHER_ERR_PUBLIC,         /* public channels take no client events                         */
    PUSHER_ERR_ENCRYPTED,      /* encrypted channels take no client events                      */
    PUSHER_ERR_UNSUPPORTED,    /* not in this version or build                                  */
    PUSHER_ERR_TOO_BIG,        /* over a limit: message, client event, members                  */
    PUSHER_ERR_RATE,           /* more client events a second than the server takes             */
    PUSHER_ERR_QUEUE_FULL,     /* the output is full: try again after the next poll             */
    PUSHER_ERR_AUTH,           /* no authorization: refused, unanswered, or an answer without   */
    PUSHER_ERR_DECRYPT,        /* an event that could not be decrypted                          */
    PUSHER_ERR_RANDOM,         /* the random source failed                                      */
    PUSHER_ERR_RESOLVE,        /* the host name has no address                                  */
    PUSHER_ERR_IO,             /* the connection could not be made, or was lost                 */
    PUSHER_ERR_TLS,            /* certificate or TLS refused, or nobody to trust: see message   */
    PUSHER_ERR_HTTP,           /* no 101 to the WebSocket upgrade, or no HTTP from the endpoint */
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
    PUSHER_REFUSED             /* refused or unanswered; tried again after a reconnect. One that was
                                  refused also when pusher_subscribe() is called once more; one
                                  that was not answered when it is given up and taken anew: its
                                  answer may still come                                         */
} pusher_subscription;

/* What a channel's name makes of it. An odd one is a cache channel; from PRIVATE on, a channel
   needs authorization. */
typedef enum pusher_kind {
    PUSHER_KIND_PUBLIC = 0,
    PUSHER_KIND_CACHE,           /* cache-                   */
    PUSHER_KIND_PRIVATE,         /* private-                 */
    PUSHER_KIND_PRIVATE_CACHE,   /* private-cache-           */
    PUSHER_KIND_PRESENCE,        /* presence-                */
    PUSHER_KIND_PRESENCE_CACHE,  /* presence-cache-          */
    PUSHER_KIND_ENCRYPTED,       /* private-encrypted-       */
    PUSHER_KIND_ENCRYPTED_CACHE  /* private-encrypted-cache- */
} pusher_kind;

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

/* Somebody in a presence channel. The pointers live until the next poll, or, inside a callback,
   until that returns; but never longer than the channel. UTF-8, NUL-terminated. */
typedef struct pusher_member {
    const char *id;           /* a number on the wire is given as its text                      */
    const char *info;         /* user_info as JSON text; "" when there is none                  */
    size_t info_len;          /* bytes                                                          */
} pusher_member;

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
    const pusher_member *member; /* pusher:member_added and _removed: who; else NULL            */
    bool from_cache;          /* the first event of a cache channel after subscribing, unless
                                 pusher:cache_miss came before it. No server marks it: an event
                                 published in that very moment looks the same                   */
    uint32_t outage_ms;       /* pusher:subscription_succeeded after a lost connection: for how
                                 long events may have been missed, jumps of the clock (a laptop
                                 slept) included, up to 49 days; else 0                         */
} pusher_event;

typedef void (*pusher_event_fn)(pusher_client *client, const pusher_event *event, void *user_data);

/* ---- hooks --------------------------------------------------------------------------------- */

/* What transport functions return besides a positive count. */
enum {
    PUSHER_IO_EOF = 0,            /* recv: the other side has closed                            */
    PUSHER_IO_WANT_READ = -1,     /* nothing now; again when readable                           */
    PUSHER_IO_WANT_WRITE = -2,    /* nothing now; again when writable                           */
    PUSHER_IO_ERROR = -3,         /* failed for good                                            */
    PUSHER_IO_ERROR_RESOLVE = -4, /* ready_fn: the host name has no address                     */
    PUSHER_IO_ERROR_TLS = -5      /* the other side is not who it should be, or broke TLS       */
};

/* A non-blocking byte stream. No function may block. Called from pusher_poll(), but for close_fn,
   which pusher_destroy() calls too (under TLS with a send_fn before it: the goodbye), and fd_fn.
   A client has one stream at a time, and with an authorization endpoint a second one to that. */
typedef struct pusher_transport {
    /* Start connecting to host (name or numeric address, no brackets) and port. NULL: failed.
       The host text lives as long as the stream. */
    void *(*open_fn)(const char *host, uint16_t port, void *user_data);
    int (*ready_fn)(void *stream);                       /* > 0: connected; else PUSHER_IO_...   */
    int (*recv_fn)(void *stream, void *buf, size_t len); /* > 0: bytes read; else PUSHER_IO_...  */
    /* > 0: bytes taken, may be fewer than len; else PUSHER_IO_WANT_... or _ERROR. After WANT the
       next call repeats buf and len. */
    int (*send_fn)(void *stream, const void *buf, size_t len);
    void (*close_fn)(void *stream);                      /* exactly once per stream opened       */
    /* Optional. Why the stream failed, for error messages, or NULL; valid until close_fn. */
    const char *(*error_fn)(void *stream);
    /* Optional. What an event loop waits on (a file descriptor), or -1 when there is none yet.
       Without it poll as often as you want to hear: nothing else says that bytes have come. */
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

/* ---- authorization ------------------------------------------------------------------------- */

typedef enum pusher_auth_kind {
    PUSHER_AUTH_CHANNEL = 0, /* may this client subscribe to the channel?                       */
    PUSHER_AUTH_USER         /* who is this client? (pusher_signin)                             */
} pusher_auth_kind;

typedef enum pusher_auth_reason {
    PUSHER_AUTH_FIRST = 0,   /* the channel is new                                              */
    PUSHER_AUTH_RECONNECT,   /* a new connection needs a new answer                             */
    PUSHER_AUTH_KEY_REFRESH, /* an event could not be decrypted: has the key changed?           */
    PUSHER_AUTH_RETRY        /* the answer before was "later", or there was none; or it was a
                                no, and pusher_subscribe() was called once more                 */
} pusher_auth_reason;

/* Valid during the callback, but for the ticket: that is answered then or many polls later. */
typedef struct pusher_auth_request {
    pusher_ticket ticket;
    pusher_auth_kind kind;
    pusher_auth_reason reason;
    uint32_t attempt;         /* from 1                                                         */
    const char *socket_id;
    const char *channel_name; /* "" for a user                                                  */
    pusher_channel channel;   /* none for a user                                                */
} pusher_auth_request;

/* Answer each with pusher_auth_accept() or _reject(), or all with pusher_auth_accept_batch().
   count is 1 unless auth.max_batch allows more. */
typedef void (*pusher_auth_fn)(pusher_client *client, const pusher_auth_request *requests,
                               uint32_t count, void *user_data);
/* Called before each request to the endpoint: add what it needs by pusher_auth_header() and
   pusher_auth_param(). */
typedef void (*pusher_auth_prepare_fn)(pusher_client *client, const pusher_auth_request *request,
                                       void *user_data);

typedef struct pusher_pair { const char *name, *value; } pusher_pair;

/* How channels other than public ones, and users, are authorized: by the first of request_fn,
   endpoint and secret that is given (users: user_fn, user_endpoint, request_fn, secret). Copied,
   strings included. Of all this only an endpoint's host and port can reach a log or an error
   text. */
typedef struct pusher_auth_options {
    pusher_auth_fn request_fn;       /* your own way; called in pusher_poll()                   */
    pusher_auth_fn user_fn;          /* the same for users only                                 */
    const char *endpoint;            /* http[s]://host[:port]/path: gets a POST like pusher-js',
                                        socket_id=...&channel_name=..., form-encoded            */
    const char *user_endpoint;       /* the same for users: socket_id=...                       */
    const pusher_pair *headers;      /* of each request: Authorization, for example; not those
                                        that make the request, as Host and Content-Type do      */
    const pusher_pair *params;       /* more form fields of each request                        */
    size_t header_count, param_count;
    pusher_auth_prepare_fn prepare_fn; /* headers and params that change, such as tokens        */
    const char *secret;              /* the app's secret: signs here. For development and for
                                        programs that are servers: it must not be shipped. It
                                        cannot authorize encrypted channels                     */
    const char *channel_data;        /* with secret: JSON of this user for presence channels,
                                        {"user_id":"1","user_info":{...}}                       */
    const char *signin_data;         /* with secret: JSON of this user for pusher_signin(),
                                        {"id":"1",...}                                          */
    uint32_t max_batch;              /* 1: requests in one call of request_fn; at most 65536    */
    uint32_t max_attempts;           /* 3: until "later", status 429 and 5xx, no route and no
                                        answer in time are taken for a no. The next question
                                        waits as after a lost connection, or as the endpoint's
                                        Retry-After says, up to reconnect_cap_ms                */
    uint32_t max_answer_bytes;       /* 16384: of the endpoint                                  */
    void *user_data;                 /* for the functions above                                 */
} pusher_auth_options;

/* ---- TLS ----------------------------------------------------------------------------------- */

typedef enum pusher_tls_mode {
    PUSHER_TLS_DEFAULT = 0, /* TLS where PUSHER_TLS is compiled in, else plain; then whom to trust
                               (ca_file, ca, ssl_config) is PUSHER_ERR_UNSUPPORTED              */
    PUSHER_TLS_OFF,
    PUSHER_TLS_ON,          /* PUSHER_ERR_UNSUPPORTED without PUSHER_TLS                        */
    PUSHER_TLS_WHEN_ASKED   /* plain, until the server closes with 4000, "TLS only": port 80 then
                                becomes 443. PUSHER_ERR_UNSUPPORTED as above                    */
} pusher_tls_mode;

/* See TLS above. All zero is safe, and enough where the system has a list of authorities. */
typedef struct pusher_tls_options {
    pusher_tls_mode mode;
    const char *ca_file;    /* whom to trust, instead of the system's list: a file in PEM       */
    const void *ca;         /* the same in memory: PEM, any number; or DER, one certificate     */
    size_t ca_len;          /* its bytes; 0: ca is text that ends with a NUL                    */
    const void *ssl_config; /* const mbedtls_ssl_config *, used as it is, instead of all else
                               here: pinning, client certificates. Must outlive the client      */
    bool insecure_accept_any_certificate; /* ANYBODY can be the server, and read and write all:
                                             for a test on the bench. Logged at each connection */
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
    const char *host;    /* own server: name or address, without ws:// or port; then cluster
                            does not count                                                      */
    uint32_t port;       /* default 443 with TLS, 80 without                                    */
    const char *path;    /* put in front of /app/KEY; starts with '/'                           */
    const char *origin;  /* sent as Origin header when given                                    */
    const pusher_pair *headers; /* more headers of the upgrade request, for a proxy or a gateway;
                            not those that make the request, as Host and Upgrade do             */
    size_t header_count;

    pusher_tls_options tls;
    pusher_auth_options auth;
    pusher_transport transport; /* default with PUSHER_SOCKETS: pusher_sockets_transport()      */
    pusher_random random;       /* default with PUSHER_SOCKETS: pusher_sockets_random()         */
    pusher_allocator allocator;
    pusher_logger logger;

    pusher_state_fn state_fn;
    pusher_error_fn error_fn;
    pusher_retry_fn retry_fn;
    void *user_data;                 /* for the three above                                     */

    uint32_t activity_timeout_ms;    /* 120000: ping after so long without traffic in either
                                        direction; the server's own value counts if shorter     */
    uint32_t pong_timeout_ms;        /* 30000: wait for its answer                              */
    uint32_t unavailable_timeout_ms; /* 10000: until "connecting" is called "unavailable"       */
    uint32_t connect_timeout_ms;     /* 15000: from look-up to connection_established           */
    uint32_t subscribe_timeout_ms;   /* 10000: for the answer to a subscription                 */
    uint32_t auth_timeout_ms;        /* 10000: for the answer to an authorization               */
    uint32_t signin_timeout_ms;      /* 10000: for the answer to a sign-in                      */
    uint32_t reconnect_base_ms;      /* 1000                                                    */
    uint32_t reconnect_cap_ms;       /* 30000; also how long a connection must last before the
                                        count of failures starts again                          */
    uint32_t max_attempts;           /* failures in a row before "failed"; default: no limit    */

    uint32_t max_message_bytes;      /* 65536: largest message taken; at least 512              */
    uint32_t max_output_bytes;       /* 12288: bytes waiting to be sent; at least 1024          */
    uint32_t max_poll_bytes;         /* 65536: read, and written, in one poll; at least 512     */
    uint32_t max_channels;           /* 1048576; at most 16777216                               */
    uint32_t max_members;            /* 10000: in one presence channel                          */
    uint32_t max_held_bytes;         /* 65536: encrypted events that wait for a new key, in one
                                        channel                                                 */
    uint32_t max_client_event_bytes; /* 10240: of a client event's data                         */
    uint32_t client_events_per_s;    /* 10: pusher.com's limit; at most 10000                   */
    uint32_t client_event_queue_bytes; /* 0: pusher_trigger() before the subscription is
                                        confirmed fails; else it waits, up to so many bytes,
                                        unless the channel is refused                           */
} pusher_options;

/* ---- a client's life ----------------------------------------------------------------------- */

/* A client in state initialized; nothing is sent yet. NULL on failure, and then *error, if error
   is not NULL, says why, with a constant message: PUSHER_ERR_ARGUMENT (bad options), _UNSUPPORTED,
   _TLS (nobody to trust), _RANDOM, _MEMORY. */
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

/* To another cluster, server or app: key, cluster, host, port, path, origin and headers of these
   options replace the client's, as pusher_create() would read them; the rest of them is not looked
   at. Channels, references and bindings stay. A client that is connected or about to be leaves at
   the next poll and connects there at once; any other with the next pusher_connect(). Nothing
   changes on failure: PUSHER_ERR_ARGUMENT (also another key where options.auth.secret was given),
   _MEMORY. */
PUSHER_DEF pusher_result pusher_switch(pusher_client *client, const pusher_options *options);

/* Do not wait for the retry timer: attempt now. For a program that knows the network is back.
   Nothing else is changed; while connected it checks that the connection is alive. */
PUSHER_DEF void pusher_reconnect_now(pusher_client *client);

/* All work happens here; see THE LOOP. Returns the number of events given to handlers. Called
   from a callback it does nothing and returns 0. */
PUSHER_DEF int pusher_poll(pusher_client *client, uint64_t now_ms);

/* The time, on the clock given to pusher_poll(), by which it must be called again even if the
   stream stays silent. UINT64_MAX: not before you ask for something. */
PUSHER_DEF uint64_t pusher_next_poll_ms(const pusher_client *client);

/* What the stream is waited for: bits. 0 while there is no stream, or none to wait on yet. */
enum { PUSHER_WANTS_READ = 1, PUSHER_WANTS_WRITE = 2 };
PUSHER_DEF int pusher_wants(const pusher_client *client);

/* The stream's descriptor (transport.fd_fn) for epoll and its like, or -1 when there is none: then
   only the time of the next poll counts (a transport without fd_fn: and your own rhythm). Ask all
   three again after each poll, and after calls that ask for something (subscribe, trigger, accept):
   they may make the next poll due at once. With the ready-made sockets a poll that ends with -1
   lies between two connections, even if both get the same number; on Windows it is a SOCKET. The
   endpoint's stream has no descriptor here: while it is awaited the next poll is due soon, 2 ms at
   first and up to 102 ms when it takes long. */
PUSHER_DEF intptr_t pusher_fd(const pusher_client *client);

PUSHER_DEF pusher_state pusher_get_state(const pusher_client *client);

/* This connection's socket id while connected, else NULL. Lives until the next poll, or, inside a
   callback, until that returns. */
PUSHER_DEF const char *pusher_socket_id(const pusher_client *client);

/* About the last call on this client that failed; code PUSHER_OK if none has. Never NULL. */
PUSHER_DEF const pusher_error *pusher_last_error(const pusher_client *client);

/* ---- channels ------------------------------------------------------------------------------ */

/* One more reference to the channel; the first one subscribes. Names: 1 to 200 characters of
   A-Z a-z 0-9 _ - = @ , . ; : # and no # in front (the server's own channels).
   None on failure: PUSHER_ERR_NAME, _AUTH (options.auth has no way to authorize it), _UNSUPPORTED
   (an encrypted channel, and mbedTLS without Poly1305), _MEMORY, _ARGUMENT. */
PUSHER_DEF pusher_channel pusher_subscribe(pusher_client *client, const char *channel_name);

/* The same, with more members for the subscription's data: a JSON object such as
   {"filter":{...}} or {"rewind":10} (tag filters, rewind, delta of Sockudo-like servers). Copied,
   and sent with each subscription from the next one on; it must not hold channel, auth or
   channel_data. Also: PUSHER_ERR_PARSE (no JSON object, or one of these in it), _TOO_BIG (over
   1024 bytes, or with what else is sent over max_output_bytes). */
PUSHER_DEF pusher_channel pusher_subscribe_with(pusher_client *client, const char *channel_name,
                                                const char *fields_json);

/* One reference fewer; with the last one the subscription ends, its bindings go, and the handle
   becomes stale. PUSHER_ERR_STALE: it was so already; harmless. */
PUSHER_DEF pusher_result pusher_unsubscribe(pusher_client *client, pusher_channel channel);

/* The channel of this name if somebody has a reference to it, else none. Takes no reference. */
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

/* By the longest prefix; see pusher_kind. */
PUSHER_DEF pusher_kind pusher_channel_kind(const char *channel_name);

/* ---- presence ------------------------------------------------------------------------------ */

/* The members of a presence channel, this client among them; 0 on any other channel. While the
   connection is lost they stay as they were; afterwards the difference is told as
   pusher:member_removed and pusher:member_added behind pusher:subscription_succeeded. */
PUSHER_DEF uint32_t pusher_member_count(const pusher_client *client, pusher_channel channel);

/* index counts from 0; the order holds until somebody leaves. False: there is no such member, and
   *member is all NULL. */
PUSHER_DEF bool pusher_member_at(const pusher_client *client, pusher_channel channel,
                                 uint32_t index, pusher_member *member);
PUSHER_DEF bool pusher_member_find(const pusher_client *client, pusher_channel channel,
                                   const char *user_id, pusher_member *member);
/* This client's own. */
PUSHER_DEF bool pusher_member_me(const pusher_client *client, pusher_channel channel,
                                 pusher_member *member);

/* ---- client events, sign-in ---------------------------------------------------------------- */

/* Sends an event to the channel's other subscribers, through the server. The name begins with
   "client-" and has at most 200 bytes of UTF-8: no quote, backslash or control character. json is
   one JSON value of len bytes. Nothing is sent on failure: PUSHER_ERR_ARGUMENT, _STALE, _NAME,
   _PUBLIC, _ENCRYPTED, _TOO_BIG, _PARSE, _NOT_CONNECTED, _NOT_SUBSCRIBED, _RATE, _QUEUE_FULL,
   _MEMORY. */
PUSHER_DEF pusher_result pusher_trigger(pusher_client *client, pusher_channel channel,
                                        const char *event_name, const char *json, size_t len);

/* Signs the user in on this connection and on each that follows. The outcome is told to the
   handlers of PUSHER_USER and PUSHER_ALL: pusher:signin_success, or pusher:signin_error (refused,
   or not answered within signin_timeout_ms). Called again it asks once more if that was a refusal;
   else it changes nothing. PUSHER_ERR_AUTH: options.auth has no way for users. */
PUSHER_DEF pusher_result pusher_signin(pusher_client *client);

/* The user's id while signed in, else NULL. Lives as long as that of the socket. */
PUSHER_DEF const char *pusher_user_id(const pusher_client *client);

/* ---- answering authorizations -------------------------------------------------------------- */

/* body: what the application's endpoint answers, as it is: {"auth":"key:signature"}, with
   "channel_data" for presence, "shared_secret" for encrypted channels, "user_data" for users.
   From anywhere on the client's thread, callbacks or not. PUSHER_ERR_STALE: the ticket is of an
   earlier connection, answered already or older than auth_timeout_ms, or its channel has gone:
   nothing happens. PUSHER_ERR_PARSE and _AUTH: not an answer; _TOO_BIG: it does not fit into
   max_output_bytes. These are refusals, which are told to the channel's handlers. PUSHER_ERR_MEMORY
   is "later". */
PUSHER_DEF pusher_result pusher_auth_accept(pusher_client *client, pusher_ticket ticket,
                                            const char *body, size_t len);

/* Answers the whole call of request_fn that had this ticket in it: an object with a member for
   each channel's name, whose value is a body as above, or {"status":200,"data":BODY}. Status 429
   and 5xx are "later"; any other but 200, and a name that is missing, are refusals. Channels
   answered before stay so. PUSHER_ERR_STALE as above; _PARSE: no JSON object, all are refused. */
PUSHER_DEF pusher_result pusher_auth_accept_batch(pusher_client *client, pusher_ticket ticket,
                                                  const char *body, size_t len);

/* status: the HTTP status or any number of yours above 0, told as server_code; 0: none. reason: for
   people, may be NULL. retry: ask again later, up to auth.max_attempts. PUSHER_ERR_STALE as
   above. */
PUSHER_DEF pusher_result pusher_auth_reject(pusher_client *client, pusher_ticket ticket,
                                            int status, const char *reason, bool retry);

/* In auth.prepare_fn only: one more header or form field of the request being made.
   PUSHER_ERR_ARGUMENT: called elsewhere, or the header would break the request. PUSHER_ERR_MEMORY:
   also over 64 KiB; the request is then not made, but tried again like one that was lost. */
PUSHER_DEF pusher_result pusher_auth_header(pusher_client *client, const char *name,
                                            const char *value);
PUSHER_DEF pusher_result pusher_auth_param(pusher_client *client, const char *name,
                                           const char *value);

/* ---- bindings ------------------------------------------------------------------------------ */

/* Call fn for each event of this name on the channel or pseudo channel. The same fn bound twice
   fires twice. The name is copied; any text of 1 to 200 bytes. None on failure:
   PUSHER_ERR_NOT_SUBSCRIBED (an empty handle), _STALE, _NAME, _ARGUMENT (fn is NULL), _MEMORY. */
PUSHER_DEF pusher_binding pusher_bind(pusher_client *client, pusher_channel channel,
                                      const char *event_name, pusher_event_fn fn, void *user_data);

/* The same for every event, whatever its name. */
PUSHER_DEF pusher_binding pusher_bind_all(pusher_client *client, pusher_channel channel,
                                          pusher_event_fn fn, void *user_data);

/* Never fires again, not even for the event being delivered. PUSHER_ERR_STALE: gone already. */
PUSHER_DEF pusher_result pusher_unbind(pusher_client *client, pusher_binding binding);

/* Unbinds every binding of the channel or pseudo channel that matches all that is given; NULL
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

/* A number: the nearest double with up to 19 digits and powers of ten up to 27, whole numbers up to
   2^53 exactly; else at most one unit of the last place away. What is too large is infinite, as
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
    uint64_t dropped_memory;      /* messages dropped because the allocator gave nothing        */
    uint64_t dropped_decrypt;     /* encrypted events that could not be decrypted               */
    uint64_t dropped_held;        /* encrypted events over max_held_bytes, or that waited for a
                                     key when the channel or the connection went                */
    uint64_t dropped_triggers;    /* queued client events whose channel went away               */
    uint64_t pings_received;      /* WebSocket pings                                            */
    uint32_t attempts;            /* connections tried                                          */
    uint32_t connections;         /* connections that reached "connected"                       */
    uint32_t reconnects;          /* those after the first                                      */
    uint32_t round_trip_ms;       /* of the last ping; 0 before the first                       */
    uint32_t auth_requests;       /* authorizations asked for                                   */
    uint32_t auth_failures;       /* refused, late or unusable                                  */
    uint32_t auth_stale;          /* answers to tickets that were stale                         */
    uint32_t auth_latency_ms;     /* from the last question to its answer                       */
} pusher_stats;

PUSHER_DEF void pusher_get_stats(const pusher_client *client, pusher_stats *stats);

/* ---- ready-made parts: need PUSHER_SOCKETS where PUSHER_IMPLEMENTATION is -------------------- */

#if defined(PUSHER_SOCKETS) || !defined(PUSHER_STATIC)
/* TCP over IPv4 and IPv6. Names are looked up on a short-lived thread of its own. Of several
   addresses the next one is tried beside the first when that has not answered within 250 ms. */
PUSHER_DEF pusher_transport pusher_sockets_transport(void);
/* The operating system's random source. */
PUSHER_DEF pusher_random pusher_sockets_random(void);
/* A monotonic clock for pusher_poll() that goes on while the machine sleeps. In a clock of your own
   on Linux, CLOCK_BOOTTIME does; CLOCK_MONOTONIC does not, and a suspend is then not noticed. */
PUSHER_DEF uint64_t pusher_sockets_now_ms(void);
/* Sleep until the client has something to do, but at most max_ms; pusher_poll() must be given
   pusher_sockets_now_ms(). For programs whose loop has nothing better to do; a game does not need
   it. */
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
#if defined(MBEDTLS_POLY1305_C) && defined(TF_PSA_CRYPTO_VERSION_MAJOR) /* mbedTLS 4 */
#if !defined(MBEDTLS_DECLARE_PRIVATE_IDENTIFIERS)
#define MBEDTLS_DECLARE_PRIVATE_IDENTIFIERS
#endif
#include <mbedtls/private/poly1305.h>
#elif defined(MBEDTLS_POLY1305_C)
#include <mbedtls/poly1305.h>
#endif
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

/* Sixteen bytes at once, where that is known to be right; everywhere else two words of eight. */
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if defined(__SSE2__)
#include <emmintrin.h>
#define PSH_SSE2 1
#endif
#endif

/* Starts to fetch what will be read soon. */
#if defined(__GNUC__)
#define PSH_PREFETCH(address) __builtin_prefetch(address)
#else
#define PSH_PREFETCH(address) ((void)(address))
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

/* For secrets: a compiler may leave a memset out when nobody reads the memory again. */
static void psh_env_wipe(void *memory, size_t len)
{
    PUSHER_ASSERT(memory || len == 0);
    volatile unsigned char *at = (volatile unsigned char *)memory;
    for (size_t i = 0; i < len; i++) at[i] = 0;
}

static void psh_env_free_secret(const struct psh_env *env, char *text)
{
    PUSHER_ASSERT(env);
    if (text) psh_env_wipe(text, strlen(text));
    psh_env_free(env, text);
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
    bool secret; /* memory is wiped before it is given back */
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
    if (buf->secret) psh_env_wipe(buf->data, buf->cap);
    psh_env_free(env, buf->data);
    buf->data = data;
    buf->cap = cap;
    return true;
}

static void psh_env_release(const struct psh_env *env, struct psh_buf *buf)
{
    PUSHER_ASSERT(buf && buf->len <= buf->cap);
    if (buf->secret) psh_env_wipe(buf->data, buf->cap);
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
        bool above = i > from && (unsigned char)text->at[i - 1] == 0xC2 && (byte & 0xE0) == 0x80;
        if (above) text->at[i - 1] = '?'; /* U+0080 to U+009F */
        if (above || byte < 0x20 || byte == 0x7F) text->at[i] = '?';
    }
}

/* Items of one size in pages: their addresses never change, and a page is never moved or copied.
   A generation is odd while its item is in use, and grows with each change of hands; the item rests
   before it could wrap. */
enum { PSH_PAGE = 8 };

struct psh_slot { /* first member of every item */
    uint32_t generation;
    uint32_t spare; /* free: index + 1 of the next free item; in use: the owner's */
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
        pool->free_first = ((struct psh_slot *)psh_env_pool_at(pool, *index))->spare;
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
    if (slot->generation++ > UINT32_MAX / 2) return; /* its handles stay stale for ever */
    slot->spare = pool->free_first;
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
/* Hashes, base64, UTF-8 and secret boxes. The only room that calls mbedTLS' crypto. */

enum { PSH_SHA1_BYTES = 20, PSH_SHA256_BYTES = 32, PSH_SHA256_HEX = 65, PSH_SHA256_BLOCK = 64 };

static bool psh_codec_sha1(const void *bytes, size_t len, unsigned char digest[PSH_SHA1_BYTES])
{
    PUSHER_ASSERT(bytes && digest);
    const mbedtls_md_info_t *sha1 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA1);
    return sha1 && mbedtls_md(sha1, (const unsigned char *)bytes, len, digest) == 0;
}

/* A text to sign need not stand in one place. */
struct psh_codec_piece {
    const char *at;
    size_t len;
};

static bool psh_codec_md(mbedtls_md_context_t *md, const unsigned char block[PSH_SHA256_BLOCK],
                         const struct psh_codec_piece *pieces, size_t count,
                         unsigned char digest[PSH_SHA256_BYTES])
{
    PUSHER_ASSERT(md && block && (pieces || count == 0));
    bool good = mbedtls_md_starts(md) == 0 && mbedtls_md_update(md, block, PSH_SHA256_BLOCK) == 0;
    for (size_t i = 0; good && i < count; i++)
        if (pieces[i].len > 0)
            good = mbedtls_md_update(md, (const unsigned char *)pieces[i].at, pieces[i].len) == 0;
    return good && mbedtls_md_finish(md, digest) == 0;
}

/* HMAC (RFC 2104) is two hashes. mbedTLS 4 has no call of its own for it without PSA. */
static bool psh_codec_hmac(mbedtls_md_context_t *md, const mbedtls_md_info_t *sha256,
                           const char *secret, const struct psh_codec_piece *pieces, size_t count,
                           unsigned char digest[PSH_SHA256_BYTES])
{
    unsigned char block[PSH_SHA256_BLOCK] = {0};
    size_t len = strlen(secret);
    bool good = mbedtls_md_setup(md, sha256, 0) == 0;
    if (len <= sizeof block) memcpy(block, secret, len);
    else good = good && mbedtls_md(sha256, (const unsigned char *)secret, len, block) == 0;
    for (size_t i = 0; i < sizeof block; i++) block[i] ^= 0x36;
    good = good && psh_codec_md(md, block, pieces, count, digest);
    for (size_t i = 0; i < sizeof block; i++) block[i] ^= 0x36 ^ 0x5C;
    struct psh_codec_piece inner = {(const char *)digest, PSH_SHA256_BYTES};
    good = good && psh_codec_md(md, block, &inner, 1, digest);
    psh_env_wipe(block, sizeof block);
    return good;
}

/* HMAC-SHA256 of the pieces joined, in lower-case hex. */
static bool psh_codec_hmac_hex(const char *secret, const struct psh_codec_piece *pieces,
                               size_t count, char hex[PSH_SHA256_HEX])
{
    PUSHER_ASSERT(secret && (pieces || count == 0) && hex);
    static const char digits[] = "0123456789abcdef";
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    unsigned char digest[PSH_SHA256_BYTES];
    mbedtls_md_context_t md;
    hex[0] = '\0';
    if (!sha256) return false;
    mbedtls_md_init(&md);
    bool good = psh_codec_hmac(&md, sha256, secret, pieces, count, digest);
    mbedtls_md_free(&md);
    if (!good) return false;
    for (size_t i = 0; i < sizeof digest; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * sizeof digest] = '\0';
    return true;
}

/* out is terminated; cap must be at least 4 * ceil(len / 3) + 1. */
static bool psh_codec_base64(const unsigned char *bytes, size_t len, char *out, size_t cap)
{
    PUSHER_ASSERT(cap > (len + 2) / 3 * 4);
    size_t written = 0;
    out[0] = '\0'; /* of nothing it writes nothing */
    return mbedtls_base64_encode((unsigned char *)out, cap, &written, bytes, len) == 0;
}

/* All ones when low <= c <= high, else 0. */
static uint32_t psh_codec_between(uint32_t c, uint32_t low, uint32_t high)
{
    PUSHER_ASSERT(c <= 255 && low <= high);
    return 0 - (((low - 1 - c) & (c - high - 1)) >> 31);
}

/* The value of a base64 digit plus 1, or 0. No branch and no table: it may be part of a key. */
static uint32_t psh_codec_digit64(char digit)
{
    uint32_t c = (unsigned char)digit;
    return (psh_codec_between(c, 'A', 'Z') & (c - 'A' + 1)) |
           (psh_codec_between(c, 'a', 'z') & (c - 'a' + 27)) |
           (psh_codec_between(c, '0', '9') & (c - '0' + 53)) |
           (psh_codec_between(c, '+', '+') & 63) | (psh_codec_between(c, '/', '/') & 64);
}

/* Strict: padded, nothing but the alphabet, no bits left over. out may be the text itself; what
   it holds after a refusal is not to be used. mbedTLS' own would take line ends. */
static bool psh_codec_unbase64(char *text, size_t len, unsigned char *out, size_t cap,
                               size_t *out_len)
{
    PUSHER_ASSERT((text || len == 0) && (out || cap == 0) && out_len);
    *out_len = 0;
    if (len % 4 != 0) return false;
    size_t pads = len > 0 && text[len - 1] == '=' ? (text[len - 2] == '=' ? 2 : 1) : 0;
    size_t need = len / 4 * 3 - pads, made = 0;
    if (need > cap) return false;
    for (size_t i = 0; i < len; i += 4) {
        size_t digits = i + 4 == len ? 4 - pads : 4;
        uint32_t word = 0;
        for (size_t j = 0; j < 4; j++) {
            uint32_t digit = j < digits ? psh_codec_digit64(text[i + j]) : 1;
            if (digit == 0) return false;
            word = word << 6 | (digit - 1);
        }
        if (digits < 4 && (word & (digits == 2 ? 0xFFFF : 0xFF))) return false;
        for (size_t j = 0; j + 1 < digits; j++) out[made++] = (unsigned char)(word >> (16 - 8 * j));
    }
    PUSHER_ASSERT(made == need);
    *out_len = made;
    return true;
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
        while (state->need == 0 && len - i >= 32) { /* plain ASCII, in blocks */
            uint64_t words[4];
            memcpy(words, at + i, 32);
            if ((words[0] | words[1] | words[2] | words[3]) & UINT64_C(0x8080808080808080)) break;
            i += 32;
        }
        while (state->need == 0 && len - i >= 8) {
            uint64_t word;
            memcpy(&word, at + i, 8);
            if (word & UINT64_C(0x8080808080808080)) break;
            i += 8;
        }
        if (state->need == 0 && len - i < 8 && len >= 8) { /* the last eight, some of them again */
            uint64_t word;
            memcpy(&word, at + len - 8, 8);
            if (!(word & UINT64_C(0x8080808080808080))) return true;
        }
        if (i < len && !psh_codec_utf8_step(state, at[i++])) return false;
    }
    return true;
}

/* NaCl's secretbox (Bernstein): XSalsa20 and Poly1305, a tag in front of the ciphertext. */
enum { PSH_BOX_KEY = 32, PSH_BOX_NONCE = 24, PSH_BOX_TAG = 16, PSH_SALSA_BLOCK = 64 };

#if defined(MBEDTLS_POLY1305_C)
enum { PSH_BOX_OPENS = 1 }; /* 0 when mbedTLS was built without Poly1305 */

static uint32_t psh_codec_load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void psh_codec_store32(unsigned char *at, uint32_t word)
{
    at[0] = (unsigned char)word;
    at[1] = (unsigned char)(word >> 8);
    at[2] = (unsigned char)(word >> 16);
    at[3] = (unsigned char)(word >> 24);
}

/* All that is secret while a box is opened, so that one wipe takes it away. */
struct psh_codec_salsa {
    uint32_t input[16], words[16];
    unsigned char block[PSH_SALSA_BLOCK];
};

#define PSH_ROTATE32(x, n) ((x) << (n) | (x) >> (32 - (n)))

#define PSH_SALSA_QUARTER(a, b, c, d)                                                              \
    do {                                                                                           \
        uint32_t sum = (a) + (d);                                                                  \
        (b) ^= PSH_ROTATE32(sum, 7), sum = (b) + (a);                                              \
        (c) ^= PSH_ROTATE32(sum, 9), sum = (c) + (b);                                              \
        (d) ^= PSH_ROTATE32(sum, 13), sum = (d) + (c);                                             \
        (a) ^= PSH_ROTATE32(sum, 18);                                                              \
    } while (0)

/* The twenty rounds: ten times columns, then rows. */
static void psh_codec_salsa_rounds(struct psh_codec_salsa *salsa)
{
    uint32_t *x = salsa->words;
    memcpy(x, salsa->input, sizeof salsa->words);
    for (int i = 0; i < 10; i++) {
        PSH_SALSA_QUARTER(x[0], x[4], x[8], x[12]);
        PSH_SALSA_QUARTER(x[5], x[9], x[13], x[1]);
        PSH_SALSA_QUARTER(x[10], x[14], x[2], x[6]);
        PSH_SALSA_QUARTER(x[15], x[3], x[7], x[11]);
        PSH_SALSA_QUARTER(x[0], x[1], x[2], x[3]);
        PSH_SALSA_QUARTER(x[5], x[6], x[7], x[4]);
        PSH_SALSA_QUARTER(x[10], x[11], x[8], x[9]);
        PSH_SALSA_QUARTER(x[15], x[12], x[13], x[14]);
    }
}

/* The next 64 bytes of the stream. */
static void psh_codec_salsa_next(struct psh_codec_salsa *salsa)
{
    psh_codec_salsa_rounds(salsa);
    for (size_t i = 0; i < 16; i++)
        psh_codec_store32(salsa->block + 4 * i, salsa->words[i] + salsa->input[i]);
    salsa->input[8]++; /* the block's number, 64 bits */
    if (salsa->input[8] == 0) salsa->input[9]++;
}

/* XSalsa20: HSalsa20 makes a key of the key and 16 bytes of the nonce; Salsa20 takes the rest. */
static void psh_codec_salsa_start(struct psh_codec_salsa *salsa, const unsigned char *key,
                                  const unsigned char *nonce)
{
    PUSHER_ASSERT(salsa && key && nonce);
    uint32_t *in = salsa->input, *x = salsa->words;
    in[0] = UINT32_C(0x61707865); /* "expand 32-byte k" */
    in[5] = UINT32_C(0x3320646E);
    in[10] = UINT32_C(0x79622D32);
    in[15] = UINT32_C(0x6B206574);
    for (size_t i = 0; i < 4; i++) {
        in[1 + i] = psh_codec_load32(key + 4 * i);
        in[6 + i] = psh_codec_load32(nonce + 4 * i);
        in[11 + i] = psh_codec_load32(key + 16 + 4 * i);
    }
    psh_codec_salsa_rounds(salsa);
    for (size_t i = 0; i < 4; i++) {
        in[1 + i] = x[5 * i];
        in[11 + i] = x[6 + i];
    }
    in[6] = psh_codec_load32(nonce + 16);
    in[7] = psh_codec_load32(nonce + 20);
    in[8] = in[9] = 0;
    psh_codec_salsa_next(salsa);
}

/* The first 32 bytes of the stream are Poly1305's key, the message goes on behind them. */
static void psh_codec_salsa_apply(struct psh_codec_salsa *salsa, unsigned char *at, size_t len)
{
    PUSHER_ASSERT(salsa && (at || len == 0));
    size_t from = 32;
    while (len > 0) {
        size_t step = PSH_SALSA_BLOCK - from < len ? PSH_SALSA_BLOCK - from : len;
        for (size_t i = 0; i < step; i++) at[i] ^= salsa->block[from + i];
        at += step;
        len -= step;
        from = 0;
        if (len > 0) psh_codec_salsa_next(salsa);
    }
}

/* Takes the same time wherever they differ. */
static bool psh_codec_same_tag(const unsigned char *a, const unsigned char *b)
{
    PUSHER_ASSERT(a && b);
    volatile unsigned char differ = 0;
    for (size_t i = 0; i < PSH_BOX_TAG; i++) differ = (unsigned char)(differ | (a[i] ^ b[i]));
    return differ == 0;
}

/* Opens the box where it is: the plain text then stands behind the tag, len - PSH_BOX_TAG bytes.
   Nothing is changed when it was not sealed with this key and nonce. */
static bool psh_codec_box_open(const unsigned char key[PSH_BOX_KEY],
                               const unsigned char nonce[PSH_BOX_NONCE], unsigned char *box,
                               size_t len)
{
    PUSHER_ASSERT(key && nonce && (box || len == 0));
    if (len < PSH_BOX_TAG) return false;
    unsigned char tag[PSH_BOX_TAG], *text = box + PSH_BOX_TAG;
    struct psh_codec_salsa salsa;
    psh_codec_salsa_start(&salsa, key, nonce);
    bool good = mbedtls_poly1305_mac(salsa.block, text, len - PSH_BOX_TAG, tag) == 0 &&
                psh_codec_same_tag(tag, box);
    if (good) psh_codec_salsa_apply(&salsa, text, len - PSH_BOX_TAG);
    psh_env_wipe(&salsa, sizeof salsa);
    psh_env_wipe(tag, sizeof tag);
    return good;
}
#else
enum { PSH_BOX_OPENS = 0 };

static bool psh_codec_box_open(const unsigned char key[PSH_BOX_KEY],
                               const unsigned char nonce[PSH_BOX_NONCE], unsigned char *box,
                               size_t len)
{
    PUSHER_ASSERT(key && nonce && (box || len == 0));
    (void)key, (void)nonce, (void)box, (void)len;
    return false;
}
#endif

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

#if !defined(PSH_SSE2)
/* The top bit of each byte that is zero. */
static uint64_t psh_json_zeros(uint64_t word)
{
    return ~(((word & PSH_EACH(0x7F)) + PSH_EACH(0x7F)) | word | PSH_EACH(0x7F));
}

static uint32_t psh_json_special8(const char *at)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) word |= (uint64_t)(unsigned char)at[i] << (8 * i);
    uint64_t special = psh_json_zeros(word ^ PSH_EACH('"')) |
                       psh_json_zeros(word ^ PSH_EACH('\\')) |
                       psh_json_zeros(word & PSH_EACH(0xE0));
    return (uint32_t)((special >> 7) * UINT64_C(0x0102040810204080) >> 56); /* one bit a byte */
}
#endif

/* A bit for each of the sixteen bytes at `at` that is a quote, a backslash or a control character;
   the lowest one is the first byte's. */
static uint32_t psh_json_special16(const char *at)
{
#if defined(PSH_SSE2)
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    const __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    const __m128i slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    const __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    const __m128i special = _mm_or_si128(_mm_or_si128(quotes, slashes), controls);
    return (uint32_t)_mm_movemask_epi8(special);
#else
    return psh_json_special8(at) | psh_json_special8(at + 8) << 8;
#endif
}

static size_t psh_json_lowest(uint32_t bits)
{
    PUSHER_ASSERT(bits);
#if defined(__GNUC__)
    return (size_t)__builtin_ctz(bits);
#else
    size_t lowest = 0;
    while (!(bits >> lowest & 1)) lowest++;
    return lowest;
#endif
}

/* Copies what is plain, and what is escaped with nothing but a backslash in front of it, as nearly
   all escapes are. Stops at everything else, and shortly before the end. A block is looked at once,
   however many escapes are in it. Never writes more than it has read, and what it writes too much
   is written over. */
static const char *psh_json_blocks(const char *at, const char *end, char **out_at)
{
    char *out = *out_at;
    PUSHER_ASSERT(at <= end);
    while (end - at >= 32) {
        uint32_t special = psh_json_special16(at);
        size_t from = 0;
        while (special) {
            size_t next = psh_json_lowest(special);
            char escaped = at[next + 1];
            memcpy(out, at + from, 16);
            out += next - from;
            if (at[next] != '\\' || (escaped != '"' && escaped != '\\' && escaped != '/')) {
                *out_at = out;
                return at + next;
            }
            *out++ = escaped;
            from = next + 2;
            special &= ~(UINT32_C(3) << next);
        }
        if (from < 16) {
            memcpy(out, at + from, 16);
            out += 16 - from;
            from = 16;
        }
        at += from;
    }
    *out_at = out;
    return at;
}

/* Copies the string behind the opening quote to out, escapes undone, and terminates it. Returns
   the place behind the closing quote, or NULL when this is no JSON string. out needs room for the
   bytes read, and for one more. The text must be valid UTF-8. */
static const char *psh_json_string(const char *at, const char *end, char *out, size_t *out_len)
{
    PUSHER_ASSERT(at && at <= end && out);
    char *first = out;
    for (;;) {
        at = psh_json_blocks(at, end, &out);
        while (end - at >= 8 && end - at < 32) {
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
            *out++ = *at++;
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

/* The member of this quoted key; NULL: another, or written with escapes. */
static struct psh_value *psh_json_member(struct psh_envelope *envelope, const char *key, size_t len)
{
    PUSHER_ASSERT(envelope && key);
    if (len >= 6 && memcmp(key, "\"data\"", 6) == 0) return &envelope->data;
    if (len >= 7 && memcmp(key, "\"event\"", 7) == 0) return &envelope->event;
    if (len >= 9 && memcmp(key, "\"channel\"", 9) == 0) return &envelope->channel;
    if (len >= 9 && memcmp(key, "\"user_id\"", 9) == 0) return &envelope->user_id;
    return NULL;
}

/* Behind the key whose opening quote is at `at`; *value: where its value goes, or NULL. */
static const char *psh_json_key(const char *at, const char *end, char *out,
                                struct psh_envelope *envelope, struct psh_value **value)
{
    size_t len = 0;
    *value = psh_json_member(envelope, at, (size_t)(end - at));
    if (*value)
        return at + (*value == &envelope->data ? 6 : *value == &envelope->event ? 7 : 9);
    at = psh_json_string(at + 1, end, out + 1, &len);
    if (!at) return NULL;
    out[0] = out[len + 1] = '"';
    bool quote = memchr(out + 1, '"', len) != NULL; /* "data\"" only begins like "data" */
    *value = quote ? NULL : psh_json_member(envelope, out, len + 2);
    return at;
}

/* One `"key": value`; at stands on the opening quote. */
static const char *psh_json_pair(const char *at, const char *end, char **out,
                                 struct psh_envelope *envelope)
{
    struct psh_value unknown, *value;
    if (at == end || *at != '"') return NULL;
    at = psh_json_key(at, end, *out, envelope, &value);
    if (!at) return NULL;
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

/* A guess at the name of a message's channel, for those that begin with event and channel or end
   with channel, as most do. Nothing is checked. NULL: no idea. */
static const char *psh_json_guess_channel(const char *text, size_t len, size_t *name_len)
{
    static const char event[] = "{\"event\":\"", channel[] = "\",\"channel\":\"";
    const size_t event_len = sizeof event - 1, channel_len = sizeof channel - 1;
    PUSHER_ASSERT(text && name_len);
    if (len < event_len + channel_len + 2 || memcmp(text, event, event_len) != 0) return NULL;
    const char *end = text + len - 2;
    const char *at = (const char *)memchr(text + event_len, '"', len - event_len - channel_len);
    if (!at || memcmp(at, channel, channel_len) != 0) {
        for (at = end; at > text && at[-1] != '"'; at--) continue;
        if ((size_t)(at - text) < channel_len ||
            memcmp(at - channel_len + 1, channel + 1, channel_len - 1) != 0)
            return NULL;
        *name_len = (size_t)(end - at);
        return at;
    }
    at += channel_len;
    const char *quote = (const char *)memchr(at, '"', (size_t)(text + len - at));
    *name_len = quote ? (size_t)(quote - at) : 0;
    return quote ? at : NULL;
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
static uint32_t psh_json_uint(const struct psh_value *value, uint32_t fallback)
{
    uint64_t number = 0;
    size_t i = 0;
    if (value->len == 0 || !psh_json_digit((unsigned char)value->at[0])) return fallback;
    for (; i < value->len && psh_json_digit((unsigned char)value->at[i]); i++) {
        number = number * 10 + (uint64_t)(value->at[i] - '0');
        if (number > UINT32_MAX) return fallback;
    }
    if (i < value->len && value->at[i] == '.') i++;
    while (i < value->len && psh_json_digit((unsigned char)value->at[i])) i++;
    return i == value->len ? (uint32_t)number : fallback;
}

static uint32_t psh_json_get_uint(const struct psh_json_object *object, const char *key,
                                  uint32_t fallback)
{
    PUSHER_ASSERT(key);
    struct psh_value value = psh_json_get(object, key);
    return psh_json_uint(&value, fallback);
}

/* The inside of a JSON string; at most six times as long. */
static void psh_json_escaped(struct psh_text *text, const char *bytes, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    PUSHER_ASSERT(bytes || len == 0);
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        char escape[] = "\\u0000";
        if (byte < 0x20) {
            escape[4] = hex[byte >> 4];
            escape[5] = hex[byte & 15];
            psh_env_add(text, escape);
            continue;
        }
        if (byte == '"' || byte == '\\') psh_env_add(text, "\\");
        psh_env_add_bytes(text, bytes + i, 1);
    }
}

/* The whole JSON string. */
static void psh_json_quote(struct psh_text *text, const char *bytes, size_t len)
{
    PUSHER_ASSERT(text);
    psh_env_add(text, "\"");
    psh_json_escaped(text, bytes, len);
    psh_env_add(text, "\"");
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

/* mantissa * 2^exponent; the mantissa's top bit is set. Eleven bits finer than a double; its last
   bit is also set if there would be others behind it, so that rounding knows what it must. */
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
    product.mantissa |= low > 0;
    PUSHER_ASSERT(product.mantissa >> 63);
    return product;
}

/* a / b, a bit at a time. */
static struct psh_json_binary psh_json_over(struct psh_json_binary a, struct psh_json_binary b)
{
    bool first = a.mantissa >= b.mantissa, carry;
    uint64_t rest = first ? a.mantissa - b.mantissa : a.mantissa;
    struct psh_json_binary quotient = {first, a.exponent - b.exponent};
    for (; !(quotient.mantissa >> 63); quotient.exponent--) {
        carry = rest >> 63;
        rest <<= 1;
        quotient.mantissa <<= 1;
        if (!carry && rest < b.mantissa) continue;
        rest -= b.mantissa;
        quotient.mantissa |= 1;
    }
    quotient.mantissa |= rest > 0;
    return quotient;
}

/* The nearest double, by steps that are exact: no libm, and no layout of doubles is assumed. */
static double psh_json_round(struct psh_json_binary from)
{
    PUSHER_ASSERT(from.mantissa >> 63);
    int drop = from.exponent + 63 < -1022 ? 11 - 1022 - 63 - from.exponent : 11; /* subnormal */
    if (drop > 64) return 0;
    uint64_t kept = drop < 64 ? from.mantissa >> drop : 0;
    uint64_t rest = drop < 64 ? from.mantissa << (64 - drop) : from.mantissa;
    if (rest > UINT64_C(1) << 63 || (rest == UINT64_C(1) << 63 && (kept & 1))) kept++;
    double value = (double)kept;
    int exponent = from.exponent + drop;
    for (; exponent >= 32; exponent -= 32) value *= 4294967296.0;
    for (; exponent <= -32; exponent += 32) value /= 4294967296.0;
    if (exponent < 0) return value / (double)(UINT64_C(1) << -exponent);
    return value * (double)(UINT64_C(1) << exponent);
}

/* digits * 10^exponent. Powers of ten up to 10^27 are exact in 64 bits, so the result is the
   nearest double; those up to 10^512 are off by less than a twentieth of a double's last place. */
static double psh_json_power(uint64_t digits, int exponent)
{
    PUSHER_ASSERT(digits > 0 && exponent >= -512 && exponent <= 512);
    struct psh_json_binary value = {digits, 0}, square = {UINT64_C(0xA000000000000000), -60};
    struct psh_json_binary power = {UINT64_C(1) << 63, -63};
    for (; !(value.mantissa >> 63); value.exponent--) value.mantissa <<= 1;
    for (int left = exponent < 0 ? -exponent : exponent; left > 0; left >>= 1) {
        if (left & 1) power = psh_json_times(power, square);
        square = psh_json_times(square, square);
    }
    value = exponent < 0 ? psh_json_over(value, power) : psh_json_times(value, power);
    return psh_json_round(value);
}

static double psh_json_to_double(const char *at, size_t len)
{
    struct psh_json_decimal decimal = psh_json_decimal_of(at, len);
    int places = decimal.exponent > 512    ? 512
                 : decimal.exponent < -512 ? -512
                                           : (int)decimal.exponent;
    double value = decimal.digits > 0 ? psh_json_power(decimal.digits, places) : 0;
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
    unsigned char state, mark, kind, flags; /* the owner's */
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

/* For names that will be looked up soon, in two steps: starts to fetch the name's bucket; */
static uint32_t psh_table_warm(const struct psh_table *table, const char *name, size_t len)
{
    PUSHER_ASSERT(table->buckets);
    uint32_t hash = psh_table_hash(table, name, len);
    PSH_PREFETCH(&table->buckets[hash & table->mask]);
    return hash;
}

/* and its entry, or that of another name with this hash. NULL: there is none. */
static struct psh_entry *psh_table_warm_entry(const struct psh_table *table, uint32_t hash)
{
    PUSHER_ASSERT(table->count <= table->mask);
    uint32_t i = hash & table->mask;
    while (table->buckets[i].id && table->buckets[i].hash != hash) i = (i + 1) & table->mask;
    if (!table->buckets[i].id) return NULL;
    struct psh_entry *entry = psh_table_at(table, table->buckets[i].id - 1);
    PSH_PREFETCH(entry);
    PSH_PREFETCH((char *)entry + table->pool.item_size - 1);
    return entry;
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
    uint16_t name_len;
    bool dead;
    struct psh_handlers *owner;
    char *name;         /* NULL: every event */
    pusher_event_fn fn;
    void *user_data;
    uint64_t born;      /* the round in which it was made: it waits for the next one */
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
    PUSHER_ASSERT(owner && fn && name_len <= UINT16_MAX);
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
    binding->name_len = (uint16_t)name_len;
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

/* For handlers that will hear an event soon, in two steps: starts to fetch the first binding; */
static const struct psh_binding *psh_bind_warm(const struct psh_bind *bind,
                                               const struct psh_handlers *handlers)
{
    uint32_t id = handlers->all.first ? handlers->all.first : handlers->named.first;
    if (!id) return NULL;
    const struct psh_binding *binding = psh_bind_at(bind, id);
    PSH_PREFETCH(binding);
    PSH_PREFETCH(&binding->born);
    return binding;
}

/* and its name. */
static void psh_bind_warm_name(const struct psh_binding *binding)
{
    PUSHER_ASSERT(binding);
    if (binding->name) PSH_PREFETCH(binding->name);
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

enum { PSH_MEMBER_MAX_ID = 512 }; /* bytes: pusher.com allows 128 characters */

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
    size_t unit = sizeof(void *) + sizeof *members->buckets;
    if (size > SIZE_MAX / unit) return false;
    struct psh_member **items =
        (struct psh_member **)psh_env_alloc(members->env,
                                            cap * sizeof(void *) + size * sizeof size);
    if (!items) return false;
    if (members->count) memcpy(items, members->items, members->count * sizeof(void *));
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
    members->items[index] = member;
    psh_env_free(members->env, old);
    return PSH_MEMBER_CHANGED;
}

/* Adds a member, or changes the info of a known one; with info NULL a known one keeps what it
   has. */
static enum psh_member_result psh_member_put(struct psh_members *members, const char *id,
                                             size_t id_len, const char *info, size_t info_len)
{
    PUSHER_ASSERT((id || id_len == 0) && (info || info_len == 0));
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
/* HTTP/1.1 (RFC 9112), bytes in and bytes out: writes requests; reads heads byte by byte, a header
   at a time, and whole answers. */

#define PSH_HTTP_MAX_HEAD 8192

enum psh_http_result { PSH_HTTP_MORE = 0, PSH_HTTP_STATUS, PSH_HTTP_HEADER, PSH_HTTP_END,
                       PSH_HTTP_BAD };

struct psh_http {
    size_t total;
    size_t line_len;
    bool cr, any;          /* the last byte was CR; the status line has been read */
    bool cut;              /* the line, or the one just read, did not fit */
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
        http->cr = false;
        return result;
    }
    if (http->line_len == 0) http->cut = false;
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

/* -- where to -- */

enum { PSH_HTTP_MAX_URL = 2048, PSH_HTTP_MAX_HOST = 253, PSH_HTTP_MAX_IPV6 = 45 };

struct psh_url {
    bool tls;
    uint16_t port;
    char *host;      /* as a look-up takes it: no brackets */
    char *authority; /* for the header Host: the port only if it is not the scheme's own */
    char *target;    /* path and query */
};

static void psh_http_url_free(const struct psh_env *env, struct psh_url *url)
{
    PUSHER_ASSERT(env && url);
    psh_env_free(env, url->host);
    psh_env_free(env, url->authority);
    psh_env_free_secret(env, url->target); /* a query may hold a token */
    memset(url, 0, sizeof *url);
}

static bool psh_http_alnum(char c)
{
    return (c >= '0' && c <= '9') || (psh_http_lower(c) >= 'a' && psh_http_lower(c) <= 'z');
}

/* How many bytes at the beginning of text may stand in a host's name, or in an address. */
static size_t psh_http_host_span(const char *text, bool address)
{
    size_t len = 0;
    if (address) return strspn(text, "0123456789abcdefABCDEF:.");
    while (psh_http_alnum(text[len]) || (text[len] && strchr("-._", text[len]))) len++;
    return len;
}

/* text is what stands behind the host: empty, or ":" and what should be a port. */
static bool psh_http_url_port(const char *text, size_t len, uint16_t *port)
{
    PUSHER_ASSERT(port && (len == 0 || *text == ':'));
    uint32_t value = 0;
    if (len == 0) return true;
    for (size_t i = 1; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
        if (value > UINT16_MAX) return false;
    }
    *port = (uint16_t)value;
    return value > 0;
}

/* What is wrong with the text as a whole, or NULL; *rest stands behind "://". */
static const char *psh_http_url_scheme(const char *text, bool *tls, const char **rest)
{
    PUSHER_ASSERT(text && tls && rest);
    char scheme[9];
    size_t len = 0;
    while (len < sizeof scheme - 1 && text[len]) {
        scheme[len] = psh_http_lower(text[len]);
        len++;
    }
    scheme[len] = '\0';
    *tls = strncmp(scheme, "https://", 8) == 0;
    if (!*tls && strncmp(scheme, "http://", 7) != 0)
        return "an endpoint's URL must begin with http:// or https://";
    *rest = text + (*tls ? 8 : 7);
    for (size_t whole = 0; text[whole]; whole++) {
        if (whole == PSH_HTTP_MAX_URL) return "an endpoint's URL is over 2048 bytes";
        if (text[whole] <= ' ' || text[whole] > '~')
            return "an endpoint's URL has a space, or a character to be written as %XX";
    }
    if (strchr(text, '#')) return "an endpoint's URL has a fragment, which no server would see";
    return NULL;
}

static bool psh_http_url_copy(const struct psh_env *env, struct psh_url *url, const char *host,
                              size_t len, const char *target)
{
    char place[PSH_HTTP_MAX_HOST + 16];
    struct psh_text text;
    bool address = memchr(host, ':', len) != NULL;
    psh_env_text(&text, place, sizeof place);
    if (address) psh_env_add(&text, "[");
    psh_env_add_bytes(&text, host, len);
    if (address) psh_env_add(&text, "]");
    if (url->port != (url->tls ? 443 : 80)) {
        psh_env_add(&text, ":");
        psh_env_add_uint(&text, url->port);
    }
    PUSHER_ASSERT(!text.cut);
    url->host = psh_env_copy(env, host, len);
    url->authority = psh_env_copy(env, place, text.len);
    len = strlen(target);
    url->target = (char *)psh_env_alloc(env, len + 2);
    if (url->target) {
        url->target[0] = '/';
        memcpy(url->target + 1, target + (*target == '/'), len + 1 - (*target == '/'));
    }
    return url->host && url->authority && url->target;
}

/* Takes http://host[:port][/path][?query] apart. NULL, or what is wrong; *memory is set when there
   was not enough of it. Either way url may be freed, and holds nothing unless all went well. */
static const char *psh_http_url(const struct psh_env *env, const char *text, struct psh_url *url,
                                bool *memory)
{
    PUSHER_ASSERT(env && text && url && memory);
    const char *host = NULL;
    memset(url, 0, sizeof *url);
    const char *wrong = psh_http_url_scheme(text, &url->tls, &host);
    if (wrong) return wrong;
    bool address = *host == '[';
    const char *target = host + strcspn(host, "/?");
    if (memchr(host, '@', (size_t)(target - host)))
        return "an endpoint's URL has a user in it: send options.auth.headers instead";
    host += address;
    size_t len = psh_http_host_span(host, address);
    const char *end = host + len + address;
    if (address && (host[len] != ']' || len > PSH_HTTP_MAX_IPV6 || !memchr(host, ':', len)))
        return "an endpoint's URL has a wrong IPv6 address";
    if (len == 0 || len > PSH_HTTP_MAX_HOST || (end != target && *end != ':'))
        return "an endpoint's URL has no host, or one with characters it must not have";
    url->port = url->tls ? 443 : 80;
    if (!psh_http_url_port(end, (size_t)(target - end), &url->port))
        return "an endpoint's URL has a wrong port: 1 to 65535";
    if (psh_http_url_copy(env, url, host, len, target)) return NULL;
    psh_http_url_free(env, url);
    *memory = true;
    return NULL;
}

/* -- what is sent -- */

/* All of it, or nothing. */
static bool psh_http_add(const struct psh_env *env, struct psh_buf *buf, const char *text,
                         size_t len)
{
    PUSHER_ASSERT(text || len == 0);
    if (!psh_env_reserve(env, buf, len)) return false;
    if (len > 0) memcpy(buf->data + buf->len, text, len);
    buf->len += len;
    return true;
}

/* What encodeURIComponent() leaves as it is. */
static bool psh_http_plain(char c)
{
    return psh_http_alnum(c) || (c && strchr("-_.!~*'()", c));
}

/* The size of the text when escaped; any number over most when it is over most. */
static size_t psh_http_escaped(const char *text, size_t len, size_t most)
{
    PUSHER_ASSERT((text || len == 0) && most <= SIZE_MAX - 3);
    size_t size = 0;
    for (size_t i = 0; i < len && size <= most; i++) size += psh_http_plain(text[i]) ? 1u : 3u;
    return size;
}

static void psh_http_escape(struct psh_buf *buf, const char *text, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        PUSHER_ASSERT(buf->len < buf->cap);
        if (psh_http_plain(text[i])) {
            buf->data[buf->len++] = byte;
        } else {
            PUSHER_ASSERT(buf->cap - buf->len >= 3);
            buf->data[buf->len++] = '%';
            buf->data[buf->len++] = (unsigned char)digits[byte >> 4];
            buf->data[buf->len++] = (unsigned char)digits[byte & 15];
        }
    }
}

/* "name=value", with a "&" before it if it is not the first. All of it, or nothing. */
static bool psh_http_form(const struct psh_env *env, struct psh_buf *buf, const char *name,
                          const char *value, size_t value_len)
{
    PUSHER_ASSERT(name && buf->max <= SIZE_MAX / 4);
    size_t name_len = strlen(name);
    size_t size = psh_http_escaped(name, name_len, buf->max) + 2;
    size += psh_http_escaped(value, value_len, buf->max);
    if (buf->len == 0) size--;
    if (!psh_env_reserve(env, buf, size)) return false;
    if (buf->len > 0) buf->data[buf->len++] = '&';
    psh_http_escape(buf, name, name_len);
    buf->data[buf->len++] = '=';
    psh_http_escape(buf, value, value_len);
    return true;
}

/* RFC 9110, 5.6.2. */
static bool psh_http_token(const char *text)
{
    PUSHER_ASSERT(text);
    size_t len = 0;
    while (psh_http_alnum(text[len]) || (text[len] && strchr("!#$%&'*+-.^_`|~", text[len]))) len++;
    return len > 0 && text[len] == '\0';
}

/* Headers that say how the message is framed or what becomes of the connection, and those that
   would bring an answer we cannot read: they are ours. */
static bool psh_http_ours(const char *name)
{
    static const char *const names[] = {
        "host", "content-length", "content-type", "content-encoding", "transfer-encoding",
        "connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "expect",
        "accept-encoding", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol",
        "sec-websocket-extensions"};
    PUSHER_ASSERT(name);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (psh_http_same(name, names[i])) return true;
    return false;
}

/* May the user send this header? What is in it cannot end the line. */
static bool psh_http_field_ok(const char *name, const char *value)
{
    PUSHER_ASSERT(name && value);
    if (!psh_http_token(name) || psh_http_ours(name)) return false;
    for (; *value; value++) {
        unsigned char byte = (unsigned char)*value;
        if ((byte < 0x20 && byte != '\t') || byte == 0x7F) return false;
    }
    return true;
}

/* A header line of the user's. False, and nothing added: not a header that may be sent, or no
   memory. */
static bool psh_http_field(const struct psh_env *env, struct psh_buf *buf, const char *name,
                           const char *value)
{
    PUSHER_ASSERT(name && value);
    size_t name_len = strlen(name), from = buf->len;
    value += strspn(value, " \t");
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) len--;
    if (!psh_http_field_ok(name, value)) return false;
    if (psh_http_add(env, buf, name, name_len) && psh_http_add(env, buf, ": ", 2) &&
        psh_http_add(env, buf, value, len) && psh_http_add(env, buf, "\r\n", 2))
        return true;
    buf->len = from;
    return false;
}

/* The whole request behind what is in out. fields: lines of psh_http_field(). */
static bool psh_http_post(const struct psh_env *env, struct psh_buf *out, const struct psh_url *url,
                          const struct psh_buf *fields, const struct psh_buf *body)
{
    static const char fixed[] = "\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                                "Accept: application/json\r\n"
                                "Connection: keep-alive\r\n"
                                "Content-Length: ";
    char number[21];
    struct psh_text digits;
    size_t from = out->len;
    PUSHER_ASSERT(url->authority && url->target && url->target[0] == '/');
    psh_env_text(&digits, number, sizeof number);
    psh_env_add_uint(&digits, body->len);
    if (psh_http_add(env, out, "POST ", 5) &&
        psh_http_add(env, out, url->target, strlen(url->target)) &&
        psh_http_add(env, out, " HTTP/1.1\r\nHost: ", 17) &&
        psh_http_add(env, out, url->authority, strlen(url->authority)) &&
        psh_http_add(env, out, fixed, sizeof fixed - 1) &&
        psh_http_add(env, out, number, digits.len) && psh_http_add(env, out, "\r\n", 2) &&
        psh_http_add(env, out, (const char *)fields->data, fields->len) &&
        psh_http_add(env, out, "\r\n", 2) &&
        psh_http_add(env, out, (const char *)body->data, body->len))
        return true;
    out->len = from;
    return false;
}

/* -- the answer -- */

enum psh_reply_result { PSH_REPLY_MORE = 0, PSH_REPLY_DONE, PSH_REPLY_BAD, PSH_REPLY_BIG,
                        PSH_REPLY_MEMORY };

enum psh_reply_at {
    PSH_AT_HEAD = 0,
    PSH_AT_BODY,      /* of left bytes */
    PSH_AT_STREAM,    /* a body that ends with the stream */
    PSH_AT_SIZE,      /* of a chunk */
    PSH_AT_PAD,       /* blanks behind it */
    PSH_AT_EXTENSION,
    PSH_AT_CHUNK,     /* of left bytes */
    PSH_AT_CHUNK_END, /* the end of line behind it */
    PSH_AT_TRAILER,
    PSH_AT_END
};

enum { PSH_REPLY_DIGITS = 16 }; /* of a chunk's size, leading zeros included */

/* One answer (RFC 9112) to a POST. */
struct psh_reply {
    struct psh_http head;          /* head.status */
    enum psh_reply_at at;
    size_t declared, left, digits; /* Content-Length; of the body or chunk; of a chunk's size */
    bool old, sized, chunked, close, alive; /* what the head has said; old: HTTP/1.0 */
    bool cr;                       /* the last byte of a chunk's line was CR */
    bool keep;                     /* when done: may the stream be used again? */
    uint32_t retry_after_s;        /* 0: not said, or not in seconds */
    const char *wrong;             /* when bad: what the server has sent */
    struct psh_buf body;           /* terminated if it is not empty; its max is one more */
};

/* The body of an answer before this one must have been released. */
static void psh_http_reply_init(struct psh_reply *reply, size_t max_body)
{
    PUSHER_ASSERT(max_body < SIZE_MAX - 16);
    memset(reply, 0, sizeof *reply);
    psh_http_init(&reply->head);
    reply->body.max = max_body + 1;
    reply->body.secret = true;
}

static enum psh_reply_result psh_http_reply_bad(struct psh_reply *reply, const char *wrong)
{
    PUSHER_ASSERT(wrong && reply->at != PSH_AT_END);
    reply->wrong = wrong;
    reply->at = PSH_AT_END;
    return PSH_REPLY_BAD;
}

static enum psh_reply_result psh_http_reply_big(struct psh_reply *reply)
{
    PUSHER_ASSERT(reply->at != PSH_AT_END);
    reply->at = PSH_AT_END;
    return PSH_REPLY_BIG;
}

static enum psh_reply_result psh_http_reply_done(struct psh_reply *reply)
{
    PUSHER_ASSERT(reply->at != PSH_AT_END);
    reply->at = PSH_AT_END;
    return PSH_REPLY_DONE;
}

/* How many bytes the body may still take. */
static size_t psh_http_reply_room(const struct psh_reply *reply)
{
    PUSHER_ASSERT(reply->body.len < reply->body.max);
    return reply->body.max - 1 - reply->body.len;
}

/* Decimal digits and nothing else; a number over most is most. */
static bool psh_http_number(const char *text, size_t most, size_t *number)
{
    PUSHER_ASSERT(text && number);
    size_t value = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9') return false;
        size_t digit = (size_t)(*at - '0');
        value = value > (most - digit) / 10 ? most : value * 10 + digit;
    }
    *number = value;
    return *text != '\0';
}

static enum psh_reply_result psh_http_reply_length(struct psh_reply *reply)
{
    size_t length = 0;
    if (reply->head.cut || !psh_http_number(reply->head.value, SIZE_MAX, &length))
        return psh_http_reply_bad(reply, "a Content-Length that is no number");
    if (reply->sized && reply->declared != length)
        return psh_http_reply_bad(reply, "two different values of Content-Length");
    reply->declared = length;
    reply->sized = true;
    return PSH_REPLY_MORE;
}

static enum psh_reply_result psh_http_reply_header(struct psh_reply *reply)
{
    const char *name = reply->head.line, *value = reply->head.value;
    bool cut = reply->head.cut;
    size_t seconds = 0;
    PUSHER_ASSERT(name && value);
    if (!psh_http_token(name)) return psh_http_reply_bad(reply, "a header with a wrong name");
    if (psh_http_same(name, "content-length")) return psh_http_reply_length(reply);
    if (psh_http_same(name, "transfer-encoding")) {
        if (cut || reply->chunked || !psh_http_same(value, "chunked"))
            return psh_http_reply_bad(reply, "a Transfer-Encoding other than chunked");
        reply->chunked = true;
    }
    if (psh_http_same(name, "content-encoding") && (cut || !psh_http_same(value, "identity")))
        return psh_http_reply_bad(reply, "a Content-Encoding that was not asked for");
    if (psh_http_same(name, "connection")) {
        if (cut || psh_http_lists(value, "close")) reply->close = true;
        if (psh_http_lists(value, "keep-alive")) reply->alive = true;
    }
    if (psh_http_same(name, "retry-after") && !cut &&
        psh_http_number(value, UINT32_MAX, &seconds))
        reply->retry_after_s = (uint32_t)seconds;
    return PSH_REPLY_MORE;
}

/* Forgets what the head of an interim answer has said. */
static enum psh_reply_result psh_http_reply_status(struct psh_reply *reply)
{
    char minor = reply->head.line[7];
    PUSHER_ASSERT(reply->at == PSH_AT_HEAD);
    if (minor < '0' || minor > '9')
        return psh_http_reply_bad(reply, "something that is not HTTP/1.1");
    if (reply->head.status == 101)
        return psh_http_reply_bad(reply, "a change of protocol that was not asked for");
    reply->old = minor == '0';
    reply->sized = reply->chunked = reply->close = reply->alive = false;
    reply->declared = reply->retry_after_s = 0;
    return PSH_REPLY_MORE;
}

/* The head is read: how long is the body (RFC 9112, 6.3)? */
static enum psh_reply_result psh_http_reply_begin(struct psh_reply *reply)
{
    int status = reply->head.status;
    PUSHER_ASSERT(reply->at == PSH_AT_HEAD && status >= 100);
    if (status < 200) { /* an interim answer; all of them together are one head at most */
        size_t total = reply->head.total;
        psh_http_init(&reply->head);
        reply->head.total = total;
        return PSH_REPLY_MORE;
    }
    if (reply->sized && reply->chunked)
        return psh_http_reply_bad(reply, "both Content-Length and Transfer-Encoding");
    reply->keep = !reply->close && (reply->alive || !reply->old);
    if (reply->old && reply->chunked) reply->keep = false; /* 1.0 has no chunks (6.1) */
    if (status == 204 || status == 304) { /* if a body comes all the same, it is not read */
        if (reply->chunked || reply->declared > 0) reply->keep = false;
        return psh_http_reply_done(reply);
    }
    if (reply->declared > psh_http_reply_room(reply)) return psh_http_reply_big(reply);
    if (reply->sized && reply->declared == 0) return psh_http_reply_done(reply);
    reply->left = reply->declared;
    reply->at = reply->chunked ? PSH_AT_SIZE : reply->sized ? PSH_AT_BODY : PSH_AT_STREAM;
    if (reply->at == PSH_AT_STREAM) reply->keep = false;
    return PSH_REPLY_MORE;
}

/* A byte of the head, or of the trailer, which says nothing to us. */
static enum psh_reply_result psh_http_reply_head(struct psh_reply *reply, unsigned char byte)
{
    bool trailer = reply->at == PSH_AT_TRAILER;
    PUSHER_ASSERT(trailer || reply->at == PSH_AT_HEAD);
    switch (psh_http_step(&reply->head, byte)) {
    case PSH_HTTP_STATUS: return psh_http_reply_status(reply);
    case PSH_HTTP_HEADER: return trailer ? PSH_REPLY_MORE : psh_http_reply_header(reply);
    case PSH_HTTP_END: return trailer ? psh_http_reply_done(reply) : psh_http_reply_begin(reply);
    case PSH_HTTP_BAD:
        if (reply->head.total > PSH_HTTP_MAX_HEAD)
            return psh_http_reply_bad(reply, "headers of more than 8192 bytes");
        return psh_http_reply_bad(reply, "something that is not HTTP/1.1");
    default: return PSH_REPLY_MORE;
    }
}

/* -1: no digit. */
static int psh_http_hex(unsigned char byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

static enum psh_reply_result psh_http_reply_digit(struct psh_reply *reply, size_t digit)
{
    size_t room = psh_http_reply_room(reply);
    PUSHER_ASSERT(digit < 16 && reply->left <= room);
    if (++reply->digits > PSH_REPLY_DIGITS)
        return psh_http_reply_bad(reply, "a chunk with a wrong size");
    if (reply->left > room >> 4) return psh_http_reply_big(reply);
    reply->left = reply->left << 4 | digit;
    return reply->left > room ? psh_http_reply_big(reply) : PSH_REPLY_MORE;
}

/* Behind the size: blanks, and an extension that is of no interest. */
static enum psh_reply_result psh_http_reply_extra(struct psh_reply *reply, unsigned char byte)
{
    bool blank = byte == ' ' || byte == '\t';
    PUSHER_ASSERT(reply->at >= PSH_AT_SIZE && reply->at <= PSH_AT_EXTENSION);
    if (++reply->head.total > PSH_HTTP_MAX_HEAD)
        return psh_http_reply_bad(reply, "headers of more than 8192 bytes");
    if (reply->at == PSH_AT_EXTENSION && (blank || byte > ' ') && byte != 0x7F)
        return PSH_REPLY_MORE;
    if (reply->at == PSH_AT_EXTENSION || (!blank && byte != ';'))
        return psh_http_reply_bad(reply, "a chunk with a wrong size");
    reply->at = blank ? PSH_AT_PAD : PSH_AT_EXTENSION;
    return PSH_REPLY_MORE;
}

/* A byte of the line with a chunk's size. Unlike a header's, this line must end with CR and LF:
   with less, a chunk that is shorter than it said could look whole. */
static enum psh_reply_result psh_http_reply_size(struct psh_reply *reply, unsigned char byte)
{
    int digit = reply->at == PSH_AT_SIZE ? psh_http_hex(byte) : -1;
    PUSHER_ASSERT(reply->chunked);
    if (reply->cr != (byte == '\n') || (digit < 0 && reply->digits == 0))
        return psh_http_reply_bad(reply, "a chunk with a wrong size");
    if (digit >= 0) return psh_http_reply_digit(reply, (size_t)digit);
    if (byte == '\r') {
        reply->cr = true;
        return PSH_REPLY_MORE;
    }
    if (byte != '\n') return psh_http_reply_extra(reply, byte);
    reply->cr = false;
    reply->digits = 0;
    reply->at = reply->left > 0 ? PSH_AT_CHUNK : PSH_AT_TRAILER;
    return PSH_REPLY_MORE;
}

static enum psh_reply_result psh_http_reply_chunk_end(struct psh_reply *reply, unsigned char byte)
{
    PUSHER_ASSERT(reply->left == 0 && reply->at == PSH_AT_CHUNK_END);
    if (byte != (reply->cr ? '\n' : '\r'))
        return psh_http_reply_bad(reply, "a chunk of another length than it said");
    reply->cr = !reply->cr;
    if (!reply->cr) reply->at = PSH_AT_SIZE;
    return PSH_REPLY_MORE;
}

/* Some bytes of the body, all at once. */
static enum psh_reply_result psh_http_reply_block(struct psh_reply *reply,
                                                  const struct psh_env *env,
                                                  const unsigned char *bytes, size_t len)
{
    struct psh_buf *body = &reply->body;
    PUSHER_ASSERT(len > 0);
    if (len > psh_http_reply_room(reply)) return psh_http_reply_big(reply);
    if (!psh_env_reserve(env, body, len + 1)) {
        reply->at = PSH_AT_END;
        return PSH_REPLY_MEMORY;
    }
    memcpy(body->data + body->len, bytes, len);
    body->len += len;
    body->data[body->len] = '\0';
    if (reply->at == PSH_AT_STREAM) return PSH_REPLY_MORE;
    PUSHER_ASSERT(len <= reply->left);
    reply->left -= len;
    if (reply->left > 0) return PSH_REPLY_MORE;
    if (reply->at == PSH_AT_BODY) return psh_http_reply_done(reply);
    reply->at = PSH_AT_CHUNK_END;
    return PSH_REPLY_MORE;
}

/* The next bytes of the stream. Anything but MORE ends it. DONE: the answer is in head.status and
   body, and what stands behind it is not used. */
static enum psh_reply_result psh_http_reply(struct psh_reply *reply, const struct psh_env *env,
                                            const unsigned char *bytes, size_t len, size_t *used)
{
    enum psh_reply_result result = PSH_REPLY_MORE;
    size_t at = 0;
    PUSHER_ASSERT(reply->at != PSH_AT_END && (bytes || len == 0));
    while (at < len && result == PSH_REPLY_MORE) {
        size_t take = 1;
        switch (reply->at) {
        case PSH_AT_HEAD:
        case PSH_AT_TRAILER: result = psh_http_reply_head(reply, bytes[at]); break;
        case PSH_AT_SIZE:
        case PSH_AT_PAD:
        case PSH_AT_EXTENSION: result = psh_http_reply_size(reply, bytes[at]); break;
        case PSH_AT_CHUNK_END: result = psh_http_reply_chunk_end(reply, bytes[at]); break;
        default:
            take = len - at;
            if (reply->at != PSH_AT_STREAM && take > reply->left) take = reply->left;
            result = psh_http_reply_block(reply, env, bytes + at, take);
        }
        at += take;
    }
    *used = at;
    return result;
}

/* The stream has ended: only an answer without a length may end so. */
static enum psh_reply_result psh_http_reply_eof(struct psh_reply *reply)
{
    PUSHER_ASSERT(reply->at != PSH_AT_END);
    if (reply->at == PSH_AT_STREAM) return psh_http_reply_done(reply);
    return psh_http_reply_bad(reply, reply->head.total == 0 ? "nothing at all"
                                                            : "an answer that ends in the middle");
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
    if (ws->out) psh_env_wipe(ws->out, ws->out_len);
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
    ws->message = ws->control_len = ws->pong_len = 0;
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

/* Will a text of this length fit into the output when that is empty? */
static bool psh_ws_fits(const struct psh_ws *ws, size_t len)
{
    PUSHER_ASSERT(ws->out_cap > (size_t)PSH_WS_RESERVE + (size_t)PSH_WS_FRAME_HEAD);
    return len <= ws->out_cap - (size_t)PSH_WS_RESERVE - (size_t)PSH_WS_FRAME_HEAD;
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
    if (ws->out_at < ws->out_len) return;
    if (!ws->accept_seen) psh_env_wipe(ws->out, ws->out_len); /* the user's headers */
    ws->out_at = ws->out_len = 0;
}

static void psh_ws_blocked(struct psh_ws *ws, size_t len)
{
    PUSHER_ASSERT(len <= ws->out_len - ws->out_at);
    ws->retry = len;
}

/* The request, staged as it is; fields: more header lines. False: it does not fit, or there is no
   randomness. */
static bool psh_ws_send_upgrade(struct psh_ws *ws, const char *path, const char *host,
                                const char *fields)
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
    psh_env_add(&text, fields);
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
    if (psh_http_same(name, "upgrade") && psh_http_lists(value, "websocket"))
        ws->upgrade_seen = true;
    if (psh_http_same(name, "connection") && psh_http_lists(value, "upgrade"))
        ws->connection_seen = true; /* a list may come in several lines */
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

/* A look ahead over what is not framed yet: the next text message that lies in one frame, for all
   that can be seen without checks. *at begins as 0. NULL: the end, or something else. */
static const char *psh_ws_ahead(const struct psh_ws *ws, size_t *at, size_t *len)
{
    PUSHER_ASSERT(ws->in_at <= ws->in.len);
    size_t have = ws->in.len - ws->in_at, from = *at;
    if (from == 0) { /* the rest of the present frame */
        if (ws->left >= have) return NULL;
        from = (size_t)ws->left;
    }
    if (have - from < 4) return NULL;
    const unsigned char *head = ws->in.data + ws->in_at + from;
    if (head[0] != (0x80 | WSLAY_TEXT_FRAME) || head[1] > 126) return NULL;
    size_t head_len = head[1] < 126 ? 2 : 4;
    *len = head[1] < 126 ? head[1] : (size_t)(head[2] << 8 | head[3]);
    if (*len > have - from - head_len) return NULL;
    *at = from + head_len + *len;
    return (const char *)head + head_len;
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
    PSH_KIND_JOINED,
    PSH_KIND_LEFT,
    PSH_KIND_MISS,
    PSH_KIND_SIGNED_IN,
    PSH_KIND_WATCHLIST,
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
        if (psh_proto_is(name, outer_len, "cache_miss")) return PSH_KIND_MISS;
        if (psh_proto_is(name, outer_len, "signin_success")) return PSH_KIND_SIGNED_IN;
        return PSH_KIND_EVENT;
    }
    if (name->len < inner_len || memcmp(name->at, inner, inner_len) != 0) return PSH_KIND_EVENT;
    if (psh_proto_is(name, inner_len, "subscription_succeeded")) return PSH_KIND_SUBSCRIBED;
    if (psh_proto_is(name, inner_len, "subscription_error")) return PSH_KIND_REFUSED;
    if (psh_proto_is(name, inner_len, "subscription_count")) return PSH_KIND_COUNT;
    if (psh_proto_is(name, inner_len, "member_added")) return PSH_KIND_JOINED;
    if (psh_proto_is(name, inner_len, "member_removed")) return PSH_KIND_LEFT;
    if (psh_proto_is(name, inner_len, "watchlist_events")) return PSH_KIND_WATCHLIST;
    return PSH_KIND_INTERNAL;
}

/* The name under which the event is given to handlers: pusher-js' where that differs. */
static const char *psh_proto_public_name(enum psh_kind kind, const char *name)
{
    switch (kind) {
    case PSH_KIND_SUBSCRIBED: return "pusher:subscription_succeeded";
    case PSH_KIND_REFUSED: return "pusher:subscription_error";
    case PSH_KIND_COUNT: return "pusher:subscription_count";
    case PSH_KIND_JOINED: return "pusher:member_added";
    case PSH_KIND_LEFT: return "pusher:member_removed";
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

/* The last member of this name in a JSON object; false: no JSON object, or no such member. */
static bool psh_proto_pick(const char *text, size_t len, const char *name, struct psh_value *value)
{
    struct psh_json_walk walk;
    PUSHER_ASSERT(text && name);
    memset(value, 0, sizeof *value);
    if (!psh_json_valid(text, len) || !psh_json_enter(&walk, text, len) || !walk.object)
        return false;
    *value = psh_json_pick(walk, name);
    return value->raw_len > 0;
}

enum { PSH_USER_ID = 513 }; /* with the NUL */

/* An id, a string or a number, out of an object that is the inside of a JSON string: presence's
   channel_data, a user's user_data. False: there is none, or it is empty or too long; or there was
   not enough *memory. */
static bool psh_proto_id_in(const struct psh_env *env, const struct psh_value *string,
                            const char *name, char id[PSH_USER_ID], bool *memory)
{
    struct psh_value value;
    struct psh_text out;
    char *copy = psh_env_copy(env, string->at, string->len);
    size_t len = copy ? psh_json_unescape(copy, string->len) : 0;
    bool found = copy && psh_proto_pick(copy, len, name, &value) &&
                 (value.string || psh_json_digit((unsigned char)value.at[value.len - 1]));
    *memory = !copy;
    psh_env_text(&out, id, PSH_USER_ID);
    if (found) {
        char *text = copy + (value.at - copy);
        len = value.string ? psh_json_unescape(text, value.len) : value.len;
        psh_env_add_bytes(&out, text, len);
        found = len > 0 && !out.cut && strlen(id) == len;
    }
    psh_env_free(env, copy);
    return found;
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

/* By the longest prefix. */
static pusher_kind psh_proto_channel_kind(const char *name)
{
    static const struct {
        const char *prefix;
        pusher_kind kind;
    } kinds[] = {{"private-encrypted-cache-", PUSHER_KIND_ENCRYPTED_CACHE},
                 {"private-encrypted-", PUSHER_KIND_ENCRYPTED},
                 {"private-cache-", PUSHER_KIND_PRIVATE_CACHE},
                 {"private-", PUSHER_KIND_PRIVATE},
                 {"presence-cache-", PUSHER_KIND_PRESENCE_CACHE},
                 {"presence-", PUSHER_KIND_PRESENCE},
                 {"cache-", PUSHER_KIND_CACHE}};
    PUSHER_ASSERT(name);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(name, kinds[i].prefix, strlen(kinds[i].prefix)) == 0) return kinds[i].kind;
    return PUSHER_KIND_PUBLIC;
}

static bool psh_proto_is_cache(pusher_kind kind)
{
    return kind & 1;
}

static bool psh_proto_is_presence(pusher_kind kind)
{
    return kind == PUSHER_KIND_PRESENCE || kind == PUSHER_KIND_PRESENCE_CACHE;
}

static bool psh_proto_is_encrypted(pusher_kind kind)
{
    return kind >= PUSHER_KIND_ENCRYPTED;
}

/* NULL, or what is wrong. It is quoted nowhere: so it may have nothing that JSON would quote. */
static const char *psh_proto_bad_trigger(const char *event)
{
    size_t len = strlen(event);
    if (strncmp(event, "client-", 7) != 0) return "a client event's name must begin with client-";
    if (len > 200) return "a client event's name is longer than 200 bytes";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)event[i] < 0x20 || event[i] == '"' || event[i] == '\\')
            return "a client event's name has a quote, a backslash or a control character";
    return NULL;
}

/* data is always an object: one server dies of a string. proof and fields are JSON members, or
   NULL. */
static void psh_proto_subscribe(struct psh_text *text, const char *channel, const char *proof,
                                const char *fields)
{
    PUSHER_ASSERT(channel[0]);
    psh_env_add(text, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"");
    psh_env_add(text, channel);
    psh_env_add(text, proof ? "\"," : "\"");
    if (proof) psh_env_add(text, proof);
    if (fields) psh_env_add(text, ",");
    if (fields) psh_env_add(text, fields);
    psh_env_add(text, "}}");
}

/* The channel on which the server sends to a signed-in user. */
#define PSH_PROTO_USER "#server-to-user-"

static void psh_proto_subscribe_user(struct psh_text *text, const char *id)
{
    PUSHER_ASSERT(id && *id);
    psh_env_add(text, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"" PSH_PROTO_USER);
    psh_json_escaped(text, id, strlen(id));
    psh_env_add(text, "\"}}");
}

static void psh_proto_unsubscribe(struct psh_text *text, const char *channel)
{
    PUSHER_ASSERT(!psh_proto_bad_channel(channel));
    psh_env_add(text, "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"");
    psh_env_add(text, channel);
    psh_env_add(text, "\"}}");
}

static void psh_proto_signin(struct psh_text *text, const char *proof)
{
    PUSHER_ASSERT(proof && *proof);
    psh_env_add(text, "{\"event\":\"pusher:signin\",\"data\":{");
    psh_env_add(text, proof);
    psh_env_add(text, "}}");
}

static void psh_proto_trigger(struct psh_text *text, const char *channel, const char *event,
                              const char *json, size_t len)
{
    PUSHER_ASSERT(json && len > 0);
    psh_env_add(text, "{\"event\":\"");
    psh_env_add(text, event);
    psh_env_add(text, "\",\"channel\":\"");
    psh_env_add(text, channel);
    psh_env_add(text, "\",\"data\":");
    psh_env_add_bytes(text, json, len);
    psh_env_add(text, "}");
}

/* Enough for what stands around the variable parts of the messages above. */
enum { PSH_PROTO_FRAME = 80 };

/* The members of a subscription that are ours. */
static bool psh_proto_reserved(const struct psh_value *key)
{
    return psh_json_key_is(key, "channel") || psh_json_key_is(key, "auth") ||
           psh_json_key_is(key, "channel_data");
}

/* The inside of a JSON object that may be added to a subscription's data, or NULL and why not. */
static const char *psh_proto_fields(const char *json, size_t *len, const char **wrong)
{
    struct psh_json_walk walk;
    struct psh_value key, value;
    const char *end = json + strlen(json);
    *wrong = "the fields are not a JSON object";
    if (!psh_json_valid(json, strlen(json)) || !psh_json_enter(&walk, json, strlen(json)) ||
        !walk.object)
        return NULL;
    *wrong = "the fields must not hold channel, auth or channel_data";
    while (psh_json_next(&walk, &key, &value))
        if (psh_proto_reserved(&key)) return NULL;
    json = psh_json_skip_space(json, end) + 1;
    while (*--end != '}') continue;
    PUSHER_ASSERT(json <= end);
    *len = (size_t)(end - json);
    return json;
}

/* An answer to an authorization: strings as they stand in the JSON, with their quotes in raw. */
struct psh_answer {
    struct psh_value auth, channel_data, shared_secret, user_data;
};

/* NULL, or what is wrong. text is valid JSON. */
static const char *psh_proto_answer(const char *text, size_t len, struct psh_answer *answer)
{
    struct psh_json_walk walk;
    struct psh_value key, value;
    memset(answer, 0, sizeof *answer);
    if (!psh_json_enter(&walk, text, len) || !walk.object) return "the answer is no JSON object";
    while (psh_json_next(&walk, &key, &value)) {
        if (psh_json_key_is(&key, "auth")) answer->auth = value;
        if (psh_json_key_is(&key, "channel_data")) answer->channel_data = value;
        if (psh_json_key_is(&key, "shared_secret")) answer->shared_secret = value;
        if (psh_json_key_is(&key, "user_data")) answer->user_data = value;
    }
    if (!answer->auth.string || answer->auth.len == 0) return "the answer has no auth";
    return NULL;
}

/* One channel's part of a batch's answer: BODY, or {"status":200,"data":BODY}. */
static struct psh_value psh_proto_part(const struct psh_value *value, uint32_t *status)
{
    struct psh_json_walk walk;
    struct psh_value key, item, data = *value;
    *status = 200;
    if (!psh_json_enter(&walk, value->raw, value->raw_len) || !walk.object) return data;
    while (psh_json_next(&walk, &key, &item)) {
        if (psh_json_key_is(&key, "status")) *status = psh_json_uint(&item, 0);
        if (psh_json_key_is(&key, "data")) data = item;
    }
    return data;
}

#define PSH_PROTO_PING "{\"event\":\"pusher:ping\",\"data\":{}}"
#define PSH_PROTO_PONG "{\"event\":\"pusher:pong\",\"data\":{}}"

/* "... <socket_id>:<channel>..." in an error without a channel, as pusher.com writes it: the
   channel's name, and its length in *len, or NULL. */
static const char *psh_proto_channel_in(const char *message, const char *socket_id, size_t *len)
{
    PUSHER_ASSERT(socket_id[0]);
    const size_t id_len = strlen(socket_id);
    const char *at = strstr(message, socket_id);
    while (at && at[id_len] != ':') at = strstr(at + id_len, socket_id);
    if (!at) return NULL;
    at += id_len + 1;
    for (*len = 0; at[*len] != ':' && psh_proto_name_char(at[*len]);) {
        if (at[*len] == ',' && at[*len + 1] == ' ') break; /* ", but got ..." */
        ++*len;
    }
    return *len > 0 ? at : NULL;
}

// >>sockets
/* Sockets of the system, a resolver thread, the monotonic clock and the system's randomness. What
   POSIX and Windows say differently stands first, under the same names; the rest is common. */
#if defined(PUSHER_SOCKETS)

#if defined(_WIN32)

#if defined(_WINSOCKAPI_) && !defined(_WINSOCK2API_)
#error "pusher.h: include it before windows.h, which brings the old winsock.h"
#endif
#include <winsock2.h>
#include <ws2tcpip.h>

#include <bcrypt.h>
#include <process.h>

#if defined(_MSC_VER)
#pragma comment(lib, "ws2_32.lib")
#pragma comment(lib, "bcrypt.lib")
#endif

#define PSH_SOCKETS_ERROR(name) WSA##name
#define PSH_SOCKETS_NONE INVALID_SOCKET
#define PSH_SOCKETS_THREAD unsigned __stdcall
typedef SOCKET psh_fd;
typedef int psh_io_len;
typedef CRITICAL_SECTION psh_lock;
typedef unsigned(__stdcall *psh_thread_fn)(void *argument);

/* Winsock counts who has started it: whoever has a lock has. */
static bool psh_sockets_begin(psh_lock *lock)
{
    WSADATA data;
    PUSHER_ASSERT(lock);
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) return false;
    InitializeCriticalSection(lock);
    return true;
}

static void psh_sockets_end(psh_lock *lock)
{
    DeleteCriticalSection(lock);
    (void)WSACleanup();
}

static void psh_sockets_lock(psh_lock *lock)
{
    EnterCriticalSection(lock);
}

static void psh_sockets_unlock(psh_lock *lock)
{
    LeaveCriticalSection(lock);
}

static bool psh_sockets_spawn(psh_thread_fn run, void *argument)
{
    PUSHER_ASSERT(run && argument);
    uintptr_t thread = _beginthreadex(NULL, 0, run, argument, 0, NULL);
    if (thread) CloseHandle((HANDLE)thread);
    return thread != 0;
}

static int psh_sockets_last(void)
{
    return WSAGetLastError();
}

static bool psh_sockets_again(int error)
{
    return error == WSAEWOULDBLOCK;
}

static bool psh_sockets_under_way(int error)
{
    return error == WSAEWOULDBLOCK;
}

static void psh_sockets_shut(psh_fd fd)
{
    PUSHER_ASSERT(fd != PSH_SOCKETS_NONE);
    (void)closesocket(fd);
}

/* It blocks nobody, and a child process does not get it. */
static bool psh_sockets_unblock(psh_fd fd)
{
    u_long on = 1;
    (void)SetHandleInformation((HANDLE)fd, HANDLE_FLAG_INHERIT, 0);
    return ioctlsocket(fd, (long)FIONBIO, &on) == 0;
}

/* True: there is something. Not WSAPoll(), which on older systems hides connections that failed;
   they come as exceptions. */
static bool psh_sockets_wait(intptr_t fd, int wants, int timeout_ms)
{
    fd_set in, out, failed;
    struct timeval limit;
    PUSHER_ASSERT(timeout_ms >= 0);
    if (fd < 0 || wants == 0) {
        Sleep((DWORD)timeout_ms);
        return false;
    }
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&failed);
    in.fd_count = wants & PUSHER_WANTS_READ ? 1u : 0u;
    out.fd_count = failed.fd_count = wants & PUSHER_WANTS_WRITE ? 1u : 0u;
    in.fd_array[0] = out.fd_array[0] = failed.fd_array[0] = (psh_fd)fd;
    limit.tv_sec = timeout_ms / 1000;
    limit.tv_usec = timeout_ms % 1000 * 1000;
    return select(0, &in, &out, &failed, &limit) > 0;
}

static bool psh_sockets_random(void *buf, size_t len, void *user_data)
{
    (void)user_data;
    PUSHER_ASSERT(len <= 256);
    return BCryptGenRandom(NULL, (PUCHAR)buf, (ULONG)len, BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0;
}

/* Not GetTickCount64(), whose steps are as long as a frame. */
PUSHER_DEF uint64_t pusher_sockets_now_ms(void)
{
    LARGE_INTEGER count, second;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&second);
    uint64_t ticks = (uint64_t)count.QuadPart, hz = (uint64_t)second.QuadPart;
    return ticks / hz * 1000 + ticks % hz * 1000 / hz;
}

#else /* POSIX */

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if !defined(AI_NUMERICSERV) || !defined(CLOCK_MONOTONIC)
#error "pusher.h: PUSHER_SOCKETS needs POSIX: include pusher.h first or define _DEFAULT_SOURCE"
#endif

#define PSH_SOCKETS_ERROR(name) name
#define PSH_SOCKETS_NONE (-1)
#define PSH_SOCKETS_THREAD void *
typedef int psh_fd;
typedef size_t psh_io_len;
typedef pthread_mutex_t psh_lock;
typedef void *(*psh_thread_fn)(void *argument);

static bool psh_sockets_begin(psh_lock *lock)
{
    PUSHER_ASSERT(lock);
    return pthread_mutex_init(lock, NULL) == 0;
}

static void psh_sockets_end(psh_lock *lock)
{
    (void)pthread_mutex_destroy(lock);
}

static void psh_sockets_lock(psh_lock *lock)
{
    (void)pthread_mutex_lock(lock);
}

static void psh_sockets_unlock(psh_lock *lock)
{
    (void)pthread_mutex_unlock(lock);
}

/* A thread of its own, without signals: they are for the program's threads. */
static bool psh_sockets_spawn(psh_thread_fn run, void *argument)
{
    PUSHER_ASSERT(run && argument);
    pthread_t thread;
    pthread_attr_t detached;
    sigset_t all, before;
    if (pthread_attr_init(&detached) != 0) return false;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool ok = pthread_create(&thread, &detached, run, argument) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&detached);
    return ok;
}

static int psh_sockets_last(void)
{
    return errno;
}

static bool psh_sockets_again(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* After an interrupted connect() the connection is made all the same. */
static bool psh_sockets_under_way(int error)
{
    return error == EINPROGRESS || error == EINTR;
}

static void psh_sockets_shut(psh_fd fd)
{
    PUSHER_ASSERT(fd >= 0);
    (void)close(fd);
}

/* It blocks nobody, a child process does not get it, and its end is an error and no signal. */
static bool psh_sockets_unblock(psh_fd fd)
{
#if defined(SO_NOSIGPIPE)
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

/* True: there is something. */
static bool psh_sockets_wait(intptr_t fd, int wants, int timeout_ms)
{
    struct pollfd wait;
    PUSHER_ASSERT(timeout_ms >= 0);
    wait.fd = (int)fd;
    wait.events = 0;
    if (wants & PUSHER_WANTS_READ) wait.events = (short)(wait.events | POLLIN);
    if (wants & PUSHER_WANTS_WRITE) wait.events = (short)(wait.events | POLLOUT);
    wait.revents = 0;
    return poll(&wait, fd >= 0 ? 1 : 0, timeout_ms) > 0;
}

static bool psh_sockets_random(void *buf, size_t len, void *user_data)
{
    (void)user_data;
    PUSHER_ASSERT(len <= 256); /* getentropy's limit */
    return getentropy(buf, len) == 0;
}

PUSHER_DEF uint64_t pusher_sockets_now_ms(void)
{
    struct timespec now;
#if defined(CLOCK_BOOTTIME) /* Linux: the monotonic clock stops while a laptop sleeps */
    if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
#endif
        clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif /* POSIX */

#if defined(MSG_NOSIGNAL)
#define PSH_SOCKETS_SEND MSG_NOSIGNAL
#else
#define PSH_SOCKETS_SEND 0
#endif

/* -- common -- */

static const char *psh_sockets_reason(int error)
{
    switch (error) {
    case PSH_SOCKETS_ERROR(ECONNREFUSED): return "connection refused";
    case PSH_SOCKETS_ERROR(ECONNRESET): return "connection reset";
    case PSH_SOCKETS_ERROR(ECONNABORTED): return "connection aborted";
    case PSH_SOCKETS_ERROR(ETIMEDOUT): return "timed out";
    case PSH_SOCKETS_ERROR(EHOSTUNREACH): return "no route to the host";
    case PSH_SOCKETS_ERROR(ENETUNREACH): return "network unreachable";
    case PSH_SOCKETS_ERROR(EMFILE): return "out of file descriptors";
    case PSH_SOCKETS_ERROR(EACCES): return "not permitted";
#if !defined(_WIN32)
    case EPIPE: return "connection closed by the other side";
    case ENFILE: return "out of file descriptors";
    case EPERM: return "not permitted";
#endif
    default: return "socket error";
    }
}

/* One look-up. The thread and the socket both hold it; who leaves last frees it, so that nobody
   ever waits for getaddrinfo(). */
struct psh_lookup {
    psh_lock lock;
    int holders;
    bool done;
    int error;               /* getaddrinfo's */
    struct addrinfo *list;
    char host[256], port[8];
};

/* Connections to several addresses race (RFC 8305 in its simplest form): each is given so much
   time before the next one starts beside it, and the first that stands is taken. When all lanes
   are taken the oldest is given up; it has been silent for two seconds. */
enum { PSH_RACE_MS = 250, PSH_RACE_LANES = 8 };

struct psh_socket {
    struct psh_lookup *lookup;
    const struct addrinfo *next[2]; /* to be tried: of the first address' family, of the others */
    uint64_t next_at;
    const char *error;
    psh_fd fd;                      /* the connection, when the race is over */
    psh_fd lane[PSH_RACE_LANES];    /* connections being made, oldest first */
    int lanes;
    int family, turn;
    bool resolved;
    bool asked, shown;              /* ready_fn was called; and once more: fd may be told */
};

static void psh_sockets_leave(struct psh_lookup *lookup)
{
    psh_sockets_lock(&lookup->lock);
    PUSHER_ASSERT(lookup->holders > 0);
    bool last = --lookup->holders == 0;
    psh_sockets_unlock(&lookup->lock);
    if (!last) return;
    if (lookup->list) freeaddrinfo(lookup->list);
    psh_sockets_end(&lookup->lock);
    free(lookup);
}

static void psh_sockets_resolve(struct psh_lookup *lookup, int flags)
{
    struct addrinfo hints, *list = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_protocol = IPPROTO_TCP; /* some systems have other streams, too */
    hints.ai_flags = flags | AI_NUMERICSERV;
    int error = getaddrinfo(lookup->host, lookup->port, &hints, &list);
    psh_sockets_lock(&lookup->lock);
    lookup->list = error ? NULL : list;
    lookup->error = error;
    lookup->done = !error || !(flags & AI_NUMERICHOST);
    psh_sockets_unlock(&lookup->lock);
}

static PSH_SOCKETS_THREAD psh_sockets_thread(void *argument)
{
    struct psh_lookup *lookup = (struct psh_lookup *)argument;
    psh_sockets_resolve(lookup, 0);
    psh_sockets_leave(lookup);
    return 0;
}

static struct psh_lookup *psh_sockets_lookup(const char *host, uint16_t port)
{
    struct psh_text text;
    struct psh_lookup *lookup = (struct psh_lookup *)malloc(sizeof *lookup);
    if (!lookup) return NULL;
    memset(lookup, 0, sizeof *lookup);
    if (!psh_sockets_begin(&lookup->lock)) {
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
    psh_sockets_resolve(lookup, AI_NUMERICHOST);
    if (lookup->done) return true;
    lookup->holders = 2;
    bool ok = psh_sockets_spawn(psh_sockets_thread, lookup);
    if (!ok) lookup->holders = 1;
    return ok;
}

static void *psh_sockets_open(const char *host, uint16_t port, void *user_data)
{
    (void)user_data;
    PUSHER_ASSERT(host && port > 0);
    struct psh_socket *s = (struct psh_socket *)malloc(sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->fd = PSH_SOCKETS_NONE;
    s->lookup = psh_sockets_lookup(host, port);
    if (s->lookup && psh_sockets_start(s->lookup)) return s;
    if (s->lookup) psh_sockets_leave(s->lookup);
    free(s);
    return NULL;
}

/* The first address from here on that is of the family, or that is not. */
static const struct addrinfo *psh_sockets_find(const struct addrinfo *a, int family, bool same)
{
    while (a && (a->ai_family == family) != same) a = a->ai_next;
    return a;
}

/* The families take turns: it is often a whole family that is dead. NULL: none is left. */
static const struct addrinfo *psh_sockets_pick(struct psh_socket *s)
{
    PUSHER_ASSERT(s->turn == 0 || s->turn == 1);
    int from = s->next[s->turn] ? s->turn : !s->turn;
    const struct addrinfo *a = s->next[from];
    if (a) s->next[from] = psh_sockets_find(a->ai_next, s->family, from == 0);
    s->turn = !from;
    return a;
}

static void psh_sockets_give_up(struct psh_socket *s, int lane)
{
    PUSHER_ASSERT(lane >= 0 && lane < s->lanes);
    psh_sockets_shut(s->lane[lane]);
    s->lanes--;
    for (int i = lane; i < s->lanes; i++) s->lane[i] = s->lane[i + 1];
}

/* Starts a connection in a lane of its own, unless it fails at once. */
static void psh_sockets_connect(struct psh_socket *s, const struct addrinfo *a, uint64_t now)
{
    int on = 1, error = 0;
    psh_fd fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd == PSH_SOCKETS_NONE) {
        s->error = psh_sockets_reason(psh_sockets_last());
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof on);
    if (!psh_sockets_unblock(fd) || connect(fd, a->ai_addr, (socklen_t)a->ai_addrlen) != 0)
        error = psh_sockets_last();
    if (error && !psh_sockets_under_way(error)) {
        s->error = psh_sockets_reason(error);
        psh_sockets_shut(fd);
        return;
    }
    if (s->lanes == PSH_RACE_LANES) psh_sockets_give_up(s, 0);
    s->lane[s->lanes++] = fd;
    s->next_at = now + PSH_RACE_MS;
}

/* > 0: the look-up has an answer. */
static int psh_sockets_resolved(struct psh_socket *s)
{
    PUSHER_ASSERT(s->lanes == 0 && s->fd == PSH_SOCKETS_NONE);
    psh_sockets_lock(&s->lookup->lock);
    bool done = s->lookup->done;
    int error = s->lookup->error;
    const struct addrinfo *list = s->lookup->list;
    psh_sockets_unlock(&s->lookup->lock);
    if (!done) return PUSHER_IO_WANT_READ;
    if (error || !list) {
        s->error = error == EAI_AGAIN ? "the name server does not answer" : "unknown host";
        return PUSHER_IO_ERROR_RESOLVE;
    }
    s->resolved = true;
    s->family = list->ai_family;
    s->next[0] = list;
    s->next[1] = psh_sockets_find(list, s->family, false);
    return 1;
}

/* Takes the first connection that stands; true: there is one. Those that failed make room. */
static bool psh_sockets_finish(struct psh_socket *s)
{
    for (int i = 0; i < s->lanes;) {
        int error = 0;
        socklen_t len = sizeof error;
        if (!psh_sockets_wait((intptr_t)s->lane[i], PUSHER_WANTS_WRITE, 0)) {
            i++;
            continue;
        }
        if (getsockopt(s->lane[i], SOL_SOCKET, SO_ERROR, (char *)&error, &len) == 0 && !error) {
            s->fd = s->lane[i];
            s->lane[i] = s->lane[--s->lanes];
            while (s->lanes > 0) psh_sockets_give_up(s, s->lanes - 1);
            return true;
        }
        s->error = psh_sockets_reason(error);
        s->next_at = 0;
        psh_sockets_give_up(s, i);
    }
    return false;
}

/* Of addresses that fail at once only so many in one poll. */
static int psh_sockets_race(struct psh_socket *s)
{
    PUSHER_ASSERT(s->resolved);
    uint64_t now = pusher_sockets_now_ms();
    for (int i = 0; i < PSH_RACE_LANES; i++) {
        if (psh_sockets_finish(s)) return 1;
        if (s->lanes > 0 && now < s->next_at) break;
        const struct addrinfo *a = psh_sockets_pick(s);
        if (!a) break;
        psh_sockets_connect(s, a, now);
    }
    if (s->next[0] || s->next[1] || s->lanes > 1) return PUSHER_IO_WANT_READ;
    return s->lanes == 1 ? PUSHER_IO_WANT_WRITE : PUSHER_IO_ERROR;
}

/* The first answer is never that there is a descriptor: an event loop then sees that this is
   another connection, even if the system gives it the number of the one before. */
static int psh_sockets_ready(void *stream)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    int result = 1;
    s->shown = s->asked;
    s->asked = true;
    if (!s->resolved) result = psh_sockets_resolved(s);
    if (result > 0 && s->fd == PSH_SOCKETS_NONE) result = psh_sockets_race(s);
    if (result > 0 || result == PUSHER_IO_WANT_WRITE)
        return s->shown ? result : PUSHER_IO_WANT_READ;
    return result;
}

static int psh_sockets_failed(struct psh_socket *s, int want)
{
    int error = psh_sockets_last();
    if (psh_sockets_again(error)) return want;
    s->error = psh_sockets_reason(error);
    return PUSHER_IO_ERROR;
}

static int psh_sockets_recv(void *stream, void *buf, size_t len)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    PUSHER_ASSERT(len > 0 && len <= INT32_MAX);
    int got = (int)recv(s->fd, (char *)buf, (psh_io_len)len, 0);
    return got >= 0 ? got : psh_sockets_failed(s, PUSHER_IO_WANT_READ);
}

static int psh_sockets_send(void *stream, const void *buf, size_t len)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    PUSHER_ASSERT(len > 0 && len <= INT32_MAX);
    int put = (int)send(s->fd, (const char *)buf, (psh_io_len)len, PSH_SOCKETS_SEND);
    return put >= 0 ? put : psh_sockets_failed(s, PUSHER_IO_WANT_WRITE);
}

static void psh_sockets_close(void *stream)
{
    struct psh_socket *s = (struct psh_socket *)stream;
    while (s->lanes > 0) psh_sockets_give_up(s, s->lanes - 1);
    if (s->fd != PSH_SOCKETS_NONE) psh_sockets_shut(s->fd);
    psh_sockets_leave(s->lookup);
    free(s);
}

static const char *psh_sockets_error(void *stream)
{
    return ((struct psh_socket *)stream)->error;
}

/* While several addresses are tried there is not one descriptor to wait on: ready_fn then says
   WANT_READ, and the client asks again soon. */
static intptr_t psh_sockets_fd(void *stream)
{
    const struct psh_socket *s = (const struct psh_socket *)stream;
    if (!s->shown) return -1;
    bool alone = s->lanes == 1 && !s->next[0] && !s->next[1];
    return (intptr_t)(alone ? s->lane[0] : s->fd);
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

#endif /* PUSHER_SOCKETS */

// >>tls
/* A transport made from a transport, on mbedTLS. One handshake step a call; what the inner stream
   cannot do now is asked for again. mbedTLS takes its memory from its own allocator. */
#if defined(PUSHER_TLS)

#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#if MBEDTLS_VERSION_NUMBER >= 0x04000000 || defined(MBEDTLS_USE_PSA_CRYPTO) || \
    (MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C))
#define PSH_TLS_PSA 1
#include <psa/crypto.h>
#endif
#if defined(_WIN32)
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#include <wincrypt.h>
#endif

#if !defined(MBEDTLS_SSL_CLI_C) || !defined(MBEDTLS_X509_CRT_PARSE_C)
#error "pusher.h: PUSHER_TLS needs an mbedTLS with MBEDTLS_SSL_CLI_C and MBEDTLS_X509_CRT_PARSE_C"
#endif

enum {
    PSH_TLS_HOST = 256,
    PSH_TLS_WORDS = 240,
    PSH_TLS_HEAD = 7,        /* a record's header and the two bytes of an alert */
    PSH_TLS_SESSIONS = 2,    /* the app's server, and one that authorizes */
    PSH_TLS_TICKETS = 4,     /* taken in one call */
    PSH_TLS_NAMES = 3,       /* of a certificate, in an error text */
    PSH_TLS_INTAKE = 65536,  /* bytes read in one call: records without data could be endless */
    PSH_TLS_BROKEN = -0x50   /* told to mbedTLS when the inner stream has failed */
};

struct psh_tls_session {
    char host[PSH_TLS_HOST]; /* "" = unused */
    mbedtls_ssl_session session;
};

struct psh_tls {
    const struct psh_env *env;
    pusher_transport inner;
    mbedtls_ssl_config own;
    const mbedtls_ssl_config *config; /* own, or the user's; NULL before psh_tls_init() */
    mbedtls_x509_crt authorities;
    bool accept_any, random_failed;
    uint32_t next_session;            /* to be overwritten */
    struct psh_tls_session sessions[PSH_TLS_SESSIONS];
};

enum psh_tls_phase { PSH_TLS_CONNECTING = 0, PSH_TLS_SHAKING, PSH_TLS_OPEN, PSH_TLS_DEAD };

struct psh_tls_stream {
    struct psh_tls *tls;
    void *inner;
    mbedtls_ssl_context ssl;
    enum psh_tls_phase phase;
    int verdict;               /* what a dead stream says */
    int inner_said;            /* in this call: bytes, or PUSHER_IO_... */
    size_t intake;             /* bytes this call may still read */
    bool resuming;             /* a saved session was offered */
    bool checked;              /* the names in the certificate were compared */
    bool pending;              /* mbedTLS holds output that the inner stream has not taken */
    size_t unsent;             /* the caller's bytes in that output; 0: it is mbedTLS' own */
    unsigned char head[PSH_TLS_HEAD]; /* of the last record of the handshake */
    size_t seen;               /* bytes of the record being read */
    bool known, foreign;       /* the first bytes have come; and are not TLS' */
    unsigned char address[16]; /* the host, if it is one */
    size_t address_len;        /* 4, 16, or 0: it is a name */
    char host[PSH_TLS_HOST];
    struct psh_text say;
    char words[PSH_TLS_WORDS];
};

/* -- hosts: names and addresses -- */

static int psh_tls_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t psh_tls_ipv4(const char *at, unsigned char out[16])
{
    for (size_t i = 0; i < 4; i++) {
        unsigned value = 0, digits = 0;
        for (; digits < 3 && *at >= '0' && *at <= '9'; digits++)
            value = value * 10 + (unsigned)(*at++ - '0');
        if (digits == 0 || value > 255 || *at != (i < 3 ? '.' : '\0')) return 0;
        out[i] = (unsigned char)value;
        at++;
    }
    return 4;
}

/* A zone (fe80::1%eth0) is no part of the address. */
static size_t psh_tls_ipv6(const char *at, unsigned char out[16])
{
    size_t len = 0, gap = SIZE_MAX;
    if (at[0] == ':' && at[1] == ':') gap = 0, at += 2;
    while (len < 16 && *at && *at != '%') {
        unsigned value = 0, digits = 0;
        for (; digits < 4 && psh_tls_hex(*at) >= 0; digits++)
            value = value << 4 | (unsigned)psh_tls_hex(*at++);
        if (digits == 0) return 0;
        out[len++] = (unsigned char)(value >> 8);
        out[len++] = (unsigned char)(value & 255);
        if (*at != ':') break;
        at++;
        if (*at == ':' && gap == SIZE_MAX) gap = len, at++;
        else if (!*at) return 0;
    }
    if ((*at && *at != '%') || (gap == SIZE_MAX ? len != 16 : len > 14)) return 0;
    if (gap == SIZE_MAX) return 16;
    PUSHER_ASSERT(gap <= len);
    memmove(out + 16 - (len - gap), out + gap, len - gap);
    memset(out + gap, 0, 16 - len);
    return 16;
}

static unsigned char psh_tls_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

/* A wildcard stands for one whole label, and not for a name right under a top-level domain. */
static bool psh_tls_match(const unsigned char *pattern, size_t len, const char *host)
{
    PUSHER_ASSERT(host && *host);
    if (len > 2 && pattern[0] == '*' && pattern[1] == '.') {
        host = strchr(host, '.');
        pattern++;
        len--;
        if (!host || !memchr(pattern + 1, '.', len - 1)) return false;
    }
    if (len != strlen(host)) return false;
    for (size_t i = 0; i < len; i++)
        if (psh_tls_lower(pattern[i]) != psh_tls_lower((unsigned char)host[i])) return false;
    return true;
}

/* The next common name or organization (what: 3 or 10, the last byte of 2.5.4.x). */
static const mbedtls_x509_name *psh_tls_part(const mbedtls_x509_name *name, unsigned char what)
{
    for (; name; name = name->next)
        if (name->oid.len == 3 && name->oid.p[0] == 0x55 && name->oid.p[1] == 0x04 &&
            name->oid.p[2] == what)
            return name;
    return NULL;
}

/* The kinds of subjectAltName. */
enum { PSH_TLS_SAN_DNS = 2, PSH_TLS_SAN_IP = 7 };

static bool psh_tls_is_san(const mbedtls_x509_sequence *san, int kind)
{
    return san->buf.p && (san->buf.tag & 0xDF) == (0x80 | kind);
}

/* Is the certificate for the host? An address must stand in it as an address (mbedTLS 2.28 does not
   look for those), a name as a name; the subject's common name counts if it has neither. */
static bool psh_tls_is_for(const struct psh_tls_stream *s, const mbedtls_x509_crt *crt)
{
    PUSHER_ASSERT(s->address_len <= sizeof s->address);
    const mbedtls_x509_sequence *san = &crt->subject_alt_names;
    bool old = !san->buf.p && s->address_len == 0;
    for (; san && san->buf.p; san = san->next) {
        const mbedtls_x509_buf *buf = &san->buf;
        if (s->address_len > 0 && psh_tls_is_san(san, PSH_TLS_SAN_IP) &&
            buf->len == s->address_len && memcmp(buf->p, s->address, buf->len) == 0)
            return true;
        if (s->address_len == 0 && psh_tls_is_san(san, PSH_TLS_SAN_DNS) &&
            psh_tls_match(buf->p, buf->len, s->host))
            return true;
    }
    const mbedtls_x509_name *name = old ? psh_tls_part(&crt->subject, 3) : NULL;
    for (; name; name = psh_tls_part(name->next, 3))
        if (psh_tls_match(name->val.p, name->val.len, s->host)) return true;
    return false;
}

/* -- saying what is wrong -- */

static struct psh_text *psh_tls_say(struct psh_tls_stream *s)
{
    psh_env_text(&s->say, s->words, sizeof s->words);
    psh_env_add(&s->say, "TLS: ");
    return &s->say;
}

static void psh_tls_add_buf(struct psh_text *say, const mbedtls_x509_buf *buf)
{
    psh_env_add_foreign(say, (const char *)buf->p, buf->len < 40 ? buf->len : 40);
    if (buf->len > 40) psh_env_add(say, "...");
}

static void psh_tls_add_hex(struct psh_text *say, unsigned value, unsigned digits)
{
    PUSHER_ASSERT(digits <= 8);
    while (digits-- > 0)
        psh_env_add_bytes(say, &"0123456789abcdef"[value >> 4 * digits & 15], 1);
}

static void psh_tls_add_address(struct psh_text *say, const unsigned char *at, size_t len)
{
    PUSHER_ASSERT(at || len == 0);
    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len == 4 || i % 2 == 0)) psh_env_add(say, len == 4 ? "." : ":");
        if (len == 4) psh_env_add_uint(say, at[i]);
        else psh_tls_add_hex(say, at[i], 2);
    }
}

/* "a.example, b.example and 7 more" */
static void psh_tls_add_names(struct psh_text *say, const mbedtls_x509_crt *crt)
{
    uint32_t count = 0;
    const mbedtls_x509_sequence *san = &crt->subject_alt_names;
    for (; san && san->buf.p; san = san->next) {
        bool dns = psh_tls_is_san(san, PSH_TLS_SAN_DNS), ip = psh_tls_is_san(san, PSH_TLS_SAN_IP);
        if ((!dns && !ip) || ++count > PSH_TLS_NAMES) continue;
        if (count > 1) psh_env_add(say, ", ");
        if (dns) psh_tls_add_buf(say, &san->buf);
        else psh_tls_add_address(say, san->buf.p, san->buf.len <= 16 ? san->buf.len : 0);
    }
    const mbedtls_x509_name *name = psh_tls_part(&crt->subject, 3);
    if (count == 0 && !crt->subject_alt_names.buf.p && name) psh_tls_add_buf(say, &name->val);
    else if (count == 0) psh_env_add(say, "no host at all");
    if (count <= PSH_TLS_NAMES) return;
    psh_env_add(say, " and ");
    psh_env_add_uint(say, count - PSH_TLS_NAMES);
    psh_env_add(say, " more");
}

static void psh_tls_add_quoted(struct psh_text *say, const mbedtls_x509_name *subject)
{
    const mbedtls_x509_name *name = psh_tls_part(subject, 3);
    if (!name) name = psh_tls_part(subject, 10);
    psh_env_add(say, "\"");
    if (name) psh_tls_add_buf(say, &name->val);
    psh_env_add(say, "\"");
}

static void psh_tls_add_date(struct psh_text *say, const mbedtls_x509_time *when)
{
    PUSHER_ASSERT(when->year >= 0 && when->mon >= 0 && when->day >= 0);
    psh_env_add_uint(say, (uint64_t)when->year);
    psh_env_add(say, when->mon < 10 ? "-0" : "-");
    psh_env_add_uint(say, (uint64_t)when->mon);
    psh_env_add(say, when->day < 10 ? "-0" : "-");
    psh_env_add_uint(say, (uint64_t)when->day);
}

static bool psh_tls_same(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b)
{
    return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

static bool psh_tls_is_authority(const mbedtls_x509_crt *crt)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03050000
    return mbedtls_x509_crt_get_ca_istrue(crt) > 0;
#elif MBEDTLS_VERSION_NUMBER >= 0x03000000
    return crt->MBEDTLS_PRIVATE(ca_istrue) != 0;
#else
    return crt->ca_istrue != 0;
#endif
}

/* Why nobody trusted has signed it. */
static void psh_tls_say_untrusted(struct psh_text *say, const mbedtls_x509_crt *crt)
{
    PUSHER_ASSERT(crt->issuer_raw.p && crt->subject_raw.p);
    if (psh_tls_same(&crt->issuer_raw, &crt->subject_raw)) {
        psh_env_add(say, " is signed by itself, and not one of those trusted");
        return;
    }
    const mbedtls_x509_crt *at = crt->next;
    while (at && (!psh_tls_same(&at->subject_raw, &crt->issuer_raw) || psh_tls_is_authority(at)))
        at = at->next;
    psh_env_add(say, at ? " is signed by one that is no authority (issuer: "
                        : " is not signed by a known authority (issuer: ");
    psh_tls_add_quoted(say, &crt->issuer);
    psh_env_add(say, ")");
}

/* What the flags of one certificate mean, the most telling first. crt is NULL when only the sum of
   flags is known. */
static void psh_tls_say_flags(struct psh_tls_stream *s, const mbedtls_x509_crt *crt, int depth,
                              uint32_t flags)
{
    struct psh_text *say = psh_tls_say(s);
    PUSHER_ASSERT(flags && (crt || depth == 0));
    bool dated = crt && (flags & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE));
    if (crt && (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)) {
        psh_env_add(say, "certificate is for ");
        psh_tls_add_names(say, crt);
        psh_env_add(say, ", not ");
        psh_env_add(say, s->host);
        return;
    }
    psh_env_add(say, depth == 0 ? "certificate of " : "certificate of the authority ");
    if (depth == 0) psh_env_add(say, s->host);
    else psh_tls_add_quoted(say, &crt->subject);
    if (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) {
        psh_env_add(say, " is for another host");
    } else if (flags & MBEDTLS_X509_BADCERT_EXPIRED) {
        psh_env_add(say, crt ? " expired on " : " has expired");
        if (crt) psh_tls_add_date(say, &crt->valid_to);
    } else if (flags & MBEDTLS_X509_BADCERT_FUTURE) {
        psh_env_add(say, crt ? " is not valid before " : " is not valid yet");
        if (crt) psh_tls_add_date(say, &crt->valid_from);
    } else if (flags & MBEDTLS_X509_BADCERT_REVOKED) {
        psh_env_add(say, " is revoked");
    } else if (flags & MBEDTLS_X509_BADCERT_BAD_MD) {
        psh_env_add(say, " is signed with a hash that is too weak");
    } else if (flags & (MBEDTLS_X509_BADCERT_BAD_KEY | MBEDTLS_X509_BADCERT_BAD_PK)) {
        psh_env_add(say, " has a key that is too weak");
    } else if (crt && (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)) {
        psh_tls_say_untrusted(say, crt);
    } else if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
        psh_env_add(say, " is not signed by a known authority");
    } else if (flags & (MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE |
                        MBEDTLS_X509_BADCERT_NS_CERT_TYPE)) {
        psh_env_add(say, " may not be used by a server (key usage)");
    } else {
        psh_env_add(say, " was refused");
    }
    if (dated) psh_env_add(say, ", by this machine's clock");
}

static const char *psh_tls_alert(unsigned char alert)
{
    switch (alert) {
    case 10: return "unexpected_message";
    case 20: return "bad_record_mac";
    case 40: return "handshake_failure: no cipher or signature in common";
    case 42: return "bad_certificate";
    case 43: return "unsupported_certificate";
    case 44: return "certificate_revoked";
    case 45: return "certificate_expired";
    case 46: return "certificate_unknown";
    case 47: return "illegal_parameter";
    case 48: return "unknown_ca";
    case 49: return "access_denied";
    case 50: return "decode_error";
    case 51: return "decrypt_error";
    case 70: return "protocol_version: it and this mbedTLS have none in common, from TLS 1.2 on";
    case 71: return "insufficient_security";
    case 80: return "internal_error";
    case 90: return "user_canceled";
    case 112: return "unrecognized_name: it has no certificate for this host";
    case 116: return "certificate_required";
    case 120: return "no_application_protocol";
    default: return "an alert";
    }
}

#if MBEDTLS_VERSION_NUMBER >= 0x04000000
#define PSH_TLS_STARVED PSA_ERROR_INSUFFICIENT_MEMORY
#else
#define PSH_TLS_STARVED MBEDTLS_ERR_SSL_ALLOC_FAILED /* and others */
#endif

static bool psh_tls_no_memory(int code)
{
#if MBEDTLS_VERSION_NUMBER >= 0x04000000
    return code == PSH_TLS_STARVED;
#else
    if (code >= 0) return false;
    int high = -code & 0x7F80, low = -code & 0x7F; /* the sum of two layers' codes */
    return low == 0x10 || low == 0x6A || high == 0x7F00 || high == 0x2880 || high == 0x3F80 ||
           high == 0x4D80 || high == 0x5180 || high == 0x6180;
#endif
}

static bool psh_tls_no_random(const struct psh_tls *tls, int code)
{
#if MBEDTLS_VERSION_NUMBER >= 0x04000000
    if (code == PSA_ERROR_INSUFFICIENT_ENTROPY) return true;
#else
    (void)code;
#endif
    return tls->random_failed;
}

static bool psh_tls_too_old(int code)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return code == MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION;
#else
    return code == MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION;
#endif
}

static void psh_tls_say_end(struct psh_tls_stream *s)
{
    psh_env_add(psh_tls_say(s), s->phase == PSH_TLS_OPEN
                                    ? "the connection was cut off: it ended without close_notify"
                                    : "the server ended the connection in the handshake");
}

/* What mbedTLS' error means, unless the certificate has told it. */
static void psh_tls_say_code(struct psh_tls_stream *s, int code)
{
    struct psh_text *say = psh_tls_say(s);
    if (psh_tls_no_random(s->tls, code)) {
        psh_env_add(say, "the random source failed");
    } else if (psh_tls_no_memory(code)) {
        psh_env_add(say, "no memory");
    } else if (s->phase == PSH_TLS_SHAKING && s->foreign) {
        psh_env_add(say, "the server does not speak TLS on this port");
        if (memcmp(s->head, "HTTP/", 5) == 0)
            psh_env_add(say, ": it answers in plain HTTP");
    } else if (psh_tls_too_old(code)) {
        psh_env_add(say, "the server's protocol is too old: TLS 1.2 at least is needed");
    } else if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
        bool plain = s->phase == PSH_TLS_SHAKING && s->head[0] == 21 && s->head[4] == 2;
        psh_env_add(say, "the server refused: ");
        psh_env_add(say, psh_tls_alert(plain ? s->head[6] : 255));
    } else if (code == MBEDTLS_ERR_SSL_INVALID_MAC) {
        psh_env_add(say, "a record was damaged on its way");
    } else {
        psh_env_add(say, s->phase == PSH_TLS_OPEN ? "the connection failed (mbedTLS -0x"
                                                  : "the handshake failed (mbedTLS -0x");
        psh_tls_add_hex(say, (unsigned)-code, 4);
        psh_env_add(say, ")");
    }
}

/* -- sessions, to be resumed -- */

static struct psh_tls_session *psh_tls_find_session(struct psh_tls *tls, const char *host)
{
    for (uint32_t i = 0; i < PSH_TLS_SESSIONS; i++)
        if (strcmp(tls->sessions[i].host, host) == 0) return &tls->sessions[i];
    return NULL;
}

static void psh_tls_forget(struct psh_tls *tls, const char *host)
{
    struct psh_tls_session *session = psh_tls_find_session(tls, host);
    PUSHER_ASSERT(*host);
    if (!session) return;
    mbedtls_ssl_session_free(&session->session);
    mbedtls_ssl_session_init(&session->session);
    session->host[0] = '\0';
}

static void psh_tls_save(struct psh_tls_stream *s)
{
    struct psh_tls *tls = s->tls;
    psh_tls_forget(tls, s->host);
    struct psh_tls_session *session = psh_tls_find_session(tls, "");
    if (!session) {
        psh_tls_forget(tls, tls->sessions[tls->next_session].host);
        session = &tls->sessions[tls->next_session];
        tls->next_session = (tls->next_session + 1) % PSH_TLS_SESSIONS;
    }
    PUSHER_ASSERT(session->host[0] == '\0');
    if (mbedtls_ssl_get_session(&s->ssl, &session->session) == 0) {
        memcpy(session->host, s->host, sizeof s->host);
    } else { /* then the next handshake is a whole one */
        mbedtls_ssl_session_free(&session->session);
        mbedtls_ssl_session_init(&session->session);
    }
}

/* -- between mbedTLS and the inner stream -- */

/* Keeps the beginning of each record of the handshake: by it they are known who speak no TLS, and
   in it an alert is told. */
static void psh_tls_note(struct psh_tls_stream *s, const unsigned char *at, size_t len)
{
    if (s->phase != PSH_TLS_SHAKING) return;
    for (size_t i = 0; i < len; i++) {
        if (s->seen < PSH_TLS_HEAD) s->head[s->seen] = at[i];
        s->seen++;
        if (!s->known && s->seen == 2) {
            s->known = true;
            s->foreign = s->head[0] < 20 || s->head[0] > 23 || s->head[1] != 3;
        }
        if (s->seen < 5 || s->foreign) continue;
        if (s->seen >= 5u + ((unsigned)s->head[3] << 8 | s->head[4])) s->seen = 0;
    }
}

static int psh_tls_pull(void *context, unsigned char *buf, size_t len)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)context;
    PUSHER_ASSERT(buf && len > 0);
    if (len > s->intake) len = s->intake;
    s->inner_said = PUSHER_IO_WANT_WRITE; /* enough for one call: again at once */
    if (len == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    int got = s->tls->inner.recv_fn(s->inner, buf, len);
    s->inner_said = got;
    if (got == PUSHER_IO_WANT_READ) return MBEDTLS_ERR_SSL_WANT_READ;
    if (got == PUSHER_IO_WANT_WRITE) return MBEDTLS_ERR_SSL_WANT_WRITE;
    if (got < 0) return PSH_TLS_BROKEN;
    s->intake -= (size_t)got;
    psh_tls_note(s, buf, (size_t)got);
    return got; /* 0: the end */
}

static int psh_tls_push(void *context, const unsigned char *buf, size_t len)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)context;
    PUSHER_ASSERT(buf && len > 0);
    int put = s->tls->inner.send_fn(s->inner, buf, len);
    s->inner_said = put;
    s->pending = put <= 0 || (size_t)put < len;
    if (put > 0) return put;
    if (put == PUSHER_IO_WANT_READ) return MBEDTLS_ERR_SSL_WANT_READ;
    return put == PUSHER_IO_WANT_WRITE ? MBEDTLS_ERR_SSL_WANT_WRITE : PSH_TLS_BROKEN;
}

#if MBEDTLS_VERSION_NUMBER < 0x04000000
static int psh_tls_random(void *context, unsigned char *out, size_t len)
{
    struct psh_tls *tls = (struct psh_tls *)context;
    while (len > 0) {
        size_t part = len < 256 ? len : 256;
        if (!psh_env_random(tls->env, out, part)) {
            tls->random_failed = true;
            return MBEDTLS_ERR_SSL_NO_RNG;
        }
        out += part;
        len -= part;
    }
    return 0;
}
#endif

/* Called for each certificate of the chain, the server's (depth 0) last. */
static int psh_tls_verify(void *context, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)context;
    PUSHER_ASSERT(crt && flags && depth >= 0);
    if (depth == 0) {
        s->checked = true;
        if (!psh_tls_is_for(s, crt)) *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    }
    if (*flags) psh_tls_say_flags(s, crt, depth, *flags);
    if (s->tls->accept_any) *flags = 0;
    return 0;
}

/* -- the stream -- */

/* For good. The inner stream's failure has the inner stream's text. */
static int psh_tls_die(struct psh_tls_stream *s, int code)
{
    struct psh_tls *tls = s->tls;
    uint32_t flags = mbedtls_ssl_get_verify_result(&s->ssl);
    PUSHER_ASSERT(s->phase != PSH_TLS_DEAD);
    bool inner = code == PSH_TLS_BROKEN;
    bool judged = flags && flags != UINT32_MAX && flags != MBEDTLS_X509_BADCERT_SKIP_VERIFY &&
                  !tls->accept_any;
    if (inner) {
        s->words[0] = '\0';
    } else if (code == 0 || code == MBEDTLS_ERR_SSL_CONN_EOF ||
               code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
        psh_tls_say_end(s);
    } else if (!judged) {
        psh_tls_say_code(s, code);
    } else if (!s->words[0]) {
        psh_tls_say_flags(s, NULL, 0, flags);
    }
    s->phase = PSH_TLS_DEAD;
    s->verdict = inner && s->inner_said < 0 ? s->inner_said : PUSHER_IO_ERROR_TLS;
    return s->verdict;
}

/* What a result of mbedTLS that is no success means for our caller. When not the inner stream would
   block, but mbedTLS wants to be called again, it is as with a stream that can be written to. */
static int psh_tls_result(struct psh_tls_stream *s, int code)
{
    switch (code) {
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return s->inner_said == PUSHER_IO_WANT_READ ? PUSHER_IO_WANT_READ : PUSHER_IO_WANT_WRITE;
    case MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS:
    case MBEDTLS_ERR_SSL_ASYNC_IN_PROGRESS: return PUSHER_IO_WANT_WRITE;
    default: return psh_tls_die(s, code > 0 ? -1 : code); /* a callback of the user's said so */
    }
}

/* Begins a call: mbedTLS may read so much. */
static void psh_tls_call(struct psh_tls_stream *s)
{
    s->intake = PSH_TLS_INTAKE;
    s->inner_said = 0;
    s->tls->random_failed = false;
}

static bool psh_tls_is_ticket(int code)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return code == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
#else
    (void)code; /* TLS 1.2 sends them within the handshake */
    return false;
#endif
}

static bool psh_tls_is_shaken(struct psh_tls_stream *s)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
    return mbedtls_ssl_is_handshake_over(&s->ssl) != 0;
#elif MBEDTLS_VERSION_NUMBER >= 0x03000000
    return s->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_HANDSHAKE_OVER;
#else
    return s->ssl.state == MBEDTLS_SSL_HANDSHAKE_OVER;
#endif
}

/* The inner stream stands: now mbedTLS takes its buffers. 0, or its error. The name is set in any
   case. An address is not sent as a name (RFC 6066): the callback compares it. A saved session is
   offered once: should the handshake come to nothing, it may have been the reason. */
static int psh_tls_begin(struct psh_tls_stream *s)
{
    struct psh_tls *tls = s->tls;
    struct psh_tls_session *session = psh_tls_find_session(tls, s->host);
    bool own = tls->config == &tls->own;
    int code = mbedtls_ssl_setup(&s->ssl, tls->config);
    if (code == 0)
        code = mbedtls_ssl_set_hostname(&s->ssl, own && s->address_len ? NULL : s->host);
    if (code != 0) return code;
    if (own) mbedtls_ssl_set_verify(&s->ssl, psh_tls_verify, s);
    mbedtls_ssl_set_bio(&s->ssl, s, psh_tls_push, psh_tls_pull, NULL);
    s->resuming = session && mbedtls_ssl_set_session(&s->ssl, &session->session) == 0;
    psh_tls_forget(tls, s->host);
    if (tls->accept_any) psh_env_log(tls->env, "TLS: ANY certificate is accepted: anybody can be "
                                               "the server (insecure_accept_any_certificate)");
    return 0;
}

/* With a configuration that asks for no certificate some versions of mbedTLS call the result clean:
   there was nothing that could have failed. */
static bool psh_tls_asks(const mbedtls_ssl_config *config)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return config->MBEDTLS_PRIVATE(authmode) != MBEDTLS_SSL_VERIFY_NONE;
#else
    return config->authmode != MBEDTLS_SSL_VERIFY_NONE;
#endif
}

/* The handshake is through. Nothing is taken for verified that was not seen to be. */
static int psh_tls_finish(struct psh_tls_stream *s)
{
    struct psh_tls *tls = s->tls;
    bool own = tls->config == &tls->own;
    uint32_t flags = mbedtls_ssl_get_verify_result(&s->ssl);
    PUSHER_ASSERT(s->phase == PSH_TLS_SHAKING);
    bool seen = own ? s->checked || s->resuming : psh_tls_asks(tls->config);
    if (!tls->accept_any && (flags != 0 || !seen)) {
        psh_env_add(psh_tls_say(s), "the certificate was not verified");
        s->phase = PSH_TLS_DEAD;
        s->verdict = PUSHER_IO_ERROR_TLS;
        return s->verdict;
    }
    s->phase = PSH_TLS_OPEN;
    s->words[0] = '\0';
    /* Where the offer was declined mbedTLS holds the new keys, but perhaps the old ticket. */
    bool declined = s->resuming && s->checked;
    if (!declined && strcmp(mbedtls_ssl_get_version(&s->ssl), "TLSv1.2") == 0) psh_tls_save(s);
    return 1;
}

static void *psh_tls_open(const char *host, uint16_t port, void *user_data)
{
    struct psh_tls *tls = (struct psh_tls *)user_data;
    size_t len = strlen(host);
    PUSHER_ASSERT(tls->config);
    if (len > 0 && host[len - 1] == '.') len--; /* the root's dot stands in no certificate */
    if (len == 0 || len >= PSH_TLS_HOST) return NULL;
    struct psh_tls_stream *s = (struct psh_tls_stream *)psh_env_alloc(tls->env, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->tls = tls;
    memcpy(s->host, host, len);
    s->address_len = psh_tls_ipv4(s->host, s->address);
    if (!s->address_len) s->address_len = psh_tls_ipv6(s->host, s->address);
    mbedtls_ssl_init(&s->ssl);
    s->inner = tls->inner.open_fn(host, port, tls->inner.user_data);
    if (s->inner) return s;
    mbedtls_ssl_free(&s->ssl);
    psh_env_free(tls->env, s);
    return NULL;
}

/* One step of the handshake, and no more: the dear ones cost milliseconds. */
static int psh_tls_ready(void *stream)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    if (s->phase == PSH_TLS_OPEN) return 1;
    if (s->phase == PSH_TLS_DEAD) return s->verdict;
    psh_tls_call(s);
    if (s->phase == PSH_TLS_CONNECTING) {
        int ready = s->tls->inner.ready_fn(s->inner);
        if (ready <= 0) return ready;
        s->phase = PSH_TLS_SHAKING;
        int code = psh_tls_begin(s);
        if (code != 0) return psh_tls_die(s, code);
    }
    int code = mbedtls_ssl_handshake_step(&s->ssl);
    if (s->foreign && s->seen >= 5) code = MBEDTLS_ERR_SSL_INVALID_RECORD; /* why wait for more? */
    if (psh_tls_is_ticket(code)) psh_tls_save(s);
    else if (code != 0) return psh_tls_result(s, code);
    return psh_tls_is_shaken(s) ? psh_tls_finish(s) : PUSHER_IO_WANT_WRITE;
}

static int psh_tls_recv(void *stream, void *buf, size_t len)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    PUSHER_ASSERT(buf && len > 0 && s->phase >= PSH_TLS_OPEN);
    if (s->phase == PSH_TLS_DEAD) return s->verdict;
    psh_tls_call(s);
    for (int i = 0; i < PSH_TLS_TICKETS; i++) {
        int got = mbedtls_ssl_read(&s->ssl, (unsigned char *)buf, len);
        if (got > 0) return got;
        if (got == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return PUSHER_IO_EOF;
        if (got == 0 && s->inner_said > 0) continue; /* records without data, and no end */
        if (!psh_tls_is_ticket(got)) return psh_tls_result(s, got);
        psh_tls_save(s);
    }
    return PUSHER_IO_WANT_WRITE;
}

/* Writes one record. After WANT mbedTLS holds it, and counts on the same bytes coming again: if a
   read has meanwhile pushed it out, to make room for an alert, it is not to be written twice. */
static int psh_tls_write(struct psh_tls_stream *s, const unsigned char *buf, size_t len)
{
    size_t unsent = s->unsent;
    PUSHER_ASSERT(unsent <= len);
    if (unsent > 0 && !s->pending) {
        s->unsent = 0;
        return (int)unsent;
    }
    if (unsent == 0 && s->pending) { /* an alert; while it is pending, no record is made */
        int code = mbedtls_ssl_write(&s->ssl, buf, 0);
        if (code < 0) return code;
    }
    int put = mbedtls_ssl_write(&s->ssl, buf, unsent ? unsent : len);
    s->unsent = put < 0 && s->pending ? len : 0;
    return put;
}

static int psh_tls_send(void *stream, const void *buf, size_t len)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    PUSHER_ASSERT(buf && len > 0 && s->phase >= PSH_TLS_OPEN);
    if (s->phase == PSH_TLS_DEAD) return s->verdict;
    int most = mbedtls_ssl_get_max_out_record_payload(&s->ssl);
    if (most > 0 && len > (size_t)most) len = (size_t)most;
    psh_tls_call(s);
    for (int i = 0; i < PSH_TLS_TICKETS; i++) {
        int put = psh_tls_write(s, (const unsigned char *)buf, len);
        if (put > 0) return put;
        if (!psh_tls_is_ticket(put)) return put < 0 ? psh_tls_result(s, put) : PUSHER_IO_WANT_WRITE;
        psh_tls_save(s);
    }
    return PUSHER_IO_WANT_WRITE;
}

/* With a goodbye, if the stream takes it at once. */
static void psh_tls_close(void *stream)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    struct psh_tls *tls = s->tls;
    PUSHER_ASSERT(tls->config);
    psh_tls_call(s);
    if (s->phase == PSH_TLS_OPEN && !s->pending) (void)mbedtls_ssl_close_notify(&s->ssl);
    tls->inner.close_fn(s->inner);
    mbedtls_ssl_free(&s->ssl);
    psh_env_free(tls->env, s);
}

static const char *psh_tls_error(void *stream)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    if (s->words[0]) return s->words;
    return s->tls->inner.error_fn ? s->tls->inner.error_fn(s->inner) : NULL;
}

/* For error texts: the inner stream stands, and the handshake is under way. */
static bool psh_tls_is_shaking(const void *stream)
{
    return ((const struct psh_tls_stream *)stream)->phase == PSH_TLS_SHAKING;
}

static intptr_t psh_tls_fd(void *stream)
{
    struct psh_tls_stream *s = (struct psh_tls_stream *)stream;
    return s->tls->inner.fd_fn ? s->tls->inner.fd_fn(s->inner) : -1;
}

static pusher_transport psh_tls_transport(struct psh_tls *tls)
{
    pusher_transport transport;
    PUSHER_ASSERT(tls->config);
    transport.open_fn = psh_tls_open;
    transport.ready_fn = psh_tls_ready;
    transport.recv_fn = psh_tls_recv;
    transport.send_fn = psh_tls_send;
    transport.close_fn = psh_tls_close;
    transport.error_fn = psh_tls_error;
    transport.fd_fn = psh_tls_fd;
    transport.user_data = tls;
    return transport;
}

/* -- making it -- */

/* Memory: PEM, one or more certificates, or DER, one. mbedTLS wants PEM with its NUL. */
static int psh_tls_load_memory(struct psh_tls *tls, const void *ca, size_t len)
{
    const unsigned char *at = (const unsigned char *)ca;
    if (len == 0) len = strlen((const char *)ca);
    if (len > 0 && at[0] == 0x30) return mbedtls_x509_crt_parse_der(&tls->authorities, at, len);
    char *text = psh_env_copy(tls->env, (const char *)ca, len);
    if (!text) return PSH_TLS_STARVED;
    int bad = mbedtls_x509_crt_parse(&tls->authorities, (const unsigned char *)text, len + 1);
    psh_env_free(tls->env, text);
    return bad;
}

static int psh_tls_load_file(struct psh_tls *tls, const char *path)
{
#if defined(MBEDTLS_FS_IO)
    PUSHER_ASSERT(path && *path);
    return mbedtls_x509_crt_parse_file(&tls->authorities, path);
#else
    (void)tls;
    (void)path;
    return PSH_TLS_BROKEN;
#endif
}

/* What the system trusts. Some of it may be beyond mbedTLS; nothing at all is an error, and so is a
   list that ends where memory did. */
static int psh_tls_load_system(struct psh_tls *tls)
{
    int code = 0;
    PUSHER_ASSERT(tls->authorities.version == 0);
#if defined(_WIN32)
    const CERT_CONTEXT *at = NULL;
    HCERTSTORE store = CertOpenSystemStoreA(0, "ROOT");
    if (!store) return PSH_TLS_BROKEN;
    while ((at = CertEnumCertificatesInStore(store, at)) != NULL) {
        int bad = mbedtls_x509_crt_parse_der(&tls->authorities, at->pbCertEncoded,
                                             at->cbCertEncoded);
        if (psh_tls_no_memory(bad)) code = bad;
    }
    CertCloseStore(store, 0);
#else
    static const char *const files[] = {
        "/etc/ssl/certs/ca-certificates.crt",     /* Debian, Arch, Alpine */
        "/etc/pki/tls/certs/ca-bundle.crt",       /* Fedora */
        "/etc/ssl/ca-bundle.pem",                 /* openSUSE */
        "/etc/ssl/cert.pem",                      /* macOS, OpenBSD, FreeBSD */
        "/usr/local/share/certs/ca-root-nss.crt", /* older FreeBSD */
        "/etc/openssl/certs/ca-certificates.crt"  /* NetBSD */
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        code = psh_tls_load_file(tls, files[i]);
        if (tls->authorities.version != 0 || psh_tls_no_memory(code)) break;
    }
#if defined(MBEDTLS_FS_IO) && defined(__ANDROID__)
    code = mbedtls_x509_crt_parse_path(&tls->authorities, "/system/etc/security/cacerts");
#endif
#endif
    if (psh_tls_no_memory(code)) return code;
    return tls->authorities.version != 0 ? 0 : PSH_TLS_BROKEN;
}

/* What is wrong with what is given, in *wrong; or _MEMORY. */
static pusher_result psh_tls_load(struct psh_tls *tls, const pusher_tls_options *o,
                                  const char **wrong)
{
    const char *why = "options.tls.ca_file cannot be read, or holds no certificate";
    int code = 0;
    PUSHER_ASSERT(tls->authorities.version == 0);
    if (o->ca_file) code = *o->ca_file ? psh_tls_load_file(tls, o->ca_file) : PSH_TLS_BROKEN;
    if (code >= 0 && o->ca) {
        why = "options.tls.ca holds no certificate, in PEM or in DER";
        code = psh_tls_load_memory(tls, o->ca, o->ca_len);
    }
    if (!o->ca_file && !o->ca) {
        why = "TLS: this system's list of authorities was not found: give options.tls.ca_file "
              "or options.tls.ca";
        code = psh_tls_load_system(tls);
    }
    if (code >= 0) return PUSHER_OK;
    if (psh_tls_no_memory(code)) return PUSHER_ERR_MEMORY;
    *wrong = why;
    return PUSHER_ERR_TLS;
}

/* TLS 1.2 at least, a certificate required. */
static const char *psh_tls_configure(struct psh_tls *tls)
{
    mbedtls_ssl_config *config = &tls->own;
    PUSHER_ASSERT(tls->config == config);
    if (mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0)
        return "TLS: no memory for mbedTLS' configuration";
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
    mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
#if MBEDTLS_VERSION_NUMBER < 0x04000000
    mbedtls_ssl_conf_rng(config, psh_tls_random, tls);
#endif
#if MBEDTLS_VERSION_NUMBER >= 0x03060100 && defined(MBEDTLS_SSL_PROTO_TLS1_3) &&                   \
    defined(MBEDTLS_SSL_SESSION_TICKETS)
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
        config, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
    mbedtls_ssl_conf_authmode(config, tls->accept_any ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                      : MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(config, &tls->authorities, NULL);
    return NULL;
}

/* inner is copied, env stays. On failure, but for _MEMORY, *wrong is a constant sentence; and
   psh_tls_free() is still to be called. */
static pusher_result psh_tls_init(struct psh_tls *tls, const struct psh_env *env,
                                  const pusher_transport *inner, const pusher_tls_options *o,
                                  const char **wrong)
{
    PUSHER_ASSERT(env && inner->open_fn && wrong);
    memset(tls, 0, sizeof *tls);
    tls->env = env;
    tls->inner = *inner;
    tls->accept_any = o->insecure_accept_any_certificate;
    mbedtls_ssl_config_init(&tls->own);
    mbedtls_x509_crt_init(&tls->authorities);
    for (uint32_t i = 0; i < PSH_TLS_SESSIONS; i++)
        mbedtls_ssl_session_init(&tls->sessions[i].session);
    tls->config = o->ssl_config ? (const mbedtls_ssl_config *)o->ssl_config : &tls->own;
    *wrong = NULL;
#if defined(PSH_TLS_PSA)
    if (psa_crypto_init() != PSA_SUCCESS)
        *wrong = "TLS: mbedTLS' crypto does not start: no memory, or no random source of its own";
#endif
    if (!*wrong && !o->ssl_config) *wrong = psh_tls_configure(tls);
    if (*wrong) return PUSHER_ERR_TLS;
    return o->ssl_config || tls->accept_any ? PUSHER_OK : psh_tls_load(tls, o, wrong);
}

/* Also of what was only zeroed. Its streams are closed. */
static void psh_tls_free(struct psh_tls *tls)
{
    if (!tls->config) return;
    for (uint32_t i = 0; i < PSH_TLS_SESSIONS; i++)
        mbedtls_ssl_session_free(&tls->sessions[i].session);
    mbedtls_ssl_config_free(&tls->own);
    mbedtls_x509_crt_free(&tls->authorities);
    tls->config = NULL;
}

#endif /* PUSHER_TLS */

// >>auth
/* Authorizations: which way they go, what is asked, and what is made of an answer. The exchange
   with an endpoint is bytes in and bytes out; the client moves them. */

enum psh_verdict { PSH_VERDICT_NONE = 0, PSH_VERDICT_YES, PSH_VERDICT_NO, PSH_VERDICT_LATER };

/* The authorization of one channel, or of the user. */
struct psh_ask {
    uint32_t serial;       /* of the question that waits for its answer, or 0 */
    uint32_t batch;        /* serial of the first question in the same call */
    uint32_t asked_at;     /* low bits of the client's time */
    uint32_t attempt;      /* questions in a row without a yes */
    uint32_t wait_ms;      /* until the next one at least, as the endpoint has said */
    int status;            /* of a refusal */
    unsigned char verdict; /* enum psh_verdict */
    unsigned char reason;  /* enum pusher_auth_reason, of the next question */
    unsigned char code;    /* pusher_result, of a refusal */
    char *text;            /* yes: JSON members that prove it; no: why */
};

static void psh_auth_forget(const struct psh_env *env, struct psh_ask *ask)
{
    PUSHER_ASSERT(env && ask);
    psh_env_free_secret(env, ask->text);
    ask->text = NULL;
    ask->serial = 0;
    ask->verdict = PSH_VERDICT_NONE;
}

static void psh_auth_refuse(const struct psh_env *env, struct psh_ask *ask,
                            enum psh_verdict verdict, pusher_result code, int status,
                            const char *why)
{
    PUSHER_ASSERT(why && verdict >= PSH_VERDICT_NO);
    psh_auth_forget(env, ask);
    ask->verdict = (unsigned char)verdict;
    ask->code = (unsigned char)code;
    ask->status = status;
    ask->text = psh_env_copy(env, why, strlen(why)); /* without memory it stays unsaid */
}

enum psh_auth_way { PSH_WAY_NONE = 0, PSH_WAY_HOOK, PSH_WAY_USER_HOOK, PSH_WAY_POST,
                    PSH_WAY_USER_POST, PSH_WAY_SIGN };

enum psh_post_phase { PSH_POST_IDLE = 0, PSH_POST_OPENING, PSH_POST_SENDING, PSH_POST_READING };

struct psh_auth {
    pusher_auth_fn request_fn, user_fn;
    pusher_auth_prepare_fn prepare_fn;
    void *user_data;
    char *key, *secret, *channel_data, *signin_data;
    struct psh_url channel_url, user_url; /* host NULL: none */
    struct psh_buf fixed_fields, fixed_params;
    uint32_t max_batch, max_attempts, max_answer;
    uint32_t serial;           /* of the last question */
    /* The request under way, and the stream that is kept for the next one. */
    enum psh_post_phase phase;
    bool preparing, reused;    /* prepare_fn runs; the stream has served before */
    bool starved;              /* something of prepare_fn's found no room: it would be missed */
    const struct psh_url *url; /* where the stream goes */
    pusher_ticket ticket;
    struct psh_buf fields, params, out;
    size_t out_at, retry;
    struct psh_reply reply;
    void *stream;
    uint64_t idle_at, deadline; /* when the unused stream is closed; when the answer is late */
};

static enum psh_auth_way psh_auth_way(const struct psh_auth *auth, bool user)
{
    PUSHER_ASSERT(auth);
    if (user && auth->user_fn) return PSH_WAY_USER_HOOK;
    if (user && auth->user_url.host) return PSH_WAY_USER_POST;
    if (auth->request_fn) return PSH_WAY_HOOK;
    if (!user && auth->channel_url.host) return PSH_WAY_POST;
    return auth->secret && (!user || auth->signin_data) ? PSH_WAY_SIGN : PSH_WAY_NONE;
}

static void psh_auth_free(const struct psh_env *env, struct psh_auth *auth)
{
    struct psh_buf *bufs[5];
    bufs[0] = &auth->fixed_fields, bufs[1] = &auth->fixed_params, bufs[2] = &auth->fields;
    bufs[3] = &auth->params, bufs[4] = &auth->out;
    for (int i = 0; i < 5; i++) psh_env_release(env, bufs[i]);
    psh_env_release(env, &auth->reply.body);
    psh_http_url_free(env, &auth->channel_url);
    psh_http_url_free(env, &auth->user_url);
    psh_env_free(env, auth->key);
    psh_env_free_secret(env, auth->secret);
    psh_env_free(env, auth->channel_data);
    psh_env_free(env, auth->signin_data);
    psh_env_wipe(auth, sizeof *auth); /* reply.head has the last line it read */
    psh_env_free(env, auth);
}

enum { PSH_AUTH_REQUEST = 65536 }; /* bytes of a request's headers, and of its body */

static void psh_auth_secret_buf(struct psh_buf *buf)
{
    buf->max = PSH_AUTH_REQUEST;
    buf->secret = true;
}

/* One more header; _MEMORY: there is no room for it, _ARGUMENT: it cannot be sent. */
static pusher_result psh_auth_field(const struct psh_env *env, struct psh_buf *fields,
                                    const char *name, const char *value)
{
    PUSHER_ASSERT(fields->secret);
    if (!psh_env_reserve(env, fields, strlen(name) + strlen(value) + 4)) return PUSHER_ERR_MEMORY;
    return psh_http_field(env, fields, name, value) ? PUSHER_OK : PUSHER_ERR_ARGUMENT;
}

/* Fixed headers and parameters, in the form in which they are sent. */
static const char *psh_auth_set_pairs(const struct psh_env *env, struct psh_auth *auth,
                                      const pusher_auth_options *o, bool *memory)
{
    pusher_result result = PUSHER_OK;
    for (size_t i = 0; i < o->header_count && !*memory; i++) {
        const pusher_pair *pair = &o->headers[i];
        if (pair->name && pair->value)
            result = psh_auth_field(env, &auth->fixed_fields, pair->name, pair->value);
        if (!pair->name || !pair->value || result == PUSHER_ERR_ARGUMENT)
            return "options.auth.headers has one that cannot be sent";
        *memory = result == PUSHER_ERR_MEMORY;
    }
    for (size_t i = 0; i < o->param_count && !*memory; i++) {
        const pusher_pair *pair = &o->params[i];
        if (!pair->name || !pair->value) return "options.auth.params has one that cannot be sent";
        *memory = !psh_http_form(env, &auth->fixed_params, pair->name, pair->value,
                                 strlen(pair->value));
    }
    return NULL;
}

/* The user's JSON, checked for what it must hold. */
static const char *psh_auth_bad_user(const pusher_auth_options *o)
{
    struct psh_value value;
    const char *text = o->channel_data;
    if (text && (!psh_proto_pick(text, strlen(text), "user_id", &value) || value.len == 0 ||
                 (!value.string && !psh_json_digit((unsigned char)value.at[value.len - 1]))))
        return "options.auth.channel_data must be a JSON object with a user_id, text or number";
    text = o->signin_data;
    if (text && (!psh_proto_pick(text, strlen(text), "id", &value) || !value.string))
        return "options.auth.signin_data must be a JSON object with an id that is a string";
    if ((o->channel_data || o->signin_data) && !o->secret)
        return "options.auth.channel_data and signin_data go with options.auth.secret";
    return NULL;
}

static const char *psh_auth_bad_options(const pusher_auth_options *o)
{
    if ((o->header_count && !o->headers) || (o->param_count && !o->params))
        return "options.auth counts headers or params that are not there";
    if (o->secret && !*o->secret) return "options.auth.secret is empty";
    if (o->max_batch > 65536) return "options.auth.max_batch is over 65536";
    if (o->max_answer_bytes > INT32_MAX) return "options.auth.max_answer_bytes is over 2 GiB";
    return psh_auth_bad_user(o);
}

static bool psh_auth_set_text(const struct psh_env *env, char **to, const char *text)
{
    PUSHER_ASSERT(to && !*to);
    if (text) *to = psh_env_copy(env, text, strlen(text));
    return !text || *to;
}

/* NULL, or what is wrong with the options; *memory: there was not enough of it. */
static const char *psh_auth_init(struct psh_auth *auth, const struct psh_env *env,
                                 const pusher_options *options, bool *memory)
{
    const pusher_auth_options *o = &options->auth;
    const char *wrong = psh_auth_bad_options(o);
    memset(auth, 0, sizeof *auth);
    auth->request_fn = o->request_fn;
    auth->user_fn = o->user_fn;
    auth->prepare_fn = o->prepare_fn;
    auth->user_data = o->user_data;
    auth->max_batch = o->max_batch ? o->max_batch : 1;
    auth->max_attempts = o->max_attempts ? o->max_attempts : 3;
    auth->max_answer = o->max_answer_bytes ? o->max_answer_bytes : 16384;
    psh_auth_secret_buf(&auth->fixed_fields);
    psh_auth_secret_buf(&auth->fixed_params);
    psh_auth_secret_buf(&auth->fields);
    psh_auth_secret_buf(&auth->params);
    psh_auth_secret_buf(&auth->out);
    auth->out.max = 3 * (size_t)PSH_AUTH_REQUEST;
    if (!wrong && o->endpoint) wrong = psh_http_url(env, o->endpoint, &auth->channel_url, memory);
    if (!wrong && o->user_endpoint && !*memory)
        wrong = psh_http_url(env, o->user_endpoint, &auth->user_url, memory);
    if (!wrong && !*memory) wrong = psh_auth_set_pairs(env, auth, o, memory);
    if (wrong || *memory) return wrong;
    *memory = !psh_auth_set_text(env, &auth->key, options->key) ||
              !psh_auth_set_text(env, &auth->secret, o->secret) ||
              !psh_auth_set_text(env, &auth->channel_data, o->channel_data) ||
              !psh_auth_set_text(env, &auth->signin_data, o->signin_data);
    return NULL;
}

/* "auth":"key:signature", with the text that was signed for, as a JSON string. */
static bool psh_auth_sign(const struct psh_env *env, const struct psh_auth *auth,
                          const pusher_auth_request *request, bool presence, struct psh_ask *ask)
{
    PUSHER_ASSERT(auth->secret);
    bool user = request->kind == PUSHER_AUTH_USER;
    const char *data = user ? auth->signin_data : presence ? auth->channel_data : NULL;
    const char *middle = user ? "::user::" : ":", *end = !user && data ? ":" : "";
    struct psh_codec_piece pieces[5];
    char hex[PSH_SHA256_HEX];
    struct psh_text text;
    size_t cap = strlen(auth->key) + sizeof hex + 40 + (data ? 6 * strlen(data) : 0);
    pieces[0].at = request->socket_id;
    pieces[1].at = middle;
    pieces[2].at = request->channel_name;
    pieces[3].at = end;
    pieces[4].at = data ? data : "";
    for (int i = 0; i < 5; i++) pieces[i].len = strlen(pieces[i].at);
    if (!psh_codec_hmac_hex(auth->secret, pieces, 5, hex)) return false;
    ask->text = (char *)psh_env_alloc(env, cap);
    if (!ask->text) return false;
    psh_env_text(&text, ask->text, cap);
    psh_env_add(&text, "\"auth\":\"");
    psh_env_add(&text, auth->key);
    psh_env_add(&text, ":");
    psh_env_add(&text, hex);
    psh_env_add(&text, "\"");
    if (data) psh_env_add(&text, user ? ",\"user_data\":" : ",\"channel_data\":");
    if (data) psh_json_quote(&text, data, strlen(data));
    PUSHER_ASSERT(!text.cut);
    ask->verdict = PSH_VERDICT_YES;
    return true;
}

static void psh_auth_add_raw(struct psh_text *text, const char *name, const struct psh_value *value)
{
    if (!value->string) return;
    psh_env_add(text, name);
    psh_env_add_bytes(text, value->raw, value->raw_len);
}

/* What an answer proves, byte for byte as it came: it is signed. The secret stays here. */
static bool psh_auth_prove(const struct psh_env *env, const struct psh_answer *answer,
                           struct psh_ask *ask)
{
    PUSHER_ASSERT(answer->auth.string && !ask->text);
    struct psh_text text;
    size_t cap = answer->auth.raw_len + answer->channel_data.raw_len + answer->user_data.raw_len;
    cap += 48;
    ask->text = (char *)psh_env_alloc(env, cap);
    if (!ask->text) return false;
    psh_env_text(&text, ask->text, cap);
    psh_auth_add_raw(&text, "\"auth\":", &answer->auth);
    psh_auth_add_raw(&text, ",\"channel_data\":", &answer->channel_data);
    psh_auth_add_raw(&text, ",\"user_data\":", &answer->user_data);
    PUSHER_ASSERT(!text.cut);
    ask->verdict = PSH_VERDICT_YES;
    return true;
}

/* -- the endpoint -- */

/* Begins a request; prepare_fn may then add to fields and params. */
static bool psh_auth_begin(const struct psh_env *env, struct psh_auth *auth,
                           const pusher_auth_request *request)
{
    PUSHER_ASSERT(auth->phase == PSH_POST_IDLE);
    const char *id = request->socket_id, *name = request->channel_name;
    auth->ticket = request->ticket;
    auth->fields.len = auth->params.len = auth->out.len = 0;
    if (!psh_http_form(env, &auth->params, "socket_id", id, strlen(id))) return false;
    if (*name && !psh_http_form(env, &auth->params, "channel_name", name, strlen(name)))
        return false;
    const struct psh_buf *params = &auth->fixed_params, *fields = &auth->fixed_fields;
    if (params->len && (!psh_http_add(env, &auth->params, "&", 1) ||
                        !psh_http_add(env, &auth->params, (const char *)params->data, params->len)))
        return false;
    return !fields->len ||
           psh_http_add(env, &auth->fields, (const char *)fields->data, fields->len);
}

static bool psh_auth_finish(const struct psh_env *env, struct psh_auth *auth,
                            const struct psh_url *url)
{
    PUSHER_ASSERT(auth->phase == PSH_POST_IDLE && url->host);
    return psh_http_post(env, &auth->out, url, &auth->fields, &auth->params);
}

/* Before the (first or repeated) sending. */
static void psh_auth_rewind(const struct psh_env *env, struct psh_auth *auth)
{
    psh_env_release(env, &auth->reply.body);
    psh_http_reply_init(&auth->reply, auth->max_answer);
    auth->out_at = auth->retry = 0;
}

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
    PSH_SUB_IDLE = 0,   /* to be subscribed: in line for an authorization, or in the queue */
    PSH_SUB_ASKING,     /* waiting for its authorization */
    PSH_SUB_RETRYING,   /* waiting for the time to ask for it again */
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
    PSH_SUB_ASK = 0,  /* its turn in the line, and the question is put */
    PSH_SUB_GRANT,
    PSH_SUB_DENY,
    PSH_SUB_DEFER,    /* later */
    PSH_SUB_WAKE,     /* now */
    PSH_SUB_SEND,     /* its turn in the queue, and the frame is staged */
    PSH_SUB_ACK,
    PSH_SUB_NAK,
    PSH_SUB_LATE,     /* the deadline of the answer has passed */
    PSH_SUB_DROP,     /* the last reference was given back */
    PSH_SUB_AGAIN,    /* one more reference */
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
    case PSH_SUB_AT(PSH_SUB_IDLE, PSH_SUB_ASK):
        return psh_client_sub_to(PSH_SUB_ASKING, PSH_SUB_WAIT);
    case PSH_SUB_AT(PSH_SUB_ASKING, PSH_SUB_GRANT):
    case PSH_SUB_AT(PSH_SUB_RETRYING, PSH_SUB_WAKE):
    case PSH_SUB_AT(PSH_SUB_REFUSED, PSH_SUB_AGAIN):
        return psh_client_sub_to(PSH_SUB_IDLE, PSH_SUB_QUEUE);
    case PSH_SUB_AT(PSH_SUB_ASKING, PSH_SUB_DENY):
        return psh_client_sub_to(PSH_SUB_REFUSED, PSH_SUB_TELL);
    case PSH_SUB_AT(PSH_SUB_ASKING, PSH_SUB_DEFER):
        return psh_client_sub_to(PSH_SUB_RETRYING, PSH_SUB_QUEUE);
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
    case PSH_SUB_AT(PSH_SUB_ASKING, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_RETRYING, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_PENDING, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_LIVE, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_REFUSED, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_UNANSWERED, PSH_SUB_LOST):
        return psh_client_sub_to(PSH_SUB_IDLE, PSH_SUB_QUEUE);

    case PSH_SUB_AT(PSH_SUB_IDLE, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_ASKING, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_RETRYING, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_REFUSED, PSH_SUB_DROP):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_NAK):
    case PSH_SUB_AT(PSH_SUB_CANCELLED, PSH_SUB_LOST):
    case PSH_SUB_AT(PSH_SUB_LEAVING, PSH_SUB_SEND):
    case PSH_SUB_AT(PSH_SUB_LEAVING, PSH_SUB_LOST):
        return psh_client_sub_to(PSH_SUB_GONE, PSH_SUB_REMOVE);
    default: return psh_client_sub_to(state, 0);
    }
}

/* Two lists run through the channels: the order of subscription, and the work that waits. */
enum { PSH_BY_ORDER = 0, PSH_BY_WORK = 1, PSH_LINKS = 2 };

struct psh_link {
    uint32_t before, next; /* ids: index + 1 */
};

/* In entry.flags. */
enum { PSH_FLAG_WAS_LIVE = 1, PSH_FLAG_CACHED = 2 };

/* The user who signs in is one of these, too, without a name: the steps are the same. */
struct psh_channel {
    struct psh_entry entry; /* slot.spare, with PSH_FLAG_WAS_LIVE: since when events may be missed,
                               low bits of the client's time and what it slept */
    struct psh_handlers handlers;
    struct psh_link link[PSH_LINKS];
    uint32_t deadline;     /* of the answer or wait; low bits of the client's time */
    uint32_t more;         /* id of its struct psh_more, or 0 */
};

/* An event that waits for a new key, or a client event that waits for its channel. */
struct psh_held {
    struct psh_held *next;
    pusher_channel channel;
    size_t len;
    char text[1];
};

struct psh_line { /* of them */
    struct psh_held *first, *last;
    size_t bytes;
};

struct psh_crypt {
    unsigned char key[PSH_BOX_KEY];
    bool known, refreshing, refreshed; /* refreshed_at is set */
    uint64_t refreshed_at;
    struct psh_line held;
};

/* What a public channel does without. */
struct psh_more {
    struct psh_slot slot;
    uint32_t count;               /* of subscribers, as the server says */
    struct psh_ask ask;
    char *fields;                 /* more members of the subscription's data */
    char *me;                     /* presence: this client's user id */
    struct psh_members *members;
    struct psh_crypt *crypt;
};

/* Lists of channels by what they wait for; the first three, and RETRY, until a deadline. */
enum psh_work { PSH_WORK_NONE = 0, PSH_WORK_AUTH, PSH_WORK_WAIT, PSH_WORK_SIGNIN, PSH_WORK_TIMED,
                PSH_WORK_ASK = PSH_WORK_TIMED, PSH_WORK_ANSWERED, PSH_WORK_USER, PSH_WORK_RETRY,
                PSH_WORK_QUEUE, PSH_WORK_FREE, PSH_WORKS };

enum psh_wish { PSH_WISH_NONE = 0, PSH_WISH_UP, PSH_WISH_DOWN, PSH_WISH_RESTART, PSH_WISH_MOVE };

/* How a failure wants the next attempt. */
enum psh_urge { PSH_URGE_SOON = 0, PSH_URGE_LATER, PSH_URGE_NOW, PSH_URGE_STOP };

enum {
    PSH_LINGER_MS = 1000, /* for the other side to end the stream after our close frame */
    PSH_JUMP_MS = 5000,   /* a poll as late as this means that the clock, or the program, slept */
    PSH_LOOKUP_MS = 10,   /* how often a look-up is asked for its answer */
    PSH_POST_MS = 2,      /* how often the endpoint is: an event loop knows one stream only */
    PSH_POST_MOST_MS = 100, /* and how much more seldom when it takes long */
    PSH_ERROR_MS = 2000,  /* a close without a code this soon after an error event has its code */
    PSH_BATCH = 256,      /* channels told of, or asked for, in one poll */
    PSH_REFRESH_MS = 5000, /* between two questions for one channel's new key */
    PSH_KEEP_MS = 10000   /* how long the endpoint's stream is kept when nothing is asked */
};

struct psh_place { /* where the app is */
    char *host, *authority, *path;
    char *fields;              /* header lines of the user's: may be secrets */
    uint16_t port, usual_port; /* the usual one is not written in the authority */
};

struct pusher_client {
    struct psh_env env;
    pusher_transport transport;
    pusher_state_fn state_fn;
    pusher_error_fn error_fn;
    pusher_retry_fn retry_fn;
    void *user_data;
    struct psh_place place, *next; /* next: where pusher_switch() wants to go, or NULL */
    uint32_t activity_timeout_ms, pong_timeout_ms, unavailable_timeout_ms, connect_timeout_ms;
    uint32_t wait_ms[PSH_WORK_TIMED];
    uint32_t reconnect_base_ms, reconnect_cap_ms, max_attempts;
    uint32_t max_poll_bytes, max_channels, max_members, max_held, max_trigger, max_queued;

    int dispatched;                /* events, by the present poll */
    bool polling, doomed, more, now_wanted, ping_owed, pong_owed, started, jumped, instant_used;
    bool answered, user_owed;      /* an answer was given outside a poll; the user's channel is to
                                      be subscribed */
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
    uint32_t budget;               /* what the present poll may still send */
    uint64_t slept;                /* what the clock has jumped, all in all */

    struct psh_ws ws;
    struct psh_buf scratch;        /* a message's texts */
    struct psh_buf draft;          /* a message to be sent */
    const char *message;           /* the one being read */
    size_t message_len;
    struct psh_table table;
    struct psh_pool extras;        /* struct psh_more */
    struct psh_auth *auth;         /* NULL: nothing can be authorized */
    struct psh_bind bind;
    struct psh_handlers everyone;  /* PUSHER_ALL */
    struct psh_handlers user_handlers, watchers;
    uint32_t user;                 /* index of the user's entry, or PSH_NONE */
    uint16_t rate, sent_next;      /* size of sent_at, and the oldest in it */
    char *user_id;                 /* while signed in */
    struct psh_line triggers;      /* that wait for their channels */
    uint64_t *sent_at;             /* of the last client events, in a ring */
    struct psh_list order, work[PSH_WORKS];
    pusher_stats stats;
    pusher_error last;
    char socket_id[PSH_SOCKET_ID];
#if defined(PUSHER_TLS)
    struct psh_tls tls;
    bool tls_waits, tls_asked;     /* for the server to ask for it; it has done so */
#endif
    struct psh_text say;           /* the sentence being made */
    char words[240];
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
    if (index == PSH_NONE || index == client->user) return handle;
    if (psh_client_at(client, index)->entry.references == 0) return handle;
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

/* The channel's extras, or NULL. */
static struct psh_more *psh_client_more(const pusher_client *client, uint32_t index)
{
    uint32_t id = psh_client_at(client, index)->more;
    return id ? (struct psh_more *)psh_env_pool_at(&client->extras, id - 1) : NULL;
}

/* The same, made if need be; NULL when there is no memory. */
static struct psh_more *psh_client_need_more(pusher_client *client, uint32_t index)
{
    struct psh_channel *channel = psh_client_at(client, index);
    uint32_t at = 0;
    if (!channel->more && psh_env_pool_take(&client->extras, &at)) channel->more = at + 1;
    return psh_client_more(client, index);
}

static void psh_client_empty_line(const struct psh_env *env, struct psh_line *line)
{
    while (line->first) {
        struct psh_held *next = line->first->next;
        psh_env_free(env, line->first);
        line->first = next;
    }
    PUSHER_ASSERT(line->bytes == 0 || line->last);
    line->last = NULL;
    line->bytes = 0;
}

/* Copies text to the end of the line; false: it would be over max bytes, or there is no memory. */
static bool psh_client_hold(const struct psh_env *env, struct psh_line *line, size_t max,
                            pusher_channel channel, const char *text, size_t len)
{
    PUSHER_ASSERT(line->bytes <= max);
    if (len > max - line->bytes) return false;
    struct psh_held *held = (struct psh_held *)psh_env_alloc(env, sizeof *held + len);
    if (!held) return false;
    held->next = NULL;
    held->channel = channel;
    held->len = len;
    memcpy(held->text, text, len);
    held->text[len] = '\0';
    if (line->last) line->last->next = held;
    else line->first = held;
    line->last = held;
    line->bytes += len;
    return true;
}

/* Proofs and keys are of one connection; what waited for a new key is lost. */
static void psh_client_forget(pusher_client *client, struct psh_more *more)
{
    PUSHER_ASSERT(more);
    psh_auth_forget(&client->env, &more->ask);
    if (!more->crypt) return;
    for (struct psh_held *held = more->crypt->held.first; held; held = held->next)
        client->stats.dropped_held++;
    psh_client_empty_line(&client->env, &more->crypt->held);
    psh_env_wipe(more->crypt->key, sizeof more->crypt->key);
    more->crypt->known = more->crypt->refreshing = more->crypt->refreshed = false;
}

static void psh_client_free_more(pusher_client *client, uint32_t index)
{
    struct psh_channel *channel = psh_client_at(client, index);
    struct psh_more *more = psh_client_more(client, index);
    if (!more) return;
    psh_client_forget(client, more);
    if (more->members) psh_member_free(more->members);
    psh_env_free(&client->env, more->members);
    psh_env_free(&client->env, more->crypt);
    psh_env_free(&client->env, more->fields);
    psh_env_free(&client->env, more->me);
    psh_env_pool_give(&client->extras, channel->more - 1);
    channel->more = 0;
}

static void psh_client_free_gone(pusher_client *client)
{
    PUSHER_ASSERT(!client->polling);
    while (client->work[PSH_WORK_FREE].first) {
        uint32_t index = client->work[PSH_WORK_FREE].first - 1;
        psh_client_set_work(client, index, PSH_WORK_NONE);
        psh_client_free_more(client, index);
        psh_table_remove(&client->table, index);
    }
}

static bool psh_client_is_user(const pusher_client *client, uint32_t index)
{
    return index != PSH_NONE && index == client->user;
}

/* Must it be authorized before it can be sent? */
static bool psh_client_unproved(const pusher_client *client, uint32_t index)
{
    const struct psh_channel *channel = psh_client_at(client, index);
    const struct psh_more *more = psh_client_more(client, index);
    if (channel->entry.kind < PUSHER_KIND_PRIVATE && index != client->user) return false;
    return !more || more->ask.verdict != PSH_VERDICT_YES;
}

static enum psh_work psh_client_work_of(const pusher_client *client, uint32_t index,
                                        struct psh_sub_move move)
{
    if (move.actions & PSH_SUB_REMOVE) return PSH_WORK_FREE;
    if (move.actions & PSH_SUB_WAIT) {
        if (move.state == PSH_SUB_ASKING) return PSH_WORK_AUTH;
        return psh_client_is_user(client, index) ? PSH_WORK_SIGNIN : PSH_WORK_WAIT;
    }
    if (!(move.actions & PSH_SUB_QUEUE)) return PSH_WORK_NONE;
    if (move.state == PSH_SUB_RETRYING) return PSH_WORK_RETRY;
    if (move.state == PSH_SUB_IDLE && psh_client_unproved(client, index)) return PSH_WORK_ASK;
    return PSH_WORK_QUEUE;
}

static void psh_client_set_deadline(pusher_client *client, uint32_t index, enum psh_work work)
{
    PUSHER_ASSERT(work < PSH_WORKS);
    psh_client_set_work(client, index, work);
    if (work != PSH_WORK_NONE && work < PSH_WORK_TIMED)
        psh_client_at(client, index)->deadline = (uint32_t)client->now + client->wait_ms[work];
}

/* If the channel is taken again, it begins without what it had when it was given up. */
static void psh_client_renew(pusher_client *client, struct psh_more *more)
{
    PUSHER_ASSERT(more);
    psh_env_free(&client->env, more->fields);
    more->fields = NULL;
    more->count = 0;
    if (more->members) psh_member_free(more->members);
}

/* What a move means for the channel's proof and key. */
static void psh_client_tidy(pusher_client *client, uint32_t index, enum psh_sub_signal signal,
                            enum psh_sub state)
{
    struct psh_channel *channel = psh_client_at(client, index);
    struct psh_more *more = psh_client_more(client, index);
    if (signal == PSH_SUB_LOST && channel->entry.state == PSH_SUB_LIVE && index != client->user) {
        channel->entry.flags |= PSH_FLAG_WAS_LIVE;
        channel->entry.slot.spare = (uint32_t)(client->last_received + client->slept);
    }
    if (state == PSH_SUB_CANCELLED) channel->entry.flags = 0;
    if (!more) return;
    if (signal == PSH_SUB_SEND) psh_auth_forget(&client->env, &more->ask);
    if (signal == PSH_SUB_LOST || signal == PSH_SUB_AGAIN) more->ask.attempt = 0;
    if (signal == PSH_SUB_AGAIN) more->ask.reason = PUSHER_AUTH_RETRY;
    if (signal == PSH_SUB_LOST && more->ask.reason != PUSHER_AUTH_FIRST)
        more->ask.reason = PUSHER_AUTH_RECONNECT;
    if (signal == PSH_SUB_LOST || signal == PSH_SUB_NAK || state == PSH_SUB_LEAVING ||
        state == PSH_SUB_GONE)
        psh_client_forget(client, more);
    if (state == PSH_SUB_CANCELLED) psh_client_renew(client, more);
}

/* Moves the channel; true when its handlers are to be told. A channel that is gone is freed when
   the poll is over, for a callback further up may be about it. */
static bool psh_client_sub(pusher_client *client, uint32_t index, enum psh_sub_signal signal)
{
    PUSHER_ASSERT(signal < PSH_SUB_SIGNALS);
    struct psh_channel *channel = psh_client_at(client, index);
    struct psh_sub_move move =
        psh_client_sub_move((enum psh_sub)channel->entry.state, signal);
    if (move.state == (enum psh_sub)channel->entry.state && !move.actions) return false;
    psh_client_tidy(client, index, signal, move.state);
    channel->entry.state = (unsigned char)move.state;
    psh_client_set_deadline(client, index, psh_client_work_of(client, index, move));
    if (move.state == PSH_SUB_LEAVING || move.state == PSH_SUB_GONE)
        psh_table_unindex(&client->table, index);
    if (move.state == PSH_SUB_GONE && !client->polling) psh_client_free_gone(client);
    return (move.actions & PSH_SUB_TELL) != 0;
}

/* The transport of the endpoint's stream: with or without TLS, as its URL says. */
static pusher_transport psh_client_post_transport(pusher_client *client)
{
    PUSHER_ASSERT(client->auth && client->auth->url);
#if defined(PUSHER_TLS)
    if (client->auth->url->tls) return psh_tls_transport(&client->tls);
    if (client->tls.config) return client->tls.inner;
#endif
    return client->transport;
}

static void psh_client_post_close(pusher_client *client)
{
    struct psh_auth *auth = client->auth;
    if (auth && auth->stream) psh_client_post_transport(client).close_fn(auth->stream);
    if (!auth) return;
    auth->stream = NULL;
    auth->phase = PSH_POST_IDLE;
    psh_env_release(&client->env, &auth->reply.body); /* there may be a key in it */
}

static void psh_client_sign_out(pusher_client *client)
{
    psh_env_free(&client->env, client->user_id);
    client->user_id = NULL;
    client->user_owed = false;
}

/* The connection has gone: those somebody holds queue up again in the order of subscription, and
   the rest has nothing left to wait for. */
static void psh_client_reset_channels(pusher_client *client)
{
    struct psh_list *queue = &client->work[PSH_WORK_QUEUE], *wait = &client->work[PSH_WORK_WAIT];
    psh_client_sign_out(client);
    if (client->auth && client->auth->phase != PSH_POST_IDLE) psh_client_post_close(client);
    for (uint32_t id = client->order.first; id;) {
        uint32_t index = id - 1;
        struct psh_channel *channel = psh_client_at(client, index);
        id = channel->link[PSH_BY_ORDER].next;
        (void)psh_client_sub(client, index, PSH_SUB_LOST);
        PUSHER_ASSERT(channel->entry.state == PSH_SUB_IDLE);
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
    psh_env_add(say, client->place.authority);
    if (client->place.port == client->place.usual_port) {
        psh_env_add(say, ":");
        psh_env_add_uint(say, client->place.port);
    }
    psh_env_add(say, ": ");
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
    error.channel_name = index == PSH_NONE || psh_client_is_user(client, index)
                             ? NULL
                             : psh_client_at(client, index)->entry.name;
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

/* The event that the handlers see. */
static pusher_event psh_client_event(const pusher_client *client, uint32_t index,
                                     enum psh_kind kind, const struct psh_envelope *envelope)
{
    PUSHER_ASSERT(envelope->event.at);
    pusher_event event;
    const struct psh_value *data = &envelope->data, *user = &envelope->user_id;
    event.channel = psh_client_handle(client, index);
    event.channel_name = envelope->channel.string ? envelope->channel.at : "";
    event.name = psh_proto_public_name(kind, envelope->event.at);
    event.data = data->raw_len ? data->at : "";
    event.data_len = data->len;
    event.data_was_string = data->string;
    event.raw = data->raw_len ? data->raw : "";
    event.raw_len = data->raw_len;
    bool presence = index != PSH_NONE &&
                    psh_proto_is_presence((pusher_kind)psh_client_at(client, index)->entry.kind);
    bool sender = presence && user->len > 0 && (user->string || *user->at != 'n');
    event.user_id = sender ? user->at : NULL;
    event.member = NULL;
    event.from_cache = false;
    event.outage_ms = 0;
    return event;
}

/* handlers NULL: only PUSHER_ALL hears it. len: of the event's name. */
static void psh_client_give(pusher_client *client, const struct psh_handlers *handlers,
                            const pusher_event *event, size_t len)
{
    PUSHER_ASSERT(client->polling);
    if (client->doomed) return;
    uint32_t fired = psh_bind_dispatch(&client->bind, handlers, &client->everyone, len, client,
                                       event, &client->doomed);
    if (fired) client->dispatched++, client->stats.events++;
    else client->stats.events_unbound++;
}

/* Whose handlers hear what happens to this entry; index PSH_NONE: an event of no channel, or of
   one that is not ours. */
static const struct psh_handlers *psh_client_hearers(const pusher_client *client, uint32_t index)
{
    if (index == PSH_NONE) return NULL;
    if (psh_client_is_user(client, index)) return &client->user_handlers;
    const struct psh_channel *channel = psh_client_at(client, index);
    return channel->entry.references > 0 ? &channel->handlers : NULL;
}

static void psh_client_tell(pusher_client *client, uint32_t index, const pusher_event *event)
{
    psh_client_give(client, psh_client_hearers(client, index), event, strlen(event->name));
}

static void psh_client_emit(pusher_client *client, uint32_t index, enum psh_kind kind,
                            const struct psh_envelope *envelope)
{
    PUSHER_ASSERT(kind < PSH_KIND_INTERNAL);
    pusher_event event = psh_client_event(client, index, kind, envelope);
    psh_client_tell(client, index, &event);
}

/* An event of our own making, for the server sends none: data is JSON. */
static void psh_client_make(pusher_client *client, uint32_t index, const char *name,
                            const char *data)
{
    struct psh_envelope envelope;
    bool user = psh_client_is_user(client, index);
    memset(&envelope, 0, sizeof envelope);
    envelope.event.at = name;
    envelope.channel.at = user ? "" : psh_client_at(client, index)->entry.name;
    envelope.channel.string = true;
    envelope.data.at = envelope.data.raw = data;
    envelope.data.len = envelope.data.raw_len = strlen(data);
    psh_client_emit(client, index, PSH_KIND_EVENT, &envelope);
}

/* What a channel is called in an error text. */
static const char *psh_client_called(const pusher_client *client, uint32_t index)
{
    PUSHER_ASSERT(index != PSH_NONE);
    return psh_client_is_user(client, index) ? "sign-in" : psh_client_at(client, index)->entry.name;
}

/* A subscription or sign-in that came to nothing, for the reason in `why`. */
static void psh_client_tell_failed(pusher_client *client, uint32_t index, pusher_result code,
                                   const char *type, int status, const char *why)
{
    char json[400], brief[160];
    struct psh_text data, error, *say = psh_client_say(client);
    PUSHER_ASSERT(type && why);
    psh_env_text(&error, brief, sizeof brief);
    psh_env_add_foreign(&error, why, strlen(why));
    psh_env_text(&data, json, sizeof json);
    psh_env_add(&data, "{\"type\":\"");
    psh_env_add(&data, type);
    psh_env_add(&data, "\",\"error\":");
    psh_json_quote(&data, brief, error.len);
    if (status > 0) psh_env_add(&data, ",\"status\":");
    if (status > 0) psh_env_add_uint(&data, (uint64_t)status);
    psh_env_add(&data, "}");
    PUSHER_ASSERT(!data.cut);
    psh_env_add(say, psh_client_called(client, index));
    psh_env_add(say, ": ");
    psh_env_add_foreign(say, why, strlen(why));
    psh_client_report(client, code, status > 0 ? (uint32_t)status : 0, index);
    psh_client_make(client, index,
                    psh_client_is_user(client, index) ? "pusher:signin_error"
                                                      : "pusher:subscription_error",
                    json);
}

/* -- the connection -- */

static void psh_client_drop(pusher_client *client)
{
    PUSHER_ASSERT(client->phase != PSH_ONLINE || client->doomed || !client->polling);
    if (client->stream) client->transport.close_fn(client->stream);
    client->stream = NULL;
    client->want_recv = client->want_send = 0;
    client->socket_id[0] = '\0';
    client->ping_owed = client->pong_owed = client->user_owed = false;
    client->pong_by = client->pinged_at = PSH_NEVER;
    psh_ws_close(&client->ws);
}

#if defined(PUSHER_TLS)
/* From now on with TLS, if the server has asked for it (close code 4000). */
static void psh_client_go_tls(pusher_client *client)
{
    PUSHER_ASSERT(!client->stream);
    if (!client->tls_asked) return;
    client->tls_asked = false;
    client->transport = psh_tls_transport(&client->tls);
    struct psh_place *place = &client->place;
    if (place->port == place->usual_port) place->port = place->usual_port = 443;
}
#endif

static void psh_client_empty_place(const struct psh_env *env, struct psh_place *place)
{
    psh_env_free(env, place->host);
    psh_env_free(env, place->authority);
    psh_env_free(env, place->path);
    if (place->fields) psh_env_wipe(place->fields, strlen(place->fields));
    psh_env_free(env, place->fields);
}

static void psh_client_free_place(const struct psh_env *env, struct psh_place *place)
{
    if (place) psh_client_empty_place(env, place);
    psh_env_free(env, place);
}

/* From now on at the place that pusher_switch() has named. */
static void psh_client_go_there(pusher_client *client)
{
    PUSHER_ASSERT(!client->stream); /* it may use the host's text */
    if (!client->next) return;
    psh_client_empty_place(&client->env, &client->place);
    client->place = *client->next;
    psh_env_free(&client->env, client->next);
    client->next = NULL;
}

/* A stream that cannot be opened is found missing by psh_client_progress(). */
static void psh_client_open(pusher_client *client)
{
    PUSHER_ASSERT(!client->stream);
    psh_client_go_there(client);
#if defined(PUSHER_TLS)
    psh_client_go_tls(client);
#endif
    client->stats.attempts++;
    client->error_code = 0;
    client->deadline = client->now + client->connect_timeout_ms;
    if (psh_ws_open(&client->ws))
        client->stream = client->transport.open_fn(client->place.host, client->place.port,
                                                   client->transport.user_data);
    psh_client_set_state(client, client->state == PUSHER_UNAVAILABLE ? PUSHER_UNAVAILABLE
                                                                     : PUSHER_CONNECTING);
}

/* Full jitter: anything from 0 to a bound that doubles with each failure, so that clients do not
   come back together. */
static uint32_t psh_client_backoff(pusher_client *client, uint32_t failures)
{
    uint64_t bound = client->reconnect_base_ms;
    uint32_t dice = 0, shift = failures > 32 ? 32 : failures;
    PUSHER_ASSERT(shift > 0);
    bound <<= shift - 1;
    if (bound > client->reconnect_cap_ms) bound = client->reconnect_cap_ms;
    if (!psh_env_random(&client->env, &dice, sizeof dice)) dice = UINT32_MAX;
    return (uint32_t)((bound + 1) * dice >> 32);
}

static uint32_t psh_client_delay(pusher_client *client)
{
    if (client->urge == PSH_URGE_NOW && !client->instant_used) {
        client->instant_used = true;
        return 0;
    }
    uint32_t delay = psh_client_backoff(client, client->failures);
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

static bool psh_client_stage(pusher_client *client, const char *text, size_t len)
{
    if (!psh_ws_send_text(&client->ws, text, len)) return false;
    client->stats.messages_sent++;
    client->last_sent = client->now; /* pongs do not count: they need not count for the server */
    return true;
}

static void psh_client_ping(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_ONLINE);
    client->ping_owed = true;
    client->pinged_at = client->last_sent = client->now; /* no other while it cannot be sent */
    client->pong_by = client->now + client->pong_timeout_ms;
}

static void psh_client_welcome(pusher_client *client)
{
    PUSHER_ASSERT(client->phase == PSH_ONLINE && client->socket_id[0]);
    if (client->stats.connections++) client->stats.reconnects++;
    client->connected_at = client->last_sent = client->now;
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
#if defined(PUSHER_TLS)
    if (server_code == 4000 && client->tls_waits) {
        client->tls_waits = false;
        client->tls_asked = true;
        urge = PSH_URGE_NOW;
        psh_env_add(&client->say, "; going on with TLS");
    }
#endif
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
    if (code) psh_env_add_uint(say, code);
    if (code && *reason) psh_env_add(say, " ");
    if (!code && !*reason) psh_env_add(say, "no reason given");
    psh_env_add_foreign(say, reason, strlen(reason));
#if defined(PUSHER_TLS)
    if (code == 4000) psh_env_add(say, " (it wants TLS: options.tls.mode)");
#else
    if (code == 4000) psh_env_add(say, " (it wants TLS: define PUSHER_TLS)");
#endif
}

/* A code in an error event counts for a close that comes right behind it without one. */
static uint32_t psh_client_recent_error(const pusher_client *client)
{
    bool recent = client->now - client->error_at <= PSH_ERROR_MS;
    return recent ? client->error_code : 0;
}

static pusher_result psh_client_io_result(int got)
{
    PUSHER_ASSERT(got <= 0);
    if (got == PUSHER_IO_ERROR_RESOLVE) return PUSHER_ERR_RESOLVE;
    return got == PUSHER_IO_ERROR_TLS ? PUSHER_ERR_TLS : PUSHER_ERR_IO;
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
    if (client->ws.close_seen) return; /* psh_client_on_close() says why it has ended */
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
    psh_client_fail(client, psh_client_io_result(got), code, psh_client_urge(code), false);
}

/* -- output -- */

enum { PSH_FRAME = 512 }; /* most messages fit in it */

/* A place for a message of at most len bytes; false: no memory. */
static bool psh_client_draft(pusher_client *client, struct psh_text *text, size_t len)
{
    client->draft.len = 0;
    client->draft.max = client->draft.cap > len ? client->draft.cap : len;
    if (!psh_env_reserve(&client->env, &client->draft, len)) return false;
    psh_env_text(text, (char *)client->draft.data, client->draft.cap);
    return true;
}

/* Room for a subscription's message; proof and fields may be NULL. */
static size_t psh_client_size(const struct psh_entry *entry, const char *proof, const char *fields)
{
    PUSHER_ASSERT(entry->name);
    return PSH_PROTO_FRAME + entry->name_len + (proof ? strlen(proof) : 0) +
           (fields ? strlen(fields) : 0);
}

/* The message that the entry's state asks for, in `place` if it is large enough. False: no
   memory. */
static bool psh_client_compose(pusher_client *client, uint32_t index, struct psh_text *text,
                               char place[PSH_FRAME])
{
    const struct psh_entry *entry = &psh_client_at(client, index)->entry;
    const struct psh_more *more = psh_client_more(client, index);
    const char *proof = more ? more->ask.text : NULL, *fields = more ? more->fields : NULL;
    PUSHER_ASSERT(entry->state == PSH_SUB_IDLE || entry->state == PSH_SUB_LEAVING);
    if (entry->state == PSH_SUB_LEAVING) proof = fields = NULL;
    size_t len = psh_client_size(entry, proof, fields);
    if (len <= PSH_FRAME) psh_env_text(text, place, PSH_FRAME);
    else if (!psh_client_draft(client, text, len)) return false;
    if (psh_client_is_user(client, index)) psh_proto_signin(text, proof);
    else if (entry->state == PSH_SUB_IDLE) psh_proto_subscribe(text, entry->name, proof, fields);
    else psh_proto_unsubscribe(text, entry->name);
    PUSHER_ASSERT(!text->cut);
    return true;
}

static void psh_client_no_memory(pusher_client *client, const char *what)
{
    psh_env_add(psh_client_say_where(client), what);
    psh_client_fail(client, PUSHER_ERR_MEMORY, 0, PSH_URGE_SOON, true);
}

/* The channel on which the server sends to the signed-in user needs no authorization. False: there
   is no room for it now. */
static bool psh_client_subscribe_user(pusher_client *client)
{
    struct psh_text text;
    size_t len = PSH_PROTO_FRAME + 6 * strlen(client->user_id);
    if (!psh_client_draft(client, &text, len)) {
        psh_client_no_memory(client, "no memory for a message");
        return false;
    }
    psh_proto_subscribe_user(&text, client->user_id);
    PUSHER_ASSERT(!text.cut);
    if (psh_ws_fits(&client->ws, text.len)) return psh_client_stage(client, text.at, text.len);
    psh_env_add(psh_client_say(client), "the user's own channel does not fit into "
                                        "options.max_output_bytes: no events for the user");
    psh_client_report(client, PUSHER_ERR_TOO_BIG, 0, PSH_NONE);
    return true;
}

/* When the next client event may go: the window of a second slides. */
static uint64_t psh_client_rate_at(const pusher_client *client)
{
    PUSHER_ASSERT(client->sent_next < client->rate);
    uint64_t oldest = client->sent_at ? client->sent_at[client->sent_next] : 0;
    return oldest ? oldest + 1000 : 0;
}

static void psh_client_rate_count(pusher_client *client)
{
    client->sent_at[client->sent_next] = client->now ? client->now : 1;
    client->sent_next = (uint16_t)((client->sent_next + 1u) % client->rate);
}

/* What becomes of a client event that waits for its channel. */
static enum psh_sub psh_client_trigger_state(const pusher_client *client,
                                             const struct psh_held *held)
{
    uint32_t index = psh_client_index(client, held->channel);
    if (index == PSH_NONE) return PSH_SUB_GONE;
    enum psh_sub state = (enum psh_sub)psh_client_at(client, index)->entry.state;
    return state == PSH_SUB_REFUSED ? PSH_SUB_GONE : state;
}

/* When the first of them whose channel is live may go. */
static uint64_t psh_client_trigger_at(const pusher_client *client)
{
    for (const struct psh_held *held = client->triggers.first; held; held = held->next) {
        enum psh_sub state = psh_client_trigger_state(client, held);
        if (state == PSH_SUB_GONE) return client->now;
        if (state == PSH_SUB_LIVE) return psh_client_rate_at(client);
    }
    return PSH_NEVER;
}

/* How much is staged and not sent. */
static size_t psh_client_owed(const pusher_client *client)
{
    PUSHER_ASSERT(client->ws.out_at <= client->ws.out_len);
    return client->ws.out_len - client->ws.out_at;
}

/* Client events whose channel is live by now, each channel's in their order. */
static void psh_client_send_triggers(pusher_client *client)
{
    struct psh_held *before = NULL, *next;
    for (struct psh_held *held = client->triggers.first; held; held = next) {
        enum psh_sub state = psh_client_trigger_state(client, held);
        next = held->next;
        if (state == PSH_SUB_LIVE) {
            if (psh_client_rate_at(client) > client->now ||
                psh_client_owed(client) >= client->budget ||
                !psh_client_stage(client, held->text, held->len))
                return;
            psh_client_rate_count(client);
        } else if (state == PSH_SUB_GONE) {
            client->stats.dropped_triggers++;
        } else {
            before = held;
            continue;
        }
        if (before) before->next = next;
        else client->triggers.first = next;
        if (!next) client->triggers.last = before;
        client->triggers.bytes -= held->len;
        psh_env_free(&client->env, held);
    }
}

/* What waits to be sent goes out, as long as there is room and this poll may send it. */
static void psh_client_pump(pusher_client *client)
{
    struct psh_list *queue = &client->work[PSH_WORK_QUEUE];
    char place[PSH_FRAME];
    struct psh_text text;
    psh_ws_pay_pong(&client->ws);
    if (client->phase != PSH_ONLINE) return;
    if (client->ping_owed && psh_client_stage(client, PSH_PROTO_PING, sizeof PSH_PROTO_PING - 1))
        client->ping_owed = false;
    if (client->pong_owed && psh_client_stage(client, PSH_PROTO_PONG, sizeof PSH_PROTO_PONG - 1))
        client->pong_owed = false;
    if (client->user_owed && psh_client_subscribe_user(client)) client->user_owed = false;
    while (queue->first && client->phase == PSH_ONLINE &&
           psh_client_owed(client) < client->budget) {
        uint32_t index = queue->first - 1;
        if (!psh_client_compose(client, index, &text, place)) {
            psh_client_no_memory(client, "no memory for a message");
            return;
        }
        if (!psh_client_stage(client, text.at, text.len)) return;
        (void)psh_client_sub(client, index, PSH_SUB_SEND);
    }
    if (client->phase == PSH_ONLINE) psh_client_send_triggers(client);
}

/* Sends what is staged, as much as this poll may. False when the stream takes no more. */
static bool psh_client_flush(pusher_client *client)
{
    size_t len;
    const unsigned char *bytes = psh_ws_output(&client->ws, &len);
    while (len > 0 && client->budget > 0) {
        if (len > client->budget && !client->ws.retry) len = client->budget;
        int put = client->transport.send_fn(client->stream, bytes, len);
        if (put <= 0) {
            client->want_send = put;
            psh_ws_blocked(&client->ws, len);
            if (put != PUSHER_IO_WANT_READ && put != PUSHER_IO_WANT_WRITE)
                psh_client_broken(client, put < 0 ? put : PUSHER_IO_ERROR);
            return false;
        }
        PUSHER_ASSERT((size_t)put <= len);
        client->want_send = 0;
        client->stats.bytes_sent += (uint64_t)put;
        client->budget -= (size_t)put > client->budget ? client->budget : (uint32_t)put;
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

/* Is there something that was not staged, for want of room? */
static bool psh_client_unstaged(const pusher_client *client)
{
    return client->work[PSH_WORK_QUEUE].first || client->user_owed || client->ping_owed ||
           client->pong_owed || client->ws.pong_owed;
}

static void psh_client_output(pusher_client *client)
{
    bool again = true;
    while (again && client->budget > 0 && psh_client_has_stream(client)) {
        psh_client_pump(client);
        if (client->ws.random_failed && client->phase <= PSH_ONLINE) {
            psh_client_no_random(client);
            return;
        }
        again = psh_client_flush(client) && client->phase == PSH_ONLINE &&
                psh_client_unstaged(client);
    }
}

/* -- input -- */

/* The server's no to a subscription or to the sign-in; an error that names no channel is told as
   the channel's. */
static void psh_client_refused(pusher_client *client, uint32_t index,
                               const struct psh_server_error *error,
                               const struct psh_envelope *envelope)
{
    PUSHER_ASSERT(index != PSH_NONE);
    struct psh_text *say = psh_client_say(client);
    struct psh_envelope told = *envelope;
    if (!psh_client_sub(client, index, PSH_SUB_NAK)) return;
    if (psh_client_is_user(client, index)) {
        client->answered = true; /* who waits for the sign-in waits no more */
        psh_client_tell_failed(client, index, PUSHER_ERR_SERVER, "AuthError", (int)error->code,
                               error->message);
        return;
    }
    told.channel.at = psh_client_at(client, index)->entry.name;
    told.channel.string = true;
    psh_env_add(say, told.channel.at);
    psh_env_add(say, ": the server refused the subscription: ");
    psh_client_say_code(say, error->code, error->message);
    psh_client_report(client, PUSHER_ERR_SERVER, error->code, index);
    psh_client_emit(client, index, PSH_KIND_REFUSED, &told);
}

/* The only one, sign-in or channel other than public, that waits for its answer; or PSH_NONE. */
static uint32_t psh_client_only_suspect(const pusher_client *client)
{
    uint32_t found = client->work[PSH_WORK_SIGNIN].first ? client->user : PSH_NONE;
    uint32_t id = client->work[PSH_WORK_WAIT].first;
    for (int looked = 0; id; looked++) {
        const struct psh_channel *channel = psh_client_at(client, id - 1);
        if (channel->entry.kind >= PUSHER_KIND_PRIVATE) {
            if (found != PSH_NONE) return PSH_NONE;
            found = id - 1;
        }
        if (looked > PSH_BATCH) return PSH_NONE; /* a flood of errors must not cost a walk each */
        id = channel->link[PSH_BY_WORK].next;
    }
    return found;
}

/* Which subscription an error is about, if it is one that waits for its answer. Its message is
   looked for the name where it stands: with a long one it would be cut. */
static uint32_t psh_client_accused(const pusher_client *client, uint32_t code,
                                   const struct psh_envelope *envelope)
{
    size_t len = 0;
    uint32_t index = PSH_NONE;
    const char *name = envelope->channel.string ? envelope->channel.at : NULL;
    if (name) len = envelope->channel.len;
    else if (envelope->data.raw_len)
        name = psh_proto_channel_in(envelope->data.at, client->socket_id, &len);
    if (name) index = psh_client_find(client, name, len);
    else if (code == 4009) index = psh_client_only_suspect(client); /* Reverb names none */
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
    uint32_t index = psh_client_accused(client, error.code, envelope);
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

/* Callbacks have asked for an end: nothing more is given out. */
static bool psh_client_halted(const pusher_client *client)
{
    return client->doomed || client->wish >= PSH_WISH_DOWN;
}

/* -- presence -- */

static struct psh_members *psh_client_new_members(pusher_client *client)
{
    struct psh_members *members =
        (struct psh_members *)psh_env_alloc(&client->env, sizeof *members);
    if (members) psh_member_init(members, &client->env, client->table.key, client->max_members);
    return members;
}

static void psh_client_drop_members(pusher_client *client, struct psh_members *members)
{
    if (members) psh_member_free(members);
    psh_env_free(&client->env, members);
}

static void psh_client_presence_error(pusher_client *client, uint32_t index, pusher_result code,
                                      const char *what)
{
    struct psh_text *say = psh_client_say(client);
    psh_env_add(say, psh_client_called(client, index));
    psh_env_add(say, what);
    psh_client_report(client, code, 0, index);
}

static void psh_client_full(pusher_client *client, uint32_t index)
{
    psh_client_presence_error(client, index, PUSHER_ERR_TOO_BIG,
                              ": more members than options.max_members; the rest is not listed");
}

static pusher_member psh_client_member(struct psh_member *from)
{
    pusher_member member = {NULL, NULL, 0};
    if (!from) return member;
    member.id = psh_member_id(from);
    member.info = psh_member_info(from);
    member.info_len = from->info_len;
    return member;
}

/* Tells of a member who came or went; data: as the server would have said it, or made here. */
static void psh_client_tell_member(pusher_client *client, uint32_t index, enum psh_kind kind,
                                   struct psh_member *who, const struct psh_envelope *said)
{
    struct psh_envelope envelope = *said;
    pusher_member member = psh_client_member(who);
    envelope.event.at = "pusher:";
    pusher_event event = psh_client_event(client, index, kind, &envelope);
    event.member = &member;
    psh_client_tell(client, index, &event);
}

/* Who is in `these` and not in `those`; until a handler gives the channel up. */
static void psh_client_tell_difference(pusher_client *client, uint32_t index, enum psh_kind kind,
                                       const struct psh_members *these,
                                       const struct psh_members *those)
{
    struct psh_envelope envelope;
    const struct psh_entry *entry = &psh_client_at(client, index)->entry;
    memset(&envelope, 0, sizeof envelope);
    envelope.channel.at = entry->name;
    envelope.channel.string = true;
    for (uint32_t i = 0; i < these->count && entry->references > 0 && !client->doomed; i++) {
        struct psh_member *who = these->items[i];
        const char *id = psh_member_id(who);
        if (psh_member_find(those, id, who->id_len) != PSH_NONE) continue;
        psh_client_tell_member(client, index, kind, who, &envelope);
    }
}

/* The list that the server sent, or NULL: then an error has been told. */
static struct psh_members *psh_client_snapshot(pusher_client *client, uint32_t index,
                                               const struct psh_value *data)
{
    struct psh_members *members = psh_client_new_members(client);
    enum psh_member_result result = PSH_MEMBER_MEMORY;
    if (members)
        result = psh_member_snapshot(members, data->raw_len ? data->at : "", data->len);
    if (result == PSH_MEMBER_FULL) psh_client_full(client, index);
    if (result == PSH_MEMBER_ADDED || result == PSH_MEMBER_FULL) return members;
    psh_client_drop_members(client, members);
    if (result == PSH_MEMBER_MEMORY)
        psh_client_presence_error(client, index, PUSHER_ERR_MEMORY, ": no memory for its members");
    else
        psh_client_presence_error(client, index, PUSHER_ERR_PARSE,
                                  ": the server's list of members cannot be read");
    return NULL;
}

/* For how long events may have been missed on a channel that was live before; up to 49 days. */
static uint32_t psh_client_outage(const pusher_client *client, const struct psh_channel *channel)
{
    return (uint32_t)(client->now + client->slept) - channel->entry.slot.spare;
}

/* The subscription is confirmed. A presence channel's list is replaced as a whole, and what has
   changed while the connection was lost is told one by one. */
static void psh_client_on_subscribed(pusher_client *client, uint32_t index,
                                     const struct psh_envelope *envelope)
{
    struct psh_channel *channel = psh_client_at(client, index);
    if (!psh_client_sub(client, index, PSH_SUB_ACK)) return;
    pusher_event event = psh_client_event(client, index, PSH_KIND_SUBSCRIBED, envelope);
    bool again = channel->entry.flags & PSH_FLAG_WAS_LIVE;
    if (again) event.outage_ms = psh_client_outage(client, channel);
    channel->entry.flags =
        psh_proto_is_cache((pusher_kind)channel->entry.kind) ? PSH_FLAG_CACHED : 0;
    struct psh_more *more = psh_client_more(client, index);
    struct psh_members *before = NULL, *now = NULL;
    if (more && psh_proto_is_presence((pusher_kind)channel->entry.kind))
        now = psh_client_snapshot(client, index, &envelope->data);
    if (now) {
        before = more->members;
        more->members = now;
    }
    psh_client_tell(client, index, &event);
    if (before && again) {
        psh_client_tell_difference(client, index, PSH_KIND_LEFT, before, now);
        psh_client_tell_difference(client, index, PSH_KIND_JOINED, now, before);
    }
    psh_client_drop_members(client, before);
}

static void psh_client_joined(pusher_client *client, uint32_t index, struct psh_more *more,
                              const char *id, size_t len, const struct psh_value *info,
                              const struct psh_envelope *envelope)
{
    if (!more->members) more->members = psh_client_new_members(client);
    enum psh_member_result result = PSH_MEMBER_MEMORY;
    if (more->members) result = psh_member_put(more->members, id, len, info->raw, info->raw_len);
    if (result == PSH_MEMBER_FULL) psh_client_full(client, index);
    if (result == PSH_MEMBER_MEMORY)
        psh_client_presence_error(client, index, PUSHER_ERR_MEMORY, ": no memory for a member");
    if (result != PSH_MEMBER_ADDED && result != PSH_MEMBER_CHANGED) return;
    uint32_t at = psh_member_find(more->members, id, len);
    psh_client_tell_member(client, index, PSH_KIND_JOINED, more->members->items[at], envelope);
}

static void psh_client_on_member(pusher_client *client, uint32_t index, enum psh_kind kind,
                                 const struct psh_envelope *envelope)
{
    const struct psh_value *data = &envelope->data;
    struct psh_more *more = psh_client_more(client, index);
    struct psh_value info;
    char id[PSH_USER_ID];
    size_t len = 0;
    const struct psh_entry *entry = &psh_client_at(client, index)->entry;
    if (!more || !psh_proto_is_presence((pusher_kind)entry->kind)) return;
    if (entry->state != PSH_SUB_LIVE) return; /* the list that comes with the yes is newer */
    if (data->raw_len == 0 ||
        !psh_member_read(data->at, data->len, id, sizeof id, &len, &info)) {
        psh_client_presence_error(client, index, PUSHER_ERR_PARSE,
                                  kind == PSH_KIND_JOINED
                                      ? ": a member_added that cannot be read was ignored"
                                      : ": a member_removed that cannot be read was ignored");
        return;
    }
    if (kind == PSH_KIND_JOINED) {
        psh_client_joined(client, index, more, id, len, &info, envelope);
        return;
    }
    uint32_t at = more->members ? psh_member_find(more->members, id, len) : PSH_NONE;
    if (at == PSH_NONE) return;
    struct psh_member *gone = psh_member_take(more->members, at);
    psh_client_tell_member(client, index, kind, gone, envelope);
    psh_env_free(&client->env, gone);
}

/* -- encrypted channels -- */

/* A part of the message in the scratch buffer, to be taken apart where it stands. */
static char *psh_client_mutable(pusher_client *client, const char *at)
{
    char *first = (char *)client->scratch.data;
    PUSHER_ASSERT(at >= first && at <= first + client->scratch.cap);
    return first + (at - first);
}

enum psh_opened { PSH_OPENED = 0, PSH_OPEN_SHAPE, PSH_OPEN_BASE64, PSH_OPEN_NONCE, PSH_OPEN_SHORT,
                  PSH_OPEN_KEY, PSH_OPEN_TAG, PSH_OPEN_TEXT };

static const char *psh_client_open_reason(enum psh_opened opened)
{
    switch (opened) {
    case PSH_OPEN_SHAPE: return "it has no ciphertext and nonce";
    case PSH_OPEN_BASE64: return "its ciphertext or nonce is not base64";
    case PSH_OPEN_NONCE: return "its nonce is not 24 bytes long";
    case PSH_OPEN_SHORT: return "its ciphertext is shorter than 16 bytes";
    case PSH_OPEN_KEY: return "there is no key";
    case PSH_OPEN_TEXT: return "its text is not UTF-8";
    default: return "the key does not fit, or it was changed on its way";
    }
}

/* Where a base64 member's bytes are, decoded in place. */
static unsigned char *psh_client_unwrap(pusher_client *client,
                                        const struct psh_json_object *object, const char *name,
                                        size_t *len)
{
    struct psh_value value = psh_json_get(object, name);
    if (!value.string) return NULL;
    char *text = psh_client_mutable(client, value.at);
    size_t wrapped = psh_json_unescape(text, value.len);
    unsigned char *bytes = (unsigned char *)text;
    return psh_codec_unbase64(text, wrapped, bytes, wrapped, len) ? bytes : NULL;
}

static bool psh_client_utf8(const char *text, size_t len)
{
    struct psh_codec_utf8_state utf8;
    PUSHER_ASSERT(text);
    memset(&utf8, 0, sizeof utf8);
    return psh_codec_utf8(&utf8, text, len) && !utf8.need;
}

/* Decrypts the event's data where it stands. */
static enum psh_opened psh_client_open_box(pusher_client *client, const struct psh_crypt *crypt,
                                           struct psh_value *data)
{
    struct psh_json_object object;
    size_t len = 0, nonce_len = 0;
    if (data->raw_len == 0 || !psh_json_parse(&object, data->at, data->len) ||
        !psh_json_get(&object, "ciphertext").string || !psh_json_get(&object, "nonce").string)
        return PSH_OPEN_SHAPE;
    unsigned char *nonce = psh_client_unwrap(client, &object, "nonce", &nonce_len);
    unsigned char *box = psh_client_unwrap(client, &object, "ciphertext", &len);
    if (!nonce || !box) return PSH_OPEN_BASE64;
    if (nonce_len != PSH_BOX_NONCE) return PSH_OPEN_NONCE;
    if (len < PSH_BOX_TAG) return PSH_OPEN_SHORT;
    if (!crypt->known) return PSH_OPEN_KEY;
    if (!psh_codec_box_open(crypt->key, nonce, box, len)) return PSH_OPEN_TAG;
    data->at = (const char *)box + PSH_BOX_TAG;
    data->len = len - PSH_BOX_TAG;
    box[len] = '\0'; /* base64 was longer */
    data->string = true;
    return psh_client_utf8(data->at, data->len) ? PSH_OPENED : PSH_OPEN_TEXT;
}

static void psh_client_tell_sealed(pusher_client *client, uint32_t index,
                                   const struct psh_envelope *envelope, const char *reason)
{
    char json[512], brief[64];
    struct psh_text data, name, *say = psh_client_say(client);
    const char *event = envelope->event.at;
    client->stats.dropped_decrypt++;
    psh_client_at(client, index)->entry.flags &= (unsigned char)~PSH_FLAG_CACHED;
    psh_env_text(&name, brief, sizeof brief);
    psh_env_add_foreign(&name, event, strlen(event));
    psh_env_text(&data, json, sizeof json);
    psh_env_add(&data, "{\"event\":");
    psh_json_quote(&data, event, strlen(event) < 60 ? strlen(event) : 0);
    psh_env_add(&data, ",\"error\":");
    psh_json_quote(&data, reason, strlen(reason));
    psh_env_add(&data, "}");
    psh_env_add(say, psh_client_called(client, index));
    psh_env_add(say, ": the event ");
    psh_env_add(say, brief);
    psh_env_add(say, " cannot be decrypted: ");
    psh_env_add(say, reason);
    psh_client_report(client, PUSHER_ERR_DECRYPT, 0, index);
    psh_client_make(client, index, "pusher:decryption_error", json);
}

/* The key does not fit: the authorizer is asked for a new one, once, and the event waits. */
static bool psh_client_refresh(pusher_client *client, uint32_t index, struct psh_more *more)
{
    struct psh_crypt *crypt = more->crypt;
    if (crypt->refreshing || psh_client_at(client, index)->entry.state != PSH_SUB_LIVE)
        return false;
    if (crypt->refreshed && client->now - crypt->refreshed_at < PSH_REFRESH_MS) return false;
    crypt->refreshing = crypt->refreshed = true;
    crypt->refreshed_at = client->now;
    more->ask.reason = PUSHER_AUTH_KEY_REFRESH;
    psh_client_set_work(client, index, PSH_WORK_ASK);
    return true;
}

/* An event as the application sent it. */
static void psh_client_emit_event(pusher_client *client, uint32_t index,
                                  const struct psh_envelope *envelope)
{
    struct psh_channel *channel = psh_client_at(client, index);
    pusher_event event = psh_client_event(client, index, PSH_KIND_EVENT, envelope);
    if ((channel->entry.flags & PSH_FLAG_CACHED) && strncmp(event.name, "pusher:", 7) != 0 &&
        strncmp(event.name, "client-", 7) != 0) {
        event.from_cache = true;
        channel->entry.flags &= (unsigned char)~PSH_FLAG_CACHED;
    }
    psh_client_give(client, psh_client_hearers(client, index), &event, envelope->event.len);
}

static void psh_client_on_sealed(pusher_client *client, uint32_t index,
                                 struct psh_envelope *envelope)
{
    struct psh_more *more = psh_client_more(client, index);
    enum psh_opened opened = PSH_OPEN_KEY;
    bool wait = more && more->crypt && more->crypt->refreshing;
    if (more && more->crypt && !wait)
        opened = psh_client_open_box(client, more->crypt, &envelope->data);
    if (opened == PSH_OPENED) {
        psh_client_emit_event(client, index, envelope);
        return;
    }
    if (opened == PSH_OPEN_TAG) wait = psh_client_refresh(client, index, more);
    const char *reason = psh_client_open_reason(opened);
    pusher_channel none = {0, 0};
    if (wait && psh_client_hold(&client->env, &more->crypt->held, client->max_held, none,
                                client->message, client->message_len))
        return;
    if (wait && client->message_len > client->max_held - more->crypt->held.bytes) {
        client->stats.dropped_held++;
        reason = "too many wait for a new key";
    } else if (wait) {
        client->stats.dropped_memory++;
        reason = "no memory to let it wait for a new key";
    }
    psh_client_tell_sealed(client, index, envelope, reason);
}

/* -- the user -- */

static void psh_client_on_signed_in(pusher_client *client, const struct psh_envelope *envelope)
{
    char id[PSH_USER_ID];
    struct psh_value user_data;
    const struct psh_value *data = &envelope->data;
    if (client->user == PSH_NONE) return;
    char *copy = NULL;
    bool memory = false;
    if (data->raw_len && psh_proto_pick(data->at, data->len, "user_data", &user_data) &&
        user_data.string && psh_proto_id_in(&client->env, &user_data, "id", id, &memory)) {
        copy = psh_env_copy(&client->env, id, strlen(id));
        memory = !copy;
    }
    if (!psh_client_sub(client, client->user, copy ? PSH_SUB_ACK : PSH_SUB_NAK)) {
        psh_env_free(&client->env, copy);
        return;
    }
    psh_client_sign_out(client);
    client->user_id = copy;
    client->answered = true; /* presence channels may have waited for it */
    if (!copy) {
        psh_client_tell_failed(client, client->user, memory ? PUSHER_ERR_MEMORY : PUSHER_ERR_PARSE,
                               "AuthError", 0,
                               memory ? "no memory for the user's id"
                                      : "the server's answer names no user");
        return;
    }
    client->user_owed = true;
    psh_client_emit(client, client->user, PSH_KIND_SIGNED_IN, envelope);
}

/* One of the watchlist's events: an object with its name and user ids. */
static void psh_client_watch(pusher_client *client, const char *name, char *json, size_t len)
{
    struct psh_envelope envelope;
    char kept = json[len];
    memset(&envelope, 0, sizeof envelope);
    envelope.event.at = name;
    envelope.data.at = envelope.data.raw = json;
    envelope.data.len = envelope.data.raw_len = len;
    json[len] = '\0';
    pusher_event event = psh_client_event(client, PSH_NONE, PSH_KIND_EVENT, &envelope);
    psh_client_give(client, &client->watchers, &event, strlen(name));
    json[len] = kept;
}

static void psh_client_on_watchlist(pusher_client *client, const struct psh_envelope *envelope)
{
    const struct psh_value *data = &envelope->data;
    struct psh_value events, key, item, name_of;
    struct psh_json_walk walk;
    char name[64];
    struct psh_text text;
    if (data->raw_len == 0 || !psh_proto_pick(data->at, data->len, "events", &events) ||
        !psh_json_enter(&walk, events.raw, events.raw_len))
        return;
    while (psh_json_next(&walk, &key, &item) && !client->doomed) {
        if (!psh_proto_pick(item.raw, item.raw_len, "name", &name_of) || !name_of.string) continue;
        psh_env_text(&text, name, sizeof name);
        psh_env_add_bytes(&text, name_of.at, name_of.len);
        psh_client_watch(client, name, psh_client_mutable(client, item.raw), item.raw_len);
    }
}

/* Is this the channel on which the server sends to the signed-in user? */
static bool psh_client_is_users(const pusher_client *client, const struct psh_value *channel)
{
    static const char prefix[] = PSH_PROTO_USER;
    size_t skip = sizeof prefix - 1;
    return client->user_id && channel->string && channel->len > skip &&
           memcmp(channel->at, prefix, skip) == 0 &&
           strcmp(channel->at + skip, client->user_id) == 0;
}

/* What belongs to no channel of ours: the user's events, Sockudo's way to tell of the watchlist,
   and events without a channel. */
static void psh_client_on_other(pusher_client *client, const struct psh_envelope *envelope)
{
    const char *name = envelope->event.at;
    bool user = psh_client_is_users(client, &envelope->channel);
    bool watch = client->user_id && !envelope->channel.string &&
                 (strcmp(name, "online") == 0 || strcmp(name, "offline") == 0);
    const struct psh_handlers *hearers = user ? &client->user_handlers : NULL;
    if (watch) hearers = &client->watchers;
    pusher_event event = psh_client_event(client, PSH_NONE, PSH_KIND_EVENT, envelope);
    psh_client_give(client, hearers, &event, envelope->event.len);
}

/* -- what the server says -- */

/* About a channel: its index, or PSH_NONE. */
static uint32_t psh_client_of(const pusher_client *client, const struct psh_envelope *envelope)
{
    const struct psh_value *channel = &envelope->channel;
    return channel->string ? psh_client_find(client, channel->at, channel->len) : PSH_NONE;
}

static void psh_client_on_count(pusher_client *client, uint32_t index,
                                const struct psh_envelope *envelope)
{
    struct psh_more *more = psh_client_need_more(client, index);
    uint32_t count = more ? more->count : 0;
    if (!psh_proto_count(&envelope->data, &count)) return;
    if (more) more->count = count; /* without memory it is told, and not kept */
    if (psh_client_at(client, index)->entry.references > 0)
        psh_client_emit(client, index, PSH_KIND_COUNT, envelope);
}

/* The server's answer to a subscription, and what it tells of a channel by itself. */
static void psh_client_on_channel(pusher_client *client, enum psh_kind kind,
                                  const struct psh_envelope *envelope)
{
    struct psh_server_error error;
    uint32_t index = psh_client_of(client, envelope);
    if (index == PSH_NONE) return;
    switch (kind) {
    case PSH_KIND_SUBSCRIBED: psh_client_on_subscribed(client, index, envelope); break;
    case PSH_KIND_REFUSED:
        psh_proto_error(&envelope->data, &error);
        psh_client_refused(client, index, &error, envelope);
        break;
    case PSH_KIND_COUNT: psh_client_on_count(client, index, envelope); break;
    default:
        PUSHER_ASSERT(kind == PSH_KIND_JOINED || kind == PSH_KIND_LEFT);
        psh_client_on_member(client, index, kind, envelope);
        break;
    }
}

/* The application's, and those of the protocol that only pass through. */
static void psh_client_on_event(pusher_client *client, enum psh_kind kind,
                                struct psh_envelope *envelope)
{
    uint32_t index = psh_client_of(client, envelope);
    if (client->phase != PSH_ONLINE) return;
    if (index == PSH_NONE) {
        psh_client_on_other(client, envelope);
        return;
    }
    struct psh_channel *channel = psh_client_at(client, index);
    if (kind == PSH_KIND_MISS) channel->entry.flags &= (unsigned char)~PSH_FLAG_CACHED;
    if (psh_proto_is_encrypted((pusher_kind)channel->entry.kind) &&
        strncmp(envelope->event.at, "pusher:", 7) != 0)
        psh_client_on_sealed(client, index, envelope);
    else
        psh_client_emit_event(client, index, envelope);
}

static void psh_client_on_envelope(pusher_client *client, struct psh_envelope *envelope)
{
    enum psh_kind kind = psh_proto_kind(&envelope->event);
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
    case PSH_KIND_MISS: psh_client_on_event(client, kind, envelope); break;
    case PSH_KIND_SIGNED_IN: psh_client_on_signed_in(client, envelope); break;
    case PSH_KIND_WATCHLIST: psh_client_on_watchlist(client, envelope); break;
    default: psh_client_on_channel(client, kind, envelope); break;
    }
}

static void psh_client_on_message(pusher_client *client, const char *text, size_t len)
{
    PUSHER_ASSERT(text && client->phase >= PSH_GREETING);
    struct psh_envelope envelope;
    client->message = text;
    client->message_len = len;
    if (!psh_env_reserve(&client->env, &client->scratch, len + PSH_JSON_SLACK)) {
        client->stats.dropped_memory++;
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
    struct psh_text *say = psh_client_say_where(client);
    psh_env_add(say, "the server closed the connection");
    if (code) {
        psh_env_add(say, ": ");
        psh_client_say_code(say, code, client->ws.close_reason);
    }
    /* Our answer to its close frame goes first, now or in the next polls, if the stream is good. */
    bool good = psh_client_flush(client) || client->want_send >= PUSHER_IO_WANT_WRITE;
    psh_client_fail(client, PUSHER_ERR_SERVER, code, psh_client_urge(code),
                    good && psh_client_owed(client) > 0);
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

static void psh_client_frames(pusher_client *client)
{
    while ((client->phase == PSH_GREETING || client->phase == PSH_ONLINE) &&
           !psh_client_halted(client)) {
        switch (psh_ws_next(&client->ws)) {
        case PSH_WS_MORE: return;
        case PSH_WS_MESSAGE:
            client->stats.messages_received++;
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

/* With very many channels nearly every event finds its channel, the channel's name and its handlers
   in memory that no cache holds. All messages that have just arrived are therefore looked at ahead,
   and what they will need is fetched at the same time instead of one after the other. */
enum { PSH_AHEAD_CHANNELS = 2048, PSH_AHEAD = 32 };

static uint32_t psh_client_warm_names(const pusher_client *client, size_t *at,
                                      uint32_t hashes[PSH_AHEAD])
{
    uint32_t count = 0;
    size_t len = 0, name_len = 0;
    const char *text = "";
    while (count < PSH_AHEAD && (text = psh_ws_ahead(&client->ws, at, &len)) != NULL) {
        const char *name = psh_json_guess_channel(text, len, &name_len);
        if (name) hashes[count++] = psh_table_warm(&client->table, name, name_len);
    }
    return count;
}

static void psh_client_look_ahead(const pusher_client *client)
{
    uint32_t hashes[PSH_AHEAD], count = PSH_AHEAD;
    const struct psh_channel *channels[PSH_AHEAD];
    const struct psh_binding *bindings[PSH_AHEAD];
    size_t at = 0;
    if (client->table.count < PSH_AHEAD_CHANNELS) return;
    while (count == PSH_AHEAD) {
        count = psh_client_warm_names(client, &at, hashes);
        for (uint32_t i = 0; i < count; i++)
            channels[i] = (struct psh_channel *)psh_table_warm_entry(&client->table, hashes[i]);
        for (uint32_t i = 0; i < count; i++) {
            bindings[i] = NULL;
            if (!channels[i]) continue;
            PSH_PREFETCH(channels[i]->entry.name);
            bindings[i] = psh_bind_warm(&client->bind, &channels[i]->handlers);
        }
        for (uint32_t i = 0; i < count; i++)
            if (bindings[i]) psh_bind_warm_name(bindings[i]);
    }
}

static void psh_client_bytes(pusher_client *client)
{
    PUSHER_ASSERT(client->stream);
    client->last_received = client->now;
    client->pong_by = PSH_NEVER;
    if (client->phase == PSH_UPGRADING) psh_client_upgrade(client);
    if (client->phase == PSH_ONLINE) psh_client_look_ahead(client);
    if (client->phase == PSH_GREETING || client->phase == PSH_ONLINE) psh_client_frames(client);
}

static void psh_client_input(pusher_client *client)
{
    size_t budget = client->max_poll_bytes, room;
    while (budget > 0 && psh_client_has_stream(client) && !psh_client_halted(client)) {
        if (client->phase > PSH_ONLINE) psh_ws_discard(&client->ws);
        unsigned char *space = psh_ws_space(&client->ws, &room);
        if (room == 0) {
            psh_env_add(psh_client_say_where(client), "no memory for input");
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
        if (client->phase > PSH_ONLINE && psh_client_owed(client)) break; /* our goodbye first */
    }
    client->more = budget == 0 && psh_client_has_stream(client);
}

/* There is an answer to the question for a new key: what has waited is given out in its order. */
static void psh_client_refreshed(pusher_client *client, uint32_t index, struct psh_more *more)
{
    PUSHER_ASSERT(more->crypt && more->crypt->refreshing); /* who is live asks for a key only */
    struct psh_line held = more->crypt->held;
    memset(&more->crypt->held, 0, sizeof held);
    more->crypt->refreshing = false;
    more->crypt->refreshed_at = client->now;
    psh_client_set_work(client, index, PSH_WORK_NONE);
    for (struct psh_held *at = held.first; at; at = at->next) {
        if (psh_client_halted(client) ||
            psh_client_at(client, index)->entry.state != PSH_SUB_LIVE)
            client->stats.dropped_held++;
        else
            psh_client_on_message(client, at->text, at->len);
    }
    psh_client_empty_line(&client->env, &held);
}

/* -- authorization -- */

/* The entry whose question a ticket stands for, or PSH_NONE when that is stale. */
static uint32_t psh_client_asked(const pusher_client *client, pusher_ticket ticket)
{
    if (ticket.epoch == 0 || ticket.id == 0 || ticket.id > client->table.pool.used)
        return PSH_NONE;
    const struct psh_channel *channel = psh_client_at(client, ticket.id - 1);
    if (!(channel->entry.slot.generation & 1)) return PSH_NONE;
    const struct psh_more *more = psh_client_more(client, ticket.id - 1);
    return more && more->ask.serial == ticket.epoch ? ticket.id - 1 : PSH_NONE;
}

/* The question has its answer; what follows from it is for the next poll, or later in this one. */
static void psh_client_answer(pusher_client *client, uint32_t index)
{
    struct psh_more *more = psh_client_more(client, index);
    PUSHER_ASSERT(more && more->ask.verdict != PSH_VERDICT_NONE);
    more->ask.serial = 0;
    client->answered = true;
    client->stats.auth_latency_ms = (uint32_t)client->now - more->ask.asked_at;
    if (more->ask.verdict != PSH_VERDICT_YES) client->stats.auth_failures++;
    psh_client_set_work(client, index, PSH_WORK_ANSWERED);
}

static void psh_client_turn_down(pusher_client *client, uint32_t index, bool retry,
                                 pusher_result code, int status, const char *why)
{
    struct psh_more *more = psh_client_more(client, index);
    PUSHER_ASSERT(more && client->auth);
    bool later = retry && more->ask.attempt < client->auth->max_attempts;
    psh_auth_refuse(&client->env, &more->ask, later ? PSH_VERDICT_LATER : PSH_VERDICT_NO, code,
                    status, why);
    psh_client_answer(client, index);
}

/* Who this client is, in a presence channel. */
static bool psh_client_set_me(pusher_client *client, struct psh_more *more, const char *id)
{
    char *copy = psh_env_copy(&client->env, id, strlen(id));
    if (!copy) return false;
    psh_env_free(&client->env, more->me);
    more->me = copy;
    return true;
}

/* NULL, or what the answer lacks; *memory: there was not enough of it. */
static const char *psh_client_take_presence(pusher_client *client, struct psh_more *more,
                                            const struct psh_value *channel_data, bool *memory)
{
    char id[PSH_USER_ID];
    if (channel_data->raw_len == 0 || *channel_data->raw == 'n')
        return NULL; /* then, or if it is null, the signed-in user counts */
    if (!channel_data->string ||
        !psh_proto_id_in(&client->env, channel_data, "user_id", id, memory))
        return "its channel_data holds no user_id";
    *memory = !psh_client_set_me(client, more, id);
    return NULL;
}

static const char *psh_client_take_key(pusher_client *client, struct psh_more *more,
                                       const struct psh_value *secret, bool *memory)
{
    size_t len = 0;
    if (!secret->string) return "the answer has no shared_secret";
    if (!more->crypt) {
        more->crypt = (struct psh_crypt *)psh_env_alloc(&client->env, sizeof *more->crypt);
        if (more->crypt) memset(more->crypt, 0, sizeof *more->crypt);
    }
    char *text = psh_env_copy(&client->env, secret->at, secret->len);
    *memory = !text || !more->crypt;
    bool good = false;
    if (!*memory) {
        unsigned char *bytes = (unsigned char *)text;
        size_t wrapped = psh_json_unescape(text, secret->len);
        good = psh_codec_unbase64(text, wrapped, bytes, wrapped, &len) && len == PSH_BOX_KEY;
        if (good) memcpy(more->crypt->key, bytes, PSH_BOX_KEY);
        if (good) more->crypt->known = true;
    }
    if (text) psh_env_wipe(text, secret->len);
    psh_env_free(&client->env, text);
    return good || *memory ? NULL : "its shared_secret is not 32 bytes in base64";
}

/* Takes the answer; NULL, or what is wrong with it. */
static const char *psh_client_take(pusher_client *client, uint32_t index, const char *body,
                                   size_t len, bool *memory)
{
    struct psh_more *more = psh_client_more(client, index);
    struct psh_answer answer;
    pusher_kind kind = (pusher_kind)psh_client_at(client, index)->entry.kind;
    const char *wrong = psh_proto_answer(body, len, &answer);
    if (wrong) return wrong;
    if (psh_client_is_user(client, index)) {
        memset(&answer.channel_data, 0, sizeof answer.channel_data);
        if (!answer.user_data.string) return "the answer has no user_data";
    } else {
        memset(&answer.user_data, 0, sizeof answer.user_data);
    }
    if (psh_proto_is_presence(kind))
        wrong = psh_client_take_presence(client, more, &answer.channel_data, memory);
    if (psh_proto_is_encrypted(kind))
        wrong = psh_client_take_key(client, more, &answer.shared_secret, memory);
    if (!wrong && !*memory) *memory = !psh_auth_prove(&client->env, &answer, &more->ask);
    return wrong;
}

/* Would the subscription, with the proof that is there now, be too long ever to be sent? */
static bool psh_client_too_big(const pusher_client *client, uint32_t index)
{
    const struct psh_more *more = psh_client_more(client, index);
    PUSHER_ASSERT(more && more->ask.text);
    return !psh_ws_fits(&client->ws, psh_client_size(&psh_client_at(client, index)->entry,
                                                     more->ask.text, more->fields));
}

static pusher_result psh_client_accept_at(pusher_client *client, uint32_t index, const char *body,
                                          size_t len)
{
    pusher_result result = PUSHER_OK;
    bool memory = false;
    const char *wrong = NULL;
    if (!psh_json_valid(body, len)) {
        wrong = "the answer is not JSON";
        result = PUSHER_ERR_PARSE;
    } else {
        wrong = psh_client_take(client, index, body, len, &memory);
        if (wrong) result = PUSHER_ERR_AUTH;
    }
    if (memory) {
        wrong = "no memory for the answer";
        result = PUSHER_ERR_MEMORY;
    }
    if (!wrong && psh_client_too_big(client, index)) {
        wrong = "the proof does not fit into options.max_output_bytes";
        result = PUSHER_ERR_TOO_BIG;
    }
    if (wrong) psh_client_turn_down(client, index, memory, result, 0, wrong);
    else psh_client_answer(client, index);
    return result;
}

/* -- the endpoint -- */

/* Has the stream that rested ended, or does something stand on it that nobody has asked for ("408
   Request Timeout")? That is no answer to what is asked now. */
static bool psh_client_post_stale(pusher_client *client)
{
    unsigned char extra; /* not "byte": Windows has a type of that name */
    PUSHER_ASSERT(client->auth->stream && client->auth->phase == PSH_POST_IDLE);
    int got = psh_client_post_transport(client).recv_fn(client->auth->stream, &extra, 1);
    return got != PUSHER_IO_WANT_READ && got != PUSHER_IO_WANT_WRITE;
}

/* The request is ready: over the stream that is still there, or over a new one. */
static void psh_client_post_start(pusher_client *client, const struct psh_url *url)
{
    struct psh_auth *auth = client->auth;
    PUSHER_ASSERT(auth->phase == PSH_POST_IDLE && auth->out.len > 0);
    if (auth->stream && (auth->url->port != url->port || auth->url->tls != url->tls ||
                         strcmp(auth->url->host, url->host) != 0 || psh_client_post_stale(client)))
        psh_client_post_close(client);
    auth->url = url;
    auth->deadline = client->now + client->wait_ms[PSH_WORK_AUTH];
    psh_auth_rewind(&client->env, auth);
    auth->reused = auth->stream != NULL;
    auth->phase = auth->stream ? PSH_POST_SENDING : PSH_POST_OPENING;
    pusher_transport transport = psh_client_post_transport(client);
    if (!auth->stream)
        auth->stream = transport.open_fn(url->host, url->port, transport.user_data);
}

/* The request came to nothing. */
static void psh_client_post_failed(pusher_client *client, pusher_result code, bool retry,
                                   int status, const char *why)
{
    uint32_t index = psh_client_asked(client, client->auth->ticket);
    psh_client_post_close(client);
    if (index != PSH_NONE) psh_client_turn_down(client, index, retry, code, status, why);
}

/* The stream is of no use; one that had served before may simply have been closed meanwhile. */
static void psh_client_post_lost(pusher_client *client, int got)
{
    struct psh_auth *auth = client->auth;
    pusher_transport transport = psh_client_post_transport(client);
    bool stale = auth->reused && auth->reply.head.total == 0;
    const char *why = NULL;
    char words[160];
    struct psh_text text;
    uint64_t deadline = auth->deadline; /* the question is as old as it was */
    if (stale) {
        psh_client_post_close(client);
        psh_client_post_start(client, auth->url);
        auth->deadline = deadline;
        return;
    }
    if (auth->stream && transport.error_fn && got != PUSHER_IO_EOF)
        why = transport.error_fn(auth->stream);
    if (!why) why = got == PUSHER_IO_EOF ? "it ended the stream" : "the stream failed";
    if (auth->reply.head.total > 0 && got == PUSHER_IO_EOF) why = "it ended in the middle";
    psh_env_text(&text, words, sizeof words);
    psh_env_add(&text, "no answer from the endpoint ");
    psh_env_add(&text, auth->url->authority);
    psh_env_add(&text, ": ");
    psh_env_add(&text, why);
    psh_client_post_failed(client, psh_client_io_result(got), true, 0, words);
}

static void psh_client_post_answer(pusher_client *client)
{
    struct psh_auth *auth = client->auth;
    uint32_t index = psh_client_asked(client, auth->ticket);
    int status = auth->reply.head.status;
    struct psh_buf *body = &auth->reply.body;
    bool keep = auth->reply.keep && auth->out_at == auth->out.len;
    bool later = status == 429 || status >= 500, moved = status >= 300 && status < 400;
    uint32_t wait_s = auth->reply.retry_after_s, most = client->reconnect_cap_ms;
    if (index != PSH_NONE && later)
        psh_client_more(client, index)->ask.wait_ms = wait_s > most / 1000 ? most : wait_s * 1000;
    auth->phase = PSH_POST_IDLE;
    auth->idle_at = client->now + PSH_KEEP_MS;
    if (index != PSH_NONE && status == 200)
        (void)psh_client_accept_at(client, index, body->len ? (const char *)body->data : "",
                                   body->len);
    else if (index != PSH_NONE)
        psh_client_turn_down(client, index, later, PUSHER_ERR_AUTH, status,
                             moved ? "the endpoint redirects, which is not followed"
                                   : "the endpoint refused");
    psh_env_release(&client->env, body);
    if (!keep) psh_client_post_close(client);
}

static void psh_client_post_bytes(pusher_client *client, const unsigned char *bytes, size_t len)
{
    struct psh_auth *auth = client->auth;
    size_t used = 0;
    char words[160];
    struct psh_text why;
    switch (psh_http_reply(&auth->reply, &client->env, bytes, len, &used)) {
    case PSH_REPLY_MORE: break;
    case PSH_REPLY_DONE:
        if (used < len) auth->reply.keep = false; /* more than was asked for */
        psh_client_post_answer(client);
        break;
    case PSH_REPLY_BIG:
        psh_client_post_failed(client, PUSHER_ERR_TOO_BIG, false, auth->reply.head.status,
                               "the endpoint's answer is over options.auth.max_answer_bytes");
        break;
    case PSH_REPLY_MEMORY:
        psh_client_post_failed(client, PUSHER_ERR_MEMORY, true, 0, "no memory for the answer");
        break;
    default:
        psh_env_text(&why, words, sizeof words);
        psh_env_add(&why, "the endpoint sent ");
        psh_env_add(&why, auth->reply.wrong);
        psh_client_post_failed(client, PUSHER_ERR_HTTP, false, auth->reply.head.status, words);
        break;
    }
}

static void psh_client_post_send(pusher_client *client)
{
    struct psh_auth *auth = client->auth;
    size_t budget = client->max_poll_bytes;
    while (auth->phase == PSH_POST_SENDING && budget > 0) {
        size_t len = auth->retry ? auth->retry : auth->out.len - auth->out_at;
        if (len > budget && !auth->retry) len = budget;
        int put = psh_client_post_transport(client).send_fn(auth->stream,
                                                             auth->out.data + auth->out_at, len);
        if (put == PUSHER_IO_WANT_READ || put == PUSHER_IO_WANT_WRITE) {
            auth->retry = len;
            return;
        }
        if (put <= 0) { /* it may have answered all the same */
            auth->phase = PSH_POST_READING;
            return;
        }
        PUSHER_ASSERT((size_t)put <= len);
        auth->retry = 0;
        auth->out_at += (size_t)put;
        budget -= (size_t)put > budget ? budget : (size_t)put;
        client->stats.bytes_sent += (uint64_t)put;
        if (auth->out_at == auth->out.len) auth->phase = PSH_POST_READING;
    }
}

static void psh_client_post_recv(pusher_client *client)
{
    struct psh_auth *auth = client->auth;
    unsigned char bytes[512] = {0};
    size_t budget = client->max_poll_bytes;
    while (auth->phase >= PSH_POST_SENDING && budget > 0) {
        size_t room = budget < sizeof bytes ? budget : sizeof bytes;
        int got = psh_client_post_transport(client).recv_fn(auth->stream, bytes, room);
        if (got == PUSHER_IO_WANT_READ || got == PUSHER_IO_WANT_WRITE) break;
        if (got == PUSHER_IO_EOF && psh_http_reply_eof(&auth->reply) == PSH_REPLY_DONE) {
            auth->reply.keep = false;
            psh_client_post_answer(client);
        } else if (got <= 0) {
            psh_client_post_lost(client, got);
        } else {
            budget -= (size_t)got;
            client->stats.bytes_received += (uint64_t)got;
            psh_client_post_bytes(client, bytes, (size_t)got);
            psh_env_wipe(bytes, (size_t)got); /* it may hold a key */
        }
    }
}

/* Moves the request under way. */
static void psh_client_post(pusher_client *client)
{
    struct psh_auth *auth = client->auth;
    if (!auth) return;
    if (auth->phase == PSH_POST_OPENING) {
        int ready = auth->stream ? psh_client_post_transport(client).ready_fn(auth->stream)
                                 : PUSHER_IO_ERROR;
        if (ready == PUSHER_IO_WANT_READ || ready == PUSHER_IO_WANT_WRITE) return;
        if (ready > 0) auth->phase = PSH_POST_SENDING;
        else psh_client_post_lost(client, ready);
    }
    psh_client_post_send(client);
    if (auth->phase >= PSH_POST_SENDING) psh_client_post_recv(client);
    if (auth->phase != PSH_POST_IDLE && client->now >= auth->deadline)
        psh_client_post_failed(client, PUSHER_ERR_TIMEOUT, true, 0,
                               "no answer from the endpoint in time");
    if (auth->phase == PSH_POST_IDLE && auth->stream && client->now >= auth->idle_at)
        psh_client_post_close(client);
}

/* -- asking -- */

static void psh_client_question(pusher_client *client, uint32_t index,
                                pusher_auth_request *request)
{
    struct psh_auth *auth = client->auth;
    struct psh_more *more = psh_client_more(client, index);
    bool user = psh_client_is_user(client, index);
    PUSHER_ASSERT(more && auth);
    if (++auth->serial == 0) auth->serial = 1;
    psh_auth_forget(&client->env, &more->ask);
    more->ask.serial = more->ask.batch = auth->serial;
    more->ask.asked_at = (uint32_t)client->now;
    more->ask.attempt++;
    more->ask.wait_ms = 0;
    request->ticket.id = index + 1;
    request->ticket.epoch = auth->serial;
    request->kind = user ? PUSHER_AUTH_USER : PUSHER_AUTH_CHANNEL;
    request->reason = (pusher_auth_reason)more->ask.reason;
    request->attempt = more->ask.attempt;
    request->socket_id = client->socket_id;
    request->channel_name = user ? "" : psh_client_at(client, index)->entry.name;
    request->channel = psh_client_handle(client, index);
    more->ask.reason = PUSHER_AUTH_RECONNECT;
    client->stats.auth_requests++;
    (void)psh_client_sub(client, index, PSH_SUB_ASK); /* a live one asks for a key, and stays so */
    psh_client_set_deadline(client, index, PSH_WORK_AUTH);
}

/* How many in a row, from the front of the line, may go into one call. */
static uint32_t psh_client_batch(const pusher_client *client, enum psh_auth_way way)
{
    uint32_t count = 0, id = client->work[PSH_WORK_ASK].first;
    while (id && count < client->auth->max_batch) {
        bool user = psh_client_is_user(client, id - 1); /* nothing names it in an answer to many */
        if (psh_auth_way(client->auth, user) != way || (user && count > 0)) break;
        count++;
        if (user) break;
        id = psh_client_at(client, id - 1)->link[PSH_BY_WORK].next;
    }
    return count;
}

/* Asks the user's function; returns for how many. */
static uint32_t psh_client_ask_hook(pusher_client *client, enum psh_auth_way way)
{
    struct psh_list *line = &client->work[PSH_WORK_ASK];
    struct psh_auth *auth = client->auth;
    pusher_auth_request one, *requests = &one;
    uint32_t count = way == PSH_WAY_HOOK ? psh_client_batch(client, way) : 1;
    if (count > 1)
        requests = (pusher_auth_request *)psh_env_alloc(&client->env, count * sizeof *requests);
    if (!requests) { /* then one by one */
        requests = &one;
        count = 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = line->first - 1;
        psh_client_question(client, index, &requests[i]);
        psh_client_more(client, index)->ask.batch = requests[0].ticket.epoch;
    }
    if (way == PSH_WAY_HOOK) auth->request_fn(client, requests, count, auth->user_data);
    else auth->user_fn(client, requests, count, auth->user_data);
    if (requests != &one) psh_env_free(&client->env, requests);
    return count;
}

static void psh_client_ask_self(pusher_client *client)
{
    uint32_t index = client->work[PSH_WORK_ASK].first - 1;
    const struct psh_auth *auth = client->auth;
    pusher_auth_request request;
    struct psh_value data;
    struct psh_more *more = psh_client_more(client, index);
    pusher_kind kind = (pusher_kind)psh_client_at(client, index)->entry.kind;
    bool presence = psh_proto_is_presence(kind), memory = false;
    const char *wrong = NULL;
    psh_client_question(client, index, &request);
    if (psh_proto_is_encrypted(kind))
        wrong = "options.auth.secret knows no shared_secret: use an endpoint or request_fn";
    if (presence && !auth->channel_data) wrong = "options.auth.channel_data is missing";
    if (!wrong && presence) {
        (void)psh_proto_pick(auth->channel_data, strlen(auth->channel_data), "user_id", &data);
        char id[PSH_USER_ID];
        struct psh_text text;
        psh_env_text(&text, id, sizeof id);
        if (data.string) (void)psh_json_add_inside(&text, data.at, data.len);
        else psh_env_add_bytes(&text, data.at, data.len);
        memory = !psh_client_set_me(client, more, id);
    }
    if (!wrong && !memory)
        memory = !psh_auth_sign(&client->env, auth, &request, presence, &more->ask);
    if (!wrong && !memory && psh_client_too_big(client, index))
        wrong = "the proof does not fit into options.max_output_bytes";
    if (wrong) psh_client_turn_down(client, index, false, PUSHER_ERR_AUTH, 0, wrong);
    else if (memory)
        psh_client_turn_down(client, index, true, PUSHER_ERR_MEMORY, 0, "no memory to sign it");
    else psh_client_answer(client, index);
}

/* Sends the first in line to the endpoint. */
static void psh_client_ask_post(pusher_client *client, enum psh_auth_way way)
{
    uint32_t index = client->work[PSH_WORK_ASK].first - 1;
    struct psh_auth *auth = client->auth;
    const struct psh_url *url = way == PSH_WAY_POST ? &auth->channel_url : &auth->user_url;
    pusher_auth_request request;
    psh_client_question(client, index, &request);
    bool good = psh_auth_begin(&client->env, auth, &request);
    auth->starved = false;
    if (good && auth->prepare_fn) {
        auth->preparing = true;
        auth->prepare_fn(client, &request, auth->user_data);
        auth->preparing = false;
    }
    if (good) good = !auth->starved && psh_auth_finish(&client->env, auth, url);
    if (psh_client_asked(client, request.ticket) != index) return; /* prepare_fn gave it up */
    if (good) psh_client_post_start(client, url);
    else
        psh_client_turn_down(client, index, true, PUSHER_ERR_MEMORY, 0,
                             "the request is over 64 KiB, or there is no memory for it");
}

/* Puts the questions that are in line, as many as a frame can bear. */
static void psh_client_ask(pusher_client *client)
{
    struct psh_list *line = &client->work[PSH_WORK_ASK];
    uint32_t asked = 0;
    while (line->first && asked < PSH_BATCH && client->phase == PSH_ONLINE &&
           !psh_client_halted(client)) {
        enum psh_auth_way way =
            psh_auth_way(client->auth, psh_client_is_user(client, line->first - 1));
        if (way == PSH_WAY_POST || way == PSH_WAY_USER_POST) {
            if (client->auth->phase != PSH_POST_IDLE) return;
            psh_client_ask_post(client, way);
            asked++;
        } else if (way == PSH_WAY_SIGN) {
            psh_client_ask_self(client);
            asked++;
        } else {
            asked += psh_client_ask_hook(client, way);
        }
    }
}

/* A no, for good: the handlers are told why. A live channel only goes without the new key. */
static void psh_client_denied(pusher_client *client, uint32_t index, struct psh_more *more)
{
    char why[192];
    struct psh_text text;
    pusher_result code = (pusher_result)more->ask.code;
    int status = more->ask.status;
    psh_env_text(&text, why, sizeof why);
    psh_env_add(&text, "authorization failed: ");
    psh_env_add(&text, more->ask.text ? more->ask.text : "refused");
    if (status > 0) psh_env_add(&text, ", status ");
    if (status > 0) psh_env_add_uint(&text, (uint64_t)status);
    psh_auth_forget(&client->env, &more->ask);
    more->ask.attempt = 0;
    if (psh_client_at(client, index)->entry.state == PSH_SUB_LIVE) {
        psh_client_refreshed(client, index, more);
        return;
    }
    client->answered = client->answered || psh_client_is_user(client, index);
    if (psh_client_sub(client, index, PSH_SUB_DENY))
        psh_client_tell_failed(client, index, code, "AuthError", status, why);
}

static void psh_client_deferred(pusher_client *client, uint32_t index, struct psh_more *more)
{
    uint32_t wait = psh_client_backoff(client, more->ask.attempt);
    if (wait < more->ask.wait_ms) wait = more->ask.wait_ms;
    if (wait > INT32_MAX) wait = INT32_MAX;
    struct psh_text *say = psh_client_say(client);
    psh_env_add(say, psh_client_called(client, index));
    psh_env_add(say, ": authorization put off: ");
    if (more->ask.text) psh_env_add_foreign(say, more->ask.text, strlen(more->ask.text));
    psh_env_log(&client->env, client->words);
    psh_auth_forget(&client->env, &more->ask);
    more->ask.reason = PUSHER_AUTH_RETRY;
    (void)psh_client_sub(client, index, PSH_SUB_DEFER); /* a live one waits, too, and stays so */
    psh_client_set_work(client, index, PSH_WORK_RETRY);
    psh_client_at(client, index)->deadline = (uint32_t)client->now + wait;
}

/* A presence channel's answer may leave it to the sign-in who this client is. */
static bool psh_client_unknown_me(const pusher_client *client, uint32_t index,
                                  const struct psh_more *more)
{
    pusher_kind kind = (pusher_kind)psh_client_at(client, index)->entry.kind;
    return psh_proto_is_presence(kind) && !strstr(more->ask.text, ",\"channel_data\":");
}

/* Is a sign-in under way? */
static bool psh_client_signing_in(const pusher_client *client)
{
    if (client->user == PSH_NONE) return false;
    return psh_client_at(client, client->user)->entry.state <= PSH_SUB_PENDING;
}

/* A yes. */
static void psh_client_granted(pusher_client *client, uint32_t index, struct psh_more *more)
{
    bool live = psh_client_at(client, index)->entry.state == PSH_SUB_LIVE;
    bool unknown = !live && psh_client_unknown_me(client, index, more);
    if (live) {
        more->ask.attempt = 0;
        psh_auth_forget(&client->env, &more->ask);
        psh_client_refreshed(client, index, more);
    } else if (unknown && !client->user_id && psh_client_signing_in(client)) {
        psh_client_set_work(client, index, PSH_WORK_USER);
    } else if (unknown && !client->user_id) {
        client->stats.auth_failures++;
        psh_auth_refuse(&client->env, &more->ask, PSH_VERDICT_NO, PUSHER_ERR_AUTH, 0,
                        "the answer has no channel_data, and no user is signed in");
        psh_client_denied(client, index, more);
    } else if (unknown && !psh_client_set_me(client, more, client->user_id)) {
        psh_client_turn_down(client, index, true, PUSHER_ERR_MEMORY, 0, "no memory");
    } else {
        more->ask.attempt = 0;
        (void)psh_client_sub(client, index, PSH_SUB_GRANT);
    }
}

/* The sign-in has come to its end: those that waited for it are answered again. */
static void psh_client_signed(pusher_client *client)
{
    struct psh_list *waiting = &client->work[PSH_WORK_USER];
    if (psh_client_signing_in(client)) return;
    for (int moved = 0; waiting->first && moved < PSH_BATCH; moved++)
        psh_client_set_work(client, waiting->first - 1, PSH_WORK_ANSWERED);
    if (waiting->first) client->answered = true;
}

/* What follows from the answers given since. Of events that waited for a key, one poll gives out no
   more than it may read, but for those of one channel. */
static void psh_client_answers(pusher_client *client)
{
    size_t given = 0;
    client->answered = false;
    psh_client_signed(client);
    uint32_t id = client->work[PSH_WORK_ANSWERED].first;
    for (int done = 0; id && client->phase == PSH_ONLINE && !psh_client_halted(client); done++) {
        uint32_t index = id - 1;
        struct psh_more *more = psh_client_more(client, index);
        id = psh_client_at(client, index)->link[PSH_BY_WORK].next;
        if (more->crypt) given += more->crypt->held.bytes;
        if (done == PSH_BATCH || (done > 0 && given > client->max_poll_bytes)) {
            client->answered = true;
            return;
        }
        if (more->ask.verdict == PSH_VERDICT_LATER) psh_client_deferred(client, index, more);
        else if (more->ask.verdict == PSH_VERDICT_NO) psh_client_denied(client, index, more);
        else psh_client_granted(client, index, more);
        if (id && psh_client_at(client, id - 1)->entry.mark != PSH_WORK_ANSWERED)
            id = client->work[PSH_WORK_ANSWERED].first; /* a handler has changed the list */
    }
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
    const struct psh_place *place = &client->place;
    if (psh_ws_send_upgrade(&client->ws, place->path, place->authority, place->fields)) {
        psh_client_signal(client, PSH_READY);
    } else if (client->ws.random_failed) {
        psh_client_no_random(client);
    } else {
        psh_env_add(psh_client_say_where(client), "the key could not be hashed");
        psh_client_fail(client, PUSHER_ERR_MEMORY, 0, PSH_URGE_SOON, false);
    }
}

static bool psh_client_speaks_tls(const pusher_client *client)
{
#if defined(PUSHER_TLS)
    return client->transport.user_data == &client->tls;
#else
    (void)client;
    return false;
#endif
}

static void psh_client_timeout(pusher_client *client, const char *what)
{
    PUSHER_ASSERT(what && client->stream);
    struct psh_text *say = psh_client_say_where(client);
#if defined(PUSHER_TLS)
    if (client->phase == PSH_OPENING && psh_client_speaks_tls(client) &&
        psh_tls_is_shaking(client->stream))
        psh_env_add(say, "TLS: ");
#endif
    psh_env_add(say, what);
    psh_client_fail(client, PUSHER_ERR_TIMEOUT, 0, PSH_URGE_SOON, false);
}

static uint64_t psh_client_ping_at(const pusher_client *client)
{
    uint64_t idle = client->last_received < client->last_sent ? client->last_received
                                                              : client->last_sent;
    return client->pong_by == PSH_NEVER ? idle + client->activity_ms : PSH_NEVER;
}

/* The time of a list's first deadline. It is in their order, for all in it have the same time to
   answer; in RETRY, who is behind waits for those in front: many are asked for together. */
static uint64_t psh_client_answer_at(const pusher_client *client, enum psh_work work)
{
    uint32_t first = client->work[work].first;
    if (!first) return PSH_NEVER;
    uint32_t left = psh_client_at(client, first - 1)->deadline - (uint32_t)client->now;
    return left > UINT32_MAX / 2 ? client->now : client->now + left;
}

static void psh_client_late(pusher_client *client, uint32_t index, enum psh_work work)
{
    if (work == PSH_WORK_AUTH) {
        psh_client_turn_down(client, index, true, PUSHER_ERR_TIMEOUT, 0, "no answer in time");
    } else if (psh_client_sub(client, index, PSH_SUB_LATE)) {
        bool user = psh_client_is_user(client, index);
        client->answered = client->answered || user; /* who waits for the sign-in waits no more */
        psh_client_tell_failed(client, index, PUSHER_ERR_TIMEOUT, "Timeout", 0,
                               user ? "the server has not answered the sign-in"
                                    : "the server has not answered the subscription");
    }
}

/* Not more than a frame can bear; the rest falls due in the next poll. */
static void psh_client_unanswered(pusher_client *client)
{
    int told = 0;
    for (int i = PSH_WORK_AUTH; i < PSH_WORK_TIMED; i++) {
        enum psh_work work = (enum psh_work)i;
        while (told++ < PSH_BATCH && client->phase == PSH_ONLINE && !psh_client_halted(client) &&
               psh_client_answer_at(client, work) <= client->now)
            psh_client_late(client, client->work[work].first - 1, work);
    }
}

/* Those that were told "later" get in line again. */
static void psh_client_wake(pusher_client *client)
{
    struct psh_list *waiting = &client->work[PSH_WORK_RETRY];
    for (int woken = 0; woken < PSH_BATCH; woken++) {
        if (psh_client_answer_at(client, PSH_WORK_RETRY) > client->now) return;
        uint32_t index = waiting->first - 1;
        if (psh_client_at(client, index)->entry.state == PSH_SUB_RETRYING)
            (void)psh_client_sub(client, index, PSH_SUB_WAKE);
        else psh_client_set_work(client, index, PSH_WORK_ASK);
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
    psh_client_wake(client);
}

/* After the output, so that a goodbye gets its chance. */
static void psh_client_end_wait(pusher_client *client)
{
    PUSHER_ASSERT(client->polling);
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
        for (int i = PSH_WORK_AUTH; i < PSH_WORK_TIMED; i++)
            due = psh_client_min(due, psh_client_answer_at(client, (enum psh_work)i));
        due = psh_client_min(due, psh_client_answer_at(client, PSH_WORK_RETRY));
    } else if (client->phase != PSH_IDLE) {
        due = psh_client_min(due, client->deadline);
    }
    if (client->auth && client->auth->stream && client->auth->phase == PSH_POST_IDLE)
        due = psh_client_min(due, client->auth->idle_at);
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
    client->last_received -= now - then; /* so long ago it was all the same */
    client->slept += now - then;
    client->now = then;
    client->jumped = jump;
}

/* A signal that may put an end to a stream: what was said in it goes first, such as our goodbye. */
static void psh_client_hurry(pusher_client *client, enum psh_signal signal)
{
    if (client->phase == PSH_CLOSING || client->phase == PSH_LEAVING)
        (void)psh_client_flush(client);
    psh_client_signal(client, signal);
}

static void psh_client_wishes(pusher_client *client)
{
    unsigned char wish = client->wish;
    if (client->doomed) return;
    client->wish = PSH_WISH_NONE;
    if (wish >= PSH_WISH_DOWN) {
        psh_client_signal(client, PSH_DOWN);
        if (wish != PSH_WISH_MOVE) psh_client_set_state(client, PUSHER_DISCONNECTED);
    }
    if (wish == PSH_WISH_UP || wish >= PSH_WISH_RESTART) {
        if (client->phase == PSH_IDLE || client->phase == PSH_LEAVING) {
            client->failures = 0;
            client->instant_used = false;
        }
        psh_client_hurry(client, PSH_UP);
    }
    if (client->now_wanted) psh_client_hurry(client, PSH_NOW);
    client->now_wanted = false;
}

static void psh_client_destroy(pusher_client *client)
{
    struct psh_env env = client->env;
    client->polling = client->bind.busy = false;
    psh_client_drop(client);
    psh_client_post_close(client);
    psh_client_sign_out(client);
    for (uint32_t i = 0; i < client->table.pool.used; i++) psh_client_free_more(client, i);
    psh_client_empty_line(&env, &client->triggers);
    if (client->auth) psh_auth_free(&env, client->auth);
    psh_ws_free(&client->ws);
    psh_env_release(&env, &client->scratch);
    psh_env_release(&env, &client->draft);
    psh_bind_free(&client->bind);
    psh_table_free(&client->table);
    psh_env_pool_free(&client->extras);
    psh_env_free(&env, client->sent_at);
#if defined(PUSHER_TLS)
    psh_tls_free(&client->tls);
#endif
    psh_client_empty_place(&env, &client->place);
    psh_client_free_place(&env, client->next);
    psh_env_free(&env, client);
}

static int psh_client_poll(pusher_client *client, uint64_t now_ms)
{
    PUSHER_ASSERT(!client->polling);
    client->polling = client->bind.busy = true;
    client->more = false;
    client->dispatched = 0;
    client->budget = client->max_poll_bytes;
    psh_client_clock(client, now_ms);
    psh_client_wishes(client);
    if (!client->doomed) psh_client_progress(client);
    if (!client->doomed) psh_client_input(client);
    psh_client_wishes(client);
    if (client->auth && !client->doomed) psh_client_ask(client);
    if (client->auth && !client->doomed) psh_client_post(client);
    if (client->auth && !client->doomed) psh_client_answers(client);
    if (!client->doomed) psh_client_timers(client);
    if (!client->doomed) psh_client_output(client);
    if (!client->doomed) psh_client_end_wait(client);
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

/* Is there something to do that waits for nobody? While something is owed the stream says when it
   takes more. */
static bool psh_client_at_once(const pusher_client *client)
{
    if (client->wish || client->now_wanted || client->more) return true;
    if (client->phase != PSH_ONLINE) return false;
    bool ask = client->work[PSH_WORK_ASK].first && client->auth->phase == PSH_POST_IDLE;
    return ask || client->answered ||
           (psh_client_unstaged(client) && psh_client_owed(client) == 0);
}

/* How long to leave the endpoint alone. Who waits for seconds does not look 500 times in each. */
static uint64_t psh_client_post_pause(const pusher_client *client)
{
    uint64_t all = client->wait_ms[PSH_WORK_AUTH], late = client->now + all;
    PUSHER_ASSERT(client->auth->phase != PSH_POST_IDLE);
    uint64_t waited = late > client->auth->deadline ? late - client->auth->deadline : 0;
    return PSH_POST_MS + psh_client_min(waited / 32, PSH_POST_MOST_MS);
}

static uint64_t psh_client_next_poll(const pusher_client *client)
{
    uint64_t due = psh_client_due(client);
    if (psh_client_at_once(client)) due = client->now;
    if (client->phase == PSH_ONLINE && client->triggers.first && psh_client_owed(client) == 0)
        due = psh_client_min(due, psh_client_trigger_at(client));
    if (client->auth && client->auth->phase != PSH_POST_IDLE)
        due = psh_client_min(due, client->now + psh_client_post_pause(client));
    if (client->phase == PSH_OPENING && client->want_send != PUSHER_IO_WANT_WRITE)
        due = psh_client_min(due, client->stream ? client->now + PSH_LOOKUP_MS : client->now);
    if (due < client->now) due = client->now; /* on the caller's clock it could lie before 0 */
    return due == PSH_NEVER ? PSH_NEVER : due - client->offset;
}

static int psh_client_wants(const pusher_client *client)
{
    bool write = client->want_send == PUSHER_IO_WANT_WRITE ||
                 client->want_recv == PUSHER_IO_WANT_WRITE ||
                 (client->want_send == 0 && psh_client_owed(client) > 0);
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
        if (text[i] <= ' ' || text[i] > '~' || strchr(forbidden, text[i])) return false;
    return true;
}

/* Of the header lines that the user has given, with a NUL. */
static size_t psh_client_fields_len(const pusher_options *o)
{
    size_t len = o->origin ? sizeof "Origin: \r\n" + strlen(o->origin) : 1;
    for (size_t i = 0; i < o->header_count; i++)
        len += strlen(o->headers[i].name) + strlen(o->headers[i].value) + 4;
    return len;
}

/* max_output: what the upgrade request must fit into. */
static const char *psh_client_bad_place(const pusher_options *o, size_t max_output)
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
    for (size_t i = 0; i < o->header_count; i++)
        if (!o->headers || !o->headers[i].name || !o->headers[i].value ||
            !psh_http_field_ok(o->headers[i].name, o->headers[i].value))
            return "options.headers has one that cannot be sent";
    if (max_output < 384 + strlen(o->key) + strlen(o->host ? o->host : o->cluster) +
                         (o->path ? strlen(o->path) : 0) + psh_client_fields_len(o))
        return "options.max_output_bytes is too small for the upgrade request";
    return NULL;
}


static size_t psh_client_max_output(const pusher_options *o)
{
    return o->max_output_bytes ? o->max_output_bytes : 12288;
}

static const char *psh_client_bad_limits(const pusher_options *o)
{
    if (o->max_message_bytes && o->max_message_bytes < 512)
        return "options.max_message_bytes is under 512";
    if (o->max_message_bytes > INT32_MAX - 1024)
        return "options.max_message_bytes is over 2 GiB";
    if (o->max_output_bytes && o->max_output_bytes < 1024)
        return "options.max_output_bytes is under 1024";
    if (o->max_output_bytes > INT32_MAX) return "options.max_output_bytes is over 2 GiB";
    if (o->max_poll_bytes && o->max_poll_bytes < 512) return "options.max_poll_bytes is under 512";
    if (o->max_channels > 1u << 24) return "options.max_channels is over 16777216";
    if (o->client_events_per_s > 10000) return "options.client_events_per_s is over 10000";
    if (o->max_client_event_bytes > INT32_MAX)
        return "options.max_client_event_bytes is over 2 GiB";
    return NULL;
}

static const char *psh_client_bad_hooks(const pusher_options *o)
{
    const pusher_transport *t = &o->transport;
    if ((unsigned)o->tls.mode > (unsigned)PUSHER_TLS_WHEN_ASKED)
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
    const char *bad = psh_client_bad_limits(options);
    if (!bad) bad = psh_client_bad_place(options, psh_client_max_output(options));
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

/* From the first attempt on, that is. */
static bool psh_client_has_tls(const pusher_options *o)
{
#if defined(PUSHER_TLS)
    return o->tls.mode == PUSHER_TLS_DEFAULT || o->tls.mode == PUSHER_TLS_ON;
#else
    (void)o;
    return false;
#endif
}

static pusher_result psh_client_set_tls(pusher_client *client, const pusher_options *o,
                                        const char **wrong)
{
    PUSHER_ASSERT(client->place.host);
    bool asked = client->auth && (client->auth->channel_url.tls || client->auth->user_url.tls);
#if defined(PUSHER_TLS)
    if (o->tls.mode == PUSHER_TLS_OFF && !asked) return PUSHER_OK;
    pusher_result result = psh_tls_init(&client->tls, &client->env, &o->transport, &o->tls, wrong);
    client->tls_waits = o->tls.mode == PUSHER_TLS_WHEN_ASKED;
    if (result == PUSHER_OK && psh_client_has_tls(o))
        client->transport = psh_tls_transport(&client->tls);
    return result;
#else
    (void)o;
    if (!asked) return PUSHER_OK;
    *wrong = "options.auth: an https:// endpoint needs TLS: define PUSHER_TLS";
    return PUSHER_ERR_UNSUPPORTED;
#endif
}

static char *psh_client_fields(const struct psh_env *env, const pusher_options *o)
{
    struct psh_text text;
    size_t len = psh_client_fields_len(o);
    char *fields = (char *)psh_env_alloc(env, len);
    if (!fields) return NULL;
    psh_env_text(&text, fields, len);
    if (o->origin) psh_http_header(&text, "Origin", o->origin);
    for (size_t i = 0; i < o->header_count; i++)
        psh_http_header(&text, o->headers[i].name, o->headers[i].value);
    PUSHER_ASSERT(!text.cut);
    return fields;
}

/* authority: "host:port", as in the Host header and in error texts */
static bool psh_client_set_place(const struct psh_env *env, struct psh_place *place,
                                 const pusher_options *o, bool tls)
{
    PUSHER_ASSERT(o->key && (o->host || o->cluster));
    char tail[16];
    struct psh_text text;
    memset(place, 0, sizeof *place);
    place->usual_port = tls ? 443 : 80;
    place->port = o->port ? (uint16_t)o->port : place->usual_port;
    place->host = o->host ? psh_client_join(env, o->host, "", "")
                          : psh_client_join(env, "ws-", o->cluster, ".pusher.com");
    /* Servers answer 404 to //app. */
    bool slash = o->path && *o->path && o->path[strlen(o->path) - 1] == '/';
    place->path = psh_client_join(env, o->path ? o->path : "", slash ? "app/" : "/app/", o->key);
    place->fields = psh_client_fields(env, o);
    if (!place->host || !place->path || !place->fields) return false;
    bool v6 = strchr(place->host, ':') != NULL;
    psh_env_text(&text, tail, sizeof tail);
    psh_env_add(&text, v6 ? "]" : "");
    if (place->port != place->usual_port) {
        psh_env_add(&text, ":");
        psh_env_add_uint(&text, place->port);
    }
    place->authority = psh_client_join(env, v6 ? "[" : "", place->host, tail);
    return place->authority != NULL;
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
    client->wait_ms[PSH_WORK_WAIT] = psh_client_or(o->subscribe_timeout_ms, 10000);
    client->wait_ms[PSH_WORK_AUTH] = psh_client_or(o->auth_timeout_ms, 10000);
    client->wait_ms[PSH_WORK_SIGNIN] = psh_client_or(o->signin_timeout_ms, 10000);
    client->reconnect_base_ms = psh_client_or(o->reconnect_base_ms, 1000);
    client->reconnect_cap_ms = psh_client_or(o->reconnect_cap_ms, 30000);
    client->max_attempts = o->max_attempts;
    client->max_poll_bytes = psh_client_or(o->max_poll_bytes, 65536);
    client->max_channels = psh_client_or(o->max_channels, 1048576);
    client->max_members = psh_client_or(o->max_members, 10000);
    client->max_held = psh_client_or(o->max_held_bytes, 65536);
    client->max_trigger = psh_client_or(o->max_client_event_bytes, 10240);
    client->max_queued = o->client_event_queue_bytes;
    client->rate = (uint16_t)psh_client_or(o->client_events_per_s, 10);
    for (int i = 0; i < PSH_WORK_TIMED; i++)
        if (client->wait_ms[i] > INT32_MAX) client->wait_ms[i] = INT32_MAX;
    client->activity_ms = client->activity_timeout_ms;
    client->unavailable_at = client->deadline = client->retry_at = PSH_NEVER;
    client->pong_by = client->pinged_at = PSH_NEVER;
}

static pusher_result psh_client_set_auth(pusher_client *client, const pusher_options *o,
                                         const char **bad)
{
    const pusher_auth_options *a = &o->auth;
    bool memory = false;
    if (!a->request_fn && !a->user_fn && !a->endpoint && !a->user_endpoint && !a->secret)
        return PUSHER_OK;
    client->auth = (struct psh_auth *)psh_env_alloc(&client->env, sizeof *client->auth);
    if (!client->auth) return PUSHER_ERR_MEMORY;
    *bad = psh_auth_init(client->auth, &client->env, o, &memory);
    if (*bad) return PUSHER_ERR_ARGUMENT;
    return memory ? PUSHER_ERR_MEMORY : PUSHER_OK;
}

/* Everything but the memory of the client itself. */
static pusher_result psh_client_init(pusher_client *client, const pusher_options *o,
                                     const char **wrong)
{
    uint64_t key[2];
    uint32_t max_message = psh_client_or(o->max_message_bytes, 65536);
    size_t max_output = psh_client_max_output(o);
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
    psh_env_pool_init(&client->extras, &client->env, sizeof(struct psh_more));
    client->user = PSH_NONE;
    size_t input = client->max_poll_bytes < 65536 ? client->max_poll_bytes : 65536;
    if (!psh_ws_init(&client->ws, &client->env, max_message, input, max_output) ||
        !psh_client_set_place(&client->env, &client->place, o, psh_client_has_tls(o)))
        return PUSHER_ERR_MEMORY;
    if (client->doomed) return PUSHER_ERR_RANDOM;
    pusher_result result = psh_client_set_auth(client, o, wrong);
    return result == PUSHER_OK ? psh_client_set_tls(client, o, wrong) : result;
}

/* A sentence for a result that needs none of its own. */
static const char *psh_client_fault(pusher_result result)
{
    switch (result) {
    case PUSHER_ERR_MEMORY: return "no memory, or a configured limit is reached";
    case PUSHER_ERR_STALE: return "the handle is stale: what it stood for has gone";
    case PUSHER_ERR_NOT_SUBSCRIBED: return "no such channel: subscribe first";
    case PUSHER_ERR_RANDOM: return "options.random failed";
    case PUSHER_ERR_NOT_CONNECTED: return "not connected";
    case PUSHER_ERR_PUBLIC: return "public channels take no client events";
    case PUSHER_ERR_ENCRYPTED: return "encrypted channels take no client events";
    case PUSHER_ERR_RATE: return "more client events a second than options.client_events_per_s";
    case PUSHER_ERR_QUEUE_FULL: return "the output is full: try again after the next poll";
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
#if !defined(PUSHER_TLS)
    bool meant = o.tls.ca_file || o.tls.ca || o.tls.ssl_config; /* whom to trust, and then plain? */
    if (!bad && o.tls.mode != PUSHER_TLS_OFF && (o.tls.mode != PUSHER_TLS_DEFAULT || meant)) {
        bad = "options.tls: define PUSHER_TLS where PUSHER_IMPLEMENTATION is, and link "
              "-lmbedtls -lmbedx509";
        result = PUSHER_ERR_UNSUPPORTED;
    }
#endif
    psh_env_init(&env, &o);
    pusher_client *client = bad ? NULL : (pusher_client *)psh_env_alloc(&env, sizeof *client);
    if (client) {
        memset(client, 0, sizeof *client);
        client->env = env;
        result = psh_client_init(client, &o, &bad);
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

static pusher_result psh_client_switch(pusher_client *client, const pusher_options *o)
{
    const char *bad = psh_client_bad_place(o, client->ws.out_cap);
    if (!bad && client->auth && client->auth->secret && strcmp(client->auth->key, o->key) != 0)
        bad = "options.auth.secret signs for one app: its key cannot change";
    if (bad) return psh_client_failed(client, PUSHER_ERR_ARGUMENT, bad);
    struct psh_place *place = (struct psh_place *)psh_env_alloc(&client->env, sizeof *place);
    if (!place || !psh_client_set_place(&client->env, place, o, psh_client_speaks_tls(client))) {
        psh_client_free_place(&client->env, place);
        return psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
    }
    psh_client_free_place(&client->env, client->next);
    client->next = place;
    if (client->phase != PSH_IDLE && client->phase != PSH_LEAVING &&
        client->wish < PSH_WISH_DOWN)
        client->wish = PSH_WISH_MOVE;
    return PUSHER_OK;
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
    struct psh_entry *entry = &psh_client_at(client, index)->entry;
    entry->kind = (unsigned char)psh_proto_channel_kind(name);
    bool ask = entry->kind >= PUSHER_KIND_PRIVATE;
    if (ask && !psh_client_need_more(client, index)) {
        psh_table_remove(&client->table, index);
        return PSH_NONE;
    }
    psh_client_set_work(client, index, ask ? PSH_WORK_ASK : PSH_WORK_QUEUE);
    return index;
}

static void psh_client_refer(pusher_client *client, uint32_t index)
{
    if (psh_client_at(client, index)->entry.references++ == 0)
        psh_client_push(client, &client->order, PSH_BY_ORDER, index);
    (void)psh_client_sub(client, index, PSH_SUB_AGAIN);
}

/* NULL, or why the channel cannot be subscribed. */
static const char *psh_client_bad_channel(const pusher_client *client, const char *name,
                                          pusher_result *code)
{
    const char *bad = psh_proto_bad_channel(name);
    *code = PUSHER_ERR_NAME;
    pusher_kind kind = psh_proto_channel_kind(name);
    if (bad || kind < PUSHER_KIND_PRIVATE) return bad;
    *code = PUSHER_ERR_UNSUPPORTED;
    if (psh_proto_is_encrypted(kind) && !PSH_BOX_OPENS)
        return "this mbedTLS was built without Poly1305, which encrypted channels need";
    *code = PUSHER_ERR_AUTH;
    if (client->auth && psh_auth_way(client->auth, false) != PSH_WAY_NONE) return NULL;
    return "options.auth is needed: request_fn, endpoint or secret";
}

static pusher_channel psh_client_subscribe(pusher_client *client, const char *name)
{
    pusher_channel none = {0, 0};
    pusher_result code;
    const char *bad = psh_client_bad_channel(client, name, &code);
    if (bad) {
        (void)psh_client_failed(client, code, bad);
        return none;
    }
    uint32_t index = psh_client_find(client, name, strlen(name));
    if (index == PSH_NONE) index = psh_client_add(client, name, strlen(name));
    else if (psh_client_at(client, index)->entry.references == UINT32_MAX) index = PSH_NONE;
    if (index == PSH_NONE) {
        (void)psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
        return none;
    }
    psh_client_refer(client, index);
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

enum { PSH_FIELDS = 1024 };

/* With the channel's name, and the proof that it may have already. */
static bool psh_client_fields_fit(const pusher_client *client, const char *name, size_t len)
{
    uint32_t index = psh_client_find(client, name, strlen(name));
    const struct psh_more *more = index == PSH_NONE ? NULL : psh_client_more(client, index);
    PUSHER_ASSERT(len <= PSH_FIELDS);
    if (more && more->ask.verdict == PSH_VERDICT_YES) len += strlen(more->ask.text);
    return psh_ws_fits(&client->ws, PSH_PROTO_FRAME + strlen(name) + len);
}

/* With more members for the subscription's data. */
static pusher_channel psh_client_subscribe_with(pusher_client *client, const char *name,
                                                const char *json)
{
    pusher_channel channel = {0, 0};
    const char *wrong;
    size_t len = 0;
    const char *inside = psh_proto_fields(json, &len, &wrong);
    if (!inside || len > PSH_FIELDS) {
        (void)psh_client_failed(client, inside ? PUSHER_ERR_TOO_BIG : PUSHER_ERR_PARSE,
                                inside ? "the fields are over 1024 bytes" : wrong);
        return channel;
    }
    if (!psh_client_fields_fit(client, name, len)) {
        (void)psh_client_failed(client, PUSHER_ERR_TOO_BIG,
                                "the fields do not fit into options.max_output_bytes");
        return channel;
    }
    bool any = psh_json_skip_space(inside, inside + len) != inside + len;
    char *copy = any ? psh_env_copy(&client->env, inside, len) : NULL;
    if (copy || !any) channel = psh_client_subscribe(client, name);
    else (void)psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
    struct psh_more *more = NULL;
    if (channel.id) more = psh_client_need_more(client, channel.id - 1);
    if (channel.id && !more) {
        (void)psh_client_unsubscribe(client, channel);
        (void)psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
        channel.id = channel.generation = 0;
    }
    if (more) {
        psh_env_free(&client->env, more->fields);
        more->fields = copy;
    } else {
        psh_env_free(&client->env, copy);
    }
    return channel;
}

/* The channel after this one in the order of subscription; none: the first. */
static pusher_channel psh_client_after(const pusher_client *client, pusher_channel handle)
{
    uint32_t index = psh_client_index(client, handle), id = client->order.first;
    if (index != PSH_NONE) id = psh_client_at(client, index)->link[PSH_BY_ORDER].next;
    else if (handle.id) id = 0;
    if (id && psh_client_is_user(client, id - 1))
        id = psh_client_at(client, id - 1)->link[PSH_BY_ORDER].next;
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
    if (handle.id == UINT32_MAX - 1) return &client->user_handlers;
    if (handle.id == UINT32_MAX - 2) return &client->watchers;
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

static pusher_kind psh_client_kind(const char *name)
{
    return psh_proto_channel_kind(name);
}

/* -- presence, client events, sign-in -- */

static const struct psh_members *psh_client_members(const pusher_client *client,
                                                    pusher_channel handle)
{
    uint32_t index = psh_client_index(client, handle);
    const struct psh_more *more = index == PSH_NONE ? NULL : psh_client_more(client, index);
    return more ? more->members : NULL;
}

static uint32_t psh_client_member_count(const pusher_client *client, pusher_channel handle)
{
    const struct psh_members *members = psh_client_members(client, handle);
    return members ? members->count : 0;
}

static pusher_member psh_client_member_at(const pusher_client *client, pusher_channel handle,
                                          uint32_t index)
{
    bool there = index < psh_client_member_count(client, handle);
    return psh_client_member(there ? psh_client_members(client, handle)->items[index] : NULL);
}

/* The member of this id; NULL: this client's own. */
static pusher_member psh_client_find_member(const pusher_client *client, pusher_channel handle,
                                            const char *id)
{
    const struct psh_members *members = psh_client_members(client, handle);
    if (members && !id) id = psh_client_more(client, handle.id - 1)->me;
    uint32_t at = members && id ? psh_member_find(members, id, strlen(id)) : PSH_NONE;
    return psh_client_member(at == PSH_NONE ? NULL : members->items[at]);
}

/* PUSHER_OK, or the first reason why the event cannot be sent. */
static pusher_result psh_client_check_trigger(const pusher_client *client, uint32_t index,
                                              const char *json, size_t len)
{
    if (index == PSH_NONE) return PUSHER_ERR_STALE;
    unsigned char kind = psh_client_at(client, index)->entry.kind;
    if (kind < PUSHER_KIND_PRIVATE) return PUSHER_ERR_PUBLIC;
    if (psh_proto_is_encrypted((pusher_kind)kind)) return PUSHER_ERR_ENCRYPTED;
    if (len > client->max_trigger) return PUSHER_ERR_TOO_BIG;
    return psh_json_valid(json, len) ? PUSHER_OK : PUSHER_ERR_PARSE;
}

static const char *psh_client_trigger_fault(pusher_result result)
{
    switch (result) {
    case PUSHER_ERR_TOO_BIG: return "the event is over options.max_client_event_bytes, or over "
                                    "options.max_output_bytes";
    case PUSHER_ERR_PARSE: return "the event's data is not one JSON value";
    case PUSHER_ERR_NOT_SUBSCRIBED: return "the server has not confirmed the subscription yet";
    default: return NULL;
    }
}

/* Does a client event of this channel wait already? The next must not overtake it. */
static bool psh_client_is_queued(const pusher_client *client, pusher_channel channel)
{
    const struct psh_held *held = client->triggers.first;
    while (held && (held->channel.id != channel.id ||
                    held->channel.generation != channel.generation))
        held = held->next;
    return held != NULL;
}

static pusher_result psh_client_send_trigger(pusher_client *client, uint32_t index,
                                             const struct psh_text *text)
{
    unsigned char state = psh_client_at(client, index)->entry.state;
    bool live = state == PSH_SUB_LIVE, online = client->phase == PSH_ONLINE;
    size_t left = state == PSH_SUB_REFUSED ? 0 : client->max_queued; /* it would wait in vain */
    pusher_channel channel = psh_client_handle(client, index);
    if (left && (!online || !live || psh_client_is_queued(client, channel))) {
        if (text->len > left - client->triggers.bytes) return PUSHER_ERR_QUEUE_FULL;
        return psh_client_hold(&client->env, &client->triggers, left, channel, text->at, text->len)
                   ? PUSHER_OK
                   : PUSHER_ERR_MEMORY;
    }
    if (!online) return PUSHER_ERR_NOT_CONNECTED;
    if (!live) return PUSHER_ERR_NOT_SUBSCRIBED;
    if (psh_client_rate_at(client) > client->now) return PUSHER_ERR_RATE;
    if (!psh_client_stage(client, text->at, text->len)) return PUSHER_ERR_QUEUE_FULL;
    psh_client_rate_count(client);
    return PUSHER_OK;
}

static pusher_result psh_client_trigger(pusher_client *client, pusher_channel handle,
                                        const char *event, const char *json, size_t len)
{
    uint32_t index = psh_client_index(client, handle);
    struct psh_text text;
    const char *bad = psh_proto_bad_trigger(event);
    if (!bad && !psh_client_utf8(event, strlen(event)))
        bad = "a client event's name is not UTF-8";
    if (index != PSH_NONE && bad) return psh_client_failed(client, PUSHER_ERR_NAME, bad);
    pusher_result result = psh_client_check_trigger(client, index, json, len);
    if (result == PUSHER_OK && !client->sent_at) {
        size_t size = client->rate * sizeof *client->sent_at;
        client->sent_at = (uint64_t *)psh_env_alloc(&client->env, size);
        if (client->sent_at) memset(client->sent_at, 0, size);
        else result = PUSHER_ERR_MEMORY;
    }
    if (result == PUSHER_OK) {
        const char *name = psh_client_at(client, index)->entry.name;
        size_t cap = PSH_PROTO_FRAME + strlen(name) + strlen(event) + len;
        if (!psh_ws_fits(&client->ws, cap)) {
            result = PUSHER_ERR_TOO_BIG;
        } else if (psh_client_draft(client, &text, cap)) {
            psh_proto_trigger(&text, name, event, json, len);
            PUSHER_ASSERT(!text.cut);
            result = psh_client_send_trigger(client, index, &text);
        } else {
            result = PUSHER_ERR_MEMORY;
        }
    }
    if (result == PUSHER_OK) return result;
    return psh_client_failed(client, result, psh_client_trigger_fault(result));
}

/* The user's entry is one more in the table, but without its name: nobody finds it. */
static pusher_result psh_client_signin(pusher_client *client)
{
    uint32_t index = client->user;
    if (!client->auth || psh_auth_way(client->auth, true) == PSH_WAY_NONE)
        return psh_client_failed(client, PUSHER_ERR_AUTH,
                                 "options.auth is needed: user_fn, user_endpoint, request_fn, or "
                                 "secret with signin_data");
    if (index != PSH_NONE) {
        (void)psh_client_sub(client, index, PSH_SUB_AGAIN);
        return PUSHER_OK;
    }
    if (!psh_table_add(&client->table, "#user", 5, &index))
        return psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
    psh_table_unindex(&client->table, index);
    if (!psh_client_need_more(client, index)) {
        psh_table_remove(&client->table, index);
        return psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
    }
    client->user = index;
    psh_client_refer(client, index);
    psh_client_set_work(client, index, PSH_WORK_ASK);
    return PUSHER_OK;
}

/* -- answering -- */

static pusher_result psh_client_stale(pusher_client *client)
{
    client->stats.auth_stale++;
    return psh_client_failed(client, PUSHER_ERR_STALE,
                             "the ticket is stale: answered already, or of an earlier connection");
}

static const char *psh_client_answer_fault(pusher_result result)
{
    switch (result) {
    case PUSHER_ERR_PARSE: return "the answer is not JSON";
    case PUSHER_ERR_AUTH: return "the answer lacks what the channel needs";
    case PUSHER_ERR_TOO_BIG: return "the proof does not fit into options.max_output_bytes";
    default: return NULL;
    }
}

static pusher_result psh_client_accept(pusher_client *client, pusher_ticket ticket,
                                       const char *body, size_t len)
{
    uint32_t index = psh_client_asked(client, ticket);
    if (index == PSH_NONE) return psh_client_stale(client);
    pusher_result result = psh_client_accept_at(client, index, body, len);
    if (result == PUSHER_OK) return result;
    return psh_client_failed(client, result, psh_client_answer_fault(result));
}

static pusher_result psh_client_reject(pusher_client *client, pusher_ticket ticket, int status,
                                       const char *reason, bool retry)
{
    uint32_t index = psh_client_asked(client, ticket);
    if (index == PSH_NONE) return psh_client_stale(client);
    psh_client_turn_down(client, index, retry, PUSHER_ERR_AUTH, status,
                         reason ? reason : "refused");
    return PUSHER_OK;
}

/* The channel of this name, if it was asked for in that call. */
static uint32_t psh_client_in_batch(const pusher_client *client, uint32_t batch,
                                    const struct psh_value *key)
{
    char name[201]; /* the longest, and its NUL */
    size_t len = 0;
    if (!psh_json_to_text(key->at, key->len, name, sizeof name, &len)) return PSH_NONE;
    uint32_t index = psh_client_find(client, name, len);
    const struct psh_more *more = index == PSH_NONE ? NULL : psh_client_more(client, index);
    return more && more->ask.serial && more->ask.batch == batch ? index : PSH_NONE;
}

static pusher_result psh_client_accept_batch(pusher_client *client, pusher_ticket ticket,
                                             const char *body, size_t len)
{
    uint32_t first = psh_client_asked(client, ticket), status, next;
    struct psh_json_walk walk;
    struct psh_value key, value;
    if (first == PSH_NONE) return psh_client_stale(client);
    uint32_t batch = psh_client_more(client, first)->ask.batch;
    bool good = psh_json_valid(body, len) && psh_json_enter(&walk, body, len) && walk.object;
    while (good && psh_json_next(&walk, &key, &value)) {
        uint32_t index = psh_client_in_batch(client, batch, &key);
        if (index == PSH_NONE) continue;
        struct psh_value part = psh_proto_part(&value, &status);
        if (status == 200) (void)psh_client_accept_at(client, index, part.raw, part.raw_len);
        else
            psh_client_turn_down(client, index, status == 429 || status >= 500, PUSHER_ERR_AUTH,
                                 (int)status, "refused");
    }
    for (uint32_t id = client->work[PSH_WORK_AUTH].first; id; id = next) {
        next = psh_client_at(client, id - 1)->link[PSH_BY_WORK].next;
        if (psh_client_more(client, id - 1)->ask.batch == batch)
            psh_client_turn_down(client, id - 1, false, PUSHER_ERR_AUTH, 0,
                                 good ? "the answer does not name it" : "the answer is not JSON");
    }
    return good ? PUSHER_OK
                : psh_client_failed(client, PUSHER_ERR_PARSE, "the answer is no JSON object");
}

static pusher_result psh_client_auth_header(pusher_client *client, const char *name,
                                            const char *value)
{
    struct psh_auth *auth = client->auth;
    pusher_result result = PUSHER_ERR_ARGUMENT;
    if (auth && auth->preparing) result = psh_auth_field(&client->env, &auth->fields, name, value);
    if (result == PUSHER_OK) return result;
    if (result == PUSHER_ERR_ARGUMENT)
        return psh_client_failed(client, result,
                                 "not in auth.prepare_fn, or not a header that can be sent");
    auth->starved = true;
    return psh_client_failed(client, result, NULL);
}

static pusher_result psh_client_auth_param(pusher_client *client, const char *name,
                                           const char *value)
{
    struct psh_auth *auth = client->auth;
    if (!auth || !auth->preparing)
        return psh_client_failed(client, PUSHER_ERR_ARGUMENT, "not in auth.prepare_fn");
    if (psh_http_form(&client->env, &auth->params, name, value, strlen(value))) return PUSHER_OK;
    auth->starved = true;
    return psh_client_failed(client, PUSHER_ERR_MEMORY, NULL);
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
    if (client->wish == PSH_WISH_MOVE) return PUSHER_OK;
    client->wish = client->wish >= PSH_WISH_DOWN ? PSH_WISH_RESTART : PSH_WISH_UP;
    return PUSHER_OK;
}

PUSHER_DEF void pusher_disconnect(pusher_client *client)
{
    if (client) client->wish = PSH_WISH_DOWN;
}

PUSHER_DEF pusher_result pusher_switch(pusher_client *client, const pusher_options *options)
{
    if (!client) return PUSHER_ERR_ARGUMENT;
    if (!options) return psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL);
    return psh_client_switch(client, options);
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

PUSHER_DEF pusher_channel pusher_subscribe_with(pusher_client *client, const char *channel_name,
                                                const char *fields_json)
{
    pusher_channel none = {0, 0};
    if (client && channel_name && fields_json)
        return psh_client_subscribe_with(client, channel_name, fields_json);
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
    const struct psh_more *more = NULL;
    if (client && psh_client_channel(client, channel))
        more = psh_client_more(client, channel.id - 1);
    return more ? more->count : 0;
}

PUSHER_DEF pusher_kind pusher_channel_kind(const char *channel_name)
{
    return channel_name ? psh_client_kind(channel_name) : PUSHER_KIND_PUBLIC;
}

PUSHER_DEF uint32_t pusher_member_count(const pusher_client *client, pusher_channel channel)
{
    return client ? psh_client_member_count(client, channel) : 0;
}

PUSHER_DEF bool pusher_member_at(const pusher_client *client, pusher_channel channel,
                                 uint32_t index, pusher_member *member)
{
    if (!member) return false;
    *member = psh_client_member(NULL);
    if (client) *member = psh_client_member_at(client, channel, index);
    return member->id != NULL;
}

PUSHER_DEF bool pusher_member_find(const pusher_client *client, pusher_channel channel,
                                   const char *user_id, pusher_member *member)
{
    if (!member) return false;
    *member = psh_client_member(NULL);
    if (client && user_id) *member = psh_client_find_member(client, channel, user_id);
    return member->id != NULL;
}

PUSHER_DEF bool pusher_member_me(const pusher_client *client, pusher_channel channel,
                                 pusher_member *member)
{
    if (!member) return false;
    *member = psh_client_member(NULL);
    if (client) *member = psh_client_find_member(client, channel, NULL);
    return member->id != NULL;
}

PUSHER_DEF pusher_result pusher_trigger(pusher_client *client, pusher_channel channel,
                                        const char *event_name, const char *json, size_t len)
{
    if (!client) return PUSHER_ERR_ARGUMENT;
    if (!event_name || !json) return psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL);
    return psh_client_trigger(client, channel, event_name, json, len);
}

PUSHER_DEF pusher_result pusher_signin(pusher_client *client)
{
    return client ? psh_client_signin(client) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF const char *pusher_user_id(const pusher_client *client)
{
    return client ? client->user_id : NULL;
}

PUSHER_DEF pusher_result pusher_auth_accept(pusher_client *client, pusher_ticket ticket,
                                            const char *body, size_t len)
{
    if (client && body) return psh_client_accept(client, ticket, body, len);
    return client ? psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF pusher_result pusher_auth_accept_batch(pusher_client *client, pusher_ticket ticket,
                                                  const char *body, size_t len)
{
    if (client && body) return psh_client_accept_batch(client, ticket, body, len);
    return client ? psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF pusher_result pusher_auth_reject(pusher_client *client, pusher_ticket ticket,
                                            int status, const char *reason, bool retry)
{
    return client ? psh_client_reject(client, ticket, status, reason, retry)
                  : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF pusher_result pusher_auth_header(pusher_client *client, const char *name,
                                            const char *value)
{
    if (client && name && value) return psh_client_auth_header(client, name, value);
    return client ? psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL) : PUSHER_ERR_ARGUMENT;
}

PUSHER_DEF pusher_result pusher_auth_param(pusher_client *client, const char *name,
                                           const char *value)
{
    if (client && name && value) return psh_client_auth_param(client, name, value);
    return client ? psh_client_failed(client, PUSHER_ERR_ARGUMENT, NULL) : PUSHER_ERR_ARGUMENT;
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
    if (stats && client) {
        *stats = client->stats;
        stats->pings_received = client->ws.pings;
    }
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
    case PUSHER_ERR_NOT_CONNECTED: return "PUSHER_ERR_NOT_CONNECTED";
    case PUSHER_ERR_NOT_SUBSCRIBED: return "PUSHER_ERR_NOT_SUBSCRIBED";
    case PUSHER_ERR_PUBLIC: return "PUSHER_ERR_PUBLIC";
    case PUSHER_ERR_ENCRYPTED: return "PUSHER_ERR_ENCRYPTED";
    case PUSHER_ERR_UNSUPPORTED: return "PUSHER_ERR_UNSUPPORTED";
    case PUSHER_ERR_TOO_BIG: return "PUSHER_ERR_TOO_BIG";
    case PUSHER_ERR_RATE: return "PUSHER_ERR_RATE";
    case PUSHER_ERR_QUEUE_FULL: return "PUSHER_ERR_QUEUE_FULL";
    case PUSHER_ERR_AUTH: return "PUSHER_ERR_AUTH";
    case PUSHER_ERR_DECRYPT: return "PUSHER_ERR_DECRYPT";
    case PUSHER_ERR_RANDOM: return "PUSHER_ERR_RANDOM";
    case PUSHER_ERR_RESOLVE: return "PUSHER_ERR_RESOLVE";
    case PUSHER_ERR_IO: return "PUSHER_ERR_IO";
    case PUSHER_ERR_TLS: return "PUSHER_ERR_TLS";
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
 *     0.2.0  private, presence, encrypted and cache channels, authorization, client events,
 *            sign-in, a reader for payloads; TLS; Windows; addresses that race.
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
