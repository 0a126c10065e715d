/* Everything a hostile server may say after a correct upgrade, cut into reads as the input wants
   it, to a client with a channel of each kind and a signed-in user. The first byte chooses the cuts
   and how the application answers; the rest is the stream. No bytes may crash the client, make it
   hold more than its limits or say what is not JSON, or keep it from being polled on. */
#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AT_ONCE, LATER, ONCE, NEVER }; /* answers to authorizations; ONCE: no new keys */

struct application {
    int answers;
    pusher_ticket open[16];
    char bodies[16][120];
    size_t open_count;
    pusher_channel presence;
    uint32_t seen;
};

static struct application app;

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    (void)user_data;
    for (uint32_t i = 0; i < count; i++) {
        const char *body = world_body(&requests[i]);
        if (app.answers == LATER && app.open_count < 16) {
            app.open[app.open_count] = requests[i].ticket;
            memcpy(app.bodies[app.open_count++], body, strlen(body) + 1);
        } else if (app.answers == NEVER ||
                   (app.answers == ONCE && requests[i].reason == PUSHER_AUTH_KEY_REFRESH)) {
            (void)pusher_auth_reject(client, requests[i].ticket, 403, "no", app.seen & 1);
        } else {
            (void)pusher_auth_accept(client, requests[i].ticket, body, strlen(body));
        }
    }
}

static void answer(pusher_client *client)
{
    for (size_t i = 0; i < app.open_count; i++)
        (void)pusher_auth_accept(client, app.open[i], app.bodies[i], strlen(app.bodies[i]));
    app.open_count = 0;
}

static void look_at(const char *text, size_t len)
{
    if (text[len] != '\0') abort();
    app.seen += (uint32_t)len;
    for (size_t i = 0; i < len; i++) app.seen += (unsigned char)text[i];
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    pusher_member member;
    (void)user_data;
    look_at(event->data, event->data_len);
    look_at(event->name, strlen(event->name));
    if (event->member) look_at(event->member->info, event->member->info_len);
    for (uint32_t i = 0; pusher_member_at(client, app.presence, i, &member); i++)
        look_at(member.info, member.info_len);
    if (pusher_member_count(client, app.presence) > 20) abort();
    if (strlen(event->name) == 5) (void)pusher_unsubscribe(client, event->channel);
    if (strlen(event->name) == 6) (void)pusher_trigger(client, event->channel, "client-x", "1", 1);
    if (event->data_len == 3) (void)pusher_subscribe(client, "private-again");
    if (event->data_len == 4) pusher_disconnect(client);
    if (event->data_len == 5) (void)pusher_signin(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const channels[] = {
        "chat", "cache-a", "private-a", "private-cache-a", "presence-a", "presence-cache-a",
        "private-encrypted-a", "private-encrypted-cache-a"};
    pusher_options options = world_options();
    if (size < 2) return 0;
    memset(&app, 0, sizeof app);
    app.answers = data[0] >> 6;
    the_world.cut = (data[0] & 63u) + 1u;
    if (the_world.cut > 60) the_world.cut *= 16;
    the_world.key_stays = true;
    the_world.server.data = data + 1;
    the_world.server.size = size - 1;
    world_listen(&the_world, 9); /* as many subscriptions, and the sign-in */
    options.auth.request_fn = on_request;
    pusher_client *client = pusher_create(&options, NULL);
    if (!client) abort();
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
        pusher_channel channel = pusher_subscribe(client, channels[i]);
        if (i == 4) app.presence = channel;
        (void)pusher_bind_all(client, channel, on_event, NULL);
    }
    (void)pusher_bind_all(client, PUSHER_ALL, on_event, NULL);
    (void)pusher_bind_all(client, PUSHER_USER, on_event, NULL);
    (void)pusher_bind_all(client, PUSHER_WATCHLIST, on_event, NULL);
    if (pusher_signin(client) != PUSHER_OK) abort();
    (void)pusher_connect(client);
    for (uint64_t now = 0, end = 64 + size / 16; now < end; now++) {
        the_world.stays = now + 16 < end; /* some time to answer before it ends */
        pusher_poll(client, now * 100);
        if (now % 2 == 0) answer(client);
    }
    pusher_destroy(client);
    if (the_world.live != 0) abort();
    return 0;
}
