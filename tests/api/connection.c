/* From pusher_connect() to connected: request, answer, greeting, deadlines; liveness; leaving. */
#include "fake.h"

static const char *line_of(const fake_stream *stream, const char *name)
{
    static char line[400];
    char start[64];
    snprintf(start, sizeof start, "\r\n%s: ", name);
    const char *at = strstr(stream->from_client.at, start);
    if (!at)
        return "";
    at += strlen(start);
    size_t len = strcspn(at, "\r");
    memcpy(line, at, len);
    line[len] = '\0';
    return line;
}

/* ---- the request ---- */

static void the_request(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_stream *stream = fake_request(&f);
    const char *text = stream->from_client.at;
    assert_string_equal(stream->host, FAKE_HOST);
    assert_int_equal(stream->port, FAKE_PORT);
    assert_int_equal(strncmp(text, "GET /app/app-key?protocol=7&client=", 35), 0);
    assert_non_null(strstr(text, "&version=" PUSHER_VERSION " HTTP/1.1\r\n"));
    assert_string_equal(line_of(stream, "Host"), "example.org:6001");
    assert_string_equal(line_of(stream, "Upgrade"), "websocket");
    assert_string_equal(line_of(stream, "Connection"), "Upgrade");
    assert_string_equal(line_of(stream, "Sec-WebSocket-Version"), "13");
    assert_int_equal(strlen(line_of(stream, "Sec-WebSocket-Key")), 24);
    assert_string_equal(line_of(stream, "Origin"), "");
    assert_string_equal(line_of(stream, "Sec-WebSocket-Extensions"), "");
    assert_string_equal(line_of(stream, "Sec-WebSocket-Protocol"), "");
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
    fake_establish(&f);
    fake_end(&f);
}

static void host_header(const char *host, uint32_t port, const char *want)
{
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.host = host;
    options.port = port;
    fake_start(&f, &options);
    assert_string_equal(line_of(fake_request(&f), "Host"), want);
    fake_establish(&f);
    fake_end(&f);
}

static void host_port_path_origin(void **state)
{
    (void)state;
    host_header("example.org", 80, "example.org");
    host_header("example.org", 0, "example.org");
    host_header("example.org", 443, "example.org:443");
    host_header("10.0.0.1", 8080, "10.0.0.1:8080");
    host_header("::1", 6001, "[::1]:6001");
    host_header("fe80::1", 80, "[fe80::1]");
    static const struct { const char *path, *want; } paths[] = {
        { NULL, "GET /app/app-key?" },
        { "", "GET /app/app-key?" },
        { "/prefix", "GET /prefix/app/app-key?" },
        { "/a/b", "GET /a/b/app/app-key?" },
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        options.path = paths[i].path;
        options.origin = "https://game.example";
        fake_start(&f, &options);
        fake_stream *stream = fake_request(&f);
        char start[64];
        snprintf(start, sizeof start, "%.*s", (int)strlen(paths[i].want), stream->from_client.at);
        assert_string_equal(start, paths[i].want);
        assert_string_equal(line_of(stream, "Origin"), "https://game.example");
        fake_end(&f);
    }
}

static void more_headers(void **state)
{
    (void)state;
    static const pusher_pair headers[] = {{"Cookie", "gate=\xC3\xA9; b=2"}, {"X-Empty", ""}};
    for (int origin = 0; origin < 2; origin++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        options.origin = origin ? "https://game.example" : NULL;
        options.headers = headers;
        options.header_count = ARRAY_LEN(headers);
        fake_start(&f, &options);
        fake_stream *stream = fake_request(&f);
        assert_string_equal(line_of(stream, "Cookie"), headers[0].value);
        assert_string_equal(line_of(stream, "X-Empty"), "");
        if (origin) assert_string_equal(line_of(stream, "Origin"), "https://game.example");
        fake_eof(&f);
        fake_pass(&f, 1100);
        fake_run(&f);
        assert_string_equal(line_of(f.streams[1], "Cookie"), headers[0].value);
        fake_end(&f);
    }
}

static void keys_are_fresh(void **state)
{
    (void)state;
    fake f;
    char first[32];
    fake_start(&f, NULL);
    snprintf(first, sizeof first, "%s", line_of(fake_request(&f), "Sec-WebSocket-Key"));
    fake_eof(&f);
    fake_pass(&f, 1100);
    assert_int_equal(f.stream_count, 2);
    fake_run(&f);
    assert_string_not_equal(first, line_of(f.streams[1], "Sec-WebSocket-Key"));
    fake_end(&f);
}

/* ---- the answer ---- */

/* Answers the request with text, in which %s is the right accept key. */
static void answer(fake *f, const char *format)
{
    char key[32], text[4096];
    fake_stream *stream = fake_the_stream(f);
    fake_accept_key(stream, key);
    const char *mark = strstr(format, "%s");
    size_t before = mark ? (size_t)(mark - format) : strlen(format);
    memcpy(text, format, before);
    snprintf(text + before, sizeof text - before, "%s%s", mark ? key : "", mark ? mark + 2 : "");
    stream->answered = true;
    fake_raw(f, text, strlen(text));
}

