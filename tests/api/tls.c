/* TLS as a user of the library sees it: good servers, and many bad ones, each refused with words of
   its own. Nobody is ever sent a byte of the upgrade request without having been verified. */
#define PUSHER_TLS
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "tls.h"

/* A server with one certificate of its own, and TLS 1.3 where that is possible and asked for. */
static void serve(tls_world *w, const tls_spec *spec, int minor)
{
    tls_cert cert = tls_make(spec);
    tls_start(w);
    tls_present(w, &cert);
    tls_serve_with(w, spec->key);
    tls_max_version(w, minor);
    tls_accept(w);
}

static void a_good_server(void **state)
{
    (void)state;
    for (int minor = 3; minor <= 3 + TLS_HAS_13; minor++) {
        tls_world w;
        tls_spec spec = tls_leaf();
        serve(&w, &spec, minor);
        pusher_options options = tls_options(&w);
        tls_client(&w, &options);
        assert_true(tls_run(&w, 200));
        assert_string_equal(w.message, "");
        assert_int_equal(pusher_get_state(w.client), PUSHER_CONNECTED);
        assert_string_equal(mbedtls_ssl_get_version(&w.ssl), minor == 3 ? "TLSv1.2" : "TLSv1.3");
        assert_int_equal(w.port, 443);
        assert_string_equal(w.host, TLS_HOST);
        tls_say_event(&w, "{\"event\":\"news\",\"channel\":\"chat\",\"data\":\"hello\"}");
        tls_pass(&w, 3);
        assert_string_equal(w.event, "news hello");
        tls_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_server),
    };
    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
