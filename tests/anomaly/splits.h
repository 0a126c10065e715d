/*
 * splits.h - a scenario played with its bytes in pieces. Whatever the pieces are, the trace of what
 * the callbacks were told and of what the server heard is the one of the bytes in one go.
 */
#ifndef PUSHER_TESTS_SPLITS_H
#define PUSHER_TESTS_SPLITS_H

#include "scenarios.h"

typedef struct manner {
    size_t recv_max, send_max, cuts[2], cut_count, send_cut; /* cuts: in each stream              */
    uint32_t recv_block, send_block;
    uint64_t seed;
    bool cuts_wait;
} manner;

typedef struct outcome {
    uint64_t hash;
    size_t received, sent;   /* of the longest stream                                             */
    size_t received_in_all;
    fake_bytes trace;        /* these two only if they are to be kept                             */
    fake_bytes streams[FAKE_STREAMS];
    size_t stream_count;
    char wrong[512];         /* not empty: what was against the rules                             */
} outcome;

static uint64_t schedules;

static inline void outcome_keep(outcome *out, const fake *f)
{
    fake_bytes_add(&out->trace, f->trace.at, f->trace.len);
    fake_bytes_add(&out->trace, "-- sent:\n", 9);
    fake_bytes_add(&out->trace, f->sent_trace.at, f->sent_trace.len);
    fake_bytes_add(&out->trace, f->post_trace.at, f->post_trace.len);
    out->stream_count = f->stream_count;
    for (uint32_t i = 0; i < f->stream_count; i++)
        fake_bytes_add(&out->streams[i], f->streams[i]->to_client.at, f->streams[i]->taken);
}

static inline void outcome_free(outcome *out)
{
    fake_bytes_free(&out->trace);
    for (size_t i = 0; i < out->stream_count; i++)
        fake_bytes_free(&out->streams[i]);
}

static inline void play_in(outcome *out, const scenario *s, const manner *how, bool keep)
{
    fake f;
    stage st;
    out->hash = out->received = out->sent = out->received_in_all = out->stream_count = 0;
    memset(&out->trace, 0, sizeof out->trace);
    if (keep)
        memset(out->streams, 0, sizeof out->streams);
    fake_init(&f);
    f.recv_max = how->recv_max;
    f.send_max = how->send_max;
    f.chunk_seed = how->seed;
    f.recv_block = how->recv_block;
    f.send_block = how->send_block;
    f.cuts = how->cuts;
    f.cut_count = how->cut_count;
    f.cuts_wait = how->cuts_wait;
    f.send_cut = how->send_cut;
    schedules++;
    if (scenario_create(&f, &st, s))
        s->play(&f);
    else
        fake_violate(&f, "no client");
    out->hash = fake_trace_hash(&f);
    for (uint32_t i = 0; i < f.stream_count; i++) {
        out->received_in_all += f.streams[i]->taken;
        if (f.streams[i]->taken > out->received)
            out->received = f.streams[i]->taken;
        if (f.streams[i]->from_client.len > out->sent)
            out->sent = f.streams[i]->from_client.len;
    }
    if (keep)
        outcome_keep(out, &f);
    const char *wrong = fake_finish(&f);
    snprintf(out->wrong, sizeof out->wrong, "%s", wrong ? wrong : "");
}

static inline outcome play_whole(const scenario *s)
{
    outcome out;
    manner how;
    memset(&how, 0, sizeof how);
    play_in(&out, s, &how, true);
    if (out.wrong[0])
        fail_msg("%s: %s", s->name, out.wrong);
    return out;
}

/* False, and everything about it is printed: it went another way than it does in one go. */
static inline bool the_same(const scenario *s, const outcome *whole, const manner *how)
{
    outcome out;
    play_in(&out, s, how, false);
    if (out.hash == whole->hash && !out.wrong[0])
        return true;
    play_in(&out, s, how, true);
    printf("---- whole\n%s---- in pieces\n%s", whole->trace.at, out.trace.at);
    printf("%s: error: %s with recv %u send %u seed %u block %u %u cuts %u %u%s sent %u\n", s->name,
           out.wrong[0] ? out.wrong : "another trace", (unsigned)how->recv_max,
           (unsigned)how->send_max, (unsigned)how->seed, how->recv_block, how->send_block,
           (unsigned)how->cuts[0], (unsigned)how->cuts[1], how->cuts_wait ? " with a wait" : "",
           (unsigned)how->send_cut);
    outcome_free(&out);
    return false;
}

/* One test for each scenario there is. */
static inline int splits_run(const char *name, CMUnitTestFunction test)
{
    struct CMUnitTest tests[SCENARIOS];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < SCENARIOS; i++) {
        tests[i].name = scenarios[i].name;
        tests[i].test_func = test;
        tests[i].initial_state = (void *)(uintptr_t)&scenarios[i];
    }
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

#endif /* PUSHER_TESTS_SPLITS_H */
