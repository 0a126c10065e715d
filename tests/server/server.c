/*
 * server.c - see server.h. From the bottom up: memory and text, JSON, signatures, server state,
 * log, frames out, messages out, channels, what clients ask, frames in, HTTP, the loop, the API.
 *
 * Received frames go through wslay's frame layer and not its event layer, because the event
 * layer forgives (and answers by itself) things that a test wants to hear about. Sent frames go
 * through wslay too, except those that it rightly refuses to make.
 */
#include "server.h"
#include "seal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/base64.h>
#include <mbedtls/md.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <wslay/wslay.h>

enum {
    BUCKETS = 4096,
    HEAD_LIMIT = 64 * 1024,
    MESSAGE_LIMIT = 16 * 1024 * 1024, /* of a client: memory of the test machine, not a rule */
    HTTP_BODY_LIMIT = 1024 * 1024,
    LOW_WATER = 64 * 1024,            /* floods keep this much ready for a socket */
    DRAIN_MS = 2000,                  /* patience with a client that does not close its side */
    JSON_DEPTH = 64
};

/* ---- memory and text ---- */

typedef struct buf {
    char *at;
    size_t len, cap;
} buf;

static void *grow(void *old, size_t size)
{
    void *p = realloc(old, size ? size : 1);
    if (!p) {
        abort(); /* a test machine without memory proves nothing */
    }
    return p;
}

static char *copy_bytes(const char *at, size_t len)
{
    char *p = grow(NULL, len + 1);
    if (len) {
        memcpy(p, at, len);
    }
    p[len] = '\0';
    return p;
}

static char *copy_text(const char *text)
{
    return text ? copy_bytes(text, strlen(text)) : NULL;
}

static void buf_add(buf *b, const void *at, size_t len)
{
    if (b->cap - b->len <= len) {
        b->cap = (b->len + len + 1) * 2;
        b->at = grow(b->at, b->cap);
    }
    if (len) {
        memcpy(b->at + b->len, at, len);
    }
    b->len += len;
    b->at[b->len] = '\0'; /* always a string too */
}

static void buf_text(buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

__attribute__((format(printf, 2, 3)))
static void buf_format(buf *b, const char *format, ...)
{
    char stack[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(stack, sizeof stack, format, args);
    va_end(args);
    if (n < (int)sizeof stack) {
        buf_add(b, stack, (size_t)n);
        return;
    }
    char *heap = grow(NULL, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(heap, (size_t)n + 1, format, args);
    va_end(args);
    buf_add(b, heap, (size_t)n);
    free(heap);
}

static void buf_free(buf *b)
{
    free(b->at);
    memset(b, 0, sizeof *b);
}

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* The code point at p, its length in *used; -1 when it is not UTF-8 as RFC 3629 has it. */
static long utf8_next(const unsigned char *p, size_t left, size_t *used)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xC2 ? 0 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3
             : p[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > left) {
        return -1;
    }
    uint32_t c = n == 1 ? p[0] : (uint32_t)(p[0] & (0x7F >> n));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return -1;
        }
        c = c << 6 | (p[i] & 0x3Fu);
    }
    if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
        return -1;
    }
    *used = n;
    return (long)c;
}

static bool utf8_valid(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t at = 0, used = 0; at < len; at += used) {
        if (utf8_next(p + at, len - at, &used) < 0) {
            return false;
        }
    }
    return true;
}

/* ---- JSON: a strict reader over spans of the received text, and two ways of writing ---- */

typedef struct span { /* raw text of one JSON value; at == NULL: there is none */
    const char *at;
    size_t len;
} span;

static const char *json_value(const char *p, const char *end, int depth);

static const char *json_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    return p;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static const char *json_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) {
            return NULL;
        }
        if (*p != '\\') {
            continue;
        }
        if (++p == end || !strchr("\"\\/bfnrtu", *p) || !*p) {
            return NULL;
        }
        for (int i = 0; *p == 'u' && i < 4; i++) {
            if (p + 1 + i >= end || !is_hex(p[1 + i])) {
                return NULL;
            }
        }
    }
    return p < end ? p + 1 : NULL;
}

static const char *json_digits(const char *p, const char *end)
{
    const char *first = p;
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    return p > first ? p : NULL;
}

static const char *json_number(const char *p, const char *end)
{
    if (*p == '-') {
        p++;
    }
    const char *first = p;
    p = json_digits(p, end);
    if (!p || (*first == '0' && p - first > 1)) {
        return NULL;
    }
    if (p < end && *p == '.' && !(p = json_digits(p + 1, end))) {
        return NULL;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        p = json_digits(p, end);
    }
    return p;
}

static const char *json_word(const char *p, const char *end, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

/* One member of an object or one element of an array, spaces around it included. */
static const char *json_item(const char *p, const char *end, bool object, int depth)
{
    p = json_space(p, end);
    if (object) {
        if (p == end || *p != '"' || !(p = json_string(p, end))) {
            return NULL;
        }
        p = json_space(p, end);
        if (p == end || *p++ != ':') {
            return NULL;
        }
        p = json_space(p, end);
    }
    p = json_value(p, end, depth);
    return p ? json_space(p, end) : NULL;
}

static const char *json_group(const char *p, const char *end, int depth)
{
    bool object = *p == '{';
    char close = object ? '}' : ']';
    p = json_space(p + 1, end);
    if (p < end && *p == close) {
        return p + 1;
    }
    while ((p = json_item(p, end, object, depth)) != NULL && p < end && *p == ',') {
        p++;
    }
    return p && p < end && *p == close ? p + 1 : NULL;
}

/* The end of the value at p, or NULL. */
static const char *json_value(const char *p, const char *end, int depth)
{
    if (p >= end || depth == 0) {
        return NULL;
    }
    switch (*p) {
    case '"': return json_string(p, end);
    case '{':
    case '[': return json_group(p, end, depth - 1);
    case 't': return json_word(p, end, "true");
    case 'f': return json_word(p, end, "false");
    case 'n': return json_word(p, end, "null");
    default: return json_number(p, end);
    }
}

/* The whole text as one value without the spaces around it; none if it is not JSON. */
static span json_whole(const char *text, size_t len)
{
    const char *end = text + len, *at = json_space(text, end);
    const char *stop = json_value(at, end, JSON_DEPTH);
    span none = {NULL, 0};
    if (!stop || json_space(stop, end) != end || !utf8_valid(text, len)) {
        return none;
    }
    return (span){at, (size_t)(stop - at)};
}

static unsigned hex4(const char *p)
{
    char four[5] = {p[0], p[1], p[2], p[3], '\0'};
    return (unsigned)strtoul(four, NULL, 16);
}

static void utf8_write(buf *out, uint32_t c)
{
    unsigned char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; c >>= 6) {
        b[i] = (unsigned char)(0x80 | (c & 0x3F));
    }
    b[0] = (unsigned char)(lead[n] | c);
    buf_add(out, b, n);
}

/* Undoes the quoting of a JSON string; a lone surrogate becomes U+FFFD. */
static void json_unquote(buf *out, span string)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *end = string.at + string.len - 1;
    buf_add(out, "", 0);
    for (const char *p = string.at + 1; p < end; p++) {
        const char *plain;
        if (*p != '\\') {
            buf_add(out, p, 1);
        } else if (*++p != 'u') {
            plain = strchr(from, *p);
            buf_add(out, plain ? to + (plain - from) : p, 1);
        } else {
            uint32_t c = hex4(p + 1);
            p += 4;
            if (c >= 0xD800 && c < 0xDC00 && end - p > 6 && p[1] == '\\' && p[2] == 'u'
                && hex4(p + 3) >= 0xDC00 && hex4(p + 3) < 0xE000) {
                c = 0x10000 + ((c - 0xD800) << 10) + (hex4(p + 3) - 0xDC00);
                p += 6;
            }
            utf8_write(out, c >= 0xD800 && c < 0xE000 ? 0xFFFD : c);
        }
    }
}

static bool json_is_string(span v)
{
    return v.at && *v.at == '"';
}

/* The text of a JSON string, to be freed; NULL for anything else. */
static char *json_text(span v)
{
    buf out = {0};
    if (!json_is_string(v)) {
        return NULL;
    }
    json_unquote(&out, v);
    return out.at;
}

/* Steps through an object or array that is known to be valid: *p starts after the bracket. */
static bool json_next(const char **p, const char *end, bool object, span *key, span *value)
{
    *p = json_space(*p, end);
    if (**p == ',') {
        *p = json_space(*p + 1, end);
    }
    if (**p == '}' || **p == ']') {
        return false;
    }
    if (object) {
        key->at = *p;
        *p = json_string(*p, end);
        key->len = (size_t)(*p - key->at);
        *p = json_space(json_space(*p, end) + 1, end);
    }
    value->at = *p;
    *p = json_value(*p, end, JSON_DEPTH);
    value->len = (size_t)(*p - value->at);
    return true;
}

static span json_get(span object, const char *name)
{
    span found = {NULL, 0}, key, value;
    if (!object.at || *object.at != '{') {
        return found;
    }
    const char *p = object.at + 1, *end = object.at + object.len;
    while (json_next(&p, end, true, &key, &value)) {
        char *text = json_text(key);
        if (strcmp(text, name) == 0) {
            found = value;
        }
        free(text);
    }
    return found;
}

static char *json_get_text(span object, const char *name)
{
    return json_text(json_get(object, name));
}

/* JSON string of a text. php: as PHP's json_encode writes it (Reverb), slash and all that is
   not ASCII escaped; else as JavaScript's JSON.stringify does. */
static void json_quote(buf *out, const char *text, size_t len, bool php)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 1;
    buf_text(out, "\"");
    for (size_t at = 0; at < len; at += used) {
        long c = utf8_next(p + at, len - at, &used);
        if (c < 0) { /* passed on: tests publish bad UTF-8 on purpose */
            used = 1;
            buf_add(out, p + at, 1);
        } else if (c == '"' || c == '\\' || (php && c == '/')) {
            buf_format(out, "\\%c", (int)c);
        } else if (c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\b' && c != '\f') {
            buf_format(out, "\\u%04lx", (unsigned long)c);
        } else if (c < 0x20) {
            buf_format(out, "\\%c", "btnvfr"[c - 8]);
        } else if (php && c > 0xFFFF) {
            unsigned long v = (unsigned long)c - 0x10000;
            buf_format(out, "\\u%04lx\\u%04lx", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
        } else if (php && c > 0x7E) {
            buf_format(out, "\\u%04lx", (unsigned long)c);
        } else {
            buf_add(out, p + at, used);
        }
    }
    buf_text(out, "\"");
}

/* Decoded and encoded again, as a server does that keeps values and not text: no spaces, strings
   in its own spelling; PHP turns {} into []. */
static void json_again(buf *out, span v, bool php)
{
    span key, value;
    if (*v.at == '"') {
        buf text = {0};
        json_unquote(&text, v);
        json_quote(out, text.at, text.len, php);
        buf_free(&text);
        return;
    }
    bool object = *v.at == '{';
    if (!object && *v.at != '[') {
        buf_add(out, v.at, v.len);
        return;
    }
    const char *p = v.at + 1, *end = v.at + v.len;
    size_t n = 0, mark = out->len;
    buf_text(out, object ? "{" : "[");
    for (; json_next(&p, end, object, &key, &value); n++) {
        buf_text(out, n ? "," : "");
        if (object) {
            json_again(out, key, php);
            buf_text(out, ":");
        }
        json_again(out, value, php);
    }
    if (n == 0 && php) {
        out->len = mark;
        buf_text(out, "[]");
    } else {
        buf_text(out, object ? "}" : "]");
    }
}

/* ---- digests ---- */

static void hex_of(const unsigned char *bytes, size_t n, char *hex)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void hmac_hex(const char *secret, const char *text, size_t len, char hex[65])
{
    unsigned char mac[32];
    mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
                    (const unsigned char *)secret, strlen(secret),
                    (const unsigned char *)text, len, mac);
    hex_of(mac, sizeof mac, hex);
}

static void md5_hex(const char *text, size_t len, char hex[33])
{
    unsigned char sum[16];
    mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_MD5), (const unsigned char *)text, len, sum);
    hex_of(sum, sizeof sum, hex);
}

static void accept_key(const char *key, char out[32])
{
    unsigned char sum[20];
    size_t written = 0;
    buf text = {0};
    buf_text(&text, key);
    buf_text(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA1),
               (const unsigned char *)text.at, text.len, sum);
    mbedtls_base64_encode((unsigned char *)out, 32, &written, sum, sizeof sum);
    out[written] = '\0';
    buf_free(&text);
}

/* 32 bytes of base64; false when it is anything else */
static bool read_key(unsigned char key[32], const char *base64)
{
    unsigned char raw[33];
    size_t n = 0;
    bool good = mbedtls_base64_decode(raw, sizeof raw, &n, (const unsigned char *)base64,
                                      strlen(base64)) == 0 && n == 32;
    if (good) {
        memcpy(key, raw, 32);
    }
    return good;
}

static void add_base64(buf *out, const void *bytes, size_t len)
{
    size_t cap = len / 3 * 4 + 5, n = 0;
    unsigned char *text = grow(NULL, cap);
    mbedtls_base64_encode(text, cap, &n, bytes, len);
    buf_add(out, text, n);
    free(text);
}

/* The key of an encrypted channel: SHA-256 of its name and the master key */
static void channel_key(unsigned char key[32], const char *chan, const unsigned char master[32])
{
    buf text = {0};
    buf_text(&text, chan);
    buf_add(&text, master, 32);
    mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
               (const unsigned char *)text.at, text.len, key);
    buf_free(&text);
}

/* ---- state ---- */

