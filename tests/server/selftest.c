/*
 * Checks the tests' server itself, with a raw socket and a frame reader of its own: a test
 * server that is wrong makes every test on top of it wrong. Each dialect's shapes are compared
 * as whole messages with what the real servers were seen to send.
 */
#include "control.h"
#include "seal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_MS = 3000, QUIET_MS = 30, ROOM = 4 * 1024 * 1024 };

/* ---- a client that knows nothing but bytes and frames ---- */

typedef struct peer {
    int fd;
    char *in; /* everything read and not yet taken, NUL-terminated */
    size_t len;
    size_t first_read; /* bytes that the first recv gave */
    bool eof, reset;
    char id[64];
} peer;

typedef struct frame {
    int first; /* first byte: FIN, RSV, opcode */
    bool masked;
    char text[70000];
    size_t len;
} frame;

static peer peer_open(uint16_t port)
{
    peer p = {-1, NULL, 0, 0, false, false, ""};
    struct sockaddr_in to = {0};
    int one = 1;
    p.fd = socket(AF_INET, SOCK_STREAM, 0);
    p.in = calloc(1, ROOM + 1);
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(p.fd >= 0 && p.in);
    assert_int_equal(connect(p.fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(p.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return p;
}

static void peer_free(peer *p)
{
    close(p->fd);
    free(p->in);
    p->in = NULL;
}

static void peer_write(peer *p, const void *bytes, size_t len)
{
    assert_int_equal(send(p->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* One recv, if there is something within the time. */
static bool peer_read(peer *p, int ms)
{
    struct pollfd f = {p->fd, POLLIN, 0};
    if (p->eof || p->len == ROOM || poll(&f, 1, ms) <= 0) {
        return false;
    }
    ssize_t n = recv(p->fd, p->in + p->len, ROOM - p->len, 0);
    if (n > 0) {
        p->first_read = p->first_read ? p->first_read : (size_t)n;
        p->len += (size_t)n;
        p->in[p->len] = '\0';
        return true;
    }
    p->reset = n < 0;
    p->eof = true;
    return false;
}

static void peer_take(peer *p, size_t n)
{
    memmove(p->in, p->in + n, p->len - n + 1);
    p->len -= n;
}

/* The next frame; false at EOF or when nothing comes in time. */
static bool peer_frame(peer *p, frame *f, int ms)
{
    for (;;) {
        const unsigned char *b = (const unsigned char *)p->in;
        size_t n = p->len >= 2 ? b[1] & 0x7Fu : 0, head = 2;
        assert_int_not_equal(n, 127); /* nothing that long in these tests */
        if (n == 126) {
            head = 4;
            n = p->len >= 4 ? (size_t)b[2] << 8 | b[3] : 0;
        }
        if (p->len >= head && p->len >= head + n) {
            f->first = b[0];
            f->masked = b[1] & 0x80;
            f->len = n;
            memcpy(f->text, b + head, n);
            f->text[n] = '\0';
            peer_take(p, head + n);
            return true;
        }
        if (!peer_read(p, ms)) {
            return false;
        }
    }
}

static void peer_send_frame(peer *p, int first, const char *payload, size_t len)
{
    unsigned char head[8] = {(unsigned char)first, (unsigned char)(0x80 | len)};
    size_t n = 2;
    char *all = malloc(len + 8);
    if (len > 125) {
        head[1] = 0x80 | 126;
        head[2] = (unsigned char)(len >> 8);
        head[3] = (unsigned char)len;
        n = 4;
    }
    for (size_t i = 0; i < 4; i++) {
        head[n + i] = (unsigned char)(0x11 * (i + 1));
    }
    memcpy(all, head, n + 4);
    for (size_t i = 0; i < len; i++) {
        all[n + 4 + i] = (char)((unsigned char)payload[i] ^ head[n + i % 4]);
    }
    peer_write(p, all, n + 4 + len);
    free(all);
}

static void peer_say(peer *p, const char *text)
{
    peer_send_frame(p, 0x81, text, strlen(text));
}

static void peer_request(peer *p, const char *target, const char *more)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", target, more);
    peer_write(p, text, (size_t)n);
}

static const char usual_target[] = "/app/app-key?protocol=7&client=test&version=1.0.0";

/* Reads the answer's head and leaves what follows. The head is returned, to be freed. */
static char *peer_head(peer *p)
{
    char *end;
    while (!(end = strstr(p->in, "\r\n\r\n"))) {
        assert_true(peer_read(p, PATIENCE_MS));
    }
    size_t n = (size_t)(end - p->in) + 4;
    char *head = calloc(1, n + 1);
    memcpy(head, p->in, n);
    peer_take(p, n);
    return head;
}

static void expect_text(peer *p, const char *text)
{
    static frame f;
    if (!peer_frame(p, &f, PATIENCE_MS)) {
        fail_msg("expected %s, got nothing", text);
    }
    assert_string_equal(f.text, text);
    assert_int_equal(f.first, 0x81);
    assert_false(f.masked);
}

/* A text message that holds this. */
static void expect_part(peer *p, const char *part)
{
    static frame f;
    if (!peer_frame(p, &f, PATIENCE_MS)) {
        fail_msg("expected %s, got nothing", part);
    }
    if (!strstr(f.text, part)) {
        fail_msg("expected %s in %s", part, f.text);
    }
}

static void expect_silence(peer *p)
{
    static frame f;
    if (peer_frame(p, &f, QUIET_MS)) {
        fail_msg("expected nothing, got %s", f.text);
    }
    assert_false(p->eof);
}

static void expect_end(peer *p, bool reset)
{
    static frame f;
    if (peer_frame(p, &f, PATIENCE_MS)) {
        fail_msg("expected the end, got %s", f.text);
    }
    assert_true(p->eof);
    assert_int_equal(p->reset, reset);
}

/* code 0: empty close frame, -1: none at all; then FIN. */
static void expect_close(peer *p, int code, const char *reason)
{
    static frame f;
    if (code >= 0) {
        assert_true(peer_frame(p, &f, PATIENCE_MS));
        assert_int_equal(f.first, 0x88);
        assert_int_equal(f.len, code ? 2 + strlen(reason) : 0);
        if (code) {
            assert_int_equal((unsigned char)f.text[0] << 8 | (unsigned char)f.text[1], code);
            assert_string_equal(f.text + 2, reason);
        }
    }
    expect_end(p, false);
}

static peer peer_upgrade(server *s, const char *target, const char *more)
{
    peer p = peer_open(server_port(s));
    peer_request(&p, target, more);
    char *head = peer_head(&p);
    assert_non_null(strstr(head, "HTTP/1.1 101 Switching Protocols\r\n"));
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    free(head);
    return p;
}

static void read_id(peer *p, int timeout)
{
    static frame f;
    char want[256];
    assert_true(peer_frame(p, &f, PATIENCE_MS));
    const char *at = strstr(f.text, "socket_id\\\":\\\"");
    assert_non_null(at);
    sscanf(at + 14, "%63[0-9.]", p->id);
    assert_non_null(strchr(p->id, '.'));
    snprintf(want, sizeof want, "{\"event\":\"pusher:connection_established\",\"data\":\"{"
             "\\\"socket_id\\\":\\\"%s\\\",\\\"activity_timeout\\\":%d}\"}", p->id, timeout);
    assert_string_equal(f.text, want);
}

static server *start(server_dialect dialect)
{
    server_options o = {0};
    o.dialect = dialect;
    server *s = server_start(&o);
    assert_non_null(s);
    return s;
}

static server *start_with(const server_faults *faults)
{
    server *s = start(SERVER_PUSHER);
    server_set_faults(s, faults, 0);
    return s;
}

static int timeout_of(server_dialect d)
{
    return d == SERVER_SOKETI || d == SERVER_REVERB ? 30 : 120;
}

static peer connected(server *s, server_dialect d)
{
    peer p = peer_upgrade(s, usual_target, "");
    read_id(&p, timeout_of(d));
    return p;
}

static void end(server *s, peer *p)
{
    peer_free(p);
    server_stop(s, SERVER_STOP_DIALECT);
}

static void say_subscribe(peer *p, server *s, const char *chan, const char *member)
{
    char text[2048], sign[1024], hex[65], quoted[512] = "", *q = quoted;
    snprintf(sign, sizeof sign, member ? "%s:%s:%s" : "%s:%s", p->id, chan, member);
    server_sign(s, sign, hex);
    for (const char *m = member; m && *m; m++) {
        if (*m == '"' || *m == '\\') {
            *q++ = '\\';
        }
        *q++ = *m;
    }
    snprintf(text, sizeof text, member ? "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":"
             "\"%s\",\"auth\":\"app-key:%s\",\"channel_data\":\"%s\"}}" :
             "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s\",\"auth\":"
             "\"app-key:%s\"}}", chan, hex, quoted);
    peer_say(p, text);
}

static const char *subscribed_text(server_dialect d)
{
    static const char *const texts[] = {
        "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\",\"channel\":\"ch\"}",
        "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"ch\"}",
        "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\",\"channel\":\"ch\"}",
        ("{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"ch\","
         "\"data\":\"{}\"}")};
    return texts[d];
}

static peer subscribed(server *s, server_dialect d)
{
    peer p = connected(s, d);
    peer_say(&p, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"ch\"}}");
    expect_text(&p, subscribed_text(d));
    return p;
}

#define EACH_DIALECT(d) \
    for (server_dialect d = SERVER_PUSHER; d <= SERVER_SOCKUDO; d = (server_dialect)(d + 1))

/* ---- dialects ---- */

static void test_established_and_glued(void **state)
{
    (void)state;
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = peer_open(server_port(s));
        peer_request(&p, usual_target, "");
        char *head = peer_head(&p);
        assert_true(p.first_read > strlen(head)); /* one read has the 101 and the first frame */
        read_id(&p, timeout_of(d));
        free(head);
        assert_int_equal(server_connections(s), 1);
        assert_int_equal(server_count(s).violations, 0);
        end(s, &p);
    }
}

static void test_public_events(void **state)
{
    (void)state;
    static const char *const events[] = {
        "{\"event\":\"e\",\"data\":\"{\\\"u\\\":\\\"a/\xE2\x98\x83\\\"}\",\"channel\":\"ch\"}",
        "{\"event\":\"e\",\"channel\":\"ch\",\"data\":\"{\\\"u\\\":\\\"a/\xE2\x98\x83\\\"}\"}",
        "{\"event\":\"e\",\"data\":\"{\\\"u\\\":\\\"a\\/\\u2603\\\"}\",\"channel\":\"ch\"}",
        "{\"event\":\"e\",\"channel\":\"ch\",\"data\":\"{\\\"u\\\":\\\"a/\xE2\x98\x83\\\"}\"}"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = subscribed(s, d);
        assert_int_equal(server_subscribers(s, "ch"), 1);
        server_publish(s, "other", "e", "x");
        server_publish(s, "ch", "e", "{\"u\":\"a/\xE2\x98\x83\"}");
        expect_text(&p, events[d]);
        peer_say(&p, "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"ch\"}}");
        assert_true(server_wait_subscribers(s, "ch", 0, PATIENCE_MS));
        server_publish(s, "ch", "e", "late");
        expect_silence(&p);
        assert_int_equal(server_count(s).unsubscribes, 1);
        end(s, &p);
    }
}

static void test_escaping(void **state)
{
    (void)state;
    server *s = start(SERVER_REVERB);
    peer p = subscribed(s, SERVER_REVERB);
    server_publish(s, "ch", "e", "\"\\\x01\t\xF0\x9F\x98\x80/");
    expect_part(&p, "\"data\":\"\\\"\\\\\\u0001\\t\\ud83d\\ude00\\/\"");
    end(s, &p);
}

static void test_pong(void **state)
{
    (void)state;
    static const char *const pongs[] = {
        "{\"event\":\"pusher:pong\",\"data\":{}}", "{\"event\":\"pusher:pong\",\"data\":{}}",
        "{\"event\":\"pusher:pong\"}", "{\"event\":\"pusher:pong\"}"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = connected(s, d);
        static frame f;
        peer_say(&p, "{\"event\":\"pusher:ping\",\"data\":{}}");
        expect_text(&p, pongs[d]);
        peer_send_frame(&p, 0x89, "hey", 3);
        assert_true(peer_frame(&p, &f, PATIENCE_MS));
        assert_int_equal(f.first, 0x8A);
        assert_string_equal(f.text, "hey");
        assert_int_equal(server_count(s).pings_in, 1);
        assert_int_equal(server_count(s).pusher_pings_in, 1);
        end(s, &p);
    }
}

static void test_wrong_key(void **state)
{
    (void)state;
    static const char *const errors[] = {
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4001,\"message\":\"App key nope not in "
        "this cluster. Did you forget to specify the cluster?\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4001,\"message\":\"App key nope does not "
        "exist.\"}}",
        "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4001,\\\"message\\\":\\\"Application "
        "does not exist\\\"}\"}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4001,\"message\":\"Application does not "
        "exist\"}}"};
    static const char *const reasons[] = {
        "App key nope not in this cluster. Did you forget to specify the cluster?", "", "",
        "Application does not exist"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = peer_upgrade(s, "/app/nope?protocol=7&version=1", "");
        expect_text(&p, errors[d]);
        expect_close(&p, d == SERVER_REVERB ? -1 : 4001, reasons[d]);
        end(s, &p);
    }
}

static void test_protocol_and_path(void **state)
{
    (void)state;
    static const struct { const char *target; int code; } bad[] = {
        {"/app/app-key", 4008}, {"/app/app-key?protocol=99", 4007},
        {"/app/app-key?protocol=7&version=x", 4006}};
    server *s = start(SERVER_PUSHER);
    for (size_t i = 0; i < 3; i++) {
        peer p = peer_upgrade(s, bad[i].target, "");
        char part[32];
        snprintf(part, sizeof part, "\"code\":%d,", bad[i].code);
        expect_part(&p, part);
        peer_free(&p);
    }
    peer p = peer_open(server_port(s));
    peer_request(&p, "/app/app-key/?protocol=7", "");
    char *head = peer_head(&p);
    assert_non_null(strstr(head, "HTTP/1.1 404 "));
    free(head);
    end(s, &p);
}

static void test_quota(void **state)
{
    (void)state;
    static const int codes[] = {4004, 4100, 4004, 4004};
    EACH_DIALECT(d) {
        server_options o = {0};
        static frame f;
        char part[32];
        o.dialect = d;
        o.max_connections = 1;
        server *s = server_start(&o);
        peer p = subscribed(s, d), q = peer_upgrade(s, usual_target, "");
        assert_true(peer_frame(&q, &f, PATIENCE_MS));
        snprintf(part, sizeof part, "code%s:%d,", d == SERVER_REVERB ? "\\\"" : "\"", codes[d]);
        assert_non_null(strstr(f.text, part));
        if (d == SERVER_REVERB) {
            expect_silence(&q);
        } else {
            assert_true(peer_frame(&q, &f, PATIENCE_MS));
            assert_int_equal(f.first, 0x88);
        }
        peer_free(&q);
        end(s, &p);
    }
}

static void test_origin(void **state)
{
    (void)state;
    server_options o = {0};
    o.dialect = SERVER_REVERB;
    o.origin = "https://good.example";
    server *s = server_start(&o);
    peer q = peer_upgrade(s, usual_target, "Origin: https://good.example\r\n");
    read_id(&q, 30);
    peer p = peer_upgrade(s, usual_target, "Origin: https://bad.example\r\n");
    expect_text(&p, "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4009,\\\"message\\\":"
                "\\\"Origin not allowed\\\"}\"}");
    expect_silence(&p);
    peer_free(&q);
    end(s, &p);
}

static void test_private_and_refusal(void **state)
{
    (void)state;
    static const char *const errors[] = {
        NULL, /* holds the socket id: made below */
        "{\"event\":\"pusher:subscription_error\",\"channel\":\"private-x\",\"data\":{\"type\":"
        "\"AuthError\",\"error\":\"The connection is unauthorized.\",\"status\":401}}",
        "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4009,\\\"message\\\":\\\"Connection "
        "is unauthorized\\\"}\"}",
        "{\"event\":\"pusher:error\",\"channel\":\"private-x\",\"data\":{\"code\":4009,"
        "\"message\":\"Connection not authorized\"}}"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = connected(s, d);
        char want[512];
        peer_say(&p, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-x\","
                 "\"auth\":\"app-key:00\"}}");
        if (d == SERVER_PUSHER) {
            snprintf(want, sizeof want,
                     "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"Invalid "
                     "signature: Expected HMAC SHA256 hex digest of %s:private-x, but got 00\"}}",
                     p.id);
            expect_text(&p, want);
        } else {
            expect_text(&p, errors[d]);
        }
        assert_int_equal(server_subscribers(s, "private-x"), 0);
        say_subscribe(&p, s, "private-x", NULL);
        expect_part(&p, "pusher_internal:subscription_succeeded");
        assert_int_equal(server_subscribers(s, "private-x"), 1);
        end(s, &p);
    }
}

static void test_signature_vector(void **state)
{
    (void)state;
    server_options o = {0};
    char hex[65];
    o.secret = "7ad3773142a6692b25b8";
    server *s = server_start(&o);
    server_sign(s, "1234.1234:private-foobar", hex);
    assert_string_equal(hex, "58df8b0c36d6982b82c3ecf6b4662e34"
                        "fe8c25bba48f5369f135bf843651c3a4");
    server_stop(s, SERVER_STOP_RST);
}

static void test_presence(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "{\\\"ids\\\":[\\\"u1\\\",\\\"u2\\\"],\\\"hash\\\":{\\\"u1\\\":{\\\"n\\\":1},\\\"u2\\\":"
        "{\\\"n\\\":2}},\\\"count\\\":2}",
        "{\\\"ids\\\":[\\\"u1\\\",\\\"u2\\\"],\\\"hash\\\":{\\\"u1\\\":{\\\"n\\\":1},\\\"u2\\\":"
        "{\\\"n\\\":2}},\\\"count\\\":2}",
        "{\\\"count\\\":2,\\\"ids\\\":[\\\"u1\\\",\\\"u2\\\"],\\\"hash\\\":{\\\"u1\\\":{\\\"n\\\":"
        "1},\\\"u2\\\":{\\\"n\\\":2}}}",
        "{\\\"ids\\\":[\\\"u1\\\",\\\"u2\\\"],\\\"hash\\\":{\\\"u1\\\":{\\\"n\\\":1},\\\"u2\\\":"
        "{\\\"n\\\":2}},\\\"count\\\":2}"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer a = connected(s, d), b = connected(s, d), c = connected(s, d);
        say_subscribe(&a, s, "presence-r", "{\"user_id\":\"u1\",\"user_info\":{\"n\":1}}");
        expect_part(&a, "[\\\"u1\\\"]");
        say_subscribe(&b, s, "presence-r", "{\"user_id\":\"u2\",\"user_info\":{\"n\":2}}");
        expect_part(&b, lists[d]);
        expect_part(&a, "\"{\\\"user_id\\\":\\\"u2\\\",\\\"user_info\\\":{\\\"n\\\":2}}\"");
        say_subscribe(&c, s, "presence-r", "{\"user_id\":\"u2\",\"user_info\":{\"n\":2}}");
        expect_part(&c, lists[d]); /* a second connection of u2 is no news */
        peer_free(&c);
        assert_true(server_wait_subscribers(s, "presence-r", 2, PATIENCE_MS));
        expect_silence(&a);
        peer_say(&b, "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"presence-r\"}}");
        expect_part(&a, "\"pusher_internal:member_removed\"");
        peer_free(&b);
        end(s, &a);
    }
}

static void test_presence_oddities(void **state)
{
    (void)state;
    server *s = start(SERVER_SOKETI), *r = start(SERVER_REVERB);
    peer p = connected(s, SERVER_SOKETI), q = connected(r, SERVER_REVERB);
    say_subscribe(&p, s, "presence-r", "{\"user_id\":7}");
    expect_part(&p, "\\\"ids\\\":[7],\\\"hash\\\":{},\\\"count\\\":1}");
    say_subscribe(&q, r, "presence-r", "{\"user_id\":0,\"user_info\":{}}");
    expect_part(&q, "\\\"ids\\\":[0],\\\"hash\\\":[[]]}");
    say_subscribe(&q, r, "presence-nobody", "{}");
    expect_part(&q, "\\\"count\\\":0,\\\"ids\\\":[],\\\"hash\\\":[]}");
    say_subscribe(&q, r, "presence-w1", "{\"user_id\":\"a\"}");
    expect_part(&q, "4200,\\\"message\\\":\\\"Invalid message format");
    assert_int_equal(server_subscribers(r, "presence-w1"), 1);
    end(s, &p);
    end(r, &q);
}

static void test_cache(void **state)
{
    (void)state;
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = connected(s, d);
        say_subscribe(&p, s, "cache-c", NULL);
        expect_part(&p, "subscription_succeeded");
        expect_text(&p, "{\"event\":\"pusher:cache_miss\",\"channel\":\"cache-c\"}");
        server_publish(s, "cache-c", "e", "kept");
        expect_part(&p, "kept");
        peer_free(&p);
        p = connected(s, d);
        say_subscribe(&p, s, "cache-c", NULL);
        expect_part(&p, "subscription_succeeded");
        expect_part(&p, "kept");
        say_subscribe(&p, s, "private-encrypted-cache-c", NULL);
        expect_part(&p, "subscription_succeeded");
        if (d == SERVER_REVERB) {
            expect_silence(&p);
        } else {
            expect_part(&p, "pusher:cache_miss");
        }
        end(s, &p);
    }
}

static void test_client_events(void **state)
{
    (void)state;
    EACH_DIALECT(d) {
        server *s = start(d);
        peer a = connected(s, d), b = connected(s, d);
        say_subscribe(&a, s, "presence-r", "{\"user_id\":\"u1\",\"user_info\":{}}");
        expect_part(&a, "subscription_succeeded");
        say_subscribe(&b, s, "presence-r", "{\"user_id\":\"u2\",\"user_info\":{}}");
        expect_part(&b, "subscription_succeeded");
        expect_part(&a, "member_added");
        peer_say(&b, "{\"event\":\"client-e\",\"channel\":\"presence-r\",\"data\":{ }}");
        expect_text(&a, d == SERVER_REVERB
                    ? "{\"event\":\"client-e\",\"channel\":\"presence-r\",\"data\":[],"
                      "\"user_id\":\"u2\"}"
                    : "{\"event\":\"client-e\",\"channel\":\"presence-r\",\"data\":{ },"
                      "\"user_id\":\"u2\"}");
        expect_silence(&b);
        peer_say(&b, "{\"event\":\"client-e\",\"channel\":\"presence-r\",\"data\":7}");
        if (d == SERVER_REVERB) {
            expect_part(&b, "Invalid message format");
        } else {
            expect_part(&a, "\"data\":7");
        }
        assert_int_equal(server_count(s).client_events, 2);
        peer_free(&b);
        end(s, &a);
    }
}

static void test_client_event_limits(void **state)
{
    (void)state;
    server_options o = {0};
    o.client_events_per_second = 1;
    server *s = server_start(&o);
    peer p = connected(s, SERVER_PUSHER);
    say_subscribe(&p, s, "private-r", NULL);
    expect_part(&p, "subscription_succeeded");
    peer_say(&p, "{\"event\":\"client-e\",\"channel\":\"private-r\",\"data\":{}}");
    peer_say(&p, "{\"event\":\"client-e\",\"channel\":\"private-r\",\"data\":{}}");
    expect_part(&p, "\"code\":4301");
    peer_say(&p, "{\"event\":\"client-e\",\"channel\":\"public\",\"data\":{}}");
    expect_part(&p, "only supported on private and presence channels");
    end(s, &p);
}

static void test_invalid_messages(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "\"code\":null", NULL, "\\\"code\\\":4200", "\"code\":4000"};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = connected(s, d);
        peer_say(&p, "{\"event\":}");
        if (answers[d]) {
            expect_part(&p, answers[d]);
        }
        expect_silence(&p);
        assert_int_equal(server_log_count(s, SERVER_LOG_VIOLATION, "not JSON"), 1);
        end(s, &p);
    }
}

