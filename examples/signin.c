/*
 * signin.c - signs a user in: events for that user alone, and who of his friends is online.
 *
 *     cc -I. -o signin examples/signin.c -lwslay -lmbedcrypto -lpthread
 *     ./signin [USER [FRIEND [HOST [PORT [KEY [SECRET]]]]]]
 *                              default: ann bob 127.0.0.1 6001 app-key app-secret
 *
 * Start it twice, the other way round the second time: ./signin bob ann. Your backend sends to a
 * user, on all his connections, by the server's HTTP API; the test server takes it unsigned:
 *
 *     curl -d '{"name":"hello","channel":"#server-to-user-ann","data":"{\"n\":1}"}' \
 *         127.0.0.1:6001/apps/app/events
 *
 * The program signs for itself with the app's secret. That is for development: what you ship
 * gives options.auth.user_endpoint, and your backend says there who the user is.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On every connection anew: pusher_signin() is asked for once. */
static void on_signed_in(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)event, (void)user_data;
    printf("signed in as %s\n", pusher_user_id(client));
}

/* The connection stays, and its channels with it; the error itself is told to on_error. */
static void on_not_signed_in(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)event;
    *(bool *)user_data = true;
}

static void on_user_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    if (strncmp(event->name, "pusher:", 7) == 0) return; /* the sign-in itself */
    printf("to me: %s %s\n", event->name, event->data);
}

/* Named online or offline; data holds "user_ids":["bob"]. First of all it says who is offline. */
static void on_friends(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    printf("friends %s: %s\n", event->name, event->data);
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "%s\n", error->message);
}

/* Names go into JSON text: plain ones need no escapes. */
static bool is_plain(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

int main(int argc, char **argv)
{
    const char *user = argc > 1 ? argv[1] : "ann", *friend_of = argc > 2 ? argv[2] : "bob";
    char signin_data[128];
    bool refused = false;
    pusher_error error;
    pusher_client *client;
    pusher_options options = {0};
    if (!is_plain(user) || !is_plain(friend_of))
        return fputs("signin: a name is made of a-z 0-9 _ -\n", stderr), 2;
    snprintf(signin_data, sizeof signin_data, "{\"id\":\"%s\",\"watchlist\":[\"%s\"]}", user,
             friend_of);
    options.host = argc > 3 ? argv[3] : "127.0.0.1";
    options.port = argc > 4 ? (uint32_t)atoi(argv[4]) : 6001;
    options.key = argc > 5 ? argv[5] : "app-key";
    options.error_fn = on_error;
    options.auth.secret = argc > 6 ? argv[6] : "app-secret";
    options.auth.signin_data = signin_data;
    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "%s\n", error.message), 1;

    pusher_bind(client, PUSHER_USER, "pusher:signin_success", on_signed_in, NULL);
    pusher_bind(client, PUSHER_USER, "pusher:signin_error", on_not_signed_in, &refused);
    pusher_bind_all(client, PUSHER_USER, on_user_event, NULL);
    pusher_bind_all(client, PUSHER_WATCHLIST, on_friends, NULL);
    if (pusher_signin(client) != PUSHER_OK)
        return fprintf(stderr, "%s\n", pusher_last_error(client)->message), 1;
    pusher_connect(client);
    while (pusher_get_state(client) != PUSHER_FAILED && !refused) {
        pusher_poll(client, pusher_sockets_now_ms());
        fflush(stdout);
        pusher_sockets_wait(client, 1000);
    }
    pusher_destroy(client);
    return 1;
}
