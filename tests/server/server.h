/*
 * server.h - a Pusher Channels server on the loopback interface, for tests and examples.
 *
 * It speaks as four real servers do (server_dialect): which fields are strings and which are
 * objects, what an error looks like, who closes with a code and who just hangs up. On request
 * it misbehaves (server_faults). It shares no code with the client it is used to test: what it
 * finds wrong in a client's bytes is logged as SERVER_LOG_VIOLATION.
 *
 *     server_options o = {0};                        // zero: a port of its own choice, pusher.com
 *     server *s = server_start(&o);                  // listening when this returns
 *     ... connect a client to 127.0.0.1, server_port(s), key "app-key" ...
 *     server_wait_subscribers(s, "news", 1, 2000);
 *     server_publish(s, "news", "greeting", "{\"n\":1}");
 *     server_stop(s, SERVER_STOP_DIALECT);
 *
 * Link: -lwslay -lmbedcrypto -lpthread. Each server is one thread with a poll() loop; every
 * function below may be called from any thread. What a call sends is queued, in order, and
 * leaves as soon as the thread runs. Nothing here waits for a client, except the server_wait_*
 * functions, which end at their deadline. Running out of memory aborts the program.
 *
 * Faults. server_faults is copied when a connection is accepted, so that a change touches the
 * next connections only; server_set_faults_now also changes those that are open (what belongs to
 * a step they are past has no effect). Example: the next connection gets a 503, later ones work:
 *
 *     server_faults f = {0};
 *     f.http_status = 503;
 *     server_set_faults(s, &f, 1);
 *
 * HTTP, on the same port: POST /apps/APP/events with {"name", "channel" or "channels", "data",
 * "socket_id"} publishes and answers {}; POST /pusher/auth and /pusher/user-auth (form-encoded
 * socket_id, channel_name) sign, as an application's own server would, for the user in the field
 * user_id, or with the member or user that channel_data or user_data holds as JSON. An encrypted
 * channel is given its shared_secret, and server_publish_sealed() seals for it.
 *
 *     curl -d '{"name":"greeting","channel":"news","data":"{}"}' 127.0.0.1:6001/apps/app/events
 */
#ifndef TESTS_SERVER_H
#define TESTS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct server server;

typedef enum server_dialect {
    SERVER_PUSHER,  /* pusher.com as documented           */
    SERVER_SOKETI,  /* soketi 1.6, as recorded            */
    SERVER_REVERB,  /* Laravel Reverb 1.x, as recorded    */
    SERVER_SOCKUDO  /* Sockudo, protocol version 1        */
} server_dialect;

#define SERVER_NEVER UINT32_MAX

/* How a connection is ended where a close code is asked for; a positive number is the code. */
enum {
    SERVER_CLOSE_EMPTY = 0,  /* close frame without a code  */
    SERVER_CLOSE_FIN = -1,   /* no close frame, just FIN    */
    SERVER_CLOSE_RST = -2    /* connection reset            */
};

/* Frames that no server may send. Each is the wrong frame alone, with nothing after it. */
typedef enum server_bad_frame {
    SERVER_BAD_NONE,
    SERVER_BAD_BINARY,           /* legal WebSocket, but Pusher has text only          */
    SERVER_BAD_MASKED,           /* a text frame masked as only clients may            */
    SERVER_BAD_RSV,              /* RSV1 set though nothing was negotiated             */
    SERVER_BAD_OPCODE,           /* data opcode 3                                      */
    SERVER_BAD_CONTROL_OPCODE,   /* control opcode 11                                  */
    SERVER_BAD_UTF8,             /* text that is not UTF-8                             */
    SERVER_BAD_NON_MINIMAL,      /* 5 bytes of payload, length written in 16 bits      */
    SERVER_BAD_NON_MINIMAL64,    /* the same in 64 bits                                */
    SERVER_BAD_OVERSIZED,        /* 2^31-1 bytes declared, 16 sent                     */
    SERVER_BAD_LENGTH_SIGN,      /* top bit of the 64-bit length set                   */
    SERVER_BAD_LONG_CONTROL,     /* ping with 126 bytes                                */
    SERVER_BAD_SPLIT_CONTROL,    /* ping without FIN                                   */
    SERVER_BAD_CONTINUATION,     /* continuation of nothing                            */
    SERVER_BAD_INTERLEAVED,      /* a second text message inside a fragmented one      */
    SERVER_BAD_CLOSE_LENGTH,     /* close frame with one byte                          */
    SERVER_BAD_CLOSE_CODE,       /* close frame with code 1005                         */
    SERVER_BAD_CLOSE_UTF8,       /* close reason that is not UTF-8                     */
    SERVER_BAD_COUNT
} server_bad_frame;

