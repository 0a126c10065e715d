/*
 * listen.c - a command-line tool: every event of some channels as one line of JSON on stdout.
 *
 *     cc -I. -o listen examples/listen.c -lwslay -lmbedtls -lmbedx509 \
 *        -lmbedcrypto -lpthread
 *     ./listen --host 127.0.0.1 --port 6001 --key app-key chat weather
 *     ./listen --host example.org --port 443 --tls --key app-key chat
 *     ./listen --cluster eu --key app-key chat
 *     ./listen --key app-key chat | jq .data
 *     ./listen --auth-endpoint http://127.0.0.1:6001/pusher/auth --user-id ann presence-lobby
 *     ./listen --secret app-secret --trigger private-chat client-hi '{"n":1}' private-chat
 *
 * A line is {"channel":"chat","event":"message","data":...}. Data stands there as a JSON value
 * when the payload is JSON, as a string when it is not, and as null when there was none. Where
 * there is something to say, the line goes on: "member":{"id":...,"info":...} who came or left,
 * "user_id":... who sent a client event, "from_cache":true an event that the server repeated.
 * What happens to the connection is told on stderr. It reconnects for ever and ends cleanly on
 * Ctrl-C. Shows options, TLS, authorization by an endpoint or a secret, all the callbacks,
 * PUSHER_ALL, client events, sleeping between polls, and a clean end.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#define PUSHER_TLS
#include "pusher.h"
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A raw line break in valid JSON stands between tokens, where a space means the same. */
static void print_json(const char *text, size_t len)
{
    size_t i;
    for (i = 0; i < len; i++)
        putchar(text[i] == '\n' || text[i] == '\r' ? ' ' : text[i]);
}

static void print_data(const pusher_event *event)
{
    if (event->data_len == 0) {
        fputs(event->raw_len == 0 ? "null" : "\"\"", stdout);
    } else if (pusher_json_find(event->data, event->data_len, "").type != PUSHER_JSON_BAD) {
        print_json(event->data, event->data_len);
    } else {
        print_string(event->data, event->data_len);
    }
}

