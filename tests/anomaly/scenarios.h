/*
 * scenarios.h - what a client goes through in the anomaly tests. Each scenario is played against a
 * server that answers, with something failing on the way; so each step takes what it finds, and
 * whatever failed, the client has to be usable afterwards (recover).
 */
#ifndef PUSHER_TESTS_SCENARIOS_H
#define PUSHER_TESTS_SCENARIOS_H

#include "fake.h"

typedef struct scenario {
    const char *name;
    void (*play)(fake *f);
    void (*limit)(pusher_options *options); /* may be NULL                                        */
} scenario;

/* What a scenario may need besides the fake; f->extra points to it. */
typedef struct stage {
    uint32_t said, heard;    /* numbers of the events sent and seen                               */
    uint32_t trick;          /* how often the handler has done its trick                          */
    bool silent;             /* the server does not answer                                        */
    int status;              /* HTTP status to refuse with; 0 = accept                            */
    const char *refuse;      /* this channel is refused                                           */
    uint32_t answer_every;   /* only every n-th subscription is answered; 0 = each one            */
    uint32_t asked;          /* for that                                                          */
} stage;

static inline stage *stage_of(fake *f)
{
    return (stage *)f->extra;
}

/* No event is seen twice, or out of order. */
static inline void scenario_event(fake *f, const pusher_event *event)
{
    if (strcmp(event->name, "news") != 0)
        return;
    uint32_t number = (uint32_t)strtoul(event->data, NULL, 10);
    if (number <= stage_of(f)->heard)
        fake_violate(f, "event %u after event %u", number, stage_of(f)->heard);
    if (number > stage_of(f)->said)
        fake_violate(f, "event %u, which nobody sent", number);
    stage_of(f)->heard = number;
}

static inline void scenario_serve(fake *f, fake_stream *stream, const fake_message *message)
{
    stage *st = stage_of(f);
    char text[300];
    if (st->silent)
        return;
    if (!message && st->status) {
        int len = snprintf(text, sizeof text, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n",
                           st->status);
        fake_bytes_add(&stream->to_client, text, (size_t)len);
        return;
    }
    if (message && message->kind == FAKE_HEARD_TEXT && st->refuse &&
        strstr(message->text, st->refuse) && strstr(message->text, "pusher:subscribe")) {
        int len = snprintf(text, sizeof text,
                           "{\"event\":\"pusher:subscription_error\",\"channel\":\"%s\","
                           "\"data\":{\"type\":\"AuthError\",\"status\":401}}",
                           st->refuse);
        fake_frame_to(&stream->to_client, 0x81, text, (size_t)len);
        return;
    }
    if (message && st->answer_every && strstr(message->text, "pusher:subscribe") &&
        ++st->asked % st->answer_every != 0)
        return;
    fake_serve(f, stream, message);
}

/* ---- steps: each does what it can ---- */

static inline fake_stream *scenario_stream(fake *f)
{
    fake_stream *stream = fake_latest(f);
    return f->client && stream && !stream->closed && stream->answered ? stream : NULL;
}

static inline void scenario_say(fake *f, const char *text)
{
    fake_stream *stream = scenario_stream(f);
    if (stream)
        fake_frame_to(&stream->to_client, 0x81, text, strlen(text));
}

static inline void scenario_raw(fake *f, const char *bytes, size_t len)
{
    fake_stream *stream = scenario_stream(f);
    if (stream)
        fake_bytes_add(&stream->to_client, bytes, len);
}

static inline void scenario_close(fake *f, int code)
{
    fake_stream *stream = scenario_stream(f);
    if (!stream)
        return;
    stream->close_said = true;
    fake_close_to(&stream->to_client, code, code ? "so it goes" : NULL);
    stream->end = PUSHER_IO_EOF;
}

static inline void scenario_end(fake *f, int how)
{
    fake_stream *stream = scenario_stream(f);
    if (stream)
        stream->end = how;
}

static inline void scenario_news(fake *f, const char *channel)
{
    char text[200];
    snprintf(text, sizeof text, "{\"event\":\"news\",\"channel\":\"%s\",\"data\":\"%u\"}", channel,
             ++stage_of(f)->said);
    scenario_say(f, text);
}

static inline pusher_channel scenario_subscribe(fake *f, const char *name)
{
    pusher_channel none = { 0, 0 };
    if (!f->client)
        return none;
    pusher_channel channel = pusher_subscribe(f->client, name);
    if (channel.id == 0 && pusher_last_error(f->client)->code != PUSHER_ERR_MEMORY)
        fake_violate(f, "subscribe failed with %s",
                     pusher_result_name(pusher_last_error(f->client)->code));
    if (channel.id != 0 && pusher_channel_references(f->client, channel) == 1)
        pusher_bind(f->client, channel, "news", fake_event_fn, f);
    return channel;
}

