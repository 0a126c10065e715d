/*
 * drive.c - pusher.h under the commands of a differential test; drive.mjs is the same around
 * pusher-js. A command is a line of words with one space between, %XX in a word is a byte, and the
 * last word takes the rest of the line. After each command comes {"done":true}. What happens is
 * printed as one line of JSON each: a state, an error, an event given to a handler, the members of
 * a channel, a call that was refused. The last line of a client is the last thing it did.
 *
 *     interop-drive PORT [NAME=VALUE ...]     key, activity, pong, unavailable, auth, endpoint,
 *                                             user-endpoint, header:NAME, param:NAME
 *     connect | disconnect | signin | quit
 *     subscribe CHANNEL | unsubscribe CHANNEL
 *     listen CHANNEL                          subscribe, and bind everything under that label
 *     bind PLACE EVENT LABEL                  PLACE: a channel, @all, @user or @watchlist
 *     bind-all PLACE LABEL
 *     unbind LABEL | unbind-event PLACE EVENT | unbind-everything PLACE
 *     on LABEL COMMAND ...                    run the command inside that handler, once
 *     trigger CHANNEL EVENT JSON
 *     members CHANNEL
 *     switch KEY                              to another app
 */
#include "pusher.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANDLERS = 64, PAIRS = 16, LINE = 256 * 1024 };

typedef struct handler {
    char label[256], event[256]; /* event "": all */
    char place[256];             /* where it is bound */
    pusher_binding binding;
    char *then;                  /* command to run inside, once */
} handler;

static pusher_client *client;
static pusher_options options;
static handler handlers[HANDLERS];
static bool quit;

/* ---- printing ---- */

