/* The codec room: base64, SHA-1, HMAC, SipHash-1-3 and UTF-8, against published vectors and against
   second implementations that were written from the standards, not from the library. */
#include <mbedtls/md.h>

/* mbedTLS' hashes, of which the call number md_fail_at fails (from 1; 0 = none). It may be out of
   memory, and hardware may fail. */
static int md_calls, md_fail_at;

static const mbedtls_md_info_t *test_md_info_from_type(mbedtls_md_type_t type)
{
    return ++md_calls == md_fail_at ? NULL : mbedtls_md_info_from_type(type);
}

#define MD_CALL(parameters, call)                                                                  \
    static int test_md_##parameters                                                                \
    {                                                                                              \
        return ++md_calls == md_fail_at ? -1 : mbedtls_md_##call;                                  \
    }
MD_CALL(setup(mbedtls_md_context_t *md, const mbedtls_md_info_t *info, int hmac),
        setup(md, info, hmac))
MD_CALL(starts(mbedtls_md_context_t *md), starts(md))
MD_CALL(update(mbedtls_md_context_t *md, const unsigned char *at, size_t len), update(md, at, len))
MD_CALL(finish(mbedtls_md_context_t *md, unsigned char *digest), finish(md, digest))

static int test_md(const mbedtls_md_info_t *info, const unsigned char *at, size_t len,
                   unsigned char *digest)
{
    return ++md_calls == md_fail_at ? -1 : mbedtls_md(info, at, len, digest);
}

#define mbedtls_md_info_from_type test_md_info_from_type
#define mbedtls_md_setup test_md_setup
#define mbedtls_md_starts test_md_starts
#define mbedtls_md_update test_md_update
#define mbedtls_md_finish test_md_finish
#define mbedtls_md test_md

#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

/* ---- base64 ---------------------------------------------------------------------------------- */

static void base64_is(const unsigned char *bytes, size_t len, const char *expected)
{
    size_t cap = strlen(expected) + 1;
    char *out = (char *)malloc(cap); /* no byte more than is promised to do */
    assert_non_null(out);
    memset(out, '#', cap);
    assert_true(psh_codec_base64(bytes, len, out, cap));
    assert_string_equal(out, expected);
    free(out);
}

static void base64_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {
        {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        base64_is((const unsigned char *)vectors[i][0], strlen(vectors[i][0]), vectors[i][1]);
    base64_is((const unsigned char *)"\xFB\xEF\xBE\xFF\xFF\xFF", 6, "++++////");
}

static void base64_of_every_length(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t dice = 1;
    for (size_t len = 1; len <= 200; len++) {
        unsigned char bytes[201];
        char expected[300];
        size_t at = 0;
        for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)fake_next_random(&dice);
        for (size_t bit = 0; bit < len * 8; bit += 6) { /* six bits at a time, one by one */
            unsigned value = 0;
            for (size_t i = bit; i < bit + 6; i++) {
                unsigned byte = i < len * 8 ? bytes[i / 8] : 0;
                value = value * 2 + (byte >> (7 - i % 8) & 1);
            }
            expected[at++] = digits[value];
        }
        while (at % 4) expected[at++] = '=';
        expected[at] = '\0';
        base64_is(bytes, len, expected);
    }
}

/* What RFC 4648 says of a text, worked out bit by bit; -1 when it is none. */
static long decode64(const char *text, size_t len, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = 0, have = 0;
    size_t used = len, made = 0;
    while (used > 0 && len - used < 2 && text[used - 1] == '=') used--;
    for (size_t i = 0; i < used; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit) return -1;
        for (int bit = 5; bit >= 0; bit--) {
            bits = bits << 1 | ((unsigned)(digit - digits) >> bit & 1);
            if (++have < 8) continue;
            out[made++] = (unsigned char)bits;
            bits = have = 0;
        }
    }
    if (len % 4 != 0 || used % 4 == 1 || bits != 0) return -1;
    return (long)made;
}

