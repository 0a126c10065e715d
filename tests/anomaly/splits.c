/* Every scenario with what is received cut at every byte, byte by byte and in pieces of all kinds,
   and with what is sent in pieces: always the same trace. Every two cuts of all of them are for
   two_cuts.c, which has no sanitizers to carry; here they are those of the short scenarios, and of
   each other one some that lie evenly. */
#include "splits.h"

static void every_piece(const scenario *s, const outcome *whole)
{
    static const size_t pieces[] = { 1, 2, 3, 7, 125, 126, 127 };
    manner how;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        for (uint32_t block = 0; block < 3; block++) {
            memset(&how, 0, sizeof how);
            how.recv_max = pieces[i];
            how.recv_block = block ? block + 1 : 0;
            assert_true(the_same(s, whole, &how));
            how.send_max = pieces[i];
            assert_true(the_same(s, whole, &how));
            how.recv_max = how.recv_block = 0;
            assert_true(the_same(s, whole, &how));
        }
    }
    memset(&how, 0, sizeof how);
    for (how.seed = 1; how.seed <= 50; how.seed++)
        assert_true(the_same(s, whole, &how));
}

static void every_cut(const scenario *s, const outcome *whole)
{
    manner how;
    memset(&how, 0, sizeof how);
    for (how.send_cut = 1; how.send_cut < whole->sent; how.send_cut++)
        assert_true(the_same(s, whole, &how));
    memset(&how, 0, sizeof how);
    how.cut_count = 1;
    for (int wait = 0; wait < 2; wait++) {
        how.cuts_wait = wait;
        for (how.cuts[0] = 1; how.cuts[0] < whole->received; how.cuts[0]++)
            assert_true(the_same(s, whole, &how));
    }
}

/* Every step-th of the pairs, and of these the second cut waits each other time. */
static void two_cuts(const scenario *s, const outcome *whole, size_t step)
{
    manner how;
    size_t pair = 0, played = 0;
    memset(&how, 0, sizeof how);
    how.cut_count = 2;
    for (how.cuts[0] = 1; how.cuts[0] < whole->received; how.cuts[0]++) {
        for (how.cuts[1] = how.cuts[0] + 1; how.cuts[1] < whole->received; how.cuts[1]++) {
            if (pair++ % step != 0)
                continue;
            how.cuts_wait = step > 1 && played++ % 2 == 1;
            assert_true(the_same(s, whole, &how));
        }
    }
}

static void every_split(void **state)
{
    const scenario *s = (const scenario *)*state;
    outcome whole = play_whole(s);
    size_t pairs = whole.received * whole.received / 2;
    every_piece(s, &whole);
    every_cut(s, &whole);
    two_cuts(s, &whole, whole.received_in_all < 400 ? 1 : pairs / 5000 + 1);
    outcome_free(&whole);
}

int main(void)
{
    int failed = splits_run("anomaly/splits", every_split);
    printf("%u schedules\n", (unsigned)schedules);
    return failed;
}
