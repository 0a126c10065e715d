/*
 * hostile.c - input made to cost time: twice as much of it must not cost more than twice.
 *
 * Each input is fed once of size n and once of size 2n. Whatever the client answers (an event, an
 * error, the end of the connection) is right here; only the growth of the time is looked at.
 */
#include "bench.h"

enum { LIMIT = 16 * 1024 * 1024, ARENA = 4 * LIMIT };

typedef void (*make_fn)(bench_bytes *bytes, size_t n);

static void put(bench_bytes *bytes, const char *text)
{
    bench_add(bytes, text, strlen(text));
}

static void put_many(bench_bytes *bytes, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put(bytes, text);
}

static void send_text(bench_bytes *bytes, bench_bytes *text)
{
    bench_add_frame(bytes, BENCH_FIN | BENCH_TEXT, text->at, text->len);
    free(text->at);
}

static void start_event(bench_bytes *text, const char *data)
{
    put(text, "{\"event\":\"message\",\"channel\":\"channel-000000\",\"data\":");
    put(text, data);
}

static void make_fragments(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    start_event(&text, "\"");
    put_many(&text, "x", n);
    put(&text, "\"}");
    for (size_t i = 0; i < text.len; i++)
        bench_add_frame(bytes,
                        (i == 0 ? BENCH_TEXT : BENCH_CONTINUATION) |
                            (i + 1 == text.len ? BENCH_FIN : 0u),
                        text.at + i, 1);
    free(text.at);
}

static void make_empty_fragments(bench_bytes *bytes, size_t n)
{
    bench_add_frame(bytes, BENCH_TEXT, "{", 1);
    for (size_t i = 0; i < n; i++)
        bench_add_frame(bytes, BENCH_CONTINUATION, "", 0);
    bench_add_frame(bytes, BENCH_CONTINUATION | BENCH_FIN, "}", 1);
}

static void make_nesting(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    start_event(&text, "");
    put_many(&text, "[", n);
    put_many(&text, "]", n);
    put(&text, "}");
    send_text(bytes, &text);
}

static void make_open_nesting(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    start_event(&text, "");
    put_many(&text, "{\"a\":[", n);
    send_text(bytes, &text);
}

static void make_keys(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    put(&text, "{");
    for (size_t i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "\"key%08u\":[0],", (unsigned)i);
        put(&text, key);
    }
    put(&text, "\"event\":\"message\",\"channel\":\"channel-000000\",\"data\":1}");
    send_text(bytes, &text);
}

static void make_same_keys(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    put(&text, "{");
    put_many(&text, "\"event\":\"message\",\"data\":\"{}\",", n);
    put(&text, "\"channel\":\"channel-000000\"}");
    send_text(bytes, &text);
}

static void make_data_keys(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    put(&text, "{\"event\":\"pusher:error\",\"data\":{");
    put_many(&text, "\"x\":{\"code\":1},", n);
    put(&text, "\"code\":null,\"message\":\"m\"}}");
    send_text(bytes, &text);
}

static void make_escapes(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    start_event(&text, "\"");
    put_many(&text, "\\u00e9\\\\\\\"\\ud83d\\ude00", n);
    put(&text, "\"}");
    send_text(bytes, &text);
}

static void make_broken_escapes(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    start_event(&text, "\"");
    put_many(&text, "\\ud83d", n);
    put(&text, "\"}");
    send_text(bytes, &text);
}

static void make_spaces(bench_bytes *bytes, size_t n)
{
    bench_bytes text = {NULL, 0, 0};
    put_many(&text, " \n", n);
    put(&text, "{}");
    send_text(bytes, &text);
}

static void make_pings(bench_bytes *bytes, size_t n)
{
    char payload[125];
    memset(payload, 'p', sizeof payload);
    for (size_t i = 0; i < n; i++)
        bench_add_frame(bytes, BENCH_FIN | BENCH_PING, payload, sizeof payload);
}

static void make_pusher_pings(bench_bytes *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bench_add_text(bytes, "{\"event\":\"pusher:ping\",\"data\":{}}");
}

static void make_garbage(bench_bytes *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bench_add_text(bytes, "{");
}

