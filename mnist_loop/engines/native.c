/* The lesson's MLP and SGD: the training steps of several batches in one call.

Let x be the images of a batch (n, pixels), and W1 (hidden, pixels) and W2 (classes, hidden) the weights. A step is

    h   = relu(x W1' + b1)         dz2 = softmax(h W2' + b2) - onehot(labels)     (n times the gradient of the mean loss)
    dz1 = dz2 W2 where h > 0       W -= lr / n * (dz' input)                      b -= lr / n * (sum of dz over images)

The threads share out the work in one of two ways.

- Small batches, by column: each thread owns some columns of the hidden layer, with all weights into and out of them, so
  no weight moves between cores. The threads share only the images of a batch, before the forward pass, and the
  n x classes scores, between the forward and the backward pass. An update is added to the weights at once.
- Large batches, by image: each thread takes a share of the images and works on a group of them at a time, which stays
  in its caches from the reading to the backward pass. It adds the updates up on its own. At the end of the batch each
  thread adds all updates to some of the weights.

All products except that of the scores have hidden columns as their last dimension. Vectors run along this dimension,
and a tile of a product is summed in registers. The columns are in blocks as wide as a tile, padded with zeros: a padded
column has zero weights and bias, and stays zero. Hidden values and the first layer's weights are stored block by block,
(blocks, n or pixels, WIDTH), so that a tile reads consecutive memory. The second layer's weights are stored row by row.
*/

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

/* The bytes of a vector register, and the rows of a tile: two vectors a row, and some of the 32 or 16 registers are left
   for the factors. */
#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8 };
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 6 };
#else
enum { BYTES = 16, ROWS = 4 };
#endif
enum { LANES = BYTES / sizeof(real), VECTORS = 2, WIDTH = VECTORS * LANES, PATIENCE = 1000, AHEAD = 4 };
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
    long threads;                  /* by column, at most the number of blocks */
    long group;                    /* by image: the most images that a thread works on at a time; by column: 0 */
    double *losses;                /* mean loss of each batch */
};

/* Memory for some images. */
struct room {
    real *x, *h, *dz1, *dz2, *scores; /* scores (parts, n, classes): each thread's part, by column */
};

/* What else the threads share. */
struct team {
    const struct job *job;
    long room;            /* images for which there is room */
    struct room *rooms;   /* by column one, with twice the images; by image one for each thread */
    real *updates;        /* by image, of each thread: w1, b1, w2 and b2 */
    double *sums;         /* (threads, batches): sums of the losses of a thread's images */
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
                    struct matrix b, long depth, struct matrix other, real scale) {
    for (long block = 0; block < columns / WIDTH; block++) {
        real *at = to.at + block * to.block;
        const real *factor = b.at + block * b.block, *beside = other.at + block * other.block;
        long i = 0;
#define TILES(count) \
    for (; i + count <= rows; i += count) \
        tile(what, count, at + i * to.row, to.row, a + i * down, down, along, factor, b.row, depth, \
             beside + i * other.row, scale);
        TILES(ROWS)
        TILES(4) /* the rest of less than ROWS: each tile once at most */
        TILES(2)
        TILES(1)
    }
}

static real sum(vec values) {
    real total = 0;
    for (int i = 0; i < LANES; i++) total += values[i];
    return total;
}

/* Some weights, or updates of them. By column, the matrices begin with the thread's first column. */
struct weights {
    struct matrix w1, w2;
    real *b1, *b2;
};

/* What a thread has to do with some images, in memory of its own or of all. */
struct share {
    long columns, n, from, to; /* it reads and scores the images from `from` to `to` - 1, of n */
    long part, parts;          /* it computes one of so many parts of the scores */
    const int64_t *order, *labels;
    const real *x;
    real *dz2, *scores;
    struct matrix h, dz1;
    struct weights of, update;
    real scale; /* of an update: -lr / batch */
};

/* The phases of a step are separate functions, so that a profiler shows their names. */
#define PHASE static __attribute__((noinline))

/* Divide a byte by 127.5, rounded as a division is: a product, and what it is wrong by. Of all bytes a test shows it. */
INLINE float divided(float byte) {
#ifdef __FMA__
    float about = byte * (1 / 127.5f);
    return __builtin_fmaf(__builtin_fmaf(-about, 127.5f, byte), 1 / 127.5f, about);
#else
    return byte / 127.5f;
#endif
}

/* Normalise images, bitwise as `mnist_loop.data.normalise` does. */
PHASE void read_images(const struct job *job, const int64_t *order, real *x, long from, long to) {
    for (long i = from; i < to; i++) {
        const uint8_t *bytes = job->bytes + order[i] * job->pixels;
        if (i + AHEAD < to)
            for (long p = 0; p < job->pixels; p += 64) __builtin_prefetch(job->bytes + order[i + AHEAD] * job->pixels + p);
        for (long p = 0; p < job->pixels; p++) x[i * job->pixels + p] = (real)(divided((float)bytes[p]) - 1);
    }
}

