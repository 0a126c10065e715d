/* Encrypted channels: what the server relays sealed, what does not open and why, a key that
   changes, and that the secret stays secret. libsodium seals. */
#include "fake.h"

#include <sodium.h>

#define ROOM "private-encrypted-test"
#define OTHER_SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

typedef struct safe {
    const char *secret;      /* what the hook answers with; NULL: it does not */
    int status;              /* or refuses with */
    bool retry;
    uint32_t asked;
    pusher_auth_reason reason;
    pusher_ticket ticket;
    char told[4000];         /* what the handlers heard */
    char errors[4000];
} safe;

static void answer(pusher_client *client, safe *s)
{
    char body[300];
    snprintf(body, sizeof body, "{" FAKE_AUTH ",\"shared_secret\":\"%s\"}", s->secret);
    assert_int_equal(pusher_auth_accept(client, s->ticket, body, strlen(body)), PUSHER_OK);
}

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    safe *s = (safe *)user_data;
    assert_int_equal(count, 1);
    s->asked++;
    s->reason = requests[0].reason;
    s->ticket = requests[0].ticket;
    if (s->status) pusher_auth_reject(client, s->ticket, s->status, "no", s->retry);
    else if (s->secret) answer(client, s);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    safe *s = (safe *)user_data;
    size_t at = strlen(s->told);
    (void)client;
    assert_int_equal(strlen(event->data), event->data_len);
    snprintf(s->told + at, sizeof s->told - at, "%s=%s ", event->name, event->data);
}

static void on_error(fake *f, const pusher_error *error)
{
    safe *s = (safe *)f->extra;
    size_t at = strlen(s->errors);
    snprintf(s->errors + at, sizeof s->errors - at, "%s: %s\n", pusher_result_name(error->code),
             error->message);
}

static void log_line(const char *message, void *user_data)
{
    fake_note((fake_bytes *)user_data, "%s\n", message);
}

static fake_bytes log_text;

static pusher_channel begin(fake *f, safe *s)
{
    memset(s, 0, sizeof *s);
    s->secret = FAKE_SHARED_SECRET;
    fake_init(f);
    f->extra = s;
    f->on_error = on_error;
    pusher_options options = fake_options(f);
    options.auth.request_fn = on_request;
    options.auth.user_data = s;
    options.max_held_bytes = 600;
    options.logger.log_fn = log_line;
    options.logger.user_data = &log_text;
    fake_start(f, &options);
    pusher_channel channel = fake_subscribe(f, ROOM);
    pusher_bind_all(f->client, channel, on_event, s);
    fake_online(f);
    fake_expect_text(f, FAKE_SUBSCRIBE_AUTH(ROOM)); /* without the secret */
    fake_say(f, FAKE_SUBSCRIBED(ROOM));
    fake_run(f);
    s->told[0] = '\0';
    return channel;
}

static void end(fake *f)
{
    assert_null(strstr(log_text.at ? log_text.at : "", FAKE_SHARED_SECRET));
    assert_null(strstr(f->trace.at ? f->trace.at : "", FAKE_SHARED_SECRET));
    assert_null(strstr(f->sent_trace.at ? f->sent_trace.at : "", FAKE_SHARED_SECRET));
    fake_forget_heard(f);
    fake_bytes_free(&log_text);
    memset(&log_text, 0, sizeof log_text);
    fake_end(f);
}

/* One event, sealed under a secret given in base64; flip: this bit of the box is wrong. */
static void say_sealed_to(fake *f, const char *channel, const char *name, const char *secret,
                          const char *plain, int flip)
{
    unsigned char key[32], nonce[24], box[400];
    char nonce64[64], box64[700];
    size_t len = strlen(plain);
    assert_int_equal(sodium_base642bin(key, 32, secret, strlen(secret), NULL, NULL, NULL,
                                       sodium_base64_VARIANT_ORIGINAL), 0);
    for (int i = 0; i < 24; i++) nonce[i] = (unsigned char)(0x40 + i);
    crypto_secretbox_easy(box, (const unsigned char *)plain, len, nonce, key);
    if (flip >= 0) box[flip / 8] ^= (unsigned char)(1 << flip % 8);
    sodium_bin2base64(nonce64, sizeof nonce64, nonce, 24, sodium_base64_VARIANT_ORIGINAL);
    sodium_bin2base64(box64, sizeof box64, box, len + 16, sodium_base64_VARIANT_ORIGINAL);
    fake_say_format(f, "{\"event\":\"%s\",\"channel\":\"%s\",\"data\":\"{\\\"nonce\\\":\\\"%s\\\","
                       "\\\"ciphertext\\\":\\\"%s\\\"}\"}", name, channel, nonce64, box64);
}