static void test_soketi_dies_of_bad_subscribe(void **state)
{
    (void)state;
    server *s = start(SERVER_SOKETI);
    peer p = connected(s, SERVER_SOKETI);
    peer_say(&p, "{\"event\":\"pusher:subscribe\",\"data\":\"{\\\"channel\\\":\\\"a\\\"}\"}");
    expect_text(&p, "{\"event\":\"pusher:error\",\"data\":{\"code\":4200,\"message\":\"Server "
                "closed. Please reconnect shortly.\"}}");
    expect_close(&p, 4200, "");
    assert_int_equal(server_count(s).violations, 2);
    end(s, &p);
}

static void say_signin(peer *p, server *s, const char *user, const char *list)
{
    char text[1024], sign[512], hex[65];
    snprintf(sign, sizeof sign, "%s::user::{\"id\":\"%s\",\"watchlist\":[\"%s\"]}", p->id, user,
             list);
    server_sign(s, sign, hex);
    snprintf(text, sizeof text, "{\"event\":\"pusher:signin\",\"data\":{\"auth\":\"app-key:%s\","
             "\"user_data\":\"{\\\"id\\\":\\\"%s\\\",\\\"watchlist\\\":[\\\"%s\\\"]}\"}}", hex,
             user, list);
    peer_say(p, text);
}

