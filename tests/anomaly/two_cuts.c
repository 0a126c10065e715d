/* Every scenario with each of its streams (the endpoint's, too) cut at every two bytes of what is
   received; the next read goes on at once, or finds nothing first: always the same trace. Millions
   of schedules, so it is run optimised, and by two processes where there are two processors. */
#include "splits.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t cuts_left_out;

static bool authorizes(const scenario *s)
{
    return s->limit && s->limit != limit_times && s->limit != limit_sizes;
}

/* With authorizations, each pair is played once: the next read finds nothing first at every other
   pair. Without, both ways. */
static unsigned ways(const scenario *s)
{
    return authorizes(s) ? 1 : 2;
}

/* What every stream to the server begins with: the answer to the upgrade, and the greeting. The
   scenarios without authorizations have two cuts in it; where the streams have nothing else at
   these places, the others need not repeat them. */
static size_t beginning(const scenario *s, const outcome *whole)
{
    static const char answer[] = "HTTP/1.1 101 ";
    const char *end = "\"activity_timeout\\\":120}\"}";
    size_t len = SIZE_MAX;
    if (!authorizes(s))
        return 0;
    for (size_t i = 0; i < whole->stream_count; i++) {
        const fake_bytes *stream = &whole->streams[i];
        const char *at = stream->at ? strstr(stream->at, end) : NULL;
        if (!at || strncmp(stream->at, answer, sizeof answer - 1) != 0)
            return 0;
        size_t here = (size_t)(at - stream->at) + strlen(end);
        len = here < len ? here : len;
    }
    return len == SIZE_MAX ? 0 : len;
}

static double processor_seconds(int who)
{
    struct rusage used;
    memset(&used, 0, sizeof used);
    getrusage(who, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double all_processor_seconds(void)
{
    return processor_seconds(RUSAGE_SELF) + processor_seconds(RUSAGE_CHILDREN);
}

/* Where to cut: everywhere, but in a long run of one byte (nothing but such a run is that uniform,
   and a cut in it is like the one beside it) only near its ends and where a page ends. */
static bool worth_a_cut(const fake_bytes *stream, size_t at)
{
    if (at >= stream->len)
        return false;
    if (at < 16 || stream->len - at < 16 || (at + 2) % 4096 <= 4)
        return true;
    for (size_t i = at - 16; i < at + 16; i++)
        if (stream->at[i] != stream->at[at])
            return true;
    return false;
}

static size_t splits_offsets(const outcome *whole, size_t *offsets)
{
    size_t count = 0;
    for (size_t at = 1; at < whole->received; at++) {
        bool worth = false;
        for (size_t i = 0; i < whole->stream_count && !worth; i++)
            worth = worth_a_cut(&whole->streams[i], at);
        if (worth)
            offsets[count++] = at;
    }
    return count;
}

/* How many pairs the part-th of parts has. */
static uint64_t pairs(const size_t *offsets, size_t count, size_t known, size_t part, size_t parts)
{
    uint64_t all = 0;
    for (size_t i = part; i < count; i += parts) {
        size_t j = i + 1;
        while (j < count && offsets[j] < known)
            j++;
        all += count - j;
    }
    return all;
}

/* The part-th of parts. */
static bool play_part(const scenario *s, const outcome *whole, const size_t *offsets, size_t count,
                      size_t part, size_t parts)
{
    manner how;
    size_t known = beginning(s, whole);
    memset(&how, 0, sizeof how);
    how.cut_count = 2;
    for (int wait = 0; wait < 2; wait++) {
        how.cuts_wait = wait;
        for (size_t i = part; i < count; i += parts) {
            how.cuts[0] = offsets[i];
            for (size_t j = i + 1; j < count; j++) {
                how.cuts[1] = offsets[j];
                if (how.cuts[1] < known || (ways(s) == 1 && (i + j) % 2 != (size_t)wait))
                    continue;
                if (!the_same(s, whole, &how))
                    return false;
            }
        }
    }
    return true;
}

/* The child's half counts here, though it is played there. */
static bool play_halves(const scenario *s, const outcome *whole, const size_t *offsets,
                        size_t count)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool same = play_part(s, whole, offsets, count, 1, 2);
        fflush(stdout);
        _exit(same ? 0 : 1);
    }
    bool same = play_part(s, whole, offsets, count, 0, 2);
    assert_true(waitpid(child, &status, 0) == child);
    same = same && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (same)
        schedules += ways(s) * pairs(offsets, count, beginning(s, whole), 1, 2);
    return same;
}

static void every_two_cuts(void **state)
{
    const scenario *s = (const scenario *)*state;
    double before = all_processor_seconds();
    uint64_t played = schedules;
    outcome whole = play_whole(s);
    size_t *offsets = (size_t *)malloc((whole.received + 1) * sizeof *offsets);
    assert_non_null(offsets);
    size_t count = splits_offsets(&whole, offsets);
    uint64_t wanted = 1 + ways(s) * pairs(offsets, count, beginning(s, &whole), 0, 1);
    bool halves = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    bool same = halves ? play_halves(s, &whole, offsets, count)
                       : play_part(s, &whole, offsets, count, 0, 1);
    played = schedules - played;
    cuts_left_out += whole.received - 1 - count;
    printf("  %8u with %6.2f s of processor time, %5u bytes\n", (unsigned)played,
           all_processor_seconds() - before, (unsigned)whole.received);
    free(offsets);
    outcome_free(&whole);
    assert_true(same);
    assert_true(count > 100 && played == wanted && wanted > 500);
}

int main(void)
{
    int failed = splits_run("anomaly/two_cuts", every_two_cuts);
    double took = all_processor_seconds();
    printf("%u schedules, %.0f a second of processor time (%.1f s)\n", (unsigned)schedules,
           (double)schedules / took, took);
    printf("no cut at %u places within runs of one byte\n", (unsigned)cuts_left_out);
    return failed;
}
