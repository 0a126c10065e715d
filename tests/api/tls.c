/* TLS as a user of the library sees it: good servers, and many bad ones, each refused with words of
   its own. None of the bad ever gets a byte of the upgrade request. */
#define PUSHER_TLS
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "tls.h"

#include <stdlib.h>
#include <time.h>

#define PREFIX TLS_HOST ":443: connecting: TLS: "

/* The versions that this mbedTLS can speak. */
#define EACH_VERSION(minor) for (int minor = 3; minor <= 3 + TLS_HAS_13; minor++)

/* A server with one certificate of its own. */
static void serve(tls_world *w, const tls_spec *spec, int minor)
{
    tls_cert cert = tls_make(spec);
    tls_start(w);
    tls_present(w, &cert);
    tls_serve_with(w, spec->key);
    tls_max_version(w, minor);
    tls_accept(w);
}

static void expect_connected(tls_world *w)
{
    if (!tls_run(w, 3000))
        fail_msg("neither connected nor refused");
    assert_string_equal(w->message, "");
    assert_int_equal(pusher_get_state(w->client), PUSHER_CONNECTED);
    tls_say_event(w, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"hello\"}");
    tls_pass(w, 3);
    assert_string_equal(w->event, "news hello");
}

static void expect_refused(tls_world *w, const char *message)
{
    if (!tls_run(w, 3000))
        fail_msg("neither connected nor refused; wanted \"%s\"", message);
    assert_string_equal(w->message, message);
    assert_int_equal(w->code, PUSHER_ERR_TLS);
    assert_int_equal(w->heard.from_client.len, 0);
    assert_int_not_equal(pusher_get_state(w->client), PUSHER_CONNECTED);
}

/* ---- good servers ---------------------------------------------------------------------------- */

static void a_good_server(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        assert_string_equal(mbedtls_ssl_get_version(&w.ssl), minor == 3 ? "TLSv1.2" : "TLSv1.3");
        assert_int_equal(w.port, 443);
        assert_string_equal(w.host, TLS_HOST);
        assert_non_null(strstr(w.heard.from_client.at, "\r\nHost: " TLS_HOST "\r\n"));
        tls_end(&w);
    }
}

typedef struct good {
    const char *host;
    tls_san san[3];
    const char *subject;
} good;

static const good good_names[] = {
    { "WS.Test", { { 2, "ws.tEST", 0 } }, NULL },
    { "ws.test.", { { 2, "ws.test", 0 } }, NULL },
    { "ws.example.org", { { 2, "nobody.test", 0 }, { 2, "*.example.org", 0 } }, NULL },
    { "ws.test", { { 0, NULL, 0 } }, "O=We,CN=ws.test" },
    { "127.0.0.1", { { 7, "\x7f\0\0\1", 4 } }, "CN=somebody" },
    { "10.1.2.255", { { 2, "a.test", 0 }, { 1, "a@b", 0 }, { 7, "\x0a\1\2\xff", 4 } }, NULL },
    { "::1", { { 7, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16 } }, NULL },
    { "fe80::a:0:b%lo", { { 7, "\xfe\x80\0\0\0\0\0\0\0\0\0\x0a\0\0\0\x0b", 16 } }, NULL },
};

static char sni[300];

static int on_sni(void *context, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    (void)context;
    (void)ssl;
    snprintf(sni, sizeof sni, "%.*s", (int)len, (const char *)name);
    return 0;
}

static void names_and_addresses_that_fit(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(good_names); i++) {
            const good *g = &good_names[i];
            tls_world w;
            tls_spec spec = tls_leaf();
            memset(spec.san, 0, sizeof spec.san);
            memcpy(spec.san, g->san, sizeof g->san);
            spec.subject = g->subject ? g->subject : "O=Test";
            serve(&w, &spec, minor);
            mbedtls_ssl_conf_sni(&w.config, on_sni, NULL);
            sni[0] = '\0';
            pusher_options options = tls_options(&w);
            options.host = g->host;
            tls_client(&w, &options);
            expect_connected(&w);
            bool name = !strchr(g->host, ':') && (g->host[0] < '0' || g->host[0] > '9');
            assert_string_equal(sni, !name ? "" : strcmp(g->host, "ws.test.") ? g->host : "ws.test");
            tls_end(&w);
        }
    }
}

/* An authority between the root and the server. */
static tls_cert middle(tls_ca ca, const char *to)
{
    tls_spec spec = tls_authority("CN=Middle", &tls_the_shop.middle_key);
    spec.issuer = "CN=Test Root";
    spec.signer = &tls_the_shop.root_key;
    spec.ca = ca;
    spec.to = to;
    return tls_make(&spec);
}

static void serve_chain(tls_world *w, const tls_cert *authority, int minor)
{
    tls_spec spec = tls_leaf();
    spec.issuer = "CN=Middle";
    spec.signer = &tls_the_shop.middle_key;
    serve(w, &spec, minor);
    if (authority)
        tls_present(w, authority);
}

static void a_chain(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_cert authority = middle(TLS_CA_TRUE, NULL);
        serve_chain(&w, &authority, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        tls_end(&w);
    }
}

static void to_pem(const tls_cert *cert, char *out, size_t cap)
{
    size_t len = 0;
    int at = snprintf(out, cap, "a comment\n-----BEGIN CERTIFICATE-----\n");
    assert_int_equal(mbedtls_base64_encode((unsigned char *)out + at, cap - (size_t)at, &len,
                                           cert->der, cert->len), 0);
    snprintf(out + at + len, cap - (size_t)at - len, "\n-----END CERTIFICATE-----\n");
}

