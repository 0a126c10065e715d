/*
 * chat.c - a chat in the terminal: who is here, what they say, and who is typing.
 *
 *     cc -I. -o chat examples/chat.c -lwslay -lmbedcrypto -lpthread
 *     ./chat NAME [--room R] [--host H] [--port P] [--key K] [--endpoint URL | --secret S]
 *
 * Start it twice, as ann and as bob. /who lists the members, /quit or Ctrl-D leaves. The room is
 * a presence channel (presence-chat). What is said goes from client to client, as client events,
 * which the app must have switched on. Without an endpoint the test server's own is asked:
 * http://HOST:PORT/pusher/auth, with the name as user_id.
 *
 * Shows client events and their limits, members, a queue for what is said while the connection is
 * lost, and a loop that waits for the terminal and for the client at once. POSIX.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define MAX_SAID        400  /* bytes of one message                                           */
#define SHOWN_DRAFT     40   /* of the draft, in bytes                                         */
#define TYPING_AGAIN_MS 2000 /* typing is told at most so often: client events are rationed ... */
#define TYPING_SHOWN_MS 3000 /* ... and believed so long                                       */

static struct {
    pusher_client *client;
    pusher_channel room;
    const char *name;
    bool terminal; /* both ends are one; else a pipe or a file */
    bool joined, quit, refused;
    char draft[MAX_SAID + 1];
    size_t draft_len;
    bool in_escape; /* in the middle of an arrow key's bytes */
    uint64_t typing_told_ms;
    char typist[129]; /* who is typing; "": nobody */
    uint64_t typist_until_ms;
} chat;

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

/* ---- the screen ----------------------------------------------------------------------------- */

/* What others say must not command our terminal: no control characters. In UTF-8 those of the
   second set are C2 80 to C2 9F. */
static void print_safely(const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
        if (c == 0xC2 && next >= 0x80 && next <= 0x9F)
            text++;
        else if (c >= 0x20 && c != 0x7F)
            putchar(c);
    }
}

/* Of a long draft the end alone is shown: we clear one line of the screen, not several. */
static void draw_prompt(void)
{
    const char *shown = chat.draft;
    if (!chat.terminal) return;
    if (chat.draft_len > SHOWN_DRAFT) shown += chat.draft_len - SHOWN_DRAFT;
    while (((unsigned char)*shown & 0xC0) == 0x80) /* the rest of a UTF-8 character */
        shown++;
    fputs("\r\033[K", stdout);
    if (chat.typist[0] != '\0') {
        putchar('(');
        print_safely(chat.typist);
        fputs(" is typing) ", stdout);
    }
    printf("> %s", shown);
}

/* A line above the prompt: who, what comes between, and what. */
static void say(const char *who, const char *between, const char *what)
{
    if (chat.terminal) fputs("\r\033[K", stdout);
    print_safely(who);
    fputs(between, stdout);
    print_safely(what);
    putchar('\n');
    draw_prompt();
}

static void show_typist(const char *who)
{
    bool news = strcmp(chat.typist, who) != 0;
    snprintf(chat.typist, sizeof chat.typist, "%s", who);
    chat.typist_until_ms = pusher_sockets_now_ms() + TYPING_SHOWN_MS;
    if (chat.terminal)
        draw_prompt();
    else if (news && who[0] != '\0')
        say(who, " is typing", "");
}

static void list_members(void)
{
    pusher_member member;
    char line[64];
    uint32_t i, count = pusher_member_count(chat.client, chat.room);
    snprintf(line, sizeof line, "%u here:", (unsigned)count);
    say(line, "", "");
    for (i = 0; i < count && pusher_member_at(chat.client, chat.room, i, &member); i++)
        say("  ", "", member.id);
}

/* ---- what the others do --------------------------------------------------------------------- */

/* The server names the sender of a client event, so nobody can speak for somebody else. Not all
   servers do that; event->user_id is NULL then. */
static const char *sender(const pusher_event *event)
{
    return event->user_id != NULL ? event->user_id : "somebody";
}

/* Who sends what is his own business: here only {"text":"..."} counts. A longer one is cut. */
static void on_said(pusher_client *client, const pusher_event *event, void *user_data)
{
    char text[MAX_SAID + 1];
    pusher_json found = pusher_json_find(event->data, event->data_len, "/text");
    (void)client, (void)user_data;
    if (found.type != PUSHER_JSON_STRING) return;
    pusher_json_string(found, text, sizeof text, NULL);
    if (strcmp(chat.typist, sender(event)) == 0) show_typist("");
    say(sender(event), ": ", text);
}

static void on_typing(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    show_typist(sender(event));
}

static void on_joined(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    chat.joined = true;
    if (event->outage_ms > 0)
        say("-- connected again", "", "");
    else
        list_members();
}

static void on_come(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    say("-- ", event->member->id, " is here");
}

