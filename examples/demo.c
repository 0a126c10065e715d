/*
 * demo.c - seven seconds in the life of a client, a dying server in the middle included.
 *
 *     cc -I. -o demo examples/demo.c -lwslay -lmbedcrypto -lpthread
 *     ./demo SERVER_PROGRAM                        what `make demo` runs
 *     ./demo [--host H] [--port P] [--key K] [--channel C] [--seconds S]
 *
 * Given a server program (tests/server), it starts that and subscribes to channels of each kind:
 * public, private, presence and encrypted. A second client, the guest, comes to the presence
 * channel, waves and goes. Then it kills the server, starts it again and shows that everything
 * comes back; it exits with 0 only if every channel was joined anew, events came before and after,
 * and handling them allocated nothing. Without a program it listens to one channel of any server
 * that does without TLS, and kills nothing, until Ctrl-C or for S seconds (30).
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

/* When what happens, in ms since the start. */
#define GIVE_BACK_MS 2000 /* and the guest goes */
#define KILL_MS      2500
#define RESTART_MS   3500
#define END_MS       7000

#define WARM_UP_MS    500  /* after connecting; then an event may not allocate any more */
#define SHOW_EVERY_MS 1000 /* of a channel's events one line a second: the demo is to be read */
#define MAX_CHANNELS  5
#define PRESENCE      3 /* its place among them */
#define STEPS         3 /* of the script: give back, kill, restart */

struct channel {
    const char *name;
    pusher_channel handle;
    uint32_t joined;                /* how often: once for each connection */
    uint32_t events, events_before; /* the restart */
    uint32_t not_shown;             /* events since the last line */
    uint64_t shown_ms;              /* when that was; 0: not yet */
};

/* Channels of the server program, and how often they are subscribed to. One event of each but the
   presence channel comes at a steady pace: become_server says which. */
static const struct {
    const char *name;
    int references;
} channels_of_server[MAX_CHANNELS] = {{"chat", 2},
                                      {"weather", 1},
                                      {"private-orders", 1},
                                      {"presence-lobby", 1},
                                      {"private-encrypted-notes", 1}};

static struct {
    pusher_client *client, *guest;
    char endpoint[64]; /* where channels are authorized */
    uint64_t start_us;
    struct channel channels[MAX_CHANNELS];
    int channel_count;
    int step; /* how many of the script's have been done */
    bool joined_told, refused;
    bool guest_came, guest_waved, guest_went;
    uint64_t connected_ms;  /* since when */
    uint32_t calls;         /* of pusher_subscribe */
    uint32_t events;        /* the application's, all ... */
    uint32_t events_before; /* ... and before the restart */
    uint32_t allocations;
    uint32_t steady_events, steady_allocations;
    uint64_t worst_poll_us;
} demo;

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t since_start_ms(void)
{
    return (now_us() - demo.start_us) / 1000u;
}

/* One line, with the seconds since the start in front. Stdout is fully buffered and flushed
   between polls only: a slow terminal must not count as a slow poll. */
