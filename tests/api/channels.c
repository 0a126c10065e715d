/* Channels: names, references, what the server hears, answers and their absence, many of them. */
#include "fake.h"

static void start(fake *f)
{
    fake_start(f, NULL);
    fake_online(f);
}

static void say_subscribed(fake *f, const char *name)
{
    fake_say_format(f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\","
                       "\"channel\":\"%s\"}", name);
}

/* ---- names ---- */

static void good_names(void **state)
{
    (void)state;
    char longest[201];
    memset(longest, 'n', 200);
    longest[200] = '\0';
    const char *const names[] = {
        "a", "Z", "0", "chat", "_", "-", "=", "@", ",", ".", ";", ":", "a#b", "my-channel_1",
        "cache-x", "cache-", "private", "presence", "Private-x", "xprivate-x", "privatex",
        "App.Models.User.1", "a=b@c,d.e;f:g", longest,
    };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char text[300];
        pusher_channel channel = fake_subscribe(&f, names[i]);
        assert_string_equal(pusher_channel_name(f.client, channel), names[i]);
        fake_run(&f);
        snprintf(text, sizeof text, FAKE_SUBSCRIBE("%s"), names[i]);
        fake_expect_text(&f, text);
        say_subscribed(&f, names[i]);
        fake_run(&f);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    }
    fake_end(&f);
}

static void bad_names(void **state)
{
    (void)state;
    char too_long[202];
    memset(too_long, 'n', 201);
    too_long[201] = '\0';
    const struct { const char *name; pusher_result why; } names[] = {
        { "", PUSHER_ERR_NAME },           { "#", PUSHER_ERR_NAME },
        { "#server-to-user-1", PUSHER_ERR_NAME },
        { "a b", PUSHER_ERR_NAME },        { " a", PUSHER_ERR_NAME },
        { "a/b", PUSHER_ERR_NAME },        { "a\"b", PUSHER_ERR_NAME },
        { "a\\b", PUSHER_ERR_NAME },       { "a\nb", PUSHER_ERR_NAME },
        { "\x7F", PUSHER_ERR_NAME },       { "caf\xC3\xA9", PUSHER_ERR_NAME },
        { "a!", PUSHER_ERR_NAME },         { "a*", PUSHER_ERR_NAME },
        { "a+b", PUSHER_ERR_NAME },        { "{a}", PUSHER_ERR_NAME },
        { "a?b", PUSHER_ERR_NAME },        { "a'b", PUSHER_ERR_NAME },
        { too_long, PUSHER_ERR_NAME },     { "private- x", PUSHER_ERR_NAME },
        { "private-x", PUSHER_ERR_AUTH },
        { "private-", PUSHER_ERR_AUTH },
        { "private-encrypted-x", PUSHER_ERR_AUTH },
        { "private-cache-x", PUSHER_ERR_AUTH },
        { "private-encrypted-cache-x", PUSHER_ERR_AUTH },
        { "presence-x", PUSHER_ERR_AUTH },
        { "presence-cache-x", PUSHER_ERR_AUTH },
    };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        pusher_channel channel = pusher_subscribe(f.client, names[i].name);
        if (channel.id != 0)
            fail_msg("\"%s\" was taken", names[i].name);
        if (pusher_last_error(f.client)->code != names[i].why)
            fail_msg("\"%s\": %s", names[i].name,
                     pusher_result_name(pusher_last_error(f.client)->code));
        assert_true(strlen(pusher_last_error(f.client)->message) > 0);
        assert_int_equal(pusher_find_channel(f.client, names[i].name).id, 0);
    }
    fake_run(&f);
    fake_expect_nothing(&f);
    assert_int_equal(f.errors, 0);
    assert_int_equal(pusher_next_channel(f.client, (pusher_channel){ 0, 0 }).id, 0);
    fake_end(&f);
}

/* ---- references ---- */

