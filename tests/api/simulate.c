/* Seeded random schedules: a user who does anything at any time, callbacks included, a server and an
   application that answer well, badly, late or never, a network that loses, blocks and breaks. What
   must hold in every one of them is checked after each poll, and once more when all is well again.
   SIMULATE_SEEDS=n runs so many of them, from SIMULATE_FROM on; SIMULATE_SEED=s runs one, and says
   what happens. */
#include "fake.h"

#if !defined(SEEDS)
#define SEEDS 15000
#endif
#define SECRET_KEY FAKE_SHARED_SECRET
#define OTHER_KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define SEALED                                                                                     \
    "{\"ciphertext\":\"BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe\","                            \
    "\"nonce\":\"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX\"}"

static const char *const names[] = { "a", "b", "cache-c", "private-d", "private-e", "presence-f",
                                     "private-cache-g", "private-encrypted-h" };
enum { NAMES = 8, TICKETS = 64, LATER = 32, RATE = 10 };

/* An event's number: connection, subscription of the channel on it, event of that. */
typedef struct number {
    unsigned stream, epoch, event;
} number;

typedef struct holder { /* what the user knows of a channel */
    pusher_channel channel;
    uint32_t references;
    bool any;             /* `last` is the last event that was seen */
    number last;
    bool told;            /* how the last attempt came out */
} holder;

typedef struct later { /* what the server or the application does in a while */
    uint64_t at;
    char text[400];       /* of the server; "": an answer to a ticket */
    pusher_ticket ticket;
    char socket_id[32], name[64];
} later;

typedef struct sim {
    fake f;
    uint64_t seed, dice;
    bool good;            /* nothing goes wrong any more */
    bool lossy;           /* memory runs short: then events may be lost */
    bool talk, over, doomed;
    unsigned way;         /* of authorization: 0 hook, 1 endpoint, 2 secret */
    int depth;
    holder held[NAMES];
    number all_last[NAMES];
    pusher_ticket old;
    /* the server */
    fake_stream *stream;  /* the latest that asked for an upgrade */
    unsigned connection;
    char socket_id[32];
    bool greeted, has[NAMES], dropped[NAMES];
    unsigned epoch[NAMES], sent[NAMES];
    bool user_channel;
    uint64_t triggers[RATE];
    unsigned trigger_next;
    later list[LATER];
    unsigned later_count;
    bool wants_user, user_told;
    bool quiet;           /* no pings, which would wake who sleeps too long */
    char wrong[300];
} sim;

static uint32_t roll(sim *s, uint32_t sides)
{
    return (uint32_t)(fake_next_random(&s->dice) >> 33) % sides;
}

static bool chance(sim *s, uint32_t percent)
{
    return !s->good && roll(s, 100) < percent;
}

static void wrong(sim *s, const char *format, ...)
{
    va_list list;
    if (s->wrong[0]) return;
    va_start(list, format);
    vsnprintf(s->wrong, sizeof s->wrong, format, list);
    va_end(list);
}

static void talk(const sim *s, const char *format, ...)
{
    va_list list;
    if (!s->talk) return;
    va_start(list, format);
    printf("%8" PRIu64 " ", s->f.now);
    vprintf(format, list);
    printf("\n");
    va_end(list);
}

static int index_of(const char *name, size_t len)
{
    for (int i = 0; i < NAMES; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) return i;
    return -1;
}

/* ---- the application ------------------------------------------------------------------------ */

static void make_answer(sim *s, const char *name, const char *socket_id, char *body, size_t size)
{
    pusher_kind kind = pusher_channel_kind(name);
    int len = snprintf(body, size, "{\"auth\":\"%s|%s\"", socket_id, name);
    if (!*name)
        len += snprintf(body + len, size - (size_t)len, ",\"user_data\":\"{\\\"id\\\":\\\"me\\\"}\"");
    if (kind == PUSHER_KIND_PRESENCE && (!s->wants_user || !chance(s, 60)))
        len += snprintf(body + len, size - (size_t)len,
                        ",\"channel_data\":\"{\\\"user_id\\\":\\\"me\\\"}\"");
    if (kind == PUSHER_KIND_ENCRYPTED)
        len += snprintf(body + len, size - (size_t)len, ",\"shared_secret\":\"%s\"",
                        chance(s, 25) ? OTHER_KEY : SECRET_KEY);
    snprintf(body + len, size - (size_t)len, "}");
}