static void test_signin(void **state)
{
    (void)state;
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = connected(s, d);
        say_signin(&p, s, "u1", "u2");
        if (d == SERVER_REVERB) {
            expect_part(&p, "4200");
        } else {
            expect_part(&p, d == SERVER_PUSHER
                        ? "{\"event\":\"pusher:signin_success\",\"data\":\"{\\\"user_data\\\":\\\""
                        : "{\"event\":\"pusher:signin_success\",\"data\":{\"auth\":\"app-key:");
            if (d == SERVER_SOCKUDO) {
                expect_text(&p, "{\"event\":\"offline\",\"data\":{\"user_ids\":[\"u2\"]}}");
            }
            server_publish(s, "#server-to-user-u1", "hello", "x");
            expect_part(&p, "\"#server-to-user-u1\"");
            peer_say(&p, "{\"event\":\"pusher:signin\",\"data\":{\"auth\":\"app-key:0\","
                     "\"user_data\":\"{}\"}}");
            expect_part(&p, "4009");
            expect_close(&p, 4009, d == SERVER_SOKETI ? "" : "Connection not authorized.");
        }
        end(s, &p);
    }
}

static void test_watchlist(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer a = connected(s, SERVER_PUSHER), b = connected(s, SERVER_PUSHER);
    say_signin(&a, s, "u1", "u2");
    expect_part(&a, "signin_success");
    say_subscribe(&a, s, "#server-to-user-u1", NULL);
    expect_part(&a, "subscription_succeeded");
    expect_part(&a, "{\\\"events\\\":[{\\\"name\\\":\\\"offline\\\",\\\"user_ids\\\":"
                "[\\\"u2\\\"]}]}");
    say_signin(&b, s, "u2", "u9");
    expect_part(&b, "signin_success");
    expect_part(&a, "\\\"online\\\"");
    peer_free(&b);
    expect_part(&a, "\\\"offline\\\"");
    end(s, &a);
}

