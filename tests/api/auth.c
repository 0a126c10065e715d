/* Authorization: by hook, by endpoint, by secret; tickets, batches, refusals, retries, deadlines. */
#include "fake.h"

#define GOOD "{\"auth\":\"app-key:sig\"}"
#define SUBSCRIBE_SIGNED(name)                                                                     \
    "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"" name "\",\"auth\":\"app-key:sig\"}}"

typedef struct desk { /* what the hook was asked, and what it does */
    pusher_auth_request asked[300];
    char names[300][210], socket_ids[300][64];
    uint32_t count, calls, largest;
    const char *answer;      /* at once; NULL: nothing */
    const char *batch;       /* the same for the whole call */
    int status;              /* reject with it */
    bool retry;
} desk;

static desk *desk_of(pusher_client *client);
static fake *the_fake;

static desk *desk_of(pusher_client *client)
{
    (void)client;
    return (desk *)the_fake->extra;
}

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    desk *d = desk_of(client);
    assert_ptr_equal(user_data, the_fake);
    assert_true(count > 0);
    d->calls++;
    if (count > d->largest) d->largest = count;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(d->count < ARRAY_LEN(d->asked));
        d->asked[d->count] = requests[i];
        snprintf(d->names[d->count], sizeof d->names[0], "%s", requests[i].channel_name);
        snprintf(d->socket_ids[d->count], sizeof d->socket_ids[0], "%s", requests[i].socket_id);
        d->count++;
        if (d->answer) pusher_auth_accept(client, requests[i].ticket, d->answer, strlen(d->answer));
        if (d->status)
            pusher_auth_reject(client, requests[i].ticket, d->status, "no luck", d->retry);
    }
    if (d->batch) pusher_auth_accept_batch(client, requests[0].ticket, d->batch, strlen(d->batch));
}

static pusher_options begin(fake *f, desk *d)
{
    memset(d, 0, sizeof *d);
    fake_init(f);
    f->extra = d;
    the_fake = f;
    pusher_options options = fake_options(f);
    options.auth.request_fn = on_request;
    options.auth.user_data = f;
    return options;
}

static void say_subscribed(fake *f, const char *name)
{
    fake_say_format(f, "{\"event\":\"pusher_internal:subscription_succeeded\",\"data\":\"{}\","
                       "\"channel\":\"%s\"}", name);
    fake_run(f);
}

static void answer(fake *f, uint32_t i, const char *body, pusher_result want)
{
    desk *d = (desk *)f->extra;
    assert_int_equal(pusher_auth_accept(f->client, d->asked[i].ticket, body, strlen(body)), want);
}

/* ---- by hook ---- */

static void a_private_channel_is_asked_for_and_subscribed(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    d.answer = GOOD;
    fake_start(&f, &options);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
    assert_int_equal(d.count, 0);
    fake_online(&f);
    assert_int_equal(d.count, 1);
    assert_string_equal(d.names[0], "private-a");
    assert_string_equal(d.socket_ids[0], pusher_socket_id(f.client));
    assert_int_equal(d.asked[0].reason, PUSHER_AUTH_FIRST);
    assert_int_equal(d.asked[0].attempt, 1);
    assert_int_equal(d.asked[0].kind, PUSHER_AUTH_CHANNEL);
    assert_int_equal(d.asked[0].channel.id, channel.id);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    say_subscribed(&f, "private-a");
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
    fake_end(&f);
}

static void answers_may_come_many_frames_later(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    fake_start(&f, &options);
    fake_online(&f);
    fake_subscribe(&f, "private-a");
    fake_subscribe(&f, "open");
    fake_run(&f);
    fake_pass(&f, 2000);
    fake_expect_text(&f, FAKE_SUBSCRIBE("open")); /* it waits for nobody */
    fake_expect_nothing(&f);
    assert_int_equal(d.count, 1);
    answer(&f, 0, GOOD, PUSHER_OK);
    assert_true(pusher_next_poll_ms(f.client) <= f.now);
    answer(&f, 0, GOOD, PUSHER_ERR_STALE); /* twice */
    fake_run(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    pusher_stats stats;
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.auth_requests, 1);
    assert_int_equal(stats.auth_stale, 1);
    assert_int_equal(stats.auth_latency_ms, 2000);
    fake_end(&f);
}