static void the_wire_hears_first_and_last_only(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel a = fake_subscribe(&f, "chat"), b = fake_subscribe(&f, "chat");
    assert_int_equal(a.id, b.id);
    assert_int_equal(a.generation, b.generation);
    assert_int_equal(pusher_channel_references(f.client, a), 2);
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    for (int i = 0; i < 100; i++)
        fake_subscribe(&f, "chat");
    assert_int_equal(pusher_channel_references(f.client, a), 102);
    fake_run(&f);
    for (int i = 0; i < 101; i++)
        assert_int_equal(pusher_unsubscribe(f.client, a), PUSHER_OK);
    fake_run(&f);
    fake_expect_nothing(&f);
    assert_int_equal(pusher_channel_references(f.client, a), 1);
    assert_int_equal(pusher_unsubscribe(f.client, a), PUSHER_OK);
    assert_int_equal(pusher_channel_references(f.client, a), 0);
    fake_run(&f);
    fake_expect_text(&f, FAKE_UNSUBSCRIBE("chat"));
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void stale_handles(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel old = fake_subscribe(&f, "chat");
    pusher_binding binding = pusher_bind_all(f.client, old, fake_event_fn, &f);
    assert_true(binding.id != 0);
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(pusher_unsubscribe(f.client, old), PUSHER_OK);
    fake_run(&f);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(pusher_unsubscribe(f.client, old), PUSHER_ERR_STALE);
        assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_STALE);
        assert_int_equal(pusher_bind_all(f.client, old, fake_event_fn, &f).id, 0);
        assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_STALE);
        assert_int_equal(pusher_bind(f.client, old, "e", fake_event_fn, &f).id, 0);
        assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_STALE);
        assert_int_equal(pusher_unbind(f.client, binding), PUSHER_ERR_STALE);
        assert_int_equal(pusher_unbind_where(f.client, old, NULL, NULL, NULL), 0);
        assert_null(pusher_channel_name(f.client, old));
        assert_int_equal(pusher_channel_state(f.client, old), PUSHER_NOT_SUBSCRIBED);
        assert_int_equal(pusher_channel_references(f.client, old), 0);
        pusher_channel new_one = fake_subscribe(&f, round ? "other" : "chat");
        assert_true(new_one.id != old.id || new_one.generation != old.generation);
        fake_run(&f);
    }
    pusher_channel nonsense = { 4000000000u, 3 };
    assert_int_equal(pusher_unsubscribe(f.client, nonsense), PUSHER_ERR_STALE);
    pusher_binding wild = { 4000000000u, 3 };
    assert_int_equal(pusher_unbind(f.client, wild), PUSHER_ERR_STALE);
    assert_int_equal(f.errors, 0);
    fake_end(&f);
}

static void a_slot_used_ten_thousand_times(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_channel first = fake_subscribe(&f, "chat");
    pusher_unsubscribe(f.client, first);
    for (int i = 0; i < 10000; i++) {
        pusher_channel channel = fake_subscribe(&f, "chat");
        assert_true(channel.generation != first.generation || channel.id != first.id);
        assert_int_equal(pusher_unsubscribe(f.client, channel), PUSHER_OK);
    }
    assert_true(f.heap.peak_bytes < 40000);
    fake_end(&f);
}

static void find_and_walk(void **state)
{
    (void)state;
    static const char *const names[] = { "one", "two", "three", "four" };
    fake f;
    pusher_channel channels[4], none = { 0, 0 };
    fake_start(&f, NULL);
    for (size_t i = 0; i < 4; i++)
        channels[i] = fake_subscribe(&f, names[i]);
    for (size_t i = 0; i < 4; i++) {
        pusher_channel found = pusher_find_channel(f.client, names[i]);
        assert_int_equal(found.id, channels[i].id);
        assert_int_equal(found.generation, channels[i].generation);
    }
    assert_int_equal(pusher_find_channel(f.client, "One").id, 0);
    assert_int_equal(pusher_find_channel(f.client, "on").id, 0);
    assert_int_equal(pusher_find_channel(f.client, "onee").id, 0);
    pusher_unsubscribe(f.client, channels[1]);
    channels[1] = fake_subscribe(&f, "two"); /* now the last in the order */
    static const char *const order[] = { "one", "three", "four", "two" };
    pusher_channel at = none;
    for (size_t i = 0; i < 4; i++) {
        at = pusher_next_channel(f.client, at);
        assert_string_equal(pusher_channel_name(f.client, at), order[i]);
    }
    assert_int_equal(pusher_next_channel(f.client, at).id, 0);
    fake_online(&f);
    for (size_t i = 0; i < 4; i++) {
        char text[200];
        snprintf(text, sizeof text, FAKE_SUBSCRIBE("%s"), order[i]);
        fake_expect_text(&f, text);
    }
    fake_end(&f);
}

