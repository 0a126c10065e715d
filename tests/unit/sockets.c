/* The sockets room, on real sockets of this machine. What a test cannot ask of the system (a name
   server that sleeps, memory that runs out) it gets from stand-ins of a few functions. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list);
static void stand_in_freeaddrinfo(struct addrinfo *list);
static int stand_in_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                           void *argument);
static int stand_in_mutex(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
static int stand_in_attr(pthread_attr_t *attr);
static void *stand_in_malloc(size_t size);
static int stand_in_socket(int family, int type, int protocol);
static int stand_in_connect(int fd, const struct sockaddr *address, socklen_t len);
static int stand_in_close(int fd);

#define getaddrinfo stand_in_getaddrinfo
#define freeaddrinfo stand_in_freeaddrinfo
#define pthread_create stand_in_thread
#define pthread_mutex_init stand_in_mutex
#define pthread_attr_init stand_in_attr
#define malloc(size) stand_in_malloc(size)
#define socket stand_in_socket
#define connect stand_in_connect
#define close stand_in_close
#define PUSHER_SOCKETS
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
#undef getaddrinfo
#undef freeaddrinfo
#undef pthread_create
#undef pthread_mutex_init
#undef pthread_attr_init
#undef malloc
#undef socket
#undef connect
#undef close

#include "fake.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof *(array))

/* ---- stand-ins ------------------------------------------------------------------------------ */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool own_answer;              /* names get `error` or `list`, not the system's answer */
    bool held;                    /* and not before this is false */
    int error;
    struct addrinfo *list;
    int asked, answered, freed;   /* look-ups of names; lists given back */
    int fails_at;                 /* this call of malloc, mutex, attr or thread fails */
    int calls;
    int opened, closed;           /* descriptors of the library */
    int twice;                    /* closes of what was closed */
    int connect_error;            /* connect() fails with it at once; see stand_in_connect() */
    uint16_t unreachable;         /* but for EINTR: on this port only */
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list)
{
    if (hints->ai_flags & AI_NUMERICHOST) return getaddrinfo(host, port, hints, list);
    pthread_mutex_lock(&world.lock);
    world.asked++;
    pthread_cond_broadcast(&world.moved);
    while (world.held) pthread_cond_wait(&world.moved, &world.lock);
    const bool own = world.own_answer;
    int error = world.error;
    if (own) *list = world.list;
    pthread_mutex_unlock(&world.lock);
    if (!own) error = getaddrinfo(host, port, hints, list);
    pthread_mutex_lock(&world.lock);
    world.answered++;
    pthread_cond_broadcast(&world.moved);
    pthread_mutex_unlock(&world.lock);
    return error;
}

static void stand_in_freeaddrinfo(struct addrinfo *list)
{
    assert_non_null(list);
    pthread_mutex_lock(&world.lock);
    const bool own = list == world.list;
    world.freed++;
    pthread_cond_broadcast(&world.moved);
    pthread_mutex_unlock(&world.lock);
    if (!own) freeaddrinfo(list);
}

static bool fails(void)
{
    return ++world.calls == world.fails_at;
}

static int stand_in_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                           void *argument)
{
    return fails() ? EAGAIN : pthread_create(thread, attr, run, argument);
}

static int stand_in_mutex(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    return fails() ? ENOMEM : pthread_mutex_init(mutex, attr);
}

static int stand_in_attr(pthread_attr_t *attr)
{
    return fails() ? ENOMEM : pthread_attr_init(attr);
}

static void *stand_in_malloc(size_t size)
{
    void *memory = fails() ? NULL : malloc(size);
    if (memory) memset(memory, 0xA5, size);
    return memory;
}

static int stand_in_socket(int family, int type, int protocol)
{
    int fd = socket(family, type, protocol);
    if (fd >= 0) world.opened++;
    return fd;
}