static void say_sealed(fake *f, const char *name, const char *secret, const char *plain, int flip)
{
    say_sealed_to(f, ROOM, name, secret, plain, flip);
}

static void the_documents_vectors(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    static const char *const boxes[] = { "BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe",
                                         "XFeSFLkUPH8dUU06fuyxMD7rEiOOqV1KleA=",
                                         "jslG1BcbvBsTqFKt+irmqg==" };
    for (size_t i = 0; i < ARRAY_LEN(boxes); i++)
        fake_say_format(&f, "{\"event\":\"e\",\"channel\":\"" ROOM "\",\"data\":{\"ciphertext\":\"%s\","
                            "\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}}", boxes[i]);
    /* Reverb's way to write a slash */
    fake_say(&f, "{\"event\":\"e\",\"channel\":\"" ROOM "\",\"data\":\"{\\\"ciphertext\\\":"
                 "\\\"BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk\\\\\\/eTqe\\\",\\\"nonce\\\":"
                 "\\\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\\\"}\"}");
    fake_run(&f);
    assert_string_equal(s.told, "e={\"hello\":\"world\"} e=plain text e= e={\"hello\":\"world\"} ");
    assert_string_equal(s.errors, "");
    end(&f);
}

static void protocol_events_are_not_sealed(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    fake_say(&f, "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"" ROOM "\","
                 "\"data\":{\"subscription_count\":3}}");
    fake_say(&f, "{\"event\":\"pusher:cache_miss\",\"channel\":\"" ROOM "\"}");
    fake_run(&f);
    assert_string_equal(s.told, "pusher:subscription_count={\"subscription_count\":3} "
                                "pusher:cache_miss= ");
    end(&f);
}

static void what_does_not_open_is_told_with_the_reason(void **state)
{
    (void)state;
    static const struct { const char *data, *says; } cases[] = {
        { "null", "no ciphertext" },
        { "\"plain\"", "no ciphertext" },
        { "{}", "no ciphertext" },
        { "{\"ciphertext\":1,\"nonce\":2}", "no ciphertext" },
        { "{\"ciphertext\":\"AAAA\"}", "no ciphertext" },
        { "{\"ciphertext\":\"%%%%\",\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}", "base64" },
        { "{\"ciphertext\":\"AAAA\",\"nonce\":\"QEFC QEFC\"}", "base64" },
        { "{\"ciphertext\":\"jslG1BcbvBsTqFKt+irmqg==\",\"nonce\":\"QEFC\"}", "24 bytes" },
        { "{\"ciphertext\":\"jslG1BcbvBsTqFKt+irmqg==\",\"nonce\":\"\"}", "24 bytes" },
        { "{\"ciphertext\":\"AAAA\",\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}", "16 bytes" },
        { "{\"ciphertext\":\"\",\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}", "16 bytes" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake f;
        safe s;
        pusher_channel channel = begin(&f, &s);
        fake_say_format(&f, "{\"event\":\"e\",\"channel\":\"" ROOM "\",\"data\":%s}", cases[i].data);
        say_sealed(&f, "good", FAKE_SHARED_SECRET, "1", -1);
        fake_run(&f);
        assert_int_equal(s.asked, 1); /* another key would not help */
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.last_error.code, PUSHER_ERR_DECRYPT);
        if (!strstr(f.last_message, cases[i].says) || !strstr(s.told, cases[i].says))
            fail_msg("%s: %s", cases[i].data, f.last_message);
        assert_int_equal(strncmp(s.told, "pusher:decryption_error={\"event\":\"e\"", 36), 0);
        assert_non_null(strstr(s.told, " good=1 "));
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        end(&f);
    }
}

