/* The http room: whole answers to a POST, in every framing, in any cut, and bad ones. */
#include "room.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define SIZED(n) OK "Content-Length: " #n "\r\n\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

/* What is said of bytes that come in these pieces: "200 keep [body] +3" when 3 bytes were left
   over; "200 [body] end" when the end of the stream ended it; "bad: why"; "big"; "memory". */
struct reading {
    struct psh_env env;
    fake_heap heap;
    struct psh_reply reply;
    enum psh_reply_result result;
    size_t used;
    fake_bytes said;
};

static void begin(struct reading *r, size_t max)
{
    memset(r, 0, sizeof *r);
    use_heap(&r->env, &r->heap);
    memset(&r->reply, 0xA5, sizeof r->reply);
    psh_http_reply_init(&r->reply, max);
}

static void feed(struct reading *r, const char *bytes, size_t len)
{
    if (r->result != PSH_REPLY_MORE) return;
    unsigned char *piece = (unsigned char *)malloc(len ? len : 1); /* one byte too far is seen */
    size_t used = SIZE_MAX;
    assert_non_null(piece);
    memcpy(piece, bytes, len);
    r->result = psh_http_reply(&r->reply, &r->env, piece, len, &used);
    assert_true(used <= len);
    if (r->result == PSH_REPLY_MORE) assert_int_equal(used, len);
    r->used += used;
    free(piece);
}

static const char *finish(struct reading *r, size_t len)
{
    const struct psh_reply *reply = &r->reply;
    bool end = r->result == PSH_REPLY_MORE;
    if (end) r->result = psh_http_reply_eof(&r->reply);
    fake_bytes_add(&r->said, "", 0);
    switch (r->result) {
    case PSH_REPLY_DONE:
        fake_note(&r->said, "%d%s ", reply->head.status, reply->keep ? " keep" : "");
        if (reply->retry_after_s) fake_note(&r->said, "after %u ", (unsigned)reply->retry_after_s);
        fake_bytes_add(&r->said, "[", 1);
        fake_bytes_add(&r->said, reply->body.data, reply->body.len);
        fake_bytes_add(&r->said, "]", 1);
        if (end) fake_note(&r->said, " end");
        if (len > r->used) fake_note(&r->said, " +%zu", len - r->used);
        if (reply->body.len) assert_int_equal(reply->body.data[reply->body.len], '\0');
        break;
    case PSH_REPLY_BAD: fake_note(&r->said, "bad: %s", reply->wrong); break;
    case PSH_REPLY_BIG: fake_note(&r->said, "big"); break;
    case PSH_REPLY_MEMORY: fake_note(&r->said, "memory"); break;
    default: fail_msg("an answer that is neither whole nor broken");
    }
    psh_env_release(&r->env, &r->reply.body);
    heap_is_empty(&r->heap);
    return r->said.at;
}

static void expect_said(const char *text, const char *said, const char *want, const char *how)
{
    if (strcmp(said, want) != 0) fail_msg("%s\n%s\nsaid: %s\nwant: %s", text, how, said, want);
}

/* Whole, byte by byte, and cut in two at every place: the same is said. */
static void expect_bytes(const char *text, size_t len, size_t max, const char *want)
{
    struct reading r;
    begin(&r, max);
    feed(&r, text, len);
    expect_said(text, finish(&r, len), want, "whole");
    fake_bytes_free(&r.said);
    begin(&r, max);
    for (size_t i = 0; i < len; i++) feed(&r, text + i, 1);
    expect_said(text, finish(&r, len), want, "byte by byte");
    fake_bytes_free(&r.said);
    for (size_t cut = 0; cut <= len; cut++) {
        begin(&r, max);
        feed(&r, text, cut);
        feed(&r, text + cut, len - cut);
        expect_said(text, finish(&r, len), want, "cut in two");
        fake_bytes_free(&r.said);
    }
}

static void add(fake_bytes *text, const char *string)
{
    fake_bytes_add(text, string, strlen(string));
}

static void add_many(fake_bytes *text, char c, size_t count)
{
    while (count--) fake_bytes_add(text, &c, 1);
}

struct answer {
    const char *text, *said;
};

static void expect(const struct answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_bytes(answers[i].text, strlen(answers[i].text), 64, answers[i].said);
}

/* ---- good answers ---------------------------------------------------------------------------- */

