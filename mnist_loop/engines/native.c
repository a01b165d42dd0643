/* Linear layers with ReLU between them, cross entropy and SGD: the training steps of several batches in one call.

A layer computes h = relu(a W' + b) of the n inputs a of a batch; the last one has no ReLU. With dz the gradient of
n times the mean loss by what enters the ReLU, a step is

    dz = softmax(scores) - onehot(labels)           of the last layer
    dz = (dz of the next layer) W where h > 0       of the others
    W -= lr / n * (dz' a)                           and b, with momentum and weight decay if they are asked for

The threads share out the work in one of two ways.

- Small batches, by column: each thread owns some columns of each hidden layer, with all weights into them, so these
  weights do not move between cores. The scores are shared out by image. An update is added to the weights at once.
- Large batches, by image: each thread takes a share of the images and works on a group of them at a time, which stays
  in its caches from the reading to the backward pass. It adds the updates up on its own. At the end of the batch each
  thread adds all updates to some of the weights.

All products have columns of a layer as their last dimension. Vectors run along this dimension, and a tile of a product
is summed in registers. The columns are in blocks as wide as a tile, padded with zeros: a padded column has zero weights,
and stays zero. Weights are stored block by block, (blocks, rows, WIDTH), so that a tile reads consecutive memory; the
first row is the bias, and before the values of an image stands a one, which it is multiplied by. The gradient of an
inner layer needs its weights with rows as columns: they are copied so once a batch.
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
    long layers;
    const long *widths, *biases;   /* (layers + 1): pixels, and outputs of each layer; (layers): 1, or 0 without bias */
    real *weights, *momenta;       /* of one layer after another: (blocks, rows, WIDTH); momenta are NULL without */
    real lr, momentum, decay, sign; /* sign: -1 to maximise, else 1 */
    long nesterov;
    long threads;
    long group;                    /* by image: the most images that a thread works on at a time; by column: 0 */
    double *losses;                /* mean loss of each batch */
};

/* A layer, and where its numbers are: in the weights, in the transposed weights and in a room. */
struct layer {
    long in, out, bias, rows, blocks; /* rows: in + bias; blocks of outputs */
    long weights, transposed, h, dz;  /* h and dz are the first image's; the last layer has only dz */
    long row;                         /* distance between images in h and dz */
};

/* What the threads share. A room is memory for some images: their pixels, and h and dz of each layer. */
struct team {
    const struct job *job;
    struct layer *layers;
    long pixels, row, images; /* in a room: the first image's pixels, the distance between images, for how many there is room */
    long size, total;         /* values of a room; all weights */
    real *rooms;              /* by column one, in which there are pixels of twice the images; by image one a thread */
    real *transposed;         /* weights of all layers but the first, as (blocks of inputs, out, WIDTH) */
    real *updates;            /* by image: (threads, total) */
    double *sums;             /* (threads, batches): sums of the losses of a thread's images */
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

/* Change weights by the gradient of the mean loss. */
INLINE void step(const struct job *job, vec *weights, vec *momenta, vec gradient) {
    gradient += job->decay * *weights;
    if (job->momenta) {
        *momenta = job->momentum * *momenta + gradient;
        if (job->nesterov) gradient += job->momentum * *momenta;
        else gradient = *momenta;
    }
    *weights -= job->lr * gradient;
}

/* sums[i] = sum over k of a[i * down + k * along] * b[k * stride], where b has rows of WIDTH values. */
INLINE void multiply(vec sums[ROWS][VECTORS], int rows, int vectors, const real *a, long down, long along, const real *b,
                     long stride, long depth) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < depth; k++) {
        const vec *factor = (const vec *)(b + k * stride);
#pragma GCC unroll 8 /* the largest ROWS; with 16 clang's code takes 2.4 times as long */
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) sums[i][j] += a[i * down + k * along] * factor[j];
    }
}

/* What becomes of the sums of a product: to = sums; to = relu(sums); to = sums where beside > 0, else 0;
   to += scale * sums; or scale * sums is the gradient by which the weights `to` change, with the momenta `beside`. */
enum what { STORE, RELU, MASK, ADD, STEP };

/* A matrix stored row by row, or block by block. */
struct matrix {
    real *at;        /* first row of the first block */
    long row, block; /* distance between rows, and between blocks */
};

/* Compute some rows of one block of a product, or of its first vector. */
INLINE void tile(const struct job *job, enum what what, int rows, int vectors, real *to, real *beside, long row, const real *a,
                 long down, long along, const real *b, long stride, long depth, real scale) {
    vec sums[ROWS][VECTORS];
    multiply(sums, rows, vectors, a, down, along, b, stride, depth);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            vec *at = (vec *)(to + i * row) + j, *other = (vec *)(beside + i * row) + j;
            if (what == STORE) *at = sums[i][j];
            if (what == RELU) *at = where_positive(sums[i][j], sums[i][j]);
            if (what == MASK) *at = where_positive(*other, sums[i][j]);
            if (what == ADD) *at += scale * sums[i][j];
            if (what == STEP) step(job, at, other, scale * sums[i][j]);
        }
}