/* EISCONN here means: it is connected before connect() returns. */
static int stand_in_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    struct sockaddr_in v4;
    memset(&v4, 0, sizeof v4);
    if (address->sa_family == AF_INET) memcpy(&v4, address, sizeof v4);
    if (world.connect_error && ntohs(v4.sin_port) == world.unreachable) {
        errno = world.connect_error;
        return -1;
    }
    int result = connect(fd, address, len);
    struct pollfd wait = {fd, POLLOUT, 0};
    if (world.connect_error != EINTR && world.connect_error != EISCONN) return result;
    (void)poll(&wait, 1, 20000);
    errno = EINTR;
    return world.connect_error == EINTR ? -1 : 0;
}

static int stand_in_close(int fd)
{
    world.closed++;
    if (fcntl(fd, F_GETFD) < 0) world.twice++;
    return close(fd);
}

static int begin(void **state)
{
    (void)state;
    world.own_answer = world.held = false;
    world.error = world.asked = world.answered = world.freed = 0;
    world.list = NULL;
    world.connect_error = world.unreachable = 0;
    world.fails_at = world.calls = world.opened = world.closed = world.twice = 0;
    return 0;
}

/* Whatever a test did: each descriptor was closed, and once. */
static int finish(void **state)
{
    (void)state;
    if (world.opened != world.closed || world.twice)
        print_error("%d opened, %d closed, %d twice\n", world.opened, world.closed, world.twice);
    return world.opened != world.closed || world.twice;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void sleep_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

/* Waits until the counter has come to `value`. */
static void wait_for(const int *counter, int value)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 90; /* as long as a resolver without a network may take */
    pthread_mutex_lock(&world.lock);
    int failed = 0;
    while (*counter < value && !failed)
        failed = pthread_cond_timedwait(&world.moved, &world.lock, &until);
    pthread_mutex_unlock(&world.lock);
    assert_int_equal(failed, 0);
}

static void let_go(void)
{
    pthread_mutex_lock(&world.lock);
    world.held = false;
    pthread_cond_broadcast(&world.moved);
    pthread_mutex_unlock(&world.lock);
}

/* ---- a server ------------------------------------------------------------------------------- */

/* Any address of a family with its length. */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
    socklen_t len;
};

static struct address loopback(int family, uint16_t port)
{
    struct address address;
    memset(&address, 0, sizeof address);
    if (family == AF_INET) {
        address.at.v4.sin_family = AF_INET;
        address.at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.at.v4.sin_port = htons(port);
        address.len = sizeof address.at.v4;
    } else {
        address.at.v6.sin6_family = AF_INET6;
        address.at.v6.sin6_addr = in6addr_loopback;
        address.at.v6.sin6_port = htons(port);
        address.len = sizeof address.at.v6;
    }
    return address;
}

/* A listening socket and its port, or -1 when the machine has no such address. */
static int listen_on(int family, uint16_t *port)
{
    struct address address = loopback(family, 0);
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    if (bind(fd, &address.at.any, address.len) != 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, &address.at.any, &address.len), 0);
    *port = ntohs(family == AF_INET ? address.at.v4.sin_port : address.at.v6.sin6_port);
    return fd;
}

/* A port on which nobody listens: bound, so that nobody else gets it. */
static int closed_port(uint16_t *port)
{
    struct address address = loopback(AF_INET, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &address.at.any, address.len), 0);
    assert_int_equal(getsockname(fd, &address.at.any, &address.len), 0);
    *port = ntohs(address.at.v4.sin_port);
    return fd;
}

static int accept_one(int listener)
{
    struct pollfd wait = {listener, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, 20000), 1);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

/* Asks until there is an answer, and not for ever. */
static int ready(void *stream, int limit_ms)
{
    uint64_t end = now_ms() + (uint64_t)limit_ms;
    for (;;) {
        int result = psh_sockets_ready(stream);
        if (result != PUSHER_IO_WANT_READ && result != PUSHER_IO_WANT_WRITE) return result;
        if (now_ms() >= end) return result;
        sleep_ms(1);
    }
}

static void *open_to(const char *host, uint16_t port)
{
    void *stream = psh_sockets_open(host, port, NULL);
    assert_non_null(stream);
    return stream;
}

/* A connected stream to 127.0.0.1 and the server's side of it. */
static void *connected(int *server)
{
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    assert_true(listener >= 0);
    void *stream = open_to("127.0.0.1", port);
    assert_int_equal(ready(stream, 20000), 1);
    *server = accept_one(listener);
    close(listener);
    return stream;
}