typedef struct server_faults {
    /* Answering the upgrade. */
    int http_status;              /* this status instead of 101 ...                              */
    char http_reason[64];         /* ... with this reason phrase                                 */
    bool wrong_accept;            /* well-formed Sec-WebSocket-Accept, wrong value               */
    bool no_accept;               /* no Sec-WebSocket-Accept at all                              */
    bool endless_header;          /* header lines without end, as fast as they are taken         */
    size_t header_bytes;          /* one more header field of this size                          */
    bool lower_case_headers;      /* upgrade: websocket ... as poxa writes                       */
    uint32_t answer_delay_ms;     /* wait before the 101                                         */
    bool never_answer;            /* read the request, say nothing                               */
    /* connection_established. */
    uint32_t established_delay_ms; /* 0: in the same write as the 101, as most servers do        */
    bool never_establish;
    int establish_error;          /* pusher:error with this code instead, and the dialect's end  */
    bool error_stays_open;        /* ... but leave the socket open                               */
    bool no_activity_timeout;     /* leave the field out                                         */
    bool zero_activity_timeout;
    bool established_object;      /* data as an object, not as a string                          */
    /* Subscriptions and liveness. */
    bool never_acknowledge;       /* subscribes, but says nothing                                */
    bool refuse_subscriptions;    /* the dialect's answer to a bad signature                     */
    bool never_pong;              /* neither pusher:pong nor WebSocket pong                      */
    bool ignore_close;            /* no answer to the client's close frame, no FIN               */
    /* Answering POST /pusher/auth and /pusher/user-auth. */
    int auth_status;              /* this status instead of 200 ...                              */
    char auth_location[128];      /* ... with this Location                                      */
    char auth_body[256];          /* this body instead of the signature                          */
    size_t auth_secret_bytes;     /* shared_secret of so many bytes                              */
    bool auth_no_secret;          /* no shared_secret                                            */
    bool auth_no_data;            /* no channel_data: the member is the signed-in user           */
    uint32_t auth_delay_ms;       /* wait before the answer                                      */
    bool never_auth;              /* read the request, say nothing                               */
    bool auth_chunked;            /* Transfer-Encoding: chunked, in pieces of 7 bytes            */
    bool auth_close;              /* close after each answer                                     */
    /* Framing of text messages. */
    size_t fragment;              /* frames of at most this many payload bytes                   */
    bool empty_final;             /* one non-final frame, then an empty continuation (ipe)       */
    bool ping_between;            /* a WebSocket ping after each non-final frame                 */
    size_t write_bytes;           /* at most this many bytes a write() ...                       */
    uint32_t write_pause_ms;      /* ... with this pause in between                              */
    /* Things that happen by themselves. */
    uint32_t close_after;         /* after this many text messages sent, the first being         */
    int close_code;               /* connection_established, close: code or SERVER_CLOSE_*       */
    server_bad_frame bad_frame;   /* right after connection_established                          */
    uint32_t flood;               /* after each acknowledged subscription, this many events      */
                                  /* "flood" with {"n":1}, {"n":2} ... on its channel            */
} server_faults;

typedef struct server_options { /* zero means default everywhere; strings are copied */
    uint16_t port;                /* 0: any free one                                             */
    bool ipv6;                    /* listen on ::1 too, same port                                */
    const char *key, *secret;     /* app-key, app-secret                                         */
    const char *master_key;       /* of encrypted channels, base64; the bytes 0, 1 ... 31        */
    const char *path;             /* prefix of /app/KEY; none                                    */
    const char *origin;           /* the only Origin allowed; any                                */
    server_dialect dialect;
    uint32_t activity_timeout;    /* seconds; the dialect's: 120, soketi and Reverb 30           */
    uint32_t max_connections;     /* more are refused in the dialect's manner; no limit          */
    uint32_t client_events_per_second; /* pusher 10, others no limit                             */
    uint32_t idle_ms;             /* silence until the dialect's ping or close 4201; its own     */
    bool no_client_events;        /* the application has them switched off                       */
    bool subscription_count;      /* send pusher_internal:subscription_count                     */
    bool patient;                 /* after a close frame: no FIN before the client has answered  */
    bool check_http;              /* POST /apps/... must be signed                               */
    bool no_log;                  /* keep no log (long runs)                                     */
    FILE *trace;                  /* print the log as it grows                                   */
    server_faults faults;         /* of every connection until changed                           */
} server_options;

/* NULL and errno when the port cannot be had. Two servers never share a port. */
server *server_start(const server_options *options);
uint16_t server_port(const server *s);

typedef enum server_stop_mode {
    SERVER_STOP_DIALECT, /* as on SIGTERM: error 4200 + close 4200, Reverb: FIN */
    SERVER_STOP_RST      /* as when the process is killed by the kernel         */
} server_stop_mode;
/* Ends all connections, the thread and the server; the port is free afterwards. */
void server_stop(server *s, server_stop_mode mode);

/* Behaviour from now on. count: how many of the next connections get the faults, the ones after
   them get none; 0: all of them. */