typedef enum phase {
    PHASE_HEAD,    /* reading the request                                         */
    PHASE_WAIT,    /* request read, 101 not queued yet (or never)                 */
    PHASE_OPEN,    /* frames                                                      */
    PHASE_FLUSH,   /* nothing more is queued; FIN or RST once the rest is out     */
    PHASE_DRAIN,   /* FIN sent, waiting for the client's                          */
    PHASE_DEAD     /* to be freed by the thread                                   */
} phase;

typedef struct conn {
    server *s;
    int fd;
    uint32_t serial;
    phase at;
    server_faults faults;
    bool upgraded;         /* frames are spoken                                          */
    bool counted;          /* wrote connection_established: counts against the quota     */
    bool subscribed_once;  /* Reverb's quota and pings know only such connections        */
    bool refused;          /* told that it is unwelcome: no further answers              */
    bool close_sent, close_received;
    bool used_control;     /* the client sent a WebSocket control frame                  */
    bool pinged;           /* our liveness ping is out                                   */
    bool endless;
    bool eof;              /* the client closed its side                                 */
    bool http;             /* not for frames: it has asked for something else            */
    bool deaf;             /* its frames cannot be read any more                         */
    char id[32];
    char *app_key, *client_origin, *query;
    char *user;            /* signed in as                                               */
    char *user_data;
    buf in, out, message;
    size_t in_at, out_at;
    wslay_frame_context_ptr rx, tx;
    uint64_t frame_got;    /* of the frame being read                                    */
    uint8_t message_opcode;
    buf control;
    uint64_t answer_ms, establish_ms, write_ms, drain_ms, idle_ms; /* 0: not running      */
    uint64_t late_ms;
    char *answer;          /* the delayed 101                                            */
    char *late;            /* the delayed answer to a request for authorization          */
    bool close_after_late; /* ... after which the connection ends                        */
    uint32_t texts_sent;
    uint64_t rate_start_ms;
    uint32_t rate_count;
    buf flood_frame;       /* same bytes each time, or empty and numbered                */
    char *flood_channel, *flood_event;
    uint32_t flood_left, flood_n;
} conn;

typedef struct sub {
    conn *c;
    char *id, *info; /* presence: raw JSON; id NULL: no member, info NULL: none given */
} sub;

typedef struct channel {
    struct channel *next;
    char *name;
    sub *subs;
    size_t count, cap;
    char *cached; /* the last event as a message */
} channel;

struct server {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool quit, stalled;
    server_stop_mode stop_mode;
    int wake[2], listener[2];
    uint16_t port;
    server_options o;
    char *key, *secret, *path, *origin;
    unsigned char master[32];
    server_faults faults;
    uint32_t faults_left; /* 0: for good */
    conn **conns;
    size_t conn_count, conn_cap;
    channel *buckets[BUCKETS];
    server_log_entry *log;
    size_t log_count, log_cap;
    server_counters n;
    uint64_t start_ms, random;
};

static bool is_php(const server *s)
{
    return s->o.dialect == SERVER_REVERB;
}

static uint32_t next_random(server *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random >> 16);
}

static void wake(server *s)
{
    ssize_t ignored = write(s->wake[1], "w", 1); /* a full pipe wakes as well */
    (void)ignored;
}

/* ---- log ---- */

static const char *log_name(server_log_kind kind)
{
    static const char *const names[] = {"?", "accept", "request", "http", "text", "binary",
                                        "ping", "pong", "close", "fin", "reset", "VIOLATION", "form"};
    return names[kind];
}

static void log_count(server *s, server_log_kind kind, int code)
{
    s->n.accepted += kind == SERVER_LOG_ACCEPT;
    s->n.texts_in += kind == SERVER_LOG_TEXT;
    s->n.pings_in += kind == SERVER_LOG_PING;
    s->n.pongs_in += kind == SERVER_LOG_PONG;
    s->n.closes_in += kind == SERVER_LOG_CLOSE;
    s->n.fins_in += kind == SERVER_LOG_FIN;
    s->n.resets_in += kind == SERVER_LOG_RESET;
    s->n.violations += kind == SERVER_LOG_VIOLATION;
    if (kind == SERVER_LOG_CLOSE) {
        s->n.last_close_code = (uint32_t)code;
    }
}

static void log_add(conn *c, server_log_kind kind, int code, const char *text, size_t len)
{
    server *s = c->s;
    log_count(s, kind, code);
    if (s->o.trace) {
        fprintf(s->o.trace, "#%u %s ", c->serial, log_name(kind));
        if (code) {
            fprintf(s->o.trace, "%d ", code);
        }
        fprintf(s->o.trace, "%.*s\n", (int)(len > 400 ? 400 : len), text);
        fflush(s->o.trace);
    }
    if (s->o.no_log) {
        return;
    }
    if (s->log_count == s->log_cap) {
        s->log_cap = s->log_cap * 2 + 64;
        s->log = grow(s->log, s->log_cap * sizeof *s->log);
    }
    s->log[s->log_count++] = (server_log_entry){
        kind, c->serial, clock_ms() - s->start_ms, code, copy_bytes(text, len), len};
}

static void violation(conn *c, const char *what)
{
    log_add(c, SERVER_LOG_VIOLATION, 0, what, strlen(what));
}

static bool text_holds(const char *text, size_t len, const char *part)
{
    size_t n = part ? strlen(part) : 0;
    for (size_t i = 0; i + n <= len; i++) {
        if (n == 0 || memcmp(text + i, part, n) == 0) {
            return true;
        }
    }
    return false;
}

static size_t log_find(const server *s, server_log_kind kind, const char *part)
{
    size_t n = 0;
    for (size_t i = 0; i < s->log_count; i++) {
        const server_log_entry *e = &s->log[i];
        n += (kind == SERVER_LOG_ANY || e->kind == kind) && text_holds(e->text, e->len, part);
    }
    return n;
}

/* ---- frames out ---- */

static ssize_t tx_send(const uint8_t *data, size_t len, int flags, void *user_data)
{
    conn *c = user_data;
    (void)flags;
    buf_add(&c->out, data, len);
    return (ssize_t)len;
}

static bool can_send(const conn *c)
{
    return c->at == PHASE_OPEN && !c->close_sent;
}

static void frame_out(conn *c, uint8_t opcode, bool fin, const void *data, size_t len)
{
    struct wslay_frame_iocb f;
    memset(&f, 0, sizeof f);
    f.fin = fin;
    f.opcode = opcode;
    f.payload_length = len;
    f.data = data;
    f.data_length = len;
    ssize_t n = wslay_frame_send(c->tx, &f);
    if (n != (ssize_t)len) {
        abort(); /* our own mistake: the buffer behind it takes everything */
    }
}

static void leave_all(conn *c);

static void end_connection(conn *c)
{
    if (c->at < PHASE_FLUSH) {
        leave_all(c);
        c->at = PHASE_FLUSH;
    }
}

static void reset_connection(conn *c)
{
    struct linger now = {1, 0};
    leave_all(c);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    c->at = PHASE_DEAD;
}

static void close_frame(conn *c, int code, const char *reason)
{
    unsigned char payload[125];
    size_t len = 0;
    if (code > 0) {
        size_t n = reason ? strlen(reason) : 0;
        n = n > sizeof payload - 2 ? sizeof payload - 2 : n;
        payload[0] = (unsigned char)(code >> 8);
        payload[1] = (unsigned char)code;
        if (n) {
            memcpy(payload + 2, reason, n);
        }
        len = n + 2;
    }
    frame_out(c, WSLAY_CONNECTION_CLOSE, true, payload, len);
    c->close_sent = true;
}

/* code: a close code or SERVER_CLOSE_* */
static void close_with(conn *c, int code, const char *reason)
{
    if (code == SERVER_CLOSE_RST) {
        reset_connection(c);
        return;
    }
    if (code != SERVER_CLOSE_FIN && can_send(c)) {
        close_frame(c, code, reason);
        if (c->s->o.patient && !c->close_received) {
            leave_all(c);
            return;
        }
    }
    end_connection(c);
}

static void text_frames(conn *c, const char *text, size_t len)
{
    size_t step = c->faults.fragment ? c->faults.fragment : len;
    bool tail = c->faults.empty_final;
    uint8_t opcode = WSLAY_TEXT_FRAME;
    size_t at = 0;
    do {
        size_t n = len - at < step ? len - at : step;
        bool last = at + n == len && !tail;
        frame_out(c, opcode, last, text + at, n);
        if (!last && c->faults.ping_between) {
            frame_out(c, WSLAY_PING, true, "between", 7);
        }
        opcode = WSLAY_CONTINUATION_FRAME;
        at += n;
    } while (at < len);
    if (tail) {
        frame_out(c, opcode, true, "", 0);
    }
}

static void send_text(conn *c, const char *text, size_t len)
{
    if (!can_send(c) || !c->upgraded) {
        return;
    }
    text_frames(c, text, len);
    c->s->n.texts_out++;
    c->texts_sent++;
    if (c->s->o.trace) {
        fprintf(c->s->o.trace, "#%u sent %.*s\n", c->serial, (int)(len > 400 ? 400 : len), text);
        fflush(c->s->o.trace);
    }
    if (c->s->o.dialect == SERVER_SOKETI) {
        c->idle_ms = clock_ms(); /* soketi's timer knows only what soketi sends */
    }
    if (c->faults.close_after && c->texts_sent == c->faults.close_after) {
        close_with(c, c->faults.close_code, NULL);
    }
}

typedef struct raw_frame {
    const char *bytes;
    size_t len;
} raw_frame;

#define RAW(text) {text, sizeof text - 1}

static void bad_frame_out(conn *c, server_bad_frame kind)
{
    static const raw_frame frames[SERVER_BAD_COUNT] = {
        RAW(""),
        RAW("\x82\x05" "hello"),
        RAW("\x81\x85\x01\x02\x03\x04" "\x69\x67\x6f\x68\x6e"),
        RAW("\xC1\x02{}"),
        RAW("\x83\x02{}"),
        RAW("\x8B\x00"),
        RAW("\x81\x05" "a\xC3(bc"),
        RAW("\x81\x7E\x00\x05" "hello"),
        RAW("\x81\x7F\x00\x00\x00\x00\x00\x00\x00\x05" "hello"),
        RAW("\x81\x7F\x00\x00\x00\x00\x7F\xFF\xFF\xFF" "0123456789abcdef"),
        RAW("\x81\x7F\x80\x00\x00\x00\x00\x00\x00\x05" "hello"),
        RAW(""), /* made below: 126 bytes */
        RAW("\x09\x01x"),
        RAW("\x80\x02{}"),
        RAW("\x01\x01{" "\x81\x02{}"),
        RAW("\x88\x01\x03"),
        RAW("\x88\x02\x03\xED"),
        RAW("\x88\x04\x03\xE8\xC3("),
    };
    if (kind == SERVER_BAD_LONG_CONTROL) {
        char ping[4 + 126] = "\x89\x7E\x00\x7E";
        buf_add(&c->out, ping, sizeof ping);
    } else if (kind > SERVER_BAD_NONE && kind < SERVER_BAD_COUNT) {
        buf_add(&c->out, frames[kind].bytes, frames[kind].len);
    }
}

/* ---- messages out ---- */

/* data and user_id are raw JSON or NULL. soketi and client events have the channel first. */
static void make_message(buf *out, const server *s, const char *event, const char *chan,
                         const char *data, const char *user_id)
{
    bool data_first = s->o.dialect == SERVER_PUSHER || s->o.dialect == SERVER_REVERB;
    data_first = data_first && strncmp(event, "client-", 7) != 0;
    buf_text(out, "{\"event\":");
    json_quote(out, event, strlen(event), is_php(s));
    if (data && data_first) {
        buf_format(out, ",\"data\":%s", data);
    }
    if (chan) {
        buf_text(out, ",\"channel\":");
        json_quote(out, chan, strlen(chan), is_php(s));
    }
    if (data && !data_first) {
        buf_format(out, ",\"data\":%s", data);
    }
    if (user_id) {
        buf_format(out, ",\"user_id\":%s", user_id);
    }
    buf_text(out, "}");
}

static void send_message(conn *c, const char *event, const char *chan, const char *data)
{
    buf out = {0};
    make_message(&out, c->s, event, chan, data, NULL);
    send_text(c, out.at, out.len);
    buf_free(&out);
}

/* data goes as a JSON string that holds the text */
static void send_quoted(conn *c, const char *event, const char *chan, const char *text)
{
    buf data = {0};
    json_quote(&data, text, strlen(text), is_php(c->s));
    send_message(c, event, chan, data.at);
    buf_free(&data);
}

/* pusher:error; code -1 is null. Reverb: a string and never a channel. */
static void send_error(conn *c, int code, const char *message, const char *chan)
{
    server_dialect d = c->s->o.dialect;
    buf data = {0};
    buf_text(&data, "{\"code\":");
    buf_format(&data, code < 0 ? "null" : "%d", code);
    buf_text(&data, ",\"message\":");
    json_quote(&data, message, strlen(message), is_php(c->s));
    buf_text(&data, "}");
    if (d == SERVER_REVERB) {
        send_quoted(c, "pusher:error", NULL, data.at);
    } else {
        bool named = d == SERVER_SOKETI || d == SERVER_SOCKUDO;
        send_message(c, "pusher:error", named ? chan : NULL, data.at);
    }
    buf_free(&data);
}

/* An error that ends the connection, in the dialect's manner. */
static void refuse(conn *c, int code, const char *message)
{
    send_error(c, code, message, NULL);
    c->refused = true;
    if (c->s->o.dialect == SERVER_REVERB) {
        close_with(c, SERVER_CLOSE_FIN, NULL);
    } else {
        close_with(c, code, c->s->o.dialect == SERVER_SOKETI ? NULL : message);
    }
}

/* ---- channels ---- */

