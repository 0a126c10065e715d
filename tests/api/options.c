/* Options: what is refused and why, defaults, copies; a client's life without a connection. */
#include "fake.h"

typedef struct bad_option {
    const char *name; /* has to be in the message */
    pusher_result code;
    void (*spoil)(pusher_options *options);
} bad_option;

#define SPOIL(name, statement)                                                                     \
    static void name(pusher_options *options)                                                      \
    {                                                                                              \
        statement;                                                                                 \
    }

SPOIL(no_key, options->key = NULL)
SPOIL(empty_key, options->key = "")
SPOIL(key_with_slash, options->key = "a/b")
SPOIL(key_with_query, options->key = "a?b")
SPOIL(key_with_space, options->key = "a b")
SPOIL(key_with_newline, options->key = "a\r\nX: y")
SPOIL(key_not_ascii, options->key = "caf\xc3\xa9")
SPOIL(no_host, options->host = NULL)
SPOIL(empty_host, options->host = "")
SPOIL(host_with_scheme, options->host = "ws://example.org")
SPOIL(host_with_path, options->host = "example.org/app")
SPOIL(host_with_space, options->host = "example org")
SPOIL(host_with_newline, options->host = "example.org\r\nX: y")
SPOIL(host_not_ascii, options->host = "caf\xc3\xa9.org")
SPOIL(cluster_with_dot, (options->host = NULL, options->cluster = "eu.evil.example/"))
SPOIL(cluster_with_newline, (options->host = NULL, options->cluster = "eu\r\n"))
SPOIL(port_too_big, options->port = 65536)
SPOIL(port_far_too_big, options->port = UINT32_MAX)
SPOIL(path_without_slash, options->path = "prefix")
SPOIL(path_with_space, options->path = "/pre fix")
SPOIL(path_with_newline, options->path = "/a\r\nX: y")
SPOIL(path_with_query, options->path = "/a?b")
SPOIL(path_not_ascii, options->path = "/caf\xc3\xa9")
SPOIL(origin_with_newline, options->origin = "http://a\r\nX: y")
static const pusher_pair broken_header[] = {{"X-A", "b\r\nX-C: d"}}, our_header[] = {{"Host", "b"}},
                         key_header[] = {{"sec-websocket-key", "b"}}, half_header[] = {{"X-A", NULL}};
static char long_value[12000];
static const pusher_pair long_header[] = {{"X-A", long_value}};
SPOIL(header_with_newline, (options->headers = broken_header, options->header_count = 1))
SPOIL(header_of_ours, (options->headers = our_header, options->header_count = 1))
SPOIL(header_with_key, (options->headers = key_header, options->header_count = 1))
SPOIL(header_without_value, (options->headers = half_header, options->header_count = 1))
SPOIL(no_headers, options->header_count = 1)
SPOIL(header_too_long, (memset(long_value, 'a', sizeof long_value - 1),
                        options->headers = long_header, options->header_count = 1))
SPOIL(no_ready, options->transport.ready_fn = NULL)
SPOIL(no_recv, options->transport.recv_fn = NULL)
SPOIL(no_send, options->transport.send_fn = NULL)
SPOIL(no_close, options->transport.close_fn = NULL)
SPOIL(no_alloc, options->allocator.alloc_fn = NULL)
SPOIL(no_free, options->allocator.free_fn = NULL)
SPOIL(small_message, options->max_message_bytes = 511)
SPOIL(small_output, options->max_output_bytes = 1023)
SPOIL(small_poll, options->max_poll_bytes = 511)