void server_set_faults(server *s, const server_faults *faults, uint32_t count);
void server_set_faults_now(server *s, const server_faults *faults);
/* No accept, no reading, no writing, no timers until switched off again; nothing is closed. */
void server_stall(server *s, bool on);

/* data_text becomes a JSON string on the wire, escaped as the dialect escapes. A channel
   "#server-to-user-ID" reaches every connection signed in as ID. Cache channels keep it. */
void server_publish(server *s, const char *channel, const char *event, const char *data_text);
/* The same as an application's own server does it for an encrypted channel: data_text is sealed
   under the channel's key. master_key: another than the server's (base64), or NULL. */
void server_publish_sealed(server *s, const char *channel, const char *event,
                           const char *data_text, const char *master_key);
/* From now on; base64 of 32 bytes. false: it is not, and nothing has changed. */
bool server_set_master_key(server *s, const char *base64);
/* One text message as it is, to the subscribers of a channel or to every connection (NULL). */
void server_publish_raw(server *s, const char *channel, const char *json);
/* count events as fast as the subscribers' sockets take them; data_text NULL: {"n":1}, ... */
void server_flood(server *s, const char *channel, const char *event, const char *data_text,
                  uint32_t count);
/* To every connection, whatever state it is in, after what is already queued for it. */
void server_send_bytes(server *s, const void *bytes, size_t len);
void server_send_bad_frame(server *s, server_bad_frame kind);
void server_send_ping(server *s, const void *payload, size_t len);
/* code: 1000 .. 4999 or SERVER_CLOSE_*. reason may be NULL. Connections of the HTTP interface stay. */
void server_close_all(server *s, int code, const char *reason);
/* pusher:error in the dialect's shape; code -1: null. channel may be NULL. Nothing is closed. */
void server_error_all(server *s, int code, const char *message, const char *channel);
/* What the next subscriber of a cache channel would get is forgotten. */
void server_forget_cache(server *s, const char *channel);

size_t server_subscribers(server *s, const char *channel);
size_t server_connections(server *s);  /* upgraded and not closing */
/* true when the number is exactly n at some moment before the deadline. */
bool server_wait_connections(server *s, size_t n, uint32_t timeout_ms);
/* TCP connections in any state: at none, all that clients have sent has been read. */
bool server_wait_sockets(server *s, size_t n, uint32_t timeout_ms);
bool server_wait_subscribers(server *s, const char *channel, size_t n, uint32_t timeout_ms);

typedef enum server_log_kind {
    SERVER_LOG_ANY,        /* for the questions below only                            */
    SERVER_LOG_ACCEPT,     /* TCP connection                                          */
    SERVER_LOG_REQUEST,    /* text: request line and headers of an upgrade            */
    SERVER_LOG_HTTP,       /* text: request line and headers of any other request     */
    SERVER_LOG_TEXT,       /* text: one message of the client                         */
    SERVER_LOG_BINARY,
    SERVER_LOG_PING,       /* WebSocket ping and pong, text: payload                  */
    SERVER_LOG_PONG,
    SERVER_LOG_CLOSE,      /* code (1005: none) and text: reason                      */
    SERVER_LOG_FIN,        /* the client closed its side                              */
    SERVER_LOG_RESET,      /* the client reset the connection                         */
    SERVER_LOG_VIOLATION,  /* text: what no correct client sends                      */
    SERVER_LOG_FORM        /* text: the body of a request for authorization           */
} server_log_kind;

typedef struct server_log_entry {
    server_log_kind kind;
    uint32_t connection;   /* 1, 2, ... in order of acceptance */
    uint64_t at_ms;        /* since server_start               */
    int code;
    const char *text;      /* NUL-terminated                   */
    size_t len;
} server_log_entry;

typedef struct server_log {
    size_t count;
    server_log_entry *entries;
} server_log;

server_log *server_log_copy(server *s);
void server_log_free(server_log *log);
/* How many entries of a kind hold this text somewhere (NULL: any text). */
size_t server_log_count(server *s, server_log_kind kind, const char *part);
/* true when there are at least n of them before the deadline. */
bool server_wait_log(server *s, server_log_kind kind, const char *part, size_t n,
                     uint32_t timeout_ms);

typedef struct server_counters { /* since server_start, over all connections */
    uint64_t bytes_in, bytes_out;
    uint32_t accepted, upgraded;
    uint32_t texts_in, texts_out;
    uint32_t pings_in, pongs_in;               /* WebSocket frames         */
    uint32_t pusher_pings_in, pusher_pongs_in; /* messages                 */
    uint32_t subscribes, unsubscribes, client_events, signins;
    uint32_t closes_in, fins_in, resets_in;
    uint32_t last_close_code;                  /* 0: none yet, 1005: no code given */
    uint32_t violations;
} server_counters;
server_counters server_count(server *s);

/* Lower-case hex HMAC-SHA256 of text with the server's secret: what follows "KEY:" in auth. */
void server_sign(const server *s, const char *text, char hex[65]);

#ifdef __cplusplus
}
#endif
#endif