static void say(const char *what, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%6.2f  %-6s  ", (double)since_start_ms() / 1000.0, what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

/* ---- the server program --------------------------------------------------------------------- */

static pid_t server_pid;

/* Killed and not asked, so that the client sees what a crash looks like; and waited for, so that
   no zombie stays. Registered with atexit, it covers every way out. */
static void stop_server(void)
{
    if (server_pid <= 0) return;
    kill(server_pid, SIGKILL);
    while (waitpid(server_pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    server_pid = 0;
}

static void become_server(const char *program, const char *port, int output, pid_t parent)
{
#if defined(__linux__)
    /* If we crash, nobody runs stop_server: then the system ends the server. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(126);
#else
    (void)parent;
#endif
    dup2(output, STDOUT_FILENO);
    execl(program, program, "--port", port, "--key", "app-key", "--quiet", "--tick",
          "chat:message:100", "--tick", "weather:update:250", "--tick", "private-orders:order:400",
          "--tick", "private-encrypted-notes:note:400", (char *)NULL);
    perror(program);
    _exit(127);
}

/* The program's first line says where it listens. Returns that port, or 0. */
static unsigned read_port(int from)
{
    char line[128];
    size_t len = 0;
    unsigned port = 0;
    struct pollfd waiting;
    waiting.fd = from;
    waiting.events = POLLIN;
    while (len + 1 < sizeof line) {
        waiting.revents = 0;
        if (poll(&waiting, 1, 5000) <= 0 || read(from, line + len, 1) != 1) return 0;
        if (line[len++] == '\n') break;
    }
    line[len] = '\0';
    return sscanf(line, "listening on 127.0.0.1:%u", &port) == 1 ? port : 0;
}

/* Port 0: any free one. Returns the port, or 0 when it does not start. */
static unsigned start_server(const char *program, unsigned wanted_port)
{
    int ends[2];
    char port_text[16];
    unsigned port;
    pid_t parent = getpid();
    snprintf(port_text, sizeof port_text, "%u", wanted_port);
    if (pipe(ends) != 0) return 0;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC); /* its copy as stdout stays open */
    fflush(stdout);                      /* or the child would inherit what is not printed yet */
    server_pid = fork();
    if (server_pid == 0) become_server(program, port_text, ends[1], parent);
    close(ends[1]);
    port = server_pid > 0 ? read_port(ends[0]) : 0;
    close(ends[0]);
    if (port == 0) stop_server();
    return port;
}

/* ---- callbacks ------------------------------------------------------------------------------ */

static void *counting_alloc(size_t size, void *user_data)
{
    (void)user_data;
    demo.allocations++;
    return malloc(size);
}

static void counting_free(void *memory, void *user_data)
{
    (void)user_data;
    free(memory);
}

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    const char *socket_id = pusher_socket_id(client); /* NULL unless connected */
    int i;
    (void)user_data;
    say("state", "%s -> %s%s%s", pusher_state_name(before), pusher_state_name(now),
        socket_id != NULL ? ", socket id " : "", socket_id != NULL ? socket_id : "");
    if (now != PUSHER_CONNECTED) return;
    demo.connected_ms = since_start_ms();
    for (i = 0; i < demo.channel_count; i++) { /* show the first event at once */
        demo.channels[i].shown_ms = 0;
        demo.channels[i].not_shown = 0;
    }
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    say("error", "%s", error->message);
}

static void on_retry(pusher_client *client, uint32_t delay_ms, uint32_t attempt, void *user_data)
{
    (void)client, (void)user_data;
    say("retry", "attempt %u in %u ms", (unsigned)attempt, (unsigned)delay_ms);
}

/* Once, when the last channel has been joined. */
static void tell_joined(void)
{
    pusher_stats stats;
    int i;
    for (i = 0; i < demo.channel_count; i++) {
        if (demo.channels[i].joined == 0) return;
    }
    if (demo.joined_told) return;
    demo.joined_told = true;
    pusher_get_stats(demo.client, &stats);
    say("note", "calls of subscribe: %u, messages sent: %u, references to %s: %u",
        (unsigned)demo.calls, (unsigned)stats.messages_sent, demo.channels[0].name,
        (unsigned)pusher_channel_references(demo.client, demo.channels[0].handle));
}

/* The protocol's news. */
static void on_news(struct channel *channel, const pusher_event *event)
{
    unsigned here = (unsigned)pusher_member_count(demo.client, event->channel);
    if (strcmp(event->name, "pusher:subscription_succeeded") == 0) {
        channel->joined++;
        if (here > 0)
            say("event", "%-23s %s, %u here", channel->name, event->name, here);
        else
            say("event", "%-23s %s", channel->name, event->name);
        if (channel == &demo.channels[PRESENCE] && !demo.guest_came) pusher_connect(demo.guest);
        tell_joined();
    } else if (event->member != NULL) {
        if (strcmp(event->name, "pusher:member_added") == 0)
            demo.guest_came = true;
        else
            demo.guest_went = true;
        say("event", "%-23s %s %s, %u here", channel->name, event->name, event->member->id, here);
    } else {
        say("event", "%-23s %s %.100s", channel->name, event->name, event->data);
    }
}

/* All events of a channel. */
static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    struct channel *channel = (struct channel *)user_data;
    uint64_t now_ms = since_start_ms();
    (void)client;
    if (strncmp(event->name, "pusher:", 7) == 0) {
        on_news(channel, event);
        return;
    }
    demo.events++;
    channel->events++;
    if (event->user_id != NULL) { /* a client event, and the server says whose */
        demo.guest_waved = true;
        say("event", "%-23s %s %.60s  from %s", channel->name, event->name, event->data,
            event->user_id);
        return;
    }
    if (channel->shown_ms != 0 && now_ms < channel->shown_ms + SHOW_EVERY_MS) {
        channel->not_shown++;
        return;
    }
    if (channel->not_shown == 0) {
        say("event", "%-23s %s %.60s", channel->name, event->name, event->data);
    } else {
        say("event", "%-23s %s %.60s  (+%u not shown)", channel->name, event->name, event->data,
            (unsigned)channel->not_shown);
    }
    channel->shown_ms = now_ms;
    channel->not_shown = 0;
}

/* The guest is in: he waves. Goes from client to client, by the server. */
static void on_guest_joined(pusher_client *client, const pusher_event *event, void *user_data)
{
    static const char wave[] = "{\"hello\":\"everybody\"}";
    (void)user_data;
    pusher_trigger(client, event->channel, "client-wave", wave, sizeof wave - 1);
}

/* ---- the run -------------------------------------------------------------------------------- */

static bool is_steady(uint64_t now_ms)
{
    return pusher_get_state(demo.client) == PUSHER_CONNECTED &&
           now_ms >= demo.connected_ms + WARM_UP_MS;
}

/* pusher_poll(), timed, and with its allocations put down to the events it handled. */
static void poll_measured(void)
{
    uint32_t events = demo.events, allocations = demo.allocations;
    bool steady = is_steady(since_start_ms());
    uint64_t before_us = now_us(), us;
    pusher_poll(demo.client, pusher_sockets_now_ms());
    us = now_us() - before_us;
    if (us > demo.worst_poll_us) demo.worst_poll_us = us;
    if (steady && is_steady(since_start_ms())) {
        demo.steady_events += demo.events - events;
        demo.steady_allocations += demo.allocations - allocations;
    }
    if (demo.guest != NULL) pusher_poll(demo.guest, pusher_sockets_now_ms());
    fflush(stdout);
}

/* Not at the kill: what had arrived then was still to be read. */
static void count_before(void)
{
    int i;
    demo.events_before = demo.events;
    for (i = 0; i < demo.channel_count; i++)
        demo.channels[i].events_before = demo.channels[i].events;
}

/* What happens when. Returns false if the server does not start again. */
static bool play_script(const char *program, unsigned port)
{
    uint64_t now_ms = since_start_ms();
    struct channel *first = &demo.channels[0];
    if (demo.step == 0 && now_ms >= GIVE_BACK_MS) {
        demo.step++;
        pusher_unsubscribe(demo.client, first->handle);
        say("note", "gave one reference to %s back, %u left, so the channel stays", first->name,
            (unsigned)pusher_channel_references(demo.client, first->handle));
        if (demo.guest != NULL) pusher_disconnect(demo.guest);
    }
    if (program == NULL) return true;
    if (demo.step == 1 && now_ms >= KILL_MS) {
        demo.step++;
        say("note", "killing the server");
        stop_server();
    } else if (demo.step == 2 && now_ms >= RESTART_MS) {
        count_before();
        say("note", "starting the server again on port %u", port);
        if (start_server(program, port) != port) return false;
        demo.step++;
    }
    return true;
}

static void run(const char *program, unsigned port, uint64_t end_ms)
{
    while (!stop_asked && since_start_ms() < end_ms) {
        poll_measured();
        demo.refused = pusher_get_state(demo.client) == PUSHER_FAILED;
        if (demo.refused || !play_script(program, port)) return;
        pusher_sockets_wait(demo.client, 20);
    }
}

static void print_summary(const char *shortcoming)
{
    pusher_stats stats;
    int i;
    pusher_get_stats(demo.client, &stats);
    puts("\nsummary");
    printf("  events                 %u", (unsigned)demo.events);
    if (demo.step == STEPS) {
        printf("  (%u before the server's restart, %u after)", (unsigned)demo.events_before,
               (unsigned)(demo.events - demo.events_before));
    }
    printf("\n  reconnects             %u  (connections: %u, attempts: %u)\n",
           stats.connections > 0 ? (unsigned)stats.connections - 1 : 0, (unsigned)stats.connections,
           (unsigned)stats.attempts);
    printf("  worst poll             %lu us\n", (unsigned long)demo.worst_poll_us);
    printf("  allocations per event  ");
    if (demo.steady_events == 0)
        puts("not measured: no events in the steady state");
    else {
        printf("%.3g  (%u in %u events, counted from %d ms after connecting)\n",
               (double)demo.steady_allocations / (double)demo.steady_events,
               (unsigned)demo.steady_allocations, (unsigned)demo.steady_events, WARM_UP_MS);
    }
    printf("  references            ");
    for (i = 0; i < demo.channel_count; i++) {
        printf(" %s %u", demo.channels[i].name,
               (unsigned)pusher_channel_references(demo.client, demo.channels[i].handle));
    }
    if (shortcoming == NULL)
        puts("\n  all well");
    else
        printf("\n  NOT as it should be: %s\n", shortcoming);
}

static bool subscribe(const char *name, int times)
{
    struct channel *channel = &demo.channels[demo.channel_count++];
    channel->name = name;
    for (; times > 0; times--) {
        channel->handle = pusher_subscribe(demo.client, name);
        if (channel->handle.id == 0) {
            fprintf(stderr, "demo: %s\n", pusher_last_error(demo.client)->message);
            return false;
        }
        demo.calls++;
    }
    pusher_bind_all(demo.client, channel->handle, on_event, channel);
    return true;
}

/* ---- the program ---------------------------------------------------------------------------- */

struct arguments {
    const char *program, *host, *key, *channel;
    unsigned port, seconds;
};

static bool read_number(const char *text, unsigned max, unsigned *number)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value < 1 || value > max) return false;
    *number = (unsigned)value;
    return true;
}

