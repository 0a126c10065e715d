/* Handlers: their order, and everything that may be called from inside one. */
#include "fake.h"

#define NEWS "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"x\"}"

static char fired[4096];

static void note(const char *what)
{
    size_t len = strlen(fired);
    snprintf(fired + len, sizeof fired - len, "%s ", what);
}

static void forget(void)
{
    fired[0] = '\0';
}

/* user_data: a text to note */
static void noting(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)event;
    note((const char *)user_data);
}

static void noting_too(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)event;
    (void)user_data;
    note("too");
}

static char A[] = "A", B[] = "B", C[] = "C", D[] = "D", E[] = "E", F[] = "F";

static pusher_channel start(fake *f)
{
    fake_start(f, NULL);
    pusher_channel channel = fake_subscribe(f, "chat");
    fake_online(f);
    fake_say(f, FAKE_SUBSCRIBED("chat"));
    fake_run(f);
    fake_forget_heard(f);
    forget();
    return channel;
}

static void news(fake *f, const char *want)
{
    forget();
    fake_say(f, NEWS);
    fake_run(f);
    assert_string_equal(fired, want);
}

static void the_order(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    pusher_bind(f.client, PUSHER_ALL, "news", noting, A);
    pusher_bind(f.client, chat, "news", noting, B);
    pusher_bind_all(f.client, PUSHER_ALL, noting, C);
    pusher_bind_all(f.client, chat, noting, D);
    pusher_bind(f.client, chat, "news", noting, E);
    pusher_bind_all(f.client, chat, noting, F);
    pusher_bind(f.client, chat, "other", noting, A);
    news(&f, "D F B E C A ");
    news(&f, "D F B E C A ");
    forget();
    fake_say(&f, "{\"event\":\"other\",\"channel\":\"chat\"}");
    fake_say(&f, "{\"event\":\"news\",\"channel\":\"elsewhere\"}");
    fake_say(&f, "{\"event\":\"news\"}");
    fake_run(&f);
    assert_string_equal(fired, "D F A C C A C A ");
    fake_end(&f);
}

static void how_many_events_a_poll_says(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    pusher_bind(f.client, chat, "news", noting, A);
    pusher_bind(f.client, chat, "news", noting, B);
    fake_say(&f, NEWS);
    fake_say(&f, "{\"event\":\"unbound\",\"channel\":\"chat\"}");
    fake_say(&f, NEWS);
    fake_say(&f, "not JSON");
    assert_int_equal(fake_poll(&f), 2);
    assert_int_equal(fake_poll(&f), 0);
    fake_end(&f);
}

static void the_same_twice_fires_twice(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    pusher_binding one = pusher_bind(f.client, chat, "news", noting, A);
    pusher_binding two = pusher_bind(f.client, chat, "news", noting, A);
    news(&f, "A A ");
    assert_int_equal(pusher_unbind(f.client, one), PUSHER_OK);
    assert_int_equal(pusher_unbind(f.client, one), PUSHER_ERR_STALE);
    news(&f, "A ");
    assert_int_equal(pusher_unbind(f.client, two), PUSHER_OK);
    news(&f, "");
    fake_end(&f);
}

static void the_name_is_copied_and_limited(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    char name[] = "news", longest[202];
    memset(longest, 'n', 201);
    longest[201] = '\0';
    pusher_bind(f.client, chat, name, noting, A);
    memset(name, 'x', 4);
    news(&f, "A ");
    assert_int_equal(pusher_bind(f.client, chat, longest, noting, A).id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_NAME);
    longest[200] = '\0';
    assert_true(pusher_bind(f.client, chat, longest, noting, B).id != 0);
    forget();
    fake_say_format(&f, "{\"event\":\"%s\",\"channel\":\"chat\"}", longest);
    fake_say_format(&f, "{\"event\":\"%sn\",\"channel\":\"chat\"}", longest);
    fake_run(&f);
    assert_string_equal(fired, "B ");
    fake_end(&f);
}