static void answer(sim *s, pusher_ticket ticket, const char *name, const char *socket_id)
{
    char body[400];
    pusher_result result;
    uint32_t dice = s->good ? 0 : roll(s, 12);
    if (dice == 9) result = pusher_auth_reject(s->f.client, ticket, 403, "no", false);
    else if (dice == 10) result = pusher_auth_reject(s->f.client, ticket, 503, NULL, true);
    else if (dice == 11) result = pusher_auth_accept(s->f.client, ticket, "{\"x\"", 4);
    else {
        make_answer(s, name, socket_id, body, sizeof body);
        result = pusher_auth_accept(s->f.client, ticket, body, strlen(body));
        if (result == PUSHER_ERR_AUTH || result == PUSHER_ERR_PARSE || result == PUSHER_ERR_TOO_BIG)
            wrong(s, "a good answer for %s is %s", name, pusher_result_name(result));
    }
    talk(s, "answer %u for \"%s\" of %s: %s", dice, name, socket_id, pusher_result_name(result));
    if (result != PUSHER_ERR_STALE && pusher_next_poll_ms(s->f.client) > s->f.now && !s->f.in_poll)
        wrong(s, "an answer was given, and the loop sleeps on");
    if (result != PUSHER_ERR_STALE && strcmp(socket_id, s->socket_id) != 0)
        wrong(s, "an answer of an earlier connection was taken");
    if (chance(s, 10) &&
        pusher_auth_reject(s->f.client, ticket, 0, NULL, false) != PUSHER_ERR_STALE)
        wrong(s, "a ticket counts twice");
}

static void put_off(sim *s, const later *what)
{
    if (s->later_count < LATER) s->list[s->later_count++] = *what;
}

static void user_acts(sim *s);

static void in_callback(sim *s)
{
    if (s->doomed) wrong(s, "a callback after pusher_destroy()");
    if (s->depth == 0 && chance(s, 15)) {
        s->depth++;
        user_acts(s);
        s->depth--;
    }
}

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    sim *s = (sim *)user_data;
    for (uint32_t i = 0; i < count && !s->doomed; i++) {
        uint32_t dice = s->good ? 0 : roll(s, 10);
        talk(s, "asked for \"%s\" of %s, reason %d, attempt %u", requests[i].channel_name,
             requests[i].socket_id, (int)requests[i].reason, requests[i].attempt);
        if (!pusher_socket_id(client) || strcmp(requests[i].socket_id, pusher_socket_id(client)))
            wrong(s, "a question with another socket_id");
        if (dice < 6) {
            answer(s, requests[i].ticket, requests[i].channel_name, requests[i].socket_id);
        } else if (dice < 9) {
            later what;
            memset(&what, 0, sizeof what);
            what.at = s->f.now + roll(s, 12000);
            what.ticket = requests[i].ticket;
            snprintf(what.socket_id, sizeof what.socket_id, "%s", requests[i].socket_id);
            snprintf(what.name, sizeof what.name, "%s", requests[i].channel_name);
            put_off(s, &what);
        }
    }
    in_callback(s);
}

static void on_prepare(pusher_client *client, const pusher_auth_request *request, void *user_data)
{
    sim *s = (sim *)user_data;
    pusher_result result;
    in_callback(s);
    if (chance(s, 5)) (void)pusher_auth_reject(client, request->ticket, 1, NULL, true);
    result = pusher_auth_param(client, "a", request->channel_name);
    if (result != PUSHER_OK && !s->lossy) wrong(s, "no parameter in prepare_fn");
}

static void at_endpoint(fake *f, fake_stream *stream, const char *head, const char *body)
{
    sim *s = (sim *)f->extra;
    char answer_text[400], socket_id[32] = "", name[64] = "";
    uint32_t dice = s->good ? 0 : roll(s, 14);
    const char *at = strstr(body, "channel_name=");
    (void)head;
    if (sscanf(body, "socket_id=%31[^&]", socket_id) != 1) wrong(s, "a POST without socket_id");
    if (at) sscanf(at + 13, "%63[^&]", name);
    talk(s, "POST for \"%s\" of %s: %u", name, socket_id, dice);
    make_answer(s, name, socket_id, answer_text, sizeof answer_text);
    if (dice < 8) fake_answer(stream, 200, answer_text);
    if (dice == 8) fake_answer(stream, 403, "");
    if (dice == 9) fake_answer(stream, 500, "no");
    if (dice == 10) fake_answer(stream, 200, "nonsense");
    if (dice == 11) stream->end = PUSHER_IO_EOF;
    if (dice == 12) fake_add(&stream->to_client, "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{\"a",
                             SIZE_MAX);
    if (chance(s, 15)) stream->end = PUSHER_IO_EOF; /* behind it */
}

