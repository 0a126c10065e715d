/* The auth room where mbedTLS fails it: its hashes take memory of their own. What an authorization
   does otherwise is tested through the public functions in tests/api. */
#include <stdbool.h>

#include <mbedtls/md.h>

static bool md_fails;

static int test_md_setup(mbedtls_md_context_t *md, const mbedtls_md_info_t *info, int hmac)
{
    return md_fails ? MBEDTLS_ERR_MD_ALLOC_FAILED : mbedtls_md_setup(md, info, hmac);
}

#define mbedtls_md_setup test_md_setup

#include "room.h"

/* Connected, with a channel that cannot be signed for. */
static pusher_channel begin(fake *f)
{
    fake_init(f);
    pusher_options options = fake_options(f);
    options.auth.secret = "s";
    fake_start(f, &options);
    pusher_channel channel = fake_subscribe(f, "private-a");
    md_fails = true;
    fake_online(f);
    return channel;
}

static void what_cannot_be_signed_is_signed_later(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f);
    md_fails = false;
    assert_int_equal(f.errors, 0);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
    fake_expect_nothing(&f);
    fake_sleep(&f, 2000);
    const fake_message *heard = fake_next(&f);
    assert_non_null(heard);
    assert_non_null(strstr(heard->text, "\"private-a\",\"auth\":\"app-key:"));
    fake_end(&f);
}

static void what_can_never_be_signed_is_refused(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f);
    fake_sleep(&f, 30000);
    md_fails = false;
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_MEMORY);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    fake_forget_heard(&f);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_signed_is_signed_later),
        cmocka_unit_test(what_can_never_be_signed_is_refused),
    };
    return cmocka_run_group_tests_name("unit/auth", tests, NULL, NULL);
}
