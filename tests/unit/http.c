/* The http room: a response head, byte by byte, and the request's pieces. */
#include "room.h"

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

/* ---- where to ------------------------------------------------------------------------------- */

#define LABEL54 "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-"
#define LABEL63 LABEL54 "123456789"
#define HOST253 LABEL63 "." LABEL63 "." LABEL63 "." LABEL54 "1234567"

struct good_url {
    const char *text;
    bool tls;
    int port;
    const char *host, *authority, *target;
};

static void good_urls(void **state)
{
    (void)state;
    static const struct good_url urls[] = {
        {"http://a", false, 80, "a", "a", "/"},
        {"https://a", true, 443, "a", "a", "/"},
        {"HTTPS://Example.ORG/Auth", true, 443, "Example.ORG", "Example.ORG", "/Auth"},
        {"hTTp://a/", false, 80, "a", "a", "/"},
        {"http://example.org/pusher/auth", false, 80, "example.org", "example.org", "/pusher/auth"},
        {"http://example.org:8080/auth", false, 8080, "example.org", "example.org:8080", "/auth"},
        {"http://a:80/", false, 80, "a", "a", "/"},
        {"https://a:443/", true, 443, "a", "a", "/"},
        {"http://a:443/", false, 443, "a", "a:443", "/"},
        {"https://a:80/", true, 80, "a", "a:80", "/"},
        {"http://a:1", false, 1, "a", "a:1", "/"},
        {"http://a:9090/~me", false, 9090, "a", "a:9090", "/~me"},
        {"http://a:65535", false, 65535, "a", "a:65535", "/"},
        {"http://a:00080/", false, 80, "a", "a", "/"},
        {"http://a?x=1", false, 80, "a", "a", "/?x=1"},
        {"http://a/?x=1", false, 80, "a", "a", "/?x=1"},
        {"http://a:81?x", false, 81, "a", "a:81", "/?x"},
        {"http://a/b?c/d?e=http://x:y@z", false, 80, "a", "a", "/b?c/d?e=http://x:y@z"},
        {"http://a/@", false, 80, "a", "a", "/@"},
        {"http://a//b/../c/./%20%C3%A9;x=[]{}|\\^`\"<>", false, 80, "a", "a",
         "//b/../c/./%20%C3%A9;x=[]{}|\\^`\"<>"},
        {"http://127.0.0.1:3000/auth", false, 3000, "127.0.0.1", "127.0.0.1:3000", "/auth"},
        {"http://[::1]/auth", false, 80, "::1", "[::1]", "/auth"},
        {"https://[::1]:8443", true, 8443, "::1", "[::1]:8443", "/"},
        {"http://[2001:DB8::192.0.2.1]?x", false, 80, "2001:DB8::192.0.2.1",
         "[2001:DB8::192.0.2.1]", "/?x"},
        {"http://[0000:0000:0000:0000:0000:ffff:255.255.255.255]", false, 80,
         "0000:0000:0000:0000:0000:ffff:255.255.255.255",
         "[0000:0000:0000:0000:0000:ffff:255.255.255.255]", "/"},
        {"http://my_service-1.internal./", false, 80, "my_service-1.internal.",
         "my_service-1.internal.", "/"},
        {"http://" HOST253 ":65535/", false, 65535, HOST253, HOST253 ":65535", "/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_url url;
        bool memory = false;
        use_heap(&env, &heap);
        memset(&url, 0xA5, sizeof url);
        const char *wrong = psh_http_url(&env, urls[i].text, &url, &memory);
        if (wrong) fail_msg("%s: %s", urls[i].text, wrong);
        assert_false(memory);
        assert_int_equal(url.tls, urls[i].tls);
        assert_int_equal(url.port, urls[i].port);
        assert_string_equal(url.host, urls[i].host);
        assert_string_equal(url.authority, urls[i].authority);
        assert_string_equal(url.target, urls[i].target);
        psh_http_url_free(&env, &url);
        assert_null(url.host);
        psh_http_url_free(&env, &url);
        heap_is_empty(&heap);
    }
}

static void bad_urls(void **state)
{
    (void)state;
    static const struct { const char *text, *wrong; } urls[] = {
        {"", "must begin"}, {"http", "must begin"}, {"http:", "must begin"},
        {"http:/a", "must begin"}, {"https:/", "must begin"}, {"//a/b", "must begin"},
        {"/pusher/auth", "must begin"}, {"a.org/auth", "must begin"}, {"ws://a/", "must begin"},
        {"wss://a/", "must begin"}, {"httpx://a/", "must begin"}, {"ftp://a/", "must begin"},
        {" http://a/", "must begin"}, {"http;//a", "must begin"}, {"https//a", "must begin"},
        {"http://", "no host"}, {"https://", "no host"}, {"http:///auth", "no host"},
        {"http://?x", "no host"}, {"http://:80/", "no host"}, {"http://::1/", "no host"},
        {"http://a b/", "a space"}, {"http://a/b c", "a space"}, {"http://a/ ", "a space"},
        {"http://a/\t", "a space"}, {"http://a/\r\nHost: b", "a space"}, {"http://a\n", "a space"},
        {"http://a/\x7F", "a space"}, {"http://a/\x01", "a space"},
        {"http://caf\xC3\xA9.fr/", "a space"}, {"http://a/\xC3\xA9", "a space"},
        {"http://a/#top", "a fragment"}, {"http://a#", "a fragment"},
        {"http://a?x#y", "a fragment"},
        {"http://me@a/", "a user"}, {"http://me:secret@a/", "a user"}, {"http://@a/", "a user"},
        {"http://good.org@bad.org", "a user"}, {"http://me@[::1]/", "a user"},
        {"http://a:/", "port"}, {"http://a:0/", "port"}, {"http://a:65536/", "port"},
        {"http://a:4294967376/", "port"}, {"http://a:99999999999999999999/", "port"},
        {"http://a:80x/", "port"}, {"http://a:-1/", "port"}, {"http://a:+1/", "port"},
        {"http://a:80:80/", "port"}, {"http://a:b/", "port"}, {"http://[::1]:/", "port"},
        {"http://[::1]:x", "port"}, {"http://a::1/", "port"},
        {"http://a%20b/", "no host"}, {"http://a\\b/", "no host"}, {"http://a,b/", "no host"},
        {"http://a;b/", "no host"}, {"http://a[/", "no host"}, {"http://*.a/", "no host"},
        {"http://[]/", "IPv6"}, {"http://[/", "IPv6"}, {"http://[::1/", "IPv6"},
        {"http://[a]/", "IPv6"}, {"http://[127.0.0.1]/", "IPv6"}, {"http://[::g]/", "IPv6"},
        {"http://[fe80::1%25eth0]/", "IPv6"}, {"http://[::1/]", "IPv6"},
        {"http://[0000:0000:0000:0000:0000:0000:255.255.255.2555]/", "IPv6"},
        {"http://[::1]x/", "no host"}, {"http://[::1][::1]/", "no host"},
        {"http://x[::1]/", "no host"},
        {"http://" HOST253 "x/", "no host"},
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_url url;
        bool memory = false;
        use_heap(&env, &heap);
        memset(&url, 0xA5, sizeof url);
        const char *wrong = psh_http_url(&env, urls[i].text, &url, &memory);
        if (!wrong || !strstr(wrong, urls[i].wrong))
            fail_msg("%s: %s, not %s", urls[i].text, wrong ? wrong : "good", urls[i].wrong);
        assert_false(memory);
        assert_int_equal(heap.calls, 0);
        assert_null(url.host);
        psh_http_url_free(&env, &url);
    }
}

static void a_url_has_2048_bytes_at_most(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_url url;
    bool memory = false;
    char text[2050];
    use_heap(&env, &heap);
    for (size_t len = 2047; len <= 2049; len++) {
        memset(text, 'x', len);
        memcpy(text, "http://a/", 9);
        text[len] = '\0';
        const char *wrong = psh_http_url(&env, text, &url, &memory);
        assert_int_equal(wrong == NULL, len <= 2048);
        if (!wrong) assert_int_equal(strlen(url.target), len - 8);
        else assert_non_null(strstr(wrong, "over 2048 bytes"));
        psh_http_url_free(&env, &url);
    }
    heap_is_empty(&heap);
}

static void a_url_without_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 4; n++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_url url;
        bool memory = false;
        use_heap(&env, &heap);
        heap.fail_at = n;
        assert_null(psh_http_url(&env, "http://a:81/b", &url, &memory));
        assert_int_equal(memory, n <= 3);
        if (memory) heap_is_empty(&heap);
        assert_int_equal(url.host != NULL, !memory);
        psh_http_url_free(&env, &url);
        heap_is_empty(&heap);
    }
}