static void a_new_key_opens_what_waited_in_order(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    s.secret = NULL;
    say_sealed(&f, "a", OTHER_SECRET, "1", -1);
    say_sealed(&f, "b", FAKE_SHARED_SECRET, "2", -1); /* of before the change: it is lost */
    say_sealed(&f, "c", OTHER_SECRET, "3", -1);
    fake_run(&f);
    assert_int_equal(s.asked, 2);
    assert_int_equal(s.reason, PUSHER_AUTH_KEY_REFRESH);
    assert_string_equal(s.told, "");
    fake_pass(&f, 1000);
    assert_string_equal(s.told, "");
    s.secret = OTHER_SECRET;
    answer(f.client, &s);
    fake_run(&f);
    assert_string_equal(s.told, "a=1 pusher:decryption_error={\"event\":\"b\",\"error\":\"the key does "
                                "not fit, or it was changed on its way\"} c=3 ");
    assert_int_equal(s.asked, 2);
    say_sealed(&f, "d", OTHER_SECRET, "4", -1);
    fake_run(&f);
    assert_non_null(strstr(s.told, "c=3 d=4 "));
    fake_expect_nothing(&f); /* no second subscription */
    end(&f);
}

static void no_new_key_is_told_for_each_that_waited(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    s.status = 403;
    say_sealed(&f, "a", OTHER_SECRET, "1", -1);
    fake_run(&f);
    assert_non_null(strstr(s.told, "pusher:decryption_error={\"event\":\"a\""));
    assert_int_equal(s.asked, 2);
    say_sealed(&f, "b", OTHER_SECRET, "1", -1); /* not a question each */
    say_sealed(&f, "c", FAKE_SHARED_SECRET, "2", -1); /* the old key still opens */
    fake_run(&f);
    assert_int_equal(s.asked, 2);
    assert_non_null(strstr(s.told, "{\"event\":\"b\""));
    assert_non_null(strstr(s.told, "c=2 "));
    fake_pass(&f, 6000);
    s.status = 0;
    s.secret = OTHER_SECRET;
    say_sealed(&f, "d", OTHER_SECRET, "3", -1);
    fake_run(&f);
    assert_int_equal(s.asked, 3);
    assert_non_null(strstr(s.told, "d=3 "));
    end(&f);
}

static void the_question_may_be_late_or_put_off(void **state)
{
    (void)state;
    fake f;
    safe s;
    pusher_channel channel = begin(&f, &s);
    s.secret = NULL;
    say_sealed(&f, "a", OTHER_SECRET, "1", -1);
    fake_sleep(&f, 11000); /* auth_timeout_ms */
    assert_true(s.asked >= 2);
    fake_sleep(&f, 100000);
    assert_int_equal(s.asked, 1 + 3); /* max_attempts */
    assert_non_null(strstr(s.told, "pusher:decryption_error={\"event\":\"a\""));
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    end(&f);
}

static void what_waits_has_a_limit(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    s.secret = NULL;
    for (int i = 0; i < 10; i++) say_sealed(&f, "a", OTHER_SECRET, "text", -1);
    fake_run(&f);
    assert_true(f.errors > 3 && f.errors < 10);
    assert_non_null(strstr(s.errors, "too many wait"));
    uint32_t held = 10 - f.errors;
    s.told[0] = '\0';
    s.secret = OTHER_SECRET;
    answer(f.client, &s);
    fake_run(&f);
    assert_int_equal(strlen(s.told), held * strlen("a=text "));
    end(&f);
}

static void what_cannot_be_kept_for_want_of_memory_says_so(void **state)
{
    (void)state;
    fake f;
    safe s;
    pusher_stats stats;
    begin(&f, &s);
    s.secret = NULL;
    say_sealed(&f, "a", OTHER_SECRET, "1", -1);
    fake_run(&f);
    assert_int_equal(f.errors, 0);
    f.heap.fail_at = f.heap.calls + 1;
    say_sealed(&f, "a", OTHER_SECRET, "2", -1);
    fake_run(&f);
    assert_int_equal(f.heap.failed, 1);
    assert_non_null(strstr(s.errors, "cannot be decrypted: no memory"));
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.dropped_memory, 1);
    assert_int_equal(stats.dropped_held, 0);
    s.secret = OTHER_SECRET;
    answer(f.client, &s);
    fake_run(&f);
    assert_non_null(strstr(s.told, "a=1 "));
    end(&f);
}

enum { ROOMS = 8, WAITING = 3 };

typedef struct many {
    pusher_ticket tickets[ROOMS];
    uint32_t asked, heard;
} many;

static void on_many(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                    void *user_data)
{
    many *m = (many *)user_data;
    const char body[] = "{" FAKE_AUTH ",\"shared_secret\":\"" FAKE_SHARED_SECRET "\"}";
    assert_int_equal(count, 1);
    if (requests[0].reason == PUSHER_AUTH_KEY_REFRESH) m->tickets[m->asked++] = requests[0].ticket;
    else pusher_auth_accept(client, requests[0].ticket, body, sizeof body - 1);
}