static void unbind_where(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
#define BIND_THEM                                                                                  \
    do {                                                                                           \
        pusher_unbind_where(f.client, chat, NULL, NULL, NULL);                                     \
        pusher_bind(f.client, chat, "news", noting, A);                                            \
        pusher_bind(f.client, chat, "news", noting, B);                                            \
        pusher_bind(f.client, chat, "news", noting_too, A);                                        \
        pusher_bind(f.client, chat, "other", noting, A);                                           \
        pusher_bind_all(f.client, chat, noting, C);                                                \
    } while (0)
    BIND_THEM;
    news(&f, "C A B too ");
    assert_int_equal(pusher_unbind_where(f.client, chat, "news", noting, A), 1);
    news(&f, "C B too ");
    BIND_THEM;
    assert_int_equal(pusher_unbind_where(f.client, chat, "news", NULL, NULL), 3);
    news(&f, "C ");
    BIND_THEM;
    assert_int_equal(pusher_unbind_where(f.client, chat, NULL, noting, NULL), 4);
    news(&f, "too ");
    BIND_THEM;
    assert_int_equal(pusher_unbind_where(f.client, chat, NULL, NULL, A), 3);
    news(&f, "C B ");
    BIND_THEM;
    assert_int_equal(pusher_unbind_where(f.client, chat, "nothing", NULL, NULL), 0);
    assert_int_equal(pusher_unbind_where(f.client, PUSHER_ALL, NULL, NULL, NULL), 0);
    assert_int_equal(pusher_unbind_where(f.client, chat, NULL, NULL, NULL), 5);
    news(&f, "");
    pusher_bind_all(f.client, PUSHER_ALL, noting, D);
    pusher_bind(f.client, PUSHER_ALL, "news", noting, E);
    news(&f, "D E ");
    assert_int_equal(pusher_unbind_where(f.client, PUSHER_ALL, "news", NULL, NULL), 1);
    assert_int_equal(pusher_unbind_where(f.client, PUSHER_ALL, NULL, NULL, NULL), 1);
    news(&f, "");
    fake_end(&f);
#undef BIND_THEM
}

static void bindings_go_with_the_last_reference(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    fake_subscribe(&f, "chat");
    pusher_binding binding = pusher_bind(f.client, chat, "news", noting, A);
    pusher_bind(f.client, PUSHER_ALL, "news", noting, B);
    pusher_unsubscribe(f.client, chat);
    news(&f, "A B ");
    pusher_unsubscribe(f.client, chat);
    assert_int_equal(pusher_unbind(f.client, binding), PUSHER_ERR_STALE);
    fake_subscribe(&f, "chat");
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    news(&f, "B ");
    fake_end(&f);
}

static void many_names_on_one_channel(void **state)
{
    (void)state;
    fake f;
    static char texts[500][12];
    pusher_channel chat = start(&f);
    for (int i = 0; i < 500; i++) {
        char name[24];
        snprintf(texts[i], sizeof texts[i], "%d", i);
        snprintf(name, sizeof name, "event-%d", i);
        assert_true(pusher_bind(f.client, chat, name, noting, texts[i]).id != 0);
    }
    for (int i = 0; i < 500; i += 61) {
        char want[16];
        forget();
        fake_say_format(&f, "{\"event\":\"event-%d\",\"channel\":\"chat\"}", i);
        fake_run(&f);
        snprintf(want, sizeof want, "%d ", i);
        assert_string_equal(fired, want);
    }
    fake_end(&f);
}

/* ---- binding and unbinding during an event ---- */

static pusher_binding bindings[4];
static pusher_channel the_channel;
static const char *mode;

