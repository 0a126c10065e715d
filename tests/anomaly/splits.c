/* Every scenario with what is received cut at every byte, and at every two bytes where the scenario
   is short; byte by byte; and what is sent in pieces: always the same trace. */
#include "scenarios.h"

typedef struct manner {
    size_t recv_max, send_max, cuts[2], cut_count, send_cut;
    uint32_t recv_block, send_block;
    uint64_t seed;
    bool cuts_wait;
} manner;

typedef struct outcome {
    uint64_t hash;
    size_t received, sent;
    char *trace;
} outcome;

static uint64_t schedules;

static outcome play_in(const scenario *s, const manner *how, bool keep)
{
    fake f;
    stage st;
    outcome out;
    memset(&out, 0, sizeof out);
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
    if (!scenario_create(&f, &st, s))
        fail_msg("%s: no client", s->name);
    s->play(&f);
    out.hash = fake_trace_hash(&f);
    for (uint32_t i = 0; i < f.stream_count; i++) {
        if (f.streams[i]->taken > out.received)
            out.received = f.streams[i]->taken;
        if (f.streams[i]->from_client.len > out.sent)
            out.sent = f.streams[i]->from_client.len;
    }
    if (keep) {
        fake_bytes all;
        memset(&all, 0, sizeof all);
        fake_bytes_add(&all, f.trace.at, f.trace.len);
        fake_bytes_add(&all, "-- sent:\n", 9);
        fake_bytes_add(&all, f.sent_trace.at, f.sent_trace.len);
        out.trace = all.at;
    }
    const char *wrong = fake_finish(&f);
    if (wrong)
        fail_msg("%s, cut at %u and %u: %s", s->name, (unsigned)how->cuts[0],
                 (unsigned)how->cuts[1], wrong);
    return out;
}

static void the_same(const scenario *s, const outcome *whole, const manner *how)
{
    if (play_in(s, how, false).hash == whole->hash)
        return;
    outcome out = play_in(s, how, true);
    printf("---- whole\n%s---- in pieces\n%s", whole->trace, out.trace);
    free(out.trace);
    fail_msg("%s: another trace with recv %u send %u seed %u block %u %u cuts %u %u sent %u",
             s->name,
             (unsigned)how->recv_max, (unsigned)how->send_max, (unsigned)how->seed,
             how->recv_block, how->send_block, (unsigned)how->cuts[0], (unsigned)how->cuts[1],
             (unsigned)how->send_cut);
}

static void every_split(void **state)
{
    const scenario *s = (const scenario *)*state;
    static const size_t pieces[] = { 1, 2, 3, 7, 125, 126, 127 };
    manner how;
    memset(&how, 0, sizeof how);
    outcome whole = play_in(s, &how, true);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        for (uint32_t block = 0; block < 3; block++) {
            memset(&how, 0, sizeof how);
            how.recv_max = pieces[i];
            how.recv_block = block ? block + 1 : 0;
            the_same(s, &whole, &how);
            how.send_max = pieces[i];
            the_same(s, &whole, &how);
            how.recv_max = how.recv_block = 0;
            the_same(s, &whole, &how);
        }
    }
    memset(&how, 0, sizeof how);
    for (how.seed = 1; how.seed <= 50; how.seed++)
        the_same(s, &whole, &how);
    memset(&how, 0, sizeof how);
    for (how.send_cut = 1; how.send_cut < whole.sent; how.send_cut++)
        the_same(s, &whole, &how);
    memset(&how, 0, sizeof how);
    how.cut_count = 1;
    for (int wait = 0; wait < 2; wait++) {
        how.cuts_wait = wait;
        for (how.cuts[0] = 1; how.cuts[0] < whole.received; how.cuts[0]++)
            the_same(s, &whole, &how);
    }
    how.cut_count = s->two_cuts ? 2 : 0;
    for (how.cuts[0] = 1; how.cut_count && how.cuts[0] < whole.received; how.cuts[0]++)
        for (how.cuts[1] = how.cuts[0] + 1; how.cuts[1] < whole.received; how.cuts[1]++)
            the_same(s, &whole, &how);
    free(whole.trace);
}

int main(void)
{
    struct CMUnitTest tests[SCENARIOS];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < SCENARIOS; i++) {
        tests[i].name = scenarios[i].name;
        tests[i].test_func = every_split;
        tests[i].initial_state = (void *)(uintptr_t)&scenarios[i];
    }
    int failed = cmocka_run_group_tests_name("anomaly/splits", tests, NULL, NULL);
    printf("%u schedules\n", (unsigned)schedules);
    return failed;
}
