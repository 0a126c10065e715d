/*
 * own_transport.c - without PUSHER_SOCKETS: how to bring pusher.h to another system.
 *
 *     cc -I. -o own_transport examples/own_transport.c -lwslay -lmbedcrypto
 *     ./own_transport [ADDRESS [PORT [KEY [CHANNEL [SECONDS]]]]]
 *                                       default: 127.0.0.1 6001 app-key chat 10
 *
 * Everything that touches the operating system is in this file, written for BSD sockets: a byte
 * stream, randomness, a clock and memory out of one fixed block. PORT: marks what a console, an
 * RTOS or a TLS library would do instead. RULE: marks what pusher.h relies on.
 */
#define _DEFAULT_SOURCE 1 /* POSIX for this file even with -std=c99; pusher.h needs none */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: set SO_NOSIGPIPE on the socket instead */
#endif

/* ---- the byte stream ------------------------------------------------------------------------ */

struct stream {
    bool open;
    int fd;
    int error; /* errno of what went wrong, or 0 */
    bool bad_address;
};

/* RULE: a client has one stream at a time, so one static slot per client is enough. With
   options.auth.endpoint, which this program does not use, it has a second one beside it. */
static struct stream the_stream;

/* RULE: no hook may block. Start connecting and return; ready_fn will be asked how it goes. NULL
   says "failed"; a stream that fails in ready_fn can also say why.
   PORT: lwIP has tcp_connect() or lwip_connect() on a non-blocking socket; a name would be looked
   up here in the background, and ready_fn would say WANT_READ until it is known. A TLS library
   starts its session here on top of such a stream, given the host name to check. */
static void *stream_open(const char *host, uint16_t port, void *user_data)
{
    struct stream *s = (struct stream *)user_data;
    struct sockaddr_in address;
    if (s->open) return NULL;
    memset(s, 0, sizeof *s);
    s->fd = -1;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        s->bad_address = true; /* only numeric addresses here, to stay small */
    } else {
        s->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (s->fd < 0 || fcntl(s->fd, F_SETFL, O_NONBLOCK) != 0) {
            s->error = errno;
        } else if (connect(s->fd, (const struct sockaddr *)&address, sizeof address) != 0 &&
                   errno != EINPROGRESS) {
            s->error = errno;
        }
    }
    s->open = true;
    return s;
}

/* RULE: called at each poll until it says yes or an error. pusher.h keeps the deadline; here no
   timer is needed. PORT: a TLS library makes one step of its handshake here, and no more. */
static int stream_ready(void *stream)
{
    struct stream *s = (struct stream *)stream;
    struct pollfd waiting;
    socklen_t len = sizeof s->error;
    if (s->bad_address) return PUSHER_IO_ERROR_RESOLVE;
    if (s->error != 0) return PUSHER_IO_ERROR;
    waiting.fd = s->fd;
    waiting.events = POLLOUT;
    waiting.revents = 0;
    if (poll(&waiting, 1, 0) <= 0) return PUSHER_IO_WANT_WRITE;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &s->error, &len) != 0) s->error = errno;
    return s->error == 0 ? 1 : PUSHER_IO_ERROR;
}

/* RULE: "nothing now" is WANT_..., and only an end is EOF or ERROR. An interrupted call (EINTR) is
   a "nothing now" too: the next poll asks again. PORT: a TLS library may need to write before it
   can read: it says WANT_WRITE here and means it. */
static int stream_result(struct stream *s, ssize_t count, int want)
{
    if (count >= 0) return (int)count; /* lengths are bounded by the limits in pusher_options */
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return want;
    s->error = errno;
    return PUSHER_IO_ERROR;
}

static int stream_recv(void *stream, void *buf, size_t len)
{
    struct stream *s = (struct stream *)stream;
    return stream_result(s, recv(s->fd, buf, len, 0), PUSHER_IO_WANT_READ);
}

/* RULE: taking fewer bytes than offered is fine. After WANT_... the same buffer and length are
   offered again, which is what TLS libraries ask for. A lost connection must not raise a signal. */