static bool read_arguments(int argc, char **argv, struct arguments *args)
{
    int i;
    memset(args, 0, sizeof *args);
    args->host = "127.0.0.1";
    args->key = "app-key";
    args->channel = "chat";
    args->port = 6001;
    args->seconds = 30;
    if (argc == 2 && argv[1][0] != '-') {
        args->program = argv[1];
        return true;
    }
    for (i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--host") == 0)
            args->host = value;
        else if (strcmp(argv[i], "--key") == 0)
            args->key = value;
        else if (strcmp(argv[i], "--channel") == 0)
            args->channel = value;
        else if (strcmp(argv[i], "--port") != 0 && strcmp(argv[i], "--seconds") != 0)
            return false;
        else if (argv[i][2] == 'p' && !read_number(value, 65535, &args->port))
            return false;
        else if (argv[i][2] == 's' && !read_number(value, 1000000, &args->seconds))
            return false;
    }
    return argc > 1 && i == argc;
}

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART: a signal ends the wait between two polls */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static bool create_client(const struct arguments *args)
{
    pusher_pair user_id = {"user_id", "demo"};
    pusher_options options = {0};
    pusher_error error;
    options.host = args->host;
    options.port = args->port;
    options.key = args->key;
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.retry_fn = on_retry;
    options.allocator.alloc_fn = counting_alloc;
    options.allocator.free_fn = counting_free;
    if (args->program != NULL) { /* a short film: the defaults are 1 s and 30 s */
        options.reconnect_base_ms = 300;
        options.reconnect_cap_ms = 1000;
        snprintf(demo.endpoint, sizeof demo.endpoint, "http://127.0.0.1:%u/pusher/auth",
                 args->port);
        options.auth.endpoint = demo.endpoint;
        options.auth.params = &user_id;
        options.auth.param_count = 1;
    }
    demo.client = pusher_create(&options, &error);
    if (demo.client == NULL) fprintf(stderr, "demo: %s\n", error.message);
    return demo.client != NULL;
}

