/* Presence channels: snapshots in every shape, members who come and go, the difference afterwards;
   and cache channels, whose first event may be an old one. */
#include "fake.h"

#define ROOM "presence-room"

static void say(fake *f, const char *event, const char *channel, const char *data)
{
    fake_say_format(f, "{\"event\":\"%s\",\"channel\":\"%s\",\"data\":%s}", event, channel, data);
    fake_run(f);
}

static void snapshot(fake *f, const char *data)
{
    say(f, "pusher_internal:subscription_succeeded", ROOM, data);
}

static char told[2000]; /* who came and who went */

static void on_member(pusher_client *client, const pusher_event *event, void *user_data)
{
    size_t at = strlen(told);
    (void)client;
    (void)user_data;
    snprintf(told + at, sizeof told - at, "%c%s%s ", strstr(event->name, "added") ? '+' : '-',
             event->member->id, event->member->info);
}

static pusher_channel begin(fake *f, uint32_t max_members)
{
    fake_init(f);
    pusher_options options = fake_options(f);
    fake_authorize(f, &options);
    options.max_members = max_members;
    options.max_message_bytes = 4000000;
    fake_start(f, &options);
    fake_online(f);
    pusher_channel channel = fake_subscribe(f, ROOM);
    told[0] = '\0';
    pusher_bind(f->client, channel, "pusher:member_added", on_member, NULL);
    pusher_bind(f->client, channel, "pusher:member_removed", on_member, NULL);
    fake_run(f);
    fake_expect_text(f, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"" ROOM "\","
                        FAKE_AUTH ",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\"}}");
    return channel;
}

static bool has(fake *f, pusher_channel channel, const char *id, const char *info)
{
    pusher_member member;
    if (!pusher_member_find(f->client, channel, id, &member)) return false;
    if (strcmp(member.info, info) != 0) fail_msg("%s has %s, not %s", id, member.info, info);
    assert_string_equal(member.id, id);
    assert_int_equal(member.info_len, strlen(info));
    return true;
}

static void the_list_is_what_the_server_says(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 0);
    pusher_member member;
    assert_int_equal(pusher_member_count(f.client, channel), 0);
    assert_false(pusher_member_at(f.client, channel, 0, &member));
    assert_null(member.id);
    snapshot(&f, "\"{\\\"presence\\\":{\\\"ids\\\":[\\\"me\\\",\\\"a\\\"],\\\"hash\\\":{\\\"me\\\":null,"
                 "\\\"a\\\":{\\\"name\\\":\\\"Ann\\\"}},\\\"count\\\":2}}\"");
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    assert_int_equal(pusher_member_count(f.client, channel), 2);
    assert_true(pusher_member_me(f.client, channel, &member));
    assert_string_equal(member.id, "me");
    assert_true(has(&f, channel, "a", "{\"name\":\"Ann\"}"));
    assert_false(has(&f, channel, "b", ""));
    assert_true(pusher_member_at(f.client, channel, 1, &member));
    assert_false(pusher_member_at(f.client, channel, 2, &member));
    assert_string_equal(told, ""); /* a snapshot is no coming */
    say(&f, "pusher_internal:member_added", ROOM, "\"{\\\"user_id\\\":\\\"b\\\",\\\"user_info\\\":1}\"");
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":7}");
    assert_string_equal(told, "+b1 +7 ");
    assert_int_equal(pusher_member_count(f.client, channel), 4);
    say(&f, "pusher_internal:member_removed", ROOM, "\"{\\\"user_id\\\":\\\"a\\\"}\"");
    say(&f, "pusher_internal:member_removed", ROOM, "{\"user_id\":\"nobody\"}");
    assert_string_equal(told, "+b1 +7 -a{\"name\":\"Ann\"} ");
    assert_int_equal(pusher_member_count(f.client, channel), 3);
    assert_int_equal(f.errors, 0);
    pusher_channel none = { 0, 0 };
    assert_int_equal(pusher_member_count(f.client, none), 0);
    assert_false(pusher_member_me(f.client, none, &member));
    fake_end(&f);
}

static void a_repeated_coming_is_told_when_it_says_something_new(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 0);
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\"],\"hash\":{\"me\":{}},\"count\":1}}");
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":\"a\",\"user_info\":1}");
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":\"a\",\"user_info\":1}");
    assert_string_equal(told, "+a1 ");
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":\"a\",\"user_info\":2}");
    assert_string_equal(told, "+a1 +a2 ");
    assert_int_equal(pusher_member_count(f.client, channel), 2);
    fake_end(&f);
}

