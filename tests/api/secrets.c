/* Nothing secret is told: not to the log, the error callback, the handlers or the server, and none
   of it is left in memory that is given back. Whatever goes wrong with an authorization goes wrong
   here, with answers that are full of secrets; then all that was said is searched for them. */
#include "fake.h"

/* Each is in tests/check/secrets.txt, too: no log of the tests may have it. */
#define APP_SECRET "app-5ecret-7c1e09"
#define TOKEN "token-5ecret-91af42"
#define MINUTE "minute-5ecret-33b0c7"
#define PARAM "param-5ecret-51dd68"
#define QUERY "query-5ecret-0aa4e1"
#define BODY "body-5ecret-e2f79b"
#define HEADER "header-5ecret-b86d15"
#define KEY FAKE_SHARED_SECRET

/* The endpoint may hear the first four, and is where the next three come from. */
static const fake_secret secrets[] = {
    { TOKEN, sizeof TOKEN - 1 }, { MINUTE, sizeof MINUTE - 1 }, { PARAM, sizeof PARAM - 1 },
    { QUERY, sizeof QUERY - 1 }, { BODY, sizeof BODY - 1 }, { HEADER, sizeof HEADER - 1 },
    { KEY, sizeof KEY - 1 },
    { "\xe6\xc8\xc7\xf5\x2d\xbf\xa8\x60\x10\x2a\x31\x10\x30\x15\x06\xf5", 16 },
    { APP_SECRET, sizeof APP_SECRET - 1 },
};
enum { ENDPOINT_KNOWS = 4 };

static fake_bytes told; /* log, handlers, last errors */

static void on_log(const char *message, void *user_data)
{
    (void)user_data;
    fake_note(&told, "log %s\n", message);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)user_data;
    fake_note(&told, "event %s %s ", event->channel_name, event->name);
    fake_bytes_add(&told, event->data, event->data_len);
    fake_bytes_add(&told, event->raw, event->raw_len);
    fake_add(&told, "\n", 1);
}

static void note_last_error(const fake *f)
{
    if (f->client) fake_note(&told, "last %s\n", pusher_last_error(f->client)->message);
}

static void check_bytes(const char *where, const fake_bytes *bytes, size_t from)
{
    for (size_t i = from; i < ARRAY_LEN(secrets); i++)
        if (bytes->at && fake_holds(bytes->at, bytes->len, &secrets[i]))
            fail_msg("secret %u is in %s:\n%s", (unsigned)i, where, bytes->at);
}

/* Ends the client and searches all that it has said and freed. */
static void end(fake *f)
{
    note_last_error(f);
    check_bytes("what callbacks were told", &f->trace, 0);
    check_bytes("the log, an event or an error", &told, 0);
    check_bytes("what the server heard", &f->sent_trace, 0);
    for (uint32_t i = 0; i < f->stream_count; i++)
        if (f->streams[i]->http)
            check_bytes("what the endpoint heard", &f->streams[i]->from_client, ENDPOINT_KNOWS);
    for (size_t i = 0; i < f->heard_count; i++) {
        fake_bytes text;
        text.at = f->heard[i].text;
        text.len = f->heard[i].len;
        check_bytes("a frame", &text, 0);
    }
    assert_true(told.len > 0);
    fake_bytes_free(&told);
    uint64_t searched = f->heap.searched;
    const char *wrong = fake_finish(f); /* says so if a block still had a secret in it */
    if (wrong) fail_msg("%s", wrong);
    assert_true(f->heap.searched > searched || f->heap.failed > 0);
}

/* ---- the application, whose answers are the test's ---- */

typedef struct application {
    const char *raw;      /* the endpoint's bytes; NULL: 200 with body */
    const char *body;
    bool silent, ends;
} application;

static void prepare(pusher_client *client, const pusher_auth_request *request, void *user_data)
{
    const fake *f = (const fake *)user_data;
    (void)request;
    if (pusher_auth_header(client, "X-Minute", MINUTE) != PUSHER_OK) {
        assert_int_equal(pusher_last_error(client)->code, PUSHER_ERR_MEMORY);
        return; /* the request is not made without it: at_endpoint() looks */
    }
    pusher_result bad = pusher_auth_header(client, "Bad Name", MINUTE);
    assert_true(bad == PUSHER_ERR_ARGUMENT || (bad == PUSHER_ERR_MEMORY && f->heap.failed));
    fake_note(&told, "last %s\n", pusher_last_error(client)->message);
    bad = pusher_auth_header(client, "X-Bad", MINUTE "\r\nX: y");
    assert_true(bad == PUSHER_ERR_ARGUMENT || (bad == PUSHER_ERR_MEMORY && f->heap.failed));
    fake_note(&told, "last %s\n", pusher_last_error(client)->message);
}

