/* What a client costs: nothing an event, and so much a client and a channel. */
#define FAKE_STREAMS 2048
#include "fake.h"
#include "mallocs.h"

#include <wslay/wslay.h>

static bool can_count; /* wslay and the C library may call malloc behind our allocator */

/* ---- a stream of our own, which does not allocate ---- */

static fake_bytes wire; /* what the server will say, again and again */
static size_t wire_at;
static uint64_t got_events;

static int flow(void *stream, void *buf, size_t len)
{
    (void)stream;
    size_t left = wire.len - wire_at;
    if (left == 0)
        return PUSHER_IO_WANT_READ;
    if (len > left)
        len = left;
    memcpy(buf, wire.at + wire_at, len);
    wire_at += len;
    return (int)len;
}

static int drain(void *stream, const void *buf, size_t len)
{
    (void)stream;
    (void)buf;
    return (int)len;
}

static void counting(pusher_client *client, const pusher_event *event, void *user_data)
{
    (void)client;
    (void)user_data;
    got_events += event->data_len > 0;
}

static bool flowing;

static int recv_either(void *stream, void *buf, size_t len)
{
    return flowing ? flow(stream, buf, len) : fake_recv(stream, buf, len);
}

static int send_either(void *stream, const void *buf, size_t len)
{
    return flowing ? drain(stream, buf, len) : fake_send(stream, buf, len);
}

static void an_event_allocates_nothing(void **state)
{
    (void)state;
    enum { ROUNDS = 2000 };
    fake f;
    char text[4000], data[3000];
    fake_init(&f);
    pusher_options options = fake_options(&f);
    options.transport.recv_fn = recv_either;
    options.transport.send_fn = send_either;
    flowing = false;
    fake_start(&f, &options);
    pusher_channel channel = fake_subscribe(&f, "chat");
    pusher_bind(f.client, channel, "news", counting, NULL);
    pusher_bind_all(f.client, PUSHER_ALL, counting, NULL);
    fake_online(&f);
    fake_say(&f, FAKE_SUBSCRIBED("chat"));
    fake_run(&f);
    memset(data, 'd', sizeof data - 1);
    data[sizeof data - 1] = '\0';
    for (int i = 0; i < 20; i++) { /* all sorts, with a share of trouble */
        int len = snprintf(text, sizeof text,
                           "{\"event\":\"news\",\"channel\":\"chat\","
                           "\"data\":\"{\\\"n\\\":%d}\"}",
                           i);
        fake_frame_to(&wire, 0x81, text, (size_t)len);
    }
    snprintf(text, sizeof text, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"%s\"}", data);
    fake_frame_to(&wire, 0x81, text, strlen(text));
    fake_frame_to(&wire, 0x01, text, 1000);
    fake_frame_to(&wire, 0x89, "ping", 4);
    fake_frame_to(&wire, 0x80, text + 1000, strlen(text) - 1000);
    fake_frame_to(&wire, 0x81, FAKE_PING, strlen(FAKE_PING));
    fake_frame_to(&wire, 0x81, FAKE_PONG, strlen(FAKE_PONG));
    const char *count = "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"chat\","
                        "\"data\":\"{\\\"subscription_count\\\":3}\"}";
    fake_frame_to(&wire, 0x81, count, strlen(count));
    const char *elsewhere = "{\"event\":\"news\",\"channel\":\"elsewhere\",\"data\":[1,{\"a\":2}]}";
    fake_frame_to(&wire, 0x81, elsewhere, strlen(elsewhere));
    flowing = true;
    f.in_poll = true;
    for (int round = 0; round < 3; round++) { /* until every buffer has its size */
        wire_at = 0;
        pusher_poll(f.client, ++f.now);
    }
    uint64_t ours = f.heap.calls, before = mallocs;
    got_events = 0;
    for (int round = 0; round < ROUNDS; round++) {
        wire_at = 0;
        pusher_poll(f.client, ++f.now);
    }
    uint64_t after = mallocs;
    assert_true(got_events >= ROUNDS * 40);
    assert_int_equal(f.heap.calls - ours, 0);
    if (can_count)
        assert_int_equal(after - before, 0);
    print_message("%u events: %u allocations of ours, %s of malloc\n", (unsigned)got_events, 0u,
                  can_count ? "0" : "(not counted)");
    f.in_poll = false;
    fake_bytes_free(&wire);
    fake_end(&f);
}

