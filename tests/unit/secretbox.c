/* The codec room's secret boxes and its HMAC beside libsodium's, and the vectors of the paper and
   of the protocol. Every box stands in memory of its own size: a byte too far is noticed. */
#include <mbedtls/poly1305.h>
#include <stdbool.h>

static bool poly1305_fails;

static int test_poly1305_mac(const unsigned char key[32], const unsigned char *at, size_t len,
                             unsigned char tag[16])
{
    int result = mbedtls_poly1305_mac(key, at, len, tag);
    return poly1305_fails ? -1 : result;
}

#define mbedtls_poly1305_mac test_poly1305_mac

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

#include <sodium.h>

struct box {
    unsigned char key[PSH_BOX_KEY], nonce[PSH_BOX_NONCE];
    unsigned char *plain, *sealed; /* sealed: the tag, then as many bytes as plain */
    size_t len;                    /* of plain */
};

static void fill(uint64_t *dice, unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = fake_next_random(dice);
        for (size_t j = i; j < len && j < i + 8; j++, word >>= 8) bytes[j] = (unsigned char)word;
    }
}

static unsigned char *bytes_of(size_t len)
{
    unsigned char *bytes = (unsigned char *)malloc(len + (len == 0));
    assert_non_null(bytes);
    return bytes;
}

static unsigned char *copy_of(const unsigned char *bytes, size_t len)
{
    unsigned char *copy = bytes_of(len);
    if (len > 0) memcpy(copy, bytes, len);
    return copy;
}

static void seal(struct box *box, uint64_t *dice, size_t len)
{
    box->len = len;
    box->plain = bytes_of(len);
    box->sealed = bytes_of(PSH_BOX_TAG + len);
    fill(dice, box->key, sizeof box->key);
    fill(dice, box->nonce, sizeof box->nonce);
    fill(dice, box->plain, len);
    assert_int_equal(crypto_secretbox_easy(box->sealed, box->plain, len, box->nonce, box->key), 0);
}

static void discard(struct box *box)
{
    free(box->plain);
    free(box->sealed);
}

static void opens(const struct box *box)
{
    unsigned char *copy = copy_of(box->sealed, PSH_BOX_TAG + box->len);
    assert_true(psh_codec_box_open(box->key, box->nonce, copy, PSH_BOX_TAG + box->len));
    assert_memory_equal(copy, box->sealed, PSH_BOX_TAG);
    assert_memory_equal(copy + PSH_BOX_TAG, box->plain, box->len);
    free(copy);
}

/* These bytes are no box of this key and nonce, and stay as they are. */
static void refuses(const struct box *box, const unsigned char *bytes, size_t len)
{
    unsigned char *copy = copy_of(bytes, len);
    assert_false(psh_codec_box_open(box->key, box->nonce, copy, len));
    if (len > 0) assert_memory_equal(copy, bytes, len);
    free(copy);
}

/* ---- vectors --------------------------------------------------------------------------------- */

static size_t unhex(const char *hex, unsigned char *out, size_t cap)
{
    size_t len;
    assert_int_equal(sodium_hex2bin(out, cap, hex, strlen(hex), NULL, &len, NULL), 0);
    return len;
}

/* Cryptography in NaCl (Bernstein), section 10. */
static void the_box_of_the_paper(void **state)
{
    (void)state;
    static const char sealed[] =
        "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c5"
        "31a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8a"
        "b932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622"
        "a43d14a6599b1f654cb45a74e355a5";
    static const char plain[] =
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d4"
        "5e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a"
        "024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
    unsigned char key[PSH_BOX_KEY], nonce[PSH_BOX_NONCE], box[147], expected[131];
    unhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389", key, sizeof key);
    unhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37", nonce, sizeof nonce);
    assert_int_equal(unhex(sealed, box, sizeof box), sizeof box);
    assert_int_equal(unhex(plain, expected, sizeof expected), sizeof expected);
    assert_true(psh_codec_box_open(key, nonce, box, sizeof box));
    assert_memory_equal(box + PSH_BOX_TAG, expected, sizeof expected);
}