static void max_channels(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_channels = 2;
    fake_start(&f, &options);
    pusher_channel one = fake_subscribe(&f, "one");
    fake_subscribe(&f, "two");
    assert_int_equal(pusher_subscribe(f.client, "three").id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_MEMORY);
    assert_true(fake_subscribe(&f, "one").id == one.id); /* one more reference is no channel */
    pusher_unsubscribe(f.client, one);
    pusher_unsubscribe(f.client, one);
    fake_subscribe(&f, "three");
    fake_end(&f);
}

/* ---- pending, cancelled, reinstated ---- */

static void before_connecting(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_channel one = fake_subscribe(&f, "one"), two = fake_subscribe(&f, "two");
    assert_int_equal(pusher_channel_state(f.client, one), PUSHER_PENDING);
    pusher_unsubscribe(f.client, two);
    fake_online(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("one"));
    fake_expect_nothing(&f);
    assert_int_equal(pusher_channel_state(f.client, one), PUSHER_PENDING);
    fake_say(&f, FAKE_SUBSCRIBED("one"));
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, one), PUSHER_SUBSCRIBED);
    fake_end(&f);
}

static void cancelled_while_pending(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    pusher_unsubscribe(f.client, channel);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_NOT_SUBSCRIBED);
    assert_int_equal(pusher_find_channel(f.client, "chat").id, 0);
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    fake_expect_text(&f, FAKE_UNSUBSCRIBE("chat"));
    fake_expect_nothing(&f);
    assert_int_equal(f.events, 0);
    fake_end(&f);
}

static void cancelled_and_reinstated(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel first = fake_subscribe(&f, "chat");
    pusher_bind_all(f.client, first, fake_event_fn, &f);
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    pusher_unsubscribe(f.client, first);
    fake_run(&f);
    pusher_channel second = fake_subscribe(&f, "chat");
    assert_int_equal(pusher_channel_name(f.client, first) == NULL, 1); /* it did end */
    assert_int_equal(pusher_channel_state(f.client, second), PUSHER_PENDING);
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    fake_expect_nothing(&f); /* one subscription on the wire, and it stays */
    assert_int_equal(pusher_channel_state(f.client, second), PUSHER_SUBSCRIBED);
    assert_int_equal(f.events, 0); /* the old bindings went with the last reference */
    fake_end(&f);
}

static void cancelled_stays_cancelled_over_a_reconnect(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    pusher_unsubscribe(f.client, channel);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_pass(&f, 20000);
    fake_expect_nothing(&f);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_NOT_SUBSCRIBED);
    fake_end(&f);
}

static void unsubscribe_and_subscribe_at_once(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    fake_forget_heard(&f);
    pusher_unsubscribe(f.client, channel);
    pusher_channel again = fake_subscribe(&f, "chat"); /* in the same frame */
    fake_run(&f);
    fake_expect_text(&f, FAKE_UNSUBSCRIBE("chat"));
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_expect_nothing(&f);
    assert_int_equal(pusher_channel_state(f.client, again), PUSHER_PENDING);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, again), PUSHER_SUBSCRIBED);
    fake_end(&f);
}

static void events_between_unsubscribe_and_its_frame(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    pusher_bind_all(f.client, channel, fake_event_fn, &f);
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    pusher_unsubscribe(f.client, channel);
    fake_say(&f, "{\"event\":\"late\",\"channel\":\"chat\",\"data\":\"\"}");
    fake_run(&f);
    assert_int_equal(f.events, 1); /* the answer, nothing more */
    fake_end(&f);
}

static void full_output_loses_nothing(void **state)
{
    (void)state;
    fake f;
    pusher_channel channels[100];
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_output_bytes = 1024;
    fake_start(&f, &options);
    f.serve = fake_serve;
    pusher_connect(f.client);
    fake_run(&f);
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "channel-number-%d", i);
        channels[i] = fake_subscribe(&f, name);
    }
    fake_run(&f);
    for (int i = 0; i < 100; i++)
        assert_int_equal(pusher_channel_state(f.client, channels[i]), PUSHER_SUBSCRIBED);
    assert_int_equal(f.heard_count, 100);
    fake_forget_heard(&f);
    f.send_block = 1; /* nothing goes out */
    for (int i = 0; i < 100; i++)
        pusher_unsubscribe(f.client, channels[i]);
    for (int i = 0; i < 100; i += 2) {
        char name[32];
        snprintf(name, sizeof name, "channel-number-%d", i);
        channels[i] = fake_subscribe(&f, name);
    }
    fake_run(&f);
    f.send_block = 0;
    fake_run(&f);
    uint32_t subscribes = 0, unsubscribes = 0;
    const fake_message *message;
    while ((message = fake_next(&f)) != NULL) {
        subscribes += strstr(message->text, "pusher:subscribe") != NULL;
        unsubscribes += strstr(message->text, "pusher:unsubscribe") != NULL;
    }
    assert_int_equal(unsubscribes, 100);
    assert_int_equal(subscribes, 50);
    for (int i = 0; i < 100; i++)
        assert_int_equal(pusher_channel_state(f.client, channels[i]),
                         i % 2 ? PUSHER_NOT_SUBSCRIBED : PUSHER_SUBSCRIBED);
    fake_end(&f);
}

