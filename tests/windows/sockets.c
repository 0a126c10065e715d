/* The sockets room on Winsock, as tests/unit/sockets.c is for POSIX: real sockets of this machine;
   only the answers of the resolver are made up. Then a whole client against the server
   of tests/server, which publishes on "chat" at the port that the environment variable PORT
   names. tests/check/windows.sh runs it. */
#include <winsock2.h>
#include <ws2tcpip.h>

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list);
static void stand_in_freeaddrinfo(struct addrinfo *list);
static int stand_in_startup(WORD version, WSADATA *data);
static int stand_in_cleanup(void);
static SOCKET stand_in_socket(int family, int type, int protocol);
static int stand_in_closesocket(SOCKET fd);

#define getaddrinfo stand_in_getaddrinfo
#define freeaddrinfo stand_in_freeaddrinfo
#define WSAStartup stand_in_startup
#define WSACleanup stand_in_cleanup
#define socket stand_in_socket
#define closesocket stand_in_closesocket
#define PUSHER_SOCKETS
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
#undef getaddrinfo
#undef freeaddrinfo
#undef WSAStartup
#undef WSACleanup
#undef socket
#undef closesocket

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- stand-ins ------------------------------------------------------------------------------ */

static struct {
    struct addrinfo *list;          /* what each name has; NULL: ask the system */
    volatile LONG held;             /* but not while this is so */
    volatile LONG started, ended;   /* Winsock */
    volatile LONG asked, freed;     /* look-ups of names, lists given back */
    int opened, closed;             /* sockets */
    bool cannot_start;
} world;

static int stand_in_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                struct addrinfo **list)
{
    if (hints->ai_flags & AI_NUMERICHOST) return getaddrinfo(host, port, hints, list);
    InterlockedIncrement(&world.asked);
    while (world.held) Sleep(1);
    if (!world.list) return getaddrinfo(host, port, hints, list);
    *list = world.list;
    return 0;
}

static void stand_in_freeaddrinfo(struct addrinfo *list)
{
    if (list != world.list) freeaddrinfo(list);
    InterlockedIncrement(&world.freed);
}

static int stand_in_startup(WORD version, WSADATA *data)
{
    if (world.cannot_start) return WSASYSNOTREADY;
    InterlockedIncrement(&world.started);
    return WSAStartup(version, data);
}

static int stand_in_cleanup(void)
{
    InterlockedIncrement(&world.ended);
    return WSACleanup();
}

static SOCKET stand_in_socket(int family, int type, int protocol)
{
    SOCKET fd = socket(family, type, protocol);
    if (fd != INVALID_SOCKET) world.opened++;
    return fd;
}

static int stand_in_closesocket(SOCKET fd)
{
    world.closed++;
    return closesocket(fd);
}

static void wait_for(const volatile LONG *counter, LONG value)
{
    for (int i = 0; i < 60000 && *counter < value; i++) Sleep(1);
    assert_true(*counter >= value);
}

static int begin(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    return 0;
}

/* Whatever a test did: every socket is closed, and Winsock was ended as often as started. */
static int finish(void **state)
{
    (void)state;
    for (int i = 0; i < 60000 && world.ended < world.started; i++) Sleep(1);
    if (world.opened != world.closed || world.started != world.ended)
        print_error("sockets: %d opened, %d closed; Winsock: %ld started, %ld ended\n",
                    world.opened, world.closed, world.started, world.ended);
    return world.opened != world.closed || world.started != world.ended;
}

/* ---- a server ------------------------------------------------------------------------------- */

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

/* Bound, and listening if asked for. */
static SOCKET bound(uint16_t *port, bool listening)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    SOCKET fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd != INVALID_SOCKET);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    if (listening) assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int ready(void *stream)
{
    for (int i = 0; i < 20000; i++) {
        int result = psh_sockets_ready(stream);
        if (result != PUSHER_IO_WANT_READ && result != PUSHER_IO_WANT_WRITE) return result;
        Sleep(1);
    }
    return PUSHER_IO_WANT_READ;
}

static void *open_to(const char *host, uint16_t port)
{
    void *stream = psh_sockets_open(host, port, NULL);
    assert_non_null(stream);
    return stream;
}

static void *connected(SOCKET *server)
{
    uint16_t port;
    SOCKET listener = bound(&port, true);
    void *stream = open_to("127.0.0.1", port);
    assert_int_equal(ready(stream), 1);
    *server = accept(listener, NULL, NULL);
    assert_true(*server != INVALID_SOCKET);
    closesocket(listener);
    return stream;
}

static int recv_some(void *stream, void *buf, size_t len)
{
    for (int i = 0; i < 20000; i++) {
        int got = psh_sockets_recv(stream, buf, len);
        if (got != PUSHER_IO_WANT_READ) return got;
        Sleep(1);
    }
    return PUSHER_IO_WANT_READ;
}