/* ---- growing requests ----------------------------------------------------------------------- */

static struct psh_buf secret_buf(size_t max)
{
    struct psh_buf buf = {NULL, 0, 0, 0, true};
    buf.max = max;
    return buf;
}

static void holds(const struct psh_buf *buf, const char *text)
{
    if (buf->len != strlen(text) || (buf->len && memcmp(buf->data, text, buf->len) != 0))
        fail_msg("is:   %.*s\nwant: %s", (int)buf->len, buf->len ? (const char *)buf->data : "",
                 text);
}

static void forms_are_written_as_in_pusher_js(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_buf buf = secret_buf(1000);
    use_heap(&env, &heap);
    assert_true(psh_http_form(&env, &buf, "socket_id", "123.456", 7));
    holds(&buf, "socket_id=123.456");
    assert_true(psh_http_form(&env, &buf, "channel_name", "private-a;b@c,d=e_f", 19));
    holds(&buf, "socket_id=123.456&channel_name=private-a%3Bb%40c%2Cd%3De_f");
    buf.len = 0;
    assert_true(psh_http_form(&env, &buf, "a b[]", "1&2=3+4%5", 9));
    assert_true(psh_http_form(&env, &buf, "", "", 0));
    assert_true(psh_http_form(&env, &buf, "e", NULL, 0));
    assert_true(psh_http_form(&env, &buf, "~!*'()", "\xC3\xA9\xF0\x9F\x8E\xB8\0\r\n", 9));
    holds(&buf, "a%20b%5B%5D=1%262%3D3%2B4%255&=&e=&~!*'()=%C3%A9%F0%9F%8E%B8%00%0D%0A");
    psh_env_release(&env, &buf);
    heap_is_empty(&heap);
}

