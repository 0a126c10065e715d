/* What hurries, stalls and odd answers could do to authorizations, sign-in, presence, keys and
   client events: nothing may be stuck, spin, be told twice or to the wrong one, or be left over. */
#include "fake.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof *(array))
#define GOOD "{" FAKE_AUTH "}"

/* ---- the application's side ----------------------------------------------------------------- */

typedef struct office {
    fake f;
    pusher_ticket ticket[400]; /* of the questions that were not answered at once */
    char name[400][210];
    uint32_t asked, calls, told;
    pusher_auth_reason reason; /* of the last question */
    const char *answer;        /* to each channel, at once; NULL: none */
    const char *user_answer;
    void (*on_told)(struct office *o, const pusher_event *event);
    char names[64];            /* event names, the first letters behind "pusher:" */
} office;

static void on_channel(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    office *o = (office *)user_data;
    o->calls++;
    for (uint32_t i = 0; i < count; i++) {
        bool user = requests[i].kind == PUSHER_AUTH_USER;
        const char *answer = user ? o->user_answer : o->answer;
        assert_true(o->asked < ARRAY_LEN(o->ticket));
        o->reason = requests[i].reason;
        o->ticket[o->asked] = requests[i].ticket;
        snprintf(o->name[o->asked++], sizeof o->name[0], "%s", requests[i].channel_name);
        if (answer) (void)pusher_auth_accept(client, requests[i].ticket, answer, strlen(answer));
    }
}

static void on_told(pusher_client *client, const pusher_event *event, void *user_data)
{
    office *o = (office *)user_data;
    (void)client;
    o->told++;
    if (o->on_told) o->on_told(o, event);
}

static pusher_options begin(office *o)
{
    memset(o, 0, sizeof *o);
    fake_init(&o->f);
    pusher_options options = fake_options(&o->f);
    options.auth.request_fn = on_channel;
    options.auth.user_data = o;
    o->answer = GOOD;
    return options;
}

/* How often the server has heard a text that begins so. */
static uint32_t heard(const fake *f, const char *begins)
{
    uint32_t count = 0;
    for (size_t i = 0; i < f->heard_count; i++)
        count += strncmp(f->heard[i].text, begins, strlen(begins)) == 0;
    return count;
}

/* All is done that can be done: the loop may sleep. */
static void rests(fake *f)
{
    fake_run(f);
    assert_true(pusher_next_poll_ms(f->client) > f->now);
}

static void say_subscribed(fake *f, const char *name)
{
    fake_say_format(f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\","
                       "\"channel\":\"%s\"}", name);
    fake_run(f);
}

#define SIGNED_IN                                                                                  \
    "{\"event\":\"pusher:signin_success\",\"data\":\"{\\\"user_data\\\":\\\"{\\\\\\\"id\\\\\\\":"   \
    "\\\\\\\"me\\\\\\\"}\\\"}\"}"
#define USER_GOOD "{" FAKE_AUTH ",\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"}"

/* ---- nothing stands in another's way -------------------------------------------------------- */

static void many_may_wait_for_the_sign_in(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    fake_start(&o.f, &options);
    assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "presence-%d", i);
        fake_subscribe(&o.f, name);
    }
    fake_subscribe(&o.f, "private-a");
    fake_online(&o.f);
    rests(&o.f); /* they wait, and so can the loop */
    assert_int_equal(heard(&o.f, FAKE_SUBSCRIBE_AUTH("private-a")), 1);
    assert_int_equal(heard(&o.f, "{\"event\":\"pusher:subscribe\""), 1);
    (void)pusher_auth_accept(o.f.client, o.ticket[0], USER_GOOD, strlen(USER_GOOD));
    fake_run(&o.f);
    assert_int_equal(heard(&o.f, "{\"event\":\"pusher:signin\""), 1);
    fake_say(&o.f, SIGNED_IN);
    rests(&o.f);
    assert_int_equal(heard(&o.f, "{\"event\":\"pusher:subscribe\""), 302); /* and the user's own */
    fake_end(&o.f);
}

static void the_sign_in_of_those_who_wait_may_fail(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    fake_start(&o.f, &options);
    assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
    pusher_channel channel = fake_subscribe(&o.f, "presence-a");
    pusher_channel gone = fake_subscribe(&o.f, "presence-b");
    fake_online(&o.f);
    rests(&o.f);
    assert_int_equal(pusher_unsubscribe(o.f.client, gone), PUSHER_OK);
    assert_int_equal(pusher_auth_reject(o.f.client, o.ticket[0], 403, NULL, false), PUSHER_OK);
    rests(&o.f);
    assert_int_equal(pusher_channel_state(o.f.client, channel), PUSHER_REFUSED);
    fake_end(&o.f);
}