/* A large output is no reason to fill it at once: a poll makes what it may send. */
static void a_poll_stages_no_more_than_it_may_send(void **state)
{
    (void)state;
    fake f;
    pusher_stats before, after;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_output_bytes = 1 << 20;
    options.max_poll_bytes = 512;
    fake_start(&f, &options);
    f.serve = fake_serve;
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "channel-number-%d", i);
        fake_subscribe(&f, name);
    }
    pusher_connect(f.client);
    pusher_get_stats(f.client, &after);
    for (int polls = 0; after.messages_sent < 1000; polls++) {
        assert_true(polls < 1000);
        before = after;
        f.now++;
        (void)fake_poll(&f);
        pusher_get_stats(f.client, &after);
        assert_true(after.messages_sent - before.messages_sent <= 512 / 60 + 1);
    }
    fake_run(&f);
    assert_int_equal(f.heard_count, 1000);
    fake_forget_heard(&f);
    fake_end(&f);
}

/* ---- answers that refuse, and none ---- */

static void no_answer(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    pusher_bind(f.client, channel, "pusher:subscription_error", fake_event_fn, &f);
    pusher_bind(f.client, channel, "pusher:subscription_succeeded", fake_event_fn, &f);
    fake_run(&f);
    fake_pass(&f, 9900);
    assert_int_equal(f.errors, 0);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
    fake_pass(&f, 200);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    assert_string_equal(f.last_channel, "chat");
    assert_int_equal(f.last_error.channel.id, channel.id);
    assert_non_null(strstr(f.trace.at, "event [chat] pusher:subscription_error"));
    assert_int_equal(f.events, 1);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_pass(&f, 30000);
    assert_int_equal(f.errors, 1); /* told once */
    fake_say(&f, FAKE_SUBSCRIBED("chat")); /* better late than never */
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    assert_int_equal(f.events, 2);
    fake_end(&f);
}

static void no_answer_then_unsubscribe(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_pass(&f, 11000);
    pusher_unsubscribe(f.client, channel);
    fake_run(&f);
    fake_expect_text(&f, FAKE_UNSUBSCRIBE("chat")); /* the server may have taken us in */
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    fake_expect_nothing(&f);
    fake_end(&f);
}

/* The server has the question already: asked twice it could answer with an error. */
static void no_answer_then_one_more_reference(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_pass(&f, 11000);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    pusher_channel again = fake_subscribe(&f, "chat");
    assert_int_equal(again.id, channel.id);
    fake_pass(&f, 11000);
    fake_expect_nothing(&f);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    assert_int_equal(f.errors, 1);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    fake_end(&f);
}

