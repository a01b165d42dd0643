/* The lesson's MLP and its step of SGD, for some batches in one call.

With x the images of a batch (n, pixels), W1 (hidden, pixels) and W2 (classes, hidden) the weights, a step is

    h   = relu(x W1' + b1)         dz2 = softmax(h W2' + b2) - onehot(labels)     (n times the gradient of the mean loss)
    dz1 = dz2 W2 where h > 0       W -= lr / n * (dz' input)                      b -= lr / n * (sum of dz over images)

Each thread owns some columns of the hidden layer, with all weights that lead to them and away from them. So no weight
moves from one core to another; what the threads share is a batch of images, before, and the n x classes scores, between
the forward and the backward pass. All products but that of the scores have the owned columns as their last dimension,
which is what a vector goes along, and a tile of them is summed in registers.

The columns come in blocks as wide as a tile, and padded with zeros to whole blocks: a padded column has weights and bias
zero, is zero, and stays so. The first layer's weights lie block by block, (blocks, pixels, WIDTH), so that a tile reads
them one after the other; all else with hidden columns lies row by row. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <tgmath.h>

#ifndef real
#define real float
#endif

/* As wide as a register, and as many rows of two vectors as leave some of the registers (32, or 16) for the factors. */
#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8 };
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 6 };
#else
enum { BYTES = 16, ROWS = 4 };
#endif
enum { LANES = BYTES / sizeof(real), VECTORS = 2, WIDTH = VECTORS * LANES, PATIENCE = 1000 };
typedef real vec __attribute__((vector_size(BYTES), may_alias));

typedef __typeof__((vec){0} <= (vec){0}) mask;

#define INLINE static inline __attribute__((always_inline))

/* What is trained, on what. */
struct job {
    const uint8_t *bytes;          /* images as they lie in the file, of which `order` names some; or neither */
    const real *floats;            /* otherwise: images as the model takes them, one after the other */
    const int64_t *order, *labels; /* of `bytes`: which images, and the labels of all; of `floats`: none, and theirs */
    long count, batch;             /* images in all, and in a batch; the last one may be smaller */
    long pixels, hidden, classes;  /* `hidden` is a multiple of WIDTH */
    real *w1, *b1, *w2, *b2;       /* (hidden / WIDTH, pixels, WIDTH), (hidden), (classes, hidden), (classes) */
    real lr;
    long threads;                  /* at most one a block */
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

/* sums[i] = sum over k of a[i * down + k * along] * b[k * stride], where b has WIDTH values at a time. */
INLINE void multiply(vec sums[ROWS][VECTORS], int rows, const real *a, long down, long along, const real *b, long stride,
                     long depth) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < depth; k++) {
        const vec *factor = (const vec *)(b + k * stride);
#pragma GCC unroll 8 /* the most rows there are; with 16 clang's code takes 2.4 times as long */
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < VECTORS; j++) sums[i][j] += a[i * down + k * along] * factor[j];
    }
}

enum what { RELU, MASK, ADD };

/* Rows of `columns` values, all of them or block by block. */
struct matrix {
    real *at;          /* the first block's first row */
    long row, block;   /* from a row to the next, and from a block to the next */
};

/* Some rows of one block of a product, and what becomes of it: to = relu(sums + other), to = sums where other > 0,
   to += scale * sums. `other` has one row for RELU, and a row for each of `to` for MASK. */
INLINE void tile(enum what what, int rows, real *to, long row, const real *a, long down, long along, const real *b,
                 long stride, long depth, const real *other, real scale) {
    vec sums[ROWS][VECTORS];
    multiply(sums, rows, a, down, along, b, stride, depth);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++) {
            vec *at = (vec *)(to + i * row) + j;
            if (what == RELU) {
                vec z = sums[i][j] + ((const vec *)other)[j];
                *at = where_positive(z, z);
            } else if (what == MASK) {
                *at = where_positive(((const vec *)(other + i * row))[j], sums[i][j]);
            } else {
                *at += scale * sums[i][j];
            }
        }
}

/* to (rows, columns) from a (rows, depth) and b (depth, columns), tile by tile. */
INLINE void product(enum what what, long rows, long columns, struct matrix to, const real *a, long down, long along,
                    struct matrix b, long depth, const real *other, real scale) {
    for (long block = 0; block < columns / WIDTH; block++) {
        real *at = to.at + block * to.block;
        const real *factor = b.at + block * b.block, *beside = other + block * WIDTH;
        long i = 0, down_other = what == MASK ? to.row : 0;
        for (; i + ROWS <= rows; i += ROWS)
            tile(what, ROWS, at + i * to.row, to.row, a + i * down, down, along, factor, b.row, depth,
                 beside + i * down_other, scale);
        for (; i < rows; i++)
            tile(what, 1, at + i * to.row, to.row, a + i * down, down, along, factor, b.row, depth,
                 beside + i * down_other, scale);
    }
}

static real sum(vec values) {
    real total = 0;
    for (int i = 0; i < LANES; i++) total += values[i];
    return total;
}

/* One thread's view of one batch. What has hidden columns begins with the first of its own. */
struct share {
    long me, columns, batch, n, from, to; /* of n images it reads and judges those from `from` to before `to` */
    const int64_t *order, *labels;
    const real *x;
    struct matrix h, dz1, w1, w2;
    real *b1;
};

/* The phases of a step are functions of their own, so that a profiler names them. */
#define PHASE static __attribute__((noinline))

