/*
 * world.h - what the fuzz targets that drive a whole client put around it: a server that accepts
 * the upgrade and then says what it is given, an authorization endpoint likewise, an allocator with
 * a cap, and a check of all that the client says: whole frames, masked, their text JSON in UTF-8.
 */
#ifndef PUSHER_TESTS_FUZZ_WORLD_H
#define PUSHER_TESTS_FUZZ_WORLD_H

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

enum { WORLD_SENT = 16 * 1024, WORLD_ANSWER = 256 };

struct feed { /* bytes for one stream */
    const uint8_t *data;
    size_t size, at;
};

struct world {
    struct feed server, endpoint;
    unsigned char answer[WORLD_ANSWER]; /* to the upgrade */
    size_t answer_len, answer_at;
    unsigned char sent[WORLD_SENT];     /* by the client, and not looked at yet */
    size_t sent_len;
    size_t live, cap;
    size_t cut;                         /* most bytes of one read */
    uint8_t dice;
    int streams, posts;
    size_t greeting;                    /* bytes after which the server lets the client speak ... */
    int hears, pauses;                  /* ... until it has said so much, or so long */
    bool stays;                         /* at the end of the bytes the server is just silent */
    bool closed;                        /* the client has said goodbye */
    bool key_stays;                     /* nothing that is sent may hold it */
};

/* The answer of an application that lets everybody in as "me"; the key is PROTOCOL.md's example. */
#define WORLD_AUTH "\"auth\":\"key:sig\""
#define WORLD_SECRET "5sjH9S2/qGAQKjEQMBUG9bIGNd87K7ZV9SHg2rgKilc="
#define WORLD_NEW_SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static inline const char *world_body(const pusher_auth_request *request)
{
    pusher_kind kind = pusher_channel_kind(request->channel_name);
    if (request->kind == PUSHER_AUTH_USER)
        return "{" WORLD_AUTH ",\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"}";
    if (kind >= PUSHER_KIND_ENCRYPTED && request->reason == PUSHER_AUTH_KEY_REFRESH)
        return "{" WORLD_AUTH ",\"shared_secret\":\"" WORLD_NEW_SECRET "\"}";
    if (kind >= PUSHER_KIND_ENCRYPTED)
        return "{" WORLD_AUTH ",\"shared_secret\":\"" WORLD_SECRET "\"}";
    if (kind >= PUSHER_KIND_PRESENCE)
        return "{" WORLD_AUTH ",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\"}";
    return "{" WORLD_AUTH "}";
}

static bool world_fill(void *buf, size_t len, void *user_data)
{
    struct world *world = (struct world *)user_data;
    for (size_t i = 0; i < len; i++) ((unsigned char *)buf)[i] = world->dice++;
    return true;
}

static void *world_take(size_t size, void *user_data)
{
    struct world *world = (struct world *)user_data;
    size_t *block = (size_t *)malloc(size + 16);
    if (!block) abort();
    *block = size;
    world->live += size;
    if (world->live > world->cap) abort();
    return (char *)block + 16;
}

static void world_give(void *memory, void *user_data)
{
    size_t *block = (size_t *)(void *)((char *)memory - 16);
    ((struct world *)user_data)->live -= *block;
    free(block);
}

static void *world_open(const char *host, uint16_t port, void *user_data)
{
    struct world *world = (struct world *)user_data;
    (void)port;
    if (strcmp(host, "auth") == 0) {
        world->endpoint.at = 0; /* the same for each request */
        return world->posts++ < 8 ? &world->endpoint : NULL;
    }
    if (world->streams++ > 0) return NULL; /* one connection an input */
    return world;
}

static int world_ready(void *stream)
{
    (void)stream;
    return 1;
}

static int world_feed(struct feed *feed, size_t cut, void *buf, size_t len)
{
    size_t have = feed->size - feed->at;
    if (have == 0) return PUSHER_IO_EOF;
    if (have > cut) have = cut;
    if (len > have) len = have;
    memcpy(buf, feed->data + feed->at, len);
    feed->at += len;
    return (int)len;
}

static struct world *world_of_endpoint(void *stream)
{
    return (struct world *)(void *)((char *)stream - offsetof(struct world, endpoint));
}

static bool world_is_endpoint(const void *stream);

static int world_recv(void *stream, void *buf, size_t len)
{
    struct world *world = (struct world *)stream;
    size_t have = world->answer_len - world->answer_at;
    if (world_is_endpoint(stream))
        return world_feed((struct feed *)stream, world_of_endpoint(stream)->cut, buf, len);
    if (have > 0) {
        if (len > have) len = have;
        memcpy(buf, world->answer + world->answer_at, len);
        world->answer_at += len;
        return (int)len;
    }
    if (world->answer_len == 0 || (world->stays && world->server.at == world->server.size))
        return PUSHER_IO_WANT_READ;
    size_t cut = world->cut, left = world->greeting - world->server.at;
    if (world->server.at < world->greeting && cut > left) cut = left;
    if (world->server.at == world->greeting && world->hears > 0 && world->pauses-- > 0)
        return PUSHER_IO_WANT_READ;
    return world_feed(&world->server, cut, buf, len);
}