/* In memory: PEM with and without its NUL counted; in a file; two at once. */
static void authorities_from_everywhere(void **state)
{
    (void)state;
    const char *folder = getenv("TEMP"); /* as Windows calls it */
    char pem[8192], path[300];
    to_pem(&tls_the_shop.other, pem, sizeof pem);
    to_pem(&tls_the_shop.root, pem + strlen(pem), sizeof pem - strlen(pem));
    snprintf(path, sizeof path, "%s/pusher-tls-%p-%lx.pem", folder ? folder : "/tmp", (void *)path,
             (unsigned long)time(NULL));
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(pem, 1, strlen(pem), file), strlen(pem));
    assert_int_equal(fclose(file), 0);
    for (int way = 0; way < 5; way++) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, 3);
        pusher_options options = tls_options(&w);
        options.tls.ca = way < 3 ? pem : NULL;
        options.tls.ca_len = way == 0 ? 0 : way == 1 ? strlen(pem) : strlen(pem) + 1;
        if (way >= 3)
            options.tls.ca_file = path;
        if (way == 4) {
            options.tls.ca = tls_the_shop.other.der;
            options.tls.ca_len = tls_the_shop.other.len;
        }
        tls_client(&w, &options);
        expect_connected(&w);
        tls_end(&w);
    }
    assert_int_equal(remove(path), 0);
}

/* Every byte alone, every second call blocked, in both directions and in each other's. */
static void a_slow_wire(void **state)
{
    (void)state;
    static const uint32_t blocks[][2] = { { 0, 0 }, { 2, 2 }, { 2, 3 }, { 3, 2 } };
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
            for (int way = 0; way < 3; way++) {
                tls_world w;
                tls_spec spec = tls_leaf();
                serve(&w, &spec, minor);
                w.recv_max = w.send_max = i == 0 || way > 0 ? 1 : 100;
                w.recv_block = blocks[i][0];
                w.send_block = blocks[i][1];
                w.block_says = way == 2 ? PUSHER_IO_WANT_READ : way ? PUSHER_IO_WANT_WRITE : 0;
                pusher_options options = tls_options(&w);
                options.connect_timeout_ms = 100000;
                tls_client(&w, &options);
                assert_true(tls_run(&w, 50000));
                assert_string_equal(w.message, "");
                tls_say_event(&w, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"hello\"}");
                tls_pass(&w, 600);
                assert_string_equal(w.event, "news hello");
                tls_end(&w);
            }
        }
    }
}

/* ---- bad certificates ------------------------------------------------------------------------ */

typedef struct bad {
    const char *message;  /* behind PREFIX                                                        */
    void (*spoil)(tls_spec *spec);
} bad;

static void wrong_name(tls_spec *s) { s->san[0].data = "example.org"; }

static void many_names(tls_spec *s)
{
    static const char *const names[] = { "a.example", "b.example", "c.example", "d.example" };
    for (size_t i = 0; i < 4; i++)
        s->san[i].data = names[i], s->san[i].kind = 2;
    s->san[4].kind = 7;
    s->san[4].data = "\1\2\3\4";
}

static void no_name(tls_spec *s)
{
    s->subject = "O=Nobody";
    s->san[0].data = NULL;
}

static void only_a_mail_address(tls_spec *s)
{
    s->san[0].kind = 1;
    s->san[0].data = TLS_HOST;
}

static void common_name_beside_others(tls_spec *s) { s->san[0].data = "other.example"; }
static void expired(tls_spec *s) { s->to = "20200201000000"; }
static void not_yet(tls_spec *s) { s->from = "20481224000000"; }

static void by_itself(tls_spec *s)
{
    s->issuer = s->subject;
    s->signer = s->key;
}

static void unknown_authority(tls_spec *s)
{
    s->issuer = "CN=Other Root";
    s->signer = &tls_the_shop.other_key;
}

static void forged(tls_spec *s) { s->signer = &tls_the_shop.other_key; }
static void for_clients(tls_spec *s) { s->eku = TLS_EKU_CLIENT; }
static void for_signing_lists(tls_spec *s) { s->key_usage = MBEDTLS_X509_KU_CRL_SIGN; }
static void sha1(tls_spec *s) { s->md = MBEDTLS_MD_SHA1; }
static void wide_wildcard(tls_spec *s) { s->san[0].data = "*.test"; }
static void half_wildcard(tls_spec *s) { s->san[0].data = "w*.test"; }
static void bare_wildcard(tls_spec *s) { s->san[0].data = "*"; }

static void nul_in_the_name(tls_spec *s)
{
    s->san[0].data = TLS_HOST "\0.evil.example";
    s->san[0].len = sizeof TLS_HOST "\0.evil.example" - 1;
}

static void everything_wrong(tls_spec *s)
{
    wrong_name(s);
    expired(s);
    by_itself(s);
}

static void longest(tls_spec *s)
{
    static char name[120];
    memset(name, 'x', sizeof name - 1);
    s->san[0].data = s->san[1].data = s->san[2].data = s->san[3].data = name;
    s->san[1].kind = s->san[2].kind = s->san[3].kind = 2;
}

#define X40 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const bad bad_certificates[] = {
    { "certificate is for example.org, not ws.test", wrong_name },
    { "certificate is for a.example, b.example, c.example and 2 more, not ws.test", many_names },
    { "certificate is for no host at all, not ws.test", no_name },
    { "certificate is for no host at all, not ws.test", only_a_mail_address },
    { "certificate is for other.example, not ws.test", common_name_beside_others },
    { "certificate of ws.test expired on 2020-02-01, by this machine's clock", expired },
    { "certificate of ws.test is not valid before 2048-12-24, by this machine's clock", not_yet },
    { "certificate of ws.test is signed by itself, and not one of those trusted", by_itself },
    { "certificate of ws.test is not signed by a known authority (issuer: \"Other Root\")",
      unknown_authority },
    { "certificate of ws.test is not signed by a known authority (issuer: \"Test Root\")", forged },
    { "certificate of ws.test may not be used by a server (key usage)", for_clients },
    { "certificate of ws.test may not be used by a server (key usage)", for_signing_lists },
    { "certificate of ws.test is signed with a hash that is too weak", sha1 },
    { "certificate is for *.test, not ws.test", wide_wildcard },
    { "certificate is for w*.test, not ws.test", half_wildcard },
    { "certificate is for *, not ws.test", bare_wildcard },
    { "certificate is for ws.test?.evil.example, not ws.test", nul_in_the_name },
    { "certificate is for example.org, not ws.test", everything_wrong },
    { "certificate is for " X40 "..., " X40 "..., " X40 "... and 1 more, not ws.test", longest },
};