static void tickets_end_with_their_connection(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    fake_start(&f, &options);
    fake_online(&f);
    fake_subscribe(&f, "private-a");
    fake_run(&f);
    fake_eof(&f);
    fake_run(&f);
    answer(&f, 0, GOOD, PUSHER_ERR_STALE);
    fake_online_again(&f);
    answer(&f, 0, GOOD, PUSHER_ERR_STALE);
    assert_int_equal(d.count, 2);
    assert_int_equal(d.asked[1].reason, PUSHER_AUTH_RECONNECT);
    assert_int_equal(d.asked[1].attempt, 1);
    fake_forget_heard(&f);
    answer(&f, 1, GOOD, PUSHER_OK);
    fake_run(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    pusher_ticket none = { 0, 0 }, odd = { 77, 3 };
    assert_int_equal(pusher_auth_accept(f.client, none, GOOD, 5), PUSHER_ERR_STALE);
    assert_int_equal(pusher_auth_reject(f.client, odd, 403, NULL, false), PUSHER_ERR_STALE);
    fake_end(&f);
}

static void unsubscribing_ends_the_question(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    fake_start(&f, &options);
    fake_online(&f);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    fake_run(&f);
    assert_int_equal(pusher_unsubscribe(f.client, channel), PUSHER_OK);
    answer(&f, 0, GOOD, PUSHER_ERR_STALE);
    fake_subscribe(&f, "private-a");
    fake_run(&f);
    answer(&f, 0, GOOD, PUSHER_ERR_STALE);
    answer(&f, 1, GOOD, PUSHER_OK);
    fake_run(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    fake_expect_nothing(&f);
    fake_end(&f);
}

static void bad_answers_are_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *channel, *body;
        pusher_result result;
        const char *says;
    } cases[] = {
        { "private-a", "", PUSHER_ERR_PARSE, "not JSON" },
        { "private-a", "Forbidden", PUSHER_ERR_PARSE, "not JSON" },
        { "private-a", "{\"auth\":\"a:b\"", PUSHER_ERR_PARSE, "not JSON" },
        { "private-a", "[]", PUSHER_ERR_AUTH, "no JSON object" },
        { "private-a", "\"x\"", PUSHER_ERR_AUTH, "no JSON object" },
        { "private-a", "{}", PUSHER_ERR_AUTH, "has no auth" },
        { "private-a", "{\"auth\":\"\"}", PUSHER_ERR_AUTH, "has no auth" },
        { "private-a", "{\"auth\":7}", PUSHER_ERR_AUTH, "has no auth" },
        { "presence-a", "{\"auth\":\"a:b\",\"channel_data\":{}}", PUSHER_ERR_AUTH, "user_id" },
        { "presence-a", "{\"auth\":\"a:b\",\"channel_data\":\"{}\"}", PUSHER_ERR_AUTH, "user_id" },
        { "presence-a", "{\"auth\":\"a:b\",\"channel_data\":\"x\"}", PUSHER_ERR_AUTH, "user_id" },
        { "private-encrypted-a", GOOD, PUSHER_ERR_AUTH, "no shared_secret" },
        { "private-encrypted-a", "{\"auth\":\"a:b\",\"shared_secret\":\"AAAA\"}", PUSHER_ERR_AUTH,
          "not 32 bytes" },
        { "private-encrypted-a", "{\"auth\":\"a:b\",\"shared_secret\":\"%%%\"}", PUSHER_ERR_AUTH,
          "not 32 bytes" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake f;
        desk d;
        pusher_options options = begin(&f, &d);
        fake_start(&f, &options);
        fake_online(&f);
        pusher_channel channel = fake_subscribe(&f, cases[i].channel);
        pusher_bind(f.client, channel, "pusher:subscription_error", fake_event_fn, &f);
        fake_run(&f);
        answer(&f, 0, cases[i].body, cases[i].result);
        assert_int_equal(f.errors, 0); /* callbacks run in pusher_poll() only */
        fake_run(&f);
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.last_error.code, cases[i].result);
        assert_string_equal(f.last_channel, cases[i].channel);
        if (!strstr(f.last_message, cases[i].says) || !strstr(f.last_message, cases[i].channel))
            fail_msg("%s: %s", cases[i].body, f.last_message);
        assert_int_equal(f.events, 1);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
        fake_expect_nothing(&f);
        fake_pass(&f, 60000);
        assert_int_equal(f.errors, 1);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        fake_end(&f);
    }
}

