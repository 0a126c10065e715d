/* The tls room from inside: names and addresses, output that is blocked half-way while mbedTLS
   wants to say something of its own, floods, and what fails in mbedTLS itself. */
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

static int stand_in_step(mbedtls_ssl_context *ssl);
static int stand_in_setup(mbedtls_ssl_context *ssl, const mbedtls_ssl_config *config);
static int stand_in_hostname(mbedtls_ssl_context *ssl, const char *host);
static int stand_in_defaults(mbedtls_ssl_config *config, int endpoint, int transport, int preset);
static int stand_in_parse_file(mbedtls_x509_crt *chain, const char *path);
static int stand_in_write(mbedtls_ssl_context *ssl, const unsigned char *buf, size_t len);
static void stand_in_set_verify(mbedtls_ssl_context *ssl,
                                int (*verify)(void *, mbedtls_x509_crt *, int, uint32_t *),
                                void *context);
static int stand_in_get_session(const mbedtls_ssl_context *ssl, mbedtls_ssl_session *session);

#define mbedtls_ssl_handshake_step stand_in_step
#define mbedtls_ssl_setup stand_in_setup
#define mbedtls_ssl_set_hostname stand_in_hostname
#define mbedtls_ssl_config_defaults stand_in_defaults
#define mbedtls_x509_crt_parse_file stand_in_parse_file
#define mbedtls_ssl_get_session stand_in_get_session
#define mbedtls_ssl_write stand_in_write
#define mbedtls_ssl_set_verify stand_in_set_verify
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
static psa_status_t stand_in_psa(void);
#define psa_crypto_init stand_in_psa
#endif
#define PUSHER_TLS
#define PUSHER_IMPLEMENTATION
#include "pusher.h"
#undef mbedtls_ssl_handshake_step
#undef mbedtls_ssl_setup
#undef mbedtls_ssl_set_hostname
#undef mbedtls_ssl_config_defaults
#undef mbedtls_x509_crt_parse_file
#undef mbedtls_ssl_get_session
#undef mbedtls_ssl_write
#undef mbedtls_ssl_set_verify
#undef psa_crypto_init

#include "tls.h"

#define EACH_VERSION(minor) for (int minor = 3; minor <= 3 + TLS_HAS_13; minor++)

/* What fails, and how; zero means that mbedTLS does it. */
static struct {
    int step, setup, hostname, defaults, session, write;
    int files; /* what is said though some of the certificates were read; with no_files none of the
                  first file was, and the others are not there */
    bool no_psa, no_files, no_callback;
    uint32_t steps, paths;
} fails;

static int stand_in_step(mbedtls_ssl_context *ssl)
{
    int step = fails.step;
    fails.steps++;
    fails.step = 0;
    return step ? step : mbedtls_ssl_handshake_step(ssl);
}

static int stand_in_setup(mbedtls_ssl_context *ssl, const mbedtls_ssl_config *config)
{
    return fails.setup ? fails.setup : mbedtls_ssl_setup(ssl, config);
}

static int stand_in_hostname(mbedtls_ssl_context *ssl, const char *host)
{
    return fails.hostname ? fails.hostname : mbedtls_ssl_set_hostname(ssl, host);
}

static int stand_in_defaults(mbedtls_ssl_config *config, int endpoint, int transport, int preset)
{
    return fails.defaults ? fails.defaults
                          : mbedtls_ssl_config_defaults(config, endpoint, transport, preset);
}

static int stand_in_parse_file(mbedtls_x509_crt *chain, const char *path)
{
    fails.paths++;
    assert_int_equal(path[0], '/');
    if (fails.no_files) return fails.files && fails.paths == 1 ? fails.files : -0x3E00;
    int result = mbedtls_x509_crt_parse_file(chain, path);
    return fails.files ? fails.files : result;
}

static int stand_in_get_session(const mbedtls_ssl_context *ssl, mbedtls_ssl_session *session)
{
    return fails.session ? fails.session : mbedtls_ssl_get_session(ssl, session);
}

static int stand_in_write(mbedtls_ssl_context *ssl, const unsigned char *buf, size_t len)
{
    int result = fails.write;
    fails.write = 0;
    return result ? result : mbedtls_ssl_write(ssl, buf, len);
}

