/* What a message may look like, and what reaches the handlers; bad ones never cost a connection. */
#include "fake.h"

typedef struct seen {
    uint32_t count;
    char name[300], channel_name[300], data[70000], raw[70000], user_id[64];
    size_t data_len, raw_len;
    bool data_was_string, has_user_id, has_channel;
} seen;

static seen last;

static void keep(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    fake_event_fn(client, event, user_data);
    last.count++;
    snprintf(last.name, sizeof last.name, "%s", event->name);
    snprintf(last.channel_name, sizeof last.channel_name, "%s", event->channel_name);
    assert_true(event->data_len < sizeof last.data && event->raw_len < sizeof last.raw);
    memcpy(last.data, event->data, event->data_len + 1);
    memcpy(last.raw, event->raw, event->raw_len);
    last.raw[event->raw_len] = '\0';
    last.data_len = event->data_len;
    last.raw_len = event->raw_len;
    last.data_was_string = event->data_was_string;
    last.has_channel = event->channel.id != 0;
    last.has_user_id = event->user_id != NULL;
    snprintf(last.user_id, sizeof last.user_id, "%s", event->user_id ? event->user_id : "");
}

static void start(fake *f)
{
    memset(&last, 0, sizeof last);
    fake_init(f);
    pusher_options options = fake_options(f);
    fake_authorize(f, &options);
    fake_start(f, &options);
    fake_subscribe(f, "chat");
    pusher_bind_all(f->client, PUSHER_ALL, keep, f);
    fake_online(f);
    fake_say(f, FAKE_SUBSCRIBED("chat"));
    fake_run(f);
    assert_int_equal(last.count, 1);
    memset(&last, 0, sizeof last);
    fake_forget_heard(f);
}

static void end(fake *f)
{
    assert_int_equal(pusher_get_state(f->client), PUSHER_CONNECTED);
    assert_int_equal(f->stream_count, 1);
    memset(&last, 0, sizeof last);
    fake_say(f, "{\"event\":\"last\",\"channel\":\"chat\",\"data\":\"\"}");
    fake_run(f);
    assert_int_equal(last.count, 1);
    fake_end(f);
}

static void refused(fake *f, const char *text, size_t len)
{
    uint32_t errors = f->errors, events = f->events;
    fake_frame(f, 0x81, text, len);
    fake_run(f);
    if (f->events != events)
        fail_msg("%.80s: delivered as [%s] %s", text, last.channel_name, last.name);
    if (f->errors != errors + 1 || f->last_error.code != PUSHER_ERR_PARSE)
        fail_msg("%.80s: %u errors", text, f->errors - errors);
    if (pusher_get_state(f->client) != PUSHER_CONNECTED)
        fail_msg("%.80s: the connection is gone", text);
}