static void cancelled_and_never_answered(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    pusher_unsubscribe(f.client, channel);
    fake_pass(&f, 30000);
    assert_int_equal(f.errors, 0); /* nobody is left to be told */
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_expect_text(&f, FAKE_UNSUBSCRIBE("chat"));
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void refusals_of_every_dialect(void **state)
{
    (void)state;
    static const struct { const char *text; int code; } refusals[] = {
        { "{\"event\":\"pusher:subscription_error\",\"channel\":\"chat\",\"data\":{\"type\":"
          "\"AuthError\",\"error\":\"The connection is unauthorized.\",\"status\":401}}", 401 },
        { "{\"event\":\"pusher:subscription_error\",\"channel\":\"chat\",\"data\":{\"type\":"
          "\"LimitReached\",\"error\":\"too long\",\"status\":4009}}", 4009 },
        { "{\"event\":\"pusher_internal:subscription_error\",\"channel\":\"chat\",\"data\":\"{}\"}",
          0 },
        { "{\"event\":\"pusher:subscription_error\",\"channel\":\"chat\"}", 0 },
        { "{\"event\":\"pusher:error\",\"channel\":\"chat\",\"data\":{\"code\":4301,"
          "\"message\":\"no\"}}", 4301 },
        /* pusher.com: no channel, but the text to sign, with socket id and channel */
        { "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"Auth signature "
          "should be of the form: key:HMAC of 123.456:chat\"}}", 0 },
        { "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4009,\\\"message\\\":\\\"Invalid "
          "signature: Expected HMAC SHA256 hex digest of 123.456:chat:{}, but got "
          "x\\\"}\"}", 4009 },
    };
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        fake f;
        start(&f);
        pusher_channel other = fake_subscribe(&f, "other");
        pusher_channel channel = fake_subscribe(&f, "chat");
        pusher_bind_all(f.client, channel, fake_event_fn, &f);
        pusher_bind_all(f.client, other, fake_event_fn, &f);
        fake_run(&f);
        fake_say(&f, refusals[i].text);
        fake_run(&f);
        if (pusher_channel_state(f.client, channel) != PUSHER_REFUSED)
            fail_msg("%s: not refused", refusals[i].text);
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
        assert_int_equal(f.last_error.server_code, refusals[i].code);
        assert_string_equal(f.last_channel, "chat");
        assert_int_equal(f.events, 1);
        assert_non_null(strstr(f.trace.at, "event [chat] pusher:subscription_error"));
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        assert_int_equal(pusher_channel_state(f.client, other), PUSHER_PENDING);
        fake_say(&f, FAKE_SUBSCRIBED("other"));
        fake_pass(&f, 15000);
        assert_int_equal(f.errors, 1); /* no time-out on top */
        fake_forget_heard(&f);
        fake_eof(&f); /* tried again after a reconnect */
        fake_run(&f);
        fake_online_again(&f);
        fake_expect_text(&f, FAKE_SUBSCRIBE("other"));
        fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
        fake_say(&f, FAKE_SUBSCRIBED("chat"));
        fake_run(&f);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        fake_end(&f);
    }
}

/* The text to sign is longer than what an error's text is cut to. */
static void a_long_name_in_an_error(void **state)
{
    (void)state;
    char name[201] = "";
    fake f;
    memset(name, 'x', sizeof name - 1);
    start(&f);
    pusher_channel channel = fake_subscribe(&f, name);
    fake_run(&f);
    fake_say_format(&f,
                    "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"Invalid "
                    "signature: Expected HMAC SHA256 hex digest of 123.456:%s, but got "
                    "x\"}}", name);
    fake_run(&f);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    assert_string_equal(f.last_channel, name);
    fake_end(&f);
}

static void a_refused_channel_is_left_without_a_word(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"chat\",\"data\":{}}");
    fake_run(&f);
    fake_forget_heard(&f);
    assert_int_equal(pusher_unsubscribe(f.client, channel), PUSHER_OK);
    fake_run(&f);
    fake_expect_nothing(&f); /* the server never took us in */
    pusher_channel again = fake_subscribe(&f, "chat"); /* a new first reference tries anew */
    fake_run(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    assert_int_equal(pusher_channel_state(f.client, again), PUSHER_PENDING);
    fake_end(&f);
}

static void a_cancelled_channel_is_refused(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    pusher_unsubscribe(f.client, channel);
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"chat\",\"data\":{}}");
    fake_pass(&f, 20000);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void errors_about_others_are_not_pinned_on_a_channel(void **state)
{
    (void)state;
    static const char *const errors[] = {
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4200,\"message\":\"Invalid\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"chat\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"123.456:chatter\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"123.4567:chat\"}}",
        "{\"event\":\"pusher:error\",\"channel\":\"other\",\"data\":{\"code\":4301}}",
    };
    fake f;
    start(&f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        fake_say(&f, errors[i]);
        fake_run(&f);
        assert_int_equal(f.errors, i + 1);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
    }
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    fake_say(&f, "{\"event\":\"pusher:error\",\"channel\":\"chat\",\"data\":{\"code\":4301,"
                 "\"message\":\"client event rate\"}}");
    fake_run(&f);
    assert_string_equal(f.last_channel, "chat"); /* reported, but it stays subscribed */
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    fake_end(&f);
}

