/* The ws room: RFC 6455 as a client must hold its server to it, whatever way the bytes come in, and
   what is staged for sending. Frames are built and read here by code of the test's own. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

/* ---- a socket under test -------------------------------------------------------------------- */

struct source {
    uint64_t state;
    bool fails;
    const char *fixed;       /* when given: these bytes */
    unsigned char last[16];
    int calls;
};

static bool fill(void *buf, size_t len, void *user_data)
{
    struct source *source = (struct source *)user_data;
    unsigned char *at = (unsigned char *)buf;
    source->calls++;
    if (source->fails) return false;
    for (size_t i = 0; i < len; i++)
        at[i] = source->fixed ? (unsigned char)source->fixed[i]
                              : (unsigned char)(fake_next_random(&source->state) & 0xFF);
    memcpy(source->last, buf, len < sizeof source->last ? len : sizeof source->last);
    return true;
}

struct world {
    struct psh_env env;
    fake_heap heap;
    struct source source;
    struct psh_ws ws;
};

static void make(struct world *w, size_t max_message, size_t max_input, size_t max_output)
{
    pusher_options options;
    memset(w, 0, sizeof *w);
    memset(&options, 0, sizeof options);
    options.allocator.alloc_fn = fake_heap_alloc;
    options.allocator.free_fn = fake_heap_free;
    options.allocator.user_data = &w->heap;
    options.random.fill_fn = fill;
    options.random.user_data = &w->source;
    psh_env_init(&w->env, &options);
    assert_true(psh_ws_init(&w->ws, &w->env, max_message, max_input, max_output));
    assert_true(psh_ws_open(&w->ws));
}

static void end(struct world *w)
{
    psh_ws_free(&w->ws);
    assert_null(w->heap.violation);
    assert_int_equal(w->heap.live_blocks, 0);
}

/* Puts bytes where the client would; fewer when there is no room for all. */
static size_t put(struct psh_ws *ws, const void *bytes, size_t len)
{
    size_t room;
    unsigned char *space = psh_ws_space(ws, &room);
    assert_true(room > 0);
    if (len > room) len = room;
    memcpy(space, bytes, len);
    psh_ws_received(ws, len);
    return len;
}

/* ---- frames of a server --------------------------------------------------------------------- */

static void add_head(fake_bytes *out, unsigned first, uint64_t len)
{
    unsigned char head[10];
    size_t size = len < 126 ? 0 : len < 65536 ? 2 : 8;
    head[0] = (unsigned char)first;
    head[1] = (unsigned char)(size == 0 ? len : size == 2 ? 126 : 127);
    for (size_t i = 0; i < size; i++)
        head[2 + i] = (unsigned char)(len >> (8 * (size - 1 - i)) & 0xFF);
    fake_bytes_add(out, head, 2 + size);
}

static void add_frame(fake_bytes *out, unsigned first, const void *payload, size_t len)
{
    add_head(out, first, len);
    fake_bytes_add(out, payload, len);
}

static void add_stars(fake_bytes *out, size_t len)
{
    for (; len > 0; len--) fake_bytes_add(out, "*", 1);
}

static void add_hex(fake_bytes *out, const char *hex, size_t len)
{
    assert_int_equal(len % 2, 0);
    for (size_t i = 0; i < len; i += 2) {
        char digits[3] = {hex[i], hex[i + 1], '\0'}, *rest;
        unsigned char byte = (unsigned char)strtoul(digits, &rest, 16);
        assert_true(*rest == '\0');
        fake_bytes_add(out, &byte, 1);
    }
}

/* "81:text" a frame with this first byte; "81=hex"; "81*9" nine stars; "!hex" bytes as they are. */
static void build(fake_bytes *out, const char *script)
{
    while (*script) {
        size_t len = strcspn(script, " ");
        fake_bytes payload = {NULL, 0, 0};
        if (*script == '!') {
            add_hex(out, script + 1, len - 1);
        } else {
            char first[3] = {script[0], script[1], '\0'};
            assert_true(len >= 3);
            if (script[2] == ':') fake_bytes_add(&payload, script + 3, len - 3);
            else if (script[2] == '=') add_hex(&payload, script + 3, len - 3);
            else add_stars(&payload, strtoul(script + 3, NULL, 10));
            add_frame(out, (unsigned)strtoul(first, NULL, 16), payload.at, payload.len);
        }
        fake_bytes_free(&payload);
        script += len + strspn(script + len, " ");
    }
}

/* ---- what it says about them ---------------------------------------------------------------- */

/* Stars only: "*9"; printable: ":text"; else "=hex". */
static void note_payload(fake_bytes *said, const char *bytes, size_t len)
{
    size_t stars = 0, plain = 0;
    while (stars < len && bytes[stars] == '*') stars++;
    while (plain < len && bytes[plain] > ' ' && bytes[plain] < 0x7F) plain++;
    if (len > 0 && stars == len) {
        fake_note(said, "*%zu", len);
    } else if (plain == len) {
        fake_bytes_add(said, ":", 1);
        fake_bytes_add(said, bytes, len);
    } else {
        fake_bytes_add(said, "=", 1);
        for (size_t i = 0; i < len; i++) fake_note(said, "%02x", (unsigned char)bytes[i]);
    }
}

/* Takes one of our frames off the front of `bytes`: what it is goes to said. Returns its length. */
static size_t read_frame(const unsigned char *bytes, size_t len, fake_bytes *said)
{
    assert_true(len >= 6);
    assert_int_equal(bytes[0] & 0xF0, 0x80); /* FIN, nothing reserved */
    assert_int_equal(bytes[1] & 0x80, 0x80);
    size_t size = bytes[1] & 0x7Fu, head = 2;
    if (size >= 126) {
        size_t more = size == 126 ? 2 : 8, least = size == 126 ? 126 : 65536;
        for (size = 0; head < 2 + more; head++) size = size << 8 | bytes[head];
        assert_true(size >= least);
    }
    const unsigned char *mask = bytes + head;
    head += 4;
    assert_true(len >= head && size <= len - head);
    char *plain = (char *)malloc(size + 1);
    if (!plain) abort();
    for (size_t i = 0; i < size; i++) plain[i] = (char)(bytes[head + i] ^ mask[i % 4]);
    switch (bytes[0] & 15) {
    case 1: fake_note(said, "T"); break;
    case 10: fake_note(said, "P"); break;
    default: assert_int_equal(bytes[0] & 15, 8); fake_note(said, "C"); break;
    }
    if ((bytes[0] & 15) == 8) {
        const unsigned char *code = (const unsigned char *)plain;
        assert_true(size == 0 || size == 2);
        if (size == 2) fake_note(said, "%u", code[0] * 256u + code[1]);
    } else {
        note_payload(said, plain, size);
    }
    free(plain);
    return head + size;
}

static void read_output(const struct psh_ws *ws, fake_bytes *said)
{
    size_t len;
    const unsigned char *bytes = psh_ws_output(ws, &len);
    while (len > 0) {
        size_t used = read_frame(bytes, len, said);
        bytes += used;
        len -= used;
        if (len > 0) fake_bytes_add(said, " ", 1);
    }
}

/* All results of what has been put in: "T:text B C1000:reason X1002 " */
static void drain(struct psh_ws *ws, fake_bytes *said)
{
    for (;;) {
        enum psh_ws_result result = psh_ws_next(ws);
        if (result == PSH_WS_MORE) return;
        switch (result) {
        case PSH_WS_MESSAGE:
            assert_non_null(ws->text);
            fake_note(said, "T");
            note_payload(said, ws->text, ws->text_len);
            break;
        case PSH_WS_BINARY: fake_note(said, "B"); break;
        case PSH_WS_CLOSED:
            fake_note(said, "C");
            if (ws->close_code) fake_note(said, "%u", ws->close_code);
            if (*ws->close_reason) note_payload(said, ws->close_reason, strlen(ws->close_reason));
            break;
        default:
            assert_int_equal(result, PSH_WS_BROKEN);
            assert_non_null(ws->fail_reason);
            fake_note(said, "X%u", ws->fail_code);
            break;
        }
        fake_bytes_add(said, " ", 1);
    }
}

static uint64_t feeds;