static void the_difference_is_told_after_a_loss(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 0);
    pusher_bind(f.client, channel, "pusher:subscription_succeeded", fake_event_fn, &f);
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"a\",\"b\"],\"hash\":{\"a\":1,\"b\":2},\"count\":3}}");
    fake_eof(&f);
    fake_run(&f);
    assert_int_equal(pusher_member_count(f.client, channel), 3); /* a game keeps its figures */
    fake_online_again(&f);
    fake_run(&f);
    assert_string_equal(told, "");
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"b\",\"c\"],\"hash\":{\"b\":2,\"c\":3},\"count\":3}}");
    assert_string_equal(told, "-a1 +c3 ");
    assert_int_equal(f.events, 2); /* subscription_succeeded */
    fake_forget_heard(&f);
    fake_end(&f);
}

static void what_cannot_be_read_leaves_the_list_alone(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "\"not JSON\"", "[]", "7", "null", "{}", "{\"presence\":7}", "{\"presence\":[1]}",
        "\"{\\\"presence\\\":\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        fake f;
        pusher_channel channel = begin(&f, 0);
        snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"a\"],\"hash\":{},\"count\":2}}");
        fake_eof(&f);
        fake_run(&f);
        fake_online_again(&f);
        uint32_t errors = f.errors;
        snapshot(&f, broken[i]);
        if (f.errors != errors + 1) fail_msg("%s: %u errors", broken[i], f.errors - errors);
        assert_int_equal(f.last_error.code, PUSHER_ERR_PARSE);
        assert_string_equal(f.last_channel, ROOM);
        assert_int_equal(pusher_member_count(f.client, channel), 2);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        fake_forget_heard(&f);
        fake_end(&f);
    }
    static const char *const members[] = { "\"x\"", "{}", "{\"user_id\":null}", "{\"user_id\":[]}",
                                           "{\"user_id\":{}}", "{\"user_id\":true}", "7" };
    fake f;
    pusher_channel channel = begin(&f, 0);
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"a\"],\"hash\":{},\"count\":2}}");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        say(&f, "pusher_internal:member_added", ROOM, members[i]);
        say(&f, "pusher_internal:member_removed", ROOM, members[i]);
        if (f.errors != 2 * i + 2) fail_msg("%s: %u errors", members[i], f.errors);
    }
    assert_int_equal(pusher_member_count(f.client, channel), 2);
    assert_string_equal(told, "");
    fake_end(&f);
}

/* pusher.com allows 128 characters, and a character may have four bytes. */
static void ids_of_128_characters(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 0);
    char id[2][513], data[1200];
    for (int i = 0; i < 128; i++) {
        memcpy(id[0] + 4 * i, "\xF0\x9F\x98\x80", 5);
        memcpy(id[1] + 4 * i, "\xF0\x9F\x98\x81", 5);
    }
    snprintf(data, sizeof data, "{\"presence\":{\"ids\":[\"%s\"],\"hash\":{},\"count\":1}}", id[0]);
    snapshot(&f, data);
    assert_true(has(&f, channel, id[0], ""));
    snprintf(data, sizeof data, "{\"user_id\":\"%s\",\"user_info\":1}", id[1]);
    say(&f, "pusher_internal:member_added", ROOM, data);
    assert_true(has(&f, channel, id[1], "1"));
    snprintf(data, sizeof data, "{\"user_id\":\"%s\"}", id[0]);
    say(&f, "pusher_internal:member_removed", ROOM, data);
    assert_int_equal(pusher_member_count(f.client, channel), 1);
    assert_int_equal(f.errors, 0);
    fake_end(&f);
}

static void a_limit_is_said(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 2);
    snapshot(&f, "{\"presence\":{\"ids\":[\"a\",\"b\",\"c\"],\"hash\":{},\"count\":3}}");
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TOO_BIG);
    assert_non_null(strstr(f.last_message, "max_members"));
    assert_int_equal(pusher_member_count(f.client, channel), 2);
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":\"d\"}");
    assert_int_equal(f.errors, 2);
    assert_int_equal(pusher_member_count(f.client, channel), 2);
    fake_end(&f);
}