static void meddling(pusher_client *client, const pusher_event *event, void *user_data)
{
    const char *do_it = mode;
    (void)event;
    note((const char *)user_data);
    mode = "";
    if (strcmp(do_it, "bind") == 0) {
        pusher_bind(client, the_channel, "news", noting, E);
        pusher_bind_all(client, the_channel, noting, F);
        pusher_bind_all(client, PUSHER_ALL, noting, D);
    } else if (strcmp(do_it, "unbind self") == 0) {
        assert_int_equal(pusher_unbind(client, bindings[1]), PUSHER_OK);
        assert_int_equal(pusher_unbind(client, bindings[1]), PUSHER_ERR_STALE);
    } else if (strcmp(do_it, "unbind next") == 0) {
        assert_int_equal(pusher_unbind(client, bindings[2]), PUSHER_OK);
    } else if (strcmp(do_it, "unbind previous") == 0) {
        assert_int_equal(pusher_unbind(client, bindings[0]), PUSHER_OK);
    } else if (strcmp(do_it, "unbind all") == 0) {
        assert_int_equal(pusher_unbind_where(client, the_channel, NULL, NULL, NULL), 3);
    } else if (strcmp(do_it, "replace") == 0) {
        pusher_unbind(client, bindings[2]);
        bindings[2] = pusher_bind(client, the_channel, "news", noting, E);
        pusher_unbind(client, bindings[0]);
        bindings[0] = pusher_bind(client, the_channel, "news", noting, F);
    } else if (strcmp(do_it, "unsubscribe") == 0) {
        assert_int_equal(pusher_unsubscribe(client, the_channel), PUSHER_OK);
        assert_null(pusher_channel_name(client, the_channel));
    } else if (strcmp(do_it, "many") == 0) {
        for (int i = 0; i < 300; i++)
            assert_true(pusher_bind(client, the_channel, "news", noting, E).id != 0);
        assert_int_equal(pusher_unbind_where(client, the_channel, NULL, NULL, E), 300);
    }
}