static channel **channel_slot(server *s, const char *name)
{
    uint32_t h = 2166136261u;
    for (const char *p = name; *p; p++) {
        h = (h ^ (unsigned char)*p) * 16777619u;
    }
    channel **slot = &s->buckets[h % BUCKETS];
    while (*slot && strcmp((*slot)->name, name) != 0) {
        slot = &(*slot)->next;
    }
    return slot;
}

static channel *channel_make(server *s, const char *name)
{
    channel **slot = channel_slot(s, name);
    if (!*slot) {
        *slot = grow(NULL, sizeof **slot);
        memset(*slot, 0, sizeof **slot);
        (*slot)->name = copy_text(name);
    }
    return *slot;
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_cache(const server *s, const char *name)
{
    if (is_php(s)) { /* its own idea of the prefixes, and no encrypted-cache */
        return starts(name, "cache") || starts(name, "private-cache")
            || starts(name, "presence-cache");
    }
    return starts(name, "cache-") || starts(name, "private-cache-")
        || starts(name, "private-encrypted-cache-") || starts(name, "presence-cache-");
}

static bool is_presence(const char *name)
{
    return starts(name, "presence-");
}

static sub *find_sub(channel *ch, const conn *c)
{
    for (size_t i = 0; ch && i < ch->count; i++) {
        if (ch->subs[i].c == c) {
            return &ch->subs[i];
        }
    }
    return NULL;
}

/* Another connection of the same presence member. */
static bool has_twin(const channel *ch, const sub *m)
{
    for (size_t i = 0; i < ch->count; i++) {
        const sub *other = &ch->subs[i];
        if (other != m && other->id && strcmp(other->id, m->id) == 0) {
            return true;
        }
    }
    return false;
}

static void to_channel(channel *ch, const conn *except, const char *text, size_t len)
{
    for (size_t i = 0; i < ch->count;) {
        conn *c = ch->subs[i].c;
        if (c != except) {
            send_text(c, text, len);
        }
        i += i < ch->count && ch->subs[i].c == c; /* close_after may have taken it out */
    }
}

static void to_channel_quoted(server *s, channel *ch, const conn *except, const char *event,
                              const char *text)
{
    buf data = {0}, out = {0};
    json_quote(&data, text, strlen(text), is_php(s));
    make_message(&out, s, event, ch->name, data.at, NULL);
    to_channel(ch, except, out.at, out.len);
    buf_free(&data);
    buf_free(&out);
}

static void send_count(server *s, channel *ch)
{
    char text[48];
    if (!s->o.subscription_count || is_presence(ch->name) || ch->count == 0) {
        return;
    }
    snprintf(text, sizeof text, "{\"subscription_count\":%zu}", ch->count);
    to_channel_quoted(s, ch, NULL, "pusher_internal:subscription_count", text);
}

/* {"user_id":..,"user_info":..} of a member that came, or without info of one that left */
static void member_event(server *s, channel *ch, const sub *m, const conn *except, bool added)
{
    buf text = {0};
    buf_format(&text, "{\"user_id\":%s", m->id);
    if (added && m->info) {
        buf_format(&text, ",\"user_info\":%s", m->info);
    }
    buf_text(&text, "}");
    to_channel_quoted(s, ch, except,
                      added ? "pusher_internal:member_added" : "pusher_internal:member_removed",
                      text.at);
    buf_free(&text);
}

static void leave(channel *ch, conn *c)
{
    sub *m = find_sub(ch, c), gone;
    if (!m) {
        return;
    }
    gone = *m;
    ch->count--;
    memmove(m, m + 1, (size_t)(ch->subs + ch->count - m) * sizeof *m); /* order of joining stays */
    if (gone.id && !has_twin(ch, &gone)) {
        member_event(c->s, ch, &gone, NULL, false);
    }
    free(gone.id);
    free(gone.info);
    send_count(c->s, ch);
}

static void tell_watchers(server *s, const char *user, bool online);
static bool user_online(const server *s, const char *user, const conn *except);

static void sign_out(conn *c)
{
    char *user = c->user;
    c->user = NULL;
    if (user && !user_online(c->s, user, c)) {
        tell_watchers(c->s, user, false);
    }
    free(user);
}

static void leave_all(conn *c)
{
    if (!c->subscribed_once && !c->user) {
        return;
    }
    c->subscribed_once = false;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (channel *ch = c->s->buckets[i]; ch; ch = ch->next) {
            leave(ch, c);
        }
    }
    sign_out(c);
}

/* A server's own user channel: every connection signed in as that user, subscribed or not. */
static void to_user(server *s, const char *chan, const char *text, size_t len)
{
    const char *user = chan + strlen("#server-to-user-");
    channel *ch = *channel_slot(s, chan);
    for (size_t i = 0; i < s->conn_count; i++) {
        conn *c = s->conns[i];
        if ((c->user && strcmp(c->user, user) == 0) || find_sub(ch, c)) {
            send_text(c, text, len);
        }
    }
}

static void publish_message(server *s, const char *chan, const char *text, size_t len,
                            const conn *except)
{
    if (starts(chan, "#server-to-user-")) {
        to_user(s, chan, text, len);
        return;
    }
    bool cache = is_cache(s, chan);
    channel *ch = cache ? channel_make(s, chan) : *channel_slot(s, chan);
    if (cache) {
        free(ch->cached);
        ch->cached = copy_bytes(text, len);
    }
    if (ch) {
        to_channel(ch, except, text, len);
    }
}

static void publish(server *s, const char *chan, const char *event, const char *text, size_t len,
                    const conn *except)
{
    buf data = {0}, out = {0};
    json_quote(&data, text, len, is_php(s));
    make_message(&out, s, event, chan, data.at, NULL);
    publish_message(s, chan, out.at, out.len, except);
    buf_free(&data);
    buf_free(&out);
}

static bool is_first_of_user(const channel *ch, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (ch->subs[k].id && strcmp(ch->subs[k].id, ch->subs[i].id) == 0) {
            return false;
        }
    }
    return ch->subs[i].id != NULL;
}

/* PHP has one kind of array: keys "0".."n-1" in order make a list of it, no keys too. */
static bool hash_is_list(const server *s, const channel *ch)
{
    size_t n = 0;
    for (size_t i = 0; i < ch->count; i++) {
        char bare[24], quoted[24];
        snprintf(bare, sizeof bare, "%zu", n);
        snprintf(quoted, sizeof quoted, "\"%zu\"", n);
        if (is_first_of_user(ch, i)) {
            const char *id = ch->subs[i].id;
            if (strcmp(id, bare) != 0 && strcmp(id, quoted) != 0) {
                return false;
            }
            n++;
        }
    }
    return is_php(s);
}

static void hash_item(buf *hash, const server *s, const sub *m, bool list)
{
    if (!m->info && s->o.dialect == SERVER_SOKETI) {
        return; /* undefined: JSON.stringify leaves the member out */
    }
    buf_text(hash, hash->len > 1 ? "," : "");
    if (!list) {
        buf_format(hash, *m->id == '"' ? "%s:" : "\"%s\":", m->id);
    }
    buf_text(hash, m->info ? m->info : "null");
}

static void presence_text(buf *out, const server *s, const channel *ch)
{
    buf ids = {0}, hash = {0};
    size_t n = 0;
    bool list = hash_is_list(s, ch);
    buf_text(&ids, "[");
    buf_text(&hash, list ? "[" : "{");
    for (size_t i = 0; i < ch->count; i++) {
        if (is_first_of_user(ch, i)) {
            buf_format(&ids, n++ ? ",%s" : "%s", ch->subs[i].id);
            hash_item(&hash, s, &ch->subs[i], list);
        }
    }
    buf_text(&ids, "]");
    buf_text(&hash, list ? "]" : "}");
    if (is_php(s)) {
        buf_format(out, "{\"presence\":{\"count\":%zu,\"ids\":%s,\"hash\":%s}}", n, ids.at,
                   hash.at);
    } else {
        buf_format(out, "{\"presence\":{\"ids\":%s,\"hash\":%s,\"count\":%zu}}", ids.at, hash.at,
                   n);
    }
    buf_free(&ids);
    buf_free(&hash);
}

static void start_flood(conn *c, const char *chan, const char *event, const char *data,
                        uint32_t count);

static void acknowledge(conn *c, channel *ch)
{
    server *s = c->s;
    static const char event[] = "pusher_internal:subscription_succeeded";
    if (c->faults.never_acknowledge) {
        return;
    }
    if (is_presence(ch->name)) {
        buf text = {0};
        presence_text(&text, s, ch);
        send_quoted(c, event, ch->name, text.at);
        buf_free(&text);
    } else if (s->o.dialect == SERVER_SOKETI) {
        send_message(c, event, ch->name, NULL);
    } else {
        send_quoted(c, event, ch->name, "{}");
    }
}

static void after_acknowledge(conn *c, channel *ch)
{
    if (c->faults.never_acknowledge) {
        return;
    }
    if (is_cache(c->s, ch->name)) {
        if (ch->cached) {
            send_text(c, ch->cached, strlen(ch->cached));
        } else {
            send_message(c, "pusher:cache_miss", ch->name, NULL);
        }
    }
    if (c->faults.flood) {
        start_flood(c, ch->name, "flood", NULL, c->faults.flood);
    }
}

/* ---- subscribing ---- */

typedef struct request { /* of one subscription; texts are owned, NULL when absent or no string */
    char *channel, *auth, *channel_data;
} request;

static void invalid_message(conn *c);

static void subscription_error(conn *c, const char *chan, const char *type, const char *error,
                               int status)
{
    buf data = {0};
    buf_text(&data, "{");
    if (type) {
        buf_format(&data, "\"type\":\"%s\",", type);
    }
    buf_format(&data, "\"error\":\"%s\",\"status\":%d}", error, status);
    send_message(c, "pusher:subscription_error", chan, data.at);
    buf_free(&data);
}

/* What the server would sign: socket_id:channel[:channel_data] */
static void signed_text(buf *out, const conn *c, const request *r)
{
    bool with_data = is_presence(r->channel) || is_php(c->s);
    buf_format(out, "%s:%s", c->id, r->channel);
    if (with_data && r->channel_data) {
        buf_format(out, ":%s", r->channel_data);
    }
}

static void pusher_auth_error(conn *c, const request *r)
{
    buf text = {0};
    const char *colon = r->auth ? strchr(r->auth, ':') : NULL;
    if (!r->auth || !*r->auth) {
        buf_format(&text, "Auth info required to subscribe to %s", r->channel);
    } else if (!colon || strncmp(r->auth, c->s->key, (size_t)(colon - r->auth)) != 0) {
        buf_format(&text, "Invalid key in subscription auth data: '%s'", r->auth);
    } else {
        buf_text(&text, "Invalid signature: Expected HMAC SHA256 hex digest of ");
        signed_text(&text, c, r);
        buf_format(&text, ", but got %s", colon + 1);
    }
    send_error(c, -1, text.at, NULL);
    buf_free(&text);
}

static void auth_error(conn *c, const request *r)
{
    switch (c->s->o.dialect) {
    case SERVER_SOKETI:
        subscription_error(c, r->channel, "AuthError", "The connection is unauthorized.", 401);
        break;
    case SERVER_REVERB:
        send_error(c, 4009, "Connection is unauthorized", NULL);
        break;
    case SERVER_SOCKUDO:
        send_error(c, 4009, "Connection not authorized", r->channel);
        break;
    case SERVER_PUSHER:
        pusher_auth_error(c, r);
        break;
    }
}

/* auth is "KEY:SIGNATURE"; Reverb and soketi differ in whether the key part counts. */
static bool check_auth(const server *s, const char *auth, const char *text, size_t len)
{
    char hex[65];
    const char *colon = auth ? strchr(auth, ':') : NULL;
    if (!colon) {
        return false;
    }
    size_t key = (size_t)(colon - auth);
    if (!is_php(s) && (strlen(s->key) != key || memcmp(auth, s->key, key) != 0)) {
        return false;
    }
    hmac_hex(s->secret, text, len, hex);
    return strcmp(colon + 1, hex) == 0;
}

static bool is_authorized(conn *c, const request *r)
{
    if (!starts(r->channel, "private-") && !is_presence(r->channel)) {
        return true;
    }
    buf text = {0};
    signed_text(&text, c, r);
    bool good = check_auth(c->s, r->auth, text.at, text.len);
    buf_free(&text);
    return good;
}

static bool name_ok(const server *s, const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789_-=@,.;";
    const char *rest = name;
    if (s->o.dialect == SERVER_REVERB || starts(name, "#server-to-user-")) {
        return true; /* Reverb takes any name; user ids are looser than names */
    }
    while (*rest && (strchr(plain, *rest)
                     || (s->o.dialect == SERVER_SOCKUDO && (*rest == ':' || *rest == '#')))) {
        rest++;
    }
    return *name && !*rest;
}

static bool check_name(conn *c, const char *name)
{
    server_dialect d = c->s->o.dialect;
    size_t limit = d == SERVER_PUSHER ? 164 : d == SERVER_REVERB ? SIZE_MAX : 200;
    if (strlen(name) > limit) {
        if (d == SERVER_SOKETI) {
            subscription_error(c, name, "LimitReached",
                               "The channel name is longer than the allowed 200 characters.",
                               4009);
        } else {
            send_error(c, d == SERVER_PUSHER ? -1 : 4009, "Channel name too long", name);
        }
        return false;
    }
    if (name_ok(c->s, name)) {
        return true;
    }
    if (d == SERVER_SOKETI) {
        subscription_error(c, name, NULL, "The channel name is not allowed. Read channel "
                           "conventions: https://pusher.com/docs/channels/using_channels/"
                           "channels/#channel-naming-conventions", 4009);
    } else {
        send_error(c, d == SERVER_PUSHER ? -1 : 4009, "Invalid channel name", name);
    }
    return false;
}