/* ---- connecting ----------------------------------------------------------------------------- */

static void bytes_go_both_ways(void **state)
{
    (void)state;
    SOCKET server;
    char buf[16];
    void *stream = connected(&server);
    assert_int_equal(psh_sockets_recv(stream, buf, sizeof buf), PUSHER_IO_WANT_READ);
    assert_int_equal(psh_sockets_send(stream, "ping", 4), 4);
    assert_int_equal(recv(server, buf, sizeof buf, 0), 4);
    assert_memory_equal(buf, "ping", 4);
    assert_int_equal(send(server, "pong!", 5, 0), 5);
    assert_int_equal(recv_some(stream, buf, 3), 3);
    assert_int_equal(recv_some(stream, buf + 3, sizeof buf - 3), 2);
    assert_memory_equal(buf, "pong!", 5);
    closesocket(server);
    assert_int_equal(recv_some(stream, buf, sizeof buf), PUSHER_IO_EOF);
    assert_null(psh_sockets_error(stream));
    psh_sockets_close(stream);
}

static void sockets_have_the_options_they_need(void **state)
{
    (void)state;
    SOCKET server;
    DWORD flags = HANDLE_FLAG_INHERIT;
    char on[4] = {0};
    socklen_t len = sizeof on;
    void *stream = connected(&server);
    SOCKET fd = (SOCKET)psh_sockets_fd(stream);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, &len), 0);
    assert_int_not_equal(on[0], 0);
    assert_true(GetHandleInformation((HANDLE)fd, &flags));
    assert_int_equal(flags & HANDLE_FLAG_INHERIT, 0);
    psh_sockets_close(stream);
    closesocket(server);
}

static void a_refused_port_says_so(void **state)
{
    (void)state;
    uint16_t port;
    SOCKET holder = bound(&port, false);
    void *stream = open_to("127.0.0.1", port);
    assert_int_equal(ready(stream), PUSHER_IO_ERROR);
    assert_string_equal(psh_sockets_error(stream), "connection refused");
    psh_sockets_close(stream);
    closesocket(holder);
}

static void a_name_is_looked_up_on_a_thread(void **state)
{
    (void)state;
    uint16_t port;
    SOCKET listener = bound(&port, true);
    void *stream = open_to("localhost", port);
    assert_int_equal(ready(stream), 1);
    assert_int_equal(world.asked, 1);
    psh_sockets_close(stream);
    closesocket(listener);
}

/* A resolver may take its time, and the stream may end before it or behind it. */
static void nobody_waits_for_a_look_up(void **state)
{
    (void)state;
    world.held = 1;
    for (int i = 0; i < 8; i++) {
        void *stream = open_to("localhost", 80);
        for (int k = 0; k < 100; k++)
            assert_int_equal(psh_sockets_ready(stream), PUSHER_IO_WANT_READ);
        assert_int_equal(psh_sockets_fd(stream), -1);
        psh_sockets_close(stream);
    }
    assert_int_equal(world.ended, 0);
    world.held = 0;
    wait_for(&world.freed, 8);
    for (int i = 0; i < 200; i++) psh_sockets_close(open_to("localhost", 80));
}

static void no_stream_without_winsock(void **state)
{
    (void)state;
    world.cannot_start = true;
    assert_null(psh_sockets_open("127.0.0.1", 80, NULL));
}

/* ---- several addresses ---------------------------------------------------------------------- */

static void race(uint16_t first, uint16_t second, SOCKET listener)
{
    struct sockaddr_in addresses[2];
    struct addrinfo list[2];
    memset(list, 0, sizeof list);
    for (int i = 0; i < 2; i++) {
        addresses[i] = loopback(i ? second : first);
        list[i].ai_family = AF_INET;
        list[i].ai_socktype = SOCK_STREAM;
        list[i].ai_addr = (struct sockaddr *)&addresses[i];
        list[i].ai_addrlen = sizeof addresses[i];
    }
    list[0].ai_next = &list[1];
    world.list = &list[0];
    world.freed = 0;
    void *stream = open_to("name", 80);
    assert_int_equal(ready(stream), 1);
    SOCKET server = accept(listener, NULL, NULL);
    char byte;
    assert_int_equal(psh_sockets_send(stream, "x", 1), 1);
    assert_int_equal(recv(server, &byte, 1, 0), 1);
    psh_sockets_close(stream);
    wait_for(&world.freed, 1);
    closesocket(server);
}

