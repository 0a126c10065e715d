/* Sign-in: steps, failures, after a lost connection; the user's events and the watchlist; presence
   channels that leave it to the sign-in who this client is. */
#include "fake.h"

#define SIGNIN                                                                                     \
    "{\"event\":\"pusher:signin\",\"data\":{" FAKE_AUTH ",\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"}}"
#define SIGNED_IN                                                                                  \
    "{\"event\":\"pusher:signin_success\",\"data\":\"{\\\"user_data\\\":"                          \
    "\\\"{\\\\\\\"id\\\\\\\":\\\\\\\"me\\\\\\\"}\\\"}\"}"
#define MY_CHANNEL FAKE_SUBSCRIBE("#server-to-user-me")

static void begin(fake *f)
{
    fake_init(f);
    pusher_options options = fake_options(f);
    fake_authorize(f, &options);
    fake_start(f, &options);
    pusher_bind_all(f->client, PUSHER_USER, fake_event_fn, f);
    pusher_bind_all(f->client, PUSHER_WATCHLIST, fake_event_fn, f);
}

static void sign_in(fake *f)
{
    fake_run(f);
    fake_expect_text(f, SIGNIN);
    fake_say(f, SIGNED_IN);
    fake_run(f);
    assert_string_equal(pusher_user_id(f->client), "me");
    fake_expect_text(f, MY_CHANNEL);
}

static void the_user_signs_in_on_every_connection(void **state)
{
    (void)state;
    fake f;
    begin(&f);
    assert_null(pusher_user_id(f.client));
    assert_int_equal(pusher_signin(f.client), PUSHER_OK);
    assert_int_equal(pusher_signin(f.client), PUSHER_OK); /* harmless */
    fake_online(&f);
    sign_in(&f);
    assert_int_equal(f.events, 1);
    assert_non_null(strstr(f.trace.at, "pusher:signin_success"));
    pusher_channel none = { 0, 0 };
    assert_int_equal(pusher_next_channel(f.client, none).id, 0); /* it is no channel */
    fake_eof(&f);
    fake_run(&f);
    assert_null(pusher_user_id(f.client));
    fake_online_again(&f);
    sign_in(&f);
    assert_int_equal(f.events, 2);
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_null(pusher_user_id(f.client));
    fake_forget_heard(&f);
    fake_end(&f);
}

static uint32_t outage;

static void on_subscribed(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)user_data;
    outage = event->outage_ms;
}

/* What a channel has missed is no longer for a user who has been there on several connections. */
static void the_user_makes_no_outage_longer(void **state)
{
    (void)state;
    fake f;
    uint64_t lost = 0;
    begin(&f);
    pusher_signin(f.client);
    pusher_bind(f.client, fake_subscribe(&f, "a"), "pusher:subscription_succeeded", on_subscribed, NULL);
    fake_online(&f);
    for (int i = 0; i < 6; i++) {
        fake_run(&f);
        fake_say(&f, SIGNED_IN);
        if (i != 4) /* then its answer is lost with the connection */
            fake_say(&f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"a\"}");
        fake_run(&f);
        if (i != 4) assert_int_equal(outage, i ? f.now - lost : 0);
        fake_pass(&f, 3000);
        if (i != 4) {
            fake_say(&f, "{\"event\":\"e\",\"channel\":\"a\"}");
            fake_run(&f);
            lost = f.now;
        }
        fake_eof(&f);
        fake_run(&f);
        fake_forget_heard(&f);
        if (i < 5) fake_online_again(&f);
    }
    fake_end(&f);
}

static void soketi_says_it_as_an_object(void **state)
{
    (void)state;
    fake f;
    begin(&f);
    pusher_signin(f.client);
    fake_online(&f);
    fake_expect_text(&f, SIGNIN);
    fake_say(&f, "{\"event\":\"pusher:signin_success\",\"data\":{\"auth\":\"app-key:sig\","
                 "\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"}}");
    fake_run(&f);
    assert_string_equal(pusher_user_id(f.client), "me");
    fake_expect_text(&f, MY_CHANNEL);
    fake_end(&f);
}