static int recv_some(void *stream, void *buf, size_t len)
{
    for (int i = 0; i < 20000; i++) {
        int got = psh_sockets_recv(stream, buf, len);
        if (got != PUSHER_IO_WANT_READ) return got;
        sleep_ms(1);
    }
    return PUSHER_IO_WANT_READ;
}

static void exchange(void *stream, int server)
{
    char buf[16];
    assert_int_equal(psh_sockets_recv(stream, buf, sizeof buf), PUSHER_IO_WANT_READ);
    assert_int_equal(psh_sockets_send(stream, "ping", 4), 4);
    assert_int_equal(recv(server, buf, sizeof buf, 0), 4);
    assert_memory_equal(buf, "ping", 4);
    assert_int_equal(send(server, "pong!", 5, 0), 5);
    assert_int_equal(recv_some(stream, buf, 3), 3);
    assert_memory_equal(buf, "pon", 3);
    assert_int_equal(recv_some(stream, buf, sizeof buf), 2);
    assert_memory_equal(buf, "g!", 2);
}

/* ---- connecting ----------------------------------------------------------------------------- */

static void connects_to(int family, const char *host, bool by_thread)
{
    uint16_t port;
    int listener = listen_on(family, &port);
    if (listener < 0) {
        print_message("not tried: this machine has no %s\n", host);
        return;
    }
    void *stream = open_to(host, port);
    assert_int_equal(ready(stream, 20000), 1);
    assert_int_equal(world.asked, by_thread);
    assert_null(psh_sockets_error(stream));
    int server = accept_one(listener);
    exchange(stream, server);
    psh_sockets_close(stream);
    char byte;
    assert_int_equal(recv(server, &byte, 1, 0), 0); /* and the other side sees the end */
    close(server);
    close(listener);
}

static void a_numeric_address_needs_no_thread(void **state)
{
    (void)state;
    connects_to(AF_INET, "127.0.0.1", false);
    connects_to(AF_INET6, "::1", false);
}

static void a_name_is_looked_up_on_a_thread(void **state)
{
    (void)state;
    connects_to(AF_INET, "localhost", true);
}

static void sockets_have_the_options_they_need(void **state)
{
    (void)state;
    int server, on = 0;
    socklen_t len = sizeof on;
    void *stream = connected(&server);
    int fd = (int)psh_sockets_fd(stream);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    assert_int_not_equal(on, 0);
    psh_sockets_close(stream);
    close(server);
}

static void a_refused_port_says_so(void **state)
{
    (void)state;
    uint16_t port;
    int holder = closed_port(&port);
    void *stream = open_to("127.0.0.1", port);
    assert_int_equal(ready(stream, 20000), PUSHER_IO_ERROR);
    assert_string_equal(psh_sockets_error(stream), "connection refused");
    psh_sockets_close(stream);
    close(holder);
}

/* Without a network the system may take its time: then the attempt is simply given up. */
static void a_host_that_cannot_be_has_no_address(void **state)
{
    (void)state;
    void *stream = open_to("no-such-host.invalid", 80);
    int result = ready(stream, 3000);
    if (result != PUSHER_IO_WANT_READ) {
        assert_int_equal(result, PUSHER_IO_ERROR_RESOLVE);
        assert_non_null(psh_sockets_error(stream));
    }
    psh_sockets_close(stream);
    wait_for(&world.answered, 1);
    assert_int_equal(world.opened, 0);
}

static void what_the_name_server_says_is_told(void **state)
{
    (void)state;
    static const struct { int error; const char *text; } answers[] = {
        {EAI_NONAME, "unknown host"}, {EAI_FAIL, "unknown host"},
        {EAI_AGAIN, "the name server does not answer"}, {0, "unknown host"}, /* an empty list */
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        world.own_answer = true;
        world.error = answers[i].error;
        void *stream = open_to("name", 80);
        assert_int_equal(ready(stream, 20000), PUSHER_IO_ERROR_RESOLVE);
        assert_string_equal(psh_sockets_error(stream), answers[i].text);
        assert_int_equal(psh_sockets_fd(stream), -1);
        psh_sockets_close(stream);
    }
    assert_int_equal(world.freed, 0);
}

