/* Every scenario with the n-th call of a hook (open, ready, recv, send, randomness) failing in
   every way, once, for a while and for good, for every n there is. */
#include "scenarios.h"

static uint64_t schedules;

static const char *const ways[] = { "WANT_READ", "WANT_WRITE", "ERROR", "EOF", "short" };

static bool play_with(const scenario *s, uint64_t n, uint64_t count, fake_failure how)
{
    fake f;
    stage st;
    fake_init(&f);
    scenario_watch_secrets(&f);
    f.fail_at = n;
    f.fail_count = count;
    f.fail_how = how;
    schedules++;
    if (scenario_create(&f, &st, s)) {
        s->play(&f);
        f.fail_at = 0;
        scenario_recover(&f);
    }
    bool failed = f.failed > 0;
    const char *wrong = fake_finish(&f);
    if (wrong)
        fail_msg("%s, %u hook calls from %u failing with %s: %s", s->name, (unsigned)count,
                 (unsigned)n, ways[how], wrong);
    return failed;
}

static void every_hook_call(void **state)
{
    static const uint64_t counts[] = { 1, 3, UINT64_MAX };
    const scenario *s = (const scenario *)*state;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (int how = 0; how < FAKE_FAILURES; how++) {
            uint64_t n = 1;
            while (play_with(s, n, counts[c], (fake_failure)how))
                n++;
            assert_true(n > 5);
        }
    }
}

int main(void)
{
    struct CMUnitTest tests[SCENARIOS];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < SCENARIOS; i++) {
        tests[i].name = scenarios[i].name;
        tests[i].test_func = every_hook_call;
        tests[i].initial_state = (void *)(uintptr_t)&scenarios[i];
    }
    int failed = cmocka_run_group_tests_name("anomaly/hooks", tests, NULL, NULL);
    printf("%u schedules\n", (unsigned)schedules);
    return failed;
}