static void boxes_of_the_protocol(void **state)
{
    (void)state;
    static const char channel[] = "private-encrypted-test";
    static const char *const events[][2] = {
        {"{\"hello\":\"world\"}", "BOrG+bdM4zgwIKc15So7ijWlGy+M5UYN17bx5Xk/eTqe"},
        {"plain text", "XFeSFLkUPH8dUU06fuyxMD7rEiOOqV1KleA="},
        {"", "jslG1BcbvBsTqFKt+irmqg=="},
    };
    char secret[] = "5sjH9S2/qGAQKjEQMBUG9bIGNd87K7ZV9SHg2rgKilc=";
    char nonce_text[] = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZX";
    unsigned char key[PSH_BOX_KEY], nonce[PSH_BOX_NONCE], master[sizeof channel - 1 + 32], made[32];
    size_t len;
    assert_true(psh_codec_unbase64(secret, strlen(secret), key, sizeof key, &len));
    assert_int_equal(len, sizeof key);
    memcpy(master, channel, sizeof channel - 1);
    for (size_t i = 0; i < 32; i++) master[sizeof channel - 1 + i] = (unsigned char)i;
    crypto_hash_sha256(made, master, sizeof master);
    assert_memory_equal(key, made, sizeof key);
    assert_true(psh_codec_unbase64(nonce_text, strlen(nonce_text), nonce, sizeof nonce, &len));
    assert_int_equal(len, sizeof nonce);
    for (size_t i = 0; i < sizeof nonce; i++) assert_int_equal(nonce[i], 0x40 + i);
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        char text[64]; /* as in the client: decoded and opened where it stands */
        unsigned char *box = (unsigned char *)text;
        memcpy(text, events[i][1], strlen(events[i][1]));
        assert_true(psh_codec_unbase64(text, strlen(events[i][1]), box, sizeof text, &len));
        assert_int_equal(len, PSH_BOX_TAG + strlen(events[i][0]));
        assert_true(psh_codec_box_open(key, nonce, box, len));
        assert_memory_equal(box + PSH_BOX_TAG, events[i][0], len - PSH_BOX_TAG);
    }
}

/* ---- beside libsodium ------------------------------------------------------------------------ */

static void every_short_length_opens(void **state)
{
    (void)state;
    uint64_t dice = 11;
    for (size_t len = 0; len <= 700; len++) {
        struct box box;
        seal(&box, &dice, len);
        opens(&box);
        discard(&box);
    }
}

static void thousands_of_boxes_open(void **state)
{
    (void)state;
    uint64_t dice = 12;
    for (int i = 0; i < 5000; i++) {
        struct box box;
        seal(&box, &dice, fake_next_random(&dice) % 20001);
        opens(&box);
        discard(&box);
    }
}

static void a_box_may_stand_anywhere(void **state)
{
    (void)state;
    uint64_t dice = 13;
    struct box box;
    unsigned char place[PSH_BOX_TAG + 200 + 16], key[PSH_BOX_KEY + 8], nonce[PSH_BOX_NONCE + 8];
    seal(&box, &dice, 200);
    for (size_t shift = 0; shift < 16; shift++) { /* at any alignment */
        memset(place, 0xA5, sizeof place);
        memcpy(place + shift, box.sealed, PSH_BOX_TAG + 200);
        memcpy(key + shift % 8, box.key, sizeof box.key);
        memcpy(nonce + shift / 2, box.nonce, sizeof box.nonce);
        assert_true(psh_codec_box_open(key + shift % 8, nonce + shift / 2, place + shift,
                                       PSH_BOX_TAG + 200));
        assert_memory_equal(place + shift + PSH_BOX_TAG, box.plain, 200);
        for (size_t i = 0; i < shift; i++) assert_int_equal(place[i], 0xA5);
        for (size_t i = PSH_BOX_TAG + 200 + shift; i < sizeof place; i++)
            assert_int_equal(place[i], 0xA5);
    }
    discard(&box);
}

/* Nobody sends a box of 2^32 blocks; the number of the block carries all the same. */
static void the_stream_goes_on_past_32_bits(void **state)
{
    (void)state;
    uint64_t dice = 14;
    static const uint64_t starts[] = {0, 1, UINT64_C(0xFFFFFFFE), UINT64_C(0xFFFFFFFF),
                                      UINT64_C(0x100000000), UINT64_C(0xFFFFFFFFFF)};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        unsigned char key[32], nonce[24], derived[32], zeros[256] = {0}, expected[256];
        struct psh_codec_salsa salsa;
        fill(&dice, key, sizeof key);
        fill(&dice, nonce, sizeof nonce);
        assert_int_equal(crypto_core_hsalsa20(derived, nonce, key, NULL), 0);
        crypto_stream_salsa20_xor_ic(expected, zeros, sizeof expected, nonce + 16, starts[i],
                                     derived);
        psh_codec_salsa_start(&salsa, key, nonce);
        salsa.input[8] = (uint32_t)starts[i];
        salsa.input[9] = (uint32_t)(starts[i] >> 32);
        for (size_t block = 0; block < 4; block++) {
            psh_codec_salsa_next(&salsa);
            assert_memory_equal(salsa.block, expected + 64 * block, 64);
        }
    }
}