static void bad_certificates_are_refused(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(bad_certificates); i++) {
            const bad *b = &bad_certificates[i];
            char message[512];
            tls_world w;
            tls_spec spec = tls_leaf();
            b->spoil(&spec);
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            tls_client(&w, &options);
            snprintf(message, sizeof message, PREFIX "%s", b->message);
            expect_refused(&w, message);
            tls_end(&w);
        }
    }
}

typedef struct bad_host {
    const char *host, *message;
    tls_san san[2];
} bad_host;

static const bad_host bad_hosts[] = {
    { "127.0.0.1", "127.0.0.1:443: connecting: TLS: certificate is for 10.0.0.1, not 127.0.0.1",
      { { 7, "\x0a\0\0\1", 4 } } },
    { "127.0.0.1", "127.0.0.1:443: connecting: TLS: certificate is for 127.0.0.1, not 127.0.0.1",
      { { 2, "127.0.0.1", 0 } } },
    { "127.0.0.1", "127.0.0.1:443: connecting: TLS: certificate is for no host at all, "
      "not 127.0.0.1", { { 1, "127.0.0.1", 0 } } },
    { "127.0.0.1", "127.0.0.1:443: connecting: TLS: certificate is for *.0.0.1, not 127.0.0.1",
      { { 2, "*.0.0.1", 0 } } },
    { "::1", "[::1]:443: connecting: TLS: certificate is for "
      "0000:0000:0000:0000:0000:0000:0000:0002, not ::1",
      { { 7, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16 } } },
    { "::1", "[::1]:443: connecting: TLS: certificate is for 0.0.0.1, not ::1",
      { { 7, "\0\0\0\1", 4 } } },
    { "a.b.example.org", "a.b.example.org:443: connecting: TLS: certificate is for "
      "*.example.org, not a.b.example.org", { { 2, "*.example.org", 0 } } },
    { "example.org", "example.org:443: connecting: TLS: certificate is for "
      "*.example.org, not example.org", { { 2, "*.example.org", 0 } } },
};

static void hosts_that_do_not_fit(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(bad_hosts); i++) {
            tls_world w;
            tls_spec spec = tls_leaf();
            memcpy(spec.san, bad_hosts[i].san, sizeof bad_hosts[i].san);
            spec.subject = "CN=127.0.0.1";
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            options.host = bad_hosts[i].host;
            tls_client(&w, &options);
            expect_refused(&w, bad_hosts[i].message);
            tls_end(&w);
        }
    }
}

static void chains_that_do_not_hold(void **state)
{
    (void)state;
    static const char *const messages[] = {
        PREFIX "certificate of ws.test is signed by one that is no authority (issuer: \"Middle\")",
        PREFIX "certificate of ws.test is signed by one that is no authority (issuer: \"Middle\")",
        PREFIX "certificate of the authority \"Middle\" expired on 2020-02-01, by this machine's "
               "clock",
        PREFIX "certificate of ws.test is not signed by a known authority (issuer: \"Middle\")",
    };
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
            tls_world w;
            tls_cert authority = middle(i == 0 ? TLS_CA_FALSE : i == 1 ? TLS_CA_ABSENT : TLS_CA_TRUE,
                                        i == 2 ? "20200201000000" : NULL);
            serve_chain(&w, i == 3 ? NULL : &authority, minor);
            pusher_options options = tls_options(&w);
            tls_client(&w, &options);
            expect_refused(&w, messages[i]);
            tls_end(&w);
        }
    }
}

static void weak_keys(void **state)
{
    (void)state;
    mbedtls_pk_context key;
    tls_rsa_key(&key, 1024);
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        spec.key = &key;
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_refused(&w, PREFIX "certificate of ws.test has a key that is too weak");
        tls_end(&w);
    }
    mbedtls_pk_free(&key);
}

/* MD5 is for RSA only. */
static void a_weak_hash(void **state)
{
    (void)state;
    mbedtls_pk_context key;
    tls_rsa_key(&key, 2048);
    tls_spec spec = tls_authority("CN=RSA Root", &key);
    tls_cert root = tls_make(&spec);
    EACH_VERSION(minor) {
        for (int i = 0; i < 2; i++) {
            tls_world w;
            spec = tls_leaf();
            spec.issuer = "CN=RSA Root";
            spec.signer = &key;
            spec.md = i ? MBEDTLS_MD_MD5 : MBEDTLS_MD_SHA384;
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            options.tls.ca = root.der;
            options.tls.ca_len = root.len;
            tls_client(&w, &options);
            if (i)
                expect_refused(&w, PREFIX
                               "certificate of ws.test is signed with a hash that is too weak");
            else
                expect_connected(&w);
            tls_end(&w);
        }
    }
    mbedtls_pk_free(&key);
}

/* Faults do not become fewer by trying again, and a session that nobody verified is not kept. */
static void a_refused_server_stays_refused(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        wrong_name(&spec);
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        for (int i = 0; i < 3; i++) {
            expect_refused(&w, PREFIX "certificate is for example.org, not ws.test");
            tls_accept(&w);
            pusher_reconnect_now(w.client);
        }
        assert_int_equal(w.opened, 3);
        tls_end(&w);
    }
}

/* ---- servers that are no good TLS servers ---------------------------------------------------- */

/* What comes instead of a handshake. len 0: a string. */
typedef struct raw {
    const char *message, *bytes;
    size_t len;
} raw;

#define RANDOM32 "0123456789abcdef0123456789abcdef"
#define HELLO(version) "\x16\x03" version "\0\x2a\2\0\0\x26\3" version RANDOM32 "\0\xc0\x0a\0"