static void stand_in_set_verify(mbedtls_ssl_context *ssl,
                                int (*verify)(void *, mbedtls_x509_crt *, int, uint32_t *),
                                void *context)
{
    if (!fails.no_callback)
        mbedtls_ssl_set_verify(ssl, verify, context);
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
static psa_status_t stand_in_psa(void)
{
    return fails.no_psa ? PSA_ERROR_INSUFFICIENT_ENTROPY : psa_crypto_init();
}
#endif

/* ---- names and addresses --------------------------------------------------------------------- */

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *bytes;
    } table[] = {
        { "127.0.0.1", 4, "\x7f\0\0\1" }, { "255.255.255.255", 4, "\xff\xff\xff\xff" },
        { "0.0.0.0", 4, "\0\0\0\0" }, { "1.2.3", 0, "" }, { "1.2.3.4.5", 0, "" },
        { "256.1.1.1", 0, "" }, { "1.2.3.", 0, "" }, { "1..2.3", 0, "" }, { ".1.2.3", 0, "" },
        { "1.2.3.4x", 0, "" }, { "0001.2.3.4", 0, "" }, { "127.1", 0, "" }, { "", 0, "" },
        { "ws.test", 0, "" }, { "1.2.3.4.", 0, "" }, { "+1.2.3.4", 0, "" },
        { "::", 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
        { "::1", 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" },
        { "1::", 16, "\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
        { "1:2:3:4:5:6:7:8", 16, "\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\x8" },
        { "1:2:3:4:5:6:7::", 16, "\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\0" },
        { "::2:3:4:5:6:7:8", 16, "\0\0\0\2\0\3\0\4\0\5\0\6\0\7\0\x8" },
        { "FE80::aBcD%eth0", 16, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\xab\xcd" },
        { "1:2:3:4:5:6:7", 0, "" }, { "1:2:3:4:5:6:7:8:9", 0, "" }, { "1:2:3:4:5:6:7:8:", 0, "" },
        { "1::2::3", 0, "" }, { ":1", 0, "" }, { "1:", 0, "" }, { ":", 0, "" }, { ":::", 0, "" },
        { "::g", 0, "" }, { "12345::", 0, "" }, { "1:2:3:4::5:6:7:8", 0, "" },
        { "::1.2.3.4", 0, "" }, { "::1:", 0, "" }, { "abc", 0, "" }, { "%", 0, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        unsigned char out[16];
        size_t len = psh_tls_ipv4(table[i].text, out);
        if (!len)
            len = psh_tls_ipv6(table[i].text, out);
        if (len != table[i].len)
            fail_msg("%s: %u bytes", table[i].text, (unsigned)len);
        assert_memory_equal(out, table[i].bytes, len);
    }
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *host;
        bool fits;
    } table[] = {
        { "ws.test", "ws.test", true }, { "WS.TEST", "ws.test", true }, { "ws.test", "WS.Test", true },
        { "ws.tes", "ws.test", false }, { "ws.test2", "ws.test", false }, { "", "ws.test", false },
        { "*.a.test", "b.a.test", true }, { "*.a.test", "a.test", false },
        { "*.a.test", "c.b.a.test", false }, { "*.a.test", ".a.test", true },
        { "*.test", "a.test", false }, { "*.", "a.", false }, { "*", "a", false },
        { "*..", "a..", true }, { "a.*.test", "a.b.test", false }, { "*a.b.test", "aa.b.test", false },
        { "**.b.test", "a.b.test", false }, { "*.b.test", "*.b.test", true },
        { "*.b.test", "localhost", false }, { "ws_test", "ws.test", false },
        { "[s.test", "{s.test", false }, { "@", "`", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (psh_tls_match((const unsigned char *)table[i].pattern, strlen(table[i].pattern),
                          table[i].host) != table[i].fits)
            fail_msg("%s for %s", table[i].pattern, table[i].host);
}

/* ---- a stream without a client --------------------------------------------------------------- */

typedef struct line {
    tls_world w;
    struct psh_env env;
    struct psh_tls tls;
    pusher_transport transport;
    void *stream;
    fake_heap heap;
} line;

static void line_start(line *l, int minor)
{
    memset(&fails, 0, sizeof fails);
    memset(l, 0, sizeof *l);
    tls_cert cert;
    tls_spec spec = tls_leaf();
    tls_start(&l->w);
    cert = tls_make(&spec);
    tls_present(&l->w, &cert);
    tls_serve_with(&l->w, spec.key);
    tls_max_version(&l->w, minor);
    pusher_options options = tls_options(&l->w);
    options.allocator.alloc_fn = fake_heap_alloc;
    options.allocator.free_fn = fake_heap_free;
    options.allocator.user_data = &l->heap;
    psh_env_init(&l->env, &options);
    const char *wrong = "";
    assert_int_equal(psh_tls_init(&l->tls, &l->env, &options.transport, &options.tls, &wrong),
                     PUSHER_OK);
    assert_null(wrong);
    l->transport = psh_tls_transport(&l->tls);
}

static void line_open(line *l, const char *host)
{
    l->stream = l->transport.open_fn(host, 443, l->transport.user_data);
    assert_non_null(l->stream);
    tls_accept(&l->w);
}

/* The server's part of a handshake: nothing is read beyond it. */
static void line_serve(line *l)
{
    if (!l->w.shaken && mbedtls_ssl_handshake(&l->w.ssl) == 0)
        l->w.shaken = true;
}

static int line_shake(line *l)
{
    int ready = PUSHER_IO_WANT_READ;
    for (int i = 0; i < 10000 && ready <= 0 && ready >= PUSHER_IO_WANT_WRITE; i++) {
        uint32_t steps = fails.steps;
        ready = l->transport.ready_fn(l->stream);
        assert_true(fails.steps - steps <= 1);
        line_serve(l);
    }
    for (int i = 0; i < 10 && !l->w.shaken; i++)
        line_serve(l);
    return ready;
}

static void line_close(line *l)
{
    l->transport.close_fn(l->stream);
    l->stream = NULL;
}

static void line_end(line *l)
{
    if (l->stream)
        line_close(l);
    psh_tls_free(&l->tls);
    psh_tls_free(&l->tls); /* again: nothing */
    assert_int_equal(l->heap.live_blocks, 0);
    assert_null(l->heap.violation);
    tls_end(&l->w);
}

/* All the server can read now. */
static void server_takes(line *l, fake_bytes *into)
{
    unsigned char buf[4096];
    int got;
    do {
        got = mbedtls_ssl_read(&l->w.ssl, buf, sizeof buf);
        if (got > 0)
            fake_bytes_add(into, buf, (size_t)got);
    } while (got > 0 || l->w.server_at < l->w.to_server.len);
    assert_int_equal(got, MBEDTLS_ERR_SSL_WANT_READ);
}

static void one_step_a_call(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        line l;
        line_start(&l, minor);
        line_open(&l, TLS_HOST);
        assert_int_equal(line_shake(&l), 1);
        assert_true(fails.steps >= 8);
        assert_int_equal(l.transport.ready_fn(l.stream), 1);
        assert_int_equal(l.transport.fd_fn(l.stream), -1);
        line_end(&l);
    }
}

/* Data both ways through a wire that takes and gives what it likes: each byte once and in order,
   and each call within the length of a record. */
static void data_both_ways(void **state)
{
    (void)state;
    enum { SIZE = 150000, MOST = 5000 };
    unsigned char *data = (unsigned char *)malloc(SIZE);
    unsigned char *back = (unsigned char *)malloc(SIZE + MOST);
    assert_true(data && back);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        uint64_t random = seed;
        line l;
        fake_bytes taken;
        size_t sent = 0, said = 0, got = 0, len = 0;
        line_start(&l, 3 + (int)(seed & TLS_HAS_13));
        line_open(&l, TLS_HOST);
        assert_int_equal(line_shake(&l), 1);
        memset(&taken, 0, sizeof taken);
        (void)tls_random(&random, data, SIZE);
        while (taken.len < SIZE || got < SIZE) {
            l.w.recv_max = (size_t)(fake_next_random(&random) % 3000) + 1;
            l.w.send_max = (size_t)(fake_next_random(&random) % 3000) + 1;
            l.w.recv_block = (uint32_t)(fake_next_random(&random) % 5);
            l.w.send_block = (uint32_t)(fake_next_random(&random) % 5);
            if (len == 0) /* else the same again */
                len = (size_t)(fake_next_random(&random) % 40000) + 1;
            if (len > SIZE - sent)
                len = SIZE - sent;
            int put = len ? l.transport.send_fn(l.stream, data + sent, len) : 0;
            assert_true(put <= 16384 && put >= PUSHER_IO_WANT_WRITE);
            if (put > 0)
                sent += (size_t)put, len = 0;
            int have = l.transport.recv_fn(l.stream, back + got, MOST);
            assert_true(have <= MOST && have >= PUSHER_IO_WANT_WRITE && have != 0);
            if (have > 0)
                got += (size_t)have;
            server_takes(&l, &taken);
            int answered = said < SIZE ? mbedtls_ssl_write(&l.w.ssl, data + said, SIZE - said) : 0;
            if (answered > 0)
                said += (size_t)answered;
        }
        assert_int_equal(taken.len, SIZE);
        assert_int_equal(got, SIZE);
        assert_memory_equal(taken.at, data, SIZE);
        assert_memory_equal(back, data, SIZE);
        fake_bytes_free(&taken);
        line_end(&l);
    }
    free(data);
    free(back);
}

#if defined(MBEDTLS_SSL_RENEGOTIATION)
/* The server asks for a renegotiation; mbedTLS answers with an alert, and to make room for it pushes
   out what was blocked, or has that blocked itself. In each order, and with much or little room, the
   server reads what was sent once, whole and in order. */
static void an_alert_among_blocked_output(void **state)
{
    (void)state;
    static const char *const words[] = { "the first message", "the second one", "a third" };
    for (int order = 0; order < 4; order++) {
        for (size_t room = 0; room < 130; room += room < 45 ? 4 : 17) {
            line l;
            fake_bytes taken;
            size_t at = 0;
            line_start(&l, 3);
            mbedtls_ssl_conf_renegotiation(&l.w.config, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
            mbedtls_ssl_conf_renegotiation_enforced(&l.w.config,
                                                    MBEDTLS_SSL_RENEGOTIATION_NOT_ENFORCED);
            line_open(&l, TLS_HOST);
            assert_int_equal(line_shake(&l), 1);
            memset(&taken, 0, sizeof taken);
            l.w.room = room;
            for (int step = 0; step < 6; step++) {
                unsigned char buf[100];
                if (step == 5 && order > 1)
                    l.w.room = SIZE_MAX; /* what is blocked goes out by a read, or by a write */
                if (step % 2 == order % 2) {
                    (void)mbedtls_ssl_renegotiate(&l.w.ssl);
                    int got = l.transport.recv_fn(l.stream, buf, sizeof buf);
                    assert_true(got == PUSHER_IO_WANT_READ || got == PUSHER_IO_WANT_WRITE);
                    got = l.transport.recv_fn(l.stream, buf, sizeof buf);
                    assert_true(got == PUSHER_IO_WANT_READ || got == PUSHER_IO_WANT_WRITE);
                } else if (at < 3) {
                    int put = l.transport.send_fn(l.stream, words[at], strlen(words[at]));
                    assert_true(put == PUSHER_IO_WANT_WRITE || put == (int)strlen(words[at]));
                    if (put > 0)
                        at++;
                }
            }
            l.w.room = SIZE_MAX;
            while (at < 3) {
                int put = l.transport.send_fn(l.stream, words[at], strlen(words[at]));
                assert_int_equal(put, strlen(words[at]));
                at++;
            }
            server_takes(&l, &taken);
            assert_string_equal(taken.at, "the first messagethe second onea third");
            fake_bytes_free(&taken);
            line_end(&l);
        }
    }
}
#endif

#if defined(MBEDTLS_SSL_RENEGOTIATION)
/* More than a record holds is blocked; a read pushes out the record: so many bytes are sent. */
static void a_long_message_goes_out_by_a_read(void **state)
{
    (void)state;
    static unsigned char data[40000];
    unsigned char buf[100];
    uint64_t random = 1;
    line l;
    fake_bytes taken;
    line_start(&l, 3);
    mbedtls_ssl_conf_renegotiation(&l.w.config, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    mbedtls_ssl_conf_renegotiation_enforced(&l.w.config, MBEDTLS_SSL_RENEGOTIATION_NOT_ENFORCED);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    memset(&taken, 0, sizeof taken);
    (void)tls_random(&random, data, sizeof data);
    l.w.room = 1000;
    assert_int_equal(l.transport.send_fn(l.stream, data, sizeof data), PUSHER_IO_WANT_WRITE);
    l.w.room = SIZE_MAX;
    (void)mbedtls_ssl_renegotiate(&l.w.ssl);
    (void)l.transport.recv_fn(l.stream, buf, sizeof buf);
    (void)l.transport.recv_fn(l.stream, buf, sizeof buf);
    size_t sent = 0;
    while (sent < sizeof data) {
        int put = l.transport.send_fn(l.stream, data + sent, sizeof data - sent);
        assert_true(put > 0 && put <= 16384);
        sent += (size_t)put;
    }
    server_takes(&l, &taken);
    assert_int_equal(taken.len, sizeof data);
    assert_memory_equal(taken.at, data, sizeof data);
    fake_bytes_free(&taken);
    line_end(&l);
}
#endif

/* mbedTLS wants to read before it has made anything of what is to be written. */
static void a_write_that_wants_to_read(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        line l;
        fake_bytes taken;
        line_start(&l, minor);
        line_open(&l, TLS_HOST);
        assert_int_equal(line_shake(&l), 1);
        memset(&taken, 0, sizeof taken);
        fails.write = MBEDTLS_ERR_SSL_WANT_READ;
        assert_int_equal(l.transport.send_fn(l.stream, "hello", 5), PUSHER_IO_WANT_WRITE);
        assert_int_equal(l.transport.send_fn(l.stream, "hello", 5), 5);
        server_takes(&l, &taken);
        assert_string_equal(taken.at, "hello");
        fails.write = -0x7100;
        assert_int_equal(l.transport.send_fn(l.stream, "hello", 5), PUSHER_IO_ERROR_TLS);
        assert_string_equal(l.transport.error_fn(l.stream),
                            "TLS: the connection failed (mbedTLS -0x7100)");
        assert_int_equal(l.transport.send_fn(l.stream, "hello", 5), PUSHER_IO_ERROR_TLS);
        fake_bytes_free(&taken);
        line_end(&l);
    }
}

/* Alerts that say nothing, without end: a call reads its share, and is soon called again. */
static void a_flood_of_nothing(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        line l;
        unsigned char buf[100];
        line_start(&l, minor);
        line_open(&l, TLS_HOST);
        assert_int_equal(line_shake(&l), 1);
        for (int i = 0; i < 20000; i++)
            assert_int_equal(mbedtls_ssl_send_alert_message(&l.w.ssl, 1, 90), 0);
        size_t calls = 0, before;
        int got;
        do {
            before = l.w.client_at;
            got = l.transport.recv_fn(l.stream, buf, sizeof buf);
            assert_true(l.w.client_at - before <= PSH_TLS_INTAKE);
            calls++;
        } while (got == PUSHER_IO_WANT_WRITE);
        assert_true(calls >= 5 || got == PUSHER_IO_ERROR_TLS);
        assert_true(got == PUSHER_IO_WANT_READ || got == PUSHER_IO_ERROR_TLS);
        line_end(&l);
    }
}

/* Records without anything in them are legal, and no end. */
static void empty_records_are_no_end(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (int count = 1; count <= 3; count++) {
            line l;
            unsigned char buf[100];
            line_start(&l, minor);
            line_open(&l, TLS_HOST);
            assert_int_equal(line_shake(&l), 1);
            for (int i = 0; i < count; i++)
                assert_int_equal(mbedtls_ssl_write(&l.w.ssl, buf, 0), 0);
            assert_int_equal(mbedtls_ssl_write(&l.w.ssl, (const unsigned char *)"hello", 5), 5);
            int got = PUSHER_IO_WANT_WRITE;
            for (int i = 0; i < 10 && got == PUSHER_IO_WANT_WRITE; i++)
                got = l.transport.recv_fn(l.stream, buf, sizeof buf);
            assert_int_equal(got, 5);
            assert_memory_equal(buf, "hello", 5);
            assert_int_equal(mbedtls_ssl_write(&l.w.ssl, buf, 0), 0);
            assert_int_equal(mbedtls_ssl_write(&l.w.ssl, buf, 0), 0);
            l.w.ended = true;
            for (got = PUSHER_IO_WANT_WRITE; got == PUSHER_IO_WANT_WRITE;)
                got = l.transport.recv_fn(l.stream, buf, sizeof buf);
            assert_int_equal(got, PUSHER_IO_ERROR_TLS);
            assert_string_equal(l.transport.error_fn(l.stream),
                                "TLS: the connection was cut off: it ended without close_notify");
            line_end(&l);
        }
    }
}

#if TLS_HAS_13
/* Many tickets at once: the last one is kept, and no call takes them all. */
static void tickets_without_number(void **state)
{
    (void)state;
    line l;
    unsigned char buf[100];
    mbedtls_ssl_ticket_context tickets;
    line_start(&l, 4);
    mbedtls_ssl_ticket_init(&tickets);
    assert_int_equal(mbedtls_ssl_ticket_setup(&tickets, tls_random, &l.w.random_state,
                                              MBEDTLS_CIPHER_AES_256_GCM, 86400), 0);
    mbedtls_ssl_conf_session_tickets_cb(&l.w.config, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse, &tickets);
    mbedtls_ssl_conf_new_session_tickets(&l.w.config, 10);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    assert_int_equal(l.tls.sessions[0].host[0], 0);
    int calls = 0;
    while (l.transport.recv_fn(l.stream, buf, sizeof buf) == PUSHER_IO_WANT_WRITE) {
        int put = l.transport.send_fn(l.stream, "hello", 5); /* they do not stop a write */
        assert_int_equal(put, 5);
        calls++;
    }
    assert_true(calls >= 3);
    assert_string_equal(l.tls.sessions[0].host, TLS_HOST);
    assert_int_equal(l.transport.recv_fn(l.stream, buf, sizeof buf), PUSHER_IO_WANT_READ);
    fails.session = -1; /* it cannot be kept: then there is none */
    line_close(&l);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    while (l.transport.recv_fn(l.stream, buf, sizeof buf) == PUSHER_IO_WANT_WRITE)
        assert_int_equal(l.transport.send_fn(l.stream, "hello", 5), 5);
    assert_int_equal(l.tls.sessions[0].host[0], 0);
    line_end(&l);
    mbedtls_ssl_ticket_free(&tickets);
}
#endif

/* Sessions of two hosts are kept, the older one goes for a third; a refused server's goes. */
static void sessions_of_several_hosts(void **state)
{
    (void)state;
    static const char *const hosts[] = { "a.b.test", "c.b.test", "a.b.test", "d.b.test",
                                         "e.b.test" };
    static const char *const kept[][2] = {
        { "a.b.test", "" }, { "a.b.test", "c.b.test" }, { "a.b.test", "c.b.test" },
        { "d.b.test", "c.b.test" }, { "d.b.test", "e.b.test" } };
    line l;
    line_start(&l, 3);
    mbedtls_x509_crt_free(&l.w.chain);
    mbedtls_x509_crt_init(&l.w.chain);
    tls_spec spec = tls_leaf();
    spec.san[0].data = "*.b.test";
    tls_cert cert = tls_make(&spec);
    tls_present(&l.w, &cert);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        line_open(&l, hosts[i]);
        assert_int_equal(line_shake(&l), 1);
        assert_string_equal(l.tls.sessions[0].host, kept[i][0]);
        assert_string_equal(l.tls.sessions[1].host, kept[i][1]);
        line_close(&l);
    }
    line_open(&l, "e.b.test");
    l.w.end_after = 60;
    l.w.end_says = PUSHER_IO_EOF;
    assert_int_equal(line_shake(&l), PUSHER_IO_ERROR_TLS);
    assert_string_equal(l.tls.sessions[1].host, "");
    line_end(&l);
}

/* A server that falls silent when it is offered an old session would do so again: after an attempt
   that was given up, as after one that failed, the handshake is a whole one. */
static void a_session_is_offered_once(void **state)
{
    (void)state;
    line l;
    line_start(&l, 3);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    line_close(&l);
    for (int attempt = 0; attempt < 2; attempt++) {
        line_open(&l, TLS_HOST);
        for (int i = 0; i < 20; i++) /* nobody answers */
            assert_true(l.transport.ready_fn(l.stream) < 0);
        assert_int_equal(((struct psh_tls_stream *)l.stream)->resuming, attempt == 0);
        line_close(&l);
    }
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    assert_false(((struct psh_tls_stream *)l.stream)->resuming);
    line_close(&l);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    assert_true(((struct psh_tls_stream *)l.stream)->resuming);
    line_end(&l);
}

/* Of a server that is many machines one gives tickets, and one knows nothing of them: what the first
   has given does not end up beside the keys of the second. */
static void a_ticket_of_another_machine(void **state)
{
    (void)state;
    line l;
    mbedtls_ssl_ticket_context tickets;
    line_start(&l, 3);
    mbedtls_ssl_ticket_init(&tickets);
    assert_int_equal(mbedtls_ssl_ticket_setup(&tickets, tls_random, &l.w.random_state,
                                              MBEDTLS_CIPHER_AES_256_GCM, 86400), 0);
    mbedtls_ssl_conf_session_cache(&l.w.config, NULL, NULL, NULL);
    for (int i = 0; i < 6; i++) {
        const bool gives = i % 2 == 0;
        mbedtls_ssl_conf_session_tickets_cb(&l.w.config, gives ? mbedtls_ssl_ticket_write : NULL,
                                            gives ? mbedtls_ssl_ticket_parse : NULL, &tickets);
        line_open(&l, TLS_HOST);
        int ready = line_shake(&l);
        if (ready != 1)
            fail_msg("connection %d: %s", i, l.transport.error_fn(l.stream));
        line_close(&l);
    }
    line_end(&l);
    mbedtls_ssl_ticket_free(&tickets);
}

static void no_stream(void **state)
{
    (void)state;
    line l;
    char host[300];
    line_start(&l, 3);
    memset(host, 'a', sizeof host);
    host[256] = '\0';
    assert_null(l.transport.open_fn(host, 443, &l.tls));
    assert_null(l.transport.open_fn("", 443, &l.tls));
    assert_null(l.transport.open_fn(".", 443, &l.tls));
    assert_int_equal(l.w.opened, 0);
    l.heap.fail_at = l.heap.calls + 1;
    assert_null(l.transport.open_fn(TLS_HOST, 443, &l.tls));
    line_end(&l);
}

static void *open_nothing(const char *host, uint16_t port, void *user_data)
{
    (void)host;
    (void)port;
    (void)user_data;
    return NULL;
}

static intptr_t always_seven(void *stream)
{
    (void)stream;
    return 7;
}

static void the_inner_stream_is_asked(void **state)
{
    (void)state;
    line l;
    line_start(&l, 3);
    pusher_transport inner = l.tls.inner;
    l.tls.inner.open_fn = open_nothing;
    assert_null(l.transport.open_fn(TLS_HOST, 443, &l.tls));
    l.tls.inner = inner;
    l.tls.inner.fd_fn = always_seven;
    l.tls.inner.error_fn = NULL;
    line_open(&l, TLS_HOST);
    assert_int_equal(l.transport.fd_fn(l.stream), 7);
    assert_null(l.transport.error_fn(l.stream));
    l.tls.inner.error_fn = inner.error_fn;
    assert_string_equal(l.transport.error_fn(l.stream), "the wire is broken");
    line_end(&l);
}

/* What is dead says so for ever, and mbedTLS is not called any more. */
static void dead_streams_stay_dead(void **state)
{
    (void)state;
    line l;
    char buf[10];
    line_start(&l, 3);
    line_open(&l, TLS_HOST);
    fails.setup = -0x7F00;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(l.transport.ready_fn(l.stream), PUSHER_IO_ERROR_TLS);
        assert_string_equal(l.transport.error_fn(l.stream), "TLS: no memory");
    }
    assert_int_equal(l.transport.recv_fn(l.stream, buf, sizeof buf), PUSHER_IO_ERROR_TLS);
    assert_int_equal(l.transport.send_fn(l.stream, buf, sizeof buf), PUSHER_IO_ERROR_TLS);
    assert_int_equal(fails.steps, 0);
    line_end(&l);
}