/* Normalise images as `mnist_loop.data.normalise` does, to the bit. */
PHASE void read_images(const struct job *job, const struct share *own) {
    for (long i = own->from; i < own->to; i++) {
        const uint8_t *bytes = job->bytes + own->order[i] * job->pixels;
        real *to = (real *)own->x + i * job->pixels;
        for (long p = 0; p < job->pixels; p++) to[p] = (real)((float)bytes[p] / 127.5f - 1);
    }
}

PHASE void first_layer(const struct job *job, const struct share *own) {
    product(RELU, own->n, own->columns, own->h, own->x, job->pixels, 1, own->w1, job->pixels, own->b1, 0);
}

/* The part of the scores that the own hidden values make. */
PHASE void second_layer(const struct job *job, const struct share *own, real *scores) {
    for (long i = 0; i < own->n; i++)
        for (long c = 0; c < job->classes; c++) {
            vec total = {0};
            for (long j = 0; j < own->columns; j += LANES)
                total += *(vec *)(own->h.at + i * job->hidden + j) * *(vec *)(own->w2.at + c * job->hidden + j);
            scores[i * job->classes + c] = sum(total);
        }
}

/* From the sums of all threads' scores to dz2; return the sum of the losses. */
PHASE double softmax(const struct job *job, const struct share *own, const struct team *team) {
    long classes = job->classes;
    double losses = 0;
    for (long i = own->from; i < own->to; i++) {
        real *z = team->dz2 + i * classes, most = -INFINITY, total = 0;
        for (long c = 0; c < classes; c++) {
            z[c] = job->b2[c];
            for (long t = 0; t < job->threads; t++) z[c] += team->scores[(t * own->n + i) * classes + c];
            if (z[c] > most) most = z[c];
        }
        int64_t label = own->labels[own->order ? own->order[i] : i];
        real right = z[label];
        for (long c = 0; c < classes; c++) total += z[c] = exp(z[c] - most);
        for (long c = 0; c < classes; c++) z[c] = z[c] / total - (c == label);
        losses += log(total) - (right - most);
    }
    return losses;
}

PHASE void second_layer_back(const struct job *job, const struct share *own, const real *dz2) {
    long n = own->n, classes = job->classes;
    real scale = -job->lr / n;
    product(MASK, n, own->columns, own->dz1, dz2, classes, 1, own->w2, classes, own->h.at, 0);
    product(ADD, classes, own->columns, own->w2, dz2, 1, classes, own->h, n, own->h.at, scale);
    for (long c = own->me; c < classes; c += job->threads) { /* nobody reads it before the threads have met again */
        real total = 0;
        for (long i = 0; i < n; i++) total += dz2[i * classes + c];
        job->b2[c] += scale * total;
    }
}

PHASE void first_layer_back(const struct job *job, const struct share *own) {
    long n = own->n;
    real scale = -job->lr / n;
    product(ADD, job->pixels, own->columns, own->w1, own->x, 1, job->pixels, own->dz1, n, own->dz1.at, scale);
    for (long j = 0; j < own->columns; j += LANES) {
        vec total = {0};
        for (long i = 0; i < n; i++) total += *(vec *)(own->dz1.at + i * job->hidden + j);
        *(vec *)(own->b1 + j) += scale * total;
    }
}

static void *train_share(void *given) {
    const struct member *member = given;
    struct team *team = member->team;
    const struct job *job = team->job;
    while (!atomic_load(&team->begun)) sched_yield();
    if (atomic_load(&team->begun) < 0) return 0;
    long me = member->index, threads = job->threads, hidden = job->hidden, blocks = hidden / WIDTH;
    long first = blocks * me / threads, batches = (job->count + job->batch - 1) / job->batch;
    struct share own = {
        .me = me,
        .columns = (blocks * (me + 1) / threads - first) * WIDTH,
        .h = {team->h + first * WIDTH, hidden, WIDTH},
        .dz1 = {team->dz1 + first * WIDTH, hidden, WIDTH},
        .w1 = {job->w1 + first * WIDTH * job->pixels, WIDTH, WIDTH * job->pixels},
        .w2 = {job->w2 + first * WIDTH, hidden, WIDTH},
        .b1 = job->b1 + first * WIDTH,
    };
    for (own.batch = 0; own.batch < batches; own.batch++) {
        long begin = own.batch * job->batch, n = job->count - begin < job->batch ? job->count - begin : job->batch;
        own.n = n, own.from = n * me / threads, own.to = n * (me + 1) / threads;
        own.order = job->order ? job->order + begin : 0;
        own.labels = job->order ? job->labels : job->labels + begin;
        /* Of two places for a batch's images, for a slower thread may still need the last one's. */
        own.x = job->bytes ? team->x + own.batch % 2 * job->batch * job->pixels : job->floats + begin * job->pixels;

        if (job->bytes) read_images(job, &own);
        meet(team);
        first_layer(job, &own);
        second_layer(job, &own, team->scores + me * n * job->classes);
        meet(team);
        team->sums[me * batches + own.batch] = softmax(job, &own, team);
        meet(team);
        second_layer_back(job, &own, team->dz2);
        first_layer_back(job, &own);
    }
    return 0;
}

static void *space(size_t values, size_t size) {
    return aligned_alloc(BYTES, (values * size + BYTES - 1) / BYTES * BYTES);
}

long width(void) { return WIDTH; }

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