static void what_is_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "x", "hello", "{", "}", "[", "]", "\"", "\"x", "{}x", "{} {}", "{,}", "{\"a\"}",
        "{\"event\"}", "{\"event\":}", "{\"event\":\"x\",}", "{\"event\":\"x\"", "{event:\"x\"}",
        "{'event':'x'}", "{\"event\":\"x\" \"data\":1}", "{\"event\":\"x\",,\"data\":1}",
        "{\"event\":\"x\":1}", "{\"event\":\"x\",\"data\":01}", "{\"event\":\"x\",\"data\":1.}",
        "{\"event\":\"x\",\"data\":.5}", "{\"event\":\"x\",\"data\":+1}",
        "{\"event\":\"x\",\"data\":1e}", "{\"event\":\"x\",\"data\":1e+}",
        "{\"event\":\"x\",\"data\":-}", "{\"event\":\"x\",\"data\":0x10}",
        "{\"event\":\"x\",\"data\":NaN}", "{\"event\":\"x\",\"data\":Infinity}",
        "{\"event\":\"x\",\"data\":True}", "{\"event\":\"x\",\"data\":tru}",
        "{\"event\":\"x\",\"data\":nul}", "{\"event\":\"x\",\"data\":nullx}",
        "{\"event\":\"x\",\"data\":undefined}", "{\"event\":\"x\",\"data\":[1,]}",
        "{\"event\":\"x\",\"data\":[,1]}", "{\"event\":\"x\",\"data\":[1 2]}",
        "{\"event\":\"x\",\"data\":[1}", "{\"event\":\"x\",\"data\":{]}",
        "{\"event\":\"x\",\"data\":{\"a\":1,}}", "{\"event\":\"x\",\"data\":{1:2}}",
        "{\"event\":\"x\",\"data\":\"\\x41\"}", "{\"event\":\"x\",\"data\":\"\\\"}",
        "{\"event\":\"x\",\"data\":\"\\u12\"}", "{\"event\":\"x\",\"data\":\"\\u12G4\"}",
        "{\"event\":\"x\",\"data\":\"\\u\"}", "{\"event\":\"x\",\"data\":\"a\tb\"}",
        "{\"event\":\"x\",\"data\":\"a\nb\"}", "{\"event\":\"x\",\"data\":\"\x01\"}",
        "{\"event\":\"x\",\"data\":[\"\t\"]}", "{\"event\":\"x\\q\"}", "{\"ev\\qent\":\"x\"}",
        "\xEF\xBB\xBF{\"event\":\"x\"}", "{\"event\":\"x\"}//", "/**/{\"event\":\"x\"}",
        "{\"event\":\"x\"}\f", "{\"event\":\"x\",\"data\":1 1}", "{\"event\":\"x\",\"data\"}",
        "{\"event\":\"x\",\"data\":}", "{\"other\":[\"\\uZZZZ\"],\"event\":\"x\"}",
        "{\"other\":{\"a\":tru},\"event\":\"x\"}", "{\"event\":\"x\",\"o\":\"\\",
    };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused(&f, bad[i], strlen(bad[i]));
    refused(&f, "{\"event\":\"x\",\"data\":\"a\0b\"}", 27);
    refused(&f, "{\"event\":\"x\"}\0", 14);
    refused(&f, "\0", 1);
    refused(&f, "{\"event\":\"x\",\"data\":1\0}", 23);
    end(&f);
}

static void json_that_is_no_message(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]", "[{\"event\":\"x\"}]", "1", "-1.5e3", "\"event\"", "null", "true", "{}",
        "{\"data\":\"x\"}", "{\"event\":null}", "{\"event\":1}", "{\"event\":{}}",
        "{\"event\":[\"x\"]}", "{\"event\":true}", "{\"Event\":\"x\"}", "{\"event \":\"x\"}",
        "{\"event\":\"x\",\"event\":7}",
    };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        refused(&f, bad[i], strlen(bad[i]));
    end(&f);
}

typedef struct shape {
    const char *text;  /* the data member as on the wire, or NULL for none */
    const char *data;
    bool was_string;
} shape;

