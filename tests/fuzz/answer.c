/* What an application's endpoint may answer: to the hook as a body or as one for all, and through
   the built-in requests as the bytes of the stream or as the body of a 200. The first byte says
   which, and how the bytes are cut. Whatever it is, what goes to the server is JSON and without the
   key, and each channel is either asked for or refused. */
#include "world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY, BATCH, STREAM, WRAPPED };

static const uint8_t *body_at;
static size_t body_len;
static int way;

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    (void)user_data;
    const char *body = (const char *)body_at;
    if (way == BATCH) (void)pusher_auth_accept_batch(client, requests[0].ticket, body, body_len);
    for (uint32_t i = 0; i < count; i++)
        (void)pusher_auth_accept(client, requests[i].ticket, body, body_len); /* stale in a batch */
}

/* The same answer to each question: the endpoint's stream is as long as all of them. */
static uint8_t *wrap(const uint8_t *data, size_t size, size_t *len)
{
    uint8_t *out = (uint8_t *)malloc(size + 128);
    struct psh_text text;
    if (!out) abort();
    psh_env_text(&text, (char *)out, 128);
    psh_env_add(&text, "HTTP/1.1 200 OK\r\nContent-Length: ");
    psh_env_add_uint(&text, size);
    psh_env_add(&text, "\r\n\r\n");
    if (size) memcpy(out + text.len, data, size);
    *len = text.len + size;
    return out;
}

static void run(pusher_client *client)
{
    static const char *const channels[] = {"private-a", "presence-b", "private-encrypted-c",
                                           "private-d"};
    pusher_channel at = {0, 0};
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        (void)pusher_subscribe(client, channels[i]);
    if (pusher_signin(client) != PUSHER_OK) abort();
    (void)pusher_connect(client);
    for (uint64_t now = 0; now < 400; now++) pusher_poll(client, now * 100);
    while ((at = pusher_next_channel(client, at)).id != 0) /* the server answers nothing at all */
        if (pusher_channel_state(client, at) != PUSHER_REFUSED) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t greeting[256], *wrapped = NULL, *copy;
    pusher_options options = world_options();
    if (size < 1) return 0;
    way = data[0] & 3;
    the_world.cut = (data[0] >> 2) + 1u;
    the_world.stays = true;
    the_world.server.data = greeting;
    the_world.server.size = world_say(greeting, WORLD_ESTABLISHED);
    copy = (uint8_t *)malloc(size); /* no byte beyond it */
    if (!copy) abort();
    memcpy(copy, data + 1, size - 1);
    body_at = the_world.endpoint.data = copy;
    body_len = the_world.endpoint.size = size - 1;
    if (way == WRAPPED) {
        wrapped = wrap(copy, body_len, &the_world.endpoint.size);
        the_world.endpoint.data = wrapped;
    }
    if (way <= BATCH) {
        options.auth.request_fn = on_request;
        options.auth.max_batch = 8;
    } else {
        options.auth.endpoint = options.auth.user_endpoint = "http://auth/";
    }
    options.activity_timeout_ms = 60000;
    pusher_client *client = pusher_create(&options, NULL);
    if (!client) abort();
    run(client);
    pusher_destroy(client);
    if (the_world.live != 0) abort();
    free(wrapped);
    free(copy);
    return 0;
}
