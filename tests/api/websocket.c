/* RFC 6455 as a client has to keep it: frames in, control frames, what ends a connection. */
#include "fake.h"

#define NEWS "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"x\"}"

static void start(fake *f, const pusher_options *options)
{
    fake_start(f, options);
    pusher_channel channel = fake_subscribe(f, "chat");
    pusher_bind(f->client, channel, "news", fake_event_fn, f);
    fake_online(f);
    fake_say(f, FAKE_SUBSCRIBED("chat"));
    fake_run(f);
    fake_forget_heard(f);
}

static void still_alive(fake *f)
{
    uint32_t before = f->events;
    fake_say(f, NEWS);
    fake_run(f);
    assert_int_equal(f->events, before + 1);
    assert_int_equal(pusher_get_state(f->client), PUSHER_CONNECTED);
    assert_int_equal(f->stream_count, 1);
}

/* The rule was broken: an error, a close frame with this code, a retry, nothing after it. */
static void broken(fake *f, pusher_result code, int close_code, const char *what)
{
    uint32_t events = f->events;
    fake_say(f, NEWS);
    fake_poll(f);
    if (f->errors != 1 || f->last_error.code != code || f->retries != 1)
        fail_msg("%s: %u errors, %u retries, \"%s\"", what, f->errors, f->retries,
                 f->last_message);
    if (f->events != events)
        fail_msg("%s: an event after it was delivered", what);
    assert_int_equal(pusher_get_state(f->client), PUSHER_CONNECTING);
    fake_run(f);
    const fake_message *message = fake_next(f);
    if (!message || message->kind != FAKE_HEARD_CLOSE || message->code != close_code)
        fail_msg("%s: said %d %s", what, message ? message->code : -1,
                 message ? message->text : "(nothing)");
    fake_expect_nothing(f);
    fake_pass(f, 2000);
    assert_true(f->streams[0]->closed);
    if (f->stream_count == 1)
        fake_online_again(f);
}

static void breaks(const char *what, const void *bytes, size_t len, pusher_result code,
                   int close_code)
{
    for (size_t max = 0; max < 3; max++) { /* in whole, byte by byte, two by two */
        fake f;
        start(&f, NULL);
        f.recv_max = max;
        fake_raw(&f, bytes, len);
        broken(&f, code, close_code, what);
        fake_end(&f);
    }
}

#define BREAKS(bytes, code)                                                                        \
    breaks(#bytes, bytes, sizeof(bytes) - 1, PUSHER_ERR_PROTOCOL, code)

static void frames_that_break_a_rule(void **state)
{
    (void)state;
    BREAKS("\xC1\x02{}", 1002);                          /* RSV1 */
    BREAKS("\xA1\x02{}", 1002);                          /* RSV2 */
    BREAKS("\x91\x02{}", 1002);                          /* RSV3 */
    BREAKS("\xD9\x00", 1002);                            /* RSV on a ping */
    BREAKS("\x83\x02{}", 1002);                          /* opcodes 3 to 7 and 11 to 15 */
    BREAKS("\x84\x02{}", 1002);
    BREAKS("\x87\x00", 1002);
    BREAKS("\x8B\x02{}", 1002);
    BREAKS("\x8F\x00", 1002);
    BREAKS("\x81\x82" "abcd" "\x1A\x1F", 1002);          /* masked */
    BREAKS("\x89\x80" "abcd", 1002);
    BREAKS("\x80\x02{}", 1002);                          /* continuation of nothing */
    BREAKS("\x00\x02{}", 1002);
    BREAKS("\x01\x01{\x81\x01}", 1002);                  /* a message inside a message */
    BREAKS("\x01\x01{\x82\x01}", 1002);
    BREAKS("\x09\x00", 1002);                            /* control frame in pieces */
    BREAKS("\x08\x02\x03\xE8", 1002);
    BREAKS("\x89\x7E\x00\x7E", 1002);                    /* control frame over 125 bytes */
    BREAKS("\x88\x7E\x00\x80", 1002);
    BREAKS("\x81\x7E\x00\x02{}", 1002);                  /* length not minimal */
    BREAKS("\x81\x7E\x00\x7D", 1002);
    BREAKS("\x81\x7F\x00\x00\x00\x00\x00\x00\x00\x02{}", 1002);
    BREAKS("\x81\x7F\x00\x00\x00\x00\x00\x00\xFF\xFF", 1002);
    BREAKS("\x81\x7F\x80\x00\x00\x00\x00\x00\x00\x00", 1002); /* top bit set */
}

static void text_that_is_not_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x80\x80", "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xE2\x98", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF", "abc\xF0\x9F\x98",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fake_bytes bytes;
        memset(&bytes, 0, sizeof bytes);
        fake_frame_to(&bytes, 0x81, bad[i], strlen(bad[i]));
        breaks(bad[i], bytes.at, bytes.len, PUSHER_ERR_PROTOCOL, 1007);
        bytes.len = 0; /* every byte in a frame of its own */
        for (size_t at = 0; bad[i][at]; at++)
            fake_frame_to(&bytes, at ? 0x00 : 0x01, bad[i] + at, 1);
        fake_frame_to(&bytes, 0x80, "", 0);
        breaks(bad[i], bytes.at, bytes.len, PUSHER_ERR_PROTOCOL, 1007);
        fake_bytes_free(&bytes);
    }
}