static void good_answers(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: %s\r\n\r\n",
        /* poxa: lower-case names; other letters, spaces and more headers */
        "HTTP/1.1 101 x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-accept: %s\r\nserver: Cowboy\r\n\r\n",
        "HTTP/1.1 101 \r\nUPGRADE: WebSocket\r\nCONNECTION: keep-alive, upgrade\r\n"
        "SEC-WEBSOCKET-ACCEPT:   %s  \r\n\r\n",
        "HTTP/1.1 101\r\nUpgrade:websocket\r\nConnection:Upgrade\r\n"
        "Sec-WebSocket-Accept:%s\r\nX-Empty:\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nX-Powered-By: Laravel Reverb\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        answer(&f, answers[i]);
        fake_say(&f, FAKE_ESTABLISHED); /* glued to the answer: one read gives both */
        fake_run(&f);
        if (pusher_get_state(f.client) != PUSHER_CONNECTED)
            fail_msg("answer %u: %s", (unsigned)i, f.last_message);
        assert_int_equal(f.errors, 0);
        fake_end(&f);
    }
}

static void bad_answers(void **state)
{
    (void)state;
    static const struct { int status; const char *text, *says; } answers[] = {
        { 403, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403" },
        { 404, "HTTP/1.1 404 Not Found\r\n\r\nNot found.", "404" },
        { 503, "HTTP/1.1 503 Service Unavailable\r\n\r\n", "503" },
        { 200, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200" },
        { 301, "HTTP/1.1 301 Moved Permanently\r\nLocation: https://x/\r\n\r\n", "301" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
          "Accept" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
          "Accept" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: %s\r\n\r\n",
          "Upgrade" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
          "Sec-WebSocket-Accept: %s\r\n\r\n",
          "Connection" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
          "extension" },
        { 101,
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
          "protocol" },
        { 0, "SSH-2.0-OpenSSH_9.2\r\n", "HTTP" },
        { 0, "\r\n\r\n", "HTTP" },
        { 0, "{\"event\":\"pusher:connection_established\"}\r\n\r\n", "HTTP" },
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        answer(&f, answers[i].text);
        fake_say(&f, FAKE_ESTABLISHED);
        fake_poll(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTING);
        if (f.errors != 1 || f.last_error.code != PUSHER_ERR_HTTP)
            fail_msg("answer %u: %u errors, %s", (unsigned)i, f.errors, f.last_message);
        assert_int_equal(f.last_error.server_code, answers[i].status);
        if (!strstr(f.last_message, answers[i].says) || !strstr(f.last_message, "example.org:6001"))
            fail_msg("answer %u: \"%s\"", (unsigned)i, f.last_message);
        assert_true(f.streams[0]->closed);
        assert_int_equal(f.retries, 1);
        fake_online_again(&f);
        fake_end(&f);
    }
}

static void endless_headers(void **state)
{
    (void)state;
    static const char *const junk[] = { "X-Long: ", "X-Many: 1\r\n", "\t" };
    for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        answer(&f, "HTTP/1.1 101 Switching Protocols\r\nX-A: ");
        fake_run(&f);
        size_t live = f.heap.live_bytes;
        for (int n = 0; n < 200000 && f.errors == 0; n += 8) {
            fake_raw(&f, junk[i], strlen(junk[i]));
            if (n % 512 == 0)
                fake_poll(&f);
        }
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.last_error.code, PUSHER_ERR_HTTP);
        assert_true(f.streams[0]->taken < 20000);
        assert_true(f.heap.peak_bytes <= live + 16384);
        assert_true(f.streams[0]->closed);
        fake_end(&f);
    }
}

static void a_long_header_that_does_not_matter(void **state)
{
    (void)state;
    fake f;
    char cookie[3000];
    fake_start(&f, NULL);
    fake_request(&f);
    memset(cookie, 'c', sizeof cookie - 1);
    cookie[sizeof cookie - 1] = '\0';
    answer(&f, "HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: ");
    fake_raw(&f, cookie, strlen(cookie));
    answer(&f, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n");
    fake_say(&f, FAKE_ESTABLISHED);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

/* ---- the greeting ---- */

static void greetings(void **state)
{
    (void)state;
#define HELLO(data) "{\"event\":\"pusher:connection_established\",\"data\":" data "}"
    static const struct { const char *text, *socket_id; uint64_t activity_ms; } good[] = {
        { FAKE_ESTABLISHED, "123.456", 120000 },
        { HELLO("\"{\\\"socket_id\\\":\\\"1.2\\\",\\\"activity_timeout\\\":30}\""), "1.2", 30000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":30}"), "1.2", 30000 },
        { HELLO("{\"activity_timeout\":7,\"socket_id\":\"1.2\",\"x\":[1,{}]}"), "1.2", 7000 },
        { HELLO("{\"socket_id\":\"1.2\"}"), "1.2", 120000 },
        { HELLO("\"{\\\"socket_id\\\":\\\"1.2\\\"}\""), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":0}"), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":null}"), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":-5}"), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":\"x\"}"), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":4000000000}"), "1.2", 120000 },
        { HELLO("{\"socket_id\":\"1.2\",\"activity_timeout\":300}"), "1.2", 120000 },
        { "{\"data\":{\"socket_id\":\"9.9\",\"activity_timeout\":120},"
          "\"event\":\"pusher:connection_established\"}\n", "9.9", 120000 },
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        fake_accept(&f);
        fake_say(&f, good[i].text);
        fake_run(&f);
        if (pusher_get_state(f.client) != PUSHER_CONNECTED)
            fail_msg("greeting %u: %s", (unsigned)i, f.last_message);
        assert_string_equal(pusher_socket_id(f.client), good[i].socket_id);
        if (pusher_next_poll_ms(f.client) != f.now + good[i].activity_ms)
            fail_msg("greeting %u: next poll in %u ms", (unsigned)i,
                     (unsigned)(pusher_next_poll_ms(f.client) - f.now));
        fake_end(&f);
    }
    static const char *const bad[] = {
        HELLO("{}"), HELLO("\"\""), HELLO("null"), HELLO("{\"socket_id\":\"\"}"), HELLO("5"),
        HELLO("[\"1.2\"]"), "{\"event\":\"pusher:connection_established\"}",
        HELLO("\"{\\\"socket_id\\\":\""),
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fake f;
        fake_start(&f, NULL);
        fake_request(&f);
        fake_accept(&f);
        fake_say(&f, bad[i]);
        fake_run(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTING);
        assert_null(pusher_socket_id(f.client));
        if (f.errors != 1 || f.retries != 1)
            fail_msg("greeting %s: %u errors, %u retries", bad[i], f.errors, f.retries);
        fake_pass(&f, 2500);
        assert_true(f.stream_count >= 2);
        assert_true(f.streams[0]->closed);
        fake_end(&f);
    }
