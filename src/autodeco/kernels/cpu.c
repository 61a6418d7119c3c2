// The distribution's mathematics on rows of logits, for CPUs: what autodeco/distribution.py and
// autodeco/objectives/soft_nucleus.py compute with PyTorch, in a few passes over each row while it is in the cache.
//
// Built at first use by cpu.py, which holds the signatures. One OpenMP thread takes a row. Written for the compiler's
// own vectoriser: loops over blocks of 64, explicit `omp simd` reductions, so that no -ffast-math (which would change
// the whole process) is needed. Sums over a block are float32, sums of blocks float64.
//
// NaN: a comparison with NaN is false, so sums of a row that holds one are NaN, and its nucleus is left uncut.

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, SPAN = 512, BINS = 256 };

// Σ exp(x), Σ x exp(x), Σ exp(x)^2 and the largest scaled logit; x is the scaled logit minus the largest.
typedef struct { double normaliser, weighted, squares, largest; } row_sums;

// ---------------------------------------------------------------------------------------------- elementary functions

// exp(x) for x <= 0, relative error below 2e-7. Below -87 it is taken at -87 (1e-38): no denormal numbers.
static inline float exp_nonpositive(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float rounded = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    float r = x - rounded * 0.693359375f;
    r = r + rounded * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    union { int32_t bits; float value; } power = {.bits = ((int32_t)rounded + 127) << 23};
    return y * power.value;
}

// exp(x) for x <= 0, relative error below 1e-4; below -60 it is taken at -60.
static inline float exp_coarse(float x) {
    x = x < -60.0f ? -60.0f : x;
    const float rounded = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const float r = x - rounded * 0.693147181f;
    const float y = 0.999924463f + r * (0.999962271f + r * (0.505024172f + r * (0.167921735f)));
    union { int32_t bits; float value; } power = {.bits = ((int32_t)rounded + 127) << 23};
    return y * power.value;
}

// log(1 + u) for u >= 0, relative error below 1e-4 (below 0.01 for u < 1e-5).
static inline float log1p_coarse(float u) {
    union { float value; int32_t bits; } one_more = {.value = 1.0f + u};
    const int32_t shifted = one_more.bits - 0x3f3504f3;  // the bits of sqrt(1/2)
    const float exponent = (float)(shifted >> 23);
    one_more.bits = (shifted & 0x007fffff) + 0x3f3504f3;
    const float m = one_more.value - 1.0f;
    // log(1 + m) / m on [sqrt(1/2) - 1, sqrt(2) - 1]
    const float y = 1.000004686f + m * (-0.499903599f + m * (0.332567608f + m * (-0.253978637f + m * (0.220705394f + m * (-0.143384745f)))));
    return m * y + 0.693147181f * exponent;
}

// A buffer of this thread's own, kept for the next row. NULL if memory is out.
static void *scratch(size_t bytes) {
    static _Thread_local void *buffer;
    static _Thread_local size_t size;
    if (bytes > size) {
        free(buffer);
        buffer = malloc(bytes);
        size = buffer ? bytes : 0;
    }
    return buffer;
}

static inline int64_t block_length(int64_t vocab, int64_t start) {
    return vocab - start < BLOCK ? vocab - start : BLOCK;
}

static inline int64_t span_length(int64_t vocab, int64_t start) {
    return vocab - start < SPAN ? vocab - start : SPAN;
}

// -------------------------------------------------------------------------------------------------- scale and sums

static void widen_bfloat16(const uint16_t *restrict from, float *restrict to, int64_t count) {
    uint32_t *restrict bits = (uint32_t *)to;
    for (int64_t j = 0; j < count; ++j) bits[j] = (uint32_t)from[j] << 16;
}

static float block_maxima(const float *restrict row, int64_t vocab, float *restrict maxima) {
    float largest = -INFINITY;
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        const int64_t length = block_length(vocab, start);
        float m = -INFINITY;
#pragma omp simd reduction(max : m)
        for (int64_t j = 0; j < length; ++j) m = row[start + j] > m ? row[start + j] : m;
        maxima[b] = m;
        largest = m > largest ? m : largest;
    }
    return largest;
}

static int64_t first_position(const float *row, int64_t vocab, const float *maxima, float largest) {
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        if (maxima[b] != largest) continue;
        for (int64_t j = start; j < vocab; ++j)
            if (row[j] == largest) return j;
    }
    return 0;
}

