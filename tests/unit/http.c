/* The http room: a response head, byte by byte, and the request's pieces. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

#define ARRAY_LEN(array) (sizeof(array) / sizeof *(array))
#define OK "HTTP/1.1 101 Switching Protocols\r\n"

/* What the reader says about some bytes: "101 Switching Protocols|name=value|end+3", where 3 bytes
   were left over, or "...|bad". */
static void read_head(const void *bytes, size_t len, fake_bytes *said)
{
    const unsigned char *at = (const unsigned char *)bytes;
    struct psh_http http;
    memset(&http, 0xA5, sizeof http);
    psh_http_init(&http);
    fake_bytes_free(said);
    fake_bytes_add(said, "", 0);
    for (size_t i = 0; i < len; i++) {
        enum psh_http_result result = psh_http_step(&http, at[i]);
        if (result == PSH_HTTP_MORE) continue;
        if (said->len > 0) fake_bytes_add(said, "|", 1);
        if (result == PSH_HTTP_STATUS) {
            assert_true(http.value <= http.line + strlen(http.line));
            fake_note(said, "%d %s", http.status, http.value);
        } else if (result == PSH_HTTP_HEADER) {
            fake_note(said, "%s=%s", http.line, http.value);
        } else {
            fake_note(said, result == PSH_HTTP_END ? "end+%zu" : "bad", len - i - 1);
            return;
        }
    }
}

struct head {
    const char *text, *said;
};

static void expect(const struct head *heads, size_t count)
{
    fake_bytes said = {NULL, 0, 0};
    for (size_t i = 0; i < count; i++) {
        read_head(heads[i].text, strlen(heads[i].text), &said);
        if (strcmp(said.at, heads[i].said) != 0)
            fail_msg("%s\nsaid: %s\nwant: %s", heads[i].text, said.at, heads[i].said);
    }
    fake_bytes_free(&said);
}

static void status_lines(void **state)
{
    (void)state;
    static const struct head heads[] = {
        {"HTTP/1.1 101 Switching Protocols\r\n", "101 Switching Protocols"},
        {"HTTP/1.0 101 Switching Protocols\r\n", "101 Switching Protocols"},
        {"HTTP/1.1 101 Switching Protocols\n", "101 Switching Protocols"},
        {"HTTP/1.1 101\r\n", "101 "},
        {"HTTP/1.1 101 \r\n", "101 "},
        {"HTTP/1.1 101  two\r\n", "101  two"},
        {"HTTP/1.1 100 Continue\r\n", "100 Continue"},
        {"HTTP/1.1 404 Not Found\r\n", "404 Not Found"},
        {"HTTP/1.1 503 x:y\r\n", "503 x:y"},
        {"HTTP/1.1 999 \r\n", "999 "},
        {"HTTP/1.1 101 h\xC3\xA9\r\n", "101 h??"}, /* it may end on a terminal */
        {"HTTP/1.1 099 Low\r\n", "bad"},
        {"HTTP/1.1 000 Low\r\n", "bad"},
        {"HTTP/1.1 10 Short\r\n", "bad"},
        {"HTTP/1.1 1\r\n", "bad"},
        {"HTTP/1.1 1010 Long\r\n", "bad"},
        {"HTTP/1.1 1010\r\n", "bad"},
        {"HTTP/1.1 101x\r\n", "bad"},
        {"HTTP/1.1 101Switching\r\n", "bad"},
        {"HTTP/1.1 101\tx\r\n", "bad"},
        {"HTTP/1.1 1x1 Odd\r\n", "bad"},
        {"HTTP/1.1 -01 Odd\r\n", "bad"},
        {"HTTP/1.1 1 1 Odd\r\n", "bad"},
        {"HTTP/1.1 10: Odd\r\n", "bad"},
        {"HTTP/1.1 /01 Odd\r\n", "bad"},
        {"HTTP/1.1  101 Odd\r\n", "bad"},
        {"HTTP/1.1\t101 Odd\r\n", "bad"},
        {"HTTP/1.1101 Odd odd odd\r\n", "bad"},
        {"HTTP/1.11 101 Odd\r\n", "bad"},
        {"HTTP/2 101 Switching\r\n", "bad"},
        {"HTTP/2.0 101 Switching\r\n", "bad"},
        {"http/1.1 101 Switching\r\n", "bad"},
        {"ICY 200 OK radio\r\n", "bad"},
        {" HTTP/1.1 101 Switching\r\n", "bad"},
        {"HTTP/1.", ""},
        {"HTTP/1.\r\n", "bad"},
        {"HTTP/1.1\r\n", "bad"},
        {"HTTP/1.1 10", ""},
        {"\r\n", "bad"},
        {"\n", "bad"},
        {"\x16\x03\x01\n", "bad"}, /* TLS on a plain port */
        {"{\"event\":\"pusher:error\"}\n", "bad"},
    };
    expect(heads, ARRAY_LEN(heads));
}