static void a_proof_larger_than_the_output_is_refused(void **state)
{
    (void)state;
    office o;
    static char large[14000], body[14100];
    pusher_options options = begin(&o);
    options.auth.max_answer_bytes = 20000;
    o.answer = NULL;
    fake_start(&o.f, &options);
    pusher_channel channel = fake_subscribe(&o.f, "presence-a");
    fake_online(&o.f);
    memset(large, 'x', sizeof large - 1);
    snprintf(body, sizeof body,
             "{" FAKE_AUTH ",\"channel_data\":\"{\\\"user_id\\\":\\\"1\\\",\\\"x\\\":\\\"%s\\\"}\"}",
             large);
    assert_int_equal(pusher_auth_accept(o.f.client, o.ticket[0], body, strlen(body)),
                     PUSHER_ERR_TOO_BIG);
    fake_subscribe(&o.f, "open");
    rests(&o.f);
    assert_int_equal(pusher_channel_state(o.f.client, channel), PUSHER_REFUSED);
    assert_int_equal(o.f.last_error.code, PUSHER_ERR_TOO_BIG);
    assert_int_equal(heard(&o.f, FAKE_SUBSCRIBE("open")), 1);
    fake_end(&o.f);
}

static void fields_larger_than_the_output_are_refused(void **state)
{
    (void)state;
    office o;
    char name[201], fields[1000];
    pusher_options options = begin(&o);
    options.max_output_bytes = 1024;
    fake_start(&o.f, &options);
    memset(name, 'n', 200), name[200] = '\0';
    memset(fields, ' ', sizeof fields);
    memcpy(fields, "{\"a\":1", 6);
    memcpy(fields + sizeof fields - 2, "}", 2);
    assert_int_equal(pusher_subscribe_with(o.f.client, name, fields).id, 0);
    assert_int_equal(pusher_last_error(o.f.client)->code, PUSHER_ERR_TOO_BIG);
    /* Nor may they meet a proof that is there already. */
    pusher_channel channel = pusher_subscribe_with(o.f.client, "private-a", "{\"a\":1}");
    assert_int_not_equal(channel.id, 0);
    fields[500] = '}', fields[501] = '\0';
    o.answer = NULL;
    fake_online(&o.f);
    char body[400];
    memset(body, 'k', sizeof body);
    memcpy(body, "{\"auth\":\"", 9);
    memcpy(body + 300, "\"}", 3);
    assert_int_equal(pusher_auth_accept(o.f.client, o.ticket[0], body, strlen(body)), PUSHER_OK);
    assert_int_equal(pusher_subscribe_with(o.f.client, "private-a", fields).id, 0);
    assert_int_equal(pusher_last_error(o.f.client)->code, PUSHER_ERR_TOO_BIG);
    assert_int_equal(pusher_channel_references(o.f.client, channel), 1);
    rests(&o.f);
    assert_int_equal(pusher_channel_state(o.f.client, channel), PUSHER_PENDING);
    assert_int_equal(heard(&o.f, "{\"event\":\"pusher:subscribe\""), 1);
    fake_end(&o.f);
}

static void a_user_whose_channel_does_not_fit_is_told_so(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    char text[2400] = "{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":\"{\\\"id\\\":\\\"";
    options.max_output_bytes = 1024;
    o.user_answer = USER_GOOD;
    fake_start(&o.f, &options);
    assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
    fake_online(&o.f);
    for (int i = 0; i < 200; i++) strcat(text, "\\\\u0001");
    strcat(text, "\\\"}\"}}");
    fake_say(&o.f, text);
    fake_subscribe(&o.f, "open");
    rests(&o.f);
    assert_int_equal(strlen(pusher_user_id(o.f.client)), 200);
    assert_int_equal(o.f.last_error.code, PUSHER_ERR_TOO_BIG);
    assert_int_equal(heard(&o.f, FAKE_SUBSCRIBE("open")), 1);
    fake_end(&o.f);
}

static void memory_may_be_short_when_the_user_is_known(void **state)
{
    (void)state;
    for (uint64_t k = 1; k < 12; k++) {
        office o;
        pusher_options options = begin(&o);
        o.user_answer = USER_GOOD;
        fake_start(&o.f, &options);
        assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
        fake_online(&o.f);
        fake_say(&o.f, SIGNED_IN);
        fake_run(&o.f);
        o.answer = NULL;
        fake_subscribe(&o.f, "presence-a");
        fake_run(&o.f);
        o.f.heap.fail_at = o.f.heap.calls + k;
        o.answer = GOOD;
        (void)pusher_auth_accept(o.f.client, o.ticket[1], GOOD, strlen(GOOD));
        fake_sleep(&o.f, 10000);
        assert_int_equal(heard(&o.f, FAKE_SUBSCRIBE_AUTH("presence-a")), 1);
        fake_end(&o.f);
    }
}

/* ---- client events -------------------------------------------------------------------------- */

static pusher_channel live(office *o, const char *name)
{
    pusher_channel channel = fake_subscribe(&o->f, name);
    fake_run(&o->f);
    say_subscribed(&o->f, name);
    assert_int_equal(pusher_channel_state(o->f.client, channel), PUSHER_SUBSCRIBED);
    return channel;
}