static const raw raw_servers[] = {
    { "the server does not speak TLS on this port: it answers in plain HTTP",
      "HTTP/1.1 400 Bad Request\r\n\r\n", 0 },
    { "the server does not speak TLS on this port", "SSH-2.0-OpenSSH_9\r\n", 0 },
    { "the server does not speak TLS on this port", "\0\0\0\0\0\0\0\0\0\0\0\0", 12 },
    { "the server does not speak TLS on this port", "\x16\x01\0\0\5hello", 10 },
    { "the server does not speak TLS on this port", "\x81\x05hello", 0 },
    { "the server's protocol is too old: TLS 1.2 at least is needed", HELLO("\1"),
      sizeof HELLO("\1") - 1 },
    { "the server's protocol is too old: TLS 1.2 at least is needed", HELLO("\2"),
      sizeof HELLO("\2") - 1 },
    { "the handshake failed (mbedTLS -0x7200)", HELLO("\3") "HTTP/1.1 400 Bad Request\r\n",
      sizeof HELLO("\3") + 25 },
    { "the server refused: protocol_version: it and this mbedTLS have none in common, from TLS 1.2 on",
      "\x15\3\1\0\2\2\x46", 7 },
    { "the server refused: handshake_failure: no cipher or signature in common",
      "\x15\3\3\0\2\2\x28", 7 },
    { "the server refused: unrecognized_name: it has no certificate for this host",
      "\x15\3\3\0\2\2\x70", 7 },
    { "the server refused: internal_error", "\x15\3\3\0\2\2\x50", 7 },
    { "the server refused: an alert", "\x15\3\3\0\2\2\xee", 7 },
    { "the server ended the connection in the handshake", "\x15\3\3\0\2\1\0", 7 },
};

static void others_are_told_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(raw_servers); i++) {
        const raw *r = &raw_servers[i];
        for (size_t piece = 0; piece < 2; piece++) {
            char message[256];
            tls_world w;
            tls_start(&w);
            w.recv_max = piece;
            fake_bytes_add(&w.to_client, r->bytes, r->len ? r->len : strlen(r->bytes));
            pusher_options options = tls_options(&w);
            tls_client(&w, &options);
            snprintf(message, sizeof message, PREFIX "%s", r->message);
            expect_refused(&w, message);
            tls_end(&w);
        }
    }
}

/* Records that are none of any use: mbedTLS' own words, but refused and never more than that. */
static void garbage(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (int i = 0; i < 300; i++) {
        unsigned char bytes[600];
        size_t len = 5 + (size_t)(fake_next_random(&random) % 500);
        tls_world w;
        tls_start(&w);
        (void)tls_random(&random, bytes, len);
        if (i % 3) {
            bytes[0] = (unsigned char)(20 + bytes[0] % 4);
            bytes[1] = bytes[2] = 3;
            bytes[3] = 0;
            bytes[4] = (unsigned char)(len - 5 < 250 ? len - 5 : 250);
        }
        fake_bytes_add(&w.to_client, bytes, len);
        w.ended = true;
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        assert_true(tls_run(&w, 200));
        assert_int_equal(w.code, PUSHER_ERR_TLS);
        assert_int_equal(strncmp(w.message, PREFIX, strlen(PREFIX)), 0);
        tls_end(&w);
    }
}

/* How much a whole session's server says, up to where the client is connected. */
static size_t whole(int minor)
{
    tls_world w;
    tls_spec spec = tls_leaf();
    serve(&w, &spec, minor);
    pusher_options options = tls_options(&w);
    tls_client(&w, &options);
    assert_true(tls_run(&w, 3000));
    assert_int_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
    size_t len = w.client_at;
    tls_end(&w);
    return len;
}

/* The wire ends in the server's words: at every 31st byte, and around each record's edge. */
static void cut_or_stalled_anywhere(void **state)
{
    (void)state;
    static const int ends[] = { PUSHER_IO_EOF, PUSHER_IO_ERROR, PUSHER_IO_WANT_READ };
    EACH_VERSION(minor) {
        size_t len = whole(minor);
        for (size_t at = 0; at < len; at += 31) {
            int end = ends[at / 31 % ARRAY_LEN(ends)];
            tls_world w;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            w.end_after = at;
            w.end_says = end;
            pusher_options options = tls_options(&w);
            options.connect_timeout_ms = 300;
            tls_client(&w, &options);
            assert_true(tls_run(&w, 400));
            assert_int_not_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
            bool shaken = w.heard.from_client.len > 0;
            const char *wanted = shaken ? "the connection was cut off: it ended without close_notify"
                                        : "the server ended the connection in the handshake";
            if (end == PUSHER_IO_EOF) {
                assert_int_equal(w.code, PUSHER_ERR_TLS);
                assert_non_null(strstr(w.message, wanted));
            } else if (end == PUSHER_IO_ERROR) {
                assert_int_equal(w.code, PUSHER_ERR_IO);
                assert_non_null(strstr(w.message, "the wire is broken"));
            } else {
                assert_int_equal(w.code, PUSHER_ERR_TIMEOUT);
                assert_true(w.now >= 1000 + 300);
            }
            tls_end(&w);
        }
    }
}

/* One bit of what the server says is another, anywhere in its handshake. */
static void damaged_anywhere(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        size_t len = whole(minor);
        for (size_t at = 0; at + 200 < len; at += 53) {
            tls_world w;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            options.connect_timeout_ms = 100;
            w.end_after = at;
            w.end_says = PUSHER_IO_WANT_READ;
            tls_client(&w, &options);
            for (int i = 0; i < 90 && w.to_client.len <= at && !w.errors; i++)
                tls_pass(&w, 1);
            if (w.to_client.len > at)
                w.to_client.at[at] = (char)(w.to_client.at[at] ^ (1 << (at % 8)));
            w.end_says = 1;
            tls_run(&w, 400);
            assert_int_not_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
            assert_true(w.errors > 0);
            assert_true(w.code == PUSHER_ERR_TLS || w.code == PUSHER_ERR_TIMEOUT);
            tls_end(&w);
        }
    }
}

