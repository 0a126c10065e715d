/*
 * channels.c - does an event cost more when many channels are subscribed?
 *
 * Three clients with 10, 1 000 and 100 000 channels, a handler on each channel, and the same number
 * of events to random channels among them.
 */
#include "bench.h"

enum { SIDES = 3 };

typedef struct dispatch {
    bench_wire wire;
    pusher_client *client;
    bench_bytes block;
    bench_count count;
    size_t messages;
} dispatch;

static double run(void *context)
{
    dispatch *d = (dispatch *)context;
    uint64_t start = bench_ns();
    double took;
    bench_stream(d->client, &d->wire, d->block.len);
    took = (double)(bench_ns() - start);
    if (d->count.events != d->messages)
        bench_die("%" PRIu64 " events of %zu", d->count.events, d->messages);
    d->count.events = 0;
    return took / (double)d->messages;
}

int main(void)
{
    static const size_t channels[SIDES] = {10, 1000, 100000};
    static dispatch dispatches[SIDES];
    bench_side sides[SIDES];
    for (size_t i = 0; i < SIDES; i++) {
        dispatch *d = &dispatches[i];
        pusher_options options = bench_options(&d->wire);
        d->messages = bench_pick(100000, 20000); /* as many for all: the same bytes to read */
        d->block = bench_messages(d->messages, channels[i]);
        d->client = bench_create(&options);
        bench_subscribe_all(d->client, channels[i], &d->count);
        bench_connect(d->client, &d->wire, channels[i]);
        d->wire.stream = d->block.at;
        d->wire.stream_len = d->block.len;
        sides[i].run_fn = run;
        sides[i].context = d;
    }
    bench_rounds(sides, SIDES, bench_pick(15, 5));
    bench_row(
        "channels", sides[2].median / sides[0].median, BENCH_AT_MOST, 1.5,
        "%.0f ns an event with 10 channels, %.0f with 1 000, %.0f with 100 000; last to first",
        sides[0].median, sides[1].median, sides[2].median);
    for (size_t i = 0; i < SIDES; i++) {
        pusher_destroy(dispatches[i].client);
        free(dispatches[i].block.at);
    }
    return 0;
}