/* ---- the server ----------------------------------------------------------------------------- */

static bool up(const sim *s)
{
    return s->stream && !s->stream->closed && s->greeted && !s->stream->close_said &&
           s->stream->end == PUSHER_IO_WANT_READ;
}

static void say(sim *s, const char *text)
{
    if (!up(s)) return;
    talk(s, "server: %s", text);
    fake_frame_to(&s->stream->to_client, 0x81, text, strlen(text));
}

static void say_in_a_while(sim *s, const char *text)
{
    later what;
    memset(&what, 0, sizeof what);
    what.at = s->f.now + (chance(s, 40) ? roll(s, 13000) : 0);
    snprintf(what.text, sizeof what.text, "%s", text);
    snprintf(what.socket_id, sizeof what.socket_id, "%s", s->socket_id);
    if (what.at == s->f.now) say(s, text);
    else put_off(s, &what);
}

static void publish(sim *s, int i)
{
    char text[400];
    bool sealed = pusher_channel_kind(names[i]) == PUSHER_KIND_ENCRYPTED;
    if (!up(s) || !s->has[i]) return;
    snprintf(text, sizeof text, "{\"event\":\"%u.%u.%u\",\"channel\":\"%s\",\"data\":%s}",
             s->connection, s->epoch[i], ++s->sent[i], names[i], sealed ? SEALED : "\"x\"");
    say(s, text);
}

static void serve_subscribe(sim *s, const char *text, const char *name, int i)
{
    char reply[400], auth[100] = "", wanted[100];
    const char *at = strstr(text, "\"auth\":\"");
    uint32_t dice = s->good ? 0 : roll(s, 20);
    if (at) sscanf(at + 8, "%99[^\"]", auth);
    snprintf(wanted, sizeof wanted, "%s|%s", s->socket_id, name);
    if (s->way != 2 && pusher_channel_kind(name) >= PUSHER_KIND_PRIVATE && strcmp(auth, wanted))
        wrong(s, "subscribed to %s with the proof %s, not %s", name, auth, wanted);
    if (s->has[i]) wrong(s, "subscribed to %s twice", name);
    talk(s, "server: subscribe %s: %u", name, dice);
    if (dice == 17) { /* no */
        snprintf(reply, sizeof reply, "{\"event\":\"pusher:subscription_error\",\"channel\":\"%s\","
                                      "\"data\":{\"type\":\"AuthError\",\"status\":401}}", name);
        s->dropped[i] = true;
        say_in_a_while(s, reply);
        return;
    }
    if (dice == 18) { /* not a word */
        s->dropped[i] = true;
        return;
    }
    if (dice == 19) {
        s->stream->end = PUSHER_IO_EOF;
        return;
    }
    s->has[i] = true;
    s->epoch[i]++;
    s->sent[i] = 0;
    snprintf(reply, sizeof reply, "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"
                                  "\"%s\",\"data\":\"{\\\"presence\\\":{\\\"ids\\\":[\\\"me\\\",\\\"%u"
                                  "\\\"],\\\"hash\\\":{}}}\"}", name, roll(s, 3));
    say_in_a_while(s, reply);
}

static void serve_signin(sim *s)
{
    uint32_t dice = s->good ? 0 : roll(s, 8);
    if (dice < 5)
        say_in_a_while(s, "{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":"
                          "\"{\\\"id\\\":\\\"me\\\"}\"}}");
    if (dice == 5) say(s, "{\"event\":\"pusher:error\",\"data\":{\"code\":4009}}");
    if (dice == 6) say_in_a_while(s, "{\"event\":\"pusher:signin_success\",\"data\":{}}");
}

static void serve_trigger(sim *s, int i)
{
    uint64_t *slot = &s->triggers[s->trigger_next++ % RATE];
    if (!s->has[i] && !s->dropped[i]) wrong(s, "a client event on %s, unsubscribed", names[i]);
    if (*slot && s->f.now - *slot < 1000) wrong(s, "more than %d client events a second", RATE);
    *slot = s->f.now;
}