static void meddling_with_bindings(void **state)
{
    (void)state;
    static const struct { const char *mode, *first, *second; } ways[] = {
        { "bind", "A B C ", "F A B C E D " },
        { "unbind self", "A B C ", "A C " },
        { "unbind next", "A B ", "A B " },
        { "unbind previous", "A B C ", "B C " },
        { "unbind all", "A B ", "" },
        { "replace", "A B ", "B E F " },
        { "many", "A B C ", "A B C " },
        { "unsubscribe", "A B ", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        fake f;
        the_channel = start(&f);
        bindings[0] = pusher_bind(f.client, the_channel, "news", noting, A);
        bindings[1] = pusher_bind(f.client, the_channel, "news", meddling, B);
        bindings[2] = pusher_bind(f.client, the_channel, "news", noting, C);
        mode = ways[i].mode;
        news(&f, ways[i].first);
        mode = "";
        news(&f, ways[i].second);
        fake_end(&f);
    }
}

static void meddling_with_all_bindings(void **state)
{
    (void)state;
    fake f; /* a channel's handler takes away the client's, in mid-event */
    the_channel = start(&f);
    bindings[2] = pusher_bind_all(f.client, PUSHER_ALL, noting, C);
    bindings[1] = pusher_bind(f.client, the_channel, "news", meddling, B);
    mode = "unbind next";
    news(&f, "B ");
    news(&f, "B ");
    fake_end(&f);
}

/* ---- everything from inside every callback ---- */

typedef enum place { IN_EVENT, IN_ALL_EVENTS, IN_STATE, IN_ERROR, IN_RETRY, PLACES } place;
typedef enum act {
    DO_UNSUBSCRIBE, DO_SUBSCRIBE, DO_RESUBSCRIBE, DO_DISCONNECT, DO_CONNECT, DO_BOTH, DO_NOW,
    DO_DESTROY, DO_DISCONNECT_AND_DESTROY, DO_POLL, DO_CREATE, DO_ASK, DO_BIND, DO_UNBIND, DO_SWITCH,
    ACTS
} act;

static const char *const place_names[] = { "event", "bind_all", "state", "error", "retry" };
static const char *const act_names[] = {
    "unsubscribe", "subscribe", "unsubscribe and subscribe", "disconnect", "connect",
    "disconnect and connect", "reconnect_now", "destroy", "disconnect and destroy", "poll",
    "create another", "ask", "bind", "unbind", "switch"
};
static act what_to_do;
static place where_to_do;
static uint32_t when_to_do, times, done;
static fake other;

static void act_now(fake *f)
{
    pusher_client *client = f->client;
    pusher_channel chat = pusher_find_channel(client, "chat");
    pusher_stats stats;
    done++;
    switch (what_to_do) {
    case DO_UNSUBSCRIBE: pusher_unsubscribe(client, chat); break;
    case DO_SUBSCRIBE:
        pusher_subscribe(client, "chat");
        pusher_subscribe(client, "fresh");
        break;
    case DO_RESUBSCRIBE:
        pusher_unsubscribe(client, chat);
        pusher_bind_all(client, pusher_subscribe(client, "chat"), fake_event_fn, f);
        break;
    case DO_DISCONNECT: pusher_disconnect(client); break;
    case DO_CONNECT: assert_int_equal(pusher_connect(client), PUSHER_OK); break;
    case DO_BOTH:
        pusher_disconnect(client);
        assert_int_equal(pusher_connect(client), PUSHER_OK);
        break;
    case DO_NOW: pusher_reconnect_now(client); break;
    case DO_DESTROY: fake_destroy(f); break;
    case DO_DISCONNECT_AND_DESTROY:
        pusher_disconnect(client);
        fake_destroy(f);
        break;
    case DO_POLL:
        assert_int_equal(pusher_poll(client, f->now), 0);
        assert_int_equal(pusher_poll(client, f->now + 100000), 0);
        break;
    case DO_CREATE: {
        fake_init(&other);
        pusher_options options = fake_options(&other);
        fake_start(&other, &options);
        fake_subscribe(&other, "chat");
        other.serve = fake_serve;
        pusher_connect(other.client);
        fake_run(&other);
        assert_int_equal(pusher_get_state(other.client), PUSHER_CONNECTED);
        fake_end(&other);
        break;
    }
    case DO_ASK:
        pusher_get_stats(client, &stats);
        (void)pusher_next_poll_ms(client);
        (void)pusher_wants(client);
        (void)pusher_fd(client);
        (void)pusher_socket_id(client);
        (void)pusher_last_error(client);
        while ((chat = pusher_next_channel(client, chat)).id != 0)
            (void)pusher_channel_state(client, chat);
        break;
    case DO_BIND: pusher_bind_all(client, chat, fake_event_fn, f); break;
    case DO_UNBIND:
        pusher_unbind_where(client, chat, NULL, NULL, NULL);
        pusher_unbind_where(client, PUSHER_ALL, NULL, NULL, NULL);
        break;
    case DO_SWITCH: {
        pusher_options there = fake_options(f);
        there.host = "other.example";
        assert_int_equal(pusher_switch(client, &there), PUSHER_OK);
        assert_int_equal(pusher_switch(client, &there), PUSHER_OK); /* the last one counts */
        break;
    }
    case ACTS: break;
    }
}

static void maybe(fake *f, place where)
{
    if (where == where_to_do && ++times == when_to_do)
        act_now(f);
}

static void in_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake_event_fn(client, event, user_data);
    maybe((fake *)user_data, IN_EVENT);
}

static void in_all_events(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)event;
    maybe((fake *)user_data, IN_ALL_EVENTS);
}

static void in_state(fake *f, pusher_state now, pusher_state before)
{
    (void)now;
    (void)before;
    maybe(f, IN_STATE);
}

static void in_error(fake *f, const pusher_error *error)
{
    (void)error;
    maybe(f, IN_ERROR);
}

static void in_retry(fake *f, uint32_t delay_ms, uint32_t attempt)
{
    (void)delay_ms;
    (void)attempt;
    maybe(f, IN_RETRY);
}

