/*
 * pusher-server: the tests' server as a program, for `make demo`, the examples and curl.
 * See --help; server.h says what it does.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { TICKS = 64 };

typedef struct tick {
    char *channel;
    const char *event; /* within channel's text */
    uint32_t period_ms, n;
    uint64_t due_ms;
} tick;

typedef struct program {
    server_options options;
    tick ticks[TICKS];
    size_t tick_count;
    bool stall, control;
    char *input; /* of --control, not yet taken */
    size_t input_len, input_cap;
} program;

static const char usage[] =
    "pusher-server: a Pusher Channels server on 127.0.0.1, for trying things out\n"
    "\n"
    "  --port N              6001; 0: any free one\n"
    "  --ipv6                listen on ::1 too\n"
    "  --key KEY             app-key\n"
    "  --secret SECRET       app-secret\n"
    "  --master-key KEY      of encrypted channels, 32 bytes in base64\n"
    "  --path PREFIX         in front of /app/KEY\n"
    "  --origin ORIGIN       the only one allowed\n"
    "  --dialect NAME        pusher, soketi, reverb or sockudo\n"
    "  --tick CH:EVENT:MS    publish {\"n\":1}, {\"n\":2} ... at that period; repeatable;\n"
    "                        sealed where the channel is an encrypted one\n"
    "  --activity-timeout S  seconds told to clients\n"
    "  --idle MS             silence after which the server pings or closes\n"
    "  --max-connections N   more are over quota\n"
    "  --rate N              client events a second and connection\n"
    "  --no-client-events    refuse them\n"
    "  --counts              send subscription counts\n"
    "  --check               POST /apps/APP/events must be signed\n"
    "  --control             take commands on standard input, answer on standard output, end\n"
    "                        with the input; control.h lists them\n"
    "  --patient             after a close frame wait for the client's before closing\n"
    "  --quiet               do not print what clients send and get\n"
    "Misbehaviour, on every connection:\n"
    "  --stall               accept nothing, answer nothing\n"
    "  --fragment N          text messages in frames of N bytes\n"
    "  --write N[:MS]        at most N bytes a write, MS apart\n"
    "  --http STATUS         this status instead of 101\n"
    "  --error CODE          pusher:error instead of connection_established\n"
    "  --close-after N:CODE  close after N messages; code 0 none, -1 FIN, -2 reset\n"
    "  --bad-frame N         number of a server_bad_frame in server.h\n"
    "  --flood N             N events after each subscription\n"
    "  --never WHAT          answer, establish, acknowledge, pong or close\n"
    "\n"
    "curl -d '{\"name\":\"hi\",\"channel\":\"news\",\"data\":\"{}\"}' "
    "127.0.0.1:6001/apps/app/events\n";

static void complain(const char *what, const char *value)
{
    fprintf(stderr, "pusher-server: %s: %s (try --help)\n", what, value ? value : "no value");
    exit(2);
}

static long number(const char *name, const char *text, long least, long most)
{
    char *end = NULL;
    long n = text && *text ? strtol(text, &end, 10) : 0;
    if (!end || *end || n < least || n > most) {
        complain(name, text);
    }
    return n;
}

static uint32_t count(const char *name, const char *text)
{
    return (uint32_t)number(name, text, 0, INT32_MAX);
}

/* "A:B" -> puts a NUL at the last colon and returns B; NULL when there is none. */
static char *split_last(char *text)
{
    char *colon = text ? strrchr(text, ':') : NULL;
    if (colon) {
        *colon++ = '\0';
    }
    return colon;
}

static void add_tick(program *p, char *text)
{
    char *period = split_last(text), *event = split_last(text);
    if (!event || p->tick_count == TICKS) {
        complain("--tick", text);
    }
    tick *t = &p->ticks[p->tick_count++];
    t->channel = text;
    t->event = event;
    t->period_ms = (uint32_t)number("--tick", period, 1, INT32_MAX);
}