/* A new connection is given the bytes in pieces that end at the cuts; "results> our frames". */
static void feed(struct world *w, const fake_bytes *bytes, const size_t *cuts, size_t cut_count,
                 fake_bytes *said)
{
    size_t at = 0, cut = 0;
    said->len = 0;
    fake_bytes_add(said, "", 0);
    assert_true(psh_ws_open(&w->ws));
    feeds++;
    while (at < bytes->len) {
        while (cut < cut_count && cuts[cut] <= at) cut++;
        size_t to = cut < cut_count ? cuts[cut] : bytes->len;
        at += put(&w->ws, bytes->at + at, to - at);
        drain(&w->ws, said);
        if (w->ws.dead) psh_ws_discard(&w->ws); /* as the client does; nothing comes any more */
    }
    fake_bytes_add(said, "> ", 2);
    read_output(&w->ws, said);
}

static void expect_same(const char *name, const char *how, size_t a, size_t b, const char *got,
                        const char *want)
{
    if (strcmp(got, want) != 0)
        fail_msg("%.200s, %s %zu %zu:\n%.400s\nwant:\n%.400s", name, how, a, b, got, want);
}

enum { ALL_CUTS = 700, ALL_TWO_CUTS = 40 };

/* Whole, byte by byte, and at every cut there is; long ones are cut at heads, ends and blocks. */
static void expect_any_way(struct world *w, const char *name, const fake_bytes *bytes,
                           const char *want)
{
    fake_bytes said = {NULL, 0, 0};
    size_t *every = (size_t *)malloc((bytes->len + 1) * sizeof *every);
    if (!every) abort();
    feed(w, bytes, NULL, 0, &said);
    expect_same(name, "whole", 0, 0, said.at, want);
    for (size_t i = 0; i < bytes->len; i++) every[i] = i + 1;
    feed(w, bytes, every, bytes->len, &said);
    expect_same(name, "byte by byte", 0, 0, said.at, want);
    for (size_t i = 1; i < bytes->len; i++) {
        size_t cuts[2] = {i, 0};
        bool near = i < 20 || bytes->len - i < 20 || i % 4096 < 2 || i % 4096 > 4094;
        if (bytes->len > ALL_CUTS && !near && i % 1009 != 0) continue;
        feed(w, bytes, cuts, 1, &said);
        expect_same(name, "cut at", i, 0, said.at, want);
        for (cuts[1] = i + 1; bytes->len <= ALL_TWO_CUTS && cuts[1] < bytes->len; cuts[1]++) {
            feed(w, bytes, cuts, 2, &said);
            expect_same(name, "cut at", i, cuts[1], said.at, want);
        }
    }
    free(every);
    fake_bytes_free(&said);
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct rule { const char *script, *said; } rules[] = {
    /* 1: frames of every kind of length */
    {"81:", "T: > "}, {"81:hello", "T:hello > "},
    {"81*125", "T*125 > "}, {"81*126", "T*126 > "}, {"81*127", "T*127 > "},
    {"81*128", "T*128 > "}, {"81*65535", "T*65535 > "}, {"81*65536", "T*65536 > "},
    {"82:", "B > "}, {"82:x", "B > "}, {"82*125", "B > "}, {"82*126", "B > "},
    {"82*127", "B > "}, {"82*128", "B > "}, {"82*65535", "B > "}, {"82*65536", "B > "},
    {"82=00fffe80c0", "B > "}, /* nobody asks binary to be UTF-8 */
    {"81:a 81:b 82:c 81:d", "T:a T:b B T:d > "},
    {"", "> "}, {"!81", "> "}, {"!8105", "> "}, {"!810568656c6c", "> "},
    {"!817e", "> "}, {"!817e00", "> "}, {"!817f0000", "> "},
    /* 2: pings and pongs */
    {"89:", "> P:"}, {"89:hello", "> P:hello"}, {"89=00fffefdfcfb00ff", "> P=00fffefdfcfb00ff"},
    {"89*125", "> P*125"}, {"89*126", "X1002 > C1002"}, {"89*65536", "X1002 > C1002"},
    {"!897e007d", "X1002 > C1002"}, {"!897f000000000000007d", "X1002 > C1002"},
    {"8a:", "> "}, {"8a:unsolicited", "> "}, {"8a*125", "> "}, {"8a*126", "X1002 > C1002"},
    {"8a:x 89:y", "> P:y"}, {"89:1 89:2 89:3 89:4 89:5", "> P:1 P:2 P:3 P:4 P:5"},
    {"89:1 81:t 89:2", "T:t > P:1 P:2"},
    {"!890568656c", "> "}, {"!8905", "> "},
    /* 3: reserved bits */
    {"91:x", "X1002 > C1002"}, {"a1:x", "X1002 > C1002"}, {"b1:x", "X1002 > C1002"},
    {"c1:x", "X1002 > C1002"}, {"d1:x", "X1002 > C1002"}, {"e1:x", "X1002 > C1002"},
    {"f1:x", "X1002 > C1002"}, {"c1:", "X1002 > C1002"}, {"92:x", "X1002 > C1002"},
    {"c2:x", "X1002 > C1002"}, {"99:x", "X1002 > C1002"}, {"d9:", "X1002 > C1002"},
    {"aa:x", "X1002 > C1002"}, {"f8=03e8", "X1002 > C1002"}, {"81:a 91:b", "T:a X1002 > C1002"},
    {"81:a a1:b 89:c", "T:a X1002 > C1002"}, {"01:a 90:b", "X1002 > C1002"},
    {"01:a 89:p c0:b", "X1002 > P:p C1002"},
    /* 4: reserved opcodes */
    {"83:", "X1002 > C1002"}, {"84:x", "X1002 > C1002"}, {"85:x", "X1002 > C1002"},
    {"86:x", "X1002 > C1002"}, {"87:x", "X1002 > C1002"}, {"03:x", "X1002 > C1002"},
    {"07:", "X1002 > C1002"}, {"81:a 84:", "T:a X1002 > C1002"},
    {"81:a 85:b 89:c", "T:a X1002 > C1002"}, {"01:a 83:b", "X1002 > C1002"},
    {"8b:", "X1002 > C1002"}, {"8c:x", "X1002 > C1002"}, {"8d:x", "X1002 > C1002"},
    {"8e:x", "X1002 > C1002"}, {"8f:", "X1002 > C1002"}, {"0b:x", "X1002 > C1002"},
    {"81:a 8c:", "T:a X1002 > C1002"}, {"81:a 8d:b 89:c", "T:a X1002 > C1002"},
    {"01:a 8b:b 80:c", "X1002 > C1002"}, {"8b*126", "X1002 > C1002"},
    /* 5: fragments */
    {"01:a 80:b", "T:ab > "}, {"01: 80:", "T: > "}, {"01: 00: 80:", "T: > "},
    {"01:a 80:", "T:a > "}, {"01: 80:b", "T:b > "}, {"01: 00:m 80:", "T:m > "},
    {"01:a 00:b 00:c 80:d", "T:abcd > "}, {"02:a 80:b", "B > "}, {"02: 00: 80:", "B > "},
    {"02=ff 80=fe", "B > "}, {"01:a 80:b 01:c 80:d", "T:ab T:cd > "},
    {"01:a 80:b 81:c 01:d 80:e", "T:ab T:c T:de > "}, {"02:a 80:b 81:c", "B T:c > "},
    {"01*1024 80:", "T*1024 > "}, /* so ipe sends what is over a kilobyte */
    {"01:a 89:p 80:b", "T:ab > P:p"}, {"01:a 8a:p 80:b", "T:ab > "},
    {"01:a 89:1 00:b 89:2 80:c", "T:abc > P:1 P:2"}, {"02:a 89:p 80:b", "B > P:p"},
    {"89:0 01:a 89:1 89:2 80:b 89:3", "T:ab > P:0 P:1 P:2 P:3"},
    {"09:p 80:q", "X1002 > C1002"}, {"09:", "X1002 > C1002"}, {"0a:p", "X1002 > C1002"},
    {"08=03e8", "X1002 > C1002"}, {"01:a 09:p 80:b", "X1002 > C1002"},
    {"80:a", "X1002 > C1002"}, {"00:a", "X1002 > C1002"}, {"80:", "X1002 > C1002"},
    {"00:", "X1002 > C1002"}, {"80:a 81:b", "X1002 > C1002"}, {"00:a 80:b", "X1002 > C1002"},
    {"81:a 80:b", "T:a X1002 > C1002"}, {"82:a 80:b", "B X1002 > C1002"},
    {"01:a 80:b 80:c", "T:ab X1002 > C1002"}, {"01:a 80:b 00:c", "T:ab X1002 > C1002"},
    {"01:a 81:b", "X1002 > C1002"}, {"01:a 01:b", "X1002 > C1002"}, {"01:a 82:b", "X1002 > C1002"},
    {"01: 81:", "X1002 > C1002"}, {"02:a 81:b", "X1002 > C1002"}, {"02:a 02:b", "X1002 > C1002"},
    {"01:a 00:b 81:c", "X1002 > C1002"}, {"01:a 89:p 81:b", "X1002 > P:p C1002"},
    /* lengths that are not as short as they could be, or have the top bit, and masks */
    {"!817e0000", "X1002 > C1002"}, {"!817e0001", "X1002 > C1002"},
    {"!817e007d2a", "X1002 > C1002"}, {"!817e007e", "> "},
    {"!817f0000000000000000", "X1002 > C1002"}, {"!817f000000000000007e", "X1002 > C1002"},
    {"!817f000000000000ffff", "X1002 > C1002"}, {"!817f0000000000010000", "> "},
    {"!817f8000000000000000", "X1002 > C1002"}, {"!817fffffffffffffffff", "X1002 > C1002"},
    {"!827f8000000000000001", "X1002 > C1002"}, {"!817f7fffffffffffffff2a", "X1009 > C1009"},
    {"!8181000000002a", "X1002 > C1002"}, {"!8185deadbeef0000000000", "X1002 > C1002"},
    {"!818000000000", "X1002 > C1002"}, {"!828101020304ff", "X1002 > C1002"},
    {"!898000000000", "X1002 > C1002"}, {"!8882000000000348", "X1002 > C1002"},
    {"!81fe007e00000000 !2a", "X1002 > C1002"},
    /* 6: UTF-8 through and between frames; more below */
    {"81=ceba", "T=ceba > "}, {"01=ce 80=ba", "T=ceba > "}, {"01=ce 89:p 80=ba", "T=ceba > P:p"},
    {"01=f0 00=9f 00=98 80=80", "T=f09f9880 > "}, {"01=f0 00= 00=9f98 00= 80=80", "T=f09f9880 > "},
    {"81=ce", "X1007 > C1007"}, {"01=ce 80=", "X1007 > C1007"}, {"01=ce 80=20", "X1007 > C1007"},
    {"81=ce 81=ba", "X1007 > C1007"}, {"81=f09f98", "X1007 > C1007"}, {"81=ff", "X1007 > C1007"},
    {"81=00", "T=00 > "}, {"81=7f", "T=7f > "}, {"81:a 81=c0af", "T:a X1007 > C1007"},
    {"01=ff", "X1007 > C1007"}, {"!8105ff", "X1007 > C1007"}, /* unfinished and lost already */
    {"02=ce 80=20 81=ceba", "B T=ceba > "}, {"02=ce 80= 81=ba", "B X1007 > C1007"},
    /* 7: the end */
    {"88:", "C > C"}, {"88=03", "X1002 > C1002"}, {"88=03e8", "C1000 > C1000"},
    {"88=03e86279652e", "C1000:bye. > C1000"}, {"88=0fa1", "C4001 > C4001"},
    {"88=106862", "C4200:b > C4200"}, {"88=03e8c3a9", "C1000=c3a9 > C1000"},
    {"88=03e8ce", "X1007 > C1007"}, {"88=03e8ff", "X1007 > C1007"},
    {"88=03e8ceba20eda080", "X1007 > C1007"}, {"88=03e80a1b5b", "C1000:??[ > C1000"},
    {"88*126", "X1002 > C1002"}, {"88*127", "X1002 > C1002"},
    {"81:a 88=03e8", "T:a C1000 > C1000"}, {"88=03e8 81:a", "C1000 > C1000"},
    {"88=03e8 89:p", "C1000 > C1000"}, {"88=03e8 88=03e9", "C1000 > C1000"},
    {"88=03e8 83:x", "C1000 > C1000"}, {"88: !ffffffff", "C > C"},
    {"01:a 88=03e8 80:b", "C1000 > C1000"}, {"89:p 88=03e8", "C1000 > P:p C1000"},
    {"91:x 81:a", "X1002 > C1002"}, {"!88", "> "}, {"!880203", "> "},
    {"!88fe", "X1002 > C1002"}, /* a control frame over 125 bytes, before all of it is here */
    /* 10: one message in many fragments */
    {"01*1300 00*1300 00*1300 00*1300 00*1300 80*100", "T*6600 > "},
};

enum { LARGEST = 1 << 16 };

static void the_rules_hold_whatever_way_the_bytes_come(void **state)
{
    (void)state;
    static struct world w;
    make(&w, LARGEST, 1 << 17, 4096);
    feeds = 0;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        fake_bytes bytes = {NULL, 0, 0};
        fake_bytes_add(&bytes, "", 0);
        build(&bytes, rules[i].script);
        expect_any_way(&w, rules[i].script, &bytes, rules[i].said);
        fake_bytes_free(&bytes);
    }
    print_message("%zu rules, %" PRIu64 " feeds\n", ARRAY_LEN(rules), feeds);
    end(&w);
}

