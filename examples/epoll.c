/*
 * epoll.c - a thousand clients in one thread, in the loop of a program that sleeps (Linux).
 *
 *     cc -I. -o epoll examples/epoll.c -lwslay -lmbedcrypto -lpthread
 *     ./epoll [--clients N] [--seconds S] [HOST [PORT [KEY [CHANNEL]]]]
 *                                   1000, until Ctrl-C: 127.0.0.1 6001 app-key chat
 *
 * The three questions an event loop asks after each poll of a client: pusher_fd(), what to watch;
 * pusher_wants(), for what; pusher_next_poll_ms(), by when to poll at the latest. With libuv, libev
 * or kqueue it is the same. Once a second it prints what happened, at the end what it cost.
 */
#if defined(__linux__)
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

struct member { /* one client and what the loop knows of it */
    pusher_client *client;
    intptr_t fd;           /* what epoll watches for it, or -1 */
    uint32_t watched;      /* and for what */
    uint64_t due_ms;       /* poll it then at the latest */
    size_t blocks, bytes;  /* of memory, now */
    struct totals *totals;
};

struct totals {
    uint64_t events, polls, wakeups;
    uint32_t connected, errors;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* ---- what the clients tell ------------------------------------------------------------------ */

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    struct totals *totals = ((struct member *)user_data)->totals;
    (void)client;
    if (now == PUSHER_CONNECTED) totals->connected++;
    if (before == PUSHER_CONNECTED) totals->connected--;
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    struct totals *totals = ((struct member *)user_data)->totals;
    (void)client;
    if (totals->errors++ == 0) printf("first error: %s\n", error->message);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    if (strncmp(event->name, "pusher:", 7) != 0) ((struct member *)user_data)->totals->events++;
}

/* Memory is counted for each client. The size stands in front of each block. */
typedef union block {
    size_t size;
    long double align;
} block;

static void *count_alloc(size_t size, void *user_data)
{
    struct member *m = (struct member *)user_data;
    block *b = size > SIZE_MAX - sizeof *b ? NULL : (block *)malloc(sizeof *b + size);
    if (b == NULL) return NULL;
    b->size = size;
    m->blocks++;
    m->bytes += size;
    return b + 1;
}

static void count_free(void *memory, void *user_data)
{
    struct member *m = (struct member *)user_data;
    block *b = (block *)memory - 1;
    m->blocks--;
    m->bytes -= b->size;
    free(b);
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* After each poll. A descriptor that is closed has left epoll by itself. */
static void ask(struct member *m, int epoll)
{
    intptr_t fd = pusher_fd(m->client);
    int wants = pusher_wants(m->client);
    struct epoll_event e = {0};
    e.data.ptr = m;
    if (wants & PUSHER_WANTS_READ) e.events |= EPOLLIN;
    if (wants & PUSHER_WANTS_WRITE) e.events |= EPOLLOUT;
    if (fd >= 0 && (fd != m->fd || e.events != m->watched)) {
        int what = fd == m->fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        if (epoll_ctl(epoll, what, (int)fd, &e) != 0) perror("epoll_ctl");
    }
    m->fd = fd;
    m->watched = e.events;
    m->due_ms = pusher_next_poll_ms(m->client);
}

static void serve(struct member *m, int epoll, uint64_t now_ms)
{
    pusher_poll(m->client, now_ms);
    m->totals->polls++;
    ask(m, epoll);
}

/* How long epoll may sleep: for some thousand clients a look at each is cheap enough. */
static int sleep_ms(const struct member *members, uint32_t count, uint64_t now_ms, uint64_t at_ms)
{
    for (uint32_t i = 0; i < count; i++)
        if (members[i].due_ms < at_ms) at_ms = members[i].due_ms;
    return at_ms > now_ms ? (int)(at_ms - now_ms) : 0;
}

static void run(struct member *members, uint32_t count, int epoll, uint32_t seconds)
{
    struct totals *totals = members[0].totals;
    struct epoll_event ready[256];
    uint64_t start = pusher_sockets_now_ms(), second = start + 1000, events = 0, now;
    uint32_t passed = 0;
    while (!stopped && (seconds == 0 || passed < seconds)) {
        now = pusher_sockets_now_ms();
        int n = epoll_wait(epoll, ready, 256, sleep_ms(members, count, now, second));
        totals->wakeups++;
        now = pusher_sockets_now_ms();
        for (int i = 0; i < n; i++) serve((struct member *)ready[i].data.ptr, epoll, now);
        for (uint32_t i = 0; i < count; i++)
            if (members[i].due_ms <= now) serve(&members[i], epoll, now);
        if (now < second) continue;
        printf("%4u s  %u of %u connected  %llu events  %u errors\n", (unsigned)++passed,
               (unsigned)totals->connected, (unsigned)count,
               (unsigned long long)(totals->events - events), (unsigned)totals->errors);
        fflush(stdout);
        events = totals->events;
        second += 1000;
    }
}

static void print_costs(const struct member *members, uint32_t count)
{
    const struct totals *totals = members[0].totals;
    size_t least = SIZE_MAX, most = 0, sum = 0, blocks = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (members[i].bytes < least) least = members[i].bytes;
        if (members[i].bytes > most) most = members[i].bytes;
        sum += members[i].bytes;
        blocks += members[i].blocks;
    }
    printf("%llu events in %llu polls and %llu wake-ups\n", (unsigned long long)totals->events,
           (unsigned long long)totals->polls, (unsigned long long)totals->wakeups);
    printf("memory of a client: %zu bytes in %zu blocks (least %zu, most %zu), and the 4 KiB that\n"
           "wslay takes by itself\n", sum / count, blocks / count, least, most);
}

