/*
 * bench.h - what the benchmarks share: clock, medians, rows, a Pusher server without a network.
 *
 * Each benchmark is one program. It measures the library and what it is compared with in the same
 * run, taking turns, and prints the median of the rounds as a ratio: machines differ, ratios
 * differ less. A row says its goal and whether it was missed; nothing fails because of a time.
 * BENCH_QUICK=1 in the environment makes everything short.
 *
 * This file holds the implementation of the library too. Define PUSHER_SOCKETS before it where
 * sockets are wanted, and include it before anything else.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mbedtls/base64.h>
#include <mbedtls/md.h>

#define BENCH_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* ---- small things -------------------------------------------------------------------------- */

/* The benchmark itself is broken (not slow): say so and end. */
BENCH_PRINTF(1, 2)
static inline void bench_die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(1);
}

static inline bool bench_quick(void)
{
    const char *quick = getenv("BENCH_QUICK");
    return quick && *quick && strcmp(quick, "0") != 0;
}

static inline size_t bench_pick(size_t full, size_t quick)
{
    return bench_quick() ? quick : full;
}

static inline uint64_t bench_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The same numbers in every run. */
static inline uint32_t bench_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static inline void *bench_alloc(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory) bench_die("out of memory");
    return memory;
}

/* ---- rounds, medians, rows ----------------------------------------------------------------- */

/* One of the things compared. run_fn does its work once and returns the figure of that round. */
typedef struct bench_side {
    double (*run_fn)(void *context);
    void *context;
    double median;
} bench_side;

static inline int bench_order(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static inline double bench_median(double *figures, size_t count)
{
    qsort(figures, count, sizeof *figures, bench_order);
    return (figures[(count - 1) / 2] + figures[count / 2]) / 2;
}

/* All sides in turn, once to warm up and then for so many rounds. */
static inline void bench_rounds(bench_side *sides, size_t count, size_t rounds)
{
    double *figures = (double *)bench_alloc(count * rounds * sizeof *figures);
    for (size_t side = 0; side < count; side++)
        sides[side].run_fn(sides[side].context);
    for (size_t round = 0; round < rounds; round++)
        for (size_t side = 0; side < count; side++)
            figures[side * rounds + round] = sides[side].run_fn(sides[side].context);
    for (size_t side = 0; side < count; side++)
        sides[side].median = bench_median(figures + side * rounds, rounds);
    free(figures);
}

typedef enum bench_goal { BENCH_AT_MOST, BENCH_AT_LEAST } bench_goal;

/* "row: what was measured: ratio 0.62 (goal at most 0.50, missed)" */
BENCH_PRINTF(5, 6)
static inline void bench_row(const char *row, double ratio, bench_goal kind, double goal,
                             const char *format, ...)
{
    bool met = kind == BENCH_AT_MOST ? ratio <= goal : ratio >= goal;
    va_list list;
    va_start(list, format);
    printf("%s: ", row);
    vprintf(format, list);
    printf(": ratio %.2f (goal at %s %.2f%s)\n", ratio, kind == BENCH_AT_MOST ? "most" : "least",
           goal, met ? "" : ", missed");
    fflush(stdout);
    va_end(list);
}

/* A figure without a ratio, or why a row is missing. */
BENCH_PRINTF(2, 3)
static inline void bench_say(const char *row, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("%s: ", row);
    vprintf(format, list);
    putchar('\n');
    fflush(stdout);
    va_end(list);
}

/* ---- bytes and WebSocket frames ------------------------------------------------------------ */

typedef struct bench_bytes {
    unsigned char *at;
    size_t len, capacity;
} bench_bytes;

static inline void bench_add(bench_bytes *bytes, const void *data, size_t len)
{
    if (bytes->len + len > bytes->capacity) {
        bytes->capacity = (bytes->len + len) * 2;
        bytes->at = (unsigned char *)realloc(bytes->at, bytes->capacity);
        if (!bytes->at) bench_die("out of memory");
    }
    memcpy(bytes->at + bytes->len, data, len);
    bytes->len += len;
}

static inline void bench_drop(bench_bytes *bytes, size_t len)
{
    bytes->len -= len;
    memmove(bytes->at, bytes->at + len, bytes->len);
}

enum { BENCH_CONTINUATION = 0, BENCH_TEXT = 1, BENCH_CLOSE = 8, BENCH_PING = 9, BENCH_FIN = 128 };

/* One frame as a server sends it. opcode_and_fin is the first byte. */
static inline void bench_add_frame(bench_bytes *bytes, unsigned opcode_and_fin, const void *payload,
                                   size_t len)
{
    unsigned char head[10] = {(unsigned char)opcode_and_fin};
    size_t head_len = len < 126 ? 2u : len < 65536 ? 4u : 10u;
    head[1] = (unsigned char)(head_len == 2 ? len : head_len == 4 ? 126 : 127);
    for (size_t i = 2; i < head_len; i++)
        head[i] = (unsigned char)((uint64_t)len >> (8 * (head_len - 1 - i)));
    bench_add(bytes, head, head_len);
    bench_add(bytes, payload, len);
}

static inline void bench_add_text(bench_bytes *bytes, const char *json)
{
    bench_add_frame(bytes, BENCH_FIN | BENCH_TEXT, json, strlen(json));
}

/* ---- a Pusher server, without input and output --------------------------------------------- */

/* The members of a presence channel as it acknowledges them: the client itself. */
#define BENCH_ALONE                                                                                \
    "{\\\"presence\\\":{\\\"count\\\":1,\\\"ids\\\":[\\\"me\\\"],\\\"hash\\\":{\\\"me\\\":{}}}}"

/* Give it what the client sent, take what stands in out. It upgrades, acknowledges subscriptions,
   authorized or not, and answers pusher:ping; nothing more. */
typedef struct bench_server {
    bench_bytes in, out;
    bool upgraded;
    size_t subscriptions; /* acknowledged on this connection */
    const bench_bytes *snapshot; /* the frame that acknowledges a presence channel; NULL: alone */
} bench_server;

static inline void bench_server_reset(bench_server *server)
{
    server->in.len = server->out.len = 0;
    server->upgraded = false;
    server->subscriptions = 0;
}

static inline void bench_accept_key(const char *key, size_t key_len, char accept[32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[128], digest[20];
    size_t accept_len = 0;
    if (key_len + sizeof guid > sizeof text)
        bench_die("Sec-WebSocket-Key has %zu characters", key_len);
    memcpy(text, key, key_len);
    memcpy(text + key_len, guid, sizeof guid - 1);
    mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA1), text, key_len + sizeof guid - 1, digest);
    mbedtls_base64_encode((unsigned char *)accept, 32, &accept_len, digest, sizeof digest);
    accept[accept_len] = '\0';
}

