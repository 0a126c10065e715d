/* Sessions recorded from real servers, replayed whole and in pieces: the same trace each time. The
   application answers to authorizations as it did then, and what the client says is compared. */
#include "fake.h"

typedef struct session {
    const char *name;
    char **lines;
    size_t count;
} session;

typedef struct recording {
    char *text;
    char **lines;
    session *sessions;
    size_t count;
} recording;

/* The data stands beside this file's folder. */
static char *slurp(const char *name)
{
    char path[1024];
    const char *slash = strrchr(__FILE__, '/');
    int dir = slash ? (int)(slash - __FILE__) : 1;
    snprintf(path, sizeof path, "%.*s/../data/%s", dir, slash ? __FILE__ : ".", name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        snprintf(path, sizeof path, "tests/data/%s", name);
        file = fopen(path, "rb");
    }
    if (!file)
        fail_msg("cannot open %s", path);
    fake_bytes bytes;
    char block[4096];
    size_t got;
    memset(&bytes, 0, sizeof bytes);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        fake_bytes_add(&bytes, block, got);
    fclose(file);
    return bytes.at;
}

static recording load(const char *name)
{
    recording rec;
    size_t lines = 0, sessions = 0;
    memset(&rec, 0, sizeof rec);
    rec.text = slurp(name);
    for (const char *at = rec.text; *at; at++)
        lines += *at == '\n';
    rec.lines = (char **)calloc(lines + 1, sizeof *rec.lines);
    rec.sessions = (session *)calloc(lines + 1, sizeof *rec.sessions);
    assert_non_null(rec.lines);
    assert_non_null(rec.sessions);
    size_t n = 0;
    for (char *at = rec.text; *at;) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        *end = '\0';
        if (*at == '=') {
            rec.sessions[sessions].name = at + 2;
            rec.sessions[sessions++].lines = &rec.lines[n];
        } else if (*at != '#') {
            assert_true(sessions > 0);
            rec.lines[n++] = at;
            rec.sessions[sessions - 1].count++;
        }
        at = end + 1;
    }
    rec.count = sessions;
    return rec;
}

static void unload(recording *rec)
{
    free(rec->text);
    free(rec->lines);
    free(rec->sessions);
}

static const char *rest_of(const char *line, const char *start)
{
    size_t len = strlen(start);
    return strncmp(line, start, len) == 0 && (line[len] == ' ' || !line[len])
               ? line + len + (line[len] == ' ') : NULL;
}

static void server_line(fake *f, const char *line)
{
    fake_bytes *out = &f->streams[0]->to_client;
    const char *rest;
    if ((rest = rest_of(line, "< text")) != NULL) {
        fake_frame_to(out, 0x81, rest, strlen(rest));
    } else if ((rest = rest_of(line, "< ping")) != NULL) {
        fake_frame_to(out, 0x89, rest, strlen(rest));
    } else if ((rest = rest_of(line, "< pong")) != NULL) {
        fake_frame_to(out, 0x8A, rest, strlen(rest));
    } else if ((rest = rest_of(line, "< close")) != NULL) {
        const char *reason = strchr(rest, ' ');
        fake_close_to(out, atoi(rest), reason ? reason + 1 : NULL);
    } else {
        fail_msg("what is this: %s", line);
    }
}

static void on_the_channel(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake *f = (fake *)user_data;
    fake_note(&f->trace, "on %s: %s, %u members\n", pusher_channel_name(client, event->channel),
              event->name, pusher_member_count(client, event->channel));
}

static void on_the_user(pusher_client *client, const pusher_event *event, void *user_data)
{
    fake *f = (fake *)user_data;
    fake_note(&f->trace, "user %s: %s\n", pusher_user_id(client) ? pusher_user_id(client) : "none",
              event->name);
}

/* What the application of the recorded client has answered. */
typedef struct answer {
    char channel[256];     /* "" for the user */
    fake_bytes body;
} answer;

