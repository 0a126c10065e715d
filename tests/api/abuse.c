/* What hurries, stalls and odd answers could do to authorizations, sign-in, presence, keys and
   client events: nothing may be stuck, spin, be told twice or to the wrong one, or be left over. */
#include "fake.h"

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

/* Polls as a loop does that sleeps until it is told to. */
static void doze(fake *f)
{
    for (int i = 0; i < 100 && pusher_next_poll_ms(f->client) <= f->now; i++) fake_poll(f);
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
    fake_poll(&o.f);
    doze(&o.f);
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
    doze(&o.f);
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

/* ---- answers -------------------------------------------------------------------------------- */

/* A user cannot be named in the answer to a batch: so it is in none. */
static void a_user_is_asked_for_alone(void **state)
{
    (void)state;
    static const char body[] = "{\"private-a\":" GOOD ",\"private-b\":" GOOD "}";
    office o;
    pusher_options options = begin(&o);
    options.auth.max_batch = 10;
    o.answer = NULL;
    fake_start(&o.f, &options);
    fake_subscribe(&o.f, "private-a");
    assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
    fake_subscribe(&o.f, "private-b");
    fake_subscribe(&o.f, "private-c");
    fake_online(&o.f);
    assert_int_equal(o.asked, 4);
    assert_int_equal(o.calls, 3);
    for (uint32_t i = 0; i < 4; i++)
        if (strcmp(o.name[i], "private-a") == 0 || strcmp(o.name[i], "private-b") == 0)
            assert_int_equal(
                pusher_auth_accept_batch(o.f.client, o.ticket[i], body, strlen(body)), PUSHER_OK);
    fake_run(&o.f);
    assert_int_equal(o.f.errors, 1); /* private-c, of which nothing was said */
    assert_string_equal(o.f.last_channel, "private-c");
    assert_int_equal(heard(&o.f, "{\"event\":\"pusher:subscribe\""), 2);
    fake_end(&o.f);
}

/* What a person gives as a reason becomes JSON and UTF-8 all the same. */
static void a_reason_is_told_as_json(void **state)
{
    (void)state;
    office o;
    char reason[1000];
    static const char *const pieces[] = { "\x01", "\"", "\\", "\xC3\xA9", "\xF0\x9F\x98\x80", "x" };
    for (size_t i = 0; i < ARRAY_LEN(pieces) * 4; i++) {
        const char *piece = pieces[i / 4];
        pusher_options options = begin(&o);
        o.answer = NULL;
        fake_start(&o.f, &options);
        pusher_channel channel = fake_subscribe(&o.f, "private-a");
        (void)pusher_bind(o.f.client, channel, "pusher:subscription_error", fake_event_fn, &o.f);
        fake_online(&o.f);
        memset(reason, 'a', i % 4);
        reason[i % 4] = '\0';
        while (strlen(reason) < 900) strcat(reason, piece);
        assert_int_equal(pusher_auth_reject(o.f.client, o.ticket[0], 403, reason, false), PUSHER_OK);
        fake_run(&o.f);
        assert_int_equal(o.f.events, 1);
        assert_string_equal(o.f.last_data + strlen(o.f.last_data) - 15, "\",\"status\":403}");
        /* Its inside: no lonely quote or backslash, no control character, no half character. */
        const char *at = strstr(o.f.last_data, "\"error\":\"") + 9;
        const char *end = o.f.last_data + strlen(o.f.last_data) - 15;
        while (at < end) {
            unsigned char byte = (unsigned char)*at;
            size_t len = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
            assert_true(byte >= 0x20 && byte != '"' && (byte < 0x80 || byte >= 0xC0));
            if (byte == '\\') len = at[1] == 'u' ? 6 : 2;
            for (size_t j = 1; j < len && byte >= 0x80; j++)
                assert_int_equal((unsigned char)at[j] & 0xC0, 0x80);
            at += len;
        }
        assert_ptr_equal(at, end);
        fake_end(&o.f);
    }
}

static void after_a_loss_the_reason_is_the_loss(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    o.answer = NULL;
    fake_start(&o.f, &options);
    fake_subscribe(&o.f, "private-a");
    fake_online(&o.f);
    assert_int_equal(o.reason, PUSHER_AUTH_FIRST);
    assert_int_equal(pusher_auth_reject(o.f.client, o.ticket[0], 503, NULL, true), PUSHER_OK);
    fake_run(&o.f); /* it would be asked again */
    fake_eof(&o.f);
    fake_run(&o.f);
    fake_online_again(&o.f);
    assert_int_equal(o.reason, PUSHER_AUTH_RECONNECT);
    fake_end(&o.f);
}

static void me_is_read_out_of_the_options_as_json(void **state)
{
    (void)state;
    static const struct {
        const char *data, *id;
    } cases[] = { { "{\"user_id\":\"a\\u0062\\/c\"}", "ab/c" }, { "{\"user_id\":17}", "17" },
                  { "{\"user_id\":{}}", NULL }, { "{\"user_id\":true}", NULL },
                  { "{\"user_id\":\"\"}", NULL } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        office o;
        pusher_member me;
        pusher_options options = begin(&o);
        options.auth.request_fn = NULL;
        options.auth.secret = "s";
        options.auth.channel_data = cases[i].data;
        pusher_client *client = pusher_create(&options, NULL);
        assert_int_equal(client != NULL, cases[i].id != NULL);
        o.f.client = client;
        if (client) {
            pusher_channel channel = fake_subscribe(&o.f, "presence-a");
            fake_online(&o.f);
            fake_say_format(&o.f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"
                                  "\"presence-a\",\"data\":{\"presence\":{\"ids\":[\"%s\"],\"hash\":{"
                                  "}}}}", cases[i].id);
            fake_run(&o.f);
            assert_true(pusher_member_me(client, channel, &me));
            assert_string_equal(me.id, cases[i].id);
        }
        fake_end(&o.f);
    }
}

/* ---- the endpoint --------------------------------------------------------------------------- */

static void at_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    const char *answer = (const char *)f->extra;
    (void)head, (void)body;
    if (answer) fake_answer(stream, 200, answer);
}