/* Every first byte of a frame there can be, alone and within a message. */
static void every_first_byte(void **state)
{
    (void)state;
    static struct world w;
    make(&w, LARGEST, 1 << 17, 4096);
    for (unsigned first = 0; first < 256; first++) {
        for (int within = 0; within < 2; within++) {
            fake_bytes bytes = {NULL, 0, 0};
            const char *want = "X1002 > C1002";
            if (within) add_frame(&bytes, 0x01, "a", 1);
            add_frame(&bytes, first, "\x03\xE8", 2);
            switch (first) {
            case 0x01:
            case 0x81: break; /* 03 e8 is no text: see below */
            case 0x02: if (!within) want = "> "; break;
            case 0x82: if (!within) want = "B > "; break;
            case 0x88: want = "C1000 > C1000"; break;
            case 0x89: want = "> P=03e8"; break;
            case 0x8A: want = "> "; break;
            default: break;
            }
            bool text = within ? first == 0x00 || first == 0x80 : first == 0x01 || first == 0x81;
            if (text) want = first & 0x80 || within ? "X1007 > C1007" : "> ";
            if (text && first < 0x80) want = "> "; /* e8 may still become a character */
            expect_any_way(&w, "first byte", &bytes, want);
            fake_bytes_free(&bytes);
        }
    }
    end(&w);
}

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

static const char *const good_texts[] = {
    "ceba", "cebae1bdb9cf83cebcceb5", "68656c6c6fc2b540c39fc3b6c3a4c3bcc3a0c3a1", "00", "7f",
    "c280", "dfbf", "e0a080", "e0bfbf", "e18080", "efbfbf", "efbfbe", "f0908080", "f48fbfbf",
    "ed9fbf", "ee8080", "efbfbd", "f09f9880", "e298832ae29883", "3132333435363738ceba",
    "313233343536373839ceba3132333435363738", "f48fbfbe", "efb790", "efbbbf",
};

/* Each bad one with the number of bytes after which it is lost. */
static const struct bad_text { const char *hex; size_t at; } bad_texts[] = {
    {"80", 1}, {"bf", 1}, {"8080", 1}, {"c0", 1}, {"c1", 1}, {"c0af", 1}, {"c080", 1}, {"c1bf", 1},
    {"f5", 1}, {"f8888080", 1}, {"fc84808080", 1}, {"fe", 1}, {"ff", 1}, {"fefeffff", 1},
    {"c220", 2}, {"c2c2", 2}, {"e080", 2}, {"e09fbf", 2}, {"e0af20", 3}, {"e18020", 3},
    {"eda080", 2}, {"edbfbf", 2}, {"eda080edb080", 2}, {"f08080", 2}, {"f08fbfbf", 2},
    {"f0808080", 2}, {"f4908080", 2}, {"f4bf", 2}, {"f0908020", 4}, {"f09080c0", 4},
    {"cebae1bdb9cf83cebcceb5eda080656469746564", 13}, {"cebae1bdb9cf83cebcceb5f4908080", 13},
    {"3132333435363738ff", 9}, {"313233343536373839ff", 10}, {"31323334353637ff38", 8},
    {"616263646566676861626364656667688061626364", 17}, {"ceba3132333435363738ce31", 12},
    {"20c2", 0}, {"e298", 0}, {"f09f98", 0}, {"ceba31323334353637f0", 0}, /* 0: at the end */
};

