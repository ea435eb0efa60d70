/* The inner loops of the secure sum, each in one pass over blocks that stay in the first-level cache.
 *
 * Optional: without this module numpy does the same, bit for bit (tests/sharing/test_kernel.py compares them), and
 * docs/spec/sharing.md defines both. No branch depends on a secret word but for the replacement of a word >= p, which
 * shows the place of a refused word of the keystream and nothing of the word that takes it. Round keys are wiped, and
 * so is each block in which words are worked on.
 *
 *   combine     x + sum PRG(plus) - sum PRG(minus) mod p            (masking.py, prg.py)
 *   add_up      sum of vectors mod p                                (field.py)
 *   below       whether all words are below p                       (field.py)
 *   tag         random linear forms of a chunk                      (forms.py)
 *   round_up    floats to words: scale, stochastic rounding, encode (quantiser.py)
 *   decode      words to floats: centre, times one step             (quantiser.py)
 *   extent      largest integer and sum of squares of words         (quantiser.py)
 *   survey      what is not finite, and how much lies over a limit  (quantiser.py)
 *
 * AES-256-CTR with the processor's own instructions, 4 blocks in one register where it has VAES. Every other loop is
 * plain C that compilers vectorise; on glibc it is compiled for three generations and picked when the module loads.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <math.h>

#if defined(__GLIBC__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define VECTORS
#endif
#define AESNI __attribute__((target("aes,sse4.1")))
#define VAES __attribute__((target("vaes,avx512f,avx512bw,aes,sse4.1")))

enum { BLOCK = 16, ROUNDS = 14, KEY = 32, CHUNK = 8192 };

typedef struct {
    __m128i round[ROUNDS + 1];
} Schedule;

static int have_vaes;

/* ── AES-256 ─────────────────────────────────────────────────────────────────────────────────────────────────── */

AESNI static __m128i spread(__m128i key, __m128i assist) {
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, assist);
}

#define EVEN(n, constant)                                                                                       \
    s->round[n] = spread(s->round[(n) - 2],                                                                    \
                         _mm_shuffle_epi32(_mm_aeskeygenassist_si128(s->round[(n) - 1], constant), 0xff))
#define ODD(n)                                                                                                 \
    s->round[n] = spread(s->round[(n) - 2],                                                                    \
                         _mm_shuffle_epi32(_mm_aeskeygenassist_si128(s->round[(n) - 1], 0), 0xaa))

/* FIPS 197, section 5.2, for Nk = 8. */
AESNI static void schedule(Schedule *s, const uint8_t *key) {
    s->round[0] = _mm_loadu_si128((const __m128i *)key);
    s->round[1] = _mm_loadu_si128((const __m128i *)(key + 16));
    EVEN(2, 0x01); ODD(3);
    EVEN(4, 0x02); ODD(5);
    EVEN(6, 0x04); ODD(7);
    EVEN(8, 0x08); ODD(9);
    EVEN(10, 0x10); ODD(11);
    EVEN(12, 0x20); ODD(13);
    EVEN(14, 0x40);
}

/* The compiler is told that something may read what was wiped, so that it leaves none of it out. */
static void wipe(void *secret, size_t bytes) {
    memset(secret, 0, bytes);
    __asm__ __volatile__("" : : "r"(secret) : "memory");
}

/* Keystream blocks `first` ... of `stream`: the encryption of stream (8 bytes, big-endian) || number of the block. */
AESNI static void keystream_aesni(const Schedule *s, uint64_t stream, uint64_t first, size_t count, uint8_t *out) {
    const long long high = (long long)__builtin_bswap64(stream);
    while (count) {
        const size_t now = count < 8 ? count : 8;
        __m128i b[8];
        for (int i = 0; i < 8; i++)
            b[i] = _mm_xor_si128(_mm_set_epi64x((long long)__builtin_bswap64(first + i), high), s->round[0]);
        for (int r = 1; r < ROUNDS; r++)
            for (int i = 0; i < 8; i++) b[i] = _mm_aesenc_si128(b[i], s->round[r]);
        for (int i = 0; i < 8; i++) b[i] = _mm_aesenclast_si128(b[i], s->round[ROUNDS]);
        for (size_t i = 0; i < now; i++) _mm_storeu_si128((__m128i *)out + i, b[i]);
        first += now, out += now * BLOCK, count -= now;
    }
}