static void every_shape_of_data(void **state)
{
    (void)state;
    static const shape shapes[] = {
        { "\"plain text\"", "plain text", true },
        { "\"\"", "", true },
        { "\"{\\\"hello\\\":\\\"world\\\",\\\"n\\\":1}\"", "{\"hello\":\"world\",\"n\":1}", true },
        { "\"\\\"hello\\\"\"", "\"hello\"", true },
        { "{\"a\":[1,{\"b\":null}]}", "{\"a\":[1,{\"b\":null}]}", false },
        { "{ \"a\" : 1 , \"b\" : [ ] }", "{ \"a\" : 1 , \"b\" : [ ] }", false },
        { "{}", "{}", false },
        { "[]", "[]", false },
        { "[1,2,3]", "[1,2,3]", false },
        { "0", "0", false },
        { "-12.5e-7", "-12.5e-7", false },
        { "123456789012345678901234567890", "123456789012345678901234567890", false },
        { "true", "true", false },
        { "false", "false", false },
        { "null", "null", false },
        { "\"null\"", "null", true },
        { "\"\\b\\f\\n\\r\\t\\/\\\\\\\"\"", "\b\f\n\r\t/\\\"", true },
        { "\"\\u0041\\u00e9\\u2603\\uD83D\\uDE00\"",
          "A\xC3\xA9\xE2\x98\x83\xF0\x9F\x98\x80", true },
        { "\"Z\xC3\xBCrich \xE2\x98\x83 \xF0\x9F\x98\x80\"",
          "Z\xC3\xBCrich \xE2\x98\x83 \xF0\x9F\x98\x80", true },
        { "\"\xE2\x80\xA8\xE2\x80\xA9\x7F\"", "\xE2\x80\xA8\xE2\x80\xA9\x7F", true },
        { "\"\\ud83d\"", "\xEF\xBF\xBD", true },
        { "\"\\ude00\"", "\xEF\xBF\xBD", true },
        { "\"\\ud83dx\"", "\xEF\xBF\xBDx", true },
        { "\"\\ud83d\\n\"", "\xEF\xBF\xBD\n", true },
        { "\"\\ud83d\\u0041\"", "\xEF\xBF\xBD" "A", true },
        { "\"\\ud83d\\ud83d\\ude00\"", "\xEF\xBF\xBD\xF0\x9F\x98\x80", true },
        { "\"\\ude00\\ud83d\"", "\xEF\xBF\xBD\xEF\xBF\xBD", true },
        { "\"\\uDBFF\\uDFFF\"", "\xF4\x8F\xBF\xBF", true },
        { "\"\\uFFFF\\uFFFE\"", "\xEF\xBF\xBF\xEF\xBF\xBE", true },
        { "[\"\\u0041\"]", "[\"\\u0041\"]", false },
        { NULL, "", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        for (int order = 0; order < 4; order++) {
            fake f;
            char text[600];
            const char *data = shapes[i].text;
            const char *comma = data ? "," : "";
            const char *key = data ? "\"data\":" : "";
            if (!data)
                data = "";
            start(&f);
            if (order == 0)
                snprintf(text, sizeof text, "{\"event\":\"e\",\"channel\":\"chat\"%s%s%s}", comma,
                         key, data);
            else if (order == 1)
                snprintf(text, sizeof text, "{%s%s%s\"event\":\"e\",\"channel\":\"chat\"}", key,
                         data, comma);
            else if (order == 2) /* poxa: event last; ipe: a newline at the end */
                snprintf(text, sizeof text, "{\"channel\":\"chat\",%s%s%s\"event\":\"e\"}\n", key,
                         data, comma);
            else
                snprintf(text, sizeof text,
                         " { \"x\" : { \"data\" : [ \"no\" ] } ,\r\n\t\"channel\" : \"chat\" "
                         "%s%s%s , \"event\" : \"e\" } ", comma, key, data);
            fake_say(&f, text);
            fake_run(&f);
            if (last.count != 1)
                fail_msg("%s: %s", text, f.last_message);
            assert_string_equal(last.name, "e");
            assert_string_equal(last.channel_name, "chat");
            assert_true(last.has_channel);
            assert_string_equal(last.data, shapes[i].data);
            assert_int_equal(last.data_len, strlen(shapes[i].data));
            assert_int_equal(last.data_was_string, shapes[i].was_string);
            assert_string_equal(last.raw, data);
            assert_int_equal(last.raw_len, strlen(data));
            assert_false(last.has_user_id);
            end(&f);
        }
    }
}

static void nul_inside(void **state)
{
    (void)state;
    fake f;
    start(&f);
    fake_say(&f, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":\"a\\u0000b\"}");
    fake_run(&f);
    assert_int_equal(last.data_len, 3);
    assert_memory_equal(last.data, "a\0b", 4);
    assert_string_equal(last.raw, "\"a\\u0000b\"");
    /* a channel and an event with NUL inside are not those without what follows */
    fake_say(&f, "{\"event\":\"e\",\"channel\":\"chat\\u0000x\",\"data\":\"\"}");
    fake_run(&f);
    assert_false(last.has_channel);
    end(&f);
}

static uint32_t plain_e;

static void count_e(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)event;
    (void)user_data;
    plain_e++;
}