static void test_counts(void **state)
{
    (void)state;
    server_options o = {0};
    o.subscription_count = true;
    server *s = server_start(&o);
    peer p = subscribed(s, SERVER_PUSHER);
    expect_text(&p, "{\"event\":\"pusher_internal:subscription_count\",\"data\":"
                "\"{\\\"subscription_count\\\":1}\",\"channel\":\"ch\"}");
    peer q = subscribed(s, SERVER_PUSHER);
    expect_part(&p, "{\\\"subscription_count\\\":2}");
    peer_free(&q);
    expect_part(&p, "{\\\"subscription_count\\\":1}");
    end(s, &p);
}

static void test_idle(void **state)
{
    (void)state;
    static const char *const pings[] = {"{\"event\":\"pusher:ping\",\"data\":{}}", NULL,
                                        "{\"event\":\"pusher:ping\"}",
                                        "{\"event\":\"pusher:ping\",\"data\":{}}"};
    EACH_DIALECT(d) {
        server_options o = {0};
        o.dialect = d;
        o.idle_ms = 60;
        server *s = server_start(&o);
        peer p = subscribed(s, d);
        if (pings[d]) {
            expect_text(&p, pings[d]);
            expect_part(&p, "4201");
        }
        expect_close(&p, d == SERVER_REVERB ? -1 : 4201,
                     d == SERVER_SOKETI ? "" : "Pong reply not received in time");
        end(s, &p);
    }
}

static void test_options(void **state)
{
    (void)state;
    server_options o = {0};
    o.path = "/ws";
    o.key = "k";
    o.activity_timeout = 7;
    o.no_client_events = true;
    o.dialect = SERVER_SOKETI;
    server *s = server_start(&o);
    peer p = peer_upgrade(s, "/ws/app/k", "");
    read_id(&p, 7);
    peer_say(&p, "{\"event\":\"client-e\",\"channel\":\"private-a\",\"data\":{}}");
    expect_text(&p, "{\"event\":\"pusher:error\",\"channel\":\"private-a\",\"data\":{\"code\":"
                "4301,\"message\":\"The app does not have client messaging enabled.\"}}");
    peer_free(&p);
    p = peer_open(server_port(s));
    peer_request(&p, "/app/k", "");
    char *head = peer_head(&p);
    assert_non_null(strstr(head, " 404 "));
    free(head);
    end(s, &p);
}

static void test_names_and_doubles(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\"code\":null,\"message\":\"Invalid channel name\"", "\"status\":4009", NULL,
        "\"code\":4009,\"message\":\"Invalid channel name\""};
    static const size_t limits[] = {164, 200, 300, 200};
    EACH_DIALECT(d) {
        server *s = start(d);
        peer p = subscribed(s, d);
        char name[400];
        say_subscribe(&p, s, "ch", NULL);
        expect_part(&p, d == SERVER_PUSHER ? "\"Existing subscription to channel ch\""
                    : "subscription_succeeded");
        assert_int_equal(server_subscribers(s, "ch"), 1);
        say_subscribe(&p, s, "a b", NULL);
        expect_part(&p, bad[d] ? bad[d] : "subscription_succeeded");
        memset(name, 'c', sizeof name);
        name[limits[d]] = '\0';
        say_subscribe(&p, s, name, NULL);
        expect_part(&p, "subscription_succeeded");
        name[limits[d]] = 'c';
        name[limits[d] + 1] = '\0';
        say_subscribe(&p, s, name, NULL);
        expect_part(&p, d == SERVER_REVERB ? "subscription_succeeded" :
                    d == SERVER_SOKETI ? "\"type\":\"LimitReached\"" : "Channel name too long");
        end(s, &p);
    }
}

static void test_poor_upgrade(void **state)
{
    (void)state;
    static const char request[] = "GET /app/app-key?protocol=7 HTTP/1.1\r\nUpgrade: websocket\r\n"
                                  "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: abcd\r\n\r\n";
    static const char *const what[] = {"Host", "Connection", "Connection does not say Upgrade",
                                       "Sec-WebSocket-Version is not 13",
                                       "Sec-WebSocket-Key is not 16 bytes in base64"};
    server *s = start(SERVER_PUSHER);
    peer p = peer_open(server_port(s));
    peer_write(&p, request, sizeof request - 1);
    assert_true(server_wait_connections(s, 1, PATIENCE_MS));
    for (size_t i = 0; i < 5; i++) {
        assert_true(server_log_count(s, SERVER_LOG_VIOLATION, what[i]) >= 1);
    }
    assert_int_equal(server_count(s).violations, 5);
    end(s, &p);
}

static void test_stop(void **state)
{
    (void)state;
    EACH_DIALECT(d) {
        server *s = start(d);
        uint16_t port = server_port(s);
        peer p = connected(s, d);
        server_stop(s, SERVER_STOP_DIALECT);
        if (d != SERVER_REVERB) {
            expect_part(&p, "\"code\":4200");
        }
        expect_close(&p, d == SERVER_REVERB ? -1 : 4200,
                     d == SERVER_SOKETI ? "" : "Server closed. Please reconnect shortly.");
        peer_free(&p);
        server_options o = {0};
        o.port = port; /* free at once */
        s = server_start(&o);
        assert_non_null(s);
        assert_null(server_start(&o)); /* and never shared */
        assert_int_equal(errno, EADDRINUSE);
        p = connected(s, SERVER_PUSHER);
        server_stop(s, SERVER_STOP_RST);
        expect_end(&p, true);
        peer_free(&p);
    }
}

/* ---- misbehaviour ---- */

static char *head_with(const server_faults *f)
{
    server *s = start_with(f);
    peer p = peer_open(server_port(s));
    peer_request(&p, usual_target, "");
    char *head = peer_head(&p);
    end(s, &p);
    return head;
}

