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
    const char *answers;     /* to authorizations, one letter each, then yes: see scenario_answer */
    bool new_key;            /* encrypted channels have another one by now                        */
    struct { pusher_ticket ticket; char name[64]; } kept[8]; /* questions not answered yet        */
    size_t kept_count;
    const char *present;     /* in presence channels: ids and hash, as JSON in a JSON string      */
    const char *cached;      /* of cache channels; NULL: a miss                                   */
    bool signed_in;          /* the client is to be                                               */
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

#define SCENARIO_ONLY_ME "\\\"ids\\\":[\\\"me\\\"],\\\"hash\\\":{\\\"me\\\":1}"

/* What pusher.com answers besides fake_serve(). False: nothing of the kind was asked for. */
static inline bool scenario_serve_more(fake *f, fake_stream *stream, const char *text)
{
    char reply[512], channel[64];
    const char *at = strstr(text, "\"channel\":\"");
    stage *st = stage_of(f);
    if (strncmp(text, "{\"event\":\"pusher:signin\"", 24) == 0) {
        static const char success[] =
            "{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":"
            "\"{\\\"id\\\":\\\"me\\\"}\"}}";
        fake_frame_to(&stream->to_client, 0x81, success, sizeof success - 1);
        return true;
    }
    if (!at || strncmp(text, "{\"event\":\"pusher:subscribe\"", 27) != 0)
        return false;
    fake_copy(channel, sizeof channel, at + 11);
    channel[strcspn(channel, "\"")] = '\0';
    if (strncmp(channel, "presence-", 9) == 0) {
        int len = snprintf(reply, sizeof reply,
                           "{\"event\":\"pusher_internal:subscription_succeeded\","
                           "\"channel\":\"%s\",\"data\":\"{\\\"presence\\\":{%s}}\"}", channel,
                           st->present ? st->present : SCENARIO_ONLY_ME);
        fake_frame_to(&stream->to_client, 0x81, reply, (size_t)len);
        return true;
    }
    if (!strstr(channel, "private-") && !strstr(channel, "cache-"))
        return false;
    fake_frame_to(&stream->to_client, 0x81, reply,
                  (size_t)snprintf(reply, sizeof reply,
                                   "{\"event\":\"pusher_internal:subscription_succeeded\","
                                   "\"channel\":\"%s\"}", channel)); /* as soketi */
    if (!strstr(channel, "cache-"))
        return true;
    fake_frame_to(&stream->to_client, 0x81, reply,
                  (size_t)snprintf(reply, sizeof reply, "{\"event\":\"%s\",\"channel\":\"%s\"%s%s}",
                                   st->cached ? "state" : "pusher:cache_miss", channel,
                                   st->cached ? ",\"data\":" : "", st->cached ? st->cached : ""));
    return true;
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
    if (message && message->kind == FAKE_HEARD_TEXT && scenario_serve_more(f, stream, message->text))
        return;
    fake_serve(f, stream, message);
}

/* ---- the application, which authorizes ---- */

/* The next of stage.answers: y yes, n no, l later, k kept for scenario_answer_kept(), s silence,
   u yes, and the sign-in says who it is. By the endpoint only: c yes in chunks, and the stream is
   of no more use then, d the stream dies within the answer, e before it, h it is no HTTP,
   j no JSON. */
static inline char scenario_answer(stage *st)
{
    return st->answers && *st->answers ? *st->answers++ : 'y';
}

#define SCENARIO_SECRET FAKE_SHARED_SECRET
#define SCENARIO_NEW_SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static inline const char *scenario_body(const stage *st, const char *channel)
{
    if (st->new_key && pusher_channel_kind(channel) >= PUSHER_KIND_ENCRYPTED)
        return "{" FAKE_AUTH ",\"shared_secret\":\"" SCENARIO_NEW_SECRET "\"}";
    return fake_auth_body(channel);
}

static inline void scenario_accept(fake *f, pusher_ticket ticket, const char *body)
{
    pusher_result result = pusher_auth_accept(f->client, ticket, body, strlen(body));
    if (result != PUSHER_OK)
        fake_note(&f->trace, "answered: %s\n", pusher_result_name(result));
}