/* ---- several addresses ---------------------------------------------------------------------- */

struct choice {
    struct addrinfo info;
    struct address address;
};

static void add_choice(struct choice *choices, size_t index, int family, uint16_t port)
{
    struct choice *choice = &choices[index];
    memset(choice, 0, sizeof *choice);
    choice->address = loopback(family == AF_INET6 ? AF_INET6 : AF_INET, port);
    choice->info.ai_family = family;
    choice->info.ai_socktype = SOCK_STREAM;
    choice->info.ai_addr = &choice->address.at.any;
    choice->info.ai_addrlen = choice->address.len;
    if (index > 0) choices[index - 1].info.ai_next = &choice->info;
}

enum { NO_FAMILY = 250 };

enum { UNREACHABLE = 9 };

/* r: refused, u: unreachable, n: a family that the machine has not, g: good. */
static void tries(const char *kinds, int want, const char *error)
{
    struct choice choices[4];
    uint16_t good, refused;
    int listener = listen_on(AF_INET, &good), holder = closed_port(&refused), server = -1;
    size_t count = strlen(kinds);
    for (size_t i = 0; i < count; i++) {
        uint16_t port = kinds[i] == 'g' ? good : kinds[i] == 'u' ? UNREACHABLE : refused;
        add_choice(choices, i, kinds[i] == 'n' ? NO_FAMILY : AF_INET, port);
    }
    world.own_answer = true;
    world.list = &choices[0].info;
    world.freed = 0;
    void *stream = open_to("name", 80);
    assert_int_equal(ready(stream, 20000), want);
    if (want == 1) {
        server = accept_one(listener);
        exchange(stream, server);
        close(server);
    } else {
        assert_string_equal(psh_sockets_error(stream), error);
    }
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
    assert_int_equal(world.freed, 1);
    assert_int_equal(world.opened, world.closed);
    close(holder);
    close(listener);
}

static void the_next_address_is_tried(void **state)
{
    (void)state;
    tries("g", 1, NULL);
    tries("rg", 1, NULL);
    tries("rrrg", 1, NULL);
    tries("ng", 1, NULL);
    tries("nrng", 1, NULL);
    tries("gr", 1, NULL);
    tries("rr", PUSHER_IO_ERROR, "connection refused");
    tries("nr", PUSHER_IO_ERROR, "connection refused");
    tries("n", PUSHER_IO_ERROR, "socket error");
    tries("rn", PUSHER_IO_ERROR, "socket error");
    world.connect_error = ENETUNREACH;
    world.unreachable = UNREACHABLE;
    tries("ug", 1, NULL);
    tries("rug", 1, NULL);
    tries("u", PUSHER_IO_ERROR, "network unreachable");
    tries("uur", PUSHER_IO_ERROR, "connection refused");
    tries("ru", PUSHER_IO_ERROR, "network unreachable");
}

/* At once, or interrupted while it goes on by itself. */
static void connect_may_say_it_in_other_ways(void **state)
{
    (void)state;
    world.connect_error = EISCONN;
    tries("g", 1, NULL);
    world.connect_error = EINTR;
    tries("g", 1, NULL);
    tries("rg", 1, NULL);
}

/* A server too busy to accept: the connection is on its way, and can be given up there. */
static void a_connection_may_take_its_time(void **state)
{
    (void)state;
    enum { MANY = 8 };
    void *streams[MANY];
    uint16_t port;
    int listener = listen_on(AF_INET, &port), waiting = 0, count = 0;
    assert_int_equal(listen(listener, 0), 0);
    for (; count < MANY && !waiting; count++) {
        streams[count] = open_to("127.0.0.1", port);
        int result = ready(streams[count], 100);
        waiting = result == PUSHER_IO_WANT_WRITE;
        if (!waiting) assert_int_equal(result, 1);
        assert_true(psh_sockets_fd(streams[count]) >= 0);
    }
#if defined(__linux__)
    assert_true(waiting);
#endif
    while (count > 0) psh_sockets_close(streams[--count]);
    close(listener);
}