/* pusher.com: who has signed in needs no channel_data. */
static void user_as_member(const conn *c, sub *m)
{
    span data = json_whole(c->user_data, strlen(c->user_data));
    span info = json_get(data, "user_info");
    buf id = {0};
    json_quote(&id, c->user, strlen(c->user), false);
    m->id = id.at;
    m->info = info.at ? copy_bytes(info.at, info.len) : NULL;
}

/* Reads the member out of channel_data. false: the server has already said what is wrong. */
static bool read_member(conn *c, const request *r, sub *m)
{
    server *s = c->s;
    const char *text = r->channel_data ? r->channel_data : "";
    span data = json_whole(text, strlen(text)), id = json_get(data, "user_id");
    span info = json_get(data, "user_info");
    buf canon = {0};
    if (!r->channel_data && c->user && s->o.dialect == SERVER_PUSHER) {
        user_as_member(c, m);
        return true;
    }
    if (id.at && (*id.at == '"' || *id.at == '-' || (*id.at >= '0' && *id.at <= '9'))) {
        json_again(&canon, id, is_php(s));
        m->id = canon.at;
        if (info.at) {
            buf again = {0};
            json_again(&again, info, is_php(s));
            m->info = again.at;
        }
        return true;
    }
    if (is_php(s) && (data.at || !*text)) {
        return true; /* subscribed, but as nobody */
    }
    if (s->o.dialect == SERVER_SOKETI) {
        subscription_error(c, r->channel, "ServerError", "A server error has occured.", 4302);
    } else if (is_php(s)) {
        invalid_message(c);
    } else {
        send_error(c, s->o.dialect == SERVER_PUSHER ? -1 : 4009, "Invalid channel_data",
                   r->channel);
    }
    return false;
}

static void join(conn *c, const request *r)
{
    server *s = c->s;
    sub m = {c, NULL, NULL};
    if (is_presence(r->channel) && !read_member(c, r, &m)) {
        return;
    }
    channel *ch = channel_make(s, r->channel);
    if (ch->count == ch->cap) {
        ch->cap = ch->cap * 2 + 2;
        ch->subs = grow(ch->subs, ch->cap * sizeof *ch->subs);
    }
    bool known = m.id && has_twin(ch, &m);
    ch->subs[ch->count++] = m;
    c->subscribed_once = true;
    if (is_php(s) && m.id && !m.info) {
        invalid_message(c); /* Reverb trips over the missing info, but the member is in */
    } else {
        acknowledge(c, ch);
    }
    /* either of these may take c out again (close_after), so m is not used through the table */
    if (m.id && !known && find_sub(ch, c)) {
        member_event(s, ch, find_sub(ch, c), c, true);
    }
    after_acknowledge(c, ch);
    send_count(s, ch);
}

static void subscribe_again(conn *c, channel *ch)
{
    if (c->s->o.dialect == SERVER_PUSHER) {
        buf text = {0};
        buf_format(&text, "Existing subscription to channel %s", ch->name);
        send_error(c, -1, text.at, NULL);
        buf_free(&text);
    } else {
        acknowledge(c, ch);
        after_acknowledge(c, ch);
    }
}

static void watchlist_for(conn *c);

static bool may_have_user_channel(conn *c, const char *name)
{
    if (!starts(name, "#") || c->s->o.dialect != SERVER_PUSHER) {
        return true; /* the others do not look */
    }
    return c->user && strcmp(name + strlen("#server-to-user-"), c->user) == 0;
}

static void subscribe(conn *c, const request *r)
{
    channel *ch = *channel_slot(c->s, r->channel);
    if (!check_name(c, r->channel)) {
        return;
    }
    if (c->faults.refuse_subscriptions || !is_authorized(c, r)
        || !may_have_user_channel(c, r->channel)) {
        auth_error(c, r);
        return;
    }
    if (find_sub(ch, c)) {
        subscribe_again(c, ch);
        return;
    }
    join(c, r);
    if (starts(r->channel, "#server-to-user-")) {
        watchlist_for(c);
    }
}

/* ---- sign-in, users, watchlist ---- */

static bool user_online(const server *s, const char *user, const conn *except)
{
    for (size_t i = 0; i < s->conn_count; i++) {
        const conn *c = s->conns[i];
        if (c != except && c->user && strcmp(c->user, user) == 0) {
            return true;
        }
    }
    return false;
}

static bool watches(const conn *c, const char *user)
{
    const char *text = c->user_data ? c->user_data : "";
    span list = json_get(json_whole(text, strlen(text)), "watchlist"), key, value;
    bool found = false;
    if (!list.at || *list.at != '[') {
        return false;
    }
    const char *p = list.at + 1, *end = list.at + list.len;
    while (json_next(&p, end, false, &key, &value)) {
        char *id = json_text(value);
        found = found || (id && strcmp(id, user) == 0);
        free(id);
    }
    return found;
}

/* One change. pusher.com: on the user's channel; Sockudo: an event of its own, no channel. */
static void watchlist_event(conn *c, const char *name, const char *ids)
{
    buf data = {0}, chan = {0};
    if (c->s->o.dialect == SERVER_SOCKUDO) {
        buf_format(&data, "{\"user_ids\":[%s]}", ids);
        send_message(c, name, NULL, data.at);
    } else {
        buf_format(&chan, "#server-to-user-%s", c->user);
        buf_format(&data, "{\"events\":[{\"name\":\"%s\",\"user_ids\":[%s]}]}", name, ids);
        send_quoted(c, "pusher_internal:watchlist_events", chan.at, data.at);
    }
    buf_free(&data);
    buf_free(&chan);
}

static bool has_watchlist(const server *s)
{
    return s->o.dialect == SERVER_PUSHER || s->o.dialect == SERVER_SOCKUDO;
}

static void tell_watchers(server *s, const char *user, bool online)
{
    buf id = {0};
    json_quote(&id, user, strlen(user), false);
    for (size_t i = 0; has_watchlist(s) && i < s->conn_count; i++) {
        conn *c = s->conns[i];
        if (c->user && strcmp(c->user, user) != 0 && watches(c, user)) {
            watchlist_event(c, online ? "online" : "offline", id.at);
        }
    }
    buf_free(&id);
}

/* The state of everybody on the list, when the user's channel is there to carry it. */
static void watchlist_for(conn *c)
{
    const char *text = c->user_data ? c->user_data : "";
    span list = json_get(json_whole(text, strlen(text)), "watchlist"), key, value;
    buf ids[2] = {{0}, {0}};
    if (!c->user || !has_watchlist(c->s) || !list.at || *list.at != '[') {
        return;
    }
    const char *p = list.at + 1, *end = list.at + list.len;
    while (json_next(&p, end, false, &key, &value)) {
        char *id = json_text(value);
        buf *to = &ids[id && user_online(c->s, id, NULL)];
        if (id) {
            buf_text(to, to->len ? "," : "");
            buf_add(to, value.at, value.len);
        }
        free(id);
    }
    if (ids[1].len) {
        watchlist_event(c, "online", ids[1].at);
    }
    if (ids[0].len) {
        watchlist_event(c, "offline", ids[0].at);
    }
    buf_free(&ids[0]);
    buf_free(&ids[1]);
}

static void signed_in(conn *c, const char *auth, const char *user_data)
{
    buf data = {0};
    buf_text(&data, "{");
    if (c->s->o.dialect != SERVER_PUSHER) {
        buf_text(&data, "\"auth\":");
        json_quote(&data, auth, strlen(auth), false);
        buf_text(&data, ",");
    }
    buf_text(&data, "\"user_data\":");
    json_quote(&data, user_data, strlen(user_data), false);
    buf_text(&data, "}");
    if (c->s->o.dialect == SERVER_PUSHER) {
        send_quoted(c, "pusher:signin_success", NULL, data.at);
    } else {
        send_message(c, "pusher:signin_success", NULL, data.at);
    }
    buf_free(&data);
}

static void sign_in_as(conn *c, char *id, const char *auth, const char *user_data)
{
    bool news = !user_online(c->s, id, NULL);
    free(c->user);
    free(c->user_data);
    c->user = id;
    c->user_data = copy_text(user_data);
    signed_in(c, auth, user_data);
    if (news) {
        tell_watchers(c->s, id, true);
    }
    if (c->s->o.dialect == SERVER_SOCKUDO) {
        watchlist_for(c);
    }
}

static void sign_in(conn *c, span data)
{
    char *auth = json_get_text(data, "auth"), *user_data = json_get_text(data, "user_data");
    buf text = {0};
    c->s->n.signins++;
    buf_format(&text, "%s::user::%s", c->id, user_data ? user_data : "");
    if (is_php(c->s)) {
        invalid_message(c); /* Reverb does not know the event */
    } else if (!user_data || !check_auth(c->s, auth, text.at, text.len)) {
        refuse(c, 4009, "Connection not authorized.");
    } else {
        char *id = json_get_text(json_whole(user_data, strlen(user_data)), "id");
        if (id && *id) {
            sign_in_as(c, id, auth, user_data);
        } else {
            free(id);
            refuse(c, 4009, "The returned user data must contain the \"id\" field.");
        }
    }
    buf_free(&text);
    free(auth);
    free(user_data);
}

/* ---- client events ---- */

static void client_event_error(conn *c, const char *chan, const char *text)
{
    send_error(c, 4301, text, chan);
}

static bool within_rate(conn *c)
{
    uint32_t limit = c->s->o.client_events_per_second;
    uint64_t now = clock_ms();
    if (limit == 0) {
        limit = c->s->o.dialect == SERVER_PUSHER ? 10 : UINT32_MAX;
    }
    if (now - c->rate_start_ms >= 1000) {
        c->rate_start_ms = now;
        c->rate_count = 0;
    }
    return c->rate_count++ < limit;
}

/* The part of the rules that depends on the channel. true: pass it on. */
static bool client_channel_ok(conn *c, const char *chan)
{
    server_dialect d = c->s->o.dialect;
    bool open = d == SERVER_SOKETI || d == SERVER_REVERB; /* public channels too, as recorded */
    if (!open && !starts(chan, "private-") && !is_presence(chan)) {
        client_event_error(c, chan,
                           "Client event rejected - only supported on private and presence "
                           "channels");
        return false;
    }
    if (!open && starts(chan, "private-encrypted-")) {
        client_event_error(c, chan, "Client event rejected - not supported on encrypted channels");
        return false;
    }
    if (find_sub(*channel_slot(c->s, chan), c)) {
        return true;
    }
    if (d == SERVER_REVERB) {
        send_error(c, 4009, "The client is not a member of the specified channel.", NULL);
    }
    return false; /* silently with the others */
}

static bool client_sizes_ok(conn *c, const char *chan, const char *event, span data)
{
    server_dialect d = c->s->o.dialect;
    size_t limit = d == SERVER_SOKETI ? 100 * 1024 : d == SERVER_PUSHER ? 10 * 1024 : SIZE_MAX;
    if (strlen(event) > 200 && d != SERVER_REVERB) {
        client_event_error(c, chan, "Event name is too long. Maximum allowed size is 200.");
        return false;
    }
    if (data.len > limit) {
        client_event_error(c, chan, d == SERVER_SOKETI
                           ? "The event data should be less than 100 KB."
                           : "The data content of this event exceeds the allowed maximum "
                             "(10240 bytes)");
        return false;
    }
    return true;
}

/* As Reverb has it: decoded, strings that hold JSON too, and scalars refused. */
static bool reverb_client_data(buf *out, span data)
{
    char *text = json_text(data);
    if (text) {
        span inner = json_whole(text, strlen(text));
        bool good = inner.at != NULL;
        if (good) {
            json_again(out, inner, true);
        }
        free(text);
        return good;
    }
    if (data.at && *data.at != '{' && *data.at != '[' && *data.at != 'n') {
        return false;
    }
    if (data.at) {
        json_again(out, data, true);
    }
    return true;
}

static void relay_client_event(conn *c, const char *chan, const char *event, span data)
{
    channel *ch = *channel_slot(c->s, chan);
    buf raw = {0}, out = {0};
    if (!is_php(c->s) && data.at) {
        buf_add(&raw, data.at, data.len);
    } else if (is_php(c->s) && !reverb_client_data(&raw, data)) {
        buf_free(&raw);
        invalid_message(c);
        return;
    }
    make_message(&out, c->s, event, chan, raw.at, find_sub(ch, c)->id);
    to_channel(ch, c, out.at, out.len);
    buf_free(&raw);
    buf_free(&out);
}

static void client_event(conn *c, const char *event, span message)
{
    char *chan = json_get_text(message, "channel");
    span data = json_get(message, "data");
    c->s->n.client_events++;
    if (!chan) {
        violation(c, "client event without a channel");
        invalid_message(c);
    } else if (c->s->o.no_client_events) {
        client_event_error(c, chan, "The app does not have client messaging enabled.");
    } else if (client_sizes_ok(c, chan, event, data) && client_channel_ok(c, chan)) {
        if (within_rate(c)) {
            relay_client_event(c, chan, event, data);
        } else {
            client_event_error(c, chan, is_php(c->s) ? "Rate limit exceeded" :
                               "The rate limit for sending client events exceeded the quota.");
        }
    }
    free(chan);
}

/* ---- what clients ask ---- */

static void stop_all(server *s)
{
    for (size_t i = 0; i < s->conn_count; i++) {
        conn *c = s->conns[i];
        if (c->at == PHASE_OPEN && c->s->o.dialect != SERVER_REVERB) {
            refuse(c, 4200, "Server closed. Please reconnect shortly.");
        } else {
            end_connection(c);
        }
    }
}