static void a_server_that_never_answers(void **state)
{
    (void)state;
    tls_world w;
    tls_start(&w);
    pusher_options options = tls_options(&w);
    tls_client(&w, &options);
    assert_false(tls_run(&w, 14900));
    assert_true(tls_run(&w, 200));
    assert_int_equal(w.code, PUSHER_ERR_TIMEOUT);
    assert_string_equal(w.message, PREFIX "no answer in time");
    tls_end(&w);
    tls_start(&w); /* and one that is not even reached */
    w.connect_says = PUSHER_IO_WANT_WRITE;
    options = tls_options(&w);
    tls_client(&w, &options);
    assert_true(tls_run(&w, 15100));
    assert_int_equal(w.code, PUSHER_ERR_TIMEOUT);
    assert_string_equal(w.message, TLS_HOST ":443: connecting: no answer in time");
    tls_end(&w);
}

static void the_inner_stream_fails_first(void **state)
{
    (void)state;
    static const int says[] = { PUSHER_IO_ERROR, PUSHER_IO_ERROR_RESOLVE };
    for (size_t i = 0; i < ARRAY_LEN(says); i++) {
        tls_world w;
        tls_start(&w);
        w.connect_says = says[i];
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        assert_true(tls_run(&w, 10));
        assert_int_equal(w.code, i == 0 ? PUSHER_ERR_IO : PUSHER_ERR_RESOLVE);
        assert_string_equal(w.message, "ws.test:443: connecting: the wire is broken");
        tls_end(&w);
    }
}

static void a_random_source_that_dies(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (uint32_t steps = 0; steps < 4; steps++) {
            tls_world w;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            tls_client(&w, &options);
            tls_pass(&w, steps);
            w.random_dies = true;
            assert_true(tls_run(&w, 200));
            assert_int_not_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
            assert_non_null(strstr(w.message, "the random source failed"));
            w.random_dies = false; /* and is no reason any more */
            tls_accept(&w);
            w.mute = true;
            fake_bytes_add(&w.to_client, "HTTP/1.1 400\r\n", 14);
            pusher_reconnect_now(w.client);
            expect_refused(&w, PREFIX "the server does not speak TLS on this port: it answers in "
                                      "plain HTTP");
            tls_end(&w);
        }
    }
}

/* ---- whom to trust --------------------------------------------------------------------------- */

static void refuse_to_create(const pusher_options *options, pusher_result code, const char *text)
{
    pusher_error error;
    pusher_client *client = pusher_create(options, &error);
    if (client)
        pusher_destroy(client);
    assert_null(client);
    assert_string_equal(error.message, text);
    assert_int_equal(error.code, code);
}

static void nobody_to_trust(void **state)
{
    (void)state;
    tls_world w;
    tls_start(&w);
    pusher_options options = tls_options(&w);
    options.tls.ca = "nonsense";
    options.tls.ca_len = 0;
    refuse_to_create(&options, PUSHER_ERR_TLS,
                     "options.tls.ca holds no certificate, in PEM or in DER");
    options.tls.ca = "";
    refuse_to_create(&options, PUSHER_ERR_TLS,
                     "options.tls.ca holds no certificate, in PEM or in DER");
    options.tls.ca = tls_the_shop.root.der;
    options.tls.ca_len = tls_the_shop.root.len - 1;
    refuse_to_create(&options, PUSHER_ERR_TLS,
                     "options.tls.ca holds no certificate, in PEM or in DER");
    options.tls.ca_len++;
    static const char *const files[] = { "/nonexistent", "", "/dev/null", __FILE__ };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        options.tls.ca_file = files[i];
        refuse_to_create(&options, PUSHER_ERR_TLS,
                         "options.tls.ca_file cannot be read, or holds no certificate");
    }
    tls_end(&w);
}

/* Whichever allocation fails: that is no fault of the certificates. */
static void no_memory_to_create_it(void **state)
{
    (void)state;
    tls_world w;
    tls_start(&w);
    char pem[4096];
    fake_heap heap;
    memset(&heap, 0, sizeof heap);
    to_pem(&tls_the_shop.root, pem, sizeof pem);
    pusher_options options = tls_options(&w);
    options.tls.ca = pem;
    options.tls.ca_len = 0;
    options.allocator.alloc_fn = fake_heap_alloc;
    options.allocator.free_fn = fake_heap_free;
    options.allocator.user_data = &heap;
    pusher_client *client = NULL;
    for (uint64_t i = 1; !client; i++) {
        pusher_error error;
        heap.fail_at = heap.calls + i;
        client = pusher_create(&options, &error);
        if (!client) assert_int_equal(error.code, PUSHER_ERR_MEMORY);
        assert_true(i < 100);
    }
    heap.fail_at = 0;
    pusher_destroy(client);
    tls_end(&w);
}

/* Debian's list, or that of another system; a machine without any says so. */
static void the_systems_list(void **state)
{
    (void)state;
    tls_world w;
    tls_spec spec = tls_leaf();
    serve(&w, &spec, 3);
    pusher_error error;
    pusher_options options = tls_options(&w);
    options.tls.ca = NULL;
    options.tls.ca_len = 0;
    w.client = pusher_create(&options, &error);
    if (w.client) {
        pusher_connect(w.client);
        expect_refused(&w, PREFIX "certificate of ws.test is not signed by a known authority "
                                  "(issuer: \"Test Root\")");
    } else {
        assert_int_equal(error.code, PUSHER_ERR_TLS);
        assert_string_equal(error.message, "TLS: this system's list of authorities was not found: "
                                           "give options.tls.ca_file or options.tls.ca");
    }
    tls_end(&w);
}

static void any_certificate_is_taken_if_told_so(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (int i = 0; i < 3; i++) {
            tls_world w;
            tls_spec spec = tls_leaf();
            if (i == 1)
                everything_wrong(&spec);
            if (i == 2)
                for_clients(&spec);
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            options.tls.insecure_accept_any_certificate = true;
            options.tls.ca = NULL;
            tls_client(&w, &options);
            expect_connected(&w);
            assert_non_null(strstr(w.log, "TLS: ANY certificate is accepted: anybody can be the "
                                          "server (insecure_accept_any_certificate)"));
            tls_end(&w);
        }
    }
}

