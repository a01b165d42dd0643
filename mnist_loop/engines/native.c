/* The lesson's MLP and SGD: the training steps of several batches in one call.

Let x be the images of a batch (n, pixels), and W1 (hidden, pixels) and W2 (classes, hidden) the weights. A step is

    h   = relu(x W1' + b1)         dz2 = softmax(h W2' + b2) - onehot(labels)     (n times the gradient of the mean loss)
    dz1 = dz2 W2 where h > 0       W -= lr / n * (dz' input)                      b -= lr / n * (sum of dz over images)

Each thread owns some columns of the hidden layer, with all weights into and out of them, so no weight moves between
cores. The threads share only the images of a batch, before the forward pass, and the n x classes scores, between the
forward and the backward pass. All products except that of the scores have the owned columns as their last dimension.
Vectors run along this dimension, and a tile of a product is summed in registers.

The columns are in blocks as wide as a tile, padded with zeros: a padded column has zero weights and bias, and stays
zero. The first layer's weights are stored block by block, (blocks, pixels, WIDTH), so that a tile reads consecutive
memory. All other arrays with hidden columns are stored row by row. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <tgmath.h>

#ifndef real
#define real float
#endif

/* The bytes of a vector register, and the rows of a tile: two vectors a row, and some of the 32 or 16 registers are left
   for the factors. */
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

/* One call: the data and the model. */
struct job {
    const uint8_t *bytes;          /* all images, a byte a pixel, of which `order` gives the positions; or NULL */
    const real *floats;            /* if `bytes` is NULL: the images of this call, as the model takes them */
    const int64_t *order, *labels; /* with `floats`, `order` is NULL; labels of all `bytes` or `floats` */
    long count, batch;             /* images in this call, and in a batch; the last batch may be smaller */
    long pixels, hidden, classes;  /* `hidden` is a multiple of WIDTH */
    real *w1, *b1, *w2, *b2;       /* (hidden / WIDTH, pixels, WIDTH), (hidden), (classes, hidden), (classes) */
    real lr;
    long threads;                  /* at most the number of blocks */
    double *losses;                /* mean loss of each batch */
};

/* What else the threads share. */
struct team {
    const struct job *job;
    real *x, *h, *dz1, *dz2, *scores; /* of one batch, x of two; scores (threads, n, classes): each thread's part */
    double *sums;                     /* (threads, batches): sums of the losses of a thread's images */
    atomic_long waiting, round;
    atomic_int begun; /* 1: all threads have started; -1: some could not, and all return */
};

struct member {
    struct team *team;
    long index;
};

/* Wait until all threads are here. */
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

/* `values` where `of` is positive or NaN, else 0. */
INLINE vec where_positive(vec of, vec values) { return (vec)(~(of <= (vec){0}) & (mask)values); }

/* sums[i] = sum over k of a[i * down + k * along] * b[k * stride], where b has rows of WIDTH values. */
INLINE void multiply(vec sums[ROWS][VECTORS], int rows, const real *a, long down, long along, const real *b, long stride,
                     long depth) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < depth; k++) {
        const vec *factor = (const vec *)(b + k * stride);
#pragma GCC unroll 8 /* the largest ROWS; with 16 clang's code takes 2.4 times as long */
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < VECTORS; j++) sums[i][j] += a[i * down + k * along] * factor[j];
    }
}

enum what { RELU, MASK, ADD };

/* A matrix stored row by row, or block by block. */
struct matrix {
    real *at;          /* first row of the first block */
    long row, block;   /* distance between rows, and between blocks */
};

/* Compute some rows of one block of a product and store them. RELU: to = relu(sums + other). MASK: to = sums where
   other > 0, else 0. Otherwise: to += scale * sums. `other` has one row for RELU, and as many rows as `to` for MASK. */
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

/* Compute a product of a (rows, depth) and b (depth, columns), tile by tile. */
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

/* One thread's view of one batch. Matrices with hidden columns begin with its own first one. */
struct share {
    long me, columns, batch, n, from, to; /* it reads and scores the images from `from` to `to` - 1, of n */
    const int64_t *order, *labels;
    const real *x;
    struct matrix h, dz1, w1, w2;
    real *b1;
};

/* The phases of a step are separate functions, so that a profiler shows their names. */
#define PHASE static __attribute__((noinline))

/* Normalise images, bitwise as `mnist_loop.data.normalise` does. */
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

/* This thread's part of the scores: from its own hidden units. */
PHASE void second_layer(const struct job *job, const struct share *own, real *scores) {
    for (long i = 0; i < own->n; i++)
        for (long c = 0; c < job->classes; c++) {
            vec total = {0};
            for (long j = 0; j < own->columns; j += LANES)
                total += *(vec *)(own->h.at + i * job->hidden + j) * *(vec *)(own->w2.at + c * job->hidden + j);
            scores[i * job->classes + c] = sum(total);
        }
}

/* Add all threads' scores, and compute dz2 from them; return the sum of the losses. */
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
    for (long c = own->me; c < classes; c += job->threads) { /* others read it only after the next barrier */
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
        /* Two buffers for images: a slower thread may still use the last batch. */
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

/* Train and return 0; or return -1, with nothing changed, if there is no memory or no thread. */
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
