/* Losing a connection and coming back: back-off, close codes, error events, limits. */
#include "fake.h"

static uint32_t streams_before_loss;

static void lose(fake *f)
{
    uint32_t before = f->retries;
    streams_before_loss = f->stream_count;
    fake_poll(f);
    assert_int_equal(f->retries, before + 1);
}

static void to_loss(fake *f)
{
    fake_eof(f);
    lose(f);
}

/* A delay of 0 may be over in the poll that has set it. */
static void next_attempt_opens(fake *f)
{
    uint64_t due = f->now + f->last_delay;
    if (f->last_delay > 0) {
        fake_sleep(f, f->last_delay - 1);
        assert_int_equal(f->stream_count, streams_before_loss);
    }
    fake_sleep(f, due - f->now);
    assert_int_equal(f->stream_count, streams_before_loss + 1);
}

static void delays_double_up_to_the_cap(void **state)
{
    (void)state;
    uint32_t greatest[9] = { 0 };
    uint32_t least[9] = { 0 };
    static const uint32_t bound[9] = { 1000,  2000,  4000,  8000, 16000,
                                       30000, 30000, 30000, 30000 };
    for (int i = 0; i < 9; i++)
        least[i] = UINT32_MAX;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        fake f;
        fake_init(&f);
        f.random_state = seed * 77;
        pusher_options options = fake_options(&f);
        fake_start(&f, &options);
        fake_request(&f);
        for (uint32_t i = 0; i < 9; i++) {
            to_loss(&f);
            assert_int_equal(f.last_attempt, i + 1);
            assert_true(f.last_delay <= bound[i]);
            if (f.last_delay > greatest[i])
                greatest[i] = f.last_delay;
            if (f.last_delay < least[i])
                least[i] = f.last_delay;
            next_attempt_opens(&f);
        }
        fake_end(&f);
    }
    for (int i = 0; i < 9; i++) { /* full jitter: all of [0, bound] is used */
        assert_true(greatest[i] > bound[i] * 8 / 10);
        assert_true(least[i] < bound[i] * 2 / 10);
    }
}

static void own_base_and_cap(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.reconnect_base_ms = 10;
    options.reconnect_cap_ms = 25;
    fake_start(&f, &options);
    fake_request(&f);
    for (int i = 0; i < 50; i++) {
        to_loss(&f);
        assert_true(f.last_delay <= (i == 0 ? 10u : i == 1 ? 20u : 25u));
        next_attempt_opens(&f);
    }
    assert_int_equal(f.last_attempt, 50);
    fake_end(&f);
}

static void never_a_spin(void **state)
{
    (void)state;
    fake f; /* the random source says 0 for ever: delays of nothing, but one attempt a poll */
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.reconnect_base_ms = 1;
    options.reconnect_cap_ms = 1;
    f.open_fails = true;
    fake_start(&f, &options);
    pusher_connect(f.client);
    for (int i = 0; i < 100; i++) {
        uint64_t before = f.hook_calls[FAKE_OPEN];
        fake_poll(&f);
        assert_true(f.hook_calls[FAKE_OPEN] - before <= 1);
        f.now++;
    }
    fake_end(&f);
}

static void a_stable_connection_resets_the_count(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    for (uint32_t i = 1; i <= 4; i++) { /* each is lost at once: not stable */
        to_loss(&f);
        assert_int_equal(f.last_attempt, i);
        next_attempt_opens(&f);
        fake_run(&f);
        fake_establish(&f);
    }
    fake_pass(&f, 29000);
    to_loss(&f);
    assert_int_equal(f.last_attempt, 5);
    next_attempt_opens(&f);
    fake_run(&f);
    fake_establish(&f);
    fake_pass(&f, 30000);
    to_loss(&f);
    assert_int_equal(f.last_attempt, 1);
    assert_true(f.last_delay <= 1000);
    fake_end(&f);
}