/* Compute a product of a (rows, depth) and b (depth, columns), tile by tile; `beside` is laid out as `to`. */
INLINE void product(const struct job *job, enum what what, long rows, long columns, struct matrix to, real *beside,
                    const real *a, long down, long along, struct matrix b, long depth, real scale) {
    for (long block = 0; block * WIDTH < columns; block++) {
        real *at = to.at + block * to.block, *other = beside + block * to.block;
        const real *factor = b.at + block * b.block;
        long i = 0;
#define TILES(count, vectors)                                                                                           \
    for (; i + count <= rows; i += count)                                                                               \
        tile(job, what, count, vectors, at + i * to.row, other + i * to.row, to.row, a + i * down, down, along, factor, \
             b.row, depth, scale);
#define ALL_TILES(vectors) TILES(ROWS, vectors) TILES(4, vectors) TILES(2, vectors) TILES(1, vectors) /* 4 to 1: the rest */
        if (columns - block * WIDTH > LANES) {
            ALL_TILES(VECTORS)
        } else {
            ALL_TILES(1)
        }
    }
}

static long least(long one, long other) { return one < other ? one : other; }

/* What a thread has to do in a layer: some blocks of columns, and some rows of the weights. */
struct part {
    long from, to, top, end;
};

/* One of so many parts. In the last layer the rows are those of the columns that the thread owns in the layer before, so
   that it changes no h and no weights that another thread may still read. */
static struct part part_of(const struct team *team, long l, long index, long parts) {
    const struct layer *own = team->layers + l;
    if (l < team->job->layers - 1) return (struct part){own->blocks * index / parts, own->blocks * (index + 1) / parts, 0, own->rows};
    long blocks = (own->in + WIDTH - 1) / WIDTH, top = blocks * index / parts * WIDTH;
    long end = blocks * (index + 1) / parts * WIDTH;
    return (struct part){0, own->blocks, index ? own->bias + top : 0, own->bias + least(end, own->in)};
}

/* Some images in memory. */
struct group {
    real *room, *x; /* x: their pixels */
    long n;
};

static long columns_of(const struct layer *of, struct part part) {
    return least(part.to * WIDTH, of->out) - part.from * WIDTH;
}

struct inputs {
    real *at;
    long row;
};

static struct inputs inputs_of(const struct team *team, const struct group *group, long l) {
    const struct layer *before = team->layers + l - 1;
    return l ? (struct inputs){group->room + before->h, before->row} : (struct inputs){group->x, team->row};
}

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

/* Copy images, whose positions in the call are from `begin` on; normalise bytes bitwise as `mnist_loop.data.normalise`. */
PHASE void read_images(const struct team *team, long begin, real *x, long from, long to) {
    const struct job *job = team->job;
    long pixels = job->widths[0];
    for (long i = from; i < to; i++) {
        real *at = x + i * team->row;
        if (!job->bytes) {
            memcpy(at, job->floats + (begin + i) * pixels, pixels * sizeof(real));
            continue;
        }
        const uint8_t *bytes = job->bytes + job->order[begin + i] * pixels;
        if (i + AHEAD < to)
            for (long p = 0; p < pixels; p += 64)
                __builtin_prefetch(job->bytes + job->order[begin + i + AHEAD] * pixels + p);
        for (long p = 0; p < pixels; p++) at[p] = (real)(divided((float)bytes[p]) - 1);
    }
}

/* Outputs of a layer: of images from `from` to `to` - 1, in some blocks. */
PHASE void forward(const struct team *team, const struct group *group, long l, long from, long to, struct part part) {
    const struct layer *own = team->layers + l;
    const struct inputs inputs = inputs_of(team, group, l);
    const real *a = inputs.at + from * inputs.row - own->bias;
    struct matrix w = {team->job->weights + own->weights + part.from * own->rows * WIDTH, WIDTH, own->rows * WIDTH};
    struct matrix h = {group->room + own->h + from * own->row + part.from * WIDTH, own->row, WIDTH};
    if (l < team->job->layers - 1)
        product(team->job, RELU, to - from, columns_of(own, part), h, h.at, a, inputs.row, 1, w, own->rows, 0);
    else
        product(team->job, STORE, to - from, columns_of(own, part), h, h.at, a, inputs.row, 1, w, own->rows, 0);
}

