/* seal.c - see seal.h. Salsa20 as in its specification; Poly1305 in five limbs of 26 bits. */
#include "seal.h"

#include <stdint.h>
#include <string.h>

static uint32_t word_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void word_to(unsigned char *p, uint32_t w)
{
    for (int i = 0; i < 4; i++, w >>= 8) {
        p[i] = (unsigned char)w;
    }
}

static void turn(uint32_t x[16], int to, int a, int b, int by)
{
    uint32_t sum = x[a] + x[b];
    x[to] ^= sum << by | sum >> (32 - by);
}

static void quarter(uint32_t x[16], int a, int b, int c, int d)
{
    turn(x, b, a, d, 7);
    turn(x, c, b, a, 9);
    turn(x, d, c, b, 13);
    turn(x, a, d, c, 18);
}

/* The matrix of key and 16 bytes of input, after twenty rounds. */
static void rounds(uint32_t x[16], uint32_t start[16], const unsigned char key[32],
                   const unsigned char in[16])
{
    static const char constant[] = "expand 32-byte k";
    for (int i = 0; i < 4; i++) {
        start[5 * i] = word_at((const unsigned char *)constant + 4 * i);
        start[1 + i] = word_at(key + 4 * i);
        start[6 + i] = word_at(in + 4 * i);
        start[11 + i] = word_at(key + 16 + 4 * i);
    }
    memcpy(x, start, 16 * sizeof *x);
    for (int i = 0; i < 10; i++) {
        quarter(x, 0, 4, 8, 12);
        quarter(x, 5, 9, 13, 1);
        quarter(x, 10, 14, 2, 6);
        quarter(x, 15, 3, 7, 11);
        quarter(x, 0, 1, 2, 3);
        quarter(x, 5, 6, 7, 4);
        quarter(x, 10, 11, 8, 9);
        quarter(x, 15, 12, 13, 14);
    }
}

static void salsa_block(unsigned char out[64], const unsigned char key[32],
                        const unsigned char nonce[8], uint64_t counter)
{
    uint32_t x[16], start[16];
    unsigned char in[16];
    memcpy(in, nonce, 8);
    word_to(in + 8, (uint32_t)counter);
    word_to(in + 12, (uint32_t)(counter >> 32));
    rounds(x, start, key, in);
    for (int i = 0; i < 16; i++) {
        word_to(out + 4 * i, x[i] + start[i]);
    }
}

/* HSalsa20: a key out of a key and 16 bytes */
static void salsa_key(unsigned char out[32], const unsigned char key[32],
                      const unsigned char in[16])
{
    static const int at[8] = {0, 5, 10, 15, 6, 7, 8, 9};
    uint32_t x[16], start[16];
    rounds(x, start, key, in);
    for (int i = 0; i < 8; i++) {
        word_to(out + 4 * i, x[at[i]]);
    }
}

/* len <= 17 bytes as limbs */
static void limbs_of(uint64_t limb[5], const unsigned char *p, size_t len)
{
    uint64_t low = 0;
    int bits = 0, n = 0;
    memset(limb, 0, 5 * sizeof *limb);
    for (size_t i = 0; i < len && n < 5; i++) {
        low |= (uint64_t)p[i] << bits;
        bits += 8;
        if (bits >= 26) {
            limb[n++] = low & 0x3FFFFFF;
            low >>= 26;
            bits -= 26;
        }
    }
    if (n < 5) {
        limb[n] = low;
    }
}

static void carry(uint64_t h[5])
{
    for (int twice = 0; twice < 2; twice++) {
        uint64_t over = 0;
        for (int i = 0; i < 5; i++) {
            h[i] += over;
            over = h[i] >> 26;
            h[i] &= 0x3FFFFFF;
        }
        h[0] += over * 5;
    }
}

static void multiply(uint64_t h[5], const uint64_t r[5])
{
    uint64_t product[5] = {0};
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 5; k++) {
            product[(i + k) % 5] += h[i] * r[k] * (i + k >= 5 ? 5 : 1);
        }
    }
    memcpy(h, product, sizeof product);
    carry(h);
}

/* h modulo 2^130 - 5, plus the pad, modulo 2^128 */
static void finish(unsigned char tag[16], uint64_t h[5], const unsigned char pad[16])
{
    uint64_t less[5], over = 5;
    carry(h);
    for (int i = 0; i < 5; i++) {
        less[i] = h[i] + over;
        over = less[i] >> 26;
        less[i] &= 0x3FFFFFF;
    }
    const uint64_t *right = over ? less : h;
    uint64_t acc = 0;
    unsigned sum = 0;
    int bits = 0, limb = 0;
    for (int i = 0; i < 16; i++) {
        while (bits < 8) {
            acc |= right[limb++] << bits;
            bits += 26;
        }
        sum += (unsigned)(acc & 0xFF) + pad[i];
        tag[i] = (unsigned char)sum;
        sum >>= 8;
        acc >>= 8;
        bits -= 8;
    }
}

static void authenticate(unsigned char tag[16], const unsigned char *text, size_t len,
                         const unsigned char key[32])
{
    unsigned char clamped[16], block[17];
    uint64_t r[5], h[5] = {0}, m[5];
    memcpy(clamped, key, 16);
    for (int i = 3; i < 16; i += 4) {
        clamped[i] &= 15;
    }
    for (int i = 4; i < 16; i += 4) {
        clamped[i] &= 252;
    }
    limbs_of(r, clamped, 16);
    for (size_t at = 0; at < len; at += 16) {
        size_t n = len - at < 16 ? len - at : 16;
        memcpy(block, text + at, n);
        block[n] = 1;
        limbs_of(m, block, n + 1);
        for (int i = 0; i < 5; i++) {
            h[i] += m[i];
        }
        multiply(h, r);
    }
    finish(tag, h, key + 16);
}

void seal_box(unsigned char *out, const void *text, size_t len,
              const unsigned char nonce[SEAL_NONCE], const unsigned char key[SEAL_KEY])
{
    unsigned char inner[32], stream[64], first[32];
    const unsigned char *from = text;
    salsa_key(inner, key, nonce);
    salsa_block(stream, inner, nonce + 16, 0);
    memcpy(first, stream, sizeof first); /* the first half block is Poly1305's key */
    for (size_t i = 0; i < len; i++) {
        if ((i + 32) % 64 == 0) {
            salsa_block(stream, inner, nonce + 16, (i + 32) / 64);
        }
        out[SEAL_TAG + i] = (unsigned char)(from[i] ^ stream[(i + 32) % 64]);
    }
    authenticate(out, out + SEAL_TAG, len, first);
}
