/*
 * trace.c - what a client does with the same world, as one number that has to be the same on every
 * machine: all scenarios of tests/anomaly, a table of messages, and a few thousand damaged ones.
 * Prints a line "HASH NAME" for each and, last, "trace HASH"; with the name of a scenario as argument
 * its traces, too, to be compared where hashes differ. What may differ between machines is
 * in no trace: pointers, sizes of allocations, times.
 */
#ifdef __cplusplus /* which cmocka.h knows nothing of */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
#endif
#include "fake.h"

/* Four random bytes are another number on a machine with another order of bytes, and the client
   waits by such numbers. Here all bytes of one call are the same, and differ from call to call. */
static bool trace_fill(void *buf, size_t len, void *user_data)
{
    fake *f = (fake *)user_data;
    bool filled = fake_fill(buf, len, user_data);
    memset(buf, (int)(f->hook_calls[FAKE_RANDOM] * 37 % 256), len);
    return filled;
}

static pusher_client *trace_create(const pusher_options *options, pusher_error *error)
{
    pusher_options changed = *options;
    changed.random.fill_fn = trace_fill;
    return pusher_create(&changed, error);
}

#define pusher_create trace_create /* for the scenarios, too */
#include "anomaly/scenarios.h"

/* How the bytes come and go. */
typedef struct manner {
    size_t recv_max, send_max;
    uint32_t recv_block; /* not for what is sent: whether the answer to a close still goes out before
                            the end of the stream would then be a matter of time                   */
    uint64_t seed;
} manner;

static const manner manners[] = {
    { 0, 0, 0, 0 },
    { 1, 1, 0, 0 },
    { 7, 3, 2, 0 },
    { 0, 0, 0, 99 },
};

static uint32_t failures;

static void fake_in(fake *f, const manner *how)
{
    fake_init(f);
    f->recv_max = how->recv_max;
    f->send_max = how->send_max;
    f->recv_block = how->recv_block;
    f->chunk_seed = how->seed;
}

static const char *shown; /* the scenario whose traces are printed */

static void show(const char *what, const fake_bytes *trace)
{
    printf("-- %s\n%.*s", what, (int)trace->len, trace->at ? trace->at : "");
}

static uint64_t finish(fake *f, const char *name)
{
    uint64_t hash = fake_trace_hash(f);
    if (shown && strcmp(shown, name) == 0) {
        show("events", &f->trace);
        show("sent", &f->sent_trace);
        show("posted", &f->post_trace);
    }
    if (f->trace.len == 0) {
        printf("FAILED: %s leaves no trace\n", name);
        failures++;
    }
    const char *wrong = fake_finish(f);
    if (wrong) {
        printf("FAILED: %s: %s\n", name, wrong);
        failures++;
    }
    return hash;
}

static uint64_t play_scenario(const scenario *s, const manner *how)
{
    fake f;
    stage st;
    fake_in(&f, how);
    if (!scenario_create(&f, &st, s)) {
        printf("FAILED: %s: no client\n", s->name);
        failures++;
        return 0;
    }
    s->play(&f);
    return finish(&f, s->name);
}

/* What parsers on other machines may read in another way: signs, sizes, order of bytes. */
static const char *const messages[] = {
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":\"\\u00e9\\ud83d\\ude00\\\\\\/\\b\\f\\n\\r\\t\"}",
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"}",
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":\"\\ud800\"}",
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":\"\\u0000\"}",
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":[1,-0,1.5e-300,{\"a\":[[],{}]},null,true,false]}",
    "{\"event\":\"e\",\"channel\":\"a\",\"data\":18446744073709551616}",
    "{\"event\":\"e\",\"channel\":\"a\"}",
    "{ \"data\" : { } , \"channel\" : \"a\" , \"event\" : \"e\" }",
    "{\"event\":\"\xC3\xBC\",\"channel\":\"a\",\"data\":\"\",\"user_id\":\"u1\"}",
    "{\"event\":\"e\",\"event\":\"f\",\"channel\":\"a\",\"data\":\"\"}",
    "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"a\","
    "\"data\":\"{\\\"subscription_count\\\":4294967295}\"}",
    "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"a\","
    "\"data\":\"{\\\"subscription_count\\\":4294967296}\"}",
    "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"a\","
    "\"data\":{\"subscription_count\":-1}}",
    "{\"event\":\"pusher:error\",\"data\":{\"code\":4301,\"message\":\"\\u4e2d\"}}",
    "{\"event\":\"pusher:error\",\"data\":{\"code\":-2147483649,\"message\":\"small\"}}",
    "{\"event\":\"pusher:error\",\"data\":{\"code\":2147483648,\"message\":\"large\"}}",
    "{\"event\":\"pusher:error\",\"data\":{\"code\":4.301e3,\"message\":null}}",
    "{\"event\":\"pusher:ping\",\"data\":{}}",
    "{\"event\":\"pusher:cache_miss\",\"channel\":\"a\"}",
    "{\"event\":\"pusher:subscription_error\",\"channel\":\"a\","
    "\"data\":{\"type\":\"AuthError\",\"error\":\"no\",\"status\":403}}",
    "[]", "", "nothing",
};