static void what_mbedtls_says(void **state)
{
    (void)state;
    static const struct {
        int code, result;
        const char *text;
    } table[] = {
        { MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS, PUSHER_IO_WANT_WRITE, NULL },
        { MBEDTLS_ERR_SSL_ASYNC_IN_PROGRESS, PUSHER_IO_WANT_WRITE, NULL },
        { MBEDTLS_ERR_SSL_WANT_READ, PUSHER_IO_WANT_WRITE, NULL }, /* nobody would block */
        { -0x7F00, PUSHER_IO_ERROR_TLS, "TLS: no memory" },
        { -0x2880, PUSHER_IO_ERROR_TLS, "TLS: no memory" },
        { -0x3D6A, PUSHER_IO_ERROR_TLS, "TLS: no memory" },
        { -0x4F90, PUSHER_IO_ERROR_TLS, "TLS: no memory" },
        { -0x7200, PUSHER_IO_ERROR_TLS, "TLS: the handshake failed (mbedTLS -0x7200)" },
        { -0x0001, PUSHER_IO_ERROR_TLS, "TLS: the handshake failed (mbedTLS -0x0001)" },
        { MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE, PUSHER_IO_ERROR_TLS,
          "TLS: the server refused: an alert" },
        { MBEDTLS_ERR_SSL_INVALID_MAC, PUSHER_IO_ERROR_TLS,
          "TLS: a record was damaged on its way" },
        { MBEDTLS_ERR_SSL_CONN_EOF, PUSHER_IO_ERROR_TLS,
          "TLS: the server ended the connection in the handshake" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        line l;
        line_start(&l, 3);
        line_open(&l, TLS_HOST);
        fails.step = table[i].code;
        assert_int_equal(l.transport.ready_fn(l.stream), table[i].result);
        if (table[i].text)
            assert_string_equal(l.transport.error_fn(l.stream), table[i].text);
        else
            assert_int_equal(line_shake(&l), 1);
        line_end(&l);
    }
    for (int i = 0; i < 2; i++) {
        line l;
        line_start(&l, 3);
        fails.hostname = -0x7F00;
        line_open(&l, i ? "127.0.0.1" : TLS_HOST);
        assert_int_equal(l.transport.ready_fn(l.stream), PUSHER_IO_ERROR_TLS);
        assert_string_equal(l.transport.error_fn(l.stream), "TLS: no memory");
        line_end(&l);
    }
}

/* An mbedTLS that does not ask us about the certificate: then nobody has compared the address. */
static void what_was_not_seen_is_not_trusted(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        line l;
        line_start(&l, minor);
        fails.no_callback = true;
        line_open(&l, "127.0.0.1");
        assert_int_equal(line_shake(&l), PUSHER_IO_ERROR_TLS);
        assert_string_equal(l.transport.error_fn(l.stream),
                            "TLS: the certificate was not verified");
        assert_int_equal(l.tls.sessions[0].host[0], 0);
        line_end(&l);
    }
}

