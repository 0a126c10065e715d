/*
 * connect.c - polls while a connection is being made over the library's own sockets: with a name
 * server that sleeps for two seconds, and with a name of two addresses of which the first is dead.
 *
 * The name server is a stand-in for getaddrinfo(). The dead address is a port whose queue of
 * connections is full, so that nobody answers there.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list);
static void stand_in_freeaddrinfo(struct addrinfo *list);

#define getaddrinfo stand_in_getaddrinfo
#define freeaddrinfo stand_in_freeaddrinfo
#define PUSHER_SOCKETS
#include "bench.h"
#undef getaddrinfo
#undef freeaddrinfo
#include "net.h"

enum { SLEEP_S = 2 };

static struct {
    bool sleeps;   /* for SLEEP_S seconds                        */
    uint16_t dead; /* of the first address, where nobody answers */
    struct sockaddr_in address[2];
    struct addrinfo list[2];
} world;

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list)
{
    (void)host;
    if (hints->ai_flags & AI_NUMERICHOST) return EAI_NONAME;
    if (world.sleeps) sleep(SLEEP_S);
    for (size_t i = 0; i < 2; i++) {
        world.address[i].sin_family = AF_INET;
        world.address[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        world.address[i].sin_port = htons(i == 0 && world.dead ? world.dead : (uint16_t)atoi(port));
        memset(&world.list[i], 0, sizeof world.list[i]);
        world.list[i].ai_family = AF_INET;
        world.list[i].ai_socktype = SOCK_STREAM;
        world.list[i].ai_addr = (struct sockaddr *)&world.address[i];
        world.list[i].ai_addrlen = sizeof world.address[i];
    }
    world.list[0].ai_next = &world.list[1];
    *list = world.list;
    return 0;
}

static void stand_in_freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

/* A listening port that answers nobody any more. */
static uint16_t dead_port(void)
{
    uint16_t port;
    int listener = bench_listen(&port);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (listen(listener, 0) != 0) bench_die("listen: %s", strerror(errno));
    for (int i = 0; i < 8; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
            bench_die("connect: %s", strerror(errno));
    }
    return port; /* all of them stay open */
}

typedef struct attempt {
    double total_ms;
    double *took_ns;
    size_t polls;
} attempt;

/* From pusher_connect() to connected, polled each millisecond. */
static void run_attempt(attempt *a, size_t most)
{
    bench_server server;
    pusher_options options;
    uint16_t port;
    int listener = bench_listen(&port), peer = -1;
    pusher_client *client;
    uint64_t start = bench_ns();
    memset(&server, 0, sizeof server);
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = "bench.invalid";
    options.port = port;
    client = bench_create(&options);
    pusher_connect(client);
    a->polls = 0;
    while (pusher_get_state(client) != PUSHER_CONNECTED) {
        uint64_t now = bench_ns();
        pusher_poll(client, pusher_sockets_now_ms());
        if (a->polls < most) a->took_ns[a->polls++] = (double)(bench_ns() - now);
        if (peer < 0 && bench_readable(listener, 1)) peer = bench_accept(listener);
        if (peer >= 0 && !bench_answer(&server, peer, 1)) bench_die("the client hung up");
        if (bench_ns() - start > (uint64_t)20 * 1000000000) bench_die("no connection in 20 s");
    }
    a->total_ms = (double)(bench_ns() - start) / 1e6;
    pusher_destroy(client);
    close(listener);
    close(peer);
    free(server.in.at);
    free(server.out.at);
}

static void measure(const char *what, double goal_ms)
{
    enum { MOST = 1 << 16, ROUNDS = 3 };
    attempt a;
    double worst[ROUNDS], median = 0;
    a.took_ns = (double *)bench_alloc(MOST * sizeof *a.took_ns);
    for (size_t round = 0; round < ROUNDS; round++) {
        run_attempt(&a, MOST);
        qsort(a.took_ns, a.polls, sizeof *a.took_ns, bench_order);
        worst[round] = a.took_ns[a.polls - 1] / 1e6;
        median = a.took_ns[a.polls / 2] / 1e3;
    }
    bench_row("connect", bench_median(worst, ROUNDS), BENCH_AT_MOST, goal_ms,
              "%s: connected after %.0f ms and %zu polls, their median %.1f us, the worst %.3f ms; "
              "to one ms", what, a.total_ms, a.polls, median, bench_median(worst, ROUNDS));
    free(a.took_ns);
}

int main(void)
{
    measure("both addresses answer", 1);
    world.dead = dead_port();
    measure("the first of two addresses is dead", 1);
    world.dead = 0;
    world.sleeps = true;
    measure("a name server that sleeps for 2 s", 1);
    return 0;
}