static void a_no_is_told_once_and_asked_again_by_subscribing(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    d.status = 403;
    fake_start(&f, &options);
    fake_online(&f);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    pusher_bind(f.client, channel, "pusher:subscription_error", fake_event_fn, &f);
    fake_run(&f);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_AUTH);
    assert_int_equal(f.last_error.server_code, 403);
    assert_non_null(strstr(f.last_message, "no luck"));
    assert_string_equal(f.last_data, "{\"type\":\"AuthError\",\"error\":\"authorization failed: no luck, "
                                     "status 403\",\"status\":403}");
    fake_pass(&f, 30000);
    assert_int_equal(d.count, 1);
    d.status = 0;
    d.answer = GOOD;
    pusher_channel again = fake_subscribe(&f, "private-a");
    assert_int_equal(again.id, channel.id);
    fake_run(&f);
    assert_int_equal(d.count, 2);
    assert_int_equal(d.asked[1].reason, PUSHER_AUTH_RETRY);
    fake_forget_heard(&f);
    fake_end(&f);
}

static void later_is_asked_again_with_growing_waits(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    options.auth.max_attempts = 4;
    d.status = 503;
    d.retry = true;
    fake_start(&f, &options);
    fake_online(&f);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    fake_sleep(&f, 100000);
    assert_int_equal(d.count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(d.asked[i].attempt, i + 1);
        assert_int_equal(d.asked[i].reason, i ? PUSHER_AUTH_RETRY : PUSHER_AUTH_FIRST);
    }
    assert_int_equal(f.errors, 1);
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    fake_end(&f);
}

static void who_comes_late_puts_nobody_off(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    d.status = 503;
    d.retry = true;
    fake_start(&f, &options);
    fake_online(&f);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    for (int i = 0; i < 90; i++) {
        char name[32];
        fake_sleep(&f, 100);
        snprintf(name, sizeof name, "private-%d", i);
        fake_subscribe(&f, name);
    }
    assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_REFUSED);
    fake_end(&f);
}

static void later_may_be_weeks_away(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        fake f;
        desk d;
        pusher_options options = begin(&f, &d);
        options.reconnect_base_ms = options.reconnect_cap_ms = UINT32_MAX;
        f.random_state = seed;
        d.status = 503;
        d.retry = true;
        fake_start(&f, &options);
        fake_online(&f);
        fake_subscribe(&f, "private-a");
        fake_sleep(&f, 10000);
        assert_int_equal(d.count, 1);
        fake_end(&f);
    }
}

static void no_answer_is_an_answer_after_a_while(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    options.auth.max_attempts = 2;
    options.auth_timeout_ms = 3000;
    fake_start(&f, &options);
    fake_online(&f);
    fake_subscribe(&f, "private-a");
    fake_sleep(&f, 2900);
    assert_int_equal(d.count, 1);
    fake_sleep(&f, 60000);
    assert_int_equal(d.count, 2);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    answer(&f, 1, GOOD, PUSHER_ERR_STALE);
    fake_end(&f);
}

/* ---- batches ---- */