static void on_go(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    if (strcmp(chat.typist, event->member->id) == 0) show_typist("");
    say("-- ", event->member->id, " has left");
}

static void on_refused(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)event, (void)user_data;
    chat.refused = true; /* on_error has told why */
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    say("-- ", "", error->message);
}

/* ---- what we do ----------------------------------------------------------------------------- */

/* {"text":"..."}. out has room for six times the text, and 12 bytes more. */
static size_t write_said(const char *text, char *out)
{
    char *at = out + sprintf(out, "{\"text\":\"");
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') *at++ = '\\';
        if (c >= 0x20)
            *at++ = *text;
        else
            at += sprintf(at, "\\u%04x", (unsigned)c);
    }
    at += sprintf(at, "\"}");
    return (size_t)(at - out);
}

/* Without a connection it waits in the client's queue. On failure the draft stays as it is: one
   more Enter tries again. */
static void send_draft(void)
{
    char json[6 * MAX_SAID + 13];
    size_t len = write_said(chat.draft, json);
    if (pusher_trigger(chat.client, chat.room, "client-said", json, len) != PUSHER_OK) {
        say("-- not sent: ", "", pusher_last_error(chat.client)->message);
        return;
    }
    chat.typing_told_ms = 0;
    chat.draft_len = 0;
    /* The server does not send our own events back. */
    char said[sizeof chat.draft];
    memcpy(said, chat.draft, sizeof said);
    chat.draft[0] = '\0';
    say(chat.name, ": ", said);
}

/* Worth telling only while it is true: never from the queue, and no matter if it fails. */
static void tell_typing(void)
{
    uint64_t now_ms = pusher_sockets_now_ms();
    if (chat.typing_told_ms != 0 && now_ms < chat.typing_told_ms + TYPING_AGAIN_MS) return;
    if (pusher_channel_state(chat.client, chat.room) != PUSHER_SUBSCRIBED) return;
    chat.typing_told_ms = now_ms;
    pusher_trigger(chat.client, chat.room, "client-typing", "{}", 2);
}

static void enter(void)
{
    if (strcmp(chat.draft, "/quit") == 0) {
        chat.quit = true;
    } else if (strcmp(chat.draft, "/who") == 0) {
        chat.draft_len = 0;
        chat.draft[0] = '\0';
        list_members();
    } else if (chat.draft_len > 0) {
        send_draft();
    }
}

static void erase(void)
{
    while (chat.draft_len > 0) { /* a whole UTF-8 character */
        unsigned char c = (unsigned char)chat.draft[--chat.draft_len];
        if ((c & 0xC0) != 0x80) break;
    }
}

static void take_key(unsigned char key)
{
    if (chat.in_escape) {
        chat.in_escape = key == '[' || key == ';' || (key >= '0' && key <= '9');
        return;
    }
    if (key == '\n' || key == '\r') {
        enter();
        return;
    }
    if (key == 0x1B)
        chat.in_escape = true;
    else if (key == 0x04 && chat.draft_len == 0)
        chat.quit = true;
    else if (key == 0x15)
        chat.draft_len = 0;
    else if (key == 0x7F || key == 0x08)
        erase();
    else if (key >= 0x20 && chat.draft_len < MAX_SAID)
        chat.draft[chat.draft_len++] = (char)key;
    chat.draft[chat.draft_len] = '\0';
}

static void read_keys(void)
{
    unsigned char keys[128];
    ssize_t i, count = read(STDIN_FILENO, keys, sizeof keys);
    if (count == 0) chat.quit = true;
    for (i = 0; i < count && !chat.quit; i++)
        take_key(keys[i]);
    if (chat.draft_len > 0 && chat.draft[0] != '/') tell_typing();
    draw_prompt();
}

/* ---- the program ---------------------------------------------------------------------------- */

static struct termios terminal_before;