/* localhost is both, the server is on one. */
static void the_other_family_is_tried(void **state)
{
    (void)state;
    struct choice choices[2];
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    add_choice(choices, 0, AF_INET6, port);
    add_choice(choices, 1, AF_INET, port);
    world.own_answer = true;
    world.list = &choices[0].info;
    void *stream = open_to("localhost", port);
    assert_int_equal(ready(stream, 20000), 1);
    int server = accept_one(listener);
    exchange(stream, server);
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
    close(server);
    close(listener);
}

/* ---- the look-up's thread ------------------------------------------------------------------- */

static void nobody_waits_for_a_look_up(void **state)
{
    (void)state;
    struct choice choices[1];
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    add_choice(choices, 0, AF_INET, port);
    world.own_answer = world.held = true;
    world.list = &choices[0].info;
    uint64_t start = now_ms();
    void *stream = open_to("name", port);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        assert_int_equal(psh_sockets_fd(stream), -1);
    }
    assert_in_range(now_ms() - start, 0, 5000);
    let_go();
    assert_int_equal(ready(stream, 20000), 1);
    assert_true(psh_sockets_fd(stream) >= 0);
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
    close(listener);
}

/* Who leaves last frees the look-up and its list: here the thread, long after the stream. */
static void a_stream_may_end_before_its_look_up(void **state)
{
    (void)state;
    struct choice choices[1];
    add_choice(choices, 0, AF_INET, 9);
    world.own_answer = world.held = true;
    world.list = &choices[0].info;
    for (int i = 1; i <= 8; i++) {
        void *stream = open_to("name", 80);
        if (i % 2) wait_for(&world.asked, i); /* the others may not even have begun */
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        psh_sockets_close(stream);
    }
    assert_int_equal(world.freed, 0);
    let_go();
    wait_for(&world.freed, 8);
    sleep_ms(20);
    assert_int_equal(world.freed, 8);
    assert_int_equal(world.opened, 0);
}

static void a_stream_may_end_behind_its_look_up(void **state)
{
    (void)state;
    struct choice choices[1];
    add_choice(choices, 0, AF_INET, 9);
    world.own_answer = true;
    world.list = &choices[0].info;
    void *stream = open_to("name", 80);
    wait_for(&world.answered, 1);
    sleep_ms(20);
    assert_int_equal(world.freed, 0);
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
}

/* Both at the same time, many times over. */
static void the_end_of_both_may_race(void **state)
{
    (void)state;
    struct choice choices[1];
    add_choice(choices, 0, AF_INET, 9);
    world.own_answer = true;
    world.list = &choices[0].info;
    for (int i = 1; i <= 300; i++) {
        void *stream = open_to("name", 80);
        for (int spin = 0; spin < i % 50; spin++) (void)pusher_sockets_now_ms();
        psh_sockets_close(stream);
    }
    wait_for(&world.freed, 300);
    assert_int_equal(world.asked, 300);
}

/* malloc twice, a mutex, a thread's attributes, a thread: whatever fails, nothing is left. */
static void no_stream_without_the_means(void **state)
{
    (void)state;
    int fails_at = 1;
    world.own_answer = true;
    world.error = EAI_NONAME;
    for (;; fails_at++) {
        world.fails_at = fails_at;
        world.calls = 0;
        void *stream = psh_sockets_open("name", 80, NULL);
        if (!stream) continue;
        assert_int_equal(ready(stream, 20000), PUSHER_IO_ERROR_RESOLVE);
        psh_sockets_close(stream);
        break;
    }
    assert_int_equal(fails_at, 6);
    wait_for(&world.answered, 1);
    sleep_ms(20);
}