/* ---- the program ---------------------------------------------------------------------------- */

static bool join(struct member *m, const pusher_options *common, const char *channel_name)
{
    pusher_options options = *common;
    pusher_error error;
    options.user_data = options.allocator.user_data = m;
    m->fd = -1;
    m->client = pusher_create(&options, &error);
    if (m->client == NULL) return fprintf(stderr, "epoll: %s\n", error.message), false;
    pusher_channel channel = pusher_subscribe(m->client, channel_name);
    pusher_bind_all(m->client, channel, on_event, m);
    pusher_connect(m->client);
    m->due_ms = pusher_next_poll_ms(m->client);
    if (channel.id == 0) fprintf(stderr, "epoll: %s\n", pusher_last_error(m->client)->message);
    return channel.id != 0;
}

/* A descriptor each, and a few for the program. */
static void raise_limit(uint32_t count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= count + 16) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < count + 16)
        fprintf(stderr, "epoll: only %lu descriptors allowed\n", (unsigned long)limit.rlim_cur);
}

static int usage(void)
{
    fputs("usage: epoll [--clients N] [--seconds S] [HOST [PORT [KEY [CHANNEL]]]]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint32_t count = 1000, seconds = 0, made = 0;
    struct totals totals = {0};
    pusher_options options = {0};
    while (argc > 2 && argv[1][0] == '-') {
        uint32_t number = (uint32_t)strtoul(argv[2], NULL, 10);
        if (strcmp(argv[1], "--clients") == 0) count = number;
        else if (strcmp(argv[1], "--seconds") == 0) seconds = number;
        else return usage();
        argc -= 2;
        argv += 2;
    }
    if (count == 0 || (argc > 1 && argv[1][0] == '-')) return usage();
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.allocator.alloc_fn = count_alloc;
    options.allocator.free_fn = count_free;
    raise_limit(count);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct member *members = (struct member *)calloc(count, sizeof *members);
    if (epoll < 0 || members == NULL) return fputs("epoll: no means\n", stderr), 1;
    signal(SIGINT, on_signal);
    bool ok = true;
    for (; ok && made < count; made++) {
        members[made].totals = &totals;
        ok = join(&members[made], &options, argc > 4 ? argv[4] : "chat");
    }
    if (ok) {
        run(members, count, epoll, seconds);
        print_costs(members, count);
    }
    for (uint32_t i = 0; i < made; i++) {
        if (members[i].client == NULL) continue;
        pusher_disconnect(members[i].client); /* a goodbye, sent by one more poll */
        pusher_poll(members[i].client, pusher_sockets_now_ms());
        pusher_destroy(members[i].client);
        ok = ok && members[i].blocks == 0;
    }
    free(members);
    return ok && totals.events > 0 ? 0 : 1;
}

#else
#include <stdio.h>

int main(void)
{
    fputs("epoll: this example is for Linux; kqueue and others ask the same three questions\n",
          stderr);
    return 2;
}
#endif