static void text_that_is_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {
        "\x01", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\xE2\x98\x83\xF0\x9F\x98\x80",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        fake f;
        start(&f, NULL);
        for (size_t at = 0; good[i][at]; at++)
            fake_frame(&f, at ? 0x00 : 0x01, good[i] + at, 1);
        fake_frame(&f, 0x80, "", 0);
        fake_run(&f);
        assert_int_equal(f.errors, 1); /* not JSON, but well-formed */
        assert_int_equal(f.last_error.code, PUSHER_ERR_PARSE);
        still_alive(&f);
        fake_end(&f);
    }
}

static void fragments_with_pings_between(void **state)
{
    (void)state;
    const char *text = NEWS;
    size_t len = strlen(text);
    for (size_t a = 0; a <= len; a++) {
        fake f;
        start(&f, NULL);
        fake_frame(&f, 0x01, text, a);
        fake_frame(&f, 0x89, "one", 3);
        fake_frame(&f, 0x00, "", 0);
        fake_frame(&f, 0x8A, "unasked", 7);
        fake_frame(&f, 0x00, text + a, (len - a) / 2);
        fake_run(&f);
        fake_frame(&f, 0x89, "two", 3);
        fake_frame(&f, 0x80, text + a + (len - a) / 2, len - a - (len - a) / 2);
        fake_run(&f);
        if (f.events != 1)
            fail_msg("cut at %u: %u events", (unsigned)a, f.events);
        const fake_message *pong = fake_next(&f);
        assert_non_null(pong);
        assert_string_equal(pong->text, "one");
        pong = fake_next(&f);
        assert_non_null(pong);
        assert_string_equal(pong->text, "two");
        still_alive(&f);
        assert_int_equal(f.errors, 0);
        fake_end(&f);
    }
}

static void an_empty_final_continuation(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    fake_frame(&f, 0x01, NEWS, strlen(NEWS)); /* as ipe sends messages from 1 KB up */
    fake_frame(&f, 0x80, "", 0);
    fake_run(&f);
    assert_int_equal(f.events, 1);
    fake_frame(&f, 0x01, "", 0);
    fake_frame(&f, 0x00, "", 0);
    fake_frame(&f, 0x80, NEWS, strlen(NEWS));
    fake_run(&f);
    assert_int_equal(f.events, 2);
    fake_frame(&f, 0x81, "", 0); /* an empty message is not JSON, and no more than that */
    fake_run(&f);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_PARSE);
    fake_frame(&f, 0x01, "", 0);
    fake_frame(&f, 0x80, "", 0);
    fake_run(&f);
    assert_int_equal(f.errors, 2);
    still_alive(&f);
    fake_end(&f);
}

static void every_byte_a_fragment(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    const char *text = NEWS;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; text[i]; i++)
            fake_frame(&f, (i ? 0x00u : 0x01u) | (text[i + 1] ? 0u : 0x80u), text + i, 1);
        fake_run(&f);
    }
    assert_int_equal(f.events, 3);
    fake_end(&f);
}

