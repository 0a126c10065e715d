/*
 * service.c - one connection for a whole program, behind a handful of functions.
 *
 *     cc -I. -o service examples/service.c -lwslay -lmbedcrypto -lpthread
 *     ./service [HOST [PORT [KEY [CHANNEL [ENDPOINT]]]]]     default: 127.0.0.1 6001 app-key chat
 *
 * The first half is the service, to be taken and bent: nobody outside holds a client or a
 * handle, channels and events go by their names. The second half walks through all of it against
 * a server, prints each step, and exits with 1 when a step does not do what it says. A private
 * channel needs an ENDPOINT: http://127.0.0.1:6001/pusher/auth is the test server's own.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- the service ---------------------------------------------------------------------------- */

typedef enum service_result {
    SERVICE_OK,
    SERVICE_ALREADY_INITIALIZED,
    SERVICE_NOT_INITIALIZED,
    SERVICE_NOT_SUBSCRIBED, /* bind needs a channel that somebody is subscribed to */
    SERVICE_REFUSED         /* service_error() says why                            */
} service_result;

/* pusher.h knows no globals; a process-wide instance is the program's own decision. */
static pusher_client *the_client;
static const char *the_error = "";

static const char *service_result_name(service_result result)
{
    static const char *const names[] = {"SERVICE_OK", "SERVICE_ALREADY_INITIALIZED",
                                        "SERVICE_NOT_INITIALIZED", "SERVICE_NOT_SUBSCRIBED",
                                        "SERVICE_REFUSED"};
    return names[result];
}

/* A sentence about the last SERVICE_REFUSED; valid until the next call. */
static const char *service_error(void)
{
    return the_error;
}

typedef struct service_options {
    const char *host, *key;
    uint32_t port; /* default 6001 */
    bool tls;
    const char *endpoint;      /* asked about private channels; NULL: there are none     */
    const char *authorization; /* of these requests: "Bearer TOKEN"; NULL: no such header */
    pusher_state_fn state_fn;
    pusher_error_fn error_fn;
} service_options;

static service_result service_init(const service_options *wanted)
{
    pusher_pair header = {"Authorization", wanted->authorization};
    pusher_options options = {0};
    pusher_error error;
    if (the_client != NULL) return SERVICE_ALREADY_INITIALIZED;
    options.host = wanted->host;
    options.port = wanted->port != 0 ? wanted->port : 6001;
    options.tls.mode = wanted->tls ? PUSHER_TLS_ON : PUSHER_TLS_OFF;
    options.key = wanted->key;
    options.auth.endpoint = wanted->endpoint;
    options.auth.headers = &header; /* copied, like all of this */
    options.auth.header_count = wanted->authorization != NULL ? 1 : 0;
    options.state_fn = wanted->state_fn;
    options.error_fn = wanted->error_fn;
    the_client = pusher_create(&options, &error);
    if (the_client == NULL) {
        the_error = error.message; /* a constant: nothing to copy */
        return SERVICE_REFUSED;
    }
    pusher_connect(the_client);
    return SERVICE_OK;
}

/* Once a frame, or whenever the program's loop comes round. All callbacks run in here. */
static void service_poll(void)
{
    if (the_client != NULL) pusher_poll(the_client, pusher_sockets_now_ms());
}

static pusher_state service_connection_state(void)
{
    return the_client != NULL ? pusher_get_state(the_client) : PUSHER_DISCONNECTED;
}

static service_result service_refused(void)
{
    the_error = pusher_last_error(the_client)->message;
    return SERVICE_REFUSED;
}

/* Everyone who needs the channel subscribes, and unsubscribes when done. The server hears of the
   first and of the last: pusher.h counts. */
static service_result service_subscribe(const char *channel)
{
    if (the_client == NULL) return SERVICE_NOT_INITIALIZED;
    return pusher_subscribe(the_client, channel).id != 0 ? SERVICE_OK : service_refused();
}

/* Not being subscribed is no error: whoever cleans up need not know how far he had got. */
static service_result service_unsubscribe(const char *channel)
{
    if (the_client == NULL) return SERVICE_NOT_INITIALIZED;
    pusher_unsubscribe(the_client, pusher_find_channel(the_client, channel));
    return SERVICE_OK;
}

