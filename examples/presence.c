/*
 * presence.c - who is here: the members of a presence channel, and their comings and goings.
 *
 *     cc -I. -o presence examples/presence.c -lwslay -lmbedcrypto -lpthread
 *     ./presence [NAME [HOST [PORT [KEY [SECRET [CHANNEL]]]]]]
 *                              default: ann 127.0.0.1 6001 app-key app-secret presence-lobby
 *
 * Start it twice, as ann and as bob. When the connection was lost, the list is brought up to date
 * afterwards: whoever left or came meanwhile is told in the same way.
 *
 * The program signs for itself with the app's secret. That is for development: what you ship
 * gives options.auth.endpoint, and your backend says there who the user is (private.c, chat.c).
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_members(pusher_client *client, pusher_channel channel)
{
    pusher_member member, me;
    uint32_t i, count = pusher_member_count(client, channel);
    bool known = pusher_member_me(client, channel, &me);
    printf("%u here:\n", (unsigned)count);
    for (i = 0; i < count && pusher_member_at(client, channel, i, &member); i++) {
        bool is_me = known && strcmp(member.id, me.id) == 0;
        printf("  %-12s %s%s\n", member.id, member.info, is_me ? "  (me)" : "");
    }
}

/* The list is complete: after joining, and again after each lost connection. */
static void on_joined(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)user_data;
    print_members(client, event->channel);
}

static void on_come(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)user_data;
    printf("%s came, %u here\n", event->member->id,
           (unsigned)pusher_member_count(client, event->channel));
}

/* The member is still known here, info and all, but is not counted any more. */
static void on_go(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)user_data;
    printf("%s went, %u here\n", event->member->id,
           (unsigned)pusher_member_count(client, event->channel));
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "%s\n", error->message);
}

/* The name goes into JSON text: plain ones need no escapes. */
static bool is_plain(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "ann";
    char channel_data[128];
    pusher_error error;
    pusher_client *client;
    pusher_channel channel;
    pusher_options options = {0};
    if (!is_plain(name)) return fputs("presence: a name is made of a-z 0-9 _ -\n", stderr), 2;
    snprintf(channel_data, sizeof channel_data,
             "{\"user_id\":\"%s\",\"user_info\":{\"name_length\":%u}}", name,
             (unsigned)strlen(name));
    options.host = argc > 2 ? argv[2] : "127.0.0.1";
    options.port = argc > 3 ? (uint32_t)atoi(argv[3]) : 6001;
    options.key = argc > 4 ? argv[4] : "app-key";
    options.error_fn = on_error;
    options.auth.secret = argc > 5 ? argv[5] : "app-secret";
    options.auth.channel_data = channel_data;
    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "%s\n", error.message), 1;

    channel = pusher_subscribe(client, argc > 6 ? argv[6] : "presence-lobby");
    if (channel.id == 0) return fprintf(stderr, "%s\n", pusher_last_error(client)->message), 1;
    pusher_bind(client, channel, "pusher:subscription_succeeded", on_joined, NULL);
    pusher_bind(client, channel, "pusher:member_added", on_come, NULL);
    pusher_bind(client, channel, "pusher:member_removed", on_go, NULL);
    pusher_connect(client);
    /* Until the server refuses the app, or the channel. */
    while (pusher_get_state(client) != PUSHER_FAILED &&
           pusher_channel_state(client, channel) != PUSHER_REFUSED) {
        pusher_poll(client, pusher_sockets_now_ms());
        fflush(stdout);
        pusher_sockets_wait(client, 1000);
    }
    pusher_destroy(client);
    return 1;
}