/* Decoded beside the text and in its place, both without a byte more than is promised to do;
   returns the number of bytes or -1. */
static long unbase64(const char *text, size_t len, unsigned char *out, size_t cap)
{
    char *copy = (char *)malloc(len + (len == 0)), *inside = (char *)malloc(len + (len == 0));
    unsigned char *apart = (unsigned char *)malloc(cap + (cap == 0));
    size_t made = 77, made_inside = 77;
    assert_non_null(copy);
    assert_non_null(inside);
    assert_non_null(apart);
    if (len > 0) memcpy(copy, text, len);
    if (len > 0) memcpy(inside, text, len);
    bool good = psh_codec_unbase64(copy, len, apart, cap, &made);
    assert_true(len == 0 || memcmp(copy, text, len) == 0);
    assert_int_equal(good, psh_codec_unbase64(inside, len, (unsigned char *)inside, cap,
                                              &made_inside));
    assert_int_equal(made, made_inside);
    if (good && made > 0) {
        assert_true(made <= cap);
        assert_memory_equal(apart, inside, made);
        memcpy(out, apart, made);
    }
    if (!good) assert_int_equal(made, 0);
    free(copy);
    free(inside);
    free(apart);
    return good ? (long)made : -1;
}

static void base64_is_read_back(void **state)
{
    (void)state;
    uint64_t dice = 2;
    for (size_t len = 0; len <= 200; len++) {
        unsigned char bytes[200], back[200];
        char text[300];
        for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)fake_next_random(&dice);
        assert_true(psh_codec_base64(bytes, len, text, sizeof text));
        assert_int_equal(unbase64(text, strlen(text), back, len), len);
        assert_memory_equal(back, bytes, len);
        if (len > 0) assert_int_equal(unbase64(text, strlen(text), back, len - 1), -1);
        assert_int_equal(unbase64(text, strlen(text), back, sizeof back), len);
    }
}

static void what_is_not_base64_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "=", "==", "===", "====", "A", "AA", "AAA", "AAAAA", "A===", "AA=", "AAA==", "A=AA", "AA=A",
        "=AAA", "AA==AAAA", "AAA=AAAA", "AAAA=", "AAAA==", "AAAA====", "AAAAA===", "AAA\n",
        "AAAA\n", "AAAA\r\n", " AAAA", "AAAA ", "AA AA==", "AAAA\nAAAA", "AA-_", "AAAA\nAAA",
        "AA==\n",
        "AB==", "AP==", "A/==", "AAB=", "AAD=", "AA/=", "AAAAAB==", "AAAAAAC=", "AA==AA==",
    };
    unsigned char out[16];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (unbase64(bad[i], strlen(bad[i]), out, sizeof out) != -1)
            fail_msg("\"%s\" was taken for base64", bad[i]);
}

static bool agrees64(const char *text, size_t len)
{
    unsigned char out[16], expected[16];
    long want = decode64(text, len, expected), made = unbase64(text, len, out, 9);
    if (made != want) fail_msg("\"%.*s\" judged wrongly", (int)len, text);
    if (made > 0) assert_memory_equal(out, expected, (size_t)made);
    return made >= 0;
}

static void each_byte_at_each_place_of_base64(void **state)
{
    (void)state;
    static const char *const texts[] = {"QUJD", "QUI=", "QQ==", "QUJDQUI=", "QUJDQQ==", "QUJDQUJD"};
    static const size_t takes[] = {4 * 64, 2 * 64 + 16 + 65, 64 + 4 + 17 + 1, 256 + 209, 256 + 86,
                                   8 * 64};
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        size_t len = strlen(texts[t]), taken = 0;
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                char text[9];
                memcpy(text, texts[t], len);
                text[at] = (char)byte;
                taken += agrees64(text, len);
            }
        }
        assert_int_equal(taken, takes[t]);
    }
    for (unsigned pair = 0; pair < 0x10000; pair++) { /* where the padding may be */
        char text[4] = {'Q', 'Q', (char)(pair >> 8), (char)pair};
        agrees64(text, 4);
    }
}