VAES static void keystream_vaes(const Schedule *s, uint64_t stream, uint64_t first, size_t count, uint8_t *out) {
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    const __m512i four = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
    const long long high = (long long)stream;
    const long long low = (long long)first;
    __m512i counter = _mm512_set_epi64(low + 3, high, low + 2, high, low + 1, high, low, high);
    while (count >= 16) {
        __m512i b[4];
        for (int i = 0; i < 4; i++) {
            b[i] = _mm512_xor_si512(_mm512_shuffle_epi8(counter, swap), _mm512_broadcast_i32x4(s->round[0]));
            counter = _mm512_add_epi64(counter, four);
        }
        for (int r = 1; r < ROUNDS; r++) {
            const __m512i key = _mm512_broadcast_i32x4(s->round[r]);
            for (int i = 0; i < 4; i++) b[i] = _mm512_aesenc_epi128(b[i], key);
        }
        const __m512i last = _mm512_broadcast_i32x4(s->round[ROUNDS]);
        for (int i = 0; i < 4; i++) _mm512_storeu_si512((__m512i *)out + i, _mm512_aesenclast_epi128(b[i], last));
        first += 16, out += 16 * BLOCK, count -= 16;
    }
    if (count) keystream_aesni(s, stream, first, count, out);
}

static void keystream(const Schedule *s, uint64_t stream, uint64_t first, size_t count, uint8_t *out) {
    (have_vaes ? keystream_vaes : keystream_aesni)(s, stream, first, count, out);
}

/* ── a field ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct {
    uint64_t p, top; /* top: the bits of a word that may be set */
    size_t width;    /* bytes of a word: 2, 4 or 8 */
} Field;

/* Word `position` of `stream`, its spare bits cleared; it may be >= p. */
static uint64_t word_at(const Schedule *s, const Field *f, uint64_t stream, uint64_t position) {
    uint8_t block[BLOCK];
    const uint64_t byte = position * f->width;
    uint64_t word = 0;
    keystream_aesni(s, stream, byte / BLOCK, 1, block);
    memcpy(&word, block + byte % BLOCK, f->width);
    wipe(block, sizeof block);
    return word & f->top;
}

/* A word >= p of stream 1 is replaced by the first one below p of streams 2, 3, ... at its position. */
static uint64_t replacement(const Schedule *s, const Field *f, uint64_t position) {
    uint64_t stream = 2, word;
    while ((word = word_at(s, f, stream, position)) >= f->p) stream++;
    return word;
}

/* For each width: clear spare bits and say whether any word is refused; replace those; add; subtract; settle. With a
 * spare bit a sum is below p at every moment. 16-bit words have none: a sum is congruent, and settled at its end. */
#define OF_WIDTH(W, T)                                                                                          \
    VECTORS static int clear##W(T *w, size_t n, T top, T p) {                                                  \
        T most = 0;                                                                                            \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const T v = w[i] & top;                                                                            \
            w[i] = v;                                                                                          \
            most = v > most ? v : most;                                                                        \
        }                                                                                                      \
        return most >= p;                                                                                      \
    }                                                                                                          \
    static void replace##W(const Schedule *s, const Field *f, T *w, size_t n, uint64_t position) {             \
        const T p = (T)f->p;                                                                                   \
        for (size_t first = 0; first < n; first += 64) {                                                       \
            const size_t end = first + 64 < n ? first + 64 : n;                                                \
            T any = 0;                                                                                         \
            for (size_t i = first; i < end; i++) any |= (T)(w[i] >= p);                                        \
            if (!any) continue;                                                                                \
            for (size_t i = first; i < end; i++)                                                               \
                if (w[i] >= p) w[i] = (T)replacement(s, f, position + i);                                      \
        }                                                                                                      \
    }

OF_WIDTH(2, uint16_t)
OF_WIDTH(4, uint32_t)
OF_WIDTH(8, uint64_t)

#define SPARE(W, T)                                                                                             \
    VECTORS static void add##W(T *a, const T *x, size_t n, T p) {                                              \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const T s = (T)(a[i] + x[i]), d = (T)(s - p);                                                      \
            a[i] = s < d ? s : d;                                                                              \
        }                                                                                                      \
    }                                                                                                          \
    VECTORS static void subtract##W(T *a, const T *x, size_t n, T p) {                                         \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const T s = (T)(a[i] - x[i]), d = (T)(s + p);                                                      \
            a[i] = s < d ? s : d;                                                                              \
        }                                                                                                      \
    }

SPARE(4, uint32_t)
SPARE(8, uint64_t)

