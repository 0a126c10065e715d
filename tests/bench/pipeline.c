/*
 * pipeline.c - from bytes to callback, without a network.
 *
 * The same 184-byte frames (a 180-byte envelope with double-encoded data, to one of ten channels)
 * go through pusher_poll(), through the client of hobby.h, and, the envelopes only, through jsmn.
 */
#include "bench.h"
#include "hobby.h"

enum { CHANNELS = 10, BLOCK = 350 };

typedef struct pipeline {
    bench_wire wire;
    pusher_client *client;
    hobby hobby;
    bench_bytes block;
    bench_count count;
    size_t messages; /* in a round */
} pipeline;

static double finish(pipeline *p, uint64_t start, const char *who)
{
    double took = (double)(bench_ns() - start);
    if (p->count.events != p->messages)
        bench_die("%s saw %" PRIu64 " events of %zu", who, p->count.events, p->messages);
    p->count.events = 0;
    return took / (double)p->messages;
}

static double run_pusher(void *context)
{
    pipeline *p = (pipeline *)context;
    uint64_t start = bench_ns();
    bench_stream(p->client, &p->wire, (uint64_t)p->messages * BENCH_FRAME);
    return finish(p, start, "pusher.h");
}

static double run_hobby(void *context)
{
    pipeline *p = (pipeline *)context;
    uint64_t start = bench_ns();
    hobby_stream(&p->hobby, (uint64_t)p->messages * BENCH_FRAME);
    return finish(p, start, "the hobby client");
}

static double run_jsmn(void *context)
{
    pipeline *p = (pipeline *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < p->messages; i++) {
        const unsigned char *frame = p->block.at + i % BLOCK * BENCH_FRAME;
        jsmn_parser parser;
        jsmntok_t tokens[16];
        jsmn_init(&parser);
        if (jsmn_parse(&parser, (const char *)frame + 4, BENCH_ENVELOPE, tokens, 16) == 7)
            p->count.events++;
    }
    return finish(p, start, "jsmn");
}

int main(void)
{
    static pipeline p;
    pusher_options options = bench_options(&p.wire);
    bench_side sides[] = {{run_pusher, &p, 0}, {run_jsmn, &p, 0}, {run_hobby, &p, 0}};
    p.messages = bench_pick(200000, 20000);
    p.block = bench_messages(BLOCK, CHANNELS);
    p.client = bench_create(&options);
    bench_subscribe_all(p.client, CHANNELS, &p.count);
    bench_connect(p.client, &p.wire, CHANNELS);
    p.wire.stream = p.block.at;
    p.wire.stream_len = p.block.len;
    hobby_start(&p.hobby, p.block, CHANNELS, &p.count);

    bench_rounds(sides, 3, bench_pick(25, 5));
    bench_row("pipeline", sides[0].median / sides[1].median, BENCH_AT_MOST, 0.5,
              "%.0f ns a message; jsmn alone %.0f ns", sides[0].median, sides[1].median);
    bench_row("pipeline", sides[2].median / sides[0].median, BENCH_AT_LEAST, 8,
              "%.2f million messages/s; wslay events + jsmn + strcmp %.2f million",
              1e3 / sides[0].median, 1e3 / sides[2].median);

    hobby_stop(&p.hobby);
    pusher_destroy(p.client);
    free(p.block.at);
    return 0;
}
