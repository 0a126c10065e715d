/*
 * fake.h - what the tests put in place of the world: a scripted network with a server at its end,
 * a clock, randomness and an allocator, all of which can be told to fail, and a record of all that
 * can be observed. Public functions of pusher.h only. One fake serves one client.
 *
 * A test is either imperative,
 *
 *     fake f;
 *     fake_start(&f, NULL);                    // options as fake_options() makes them
 *     fake_online(&f);                         // connect, upgrade, established
 *     fake_say(&f, "{\"event\":\"news\"}");      // the server says so
 *     fake_run(&f);                            // poll until nothing moves
 *     fake_end(&f);                            // destroy; leaks, contract, unread messages
 *
 * or gives a script of steps (fake_script) that the server follows while the client is polled,
 * or sets f.serve, a function that answers what the client says.
 *
 * Whatever the client does to a hook that the documentation does not allow is a violation: the
 * first one is kept in f.violation and fails the test in fake_end().
 */
#ifndef PUSHER_TESTS_FAKE_H
#define PUSHER_TESTS_FAKE_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mbedtls/base64.h>
#include <mbedtls/md.h>

#include "pusher.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof *(array))

#if !defined(FAKE_STREAMS)
#define FAKE_STREAMS 64      /* streams a client may open in one test                             */
#endif
#define FAKE_HOST "example.org"
#define FAKE_PORT 6001
#define FAKE_ESTABLISHED                                                                           \
    "{\"event\":\"pusher:connection_established\","                                                \
    "\"data\":\"{\\\"socket_id\\\":\\\"123.456\\\",\\\"activity_timeout\\\":120}\"}"
#define FAKE_SUBSCRIBE(name) "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"" name "\"}}"
#define FAKE_UNSUBSCRIBE(name)                                                                     \
    "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"" name "\"}}"
#define FAKE_SUBSCRIBED(name)                                                                      \
    "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\",\"channel\":\"" name   \
    "\"}"
#define FAKE_PING "{\"event\":\"pusher:ping\",\"data\":{}}"
#define FAKE_PONG "{\"event\":\"pusher:pong\",\"data\":{}}"

/* ---- growing bytes -------------------------------------------------------------------------- */

typedef struct fake_bytes {
    char *at; /* always NUL-terminated once anything was added                                    */
    size_t len, cap;
} fake_bytes;

static inline void fake_bytes_add(fake_bytes *bytes, const void *data, size_t len)
{
    if (bytes->len + len + 1 > bytes->cap) {
        size_t cap = bytes->cap ? bytes->cap * 2 : 256;
        while (cap < bytes->len + len + 1)
            cap *= 2;
        bytes->at = (char *)realloc(bytes->at, cap);
        if (!bytes->at)
            abort();
        bytes->cap = cap;
    }
    if (len > 0)
        memcpy(bytes->at + bytes->len, data, len);
    bytes->len += len;
    bytes->at[bytes->len] = '\0';
}

static inline void fake_bytes_free(fake_bytes *bytes)
{
    free(bytes->at);
    memset(bytes, 0, sizeof *bytes);
}

/* The same number on every machine; eight bytes at a time, for traces are long and many. */
static inline uint64_t fake_hash(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *byte = (const unsigned char *)data;
    uint64_t word = 1;
    bool little = *(const unsigned char *)&word == 1;
    if (hash == 0)
        hash = 1469598103934665603u;
    for (; len >= sizeof word; len -= sizeof word, byte += sizeof word) {
        memcpy(&word, byte, sizeof word);
        if (!little)
            for (size_t i = word = 0; i < sizeof word; i++)
                word |= (uint64_t)byte[i] << 8 * i;
        hash = (hash ^ word) * 1099511628211u;
        hash ^= hash >> 32;
    }
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ byte[i]) * 1099511628211u;
    return hash;
}

static inline uint64_t fake_next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* ---- allocator ------------------------------------------------------------------------------ */

typedef struct fake_block {
    struct fake_block *next, *previous;
    size_t size;
    uint64_t mark;
} fake_block;

/* What must not be left behind in memory that is given back. */
typedef struct fake_secret {
    const void *bytes;
    size_t len;
} fake_secret;

typedef struct fake_heap {
    const fake_secret *secrets;
    size_t secret_count;
    uint64_t searched;      /* blocks that were looked through for them                           */
    uint64_t calls;         /* allocations asked for so far                                       */
    uint64_t fail_at;       /* this call fails, counted from 1; 0 = none                          */
    bool fail_for_good;     /* and all after it                                                   */
    uint64_t failed;        /* how many did fail                                                  */
    size_t live_bytes, live_blocks, peak_bytes;
    fake_block *blocks;
    const char *violation;
} fake_heap;

#define FAKE_LIVE 0xA110CA7EDB10C0DEu
#define FAKE_DEAD 0xDEADB10CDEADB10Cu

static inline void *fake_heap_alloc(size_t size, void *user_data)
{
    fake_heap *heap = (fake_heap *)user_data;
    heap->calls++;
    if (size == 0)
        heap->violation = "allocation of 0 bytes";
    if (heap->fail_at &&
        (heap->calls == heap->fail_at || (heap->fail_for_good && heap->calls > heap->fail_at))) {
        heap->failed++;
        return NULL;
    }
    fake_block *block = (fake_block *)malloc(sizeof *block + size);
    if (!block)
        abort();
    block->size = size;
    block->mark = FAKE_LIVE;
    block->previous = NULL;
    block->next = heap->blocks;
    if (heap->blocks)
        heap->blocks->previous = block;
    heap->blocks = block;
    heap->live_blocks++;
    heap->live_bytes += size;
    if (heap->live_bytes > heap->peak_bytes)
        heap->peak_bytes = heap->live_bytes;
    memset(block + 1, 0xA5, size); /* nobody may count on zeros */
    return block + 1;
}

static inline bool fake_holds(const void *memory, size_t size, const fake_secret *secret)
{
    const char *at = (const char *)memory, *end = at + size;
    while ((size_t)(end - at) >= secret->len) {
        at = (const char *)memchr(at, *(const unsigned char *)secret->bytes,
                                  (size_t)(end - at) - secret->len + 1);
        if (!at)
            return false;
        if (memcmp(at, secret->bytes, secret->len) == 0)
            return true;
        at++;
    }
    return false;
}

static inline void fake_heap_free(void *memory, void *user_data)
{
    fake_heap *heap = (fake_heap *)user_data;
    if (!memory)
        return;
    fake_block *block = (fake_block *)memory - 1;
    if (block->mark != FAKE_LIVE) {
        heap->violation = block->mark == FAKE_DEAD ? "freed twice" : "freed what was not allocated";
        return;
    }
    if (block->previous)
        block->previous->next = block->next;
    else
        heap->blocks = block->next;
    if (block->next)
        block->next->previous = block->previous;
    heap->live_blocks--;
    heap->live_bytes -= block->size;
    for (size_t i = 0; i < heap->secret_count; i++)
        if (fake_holds(memory, block->size, &heap->secrets[i]))
            heap->violation = "freed with a secret in it";
    heap->searched += heap->secret_count > 0;
    memset(block + 1, 0xDD, block->size);
    block->mark = FAKE_DEAD;
    free(block);
}

