/*
 * background.c - a client on a thread of its own: events come to the main thread through a queue,
 * commands go back, and the connection can be suspended while the program is in the background.
 *
 *     cc -I. -o background examples/background.c -lwslay -lmbedcrypto -lpthread
 *     ./background [HOST [PORT [KEY [CHANNEL]]]]      default: 127.0.0.1 6001 app-key chat
 *
 * The first half is to be taken and bent. A client belongs to one thread: only that one calls
 * pusher.h. Everything else goes through two bounded queues, so that neither side can swamp the
 * other: what does not fit is dropped and counted. The second half walks through it all and ends
 * by itself, with 1 when a step does not do what it says.
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the background ------------------------------------------------------------------------- */

enum { EVENTS = 64, COMMANDS = 16, NAME_BYTES = 201, GOODBYE_MS = 1000 };

struct news { /* one event or error, copied; free() it */
    const char *channel, *name, *data; /* of an error: "", "error" and the sentence */
};

enum what { SUBSCRIBE, UNSUBSCRIBE, SUSPEND, RESUME, STOP };

struct command {
    enum what what;
    char channel[NAME_BYTES];
};

struct background {
    pthread_t thread;
    pusher_client *client; /* the thread's alone */
    int wake[2];           /* a byte in this pipe ends the thread's sleep */

    pthread_mutex_t lock;  /* for all below */
    struct news *events[EVENTS];
    struct command commands[COMMANDS];
    uint32_t event_first, event_count, command_first, command_count;
    uint32_t dropped;      /* events that found the queue full */
    pusher_state state;
};

/* One block of memory: the struct and then its three texts. */
static struct news *news_copy(const char *channel, const char *name, const char *data, size_t len)
{
    size_t a = strlen(channel) + 1, b = strlen(name) + 1;
    struct news *news = (struct news *)malloc(sizeof *news + a + b + len + 1);
    if (news == NULL) return NULL;
    char *text = (char *)(news + 1);
    news->channel = (char *)memcpy(text, channel, a);
    news->name = (char *)memcpy(text + a, name, b);
    news->data = (char *)memcpy(text + a + b, data, len + 1);
    return news;
}

static void background_push(struct background *b, struct news *news)
{
    pthread_mutex_lock(&b->lock);
    bool room = news != NULL && b->event_count < EVENTS;
    if (room) b->events[(b->event_first + b->event_count++) % EVENTS] = news;
    else b->dropped++;
    pthread_mutex_unlock(&b->lock);
    if (!room) free(news);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    background_push((struct background *)user_data,
                    news_copy(event->channel_name, event->name, event->data, event->data_len));
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client;
    background_push((struct background *)user_data,
                    news_copy("", "error", error->message, strlen(error->message)));
}

static void on_state(pusher_client *client, pusher_state now, pusher_state before, void *user_data)
{
    struct background *b = (struct background *)user_data;
    (void)client, (void)before;
    pthread_mutex_lock(&b->lock);
    b->state = now;
    pthread_mutex_unlock(&b->lock);
}

/* False: there is no command. */
static bool take_command(struct background *b, struct command *command)
{
    pthread_mutex_lock(&b->lock);
    bool any = b->command_count > 0;
    if (any) {
        *command = b->commands[b->command_first];
        b->command_first = (b->command_first + 1) % COMMANDS;
        b->command_count--;
    }
    pthread_mutex_unlock(&b->lock);
    return any;
}

static void obey(struct background *b, const struct command *command)
{
    switch (command->what) {
    case SUBSCRIBE:
        if (pusher_subscribe(b->client, command->channel).id == 0)
            background_push(b, news_copy("", "error", pusher_last_error(b->client)->message,
                                         strlen(pusher_last_error(b->client)->message)));
        break;
    case UNSUBSCRIBE:
        pusher_unsubscribe(b->client, pusher_find_channel(b->client, command->channel));
        break;
    case SUSPEND: /* channels and bindings stay; nothing wakes the thread but a command */
    case STOP:
        pusher_disconnect(b->client);
        break;
    case RESUME:
        pusher_connect(b->client);
        break;
    }
}

/* Until the client has something to do, or there is a command. */
static void doze(struct background *b, uint64_t limit_ms)
{
    struct pollfd fds[2];
    uint64_t now = pusher_sockets_now_ms(), next = pusher_next_poll_ms(b->client);
    int wants = pusher_wants(b->client);
    char bytes[64];
    if (next > limit_ms) next = limit_ms;
    uint64_t wait = next > now ? next - now : 0;
    fds[0].fd = b->wake[0];
    fds[1].fd = (int)pusher_fd(b->client); /* poll() takes no notice of -1 */
    fds[0].events = POLLIN;
    fds[1].events = (short)((wants & PUSHER_WANTS_READ ? POLLIN : 0) |
                            (wants & PUSHER_WANTS_WRITE ? POLLOUT : 0));
    fds[0].revents = fds[1].revents = 0;
    poll(fds, 2, next == UINT64_MAX ? -1 : wait > 60000 ? 60000 : (int)wait);
    while (read(b->wake[0], bytes, sizeof bytes) > 0) continue;
}

static void *background_main(void *user_data)
{
    struct background *b = (struct background *)user_data;
    struct command command;
    uint64_t end_ms = UINT64_MAX; /* after STOP: the goodbye has this long */
    while (end_ms == UINT64_MAX || (pusher_fd(b->client) >= 0 && pusher_sockets_now_ms() < end_ms)) {
        pusher_poll(b->client, pusher_sockets_now_ms());
        while (take_command(b, &command)) {
            obey(b, &command);
            if (command.what == STOP) end_ms = pusher_sockets_now_ms() + GOODBYE_MS;
        }
        doze(b, end_ms);
    }
    pusher_destroy(b->client);
    return NULL;
}