static void at_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    application *a = (application *)f->extra;
    assert_non_null(strstr(head, TOKEN));
    assert_non_null(strstr(head, MINUTE));
    assert_non_null(strstr(head, QUERY));
    assert_non_null(strstr(body, PARAM));
    if (a->silent) return;
    if (a->raw) fake_add(&stream->to_client, a->raw, SIZE_MAX);
    else fake_answer(stream, 200, a->body);
    if (a->ends) stream->end = PUSHER_IO_EOF;
}

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    fake *f = (fake *)user_data;
    const char *body = ((application *)f->extra)->body;
    if (count > 1) pusher_auth_accept_batch(client, requests[0].ticket, body, strlen(body));
    else pusher_auth_accept(client, requests[0].ticket, body, strlen(body));
    fake_note(&told, "last %s\n", pusher_last_error(client)->message);
}

typedef enum way { BY_ENDPOINT, BY_HOOK, BY_BATCH, BY_SECRET } way;

static pusher_options options_for(fake *f, application *a, way w)
{
    static const pusher_pair headers[] = { { "Authorization", "Bearer " TOKEN } };
    static const pusher_pair params[] = { { "tenant", PARAM } };
    fake_init(f);
    memset(&told, 0, sizeof told);
    f->extra = a;
    f->endpoint = at_endpoint;
    f->serve = fake_serve;
    f->heap.secrets = secrets;
    f->heap.secret_count = ARRAY_LEN(secrets);
    pusher_options options = fake_options(f);
    options.logger.log_fn = on_log;
    options.auth.headers = headers;
    options.auth.header_count = 1;
    options.auth.params = params;
    options.auth.param_count = 1;
    options.auth.user_data = f;
    options.auth.prepare_fn = prepare;
    options.auth.max_answer_bytes = 300;
    options.auth.max_attempts = 2;
    options.auth_timeout_ms = 50;
    options.auth.endpoint = options.auth.user_endpoint = "http://auth.example/a?token=" QUERY;
    options.auth.secret = APP_SECRET;
    options.auth.channel_data = "{\"user_id\":\"me\"}";
    options.auth.signin_data = "{\"id\":\"me\"}";
    if (w == BY_SECRET) options.auth.endpoint = options.auth.user_endpoint = NULL;
    if (w == BY_HOOK || w == BY_BATCH) options.auth.request_fn = options.auth.user_fn = on_request;
    if (w == BY_BATCH) options.auth.max_batch = 10;
    return options;
}

/* A channel of each kind that is authorized, and a user. */
static void live(fake *f)
{
    static const char *const channels[] = { "private-a", "presence-b", "private-encrypted-c" };
    for (size_t i = 0; i < ARRAY_LEN(channels) && f->client; i++)
        pusher_subscribe(f->client, channels[i]);
    pusher_bind_all(f->client, PUSHER_ALL, on_event, f);
    pusher_bind_all(f->client, PUSHER_USER, on_event, f);
    pusher_signin(f->client);
    pusher_connect(f->client);
    fake_live(f, 10000);
    note_last_error(f);
}

static void play(application *a, way w)
{
    fake f;
    pusher_options options = options_for(&f, a, w);
    fake_start(&f, &options);
    live(&f);
    end(&f);
}

#define HEAD "HTTP/1.1 200 OK\r\nX-A: " HEADER "\r\n"

static void an_endpoint_that_answers_wrongly(void **state)
{
    (void)state;
    static const char *const answers[] = {
        HEAD "Content-Length: 5000\r\n\r\n" BODY KEY,
        HEAD "\r\n" BODY KEY,
        HEAD "Transfer-Encoding: chunked\r\n\r\n10\r\n" BODY,
        HEAD "Transfer-Encoding: chunked\r\n\r\n" BODY KEY "\r\n",
        HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0;" BODY "\r\n" BODY ": " KEY "\r\n\r\n",
        HEAD "Content-Encoding: " BODY "\r\n\r\n",
        HEAD "Content-Length: " BODY "\r\n\r\n",
        HEAD "Transfer-Encoding: " BODY "\r\n\r\n",
        HEAD BODY "\r\n\r\n" KEY,
        BODY KEY "\r\n\r\n",
        "HTTP/1.1 " BODY KEY "\r\n\r\n",
        "HTTP/1.1 403 " BODY "\r\nContent-Length: 44\r\n\r\n" KEY,
        "HTTP/1.1 500 " BODY "\r\nContent-Length: 44\r\n\r\n" KEY,
        "HTTP/1.1 429 " BODY "\r\nRetry-After: " BODY "\r\nContent-Length: 44\r\n\r\n" KEY,
        "HTTP/1.1 302 Found\r\nLocation: http://" BODY "/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" KEY BODY,
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(answers); i++) {
        application a = { answers[i / 2], NULL, false, i % 2 == 1 };
        play(&a, BY_ENDPOINT);
    }
}