static server_dialect dialect(const char *text)
{
    static const char *const names[] = {"pusher", "soketi", "reverb", "sockudo"};
    for (int i = 0; i < 4; i++) {
        if (text && strcmp(text, names[i]) == 0) {
            return (server_dialect)i;
        }
    }
    complain("--dialect", text);
    return SERVER_PUSHER;
}

static void never(server_faults *f, const char *text)
{
    struct { const char *name; bool *flag; } const all[] = {
        {"answer", &f->never_answer}, {"establish", &f->never_establish},
        {"acknowledge", &f->never_acknowledge}, {"pong", &f->never_pong},
        {"close", &f->ignore_close}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (text && strcmp(text, all[i].name) == 0) {
            *all[i].flag = true;
            return;
        }
    }
    complain("--never", text);
}

/* Options without a value. */
static bool read_flag(program *p, const char *name)
{
    server_options *o = &p->options;
    struct { const char *name; bool *flag; } const all[] = {
        {"--ipv6", &o->ipv6}, {"--no-client-events", &o->no_client_events},
        {"--counts", &o->subscription_count}, {"--check", &o->check_http}, {"--patient", &o->patient},
        {"--stall", &p->stall}, {"--control", &p->control}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(name, all[i].name) == 0) {
            *all[i].flag = true;
            return true;
        }
    }
    if (strcmp(name, "--quiet") == 0) {
        o->trace = NULL;
        return true;
    }
    return false;
}

static bool read_fault(server_faults *f, const char *name, char *value)
{
    if (strcmp(name, "--fragment") == 0) {
        f->fragment = count(name, value);
    } else if (strcmp(name, "--write") == 0) {
        char *pause = split_last(value);
        f->write_bytes = count(name, value);
        f->write_pause_ms = pause ? count(name, pause) : 0;
    } else if (strcmp(name, "--http") == 0) {
        f->http_status = (int)number(name, value, 100, 599);
        strcpy(f->http_reason, "As asked");
    } else if (strcmp(name, "--error") == 0) {
        f->establish_error = (int)number(name, value, 1, 4999);
    } else if (strcmp(name, "--close-after") == 0) {
        char *code = split_last(value);
        f->close_after = count(name, value);
        f->close_code = (int)number(name, code, -2, 4999);
    } else if (strcmp(name, "--bad-frame") == 0) {
        f->bad_frame = (server_bad_frame)number(name, value, 1, SERVER_BAD_COUNT - 1);
    } else if (strcmp(name, "--flood") == 0) {
        f->flood = count(name, value);
    } else if (strcmp(name, "--never") == 0) {
        never(f, value);
    } else {
        return false;
    }
    return true;
}

static void read_option(program *p, const char *name, char *value)
{
    server_options *o = &p->options;
    struct { const char *name; const char **text; } const texts[] = {
        {"--key", &o->key}, {"--secret", &o->secret}, {"--path", &o->path},
        {"--origin", &o->origin}, {"--master-key", &o->master_key}};
    struct { const char *name; uint32_t *number; } const numbers[] = {
        {"--activity-timeout", &o->activity_timeout}, {"--idle", &o->idle_ms},
        {"--max-connections", &o->max_connections}, {"--rate", &o->client_events_per_second}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = value ? value : (complain(name, value), "");
            return;
        }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].number = count(name, value);
            return;
        }
    }
    if (strcmp(name, "--port") == 0) {
        o->port = (uint16_t)number(name, value, 0, 65535);
    } else if (strcmp(name, "--dialect") == 0) {
        o->dialect = dialect(value);
    } else if (strcmp(name, "--tick") == 0) {
        add_tick(p, value);
    } else if (!read_fault(&o->faults, name, value)) {
        complain("unknown option", name);
    }
}