static void a_batch_lists_all_that_wait(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    options.auth.max_batch = 100;
    fake_start(&f, &options);
    for (int i = 0; i < 150; i++) {
        char name[32];
        snprintf(name, sizeof name, "private-%d", i);
        fake_subscribe(&f, name);
    }
    fake_online(&f);
    assert_int_equal(d.count, 150);
    assert_int_equal(d.calls, 2);
    assert_int_equal(d.largest, 100);
    for (uint32_t i = 150; i > 0; i--) answer(&f, i - 1, GOOD, PUSHER_OK);
    fake_run(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-149")); /* as answered */
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    assert_int_equal(d.count, 300);
    assert_int_equal(d.asked[150].reason, PUSHER_AUTH_RECONNECT);
    assert_string_equal(d.names[150], "private-0"); /* in the order of subscription */
    fake_end(&f);
}

static void one_object_answers_a_batch(void **state)
{
    (void)state;
    fake f;
    desk d;
    pusher_options options = begin(&f, &d);
    options.auth.max_batch = 8;
    d.batch = "{\"private-b\":{\"status\":200,\"data\":{\"auth\":\"app-key:sig\"}},"
              "\"private-a\":{\"auth\":\"app-key:sig\"},\"private-c\":{\"status\":403},"
              "\"private-x\":{\"auth\":\"app-key:sig\"},\"private-d\":7}";
    fake_start(&f, &options);
    const char *const names[] = { "private-a", "private-b", "private-c", "private-d", "private-e" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) fake_subscribe(&f, names[i]);
    fake_online(&f);
    assert_int_equal(d.calls, 1);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-b"));
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    fake_expect_nothing(&f);
    assert_int_equal(f.errors, 3);
    assert_int_equal(pusher_channel_state(f.client, pusher_find_channel(f.client, "private-e")),
                     PUSHER_REFUSED);
    fake_end(&f);
}

/* Gson, for one, writes '=' as \u003d. */
static void a_batch_names_channels_as_json_does(void **state)
{
    (void)state;
    fake f;
    desk d;
    char longest[201], batch[3000], name[1300];
    pusher_options options = begin(&f, &d);
    options.auth.max_batch = 8;
    memset(longest, 'x', 200);
    memcpy(longest, "private-", 8);
    longest[200] = '\0';
    name[0] = '\0';
    for (int i = 0; i < 200; i++) snprintf(name + 6 * i, 7, "\\u%04x", (unsigned)longest[i]);
    snprintf(batch, sizeof batch, "{\"private-a\\u003d1\":" GOOD ",\"%s\":" GOOD ",\"%s7\":7}", name,
             name);
    d.batch = batch;
    fake_start(&f, &options);
    fake_subscribe(&f, "private-a=1");
    fake_subscribe(&f, longest);
    fake_online(&f);
    assert_int_equal(f.errors, 0);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a=1"));
    assert_non_null(fake_next(&f));
    fake_expect_nothing(&f);
    fake_end(&f);
}

/* ---- by endpoint ---- */

typedef struct office {
    int status;
    const char *body;
    const char *raw;        /* instead of both */
    bool silent, close_after, drop;
    char head[4096], post[1024];
} office;

static void at_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    office *o = (office *)f->extra;
    snprintf(o->head, sizeof o->head, "%s", head);
    snprintf(o->post, sizeof o->post, "%s", body);
    if (o->silent) return;
    if (o->raw) fake_bytes_add(&stream->to_client, o->raw, strlen(o->raw));
    else if (!o->drop) fake_answer(stream, o->status ? o->status : 200, o->body ? o->body : GOOD);
    if (o->close_after || o->drop) stream->end = PUSHER_IO_EOF;
}

static pusher_options begin_office(fake *f, office *o)
{
    memset(o, 0, sizeof *o);
    fake_init(f);
    f->extra = o;
    f->endpoint = at_endpoint;
    pusher_options options = fake_options(f);
    options.auth.endpoint = "http://auth.example:8000/broadcasting/auth?x=1";
    return options;
}