/* One session with every kind of callback several times; true if the act was reached. */
static bool play(place where, act what, uint32_t when)
{
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.unavailable_timeout_ms = 300;
    f.on_state = in_state;
    f.on_error = in_error;
    f.on_retry = in_retry;
    what_to_do = what;
    where_to_do = where;
    when_to_do = when;
    times = done = 0;
    fake_start(&f, &options);
    f.serve = fake_serve;
    pusher_channel chat = fake_subscribe(&f, "chat");
    fake_subscribe(&f, "third");
    pusher_bind_all(f.client, chat, in_event, &f);
    pusher_bind(f.client, chat, "news", in_event, &f);
    pusher_bind_all(f.client, PUSHER_ALL, in_all_events, &f);
    pusher_connect(f.client);
    for (int round = 0; round < 6 && f.client; round++) {
        fake_run(&f);
        fake_stream *stream = fake_latest(&f);
        if (f.client && stream && !stream->closed && stream->answered) {
            fake_say(&f, NEWS);
            fake_say(&f, "not JSON");
            fake_say(&f, NEWS);
            if (round == 1)
                fake_say(&f, "{\"event\":\"pusher:error\",\"data\":{\"code\":4301}}");
            if (round == 2)
                fake_say_close(&f, 4200, "away");
            if (round == 3)
                fake_frame(&f, 0xF1, "broken", 6);
            if (round == 4)
                fake_say_close(&f, 4001, "for ever");
            fake_poll(&f);
            if (f.client && (round == 0 || round == 5))
                fake_eof(&f);
        }
        if (f.client && pusher_get_state(f.client) == PUSHER_FAILED)
            pusher_connect(f.client);
        fake_pass(&f, 3000);
    }
    bool reached = done > 0;
    if (f.client) { /* whatever was done: it can be used */
        pusher_connect(f.client);
        for (int i = 0; i < 100 && pusher_get_state(f.client) != PUSHER_CONNECTED; i++)
            fake_pass(&f, 1000);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        chat = fake_subscribe(&f, "chat");
        fake_run(&f);
        assert_int_equal(pusher_channel_state(f.client, chat), PUSHER_SUBSCRIBED);
        pusher_bind_all(f.client, chat, in_event, &f);
        uint32_t events = f.events;
        fake_say(&f, NEWS);
        fake_run(&f);
        assert_true(f.events > events);
    } else if (what != DO_DESTROY && what != DO_DISCONNECT_AND_DESTROY) {
        fail_msg("the client is gone");
    }
    const char *wrong = fake_finish(&f);
    if (wrong)
        fail_msg("%s in %s number %u: %s", act_names[what], place_names[where], when, wrong);
    return reached;
}

static void every_act_in_every_callback(void **state)
{
    (void)state;
    uint32_t played = 0;
    for (int where = 0; where < PLACES; where++) {
        for (int what = 0; what < ACTS; what++) {
            uint32_t when = 1;
            while (play((place)where, (act)what, when))
                when++;
            played += when - 1;
            assert_true(when > 3);
        }
    }
    print_message("%u sessions, each with one act in one callback\n", played);
}

static uint32_t after_end;

static void destroying(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake *f = (fake *)user_data;
    (void)client;
    fake_destroy(f);
    /* the event is still there until we return */
    assert_string_equal(event->name, "news");
    assert_string_equal(event->channel_name, "chat");
    assert_string_equal(event->data, "x");
    after_end = 0;
}

static void counting(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)event;
    (void)user_data;
    after_end++;
}

