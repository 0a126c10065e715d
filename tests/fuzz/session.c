/* Everything a hostile server may say after a correct upgrade, cut into reads as the input wants
   it. The first bytes choose the cuts; the rest is the stream. No bytes may crash the client, make
   it hold more than its limits, or keep it from being polled on. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    const uint8_t *data;
    size_t size, at;
    unsigned char answer[256];
    size_t answer_len, answer_at;
    size_t live;
    uint8_t cut;
    uint8_t dice;
    int streams;
};

static bool fill(void *buf, size_t len, void *user_data)
{
    struct world *world = (struct world *)user_data;
    for (size_t i = 0; i < len; i++) ((unsigned char *)buf)[i] = world->dice++;
    return true;
}

static void *take(size_t size, void *user_data)
{
    struct world *world = (struct world *)user_data;
    size_t *block = (size_t *)malloc(size + 16);
    if (!block) abort();
    *block = size;
    world->live += size;
    if (world->live > 64 * 1024) abort(); /* twice what the limits below come to */
    return (char *)block + 16;
}

static void give(void *memory, void *user_data)
{
    size_t *block = (size_t *)(void *)((char *)memory - 16);
    ((struct world *)user_data)->live -= *block;
    free(block);
}

static void *open_stream(const char *host, uint16_t port, void *user_data)
{
    struct world *world = (struct world *)user_data;
    (void)host;
    (void)port;
    if (world->streams++ > 0) return NULL; /* one connection an input */
    return world;
}

static int ready(void *stream)
{
    (void)stream;
    return 1;
}

static int receive(void *stream, void *buf, size_t len)
{
    struct world *world = (struct world *)stream;
    const uint8_t *from = world->answer + world->answer_at;
    size_t have = world->answer_len - world->answer_at;
    bool answering = have > 0;
    if (!answering) {
        from = world->data + world->at;
        have = world->answer_len ? world->size - world->at : 0;
        if (world->answer_len && have == 0) return PUSHER_IO_EOF;
    }
    if (have == 0) return PUSHER_IO_WANT_READ;
    if (!answering && have > (size_t)world->cut + 1) have = (size_t)world->cut + 1;
    if (len > have) len = have;
    memcpy(buf, from, len);
    if (answering) world->answer_at += len;
    else world->at += len;
    return (int)len;
}

/* The first thing sent is the upgrade request: its key gets the right answer. */
static int take_bytes(void *stream, const void *buf, size_t len)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct world *world = (struct world *)stream;
    char request[1024], key[64], accept[32];
    unsigned char digest[PSH_SHA1_BYTES];
    struct psh_text text;
    if (world->answer_len > 0 || len >= sizeof request) return (int)len;
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
    return (int)len;
}

static void close_stream(void *stream)
{
    (void)stream;
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)user_data;
    if (strlen(event->name) == 5) (void)pusher_unsubscribe(client, event->channel);
    if (event->data_len == 3) (void)pusher_subscribe(client, "again");
    if (event->data_len == 4) pusher_disconnect(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world;
    pusher_options options;
    if (size < 2) return 0;
    memset(&world, 0, sizeof world);
    memset(&options, 0, sizeof options);
    world.cut = data[0];
    world.data = data + 1;
    world.size = size - 1;
    options.key = "key";
    options.host = "host";
    options.max_message_bytes = 4096;
    options.max_output_bytes = 1024;
    options.max_poll_bytes = 1024;
    options.transport.open_fn = open_stream;
    options.transport.ready_fn = ready;
    options.transport.recv_fn = receive;
    options.transport.send_fn = take_bytes;
    options.transport.close_fn = close_stream;
    options.transport.user_data = &world;
    options.random.fill_fn = fill;
    options.random.user_data = &world;
    options.allocator.alloc_fn = take;
    options.allocator.free_fn = give;
    options.allocator.user_data = &world;
    pusher_client *client = pusher_create(&options, NULL);
    if (!client) abort();
    (void)pusher_bind_all(client, pusher_subscribe(client, "chat"), on_event, NULL);
    (void)pusher_bind_all(client, PUSHER_ALL, on_event, NULL);
    (void)pusher_connect(client);
    for (uint64_t now = 0; now < 64 + size / 256; now++) pusher_poll(client, now * 100);
    pusher_destroy(client);
    if (world.live != 0) abort();
    return 0;
}