static void add_each_byte(fake_bytes *out, const fake_bytes *text)
{
    for (size_t i = 0; i < text->len; i++)
        add_frame(out, (i == 0 ? 1u : 0u) | (i + 1 == text->len ? 0x80u : 0u), text->at + i, 1);
}

static void texts_are_utf8(void **state)
{
    (void)state;
    static struct world w;
    make(&w, LARGEST, 1 << 17, 4096);
    for (size_t i = 0; i < ARRAY_LEN(good_texts) + ARRAY_LEN(bad_texts); i++) {
        bool good = i < ARRAY_LEN(good_texts);
        const char *hex = good ? good_texts[i] : bad_texts[i - ARRAY_LEN(good_texts)].hex;
        fake_bytes text = {NULL, 0, 0}, bytes = {NULL, 0, 0}, want = {NULL, 0, 0};
        add_hex(&text, hex, strlen(hex));
        if (good) {
            fake_note(&want, "T");
            note_payload(&want, text.at, text.len);
            fake_note(&want, " > ");
        } else {
            fake_note(&want, "X1007 > C1007");
        }
        add_frame(&bytes, 0x81, text.at, text.len);
        expect_any_way(&w, hex, &bytes, want.at);
        fake_bytes_free(&bytes);
        add_each_byte(&bytes, &text);
        expect_any_way(&w, hex, &bytes, want.at);
        fake_bytes_free(&bytes);
        /* in two fragments, cut at each place */
        for (size_t cut = 0; cut <= text.len; cut++) {
            fake_bytes said = {NULL, 0, 0};
            add_frame(&bytes, 0x01, text.at, cut);
            add_frame(&bytes, 0x80, text.at + cut, text.len - cut);
            feed(&w, &bytes, NULL, 0, &said);
            expect_same(hex, "fragmented at", cut, 0, said.at, want.at);
            fake_bytes_free(&bytes);
            fake_bytes_free(&said);
        }
        /* and as the reason of a close */
        fake_bytes reason = {NULL, 0, 0};
        fake_bytes_add(&reason, "\x03\xE8", 2);
        fake_bytes_add(&reason, text.at, text.len);
        add_frame(&bytes, 0x88, reason.at, reason.len);
        fake_bytes said = {NULL, 0, 0};
        feed(&w, &bytes, NULL, 0, &said);
        assert_string_equal(said.at + said.len - 5, good ? "C1000" : "C1007");
        assert_int_equal(said.at[0], good ? 'C' : 'X');
        fake_bytes_free(&said);
        fake_bytes_free(&reason);
        fake_bytes_free(&bytes);
        fake_bytes_free(&text);
        fake_bytes_free(&want);
    }
    end(&w);
}

/* The message is lost with its first bad byte, though a hundred are still to come. */
static void bad_utf8_is_seen_at_once(void **state)
{
    (void)state;
    static struct world w;
    make(&w, LARGEST, 1 << 17, 4096);
    for (size_t i = 0; i < ARRAY_LEN(bad_texts); i++) {
        if (bad_texts[i].at == 0) continue;
        for (int fragments = 0; fragments < 2; fragments++) {
            fake_bytes text = {NULL, 0, 0}, said = {NULL, 0, 0};
            add_hex(&text, bad_texts[i].hex, strlen(bad_texts[i].hex));
            assert_true(psh_ws_open(&w.ws));
            if (!fragments) (void)put(&w.ws, "\x81\x7E\x01\x00", 4);
            for (size_t k = 0; k < bad_texts[i].at; k++) {
                drain(&w.ws, &said);
                assert_int_equal(said.len, 0);
                if (fragments) (void)put(&w.ws, k ? "\0\1" : "\1\1", 2);
                (void)put(&w.ws, text.at + k, 1);
            }
            drain(&w.ws, &said);
            assert_string_equal(said.at, "X1007 ");
            fake_bytes_free(&text);
            fake_bytes_free(&said);
        }
    }
    end(&w);
}

/* ---- close codes ---------------------------------------------------------------------------- */

/* RFC 6455, 7.4, and the registry: 1012 to 1014 have been added since. */
static bool may_be_sent(unsigned code)
{
    switch (code) {
    case 1000: case 1001: case 1002: case 1003: case 1007: case 1008: case 1009: case 1010:
    case 1011: case 1012: case 1013: case 1014: return true;
    default: return code >= 3000 && code < 5000;
    }
}

static void every_close_code(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes bytes = {NULL, 0, 0}, said = {NULL, 0, 0};
    make(&w, LARGEST, 1 << 17, 4096);
    for (unsigned code = 0; code <= 65535; code += code < 5100 || code >= 65500 ? 1 : 100) {
        char want[64];
        unsigned char payload[2] = {(unsigned char)(code >> 8), (unsigned char)(code & 255)};
        bytes.len = 0;
        add_frame(&bytes, 0x88, payload, 2);
        if (may_be_sent(code)) snprintf(want, sizeof want, "C%u > C%u", code, code);
        else snprintf(want, sizeof want, "X1002 > C1002");
        if (code % 100 == 0 || code == 1004 || code == 4999)
            expect_any_way(&w, "close code", &bytes, want);
        feed(&w, &bytes, NULL, 0, &said);
        expect_same("close code", "whole", code, 0, said.at, want);
    }
    fake_bytes_free(&bytes);
    fake_bytes_free(&said);
    end(&w);
}

static void reasons_of_any_length(void **state)
{
    (void)state;
    static struct world w;
    make(&w, LARGEST, 1 << 17, 4096);
    for (size_t len = 0; len <= 124; len++) {
        fake_bytes bytes = {NULL, 0, 0}, payload = {NULL, 0, 0};
        char want[64];
        fake_bytes_add(&payload, "\x0F\xA1", 2);
        add_stars(&payload, len);
        add_frame(&bytes, 0x88, payload.at, payload.len);
        if (len == 0) snprintf(want, sizeof want, "C4001 > C4001");
        else if (len <= 123) snprintf(want, sizeof want, "C4001*%zu > C4001", len);
        else snprintf(want, sizeof want, "X1002 > C1002");
        expect_any_way(&w, "reason", &bytes, want);
        fake_bytes_free(&bytes);
        fake_bytes_free(&payload);
    }
    end(&w);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void messages_up_to_the_cap(void **state)
{
    (void)state;
    static const struct rule caps[] = {
        {"81*511", "T*511 > "}, {"81*512", "T*512 > "}, {"81*513", "X1009 > C1009"},
        {"81*65536", "X1009 > C1009"}, {"82*512", "B > "}, {"82*513", "X1009 > C1009"},
        {"01*512 80:", "T*512 > "}, {"01*511 80*1", "T*512 > "}, {"01*512 80*1", "X1009 > C1009"},
        {"01*1 80*512", "X1009 > C1009"}, {"01*256 00*256 00: 80:", "T*512 > "},
        {"01*256 00*256 80*1", "X1009 > C1009"}, {"01*256 89*125 80*256", "T*512 > P*125"},
        {"81*512 81*512", "T*512 T*512 > "}, /* each message has the whole of it */
        {"01*300 80*212 01*300 80*212", "T*512 T*512 > "},
        {"!817e0201 !2a", "X1009 > C1009"}, /* declared is enough */
        {"01*512 !80012a", "X1009 > C1009"},
    };
    static struct world w;
    make(&w, 512, 1 << 17, 4096);
    for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
        fake_bytes bytes = {NULL, 0, 0};
        build(&bytes, caps[i].script);
        expect_any_way(&w, caps[i].script, &bytes, caps[i].said);
        fake_bytes_free(&bytes);
    }
    assert_true(w.ws.whole.cap <= 512);
    end(&w);
}