static void the_endpoint_gets_posts_like_pusher_js(void **state)
{
    (void)state;
    static const pusher_pair headers[] = { { "Authorization", "Bearer t0ken" } };
    static const pusher_pair params[] = { { "tenant", "a b&c" } };
    fake f;
    office o;
    pusher_options options = begin_office(&f, &o);
    options.auth.headers = headers;
    options.auth.header_count = 1;
    options.auth.params = params;
    options.auth.param_count = 1;
    fake_start(&f, &options);
    fake_subscribe(&f, "private-a");
    fake_subscribe(&f, "private-b=@,;");
    fake_online(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-b=@,;"));
    assert_string_equal(o.post, "socket_id=123.456&channel_name=private-b%3D%40%2C%3B&"
                                "tenant=a%20b%26c");
    assert_int_equal(strncmp(o.head, "POST /broadcasting/auth?x=1 HTTP/1.1\r\n", 38), 0);
    assert_non_null(strstr(o.head, "\r\nHost: auth.example:8000\r\n"));
    assert_non_null(strstr(o.head, "\r\nAuthorization: Bearer t0ken"));
    assert_non_null(strstr(o.head, "application/x-www-form-urlencoded"));
    assert_int_equal(f.posts, 2);
    assert_int_equal(f.stream_count, 2); /* the stream is kept for the next one */
    assert_string_equal(f.streams[1]->host, "auth.example");
    assert_int_equal(f.streams[1]->port, 8000);
    fake_sleep(&f, 20000);
    assert_true(f.streams[1]->closed);   /* but not for ever */
    fake_end(&f);
}

static void prepare(pusher_client *client, const pusher_auth_request *request, void *user_data)
{
    char value[32];
    (void)user_data;
    snprintf(value, sizeof value, "Bearer %u", (unsigned)request->attempt);
    assert_int_equal(pusher_auth_header(client, "Authorization", value), PUSHER_OK);
    assert_int_equal(pusher_auth_header(client, "Bad\r\nName", "x"), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_auth_header(client, "X-A", "a\r\nX-B: b"), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_auth_param(client, "nonce", "1"), PUSHER_OK);
}

static void headers_are_made_for_each_request(void **state)
{
    (void)state;
    fake f;
    office o;
    pusher_options options = begin_office(&f, &o);
    options.auth.prepare_fn = prepare;
    o.status = 500;
    fake_start(&f, &options);
    fake_subscribe(&f, "private-a");
    fake_online(&f);
    assert_non_null(strstr(o.head, "\r\nAuthorization: Bearer 1"));
    assert_null(strstr(o.head, "X-B"));
    assert_non_null(strstr(o.post, "&nonce=1"));
    o.status = 200;
    fake_sleep(&f, 10000);
    assert_non_null(strstr(o.head, "\r\nAuthorization: Bearer 2"));
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    assert_int_equal(pusher_auth_header(f.client, "X", "y"), PUSHER_ERR_ARGUMENT); /* not here */
    fake_end(&f);
}

static void what_an_endpoint_may_do_wrong(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *raw, *body;
        bool drop;
        uint32_t posts;          /* until it is given up */
        pusher_result code;
        int server_code;
        const char *says;
    } cases[] = {
        { 403, NULL, NULL, false, 1, PUSHER_ERR_AUTH, 403, "refused" },
        { 404, NULL, NULL, false, 1, PUSHER_ERR_AUTH, 404, "refused" },
        { 302, NULL, NULL, false, 1, PUSHER_ERR_AUTH, 302, "redirect" },
        { 201, NULL, NULL, false, 1, PUSHER_ERR_AUTH, 201, "refused" },
        { 500, NULL, NULL, false, 3, PUSHER_ERR_AUTH, 500, "refused" },
        { 429, NULL, NULL, false, 3, PUSHER_ERR_AUTH, 429, "refused" },
        { 200, NULL, "no JSON", false, 1, PUSHER_ERR_PARSE, 0, "not JSON" },
        { 200, NULL, "{}", false, 1, PUSHER_ERR_AUTH, 0, "no auth" },
        { 0, "SMTP 220 hello\r\n\r\n", NULL, false, 1, PUSHER_ERR_HTTP, 0, "not HTTP" },
        { 0, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", NULL, false, 1,
          PUSHER_ERR_TOO_BIG, 200, "max_answer_bytes" },
        { 0, NULL, NULL, true, 3, PUSHER_ERR_IO, 0, "auth.example" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake f;
        office o;
        pusher_options options = begin_office(&f, &o);
        o.status = cases[i].status;
        o.raw = cases[i].raw;
        o.body = cases[i].body;
        o.drop = cases[i].drop;
        fake_start(&f, &options);
        pusher_channel channel = fake_subscribe(&f, "private-a");
        pusher_bind(f.client, channel, "pusher:subscription_error", fake_event_fn, &f);
        fake_online(&f);
        fake_sleep(&f, 60000);
        assert_int_equal(f.posts, cases[i].posts);
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.events, 1);
        if (f.last_error.code != cases[i].code || f.last_error.server_code != cases[i].server_code ||
            !strstr(f.last_message, cases[i].says) || !strstr(f.last_message, "private-a"))
            fail_msg("case %u: %d %d %s", (unsigned)i, (int)f.last_error.code,
                     f.last_error.server_code, f.last_message);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        o.status = 200;
        o.raw = o.body = NULL;
        o.drop = false;
        fake_forget_heard(&f);
        fake_subscribe(&f, "private-b"); /* it goes on */
        fake_sleep(&f, 100);
        fake_expect_text(&f, SUBSCRIBE_SIGNED("private-b"));
        fake_end(&f);
    }
}