static void an_endpoint_that_does_not_answer(void **state)
{
    (void)state;
    application a = { NULL, "", true, false };
    play(&a, BY_ENDPOINT);
    for (int how = 0; how < 3; how++) {
        fake f;
        application none = { NULL, "", true, false };
        pusher_options options = options_for(&f, &none, BY_ENDPOINT);
        fake_start(&f, &options);
        pusher_subscribe(f.client, "private-encrypted-a");
        pusher_connect(f.client);
        fake_live(&f, 10);
        for (uint32_t i = 0; i < f.stream_count; i++) {
            if (!f.streams[i]->http) continue;
            fake_add(&f.streams[i]->to_client, HEAD "Content-Length: 90\r\n\r\n" KEY, SIZE_MAX);
            f.streams[i]->end = how == 0 ? PUSHER_IO_WANT_READ : how == 1 ? PUSHER_IO_EOF
                                                                          : PUSHER_IO_ERROR;
        }
        fake_live(&f, 20);
        if (how == 0) pusher_disconnect(f.client); /* in the middle of it */
        fake_live(&f, 5000);
        end(&f);
    }
}

/* Each lacks something, and says too much. */
static const char *const bodies[] = {
    "", "<html>" BODY KEY, "{\"auth\":\"" BODY "\",\"shared_secret\":\"" KEY "\"",
    "{\"shared_secret\":\"" KEY "\",\"x\":\"" BODY "\"}", "\"" BODY KEY "\"", "[\"" BODY "\"]",
    "{\"auth\":{\"" BODY "\":\"" KEY "\"}}",
    "{\"auth\":\"\",\"shared_secret\":\"" KEY "\",\"user_data\":\"" BODY "\"}",
    "{" FAKE_AUTH ",\"shared_secret\":\"" KEY "AAAA\",\"channel_data\":\"{}\",\"x\":\"" BODY "\"}",
    "{" FAKE_AUTH ",\"shared_secret\":\"\\u0020" KEY "\",\"channel_data\":[\"" BODY "\"]}",
    "{" FAKE_AUTH ",\"shared_secret\":[\"" KEY "\"],\"user_data\":{\"id\":\"" BODY "\"}}",
    "{" FAKE_AUTH ",\"shared_secret\":\"" KEY "\",\"note\":\"" BODY "\"}",
    "{\"private-a\":\"" BODY "\",\"presence-b\":{\"status\":403,\"data\":\"" BODY KEY "\"},"
    "\"private-encrypted-c\":{\"status\":200,\"data\":{" FAKE_AUTH ",\"shared_secret\":\"" KEY
    "=\"}}}",
    "{\"private-encrypted-c\":{" FAKE_AUTH ",\"shared_secret\":\"" KEY "\"},\"" BODY "\":1}",
};

static void bodies_that_are_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        application a = { NULL, bodies[i], false, false };
        play(&a, BY_ENDPOINT);
        play(&a, BY_HOOK);
        play(&a, BY_BATCH);
    }
}

/* All of it goes well; then the server refuses, keys change, the connection goes. */
static void what_follows_a_good_answer(void **state)
{
    (void)state;
    for (int w = BY_ENDPOINT; w <= BY_HOOK; w++) {
        fake f;
        application a = { NULL, "{" FAKE_AUTH ",\"shared_secret\":\"" KEY "\"}", false, false };
        pusher_options options = options_for(&f, &a, (way)w);
        fake_start(&f, &options);
        pusher_channel channel = fake_subscribe(&f, "private-encrypted-c");
        pusher_bind_all(f.client, PUSHER_ALL, on_event, &f);
        pusher_connect(f.client);
        fake_live(&f, 100);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        fake_say(&f, "{\"event\":\"e\",\"channel\":\"private-encrypted-c\",\"data\":{\"ciphertext\":"
                     "\"BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe\",\"nonce\":"
                     "\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}}");
        fake_live(&f, 10);
        assert_non_null(strstr(told.at, "{\"hello\":\"world\"}"));
        a.body = "{" FAKE_AUTH ",\"shared_secret\":\"" KEY "AAAA\"}";
        for (int i = 0; i < 3; i++)
            fake_say(&f, "{\"event\":\"e\",\"channel\":\"private-encrypted-c\",\"data\":{\"ciphertext\":"
                         "\"jslG1BcbvBsTqFKt+irmqq==\",\"nonce\":"
                         "\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}}");
        fake_live(&f, 10000);
        fake_say(&f, "{\"event\":\"pusher:subscription_error\",\"channel\":\"private-encrypted-c\","
                     "\"data\":{\"type\":\"AuthError\",\"status\":401}}");
        fake_live(&f, 10);
        fake_eof(&f);
        fake_live(&f, 5000);
        pusher_unsubscribe(f.client, channel);
        fake_live(&f, 10);
        end(&f);
    }
}