/* Another configuration of mbedTLS: the client's certificate in it, or another idea of whom to
   trust. */
typedef struct own_config {
    mbedtls_ssl_config config;
    mbedtls_x509_crt roots, mine;
    uint64_t random;
    uint32_t asked;
} own_config;

static void own_start(own_config *own, const tls_cert *root)
{
    memset(own, 0, sizeof *own);
    mbedtls_ssl_config_init(&own->config);
    mbedtls_x509_crt_init(&own->roots);
    mbedtls_x509_crt_init(&own->mine);
    assert_int_equal(mbedtls_ssl_config_defaults(&own->config, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT), 0);
    mbedtls_ssl_conf_rng(&own->config, tls_random, &own->random);
    assert_int_equal(mbedtls_x509_crt_parse_der(&own->roots, root->der, root->len), 0);
    mbedtls_ssl_conf_ca_chain(&own->config, &own->roots, NULL);
}

static void own_end(own_config *own)
{
    mbedtls_ssl_config_free(&own->config);
    mbedtls_x509_crt_free(&own->roots);
    mbedtls_x509_crt_free(&own->mine);
}

static void a_client_certificate(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (int shown = 0; shown < 2; shown++) {
            tls_world w;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            assert_int_equal(mbedtls_x509_crt_parse_der(&w.client_ca, tls_the_shop.root.der,
                                                        tls_the_shop.root.len), 0);
            mbedtls_ssl_conf_ca_chain(&w.config, &w.client_ca, NULL);
            mbedtls_ssl_conf_authmode(&w.config, MBEDTLS_SSL_VERIFY_REQUIRED);
            tls_accept(&w);
            own_config own;
            own_start(&own, &tls_the_shop.root);
            spec = tls_leaf();
            spec.subject = "CN=a client";
            spec.key = &tls_the_shop.middle_key;
            tls_cert mine = tls_make(&spec);
            assert_int_equal(mbedtls_x509_crt_parse_der(&own.mine, mine.der, mine.len), 0);
            if (shown)
                assert_int_equal(mbedtls_ssl_conf_own_cert(&own.config, &own.mine, spec.key), 0);
            pusher_options options = tls_options(&w);
            options.tls.ca = NULL;
            options.tls.ssl_config = &own.config;
            tls_client(&w, &options);
            if (shown) {
                expect_connected(&w);
            } else {
                assert_true(tls_run(&w, 1000));
                assert_int_equal(w.code, PUSHER_ERR_TLS);
                /* In TLS 1.3 the client is through by then, and mbedTLS' server then says it in a
                   record of the wrong key. */
                assert_non_null(strstr(w.message, minor == 3 ? "connecting: TLS: the server "
                                                             : "upgrading to WebSocket: TLS: "));
                assert_int_equal(w.heard.from_client.len, 0);
            }
            tls_end(&w);
            own_end(&own);
        }
    }
}

/* The user's own callback: here it trusts one certificate, and no authority. */
static int pinned(void *context, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    own_config *own = (own_config *)context;
    own->asked++;
    if (depth == 0 && crt->raw.len == own->mine.raw.len &&
        memcmp(crt->raw.p, own->mine.raw.p, crt->raw.len) == 0)
        *flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_NOT_TRUSTED;
    return 0;
}

static void a_pinned_certificate(void **state)
{
    (void)state;
    static const char *const messages[] = {
        "", PREFIX "certificate of ws.test is not signed by a known authority",
        PREFIX "certificate of ws.test is for another host",
        PREFIX "certificate of ws.test has expired", PREFIX "certificate of ws.test is not valid yet"
    };
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
            tls_world w;
            own_config own;
            tls_spec spec = tls_leaf();
            by_itself(&spec);
            if (i == 2)
                wrong_name(&spec);
            if (i == 3)
                expired(&spec);
            if (i == 4)
                not_yet(&spec);
            serve(&w, &spec, minor);
            own_start(&own, &tls_the_shop.other);
            const tls_cert *pin = &tls_the_shop.other;
            tls_cert shown;
            shown.len = w.chain.raw.len;
            memcpy(shown.der, w.chain.raw.p, shown.len);
            if (i != 1)
                pin = &shown;
            assert_int_equal(mbedtls_x509_crt_parse_der(&own.mine, pin->der, pin->len), 0);
            mbedtls_ssl_conf_verify(&own.config, pinned, &own);
            pusher_options options = tls_options(&w);
            options.tls.ssl_config = &own.config;
            tls_client(&w, &options);
            if (i == 0)
                expect_connected(&w);
            else
                expect_refused(&w, messages[i]);
            assert_true(own.asked > 0);
            tls_end(&w);
            own_end(&own);
        }
    }
}

/* A callback of the user's that ends the handshake, with mbedTLS' codes or its own: those are told
   as mbedTLS' "generic error". */
static int refusing(void *context, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    (void)crt;
    (void)depth;
    (void)flags;
    return *(const int *)context;
}

static void a_callback_that_fails(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *message;
    } table[] = { { 1, PREFIX "the handshake failed (mbedTLS -0x0001)" },
                  { 70000, PREFIX "the handshake failed (mbedTLS -0x0001)" },
                  { -0x2480, PREFIX "the handshake failed (mbedTLS -0x2480)" } };
    EACH_VERSION(minor) {
        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
            tls_world w;
            own_config own;
            int code = table[i].code;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            own_start(&own, &tls_the_shop.root);
            mbedtls_ssl_conf_verify(&own.config, refusing, &code);
            pusher_options options = tls_options(&w);
            options.tls.ssl_config = &own.config;
            tls_client(&w, &options);
            expect_refused(&w, table[i].message);
            tls_end(&w);
            own_end(&own);
        }
    }
}