/* True when the request's head is complete and has been answered. */
static inline bool bench_server_upgrade(bench_server *server)
{
    static const char header[] = "\r\nSec-WebSocket-Key: ";
    char accept[32], answer[256];
    const char *text, *end, *key;
    bench_add(&server->in, "", 1); /* now a string */
    server->in.len--;
    text = (const char *)server->in.at;
    end = strstr(text, "\r\n\r\n");
    if (!end) return false;
    key = strstr(text, header);
    if (!key || key > end) bench_die("upgrade request without a key:\n%s", text);
    key += sizeof header - 1;
    bench_accept_key(key, strcspn(key, "\r"), accept);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    bench_add(&server->out, answer, strlen(answer));
    bench_add_text(&server->out,
                   "{\"event\":\"pusher:connection_established\",\"data\":"
                   "\"{\\\"socket_id\\\":\\\"123.456\\\",\\\"activity_timeout\\\":120}\"}");
    bench_drop(&server->in, (size_t)(end - text) + 4);
    server->upgraded = true;
    return true;
}

static inline void bench_server_message(bench_server *server, const char *text)
{
    static const char member[] = "\"channel\":\"";
    char answer[512];
    if (strstr(text, "\"pusher:subscribe\"")) {
        const char *name = strstr(text, member);
        if (!name) bench_die("subscription without a channel: %s", text);
        name += sizeof member - 1;
        server->subscriptions++;
        if (server->snapshot && strncmp(name, "presence-", 9) == 0) {
            bench_add(&server->out, server->snapshot->at, server->snapshot->len);
            return;
        }
        snprintf(answer, sizeof answer,
                 "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"%.*s\","
                 "\"data\":\"%s\"}",
                 (int)strcspn(name, "\""), name,
                 strncmp(name, "presence-", 9) == 0 ? BENCH_ALONE : "{}");
        bench_add_text(&server->out, answer);
    } else if (strstr(text, "\"pusher:ping\"")) {
        bench_add_text(&server->out, "{\"event\":\"pusher:pong\",\"data\":\"{}\"}");
    }
}