static void reconnect_now(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_request(&f);
    for (int i = 0; i < 6; i++) {
        to_loss(&f);
        if (f.last_delay < 2)
            fake_pass(&f, 2);
        uint32_t before = f.stream_count;
        pusher_reconnect_now(f.client);
        assert_true(pusher_next_poll_ms(f.client) <= f.now);
        fake_run(&f);
        assert_true(f.stream_count == before + 1 || f.last_delay < 2);
    }
    fake_establish(&f);
    fake_expect_nothing(&f);
    pusher_reconnect_now(f.client); /* connected: only a check */
    fake_run(&f);
    fake_expect_text(&f, FAKE_PING);
    pusher_reconnect_now(f.client);
    fake_run(&f);
    fake_expect_nothing(&f); /* one is under way */
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    pusher_disconnect(f.client);
    fake_pass(&f, 2000);
    uint32_t before = f.stream_count;
    pusher_reconnect_now(f.client);
    fake_run(&f);
    assert_int_equal(f.stream_count, before); /* disconnected means disconnected */
    fake_end(&f);
}

static void reconnect_now_during_an_attempt(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    f.connect_result = PUSHER_IO_WANT_WRITE;
    pusher_connect(f.client);
    fake_run(&f);
    pusher_reconnect_now(f.client);
    fake_run(&f);
    assert_int_equal(f.stream_count, 1); /* it is attempting already */
    fake_the_stream(&f)->connect_result = 1;
    fake_run(&f);
    fake_establish(&f);
    fake_end(&f);
}

static void max_attempts(void **state)
{
    (void)state;
    for (uint32_t max = 1; max <= 3; max++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        options.max_attempts = max;
        f.open_fails = true;
        fake_start(&f, &options);
        pusher_connect(f.client);
        fake_pass(&f, 60000);
        assert_int_equal(pusher_get_state(f.client), PUSHER_FAILED);
        assert_int_equal(f.errors, max);
        assert_int_equal(f.retries, max - 1);
        assert_int_equal(f.hook_calls[FAKE_OPEN], max);
        assert_true(pusher_next_poll_ms(f.client) == UINT64_MAX);
        pusher_reconnect_now(f.client);
        fake_pass(&f, 1000);
        assert_int_equal(f.hook_calls[FAKE_OPEN], max);
        f.open_fails = false;
        fake_online(&f); /* connect() leaves the state failed, and counts anew */
        fake_eof(&f);
        fake_poll(&f);
        assert_int_equal(pusher_get_state(f.client), max > 1 ? PUSHER_CONNECTING : PUSHER_FAILED);
        assert_int_equal(f.retries, max > 1 ? max : 0);
        fake_end(&f);
    }
}

/* ---- close codes ---- */

typedef enum after { SOON, LATER, AT_ONCE, NEVER } after;

static const struct { int code; after what; } codes[] = {
    { 0, SOON },       { 1000, SOON },    { 1001, SOON },    { 1002, SOON },    { 1003, SOON },
    { 1007, SOON },    { 1008, SOON },    { 1011, SOON },    { 1012, SOON },    { 3000, SOON },
    { 3999, SOON },    { 4000, NEVER },   { 4001, NEVER },   { 4003, NEVER },   { 4004, NEVER },
    { 4009, NEVER },   { 4099, NEVER },   { 4100, LATER },   { 4199, LATER },   { 4200, AT_ONCE },
    { 4201, AT_ONCE }, { 4202, AT_ONCE }, { 4299, AT_ONCE }, { 4300, SOON },    { 4301, SOON },
    { 4999, SOON },
};

static void check_after(fake *f, int code, after what, const char *where)
{
    fake_poll(f);
    fake_poll(f);
    if (f->errors < 1)
        fail_msg("%d %s: no error", code, where);
    assert_int_equal(f->last_error.server_code, code);
    if (what == NEVER) {
        assert_int_equal(pusher_get_state(f->client), PUSHER_FAILED);
        assert_int_equal(f->retries, 0);
        fake_pass(f, 120000);
        assert_int_equal(f->stream_count, 1);
        assert_true(f->streams[0]->closed);
        assert_true(pusher_next_poll_ms(f->client) == UINT64_MAX);
        return;
    }
    if (f->retries != 1 || pusher_get_state(f->client) != PUSHER_CONNECTING)
        fail_msg("%d %s: %u retries", code, where, f->retries);
    if (what == AT_ONCE)
        assert_int_equal(f->last_delay, 0);
    if (what == LATER)
        assert_true(f->last_delay >= 1000);
    if (what == SOON)
        assert_true(f->last_delay <= 1000);
    fake_run(f);
    if (what == AT_ONCE) {
        fake_pass(f, 50);
        assert_int_equal(f->stream_count, 2);
        fake_run(f);
        fake_establish(f);
    } else if (f->stream_count == 1) {
        fake_online_again(f);
    }
}

