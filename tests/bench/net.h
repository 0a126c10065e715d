/*
 * net.h - for benchmarks over the loopback interface: the other end of the sockets.
 *
 * Setting up is done by one thread: the server is stepped between the client's polls. A flood comes
 * from a thread of its own (bench_sender), so that sender and receiver work at the same time.
 * Define PUSHER_SOCKETS before including it.
 */
#ifndef TESTS_BENCH_NET_H
#define TESTS_BENCH_NET_H

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- sockets ------------------------------------------------------------------------------- */

static inline int bench_listen(uint16_t *port)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 8) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        bench_die("no listening socket: %s", strerror(errno));
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int bench_accept(int listener)
{
    int on = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) bench_die("accept: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* A plain connection: the client's end is returned, the other one stored. */
static inline int bench_connection(int *peer)
{
    struct sockaddr_in address;
    uint16_t port;
    int listener = bench_listen(&port), fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        bench_die("connect: %s", strerror(errno));
    *peer = bench_accept(listener);
    close(listener);
    return fd;
}

static inline bool bench_readable(int fd, int timeout_ms)
{
    struct pollfd waits = {fd, POLLIN, 0};
    return poll(&waits, 1, timeout_ms) > 0;
}

static inline void bench_send_all(int fd, const unsigned char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent < 0) bench_die("send: %s", strerror(errno));
        data += sent;
        len -= (size_t)sent;
    }
}

/* ---- a client and its server --------------------------------------------------------------- */

/* Reads what has come within the time and answers it. False: the client has gone. */
static inline bool bench_answer(bench_server *server, int peer, int timeout_ms)
{
    unsigned char buf[4096];
    ssize_t got;
    if (!bench_readable(peer, timeout_ms)) return true;
    got = recv(peer, buf, sizeof buf, 0);
    if (got <= 0) return false;
    bench_server_eat(server, buf, (size_t)got);
    bench_send_all(peer, server->out.at, server->out.len);
    server->out.len = 0;
    return true;
}

/* A connected client of the library's own sockets, subscribed to so many channels. */
static inline pusher_client *bench_net_client(pusher_options options, size_t channels,
                                              bench_count *count, int *peer)
{
    bench_server server;
    char last[BENCH_NAME];
    uint16_t port;
    int listener = bench_listen(&port);
    pusher_client *client;
    memset(&server, 0, sizeof server);
    options.key = "app-key";
    options.host = "127.0.0.1";
    options.port = port;
    client = bench_create(&options);
    bench_subscribe_all(client, channels, count);
    bench_channel_name(last, channels - 1);
    if (pusher_connect(client) != PUSHER_OK)
        bench_die("pusher_connect: %s", pusher_last_error(client)->message);
    *peer = -1;
    for (int polls = 0; polls < 100000; polls++) {
        pusher_poll(client, pusher_sockets_now_ms());
        if (*peer < 0 && bench_readable(listener, 1)) *peer = bench_accept(listener);
        if (*peer >= 0 && !bench_answer(&server, *peer, 1))
            bench_die("the client hung up: %s", pusher_last_error(client)->message);
        if (pusher_channel_state(client, pusher_find_channel(client, last)) == PUSHER_SUBSCRIBED) {
            free(server.in.at);
            free(server.out.at);
            close(listener);
            return client;
        }
    }
    bench_die("the client does not connect: %s", pusher_last_error(client)->message);
    return NULL;
}

/* ---- a thread that sends ------------------------------------------------------------------- */

typedef struct bench_sender {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bench_bytes block;
    int peer;
    size_t times; /* how often the block is still to be sent; 0 = at rest */
    size_t piece; /* bytes in one send()                                  */
    bool stop;
} bench_sender;

static inline void *bench_sender_main(void *context)
{
    bench_sender *sender = (bench_sender *)context;
    pthread_mutex_lock(&sender->lock);
    while (!sender->stop) {
        size_t times = sender->times, len = sender->block.len, piece = sender->piece;
        if (times == 0) {
            pthread_cond_wait(&sender->changed, &sender->lock);
            continue;
        }
        pthread_mutex_unlock(&sender->lock);
        for (size_t i = 0; i < times; i++)
            for (size_t at = 0; at < len; at += piece)
                bench_send_all(sender->peer, sender->block.at + at,
                               len - at < piece ? len - at : piece);
        pthread_mutex_lock(&sender->lock);
        sender->times = 0;
        pthread_cond_broadcast(&sender->changed);
    }
    pthread_mutex_unlock(&sender->lock);
    return NULL;
}

static inline void bench_sender_start(bench_sender *sender, bench_bytes block)
{
    memset(sender, 0, sizeof *sender);
    sender->block = block;
    pthread_mutex_init(&sender->lock, NULL);
    pthread_cond_init(&sender->changed, NULL);
    if (pthread_create(&sender->thread, NULL, bench_sender_main, sender) != 0)
        bench_die("no thread");
}

/* Starts sending the block to peer, so many times and with so many bytes in one send(), after what
   was asked for before has been sent. */
static inline void bench_flood(bench_sender *sender, int peer, size_t times, size_t piece)
{
    pthread_mutex_lock(&sender->lock);
    while (sender->times > 0)
        pthread_cond_wait(&sender->changed, &sender->lock);
    sender->peer = peer;
    sender->times = times;
    sender->piece = piece;
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

static inline void bench_sender_stop(bench_sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    sender->stop = true;
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
    pthread_join(sender->thread, NULL);
}

#endif /* TESTS_BENCH_NET_H */