static void bodies_of_a_known_length(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {SIZED(5) "hello", "200 keep [hello]"},
        {SIZED(5) "hello, world", "200 keep [hello] +7"},
        {SIZED(0), "200 keep []"},
        {SIZED(0) "x", "200 keep [] +1"},
        {SIZED(5) SIZED(5) "hello", "200 keep [HTTP/] +38"},
        {SIZED(0005) "hello", "200 keep [hello]"},
        {OK "content-LENGTH:3\r\n\r\nabc", "200 keep [abc]"},
        {OK "Content-Length:   3 \t \r\n\r\nabc", "200 keep [abc]"},
        {OK "Content-Length: 3\n\nabc", "200 keep [abc]"},
        {OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "200 keep [abc]"},
        {OK "Content-Length: 3\r\nContent-Length: 03\r\n\r\nabc", "200 keep [abc]"},
        {OK "X-Content-Length: 9\r\nContent-Length: 3\r\nServer: x\r\n\r\nabc", "200 keep [abc]"},
        {OK "Content-Encoding: Identity\r\nContent-Length: 1\r\n\r\na", "200 keep [a]"},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", "403 keep [{}]"},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "302 keep []"},
        {"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", "999 keep []"},
        {"HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void bodies_in_chunks(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {CHUNKED "5\r\nhello\r\n0\r\n\r\n", "200 keep [hello]"},
        {CHUNKED "5\r\nhello\r\n0\r\n\r\nHTTP", "200 keep [hello] +4"},
        {CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "200 keep [hello]"},
        {CHUNKED "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", "200 keep [hi]"},
        {CHUNKED "0\r\n\r\n", "200 keep []"},
        {CHUNKED "0000\r\n\r\n\r\n", "200 keep [] +2"},
        {CHUNKED "5\r\nhello\r\n0\r\nA: b\n\n", "200 keep [hello]"},
        {CHUNKED "0a\r\n0123456789\r\n0\r\n\r\n", "200 keep [0123456789]"},
        {CHUNKED "A\r\n0123456789\r\n0\r\n\r\n", "200 keep [0123456789]"},
        {CHUNKED "1f\r\n0123456789abcdef0123456789ABCDE\r\n0\r\n\r\n",
         "200 keep [0123456789abcdef0123456789ABCDE]"},
        {CHUNKED "0000000000000002\r\n\r\n\r\n0\r\n\r\n", "200 keep [\r\n]"},
        {CHUNKED "2;a\r\nhi\r\n0;b=c;d=\"e f\"\r\n\r\n", "200 keep [hi]"},
        {CHUNKED "2  \t\r\nhi\r\n0 ; 5 \xC3\xA9\r\n\r\n", "200 keep [hi]"},
        {CHUNKED "2;\r\nhi\r\n0;;\r\n\n", "200 keep [hi]"},
        {CHUNKED "2\r\nhi\r\n0\r\nExpires: never\r\nContent-Length: 9\r\n"
                 "Transfer-Encoding: x\r\nConnection: close\r\n\r\n+", "200 keep [hi] +1"},
        {OK "transfer-ENCODING:CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n", "200 keep [x]"},
        {OK "Transfer-Encoding: \tchunked \r\n\r\n1\r\nx\r\n0\r\n\r\n", "200 keep [x]"},
        {"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
         "500 keep [x]"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void bodies_up_to_the_end_of_the_stream(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {OK "\r\nhello", "200 [hello] end"},
        {OK "\r\n", "200 [] end"},
        {"HTTP/1.0 200 OK\r\n\r\n\r\n\r\n", "200 [\r\n\r\n] end"},
        {OK "Connection: keep-alive\r\n\r\nhello", "200 [hello] end"},
        {"HTTP/1.1 404 No\n\n404", "404 [404] end"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void answers_without_a_body(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {"HTTP/1.1 204 No Content\r\n\r\nHTTP", "204 keep [] +4"},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "204 keep []"},
        {"HTTP/1.1 304 Not Modified\r\n\r\n", "304 keep []"},
        {"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n", "204 []"},
        /* who announces a body may send it: no other answer can be read behind it */
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", "304 []"},
        {"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "204 [] +5"},
        {"HTTP/1.1 204 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "bad: both Content-Length and Transfer-Encoding"},
        {"HTTP/1.1 205 Reset\r\nContent-Length: 1\r\n\r\nx", "205 keep [x]"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void interim_answers_are_skipped(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {"HTTP/1.1 100 Continue\r\n\r\n" SIZED(2) "hi", "200 keep [hi]"},
        {"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 100 C\r\n\r\n" SIZED(2) "hi",
         "200 keep [hi]"},
        {"HTTP/1.0 102 P\n\n" CHUNKED "0\r\n\r\n", "200 keep []"},
        /* what its head says is not said of the answer */
        {"HTTP/1.1 100 C\r\nConnection: close\r\nRetry-After: 9\r\n\r\n" SIZED(0), "200 keep []"},
        {"HTTP/1.1 100 C\r\nContent-Length: 9\r\n\r\n" SIZED(2) "hi", "200 keep [hi]"},
        {"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n" SIZED(2) "hi", "200 keep [hi]"},
        {"HTTP/1.0 100 C\r\nConnection: keep-alive\r\n\r\nHTTP/1.0 200 OK\r\n"
         "Content-Length: 0\r\n\r\n", "200 []"},
        {"HTTP/1.1 100 C\r\nContent-Length: x\r\n\r\n" SIZED(0),
         "bad: a Content-Length that is no number"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n",
         "bad: a change of protocol that was not asked for"},
        {"HTTP/1.1 100 C\r\n\r\n", "bad: an answer that ends in the middle"},
        {"HTTP/1.1 100 C\r\n\r\nhello", "bad: an answer that ends in the middle"},
        {"HTTP/1.1 100 C\r\n\r\nhello\r\n", "bad: something that is not HTTP/1.1"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void when_the_stream_may_be_used_again(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {OK "Connection: close\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {OK "connection: CLOSE\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {OK "Connection: x, close\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {OK "Connection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {OK "Connection: keep-alive, close\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {OK "Connection: closed\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200 []"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200 []"},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", "200 [] end"},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n"
         "Content-Length: 0\r\n\r\n", "200 []"},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
         "1\r\nx\r\n0\r\n\r\n", "200 [x]"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void retry_after_in_seconds(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        {OK "Retry-After: 120\r\nContent-Length: 0\r\n\r\n", "200 keep after 120 []"},
        {OK "retry-after:007\r\nContent-Length: 0\r\n\r\n", "200 keep after 7 []"},
        {OK "Retry-After: 4294967290\r\nContent-Length: 0\r\n\r\n",
         "200 keep after 4294967290 []"},
        {OK "Retry-After: 4294967295\r\nContent-Length: 0\r\n\r\n",
         "200 keep after 4294967295 []"},
        {OK "Retry-After: 4294967296\r\nContent-Length: 0\r\n\r\n",
         "200 keep after 4294967295 []"},
        {OK "Retry-After: 99999999999999999999999\r\nContent-Length: 0\r\n\r\n",
         "200 keep after 4294967295 []"},
        {OK "Retry-After: 0\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Retry-After:\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Retry-After: -5\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Retry-After: 5s\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Retry-After: 1.5\r\nContent-Length: 0\r\n\r\n", "200 keep []"},
        {OK "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
         "200 keep []"},
    };
    expect(answers, ARRAY_LEN(answers));
}

/* ---- bad answers ----------------------------------------------------------------------------- */

/* Two readers who disagree where an answer ends let a third one write the next answer. */
static void nothing_can_be_smuggled(void **state)
{
    (void)state;
    static const char both[] = "bad: both Content-Length and Transfer-Encoding";
    static const char two[] = "bad: two different values of Content-Length";
    static const char number[] = "bad: a Content-Length that is no number";
    static const char coding[] = "bad: a Transfer-Encoding other than chunked";
    static const char name[] = "bad: a header with a wrong name";
    const struct answer answers[] = {
        {OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", both},
        {OK "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", both},
        {OK "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", both},
        {OK "Content-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n", both},
        {OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", two},
        {OK "Content-Length: 0\r\nContent-Length: 1\r\n\r\n", two},
        {OK "Content-Length: 5, 5\r\n\r\nhello", number},
        {OK "Content-Length: 5,6\r\n\r\nhello!", number},
        {OK "Content-Length: +5\r\n\r\nhello", number},
        {OK "Content-Length: -5\r\n\r\nhello", number},
        {OK "Content-Length: 0x5\r\n\r\nhello", number},
        {OK "Content-Length: 5 5\r\n\r\nhello", number},
        {OK "Content-Length: 5;\r\n\r\nhello", number},
        {OK "Content-Length: 5\x0B\r\n\r\nhello", number},
        {OK "Content-Length: 5\xA0\r\n\r\nhello", number},
        {OK "Content-Length: 5e0\r\n\r\nhello", number},
        {OK "Content-Length: five\r\n\r\nhello", number},
        {OK "Content-Length:\r\n\r\nhello", number},
        {OK "Content-Length: \"5\"\r\n\r\nhello", number},
        {OK "Transfer-Encoding: gzip\r\n\r\n", coding},
        {OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", coding},
        {OK "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", coding},
        {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", coding},
        {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", coding},
        {OK "Transfer-Encoding: identity\r\n\r\n", coding},
        {OK "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", coding},
        {OK "Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n", coding},
        {OK "Transfer-Encoding: \x0B" "chunked\r\n\r\n0\r\n\r\n", coding},
        {OK "Transfer-Encoding:\r\n\r\n", coding},
        {OK "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", name},
        {OK "Content-Length : 5\r\n\r\nhello", name},
        {OK "Content-Length\t: 5\r\n\r\nhello", name},
        {OK "\tContent-Length: 5\r\n\r\nhello", name},
        {OK "Content Length: 5\r\n\r\nhello", name},
        {OK "X: y\r\n\tContent-Length: 5\r\n\r\nhello", name},
        {OK "X\xC3\xA9: y\r\n\r\n", name},
        {OK "X@: y\r\n\r\n", name},
        {OK " Content-Length: 5\r\n\r\nhello", "bad: something that is not HTTP/1.1"},
        {OK "X: y\rContent-Length: 5\r\n\r\n", "bad: something that is not HTTP/1.1"},
        {OK "Content-Length: 5\r\r\n\r\nhello", "bad: something that is not HTTP/1.1"},
        {OK "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
         "bad: a Content-Encoding that was not asked for"},
    };
    expect(answers, ARRAY_LEN(answers));
}

static void bad_heads(void **state)
{
    (void)state;
    static const char other[] = "bad: something that is not HTTP/1.1";
    static const char middle[] = "bad: an answer that ends in the middle";
    const struct answer answers[] = {
        {"", "bad: nothing at all"},
        {"H", middle},
        {"HTTP/1.1 200 OK\r\n", middle},
        {"HTTP/1.1 200 OK\r\n\r", middle},
        {SIZED(5), middle},
        {SIZED(5) "hell", middle},
        {"\r\n" SIZED(0), other},
        {"HTTP/2 200\r\n\r\n", other},
        {"HTTP/1.x 200 OK\r\n\r\n", other},
        {"HTTP/1.  200 OK\r\n\r\n", other},
        {"HTTP/1.1 20 OK\r\n\r\n", other},
        {"HTTP/1.1 099 OK\r\n\r\n", other},
        {"ICY 200 OK\r\n\r\n", other},
        {"{\"auth\":\"x\"}\n", other},
        {"\x15\x03\x01\n", other},
        {OK "no colon\r\n\r\n", other},
        {OK ": y\r\n\r\n", other},
    };
    expect(answers, ARRAY_LEN(answers));
    expect_bytes(OK "a\0b: c\r\n\r\n", sizeof OK "a\0b: c\r\n\r\n" - 1, 64, other);
}

static void bad_chunks(void **state)
{
    (void)state;
    static const char size[] = "bad: a chunk with a wrong size";
    static const char length[] = "bad: a chunk of another length than it said";
    static const char middle[] = "bad: an answer that ends in the middle";
    const struct answer answers[] = {
        {CHUNKED, middle},
        {CHUNKED "5", middle},
        {CHUNKED "5\r\n", middle},
        {CHUNKED "5\r\nhello", middle},
        {CHUNKED "5\r\nhello\r\n", middle},
        {CHUNKED "5\r\nhello\r\n0\r\n", middle},
        {CHUNKED "5\r\nhello\r\n0\r\nA: b\r\n", middle},
        {CHUNKED "\r\n", size},
        {CHUNKED "\n", size},
        {CHUNKED "5\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "5;x\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "5\r\nhello\r\n0\n\r\n", size},
        {CHUNKED "5\r\nhello\n0\r\n\r\n", length},
        {CHUNKED ";x\r\n", size},
        {CHUNKED " 5\r\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "x\r\n", size},
        {CHUNKED "g\r\n", size},
        {CHUNKED "G\r\n", size},
        {CHUNKED "/\r\n", size},
        {CHUNKED ":\r\n", size},
        {CHUNKED "@\r\n", size},
        {CHUNKED "`\r\n", size},
        {CHUNKED "-5\r\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "+5\r\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "5 5\r\nhello\r\n0\r\n\r\n", size},
        {CHUNKED "5h\r\n", size},
        {CHUNKED "5\rhello", size},
        {CHUNKED "5\r\r\nhello", size},
        {CHUNKED "5;x\ry\r\n", size},
        {CHUNKED "5;x\x01\r\n", size},
        {CHUNKED "5;\x7F\r\n", size},
        {CHUNKED "5 \x7F\r\n", size},
        {CHUNKED "00000000000000005\r\nhello\r\n0\r\n\r\n", size}, /* 17 digits */
        {CHUNKED "5\r\nhello!\r\n0\r\n\r\n", length},
        {CHUNKED "5\r\nhello0\r\n\r\n", length},
        {CHUNKED "5\r\nhello\r0\r\n\r\n", length},
        {CHUNKED "5\r\nhello\r\r\n0\r\n\r\n", length},
        {CHUNKED "5\r\nhell\r\n0\r\n\r\n", length},
        {CHUNKED "5\r\nhello\r\n\r\n0\r\n\r\n", size},
        {CHUNKED "5\r\nhello\r\n0\r\nno colon\r\n\r\n", "bad: something that is not HTTP/1.1"},
        {CHUNKED "0\r\n continued: x\r\n\r\n", "bad: something that is not HTTP/1.1"},
    };
    expect(answers, ARRAY_LEN(answers));
    static const char nul[] = CHUNKED "5;\0\r\nhello";
    expect_bytes(nul, sizeof nul - 1, 64, size);
}

/* The head keeps 191 bytes of a line: what is cut must not pass for something else. */
static void a_number_that_lost_its_end_is_none(void **state)
{
    (void)state;
    static const struct { const char *name, *value, *said; } lines[] = {
        {"Content-Length: ", "12345", "bad: a Content-Length that is no number"},
        {"Transfer-Encoding: ", "chunked, gzip", "bad: a Transfer-Encoding other than chunked"},
        {"Content-Encoding: ", "identity, gzip", "bad: a Content-Encoding that was not asked for"},
        {"Connection: ", "keep-alive, x, close", "200 []"},
        {"Retry-After: ", "12345", "200 keep []"},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        size_t len = strlen(lines[i].name) + strlen(lines[i].value);
        for (size_t pad = 192 - len; pad < 192; pad++) {
            fake_bytes head = {NULL, 0, 0};
            add(&head, OK);
            add(&head, lines[i].name);
            add_many(&head, ' ', pad);
            add(&head, lines[i].value);
            add(&head, i > 0 ? "\r\nContent-Length: 0\r\n\r\n" : "\r\n\r\n");
            struct reading r;
            begin(&r, 64);
            feed(&r, head.at, head.len);
            expect_said(head.at, finish(&r, head.len), lines[i].said, "padded");
            fake_bytes_free(&r.said);
            fake_bytes_free(&head);
        }
    }
    /* other lines may be of any length */
    fake_bytes head = {NULL, 0, 0};
    add(&head, OK "Set-Cookie: ");
    add_many(&head, 'x', 5000);
    add(&head, "\r\nContent-Length: 2\r\n\r\nhi");
    struct reading r;
    begin(&r, 64);
    feed(&r, head.at, head.len);
    assert_string_equal(finish(&r, head.len), "200 keep [hi]");
    fake_bytes_free(&r.said);
    fake_bytes_free(&head);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void as_much_as_allowed_and_no_more(void **state)
{
    (void)state;
    static const struct { size_t max; const char *text, *said; } answers[] = {
        {5, SIZED(5) "hello", "200 keep [hello]"},
        {4, SIZED(5) "hello", "big"},
        {0, SIZED(0), "200 keep []"},
        {0, SIZED(1), "big"},
        {5, CHUNKED "5\r\nhello\r\n0\r\n\r\n", "200 keep [hello]"},
        {4, CHUNKED "5\r\nhello\r\n0\r\n\r\n", "big"},
        {5, CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "200 keep [hello]"},
        {4, CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "big"},
        {0, CHUNKED "0\r\n\r\n", "200 keep []"},
        {0, CHUNKED "00001", "big"},
        {16, CHUNKED "10\r\n0123456789abcdef\r\n0\r\n\r\n", "200 keep [0123456789abcdef]"},
        {15, CHUNKED "10\r\n0123456789abcdef\r\n0\r\n\r\n", "big"},
        {30, CHUNKED "1f\r\n0123456789abcdef\r\n0\r\n\r\n", "big"},
        {5, OK "\r\nhello", "200 [hello] end"},
        {4, OK "\r\nhello", "big"},
        {0, OK "\r\n", "200 [] end"},
        {0, OK "\r\nh", "big"},
        /* what overflows a number of 32 or 64 bits does not come out small */
        {64, SIZED(4294967296), "big"},
        {64, SIZED(4294967301) "hello", "big"},
        {64, SIZED(18446744073709551616), "big"},
        {64, SIZED(18446744073709551621) "hello", "big"},
        {64, SIZED(99999999999999999999999999999999999999999999999999), "big"},
        {SIZE_MAX - 17, SIZED(18446744073709551621) "hello", "big"},
        {SIZE_MAX - 17, CHUNKED "ffffffffffffffff\r\n", "big"},
        {64, CHUNKED "100000005\r\nhello", "big"},
        {64, CHUNKED "10000000000000005\r\nhello", "big"},
        {64, CHUNKED "FFFFFFFFFFFFFFFF\r\n", "big"},
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        expect_bytes(answers[i].text, strlen(answers[i].text), answers[i].max, answers[i].said);
}

/* A server that says much and sends little costs little. */
static void memory_is_taken_for_what_has_come(void **state)
{
    (void)state;
    static const char *const heads[] = {SIZED(1000000000), CHUNKED "3b9aca00\r\n", OK "\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        struct reading r;
        begin(&r, 2000000000);
        feed(&r, heads[i], strlen(heads[i]));
        assert_int_equal(r.result, PSH_REPLY_MORE);
        assert_int_equal(r.heap.calls, 0);
        feed(&r, "hello", 5);
        assert_int_equal(r.heap.live_bytes, 6);
        for (int k = 0; k < 1000; k++) feed(&r, "x", 1);
        assert_true(r.heap.live_bytes <= 2 * 1006);
        assert_true(r.heap.calls < 12);
        finish(&r, 0);
        fake_bytes_free(&r.said);
    }
    struct reading r;
    begin(&r, 64); /* too much announced: nothing is taken at all */
    feed(&r, SIZED(65), sizeof SIZED(65) - 1);
    assert_int_equal(r.result, PSH_REPLY_BIG);
    assert_int_equal(r.heap.calls, 0);
    finish(&r, 0);
    fake_bytes_free(&r.said);
}

/* All that is neither body nor a chunk's own line counts as head, and that has 8192 bytes. */
static void heads_extensions_and_trailers_together_have_8192_bytes(void **state)
{
    (void)state;
    static const struct { const char *before, *behind; size_t free; } places[] = {
        {OK "x: ", "\r\nContent-Length: 0\r\n\r\n", 0},
        {"HTTP/1.1 100 ", "\r\n\r\n" SIZED(0), 0},
        {CHUNKED "0\r\nx: ", "\r\n\r\n", sizeof "0\r\n" - 1},
        {CHUNKED "0;", "\r\n\r\n", sizeof "0\r\n" - 1},
        {CHUNKED "1;", "\r\nx\r\n0\r\n\r\n", sizeof "1\r\nx\r\n0\r\n" - 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        size_t rest = strlen(places[i].before) + strlen(places[i].behind) - places[i].free;
        for (size_t size = 8180; size < 8200; size++) {
            struct reading r;
            fake_bytes text = {NULL, 0, 0};
            add(&text, places[i].before);
            add_many(&text, 'x', size - rest);
            add(&text, places[i].behind);
            begin(&r, 64);
            feed(&r, text.at, text.len);
            const char *good = i == 4 ? "200 keep [x]" : "200 keep []";
            expect_said(places[i].before, finish(&r, text.len),
                        size <= 8192 ? good : "bad: headers of more than 8192 bytes", "padded");
            fake_bytes_free(&r.said);
            fake_bytes_free(&text);
        }
    }
}

static void endless_things_end(void **state)
{
    (void)state;
    static const struct { const char *start, *again, *said; } all[] = {
        {"", "HTTP/1.1 100 C\r\n\r\n", "bad: headers of more than 8192 bytes"},
        {"", "H", "bad: headers of more than 8192 bytes"},
        {OK, "x: y\r\n", "bad: headers of more than 8192 bytes"},
        {CHUNKED, "1;x\r\na\r\n", "bad: headers of more than 8192 bytes"},
        {CHUNKED, "1 \r\na\r\n", "bad: headers of more than 8192 bytes"},
        {CHUNKED "1;", "x", "bad: headers of more than 8192 bytes"},
        {CHUNKED "1", " ", "bad: headers of more than 8192 bytes"},
        {CHUNKED "0\r\n", "x: y\r\n", "bad: headers of more than 8192 bytes"},
        {CHUNKED, "0", "bad: a chunk with a wrong size"},
        {CHUNKED, "1\r\na\r\n", "big"},
        {OK "\r\n", "a", "big"},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct reading r;
        begin(&r, 16384);
        feed(&r, all[i].start, strlen(all[i].start));
        for (int k = 0; k < 20000 && r.result == PSH_REPLY_MORE; k++)
            feed(&r, all[i].again, strlen(all[i].again));
        assert_int_not_equal(r.result, PSH_REPLY_MORE);
        expect_said(all[i].again, finish(&r, r.used), all[i].said, all[i].start);
        fake_bytes_free(&r.said);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const answers[] = {
        SIZED(26) "abcdefghijklmnopqrstuvwxyz",
        CHUNKED "d\r\nabcdefghijklm\r\nd\r\nnopqrstuvwxyz\r\n0\r\n\r\n",
        OK "\r\nabcdefghijklmnopqrstuvwxyz",
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        size_t len = strlen(answers[i]);
        uint64_t failures = 0;
        for (uint64_t n = 1;; n++) {
            struct reading r;
            begin(&r, 64);
            r.heap.fail_at = n;
            for (size_t k = 0; k < len; k++) feed(&r, answers[i] + k, 1);
            bool failed = r.heap.failed > 0;
            failures += failed;
            const char *said = finish(&r, len);
            if (failed) assert_string_equal(said, "memory");
            else assert_non_null(strstr(said, "[abcdefghijklmnopqrstuvwxyz]"));
            fake_bytes_free(&r.said);
            if (!failed) break;
        }
        assert_int_equal(failures, 5); /* 2, 4, 8, 16 and 32 bytes */
    }
}

/* Sees each block that is given back. */
static void free_wiped(void *memory, void *user_data)
{
    const fake_block *block = (const fake_block *)memory - 1;
    const unsigned char *at = (const unsigned char *)memory;
    for (size_t i = 0; i < block->size; i++) assert_int_equal(at[i], 0);
    fake_heap_free(memory, user_data);
}

static void answers_are_wiped(void **state)
{
    (void)state;
    struct reading r;
    begin(&r, 64);
    r.env.allocator.free_fn = free_wiped;
    for (size_t i = 0; i < sizeof SIZED(9) "shared_se" - 1; i++)
        feed(&r, &(SIZED(9) "shared_se")[i], 1);
    assert_true(r.heap.calls > 2); /* it has grown, and left its old places */
    assert_string_equal(finish(&r, r.used), "200 keep [shared_se]");
    fake_bytes_free(&r.said);
}

/* ---- at random ------------------------------------------------------------------------------- */

static size_t dice(uint64_t *seed, size_t sides)
{
    return (size_t)(fake_next_random(seed) % sides);
}

static void random_bytes(uint64_t *seed, fake_bytes *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char byte = (char)dice(seed, 256);
        fake_bytes_add(bytes, &byte, 1);
    }
}

static void random_chunks(uint64_t *seed, fake_bytes *text, const fake_bytes *body)
{
    static const char *const extras[] = {"", "", ";x", " ;a=\"b\"", "  "};
    for (size_t at = 0; at < body->len;) {
        size_t len = 1 + dice(seed, body->len - at);
        fake_note(text, dice(seed, 2) ? "%zx" : "%06zX", len);
        fake_note(text, "%s\r\n", extras[dice(seed, ARRAY_LEN(extras))]);
        fake_bytes_add(text, body->at + at, len);
        fake_note(text, "\r\n");
        at += len;
    }
    fake_note(text, "0%s\r\n", extras[dice(seed, ARRAY_LEN(extras))]);
    if (dice(seed, 2)) fake_note(text, "Trailer: %zu\r\n", dice(seed, 1000));
    fake_note(text, "\r\n");
}

static void feed_pieces(struct reading *r, uint64_t *seed, const fake_bytes *text, size_t most)
{
    for (size_t at = 0; at < text->len;) {
        size_t len = 1 + dice(seed, most);
        if (len > text->len - at) len = text->len - at;
        feed(r, text->at + at, len);
        at += len;
    }
}

/* Any body in any framing comes out as it was, and the stream stands at the byte behind it. */
static void what_is_sent_is_what_is_read(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 3000; round++) {
        fake_bytes body = {NULL, 0, 0}, text = {NULL, 0, 0};
        size_t framing = dice(&seed, 3), behind = framing == 2 ? 0 : dice(&seed, 9);
        struct reading r;
        fake_bytes_add(&body, "", 0);
        random_bytes(&seed, &body, dice(&seed, dice(&seed, 4) ? 40 : 3000));
        if (dice(&seed, 4) == 0) fake_note(&text, "HTTP/1.1 100 Continue\r\n\r\n");
        fake_note(&text, "HTTP/1.1 %zu x\r\nServer: y\r\n", 200 + dice(&seed, 4));
        if (framing == 0) fake_note(&text, "Content-Length: %zu\r\n", body.len);
        if (framing == 1) fake_note(&text, "Transfer-Encoding: chunked\r\n");
        fake_note(&text, "\r\n");
        if (framing == 1) random_chunks(&seed, &text, &body);
        else fake_bytes_add(&text, body.at, body.len);
        random_bytes(&seed, &text, behind);
        begin(&r, 3000);
        feed_pieces(&r, &seed, &text, dice(&seed, 2) ? 7 : 4000);
        if (framing == 2) r.result = psh_http_reply_eof(&r.reply);
        assert_int_equal(r.result, PSH_REPLY_DONE);
        assert_int_equal(r.used, text.len - behind);
        assert_int_equal(r.reply.body.len, body.len);
        if (body.len) assert_memory_equal(r.reply.body.data, body.at, body.len);
        assert_int_equal(r.reply.keep, framing != 2);
        finish(&r, text.len);
        fake_bytes_free(&r.said);
        fake_bytes_free(&body);
        fake_bytes_free(&text);
    }
}

/* Answers with bytes changed, left out and doubled: whatever is said does not depend on the cut. */
static void damage_is_seen_alike_in_any_cut(void **state)
{
    (void)state;
    static const char *const answers[] = {
        SIZED(12) "hello, world",
        CHUNKED "5;x=\"y\"\r\nhello\r\n1 \r\n!\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 100 C\r\n\r\nHTTP/1.0 503 x\r\nRetry-After: 7\r\nConnection: close\r\n\r\nwait",
    };
    static const char likely[] = "\r\n\r\n:; 019afAF,\tx";
    uint64_t seed = 11;
    for (int round = 0; round < 20000; round++) {
        struct reading whole, pieces;
        fake_bytes text = {NULL, 0, 0};
        const char *from = answers[dice(&seed, ARRAY_LEN(answers))];
        size_t len = strlen(from);
        for (size_t i = 0; i < len; i++) {
            size_t what = dice(&seed, 3 * len);
            char byte = dice(&seed, 4) ? likely[dice(&seed, sizeof likely - 1)]
                                       : (char)dice(&seed, 256);
            if (what == 0) fake_bytes_add(&text, &byte, 1);
            else if (what == 2) fake_bytes_add(&text, from + i, 1);
            if (what != 1 && what != 0) fake_bytes_add(&text, from + i, 1);
        }
        begin(&whole, 20);
        feed(&whole, text.at, text.len);
        begin(&pieces, 20);
        feed_pieces(&pieces, &seed, &text, 3);
        assert_int_equal(whole.result, pieces.result);
        if (whole.result == PSH_REPLY_DONE) assert_int_equal(whole.used, pieces.used);
        finish(&whole, text.len);
        finish(&pieces, text.len);
        assert_int_equal(whole.said.len, pieces.said.len);
        assert_memory_equal(whole.said.at, pieces.said.at, whole.said.len);
        fake_bytes_free(&whole.said);
        fake_bytes_free(&pieces.said);
        fake_bytes_free(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_of_a_known_length),
        cmocka_unit_test(bodies_in_chunks),
        cmocka_unit_test(bodies_up_to_the_end_of_the_stream),
        cmocka_unit_test(answers_without_a_body),
        cmocka_unit_test(interim_answers_are_skipped),
        cmocka_unit_test(when_the_stream_may_be_used_again),
        cmocka_unit_test(retry_after_in_seconds),
        cmocka_unit_test(nothing_can_be_smuggled),
        cmocka_unit_test(bad_heads),
        cmocka_unit_test(bad_chunks),
        cmocka_unit_test(a_number_that_lost_its_end_is_none),
        cmocka_unit_test(as_much_as_allowed_and_no_more),
        cmocka_unit_test(memory_is_taken_for_what_has_come),
        cmocka_unit_test(heads_extensions_and_trailers_together_have_8192_bytes),
        cmocka_unit_test(endless_things_end),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(answers_are_wiped),
        cmocka_unit_test(what_is_sent_is_what_is_read),
        cmocka_unit_test(damage_is_seen_alike_in_any_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