#define MESSAGES (sizeof messages / sizeof *messages)

static void online(fake *f)
{
    if (pusher_connect(f->client) != PUSHER_OK) {
        printf("FAILED: connect\n");
        failures++;
    }
    fake_live(f, 10);
}

/* Each message on a connection of its own, so that what one breaks does not hide the next. */
static uint64_t play_message(const char *text, size_t len, const manner *how)
{
    fake f;
    pusher_error error;
    fake_in(&f, how);
    pusher_options options = fake_options(&f);
    f.serve = fake_serve;
    f.client = pusher_create(&options, &error);
    if (!f.client) {
        printf("FAILED: no client: %s\n", error.message);
        failures++;
        return 0;
    }
    pusher_channel channel = pusher_subscribe(f.client, "a");
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    pusher_bind(f.client, channel, "e", fake_event_fn, &f);
    online(&f);
    fake_frame(&f, 0x81, text, len);
    fake_live(&f, 100);
    fake_note(&f.trace, "%u of %u\n",
              (unsigned)pusher_channel_subscription_count(f.client, channel), (unsigned)f.errors);
    return finish(&f, "a message");
}

/* The same with bytes changed, left out or put in. The frame itself may be damaged, too. */
static uint64_t play_damaged(uint64_t seed)
{
    char text[400];
    const char *from = messages[fake_next_random(&seed) % MESSAGES];
    size_t len = strlen(from);
    memcpy(text, from, len);
    for (uint64_t n = 1 + fake_next_random(&seed) % 3; n > 0 && len > 1; n--) {
        size_t at = (size_t)(fake_next_random(&seed) % len);
        unsigned char byte = (unsigned char)fake_next_random(&seed);
        switch (fake_next_random(&seed) % 3) {
        case 0: memcpy(text + at, &byte, 1); break;
        case 1: memmove(text + at, text + at + 1, --len - at); break;
        default:
            memmove(text + at + 1, text + at, len - at);
            memcpy(text + at, &byte, 1);
            len++;
            break;
        }
    }
    return play_message(text, len, &manners[fake_next_random(&seed) % 4]);
}

static uint64_t total;

static void report(const char *name, uint64_t hash)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(hash >> (56 - 8 * i));
    total = fake_hash(total, bytes, sizeof bytes);
    printf("%016" PRIx64 " %s\n", hash, name);
}

/* Whole, and in three other manners that must make no difference. */
static void scenarios_and_manners(void)
{
    for (size_t i = 0; i < SCENARIOS; i++) {
        uint64_t whole = play_scenario(&scenarios[i], &manners[0]);
        for (size_t m = 1; m < sizeof manners / sizeof *manners; m++) {
            if (play_scenario(&scenarios[i], &manners[m]) != whole) {
                printf("FAILED: %s: another trace in manner %u\n", scenarios[i].name, (unsigned)m);
                failures++;
            }
        }
        report(scenarios[i].name, whole);
    }
}

/* Everything that is only a table inside the library. */
static uint64_t names(void)
{
    uint64_t hash = 0;
    for (int i = -1; i < 40; i++) {
        const char *name = pusher_result_name((pusher_result)i);
        hash = fake_hash(hash, name, strlen(name));
        name = pusher_state_name((pusher_state)i);
        hash = fake_hash(hash, name, strlen(name));
    }
    return hash;
}

int main(int argc, char **argv)
{
    if (argc > 1) shown = argv[1];
    scenarios_and_manners();
    uint64_t hash = 0;
    for (size_t i = 0; i < MESSAGES; i++) {
        uint64_t one = play_message(messages[i], strlen(messages[i]), &manners[0]);
        if (play_message(messages[i], strlen(messages[i]), &manners[1]) != one) {
            printf("FAILED: message %u: another trace byte by byte\n", (unsigned)i);
            failures++;
        }
        hash = hash * 31 + one;
    }
    report("messages", hash);
    hash = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++)
        hash = hash * 31 + play_damaged(seed);
    report("damaged messages", hash);
    report("names", names());
    printf("trace %016" PRIx64 "\n", total);
    return failures > 0;
}