static void a_reconnect_allocates_only_what_wslay_takes(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    f.serve = fake_serve;
    fake_subscribe(&f, "chat");
    pusher_connect(f.client);
    fake_run(&f);
    uint64_t ours = f.heap.calls;
    size_t live = f.heap.live_bytes;
    for (int i = 0; i < 40; i++) {
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        fake_pass(&f, 1000);
        fake_eof(&f);
        fake_pass(&f, 40000);
    }
    assert_int_equal(f.stream_count, 41);
    assert_int_equal(f.heap.calls, ours);
    assert_int_equal(f.heap.live_bytes, live);
    fake_end(&f);
}

/* wslay takes its block from malloc: its size, seen from outside; where that cannot be counted
   (valgrind, for one), what it is counted to be on x86-64 with wslay 1.1.1. */
static size_t wslay_block(void)
{
    struct wslay_frame_callbacks callbacks = { NULL, NULL, NULL };
    wslay_frame_context_ptr context = NULL;
    uint64_t before = malloc_bytes;
    assert_int_equal(wslay_frame_context_init(&context, &callbacks, NULL), 0);
    size_t size = can_count ? (size_t)(malloc_bytes - before) : 4256;
    wslay_frame_context_free(context);
    return size;
}

static size_t cost_of(const pusher_options *limits, fake *f)
{
    pusher_options options = fake_options(f);
    options.max_message_bytes = limits->max_message_bytes;
    options.max_output_bytes = limits->max_output_bytes;
    options.max_poll_bytes = limits->max_poll_bytes;
    fake_start(f, &options);
    pusher_connect(f->client);
    fake_run(f);
    fake_accept(f);
    fake_run(f);
    return f->heap.peak_bytes + wslay_block();
}

static void say_on(fake_stream *stream, const char *text)
{
    fake_frame_to(&stream->to_client, 0x81, text, strlen(text));
}

static void serve_all_kinds(fake *f, fake_stream *stream, const fake_message *message)
{
    const char *text = message && message->kind == FAKE_HEARD_TEXT ? message->text : "";
    if (strncmp(text, "{\"event\":\"pusher:signin\"", 24) == 0)
        say_on(stream, "{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":"
                       "\"{\\\"id\\\":\\\"me\\\"}\"}}");
    else if (strstr(text, "pusher:subscribe") && strstr(text, "presence-room"))
        say_on(stream, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"
                       "\"presence-room\",\"data\":{\"presence\":{\"ids\":[\"me\",\"bob\"],"
                       "\"hash\":{\"me\":{\"n\":1},\"bob\":null},\"count\":2}}}");
    else
        fake_serve(f, stream, message);
}

static void thousands_of_reconnects_with_channels_of_all_kinds(void **state)
{
    (void)state;
    static fake f;
    fake_init(&f);
    pusher_options options = fake_options(&f);
    fake_authorize(&f, &options);
    options.reconnect_base_ms = options.reconnect_cap_ms = 1;
    fake_start(&f, &options);
    f.serve = serve_all_kinds;
    fake_subscribe(&f, "cache-chat");
    fake_subscribe(&f, "private-chat");
    pusher_channel room = fake_subscribe(&f, "presence-room");
    pusher_channel sealed = fake_subscribe(&f, "private-encrypted-test");
    pusher_signin(f.client);
    pusher_connect(f.client);
    fake_run(&f);
    size_t live = 0, blocks = 0, peak = 0;
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
        assert_int_equal(pusher_channel_state(f.client, sealed), PUSHER_SUBSCRIBED);
        assert_int_equal(pusher_member_count(f.client, room), 2);
        assert_string_equal(pusher_user_id(f.client), "me");
        fake_say(&f, "{\"event\":\"pusher_internal:member_added\",\"channel\":\"presence-room\","
                     "\"data\":{\"user_id\":\"cyd\"}}");
        fake_say(&f, "{\"event\":\"e\",\"channel\":\"private-encrypted-test\",\"data\":{"
                     "\"ciphertext\":\"BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe\","
                     "\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}}");
        fake_run(&f);
        assert_int_equal(pusher_member_count(f.client, room), 3);
        if (i == 2) {
            live = f.heap.live_bytes;
            blocks = f.heap.live_blocks;
            peak = f.heap.peak_bytes;
        }
        if (i > 2) {
            assert_int_equal(f.heap.live_bytes, live);
            assert_int_equal(f.heap.live_blocks, blocks);
            assert_int_equal(f.heap.peak_bytes, peak);
        }
        fake_forget_heard(&f);
        fake_eof(&f);
        fake_pass(&f, 100);
    }
    assert_int_equal(f.stream_count, 2001);
    assert_int_equal(f.errors, 2000); /* the losses */
    fake_forget_heard(&f);
    fake_end(&f);
}