static void every_class_of_close_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        for (int greeted = 0; greeted < 2; greeted++) {
            fake f;
            fake_init(&f);
            f.random_state = i * 2 + 5;
            pusher_options options = fake_options(&f);
            fake_start(&f, &options);
            fake_request(&f);
            if (greeted)
                fake_establish(&f);
            else
                fake_accept(&f);
            fake_run(&f);
            fake_say_close(&f, codes[i].code, codes[i].code ? "the reason" : NULL);
            fake_poll(&f);
            fake_expect_close(&f, codes[i].code); /* answered with the same code */
            if (codes[i].code && !strstr(f.last_message, "the reason"))
                fail_msg("%d: \"%s\"", codes[i].code, f.last_message);
            f.streams[0]->end = PUSHER_IO_EOF;
            check_after(&f, codes[i].code, codes[i].what, greeted ? "online" : "greeting");
            fake_end(&f);
        }
    }
}

/* The server that is fed up does not stay to read our answer to its close frame: what it said counts
   all the same. */
static void a_close_that_cannot_be_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        for (int greeted = 0; greeted < 2; greeted++) {
            fake f;
            fake_start(&f, NULL);
            fake_request(&f);
            if (greeted)
                fake_establish(&f);
            else
                fake_accept(&f);
            fake_run(&f);
            f.streams[0]->send_result = PUSHER_IO_ERROR;
            fake_say_close(&f, codes[i].code, codes[i].code ? "the reason" : NULL);
            fake_poll(&f);
            assert_int_equal(f.errors, 1);
            assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
            assert_int_equal(f.last_error.server_code, codes[i].code);
            if (codes[i].code && !strstr(f.last_message, "the reason"))
                fail_msg("%d: \"%s\"", codes[i].code, f.last_message);
            check_after(&f, codes[i].code, codes[i].what, greeted ? "online" : "greeting");
            assert_true(f.streams[0]->closed);
            fake_end(&f);
        }
    }
}

static void an_error_event_then_a_close_without_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        for (int fin = 0; fin < 2; fin++) {
            if (codes[i].code < 4000)
                continue;
            fake f;
            fake_start(&f, NULL);
            fake_online(&f);
            fake_say_format(&f, "{\"event\":\"pusher:error\",\"data\":{\"code\":%d,"
                                "\"message\":\"the server is fed up\"}}", codes[i].code);
            fake_run(&f);
            assert_int_equal(f.errors, 1);
            assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
            assert_int_equal(f.last_error.server_code, codes[i].code);
            assert_non_null(strstr(f.last_message, "the server is fed up"));
            assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
            fake_pass(&f, 500);
            assert_int_equal(f.retries, 0);
            if (fin)
                fake_eof(&f);
            else
                fake_say_close(&f, 0, NULL);
            fake_poll(&f);
            f.streams[0]->end = PUSHER_IO_EOF;
            check_after(&f, codes[i].code, codes[i].what, fin ? "fin" : "empty close");
            fake_end(&f);
        }
    }
}

static void an_error_event_alone_never_reconnects(void **state)
{
    (void)state;
    static const char *const errors[] = {
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4200,\"message\":\"Invalid message\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":4001,\"message\":\"no such app\"}}",
        "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4100,\\\"message\\\":\\\"x\\\"}\"}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":null,\"message\":\"hm\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"message\":\"no code\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"code\":\"4200\",\"message\":\"string\"}}",
        "{\"event\":\"pusher:error\",\"data\":{\"error\":\"other key\",\"code\":4302}}",
        "{\"event\":\"pusher:error\",\"data\":\"just text\"}",
        "{\"event\":\"pusher:error\",\"data\":\"\"}",
        "{\"event\":\"pusher:error\",\"data\":null}",
        "{\"event\":\"pusher:error\",\"data\":[]}",
        "{\"event\":\"pusher:error\",\"data\":17}",
        "{\"event\":\"pusher:error\"}",
        "{\"event\":\"pusher:error\",\"channel\":5,\"data\":{\"code\":{},\"message\":[]}}",
    };
    fake f;
    fake_start(&f, NULL);
    f.serve = fake_serve;
    pusher_connect(f.client);
    fake_run(&f);
    for (uint32_t i = 0; i < ARRAY_LEN(errors); i++) {
        fake_say(&f, errors[i]);
        fake_run(&f);
        if (f.errors != i + 1)
            fail_msg("%s: not reported", errors[i]);
        assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
        fake_pass(&f, 10000);
    }
    assert_string_equal(f.states, "connecting connected ");
    assert_int_equal(f.stream_count, 1);
    fake_end(&f);
}