static const bad_option bad_options[] = {
    { "key", PUSHER_ERR_ARGUMENT, no_key },
    { "key", PUSHER_ERR_ARGUMENT, empty_key },
    { "key", PUSHER_ERR_ARGUMENT, key_with_slash },
    { "key", PUSHER_ERR_ARGUMENT, key_with_query },
    { "key", PUSHER_ERR_ARGUMENT, key_with_space },
    { "key", PUSHER_ERR_ARGUMENT, key_with_newline },
    { "key", PUSHER_ERR_ARGUMENT, key_not_ascii },
    { "host", PUSHER_ERR_ARGUMENT, no_host },
    { "host", PUSHER_ERR_ARGUMENT, empty_host },
    { "host", PUSHER_ERR_ARGUMENT, host_with_scheme },
    { "host", PUSHER_ERR_ARGUMENT, host_with_path },
    { "host", PUSHER_ERR_ARGUMENT, host_with_space },
    { "host", PUSHER_ERR_ARGUMENT, host_with_newline },
    { "host", PUSHER_ERR_ARGUMENT, host_not_ascii },
    { "cluster", PUSHER_ERR_ARGUMENT, cluster_with_dot },
    { "cluster", PUSHER_ERR_ARGUMENT, cluster_with_newline },
    { "port", PUSHER_ERR_ARGUMENT, port_too_big },
    { "port", PUSHER_ERR_ARGUMENT, port_far_too_big },
    { "path", PUSHER_ERR_ARGUMENT, path_without_slash },
    { "path", PUSHER_ERR_ARGUMENT, path_with_space },
    { "path", PUSHER_ERR_ARGUMENT, path_with_newline },
    { "path", PUSHER_ERR_ARGUMENT, path_with_query },
    { "path", PUSHER_ERR_ARGUMENT, path_not_ascii },
    { "origin", PUSHER_ERR_ARGUMENT, origin_with_newline },
    { "headers", PUSHER_ERR_ARGUMENT, header_with_newline },
    { "headers", PUSHER_ERR_ARGUMENT, header_of_ours },
    { "headers", PUSHER_ERR_ARGUMENT, header_with_key },
    { "headers", PUSHER_ERR_ARGUMENT, header_without_value },
    { "headers", PUSHER_ERR_ARGUMENT, no_headers },
    { "max_output_bytes", PUSHER_ERR_ARGUMENT, header_too_long },
    { "transport", PUSHER_ERR_ARGUMENT, no_ready },
    { "transport", PUSHER_ERR_ARGUMENT, no_recv },
    { "transport", PUSHER_ERR_ARGUMENT, no_send },
    { "transport", PUSHER_ERR_ARGUMENT, no_close },
    { "allocator", PUSHER_ERR_ARGUMENT, no_alloc },
    { "allocator", PUSHER_ERR_ARGUMENT, no_free },
    { "max_message_bytes", PUSHER_ERR_ARGUMENT, small_message },
    { "max_output_bytes", PUSHER_ERR_ARGUMENT, small_output },
    { "max_poll_bytes", PUSHER_ERR_ARGUMENT, small_poll },
};

static void bad_options_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_options / sizeof *bad_options; i++) {
        fake f;
        fake_init(&f);
        pusher_options options = fake_options(&f);
        pusher_error error;
        memset(&error, 0x5A, sizeof error);
        bad_options[i].spoil(&options);
        f.client = pusher_create(&options, &error);
        if (f.client)
            fail_msg("bad option %u (%s) was taken", (unsigned)i, bad_options[i].name);
        assert_int_equal(error.code, bad_options[i].code);
        if (!strstr(error.message, bad_options[i].name))
            fail_msg("\"%s\" does not name %s", error.message, bad_options[i].name);
        assert_null(error.channel_name);
        assert_null(pusher_create(&options, NULL));
        assert_int_equal(f.heap.live_blocks, 0);
        fake_end(&f);
    }
}

static void no_options(void **state)
{
    (void)state;
    pusher_error error;
    assert_null(pusher_create(NULL, &error));
    assert_int_equal(error.code, PUSHER_ERR_ARGUMENT);
    assert_non_null(error.message);
    assert_null(pusher_create(NULL, NULL));
}

static void no_memory_and_no_randomness(void **state)
{
    (void)state;
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    pusher_error error;
    uint64_t n = 0;
    for (n = 1; !f.client; n++) {
        assert_true(n < 100);
        f.heap.calls = 0;
        f.heap.fail_at = n;
        f.client = pusher_create(&options, &error);
        if (!f.client) {
            assert_int_equal(error.code, PUSHER_ERR_MEMORY);
            assert_int_equal(f.heap.live_blocks, 0);
        }
    }
    assert_true(n > 2);
    fake_end(&f);
    fake_init(&f);
    f.random_fail_at = 1;
    assert_null(pusher_create(&options, &error));
    assert_true(error.code != PUSHER_OK);
    assert_true(strlen(error.message) > 0);
    fake_end(&f);
}