/* ---- the world ------------------------------------------------------------------------------ */

typedef struct fake fake;

typedef struct fake_stream {
    fake *owner;
    uint32_t number;          /* from 0, in order of opening                                      */
    char host[300];
    uint16_t port;
    bool closed;
    bool ready;               /* ready_fn has said so                                             */
    int connect_result;       /* what ready_fn will say: 1, PUSHER_IO_WANT_WRITE, _ERROR ...      */
    fake_bytes to_client;     /* what the server has said                                         */
    size_t taken;             /* how much of it the client has read                               */
    uint64_t cut_waited;      /* bit i: at cut i there was nothing once                           */
    int end;                  /* what recv says after that: WANT_READ, EOF or ERROR               */
    int send_result;          /* 1: takes bytes; PUSHER_IO_WANT_WRITE, _ERROR                     */
    fake_bytes from_client;
    size_t parsed;            /* how much of that is understood: request, whole frames            */
    bool upgrade_asked;       /* the whole request is here                                        */
    bool answered;            /* and was answered with 101                                        */
    bool close_heard;         /* the client's close frame was                                     */
    bool close_said;
    bool has_mask;
    uint32_t last_mask;
    const void *repeat_at;    /* after WANT on send: what has to come again                       */
    size_t repeat_len;
    uint64_t repeat_hash;
    bool http;                /* to auth....: an authorization endpoint                          */
    uint32_t requests;        /* it has had                                                       */
} fake_stream;

typedef enum fake_kind {
    FAKE_HEARD_TEXT = 1, FAKE_HEARD_BINARY = 2, FAKE_HEARD_CLOSE = 8, FAKE_HEARD_PING = 9,
    FAKE_HEARD_PONG = 10
} fake_kind;

typedef struct fake_message { /* one frame of the client, unmasked                                */
    fake_kind kind;
    uint32_t stream;
    int code;                 /* of a close; 0 = none                                             */
    uint64_t at_ms;
    size_t len;
    char *text;               /* of a close: the reason                                           */
} fake_message;

/* Hooks, for the counters and for f.fail_hook. */
enum { FAKE_OPEN, FAKE_READY, FAKE_RECV, FAKE_SEND, FAKE_RANDOM, FAKE_HOOKS };

/* How a hook call fails. Where a way makes no sense for a hook, the nearest one is taken. */
typedef enum fake_failure {
    FAKE_FAIL_WANT_READ, FAKE_FAIL_WANT_WRITE, FAKE_FAIL_ERROR, FAKE_FAIL_EOF, FAKE_FAIL_SHORT,
    FAKE_FAILURES
} fake_failure;

typedef enum fake_step_kind {
    FAKE_STEP_CONNECT,  /* the client opens a stream to text ("host:port", NULL = the usual one)  */
    FAKE_STEP_REFUSE,   /* that connection fails                                                  */
    FAKE_STEP_UPGRADE,  /* its whole request has come                                             */
    FAKE_STEP_ACCEPT,   /* answer it with 101 and the right key                                   */
    FAKE_STEP_SAY,      /* a text frame                                                           */
    FAKE_STEP_RAW,      /* bytes: text, n                                                         */
    FAKE_STEP_CLOSE,    /* a close frame with code n (0 = none) and reason text                   */
    FAKE_STEP_EOF,
    FAKE_STEP_ERROR,
    FAKE_STEP_HEAR,     /* the client says this text (NULL = any)                                 */
    FAKE_STEP_HEAR_CLOSE, /* a close frame with code n                                            */
    FAKE_STEP_PASS      /* n milliseconds                                                         */
} fake_step_kind;

typedef struct fake_step {
    fake_step_kind kind;
    const char *text;
    size_t n;
} fake_step;

struct fake {
    pusher_client *client;    /* set it to NULL when a callback destroys it                       */
    uint64_t now;
    uint64_t moved;           /* grows with all that happens                                      */
    bool in_poll, in_destroy;
    fake_heap heap;
    uint64_t random_state;
    fake_stream *streams[FAKE_STREAMS];
    uint32_t stream_count;

    size_t recv_max, send_max;     /* at most so many bytes a call; 0 = no limit                  */
    uint64_t chunk_seed;           /* not 0: a random number of bytes up to that                  */
    uint32_t recv_block, send_block; /* every n-th call would block; 0 = never, 1 = always        */
    uint64_t recv_calls, send_calls; /* for these                                                 */
    const size_t *cuts;            /* a recv ends at these offsets of each stream, ascending      */
    size_t cut_count;
    bool cuts_wait;                /* and the next one finds nothing                              */
    size_t send_cut;               /* a send ends at this offset; 0 = none                        */
    uint64_t poll_received, poll_sent;       /* in the present poll                               */
    uint64_t poll_received_max, poll_sent_max; /* in any poll                                     */

    uint64_t calls;                /* of all hooks                                                */
    uint64_t hook_calls[FAKE_HOOKS];
    uint64_t fail_at, fail_count;  /* calls [fail_at, fail_at + fail_count) fail                  */
    fake_failure fail_how;
    uint64_t failed;
    uint64_t random_fail_at;       /* this call for randomness fails, from 1                      */
    bool open_fails;               /* open_fn says NULL                                           */
    int connect_result;            /* of new streams; 0 = 1                                       */
    const char *error_text;        /* what error_fn says                                          */

    void (*serve)(fake *f, fake_stream *stream, const fake_message *message); /* NULL message: the
                                      request is here                                             */
    void (*endpoint)(fake *f, fake_stream *stream, const char *head, const char *body); /* answers
                                      a whole POST with fake_answer(), or does not                */
    uint32_t posts;                /* POSTs heard                                                 */
    const fake_step *script;
    size_t script_len, script_at;
    uint64_t script_since;
    bool script_waiting;

    fake_message *heard;
    size_t heard_count, heard_cap, heard_read;
    void (*on_event)(fake *f, const pusher_event *event); /* also called for each event ...       */
    void (*on_state)(fake *f, pusher_state now, pusher_state before);
    void (*on_error)(fake *f, const pusher_error *error);
    void (*on_retry)(fake *f, uint32_t delay_ms, uint32_t attempt);
    uint32_t events, errors, retries, state_changes;
    pusher_error last_error;       /* message and channel_name are copies                         */
    char last_message[512], last_channel[256];
    char last_data[512];           /* of the last event given to fake_event_fn                    */
    uint32_t last_delay, last_attempt;
    char states[1024];             /* the state names in order, each with a space after it        */
    fake_bytes trace;              /* what the callbacks were told                                */
    fake_bytes sent_trace;         /* what the server heard; without pongs, for whether one
                                      still goes out before an end is a matter of time              */
    fake_bytes post_trace;         /* what the endpoint heard: nothing says which of the two
                                      streams is served first                                     */
    bool trace_delays;             /* with the delay of each retry                                */
    char violation[512];
    void *extra;                   /* the test's own                                              */
};

