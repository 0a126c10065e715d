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
#include <signal.h>
#include <stdarg.h>
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
static int stand_in_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
static int stand_in_fcntl(int fd, int command, ...);
static int stand_in_clock(clockid_t id, struct timespec *now);

#define getaddrinfo stand_in_getaddrinfo
#define freeaddrinfo stand_in_freeaddrinfo
#define pthread_create stand_in_thread
#define pthread_mutex_init stand_in_mutex
#define pthread_attr_init stand_in_attr
#define malloc(size) stand_in_malloc(size)
#define socket stand_in_socket
#define connect stand_in_connect
#define close stand_in_close
#define poll stand_in_poll
#define fcntl stand_in_fcntl
#define clock_gettime stand_in_clock
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
#undef poll
#undef fcntl
#undef clock_gettime

#include "fake.h"

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
    int families[32], tries;      /* of the addresses that connect() was called for */
    bool frozen;                  /* the library's clock stands still at */
    uint64_t frozen_ms;
    uint64_t slept_ms;            /* the machine, for so long while it was frozen             */
    bool old_kernel;              /* that has no clock which counts this                      */
    bool poll_interrupted;        /* the library's poll() is, without end */
    bool stays_blocking;          /* no descriptor can be made non-blocking */
    sigset_t mask;                /* of the thread that looked up last */
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list)
{
    if (hints->ai_flags & AI_NUMERICHOST) return getaddrinfo(host, port, hints, list);
    pthread_mutex_lock(&world.lock);
    world.asked++;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &world.mask);
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
    if (world.tries < (int)ARRAY_LEN(world.families))
        world.families[world.tries] = address->sa_family;
    world.tries++;
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

static int stand_in_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    if (!world.poll_interrupted) return poll(fds, count, timeout_ms);
    errno = EINTR;
    return -1;
}

static int stand_in_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    int argument = command == F_SETFD || command == F_SETFL ? va_arg(list, int) : 0;
    va_end(list);
    if (!world.stays_blocking || command != F_SETFL) return fcntl(fd, command, argument);
    errno = EINVAL;
    return -1;
}

static int stand_in_clock(clockid_t id, struct timespec *now)
{
    uint64_t ms = world.frozen_ms;
#if defined(CLOCK_BOOTTIME)
    if (id == CLOCK_BOOTTIME && world.old_kernel) return -1;
    if (id == CLOCK_BOOTTIME) ms += world.slept_ms;
    else assert_true(world.old_kernel);
    assert_true(id == CLOCK_BOOTTIME || id == CLOCK_MONOTONIC);
#else
    assert_int_equal(id, CLOCK_MONOTONIC);
#endif
    if (!world.frozen) return clock_gettime(id, now);
    now->tv_sec = (time_t)(ms / 1000);
    now->tv_nsec = (long)(ms % 1000) * 1000000;
    return 0;
}

static int begin(void **state)
{
    (void)state;
    world.own_answer = world.held = false;
    world.error = world.asked = world.answered = world.freed = 0;
    world.list = NULL;
    world.connect_error = world.unreachable = 0;
    world.tries = 0;
    world.frozen = world.poll_interrupted = world.stays_blocking = false;
    world.frozen_ms = 1000000;
    world.slept_ms = 0;
    world.old_kernel = false;
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

static bool localhost_has_ipv6(void)
{
    struct addrinfo hints, *list = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_INET6;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo("localhost", "80", &hints, &list) != 0) return false;
    freeaddrinfo(list);
    return true;
}

/* The server is on one family only, whichever the system names first. */
static void localhost_is_found_on_ipv6_alone(void **state)
{
    (void)state;
    if (!localhost_has_ipv6()) {
        print_message("not tried: localhost is not ::1 here\n");
        return;
    }
    connects_to(AF_INET6, "localhost", true);
}

/* They are for the program's threads; and those keep theirs. */
static void the_look_up_takes_no_signals(void **state)
{
    (void)state;
    sigset_t none, before, after;
    static const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGCHLD, SIGUSR1, SIGPIPE};
    assert_int_equal(sigemptyset(&none), 0);
    assert_int_equal(sigaddset(&none, SIGALRM), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &none, &before), 0);
    world.own_answer = true;
    world.error = EAI_NONAME;
    void *stream = open_to("name", 80);
    wait_for(&world.answered, 1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        assert_int_equal(sigismember(&world.mask, signals[i]), 1);
        assert_int_equal(sigismember(&after, signals[i]), signals[i] == SIGALRM);
    }
    psh_sockets_close(stream);
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
    world.frozen = true; /* a failure takes no time */
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

