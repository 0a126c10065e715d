/*
 * hobby.h - the client people write in an evening: wslay's event layer, jsmn, strcmp, malloc.
 *
 * What the library is compared with. It does the same for a message as pusher.h does (frame, text,
 * envelope, look-up, one level of quoting, callback), in the straightforward way, without the
 * checks.
 */
#ifndef TESTS_BENCH_HOBBY_H
#define TESTS_BENCH_HOBBY_H

#include "bench.h"

#include <wslay/wslay.h>

/* As in the library, which has included it already: strict and with parent links. */
#ifndef JSMN_STATIC
#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#endif
#include <jsmn.h>

enum { HOBBY_TOKENS = 64, HOBBY_HANDLERS = 64 };

typedef void (*hobby_fn)(const char *channel, const char *event, const char *data, void *user_data);

typedef struct hobby {
    wslay_event_context_ptr ws;
    struct hobby_handler {
        char channel[BENCH_NAME], event[BENCH_NAME];
        hobby_fn fn;
        void *user_data;
    } handlers[HOBBY_HANDLERS];
    size_t handler_count;
    const unsigned char *stream; /* what it reads, over and over */
    size_t stream_len, stream_at;
    uint64_t stream_left;
} hobby;

static inline ssize_t hobby_recv(wslay_event_context_ptr ws, uint8_t *buf, size_t len, int flags,
                                 void *user_data)
{
    hobby *client = (hobby *)user_data;
    size_t left = client->stream_len - client->stream_at;
    (void)flags;
    if (client->stream_left == 0) {
        wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (left > client->stream_left) left = (size_t)client->stream_left;
    if (len > left) len = left;
    memcpy(buf, client->stream + client->stream_at, len);
    client->stream_left -= len;
    client->stream_at = (client->stream_at + len) % client->stream_len;
    return (ssize_t)len;
}

/* A copy of the token's text, one level of quoting undone. */
static inline char *hobby_string(const char *text, const jsmntok_t *token)
{
    char *copy = (char *)bench_alloc((size_t)(token->end - token->start) + 1), *to = copy;
    for (int i = token->start; i < token->end; i++) {
        if (text[i] == '\\' && i + 1 < token->end) {
            char c = text[++i];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
            *to++ = c; /* \u is left to the reader, as evening clients do */
        } else {
            *to++ = text[i];
        }
    }
    *to = '\0';
    return copy;
}

static inline bool hobby_is(const char *text, const jsmntok_t *token, const char *name)
{
    size_t len = (size_t)(token->end - token->start);
    return strlen(name) == len && strncmp(text + token->start, name, len) == 0;
}

static inline void hobby_message(hobby *client, const char *text, size_t len)
{
    jsmn_parser parser;
    jsmntok_t tokens[HOBBY_TOKENS];
    char *event = NULL, *channel = NULL, *data = NULL;
    int count;
    jsmn_init(&parser);
    count = jsmn_parse(&parser, text, len, tokens, HOBBY_TOKENS);
    for (int i = 1; i + 1 < count; i += 2) {
        if (hobby_is(text, &tokens[i], "event"))
            event = hobby_string(text, &tokens[i + 1]);
        else if (hobby_is(text, &tokens[i], "channel"))
            channel = hobby_string(text, &tokens[i + 1]);
        else if (hobby_is(text, &tokens[i], "data"))
            data = hobby_string(text, &tokens[i + 1]);
    }
    for (size_t i = 0; event && channel && data && i < client->handler_count; i++)
        if (strcmp(client->handlers[i].channel, channel) == 0 &&
            strcmp(client->handlers[i].event, event) == 0)
            client->handlers[i].fn(channel, event, data, client->handlers[i].user_data);
    free(event);
    free(channel);
    free(data);
}

static inline void hobby_on_message(wslay_event_context_ptr ws,
                                    const struct wslay_event_on_msg_recv_arg *message,
                                    void *user_data)
{
    (void)ws;
    if (message->opcode == WSLAY_TEXT_FRAME)
        hobby_message((hobby *)user_data, (const char *)message->msg, message->msg_length);
}

static inline void hobby_on_event(const char *channel, const char *event, const char *data,
                                  void *user_data)
{
    bench_count *count = (bench_count *)user_data;
    (void)channel, (void)event;
    count->events++;
    count->bytes += strlen(data);
}

/* Connected already: the stream starts with the first frame. Handles "message" on channels 0 ... */
static inline void hobby_start(hobby *client, bench_bytes stream, size_t channels,
                               bench_count *count)
{
    struct wslay_event_callbacks callbacks;
    memset(&callbacks, 0, sizeof callbacks);
    memset(client, 0, sizeof *client);
    callbacks.recv_callback = hobby_recv;
    callbacks.on_msg_recv_callback = hobby_on_message;
    if (channels > HOBBY_HANDLERS ||
        wslay_event_context_client_init(&client->ws, &callbacks, client))
        bench_die("the hobby client does not start");
    client->stream = stream.at;
    client->stream_len = stream.len;
    for (size_t i = 0; i < channels; i++) {
        struct hobby_handler *handler = &client->handlers[client->handler_count++];
        bench_channel_name(handler->channel, i);
        snprintf(handler->event, sizeof handler->event, "message");
        handler->fn = hobby_on_event;
        handler->user_data = count;
    }
}

static inline void hobby_stream(hobby *client, uint64_t len)
{
    client->stream_left = len;
    while (client->stream_left > 0)
        if (wslay_event_recv(client->ws) != 0)
            bench_die("the hobby client's connection has failed");
}

static inline void hobby_stop(hobby *client)
{
    wslay_event_context_free(client->ws);
}

#endif /* TESTS_BENCH_HOBBY_H */
