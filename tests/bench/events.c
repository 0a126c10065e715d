/*
 * events.c - what the dearer events cost: one of an encrypted channel from bytes to handler, beside
 * libsodium opening the same box; a client event from pusher_trigger() to its masked frame in the
 * output, beside snprintf() and wslay's event layer.
 */
#include "bench.h"

#include <sodium.h>
#include <wslay/wslay.h>

enum { PLAIN = 1024, ENCRYPTED = 32, TRIGGERS = 20 };

/* ---- encrypted ------------------------------------------------------------------------------- */

#define VAULT "private-encrypted-vault"

typedef struct vault {
    bench_wire wire;
    pusher_client *client;
    bench_bytes block;
    bench_count count;
    size_t times;
    unsigned char key[32], nonce[24], sealed[PLAIN + 16];
} vault;

static void seal(vault *v, size_t number)
{
    char text[4096], nonce[64], box[PLAIN * 2], plain[PLAIN + 1];
    size_t len = (size_t)snprintf(plain, sizeof plain, "{\"id\":%06u,\"text\":\"", (unsigned)number);
    memset(plain + len, 'x', PLAIN - len);
    memcpy(plain + PLAIN - 2, "\"}", 3);
    memset(v->nonce, (int)number, sizeof v->nonce);
    crypto_secretbox_easy(v->sealed, (unsigned char *)plain, PLAIN, v->nonce, v->key);
    sodium_bin2base64(nonce, sizeof nonce, v->nonce, sizeof v->nonce,
                      sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(box, sizeof box, v->sealed, sizeof v->sealed, sodium_base64_VARIANT_ORIGINAL);
    snprintf(text, sizeof text,
             "{\"event\":\"message\",\"channel\":\"" VAULT "\",\"data\":"
             "\"{\\\"nonce\\\":\\\"%s\\\",\\\"ciphertext\\\":\\\"%s\\\"}\"}", nonce, box);
    bench_add_text(&v->block, text);
}

static double run_encrypted(void *context)
{
    vault *v = (vault *)context;
    uint64_t start = bench_ns();
    double took;
    bench_stream(v->client, &v->wire, (uint64_t)v->block.len * v->times);
    took = (double)(bench_ns() - start);
    if (v->count.events != v->times * ENCRYPTED || v->count.bytes != v->count.events * PLAIN)
        bench_die("%" PRIu64 " events opened", v->count.events);
    memset(&v->count, 0, sizeof v->count);
    return took / (double)(v->times * ENCRYPTED);
}

static double run_sodium(void *context)
{
    vault *v = (vault *)context;
    unsigned char plain[PLAIN];
    uint64_t start = bench_ns();
    for (size_t i = 0; i < v->times * ENCRYPTED; i++)
        if (crypto_secretbox_open_easy(plain, v->sealed, sizeof v->sealed, v->nonce, v->key) != 0)
            bench_die("libsodium did not open");
    return (double)(bench_ns() - start) / (double)(v->times * ENCRYPTED);
}

/* The library's own opening alone: what of the event is not the box. */
static double run_box(void *context)
{
    vault *v = (vault *)context;
    unsigned char place[PLAIN + 16];
    uint64_t start = bench_ns();
    for (size_t i = 0; i < v->times * ENCRYPTED; i++) {
        memcpy(place, v->sealed, sizeof place);
        if (!psh_codec_box_open(v->key, v->nonce, place, sizeof place)) bench_die("not opened");
    }
    return (double)(bench_ns() - start) / (double)(v->times * ENCRYPTED);
}

static void encrypted(void)
{
    static vault v;
    pusher_options options = bench_options(&v.wire);
    bench_side sides[] = {{run_encrypted, &v, 0}, {run_sodium, &v, 0}, {run_box, &v, 0}};
    for (size_t i = 0; i < sizeof v.key; i++)
        v.key[i] = (unsigned char)i; /* as BENCH_GRANT says */
    for (size_t i = 0; i < ENCRYPTED; i++)
        seal(&v, i);
    v.times = bench_pick(200, 30);
    options.auth.request_fn = bench_on_auth;
    v.client = bench_create(&options);
    bench_bind(v.client, bench_subscribe(v.client, VAULT), "message", bench_on_event, &v.count);
    bench_connect(v.client, &v.wire, 1);
    v.wire.stream = v.block.at;
    v.wire.stream_len = v.block.len;
    bench_rounds(sides, 3, bench_pick(15, 5));
    bench_row("encrypted", sides[0].median / sides[1].median, BENCH_AT_MOST, 6,
              "an event of 1 KiB from bytes to handler %.2f us, of which the box %.2f; libsodium "
              "opens it in %.2f", sides[0].median / 1e3, sides[2].median / 1e3,
              sides[1].median / 1e3);
    pusher_destroy(v.client);
    free(v.block.at);
}

/* ---- client events ---------------------------------------------------------------------------- */

#define TALK "private-talk"
#define SAID                                                                                       \
    "{\"from\":\"ada\",\"text\":\"The engine weaves algebraic patterns, just as a loom weaves.\"," \
    "\"x\":17,\"y\":4,\"id\":1234567}"

typedef struct talk {
    bench_wire wire;
    pusher_client *client;
    pusher_channel channel;
    wslay_event_context_ptr ws;
    bench_bytes sent; /* by the hobby client */
    size_t rounds;
} talk;

/* Only the calls are timed: a poll between them takes the bytes away. */
static double run_trigger(void *context)
{
    talk *t = (talk *)context;
    uint64_t took = 0;
    for (size_t round = 0; round < t->rounds; round++) {
        uint64_t start = bench_ns();
        for (size_t i = 0; i < TRIGGERS; i++)
            if (pusher_trigger(t->client, t->channel, "client-said", SAID, strlen(SAID)) !=
                PUSHER_OK)
                bench_die("pusher_trigger: %s", pusher_last_error(t->client)->message);
        took += bench_ns() - start;
        pusher_poll(t->client, t->wire.now_ms += 10);
        if (t->wire.sent.len < TRIGGERS * strlen(SAID)) bench_die("the events did not go out");
        bench_serve(&t->wire);
    }
    return (double)took / (double)(t->rounds * TRIGGERS);
}

static ssize_t hobby_send(wslay_event_context_ptr ws, const uint8_t *data, size_t len, int flags,
                          void *user_data)
{
    (void)ws, (void)flags;
    bench_add(&((talk *)user_data)->sent, data, len);
    return (ssize_t)len;
}

static int hobby_mask(wslay_event_context_ptr ws, uint8_t *buf, size_t len, void *user_data)
{
    (void)ws;
    return bench_wire_random(buf, len, &((talk *)user_data)->wire.random) ? 0 : -1;
}

static double run_hobby(void *context)
{
    talk *t = (talk *)context;
    uint64_t took = 0;
    for (size_t round = 0; round < t->rounds; round++) {
        uint64_t start = bench_ns();
        t->sent.len = 0;
        for (size_t i = 0; i < TRIGGERS; i++) {
            char text[512];
            struct wslay_event_msg message;
            int len = snprintf(text, sizeof text,
                               "{\"event\":\"%s\",\"channel\":\"%s\",\"data\":%s}", "client-said",
                               TALK, SAID);
            message.opcode = WSLAY_TEXT_FRAME;
            message.msg = (const uint8_t *)text;
            message.msg_length = (size_t)len;
            if (wslay_event_queue_msg(t->ws, &message) != 0 || wslay_event_send(t->ws) != 0)
                bench_die("wslay does not send");
        }
        took += bench_ns() - start;
    }
    return (double)took / (double)(t->rounds * TRIGGERS);
}

static void client_events(void)
{
    static talk t;
    pusher_options options = bench_options(&t.wire);
    struct wslay_event_callbacks callbacks;
    bench_side sides[] = {{run_trigger, &t, 0}, {run_hobby, &t, 0}};
    memset(&callbacks, 0, sizeof callbacks);
    callbacks.send_callback = hobby_send;
    callbacks.genmask_callback = hobby_mask;
    if (wslay_event_context_client_init(&t.ws, &callbacks, &t) != 0) bench_die("no wslay");
    t.rounds = bench_pick(2000, 200);
    options.auth.request_fn = bench_on_auth;
    options.client_events_per_s = 10000;
    options.activity_timeout_ms = 3600000;
    t.client = bench_create(&options);
    t.channel = bench_subscribe(t.client, TALK);
    bench_connect(t.client, &t.wire, 1);
    bench_rounds(sides, 2, bench_pick(15, 5));
    bench_row("trigger", sides[0].median / sides[1].median, BENCH_AT_MOST, 1,
              "a client event of %zu bytes, checked and staged, %.0f ns; snprintf and wslay %.0f ns",
              strlen(SAID), sides[0].median, sides[1].median);
    pusher_destroy(t.client);
    wslay_event_context_free(t.ws);
    free(t.sent.at);
}

int main(void)
{
    if (sodium_init() < 0) bench_die("no libsodium");
    encrypted();
    client_events();
    return 0;
}