static void headers(void **state)
{
    (void)state;
    static const struct head heads[] = {
        {OK "\r\n", "101 Switching Protocols|end+0"},
        {OK "\n", "101 Switching Protocols|end+0"},
        {OK "\r\nabc", "101 Switching Protocols|end+3"}, /* a frame glued to it */
        {OK "\r\n\r\n\r\n", "101 Switching Protocols|end+4"},
        {OK "A: b\r\n\r\n", "101 Switching Protocols|A=b|end+0"},
        {OK "a:b\nc:d\r\n\n", "101 Switching Protocols|a=b|c=d|end+0"},
        {OK "a:  \t b c \t \r\n\r\n", "101 Switching Protocols|a=b c|end+0"},
        {OK "a:\r\n\r\n", "101 Switching Protocols|a=|end+0"},
        {OK "a: \t \r\n\r\n", "101 Switching Protocols|a=|end+0"},
        {OK "a:b:c::\r\n\r\n", "101 Switching Protocols|a=b:c::|end+0"},
        {OK "a::\r\n\r\n", "101 Switching Protocols|a=:|end+0"},
        {OK "a: \xFF\x80\x7F\r\n\r\n", "101 Switching Protocols|a=??\x7F|end+0"},
        {OK "a\r\n", "101 Switching Protocols|bad"},
        {OK "no colon here\r\n", "101 Switching Protocols|bad"},
        {OK ":b\r\n", "101 Switching Protocols|bad"},
        {OK ":\r\n", "101 Switching Protocols|bad"},
        {OK " \r\n", "101 Switching Protocols|bad"},
        /* no CR may stand alone: it could hide a line end from us that another reader sees */
        {OK "a: b\rc: d\r\n", "101 Switching Protocols|bad"},
        {OK "a: b\r\r\n", "101 Switching Protocols|bad"},
        {OK "\r\r\n", "101 Switching Protocols|bad"},
        {OK "\ra", "101 Switching Protocols|bad"},
        {"HTTP/1.1 101 Swit\rching\r\n", "bad"},
        {"\r", ""},
        {"\rH", "bad"},
        /* a continuation line was given up in RFC 7230 */
        {OK "a: b\r\n c: d\r\n", "101 Switching Protocols|a=b|bad"},
        {OK "a: b\r\n c\r\n", "101 Switching Protocols|a=b|bad"},
        {OK "a: b\r\n\tc\r\n", "101 Switching Protocols|a=b|bad"},
        /* two heads in one are one head and what comes behind */
        {OK "\r\n" OK, "101 Switching Protocols|end+34"},
        {OK OK, "101 Switching Protocols|bad"},
    };
    expect(heads, ARRAY_LEN(heads));
}

static void nul_is_bad_everywhere(void **state)
{
    (void)state;
    static const char head[] = OK "Upgrade: websocket\r\nA: b\r\n\r\n";
    const size_t len = sizeof head - 1;
    fake_bytes said = {NULL, 0, 0};
    for (size_t at = 0; at < len; at++) {
        char copy[sizeof head];
        memcpy(copy, head, sizeof head);
        copy[at] = '\0';
        read_head(copy, len, &said);
        assert_true(said.len >= 3);
        assert_string_equal(said.at + said.len - 3, "bad");
    }
    fake_bytes_free(&said);
}

/* A head cut off anywhere says nothing yet, and never what the whole one does not say. */
static void a_part_of_a_head_says_a_part(void **state)
{
    (void)state;
    static const char head[] = OK "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    fake_bytes all = {NULL, 0, 0}, part = {NULL, 0, 0};
    read_head(head, sizeof head - 1, &all);
    assert_string_equal(all.at,
                        "101 Switching Protocols|Upgrade=websocket|Connection=Upgrade|end+0");
    for (size_t len = 0; len < sizeof head - 1; len++) {
        read_head(head, len, &part);
        assert_true(part.len < all.len);
        assert_memory_equal(part.at, all.at, part.len);
        assert_null(strstr(part.at, "bad"));
    }
    fake_bytes_free(&all);
    fake_bytes_free(&part);
}

/* 191 bytes of a line are kept; the rest of it is read and forgotten. */
static void long_lines_are_cut(void **state)
{
    (void)state;
    for (size_t value = 0; value <= 4000; value += value < 250 ? 1 : 250) {
        fake_bytes head = {NULL, 0, 0}, said = {NULL, 0, 0}, want = {NULL, 0, 0};
        fake_bytes_add(&head, OK "x: ", sizeof OK "x: " - 1);
        for (size_t i = 0; i < value; i++) fake_bytes_add(&head, i % 2 ? "b" : "a", 1);
        fake_note(&head, "\r\nnext: n\r\n\r\n");
        read_head(head.at, head.len, &said);
        fake_note(&want, "101 Switching Protocols|x=");
        for (size_t i = 0; i < value && i < 188; i++) fake_bytes_add(&want, i % 2 ? "b" : "a", 1);
        fake_note(&want, "|next=n|end+0");
        assert_string_equal(said.at, want.at);
        fake_bytes_free(&head);
        fake_bytes_free(&said);
        fake_bytes_free(&want);
    }
}

