/* Sessions recorded from real servers, replayed whole and in pieces: the same trace each time. */
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
    fake_note(&f->trace, "on %s: %s\n", pusher_channel_name(client, event->channel), event->name);
}

/* What the recorded client said and ours can say too: public channels, and goodbye. */
static void client_line(fake *f, const char *line)
{
    char name[256];
    const char *at = strstr(line, "\"channel\":\"");
    if (rest_of(line, "> close")) {
        pusher_disconnect(f->client);
        return;
    }
    if (!at || !(rest_of(line, "> text")))
        return;
    snprintf(name, sizeof name, "%s", at + 11);
    name[strcspn(name, "\"")] = '\0';
    if (strstr(line, "\"event\":\"pusher:subscribe\"")) {
        pusher_channel channel = pusher_subscribe(f->client, name);
        if (channel.id && pusher_channel_references(f->client, channel) == 1)
            pusher_bind_all(f->client, channel, on_the_channel, f);
    } else if (strstr(line, "\"event\":\"pusher:unsubscribe\"")) {
        pusher_unsubscribe(f->client, pusher_find_channel(f->client, name));
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
    char *trace;
} outcome;

static outcome replay(const session *s, const manner *how, bool keep_trace)
{
    fake f;
    outcome out;
    size_t i = 0;
    bool heard_close = false;
    memset(&out, 0, sizeof out);
    fake_init(&f);
    pusher_options options = fake_options(&f);
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
    pusher_connect(f.client);
    fake_run(&f);
    assert_int_equal(f.stream_count, 1);
    while (i < s->count) {
        const char *line = s->lines[i];
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
        out.events += name && strncmp(name + 2, "pusher:", 7) != 0;
    }
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
    uint32_t events = 0;
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
        hash = fake_hash(hash, &whole.hash, sizeof whole.hash);
        for (size_t m = 0; m < sizeof manners / sizeof *manners; m++)
            the_same(s, &whole, &manners[m]);
        for (how.cut = 1; how.cut < whole.received; how.cut++)
            the_same(s, &whole, &how);
    }
    print_message("%s: %u sessions, %u events, %u replays in pieces, trace %016" PRIx64 "\n", file,
                  (unsigned)rec.count, events, (unsigned)replays, hash);
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