/* Each flag has its words, with the certificate at hand and without; the most telling comes first. */
static void flags_have_words(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        const char *with, *without;
    } table[] = {
        { MBEDTLS_X509_BADCERT_EXPIRED, "\"Acme\" expired on 2049-12-31, by this machine's clock",
          "ws.test has expired" },
        { MBEDTLS_X509_BADCERT_FUTURE | MBEDTLS_X509_BADCERT_REVOKED,
          "\"Acme\" is not valid before 2020-01-01, by this machine's clock",
          "ws.test is not valid yet" },
        { MBEDTLS_X509_BADCERT_REVOKED, "\"Acme\" is revoked", "ws.test is revoked" },
        { MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_NOT_TRUSTED,
          "\"Acme\" is signed with a hash that is too weak",
          "ws.test is signed with a hash that is too weak" },
        { MBEDTLS_X509_BADCERT_BAD_KEY, "\"Acme\" has a key that is too weak",
          "ws.test has a key that is too weak" },
        { MBEDTLS_X509_BADCERT_BAD_PK, "\"Acme\" has a key that is too weak",
          "ws.test has a key that is too weak" },
        { MBEDTLS_X509_BADCERT_NOT_TRUSTED,
          "\"Acme\" is not signed by a known authority (issuer: \"\")",
          "ws.test is not signed by a known authority" },
        { MBEDTLS_X509_BADCERT_KEY_USAGE, "\"Acme\" may not be used by a server (key usage)",
          "ws.test may not be used by a server (key usage)" },
        { MBEDTLS_X509_BADCERT_NS_CERT_TYPE, "\"Acme\" may not be used by a server (key usage)",
          "ws.test may not be used by a server (key usage)" },
        { MBEDTLS_X509_BADCERT_OTHER, "\"Acme\" was refused", "ws.test was refused" },
    };
    tls_spec spec = tls_authority("O=Acme,C=DE", &tls_the_shop.middle_key);
    spec.issuer = "C=DE";
    tls_cert made = tls_make(&spec);
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    assert_int_equal(mbedtls_x509_crt_parse_der(&crt, made.der, made.len), 0);
    assert_int_equal(mbedtls_x509_crt_parse_der(&crt, tls_the_shop.other.der,
                                                tls_the_shop.other.len), 0);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char words[256];
        struct psh_tls_stream s;
        memset(&s, 0, sizeof s);
        memcpy(s.host, TLS_HOST, sizeof TLS_HOST);
        psh_tls_say_flags(&s, &crt, 1, table[i].flags);
        snprintf(words, sizeof words, "TLS: certificate of the authority %s", table[i].with);
        assert_string_equal(s.words, words);
        psh_tls_say_flags(&s, NULL, 0, table[i].flags);
        snprintf(words, sizeof words, "TLS: certificate of %s", table[i].without);
        assert_string_equal(s.words, words);
    }
    mbedtls_x509_crt_free(&crt);
}