static service_result service_bind(const char *channel, const char *event, pusher_event_fn fn,
                                   void *user_data)
{
    pusher_channel found;
    if (the_client == NULL) return SERVICE_NOT_INITIALIZED;
    found = pusher_find_channel(the_client, channel);
    if (found.id == 0) return SERVICE_NOT_SUBSCRIBED;
    return pusher_bind(the_client, found, event, fn, user_data).id != 0 ? SERVICE_OK
                                                                        : service_refused();
}

/* NULL as event or fn means any. What is not bound is harmless. */
static service_result service_unbind(const char *channel, const char *event, pusher_event_fn fn)
{
    pusher_channel found;
    if (the_client == NULL) return SERVICE_NOT_INITIALIZED;
    found = pusher_find_channel(the_client, channel);
    if (found.id != 0) pusher_unbind_where(the_client, found, event, fn, NULL);
    return SERVICE_OK;
}

/* Leave every channel, say goodbye, forget the client. May be called from a callback: the polls
   then do nothing, and the client ends when the callback has returned. */
static void service_disconnect(void)
{
    pusher_channel channel, none = {0, 0};
    if (the_client == NULL) return;
    for (;;) { /* always the first one: unsubscribing takes it away */
        channel = pusher_next_channel(the_client, none);
        if (channel.id == 0) break;
        while (pusher_channel_references(the_client, channel) > 0)
            pusher_unsubscribe(the_client, channel);
    }
    service_poll();
    pusher_disconnect(the_client);
    service_poll();
    pusher_destroy(the_client);
    the_client = NULL;
}

/* ---- the walk-through ----------------------------------------------------------------------- */

static int failures;

static void check(bool as_said, const char *what)
{
    printf("%s  %s\n", as_said ? "  ok  " : " WRONG", what);
    if (!as_said) failures++;
}

static void check_result(service_result got, service_result wanted, const char *what)
{
    printf("%s  %s: %s\n", got == wanted ? "  ok  " : " WRONG", what, service_result_name(got));
    if (got == wanted) return;
    failures++;
    if (got == SERVICE_REFUSED) printf("        %s\n", service_error());
}

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    (void)client, (void)user_data;
    printf("        (%s -> %s)\n", pusher_state_name(before), pusher_state_name(now));
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    printf("        (%s)\n", error->message);
}

static void count_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)event;
    ++*(uint32_t *)user_data;
}

static void count_other(pusher_client *client, const pusher_event *event, void *user_data)
{
    count_event(client, event, user_data);
}

/* Run the program's loop until *counter reaches value, at most 5 seconds. */
static bool wait_for(const uint32_t *counter, uint32_t value)
{
    uint64_t deadline_ms = pusher_sockets_now_ms() + 5000;
    while (*counter < value && pusher_sockets_now_ms() < deadline_ms) {
        service_poll();
        pusher_sockets_wait(the_client, 50);
    }
    return *counter >= value;
}

static void run_for(uint32_t ms)
{
    uint64_t end_ms = pusher_sockets_now_ms() + ms;
    while (pusher_sockets_now_ms() < end_ms) {
        service_poll();
        pusher_sockets_wait(the_client, 10);
    }
}

/* Behind the service's back: the walk-through wants to see what goes over the wire. */
static uint64_t messages_sent(void)
{
    pusher_stats stats;
    pusher_get_stats(the_client, &stats);
    return stats.messages_sent;
}

#define JOINED "pusher:subscription_succeeded" /* the one event every server sends */