static inline void scenario_reply(fake *f, const pusher_auth_request *request)
{
    stage *st = stage_of(f);
    switch (scenario_answer(st)) {
    case 'n': pusher_auth_reject(f->client, request->ticket, 403, "no", false); break;
    case 'l': pusher_auth_reject(f->client, request->ticket, 503, "later", true); break;
    case 'u': scenario_accept(f, request->ticket, "{" FAKE_AUTH "}"); break;
    case 's': break;
    case 'k':
        if (st->kept_count < sizeof st->kept / sizeof *st->kept) {
            st->kept[st->kept_count].ticket = request->ticket;
            fake_copy(st->kept[st->kept_count++].name, sizeof st->kept[0].name,
                      request->channel_name);
        }
        break;
    default: scenario_accept(f, request->ticket, scenario_body(st, request->channel_name)); break;
    }
}

static inline void scenario_reply_to_all(fake *f, const pusher_auth_request *requests,
                                         uint32_t count)
{
    stage *st = stage_of(f);
    fake_bytes body;
    memset(&body, 0, sizeof body);
    for (uint32_t i = 0; i < count; i++) {
        char answer = scenario_answer(st);
        const char *yes = answer == 'u' ? "{" FAKE_AUTH "}"
                                        : scenario_body(st, requests[i].channel_name);
        fake_note(&body, "%s\"%s\":{\"status\":%d,\"data\":%s}", i ? "," : "{",
                  requests[i].channel_name, answer == 'n' ? 403 : 200, yes);
    }
    fake_add(&body, "}", 1);
    pusher_result result = pusher_auth_accept_batch(f->client, requests[0].ticket, body.at,
                                                    body.len);
    fake_note(&f->trace, "answered %u: %s\n", count, pusher_result_name(result));
    fake_bytes_free(&body);
}

static inline void scenario_asked(fake *f, const pusher_auth_request *request, const char *how)
{
    fake_note(&f->trace, "%s %d %d %u [%s] %s\n", how, (int)request->kind, (int)request->reason,
              request->attempt, request->channel_name, request->socket_id);
}

static inline void scenario_auth_fn(pusher_client *client, const pusher_auth_request *requests,
                                    uint32_t count, void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "auth.request_fn");
    (void)client;
    for (uint32_t i = 0; i < count; i++)
        scenario_asked(f, &requests[i], "ask");
    if (count == 1)
        scenario_reply(f, requests);
    else
        scenario_reply_to_all(f, requests, count);
}

static inline void scenario_answer_kept(fake *f)
{
    stage *st = stage_of(f);
    if (!f->client)
        return;
    for (size_t i = 0; i < st->kept_count; i++)
        scenario_accept(f, st->kept[i].ticket, scenario_body(st, st->kept[i].name));
    st->kept_count = 0;
}