/* The inner stream takes nothing any more: its own code, and its own words. */
static void the_inner_stream_fails_in_a_send(void **state)
{
    (void)state;
    static const int says[] = { PUSHER_IO_ERROR, PUSHER_IO_ERROR_TLS };
    for (size_t i = 0; i < ARRAY_LEN(says); i++) {
        for (int shaken = 0; shaken < 2; shaken++) {
            line l;
            line_start(&l, 3);
            line_open(&l, TLS_HOST);
            if (shaken)
                assert_int_equal(line_shake(&l), 1);
            l.w.send_block = 1;
            l.w.block_says = says[i];
            int result = shaken ? l.transport.send_fn(l.stream, "hello", 5) : line_shake(&l);
            assert_int_equal(result, says[i]);
            assert_string_equal(l.transport.error_fn(l.stream), "the wire is broken");
            line_end(&l);
        }
    }
}

static void a_session_that_cannot_be_kept(void **state)
{
    (void)state;
    line l;
    line_start(&l, 3);
    fails.session = -1;
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    assert_string_equal(l.tls.sessions[0].host, "");
    line_end(&l);
}

/* What fails in one stream is not the reason why another one ends. */
static void randomness_fails_for_one_stream_only(void **state)
{
    (void)state;
    line l;
    unsigned char buf[100];
    line_start(&l, 3);
    line_open(&l, TLS_HOST);
    assert_int_equal(line_shake(&l), 1);
    l.w.is_open = false; /* another stream, on the same wire */
    void *other = l.transport.open_fn(TLS_HOST, 443, l.transport.user_data);
    l.w.random_dies = true;
    int ready = PUSHER_IO_WANT_WRITE;
    for (int i = 0; i < 10 && ready == PUSHER_IO_WANT_WRITE; i++)
        ready = l.transport.ready_fn(other);
    assert_int_equal(ready, PUSHER_IO_ERROR_TLS);
    assert_string_equal(l.transport.error_fn(other), "TLS: the random source failed");
    l.transport.close_fn(other);
    l.w.is_open = true;
    l.w.random_dies = false;
    assert_int_equal(mbedtls_ssl_write(&l.w.ssl, (const unsigned char *)"hello", 5), 5);
    l.w.to_client.at[l.w.to_client.len - 1] ^= 1;
    assert_int_equal(l.transport.recv_fn(l.stream, buf, sizeof buf), PUSHER_IO_ERROR_TLS);
    assert_string_equal(l.transport.error_fn(l.stream),
                        "TLS: a record was damaged on its way");
    line_end(&l);
}