static void test_http_faults(void **state)
{
    (void)state;
    server_faults f = {0};
    f.http_status = 503;
    strcpy(f.http_reason, "Out to lunch");
    char *head = head_with(&f);
    assert_int_equal(strncmp(head, "HTTP/1.1 503 Out to lunch\r\n", 27), 0);
    free(head);
    f = (server_faults){.wrong_accept = true};
    head = head_with(&f);
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: A3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    free(head);
    f = (server_faults){.no_accept = true};
    head = head_with(&f);
    assert_non_null(strstr(head, " 101 "));
    assert_null(strstr(head, "Sec-WebSocket-Accept"));
    free(head);
    f = (server_faults){.lower_case_headers = true};
    head = head_with(&f);
    assert_non_null(strstr(head, "\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                           "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    free(head);
    f = (server_faults){.header_bytes = 100000};
    head = head_with(&f);
    assert_true(strlen(head) > 100000);
    free(head);
}

static void test_endless_header(void **state)
{
    (void)state;
    server_faults f = {.endless_header = true};
    server *s = start_with(&f);
    peer p = peer_open(server_port(s));
    peer_request(&p, usual_target, "");
    while (p.len < 1000000) {
        assert_true(peer_read(&p, PATIENCE_MS));
    }
    assert_null(strstr(p.in, "\r\n\r\n"));
    end(s, &p);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void test_delays_and_silence(void **state)
{
    (void)state;
    server_faults f = {.answer_delay_ms = 50, .established_delay_ms = 50};
    server *s = start_with(&f);
    uint64_t begin = now_ms();
    peer p = peer_upgrade(s, usual_target, "");
    assert_in_range(now_ms() - begin, 49, PATIENCE_MS);
    assert_int_equal(p.len, 0); /* not in the same read */
    read_id(&p, 120);
    assert_in_range(now_ms() - begin, 98, PATIENCE_MS);
    peer_free(&p);
    f = (server_faults){.never_answer = true};
    server_set_faults(s, &f, 0);
    p = peer_open(server_port(s));
    peer_request(&p, usual_target, "");
    assert_true(server_wait_log(s, SERVER_LOG_REQUEST, NULL, 2, PATIENCE_MS));
    assert_false(peer_read(&p, QUIET_MS));
    assert_false(p.eof);
    peer_free(&p);
    f = (server_faults){.never_establish = true};
    server_set_faults(s, &f, 1);
    p = peer_upgrade(s, usual_target, "");
    expect_silence(&p);
    peer_free(&p);
    p = connected(s, SERVER_PUSHER); /* it was for one connection */
    end(s, &p);
}

static void test_established_faults(void **state)
{
    (void)state;
    server_faults f = {.establish_error = 4100};
    server *s = start_with(&f);
    peer p = peer_upgrade(s, usual_target, "");
    expect_part(&p, "{\"event\":\"pusher:error\",\"data\":{\"code\":4100,");
    expect_close(&p, 4100, "As the test asked");
    peer_free(&p);
    f.error_stays_open = true;
    server_set_faults(s, &f, 0);
    p = peer_upgrade(s, usual_target, "");
    expect_part(&p, "4100");
    expect_silence(&p);
    peer_free(&p);
    f = (server_faults){.no_activity_timeout = true, .established_object = true};
    server_set_faults(s, &f, 0);
    p = peer_upgrade(s, usual_target, "");
    static frame first;
    assert_true(peer_frame(&p, &first, PATIENCE_MS));
    assert_non_null(strstr(first.text, "{\"event\":\"pusher:connection_established\",\"data\":"
                           "{\"socket_id\":\""));
    assert_null(strstr(first.text, "activity_timeout"));
    peer_free(&p);
    f = (server_faults){.zero_activity_timeout = true};
    server_set_faults(s, &f, 0);
    p = peer_upgrade(s, usual_target, "");
    read_id(&p, 0);
    end(s, &p);
}

static void test_subscription_faults(void **state)
{
    (void)state;
    server_faults f = {.never_acknowledge = true, .never_pong = true};
    server *s = start_with(&f);
    peer p = connected(s, SERVER_PUSHER);
    say_subscribe(&p, s, "ch", NULL);
    peer_say(&p, "{\"event\":\"pusher:ping\",\"data\":{}}");
    peer_send_frame(&p, 0x89, "", 0);
    assert_true(server_wait_log(s, SERVER_LOG_PING, NULL, 1, PATIENCE_MS));
    expect_silence(&p);
    f = (server_faults){.refuse_subscriptions = true};
    server_set_faults_now(s, &f);
    say_subscribe(&p, s, "private-x", NULL);
    expect_part(&p, "Invalid signature");
    end(s, &p);
}

static void test_fragments(void **state)
{
    (void)state;
    static frame f;
    server_faults faults = {.fragment = 7, .empty_final = true, .ping_between = true};
    server *s = start(SERVER_PUSHER);
    peer p = subscribed(s, SERVER_PUSHER);
    server_set_faults_now(s, &faults);
    server_publish_raw(s, "ch", "0123456789");
    static const struct { int first; const char *text; } want[] = {
        {0x01, "0123456"}, {0x89, "between"}, {0x00, "789"}, {0x89, "between"}, {0x80, ""}};
    for (size_t i = 0; i < 5; i++) {
        assert_true(peer_frame(&p, &f, PATIENCE_MS));
        assert_int_equal(f.first, want[i].first);
        assert_string_equal(f.text, want[i].text);
    }
    end(s, &p);
}

static void test_drip(void **state)
{
    (void)state;
    server_faults faults = {.write_bytes = 5, .write_pause_ms = 10};
    server *s = start(SERVER_PUSHER);
    peer p = connected(s, SERVER_PUSHER);
    server_set_faults_now(s, &faults);
    uint64_t begin = now_ms();
    server_publish_raw(s, NULL, "0123456789abcdefghij"); /* 22 bytes: 5 writes, 4 pauses */
    assert_true(peer_read(&p, PATIENCE_MS));
    assert_int_equal(p.len, 5);
    expect_text(&p, "0123456789abcdefghij");
    assert_in_range(now_ms() - begin, 39, PATIENCE_MS);
    end(s, &p);
}

static void test_close_after(void **state)
{
    (void)state;
    static const struct { int code, wire; } ways[] = {{4200, 4200}, {0, 0}, {-1, -1}};
    for (size_t i = 0; i < 3; i++) {
        server_faults f = {.close_after = 2, .close_code = ways[i].code};
        server *s = start_with(&f);
        peer p = subscribed(s, SERVER_PUSHER);
        expect_close(&p, ways[i].wire, "");
        end(s, &p);
    }
    server_faults f = {.close_after = 1, .close_code = SERVER_CLOSE_RST};
    server *s = start_with(&f);
    peer p = peer_open(server_port(s));
    peer_request(&p, usual_target, "");
    while (peer_read(&p, PATIENCE_MS)) {
    }
    assert_true(p.reset);
    end(s, &p);
}

static void test_close_all(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    static const int codes[] = {4100, SERVER_CLOSE_EMPTY, SERVER_CLOSE_FIN};
    for (size_t i = 0; i < 3; i++) {
        peer p = connected(s, SERVER_PUSHER);
        server_close_all(s, codes[i], "why");
        expect_close(&p, codes[i], "why");
        peer_free(&p);
        assert_true(server_wait_connections(s, 0, PATIENCE_MS));
    }
    peer p = connected(s, SERVER_PUSHER);
    server_close_all(s, SERVER_CLOSE_RST, NULL);
    expect_end(&p, true);
    end(s, &p);
}

static void test_patience(void **state)
{
    (void)state;
    server_options o = {0};
    static frame f;
    o.patient = true;
    server *s = server_start(&o);
    peer p = subscribed(s, SERVER_PUSHER);
    server_close_all(s, 4100, "bye");
    assert_true(peer_frame(&p, &f, PATIENCE_MS));
    assert_int_equal(f.first, 0x88);
    expect_silence(&p);
    assert_int_equal(server_connections(s), 0);
    assert_int_equal(server_subscribers(s, "ch"), 0);
    peer_send_frame(&p, 0x88, "\x10\x04", 2);
    expect_end(&p, false);
    assert_int_equal(server_count(s).last_close_code, 4100);
    end(s, &p);
}

static void test_client_close(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer p = connected(s, SERVER_PUSHER);
    peer_send_frame(&p, 0x88, "\x03\xE9" "bye", 5);
    expect_close(&p, 1001, "");
    peer_free(&p);
    assert_true(server_wait_log(s, SERVER_LOG_FIN, NULL, 1, PATIENCE_MS));
    assert_int_equal(server_count(s).last_close_code, 1001);
    assert_int_equal(server_log_count(s, SERVER_LOG_CLOSE, "bye"), 1);
    server_faults f = {.ignore_close = true};
    server_set_faults(s, &f, 0);
    p = connected(s, SERVER_PUSHER);
    peer_send_frame(&p, 0x88, "", 0);
    assert_true(server_wait_log(s, SERVER_LOG_CLOSE, NULL, 2, PATIENCE_MS));
    assert_int_equal(server_count(s).last_close_code, 1005);
    expect_silence(&p);
    end(s, &p);
}

static void test_flood(void **state)
{
    (void)state;
    server_faults f = {.flood = 3};
    server *s = start_with(&f);
    peer p = subscribed(s, SERVER_PUSHER);
    expect_text(&p, "{\"event\":\"flood\",\"data\":\"{\\\"n\\\":1}\",\"channel\":\"ch\"}");
    expect_part(&p, "\\\"n\\\":2");
    expect_part(&p, "\\\"n\\\":3");
    expect_silence(&p);
    server_flood(s, "ch", "e", "fixed", 20000);
    for (int i = 0; i < 20000; i++) {
        expect_text(&p, "{\"event\":\"e\",\"data\":\"fixed\",\"channel\":\"ch\"}");
    }
    expect_silence(&p);
    end(s, &p);
}

static void test_bad_frames(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t len; } want[SERVER_BAD_COUNT] = {
        {"", 0}, {"\x82\x05", 2}, {"\x81\x85", 2}, {"\xC1\x02", 2}, {"\x83\x02", 2},
        {"\x8B\x00", 2}, {"\x81\x05" "a\xC3(", 5}, {"\x81\x7E\x00\x05", 4},
        {"\x81\x7F\x00\x00\x00\x00\x00\x00\x00\x05", 10},
        {"\x81\x7F\x00\x00\x00\x00\x7F\xFF\xFF\xFF", 10},
        {"\x81\x7F\x80\x00\x00\x00\x00\x00\x00\x05", 10}, {"\x89\x7E\x00\x7E", 4},
        {"\x09\x01", 2}, {"\x80\x02", 2}, {"\x01\x01{\x81\x02", 5}, {"\x88\x01", 2},
        {"\x88\x02\x03\xED", 4}, {"\x88\x04\x03\xE8\xC3(", 6}};
    server *s = start(SERVER_PUSHER);
    for (int kind = 1; kind < SERVER_BAD_COUNT; kind++) {
        server_faults f = {.bad_frame = (server_bad_frame)kind};
        server_set_faults(s, &f, 1);
        peer p = connected(s, SERVER_PUSHER);
        while (p.len < want[kind].len) {
            assert_true(peer_read(&p, PATIENCE_MS));
        }
        assert_memory_equal(p.in, want[kind].bytes, want[kind].len);
        peer_free(&p);
    }
    peer p = connected(s, SERVER_PUSHER);
    server_send_bad_frame(s, SERVER_BAD_MASKED);
    frame *f = calloc(1, sizeof *f);
    assert_true(peer_frame(&p, f, PATIENCE_MS));
    assert_true(f->masked);
    free(f);
    end(s, &p);
}

static void test_raw_bytes_ping_error(void **state)
{
    (void)state;
    static frame f;
    server *s = start(SERVER_PUSHER);
    peer p = connected(s, SERVER_PUSHER);
    server_send_bytes(s, "\x81\x02{}", 4);
    expect_text(&p, "{}");
    server_send_ping(s, "now", 3);
    assert_true(peer_frame(&p, &f, PATIENCE_MS));
    assert_int_equal(f.first, 0x89);
    assert_string_equal(f.text, "now");
    server_error_all(s, -1, "m", "ch");
    expect_text(&p, "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"m\"}}");
    server_publish(s, "cache-c", "e", "x");
    server_forget_cache(s, "cache-c");
    say_subscribe(&p, s, "cache-c", NULL);
    expect_part(&p, "succeeded");
    expect_part(&p, "cache_miss");
    end(s, &p);
}

static void test_stall(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer p = connected(s, SERVER_PUSHER);
    server_stall(s, true);
    server_publish_raw(s, NULL, "{}");
    peer q = peer_open(server_port(s)); /* the kernel accepts */
    peer_request(&q, usual_target, "");
    expect_silence(&p);
    assert_false(peer_read(&q, QUIET_MS));
    server_stall(s, false);
    expect_text(&p, "{}");
    char *head = peer_head(&q);
    free(head);
    read_id(&q, 120);
    peer_free(&q);
    end(s, &p);
}

/* ---- what it finds wrong in a client ---- */

static void test_violations(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t len; const char *text; int code; } bad[] = {
        {"\x81\x02{}", 4, "frame is not masked", 1002},
        {"\xC1\x80" "aaaa", 6, "reserved bit set", 1002},
        {"\x83\x80" "aaaa", 6, "unknown opcode", 1002},
        {"\x80\x80" "aaaa", 6, "continuation of nothing", 1002},
        {"\x01\x80" "aaaa\x81\x80" "aaaa", 12, "new message inside another", 1002},
        {"\x09\x80" "aaaa", 6, "bad frame length or fragmented control frame", 1002},
        {"\x81\x81\x00\x00\x00\x00\xFF", 7, "text is not UTF-8", 1007},
        {"\x88\x82\x00\x00\x00\x00\x03\xED", 8, "bad close frame", 1002}};
    server *s = start(SERVER_PUSHER);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        peer p = connected(s, SERVER_PUSHER);
        peer_write(&p, bad[i].bytes, bad[i].len);
        expect_close(&p, bad[i].code, bad[i].text);
        assert_int_equal(server_log_count(s, SERVER_LOG_VIOLATION, bad[i].text), 1);
        peer_free(&p);
    }
    assert_int_equal(server_count(s).violations, sizeof bad / sizeof *bad);
    server_stop(s, SERVER_STOP_DIALECT);
}