/* For PUSHER_ALL: only noted, for the channel's handler has counted it. */
static inline void scenario_any(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake *f = (fake *)user_data;
    (void)client;
    fake_note(&f->trace, "any [%s] %s %s\n", event->channel_name, event->name, event->data);
}

static inline void scenario_unsubscribe(fake *f, const char *name)
{
    if (f->client)
        pusher_unsubscribe(f->client, pusher_find_channel(f->client, name));
}

/* Connect and wait, but not for ever: in short steps, or to the next thing that falls due. */
static inline void scenario_connect(fake *f, uint64_t at_most_ms)
{
    uint64_t end = f->now + at_most_ms, next;
    if (!f->client)
        return;
    if (pusher_connect(f->client) != PUSHER_OK)
        fake_violate(f, "connect failed");
    fake_live(f, 0);
    while (f->client && f->now < end && pusher_get_state(f->client) != PUSHER_CONNECTED &&
           pusher_get_state(f->client) != PUSHER_FAILED) {
        next = pusher_next_poll_ms(f->client);
        next = next < end ? next : end;
        fake_live(f, next > f->now + 200 ? next - f->now : 200);
    }
}

/* ---- scenarios ---- */

static inline void play_connect(fake *f)
{
    scenario_connect(f, 40000);
    fake_live(f, 1000);
    if (f->client)
        pusher_disconnect(f->client);
    fake_live(f, 3000);
}

static inline void play_refused(fake *f)
{
    f->connect_result = PUSHER_IO_ERROR;
    scenario_connect(f, 3000);
    f->connect_result = PUSHER_IO_ERROR_RESOLVE;
    fake_live(f, 3000);
    f->connect_result = 0;
    scenario_connect(f, 40000);
}

static inline void play_no_upgrade(fake *f)
{
    stage_of(f)->status = 503;
    scenario_connect(f, 2000);
    stage_of(f)->status = 404;
    fake_live(f, 3000);
    stage_of(f)->status = 0;
    scenario_connect(f, 40000);
}

static inline void play_events(fake *f)
{
    scenario_subscribe(f, "chat");
    scenario_connect(f, 40000);
    scenario_subscribe(f, "chat");
    scenario_subscribe(f, "room");
    fake_live(f, 10);
    for (int i = 0; i < 2; i++) {
        scenario_news(f, "chat");
        scenario_news(f, "room");
    }
    fake_live(f, 10);
    scenario_unsubscribe(f, "chat");
    scenario_unsubscribe(f, "room");
    fake_live(f, 10);
    scenario_news(f, "chat");
    scenario_unsubscribe(f, "chat");
    fake_live(f, 10);
    scenario_subscribe(f, "room");
    fake_live(f, 10);
    scenario_news(f, "room");
    fake_live(f, 10);
}

static inline void play_one_event(fake *f)
{
    scenario_subscribe(f, "a");
    scenario_connect(f, 40000);
    scenario_news(f, "a");
    fake_live(f, 10);
}

static inline void play_bindings(fake *f)
{
    pusher_channel channel = scenario_subscribe(f, "chat");
    if (f->client) {
        pusher_bind_all(f->client, PUSHER_ALL, scenario_any, f);
        for (int i = 0; i < 40; i++) {
            char name[32];
            snprintf(name, sizeof name, "event-%d", i);
            pusher_bind(f->client, channel, name, fake_event_fn, f);
        }
        pusher_unbind_where(f->client, channel, "event-3", NULL, NULL);
    }
    scenario_connect(f, 40000);
    scenario_say(f, "{\"event\":\"event-3\",\"channel\":\"chat\",\"data\":\"x\"}");
    scenario_say(f, "{\"event\":\"event-4\",\"channel\":\"chat\",\"data\":{\"a\":[1,2]}}");
    scenario_say(f, "{\"event\":\"pusher:cache_miss\",\"channel\":\"chat\"}");
    scenario_say(f, "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"chat\","
                    "\"data\":\"{\\\"subscription_count\\\":2}\"}");
    fake_live(f, 10);
    if (f->client)
        pusher_unbind_where(f->client, channel, NULL, NULL, NULL);
    fake_live(f, 10);
}