static void put_string(const char *text, size_t len)
{
    putchar('"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\') {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static void put_field(const char *before, const char *text)
{
    fputs(before, stdout);
    put_string(text, strlen(text));
}

static void refused(const char *what)
{
    put_field("{\"refused\":", what);
    puts("}");
}

static const char *error_class(pusher_result code)
{
    switch (code) {
    case PUSHER_ERR_SERVER: return "server";
    case PUSHER_ERR_IO: return "lost";
    default: return pusher_result_name(code) + strlen("PUSHER_ERR_");
    }
}

static void on_state(pusher_client *c, pusher_state now, pusher_state before, void *user_data)
{
    (void)c;
    (void)user_data;
    put_field("{\"state\":", pusher_state_name(now));
    put_field(",\"from\":", pusher_state_name(before));
    puts("}");
}

static void on_error(pusher_client *c, const pusher_error *error, void *user_data)
{
    (void)c;
    (void)user_data;
    put_field("{\"error\":", error_class(error->code));
    if (error->server_code) {
        printf(",\"code\":%d", error->server_code);
    }
    if (error->channel_name) {
        put_field(",\"channel\":", error->channel_name);
    }
    put_field(",\"says\":", error->message);
    puts("}");
}

static void put_member(const pusher_member *member)
{
    put_field("{\"id\":", member->id);
    if (member->info_len) {
        fputs(",\"info\":", stdout);
        fwrite(member->info, 1, member->info_len, stdout);
    }
    putchar('}');
}

static void put_members(pusher_channel channel)
{
    pusher_member member;
    uint32_t count = pusher_member_count(client, channel);
    printf("\"count\":%u,\"list\":[", count);
    for (uint32_t i = 0; i < count && pusher_member_at(client, channel, i, &member); i++) {
        fputs(i ? "," : "", stdout);
        put_member(&member);
    }
    putchar(']');
    if (pusher_member_me(client, channel, &member)) {
        fputs(",\"me\":", stdout);
        put_member(&member);
    }
}

static bool put_presence(const pusher_event *event)
{
    if (event->member) {
        fputs(",\"member\":", stdout);
        put_member(event->member);
        return true;
    }
    if (strncmp(event->channel_name, "presence-", 9) == 0 &&
        strcmp(event->name, "pusher:subscription_succeeded") == 0) {
        fputs(",\"members\":{", stdout);
        put_members(event->channel);
        putchar('}');
        return true;
    }
    return false;
}

static void put_data(const pusher_event *event)
{
    if (event->data_was_string) {
        fputs(",\"text\":", stdout);
        put_string(event->data, event->data_len);
    } else if (event->raw_len) {
        fputs(",\"data\":", stdout);
        fwrite(event->raw, 1, event->raw_len, stdout);
    }
}

/* ---- commands ---- */

static void run(char *line);

static bool is_mark(const pusher_event *event)
{
    return strncmp(event->name, "mark-", 5) == 0;
}

static void on_mark(pusher_client *c, const pusher_event *event, void *user_data)
{
    (void)c;
    (void)user_data;
    if (is_mark(event)) {
        put_field("{\"mark\":", event->name);
        puts("}");
    }
}

static void on_event(pusher_client *c, const pusher_event *event, void *user_data)
{
    handler *h = (handler *)user_data;
    (void)c;
    if (is_mark(event)) {
        return;
    }
    put_field("{\"event\":", event->name);
    put_field(",\"handler\":", h->label);
    if (h->place[0] != '@') {
        put_field(",\"channel\":", event->channel_name);
    }
    if (!put_presence(event)) {
        put_data(event);
    }
    if (event->user_id && *h->event) {
        put_field(",\"user\":", event->user_id);
    }
    puts("}");
    if (h->then) {
        char *then = h->then;
        h->then = NULL;
        run(then);
        free(then);
    }
}

static pusher_channel place(const char *name)
{
    if (strcmp(name, "@all") == 0) {
        return PUSHER_ALL;
    }
    if (strcmp(name, "@user") == 0) {
        return PUSHER_USER;
    }
    if (strcmp(name, "@watchlist") == 0) {
        return PUSHER_WATCHLIST;
    }
    return pusher_find_channel(client, name);
}

static handler *find_handler(const char *label)
{
    for (size_t i = 0; i < HANDLERS; i++) {
        if (strcmp(handlers[i].label, label) == 0) {
            return &handlers[i];
        }
    }
    fprintf(stderr, "interop-drive: no handler %s\n", label);
    exit(2);
}

/* event NULL: all */
static void bind_one(const char *where, const char *event, const char *label)
{
    handler *h = find_handler("");
    snprintf(h->label, sizeof h->label, "%s", label);
    snprintf(h->event, sizeof h->event, "%s", event ? event : "");
    snprintf(h->place, sizeof h->place, "%s", where);
    h->binding = event ? pusher_bind(client, place(where), event, on_event, h)
                       : pusher_bind_all(client, place(where), on_event, h);
    if (!h->binding.id) {
        refused("bind");
    }
}

static void do_subscribe(char **w)
{
    if (!pusher_subscribe(client, w[0]).id) {
        refused("subscribe");
    }
}

static void do_listen(char **w)
{
    do_subscribe(w);
    bind_one(w[0], NULL, w[0]);
}

static void do_unsubscribe(char **w)
{
    (void)pusher_unsubscribe(client, pusher_find_channel(client, w[0])); /* not there: harmless */
}

static void do_bind(char **w)
{
    bind_one(w[0], w[1], w[2]);
}

static void do_bind_all(char **w)
{
    bind_one(w[0], NULL, w[1]);
}

static void do_unbind(char **w)
{
    handler *h = find_handler(w[0]);
    (void)pusher_unbind(client, h->binding);
}

static void do_unbind_event(char **w)
{
    (void)pusher_unbind_where(client, place(w[0]), w[1], NULL, NULL);
}

static void do_unbind_everything(char **w)
{
    (void)pusher_unbind_where(client, place(w[0]), NULL, on_event, NULL);
}

static void do_on(char **w)
{
    handler *h = find_handler(w[0]);
    free(h->then);
    h->then = (char *)malloc(strlen(w[1]) + 1);
    if (!h->then) {
        abort();
    }
    strcpy(h->then, w[1]);
}

static void do_connect(char **w)
{
    (void)w;
    if (pusher_connect(client) != PUSHER_OK) {
        refused("connect");
    }
}

static void do_disconnect(char **w)
{
    (void)w;
    pusher_disconnect(client);
}

static void do_quit(char **w)
{
    (void)w;
    puts("{\"quit\":true}");
    quit = true;
}

static void do_signin(char **w)
{
    (void)w;
    if (pusher_signin(client) != PUSHER_OK) {
        refused("signin");
    }
}

static void do_switch(char **w)
{
    options.key = w[0];
    if (pusher_switch(client, &options) != PUSHER_OK) {
        refused("switch");
    }
}

static void do_trigger(char **w)
{
    pusher_channel channel = pusher_find_channel(client, w[0]);
    if (pusher_trigger(client, channel, w[1], w[2], strlen(w[2])) != PUSHER_OK) {
        refused("trigger");
    }
}

static void do_members(char **w)
{
    put_field("{\"members\":", w[0]);
    putchar(',');
    put_members(pusher_find_channel(client, w[0]));
    puts("}");
}

/* words after the command's own */
static const struct command {
    const char *name;
    int words;
    void (*run)(char **w);
} commands[] = {
    {"subscribe", 1, do_subscribe}, {"listen", 1, do_listen}, {"unsubscribe", 1, do_unsubscribe},
    {"bind", 3, do_bind}, {"bind-all", 2, do_bind_all}, {"unbind", 1, do_unbind},
    {"unbind-event", 2, do_unbind_event}, {"unbind-everything", 1, do_unbind_everything},
    {"on", 2, do_on}, {"connect", 0, do_connect}, {"disconnect", 0, do_disconnect},
    {"signin", 0, do_signin}, {"trigger", 3, do_trigger}, {"members", 1, do_members},
    {"switch", 1, do_switch}, {"quit", 0, do_quit}};

static void decode(char *word)
{
    char *to = word;
    for (const char *p = word; *p; p++) {
        char two[3] = {p[0] == '%' ? p[1] : '\0', p[0] == '%' && p[1] ? p[2] : '\0', '\0'};
        if (two[1]) {
            *to++ = (char)strtoul(two, NULL, 16);
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
}

static void run(char *line)
{
    char *words[4] = {line, NULL, NULL, NULL};
    int count = 0;
    bool later = strncmp(line, "on ", 3) == 0; /* its last word is a command of its own */
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        size_t n = strlen(commands[i].name);
        if (strncmp(line, commands[i].name, n) != 0 || (line[n] && line[n] != ' ')) {
            continue;
        }
        char *rest = line[n] ? line + n + 1 : NULL;
        for (; rest && count < commands[i].words; count++) {
            words[count] = rest;
            rest = count + 1 < commands[i].words ? strchr(rest, ' ') : NULL;
            if (rest) {
                *rest++ = '\0';
            }
        }
        for (int k = 0; k < count && !(later && k == 1); k++) {
            decode(words[k]);
        }
        if (count == commands[i].words) {
            commands[i].run(words);
            return;
        }
    }
    fprintf(stderr, "interop-drive: what is %s?\n", line);
    exit(2);
}

/* ---- the loop ---- */

static char input[LINE];
static size_t input_len;

/* false at the end of the input */
static bool read_commands(void)
{
    ssize_t n = read(STDIN_FILENO, input + input_len, sizeof input - input_len);
    if (n <= 0) {
        return false;
    }
    input_len += (size_t)n;
    char *end, *at = input;
    while ((end = (char *)memchr(at, '\n', input_len - (size_t)(at - input))) != NULL) {
        *end = '\0';
        run(at);
        puts("{\"done\":true}");
        at = end + 1;
    }
    input_len -= (size_t)(at - input);
    memmove(input, at, input_len);
    return true;
}

static int wait_ms(void)
{
    uint64_t due = pusher_next_poll_ms(client), now = pusher_sockets_now_ms();
    return due <= now ? 0 : due - now > 1000 ? 1000 : (int)(due - now);
}

static void loop(void)
{
    while (!quit) {
        int wants = pusher_wants(client);
        struct pollfd set[2] = {{STDIN_FILENO, POLLIN, 0}, {-1, 0, 0}};
        if (pusher_fd(client) >= 0) {
            set[1].fd = (int)pusher_fd(client);
            set[1].events = (short)((wants & PUSHER_WANTS_READ ? POLLIN : 0) |
                                    (wants & PUSHER_WANTS_WRITE ? POLLOUT : 0));
        }
        fflush(stdout);
        poll(set, 2, wait_ms());
        if (set[0].revents && !read_commands()) {
            quit = true; /* whoever drove us is gone */
        }
        pusher_poll(client, pusher_sockets_now_ms());
    }
}

static void leave(void)
{
    pusher_disconnect(client);
    for (int i = 0; i < 200; i++) {
        pusher_poll(client, pusher_sockets_now_ms());
        if (pusher_fd(client) < 0) {
            break;
        }
        pusher_sockets_wait(client, 10);
    }
    pusher_destroy(client);
}

/* ---- options ---- */

static const char *value_of(const char *argument, const char *name)
{
    size_t n = strlen(name);
    return strncmp(argument, name, n) == 0 ? argument + n : NULL;
}

static void read_auth(pusher_options *o, char *argument)
{
    static pusher_pair pairs[2][PAIRS];
    static char urls[2][128];
    bool header = strncmp(argument, "header:", 7) == 0;
    if (strcmp(argument, "auth=on") == 0) {
        snprintf(urls[0], sizeof urls[0], "http://127.0.0.1:%u/pusher/auth", o->port);
        snprintf(urls[1], sizeof urls[1], "http://127.0.0.1:%u/pusher/user-auth", o->port);
        o->auth.endpoint = urls[0];
        o->auth.user_endpoint = urls[1];
    } else if (header || strncmp(argument, "param:", 6) == 0) {
        size_t *count = header ? &o->auth.header_count : &o->auth.param_count;
        char *name = strchr(argument, ':') + 1, *value = strchr(name, '=');
        if (!value || *count == PAIRS) {
            abort();
        }
        *value++ = '\0';
        o->auth.headers = pairs[0];
        o->auth.params = pairs[1];
        pairs[header ? 0 : 1][*count].name = name;
        pairs[header ? 0 : 1][*count].value = value;
        ++*count;
    }
}

static void read_option(pusher_options *o, char *argument)
{
    const struct { const char *name; uint32_t *to; } numbers[] = {
        {"activity=", &o->activity_timeout_ms}, {"pong=", &o->pong_timeout_ms},
        {"unavailable=", &o->unavailable_timeout_ms}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *value = value_of(argument, numbers[i].name);
        if (value) {
            *numbers[i].to = (uint32_t)strtoul(value, NULL, 10);
        }
    }
    const struct { const char *name, **to; } texts[] = {
        {"key=", &o->key}, {"endpoint=", &o->auth.endpoint},
        {"user-endpoint=", &o->auth.user_endpoint}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = value_of(argument, texts[i].name);
        if (value) {
            *texts[i].to = value;
        }
    }
    read_auth(o, argument);
}

int main(int argc, char **argv)
{
    pusher_error error;
    if (argc < 2) {
        return 2;
    }
    options.key = "app-key";
    options.host = "127.0.0.1";
    options.port = (uint32_t)strtoul(argv[1], NULL, 10);
    options.reconnect_base_ms = 50; /* drive.mjs hurries pusher-js in the same way */
    options.state_fn = on_state;
    options.error_fn = on_error;
    for (int i = 2; i < argc; i++) {
        read_option(&options, argv[i]);
    }
    client = pusher_create(&options, &error);
    if (!client) {
        fprintf(stderr, "interop-drive: %s\n", error.message);
        return 2;
    }
    if (!pusher_bind_all(client, PUSHER_ALL, on_mark, NULL).id) {
        return 2;
    }
    loop();
    leave();
    for (size_t i = 0; i < HANDLERS; i++) {
        free(handlers[i].then);
    }
    return 0;
}