#undef HELLO
}

static void greeting_again_changes_nothing(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_say(&f, "{\"event\":\"pusher:connection_established\",\"data\":{\"socket_id\":\"6.6\"}}");
    fake_run(&f);
    assert_string_equal(pusher_socket_id(f.client), "123.456");
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    assert_string_equal(f.states, "connecting connected ");
    fake_end(&f);
}

/* ---- failures at each step ---- */

typedef enum step { AT_OPEN, AT_CONNECT, AT_UPGRADE, AT_HALF_ANSWER, AT_GREETING, AT_ONLINE,
                    STEPS } step;

static void bring_to(fake *f, step where)
{
    if (where == AT_OPEN)
        f->open_fails = true;
    if (where == AT_CONNECT)
        f->connect_result = PUSHER_IO_WANT_WRITE;
    assert_int_equal(pusher_connect(f->client), PUSHER_OK);
    if (where == AT_OPEN)
        return;
    fake_run(f);
    if (where == AT_HALF_ANSWER)
        fake_raw(f, "HTTP/1.1 101 Swi", 16);
    if (where >= AT_GREETING)
        fake_accept(f);
    if (where == AT_ONLINE)
        fake_say(f, FAKE_ESTABLISHED);
    fake_run(f);
}

static void a_loss_at_each_step(void **state)
{
    (void)state;
    static const int ends[] = { PUSHER_IO_EOF, PUSHER_IO_ERROR, PUSHER_IO_ERROR_RESOLVE };
    for (int where = AT_OPEN; where < STEPS; where++) {
        for (size_t how = 0; how < ARRAY_LEN(ends); how++) {
            fake f;
            fake_start(&f, NULL);
            f.error_text = "the cable is cut";
            bring_to(&f, (step)where);
            assert_int_equal(f.errors, 0);
            if (how == 2 && where != AT_CONNECT) {
                fake_end(&f); /* only ready_fn knows that result */
                continue;
            }
            if (where == AT_CONNECT)
                fake_the_stream(&f)->connect_result = ends[how];
            else if (where > AT_CONNECT)
                fake_the_stream(&f)->end = ends[how];
            fake_poll(&f);
            if (f.errors != 1 || f.retries != 1)
                fail_msg("step %d: %u errors, %u retries", where, f.errors, f.retries);
            assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTING);
            assert_int_equal(f.last_error.code, where == AT_CONNECT && how == 2
                                                    ? PUSHER_ERR_RESOLVE : PUSHER_ERR_IO);
            if (!strstr(f.last_message, "example.org:6001"))
                fail_msg("step %d: \"%s\"", where, f.last_message);
            if (how > 0 && where > AT_OPEN)
                assert_non_null(strstr(f.last_message, "the cable is cut"));
            if (f.stream_count)
                assert_true(f.streams[0]->closed);
            assert_int_equal(f.last_attempt, 1);
            assert_true(f.last_delay <= 1000);
            f.open_fails = false;
            f.connect_result = 0;
            fake_online_again(&f);
            fake_end(&f);
        }
    }
}

static void no_answer_at_each_step(void **state)
{
    (void)state;
    for (int where = AT_CONNECT; where <= AT_GREETING; where++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        options.connect_timeout_ms = 4000;
        fake_start(&f, &options);
        bring_to(&f, (step)where);
        fake_pass(&f, 3950);
        assert_int_equal(f.errors, 0);
        fake_pass(&f, 100);
        assert_int_equal(f.errors, 1);
        assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
        assert_int_equal(f.retries, 1);
        assert_true(f.streams[0]->closed || where == AT_GREETING);
        f.connect_result = 0;
        fake_online_again(&f);
        fake_end(&f);
    }
    fake f; /* a deadline over all steps: slow progress does not extend it */
    fake_start(&f, NULL);
    bring_to(&f, AT_CONNECT);
    fake_pass(&f, 10000);
    fake_the_stream(&f)->connect_result = 1;
    fake_run(&f);
    assert_true(fake_the_stream(&f)->upgrade_asked);
    fake_pass(&f, 4900);
    fake_accept(&f);
    fake_run(&f);
    assert_int_equal(f.errors, 0);
    fake_pass(&f, 200);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    fake_end(&f);
}

