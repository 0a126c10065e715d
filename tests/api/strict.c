/* Small mistakes, of users and of servers, that have to be noticed or to do no harm. */
#include "fake.h"

static pusher_result refusal(const pusher_options *options, const char *name)
{
    pusher_error error;
    pusher_client *client = pusher_create(options, &error);
    if (client) {
        pusher_destroy(client);
        fail_msg("a bad %s was taken", name);
    }
    if (!strstr(error.message, name))
        fail_msg("\"%s\" does not name %s", error.message, name);
    return error.code;
}

static void a_host_with_a_port_in_it(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.host = "example.org:80";
    assert_int_equal(refusal(&options, "host"), PUSHER_ERR_ARGUMENT);
    fake_end(&f);
}

static void tls_is_unsupported_not_wrong(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.tls.mode = PUSHER_TLS_ON;
    assert_int_equal(refusal(&options, "tls"), PUSHER_ERR_UNSUPPORTED);
    fake_end(&f);
}

/* Who says whom to trust means TLS: plain text would be the worst of all answers. */
static void trust_without_tls_is_not_plain(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        if (i == 0) options.tls.ca_file = "ca.pem";
        if (i == 1) options.tls.ca = "pem";
        if (i >= 2) options.tls.ssl_config = &f;
        if (i < 3) {
            assert_int_equal(refusal(&options, "tls"), PUSHER_ERR_UNSUPPORTED);
        } else { /* said to be plain */
            options.tls.mode = PUSHER_TLS_OFF;
            fake_start(&f, &options);
        }
        fake_end(&f);
    }
}

/* A forgotten open_fn must not send the program to the ready-made sockets unawares. */
static void a_transport_without_open(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.transport.open_fn = NULL;
    assert_int_equal(refusal(&options, "transport"), PUSHER_ERR_ARGUMENT);
    fake_end(&f);
}

static void a_path_that_ends_in_a_slash(void **state)
{
    (void)state;
    static const char *const paths[] = { "/", "/prefix/" };
    static const char *const wanted[] = { "GET /app/app-key?", "GET /prefix/app/app-key?" };
    for (size_t i = 0; i < 2; i++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        options.path = paths[i];
        fake_start(&f, &options);
        const char *request = fake_request(&f)->from_client.at;
        if (strncmp(request, wanted[i], strlen(wanted[i])) != 0)
            fail_msg("%.30s", request); /* servers answer 404 to //app */
        fake_end(&f);
    }
}

static void half_a_status_is_no_status(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_request(&f);
    const char *text = "HTTP/1.1 1O1 Switching Protocols\r\n\r\n";
    fake_raw(&f, text, strlen(text));
    fake_poll(&f);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_HTTP);
    assert_int_equal(f.last_error.server_code, 0);
    fake_end(&f);
}

/* RFC 8259 lets a server write 120 as 1.2e2; the digits in front are not the number. */
static void numbers_with_an_exponent(void **state)
{
    (void)state;
    static const struct { const char *number; uint32_t least_ms; } timeouts[] = {
        { "1.2e2", 120000 }, { "12E1", 120000 }, { "1e99", 120000 }, { "60.0", 60000 },
    };
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        fake_accept(&f);
        fake_say_format(&f, "{\"event\":\"pusher:connection_established\",\"data\":"
                            "{\"socket_id\":\"1.2\",\"activity_timeout\":%s}}",
                        timeouts[i].number);
        fake_run(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        uint64_t in_ms = pusher_next_poll_ms(f.client) - f.now;
        if (in_ms < timeouts[i].least_ms)
            fail_msg("%s is taken for %u ms", timeouts[i].number, (unsigned)in_ms);
        fake_end(&f);
    }
}

/* A game in the background is polled once a minute: too late each time, and each time a jump of
   the clock. A dead connection and a stalled attempt have to be noticed all the same. */
static void polled_once_a_minute(void **state)
{
    (void)state;
    for (int online = 0; online < 2; online++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        if (online)
            fake_establish(&f);
        for (int minute = 0; minute < 60 && f.errors == 0; minute++) {
            f.now += 60000;
            fake_poll(&f);
        }
        if (f.errors == 0)
            fail_msg("after an hour without an answer it still is %s",
                     pusher_state_name(pusher_get_state(f.client)));
        assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
        fake_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_with_a_port_in_it),
        cmocka_unit_test(tls_is_unsupported_not_wrong),
        cmocka_unit_test(trust_without_tls_is_not_plain),
        cmocka_unit_test(a_transport_without_open),
        cmocka_unit_test(a_path_that_ends_in_a_slash),
        cmocka_unit_test(half_a_status_is_no_status),
        cmocka_unit_test(numbers_with_an_exponent),
        cmocka_unit_test(polled_once_a_minute),
    };
    return cmocka_run_group_tests_name("api/strict", tests, NULL, NULL);
}