static void invalid_message(conn *c)
{
    switch (c->s->o.dialect) {
    case SERVER_REVERB: send_error(c, 4200, "Invalid message format", NULL); break;
    case SERVER_SOCKUDO: send_error(c, 4000, "Invalid message format", NULL); break;
    case SERVER_PUSHER: send_error(c, -1, "Invalid message format", NULL); break;
    case SERVER_SOKETI: break; /* silence */
    }
}

/* subscribe or unsubscribe that does not say what it should: soketi's process dies of it. */
static void fatal_message(conn *c, const char *what)
{
    violation(c, what);
    if (c->s->o.dialect == SERVER_SOKETI) {
        stop_all(c->s);
    } else {
        invalid_message(c);
    }
}

static void do_subscribe(conn *c, span data)
{
    request r = {json_get_text(data, "channel"), json_get_text(data, "auth"),
                 json_get_text(data, "channel_data")};
    c->s->n.subscribes++;
    if (r.channel) {
        subscribe(c, &r);
    } else {
        fatal_message(c, "pusher:subscribe without a channel name");
    }
    free(r.channel);
    free(r.auth);
    free(r.channel_data);
}

static void do_unsubscribe(conn *c, span data)
{
    char *name = json_get_text(data, "channel");
    channel *ch = name ? *channel_slot(c->s, name) : NULL;
    c->s->n.unsubscribes++;
    if (!name) {
        fatal_message(c, "pusher:unsubscribe without a channel name");
    } else if (ch) {
        leave(ch, c);
    }
    free(name);
}

static void do_ping(conn *c)
{
    c->s->n.pusher_pings_in++;
    if (c->faults.never_pong) {
        return;
    }
    bool bare = c->s->o.dialect == SERVER_REVERB || c->s->o.dialect == SERVER_SOCKUDO;
    send_message(c, "pusher:pong", NULL, bare ? NULL : "{}");
}

/* data of a protocol message; a JSON string with an object inside passes where servers let it */
static void with_data(conn *c, span message, void (*act)(conn *, span))
{
    span data = json_get(message, "data");
    char *text = json_text(data);
    if (text) {
        violation(c, "data of a protocol message is a string");
    }
    if (text && c->s->o.dialect != SERVER_SOKETI) {
        data = json_whole(text, strlen(text));
    }
    act(c, data);
    free(text);
}

static void dispatch(conn *c, const char *event, span message)
{
    if (strcmp(event, "pusher:subscribe") == 0) {
        with_data(c, message, do_subscribe);
    } else if (strcmp(event, "pusher:unsubscribe") == 0) {
        with_data(c, message, do_unsubscribe);
    } else if (strcmp(event, "pusher:signin") == 0) {
        with_data(c, message, sign_in);
    } else if (strcmp(event, "pusher:ping") == 0) {
        do_ping(c);
    } else if (strcmp(event, "pusher:pong") == 0) {
        c->s->n.pusher_pongs_in++;
    } else if (starts(event, "client-")) {
        client_event(c, event, message);
    } else {
        violation(c, "unknown event");
        invalid_message(c);
    }
}

static void text_in(conn *c, const char *text, size_t len)
{
    span message = json_whole(text, len);
    char *event = json_get_text(message, "event");
    if (!message.at) {
        violation(c, "not JSON");
    } else if (!event) {
        violation(c, "no event name");
    }
    if (c->refused || !can_send(c)) {
        ; /* it was told to go away */
    } else if (is_php(c->s) && len > 10000) {
        close_with(c, 1009, "Maximum message size exceeded");
    } else if (!event) {
        invalid_message(c);
    } else {
        dispatch(c, event, message);
    }
    free(event);
}

/* ---- floods ---- */

static void start_flood(conn *c, const char *chan, const char *event, const char *data,
                        uint32_t count)
{
    free(c->flood_channel);
    free(c->flood_event);
    buf_free(&c->flood_frame);
    c->flood_channel = copy_text(chan);
    c->flood_event = copy_text(event);
    c->flood_left = count;
    c->flood_n = 0;
    if (data) {
        buf quoted = {0};
        json_quote(&quoted, data, strlen(data), is_php(c->s));
        make_message(&c->flood_frame, c->s, event, chan, quoted.at, NULL);
        buf_free(&quoted);
    }
}

static void flood_one(conn *c)
{
    c->flood_left--;
    c->flood_n++;
    if (c->flood_frame.len) {
        send_text(c, c->flood_frame.at, c->flood_frame.len);
    } else {
        char data[32];
        snprintf(data, sizeof data, "{\"n\":%u}", c->flood_n);
        send_quoted(c, c->flood_event, c->flood_channel, data);
    }
}

static bool has_more(const conn *c)
{
    return (c->at == PHASE_OPEN && c->flood_left) || (c->at == PHASE_WAIT && c->endless);
}

/* Keeps the socket supplied and no more: what is taken later is made later. */
static void refill(conn *c)
{
    static const char line[] = "X-Filler: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
    while (c->at == PHASE_OPEN && c->flood_left && c->out.len - c->out_at < LOW_WATER) {
        flood_one(c);
    }
    while (c->at == PHASE_WAIT && c->endless && c->out.len - c->out_at < LOW_WATER) {
        buf_text(&c->out, line);
    }
}

/* ---- frames in ---- */

static ssize_t rx_recv(uint8_t *to, size_t len, int flags, void *user_data)
{
    conn *c = user_data;
    size_t left = c->in.len - c->in_at;
    (void)flags;
    if (left == 0) {
        return -1; /* wslay: want read */
    }
    len = len < left ? len : left;
    memcpy(to, c->in.at + c->in_at, len);
    c->in_at += len;
    return (ssize_t)len;
}

static void fail(conn *c, int code, const char *what)
{
    violation(c, what);
    c->deaf = true;
    close_with(c, code, what);
}

static bool close_code_ok(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1011)
        || (code >= 3000 && code <= 4999);
}

static void close_in(conn *c)
{
    const unsigned char *p = (const unsigned char *)c->control.at;
    size_t len = c->control.len;
    int code = len >= 2 ? p[0] << 8 | p[1] : 1005;
    const char *reason = len > 2 ? c->control.at + 2 : "";
    c->close_received = true;
    log_add(c, SERVER_LOG_CLOSE, code, reason, len > 2 ? len - 2 : 0);
    if (len == 1 || (len >= 2 && !close_code_ok(code))
        || !utf8_valid(reason, len > 2 ? len - 2 : 0)) {
        fail(c, 1002, "bad close frame");
    } else if (!c->faults.ignore_close) {
        close_with(c, len ? code : SERVER_CLOSE_EMPTY, NULL);
    }
}

static void control_in(conn *c, uint8_t opcode)
{
    if (c->close_received) {
        return;
    }
    c->used_control = true;
    if (opcode == WSLAY_PING) {
        log_add(c, SERVER_LOG_PING, 0, c->control.at, c->control.len);
        if (can_send(c) && !c->faults.never_pong) {
            frame_out(c, WSLAY_PONG, true, c->control.at, c->control.len);
        }
    } else if (opcode == WSLAY_PONG) {
        log_add(c, SERVER_LOG_PONG, 0, c->control.at, c->control.len);
    } else {
        close_in(c);
    }
}

static void message_in(conn *c)
{
    bool text = c->message_opcode == WSLAY_TEXT_FRAME;
    if (c->close_received) {
        violation(c, "message after a close frame");
        return;
    }
    log_add(c, text ? SERVER_LOG_TEXT : SERVER_LOG_BINARY, 0, c->message.at, c->message.len);
    if (!utf8_valid(c->message.at, c->message.len)) {
        fail(c, 1007, "text is not UTF-8");
        return;
    }
    if (!text) {
        violation(c, "binary message"); /* soketi and Reverb read it all the same */
    }
    text_in(c, c->message.at, c->message.len);
}

/* What is wrong with a frame's header, which wslay's frame layer leaves to its user. */
static const char *header_fault(const conn *c, const struct wslay_frame_iocb *f)
{
    bool control = wslay_is_ctrl_frame(f->opcode);
    if (!f->mask) {
        return "frame is not masked";
    }
    if (f->rsv) {
        return "reserved bit set";
    }
    if (f->opcode > WSLAY_PONG || (f->opcode > WSLAY_BINARY_FRAME && !control)) {
        return "unknown opcode";
    }
    if (!control && (f->opcode == WSLAY_CONTINUATION_FRAME) != (c->message_opcode != 0)) {
        return c->message_opcode ? "new message inside another" : "continuation of nothing";
    }
    return c->message.len + f->payload_length > MESSAGE_LIMIT ? "message too big" : NULL;
}

static void frame_part(conn *c, const struct wslay_frame_iocb *f)
{
    bool control = wslay_is_ctrl_frame(f->opcode);
    buf *to = control ? &c->control : &c->message;
    const char *wrong = c->frame_got == 0 ? header_fault(c, f) : NULL;
    if (wrong) {
        fail(c, 1002, wrong);
        return;
    }
    if (!control && f->opcode != WSLAY_CONTINUATION_FRAME) {
        c->message_opcode = f->opcode;
    }
    buf_add(to, f->data, f->data_length);
    c->frame_got += f->data_length;
    if (c->frame_got < f->payload_length) {
        return;
    }
    c->frame_got = 0;
    if (control) {
        control_in(c, f->opcode);
        c->control.len = 0;
    } else if (f->fin) {
        message_in(c);
        c->message.len = 0;
        c->message_opcode = 0;
    }
}

static void frames_in(conn *c)
{
    while (!c->deaf && c->at != PHASE_DEAD) {
        struct wslay_frame_iocb f;
        memset(&f, 0, sizeof f);
        ssize_t n = wslay_frame_recv(c->rx, &f);
        if (n == WSLAY_ERR_WANT_READ) {
            break;
        }
        if (n < 0) {
            fail(c, 1002, "bad frame length or fragmented control frame");
        } else {
            frame_part(c, &f);
        }
    }
    c->in.len = c->in_at = 0;
}

/* ---- connection_established ---- */

static size_t quota_used(const server *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->conn_count; i++) {
        const conn *c = s->conns[i];
        n += c->at == PHASE_OPEN && (is_php(s) ? c->subscribed_once : c->counted);
    }
    return n;
}

static void over_quota(conn *c)
{
    switch (c->s->o.dialect) {
    case SERVER_REVERB: /* says so and leaves the socket open */
        send_error(c, 4004, "Application is over connection quota", NULL);
        c->refused = true;
        break;
    case SERVER_SOKETI:
        refuse(c, 4100, "The current concurrent connections quota has been reached.");
        break;
    case SERVER_PUSHER:
    case SERVER_SOCKUDO:
        refuse(c, 4004, "Application is over connection quota");
        break;
    }
}

static void unknown_app(conn *c)
{
    buf text = {0};
    switch (c->s->o.dialect) {
    case SERVER_PUSHER:
        buf_format(&text, "App key %s not in this cluster. Did you forget to specify the "
                   "cluster?", c->app_key);
        break;
    case SERVER_SOKETI:
        buf_format(&text, "App key %s does not exist.", c->app_key);
        break;
    case SERVER_REVERB:
    case SERVER_SOCKUDO:
        buf_text(&text, "Application does not exist");
        break;
    }
    refuse(c, 4001, text.at);
    buf_free(&text);
}

static const char *query_value(const char *query, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = query; p && *p; p = strchr(p, '&'), p = p ? p + 1 : NULL) {
        if (strncmp(p, name, n) == 0 && p[n] == '=') {
            return p + n + 1;
        }
    }
    return NULL;
}

/* Only pusher.com minds these (of the four). false: refused. */
static bool query_ok(conn *c)
{
    const char *protocol = query_value(c->query, "protocol");
    const char *version = query_value(c->query, "version");
    if (c->s->o.dialect != SERVER_PUSHER) {
        return true;
    }
    if (!protocol || !*protocol || *protocol == '&') {
        refuse(c, 4008, "No protocol version supplied");
    } else if (*protocol < '5' || *protocol > '7' || (protocol[1] && protocol[1] != '&')) {
        refuse(c, 4007, "Unsupported protocol version");
    } else if (version && (*version < '0' || *version > '9')) {
        refuse(c, 4006, "Invalid version string format");
    } else {
        return true;
    }
    return false;
}

static bool origin_ok(conn *c)
{
    const char *want = c->s->origin, *got = c->client_origin;
    if (!want || (got && strcmp(got, want) == 0)) {
        return true;
    }
    if (is_php(c->s)) { /* socket stays open */
        send_error(c, 4009, "Origin not allowed", NULL);
        c->refused = true;
    } else {
        refuse(c, 4009, "Origin not allowed");
    }
    return false;
}

static uint32_t activity_timeout(const server *s)
{
    bool thirty = s->o.dialect == SERVER_SOKETI || s->o.dialect == SERVER_REVERB;
    return s->o.activity_timeout ? s->o.activity_timeout : thirty ? 30 : 120;
}

static void send_established(conn *c)
{
    server *s = c->s;
    buf data = {0};
    buf_format(&data, "{\"socket_id\":\"%s\"", c->id);
    if (!c->faults.no_activity_timeout) {
        buf_format(&data, ",\"activity_timeout\":%u",
                   c->faults.zero_activity_timeout ? 0 : activity_timeout(s));
    }
    buf_text(&data, "}");
    c->counted = true;
    if (c->faults.established_object) {
        send_message(c, "pusher:connection_established", NULL, data.at);
    } else {
        send_quoted(c, "pusher:connection_established", NULL, data.at);
    }
    buf_free(&data);
    if (can_send(c)) {
        bad_frame_out(c, c->faults.bad_frame);
    }
}