static void the_longest_strings(void **state)
{
    (void)state;
    fake f;
    char text[100001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const size_t lengths[] = { 60, 63, 253, 254, 255, 1000, 10000, 100000 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int which = 0; which < 5; which++) {
            fake_init(&f);
            pusher_options options = fake_options(&f);
            const char *tail = text + 100000 - lengths[i];
            char path[100001];
            snprintf(path, sizeof path, "/%s", tail + 1);
            if (which == 0)
                options.key = tail;
            else if (which == 1)
                options.host = tail;
            else if (which == 2)
                options.path = path;
            else if (which == 3)
                options.origin = tail;
            else {
                options.host = NULL;
                options.cluster = tail;
            }
            f.client = pusher_create(&options, NULL); /* taken or refused, but never worse */
            if (f.client) {
                pusher_connect(f.client);
                fake_run(&f);
                assert_true(f.stream_count > 0);
                assert_true(f.streams[0]->upgrade_asked);
            }
            fake_end(&f);
        }
    }
}

static void request_goes_to(const char *cluster, const char *host, uint32_t port,
                            const char *want_host, uint16_t want_port)
{
    fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.cluster = cluster;
    options.host = host;
    options.port = port;
    fake_start(&f, &options);
    fake_stream *stream = fake_request(&f);
    assert_string_equal(stream->host, want_host);
    assert_int_equal(stream->port, want_port);
    fake_end(&f);
}

static void host_port_and_cluster(void **state)
{
    (void)state;
    request_goes_to("eu", NULL, 0, "ws-eu.pusher.com", 80);
    request_goes_to("mt1", NULL, 0, "ws-mt1.pusher.com", 80);
    request_goes_to("ap-1", NULL, 8080, "ws-ap-1.pusher.com", 8080);
    request_goes_to("eu", "localhost", 0, "localhost", 80);
    request_goes_to(NULL, "127.0.0.1", 1, "127.0.0.1", 1);
    request_goes_to(NULL, "::1", 65535, "::1", 65535);
    request_goes_to(NULL, "my_host-1.example.org", 6001, "my_host-1.example.org", 6001);
}

static void strings_are_copied(void **state)
{
    (void)state;
    fake f;
    char key[] = "copied-key", host[] = "copied.example", path[] = "/copied";
    char origin[] = "http://copied.example";
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.key = key;
    options.host = host;
    options.path = path;
    options.origin = origin;
    fake_start(&f, &options);
    memset(key, 'x', sizeof key - 1);
    memset(host, 'x', sizeof host - 1);
    memset(path, 'x', sizeof path - 1);
    memset(origin, 'x', sizeof origin - 1);
    memset(&options, 0xEE, sizeof options);
    fake_stream *stream = fake_request(&f);
    assert_string_equal(stream->host, "copied.example");
    assert_non_null(strstr(stream->from_client.at, "GET /copied/app/copied-key?"));
    assert_non_null(strstr(stream->from_client.at, "\r\nOrigin: http://copied.example\r\n"));
    fake_establish(&f);
    fake_end(&f);
}

static void every_string_of_a_name_function(void **state)
{
    (void)state;
    assert_string_equal(pusher_state_name(PUSHER_INITIALIZED), "initialized");
    assert_string_equal(pusher_state_name(PUSHER_CONNECTING), "connecting");
    assert_string_equal(pusher_state_name(PUSHER_CONNECTED), "connected");
    assert_string_equal(pusher_state_name(PUSHER_UNAVAILABLE), "unavailable");
    assert_string_equal(pusher_state_name(PUSHER_FAILED), "failed");
    assert_string_equal(pusher_state_name(PUSHER_DISCONNECTED), "disconnected");
    assert_string_equal(pusher_result_name(PUSHER_OK), "PUSHER_OK");
    for (int i = 0; i <= PUSHER_ERR_SERVER; i++) {
        const char *name = pusher_result_name((pusher_result)i);
        assert_int_equal(strncmp(name, "PUSHER_", 7), 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(name, pusher_result_name((pusher_result)j));
    }
    assert_non_null(pusher_result_name((pusher_result)9999)); /* no crash on nonsense */
    assert_non_null(pusher_state_name((pusher_state)9999));
}

static void a_client_that_never_connects(void **state)
{
    (void)state;
    fake f;
    pusher_stats stats;
    fake_start(&f, NULL);
    assert_int_equal(pusher_get_state(f.client), PUSHER_INITIALIZED);
    assert_null(pusher_socket_id(f.client));
    assert_int_equal(pusher_wants(f.client), 0);
    assert_int_equal(pusher_fd(f.client), -1);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_OK);
    assert_non_null(pusher_last_error(f.client)->message);
    fake_subscribe(&f, "chat");
    fake_pass(&f, 5000);
    assert_true(pusher_next_poll_ms(f.client) == UINT64_MAX);
    assert_int_equal(f.stream_count, 0);
    assert_int_equal(f.state_changes, 0);
    pusher_reconnect_now(f.client);
    fake_pass(&f, 1000);
    assert_int_equal(f.stream_count, 0);
    pusher_get_stats(f.client, &stats);
    assert_int_equal(stats.attempts + stats.connections + stats.events + stats.bytes_sent, 0);
    fake_end(&f);
    pusher_destroy(NULL);
}

