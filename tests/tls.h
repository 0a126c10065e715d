/*
 * tls.h - a TLS server in memory for the tests, good or bad as told: certificates made on the spot,
 * mbedTLS' server, and between it and the client a wire that can be cut, stopped and slowed down at
 * any byte. No files, no sockets, no clock but the system's for the dates of certificates.
 *
 * One world serves one client. Include it after pusher.h's implementation.
 */
#ifndef PUSHER_TESTS_TLS_H
#define PUSHER_TESTS_TLS_H

#include "fake.h"

#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/rsa.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cache.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#define TLS_HAS_13 1
#else
#define TLS_HAS_13 0
#define MBEDTLS_PRIVATE(member) member
#endif

#define TLS_HOST "ws.test"

/* ---- keys and certificates ------------------------------------------------------------------- */

static inline int tls_random(void *state, unsigned char *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)(fake_next_random((uint64_t *)state) >> 32);
    return 0;
}

static uint64_t tls_seed = 1;

static inline void tls_ec_key(mbedtls_pk_context *key)
{
    mbedtls_pk_init(key);
    assert_int_equal(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), tls_random,
                                         &tls_seed), 0);
}

static inline void tls_rsa_key(mbedtls_pk_context *key, unsigned bits)
{
    mbedtls_pk_init(key);
    assert_int_equal(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_RSA)), 0);
    assert_int_equal(mbedtls_rsa_gen_key(mbedtls_pk_rsa(*key), tls_random, &tls_seed, bits, 65537),
                     0);
}

typedef struct tls_san { /* kind 2: a name, 7: an address, 1: mail; len 0: a string               */
    unsigned kind;
    const char *data;
    size_t len;
} tls_san;

typedef enum tls_ca { TLS_CA_ABSENT = 0, TLS_CA_TRUE, TLS_CA_FALSE } tls_ca;
typedef enum tls_eku { TLS_EKU_ABSENT = 0, TLS_EKU_SERVER, TLS_EKU_CLIENT } tls_eku;

typedef struct tls_spec { /* zero means usual                                                     */
    const char *subject, *issuer; /* "CN=..."                                                     */
    mbedtls_pk_context *key, *signer;
    const char *from, *to;        /* "20200131000000"                                             */
    mbedtls_md_type_t md;         /* SHA-256                                                      */
    tls_san san[6];
    tls_ca ca;
    tls_eku eku;
    unsigned key_usage;
} tls_spec;

typedef struct tls_cert {
    unsigned char der[2048];
    size_t len;
} tls_cert;

static inline void tls_extension(mbedtls_x509write_cert *ctx, const char *oid, size_t oid_len,
                                 int critical, const unsigned char *at, size_t len)
{
    unsigned char copy[1024];
    assert_true(len <= sizeof copy);
    memcpy(copy, at, len);
    assert_int_equal(mbedtls_x509write_crt_set_extension(ctx, oid, oid_len, critical, copy, len),
                     0);
}

/* subjectAltName, written by hand: mbedTLS 2.28 has nothing for it. */
static inline void tls_write_san(mbedtls_x509write_cert *ctx, const tls_san *san)
{
    unsigned char text[1024];
    size_t at = 4;
    for (size_t i = 0; i < 6 && san[i].data; i++) {
        size_t len = san[i].len ? san[i].len : strlen(san[i].data);
        assert_true(len < 128 && at + 2 + len < sizeof text);
        text[at++] = (unsigned char)(0x80 | san[i].kind);
        text[at++] = (unsigned char)len;
        memcpy(text + at, san[i].data, len);
        at += len;
    }
    if (at == 4)
        return;
    text[0] = 0x30;
    text[1] = 0x82;
    text[2] = (unsigned char)((at - 4) >> 8);
    text[3] = (unsigned char)((at - 4) & 255);
    tls_extension(ctx, "\x55\x1d\x11", 3, 0, text, at);
}

static inline void tls_write_eku(mbedtls_x509write_cert *ctx, tls_eku eku)
{
    unsigned char text[] = { 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1 };
    if (eku == TLS_EKU_ABSENT)
        return;
    text[11] = eku == TLS_EKU_SERVER ? 1 : 2;
    tls_extension(ctx, "\x55\x1d\x25", 3, 0, text, sizeof text);
}

static inline void tls_serial(mbedtls_x509write_cert *ctx)
{
    static unsigned char number[2] = { 1, 1 };
    number[1]++;
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(ctx, number, sizeof number), 0);
#else
    mbedtls_mpi serial;
    mbedtls_mpi_init(&serial);
    assert_int_equal(mbedtls_mpi_read_binary(&serial, number, sizeof number), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial(ctx, &serial), 0);
    mbedtls_mpi_free(&serial);