static inline void fake_violate(fake *f, const char *format, ...)
{
    if (f->violation[0])
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(f->violation, sizeof f->violation, format, list);
    va_end(list);
}

static inline void fake_note(fake_bytes *trace, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    int len = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (len > 0)
        fake_bytes_add(trace, line, (size_t)len < sizeof line ? (size_t)len : sizeof line - 1);
}

/* The parts of a line that is written a million times: no printf. */
static inline void fake_add(fake_bytes *bytes, const char *text, size_t max)
{
    size_t len = strlen(text);
    fake_bytes_add(bytes, text, len < max ? len : max);
}

/* At least so many digits, and what comes after them. */
static inline void fake_add_uint(fake_bytes *bytes, uint64_t number, unsigned base, size_t digits,
                                 char after)
{
    char text[72];
    size_t at = sizeof text;
    text[--at] = after;
    for (; number > 0 || digits > 0; number /= base) {
        text[--at] = "0123456789abcdef"[number % base];
        digits -= digits > 0;
    }
    fake_bytes_add(bytes, text + at, sizeof text - at);
}

static inline void fake_copy(char *to, size_t size, const char *from)
{
    size_t len = strlen(from);
    len = len < size ? len : size - 1;
    memcpy(to, from, len);
    to[len] = '\0';
}

static inline uint64_t fake_trace_hash(const fake *f)
{
    uint64_t hash = fake_hash(0, f->trace.at ? f->trace.at : "", f->trace.len);
    hash = fake_hash(hash, f->sent_trace.at ? f->sent_trace.at : "", f->sent_trace.len);
    return fake_hash(hash, f->post_trace.at ? f->post_trace.at : "", f->post_trace.len);
}

/* ---- what the server says ------------------------------------------------------------------- */

/* The latest to the server itself. */
static inline fake_stream *fake_latest(fake *f)
{
    for (uint32_t i = f->stream_count; i > 0; i--)
        if (!f->streams[i - 1]->http)
            return f->streams[i - 1];
    return NULL;
}

static inline fake_stream *fake_the_stream(fake *f)
{
    fake_stream *stream = fake_latest(f);
    if (!stream)
        fail_msg("the client has opened no stream");
    return stream;
}

static inline void fake_raw(fake *f, const void *bytes, size_t len)
{
    fake_bytes_add(&fake_the_stream(f)->to_client, bytes, len);
}

/* One frame as it stands on the wire. first: FIN, RSV and opcode. */
static inline void fake_frame_to(fake_bytes *out, unsigned first, const void *data, size_t len)
{
    unsigned char head[10];
    size_t n = 2;
    head[0] = (unsigned char)first;
    if (len < 126) {
        head[1] = (unsigned char)len;
    } else if (len < 65536) {
        head[1] = 126;
        head[2] = (unsigned char)(len >> 8);
        head[3] = (unsigned char)(len & 255);
        n = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (unsigned char)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    fake_bytes_add(out, head, n);
    fake_bytes_add(out, data, len);
}

static inline void fake_frame(fake *f, unsigned first, const void *data, size_t len)
{
    fake_frame_to(&fake_the_stream(f)->to_client, first, data, len);
}

static inline void fake_say(fake *f, const char *text)
{
    fake_frame(f, 0x81, text, strlen(text));
}

static inline void fake_say_format(fake *f, const char *format, ...)
{
    char text[2048];
    va_list list;
    va_start(list, format);
    int len = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    assert_true(len > 0 && (size_t)len < sizeof text);
    fake_frame(f, 0x81, text, (size_t)len);
}

static inline void fake_close_to(fake_bytes *out, int code, const char *reason)
{
    unsigned char payload[125];
    size_t len = 0;
    if (code) {
        payload[0] = (unsigned char)(code >> 8);
        payload[1] = (unsigned char)(code & 255);
        len = 2;
        size_t reason_len = reason ? strlen(reason) : 0;
        memcpy(payload + 2, reason ? reason : "", reason_len);
        len += reason_len;
    }
    fake_frame_to(out, 0x88, payload, len);
}

/* A close frame; code 0: without a payload. */
static inline void fake_say_close(fake *f, int code, const char *reason)
{
    fake_stream *stream = fake_the_stream(f);
    stream->close_said = true;
    fake_close_to(&stream->to_client, code, reason);
}

static inline void fake_eof(fake *f)
{
    fake_the_stream(f)->end = PUSHER_IO_EOF;
}

static inline void fake_reset(fake *f)
{
    fake_the_stream(f)->end = PUSHER_IO_ERROR;
}

/* The accept key that belongs to the request of this stream. out: 29 bytes. */
static inline void fake_accept_key(const fake_stream *stream, char *out)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const char *header = "\r\nSec-WebSocket-Key: ";
    const char *key = stream->from_client.at ? strstr(stream->from_client.at, header) : NULL;
    unsigned char text[24 + sizeof guid], digest[20];
    size_t written = 0;
    out[0] = '\0';
    if (!key || strlen(key) < strlen(header) + 26)
        return;
    memcpy(text, key + strlen(header), 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA1), text, 24 + sizeof guid - 1, digest);
    mbedtls_base64_encode((unsigned char *)out, 29, &written, digest, sizeof digest);
}