static void test_fragments_in_and_log(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer p = connected(s, SERVER_PUSHER);
    peer_send_frame(&p, 0x01, "{\"event\":\"pusher", 16);
    peer_send_frame(&p, 0x8A, "k", 1);
    peer_send_frame(&p, 0x80, ":ping\"}", 7);
    expect_text(&p, "{\"event\":\"pusher:pong\",\"data\":{}}");
    server_log *log = server_log_copy(s);
    assert_int_equal(log->count, 4);
    assert_int_equal(log->entries[0].kind, SERVER_LOG_ACCEPT);
    assert_int_equal(log->entries[1].kind, SERVER_LOG_REQUEST);
    assert_non_null(strstr(log->entries[1].text, "GET /app/app-key?protocol=7&client=test"));
    assert_int_equal(log->entries[2].kind, SERVER_LOG_PONG);
    assert_int_equal(log->entries[3].kind, SERVER_LOG_TEXT);
    assert_string_equal(log->entries[3].text, "{\"event\":\"pusher:ping\"}");
    assert_int_equal(log->entries[3].connection, 1);
    server_log_free(log);
    assert_int_equal(server_count(s).texts_in, 1);
    assert_int_equal(server_count(s).texts_out, 2);
    end(s, &p);
}

/* ---- HTTP ---- */

static char *http(server *s, const char *path, const char *body)
{
    peer p = peer_open(server_port(s));
    char text[1024];
    int n = snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n%s", path, strlen(body), body);
    peer_write(&p, text, (size_t)n);
    while (peer_read(&p, PATIENCE_MS)) {
    }
    assert_true(p.eof);
    char *answer = p.in;
    p.in = NULL;
    peer_free(&p);
    return answer;
}

static void expect_http(server *s, const char *path, const char *body, const char *first,
                        const char *part)
{
    char *answer = http(s, path, body);
    assert_int_equal(strncmp(answer, first, strlen(first)), 0);
    if (!strstr(answer, part)) {
        fail_msg("expected %s in %s", part, answer);
    }
    free(answer);
}

static void test_http_publish(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer p = subscribed(s, SERVER_PUSHER);
    expect_http(s, "/apps/1/events", "{\"name\":\"e\",\"channels\":[\"a\",\"ch\"],\"data\":"
                "\"{\\\"k\\\":1}\"}", "HTTP/1.1 200 OK\r\n", "\r\n\r\n{}");
    expect_text(&p, "{\"event\":\"e\",\"data\":\"{\\\"k\\\":1}\",\"channel\":\"ch\"}");
    expect_http(s, "/apps/1/batch_events", "{\"batch\":[{\"name\":\"f\",\"channel\":\"ch\","
                "\"data\":\"x\"}]}", "HTTP/1.1 200 OK\r\n", "{}");
    expect_part(&p, "\"f\"");
    expect_http(s, "/apps/1/events", "{\"name\":\"e\"}", "HTTP/1.1 400 ", "channels");
    expect_http(s, "/nowhere", "", "HTTP/1.1 404 ", "Content-Length: 0");
    expect_silence(&p);
    end(s, &p);
}

static void test_http_check(void **state)
{
    (void)state;
    static const char body[] = "{\"name\":\"e\",\"channel\":\"ch\",\"data\":\"x\"}";
    /* md5 of the body, computed elsewhere */
    static const char query[] = "auth_key=app-key&auth_timestamp=1&auth_version=1.0&"
                                "body_md5=472ddde4e0049deb33df6972e58771be";
    char text[512], hex[65], path[512];
    server_options o = {0};
    o.check_http = true;
    server *s = server_start(&o);
    expect_http(s, "/apps/1/events", body, "HTTP/1.1 401 ", "Invalid signature");
    snprintf(text, sizeof text, "POST\n/apps/1/events\n%s", query);
    server_sign(s, text, hex);
    snprintf(path, sizeof path, "/apps/1/events?%s&auth_signature=%s", query, hex);
    expect_http(s, path, body, "HTTP/1.1 200 ", "{}");
    hex[0] = hex[0] == '0' ? '1' : '0';
    snprintf(path, sizeof path, "/apps/1/events?%s&auth_signature=%s", query, hex);
    expect_http(s, path, body, "HTTP/1.1 401 ", "Invalid signature");
    server_stop(s, SERVER_STOP_DIALECT);
}

static void test_http_auth(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    char want[256], hex[65];
    server_sign(s, "1.2:private-a;b", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\"}", hex);
    expect_http(s, "/pusher/auth", "socket_id=1.2&channel_name=private-a%3Bb",
                "HTTP/1.1 200 ", want);
    server_sign(s, "1.2:presence-a:{\"user_id\":\"u\",\"user_info\":{}}", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\",\"channel_data\":"
             "\"{\\\"user_id\\\":\\\"u\\\",\\\"user_info\\\":{}}\"}", hex);
    expect_http(s, "/pusher/auth", "socket_id=1.2&channel_name=presence-a&user_id=u",
                "HTTP/1.1 200 ", want);
    server_sign(s, "1.2::user::{\"id\":\"u\"}", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\",\"user_data\":"
             "\"{\\\"id\\\":\\\"u\\\"}\"}", hex);
    expect_http(s, "/pusher/user-auth", "socket_id=1.2&user_id=u", "HTTP/1.1 200 ", want);
    server_stop(s, SERVER_STOP_DIALECT);
}

