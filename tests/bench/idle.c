/*
 * idle.c - what a game pays in each frame in which nothing has come.
 *
 * pusher_poll() on an idle loopback connection, against one recv() on the same socket that would
 * block: less is hardly possible, for the kernel has to be asked.
 */
#define PUSHER_SOCKETS
#include "bench.h"
#include "net.h"

typedef struct idle {
    pusher_client *client;
    uint64_t now_ms;
    size_t calls;
} idle;

static double run_poll(void *context)
{
    idle *i = (idle *)context;
    uint64_t start = bench_ns();
    for (size_t call = 0; call < i->calls; call++)
        if (pusher_poll(i->client, i->now_ms) != 0) bench_die("an event on an idle connection");
    return (double)(bench_ns() - start) / (double)i->calls;
}

static double run_recv(void *context)
{
    idle *i = (idle *)context;
    int fd = (int)pusher_fd(i->client);
    uint64_t start = bench_ns();
    char buf[4096];
    for (size_t call = 0; call < i->calls; call++)
        if (recv(fd, buf, sizeof buf, 0) >= 0) bench_die("data on an idle connection");
    return (double)(bench_ns() - start) / (double)i->calls;
}

int main(void)
{
    idle i;
    bench_count count = {0, 0};
    bench_side sides[] = {{run_poll, &i, 0}, {run_recv, &i, 0}};
    pusher_options options;
    int peer;
    memset(&options, 0, sizeof options);
    i.client = bench_net_client(options, 10, &count, &peer);
    i.calls = bench_pick(100000, 10000);
    i.now_ms = pusher_sockets_now_ms();
    bench_rounds(sides, 2, bench_pick(25, 5));
    bench_row("idle", sides[0].median / sides[1].median, BENCH_AT_MOST, 1.1,
              "pusher_poll %.0f ns; a recv that would block %.0f ns", sides[0].median,
              sides[1].median);
    pusher_destroy(i.client);
    close(peer);
    return 0;
}