static void names(void **state)
{
    (void)state;
    static const struct { const char *wire, *name; } known[] = {
        { "App\\\\Events\\\\OrderShipped", "App\\Events\\OrderShipped" },
        { ".order.shipped", ".order.shipped" },
        { "Illuminate\\\\Notifications\\\\Events\\\\BroadcastNotificationCreated",
          "Illuminate\\Notifications\\Events\\BroadcastNotificationCreated" },
        { "\\u00e9v\\u00e9nement \\ud83d\\ude00", "\xC3\xA9v\xC3\xA9nement \xF0\x9F\x98\x80" },
        { "with \\\"quotes\\\"\\n", "with \"quotes\"\n" },
        { "client-move", "client-move" },
        { "pusher:unknown_thing", "pusher:unknown_thing" },
        { "pusher:", "pusher:" },
        { "", "" },
    };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        last.count = 0;
        fake_say_format(&f, "{\"event\":\"%s\",\"channel\":\"chat\",\"data\":\"x\"}",
                        known[i].wire);
        fake_run(&f);
        if (last.count != 1)
            fail_msg("event \"%s\" did not arrive", known[i].wire);
        assert_string_equal(last.name, known[i].name);
    }
    pusher_bind(f.client, pusher_find_channel(f.client, "chat"), "e", count_e, &f);
    plain_e = 0;
    fake_say(&f, "{\"\\u0065vent\":\"\\u0065\",\"ch\\u0061nnel\":\"ch\\u0061t\"}");
    fake_run(&f);
    assert_int_equal(plain_e, 1); /* escapes in keys and names are undone before they count */
    fake_say(&f, "{\"event\":\"e\\u0000\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"E\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"ee\",\"channel\":\"chat\"}");
    fake_run(&f);
    assert_int_equal(plain_e, 1);
    last.count = 0; /* not for users, whatever is in it */
    fake_say(&f, "{\"event\":\"pusher_internal:member_added\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:unheard_of\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"pusher_internal:\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"pusher:pong\",\"channel\":\"chat\"}");
    fake_run(&f);
    assert_int_equal(last.count, 0);
    assert_int_equal(f.errors, 0);
    end(&f);
}