static void binary_is_reported_and_skipped(void **state)
{
    (void)state;
    fake f;
    pusher_stats stats;
    start(&f, NULL);
    fake_frame(&f, 0x82, NEWS, strlen(NEWS));
    fake_run(&f);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_PROTOCOL);
    assert_int_equal(f.events, 0);
    still_alive(&f);
    fake_frame(&f, 0x02, "\xFF\xFE", 2); /* in pieces, and no UTF-8 */
    fake_frame(&f, 0x89, "", 0);
    fake_frame(&f, 0x00, "\x80\x00", 2);
    fake_frame(&f, 0x80, "\xC0", 1);
    fake_frame(&f, 0x82, "", 0);
    fake_run(&f);
    assert_int_equal(f.errors, 3);
    still_alive(&f);
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.messages_bad, 3);
    fake_end(&f);
}

static void close_frames_with_a_code(void **state)
{
    (void)state;
    static const int good[] = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
                                1014, 3000, 3999, 4101, 4999 };
    static const int bad[] = { 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
                               65535 };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        fake f;
        start(&f, NULL);
        fake_say_close(&f, good[i], "\xE2\x98\x83");
        fake_say(&f, NEWS);
        fake_poll(&f);
        assert_int_equal(f.last_error.code, PUSHER_ERR_SERVER);
        assert_int_equal(f.last_error.server_code, good[i]);
        assert_int_equal(f.events, 0);
        fake_run(&f);
        fake_expect_close(&f, good[i]);
        fake_end(&f);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char frame[] = { (char)0x88, 2, (char)(bad[i] >> 8), (char)(bad[i] & 255) };
        breaks("a close code that may not be sent", frame, 4, PUSHER_ERR_PROTOCOL, 1002);
    }
    BREAKS("\x88\x01\x03", 1002);
    BREAKS("\x88\x02\x00\x00", 1002);
    BREAKS("\x88\x04\x03\xE8\xC3(", 1007); /* a reason that is not UTF-8 */
    BREAKS("\x88\x04\x03\xE8\xE2\x98", 1007);
}

static void the_longest_reason(void **state)
{
    (void)state;
    fake f;
    char reason[124];
    start(&f, NULL);
    memset(reason, 'r', 123);
    reason[123] = '\0';
    fake_say_close(&f, 4100, reason);
    fake_poll(&f);
    assert_int_equal(f.last_error.server_code, 4100);
    assert_non_null(strstr(f.last_message, "rrrrrrrrrr"));
    fake_end(&f);
    start(&f, NULL);
    fake_say_close(&f, 4100, "\x01\x02\n\r\x1B[31m\x7F"); /* nothing for a terminal to obey */
    fake_poll(&f);
    for (const char *at = f.last_message; *at; at++)
        assert_true((unsigned char)*at >= 0x20 && *at != 0x7F);
    fake_end(&f);
}

static void a_close_inside_a_message(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    fake_frame(&f, 0x01, "{\"event\":", 9);
    fake_say_close(&f, 1001, "going away");
    fake_poll(&f);
    assert_int_equal(f.last_error.server_code, 1001);
    fake_end(&f);
}

static void too_big(void **state)
{
    (void)state;
    fake f;
    char *big = (char *)malloc(70000);
    assert_non_null(big);
    memset(big, 'x', 70000);
    memcpy(big, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"", 41);
    start(&f, NULL); /* the largest message that fits */
    memcpy(big + 65534, "\"}", 2);
    fake_frame(&f, 0x81, big, 65536);
    fake_run(&f);
    assert_int_equal(f.events, 1);
    assert_int_equal(f.errors, 0);
    big[65534] = 'x';
    memcpy(big + 65535, "\"}", 2);
    fake_frame(&f, 0x81, big, 65537); /* declared */
    broken(&f, PUSHER_ERR_TOO_BIG, 1009, "65537 bytes");
    fake_end(&f);
    start(&f, NULL); /* summed up */
    for (int i = 0; i < 9; i++)
        fake_frame(&f, i ? 0x00 : 0x01, big + i * 8000, i < 8 ? 8000 : 1537);
    broken(&f, PUSHER_ERR_TOO_BIG, 1009, "65537 bytes in pieces");
    fake_end(&f);
    start(&f, NULL); /* a binary message, too */
    fake_frame(&f, 0x82, big, 65537);
    broken(&f, PUSHER_ERR_TOO_BIG, 1009, "binary");
    fake_end(&f);
    start(&f, NULL); /* a declared length takes no memory */
    size_t live = f.heap.live_bytes;
    fake_raw(&f, "\x81\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFFx", 11);
    broken(&f, PUSHER_ERR_TOO_BIG, 1009, "exabytes");
    assert_true(f.heap.peak_bytes < live + 16384);
    fake_end(&f);
    free(big);
}