static inline void fake_accept_on(fake_stream *stream)
{
    char key[32];
    fake_accept_key(stream, key);
    fake_add(&stream->to_client,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Accept: ", SIZE_MAX);
    fake_add(&stream->to_client, key, SIZE_MAX);
    fake_add(&stream->to_client, "\r\n\r\n", SIZE_MAX);
    stream->answered = true;
}

static inline void fake_accept(fake *f)
{
    fake_stream *stream = fake_the_stream(f);
    if (!stream->upgrade_asked)
        fail_msg("nobody has asked for the upgrade yet");
    fake_accept_on(stream);
}

/* ---- what the client says ------------------------------------------------------------------- */

/* Whether the client has read a ping with this payload. */
static inline bool fake_has_pinged(const fake_stream *stream, const char *payload, size_t len)
{
    const char *all = stream->to_client.at;
    for (size_t i = 0; i + 2 + len <= stream->taken; i++)
        if (all[i] == (char)0x89 && (size_t)all[i + 1] == len &&
            memcmp(all + i + 2, payload, len) == 0)
            return true;
    return false;
}

static inline void fake_hear(fake *f, fake_stream *stream, unsigned opcode, char *payload,
                             size_t len)
{
    if (f->heard_count == f->heard_cap) {
        f->heard_cap = f->heard_cap ? f->heard_cap * 2 : 16;
        f->heard = (fake_message *)realloc(f->heard, f->heard_cap * sizeof *f->heard);
        if (!f->heard)
            abort();
    }
    fake_message *message = &f->heard[f->heard_count++];
    memset(message, 0, sizeof *message);
    message->kind = (fake_kind)opcode;
    message->stream = stream->number;
    message->at_ms = f->now;
    if (opcode == 8 && len >= 2)
        message->code = (unsigned char)payload[0] << 8 | (unsigned char)payload[1];
    size_t skip = opcode == 8 && len >= 2 ? 2 : 0;
    message->len = len - skip;
    message->text = (char *)malloc(message->len + 1);
    if (!message->text)
        abort();
    memcpy(message->text, payload + skip, message->len);
    message->text[message->len] = '\0';
    if (opcode == 8)
        stream->close_heard = true;
    if (opcode == 10 && !fake_has_pinged(stream, message->text, len))
        fake_violate(f, "a pong that answers no ping: \"%.125s\"", message->text);
    if (opcode == 8)
        fake_note(&f->sent_trace, "close %d %s\n", message->code, message->text);
    else if (opcode != 10 && strcmp(message->text, FAKE_PONG) != 0) {
        fake_add_uint(&f->sent_trace, opcode, 10, 1, ' ');
        fake_add(&f->sent_trace, message->text, 300);
        fake_add(&f->sent_trace, "\n", 1);
    }
    if (f->serve)
        f->serve(f, stream, message);
}

static inline void fake_check_frame(fake *f, fake_stream *stream, const unsigned char *head,
                                    uint64_t len, size_t head_len)
{
    unsigned opcode = head[0] & 15u;
    uint32_t mask;
    memcpy(&mask, head + head_len, 4);
    if (stream->close_heard)
        fake_violate(f, "the client sends frame %02x after its close frame", head[0]);
    if (!(head[1] & 0x80))
        fake_violate(f, "the client sends a frame that is not masked");
    if ((head[0] & 0xF0) != 0x80)
        fake_violate(f, "the client sends %02x: reserved bits, or a fragment", head[0]);
    if (opcode != 1 && opcode != 8 && opcode != 9 && opcode != 10)
        fake_violate(f, "the client sends opcode %u", opcode);
    if (opcode >= 8 && len > 125)
        fake_violate(f, "the client sends a control frame of %u bytes", (unsigned)len);
    if ((head_len == 4 && len < 126) || (head_len == 10 && len < 65536))
        fake_violate(f, "the client sends a length that is not minimal");
    if (stream->has_mask && stream->last_mask == mask)
        fake_violate(f, "the client sends the same mask twice");
    if (!stream->answered)
        fake_violate(f, "the client sends a frame before the upgrade is through");
    stream->has_mask = true;
    stream->last_mask = mask;
}

/* Takes one whole frame from what the client has sent. */
static inline bool fake_parse_frame(fake *f, fake_stream *stream)
{
    unsigned char *at = (unsigned char *)stream->from_client.at + stream->parsed;
    size_t have = stream->from_client.len - stream->parsed, head_len = 2;
    if (have < 2)
        return false;
    uint64_t len = at[1] & 127u;
    if (len >= 126) {
        int bytes = len == 126 ? 2 : 8;
        head_len += (size_t)bytes;
        if (have < head_len)
            return false;
        len = 0;
        for (int i = 0; i < bytes; i++)
            len = len << 8 | at[2 + i];
    }
    if (have < head_len + 4 || have - head_len - 4 < len)
        return false;
    fake_check_frame(f, stream, at, len, head_len);
    char *payload = (char *)malloc((size_t)len + 1);
    if (!payload)
        abort();
    for (size_t i = 0; i < len; i++)
        payload[i] = (char)(at[head_len + 4 + i] ^ at[head_len + (i & 3)]);
    stream->parsed += head_len + 4 + (size_t)len;
    fake_hear(f, stream, at[0] & 15u, payload, (size_t)len);
    free(payload);
    return true;
}

/* An answer of the endpoint: status, and a body as JSON. */
static inline void fake_answer(fake_stream *stream, int status, const char *body)
{
    char head[200];
    int len = snprintf(head, sizeof head,
                       "HTTP/1.1 %d Whatever\r\nContent-Type: application/json\r\n"
                       "Content-Length: %u\r\n\r\n",
                       status, (unsigned)strlen(body));
    fake_bytes_add(&stream->to_client, head, (size_t)len);
    fake_bytes_add(&stream->to_client, body, strlen(body));
}

static inline void fake_parse_post(fake *f, fake_stream *stream)
{
    for (;;) {
        const char *head = stream->from_client.at + stream->parsed;
        const char *end = stream->from_client.len > stream->parsed ? strstr(head, "\r\n\r\n") : NULL;
        const char *length = end ? strstr(head, "Content-Length: ") : NULL;
        if (!end)
            return;
        if (!length || length > end || strncmp(head, "POST ", 5) != 0) {
            fake_violate(f, "not a POST with a Content-Length: %.60s", head);
            return;
        }
        size_t len = strtoul(length + 16, NULL, 10);
        if (stream->from_client.len - (size_t)(end + 4 - stream->from_client.at) < len)
            return;
        char *copy = (char *)malloc((size_t)(end - head) + len + 2);
        if (!copy)
            abort();
        memcpy(copy, head, (size_t)(end - head));
        copy[end - head] = '\0';
        char *body = copy + (end - head) + 1;
        memcpy(body, end + 4, len);
        body[len] = '\0';
        stream->parsed += (size_t)(end - head) + 4 + len;
        stream->requests++;
        f->posts++;
        fake_note(&f->post_trace, "POST %s\n", body);
        if (f->endpoint)
            f->endpoint(f, stream, copy, body);
        free(copy);
    }
}

static inline void fake_parse(fake *f, fake_stream *stream)
{
    if (stream->http) {
        fake_parse_post(f, stream);
        return;
    }
    if (!stream->upgrade_asked) {
        const char *end = strstr(stream->from_client.at, "\r\n\r\n");
        if (!end)
            return;
        stream->parsed = (size_t)(end - stream->from_client.at) + 4;
        stream->upgrade_asked = true;
        if (f->serve)
            f->serve(f, stream, NULL);
        if (stream->parsed < stream->from_client.len)
            fake_violate(f, "the client sends more than the request before it is answered");
    }
    while (fake_parse_frame(f, stream)) {
    }
}

/* ---- script --------------------------------------------------------------------------------- */

static inline bool fake_script_heard(fake *f, const fake_step *step)
{
    while (f->heard_read < f->heard_count) {
        const fake_message *message = &f->heard[f->heard_read];
        if (message->kind == FAKE_HEARD_PONG || message->kind == FAKE_HEARD_PING) {
            f->heard_read++;
            continue;
        }
        if (step->kind == FAKE_STEP_HEAR_CLOSE) {
            if (message->kind != FAKE_HEARD_CLOSE || message->code != (int)step->n)
                fake_violate(f, "script step %u: heard \"%.100s\" (%d), not close %u",
                             (unsigned)f->script_at, message->text, message->code,
                             (unsigned)step->n);
        } else if (message->kind != FAKE_HEARD_TEXT ||
                   (step->text && strcmp(step->text, message->text) != 0)) {
            fake_violate(f, "script step %u: heard \"%.150s\", not \"%.150s\"",
                         (unsigned)f->script_at, message->text, step->text ? step->text : "");
        }
        f->heard_read++;
        return true;
    }
    return false;
}

/* One step of the script if its time has come. */
static inline bool fake_script_step(fake *f)
{
    const fake_step *step = &f->script[f->script_at];
    fake_stream *stream = fake_latest(f);
    uint32_t wanted = 0;
    for (size_t i = 0; i <= f->script_at; i++)
        wanted += f->script[i].kind == FAKE_STEP_CONNECT || f->script[i].kind == FAKE_STEP_REFUSE;
    if (f->stream_count < wanted)
        return false;
    if (wanted > 0)
        stream = f->streams[wanted - 1];
    if (!stream && step->kind != FAKE_STEP_PASS)
        return false;
    switch (step->kind) {
    case FAKE_STEP_CONNECT:
    case FAKE_STEP_REFUSE: {
        char peer[320];
        snprintf(peer, sizeof peer, "%s:%u", stream->host, stream->port);
        if (step->text && strcmp(peer, step->text) != 0)
            fake_violate(f, "the client connects to %s, not to %s", peer, step->text);
        if (step->kind == FAKE_STEP_REFUSE)
            stream->connect_result = PUSHER_IO_ERROR;
        return true;
    }
    case FAKE_STEP_UPGRADE: return stream->upgrade_asked;
    case FAKE_STEP_ACCEPT:
        if (stream->upgrade_asked)
            fake_accept_on(stream);
        return stream->upgrade_asked;
    case FAKE_STEP_SAY:
        fake_frame_to(&stream->to_client, 0x81, step->text, strlen(step->text));
        return true;
    case FAKE_STEP_RAW: fake_bytes_add(&stream->to_client, step->text, step->n); return true;
    case FAKE_STEP_CLOSE: fake_close_to(&stream->to_client, (int)step->n, step->text); return true;
    case FAKE_STEP_EOF: stream->end = PUSHER_IO_EOF; return true;
    case FAKE_STEP_ERROR: stream->end = PUSHER_IO_ERROR; return true;
    case FAKE_STEP_HEAR:
    case FAKE_STEP_HEAR_CLOSE: return fake_script_heard(f, step);
    case FAKE_STEP_PASS:
        if (!f->script_waiting)
            f->script_since = f->now;
        f->script_waiting = f->now < f->script_since + step->n;
        return !f->script_waiting;
    }
    return false;
}

static inline void fake_script_go(fake *f)
{
    while (f->script_at < f->script_len && fake_script_step(f)) {
        f->script_at++;
        f->moved++;
    }
}

static inline void fake_script(fake *f, const fake_step *steps, size_t count)
{
    f->script = steps;
    f->script_len = count;
    f->script_at = 0;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

static inline bool fake_fails(fake *f, int hook)
{
    f->calls++;
    f->hook_calls[hook]++;
    if (!f->fail_at || f->calls < f->fail_at || f->calls - f->fail_at >= f->fail_count)
        return false;
    f->failed++;
    f->moved += f->fail_count < 1000; /* what fails for ever is no movement */
    return true;
}

static inline fake_stream *fake_called(void *pointer, const char *what)
{
    fake_stream *stream = (fake_stream *)pointer;
    if (stream->closed)
        fake_violate(stream->owner, "%s after close", what);
    if (!stream->owner->in_poll)
        fake_violate(stream->owner, "%s outside pusher_poll()", what);
    return stream;
}

static inline void *fake_open(const char *host, uint16_t port, void *user_data)
{
    fake *f = (fake *)user_data;
    if (!f->in_poll)
        fake_violate(f, "open outside pusher_poll()");
    for (uint32_t i = 0; i < f->stream_count; i++)
        if (!f->streams[i]->closed && f->streams[i]->http == (strncmp(host, "auth.", 5) == 0))
            fake_violate(f, "open while another stream is open");
    if (fake_fails(f, FAKE_OPEN) || f->open_fails)
        return NULL;
    if (f->stream_count == FAKE_STREAMS) {
        fake_violate(f, "too many streams");
        return NULL;
    }
    fake_stream *stream = (fake_stream *)calloc(1, sizeof *stream);
    if (!stream)
        abort();
    stream->owner = f;
    stream->number = f->stream_count;
    snprintf(stream->host, sizeof stream->host, "%s", host);
    stream->port = port;
    stream->http = strncmp(host, "auth.", 5) == 0;
    stream->connect_result = f->connect_result ? f->connect_result : 1;
    stream->end = PUSHER_IO_WANT_READ;
    stream->send_result = 1;
    f->streams[f->stream_count++] = stream;
    f->moved++;
    fake_script_go(f);
    return stream;
}

static inline int fake_ready(void *pointer)
{
    fake_stream *stream = fake_called(pointer, "ready");
    fake *f = stream->owner;
    if (fake_fails(f, FAKE_READY)) {
        static const int how[] = { PUSHER_IO_WANT_READ, PUSHER_IO_WANT_WRITE, PUSHER_IO_ERROR,
                                   PUSHER_IO_ERROR_RESOLVE, PUSHER_IO_ERROR };
        return how[f->fail_how];
    }
    if (stream->connect_result > 0) {
        stream->ready = true;
        f->moved++;
    }
    return stream->connect_result;
}

/* How many of len bytes one call may move. */
static inline size_t fake_chunk(fake *f, size_t len, size_t max)
{
    if (max && len > max)
        len = max;
    if (f->chunk_seed)
        len = 1 + (size_t)(fake_next_random(&f->chunk_seed) % len);
    return len;
}

/* Shortens a recv that would cross a cut; 0 = at a cut, and nothing there for now. */
static inline size_t fake_cut(const fake *f, fake_stream *stream, size_t len)
{
    for (size_t i = 0; i < f->cut_count; i++) {
        if (f->cuts_wait && f->cuts[i] == stream->taken && !(stream->cut_waited >> i & 1)) {
            stream->cut_waited |= (uint64_t)1 << i;
            return 0;
        }
        if (f->cuts[i] > stream->taken && f->cuts[i] - stream->taken < len)
            return f->cuts[i] - stream->taken;
    }
    return len;
}

static inline int fake_recv(void *pointer, void *buf, size_t len)
{
    fake_stream *stream = fake_called(pointer, "recv");
    fake *f = stream->owner;
    if (!stream->ready)
        fake_violate(f, "recv before ready");
    if (len == 0)
        fake_violate(f, "recv of 0 bytes");
    if (fake_fails(f, FAKE_RECV) && f->fail_how != FAKE_FAIL_SHORT) {
        static const int how[] = { PUSHER_IO_WANT_READ, PUSHER_IO_WANT_WRITE, PUSHER_IO_ERROR,
                                   PUSHER_IO_EOF };
        if (f->fail_how == FAKE_FAIL_ERROR || f->fail_how == FAKE_FAIL_EOF)
            stream->end = how[f->fail_how];
        return how[f->fail_how];
    }
    fake_script_go(f);
    if (stream->taken == stream->to_client.len)
        return stream->end;
    if (f->recv_block && ++f->recv_calls % f->recv_block == 0) {
        f->moved += f->recv_block > 1;
        return PUSHER_IO_WANT_READ;
    }
    size_t left = stream->to_client.len - stream->taken;
    len = fake_chunk(f, len < left ? len : left, f->recv_max);
    len = fake_cut(f, stream, len);
    f->moved++;
    if (len == 0)
        return PUSHER_IO_WANT_READ;
    if (f->fail_at && f->calls == f->fail_at && f->fail_how == FAKE_FAIL_SHORT)
        len = 1;
    memcpy(buf, stream->to_client.at + stream->taken, len);
    stream->taken += len;
    f->poll_received += len;
    return (int)len;
}

static inline void fake_check_repeat(fake *f, const fake_stream *stream, const void *buf,
                                     size_t len)
{
    if (stream->repeat_at &&
        (stream->repeat_at != buf || stream->repeat_len != len ||
         stream->repeat_hash != fake_hash(0, buf, len)))
        fake_violate(f, "after WANT, send came with another pointer, length or text");
}

static inline int fake_send(void *pointer, const void *buf, size_t len)
{
    fake_stream *stream = fake_called(pointer, "send");
    fake *f = stream->owner;
    int result = 0;
    if (!stream->ready)
        fake_violate(f, "send before ready");
    if (len == 0)
        fake_violate(f, "send of 0 bytes");
    fake_check_repeat(f, stream, buf, len);
    stream->repeat_at = NULL;
    bool fails = fake_fails(f, FAKE_SEND);
    if (fails && f->fail_how != FAKE_FAIL_SHORT) {
        static const int how[] = { PUSHER_IO_WANT_READ, PUSHER_IO_WANT_WRITE, PUSHER_IO_ERROR,
                                   PUSHER_IO_ERROR };
        result = how[f->fail_how];
    } else if (stream->send_result <= 0) {
        result = stream->send_result;
    } else if (f->send_block && ++f->send_calls % f->send_block == 0) {
        f->moved += f->send_block > 1;
        result = PUSHER_IO_WANT_WRITE;
    }
    if (result == PUSHER_IO_ERROR)
        stream->send_result = PUSHER_IO_ERROR;
    if (result < 0) {
        stream->repeat_at = buf;
        stream->repeat_len = len;
        stream->repeat_hash = fake_hash(0, buf, len);
        return result;
    }
    len = fails ? 1 : fake_chunk(f, len, f->send_max);
    if (stream->from_client.len < f->send_cut && f->send_cut - stream->from_client.len < len)
        len = f->send_cut - stream->from_client.len;
    f->moved++;
    f->poll_sent += len;
    fake_bytes_add(&stream->from_client, buf, len);
    fake_parse(f, stream);
    fake_script_go(f);
    return (int)len;
}

static inline void fake_close(void *pointer)
{
    fake_stream *stream = (fake_stream *)pointer;
    fake *f = stream->owner;
    if (stream->closed)
        fake_violate(f, "closed twice");
    if (!f->in_poll && !f->in_destroy)
        fake_violate(f, "close outside pusher_poll() and pusher_destroy()");
    stream->closed = true;
    f->moved++;
}

static inline const char *fake_error(void *pointer)
{
    fake_stream *stream = fake_called(pointer, "error_fn");
    return stream->owner->error_text;
}

static inline bool fake_fill(void *buf, size_t len, void *user_data)
{
    fake *f = (fake *)user_data;
    unsigned char *byte = (unsigned char *)buf;
    bool fails = fake_fails(f, FAKE_RANDOM);
    if (fails || f->hook_calls[FAKE_RANDOM] == f->random_fail_at)
        return false;
    for (size_t i = 0; i < len; i++)
        byte[i] = (unsigned char)(fake_next_random(&f->random_state) >> 17);
    return true;
}

/* ---- callbacks ------------------------------------------------------------------------------ */

static inline fake *fake_in_callback(fake *f, const char *what)
{
    if (!f->in_poll)
        fake_violate(f, "%s runs outside pusher_poll()", what);
    f->moved++;
    return f;
}

static inline void fake_state_fn(pusher_client *client, pusher_state now, pusher_state before,
                                 void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "state_fn");
    size_t len = strlen(f->states);
    if (now == before)
        fake_violate(f, "state_fn without a change");
    if (pusher_get_state(client) != now)
        fake_violate(f, "state_fn does not say the present state");
    if (len + 16 < sizeof f->states) {
        fake_copy(f->states + len, 15, pusher_state_name(now));
        memcpy(f->states + strlen(f->states), " ", 2);
    }
    fake_add(&f->trace, "state ", SIZE_MAX);
    fake_add(&f->trace, pusher_state_name(before), SIZE_MAX);
    fake_add(&f->trace, " -> ", SIZE_MAX);
    fake_add(&f->trace, pusher_state_name(now), SIZE_MAX);
    fake_add(&f->trace, "\n", SIZE_MAX);
    f->state_changes++;
    if (f->on_state)
        f->on_state(f, now, before);
}

static inline void fake_error_fn(pusher_client *client, const pusher_error *error, void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "error_fn");
    (void)client;
    if (!error->message || !error->message[0])
        fake_violate(f, "an error without a message");
    if (error->code == PUSHER_OK)
        fake_violate(f, "an error that is none");
    f->errors++;
    f->last_error = *error;
    fake_copy(f->last_message, sizeof f->last_message, error->message ? error->message : "");
    fake_copy(f->last_channel, sizeof f->last_channel,
              error->channel_name ? error->channel_name : "");
    f->last_error.message = f->last_message;
    f->last_error.channel_name = error->channel_name ? f->last_channel : NULL;
    fake_note(&f->trace, "error %s %d [%s] %s\n", pusher_result_name(error->code),
              error->server_code, f->last_channel, f->last_message);
    if (f->on_error)
        f->on_error(f, error);
}