VECTORS static void add2(uint16_t *a, const uint16_t *x, size_t n, uint16_t p) {
    const uint16_t delta = (uint16_t)(0 - p);
    for (size_t i = 0; i < n; i++) {
        const uint16_t s = (uint16_t)(a[i] + x[i]);
        a[i] = (uint16_t)(s + (s < x[i] ? delta : 0));
    }
}

VECTORS static void subtract2(uint16_t *a, const uint16_t *x, size_t n, uint16_t p) {
    const uint16_t delta = (uint16_t)(0 - p);
    for (size_t i = 0; i < n; i++) {
        const uint16_t s = (uint16_t)(a[i] - x[i]);
        a[i] = (uint16_t)(s - (a[i] < x[i] ? delta : 0));
    }
}

VECTORS static void settle2(uint16_t *a, size_t n, uint16_t p) {
    const uint16_t delta = (uint16_t)(0 - p);
    for (size_t i = 0; i < n; i++) {
        const uint16_t d = (uint16_t)(a[i] + delta);
        a[i] = a[i] < d ? a[i] : d;
    }
}

static void add(const Field *f, void *a, const void *x, size_t n, int minus) {
    if (f->width == 4) (minus ? subtract4 : add4)(a, x, n, (uint32_t)f->p);
    else if (f->width == 8) (minus ? subtract8 : add8)(a, x, n, f->p);
    else (minus ? subtract2 : add2)(a, x, n, (uint16_t)f->p);
}

static void settle(const Field *f, void *a, size_t n) {
    if (f->width == 2) settle2(a, n, (uint16_t)f->p);
}

/* n words of the PRG from word `position` on, which is a multiple of a block's words. */
static void fill(const Schedule *s, const Field *f, uint64_t position, size_t n, uint8_t *out) {
    const size_t bytes = n * f->width;
    keystream(s, 1, position * f->width / BLOCK, (bytes + BLOCK - 1) / BLOCK, out);
    if (f->width == 4) {
        if (clear4((uint32_t *)out, n, (uint32_t)f->top, (uint32_t)f->p)) replace4(s, f, (uint32_t *)out, n, position);
    } else if (f->width == 8) {
        if (clear8((uint64_t *)out, n, f->top, f->p)) replace8(s, f, (uint64_t *)out, n, position);
    } else {
        if (clear2((uint16_t *)out, n, (uint16_t)f->top, (uint16_t)f->p))
            replace2(s, f, (uint16_t *)out, n, position);
    }
}

static int field_of(Field *f, Py_ssize_t width, unsigned long long p) {
    if (!(width == 2 && p == 65521) && !(width == 4 && p == (1ULL << 31) - 1) && !(width == 8 && p == (1ULL << 61) - 1)) {
        PyErr_Format(PyExc_ValueError, "no field of %llu in %zd bytes", p, width);
        return 0;
    }
    f->p = p, f->width = (size_t)width, f->top = width == 2 ? 0xffff : p;
    return 1;
}

/* ── combine ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void combine_words(const Field *f, uint8_t *out, const uint8_t *x, size_t n, const Schedule *keys,
                          size_t count, size_t plus, uint64_t start) {
    uint8_t stream[CHUNK + 2 * BLOCK] __attribute__((aligned(64)));
    uint8_t sum[CHUNK] __attribute__((aligned(64)));
    const size_t per_block = BLOCK / f->width, most = CHUNK / f->width;
    for (size_t done = 0; done < n;) {
        const uint64_t position = start + done;
        const size_t skipped = (size_t)(position % per_block); /* only the first chunk may begin inside a block */
        const size_t room = most - skipped, now = n - done < room ? n - done : room;
        if (x != NULL) memcpy(sum, x + done * f->width, now * f->width);
        else memset(sum, 0, now * f->width);
        for (size_t k = 0; k < count; k++) {
            fill(keys + k, f, position - skipped, now + skipped, stream);
            add(f, sum, stream + skipped * f->width, now, k >= plus);
        }
        settle(f, sum, now);
        memcpy(out + done * f->width, sum, now * f->width);
        done += now;
    }
    wipe(stream, sizeof stream);
    wipe(sum, sizeof sum);
}