typedef struct player {
    answer answers[8];
    size_t count;
    const char *key;       /* of encrypted channels, in base64; NULL: nobody has told us */
    uint32_t said, as_recorded; /* by our client */
} player;

static void on_request(pusher_client *client, const pusher_auth_request *requests, uint32_t count,
                       void *user_data)
{
    player *p = (player *)((fake *)user_data)->extra;
    assert_int_equal(count, 1);
    for (size_t i = p->count; i-- > 0;) {
        if (strcmp(p->answers[i].channel, requests[0].channel_name) == 0) {
            const fake_bytes *body = &p->answers[i].body;
            (void)pusher_auth_accept(client, requests[0].ticket, body->at, body->len);
            return;
        }
    }
    fail_msg("nobody has asked for %s", requests[0].channel_name);
}

static void add_member(fake_bytes *body, const char *name, pusher_json value)
{
    if (value.type == PUSHER_JSON_NONE)
        return;
    fake_note(body, "%s\"%s\":", body->len > 1 ? "," : "", name);
    fake_bytes_add(body, value.raw, value.raw_len);
}

/* The answer is in what the recorded client then said. */
static void remember(player *p, const char *channel, pusher_json data)
{
    static const char *const names[] = { "auth", "channel_data", "user_data" };
    char path[32];
    size_t i = 0;
    while (i < p->count && strcmp(p->answers[i].channel, channel) != 0)
        i++;
    if (i == p->count)
        p->count++;
    assert_true(i < sizeof p->answers / sizeof *p->answers);
    answer *a = &p->answers[i];
    snprintf(a->channel, sizeof a->channel, "%s", channel);
    fake_bytes_free(&a->body);
    fake_add(&a->body, "{", 1);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        snprintf(path, sizeof path, "/%s", names[n]);
        add_member(&a->body, names[n], pusher_json_get(data, path));
    }
    fake_note(&a->body, "%s\"shared_secret\":\"%s\"}", a->body.len > 1 ? "," : "",
              p->key ? p->key : FAKE_SHARED_SECRET);
}

static void client_subscribes(fake *f, const char *name, pusher_json data)
{
    if (pusher_channel_kind(name) >= PUSHER_KIND_PRIVATE)
        remember((player *)f->extra, name, data);
    pusher_channel channel = pusher_subscribe(f->client, name);
    if (channel.id && pusher_channel_references(f->client, channel) == 1)
        pusher_bind_all(f->client, channel, on_the_channel, f);
}

/* What the recorded client said, ours says too where there is a call for it. */
static void client_line(fake *f, const char *line)
{
    char name[256] = "", event[256] = "";
    const char *text = rest_of(line, "> text");
    if (rest_of(line, "> close")) {
        pusher_disconnect(f->client);
        return;
    }
    if (!text)
        return;
    pusher_json said = pusher_json_find(text, strlen(text), "");
    pusher_json data = pusher_json_get(said, "/data");
    pusher_json_string(pusher_json_get(said, "/event"), event, sizeof event, NULL);
    if (!pusher_json_string(pusher_json_get(data, "/channel"), name, sizeof name, NULL))
        pusher_json_string(pusher_json_get(said, "/channel"), name, sizeof name, NULL);
    if (strcmp(event, "pusher:subscribe") == 0) {
        client_subscribes(f, name, data);
    } else if (strcmp(event, "pusher:unsubscribe") == 0) {
        pusher_unsubscribe(f->client, pusher_find_channel(f->client, name));
    } else if (strcmp(event, "pusher:signin") == 0) {
        remember((player *)f->extra, "", data);
        assert_int_equal(pusher_signin(f->client), PUSHER_OK);
    } else if (data.raw) {
        pusher_result result = pusher_trigger(f->client, pusher_find_channel(f->client, name),
                                              event, data.raw, data.raw_len);
        fake_note(&f->trace, "trigger %s\n", pusher_result_name(result));
    }
}