static inline void fake_retry_fn(pusher_client *client, uint32_t delay_ms, uint32_t attempt,
                                 void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "retry_fn");
    (void)client;
    f->retries++;
    f->last_delay = delay_ms;
    f->last_attempt = attempt;
    if (f->trace_delays)
        fake_note(&f->trace, "retry %u in %u\n", attempt, delay_ms);
    else
        fake_note(&f->trace, "retry %u\n", attempt);
    if (f->on_retry)
        f->on_retry(f, delay_ms, attempt);
}

/* Bind this (user data: the fake) to have an event in the trace. */
static inline void fake_event_fn(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "an event handler");
    (void)client;
    if (strlen(event->name) > 0 && !event->channel_name)
        fake_violate(f, "an event with channel_name NULL");
    if (event->data[event->data_len] != '\0')
        fake_violate(f, "event data without NUL");
    f->events++;
    f->last_data[0] = '\0';
    strncat(f->last_data, event->data, sizeof f->last_data - 1);
    fake_add(&f->trace, "event [", SIZE_MAX);
    fake_add(&f->trace, event->channel_name, 200);
    fake_add(&f->trace, "] ", SIZE_MAX);
    fake_add(&f->trace, event->name, 200);
    fake_add(&f->trace, event->data_was_string ? " s " : " - ", SIZE_MAX);
    fake_add_uint(&f->trace, event->data_len, 10, 1, ' ');
    fake_add_uint(&f->trace, fake_hash(0, event->data, event->data_len), 16, 16, ' ');
    fake_add_uint(&f->trace, event->raw_len, 10, 1, ' ');
    fake_add_uint(&f->trace, fake_hash(0, event->raw, event->raw_len), 16, 16, ' ');
    fake_add(&f->trace, event->user_id ? event->user_id : "-", SIZE_MAX);
    if (event->from_cache)
        fake_add(&f->trace, " cached", SIZE_MAX);
    if (event->member) {
        fake_add(&f->trace, " member ", SIZE_MAX);
        fake_add(&f->trace, event->member->id, 200);
        fake_add(&f->trace, event->member->info, 200);
    }
    fake_add(&f->trace, "\n", SIZE_MAX);
    if (f->on_event)
        f->on_event(f, event);
}

