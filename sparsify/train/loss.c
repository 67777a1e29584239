/* loss.c: softmax cross entropy with label smoothing: target = (1 - s) * onehot + s / k. */
#include <math.h>
#include "sparsify/train/train_impl.h"

double wn_cross_entropy(const float *scores, const uint32_t *label, size_t rows, size_t k, float smoothing, float *d,
                        size_t *ret_right)
{
    double loss = 0;
    size_t right = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *z = scores + r * k;
        size_t best = 0;
        for (size_t c = 1; c < k; c++)
            best = z[c] > z[best] ? c : best;
        double sum = 0, mean = 0;
        for (size_t c = 0; c < k; c++) {
            sum += exp((double)(z[c] - z[best]));
            mean += (double)z[c];
        }
        double log_sum = (double)z[best] + log(sum);
        right += best == label[r];
        /* sum over c of target_c * (log_sum - z_c) */
        loss += log_sum - (1.0 - (double)smoothing) * (double)z[label[r]] - (double)smoothing * mean / (double)k;
        for (size_t c = 0; d && c < k; c++) {
            double target = (c == label[r] ? 1.0 - (double)smoothing : 0.0) + (double)smoothing / (double)k;
            d[r * k + c] = (float)((exp((double)z[c] - log_sum) - target) / (double)rows);
        }
    }
    *ret_right = right;
    return rows ? loss / (double)rows : 0;
}