static void nothing_runs_after_destroy(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    pusher_bind(f.client, chat, "news", destroying, &f);
    pusher_bind(f.client, chat, "news", counting, &f);
    pusher_bind_all(f.client, PUSHER_ALL, counting, &f);
    fake_say(&f, NEWS);
    fake_say(&f, NEWS);
    fake_say_close(&f, 4200, "and more");
    uint32_t changes = f.state_changes;
    fake_poll(&f);
    assert_null(f.client);
    assert_int_equal(after_end, 0);
    assert_int_equal(f.state_changes, changes);
    assert_int_equal(f.errors, 0);
    assert_int_equal(f.heap.live_blocks, 0);
    assert_true(f.streams[0]->closed);
    fake_end(&f);
}

static void disconnecting(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)event;
    (void)user_data;
    note("bye");
    pusher_disconnect(client);
}

static void events_behind_a_disconnect(void **state)
{
    (void)state;
    fake f;
    pusher_channel chat = start(&f);
    pusher_bind(f.client, chat, "news", disconnecting, NULL);
    fake_say(&f, NEWS);
    fake_say(&f, NEWS);
    fake_say(&f, NEWS);
    fake_run(&f);
    assert_string_equal(fired, "bye ");
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    fake_expect_close(&f, 1000);
    fake_end(&f);
}

enum { ROOMS = 3000 };

static uint32_t heard[ROOMS];

static void hearing(pusher_client *client, const pusher_event *event, void *user_data)
{
    char name[32];
    size_t number = (size_t)((uint32_t *)user_data - heard);
    (void)client;
    snprintf(name, sizeof name, "room-%u", (unsigned)number);
    assert_string_equal(event->channel_name, name);
    heard[number]++;
}

/* So many that the library looks ahead, over messages in every order and strange ones: each event
   reaches its own channel, and those without a handler nobody. */
static void thousands_of_channels(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "{\"event\":\"news\",\"channel\":\"room-%u\",\"data\":\"x\"}",
        "{\"event\":\"news\",\"data\":{},\"channel\":\"room-%u\"}",
        "{\"channel\":\"room-%u\",\"event\":\"news\"}",
        " { \"event\" : \"news\", \"channel\" : \"room-%u\" } ",
    };
    static fake f;
    uint32_t expected = 0;
    memset(heard, 0, sizeof heard);
    fake_start(&f, NULL);
    for (unsigned i = 0; i < ROOMS; i++) {
        char name[32];
        snprintf(name, sizeof name, "room-%u", i);
        pusher_channel room = fake_subscribe(&f, name);
        if (i % 3 == 0) pusher_bind(f.client, room, "news", hearing, &heard[i]);
        if (i % 3 == 1) pusher_bind_all(f.client, room, hearing, &heard[i]);
    }
    fake_online(&f);
    fake_run(&f);
    for (unsigned i = 0; i < ROOMS; i++) {
        fake_say_format(&f, forms[i % ARRAY_LEN(forms)], i * 7 % ROOMS);
        if (i % 100 == 0) fake_say(&f, "{\"event\":\"news\",\"channel\":\"unknown\",\"data\":1}");
        expected += i * 7 % ROOMS % 3 != 2;
    }
    fake_run(&f);
    for (unsigned i = 0; i < ROOMS; i++) assert_int_equal(heard[i], i % 3 != 2);
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.events, expected);
    assert_int_equal(f.errors, 0);
    fake_forget_heard(&f);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order),
        cmocka_unit_test(how_many_events_a_poll_says),
        cmocka_unit_test(the_same_twice_fires_twice),
        cmocka_unit_test(the_name_is_copied_and_limited),
        cmocka_unit_test(unbind_where),
        cmocka_unit_test(bindings_go_with_the_last_reference),
        cmocka_unit_test(many_names_on_one_channel),
        cmocka_unit_test(meddling_with_bindings),
        cmocka_unit_test(meddling_with_all_bindings),
        cmocka_unit_test(every_act_in_every_callback),
        cmocka_unit_test(nothing_runs_after_destroy),
        cmocka_unit_test(events_behind_a_disconnect),
        cmocka_unit_test(thousands_of_channels),
    };
    return cmocka_run_group_tests_name("api/dispatch", tests, NULL, NULL);
}