PHASE void first_layer(const struct job *job, const struct share *own) {
    struct matrix bias = {own->of.b1, 0, WIDTH};
    product(RELU, own->n, own->columns, own->h, own->x, job->pixels, 1, own->of.w1, job->pixels, bias, 0);
}

/* This thread's part of the scores: from its own hidden units. */
PHASE void second_layer(const struct job *job, const struct share *own) {
    real *scores = own->scores + own->part * own->n * job->classes;
    for (long i = 0; i < own->n; i++)
        for (long c = 0; c < job->classes; c++) {
            vec total = {0};
            for (long j = 0; j < own->columns / WIDTH; j++)
                for (long v = 0; v < VECTORS; v++)
                    total += ((vec *)(own->h.at + j * own->h.block + i * WIDTH))[v] *
                             ((vec *)(own->of.w2.at + c * own->of.w2.row + j * WIDTH))[v];
            scores[i * job->classes + c] = sum(total);
        }
}

/* Add all parts of the scores, and compute dz2 from them; return the sum of the losses. */
PHASE double softmax(const struct job *job, const struct share *own) {
    long classes = job->classes;
    double losses = 0;
    for (long i = own->from; i < own->to; i++) {
        real *z = own->dz2 + i * classes, most = -INFINITY, total = 0;
        for (long c = 0; c < classes; c++) {
            z[c] = own->of.b2[c];
            for (long t = 0; t < own->parts; t++) z[c] += own->scores[(t * own->n + i) * classes + c];
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

PHASE void second_layer_back(const struct job *job, const struct share *own) {
    long n = own->n, classes = job->classes;
    const real *dz2 = own->dz2;
    product(MASK, n, own->columns, own->dz1, dz2, classes, 1, own->of.w2, classes, own->h, 0);
    product(ADD, classes, own->columns, own->update.w2, dz2, 1, classes, own->h, n, own->h, own->scale);
    for (long c = own->part; c < classes; c += own->parts) { /* others read it only after the next barrier */
        real total = 0;
        for (long i = 0; i < n; i++) total += dz2[i * classes + c];
        own->update.b2[c] += own->scale * total;
    }
}

PHASE void first_layer_back(const struct job *job, const struct share *own) {
    long n = own->n;
    product(ADD, job->pixels, own->columns, own->update.w1, own->x, 1, job->pixels, own->dz1, n, own->dz1, own->scale);
    for (long j = 0; j < own->columns; j += LANES) {
        vec total = {0};
        const real *dz1 = own->dz1.at + j / WIDTH * own->dz1.block + j % WIDTH;
        for (long i = 0; i < n; i++) total += *(vec *)(dz1 + i * WIDTH);
        *(vec *)(own->update.b1 + j) += own->scale * total;
    }
}

/* The weights, or updates of them that lie one after another at `at`. */
static struct weights all_weights(const struct job *job, real *at) {
    long w1 = job->hidden * job->pixels, w2 = job->hidden * job->classes;
    real *b1 = at ? at + w1 : job->b1, *second = at ? b1 + job->hidden : job->w2;
    return (struct weights){{at ? at : job->w1, WIDTH, WIDTH * job->pixels}, {second, job->hidden, WIDTH}, b1,
                            at ? second + w2 : job->b2};
}

static long room_for_updates(const struct job *job) {
    long values = job->hidden * (job->pixels + 1 + job->classes) + job->classes;
    return (values + LANES - 1) / LANES * LANES;
}

static long images_of(const struct job *job, long batch) {
    long rest = job->count - batch * job->batch;
    return rest < job->batch ? rest : job->batch;
}

/* Train one batch after another with all threads on each, by column. */
static void train_by_column(struct team *team, long me, long batches) {
    const struct job *job = team->job;
    const struct room *room = team->rooms;
    long blocks = job->hidden / WIDTH, first = blocks * me / job->threads, n = images_of(job, 0);
    struct share own = {
        .columns = (blocks * (me + 1) / job->threads - first) * WIDTH,
        .part = me,
        .parts = job->threads,
        .dz2 = room->dz2,
        .scores = room->scores,
        .h = {room->h + first * team->room * WIDTH, WIDTH, team->room * WIDTH},
        .dz1 = {room->dz1 + first * team->room * WIDTH, WIDTH, team->room * WIDTH},
        .of = all_weights(job, 0),
    };
    own.of.w1.at += first * own.of.w1.block, own.of.b1 += first * WIDTH, own.of.w2.at += first * WIDTH;
    own.update = own.of;
    if (job->bytes) read_images(job, job->order, room->x, n * me / job->threads, n * (me + 1) / job->threads);
    meet(team);
    for (long batch = 0; batch < batches; batch++) {
        long begin = batch * job->batch, next = begin + job->batch;
        n = images_of(job, batch);
        own.n = n, own.from = n * me / job->threads, own.to = n * (me + 1) / job->threads, own.scale = -job->lr / n;
        own.order = job->order ? job->order + begin : 0;
        own.labels = job->order ? job->labels : job->labels + begin;
        own.x = job->bytes ? room->x + batch % 2 * team->room * job->pixels : job->floats + begin * job->pixels;

        first_layer(job, &own);
        second_layer(job, &own);
        meet(team);
        team->sums[me * batches + batch] = softmax(job, &own);
        if (job->bytes && batch + 1 < batches) { /* no thread is in the last batch, so its images are not needed */
            n = images_of(job, batch + 1);
            read_images(job, job->order + next, room->x + (batch + 1) % 2 * team->room * job->pixels,
                        n * me / job->threads, n * (me + 1) / job->threads);
        }
        meet(team);
        second_layer_back(job, &own);
        first_layer_back(job, &own);
    }
}

/* Add a part of all threads' updates to the weights. */
PHASE void apply(const struct team *team, long me) {
    const struct job *job = team->job;
    real *const to[] = {job->w1, job->b1, job->w2, job->b2};
    const long sizes[] = {job->hidden * job->pixels, job->hidden, job->hidden * job->classes, job->classes};
    const real *update = team->updates;
    for (int k = 0; k < 4; update += sizes[k], k++)
        for (long t = 0; t < job->threads; t++)
            for (long i = sizes[k] * me / job->threads; i < sizes[k] * (me + 1) / job->threads; i++)
                to[k][i] += update[t * room_for_updates(job) + i];
}

/* Train one batch after another with a share of its images for each thread. */
static void train_by_image(struct team *team, long me, long batches) {
    const struct job *job = team->job;
    const struct room *room = team->rooms + me;
    real *updates = team->updates + me * room_for_updates(job);
    struct share own = {
        .columns = job->hidden,
        .parts = 1,
        .dz2 = room->dz2,
        .scores = room->scores,
        .h = {room->h, WIDTH, team->room * WIDTH},
        .dz1 = {room->dz1, WIDTH, team->room * WIDTH},
        .of = all_weights(job, 0),
        .update = all_weights(job, updates),
    };
    for (long batch = 0; batch < batches; batch++) {
        long n = images_of(job, batch), begin = batch * job->batch;
        long first = begin + n * me / job->threads, end = begin + n * (me + 1) / job->threads;
        double losses = 0;
        own.scale = -job->lr / n;
        memset(updates, 0, room_for_updates(job) * sizeof(real));
        for (; first < end; first += own.n) {
            own.n = own.to = end - first < job->group ? end - first : job->group;
            own.order = job->order ? job->order + first : 0;
            own.labels = job->order ? job->labels : job->labels + first;
            own.x = job->bytes ? room->x : job->floats + first * job->pixels;
            if (job->bytes) read_images(job, own.order, room->x, 0, own.n);
            first_layer(job, &own);
            second_layer(job, &own);
            losses += softmax(job, &own);
            second_layer_back(job, &own);
            first_layer_back(job, &own);
        }
        team->sums[me * batches + batch] = losses;
        meet(team);
        apply(team, me);
        meet(team);
    }
}

static void *train_share(void *given) {
    const struct member *member = given;
    struct team *team = member->team;
    long batches = (team->job->count + team->job->batch - 1) / team->job->batch;
    while (!atomic_load(&team->begun)) sched_yield();
    if (atomic_load(&team->begun) < 0) return 0;
    (team->job->group ? train_by_image : train_by_column)(team, member->index, batches);
    return 0;
}

static void *space(size_t values, size_t size) {
    return aligned_alloc(BYTES, (values * size + BYTES - 1) / BYTES * BYTES);
}

long width(void) { return WIDTH; }

/* Train and return 0; or return -1, with nothing changed, if there is no memory or no thread. */
int train(const struct job *job) {
    long batches = (job->count + job->batch - 1) / job->batch, threads = job->threads, there = 1;
    long rooms = job->group ? threads : 1, n = job->group ? job->group : job->batch;
    struct team team = {.job = job, .room = n};
    struct room *all = team.rooms = calloc(rooms, sizeof *all);
    real *updates = team.updates = space(job->group ? threads * room_for_updates(job) : 1, sizeof(real));
    double *sums = team.sums = space(threads * batches, sizeof(double));
    struct member *members = calloc(threads, sizeof *members);
    pthread_t *others = calloc(threads, sizeof *others);
    int failed = !(all && updates && sums && members && others);
    for (long r = 0; r < rooms && !failed; r++) {
        all[r].x = space(job->bytes ? (job->group ? n : 2 * n) * job->pixels : 1, sizeof(real));
        all[r].h = space(n * job->hidden, sizeof(real));
        all[r].dz1 = space(n * job->hidden, sizeof(real));
        all[r].dz2 = space(n * job->classes, sizeof(real));
        all[r].scores = space((job->group ? 1 : threads) * n * job->classes, sizeof(real));
        failed = !(all[r].x && all[r].h && all[r].dz1 && all[r].dz2 && all[r].scores);
    }
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
        job->losses[b] = total / images_of(job, b);
    }
    for (long r = 0; r < rooms && all; r++)
        free(all[r].x), free(all[r].h), free(all[r].dz1), free(all[r].dz2), free(all[r].scores);
    free(all), free(updates), free(sums), free(members), free(others);
    return failed ? -1 : 0;
}