/* ---- driving -------------------------------------------------------------------------------- */

static inline void fake_init(fake *f)
{
    memset(f, 0, sizeof *f);
    f->now = 1000000;
    f->random_state = 42;
}

static inline pusher_options fake_options(fake *f)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = FAKE_HOST;
    options.port = FAKE_PORT;
    options.transport.open_fn = fake_open;
    options.transport.ready_fn = fake_ready;
    options.transport.recv_fn = fake_recv;
    options.transport.send_fn = fake_send;
    options.transport.close_fn = fake_close;
    options.transport.error_fn = fake_error;
    options.transport.user_data = f;
    options.random.fill_fn = fake_fill;
    options.random.user_data = f;
    options.allocator.alloc_fn = fake_heap_alloc;
    options.allocator.free_fn = fake_heap_free;
    options.allocator.user_data = &f->heap;
    options.state_fn = fake_state_fn;
    options.error_fn = fake_error_fn;
    options.retry_fn = fake_retry_fn;
    options.user_data = f;
    return options;
}

/* The key of PROTOCOL.md's example: SHA-256 of "private-encrypted-test" and the bytes 0 to 31. */
#define FAKE_SHARED_SECRET "5sjH9S2/qGAQKjEQMBUG9bIGNd87K7ZV9SHg2rgKilc="
#define FAKE_AUTH "\"auth\":\"app-key:sig\""