static void a_client_before_its_first_message(void **state)
{
    (void)state;
    fake f;
    pusher_options limits;
    memset(&limits, 0, sizeof limits);
    fake_init(&f);
    size_t usual = cost_of(&limits, &f);
    fake_say(&f, FAKE_ESTABLISHED);
    fake_run(&f);
    assert_int_equal(pusher_get_state(f.client), PUSHER_CONNECTED);
    print_message("default limits: %u bytes before the first message, %u after\n", (unsigned)usual,
                  (unsigned)(f.heap.live_bytes + wslay_block()));
    assert_true(usual <= 24 * 1024);
    fake_end(&f);
    limits.max_message_bytes = 512;
    limits.max_output_bytes = 1024;
    limits.max_poll_bytes = 512;
    fake_init(&f);
    size_t least = cost_of(&limits, &f);
    fake_say(&f, FAKE_ESTABLISHED);
    fake_say(&f, "{\"event\":\"news\",\"data\":\"x\"}");
    fake_run(&f);
    size_t after = f.heap.peak_bytes + wslay_block();
    print_message("smallest limits: %u bytes before the first message, %u after\n", (unsigned)least,
                  (unsigned)after);
    assert_true(least <= 8 * 1024);
    assert_true(after <= 8 * 1024);
    fake_end(&f);
}

static void a_channel(void **state)
{
    (void)state;
    static const uint32_t counts[] = { 100, 1000, 10000 };
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        fake f;
        size_t names = 0;
        fake_start(&f, NULL);
        size_t before = f.heap.live_bytes;
        for (uint32_t i = 0; i < counts[n]; i++) {
            char name[32];
            names += (size_t)snprintf(name, sizeof name, "channel-%u", i) + 1;
            fake_subscribe(&f, name);
        }
        double each = (double)(f.heap.live_bytes - before - names) / counts[n];
        print_message("%u channels: %.1f bytes each and the name\n", counts[n], each);
        if (counts[n] == 10000)
            assert_true(each <= 96.0);
        fake_end(&f);
    }
}

static void memory_comes_back(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    size_t highest = 0;
    for (int round = 0; round < 20; round++) {
        pusher_channel at = { 0, 0 };
        for (int i = 0; i < 500; i++) {
            char name[64];
            snprintf(name, sizeof name, "round-%d-channel-%d", round, i);
            pusher_channel channel = fake_subscribe(&f, name);
            pusher_bind(f.client, channel, name, fake_event_fn, &f);
        }
        if (round == 0)
            highest = f.heap.live_bytes;
        while ((at = pusher_next_channel(f.client, (pusher_channel){ 0, 0 })).id != 0)
            pusher_unsubscribe(f.client, at);
    }
    assert_true(f.heap.peak_bytes <= highest + 4096);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_allocates_nothing),
        cmocka_unit_test(a_reconnect_allocates_only_what_wslay_takes),
        cmocka_unit_test(thousands_of_reconnects_with_channels_of_all_kinds),
        cmocka_unit_test(a_client_before_its_first_message),
        cmocka_unit_test(a_channel),
        cmocka_unit_test(memory_comes_back),
    };
    can_count = mallocs_start();
    return cmocka_run_group_tests_name("api/memory", tests, NULL, NULL);
}
