/* The lesson's MLP and its step of SGD, for some batches in one call.

With x the images of a batch (n, pixels), W1 (hidden, pixels) and W2 (classes, hidden) the weights, a step is

    h   = relu(x W1' + b1)         dz2 = softmax(h W2' + b2) - onehot(labels)     (n times the gradient of the mean loss)
    dz1 = dz2 W2 where h > 0       W -= lr / n * (dz' input)                      b -= lr / n * (sum of dz over images)

Each thread owns some columns of the hidden layer, with all weights that lead to them and away from them. So no weight
moves from one core to another; what the threads share is a batch of images, before, and the n x classes scores, between
the forward and the backward pass. All products but that of the scores have the owned columns as their last dimension,
which is what a vector goes along, and a tile of them is summed in registers.

The first layer's weights come transposed, (pixels, hidden), and rows of hidden values are padded with zeros to whole
vectors: a padded column has weights and bias zero, is zero, and stays so. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#ifndef real
#define real float
#endif

/* As wide as a register, and as many rows of two vectors as leave some of the registers (32, or 16) for the factors. */
#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8 };
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 4 };
#else
enum { BYTES = 16, ROWS = 4 };
#endif
enum { LANES = BYTES / sizeof(real), VECTORS = 2, PATIENCE = 20000 };
typedef real vec __attribute__((vector_size(BYTES), may_alias));

typedef __typeof__((vec){0} <= (vec){0}) mask;

#define INLINE static inline __attribute__((always_inline))

/* What is trained, on what. */
struct job {
    const uint8_t *bytes;          /* images as they lie in the file, of which `order` names some; or none */
    const real *floats;            /* otherwise: images as the model takes them, one after the other */
    const int64_t *order, *labels; /* of `bytes`: which images, and the labels of all; of `floats`: none, and theirs */
    long count, batch;             /* images in all, and in a batch; the last one may be smaller */
    long pixels, hidden, classes;  /* `hidden` is a multiple of LANES */
    real *w1, *b1, *w2, *b2;       /* (pixels, hidden), (hidden), (classes, hidden), (classes) */
    real lr;
    long threads;
    double *losses;                /* of each batch, the mean */
};

/* What the threads share besides. */
struct team {
    const struct job *job;
    real *x, *h, *dz1, *dz2, *scores; /* of a batch, x of two; scores: (threads, n, classes), each thread's part of the sums */
    double *sums;                     /* (threads, batches): of the losses of a thread's images */
    atomic_long waiting, round;
    atomic_int begun; /* 1: all threads are there; -1: they are not, and nothing is to be done */
};

struct member {
    struct team *team;
    long index;
};

/* Wait until all threads have come here. */
static void meet(struct team *team) {
    long round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->waiting, 1) + 1 == team->job->threads) {
        atomic_store(&team->waiting, 0);
        atomic_store(&team->round, round + 1);
        return;
    }
    for (long spins = 0; atomic_load(&team->round) == round; spins++)
        if (spins > PATIENCE) sched_yield();
}

/* `values` where `of` is above 0 or not a number, and 0 elsewhere. */
INLINE vec where_positive(vec of, vec values) { return (vec)(~(of <= (vec){0}) & (mask)values); }

/* sums[i][j] = sum over k of a[i * down + k * along] * b[k * stride + j], for a tile of rows and vectors. */
INLINE void multiply(vec sums[ROWS][VECTORS], int rows, int vectors, const real *a, long down, long along, const real *b,
                     long stride, long depth) {
    vec tile[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) tile[i][j] = (vec){0};
    for (long k = 0; k < depth; k++) {
        vec factor[VECTORS];
        for (int j = 0; j < vectors; j++) factor[j] = *(const vec *)(b + k * stride + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) tile[i][j] += a[i * down + k * along] * factor[j];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = tile[i][j];
}

enum what { RELU, MASK, ADD };

/* One tile of a product, and what becomes of it: to = relu(sums + other), to = sums where other > 0, to += scale * sums.
   `other` has one row for RELU, and a row for each of `to` for MASK. */
INLINE void tile(enum what what, int rows, int vectors, real *to, const real *a, long down, long along, const real *b,
                 long stride, long depth, const real *other, real scale) {
    vec sums[ROWS][VECTORS];
    multiply(sums, rows, vectors, a, down, along, b, stride, depth);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            vec *at = (vec *)(to + i * stride) + j;
            if (what == RELU) {
                vec z = sums[i][j] + ((const vec *)other)[j];
                *at = where_positive(z, z);
            } else if (what == MASK) {
                *at = where_positive(((const vec *)(other + i * stride))[j], sums[i][j]);
            } else {
                *at += scale * sums[i][j];
            }
        }
}