static void restore_terminal(void)
{
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

/* Each key at once and no echo: the draft is drawn by us, below what the others say. */
static void prepare_terminal(void)
{
    struct termios terminal;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART: a signal ends the wait */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
    if (tcgetattr(STDIN_FILENO, &terminal_before) != 0) return;
    terminal = terminal_before;
    terminal.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    atexit(restore_terminal);
    chat.terminal = tcsetattr(STDIN_FILENO, TCSANOW, &terminal) == 0;
}

/* For a key, for the server, or until the client wants to be polled or a typist has paused. */
static void wait_for_work(void)
{
    struct pollfd waiting[2];
    uint64_t now_ms = pusher_sockets_now_ms(), due_ms = pusher_next_poll_ms(chat.client);
    int wants = pusher_wants(chat.client);
    memset(waiting, 0, sizeof waiting);
    waiting[0].fd = chat.joined ? STDIN_FILENO : -1; /* first join, then speak */
    waiting[0].events = POLLIN;
    waiting[1].fd = (int)pusher_fd(chat.client); /* -1, without a stream, is passed over */
    if (wants & PUSHER_WANTS_READ) waiting[1].events |= POLLIN;
    if (wants & PUSHER_WANTS_WRITE) waiting[1].events |= POLLOUT;
    if (chat.typist[0] != '\0' && chat.typist_until_ms < due_ms) due_ms = chat.typist_until_ms;
    if (due_ms < now_ms) due_ms = now_ms;
    if (due_ms > now_ms + 250) due_ms = now_ms + 250; /* for a signal that came just before */
    if (poll(waiting, 2, (int)(due_ms - now_ms)) > 0 && waiting[0].revents != 0) read_keys();
}

static void run(void)
{
    while (!stop_asked && !chat.quit && !chat.refused &&
           pusher_get_state(chat.client) != PUSHER_FAILED) {
        pusher_poll(chat.client, pusher_sockets_now_ms());
        if (chat.typist[0] != '\0' && pusher_sockets_now_ms() >= chat.typist_until_ms)
            show_typist("");
        fflush(stdout);
        wait_for_work();
    }
}

/* What was said last goes out, then a goodbye: a second for both. */
static void leave(void)
{
    uint64_t deadline_ms = pusher_sockets_now_ms() + 1000, now_ms;
    pusher_disconnect(chat.client);
    do {
        now_ms = pusher_sockets_now_ms();
        pusher_poll(chat.client, now_ms);
        if (pusher_wants(chat.client) == 0) break; /* the stream is closed */
        pusher_sockets_wait(chat.client, 50);
    } while (now_ms < deadline_ms);
}

static bool is_plain(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static bool read_arguments(int argc, char **argv, pusher_options *options, const char **room)
{
    int i;
    for (i = 2; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--room") == 0)
            *room = value;
        else if (strcmp(argv[i], "--host") == 0)
            options->host = value;
        else if (strcmp(argv[i], "--port") == 0)
            options->port = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--key") == 0)
            options->key = value;
        else if (strcmp(argv[i], "--endpoint") == 0)
            options->auth.endpoint = value;
        else if (strcmp(argv[i], "--secret") == 0)
            options->auth.secret = value;
        else
            return false;
    }
    if (pusher_channel_kind(*room) != PUSHER_KIND_PRESENCE) return false;
    return argc > 1 && i == argc && is_plain(argv[1]);
}

int main(int argc, char **argv)
{
    const char *room = "presence-chat";
    char endpoint[256], channel_data[128];
    pusher_pair user_id = {"user_id", NULL};
    pusher_error error;
    pusher_options options = {0};
    options.host = "127.0.0.1";
    options.port = 6001;
    options.key = "app-key";
    options.error_fn = on_error;
    options.client_event_queue_bytes = 4096;
    if (!read_arguments(argc, argv, &options, &room)) {
        fputs("usage: chat NAME [--room R] [--host H] [--port P] [--key K]\n"
              "                 [--endpoint URL | --secret S]\n"
              "A name is made of a-z 0-9 _ - and a room's name begins with presence-\n",
              stderr);
        return 2;
    }
    chat.name = user_id.value = argv[1];
    if (options.auth.secret != NULL) { /* for development: it must not be shipped */
        snprintf(channel_data, sizeof channel_data, "{\"user_id\":\"%s\",\"user_info\":{}}",
                 chat.name);
        options.auth.channel_data = channel_data;
    } else { /* the backend knows best who asks: by a cookie, a token, or here a form field */
        snprintf(endpoint, sizeof endpoint, "http://%s:%u/pusher/auth", options.host,
                 (unsigned)options.port);
        if (options.auth.endpoint == NULL) options.auth.endpoint = endpoint;
        options.auth.params = &user_id;
        options.auth.param_count = 1;
    }
    chat.client = pusher_create(&options, &error);
    if (chat.client == NULL) return fprintf(stderr, "chat: %s\n", error.message), 1;

    chat.room = pusher_subscribe(chat.client, room);
    if (chat.room.id == 0)
        return fprintf(stderr, "chat: %s\n", pusher_last_error(chat.client)->message), 1;
    pusher_bind(chat.client, chat.room, "pusher:subscription_succeeded", on_joined, NULL);
    pusher_bind(chat.client, chat.room, "pusher:subscription_error", on_refused, NULL);
    pusher_bind(chat.client, chat.room, "pusher:member_added", on_come, NULL);
    pusher_bind(chat.client, chat.room, "pusher:member_removed", on_go, NULL);
    pusher_bind(chat.client, chat.room, "client-said", on_said, NULL);
    pusher_bind(chat.client, chat.room, "client-typing", on_typing, NULL);

    prepare_terminal();
    pusher_connect(chat.client);
    run();
    leave();
    pusher_destroy(chat.client);
    if (chat.terminal) fputs("\r\033[K", stdout);
    return chat.quit || stop_asked ? 0 : 1;
}