static void an_own_limit(void **state)
{
    (void)state;
    fake f;
    char text[600];
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_message_bytes = 512;
    start(&f, &options);
    int len = snprintf(text, sizeof text,
                       "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"%*d\"}", 512 - 43, 1);
    assert_int_equal(len, 512);
    fake_say(&f, text);
    fake_run(&f);
    assert_int_equal(f.events, 1);
    memmove(text + 1, text, 513);
    text[0] = ' ';
    fake_say(&f, text);
    broken(&f, PUSHER_ERR_TOO_BIG, 1009, "513 bytes");
    fake_end(&f);
}

static void a_flood_of_tiny_fragments(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    fake_frame(&f, 0x01, "{", 1);
    for (int i = 0; i < 60000; i++)
        fake_frame(&f, 0x00, " ", 1);
    fake_run(&f);
    assert_true(f.heap.live_bytes < 200000);
    const char *rest = "\"event\":\"news\",\"channel\":\"chat\"}";
    fake_frame(&f, 0x80, rest, strlen(rest));
    fake_run(&f);
    assert_int_equal(f.events, 1);
    fake_end(&f);
}

static void a_flood_of_pings_into_a_blocked_writer(void **state)
{
    (void)state;
    fake f;
    char payload[125];
    start(&f, NULL);
    memset(payload, 'p', sizeof payload);
    fake_run(&f);
    size_t live = f.heap.live_bytes;
    f.send_block = 1;
    for (int i = 0; i < 100000; i++) {
        payload[0] = (char)('A' + i % 26);
        fake_frame(&f, 0x89, payload, sizeof payload);
        if (i % 1000 == 999)
            fake_run(&f);
    }
    fake_run(&f);
    assert_int_equal(fake_latest(&f)->taken, fake_latest(&f)->to_client.len);
    assert_true(f.heap.peak_bytes < live + 131072);
    assert_int_equal(f.errors, 0);
    f.send_block = 0;
    fake_run(&f);
    const fake_message *message = NULL, *last = NULL;
    uint32_t pongs = 0;
    while ((message = fake_next(&f)) != NULL) {
        pongs++;
        assert_int_equal(message->kind, FAKE_HEARD_PONG);
        last = message;
    }
    assert_non_null(last);
    assert_int_equal(last->text[0], 'A' + 99999 % 26); /* at least the newest is answered */
    assert_true(pongs < 200);
    still_alive(&f);
    fake_end(&f);
}

static void a_flood_of_pusher_pings_into_a_blocked_writer(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    size_t live = f.heap.live_bytes;
    f.send_block = 1;
    for (int i = 0; i < 20000; i++) {
        fake_say(&f, FAKE_PING);
        if (i % 1000 == 999)
            fake_run(&f);
    }
    fake_run(&f);
    assert_true(f.heap.peak_bytes < live + 131072);
    f.send_block = 0;
    fake_run(&f);
    assert_true(f.heard_count > f.heard_read);
    fake_forget_heard(&f);
    still_alive(&f);
    fake_end(&f);
}

static void the_answer_to_a_close_waits_for_a_blocked_stream(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_the_stream(&f)->send_result = PUSHER_IO_WANT_WRITE;
    fake_say_close(&f, 1001, "going away");
    fake_run(&f);
    assert_int_equal(f.errors, 1);
    assert_false(f.streams[0]->closed);
    fake_expect_nothing(&f);
    f.streams[0]->send_result = 1;
    fake_run(&f);
    fake_expect_close(&f, 1001);
    fake_pass(&f, 1500); /* nor does it wait for ever for the other side to end the stream */
    assert_true(f.streams[0]->closed);
    fake_end(&f);
}