/* What an application's endpoint says that lets everybody in, as user "me". NULL: a user. */
static inline const char *fake_auth_body(const char *channel_name)
{
    pusher_kind kind = pusher_channel_kind(channel_name);
    if (!channel_name || !*channel_name)
        return "{" FAKE_AUTH ",\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"}";
    if (kind >= PUSHER_KIND_ENCRYPTED)
        return "{" FAKE_AUTH ",\"shared_secret\":\"" FAKE_SHARED_SECRET "\"}";
    if (kind >= PUSHER_KIND_PRESENCE)
        return "{" FAKE_AUTH ",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\"}";
    return "{" FAKE_AUTH "}";
}

static inline void fake_auth_fn(pusher_client *client, const pusher_auth_request *requests,
                                uint32_t count, void *user_data)
{
    fake_in_callback((fake *)user_data, "auth.request_fn");
    for (uint32_t i = 0; i < count; i++) {
        const char *body = fake_auth_body(requests[i].channel_name);
        (void)pusher_auth_accept(client, requests[i].ticket, body, strlen(body));
    }
}

static inline void fake_authorize(fake *f, pusher_options *options)
{
    options->auth.request_fn = fake_auth_fn;
    options->auth.user_data = f;
}

/* A client whose channels are all authorized. */
#define FAKE_SUBSCRIBE_AUTH(name)                                                                  \
    "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"" name "\"," FAKE_AUTH "}}"

static inline int fake_poll(fake *f)
{
    if (!f->client)
        return 0;
    f->in_poll = true;
    f->poll_received = f->poll_sent = 0;
    fake_script_go(f);
    int events = pusher_poll(f->client, f->now);
    fake_script_go(f);
    f->in_poll = false;
    if (f->poll_received > f->poll_received_max)
        f->poll_received_max = f->poll_received;
    if (f->poll_sent > f->poll_sent_max)
        f->poll_sent_max = f->poll_sent;
    return events;
}

/* Poll at this moment until nothing moves any more. Returns the events given to handlers. */
static inline int fake_run(fake *f)
{
    int events = 0, quiet = 0;
    for (int polls = 0; quiet < 3 && f->client; polls++) {
        uint64_t before = f->moved;
        events += fake_poll(f);
        quiet = f->moved == before ? quiet + 1 : 0;
        if (polls > 2000000) {
            fake_violate(f, "the client never comes to rest");
            break;
        }
    }
    return events;
}

/* Let ms pass in steps of at most step, polling at each. */
static inline void fake_pass_by(fake *f, uint64_t ms, uint64_t step)
{
    uint64_t end = f->now + ms;
    while (f->now < end && f->client) {
        f->now += end - f->now < step ? end - f->now : step;
        fake_run(f);
    }
}

static inline void fake_pass(fake *f, uint64_t ms)
{
    fake_pass_by(f, ms, 50);
}

/* Let ms pass as an event loop does: asleep until pusher_next_poll_ms(). */
static inline void fake_sleep(fake *f, uint64_t ms)
{
    uint64_t end = f->now + ms;
    uint32_t at_once = 0;
    while (f->client) {
        uint64_t next = pusher_next_poll_ms(f->client);
        if (next > end)
            break;
        at_once = next <= f->now ? at_once + 1 : 0;
        if (at_once > 100000) {
            fake_violate(f, "pusher_next_poll_ms() asks for a poll at once, for ever");
            break;
        }
        if (next > f->now)
            f->now = next;
        fake_poll(f);
    }
    f->now = end;
    fake_run(f);
}