static void null_arguments_do_no_harm(void **state)
{
    (void)state;
    fake f;
    pusher_channel none = { 0, 0 };
    pusher_binding unbound = { 0, 0 };
    fake_start(&f, NULL);
    assert_int_equal(pusher_switch(NULL, NULL), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_switch(f.client, NULL), PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_subscribe(f.client, NULL).id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_find_channel(f.client, NULL).id, 0);
    assert_int_equal(pusher_find_channel(f.client, "").id, 0);
    assert_int_equal(pusher_bind(f.client, PUSHER_ALL, NULL, fake_event_fn, &f).id, 0);
    assert_int_equal(pusher_bind(f.client, PUSHER_ALL, "x", NULL, &f).id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_ARGUMENT);
    assert_int_equal(pusher_bind_all(f.client, PUSHER_ALL, NULL, &f).id, 0);
    assert_int_equal(pusher_bind(f.client, none, "x", fake_event_fn, &f).id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_NOT_SUBSCRIBED);
    assert_int_equal(pusher_unsubscribe(f.client, none), PUSHER_ERR_STALE);
    assert_int_equal(pusher_unsubscribe(f.client, PUSHER_ALL), PUSHER_ERR_STALE);
    assert_int_equal(pusher_unbind(f.client, unbound), PUSHER_ERR_STALE);
    assert_int_equal(pusher_unbind_where(f.client, none, NULL, NULL, NULL), 0);
    assert_null(pusher_channel_name(f.client, none));
    assert_int_equal(pusher_channel_references(f.client, none), 0);
    assert_int_equal(pusher_channel_state(f.client, none), PUSHER_NOT_SUBSCRIBED);
    assert_int_equal(pusher_channel_subscription_count(f.client, none), 0);
    assert_int_equal(pusher_channel_state(f.client, PUSHER_ALL), PUSHER_NOT_SUBSCRIBED);
    assert_null(pusher_channel_name(f.client, PUSHER_ALL));
    fake_end(&f);
}

static void two_clients_know_nothing_of_each_other(void **state)
{
    (void)state;
    fake one, two;
    fake_start(&one, NULL);
    fake_start(&two, NULL);
    pusher_channel channel = fake_subscribe(&one, "chat");
    pusher_bind_all(one.client, PUSHER_ALL, fake_event_fn, &one);
    pusher_bind_all(two.client, PUSHER_ALL, fake_event_fn, &two);
    assert_int_equal(pusher_find_channel(two.client, "chat").id, 0);
    assert_int_equal(pusher_channel_references(one.client, channel), 1);
    fake_online(&one);
    assert_int_equal(pusher_get_state(two.client), PUSHER_INITIALIZED);
    fake_online(&two);
    fake_expect_text(&one, FAKE_SUBSCRIBE("chat"));
    fake_expect_nothing(&two);
    fake_say(&one, "{\"event\":\"a\",\"channel\":\"chat\",\"data\":\"\"}");
    fake_run(&one);
    fake_run(&two);
    assert_int_equal(one.events, 1);
    assert_int_equal(two.events, 0);
    fake_end(&one);
    fake_end(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_options_are_refused_by_name),
        cmocka_unit_test(no_options),
        cmocka_unit_test(no_memory_and_no_randomness),
        cmocka_unit_test(the_longest_strings),
        cmocka_unit_test(host_port_and_cluster),
        cmocka_unit_test(strings_are_copied),
        cmocka_unit_test(every_string_of_a_name_function),
        cmocka_unit_test(a_client_that_never_connects),
        cmocka_unit_test(null_arguments_do_no_harm),
        cmocka_unit_test(two_clients_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests_name("api/options", tests, NULL, NULL);
}