/* The close frame and the end of the stream come in one read: we still answer. */
static void a_close_with_the_end_behind_it_is_answered(void **state)
{
    (void)state;
    static const int codes[] = { 1000, 1001, 4001, 4100, 4200 };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        fake f;
        fake_start(&f, NULL);
        fake_online(&f);
        fake_say_close(&f, codes[i], "bye");
        fake_eof(&f);
        fake_run(&f);
        fake_expect_close(&f, codes[i]);
        assert_true(f.streams[0]->closed);
        fake_end(&f);
    }
    static const int refusals[] = { 4001, 4200 };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        fake_accept(&f);
        fake_say_format(&f, "{\"event\":\"pusher:error\",\"data\":{\"code\":%d}}", refusals[i]);
        fake_say_close(&f, refusals[i], "bye");
        fake_eof(&f);
        fake_run(&f);
        fake_expect_close(&f, 1000); /* ours was under way already */
        fake_pass(&f, 10);
        assert_true(f.streams[0]->closed);
        fake_end(&f);
    }
}

static void nothing_after_the_close(void **state)
{
    (void)state;
    fake f;
    start(&f, NULL);
    fake_say_close(&f, 1000, NULL);
    for (int i = 0; i < 100; i++)
        fake_say(&f, NEWS);
    fake_frame(&f, 0xFF, "junk", 4);
    fake_pass(&f, 100);
    assert_int_equal(f.events, 0);
    assert_int_equal(f.errors, 1);
    fake_end(&f);
    start(&f, NULL); /* nor after ours */
    pusher_disconnect(f.client);
    fake_poll(&f);
    for (int i = 0; i < 100; i++)
        fake_say(&f, NEWS);
    fake_frame(&f, 0xFF, "junk", 4);
    fake_pass(&f, 100);
    assert_int_equal(f.events, 0);
    assert_int_equal(f.errors, 0);
    fake_expect_close(&f, 1000);
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void one_poll_takes_no_more_than_its_budget(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_poll_bytes = 1000;
    start(&f, &options);
    uint32_t events = f.events;
    for (int i = 0; i < 1000; i++)
        fake_say(&f, NEWS);
    fake_poll(&f);
    assert_true(f.poll_received > 0);
    assert_true(pusher_next_poll_ms(f.client) <= f.now); /* more is waiting */
    fake_run(&f);
    assert_int_equal(f.events, events + 1000);
    assert_true(f.poll_received_max <= 1000);
    fake_end(&f);
}

static void masks_are_fresh_and_frames_whole_when_sent_in_pieces(void **state)
{
    (void)state;
    fake f;
    for (size_t max = 1; max < 20; max++) { /* fake.h checks each frame, and the repeats */
        fake_init(&f);
        pusher_options options = fake_options(&f);
        f.send_max = max;
        f.send_block = 3;
        fake_start(&f, &options);
        for (int i = 0; i < 20; i++) {
            char name[20];
            snprintf(name, sizeof name, "c%d", i);
            fake_subscribe(&f, name);
        }
        fake_online(&f);
        fake_run(&f);
        assert_int_equal(f.heard_count, 20);
        fake_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_that_break_a_rule),
        cmocka_unit_test(text_that_is_not_utf8),
        cmocka_unit_test(text_that_is_utf8),
        cmocka_unit_test(fragments_with_pings_between),
        cmocka_unit_test(an_empty_final_continuation),
        cmocka_unit_test(every_byte_a_fragment),
        cmocka_unit_test(binary_is_reported_and_skipped),
        cmocka_unit_test(close_frames_with_a_code),
        cmocka_unit_test(the_longest_reason),
        cmocka_unit_test(a_close_inside_a_message),
        cmocka_unit_test(too_big),
        cmocka_unit_test(an_own_limit),
        cmocka_unit_test(a_flood_of_tiny_fragments),
        cmocka_unit_test(a_flood_of_pings_into_a_blocked_writer),
        cmocka_unit_test(a_flood_of_pusher_pings_into_a_blocked_writer),
        cmocka_unit_test(the_answer_to_a_close_waits_for_a_blocked_stream),
        cmocka_unit_test(a_close_with_the_end_behind_it_is_answered),
        cmocka_unit_test(nothing_after_the_close),
        cmocka_unit_test(one_poll_takes_no_more_than_its_budget),
        cmocka_unit_test(masks_are_fresh_and_frames_whole_when_sent_in_pieces),
    };
    return cmocka_run_group_tests_name("api/websocket", tests, NULL, NULL);
}