static double sum_of_exp(const float *restrict row, int64_t vocab, float largest) {
    double total = 0;
    for (int64_t start = 0; start < vocab; start += SPAN) {
        const int64_t length = span_length(vocab, start);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < length; ++j) sum += exp_nonpositive(row[start + j] - largest);
        total += sum;
    }
    return total;
}

// Writes (row - shift) / temperature to `scaled` (which may be `row`) and sums over it.
static row_sums scale_row(const float *row, float *scaled, int64_t vocab, float temperature, float shift,
                          float largest) {
    row_sums sums = {0, 0, 0, (largest - shift) / temperature};
    const float top = (float)sums.largest;
    for (int64_t start = 0; start < vocab; start += SPAN) {
        const int64_t length = span_length(vocab, start);
        float sum = 0, weighted = 0, squares = 0;
#pragma omp simd reduction(+ : sum, weighted, squares)
        for (int64_t j = 0; j < length; ++j) {
            const float s = (row[start + j] - shift) / temperature;
            scaled[start + j] = s;
            float x = s - top;
            x = x < -87.0f ? -87.0f : x;
            const float e = exp_nonpositive(x);
            sum += e;
            weighted += e * x;
            squares += e * e;
        }
        sums.normaliser += sum;
        sums.weighted += weighted;
        sums.squares += squares;
    }
    return sums;
}

// -Σ p log(p + 1e-8), as Shannon's entropy less Σ p log(1 + 1e-8 / p). The second sum is below V * 1e-8, so that a
// coarse exponential and logarithm (0.01 %) are exact enough for it.
static double entropy(const float *restrict scaled, int64_t vocab, row_sums sums) {
    const float top = (float)sums.largest, epsilon = 1e-8f, share = (float)(1.0 / sums.normaliser);
    double correction = 0;
    for (int64_t start = 0; start < vocab; start += SPAN) {
        const int64_t length = span_length(vocab, start);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < length; ++j) {
            const float p = exp_coarse(scaled[start + j] - top) * share;
            sum += p * log1p_coarse(epsilon / p);
        }
        correction += sum;
    }
    return log(sums.normaliser) - sums.weighted / sums.normaliser - correction;
}

