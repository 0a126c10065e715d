/* Real sockets against the loopback server: every dialect, what a network does, what a broken
   server does. The scripted transport proves the details; this proves the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pusher.h"
#include "server/server.h"

#define WAIT_MS 8000u /* longest wait for anything; a failure, never a measurement */

typedef struct world {
    server *server;
    pusher_client *client;
    uint32_t events, succeeded, errors;
    pusher_result last_code;
    int last_server_code;
    char last_message[400], last_data[256];
} world;

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    world *w = (world *)user_data;
    (void)client;
    w->errors++;
    w->last_code = error->code;
    w->last_server_code = error->server_code;
    snprintf(w->last_message, sizeof w->last_message, "%s", error->message);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    world *w = (world *)user_data;
    (void)client;
    if (strcmp(event->name, "pusher:subscription_succeeded") == 0)
        w->succeeded++;
    if (strcmp(event->name, "message") != 0)
        return;
    w->events++;
    snprintf(w->last_data, sizeof w->last_data, "%s", event->data);
}

static void start(world *w, const char *host, uint16_t port, uint32_t connect_timeout_ms)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = host;
    options.port = port;
    options.error_fn = on_error;
    options.user_data = w;
    options.reconnect_base_ms = 20;
    options.reconnect_cap_ms = 100;
    options.connect_timeout_ms = connect_timeout_ms;
    w->client = pusher_create(&options, NULL);
    assert_non_null(w->client);
    pusher_bind_all(w->client, PUSHER_ALL, on_event, w);
    assert_int_equal(pusher_connect(w->client), PUSHER_OK);
}

/* Poll until *count is at least `least`. */
static void until(world *w, const uint32_t *count, uint32_t least)
{
    uint64_t end = pusher_sockets_now_ms() + WAIT_MS;
    while (*count < least) {
        if (pusher_sockets_now_ms() > end)
            fail_msg("%u of %u; last error: %s", (unsigned)*count, (unsigned)least,
                     w->last_message);
        pusher_poll(w->client, pusher_sockets_now_ms());
        pusher_sockets_wait(w->client, 20);
    }
}

static void serve(world *w, server_dialect dialect, const server_faults *faults, uint16_t port)
{
    server_options options;
    memset(&options, 0, sizeof options);
    options.dialect = dialect;
    options.key = "app-key";
    options.port = port;
    if (faults)
        options.faults = *faults;
    w->server = server_start(&options);
    assert_non_null(w->server);
}

static void finish(world *w)
{
    pusher_disconnect(w->client);
    pusher_poll(w->client, pusher_sockets_now_ms());
    pusher_destroy(w->client);
    if (w->server)
        server_stop(w->server, SERVER_STOP_RST);
}

static void every_dialect_and_a_restart(void **state)
{
    (void)state;
    for (int dialect = SERVER_PUSHER; dialect <= SERVER_SOCKUDO; dialect++) {
        world w;
        memset(&w, 0, sizeof w);
        serve(&w, (server_dialect)dialect, NULL, 0);
        uint16_t port = server_port(w.server);
        start(&w, "127.0.0.1", port, 0);
        pusher_subscribe(w.client, "chat");
        pusher_subscribe(w.client, "chat");
        pusher_subscribe(w.client, "news");
        until(&w, &w.succeeded, 2);
        server_publish(w.server, "chat", "message", "{\"text\":\"\xC3\xA9 \\/ \\\"\"}");
        until(&w, &w.events, 1);
        assert_string_equal(w.last_data, "{\"text\":\"\xC3\xA9 \\/ \\\"\"}");
        assert_int_equal(server_count(w.server).subscribes, 2);
        assert_int_equal(server_count(w.server).violations, 0);
        server_stop(w.server, SERVER_STOP_DIALECT);
        until(&w, &w.errors, 1);
        serve(&w, (server_dialect)dialect, NULL, port);
        until(&w, &w.succeeded, 4);
        server_publish(w.server, "news", "message", "back");
        until(&w, &w.events, 2);
        assert_string_equal(w.last_data, "back");
        assert_int_equal(server_count(w.server).violations, 0);
        finish(&w);
    }
}

static void a_clean_goodbye(void **state)
{
    (void)state;
    world w;
    memset(&w, 0, sizeof w);
    serve(&w, SERVER_PUSHER, NULL, 0);
    start(&w, "127.0.0.1", server_port(w.server), 0);
    pusher_subscribe(w.client, "chat");
    until(&w, &w.succeeded, 1);
    pusher_disconnect(w.client);
    pusher_poll(w.client, pusher_sockets_now_ms());
    assert_int_equal(pusher_get_state(w.client), PUSHER_DISCONNECTED);
    assert_true(server_wait_connections(w.server, 0, WAIT_MS));
    assert_int_equal(server_count(w.server).last_close_code, 1000);
    pusher_connect(w.client);
    until(&w, &w.succeeded, 2);
    finish(&w);
}

/* However the bytes are cut, the events are the same. */
static void drip_fragments_and_pings(void **state)
{
    (void)state;
    static const struct { size_t fragment, write_bytes; bool empty_final, ping_between; } cuts[] = {
        { 1, 0, false, true }, { 7, 3, true, true }, { 0, 1, false, false }, { 0, 0, true, false },
    };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        world w;
        server_faults faults;
        memset(&w, 0, sizeof w);
        memset(&faults, 0, sizeof faults);
        faults.fragment = cuts[i].fragment;
        faults.write_bytes = cuts[i].write_bytes;
        faults.empty_final = cuts[i].empty_final;
        faults.ping_between = cuts[i].ping_between;
        serve(&w, SERVER_PUSHER, &faults, 0);
        start(&w, "127.0.0.1", server_port(w.server), 0);
        pusher_subscribe(w.client, "chat");
        until(&w, &w.succeeded, 1);
        for (int n = 0; n < 10; n++)
            server_publish(w.server, "chat", "message", "{\"n\":1}");
        until(&w, &w.events, 10);
        assert_int_equal(w.errors, 0);
        assert_int_equal(server_count(w.server).violations, 0);
        finish(&w);
    }
}