/* ---- the race ------------------------------------------------------------------------------- */

/* A port whose connections are neither made nor refused: the queue of a listener that does not
   accept is full. Not every system drops what comes then. */
struct silence {
    int fds[9];
    int count;
    uint16_t port;
};

static bool silence_begin(struct silence *silence)
{
    silence->fds[0] = listen_on(AF_INET, &silence->port);
    silence->count = 1;
    assert_int_equal(listen(silence->fds[0], 0), 0);
    while (silence->count < (int)ARRAY_LEN(silence->fds)) {
        struct address address = loopback(AF_INET, silence->port);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct pollfd wait = {fd, POLLOUT, 0};
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        (void)connect(fd, &address.at.any, address.len);
        silence->fds[silence->count++] = fd;
        if (poll(&wait, 1, 100) == 0) return true;
    }
#if defined(__linux__)
    fail_msg("the queue takes everything");
#endif
    print_message("not tried: no port of this system can be made silent\n");
    return false;
}

static void silence_end(struct silence *silence)
{
    while (silence->count > 0) close(silence->fds[--silence->count]);
}

/* s: silent, r: refused, g: good; 6: refused on ::1. The look-up's answer. */
struct field {
    struct choice choices[24];
    struct silence silence;
    uint16_t good, refused;
    int listener, holder;
};

static bool has_answer(void *stream)
{
    struct psh_lookup *lookup = ((struct psh_socket *)stream)->lookup;
    psh_sockets_lock(&lookup->lock);
    bool done = lookup->done;
    psh_sockets_unlock(&lookup->lock);
    return done;
}

static void *field_open(struct field *field, const char *kinds)
{
    field->listener = listen_on(AF_INET, &field->good);
    field->holder = closed_port(&field->refused);
    size_t count = strlen(kinds);
    assert_true(count <= ARRAY_LEN(field->choices));
    for (size_t i = 0; i < count; i++) {
        uint16_t port = kinds[i] == 'g' ? field->good
                      : kinds[i] == 's' ? field->silence.port : field->refused;
        add_choice(field->choices, i, kinds[i] == '6' ? AF_INET6 : AF_INET, port);
    }
    world.own_answer = true;
    world.list = &field->choices[0].info;
    world.freed = world.tries = 0;
    void *stream = open_to("name", 80);
    for (int i = 0; i < 20000 && !has_answer(stream); i++) sleep_ms(1);
    assert_true(has_answer(stream));
    return stream;
}

static void field_close(struct field *field, void *stream)
{
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
    close(field->holder);
    close(field->listener);
}

static void silence_is_overtaken(void **state)
{
    (void)state;
    struct field field;
    if (!silence_begin(&field.silence)) return;
    world.frozen = true;
    void *stream = field_open(&field, "sg");
    for (int i = 0; i < 100; i++) assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    world.frozen_ms += 249;
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    assert_int_equal(world.tries, 1);
    assert_int_equal(psh_sockets_fd(stream), -1);
    world.frozen_ms += 1;
    assert_int_equal(ready(stream, 20000), 1);
    assert_int_equal(world.tries, 2);
    assert_int_equal(world.closed, 1); /* the silent one */
    assert_true(psh_sockets_fd(stream) >= 0);
    int server = accept_one(field.listener);
    exchange(stream, server);
    close(server);
    field_close(&field, stream);
    silence_end(&field.silence);
}

/* Beside one that is silent, too: the next one starts as soon as one has failed. */
static void a_failure_does_not_wait_for_silence(void **state)
{
    (void)state;
    struct field field;
    if (!silence_begin(&field.silence)) return;
    world.frozen = true;
    void *stream = field_open(&field, "srrg");
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    world.frozen_ms += 250;
    assert_int_equal(ready(stream, 20000), 1);
    assert_int_equal(world.tries, 4);
    field_close(&field, stream);
    silence_end(&field.silence);
}