static void all_bytes_in_a_form(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    for (int byte = 0; byte < 256; byte++) {
        char value = (char)byte, name[2] = {value, '\0'}, want[4], all[16];
        struct psh_buf buf = secret_buf(100);
        bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                     (byte >= 'a' && byte <= 'z') || byte == '-' || byte == '_' || byte == '.' ||
                     byte == '!' || byte == '~' || byte == '*' || byte == '\'' || byte == '(' ||
                     byte == ')';
        snprintf(want, sizeof want, plain ? "%c" : "%%%02X", (unsigned)byte);
        snprintf(all, sizeof all, "%s=%s", byte ? want : "", want);
        assert_true(psh_http_form(&env, &buf, name, &value, 1));
        holds(&buf, all);
        psh_env_release(&env, &buf);
    }
    heap_is_empty(&heap);
}

static void a_form_is_added_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char all[] = "a=%20b&%2Fc=d%2F";
    for (size_t max = 0; max <= sizeof all; max++) {
        struct psh_env env;
        fake_heap heap;
        struct psh_buf buf = secret_buf(max);
        use_heap(&env, &heap);
        bool first = psh_http_form(&env, &buf, "a", " b", 2);
        assert_int_equal(first, max >= 6);
        holds(&buf, first ? "a=%20b" : "");
        if (first) {
            bool second = psh_http_form(&env, &buf, "/c", "d/", 2);
            assert_int_equal(second, max >= sizeof all - 1);
            holds(&buf, second ? all : "a=%20b");
        }
        psh_env_release(&env, &buf);
        heap_is_empty(&heap);
    }
    struct psh_env env;
    fake_heap heap;
    struct psh_buf buf = secret_buf(1000);
    use_heap(&env, &heap);
    heap.fail_at = 1;
    assert_false(psh_http_form(&env, &buf, "a", "b", 1));
    assert_true(psh_http_form(&env, &buf, "a", "b", 1));
    heap.fail_at = 3;
    assert_false(psh_http_form(&env, &buf, "a", "b", 1));
    holds(&buf, "a=b");
    psh_env_release(&env, &buf);
    heap_is_empty(&heap);
}