static void a_flood_is_taken_in_bounded_polls(void **state)
{
    (void)state;
    world w;
    pusher_stats before, after;
    memset(&w, 0, sizeof w);
    serve(&w, SERVER_PUSHER, NULL, 0);
    start(&w, "127.0.0.1", server_port(w.server), 0);
    pusher_subscribe(w.client, "chat");
    until(&w, &w.succeeded, 1);
    server_flood(w.server, "chat", "message", "{\"n\":1}", 20000);
    uint64_t end = pusher_sockets_now_ms() + WAIT_MS;
    while (w.events < 20000 && pusher_sockets_now_ms() < end) {
        pusher_get_stats(w.client, &before);
        pusher_poll(w.client, pusher_sockets_now_ms());
        pusher_get_stats(w.client, &after);
        assert_true(after.bytes_received - before.bytes_received <= 65536);
    }
    assert_int_equal(w.events, 20000);
    finish(&w);
}

/* Each broken server: the error's code, and a word of its sentence. */
static void broken_servers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        pusher_result code;
        int server_code;
        int fault;
    } broken[] = {
        { "HTTP 503", PUSHER_ERR_HTTP, 503, 0 },
        { "Sec-WebSocket-Accept", PUSHER_ERR_HTTP, 101, 1 },
        { "upgrading", PUSHER_ERR_TIMEOUT, 0, 2 },
        { "connection_established", PUSHER_ERR_TIMEOUT, 0, 3 },
        { "8192", PUSHER_ERR_HTTP, 101, 4 },
        { "4001", PUSHER_ERR_SERVER, 4001, 5 },
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        world w;
        server_faults faults;
        memset(&w, 0, sizeof w);
        memset(&faults, 0, sizeof faults);
        faults.http_status = broken[i].fault == 0 ? 503 : 0;
        faults.wrong_accept = broken[i].fault == 1;
        faults.never_answer = broken[i].fault == 2;
        faults.never_establish = broken[i].fault == 3;
        faults.endless_header = broken[i].fault == 4;
        faults.establish_error = broken[i].fault == 5 ? 4001 : 0;
        serve(&w, SERVER_PUSHER, &faults, 0);
        start(&w, "127.0.0.1", server_port(w.server), 300);
        until(&w, &w.errors, 1);
        if (w.last_code != broken[i].code || !strstr(w.last_message, broken[i].word))
            fail_msg("%s: %s, %s", broken[i].word, pusher_result_name(w.last_code),
                     w.last_message);
        assert_int_equal(w.last_server_code, broken[i].server_code);
        assert_non_null(strstr(w.last_message, "127.0.0.1:"));
        finish(&w);
    }
}

static void names_and_dead_ends(void **state)
{
    (void)state;
    world w;
    memset(&w, 0, sizeof w);
    serve(&w, SERVER_PUSHER, NULL, 0);
    uint16_t port = server_port(w.server);
    start(&w, "localhost", port, 0); /* through the resolver's thread; ::1 may be refused first */
    pusher_subscribe(w.client, "chat");
    until(&w, &w.succeeded, 1);
    finish(&w);

    memset(&w, 0, sizeof w);
    start(&w, "127.0.0.1", port, 0); /* nobody listens there any more */
    until(&w, &w.errors, 3);
    assert_int_equal(w.last_code, PUSHER_ERR_IO);
    assert_non_null(strstr(w.last_message, "refused"));
    finish(&w);

    memset(&w, 0, sizeof w);
    start(&w, "no-such-host.invalid", port, 1000);
    until(&w, &w.errors, 1);
    assert_true(w.last_code == PUSHER_ERR_RESOLVE || w.last_code == PUSHER_ERR_TIMEOUT);
    assert_non_null(strstr(w.last_message, "no-such-host.invalid"));
    finish(&w);

    memset(&w, 0, sizeof w);
    start(&w, "also-not.invalid", port, 0);
    pusher_poll(w.client, pusher_sockets_now_ms());
    finish(&w); /* destroyed while the look-up is running */
}

static void resets_and_every_close(void **state)
{
    (void)state;
    static const int codes[] = { SERVER_CLOSE_RST, SERVER_CLOSE_FIN, SERVER_CLOSE_EMPTY, 1000,
                                 1001, 1011, 4100, 4200 };
    world w;
    memset(&w, 0, sizeof w);
    serve(&w, SERVER_PUSHER, NULL, 0);
    start(&w, "127.0.0.1", server_port(w.server), 0);
    pusher_subscribe(w.client, "chat");
    until(&w, &w.succeeded, 1);
    for (uint32_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        server_close_all(w.server, codes[i], "so it is");
        until(&w, &w.errors, i + 1);
        until(&w, &w.succeeded, i + 2);
        assert_int_equal(w.last_server_code, codes[i] > 0 ? codes[i] : 0);
    }
    assert_int_equal(server_count(w.server).violations, 0);
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dialect_and_a_restart),
        cmocka_unit_test(a_clean_goodbye),
        cmocka_unit_test(drip_fragments_and_pings),
        cmocka_unit_test(a_flood_is_taken_in_bounded_polls),
        cmocka_unit_test(broken_servers_are_named),
        cmocka_unit_test(names_and_dead_ends),
        cmocka_unit_test(resets_and_every_close),
    };
    return cmocka_run_group_tests_name("api/loopback", tests, NULL, NULL);
}