static PyObject *combine(PyObject *self, PyObject *args) {
    Py_buffer out, x, keys;
    Py_ssize_t plus, width;
    unsigned long long p, start;
    PyObject *result = NULL;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*y*nnKK", &out, &x, &keys, &plus, &width, &p, &start)) return NULL;
    const size_t count = (size_t)keys.len / KEY;
    if (field_of(&f, width, p)) {
        Schedule *schedules = NULL;
        if ((x.len && out.len != x.len) || out.len % width || keys.len % KEY || plus < 0 || (size_t)plus > count)
            PyErr_SetString(PyExc_ValueError, "lengths of out, x and keys do not fit");
        else if ((schedules = _mm_malloc((count ? count : 1) * sizeof *schedules, 64)) == NULL)
            PyErr_NoMemory();
        else {
            Py_BEGIN_ALLOW_THREADS
            for (size_t k = 0; k < count; k++) schedule(schedules + k, (const uint8_t *)keys.buf + k * KEY);
            combine_words(&f, out.buf, x.len ? x.buf : NULL, (size_t)(out.len / width), schedules, count, (size_t)plus, start);
            wipe(schedules, count * sizeof *schedules);
            Py_END_ALLOW_THREADS
            _mm_free(schedules);
            result = Py_NewRef(Py_None);
        }
    }
    PyBuffer_Release(&out), PyBuffer_Release(&x), PyBuffer_Release(&keys);
    return result;
}

/* A block of words where they lie, or `moved`, where they do not begin at a multiple of their width. */
static const void *in_place(const uint8_t *words, uint8_t *moved, size_t bytes, size_t width) {
    return (uintptr_t)words % width ? memcpy(moved, words, bytes) : words;
}

/* ── add_up ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static PyObject *add_up(PyObject *self, PyObject *args) {
    Py_buffer out, vectors[64];
    PyObject *listed, *result = NULL;
    Py_ssize_t width, plus, held = 0;
    unsigned long long p;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*O!nnK", &out, &PyTuple_Type, &listed, &plus, &width, &p)) return NULL;
    const Py_ssize_t count = PyTuple_GET_SIZE(listed);
    if (!field_of(&f, width, p)) goto done;
    if (count < 1 || count > 64 || plus < 1 || plus > count || out.len % width) {
        PyErr_SetString(PyExc_ValueError, "1 to 64 vectors of whole words are added, the first with a plus");
        goto done;
    }
    for (; held < count; held++) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(listed, held), vectors + held, PyBUF_SIMPLE)) goto done;
        if (vectors[held].len != out.len) {
            held++;
            PyErr_SetString(PyExc_ValueError, "vectors of unlike lengths");
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    uint8_t sum[CHUNK] __attribute__((aligned(64))), moved[CHUNK] __attribute__((aligned(64)));
    for (Py_ssize_t at = 0; at < out.len; at += CHUNK) {
        const size_t bytes = out.len - at < CHUNK ? (size_t)(out.len - at) : CHUNK, n = bytes / f.width;
        memcpy(sum, (const uint8_t *)vectors[0].buf + at, bytes);
        for (Py_ssize_t k = 1; k < count; k++)
            add(&f, sum, in_place((const uint8_t *)vectors[k].buf + at, moved, bytes, f.width), n, k >= plus);
        settle(&f, sum, n);
        memcpy((uint8_t *)out.buf + at, sum, bytes);
    }
    wipe(sum, sizeof sum), wipe(moved, sizeof moved);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    while (held) PyBuffer_Release(vectors + --held);
    PyBuffer_Release(&out);
    return result;
}

/* ── below ───────────────────────────────────────────────────────────────────────────────────────────────────── */

#define HIGHEST(W, T)                                                                                           \
    VECTORS static T highest##W(const T *w, size_t n) {                                                        \
        T most = 0;                                                                                            \
        for (size_t i = 0; i < n; i++) most = w[i] > most ? w[i] : most;                                       \
        return most;                                                                                           \
    }

HIGHEST(2, uint16_t)
HIGHEST(4, uint32_t)
HIGHEST(8, uint64_t)

static int all_below(const Field *f, const uint8_t *words, size_t bytes) {
    uint8_t moved[CHUNK] __attribute__((aligned(64)));
    int all = 1;
    for (size_t at = 0; all && at < bytes; at += CHUNK) {
        const size_t now = bytes - at < CHUNK ? bytes - at : CHUNK, n = now / f->width;
        const void *w = in_place(words + at, moved, now, f->width);
        const uint64_t most = f->width == 4 ? highest4(w, n) : f->width == 8 ? highest8(w, n) : highest2(w, n);
        all = most < f->p;
    }
    if ((uintptr_t)words % f->width) wipe(moved, bytes < CHUNK ? bytes : CHUNK);
    return all;
}

