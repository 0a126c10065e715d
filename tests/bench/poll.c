/*
 * poll.c - the longest pusher_poll() while the server sends as fast as it can.
 *
 * Work is bounded in bytes (max_poll_bytes); the time this takes is printed, not judged: on a busy
 * machine the worst call is the one that was interrupted.
 */
#define PUSHER_SOCKETS
#include "bench.h"
#include "net.h"

enum { CHANNELS = 10, BLOCK = 356 };

static void flooded(bench_sender *sender, uint32_t budget, uint32_t shown)
{
    size_t times = bench_pick(3000, 300), polls = 0, most = (size_t)1 << 20;
    double *took = (double *)bench_alloc(most * sizeof *took), worst = 0;
    uint64_t bytes = 0, worst_bytes = 0;
    bench_count count = {0, 0};
    pusher_options options;
    pusher_stats stats;
    pusher_client *client;
    int peer;
    memset(&options, 0, sizeof options);
    options.max_poll_bytes = budget;
    client = bench_net_client(options, CHANNELS, &count, &peer);
    pusher_get_stats(client, &stats);
    bytes = stats.bytes_received;
    bench_flood(sender, peer, times, sender->block.len);
    while (count.events < times * BLOCK) {
        uint64_t start = bench_ns(), events = count.events;
        double ns;
        pusher_poll(client, pusher_sockets_now_ms());
        ns = (double)(bench_ns() - start);
        pusher_get_stats(client, &stats);
        if (stats.bytes_received - bytes > worst_bytes) worst_bytes = stats.bytes_received - bytes;
        bytes = stats.bytes_received;
        worst = ns > worst ? ns : worst;
        if (polls < most && count.events > events) took[polls++] = ns;
        if (pusher_get_state(client) != PUSHER_CONNECTED)
            bench_die("the connection was lost: %s", pusher_last_error(client)->message);
    }
    qsort(took, polls, sizeof *took, bench_order);
    bench_row("poll", (double)worst_bytes / shown, BENCH_AT_MOST, 1,
              "median %.1f us, 99.9 %% %.1f us, worst %.1f us; most bytes %" PRIu64
              " of a budget of %" PRIu32,
              took[polls / 2] / 1e3, took[polls - 1 - polls / 1000] / 1e3, worst / 1e3, worst_bytes,
              shown);
    pusher_destroy(client);
    close(peer);
    free(took);
}

int main(void)
{
    static bench_sender sender;
    bench_bytes block = bench_messages(BLOCK, CHANNELS);
    bench_sender_start(&sender, block);
    flooded(&sender, 0, 65536);
    flooded(&sender, 4096, 4096);
    bench_sender_stop(&sender);
    free(block.at);
    return 0;
}
