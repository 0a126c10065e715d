/*
 * listen.c - a command-line tool: every event of some channels as one line of JSON on stdout.
 *
 *     cc -I. -o listen examples/listen.c -lwslay -lmbedcrypto -lpthread
 *     ./listen --host 127.0.0.1 --port 6001 --key app-key chat weather
 *     ./listen --key app-key chat | jq .data
 *
 * A line is {"channel":"chat","event":"message","data":...}. Data stands there as a JSON value
 * when the payload is JSON, as a string when it is not, and as null when there was none. What
 * happens to the connection is told on stderr. It reconnects for ever and ends cleanly on
 * Ctrl-C. Shows options, all the callbacks, PUSHER_ALL, sleeping between polls, and a clean end.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- is it JSON? RFC 8259, and nothing else ------------------------------------------------- */

/* Each check returns the first byte after what it accepts, or NULL. The text ends with a NUL,
   which no rule accepts, so none needs to be told where the end is. */

/* Deeper than this is printed as a string: the tools behind our pipe have limits of their own. */
#define MAX_DEPTH 128

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
        p++;
    return p;
}

static const char *check_word(const char *p, const char *word)
{
    size_t len = strlen(word);
    return strncmp(p, word, len) == 0 ? p + len : NULL;
}

static const char *check_digits(const char *p)
{
    if (*p < '0' || *p > '9') return NULL;
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

static const char *check_number(const char *p)
{
    if (*p == '-') p++;
    p = *p == '0' ? p + 1 : check_digits(p);
    if (p != NULL && *p == '.') p = check_digits(p + 1);
    if (p != NULL && (*p == 'e' || *p == 'E')) {
        p++;
        if (*p == '+' || *p == '-') p++;
        p = check_digits(p);
    }
    return p;
}

static const char *check_string(const char *p)
{
    int i;
    if (*p++ != '"') return NULL;
    for (; *p != '"'; p++) {
        if ((unsigned char)*p < 0x20) return NULL;
        if (*p != '\\') continue;
        p++;
        if (*p == '\0' || strchr("\"\\/bfnrtu", *p) == NULL) return NULL;
        for (i = *p == 'u' ? 4 : 0; i > 0; i--) {
            if (!isxdigit((unsigned char)*++p)) return NULL;
        }
    }
    return p + 1;
}

static const char *check_value(const char *p, int depth)
{
    char end = *p == '{' ? '}' : ']';
    if (*p == '"') return check_string(p);
    if (*p == 't') return check_word(p, "true");
    if (*p == 'f') return check_word(p, "false");
    if (*p == 'n') return check_word(p, "null");
    if (*p != '{' && *p != '[') return check_number(p);
    if (depth == 0) return NULL;

    p = skip_space(p + 1);
    if (*p == end) return p + 1;
    for (;;) {
        if (end == '}') {
            p = check_string(p);
            if (p == NULL) return NULL;
            p = skip_space(p);
            if (*p++ != ':') return NULL;
            p = skip_space(p);
        }
        p = check_value(p, depth - 1);
        if (p == NULL) return NULL;
        p = skip_space(p);
        if (*p == end) return p + 1;
        if (*p++ != ',') return NULL;
        p = skip_space(p);
    }
}

/* A payload with a NUL inside stops the check early, and so is not JSON: it must reach the end. */
static bool is_json(const char *text, size_t len)
{
    const char *p = check_value(skip_space(text), MAX_DEPTH);
    return p != NULL && skip_space(p) == text + len;
}

/* ---- one event, one line -------------------------------------------------------------------- */

static void print_string(const char *text, size_t len)
{
    size_t i;
    putchar('"');
    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') putchar('\\');
        if (c >= 0x20)
            putchar(c);
        else if (c == '\n')
            fputs("\\n", stdout);
        else
            printf("\\u%04x", (unsigned)c);
    }
    putchar('"');
}

static void print_data(const pusher_event *event)
{
    size_t i;
    if (event->data_len == 0) {
        fputs(event->raw_len == 0 ? "null" : "\"\"", stdout);
    } else if (is_json(event->data, event->data_len)) {
        /* A raw line break in valid JSON stands between tokens, where a space means the same. */
        for (i = 0; i < event->data_len; i++) {
            char c = event->data[i];
            putchar(c == '\n' || c == '\r' ? ' ' : c);
        }
    } else {
        print_string(event->data, event->data_len);
    }
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    fputs("{\"channel\":", stdout);
    print_string(event->channel_name, strlen(event->channel_name));
    fputs(",\"event\":", stdout);
    print_string(event->name, strlen(event->name));
    fputs(",\"data\":", stdout);
    print_data(event);
    fputs("}\n", stdout);
    fflush(stdout); /* whoever reads our pipe wants the line now */
}

/* ---- the connection, told on stderr --------------------------------------------------------- */

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "state: %s -> %s\n", pusher_state_name(before), pusher_state_name(now));
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    char *last_error = (char *)user_data; /* the sentence dies with this call: keep a copy */
    (void)client;
    fprintf(stderr, "error: %s\n", error->message);
    snprintf(last_error, 256, "%s", error->message);
}

static void on_retry(pusher_client *client, uint32_t delay_ms, uint32_t attempt, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "retry: attempt %u in %u ms\n", (unsigned)attempt, (unsigned)delay_ms);
}

static void on_log(const char *message, void *user_data)
{
    (void)user_data;
    fprintf(stderr, "log: %s\n", message);
}