/* With one address left the event loop has something to wait for; before that, time alone. */
static void the_last_address_can_be_waited_for(void **state)
{
    (void)state;
    struct field field;
    if (!silence_begin(&field.silence)) return;
    world.frozen = true;
    void *stream = field_open(&field, "s");
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    assert_int_equal(psh_sockets_fd(stream), -1);
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_WRITE);
    intptr_t fd = psh_sockets_fd(stream);
    assert_true(fd >= 0);
    world.frozen_ms += 100000;
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_WRITE);
    assert_int_equal(psh_sockets_fd(stream), fd);
    assert_int_equal(world.tries, 1);
    field_close(&field, stream);

    stream = field_open(&field, "rs"); /* the first falls out at once */
    for (int i = 0; i < 20000 && world.tries < 2; i++, sleep_ms(1))
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_WRITE);
    assert_int_equal(world.tries, 2);
    assert_true(psh_sockets_fd(stream) >= 0);
    field_close(&field, stream);

    stream = field_open(&field, "s6"); /* the other family is left */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        assert_int_equal(psh_sockets_fd(stream), -1);
    }
    world.frozen_ms += 250;
    assert_int_equal(ready(stream, 100), PUSHER_IO_WANT_WRITE);
    assert_int_equal(world.tries, 2);
    assert_true(psh_sockets_fd(stream) >= 0);
    field_close(&field, stream);

    stream = field_open(&field, "ss"); /* two at once are too many for one descriptor */
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    world.frozen_ms += 250;
    for (int i = 0; i < 3; i++) assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    assert_int_equal(world.tries, 2);
    assert_int_equal(psh_sockets_fd(stream), -1);
    field_close(&field, stream);
    silence_end(&field.silence);
}

/* Eight at most; then the oldest makes room. */
static void the_oldest_makes_room(void **state)
{
    (void)state;
    struct field field;
    if (!silence_begin(&field.silence)) return;
    world.frozen = true;
    void *stream = field_open(&field, "ssssssssssg");
    for (int tries = 1; tries < 10; tries++) {
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        assert_int_equal(world.tries, tries);
        assert_int_equal(world.closed, tries > PSH_RACE_LANES ? tries - PSH_RACE_LANES : 0);
        world.frozen_ms += 250;
    }
    struct psh_socket *s = (struct psh_socket *)stream;
    psh_fd oldest = s->lane[0], second = s->lane[1];
    assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
    assert_int_equal(world.closed, 2);
    assert_int_equal(s->lane[0], second);
    assert_int_not_equal(s->lane[0], oldest);
    world.frozen_ms += 250;
    assert_int_equal(ready(stream, 20000), 1);
    assert_int_equal(world.closed, 10);
    field_close(&field, stream);
    silence_end(&field.silence);
}

static void a_race_can_be_given_up(void **state)
{
    (void)state;
    struct field field;
    if (!silence_begin(&field.silence)) return;
    world.frozen = true;
    void *stream = field_open(&field, "ssss");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        world.frozen_ms += 250;
    }
    assert_int_equal(world.opened, 3);
    field_close(&field, stream);
    assert_int_equal(world.closed, 3);
    silence_end(&field.silence);
}

/* The order in which addresses are tried, as families: 6 for IPv6. */
static void order(const char *kinds, const char *want)
{
    struct field field;
    field.silence.port = 0;
    void *stream = field_open(&field, kinds);
    assert_int_equal(ready(stream, 20000), PUSHER_IO_ERROR);
    assert_int_equal(world.tries, strlen(want));
    for (int i = 0; i < world.tries; i++)
        assert_int_equal(world.families[i], want[i] == '6' ? AF_INET6 : AF_INET);
    field_close(&field, stream);
}

static void families_take_turns(void **state)
{
    (void)state;
    order("r", "4");
    order("666rr", "64646");
    order("rr6", "464");
    order("r6", "46");
    order("6r", "64");
    order("666", "666");
    order("6rrrr", "64444");
    order("rrr66", "46464");
}

/* Of many that fail at once, as all of IPv6 may, one poll tries a few. */
static void what_fails_at_once_is_not_tried_without_end(void **state)
{
    (void)state;
    struct field field;
    field.silence.port = 0;
    world.connect_error = EHOSTUNREACH;
    world.unreachable = 0;
    world.frozen = true;
    void *stream = field_open(&field, "666666666666666666666666"); /* its port is read as 0 */
    for (int tries = PSH_RACE_LANES; tries <= 24; tries += PSH_RACE_LANES) {
        int want = tries < 24 ? PUSHER_IO_WANT_READ : PUSHER_IO_ERROR;
        assert_int_equal(psh_sockets_ready(stream), want);
        assert_int_equal(world.tries, tries);
    }
    assert_string_equal(psh_sockets_error(stream), "no route to the host");
    field_close(&field, stream);
}

/* A pair of descriptors that cannot be written to, or can. */
static void add_lane(struct psh_socket *s, int *others, bool full)
{
    int pair[2];
    char bytes[4096] = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    while (full && send(pair[0], bytes, sizeof bytes, 0) > 0) continue;
    world.opened++;
    others[s->lanes] = pair[1];
    s->lane[s->lanes++] = pair[0];
}

