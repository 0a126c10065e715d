/*
 * floor.c - what the parts of the pipeline cost alone, for the same frames as in pipeline.c.
 *
 * No goals: it shows what is left to win, and where.
 */
#include "bench.h"
#include "hobby.h"

enum { CHANNELS = 10, BLOCK = 350, SIDES = 5 };

typedef struct part {
    bench_bytes block;
    size_t messages, at;
    unsigned char copy[BENCH_FRAME];
    uint64_t sum; /* so that no work can be left out */
    wslay_frame_context_ptr frames;
} part;

static const unsigned char *message(const part *p, size_t i)
{
    return p->block.at + i % BLOCK * BENCH_FRAME + 4;
}

static double finish(part *p, uint64_t start)
{
    double took = (double)(bench_ns() - start);
    if (p->sum == 0) bench_die("a part did nothing");
    p->sum = 0;
    return took / (double)p->messages;
}

static double run_copy(void *context)
{
    part *p = (part *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < p->messages; i++) {
        memcpy(p->copy, message(p, i) - 4, BENCH_FRAME);
        p->sum += p->copy[i % BENCH_FRAME];
    }
    return finish(p, start);
}

static ssize_t read_block(uint8_t *buf, size_t len, int flags, void *user_data)
{
    part *p = (part *)user_data;
    size_t left = p->block.len - p->at;
    (void)flags;
    len = len < left ? len : left;
    memcpy(buf, p->block.at + p->at, len);
    p->at = (p->at + len) % p->block.len;
    return (ssize_t)len;
}

static double run_frames(void *context)
{
    part *p = (part *)context;
    uint64_t start = bench_ns(), bytes = (uint64_t)p->messages * BENCH_ENVELOPE;
    while (p->sum < bytes) {
        struct wslay_frame_iocb io;
        ssize_t got;
        memset(&io, 0, sizeof io);
        got = wslay_frame_recv(p->frames, &io);
        if (got < 0) bench_die("wslay_frame_recv: %ld", (long)got);
        p->sum += (uint64_t)got;
    }
    return finish(p, start);
}

/* The shortest check there is for text that happens to be ASCII: eight bytes at a time. */
static double run_ascii(void *context)
{
    part *p = (part *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < p->messages; i++) {
        const unsigned char *text = message(p, i);
        uint64_t high = 0, word;
        size_t at = 0;
        for (; at + sizeof word <= BENCH_ENVELOPE; at += sizeof word) {
            memcpy(&word, text + at, sizeof word);
            high |= word;
        }
        for (; at < BENCH_ENVELOPE; at++)
            high |= text[at];
        p->sum += (high & 0x8080808080808080u) == 0;
    }
    return finish(p, start);
}

/* To find the end of each string and what is escaped in it, byte by byte. */
static double run_bytes(void *context)
{
    part *p = (part *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < p->messages; i++) {
        const unsigned char *text = message(p, i);
        for (size_t at = 0; at < BENCH_ENVELOPE; at++)
            if (text[at] == '"' || text[at] == '\\' || text[at] < ' ') p->sum++;
    }
    return finish(p, start);
}

static double run_jsmn(void *context)
{
    part *p = (part *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < p->messages; i++) {
        jsmn_parser parser;
        jsmntok_t tokens[16];
        jsmn_init(&parser);
        p->sum += jsmn_parse(&parser, (const char *)message(p, i), BENCH_ENVELOPE, tokens, 16) == 7;
    }
    return finish(p, start);
}

int main(void)
{
    static part p;
    static const struct wslay_frame_callbacks callbacks = {NULL, read_block, NULL};
    bench_side sides[SIDES] = {{run_copy, &p, 0},
                               {run_frames, &p, 0},
                               {run_ascii, &p, 0},
                               {run_bytes, &p, 0},
                               {run_jsmn, &p, 0}};
    p.messages = bench_pick(200000, 20000);
    p.block = bench_messages(BLOCK, CHANNELS);
    if (wslay_frame_context_init(&p.frames, &callbacks, &p) != 0) bench_die("no wslay context");
    bench_rounds(sides, SIDES, bench_pick(15, 3));
    bench_say("floor",
              "a message alone: copied %.0f ns, through wslay_frame_recv %.0f, checked for ASCII "
              "%.0f, read byte by byte %.0f, tokenised by jsmn %.0f",
              sides[0].median, sides[1].median, sides[2].median, sides[3].median, sides[4].median);
    wslay_frame_context_free(p.frames);
    free(p.block.at);
    return 0;
}