/* Of what ours has said, how much did the recorded client say in the same words? */
static void compare_said(const fake *f, const session *s)
{
    player *p = (player *)f->extra;
    for (size_t i = 0; i < f->heard_count; i++) {
        if (f->heard[i].kind != FAKE_HEARD_TEXT || strcmp(f->heard[i].text, FAKE_PONG) == 0)
            continue;
        p->said++;
        for (size_t at = 0; at < s->count; at++) {
            const char *text = rest_of(s->lines[at], "> text");
            if (text && strcmp(text, f->heard[i].text) == 0) {
                p->as_recorded++;
                break;
            }
        }
    }
}

typedef struct manner { /* how the bytes come and go */
    size_t recv_max, send_max;
    uint64_t seed;
    uint32_t recv_block, send_block;
    size_t cut;
} manner;

typedef struct outcome {
    uint64_t hash, told; /* of all; of what the callbacks were told */
    size_t received;
    uint32_t events, wanted;
    uint32_t said, as_recorded;
    char *trace;
} outcome;

static outcome replay(const session *s, const manner *how, bool keep_trace)
{
    fake f;
    outcome out;
    player p;
    size_t i = 0;
    bool heard_close = false;
    memset(&out, 0, sizeof out);
    memset(&p, 0, sizeof p);
    fake_init(&f);
    f.extra = &p;
    pusher_options options = fake_options(&f);
    options.auth.request_fn = on_request;
    options.auth.user_data = &f;
    f.recv_max = how->recv_max;
    f.send_max = how->send_max;
    f.chunk_seed = how->seed;
    f.recv_block = how->recv_block;
    f.send_block = how->send_block;
    f.cuts = &how->cut;
    f.cut_count = how->cut > 0;
    f.cuts_wait = true;
    fake_start(&f, &options);
    pusher_bind_all(f.client, PUSHER_ALL, fake_event_fn, &f);
    pusher_bind_all(f.client, PUSHER_USER, on_the_user, &f);
    pusher_connect(f.client);
    fake_run(&f);
    assert_int_equal(f.stream_count, 1);
    while (i < s->count) {
        const char *line = s->lines[i];
        if (rest_of(line, "key")) {
            p.key = rest_of(line, "key");
            i++;
            continue;
        }
        if (*line == '>') {
            client_line(&f, line);
            fake_run(&f);
            heard_close = heard_close || rest_of(line, "> close");
            i++;
            continue;
        }
        for (; i < s->count && *s->lines[i] != '>'; i++) { /* all that comes at once, at once */
            line = s->lines[i];
            if (strcmp(line, "http 101") == 0)
                fake_accept_on(f.streams[0]);
            else if (strcmp(line, "http 404") == 0)
                fake_bytes_add(&f.streams[0]->to_client, "HTTP/1.1 404 Not Found\r\n\r\n", 26);
            else if (strcmp(line, "fin") == 0)
                f.streams[0]->end = PUSHER_IO_EOF;
            else if (strcmp(line, "reset") == 0)
                f.streams[0]->end = PUSHER_IO_ERROR;
            else
                server_line(&f, line);
            if (rest_of(line, "< text") && !strstr(line, "\"event\":\"pusher") && !heard_close)
                out.wanted += strstr(line, "\"event\":\"") != NULL;
            heard_close = heard_close || rest_of(line, "< close");
        }
        fake_run(&f);
    }
    out.received = f.streams[0]->taken;
    for (const char *at = f.trace.at; at && (at = strstr(at, "\nevent [")) != NULL; at += 8) {
        const char *name = strchr(at, ']');
        out.events += name && (strncmp(name + 2, "pusher:", 7) != 0 ||
                               strncmp(name + 2, "pusher:decryption_error", 23) == 0);
    }
    compare_said(&f, s);
    if (p.key)
        assert_null(strstr(f.trace.at, "decryption_error"));
    out.said = p.said;
    out.as_recorded = p.as_recorded;
    out.hash = fake_trace_hash(&f);
    out.told = fake_hash(0, f.trace.at, f.trace.len);
    if (keep_trace) {
        size_t len = f.trace.len;
        out.trace = (char *)malloc(len + f.sent_trace.len + 1);
        assert_non_null(out.trace);
        memcpy(out.trace, f.trace.at ? f.trace.at : "", len);
        memcpy(out.trace + len, f.sent_trace.at ? f.sent_trace.at : "", f.sent_trace.len);
        out.trace[len + f.sent_trace.len] = '\0';
    }
    for (size_t a = 0; a < p.count; a++)
        fake_bytes_free(&p.answers[a].body);
    const char *wrong = fake_finish(&f);
    if (wrong)
        fail_msg("%s: %s", s->name, wrong);
    return out;
}