static void hmac_is_libsodiums(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef";
    uint64_t dice = 15;
    for (size_t key_len = 0; key_len <= 200; key_len++) {
        for (int round = 0; round < 10; round++) {
            char key[201], hex[PSH_SHA256_HEX];
            unsigned char text[600], digest[32];
            size_t len = fake_next_random(&dice) % sizeof text, cut = len ? len / 3 : 0;
            crypto_auth_hmacsha256_state sodium;
            fill(&dice, text, sizeof text);
            for (size_t i = 0; i < key_len; i++)
                key[i] = (char)(fake_next_random(&dice) % 255 + 1);
            key[key_len] = '\0';
            crypto_auth_hmacsha256_init(&sodium, (const unsigned char *)key, key_len);
            crypto_auth_hmacsha256_update(&sodium, text, len);
            crypto_auth_hmacsha256_final(&sodium, digest);
            const struct psh_codec_piece pieces[] = {{(const char *)text, cut},
                                                     {(const char *)text + cut, len - cut}};
            assert_true(psh_codec_hmac_hex(key, pieces, 2, hex));
            assert_int_equal(strlen(hex), 64);
            for (size_t i = 0; i < 64; i++)
                assert_int_equal(hex[i], digits[digest[i / 2] >> (i % 2 ? 0 : 4) & 15]);
        }
    }
}

/* ---- what is no box -------------------------------------------------------------------------- */

static const size_t some_lengths[] = {0, 1, 15, 16, 17, 31, 32, 33, 95, 96, 97, 300};

static void each_bit_counts(void **state)
{
    (void)state;
    uint64_t dice = 16;
    for (size_t i = 0; i < ARRAY_LEN(some_lengths); i++) {
        struct box box;
        seal(&box, &dice, some_lengths[i]);
        unsigned char *const parts[] = {box.sealed, box.key, box.nonce};
        const size_t sizes[] = {PSH_BOX_TAG + box.len, sizeof box.key, sizeof box.nonce};
        for (size_t part = 0; part < ARRAY_LEN(parts); part++) {
            for (size_t bit = 0; bit < 8 * sizes[part]; bit++) {
                parts[part][bit / 8] ^= (unsigned char)(1u << bit % 8);
                refuses(&box, box.sealed, PSH_BOX_TAG + box.len);
                parts[part][bit / 8] ^= (unsigned char)(1u << bit % 8);
            }
        }
        opens(&box);
        discard(&box);
    }
}

static void no_part_of_a_box_is_a_box(void **state)
{
    (void)state;
    uint64_t dice = 17;
    for (size_t i = 0; i < ARRAY_LEN(some_lengths); i++) {
        struct box box;
        seal(&box, &dice, some_lengths[i]);
        size_t whole = PSH_BOX_TAG + box.len;
        for (size_t len = 0; len < whole; len++) {
            refuses(&box, box.sealed, len);
            refuses(&box, box.sealed + whole - len, len);
        }
        unsigned char *longer = bytes_of(whole + 1);
        memcpy(longer, box.sealed, whole);
        for (unsigned byte = 0; byte < 256; byte++) {
            longer[whole] = (unsigned char)byte;
            refuses(&box, longer, whole + 1);
        }
        free(longer);
        discard(&box);
    }
    assert_false(psh_codec_box_open((const unsigned char *)"a key of thirty-two bytes, and so",
                                    (const unsigned char *)"and twenty-four of nonce", NULL, 0));
}

/* Hardware may fail. Even with the right tag at hand, what was not verified is not opened. */
static void no_box_opens_without_its_tag_checked(void **state)
{
    (void)state;
    uint64_t dice = 19;
    struct box box;
    seal(&box, &dice, 100);
    poly1305_fails = true;
    refuses(&box, box.sealed, PSH_BOX_TAG + 100);
    poly1305_fails = false;
    opens(&box);
    discard(&box);
}

static void other_boxes_are_refused(void **state)
{
    (void)state;
    uint64_t dice = 18;
    struct box mine, other;
    seal(&mine, &dice, 100);
    seal(&other, &dice, 100);
    refuses(&mine, other.sealed, PSH_BOX_TAG + 100);
    memcpy(other.sealed, mine.sealed, PSH_BOX_TAG); /* my tag, another's text */
    refuses(&mine, other.sealed, PSH_BOX_TAG + 100);
    for (int round = 0; round < 2000; round++) {
        fill(&dice, other.sealed, PSH_BOX_TAG + 100);
        refuses(&mine, other.sealed, fake_next_random(&dice) % (PSH_BOX_TAG + 101));
    }
    opens(&mine);
    discard(&mine);
    discard(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_box_of_the_paper),
        cmocka_unit_test(boxes_of_the_protocol),
        cmocka_unit_test(every_short_length_opens),
        cmocka_unit_test(thousands_of_boxes_open),
        cmocka_unit_test(a_box_may_stand_anywhere),
        cmocka_unit_test(the_stream_goes_on_past_32_bits),
        cmocka_unit_test(hmac_is_libsodiums),
        cmocka_unit_test(each_bit_counts),
        cmocka_unit_test(no_part_of_a_box_is_a_box),
        cmocka_unit_test(no_box_opens_without_its_tag_checked),
        cmocka_unit_test(other_boxes_are_refused),
    };
    if (sodium_init() < 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