static void establish(conn *c)
{
    server *s = c->s;
    if (c->faults.never_establish) {
        return;
    }
    if (c->faults.establish_error && c->faults.error_stays_open) {
        send_error(c, c->faults.establish_error, "As the test asked", NULL);
        c->refused = true;
    } else if (c->faults.establish_error) {
        refuse(c, c->faults.establish_error, "As the test asked");
    } else if (strcmp(c->app_key, s->key) != 0) {
        unknown_app(c);
    } else if (!query_ok(c) || !origin_ok(c)) {
        ; /* it has been told */
    } else if (s->o.max_connections && quota_used(s) >= s->o.max_connections) {
        over_quota(c);
    } else {
        send_established(c);
    }
}

/* ---- the upgrade ---- */

/* Value of a header field without the spaces around it, to be freed; NULL: not there. */
static char *header(const char *head, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = strstr(head, "\r\n"); p && p[2]; p = strstr(p + 2, "\r\n")) {
        if (strncasecmp(p + 2, name, n) == 0 && p[2 + n] == ':') {
            const char *at = p + 3 + n, *end = strstr(at, "\r\n");
            while (*at == ' ' || *at == '\t') {
                at++;
            }
            end = end ? end : at + strlen(at);
            while (end > at && (end[-1] == ' ' || end[-1] == '\t')) {
                end--;
            }
            return copy_bytes(at, (size_t)(end - at));
        }
    }
    return NULL;
}

static bool header_has(const char *head, const char *name, const char *word)
{
    char *value = header(head, name);
    bool found = false;
    size_t n = strlen(word);
    for (const char *p = value; p && *p && !found; p++) {
        found = strncasecmp(p, word, n) == 0;
    }
    free(value);
    return found;
}

static void http_reply(conn *c, int status, const char *reason, const char *body)
{
    buf_format(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n\r\n", status, reason, strlen(body));
    buf_text(&c->out, body);
    end_connection(c);
}

static char *http_answer(const conn *c, const char *key, const char *protocol)
{
    const server_faults *f = &c->faults;
    bool low = f->lower_case_headers;
    char sum[32];
    buf out = {0};
    accept_key(key, sum);
    if (f->wrong_accept) {
        sum[0] = sum[0] == 'A' ? 'B' : 'A';
    }
    buf_format(&out, "HTTP/1.1 101 Switching Protocols\r\n%s: websocket\r\n%s: %s\r\n",
               low ? "upgrade" : "Upgrade", low ? "connection" : "Connection",
               low ? "upgrade" : "Upgrade");
    if (!f->no_accept) {
        buf_format(&out, "%s: %s\r\n", low ? "sec-websocket-accept" : "Sec-WebSocket-Accept",
                   sum);
    }
    if (protocol && c->s->o.dialect == SERVER_SOKETI) {
        buf_format(&out, "Sec-WebSocket-Protocol: %s\r\n", protocol);
    }
    if (f->header_bytes) {
        buf_text(&out, "X-Filler: ");
        for (size_t i = 0; i < f->header_bytes; i++) {
            buf_text(&out, "x");
        }
        buf_text(&out, "\r\n");
    }
    buf_text(&out, "\r\n");
    return out.at;
}

static void check_upgrade(conn *c, const char *head, const char *key)
{
    static const char *const need[] = {"Host", "Connection", "Upgrade", "Sec-WebSocket-Version"};
    unsigned char raw[18];
    size_t n = 0;
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) {
        char *value = header(head, need[i]);
        if (!value) {
            violation(c, need[i]);
        }
        free(value);
    }
    if (!header_has(head, "Connection", "upgrade")) {
        violation(c, "Connection does not say Upgrade");
    }
    if (!header_has(head, "Sec-WebSocket-Version", "13")) {
        violation(c, "Sec-WebSocket-Version is not 13");
    }
    if (mbedtls_base64_decode(raw, sizeof raw, &n, (const unsigned char *)key, strlen(key)) != 0
        || n != 16) {
        violation(c, "Sec-WebSocket-Key is not 16 bytes in base64");
    }
}

static void send_answer(conn *c)
{
    static const struct wslay_frame_callbacks calls = {tx_send, rx_recv, NULL};
    if (wslay_frame_context_init(&c->rx, &calls, c) != 0
        || wslay_frame_context_init(&c->tx, &calls, c) != 0) {
        abort();
    }
    buf_text(&c->out, c->answer);
    c->at = PHASE_OPEN;
    c->upgraded = true;
    c->idle_ms = clock_ms();
    c->s->n.upgraded++;
    if (c->faults.established_delay_ms) {
        c->establish_ms = clock_ms() + c->faults.established_delay_ms;
    } else {
        establish(c); /* leaves in the same write as the 101 */
    }
}

static void begin_answer(conn *c)
{
    c->at = PHASE_WAIT;
    if (c->faults.never_answer) {
        return;
    }
    if (c->faults.endless_header) {
        buf_text(&c->out, "HTTP/1.1 101 Switching Protocols\r\n");
        c->endless = true;
    } else if (c->faults.answer_delay_ms) {
        c->answer_ms = clock_ms() + c->faults.answer_delay_ms;
    } else {
        send_answer(c);
    }
}

/* PATH/app/KEY?QUERY; false when the request is for something else */
static bool read_target(conn *c, const char *target)
{
    buf prefix = {0};
    buf_format(&prefix, "%s/app/", c->s->path ? c->s->path : "");
    bool good = starts(target, prefix.at);
    const char *key = good ? target + prefix.len : "";
    size_t n = strcspn(key, "?");
    good = good && n > 0 && !memchr(key, '/', n);
    if (good) {
        c->app_key = copy_bytes(key, n);
        c->query = copy_text(key[n] ? key + n + 1 : "");
    }
    buf_free(&prefix);
    return good;
}

static void upgrade(conn *c, const char *head, const char *target)
{
    char *key = header(head, "Sec-WebSocket-Key");
    log_add(c, SERVER_LOG_REQUEST, 0, head, strlen(head));
    if (c->faults.http_status) {
        http_reply(c, c->faults.http_status, c->faults.http_reason, "");
    } else if (!read_target(c, target)) {
        http_reply(c, 404, "Not Found", "");
    } else if (!key) {
        violation(c, "no Sec-WebSocket-Key");
        http_reply(c, 400, "Bad Request", "");
    } else {
        char *protocol = header(head, "Sec-WebSocket-Protocol");
        check_upgrade(c, head, key);
        c->client_origin = header(head, "Origin");
        c->answer = http_answer(c, key, protocol);
        begin_answer(c);
        free(protocol);
    }
    free(key);
}

/* ---- the HTTP interface ---- */

static void publish_value(server *s, const char *chan, const char *event, span data,
                          const conn *except)
{
    buf text = {0};
    if (json_is_string(data)) {
        json_unquote(&text, data);
    } else if (data.at) { /* not allowed by pusher.com, handy with curl */
        buf_add(&text, data.at, data.len);
    }
    publish(s, chan, event, text.at ? text.at : "", text.len, except);
    buf_free(&text);
}

static conn *by_socket_id(const server *s, const char *id)
{
    for (size_t i = 0; id && i < s->conn_count; i++) {
        if (strcmp(s->conns[i]->id, id) == 0) {
            return s->conns[i];
        }
    }
    return NULL;
}

/* One event of the API; false when fields are missing. */
static bool post_event(server *s, span body)
{
    char *name = json_get_text(body, "name"), *chan = json_get_text(body, "channel");
    char *socket_id = json_get_text(body, "socket_id");
    span channels = json_get(body, "channels"), data = json_get(body, "data"), key, value;
    const conn *except = by_socket_id(s, socket_id);
    bool list = channels.at && *channels.at == '[', good = name && (chan || list);
    if (good && chan) {
        publish_value(s, chan, name, data, except);
    } else if (good) {
        const char *p = channels.at + 1, *end = channels.at + channels.len;
        while (json_next(&p, end, false, &key, &value)) {
            char *one = json_text(value);
            if (one) {
                publish_value(s, one, name, data, except);
            }
            free(one);
        }
    }
    free(name);
    free(chan);
    free(socket_id);
    return good;
}

