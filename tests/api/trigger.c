/* Client events: what may be sent, what is refused and why, how many a second, and the queue. */
#include "fake.h"

#define SENT(event, channel, data)                                                                 \
    "{\"event\":\"" event "\",\"channel\":\"" channel "\",\"data\":" data "}"

static void say_subscribed(fake *f, const char *name)
{
    bool presence = strncmp(name, "presence-", 9) == 0;
    fake_say_format(f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"%s\","
                       "\"data\":%s}", name,
                    presence ? "{\"presence\":{\"ids\":[\"me\"],\"hash\":{},\"count\":1}}" : "{}");
    fake_run(f);
}

static void begin(fake *f, void (*change)(pusher_options *options))
{
    fake_init(f);
    pusher_options options = fake_options(f);
    fake_authorize(f, &options);
    if (change) change(&options);
    fake_start(f, &options);
    fake_online(f);
}

static pusher_channel live(fake *f, const char *name)
{
    pusher_channel channel = fake_subscribe(f, name);
    fake_run(f);
    say_subscribed(f, name);
    assert_int_equal(pusher_channel_state(f->client, channel), PUSHER_SUBSCRIBED);
    fake_forget_heard(f);
    return channel;
}

static pusher_result trigger(fake *f, pusher_channel channel, const char *event, const char *json)
{
    return pusher_trigger(f->client, channel, event, json, strlen(json));
}

static void events_go_out_as_they_are(void **state)
{
    (void)state;
    fake f;
    begin(&f, NULL);
    pusher_channel a = live(&f, "private-a"), b = live(&f, "presence-b");
    pusher_channel c = live(&f, "private-cache-c");
    assert_int_equal(trigger(&f, a, "client-x", "{\"n\":1}"), PUSHER_OK);
    assert_int_equal(trigger(&f, b, "client-App.Typing", "\"text\""), PUSHER_OK);
    assert_int_equal(trigger(&f, c, "client-", " [1, 2] "), PUSHER_OK);
    fake_run(&f);
    fake_expect_text(&f, SENT("client-x", "private-a", "{\"n\":1}"));
    fake_expect_text(&f, SENT("client-App.Typing", "presence-b", "\"text\""));
    fake_expect_text(&f, SENT("client-", "private-cache-c", " [1, 2] "));
    fake_end(&f);
}

static void small(pusher_options *options)
{
    options->max_client_event_bytes = 20;
}

static void each_reason_has_its_code(void **state)
{
    (void)state;
    fake f;
    begin(&f, small);
    pusher_channel none = { 0, 0 }, gone = live(&f, "private-gone");
    pusher_channel open = live(&f, "open"), sealed = live(&f, "private-encrypted-x");
    pusher_channel good = live(&f, "private-a");
    pusher_unsubscribe(f.client, gone);
    fake_run(&f);
    fake_forget_heard(&f);
    pusher_channel pending = fake_subscribe(&f, "private-pending");
    const struct { pusher_channel channel; const char *event, *json; pusher_result want; } cases[] = {
        { none, "client-x", "{}", PUSHER_ERR_STALE },
        { gone, "client-x", "{}", PUSHER_ERR_STALE },
        { good, "x", "{}", PUSHER_ERR_NAME },
        { good, "", "{}", PUSHER_ERR_NAME },
        { good, "Client-x", "{}", PUSHER_ERR_NAME },
        { good, "client-\"", "{}", PUSHER_ERR_NAME },
        { good, "client-\\", "{}", PUSHER_ERR_NAME },
        { good, "client-\n", "{}", PUSHER_ERR_NAME },
        { open, "client-x", "{}", PUSHER_ERR_PUBLIC },
        { sealed, "client-x", "{}", PUSHER_ERR_ENCRYPTED },
        { good, "client-x", "\"012345678901234567890\"", PUSHER_ERR_TOO_BIG },
        { good, "client-x", "", PUSHER_ERR_PARSE },
        { good, "client-x", "{", PUSHER_ERR_PARSE },
        { good, "client-x", "{}{}", PUSHER_ERR_PARSE },
        { good, "client-x", "\"\xFF\"", PUSHER_ERR_PARSE },
        { good, "client-x", "hello", PUSHER_ERR_PARSE },
        { pending, "client-x", "{}", PUSHER_ERR_NOT_SUBSCRIBED },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        pusher_result got = trigger(&f, cases[i].channel, cases[i].event, cases[i].json);
        if (got != cases[i].want) fail_msg("%s %s: %s", cases[i].event, cases[i].json, pusher_result_name(got));
        assert_int_equal(pusher_last_error(f.client)->code, cases[i].want);
        assert_true(strlen(pusher_last_error(f.client)->message) > 5);
    }
    assert_int_equal(pusher_trigger(f.client, good, NULL, "{}", 2), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_trigger(f.client, good, "client-x", NULL, 0), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_trigger(NULL, good, "client-x", "{}", 2), PUSHER_ERR_ARGUMENT);
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE_AUTH("private-pending"));
    fake_expect_nothing(&f);
    fake_eof(&f);
    fake_run(&f);
    assert_int_equal(trigger(&f, good, "client-x", "{}"), PUSHER_ERR_NOT_CONNECTED);
    fake_end(&f);
}