static void on_heard(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    if (strcmp(event->name, "a") == 0) ((many *)user_data)->heard++;
}

/* New keys for all channels come together; what waited is more than one poll may give out. */
static void what_waited_in_many_channels_is_given_out_in_several_polls(void **state)
{
    (void)state;
    fake f;
    many m;
    const char body[] = "{" FAKE_AUTH ",\"shared_secret\":\"" OTHER_SECRET "\"}";
    memset(&m, 0, sizeof m);
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.auth.request_fn = on_many;
    options.auth.user_data = &m;
    options.max_poll_bytes = 512;
    fake_start(&f, &options);
    pusher_bind_all(f.client, PUSHER_ALL, on_heard, &m);
    for (int i = 0; i < ROOMS; i++) {
        char name[64];
        snprintf(name, sizeof name, ROOM "%d", i);
        fake_subscribe(&f, name);
    }
    fake_online(&f);
    for (int i = 0; i < ROOMS * (1 + WAITING); i++) {
        char name[64];
        snprintf(name, sizeof name, ROOM "%d", i % ROOMS);
        if (i >= ROOMS) say_sealed_to(&f, name, "a", OTHER_SECRET, "text", -1);
        else fake_say_format(&f, "{\"event\":\"pusher_internal:subscription_succeeded\","
                                 "\"channel\":\"%s\",\"data\":\"{}\"}", name);
    }
    fake_run(&f);
    assert_int_equal(m.asked, ROOMS);
    assert_int_equal(m.heard, 0);
    for (int i = 0; i < ROOMS; i++)
        assert_int_equal(pusher_auth_accept(f.client, m.tickets[i], body, sizeof body - 1),
                         PUSHER_OK);
    for (uint32_t before = 0; m.heard < ROOMS * WAITING; before = m.heard) {
        assert_true(pusher_next_poll_ms(f.client) <= f.now);
        (void)fake_poll(&f);
        assert_in_range(m.heard - before, WAITING, 2 * WAITING);
    }
    fake_forget_heard(&f);
    fake_end(&f);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    for (int bit = 0; bit < (16 + 5) * 8; bit++) say_sealed(&f, "a", FAKE_SHARED_SECRET, "hello", bit);
    fake_pass(&f, 20000);
    assert_int_equal(f.errors, (16 + 5) * 8);
    assert_null(strstr(s.told, "a="));
    end(&f);
}

static void text_that_is_no_text_is_an_error(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    say_sealed(&f, "a", FAKE_SHARED_SECRET, "\xFF\xFE", -1);
    fake_run(&f);
    assert_non_null(strstr(s.errors, "UTF-8"));
    end(&f);
}

static void keys_go_with_the_connection(void **state)
{
    (void)state;
    fake f;
    safe s;
    begin(&f, &s);
    s.secret = NULL;
    say_sealed(&f, "a", OTHER_SECRET, "1", -1);
    fake_run(&f);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    assert_int_equal(s.reason, PUSHER_AUTH_RECONNECT);
    s.secret = OTHER_SECRET;
    answer(f.client, &s);
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED(ROOM));
    say_sealed(&f, "b", OTHER_SECRET, "2", -1);
    fake_run(&f);
    assert_non_null(strstr(s.told, "b=2 "));
    assert_null(strstr(s.told, "a="));
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.dropped_held, 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documents_vectors),
        cmocka_unit_test(protocol_events_are_not_sealed),
        cmocka_unit_test(what_does_not_open_is_told_with_the_reason),
        cmocka_unit_test(a_new_key_opens_what_waited_in_order),
        cmocka_unit_test(no_new_key_is_told_for_each_that_waited),
        cmocka_unit_test(the_question_may_be_late_or_put_off),
        cmocka_unit_test(what_waits_has_a_limit),
        cmocka_unit_test(what_cannot_be_kept_for_want_of_memory_says_so),
        cmocka_unit_test(what_waited_in_many_channels_is_given_out_in_several_polls),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(text_that_is_no_text_is_an_error),
        cmocka_unit_test(keys_go_with_the_connection),
    };
    if (sodium_init() < 0) return 1;
    return cmocka_run_group_tests_name("api/encrypted", tests, NULL, NULL);
}