static void ten_thousand_members(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    fake f;
    pusher_channel channel = begin(&f, 0);
    fake_bytes text;
    memset(&text, 0, sizeof text);
    fake_note(&text, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"" ROOM
                     "\",\"data\":\"{\\\"presence\\\":{\\\"ids\\\":[");
    for (int i = 0; i < MANY; i++) fake_note(&text, "%s\\\"user-%d\\\"", i ? "," : "", i);
    fake_note(&text, "],\\\"hash\\\":{");
    for (int i = 0; i < MANY; i++)
        fake_note(&text, "%s\\\"user-%d\\\":{\\\"name\\\":\\\"Somebody %d\\\"}", i ? "," : "", i, i);
    fake_note(&text, "},\\\"count\\\":%d}}\"}", MANY);
    size_t before = f.heap.live_bytes;
    fake_frame(&f, 0x81, text.at, text.len);
    fake_run(&f);
    assert_int_equal(pusher_member_count(f.client, channel), MANY);
    assert_true(has(&f, channel, "user-9999", "{\"name\":\"Somebody 9999\"}"));
    printf("[  memory  ] %u bytes a member, its id and info of 35 bytes and the message's own "
           "buffers included\n", (unsigned)((f.heap.live_bytes - before) / MANY));
    fake_bytes_free(&text);
    fake_end(&f);
}

static uint32_t told_after;

static void on_member_give_up(pusher_client *client, const pusher_event *event, void *user_data)
{
    pusher_channel *channel = (pusher_channel *)user_data;
    if (!channel->id) told_after++;
    else pusher_unsubscribe(client, *channel);
    channel->id = 0;
    assert_non_null(event->member->id);
}

/* Who has given the channel up hears no more of it, under PUSHER_ALL neither. */
static void unsubscribing_in_the_middle_of_a_difference(void **state)
{
    (void)state;
    fake f;
    pusher_channel channel = begin(&f, 0);
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"a\",\"b\"],\"hash\":{},\"count\":3}}");
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    fake_run(&f);
    fake_forget_heard(&f);
    told_after = 0;
    pusher_bind(f.client, PUSHER_ALL, "pusher:member_removed", on_member_give_up, &channel);
    pusher_bind(f.client, PUSHER_ALL, "pusher:member_added", on_member_give_up, &channel);
    snapshot(&f, "{\"presence\":{\"ids\":[\"me\",\"c\",\"d\"],\"hash\":{},\"count\":3}}");
    assert_string_equal(told, "-a ");
    assert_int_equal(channel.id, 0);
    assert_int_equal(told_after, 0);
    fake_expect_text(&f, FAKE_UNSUBSCRIBE(ROOM));
    say(&f, "pusher_internal:member_added", ROOM, "{\"user_id\":\"d\"}");
    assert_string_equal(told, "-a ");
    fake_end(&f);
}

/* ---- cache channels ---- */

static char cached[200];

static void on_cached(pusher_client *client, const pusher_event *event, void *user_data)
{
    size_t at = strlen(cached);
    (void)client;
    (void)user_data;
    if (strncmp(event->name, "pusher:", 7) == 0 && strcmp(event->name, "pusher:cache_miss") != 0) return;
    snprintf(cached + at, sizeof cached - at, "%s%s ", event->name, event->from_cache ? "*" : "");
}

static void the_first_event_of_a_cache_channel_is_marked(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    fake_authorize(&f, &options);
    fake_start(&f, &options);
    fake_online(&f);
    cached[0] = '\0';
    pusher_bind_all(f.client, PUSHER_ALL, on_cached, NULL);
    fake_subscribe(&f, "cache-a");
    fake_subscribe(&f, "private-cache-b");
    fake_subscribe(&f, "plain");
    fake_run(&f);
    say(&f, "pusher_internal:subscription_succeeded", "cache-a", "{}");
    say(&f, "one", "cache-a", "{}");
    say(&f, "two", "cache-a", "{}");
    say(&f, "pusher_internal:subscription_succeeded", "private-cache-b", "{}");
    say(&f, "pusher:cache_miss", "private-cache-b", "{}");
    say(&f, "three", "private-cache-b", "{}");
    say(&f, "pusher_internal:subscription_succeeded", "plain", "{}");
    say(&f, "four", "plain", "{}");
    assert_string_equal(cached, "one* two pusher:cache_miss three four ");
    fake_forget_heard(&f);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list_is_what_the_server_says),
        cmocka_unit_test(a_repeated_coming_is_told_when_it_says_something_new),
        cmocka_unit_test(the_difference_is_told_after_a_loss),
        cmocka_unit_test(what_cannot_be_read_leaves_the_list_alone),
        cmocka_unit_test(ids_of_128_characters),
        cmocka_unit_test(a_limit_is_said),
        cmocka_unit_test(ten_thousand_members),
        cmocka_unit_test(unsubscribing_in_the_middle_of_a_difference),
        cmocka_unit_test(the_first_event_of_a_cache_channel_is_marked),
    };
    return cmocka_run_group_tests_name("api/presence", tests, NULL, NULL);
}