static void ten_a_second_in_a_window_that_slides(void **state)
{
    (void)state;
    fake f;
    begin(&f, NULL);
    pusher_channel a = live(&f, "private-a"), b = live(&f, "private-b");
    for (int i = 0; i < 5; i++) assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_OK);
    fake_pass(&f, 600);
    for (int i = 0; i < 5; i++) assert_int_equal(trigger(&f, b, "client-x", "1"), PUSHER_OK);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_ERR_RATE);
    fake_pass(&f, 350);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_ERR_RATE);
    fake_pass(&f, 50); /* the first five are a second old */
    for (int i = 0; i < 5; i++) assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_OK);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_ERR_RATE);
    fake_run(&f);
    fake_forget_heard(&f);
    fake_end(&f);
}

static void fast(pusher_options *options)
{
    options->client_events_per_s = 1000;
    options->max_output_bytes = 1024;
}

static void a_full_output_is_said_and_nothing_is_lost(void **state)
{
    (void)state;
    fake f;
    begin(&f, fast);
    pusher_channel a = live(&f, "private-a");
    fake_the_stream(&f)->send_result = PUSHER_IO_WANT_WRITE;
    unsigned taken = 0;
    pusher_result result;
    while ((result = trigger(&f, a, "client-x", "\"some text\"")) == PUSHER_OK) taken++;
    assert_int_equal(result, PUSHER_ERR_QUEUE_FULL);
    assert_true(taken > 3);
    fake_run(&f);
    fake_the_stream(&f)->send_result = 1;
    fake_run(&f);
    for (unsigned i = 0; i < taken; i++)
        fake_expect_text(&f, SENT("client-x", "private-a", "\"some text\""));
    fake_expect_nothing(&f);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_OK);
    fake_run(&f);
    fake_forget_heard(&f);
    fake_end(&f);
}

static void patient(pusher_options *options)
{
    options->client_event_queue_bytes = 1200;
}

static void the_queue_waits_for_the_subscription(void **state)
{
    (void)state;
    fake f;
    begin(&f, patient);
    pusher_channel a = fake_subscribe(&f, "private-a"), b = fake_subscribe(&f, "private-b");
    for (int i = 0; i < 12; i++) {
        char json[16];
        snprintf(json, sizeof json, "%d", i);
        assert_int_equal(trigger(&f, a, "client-x", json), PUSHER_OK);
    }
    assert_int_equal(trigger(&f, b, "client-y", "0"), PUSHER_OK);
    assert_int_equal(trigger(&f, b, "x", "0"), PUSHER_ERR_NAME);
    int more = 0;
    while (trigger(&f, b, "client-y", "1") == PUSHER_OK) more++;
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_QUEUE_FULL);
    assert_true(more > 2);
    fake_run(&f);
    fake_forget_heard(&f);
    say_subscribed(&f, "private-a");
    for (int i = 0; i < 10; i++) {
        char want[100];
        snprintf(want, sizeof want, SENT("client-x", "private-a", "%d"), i);
        fake_expect_text(&f, want);
    }
    fake_expect_nothing(&f); /* ten a second */
    fake_sleep(&f, 1000);
    fake_expect_text(&f, SENT("client-x", "private-a", "10"));
    fake_expect_text(&f, SENT("client-x", "private-a", "11"));
    fake_expect_nothing(&f);
    pusher_unsubscribe(f.client, b);
    fake_sleep(&f, 1000);
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.dropped_triggers, more + 1);
    fake_end(&f);
}

static void the_queue_survives_a_lost_connection(void **state)
{
    (void)state;
    fake f;
    begin(&f, patient);
    pusher_channel a = live(&f, "private-a");
    fake_eof(&f);
    fake_run(&f);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_OK);
    fake_online_again(&f);
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE_AUTH("private-a"));
    fake_expect_nothing(&f);
    say_subscribed(&f, "private-a");
    fake_expect_text(&f, SENT("client-x", "private-a", "1"));
    fake_end(&f);
}