static void a_stalled_write_is_a_timeout_too(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    f.send_block = 1;
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    fake_pass(&f, 14900);
    assert_int_equal(f.errors, 0);
    assert_true(pusher_wants(f.client) & PUSHER_WANTS_WRITE);
    fake_pass(&f, 200);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    f.send_block = 0;
    fake_online_again(&f);
    fake_end(&f);
}

/* ---- states ---- */

static void states_in_order(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    assert_int_equal(pusher_get_state(f.client), PUSHER_INITIALIZED); /* the next poll does it */
    assert_int_equal(f.state_changes, 0);
    assert_true(pusher_next_poll_ms(f.client) <= f.now || f.now == 0);
    fake_run(&f);
    assert_string_equal(f.states, "connecting ");
    fake_establish(&f);
    assert_string_equal(f.states, "connecting connected ");
    assert_int_equal(pusher_connect(f.client), PUSHER_OK); /* harmless */
    fake_run(&f);
    assert_int_equal(f.stream_count, 1);
    fake_eof(&f);
    fake_poll(&f);
    assert_string_equal(f.states, "connecting connected connecting ");
    assert_null(pusher_socket_id(f.client));
    fake_online_again(&f);
    pusher_disconnect(f.client);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_poll(&f);
    assert_string_equal(f.states, "connecting connected connecting connected disconnected ");
    fake_expect_close(&f, 1000);
    fake_end(&f);
}

static void unavailable_after_a_while(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    bring_to(&f, AT_CONNECT);
    fake_pass(&f, 9950);
    assert_string_equal(f.states, "connecting ");
    fake_pass(&f, 100);
    assert_string_equal(f.states, "connecting unavailable ");
    assert_int_equal(f.errors, 0);
    fake_pass(&f, 40000); /* attempts go on underneath, the state stays */
    assert_true(f.stream_count >= 2);
    assert_string_equal(f.states, "connecting unavailable ");
    f.connect_result = 0;
    fake_online_again(&f);
    assert_string_equal(f.states, "connecting unavailable connected ");
    fake_eof(&f);
    f.connect_result = PUSHER_IO_WANT_WRITE;
    fake_pass(&f, 9900);
    assert_string_equal(f.states, "connecting unavailable connected connecting ");
    fake_pass(&f, 200);
    assert_string_equal(f.states, "connecting unavailable connected connecting unavailable ");
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    assert_true(pusher_next_poll_ms(f.client) == UINT64_MAX);
    fake_end(&f);
}

static void an_own_unavailable_timeout(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.unavailable_timeout_ms = 500;
    fake_start(&f, &options);
    bring_to(&f, AT_CONNECT);
    fake_sleep(&f, 499);
    assert_string_equal(f.states, "connecting ");
    fake_sleep(&f, 1);
    assert_string_equal(f.states, "connecting unavailable ");
    fake_end(&f);
}

/* ---- leaving ---- */

static pusher_options there(fake *f)
{
    pusher_options options = fake_options(f);
    options.key = "other-key";
    options.host = "other.example";
    options.port = 8080;
    options.path = "/prefix";
    static const pusher_pair gate[] = {{"X-Gate", "open"}};
    options.origin = "https://game.example";
    options.headers = gate;
    options.header_count = 1;
    return options;
}

static void expect_there(fake *f)
{
    const fake_stream *stream = fake_the_stream(f);
    static const char start[] = "GET /prefix/app/other-key?";
    assert_string_equal(stream->host, "other.example");
    assert_int_equal(stream->port, 8080);
    assert_memory_equal(stream->from_client.at, start, sizeof start - 1);
    assert_string_equal(line_of(stream, "Host"), "other.example:8080");
    assert_string_equal(line_of(stream, "Origin"), "https://game.example");
    assert_string_equal(line_of(stream, "X-Gate"), "open");
}