static void read_arguments(program *p, int argc, char **argv)
{
    p->options.port = 6001;
    p->options.trace = stderr;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (!read_flag(p, argv[i])) {
            read_option(p, argv[i], argv[i + 1]); /* argv ends with NULL */
            i++;
        }
    }
    p->options.no_log = !p->control; /* it may run for days */
    if (p->options.master_key && strlen(p->options.master_key) != 44) {
        complain("--master-key", p->options.master_key);
    }
}

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* Publishes what is due; returns how long there is nothing to do. */
static uint64_t run_ticks(program *p, server *s)
{
    uint64_t now = clock_ms(), wait = 3600000;
    for (size_t i = 0; i < p->tick_count; i++) {
        tick *t = &p->ticks[i];
        if (t->due_ms == 0) {
            t->due_ms = now + t->period_ms;
        }
        if (now >= t->due_ms) {
            char data[32];
            snprintf(data, sizeof data, "{\"n\":%u}", ++t->n);
            if (strncmp(t->channel, "private-encrypted-", 18) == 0) {
                server_publish_sealed(s, t->channel, t->event, data, NULL);
            } else {
                server_publish(s, t->channel, t->event, data);
            }
            t->due_ms += t->period_ms;
            t->due_ms = t->due_ms > now ? t->due_ms : now + t->period_ms; /* after a suspend */
        }
        wait = t->due_ms - now < wait ? t->due_ms - now : wait;
    }
    return wait;
}

static void run_until_signal(program *p, server *s, const sigset_t *ends)
{
    int got;
    do {
        uint64_t ms = run_ticks(p, s);
        struct timespec wait = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
        got = sigtimedwait(ends, NULL, &wait);
    } while (got < 0 && (errno == EAGAIN || errno == EINTR));
}

/* ---- --control ---- */

/* false at the end of the input */
static bool read_input(program *p)
{
    if (p->input_cap - p->input_len < 65536) {
        p->input_cap = p->input_cap * 2 + 131072;
        p->input = realloc(p->input, p->input_cap);
        if (!p->input) {
            abort();
        }
    }
    ssize_t n = read(STDIN_FILENO, p->input + p->input_len, 65536);
    p->input_len += n > 0 ? (size_t)n : 0;
    return n > 0 || (n < 0 && errno == EINTR);
}

static void run_lines(program *p, control *c)
{
    size_t at = 0;
    char *end;
    while ((end = memchr(p->input + at, '\n', p->input_len - at)) != NULL) {
        char *line = p->input + at;
        at = (size_t)(end - p->input) + 1;
        *end = '\0';
        control_line(c, line, stdout);
    }
    p->input_len -= at;
    memmove(p->input, p->input + at, p->input_len);
}

/* A signal ends it too, with its usual effect: whoever holds our input has to clean up. */
static void run_until_eof(program *p, control *c)
{
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    bool open = true;
    while (open) {
        uint64_t ms = c->s ? run_ticks(p, c->s) : 3600000;
        if (poll(&in, 1, (int)ms) > 0) {
            open = read_input(p);
            run_lines(p, c);
        }
    }
    free(p->input);
}

int main(int argc, char **argv)
{
    static program p;
    sigset_t ends;
    read_arguments(&p, argc, argv);
    if (!p.control) {
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        sigprocmask(SIG_BLOCK, &ends, NULL); /* taken by sigtimedwait only */
    }
    control c = {server_start(&p.options), p.options};
    if (!c.s) {
        fprintf(stderr, "pusher-server: port %u: %s\n", (unsigned)p.options.port,
                strerror(errno));
        return 1;
    }
    server_stall(c.s, p.stall);
    printf("listening on 127.0.0.1:%u\n", (unsigned)server_port(c.s));
    fflush(stdout);
    if (p.control) {
        run_until_eof(&p, &c);
    } else {
        run_until_signal(&p, c.s, &ends);
    }
    if (c.s) {
        server_stop(c.s, SERVER_STOP_DIALECT);
    }
    return 0;
}
