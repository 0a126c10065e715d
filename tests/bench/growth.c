/*
 * growth.c - what many channels cost: to subscribe, and to come back after a lost connection.
 */
#include "bench.h"

/* ---- subscribing --------------------------------------------------------------------------- */

typedef struct growth {
    size_t channels;
    double worst_ns; /* the worst single call of all rounds */
} growth;

static double run_subscribe(void *context)
{
    growth *g = (growth *)context;
    bench_wire wire;
    pusher_options options = bench_options(&wire);
    pusher_client *client;
    double total = 0;
    memset(&wire, 0, sizeof wire);
    client = bench_create(&options);
    for (size_t i = 0; i < g->channels; i++) {
        char name[BENCH_NAME];
        uint64_t start;
        double took;
        bench_channel_name(name, i);
        start = bench_ns();
        bench_subscribe(client, name);
        took = (double)(bench_ns() - start);
        total += took;
        g->worst_ns = took > g->worst_ns ? took : g->worst_ns;
    }
    pusher_destroy(client);
    return total / (double)g->channels;
}

static void subscribing(void)
{
    growth sizes[] = {{1000, 0}, {10000, 0}, {50000, 0}, {100000, 0}};
    bench_side sides[4];
    for (size_t i = 0; i < 4; i++) {
        sides[i].run_fn = run_subscribe;
        sides[i].context = &sizes[i];
    }
    bench_rounds(sides, 4, bench_pick(15, 3));
    for (size_t i = 0; i < 4; i++)
        bench_say("growth", "%zu channels: %.0f ns a pusher_subscribe, worst single call %.0f us",
                  sizes[i].channels, sides[i].median, sizes[i].worst_ns / 1e3);
    bench_row("growth", 2 * sides[3].median / sides[2].median, BENCH_AT_MOST, 2.2,
              "subscribing 100 000 channels %.1f ms, 50 000 channels %.1f ms", sides[3].median / 10,
              sides[2].median / 20);
}

/* ---- coming back --------------------------------------------------------------------------- */

typedef struct comeback {
    bench_wire wire;
    pusher_client *client;
    bench_count count;
    size_t channels;
    double worst_ns;
    uint64_t worst_bytes;
    size_t polls;
} comeback;

static double run_reconnect(void *context)
{
    comeback *c = (comeback *)context;
    bench_cost cost;
    c->wire.hang_up = true;
    pusher_poll(c->client, ++c->wire.now_ms);
    if (pusher_get_state(c->client) == PUSHER_CONNECTED)
        bench_die("the loss of the connection went unnoticed");
    pusher_reconnect_now(c->client);
    bench_server_reset(&c->wire.server);
    cost = bench_settle(c->client, &c->wire, c->channels);
    if (pusher_channel_state(c->client, pusher_find_channel(c->client, "channel-000000")) !=
        PUSHER_SUBSCRIBED)
        bench_die("channels did not come back");
    c->worst_ns = cost.worst_ns > c->worst_ns ? cost.worst_ns : c->worst_ns;
    c->worst_bytes = cost.worst_bytes > c->worst_bytes ? cost.worst_bytes : c->worst_bytes;
    c->polls = cost.polls;
    return cost.total_ns;
}

static void reconnecting(void)
{
    static comeback comebacks[2];
    bench_side sides[2];
    for (size_t i = 0; i < 2; i++) {
        comeback *c = &comebacks[i];
        pusher_options options = bench_options(&c->wire);
        c->channels = i == 0 ? 5000 : 10000;
        c->client = bench_create(&options);
        bench_subscribe_all(c->client, c->channels, &c->count);
        bench_connect(c->client, &c->wire, c->channels);
        sides[i].run_fn = run_reconnect;
        sides[i].context = c;
    }
    bench_rounds(sides, 2, bench_pick(15, 3));
    for (size_t i = 0; i < 2; i++)
        bench_say("reconnect", "%zu channels: %.2f ms in %zu polls, worst poll %.0f us",
                  comebacks[i].channels, sides[i].median / 1e6, comebacks[i].polls,
                  comebacks[i].worst_ns / 1e3);
    bench_row("reconnect", sides[1].median / sides[0].median, BENCH_AT_MOST, 2.2,
              "time of 10 000 channels to that of 5 000");
    bench_row("reconnect", (double)comebacks[1].worst_bytes / 65536, BENCH_AT_MOST, 1,
              "most bytes read or written in one poll %" PRIu64 " of a budget of 65536",
              comebacks[1].worst_bytes);
    for (size_t i = 0; i < 2; i++)
        pusher_destroy(comebacks[i].client);
}

int main(void)
{
    subscribing();
    reconnecting();
    return 0;
}
