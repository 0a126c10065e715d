/*
 * memory.c - what is held: by channels, few and many, of each kind, and by members.
 *
 * Bytes asked of the allocator and not given back. What malloc adds to a block is its own affair.
 */
#include "bench.h"

/* ---- counting what is held ----------------------------------------------------------------- */

typedef struct holding {
    size_t bytes, worst; /* asked for and not given back: now, and at most so far */
} holding;

typedef union block_head {
    size_t size;
    long double align;
} block_head;

static void *hold(size_t size, void *user_data)
{
    holding *held = (holding *)user_data;
    block_head *head = (block_head *)malloc(sizeof *head + size);
    if (!head) return NULL;
    head->size = size;
    held->bytes += size;
    held->worst = held->bytes > held->worst ? held->bytes : held->worst;
    return head + 1;
}

static void let_go(void *memory, void *user_data)
{
    if (memory) {
        block_head *head = (block_head *)memory - 1;
        ((holding *)user_data)->bytes -= head->size;
        free(head);
    }
}

/* ---- public channels, few and many --------------------------------------------------------- */

static void keeping(void)
{
    static const size_t sizes[] = {1000, 10000, 100000};
    double worst = 0;
    for (size_t i = 0; i < 3; i++) {
        holding held = {0, 0};
        bench_wire wire;
        pusher_options options = bench_options(&wire);
        pusher_client *client;
        size_t empty, subscribed, names = 0;
        double each;
        memset(&wire, 0, sizeof wire);
        options.allocator.alloc_fn = hold;
        options.allocator.free_fn = let_go;
        options.allocator.user_data = &held;
        client = bench_create(&options);
        empty = held.bytes;
        for (size_t k = 0; k < sizes[i]; k++) {
            char name[BENCH_NAME];
            bench_channel_name(name, k);
            bench_subscribe(client, name);
            names += strlen(name) + 1;
        }
        subscribed = held.bytes;
        each = (double)(subscribed - empty - names) / (double)sizes[i];
        worst = each > worst ? each : worst;
        for (size_t k = 0; k < sizes[i]; k++) {
            char name[BENCH_NAME];
            bench_channel_name(name, k);
            bench_bind(client, pusher_find_channel(client, name), "message", bench_on_event, NULL);
        }
        bench_say("memory",
                  "%zu channels: %.1f bytes a channel besides its name, %.1f more with "
                  "one binding; at most %.1f while growing",
                  sizes[i], each, (double)(held.bytes - subscribed) / (double)sizes[i],
                  (double)(held.worst - empty) / (double)sizes[i]);
        pusher_destroy(client);
        if (held.bytes != 0) bench_die("pusher_destroy left %zu bytes", held.bytes);
    }
    bench_row("memory", worst / 96, BENCH_AT_MOST, 1, "worst of these to 96 bytes a channel besides its name");
}

/* ---- channels of each kind ------------------------------------------------------------------ */

enum { CHANNELS = 10000, NAME = 40 };

static pusher_options watched(bench_wire *wire, holding *held)
{
    pusher_options options = bench_options(wire);
    memset(wire, 0, sizeof *wire);
    options.allocator.alloc_fn = hold;
    options.allocator.free_fn = let_go;
    options.allocator.user_data = held;
    options.auth.request_fn = bench_on_auth;
    return options;
}

/* A connected client without a channel. */
static size_t empty_client(void)
{
    holding held = {0, 0};
    bench_wire wire;
    pusher_options options = watched(&wire, &held);
    pusher_client *client = bench_create(&options);
    size_t bytes;
    bench_connect(client, &wire, 0);
    bytes = held.bytes;
    pusher_destroy(client);
    return bytes;
}

/* Bytes a channel besides its name, when all of them are subscribed. */
static double kind(const char *prefix)
{
    holding held = {0, 0};
    bench_wire wire;
    pusher_options options = watched(&wire, &held);
    pusher_client *client = bench_create(&options);
    size_t names = 0, empty = empty_client();
    char name[NAME];
    double each;
    for (size_t i = 0; i < CHANNELS; i++) {
        snprintf(name, sizeof name, "%s%06u", prefix, (unsigned)i);
        bench_subscribe(client, name);
        names += strlen(name) + 1;
    }
    bench_connect(client, &wire, CHANNELS);
    if (pusher_channel_state(client, pusher_find_channel(client, name)) != PUSHER_SUBSCRIBED)
        bench_die("%s is not subscribed: %s", name, pusher_last_error(client)->message);
    each = (double)(held.bytes - empty - names) / CHANNELS;
    pusher_destroy(client);
    if (held.bytes != 0) bench_die("pusher_destroy left %zu bytes", held.bytes);
    return each;
}

static void kinds(void)
{
    static const char *const prefixes[] = {"public-", "private-", "presence-",
                                           "private-encrypted-"};
    double each[4];
    for (size_t i = 0; i < 4; i++) {
        each[i] = kind(prefixes[i]);
        bench_say("memory", "%d channels %s..., subscribed: %.1f bytes each besides the name%s",
                  (int)CHANNELS, prefixes[i], each[i], i == 2 ? ", with one member" : "");
    }
    bench_row("memory", each[0] / 96, BENCH_AT_MOST, 1,
              "a subscribed public channel to 96 bytes; a private one is %.2f of it, presence "
              "%.2f, encrypted %.2f",
              each[1] / each[0], each[2] / each[0], each[3] / each[0]);
}

/* ---- members -------------------------------------------------------------------------------- */

enum { MEMBERS = 10000 };

static void members(void)
{
    holding held = {0, 0};
    bench_wire wire;
    pusher_options options = watched(&wire, &held);
    bench_bytes snapshot = {NULL, 0, 0}, event = {NULL, 0, 0};
    pusher_client *client;
    pusher_channel room;
    pusher_member last;
    size_t before, after, text;
    bench_add_snapshot(&snapshot, MEMBERS);
    bench_add(&event, snapshot.at, snapshot.len);
    memcpy(strstr((char *)event.at + 10, "subscription_succeeded"), "no_event_of_the_server",
           strlen("no_event_of_the_server"));
    options.max_message_bytes = 1 << 20;
    client = bench_create(&options);
    bench_connect(client, &wire, 0);
    wire.stream = event.at; /* what so large a message needs is not the members' */
    wire.stream_len = event.len;
    bench_stream(client, &wire, event.len);
    before = held.worst = held.bytes;
    wire.server.snapshot = &snapshot;
    room = bench_subscribe(client, BENCH_ROOM);
    bench_settle(client, &wire, 1);
    after = held.bytes;
    if (pusher_member_count(client, room) != MEMBERS ||
        !pusher_member_at(client, room, MEMBERS - 1, &last))
        bench_die("%u members", (unsigned)pusher_member_count(client, room));
    text = strlen(last.id) + strlen(last.info) + 2;
    bench_say("memory", "%d members: %.1f bytes each, of which %zu are id and info", (int)MEMBERS,
              (double)(after - before) / MEMBERS, text);
    bench_say("memory", "their snapshot, %zu bytes, needs at most %.1f bytes a member while it is "
              "read, besides the buffer of the message", snapshot.len,
              (double)(held.worst - before) / MEMBERS);
    pusher_destroy(client);
    free(snapshot.at);
    free(event.at);
}

int main(void)
{
    keeping();
    kinds();
    members();
    return 0;
}
