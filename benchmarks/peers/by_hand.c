/*
 * A step in plain C for one shape: ROWS x DIM features and CLASSES centers, with the
 * rate ALPHA. by_hand.py compiles it for the workload and this processor.
 */

#include <stdint.h>

static int counts[CLASSES];

double
step(const float *features, const int64_t *labels, float *centers, float *gradient)
{
    double total = 0.0;
    for (int i = 0; i < ROWS; i++) {
        const float *x = features + (int64_t)i * DIM;
        const float *c = centers + labels[i] * DIM;
        float *g = gradient + (int64_t)i * DIM;
        float squares = 0.0F;
        counts[labels[i]]++;
        for (int j = 0; j < DIM; j++) {
            float diff = x[j] - c[j];
            squares += diff * diff;
            g[j] = diff * (1.0F / ROWS);
        }
        total += squares;
    }
    /* The gradient holds the differences from the centers before the update. */
    for (int i = 0; i < ROWS; i++) {
        const float *g = gradient + (int64_t)i * DIM;
        float *c = centers + labels[i] * DIM;
        float rate = ALPHA * ROWS / (float)(1 + counts[labels[i]]);
        for (int j = 0; j < DIM; j++) {
            c[j] += rate * g[j];
        }
    }
    for (int i = 0; i < ROWS; i++) {
        counts[labels[i]] = 0;
    }
    return total / (2.0 * ROWS);
}