static void the_apps_own_secret(void **state)
{
    (void)state;
    fake f;
    application a = { NULL, "", false, false };
    pusher_options options = options_for(&f, &a, BY_SECRET);
    fake_start(&f, &options);
    live(&f);
    assert_int_equal(pusher_channel_state(f.client, pusher_find_channel(f.client, "private-a")),
                     PUSHER_SUBSCRIBED);
    fake_say(&f, "{\"event\":\"pusher:error\",\"data\":{\"code\":4009,\"message\":\"no\"}}");
    fake_say_close(&f, 4009, "no");
    fake_live(&f, 10);
    end(&f);
}

/* pusher_create() says what is wrong, and not with what. */
static void options_that_are_refused(void **state)
{
    (void)state;
    static const pusher_pair bad_header[] = { { "Authorization", TOKEN "\n" } };
    static const pusher_pair bad_name[] = { { TOKEN " x", "v" } };
    for (int i = 0; i < 7; i++) {
        fake f;
        application a = { NULL, "", false, false };
        pusher_error error;
        pusher_options options = options_for(&f, &a, BY_ENDPOINT);
        switch (i) {
        case 0: options.auth.endpoint = "http://user:" QUERY "@auth.example/"; break;
        case 1: options.auth.endpoint = "http://auth.example/ " QUERY; break;
        case 2: options.auth.user_endpoint = "ftp://" QUERY; break;
        case 3: options.auth.headers = bad_header; break;
        case 4: options.auth.headers = bad_name; break;
        case 5: options.auth.channel_data = "{\"x\":\"" BODY "\"}"; break;
        default: options.auth.signin_data = "{\"id\":\"" BODY "\""; break;
        }
        f.client = pusher_create(&options, &error);
        assert_null(f.client);
        assert_int_equal(error.code, PUSHER_ERR_ARGUMENT);
        fake_note(&told, "%s\n", error.message);
        check_bytes("an error of pusher_create", &told, 0);
        fake_bytes_free(&told);
        const char *wrong = fake_finish(&f);
        if (wrong) fail_msg("%d: %s", i, wrong);
    }
}

/* Memory is short at any moment: what was begun is wiped, too. */
static void with_each_allocation_failing(void **state)
{
    (void)state;
    for (int w = BY_ENDPOINT; w <= BY_SECRET; w++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            fake f;
            pusher_error error;
            application a = { NULL, "{" FAKE_AUTH ",\"shared_secret\":\"" KEY "\",\"user_data\":"
                                    "\"{\\\"id\\\":\\\"me\\\"}\"}", false, false };
            pusher_options options = options_for(&f, &a, (way)w);
            f.heap.fail_at = n;
            f.client = pusher_create(&options, &error);
            if (f.client) live(&f);
            failed = f.heap.failed > 0;
            fake_note(&told, "%s\n", f.client ? "" : error.message);
            end(&f);
        }
    }
}

/* Headers of the upgrade go to the server alone, and stay nowhere. */
static void what_the_gate_is_told(void **state)
{
    (void)state;
    static const fake_secret gate = { TOKEN, sizeof TOKEN - 1 };
    static const pusher_pair headers[] = { { "Authorization", "Bearer " TOKEN } };
    for (int end = 0; end < 4; end++) {
        fake f;
        fake_init(&f);
        memset(&told, 0, sizeof told);
        f.heap.secrets = &gate;
        f.heap.secret_count = 1;
        pusher_options options = fake_options(&f);
        options.logger.log_fn = on_log;
        options.headers = headers;
        options.header_count = 1;
        fake_start(&f, &options);
        f.send_block = end == 1; /* it never gets through */
        if (end == 2) fake_online(&f);
        else assert_int_equal(pusher_connect(f.client), PUSHER_OK);
        fake_run(&f);
        if (end == 3) fake_raw(&f, "HTTP/1.1 403 no\r\n\r\n", 19);
        fake_eof(&f);
        fake_pass(&f, 100);
        fake_bytes_add(&told, f.last_message, strlen(f.last_message));
        if (fake_holds(told.at, told.len, &gate)) fail_msg("end %d: %s", end, told.at);
        fake_bytes_free(&told);
        fake_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endpoint_that_answers_wrongly),
        cmocka_unit_test(an_endpoint_that_does_not_answer),
        cmocka_unit_test(bodies_that_are_wrong),
        cmocka_unit_test(what_follows_a_good_answer),
        cmocka_unit_test(the_apps_own_secret),
        cmocka_unit_test(what_the_gate_is_told),
        cmocka_unit_test(options_that_are_refused),
        cmocka_unit_test(with_each_allocation_failing),
    };
    return cmocka_run_group_tests_name("api/secrets", tests, NULL, NULL);
}