static void an_endpoint_that_stalls_holds_nobody_up(void **state)
{
    (void)state;
    fake f;
    office o;
    pusher_options options = begin_office(&f, &o);
    options.auth.max_attempts = 1;
    o.silent = true;
    fake_start(&f, &options);
    pusher_channel a = fake_subscribe(&f, "private-a");
    fake_subscribe(&f, "private-b");
    fake_online(&f);
    pusher_unsubscribe(f.client, a); /* the request under way is of no use any more */
    fake_sleep(&f, 9000);
    assert_int_equal(f.posts, 1);
    o.silent = false;
    fake_sleep(&f, 2000);
    assert_int_equal(f.posts, 2);
    assert_int_equal(f.errors, 0);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-b"));
    fake_end(&f);
}

/* The event loop does not know the endpoint's stream: it looks, but the more seldom the longer the
   answer takes, and is not late by more than a tenth of a second. */
static void waiting_for_an_endpoint_is_cheap(void **state)
{
    (void)state;
    fake f;
    office o;
    pusher_options options = begin_office(&f, &o);
    uint32_t polls = 0;
    options.auth.max_attempts = 1;
    o.silent = true;
    fake_start(&f, &options);
    fake_online(&f);
    fake_subscribe(&f, "private-a");
    fake_run(&f);
    uint64_t start = f.now;
    while (f.errors == 0 && polls < 5000) {
        uint64_t next = pusher_next_poll_ms(f.client);
        assert_true(next <= f.now + 102);
        if (polls < 5) assert_true(next <= f.now + 2);
        if (next > f.now) f.now = next;
        fake_poll(&f);
        polls++;
    }
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    assert_int_equal(f.now - start, 10000);
    assert_true(polls < 300);
    fake_end(&f);
}

/* It grows tired of waiting just when the second request comes. */
static void at_tired_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    if (stream->requests == 2) stream->end = PUSHER_IO_EOF;
    else at_endpoint(f, stream, head, body);
}

static void a_kept_stream_that_has_ended_is_no_failure(void **state)
{
    (void)state;
    for (int meanwhile = 0; meanwhile < 2; meanwhile++) {
        fake f;
        office o;
        pusher_options options = begin_office(&f, &o);
        f.endpoint = at_tired_endpoint;
        fake_start(&f, &options);
        fake_online(&f);
        fake_subscribe(&f, "private-a");
        fake_run(&f);
        assert_int_equal(f.posts, 1);
        if (meanwhile) f.streams[1]->end = PUSHER_IO_EOF;
        fake_subscribe(&f, "private-b");
        fake_sleep(&f, 100);
        assert_int_equal(f.posts, meanwhile ? 2 : 3);
        assert_int_equal(f.errors, 0);
        assert_true(f.streams[1]->closed);
        fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
        fake_expect_text(&f, SUBSCRIBE_SIGNED("private-b"));
        fake_end(&f);
    }
}

static void a_lost_connection_ends_the_request(void **state)
{
    (void)state;
    fake f;
    office o;
    pusher_options options = begin_office(&f, &o);
    o.silent = true;
    fake_start(&f, &options);
    fake_subscribe(&f, "private-a");
    fake_online(&f);
    assert_int_equal(f.posts, 1);
    fake_eof(&f);
    fake_run(&f);
    assert_true(f.streams[1]->closed);
    o.silent = false;
    fake_online_again(&f);
    assert_int_equal(f.posts, 2);
    fake_run(&f);
    fake_expect_text(&f, SUBSCRIBE_SIGNED("private-a"));
    fake_end(&f);
}

/* ---- by secret: PROTOCOL.md 3.6 ---- */

static void the_secret_signs(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.key = "278d425bdf160c739803";
    options.auth.secret = "7ad3773142a6692b25b8";
    options.auth.channel_data = "{\"user_id\":10,\"user_info\":{\"name\":\"Mr. Channels\"}}";
    fake_start(&f, &options);
    fake_subscribe(&f, "private-foobar");
    fake_subscribe(&f, "presence-foobar");
    pusher_channel sealed = fake_subscribe(&f, "private-encrypted-foobar");
    fake_request(&f);
    fake_accept(&f);
    fake_say(&f, "{\"event\":\"pusher:connection_established\",\"data\":"
                 "\"{\\\"socket_id\\\":\\\"1234.1234\\\",\\\"activity_timeout\\\":120}\"}");
    fake_run(&f);
    fake_expect_text(&f,
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-foobar\",\"auth\":"
        "\"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4\"}}");
    fake_expect_text(&f,
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"presence-foobar\",\"auth\":"
        "\"278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80\","
        "\"channel_data\":\"{\\\"user_id\\\":10,\\\"user_info\\\":{\\\"name\\\":\\\"Mr. Channels\\\"}}\"}}");
    assert_int_equal(pusher_channel_state(f.client, sealed), PUSHER_REFUSED);
    assert_int_equal(f.errors, 1);
    assert_non_null(strstr(f.last_message, "shared_secret"));
    fake_end(&f);
}