/* He is silent, and not measured. */
static bool create_guest(const struct arguments *args)
{
    pusher_pair user_id = {"user_id", "guest"};
    pusher_options options = {0};
    pusher_channel lobby;
    options.host = args->host;
    options.port = args->port;
    options.key = args->key;
    options.auth.endpoint = demo.endpoint;
    options.auth.params = &user_id;
    options.auth.param_count = 1;
    demo.guest = pusher_create(&options, NULL);
    if (demo.guest == NULL) return false;
    lobby = pusher_subscribe(demo.guest, channels_of_server[PRESENCE].name);
    return pusher_bind(demo.guest, lobby, "pusher:subscription_succeeded", on_guest_joined, NULL)
               .id != 0;
}

/* NULL if the run has shown what it is to show. */
static const char *what_is_wrong(bool with_restart)
{
    pusher_stats stats;
    int i;
    pusher_get_stats(demo.client, &stats);
    if (stats.connections == 0) return "never connected";
    if (demo.refused) return "the server refused for good";
    if (demo.steady_allocations > 0) return "handling events allocated memory";
    if (!with_restart) return NULL; /* of somebody else's channel we cannot know */
    if (demo.step < STEPS) return "it ended before the server was back";
    for (i = 0; i < demo.channel_count; i++) {
        const struct channel *channel = &demo.channels[i];
        if (channel->joined != 2) return "a channel was not joined twice, once after the restart";
        if (channel->events_before == 0) return "a channel had no events before the restart";
        if (channel->events == channel->events_before && i != PRESENCE)
            return "a channel had no events after the restart";
    }
    if (!demo.guest_came || !demo.guest_waved || !demo.guest_went)
        return "the guest was not seen to come, wave and go";
    if (stats.dropped_decrypt > 0) return "encrypted events could not be opened";
    if (demo.steady_events == 0) return "no events in the steady state";
    return NULL;
}