static void serve_text(sim *s, const char *text)
{
    const char *at = strstr(text, "\"channel\":\"");
    size_t len = at ? strcspn(at + 11, "\"") : 0;
    int i = at ? index_of(at + 11, len) : -1;
    if (strcmp(text, FAKE_PING) == 0) {
        if (!chance(s, 10)) say(s, FAKE_PONG);
    } else if (strstr(text, "\"pusher:signin\"")) {
        if (s->way != 2 && !strstr(text, s->socket_id)) wrong(s, "a sign-in with an old proof");
        serve_signin(s);
    } else if (strstr(text, "\"pusher:subscribe\"") && i >= 0) {
        serve_subscribe(s, text, names[i], i);
    } else if (strstr(text, "\"pusher:unsubscribe\"") && i >= 0) {
        if (!s->has[i] && !s->dropped[i]) wrong(s, "unsubscribed from %s twice", names[i]);
        talk(s, "server: unsubscribe %s", names[i]);
        s->has[i] = false;
    } else if (strstr(text, "\"client-") && i >= 0) {
        serve_trigger(s, i);
    } else if (strstr(text, "#server-to-user-me")) {
        s->user_channel = true;
    } else if (strcmp(text, FAKE_PONG) != 0) {
        wrong(s, "the client says %s", text);
    }
}

static void serve_upgrade(sim *s, fake_stream *stream)
{
    char text[200];
    s->stream = stream;
    s->greeted = false;
    s->connection++;
    s->user_channel = false;
    memset(s->has, 0, sizeof s->has);
    memset(s->dropped, 0, sizeof s->dropped);
    memset(s->epoch, 0, sizeof s->epoch);
    memset(s->sent, 0, sizeof s->sent);
    snprintf(s->socket_id, sizeof s->socket_id, "%u.1", s->connection);
    if (chance(s, 5)) return; /* not a word */
    if (chance(s, 5)) {
        fake_add(&stream->to_client, "HTTP/1.1 503 No\r\n\r\n", SIZE_MAX);
        return;
    }
    fake_accept_on(stream);
    if (chance(s, 5)) return;
    snprintf(text, sizeof text, "{\"event\":\"pusher:connection_established\",\"data\":{\"socket_id\":"
                                "\"%s\",\"activity_timeout\":%d}}", s->socket_id, s->quiet ? 0 : 30);
    s->greeted = true;
    say(s, text);
}

static void serve(fake *f, fake_stream *stream, const fake_message *message)
{
    sim *s = (sim *)f->extra;
    if (!message) {
        serve_upgrade(s, stream);
        return;
    }
    if (stream != s->stream) wrong(s, "a message on an old stream");
    if (message->kind == FAKE_HEARD_CLOSE && !chance(s, 20)) {
        if (!stream->close_said) fake_close_to(&stream->to_client, message->code, NULL);
        stream->close_said = true;
        stream->end = PUSHER_IO_EOF;
    }
    if (message->kind == FAKE_HEARD_TEXT && up(s)) serve_text(s, message->text);
}

static void server_acts(sim *s)
{
    static const int codes[] = { 0, 1000, 1001, 1011, 4100, 4200, 4201, 4299, 4009 };
    int i = (int)roll(s, NAMES);
    char text[300];
    if (!up(s)) return;
    switch (roll(s, 16)) {
    case 0: s->stream->end = PUSHER_IO_EOF; break;
    case 1: s->stream->end = PUSHER_IO_ERROR; break;
    case 2: {
        int code = codes[roll(s, ARRAY_LEN(codes))];
        talk(s, "server: close %d", code);
        fake_close_to(&s->stream->to_client, code, NULL);
        s->stream->close_said = true;
        if (roll(s, 2)) s->stream->end = PUSHER_IO_EOF;
        break;
    }
    case 3: say(s, "{\"event\":\"pusher:error\",\"data\":{\"code\":4200,\"message\":\"bad\"}}"); break;
    case 4: say(s, "{\"event\":\"pusher:ping\"}"); break;
    case 5: say(s, "nonsense"); break;
    case 6:
    case 7:
        snprintf(text, sizeof text, "{\"event\":\"pusher_internal:member_%s\",\"channel\":\"presence-f\","
                                    "\"data\":{\"user_id\":\"%u\"}}", roll(s, 2) ? "added" : "removed",
                 roll(s, 4));
        say(s, text);
        break;
    case 8:
        snprintf(text, sizeof text, "{\"event\":\"pusher_internal:subscription_count\",\"channel\":"
                                    "\"%s\",\"data\":{\"subscription_count\":3}}", names[i]);
        say(s, text);
        break;
    case 9:
        if (!s->has[i] || roll(s, 3)) break;
        s->has[i] = false; /* thrown out */
        s->dropped[i] = true;
        snprintf(text, sizeof text, "{\"event\":\"pusher:subscription_error\",\"channel\":\"%s\","
                                    "\"data\":{}}", names[i]);
        say(s, text);
        break;
    default:
        for (uint32_t n = roll(s, 6) + 1; n > 0; n--) publish(s, (int)roll(s, NAMES));
    }
}