static void an_old_error_does_not_colour_a_close(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        fake f;
        fake_start(&f, NULL);
        fake_online(&f);
        fake_say(&f, "{\"event\":\"pusher:error\",\"data\":{\"code\":4004,\"message\":\"x\"}}");
        if (way == 0)
            fake_say(&f, "{\"event\":\"news\",\"data\":\"a later message\"}");
        fake_pass(&f, way == 0 ? 100 : 3000);
        fake_eof(&f);
        fake_poll(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTING);
        assert_int_equal(f.retries, 1);
        fake_end(&f);
    }
}

static void an_error_before_the_greeting_ends_the_attempt(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        for (int shape = 0; shape < 2; shape++) {
            if (codes[i].code < 4000)
                continue;
            fake f;
            fake_start(&f, NULL);
            fake_request(&f);
            fake_accept(&f);
            fake_say_format(&f,
                            shape ? "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":%d,"
                                    "\\\"message\\\":\\\"no\\\"}\"}"
                                  : "{\"event\":\"pusher:error\",\"data\":{\"code\":%d,"
                                    "\"message\":\"no\"}}",
                            codes[i].code);
            fake_poll(&f); /* the server leaves the socket open */
            assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
            check_after(&f, codes[i].code, codes[i].what, "error instead of greeting");
            assert_true(f.streams[0]->closed);
            fake_end(&f);
        }
    }
}

static void the_answer_to_a_close_is_within_the_budget(void **state)
{
    (void)state;
    char name[201];
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_poll_bytes = 512;
    fake_start(&f, &options);
    fake_online(&f);
    f.send_block = 1;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "%0200d", i);
        fake_subscribe(&f, name);
    }
    fake_run(&f);
    f.send_block = 0;
    f.streams[0]->repeat_at = NULL; /* it was let off: what is sent next may be less */
    f.poll_sent_max = 0;
    fake_say_close(&f, 4100, "full");
    fake_run(&f);
    assert_true(f.poll_sent_max > 0 && f.poll_sent_max <= 512);
    fake_eof(&f);
    fake_run(&f);
    fake_end(&f);
}

static void at_once_only_the_first_time(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_say_close(&f, 4200, "restart");
    fake_poll(&f);
    assert_int_equal(f.last_delay, 0);
    fake_run(&f);
    fake_pass(&f, 10);
    uint32_t zeros = 0;
    for (uint32_t i = 2; i <= 12; i++) {
        fake_run(&f);
        fake_establish(&f);
        fake_say_close(&f, 4200, "restart");
        lose(&f);
        assert_int_equal(f.last_attempt, i);
        zeros += f.last_delay == 0;
        next_attempt_opens(&f);
    }
    assert_true(zeros <= 1); /* by chance, of a random wait up to 30 s */
    fake_run(&f);
    fake_establish(&f);
    fake_pass(&f, 31000); /* stable again */
    fake_forget_heard(&f);
    fake_say_close(&f, 4200, "restart");
    fake_poll(&f);
    assert_int_equal(f.last_delay, 0);
    assert_int_equal(f.last_attempt, 1);
    fake_end(&f);
}

static void tls_only(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_say_close(&f, 4000, "SSL only");
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_FAILED);
    assert_int_equal(f.last_error.server_code, 4000);
    assert_non_null(strstr(f.last_message, "TLS"));
    fake_end(&f);
}