static void test_auth_data(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    char want[256], hex[65];
    server_sign(s, "1.2:presence-a:{\"user_id\":7}", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\",\"channel_data\":"
             "\"{\\\"user_id\\\":7}\"}", hex);
    expect_http(s, "/pusher/auth", "socket_id=1.2&channel_name=presence-a&user_id=u&"
                "channel_data=%7B%22user_id%22%3A7%7D", "HTTP/1.1 200 ", want);
    server_sign(s, "1.2::user::{}", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\",\"user_data\":\"{}\"}", hex);
    expect_http(s, "/pusher/user-auth", "socket_id=1.2&user_data=%7B%7D", "HTTP/1.1 200 ", want);
    assert_int_equal(server_log_count(s, SERVER_LOG_FORM, "user_data=%7B%7D"), 1);
    assert_int_equal(server_count(s).violations, 0);
    expect_http(s, "/pusher/auth", "socket_id=1.2", "HTTP/1.1 400 ", "{}");
    assert_int_equal(server_count(s).violations, 1);
    server_stop(s, SERVER_STOP_DIALECT);
}

/* The protocol's own vectors: master key 0, 1 .. 31, nonce 0x40 .. 0x57. */
static void test_seal_vectors(void **state)
{
    (void)state;
    static const struct { const char *text, *hex; } boxes[] = {
        {"{\"hello\":\"world\"}", "04eac6f9b74ce3383020a735e52a3b8a35a51b2f8ce5460dd7b6f1e5793f793a"
         "9e"},
        {"plain text", "5c579214b9143c7f1d514d3a7eecb1303eeb12238ea95d4a95e0"},
        {"", "8ec946d4171bbc1b13a852adfa2ae6aa"}};
    /* SHA-256("private-encrypted-test" and the master key) */
    static const unsigned char key[32] = {
        0xe6, 0xc8, 0xc7, 0xf5, 0x2d, 0xbf, 0xa8, 0x60, 0x10, 0x2a, 0x31, 0x10, 0x30, 0x15, 0x06,
        0xf5, 0xb2, 0x06, 0x35, 0xdf, 0x3b, 0x2b, 0xb6, 0x55, 0xf5, 0x21, 0xe0, 0xda, 0xb8, 0x0a,
        0x8a, 0x57};
    unsigned char nonce[SEAL_NONCE], box[64];
    for (unsigned char i = 0; i < sizeof nonce; i++) {
        nonce[i] = (unsigned char)(0x40 + i);
    }
    for (size_t i = 0; i < 3; i++) {
        char hex[129] = "";
        size_t len = strlen(boxes[i].text);
        seal_box(box, boxes[i].text, len, nonce, key);
        for (size_t k = 0; k < SEAL_TAG + len; k++) {
            snprintf(hex + 2 * k, 3, "%02x", box[k]);
        }
        assert_string_equal(hex, boxes[i].hex);
    }
}

static void test_encrypted(void **state)
{
    (void)state;
    static const char form[] = "socket_id=1.2&channel_name=private-encrypted-test";
    static const char ones[] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    static const char quoted[] = "\"data\":\"{\\\"ciphertext\\\":\\\"";
    static frame f, again;
    server_faults faults = {0};
    server *s = start(SERVER_PUSHER);
    expect_http(s, "/pusher/auth", form, "HTTP/1.1 200 ",
                "\"shared_secret\":\"5sjH9S2/qGAQKjEQMBUG9bIGNd87K7ZV9SHg2rgKilc=\"}");
    peer p = connected(s, SERVER_PUSHER);
    say_subscribe(&p, s, "private-encrypted-test", NULL);
    expect_part(&p, "subscription_succeeded");
    server_publish_sealed(s, "private-encrypted-test", "e", "{}", NULL);
    server_publish_sealed(s, "private-encrypted-test", "e", "{}", NULL);
    assert_true(peer_frame(&p, &f, PATIENCE_MS) && peer_frame(&p, &again, PATIENCE_MS));
    const char *at = strstr(f.text, quoted);
    assert_non_null(at);
    at += strlen(quoted);
    assert_int_equal(strcspn(at, "\\"), 24); /* 18 bytes in base64 */
    assert_non_null(strstr(at, "\\\",\\\"nonce\\\":\\\""));
    assert_int_not_equal(strcmp(f.text, again.text), 0); /* another nonce each time */
    assert_false(server_set_master_key(s, "AAAA"));
    assert_true(server_set_master_key(s, ones));
    expect_http(s, "/pusher/auth", form, "HTTP/1.1 200 ",
                "\"shared_secret\":\"xy37y/e/AAbtohwLl0tkS7+OKqWU5VpykIcryEzlhTE=\"}");
    faults.auth_secret_bytes = 31;
    server_set_faults(s, &faults, 1);
    expect_http(s, "/pusher/auth", form, "HTTP/1.1 200 ",
                "\"shared_secret\":\"xy37y/e/AAbtohwLl0tkS7+OKqWU5VpykIcryEzlhQ==\"}");
    faults.auth_no_secret = true;
    server_set_faults(s, &faults, 1);
    char *answer = http(s, "/pusher/auth", form);
    assert_null(strstr(answer, "shared_secret"));
    free(answer);
    end(s, &p);
}

static void say_auth(peer *p, const char *more)
{
    char text[256];
    int n = snprintf(text, sizeof text, "POST /pusher/auth HTTP/1.1\r\nHost: a\r\n%s"
                     "Content-Length: 34\r\n\r\nsocket_id=1.2&channel_name=private", more);
    peer_write(p, text, (size_t)n - 1);
    peer_write(p, text + n - 1, 1);
}

static void expect_auth(peer *p, const char *in_head, const char *body)
{
    char *head = peer_head(p);
    if (!strstr(head, in_head)) {
        fail_msg("expected %s in %s", in_head, head);
    }
    free(head);
    while (p->len < strlen(body) && peer_read(p, PATIENCE_MS)) {
    }
    assert_memory_equal(p->in, body, strlen(body));
    peer_take(p, strlen(body));
}

static void test_auth_keeps_alive(void **state)
{
    (void)state;
    server *s = start(SERVER_PUSHER);
    peer p = peer_open(server_port(s));
    char hex[65], want[128];
    server_sign(s, "1.2:private", hex);
    snprintf(want, sizeof want, "{\"auth\":\"app-key:%s\"}", hex);
    say_auth(&p, "");
    expect_auth(&p, "Connection: keep-alive\r\n", want);
    say_auth(&p, ""); /* two at once */
    say_auth(&p, "");
    expect_auth(&p, "Connection: keep-alive\r\n", want);
    expect_auth(&p, "HTTP/1.1 200 OK\r\n", want);
    say_auth(&p, "Connection: close\r\n");
    expect_auth(&p, "Connection: close\r\n", want);
    expect_end(&p, false);
    assert_int_equal(server_count(s).accepted, 1);
    assert_int_equal(server_log_count(s, SERVER_LOG_FORM, NULL), 4);
    end(s, &p);
}

static void test_auth_faults(void **state)
{
    (void)state;
    server_faults f = {0};
    f.auth_status = 302;
    strcpy(f.auth_location, "http://127.0.0.1/x");
    server *s = start_with(&f);
    peer p = peer_open(server_port(s));
    say_auth(&p, "");
    expect_auth(&p, "HTTP/1.1 302 As asked\r\n", "Forbidden");
    memset(&f, 0, sizeof f);
    f.auth_chunked = true;
    f.auth_delay_ms = 2 * QUIET_MS;
    strcpy(f.auth_body, "twelve bytes");
    server_set_faults_now(s, &f);
    say_auth(&p, "");
    say_auth(&p, ""); /* waits for the first one's answer */
    expect_silence(&p);
    expect_auth(&p, "Transfer-Encoding: chunked\r\n", "7\r\ntwelve \r\n5\r\nbytes\r\n0\r\n\r\n");
    expect_silence(&p);
    expect_auth(&p, "HTTP/1.1 200 OK\r\n", "7\r\ntwelve \r\n5\r\nbytes\r\n0\r\n\r\n");
    memset(&f, 0, sizeof f);
    f.auth_close = true;
    server_set_faults_now(s, &f);
    say_auth(&p, "");
    expect_auth(&p, "Connection: close\r\n", "{\"auth\":\"app-key:");
    while (peer_read(&p, PATIENCE_MS)) {
    }
    assert_true(p.eof && !p.reset);
    peer_free(&p);
    f.never_auth = true;
    server_set_faults(s, &f, 1);
    p = peer_open(server_port(s));
    say_auth(&p, "");
    expect_silence(&p);
    end(s, &p);
}