static bool post_batch(server *s, span batch)
{
    span key, value;
    bool good = batch.at && *batch.at == '[';
    const char *p = good ? batch.at + 1 : NULL, *end = good ? batch.at + batch.len : NULL;
    while (good && json_next(&p, end, false, &key, &value)) {
        good = post_event(s, value);
    }
    return good;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The REST signature: method, path and the sorted query without auth_signature. */
static bool rest_signature_ok(const server *s, const char *path, char *query, const char *body,
                              size_t len)
{
    char *parts[32], hex[65], md5[9 + 33] = "body_md5=", *sent = NULL, *rest = NULL;
    size_t n = 0;
    bool body_ok = false;
    buf text = {0};
    md5_hex(body, len, md5 + 9);
    for (char *p = strtok_r(query, "&", &rest); p; p = strtok_r(NULL, "&", &rest)) {
        if (starts(p, "auth_signature=")) {
            sent = p + strlen("auth_signature=");
        } else if (n < sizeof parts / sizeof *parts) {
            body_ok = body_ok || strcmp(p, md5) == 0;
            parts[n++] = p;
        }
    }
    qsort(parts, n, sizeof *parts, compare_texts);
    buf_format(&text, "POST\n%s\n", path);
    for (size_t i = 0; i < n; i++) {
        buf_format(&text, i ? "&%s" : "%s", parts[i]);
    }
    hmac_hex(s->secret, text.at, text.len, hex);
    buf_free(&text);
    return sent && body_ok && strcmp(sent, hex) == 0;
}

static void post_apps(conn *c, const char *path, char *query, const char *body, size_t len)
{
    span json = json_whole(body, len);
    const char *what = strrchr(path, '/');
    if (c->s->o.check_http && !rest_signature_ok(c->s, path, query, body, len)) {
        http_reply(c, 401, "Unauthorized", "{\"error\":\"Invalid signature\"}");
    } else if (strcmp(what, "/events") == 0 && post_event(c->s, json)) {
        http_reply(c, 200, "OK", "{}");
    } else if (strcmp(what, "/batch_events") == 0
               && post_batch(c->s, json_get(json, "batch"))) {
        http_reply(c, 200, "OK", "{}");
    } else if (strcmp(what, "/events") != 0 && strcmp(what, "/batch_events") != 0) {
        http_reply(c, 404, "Not Found", "{}");
    } else {
        http_reply(c, 400, "Bad Request", "{\"error\":\"name, channel or channels, data\"}");
    }
}

/* One field of a form-encoded body, decoded, to be freed; NULL: not there. */
static char *form_value(const char *body, const char *name)
{
    const char *p = query_value(body, name);
    buf out = {0};
    if (!p) {
        return NULL;
    }
    buf_add(&out, "", 0);
    for (; *p && *p != '&'; p++) {
        char two[3] = {0};
        char byte = *p == '+' ? ' ' : *p;
        if (*p == '%' && is_hex(p[1]) && is_hex(p[2])) {
            two[0] = p[1];
            two[1] = p[2];
            byte = (char)strtoul(two, NULL, 16);
            p += 2;
        }
        buf_add(&out, &byte, 1);
    }
    return out.at;
}

/* HTTP allows more than one request on a connection; the client or a fault can forbid it. */
static bool keeps_alive(const conn *c, const char *head)
{
    return !c->faults.auth_close && !header_has(head, "Connection", "close");
}

static void add_chunks(buf *out, const char *body, size_t len)
{
    for (size_t at = 0; at < len; at += 7) {
        size_t n = len - at < 7 ? len - at : 7;
        buf_format(out, "%zx\r\n%.*s\r\n", n, (int)n, body + at);
    }
    buf_text(out, "0\r\n\r\n");
}

static char *auth_answer(const conn *c, const char *body, bool alive)
{
    const server_faults *f = &c->faults;
    int status = f->auth_status ? f->auth_status : 200;
    buf out = {0};
    body = *f->auth_body ? f->auth_body : f->auth_status ? "Forbidden" : body;
    buf_format(&out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: %s\r\n",
               status, status == 200 ? "OK" : "As asked", alive ? "keep-alive" : "close");
    if (*f->auth_location) {
        buf_format(&out, "Location: %s\r\n", f->auth_location);
    }
    if (f->auth_chunked) {
        buf_text(&out, "Transfer-Encoding: chunked\r\n\r\n");
        add_chunks(&out, body, strlen(body));
    } else {
        buf_format(&out, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    }
    return out.at;
}

static void send_late(conn *c)
{
    c->late_ms = 0;
    c->at = PHASE_HEAD;
    buf_text(&c->out, c->late);
    free(c->late);
    c->late = NULL;
    if (c->close_after_late) {
        end_connection(c);
    }
}

/* Now, later or never, as the faults say. Until then no further request is read. */
static void auth_reply(conn *c, const char *head, const char *body)
{
    bool alive = keeps_alive(c, head);
    c->at = PHASE_WAIT;
    if (c->faults.never_auth) {
        return;
    }
    c->late = auth_answer(c, body, alive);
    c->close_after_late = !alive;
    if (c->faults.auth_delay_ms) {
        c->late_ms = clock_ms() + c->faults.auth_delay_ms;
    } else {
        send_late(c);
    }
}

/* ":" and the data to the text that is signed, and the data as a member of the answer */
static void add_signed(buf *text, buf *extra, const char *name, const char *data)
{
    buf_format(text, ":%s", data);
    buf_format(extra, ",\"%s\":", name);
    json_quote(extra, data, strlen(data), false);
}

static void add_user(buf *text, buf *extra, const char *body, const char *name, const char *id)
{
    bool presence = strcmp(name, "channel_data") == 0;
    char *whole = form_value(body, name), *user = form_value(body, "user_id");
    buf data = {0};
    if (whole) {
        buf_text(&data, whole);
    } else {
        buf_text(&data, presence ? "{\"user_id\":" : "{\"id\":");
        json_quote(&data, user ? user : id, strlen(user ? user : id), false);
        buf_text(&data, presence ? ",\"user_info\":{}}" : "}");
    }
    add_signed(text, extra, name, data.at);
    buf_free(&data);
    free(whole);
    free(user);
}

static void add_shared_secret(buf *extra, const conn *c, const char *chan)
{
    unsigned char key[256] = {0};
    size_t n = c->faults.auth_secret_bytes ? c->faults.auth_secret_bytes : 32;
    if (c->faults.auth_no_secret) {
        return;
    }
    channel_key(key, chan, c->s->master);
    buf_text(extra, ",\"shared_secret\":\"");
    add_base64(extra, key, n < sizeof key ? n : sizeof key);
    buf_text(extra, "\"");
}

/* What an application's own server answers to its clients. */
static void post_auth(conn *c, const char *head, const char *body, bool user_auth)
{
    char *id = form_value(body, "socket_id"), *chan = form_value(body, "channel_name");
    char hex[65];
    buf text = {0}, extra = {0}, reply = {0};
    log_add(c, SERVER_LOG_FORM, 0, body, strlen(body));
    buf_add(&extra, "", 0);
    if (!id || (!user_auth && !chan)) {
        violation(c, "request for authorization without socket_id or channel_name");
        http_reply(c, 400, "Bad Request", "{}");
    } else {
        buf_format(&text, "%s:%s", id, user_auth ? ":user:" : chan);
        if (user_auth || (is_presence(chan) && !c->faults.auth_no_data)) {
            add_user(&text, &extra, body, user_auth ? "user_data" : "channel_data", id);
        } else if (starts(chan, "private-encrypted-")) {
            add_shared_secret(&extra, c, chan);
        }
        hmac_hex(c->s->secret, text.at, text.len, hex);
        buf_format(&reply, "{\"auth\":\"%s:%s\"%s}", c->s->key, hex, extra.at);
        auth_reply(c, head, reply.at);
    }
    buf_free(&text);
    buf_free(&extra);
    buf_free(&reply);
    free(id);
    free(chan);
}

static void post(conn *c, const char *head, char *target, const char *body, size_t len)
{
    char *query = strchr(target, '?');
    char *copy = copy_bytes(body, len);
    c->http = true;
    log_add(c, SERVER_LOG_HTTP, 0, head, strlen(head));
    if (query) {
        *query++ = '\0';
    } else {
        query = target + strlen(target);
    }
    if (starts(target, "/apps/")) {
        post_apps(c, target, query, body, len);
    } else if (strcmp(target, "/pusher/auth") == 0) {
        post_auth(c, head, copy, false);
    } else if (strcmp(target, "/pusher/user-auth") == 0) {
        post_auth(c, head, copy, true);
    } else {
        http_reply(c, 404, "Not Found", "");
    }
    free(copy);
}

/* head ends with one CR LF. Called again with more of the body when that is not complete. */
static void answer_request(conn *c, const char *head, size_t head_len)
{
    char method[16] = "", target[4096] = "", version[16] = "";
    char *length = header(head, "Content-Length");
    unsigned long want = length ? strtoul(length, NULL, 10) : 0;
    size_t have = c->in.len - head_len;
    free(length);
    if (sscanf(head, "%15s %4095s %15[^\r]", method, target, version) != 3
        || strcmp(version, "HTTP/1.1") != 0) {
        violation(c, "no HTTP/1.1 request line");
        http_reply(c, 400, "Bad Request", "");
    } else if (strcmp(method, "GET") == 0 && header_has(head, "Upgrade", "websocket")) {
        c->in_at = head_len; /* frames may follow at once, though no client should send any */
        upgrade(c, head, target);
    } else if (strcmp(method, "POST") != 0) {
        log_add(c, SERVER_LOG_HTTP, 0, head, strlen(head));
        http_reply(c, 404, "Not Found", "");
    } else if (want > HTTP_BODY_LIMIT) {
        http_reply(c, 413, "Payload Too Large", "");
    } else if (have >= want) {
        post(c, head, target, c->in.at + head_len, want);
        if (c->at < PHASE_FLUSH) { /* what follows is another request */
            c->in.len -= head_len + want;
            memmove(c->in.at, c->in.at + head_len + want, c->in.len + 1);
        }
    }
}

static void head_in(conn *c)
{
    const char *end = strstr(c->in.at, "\r\n\r\n");
    if (!end) {
        if (c->in.len > HEAD_LIMIT) {
            http_reply(c, 431, "Request Header Fields Too Large", "");
        }
        return;
    }
    size_t len = (size_t)(end - c->in.at);
    char *head = copy_bytes(c->in.at, len + 2);
    answer_request(c, head, len + 4);
    free(head);
}

/* Requests that came together, one after the other. */
static void heads_in(conn *c)
{
    size_t before;
    do {
        before = c->in.len;
        head_in(c);
    } while (c->at == PHASE_HEAD && c->in.len < before && c->in.len > 0);
}

/* ---- the loop ---- */

static void gone(conn *c, bool reset)
{
    log_add(c, reset ? SERVER_LOG_RESET : SERVER_LOG_FIN, 0, "", 0);
    c->eof = true;
    if (reset) {
        leave_all(c);
        c->at = PHASE_DEAD;
    } else {
        end_connection(c);
    }
}

static void bytes_in(conn *c)
{
    if (c->at == PHASE_HEAD) {
        heads_in(c);
    }
    if (c->upgraded) {
        frames_in(c);
    } else if (c->at >= PHASE_FLUSH) {
        c->in.len = c->in_at = 0; /* not listening to this one any more */
    }
}

static void read_some(conn *c)
{
    char block[64 * 1024];
    ssize_t n = recv(c->fd, block, sizeof block, 0);
    if (n > 0) {
        c->s->n.bytes_in += (uint64_t)n;
        if (c->s->o.dialect != SERVER_SOKETI) {
            c->idle_ms = clock_ms();
            c->pinged = false;
        }
        buf_add(&c->in, block, (size_t)n);
        bytes_in(c);
    } else if (n == 0) {
        gone(c, false);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        gone(c, true);
    }
}

static size_t pending(const conn *c)
{
    return c->out.len - c->out_at;
}

static void write_some(conn *c, uint64_t now)
{
    while (c->at != PHASE_DEAD && pending(c) && now >= c->write_ms) {
        size_t len = pending(c), most = c->faults.write_bytes;
        len = most && len > most ? most : len;
        ssize_t n = send(c->fd, c->out.at + c->out_at, len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
                gone(c, true);
            }
            return;
        }
        c->s->n.bytes_out += (uint64_t)n;
        c->out_at += (size_t)n;
        c->write_ms = most && c->faults.write_pause_ms ? now + c->faults.write_pause_ms : 0;
    }
    if (pending(c) == 0) {
        c->out.len = c->out_at = 0;
    }
}

/* After the last byte: FIN, then patience, so that the client's own close is still heard. */
static void finish(conn *c, uint64_t now)
{
    if (c->at == PHASE_FLUSH && pending(c) == 0) {
        shutdown(c->fd, SHUT_WR);
        c->at = PHASE_DRAIN;
        c->drain_ms = now + DRAIN_MS;
    }
    if (c->at == PHASE_DRAIN && (c->eof || now >= c->drain_ms)) {
        c->at = PHASE_DEAD;
    }
}

static uint32_t idle_limit(const server *s)
{
    static const uint32_t usual[] = {150000, 120000, 60000, 150000};
    return s->o.idle_ms ? s->o.idle_ms : usual[s->o.dialect];
}

static bool watches_idle(const conn *c)
{
    return c->at == PHASE_OPEN && !c->close_sent && idle_limit(c->s) != SERVER_NEVER
        && (c->s->o.dialect != SERVER_REVERB || c->subscribed_once);
}

/* soketi: the end. The others ping once, and end it when that is not answered. */
static void idle_step(conn *c, uint64_t now)
{
    if (!watches_idle(c) || now < c->idle_ms + idle_limit(c->s)) {
        return;
    }
    c->idle_ms = now;
    if (c->s->o.dialect == SERVER_SOKETI) {
        close_with(c, 4201, NULL);
    } else if (c->pinged) {
        refuse(c, 4201, "Pong reply not received in time");
    } else if (is_php(c->s) && c->used_control) {
        frame_out(c, WSLAY_PING, true, "", 0);
    } else {
        send_message(c, "pusher:ping", NULL, is_php(c->s) ? NULL : "{}");
    }
    c->pinged = true;
}

static void timers(conn *c, uint64_t now)
{
    if (c->at == PHASE_WAIT && c->answer_ms && now >= c->answer_ms) {
        c->answer_ms = 0;
        send_answer(c);
        frames_in(c);
    }
    if (c->late_ms && now >= c->late_ms) {
        send_late(c);
        bytes_in(c);
    }
    if (c->establish_ms && now >= c->establish_ms) {
        c->establish_ms = 0;
        establish(c);
    }
    idle_step(c, now);
}

static void step(conn *c, int events)
{
    uint64_t now = clock_ms();
    if ((events & (POLLIN | POLLHUP | POLLERR)) && !c->eof) {
        read_some(c);
    }
    timers(c, now);
    refill(c);
    write_some(c, now);
    finish(c, now);
}

static void conn_free(conn *c)
{
    if (c->rx) {
        wslay_frame_context_free(c->rx);
        wslay_frame_context_free(c->tx);
    }
    close(c->fd);
    free(c->app_key);
    free(c->client_origin);
    free(c->query);
    free(c->user);
    free(c->user_data);
    free(c->answer);
    free(c->late);
    free(c->flood_channel);
    free(c->flood_event);
    buf_free(&c->flood_frame);
    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->message);
    buf_free(&c->control);
    free(c);
}

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void take_faults(server *s, conn *c)
{
    c->faults = s->faults;
    if (s->faults_left && --s->faults_left == 0) {
        memset(&s->faults, 0, sizeof s->faults);
    }
}

static void accept_one(server *s, int listener)
{
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) {
        return;
    }
    set_nonblocking(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (s->conn_count == s->conn_cap) {
        s->conn_cap = s->conn_cap * 2 + 8;
        s->conns = grow(s->conns, s->conn_cap * sizeof *s->conns);
    }
    conn *c = grow(NULL, sizeof *c);
    memset(c, 0, sizeof *c);
    c->s = s;
    c->fd = fd;
    c->serial = s->n.accepted + 1;
    snprintf(c->id, sizeof c->id, "%u.%u", next_random(s) % 1000000000u + 1,
             next_random(s) % 1000000000u + 1);
    take_faults(s, c);
    s->conns[s->conn_count++] = c;
    log_add(c, SERVER_LOG_ACCEPT, 0, "", 0);
}

static void sooner(uint64_t *first, uint64_t at)
{
    if (at && at < *first) {
        *first = at;
    }
}

static uint64_t next_timer(const conn *c, uint64_t now)
{
    uint64_t first = UINT64_MAX;
    sooner(&first, c->at == PHASE_WAIT ? c->answer_ms : 0);
    sooner(&first, c->establish_ms);
    sooner(&first, c->late_ms);
    sooner(&first, pending(c) && c->write_ms > now ? c->write_ms : 0); /* past: POLLOUT */
    sooner(&first, c->at == PHASE_DRAIN ? c->drain_ms : 0);
    sooner(&first, watches_idle(c) ? c->idle_ms + idle_limit(c->s) : 0);
    return first;
}

/* Fills the poll set: wake-up pipe, listeners, connections. Returns the time-out. */
static int prepare(server *s, struct pollfd *set)
{
    uint64_t now = clock_ms(), first = UINT64_MAX;
    set[0] = (struct pollfd){s->wake[0], POLLIN, 0};
    for (int i = 0; i < 2; i++) {
        set[1 + i] = (struct pollfd){s->stalled ? -1 : s->listener[i], POLLIN, 0};
    }
    for (size_t i = 0; i < s->conn_count; i++) {
        const conn *c = s->conns[i];
        bool wants_out = (pending(c) || has_more(c)) && c->write_ms <= now;
        int events = (c->eof ? 0 : POLLIN) | (wants_out ? POLLOUT : 0);
        bool out = s->stalled || events == 0;
        set[3 + i] = (struct pollfd){out ? -1 : c->fd, (short)events, 0};
        if (!s->stalled) {
            sooner(&first, next_timer(c, now));
        }
    }
    if (first == UINT64_MAX) {
        return -1;
    }
    return first <= now ? 0 : first - now > 60000 ? 60000 : (int)(first - now);
}

static void reap(server *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->conn_count; i++) {
        conn *c = s->conns[i];
        if (c->at == PHASE_DEAD) {
            conn_free(c);
        } else {
            s->conns[kept++] = c;
        }
    }
    s->conn_count = kept;
}

static void turn(server *s, const struct pollfd *set, size_t polled)
{
    char dump[256];
    while (read(s->wake[0], dump, sizeof dump) > 0) {
    }
    if (s->stalled) {
        return;
    }
    for (size_t i = 0; i < polled; i++) {
        step(s->conns[i], set[3 + i].revents);
    }
    for (size_t i = 0; i < polled; i++) { /* a later one may have given this one something */
        write_some(s->conns[i], clock_ms());
        finish(s->conns[i], clock_ms());
    }
    for (int i = 0; i < 2; i++) {
        if (set[1 + i].revents & POLLIN) {
            accept_one(s, s->listener[i]);
        }
    }
}

