/*
 * worst.c - the longest pusher_poll() in moments that are heavy by nature: the members of a large
 * presence channel come in one message; thousands of private channels are authorized once more
 * after the connection was lost.
 *
 * The median of the rounds' worst polls: a single one is as long as the machine was busy elsewhere.
 */
#include "bench.h"

typedef struct heavy {
    bench_wire wire;
    pusher_client *client;
    size_t n;             /* members or channels                          */
    double *worst_ns;     /* of each round                                */
    size_t rounds, polls; /* so far; of the last round                    */
} heavy;

static double worst(heavy *h)
{
    return bench_median(h->worst_ns, h->rounds) / 1e3;
}

static void start(heavy *h, const pusher_options *options)
{
    h->client = bench_create(options);
    h->worst_ns = (double *)bench_alloc(64 * sizeof *h->worst_ns);
}

static void stop(heavy *h)
{
    pusher_destroy(h->client);
    free(h->worst_ns);
}

/* Loses the connection and polls until all channels are back. */
static double run_reconnect(void *context)
{
    heavy *h = (heavy *)context;
    size_t channels = h->wire.server.snapshot ? 1 : h->n;
    bench_cost cost;
    h->wire.hang_up = true;
    pusher_poll(h->client, ++h->wire.now_ms);
    if (pusher_get_state(h->client) == PUSHER_CONNECTED)
        bench_die("the loss of the connection went unnoticed");
    pusher_reconnect_now(h->client);
    bench_server_reset(&h->wire.server);
    cost = bench_settle(h->client, &h->wire, channels);
    h->worst_ns[h->rounds++ % 64] = cost.worst_ns;
    h->polls = cost.polls;
    return cost.total_ns;
}

/* ---- a snapshot ------------------------------------------------------------------------------ */

static double run_validate(void *context)
{
    bench_bytes *frame = (bench_bytes *)context;
    uint64_t begin = bench_ns();
    if (!psh_json_valid((const char *)frame->at + 10, frame->len - 10)) bench_die("no JSON");
    return (double)(bench_ns() - begin);
}

static void snapshots(void)
{
    static heavy sizes[2];
    static bench_bytes frames[2];
    bench_side sides[3];
    for (size_t i = 0; i < 2; i++) {
        heavy *h = &sizes[i];
        pusher_options options = bench_options(&h->wire);
        h->n = i == 0 ? 5000 : 10000;
        bench_add_snapshot(&frames[i], h->n);
        h->wire.server.snapshot = &frames[i];
        options.auth.request_fn = bench_on_auth;
        options.max_message_bytes = 1 << 20;
        start(h, &options);
        bench_subscribe(h->client, BENCH_ROOM);
        bench_connect(h->client, &h->wire, 1);
        if (pusher_member_count(h->client, pusher_find_channel(h->client, BENCH_ROOM)) != h->n)
            bench_die("the members are not there");
        sides[i].run_fn = run_reconnect;
        sides[i].context = h;
    }
    sides[2].run_fn = run_validate;
    sides[2].context = &frames[1];
    bench_rounds(sides, 3, bench_pick(15, 3));
    for (size_t i = 0; i < 2; i++)
        bench_say("worst", "%zu members, %zu bytes: worst poll %.2f ms of %zu", sizes[i].n,
                  frames[i].len, worst(&sizes[i]) / 1e3, sizes[i].polls);
    bench_row("worst", worst(&sizes[1]) / worst(&sizes[0]), BENCH_AT_MOST, 2.2,
              "poll with 10 000 members to 5 000; it is %.1f times one check of the message's JSON",
              worst(&sizes[1]) / (sides[2].median / 1e3));
    for (size_t i = 0; i < 2; i++) {
        stop(&sizes[i]);
        free(frames[i].at);
    }
}

/* ---- authorization --------------------------------------------------------------------------- */

/* One text for all of a call, as an endpoint for batches answers. */
static void on_batch(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                     void *user_data)
{
    bench_bytes *body = (bench_bytes *)user_data;
    body->len = 0;
    for (uint32_t i = 0; i < count; i++) {
        char part[256];
        int len = snprintf(part, sizeof part, "%c\"%s\":%s", i == 0 ? '{' : ',',
                           requests[i].channel_name, BENCH_GRANT_PRIVATE);
        bench_add(body, part, (size_t)len);
    }
    bench_add(body, "}", 1);
    if (pusher_auth_accept_batch(client, requests[0].ticket, (const char *)body->at, body->len) !=
        PUSHER_OK)
        bench_die("pusher_auth_accept_batch: %s", pusher_last_error(client)->message);
}

enum { ONE_BY_ONE, BATCH, SECRET, WAYS };

static void authorizing(const char *name, int way)
{
    static const size_t sizes[] = {5000, 10000};
    static heavy all[WAYS][2];
    static bench_bytes body;
    bench_side sides[2];
    for (size_t i = 0; i < 2; i++) {
        heavy *h = &all[way][i];
        pusher_options options = bench_options(&h->wire);
        h->n = sizes[i];
        options.auth.request_fn = way == BATCH ? on_batch : way == SECRET ? NULL : bench_on_auth;
        options.auth.user_data = &body;
        options.auth.max_batch = way == BATCH ? 65536 : 1;
        options.auth.secret = way == SECRET ? "7ad3773142a6692b25b8" : NULL;
        start(h, &options);
        for (size_t k = 0; k < h->n; k++) {
            char channel[32];
            snprintf(channel, sizeof channel, "private-%06u", (unsigned)k);
            bench_subscribe(h->client, channel);
        }
        bench_connect(h->client, &h->wire, h->n);
        sides[i].run_fn = run_reconnect;
        sides[i].context = h;
    }
    bench_rounds(sides, 2, bench_pick(15, 3));
    bench_row("worst", sides[1].median / sides[0].median, BENCH_AT_MOST, 2.2,
              "10 000 private channels back, authorized %s: %.1f ms in %zu polls, the worst "
              "%.0f us (5 000: %.0f us); all of it to that of 5 000",
              name, sides[1].median / 1e6, all[way][1].polls, worst(&all[way][1]),
              worst(&all[way][0]));
    for (size_t i = 0; i < 2; i++)
        stop(&all[way][i]);
}

int main(void)
{
    snapshots();
    authorizing("one by one", ONE_BY_ONE);
    authorizing("in one batch", BATCH);
    authorizing("by secret", SECRET);
    return 0;
}
