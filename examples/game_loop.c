/*
 * game_loop.c - pusher_poll() inside a fixed frame loop, and what it costs there.
 *
 *     cc -I. -o game_loop examples/game_loop.c -lwslay -lmbedcrypto -lpthread
 *     ./game_loop [--frames N] [HOST [PORT [KEY [CHANNEL]]]]   600 127.0.0.1 6001 app-key chat
 *
 * A frame lasts 16 ms. Once in it the client is polled: events move a ship through the world.
 * Once a second the world is drawn, as one line. At the end: the time every single poll took.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME_NS 16000000u
#define WIDTH    32u
#define BUCKETS  16 /* < 1 us, < 2, < 4 ... and all above in the last */

struct world {
    uint32_t ship, laps, events;
};

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    struct world *world = (struct world *)user_data;
    (void)client;
    if (strncmp(event->name, "pusher:", 7) == 0) return; /* the protocol's own news */
    world->events++;
    if (++world->ship == WIDTH) {
        world->ship = 0;
        world->laps++;
    }
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    printf("error: %s\n", error->message);
}

static void draw(const struct world *world, pusher_state state, double seconds)
{
    char sky[WIDTH + 1];
    memset(sky, '.', WIDTH);
    sky[world->ship] = '>';
    sky[WIDTH] = '\0';
    printf("%5.1f s  [%s]  lap %u  events %u  %s\n", seconds, sky, (unsigned)world->laps,
           (unsigned)world->events, pusher_state_name(state));
    fflush(stdout);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t when_ns)
{
    uint64_t now = now_ns();
    struct timespec t;
    if (now >= when_ns) return;
    t.tv_sec = (time_t)((when_ns - now) / 1000000000u);
    t.tv_nsec = (long)((when_ns - now) % 1000000000u);
    nanosleep(&t, NULL);
}

static void print_costs(const uint32_t histogram[BUCKETS], double worst_us, uint32_t frames)
{
    int i, bar, last = BUCKETS - 1;
    while (last > 0 && histogram[last] == 0)
        last--;
    printf("worst poll: %.1f us of a frame's %u us\n", worst_us, FRAME_NS / 1000u);
    for (i = 0; i <= last; i++) {
        if (i == BUCKETS - 1)
            printf("  longer    %7u  ", (unsigned)histogram[i]);
        else
            printf("  < %5u us %7u  ", 1u << i, (unsigned)histogram[i]);
        /* Even one slow poll among thousands must be seen: every bar has at least one mark. */
        for (bar = (int)((histogram[i] * 40u + frames - 1) / frames); bar > 0; bar--)
            putchar('#');
        putchar('\n');
    }
}

static int run(pusher_client *client, struct world *world, uint32_t frames)
{
    uint32_t histogram[BUCKETS] = {0}, frame, late = 0;
    double worst_us = 0;
    uint64_t start = now_ns(), next = start;

    for (frame = 1; frame <= frames; frame++) {
        uint64_t before, after;
        double us;
        int bucket = 0;

        before = now_ns();
        pusher_poll(client, before / 1000000u); /* any steady millisecond clock will do */
        after = now_ns();

        us = (double)(after - before) / 1000.0;
        if (us > worst_us) worst_us = us;
        while (bucket < BUCKETS - 1 && us >= (double)(1u << bucket))
            bucket++;
        histogram[bucket]++;

        if (frame % 62 == 0) { /* a second's worth of frames */
            draw(world, pusher_get_state(client), (double)(after - start) / 1e9);
        }
        next += FRAME_NS;
        if (now_ns() > next) { /* too late for the next frame: drop it rather than run after it */
            late++;
            next = now_ns();
        }
        sleep_until(next);
    }
    printf("%u frames, %u late, %u events\n", (unsigned)frames, (unsigned)late,
           (unsigned)world->events);
    if (frames > 0) print_costs(histogram, worst_us, frames);
    return 0;
}

int main(int argc, char **argv)
{
    uint32_t frames = 600;
    struct world world = {0};
    pusher_options options = {0};
    pusher_error error;
    pusher_client *client;
    pusher_channel channel;
    int status;

    if (argc > 2 && strcmp(argv[1], "--frames") == 0) {
        frames = (uint32_t)strtoul(argv[2], NULL, 10);
        argc -= 2;
        argv += 2;
    } else if (argc > 1 && argv[1][0] == '-') {
        fputs("usage: game_loop [--frames N] [HOST [PORT [KEY [CHANNEL]]]]\n", stderr);
        return 2;
    }
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.error_fn = on_error;
    /* A frame's share: what does not fit into it is read in the next frame. */
    options.max_poll_bytes = 16384;

    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "game_loop: %s\n", error.message), 1;
    channel = pusher_subscribe(client, argc > 4 ? argv[4] : "chat");
    if (channel.id == 0) {
        fprintf(stderr, "game_loop: %s\n", pusher_last_error(client)->message);
        pusher_destroy(client);
        return 1;
    }
    pusher_bind_all(client, channel, on_event, &world);
    pusher_connect(client);

    status = run(client, &world, frames);

    pusher_disconnect(client); /* a goodbye, sent by one more poll */
    pusher_poll(client, now_ns() / 1000000u);
    pusher_destroy(client);
    return status;
}