static void a_declared_length_allocates_nothing(void **state)
{
    (void)state;
    static const struct { const char *script, *said; } heads[] = {
        {"!817f000000003fffffff", ""}, {"!817f000000003fffffff2a", ""},
        {"!817f7fffffffffffffff2a", "X1009 "}, {"!827f7fffffffffffffff2a", "X1009 "},
        {"!817f00000000400000012a", "X1009 "}, {"!817f00000000400000002a", ""},
        {"!817f00000000000100002a", ""}, {"!817effff2a", ""}, {"!827f00000000400000002a", ""},
        {"!017f00000000400000002a", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        static struct world w;
        fake_bytes bytes = {NULL, 0, 0}, said = {NULL, 0, 0};
        make(&w, 1 << 30, 1 << 16, 4096);
        fake_bytes_add(&said, "", 0);
        size_t room;
        (void)psh_ws_space(&w.ws, &room);
        const size_t before = w.heap.live_bytes;
        build(&bytes, heads[i].script);
        (void)put(&w.ws, bytes.at, bytes.len);
        drain(&w.ws, &said);
        assert_string_equal(said.at, heads[i].said);
        assert_in_range(w.heap.live_bytes - before, 0, 1); /* the one byte that has come */
        fake_bytes_free(&bytes);
        fake_bytes_free(&said);
        end(&w);
    }
}

static void many_small_fragments_hold_one_message(void **state)
{
    (void)state;
    static struct world w;
    enum { COUNT = 60000 };
    fake_bytes said = {NULL, 0, 0};
    make(&w, LARGEST, 1 << 16, 4096);
    for (int i = 0; i < COUNT; i++) {
        unsigned char frame[3] = {(unsigned char)((i == 0 ? 1 : 0) | (i == COUNT - 1 ? 0x80 : 0)),
                                  1, '*'};
        (void)put(&w.ws, frame, 3);
        drain(&w.ws, &said);
        assert_int_equal(said.len > 0, i == COUNT - 1);
    }
    assert_string_equal(said.at, "T*60000 ");
    assert_true(w.ws.whole.cap <= LARGEST && w.ws.in.cap <= 4096);
    assert_int_equal(w.heap.live_bytes, w.ws.whole.cap + w.ws.in.cap + w.ws.out_cap);
    assert_true(w.heap.peak_bytes <= LARGEST * 3 / 2 + 4096 + 4096);
    assert_true(w.heap.calls < 24);
    fake_bytes_free(&said);
    end(&w);
}

/* A message that lies in one piece is given out where it was received. */
static void whole_messages_are_not_copied(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes bytes = {NULL, 0, 0};
    make(&w, LARGEST, 1 << 16, 4096);
    for (int i = 0; i < 20; i++) build(&bytes, "81:hello");
    (void)put(&w.ws, bytes.at, bytes.len);
    const uint64_t calls = w.heap.calls;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MESSAGE);
        assert_int_equal(w.ws.text_len, 5);
        assert_memory_equal(w.ws.text, "hello", 5);
    }
    assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
    assert_int_equal(w.heap.calls, calls);
    assert_int_equal(w.ws.whole.cap, 0);
    fake_bytes_free(&bytes);
    end(&w);
}

static void without_memory_it_says_so(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes bytes = {NULL, 0, 0}, said = {NULL, 0, 0};
    size_t room = 1;
    make(&w, LARGEST, 1 << 16, 4096);
    w.heap.fail_at = w.heap.calls + 1;
    assert_null(psh_ws_space(&w.ws, &room));
    assert_int_equal(room, 0);
    assert_non_null(psh_ws_space(&w.ws, &room)); /* and it can come back */
    assert_int_equal(room, 4096);
    build(&bytes, "01:a");
    (void)put(&w.ws, bytes.at, bytes.len);
    w.heap.fail_at = w.heap.calls + 1;
    drain(&w.ws, &said);
    assert_string_equal(said.at, "X1011 ");
    /* a larger input buffer is a wish only */
    assert_true(psh_ws_open(&w.ws));
    w.heap.fail_at = w.heap.calls + 1;
    w.heap.fail_for_good = true;
    fake_bytes_free(&bytes);
    for (int i = 0; i < 5000; i++) add_frame(&bytes, 0x81, "ab", 2);
    said.len = 0;
    for (size_t at = 0; at < bytes.len;) {
        at += put(&w.ws, bytes.at + at, bytes.len - at);
        said.len = 0;
        drain(&w.ws, &said);
        assert_int_not_equal(said.at[0], 'X');
        /* a frame over the end waits in what is left: nothing may be lost */
        if (w.ws.in_at < w.ws.in.len) fail_msg("bytes left unread");
    }
    fake_bytes_free(&bytes);
    fake_bytes_free(&said);
    end(&w);
    memset(&w.heap, 0, sizeof w.heap);
    w.heap.fail_at = 1;
    assert_false(psh_ws_init(&w.ws, &w.env, 512, 512, 1024));
    psh_ws_free(&w.ws);
    assert_int_equal(w.heap.live_blocks, 0);
}

/* Reads that fill the place double it, up to the most that one poll reads. */
static void input_grows_up_to_its_max(void **state)
{
    (void)state;
    static const size_t maxima[] = {512, 4096, 5000, 65536};
    for (size_t i = 0; i < ARRAY_LEN(maxima); i++) {
        static struct world w;
        make(&w, LARGEST, maxima[i], 4096);
        size_t want = maxima[i] < 4096 ? maxima[i] : 4096, room;
        for (int round = 0; round < 8; round++) {
            unsigned char *space = psh_ws_space(&w.ws, &room);
            assert_int_equal(room, want);
            memset(space, 0, room);
            psh_ws_received(&w.ws, room - 1); /* nearly full does not count */
            assert_int_equal(w.ws.in.cap, want);
            psh_ws_received(&w.ws, 1);
            want = want * 2 < maxima[i] ? want * 2 : maxima[i];
            assert_int_equal(w.ws.in.cap, want);
            psh_ws_discard(&w.ws);
        }
        end(&w);
    }
}

/* ---- pings ---------------------------------------------------------------------------------- */

static void send_all(struct psh_ws *ws, fake_bytes *sent)
{
    size_t len;
    const unsigned char *bytes = psh_ws_output(ws, &len);
    fake_bytes_add(sent, bytes, len);
    psh_ws_sent(ws, len);
}

static void read_all(const fake_bytes *sent, fake_bytes *said)
{
    const unsigned char *bytes = (const unsigned char *)sent->at;
    for (size_t at = 0; at < sent->len;) {
        at += read_frame(bytes + at, sent->len - at, said);
        fake_bytes_add(said, " ", 1);
    }
}

static void a_flood_of_pings_costs_nothing(void **state)
{
    (void)state;
    static struct world w;
    enum { PINGS = 100000 };
    fake_bytes sent = {NULL, 0, 0}, said = {NULL, 0, 0}, bytes = {NULL, 0, 0};
    make(&w, LARGEST, 1 << 16, 1024);
    size_t room;
    (void)psh_ws_space(&w.ws, &room);
    const uint64_t calls = w.heap.calls;
    for (int i = 0; i < PINGS; i++) {
        char payload[32];
        bytes.len = 0;
        add_frame(&bytes, 0x89, payload, (size_t)snprintf(payload, sizeof payload, "%d", i));
        (void)put(&w.ws, bytes.at, bytes.len);
        assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
        assert_true(w.ws.out_len <= 1024 - PSH_WS_RESERVE / 2);
    }
    assert_int_equal(w.ws.pings, PINGS);
    assert_int_equal(w.heap.calls, calls);
    assert_true(w.ws.pong_owed);
    send_all(&w.ws, &sent);
    assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE); /* pays without any new input */
    assert_false(w.ws.pong_owed);
    psh_ws_send_close(&w.ws, 1000);
    send_all(&w.ws, &sent);
    read_all(&sent, &said);
    assert_memory_equal(said.at, "P:0 P:1 P:2 P:3 ", 16);
    const char *tail = "P:99999 C1000 ";
    assert_string_equal(said.at + said.len - strlen(tail), tail);
    size_t frames = 0;
    for (const char *at = said.at; *at; at++) frames += *at == ' ';
    assert_in_range(frames, 50, 1024 / 6);
    fake_bytes_free(&sent);
    fake_bytes_free(&said);
    fake_bytes_free(&bytes);
    end(&w);
}

/* Full of text, there is still room for one answer to a ping of any size and for a close. */
static void control_frames_have_room_in_reserve(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes said = {NULL, 0, 0}, bytes = {NULL, 0, 0};
    build(&bytes, "89*125");
    for (size_t first = 1; first <= 200; first++) {
        char text[200];
        memset(text, '*', sizeof text);
        make(&w, 512, 4096, 1024);
        assert_true(psh_ws_send_text(&w.ws, text, first));
        size_t count = 1;
        while (psh_ws_send_text(&w.ws, text, 1)) count++;
        assert_true(w.ws.out_len <= 1024 - PSH_WS_RESERVE);
        assert_true(w.ws.out_len + PSH_WS_FRAME_HEAD + 1 > 1024 - PSH_WS_RESERVE);
        (void)put(&w.ws, bytes.at, bytes.len);
        assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
        assert_false(w.ws.pong_owed);
        assert_false(psh_ws_send_text(&w.ws, text, 1)); /* nor what the pong has left */
        psh_ws_send_close(&w.ws, 4001);
        said.len = 0;
        read_output(&w.ws, &said);
        assert_string_equal(said.at + said.len - 12, " P*125 C4001");
        end(&w);
    }
    fake_bytes_free(&said);
    fake_bytes_free(&bytes);
}