#endif
}

static inline tls_cert tls_make(const tls_spec *spec)
{
    static unsigned char buf[4096];
    tls_cert cert;
    mbedtls_x509write_cert ctx;
    mbedtls_x509write_crt_init(&ctx);
    mbedtls_x509write_crt_set_version(&ctx, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&ctx, spec->md ? spec->md : MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&ctx, spec->key);
    mbedtls_x509write_crt_set_issuer_key(&ctx, spec->signer);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&ctx, spec->subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&ctx, spec->issuer), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&ctx,
                                                        spec->from ? spec->from : "20200101000000",
                                                        spec->to ? spec->to : "20491231235959"),
                     0);
    tls_serial(&ctx);
    if (spec->ca)
        assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&ctx, spec->ca == TLS_CA_TRUE,
                                                                     -1), 0);
    if (spec->key_usage)
        assert_int_equal(mbedtls_x509write_crt_set_key_usage(&ctx, spec->key_usage), 0);
    tls_write_san(&ctx, spec->san);
    tls_write_eku(&ctx, spec->eku);
    int len = mbedtls_x509write_crt_der(&ctx, buf, sizeof buf, tls_random, &tls_seed);
    assert_true(len > 0 && (size_t)len <= sizeof cert.der);
    cert.len = (size_t)len;
    memcpy(cert.der, buf + sizeof buf - cert.len, cert.len);
    mbedtls_x509write_crt_free(&ctx);
    return cert;
}

/* What all tests share: made once, by tls_setup(). */
typedef struct tls_shop {
    mbedtls_pk_context root_key, leaf_key, other_key, middle_key;
    tls_cert root;  /* trusted                                                                    */
    tls_cert other; /* not trusted                                                                */
} tls_shop;

static tls_shop tls_the_shop;

static inline tls_spec tls_leaf(void)
{
    tls_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.subject = "CN=" TLS_HOST;
    spec.issuer = "CN=Test Root";
    spec.key = &tls_the_shop.leaf_key;
    spec.signer = &tls_the_shop.root_key;
    spec.san[0].kind = 2;
    spec.san[0].data = TLS_HOST;
    return spec;
}

static inline tls_spec tls_authority(const char *name, mbedtls_pk_context *key)
{
    tls_spec spec;
    memset(&spec, 0, sizeof spec);
    spec.subject = spec.issuer = name;
    spec.key = spec.signer = key;
    spec.ca = TLS_CA_TRUE;
    return spec;
}

static inline int tls_setup(void **state)
{
    (void)state;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    assert_int_equal(psa_crypto_init(), PSA_SUCCESS);
#endif
    tls_ec_key(&tls_the_shop.root_key);
    tls_ec_key(&tls_the_shop.leaf_key);
    tls_ec_key(&tls_the_shop.other_key);
    tls_ec_key(&tls_the_shop.middle_key);
    tls_spec spec = tls_authority("CN=Test Root", &tls_the_shop.root_key);
    tls_the_shop.root = tls_make(&spec);
    spec = tls_authority("CN=Other Root", &tls_the_shop.other_key);
    tls_the_shop.other = tls_make(&spec);
    return 0;
}

static inline int tls_teardown(void **state)
{
    (void)state;
    mbedtls_pk_free(&tls_the_shop.root_key);
    mbedtls_pk_free(&tls_the_shop.leaf_key);
    mbedtls_pk_free(&tls_the_shop.other_key);
    mbedtls_pk_free(&tls_the_shop.middle_key);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_psa_crypto_free();
#endif
    return 0;
}

/* ---- the wire ------------------------------------------------------------------------------- */

typedef struct tls_world tls_world;

struct tls_world {
    /* what a test sets */
    size_t recv_max, send_max;       /* bytes a call; 0 = no limit                                */
    uint32_t recv_block, send_block; /* every n-th call finds nothing / no room; 1 = always       */
    int block_says;                  /* with this; 0 = the usual WANT                             */
    size_t end_after;                /* the wire ends behind so many bytes of the server's        */
    int end_says;                    /* with this: EOF, ERROR, WANT_READ (it stalls); 1 = never   */
    size_t room;                     /* bytes the wire still takes from the client                */
    bool mute;                       /* no TLS server: raw.to_client is all that is said          */
    bool random_dies;                /* from now on                                               */
    int connect_says;                /* of ready_fn; 0 = connected                                */

