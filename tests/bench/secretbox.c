/*
 * secretbox.c - what an event of an encrypted channel costs before it is an event: to decode its
 * base64 and to open its box, beside libsodium.
 */
#include "bench.h"

#include <sodium.h>

enum { PLAIN = 10240, SEALED = PSH_BOX_TAG + PLAIN, TEXT = (SEALED + 2) / 3 * 4 };

typedef struct boxes {
    size_t rounds;
    unsigned char key[PSH_BOX_KEY], nonce[PSH_BOX_NONCE];
    unsigned char sealed[SEALED], place[TEXT + 1];
    char text[TEXT + 1];
} boxes;

static double per_second(const boxes *b, uint64_t start)
{
    return (double)(b->rounds * PLAIN) * 1e3 / (double)(bench_ns() - start); /* MB/s */
}

static double run_open(void *context)
{
    boxes *b = (boxes *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < b->rounds; i++) {
        memcpy(b->place, b->sealed, SEALED);
        if (!psh_codec_box_open(b->key, b->nonce, b->place, SEALED)) bench_die("not opened");
    }
    return per_second(b, start);
}

static double run_open_sodium(void *context)
{
    boxes *b = (boxes *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < b->rounds; i++) {
        memcpy(b->place, b->sealed, SEALED);
        if (crypto_secretbox_open_easy(b->place, b->place, SEALED, b->nonce, b->key) != 0)
            bench_die("libsodium did not open");
    }
    return per_second(b, start);
}

static double run_decode(void *context)
{
    boxes *b = (boxes *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < b->rounds; i++) {
        size_t len;
        memcpy(b->place, b->text, TEXT);
        if (!psh_codec_unbase64((char *)b->place, TEXT, b->place, TEXT, &len) || len != SEALED)
            bench_die("not decoded");
    }
    return per_second(b, start);
}

static double run_decode_mbedtls(void *context)
{
    boxes *b = (boxes *)context;
    uint64_t start = bench_ns();
    for (size_t i = 0; i < b->rounds; i++) {
        size_t len;
        if (mbedtls_base64_decode(b->place, TEXT, &len, (const unsigned char *)b->text, TEXT) != 0)
            bench_die("mbedTLS did not decode");
    }
    return per_second(b, start);
}

int main(void)
{
    static boxes b;
    static unsigned char plain[PLAIN];
    uint64_t dice = 1;
    bench_side sides[] = {{run_open, &b, 0},
                          {run_open_sodium, &b, 0},
                          {run_decode, &b, 0},
                          {run_decode_mbedtls, &b, 0}};
    if (sodium_init() < 0) bench_die("no libsodium");
    b.rounds = bench_pick(500, 50);
    for (size_t i = 0; i < PLAIN; i++) plain[i] = (unsigned char)bench_random(&dice);
    for (size_t i = 0; i < sizeof b.key; i++) b.key[i] = (unsigned char)bench_random(&dice);
    crypto_secretbox_easy(b.sealed, plain, PLAIN, b.nonce, b.key);
    if (!psh_codec_base64(b.sealed, SEALED, b.text, sizeof b.text)) bench_die("no base64");
    bench_rounds(sides, 4, bench_pick(15, 3));
    bench_row("secretbox", sides[0].median / sides[1].median, BENCH_AT_LEAST, 0.20,
              "a box of 10 KiB opened, %.0f MB/s, libsodium %.0f", sides[0].median,
              sides[1].median);
    bench_row("secretbox", sides[2].median / sides[3].median, BENCH_AT_LEAST, 1.00,
              "its base64 decoded, %.0f MB/s, mbedTLS %.0f", sides[2].median, sides[3].median);
    return 0;
}