static int stream_send(void *stream, const void *buf, size_t len)
{
    struct stream *s = (struct stream *)stream;
    return stream_result(s, send(s->fd, buf, len, MSG_NOSIGNAL), PUSHER_IO_WANT_WRITE);
}

/* RULE: called exactly once for each stream that open_fn gave, also for one that failed, and
   nothing is called on it afterwards. */
static void stream_close(void *stream)
{
    struct stream *s = (struct stream *)stream;
    if (s->fd >= 0) close(s->fd);
    s->open = false;
}

/* RULE: optional; the text becomes part of the sentence given to error_fn. Without it an error
   says only which step failed. */
static const char *stream_error(void *stream)
{
    const struct stream *s = (const struct stream *)stream;
    if (s->bad_address) return "this program takes numeric IPv4 addresses only";
    return s->error != 0 ? strerror(s->error) : NULL;
}

/* RULE: optional; for event loops. Whatever the loop waits on, or -1. */
static intptr_t stream_fd(void *stream)
{
    const struct stream *s = (const struct stream *)stream;
    return s->fd;
}

/* ---- randomness and time -------------------------------------------------------------------- */

/* RULE: unpredictable bytes or false; never something weaker. A client whose random source fails
   ends its connection instead of guessing. PORT: the hardware's generator, getrandom(),
   BCryptGenRandom(), or mbedtls_ctr_drbg_random() seeded from true entropy. */
static bool random_fill(void *buf, size_t len, void *user_data)
{
    return fread(buf, 1, len, (FILE *)user_data) == len;
}

/* RULE: milliseconds that do not run backwards; where they start does not matter.
   PORT: a 32-bit tick counter overflows after 49 days: count its overflows into 64 bits. */
static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* ---- memory out of one fixed block ---------------------------------------------------------- */

/* The block is a row of pieces, each headed by a cell that tells its length: first fit, and
   neighbours that are both free become one. Slow for thousands of pieces, fine for a client's
   few dozen, which it takes at create, subscribe and bind and not while events flow. Only wslay's
   block of about 4 KiB a connection comes from malloc. */
typedef union cell {
    struct {
        size_t cells; /* of this piece, this one included */
        bool used;
    } head;
    long double strictest; /* RULE: memory is aligned for any type, as malloc's is */
    void *pointer;
} cell;

#define ARENA_BYTES (32u * 1024u)
#define ARENA_CELLS (ARENA_BYTES / sizeof(cell))

struct arena {
    cell cells[ARENA_CELLS];
    size_t used, peak; /* in cells, heads included */
    size_t reached;    /* the highest cell ever in use: how small the block could be */
    unsigned refused;
};

static struct arena the_arena;

static void arena_init(struct arena *a)
{
    memset(a, 0, sizeof *a);
    a->cells[0].head.cells = ARENA_CELLS;
}

/* RULE: NULL when there is nothing to give: the call that wanted it then fails by name, and the
   client stays usable. */
static void *arena_alloc(size_t size, void *user_data)
{
    struct arena *a = (struct arena *)user_data;
    size_t i = 0, next, need;
    if (size > ARENA_BYTES) return a->refused++, (void *)NULL;
    need = 1 + (size + sizeof(cell) - 1) / sizeof(cell);
    for (; i < ARENA_CELLS; i += a->cells[i].head.cells) {
        cell *piece = &a->cells[i];
        if (piece->head.used) continue;
        for (next = i + piece->head.cells; next < ARENA_CELLS && !a->cells[next].head.used;
             next = i + piece->head.cells)
            piece->head.cells += a->cells[next].head.cells;
        if (piece->head.cells < need) continue;
        if (piece->head.cells > need) {
            a->cells[i + need].head.cells = piece->head.cells - need;
            a->cells[i + need].head.used = false;
            piece->head.cells = need;
        }
        piece->head.used = true;
        a->used += need;
        if (a->used > a->peak) a->peak = a->used;
        if (i + need > a->reached) a->reached = i + need;
        return piece + 1;
    }
    a->refused++;
    return NULL;
}

static void arena_free(void *memory, void *user_data)
{
    struct arena *a = (struct arena *)user_data;
    cell *piece;
    if (memory == NULL) return;
    piece = (cell *)memory - 1;
    piece->head.used = false;
    a->used -= piece->head.cells;
}

