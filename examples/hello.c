/*
 * hello.c - the smallest program: connect, subscribe, print.
 *
 *     cc -I. -o hello examples/hello.c -lwslay -lmbedcrypto -lpthread
 *     ./hello [HOST [PORT [KEY [CHANNEL]]]]        default: 127.0.0.1 6001 app-key chat
 *
 * It runs until you stop it with Ctrl-C. When the server goes away, it comes back with it.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    printf("%s %s %s\n", event->channel_name, event->name, event->data);
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "%s\n", error->message);
}

int main(int argc, char **argv)
{
    pusher_error error;
    pusher_options options = {0};
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.error_fn = on_error;
    pusher_client *client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "%s\n", error.message), 1;

    pusher_channel channel = pusher_subscribe(client, argc > 4 ? argv[4] : "chat");
    if (channel.id == 0) return fprintf(stderr, "%s\n", pusher_last_error(client)->message), 1;
    pusher_bind_all(client, channel, on_event, NULL);
    pusher_connect(client);
    while (pusher_get_state(client) != PUSHER_FAILED) { /* a wrong key, say: on_error told */
        pusher_poll(client, pusher_sockets_now_ms());
        fflush(stdout);
        pusher_sockets_wait(client, 1000); /* a game would draw its frame instead */
    }
    pusher_destroy(client);
    return 1;
}