// Σ of the five largest probabilities. They lie in the five blocks with the largest maxima.
static double five_largest(const float *scaled, int64_t vocab, const float *maxima, row_sums sums) {
    const int64_t blocks = (vocab + BLOCK - 1) / BLOCK;
    int64_t chosen[5];
    int count = 0;
    for (int64_t b = 0; b < blocks; ++b) {
        if (count == 5 && !(maxima[b] > maxima[chosen[4]])) continue;
        int at = count < 5 ? count++ : 4;
        for (; at > 0 && maxima[b] > maxima[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
        chosen[at] = b;
    }
    float largest[5] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    for (int c = 0; c < count; ++c) {
        const int64_t start = chosen[c] * BLOCK, length = block_length(vocab, start);
        for (int64_t j = start; j < start + length; ++j) {
            if (!(scaled[j] > largest[4])) continue;
            int at = 4;
            for (; at > 0 && scaled[j] > largest[at - 1]; --at) largest[at] = largest[at - 1];
            largest[at] = scaled[j];
        }
    }
    double total = 0;
    for (int i = 0; i < 5 && i < vocab; ++i) total += exp_nonpositive(largest[i] - (float)sums.largest);
    return total / sums.normaliser;
}

// The four statistics of a scaled row.
static void row_statistics(const float *scaled, int64_t vocab, const float *maxima, row_sums sums, float *statistics) {
    const double square_sum = sums.squares / (sums.normaliser * sums.normaliser);
    statistics[0] = (float)(1.0 / sums.normaliser);
    statistics[1] = (float)entropy(scaled, vocab, sums);
    statistics[2] = vocab > 1 ? (float)((square_sum - 1.0 / vocab) / (vocab - 1)) : 0.0f;
    statistics[3] = (float)five_largest(scaled, vocab, maxima, sums);
}

// A row of logits as float32: where it lies, or, of bfloat16, widened into `scaled`.
static const float *float_row(const void *logits, int bfloat16, int64_t offset, float *scaled, int64_t vocab) {
    if (!bfloat16) return (const float *)logits + offset;
    widen_bfloat16((const uint16_t *)logits + offset, scaled, vocab);
    return scaled;
}

// Divides `rows` rows of logits, with `shifted` less each row's largest, by their temperatures and sums over them.
// `base_largest` and `base_normaliser` are of the unscaled row; `statistics`, `base_normaliser` and `argmax` are skipped
// where NULL. `scaled` may be `logits` itself where these are float32.
void autodeco_scale(const void *logits, int bfloat16, int shifted, int64_t rows, int64_t vocab, int64_t stride,
                    const float *temperature, float *scaled, float *maxima, row_sums *sums, float *base_largest,
                    float *statistics, double *base_normaliser, int64_t *argmax) {
    const int64_t blocks = (vocab + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) if (rows > 1)
    for (int64_t i = 0; i < rows; ++i) {
        float *own_scaled = scaled + i * vocab, *own_maxima = maxima + i * blocks;
        const float *row = float_row(logits, bfloat16, i * stride, own_scaled, vocab);
        const float largest = block_maxima(row, vocab, own_maxima);
        const float shift = shifted ? largest : 0;
        base_largest[i] = largest;
        if (base_normaliser) base_normaliser[i] = sum_of_exp(row, vocab, largest);
        if (argmax) argmax[i] = first_position(row, vocab, own_maxima, largest);
        sums[i] = scale_row(row, own_scaled, vocab, temperature[i], shift, largest);
        for (int64_t b = 0; b < blocks; ++b) own_maxima[b] = (own_maxima[b] - shift) / temperature[i];
        if (statistics) row_statistics(own_scaled, vocab, own_maxima, sums[i], statistics + 4 * i);
    }
}

// ---------------------------------------------------------------------------------------------------- hard nucleus

typedef struct { float scaled; int32_t token; } candidate;

static int more_likely_first(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->scaled != b->scaled) return a->scaled > b->scaled ? -1 : 1;
    return a->token < b->token ? -1 : 1;
}

// Tokens within `depth` of the largest logit, in vocabulary order; `weights` gets their exp(x). Returns their number.
static int64_t candidates_within(const float *scaled, int64_t vocab, const float *maxima, float top, float depth,
                                 candidate *found, float *weights) {
    int64_t count = 0;
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        if (!(maxima[b] - top >= -depth)) continue;
        const int64_t length = block_length(vocab, start);
        for (int64_t j = start; j < start + length; ++j) {
            found[count] = (candidate){scaled[j], (int32_t)j};
            count += scaled[j] - top >= -depth;
        }
    }
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) weights[k] = exp_nonpositive(found[k].scaled - top);
    return count;
}

// The last token of the nucleus, in descending order; its token is -1 where the whole vocabulary is inside.
static candidate last_of_nucleus(const float *scaled, int64_t vocab, const float *maxima, row_sums sums, double top_p,
                                 candidate *found, float *weights) {
    static const float depths[] = {6.0f, 12.0f, 24.0f, INFINITY};
    const candidate none = {0, -1};
    const float top = (float)sums.largest;
    const double wanted = top_p * sums.normaliser;
    double masses[BINS], mass = 0;
    float bins_per_unit = 0;
    int64_t count = 0;
    int found_all = 0;
    for (int d = 0; d < 4; ++d) {
        count = candidates_within(scaled, vocab, maxima, top, depths[d], found, weights);
        bins_per_unit = BINS / (isinf(depths[d]) ? 87.0f : depths[d]);
        memset(masses, 0, sizeof masses);
        for (int64_t k = 0; k < count; ++k) {
            const float bin = (top - found[k].scaled) * bins_per_unit;
            masses[bin < BINS - 1 ? (int)bin : BINS - 1] += weights[k];
        }
        mass = 0;
        for (int b = 0; b < BINS; ++b) mass += masses[b];
        found_all = isinf(depths[d]);
        if (mass >= wanted) break;
    }
    if (count == 0 || (found_all && !(mass >= wanted))) return none;
    int crossing = 0;
    double before = 0;
    while (crossing < BINS - 1 && before + masses[crossing] < wanted) before += masses[crossing++];
    int64_t inside = 0;  // candidates of the bin in which the sum crosses top_p, moved to the front
    for (int64_t k = 0; k < count; ++k) {
        const float bin = (top - found[k].scaled) * bins_per_unit;
        if ((bin < BINS - 1 ? (int)bin : BINS - 1) == crossing) found[inside++] = found[k];
    }
    if (inside == 0) return none;
    qsort(found, inside, sizeof *found, more_likely_first);
    int64_t last = 0;
    for (before += exp_nonpositive(found[0].scaled - top); last + 1 < inside && before < wanted;)
        before += exp_nonpositive(found[++last].scaled - top);
    return found[last];
}