static void a_long_name_or_status_does_no_harm(void **state)
{
    (void)state;
    fake_bytes head = {NULL, 0, 0}, said = {NULL, 0, 0};
    char x[400];
    memset(x, 'x', sizeof x);
    fake_note(&head, "HTTP/1.1 404 %.400s\r\nA: b\r\n\r\n", x);
    read_head(head.at, head.len, &said);
    assert_int_equal(said.len, 4 + (191 - 13) + sizeof "|A=b|end+0" - 1);
    assert_string_equal(said.at + said.len - 10, "|A=b|end+0");
    /* the colon lies behind the cut: no header that could be read */
    fake_bytes_free(&head);
    fake_note(&head, OK "%.191s: b\r\n\r\n", x);
    read_head(head.at, head.len, &said);
    assert_string_equal(said.at, "101 Switching Protocols|bad");
    fake_bytes_free(&head);
    fake_note(&head, OK "%.190s: b\r\n\r\n", x); /* and here just before it */
    read_head(head.at, head.len, &said);
    assert_string_equal(said.at + said.len - 7, "=|end+0");
    fake_bytes_free(&head);
    fake_bytes_free(&said);
}

/* A head of `size` bytes in all, in one line or in many. */
static void fill_head(fake_bytes *head, size_t size, size_t line)
{
    fake_bytes_free(head);
    fake_bytes_add(head, OK, sizeof OK - 1);
    while (head->len + 2 < size) {
        size_t left = size - head->len - 2;
        size_t take = left < 2 * line ? left : line;
        assert_true(take > 4);
        fake_bytes_add(head, "a:", 2);
        for (size_t i = 4; i < take; i++) fake_bytes_add(head, "v", 1);
        fake_bytes_add(head, "\r\n", 2);
    }
    fake_bytes_add(head, "\r\n", 2);
    assert_int_equal(head->len, size);
}

static void a_head_has_8192_bytes_at_most(void **state)
{
    (void)state;
    static const size_t lines[] = {5, 20, 100, 8192};
    fake_bytes head = {NULL, 0, 0}, said = {NULL, 0, 0};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        for (size_t size = 8190; size <= 8195; size++) {
            fill_head(&head, size, lines[i]);
            read_head(head.at, head.len, &said);
            const char *end = size <= 8192 ? "|end+0" : "|bad";
            assert_string_equal(said.at + said.len - strlen(end), end);
        }
    }
    /* what comes behind the head does not count */
    fill_head(&head, 8192, 100);
    fake_bytes_add(&head, "frame", 5);
    read_head(head.at, head.len, &said);
    assert_string_equal(said.at + said.len - 6, "|end+5");
    fake_bytes_free(&head);
    fake_bytes_free(&said);
}

/* One line without an end stops at exactly that byte. */
static void an_endless_line_ends_at_8192(void **state)
{
    (void)state;
    struct psh_http http;
    psh_http_init(&http);
    for (int i = 0; i < 8192; i++) assert_int_equal(psh_http_step(&http, 'x'), PSH_HTTP_MORE);
    assert_int_equal(psh_http_step(&http, 'x'), PSH_HTTP_BAD);
    psh_http_init(&http);
    for (int i = 0; i < 8192; i++) assert_int_equal(psh_http_step(&http, 'x'), PSH_HTTP_MORE);
    assert_int_equal(psh_http_step(&http, '\n'), PSH_HTTP_BAD);
}

/* Any bytes at all: it ends, and what it says is terminated text within the line. */
static void noise_does_no_harm(void **state)
{
    (void)state;
    static const char likely[] = "HTTP/1.1 101 x\r\n\r\n:: \taZ";
    uint64_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        struct psh_http http;
        enum psh_http_result result = PSH_HTTP_MORE;
        psh_http_init(&http);
        size_t start = round % 2 ? sizeof OK - 1 : 0;
        for (size_t i = 0; i < start; i++) result = psh_http_step(&http, (unsigned char)OK[i]);
        for (int i = 0; i < 300 && result != PSH_HTTP_BAD && result != PSH_HTTP_END; i++) {
            uint64_t random = fake_next_random(&seed);
            unsigned char byte = random & 0x100 ? (unsigned char)(random & 0xFF)
                                                : (unsigned char)likely[random % 25];
            result = psh_http_step(&http, byte);
            if (result != PSH_HTTP_STATUS && result != PSH_HTTP_HEADER) continue;
            assert_true(http.value >= http.line && http.value < http.line + sizeof http.line);
            assert_true(strlen(http.value) < sizeof http.line);
            for (const char *c = http.line; *c; c++) assert_in_range(*c, 1, 0x7F);
        }
    }
}

