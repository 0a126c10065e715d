/* The other file of a program: takes the address of every public function, so that all of them
   link, and takes a client through its life without a network. Valid C99 and C++11. */
#include "pusher.h"
#include <stdio.h>
#include <string.h>

#define EXPECT(x)                                                                                  \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);                         \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

typedef void (*any_fn)(void);

static const any_fn all_functions[] = {
    (any_fn)pusher_result_name,
    (any_fn)pusher_state_name,
    (any_fn)pusher_create,
    (any_fn)pusher_destroy,
    (any_fn)pusher_connect,
    (any_fn)pusher_disconnect,
    (any_fn)pusher_switch,
    (any_fn)pusher_reconnect_now,
    (any_fn)pusher_poll,
    (any_fn)pusher_next_poll_ms,
    (any_fn)pusher_wants,
    (any_fn)pusher_fd,
    (any_fn)pusher_get_state,
    (any_fn)pusher_socket_id,
    (any_fn)pusher_last_error,
    (any_fn)pusher_subscribe,
    (any_fn)pusher_unsubscribe,
    (any_fn)pusher_find_channel,
    (any_fn)pusher_next_channel,
    (any_fn)pusher_channel_name,
    (any_fn)pusher_channel_references,
    (any_fn)pusher_channel_state,
    (any_fn)pusher_channel_subscription_count,
    (any_fn)pusher_bind,
    (any_fn)pusher_bind_all,
    (any_fn)pusher_unbind,
    (any_fn)pusher_unbind_where,
    (any_fn)pusher_json_find,
    (any_fn)pusher_json_get,
    (any_fn)pusher_json_each,
    (any_fn)pusher_json_string,
    (any_fn)pusher_json_number,
    (any_fn)pusher_json_integer,
    (any_fn)pusher_json_bool,
    (any_fn)pusher_get_stats,
#if defined(PUSHER_SOCKETS)
    (any_fn)pusher_sockets_transport,
    (any_fn)pusher_sockets_random,
    (any_fn)pusher_sockets_now_ms,
    (any_fn)pusher_sockets_wait,
#endif
};

static int attempts;

static void *no_network(const char *host, uint16_t port, void *user_data)
{
    (void)host, (void)port, (void)user_data;
    attempts++;
    return NULL;
}

static int no_ready(void *stream)
{
    (void)stream;
    return PUSHER_IO_ERROR;
}

static int no_recv(void *stream, void *buf, size_t len)
{
    (void)stream, (void)buf, (void)len;
    return PUSHER_IO_ERROR;
}

static int no_send(void *stream, const void *buf, size_t len)
{
    (void)stream, (void)buf, (void)len;
    return PUSHER_IO_ERROR;
}

static void no_close(void *stream)
{
    (void)stream;
}

static bool not_random(void *buf, size_t len, void *user_data)
{
    (void)user_data;
    memset(buf, 7, len);
    return true;
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client, (void)event, (void)user_data;
}

int main(void)
{
    pusher_options options;
    pusher_error error;
    pusher_client *client;
    pusher_channel chat;
    size_t i;

    for (i = 0; i < sizeof(all_functions) / sizeof(all_functions[0]); i++)
        EXPECT(all_functions[i] != NULL);

    memset(&options, 0, sizeof(options));
    EXPECT(pusher_create(&options, &error) == NULL && error.code == PUSHER_ERR_ARGUMENT);

    options.key = "app-key";
    options.host = "127.0.0.1";
    options.transport.open_fn = no_network;
    options.transport.ready_fn = no_ready;
    options.transport.recv_fn = no_recv;
    options.transport.send_fn = no_send;
    options.transport.close_fn = no_close;
    options.random.fill_fn = not_random;
    client = pusher_create(&options, &error);
    EXPECT(client != NULL);

    chat = pusher_subscribe(client, "chat");
    EXPECT(chat.id != 0 && pusher_channel_references(client, chat) == 1);
    EXPECT(pusher_bind(client, chat, "message", on_event, NULL).id != 0);
    EXPECT(pusher_bind_all(client, PUSHER_ALL, on_event, NULL).id != 0);
    EXPECT(pusher_connect(client) == PUSHER_OK);
    EXPECT(pusher_poll(client, 1000) == 0);
    EXPECT(attempts == 1);
    EXPECT(pusher_get_state(client) == PUSHER_CONNECTING);
    EXPECT(pusher_unsubscribe(client, chat) == PUSHER_OK);
    EXPECT(pusher_unsubscribe(client, chat) == PUSHER_ERR_STALE);
    pusher_destroy(client);
    return 0;
}