/* below(words, width, p): whether each is below p. They may begin at any byte. */
static PyObject *below(PyObject *self, PyObject *args) {
    Py_buffer words;
    Py_ssize_t width;
    unsigned long long p;
    PyObject *result = NULL;
    Field f;
    int all;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nK", &words, &width, &p)) return NULL;
    if (field_of(&f, width, p)) {
        if (words.len % width)
            PyErr_SetString(PyExc_ValueError, "words are cut");
        else {
            Py_BEGIN_ALLOW_THREADS
            all = all_below(&f, words.buf, (size_t)words.len);
            Py_END_ALLOW_THREADS
            result = PyBool_FromLong(all);
        }
    }
    PyBuffer_Release(&words);
    return result;
}

static uint64_t coefficient(const Field *f, const uint8_t *words, size_t i) {
    uint64_t word = 0;
    memcpy(&word, words + i * f->width, f->width);
    return word;
}

/* ── tag ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

enum { SIDE = 512, MOST_FORMS = 4 };

/* The sums of n <= 512 words times v of each form. Of 31 bits v comes as its low 16 and high 15, whose sums stay below
 * 2^56; of 16 bits the products' low and high halves are added apart, which stay below 2^25. */
VECTORS static void times_v4(const uint32_t *a, size_t n, const uint32_t *v, uint64_t *sums) {
    const uint32_t *low0 = v, *high0 = v + SIDE, *low1 = v + 2 * SIDE, *high1 = v + 3 * SIDE;
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t word = a[i];
        s0 += word * low0[i], s1 += word * high0[i], s2 += word * low1[i], s3 += word * high1[i];
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

VECTORS static void times_v2(const uint16_t *a, size_t n, const uint32_t *v, uint64_t *sums) {
    for (size_t form = 0; form < 4; form++) {
        const uint32_t *by = v + form * SIDE;
        uint32_t low = 0, high = 0;
        for (size_t i = 0; i < n; i++) {
            const uint32_t product = a[i] * by[i];
            low += product & 0xffff, high += product >> 16;
        }
        sums[form] = low + ((uint64_t)high << 16);
    }
}

/* u A v mod p of each form, for a chunk laid out in rows of `columns` words. */
static void tag_words(const Field *f, const uint8_t *words, size_t n, size_t columns, const uint64_t *u,
                      const uint32_t *v, size_t forms, uint64_t *tags) {
    uint64_t sums[MOST_FORMS];
    memset(tags, 0, forms * sizeof *tags);
    for (size_t first = 0, row = 0; first < n; first += columns, row++) {
        const size_t now = n - first < columns ? n - first : columns;
        const uint8_t *a = words + first * f->width;
        if (f->width == 4) {
            times_v4((const uint32_t *)a, now, v, sums);
            for (size_t form = 0; form < 2; form++)
                sums[form] = (sums[2 * form] + (sums[2 * form + 1] % f->p << 16)) % f->p;
        } else
            times_v2((const uint16_t *)a, now, v, sums);
        for (size_t form = 0; form < forms; form++)
            tags[form] = (tags[form] + u[form * SIDE + row] * (sums[form] % f->p)) % f->p;
    }
}

/* tag(out, words, columns, u, v, width, p): out = u A v mod p of each form, for fields of 16 and 31 bits.
 *
 * out is 8 bytes, a word for each form. u and v are the coefficients, words below p, 512 for each form. */
static PyObject *tag(PyObject *self, PyObject *args) {
    Py_buffer out, words, u, v;
    Py_ssize_t columns, width;
    unsigned long long p;
    PyObject *result = NULL;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*ny*y*nK", &out, &words, &columns, &u, &v, &width, &p)) return NULL;
    if (field_of(&f, width, p)) {
        const size_t forms = 8 / f.width, coefficients = forms * SIDE, n = (size_t)(words.len / width);
        if (width == 8 || words.len % width || out.len != 8 || columns < 1 || columns > SIDE || n < 1 ||
            n > (size_t)columns * SIDE || (size_t)u.len != coefficients * f.width || u.len != v.len ||
            (uintptr_t)words.buf % f.width)
            PyErr_SetString(PyExc_ValueError, "words, columns or coefficients do not fit");
        else {
            uint64_t left[MOST_FORMS * SIDE], tags[MOST_FORMS];
            uint32_t right[MOST_FORMS * SIDE];
            Py_BEGIN_ALLOW_THREADS
            for (size_t i = 0; i < coefficients; i++) {
                left[i] = coefficient(&f, u.buf, i);
                const uint32_t one = (uint32_t)coefficient(&f, v.buf, i);
                if (f.width == 4) {
                    uint32_t *at = right + i / SIDE * 2 * SIDE + i % SIDE;
                    at[0] = one & 0xffff, at[SIDE] = one >> 16;
                } else
                    right[i] = one;
            }
            tag_words(&f, words.buf, n, (size_t)columns, left, right, forms, tags);
            for (size_t form = 0; form < forms; form++)
                memcpy((uint8_t *)out.buf + form * f.width, &tags[form], f.width);
            Py_END_ALLOW_THREADS
            result = Py_NewRef(Py_None);
        }
    }
    PyBuffer_Release(&out), PyBuffer_Release(&words), PyBuffer_Release(&u), PyBuffer_Release(&v);
    return result;
}

/* ── round_up, decode, extent ────────────────────────────────────────────────────────────────────────────────── */

enum { VALUES = CHUNK / 8 };

/* value * scale, cut to +-most; how many values lie beyond +-limit. */
#define SCALED(NAME, T)                                                                                         \
    VECTORS static size_t NAME(const T *values, size_t n, double scale, double limit, double most, double *out) { \
        int64_t over = 0;                                                                                      \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const double v = (double)values[i], s = v * scale;                                                 \
            over += fabs(v) > limit;                                                                           \
            const double high = s > most ? most : s;                                                           \
            out[i] = high < -most ? -most : high;                                                              \
        }                                                                                                      \
        return (size_t)over;                                                                                   \
    }