/* The length of the client frame that starts at at, or 0 when it is not complete. */
static inline size_t bench_server_frame(bench_server *server, unsigned char *at, size_t left)
{
    char text[1024];
    size_t head = 6, len;
    if (left < head) return 0;
    if (!(at[1] & 128)) bench_die("unmasked frame from the client");
    len = at[1] & 127u;
    if (len == 126) {
        head = 8;
        if (left < head) return 0;
        len = (size_t)at[2] << 8 | at[3];
    }
    if (len == 127 || left < head + len) return 0;
    if ((at[0] & 15) == BENCH_TEXT) {
        if (len >= sizeof text) bench_die("message of %zu bytes from the client", len);
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(at[head + i] ^ at[head - 4 + i % 4]);
        text[len] = '\0';
        bench_server_message(server, text);
    }
    return head + len;
}

static inline void bench_server_eat(bench_server *server, const void *data, size_t len)
{
    size_t used = 0, frame;
    bench_add(&server->in, data, len);
    if (!server->upgraded && !bench_server_upgrade(server)) return;
    while ((frame = bench_server_frame(server, server->in.at + used, server->in.len - used)) > 0)
        used += frame;
    bench_drop(&server->in, used);
}

/* ---- a transport in memory ----------------------------------------------------------------- */

/* What the client reads: first what the server answered, then stream, over and over, until
   stream_left bytes of it have been read. What the client writes only piles up in sent, so that no
   time of the server's is spent inside pusher_poll(); bench_serve() does the rest. */
typedef struct bench_wire {
    bench_server server;
    bench_bytes sent;
    size_t answered; /* bytes of server.out already read                 */
    const unsigned char *stream;
    size_t stream_len, stream_at;
    uint64_t stream_left;
    bool hang_up;    /* end of file once, instead of "nothing now"       */
    uint64_t now_ms; /* the client's time                                */
    uint64_t random;
} bench_wire;

static inline void *bench_wire_open(const char *host, uint16_t port, void *user_data)
{
    bench_wire *wire = (bench_wire *)user_data;
    (void)host, (void)port;
    bench_server_reset(&wire->server);
    wire->sent.len = 0;
    wire->answered = 0;
    wire->hang_up = false;
    return wire;
}

static inline int bench_wire_ready(void *stream)
{
    (void)stream;
    return 1;
}

static inline int bench_wire_recv(void *stream, void *buf, size_t len)
{
    bench_wire *wire = (bench_wire *)stream;
    size_t left = wire->server.out.len - wire->answered;
    if (left > 0) {
        if (len > left) len = left;
        memcpy(buf, wire->server.out.at + wire->answered, len);
        wire->answered += len;
        return (int)len;
    }
    if (wire->stream_left > 0) {
        left = wire->stream_len - wire->stream_at;
        if (left > wire->stream_left) left = (size_t)wire->stream_left;
        if (len > left) len = left;
        memcpy(buf, wire->stream + wire->stream_at, len);
        wire->stream_left -= len;
        wire->stream_at += len;
        if (wire->stream_at == wire->stream_len) wire->stream_at = 0;
        return (int)len;
    }
    return wire->hang_up ? PUSHER_IO_EOF : PUSHER_IO_WANT_READ;
}

static inline int bench_wire_send(void *stream, const void *buf, size_t len)
{
    bench_add(&((bench_wire *)stream)->sent, buf, len);
    return (int)len;
}

static inline void bench_wire_close(void *stream)
{
    ((bench_wire *)stream)->hang_up = false;
}

static inline bool bench_wire_random(void *buf, size_t len, void *user_data)
{
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)buf)[i] = (unsigned char)bench_random((uint64_t *)user_data);
    return true;
}

static inline pusher_options bench_options(bench_wire *wire)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = "bench.invalid";
    options.transport.open_fn = bench_wire_open;
    options.transport.ready_fn = bench_wire_ready;
    options.transport.recv_fn = bench_wire_recv;
    options.transport.send_fn = bench_wire_send;
    options.transport.close_fn = bench_wire_close;
    options.transport.user_data = wire;
    options.random.fill_fn = bench_wire_random;
    options.random.user_data = &wire->random;
    return options;
}

static inline pusher_client *bench_create(const pusher_options *options)
{
    pusher_error error;
    pusher_client *client = pusher_create(options, &error);
    if (!client) bench_die("pusher_create: %s", error.message);
    return client;
}

static inline pusher_channel bench_subscribe(pusher_client *client, const char *name)
{
    pusher_channel channel = pusher_subscribe(client, name);
    if (!channel.id) bench_die("pusher_subscribe %s: %s", name, pusher_last_error(client)->message);
    return channel;
}

static inline void bench_bind(pusher_client *client, pusher_channel channel, const char *event,
                              pusher_event_fn fn, void *user_data)
{
    if (!pusher_bind(client, channel, event, fn, user_data).id)
        bench_die("pusher_bind %s: %s", event, pusher_last_error(client)->message);
}