/* Make dz of the scores of some images, whose positions in the call are from `begin` on; return the sum of the losses. */
PHASE double softmax(const struct team *team, const struct group *group, long begin, long from, long to) {
    const struct job *job = team->job;
    const struct layer *own = team->layers + job->layers - 1;
    double losses = 0;
    for (long i = from; i < to; i++) {
        real *z = group->room + own->dz + i * own->row, most = -INFINITY, total = 0;
        for (long c = 0; c < own->out; c++)
            if (z[c] > most) most = z[c];
        int64_t label = job->labels[job->order ? job->order[begin + i] : begin + i];
        real right = z[label];
        for (long c = 0; c < own->out; c++) total += z[c] = exp(z[c] - most);
        for (long c = 0; c < own->out; c++) z[c] = z[c] / total - (c == label);
        losses += log(total) - (right - most);
    }
    return losses;
}

/* Copy weights of a layer to where their rows are columns, a square of WIDTH rows and columns after another. */
PHASE void transpose(const struct team *team, long l, struct part part) {
    const struct layer *own = team->layers + l;
    long first = part.top ? part.top - own->bias : 0, end = part.end - own->bias; /* a multiple of WIDTH, or all */
    for (long block = part.from; block < part.to; block++)
        for (long top = first; top < end; top += WIDTH) {
            const real *w = team->job->weights + own->weights + (block * own->rows + own->bias + top) * WIDTH;
            real *to = team->transposed + own->transposed + (top * own->out + block * WIDTH * WIDTH);
            for (long o = 0; o < least(WIDTH, own->out - block * WIDTH); o++)
                for (long p = 0; p < least(WIDTH, end - top); p++) to[o * WIDTH + p] = w[p * WIDTH + o];
        }
}

/* dz of the layer before, in some of its blocks. */
PHASE void backward(const struct team *team, const struct group *group, long l, struct part of_before) {
    const struct layer *own = team->layers + l, *before = own - 1;
    struct matrix w = {team->transposed + own->transposed + of_before.from * own->out * WIDTH, WIDTH, own->out * WIDTH};
    struct matrix dz = {group->room + before->dz + of_before.from * WIDTH, before->row, WIDTH};
    product(team->job, MASK, group->n, columns_of(before, of_before), dz,
            group->room + before->h + of_before.from * WIDTH, group->room + own->dz, own->row, 1, w, own->out, 0);
}

/* Change some of the weights of a layer, or `updates` if they are given. */
PHASE void update(const struct team *team, const struct group *group, long l, struct part part, real *updates, real scale) {
    const struct job *job = team->job;
    const struct layer *own = team->layers + l;
    const struct inputs inputs = inputs_of(team, group, l);
    const real *a = inputs.at - own->bias + part.top;
    long at = own->weights + (part.from * own->rows + part.top) * WIDTH, rows = part.end - part.top, columns = columns_of(own, part);
    struct matrix dz = {group->room + own->dz + part.from * WIDTH, own->row, WIDTH};
    struct matrix to = {(updates ? updates : job->weights) + at, WIDTH, own->rows * WIDTH};
    if (updates)
        product(job, ADD, rows, columns, to, to.at, a, 1, inputs.row, dz, group->n, scale);
    else if (job->momenta || job->decay != 0)
        product(job, STEP, rows, columns, to, job->momenta ? job->momenta + at : to.at, a, 1, inputs.row, dz, group->n, scale);
    else
        product(job, ADD, rows, columns, to, to.at, a, 1, inputs.row, dz, group->n, -job->lr * scale);
}

static long images_of(const struct job *job, long batch) {
    long rest = job->count - batch * job->batch;
    return rest < job->batch ? rest : job->batch;
}

/* Train one batch after another with all threads on each, by column. */
static void train_by_column(struct team *team, long me, long batches) {
    const struct job *job = team->job;
    long threads = job->threads, last = job->layers - 1, n = images_of(job, 0);
    real *const x[] = {team->rooms + team->pixels, team->rooms + team->pixels + team->images * team->row};
    read_images(team, 0, x[0], n * me / threads, n * (me + 1) / threads);
    meet(team);
    for (long batch = 0; batch < batches; batch++) {
        long begin = batch * job->batch, from, to;
        n = images_of(job, batch), from = n * me / threads, to = n * (me + 1) / threads;
        const struct group group = {team->rooms, x[batch % 2], n};
        for (long l = 0; l < last; l++) {
            forward(team, &group, l, 0, n, part_of(team, l, me, threads));
            if (l) transpose(team, l, part_of(team, l, me, threads));
            meet(team);
        }
        if (last) transpose(team, last, part_of(team, last, me, threads));
        forward(team, &group, last, from, to, part_of(team, last, 0, 1));
        team->sums[me * batches + batch] = softmax(team, &group, begin, from, to);
        if (batch + 1 < batches) { /* no thread is in the last batch, so its images are not needed */
            long next = images_of(job, batch + 1);
            read_images(team, begin + job->batch, x[(batch + 1) % 2], next * me / threads, next * (me + 1) / threads);
        }
        meet(team);
        for (long l = last; l >= 0; l--) {
            if (l) backward(team, &group, l, part_of(team, l - 1, me, threads));
            update(team, &group, l, part_of(team, l, me, threads), 0, job->sign / n);
            if (l > 1) meet(team);
        }
        if (last != 1) meet(team); /* with one hidden layer, the next forward pass writes what only this thread reads */
    }
}