SCALED(scaled_single, float)
SCALED(scaled_double, double)

/* Up where 53 bits of the keystream, as a fraction of one, are below the fraction that is lost. */
VECTORS static void drawn_up(double *scaled, const uint64_t *drawn, size_t n, int64_t *integers) {
    for (size_t i = 0; i < n; i++) {
        const double low = floor(scaled[i]), chance = (double)(int64_t)(drawn[i] >> 11) * 0x1p-53;
        integers[i] = (int64_t)low + (chance < scaled[i] - low);
    }
}

#define ENCODED(W, T)                                                                                           \
    VECTORS static void encode##W(int64_t *v, size_t n, int64_t most, uint64_t p, T *out) {                    \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const int64_t high = v[i] > most ? most : v[i], cut = high < -most ? -most : high;                 \
            v[i] = cut;                                                                                        \
            out[i] = (T)((uint64_t)cut + (cut < 0 ? p : 0));                                                   \
        }                                                                                                      \
    }                                                                                                          \
    VECTORS static void centre##W(const T *w, size_t n, uint64_t p, int64_t *out) {                            \
        const uint64_t half = (p - 1) / 2;                                                                     \
        for (size_t i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)w[i] - (w[i] > half ? p : 0));             \
    }

ENCODED(2, uint16_t)
ENCODED(4, uint32_t)
ENCODED(8, uint64_t)

static void encode(const Field *f, int64_t *v, size_t n, int64_t most, uint8_t *out) {
    if (f->width == 4) encode4(v, n, most, f->p, (uint32_t *)out);
    else if (f->width == 8) encode8(v, n, most, f->p, (uint64_t *)out);
    else encode2(v, n, most, f->p, (uint16_t *)out);
}

static void centre(const Field *f, const uint8_t *w, size_t n, int64_t *out) {
    if (f->width == 4) centre4((const uint32_t *)w, n, f->p, out);
    else if (f->width == 8) centre8((const uint64_t *)w, n, f->p, out);
    else centre2((const uint16_t *)w, n, f->p, out);
}

VECTORS static void squares(const int64_t *v, size_t n, double *out) {
    for (size_t i = 0; i < n; i++) out[i] = (double)v[i] * (double)v[i];
}

VECTORS static void times(const int64_t *v, size_t n, double step, double *out) {
    for (size_t i = 0; i < n; i++) out[i] = (double)v[i] * step;
}

VECTORS static uint64_t farthest(const int64_t *v, size_t n) {
    int64_t far = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t size = v[i] < 0 ? -v[i] : v[i];
        far = size > far ? size : far;
    }
    return (uint64_t)far;
}

VECTORS static void halve(double *squared, size_t half) {
    for (size_t i = 0; i < half; i++) squared[i] += squared[half + i];
}

/* The sum of n squares, halves folded onto one another: `size` >= n is a power of two, and `squared` has room for it. */
static double folded(double *squared, size_t n, size_t size) {
    memset(squared + n, 0, (size - n) * sizeof *squared);
    while (size > 1) halve(squared, size /= 2);
    return squared[0];
}