// Subtracts `penalty` from every scaled logit of a row outside its nucleus. Returns 0, or 1 if memory is out.
static int cut_row(float *row, int64_t vocab, const float *maxima, row_sums sums, float top_p, float penalty) {
    if (!(top_p < 1.0f)) return 0;
    candidate *found = scratch(vocab * (sizeof *found + sizeof(float)));
    if (!found) return 1;
    const candidate last = last_of_nucleus(row, vocab, maxima, sums, top_p, found, (float *)(found + vocab));
    if (last.token < 0) return 0;
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        const int64_t length = block_length(vocab, start);
        if (maxima[b] < last.scaled) {
            for (int64_t j = start; j < start + length; ++j) row[j] -= penalty;
        } else {
            for (int64_t j = start; j < start + length; ++j) {
                const int outside = row[j] < last.scaled || (row[j] == last.scaled && j > last.token);
                row[j] -= outside ? penalty : 0.0f;
            }
        }
    }
    return 0;
}

// Cuts the nucleus of each row. Returns 0, or 1 if memory is out.
int autodeco_cut(float *scaled, int64_t rows, int64_t vocab, const float *maxima, const row_sums *sums,
                 const float *top_p, float penalty) {
    const int64_t blocks = (vocab + BLOCK - 1) / BLOCK;
    int failed = 0;
#pragma omp parallel for schedule(dynamic) reduction(| : failed) if (rows > 1)
    for (int64_t i = 0; i < rows; ++i)
        failed |= cut_row(scaled + i * vocab, vocab, maxima + i * blocks, sums[i], top_p[i], penalty);
    return failed;
}

// ------------------------------------------------------------------------------------------------ heads and nucleus

// What follows the first layers of both heads. `extra` holds the first layer's columns for T and, where `statistics`,
// the four statistics, one row of `width` each.
typedef struct {
    int64_t width;
    const float *temperature_weights, *top_p_weights, *extra;
    float temperature_bias, top_p_bias, max_temperature, min_temperature, penalty;
    int32_t statistics;
} head_layers;

static float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

// The second layer: bias + Σ w relu(h).
static float second_layer(const float *restrict hidden, const float *restrict weights, float bias, int64_t width) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < width; ++j) total += weights[j] * (hidden[j] < 0 ? 0 : hidden[j]);
    return total + bias;
}

// Everything that is done with a row at decode time, while it is in the cache: T, scale, statistics, P, cut. `first` is
// [rows, 2 * width], the first layers of T's head and of P's (this one without `extra`), overwritten. Returns 0, or 1
// if memory is out.
int autodeco_shape(const void *logits, int bfloat16, int64_t rows, int64_t vocab, int64_t stride, float *first,
                   const head_layers *heads, float *maxima, float *scaled, float *temperature, float *top_p) {
    const int64_t blocks = (vocab + BLOCK - 1) / BLOCK, width = heads->width;
    int failed = 0;
#pragma omp parallel for schedule(dynamic) reduction(| : failed) if (rows > 1)
    for (int64_t i = 0; i < rows; ++i) {
        float *own_scaled = scaled + i * vocab, *own_maxima = maxima + i * blocks, *own_first = first + 2 * i * width;
        const float *row = float_row(logits, bfloat16, i * stride, own_scaled, vocab);
        const float largest = block_maxima(row, vocab, own_maxima);
        const float t = heads->max_temperature *
                        sigmoid(second_layer(own_first, heads->temperature_weights, heads->temperature_bias, width));
        const float divisor = t < heads->min_temperature ? heads->min_temperature : t;
        const row_sums sums = scale_row(row, own_scaled, vocab, divisor, 0, largest);
        for (int64_t b = 0; b < blocks; ++b) own_maxima[b] = own_maxima[b] / divisor;
        float inputs[5] = {t};
        if (heads->statistics) row_statistics(own_scaled, vocab, own_maxima, sums, inputs + 1);
        for (int k = 0; k < (heads->statistics ? 5 : 1); ++k)
            for (int64_t j = 0; j < width; ++j) own_first[width + j] += inputs[k] * heads->extra[k * width + j];
        temperature[i] = t;
        top_p[i] = sigmoid(second_layer(own_first + width, heads->top_p_weights, heads->top_p_bias, width));
        failed |= cut_row(own_scaled, vocab, own_maxima, sums, top_p[i], heads->penalty);
    }
    return failed;
}