/* Leaves at once: what the sockets take within a moment gets out. */
static void finish_all(server *s)
{
    char dump[4096];
    uint64_t end = clock_ms() + 50;
    stop_all(s);
    for (size_t i = 0; i < s->conn_count; i++) {
        conn *c = s->conns[i];
        struct pollfd p = {c->fd, POLLOUT, 0};
        c->faults.write_bytes = 0;
        c->write_ms = 0;
        write_some(c, clock_ms());
        while (c->at != PHASE_DEAD && pending(c) && clock_ms() < end) {
            poll(&p, 1, 5);
            write_some(c, clock_ms());
        }
        shutdown(c->fd, SHUT_WR);
        while (recv(c->fd, dump, sizeof dump, 0) > 0) { /* unread input would make it a reset */
        }
        c->at = PHASE_DEAD;
    }
}

static void reset_all(server *s)
{
    for (size_t i = 0; i < s->conn_count; i++) {
        reset_connection(s->conns[i]);
    }
}

static void *server_main(void *arg)
{
    server *s = arg;
    struct pollfd *set = NULL;
    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        size_t polled = s->conn_count;
        set = grow(set, (3 + polled) * sizeof *set);
        int timeout = prepare(s, set);
        pthread_mutex_unlock(&s->lock);
        poll(set, (nfds_t)(3 + polled), timeout);
        pthread_mutex_lock(&s->lock);
        turn(s, set, polled);
        reap(s);
        pthread_cond_broadcast(&s->changed);
    }
    if (s->stop_mode == SERVER_STOP_RST) {
        reset_all(s);
    } else {
        finish_all(s);
    }
    reap(s);
    pthread_mutex_unlock(&s->lock);
    free(set);
    return NULL;
}

/* ---- start and stop ---- */

static int listen_on(int family, uint16_t *port)
{
    int one = 1, fd = socket(family, SOCK_STREAM, 0);
    struct sockaddr_in v4 = {0};
    struct sockaddr_in6 v6 = {0};
    bool is4 = family == AF_INET;
    socklen_t len = is4 ? sizeof v4 : sizeof v6;
    struct sockaddr *address = is4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4.sin_port = v6.sin6_port = htons(*port);
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    if (fd < 0) {
        return -1;
    }
    /* a restart on the same port must not wait for TIME_WAIT */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!is4) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    }
    set_nonblocking(fd);
    if (bind(fd, address, len) != 0 || listen(fd, 1024) != 0
        || getsockname(fd, address, &len) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    *port = ntohs(is4 ? v4.sin_port : v6.sin6_port);
    return fd;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void channels_free(server *s)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (s->buckets[i]) {
            channel *ch = s->buckets[i];
            s->buckets[i] = ch->next;
            free(ch->name);
            free(ch->cached);
            free(ch->subs);
            free(ch);
        }
    }
}

static void server_free(server *s)
{
    for (int i = 0; i < 2; i++) {
        close_fd(s->wake[i]);
        close_fd(s->listener[i]);
    }
    for (size_t i = 0; i < s->log_count; i++) {
        union { const char *from; char *to; } text = {s->log[i].text};
        free(text.to);
    }
    channels_free(s);
    free(s->log);
    free(s->conns);
    free(s->key);
    free(s->secret);
    free(s->path);
    free(s->origin);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
}

static server *server_make(const server_options *o)
{
    server *s = grow(NULL, sizeof *s);
    pthread_condattr_t clock;
    memset(s, 0, sizeof *s);
    s->o = *o;
    s->faults = o->faults;
    s->port = o->port;
    s->key = copy_text(o->key ? o->key : "app-key");
    s->secret = copy_text(o->secret ? o->secret : "app-secret");
    for (unsigned char i = 0; i < sizeof s->master; i++) {
        s->master[i] = i;
    }
    if (o->master_key && !read_key(s->master, o->master_key)) {
        abort(); /* a mistake of the test */
    }
    s->path = copy_text(o->path);
    s->origin = copy_text(o->origin);
    s->wake[0] = s->wake[1] = s->listener[0] = s->listener[1] = -1;
    s->start_ms = clock_ms();
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t); /* a restarted server must not repeat its socket ids */
    s->random = ((uint64_t)t.tv_nsec << 32) + ((uint64_t)t.tv_sec << 16) + (uint64_t)getpid();
    s->random |= 1; /* xorshift: never zero */
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &clock);
    pthread_condattr_destroy(&clock);
    return s;
}

static bool server_open(server *s)
{
    if (pipe(s->wake) != 0) {
        s->wake[0] = s->wake[1] = -1;
        return false;
    }
    set_nonblocking(s->wake[0]);
    set_nonblocking(s->wake[1]);
    s->listener[0] = listen_on(AF_INET, &s->port);
    if (s->listener[0] >= 0 && s->o.ipv6) {
        s->listener[1] = listen_on(AF_INET6, &s->port);
    }
    return s->listener[0] >= 0 && (!s->o.ipv6 || s->listener[1] >= 0);
}

server *server_start(const server_options *options)
{
    server *s = server_make(options);
    sigset_t all, before;
    if (!server_open(s)) {
        int saved = errno;
        server_free(s);
        errno = saved;
        return NULL;
    }
    sigfillset(&all); /* signals are the business of the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&s->thread, NULL, server_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        server_free(s);
        errno = error;
        return NULL;
    }
    return s;
}

static void unlock_and_wake(server *s)
{
    wake(s);
    pthread_mutex_unlock(&s->lock);
}

void server_stop(server *s, server_stop_mode mode)
{
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    s->stop_mode = mode;
    unlock_and_wake(s);
    pthread_join(s->thread, NULL);
    server_free(s);
}

uint16_t server_port(const server *s)
{
    return s->port; /* fixed before the thread began */
}

/* ---- the rest of the API: lock, do it, wake the thread so that it leaves ---- */

void server_set_faults(server *s, const server_faults *faults, uint32_t count)
{
    pthread_mutex_lock(&s->lock);
    s->faults = *faults;
    s->faults_left = count;
    unlock_and_wake(s);
}

void server_set_faults_now(server *s, const server_faults *faults)
{
    pthread_mutex_lock(&s->lock);
    s->faults = *faults;
    s->faults_left = 0;
    for (size_t i = 0; i < s->conn_count; i++) {
        s->conns[i]->faults = *faults;
    }
    unlock_and_wake(s);
}

void server_stall(server *s, bool on)
{
    pthread_mutex_lock(&s->lock);
    s->stalled = on;
    unlock_and_wake(s);
}

void server_publish(server *s, const char *chan, const char *event, const char *data_text)
{
    pthread_mutex_lock(&s->lock);
    publish(s, chan, event, data_text, strlen(data_text), NULL);
    unlock_and_wake(s);
}

/* {"ciphertext":..,"nonce":..} of a text */
static void sealed_text(buf *out, server *s, const char *chan, const char *text,
                        const unsigned char master[32])
{
    unsigned char key[32], nonce[SEAL_NONCE];
    size_t len = strlen(text);
    unsigned char *box = grow(NULL, SEAL_TAG + len);
    for (size_t i = 0; i < sizeof nonce; i++) {
        nonce[i] = (unsigned char)next_random(s);
    }
    channel_key(key, chan, master);
    seal_box(box, text, len, nonce, key);
    buf_text(out, "{\"ciphertext\":\"");
    add_base64(out, box, SEAL_TAG + len);
    buf_text(out, "\",\"nonce\":\"");
    add_base64(out, nonce, sizeof nonce);
    buf_text(out, "\"}");
    free(box);
}

void server_publish_sealed(server *s, const char *chan, const char *event, const char *data_text,
                           const char *master_key)
{
    unsigned char other[32];
    buf text = {0};
    if (master_key && !read_key(other, master_key)) {
        abort(); /* a mistake of the test */
    }
    pthread_mutex_lock(&s->lock);
    sealed_text(&text, s, chan, data_text, master_key ? other : s->master);
    publish(s, chan, event, text.at, text.len, NULL);
    unlock_and_wake(s);
    buf_free(&text);
}

bool server_set_master_key(server *s, const char *base64)
{
    pthread_mutex_lock(&s->lock);
    bool good = read_key(s->master, base64);
    pthread_mutex_unlock(&s->lock);
    return good;
}

void server_publish_raw(server *s, const char *chan, const char *json)
{
    pthread_mutex_lock(&s->lock);
    channel *ch = chan ? *channel_slot(s, chan) : NULL;
    for (size_t i = 0; !chan && i < s->conn_count; i++) {
        send_text(s->conns[i], json, strlen(json));
    }
    if (ch) {
        to_channel(ch, NULL, json, strlen(json));
    }
    unlock_and_wake(s);
}

void server_flood(server *s, const char *chan, const char *event, const char *data_text,
                  uint32_t count)
{
    pthread_mutex_lock(&s->lock);
    channel *ch = *channel_slot(s, chan);
    for (size_t i = 0; ch && i < ch->count; i++) {
        start_flood(ch->subs[i].c, chan, event, data_text, count);
    }
    unlock_and_wake(s);
}

void server_send_bytes(server *s, const void *bytes, size_t len)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->conn_count; i++) {
        buf_add(&s->conns[i]->out, bytes, len);
    }
    unlock_and_wake(s);
}

void server_send_bad_frame(server *s, server_bad_frame kind)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->conn_count; i++) {
        if (can_send(s->conns[i])) {
            bad_frame_out(s->conns[i], kind);
        }
    }
    unlock_and_wake(s);
}

void server_send_ping(server *s, const void *payload, size_t len)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->conn_count; i++) {
        if (can_send(s->conns[i])) {
            frame_out(s->conns[i], WSLAY_PING, true, payload, len > 125 ? 125 : len);
        }
    }
    unlock_and_wake(s);
}

void server_close_all(server *s, int code, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->conn_count; i++) {
        if (!s->conns[i]->http) {
            close_with(s->conns[i], code, reason);
        }
    }
    unlock_and_wake(s);
}

void server_error_all(server *s, int code, const char *message, const char *chan)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->conn_count; i++) {
        send_error(s->conns[i], code, message, chan);
    }
    unlock_and_wake(s);
}

void server_forget_cache(server *s, const char *chan)
{
    pthread_mutex_lock(&s->lock);
    channel *ch = *channel_slot(s, chan);
    if (ch) {
        free(ch->cached);
        ch->cached = NULL;
    }
    unlock_and_wake(s);
}

static size_t count_subscribers(const server *s, const char *chan)
{
    union { const server *from; server *to; } u = {s};
    const channel *ch = *channel_slot(u.to, chan);
    return ch ? ch->count : 0;
}

static size_t count_connections(const server *s, const char *unused)
{
    size_t n = 0;
    (void)unused;
    for (size_t i = 0; i < s->conn_count; i++) {
        n += s->conns[i]->at == PHASE_OPEN && !s->conns[i]->close_sent;
    }
    return n;
}

static size_t count_sockets(const server *s, const char *unused)
{
    (void)unused;
    return s->conn_count;
}

size_t server_subscribers(server *s, const char *chan)
{
    pthread_mutex_lock(&s->lock);
    size_t n = count_subscribers(s, chan);
    pthread_mutex_unlock(&s->lock);
    return n;
}

size_t server_connections(server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = count_connections(s, NULL);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static struct timespec deadline(uint32_t timeout_ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(timeout_ms / 1000);
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

typedef size_t count_fn(const server *s, const char *name);

static bool wait_for(server *s, count_fn *count, const char *name, size_t n, uint32_t timeout_ms)
{
    struct timespec end = deadline(timeout_ms);
    int error = 0;
    pthread_mutex_lock(&s->lock);
    bool good = count(s, name) == n;
    while (!good && error == 0) {
        error = pthread_cond_timedwait(&s->changed, &s->lock, &end);
        good = count(s, name) == n;
    }
    pthread_mutex_unlock(&s->lock);
    return good;
}

bool server_wait_connections(server *s, size_t n, uint32_t timeout_ms)
{
    return wait_for(s, count_connections, NULL, n, timeout_ms);
}

bool server_wait_sockets(server *s, size_t n, uint32_t timeout_ms)
{
    return wait_for(s, count_sockets, NULL, n, timeout_ms);
}

bool server_wait_subscribers(server *s, const char *chan, size_t n, uint32_t timeout_ms)
{
    return wait_for(s, count_subscribers, chan, n, timeout_ms);
}

server_log *server_log_copy(server *s)
{
    server_log *log = grow(NULL, sizeof *log);
    pthread_mutex_lock(&s->lock);
    log->count = s->log_count;
    log->entries = grow(NULL, log->count * sizeof *log->entries);
    for (size_t i = 0; i < log->count; i++) {
        log->entries[i] = s->log[i];
        log->entries[i].text = copy_bytes(s->log[i].text, s->log[i].len);
    }
    pthread_mutex_unlock(&s->lock);
    return log;
}

void server_log_free(server_log *log)
{
    for (size_t i = 0; log && i < log->count; i++) {
        union { const char *from; char *to; } text = {log->entries[i].text};
        free(text.to);
    }
    if (log) {
        free(log->entries);
        free(log);
    }
}

size_t server_log_count(server *s, server_log_kind kind, const char *part)
{
    pthread_mutex_lock(&s->lock);
    size_t n = log_find(s, kind, part);
    pthread_mutex_unlock(&s->lock);
    return n;
}

bool server_wait_log(server *s, server_log_kind kind, const char *part, size_t n,
                     uint32_t timeout_ms)
{
    struct timespec end = deadline(timeout_ms);
    int error = 0;
    pthread_mutex_lock(&s->lock);
    bool good = log_find(s, kind, part) >= n;
    while (!good && error == 0) {
        error = pthread_cond_timedwait(&s->changed, &s->lock, &end);
        good = log_find(s, kind, part) >= n;
    }
    pthread_mutex_unlock(&s->lock);
    return good;
}

server_counters server_count(server *s)
{
    pthread_mutex_lock(&s->lock);
    server_counters n = s->n;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void server_sign(const server *s, const char *text, char hex[65])
{
    hmac_hex(s->secret, text, strlen(text), hex); /* the secret never changes: no lock */
}