static void the_port_is_written_out(void **state)
{
    (void)state;
    static const struct { uint16_t port; const char *text; } ports[] = {
        {1, "1"}, {80, "80"}, {6001, "6001"}, {65535, "65535"}};
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        struct psh_lookup *lookup = psh_sockets_lookup("host.example", ports[i].port);
        assert_string_equal(lookup->port, ports[i].text);
        assert_string_equal(lookup->host, "host.example");
        assert_int_equal(lookup->holders, 1);
        psh_sockets_leave(lookup);
    }
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void the_end_of_the_other_side(void **state)
{
    (void)state;
    int server;
    char buf[8];
    void *stream = connected(&server);
    assert_int_equal(send(server, "last", 4, 0), 4);
    close(server);
    assert_int_equal(recv_some(stream, buf, sizeof buf), 4);
    assert_int_equal(recv_some(stream, buf, sizeof buf), PUSHER_IO_EOF);
    assert_int_equal(psh_sockets_recv(stream, buf, sizeof buf), PUSHER_IO_EOF);
    assert_null(psh_sockets_error(stream));
    psh_sockets_close(stream);
}

static void a_reset_is_an_error_and_no_signal(void **state)
{
    (void)state;
    int server;
    char buf[8];
    struct linger at_once = {1, 0};
    void *stream = connected(&server);
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(server);
    assert_int_equal(recv_some(stream, buf, sizeof buf), PUSHER_IO_ERROR);
    assert_string_equal(psh_sockets_error(stream), "connection reset");
    assert_int_equal(psh_sockets_send(stream, "x", 1), PUSHER_IO_ERROR); /* SIGPIPE would end us */
    assert_string_equal(psh_sockets_error(stream), "connection closed by the other side");
    psh_sockets_close(stream);
}

enum { BIG = 8 << 20 };

static unsigned char big_byte(size_t i)
{
    return (unsigned char)((i * 2654435761u >> 13 ^ i) & 0xFF);
}

/* Both ways at once through buffers that are too small: every byte arrives, in order. */
static void a_big_transfer_goes_in_parts(void **state)
{
    (void)state;
    static unsigned char out[BIG], buf[65536];
    int server;
    size_t sent = 0, heard = 0, said = 0, got = 0;
    unsigned blocked = 0, partial = 0;
    void *stream = connected(&server);
    assert_int_equal(fcntl(server, F_SETFL, O_NONBLOCK), 0);
    for (size_t i = 0; i < BIG; i++) out[i] = big_byte(i);
    while (sent < BIG || heard < BIG || said < BIG || got < BIG) {
        while (sent < BIG) {
            int put = psh_sockets_send(stream, out + sent, BIG - sent);
            if (put == PUSHER_IO_WANT_WRITE) blocked++;
            if (put == PUSHER_IO_WANT_WRITE) break;
            assert_true(put > 0);
            partial += (size_t)put < BIG - sent;
            sent += (size_t)put;
        }
        ssize_t n = recv(server, buf, sizeof buf, 0);
        for (ssize_t i = 0; i < n; i++, heard++)
            if (buf[i] != big_byte(heard)) fail_msg("sent byte %zu", heard);
        if (said < BIG) n = send(server, out + said, BIG - said, 0);
        if (said < BIG && n > 0) said += (size_t)n;
        int r = psh_sockets_recv(stream, buf, sizeof buf);
        if (r == PUSHER_IO_WANT_READ) continue;
        assert_true(r > 0);
        for (int i = 0; i < r; i++, got++)
            if (buf[i] != big_byte(got)) fail_msg("received byte %zu", got);
    }
    assert_true(blocked > 0 && partial > 0);
    psh_sockets_close(stream);
    close(server);
}