/* ---- what the main thread calls ------------------------------------------------------------- */

/* False: the thread is so far behind that its queue is full; try again later. */
static bool background_tell(struct background *b, enum what what, const char *channel)
{
    struct command command = {what, ""};
    if (channel != NULL && strlen(channel) >= NAME_BYTES) return false;
    if (channel != NULL) memcpy(command.channel, channel, strlen(channel) + 1);
    pthread_mutex_lock(&b->lock);
    bool room = b->command_count < COMMANDS;
    if (room) b->commands[(b->command_first + b->command_count++) % COMMANDS] = command;
    pthread_mutex_unlock(&b->lock);
    if (write(b->wake[1], "", 1) != 1) return room; /* full: it will wake all the same */
    return room;
}

/* The next event, to be freed, or NULL. Never waits: once a frame, until there is none. */
static struct news *background_take(struct background *b)
{
    struct news *news = NULL;
    pthread_mutex_lock(&b->lock);
    if (b->event_count > 0) {
        news = b->events[b->event_first];
        b->event_first = (b->event_first + 1) % EVENTS;
        b->event_count--;
    }
    pthread_mutex_unlock(&b->lock);
    return news;
}

static pusher_state background_state(struct background *b, uint32_t *dropped)
{
    pthread_mutex_lock(&b->lock);
    pusher_state state = b->state;
    if (dropped != NULL) *dropped = b->dropped;
    pthread_mutex_unlock(&b->lock);
    return state;
}

/* NULL on success, else why not. */
static const char *background_start(struct background *b, pusher_options options)
{
    pusher_error error;
    memset(b, 0, sizeof *b);
    options.state_fn = on_state;
    options.error_fn = on_error;
    options.user_data = b;
    b->client = pusher_create(&options, &error);
    if (b->client == NULL) return error.message;
    pusher_bind_all(b->client, PUSHER_ALL, on_event, b);
    if (pipe(b->wake) != 0) {
        pusher_destroy(b->client);
        return "no pipe";
    }
    fcntl(b->wake[0], F_SETFL, O_NONBLOCK);
    fcntl(b->wake[1], F_SETFL, O_NONBLOCK);
    pthread_mutex_init(&b->lock, NULL);
    pusher_connect(b->client); /* the last call on the client from this thread */
    if (pthread_create(&b->thread, NULL, background_main, b) == 0) return NULL;
    pusher_destroy(b->client);
    pthread_mutex_destroy(&b->lock);
    close(b->wake[0]);
    close(b->wake[1]);
    return "no thread";
}

/* Says goodbye to the server, waits for the thread, frees what nobody has taken. */
static void background_stop(struct background *b)
{
    struct news *news;
    while (!background_tell(b, STOP, NULL)) poll(NULL, 0, 1);
    pthread_join(b->thread, NULL);
    while ((news = background_take(b)) != NULL) free(news);
    pthread_mutex_destroy(&b->lock);
    close(b->wake[0]);
    close(b->wake[1]);
}

/* ---- a program that uses it ----------------------------------------------------------------- */

/* Frames of 16 ms; returns the channel's events in that time. */
static uint32_t play(struct background *b, const char *what, uint32_t frames)
{
    uint32_t seen = 0, dropped;
    for (uint32_t i = 0; i < frames; i++) {
        struct news *news;
        while ((news = background_take(b)) != NULL) {
            if (news->channel[0] == '\0') printf("  %s: %s\n", news->name, news->data);
            else if (strncmp(news->name, "pusher:", 7) != 0) seen++;
            free(news);
        }
        poll(NULL, 0, 16);
    }
    pusher_state state = background_state(b, &dropped);
    printf("%-34s %4u events, %u dropped, %s\n", what, (unsigned)seen, (unsigned)dropped,
           pusher_state_name(state));
    fflush(stdout);
    return seen;
}

static bool expect(bool ok, const char *what)
{
    if (!ok) fprintf(stderr, "background: %s\n", what);
    return ok;
}

static bool walk(struct background *b, const char *channel)
{
    bool ok = true;
    for (int i = 0; i < 300 && background_state(b, NULL) != PUSHER_CONNECTED; i++)
        poll(NULL, 0, 16);
    ok = expect(background_state(b, NULL) == PUSHER_CONNECTED, "no connection") && ok;
    background_tell(b, SUBSCRIBE, channel);
    ok = expect(play(b, "subscribed", 60) > 0, "no events; does anybody publish?") && ok;

    poll(NULL, 0, 1500); /* a level is loaded: nobody takes events */
    play(b, "back from loading", 1);

    background_tell(b, SUSPEND, NULL);
    play(b, "suspending", 30);
    ok = expect(play(b, "suspended", 30) == 0, "events while suspended") && ok;
    ok = expect(background_state(b, NULL) == PUSHER_DISCONNECTED, "not suspended") && ok;

    background_tell(b, RESUME, NULL); /* the channel is still wanted: it comes back by itself */
    ok = expect(play(b, "resumed", 120) > 0, "no events after resuming") && ok;

    background_tell(b, UNSUBSCRIBE, channel);
    play(b, "unsubscribing", 30);
    ok = expect(play(b, "unsubscribed", 30) == 0, "events after unsubscribing") && ok;
    return ok;
}

int main(int argc, char **argv)
{
    struct background background;
    pusher_options options = {0};
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = argc > 3 ? argv[3] : "app-key";
    const char *error = background_start(&background, options);
    if (error != NULL) return fprintf(stderr, "background: %s\n", error), 1;
    bool ok = walk(&background, argc > 4 ? argv[4] : "chat");
    background_stop(&background);
    puts(ok ? "all steps did what they say" : "some step failed");
    return ok ? 0 : 1;
}