/* What was put off and has come due. */
static void catch_up(sim *s)
{
    for (unsigned i = 0; i < s->later_count && s->f.client;) {
        later what = s->list[i];
        if (what.at > s->f.now) {
            i++;
            continue;
        }
        memmove(&s->list[i], &s->list[i + 1], (--s->later_count - i) * sizeof what);
        if (!what.text[0]) answer(s, what.ticket, what.name, what.socket_id);
        else if (strcmp(what.socket_id, s->socket_id) == 0) say(s, what.text);
    }
}

/* ---- the user ------------------------------------------------------------------------------- */

static bool read_number(const char *text, number *at)
{
    return sscanf(text, "%u.%u.%u", &at->stream, &at->epoch, &at->event) == 3;
}

/* The next event of a channel must follow on the last. */
static void follow(sim *s, const char *who, const char *name, bool any, const number *last,
                   const number *now)
{
    if (s->lossy || !any) return;
    if (now->stream == last->stream && now->epoch == last->epoch && now->event == last->event + 1)
        return;
    if (now->event == 1 && (now->stream > last->stream ||
                            (now->stream == last->stream && now->epoch > last->epoch)))
        return;
    wrong(s, "%s of %s: %u.%u.%u after %u.%u.%u", who, name, now->stream, now->epoch, now->event,
          last->stream, last->epoch, last->event);
}

static void on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    sim *s = (sim *)user_data;
    number now;
    const char *text = event->name;
    int i = index_of(event->channel_name, strlen(event->channel_name));
    (void)client;
    s->f.moved++;
    talk(s, "event [%s] %s %.60s", event->channel_name, event->name, event->data);
    if (i < 0 || s->held[i].references == 0) wrong(s, "%s on %s", event->name, event->channel_name);
    if (i < 0) return;
    holder *h = &s->held[i];
    if (event->channel.id != h->channel.id || event->channel.generation != h->channel.generation)
        wrong(s, "an event with another handle");
    if (strcmp(event->name, "pusher:decryption_error") == 0) text = event->data + 10;
    if (strcmp(event->name, "pusher:subscription_succeeded") == 0 ||
        strcmp(event->name, "pusher:subscription_error") == 0)
        h->told = true;
    if (read_number(text, &now)) {
        follow(s, "the handler", names[i], h->any, &h->last, &now);
        h->any = true;
        h->last = now;
    }
    in_callback(s);
}

static void on_all(pusher_client *client, const pusher_event *event, void *user_data)
{
    sim *s = (sim *)user_data;
    number now;
    int i = index_of(event->channel_name, strlen(event->channel_name));
    (void)client;
    s->f.moved++;
    if (strncmp(event->name, "pusher:signin_", 14) == 0) s->user_told = true;
    if (i >= 0 && read_number(event->name, &now)) {
        number *last = &s->all_last[i];
        if (now.stream < last->stream || (now.stream == last->stream && (now.epoch < last->epoch ||
            (now.epoch == last->epoch && now.event <= last->event))))
            wrong(s, "PUSHER_ALL hears %s of %s again", event->name, names[i]);
        *last = now;
    }
    in_callback(s);
}

static void on_state(fake *f, pusher_state now, pusher_state before)
{
    sim *s = (sim *)f->extra;
    talk(s, "%s -> %s", pusher_state_name(before), pusher_state_name(now));
    in_callback(s);
}

static void on_error(fake *f, const pusher_error *error)
{
    sim *s = (sim *)f->extra;
    talk(s, "error %s %s", pusher_result_name(error->code), error->message);
    in_callback(s);
}

static void on_retry(fake *f, uint32_t delay_ms, uint32_t attempt)
{
    sim *s = (sim *)f->extra;
    talk(s, "attempt %u in %u", attempt, delay_ms);
    in_callback(s);
}

static void hold(sim *s, int i)
{
    holder *h = &s->held[i];
    bool plain = roll(s, 6) > 0;
    pusher_channel channel = plain ? pusher_subscribe(s->f.client, names[i])
                                   : pusher_subscribe_with(s->f.client, names[i], "{\"x\":1}");
    talk(s, "subscribe %s", names[i]);
    if (!channel.id) {
        if (!s->lossy) wrong(s, "no subscription to %s", names[i]);
        return;
    }
    if (h->references++ > 0) {
        if (channel.id != h->channel.id || channel.generation != h->channel.generation)
            wrong(s, "two handles for %s", names[i]);
        return;
    }
    h->channel = channel;
    h->any = h->told = false;
    if (pusher_bind_all(s->f.client, channel, on_event, s).id == 0) {
        if (!s->lossy) wrong(s, "no binding to %s", names[i]);
    }
}

