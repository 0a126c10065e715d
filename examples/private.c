/*
 * private.c - a private channel, authorized by a backend that takes its time.
 *
 *     cc -I. -o private examples/private.c -lwslay -lmbedcrypto -lpthread
 *     ./private [HOST [PORT [KEY [CHANNEL [SECRET]]]]]
 *                              default: 127.0.0.1 6001 app-key private-chat app-secret
 *
 * Who may subscribe to a private channel is decided by your backend: it signs the socket id and
 * the channel's name with the app's secret. pusher.h asks through a hook, and the answer may come
 * much later; the loop goes on meanwhile. Where the backend is reached by a plain POST, as
 * pusher-js does it, no hook is needed, but only this:
 *
 *     options.auth.endpoint = "http://127.0.0.1:8000/broadcasting/auth";
 *     options.auth.headers = headers;      // pusher_pair headers[] = {{"Authorization", "..."}};
 *     options.auth.header_count = 1;
 */
#define PUSHER_IMPLEMENTATION
#define PUSHER_SOCKETS
#include "pusher.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the backend: another computer, in real life; the secret never leaves it ---------------- */

static const char *the_key, *the_secret;

/* HMAC-SHA256 (RFC 2104) in hexadecimal. The secret has at most 64 bytes, the text 320. */
static bool sign(const char *secret, const char *text, char hex[65])
{
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    unsigned char inner[64 + 320], outer[64 + 32], digest[32];
    size_t i, len = strlen(text);
    if (sha256 == NULL || strlen(secret) > 64 || len > 320) return false;
    memset(inner, 0x36, 64);
    memset(outer, 0x5c, 64);
    for (i = 0; secret[i] != '\0'; i++) {
        inner[i] ^= (unsigned char)secret[i];
        outer[i] ^= (unsigned char)secret[i];
    }
    memcpy(inner + 64, text, len);
    if (mbedtls_md(sha256, inner, 64 + len, outer + 64) != 0) return false;
    if (mbedtls_md(sha256, outer, sizeof outer, digest) != 0) return false;
    for (i = 0; i < sizeof digest; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
    return true;
}

/* What the backend's answer looks like. Empty: no. */
static void my_backend(const char *socket_id, const char *channel, char *body, size_t size)
{
    char text[321], hex[65];
    body[0] = '\0';
    snprintf(text, sizeof text, "%s:%s", socket_id, channel);
    if (sign(the_secret, text, hex)) snprintf(body, size, "{\"auth\":\"%s:%s\"}", the_key, hex);
}

/* ---- questions that are under way ----------------------------------------------------------- */

#define FRAME_MS       16
#define BACKEND_FRAMES 30 /* until the answer is there */
#define MAX_QUESTIONS  8

static struct question {
    pusher_ticket ticket; /* id 0: this place is free */
    char socket_id[64], channel[201];
    unsigned due_frame;
} questions[MAX_QUESTIONS];

static unsigned frame;

/* The request dies with this call, but for its ticket: copy what the backend must know. */
static void on_auth_request(pusher_client *client, const pusher_auth_request *requests,
                            uint32_t count, void *user_data)
{
    const pusher_auth_request *request = &requests[0]; /* one: auth.max_batch is not set */
    int i;
    (void)count, (void)user_data;
    for (i = 0; i < MAX_QUESTIONS && questions[i].ticket.id != 0; i++)
        continue;
    if (i == MAX_QUESTIONS) { /* ask again later */
        pusher_auth_reject(client, request->ticket, 503, "too many questions at once", true);
        return;
    }
    questions[i].ticket = request->ticket;
    questions[i].due_frame = frame + BACKEND_FRAMES;
    snprintf(questions[i].socket_id, sizeof questions[i].socket_id, "%s", request->socket_id);
    snprintf(questions[i].channel, sizeof questions[i].channel, "%s", request->channel_name);
    printf("frame %u: asking the backend about %s\n", frame, request->channel_name);
}

/* Once a frame. An answer may be too late: its connection lost, its channel left. Then it is
   PUSHER_ERR_STALE, nothing happens, and a new question has been asked where one is needed. */
static void answer_questions(pusher_client *client)
{
    char body[256];
    int i;
    for (i = 0; i < MAX_QUESTIONS; i++) {
        struct question *question = &questions[i];
        pusher_result result;
        if (question->ticket.id == 0 || frame < question->due_frame) continue;
        my_backend(question->socket_id, question->channel, body, sizeof body);
        if (body[0] != '\0')
            result = pusher_auth_accept(client, question->ticket, body, strlen(body));
        else
            result =
                pusher_auth_reject(client, question->ticket, 403, "the backend said no", false);
        printf("frame %u: the backend has answered: %s\n", frame, pusher_result_name(result));
        question->ticket.id = 0;
    }
}

/* ---- the program ---------------------------------------------------------------------------- */

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)user_data;
    printf("frame %u: %s %s %s\n", frame, event->channel_name, event->name, event->data);
}

static void on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    (void)client, (void)user_data;
    fprintf(stderr, "%s\n", error->message);
}

int main(int argc, char **argv)
{
    pusher_error error;
    pusher_client *client;
    pusher_channel channel;
    pusher_options options = {0};
    options.host = argc > 1 ? argv[1] : "127.0.0.1";
    options.port = argc > 2 ? (uint32_t)atoi(argv[2]) : 6001;
    options.key = the_key = argc > 3 ? argv[3] : "app-key";
    the_secret = argc > 5 ? argv[5] : "app-secret";
    options.error_fn = on_error;
    options.auth.request_fn = on_auth_request;
    client = pusher_create(&options, &error);
    if (client == NULL) return fprintf(stderr, "%s\n", error.message), 1;

    channel = pusher_subscribe(client, argc > 4 ? argv[4] : "private-chat");
    if (channel.id == 0) return fprintf(stderr, "%s\n", pusher_last_error(client)->message), 1;
    pusher_bind_all(client, channel, on_event, NULL);
    pusher_connect(client);
    /* Until the server refuses the app, or the channel. */
    while (pusher_get_state(client) != PUSHER_FAILED &&
           pusher_channel_state(client, channel) != PUSHER_REFUSED) {
        frame++;
        pusher_poll(client, pusher_sockets_now_ms());
        answer_questions(client);
        fflush(stdout);
        /* A game draws here. This program has nothing to draw, and so only makes its frames as
           long as they would be: a wait ends early when the client has something to do. */
        pusher_sockets_wait(client, FRAME_MS);
    }
    pusher_destroy(client);
    return 1;
}