    /* the wire */
    fake_bytes to_client, to_server;
    size_t client_at, server_at;     /* how far each has read                                     */
    uint64_t recv_calls, send_calls, opened, closed;
    bool is_open;
    const void *repeat_at;
    size_t repeat_len;
    char violation[256];
    char host[300];
    uint16_t port;

    /* the server */
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    mbedtls_x509_crt chain, client_ca;
    mbedtls_pk_context *key;
    mbedtls_ssl_cache_context cache;
    bool has_server, shaken, failed, resumable, ended;
    int server_error;
    uint32_t full_handshakes;        /* certificates sent, that is                                */
    fake_stream heard;               /* what came out of TLS: its from_client                     */
    bool upgraded;
    fake_bytes to_say;               /* plain text not yet written                                */
    size_t said;

    /* the client */
    pusher_client *client;
    uint64_t now, random_state;
    char message[512], log[2048];
    pusher_result code;
    uint32_t errors, events;
    char event[256];
};

static inline void tls_violate(tls_world *w, const char *what)
{
    if (!w->violation[0])
        snprintf(w->violation, sizeof w->violation, "%s", what);
}

static inline void *tls_open(const char *host, uint16_t port, void *user_data)
{
    tls_world *w = (tls_world *)user_data;
    if (w->is_open)
        tls_violate(w, "opened twice");
    snprintf(w->host, sizeof w->host, "%s", host);
    w->port = port;
    w->is_open = true;
    w->opened++;
    w->repeat_at = NULL;
    return w;
}

static inline int tls_ready(void *stream)
{
    tls_world *w = (tls_world *)stream;
    if (!w->is_open)
        tls_violate(w, "ready after close");
    return w->connect_says ? w->connect_says : 1;
}

static inline int tls_recv(void *stream, void *buf, size_t len)
{
    tls_world *w = (tls_world *)stream;
    size_t there = w->to_client.len - w->client_at;
    if (!w->is_open)
        tls_violate(w, "recv after close");
    if (len == 0)
        tls_violate(w, "recv of 0 bytes");
    if (w->recv_block && ++w->recv_calls % w->recv_block == 0)
        return w->block_says ? w->block_says : PUSHER_IO_WANT_READ;
    if (w->end_says != 1 && w->client_at + there > w->end_after)
        there = w->end_after > w->client_at ? w->end_after - w->client_at : 0;
    if (there == 0 && w->end_says != 1 && w->client_at >= w->end_after)
        return w->end_says;
    if (there == 0)
        return w->ended ? PUSHER_IO_EOF : PUSHER_IO_WANT_READ;
    if (len > there)
        len = there;
    if (w->recv_max && len > w->recv_max)
        len = w->recv_max;
    memcpy(buf, w->to_client.at + w->client_at, len);
    w->client_at += len;
    return (int)len;
}

/* After WANT the same pointer and length have to come again. */
static inline int tls_send(void *stream, const void *buf, size_t len)
{
    tls_world *w = (tls_world *)stream;
    if (!w->is_open)
        tls_violate(w, "send after close");
    if (len == 0)
        tls_violate(w, "send of 0 bytes");
    if (w->repeat_at && (w->repeat_at != buf || w->repeat_len != len))
        tls_violate(w, "after WANT, send came with another pointer or length");
    w->repeat_at = NULL;
    if (w->room == 0 || (w->send_block && ++w->send_calls % w->send_block == 0)) {
        w->repeat_at = buf;
        w->repeat_len = len;
        return w->block_says ? w->block_says : PUSHER_IO_WANT_WRITE;
    }
    if (w->send_max && len > w->send_max)
        len = w->send_max;
    if (len > w->room)
        len = w->room;
    if (w->room != SIZE_MAX)
        w->room -= len;
    fake_bytes_add(&w->to_server, buf, len);
    return (int)len;
}

static inline void tls_close(void *stream)
{
    tls_world *w = (tls_world *)stream;
    if (!w->is_open)
        tls_violate(w, "closed twice");
    w->is_open = false;
    w->closed++;
}

static inline const char *tls_error(void *stream)
{
    (void)stream;
    return "the wire is broken";
}

static inline pusher_transport tls_wire(tls_world *w)
{
    pusher_transport transport;
    memset(&transport, 0, sizeof transport);
    transport.open_fn = tls_open;
    transport.ready_fn = tls_ready;
    transport.recv_fn = tls_recv;
    transport.send_fn = tls_send;
    transport.close_fn = tls_close;
    transport.error_fn = tls_error;
    transport.user_data = w;
    return transport;
}