/* ---- SHA-1 ----------------------------------------------------------------------------------- */

static void sha1_is(const char *bytes, size_t len, const char *hex)
{
    unsigned char digest[PSH_SHA1_BYTES];
    char text[2 * PSH_SHA1_BYTES + 1];
    assert_true(psh_codec_sha1(bytes, len, digest));
    for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, hex);
}

static void sha1_of_fips_180(void **state)
{
    (void)state;
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char four[] =
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
        "lmnopqrsmnopqrstnopqrstu";
    sha1_is("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_is("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    sha1_is(two, sizeof two - 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    sha1_is(four, sizeof four - 1, "a49b2446a02c645bf419f995b67091253a04a259");
    char *million = (char *)malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    sha1_is(million, 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    free(million);
}

static void the_accept_value_of_rfc_6455(void **state)
{
    (void)state;
    static const char joined[] = "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[PSH_SHA1_BYTES];
    assert_true(psh_codec_sha1(joined, sizeof joined - 1, digest));
    base64_is(digest, sizeof digest, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    base64_is((const unsigned char *)"the sample nonce", 16, "dGhlIHNhbXBsZSBub25jZQ==");
}

/* ---- HMAC ------------------------------------------------------------------------------------ */

static void hmac_is(const char *secret, const char *text, size_t len, const char *hex)
{
    char out[PSH_SHA256_HEX + 1];
    for (size_t cut = 0; cut <= len; cut++) { /* however it is cut into pieces */
        const struct psh_codec_piece pieces[] = {
            {text, cut}, {NULL, 0}, {text + cut, (len - cut) / 2},
            {text + cut + (len - cut) / 2, len - cut - (len - cut) / 2},
        };
        memset(out, '#', sizeof out);
        assert_true(psh_codec_hmac_hex(secret, pieces, ARRAY_LEN(pieces), out));
        assert_int_equal(out[PSH_SHA256_HEX], '#');
        assert_string_equal(out, hex);
    }
}

static void hmac_of_rfc_4231(void **state)
{
    (void)state;
    char key[132], text[50], *at = key;
    memset(key, 0x0B, 20);
    key[20] = '\0';
    hmac_is(key, "Hi There", 8, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hmac_is("Jefe", "what do ya want for nothing?", 28,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xAA, 20);
    memset(text, 0xDD, 50);
    hmac_is(key, text, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    for (char byte = 1; byte <= 25; byte++) *at++ = byte;
    *at = '\0';
    memset(text, 0xCD, 50);
    hmac_is(key, text, 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    static const char six[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    static const char seven[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The "
        "key needs to be hashed before being used by the HMAC algorithm.";
    memset(key, 0xAA, 131);
    key[131] = '\0';
    hmac_is(key, six, sizeof six - 1,
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    hmac_is(key, seven, sizeof seven - 1,
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void hmac_of_nothing(void **state)
{
    (void)state;
    char hex[PSH_SHA256_HEX];
    assert_true(psh_codec_hmac_hex("", NULL, 0, hex));
    assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void no_signature_when_a_hash_fails(void **state)
{
    (void)state;
    const struct psh_codec_piece pieces[] = {{"1234.1234", 9}, {":", 1}, {"private-a", 9}};
    char secret[66], hex[PSH_SHA256_HEX];
    unsigned char digest[PSH_SHA1_BYTES];
    for (size_t long_secret = 0; long_secret < 2; long_secret++) {
        memset(secret, 's', 65);
        secret[64 + long_secret] = '\0';
        md_calls = md_fail_at = 0;
        assert_true(psh_codec_hmac_hex(secret, pieces, 3, hex));
        int calls = md_calls; /* info, setup, (secret,) starts, 4 updates, finish, and 4 more */
        assert_int_equal(calls, 12 + (int)long_secret);
        for (int at = 1; at <= calls; at++) {
            memset(hex, '#', sizeof hex);
            md_calls = 0;
            md_fail_at = at;
            assert_false(psh_codec_hmac_hex(secret, pieces, 3, hex));
            assert_int_equal(md_calls, at); /* nothing is tried after it */
            assert_int_equal(hex[0], '\0');
        }
    }
    for (md_fail_at = 1; md_fail_at <= 2; md_fail_at++) {
        md_calls = 0;
        assert_false(psh_codec_sha1("abc", 3, digest));
    }
    md_fail_at = 0;
    assert_true(psh_codec_sha1("abc", 3, digest));
}

static void signatures_of_the_protocol(void **state)
{
    (void)state;
#define SIGNED(text, hex) hmac_is("7ad3773142a6692b25b8", text, sizeof(text) - 1, hex)
    SIGNED("1234.1234:private-foobar",
           "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
    SIGNED("1234.1234:presence-foobar:"
           "{\"user_id\":10,\"user_info\":{\"name\":\"Mr. Channels\"}}",
           "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80");
    SIGNED("1234.1234:presence-foobar:"
           "{\"user_id\":10,\"user_info\":{\"name\":\"Mr. Pusher\"}}",
           "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c");
    SIGNED("1234.1234::user::{\"id\":\"12345\"}",
           "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba");
}

/* ---- SipHash --------------------------------------------------------------------------------- */

/* SipHash-c-d from the paper, on a padded copy; the library has 1-3 only. */
static uint64_t sip_rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_rounds(uint64_t v[4], int count)
{
    while (count-- > 0) {
        v[0] += v[1], v[2] += v[3];
        v[1] = sip_rotate(v[1], 13), v[3] = sip_rotate(v[3], 16);
        v[1] ^= v[0], v[3] ^= v[2];
        v[0] = sip_rotate(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = sip_rotate(v[1], 17), v[3] = sip_rotate(v[3], 21);
        v[1] ^= v[2], v[3] ^= v[0];
        v[2] = sip_rotate(v[2], 32);
    }
}

static uint64_t sip(int c, int d, const uint64_t key[2], const unsigned char *text, size_t len)
{
    unsigned char padded[320] = {0};
    size_t whole = len / 8 * 8 + 8;
    uint64_t v[4];
    assert_true(whole <= sizeof padded);
    if (len > 0) memcpy(padded, text, len);
    padded[whole - 1] = (unsigned char)len;
    v[0] = key[0] ^ 0x736f6d6570736575u; /* "somepseudorandomlygeneratedbytes" */
    v[1] = key[1] ^ 0x646f72616e646f6du;
    v[2] = key[0] ^ 0x6c7967656e657261u;
    v[3] = key[1] ^ 0x7465646279746573u;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = 0;
        for (size_t b = 8; b-- > 0;) word = word * 256 + padded[i + b];
        v[3] ^= word;
        sip_rounds(v, c);
        v[0] ^= word;
    }
    v[2] ^= 255;
    sip_rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Key 00 01 .. 0f, text 00 01 .. of length 0 to 63: the reference implementation's vectors. */
static const uint64_t sip13[64] = {
    UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93), UINT64_C(0x82cb9b024dc7d44d),
    UINT64_C(0x8bf80ab8e7ddf7fb), UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
    UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140), UINT64_C(0x369095118d299a8e),
    UINT64_C(0x25a48eb36c063de4), UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
    UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7), UINT64_C(0x605aa111c0f95d34),
    UINT64_C(0xd320d86d2a519956), UINT64_C(0xcc4fdd1a7d908b66), UINT64_C(0x9cf2689063dbd80c),
    UINT64_C(0x8ffc389cb473e63e), UINT64_C(0xf21f9de58d297d1c), UINT64_C(0xc0dc2f46a6cce040),
    UINT64_C(0xb992abfe2b45f844), UINT64_C(0x7ffe7b9ba320872e), UINT64_C(0x525a0e7fdae6c123),
    UINT64_C(0xf464aeb267349c8c), UINT64_C(0x45cd5928705b0979), UINT64_C(0x3a3e35e3ca9913a5),
    UINT64_C(0xa91dc74e4ade3b35), UINT64_C(0xfb0bed02ef6cd00d), UINT64_C(0x88d93cb44ab1e1f4),
    UINT64_C(0x540f11d643c5e663), UINT64_C(0x2370dd1f8c21d1bc), UINT64_C(0x81157b6c16a7b60d),
    UINT64_C(0x4d54b9e57a8ff9bf), UINT64_C(0x759f12781f2a753e), UINT64_C(0xcea1a3bebf186b91),
    UINT64_C(0x2cf508d3ada26206), UINT64_C(0xb6101c2da3c33057), UINT64_C(0xb3f47496ae3a36a1),
    UINT64_C(0x626b57547b108392), UINT64_C(0xc1d2363299e41531), UINT64_C(0x667cc1923f1ad944),
    UINT64_C(0x65704ffec8138825), UINT64_C(0x24f280d1c28949a6), UINT64_C(0xc2ca1cedfaf8876b),
    UINT64_C(0xc2164bfc9f042196), UINT64_C(0xa16e9c9368b1d623), UINT64_C(0x49fb169c8b5114fd),
    UINT64_C(0x9f3143f8df074c46), UINT64_C(0xc6fdaf2412cc86b3), UINT64_C(0x7eaf49d10a52098f),
    UINT64_C(0x1cf313559d292f9a), UINT64_C(0xc44a30dda2f41f12), UINT64_C(0x36fae98943a71ed0),
    UINT64_C(0x318fb34c73f0bce6), UINT64_C(0xa27abf3670a7e980), UINT64_C(0xb4bcc0db243c6d75),
    UINT64_C(0x23f8d852fdb71513), UINT64_C(0x8f035f4da67d8a08), UINT64_C(0xd89cd0e5b7e8f148),
    UINT64_C(0xf6f4e6bcf7a644ee), UINT64_C(0xaec59ad80f1837f2), UINT64_C(0xc3b2f6154b6694e0),
    UINT64_C(0x9d199062b7bbb3a8),
};

static const uint64_t sip_key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

static void the_hash_is_siphash_1_3(void **state)
{
    (void)state;
    char text[64];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)i;
    for (size_t len = 0; len < sizeof text; len++)
        assert_true(psh_codec_hash(sip_key, text, len) == sip13[len]);
    assert_true(psh_codec_hash(sip_key, NULL, 0) == sip13[0]);
    /* with a key of zeros it is what hash() of CPython 3.11 gives under PYTHONHASHSEED=0 */
    static const uint64_t zero[2] = {0, 0};
    assert_true(psh_codec_hash(zero, "presence-room", 13) == UINT64_C(0x6b798dc597233c3e));
    assert_true(psh_codec_hash(zero, "private-chat.1", 14) == UINT64_C(0xcd449ac6f5798615));
}

static void the_hash_is_the_papers(void **state)
{
    (void)state;
    unsigned char text[15];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (unsigned char)i;
    /* the paper's own example, for 2-4: this test's second implementation is right */
    assert_true(sip(2, 4, sip_key, text, 15) == UINT64_C(0xa129ca6149be45e5));
    uint64_t dice = 3;
    for (size_t len = 0; len <= 300; len++) {
        for (int round = 0; round < 20; round++) {
            uint64_t key[2];
            key[0] = fake_next_random(&dice);
            key[1] = fake_next_random(&dice);
            unsigned char *bytes = (unsigned char *)malloc(len + (len == 0));
            assert_non_null(bytes);
            for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)fake_next_random(&dice);
            uint64_t hash = psh_codec_hash(key, (const char *)bytes, len);
            assert_true(hash == sip(1, 3, key, bytes, len));
            free(bytes);
        }
    }
}

static void every_bit_of_key_and_text_counts(void **state)
{
    (void)state;
    char text[24] = "presence-room.number.123";
    uint64_t seen[1 + 128 + 8 * sizeof text + sizeof text];
    size_t count = 0;
    seen[count++] = psh_codec_hash(sip_key, text, sizeof text);
    for (unsigned bit = 0; bit < 128; bit++) {
        uint64_t key[2] = {sip_key[0], sip_key[1]};
        key[bit / 64] ^= UINT64_C(1) << bit % 64;
        seen[count++] = psh_codec_hash(key, text, sizeof text);
    }
    for (size_t bit = 0; bit < 8 * sizeof text; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        seen[count++] = psh_codec_hash(sip_key, text, sizeof text);
        text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t len = 0; len < sizeof text; len++)
        seen[count++] = psh_codec_hash(sip_key, text, len);
    assert_int_equal(count, ARRAY_LEN(seen));
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) assert_true(seen[i] != seen[j]);
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* What RFC 3629 says of the character that the bytes begin with, worked out from the numbers that
   it can still become: its length when it is whole, 0 when it lacks bytes, -1 when it is none. */
static int decode(const unsigned char *bytes, size_t len, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char lead = bytes[0];
    int size = lead >> 7 == 0 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : 4;
    if (size == 4 && lead >> 3 != 30) return -1;
    uint32_t bits = size == 1 ? lead : lead & (0x7Fu >> size);
    int have = 1;
    while (have < size && (size_t)have < len) {
        if (bytes[have] >> 6 != 2) return -1;
        bits = bits << 6 | (bytes[have++] & 0x3Fu);
    }
    uint32_t open = 6u * (uint32_t)(size - have), low = bits << open;
    uint32_t high = low + (UINT32_C(1) << open) - 1;
    if (low < least[size]) low = least[size];
    if (high > 0x10FFFF) high = 0x10FFFF;
    if (low > high || (low >= 0xD800 && high <= 0xDFFF)) return -1;
    *code = bits;
    return have == size ? size : 0;
}

/* How many bytes of the text are free of fault, the first faulty one not counted. */
static size_t faultless(const unsigned char *bytes, size_t len, bool *whole)
{
    size_t at = 0;
    uint32_t code;
    *whole = true;
    while (at < len) {
        int size = decode(bytes + at, len - at, &code);
        if (size > 0) {
            at += (size_t)size;
            continue;
        }
        *whole = false;
        if (size == 0) return len;
        size_t good = 1; /* which byte of it is the fault? */
        if (decode(bytes + at, good, &code) < 0) return at;
        while (decode(bytes + at, good + 1, &code) == 0) good++;
        return at + good;
    }
    return len;
}

/* Given in the pieces that the bits of cuts tell: does the room say what decode() says, and not a
   piece later? Returns false so that a failure names its bytes. */
static bool agrees_cut(const unsigned char *bytes, size_t len, unsigned cuts, size_t good,
                       bool whole)
{
    struct psh_codec_utf8_state state = {0, 0, 0};
    size_t from = 0;
    for (size_t at = 1; at <= len; at++) {
        if (at < len && !(cuts >> (at - 1) & 1)) continue;
        bool taken = psh_codec_utf8(&state, bytes + from, at - from);
        if (taken != (at <= good)) return false;
        if (!taken) return true; /* all that follows is of no interest */
        from = at;
    }
    return (state.need == 0) == whole;
}

static void agrees(const unsigned char *bytes, size_t len)
{
    bool whole;
    size_t good = faultless(bytes, len, &whole);
    for (unsigned cuts = 0; cuts < 1u << (len - 1); cuts++) {
        if (agrees_cut(bytes, len, cuts, good, whole)) continue;
        for (size_t i = 0; i < len; i++) print_error("%02X ", bytes[i]);
        fail_msg("UTF-8 judged wrongly when cut as %x", cuts);
    }
}

static void utf8_of_one_and_two_bytes(void **state)
{
    (void)state;
    unsigned char bytes[2];
    for (unsigned i = 0; i < 0x10000; i++) {
        bytes[0] = (unsigned char)(i >> 8);
        bytes[1] = (unsigned char)i;
        agrees(bytes, 2);
        if ((i & 0xFF) == 0) agrees(bytes, 1);
    }
}

static void utf8_of_three_bytes(void **state)
{
    (void)state;
    unsigned char bytes[3];
    for (unsigned i = 0; i < 0x1000000; i++) {
        bytes[0] = (unsigned char)(i >> 16);
        bytes[1] = (unsigned char)(i >> 8);
        bytes[2] = (unsigned char)i;
        agrees(bytes, 3);
    }
}

/* All first and second bytes; of the others those at which the rules change, and some between. */
static void utf8_of_four_bytes(void **state)
{
    (void)state;
    static const unsigned char edges[] = {0x00, 0x22, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xAA,
                                          0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0,
                                          0xF4, 0xF5, 0xFF};
    unsigned char bytes[4];
    for (unsigned i = 0; i < 0x10000; i++) {
        bytes[0] = (unsigned char)(i >> 8);
        bytes[1] = (unsigned char)i;
        for (size_t j = 0; j < ARRAY_LEN(edges) * ARRAY_LEN(edges); j++) {
            bytes[2] = edges[j / ARRAY_LEN(edges)];
            bytes[3] = edges[j % ARRAY_LEN(edges)];
            if (bytes[0] >= 0xE0 || j % 8 == 0) agrees(bytes, 4);
        }
    }
}

static size_t encode(uint32_t code, unsigned char *out)
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; code >>= 6) out[i] = (unsigned char)(0x80 | (code & 0x3F));
    static const unsigned char marks[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (unsigned char)(marks[size] | code);
    return size;
}

static void every_character_there_is(void **state)
{
    (void)state;
    uint32_t good = 0;
    for (uint32_t code = 0; code < 0x200000; code++) {
        struct psh_codec_utf8_state check = {0, 0, 0};
        unsigned char bytes[4];
        size_t size = encode(code, bytes);
        bool taken = psh_codec_utf8(&check, bytes, size) && check.need == 0;
        if (taken != (code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF)))
            fail_msg("U+%X judged wrongly", (unsigned)code);
        if (taken) good++;
    }
    assert_int_equal(good, 0x110000 - 0x800);
}

static bool utf8_is_whole(const char *bytes, size_t len)
{
    struct psh_codec_utf8_state state = {0, 0, 0};
    return psh_codec_utf8(&state, bytes, len) && state.need == 0;
}

#define WHOLE(text) assert_true(utf8_is_whole(text, sizeof(text) - 1))
#define BAD(text) assert_false(utf8_is_whole(text, sizeof(text) - 1))

static void the_bounds_of_rfc_3629(void **state)
{
    (void)state;
    WHOLE("");
    WHOLE("\0");
    WHOLE("\x7F");
    WHOLE("\xC2\x80");
    WHOLE("\xDF\xBF");
    WHOLE("\xE0\xA0\x80");
    WHOLE("\xED\x9F\xBF");
    WHOLE("\xEE\x80\x80");
    WHOLE("\xEF\xBF\xBF");
    WHOLE("\xF0\x90\x80\x80");
    WHOLE("\xF4\x8F\xBF\xBF");
    BAD("\x80");
    BAD("\xBF");
    BAD("\xC0\x80"); /* overlong */
    BAD("\xC1\xBF");
    BAD("\xE0\x80\x80");
    BAD("\xE0\x9F\xBF");
    BAD("\xF0\x80\x80\x80");
    BAD("\xF0\x8F\xBF\xBF");
    BAD("\xED\xA0\x80"); /* surrogates */
    BAD("\xED\xBF\xBF");
    BAD("\xED\xA0\xBD\xED\xB8\x80");
    BAD("\xF4\x90\x80\x80"); /* over U+10FFFF */
    BAD("\xF5\x80\x80\x80");
    BAD("\xF7\xBF\xBF\xBF");
    BAD("\xF8\x88\x80\x80\x80");
    BAD("\xFC\x84\x80\x80\x80\x80");
    BAD("\xFE");
    BAD("\xFF");
    BAD("\xC2"); /* unfinished */
    BAD("\xE2\x82");
    BAD("\xF0\x9F\x98");
    BAD("\xC2z");
    BAD("\xE2\x82z");
    BAD("\xF0\x9F\x98z");
    BAD("\xC2\x80\x80"); /* one too many */
    BAD("\xE2\x82\xAC\x80");
    BAD("\xF0\x9F\x98\x80\x80");
}

/* Eight plain bytes are taken in one step: bad and good characters at every place around that. */
static void plain_bytes_around_hide_nothing(void **state)
{
    (void)state;
    static const char *const middles[] = {
        "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xC3", "\xE2\x82", "\xF0\x9F\x98",
        "\x80", "\xFF", "\xC0\x80", "\xED\xA0\x80", "\xC3\xA9\xA9", "\xC3\xA9z\xC3", "",
    };
    for (size_t before = 0; before <= 20; before++) {
        for (size_t after = 0; after <= 20; after++) {
            for (size_t m = 0; m < ARRAY_LEN(middles); m++) {
                size_t middle = strlen(middles[m]), len = before + middle + after;
                if (len == 0) continue;
                unsigned char *bytes = (unsigned char *)malloc(len);
                assert_non_null(bytes);
                memset(bytes, 'x', len);
                memcpy(bytes + before, middles[m], middle);
                bool whole;
                size_t good = faultless(bytes, len, &whole);
                for (size_t cut = 0; cut < len; cut++) {
                    struct psh_codec_utf8_state check = {0, 0, 0};
                    bool taken = psh_codec_utf8(&check, bytes, cut);
                    assert_int_equal(taken, cut <= good);
                    if (!taken) continue;
                    taken = psh_codec_utf8(&check, bytes + cut, len - cut);
                    assert_int_equal(taken, good == len);
                    if (taken) assert_int_equal(check.need == 0, whole);
                }
                free(bytes);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_of_rfc_4648),
        cmocka_unit_test(base64_of_every_length),
        cmocka_unit_test(base64_is_read_back),
        cmocka_unit_test(what_is_not_base64_is_refused),
        cmocka_unit_test(each_byte_at_each_place_of_base64),
        cmocka_unit_test(sha1_of_fips_180),
        cmocka_unit_test(the_accept_value_of_rfc_6455),
        cmocka_unit_test(hmac_of_rfc_4231),
        cmocka_unit_test(hmac_of_nothing),
        cmocka_unit_test(no_signature_when_a_hash_fails),
        cmocka_unit_test(signatures_of_the_protocol),
        cmocka_unit_test(the_hash_is_siphash_1_3),
        cmocka_unit_test(the_hash_is_the_papers),
        cmocka_unit_test(every_bit_of_key_and_text_counts),
        cmocka_unit_test(utf8_of_one_and_two_bytes),
        cmocka_unit_test(utf8_of_three_bytes),
        cmocka_unit_test(utf8_of_four_bytes),
        cmocka_unit_test(every_character_there_is),
        cmocka_unit_test(the_bounds_of_rfc_3629),
        cmocka_unit_test(plain_bytes_around_hide_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