static void another_place_at_each_step(void **state)
{
    (void)state;
    for (int where = AT_OPEN; where < STEPS; where++) {
        fake f;
        fake_start(&f, NULL);
        pusher_channel channel = fake_subscribe(&f, "chat");
        pusher_bind_all(f.client, channel, fake_event_fn, &f);
        bring_to(&f, (step)where);
        if (where == AT_OPEN)
            fake_poll(&f); /* the wait before the next attempt */
        uint32_t streams = f.stream_count;
        f.open_fails = false;
        f.connect_result = 0;
        pusher_options options = there(&f), first = fake_options(&f);
        assert_int_equal(pusher_switch(f.client, &first), PUSHER_OK);
        assert_int_equal(pusher_switch(f.client, &options), PUSHER_OK);
        fake_forget_heard(&f);
        if (where > AT_OPEN)
            assert_int_equal(pusher_connect(f.client), PUSHER_OK); /* that is being done */
        fake_run(&f); /* at once, whatever was being waited for */
        assert_null(strstr(f.states, "disconnected"));
        if (streams)
            assert_true(f.streams[0]->closed);
        if (where == AT_ONLINE)
            fake_expect_close(&f, 1000);
        fake_forget_heard(&f);
        assert_int_equal(f.stream_count, streams + 1);
        expect_there(&f);
        fake_establish(&f);
        fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
        fake_say(&f, FAKE_SUBSCRIBED("chat"));
        fake_say(&f, "{\"event\":\"news\",\"channel\":\"chat\"}");
        f.events = 0;
        fake_run(&f);
        assert_int_equal(f.events, 2);
        assert_int_equal(pusher_channel_references(f.client, channel), 1);
        fake_eof(&f); /* and it is where the client comes back to */
        fake_poll(&f);
        fake_online_again(&f);
        expect_there(&f);
        fake_forget_heard(&f);
        fake_end(&f);
    }
}

static void another_place_for_the_next_connect(void **state)
{
    (void)state;
    for (int before = 0; before < 3; before++) {
        fake f;
        fake_start(&f, NULL);
        if (before > 0) {
            fake_online(&f);
            if (before == 1) pusher_disconnect(f.client);
            else fake_say_close(&f, 4001, "no such app");
            fake_run(&f);
            fake_pass(&f, 2000);
        }
        pusher_state was = pusher_get_state(f.client);
        uint32_t streams = f.stream_count;
        pusher_options options = there(&f);
        assert_int_equal(pusher_switch(f.client, &options), PUSHER_OK);
        fake_pass(&f, 60000);
        assert_int_equal(f.stream_count, streams);
        assert_int_equal(pusher_get_state(f.client), was);
        fake_forget_heard(&f);
        fake_online(&f);
        expect_there(&f);
        fake_end(&f);
    }
    fake f; /* before the first poll, and the connect stands */
    fake_start(&f, NULL);
    pusher_options options = there(&f);
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_OK);
    fake_run(&f);
    assert_string_equal(f.states, "connecting ");
    expect_there(&f);
    pusher_disconnect(f.client); /* does so, too */
    options = fake_options(&f);
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_OK);
    fake_pass(&f, 60000);
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    assert_int_equal(f.stream_count, 1);
    fake_end(&f);
}

static void no_place_to_go_to(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.auth.secret = "secret";
    fake_start(&f, &options);
    fake_online(&f);
    options = there(&f);
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_ERR_ARGUMENT);
    assert_non_null(strstr(pusher_last_error(f.client)->message, "auth.secret"));
    options.key = NULL;
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_ERR_ARGUMENT);
    options.key = "app-key";
    options.host = "ws://other.example";
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_ERR_ARGUMENT);
    options.host = NULL;
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_ERR_ARGUMENT);
    options.cluster = "eu";
    for (uint64_t n = 1; n <= 5; n++) {
        f.heap.fail_at = f.heap.calls + n;
        assert_int_equal(pusher_switch(f.client, &options), PUSHER_ERR_MEMORY);
    }
    f.heap.fail_at = 0;
    fake_run(&f);
    assert_int_equal(f.stream_count, 1);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    options.port = 0;
    assert_int_equal(pusher_switch(f.client, &options), PUSHER_OK);
    fake_run(&f);
    fake_expect_close(&f, 1000);
    assert_string_equal(fake_the_stream(&f)->host, "ws-eu.pusher.com");
    assert_int_equal(fake_the_stream(&f)->port, 80);
    fake_end(&f);
}

static void disconnect_at_each_step(void **state)
{
    (void)state;
    for (int where = AT_OPEN; where < STEPS; where++) {
        fake f;
        fake_start(&f, NULL);
        pusher_channel channel = fake_subscribe(&f, "chat");
        pusher_bind_all(f.client, channel, fake_event_fn, &f);
        bring_to(&f, (step)where);
        if (where == AT_OPEN)
            fake_poll(&f); /* the wait before the next attempt */
        uint32_t streams = f.stream_count;
        pusher_disconnect(f.client);
        fake_poll(&f);
        assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
        if (where < AT_GREETING && streams)
            assert_true(f.streams[0]->closed);
        if (where == AT_ONLINE) {
            fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
            fake_expect_close(&f, 1000);
        }
        fake_pass(&f, 1500); /* the server never answers the close frame */
        if (streams)
            assert_true(f.streams[0]->closed);
        assert_true(pusher_next_poll_ms(f.client) == UINT64_MAX);
        assert_int_equal(pusher_wants(f.client), 0);
        fake_pass(&f, 60000);
        assert_int_equal(f.stream_count, streams);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_PENDING);
        assert_int_equal(pusher_channel_references(f.client, channel), 1);
        fake_forget_heard(&f);
        f.open_fails = false;
        f.connect_result = 0;
        fake_online(&f);
        fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
        fake_say(&f, FAKE_SUBSCRIBED("chat"));
        fake_run(&f);
        assert_int_equal(f.events, 1);
        assert_int_equal(pusher_channel_state(f.client, channel), PUSHER_SUBSCRIBED);
        fake_end(&f);
    }
}