/* Nothing would ever come of it. */
static void the_queue_is_not_for_a_refused_channel(void **state)
{
    (void)state;
    fake f;
    begin(&f, patient);
    pusher_channel a = fake_subscribe(&f, "private-a");
    fake_run(&f);
    assert_int_equal(trigger(&f, a, "client-x", "1"), PUSHER_OK);
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"private-a\",\"data\":{}}");
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, a), PUSHER_REFUSED);
    assert_int_equal(trigger(&f, a, "client-x", "2"), PUSHER_ERR_NOT_SUBSCRIBED);
    fake_run(&f);
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.dropped_triggers, 1);
    fake_forget_heard(&f);
    fake_eof(&f);
    fake_run(&f);
    assert_int_equal(trigger(&f, a, "client-x", "3"), PUSHER_OK); /* it will be tried again */
    fake_end(&f);
}

/* What waits for a channel that nobody confirms is nothing to the others. */
static void a_live_channel_does_not_wait_in_the_queue_of_others(void **state)
{
    (void)state;
    fake f;
    pusher_result result = PUSHER_OK;
    begin(&f, patient);
    pusher_channel a = live(&f, "private-a"), b = fake_subscribe(&f, "private-b");
    fake_run(&f);
    for (int i = 0; i < 100 && result == PUSHER_OK; i++) result = trigger(&f, b, "client-x", "1");
    assert_int_equal(result, PUSHER_ERR_QUEUE_FULL);
    fake_forget_heard(&f);
    assert_int_equal(trigger(&f, a, "client-x", "2"), PUSHER_OK);
    fake_run(&f);
    fake_expect_text(&f, "{\"event\":\"client-x\",\"channel\":\"private-a\",\"data\":2}");
    fake_expect_nothing(&f);
    fake_end(&f);
}

static uint64_t sender_seen;

static void on_client_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)user_data;
    sender_seen++;
    assert_string_equal(event->user_id, "u7");
    assert_string_equal(event->data, "{\"a\":1}");
    assert_false(event->data_was_string);
}

static void the_sender_is_known_in_presence_channels(void **state)
{
    (void)state;
    fake f;
    begin(&f, NULL);
    pusher_channel b = live(&f, "presence-b");
    pusher_bind(f.client, b, "client-x", on_client_event, NULL);
    fake_say(&f, "{\"event\":\"client-x\",\"channel\":\"presence-b\",\"data\":{\"a\":1},"
                 "\"user_id\":\"u7\"}");
    fake_run(&f);
    assert_int_equal(sender_seen, 1);
    fake_end(&f);
}

static void more_fields_of_a_subscription(void **state)
{
    (void)state;
    fake f;
    begin(&f, NULL);
    static const struct { const char *fields; pusher_result why; } bad[] = {
        { "", PUSHER_ERR_PARSE }, { "7", PUSHER_ERR_PARSE }, { "[]", PUSHER_ERR_PARSE },
        { "{\"a\":}", PUSHER_ERR_PARSE }, { "{\"channel\":\"x\"}", PUSHER_ERR_PARSE },
        { "{\"auth\":1}", PUSHER_ERR_PARSE }, { "{\"a\":1,\"channel_data\":\"\"}", PUSHER_ERR_PARSE },
        { "{\"\\u0061uth\":1}", PUSHER_ERR_PARSE },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        pusher_channel channel = pusher_subscribe_with(f.client, "a", bad[i].fields);
        if (channel.id) fail_msg("%s", bad[i].fields);
        assert_int_equal(pusher_last_error(f.client)->code, bad[i].why);
    }
    pusher_channel a = pusher_subscribe_with(f.client, "a", " {\"rewind\":10} ");
    pusher_channel b = pusher_subscribe_with(f.client, "private-b", "{\"filter\":{\"x\":[1]}}");
    pusher_channel c = pusher_subscribe_with(f.client, "c", "{ }");
    assert_true(a.id && b.id && c.id);
    fake_run(&f);
    fake_expect_text(&f, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"a\",\"rewind\":10}}");
    fake_expect_text(&f, FAKE_SUBSCRIBE("c"));
    fake_expect_text(&f, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-b\","
                         FAKE_AUTH ",\"filter\":{\"x\":[1]}}}");
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_go_out_as_they_are),
        cmocka_unit_test(each_reason_has_its_code),
        cmocka_unit_test(ten_a_second_in_a_window_that_slides),
        cmocka_unit_test(a_full_output_is_said_and_nothing_is_lost),
        cmocka_unit_test(the_queue_waits_for_the_subscription),
        cmocka_unit_test(the_queue_survives_a_lost_connection),
        cmocka_unit_test(the_queue_is_not_for_a_refused_channel),
        cmocka_unit_test(a_live_channel_does_not_wait_in_the_queue_of_others),
        cmocka_unit_test(the_sender_is_known_in_presence_channels),
        cmocka_unit_test(more_fields_of_a_subscription),
    };
    return cmocka_run_group_tests_name("api/trigger", tests, NULL, NULL);
}