static inline void play_reconnect(fake *f)
{
    scenario_subscribe(f, "chat");
    scenario_subscribe(f, "room");
    scenario_connect(f, 40000);
    scenario_news(f, "chat");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    scenario_news(f, "room");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_ERROR);
    fake_live(f, 0);
    if (f->client)
        pusher_reconnect_now(f->client);
    scenario_connect(f, 40000);
    scenario_news(f, "chat");
    fake_live(f, 10);
}

static inline void play_close_codes(fake *f)
{
    static const int codes[] = { 4200, 4100, 1011, 0, 4201, 4001 };
    scenario_subscribe(f, "chat");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        scenario_connect(f, 60000);
        scenario_news(f, "chat");
        scenario_close(f, codes[i]);
        fake_live(f, 0);
    }
    fake_live(f, 3000);
}

static inline void play_fragments(fake *f)
{
    scenario_subscribe(f, "a");
    scenario_connect(f, 40000);
    ++stage_of(f)->said;
    scenario_raw(f, "\x01\x10{\"event\":\"news\",", 18);
    scenario_raw(f, "\x89\x03one", 5);
    scenario_raw(f, "\x00\x0E\"channel\":\"a\",", 16);
    scenario_raw(f, "\x8A\x00", 2);
    scenario_raw(f, "\x00\x00", 2);
    scenario_raw(f, "\x00\x0A\"data\":\"1\"", 12);
    fake_live(f, 1);
    scenario_raw(f, "\x89\x03two", 5);
    scenario_raw(f, "\x80\x01}", 3);
    scenario_raw(f, "\x81\x02{}", 4);
    fake_live(f, 10);
}

static inline void play_errors(fake *f)
{
    scenario_subscribe(f, "chat");
    scenario_connect(f, 40000);
    scenario_say(f, "not JSON");
    scenario_say(f, "{\"data\":1}");
    scenario_raw(f, "\x82\x02{}", 4);
    scenario_say(f, "{\"event\":\"pusher:error\",\"data\":{\"code\":4301,\"message\":\"rate\"}}");
    scenario_news(f, "chat");
    fake_live(f, 10);
    stage_of(f)->refuse = "secret";
    scenario_subscribe(f, "secret");
    fake_live(f, 10);
    stage_of(f)->refuse = NULL;
    scenario_say(f, "{\"event\":\"pusher:error\",\"data\":\"{\\\"code\\\":4201}\"}");
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
}

static inline void play_broken_rules(fake *f)
{
    static const struct { const char *bytes; size_t len; } rules[] = {
        { "\xC1\x02{}", 4 }, { "\x81\x82" "abcd\x1A\x1F", 8 }, { "\x88\x02\x03\xEC", 4 },
        { "\x81\x02\xC3(", 4 }, { "\x81\x7F\x00\x00\x00\x00\x7F\xFF\xFF\xFFx", 11 },
    };
    scenario_subscribe(f, "a");
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        scenario_connect(f, 60000);
        scenario_news(f, "a");
        scenario_raw(f, rules[i].bytes, rules[i].len);
        scenario_news(f, "nobody");
        fake_live(f, 1500);
    }
}

static inline void play_timeouts(fake *f)
{
    f->connect_result = PUSHER_IO_WANT_WRITE;
    scenario_connect(f, 3000);
    f->connect_result = 0;
    stage_of(f)->silent = true;
    fake_live(f, 6000);
    stage_of(f)->silent = false;
    scenario_connect(f, 60000);
    stage_of(f)->silent = true;
    scenario_subscribe(f, "chat");
    scenario_subscribe(f, "room");
    scenario_subscribe(f, "gone");
    fake_live(f, 1);
    scenario_unsubscribe(f, "gone");
    fake_live(f, 4000);
    scenario_say(f, FAKE_SUBSCRIBED("room"));
    fake_live(f, 9000);
    stage_of(f)->silent = false;
    scenario_connect(f, 60000);
    fake_live(f, 20);
}

static inline void limit_times(pusher_options *options)
{
    options->connect_timeout_ms = 2000;
    options->subscribe_timeout_ms = 3000;
    options->activity_timeout_ms = 8000;
    options->pong_timeout_ms = 2000;
    options->unavailable_timeout_ms = 1000;
    options->reconnect_base_ms = 100;
}

/* What waits to be sent fills the place for it and the poll's budget several times over. */
static inline void play_many_channels(fake *f)
{
    stage_of(f)->answer_every = 5;
    for (int i = 0; i < 24; i++) {
        char name[32];
        snprintf(name, sizeof name, "channel-%d", i);
        scenario_subscribe(f, name);
    }
    scenario_connect(f, 40000);
    for (int i = 0; i < 24; i += 3) {
        char name[32];
        snprintf(name, sizeof name, "channel-%d", i);
        scenario_unsubscribe(f, name);
    }
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    scenario_news(f, "channel-1");
    fake_live(f, 10);
}