/* Change a part of the weights by all threads' updates. */
PHASE void apply(const struct team *team, long me) {
    const struct job *job = team->job;
    long vectors = team->total / LANES;
    vec *weights = (vec *)job->weights, *momenta = (vec *)job->momenta;
    const vec *updates = (const vec *)team->updates;
    for (long i = vectors * me / job->threads; i < vectors * (me + 1) / job->threads; i++) {
        vec gradient = updates[i];
        for (long t = 1; t < job->threads; t++) gradient += updates[t * vectors + i];
        step(job, weights + i, momenta + i, gradient);
    }
}

/* Train one batch after another with a share of its images for each thread. */
static void train_by_image(struct team *team, long me, long batches) {
    const struct job *job = team->job;
    real *updates = team->updates + me * team->total;
    struct group group = {.room = team->rooms + me * team->size};
    group.x = group.room + team->pixels;
    for (long batch = 0; batch < batches; batch++) {
        long n = images_of(job, batch), begin = batch * job->batch;
        long first = begin + n * me / job->threads, end = begin + n * (me + 1) / job->threads;
        double losses = 0;
        memset(updates, 0, team->total * sizeof(real));
        for (long l = 1; l < job->layers; l++) transpose(team, l, part_of(team, l, me, job->threads));
        meet(team);
        for (; first < end; first += group.n) {
            group.n = end - first < job->group ? end - first : job->group;
            read_images(team, first, group.x, 0, group.n);
            for (long l = 0; l < job->layers; l++) forward(team, &group, l, 0, group.n, part_of(team, l, 0, 1));
            losses += softmax(team, &group, first, 0, group.n);
            for (long l = job->layers - 1; l >= 0; l--) {
                if (l) backward(team, &group, l, part_of(team, l - 1, 0, 1));
                update(team, &group, l, part_of(team, l, 0, 1), updates, job->sign / n);
            }
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

/* Distance between rows of so many values, with room for a one before them. */
static long row_for(long values) { return LANES + (values + LANES - 1) / LANES * LANES; }

/* Lay out the weights and a room; return the size of the transposed weights. */
static long lay_out(struct team *team) {
    const struct job *job = team->job;
    long transposed = 0, copies = job->group ? 1 : 2;
    team->images = job->group ? job->group : job->batch;
    team->row = row_for(job->widths[0]), team->pixels = LANES, team->size = copies * team->images * team->row;
    for (long l = 0; l < job->layers; l++) {
        struct layer *own = team->layers + l;
        own->in = job->widths[l], own->out = job->widths[l + 1], own->bias = job->biases[l];
        own->rows = own->in + own->bias, own->blocks = (own->out + WIDTH - 1) / WIDTH;
        own->weights = team->total, own->transposed = transposed, own->row = row_for(own->blocks * WIDTH);
        team->total += own->blocks * own->rows * WIDTH;
        transposed += l ? team->layers[l - 1].blocks * own->out * WIDTH : 0;
        own->h = own->dz = team->size + LANES;
        team->size += team->images * own->row;
        if (l < job->layers - 1) own->dz += team->images * own->row, team->size += team->images * own->row;
    }
    return transposed;
}

long width(void) { return WIDTH; }

/* Train and return 0; or return -1, with nothing changed, if there is no memory or no thread. */
int train(const struct job *job) {
    long batches = (job->count + job->batch - 1) / job->batch, threads = job->threads, there = 1;
    struct team team = {.job = job, .layers = calloc(job->layers, sizeof *team.layers)};
    long transposed = team.layers ? lay_out(&team) : 0;
    long values = (job->group ? threads : 1) * team.size, all = values + transposed + (job->group ? threads * team.total : 0);
    double *sums = team.sums = calloc(threads * batches, sizeof *sums);
    struct member *members = calloc(threads, sizeof *members);
    pthread_t *others = calloc(threads, sizeof *others);
    real *memory = team.rooms = aligned_alloc(BYTES, all * sizeof(real)); /* a multiple of BYTES: rows and blocks are */
    int failed = !(team.layers && sums && members && others && memory);
    if (!failed) {
        team.transposed = memory + values, team.updates = team.transposed + transposed;
        memset(team.transposed, 0, transposed * sizeof(real));
        for (long i = 0; i < values; i++) memory[i] = 1; /* those before an image's values stay so */
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
    free(team.layers), free(sums), free(members), free(others), free(memory);
    return failed ? -1 : 0;
}