/* ---- the program ---------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART: a signal ends the wait between two polls */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void usage(FILE *out)
{
    fputs("usage: listen [options] CHANNEL...\n"
          "Prints each event as one line of JSON until Ctrl-C; the connection's news on stderr.\n"
          "\n"
          "  --host H     the server's name or address     (127.0.0.1)\n"
          "  --port P     its port                         (6001; with --cluster 80)\n"
          "  --key K      the app's key                    (app-key)\n"
          "  --cluster C  pusher.com's cluster instead of a host: eu, mt1 ...\n"
          "  --keep       when refused for good, try again every 30 s instead of ending\n"
          "  --verbose    tell each step of the connection\n"
          "  --help       this text\n"
          "\n"
          "Exit status: 0 after Ctrl-C, 1 when refused for good, 2 on bad arguments.\n",
          out);
}

static int bad_arguments(const char *what, const char *which)
{
    fprintf(stderr, "listen: %s%s (listen --help tells more)\n", what, which);
    return 2;
}

/* 0 to go on, else the exit status + 1. Channels are left at the front of argv. */
static int read_arguments(int argc, char **argv, pusher_options *options, bool *keep, int *channels)
{
    int i;
    for (i = 1; i < argc; i++) {
        const char *arg = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--help") == 0) return usage(stdout), 1;
        if (strcmp(arg, "--keep") == 0)
            *keep = true;
        else if (strcmp(arg, "--verbose") == 0)
            options->logger.log_fn = on_log;
        else if (arg[0] != '-')
            argv[(*channels)++] = argv[i];
        else if (strcmp(arg, "--host") != 0 && strcmp(arg, "--port") != 0 &&
                 strcmp(arg, "--key") != 0 && strcmp(arg, "--cluster") != 0) {
            return bad_arguments("there is no option ", arg) + 1;
        } else if (value == NULL) {
            return bad_arguments("no value after ", arg) + 1;
        } else {
            i++;
            if (arg[2] == 'h')
                options->host = value;
            else if (arg[2] == 'k')
                options->key = value;
            else if (arg[2] == 'c')
                options->cluster = value;
            else {
                char *end;
                unsigned long port = strtoul(value, &end, 10);
                if (!isdigit((unsigned char)*value) || *end != '\0' || port < 1 || port > 65535)
                    return bad_arguments("a port is a number from 1 to 65535, not ", value) + 1;
                options->port = (uint32_t)port;
            }
        }
    }
    if (*channels == 0) return bad_arguments("no channel to listen to", "") + 1;
    if (options->host == NULL && options->cluster == NULL) options->host = "127.0.0.1";
    if (options->port == 0 && options->host != NULL) options->port = 6001;
    return 0;
}

/* Until a signal, a full disk, or a refusal for good. */
static int listen_on(pusher_client *client, bool keep, const char *last_error)
{
    uint64_t again_ms = 0; /* --keep: when to try after a refusal */
    while (!stop_asked) {
        uint64_t now_ms = pusher_sockets_now_ms();
        pusher_poll(client, now_ms);
        if (ferror(stdout)) {
            fputs("listen: cannot write to standard output\n", stderr);
            return 1;
        }
        if (pusher_get_state(client) == PUSHER_FAILED) {
            if (!keep) {
                fprintf(stderr, "listen: refused for good: %s\n", last_error);
                return 1;
            }
            if (again_ms == 0) {
                again_ms = now_ms + 30000;
                fputs("retry: asking again in 30000 ms\n", stderr);
            } else if (now_ms >= again_ms) {
                again_ms = 0;
                pusher_connect(client);
                continue;
            }
        }
        /* A signal just before the wait does not end it: hence not longer than this. */
        pusher_sockets_wait(client, 250);
    }
    return 0;
}

/* Say goodbye, and give the server a second to answer. */
static void leave(pusher_client *client)
{
    uint64_t deadline_ms = pusher_sockets_now_ms() + 1000, now_ms;
    pusher_disconnect(client);
    for (;;) {
        now_ms = pusher_sockets_now_ms();
        pusher_poll(client, now_ms);
        if (pusher_get_state(client) == PUSHER_DISCONNECTED && pusher_wants(client) == 0) break;
        if (now_ms >= deadline_ms) break;
        pusher_sockets_wait(client, 50);
    }
}

int main(int argc, char **argv)
{
    char last_error[256] = "no reason given";
    bool keep = false;
    int i, status, channels = 0;
    pusher_error error;
    pusher_client *client;
    pusher_options options = {0};

    options.key = "app-key";
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.retry_fn = on_retry;
    options.user_data = last_error;
    status = read_arguments(argc, argv, &options, &keep, &channels);
    if (status != 0) return status - 1;

    client = pusher_create(&options, &error);
    if (client == NULL) return bad_arguments(error.message, "");
    for (i = 0; i < channels; i++) {
        pusher_channel channel = pusher_subscribe(client, argv[i]);
        if (channel.id == 0) {
            status = bad_arguments(pusher_last_error(client)->message, "");
            pusher_destroy(client);
            return status;
        }
    }
    /* Bound to all channels at once and not to each, every event appears exactly once. */
    pusher_bind_all(client, PUSHER_ALL, on_event, NULL);

    catch_signals();
    pusher_connect(client);
    status = listen_on(client, keep, last_error);
    if (pusher_get_state(client) != PUSHER_FAILED) leave(client);
    pusher_destroy(client);
    return status;
}