/* Of two that stand at the same time the older is taken; all others are closed. */
static void the_first_that_stands_is_taken(void **state)
{
    (void)state;
    for (int first = 0; first < 4; first++) {
        struct psh_socket s;
        int others[4];
        memset(&s, 0, sizeof s);
        s.fd = PSH_SOCKETS_NONE;
        world.closed = world.opened = 0;
        for (int i = 0; i < 4; i++) add_lane(&s, others, i < first);
        psh_fd winner = s.lane[first];
        assert_true(psh_sockets_finish(&s));
        assert_int_equal(s.fd, winner);
        assert_int_equal(s.lanes, 0);
        assert_int_equal(world.closed, 3);
        psh_sockets_shut(s.fd);
        for (int i = 0; i < 4; i++) close(others[i]);
    }
}

/* However fast the connection was made. Between two connections with the same number an event
   loop could not tell that there are two. */
static void a_descriptor_is_never_told_at_once(void **state)
{
    (void)state;
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    world.connect_error = EISCONN; /* connected before connect() returns */
    for (int i = 0; i < 3; i++) {
        void *stream = open_to("127.0.0.1", port);
        assert_int_equal(psh_sockets_fd(stream), -1);
        assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        assert_int_equal(psh_sockets_fd(stream), -1);
        assert_int_equal(psh_sockets_ready(stream), 1);
        assert_true(psh_sockets_fd(stream) >= 0);
        assert_int_equal(psh_sockets_ready(stream), 1);
        psh_sockets_close(stream);
    }
    close(listener);
}

static void a_socket_that_would_block_is_not_used(void **state)
{
    (void)state;
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    world.stays_blocking = true;
    void *stream = open_to("127.0.0.1", port);
    assert_int_equal(ready(stream, 20000), PUSHER_IO_ERROR);
    assert_string_equal(psh_sockets_error(stream), "socket error");
    assert_int_equal(world.tries, 0);
    assert_int_equal(world.closed, 1);
    psh_sockets_close(stream);
    close(listener);
}

static void an_interrupted_poll_is_no_answer(void **state)
{
    (void)state;
    uint16_t port;
    int listener = listen_on(AF_INET, &port);
    void *stream = open_to("127.0.0.1", port);
    world.poll_interrupted = true;
    assert_int_equal(ready(stream, 50), PUSHER_IO_WANT_WRITE);
    assert_null(psh_sockets_error(stream));
    world.poll_interrupted = false;
    assert_int_equal(ready(stream, 20000), 1);
    psh_sockets_close(stream);
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
        {ECONNABORTED, "connection aborted"}, {ETIMEDOUT, "timed out"}, {EHOSTUNREACH, "no route to the host"},
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

/* ---- a whole client meanwhile --------------------------------------------------------------- */

static pusher_client *client_to(const char *host, uint16_t port)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "key";
    options.host = host;
    options.port = port;
    pusher_client *client = pusher_create(&options, NULL);
    assert_non_null(client);
    assert_int_equal(pusher_connect(client), PUSHER_OK);
    return client;
}