static void nothing_follows_our_close(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes said = {NULL, 0, 0}, bytes = {NULL, 0, 0};
    make(&w, 512, 4096, 1024);
    psh_ws_send_close(&w.ws, 0);
    psh_ws_send_close(&w.ws, 1000);
    assert_false(psh_ws_send_text(&w.ws, "x", 1));
    build(&bytes, "89:p 81:t 88=03e8");
    (void)put(&w.ws, bytes.at, bytes.len);
    drain(&w.ws, &said);
    assert_string_equal(said.at, "T:t C1000 ");
    said.len = 0;
    read_output(&w.ws, &said);
    assert_string_equal(said.at, "C");
    fake_bytes_free(&said);
    fake_bytes_free(&bytes);
    end(&w);
}

/* ---- staging -------------------------------------------------------------------------------- */

static void frames_of_any_length_come_out_whole(void **state)
{
    (void)state;
    static const size_t larger[] = {4090, 4096, 4097, 8192, 65535, 65536, 70000};
    static struct world w;
    static char text[70000];
    static unsigned char masks[2000][4];
    size_t mask_count = 0;
    uint64_t seed = 3;
    make(&w, 512, 4096, 80000);
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(fake_next_random(&seed) & 0xFF);
    for (size_t i = 1; i <= 1200 + ARRAY_LEN(larger); i++) {
        size_t len = i <= 1200 ? i : larger[i - 1201], out;
        fake_bytes said = {NULL, 0, 0}, want = {NULL, 0, 0};
        const int calls = w.source.calls;
        assert_true(psh_ws_send_text(&w.ws, text, len));
        assert_int_equal(w.source.calls, calls + 1);
        const unsigned char *bytes = psh_ws_output(&w.ws, &out);
        size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;
        assert_int_equal(out, head + 4 + len);
        assert_memory_equal(bytes + head, w.source.last, 4); /* fresh, and all of it used */
        memcpy(masks[mask_count++], bytes + head, 4);
        fake_note(&want, "T");
        note_payload(&want, text, len);
        assert_int_equal(read_frame(bytes, out, &said), out);
        assert_string_equal(said.at, want.at);
        psh_ws_sent(&w.ws, out);
        fake_bytes_free(&said);
        fake_bytes_free(&want);
    }
    for (size_t a = 0; a < mask_count; a++)
        for (size_t b = 0; b < a; b++) assert_memory_not_equal(masks[a], masks[b], 4);
    end(&w);
}

/* At every fill level and for every length: the whole frame, or not a byte of it. */
static void a_frame_is_staged_whole_or_not_at_all(void **state)
{
    (void)state;
    static struct world w;
    static char text[1024];
    memset(text, '*', sizeof text);
    make(&w, 512, 4096, 600);
    for (size_t filled = 0; filled <= 320; filled += 7) {
        for (size_t len = 1; len < 700; len++) {
            assert_true(psh_ws_open(&w.ws));
            if (filled > 0 && !psh_ws_send_text(&w.ws, text, filled)) break;
            const size_t before = w.ws.out_len;
            bool fits = before + PSH_WS_FRAME_HEAD + len + PSH_WS_RESERVE <= 600;
            assert_int_equal(psh_ws_send_text(&w.ws, text, len), fits);
            if (fits) assert_int_equal(w.ws.out_len, before + (len < 126 ? 6 : 8) + len);
            else assert_int_equal(w.ws.out_len, before);
        }
    }
    end(&w);
}

static void a_random_source_that_fails_sends_nothing(void **state)
{
    (void)state;
    static struct world w;
    fake_bytes said = {NULL, 0, 0}, bytes = {NULL, 0, 0};
    make(&w, 512, 4096, 1024);
    assert_true(psh_ws_send_text(&w.ws, "one", 3));
    assert_false(w.ws.random_failed);
    w.source.fails = true;
    assert_false(psh_ws_send_text(&w.ws, "two", 3));
    assert_true(w.ws.random_failed);
    build(&bytes, "89:p");
    (void)put(&w.ws, bytes.at, bytes.len);
    assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
    assert_true(w.ws.pong_owed);
    read_output(&w.ws, &said);
    assert_string_equal(said.at, "T:one");
    w.source.fails = false; /* and no half of a frame is left inside */
    assert_true(psh_ws_send_text(&w.ws, "three", 5));
    said.len = 0;
    read_output(&w.ws, &said);
    assert_string_equal(said.at, "T:one T:three");
    w.source.fails = true;
    psh_ws_send_close(&w.ws, 1000);
    assert_true(w.ws.close_sent);
    said.len = 0;
    read_output(&w.ws, &said);
    assert_string_equal(said.at, "T:one T:three");
    fake_bytes_free(&said);
    fake_bytes_free(&bytes);
    end(&w);
}

/* Random sending and blocking: a refused write comes again as it was, from the same place, and what
   arrives are the frames that were accepted, in order. */
static void a_refused_write_is_repeated(void **state)
{
    (void)state;
    enum { STEPS = 60000 };
    static struct world w;
    fake_bytes sent = {NULL, 0, 0}, said = {NULL, 0, 0}, want = {NULL, 0, 0};
    uint64_t seed = 11;
    unsigned number = 0, retries = 0, refused = 0;
    make(&w, 512, 4096, 900);
    for (int step = 0; step < STEPS; step++) {
        uint64_t random = fake_next_random(&seed);
        if (random % 3 != 0) {
            char text[300];
            size_t len = (size_t)snprintf(text, sizeof text, "%u-", number);
            for (size_t more = random >> 8 & 0xFF; len < more; len++) text[len] = 'x';
            if (psh_ws_send_text(&w.ws, text, len)) {
                number++;
                fake_note(&want, "T");
                note_payload(&want, text, len);
                fake_bytes_add(&want, " ", 1);
            } else {
                refused++;
            }
            continue;
        }
        size_t len, again_len;
        const unsigned char *bytes = psh_ws_output(&w.ws, &len);
        if (len == 0) continue;
        size_t try_len = 1 + (size_t)(random >> 16) % len;
        if (w.ws.retry) try_len = len;
        if (random >> 40 & 1) {
            unsigned char copy[900];
            memcpy(copy, bytes, try_len);
            psh_ws_blocked(&w.ws, try_len);
            retries++;
            while (psh_ws_send_text(&w.ws, "filler", 6)) fake_note(&want, "T:filler ");
            const unsigned char *again = psh_ws_output(&w.ws, &again_len);
            assert_ptr_equal(again, bytes);
            assert_int_equal(again_len, try_len);
            assert_memory_equal(again, copy, try_len);
            continue;
        }
        fake_bytes_add(&sent, bytes, try_len);
        psh_ws_sent(&w.ws, try_len);
        assert_int_equal(w.ws.retry, 0);
    }
    send_all(&w.ws, &sent);
    send_all(&w.ws, &sent);
    read_all(&sent, &said);
    assert_string_equal(said.at, want.at);
    assert_true(number > 1000 && retries > 1000 && refused > 1000);
    fake_bytes_free(&sent);
    fake_bytes_free(&said);
    fake_bytes_free(&want);
    end(&w);
}

/* Without a write to be repeated what was sent makes room; with one it may not. */
static void room_is_made_only_when_nothing_waits(void **state)
{
    (void)state;
    static struct world w;
    char text[300];
    memset(text, '*', sizeof text);
    make(&w, 512, 4096, 1024);
    assert_true(psh_ws_send_text(&w.ws, text, 300));
    assert_true(psh_ws_send_text(&w.ws, text, 300));
    assert_false(psh_ws_send_text(&w.ws, text, 300));
    psh_ws_sent(&w.ws, 400);
    psh_ws_blocked(&w.ws, 50);
    assert_false(psh_ws_send_text(&w.ws, text, 300));
    assert_int_equal(w.ws.out_at, 400);
    psh_ws_sent(&w.ws, 50); /* it went through at last */
    assert_true(psh_ws_send_text(&w.ws, text, 300));
    assert_int_equal(w.ws.out_at, 0);
    end(&w);
}