static void alerts_have_names(void **state)
{
    (void)state;
    static const unsigned char known[] = { 10, 20, 40, 42, 43, 44, 45, 46, 47, 48,
                                           49, 50, 51, 70, 71, 80, 90, 112, 116, 120 };
    size_t named = 0;
    for (unsigned i = 0; i < 256; i++)
        named += strcmp(psh_tls_alert((unsigned char)i), "an alert") != 0;
    assert_int_equal(named, sizeof known);
    for (size_t i = 0; i < sizeof known; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(psh_tls_alert(known[i]), psh_tls_alert(known[k]));
}

/* ---- making it ------------------------------------------------------------------------------- */

static void init_ends(const pusher_tls_options *options, pusher_result result, const char *text)
{
    struct psh_env env;
    struct psh_tls tls;
    tls_world w;
    const char *wrong = NULL;
    tls_start(&w);
    pusher_options o = tls_options(&w);
    psh_env_init(&env, &o);
    assert_int_equal(psh_tls_init(&tls, &env, &o.transport, options, &wrong), result);
    if (text) assert_string_equal(wrong, text);
    else assert_null(wrong);
    psh_tls_free(&tls);
    tls_end(&w);
}

static void init_fails(const pusher_tls_options *options, const char *text)
{
    init_ends(options, PUSHER_ERR_TLS, text);
}

static void it_cannot_be_made(void **state)
{
    (void)state;
    pusher_tls_options options;
    memset(&options, 0, sizeof options);
    memset(&fails, 0, sizeof fails);
#if !defined(_WIN32)
    fails.no_files = true;
    init_fails(&options, "TLS: this system's list of authorities was not found: give "
                         "options.tls.ca_file or options.tls.ca");
    assert_true(fails.paths >= 5);
#endif
#if !defined(_WIN32) && MBEDTLS_VERSION_NUMBER < 0x04000000
    fails.files = -0x2880;
    for (int some = 0; some < 2; some++) { /* a list that ends where memory did is no list */
        fails.no_files = !some;
        fails.paths = 0;
        init_ends(&options, PUSHER_ERR_MEMORY, NULL);
    }
    fails.files = 0;
#endif
    fails.defaults = -0x7F00;
    init_fails(&options, "TLS: no memory for mbedTLS' configuration");
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    fails.no_psa = true;
    init_fails(&options, "TLS: mbedTLS' crypto does not start: no memory, or no random source of "
                         "its own");
#endif
    memset(&fails, 0, sizeof fails);
    struct psh_tls tls;
    memset(&tls, 0, sizeof tls);
    psh_tls_free(&tls); /* never made */
}

static void no_memory_for_a_copy_of_pem(void **state)
{
    (void)state;
    line l;
    line_start(&l, 3);
    l.heap.fail_at = l.heap.calls + 1;
    assert_true(psh_tls_load_memory(&l.tls, "-----BEGIN", 0) < 0);
    assert_int_equal(l.heap.failed, 1);
    line_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(names),
        cmocka_unit_test(one_step_a_call),
        cmocka_unit_test(data_both_ways),
#if defined(MBEDTLS_SSL_RENEGOTIATION)
        cmocka_unit_test(an_alert_among_blocked_output),
        cmocka_unit_test(a_long_message_goes_out_by_a_read),
#endif
        cmocka_unit_test(a_write_that_wants_to_read),
        cmocka_unit_test(a_flood_of_nothing),
        cmocka_unit_test(empty_records_are_no_end),
#if TLS_HAS_13
        cmocka_unit_test(tickets_without_number),
#endif
        cmocka_unit_test(sessions_of_several_hosts),
        cmocka_unit_test(a_session_is_offered_once),
        cmocka_unit_test(a_ticket_of_another_machine),
        cmocka_unit_test(no_stream),
        cmocka_unit_test(the_inner_stream_is_asked),
        cmocka_unit_test(dead_streams_stay_dead),
        cmocka_unit_test(what_mbedtls_says),
        cmocka_unit_test(what_was_not_seen_is_not_trusted),
        cmocka_unit_test(flags_have_words),
        cmocka_unit_test(the_inner_stream_fails_in_a_send),
        cmocka_unit_test(a_session_that_cannot_be_kept),
        cmocka_unit_test(randomness_fails_for_one_stream_only),
        cmocka_unit_test(alerts_have_names),
        cmocka_unit_test(it_cannot_be_made),
        cmocka_unit_test(no_memory_for_a_copy_of_pem),
    };
    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