static inline void limit_sizes(pusher_options *options)
{
    options->max_message_bytes = 2048;
    options->max_output_bytes = 1024;
    options->max_poll_bytes = 512;
}

/* An event with len bytes of data made of filler. last: so many of the message's bytes come in a
   frame of their own; 0 = none. */
static inline void scenario_long(fake *f, const char *filler, size_t len, size_t last)
{
    fake_bytes text;
    char many[256];
    size_t piece = strlen(filler), many_len = 0;
    fake_stream *stream = scenario_stream(f);
    if (!stream)
        return;
    memset(&text, 0, sizeof text);
    fake_note(&text, "{\"event\":\"big\",\"channel\":\"chat\",\"data\":\"");
    while (many_len + piece <= sizeof many) {
        memcpy(many + many_len, filler, piece);
        many_len += piece;
    }
    for (len -= len % piece; len > 0; len -= many_len < len ? many_len : len)
        fake_bytes_add(&text, many, many_len < len ? many_len : len);
    fake_note(&text, "\"}");
    fake_frame_to(&stream->to_client, last ? 0x01 : 0x81, text.at, text.len - last);
    if (last)
        fake_frame_to(&stream->to_client, 0x80, text.at + text.len - last, last);
    fake_bytes_free(&text);
    fake_live(f, 1);
}

static inline void scenario_expect_long(fake *f)
{
    pusher_channel channel = scenario_subscribe(f, "chat");
    if (f->client)
        pusher_bind(f->client, channel, "big", fake_event_fn, f);
    scenario_connect(f, 40000);
}

/* A length of two bytes, and a message over what is read in one poll; all kinds of text in them. */
static inline void play_big(fake *f)
{
    scenario_expect_long(f);
    scenario_long(f, "1\xE2\x82\xAC\\\"\\u00e4", 96, 0);
    scenario_long(f, "\xF0\x9F\x98\x80\\ud83d\\ude00\xC3\xA4\\n", 500, 250);
    scenario_news(f, "chat");
    fake_live(f, 10);
}

/* Over what all places for input hold at first. One byte again and again: see worth_a_cut(). */
static inline void play_huge(fake *f)
{
    scenario_expect_long(f);
    scenario_long(f, "b", 5000, 0);
    scenario_long(f, "c", 5000, 500);
    scenario_news(f, "chat");
    fake_live(f, 10);
}

static inline void play_glued(fake *f)
{
    if (f->client)
        pusher_bind_all(f->client, PUSHER_ALL, scenario_any, f);
    stage_of(f)->silent = true;
    scenario_connect(f, 0);
    fake_stream *stream = f->client ? fake_latest(f) : NULL;
    if (stream && !stream->closed && stream->upgrade_asked && !stream->answered) {
        fake_accept_on(stream);
        scenario_say(f, FAKE_ESTABLISHED);
        scenario_news(f, "early");
        scenario_say(f, FAKE_PING);
        scenario_news(f, "early");
        scenario_close(f, 4200);
    }
    fake_live(f, 0);
    stage_of(f)->silent = false;
    fake_live(f, 10);
    scenario_connect(f, 40000);
}

static inline void trick_destroy(fake *f, const pusher_event *event)
{
    scenario_event(f, event);
    if (f->client && strcmp(event->name, "news") == 0)
        fake_destroy(f);
}

static inline void play_destroy_in_event(fake *f)
{
    f->on_event = trick_destroy;
    play_one_event(f);
    fake_live(f, 10);
    f->on_event = scenario_event;
}

static inline void trick_error(fake *f, const pusher_error *error)
{
    (void)error;
    if (f->client && ++stage_of(f)->trick == 2)
        fake_destroy(f);
}

static inline void play_destroy_in_error(fake *f)
{
    f->on_error = trick_error;
    scenario_subscribe(f, "a");
    scenario_connect(f, 40000);
    scenario_say(f, "bad");
    scenario_news(f, "a");
    scenario_close(f, 4100);
    fake_live(f, 3000);
    f->on_error = NULL;
}

static inline void trick_meddle(fake *f, const pusher_event *event)
{
    scenario_event(f, event);
    if (!f->client || strcmp(event->name, "news") != 0)
        return;
    switch (stage_of(f)->trick++ % 4) {
    case 0:
        scenario_unsubscribe(f, "chat");
        scenario_subscribe(f, "chat");
        break;
    case 1: scenario_subscribe(f, "room"); break;
    case 2: pusher_disconnect(f->client); break;
    default:
        pusher_unbind_where(f->client, event->channel, NULL, NULL, NULL);
        pusher_reconnect_now(f->client);
        break;
    }
}