static void a_close_that_is_answered_ends_at_once(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    f.serve = fake_serve;
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_true(f.streams[0]->closed);
    assert_int_equal(f.errors, 0);
    assert_int_equal(f.retries, 0);
    fake_end(&f);
}

static void connect_while_leaving(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    pusher_disconnect(f.client);
    fake_poll(&f);
    assert_int_equal(pusher_connect(f.client), PUSHER_OK);
    fake_run(&f);
    assert_int_equal(f.stream_count, 2);
    fake_establish(&f);
    assert_string_equal(f.states, "connecting connected disconnected connecting connected ");
    fake_end(&f);
}

static void wishes_between_two_polls(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_connect(f.client);
    pusher_disconnect(f.client); /* the last one counts */
    fake_run(&f);
    assert_int_equal(f.stream_count, 0);
    assert_int_equal(pusher_get_state(f.client), PUSHER_DISCONNECTED);
    pusher_disconnect(f.client);
    fake_run(&f);
    assert_string_equal(f.states, "disconnected ");
    fake_online(&f);
    pusher_disconnect(f.client);
    pusher_connect(f.client);
    fake_run(&f);
    if (f.stream_count == 2) { /* left and back, or never left: both are what was asked for */
        fake_expect_close(&f, 1000);
        fake_establish(&f);
    }
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

static void leave(fake *f, const pusher_event *event)
{
    (void)event;
    pusher_disconnect(f->client);
}

/* A handler leaves, and behind its event stand as many bytes as fit: they must not keep the end of
   the stream from being read, or a loop that sleeps until it is readable would spin. */
static void leaving_with_unread_messages(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_poll_bytes = 8192;
    fake_start(&f, &options);
    fake_online(&f);
    for (int i = 0; i < 2000; i++) {
        fake_say(&f, "{\"event\":\"news\",\"data\":\"x\"}");
        if (i == 999)
            fake_run(&f);
    }
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    f.on_event = leave;
    fake_eof(&f);
    fake_run(&f);
    assert_int_equal(f.events, 1);
    fake_expect_close(&f, 1000);
    assert_true(f.streams[0]->closed);
    assert_true(pusher_next_poll_ms(f.client) == UINT64_MAX);
    fake_end(&f);
}

/* ---- liveness ---- */

static void ping_when_nothing_is_received(void **state)
{
    (void)state;
    fake f;
    pusher_stats stats;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_pass(&f, 119900);
    fake_expect_nothing(&f);
    fake_pass(&f, 200);
    fake_expect_text(&f, FAKE_PING);
    fake_pass(&f, 150);
    fake_say(&f, FAKE_PONG);
    fake_run(&f);
    pusher_get_stats(f.client, &stats);
    assert_true(stats.round_trip_ms >= 100 && stats.round_trip_ms <= 300);
    fake_pass(&f, 119500);
    fake_expect_nothing(&f);
    fake_pass(&f, 1000);
    fake_expect_text(&f, FAKE_PING);
    assert_int_equal(f.errors, 0);
    assert_int_equal(f.events, 0);
    fake_end(&f);
}

static void an_event_loop_pings_in_time(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    f.serve = fake_serve;
    pusher_connect(f.client);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_sleep(&f, 3600000);
    assert_string_equal(f.states, "connecting connected ");
    assert_true(f.heard_count >= 29 && f.heard_count <= 31);
    fake_end(&f);
}

static void the_servers_own_timeout_counts_if_shorter(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.activity_timeout_ms = 60000;
    fake_start(&f, &options);
    fake_online(&f); /* the server says 120 s */
    fake_pass(&f, 59900);
    fake_expect_nothing(&f);
    fake_pass(&f, 200);
    fake_expect_text(&f, FAKE_PING);
    fake_end(&f);
}

static void ping_when_nothing_is_sent(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    for (int i = 0; i < 13; i++) {
        fake_say(&f, "{\"event\":\"news\",\"data\":\"x\"}"); /* the server is lively */
        fake_pass(&f, 10000);
    }
    fake_expect_text(&f, FAKE_PING);
    fake_end(&f);
}

/* A server may count messages only, and something between us and it may ping all the time. */
static void a_pong_is_no_message(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    for (int i = 0; i < 12; i++) {
        fake_frame(&f, 0x89, "", 0);
        fake_pass(&f, 10000);
        fake_expect_pong(&f);
    }
    fake_expect_text(&f, FAKE_PING);
    fake_end(&f);
}

static void no_pong_is_a_loss(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_pass(&f, 120100);
    fake_expect_text(&f, FAKE_PING);
    fake_pass(&f, 29800);
    assert_int_equal(f.errors, 0);
    fake_pass(&f, 300);
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    assert_true(f.streams[0]->closed);
    fake_online_again(&f);
    fake_end(&f);
}

static void any_byte_is_an_answer(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_pass(&f, 120100);
    fake_expect_text(&f, FAKE_PING);
    fake_pass(&f, 29000);
    fake_say(&f, "{\"event\":\"news\",\"data\":\"x\"}");
    fake_pass(&f, 30000);
    assert_int_equal(f.errors, 0);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_end(&f);
}

static void pings_are_answered(void **state)
{
    (void)state;
    static const char *const pings[] = {
        "{\"event\":\"pusher:ping\"}", "{\"event\":\"pusher:ping\",\"data\":{}}",
        "{\"event\":\"pusher:ping\",\"data\":\"{}\"}", "{\"event\":\"pusher:ping\",\"data\":\"\"}",
        "{\"event\":\"pusher:ping\",\"data\":null}", "{\"event\":\"pusher:ping\",\"data\":[1,2]}",
    };
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    for (size_t i = 0; i < ARRAY_LEN(pings); i++) {
        fake_say(&f, pings[i]);
        fake_run(&f);
        fake_expect_text(&f, FAKE_PONG);
        fake_expect_nothing(&f);
    }
    fake_frame(&f, 0x89, "", 0);
    fake_run(&f);
    fake_expect_pong(&f);
    fake_frame(&f, 0x89, "probe", 5);
    fake_run(&f);
    const fake_message *pong = fake_next(&f);
    assert_non_null(pong);
    assert_int_equal(pong->kind, FAKE_HEARD_PONG);
    assert_string_equal(pong->text, "probe");
    fake_frame(&f, 0x8A, "unasked", 7); /* a pong nobody asked for is fine */
    fake_run(&f);
    fake_expect_nothing(&f);
    assert_int_equal(f.errors, 0);
    fake_end(&f);
}

/* The output was full when the ping fell due, ours or the answer to the server's, and empty when the
   poll ended. It goes all the same: an event loop hears of nothing that would wake it later. */
static void full_output_and_a_ping(bool ours)
{
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.max_output_bytes = 1024;
    fake_authorize(&f, &options);
    fake_start(&f, &options);
    fake_online(&f);
    pusher_channel channel = fake_subscribe(&f, "private-a");
    fake_run(&f);
    fake_say(&f, FAKE_SUBSCRIBED("private-a"));
    fake_run(&f);
    fake_forget_heard(&f);
    char json[800];
    memset(json, ' ', sizeof json);
    json[0] = '1';
    size_t len = sizeof json;
    assert_int_equal(pusher_trigger(f.client, channel, "client-a", json, 200), PUSHER_OK);
    while (pusher_trigger(f.client, channel, "client-a", json, len) != PUSHER_OK)
        len--;
    if (ours)
        pusher_reconnect_now(f.client);
    else
        fake_say(&f, "{\"event\":\"pusher:ping\"}");
    do
        fake_poll(&f);
    while (pusher_next_poll_ms(f.client) <= f.now || (pusher_wants(f.client) & PUSHER_WANTS_WRITE));
    assert_int_equal(f.heard_count - f.heard_read, 3);
    f.heard_read += 2;
    fake_expect_text(&f, ours ? FAKE_PING : FAKE_PONG);
    fake_end(&f);
}

static void a_ping_goes_though_the_output_was_full(void **state)
{
    (void)state;
    full_output_and_a_ping(false);
    full_output_and_a_ping(true);
}

/* Nothing can be sent, but the server goes on talking: that is not a reason to ask more than once
   in a while whether it is alive. */
static void pings_do_not_pile_up(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    f.send_block = 1;
    for (int i = 0; i < 300; i++) {
        fake_say(&f, "{\"event\":\"news\",\"data\":\"x\"}");
        fake_pass(&f, 1000);
    }
    f.send_block = 0;
    fake_run(&f);
    assert_string_equal(f.states, "connecting connected ");
    assert_true(f.heard_count >= 1 && f.heard_count <= 3);
    fake_end(&f);
}

static void a_clock_that_jumps(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_pass(&f, 1000);
    f.now += 5 * 3600 * 1000; /* asleep for five hours */
    fake_run(&f);
    fake_expect_text(&f, FAKE_PING); /* exactly one check */
    fake_expect_nothing(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    fake_pass(&f, 1000);
    fake_expect_nothing(&f);
    fake_say(&f, FAKE_PONG);
    fake_pass(&f, 100000);
    fake_expect_nothing(&f);
    assert_string_equal(f.states, "connecting connected ");
    f.now += 5 * 3600 * 1000;
    fake_run(&f);
    fake_expect_text(&f, FAKE_PING);
    fake_pass(&f, 30500); /* no answer: gone */
    assert_int_equal(f.errors, 1);
    assert_int_equal(f.last_error.code, PUSHER_ERR_TIMEOUT);
    fake_end(&f);
}

static void a_clock_that_runs_back(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_pass(&f, 60000);
    f.now -= 50000;
    fake_run(&f);
    fake_expect_nothing(&f);
    fake_pass(&f, 59000);
    fake_expect_nothing(&f);
    fake_pass(&f, 2000);
    fake_expect_text(&f, FAKE_PING);
    f.now = 5;
    fake_run(&f);
    fake_pass(&f, 28000);
    assert_int_equal(f.errors, 0);
    fake_pass(&f, 2000);
    assert_int_equal(f.errors, 1);
    fake_end(&f);
}

static void a_clock_that_starts_anywhere(void **state)
{
    (void)state;
    static const uint64_t starts[] = { 0, 1, UINT32_MAX - 5000u, (uint64_t)1 << 62 };
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        f.now = starts[i];
        fake_start(&f, &options);
        fake_subscribe(&f, "chat");
        fake_online(&f);
        fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
        fake_pass(&f, 9900);
        assert_int_equal(f.errors, 0);
        fake_pass(&f, 200); /* 32-bit clocks inside wrap around here, if there are any */
        assert_int_equal(f.errors, 1);
        fake_pass(&f, 110000);
        fake_expect_text(&f, FAKE_PING);
        fake_end(&f);
    }
}

static void a_long_silence_while_waiting_for_a_retry(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    fake_online(&f);
    fake_eof(&f);
    fake_run(&f);
    f.now += 3600 * 1000;
    fake_run(&f);
    assert_int_equal(f.stream_count, 2);
    fake_establish(&f);
    assert_int_equal(f.errors, 1);
    fake_end(&f);
}

static void what_a_loop_waits_for(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    bring_to(&f, AT_CONNECT);
    assert_int_equal(pusher_wants(f.client), PUSHER_WANTS_WRITE);
    assert_int_equal(pusher_fd(f.client), -1); /* no fd_fn */
    fake_the_stream(&f)->connect_result = 1;
    fake_run(&f);
    assert_int_equal(pusher_wants(f.client), PUSHER_WANTS_READ);
    fake_establish(&f);
    assert_int_equal(pusher_wants(f.client), PUSHER_WANTS_READ);
    f.send_block = 1;
    fake_subscribe(&f, "chat");
    assert_true(pusher_next_poll_ms(f.client) <= f.now);
    fake_run(&f);
    assert_int_equal(pusher_wants(f.client), PUSHER_WANTS_READ | PUSHER_WANTS_WRITE);
    f.send_block = 0;
    fake_run(&f);
    assert_int_equal(pusher_wants(f.client), PUSHER_WANTS_READ);
    fake_expect_text(&f, FAKE_SUBSCRIBE("chat"));
    fake_end(&f);
}

static void counters(void **state)
{
    (void)state;
    fake f;
    pusher_stats stats;
    fake_start(&f, NULL);
    pusher_channel channel = fake_subscribe(&f, "chat");
    pusher_bind(f.client, channel, "news", fake_event_fn, &f);
    fake_online(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_say(&f, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"1\"}");
    fake_say(&f, "{\"event\":\"other\",\"channel\":\"chat\",\"data\":\"1\"}");
    fake_say(&f, "not JSON");
    fake_run(&f);
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.attempts, 1);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.messages_received, 5);
    assert_int_equal(stats.messages_sent, 1);
    assert_int_equal(stats.events, 1);
    assert_int_equal(stats.events_unbound, 2);
    assert_int_equal(stats.messages_bad, 1);
    assert_true(stats.bytes_received == f.streams[0]->to_client.len);
    assert_true(stats.bytes_sent == f.streams[0]->from_client.len);
    fake_eof(&f);
    fake_run(&f);
    fake_online_again(&f);
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.attempts, 2);
    assert_int_equal(stats.connections, 2);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request),
        cmocka_unit_test(host_port_path_origin),
        cmocka_unit_test(more_headers),
        cmocka_unit_test(keys_are_fresh),
        cmocka_unit_test(good_answers),
        cmocka_unit_test(bad_answers),
        cmocka_unit_test(endless_headers),
        cmocka_unit_test(a_long_header_that_does_not_matter),
        cmocka_unit_test(greetings),
        cmocka_unit_test(greeting_again_changes_nothing),
        cmocka_unit_test(a_loss_at_each_step),
        cmocka_unit_test(no_answer_at_each_step),
        cmocka_unit_test(a_stalled_write_is_a_timeout_too),
        cmocka_unit_test(states_in_order),
        cmocka_unit_test(unavailable_after_a_while),
        cmocka_unit_test(an_own_unavailable_timeout),
        cmocka_unit_test(another_place_at_each_step),
        cmocka_unit_test(another_place_for_the_next_connect),
        cmocka_unit_test(no_place_to_go_to),
        cmocka_unit_test(disconnect_at_each_step),
        cmocka_unit_test(a_close_that_is_answered_ends_at_once),
        cmocka_unit_test(connect_while_leaving),
        cmocka_unit_test(wishes_between_two_polls),
        cmocka_unit_test(leaving_with_unread_messages),
        cmocka_unit_test(ping_when_nothing_is_received),
        cmocka_unit_test(an_event_loop_pings_in_time),
        cmocka_unit_test(the_servers_own_timeout_counts_if_shorter),
        cmocka_unit_test(ping_when_nothing_is_sent),
        cmocka_unit_test(a_pong_is_no_message),
        cmocka_unit_test(no_pong_is_a_loss),
        cmocka_unit_test(any_byte_is_an_answer),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(a_ping_goes_though_the_output_was_full),
        cmocka_unit_test(pings_do_not_pile_up),
        cmocka_unit_test(a_clock_that_jumps),
        cmocka_unit_test(a_clock_that_runs_back),
        cmocka_unit_test(a_clock_that_starts_anywhere),
        cmocka_unit_test(a_long_silence_while_waiting_for_a_retry),
        cmocka_unit_test(what_a_loop_waits_for),
        cmocka_unit_test(counters),
    };
    return cmocka_run_group_tests_name("api/connection", tests, NULL, NULL);
}
