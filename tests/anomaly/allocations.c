/* Every scenario with the n-th allocation failing, once and for good, for every n there is. */
#include "scenarios.h"

static uint64_t schedules;

/* True if an allocation did fail. */
static bool play_with(const scenario *s, uint64_t n, bool for_good)
{
    fake f;
    stage st;
    fake_init(&f);
    scenario_watch_secrets(&f);
    f.heap.fail_at = n;
    f.heap.fail_for_good = for_good;
    schedules++;
    if (scenario_create(&f, &st, s)) {
        s->play(&f);
        f.heap.fail_at = 0;
        scenario_recover(&f);
    }
    bool failed = f.heap.failed > 0;
    const char *wrong = fake_finish(&f);
    if (wrong)
        fail_msg("%s, allocation %u failing %s: %s", s->name, (unsigned)n,
                 for_good ? "for good" : "once", wrong);
    return failed;
}

static void every_allocation(void **state)
{
    const scenario *s = (const scenario *)*state;
    for (int for_good = 0; for_good < 2; for_good++) {
        uint64_t n = 1;
        while (play_with(s, n, for_good))
            n++;
        assert_true(n > 3);
    }
}

int main(void)
{
    struct CMUnitTest tests[SCENARIOS];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < SCENARIOS; i++) {
        tests[i].name = scenarios[i].name;
        tests[i].test_func = every_allocation;
        tests[i].initial_state = (void *)(uintptr_t)&scenarios[i];
    }
    int failed = cmocka_run_group_tests_name("anomaly/allocations", tests, NULL, NULL);
    printf("%u schedules\n", (unsigned)schedules);
    return failed;
}