static bool subscribe_all(const struct arguments *args)
{
    int i;
    if (args->program == NULL) return subscribe(args->channel, 2);
    for (i = 0; i < MAX_CHANNELS; i++) {
        if (!subscribe(channels_of_server[i].name, channels_of_server[i].references)) return false;
    }
    return create_guest(args);
}

static bool run_demo(const struct arguments *args)
{
    const char *shortcoming = NULL;
    bool ready = create_client(args);
    demo.start_us = now_us();
    ready = ready && subscribe_all(args);
    if (ready) {
        pusher_connect(demo.client);
        say("note", "server %s port %u, key %s", args->host, args->port, args->key);
        if (args->program == NULL)
            say("note", "trigger an event on channel %s, and it appears here", args->channel);

        run(args->program, args->port,
            args->program != NULL ? END_MS : 1000u * (uint64_t)args->seconds);

        pusher_disconnect(demo.client); /* a goodbye, sent by one more poll */
        pusher_poll(demo.client, pusher_sockets_now_ms());
        shortcoming = what_is_wrong(args->program != NULL);
        print_summary(shortcoming);
    }
    pusher_destroy(demo.guest);
    pusher_destroy(demo.client);
    return ready && shortcoming == NULL;
}

int main(int argc, char **argv)
{
    struct arguments args;
    if (!read_arguments(argc, argv, &args)) {
        fputs("usage: demo SERVER_PROGRAM\n"
              "       demo [--host H] [--port P] [--key K] [--channel C] [--seconds S]\n",
              stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOFBF, 65536);
    catch_signals();
    atexit(stop_server);
    if (args.program != NULL) {
        args.port = start_server(args.program, 0);
        if (args.port == 0) return fprintf(stderr, "demo: %s does not start\n", args.program), 1;
    }
    return run_demo(&args) ? 0 : 1;
}
