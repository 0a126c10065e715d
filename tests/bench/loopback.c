/*
 * loopback.c - messages a second over a loopback socket.
 *
 * A thread sends the frames of pipeline.c as fast as they are taken: 64 KiB at a time, where the
 * kernel's part is smallest, and one message at a time, as a server does that has just got it.
 * Reading: the library, polled in a tight loop and waiting between polls; a bare recv loop that
 * throws away what it reads, with 64 KiB and with 4 KiB; and pusher-js, if the interoperability
 * tests have installed it.
 */
#define PUSHER_SOCKETS
#include "bench.h"
#include "net.h"

enum { CHANNELS = 10, BLOCK = 356 /* messages: just under 64 KiB */ };

#define PUSHER_JS "build/interop/node_modules/pusher-js"

typedef struct reader {
    bench_sender *sender;
    size_t times; /* blocks in a round      */
    size_t piece; /* bytes the sender writes */
    int peer;
    pusher_client *client;
    bench_count count;
    bool waits;
    int fd;
    size_t buffer;
} reader;

static double rate(const reader *r, uint64_t start)
{
    return (double)(r->times * BLOCK) * 1e9 / (double)(bench_ns() - start);
}

static double run_pusher(void *context)
{
    reader *r = (reader *)context;
    uint64_t start = bench_ns();
    r->count.events = 0;
    bench_flood(r->sender, r->peer, r->times, r->piece);
    while (r->count.events < r->times * BLOCK) {
        if (r->waits) pusher_sockets_wait(r->client, 100);
        pusher_poll(r->client, pusher_sockets_now_ms());
        if (pusher_get_state(r->client) != PUSHER_CONNECTED)
            bench_die("the connection was lost: %s", pusher_last_error(r->client)->message);
    }
    return rate(r, start);
}

static double run_recv(void *context)
{
    static unsigned char buf[65536];
    reader *r = (reader *)context;
    size_t left = r->times * BLOCK * BENCH_FRAME;
    uint64_t start = bench_ns();
    bench_flood(r->sender, r->peer, r->times, r->piece);
    while (left > 0) {
        ssize_t got = recv(r->fd, buf, r->buffer, 0);
        if (got <= 0) bench_die("recv: %s", strerror(errno));
        left -= (size_t)got;
    }
    return rate(r, start);
}

/* pusher-js in a node process of its own, against this process; 0 and a reason if it cannot be. */
static double run_pusher_js(bench_bytes block, size_t times, const char **reason)
{
    bench_server server;
    char command[128], line[64];
    uint16_t port;
    int listener, peer;
    uint64_t start;
    FILE *node;
    double result = 0;
    *reason = "no " PUSHER_JS;
    if (access(PUSHER_JS "/package.json", R_OK) != 0) return 0;
    memset(&server, 0, sizeof server);
    listener = bench_listen(&port);
    snprintf(command, sizeof command, "node tests/bench/pusher_js.js %u %u %u", (unsigned)port,
             (unsigned)CHANNELS, (unsigned)(times * BLOCK));
    node = popen(command, "r");
    *reason = "node does not start or does not connect";
    if (node && bench_readable(listener, 10000)) {
        peer = bench_accept(listener);
        while (server.subscriptions < CHANNELS && bench_answer(&server, peer, 10000))
            ;
        start = bench_ns();
        for (size_t i = 0; i < times; i++)
            bench_send_all(peer, block.at, block.len);
        if (fgets(line, sizeof line, node) && strcmp(line, "done\n") == 0)
            result = (double)(times * BLOCK) * 1e9 / (double)(bench_ns() - start);
        close(peer);
    }
    close(listener);
    if (node) pclose(node);
    free(server.in.at);
    free(server.out.at);
    return result;
}

/* All readers against a sender of such pieces. Returns the rate of the library when it waits. */
static double measure(bench_sender *sender, size_t times, size_t piece, const char *how)
{
    enum { TIGHT, WAITING, RECV_64K, RECV_4K, SIDES };
    static reader readers[SIDES];
    bench_side sides[SIDES];
    pusher_options options;
    memset(&options, 0, sizeof options);
    memset(readers, 0, sizeof readers);
    for (size_t i = 0; i < SIDES; i++) {
        reader *r = &readers[i];
        r->sender = sender;
        r->times = times;
        r->piece = piece;
        r->waits = i == WAITING;
        r->buffer = i == RECV_4K ? 4096 : 65536;
        if (i < RECV_64K)
            r->client = bench_net_client(options, CHANNELS, &r->count, &r->peer);
        else
            r->fd = bench_connection(&r->peer);
        sides[i].run_fn = i < RECV_64K ? run_pusher : run_recv;
        sides[i].context = r;
    }
    bench_rounds(sides, SIDES, bench_pick(11, 3));
    for (size_t i = 0; i < RECV_64K; i++)
        bench_row("loopback", sides[i].median / sides[RECV_64K].median, BENCH_AT_LEAST, 0.9,
                  "sent %s, %s, %.2f million messages/s; bare recv with 64 KiB %.2f million, "
                  "4 KiB %.2f",
                  how, i == TIGHT ? "polled in a tight loop" : "waiting between polls",
                  sides[i].median / 1e6, sides[RECV_64K].median / 1e6, sides[RECV_4K].median / 1e6);
    for (size_t i = 0; i < SIDES; i++) {
        pusher_destroy(readers[i].client);
        close(readers[i].peer);
        if (i >= RECV_64K) close(readers[i].fd);
    }
    return sides[WAITING].median;
}

static void measure_pusher_js(bench_bytes block, double ours)
{
    double rates[3];
    const char *reason;
    for (size_t i = 0; i < 3; i++) {
        rates[i] = run_pusher_js(block, bench_pick(400, 100), &reason);
        if (rates[i] <= 0) {
            bench_say("loopback", "pusher-js skipped: %s", reason);
            return;
        }
    }
    bench_row("loopback", ours / bench_median(rates, 3), BENCH_AT_LEAST, 50,
              "%.2f million messages/s; pusher-js %.3f million", ours / 1e6,
              bench_median(rates, 3) / 1e6);
}

int main(void)
{
    static bench_sender sender;
    bench_bytes block = bench_messages(BLOCK, CHANNELS);
    double rate;
    bench_sender_start(&sender, block);
    rate = measure(&sender, bench_pick(2000, 200), block.len, "64 KiB at a time");
    measure(&sender, bench_pick(400, 50), BENCH_FRAME, "one by one");
    bench_sender_stop(&sender);
    measure_pusher_js(block, rate);
    free(block.at);
    return 0;
}