// ---------------------------------------------------------------------------------------------------- soft nucleus

// Sorts distances from 0 to `depth` in ascending order, `spare` being as long. Two passes over 22-bit fixed-point keys:
// distances closer than depth / 2^22 may stay in either order, which changes sums over them by less than rounding does.
static void sort_distances(float *restrict distances, float *restrict spare, int64_t count, float depth) {
    enum { DIGIT = 11, SIZE = 1 << DIGIT };
    const float keys_per_unit = (float)(SIZE * SIZE - 1) / depth;
    uint32_t low[SIZE] = {0}, high[SIZE] = {0};
    for (int64_t k = 0; k < count; ++k) {
        const uint32_t key = (uint32_t)(int32_t)(distances[k] * keys_per_unit);
        ++low[key & (SIZE - 1)];
        ++high[key >> DIGIT];
    }
    uint32_t low_before = 0, high_before = 0;
    for (int v = 0; v < SIZE; ++v) {
        const uint32_t own_low = low[v], own_high = high[v];
        low[v] = low_before;
        high[v] = high_before;
        low_before += own_low;
        high_before += own_high;
    }
    for (int64_t k = 0; k < count; ++k) {
        const uint32_t key = (uint32_t)(int32_t)(distances[k] * keys_per_unit);
        spare[low[key & (SIZE - 1)]++] = distances[k];
    }
    for (int64_t k = 0; k < count; ++k) {
        const uint32_t key = (uint32_t)(int32_t)(spare[k] * keys_per_unit);
        distances[high[key >> DIGIT]++] = spare[k];
    }
}

// Mass of all tokens up to the target (exclusive: without it) in descending order (ties: lower id first), and its
// derivative by temperature.
static void cumulative_at_target(const float *scaled, int64_t vocab, const float *maxima, row_sums sums, double mean,
                                 double temperature, int64_t target, int exclusive, double *cumulative,
                                 double *by_temperature) {
    const float top = (float)sums.largest, own = scaled[target];
    const int64_t last = exclusive ? target - 1 : target;
    double mass = 0, weighted = 0;
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        if (!(maxima[b] >= own)) continue;
        const int64_t length = block_length(vocab, start);
        float sum = 0, weighted_sum = 0;
#pragma omp simd reduction(+ : sum, weighted_sum)
        for (int64_t j = 0; j < length; ++j) {
            const float s = scaled[start + j];
            float x = s - top;
            x = x < -87.0f ? -87.0f : x;
            const float e = (s > own) | ((s == own) & (start + j <= last)) ? exp_nonpositive(x) : 0.0f;
            sum += e;
            weighted_sum += e * x;
        }
        mass += sum;
        weighted += weighted_sum;
    }
    *cumulative = mass / sums.normaliser;
    *by_temperature = -(weighted - mean * mass) / sums.normaliser / temperature;
}

typedef struct { double value, by_temperature, by_top_p; } normaliser_terms;

// Z = Σ p f(c) with its derivatives: exact for the tokens at least as likely as `smallest`, beyond them the integral of
// f, which differs from the sum by less than `smallest` (soft_nucleus.py proves it).
static normaliser_terms soft_normaliser(const float *scaled, int64_t vocab, const float *maxima, row_sums sums,
                                        double mean, double temperature, double top_p, double decay, double smallest,
                                        int exclusive, float *memory) {
    const float top = (float)sums.largest, share = (float)(1.0 / sums.normaliser);
    const float depth = (float)-log(smallest * sums.normaliser);
    float *distances = memory, *excesses = memory + vocab, *slopes = memory + 2 * vocab;
    int64_t count = 0;
    for (int64_t start = 0, b = 0; start < vocab; start += BLOCK, ++b) {
        if (!(top - maxima[b] <= depth)) continue;
        const int64_t length = block_length(vocab, start);
        for (int64_t j = start; j < start + length; ++j) {
            const float distance = top - scaled[j];
            distances[count] = distance;
            count += distance <= depth;
        }
    }
    sort_distances(distances, excesses, count, depth);
    double cumulative = 0, slope = 0;
    float *weights = memory + 3 * vocab;
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) weights[k] = exp_nonpositive(-distances[k]) * share;
    for (int64_t k = 0; k < count; ++k) {
        const double p = weights[k], mass_before = cumulative, slope_before = slope;
        cumulative += p;
        slope += p * (distances[k] + mean);
        excesses[k] = (float)((exclusive ? mass_before : cumulative) - top_p);
        slopes[k] = (float)(exclusive ? slope_before : slope);
    }
    const float alpha = (float)decay, centre = (float)mean;
    double value = 0, own_slope = 0, outside_slope = 0, outside_mass = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int64_t length = block_length(count, start);
        float value_sum = 0, slope_sum = 0, outside_slope_sum = 0, outside_sum = 0;
