/*
 * encrypted.c - reads an end-to-end encrypted channel.
 *
 *     cc -I. -o encrypted examples/encrypted.c -lwslay -lmbedcrypto -lpthread
 *     ./encrypted [HOST [PORT [KEY [CHANNEL [ENDPOINT]]]]]     default: 127.0.0.1 6001 app-key
 *                              private-encrypted-notes http://127.0.0.1:6001/pusher/auth
 *
 * Events come sealed from your backend, and the Pusher server cannot read them. Their key comes
 * from the authorization endpoint, as "shared_secret" beside "auth"; pusher.h opens each event,
 * and handlers see what was published. When one does not open, the endpoint is asked for a new
 * key, since yours may have changed it; events wait so long, in their order. Only what does not
 * open then either is told, as pusher:decryption_error. The connection and the channel stay.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    if (strncmp(event->name, "pusher:", 7) == 0) return; /* these are never encrypted */
    printf("%s %s\n", event->name, event->data);
}

static void on_joined(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    printf("reading %s\n", event->channel_name);
}

/* data is {"event":"its name","error":"the reason"}. A program that shows state rather than news
   would fetch that state anew here: something is missing now. */
static void on_unreadable(pusher_client *client, const pusher_event *event, void *user_data)
{
    pusher_stats stats;
    (void)user_data;
    pusher_get_stats(client, &stats);
    printf("unreadable: %s  (%lu so far)\n", event->data, (unsigned long)stats.dropped_decrypt);
}

/* Refusals of the endpoint and what else goes wrong, decryption included: one sentence each. */
static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    if (error->code != PUSHER_ERR_DECRYPT) fprintf(stderr, "%s\n", error->message);
}

int main(int argc, char **argv)
{
    char endpoint[256];
    pusher_error error;
    pusher_client *client;
    pusher_channel channel;
    pusher_options options = {0};
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.error_fn = on_error;
    snprintf(endpoint, sizeof endpoint, "http://%s:%u/pusher/auth", options.host,
             (unsigned)options.port);
    options.auth.endpoint = argc > 5 ? argv[5] : endpoint;
    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "%s\n", error.message), 1;

    channel = pusher_subscribe(client, argc > 4 ? argv[4] : "private-encrypted-notes");
    if (channel.id == 0) return fprintf(stderr, "%s\n", pusher_last_error(client)->message), 1;
    pusher_bind_all(client, channel, on_event, NULL);
    pusher_bind(client, channel, "pusher:subscription_succeeded", on_joined, NULL);
    pusher_bind(client, channel, "pusher:decryption_error", on_unreadable, NULL);
    pusher_connect(client);
    /* Until the server refuses the app, or the endpoint the channel. */
    while (pusher_get_state(client) != PUSHER_FAILED &&
           pusher_channel_state(client, channel) != PUSHER_REFUSED) {
        pusher_poll(client, pusher_sockets_now_ms());
        fflush(stdout);
        pusher_sockets_wait(client, 1000);
    }
    pusher_destroy(client);
    return 1;
}