static size_t power_of_two(size_t n) {
    size_t size = 1;
    while (size < n) size *= 2;
    return size;
}

/* Squares of n integers behind the `inside` ones of their batch; the batch's sum once it is full, or the last; else 0. */
static double added(double *squared, const int64_t *v, size_t n, size_t inside, size_t batch, int last) {
    squares(v, n, squared + inside);
    return inside + n == batch || last ? folded(squared, inside + n, power_of_two(inside + n)) : 0.0;
}

/* round_up(out, values, single, limit, scale, most, key, stream, start, width, p, batch): (over, square)
 *
 * values are float32 if `single`, else float64. The draws are bytes from `start` on of the key's `stream`. `square`
 * is of the integers, added batch by batch; 0.0 where `batch` is 0. */
static PyObject *round_up(PyObject *self, PyObject *args) {
    Py_buffer out, values, key;
    int single;
    double limit, scale, square = 0.0, *squared = NULL;
    long long most;
    unsigned long long stream, start, p;
    Py_ssize_t width, batch;
    size_t over = 0;
    PyObject *result = NULL;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*pddLy*KKnKn", &out, &values, &single, &limit, &scale, &most, &key,
                          &stream, &start, &width, &p, &batch))
        return NULL;
    const size_t each = single ? sizeof(float) : sizeof(double);
    if (!field_of(&f, width, p)) goto done;
    const size_t n = (size_t)(out.len / width);
    if (out.len % width || (size_t)values.len != n * each || key.len != KEY || start % BLOCK || batch < 0 ||
        batch % VALUES || most < 1) {
        PyErr_SetString(PyExc_ValueError, "out, values, key, start or batch do not fit");
        goto done;
    }
    if (batch && (squared = malloc(power_of_two((size_t)batch) * sizeof *squared)) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    Schedule s;
    double scaled[VALUES] __attribute__((aligned(64)));
    uint64_t drawn[VALUES] __attribute__((aligned(64)));
    int64_t integers[VALUES] __attribute__((aligned(64)));
    schedule(&s, key.buf);
    for (size_t done = 0; done < n;) {
        const size_t now = n - done < VALUES ? n - done : VALUES;
        const uint8_t *from = (const uint8_t *)values.buf + done * each;
        over += single ? scaled_single((const float *)from, now, scale, limit, (double)most, scaled)
                       : scaled_double((const double *)from, now, scale, limit, (double)most, scaled);
        keystream(&s, stream, (start + done * 8) / BLOCK, (now * 8 + BLOCK - 1) / BLOCK, (uint8_t *)drawn);
        drawn_up(scaled, drawn, now, integers);
        encode(&f, integers, now, most, (uint8_t *)out.buf + done * f.width);
        if (batch) square += added(squared, integers, now, done % (size_t)batch, (size_t)batch, done + now == n);
        done += now;
    }
    wipe(&s, sizeof s), wipe(scaled, sizeof scaled), wipe(drawn, sizeof drawn), wipe(integers, sizeof integers);
    if (batch) wipe(squared, power_of_two((size_t)batch) * sizeof *squared);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("nd", (Py_ssize_t)over, square);
done:
    free(squared);
    PyBuffer_Release(&out), PyBuffer_Release(&values), PyBuffer_Release(&key);
    return result;
}

/* decode(out, words, step, width, p): float64 of the centred integers, times `step`.
 *
 * The words may be the last bytes of `out`: those of a block are read before it is written, and it ends before the
 * words that are still to come. */
static PyObject *decode(PyObject *self, PyObject *args) {
    Py_buffer out, words;
    double step;
    Py_ssize_t width;
    unsigned long long p;
    PyObject *result = NULL;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*dnK", &out, &words, &step, &width, &p)) return NULL;
    if (field_of(&f, width, p)) {
        const size_t n = (size_t)(words.len / width);
        if (words.len % width || (size_t)out.len != n * sizeof(double))
            PyErr_SetString(PyExc_ValueError, "out and words are of unlike lengths");
        else {
            Py_BEGIN_ALLOW_THREADS
            int64_t integers[VALUES] __attribute__((aligned(64)));
            for (size_t done = 0; done < n; done += VALUES) {
                const size_t now = n - done < VALUES ? n - done : VALUES;
                centre(&f, (const uint8_t *)words.buf + done * f.width, now, integers);
                times(integers, now, step, (double *)out.buf + done);
            }
            wipe(integers, sizeof integers);
            Py_END_ALLOW_THREADS
            result = Py_NewRef(Py_None);
        }
    }
    PyBuffer_Release(&out), PyBuffer_Release(&words);
    return result;
}