static void an_answer_without_a_user_is_an_error(void **state)
{
    (void)state;
    static const char *const bad[] = { "{}", "\"\"", "7", "{\"user_data\":{}}", "{\"user_data\":\"\"}",
                                       "{\"user_data\":\"{}\"}",
                                       "{\"user_data\":\"{\\\"id\\\":\\\"\\\"}\"}" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fake f;
        begin(&f);
        pusher_signin(f.client);
        fake_online(&f);
        fake_expect_text(&f, SIGNIN);
        fake_say_format(&f, "{\"event\":\"pusher:signin_success\",\"data\":%s}", bad[i]);
        fake_run(&f);
        assert_null(pusher_user_id(f.client));
        assert_int_equal(f.errors, 1);
        assert_non_null(strstr(f.trace.at, "pusher:signin_error"));
        assert_null(strstr(f.trace.at, "pusher:signin_success"));
        fake_expect_nothing(&f);
        assert_int_equal(pusher_signin(f.client), PUSHER_OK); /* once more */
        sign_in(&f);
        fake_end(&f);
    }
}

static void no_answer_is_an_error_and_the_connection_stays(void **state)
{
    (void)state;
    fake f;
    begin(&f);
    pusher_signin(f.client);
    fake_online(&f);
    fake_sleep(&f, 9000);
    assert_int_equal(f.errors, 0);
    fake_sleep(&f, 2000);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    assert_non_null(strstr(f.trace.at, "pusher:signin_error"));
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_forget_heard(&f);
    assert_int_equal(pusher_signin(f.client), PUSHER_OK); /* its answer may still come */
    fake_run(&f);
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void without_a_way_it_is_refused_at_once(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    (void)f;
    assert_int_equal(pusher_signin(f.client), PUSHER_ERR_AUTH);
    assert_non_null(strstr(pusher_last_error(f.client)->message, "options.auth"));
    assert_int_equal(pusher_signin(NULL), PUSHER_ERR_ARGUMENT);
    fake_end(&f);
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.auth.secret = "s";
    fake_start(&f, &options);
    assert_int_equal(pusher_signin(f.client), PUSHER_ERR_AUTH);
    fake_end(&f);
}

static void the_users_events_have_their_own_handlers(void **state)
{
    (void)state;
    fake f;
    begin(&f);
    pusher_signin(f.client);
    fake_online(&f);
    fake_say(&f, "{\"event\":\"early\",\"channel\":\"#server-to-user-me\",\"data\":\"1\"}");
    sign_in(&f);
    uint32_t before = f.events;
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\","
                 "\"channel\":\"#server-to-user-me\"}");
    fake_say(&f, "{\"event\":\"hello\",\"channel\":\"#server-to-user-me\",\"data\":\"you\"}");
    fake_say(&f, "{\"event\":\"hello\",\"channel\":\"#server-to-user-other\",\"data\":\"you\"}");
    fake_run(&f);
    assert_int_equal(f.events, before + 1);
    assert_non_null(strstr(f.trace.at, "hello"));
    fake_say(&f, "{\"event\":\"pusher_internal:watchlist_events\",\"channel\":\"#server-to-user-me\","
                 "\"data\":\"{\\\"events\\\":[{\\\"name\\\":\\\"online\\\",\\\"user_ids\\\":[\\\"a\\\"]},"
                 "{\\\"name\\\":\\\"offline\\\",\\\"user_ids\\\":[\\\"b\\\",\\\"c\\\"]}]}\"}");
    fake_run(&f);
    assert_int_equal(f.events, before + 3);
    assert_string_equal(f.last_data, "{\"name\":\"offline\",\"user_ids\":[\"b\",\"c\"]}");
    fake_say(&f, "{\"event\":\"online\",\"data\":{\"user_ids\":[\"d\"]}}"); /* Sockudo */
    fake_run(&f);
    assert_int_equal(f.events, before + 4);
    fake_say(&f, "{\"event\":\"pusher_internal:watchlist_events\",\"data\":\"{\\\"events\\\":7}\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:watchlist_events\",\"data\":\"no\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:watchlist_events\"}");
    fake_run(&f);
    assert_int_equal(f.events, before + 4);
    fake_end(&f);
}