static pusher_options begin_endpoint(fake *f, const char *answer)
{
    fake_init(f);
    f->endpoint = at_endpoint;
    f->extra = (void *)(uintptr_t)answer;
    pusher_options options = fake_options(f);
    options.auth.endpoint = "http://auth.example/auth";
    return options;
}

/* "Request Timeout", some say on a stream that rests, and close it. */
static void what_comes_unasked_is_no_answer(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        fake f;
        pusher_options options = begin_endpoint(&f, GOOD);
        fake_start(&f, &options);
        fake_online(&f);
        fake_subscribe(&f, "private-a");
        fake_run(&f);
        assert_int_equal(f.posts, 1);
        fake_answer(f.streams[1], 408, "");
        if (closes) f.streams[1]->end = PUSHER_IO_EOF;
        fake_run(&f);
        pusher_channel channel = fake_subscribe(&f, "private-b");
        fake_sleep(&f, 100);
        assert_int_equal(f.errors, 0);
        assert_int_equal(f.posts, 2);
        assert_int_equal(f.stream_count, 3);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
        assert_int_equal(heard(&f, FAKE_SUBSCRIBE_AUTH("private-b")), 1);
        fake_end(&f);
    }
}

static void at_busy_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    char text[120];
    (void)head, (void)body;
    if (f->posts > 1) {
        fake_answer(stream, 200, GOOD);
        return;
    }
    snprintf(text, sizeof text, "HTTP/1.1 429 Slowly\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n",
             (const char *)f->extra);
    fake_add(&stream->to_client, text, SIZE_MAX);
}

/* But not longer than reconnect_cap_ms. */
static void the_endpoint_may_say_when(void **state)
{
    (void)state;
    static const char *const said[] = { "7", "31", "4294967295", "99999999999" };
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        fake f;
        pusher_options options = begin_endpoint(&f, said[i]);
        f.endpoint = at_busy_endpoint;
        fake_start(&f, &options);
        fake_subscribe(&f, "private-a");
        fake_online(&f);
        fake_sleep(&f, i ? 29900 : 6900);
        assert_int_equal(f.posts, 1);
        fake_sleep(&f, 200);
        assert_int_equal(f.posts, 2);
        assert_int_equal(heard(&f, FAKE_SUBSCRIBE_AUTH("private-a")), 1);
        fake_forget_heard(&f);
        fake_end(&f);
    }
}