/* ---- authorization ------------------------------------------------------------------------- */

#define BENCH_SIGNED "app-key:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
/* What an endpoint would answer, for every kind of channel at once. */
#define BENCH_GRANT                                                                                \
    "{\"auth\":\"" BENCH_SIGNED "\",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\","              \
    "\"shared_secret\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"}"
#define BENCH_GRANT_PRIVATE "{\"auth\":\"" BENCH_SIGNED "\"}"

/* The answer for this kind of channel: channel_data is for presence only. */
static inline const char *bench_grant(const char *channel_name)
{
    return strncmp(channel_name, "presence-", 9) == 0 ||
                   strncmp(channel_name, "private-encrypted-", 18) == 0
               ? BENCH_GRANT
               : BENCH_GRANT_PRIVATE;
}

/* Answers within the call, each on its own. */
static inline void bench_on_auth(pusher_client *client, const pusher_auth_request *requests,
                                 uint32_t count, void *user_data)
{
    (void)user_data;
    for (uint32_t i = 0; i < count; i++) {
        const char *body = bench_grant(requests[i].channel_name);
        if (pusher_auth_accept(client, requests[i].ticket, body, strlen(body)) != PUSHER_OK)
            bench_die("pusher_auth_accept: %s", pusher_last_error(client)->message);
    }
}

/* The server reads what was sent and answers. */
static inline void bench_serve(bench_wire *wire)
{
    if (wire->answered == wire->server.out.len) wire->answered = wire->server.out.len = 0;
    if (wire->sent.len > 0) bench_server_eat(&wire->server, wire->sent.at, wire->sent.len);
    wire->sent.len = 0;
}

typedef struct bench_cost {
    double total_ns, worst_ns; /* inside pusher_poll()          */
    size_t polls;
    uint64_t worst_bytes; /* read, or written, in one poll */
} bench_cost;

/* Polls until connected, with so many subscriptions acknowledged and all answers read. */
static inline bench_cost bench_settle(pusher_client *client, bench_wire *wire, size_t channels)
{
    bench_cost cost = {0, 0, 0, 0};
    pusher_stats before, after;
    pusher_get_stats(client, &before);
    for (;;) {
        uint64_t start = bench_ns(), bytes;
        double took;
        pusher_poll(client, ++wire->now_ms);
        took = (double)(bench_ns() - start);
        cost.total_ns += took;
        cost.worst_ns = took > cost.worst_ns ? took : cost.worst_ns;
        cost.polls++;
        pusher_get_stats(client, &after);
        bytes = after.bytes_received - before.bytes_received;
        cost.worst_bytes = bytes > cost.worst_bytes ? bytes : cost.worst_bytes;
        bytes = after.bytes_sent - before.bytes_sent;
        cost.worst_bytes = bytes > cost.worst_bytes ? bytes : cost.worst_bytes;
        before = after;
        bench_serve(wire);
        if (pusher_get_state(client) == PUSHER_CONNECTED && wire->server.out.len == 0 &&
            wire->server.subscriptions >= channels)
            return cost;
        if (cost.polls > 10000000)
            bench_die("never settles: %s with %zu of %zu channels",
                      pusher_state_name(pusher_get_state(client)), wire->server.subscriptions,
                      channels);
    }
}

static inline void bench_connect(pusher_client *client, bench_wire *wire, size_t channels)
{
    if (pusher_connect(client) != PUSHER_OK)
        bench_die("pusher_connect: %s", pusher_last_error(client)->message);
    bench_settle(client, wire, channels);
}

/* Lets the client read len bytes of the stream, and polls until it has. */
static inline void bench_stream(pusher_client *client, bench_wire *wire, uint64_t len)
{
    wire->stream_left = len;
    while (wire->stream_left > 0)
        pusher_poll(client, wire->now_ms);
    pusher_poll(client, wire->now_ms); /* what it may have kept for the next call */
    if (pusher_get_state(client) != PUSHER_CONNECTED)
        bench_die("the connection was lost: %s", pusher_last_error(client)->message);
}

/* ---- an allocator that counts and never gives back ---------------------------------------- */

/* For a measurement that must not see malloc, nor pages that the system clears on first use. Set
   used to 0 to begin again. */
typedef struct bench_arena {
    unsigned char *memory;
    size_t size, used;
    uint64_t calls;
    size_t bytes; /* asked for */
} bench_arena;