static void let_go(sim *s, int i)
{
    holder *h = &s->held[i];
    pusher_result result = pusher_unsubscribe(s->f.client, h->channel);
    talk(s, "unsubscribe %s", names[i]);
    if (h->references == 0 ? result != PUSHER_ERR_STALE : result != PUSHER_OK)
        wrong(s, "unsubscribing %s with %u references is %s", names[i], h->references,
              pusher_result_name(result));
    if (h->references > 0) h->references--;
}

static void trigger(sim *s, int i)
{
    pusher_result result =
        pusher_trigger(s->f.client, s->held[i].channel, "client-x", "{}", 2);
    talk(s, "trigger on %s: %s", names[i], pusher_result_name(result));
    if (s->held[i].references == 0 ? result != PUSHER_ERR_STALE : result == PUSHER_ERR_STALE)
        wrong(s, "triggering on %s is %s", names[i], pusher_result_name(result));
}

static void bind_and_unbind(sim *s, int i)
{
    pusher_binding binding;
    if (s->held[i].references == 0) return;
    binding = pusher_bind_all(s->f.client, s->held[i].channel, fake_event_fn, &s->f);
    if (binding.id && roll(s, 2)) (void)pusher_unbind(s->f.client, binding);
    else (void)pusher_unbind_where(s->f.client, s->held[i].channel, NULL, fake_event_fn, NULL);
}

static void sign_in(sim *s)
{
    talk(s, "sign in");
    if (s->way != 2 && pusher_signin(s->f.client) == PUSHER_OK) s->wants_user = true;
}

static void user_acts(sim *s)
{
    int i = (int)roll(s, NAMES);
    if (!s->f.client) return;
    switch (roll(s, 20)) {
    case 0:
        talk(s, "disconnect");
        pusher_disconnect(s->f.client);
        if (roll(s, 2)) (void)pusher_connect(s->f.client);
        break;
    case 1:
    case 2: (void)pusher_connect(s->f.client); break;
    case 3: pusher_reconnect_now(s->f.client); break;
    case 4:
        sign_in(s);
        break;
    case 5: bind_and_unbind(s, i); break;
    case 6:
    case 7: trigger(s, i); break;
    case 8:
        if (roll(s, 40)) break;
        talk(s, "destroy");
        s->doomed = true;
        fake_destroy(&s->f);
        break;
    case 9:
    case 10:
    case 11:
    case 12:
    case 13: let_go(s, i); break;
    default: hold(s, i); break;
    }
}

/* ---- what must hold ------------------------------------------------------------------------- */

static void check(sim *s)
{
    pusher_client *client = s->f.client;
    if (!client) return;
    pusher_state state = pusher_get_state(client);
    uint64_t next = pusher_next_poll_ms(client);
    if (next == UINT64_MAX && (state == PUSHER_CONNECTING || state == PUSHER_CONNECTED ||
                               state == PUSHER_UNAVAILABLE))
        wrong(s, "%s, and nothing will ever happen", pusher_state_name(state));
    uint32_t seen = 0, count = 0;
    for (int i = 0; i < NAMES; i++) {
        const holder *h = &s->held[i];
        if (pusher_channel_references(client, h->channel) != h->references)
            wrong(s, "%s has %u references, not %u", names[i],
                  pusher_channel_references(client, h->channel), h->references);
        count += h->references > 0;
    }
    pusher_channel channel = { 0, 0 };
    while ((channel = pusher_next_channel(client, channel)).id) seen++;
    if (seen != count) wrong(s, "%u channels, not %u", seen, count);
    if (s->f.violation[0]) wrong(s, "%s", s->f.violation);
}

static void tidy(sim *s)
{
    fake *f = &s->f;
    for (size_t i = 0; i < f->heard_count; i++) free(f->heard[i].text);
    f->heard_count = f->heard_read = 0;
    f->trace.len = f->sent_trace.len = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->stream_count; i++) {
        fake_stream *stream = f->streams[i];
        if (!stream->closed || stream == s->stream) {
            f->streams[kept++] = stream;
            continue;
        }
        fake_bytes_free(&stream->to_client);
        fake_bytes_free(&stream->from_client);
        free(stream);
    }
    f->stream_count = kept;
}

/* Would an event loop wake because of the stream? */
static bool stream_wakes(sim *s)
{
    const fake_stream *stream = fake_latest(&s->f);
    int wants = pusher_wants(s->f.client);
    if (!stream || stream->closed) return false;
    if ((wants & PUSHER_WANTS_READ) &&
        (stream->taken < stream->to_client.len || stream->end != PUSHER_IO_WANT_READ))
        return true;
    return (wants & PUSHER_WANTS_WRITE) && s->f.send_block != 1;
}