static void print_member(const pusher_member *member)
{
    fputs(",\"member\":{\"id\":", stdout);
    print_string(member->id, strlen(member->id));
    if (member->info_len > 0) {
        fputs(",\"info\":", stdout);
        print_json(member->info, member->info_len);
    }
    putchar('}');
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
    if (event->member != NULL) print_member(event->member);
    if (event->user_id != NULL) {
        fputs(",\"user_id\":", stdout);
        print_string(event->user_id, strlen(event->user_id));
    }
    fputs(event->from_cache ? ",\"from_cache\":true}\n" : "}\n", stdout);
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

/* ---- client events -------------------------------------------------------------------------- */

#define MAX_TRIGGERS 16

struct trigger {
    const char *channel, *event, *json;
    bool done;
};

static struct trigger triggers[MAX_TRIGGERS];
static int trigger_count;

/* A channel has been joined: what is to be sent there goes out now, and only the first time. */
static void on_joined(pusher_client *client, const pusher_event *event, void *user_data)
{
    int i;
    (void)user_data;
    for (i = 0; i < trigger_count; i++) {
        struct trigger *t = &triggers[i];
        if (t->done || strcmp(t->channel, event->channel_name) != 0) continue;
        t->done = true;
        if (pusher_trigger(client, event->channel, t->event, t->json, strlen(t->json)) == PUSHER_OK)
            fprintf(stderr, "sent: %s on %s\n", t->event, t->channel);
        else
            fprintf(stderr, "not sent: %s on %s: %s\n", t->event, t->channel,
                    pusher_last_error(client)->message);
    }
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
    fputs(
        "usage: listen [options] CHANNEL...\n"
        "Prints each event as one line of JSON until Ctrl-C; the connection's news on stderr.\n"
        "\n"
        "  --host H     the server's name or address     (127.0.0.1)\n"
        "  --port P     its port                         (6001; with --cluster 443)\n"
        "  --key K      the app's key                    (app-key)\n"
        "  --cluster C  pusher.com's cluster instead of a host: eu, mt1 ...\n"
        "  --tls        speak TLS with the host, as with a cluster anyway\n"
        "  --plain      do not, even with a cluster\n"
        "  --ca FILE    whom TLS trusts, in PEM, instead of the system's list; also for https://\n"
        "  --keep       when refused for good, try again every 30 s instead of ending\n"
        "  --verbose    tell each step of the connection\n"
        "  --help       this text\n"
        "\n"
        "Private, presence and encrypted channels, and users, are authorized\n"
        "  --auth-endpoint URL       by your backend, with a POST for each channel\n"
        "  --user-auth-endpoint URL  the same for --signin\n"
        "  --header \"Name: value\"    one more header of these requests; repeatable\n"
        "  --secret S                or here, with the app's secret: for development\n"
        "  --user-id ID              who this is: a form field user_id for the endpoints,\n"
        "                            or what is signed with the secret\n"
        "\n"
        "  --signin                       sign in: the user's events and watchlist appear too\n"
        "  --trigger CHANNEL EVENT JSON   send a client event once CHANNEL is joined; repeatable\n"
        "\n"
        "Exit status: 0 after Ctrl-C, 1 when refused for good, 2 on bad arguments.\n",
        out);
}

static int bad_arguments(const char *what, const char *which)
{
    fprintf(stderr, "listen: %s%s (listen --help tells more)\n", what, which);
    return 2;
}

#define MAX_HEADERS 16

/* Options point into argv, and into here. */
static struct {
    pusher_pair headers[MAX_HEADERS], user_id;
    char channel_data[256], signin_data[256];
    const char *wanted_user;
    bool keep, signin;
} given;

/* "Name: value", cut in two where it stands. */
static bool add_header(pusher_options *options, char *text)
{
    char *colon = strchr(text, ':');
    if (colon == NULL || options->auth.header_count == MAX_HEADERS) return false;
    *colon++ = '\0';
    colon += strspn(colon, " ");
    given.headers[options->auth.header_count].name = text;
    given.headers[options->auth.header_count++].value = colon;
    options->auth.headers = given.headers;
    return true;
}

/* A user's id is given to the endpoint as it is; with the secret it stands in JSON text. */
static bool set_user(pusher_options *options)
{
    const char *id = given.wanted_user;
    if (id == NULL) return true;
    given.user_id.name = "user_id";
    given.user_id.value = id;
    options->auth.params = &given.user_id;
    options->auth.param_count = 1;
    if (options->auth.secret == NULL) return true;
    if (strlen(id) > 128 || strpbrk(id, "\"\\") != NULL) return false;
    snprintf(given.channel_data, sizeof given.channel_data, "{\"user_id\":\"%s\",\"user_info\":{}}",
             id);
    snprintf(given.signin_data, sizeof given.signin_data, "{\"id\":\"%s\"}", id);
    options->auth.channel_data = given.channel_data;
    options->auth.signin_data = given.signin_data;
    return true;
}

/* An option with one value. False: it has complained. */
static bool read_value(pusher_options *options, const char *name, char *value)
{
    const struct {
        const char *name, **text;
    } texts[] = {{"--host", &options->host},
                 {"--key", &options->key},
                 {"--cluster", &options->cluster},
                 {"--ca", &options->tls.ca_file},
                 {"--auth-endpoint", &options->auth.endpoint},
                 {"--user-auth-endpoint", &options->auth.user_endpoint},
                 {"--secret", &options->auth.secret},
                 {"--user-id", &given.wanted_user}};
    size_t i;
    char *end;
    unsigned long port;
    for (i = 0; i < sizeof texts / sizeof *texts && strcmp(name, texts[i].name) != 0; i++)
        continue;
    if (i == sizeof texts / sizeof *texts && strcmp(name, "--port") != 0 &&
        strcmp(name, "--header") != 0)
        return bad_arguments("there is no option ", name), false;
    if (value == NULL) return bad_arguments("no value after ", name), false;
    if (i < sizeof texts / sizeof *texts) {
        *texts[i].text = value;
    } else if (name[2] == 'h') {
        if (!add_header(options, value))
            return bad_arguments("not a header, or one too many: ", value), false;
    } else {
        port = strtoul(value, &end, 10);
        if (!isdigit((unsigned char)*value) || *end != '\0' || port < 1 || port > 65535)
            return bad_arguments("a port is a number from 1 to 65535, not ", value), false;
        options->port = (uint32_t)port;
    }
    return true;
}

/* 0 to go on, else the exit status + 1. Channels are left at the front of argv. */
static int read_arguments(int argc, char **argv, pusher_options *options, int *channels)
{
    int i;
    for (i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0) return usage(stdout), 1;
        if (strcmp(arg, "--keep") == 0)
            given.keep = true;
        else if (strcmp(arg, "--tls") == 0)
            options->tls.mode = PUSHER_TLS_ON;
        else if (strcmp(arg, "--plain") == 0)
            options->tls.mode = PUSHER_TLS_OFF;
        else if (strcmp(arg, "--signin") == 0)
            given.signin = true;
        else if (strcmp(arg, "--verbose") == 0)
            options->logger.log_fn = on_log;
        else if (arg[0] != '-')
            argv[(*channels)++] = argv[i];
        else if (strcmp(arg, "--trigger") == 0) {
            if (argc - i < 4 || trigger_count == MAX_TRIGGERS)
                return bad_arguments("--trigger has three values: CHANNEL EVENT JSON", "") + 1;
            triggers[trigger_count].channel = argv[++i];
            triggers[trigger_count].event = argv[++i];
            triggers[trigger_count++].json = argv[++i];
        } else {
            if (!read_value(options, arg, argv[i + 1])) return 2 + 1; /* argv ends with a NULL */
            i++;
        }
    }
    if (*channels == 0 && !given.signin) return bad_arguments("no channel to listen to", "") + 1;
    if (options->host == NULL && options->cluster == NULL) options->host = "127.0.0.1";
    if (options->port == 0 && options->host != NULL) options->port = 6001;
    /* The library's default is TLS. Servers on one's own machine seldom speak it. */
    if (options->tls.mode == PUSHER_TLS_DEFAULT && options->host != NULL)
        options->tls.mode = PUSHER_TLS_OFF;
    if (!set_user(options)) return bad_arguments("not a user's id: ", given.wanted_user) + 1;
    return 0;
}