static void make_unasked(bench_bytes *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[128];
        snprintf(text, sizeof text,
                 "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"no%u\"}",
                 (unsigned)i);
        bench_add_text(bytes, text);
    }
}

/* ---- the measurement ----------------------------------------------------------------------- */

typedef struct attack {
    bench_bytes bytes;
    size_t limit; /* of a message; 0 = the default                  */
    bool stuck;   /* the client cannot send                         */
    bool lost;    /* the client ended the connection                */
    double worst_ns;
} attack;

static int send_nothing(void *stream, const void *buf, size_t len)
{
    bench_wire *wire = (bench_wire *)stream;
    return wire->stream ? PUSHER_IO_WANT_WRITE : bench_wire_send(stream, buf, len);
}

/* A new client each time: what one input leaves behind is not the next one's cost. */
static double run(void *context)
{
    static bench_arena arena;
    attack *a = (attack *)context;
    bench_wire wire;
    bench_count count = {0, 0};
    pusher_options options = bench_options(&wire);
    pusher_client *client;
    double total = 0;
    memset(&wire, 0, sizeof wire);
    options.max_message_bytes = (uint32_t)a->limit;
    bench_arena_use(&options, &arena, ARENA);
    if (a->stuck) options.transport.send_fn = send_nothing;
    client = bench_create(&options);
    bench_subscribe_all(client, 1, &count);
    bench_connect(client, &wire, 1);
    wire.stream = a->bytes.at;
    wire.stream_len = a->bytes.len;
    wire.stream_left = a->bytes.len;
    do {
        uint64_t start = bench_ns();
        double took;
        pusher_poll(client, wire.now_ms);
        took = (double)(bench_ns() - start);
        total += took;
        a->worst_ns = took > a->worst_ns ? took : a->worst_ns;
        wire.sent.len = 0;
        a->lost = pusher_get_state(client) != PUSHER_CONNECTED;
    } while (wire.stream_left > 0 && !a->lost);
    pusher_destroy(client);
    free(wire.sent.at);
    free(wire.server.in.at);
    free(wire.server.out.at);
    return total;
}

static void measure(const char *what, make_fn make, size_t n, size_t limit, bool stuck)
{
    attack attacks[2];
    bench_side sides[2];
    memset(attacks, 0, sizeof attacks);
    for (size_t i = 0; i < 2; i++) {
        attacks[i].limit = limit;
        attacks[i].stuck = stuck;
        make(&attacks[i].bytes, n << i);
        sides[i].run_fn = run;
        sides[i].context = &attacks[i];
    }
    bench_rounds(sides, 2, bench_pick(9, 3));
    bench_row("hostile", sides[1].median / sides[0].median, BENCH_AT_MOST, 2.2,
              "%zu %s %.2f ms, twice as many %.2f ms, worst poll %.2f ms%s", n, what,
              sides[0].median / 1e6, sides[1].median / 1e6, attacks[1].worst_ns / 1e6,
              attacks[1].lost ? ", connection ended" : "");
    free(attacks[0].bytes.at);
    free(attacks[1].bytes.at);
}

int main(void)
{
    size_t n = bench_pick(200000, 20000);
    measure("fragments of one byte", make_fragments, n, LIMIT, false);
    measure("empty fragments", make_empty_fragments, n, LIMIT, false);
    measure("levels of nesting", make_nesting, n, LIMIT, false);
    measure("levels never closed", make_open_nesting, n, LIMIT, false);
    measure("members", make_keys, n, LIMIT, false);
    measure("times the same members", make_same_keys, n, LIMIT, false);
    measure("members in an error's data", make_data_keys, n, LIMIT, false);
    measure("groups of escapes", make_escapes, n, LIMIT, false);
    measure("lone surrogates", make_broken_escapes, n, LIMIT, false);
    measure("blank lines", make_spaces, n, LIMIT, false);
    measure("pings", make_pings, n, 0, false);
    measure("pings to a client that cannot send", make_pings, n, 0, true);
    measure("pusher:pings", make_pusher_pings, n, 0, false);
    measure("pusher:pings to a client that cannot send", make_pusher_pings, n, 0, true);
    measure("messages that are not JSON", make_garbage, n, 0, false);
    measure("acknowledgements nobody asked for", make_unasked, n, 0, false);
    return 0;
}