static inline bool tls_fill(void *buf, size_t len, void *user_data)
{
    tls_world *w = (tls_world *)user_data;
    if (len > 256)
        tls_violate(w, "more than 256 random bytes at once");
    if (w->random_dies)
        return false;
    (void)tls_random(&w->random_state, (unsigned char *)buf, len);
    return true;
}

/* ---- the server ------------------------------------------------------------------------------ */

static inline int tls_server_pull(void *context, unsigned char *buf, size_t len)
{
    tls_world *w = (tls_world *)context;
    size_t there = w->to_server.len - w->server_at;
    if (there == 0)
        return w->is_open ? MBEDTLS_ERR_SSL_WANT_READ : 0;
    if (len > there)
        len = there;
    memcpy(buf, w->to_server.at + w->server_at, len);
    w->server_at += len;
    return (int)len;
}

static inline int tls_server_push(void *context, const unsigned char *buf, size_t len)
{
    fake_bytes_add(&((tls_world *)context)->to_client, buf, len);
    return (int)len;
}

static inline void tls_start(tls_world *w)
{
    memset(w, 0, sizeof *w);
    w->end_says = 1;
    w->room = SIZE_MAX;
    w->random_state = 42;
    w->now = 1000;
    mbedtls_x509_crt_init(&w->chain);
    mbedtls_x509_crt_init(&w->client_ca);
    mbedtls_ssl_config_init(&w->config);
    mbedtls_ssl_cache_init(&w->cache);
    mbedtls_ssl_init(&w->ssl);
}

/* The server's chain: its own certificate first. */
static inline void tls_present(tls_world *w, const tls_cert *cert)
{
    assert_int_equal(mbedtls_x509_crt_parse_der(&w->chain, cert->der, cert->len), 0);
}

static inline void tls_max_version(tls_world *w, int minor) /* 3: TLS 1.2, 4: TLS 1.3 */
{
#if TLS_HAS_13
    mbedtls_ssl_conf_max_tls_version(&w->config, minor == 3 ? MBEDTLS_SSL_VERSION_TLS1_2
                                                            : MBEDTLS_SSL_VERSION_TLS1_3);
#else
    mbedtls_ssl_conf_max_version(&w->config, MBEDTLS_SSL_MAJOR_VERSION_3, minor);
#endif
}

static inline void tls_serve_with(tls_world *w, mbedtls_pk_context *key)
{
    w->has_server = true;
    assert_int_equal(mbedtls_ssl_config_defaults(&w->config, MBEDTLS_SSL_IS_SERVER,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT), 0);
    mbedtls_ssl_conf_rng(&w->config, tls_random, &w->random_state);
    w->chain.MBEDTLS_PRIVATE(ext_types) = 0; /* else mbedTLS will not serve what is not for servers */
    if (w->chain.version)
        assert_int_equal(mbedtls_ssl_conf_own_cert(&w->config, &w->chain, key), 0);
    mbedtls_ssl_conf_session_cache(&w->config, &w->cache, mbedtls_ssl_cache_get,
                                   mbedtls_ssl_cache_set);
}

/* For each connection anew. */
static inline void tls_accept(tls_world *w)
{
    mbedtls_ssl_free(&w->ssl);
    mbedtls_ssl_init(&w->ssl);
    assert_int_equal(mbedtls_ssl_setup(&w->ssl, &w->config), 0);
    mbedtls_ssl_set_bio(&w->ssl, w, tls_server_push, tls_server_pull, NULL);
    w->shaken = w->failed = w->upgraded = w->ended = false;
    w->server_error = 0;
    fake_bytes_free(&w->heard.from_client);
    fake_bytes_free(&w->to_say);
    fake_bytes_free(&w->to_client);
    fake_bytes_free(&w->to_server);
    w->said = w->client_at = w->server_at = 0;
}

static inline void tls_server_failed(tls_world *w, int code)
{
    if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE || w->failed)
        return;
    w->failed = w->ended = true;
    w->server_error = code;
}

static inline void tls_server_reads(tls_world *w)
{
    unsigned char buf[4096];
    int got;
    while ((got = mbedtls_ssl_read(&w->ssl, buf, sizeof buf)) > 0)
        fake_bytes_add(&w->heard.from_client, buf, (size_t)got);
    tls_server_failed(w, got);
    if (w->upgraded || !w->heard.from_client.at || !strstr(w->heard.from_client.at, "\r\n\r\n"))
        return;
    fake_accept_on(&w->heard);
    fake_frame_to(&w->heard.to_client, 0x81, FAKE_ESTABLISHED, strlen(FAKE_ESTABLISHED));
    fake_bytes_add(&w->to_say, w->heard.to_client.at, w->heard.to_client.len);
    fake_bytes_free(&w->heard.to_client);
    w->upgraded = true;
}