static void channels_of_every_kind(void **state)
{
    (void)state;
    static const struct { const char *member, *name; bool ours; } channels[] = {
        { ",\"channel\":\"chat\"", "chat", true },
        { ",\"channel\":\"other\"", "other", false },
        { ",\"channel\":\"private-x\"", "private-x", false },
        { ",\"channel\":\"#server-to-user-7\"", "#server-to-user-7", false },
        { ",\"channel\":\"\"", "", false },
        { ",\"channel\":\"with space \\u2603\"", "with space \xE2\x98\x83", false },
        { ",\"channel\":null", "", false },
        { ",\"channel\":5", "", false },
        { ",\"channel\":{\"chat\":1}", "", false },
        { ",\"channel\":[\"chat\"]", "", false },
        { "", "", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(channels); i++) {
        fake f;
        start(&f);
        fake_say_format(&f, "{\"event\":\"e\"%s,\"data\":\"x\"}", channels[i].member);
        fake_run(&f);
        if (last.count != 1)
            fail_msg("%s: not delivered", channels[i].member);
        assert_string_equal(last.channel_name, channels[i].name);
        assert_int_equal(last.has_channel, channels[i].ours);
        assert_int_equal(f.errors, 0);
        end(&f);
    }
}

static void user_ids(void **state)
{
    (void)state;
    static const struct { const char *member; const char *user_id; } ids[] = {
        { ",\"user_id\":\"\"", NULL },
        { ",\"user_id\":\"u1\"", "u1" },
        { ",\"user_id\":17", "17" },
        { ",\"user_id\":\"\\u00e9\"", "\xC3\xA9" },
        { ",\"user_id\":null", NULL },
        { "", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        fake f;
        start(&f);
        fake_subscribe(&f, "presence-chat");
        fake_run(&f);
        fake_forget_heard(&f);
        fake_say_format(&f, "{\"event\":\"client-e\",\"channel\":\"presence-chat\"%s}",
                        ids[i].member);
        fake_run(&f);
        assert_int_equal(last.count, 1);
        assert_int_equal(last.has_user_id, ids[i].user_id != NULL);
        assert_string_equal(last.user_id, ids[i].user_id ? ids[i].user_id : "");
        memset(&last, 0, sizeof last);
        fake_say_format(&f, "{\"event\":\"client-e\",\"channel\":\"chat\"%s}", ids[i].member);
        fake_run(&f);
        assert_int_equal(last.count, 1);
        assert_false(last.has_user_id); /* only presence channels know their members */
        end(&f);
    }
}

static void of_two_keys_the_last_counts(void **state)
{
    (void)state;
    fake f;
    start(&f);
    fake_say(&f, "{\"event\":\"one\",\"data\":\"1\",\"channel\":\"other\",\"event\":\"two\","
                 "\"data\":{\"n\":2},\"channel\":\"chat\"}");
    fake_run(&f);
    assert_string_equal(last.name, "two");
    assert_string_equal(last.channel_name, "chat");
    assert_string_equal(last.data, "{\"n\":2}");
    assert_false(last.data_was_string);
    fake_say(&f, "{\"event\":3,\"event\":\"three\",\"data\":[],\"data\":\"text\"}");
    fake_run(&f);
    assert_string_equal(last.name, "three");
    assert_string_equal(last.data, "text");
    assert_true(last.data_was_string);
    end(&f);
}

static void say_deep(fake *f, size_t depth, const char *open, const char *close_with)
{
    fake_bytes text;
    memset(&text, 0, sizeof text);
    const char *head = "{\"event\":\"e\",\"channel\":\"chat\",\"data\":";
    fake_bytes_add(&text, head, strlen(head));
    for (size_t i = 0; i < depth; i++)
        fake_bytes_add(&text, open, strlen(open));
    fake_bytes_add(&text, "1", 1);
    for (size_t i = 0; i < depth; i++)
        fake_bytes_add(&text, close_with, strlen(close_with));
    fake_bytes_add(&text, "}", 1);
    fake_frame(f, 0x81, text.at, text.len);
    fake_run(f);
    fake_bytes_free(&text);
}

static void deep_data(void **state)
{
    (void)state;
    static const size_t depths[] = { 1, 2, 7, 8, 9, 63, 64, 65, 126, 127, 128, 129, 130, 200, 255,
                                     256, 257, 1000, 10000 };
    for (int kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
            fake f;
            start(&f);
            say_deep(&f, depths[i], kind ? "{\"a\":" : "[", kind ? "}" : "]");
            assert_int_equal(last.count + f.errors, 1); /* delivered or reported, never lost */
            if (depths[i] <= 127)
                assert_int_equal(last.count, 1);
            if (last.count)
                assert_int_equal(last.data_len, depths[i] * (kind ? 6 : 2) + 1);
            else
                assert_int_equal(f.last_error.code, PUSHER_ERR_PARSE);
            end(&f);
        }
    }
}

static void big_data(void **state)
{
    (void)state;
    static char text[66000];
    for (size_t len = 1; len < 62000; len = len * 3 + 1) {
        for (int kind = 0; kind < 3; kind++) {
            fake f;
            start(&f);
            size_t n = (size_t)snprintf(text, sizeof text,
                                        "{\"event\":\"big\",\"channel\":\"chat\",\"data\":%s",
                                        kind == 1 ? "[\"" : "\"");
            memset(text + n, 'd', len);
            for (size_t i = 0; kind == 2 && i + 1 < len; i += 2)
                memcpy(text + n + i, "\\\"", 2); /* half of it escapes */
            strcpy(text + n + len, kind == 1 ? "\"]}" : "\"}");
            fake_say(&f, text);
            fake_run(&f);
            if (last.count != 1)
                fail_msg("%u bytes: %s", (unsigned)len, f.last_message);
            assert_int_equal(last.data_len, kind == 0   ? len
                                            : kind == 1 ? len + 4
                                                        : len - len / 2);
            end(&f);
        }
    }
}

static void many_small_messages_in_one_read(void **state)
{
    (void)state;
    fake f;
    start(&f);
    for (int i = 0; i < 5000; i++)
        fake_say_format(&f, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":\"%d\"}", i);
    uint32_t before = f.events;
    fake_run(&f);
    assert_int_equal(f.events, before + 5000);
    assert_string_equal(last.data, "4999");
    end(&f);
}

static void subscription_answers_of_every_shape(void **state)
{
    (void)state;
    static const char *const datas[] = {
        "", ",\"data\":\"{}\"", ",\"data\":{}", ",\"data\":\"\"", ",\"data\":null", ",\"data\":[]",
        ",\"data\":\"null\"", ",\"data\":7", ",\"data\":\"{\\\"x\\\":1}\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(datas); i++) {
        fake f;
        start(&f);
        pusher_channel channel = fake_subscribe(&f, "shape");
        fake_run(&f);
        fake_say_format(&f, "{\"event\":\"pusher_internal:subscription_succeeded\","
                            "\"channel\":\"shape\"%s}", datas[i]);
        fake_run(&f);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        assert_string_equal(last.name, "pusher:subscription_succeeded");
        assert_string_equal(last.channel_name, "shape");
        end(&f);
    }
}

static void subscription_counts_of_every_shape(void **state)
{
    (void)state;
    static const struct { const char *data; uint32_t count; } counts[] = {
        { "\"{\\\"subscription_count\\\":3}\"", 3 },
        { "{\"subscription_count\":4}", 4 },
        { "{\"subscription_count\":0}", 0 },
        { "{\"subscription_count\":999999999}", 999999999 },
    };
    fake f;
    start(&f);
    pusher_channel channel = pusher_find_channel(f.client, "chat");
    assert_int_equal(pusher_channel_subscription_count(f.client, channel), 0);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        fake_say_format(&f, "{\"event\":\"pusher_internal:subscription_count\","
                            "\"channel\":\"chat\",\"data\":%s}", counts[i].data);
        fake_run(&f);
        assert_string_equal(last.name, "pusher:subscription_count");
        assert_true(pusher_channel_subscription_count(f.client, channel) == counts[i].count);
    }
    static const char *const bad[] = { "{}", "null", "\"x\"", "[3]", "3",
                                       "{\"subscription_count\":\"x\"}",
                                       "{\"subscription_count\":-1}",
                                       "{\"subscription_count\":99999999999999}" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fake_say_format(&f, "{\"event\":\"pusher_internal:subscription_count\","
                            "\"channel\":\"chat\",\"data\":%s}", bad[i]);
        fake_run(&f);
    }
    end(&f);
}