/* A configuration that asks for no certificate is not taken, unless that was said aloud here. */
static void a_configuration_that_verifies_nothing(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (int way = 0; way < 4; way++) {
            const bool said = way & 1;
            tls_world w;
            own_config own;
            tls_spec spec = tls_leaf();
            by_itself(&spec);
            serve(&w, &spec, minor);
            own_start(&own, &tls_the_shop.other);
            mbedtls_ssl_conf_authmode(&own.config, way & 2 ? MBEDTLS_SSL_VERIFY_NONE
                                                           : MBEDTLS_SSL_VERIFY_OPTIONAL);
            pusher_options options = tls_options(&w);
            options.tls.ssl_config = &own.config;
            options.tls.insecure_accept_any_certificate = said;
            tls_client(&w, &options);
            if (said)
                expect_connected(&w);
            else
                expect_refused(&w, PREFIX "the certificate was not verified");
            tls_end(&w);
            own_end(&own);
        }
    }
}

/* ---- ends and new beginnings ----------------------------------------------------------------- */

static void an_end_with_and_without_goodbye(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        for (int way = 0; way < 3; way++) {
            tls_world w;
            tls_spec spec = tls_leaf();
            serve(&w, &spec, minor);
            pusher_options options = tls_options(&w);
            tls_client(&w, &options);
            expect_connected(&w);
            if (way == 0)
                assert_int_equal(mbedtls_ssl_close_notify(&w.ssl), 0);
            if (way == 1)
                w.ended = true;
            if (way == 2) {
                w.end_after = w.client_at;
                w.end_says = PUSHER_IO_ERROR;
            }
            tls_pass(&w, 2);
            assert_int_equal(w.errors, 1);
            assert_int_equal(w.code, way == 1 ? PUSHER_ERR_TLS : PUSHER_ERR_IO);
            assert_string_equal(w.message, way == 0
                ? "ws.test:443: while connected: the server ended the connection" : way == 1
                ? "ws.test:443: while connected: TLS: the connection was cut off: it ended without "
                  "close_notify"
                : "ws.test:443: while connected: the wire is broken");
            tls_end(&w);
        }
    }
}

/* Our own end is said by TLS, too, and not only when there is time for it. */
static void we_say_goodbye(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        pusher_destroy(w.client);
        w.client = NULL;
        tls_serve(&w);
        assert_int_equal(w.server_error, MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
        tls_end(&w);
    }
}

static void damaged_while_connected(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        tls_say_event(&w, "{\"event\":\"more\",\"channel\":\"chat\",\"data\":\"1\"}");
        tls_serve(&w);
        w.to_client.at[w.to_client.len - 3] = (char)(w.to_client.at[w.to_client.len - 3] ^ 4);
        tls_pass(&w, 1);
        assert_int_equal(w.code, PUSHER_ERR_TLS);
        assert_string_equal(w.message,
                            "ws.test:443: while connected: TLS: a record was damaged on its way");
        assert_int_equal(w.events, 1);
        tls_end(&w);
    }
}

/* The second connection costs no certificate (TLS 1.2 by session id, 1.3 by ticket), which is seen
   by how much the server says. When it has forgotten all, the handshake is a whole one again. */
static void resumption(void **state)
{
    (void)state;
    EACH_VERSION(minor) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, minor);
        mbedtls_ssl_ticket_context tickets;
        mbedtls_ssl_ticket_init(&tickets);
        assert_int_equal(mbedtls_ssl_ticket_setup(&tickets, tls_random, &w.random_state,
                                                  MBEDTLS_CIPHER_AES_256_GCM, 86400), 0);
        if (minor == 4)
            mbedtls_ssl_conf_session_tickets_cb(&w.config, mbedtls_ssl_ticket_write,
                                                mbedtls_ssl_ticket_parse, &tickets);
        tls_accept(&w);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        tls_pass(&w, 2);
        size_t whole_handshake = w.to_client.len;
        for (int i = 0; i < 4; i++) {
            if (i == 3) {
                mbedtls_ssl_conf_session_tickets_cb(&w.config, NULL, NULL, NULL);
                mbedtls_ssl_conf_session_cache(&w.config, NULL, NULL, NULL);
            }
            assert_int_equal(mbedtls_ssl_close_notify(&w.ssl), 0);
            w.errors = 0;
            tls_pass(&w, 1);
            assert_int_equal(w.errors, 1);
            tls_accept(&w);
            pusher_reconnect_now(w.client);
            w.message[0] = '\0';
            w.event[0] = '\0';
            expect_connected(&w);
            assert_int_equal(w.to_client.len + 300 < whole_handshake, i < 3);
        }
        tls_end(&w);
        mbedtls_ssl_ticket_free(&tickets);
    }
}

/* ---- with TLS or without --------------------------------------------------------------------- */

/* Answers the upgrade without TLS. */
static void answer_plainly(tls_world *w)
{
    fake_bytes_add(&w->heard.from_client, w->to_server.at, w->to_server.len);
    assert_non_null(strstr(w->heard.from_client.at, "\r\n\r\n"));
    fake_accept_on(&w->heard);
    fake_frame_to(&w->heard.to_client, 0x81, FAKE_ESTABLISHED, strlen(FAKE_ESTABLISHED));
    fake_bytes_add(&w->to_client, w->heard.to_client.at, w->heard.to_client.len);
    fake_bytes_free(&w->heard.to_client);
}

static void another_app_over_tls(void **state)
{
    (void)state;
    for (int port = 0; port <= 8443; port += 8443) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, 3);
        tls_accept(&w);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        expect_connected(&w);
        options.key = "other-key";
        options.port = (uint32_t)port;
        options.tls.mode = PUSHER_TLS_OFF; /* is not looked at */
        assert_int_equal(pusher_switch(w.client, &options), PUSHER_OK);
        pusher_disconnect(w.client);
        tls_pass(&w, 2000);
        tls_accept(&w); /* one server, one stream after the other */
        assert_int_equal(pusher_connect(w.client), PUSHER_OK);
        w.event[0] = '\0';
        expect_connected(&w);
        assert_int_equal(w.port, port ? port : 443);
        assert_memory_equal(w.heard.from_client.at, "GET /app/other-key?", 19);
        assert_non_null(strstr(w.heard.from_client.at, port ? "\r\nHost: ws.test:8443\r\n"
                                                            : "\r\nHost: ws.test\r\n"));
        tls_end(&w);
    }
}