static bool in_memory(const fake *f, const char *text)
{
    size_t len = strlen(text);
    for (const fake_block *block = f->heap.blocks; block; block = block->next)
        for (size_t i = 0; i + len <= block->size; i++)
            if (memcmp((const char *)(block + 1) + i, text, len) == 0) return true;
    return false;
}

/* An answer for which nobody waits any more holds a key, too. */
static void no_answer_stays_in_memory(void **state)
{
    (void)state;
    static const char answer[] = "{" FAKE_AUTH ",\"shared_secret\":\"" FAKE_SHARED_SECRET "\"}";
    for (int way = 0; way < 4; way++) {
        fake f;
        pusher_options options = begin_endpoint(&f, way == 0 ? answer : NULL);
        fake_start(&f, &options);
        fake_online(&f);
        pusher_channel channel = fake_subscribe(&f, "private-encrypted-a");
        fake_run(&f);
        if (way == 1) { /* comes too late */
            (void)pusher_unsubscribe(f.client, channel);
            fake_answer(f.streams[1], 200, answer);
        } else if (way > 1) { /* comes in part */
            char head[100];
            snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
            fake_bytes_add(&f.streams[1]->to_client, head, strlen(head));
            fake_bytes_add(&f.streams[1]->to_client, answer, strlen(answer));
            fake_run(&f);
            assert_true(in_memory(&f, FAKE_SHARED_SECRET));
            if (way == 2) fake_eof(&f);
            else f.streams[1]->end = PUSHER_IO_EOF;
        }
        fake_run(&f);
        assert_false(in_memory(&f, FAKE_SHARED_SECRET));
        fake_end(&f);
    }
}

/* ---- subscriptions -------------------------------------------------------------------------- */

#define PRESENT(ids)                                                                               \
    "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"presence-a\",\"data\":{"     \
    "\"presence\":{\"ids\":" ids ",\"hash\":{}}}}"
#define ME "{" FAKE_AUTH ",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\"}"

static void keep_name(office *o, const pusher_event *event)
{
    strncat(o->names, event->name + 7, 14);
    strcat(o->names, event->outage_ms ? "! " : " ");
}

/* Given up while it waited for its answer and taken again: a new life, without the old one's. */
static void a_channel_taken_again_begins_anew(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    o.answer = ME;
    o.on_told = keep_name;
    fake_start(&o.f, &options);
    pusher_channel channel = pusher_subscribe_with(o.f.client, "presence-a", "{\"old\":1}");
    fake_online(&o.f);
    fake_say(&o.f, PRESENT("[\"me\",\"old\"]"));
    fake_run(&o.f);
    assert_int_equal(pusher_member_count(o.f.client, channel), 2);
    fake_eof(&o.f);
    fake_run(&o.f);
    fake_online_again(&o.f);
    assert_int_equal(pusher_unsubscribe(o.f.client, channel), PUSHER_OK);
    channel = fake_subscribe(&o.f, "presence-a");
    assert_int_equal(pusher_member_count(o.f.client, channel), 0);
    (void)pusher_bind_all(o.f.client, channel, on_told, &o);
    fake_say(&o.f, PRESENT("[\"me\",\"new\"]"));
    fake_run(&o.f);
    assert_string_equal(o.names, "subscription_s ");
    assert_int_equal(pusher_member_count(o.f.client, channel), 2);
    fake_eof(&o.f);
    fake_run(&o.f);
    fake_forget_heard(&o.f);
    fake_online_again(&o.f);
    const fake_message *message = fake_next(&o.f);
    assert_non_null(message);
    assert_null(strstr(message->text, "old"));
    fake_end(&o.f);
}

/* The list that comes with the confirmation is what counts. */
static void members_are_told_of_live_channels_only(void **state)
{
    (void)state;
    static const char added[] = "{\"event\":\"pusher_internal:member_added\",\"channel\":"
                                "\"presence-a\",\"data\":{\"user_id\":\"new\"}}";
    office o;
    pusher_options options = begin(&o);
    o.answer = ME;
    o.on_told = keep_name;
    fake_start(&o.f, &options);
    pusher_channel channel = fake_subscribe(&o.f, "presence-a");
    (void)pusher_bind_all(o.f.client, channel, on_told, &o);
    fake_online(&o.f);
    fake_say(&o.f, added);
    fake_say(&o.f, PRESENT("[\"me\",\"new\"]"));
    fake_run(&o.f);
    assert_string_equal(o.names, "subscription_s ");
    fake_eof(&o.f);
    fake_run(&o.f);
    (void)fake_request(&o.f);
    fake_end(&o.f);
}