/* As an event loop does: it polls when it is told to, or when the stream wakes it. */
static void live(sim *s, uint64_t ms)
{
    fake *f = &s->f;
    uint64_t end = f->now + ms;
    uint32_t in_vain = 0;
    while (f->client && !s->wrong[0]) {
        catch_up(s);
        uint64_t moved = f->moved, next = pusher_next_poll_ms(f->client);
        if (next <= f->now || stream_wakes(s)) {
            fake_poll(f);
            check(s);
            tidy(s);
            in_vain = f->moved == moved ? in_vain + 1 : 0;
            if (in_vain > 5 && !f->fail_at) wrong(s, "it is polled for ever, and nothing moves");
            if (in_vain == 0 || (f->client && pusher_next_poll_ms(f->client) <= f->now)) continue;
        }
        if (!f->client || f->now >= end) return;
        next = stream_wakes(s) ? f->now : pusher_next_poll_ms(f->client);
        for (unsigned i = 0; i < s->later_count; i++)
            if (s->list[i].at < next) next = s->list[i].at;
        if (next <= f->now) next = f->now + 1;
        f->now = next < end ? next : end;
        in_vain = 0;
    }
}

/* All is well again: now everything must come to its end. */
static void settle(sim *s)
{
    fake *f = &s->f;
    s->good = true;
    f->fail_at = 0;
    f->heap.fail_at = 0;
    f->connect_result = 1;
    f->send_block = f->recv_block = 0;
    for (uint32_t i = 0; i < f->stream_count; i++)
        if (f->streams[i]->connect_result == PUSHER_IO_WANT_WRITE) f->streams[i]->connect_result = 1;
    if (!f->client) return;
    talk(s, "from now on all is well");
    if (pusher_get_state(f->client) != PUSHER_CONNECTED) (void)pusher_connect(f->client);
    live(s, 200000);
    if (s->wrong[0] || !f->client) return;
    if (pusher_get_state(f->client) != PUSHER_CONNECTED) { /* its last steps were a way out */
        (void)pusher_connect(f->client);
        live(s, 100000);
    }
    if (pusher_get_state(f->client) != PUSHER_CONNECTED)
        wrong(s, "it is %s, though all is well", pusher_state_name(pusher_get_state(f->client)));
    for (int i = 0; i < NAMES; i++) {
        const holder *h = &s->held[i];
        pusher_subscription state = pusher_channel_state(f->client, h->channel);
        if (h->references > 0 && state == PUSHER_PENDING) wrong(s, "%s never ends", names[i]);
        if (h->references > 0 && !h->told && !s->lossy) wrong(s, "%s ends in silence", names[i]);
        if (s->has[i] && h->references == 0) wrong(s, "nobody holds %s any more", names[i]);
        if (!s->lossy && (state == PUSHER_SUBSCRIBED) != s->has[i])
            wrong(s, "%s: the server has %d, the client %d", names[i], s->has[i], (int)state);
        publish(s, i);
    }
    if (s->wants_user && !pusher_user_id(f->client) && !s->user_told && !s->lossy)
        wrong(s, "the sign-in never ends");
    if (pusher_user_id(f->client) && !s->user_channel && !s->lossy)
        wrong(s, "the user's channel was not subscribed");
    live(s, 12000);
    for (int i = 0; i < NAMES && !s->lossy && f->client; i++) {
        const holder *h = &s->held[i];
        if (pusher_channel_state(f->client, h->channel) != PUSHER_SUBSCRIBED) continue;
        if (!h->any || h->last.stream != s->connection || h->last.event != s->sent[i])
            wrong(s, "%s has lost events: %u of %u", names[i], h->last.event, s->sent[i]);
    }
}

/* The user's clock, that is; for the others no time has passed. */
static void run_back(sim *s, uint64_t ms)
{
    s->f.now -= ms;
    for (unsigned i = 0; i < s->later_count; i++) s->list[i].at -= ms;
    memset(s->triggers, 0, sizeof s->triggers);
    fake_poll(&s->f); /* only a poll tells the client */
}