/* All tiles of `columns` values a row, `stride` apart; b and `to` begin at the first of them, and so does `other`. */
INLINE void product(enum what what, long rows, long columns, real *to, const real *a, long down, long along,
                    const real *b, long stride, long depth, const real *other, real scale) {
    long step = VECTORS * LANES, row_step = what == MASK ? stride : 0;
    for (long j = 0; j < columns; j += step) {
        long i = 0;
#define TILE(rows, vectors)                                                                                           \
    tile(what, rows, vectors, to + i * stride + j, a + i * down, down, along, b + j, stride, depth,                   \
         other + i * row_step + j, scale)
        if (columns - j >= step) {
            for (; i + ROWS <= rows; i += ROWS) TILE(ROWS, VECTORS);
            for (; i < rows; i++) TILE(1, VECTORS);
        } else {
            for (; i + ROWS <= rows; i += ROWS) TILE(ROWS, 1);
            for (; i < rows; i++) TILE(1, 1);
        }
#undef TILE
    }
}

static real sum(vec values) {
    real total = 0;
    for (int i = 0; i < LANES; i++) total += values[i];
    return total;
}

/* The part of the scores of n images that `columns` hidden values make. */
static void add_scores(real *scores, long n, long classes, const real *h, const real *w2, long stride, long columns) {
    for (long i = 0; i < n; i++)
        for (long c = 0; c < classes; c++) {
            vec total = {0};
            for (long j = 0; j < columns; j += LANES)
                total += *(const vec *)(h + i * stride + j) * *(const vec *)(w2 + c * stride + j);
            scores[i * classes + c] = sum(total);
        }
}

/* The scores of images `from` to `to`, of n in all, into dz2; return the sum of their losses. */
static double softmax(const struct team *team, const int64_t *labels, const int64_t *order, long from, long to, long n) {
    const struct job *job = team->job;
    long classes = job->classes;
    double losses = 0;
    for (long i = from; i < to; i++) {
        real *z = team->dz2 + i * classes, most = -INFINITY, total = 0;
        for (long c = 0; c < classes; c++) {
            z[c] = job->b2[c];
            for (long t = 0; t < job->threads; t++) z[c] += team->scores[(t * n + i) * classes + c];
            if (z[c] > most) most = z[c];
        }
        int64_t label = labels[order ? order[i] : i];
        real right = z[label];
        for (long c = 0; c < classes; c++) total += z[c] = exp(z[c] - most);
        for (long c = 0; c < classes; c++) z[c] = z[c] / total - (c == label);
        losses += log(total) - (right - most);
    }
    return losses;
}

/* What `mnist_loop.data.normalise` does, to the bit. */
static void normalise(real *to, const uint8_t *bytes, long pixels) {
    for (long i = 0; i < pixels; i++) to[i] = (real)((float)bytes[i] / 127.5f - 1);
}