static void a_dead_address_is_passed(void **state)
{
    (void)state;
    uint16_t good, refused;
    SOCKET listener = bound(&good, true), holder = bound(&refused, false);
    race(refused, good, listener);
    race(good, refused, listener);
    closesocket(holder);
    closesocket(listener);
}

/* The queue of a listener that does not accept is full: Wine on Linux is silent then, Windows
   refuses; both must be passed. */
static void a_silent_address_is_passed(void **state)
{
    (void)state;
    enum { QUEUED = 6 };
    uint16_t good, silent;
    SOCKET listener = bound(&good, true), full = bound(&silent, true), queued[QUEUED];
    struct sockaddr_in address = loopback(silent);
    u_long on = 1;
    assert_int_equal(listen(full, 1), 0);
    for (int i = 0; i < QUEUED; i++) {
        queued[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(ioctlsocket(queued[i], (long)FIONBIO, &on), 0);
        (void)connect(queued[i], (struct sockaddr *)&address, sizeof address);
    }
    Sleep(50);
    race(silent, good, listener);
    for (int i = 0; i < QUEUED; i++) closesocket(queued[i]);
    closesocket(full);
    closesocket(listener);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void a_reset_is_an_error(void **state)
{
    (void)state;
    SOCKET server;
    char buf[8];
    struct linger at_once = {1, 0};
    void *stream = connected(&server);
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, (char *)&at_once, sizeof at_once),
                     0);
    closesocket(server);
    int got = recv_some(stream, buf, sizeof buf);
    if (got != PUSHER_IO_ERROR) { /* Wine makes an ordinary end of it */
        assert_int_equal(got, PUSHER_IO_EOF);
        for (int i = 0; i < 1000 && psh_sockets_send(stream, "x", 1) == 1; i++) Sleep(1);
        got = psh_sockets_send(stream, "x", 1);
    }
    assert_int_equal(got, PUSHER_IO_ERROR);
    assert_non_null(psh_sockets_error(stream));
    psh_sockets_close(stream);
}

enum { BIG = 8 << 20 };

static unsigned char big_byte(size_t i)
{
    return (unsigned char)((i * 2654435761u >> 13 ^ i) & 0xFF);
}

static void a_big_transfer_goes_in_parts(void **state)
{
    (void)state;
    static unsigned char out[BIG], buf[65536];
    SOCKET server;
    u_long on = 1;
    size_t sent = 0, heard = 0;
    unsigned blocked = 0;
    void *stream = connected(&server);
    assert_int_equal(ioctlsocket(server, (long)FIONBIO, &on), 0);
    for (size_t i = 0; i < BIG; i++) out[i] = big_byte(i);
    while (heard < BIG) {
        while (sent < BIG) {
            int put = psh_sockets_send(stream, out + sent, BIG - sent);
            blocked += put == PUSHER_IO_WANT_WRITE;
            if (put == PUSHER_IO_WANT_WRITE) break;
            assert_true(put > 0);
            sent += (size_t)put;
        }
        int n = recv(server, (char *)buf, sizeof buf, 0);
        for (int i = 0; i < n; i++, heard++)
            if (buf[i] != big_byte(heard)) fail_msg("byte %u", (unsigned)heard);
    }
    assert_true(blocked > 0 || sent == BIG);
    psh_sockets_close(stream);
    closesocket(server);
}