static void walk(const service_options *options, const char *name)
{
    uint32_t joined = 0, unbound = 0, joined_again = 0, joined_private = 0, joined_anew = 0;
    uint64_t sent;

    puts("before it is initialised");
    check(service_connection_state() == PUSHER_DISCONNECTED, "the state is disconnected");
    check_result(service_subscribe(name), SERVICE_NOT_INITIALIZED, "subscribe");
    check_result(service_bind(name, JOINED, count_event, &joined), SERVICE_NOT_INITIALIZED, "bind");

    puts("initialise once");
    check_result(service_init(options), SERVICE_OK, "init");
    if (failures > 0) return; /* nothing below can work */
    check_result(service_init(options), SERVICE_ALREADY_INITIALIZED, "init a second time");
    check_result(service_bind(name, JOINED, count_event, &joined), SERVICE_NOT_SUBSCRIBED,
                 "bind on a channel that is not subscribed");
    check_result(service_unbind(name, NULL, NULL), SERVICE_OK, "unbind what is not there");
    check_result(service_unsubscribe(name), SERVICE_OK, "unsubscribe what is not there");
    check_result(service_subscribe("no spaces"), SERVICE_REFUSED, "subscribe to a bad name");
    printf("        %s\n", service_error());

    puts("subscribe twice");
    check_result(service_subscribe(name), SERVICE_OK, "subscribe");
    check_result(service_subscribe(name), SERVICE_OK, "subscribe again");
    check_result(service_bind(name, JOINED, count_event, &joined), SERVICE_OK, "bind");
    check_result(service_bind(name, JOINED, count_other, &unbound), SERVICE_OK, "bind another");
    check_result(service_unbind(name, JOINED, count_other), SERVICE_OK, "unbind that one");
    check(wait_for(&joined, 1), "the server acknowledges");
    if (joined == 0) { /* no server, no walk */
        service_disconnect();
        return;
    }
    check(service_connection_state() == PUSHER_CONNECTED, "the state is connected");
    run_for(300);
    check(joined == 1 && messages_sent() == 1, "it was one subscription on the wire");
    check(unbound == 0, "what was unbound did not fire");

    puts("unsubscribe twice");
    check_result(service_unsubscribe(name), SERVICE_OK, "unsubscribe");
    run_for(100);
    check(messages_sent() == 1, "the server hears nothing: somebody still needs the channel");
    check_result(service_unsubscribe(name), SERVICE_OK, "unsubscribe again");
    run_for(100);
    check(messages_sent() == 2, "with the last one the channel is left");
    check_result(service_bind(name, JOINED, count_event, &joined), SERVICE_NOT_SUBSCRIBED, "bind");
    check_result(service_unsubscribe(name), SERVICE_OK, "unsubscribe once too often");

    puts("come back");
    check_result(service_subscribe(name), SERVICE_OK, "subscribe");
    check_result(service_bind(name, JOINED, count_event, &joined_again), SERVICE_OK, "bind");
    check(wait_for(&joined_again, 1), "the server acknowledges");
    check(joined == 1, "the binding of the former subscription has gone");

    if (options->endpoint != NULL) {
        puts("a private channel");
        check_result(service_subscribe("private-walk"), SERVICE_OK, "subscribe");
        check_result(service_bind("private-walk", JOINED, count_event, &joined_private), SERVICE_OK,
                     "bind");
        check(wait_for(&joined_private, 1), "the endpoint says yes, and the server acknowledges");
        check(messages_sent() == 4, "one more message has been sent");
        check_result(service_unsubscribe("private-walk"), SERVICE_OK, "unsubscribe");
        run_for(100);
    }

    puts("disconnect");
    sent = messages_sent();
    check(sent == (options->endpoint != NULL ? 5 : 3), "nothing else has been sent");
    service_disconnect();
    check(service_connection_state() == PUSHER_DISCONNECTED, "the state is disconnected");
    check_result(service_subscribe(name), SERVICE_NOT_INITIALIZED, "subscribe");
    service_disconnect();
    check(true, "disconnect a second time is harmless");

    puts("initialise again");
    check_result(service_init(options), SERVICE_OK, "init");
    check_result(service_subscribe(name), SERVICE_OK, "subscribe");
    check_result(service_bind(name, JOINED, count_event, &joined_anew), SERVICE_OK, "bind");
    check(wait_for(&joined_anew, 1), "the server acknowledges");
    service_disconnect();
}

int main(int argc, char **argv)
{
    service_options options = {0};
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.endpoint = argc > 5 ? argv[5] : NULL;
    options.authorization = "Bearer a-token-of-this-program";
    options.state_fn = on_state;
    options.error_fn = on_error;
    walk(&options, argc > 4 ? argv[4] : "chat");
    if (failures > 0)
        printf("WRONG: %d of the steps did not do what they say\n", failures);
    else
        puts("all as it says");
    return failures > 0;
}