static void errors_of_the_system_are_words(void **state)
{
    (void)state;
    static const struct { int error; const char *text; } reasons[] = {
        {ECONNREFUSED, "connection refused"}, {ECONNRESET, "connection reset"},
        {ETIMEDOUT, "timed out"}, {EHOSTUNREACH, "no route to the host"},
        {ENETUNREACH, "network unreachable"}, {EPIPE, "connection closed by the other side"},
        {EMFILE, "out of file descriptors"}, {ENFILE, "out of file descriptors"},
        {EACCES, "not permitted"}, {EPERM, "not permitted"},
        {EINVAL, "socket error"}, {0, "socket error"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        assert_string_equal(psh_sockets_reason(reasons[i].error), reasons[i].text);
    struct psh_socket s;
    memset(&s, 0, sizeof s);
    static const int again[] = {EAGAIN, EWOULDBLOCK, EINTR};
    for (size_t i = 0; i < ARRAY_LEN(again); i++) {
        errno = again[i];
        assert_int_equal(psh_sockets_failed(&s, PUSHER_IO_WANT_WRITE), PUSHER_IO_WANT_WRITE);
        assert_null(s.error);
    }
    errno = ETIMEDOUT;
    assert_int_equal(psh_sockets_failed(&s, PUSHER_IO_WANT_READ), PUSHER_IO_ERROR);
    assert_string_equal(s.error, "timed out");
}

/* ---- what is handed out --------------------------------------------------------------------- */

static void the_transport_is_complete(void **state)
{
    (void)state;
    pusher_transport transport = pusher_sockets_transport();
    assert_true(transport.open_fn == psh_sockets_open && transport.ready_fn == psh_sockets_ready);
    assert_true(transport.recv_fn == psh_sockets_recv && transport.send_fn == psh_sockets_send);
    assert_true(transport.close_fn == psh_sockets_close && transport.fd_fn == psh_sockets_fd);
    assert_true(transport.error_fn == psh_sockets_error);
    assert_null(transport.user_data);
}

/* ---- randomness and time -------------------------------------------------------------------- */

static void randomness_fills_all_of_it_and_differs(void **state)
{
    (void)state;
    unsigned char first[256], next[257], changed[256] = {0};
    pusher_random random = pusher_sockets_random();
    assert_true(random.fill_fn(first, sizeof first, random.user_data));
    for (int round = 0; round < 40; round++) {
        next[256] = 0x5A;
        assert_true(random.fill_fn(next, 256, random.user_data));
        assert_memory_not_equal(first, next, 16);
        for (int i = 0; i < 256; i++)
            changed[i] = (unsigned char)(changed[i] | (first[i] ^ next[i]));
        assert_int_equal(next[256], 0x5A);
    }
    for (int i = 0; i < 256; i++) assert_int_equal(changed[i], 0xFF); /* each bit has moved */
    memset(next, 0x5A, sizeof next);
    for (int round = 0; round < 40; round++) assert_true(random.fill_fn(next, 4, random.user_data));
    assert_int_equal(next[4], 0x5A);
}

static void the_clock_counts_milliseconds(void **state)
{
    (void)state;
    uint64_t before = pusher_sockets_now_ms(), start = before, real = now_ms();
    assert_in_range(real - start, 0, 1000);
    for (int i = 0; i < 100000; i++) {
        uint64_t now = pusher_sockets_now_ms();
        assert_true(now >= before);
        before = now;
    }
    start = pusher_sockets_now_ms();
    sleep_ms(60);
    assert_in_range(pusher_sockets_now_ms() - start, 58, 10000);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static uint64_t waited(intptr_t fd, int wants, int timeout_ms)
{
    uint64_t start = now_ms();
    psh_sockets_wait(fd, wants, timeout_ms);
    return now_ms() - start;
}

enum { LONG = 20000, SOON = 10000 }; /* ms; a machine under load is slow, but not that slow */

static void waiting_ends_at_the_timeout(void **state)
{
    (void)state;
    int server;
    void *stream = connected(&server);
    intptr_t fd = psh_sockets_fd(stream);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, 60), 58, SOON);
    assert_in_range(waited(fd, 0, 60), 58, SOON);
    assert_in_range(waited(-1, PUSHER_WANTS_READ, 60), 58, SOON);
    assert_in_range(waited(-1, 0, 60), 58, SOON);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, 0), 0, SOON);
    psh_sockets_close(stream);
    close(server);
}

static void *write_soon(void *argument)
{
    sleep_ms(30);
    ssize_t sent = send(*(int *)argument, "x", 1, 0);
    return sent == 1 ? argument : NULL;
}

