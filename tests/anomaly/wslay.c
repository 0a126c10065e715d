/* The one block that wslay takes for a connection comes from malloc and not from the client's
   allocator: here it fails for the first, the second, the third connection, once and for good. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "fake.h"

#include <dlfcn.h>
#include <wslay/wslay.h>

static uint32_t inits, fail_from, fail_to;

/* Stands before the library's own. */
int wslay_frame_context_init(wslay_frame_context_ptr *context,
                             const struct wslay_frame_callbacks *callbacks, void *user_data)
{
    int (*init)(wslay_frame_context_ptr *, const struct wslay_frame_callbacks *, void *);
    void *symbol = dlsym(RTLD_NEXT, "wslay_frame_context_init");
    inits++;
    if (inits >= fail_from && inits <= fail_to)
        return WSLAY_ERR_NOMEM;
    memcpy(&init, &symbol, sizeof init);
    return init(context, callbacks, user_data);
}

/* The first attempt that has no memory is reported, opens nothing and is tried again. */
static void each_connection_in_turn(void **state)
{
    (void)state;
    for (uint32_t nth = 1; nth <= 3; nth++) {
        fake f;
        inits = 0;
        fail_from = fail_to = nth;
        fake_start(&f, NULL);
        assert_int_equal(pusher_connect(f.client), PUSHER_OK);
        for (uint32_t connection = 1; connection <= 3; connection++) {
            fake_online_again(&f);
            assert_true(inits == (connection < nth ? connection : connection + 1));
            fake_eof(&f);
            fake_run(&f);
        }
        assert_int_equal(inits, 4);
        assert_int_equal(f.errors, 4); /* three losses, and one attempt without memory */
        fake_end(&f);
    }
}

static void for_good(void **state)
{
    (void)state;
    fake f;
    inits = 0;
    fail_from = 1;
    fail_to = UINT32_MAX;
    fake_start(&f, NULL);
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    fake_pass(&f, 300000);
    assert_int_equal(f.stream_count, 0);
    assert_int_equal(f.last_error.code, PUSHER_ERR_MEMORY);
    assert_int_equal(pusher_get_state(f.client), PUSHER_UNAVAILABLE);
    assert_true(inits > 10 && inits < 100); /* it goes on, and it does not spin */
    fail_from = fail_to = 0;
    fake_online_again(&f);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_connection_in_turn),
        cmocka_unit_test(for_good),
    };
    return cmocka_run_group_tests_name("anomaly/wslay", tests, NULL, NULL);
}