/* ---- the upgrade ---------------------------------------------------------------------------- */

#define NONCE "the sample nonce" /* RFC 6455, 1.3 */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define REQUEST                                                                                    \
    "GET /app/key?protocol=7&client=c-pusher.h&version=0.2.0 HTTP/1.1\r\n"                         \
    "Host: example.org:6001\r\n"                                                                   \
    "Upgrade: websocket\r\n"                                                                       \
    "Connection: Upgrade\r\n"                                                                      \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                                              \
    "Sec-WebSocket-Version: 13\r\n"

static void the_request_exactly(void **state)
{
    (void)state;
    static const char origin[] = "Origin: http://o.example\r\n";
    static struct world w;
    assert_string_equal(PUSHER_VERSION, "0.2.0");
    for (int with_origin = 0; with_origin < 2; with_origin++) {
        size_t len;
        fake_bytes want = {NULL, 0, 0};
        fake_note(&want, REQUEST "%s\r\n", with_origin ? origin : "");
        make(&w, 512, 4096, 1024);
        w.source.fixed = NONCE;
        assert_true(psh_ws_send_upgrade(&w.ws, "/app/key", "example.org:6001",
                                        with_origin ? origin : ""));
        assert_int_equal(w.source.calls, 1);
        const unsigned char *bytes = psh_ws_output(&w.ws, &len);
        assert_int_equal(len, want.len);
        assert_memory_equal(bytes, want.at, len);
        assert_string_equal(w.ws.accept, ACCEPT);
        fake_bytes_free(&want);
        end(&w);
    }
}

/* It must fit, with a NUL behind it; half of a request is none. */
static void a_request_that_does_not_fit(void **state)
{
    (void)state;
    static struct world w;
    char path[201] = "/app/";
    memset(path + 5, 'k', 195);
    path[200] = '\0';
    const size_t want = strlen(REQUEST "\r\n") - strlen("/app/key") + 200;
    for (size_t spare = 0; spare < 3; spare++) {
        size_t len;
        make(&w, 512, 4096, want + spare);
        bool fits = psh_ws_send_upgrade(&w.ws, path, "example.org:6001", "");
        assert_int_equal(fits, spare > 0);
        (void)psh_ws_output(&w.ws, &len);
        if (fits) assert_int_equal(len, want);
        end(&w);
    }
}

static void no_request_without_randomness(void **state)
{
    (void)state;
    static struct world w;
    size_t len;
    make(&w, 512, 4096, 1024);
    w.source.fails = true;
    assert_false(psh_ws_send_upgrade(&w.ws, "/app/key", "h", ""));
    assert_true(w.ws.random_failed);
    (void)psh_ws_output(&w.ws, &len);
    assert_int_equal(len, 0);
    w.source.fails = false;
    assert_true(psh_ws_send_upgrade(&w.ws, "/app/key", "h", ""));
    assert_false(w.ws.random_failed);
    end(&w);
}

#define LINE "HTTP/1.1 101 Switching Protocols\r\n"
#define UP "Upgrade: websocket\r\n"
#define CONN "Connection: Upgrade\r\n"
#define ACC "Sec-WebSocket-Accept: " ACCEPT "\r\n"

static const char no_headers[] = "a 101 without the headers Upgrade and Connection";
static const char no_accept[] = "a wrong Sec-WebSocket-Accept";
static const char no_http[] = "something that is not HTTP/1.1";
static const char no_extension[] = "an extension that was not asked for";
static const char no_subprotocol[] = "a subprotocol that was not asked for";

static const struct answer {
    const char *text, *refused; /* "": more must come; NULL: accepted */
    int status;
} answers[] = {
    {LINE UP CONN ACC "\r\n", NULL, 101},
    {LINE ACC CONN UP "\r\n", NULL, 101},
    {LINE UP CONN ACC "\r\n\x81\x02hi", NULL, 101},
    {"HTTP/1.1 101\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n"
     "sec-websocket-accept: " ACCEPT "\r\n\r\n", NULL, 101}, /* poxa's letters */
    {LINE "UPGRADE:websocket\nCONNECTION:keep-alive, Upgrade\nSEC-WEBSOCKET-ACCEPT:" ACCEPT
     "\t \n\n", NULL, 101},
    {LINE UP CONN ACC "Server: x\r\nSec-WebSocket-Extensions:\r\nSec-WebSocket-Protocol: \r\n\r\n",
     NULL, 101},
    {LINE "X-Upgrade: no\r\nXConnection: no\r\n" UP CONN ACC "\r\n", NULL, 101},
    {LINE UP CONN "Connection: keep-alive\r\nUpgrade: x\r\n" ACC "\r\n", NULL, 101}, /* lists */
    {LINE UP CONN ACC, "", 101},
    {"HTTP/1.1 10", "", 0},
    {"", "", 0},
    {"HTTP/1.1 404 Not Found\r\n", "Not Found", 404},
    {"HTTP/1.1 200 OK\r\n" UP CONN ACC "\r\n", "OK", 200},
    {"HTTP/1.1 100 Continue\r\n\r\n" LINE UP CONN ACC "\r\n", "Continue", 100},
    {"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "Moved", 301},
    {"HTTP/1.1 503\r\n\r\n", "", 503},
    {LINE "\r\n", no_headers, 101},
    {LINE CONN ACC "\r\n", no_headers, 101},
    {LINE UP ACC "\r\n", no_headers, 101},
    {LINE UP CONN "\r\n", no_accept, 101},
    {LINE "Upgrade: h2c\r\n" CONN ACC "\r\n", no_headers, 101},
    {LINE "Upgrade:\r\n" CONN ACC "\r\n", no_headers, 101},
    {LINE "Upgrade: websockets\r\n" CONN ACC "\r\n", no_headers, 101},
    {LINE UP "Connection: close\r\n" ACC "\r\n", no_headers, 101},
    {LINE UP "Connection: upgraded\r\n" ACC "\r\n", no_headers, 101},
    {LINE UP CONN "Sec-WebSocket-Accept: \r\n\r\n", no_accept, 101},
    {LINE UP CONN "Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO=\r\n\r\n", no_accept, 101},
    {LINE UP CONN "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n\r\n", no_accept, 101},
    {LINE UP CONN "Sec-WebSocket-Accept: " ACCEPT "=\r\n\r\n", no_accept, 101},
    {LINE UP CONN "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", no_accept, 101},
    {LINE UP CONN "Sec-WebSocket-Key: " ACCEPT "\r\n\r\n", no_accept, 101},
    {LINE UP CONN ACC "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", no_extension, 101},
    {LINE "sec-websocket-extensions: x\r\n", no_extension, 101},
    {LINE UP CONN ACC "Sec-WebSocket-Protocol: pusher\r\n\r\n", no_subprotocol, 101},
    {LINE UP CONN ACC " folded: x\r\n\r\n", no_http, 101},
    {LINE "no colon\r\n", no_http, 101},
    {LINE UP "\rx", no_http, 101},
    {"SSH-2.0-OpenSSH_9\r\n", no_http, 0},
    {"HTTP/2 101\r\n", no_http, 0},
    {"\r\n", no_http, 0},
    {"\x15\x03\x01\r\n", no_http, 0},
};

/* Feeds the answer cut in two places; what the reader said comes back. */
static enum psh_ws_result answer(struct world *w, const char *text, size_t len, size_t cut,
                                 size_t cut2)
{
    enum psh_ws_result result = PSH_WS_MORE;
    assert_true(psh_ws_open(&w->ws));
    assert_true(psh_ws_send_upgrade(&w->ws, "/app/key", "h", ""));
    for (size_t at = 0; at < len && result == PSH_WS_MORE;) {
        size_t to = at < cut ? cut : at < cut2 ? cut2 : len;
        if (to > len) to = len;
        at += put(&w->ws, text + at, to - at);
        result = psh_ws_upgrade(&w->ws);
        if (result != PSH_WS_MESSAGE) continue;
        while (at < len) at += put(&w->ws, text + at, len - at); /* frames glued to it */
    }
    return result;
}

static void every_answer_to_the_request(void **state)
{
    (void)state;
    static struct world w;
    make(&w, 512, 1 << 16, 1024);
    w.source.fixed = NONCE;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        const struct answer *a = &answers[i];
        size_t len = strlen(a->text);
        for (size_t cut = 1; cut <= len || cut == 1; cut++) {
            enum psh_ws_result result = answer(&w, a->text, len, cut, cut + cut % 7);
            bool waits = a->refused && !*a->refused && a->status != 503;
            enum psh_ws_result want = waits ? PSH_WS_MORE : PSH_WS_MESSAGE;
            if (a->refused && !waits) want = PSH_WS_BROKEN;
            if (result != want || w.ws.head.status != a->status)
                fail_msg("%s\ncut %zu: %d, %d", a->text, cut, (int)result, w.ws.head.status);
            if (result == PSH_WS_BROKEN) {
                assert_string_equal(w.ws.fail_reason, a->refused);
                assert_int_equal(w.ws.fail_code, 0);
                assert_true(w.ws.dead && !w.ws.close_sent); /* there is no WebSocket to close */
            }
            if (result == PSH_WS_MESSAGE && strstr(a->text, "\x81")) {
                assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MESSAGE);
                assert_memory_equal(w.ws.text, "hi", 2);
            } else if (result == PSH_WS_MESSAGE) {
                assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
            }
        }
    }
    end(&w);
}