static void options_that_cannot_be(void **state)
{
    (void)state;
    fake f;
    pusher_error error;
    static const pusher_pair broken[] = { { "X", "a\r\nb" } };
    static const char *const urls[] = { "auth.example/x", "ftp://a/b", "http://", "http://a b/",
                                        "http://a:0/", "http://a:99999/", "http://u:p@a/" };
    fake_init(&f);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        pusher_options options = fake_options(&f);
        options.auth.endpoint = urls[i];
        assert_null(pusher_create(&options, &error));
        assert_int_equal(error.code, PUSHER_ERR_ARGUMENT);
    }
    pusher_options options = fake_options(&f);
    options.auth.endpoint = "http://a/";
    options.auth.headers = broken;
    options.auth.header_count = 1;
    assert_null(pusher_create(&options, &error));
    assert_non_null(strstr(error.message, "headers"));
    options = fake_options(&f);
    options.auth.secret = "s";
    options.auth.channel_data = "{}";
    assert_null(pusher_create(&options, &error));
    options.auth.channel_data = NULL;
    options.auth.signin_data = "{\"id\":1}";
    assert_null(pusher_create(&options, &error));
    options.auth.signin_data = NULL;
    options.auth.max_batch = 70000;
    assert_null(pusher_create(&options, &error));
    assert_int_equal(f.heap.live_blocks, 0);
}

static void no_memory_is_no_wrong_option(void **state)
{
    (void)state;
    static const pusher_pair pairs[] = { { "X-A", "a" }, { "X-B", "b" } };
    fake f;
    pusher_error error;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.auth.endpoint = "http://a/";
    options.auth.headers = options.auth.params = pairs;
    options.auth.header_count = options.auth.param_count = 2;
    for (uint64_t n = 1; !f.client; n++) {
        f.heap.calls = 0;
        f.heap.fail_at = n;
        f.client = pusher_create(&options, &error);
        if (!f.client) assert_int_equal(error.code, PUSHER_ERR_MEMORY);
        assert_true(n < 100);
    }
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_private_channel_is_asked_for_and_subscribed),
        cmocka_unit_test(answers_may_come_many_frames_later),
        cmocka_unit_test(tickets_end_with_their_connection),
        cmocka_unit_test(unsubscribing_ends_the_question),
        cmocka_unit_test(bad_answers_are_refusals),
        cmocka_unit_test(a_no_is_told_once_and_asked_again_by_subscribing),
        cmocka_unit_test(later_is_asked_again_with_growing_waits),
        cmocka_unit_test(who_comes_late_puts_nobody_off),
        cmocka_unit_test(later_may_be_weeks_away),
        cmocka_unit_test(no_answer_is_an_answer_after_a_while),
        cmocka_unit_test(a_batch_lists_all_that_wait),
        cmocka_unit_test(one_object_answers_a_batch),
        cmocka_unit_test(a_batch_names_channels_as_json_does),
        cmocka_unit_test(the_endpoint_gets_posts_like_pusher_js),
        cmocka_unit_test(headers_are_made_for_each_request),
        cmocka_unit_test(what_an_endpoint_may_do_wrong),
        cmocka_unit_test(an_endpoint_that_stalls_holds_nobody_up),
        cmocka_unit_test(waiting_for_an_endpoint_is_cheap),
        cmocka_unit_test(a_kept_stream_that_has_ended_is_no_failure),
        cmocka_unit_test(a_lost_connection_ends_the_request),
        cmocka_unit_test(the_secret_signs),
        cmocka_unit_test(options_that_cannot_be),
        cmocka_unit_test(no_memory_is_no_wrong_option),
    };
    return cmocka_run_group_tests_name("api/auth", tests, NULL, NULL);
}