static void fields_of_the_users(void **state)
{
    (void)state;
    static const struct { const char *name, *value, *line; } fields[] = {
        {"Authorization", "Bearer abc.def-123", "Authorization: Bearer abc.def-123\r\n"},
        {"X-CSRF-Token", "  spaces\taround \t ", "X-CSRF-Token: spaces\taround\r\n"},
        {"a", "", "a: \r\n"}, {"a", " \t ", "a: \r\n"},
        {"!#$%&'*+-.^_`|~0aZ", "x", "!#$%&'*+-.^_`|~0aZ: x\r\n"},
        {"X", "caf\xC3\xA9 \xFF", "X: caf\xC3\xA9 \xFF\r\n"},
        {"X", "a: b", "X: a: b\r\n"},
        {"Cookie", "a=b; c=d", "Cookie: a=b; c=d\r\n"},
        {"Accept", "*/*", "Accept: */*\r\n"},
        {"Hosts", "x", "Hosts: x\r\n"},
        {"", "x", NULL}, {" ", "x", NULL}, {"a b", "x", NULL}, {"a:", "x", NULL},
        {" a", "x", NULL}, {"a ", "x", NULL}, {"a\r\nb", "x", NULL}, {"caf\xC3\xA9", "x", NULL},
        {"a", "x\r\nb: c", NULL}, {"a", "x\n", NULL}, {"a", "\r", NULL},
        {"a", "x\r\n\r\nPOST /", NULL},
        {"a", "x\x7F", NULL}, {"a", "\x1Bx", NULL}, {"a", "\x0Bx", NULL},
        {"Host", "x", NULL}, {"host", "x", NULL}, {"HOST", "x", NULL},
        {"Content-Length", "0", NULL}, {"content-LENGTH", "0", NULL},
        {"Content-Type", "application/json", NULL}, {"Transfer-Encoding", "chunked", NULL},
        {"Connection", "close", NULL}, {"Keep-Alive", "x", NULL}, {"Proxy-Connection", "x", NULL},
        {"TE", "trailers", NULL}, {"Trailer", "x", NULL}, {"Upgrade", "h2c", NULL},
        {"Expect", "100-continue", NULL}, {"Accept-Encoding", "gzip", NULL},
        {"Content-Encoding", "gzip", NULL},
    };
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct psh_buf buf = secret_buf(100);
        bool added = psh_http_field(&env, &buf, fields[i].name, fields[i].value);
        if (added != (fields[i].line != NULL)) fail_msg("%s: %s", fields[i].name, fields[i].value);
        holds(&buf, added ? fields[i].line : "");
        psh_env_release(&env, &buf);
    }
    heap_is_empty(&heap);
}

/* Any byte anywhere in a name or a value: refused, or one line of which a reader makes the same
   name and value again. */
static void no_byte_makes_a_second_line(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    use_heap(&env, &heap);
    for (int byte = 1; byte < 256; byte++) {
        for (size_t at = 0; at < 8; at++) {
            char name[] = "name", value[] = "a b";
            struct psh_buf buf = secret_buf(100);
            bool in_name = at < 4;
            if (in_name) name[at] = (char)byte;
            else if (at < 7) value[at - 4] = (char)byte;
            bool added = psh_http_field(&env, &buf, name, value);
            bool token = byte > ' ' && byte < 0x7F && !strchr("\"(),/:;<=>?@[\\]{}", byte);
            bool visible = byte == '\t' || (byte >= ' ' && byte != 0x7F);
            assert_int_equal(added, in_name ? token : visible || at == 7);
            size_t ends = 0;
            for (size_t i = 0; i < buf.len; i++) ends += buf.data[i] == '\n' || buf.data[i] == '\r';
            assert_int_equal(ends, added ? 2 : 0);
            if (added) {
                assert_memory_equal(buf.data, name, 4);
                assert_memory_equal(buf.data + 4, ": ", 2);
                assert_memory_equal(buf.data + buf.len - 2, "\r\n", 2);
            }
            psh_env_release(&env, &buf);
        }
    }
    heap_is_empty(&heap);
}