static void cache_miss(void **state)
{
    (void)state;
    static const char *const shapes[] = { "", ",\"data\":\"null\"", ",\"data\":null",
                                          ",\"data\":\"\"" };
    fake f;
    start(&f);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        last.count = 0;
        fake_say_format(&f, "{\"event\":\"pusher:cache_miss\",\"channel\":\"chat\"%s}",
                        shapes[i]);
        fake_run(&f);
        assert_int_equal(last.count, 1);
        assert_string_equal(last.name, "pusher:cache_miss");
        assert_true(last.has_channel);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_json),
        cmocka_unit_test(json_that_is_no_message),
        cmocka_unit_test(every_shape_of_data),
        cmocka_unit_test(nul_inside),
        cmocka_unit_test(names),
        cmocka_unit_test(channels_of_every_kind),
        cmocka_unit_test(user_ids),
        cmocka_unit_test(of_two_keys_the_last_counts),
        cmocka_unit_test(deep_data),
        cmocka_unit_test(big_data),
        cmocka_unit_test(many_small_messages_in_one_read),
        cmocka_unit_test(subscription_answers_of_every_shape),
        cmocka_unit_test(subscription_counts_of_every_shape),
        cmocka_unit_test(cache_miss),
    };
    return cmocka_run_group_tests_name("api/messages", tests, NULL, NULL);
}