static void an_answer_over_8192_bytes(void **state)
{
    (void)state;
    static struct world w;
    make(&w, 512, 1 << 16, 1024);
    w.source.fixed = NONCE;
    for (size_t total = 8191; total <= 8194; total++) {
        fake_bytes text = {NULL, 0, 0};
        fake_note(&text, LINE UP CONN ACC "X: ");
        add_stars(&text, total - text.len - 4);
        fake_note(&text, "\r\n\r\n");
        assert_int_equal(text.len, total);
        enum psh_ws_result result = answer(&w, text.at, text.len, 1, 5000);
        assert_int_equal(result, total <= 8192 ? PSH_WS_MESSAGE : PSH_WS_BROKEN);
        if (total > 8192)
            assert_string_equal(w.ws.fail_reason, "a header block over 8192 bytes");
        fake_bytes_free(&text);
    }
    assert_int_equal(answer(&w, LINE "A: \0b\r\n", sizeof LINE "A: \0b\r\n" - 1, 1, 9),
                     PSH_WS_BROKEN);
    assert_string_equal(w.ws.fail_reason, no_http);
    end(&w);
}

/* What one connection saw must not help the next: here its headers. */
static void each_connection_starts_anew(void **state)
{
    (void)state;
    static struct world w;
    make(&w, 512, 1 << 16, 1024);
    w.source.fixed = NONCE;
    const char good[] = LINE UP CONN ACC "\r\n", bare[] = LINE "\r\n";
    assert_int_equal(answer(&w, good, sizeof good - 1, 9, 9), PSH_WS_MESSAGE);
    assert_int_equal(answer(&w, bare, sizeof bare - 1, 9, 9), PSH_WS_BROKEN);
    assert_string_equal(w.ws.fail_reason, no_headers);
    assert_int_equal(answer(&w, good, sizeof good - 1, 9, 9), PSH_WS_MESSAGE);
    w.source.fixed = "another nonce 16"; /* and the old key's answer is none to the new one */
    assert_int_equal(answer(&w, good, sizeof good - 1, 9, 9), PSH_WS_BROKEN);
    assert_string_equal(w.ws.fail_reason, no_accept);
    end(&w);
}

/* ---- the look ahead -------------------------------------------------------------------------- */

static void texts_are_seen_ahead(void **state)
{
    (void)state;
    struct world w;
    char large[300];
    fake_bytes bytes;
    size_t at = 0, len = 0;
    memset(&bytes, 0, sizeof bytes);
    memset(large, 'x', sizeof large);
    make(&w, 65536, 4096, 4096);
    assert_null(psh_ws_ahead(&w.ws, &at, &len));
    fake_frame_to(&bytes, 0x81, "one", 3);
    fake_frame_to(&bytes, 0x81, large, sizeof large);
    fake_frame_to(&bytes, 0x81, "", 0);
    fake_frame_to(&bytes, 0x81, "cut off", 7);
    assert_int_equal(put(&w.ws, bytes.at, bytes.len - 1), bytes.len - 1);
    const char *text = psh_ws_ahead(&w.ws, &at, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "one", 3);
    text = psh_ws_ahead(&w.ws, &at, &len);
    assert_int_equal(len, sizeof large);
    assert_memory_equal(text, large, sizeof large);
    assert_non_null(psh_ws_ahead(&w.ws, &at, &len));
    assert_int_equal(len, 0);
    assert_null(psh_ws_ahead(&w.ws, &at, &len));
    assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MESSAGE); /* it has changed nothing */
    assert_int_equal(w.ws.text_len, 3);
    fake_bytes_free(&bytes);
    end(&w);
}

/* In the middle of a frame it begins behind it. */
static void the_present_frame_is_passed_over(void **state)
{
    (void)state;
    struct world w;
    fake_bytes bytes;
    size_t at = 0, len = 0;
    memset(&bytes, 0, sizeof bytes);
    make(&w, 65536, 4096, 4096);
    fake_frame_to(&bytes, 0x81, "first", 5);
    fake_frame_to(&bytes, 0x81, "second", 6);
    (void)put(&w.ws, bytes.at, 4);
    assert_int_equal(psh_ws_next(&w.ws), PSH_WS_MORE);
    (void)put(&w.ws, bytes.at + 4, 2);
    assert_null(psh_ws_ahead(&w.ws, &at, &len));
    (void)put(&w.ws, bytes.at + 6, bytes.len - 6);
    const char *text = psh_ws_ahead(&w.ws, &at, &len);
    assert_int_equal(len, 6);
    assert_memory_equal(text, "second", 6);
    fake_bytes_free(&bytes);
    end(&w);
}

static void any_bytes_may_lie_ahead(void **state)
{
    (void)state;
    static const unsigned char likely[] = {0x81, 0x81, 0x81, 126, 125, 127, 0, 1, 2, 3, 4, 0x88};
    uint64_t dice = 5;
    for (int round = 0; round < 20000; round++) {
        struct world w;
        unsigned char bytes[64];
        size_t count = fake_next_random(&dice) % sizeof bytes, at = 0, len = 0, room = 0;
        make(&w, 65536, 64, 4096);
        w.ws.left = fake_next_random(&dice) % 4 ? 0 : fake_next_random(&dice) % 80;
        for (size_t i = 0; i < count; i++)
            bytes[i] = likely[fake_next_random(&dice) % ARRAY_LEN(likely)];
        unsigned char *first = psh_ws_space(&w.ws, &room);
        if (count > 0) (void)put(&w.ws, bytes, count);
        for (const char *text; (text = psh_ws_ahead(&w.ws, &at, &len)) != NULL;)
            assert_true(text >= (char *)first && text + len <= (char *)first + count);
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_hold_whatever_way_the_bytes_come),
        cmocka_unit_test(every_first_byte),
        cmocka_unit_test(texts_are_utf8),
        cmocka_unit_test(bad_utf8_is_seen_at_once),
        cmocka_unit_test(every_close_code),
        cmocka_unit_test(reasons_of_any_length),
        cmocka_unit_test(messages_up_to_the_cap),
        cmocka_unit_test(a_declared_length_allocates_nothing),
        cmocka_unit_test(many_small_fragments_hold_one_message),
        cmocka_unit_test(whole_messages_are_not_copied),
        cmocka_unit_test(without_memory_it_says_so),
        cmocka_unit_test(input_grows_up_to_its_max),
        cmocka_unit_test(a_flood_of_pings_costs_nothing),
        cmocka_unit_test(control_frames_have_room_in_reserve),
        cmocka_unit_test(nothing_follows_our_close),
        cmocka_unit_test(frames_of_any_length_come_out_whole),
        cmocka_unit_test(a_frame_is_staged_whole_or_not_at_all),
        cmocka_unit_test(a_random_source_that_fails_sends_nothing),
        cmocka_unit_test(a_refused_write_is_repeated),
        cmocka_unit_test(room_is_made_only_when_nothing_waits),
        cmocka_unit_test(the_request_exactly),
        cmocka_unit_test(a_request_that_does_not_fit),
        cmocka_unit_test(no_request_without_randomness),
        cmocka_unit_test(every_answer_to_the_request),
        cmocka_unit_test(an_answer_over_8192_bytes),
        cmocka_unit_test(each_connection_starts_anew),
        cmocka_unit_test(texts_are_seen_ahead),
        cmocka_unit_test(the_present_frame_is_passed_over),
        cmocka_unit_test(any_bytes_may_lie_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