static void a_field_is_added_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t max = 4; max <= 20; max++) {
        for (uint64_t fail = 0; fail <= 6; fail++) {
            struct psh_env env;
            fake_heap heap;
            struct psh_buf buf = secret_buf(max);
            use_heap(&env, &heap);
            assert_true(psh_http_add(&env, &buf, "1234", 4));
            heap.fail_at = fail ? heap.calls + fail : 0;
            bool added = psh_http_field(&env, &buf, "name", "value");
            if (max < 17) assert_false(added);
            if (max >= 17 && !heap.failed) assert_true(added);
            if (heap.failed) assert_false(added);
            holds(&buf, added ? "1234name: value\r\n" : "1234");
            psh_env_release(&env, &buf);
            heap_is_empty(&heap);
        }
    }
}

#define POST                                                                                       \
    "POST /pusher/auth?x=1 HTTP/1.1\r\n"                                                           \
    "Host: [::1]:8443\r\n"                                                                         \
    "Content-Type: application/x-www-form-urlencoded\r\n"                                          \
    "Accept: application/json\r\n"                                                                 \
    "Connection: keep-alive\r\n"                                                                   \
    "Content-Length: 13\r\n"                                                                       \
    "Authorization: Bearer x\r\n"                                                                  \
    "\r\n"                                                                                         \
    "socket_id=1.2"

/* Sees each block that is given back. */
static void free_wiped(void *memory, void *user_data)
{
    const fake_block *block = (const fake_block *)memory - 1;
    const unsigned char *at = (const unsigned char *)memory;
    for (size_t i = 0; i < block->size; i++) assert_int_equal(at[i], 0);
    fake_heap_free(memory, user_data);
}

static void a_post_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_url url;
    struct psh_buf fields = secret_buf(1000), body = secret_buf(1000);
    bool memory = false;
    use_heap(&env, &heap);
    assert_null(psh_http_url(&env, "https://[::1]:8443/pusher/auth?x=1", &url, &memory));
    assert_true(psh_http_field(&env, &fields, "Authorization", "Bearer x"));
    assert_true(psh_http_form(&env, &body, "socket_id", "1.2", 3));
    void (*free_fn)(void *, void *) = env.allocator.free_fn;
    env.allocator.free_fn = free_wiped;
    for (size_t max = 0; max < sizeof POST + 5; max++) {
        struct psh_buf out = secret_buf(max);
        bool written = psh_http_post(&env, &out, &url, &fields, &body);
        assert_int_equal(written, max >= sizeof POST - 1);
        holds(&out, written ? POST : "");
        psh_env_release(&env, &out);
    }
    bool written = false;
    for (uint64_t n = 1; !written; n++) {
        struct psh_buf out = secret_buf(1000);
        assert_true(psh_http_add(&env, &out, "before", 6));
        heap.failed = 0;
        heap.fail_at = heap.calls + n;
        written = psh_http_post(&env, &out, &url, &fields, &body);
        assert_int_equal(written, heap.failed == 0);
        holds(&out, written ? "before" POST : "before");
        assert_true(written || n < 20);
        psh_env_release(&env, &out);
    }
    env.allocator.free_fn = free_fn;
    psh_env_release(&env, &fields);
    psh_env_release(&env, &body);
    psh_http_url_free(&env, &url);
    heap_is_empty(&heap);
}

static void a_post_of_nothing(void **state)
{
    (void)state;
    struct psh_env env;
    fake_heap heap;
    struct psh_url url;
    struct psh_buf nothing = secret_buf(0), out = secret_buf(1000);
    bool memory = false;
    use_heap(&env, &heap);
    assert_null(psh_http_url(&env, "http://a", &url, &memory));
    assert_true(psh_http_post(&env, &out, &url, &nothing, &nothing));
    holds(&out, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                "Accept: application/json\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    psh_env_release(&env, &out);
    psh_http_url_free(&env, &url);
    heap_is_empty(&heap);
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
        cmocka_unit_test(good_urls),
        cmocka_unit_test(bad_urls),
        cmocka_unit_test(a_url_has_2048_bytes_at_most),
        cmocka_unit_test(a_url_without_memory),
        cmocka_unit_test(forms_are_written_as_in_pusher_js),
        cmocka_unit_test(all_bytes_in_a_form),
        cmocka_unit_test(a_form_is_added_whole_or_not_at_all),
        cmocka_unit_test(fields_of_the_users),
        cmocka_unit_test(no_byte_makes_a_second_line),
        cmocka_unit_test(a_field_is_added_whole_or_not_at_all),
        cmocka_unit_test(a_post_is_written_whole_or_not_at_all),
        cmocka_unit_test(a_post_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