/* The first thing sent is the upgrade request: its key gets the right answer. */
static void world_upgrade(struct world *world, const void *buf, size_t len)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char request[1024], key[64], accept[32];
    unsigned char digest[PSH_SHA1_BYTES];
    struct psh_text text;
    if (len >= sizeof request) abort();
    memcpy(request, buf, len);
    request[len] = '\0';
    const char *at = strstr(request, "Sec-WebSocket-Key: ");
    if (!at) abort();
    memcpy(key, at + 19, 24);
    memcpy(key + 24, guid, sizeof guid);
    if (!psh_codec_sha1(key, strlen(key), digest)) abort();
    if (!psh_codec_base64(digest, sizeof digest, accept, sizeof accept)) abort();
    psh_env_text(&text, (char *)world->answer, sizeof world->answer);
    psh_env_add(&text, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    psh_env_add(&text, accept);
    psh_env_add(&text, "\r\n\r\n");
    world->answer_len = text.len;
}

/* How long the first whole frame in sent is, or 0. */
static size_t world_frame(struct world *world)
{
    unsigned char *at = world->sent, *text;
    struct psh_codec_utf8_state utf8 = {0, 0, 0};
    size_t head = 2, len;
    if (world->sent_len < 4) return 0;
    len = at[1] & 127u;
    if (len == 127 || !(at[1] & 128)) abort(); /* longer than its output, or not masked */
    if (len == 126) {
        head = 4;
        len = (size_t)at[2] << 8 | at[3];
    }
    if (world->sent_len < head + 4 + len) return 0;
    text = at + head + 4;
    for (size_t i = 0; i < len; i++) text[i] ^= at[head + (i & 3)];
    if (world->closed) abort(); /* nothing comes after a goodbye */
    if (at[0] == 0x88) world->closed = true;
    else if (at[0] != 0x81 && at[0] != 0x89 && at[0] != 0x8A) abort();
    if (at[0] == 0x81 && (!psh_json_valid((const char *)text, len) ||
                          !psh_codec_utf8(&utf8, (const char *)text, len) || utf8.need))
        abort();
    if (at[0] == 0x81 && world->key_stays)
        for (size_t i = 0; i + strlen(WORLD_SECRET) <= len; i++)
            if (memcmp(text + i, WORLD_SECRET, strlen(WORLD_SECRET)) == 0) abort();
    world->hears -= at[0] == 0x81;
    return head + 4 + len;
}

/* The client may say so many messages after the first frame, which is mostly the greeting. */
static inline void world_listen(struct world *world, int messages)
{
    const uint8_t *at = world->server.data;
    size_t len = world->server.size < 4 ? 0 : (at[1] & 127u);
    world->greeting = len < 126 ? 2 + len : 4 + ((size_t)at[2] << 8 | at[3]);
    world->hears = messages;
    world->pauses = 8;
}

static int world_send(void *stream, const void *buf, size_t len)
{
    struct world *world = (struct world *)stream;
    if (world_is_endpoint(stream)) return (int)len;
    if (world->answer_len == 0) {
        world_upgrade(world, buf, len);
        return (int)len;
    }
    if (len > sizeof world->sent - world->sent_len) abort();
    memcpy(world->sent + world->sent_len, buf, len);
    world->sent_len += len;
    for (size_t used = world_frame(world); used > 0; used = world_frame(world)) {
        memmove(world->sent, world->sent + used, world->sent_len - used);
        world->sent_len -= used;
    }
    return (int)len;
}

static void world_close(void *stream)
{
    (void)stream;
}

static struct world the_world;

static bool world_is_endpoint(const void *stream)
{
    return stream == &the_world.endpoint;
}

static pusher_options world_options(void)
{
    pusher_options options;
    struct world *world = &the_world;
    memset(world, 0, sizeof *world);
    memset(&options, 0, sizeof options);
    world->cap = 96 * 1024; /* twice what the limits below come to */
    options.key = "key";
    options.host = "host";
    options.max_message_bytes = 4096;
    options.max_output_bytes = 2048;
    options.max_poll_bytes = 1024;
    options.max_members = 20;
    options.max_held_bytes = 1024;
    options.client_event_queue_bytes = 512;
    options.auth.max_answer_bytes = 4096;
    options.transport.open_fn = world_open;
    options.transport.ready_fn = world_ready;
    options.transport.recv_fn = world_recv;
    options.transport.send_fn = world_send;
    options.transport.close_fn = world_close;
    options.transport.user_data = world;
    options.random.fill_fn = world_fill;
    options.random.user_data = world;
    options.allocator.alloc_fn = world_take;
    options.allocator.free_fn = world_give;
    options.allocator.user_data = world;
    return options;
}

/* Text frames as a server sends them. Returns how long they are. */
static inline size_t world_say(uint8_t *out, const char *text)
{
    size_t len = strlen(text), head = len < 126 ? 2 : 4;
    out[0] = 0x81;
    out[1] = (uint8_t)(len < 126 ? len : 126);
    if (head == 4) {
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)(len & 255);
    }
    memcpy(out + head, text, len);
    return head + len;
}

#define WORLD_ESTABLISHED                                                                          \
    "{\"event\":\"pusher:connection_established\","                                                \
    "\"data\":\"{\\\"socket_id\\\":\\\"1.2\\\",\\\"activity_timeout\\\":120}\"}"

#endif /* PUSHER_TESTS_FUZZ_WORLD_H */
