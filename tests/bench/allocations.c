/*
 * allocations.c - memory taken for an event, and by a client at rest.
 *
 * The library's own requests are counted by its allocator hook, wslay's and everybody's by a malloc
 * of this program's own (with glibc, which lets one call its malloc from there).
 */
#include "bench.h"
#include "hobby.h"
#include "mallocs.h"

enum { CHANNELS = 10, BLOCK = 350 };

int main(void)
{
    static bench_wire wire;
    static hobby peer;
    size_t messages = bench_pick(200000, 20000);
    bench_bytes block = bench_messages(BLOCK, CHANNELS);
    bench_count count = {0, 0};
    bench_arena mine = {NULL, 0, 0, 0, 0}, before;
    uint64_t before_bytes, calls, before_calls, peer_calls;
    size_t created;
    bool counted = mallocs_start();
    double own, others;
    pusher_options options = bench_options(&wire);
    pusher_client *client;

    /* The server's buffers, before the counting begins. */
    bench_add(&wire.sent, block.at, 4096);
    bench_add(&wire.server.in, block.at, 4096);
    bench_add(&wire.server.out, block.at, 4096);
    wire.sent.len = wire.server.in.len = wire.server.out.len = 0;
    bench_arena_use(&options, &mine, (size_t)1 << 20);

    before_bytes = malloc_bytes;
    client = bench_create(&options);
    created = mine.bytes;
    bench_connect(client, &wire, 0);
    own = (double)mine.bytes;
    others = (double)(malloc_bytes - before_bytes);
    bench_row("memory", (own + others) / 24576, BENCH_AT_MOST, 1,
              "a client takes %zu bytes when created and %.0f until connected, wslay %.0f; "
              "sum to 24 KiB",
              created, own, others);

    bench_subscribe_all(client, CHANNELS, &count);
    bench_settle(client, &wire, CHANNELS);
    wire.stream = block.at;
    wire.stream_len = block.len;
    bench_stream(client, &wire, block.len * 10); /* until nothing grows any more */
    before = mine;
    before_calls = mallocs;
    count.events = 0;
    bench_stream(client, &wire, (uint64_t)messages * BENCH_FRAME);
    calls = mallocs - before_calls;
    own = (double)(mine.calls - before.calls) / (double)messages;
    if (count.events != messages) bench_die("%" PRIu64 " events of %zu", count.events, messages);

    hobby_start(&peer, block, CHANNELS, &count);
    before_calls = mallocs;
    hobby_stream(&peer, (uint64_t)messages * BENCH_FRAME);
    peer_calls = mallocs - before_calls;
    hobby_stop(&peer);

    if (counted)
        bench_row("allocations", own + (double)calls / (double)messages, BENCH_AT_MOST, 0,
                  "%.3f of ours and %.3f of malloc an event (wslay events + jsmn + strcmp: %.1f)",
                  own, (double)calls / (double)messages, (double)peer_calls / (double)messages);
    else
        bench_row("allocations", own, BENCH_AT_MOST, 0,
                  "%.3f of ours an event; malloc is counted with glibc only", own);

    pusher_destroy(client);
    free(mine.memory);
    free(block.at);
    return 0;
}
