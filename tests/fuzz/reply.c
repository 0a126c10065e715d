/* The reader of an endpoint's HTTP answer. However its bytes are cut, it comes to the same end at
   the same byte, with the same body; a body is never over its limit, and what is kept of a head is
   of fixed size. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1000 };

struct ending {
    enum psh_reply_result result;
    size_t used;
    struct psh_reply reply;
};

static void *take(size_t size, void *user_data)
{
    (void)user_data;
    if (size > 2 * MOST) abort();
    return malloc(size);
}

static void give(void *memory, void *user_data)
{
    (void)user_data;
    free(memory);
}

static void read_it(struct ending *e, const struct psh_env *env, const uint8_t *data, size_t size,
                    size_t piece)
{
    memset(e, 0, sizeof *e);
    psh_http_reply_init(&e->reply, MOST);
    while (e->used < size && e->result == PSH_REPLY_MORE) {
        size_t len = size - e->used < piece ? size - e->used : piece, used = 0;
        unsigned char *copy = (unsigned char *)malloc(len); /* no byte beyond it */
        if (!copy) abort();
        memcpy(copy, data + e->used, len);
        e->result = psh_http_reply(&e->reply, env, copy, len, &used);
        free(copy);
        if (used > len || (e->result == PSH_REPLY_MORE && used < len)) abort();
        e->used += used;
    }
    if (e->result == PSH_REPLY_MORE) e->result = psh_http_reply_eof(&e->reply);
    if (e->reply.body.len > MOST || e->result == PSH_REPLY_MEMORY) abort();
    if (e->reply.body.len && e->reply.body.data[e->reply.body.len] != '\0') abort();
    if (e->result == PSH_REPLY_BAD && !e->reply.wrong) abort();
    if (e->result == PSH_REPLY_DONE && (e->reply.head.status < 200 || e->reply.head.status > 999))
        abort();
}

/* Of what is too big, some is seen and no more is read: how much is a matter of the pieces. */
static void check(const struct ending *whole, const struct ending *pieces)
{
    if (whole->result == PSH_REPLY_BIG && pieces->result == PSH_REPLY_BIG) return;
    if (whole->result != pieces->result || whole->used != pieces->used ||
        whole->reply.head.status != pieces->reply.head.status ||
        whole->reply.keep != pieces->reply.keep || whole->reply.wrong != pieces->reply.wrong ||
        whole->reply.retry_after_s != pieces->reply.retry_after_s)
        abort();
    if (whole->result != PSH_REPLY_DONE) return;
    if (whole->reply.body.len != pieces->reply.body.len ||
        (whole->reply.body.len && memcmp(whole->reply.body.data, pieces->reply.body.data,
                                         whole->reply.body.len) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pusher_options options;
    struct psh_env env;
    struct ending whole, pieces;
    if (size < 2) return 0;
    memset(&options, 0, sizeof options);
    options.allocator.alloc_fn = take;
    options.allocator.free_fn = give;
    psh_env_init(&env, &options);
    read_it(&whole, &env, data + 1, size - 1, size);
    read_it(&pieces, &env, data + 1, size - 1, data[0] % 64 + 1u);
    check(&whole, &pieces);
    psh_env_release(&env, &pieces.reply.body);
    read_it(&pieces, &env, data + 1, size - 1, 1);
    check(&whole, &pieces);
    psh_env_release(&env, &pieces.reply.body);
    psh_env_release(&env, &whole.reply.body);
    return 0;
}