static inline void tls_server_writes(tls_world *w)
{
    while (w->said < w->to_say.len) {
        int put = mbedtls_ssl_write(&w->ssl, (unsigned char *)w->to_say.at + w->said,
                                    w->to_say.len - w->said);
        if (put <= 0) {
            tls_server_failed(w, put);
            return;
        }
        w->said += (size_t)put;
    }
}

/* What the server does between two polls. */
static inline void tls_serve(tls_world *w)
{
    if (!w->has_server || w->failed || w->mute)
        return;
    if (!w->shaken) {
        int code = mbedtls_ssl_handshake(&w->ssl);
        if (code != 0) {
            tls_server_failed(w, code);
            return;
        }
        w->shaken = true;
    }
    tls_server_reads(w);
    if (!w->failed)
        tls_server_writes(w);
}

static inline void tls_say_event(tls_world *w, const char *json)
{
    fake_frame_to(&w->to_say, 0x81, json, strlen(json));
}

/* ---- the client ------------------------------------------------------------------------------ */

static inline void tls_on_error(pusher_client *client, const pusher_error *error, void *user_data)
{
    tls_world *w = (tls_world *)user_data;
    (void)client;
    w->errors++;
    w->code = error->code;
    snprintf(w->message, sizeof w->message, "%s", error->message);
}

static inline void tls_on_log(const char *message, void *user_data)
{
    tls_world *w = (tls_world *)user_data;
    size_t len = strlen(w->log);
    snprintf(w->log + len, sizeof w->log - len, "%s\n", message);
}

static inline void tls_on_event(pusher_client *client, const pusher_event *event, void *user_data)
{
    tls_world *w = (tls_world *)user_data;
    (void)client;
    w->events++;
    snprintf(w->event, sizeof w->event, "%s %s", event->name, event->data);
}

static inline pusher_options tls_options(tls_world *w)
{
    pusher_options options;
    memset(&options, 0, sizeof options);
    options.key = "app-key";
    options.host = TLS_HOST;
    options.transport = tls_wire(w);
    options.random.fill_fn = tls_fill;
    options.random.user_data = w;
    options.error_fn = tls_on_error;
    options.logger.log_fn = tls_on_log;
    options.logger.user_data = w;
    options.user_data = w;
    options.tls.ca = tls_the_shop.root.der;
    options.tls.ca_len = tls_the_shop.root.len;
    return options;
}

static inline void tls_client(tls_world *w, const pusher_options *options)
{
    pusher_error error;
    w->client = pusher_create(options, &error);
    if (!w->client)
        fail_msg("pusher_create: %s", error.message);
    pusher_bind_all(w->client, PUSHER_ALL, tls_on_event, w);
    assert_int_equal(pusher_connect(w->client), PUSHER_OK);
}

/* Polls and serves until the client is connected or has an error; false: neither, for so long. */
static inline bool tls_run(tls_world *w, uint32_t ms)
{
    uint32_t errors = w->errors;
    for (uint32_t i = 0; i < ms; i++) {
        pusher_poll(w->client, w->now++);
        tls_serve(w);
        if (w->errors > errors || pusher_get_state(w->client) == PUSHER_CONNECTED)
            return true;
    }
    return false;
}

static inline void tls_pass(tls_world *w, uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        pusher_poll(w->client, w->now++);
        tls_serve(w);
    }
}

static inline void tls_end(tls_world *w)
{
    pusher_destroy(w->client);
    w->client = NULL;
    if (w->opened != w->closed)
        tls_violate(w, "a stream was not closed");
    mbedtls_ssl_free(&w->ssl);
    mbedtls_ssl_config_free(&w->config);
    mbedtls_x509_crt_free(&w->chain);
    mbedtls_x509_crt_free(&w->client_ca);
    mbedtls_ssl_cache_free(&w->cache);
    fake_bytes_free(&w->heard.from_client);
    fake_bytes_free(&w->heard.to_client);
    fake_bytes_free(&w->to_say);
    fake_bytes_free(&w->to_client);
    fake_bytes_free(&w->to_server);
    assert_string_equal(w->violation, "");
}

#endif /* PUSHER_TESTS_TLS_H */