static void answers_to_questions_not_asked(void **state)
{
    (void)state;
    fake f;
    start(&f);
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_say(&f, FAKE_SUBSCRIBED("chat")); /* twice */
    fake_say(&f, FAKE_SUBSCRIBED("never-asked"));
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_succeeded\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":9}");
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"never-asked\"}");
    fake_say(&f, "{\"event\":\"pusher:subscription_error\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"never-asked\","
                 "\"data\":{\"subscription_count\":2}}");
    fake_run(&f);
    assert_int_equal(f.events, 1);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

/* ---- how long events may have been missed ---- */

static uint32_t outage;

static void keep_outage(fake *f, const pusher_event *event)
{
    (void)f;
    outage = event->outage_ms;
}

/* "chat", whose outage is kept, and "other". */
static void two_live(fake *f)
{
    start(f);
    pusher_bind_all(f->client, fake_subscribe(f, "chat"), fake_event_fn, f);
    fake_subscribe(f, "other");
    f->on_event = keep_outage;
    fake_run(f);
    fake_say(f, FAKE_SUBSCRIBED("chat"));
    fake_say(f, FAKE_SUBSCRIBED("other"));
    fake_run(f);
}

/* The second connection was lost before the server had confirmed this channel again. */
static void an_outage_over_two_connections(void **state)
{
    (void)state;
    fake f;
    two_live(&f);
    assert_int_equal(outage, 0);
    uint64_t lost_at = f.now;
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, FAKE_SUBSCRIBED("other"));
    fake_pass(&f, 5000);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    uint64_t lost_again = f.now;
    fake_say(&f, FAKE_SUBSCRIBED("other"));
    fake_run(&f);
    fake_pass(&f, 5000);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(outage, f.now - lost_at);
    pusher_bind_all(f.client, pusher_find_channel(f.client, "other"), fake_event_fn, &f);
    fake_say(&f, FAKE_SUBSCRIBED("other")); /* it was there in between */
    fake_run(&f);
    assert_int_equal(outage, f.now - lost_again);
    fake_eof(&f);
    lost_at = f.now;
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(outage, f.now - lost_at);
    fake_end(&f);
}

/* A channel that stays refused makes no other's outage longer. */
static void an_outage_beside_a_refused_channel(void **state)
{
    (void)state;
    fake f;
    two_live(&f);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"other\"}");
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_pass(&f, 5000);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"other\"}");
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    uint64_t lost_at = f.now; /* nothing is heard any more */
    fake_pass(&f, 60000);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_eof(&f); /* before anything was confirmed */
    fake_run(&f);
    fake_online_again(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    assert_int_equal(outage, f.now - lost_at);
    fake_end(&f);
}

/* A laptop sleeps: no time for deadlines, but events were missed. */
static void an_outage_asleep(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) { /* the connection was lost before, or meanwhile */
        fake f;
        start(&f);
        pusher_channel channel = fake_subscribe(&f, "chat");
        pusher_bind_all(f.client, channel, fake_event_fn, &f);
        f.on_event = keep_outage;
        fake_run(&f);
        fake_say(&f, FAKE_SUBSCRIBED("chat"));
        fake_run(&f);
        uint64_t lost_at = f.now;
        if (way == 0) {
            fake_eof(&f);
            fake_poll(&f);
        }
        f.now += 2 * 3600 * 1000;
        if (way == 1) {
            fake_run(&f);
            fake_pass(&f, 100);
            fake_eof(&f);
        }
        uint32_t before = way == 0 ? 1 : f.stream_count;
        fake_run(&f);
        while (f.stream_count == before) fake_pass(&f, 50);
        fake_run(&f);
        fake_establish(&f);
        fake_say(&f, FAKE_SUBSCRIBED("chat"));
        fake_run(&f);
        assert_int_equal(outage, f.now - lost_at);
        fake_end(&f);
    }
}

/* ---- many ---- */