/* Until a signal, a full disk, or a refusal for good. */
static int listen_on(pusher_client *client, const char *last_error)
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
            if (!given.keep) {
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

/* All channels, and the user. False: pusher_last_error() says why. */
static bool subscribe(pusher_client *client, char **names, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        if (pusher_subscribe(client, names[i]).id == 0) return false;
    }
    /* Bound to all channels at once and not to each, every event appears exactly once. */
    pusher_bind_all(client, PUSHER_ALL, on_event, NULL);
    pusher_bind(client, PUSHER_ALL, "pusher:subscription_succeeded", on_joined, NULL);
    return !given.signin || pusher_signin(client) == PUSHER_OK;
}

int main(int argc, char **argv)
{
    char last_error[256] = "no reason given";
    int status, channels = 0;
    pusher_error error;
    pusher_client *client;
    pusher_options options = {0};

    options.key = "app-key";
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.retry_fn = on_retry;
    options.user_data = last_error;
    status = read_arguments(argc, argv, &options, &channels);
    if (status != 0) return status - 1;

    client = pusher_create(&options, &error);
    if (client == NULL) return bad_arguments(error.message, "");
    if (!subscribe(client, argv, channels)) {
        status = bad_arguments(pusher_last_error(client)->message, "");
        pusher_destroy(client);
        return status;
    }

    catch_signals();
    pusher_connect(client);
    status = listen_on(client, last_error);
    if (pusher_get_state(client) != PUSHER_FAILED) leave(client);
    pusher_destroy(client);
    return status;
}