static void *train_share(void *given) {
    const struct member *member = given;
    struct team *team = member->team;
    const struct job *job = team->job;
    while (!atomic_load(&team->begun)) sched_yield();
    if (atomic_load(&team->begun) < 0) return 0;
    long me = member->index, threads = job->threads, pixels = job->pixels, hidden = job->hidden, classes = job->classes;
    long vectors = hidden / LANES, first = vectors * me / threads * LANES;
    long columns = vectors * (me + 1) / threads * LANES - first, batches = (job->count + job->batch - 1) / job->batch;
    for (long batch = 0; batch < batches; batch++) {
        long begin = batch * job->batch, n = job->count - begin < job->batch ? job->count - begin : job->batch;
        long from = n * me / threads, to = n * (me + 1) / threads;
        const int64_t *order = job->order ? job->order + begin : 0, *labels = job->order ? job->labels : job->labels + begin;
        real *room = team->x + batch % 2 * job->batch * pixels; /* a slower thread may still need the other half */
        const real *x = job->bytes ? room : job->floats + begin * pixels;
        real *h = team->h + first, *dz1 = team->dz1 + first, *w1 = job->w1 + first, *w2 = job->w2 + first;
        real scale = -job->lr / n;

        if (job->bytes)
            for (long i = from; i < to; i++)
                normalise(room + i * pixels, job->bytes + (order ? order[i] : begin + i) * pixels, pixels);
        meet(team);
        product(RELU, n, columns, h, x, pixels, 1, w1, hidden, pixels, job->b1 + first, 0);
        add_scores(team->scores + me * n * classes, n, classes, h, w2, hidden, columns);
        meet(team);
        team->sums[me * batches + batch] = softmax(team, labels, order, from, to, n);
        meet(team);
        product(MASK, n, columns, dz1, team->dz2, classes, 1, w2, hidden, classes, h, 0);
        product(ADD, classes, columns, w2, team->dz2, 1, classes, h, hidden, n, h, scale);
        product(ADD, pixels, columns, w1, x, 1, pixels, dz1, hidden, n, dz1, scale);
        for (long j = 0; j < columns; j += LANES) {
            vec total = {0};
            for (long i = 0; i < n; i++) total += *(const vec *)(dz1 + i * hidden + j);
            *(vec *)(job->b1 + first + j) += scale * total;
        }
        for (long c = me; c < classes; c += threads) { /* the scores of the next batch are after the next meeting */
            real total = 0;
            for (long i = 0; i < n; i++) total += team->dz2[i * classes + c];
            job->b2[c] += scale * total;
        }
    }
    return 0;
}

static void *space(size_t values, size_t size) {
    return aligned_alloc(BYTES, (values * size + BYTES - 1) / BYTES * BYTES);
}

long lanes(void) { return LANES; }

/* Train; return 0, or -1 where there is no memory for it or no thread, and then nothing has changed. */
int train(const struct job *job) {
    long batches = (job->count + job->batch - 1) / job->batch, threads = job->threads, n = job->batch, there = 1;
    struct team team = {.job = job};
    real *x = team.x = space(job->bytes ? 2 * n * job->pixels : 1, sizeof(real));
    real *h = team.h = space(n * job->hidden, sizeof(real));
    real *dz1 = team.dz1 = space(n * job->hidden, sizeof(real));
    real *dz2 = team.dz2 = space(n * job->classes, sizeof(real));
    real *scores = team.scores = space(threads * n * job->classes, sizeof(real));
    double *sums = team.sums = space(threads * batches, sizeof(double));
    struct member *members = calloc(threads, sizeof *members);
    pthread_t *others = calloc(threads, sizeof *others);
    int failed = !(x && h && dz1 && dz2 && scores && sums && members && others);
    for (long t = 0; t < threads && !failed; t++) members[t] = (struct member){&team, t};
    while (there < threads && !failed) {
        failed = pthread_create(&others[there], 0, train_share, &members[there]);
        if (!failed) there++;
    }
    atomic_store(&team.begun, failed ? -1 : 1);
    if (!failed) train_share(&members[0]);
    while (--there > 0) pthread_join(others[there], 0);
    for (long b = 0; b < batches && !failed; b++) {
        double total = 0;
        for (long t = 0; t < threads; t++) total += sums[t * batches + b];
        job->losses[b] = total / (b + 1 < batches ? n : job->count - b * n);
    }
    free(x), free(h), free(dz1), free(dz2), free(scores), free(sums), free(members), free(others);
    return failed ? -1 : 0;
}