/* For f.serve: a server that lets everybody in. */
static inline void fake_serve(fake *f, fake_stream *stream, const fake_message *message)
{
    static const char start[] = "{\"event\":\"pusher_internal:subscription_succeeded\","
                                "\"data\":\"{}\",\"channel\":\"";
    char reply[400];
    const char *at;
    (void)f;
    if (!message) {
        fake_accept_on(stream);
        fake_frame_to(&stream->to_client, 0x81, FAKE_ESTABLISHED, strlen(FAKE_ESTABLISHED));
    } else if (message->kind == FAKE_HEARD_CLOSE) {
        if (!stream->close_said)
            fake_close_to(&stream->to_client, message->code, NULL);
        stream->end = PUSHER_IO_EOF;
    } else if (message->kind == FAKE_HEARD_PING) {
        fake_frame_to(&stream->to_client, 0x8A, message->text, message->len);
    } else if (message->kind == FAKE_HEARD_TEXT && strcmp(message->text, FAKE_PING) == 0) {
        fake_frame_to(&stream->to_client, 0x81, FAKE_PONG, strlen(FAKE_PONG));
    } else if (message->kind == FAKE_HEARD_TEXT &&
               strncmp(message->text, "{\"event\":\"pusher:subscribe\"", 27) == 0 &&
               (at = strstr(message->text, "\"channel\":\"")) != NULL) {
        size_t len = strcspn(at + 11, "\"");
        len = len < 255 ? len : 255;
        memcpy(reply, start, sizeof start - 1);
        memcpy(reply + sizeof start - 1, at + 11, len);
        memcpy(reply + sizeof start - 1 + len, "\"}", 2);
        fake_frame_to(&stream->to_client, 0x81, reply, sizeof start + 1 + len);
    }
}

/* Let ms pass for a client and its server as in real life: both react at once, and the clock goes
   on to the next thing that falls due. */
static inline void fake_live(fake *f, uint64_t ms)
{
    uint64_t end = f->now + ms;
    while (f->client) {
        fake_run(f);
        if (!f->client)
            return;
        uint64_t next = pusher_next_poll_ms(f->client);
        pusher_state state = pusher_get_state(f->client);
        if (next == UINT64_MAX && (state == PUSHER_CONNECTING || state == PUSHER_CONNECTED ||
                                   state == PUSHER_UNAVAILABLE))
            fake_violate(f, "%s, and nothing will ever happen", pusher_state_name(state));
        if (f->now >= end)
            return;
        if (next <= f->now)
            next = f->now + 1;
        f->now = next < end ? next : end;
    }
}

static inline void fake_start(fake *f, const pusher_options *options)
{
    pusher_error error;
    pusher_options usual;
    if (!options) {
        fake_init(f);
        usual = fake_options(f);
        options = &usual;
    }
    f->client = pusher_create(options, &error);
    if (!f->client)
        fail_msg("pusher_create: %s", error.message);
}

/* Poll until the request is there. */
static inline fake_stream *fake_request(fake *f)
{
    assert_int_equal(pusher_connect(f->client), PUSHER_OK);
    fake_run(f);
    fake_stream *stream = fake_the_stream(f);
    assert_true(stream->upgrade_asked);
    return stream;
}

/* Accept the request that is there, and establish. */
static inline void fake_establish(fake *f)
{
    fake_accept(f);
    fake_say(f, FAKE_ESTABLISHED);
    fake_run(f);
    assert_int_equal(pusher_get_state(f->client), PUSHER_CONNECTED);
}

static inline void fake_online(fake *f)
{
    fake_request(f);
    fake_establish(f);
}

/* After a lost connection: wait for the next attempt, and let it succeed. */
static inline void fake_online_again(fake *f)
{
    uint32_t before = f->stream_count;
    for (int i = 0; i < 4000 && f->stream_count == before; i++)
        fake_pass(f, 50);
    assert_int_equal(f->stream_count, before + 1);
    fake_run(f);
    fake_establish(f);
}

static inline pusher_channel fake_subscribe(fake *f, const char *name)
{
    pusher_channel channel = pusher_subscribe(f->client, name);
    assert_true(channel.id != 0);
    return channel;
}

/* The next unread frame of the client, pongs included; NULL: none. */
static inline const fake_message *fake_next(fake *f)
{
    return f->heard_read < f->heard_count ? &f->heard[f->heard_read++] : NULL;
}

static inline void fake_expect_text_at(fake *f, const char *text, const char *file, int line)
{
    const fake_message *message = fake_next(f);
    if (!message)
        _assert_string_equal("(the client said nothing)", text, file, line);
    else
        _assert_string_equal(message->text, text, file, line);
    if (message)
        _assert_int_equal(message->kind, FAKE_HEARD_TEXT, file, line);
}

static inline void fake_expect_frame_at(fake *f, fake_kind kind, int code, const char *file,
                                        int line)
{
    const fake_message *message = fake_next(f);
    if (!message)
        _assert_string_equal("(the client said nothing)", "(a control frame)", file, line);
    else
        _assert_int_equal(message->kind, kind, file, line);
    if (message)
        _assert_int_equal(cast_to_largest_integral_type(message->code),
                          cast_to_largest_integral_type(code), file, line);
}

static inline void fake_expect_nothing_at(fake *f, const char *file, int line)
{
    const fake_message *message = fake_next(f);
    _assert_string_equal(message ? message->text : "", "", file, line);
    if (message)
        _assert_int_equal(message->kind, 0, file, line);
}

#define fake_expect_text(f, text) fake_expect_text_at(f, text, __FILE__, __LINE__)
#define fake_expect_close(f, code)                                                                 \
    fake_expect_frame_at(f, FAKE_HEARD_CLOSE, code, __FILE__, __LINE__)
#define fake_expect_pong(f) fake_expect_frame_at(f, FAKE_HEARD_PONG, 0, __FILE__, __LINE__)
#define fake_expect_nothing(f) fake_expect_nothing_at(f, __FILE__, __LINE__)

static inline void fake_forget_heard(fake *f)
{
    f->heard_read = f->heard_count;
}

static inline void fake_destroy(fake *f)
{
    pusher_client *client = f->client;
    f->client = NULL;
    f->in_destroy = true;
    pusher_destroy(client);
    if (!f->in_poll)
        f->in_destroy = false;
}

/* Destroys the client if it still is there, frees everything, and says what was wrong: NULL or a
   sentence that lives as long as f. */
static inline const char *fake_finish(fake *f)
{
    fake_destroy(f);
    for (uint32_t i = 0; i < f->stream_count; i++) {
        fake_stream *stream = f->streams[i];
        if (!stream->closed)
            fake_violate(f, "stream %u was never closed", i);
        fake_bytes_free(&stream->to_client);
        fake_bytes_free(&stream->from_client);
        free(stream);
    }
    f->stream_count = 0;
    if (f->heap.violation)
        fake_violate(f, "%s", f->heap.violation);
    if (f->heap.live_blocks)
        fake_violate(f, "%u blocks of %u bytes leak", (unsigned)f->heap.live_blocks,
                     (unsigned)f->heap.live_bytes);
    for (size_t i = 0; i < f->heard_count; i++)
        free(f->heard[i].text);
    free(f->heard);
    f->heard = NULL;
    f->heard_count = f->heard_read = f->heard_cap = 0;
    fake_bytes_free(&f->trace);
    fake_bytes_free(&f->sent_trace);
    fake_bytes_free(&f->post_trace);
    return f->violation[0] ? f->violation : NULL;
}

static inline void fake_end_at(fake *f, const char *file, int line)
{
    const char *wrong = fake_finish(f);
    if (wrong)
        _assert_string_equal(wrong, "", file, line);
}

#define fake_end(f) fake_end_at(f, __FILE__, __LINE__)

#endif /* PUSHER_TESTS_FAKE_H */