static void trouble(sim *s)
{
    fake *f = &s->f;
    switch (roll(s, 12)) {
    case 0:
        f->fail_at = f->calls + 1 + roll(s, 40);
        f->fail_count = 1 + roll(s, 3);
        /* Not WANT_READ: a send that waits for what never comes may wait for ever. */
        f->fail_how = (fake_failure)(FAKE_FAIL_WANT_WRITE + roll(s, FAKE_FAILURES - 1));
        break;
    case 1: f->send_block = roll(s, 3); break;
    case 2: f->recv_block = roll(s, 3) ? 0 : 2; break;
    case 3: f->connect_result = roll(s, 3) ? 1 : PUSHER_IO_ERROR; break;
    case 4: f->recv_max = roll(s, 2) * (1 + roll(s, 40)); break;
    case 5: f->send_max = roll(s, 2) * (1 + roll(s, 40)); break;
    case 7: f->now += 3600000; break;
    case 8: run_back(s, roll(s, 100000)); break;
    case 6: if (s->lossy) f->heap.fail_at = f->heap.calls + 1 + roll(s, 10); break;
    default: break;
    }
}

static pusher_options choose(sim *s)
{
    static const char *const users[] = { NULL, "http://auth.example/user", "http://auth.other:81/" };
    fake *f = &s->f;
    fake_init(f);
    s->dice = s->seed * 0x9E3779B97F4A7C15u + 1;
    f->random_state = s->seed;
    f->extra = s;
    f->serve = serve;
    f->endpoint = at_endpoint;
    f->on_state = on_state;
    f->on_error = on_error;
    f->on_retry = on_retry;
    s->lossy = roll(s, 5) == 0;
    s->way = roll(s, 3);
    s->quiet = roll(s, 2);
    pusher_options options = fake_options(f);
    options.activity_timeout_ms = s->quiet ? 1000000000 : 0;
    options.max_attempts = roll(s, 6) ? 0 : 3;
    options.client_event_queue_bytes = roll(s, 2) * 500;
    options.max_output_bytes = roll(s, 2) ? 0 : 1024;
    options.max_poll_bytes = roll(s, 2) ? 0 : 512;
    options.auth.user_data = s;
    if (s->way == 0) options.auth.request_fn = on_request;
    if (s->way == 0) options.auth.max_batch = 1 + roll(s, 4);
    if (s->way == 1) options.auth.endpoint = "http://auth.example/auth";
    if (s->way == 1) options.auth.prepare_fn = on_prepare;
    if (s->way == 1) options.auth.user_endpoint = users[roll(s, ARRAY_LEN(users))];
    if (s->way == 1 && !options.auth.user_endpoint) options.auth.user_fn = on_request;
    if (s->way == 2) options.auth.secret = "s";
    if (s->way == 2) options.auth.channel_data = "{\"user_id\":\"me\"}";
    return options;
}

static const char *simulate(sim *s, uint64_t seed, bool speak)
{
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->talk = speak;
    pusher_options options = choose(s);
    s->f.client = pusher_create(&options, NULL);
    if (!s->f.client) return "no client";
    if (!pusher_bind_all(s->f.client, PUSHER_ALL, on_all, s).id) return "no binding";
    if (roll(s, 4)) (void)pusher_connect(s->f.client);
    if (roll(s, 2)) sign_in(s);
    uint32_t steps = 5 + roll(s, 40);
    for (uint32_t i = 0; i < steps && s->f.client && !s->wrong[0]; i++) {
        switch (roll(s, 8)) {
        case 0: trouble(s); break;
        case 1: live(s, roll(s, 4) ? roll(s, 500) : roll(s, 15000)); break;
        case 2:
        case 3:
        case 4: server_acts(s); break;
        default: user_acts(s); break;
        }
        if (!s->f.client) break;
        if (!roll(s, 4)) fake_poll(&s->f);
        else if (roll(s, 3)) live(s, roll(s, 100));
        check(s);
    }
    settle(s);
    tidy(s);
    const char *left = fake_finish(&s->f);
    if (left) wrong(s, "%s", left);
    return s->wrong[0] ? s->wrong : NULL;
}

static void every_schedule_ends_well(void **state)
{
    static sim s;
    const char *count = getenv("SIMULATE_SEEDS"), *one = getenv("SIMULATE_SEED");
    const char *from_text = getenv("SIMULATE_FROM");
    uint64_t seeds = count ? strtoull(count, NULL, 10) : SEEDS;
    uint64_t from = from_text ? strtoull(from_text, NULL, 10) : 1;
    (void)state;
    if (one) {
        const char *what = simulate(&s, strtoull(one, NULL, 10), true);
        if (what) fail_msg("seed %s: %s", one, what);
        return;
    }
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        const char *what = simulate(&s, seed, false);
        if (what) fail_msg("SIMULATE_SEED=%" PRIu64 ": %s", seed, what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_schedule_ends_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