/* ---- the program ---------------------------------------------------------------------------- */

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    printf("%s %s %s\n", event->channel_name, event->name, event->data);
}

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    (void)client, (void)user_data;
    printf("state: %s -> %s\n", pusher_state_name(before), pusher_state_name(now));
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    printf("error: %s\n", error->message);
}

/* Sleep until the client has something to do. A frame loop needs nothing of this: it polls. */
static void wait_for_work(const pusher_client *client, uint64_t end_ms)
{
    struct pollfd waiting;
    uint64_t now_ms = clock_ms(), due_ms = pusher_next_poll_ms(client);
    int wants = pusher_wants(client);
    if (due_ms > end_ms) due_ms = end_ms;
    if (due_ms <= now_ms) return;
    if (due_ms - now_ms > 1000) due_ms = now_ms + 1000;
    waiting.fd = (int)pusher_fd(client); /* poll() passes over a descriptor of -1 */
    waiting.events = 0;
    waiting.revents = 0;
    if (wants & PUSHER_WANTS_READ) waiting.events |= POLLIN;
    if (wants & PUSHER_WANTS_WRITE) waiting.events |= POLLOUT;
    poll(&waiting, 1, (int)(due_ms - now_ms));
}

static void run(pusher_client *client, uint64_t end_ms)
{
    while (clock_ms() < end_ms) {
        pusher_poll(client, clock_ms());
        fflush(stdout);
        wait_for_work(client, end_ms);
    }
}

int main(int argc, char **argv)
{
    pusher_options options = {0};
    pusher_error error;
    pusher_client *client;
    pusher_channel channel;
    size_t idle;
    FILE *urandom = fopen("/dev/urandom", "rb");
    if (urandom == NULL) return perror("own_transport: /dev/urandom"), 1;
    arena_init(&the_arena);

    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    options.state_fn = on_state;
    options.error_fn = on_error;

    options.transport.open_fn = stream_open;
    options.transport.ready_fn = stream_ready;
    options.transport.recv_fn = stream_recv;
    options.transport.send_fn = stream_send;
    options.transport.close_fn = stream_close;
    options.transport.error_fn = stream_error;
    options.transport.fd_fn = stream_fd;
    options.transport.user_data = &the_stream;
    options.random.fill_fn = random_fill;
    options.random.user_data = urandom;
    options.allocator.alloc_fn = arena_alloc;
    options.allocator.free_fn = arena_free;
    options.allocator.user_data = &the_arena;

    /* Limits decide how large the block must be. A message over the first one is refused by
       closing the connection, so it is the largest the application ever sends, and then some. */
    options.max_message_bytes = 4096;
    options.max_output_bytes = 1024;
    options.max_poll_bytes = 2048;

    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "own_transport: %s\n", error.message), 1;
    channel = pusher_subscribe(client, argc > 4 ? argv[4] : "chat");
    if (channel.id == 0) {
        fprintf(stderr, "own_transport: %s\n", pusher_last_error(client)->message);
        pusher_destroy(client);
        return 1;
    }
    pusher_bind_all(client, channel, on_event, NULL);
    idle = the_arena.used;
    pusher_connect(client);
    run(client, clock_ms() + 1000u * (argc > 5 ? strtoul(argv[5], NULL, 10) : 10u));

    pusher_disconnect(client); /* a goodbye, sent by one more poll */
    pusher_poll(client, clock_ms());
    pusher_destroy(client);
    fclose(urandom);
    printf("memory: %lu bytes before connecting, %lu at most; a block of %lu would have done, "
           "of %lu\n",
           (unsigned long)(idle * sizeof(cell)), (unsigned long)(the_arena.peak * sizeof(cell)),
           (unsigned long)(the_arena.reached * sizeof(cell)),
           (unsigned long)(ARENA_CELLS * sizeof(cell)));
    printf("        %lu still in use, %u requests refused\n",
           (unsigned long)(the_arena.used * sizeof(cell)), the_arena.refused);
    return the_arena.used != 0; /* RULE, the other way round: destroy gives everything back */
}