/* For f.endpoint. */
static inline void scenario_endpoint(fake *f, fake_stream *stream, const char *head,
                                     const char *post)
{
    stage *st = stage_of(f);
    char channel[64] = "", reply[512];
    const char *at = strstr(post, "channel_name=");
    (void)head;
    if (at)
        fake_copy(channel, sizeof channel, at + 13);
    channel[strcspn(channel, "&")] = '\0';
    const char *body = scenario_body(st, channel);
    size_t len = strlen(body);
    switch (scenario_answer(st)) {
    case 'n': fake_answer(stream, 403, "Forbidden"); return;
    case 'l': fake_answer(stream, 500, "Oops"); return;
    case 'u': fake_answer(stream, 200, "{" FAKE_AUTH "}"); return;
    case 'j': fake_answer(stream, 200, "<html>"); return;
    case 's': return;
    case 'c':
        snprintf(reply, sizeof reply,
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                 "9\r\n%.9s\r\n%X;x=1\r\n%s\r\n0\r\nA: b\r\n\r\n",
                 body, (unsigned)len - 9, body + 9);
        fake_add(&stream->to_client, reply, SIZE_MAX);
        break;
    case 'd':
        fake_answer(stream, 200, body);
        stream->to_client.len -= 3;
        break;
    case 'h': fake_add(&stream->to_client, "SSH-2.0-x\r\n", SIZE_MAX); return;
    case 'e': break;
    default: fake_answer(stream, 200, body); return;
    }
    stream->end = PUSHER_IO_EOF;
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

/* The same, and all its events are seen. */
static inline pusher_channel scenario_join(fake *f, const char *name)
{
    pusher_channel channel = scenario_subscribe(f, name);
    if (channel.id != 0 && pusher_channel_references(f->client, channel) == 1) {
        pusher_unbind_where(f->client, channel, NULL, NULL, NULL);
        pusher_bind_all(f->client, channel, fake_event_fn, f);
    }
    return channel;
}

static inline void scenario_members(fake *f, const char *name)
{
    pusher_member member;
    if (!f->client)
        return;
    pusher_channel channel = pusher_find_channel(f->client, name);
    fake_note(&f->trace, "%u members:", pusher_member_count(f->client, channel));
    for (uint32_t i = 0; pusher_member_at(f->client, channel, i, &member); i++)
        fake_note(&f->trace, " %s=%s", member.id, member.info);
    fake_note(&f->trace, ", me %s\n",
              pusher_member_me(f->client, channel, &member) ? member.id : "unknown");
}

static inline void scenario_trigger(fake *f, const char *channel, const char *json)
{
    if (!f->client)
        return;
    pusher_result result = pusher_trigger(f->client, pusher_find_channel(f->client, channel),
                                          "client-x", json, strlen(json));
    fake_note(&f->trace, "trigger %s: %s\n", json, pusher_result_name(result));
}

static inline void scenario_signin(fake *f)
{
    if (!f->client)
        return;
    pusher_unbind_where(f->client, PUSHER_USER, NULL, NULL, NULL);
    pusher_unbind_where(f->client, PUSHER_WATCHLIST, NULL, NULL, NULL);
    pusher_bind_all(f->client, PUSHER_USER, fake_event_fn, f);
    pusher_bind_all(f->client, PUSHER_WATCHLIST, fake_event_fn, f);
    stage_of(f)->signed_in = pusher_signin(f->client) == PUSHER_OK;
}

/* News sealed with the old key or the new one (libsodium's secretbox of the number). */
static inline void scenario_sealed(fake *f, const char *channel, bool new_key)
{
    static const char *const boxes[2][6] = {
        { "2WaenZeVJxo/VIRXxMpcxX8=", "/vX7hfMOIAqr+hIs4FMOn3w=", "R8bcjX/mdw+HGI46LCbTq30=",
          "bFU6dttfcP/yvhwPSK+EhXo=", "tSUbfmc3yATP3JcdlIFJkns=", "2rR4ZsOwwPQ6gybyrwr7a3g=" },
        { "4SIBTYAH+ueH/080Fog6Sns=", "9qLbRqx6/rmHf5Yo4rFNIHg=", "7yLoSEhUUsmH/34snk5HLnk=",
          "zKImU1SU9RWIfwlASl4ndH4=", "xSIzVfBtSSWI//FDBvsggn8=", "2qINTxzhTfeHfzg40iQ0WHw=" },
    };
    char text[300];
    uint32_t number = ++stage_of(f)->said;
    if (number > 6)
        fake_violate(f, "no box with %u in it", number);
    snprintf(text, sizeof text,
             "{\"event\":\"news\",\"channel\":\"%s\",\"data\":{\"nonce\":"
             "\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\",\"ciphertext\":\"%s\"}}",
             channel, number > 6 ? "" : boxes[new_key][number - 1]);
    scenario_say(f, text);
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

/* ---- channels that are authorized, and what goes with them ---- */

static inline void limit_hook(pusher_options *options)
{
    options->auth.request_fn = scenario_auth_fn;
    options->auth.user_data = options->user_data;
    options->auth_timeout_ms = 3000;
    options->reconnect_base_ms = 100;
}

static inline void play_private(fake *f)
{
    scenario_join(f, "private-a");
    if (f->client)
        pusher_subscribe_with(f->client, "b", "{\"rewind\":1}");
    scenario_connect(f, 40000);
    scenario_news(f, "private-a");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    scenario_news(f, "private-a");
    fake_live(f, 10);
    scenario_unsubscribe(f, "private-a");
    fake_live(f, 10);
}

/* The answers come late: in time, after a loss, after the channel was given up, after nothing. */
static inline void play_private_later(fake *f)
{
    stage_of(f)->answers = "kkkyk";
    scenario_join(f, "private-a");
    scenario_connect(f, 40000);
    fake_live(f, 500);
    scenario_end(f, PUSHER_IO_ERROR);
    fake_live(f, 0);
    scenario_answer_kept(f);
    scenario_connect(f, 40000);
    fake_live(f, 500);
    scenario_answer_kept(f);
    scenario_join(f, "private-b");
    fake_live(f, 10);
    scenario_unsubscribe(f, "private-b");
    scenario_answer_kept(f);
    scenario_join(f, "private-b");
    fake_live(f, 10);
    scenario_join(f, "private-c");
    fake_live(f, 10000);
    scenario_news(f, "private-c");
    fake_live(f, 10);
}

static inline void play_private_refused(fake *f)
{
    stage_of(f)->answers = "nylslll";
    scenario_join(f, "private-a");
    scenario_connect(f, 40000);
    fake_live(f, 1000);
    scenario_join(f, "private-a");
    fake_live(f, 10);
    scenario_join(f, "private-b"); /* later, then silence, then later: a no */
    fake_live(f, 20000);
    stage_of(f)->answers = "ly";
    scenario_join(f, "private-b");
    fake_live(f, 5000);
    scenario_news(f, "private-b");
    fake_live(f, 10);
}

static inline void limit_batch(pusher_options *options)
{
    limit_hook(options);
    options->auth.max_batch = 3;
}

static inline void play_batch(fake *f)
{
    stage_of(f)->answers = "yny";
    scenario_join(f, "private-a");
    scenario_join(f, "private-b");
    scenario_join(f, "private-c");
    scenario_join(f, "private-d");
    scenario_connect(f, 40000);
    scenario_news(f, "private-d");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    scenario_news(f, "private-b");
    fake_live(f, 10);
}

static inline void scenario_prepare_fn(pusher_client *client, const pusher_auth_request *request,
                                       void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "auth.prepare_fn");
    fake_note(&f->post_trace, "prepare %d %d %u [%s]\n", (int)request->kind, (int)request->reason,
              request->attempt, request->channel_name);
    pusher_auth_header(client, "Authorization", "Bearer t0ken-of-the-minute");
    pusher_auth_param(client, "tenant", "a b");
}

static inline void limit_endpoint(pusher_options *options)
{
    limit_hook(options);
    options->auth.request_fn = NULL;
    options->auth_timeout_ms = 20; /* it is looked at each 2 ms */
    options->auth.endpoint = "http://auth.example:8000/auth";
    options->auth.prepare_fn = scenario_prepare_fn;
    ((fake *)options->user_data)->endpoint = scenario_endpoint;
}

/* Over one stream that is kept, then over one that the endpoint has closed meanwhile. */
static inline void play_endpoint(fake *f)
{
    stage_of(f)->answers = "yyn";
    scenario_join(f, "private-a");
    scenario_join(f, "private-b");
    scenario_connect(f, 40000);
    fake_live(f, 10);
    scenario_join(f, "private-c");
    fake_live(f, 10);
    for (uint32_t i = 0; i < f->stream_count; i++)
        if (f->streams[i]->http)
            f->streams[i]->end = PUSHER_IO_EOF;
    scenario_join(f, "private-c");
    fake_live(f, 10);
    scenario_news(f, "private-c");
    fake_live(f, 60000);
}

static inline void play_endpoint_trouble(fake *f)
{
    stage_of(f)->answers = "ledsyc";
    scenario_connect(f, 40000);
    scenario_join(f, "private-a"); /* 500, no answer, half of one: a no */
    fake_live(f, 10000);
    scenario_join(f, "private-a"); /* silence */
    fake_live(f, 10000);
    scenario_join(f, "private-b"); /* chunks, and the endpoint closes */
    fake_live(f, 10);
    stage_of(f)->answers = "hjy";
    scenario_join(f, "private-c"); /* not HTTP */
    fake_live(f, 10);
    scenario_join(f, "private-c"); /* not JSON */
    fake_live(f, 10);
    scenario_join(f, "private-c");
    fake_live(f, 10);
}

/* An authorization is under way on its stream when the connection goes. */
static inline void play_endpoint_reconnect(fake *f)
{
    stage_of(f)->answers = "sy";
    scenario_join(f, "presence-a");
    scenario_connect(f, 40000);
    fake_live(f, 4);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    fake_live(f, 4000);
    scenario_members(f, "presence-a");
    scenario_news(f, "presence-a");
    fake_live(f, 10);
}

#define SCENARIO_FEW                                                                               \
    "\\\"ids\\\":[\\\"me\\\",\\\"a\\\",7],\\\"hash\\\":{\\\"a\\\":{\\\"n\\\":1},\\\"me\\\":null}"
#define SCENARIO_OTHERS                                                                            \
    "\\\"ids\\\":[\\\"me\\\",\\\"a\\\",\\\"c\\\"],\\\"hash\\\":{\\\"a\\\":{\\\"n\\\":2}}"

static inline void play_presence(fake *f)
{
    stage_of(f)->present = SCENARIO_FEW;
    scenario_join(f, "presence-a");
    scenario_connect(f, 40000);
    scenario_members(f, "presence-a");
    scenario_say(f, "{\"event\":\"pusher_internal:member_added\",\"channel\":\"presence-a\","
                    "\"data\":{\"user_id\":\"b\",\"user_info\":[1]}}");
    scenario_say(f, "{\"event\":\"pusher_internal:member_removed\",\"channel\":\"presence-a\","
                    "\"data\":\"{\\\"user_id\\\":7}\"}");
    fake_live(f, 10);
    scenario_members(f, "presence-a");
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_members(f, "presence-a");
    stage_of(f)->present = SCENARIO_OTHERS;
    scenario_connect(f, 40000);
    scenario_members(f, "presence-a");
    scenario_news(f, "presence-a");
    fake_live(f, 10);
}

/* Two events wait for the new key; a third comes when it is known. */
static inline void play_encrypted(fake *f)
{
    stage_of(f)->answers = "yk";
    scenario_join(f, "private-encrypted-a");
    scenario_connect(f, 40000);
    stage_of(f)->new_key = true;
    scenario_sealed(f, "private-encrypted-a", true);
    scenario_sealed(f, "private-encrypted-a", true);
    fake_live(f, 500);
    scenario_answer_kept(f);
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    scenario_connect(f, 40000);
    scenario_sealed(f, "private-encrypted-a", true);
    scenario_sealed(f, "private-encrypted-a", false); /* and no key for it */
    fake_live(f, 10);
}

static inline void limit_encrypted(pusher_options *options)
{
    limit_hook(options);
    options->max_held_bytes = 300;
}

/* No key comes: what waited is given up, the channel stays. */
static inline void play_encrypted_refused(fake *f)
{
    stage_of(f)->answers = "ylsn";
    scenario_join(f, "private-encrypted-a");
    scenario_connect(f, 40000);
    scenario_sealed(f, "private-encrypted-a", true);
    fake_live(f, 6000);
    scenario_sealed(f, "private-encrypted-a", false);
    fake_live(f, 10);
}

static inline void limit_triggers(pusher_options *options)
{
    limit_hook(options);
    options->client_event_queue_bytes = 200;
    options->client_events_per_s = 2;
    options->max_client_event_bytes = 20;
}

static inline void play_triggers(fake *f)
{
    pusher_channel channel = scenario_join(f, "private-a");
    scenario_trigger(f, "private-a", "1");
    scenario_connect(f, 40000);
    scenario_trigger(f, "private-a", "{\"n\":2}");
    scenario_trigger(f, "private-a", "3"); /* one too many a second */
    scenario_trigger(f, "private-a", "{");
    fake_live(f, 1500);
    scenario_say(f, "{\"event\":\"client-x\",\"channel\":\"private-a\",\"data\":{\"k\":[1]}}");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    for (int i = 4; i < 9; i++) /* more than may wait */
        scenario_trigger(f, "private-a", i % 2 ? "\"odd\"" : "\"even\"");
    scenario_connect(f, 40000);
    fake_live(f, 3000);
    scenario_trigger(f, "private-a", "9");
    if (f->client)
        pusher_unsubscribe(f->client, channel);
    fake_live(f, 10);
}

static inline void play_signin(fake *f)
{
    scenario_signin(f);
    scenario_connect(f, 40000);
    if (f->client)
        fake_note(&f->trace, "user %s\n", pusher_user_id(f->client) ? "me" : "unknown");
    scenario_say(f, "{\"event\":\"hi\",\"channel\":\"#server-to-user-me\",\"data\":\"you\"}");
    scenario_say(f, "{\"event\":\"pusher_internal:watchlist_events\",\"channel\":"
                    "\"#server-to-user-me\",\"data\":{\"events\":[{\"name\":\"online\","
                    "\"user_ids\":[\"a\"]}]}}");
    fake_live(f, 10);
    scenario_end(f, PUSHER_IO_EOF);
    fake_live(f, 0);
    stage_of(f)->answers = "lny";
    scenario_connect(f, 40000);
    fake_live(f, 2000);
    scenario_signin(f);
    fake_live(f, 10);
}

static inline void play_cache(fake *f)
{
    scenario_connect(f, 40000);
    scenario_join(f, "cache-a");
    fake_live(f, 10);
    scenario_news(f, "cache-a");
    fake_live(f, 10);
    stage_of(f)->cached = "\"old\"";
    scenario_join(f, "private-cache-b");
    fake_live(f, 10);
    scenario_news(f, "private-cache-b");
    fake_live(f, 10);
}

/* A presence channel that waits for the sign-in, an encrypted and an open one, all twice. */
static inline void play_all_kinds(fake *f)
{
    stage_of(f)->answers = "yuy";
    scenario_signin(f);
    scenario_join(f, "presence-a");
    scenario_join(f, "private-encrypted-b");
    scenario_connect(f, 40000);
    fake_live(f, 10);
    scenario_members(f, "presence-a");
    scenario_close(f, 4200);
    fake_live(f, 0);
    stage_of(f)->answers = "yuy";
    scenario_connect(f, 40000);
    scenario_news(f, "presence-a");
    fake_live(f, 10);
}

/* The hook meddles with what it is asked about. */
static inline void trick_hook(pusher_client *client, const pusher_auth_request *requests,
                              uint32_t count, void *user_data)
{
    fake *f = fake_in_callback((fake *)user_data, "auth.request_fn");
    scenario_asked(f, requests, "ask");
    switch (stage_of(f)->trick++) {
    case 0:
        scenario_unsubscribe(f, requests[0].channel_name);
        scenario_join(f, requests[0].channel_name);
        break;
    case 1: scenario_join(f, "private-b"); break;
    case 2: pusher_disconnect(client); break;
    case 3: pusher_reconnect_now(client); break;
    case 4:
        scenario_unsubscribe(f, requests[0].channel_name);
        pusher_disconnect(client);
        pusher_connect(client);
        break;
    case 5: fake_destroy(f); return;
    default: break;
    }
    for (uint32_t i = 0; i < count && f->client; i++)
        scenario_reply(f, &requests[i]);
}

static inline void limit_trick(pusher_options *options)
{
    limit_hook(options);
    options->auth.request_fn = trick_hook;
}

static inline void play_meddling_hook(fake *f)
{
    scenario_join(f, "private-a");
    for (int i = 0; i < 3; i++) {
        scenario_connect(f, 40000);
        fake_live(f, 2000);
    }
    scenario_join(f, "private-c");
    fake_live(f, 10);
    stage_of(f)->trick = 9;
}

static inline void trick_prepare(pusher_client *client, const pusher_auth_request *request,
                                 void *user_data)
{
    fake *f = (fake *)user_data;
    scenario_prepare_fn(client, request, user_data);
    switch (stage_of(f)->trick++) {
    case 0:
        scenario_unsubscribe(f, request->channel_name);
        scenario_join(f, request->channel_name);
        break;
    case 1: pusher_disconnect(client); break;
    case 2:
        pusher_auth_reject(client, request->ticket, 403, "not here", false);
        scenario_join(f, request->channel_name);
        break;
    case 4: fake_destroy(f); break;
    default: break;
    }
}

static inline void limit_trick_prepare(pusher_options *options)
{
    limit_endpoint(options);
    options->auth.prepare_fn = trick_prepare;
}

static inline void play_meddling_prepare(fake *f)
{
    scenario_join(f, "private-a");
    for (int i = 0; i < 2; i++) {
        scenario_connect(f, 40000);
        fake_live(f, 2000);
    }
    scenario_join(f, "private-c");
    fake_live(f, 10);
    stage_of(f)->trick = 9;
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
    { "private", play_private, limit_hook },
    { "private, answered later", play_private_later, limit_hook },
    { "private, refused and put off", play_private_refused, limit_hook },
    { "batch", play_batch, limit_batch },
    { "endpoint", play_endpoint, limit_endpoint },
    { "endpoint in trouble", play_endpoint_trouble, limit_endpoint },
    { "endpoint and reconnect", play_endpoint_reconnect, limit_endpoint },
    { "presence", play_presence, limit_hook },
    { "encrypted", play_encrypted, limit_encrypted },
    { "encrypted, no new key", play_encrypted_refused, limit_hook },
    { "client events", play_triggers, limit_triggers },
    { "sign-in", play_signin, limit_hook },
    { "cache", play_cache, limit_hook },
    { "all kinds", play_all_kinds, limit_batch },
    { "meddling hook", play_meddling_hook, limit_trick },
    { "meddling with a request", play_meddling_prepare, limit_trick_prepare },
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

/* Ask again for a channel that was refused: by one more reference, which goes again. */
static inline void scenario_once_more(fake *f, pusher_channel channel)
{
    char name[256];
    fake_copy(name, sizeof name, pusher_channel_name(f->client, channel));
    pusher_channel same = pusher_subscribe(f->client, name);
    if (same.id != channel.id || pusher_unsubscribe(f->client, same) != PUSHER_OK)
        fake_violate(f, "%s has become another channel", name);
}

static inline bool scenario_refused(fake *f)
{
    pusher_channel at = { 0, 0 };
    while ((at = pusher_next_channel(f->client, at)).id != 0)
        if (pusher_channel_state(f->client, at) == PUSHER_REFUSED)
            return true;
    return false;
}

/* What no memory that is given back may hold: the two keys, as text and as bytes, and the token. */
static const fake_secret scenario_secrets[] = {
    { SCENARIO_SECRET, sizeof SCENARIO_SECRET - 1 },
    { "\xe6\xc8\xc7\xf5\x2d\xbf\xa8\x60\x10\x2a\x31\x10\x30\x15\x06\xf5", 16 },
    { SCENARIO_NEW_SECRET, sizeof SCENARIO_NEW_SECRET - 1 },
    { "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f", 16 },
    { "t0ken-of-the-minute", 19 },
};

static inline void scenario_watch_secrets(fake *f)
{
    f->heap.secrets = scenario_secrets;
    f->heap.secret_count = sizeof scenario_secrets / sizeof *scenario_secrets;
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
    stage_of(f)->answers = NULL;
    for (uint32_t i = 0; i < f->stream_count; i++)
        if (!f->streams[i]->closed && f->streams[i]->connect_result < 0)
            f->streams[i]->connect_result = 1;
    for (int i = 0; i < 3; i++) /* a refusal may still have been under way */
        scenario_connect(f, 300000);
    if (!f->client || pusher_get_state(f->client) != PUSHER_CONNECTED) {
        fake_violate(f, "it does not come back: %s",
                     f->client ? pusher_state_name(pusher_get_state(f->client)) : "gone");
        return;
    }
    pusher_channel channel = scenario_subscribe(f, "afterwards"), at = { 0, 0 };
    fake_live(f, 20000);
    if (pusher_channel_state(f->client, channel) != PUSHER_SUBSCRIBED)
        fake_violate(f, "a new subscription stays %d",
                     (int)pusher_channel_state(f->client, channel));
    while ((at = pusher_next_channel(f->client, at)).id != 0)
        if (pusher_channel_state(f->client, at) == PUSHER_PENDING)
            fake_violate(f, "%s is pending for ever", pusher_channel_name(f->client, at));
        else if (pusher_channel_state(f->client, at) == PUSHER_REFUSED)
            scenario_once_more(f, at);
    if (stage_of(f)->signed_in)
        pusher_signin(f->client);
    fake_live(f, 20000);
    if (scenario_refused(f)) { /* what was not answered waits for the next connection */
        scenario_end(f, PUSHER_IO_EOF);
        fake_live(f, 0);
        scenario_connect(f, 300000);
        fake_live(f, 20000);
    }
    while ((at = pusher_next_channel(f->client, at)).id != 0)
        if (pusher_channel_state(f->client, at) != PUSHER_SUBSCRIBED)
            fake_violate(f, "%s cannot be subscribed any more", pusher_channel_name(f->client, at));
    if (stage_of(f)->signed_in && !pusher_user_id(f->client))
        fake_violate(f, "nobody can sign in any more");
    uint32_t before = stage_of(f)->heard;
    scenario_news(f, "afterwards");
    fake_live(f, 10);
    if (stage_of(f)->heard == before)
        fake_violate(f, "an event does not arrive any more");
}

#endif /* PUSHER_TESTS_SCENARIOS_H */