static void errors_of_the_system_are_words(void **state)
{
    (void)state;
    static const struct { int error; const char *text; } reasons[] = {
        {WSAECONNREFUSED, "connection refused"}, {WSAECONNRESET, "connection reset"},
        {WSAECONNABORTED, "connection aborted"}, {WSAETIMEDOUT, "timed out"},
        {WSAEHOSTUNREACH, "no route to the host"}, {WSAENETUNREACH, "network unreachable"},
        {WSAEMFILE, "out of file descriptors"}, {WSAEACCES, "not permitted"},
        {WSAEINVAL, "socket error"}, {0, "socket error"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        assert_string_equal(psh_sockets_reason(reasons[i].error), reasons[i].text);
}

/* ---- randomness, time, waiting -------------------------------------------------------------- */

static void randomness_fills_all_of_it(void **state)
{
    (void)state;
    unsigned char first[256], next[257], changed[256] = {0};
    pusher_random random = pusher_sockets_random();
    assert_true(random.fill_fn(first, sizeof first, random.user_data));
    next[256] = 0x5A;
    for (int round = 0; round < 40; round++) {
        assert_true(random.fill_fn(next, 256, random.user_data));
        for (int i = 0; i < 256; i++)
            changed[i] = (unsigned char)(changed[i] | (first[i] ^ next[i]));
    }
    for (int i = 0; i < 256; i++) assert_int_equal(changed[i], 0xFF);
    assert_int_equal(next[256], 0x5A);
}

static void the_clock_counts_milliseconds(void **state)
{
    (void)state;
    uint64_t before = pusher_sockets_now_ms(), start = before;
    int steps = 0;
    while (before - start < 50) {
        uint64_t now = pusher_sockets_now_ms();
        assert_true(now >= before);
        steps += now > before;
        before = now;
    }
    assert_in_range(steps, 2, 50); /* finer than the system's tick of 16 ms */
    start = pusher_sockets_now_ms();
    ULONGLONG real = GetTickCount64();
    Sleep(200);
    assert_in_range(pusher_sockets_now_ms() - start + 50, GetTickCount64() - real, 20000);
}

static uint64_t waited(intptr_t fd, int wants, int timeout_ms, bool something)
{
    uint64_t start = pusher_sockets_now_ms();
    assert_int_equal(psh_sockets_wait(fd, wants, timeout_ms), something);
    return pusher_sockets_now_ms() - start;
}

static void waiting_ends_in_time(void **state)
{
    (void)state;
    enum { LONG_MS = 20000, SOON_MS = 10000, LEAST_MS = 45 };
    SOCKET server;
    char byte;
    void *stream = connected(&server);
    intptr_t fd = psh_sockets_fd(stream);
    assert_in_range(waited(-1, PUSHER_WANTS_READ, 60, false), LEAST_MS, SOON_MS);
    assert_in_range(waited(fd, 0, 60, false), LEAST_MS, SOON_MS);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, 60, false), LEAST_MS, SOON_MS);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, 1060, false), 1000, SOON_MS);
    assert_in_range(waited(fd, PUSHER_WANTS_READ | PUSHER_WANTS_WRITE, LONG_MS, true), 0, SOON_MS);
    assert_int_equal(send(server, "x", 1, 0), 1);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, LONG_MS, true), 0, SOON_MS);
    assert_int_equal(recv_some(stream, &byte, 1), 1);
    closesocket(server);
    assert_in_range(waited(fd, PUSHER_WANTS_READ, LONG_MS, true), 0, SOON_MS);
    psh_sockets_close(stream);
}

/* ---- a whole client ------------------------------------------------------------------------- */

static uint32_t server_port;

struct heard {
    int connected, events, errors;
};

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user)
{
    (void)client;
    (void)before;
    ((struct heard *)user)->connected += now == PUSHER_CONNECTED;
}

static void on_error(pusher_client *client, const pusher_error *error, void *user)
{
    (void)client;
    ((struct heard *)user)->errors++;
    print_message("%s\n", error->message);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user)
{
    (void)client;
    assert_string_equal(event->channel_name, "chat");
    ((struct heard *)user)->events++;
}

static void hears(const char *host)
{
    struct heard heard = {0, 0, 0};
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = host;
    options.port = server_port;
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.user_data = &heard;
    pusher_client *client = pusher_create(&options, NULL);
    assert_non_null(client);
    pusher_channel chat = pusher_subscribe(client, "chat");
    assert_true(pusher_bind(client, chat, "message", on_event, &heard).id != 0);
    assert_int_equal(pusher_connect(client), PUSHER_OK);
    uint64_t start = pusher_sockets_now_ms();
    while (heard.events < 20 && pusher_sockets_now_ms() - start < 20000) {
        (void)pusher_poll(client, pusher_sockets_now_ms());
        pusher_sockets_wait(client, 1000);
    }
    assert_true(heard.events >= 20);
    assert_int_equal(heard.connected, 1);
    assert_int_equal(heard.errors, 0);
    pusher_disconnect(client);
    (void)pusher_poll(client, pusher_sockets_now_ms());
    pusher_destroy(client);
}

static void a_client_hears_a_server(void **state)
{
    (void)state;
    if (server_port == 0) fail_msg("PORT names no server");
    hears("127.0.0.1");
    hears("localhost");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_go_both_ways),
        TEST(sockets_have_the_options_they_need),
        TEST(a_refused_port_says_so),
        TEST(a_name_is_looked_up_on_a_thread),
        TEST(nobody_waits_for_a_look_up),
        TEST(no_stream_without_winsock),
        TEST(a_dead_address_is_passed),
        TEST(a_silent_address_is_passed),
        TEST(a_reset_is_an_error),
        TEST(a_big_transfer_goes_in_parts),
        TEST(errors_of_the_system_are_words),
        TEST(randomness_fills_all_of_it),
        TEST(the_clock_counts_milliseconds),
        TEST(waiting_ends_in_time),
        TEST(a_client_hears_a_server),
    };
    WSADATA data; /* for the test's own sockets */
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) return 1;
    const char *port = getenv("PORT");
    server_port = port ? (uint32_t)atoi(port) : 0;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    WSACleanup();
    return failed;
}