/* ---- names and lists ------------------------------------------------------------------------ */

static void names_are_the_same_in_any_case(void **state)
{
    (void)state;
    assert_true(psh_http_same("Upgrade", "upgrade"));
    assert_true(psh_http_same("UPGRADE", "upgrade"));
    assert_true(psh_http_same("sec-WebSocket-accept", "Sec-Websocket-Accept"));
    assert_true(psh_http_same("", ""));
    assert_false(psh_http_same("Upgrade", "upgrad"));
    assert_false(psh_http_same("Upgrad", "upgrade"));
    assert_false(psh_http_same("", "u"));
    assert_false(psh_http_same("u", ""));
    assert_false(psh_http_same("upgrade ", "upgrade"));
    assert_false(psh_http_same("up_rade", "upgrade"));
    for (int a = 1; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            char one[2] = {(char)a, '\0'}, other[2] = {(char)b, '\0'};
            bool letter = a < 128 && b < 128 && (a | 32) >= 'a' && (a | 32) <= 'z';
            bool same = a == b || (letter && (a | 32) == (b | 32));
            assert_int_equal(psh_http_same(one, other), same);
        }
    }
}

static void lists_hold_whole_tokens(void **state)
{
    (void)state;
    static const struct { const char *list; bool found; } lists[] = {
        {"upgrade", true}, {"Upgrade", true}, {"UPGRADE", true},
        {"keep-alive, Upgrade", true}, {"Upgrade, keep-alive", true},
        {"keep-alive,Upgrade", true}, {"keep-alive ,\tUpgrade\t, x", true},
        {" upgrade ", true}, {"\tupgrade", true}, {",upgrade", true}, {", ,,upgrade,,", true},
        {"upgrade,upgrade", true}, {"upgraded, upgrade", true}, {"upgrad, upgrade", true},
        {"", false}, {" ", false}, {",", false}, {", ,", false},
        {"upgrad", false}, {"upgraded", false}, {"xupgrade", false}, {"up grade", false},
        {"keep-alive", false}, {"x upgrade", false}, {"upgrade;q=1", false},
        {"upgrade=1", false}, {"\"upgrade\"", false}, {"keep-alive;upgrade", false},
        {"no-upgrade", false}, {"upgrade-no", false}, {"u,pgrade", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (psh_http_lists(lists[i].list, "upgrade") != lists[i].found)
            fail_msg("\"%s\"", lists[i].list);
    assert_true(psh_http_lists("h2c, WebSocket", "websocket"));
}

/* ---- the request ---------------------------------------------------------------------------- */

static void a_request_is_written_as_it_must_be(void **state)
{
    (void)state;
    char at[128];
    struct psh_text text;
    psh_env_text(&text, at, sizeof at);
    psh_http_begin(&text, "GET", "/app/key");
    assert_string_equal(at, "GET /app/key");
    psh_env_add(&text, " HTTP/1.1\r\n");
    psh_http_header(&text, "Host", "example.org:6001");
    psh_http_header(&text, "Empty", "");
    assert_string_equal(at, "GET /app/key HTTP/1.1\r\nHost: example.org:6001\r\nEmpty: \r\n");
    assert_false(text.cut);
}

static void a_request_that_does_not_fit_says_so(void **state)
{
    (void)state;
    static const char want[] = "GET /a\r\nHost: b\r\n";
    for (size_t cap = 1; cap <= sizeof want; cap++) {
        char at[sizeof want];
        struct psh_text text;
        psh_env_text(&text, at, cap);
        psh_http_begin(&text, "GET", "/a\r\n");
        psh_http_header(&text, "Host", "b");
        assert_int_equal(text.cut, cap < sizeof want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_lines),
        cmocka_unit_test(headers),
        cmocka_unit_test(nul_is_bad_everywhere),
        cmocka_unit_test(a_part_of_a_head_says_a_part),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(a_long_name_or_status_does_no_harm),
        cmocka_unit_test(a_head_has_8192_bytes_at_most),
        cmocka_unit_test(an_endless_line_ends_at_8192),
        cmocka_unit_test(noise_does_no_harm),
        cmocka_unit_test(names_are_the_same_in_any_case),
        cmocka_unit_test(lists_hold_whole_tokens),
        cmocka_unit_test(a_request_is_written_as_it_must_be),
        cmocka_unit_test(a_request_that_does_not_fit_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