#pragma omp simd reduction(+ : value_sum, slope_sum, outside_slope_sum, outside_sum)
        for (int64_t j = 0; j < length; ++j) {
            const int64_t k = start + j;
            const float excess = excesses[k] > 0 ? excesses[k] : 0;
            const float weighted = weights[k] * exp_nonpositive(-alpha * excess);
            const float outside = excesses[k] > 0 ? weighted : 0;
            value_sum += weighted;
            slope_sum += weighted * (distances[k] + centre);
            outside_slope_sum += outside * slopes[k];
            outside_sum += outside;
        }
        value += value_sum;
        own_slope += slope_sum;
        outside_slope += outside_slope_sum;
        outside_mass += outside_sum;
    }
    normaliser_terms terms = {value, (own_slope - decay * outside_slope) / temperature, decay * outside_mass};
    if (count == vocab) return terms;
    const double edge = cumulative < 1 ? cumulative : 1, start = edge > top_p ? edge : top_p;
    const double at_edge = exp(-decay * (edge > top_p ? edge - top_p : 0));
    const double at_end = exp(-decay * (top_p < 1 ? 1 - top_p : 0));
    const double falling = exp(-decay * (start - top_p)) - at_end;
    terms.value += (start < 1 ? start : 1) - edge + (falling > 0 ? falling / decay : 0);
    terms.by_temperature -= at_edge * slope / temperature;
    terms.by_top_p += falling > 0 ? falling : 0;
    return terms;
}

// log p~ of the targets with its derivatives by temperature and by top-p: three numbers a row. Rows whose `wanted` is 0
// are left out (their three numbers are 0). With `exclusive`, cumulative sums end before the token. Returns 0, or 1 if
// memory is out.
int autodeco_soft_nucleus(const float *scaled, int64_t rows, int64_t vocab, const float *maxima, const row_sums *sums,
                          const float *temperature, const int64_t *targets, const double *top_p, const uint8_t *wanted,
                          double decay, double epsilon, double smallest, int exclusive, double *terms) {
    const int64_t blocks = (vocab + BLOCK - 1) / BLOCK;
    int failed = 0;
#pragma omp parallel for schedule(dynamic, 4) reduction(| : failed) if (rows > 1)
    for (int64_t i = 0; i < rows; ++i) {
        double *out = terms + 3 * i;
        out[0] = out[1] = out[2] = 0;
        if (!wanted[i]) continue;
        float *memory = scratch(4 * vocab * sizeof *memory);
        if (!memory) {
            failed = 1;
            continue;
        }
        const float *row = scaled + i * vocab, *own_maxima = maxima + i * blocks;
        const double mean = sums[i].weighted / sums[i].normaliser, t = temperature[i];
        const normaliser_terms z =
            soft_normaliser(row, vocab, own_maxima, sums[i], mean, t, top_p[i], decay, smallest, exclusive, memory);
        double cumulative, cumulative_slope;
        cumulative_at_target(row, vocab, own_maxima, sums[i], mean, t, targets[i], exclusive, &cumulative,
                             &cumulative_slope);
        const double x = row[targets[i]] - sums[i].largest, total = z.value + epsilon;
        const double outside = cumulative > top_p[i] ? decay : 0;
        out[0] = x - log(sums[i].normaliser) - outside * (cumulative - top_p[i]) - log(total);
        out[1] = -(x - mean) / t - outside * cumulative_slope - z.by_temperature / total;
        out[2] = outside - z.by_top_p / total;
    }
    return failed;
}