static void tls_when_the_server_asks(void **state)
{
    (void)state;
    for (uint32_t port = 0; port <= 8443; port += 8443) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, 3);
        pusher_options options = tls_options(&w);
        options.tls.mode = PUSHER_TLS_WHEN_ASKED;
        options.port = port;
        w.mute = true;
        tls_client(&w, &options);
        tls_pass(&w, 3);
        assert_int_equal(w.port, port ? port : 80);
        answer_plainly(&w);
        assert_true(tls_run(&w, 10));
        assert_int_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
        fake_close_to(&w.to_client, 4000, "SSL only");
        tls_pass(&w, 1);
        assert_int_equal(w.code, PUSHER_ERR_SERVER);
        assert_non_null(strstr(w.message, "going on with TLS"));
        assert_int_equal(pusher_get_state(w.client), PUSHER_CONNECTING);
        w.message[0] = '\0';
        tls_accept(&w);
        w.mute = false;
        expect_connected(&w);
        assert_int_equal(w.port, port ? port : 443);
        assert_non_null(strstr(w.heard.from_client.at, port ? "\r\nHost: ws.test:8443\r\n"
                                                            : "\r\nHost: ws.test\r\n"));
        fake_close_to(&w.to_say, 4000, "SSL only"); /* and it asks once */
        tls_pass(&w, 2);
        assert_int_equal(pusher_get_state(w.client), PUSHER_FAILED);
        tls_end(&w);
    }
}

static void plain_if_told_so(void **state)
{
    (void)state;
    tls_world w;
    tls_start(&w);
    pusher_options options = tls_options(&w);
    options.tls.mode = PUSHER_TLS_OFF;
    options.tls.ca_file = "/nonexistent"; /* then nobody looks */
    tls_client(&w, &options);
    tls_pass(&w, 3);
    assert_int_equal(w.port, 80);
    answer_plainly(&w);
    assert_true(tls_run(&w, 10));
    assert_int_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
    fake_close_to(&w.to_client, 4000, "SSL only");
    tls_pass(&w, 1);
    assert_int_equal(pusher_get_state(w.client), PUSHER_FAILED);
    assert_non_null(strstr(w.message, "options.tls.mode"));
    tls_end(&w);
}

/* A transport that brings TLS of its own may say what went wrong, at any time. */
static void a_transport_with_its_own_tls(void **state)
{
    (void)state;
    for (int when = 0; when < 3; when++) {
        tls_world w;
        tls_start(&w);
        pusher_options options = tls_options(&w);
        options.tls.mode = PUSHER_TLS_OFF;
        options.port = 443;
        w.block_says = PUSHER_IO_ERROR_TLS;
        w.connect_says = when == 0 ? PUSHER_IO_ERROR_TLS : 0;
        w.send_block = when == 1;
        tls_client(&w, &options);
        tls_pass(&w, 2);
        w.recv_block = when == 2;
        tls_pass(&w, 1);
        assert_int_equal(w.code, PUSHER_ERR_TLS);
        assert_non_null(strstr(w.message, "the wire is broken"));
        tls_end(&w);
    }
}

static void modes(void **state)
{
    (void)state;
    tls_world w;
    tls_start(&w);
    pusher_options options = tls_options(&w);
    options.tls.mode = (pusher_tls_mode)4;
    refuse_to_create(&options, PUSHER_ERR_ARGUMENT,
                     "options.tls.mode is not a pusher_tls_mode");
    options.tls.mode = PUSHER_TLS_WHEN_ASKED;
    options.tls.ca_file = "/nonexistent";
    refuse_to_create(&options, PUSHER_ERR_TLS,
                     "options.tls.ca_file cannot be read, or holds no certificate");
    assert_string_equal(pusher_result_name(PUSHER_ERR_TLS), "PUSHER_ERR_TLS");
    tls_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_server),
        cmocka_unit_test(names_and_addresses_that_fit),
        cmocka_unit_test(a_chain),
        cmocka_unit_test(authorities_from_everywhere),
        cmocka_unit_test(a_slow_wire),
        cmocka_unit_test(bad_certificates_are_refused),
        cmocka_unit_test(hosts_that_do_not_fit),
        cmocka_unit_test(chains_that_do_not_hold),
        cmocka_unit_test(weak_keys),
        cmocka_unit_test(a_weak_hash),
        cmocka_unit_test(a_refused_server_stays_refused),
        cmocka_unit_test(others_are_told_by_name),
        cmocka_unit_test(garbage),
        cmocka_unit_test(cut_or_stalled_anywhere),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(a_server_that_never_answers),
        cmocka_unit_test(the_inner_stream_fails_first),
        cmocka_unit_test(a_random_source_that_dies),
        cmocka_unit_test(nobody_to_trust),
        cmocka_unit_test(no_memory_to_create_it),
        cmocka_unit_test(the_systems_list),
        cmocka_unit_test(any_certificate_is_taken_if_told_so),
        cmocka_unit_test(a_client_certificate),
        cmocka_unit_test(a_pinned_certificate),
        cmocka_unit_test(a_callback_that_fails),
        cmocka_unit_test(a_configuration_that_verifies_nothing),
        cmocka_unit_test(an_end_with_and_without_goodbye),
        cmocka_unit_test(we_say_goodbye),
        cmocka_unit_test(damaged_while_connected),
        cmocka_unit_test(resumption),
        cmocka_unit_test(another_app_over_tls),
        cmocka_unit_test(tls_when_the_server_asks),
        cmocka_unit_test(plain_if_told_so),
        cmocka_unit_test(a_transport_with_its_own_tls),
        cmocka_unit_test(modes),
    };
    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