static void back_in_order_after_a_reconnect(void **state)
{
    (void)state;
    fake f;
    pusher_channel channels[50];
    fake_start(&f, NULL);
    f.serve = fake_serve;
    for (int i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "c%d", i);
        channels[i] = fake_subscribe(&f, name);
        pusher_bind_all(f.client, channels[i], fake_event_fn, &f);
    }
    pusher_connect(f.client);
    fake_run(&f);
    assert_int_equal(f.events, 50);
    for (int i = 0; i < 50; i += 7)
        pusher_unsubscribe(f.client, channels[i]);
    fake_run(&f);
    for (int round = 0; round < 3; round++) {
        fake_forget_heard(&f);
        f.events = 0;
        fake_eof(&f);
        fake_poll(&f);
        for (int i = 0; i < 50; i++)
            assert_int_equal(pusher_channel_state(f.client, channels[i]),
                             i % 7 ? PUSHER_PENDING : PUSHER_NOT_SUBSCRIBED);
        fake_pass(&f, 20000);
        for (int i = 0; i < 50; i++) {
            char text[200];
            snprintf(text, sizeof text, FAKE_SUBSCRIBE("c%d"), i);
            if (i % 7)
                fake_expect_text(&f, text);
        }
        fake_expect_nothing(&f);
        assert_int_equal(f.events, 42); /* bindings stay, and none fires twice */
    }
    fake_end(&f);
}

static void ten_thousand_channels(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_poll_bytes = 20000;
    fake_start(&f, &options);
    f.serve = fake_serve;
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "channel-%d", i);
        fake_subscribe(&f, name);
    }
    pusher_connect(f.client);
    for (int round = 0; round < 2; round++) {
        uint32_t subscribed = 0;
        fake_forget_heard(&f);
        while (pusher_get_state(f.client) != PUSHER_CONNECTED) {
            f.now += 10;
            fake_poll(&f);
        }
        fake_run(&f);
        pusher_channel at = { 0, 0 };
        while ((at = pusher_next_channel(f.client, at)).id != 0)
            subscribed += pusher_channel_state(f.client, at) == PUSHER_SUBSCRIBED;
        assert_int_equal(subscribed, MANY);
        for (int i = 0; i < MANY; i++) {
            char text[200];
            snprintf(text, sizeof text, FAKE_SUBSCRIBE("channel-%d"), i);
            fake_expect_text(&f, text);
        }
        fake_expect_nothing(&f);
        assert_true(f.poll_sent_max <= 20000);
        assert_true(f.poll_received_max <= 20000);
        fake_eof(&f);
        fake_poll(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTING);
    }
    fake_end(&f);
}

static void ten_thousand_unanswered(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    for (int i = 0; i < 10000; i++) {
        char name[32];
        snprintf(name, sizeof name, "channel-%d", i);
        fake_subscribe(&f, name);
    }
    fake_online(&f);
    fake_pass(&f, 10100);
    assert_int_equal(f.errors, 10000);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_names),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(the_wire_hears_first_and_last_only),
        cmocka_unit_test(stale_handles),
        cmocka_unit_test(a_slot_used_ten_thousand_times),
        cmocka_unit_test(find_and_walk),
        cmocka_unit_test(max_channels),
        cmocka_unit_test(before_connecting),
        cmocka_unit_test(cancelled_while_pending),
        cmocka_unit_test(cancelled_and_reinstated),
        cmocka_unit_test(cancelled_stays_cancelled_over_a_reconnect),
        cmocka_unit_test(unsubscribe_and_subscribe_at_once),
        cmocka_unit_test(events_between_unsubscribe_and_its_frame),
        cmocka_unit_test(full_output_loses_nothing),
        cmocka_unit_test(a_poll_stages_no_more_than_it_may_send),
        cmocka_unit_test(no_answer),
        cmocka_unit_test(no_answer_then_unsubscribe),
        cmocka_unit_test(no_answer_then_one_more_reference),
        cmocka_unit_test(cancelled_and_never_answered),
        cmocka_unit_test(refusals_of_every_dialect),
        cmocka_unit_test(a_long_name_in_an_error),
        cmocka_unit_test(a_refused_channel_is_left_without_a_word),
        cmocka_unit_test(a_cancelled_channel_is_refused),
        cmocka_unit_test(errors_about_others_are_not_pinned_on_a_channel),
        cmocka_unit_test(answers_to_questions_not_asked),
        cmocka_unit_test(an_outage_over_two_connections),
        cmocka_unit_test(an_outage_beside_a_refused_channel),
        cmocka_unit_test(an_outage_asleep),
        cmocka_unit_test(back_in_order_after_a_reconnect),
        cmocka_unit_test(ten_thousand_channels),
        cmocka_unit_test(ten_thousand_unanswered),
    };
    return cmocka_run_group_tests_name("api/channels", tests, NULL, NULL);
}