static void waiting_ends_when_there_is_something(void **state)
{
    (void)state;
    int server;
    void *stream = connected(&server), *done;
    pthread_t thread;
    intptr_t fd = psh_sockets_fd(stream);
    assert_in_range(waited(fd, PUSHER_WANTS_WRITE, LONG), 0, SOON);
    assert_in_range(waited(fd, PUSHER_WANTS_READ | PUSHER_WANTS_WRITE, LONG), 0, SOON);
    assert_int_equal(pthread_create(&thread, NULL, write_soon, &server), 0);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, LONG), 0, SOON);
    assert_int_equal(pthread_join(thread, &done), 0);
    assert_non_null(done);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, LONG), 0, SOON); /* it is still there */
    assert_in_range(waited(fd, PUSHER_WANTS_WRITE, LONG), 0, SOON);
    assert_in_range(waited(fd, 0, 60), 58, SOON); /* readable, but nobody asked */
    close(server);
    char buf[4];
    assert_int_equal(psh_sockets_recv(stream, buf, sizeof buf), 1);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, LONG), 0, SOON); /* an end is something */
    psh_sockets_close(stream);
}

static void count_state(pusher_client *client, pusher_state now, pusher_state before, void *user)
{
    (void)client;
    (void)before;
    ((int *)user)[now]++;
}

static void keep_error(pusher_client *client, const pusher_error *error, void *user)
{
    (void)client;
    ((int *)user)[10 + (int)error->code]++;
}

/* A client with nothing but defaults: it waits as long as it may, and no longer than it must. */
static void a_client_waits_for_what_it_needs(void **state)
{
    (void)state;
    uint16_t port;
    int holder = closed_port(&port), seen[40] = {0};
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "key";
    options.host = "127.0.0.1";
    options.port = port;
    options.max_attempts = 2;
    options.reconnect_base_ms = 20;
    options.state_fn = count_state;
    options.error_fn = keep_error;
    options.user_data = seen;
    pusher_client *client = pusher_create(&options, NULL);
    assert_non_null(client);
    pusher_sockets_wait(NULL, LONG);
    uint64_t start = now_ms();
    pusher_sockets_wait(client, 60); /* nothing to do */
    assert_in_range(now_ms() - start, 58, SOON);
    assert_int_equal(pusher_connect(client), PUSHER_OK);
    start = now_ms();
    pusher_sockets_wait(client, LONG); /* it has a wish: no time to lose */
    assert_in_range(now_ms() - start, 0, SOON);
    for (int i = 0; i < 1000 && pusher_get_state(client) != PUSHER_FAILED; i++) {
        (void)pusher_poll(client, pusher_sockets_now_ms());
        if (pusher_get_state(client) != PUSHER_FAILED) pusher_sockets_wait(client, LONG);
    }
    assert_in_range(now_ms() - start, 0, SOON);
    assert_int_equal(seen[PUSHER_FAILED], 1);
    assert_int_equal(seen[10 + PUSHER_ERR_IO], 2);
    pusher_destroy(client);
    close(holder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_numeric_address_needs_no_thread),
        TEST(a_name_is_looked_up_on_a_thread),
        TEST(sockets_have_the_options_they_need),
        TEST(a_refused_port_says_so),
        TEST(a_host_that_cannot_be_has_no_address),
        TEST(what_the_name_server_says_is_told),
        TEST(the_next_address_is_tried),
        TEST(connect_may_say_it_in_other_ways),
        TEST(a_connection_may_take_its_time),
        TEST(the_other_family_is_tried),
        TEST(nobody_waits_for_a_look_up),
        TEST(a_stream_may_end_before_its_look_up),
        TEST(a_stream_may_end_behind_its_look_up),
        TEST(the_end_of_both_may_race),
        TEST(no_stream_without_the_means),
        TEST(the_port_is_written_out),
        TEST(the_end_of_the_other_side),
        TEST(a_reset_is_an_error_and_no_signal),
        TEST(a_big_transfer_goes_in_parts),
        TEST(errors_of_the_system_are_words),
        TEST(the_transport_is_complete),
        TEST(randomness_fills_all_of_it_and_differs),
        TEST(the_clock_counts_milliseconds),
        TEST(waiting_ends_at_the_timeout),
        TEST(waiting_ends_when_there_is_something),
        TEST(a_client_waits_for_what_it_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