static void an_event_larger_than_the_output_is_too_big(void **state)
{
    (void)state;
    office o;
    char json[2002];
    pusher_options options = begin(&o);
    options.max_output_bytes = 1024;
    options.client_event_queue_bytes = 8192;
    memset(json, ' ', sizeof json);
    json[0] = '1';
    for (int queued = 0; queued < 2; queued++) {
        options.client_event_queue_bytes = queued ? 8192 : 0;
        fake_start(&o.f, &options);
        fake_online(&o.f);
        pusher_channel channel = fake_subscribe(&o.f, "private-a");
        fake_run(&o.f);
        if (!queued) say_subscribed(&o.f, "private-a");
        assert_int_equal(pusher_trigger(o.f.client, channel, "client-a", json, sizeof json),
                         PUSHER_ERR_TOO_BIG);
        if (queued) say_subscribed(&o.f, "private-a");
        assert_int_equal(pusher_trigger(o.f.client, channel, "client-a", "2", 1), PUSHER_OK);
        rests(&o.f);
        assert_int_equal(heard(&o.f, "{\"event\":\"client-a\""), 1);
        fake_end(&o.f);
        options = begin(&o);
        options.max_output_bytes = 1024;
    }
}

static void events_that_wait_for_the_network_do_not_keep_the_loop_awake(void **state)
{
    (void)state;
    office o;
    char json[800];
    pusher_options options = begin(&o);
    options.max_output_bytes = 2048;
    options.client_event_queue_bytes = 8192;
    memset(json, ' ', sizeof json);
    json[0] = '1';
    fake_start(&o.f, &options);
    fake_online(&o.f);
    pusher_channel channel = fake_subscribe(&o.f, "private-a");
    fake_run(&o.f);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pusher_trigger(o.f.client, channel, "client-a", json, sizeof json),
                         PUSHER_OK);
    fake_latest(&o.f)->send_result = PUSHER_IO_WANT_WRITE;
    say_subscribed(&o.f, "private-a");
    rests(&o.f);
    assert_int_equal(pusher_wants(o.f.client), PUSHER_WANTS_READ | PUSHER_WANTS_WRITE);
    fake_latest(&o.f)->send_result = 1;
    rests(&o.f);
    assert_int_equal(heard(&o.f, "{\"event\":\"client-a\""), 4);
    fake_end(&o.f);
}

static void trigger_third(office *o, const pusher_event *event)
{
    assert_int_equal(pusher_trigger(o->f.client, event->channel, "client-3", "1", 1), PUSHER_OK);
}

static void events_wait_in_their_order(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    options.client_event_queue_bytes = 8192;
    options.client_events_per_s = 1;
    fake_start(&o.f, &options);
    fake_online(&o.f);
    pusher_channel channel = fake_subscribe(&o.f, "private-a");
    (void)pusher_bind(o.f.client, channel, "e", on_told, &o);
    fake_run(&o.f);
    assert_int_equal(pusher_trigger(o.f.client, channel, "client-1", "1", 1), PUSHER_OK);
    assert_int_equal(pusher_trigger(o.f.client, channel, "client-2", "1", 1), PUSHER_OK);
    say_subscribed(&o.f, "private-a"); /* 1 goes, 2 waits for the limit */
    o.on_told = trigger_third;
    o.f.now += 1000;
    fake_say(&o.f, "{\"event\":\"e\",\"channel\":\"private-a\",\"data\":\"\"}");
    fake_run(&o.f); /* the limit is over for whoever asks first; but 2 has waited longer */
    assert_int_equal(o.told, 1);
    assert_int_equal(heard(&o.f, "{\"event\":\"client-2\""), 1);
    assert_int_equal(heard(&o.f, "{\"event\":\"client-3\""), 0);
    fake_sleep(&o.f, 1100);
    assert_int_equal(heard(&o.f, "{\"event\":\"client-3\""), 1);
    fake_end(&o.f);
}

static void an_events_name_is_text(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    fake_start(&o.f, &options);
    fake_online(&o.f);
    pusher_channel channel = live(&o, "private-a");
    assert_int_equal(pusher_trigger(o.f.client, channel, "client-\xC3\xA9", "1", 1), PUSHER_OK);
    assert_int_equal(pusher_trigger(o.f.client, channel, "client-\xC3", "1", 1), PUSHER_ERR_NAME);
    assert_int_equal(pusher_trigger(o.f.client, channel, "client-\xFF", "1", 1), PUSHER_ERR_NAME);
    fake_end(&o.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_may_wait_for_the_sign_in),
        cmocka_unit_test(the_sign_in_of_those_who_wait_may_fail),
        cmocka_unit_test(a_proof_larger_than_the_output_is_refused),
        cmocka_unit_test(fields_larger_than_the_output_are_refused),
        cmocka_unit_test(a_user_whose_channel_does_not_fit_is_told_so),
        cmocka_unit_test(memory_may_be_short_when_the_user_is_known),
        cmocka_unit_test(an_event_larger_than_the_output_is_too_big),
        cmocka_unit_test(events_that_wait_for_the_network_do_not_keep_the_loop_awake),
        cmocka_unit_test(events_wait_in_their_order),
        cmocka_unit_test(an_events_name_is_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