static void connect_leaves_failed(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_channel channel = fake_subscribe(&f, "chat");
    fake_online(&f);
    fake_say_close(&f, 4001, "no such app");
    fake_eof(&f);
    fake_pass(&f, 3000);
    assert_string_equal(f.states, "connecting connected failed ");
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
    fake_forget_heard(&f);
    fake_online(&f);
    assert_string_equal(f.states, "connecting connected failed connecting connected ");
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    fake_end(&f);
}

static void disconnect_leaves_failed(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_say_close(&f, 4001, "no such app");
    fake_pass(&f, 3000);
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    fake_end(&f);
}

static void half_a_frame_of_the_old_stream_is_forgotten(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    fake_online(&f);
    fake_raw(&f, "\x81\x20{\"event\":\"new", 15);
    fake_run(&f);
    to_loss(&f);
    fake_online_again(&f);
    fake_say(&f, "{\"event\":\"news\"}");
    fake_run(&f);
    assert_int_equal(f.events, 1);
    fake_frame(&f, 0x01, "{\"event\":", 9); /* half a message */
    fake_run(&f);
    to_loss(&f);
    fake_online_again(&f);
    fake_say(&f, "{\"event\":\"news\"}");
    fake_run(&f);
    assert_int_equal(f.events, 2);
    assert_int_equal(f.errors, 2);
    fake_end(&f);
}

static void output_of_the_old_stream_is_forgotten(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    f.send_block = 1;
    fake_subscribe(&f, "one");
    fake_subscribe(&f, "two");
    fake_run(&f);
    to_loss(&f);
    f.send_block = 0;
    fake_online_again(&f);
    fake_expect_text(&f, FAKE_SUBSCRIBE("one"));
    fake_expect_text(&f, FAKE_SUBSCRIBE("two"));
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void the_random_source_fails_while_connected(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 5; n++) {
        fake f;
        fake_start(&f, NULL);
        fake_subscribe(&f, "chat");
        f.random_fail_at = f.hook_calls[FAKE_RANDOM] + n;
        f.serve = fake_serve;
        pusher_connect(f.client);
        fake_pass(&f, 10000); /* whichever call it was, the client is back */
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        assert_int_equal(pusher_channel_state(f.client, pusher_find_channel(f.client, "chat")),
                         PUSHER_SUBSCRIBED);
        fake_end(&f);
    }
}

static void on_retry_now(fake *f, uint32_t delay_ms, uint32_t attempt)
{
    (void)delay_ms;
    (void)attempt;
    pusher_reconnect_now(f->client);
}

/* Who does not want to wait asks for it where the wait is announced. */
static void a_goodbye_before_a_retry_that_is_hurried(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    f.on_retry = on_retry_now;
    fake_frame(&f, 0x83, "x", 1); /* an opcode that is none */
    fake_run(&f);
    assert_int_equal(f.stream_count, 2);
    fake_expect_close(&f, 1002);
    fake_establish(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_double_up_to_the_cap),
        cmocka_unit_test(own_base_and_cap),
        cmocka_unit_test(never_a_spin),
        cmocka_unit_test(a_stable_connection_resets_the_count),
        cmocka_unit_test(reconnect_now),
        cmocka_unit_test(reconnect_now_during_an_attempt),
        cmocka_unit_test(max_attempts),
        cmocka_unit_test(every_class_of_close_code),
        cmocka_unit_test(a_close_that_cannot_be_answered),
        cmocka_unit_test(an_error_event_then_a_close_without_code),
        cmocka_unit_test(an_error_event_alone_never_reconnects),
        cmocka_unit_test(an_old_error_does_not_colour_a_close),
        cmocka_unit_test(an_error_before_the_greeting_ends_the_attempt),
        cmocka_unit_test(the_answer_to_a_close_is_within_the_budget),
        cmocka_unit_test(at_once_only_the_first_time),
        cmocka_unit_test(tls_only),
        cmocka_unit_test(connect_leaves_failed),
        cmocka_unit_test(disconnect_leaves_failed),
        cmocka_unit_test(half_a_frame_of_the_old_stream_is_forgotten),
        cmocka_unit_test(output_of_the_old_stream_is_forgotten),
        cmocka_unit_test(the_random_source_fails_while_connected),
        cmocka_unit_test(a_goodbye_before_a_retry_that_is_hurried),
    };
    return cmocka_run_group_tests_name("api/reconnect", tests, NULL, NULL);
}