/* Whoever connects has sent its request. */
static void expect_request(int listener)
{
    char head[9];
    int server = accept_one(listener);
    struct pollfd wait = {server, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_int_equal(recv(server, head, sizeof head, 0), sizeof head);
    assert_memory_equal(head, "GET /app/", sizeof head);
    close(server);
}

static bool has_come(int listener)
{
    struct pollfd wait = {listener, POLLIN, 0};
    return poll(&wait, 1, 0) == 1;
}

static uint64_t timed_poll(pusher_client *client)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    (void)pusher_poll(client, pusher_sockets_now_ms());
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (uint64_t)((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec) / 1000;
}

/* pusher_poll() can only notice a suspend that its clock has counted. */
static void the_clock_counts_the_sleep_of_the_machine(void **state)
{
    (void)state;
    world.frozen = true;
    uint64_t before = pusher_sockets_now_ms();
    world.frozen_ms += 5;
    assert_int_equal(pusher_sockets_now_ms() - before, 5);
#if defined(CLOCK_BOOTTIME)
    world.slept_ms = 3600000;
    assert_int_equal(pusher_sockets_now_ms() - before, 3600005);
    world.old_kernel = true;
    assert_int_equal(pusher_sockets_now_ms() - before, 5);
#endif
}

enum { RESOLVER_MS = 2000 };

/* A resolver that sleeps, an address that never answers, one that refuses, and then the good one:
   no poll waits for any of them. */
static void no_poll_waits_for_the_network(void **state)
{
    (void)state;
    struct field field;
    memset(&field, 0, sizeof field);
    if (!silence_begin(&field.silence)) return;
    field.listener = listen_on(AF_INET, &field.good);
    field.holder = closed_port(&field.refused);
    add_choice(field.choices, 0, AF_INET, field.silence.port);
    add_choice(field.choices, 1, AF_INET, field.refused);
    add_choice(field.choices, 2, AF_INET, field.good);
    world.own_answer = world.held = true;
    world.list = &field.choices[0].info;
    pusher_client *client = client_to("name", 80);
    uint64_t start = now_ms(), slow = 0, racing = 0;
    uint32_t polls = 0;
    for (; now_ms() - start < RESOLVER_MS; polls++) {
        uint64_t us = timed_poll(client);
        if (us > slow) slow = us;
        sleep_ms(1);
    }
    wait_for(&world.asked, 1);
    assert_int_equal(world.answered, 0);
    assert_int_equal(world.tries, 0);
    assert_int_equal(pusher_get_state(client), PUSHER_CONNECTING);
    let_go();
    start = now_ms();
    while (now_ms() - start < LONG && !has_come(field.listener)) {
        uint64_t us = timed_poll(client);
        if (us > racing) racing = us;
        polls++;
        sleep_ms(1);
    }
    for (int i = 0; i < 20; i++, sleep_ms(1)) (void)timed_poll(client);
    assert_int_equal(world.tries, 3);
    expect_request(field.listener);
    print_message("worst of %u polls: %u us while the resolver slept, %u us in the race\n",
                  (unsigned)polls, (unsigned)slow, (unsigned)racing);
    pusher_destroy(client);
    wait_for(&world.freed, 1);
    close(field.holder);
    close(field.listener);
    silence_end(&field.silence);
}

/* What an event loop is told is enough to get through a race, without spinning. */
static void an_event_loop_gets_through_a_race(void **state)
{
    (void)state;
    struct field field;
    memset(&field, 0, sizeof field);
    if (!silence_begin(&field.silence)) return;
    field.listener = listen_on(AF_INET, &field.good);
    add_choice(field.choices, 0, AF_INET, field.silence.port);
    add_choice(field.choices, 1, AF_INET, field.good);
    world.own_answer = true;
    world.list = &field.choices[0].info;
    pusher_client *client = client_to("name", 80);
    int polls = 0;
    for (; polls < 2000; polls++) {
        (void)pusher_poll(client, pusher_sockets_now_ms());
        if (has_come(field.listener)) break;
        pusher_sockets_wait(client, LONG);
    }
    for (int i = 0; i < 5; i++) {
        (void)pusher_poll(client, pusher_sockets_now_ms());
        pusher_sockets_wait(client, 20);
    }
    expect_request(field.listener);
    assert_in_range(polls, 3, 1999);
    pusher_destroy(client);
    wait_for(&world.freed, 1);
    close(field.listener);
    silence_end(&field.silence);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_clock_counts_the_sleep_of_the_machine),
        TEST(a_numeric_address_needs_no_thread),
        TEST(a_name_is_looked_up_on_a_thread),
        TEST(localhost_is_found_on_ipv6_alone),
        TEST(the_look_up_takes_no_signals),
        TEST(sockets_have_the_options_they_need),
        TEST(a_refused_port_says_so),
        TEST(a_host_that_cannot_be_has_no_address),
        TEST(what_the_name_server_says_is_told),
        TEST(the_next_address_is_tried),
        TEST(connect_may_say_it_in_other_ways),
        TEST(a_connection_may_take_its_time),
        TEST(the_other_family_is_tried),
        TEST(silence_is_overtaken),
        TEST(a_failure_does_not_wait_for_silence),
        TEST(the_last_address_can_be_waited_for),
        TEST(the_oldest_makes_room),
        TEST(a_race_can_be_given_up),
        TEST(families_take_turns),
        TEST(what_fails_at_once_is_not_tried_without_end),
        TEST(the_first_that_stands_is_taken),
        TEST(a_descriptor_is_never_told_at_once),
        TEST(a_socket_that_would_block_is_not_used),
        TEST(an_interrupted_poll_is_no_answer),
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
        TEST(no_poll_waits_for_the_network),
        TEST(an_event_loop_gets_through_a_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