static void differs(const session *s, const manner *how)
{
    manner whole;
    memset(&whole, 0, sizeof whole);
    outcome a = replay(s, &whole, true), b = replay(s, how, true);
    printf("---- whole\n%s---- in pieces\n%s", a.trace, b.trace);
    free(a.trace);
    free(b.trace);
    fail_msg("%s: another trace with recv %u send %u seed %u block %u %u cut %u", s->name,
             (unsigned)how->recv_max, (unsigned)how->send_max, (unsigned)how->seed,
             how->recv_block, how->send_block, (unsigned)how->cut);
}

static uint64_t replays;

/* A writer that blocks may keep the answer to a close frame from going out. */
static void the_same(const session *s, const outcome *whole, const manner *how)
{
    replays++;
    outcome out = replay(s, how, false);
    if (how->send_block ? out.told != whole->told : out.hash != whole->hash)
        differs(s, how);
}

static void replay_all(const char *file)
{
    static const manner manners[] = {
        { 1, 0, 0, 0, 0, 0 }, { 2, 0, 0, 0, 0, 0 },  { 3, 1, 0, 0, 0, 0 }, { 0, 1, 0, 0, 0, 0 },
        { 1, 1, 0, 2, 2, 0 }, { 7, 5, 0, 3, 0, 0 },  { 0, 0, 1, 0, 0, 0 }, { 0, 0, 2, 2, 3, 0 },
        { 9, 9, 3, 0, 5, 0 }, { 50, 0, 4, 4, 2, 0 }, { 0, 0, 5, 2, 0, 0 },
    };
    recording rec = load(file);
    uint32_t events = 0, said = 0, as_recorded = 0;
    uint64_t hash = 0;
    manner how;
    replays = 0;
    for (size_t i = 0; i < rec.count; i++) {
        const session *s = &rec.sessions[i];
        memset(&how, 0, sizeof how);
        outcome whole = replay(s, &how, false);
        if (whole.events != whole.wanted)
            fail_msg("%s: %u events of %u", s->name, whole.events, whole.wanted);
        events += whole.events;
        said += whole.said;
        as_recorded += whole.as_recorded;
        hash = fake_hash(hash, &whole.hash, sizeof whole.hash);
        for (size_t m = 0; m < sizeof manners / sizeof *manners; m++)
            the_same(s, &whole, &manners[m]);
        for (how.cut = 1; how.cut < whole.received; how.cut++)
            the_same(s, &whole, &how);
    }
    print_message("%s: %u sessions, %u events, %u of %u messages said as recorded, %u replays in "
                  "pieces, trace %016" PRIx64 "\n", file, (unsigned)rec.count, events, as_recorded,
                  said, (unsigned)replays, hash);
    /* a public channel with an auth member, and the user's channel, which ours subscribes itself */
    assert_true(said > 80 && said - as_recorded <= 2);
    unload(&rec);
}

static void soketi(void **state)
{
    (void)state;
    replay_all("soketi.txt");
}

static void reverb(void **state)
{
    (void)state;
    replay_all("reverb.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soketi),
        cmocka_unit_test(reverb),
    };
    return cmocka_run_group_tests_name("api/recorded", tests, NULL, NULL);
}