/* pusher.com: a member without channel_data is the signed-in user. */
static void test_presence_of_user(void **state)
{
    (void)state;
    server_faults f = {0};
    f.auth_no_data = true;
    server *s = start_with(&f);
    char text[512], hex[65];
    char *answer = http(s, "/pusher/auth", "socket_id=1.2&channel_name=presence-a");
    assert_null(strstr(answer, "channel_data"));
    free(answer);
    peer p = connected(s, SERVER_PUSHER);
    say_subscribe(&p, s, "presence-a", NULL);
    expect_part(&p, "Invalid channel_data");
    snprintf(text, sizeof text, "%s::user::{\"id\":\"u\",\"user_info\":{\"n\":1}}", p.id);
    server_sign(s, text, hex);
    snprintf(text, sizeof text, "{\"event\":\"pusher:signin\",\"data\":{\"auth\":\"app-key:%s\","
             "\"user_data\":\"{\\\"id\\\":\\\"u\\\",\\\"user_info\\\":{\\\"n\\\":1}}\"}}", hex);
    peer_say(&p, text);
    expect_part(&p, "signin_success");
    say_subscribe(&p, s, "presence-a", NULL);
    expect_part(&p, "{\\\"presence\\\":{\\\"ids\\\":[\\\"u\\\"],\\\"hash\\\":{\\\"u\\\":{\\\"n\\\":1}}");
    end(s, &p);
}

/* ---- the server's functions as lines of text ---- */

static void expect_answer(control *c, const char *line, const char *want)
{
    char copy[512], answer[8192] = "";
    FILE *to = fmemopen(answer, sizeof answer, "w");
    assert_non_null(to);
    snprintf(copy, sizeof copy, "%s", line);
    control_line(c, copy, to);
    fclose(to);
    assert_string_equal(answer, want);
}

static void test_control(void **state)
{
    (void)state;
    server_options o = {0};
    control c = {server_start(&o), o};
    peer p = subscribed(c.s, SERVER_PUSHER);
    expect_answer(&c, "subscribers ch 1", "ok\n");
    expect_answer(&c, "subscribers ch 2 1", "no 1\n");
    expect_answer(&c, "connections 1", "ok\n");
    expect_answer(&c, "publish ch two%20words {\"a\": \"50%25%0A%zz%\"}", "ok\n");
    expect_text(&p, "{\"event\":\"two words\",\"data\":\"{\\\"a\\\": \\\"50%\\n%zz%\\\"}\","
                "\"channel\":\"ch\"}");
    expect_answer(&c, "publish ch empty", "ok\n");
    expect_text(&p, "{\"event\":\"empty\",\"data\":\"\",\"channel\":\"ch\"}");
    expect_answer(&c, "seal ch e x", "ok\n");
    expect_part(&p, "ciphertext");
    expect_answer(&c, "raw ch {\"to\": \"ch\"}", "ok\n");
    expect_text(&p, "{\"to\": \"ch\"}");
    expect_answer(&c, "raw other {}", "ok\n");
    expect_answer(&c, "raw - {}", "ok\n");
    expect_text(&p, "{}");
    expect_answer(&c, "bytes %81%02{}%81%01%00", "ok\n");
    expect_text(&p, "{}");
    static frame f;
    assert_true(peer_frame(&p, &f, PATIENCE_MS));
    assert_int_equal(f.len, 1);
    expect_answer(&c, "ping hey", "ok\n");
    assert_true(peer_frame(&p, &f, PATIENCE_MS));
    assert_int_equal(f.first, 0x89);
    expect_answer(&c, "error 4301 - not so fast", "ok\n");
    expect_text(&p, "{\"event\":\"pusher:error\",\"data\":{\"code\":4301,\"message\":"
                "\"not so fast\"}}");
    expect_answer(&c, "flood ch f 1", "ok\n");
    expect_part(&p, "{\\\"n\\\":1}");
    expect_answer(&c, "bad-frame 1", "ok\n");
    assert_true(peer_frame(&p, &f, PATIENCE_MS));
    assert_int_equal(f.first, 0x82);
    expect_answer(&c, "wait text 1 subscribe", "ok\n");
    expect_answer(&c, "wait nothing 1", "no no such kind\n");
    expect_answer(&c, "log 2", "ok [{\"kind\":\"text\",\"connection\":1,\"code\":0,\"text\":"
                  "\"{\\u0022event\\u0022:\\u0022pusher:subscribe\\u0022,\\u0022data\\u0022:"
                  "{\\u0022channel\\u0022:\\u0022ch\\u0022}}\"}]\n");
    expect_answer(&c, "log 3", "ok []\n");
    expect_answer(&c, "close 4100 so%20long then", "ok\n");
    expect_answer(&c, "sockets 0 1", "no\n"); /* it waits for our side */
    expect_answer(&c, "connections 0", "ok\n");
    expect_close(&p, 4100, "so long then");
    peer_free(&p);
    expect_answer(&c, "sockets 0", "ok\n");
    server_stop(c.s, SERVER_STOP_DIALECT);
}

static void test_control_of_faults(void **state)
{
    (void)state;
    server_options o = {0};
    control c = {server_start(&o), o};
    expect_answer(&c, "faults 1 http_status=503 http_reason=Not%20now", "ok\n");
    peer p = peer_open(server_port(c.s));
    peer_request(&p, usual_target, "");
    char *head = peer_head(&p);
    assert_int_equal(strncmp(head, "HTTP/1.1 503 Not now\r\n", 22), 0);
    free(head);
    peer_free(&p);
    p = connected(c.s, SERVER_PUSHER);
    expect_answer(&c, "faults-now never_pong=1 fragment=3", "ok\n");
    peer_say(&p, "{\"event\":\"pusher:ping\"}");
    expect_silence(&p);
    expect_answer(&c, "faults-now", "ok\n");
    peer_say(&p, "{\"event\":\"pusher:ping\"}");
    expect_part(&p, "pong");
    expect_answer(&c, "faults 0 no_such_fault=1", "no no such fault\n");
    expect_answer(&c, "faults 0 auth_location=0123456789012345678901234567890123456789012345678901"
                  "234567890123456789012345678901234567890123456789012345678901234567890123456789",
                  "no no such fault\n");
    expect_answer(&c, "stall on", "ok\n");
    peer_say(&p, "{\"event\":\"pusher:ping\"}");
    expect_silence(&p);
    expect_answer(&c, "stall off", "ok\n");
    expect_part(&p, "pong");
    uint16_t port = server_port(c.s);
    expect_answer(&c, "stop reset", "ok\n");
    expect_end(&p, true);
    expect_answer(&c, "log", "no stopped\n");
    expect_answer(&c, "start", "ok\n");
    assert_int_equal(server_port(c.s), port);
    expect_answer(&c, "start", "ok\n");
    expect_answer(&c, "master-key AAAA", "no not 32 bytes in base64\n");
    expect_answer(&c, "raw -", "no too few words\n");
    expect_answer(&c, "nonsense", "no no such command\n");
    expect_answer(&c, "", "no no such command\n");
    end(c.s, &p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_established_and_glued),
        cmocka_unit_test(test_public_events),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_pong),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_protocol_and_path),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_private_and_refusal),
        cmocka_unit_test(test_signature_vector),
        cmocka_unit_test(test_presence),
        cmocka_unit_test(test_presence_oddities),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_client_events),
        cmocka_unit_test(test_client_event_limits),
        cmocka_unit_test(test_invalid_messages),
        cmocka_unit_test(test_soketi_dies_of_bad_subscribe),
        cmocka_unit_test(test_signin),
        cmocka_unit_test(test_watchlist),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_names_and_doubles),
        cmocka_unit_test(test_poor_upgrade),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_http_faults),
        cmocka_unit_test(test_endless_header),
        cmocka_unit_test(test_delays_and_silence),
        cmocka_unit_test(test_established_faults),
        cmocka_unit_test(test_subscription_faults),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_drip),
        cmocka_unit_test(test_close_after),
        cmocka_unit_test(test_close_all),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_client_close),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_raw_bytes_ping_error),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_fragments_in_and_log),
        cmocka_unit_test(test_http_publish),
        cmocka_unit_test(test_http_check),
        cmocka_unit_test(test_http_auth),
        cmocka_unit_test(test_auth_data),
        cmocka_unit_test(test_seal_vectors),
        cmocka_unit_test(test_encrypted),
        cmocka_unit_test(test_auth_keeps_alive),
        cmocka_unit_test(test_auth_faults),
        cmocka_unit_test(test_presence_of_user),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_control_of_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