static inline void *bench_arena_alloc(size_t size, void *user_data)
{
    bench_arena *arena = (bench_arena *)user_data;
    void *memory = arena->memory + arena->used;
    if (size > arena->size - arena->used - 16)
        bench_die("an arena of %zu bytes is too small", arena->size);
    arena->used = (arena->used + size + 15) / 16 * 16;
    arena->calls++;
    arena->bytes += size;
    return memory;
}

static inline void bench_arena_free(void *memory, void *user_data)
{
    (void)memory, (void)user_data;
}

static inline void bench_arena_use(pusher_options *options, bench_arena *arena, size_t size)
{
    if (!arena->memory) {
        arena->memory = (unsigned char *)bench_alloc(size);
        arena->size = size;
        memset(arena->memory, 1, size);
    }
    arena->used = 0;
    options->allocator.alloc_fn = bench_arena_alloc;
    options->allocator.free_fn = bench_arena_free;
    options->allocator.user_data = arena;
}

/* ---- the messages -------------------------------------------------------------------------- */

#define BENCH_ENVELOPE 180 /* bytes, as pusher.com sends them: data is JSON inside a string */
#define BENCH_FRAME    (BENCH_ENVELOPE + 4)
#define BENCH_NAME     16

/* All names have 14 characters. */
static inline void bench_channel_name(char name[BENCH_NAME], size_t number)
{
    snprintf(name, BENCH_NAME, "channel-%06u", (unsigned)(number % 1000000));
}

/* So many frames, each an event "message" on a random one of the channels. */
static inline bench_bytes bench_messages(size_t messages, size_t channels)
{
    bench_bytes bytes = {NULL, 0, 0};
    uint64_t random = 1;
    for (size_t i = 0; i < messages; i++) {
        char text[256], name[BENCH_NAME];
        int len;
        bench_channel_name(name, bench_random(&random) % channels);
        len = snprintf(
            text, sizeof text,
            "{\"event\":\"message\",\"channel\":\"%s\",\"data\":"
            "\"{\\\"from\\\":\\\"ada\\\",\\\"text\\\":\\\"The engine weaves algebraic "
            "patterns, just as a loom weaves.\\\",\\\"x\\\":17,\\\"y\\\":4,\\\"id\\\":%07u}\"}",
            name, (unsigned)(i % 10000000));
        if (len != BENCH_ENVELOPE) bench_die("the envelope has %d bytes", len);
        bench_add_frame(&bytes, BENCH_FIN | BENCH_TEXT, text, (size_t)len);
    }
    return bytes;
}

#define BENCH_ROOM "presence-room"

/* The acknowledgement of BENCH_ROOM with so many members, about 60 bytes each, "me" the first. */
static inline void bench_add_snapshot(bench_bytes *bytes, size_t members)
{
    bench_bytes text = {NULL, 0, 0};
    char part[128];
    const char *head = "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"
                       "\"" BENCH_ROOM "\",\"data\":\"{\\\"presence\\\":{\\\"ids\\\":[\\\"me\\\"";
    bench_add(&text, head, strlen(head));
    for (size_t i = 1; i < members; i++) {
        int len = snprintf(part, sizeof part, ",\\\"user-%06u\\\"", (unsigned)i);
        bench_add(&text, part, (size_t)len);
    }
    head = "],\\\"hash\\\":{\\\"me\\\":{}";
    bench_add(&text, head, strlen(head));
    for (size_t i = 1; i < members; i++) {
        int len = snprintf(part, sizeof part, ",\\\"user-%06u\\\":{\\\"name\\\":\\\"N%05u\\\"}",
                           (unsigned)i, (unsigned)(i % 100000));
        bench_add(&text, part, (size_t)len);
    }
    snprintf(part, sizeof part, "},\\\"count\\\":%u}}\"}", (unsigned)members);
    bench_add(&text, part, strlen(part));
    bench_add_frame(bytes, BENCH_FIN | BENCH_TEXT, text.at, text.len);
    free(text.at);
}

typedef struct bench_count {
    uint64_t events, bytes;
} bench_count;

/* The handler of all rows: it counts, so that nothing can be left out. */
static inline void bench_on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    bench_count *count = (bench_count *)user_data;
    (void)client;
    count->events++;
    count->bytes += event->data_len;
}

/* Subscribes to channels 0 .. channels-1 and binds bench_on_event to "message" on each. */
static inline void bench_subscribe_all(pusher_client *client, size_t channels, bench_count *count)
{
    for (size_t i = 0; i < channels; i++) {
        char name[BENCH_NAME];
        bench_channel_name(name, i);
        bench_bind(client, bench_subscribe(client, name), "message", bench_on_event, count);
    }
}

#endif /* TESTS_BENCH_H */