/* soketi refuses a sign-in by an error without a channel, and closes. */
static void a_refused_sign_in_is_told(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    o.user_answer = USER_GOOD;
    fake_start(&o.f, &options);
    assert_int_equal(pusher_signin(o.f.client), PUSHER_OK);
    (void)pusher_bind(o.f.client, PUSHER_USER, "pusher:signin_error", fake_event_fn, &o.f);
    fake_online(&o.f);
    fake_say(&o.f, "{\"event\":\"pusher:error\",\"data\":{\"code\":4009,\"message\":\"no \\\"!\"}}");
    fake_run(&o.f);
    assert_int_equal(o.f.events, 1);
    assert_string_equal(o.f.last_data,
                        "{\"type\":\"AuthError\",\"error\":\"no \\\"!\",\"status\":4009}");
    assert_int_equal(o.f.last_error.code, PUSHER_ERR_SERVER);
    assert_int_equal(o.f.last_error.server_code, 4009);
    fake_end(&o.f);
}

/* The event that the cache gave could not be opened: the next one is not from it. */
static void a_cached_event_may_be_lost(void **state)
{
    (void)state;
    static const char good[] =
        "{\"event\":\"e\",\"channel\":\"private-encrypted-cache-a\",\"data\":{\"ciphertext\":"
        "\"BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe\",\"nonce\":"
        "\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}}";
    office o;
    pusher_options options = begin(&o);
    o.answer = "{" FAKE_AUTH ",\"shared_secret\":\"" FAKE_SHARED_SECRET "\"}";
    fake_start(&o.f, &options);
    pusher_channel channel = fake_subscribe(&o.f, "private-encrypted-cache-a");
    (void)pusher_bind(o.f.client, channel, "e", fake_event_fn, &o.f);
    fake_online(&o.f);
    say_subscribed(&o.f, "private-encrypted-cache-a");
    fake_say(&o.f, "{\"event\":\"e\",\"channel\":\"private-encrypted-cache-a\",\"data\":\"old\"}");
    fake_say(&o.f, good);
    fake_run(&o.f);
    assert_int_equal(o.f.events, 1);
    assert_string_equal(o.f.last_data, "{\"hello\":\"world\"}");
    assert_null(strstr(o.f.trace.at, "cached"));
    fake_end(&o.f);
}

/* An error text is UTF-8, wherever it was cut. */
static void the_name_of_a_lost_event_is_cut_between_characters(void **state)
{
    (void)state;
    office o;
    pusher_options options = begin(&o);
    o.answer = "{" FAKE_AUTH ",\"shared_secret\":\"" FAKE_SHARED_SECRET "\"}";
    fake_start(&o.f, &options);
    fake_subscribe(&o.f, "private-encrypted-a");
    fake_online(&o.f);
    say_subscribed(&o.f, "private-encrypted-a");
    char name[200] = "x";
    while (strlen(name) < 100) strcat(name, "\xC3\xA9");
    fake_say_format(&o.f, "{\"event\":\"%s\",\"channel\":\"private-encrypted-a\",\"data\":\"\"}", name);
    fake_run(&o.f);
    const char *at = strstr(o.f.last_message, "x\xC3\xA9");
    assert_non_null(at);
    at++;
    while (memcmp(at, "\xC3\xA9", 2) == 0) at += 2;
    assert_int_equal(*at, ' ');
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
        cmocka_unit_test(a_user_is_asked_for_alone),
        cmocka_unit_test(a_reason_is_told_as_json),
        cmocka_unit_test(after_a_loss_the_reason_is_the_loss),
        cmocka_unit_test(me_is_read_out_of_the_options_as_json),
        cmocka_unit_test(what_comes_unasked_is_no_answer),
        cmocka_unit_test(the_endpoint_may_say_when),
        cmocka_unit_test(no_answer_stays_in_memory),
        cmocka_unit_test(a_channel_taken_again_begins_anew),
        cmocka_unit_test(members_are_told_of_live_channels_only),
        cmocka_unit_test(a_refused_sign_in_is_told),
        cmocka_unit_test(a_cached_event_may_be_lost),
        cmocka_unit_test(the_name_of_a_lost_event_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