/* extent(words, width, p, batch): the largest absolute value, and the sum of squares as round_up adds it. */
static PyObject *extent(PyObject *self, PyObject *args) {
    Py_buffer words;
    Py_ssize_t width, batch;
    unsigned long long p;
    uint64_t far = 0;
    double square = 0.0, *squared = NULL;
    PyObject *result = NULL;
    Field f;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*nKn", &words, &width, &p, &batch)) return NULL;
    if (!field_of(&f, width, p)) goto done;
    if (words.len % width || batch < 0 || batch % VALUES) {
        PyErr_SetString(PyExc_ValueError, "words or batch do not fit");
        goto done;
    }
    if (batch && (squared = malloc(power_of_two((size_t)batch) * sizeof *squared)) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    int64_t integers[VALUES] __attribute__((aligned(64)));
    const size_t n = (size_t)words.len / f.width;
    for (size_t done = 0; done < n;) {
        const size_t now = n - done < VALUES ? n - done : VALUES;
        centre(&f, (const uint8_t *)words.buf + done * f.width, now, integers);
        const uint64_t here = farthest(integers, now);
        far = here > far ? here : far;
        if (batch) square += added(squared, integers, now, done % (size_t)batch, (size_t)batch, done + now == n);
        done += now;
    }
    wipe(integers, sizeof integers);
    if (batch) wipe(squared, power_of_two((size_t)batch) * sizeof *squared);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("Kd", (unsigned long long)far, square);
done:
    free(squared);
    PyBuffer_Release(&words);
    return result;
}

/* How many of n values lie beyond +-limit; *finite is cleared where one is not finite: its difference to itself is not 0.
 */
#define SURVEYED(NAME, T)                                                                                       \
    VECTORS static size_t NAME(const T *values, size_t n, double limit, int *finite) {                         \
        int64_t over = 0, odd = 0;                                                                             \
        for (size_t i = 0; i < n; i++) {                                                                       \
            const T v = values[i];                                                                             \
            over += fabs((double)v) > limit;                                                                   \
            odd += v - v != 0;                                                                                 \
        }                                                                                                      \
        *finite = odd == 0;                                                                                    \
        return (size_t)over;                                                                                   \
    }

SURVEYED(surveyed_single, float)
SURVEYED(surveyed_double, double)

/* survey(values, single, limit): (all finite, how many beyond +-limit). float32 if `single`, else float64. */
static PyObject *survey(PyObject *self, PyObject *args) {
    Py_buffer values;
    int single, finite = 1;
    double limit;
    size_t over;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*pd", &values, &single, &limit)) return NULL;
    if ((size_t)values.len % (single ? sizeof(float) : sizeof(double))) {
        PyBuffer_Release(&values);
        PyErr_SetString(PyExc_ValueError, "values are cut");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    over = single ? surveyed_single(values.buf, (size_t)values.len / sizeof(float), limit, &finite)
                  : surveyed_double(values.buf, (size_t)values.len / sizeof(double), limit, &finite);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&values);
    return Py_BuildValue("Nn", PyBool_FromLong(finite), (Py_ssize_t)over);
}

/* ── the module ──────────────────────────────────────────────────────────────────────────────────────────────── */

static PyMethodDef methods[] = {
    {"combine", combine, METH_VARARGS, NULL},
    {"add_up", add_up, METH_VARARGS, NULL},
    {"below", below, METH_VARARGS, NULL},
    {"tag", tag, METH_VARARGS, NULL},
    {"round_up", round_up, METH_VARARGS, NULL},
    {"decode", decode, METH_VARARGS, NULL},
    {"extent", extent, METH_VARARGS, NULL},
    {"survey", survey, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("aes") || !__builtin_cpu_supports("sse4.1")) {
        PyErr_SetString(PyExc_ImportError, "this processor has no AES instructions");
        return NULL;
    }
    have_vaes = __builtin_cpu_supports("vaes") && __builtin_cpu_supports("avx512f") &&
                __builtin_cpu_supports("avx512bw");
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddStringConstant(made, "INSTRUCTIONS", have_vaes ? "VAES" : "AES-NI") ||
                 PyModule_AddIntConstant(made, "VERSION", 2))) /* loops.py */
        Py_CLEAR(made);
    return made;
}

#else

PyMODINIT_FUNC PyInit__kernel(void) {
    PyErr_SetString(PyExc_ImportError, "written for x86-64 alone");
    return NULL;
}

#endif
