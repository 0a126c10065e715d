/*
 * handshake.c - polls while TLS is being set up, beside mbedTLS' handshake stepped by hand.
 *
 * The same server in memory (tests/tls.h, ECDSA on P-256) for both; its own time is not counted.
 * One poll makes one step, so the dearest poll must not cost more than the dearest step.
 */
#define PUSHER_TLS
#include "bench.h"
#include "tls.h"

typedef struct shaking {
    double worst_ns, total_ns;
    size_t calls;
} shaking;

static void count(shaking *s, uint64_t start)
{
    double took = (double)(bench_ns() - start);
    s->worst_ns = took > s->worst_ns ? took : s->worst_ns;
    s->total_ns += took;
    s->calls++;
}

/* A server with its certificate. */
static void begin(tls_world *w)
{
    tls_spec leaf = tls_leaf();
    tls_cert cert = tls_make(&leaf);
    tls_start(w);
    tls_present(w, &cert);
    tls_serve_with(w, &tls_the_shop.leaf_key);
    tls_accept(w);
}

/* From pusher_connect() to connected; then once more, and the session is taken up again. */
static double run_library(void *context)
{
    shaking *s = (shaking *)context;
    static tls_world w;
    begin(&w);
    pusher_options options = tls_options(&w);
    tls_client(&w, &options);
    for (int again = 0; again < 2; again++) {
        memset(&s[again], 0, sizeof s[again]);
        if (again) {
            w.ended = true;
            pusher_poll(w.client, ++w.now);
            pusher_reconnect_now(w.client);
            tls_accept(&w);
        }
        while (pusher_get_state(w.client) != PUSHER_CONNECTED) {
            uint64_t start = bench_ns();
            pusher_poll(w.client, ++w.now);
            count(&s[again], start);
            tls_serve(&w);
            if (s[again].calls > 1000) bench_die("no connection: %s", w.message);
        }
    }
    tls_end(&w);
    return s[0].worst_ns;
}

static int bare_push(void *context, const unsigned char *buf, size_t len)
{
    int put = tls_send(context, buf, len);
    return put > 0 ? put : MBEDTLS_ERR_SSL_WANT_WRITE;
}

static int bare_pull(void *context, unsigned char *buf, size_t len)
{
    int got = tls_recv(context, buf, len);
    return got > 0 ? got : MBEDTLS_ERR_SSL_WANT_READ;
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#define BARE_IS_OVER(ssl) mbedtls_ssl_is_handshake_over(ssl)
#else
#define BARE_IS_OVER(ssl) ((ssl)->state == MBEDTLS_SSL_HANDSHAKE_OVER)
#endif

static double run_bare(void *context)
{
    shaking *s = (shaking *)context;
    static tls_world w;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    mbedtls_x509_crt ca;
    int code = 0;
    memset(s, 0, sizeof *s);
    begin(&w);
    (void)tls_open(TLS_HOST, 443, &w);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    mbedtls_x509_crt_init(&ca);
    if (mbedtls_x509_crt_parse_der(&ca, tls_the_shop.root.der, tls_the_shop.root.len) != 0 ||
        mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0)
        bench_die("mbedTLS does not start");
    mbedtls_ssl_conf_ca_chain(&config, &ca, NULL);
    mbedtls_ssl_conf_rng(&config, tls_random, &w.random_state);
    if (mbedtls_ssl_setup(&ssl, &config) != 0 || mbedtls_ssl_set_hostname(&ssl, TLS_HOST) != 0)
        bench_die("mbedTLS does not start");
    mbedtls_ssl_set_bio(&ssl, &w, bare_push, bare_pull, NULL);
    while (!BARE_IS_OVER(&ssl)) {
        uint64_t start = bench_ns();
        code = mbedtls_ssl_handshake_step(&ssl);
        count(s, start);
        if (code != 0 && code != MBEDTLS_ERR_SSL_WANT_READ && code != MBEDTLS_ERR_SSL_WANT_WRITE)
            bench_die("the handshake by hand failed: -0x%x", (unsigned)-code);
        tls_serve(&w);
        if (s->calls > 1000) bench_die("no handshake by hand");
    }
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&config);
    mbedtls_x509_crt_free(&ca);
    tls_close(&w);
    tls_end(&w);
    return s->worst_ns;
}

int main(void)
{
    static shaking library[2], bare;
    bench_side sides[] = {{run_library, library, 0}, {run_bare, &bare, 0}};
    void *state = NULL;
    (void)tls_setup(&state);
    bench_rounds(sides, 2, bench_pick(25, 5));
    bench_say("handshake", "%zu polls to connected, %.1f ms in all; %zu steps by hand, %.1f ms; the "
              "same session again: %zu polls, %.2f ms, the worst %.2f ms",
              library[0].calls, library[0].total_ns / 1e6, bare.calls, bare.total_ns / 1e6,
              library[1].calls, library[1].total_ns / 1e6, library[1].worst_ns / 1e6);
    bench_row("handshake", sides[0].median / sides[1].median, BENCH_AT_MOST, 1.1,
              "worst poll %.2f ms; dearest step of mbedTLS by hand %.2f ms", sides[0].median / 1e6,
              sides[1].median / 1e6);
    (void)tls_teardown(&state);
    return 0;
}