/* ---- presence and the user ---- */

static void bare_auth(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                      void *user_data)
{
    fake *f = (fake *)user_data;
    if (requests[0].kind == PUSHER_AUTH_USER) {
        fake_auth_fn(client, requests, count, f);
    } else {
        const char *body = f->extra ? (const char *)f->extra : "{" FAKE_AUTH "}";
        assert_int_equal(pusher_auth_accept(client, requests[0].ticket, body, strlen(body)),
                         PUSHER_OK);
    }
}

static pusher_channel begin_bare(fake *f)
{
    fake_init(f);
    pusher_options options = fake_options(f);
    options.auth.request_fn = bare_auth;
    options.auth.user_data = f;
    fake_start(f, &options);
    return fake_subscribe(f, "presence-a");
}

static void presence_waits_for_the_sign_in(void **state)
{
    (void)state;
    fake f;
    pusher_channel a = begin_bare(&f);
    pusher_member me;
    pusher_signin(f.client);
    fake_online(&f);
    fake_expect_text(&f, SIGNIN);
    fake_expect_nothing(&f);
    assert_true(pusher_next_poll_ms(f.client) > f.now); /* no spinning */
    fake_say(&f, SIGNED_IN);
    fake_run(&f);
    fake_expect_text(&f, MY_CHANNEL);
    fake_expect_text(&f, FAKE_SUBSCRIBE_AUTH("presence-a"));
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"presence-a\","
                 "\"data\":\"{\\\"presence\\\":{\\\"ids\\\":[\\\"me\\\"],\\\"hash\\\":{\\\"me\\\":1}}}\"}");
    fake_run(&f);
    assert_true(pusher_member_me(f.client, a, &me));
    assert_string_equal(me.info, "1");
    fake_end(&f);
}

/* Serializers write what is not there as null; pusher-js takes it for missing. */
static void no_channel_data_may_be_written_as_null(void **state)
{
    (void)state;
    fake f;
    static char body[] = "{" FAKE_AUTH ",\"channel_data\":null}";
    begin_bare(&f);
    f.extra = body;
    pusher_signin(f.client);
    fake_online(&f);
    fake_expect_text(&f, SIGNIN);
    fake_say(&f, SIGNED_IN);
    fake_run(&f);
    fake_expect_text(&f, MY_CHANNEL);
    fake_expect_text(&f, FAKE_SUBSCRIBE_AUTH("presence-a"));
    fake_end(&f);
}

static void presence_without_anybody_is_refused(void **state)
{
    (void)state;
    fake f;
    pusher_channel a = begin_bare(&f);
    fake_online(&f);
    assert_int_equal(f.errors, 1);
    assert_non_null(strstr(f.last_message, "channel_data"));
    assert_int_equal(pusher_channel_state(f.client, a), PUSHER_REFUSED);
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.auth_failures, 1);
    fake_end(&f);
    a = begin_bare(&f);
    pusher_signin(f.client);
    fake_online(&f);
    fake_sleep(&f, 11000); /* the sign-in is not answered */
    assert_int_equal(f.errors, 2);
    assert_int_equal(pusher_channel_state(f.client, a), PUSHER_REFUSED);
    fake_forget_heard(&f);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_user_signs_in_on_every_connection),
        cmocka_unit_test(the_user_makes_no_outage_longer),
        cmocka_unit_test(soketi_says_it_as_an_object),
        cmocka_unit_test(an_answer_without_a_user_is_an_error),
        cmocka_unit_test(no_answer_is_an_error_and_the_connection_stays),
        cmocka_unit_test(without_a_way_it_is_refused_at_once),
        cmocka_unit_test(the_users_events_have_their_own_handlers),
        cmocka_unit_test(presence_waits_for_the_sign_in),
        cmocka_unit_test(no_channel_data_may_be_written_as_null),
        cmocka_unit_test(presence_without_anybody_is_refused),
    };
    return cmocka_run_group_tests_name("api/user", tests, NULL, NULL);
}