static inline void play_meddle(fake *f)
{
    f->on_event = trick_meddle;
    scenario_subscribe(f, "chat");
    scenario_connect(f, 40000);
    for (int i = 0; i < 5; i++) {
        scenario_news(f, "chat");
        fake_live(f, 10);
        scenario_connect(f, 40000);
    }
    f->on_event = scenario_event;
}

static inline void play_stop_and_go(fake *f)
{
    scenario_subscribe(f, "chat");
    for (int i = 0; i < 3; i++) {
        scenario_connect(f, 40000);
        scenario_news(f, "chat");
        fake_live(f, 1);
        if (f->client)
            pusher_disconnect(f->client);
        fake_live(f, i == 1 ? 2000 : 0);
    }
    scenario_connect(f, 40000);
    if (f->client) {
        f->now += 7200000; /* asleep */
        fake_live(f, 1000);
    }
}

static const scenario scenarios[] = {
    { "connect", play_connect, NULL },
    { "connection refused", play_refused, NULL },
    { "upgrade refused", play_no_upgrade, NULL },
    { "one event", play_one_event, NULL },
    { "subscribe, events, unsubscribe", play_events, NULL },
    { "bindings", play_bindings, NULL },
    { "reconnect", play_reconnect, NULL },
    { "close codes", play_close_codes, NULL },
    { "fragments with pings", play_fragments, NULL },
    { "errors", play_errors, NULL },
    { "broken rules", play_broken_rules, NULL },
    { "timeouts", play_timeouts, limit_times },
    { "many channels", play_many_channels, limit_sizes },
    { "big messages", play_big, limit_sizes },
    { "huge messages", play_huge, NULL },
    { "all at once", play_glued, NULL },
    { "destroy in an event", play_destroy_in_event, NULL },
    { "destroy in an error", play_destroy_in_error, NULL },
    { "meddling handlers", play_meddle, NULL },
    { "stop and go", play_stop_and_go, NULL },
};

#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

/* ---- around a scenario ---- */

static inline bool scenario_create(fake *f, stage *st, const scenario *s)
{
    pusher_error error;
    pusher_options options = fake_options(f);
    memset(st, 0, sizeof *st);
    f->extra = st;
    f->serve = scenario_serve;
    f->on_event = scenario_event;
    if (s->limit)
        s->limit(&options);
    f->client = pusher_create(&options, &error);
    if (!f->client && (error.code == PUSHER_OK || !error.message || !error.message[0]))
        fake_violate(f, "pusher_create() does not say why");
    return f->client != NULL;
}

/* Nothing fails any more: the client has to come back, by itself unless it was told to stop. */
static inline void scenario_recover(fake *f)
{
    if (!f->client)
        return;
    f->heap.fail_at = f->fail_at = f->random_fail_at = 0;
    f->connect_result = 0;
    stage_of(f)->silent = false;
    stage_of(f)->status = 0;
    stage_of(f)->refuse = NULL;
    stage_of(f)->answer_every = 0;
    fake_stream *stream = fake_latest(f);
    if (stream && !stream->closed && stream->connect_result < 0)
        stream->connect_result = 1;
    for (int i = 0; i < 3; i++) /* a refusal may still have been under way */
        scenario_connect(f, 300000);
    if (!f->client || pusher_get_state(f->client) != PUSHER_CONNECTED) {
        fake_violate(f, "it does not come back: %s",
                     f->client ? pusher_state_name(pusher_get_state(f->client)) : "gone");
        return;
    }
    pusher_channel channel = scenario_subscribe(f, "afterwards");
    fake_live(f, 20000);
    if (pusher_channel_state(f->client, channel) != PUSHER_SUBSCRIBED)
        fake_violate(f, "a new subscription stays %d",
                     (int)pusher_channel_state(f->client, channel));
    pusher_channel at = { 0, 0 };
    while ((at = pusher_next_channel(f->client, at)).id != 0)
        if (pusher_channel_state(f->client, at) == PUSHER_PENDING)
            fake_violate(f, "%s is pending for ever", pusher_channel_name(f->client, at));
    uint32_t before = stage_of(f)->heard;
    scenario_news(f, "afterwards");
    fake_live(f, 10);
    if (stage_of(f)->heard == before)
        fake_violate(f, "an event does not arrive any more");
}

#endif /* PUSHER_TESTS_SCENARIOS_H */
